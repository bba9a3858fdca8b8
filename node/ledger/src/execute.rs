//! Making blocks and judging them: everything here leaves the ledger as it is.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_contracts::block::{Block, BlockInfo, CommitCertificate, Header};
use tally_contracts::ids::{BlockHash, MemberId, RecordId};
use tally_contracts::refusal::Refusal;
use tally_contracts::state::{self, Effects, StateError};
use tally_contracts::tree::TreeChange;
use tally_contracts::{Context, Record, Rules, Verified, execute_block};
use tally_merkle::{Frontier, Hash, leaf_hash};

use crate::error::Error;
use crate::ledger::{Inner, Ledger};
use crate::store::Head;

/// Reads a token for a record whose signatures this node has verified before.
pub type VerifiedCache<'a> = &'a dyn Fn(&Record) -> Option<Verified>;

/// A block made from waiting records, and what was left out of it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The block.
    pub block: Block,
    /// Records that the contracts refuse, with the reasons.
    pub refused: Vec<(RecordId, Refusal)>,
    /// How many of the records given, from the end, had no room and may go into a later block.
    pub left_over: usize,
}

/// Why a block fails the check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Not a block that may follow.
    #[error("{0}")]
    Invalid(String),
    /// All that the block holds is good, but its execution gives another state here.
    #[error("{0}")]
    Diverged(String),
    /// This node cannot tell: its own store failed.
    #[error("{0}")]
    Store(String),
}

/// What executing a block gives; kept from check to commit.
pub(crate) struct Executed {
    pub(crate) header: Header,
    pub(crate) effects: Effects,
    /// What they make of the state tree.
    pub(crate) change: TreeChange,
    pub(crate) frontier: Frontier,
    /// The records, and the BlockInfo if there are any.
    pub(crate) entries: Vec<Vec<u8>>,
    /// The entries' leaf hashes.
    pub(crate) leaves: Vec<Hash>,
    pub(crate) ids: Vec<RecordId>,
}

/// What is wrong with a block.
enum Flaw {
    /// The records are not those that the header commits to: whoever sent it changed it on the way.
    Body(String),
    /// The header does not follow the head, or a record is refused.
    Rules(String),
    /// The state after it is another one.
    StateRoot(String),
    /// The store failed.
    Store(StateError),
}

impl From<StateError> for Flaw {
    fn from(e: StateError) -> Self {
        Self::Store(e)
    }
}

impl Ledger {
    /// Makes the next block of `records`, in their order, leaving out those that the contracts refuse and those that the
    /// rules leave no room for. Its time is `time_ms`, or one more than the last block's if that is later.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::ReadOnly`].
    pub fn prepare(
        &self,
        records: &[Record],
        time_ms: u64,
        proposer: MemberId,
        verified: VerifiedCache<'_>,
    ) -> Result<Prepared, Error> {
        let inner = self.read();
        inner.check_writable()?;
        let head = inner.head;
        let rules = state::rules(&self.store.state)?;
        known(&rules).map_err(|_| Error::Rules {
            version: rules.rules_version,
        })?;
        let fitting = fitting(records, &rules);
        let left_over = records.len() - fitting.len();
        let time_ms = time_ms.max(head.time_ms.saturating_add(1));
        let ctx = Context {
            network: self.network(),
            height: head.height + 1,
            block_time_ms: time_ms,
        };
        let outcome = execute_block(&self.store.state, fitting, verified, &ctx)?;
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for (record, result) in fitting.iter().zip(outcome.results) {
            match result {
                Ok(()) => good.push(record),
                Err(refusal) => refused.push((record.id(), refusal)),
            }
        }
        let change = inner.tree.change(&outcome.effects)?;
        let mut header = Header {
            rules_version: rules.rules_version,
            network: self.network(),
            height: head.height + 1,
            previous: head.hash,
            time_ms,
            record_count: u32::try_from(good.len())
                .map_err(|_| Error::Internal("a block with too many records"))?,
            tree_size: 0,
            tree_root: head.tree_root,
            state_root: change.root(),
            proposer,
        };
        let records: Vec<Vec<u8>> = good.iter().map(|r| r.bytes().to_vec()).collect();
        let known: Vec<Hash> = good.iter().map(|r| r.leaf()).collect();
        let (entries, leaves, frontier) = grow(&inner, &header, &records, known);
        drop(inner);
        header.tree_size = frontier.size();
        header.tree_root = frontier.root();
        self.executed.keep(Arc::new(Executed {
            header: header.clone(),
            effects: outcome.effects,
            change,
            frontier,
            entries,
            leaves,
            ids: good.iter().map(|r| r.id()).collect(),
        }));
        Ok(Prepared {
            block: Block { header, records },
            refused,
            left_over,
        })
    }

