//! The privacy budget: reserve, then spend or give back. Integers, rounded up, never below zero.
//!
//! Each match charges both owners (in a `join_sum` the responder more: its people are counted besides), the other side being the analyst. Three counters move together: the owner's epoch over all
//! analysts, which the epoch cap bounds; the owner's epoch for this analyst, for reports; and the owner for this analyst over
//! all epochs, which the lifetime cap bounds.

use super::Call;
use crate::ids::MemberId;
use crate::records::{BudgetCap, ProposeAgreement};
use crate::refusal::{ApplyError, Refusal};
use crate::state::{self, Budget, MatchState, keys};

impl BudgetCap {
    /// Whether this amount is within a cap, in both numbers.
    #[must_use]
    pub const fn fits(&self, cap: &Self) -> bool {
        self.micro_rho <= cap.micro_rho && self.delta <= cap.delta
    }

    /// The sum; `None` if it overflows.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Option<Self> {
        Some(Self {
            micro_rho: self.micro_rho.checked_add(other.micro_rho)?,
            delta: self.delta.checked_add(other.delta)?,
        })
    }

    /// What is left after taking `other` away, zero at least.
    #[must_use]
    pub const fn less(&self, other: &Self) -> Self {
        Self {
            micro_rho: self.micro_rho.saturating_sub(other.micro_rho),
            delta: self.delta.saturating_sub(other.delta),
        }
    }
}

impl Budget {
    /// Spent and reserved together.
    #[must_use]
    pub fn held(&self) -> Option<BudgetCap> {
        self.spent.plus(&self.reserved)
    }
}

/// What happens to a charge.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Reserved becomes spent.
    Spend,
    /// Reserved becomes free.
    GiveBack,
}

/// One owner's counters: epoch, epoch and analyst, analyst.
fn counters(owner: &MemberId, epoch: u64, analyst: &MemberId) -> [Vec<u8>; 3] {
    [
        keys::budget_epoch(owner, epoch),
        keys::budget_analyst(owner, epoch, analyst),
        keys::budget_lifetime(owner, analyst),
    ]
}

/// The two owners of a match, each with the epoch of its audience and its analyst.
fn owners(m: &MatchState) -> [(MemberId, u64, MemberId); 2] {
    [
        (m.initiator, m.initiator_audience.epoch, m.responder),
        (m.responder, m.responder_audience.epoch, m.initiator),
    ]
}

impl Call<'_> {
    /// Reserves a match's charge for both owners, within the agreement's caps.
    pub(super) fn reserve(
        &mut self,
        m: &MatchState,
        terms: &ProposeAgreement,
    ) -> Result<(), ApplyError> {
        if m.charge_of(&m.responder) == BudgetCap::default() {
            return Ok(());
        }
        for (owner, epoch, analyst) in owners(m) {
            let charge = m.charge_of(&owner);
            let caps = [
                Some(("epoch", terms.epoch_cap)),
                None,
                Some(("lifetime", terms.lifetime_cap)),
            ];
            for (key, cap) in counters(&owner, epoch, &analyst).into_iter().zip(caps) {
                let mut budget = state::budget(&self.state, &key)?;
                let (scope, cap) = cap.unwrap_or((
                    "analyst",
                    BudgetCap {
                        micro_rho: u64::MAX,
                        delta: u64::MAX,
                    },
                ));
                let within = budget
                    .held()
                    .and_then(|held| held.plus(&charge))
                    .is_some_and(|sum| sum.fits(&cap));
                let reserved = budget.reserved.plus(&charge);
                let (true, Some(reserved)) = (within, reserved) else {
                    let held = budget.held().unwrap_or(cap);
                    return Err(Refusal::Budget {
                        scope,
                        owner,
                        needed: charge,
                        left: cap.less(&held),
                    }
                    .into());
                };
                budget.reserved = reserved;
                self.state.put(key, &budget);
            }
        }
        Ok(())
    }

    /// Moves a match's reserved charge on.
    pub(super) fn settle(&mut self, m: &MatchState, step: Step) -> Result<(), ApplyError> {
        if m.charge_of(&m.responder) == BudgetCap::default() {
            return Ok(());
        }
        for (owner, epoch, analyst) in owners(m) {
            let charge = m.charge_of(&owner);
            for key in counters(&owner, epoch, &analyst) {
                let mut budget = state::budget(&self.state, &key)?;
                budget.reserved = budget.reserved.less(&charge);
                if matches!(step, Step::Spend) {
                    // Reserving has shown that spent and reserved together do not overflow.
                    budget.spent = budget.spent.plus(&charge).unwrap_or(BudgetCap {
                        micro_rho: u64::MAX,
                        delta: u64::MAX,
                    });
                }
                self.state.put(key, &budget);
            }
        }
        Ok(())
    }
}
