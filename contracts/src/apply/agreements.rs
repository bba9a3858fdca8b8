//! Agreements and audiences.

use super::Call;
use crate::genesis::NetworkKind;
use crate::ids::{AgreementId, MemberId};
use crate::records::{
    AcceptAgreement, CommitAudience, DELTA_ONE, JoinSumTerms, Noise, ProposeAgreement,
    RevokeAgreement,
};
use crate::refusal::{ApplyError, Refusal};
use crate::state::{self, AgreementState, AgreementStatus, AudienceState, keys};

impl Call<'_> {
    pub(super) fn propose_agreement(&mut self, body: &ProposeAgreement) -> Result<(), ApplyError> {
        let proposer = self.single()?;
        party(body, proposer)?;
        for member in &body.parties {
            if state::member(&self.state, member)?.is_none() {
                return Err(Refusal::UnknownMember { member: *member }.into());
            }
        }
        check_terms(body, self.ctx.block_time_ms)?;
        if let Some(overlap) = &body.overlap {
            let helper = overlap.verify(&body.parties, &body.noise)?;
            if state::member(&self.state, &helper)?.is_none() {
                return Err(Refusal::UnknownMember { member: helper }.into());
            }
        }
        if let Some(sums) = &body.sums
            && !body.parties.contains(&sums.label_side)
        {
            return Err(Refusal::NotAParty {
                member: sums.label_side,
            }
            .into());
        }
        if !body.noises_agree() {
            return Err(Refusal::Terms {
                what: "noise of sums",
                found: u64::from(body.noise == Noise::None),
                expected: "none where counts have none, and some where they have some",
            }
            .into());
        }
        let live = state::network_info(&self.state)?.kind == NetworkKind::Live;
        for computation in &body.computations {
            if !computation.suites().contains(&body.suite) {
                return Err(Refusal::Suite {
                    computation: *computation,
                    suite: body.suite,
                }
                .into());
            }
            if live && computation.is_noised() && body.noise == Noise::None {
                return Err(Refusal::Noise {
                    computation: *computation,
                }
                .into());
            }
        }
        let agreement = AgreementState {
            terms: body.clone(),
            proposer,
            accepted: vec![proposer],
            status: AgreementStatus::Proposed,
            matches: 0,
            proposed_ms: self.ctx.block_time_ms,
        };
        self.state.put(keys::agreement(&self.id), &agreement);
        Ok(())
    }

    pub(super) fn accept_agreement(&mut self, body: &AcceptAgreement) -> Result<(), ApplyError> {
        let member = self.single()?;
        let mut agreement = self.agreement(&body.agreement)?;
        consents(&agreement.terms, member)?;
        expect_status(&body.agreement, &agreement, AgreementStatus::Proposed)?;
        self.not_expired(&body.agreement, &agreement)?;
        let Err(place) = agreement.accepted.binary_search(&member) else {
            return Err(Refusal::AlreadyAccepted { member }.into());
        };
        agreement.accepted.insert(place, member);
        if agreement.accepted == agreement.terms.consenting() {
            agreement.status = AgreementStatus::Active;
        }
        self.state.put(keys::agreement(&body.agreement), &agreement);
        Ok(())
    }

    pub(super) fn revoke_agreement(&mut self, body: &RevokeAgreement) -> Result<(), ApplyError> {
        let member = self.single()?;
        let mut agreement = self.agreement(&body.agreement)?;
        consents(&agreement.terms, member)?;
        if agreement.status == AgreementStatus::Revoked {
            return Err(Refusal::AgreementStatus {
                agreement: body.agreement,
                found: agreement.status,
                expected: AgreementStatus::Active,
            }
            .into());
        }
        agreement.status = AgreementStatus::Revoked;
        self.state.put(keys::agreement(&body.agreement), &agreement);
        Ok(())
    }

    pub(super) fn commit_audience(&mut self, body: &CommitAudience) -> Result<(), ApplyError> {
        let owner = self.single()?;
        let expected = self.epoch();
        if body.epoch != expected {
            return Err(Refusal::Epoch {
                expected,
                found: body.epoch,
            }
            .into());
        }
        if state::audience(&self.state, &owner, body.epoch, &body.label)?.is_some() {
            return Err(Refusal::AudienceCommitted { epoch: body.epoch }.into());
        }
        let audience = AudienceState {
            root: body.root,
            size_bucket: body.size_bucket,
            profile: body.profile,
            record: self.id,
        };
        self.state
            .put(keys::audience(&owner, body.epoch, &body.label), &audience);
        Ok(())
    }

    pub(super) fn agreement(&self, id: &AgreementId) -> Result<AgreementState, ApplyError> {
        Ok(state::agreement(&self.state, id)?
            .ok_or(Refusal::UnknownAgreement { agreement: *id })?)
    }

    pub(super) fn not_expired(
        &self,
        id: &AgreementId,
        agreement: &AgreementState,
    ) -> Result<(), Refusal> {
        if agreement.terms.expires_ms > self.ctx.block_time_ms {
            return Ok(());
        }
        Err(Refusal::AgreementExpired {
            agreement: *id,
            expires_ms: agreement.terms.expires_ms,
            block_time_ms: self.ctx.block_time_ms,
        })
    }
}

