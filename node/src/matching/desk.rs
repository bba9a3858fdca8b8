//! The desk itself: what it holds, and what an operator asks of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_contracts::ids::{MemberId, PublicKey, RecordId};
use tally_contracts::records::{Close, CloseMatch};
use tally_contracts::state::{self, MatchStatus};
use tally_measure::Identifier;
use tally_psi::Progress;
use tally_psi::buckets::Rule;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::engine;
use super::error::MatchError;
use super::files::Files;
use super::lists::OpenList;
use super::overlap::{Links, OverlapFile};
use super::policy::Policy;
use super::ports::{LedgerError, LedgerPort, PeerPort};
use super::state::{MatchFile, MatchId, MatchStore, MatchView, Role, Stage};
use crate::audiences::{AudienceKey, AudienceMeta, AudienceStore};
use crate::psi_wire::Deadlines;
use crate::sealed::StorageKey;
use crate::workers::NodeWorkers;

/// After this long without a receipt, the match is closed without one.
pub(super) const RECEIPT_PATIENCE_MS: u64 = 24 * 3_600_000;

/// Who this node is.
pub struct DeskIdentity {
    /// The member.
    pub member: MemberId,
    /// The transport key that peers see.
    pub node: PublicKey,
    /// Signs the messages and statements of matches; records are signed by the ledger port.
    pub records: SigningKey,
}

/// Bounds and deadlines of a desk.
#[derive(Debug, Clone, Copy)]
pub struct DeskOptions {
    /// For one message of the peer, and for the turn of the own record key.
    pub step: Duration,
    /// For one record to be committed.
    pub commit: Duration,
    /// How long this node's ledger may be behind the peer's before a request is refused for what is not in it yet.
    pub patience: Duration,
    /// Of the protocol on the sets.
    pub deadlines: Deadlines,
    /// Most matches of other members at a time; more are refused as busy.
    pub max_answering: usize,
    /// Elements that one sorter keeps in memory, at 32 bytes each; the rest goes to files without a name beside the matches. A set
    /// of more people than this is not held in memory for a count.
    pub rows_in_memory: usize,
    /// Most buckets of lists that this node answers at a time for the initiator's workers, beside those of its own workers.
    pub max_buckets: usize,
    /// When a list is cut into buckets; other members' nodes have to have the same.
    pub bucket_rule: Rule,
}

impl Default for DeskOptions {
    /// 30 s, 60 s, 5 s, the protocol's own with 12 hours in all, 4 matches, 2^20 elements, two
    /// buckets, the standard rule.
    fn default() -> Self {
        Self {
            step: Duration::from_secs(30),
            commit: Duration::from_secs(60),
            patience: Duration::from_secs(5),
            deadlines: engine::deadlines(),
            max_answering: 4,
            rows_in_memory: 1 << 20,
            max_buckets: 2,
            bucket_rule: Rule::STANDARD,
        }
    }
}

struct Running {
    cancel: CancellationToken,
    progress: Option<Progress>,
}

pub(super) struct Inner {
    pub(super) identity: DeskIdentity,
    pub(super) ledger: Arc<dyn LedgerPort>,
    pub(super) peers: Arc<dyn PeerPort>,
    pub(super) audiences: Arc<AudienceStore>,
    pub(super) policy: Arc<dyn Policy>,
    pub(super) options: DeskOptions,
    pub(super) store: MatchStore,
    pub(super) overlaps: Files<OverlapFile>,
    /// Streams of overlaps that run.
    pub(super) links: Links,
    pub(super) noise_key: StorageKey,
    pub(super) answering: Semaphore,
    /// Lists in buckets that run.
    pub(super) lists: Mutex<HashMap<MatchId, Arc<OpenList>>>,
    /// Buckets of others' workers that this node answers itself.
    pub(super) in_process: Semaphore,
    pub(super) workers: OnceLock<Arc<NodeWorkers>>,
    /// Cancels every match, those to come too.
    stop: CancellationToken,
    running: Mutex<HashMap<MatchId, Running>>,
}

/// Takes a match off the list of running ones when it ends, however it does.
pub(super) struct RunGuard<'a> {
    desk: &'a Inner,
    id: MatchId,
    pub(super) cancel: CancellationToken,
}

impl Drop for RunGuard<'_> {
    fn drop(&mut self) {
        self.desk.running().remove(&self.id);
    }
}

