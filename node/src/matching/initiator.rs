//! The side that asks.

use rand_core::{OsRng, RngCore};
use tally_contracts::ids::{AgreementId, AudienceLabel, MemberId, SessionId};
use tally_contracts::records::{
    Close, CloseMatch, Computation, MatchReceipt, OpenMatch, ProposeAgreement,
};
use tally_contracts::refusal::Refusal;
use tally_contracts::state::{self, MatchStatus};
use tally_merkle::Hash;
use tally_psi::{Outcome, Report};

use super::answer::Answer;
use super::desk::{Inner, MatchDesk, RunGuard};
use super::engine::Agreed;
use super::error::MatchError;
use super::messages::{Message, ReceiptOffer, Request};
use super::ports::{MatchIo, PeerIdentity};
use super::state::{HashText, MatchFile, MatchId, MatchView, Query, Role, Stage, Theirs};
use super::sums;
use super::terms;
use super::wire::{Wire, unexpected, within};
use crate::audiences::{AudienceKey, AudienceMeta};

/// What an analyst asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchRequest {
    /// The agreement.
    pub agreement: AgreementId,
    /// What to compute.
    pub computation: Computation,
    /// Name of the own audience; its newest set is brought.
    pub audience: String,
    /// The other member; may be left out in an agreement of two.
    pub peer: Option<MemberId>,
    /// The other member's audience, by the label in its CommitAudience record; left out, that member chooses.
    pub peer_audience: Option<AudienceLabel>,
}

/// A request that this node's own ledger allows.
struct Prepared {
    terms: ProposeAgreement,
    peer: MemberId,
    own: AudienceMeta,
}

impl MatchDesk {
    /// Asks for a match and waits for its end. The same query again gets the stored answer, free and without asking anybody.
    /// Dropping the future does not end the match.
    ///
    /// A match whose answer is there but whose receipt could not be signed is returned at stage [`Stage::Answered`], with the
    /// reason; [`MatchDesk::tidy`] asks for the receipt again.
    ///
    /// # Errors
    /// Any. The match is then listed with its reason, unless the own ledger does not allow it.
    pub async fn request(&self, request: MatchRequest) -> Result<MatchView, MatchError> {
        self.request_telling(request, |_| {}).await
    }

    /// As [`Self::request`]; `started` hears the match's ID as soon as it is listed, which a stored answer never gives.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_telling(
        &self,
        request: MatchRequest,
        started: impl FnOnce(MatchId) + Send + 'static,
    ) -> Result<MatchView, MatchError> {
        let inner = self.0.clone();
        tokio::spawn(async move { inner.request(&request, started).await })
            .await
            .map_err(|_| MatchError::Internal {
                what: "the task of a match died",
            })?
    }
}

impl Inner {
    async fn request(
        &self,
        request: &MatchRequest,
        started: impl FnOnce(MatchId) + Send,
    ) -> Result<MatchView, MatchError> {
        let prepared = self.prepare(request)?;
        let query = |theirs| Query {
            role: Role::Initiator,
            agreement: request.agreement,
            computation: request.computation,
            peer: prepared.peer,
            own: prepared.own.key,
            theirs,
        };
        let this_epoch = Theirs::Epoch(self.epoch()?, request.peer_audience);
        if let Some(stored) = self.store.answered(&query(this_epoch)) {
            return Ok(stored);
        }
        // One that broke goes on, under the release that it has.
        let broken = self.store.unfinished(&query(this_epoch));
        if let Some(file) = broken.filter(|f| self.may_resume(f)) {
            let id = file.view.id;
            if self.is_open(&file).await? {
                started(id);
                self.resume(&id).await?;
                return self.with_receipt(&id).await;
            }
            self.end(&id, &super::resume::not_resumable())?;
        }
        let mut nonce = [0; 32];
        OsRng.fill_bytes(&mut nonce);
        let id = MatchId::of(&nonce);
        let view = self.new_view(
            id,
            Role::Initiator,
            prepared.peer,
            request.agreement,
            request.computation,
            &prepared.own,
        );
        let guard = self.start(id)?;
        self.store.add(new_file(view, nonce))?;
        started(id);
        let agreed = async {
            let (stream, peer) = self.peers.open_stream(&prepared.peer).await?;
            if peer.member != prepared.peer {
                return Err(MatchError::Mismatch { what: "identity" });
            }
            let mut wire = self.wire(stream, peer, nonce, false);
            let agreed = self.ask(request, &prepared, &mut wire, nonce).await;
            if let Err(error) = &agreed {
                wire.refuse(error).await;
            }
            Ok((agreed?, wire))
        };
        let agreed = tokio::select! {
            biased;
            () = guard.cancel.cancelled() => Err(MatchError::Cancelled),
            agreed = agreed => agreed,
        };
        let (agreed, wire) = match agreed {
            Ok(agreed) => agreed,
            Err(error) => {
                self.end(&id, &error)?;
                return Err(error);
            }
        };
        let set = AudienceKey {
            label: agreed.theirs.label,
            epoch: agreed.theirs.epoch,
        };
        if let Some(stored) = self.store.answered(&query(Theirs::Set(set))) {
            let known =
                MatchError::decline("answered", format!("match {} has the answer", stored.id));
            let mut wire = wire;
            wire.refuse(&known).await;
            self.end(&id, &known)?;
            return Ok(stored);
        }
        self.open_and_run(&agreed, wire, &guard).await?;
        self.with_receipt(&id).await
    }