pub(super) fn party(terms: &ProposeAgreement, member: MemberId) -> Result<(), Refusal> {
    if terms.parties.contains(&member) {
        Ok(())
    } else {
        Err(Refusal::NotAParty { member })
    }
}

/// A party, or the helper.
fn consents(terms: &ProposeAgreement, member: MemberId) -> Result<(), Refusal> {
    if terms.consenting().contains(&member) {
        Ok(())
    } else {
        Err(Refusal::NotAParty { member })
    }
}

pub(super) fn expect_status(
    id: &AgreementId,
    agreement: &AgreementState,
    expected: AgreementStatus,
) -> Result<(), Refusal> {
    if agreement.status == expected {
        Ok(())
    } else {
        Err(Refusal::AgreementStatus {
            agreement: *id,
            found: agreement.status,
            expected,
        })
    }
}

/// Terms that contradict themselves, or could never be used.
fn check_terms(terms: &ProposeAgreement, block_time_ms: u64) -> Result<(), Refusal> {
    // Nothing where nothing is counted.
    let charge = terms.largest_charge();
    let checks = [
        (
            terms.min_set_size >= 1,
            "smallest set",
            terms.min_set_size,
            "at least 1",
        ),
        (
            terms.max_set_size >= terms.min_set_size,
            "largest set",
            terms.max_set_size,
            "at least the smallest set",
        ),
        (
            terms.max_audiences >= 1,
            "audiences",
            terms.max_audiences.into(),
            "at least 1",
        ),
        (
            terms.max_matches >= 1,
            "matches",
            terms.max_matches.into(),
            "at least 1",
        ),
        (
            terms.expires_ms > block_time_ms,
            "expiry",
            terms.expires_ms,
            "a time after the block's",
        ),
        (
            terms.epoch_cap.delta <= DELTA_ONE,
            "epoch cap of delta",
            terms.epoch_cap.delta,
            "at most 2^60",
        ),
        (
            terms.lifetime_cap.delta <= DELTA_ONE,
            "lifetime cap of delta",
            terms.lifetime_cap.delta,
            "at most 2^60",
        ),
        (
            charge.fits(&terms.epoch_cap),
            "epoch cap of micro-rho",
            terms.epoch_cap.micro_rho,
            "enough for one match, in rho and delta",
        ),
        (
            charge.fits(&terms.lifetime_cap),
            "lifetime cap of micro-rho",
            terms.lifetime_cap.micro_rho,
            "enough for one match, in rho and delta",
        ),
    ];
    match checks.into_iter().find(|(right, ..)| !right) {
        None => terms.sums.as_ref().map_or(Ok(()), JoinSumTerms::verify),
        Some((_, what, found, expected)) => Err(Refusal::Terms {
            what,
            found,
            expected,
        }),
    }
}
