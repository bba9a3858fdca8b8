//! The ledger: blocks on disk are the truth; tiles, state and indexes follow from them and are brought up to them at start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tally_contracts::apply::{BlockOutcome, Context, Verified, execute_block, genesis_effects};
use tally_contracts::block::{Block, BlockInfo, CommitCertificate, Header};
use tally_contracts::codec::{Reader, Writer};
use tally_contracts::ids::{BlockHash, MemberId, NetworkId, RecordId};
use tally_contracts::refusal::Refusal;
use tally_contracts::state::{self, Effects, StateError};
use tally_contracts::{
    CodecError, Genesis, Record, StateProof, StateRead, StateTree, ValidatorSet,
};
use tally_merkle::tile::{TileKind, TilePath};
use tally_merkle::{Frontier, Hash, frontier_at, leaf_hash};

use crate::blocks::{BlockStore, StoredBlock};
use crate::error::Error;
use crate::tiles::{Tiles, WIDTH};

/// How a ledger is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Size past which a new block file is begun, in bytes.
    pub segment_bytes: u64,
    /// Memory for the state store's cache, in bytes.
    pub cache_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
        }
    }
}

/// Where the ledger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Height of the last block; 0 at the genesis.
    pub height: u64,
    /// Its hash; zero at the genesis.
    pub hash: BlockHash,
    /// Its time, POSIX milliseconds; that of the genesis before the first block.
    pub time_ms: u64,
    /// Entries in the tree.
    pub tree_size: u64,
    /// Root of the tree.
    pub tree_root: Hash,
    /// Root of the state.
    pub state_root: Hash,
}

impl Head {
    fn to_bytes(self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(1)
            .u64(self.height)
            .raw(&self.hash.0)
            .u64(self.time_ms)
            .u64(self.tree_size);
        w.raw(self.tree_root.as_bytes())
            .raw(self.state_root.as_bytes());
        w.into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        r.u8("head version")?;
        let head = Self {
            height: r.u64("height")?,
            hash: BlockHash(r.array("block hash")?),
            time_ms: r.u64("time")?,
            tree_size: r.u64("tree size")?,
            tree_root: Hash(r.array("tree root")?),
            state_root: Hash(r.array("state root")?),
        };
        r.finish()?;
        Ok(head)
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// Height of its block.
    pub height: u64,
    /// Its index among the ledger's entries.
    pub index: u64,
}

/// A block made from waiting records, and what was left out of it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The block.
    pub block: Block,
    /// Records that the contracts refuse, with the reasons.
    pub refused: Vec<(RecordId, Refusal)>,
}

/// Why a block fails the check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Not a block that may follow.
    #[error("{0}")]
    Invalid(String),
    /// The block's bytes are consistent, but its execution gives another state here.
    #[error("{0}")]
    Diverged(String),
    /// This node cannot tell: its own store failed.
    #[error("{0}")]
    Store(String),
}

/// The state as it stands in the store, under one ledger.
#[derive(Clone)]
pub struct StateStore {
    db: sled::Tree,
}

impl StateStore {
    /// Every key that starts with `prefix`, with its value, ascending.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        self.db
            .scan_prefix(prefix)
            .map(|pair| {
                pair.map(|(k, v)| (k.to_vec(), v.to_vec()))
                    .map_err(Error::from)
            })
            .collect()
    }
}

impl StateRead for StateStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.db.get(key) {
            Ok(value) => Ok(value.map(|v| v.to_vec())),
            Err(e) => Err(StateError::Store {
                message: e.to_string(),
            }),
        }
    }
}

/// What executing a block gives; kept from check to commit.
struct Executed {
    header: Header,
    effects: Effects,
    frontier: Frontier,
    entries: Vec<Vec<u8>>,
    ids: Vec<RecordId>,
}

struct Inner {
    head: Head,
    blocks: BlockStore,
    tiles: Tiles,
    frontier: Frontier,
    tree: StateTree,
    read_only: Option<String>,
}

/// The ledger of one network on this node. Safe to share between threads; one of them commits.
pub struct Ledger {
    dir: PathBuf,
    network: NetworkId,
    genesis: Genesis,
    genesis_bytes: Vec<u8>,
    db: sled::Db,
    state: StateStore,
    /// Record ID -> place.
    records: sled::Tree,
    /// Index of a block's first entry -> height.
    borders: sled::Tree,
    inner: RwLock<Inner>,
    executed: Mutex<BTreeMap<BlockHash, Arc<Executed>>>,
}