    /// Asks for the receipt of an answered match. Without it the answer stands all the same.
    async fn with_receipt(&self, id: &MatchId) -> Result<MatchView, MatchError> {
        if let Err(error) = self.receipt(id).await {
            tracing::warn!(%id, %error, "the receipt of a match is not signed yet");
            self.end(id, &error)?;
        }
        self.view(id)
    }

    pub(super) fn view(&self, id: &MatchId) -> Result<MatchView, MatchError> {
        let file = self
            .store
            .get(id)
            .ok_or(MatchError::UnknownMatch { id: *id })?;
        Ok(file.view)
    }

    /// Everything that this node can check before it asks.
    fn prepare(&self, request: &MatchRequest) -> Result<Prepared, MatchError> {
        let own = self.identity.member;
        let agreement = state::agreement(&*self.ledger, &request.agreement)?.ok_or(
            Refusal::UnknownAgreement {
                agreement: request.agreement,
            },
        )?;
        if !agreement.terms.parties.contains(&own) {
            return Err(Refusal::NotAParty { member: own }.into());
        }
        let others: Vec<_> = agreement
            .terms
            .parties
            .iter()
            .filter(|m| **m != own)
            .collect();
        let peer = match (request.peer, others.as_slice()) {
            (Some(peer), _) => peer,
            (None, [only]) => **only,
            (None, _) => {
                return Err(MatchError::decline(
                    "peer",
                    "the agreement has several other parties: say which one to match with",
                ));
            }
        };
        let terms = terms::allowed(
            &*self.ledger,
            &request.agreement,
            request.computation,
            &[own, peer],
        )?;
        self.check_noise(&terms, request.computation)?;
        let meta = self.audiences.latest(&request.audience)?;
        sums::check_holds(request.computation, Role::Initiator, &meta)?;
        terms::check_own(&*self.ledger, own, &meta, &terms)?;
        Ok(Prepared {
            terms,
            peer,
            own: meta,
        })
    }

    /// Request and answer.
    async fn ask(
        &self,
        request: &MatchRequest,
        prepared: &Prepared,
        wire: &mut Wire<'_>,
        nonce: [u8; 32],
    ) -> Result<Agreed, MatchError> {
        wire.send(&Message::Request(Request {
            agreement: request.agreement,
            computation: request.computation,
            audience: prepared.own.reference(),
            opening: prepared.own.opening(),
            peer_audience: request.peer_audience,
            nonce,
        }))
        .await?;
        let accept = match wire.receive("accept").await? {
            Message::Accept(accept) => accept,
            other => return unexpected("accept", &other),
        };
        if request
            .peer_audience
            .is_some_and(|label| label != accept.audience.label)
        {
            return Err(MatchError::Mismatch { what: "audience" });
        }
        self.patiently(|| {
            terms::check_audience(
                &*self.ledger,
                prepared.peer,
                &accept.audience,
                &accept.opening,
                &prepared.terms,
            )
        })
        .await?;
        let agreed = Agreed {
            id: MatchId::of(&nonce),
            role: Role::Initiator,
            peer: wire.peer,
            agreement: request.agreement,
            terms: prepared.terms.clone(),
            computation: request.computation,
            session: session(&nonce, &accept.nonce),
            own: prepared.own.clone(),
            theirs: accept.audience,
            their_size: accept.opening.size,
        };
        self.note_agreed(&agreed)?;
        Ok(agreed)
    }

