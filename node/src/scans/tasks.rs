//! What runs beside the service: anchoring, and asking issuers again.

use std::sync::Arc;
use std::time::Duration;

use tally_contracts::records::AnchorScans;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Anchored, Anchorer, ScanError, ScanLog, ScanService};

/// When the tasks act.
#[derive(Debug, Clone, Copy)]
pub struct TaskConfig {
    /// Anchor as soon as this many scans are not anchored.
    pub anchor_every: u64,
    /// Anchor when the oldest scan that is not anchored has waited this long.
    pub anchor_after: Duration,
    /// The first wait after a failure; it doubles with each further one.
    pub retry_min: Duration,
    /// The longest wait after a failure.
    pub retry_max: Duration,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self {
            anchor_every: 4096,
            anchor_after: Duration::from_secs(2),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_secs(30),
        }
    }
}

struct Backoff {
    next: Duration,
    config: TaskConfig,
}

impl Backoff {
    const fn new(config: TaskConfig) -> Self {
        Self {
            next: config.retry_min,
            config,
        }
    }

    fn reset(&mut self) {
        self.next = self.config.retry_min;
    }

    fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = self.next.saturating_mul(2).min(self.config.retry_max);
        wait
    }
}

/// Anchors the log in the ledger until `stop`: every so many scans or so long, and again for ever when it fails.
pub async fn run_anchoring(
    service: Arc<ScanService>,
    anchorer: Arc<dyn Anchorer>,
    log_id: u16,
    config: TaskConfig,
    stop: CancellationToken,
) {
    let work = anchor_loop(&service, anchorer.as_ref(), log_id, config);
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

async fn anchor_loop(
    service: &ScanService,
    anchorer: &dyn Anchorer,
    log_id: u16,
    config: TaskConfig,
) {
    let log = service.log();
    let mut size = log.watch_size();
    let mut backoff = Backoff::new(config);
    let mut known = false;
    loop {
        let result = if known {
            wait_for_work(log, &mut size, &config).await;
            anchor_once(log, anchorer, log_id).await
        } else {
            // What the ledger has counts: a node may have been killed between submitting and noting the anchor.
            reconcile(log, anchorer, log_id).await
        };
        match result {
            Ok(()) => {
                known = true;
                backoff.reset();
            }
            Err(AnchorFault::Forked(error)) => {
                tracing::error!(%error, "the scan log is read-only");
                log.set_forked(&error);
                return;
            }
            Err(AnchorFault::Later(reason)) => {
                tracing::warn!(reason, "scans are not anchored yet");
                known = false;
                sleep(backoff.step()).await;
            }
        }
    }
}

enum AnchorFault {
    Forked(ScanError),
    Later(String),
}

impl From<ScanError> for AnchorFault {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Forked { .. } => Self::Forked(error),
            other => Self::Later(other.to_string()),
        }
    }
}

fn anchored_size(log: &ScanLog) -> u64 {
    log.anchor_state().last.map_or(0, |a| a.size)
}

async fn wait_for_work(
    log: &ScanLog,
    size: &mut tokio::sync::watch::Receiver<u64>,
    config: &TaskConfig,
) {
    let anchored = anchored_size(log);
    // The sender lives as long as the log does.
    if size.wait_for(|s| *s > anchored).await.is_err() {
        return std::future::pending().await;
    }
    let deadline = Instant::now() + config.anchor_after;
    let enough = size.wait_for(|s| s.saturating_sub(anchored) >= config.anchor_every);
    tokio::select! {
        _ = enough => {}
        () = sleep_until(deadline) => {}
    }
}

async fn anchor_once(
    log: &ScanLog,
    anchorer: &dyn Anchorer,
    log_id: u16,
) -> Result<(), AnchorFault> {
    let old = anchored_size(log);
    let size = log.size();
    if size <= old {
        return Ok(());
    }
    let root = log.root_at(size)?.ok_or(ScanError::Internal {
        what: "no root of the log's own size",
    })?;
    let anchored = anchorer
        .anchor(AnchorScans {
            log_id,
            size,
            root,
            consistency: log.consistency(old, size)?,
        })
        .await
        .map_err(|e| AnchorFault::Later(e.to_string()))?;
    keep(log, anchored)
}

async fn reconcile(log: &ScanLog, anchorer: &dyn Anchorer, log_id: u16) -> Result<(), AnchorFault> {
    let last = anchorer
        .last(log_id)
        .await
        .map_err(|e| AnchorFault::Later(e.to_string()))?;
    last.map_or(Ok(()), |anchored| keep(log, anchored))
}

/// Takes an anchor of the ledger over, if it is one of this very log.
fn keep(log: &ScanLog, anchored: Anchored) -> Result<(), AnchorFault> {
    if log.root_at(anchored.size)? != Some(anchored.root) {
        return Err(AnchorFault::Forked(ScanError::Forked {
            anchored: anchored.size,
            found: log.size(),
        }));
    }
    log.record_anchor(anchored.size, anchored.root, anchored.record)?;
    Ok(())
}

/// How many scans are asked about in one round.
const RETRY_ROUND: usize = 256;

/// Asks issuers again about scans that could not be verified, until `stop`.
pub async fn run_retries(service: Arc<ScanService>, config: TaskConfig, stop: CancellationToken) {
    let work = retry_loop(&service, config);
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

async fn retry_loop(service: &Arc<ScanService>, config: TaskConfig) {
    let mut size = service.log().watch_size();
    let mut backoff = Backoff::new(config);
    loop {
        sleep(backoff.step()).await;
        if service.log().pending() == 0 {
            backoff.reset();
            if size.changed().await.is_err() {
                return;
            }
            continue;
        }
        if retry_round(service).await {
            backoff.reset();
        }
    }
}

/// How many scans are asked about at once, when their issuer is known to answer.
const RETRY_AT_ONCE: usize = 64;

/// One pass over the waiting scans; says whether any was answered. An issuer that fails once is left alone for the round.
async fn retry_round(service: &Arc<ScanService>) -> bool {
    let (mut silent, mut speaking) = (Vec::new(), Vec::new());
    let mut answered = false;
    let mut after = None;
    loop {
        let round = match service.log().pending_after(after, RETRY_ROUND) {
            Ok(round) => round,
            Err(error) => {
                tracing::warn!(%error, "scans that wait for their issuer cannot be read");
                return answered;
            }
        };
        let Some((last, _)) = round.last() else {
            return answered;
        };
        after = Some(*last);
        let mut rest = round.into_iter().peekable();
        while rest.peek().is_some() {
            // One scan alone tells whether the issuer answers; after that many at once.
            let mut together = Vec::new();
            for (index, pending) in rest.by_ref() {
                let issuer = pending.issuer;
                if silent.contains(&issuer) {
                    continue;
                }
                together.push((issuer, service.retry(index, pending)));
                if !speaking.contains(&issuer) || together.len() == RETRY_AT_ONCE {
                    break;
                }
            }
            let (issuers, asked): (Vec<_>, Vec<_>) = together.into_iter().unzip();
            let results = futures::future::join_all(asked).await;
            for (issuer, result) in issuers.into_iter().zip(results) {
                match result {
                    Ok(true) => {
                        answered = true;
                        speaking.push(issuer);
                    }
                    Ok(false) => silent.push(issuer),
                    Err(error) => {
                        tracing::warn!(%error, "a later verdict was not written");
                        return answered;
                    }
                }
            }
            speaking.sort_unstable();
            speaking.dedup();
        }
    }
}
