//! The side that answers.

use rand_core::{OsRng, RngCore};
use tally_contracts::ids::AudienceLabel;
use tally_contracts::state;

use super::desk::{Inner, MatchDesk};
use super::engine::Agreed;
use super::error::MatchError;
use super::initiator::{new_file, session};
use super::messages::{Accept, Message, ReceiptOffer, Request};
use super::overlap::OverlapView;
use super::policy::{Inquiry, declined};
use super::ports::{MatchIo, PeerIdentity};
use super::state::{MatchFile, MatchId, MatchView, Role, Stage};
use super::sums;
use super::terms;
use super::wire::{Wire, unexpected};
use crate::audiences::AudienceMeta;

/// How many epochs old a set may be; as the contract has it.
const MAX_AUDIENCE_AGE: u64 = 1;

/// What a served stream was about.
#[derive(Debug)]
pub enum Served {
    /// A match of two, as it then stands.
    Match(Box<MatchView>),
    /// An overlap, as it then stands.
    Overlap(Box<OverlapView>),
    /// A stream of an overlap, which was handed over to it.
    Link,
}

impl Served {
    fn of(view: MatchView) -> Self {
        Self::Match(Box::new(view))
    }
}

impl MatchDesk {
    /// Serves one stream that another member's node has opened: a match, or the receipt of one, or a part of an overlap. Returns the
    /// match as it then stands.
    ///
    /// # Errors
    /// Any; the peer has been told a reason if it still listens. A match that was accepted is listed with its reason.
    pub async fn serve(
        &self,
        stream: Box<dyn MatchIo>,
        peer: PeerIdentity,
    ) -> Result<Served, MatchError> {
        let inner = &self.0;
        let mut wire = inner.wire(stream, peer, [0; 32], true);
        // A refusal has to be bound to the request that it refuses; the swarm bounds how many streams a peer may have.
        let first = wire.receive("request").await;
        // Part of a match that has its slot.
        if let Ok(Message::Bucket { nonce, bucket }) = first {
            return inner
                .serve_bucket(nonce, bucket, wire)
                .await
                .map(Served::of);
        }
        if let Ok(Message::Link { nonce }) = first {
            return inner.take_link(nonce, wire).await.map(|()| Served::Link);
        }
        let Ok(_slot) = inner.answering.try_acquire() else {
            let busy = MatchError::decline("busy", "this node answers as many matches as it may");
            wire.refuse(&busy).await;
            return Err(busy);
        };
        let done = match first {
            Ok(Message::Request(request)) => {
                return inner.answer(request, wire).await.map(Served::of);
            }
            Ok(Message::Resume { nonce }) => return inner.go_on(nonce, wire).await.map(Served::of),
            Ok(Message::Invite(invite)) => {
                let view = inner.attend(invite, wire).await?;
                return Ok(Served::Overlap(Box::new(view)));
            }
            Ok(Message::Receipt(offer)) => inner.sign_receipt(&offer, &mut wire).await,
            Ok(other) => unexpected("request", &other),
            Err(error) => Err(error),
        };
        if let Err(error) = &done {
            wire.refuse(error).await;
        }
        done.map(Served::of)
    }
}

impl Inner {
    async fn answer(&self, request: Request, mut wire: Wire<'_>) -> Result<MatchView, MatchError> {
        let id = MatchId::of(&request.nonce);
        let guard = match self.start(id) {
            Ok(guard) => guard,
            Err(used) => {
                wire.refuse(&used).await;
                return Err(used);
            }
        };
        let agreed = match self.accept(&request, &mut wire).await {
            Ok(agreed) => agreed,
            Err(error) => {
                wire.refuse(&error).await;
                if self
                    .store
                    .get(&id)
                    .is_some_and(|f| f.view.stage == Stage::Accepted)
                {
                    self.end(&id, &error)?;
                }
                return Err(error);
            }
        };
        self.open_and_run(&agreed, wire, &guard).await?;
        self.view(&agreed.id)
    }

