//! What is kept of every match of two.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tally_contracts::ids::{AgreementId, AudienceLabel, MemberId, RecordId, SessionId};
use tally_contracts::records::Computation;
use tally_merkle::Hash;

use super::answer::Answer;
use super::error::MatchError;
use super::files::{Filed, Files};
use super::noise::NoiseView;
use crate::audiences::{AudienceKey, hash_text, text};
use crate::sealed::{read_sealed, write_sealed};

/// Names a match at both of its nodes, from the request on: the first 16 bytes of the hash of the initiator's nonce. As text,
/// 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatchId(pub [u8; 16]);

impl MatchId {
    pub(super) fn of(initiator_nonce: &[u8; 32]) -> Self {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"tally/match-id/v1\n")
            .chain_update(initiator_nonce)
            .finalize()
            .into();
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(hash) {
            *to = from;
        }
        Self(id)
    }
}

impl fmt::Display for MatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for MatchId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id)?;
        Ok(Self(id))
    }
}

/// Which side of a match this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It asked.
    Initiator,
    /// It answers.
    Responder,
}

/// Where a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The request is out.
    Requested,
    /// Both agree to it.
    Accepted,
    /// This node has signed OpenMatch; budget may be reserved.
    Opening,
    /// OpenMatch is committed: budget is reserved, and the protocol runs.
    Open,
    /// This node, the responder, has signed ReleaseMatch; budget may be spent.
    Releasing,
    /// ReleaseMatch is committed: budget is spent.
    Released,
    /// The answer is there; the receipt is not signed yet.
    Answered,
    /// The receipt is in the ledger.
    Done,
    /// A side refused.
    Refused,
    /// It broke.
    Failed,
    /// The operator of this node called it off.
    Cancelled,
}

impl Stage {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Done | Self::Refused | Self::Failed | Self::Cancelled
        )
    }
}

/// What is known of a match; serialises as one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatchView {
    /// Its ID, the same at both nodes.
    #[serde(with = "text")]
    pub id: MatchId,
    /// Which side this node is.
    pub role: Role,
    /// The other member.
    #[serde(with = "text")]
    pub peer: MemberId,
    /// The agreement.
    #[serde(with = "text")]
    pub agreement: AgreementId,
    /// What is computed.
    #[serde(with = "computation_text")]
    pub computation: Computation,
    /// Name of the own audience.
    pub audience: String,
    /// The own set.
    pub own: AudienceKey,
    /// People in it.
    pub own_size: u64,
    /// Rows of its import that were not used, and repeated ones.
    pub own_rows_dropped: u64,
    /// The same for repeated ones.
    pub own_rows_repeated: u64,
    /// The other side's set, once it has been named.
    pub theirs: Option<AudienceKey>,
    /// Size bucket of the other side's set: at most 2^this people.
    pub their_bucket: Option<u8>,
    /// The session on the ledger, once both nonces are there.
    #[serde(with = "option_text")]
    pub session: Option<SessionId>,
    /// Where it is.
    pub stage: Stage,
    /// Why it ended without an answer, or has no receipt.
    pub reason: Option<String>,
    /// What the noise does to the answer.
    pub noise: Option<NoiseView>,
    /// The answer.
    pub answer: Option<Answer>,
    /// What is left of the own budget for this peer, in micro-rho, when the answer came.
    pub budget_left_micro_rho: Option<u64>,
    /// The OpenMatch record.
    #[serde(with = "option_text")]
    pub open_record: Option<RecordId>,
    /// The ReleaseMatch record, at the responder.
    #[serde(with = "option_text")]
    pub release_record: Option<RecordId>,
    /// The CloseMatch record with the receipt.
    #[serde(with = "option_text")]
    pub close_record: Option<RecordId>,
    /// When it was asked for, ledger time in POSIX milliseconds.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

/// A match's file: what is shown, and what is not.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct MatchFile {
    pub(super) view: MatchView,
    /// Of the request.
    #[serde(with = "hash_text")]
    pub(super) nonce: Hash,
    /// Until when the OpenMatch that this node signed can be committed; `None` once the ledger cannot hold anything open.
    pub(super) unsettled_until_ms: Option<u64>,
    /// Both streams' digests, the initiator's first, once the answer is there.
    pub(super) streams: Option<[HashText; 2]>,
    /// Opens the receipt's commitment to the result.
    pub(super) result_salt: Option<HashText>,
    /// Seed of this side's scalar and fillers, for an audit at the owner while the match can be disputed.
    pub(super) session_seed: Option<HashText>,
    /// Those of runs that broke, of a list that went on.
    #[serde(default)]
    pub(super) earlier_seeds: Vec<HashText>,
    /// People in the other side's set.
    #[serde(default)]
    pub(super) their_size: Option<u64>,
    /// Whether the list is run in buckets, so that it may go on where it broke.
    #[serde(default)]
    pub(super) in_buckets: bool,
}

