//! A ledger carried out again from its entries alone, from the genesis on: what an auditor does who takes nobody's word.
//!
//! In scope: the contracts over every record, each block's height, time, order, proposer, link to the block before, and state
//! root, and the root of the tree of entries. Out of scope: where the entries come from, checkpoints, who signed them.
//!
//! Entries go in one by one. Memory holds the shared state, its tree, and the records of one block, whose number and size the
//! rules bound.

use tally_contracts::block::{
    Block, BlockInfo, ENTRY_BLOCK_INFO, ENTRY_RECORD, Header, MAX_BLOCK_BYTES, MAX_BLOCK_RECORDS,
};
use tally_contracts::ids::{BlockHash, MemberId, NetworkId, RecordId};
use tally_contracts::state::{self, MemoryState, StateError};
use tally_contracts::{
    CodecError, Context, Genesis, MemberEntry, Record, Refusal, StateTree, ValidatorSet,
    due_changes, execute_block, genesis_effects,
};
use tally_merkle::{Frontier, Hash, leaf_hash};

use crate::roster::Roster;

/// Why a ledger's entries are not what its contracts give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Entry 0 is no genesis document.
    #[error("the genesis document is not valid: {0}")]
    Genesis(tally_contracts::Error),
    /// An entry that is neither a record nor a BlockInfo.
    #[error("expected a record or a BlockInfo, found an entry of type {found}")]
    Type {
        /// The type, 0 if the entry is too short to have one.
        found: u8,
    },
    /// A record or a BlockInfo that does not read.
    #[error("the {what} does not read: {reason}")]
    Form {
        /// `record` or `BlockInfo`.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// More records, or more bytes of them, than a block may have.
    #[error(
        "{records} records of {bytes} bytes are over the limits of a block, {max_records} and {max_bytes}"
    )]
    BlockSize {
        /// Records since the last BlockInfo.
        records: usize,
        /// Bytes of the block that they make.
        bytes: usize,
        /// The rules' limit.
        max_records: u32,
        /// The rules' limit.
        max_bytes: u32,
    },
    /// A BlockInfo says another number of records than stand before it.
    #[error("the block says {said} records, {found} stand before its BlockInfo")]
    RecordCount {
        /// What it says.
        said: u32,
        /// How many there are.
        found: usize,
    },
    /// A height that does not follow.
    #[error("the block's height is {found}, expected {least} or more")]
    Height {
        /// The block's.
        found: u64,
        /// The height after the block before.
        least: u64,
    },
    /// A time that does not rise with each block, those without records included.
    #[error("the block's time is {found} ms, expected {least} ms or later")]
    Time {
        /// The block's, POSIX milliseconds.
        found: u64,
        /// The earliest that can be.
        least: u64,
    },
    /// The block says another block before it than the one that is before it.
    #[error("the block follows block {found}, expected {expected}")]
    Previous {
        /// What it says.
        found: BlockHash,
        /// The hash of the block before.
        expected: BlockHash,
    },
    /// Rules that are not in force.
    #[error("the block's rules version is {found}, expected {expected}")]
    RulesVersion {
        /// The block's.
        found: u32,
        /// That of the state.
        expected: u32,
    },
    /// A proposer who has no validator.
    #[error("the block's proposer {found} has no validator")]
    Proposer {
        /// The proposer.
        found: MemberId,
    },
    /// A record that the contracts refuse.
    #[error("record {record} is refused: {refusal}")]
    Refused {
        /// The record.
        record: RecordId,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// The state after the block is another one.
    #[error("the state root is {found}, carrying the records out gives {expected}")]
    StateRoot {
        /// What the block says.
        found: Hash,
        /// What its records give.
        expected: Hash,
    },
    /// The entries end in the middle of a block.
    #[error("{records} records at the end belong to no block")]
    Unfinished {
        /// How many.
        records: usize,
    },
    /// The state cannot be read; after a state root that was right it never happens.
    #[error("the state is damaged: {0}")]
    State(StateError),
    /// A defect of this program.
    #[error("internal error: {0}")]
    Internal(tally_contracts::Error),
}

impl Fault {
    /// A stable word for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Genesis(_) => "genesis",
            Self::Type { .. } | Self::Form { .. } => "entry",
            Self::BlockSize { .. } => "block_size",
            Self::RecordCount { .. } => "record_count",
            Self::Height { .. } => "height",
            Self::Time { .. } => "time",
            Self::Previous { .. } => "previous_block",
            Self::RulesVersion { .. } => "rules_version",
            Self::Proposer { .. } => "proposer",
            Self::Refused { .. } => "refused_record",
            Self::StateRoot { .. } => "state_root",
            Self::Unfinished { .. } => "unfinished",
            Self::State(_) | Self::Internal(_) => "internal",
        }
    }
}