    /// Executes a proposed block and compares everything in its header, changing nothing. How far its time is from a clock
    /// is not asked here: that is for live votes alone, never for blocks that were decided.
    ///
    /// # Errors
    /// [`CheckError`].
    pub fn check(&self, block: &[u8], verified: VerifiedCache<'_>) -> Result<Header, CheckError> {
        let invalid = |e: String| CheckError::Invalid(e);
        let decoded = Block::from_bytes(block).map_err(|e| invalid(e.to_string()))?;
        let done = self
            .examine(&self.read(), &decoded, block.len(), verified)
            .map_err(|flaw| match flaw {
                Flaw::Body(reason) | Flaw::Rules(reason) => invalid(reason),
                Flaw::StateRoot(reason) => CheckError::Diverged(reason),
                Flaw::Store(e) => CheckError::Store(e.to_string()),
            })?;
        let header = done.header.clone();
        self.executed.keep(done);
        Ok(header)
    }

    /// Executes the next block, which the certificate says was decided.
    ///
    /// # Errors
    /// [`Error::Refused`] if it was not, or not with these records; [`Error::Diverged`] if it was and does not follow here.
    pub(crate) fn decided(
        &self,
        inner: &Inner,
        block: &[u8],
        certificate: &CommitCertificate,
        verified: VerifiedCache<'_>,
    ) -> Result<Arc<Executed>, Error> {
        let height = inner.head.height + 1;
        let refused = |reason: String| Error::Refused { height, reason };
        let decoded = Block::from_bytes(block).map_err(|e| refused(e.to_string()))?;
        let found = decoded.header.height;
        if found != height {
            return Err(refused(format!("its height is {found}")));
        }
        if certificate.height != height || certificate.block != decoded.header.hash() {
            return Err(refused("the certificate is for another block".into()));
        }
        certificate
            .verify(&self.validators()?, &self.network())
            .map_err(|e| refused(e.to_string()))?;
        // From here the header is what the network decided; the records are that only if they give its tree root.
        self.examine(inner, &decoded, block.len(), verified)
            .map_err(|flaw| match flaw {
                Flaw::Body(reason) => refused(reason),
                Flaw::Rules(reason) | Flaw::StateRoot(reason) => Error::Diverged { height, reason },
                Flaw::Store(e) => e.into(),
            })
    }

    fn examine(
        &self,
        inner: &Inner,
        block: &Block,
        block_bytes: usize,
        verified: VerifiedCache<'_>,
    ) -> Result<Arc<Executed>, Flaw> {
        let header = &block.header;
        if let Some(done) = self.executed.find(&header.hash(), &block.records)
            && header.previous == inner.head.hash
        {
            return Ok(done);
        }
        let rules = state::rules(&self.store.state)?;
        self.check_links(header, &inner.head, &rules)
            .map_err(Flaw::Rules)?;
        // A record knows its leaf hash; bytes that are no record have one too.
        let decoded: Vec<_> = block
            .records
            .iter()
            .map(|r| Record::from_bytes(r))
            .collect();
        let known = decoded
            .iter()
            .zip(&block.records)
            .map(|(record, bytes)| {
                record
                    .as_ref()
                    .map_or_else(|_| leaf_hash(bytes), Record::leaf)
            })
            .collect();
        let (entries, leaves, frontier) = grow(inner, header, &block.records, known);
        same("tree size", header.tree_size, frontier.size()).map_err(Flaw::Body)?;
        same("tree root", header.tree_root, frontier.root()).map_err(Flaw::Body)?;
        // Asked after the root, so that no one can lengthen a decided block on its way and have it taken for a wrong decision.
        check_room(header, &rules, block_bytes).map_err(Flaw::Rules)?;
        let records: Vec<Record> = decoded
            .into_iter()
            .enumerate()
            .map(|(i, record)| record.map_err(|e| Flaw::Rules(format!("record {i}: {e}"))))
            .collect::<Result<_, _>>()?;
        let ctx = Context {
            network: self.network(),
            height: header.height,
            block_time_ms: header.time_ms,
        };
        let outcome = execute_block(&self.store.state, &records, verified, &ctx)?;
        if let Some((i, refusal)) = outcome.first_refusal() {
            return Err(Flaw::Rules(format!("record {i} is refused: {refusal}")));
        }
        let change = inner.tree.change(&outcome.effects)?;
        same("state root", header.state_root, change.root()).map_err(Flaw::StateRoot)?;
        Ok(Arc::new(Executed {
            header: header.clone(),
            effects: outcome.effects,
            change,
            frontier,
            entries,
            leaves,
            ids: records.iter().map(Record::id).collect(),
        }))
    }

