//! The ledger as the consensus engine sees it.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use tally_consensus::Refusal as BlockRefusal;
use tally_consensus::{
    AppError, Application, CheckContext, CommitError, DecidedBlock, Fatal, Validator,
};
use tally_contracts::block::{Block, CommitCertificate};
use tally_contracts::ids::BlockHash;
use tally_contracts::state;
use tally_ledger::{CheckError, Committed, Ledger};
use tally_swarm::Host;

use super::blocks::Fetch;
use super::{Chain, Outcome, lock, next_nonce, now_ms};

/// Bytes of a block that are not records: header, lengths and room to spare.
const BLOCK_OVERHEAD: usize = 1024;
/// How often peers are asked at most whether this node is far behind them.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Drives one [`Chain`].
pub struct ChainApplication {
    chain: Chain,
    last_block: Instant,
    /// From whom blocks are taken if this node is far behind.
    host: Option<Host>,
    fetch: Option<Fetch>,
    /// When peers were asked last whether it is.
    asked: Option<Instant>,
}

impl ChainApplication {
    /// For the engine of this chain; there is one a node.
    #[must_use]
    pub fn new(chain: Chain) -> Self {
        Self {
            chain,
            last_block: Instant::now(),
            host: None,
            fetch: None,
            asked: None,
        }
    }

    /// As [`Self::new`]; blocks are taken many at a time from the swarm's peers while the node is far behind them.
    #[must_use]
    pub fn fetching(chain: Chain, host: Host) -> Self {
        Self {
            host: Some(host),
            ..Self::new(chain)
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
            let committed = ledger
                .commit(&block, &certificate, &chain.verified())
                .map_err(to_commit_error)?;
            chain.committed(&[committed]);
            known_rules(ledger)
        })
        .await
        .unwrap_or_else(|e| Err(Fatal(e).into()))?;
        self.last_block = Instant::now();
        Ok(())
    }

    async fn is_far_behind(&mut self) -> bool {
        let Some(host) = &self.host else {
            return false;
        };
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return false;
        }
        self.asked = Some(Instant::now());
        let from = self.chain.ledger().head().height + 1;
        self.fetch = Fetch::begin(host, from).await;
        self.fetch.is_some()
    }

    async fn next_blocks(&mut self) -> Option<Vec<DecidedBlock>> {
        let next = self.fetch.as_mut()?.next().await;
        if next.is_none() {
            self.fetch = None;
        }
        next
    }

    async fn commit_blocks(&mut self, blocks: Vec<DecidedBlock>) -> Result<(), CommitError> {
        let begun = Instant::now();
        let result = self
            .blocking(move |chain, ledger| {
                let mut committed = Vec::new();
                let result = ledger.commit_all(&blocks, &chain.verified(), &mut |block| {
                    committed.push(block);
                });
                chain.committed(&committed);
                tracing::debug!(
                    height = ledger.head().height,
                    blocks = committed.len(),
                    ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "committed blocks of others"
                );
                result.map_err(to_commit_error)?;
                known_rules(ledger)
            })
            .await
            .unwrap_or_else(|e| Err(Fatal(e).into()));
        if result.is_err() {
            self.fetch = None;
        }
        self.last_block = Instant::now();
        result
    }

    async fn block_at(&mut self, height: u64) -> Option<DecidedBlock> {
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

fn to_commit_error(error: tally_ledger::Error) -> CommitError {
    match error {
        // The ledger stands as before; somebody else may have the right block.
        tally_ledger::Error::Refused { .. } => CommitError::Refused(error.to_string()),
        other => Fatal(other.to_string()).into(),
    }
}

/// Nothing may follow a block that brought rules which this program does not know.
fn known_rules(ledger: &Ledger) -> Result<(), CommitError> {
    let rules = state::rules(ledger.state()).map_err(|e| Fatal(e.to_string()))?;
    if rules.is_known() {
        return Ok(());
    }
    let version = rules.rules_version;
    Err(Fatal(tally_ledger::Error::Rules { version }.to_string()).into())
}

impl Chain {
    /// Tells of blocks that were committed: the pool, who waits for a record, who follows the head.
    fn committed(&self, blocks: &[Committed]) {
        {
            let mut pool = lock(&self.0.pool);
            for (id, _) in blocks.iter().flat_map(|(_, places)| places) {
                pool.remove(id);
            }
        }
        for (header, places) in blocks {
            for (id, place) in places {
                self.tell(id, &Outcome::Committed(*place));
            }
            tracing::debug!(
                height = header.height,
                records = header.record_count,
                "committed"
            );
        }
        self.clean_pool();
        self.0.head.send_replace(self.ledger().head());
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
