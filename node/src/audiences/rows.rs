//! What an audience holds besides people: their touches or their conversions, frozen and committed to with them.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tally_contracts::domains::AUDIENCE_ROWS;
use tally_measure::attribution::RowReport;
use tally_merkle::Hash;
use zeroize::Zeroizing;

use super::meta::hash_text;

/// What an audience holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// People alone.
    People,
    /// People and how they met campaigns: the label side of a `join_sum`.
    Touches,
    /// People and what they bought: its value side.
    Conversions,
}

impl Holds {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Touches => "touches",
            Self::Conversions => "conversions",
        }
    }

    /// By its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::People, Self::Touches, Self::Conversions]
            .into_iter()
            .find(|h| h.name() == word)
    }
}

/// Rows that are stored with an audience.
pub struct RowsInput {
    /// Touches or conversions.
    pub holds: Holds,
    /// What became of the imported rows.
    pub report: RowReport,
    /// The rows, as `tally-measure` writes them.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// What is known of an audience's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsMeta {
    /// Touches or conversions.
    pub holds: Holds,
    /// What became of the imported rows.
    pub report: RowReport,
    /// SHA-256 over a salt of 32 bytes and the rows.
    #[serde(with = "hash_text")]
    pub digest: Hash,
    /// How many files hold salt and rows.
    pub(super) chunks: u32,
}

impl RowsMeta {
    /// What the commitment opens to: SHA-256(`tally/audience-rows/v1` LF || root over the people || digest).
    pub(super) fn root(&self, people: &Hash) -> Hash {
        Hash(
            Sha256::new()
                .chain_update(AUDIENCE_ROWS)
                .chain_update(people.as_bytes())
                .chain_update(self.digest.as_bytes())
                .finalize()
                .into(),
        )
    }
}

/// The digest of salt and rows.
pub(super) fn digest(salted: &[u8]) -> Hash {
    Hash(Sha256::digest(salted).into())
}