/// 32 bytes as hex.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct HashText(#[serde(with = "hash_text")] pub(super) Hash);

impl HashText {
    pub(super) const fn of(bytes: [u8; 32]) -> Self {
        Self(Hash(bytes))
    }
}

impl Filed for MatchFile {
    const KIND: &'static str = "match";

    fn id(&self) -> MatchId {
        self.view.id
    }

    fn started_ms(&self) -> u64 {
        self.view.started_ms
    }
}

/// All matches of two of this node.
pub(super) type MatchStore = Files<MatchFile>;

impl MatchStore {
    /// The newest match of a query that has no answer and has not ended.
    pub(super) fn unfinished(&self, query: &Query) -> Option<MatchFile> {
        self.all().into_iter().find(|f| {
            f.view.answer.is_none() && !f.view.stage.is_final() && query.is_asked_by(&f.view)
        })
    }

    /// The stored answer of the same query: same agreement, computation, sides and sets.
    pub(super) fn answered(&self, query: &Query) -> Option<MatchView> {
        self.all()
            .into_iter()
            .map(|f| f.view)
            .find(|v| v.answer.is_some() && query.is_asked_by(v))
    }

    /// Stores the rows of a list.
    pub(super) fn write_rows(&self, id: &MatchId, rows: &[u64]) -> Result<(), MatchError> {
        let bytes: Vec<u8> = rows.iter().flat_map(|row| row.to_be_bytes()).collect();
        let path = self.dir().join(format!("{id}.rows"));
        Ok(write_sealed(&path, self.key(), &rows_purpose(id), &bytes)?)
    }

    /// The rows of a list.
    pub(super) fn rows(&self, id: &MatchId) -> Result<Vec<u64>, MatchError> {
        let path = self.dir().join(format!("{id}.rows"));
        let bytes = read_sealed(&path, self.key(), &rows_purpose(id))?
            .ok_or(MatchError::UnknownMatch { id: *id })?;
        let (rows, _) = bytes.as_chunks::<8>();
        Ok(rows.iter().map(|row| u64::from_be_bytes(*row)).collect())
    }
}

/// What makes two matches the same query.
pub(super) struct Query {
    pub(super) role: Role,
    pub(super) agreement: AgreementId,
    pub(super) computation: Computation,
    pub(super) peer: MemberId,
    pub(super) own: AudienceKey,
    pub(super) theirs: Theirs,
}

/// The other side's set in a query.
#[derive(Clone, Copy)]
pub(super) enum Theirs {
    /// Exactly this one.
    Set(AudienceKey),
    /// Any set of this epoch, of this audience if one is named.
    Epoch(u64, Option<AudienceLabel>),
}

impl Query {
    fn is_asked_by(&self, v: &MatchView) -> bool {
        let theirs = v.theirs.is_some_and(|t| match self.theirs {
            Theirs::Set(key) => t == key,
            Theirs::Epoch(epoch, label) => t.epoch == epoch && label.is_none_or(|l| l == t.label),
        });
        theirs
            && (v.role, v.agreement, v.computation, v.peer, v.own)
                == (
                    self.role,
                    self.agreement,
                    self.computation,
                    self.peer,
                    self.own,
                )
    }
}

fn rows_purpose(id: &MatchId) -> String {
    format!("match-rows/{id}")
}

/// Optional values with one text form.
pub(super) mod option_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    // The signature is serde's.
    #[allow(clippy::ref_option)]
    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(s)
    }

    pub(crate) fn deserialize<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Option::<String>::deserialize(d)?
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

mod computation_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use tally_contracts::records::Computation;

    pub(super) fn serialize<S: Serializer>(c: &Computation, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(c)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Computation, D::Error> {
        Computation::parse(&String::deserialize(d)?)
            .ok_or_else(|| D::Error::custom("unknown computation"))
    }
}
