//! What governance keeps in the state: proposals, those that wait for their height, and keys that are used no more.

use super::values::{VERSION, WHAT, byte_enum};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::genesis::MAX_MEMBERS;
use crate::ids::{ChangeId, MemberId, RecordId};
use crate::records::{KeyPurpose, ProposeChange};

/// The most proposals that wait for their height at one time.
pub const MAX_SCHEDULED: usize = 64;
/// The most votes that a proposal keeps: members may leave while it is open.
pub(crate) const MAX_VOTES: usize = 16 * MAX_MEMBERS;

byte_enum! {
    /// Where a proposal is in its life. Expiry is told by the time, not by this.
    ChangeStatus, "proposal status" {
        /// Votes are taken.
        Open = 1 "open",
        /// It passed and waits for its height.
        Passed = 2 "passed",
        /// It was carried out.
        InForce = 3 "in force",
        /// So many are against it that it cannot pass.
        Rejected = 4 "rejected",
        /// Its proposer took it back.
        Withdrawn = 5 "withdrawn",
        /// It passed, and what happened before its height made it impossible; nothing was changed.
        Failed = 6 "failed",
    }
}

/// Under [`super::keys::change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeState {
    /// What is proposed.
    pub terms: ProposeChange,
    /// By whom.
    pub proposer: MemberId,
    /// Who has voted for it, the proposer among them, ascending.
    pub approved: Vec<MemberId>,
    /// Who has voted against it, ascending.
    pub against: Vec<MemberId>,
    /// Where it is in its life.
    pub status: ChangeStatus,
    /// Block time of the proposal, POSIX milliseconds.
    pub proposed_ms: u64,
    /// Height of the block that ended the voting; 0 while it is open.
    pub decided_height: u64,
    /// The first height under it; 0 unless it passed.
    pub from_height: u64,
}

impl Canonical for ChangeState {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION);
        self.terms.write(w);
        w.raw(&self.proposer.0);
        for votes in [&self.approved, &self.against] {
            w.list(votes, |w, m| {
                w.raw(&m.0);
            });
        }
        self.status.write(w);
        w.u64(self.proposed_ms)
            .u64(self.decided_height)
            .u64(self.from_height);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        let votes =
            |r: &mut Reader<'_>| r.list("votes", MAX_VOTES, |r| Ok(MemberId(r.array("voter")?)));
        Ok(Self {
            terms: ProposeChange::read(r)?,
            proposer: MemberId(r.array("proposer")?),
            approved: votes(r)?,
            against: votes(r)?,
            status: ChangeStatus::read(r)?,
            proposed_ms: r.u64("time of proposal")?,
            decided_height: r.u64("height of decision")?,
            from_height: r.u64("height of effect")?,
        })
    }
}

/// A proposal that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// The first height under it.
    pub from_height: u64,
    /// The proposal.
    pub change: ChangeId,
}

/// Under [`super::keys::schedule`]: in the order in which they are carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule(pub Vec<Scheduled>);

impl Schedule {
    /// Puts one more in its place: after those of its height that passed before it.
    pub fn insert(&mut self, new: Scheduled) {
        let place = self.0.partition_point(|s| s.from_height <= new.from_height);
        self.0.insert(place, new);
    }
}

impl Canonical for Schedule {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).list(&self.0, |w, s| {
            w.u64(s.from_height).raw(&s.change.0);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        let list = r.list("scheduled proposals", MAX_SCHEDULED, |r| {
            Ok(Scheduled {
                from_height: r.u64("height of effect")?,
                change: RecordId(r.array("proposal")?),
            })
        })?;
        if !list.is_sorted_by_key(|s| s.from_height) {
            return Err(CodecError::Invalid {
                what: "order of scheduled proposals",
                found: list.len() as u64,
            });
        }
        Ok(Self(list))
    }
}

/// Under [`super::keys::retired_key`]: the key never comes back, for whatever use, so that nothing it signed can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetiredKey {
    /// Whose it was.
    pub member: MemberId,
    /// What it was for.
    pub purpose: KeyPurpose,
    /// The first height without it.
    pub from_height: u64,
}

impl Canonical for RetiredKey {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).raw(&self.member.0);
        self.purpose.write(w);
        w.u64(self.from_height);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            member: MemberId(r.array("member ID")?),
            purpose: KeyPurpose::read(r)?,
            from_height: r.u64("height of retirement")?,
        })
    }
}