    /// What a header must be to follow the head.
    fn check_links(&self, header: &Header, head: &Head, rules: &Rules) -> Result<(), String> {
        known(rules)?;
        same("network", header.network, self.network())?;
        same("height", header.height, head.height + 1)?;
        same("previous block", header.previous, head.hash)?;
        same("rules version", header.rules_version, rules.rules_version)?;
        if header.time_ms <= head.time_ms {
            return Err(format!(
                "time {} is not after the last block's {}",
                header.time_ms, head.time_ms
            ));
        }
        Ok(())
    }
}

/// Refuses to go on under contracts that this program does not know.
fn known(rules: &Rules) -> Result<(), String> {
    if rules.is_known() {
        Ok(())
    } else {
        Err(Error::Rules {
            version: rules.rules_version,
        }
        .to_string())
    }
}

fn check_room(header: &Header, rules: &Rules, block_bytes: usize) -> Result<(), String> {
    if block_bytes > rules.max_block_bytes as usize || header.record_count > rules.max_block_records
    {
        return Err(format!(
            "{block_bytes} bytes and {} records are over the limits of {} and {}",
            header.record_count, rules.max_block_bytes, rules.max_block_records
        ));
    }
    Ok(())
}

fn same<T: Copy + PartialEq + Display>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} is {found}, expected {expected}"))
    }
}

/// The records, from the start, that fit a block together.
fn fitting<'a>(records: &'a [Record], rules: &Rules) -> &'a [Record] {
    // Header, lengths, and room to spare.
    let mut room = (rules.max_block_bytes as usize).saturating_sub(1024);
    let fitting = records
        .iter()
        .take(rules.max_block_records as usize)
        .take_while(|r| {
            let left = room.checked_sub(r.bytes().len() + 4);
            room = left.unwrap_or(0);
            left.is_some()
        })
        .count();
    records.get(..fitting).unwrap_or_default()
}

/// The entries of a block with their leaf hashes, of which those of the records are known, and the tree with them.
fn grow(
    inner: &Inner,
    header: &Header,
    records: &[Vec<u8>],
    mut leaves: Vec<Hash>,
) -> (Vec<Vec<u8>>, Vec<Hash>, Frontier) {
    let entries = entries_of(header, records.to_vec());
    leaves.extend(entries.iter().skip(leaves.len()).map(|e| leaf_hash(e)));
    let mut frontier = inner.frontier.clone();
    for leaf in &leaves {
        frontier.append(*leaf);
    }
    (entries, leaves, frontier)
}

/// A block's records, and after them its BlockInfo if there are any.
pub(crate) fn entries_of(header: &Header, records: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut entries = records;
    if !entries.is_empty() {
        let info = BlockInfo {
            rules_version: header.rules_version,
            height: header.height,
            time_ms: header.time_ms,
            previous: header.previous,
            record_count: header.record_count,
            proposer: header.proposer,
            state_root: header.state_root,
        };
        entries.push(info.to_bytes());
    }
    entries
}

/// What the few proposals of a height gave, so that a block is executed once and not again when it is decided.
#[derive(Default)]
pub(crate) struct Kept(Mutex<BTreeMap<BlockHash, Arc<Executed>>>);

impl Kept {
    const MOST: usize = 4;

    fn keep(&self, done: Arc<Executed>) {
        let mut kept = self.lock();
        if kept.len() >= Self::MOST {
            kept.pop_first();
        }
        kept.insert(done.header.hash(), done);
    }

    /// What executing the block of this hash gave, if it was with just these records.
    fn find(&self, hash: &BlockHash, records: &[Vec<u8>]) -> Option<Arc<Executed>> {
        self.lock()
            .get(hash)
            .filter(|done| {
                done.ids.len() == records.len()
                    && done.entries.iter().zip(records).all(|(a, b)| a == b)
            })
            .cloned()
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BlockHash, Arc<Executed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