/// Reads a token for a record whose signatures this node has verified before.
pub type VerifiedCache<'a> = &'a dyn Fn(&Record) -> Option<Verified>;

const HEAD: &[u8] = b"head";
const NETWORK: &[u8] = b"network";

impl Ledger {
    /// Opens or creates the ledger below `dir`, cuts off a torn last block, and carries out the blocks that the state store has
    /// not seen.
    ///
    /// # Errors
    /// [`Error::OtherNetwork`] if the folder is another network's; [`Error::Damaged`], [`Error::Store`], [`Error::Io`].
    pub fn open(dir: &Path, genesis_bytes: &[u8], options: Options) -> Result<Self, Error> {
        let genesis = Genesis::from_bytes(genesis_bytes)?;
        let network = genesis.network_id();
        let blocks = BlockStore::open(&dir.join("blocks"), options.segment_bytes)?;
        let db = sled::Config::new()
            .path(dir.join("state"))
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(Some(500))
            .open()?;
        let state = StateStore {
            db: db.open_tree("state")?,
        };
        let (records, borders) = (db.open_tree("records")?, db.open_tree("borders")?);
        let head = match (db.get(HEAD)?, db.get(NETWORK)?) {
            (Some(head), Some(found)) => {
                if found.as_ref() != network.0 {
                    return Err(Error::OtherNetwork {
                        expected: network.to_string(),
                        found: found.iter().map(|b| format!("{b:02x}")).collect(),
                    });
                }
                Head::from_bytes(&head).map_err(|source| Error::Codec {
                    what: "head",
                    source,
                })?
            }
            _ => first_head(&db, &state, &genesis, genesis_bytes)?,
        };
        if head.height > blocks.height() {
            return Err(Error::Damaged {
                path: dir.join("blocks"),
                offset: 0,
                reason: format!(
                    "the last block there is {}, but {} was committed",
                    blocks.height(),
                    head.height
                ),
            });
        }
        let tree = StateTree::from_leaves(state.scan(b"")?)?;
        if tree.root() != head.state_root {
            return Err(Error::Damaged {
                path: dir.join("state"),
                offset: 0,
                reason: "the state does not give its root; run `tally reindex`".into(),
            });
        }
        let ledger = Self {
            dir: dir.to_owned(),
            network,
            genesis,
            genesis_bytes: genesis_bytes.to_vec(),
            db,
            state,
            records,
            borders,
            executed: Mutex::new(BTreeMap::new()),
            inner: RwLock::new(Inner {
                head,
                blocks,
                tiles: Tiles::open(dir, 0, Vec::new())?,
                frontier: Frontier::new(),
                tree,
                read_only: None,
            }),
        };
        let first = head.tree_size - head.tree_size % WIDTH;
        let last = ledger.entries(first, head.tree_size)?;
        {
            let mut inner = ledger.write();
            inner.tiles = Tiles::open(dir, head.tree_size, last)?;
            inner.frontier = frontier_at(&inner.tiles, head.tree_size)?;
            if inner.frontier.root() != head.tree_root {
                return Err(Error::Damaged {
                    path: dir.join("tile"),
                    offset: 0,
                    reason: "the tiles do not give the tree's root; run `tally reindex`".into(),
                });
            }
        }
        ledger.catch_up()?;
        Ok(ledger)
    }

    /// Empties everything that follows from the blocks and rebuilds it. `progress` hears each height with the last one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reindex(
        dir: &Path,
        genesis_bytes: &[u8],
        options: Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, Error> {
        use crate::error::IoContext;
        for name in ["state", "tile"] {
            let path = dir.join(name);
            if path.exists() {
                std::fs::remove_dir_all(&path).on("empty", &path)?;
            }
        }
        let last = BlockStore::open(&dir.join("blocks"), options.segment_bytes)?.height();
        progress(0, last);
        let ledger = Self::open(dir, genesis_bytes, options)?;
        progress(ledger.head().height, last);
        ledger.flush()?;
        Ok(ledger)
    }

