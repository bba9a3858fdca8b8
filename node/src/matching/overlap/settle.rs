//! The end of an overlap: the receipt and its confirmations, and what a run that broke leaves, now or after a restart. All of it
//! follows from what this node stored and what the ledger says.

use std::time::Duration;

use tally_contracts::ids::SessionId;
use tally_contracts::records::{CloseOverlap, ConfirmOverlap, OverlapClose, OverlapReceipt};
use tally_contracts::state::{self, MatchStatus, OverlapState};

use super::state::{OverlapFile, OverlapRole, OverlapView};
use crate::matching::answer::Answer;
use crate::matching::desk::{Inner, MatchDesk, RECEIPT_PATIENCE_MS};
use crate::matching::error::MatchError;
use crate::matching::ports::LedgerError;
use crate::matching::state::{MatchId, Stage};

/// How often the ledger is asked for what is due.
const POLL: Duration = Duration::from_millis(50);

/// What a node still has to do about an overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing.
    Nothing,
    /// Others have to act first.
    Others,
    /// It has just acted; the ledger may ask for more.
    More,
}

impl MatchDesk {
    /// All overlaps of this node, the newest first.
    #[must_use]
    pub fn overlaps(&self) -> Vec<OverlapView> {
        self.0.overlaps.all().into_iter().map(|f| f.view).collect()
    }

    /// One overlap, and how far it is if it runs.
    ///
    /// # Errors
    /// [`MatchError::UnknownMatch`].
    pub fn show_overlap(
        &self,
        id: &MatchId,
    ) -> Result<(OverlapView, Option<tally_psi::Progress>), MatchError> {
        let view = self.0.overlap_view(id)?;
        Ok((view, self.0.progress(id)))
    }
}

impl Inner {
    pub(super) fn overlap_view(&self, id: &MatchId) -> Result<OverlapView, MatchError> {
        let file = self.overlaps.get(id);
        file.map(|f| f.view)
            .ok_or(MatchError::UnknownMatch { id: *id })
    }

    /// Every party holds the count: what this node holds is the answer.
    pub(super) fn note_count(&self, id: &MatchId) -> Result<(), MatchError> {
        let file = self
            .overlaps
            .get(id)
            .ok_or(MatchError::UnknownMatch { id: *id })?;
        let answer = self.answer_of(&file)?;
        self.overlaps.update(id, |f| {
            f.view.stage = Stage::Answered;
            f.view.answer = Some(answer);
            f.view.reason = None;
        })?;
        Ok(())
    }

    /// What the held count is as an answer under the agreement.
    fn answer_of(&self, file: &OverlapFile) -> Result<Answer, MatchError> {
        let agreement = state::agreement(&*self.ledger, &file.view.agreement)?;
        let (Some(held), Some(agreement)) = (&file.held, agreement) else {
            return Err(MatchError::Internal {
                what: "an answer that is not held",
            });
        };
        Ok(Answer::count(held.value, agreement.terms.min_result))
    }

    /// What follows a run: the receipt, or the end. An answered overlap is no error, with or without its last confirmation.
    pub(super) async fn overlap_ended(
        &self,
        id: &MatchId,
        done: Result<(), MatchError>,
    ) -> Result<OverlapView, MatchError> {
        if let Err(error) = &done {
            self.end_overlap(id, error)?;
        }
        let followed = self.follow(id).await;
        if let Err(error) = &followed {
            tracing::warn!(%id, %error, "an overlap is not settled yet");
        }
        let view = self.overlap_view(id)?;
        match done {
            Err(error) if view.answer.is_none() => Err(error),
            _ => Ok(view),
        }
    }

    /// Notes how an overlap ended. One with an answer keeps it; of one whose count this party has acknowledged, the ledger decides.
    fn end_overlap(&self, id: &MatchId, error: &MatchError) -> Result<(), MatchError> {
        let now = self.ledger.time_ms();
        let ended = |f: &OverlapFile| f.view.answer.is_some() || f.view.stage.is_final();
        if self.overlaps.get(id).is_some_and(|f| ended(&f)) {
            return Ok(());
        }
        self.overlaps.update(id, |f| {
            if f.view.role == OverlapRole::Party && f.held.is_some() {
                f.view.reason = Some(format!(
                    "the end of the run was lost; the helper's receipt or a closing on the ledger says whether it counts: {error}"
                ));
                return;
            }
            f.view.reason = Some(error.to_string());
            f.view.ended_ms = Some(now);
            f.held = None;
            f.view.stage = match error {
                MatchError::Refused { .. } => Stage::Refused,
                MatchError::Cancelled => Stage::Cancelled,
                _ => Stage::Failed,
            };
        })?;
        Ok(())
    }

