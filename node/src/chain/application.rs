//! The ledger as the consensus engine sees it.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use tally_consensus::Refusal as BlockRefusal;
use tally_consensus::{AppError, Application, CheckContext, CommitError, Fatal, Validator};
use tally_contracts::block::{Block, CommitCertificate};
use tally_contracts::ids::BlockHash;
use tally_contracts::state;
use tally_ledger::{CheckError, Ledger};

use super::{Chain, Outcome, lock, next_nonce, now_ms};

/// Bytes of a block that are not records: header, lengths and room to spare.
const BLOCK_OVERHEAD: usize = 1024;

/// Drives one [`Chain`].
pub struct ChainApplication {
    chain: Chain,
    last_block: Instant,
}

impl ChainApplication {
    /// For the engine of this chain; there is one a node.
    #[must_use]
    pub fn new(chain: Chain) -> Self {
        Self {
            chain,
            last_block: Instant::now(),
        }
    }

    /// Runs something of the ledger that reads or writes files, off the runtime's own threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Chain, &Ledger) -> T + Send + 'static,
    ) -> Result<T, String> {
        let chain = self.chain.clone();
        tokio::task::spawn_blocking(move || {
            let ledger = chain.ledger().clone();
            work(&chain, &ledger)
        })
        .await
        .map_err(|e| format!("a ledger task failed: {e}"))
    }
}

#[async_trait]
impl Application for ChainApplication {
    async fn next_height(&mut self) -> u64 {
        self.chain.ledger().head().height + 1
    }

    async fn validators(&mut self, height: u64) -> Vec<Validator> {
        // The state after a block holds the validators of the very next height, and of no other.
        let next = self.chain.ledger().head().height + 1;
        if height != next {
            tracing::error!(
                height,
                next,
                "the validators of another height were asked for"
            );
            return Vec::new();
        }
        match self.chain.ledger().validators() {
            Ok(set) => set
                .validators()
                .iter()
                .map(|v| Validator {
                    key: v.consensus,
                    power: v.power,
                })
                .collect(),
            Err(e) => {
                tracing::error!(error = %e, "the validators cannot be read");
                Vec::new()
            }
        }
    }

    async fn wait_for_work(&mut self) {
        let ledger = self.chain.ledger().clone();
        let heartbeat = state::rules(ledger.state()).map_or(10_000, |r| r.heartbeat_ms);
        let due = self.last_block + Duration::from_millis(heartbeat);
        loop {
            let waiting = self.chain.0.work.notified();
            let ready = !lock(&self.chain.0.pool)
                .candidates(1, usize::MAX / 2, |m, k| next_nonce(ledger.state(), m, k))
                .is_empty();
            if ready {
                return;
            }
            tokio::select! {
                () = waiting => {}
                () = tokio::time::sleep_until(due.into()) => return,
            }
        }
    }

    async fn build_block(&mut self, height: u64, _round: u32) -> Result<Vec<u8>, AppError> {
        let built = self
            .blocking(move |chain, ledger| {
                let rules = state::rules(ledger.state()).map_err(|e| e.to_string())?;
                let room = (rules.max_block_bytes as usize).saturating_sub(BLOCK_OVERHEAD);
                let records = lock(&chain.0.pool).candidates(rules.max_block_records as usize, room, |m, k| {
                    next_nonce(ledger.state(), m, k)
                });
                let prepared = ledger
                    .prepare(&records, now_ms(), chain.member(), &chain.verified())
                    .map_err(|e| e.to_string())?;
                for (id, refusal) in &prepared.refused {
                    tracing::info!(record = %id, reason = %refusal, "left a refused record out of the block");
                    lock(&chain.0.pool).remove(id);
                    chain.tell(id, &Outcome::Refused(refusal.notice()));
                }
                Ok::<_, String>(prepared.block)
            })
            .await
            .and_then(|r| r)
            .map_err(AppError)?;
        if built.header.height == height {
            Ok(built.to_bytes())
        } else {
            Err(AppError(format!(
                "asked for height {height}, the ledger is at {}",
                built.header.height
            )))
        }
    }

