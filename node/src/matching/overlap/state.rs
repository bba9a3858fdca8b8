//! What is kept of an overlap.

use serde::{Deserialize, Serialize};
use tally_contracts::ids::{AgreementId, AudienceLabel, MemberId, RecordId, SessionId};
use tally_contracts::records::AudienceRef;

use crate::audiences::{AudienceKey, text};
use crate::matching::answer::Answer;
use crate::matching::files::{Filed, Files};
use crate::matching::noise::NoiseView;
use crate::matching::state::{HashText, MatchId, Stage, option_text};

/// What this node is in an overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapRole {
    /// It brings an audience and learns the count.
    Party,
    /// It counts pseudonyms.
    Helper,
}

/// A party of an overlap, as all see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlapPartyView {
    /// The member.
    #[serde(with = "text")]
    pub member: MemberId,
    /// Its set, once it has joined.
    pub set: Option<AudienceKey>,
    /// Size bucket of its set: at most 2^this people.
    pub bucket: Option<u8>,
    /// Whether it has confirmed the receipt, when this was last looked at.
    pub confirmed: bool,
}

/// What is known of an overlap; serialises as one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverlapView {
    /// Its ID, the same at every node.
    #[serde(with = "text")]
    pub id: MatchId,
    /// What this node is.
    pub role: OverlapRole,
    /// The party that asked.
    #[serde(with = "text")]
    pub asked_by: MemberId,
    /// The agreement.
    #[serde(with = "text")]
    pub agreement: AgreementId,
    /// The helper.
    #[serde(with = "text")]
    pub helper: MemberId,
    /// The parties, in the order of the agreement.
    pub parties: Vec<OverlapPartyView>,
    /// Name of the own audience, of a party.
    pub audience: Option<String>,
    /// The own set, of a party.
    pub own: Option<AudienceKey>,
    /// People in it.
    pub own_size: Option<u64>,
    /// The session on the ledger, once all nonces are there.
    #[serde(with = "option_text")]
    pub session: Option<SessionId>,
    /// Where it is.
    pub stage: Stage,
    /// Why it ended without an answer, or what it waits for.
    pub reason: Option<String>,
    /// What the noise does to the answer.
    pub noise: Option<NoiseView>,
    /// The answer, once every party holds it.
    pub answer: Option<Answer>,
    /// The own JoinOverlap record, of a party.
    #[serde(with = "option_text")]
    pub join_record: Option<RecordId>,
    /// The ReleaseOverlap record, at the helper.
    #[serde(with = "option_text")]
    pub release_record: Option<RecordId>,
    /// The record with the receipt at the helper, that with the own confirmation at a party.
    #[serde(with = "option_text")]
    pub receipt_record: Option<RecordId>,
    /// When it was asked for, ledger time in POSIX milliseconds.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

/// A count that this node holds: for a party one that it has acknowledged, or was about to, before it knows that all others hold it.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::matching) struct Held {
    /// What the helper made known.
    pub(super) value: i64,
    /// Opens the receipt's commitment.
    pub(super) salt: HashText,
    /// Digests of all lists, in the order of the parties.
    pub(super) lists: Vec<HashText>,
}

/// An overlap's file.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::matching) struct OverlapFile {
    pub(super) view: OverlapView,
    /// Of the asker.
    pub(super) nonce: HashText,
    /// Until when the JoinOverlap that this node signed can be committed; `None` once the ledger holds nothing of it that is not settled.
    pub(super) unsettled_until_ms: Option<u64>,
    /// Of a party from its acknowledgement on, of the helper from the result on.
    pub(super) held: Option<Held>,
    /// Seed of this side's key share and fillers, for an audit at the owner while the match can be disputed.
    pub(super) session_seed: Option<HashText>,
}

impl Filed for OverlapFile {
    const KIND: &'static str = "overlap";

    fn id(&self) -> MatchId {
        self.view.id
    }

    fn started_ms(&self) -> u64 {
        self.view.started_ms
    }
}

/// What makes two overlaps the same query.
pub(super) struct OverlapQuery<'a> {
    pub(super) agreement: AgreementId,
    pub(super) own: AudienceKey,
    /// Sets of the other parties are of this epoch.
    pub(super) epoch: u64,
    /// And of these audiences, where one is named.
    pub(super) named: &'a [(MemberId, AudienceLabel)],
}

impl OverlapQuery<'_> {
    fn is_asked_by(&self, v: &OverlapView) -> bool {
        let others = v.parties.iter().filter(|p| p.set != Some(self.own));
        (v.agreement, v.own) == (self.agreement, Some(self.own))
            && others.into_iter().all(|p| {
                p.set.is_some_and(|set| {
                    set.epoch == self.epoch
                        && self
                            .named
                            .iter()
                            .all(|(m, label)| *m != p.member || *label == set.label)
                })
            })
    }
}

impl Files<OverlapFile> {
    /// The stored answer of the same query, whoever asked it.
    pub(super) fn answered(&self, query: &OverlapQuery<'_>) -> Option<OverlapView> {
        self.all()
            .into_iter()
            .map(|f| f.view)
            .find(|v| v.answer.is_some() && query.is_asked_by(v))
    }
}

/// The set that a reference names.
pub(super) const fn set_of(audience: &AudienceRef) -> AudienceKey {
    AudienceKey {
        label: audience.label,
        epoch: audience.epoch,
    }
}