    fn catch_up(&self) -> Result<(), Error> {
        loop {
            let (height, last) = {
                let inner = self.read();
                (inner.head.height, inner.blocks.height())
            };
            if height >= last {
                return Ok(());
            }
            let stored = self.read().blocks.read(height + 1)?;
            let done = self
                .execute(&stored.block, &|_| None)
                .map_err(|e| Error::Refused {
                    height: height + 1,
                    reason: e.to_string(),
                })?;
            let mut inner = self.write();
            self.follow(&mut inner, &done)?;
        }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The network's ID.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// The genesis document.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The genesis document's bytes: entry 0.
    #[must_use]
    pub fn genesis_bytes(&self) -> &[u8] {
        &self.genesis_bytes
    }

    /// Where the ledger stands.
    #[must_use]
    pub fn head(&self) -> Head {
        self.read().head
    }

    /// Why nothing can be written, if so.
    #[must_use]
    pub fn read_only(&self) -> Option<String> {
        self.read().read_only.clone()
    }

    /// The state after the last block.
    #[must_use]
    pub const fn state(&self) -> &StateStore {
        &self.state
    }

    /// The validators that decide the next block.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn validators(&self) -> Result<ValidatorSet, Error> {
        Ok(state::validators(&self.state)?)
    }

    /// Makes the next block of `records`, leaving out those that the contracts refuse. Its time is `time_ms`, or one more than
    /// the last block's if that is later.
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
        if let Some(reason) = &inner.read_only {
            return Err(Error::ReadOnly {
                reason: reason.clone(),
            });
        }
        let head = inner.head;
        let time_ms = time_ms.max(head.time_ms.saturating_add(1));
        let ctx = Context {
            network: self.network,
            height: head.height + 1,
            block_time_ms: time_ms,
        };
        let outcome = execute_block(&self.state, records, verified, &ctx)?;
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for (record, result) in records.iter().zip(&outcome.results) {
            match result {
                Ok(()) => good.push(record),
                Err(refusal) => refused.push((record.id(), refusal.clone())),
            }
        }
        let rules_version = state::rules(&self.state)?.rules_version;
        let header = Header {
            rules_version,
            network: self.network,
            height: head.height + 1,
            previous: head.hash,
            time_ms,
            record_count: u32::try_from(good.len()).unwrap_or(u32::MAX),
            tree_size: 0,
            tree_root: head.tree_root,
            state_root: inner.tree.preview(&outcome.effects),
            proposer,
        };
        let done = finish(&inner, header, &good, outcome);
        let block = Block {
            header: done.header.clone(),
            records: good.iter().map(|r| r.bytes().to_vec()).collect(),
        };
        drop(inner);
        self.keep(done);
        Ok(Prepared { block, refused })
    }

    /// Executes a proposed block and compares everything in its header, changing nothing.
    ///
    /// # Errors
    /// [`CheckError`].
    pub fn check(&self, block: &[u8], verified: VerifiedCache<'_>) -> Result<Header, CheckError> {
        let done = self.execute(block, verified)?;
        let header = done.header.clone();
        self.keep_arc(done);
        Ok(header)
    }

    fn execute(
        &self,
        bytes: &[u8],
        verified: VerifiedCache<'_>,
    ) -> Result<Arc<Executed>, CheckError> {
        let invalid = |reason: String| CheckError::Invalid(reason);
        let block = Block::from_bytes(bytes).map_err(|e| invalid(e.to_string()))?;
        let header = &block.header;
        if let Some(done) = self.kept().get(&header.hash())
            && done.ids.len() == block.records.len()
            && done.entries.iter().zip(&block.records).all(|(a, b)| a == b)
        {
            return Ok(done.clone());
        }
        let inner = self.read();
        let head = inner.head;
        let expect = |what: &str, found: String, expected: String| {
            if found == expected {
                Ok(())
            } else {
                Err(invalid(format!("{what} is {found}, expected {expected}")))
            }
        };
        expect(
            "network",
            header.network.to_string(),
            self.network.to_string(),
        )?;
        expect(
            "height",
            header.height.to_string(),
            (head.height + 1).to_string(),
        )?;
        expect(
            "previous block",
            header.previous.to_string(),
            head.hash.to_string(),
        )?;
        let rules = state::rules(&self.state).map_err(|e| CheckError::Store(e.to_string()))?;
        expect(
            "rules version",
            header.rules_version.to_string(),
            rules.rules_version.to_string(),
        )?;
        if header.time_ms <= head.time_ms {
            return Err(invalid(format!(
                "time {} is not after the last block's {}",
                header.time_ms, head.time_ms
            )));
        }
        if bytes.len() > rules.max_block_bytes as usize
            || header.record_count > rules.max_block_records
        {
            return Err(invalid(format!(
                "{} bytes and {} records are over the rules",
                bytes.len(),
                header.record_count
            )));
        }
        let mut records = Vec::with_capacity(block.records.len());
        for (i, bytes) in block.records.iter().enumerate() {
            records
                .push(Record::from_bytes(bytes).map_err(|e| invalid(format!("record {i}: {e}")))?);
        }
        let ctx = Context {
            network: self.network,
            height: header.height,
            block_time_ms: header.time_ms,
        };
        let outcome = execute_block(&self.state, &records, verified, &ctx)
            .map_err(|e| CheckError::Store(e.to_string()))?;
        if let Some((i, refusal)) = outcome.first_refusal() {
            return Err(invalid(format!("record {i} is refused: {refusal}")));
        }
        let own_root = inner.tree.preview(&outcome.effects);
        let refs: Vec<&Record> = records.iter().collect();
        let mut own = header.clone();
        own.state_root = header.state_root;
        let done = finish(&inner, own, &refs, outcome);
        expect(
            "tree size",
            header.tree_size.to_string(),
            done.header.tree_size.to_string(),
        )?;
        expect(
            "tree root",
            header.tree_root.to_string(),
            done.header.tree_root.to_string(),
        )?;
        if own_root != header.state_root {
            return Err(CheckError::Diverged(format!(
                "state root after block {} is {own_root} here, {} in the header",
                header.height, header.state_root
            )));
        }
        Ok(Arc::new(done))
    }

    /// Commits a decided block: its file is synced before this returns. Gives the records with their places.
    ///
    /// # Errors
    /// [`Error::Diverged`] and [`Error::Refused`] if it does not fit (the node must stop), [`Error::ReadOnly`] and
    /// [`Error::Io`] if the disk fails.
    pub fn commit(
        &self,
        block: &[u8],
        certificate: &CommitCertificate,
        verified: VerifiedCache<'_>,
    ) -> Result<(Header, Vec<(RecordId, RecordPlace)>), Error> {
        let height = self.head().height + 1;
        let done = self.execute(block, verified).map_err(|e| Error::Refused {
            height,
            reason: e.to_string(),
        })?;
        if certificate.block != done.header.hash() || certificate.height != height {
            return Err(Error::Refused {
                height,
                reason: "the certificate is for another block".into(),
            });
        }
        certificate.verify(&self.validators()?, &self.network)?;
        let mut inner = self.write();
        if let Some(reason) = &inner.read_only {
            return Err(Error::ReadOnly {
                reason: reason.clone(),
            });
        }
        if let Err(e) = inner.blocks.append(block, &certificate.to_bytes()) {
            inner.read_only = Some(e.to_string());
            return Err(e);
        }
        let first = inner.head.tree_size;
        if let Err(e) = self.follow(&mut inner, &done) {
            inner.read_only = Some(e.to_string());
            return Err(e);
        }
        drop(inner);
        self.kept().clear();
        let places = (first..)
            .zip(&done.ids)
            .map(|(index, id)| (*id, RecordPlace { height, index }))
            .collect();
        Ok((done.header.clone(), places))
    }

    /// Brings tiles, state and indexes up to a block that is on disk.
    fn follow(&self, inner: &mut Inner, done: &Executed) -> Result<(), Error> {
        for entry in &done.entries {
            inner.tiles.append(entry)?;
        }
        let header = &done.header;
        let head = Head {
            height: header.height,
            hash: header.hash(),
            time_ms: header.time_ms,
            tree_size: header.tree_size,
            tree_root: header.tree_root,
            state_root: header.state_root,
        };
        self.write_store(inner.head.tree_size, &head, &done.effects, &done.ids)?;
        inner.tree.commit(&done.effects)?;
        inner.frontier = done.frontier.clone();
        inner.head = head;
        Ok(())
    }

    /// State, indexes and head in one transaction, so that a crash leaves all of them at one block.
    fn write_store(
        &self,
        first: u64,
        head: &Head,
        effects: &Effects,
        ids: &[RecordId],
    ) -> Result<(), Error> {
        use sled::Transactional;
        use sled::transaction::{ConflictableTransactionError, TransactionError};
        let trees: (&sled::Tree, &sled::Tree, &sled::Tree, &sled::Tree) =
            (&self.db, &self.state.db, &self.records, &self.borders);
        let done: Result<(), TransactionError<()>> =
            trees.transaction(|(heads, state, records, borders)| {
                for (key, value) in effects {
                    match value {
                        Some(value) => state.insert(key.as_slice(), value.as_slice())?,
                        None => state.remove(key.as_slice())?,
                    };
                }
                for (index, id) in (first..).zip(ids) {
                    let mut place = [0; 16];
                    place[..8].copy_from_slice(&head.height.to_be_bytes());
                    place[8..].copy_from_slice(&index.to_be_bytes());
                    records.insert(id.0.as_slice(), place.as_slice())?;
                }
                if !ids.is_empty() {
                    borders.insert(&first.to_be_bytes(), &head.height.to_be_bytes())?;
                }
                heads.insert(HEAD, head.to_bytes())?;
                Ok::<(), ConflictableTransactionError<()>>(())
            });
        match done {
            Ok(()) => Ok(()),
            Err(TransactionError::Storage(e)) => Err(e.into()),
            Err(TransactionError::Abort(())) => Err(Error::Internal(
                "a transaction that nobody aborts was aborted",
            )),
        }
    }

    /// Makes what the state store holds durable; blocks are durable anyway.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn flush(&self) -> Result<(), Error> {
        self.db.flush()?;
        Ok(())
    }

    /// The stored block of a height.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Damaged`], [`Error::Io`].
    pub fn block(&self, height: u64) -> Result<StoredBlock, Error> {
        self.read().blocks.read(height)
    }

    /// Where a record stands; `None` if it is not in the ledger.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn find(&self, id: &RecordId) -> Result<Option<RecordPlace>, Error> {
        let Some(bytes) = self.records.get(id.0)? else {
            return Ok(None);
        };
        let mut r = Reader::new(&bytes);
        let place = r.u64("height").and_then(|height| {
            Ok(RecordPlace {
                height,
                index: r.u64("index")?,
            })
        });
        place.map(Some).map_err(|source| Error::Codec {
            what: "record index",
            source,
        })
    }

    /// The entry of an index.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], and those of reading a block.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, Error> {
        let have = self.head().tree_size;
        self.entries(index, index.saturating_add(1).min(have))?
            .pop()
            .ok_or(Error::OutOfRange {
                what: "entry",
                asked: index,
                have,
            })
    }

    /// The entries `from..to`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], and those of reading blocks.
    pub fn entries(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, Error> {
        let have = self.head().tree_size;
        if to > have {
            return Err(Error::OutOfRange {
                what: "entry",
                asked: to - 1,
                have,
            });
        }
        let mut out = Vec::new();
        let mut at = from;
        if at == 0 && to > 0 {
            out.push(self.genesis_bytes.clone());
            at = 1;
        }
        while at < to {
            let Some((first, height)) = self
                .borders
                .range(..=at.to_be_bytes())
                .next_back()
                .transpose()?
            else {
                return Err(Error::Internal("an entry without a block"));
            };
            let (first, height) = (number(&first)?, number(&height)?);
            let entries = block_entries(&self.block(height)?.block)?;
            let skip = usize::try_from(at - first).map_err(|_| Error::Internal("entry offset"))?;
            let want = usize::try_from(to - at).map_err(|_| Error::Internal("entry count"))?;
            let before = out.len();
            out.extend(entries.into_iter().skip(skip).take(want));
            if out.len() == before {
                return Err(Error::Internal(
                    "a block with fewer entries than its border says",
                ));
            }
            at += (out.len() - before) as u64;
        }
        Ok(out)
    }

    /// The root of the tree of the first `size` entries.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], and those of reading tiles.
    pub fn root_at(&self, size: u64) -> Result<Hash, Error> {
        let inner = self.sized(size)?;
        if size == inner.head.tree_size {
            return Ok(inner.head.tree_root);
        }
        tally_merkle::root_at(&inner.tiles, size)
    }

    /// The inclusion proof of an entry in the tree of `size`, leaf side first.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Merkle`], and those of reading tiles.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, Error> {
        tally_merkle::inclusion_proof(&self.sized(size)?.tiles, index, size)
    }

    /// The consistency proof between two sizes.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Merkle`], and those of reading tiles.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        tally_merkle::consistency_proof(&self.sized(new)?.tiles, old, new)
    }

    /// A proof of what stands under a state key now, with the head that it belongs to.
    #[must_use]
    pub fn prove_state(&self, key: &[u8]) -> (Head, StateProof) {
        let inner = self.read();
        (inner.head, inner.tree.prove(key))
    }

    /// The value under a state key with its proof, both of one head.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn prove_value(&self, key: &[u8]) -> Result<(Head, Option<Vec<u8>>, StateProof), Error> {
        // The lock holds commits off, so value and proof are of one block.
        let inner = self.read();
        Ok((inner.head, self.state.get(key)?, inner.tree.prove(key)))
    }

    /// A tile or entry bundle as it is served: empty if the tree does not reach that far.
    ///
    /// # Errors
    /// Those of reading tiles.
    pub fn tile(&self, path: &TilePath) -> Result<Vec<u8>, Error> {
        self.read()
            .tiles
            .bytes(path.kind(), path.index(), path.width())
    }

    /// Writes every tile and bundle of the tree of `size` below `out`, partial ones too.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Io`].
    pub fn export_tiles(&self, size: u64, out: &Path) -> Result<u64, Error> {
        drop(self.sized(size)?);
        let mut count = 0;
        for path in TilePath::of_tree(size) {
            let bytes = self.tile(&path)?;
            debug_assert!(matches!(
                path.kind(),
                TileKind::Entries | TileKind::Hashes(_)
            ));
            crate::files::write_whole(&out.join(path.to_string()), &bytes)?;
            count += 1;
        }
        Ok(count)
    }

    fn sized(&self, size: u64) -> Result<RwLockReadGuard<'_, Inner>, Error> {
        let inner = self.read();
        if size > inner.head.tree_size {
            return Err(Error::OutOfRange {
                what: "tree size",
                asked: size,
                have: inner.head.tree_size,
            });
        }
        Ok(inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<BlockHash, Arc<Executed>>> {
        self.executed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, done: Executed) {
        self.keep_arc(Arc::new(done));
    }

    /// Keeps what a round's few proposals gave; commit empties it.
    fn keep_arc(&self, done: Arc<Executed>) {
        let mut kept = self.kept();
        if kept.len() >= 4 {
            kept.pop_first();
        }
        kept.insert(done.header.hash(), done);
    }
}

