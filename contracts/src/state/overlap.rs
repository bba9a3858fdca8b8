//! Where an overlap of several parties stands.

use tally_merkle::Hash;

use super::values::{MatchStatus, VERSION, WHAT};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::ids::{AgreementId, MemberId, RecordId};
use crate::records::{AudienceRef, BudgetCap, MAX_PARTIES, Noise, read_digests};

/// A party of an overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapParty {
    /// The member.
    pub member: MemberId,
    /// What it brings, once it has joined.
    pub audience: Option<AudienceRef>,
    /// Whether it has confirmed the receipt.
    pub confirmed: bool,
}

/// Under [`super::keys::overlap_session`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapState {
    /// The agreement.
    pub agreement: AgreementId,
    /// Its noise on the count.
    pub noise: Noise,
    /// Its noise against the helper.
    pub regions: Noise,
    /// What the count costs every party.
    pub charge: BudgetCap,
    /// What the helper's view costs every party.
    pub helper_charge: BudgetCap,
    /// The parties, in the order of the agreement.
    pub parties: Vec<OverlapParty>,
    /// The helper.
    pub helper: MemberId,
    /// Where it is in its life. It is done when every party has confirmed the receipt.
    pub status: MatchStatus,
    /// The record that opened it: the first party's.
    pub record: RecordId,
    /// Block time of the opening, POSIX milliseconds.
    pub opened_ms: u64,
    /// Digests of the parties' lists; empty until released.
    pub streams: Vec<Hash>,
    /// Digest of the helper's receipt; zero until it is there.
    pub receipt: Hash,
}

impl OverlapState {
    /// Whether the budgets have been spent: released, whatever came after.
    #[must_use]
    pub const fn is_released(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Whether every party has joined.
    #[must_use]
    pub fn all_joined(&self) -> bool {
        self.parties.iter().all(|p| p.audience.is_some())
    }

    /// Whether the helper's receipt is there.
    #[must_use]
    pub fn has_receipt(&self) -> bool {
        self.receipt != Hash([0; 32])
    }

    /// The place of a party.
    #[must_use]
    pub fn place(&self, member: &MemberId) -> Option<usize> {
        self.parties.iter().position(|p| p.member == *member)
    }
}

impl Canonical for OverlapState {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).raw(&self.agreement.0);
        self.noise.write(w);
        self.regions.write(w);
        self.charge.write(w);
        self.helper_charge.write(w);
        w.list(&self.parties, |w, p| {
            w.raw(&p.member.0)
                .bool(p.confirmed)
                .bool(p.audience.is_some());
            if let Some(audience) = &p.audience {
                audience.write(w);
            }
        });
        w.raw(&self.helper.0);
        self.status.write(w);
        w.raw(&self.record.0)
            .u64(self.opened_ms)
            .list(&self.streams, |w, d| {
                w.raw(d.as_bytes());
            })
            .raw(self.receipt.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            agreement: RecordId(r.array("agreement ID")?),
            noise: Noise::read(r)?,
            regions: Noise::read(r)?,
            charge: BudgetCap::read(r)?,
            helper_charge: BudgetCap::read(r)?,
            parties: r.list("parties", MAX_PARTIES, |r| {
                Ok(OverlapParty {
                    member: MemberId(r.array("party")?),
                    confirmed: r.bool("confirmation")?,
                    audience: match r.bool("audience")? {
                        true => Some(AudienceRef::read(r)?),
                        false => None,
                    },
                })
            })?,
            helper: MemberId(r.array("helper")?),
            status: MatchStatus::read(r)?,
            record: RecordId(r.array("record ID")?),
            opened_ms: r.u64("time of opening")?,
            streams: read_digests(r)?,
            receipt: Hash(r.array("receipt digest")?),
        })
    }
}
