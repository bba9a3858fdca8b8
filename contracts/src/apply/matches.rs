//! Matches: opened by both, released by the responder, closed.

use tally_merkle::Hash;

use super::Call;
use super::agreements::{expect_status, party};
use super::budget::{Account, Step};
use crate::ids::{AgreementId, MemberId, SessionId};
use crate::records::{
    AudienceRef, Close, CloseMatch, Computation, MatchReceipt, OpenMatch, ProposeAgreement,
    ReleaseMatch,
};
use crate::refusal::{ApplyError, Refusal};
use crate::state::{
    self, AgreementState, AgreementStatus, MatchState, MatchStatus, StateRead, keys, read_count32,
};

/// How many epochs old a committed audience may be when a match is opened on it, so that one committed late in an epoch can
/// still be matched. What it costs counts for its own epoch.
const MAX_AUDIENCE_AGE: u64 = 1;

impl Call<'_> {
    pub(super) fn open_match(&mut self, body: &OpenMatch) -> Result<(), ApplyError> {
        if body.initiator == body.responder {
            return Err(Refusal::MatchSigners {
                expected: "two members",
            }
            .into());
        }
        self.both(&body.initiator, &body.responder)?;
        let mut agreement = self.usable(&body.agreement)?;
        let terms = agreement.terms.clone();
        party(&terms, body.initiator)?;
        party(&terms, body.responder)?;
        if !terms.computations.contains(&body.computation) {
            return Err(Refusal::Computation {
                computation: body.computation,
            }
            .into());
        }
        if body.computation == Computation::OverlapN {
            return Err(Refusal::Overlap {
                reason: "it is joined by every party, not opened by two",
            }
            .into());
        }
        if let (Computation::JoinSum, Some(sums)) = (body.computation, &terms.sums)
            && sums.label_side != body.initiator
        {
            return Err(Refusal::LabelSide {
                expected: sums.label_side,
                found: body.initiator,
            }
            .into());
        }
        // The table may have changed since the agreement was made.
        if !body.computation.suites().contains(&terms.suite) {
            return Err(Refusal::Suite {
                computation: body.computation,
                suite: terms.suite,
            }
            .into());
        }
        if state::match_state(&self.state, &body.session)?.is_some()
            || state::overlap(&self.state, &body.session)?.is_some()
        {
            return Err(Refusal::SessionUsed {
                session: body.session,
            }
            .into());
        }
        if agreement.matches >= terms.max_matches {
            return Err(Refusal::MatchLimit {
                max: terms.max_matches,
            }
            .into());
        }
        for (owner, audience) in [
            (body.initiator, &body.initiator_audience),
            (body.responder, &body.responder_audience),
        ] {
            self.check_audience(owner, audience, &terms)?;
            self.count_audience(&body.agreement, owner, audience, terms.max_audiences)?;
        }
        agreement.matches = agreement.matches.saturating_add(1);
        self.state.put(keys::agreement(&body.agreement), &agreement);
        let [charge, count_charge] = terms.charges(body.computation);
        let opened = MatchState {
            agreement: body.agreement,
            computation: body.computation,
            noise: terms.noise,
            charge,
            count_charge,
            initiator: body.initiator,
            responder: body.responder,
            initiator_audience: body.initiator_audience.clone(),
            responder_audience: body.responder_audience.clone(),
            status: MatchStatus::Open,
            record: self.id,
            opened_ms: self.ctx.block_time_ms,
            initiator_stream: Hash([0; 32]),
            receipt: Hash([0; 32]),
        };
        self.reserve(&accounts(&opened), &terms)?;
        self.state.put(keys::match_session(&body.session), &opened);
        Ok(())
    }

    pub(super) fn release_match(&mut self, body: &ReleaseMatch) -> Result<(), ApplyError> {
        let member = self.single()?;
        let mut m = self.opened(&body.session)?;
        if member != m.responder {
            return Err(Refusal::MatchSigners {
                expected: "the responder",
            }
            .into());
        }
        expect_match(&body.session, &m, MatchStatus::Open)?;
        // Revoked or ended meanwhile: nothing may be released any more.
        self.usable(&m.agreement)?;
        if body.initiator_stream == Hash([0; 32]) {
            return Err(Refusal::StreamDigest.into());
        }
        m.status = MatchStatus::Released;
        m.initiator_stream = body.initiator_stream;
        self.settle(&accounts(&m), Step::Spend)?;
        if m.computation == Computation::List {
            let key = keys::disclosed(&m.responder, m.responder_audience.epoch, &m.initiator);
            self.state.set(key, Some(Vec::new()));
        }
        self.state.put(keys::match_session(&body.session), &m);
        Ok(())
    }

    pub(super) fn close_match(&mut self, body: &CloseMatch) -> Result<(), ApplyError> {
        let mut m = self.opened(&body.session)?;
        match &body.close {
            Close::Done(receipt) => {
                self.both(&m.initiator, &m.responder)?;
                expect_match(&body.session, &m, MatchStatus::Released)?;
                check_receipt(receipt, &m)?;
                m.status = MatchStatus::Done;
                m.receipt = receipt.digest(&body.session);
            }
            Close::Failed | Close::Cancelled => {
                let member = self.single()?;
                if member != m.initiator && member != m.responder {
                    return Err(Refusal::MatchSigners {
                        expected: "one of its two members",
                    }
                    .into());
                }
                match m.status {
                    MatchStatus::Open => self.settle(&accounts(&m), Step::GiveBack)?,
                    MatchStatus::Released => {}
                    MatchStatus::Done | MatchStatus::Failed | MatchStatus::Cancelled => {
                        return Err(Refusal::MatchStatus {
                            session: body.session,
                            found: m.status,
                            expected: "open or released",
                        }
                        .into());
                    }
                }
                m.status = if body.close == Close::Failed {
                    MatchStatus::Failed
                } else {
                    MatchStatus::Cancelled
                };
            }
        }
        self.state.put(keys::match_session(&body.session), &m);
        Ok(())
    }

    /// Exactly two signers: the initiator, then the responder.
    fn both(&self, initiator: &MemberId, responder: &MemberId) -> Result<(), Refusal> {
        match self.record.signers() {
            [a, b] if a.member == *initiator && b.member == *responder => Ok(()),
            [_, _] => Err(Refusal::MatchSigners {
                expected: "the initiator, then the responder",
            }),
            other => Err(Refusal::SignerCount {
                kind: self.kind,
                expected: 2,
                found: other.len(),
            }),
        }
    }

    fn opened(&self, session: &SessionId) -> Result<MatchState, ApplyError> {
        Ok(state::match_state(&self.state, session)?
            .ok_or(Refusal::UnknownMatch { session: *session })?)
    }

    /// An agreement that is active and has not ended.
    pub(super) fn usable(&self, id: &AgreementId) -> Result<AgreementState, ApplyError> {
        let agreement = self.agreement(id)?;
        expect_status(id, &agreement, AgreementStatus::Active)?;
        self.not_expired(id, &agreement)?;
        Ok(agreement)
    }

    pub(super) fn check_audience(
        &self,
        owner: MemberId,
        brought: &AudienceRef,
        terms: &ProposeAgreement,
    ) -> Result<(), ApplyError> {
        let now = self.epoch();
        if brought.epoch > now || now - brought.epoch > MAX_AUDIENCE_AGE {
            return Err(Refusal::Epoch {
                expected: now,
                found: brought.epoch,
            }
            .into());
        }
        let committed = state::audience(&self.state, &owner, brought.epoch, &brought.label)?
            .ok_or(Refusal::UnknownAudience {
                owner,
                epoch: brought.epoch,
            })?;
        for (same, what) in [
            (committed.root == brought.root, "root"),
            (committed.size_bucket == brought.size_bucket, "size bucket"),
        ] {
            if !same {
                return Err(Refusal::AudienceMismatch { owner, what }.into());
            }
        }
        if committed.profile != terms.profile {
            return Err(Refusal::Profile {
                owner,
                expected: terms.profile,
                found: committed.profile,
            }
            .into());
        }
        let (least, most) = bucket_range(committed.size_bucket);
        if most < u128::from(terms.min_set_size) || least > u128::from(terms.max_set_size) {
            return Err(Refusal::SetSize {
                owner,
                bucket: committed.size_bucket,
                min: terms.min_set_size,
                max: terms.max_set_size,
            }
            .into());
        }
        Ok(())
    }

    /// Counts an audience the first time that matches of the agreement use it.
    pub(super) fn count_audience(
        &mut self,
        agreement: &AgreementId,
        owner: MemberId,
        audience: &AudienceRef,
        max: u32,
    ) -> Result<(), ApplyError> {
        let epoch = audience.epoch;
        let used = keys::audience_used(agreement, &owner, epoch, &audience.label);
        if self.state.get(&used)?.is_some() {
            return Ok(());
        }
        let key = keys::audience_count(agreement, &owner, epoch);
        let count = read_count32(&self.state, &key)?;
        if count >= max {
            return Err(Refusal::AudienceLimit { owner, epoch, max }.into());
        }
        self.state.set(used, Some(Vec::new()));
        self.state
            .set(key, Some(count.saturating_add(1).to_be_bytes().to_vec()));
        Ok(())
    }
}

