//! The party that asks: it gathers the others and the helper.

use rand_core::{OsRng, RngCore};
use tally_contracts::ids::{AgreementId, AudienceLabel, MemberId};
use tally_contracts::records::{Computation, ProposeAgreement};

use super::attend::Sitting;
use super::state::{OverlapQuery, OverlapRole, OverlapView};
use super::terms;
use crate::audiences::AudienceMeta;
use crate::matching::desk::{Inner, MatchDesk};
use crate::matching::error::MatchError;
use crate::matching::messages::{Invite, Message, Seat};
use crate::matching::state::MatchId;
use crate::matching::terms::{allowed, check_own};
use crate::matching::wire::{Wire, unexpected};

/// What an analyst asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapRequest {
    /// The agreement.
    pub agreement: AgreementId,
    /// Name of the own audience; its newest set is brought.
    pub audience: String,
    /// Which audience another party is to bring, by the label in its CommitAudience record; a party that is not named chooses.
    pub named: Vec<(MemberId, AudienceLabel)>,
}

impl MatchDesk {
    /// Asks for an overlap and waits for its end. The same query again gets the stored answer, whoever asked it first, free and without
    /// asking anybody. Dropping the future does not end it. `started` hears its ID as soon as it is listed, which a stored answer never
    /// gives.
    ///
    /// An overlap whose answer is there but that not every party has confirmed yet is returned at stage [`crate::matching::Stage::Answered`];
    /// [`MatchDesk::tidy`] follows it up.
    ///
    /// # Errors
    /// Any. The overlap is then listed with its reason, unless the own ledger does not allow it.
    pub async fn request_overlap(
        &self,
        request: OverlapRequest,
        started: impl FnOnce(MatchId) + Send + 'static,
    ) -> Result<OverlapView, MatchError> {
        let inner = self.0.clone();
        tokio::spawn(async move { inner.ask_overlap(&request, started).await })
            .await
            .map_err(|_| MatchError::Internal {
                what: "the task of a match died",
            })?
    }
}

impl Inner {
    async fn ask_overlap(
        &self,
        request: &OverlapRequest,
        started: impl FnOnce(MatchId) + Send,
    ) -> Result<OverlapView, MatchError> {
        let (terms, own) = self.prepare_overlap(request)?;
        let query = OverlapQuery {
            agreement: request.agreement,
            own: own.key,
            epoch: self.epoch()?,
            named: &request.named,
        };
        if let Some(stored) = self.overlaps.answered(&query) {
            return Ok(stored);
        }
        let mut nonce = [0; 32];
        OsRng.fill_bytes(&mut nonce);
        let sitting = self.sitting(
            request.agreement,
            terms,
            self.identity.member,
            Some(own),
            nonce,
        )?;
        let id = sitting.id;
        let guard = self.start(id)?;
        let mut links = self.expect_links(id, sitting.terms.parties.len());
        self.overlaps
            .add(sitting.new_file(OverlapRole::Party, self.ledger.time_ms()))?;
        started(id);
        let convened = tokio::select! {
            biased;
            () = guard.cancel.cancelled() => Err(MatchError::Cancelled),
            convened = self.convene(request, &sitting) => convened,
        };
        let done = match convened {
            Ok(seats) => self.sit(&sitting, &seats, &mut links, &guard.cancel).await,
            Err(error) => Err(error),
        };
        self.overlap_ended(&id, done).await
    }

    /// Everything that this node can check before it asks.
    fn prepare_overlap(
        &self,
        request: &OverlapRequest,
    ) -> Result<(ProposeAgreement, AudienceMeta), MatchError> {
        let own = self.identity.member;
        let computation = Computation::OverlapN;
        let terms = allowed(&*self.ledger, &request.agreement, computation, &[own])?;
        self.overlap_noise(&terms)?;
        for (member, _) in &request.named {
            if *member == own || !terms.parties.contains(member) {
                return Err(MatchError::decline(
                    "peer",
                    "an audience is named of a member that is no other party of the agreement",
                ));
            }
        }
        let meta = self.audiences.latest(&request.audience)?;
        check_own(&*self.ledger, own, &meta, &terms)?;
        Ok((terms, meta))
    }

    /// Invites all others, tells them who is there, and returns once everybody has joined.
    async fn convene(
        &self,
        request: &OverlapRequest,
        sitting: &Sitting,
    ) -> Result<Vec<Seat>, MatchError> {
        let mut wires = Vec::new();
        let seats = match self.invite_all(request, sitting, &mut wires).await {
            Ok(seats) => seats,
            Err(error) => {
                for wire in &mut wires {
                    wire.refuse(&error).await;
                }
                return Err(error);
            }
        };
        self.seated(sitting, &seats)?;
        for wire in &mut wires {
            wire.send(&Message::Convene {
                seats: seats.clone(),
            })
            .await?;
        }
        self.join(sitting, &seats).await?;
        for wire in &mut wires {
            // The other side waits for its record to be committed.
            wire.step = self.options.commit + self.options.step;
            let member = wire.peer.member;
            match wire.receive("joined").await.map_err(|e| e.of(member))? {
                Message::Joined => {}
                other => return unexpected("joined", &other),
            }
        }
        Ok(seats)
    }

    /// The helper first: without it nobody else is asked.
    async fn invite_all<'a>(
        &'a self,
        request: &OverlapRequest,
        sitting: &Sitting,
        wires: &mut Vec<Wire<'a>>,
    ) -> Result<Vec<Seat>, MatchError> {
        let own = self.identity.member;
        let (helper, _) = terms::helper_terms(&sitting.terms)?;
        let mut there = vec![(
            own,
            Seat {
                nonce: sitting.nonce,
                node: self.identity.node,
            },
        )];
        let parties = sitting.terms.parties.iter().copied();
        for member in [helper].into_iter().chain(parties.filter(|m| *m != own)) {
            let (stream, peer) = self.peers.open_stream(&member).await?;
            if peer.member != member {
                return Err(MatchError::Mismatch { what: "identity" });
            }
            let mut wire = self.wire(stream, peer, sitting.nonce, false);
            let named = request.named.iter().find(|(m, _)| *m == member);
            wire.send(&Message::Invite(Invite {
                agreement: request.agreement,
                audience: sitting.own_audience()?.reference(),
                peer_audience: named.map(|(_, label)| *label),
                nonce: sitting.nonce,
            }))
            .await?;
            let answer = wire.receive("attend").await;
            // One that has refused needs no reason any more.
            if !matches!(answer, Err(MatchError::Refused { .. })) {
                wires.push(wire);
            }
            match answer.map_err(|e| e.of(member))? {
                Message::Attend { nonce } => there.push((
                    member,
                    Seat {
                        nonce,
                        node: peer.node,
                    },
                )),
                other => return unexpected("attend", &other),
            }
        }
        let seat = |member: &MemberId| {
            let found = there.iter().find(|(m, _)| m == member);
            found.map(|(_, seat)| *seat).ok_or(MatchError::Internal {
                what: "a party that was not invited",
            })
        };
        sitting
            .terms
            .parties
            .iter()
            .chain([&helper])
            .map(seat)
            .collect()
    }
}