/// The match desk of a node. Clones are handles of the same one.
#[derive(Clone)]
pub struct MatchDesk(pub(super) Arc<Inner>);

impl MatchDesk {
    /// Opens the desk over its directory of matches. Call [`Self::tidy`] before serving, and now and then after.
    ///
    /// # Errors
    /// [`MatchError::Store`] if a stored match cannot be read.
    #[allow(clippy::too_many_arguments)]
    pub fn open(
        dir: &Path,
        storage: &StorageKey,
        identity: DeskIdentity,
        ledger: Arc<dyn LedgerPort>,
        peers: Arc<dyn PeerPort>,
        audiences: Arc<AudienceStore>,
        policy: Arc<dyn Policy>,
        options: DeskOptions,
    ) -> Result<Self, MatchError> {
        Ok(Self(Arc::new(Inner {
            store: MatchStore::open(dir, storage.derive("tally/matches/v1"))?,
            overlaps: Files::open(dir, storage.derive("tally/matches/v1"))?,
            links: Links::default(),
            noise_key: storage.derive("tally/match-noise/v1"),
            answering: Semaphore::new(options.max_answering),
            lists: Mutex::default(),
            in_process: Semaphore::new(options.max_buckets),
            workers: OnceLock::new(),
            stop: CancellationToken::new(),
            running: Mutex::default(),
            identity,
            ledger,
            peers,
            audiences,
            policy,
            options,
        })))
    }

    /// The bounds and deadlines that the desk was opened with.
    #[must_use]
    pub fn options(&self) -> &DeskOptions {
        &self.0.options
    }

    /// Calls off every match, and each that begins afterwards, and waits until none runs. A budget that was not spent goes
    /// back, now if the ledger takes a record, else by [`Self::tidy`] after the next start.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        while !self.0.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The epoch of ledger time: the one that a set imported now is for.
    ///
    /// # Errors
    /// [`MatchError::State`].
    pub fn epoch(&self) -> Result<u64, MatchError> {
        self.0.epoch()
    }

    /// Commits a stored set to the ledger, and notes the record with it. A set that is committed already stays so.
    ///
    /// # Errors
    /// [`MatchError::Ledger`], also for a set of another epoch than the ledger's; [`MatchError::Audience`].
    pub async fn commit_audience(&self, key: &AudienceKey) -> Result<AudienceMeta, MatchError> {
        let inner = &self.0;
        let unknown = || crate::audiences::AudienceError::Unknown {
            name: key.label.to_string(),
        };
        let meta = inner.audiences.get(key)?.ok_or_else(unknown)?;
        let own = inner.identity.member;
        if let Some(there) = state::audience(&*inner.ledger, &own, key.epoch, &key.label)?
            && there.root == meta.commitment()
        {
            return Ok(inner.audiences.set_record(key, there.record)?);
        }
        let body = meta.commit().into();
        let record = inner.ledger.submit_own(&body, inner.options.commit).await?;
        Ok(inner.audiences.set_record(key, record)?)
    }

