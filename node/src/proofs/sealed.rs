//! Waiting for the checkpoint that can prove what the state says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tally_ledger::Ledger;
use tally_merkle::Note;
use tokio::time::{Instant, timeout};

use super::{AtHead, Kit, ProofError};
use crate::chain::Chain;

/// How often the newest checkpoint is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// States that are kept until their checkpoint has a quorum.
const KEPT: usize = 64;

/// What is proven of the state, under the newest checkpoint that can have it; `None` if none got a quorum within `wait`. The state is
/// known at the head alone, and it must be that of the checkpoint. So the states of the last heads are kept until one of them is
/// what the newest checkpoint is of.
///
/// # Errors
/// What `take` gives; [`ProofError`] if the proof cannot be put together.
pub(crate) async fn sealed<T: AtHead + Send + Sync + 'static>(
    chain: &Chain,
    take: impl Fn(&Ledger) -> Result<T, ProofError> + Send + Sync + 'static,
    wait: Duration,
) -> Result<Option<Kit>, ProofError> {
    let take = Arc::new(take);
    let mut heads = chain.heads();
    let mut taken: BTreeMap<u64, Arc<T>> = BTreeMap::new();
    let until = Instant::now() + wait;
    loop {
        let size = heads.borrow_and_update().tree_size;
        if !taken.contains_key(&size) {
            let take = Arc::clone(&take);
            let evidence = with_ledger(chain, move |ledger| take(ledger)).await?;
            taken.insert(evidence.tree_size(), Arc::new(evidence));
            while taken.len() > KEPT {
                taken.pop_first();
            }
        }
        if let Some((size, note)) = chain.checkpoint()
            && let Some(evidence) = taken.get(&size)
        {
            let evidence = Arc::clone(evidence);
            let kit = with_ledger(chain, move |ledger| {
                evidence.seal(ledger, &Note::parse(&note)?)
            });
            match kit.await {
                // By power it is a quorum, by number not yet: cosignatures still come in.
                Err(ProofError::Verify(tally_evidence::Error::Quorum { .. })) => {}
                kit => return kit.map(Some),
            }
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        if let Ok(Err(_)) = timeout(LOOK, heads.changed()).await {
            return Err(ProofError::Stopping);
        }
    }
}

/// Reads the disk and computes on a thread that may.
async fn with_ledger<T: Send + 'static>(
    chain: &Chain,
    work: impl FnOnce(&Ledger) -> Result<T, ProofError> + Send + 'static,
) -> Result<T, ProofError> {
    let chain = chain.clone();
    tokio::task::spawn_blocking(move || work(chain.ledger()))
        .await
        .map_err(|_| ProofError::Stopping)?
}
