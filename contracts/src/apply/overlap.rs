//! Overlaps of several parties: joined by each, released and closed by the helper, confirmed by each.

use tally_merkle::Hash;

use super::Call;
use super::agreements::party;
use super::budget::{Account, Step};
use crate::ids::{MemberId, SessionId};
use crate::records::{
    CloseOverlap, Computation, ConfirmOverlap, JoinOverlap, OverlapClose, OverlapReceipt,
    ProposeAgreement, ReleaseOverlap,
};
use crate::refusal::{ApplyError, Refusal};
use crate::state::{self, MatchStatus, OverlapParty, OverlapState, keys};

impl Call<'_> {
    pub(super) fn join_overlap(&mut self, body: &JoinOverlap) -> Result<(), ApplyError> {
        let member = self.single()?;
        let mut agreement = self.usable(&body.agreement)?;
        let terms = agreement.terms.clone();
        party(&terms, member)?;
        let mut overlap = match state::overlap(&self.state, &body.session)? {
            Some(overlap) => {
                if overlap.agreement != body.agreement {
                    return Err(used(body.session));
                }
                overlap
            }
            None => {
                if state::match_state(&self.state, &body.session)?.is_some() {
                    return Err(used(body.session));
                }
                let overlap = self.new_overlap(body, &terms)?;
                if agreement.matches >= terms.max_matches {
                    return Err(Refusal::MatchLimit {
                        max: terms.max_matches,
                    }
                    .into());
                }
                agreement.matches = agreement.matches.saturating_add(1);
                self.state.put(keys::agreement(&body.agreement), &agreement);
                overlap
            }
        };
        expect(&body.session, &overlap, MatchStatus::Open)?;
        let place = overlap
            .parties
            .iter_mut()
            .find(|p| p.member == member)
            .ok_or(Refusal::NotAParty { member })?;
        if place.audience.is_some() {
            return Err(Refusal::Overlap {
                reason: "the party has joined",
            }
            .into());
        }
        place.audience = Some(body.audience.clone());
        self.check_audience(member, &body.audience, &terms)?;
        self.count_audience(&body.agreement, member, &body.audience, terms.max_audiences)?;
        self.reserve(&[account(&overlap, &member, body.audience.epoch)], &terms)?;
        self.state
            .put(keys::overlap_session(&body.session), &overlap);
        Ok(())
    }

    fn new_overlap(
        &self,
        body: &JoinOverlap,
        terms: &ProposeAgreement,
    ) -> Result<OverlapState, ApplyError> {
        let Some((helper, agreed)) = terms.overlap.as_ref().and_then(|o| Some((o.helper?, o)))
        else {
            return Err(Refusal::Computation {
                computation: Computation::OverlapN,
            }
            .into());
        };
        // It may have left since.
        if state::member(&self.state, &helper)?.is_none() {
            return Err(Refusal::UnknownMember { member: helper }.into());
        }
        let [charge, helper_charge] = terms.charges(Computation::OverlapN);
        Ok(OverlapState {
            agreement: body.agreement,
            noise: terms.noise,
            regions: agreed.regions,
            charge,
            helper_charge,
            parties: terms
                .parties
                .iter()
                .map(|member| OverlapParty {
                    member: *member,
                    audience: None,
                    confirmed: false,
                })
                .collect(),
            helper,
            status: MatchStatus::Open,
            record: self.id,
            opened_ms: self.ctx.block_time_ms,
            streams: Vec::new(),
            receipt: Hash([0; 32]),
        })
    }

    pub(super) fn release_overlap(&mut self, body: &ReleaseOverlap) -> Result<(), ApplyError> {
        let mut overlap = self.overlap_by_helper(&body.session)?;
        expect(&body.session, &overlap, MatchStatus::Open)?;
        // Revoked or ended meanwhile: nothing may be released any more.
        self.usable(&overlap.agreement)?;
        if !overlap.all_joined() {
            return Err(Refusal::Overlap {
                reason: "not every party has joined",
            }
            .into());
        }
        if body.streams.len() != overlap.parties.len() {
            return Err(Refusal::Overlap {
                reason: "a release has a digest for each party",
            }
            .into());
        }
        if body.streams.contains(&Hash([0; 32])) {
            return Err(Refusal::StreamDigest.into());
        }
        overlap.streams.clone_from(&body.streams);
        overlap.status = MatchStatus::Released;
        self.settle(&accounts(&overlap), Step::Spend)?;
        self.state
            .put(keys::overlap_session(&body.session), &overlap);
        Ok(())
    }

    pub(super) fn close_overlap(&mut self, body: &CloseOverlap) -> Result<(), ApplyError> {
        let overlap = match &body.close {
            OverlapClose::Done(receipt) => {
                let mut overlap = self.overlap_by_helper(&body.session)?;
                expect(&body.session, &overlap, MatchStatus::Released)?;
                if overlap.has_receipt() {
                    return Err(Refusal::Overlap {
                        reason: "the receipt is there",
                    }
                    .into());
                }
                check_receipt(receipt, &overlap)?;
                overlap.receipt = receipt.digest(&body.session);
                overlap
            }
            OverlapClose::Failed | OverlapClose::Cancelled => {
                let member = self.single()?;
                let mut overlap = self.known_overlap(&body.session)?;
                if overlap.place(&member).is_none() && member != overlap.helper {
                    return Err(Refusal::MatchSigners {
                        expected: "one of its parties or the helper",
                    }
                    .into());
                }
                match overlap.status {
                    MatchStatus::Open => self.settle(&accounts(&overlap), Step::GiveBack)?,
                    MatchStatus::Released if !overlap.has_receipt() => {}
                    found => {
                        return Err(Refusal::MatchStatus {
                            session: body.session,
                            found,
                            expected: "open, or released without a receipt",
                        }
                        .into());
                    }
                }
                overlap.status = if body.close == OverlapClose::Failed {
                    MatchStatus::Failed
                } else {
                    MatchStatus::Cancelled
                };
                overlap
            }
        };
        self.state
            .put(keys::overlap_session(&body.session), &overlap);
        Ok(())
    }

    pub(super) fn confirm_overlap(&mut self, body: &ConfirmOverlap) -> Result<(), ApplyError> {
        let member = self.single()?;
        let mut overlap = self.known_overlap(&body.session)?;
        expect(&body.session, &overlap, MatchStatus::Released)?;
        if !overlap.has_receipt() || overlap.receipt != body.receipt {
            return Err(Refusal::Receipt { what: "digest" }.into());
        }
        let place = overlap
            .parties
            .iter_mut()
            .find(|p| p.member == member)
            .ok_or(Refusal::MatchSigners {
                expected: "one of its parties",
            })?;
        if place.confirmed {
            return Err(Refusal::Overlap {
                reason: "the party has confirmed",
            }
            .into());
        }
        place.confirmed = true;
        if overlap.parties.iter().all(|p| p.confirmed) {
            overlap.status = MatchStatus::Done;
        }
        self.state
            .put(keys::overlap_session(&body.session), &overlap);
        Ok(())
    }

    fn known_overlap(&self, session: &SessionId) -> Result<OverlapState, ApplyError> {
        Ok(state::overlap(&self.state, session)?
            .ok_or(Refusal::UnknownMatch { session: *session })?)
    }

    /// An overlap whose helper is the record's only signer.
    fn overlap_by_helper(&self, session: &SessionId) -> Result<OverlapState, ApplyError> {
        let member = self.single()?;
        let overlap = self.known_overlap(session)?;
        if member == overlap.helper {
            return Ok(overlap);
        }
        Err(Refusal::MatchSigners {
            expected: "the helper",
        }
        .into())
    }
}

