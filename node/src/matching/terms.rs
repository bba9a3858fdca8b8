//! What both sides check against the ledger before they open a match; the contract checks it again.

use tally_contracts::ids::{AgreementId, MemberId};
use tally_contracts::records::{
    AudienceRef, BudgetCap, Computation, ProposeAgreement, size_bucket,
};
use tally_contracts::refusal::Refusal;
use tally_contracts::state::{self, AgreementStatus, keys};
use tally_measure::SetOpening;

use super::error::MatchError;
use super::ports::LedgerPort;
use crate::audiences::AudienceMeta;

/// The terms of an agreement under which these members, who asks first, may compute this now.
pub(super) fn allowed(
    ledger: &dyn LedgerPort,
    agreement: &AgreementId,
    computation: Computation,
    members: &[MemberId],
) -> Result<ProposeAgreement, MatchError> {
    let found = state::agreement(ledger, agreement)?.ok_or(Refusal::UnknownAgreement {
        agreement: *agreement,
    })?;
    let terms = found.terms;
    for member in members {
        if !terms.parties.contains(member) {
            return Err(Refusal::NotAParty { member: *member }.into());
        }
    }
    if found.status != AgreementStatus::Active {
        return Err(Refusal::AgreementStatus {
            agreement: *agreement,
            found: found.status,
            expected: AgreementStatus::Active,
        }
        .into());
    }
    let block_time_ms = ledger.time_ms();
    if terms.expires_ms <= block_time_ms {
        return Err(Refusal::AgreementExpired {
            agreement: *agreement,
            expires_ms: terms.expires_ms,
            block_time_ms,
        }
        .into());
    }
    if !terms.computations.contains(&computation) {
        return Err(Refusal::Computation { computation }.into());
    }
    if !computation.suites().contains(&terms.suite) {
        return Err(Refusal::Suite {
            computation,
            suite: terms.suite,
        }
        .into());
    }
    if let (Computation::JoinSum, Some(sums), Some(asker)) =
        (computation, &terms.sums, members.first())
        && sums.label_side != *asker
    {
        return Err(Refusal::LabelSide {
            expected: sums.label_side,
            found: *asker,
        }
        .into());
    }
    if found.matches >= terms.max_matches {
        return Err(Refusal::MatchLimit {
            max: terms.max_matches,
        }
        .into());
    }
    Ok(terms)
}

/// An audience that a match may use: committed as named, opened rightly, of the agreement's profile and size.
pub(super) fn check_audience(
    ledger: &dyn LedgerPort,
    owner: MemberId,
    brought: &AudienceRef,
    opening: &SetOpening,
    terms: &ProposeAgreement,
) -> Result<(), MatchError> {
    check_committed(ledger, owner, brought, terms)?;
    let fits = [
        (opening.commitment() == brought.root, "opening"),
        (size_bucket(opening.size) == brought.size_bucket, "size"),
    ];
    if let Some((_, what)) = fits.into_iter().find(|(fits, _)| !fits) {
        return Err(Refusal::AudienceMismatch { owner, what }.into());
    }
    // Of the other side's set the public size is known alone.
    let max = tally_psi::public_size(terms.max_set_size);
    if opening.size < terms.min_set_size || opening.size > max {
        return Err(Refusal::SetSize {
            owner,
            bucket: brought.size_bucket,
            min: terms.min_set_size,
            max: terms.max_set_size,
        }
        .into());
    }
    Ok(())
}

/// An audience that is committed as named, of the agreement's profile.
pub(super) fn check_committed(
    ledger: &dyn LedgerPort,
    owner: MemberId,
    brought: &AudienceRef,
    terms: &ProposeAgreement,
) -> Result<(), MatchError> {
    let committed = state::audience(ledger, &owner, brought.epoch, &brought.label)?.ok_or(
        Refusal::UnknownAudience {
            owner,
            epoch: brought.epoch,
        },
    )?;
    let fits = [
        (committed.root == brought.root, "root"),
        (committed.size_bucket == brought.size_bucket, "size bucket"),
    ];
    if let Some((_, what)) = fits.into_iter().find(|(fits, _)| !fits) {
        return Err(Refusal::AudienceMismatch { owner, what }.into());
    }
    if committed.profile != terms.profile {
        return Err(Refusal::Profile {
            owner,
            expected: terms.profile,
            found: committed.profile,
        }
        .into());
    }
    Ok(())
}

/// Refuses an own set whose true size, which the other side does not learn, is out of the agreement's bounds.
pub(super) fn check_own_size(
    owner: MemberId,
    meta: &AudienceMeta,
    terms: &ProposeAgreement,
) -> Result<(), MatchError> {
    if (terms.min_set_size..=terms.max_set_size).contains(&meta.size) {
        return Ok(());
    }
    Err(Refusal::SetSize {
        owner,
        bucket: size_bucket(meta.public_size()),
        min: terms.min_set_size,
        max: terms.max_set_size,
    }
    .into())
}

/// Refuses an own set that this node may not bring: not committed to, or out of the agreement's bounds.
pub(super) fn check_own(
    ledger: &dyn LedgerPort,
    owner: MemberId,
    meta: &AudienceMeta,
    terms: &ProposeAgreement,
) -> Result<(), MatchError> {
    check_own_size(owner, meta, terms)?;
    match check_audience(ledger, owner, &meta.reference(), &meta.opening(), terms) {
        Err(MatchError::Refused { notice, .. }) if notice.code == "unknown_audience" => {
            Err(MatchError::NotCommitted {
                name: meta.name.clone(),
            })
        }
        checked => checked,
    }
}

/// What is left of an owner's budget for an analyst, under an agreement's caps.
pub(super) fn budget_left(
    ledger: &dyn LedgerPort,
    terms: &ProposeAgreement,
    owner: &MemberId,
    epoch: u64,
    analyst: &MemberId,
) -> Result<BudgetCap, MatchError> {
    let left = |cap: BudgetCap, key: Vec<u8>| -> Result<BudgetCap, MatchError> {
        let held = state::budget(ledger, &key)?.held().unwrap_or(cap);
        Ok(cap.less(&held))
    };
    let epoch = left(terms.epoch_cap, keys::budget_epoch(owner, epoch))?;
    let lifetime = left(terms.lifetime_cap, keys::budget_lifetime(owner, analyst))?;
    Ok(BudgetCap {
        micro_rho: epoch.micro_rho.min(lifetime.micro_rho),
        delta: epoch.delta.min(lifetime.delta),
    })
}