    async fn check_block(
        &mut self,
        _height: u64,
        _round: u32,
        block: &[u8],
        context: CheckContext,
    ) -> Result<BlockHash, BlockRefusal> {
        let bytes = block.to_vec();
        let checked = self
            .blocking(move |chain, ledger| -> Result<BlockHash, BlockRefusal> {
                if matches!(context, CheckContext::Live) {
                    check_live(chain, ledger, &bytes)?;
                }
                ledger
                    .check(&bytes, &chain.verified())
                    .map(|header| header.hash())
                    .map_err(|e| match e {
                        CheckError::Diverged(reason) => BlockRefusal::Diverged(reason),
                        other => BlockRefusal::Invalid(other.to_string()),
                    })
            })
            .await;
        checked.unwrap_or_else(|e| Err(BlockRefusal::Invalid(e)))
    }

    async fn commit_block(
        &mut self,
        block: Vec<u8>,
        certificate: CommitCertificate,
    ) -> Result<(), CommitError> {
        self.blocking(move |chain, ledger| {
            let (header, places) = ledger
                .commit(&block, &certificate, &chain.verified())
                .map_err(|e| match e {
                    // The ledger stands as before; somebody else may have the right block.
                    tally_ledger::Error::Refused { .. } => CommitError::Refused(e.to_string()),
                    other => Fatal(other.to_string()).into(),
                })?;
            {
                let mut pool = lock(&chain.0.pool);
                for (id, _) in &places {
                    pool.remove(id);
                }
            }
            for (id, place) in &places {
                chain.tell(id, &Outcome::Committed(*place));
            }
            chain.clean_pool();
            tracing::debug!(
                height = header.height,
                records = header.record_count,
                "committed"
            );
            chain.0.head.send_replace(ledger.head());
            let rules = state::rules(ledger.state()).map_err(|e| Fatal(e.to_string()))?;
            if !rules.is_known() {
                let version = rules.rules_version;
                return Err(Fatal(tally_ledger::Error::Rules { version }.to_string()).into());
            }
            Ok::<_, CommitError>(())
        })
        .await
        .unwrap_or_else(|e| Err(Fatal(e).into()))?;
        self.last_block = Instant::now();
        Ok(())
    }

    async fn block_at(&mut self, height: u64) -> Option<(Vec<u8>, CommitCertificate)> {
        self.blocking(move |_, ledger| {
            let stored = ledger.block(height).ok()?;
            let certificate = CommitCertificate::from_bytes(&stored.certificate).ok()?;
            Some((stored.block, certificate))
        })
        .await
        .ok()
        .flatten()
    }

    async fn first_height(&mut self) -> u64 {
        self.chain.ledger().first_height()
    }
}

/// What is only asked of a block proposed now: its time is near this node's clock, and its proposer is a validator's member.
fn check_live(chain: &Chain, ledger: &Ledger, bytes: &[u8]) -> Result<(), BlockRefusal> {
    let header = Block::from_bytes(bytes).map_err(|e| e.to_string())?.header;
    let rules = state::rules(ledger.state()).map_err(|e| e.to_string())?;
    let now = now_ms();
    let validators = ledger.validators().map_err(|e| e.to_string())?;
    if validators
        .validators()
        .iter()
        .all(|v| v.member != header.proposer)
    {
        return Err(format!("proposer {} has no validator", header.proposer).into());
    }
    if header.proposer != chain.member() {
        let skew = header.time_ms.cast_signed().wrapping_sub(now.cast_signed());
        lock(&chain.0.skews).insert(header.proposer, skew);
    }
    if header.time_ms.abs_diff(now) > rules.max_skew_ms {
        return Err(BlockRefusal::Untimely(format!(
            "block time {} is more than {} ms from this node's clock {now}",
            header.time_ms, rules.max_skew_ms
        )));
    }
    Ok(())
}