/// The first place at which a ledger is not what its contracts give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {index}: {fault}")]
pub struct Difference {
    /// The entry's index: the record, or the BlockInfo that says something else.
    pub index: u64,
    /// The height of the block that it is in, as the block says, if it was reached.
    pub height: Option<u64>,
    /// What is wrong.
    pub fault: Fault,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records carried out.
    pub records: u64,
    /// Blocks with records.
    pub blocks: u64,
    /// Height of the last of them.
    pub height: u64,
    /// Its time, POSIX milliseconds.
    pub time_ms: u64,
    /// Blocks whose link to the block before was compared.
    pub links: u64,
    /// Blocks that follow one without records, which is no entry: what it was cannot be told from entries, so its hash was not
    /// compared.
    pub open_links: u64,
}

/// A ledger being carried out again.
pub struct Replay {
    genesis: Genesis,
    network: NetworkId,
    state: MemoryState,
    tree: StateTree,
    frontier: Frontier,
    /// Hash of the last block, and its height.
    previous: BlockHash,
    records: Vec<Record>,
    /// Bytes of the block that the waiting records make.
    bytes: usize,
    progress: Progress,
}

/// Bytes of a block before its records: the header with its length, and the count.
fn block_overhead(header: &Header) -> usize {
    let block = Block {
        header: header.clone(),
        records: Vec::new(),
    };
    block.to_bytes().len()
}

impl Replay {
    /// Starts with entry 0.
    ///
    /// # Errors
    /// [`Difference`] if it is no genesis document.
    pub fn new(document: &[u8]) -> Result<Self, Difference> {
        let at_0 = |fault| Difference {
            index: 0,
            height: None,
            fault,
        };
        let genesis = Genesis::from_bytes(document).map_err(|e| at_0(Fault::Genesis(e)))?;
        let effects = genesis_effects(&genesis);
        let mut tree = StateTree::new();
        tree.commit(&effects)
            .map_err(|e| at_0(Fault::Internal(e)))?;
        let mut state = MemoryState::new();
        state.apply(effects);
        let mut frontier = Frontier::new();
        frontier.append(leaf_hash(document));
        Ok(Self {
            network: genesis.network_id(),
            state,
            tree,
            frontier,
            previous: BlockHash([0; 32]),
            records: Vec::new(),
            bytes: 0,
            progress: Progress {
                time_ms: genesis.created_ms,
                ..Progress::default()
            },
            genesis,
        })
    }

    /// The network's ID: the hash of entry 0.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// The genesis.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Entries taken so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root of the tree of the entries so far.
    #[must_use]
    pub fn tree_root(&self) -> Hash {
        self.frontier.root()
    }

