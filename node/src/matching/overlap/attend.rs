//! Everybody else: an invitation is answered, the session joined, and streams between any two taken.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand_core::{OsRng, RngCore};
use tally_contracts::ids::{AgreementId, MemberId, SessionId};
use tally_contracts::records::{Computation, JoinOverlap, ProposeAgreement};
use tally_contracts::state::{self, MatchStatus, OverlapState};
use tokio::sync::mpsc;

use super::state::{OverlapFile, OverlapPartyView, OverlapRole, OverlapView, set_of};
use super::terms;
use crate::audiences::AudienceMeta;
use crate::matching::desk::Inner;
use crate::matching::error::MatchError;
use crate::matching::messages::{Invite, Message, Seat};
use crate::matching::policy::{Inquiry, declined};
use crate::matching::ports::{MatchIo, PeerIdentity};
use crate::matching::state::{HashText, MatchId, Stage};
use crate::matching::terms::{allowed, check_committed};
use crate::matching::wire::{Wire, unexpected, within};

/// How long a record that a node signs alone can be committed: an hour.
const UNSETTLED_MS: u64 = 3_600_000;

/// What all of an overlap know before it has a session.
pub(super) struct Sitting {
    pub(super) id: MatchId,
    /// Of the asker.
    pub(super) nonce: [u8; 32],
    pub(super) agreement: AgreementId,
    pub(super) terms: ProposeAgreement,
    pub(super) helper: MemberId,
    pub(super) asked_by: MemberId,
    /// The own audience; the helper has none.
    pub(super) own: Option<AudienceMeta>,
    /// The own place among the parties; the helper's is after them.
    pub(super) place: usize,
}

impl Sitting {
    pub(super) fn own_audience(&self) -> Result<&AudienceMeta, MatchError> {
        self.own.as_ref().ok_or(MatchError::Internal {
            what: "a party without an audience",
        })
    }

    pub(super) fn new_file(&self, role: OverlapRole, now_ms: u64) -> OverlapFile {
        let own = self.own.as_ref();
        OverlapFile {
            view: OverlapView {
                id: self.id,
                role,
                asked_by: self.asked_by,
                agreement: self.agreement,
                helper: self.helper,
                parties: self
                    .terms
                    .parties
                    .iter()
                    .map(|member| OverlapPartyView {
                        member: *member,
                        set: None,
                        bucket: None,
                        confirmed: false,
                    })
                    .collect(),
                audience: own.map(|m| m.name.clone()),
                own: own.map(|m| m.key),
                own_size: own.map(|m| m.size),
                session: None,
                stage: Stage::Requested,
                reason: None,
                noise: None,
                answer: None,
                join_record: None,
                release_record: None,
                receipt_record: None,
                started_ms: now_ms,
                ended_ms: None,
            },
            nonce: HashText::of(self.nonce),
            unsettled_until_ms: None,
            held: None,
            session_seed: None,
        }
    }
}

/// A stream that another of the overlap has opened, and who that is.
type Link = (PeerIdentity, Box<dyn MatchIo>);

/// Who waits for streams, by match.
#[derive(Default)]
pub(in crate::matching) struct Links(Mutex<HashMap<MatchId, mpsc::Sender<Link>>>);

impl Links {
    fn lock(&self) -> MutexGuard<'_, HashMap<MatchId, mpsc::Sender<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes streams of one overlap, as long as it is there.
pub(super) struct Incoming<'a> {
    links: &'a Links,
    id: MatchId,
    streams: mpsc::Receiver<Link>,
}

impl Incoming<'_> {
    pub(super) async fn next(&mut self) -> Result<Link, MatchError> {
        self.streams.recv().await.ok_or(MatchError::Internal {
            what: "nobody hands streams over",
        })
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        self.links.lock().remove(&self.id);
    }
}

