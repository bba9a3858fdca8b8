//! The privacy budget: reserve, then spend or give back. Integers, rounded up, never below zero.
//!
//! Each match charges the owner of every audience, those who learn something being the analysts. Three counters move together: the
//! owner's epoch over all analysts, which the epoch cap bounds; the owner's epoch for each analyst, for reports; and the owner for each
//! analyst over all epochs, which the lifetime cap bounds.

use super::Call;
use crate::ids::MemberId;
use crate::records::{BudgetCap, ProposeAgreement};
use crate::refusal::{ApplyError, Refusal};
use crate::state::{self, Budget, keys};

/// More than any cap.
const EVERYTHING: BudgetCap = BudgetCap {
    micro_rho: u64::MAX,
    delta: u64::MAX,
};

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

    /// The sum, or all there is where it would overflow: over every cap.
    #[must_use]
    pub fn saturating_plus(&self, other: &Self) -> Self {
        self.plus(other).unwrap_or(EVERYTHING)
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

/// What an owner pays for a match.
pub(super) struct Account {
    /// Whose people they are.
    pub(super) owner: MemberId,
    /// The epoch of the audience.
    pub(super) epoch: u64,
    /// What its epoch is charged, over all analysts.
    pub(super) total: BudgetCap,
    /// Who learns, and what of that is charged to the analyst.
    pub(super) learns: Vec<(MemberId, BudgetCap)>,
}

impl Account {
    /// Each counter, what it is charged, and the agreement's cap on it.
    fn lines(&self, terms: Option<&ProposeAgreement>) -> Vec<Line> {
        let line = |key, charge, cap: Option<(&'static str, BudgetCap)>| Line { key, charge, cap };
        let (owner, epoch) = (&self.owner, self.epoch);
        let mut lines = vec![line(
            keys::budget_epoch(owner, epoch),
            self.total,
            terms.map(|t| ("epoch", t.epoch_cap)),
        )];
        for (analyst, charge) in &self.learns {
            lines.push(line(
                keys::budget_analyst(owner, epoch, analyst),
                *charge,
                None,
            ));
            lines.push(line(
                keys::budget_lifetime(owner, analyst),
                *charge,
                terms.map(|t| ("lifetime", t.lifetime_cap)),
            ));
        }
        if self.total == BudgetCap::default() {
            lines.clear();
        }
        lines
    }
}

struct Line {
    key: Vec<u8>,
    charge: BudgetCap,
    cap: Option<(&'static str, BudgetCap)>,
}

impl Call<'_> {
    /// Reserves a match's charges, within the agreement's caps.
    pub(super) fn reserve(
        &mut self,
        accounts: &[Account],
        terms: &ProposeAgreement,
    ) -> Result<(), ApplyError> {
        for account in accounts {
            for Line { key, charge, cap } in account.lines(Some(terms)) {
                let mut budget = state::budget(&self.state, &key)?;
                let (scope, cap) = cap.unwrap_or(("analyst", EVERYTHING));
                let within = budget
                    .held()
                    .and_then(|held| held.plus(&charge))
                    .is_some_and(|sum| sum.fits(&cap));
                let reserved = budget.reserved.plus(&charge);
                let (true, Some(reserved)) = (within, reserved) else {
                    let held = budget.held().unwrap_or(cap);
                    return Err(Refusal::Budget {
                        scope,
                        owner: account.owner,
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

    /// Moves a match's reserved charges on.
    pub(super) fn settle(&mut self, accounts: &[Account], step: Step) -> Result<(), ApplyError> {
        for Line { key, charge, .. } in accounts.iter().flat_map(|a| a.lines(None)) {
            let mut budget = state::budget(&self.state, &key)?;
            budget.reserved = budget.reserved.less(&charge);
            if matches!(step, Step::Spend) {
                // Reserving has shown that spent and reserved together do not overflow.
                budget.spent = budget.spent.saturating_plus(&charge);
            }
            self.state.put(key, &budget);
        }
        Ok(())
    }
}