    /// Checks a request, chooses what to bring, and accepts.
    async fn accept(&self, request: &Request, wire: &mut Wire<'_>) -> Result<Agreed, MatchError> {
        let (own, peer) = (self.identity.member, wire.peer);
        let terms = self
            .patiently(|| {
                let members = [peer.member, own];
                let terms = terms::allowed(
                    &*self.ledger,
                    &request.agreement,
                    request.computation,
                    &members,
                )?;
                let (audience, opening) = (&request.audience, &request.opening);
                terms::check_audience(&*self.ledger, peer.member, audience, opening, &terms)?;
                Ok(terms)
            })
            .await?;
        self.check_noise(&terms, request.computation)?;
        let inquiry = Inquiry {
            agreement: &request.agreement,
            terms: &terms,
            computation: request.computation,
            initiator: peer.member,
            initiator_bucket: request.audience.size_bucket,
        };
        let meta = self.chosen(request.peer_audience, &inquiry)?;
        let mut nonce = [0; 32];
        OsRng.fill_bytes(&mut nonce);
        let agreed = Agreed {
            id: MatchId::of(&request.nonce),
            role: Role::Responder,
            peer,
            agreement: request.agreement,
            terms,
            computation: request.computation,
            session: session(&request.nonce, &nonce),
            own: meta,
            theirs: request.audience.clone(),
            their_size: request.opening.size,
        };
        let view = self.new_view(
            agreed.id,
            Role::Responder,
            peer.member,
            request.agreement,
            request.computation,
            &agreed.own,
        );
        if !self.store.add(new_file(view, request.nonce))? {
            return Err(MatchError::decline(
                "nonce_used",
                "the request's nonce was used",
            ));
        }
        self.note_agreed(&agreed)?;
        wire.send(&Message::Accept(Accept {
            audience: agreed.own.reference(),
            opening: agreed.own.opening(),
            nonce,
        }))
        .await?;
        Ok(agreed)
    }

    /// Own sets that a request and its agreement allow, of the audience that it names if it does, the newest epoch first.
    fn candidates(
        &self,
        named: Option<AudienceLabel>,
        inquiry: &Inquiry<'_>,
    ) -> Result<Vec<AudienceMeta>, MatchError> {
        let (own, epoch) = (self.identity.member, self.epoch()?);
        let mut fitting = Vec::new();
        for meta in self.audiences.list()? {
            let key = meta.key;
            let recent = key.epoch <= epoch && epoch - key.epoch <= MAX_AUDIENCE_AGE;
            let named = named.is_none_or(|label| label == key.label);
            if !recent
                || !named
                || sums::check_holds(inquiry.computation, Role::Responder, &meta).is_err()
                || terms::check_own_size(own, &meta, inquiry.terms).is_err()
                || state::audience(&*self.ledger, &own, key.epoch, &key.label)?.is_none()
            {
                continue;
            }
            let (reference, opening) = (meta.reference(), meta.opening());
            match terms::check_audience(&*self.ledger, own, &reference, &opening, inquiry.terms) {
                Ok(()) => fitting.push(meta),
                Err(MatchError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        fitting.sort_by_key(|m| std::cmp::Reverse(m.key.epoch));
        Ok(fitting)
    }

    /// The set that the policy brings to a request.
    pub(super) fn chosen(
        &self,
        named: Option<AudienceLabel>,
        inquiry: &Inquiry<'_>,
    ) -> Result<AudienceMeta, MatchError> {
        let candidates = self.candidates(named, inquiry)?;
        let chosen = self.policy.choose(inquiry, &candidates).map_err(declined)?;
        let meta = candidates.into_iter().find(|m| m.key == chosen);
        meta.ok_or(MatchError::Internal {
            what: "a policy that chose what it was not offered",
        })
    }

    /// Signs the receipt of a match that this node has answered.
    async fn sign_receipt(
        &self,
        offer: &ReceiptOffer,
        wire: &mut Wire<'_>,
    ) -> Result<MatchView, MatchError> {
        let id = MatchId::of(&offer.nonce);
        let peer = wire.peer.member;
        let noted = || {
            let file = self.store.get(&id).filter(|f| {
                f.view.role == Role::Responder && f.view.peer == peer && f.nonce.0 == offer.nonce
            });
            // The initiator may hold its answer a moment before this side has noted its own.
            let is_early = |f: &MatchFile| f.view.answer.is_none() && !f.view.stage.is_final();
            if file.as_ref().is_some_and(is_early) {
                let reason = "the match has no answer yet";
                return Err(MatchError::decline("unanswered", reason));
            }
            Ok(file)
        };
        let Some(file) = self.patiently(noted).await? else {
            return Err(MatchError::decline(
                "unknown_match",
                "there is no such match",
            ));
        };
        let (Stage::Answered, Some(session), Some(answer)) =
            (file.view.stage, file.view.session, &file.view.answer)
        else {
            return Err(MatchError::decline(
                "match_status",
                "the match does not wait for its receipt",
            ));
        };
        // A list stays with the initiator: what its receipt says of the result is the initiator's word.
        if answer
            .commitment(&session, &offer.salt)
            .is_some_and(|own| own != offer.result)
        {
            return Err(MatchError::Mismatch { what: "result" });
        }
        let body = self.receipt_body(&file, session, offer.result).await?;
        let record = wire
            .countersign(&body.into(), &self.options, &|_, _| Ok(()))
            .await?;
        self.done(&id, record)
    }
}