    /// All matches of this node, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<MatchView> {
        self.0.store.all().into_iter().map(|f| f.view).collect()
    }

    /// One match, and how far it is if it runs.
    ///
    /// # Errors
    /// [`MatchError::UnknownMatch`].
    pub fn show(&self, id: &MatchId) -> Result<(MatchView, Option<Progress>), MatchError> {
        let file = self
            .0
            .store
            .get(id)
            .ok_or(MatchError::UnknownMatch { id: *id })?;
        Ok((file.view, self.0.progress(id)))
    }

    /// The people of a list that matched, as this node's own set has them.
    ///
    /// # Errors
    /// [`MatchError::UnknownMatch`] for a match that is no list of this node's; [`MatchError::Audience`].
    pub fn matched(&self, id: &MatchId) -> Result<Vec<Identifier>, MatchError> {
        let inner = &self.0;
        let unknown = || MatchError::UnknownMatch { id: *id };
        let file = inner.store.get(id).ok_or_else(unknown)?;
        let in_buckets = match file.view.answer {
            Some(Answer::Listed { .. }) => inner.journal(*id).rows()?,
            _ => None,
        };
        let rows = match in_buckets {
            Some(rows) => rows,
            None => inner.store.rows(id)?,
        };
        let meta = inner.audiences.get(&file.view.own)?.ok_or_else(unknown)?;
        let mut matched = Vec::with_capacity(rows.len());
        let (mut rows, mut at) = (rows.into_iter().peekable(), 0);
        inner.audiences.visit(&meta, |entry| {
            if rows.next_if_eq(&at).is_some() {
                matched.push(entry.id);
            }
            at += 1;
            Ok(())
        })?;
        if rows.next().is_some() {
            return Err(MatchError::Internal {
                what: "a matched row that the set does not have",
            });
        }
        Ok(matched)
    }

    /// Calls a match off. A budget that was not spent goes back.
    ///
    /// # Errors
    /// [`MatchError::UnknownMatch`], [`MatchError::HasEnded`] for one that has its answer or has ended.
    pub async fn cancel(&self, id: &MatchId) -> Result<(), MatchError> {
        let inner = &self.0;
        let Some(file) = inner.store.get(id) else {
            return inner.cancel_overlap(id).await;
        };
        if file.view.stage.is_final() || file.view.answer.is_some() {
            return Err(MatchError::HasEnded { id: *id });
        }
        if inner.cancel_running(id) {
            return Ok(());
        }
        inner.end(id, &MatchError::Cancelled)?;
        inner.settle(id).await
    }

    /// Ends what a crash or a broken stream left: matches that no longer run are closed on the ledger, so that reserved budget
    /// goes back, and missing receipts are asked for again. Returns how many matches still wait for something.
    ///
    /// # Errors
    /// The first error, after trying every match.
    pub async fn tidy(&self) -> Result<usize, MatchError> {
        let inner = &self.0;
        let (mut waiting, mut first) = inner.tidy_overlaps().await;
        for file in inner.store.all() {
            let id = file.view.id;
            if inner.is_running(&id) {
                continue;
            }
            // It may have ended since the list was made; one that does not run never runs again.
            let Some(file) = inner.store.get(&id) else {
                continue;
            };
            let open = inner.may_resume(&file) && inner.is_open(&file).await.unwrap_or(true);
            if open {
                waiting += 1;
                if file.view.role == Role::Initiator {
                    let inner = self.0.clone();
                    // It may take hours; the others are tidied meanwhile.
                    tokio::spawn(async move {
                        if let Err(error) = inner.resume(&id).await {
                            tracing::warn!(%id, %error, "a match could not go on yet");
                        }
                    });
                }
                continue;
            }
            if let Err(error) = inner.tidy_one(&file).await {
                tracing::warn!(%id, %error, "a match could not be tidied");
                first.get_or_insert(error);
            }
            let unsettled = inner
                .store
                .get(&id)
                .is_some_and(|f| f.unsettled_until_ms.is_some());
            waiting += usize::from(unsettled);
        }
        first.map_or(Ok(waiting), Err)
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashMap<MatchId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_running(&self, id: &MatchId) -> bool {
        self.running().contains_key(id)
    }

    /// How far a running match is.
    pub(super) fn progress(&self, id: &MatchId) -> Option<Progress> {
        self.running().get(id).and_then(|r| r.progress)
    }

    /// Calls off a match if it runs.
    pub(super) fn cancel_running(&self, id: &MatchId) -> bool {
        let running = self.running().get(id).map(|r| r.cancel.clone());
        running.is_some_and(|cancel| {
            cancel.cancel();
            true
        })
    }

    /// Puts a match on the list of running ones, before it is stored: so it is never taken for one that a crash left.
    ///
    /// # Errors
    /// [`MatchError::Refused`] if it runs already.
    pub(super) fn start(&self, id: MatchId) -> Result<RunGuard<'_>, MatchError> {
        let cancel = self.stop.child_token();
        match self.running().entry(id) {
            Entry::Occupied(_) => Err(MatchError::decline(
                "nonce_used",
                "the request's nonce was used",
            )),
            Entry::Vacant(place) => {
                place.insert(Running {
                    cancel: cancel.clone(),
                    progress: None,
                });
                Ok(RunGuard {
                    desk: self,
                    id,
                    cancel,
                })
            }
        }
    }

    pub(super) fn note_progress(&self, id: &MatchId, progress: Progress) {
        if let Some(running) = self.running().get_mut(id) {
            running.progress = Some(progress);
        }
    }

    pub(super) fn epoch(&self) -> Result<u64, MatchError> {
        let rules = state::rules(&*self.ledger)?;
        Ok(self
            .ledger
            .time_ms()
            .checked_div(rules.epoch_ms)
            .unwrap_or(0))
    }

    /// Tries again while this side may only be behind the peer.
    pub(super) async fn patiently<T>(
        &self,
        mut check: impl FnMut() -> Result<T, MatchError>,
    ) -> Result<T, MatchError> {
        const LATE: [&str; 5] = [
            "unknown_agreement",
            "agreement_status",
            "unknown_audience",
            "unknown_match",
            "unanswered",
        ];
        let until = tokio::time::Instant::now() + self.options.patience;
        loop {
            match check() {
                Err(MatchError::Refused { notice, .. })
                    if LATE.contains(&notice.code.as_str())
                        && tokio::time::Instant::now() < until =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                done => return done,
            }
        }
    }

    /// Notes how a match ended. One that has its answer keeps it; of another no rows stay.
    pub(super) fn end(&self, id: &MatchId, error: &MatchError) -> Result<MatchFile, MatchError> {
        let now = self.ledger.time_ms();
        let file = self.store.update(id, |f| {
            f.view.reason = Some(error.to_string());
            if f.view.answer.is_none() && !f.view.stage.is_final() {
                f.view.ended_ms = Some(now);
                f.view.stage = match error {
                    MatchError::Refused { .. } => Stage::Refused,
                    MatchError::Cancelled => Stage::Cancelled,
                    _ => Stage::Failed,
                };
            }
        })?;
        if file.in_buckets && file.view.answer.is_none() {
            self.journal(*id).forget_rows()?;
        }
        Ok(file)
    }

    /// Closes on the ledger a match that will not go on, if it is open there.
    pub(super) async fn settle(&self, id: &MatchId) -> Result<(), MatchError> {
        let Some(file) = self.store.get(id) else {
            return Ok(());
        };
        let (Some(until_ms), Some(session)) = (file.unsettled_until_ms, file.view.session) else {
            return Ok(());
        };
        let now = self.ledger.time_ms();
        let found = state::match_state(&*self.ledger, &session)?;
        let settled = match found.map(|m| (m.status, m.record)) {
            // The record that both signed may still be on its way.
            None => now > until_ms,
            Some((MatchStatus::Open | MatchStatus::Released, _)) => {
                let patient = file.view.stage == Stage::Answered
                    && now < file.view.started_ms.saturating_add(RECEIPT_PATIENCE_MS);
                if patient || self.may_resume(&file) {
                    return Ok(());
                }
                let close = if file.view.stage == Stage::Cancelled {
                    Close::Cancelled
                } else {
                    Close::Failed
                };
                let body = CloseMatch { session, close }.into();
                match self.ledger.submit_own(&body, self.options.commit).await {
                    // The other side was faster.
                    Err(LedgerError::Refused(notice)) if notice.code == "match_status" => {}
                    other => {
                        other?;
                    }
                }
                true
            }
            Some((MatchStatus::Done, _)) => {
                self.store.update(id, |f| {
                    if f.view.answer.is_some() {
                        f.view.stage = Stage::Done;
                        f.view.reason = None;
                    }
                })?;
                true
            }
            Some((MatchStatus::Failed | MatchStatus::Cancelled, _)) => true,
        };
        if settled {
            self.store.update(id, |f| f.unsettled_until_ms = None)?;
        }
        Ok(())
    }

    async fn tidy_one(&self, file: &MatchFile) -> Result<(), MatchError> {
        let id = &file.view.id;
        if !file.view.stage.is_final() && file.view.stage != Stage::Answered {
            self.end(
                id,
                &MatchError::Ended {
                    doing: "this node stopped",
                    source: None,
                },
            )?;
        }
        self.settle(id).await?;
        let left = self.store.get(id);
        let wants_receipt =
            left.is_some_and(|f| f.view.stage == Stage::Answered && f.unsettled_until_ms.is_some());
        if wants_receipt && file.view.role == Role::Initiator {
            self.receipt(id).await?;
        }
        Ok(())
    }

    /// Notes that the receipt is in the ledger.
    pub(super) fn done(&self, id: &MatchId, record: RecordId) -> Result<MatchView, MatchError> {
        let now = self.ledger.time_ms();
        let file = self.store.update(id, |f| {
            f.view.stage = Stage::Done;
            f.view.reason = None;
            f.view.close_record = Some(record);
            f.view.ended_ms = Some(now);
            f.unsettled_until_ms = None;
        })?;
        Ok(file.view)
    }
}