    pub(super) fn wire(
        &self,
        stream: Box<dyn MatchIo>,
        peer: PeerIdentity,
        nonce: [u8; 32],
        opening: bool,
    ) -> Wire<'_> {
        Wire {
            stream,
            ledger: &*self.ledger,
            own: self.identity.member,
            peer,
            key: &self.identity.records,
            step: self.options.step,
            nonce,
            opening,
        }
    }

    pub(super) fn new_view(
        &self,
        id: MatchId,
        role: Role,
        peer: MemberId,
        agreement: AgreementId,
        computation: Computation,
        own: &AudienceMeta,
    ) -> MatchView {
        MatchView {
            id,
            role,
            peer,
            agreement,
            computation,
            audience: own.name.clone(),
            own: own.key,
            own_size: own.size,
            own_rows_dropped: own.report.dropped_rows(),
            own_rows_repeated: own.report.duplicates.count,
            theirs: None,
            their_bucket: None,
            session: None,
            stage: Stage::Requested,
            reason: None,
            noise: None,
            answer: None,
            budget_left_micro_rho: None,
            open_record: None,
            release_record: None,
            close_record: None,
            started_ms: self.ledger.time_ms(),
            ended_ms: None,
        }
    }

    pub(super) fn note_agreed(&self, agreed: &Agreed) -> Result<(), MatchError> {
        self.store.update(&agreed.id, |f| {
            f.view.stage = Stage::Accepted;
            f.view.session = Some(agreed.session);
            f.view.theirs = Some(AudienceKey {
                label: agreed.theirs.label,
                epoch: agreed.theirs.epoch,
            });
            f.view.their_bucket = Some(agreed.theirs.size_bucket);
            f.their_size = Some(agreed.their_size);
        })?;
        Ok(())
    }

    /// From the agreed match to the stored answer: OpenMatch, then the protocol. Ends the match if it breaks.
    pub(super) async fn open_and_run(
        &self,
        agreed: &Agreed,
        wire: Wire<'_>,
        guard: &RunGuard<'_>,
    ) -> Result<(), MatchError> {
        let done = self.try_open_and_run(agreed, wire, guard).await;
        if let Err(error) = &done {
            self.broke(&agreed.id, error).await?;
        }
        done
    }

    async fn try_open_and_run(
        &self,
        agreed: &Agreed,
        mut wire: Wire<'_>,
        guard: &RunGuard<'_>,
    ) -> Result<(), MatchError> {
        let body = open_body(agreed, self.identity.member).into();
        let note = |id, valid_until_ms| {
            self.store.update(&agreed.id, |f| {
                f.view.stage = Stage::Opening;
                f.view.open_record = Some(id);
                f.unsettled_until_ms = Some(valid_until_ms);
            })?;
            Ok(())
        };
        let open = async {
            match agreed.role {
                Role::Initiator => wire.cosign(&body, &self.options, &note).await,
                Role::Responder => wire.countersign(&body, &self.options, &note).await,
            }
        };
        let opened = tokio::select! {
            biased;
            () = guard.cancel.cancelled() => Err(MatchError::Cancelled),
            opened = open => opened,
        };
        if let Err(error) = opened {
            wire.refuse(&error).await;
            return Err(error);
        }
        self.store
            .update(&agreed.id, |f| f.view.stage = Stage::Open)?;
        let report = self
            .run_protocol(agreed, wire.stream, &guard.cancel)
            .await?;
        self.note_answer(agreed, report)
    }

    /// Stores what the protocol published, thresholded; the match is then answered, with or without a receipt.
    pub(super) fn note_answer(&self, agreed: &Agreed, report: Report) -> Result<(), MatchError> {
        let min = agreed.terms.min_result;
        let answer = match report.outcome {
            Outcome::Published { value } => Answer::count(value, min),
            Outcome::Served => Answer::Served,
            Outcome::Sums { values } => sums::answer(&agreed.terms, &values)?,
            Outcome::Listed { rows } if rows < min => Answer::FewerThan { min },
            Outcome::Listed { rows } => Answer::Listed { rows },
            Outcome::Matched { rows } if (rows.len() as u64) < min => Answer::FewerThan { min },
            Outcome::Matched { rows } => {
                self.store.write_rows(&agreed.id, &rows)?;
                Answer::Listed {
                    rows: rows.len() as u64,
                }
            }
        };
        let too_few = matches!(answer, Answer::FewerThan { .. });
        let own = self.identity.member;
        let left = terms::budget_left(
            &*self.ledger,
            &agreed.terms,
            &own,
            agreed.own.key.epoch,
            &agreed.peer.member,
        )?;
        let mut salt = [0; 32];
        OsRng.fill_bytes(&mut salt);
        self.store.update(&agreed.id, |f| {
            f.view.stage = Stage::Answered;
            f.view.answer = Some(answer);
            f.view.budget_left_micro_rho = Some(left.micro_rho);
            f.streams = Some(report.statement.streams.map(HashText::of));
            if agreed.role == Role::Initiator {
                f.result_salt = Some(HashText::of(salt));
            }
        })?;
        // Only now: without rows and answer a list that is finished on the other side could not go on.
        if too_few {
            self.journal(agreed.id).forget_rows()?;
        }
        Ok(())
    }

    /// Has the receipt of an answered match signed by both and committed, over a stream of its own.
    pub(super) async fn receipt(&self, id: &MatchId) -> Result<MatchView, MatchError> {
        let file = self
            .store
            .get(id)
            .ok_or(MatchError::UnknownMatch { id: *id })?;
        let (Some(session), Some(salt), Some(answer)) =
            (file.view.session, file.result_salt, &file.view.answer)
        else {
            return Err(MatchError::Internal {
                what: "a receipt for a match without an answer",
            });
        };
        let salt = salt.0.0;
        let result = answer
            .commitment(&session, &salt)
            .ok_or(MatchError::Internal {
                what: "a receipt for an answer that is not known",
            })?;
        let body = self.receipt_body(&file, session, result).await?;
        let (stream, peer) = self.peers.open_stream(&file.view.peer).await?;
        if peer.member != file.view.peer {
            return Err(MatchError::Mismatch { what: "identity" });
        }
        let mut wire = self.wire(stream, peer, file.nonce.0, false);
        wire.send(&Message::Receipt(ReceiptOffer {
            nonce: file.nonce.0,
            salt,
            result,
        }))
        .await?;
        let signed = wire
            .cosign(&body.into(), &self.options, &|_, _| Ok(()))
            .await;
        match signed {
            Ok(record) => self.done(id, record),
            Err(error) => {
                wire.refuse(&error).await;
                // The responder submits it too: it may be there.
                self.settle(id).await?;
                let view = self.view(id)?;
                if view.stage == Stage::Done {
                    Ok(view)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// The CloseMatch that both sides derive alike from the ledger and the streams that they saw.
    pub(super) async fn receipt_body(
        &self,
        file: &MatchFile,
        session: SessionId,
        result: Hash,
    ) -> Result<CloseMatch, MatchError> {
        let Some([initiator_stream, responder_stream]) = file.streams else {
            return Err(MatchError::Internal {
                what: "a receipt for streams that are not known",
            });
        };
        // The release is in the responder's ledger; it may not be in this one yet.
        let released = async {
            loop {
                match state::match_state(&*self.ledger, &session)? {
                    Some(m) if m.status == MatchStatus::Open => {
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                    Some(m) => return Ok(m),
                    None => return Err(MatchError::from(Refusal::UnknownMatch { session })),
                }
            }
        };
        let m = within(self.options.commit, "the release", released).await??;
        if m.initiator_stream != initiator_stream.0 {
            return Err(MatchError::Mismatch {
                what: "released stream",
            });
        }
        Ok(CloseMatch {
            session,
            close: Close::Done(MatchReceipt {
                computation: m.computation,
                noise: m.noise,
                initiator_bucket: m.initiator_audience.size_bucket,
                responder_bucket: m.responder_audience.size_bucket,
                spent: m.charge,
                count_spent: m.count_charge,
                result,
                initiator_stream: initiator_stream.0,
                responder_stream: responder_stream.0,
            }),
        })
    }
}

pub(super) fn session(initiator_nonce: &[u8; 32], responder_nonce: &[u8; 32]) -> SessionId {
    SessionId(tally_psi::session_id(initiator_nonce, responder_nonce))
}

pub(super) fn new_file(view: MatchView, nonce: [u8; 32]) -> MatchFile {
    MatchFile {
        view,
        nonce: Hash(nonce),
        unsettled_until_ms: None,
        streams: None,
        result_salt: None,
        session_seed: None,
        earlier_seeds: Vec::new(),
        their_size: None,
        in_buckets: false,
    }
}

fn open_body(agreed: &Agreed, own: MemberId) -> OpenMatch {
    let (initiator, responder) = agreed.by_role(own, agreed.peer.member);
    let (initiator_audience, responder_audience) =
        agreed.by_role(agreed.own.reference(), agreed.theirs.clone());
    OpenMatch {
        agreement: agreed.agreement,
        computation: agreed.computation,
        session: agreed.session,
        initiator,
        responder,
        initiator_audience,
        responder_audience,
    }
}