/// Both owners, each with the other side as its analyst; in a `join_sum` the responder pays more: its people are counted besides.
fn accounts(m: &MatchState) -> [Account; 2] {
    [
        (m.initiator, m.initiator_audience.epoch, m.responder),
        (m.responder, m.responder_audience.epoch, m.initiator),
    ]
    .map(|(owner, epoch, analyst)| {
        let total = m.charge_of(&owner);
        Account {
            owner,
            epoch,
            total,
            learns: vec![(analyst, total)],
        }
    })
}

/// The sizes in a bucket, both ends included. The ledger knows no more, so it refuses only what is certainly out of bounds;
/// the two nodes check the exact size between them.
fn bucket_range(bucket: u8) -> (u128, u128) {
    match bucket {
        0 => (0, 1),
        b => {
            let half = 1_u128 << (b.min(64) - 1);
            (half + 1, half * 2)
        }
    }
}

fn expect_match(session: &SessionId, m: &MatchState, expected: MatchStatus) -> Result<(), Refusal> {
    if m.status == expected {
        Ok(())
    } else {
        Err(Refusal::MatchStatus {
            session: *session,
            found: m.status,
            expected: expected.name(),
        })
    }
}

fn check_receipt(receipt: &MatchReceipt, m: &MatchState) -> Result<(), Refusal> {
    let checks = [
        (receipt.computation == m.computation, "computation"),
        (receipt.noise == m.noise, "noise"),
        (
            receipt.initiator_bucket == m.initiator_audience.size_bucket,
            "initiator's size bucket",
        ),
        (
            receipt.responder_bucket == m.responder_audience.size_bucket,
            "responder's size bucket",
        ),
        (receipt.spent == m.charge, "budget spent"),
        (
            receipt.count_spent == m.count_charge,
            "budget that the responder spent besides",
        ),
        (
            receipt.initiator_stream == m.initiator_stream,
            "digest of the initiator's stream",
        ),
    ];
    match checks.into_iter().find(|(same, _)| !same) {
        None => Ok(()),
        Some((_, what)) => Err(Refusal::Receipt { what }),
    }
}