fn used(session: SessionId) -> ApplyError {
    Refusal::SessionUsed { session }.into()
}

fn expect(
    session: &SessionId,
    overlap: &OverlapState,
    expected: MatchStatus,
) -> Result<(), Refusal> {
    if overlap.status == expected {
        return Ok(());
    }
    Err(Refusal::MatchStatus {
        session: *session,
        found: overlap.status,
        expected: expected.name(),
    })
}

/// What a party pays: to every other party for the count, to the helper for its view. The count is one answer, whoever gets it, so
/// the epoch is charged once for it.
fn account(overlap: &OverlapState, owner: &MemberId, epoch: u64) -> Account {
    let mut learns: Vec<_> = overlap
        .parties
        .iter()
        .filter(|p| p.member != *owner)
        .map(|p| (p.member, overlap.charge))
        .collect();
    learns.push((overlap.helper, overlap.helper_charge));
    Account {
        owner: *owner,
        epoch,
        total: overlap.charge.saturating_plus(&overlap.helper_charge),
        learns,
    }
}

/// Of every party that has joined.
fn accounts(overlap: &OverlapState) -> Vec<Account> {
    overlap
        .parties
        .iter()
        .filter_map(|p| Some(account(overlap, &p.member, p.audience.as_ref()?.epoch)))
        .collect()
}

fn check_receipt(receipt: &OverlapReceipt, overlap: &OverlapState) -> Result<(), Refusal> {
    let buckets = overlap
        .parties
        .iter()
        .filter_map(|p| p.audience.as_ref().map(|a| a.size_bucket));
    let checks = [
        (receipt.noise == overlap.noise, "noise"),
        (
            receipt.regions == overlap.regions,
            "noise against the helper",
        ),
        (buckets.eq(receipt.buckets.iter().copied()), "size buckets"),
        (receipt.spent == overlap.charge, "budget spent"),
        (
            receipt.helper_spent == overlap.helper_charge,
            "budget spent for the helper's view",
        ),
        (receipt.streams == overlap.streams, "digests of the lists"),
    ];
    match checks.into_iter().find(|(same, _)| !same) {
        None => Ok(()),
        Some((_, what)) => Err(Refusal::Receipt { what }),
    }
}