    /// Goes on as far as this node and, within the time for a record, the others go.
    async fn follow(&self, id: &MatchId) -> Result<(), MatchError> {
        let until = tokio::time::Instant::now() + self.options.commit;
        loop {
            match self.overlap_step(id).await? {
                Left::Nothing => return Ok(()),
                Left::More => {}
                Left::Others => {
                    let answered = self
                        .overlaps
                        .get(id)
                        .is_some_and(|f| f.view.answer.is_some() || f.held.is_some());
                    if !answered || tokio::time::Instant::now() >= until {
                        return Ok(());
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }

    /// One step of settling an overlap that does not run any more.
    async fn overlap_step(&self, id: &MatchId) -> Result<Left, MatchError> {
        let Some(file) = self.overlaps.get(id) else {
            return Ok(Left::Nothing);
        };
        let (Some(until_ms), Some(session)) = (file.unsettled_until_ms, file.view.session) else {
            return Ok(Left::Nothing);
        };
        let now = self.ledger.time_ms();
        let Some(overlap) = state::overlap(&*self.ledger, &session)? else {
            // The own record, or another party's, may still be on its way.
            if now <= until_ms {
                return Ok(Left::Others);
            }
            return self.overlap_settled(id);
        };
        match overlap.status {
            MatchStatus::Open => self.close_broken(&file, session).await,
            MatchStatus::Released if !overlap.has_receipt() => {
                let patient = now < file.view.started_ms.saturating_add(RECEIPT_PATIENCE_MS);
                match file.view.role {
                    OverlapRole::Helper if file.view.answer.is_some() => {
                        self.sign_receipt_of(&file, session, &overlap).await
                    }
                    OverlapRole::Party if file.held.is_some() && patient => Ok(Left::Others),
                    _ => self.close_broken(&file, session).await,
                }
            }
            MatchStatus::Released | MatchStatus::Done => {
                self.confirm_receipt(&file, session, &overlap).await
            }
            MatchStatus::Failed | MatchStatus::Cancelled => {
                // With its answer this node has reported success: another gave up waiting for the receipt.
                if file.view.answer.is_none() {
                    self.overlaps.update(id, |f| {
                        f.held = None;
                        if !f.view.stage.is_final() {
                            f.view.stage = Stage::Failed;
                            f.view.ended_ms = Some(now);
                        }
                    })?;
                }
                self.overlap_settled(id)
            }
        }
    }

    fn overlap_settled(&self, id: &MatchId) -> Result<Left, MatchError> {
        self.overlaps.update(id, |f| f.unsettled_until_ms = None)?;
        Ok(Left::Nothing)
    }

    /// Ends an overlap that will not go on, so that what was reserved goes back.
    async fn close_broken(
        &self,
        file: &OverlapFile,
        session: SessionId,
    ) -> Result<Left, MatchError> {
        let close = if file.view.stage == Stage::Cancelled {
            OverlapClose::Cancelled
        } else {
            OverlapClose::Failed
        };
        self.submit_step(&CloseOverlap { session, close }.into())
            .await?;
        Ok(Left::More)
    }

    /// Submits a record unless another was faster.
    async fn submit_step(
        &self,
        body: &tally_contracts::records::Body,
    ) -> Result<Option<tally_contracts::ids::RecordId>, MatchError> {
        match self.ledger.submit_own(body, self.options.commit).await {
            Ok(record) => Ok(Some(record)),
            Err(LedgerError::Refused(notice))
                if matches!(notice.code.as_str(), "match_status" | "overlap") =>
            {
                tokio::time::sleep(POLL).await;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The receipt as this node would sign it, from the ledger and from what it saw.
    fn receipt_of(
        &self,
        file: &OverlapFile,
        session: &SessionId,
        overlap: &OverlapState,
    ) -> Result<OverlapReceipt, MatchError> {
        let Some(held) = &file.held else {
            return Err(MatchError::Internal {
                what: "a receipt for an answer that is not held",
            });
        };
        if !held
            .lists
            .iter()
            .map(|l| l.0)
            .eq(overlap.streams.iter().copied())
        {
            return Err(MatchError::Mismatch {
                what: "released list",
            });
        }
        let answer = self.answer_of(file)?;
        let result = answer.commitment(session, &held.salt.0.0);
        Ok(OverlapReceipt {
            noise: overlap.noise,
            regions: overlap.regions,
            buckets: overlap
                .parties
                .iter()
                .filter_map(|p| p.audience.as_ref().map(|a| a.size_bucket))
                .collect(),
            spent: overlap.charge,
            helper_spent: overlap.helper_charge,
            result: result.ok_or(MatchError::Internal {
                what: "a receipt for an answer that is not known",
            })?,
            streams: overlap.streams.clone(),
        })
    }

    async fn sign_receipt_of(
        &self,
        file: &OverlapFile,
        session: SessionId,
        overlap: &OverlapState,
    ) -> Result<Left, MatchError> {
        let receipt = self.receipt_of(file, &session, overlap)?;
        let close = OverlapClose::Done(receipt);
        let record = self
            .submit_step(&CloseOverlap { session, close }.into())
            .await?;
        if record.is_some() {
            self.overlaps
                .update(&file.view.id, |f| f.view.receipt_record = record)?;
        }
        Ok(Left::More)
    }

    /// The helper's receipt is there: every party holds the count. A party whose own run broke behind its acknowledgement learns it here.
    async fn confirm_receipt(
        &self,
        file: &OverlapFile,
        session: SessionId,
        overlap: &OverlapState,
    ) -> Result<Left, MatchError> {
        let id = &file.view.id;
        if file.held.is_none() && file.view.answer.is_none() {
            // This node never acknowledged anything: it has nothing to confirm.
            return self.overlap_settled(id);
        }
        let mut parties = overlap.parties.iter();
        let own = parties.find(|p| p.member == self.identity.member);
        let unconfirmed = own.is_some_and(|p| !p.confirmed);
        if unconfirmed || file.view.answer.is_none() {
            // Judged before it is shown or confirmed: another count than the held one is no success.
            let receipt = self.receipt_of(file, &session, overlap)?.digest(&session);
            if receipt != overlap.receipt {
                let wrong = MatchError::Mismatch { what: "receipt" };
                self.overlaps
                    .update(id, |f| f.view.reason = Some(wrong.to_string()))?;
                return Err(wrong);
            }
        }
        if file.view.answer.is_none() {
            self.note_count(id)?;
        }
        if unconfirmed {
            let receipt = overlap.receipt;
            let confirm = ConfirmOverlap { session, receipt };
            let record = self.submit_step(&confirm.into()).await?;
            if record.is_some() {
                self.overlaps
                    .update(id, |f| f.view.receipt_record = record)?;
            }
            return Ok(Left::More);
        }
        let now = self.ledger.time_ms();
        let done = overlap.status == MatchStatus::Done;
        self.overlaps.update(id, |f| {
            for (view, party) in f.view.parties.iter_mut().zip(&overlap.parties) {
                view.confirmed = party.confirmed;
            }
            if done {
                f.view.stage = Stage::Done;
                f.view.reason = None;
                f.view.ended_ms = Some(now);
            } else {
                f.view.reason = Some("not every party has confirmed the receipt yet".into());
            }
        })?;
        if done {
            return self.overlap_settled(id);
        }
        let patient = now < file.view.started_ms.saturating_add(RECEIPT_PATIENCE_MS);
        if patient {
            Ok(Left::Others)
        } else {
            self.overlap_settled(id)
        }
    }

    /// Calls an overlap off.
    pub(in crate::matching) async fn cancel_overlap(&self, id: &MatchId) -> Result<(), MatchError> {
        let file = self
            .overlaps
            .get(id)
            .ok_or(MatchError::UnknownMatch { id: *id })?;
        if file.view.stage.is_final() || file.view.answer.is_some() || file.held.is_some() {
            return Err(MatchError::HasEnded { id: *id });
        }
        if self.cancel_running(id) {
            return Ok(());
        }
        self.end_overlap(id, &MatchError::Cancelled)?;
        self.follow(id).await
    }

    /// Follows up every overlap that does not run; returns how many still wait.
    pub(in crate::matching) async fn tidy_overlaps(&self) -> (usize, Option<MatchError>) {
        let (mut waiting, mut first) = (0, None);
        for file in self.overlaps.all() {
            let id = file.view.id;
            // It may have ended since the list was made; one that does not run never runs again.
            if self.is_running(&id) || self.overlaps.get(&id).is_none() {
                continue;
            }
            let tidied = async {
                let stopped = MatchError::Ended {
                    doing: "this node stopped",
                    source: None,
                };
                self.end_overlap(&id, &stopped)?;
                while self.overlap_step(&id).await? == Left::More {}
                Ok::<_, MatchError>(())
            };
            if let Err(error) = tidied.await {
                tracing::warn!(%id, %error, "an overlap could not be tidied");
                first.get_or_insert(error);
            }
            let unsettled = self
                .overlaps
                .get(&id)
                .is_some_and(|f| f.unsettled_until_ms.is_some());
            waiting += usize::from(unsettled);
        }
        (waiting, first)
    }
}
