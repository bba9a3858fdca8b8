//! What is known of a stored audience besides its people.

use serde::{Deserialize, Serialize};
use tally_contracts::ids::{AudienceLabel, RecordId};
use tally_contracts::records::{AudienceRef, CommitAudience, Profile, size_bucket};
use tally_measure::{ImportReport, SetOpening};
use tally_merkle::Hash;

use super::AudienceError;
use super::rows::{Holds, RowsMeta};

/// The longest name of an audience, in bytes.
pub const MAX_AUDIENCE_NAME: usize = 64;

/// Accepts a name of an audience.
///
/// # Errors
/// [`AudienceError::Name`].
pub fn check_audience_name(name: &str) -> Result<(), AudienceError> {
    if name.is_empty() || name.len() > MAX_AUDIENCE_NAME || name.chars().any(char::is_control) {
        return Err(AudienceError::Name {
            max: MAX_AUDIENCE_NAME,
            found: name.len(),
        });
    }
    Ok(())
}

/// Names one set: an audience in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AudienceKey {
    /// The audience.
    #[serde(with = "text")]
    pub label: AudienceLabel,
    /// The epoch, by ledger time.
    pub epoch: u64,
}

/// What is known of a stored audience. For its owner alone; the peer of a match sees [`Self::opening`], the ledger
/// [`Self::reference`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceMeta {
    /// Its name at its owner.
    pub name: String,
    /// Which set.
    pub key: AudienceKey,
    /// The form of its IDs.
    #[serde(with = "text")]
    pub profile: Profile,
    /// How many people. The peer of a match is told [`Self::public_size`].
    pub size: u64,
    /// The size that it is padded to for others; `None` in sets of earlier builds, which are committed to with their own.
    #[serde(default)]
    pub padded_size: Option<u64>,
    /// Its touches or conversions, if it has any.
    #[serde(default)]
    pub rows: Option<RowsMeta>,
    /// Root of the tree over the people.
    #[serde(with = "hash_text")]
    pub root: Hash,
    /// Salt of the commitment.
    #[serde(with = "hash_text")]
    pub opening_salt: Hash,
    /// What became of the imported rows.
    pub report: ImportReport,
    /// The record that committed it, once there is one.
    #[serde(with = "option_text")]
    pub record: Option<RecordId>,
    /// How many files hold the people.
    pub(super) chunks: u32,
}

impl AudienceMeta {
    /// What opens the commitment, for the peer of a match.
    #[must_use]
    pub fn opening(&self) -> SetOpening {
        SetOpening {
            root: match &self.rows {
                Some(rows) => rows.root(&self.root),
                None => self.root,
            },
            size: self.public_size(),
            salt: self.opening_salt.0,
        }
    }

    /// The size that others are told, a public one: see [`tally_psi::public_size`].
    #[must_use]
    pub fn public_size(&self) -> u64 {
        self.padded_size.unwrap_or(self.size)
    }

    /// What it holds.
    #[must_use]
    pub fn holds(&self) -> Holds {
        self.rows.as_ref().map_or(Holds::People, |r| r.holds)
    }

    /// The commitment: all that others see.
    #[must_use]
    pub fn commitment(&self) -> Hash {
        self.opening().commitment()
    }

    /// How matches name it.
    #[must_use]
    pub fn reference(&self) -> AudienceRef {
        AudienceRef {
            label: self.key.label,
            epoch: self.key.epoch,
            root: self.commitment(),
            size_bucket: size_bucket(self.public_size()),
        }
    }

    /// The record body that commits it.
    #[must_use]
    pub fn commit(&self) -> CommitAudience {
        CommitAudience {
            label: self.key.label,
            epoch: self.key.epoch,
            root: self.commitment(),
            size_bucket: size_bucket(self.public_size()),
            profile: self.profile,
        }
    }
}

/// Types with one text form, as that text.
pub(crate) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(d: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// A hash as hex.
pub(crate) mod hash_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use tally_merkle::Hash;

    pub(crate) fn serialize<S: Serializer>(hash: &Hash, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(hash)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Hash, D::Error> {
        let mut out = [0; 32];
        hex::decode_to_slice(String::deserialize(d)?, &mut out).map_err(D::Error::custom)?;
        Ok(Hash(out))
    }
}

/// An optional record ID as text.
mod option_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use tally_contracts::ids::RecordId;

    // The signature is serde's.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(id: &Option<RecordId>, s: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.to_string()).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<RecordId>, D::Error> {
        Option::<String>::deserialize(d)?
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