/// Sets up the state of a new ledger: entry 0 is the genesis document.
fn first_head(
    db: &sled::Db,
    state: &StateStore,
    genesis: &Genesis,
    bytes: &[u8],
) -> Result<Head, Error> {
    let effects = genesis_effects(genesis);
    let mut tree = StateTree::new();
    let state_root = tree.commit(&effects)?;
    state.db.clear()?;
    let mut batch = sled::Batch::default();
    for (key, value) in &effects {
        if let Some(value) = value {
            batch.insert(key.as_slice(), value.as_slice());
        }
    }
    state.db.apply_batch(batch)?;
    let mut frontier = Frontier::new();
    frontier.append(leaf_hash(bytes));
    let head = Head {
        height: 0,
        hash: BlockHash([0; 32]),
        time_ms: genesis.created_ms,
        tree_size: 1,
        tree_root: frontier.root(),
        state_root,
    };
    let mut heads = sled::Batch::default();
    heads.insert(NETWORK, &genesis.network_id().0);
    heads.insert(HEAD, head.to_bytes());
    db.apply_batch(heads)?;
    db.flush()?;
    Ok(head)
}

/// Fills in size and root of the tree after a block; the header's other fields are given.
fn finish(
    inner: &Inner,
    mut header: Header,
    records: &[&Record],
    outcome: BlockOutcome,
) -> Executed {
    let mut entries: Vec<Vec<u8>> = records.iter().map(|r| r.bytes().to_vec()).collect();
    if !entries.is_empty() {
        entries.push(block_info(&header).to_bytes());
    }
    let mut frontier = inner.frontier.clone();
    for entry in &entries {
        frontier.append(leaf_hash(entry));
    }
    header.tree_size = frontier.size();
    header.tree_root = frontier.root();
    Executed {
        header,
        effects: outcome.effects,
        frontier,
        entries,
        ids: records.iter().map(|r| r.id()).collect(),
    }
}

fn block_info(header: &Header) -> BlockInfo {
    BlockInfo {
        rules_version: header.rules_version,
        height: header.height,
        time_ms: header.time_ms,
        previous: header.previous,
        record_count: header.record_count,
        proposer: header.proposer,
        state_root: header.state_root,
    }
}

fn block_entries(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let block = Block::from_bytes(bytes).map_err(|source| Error::Codec {
        what: "stored block",
        source,
    })?;
    let mut entries = block.records;
    if !entries.is_empty() {
        entries.push(block_info(&block.header).to_bytes());
    }
    Ok(entries)
}

fn number(bytes: &[u8]) -> Result<u64, Error> {
    Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| {
        Error::Internal("an index entry of another length")
    })?))
}
