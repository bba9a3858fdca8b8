//! Going on with a list that broke: a stream of its own, on which the initiator names the match and both take up their journals.
//!
//! The session, its record and its release stay what they were, so the budget is charged once. Which buckets are finished is agreed
//! in the protocol's own first frames; see [`tally_psi::buckets`].

use tally_contracts::state::{self, MatchStatus};
use tally_psi::Report;

use super::buckets::is_break;
use super::desk::{Inner, MatchDesk, RunGuard};
use super::engine::Agreed;
use super::error::MatchError;
use super::messages::Message;
use super::ports::{MatchIo, PeerIdentity};
use super::state::{MatchFile, MatchId, MatchView, Role};
use super::wire::{Wire, unexpected};

/// The other side's match is over, so that this side's is too.
pub(super) const ENDED: &str = "match_ended";

impl MatchDesk {
    /// Goes on with a list in buckets that broke, and waits for its end. [`Self::tidy`] does so by itself.
    ///
    /// # Errors
    /// [`MatchError::Refused`] for a match that cannot go on, or runs; any that a match has. One that broke again may go on again.
    pub async fn resume(&self, id: &MatchId) -> Result<MatchView, MatchError> {
        let (inner, id) = (self.0.clone(), *id);
        tokio::spawn(async move { inner.resume(&id).await })
            .await
            .map_err(|_| MatchError::Internal {
                what: "the task of a match died",
            })?
    }
}

impl Inner {
    /// Ends a match that failed, unless it may go on.
    pub(super) async fn broke(&self, id: &MatchId, error: &MatchError) -> Result<(), MatchError> {
        let file = self.store.get(id);
        if is_break(error) && file.is_some_and(|f| self.may_resume(&f)) {
            let reason = format!("interrupted, goes on when both sides are there: {error}");
            self.store.update(id, |f| f.view.reason = Some(reason))?;
            return Ok(());
        }
        self.end(id, error)?;
        if let Err(unsettled) = self.settle(id).await {
            tracing::warn!(%id, error = %unsettled, "a match is not closed on the ledger yet");
        }
        Ok(())
    }

    /// Whether a match that may go on is open on the ledger still; the other side may have closed it.
    pub(super) async fn is_open(&self, file: &MatchFile) -> Result<bool, MatchError> {
        self.settle(&file.view.id).await?;
        let file = self.store.get(&file.view.id);
        Ok(file.is_some_and(|f| f.unsettled_until_ms.is_some()))
    }

    /// What was agreed, from the match's file and the ledger.
    fn agreed_again(&self, file: &MatchFile, peer: PeerIdentity) -> Result<Agreed, MatchError> {
        let view = &file.view;
        let (Some(session), Some(their_size)) = (view.session, file.their_size) else {
            return Err(not_resumable());
        };
        let on_ledger = state::match_state(&*self.ledger, &session)?
            .filter(|m| matches!(m.status, MatchStatus::Open | MatchStatus::Released))
            .ok_or_else(not_resumable)?;
        let terms = state::agreement(&*self.ledger, &view.agreement)?
            .ok_or_else(not_resumable)?
            .terms;
        let own = self.audiences.get(&view.own)?.ok_or_else(not_resumable)?;
        Ok(Agreed {
            id: view.id,
            role: view.role,
            peer,
            agreement: view.agreement,
            terms,
            computation: view.computation,
            session,
            own,
            theirs: match view.role {
                Role::Initiator => on_ledger.responder_audience,
                Role::Responder => on_ledger.initiator_audience,
            },
            their_size,
        })
    }

    /// Asks the responder to go on.
    pub(super) async fn resume(&self, id: &MatchId) -> Result<MatchView, MatchError> {
        let file = self
            .store
            .get(id)
            .ok_or(MatchError::UnknownMatch { id: *id })?;
        if file.view.role != Role::Initiator || !self.may_resume(&file) {
            return Err(not_resumable());
        }
        let guard = self.start(*id).map_err(|_| runs_already())?;
        let asked = async {
            let (stream, peer) = self.peers.open_stream(&file.view.peer).await?;
            if peer.member != file.view.peer {
                return Err(MatchError::Mismatch { what: "identity" });
            }
            let agreed = self.agreed_again(&file, peer)?;
            let mut wire = self.wire(stream, peer, file.nonce.0, false);
            wire.send(&Message::Resume {
                nonce: file.nonce.0,
            })
            .await?;
            match wire.receive("resumed").await? {
                Message::Resumed => Ok((agreed, wire.stream)),
                other => unexpected("resumed", &other),
            }
        };
        let asked = tokio::select! {
            biased;
            () = guard.cancel.cancelled() => Err(MatchError::Cancelled),
            asked = asked => asked,
        };
        let (agreed, stream) = match asked {
            Ok(asked) => asked,
            // It is over on the other side, or was called off here; else it is asked for again later.
            Err(error) => {
                let over = match &error {
                    MatchError::Cancelled => true,
                    MatchError::Refused { notice, .. } => notice.code == ENDED,
                    _ => false,
                };
                if over {
                    self.end(id, &error)?;
                    self.settle(id).await?;
                }
                return Err(error);
            }
        };
        self.run_again(&agreed, stream, &guard).await
    }

    /// Goes on where the initiator asks for it.
    pub(super) async fn go_on(
        &self,
        nonce: [u8; 32],
        mut wire: Wire<'_>,
    ) -> Result<MatchView, MatchError> {
        let id = MatchId::of(&nonce);
        let ready = async {
            let file = self.store.get(&id).filter(|f| {
                f.view.role == Role::Responder
                    && f.view.peer == wire.peer.member
                    && f.nonce.0 == nonce
            });
            let file = file.ok_or_else(not_resumable)?;
            let guard = self.start(id).map_err(|_| runs_already())?;
            if !self.may_resume(&file) {
                return Err(not_resumable());
            }
            Ok((self.agreed_again(&file, wire.peer)?, guard))
        };
        let (agreed, guard) = match ready.await {
            Ok(ready) => ready,
            Err(error) => {
                wire.refuse(&error).await;
                return Err(error);
            }
        };
        wire.send(&Message::Resumed).await?;
        self.run_again(&agreed, wire.stream, &guard).await
    }

    async fn run_again(
        &self,
        agreed: &Agreed,
        stream: Box<dyn MatchIo>,
        guard: &RunGuard<'_>,
    ) -> Result<MatchView, MatchError> {
        let done: Result<Report, MatchError> =
            self.run_protocol(agreed, stream, &guard.cancel).await;
        if let Err(error) = done.and_then(|report| self.note_answer(agreed, report)) {
            self.broke(&agreed.id, &error).await?;
            return Err(error);
        }
        self.store.update(&agreed.id, |f| f.view.reason = None)?;
        self.view(&agreed.id)
    }
}

/// Also where the other side has not noticed yet that its stream is gone.
fn runs_already() -> MatchError {
    MatchError::decline("match_running", "the match runs already")
}

pub(super) fn not_resumable() -> MatchError {
    MatchError::decline(ENDED, "there is no such match that could go on")
}
