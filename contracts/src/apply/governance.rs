//! Proposals and votes, and carrying out what has passed.
//!
//! A proposal that passes in the block of height h comes into force at the end of the block before its first height, which is
//! h + 1 + its delay. So the state after a block always holds the validators, members and rules of the very next height, and
//! nothing else says who decides it.

use super::book::Book;
use super::{Call, Context};
use crate::error::Error;
use crate::ids::{ChangeId, MemberId};
use crate::member::MemberEntry;
use crate::records::{MAX_DELAY_BLOCKS, MAX_VOTING_MS, ProposeChange, Vote};
use crate::refusal::{ApplyError, Refusal};
use crate::state::{
    self, ChangeState, ChangeStatus, Effects, MAX_SCHEDULED, MAX_VOTES, Overlay, Schedule,
    Scheduled, StateError, StateRead, keys,
};
use crate::validators::ValidatorSet;

impl Call<'_> {
    pub(super) fn propose_change(&mut self, body: &ProposeChange) -> Result<(), ApplyError> {
        let proposer = self.single()?;
        check_terms(body, &self.ctx)?;
        let change = ChangeState {
            terms: body.clone(),
            proposer,
            approved: vec![proposer],
            against: Vec::new(),
            status: ChangeStatus::Open,
            proposed_ms: self.ctx.block_time_ms,
            decided_height: 0,
            from_height: 0,
        };
        // What is impossible now is refused now, not when the last vote is in.
        let schedule = self.with_this(&change, self.id)?;
        check_schedule(&self.state, &schedule, self.id, &change)?;
        self.count(self.id, change)
    }

    pub(super) fn vote(&mut self, body: &Vote) -> Result<(), ApplyError> {
        let member = self.single()?;
        let id = body.change;
        let mut change =
            state::change(&self.state, &id)?.ok_or(Refusal::UnknownChange { change: id })?;
        if change.status != ChangeStatus::Open {
            return Err(Refusal::ChangeStatus {
                change: id,
                found: change.status,
            }
            .into());
        }
        if change.terms.expires_ms <= self.ctx.block_time_ms {
            return Err(Refusal::ChangeExpired {
                change: id,
                expires_ms: change.terms.expires_ms,
                block_time_ms: self.ctx.block_time_ms,
            }
            .into());
        }
        let withdraws = member == change.proposer && !body.approve;
        if withdraws {
            change.status = ChangeStatus::Withdrawn;
            change.decided_height = self.ctx.height;
            self.state.put(keys::change(&id), &change);
            return Ok(());
        }
        let voted = change.approved.contains(&member) || change.against.contains(&member);
        if voted {
            // Members may have left since: then what is there may suffice, and a repeated vote has it counted.
            let same = body.approve == change.approved.contains(&member);
            if !same || !self.passes(&change)? {
                return Err(Refusal::AlreadyVoted { member }.into());
            }
        } else {
            let votes = if body.approve {
                &mut change.approved
            } else {
                &mut change.against
            };
            if votes.len() >= MAX_VOTES {
                return Err(Refusal::Terms {
                    what: "votes",
                    found: votes.len() as u64,
                    expected: "at most 1024 on one proposal",
                }
                .into());
            }
            let place = votes.partition_point(|m| *m < member);
            votes.insert(place, member);
        }
        self.count(id, change)
    }

    /// Whether more than two thirds of the members are for it.
    fn passes(&self, change: &ChangeState) -> Result<bool, StateError> {
        let members = state::members(&self.state)?;
        Ok(3 * votes_of(&members, &change.approved) > 2 * members.len())
    }

    /// Counts the votes, and schedules what has passed.
    fn count(&mut self, id: ChangeId, mut change: ChangeState) -> Result<(), ApplyError> {
        let members = state::members(&self.state)?;
        let all = members.len();
        let against = votes_of(&members, &change.against);
        if self.passes(&change)? {
            change.status = ChangeStatus::Passed;
            change.decided_height = self.ctx.height;
            let schedule = self.with_this(&change, id)?;
            check_schedule(&self.state, &schedule, id, &change)?;
            change.from_height = self.first_height(&change);
            self.state.put(keys::schedule(), &schedule);
        } else if 3 * all.saturating_sub(against) <= 2 * all {
            change.status = ChangeStatus::Rejected;
            change.decided_height = self.ctx.height;
        }
        self.state.put(keys::change(&id), &change);
        Ok(())
    }

    /// The first height under a proposal that passes now.
    fn first_height(&self, change: &ChangeState) -> u64 {
        self.ctx
            .height
            .saturating_add(1)
            .saturating_add(change.terms.delay_blocks.into())
    }

    fn with_this(&self, change: &ChangeState, id: ChangeId) -> Result<Schedule, ApplyError> {
        let mut schedule = state::schedule(&self.state)?;
        if schedule.0.len() >= MAX_SCHEDULED {
            return Err(Refusal::ScheduleFull { max: MAX_SCHEDULED }.into());
        }
        schedule.insert(Scheduled {
            from_height: self.first_height(change),
            change: id,
        });
        Ok(schedule)
    }
}