impl Inner {
    pub(super) fn expect_links(&self, id: MatchId, most: usize) -> Incoming<'_> {
        let (sender, streams) = mpsc::channel(most.max(1));
        self.links.lock().insert(id, sender);
        Incoming {
            links: &self.links,
            id,
            streams,
        }
    }

    /// Hands a stream to the overlap that it is for.
    pub(in crate::matching) async fn take_link(
        &self,
        nonce: [u8; 32],
        mut wire: Wire<'_>,
    ) -> Result<(), MatchError> {
        let sender = self.links.lock().get(&MatchId::of(&nonce)).cloned();
        let Some(sender) = sender else {
            let unknown = MatchError::decline("unknown_match", "no such match waits for a stream");
            wire.refuse(&unknown).await;
            return Err(unknown);
        };
        wire.send(&Message::Linked).await?;
        // More than there are parties are nobody's.
        sender
            .try_send((wire.peer, wire.stream))
            .map_err(|_| MatchError::decline("busy", "the match has all its streams"))
    }

    pub(super) fn sitting(
        &self,
        agreement: AgreementId,
        terms: ProposeAgreement,
        asked_by: MemberId,
        own: Option<AudienceMeta>,
        nonce: [u8; 32],
    ) -> Result<Sitting, MatchError> {
        let (helper, _) = terms::helper_terms(&terms)?;
        let member = self.identity.member;
        let place = terms.parties.iter().position(|m| *m == member);
        Ok(Sitting {
            id: MatchId::of(&nonce),
            nonce,
            agreement,
            helper,
            asked_by,
            place: place.unwrap_or(terms.parties.len()),
            own,
            terms,
        })
    }

    /// Answers an invitation and takes part to the end.
    pub(in crate::matching) async fn attend(
        &self,
        invite: Invite,
        mut wire: Wire<'_>,
    ) -> Result<OverlapView, MatchError> {
        let id = MatchId::of(&invite.nonce);
        let guard = match self.start(id) {
            Ok(guard) => guard,
            Err(used) => {
                wire.refuse(&used).await;
                return Err(used);
            }
        };
        let sitting = match self.accept_invite(&invite, &wire.peer).await {
            Ok(sitting) => sitting,
            Err(error) => {
                wire.refuse(&error).await;
                return Err(error);
            }
        };
        let mut links = self.expect_links(id, sitting.terms.parties.len());
        let convened = tokio::select! {
            biased;
            () = guard.cancel.cancelled() => Err(MatchError::Cancelled),
            convened = self.answer_invite(&sitting, &mut wire) => convened,
        };
        let done = match convened {
            Ok(seats) => self.sit(&sitting, &seats, &mut links, &guard.cancel).await,
            Err(error) => {
                wire.refuse(&error).await;
                Err(error)
            }
        };
        self.overlap_ended(&id, done).await
    }

    /// Checks an invitation, chooses what to bring, and lists it.
    async fn accept_invite(
        &self,
        invite: &Invite,
        peer: &PeerIdentity,
    ) -> Result<Sitting, MatchError> {
        let (own, asker) = (self.identity.member, peer.member);
        let computation = Computation::OverlapN;
        let terms = self
            .patiently(|| {
                let terms = allowed(&*self.ledger, &invite.agreement, computation, &[asker])?;
                check_committed(&*self.ledger, asker, &invite.audience, &terms)?;
                Ok(terms)
            })
            .await?;
        self.overlap_noise(&terms)?;
        let (helper, _) = terms::helper_terms(&terms)?;
        let inquiry = Inquiry {
            agreement: &invite.agreement,
            terms: &terms,
            computation,
            initiator: asker,
            initiator_bucket: invite.audience.size_bucket,
        };
        let (role, meta) = if own == helper {
            self.policy.help(&inquiry).map_err(declined)?;
            (OverlapRole::Helper, None)
        } else if terms.parties.contains(&own) {
            let meta = self.chosen(invite.peer_audience, &inquiry)?;
            (OverlapRole::Party, Some(meta))
        } else {
            return Err(MatchError::decline(
                "not_a_party",
                "this member is neither a party of the agreement nor its helper",
            ));
        };
        let sitting = self.sitting(invite.agreement, terms, asker, meta, invite.nonce)?;
        if !self
            .overlaps
            .add(sitting.new_file(role, self.ledger.time_ms()))?
        {
            return Err(MatchError::decline(
                "nonce_used",
                "the request's nonce was used",
            ));
        }
        Ok(sitting)
    }

    /// Says that this node takes part, hears who all are, and joins.
    async fn answer_invite(
        &self,
        sitting: &Sitting,
        wire: &mut Wire<'_>,
    ) -> Result<Vec<Seat>, MatchError> {
        let mut nonce = [0; 32];
        OsRng.fill_bytes(&mut nonce);
        wire.send(&Message::Attend { nonce }).await?;
        // The asker asks the others one after the other.
        let others = u32::try_from(sitting.terms.parties.len()).unwrap_or(u32::MAX);
        wire.step = self.options.step.saturating_mul(others);
        let seats = match wire.receive("convene").await? {
            Message::Convene { seats } => seats,
            other => return unexpected("convene", &other),
        };
        let asker = sitting
            .terms
            .parties
            .iter()
            .position(|m| *m == sitting.asked_by);
        let expected = [
            (
                sitting.place,
                Seat {
                    nonce,
                    node: self.identity.node,
                },
            ),
            (
                asker.unwrap_or(usize::MAX),
                Seat {
                    nonce: sitting.nonce,
                    node: wire.peer.node,
                },
            ),
        ];
        if expected
            .iter()
            .any(|(place, seat)| seats.get(*place) != Some(seat))
        {
            return Err(MatchError::Mismatch { what: "seat" });
        }
        self.seated(sitting, &seats)?;
        self.join(sitting, &seats).await?;
        wire.send(&Message::Joined).await?;
        Ok(seats)
    }

    /// Notes the session that all nonces give.
    pub(super) fn seated(&self, sitting: &Sitting, seats: &[Seat]) -> Result<(), MatchError> {
        if seats.len() != sitting.terms.parties.len() + 1 {
            return Err(MatchError::Mismatch {
                what: "number of seats",
            });
        }
        let until = self.ledger.time_ms().saturating_add(UNSETTLED_MS);
        self.overlaps.update(&sitting.id, |f| {
            f.view.stage = Stage::Accepted;
            f.view.session = Some(session_of(seats));
            f.unsettled_until_ms = Some(until);
        })?;
        Ok(())
    }

    /// Joins on the ledger, which reserves the budget; the helper has nothing to join with.
    pub(super) async fn join(&self, sitting: &Sitting, seats: &[Seat]) -> Result<(), MatchError> {
        let Some(own) = &sitting.own else {
            return Ok(());
        };
        let until = self.ledger.time_ms().saturating_add(UNSETTLED_MS);
        self.overlaps.update(&sitting.id, |f| {
            f.view.stage = Stage::Opening;
            f.unsettled_until_ms = Some(until);
        })?;
        let body = JoinOverlap {
            agreement: sitting.agreement,
            session: session_of(seats),
            audience: own.reference(),
        };
        let record = self
            .ledger
            .submit_own(&body.into(), self.options.commit)
            .await?;
        self.overlaps.update(&sitting.id, |f| {
            f.view.stage = Stage::Open;
            f.view.join_record = Some(record);
        })?;
        Ok(())
    }

    /// Waits until this node's ledger shows that every party has joined.
    pub(super) async fn all_joined(
        &self,
        sitting: &Sitting,
        session: &SessionId,
    ) -> Result<OverlapState, MatchError> {
        let joined = async {
            loop {
                match state::overlap(&*self.ledger, session)? {
                    Some(o) if o.agreement != sitting.agreement => {
                        return Err(MatchError::Mismatch { what: "agreement" });
                    }
                    Some(o) if o.status != MatchStatus::Open => {
                        return Err(MatchError::CalledOff);
                    }
                    Some(o) if o.all_joined() => return Ok(o),
                    _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                }
            }
        };
        let waiting = self.options.commit + self.options.step;
        let joined = within(waiting, "every party to join", joined).await??;
        self.overlaps.update(&sitting.id, |f| {
            f.view.stage = Stage::Open;
            for (view, party) in f.view.parties.iter_mut().zip(&joined.parties) {
                view.set = party.audience.as_ref().map(set_of);
                view.bucket = party.audience.as_ref().map(|a| a.size_bucket);
            }
        })?;
        Ok(joined)
    }
}

/// The session of these nonces.
pub(super) fn session_of(seats: &[Seat]) -> SessionId {
    let nonces: Vec<[u8; 32]> = seats.iter().map(|s| s.nonce).collect();
    SessionId(tally_psi::overlap::overlap_session(&nonces))
}