    /// The root of the state after the last block.
    #[must_use]
    pub fn state_root(&self) -> Hash {
        self.tree.root()
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The validators after the last block, and the members.
    ///
    /// # Errors
    /// [`StateError`] if the state is damaged.
    pub fn validators(&self) -> Result<(ValidatorSet, Vec<MemberEntry>), StateError> {
        let set = state::validators(&self.state)?;
        let mut members = Vec::new();
        for (key, _) in self.state.iter() {
            let id = key
                .strip_prefix(state::keys::MEMBER.as_bytes())
                .and_then(|id| id.try_into().ok())
                .map(MemberId);
            if let Some(id) = id
                && let Some(member) = state::member(&self.state, &id)?
            {
                members.push(member);
            }
        }
        Ok((set, members))
    }

    /// Members and keys after the last block, and the keys of before: what [`crate::verify_under`] takes.
    ///
    /// # Errors
    /// [`StateError`] if the state is damaged.
    pub fn roster(&self) -> Result<Roster, StateError> {
        Roster::of_state(&self.state, self.progress.height)
    }

    /// Takes the next entry. With a BlockInfo, carries its block out, and gives it.
    ///
    /// # Errors
    /// [`Difference`]; the replay is then of no more use.
    pub fn entry(&mut self, bytes: &[u8]) -> Result<Option<BlockInfo>, Difference> {
        let index = self.size();
        let wrong = |height, fault| Difference {
            index,
            height,
            fault,
        };
        match bytes.get(1).copied().unwrap_or_default() {
            ENTRY_RECORD => {
                let record = Record::from_bytes(bytes).map_err(|e| {
                    wrong(
                        None,
                        Fault::Form {
                            what: "record",
                            reason: e.to_string(),
                        },
                    )
                })?;
                self.frontier.append(record.leaf());
                self.bytes = self.bytes.saturating_add(bytes.len() + 4);
                self.records.push(record);
                self.bound(0).map_err(|fault| wrong(None, fault))?;
                Ok(None)
            }
            ENTRY_BLOCK_INFO => {
                let form = |e: CodecError| Fault::Form {
                    what: "BlockInfo",
                    reason: e.to_string(),
                };
                let info = BlockInfo::from_bytes(bytes).map_err(|e| wrong(None, form(e)))?;
                self.frontier.append(leaf_hash(bytes));
                self.block(index, &info)?;
                Ok(Some(info))
            }
            found => Err(wrong(None, Fault::Type { found })),
        }
    }

    /// Says that there are no more entries.
    ///
    /// # Errors
    /// [`Fault::Unfinished`] if they end within a block.
    pub fn finish(&self) -> Result<(), Difference> {
        match self.records.len() {
            0 => Ok(()),
            records => Err(Difference {
                index: self.size().saturating_sub(records as u64),
                height: None,
                fault: Fault::Unfinished { records },
            }),
        }
    }

    /// Checks the waiting records against the limits of a block, with this many bytes more.
    fn bound(&self, overhead: usize) -> Result<(), Fault> {
        let rules = state::rules(&self.state).map_err(Fault::State)?;
        let bytes = self.bytes.saturating_add(overhead);
        // Before its BlockInfo nothing says for which height a record is, and larger blocks may be allowed by then.
        let schedule = state::schedule(&self.state).map_err(Fault::State)?;
        let (max_records, max_bytes) = if overhead == 0 && !schedule.0.is_empty() {
            (MAX_BLOCK_RECORDS, MAX_BLOCK_BYTES)
        } else {
            (
                rules.max_block_records as usize,
                rules.max_block_bytes as usize,
            )
        };
        if self.records.len() > max_records || bytes > max_bytes {
            return Err(Fault::BlockSize {
                records: self.records.len(),
                bytes,
                max_records: rules.max_block_records,
                max_bytes: rules.max_block_bytes,
            });
        }
        Ok(())
    }

    /// Carries out the waiting records as the block that `info`, the entry at `index`, closes.
    fn block(&mut self, index: u64, info: &BlockInfo) -> Result<(), Difference> {
        let wrong = |fault| Difference {
            index,
            height: Some(info.height),
            fault,
        };
        let header = Header {
            rules_version: info.rules_version,
            network: self.network,
            height: info.height,
            previous: info.previous,
            time_ms: info.time_ms,
            record_count: info.record_count,
            tree_size: self.frontier.size(),
            tree_root: self.frontier.root(),
            state_root: info.state_root,
            proposer: info.proposer,
        };
        // What members have passed for a height before this one came into force in a block that is no entry.
        let due = due_changes(&self.state, info.height).map_err(|e| wrong(Fault::State(e)))?;
        self.tree
            .commit(&due)
            .map_err(|e| wrong(Fault::Internal(e)))?;
        self.state.apply(due);
        self.bound(block_overhead(&header)).map_err(wrong)?;
        self.follows(info).map_err(wrong)?;
        let ctx = Context {
            network: self.network,
            height: info.height,
            block_time_ms: info.time_ms,
        };
        let outcome = execute_block(&self.state, &self.records, &|_| None, &ctx)
            .map_err(|e| wrong(Fault::State(e)))?;
        if let Some((i, refusal)) = outcome.first_refusal() {
            let before = (self.records.len() - i) as u64;
            return Err(Difference {
                index: index.saturating_sub(before),
                height: Some(info.height),
                fault: Fault::Refused {
                    record: self.records.get(i).map_or(RecordId([0; 32]), Record::id),
                    refusal: Box::new(refusal.clone()),
                },
            });
        }
        let expected = self
            .tree
            .commit(&outcome.effects)
            .map_err(|e| wrong(Fault::Internal(e)))?;
        if expected != info.state_root {
            return Err(wrong(Fault::StateRoot {
                found: info.state_root,
                expected,
            }));
        }
        self.state.apply(outcome.effects);
        self.progress.records += self.records.len() as u64;
        self.progress.blocks += 1;
        self.progress.height = info.height;
        self.progress.time_ms = info.time_ms;
        self.previous = header.hash();
        self.records.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Checks what a BlockInfo says of its place.
    fn follows(&mut self, info: &BlockInfo) -> Result<(), Fault> {
        let last = self.progress;
        if info.record_count as usize != self.records.len() || self.records.is_empty() {
            return Err(Fault::RecordCount {
                said: info.record_count,
                found: self.records.len(),
            });
        }
        let Some(steps) = info.height.checked_sub(last.height).filter(|s| *s > 0) else {
            return Err(Fault::Height {
                found: info.height,
                least: last.height.saturating_add(1),
            });
        };
        // Each block's time is later than that of the one before, by a millisecond at least.
        let least = last.time_ms.saturating_add(steps);
        if info.time_ms < least {
            return Err(Fault::Time {
                found: info.time_ms,
                least,
            });
        }
        if steps == 1 {
            if info.previous != self.previous {
                return Err(Fault::Previous {
                    found: info.previous,
                    expected: self.previous,
                });
            }
            self.progress.links += 1;
        } else {
            self.progress.open_links += 1;
        }
        let rules = state::rules(&self.state).map_err(Fault::State)?;
        if info.rules_version != rules.rules_version {
            return Err(Fault::RulesVersion {
                found: info.rules_version,
                expected: rules.rules_version,
            });
        }
        let set = state::validators(&self.state).map_err(Fault::State)?;
        if !set.validators().iter().any(|v| v.member == info.proposer) {
            return Err(Fault::Proposer {
                found: info.proposer,
            });
        }
        Ok(())
    }
}