fn votes_of(members: &[MemberEntry], votes: &[MemberId]) -> usize {
    members.iter().filter(|m| votes.contains(&m.id)).count()
}

fn check_terms(terms: &ProposeChange, ctx: &Context) -> Result<(), Refusal> {
    let bad = |what, found, expected| Refusal::Terms {
        what,
        found,
        expected,
    };
    if terms.delay_blocks > MAX_DELAY_BLOCKS {
        let found = terms.delay_blocks.into();
        return Err(bad("delay in blocks", found, "at most 10000000"));
    }
    if terms.expires_ms <= ctx.block_time_ms {
        return Err(bad(
            "end of voting",
            terms.expires_ms,
            "a time after the block's",
        ));
    }
    if terms.expires_ms > ctx.block_time_ms.saturating_add(MAX_VOTING_MS) {
        return Err(bad(
            "end of voting",
            terms.expires_ms,
            "at most 90 days after the block's time",
        ));
    }
    Ok(())
}

/// Whether everything scheduled can be carried out, in its order. `new` is the one that is not in the state yet.
fn check_schedule(
    state: &dyn StateRead,
    schedule: &Schedule,
    id: ChangeId,
    new: &ChangeState,
) -> Result<(), ApplyError> {
    let mut book = Book::read(state)?;
    for s in &schedule.0 {
        if s.change == id {
            book.carry_out(state, &new.terms.changes, s.from_height)?;
        } else if let Some(other) = state::change(state, &s.change)? {
            book.carry_out(state, &other.terms.changes, s.from_height)?;
        }
    }
    Ok(())
}

/// What the changes that are in force from `height` on write, if they are not in the state yet: the end of the block before it.
/// It belongs to no record. [`super::execute_block`] does it by itself, before the first record for the block's own height and
/// after the last for the next one: whoever replays entries alone does not see blocks without records.
///
/// # Errors
/// [`StateError`].
pub fn due_changes(state: &dyn StateRead, height: u64) -> Result<Effects, StateError> {
    let schedule = state::schedule(state)?;
    let due = schedule.0.partition_point(|s| s.from_height <= height);
    if due == 0 {
        return Ok(Effects::new());
    }
    let mut overlay = Overlay::new(state);
    let (now, later) = schedule.0.split_at(due);
    for s in now {
        let Some(mut change) = state::change(&overlay, &s.change)? else {
            continue;
        };
        let before = Book::read(&overlay)?;
        let mut after = before.clone();
        match after.carry_out(&overlay, &change.terms.changes, s.from_height) {
            Ok(()) => {
                after.write(&before, &mut overlay);
                change.status = ChangeStatus::InForce;
            }
            // Everything scheduled was tried in this order when it passed, so this does not happen; if it did, all nodes would
            // do the same.
            Err(ApplyError::Refused(_)) => change.status = ChangeStatus::Failed,
            Err(ApplyError::State(e)) => return Err(e),
        }
        overlay.put(keys::change(&s.change), &change);
    }
    if later.is_empty() {
        overlay.set(keys::schedule(), None);
    } else {
        overlay.put(keys::schedule(), &Schedule(later.to_vec()));
    }
    Ok(overlay.into_effects())
}

/// The members and validators that a proposal of these changes would leave, on top of everything that has passed before it.
/// What a node asks before its operator proposes or votes.
///
/// # Errors
/// [`ApplyError::Refused`] if the ledger would refuse it now; [`ApplyError::State`].
pub fn members_after(
    state: &dyn StateRead,
    terms: &ProposeChange,
) -> Result<(Vec<MemberEntry>, ValidatorSet), ApplyError> {
    let mut book = Book::read(state)?;
    for s in state::schedule(state)?.0 {
        if let Some(other) = state::change(state, &s.change)? {
            book.carry_out(state, &other.terms.changes, s.from_height)?;
        }
    }
    book.carry_out(state, &terms.changes, 0)?;
    let members = book.into_members();
    let set = ValidatorSet::from_members(&members);
    Ok((members, set))
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Entry {
            message: error.to_string(),
        }
    }
}
