//! The ledger: blocks on disk are the truth; tiles, state and indexes follow from them and are brought up to them at start.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tally_contracts::block::{CommitCertificate, Header};
use tally_contracts::ids::{NetworkId, RecordId};
use tally_contracts::state::{self, StateRead as _};
use tally_contracts::{Genesis, ValidatorSet};
use tally_merkle::{Frontier, frontier_at};

use crate::base::Base;
use crate::blocks::BlockStore;
use crate::error::{Error, IoContext};
use crate::execute::{Executed, Kept, VerifiedCache};
use crate::files::make_dir;
use crate::kv::{FjallKv, Kv};
use crate::serve::read_entries;
use crate::snapshot::{self, Handover};
use crate::state_tree::{Sizes, StateTreeStore};
use crate::store::{Head, RecordPlace, StateStore, Store};
use crate::tiles::{Tiles, WIDTH};

/// How a ledger is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// The ledger of one network on this node. Safe to share between threads; one of them commits.
///
/// Below its folder: `blocks/` (the truth), `state/` (with the state's tree) and `tiles/` (which follow from it), `LOCK`.
pub struct Ledger {
    dir: PathBuf,
    genesis: Genesis,
    network: NetworkId,
    genesis_bytes: Vec<u8>,
    pub(crate) store: Store,
    pub(crate) executed: Kept,
    inner: RwLock<Inner>,
    /// Held for as long as the ledger is open.
    _lock: File,
}

/// What changes with each block.
pub(crate) struct Inner {
    pub(crate) head: Head,
    pub(crate) blocks: BlockStore,
    pub(crate) tiles: Tiles,
    pub(crate) frontier: Frontier,
    pub(crate) tree: StateTreeStore,
    read_only: Option<String>,
    /// While a snapshot is written: what stood, at its block, under the state keys that were changed since.
    pub(crate) undo: Option<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl Inner {
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        match &self.read_only {
            None => Ok(()),
            Some(reason) => Err(Error::ReadOnly {
                reason: reason.clone(),
            }),
        }
    }

    /// Takes no block any more: memory and files may differ.
    fn fail(&mut self, error: Error) -> Error {
        tracing::error!(%error, "the ledger is read-only from now on");
        self.read_only = Some(error.to_string());
        error
    }
}

/// The header of a block that was committed, and its records with where they stand.
pub type Committed = (Header, Vec<(RecordId, RecordPlace)>);

/// `first` is the index of the block's first entry.
fn committed(done: &Executed, first: u64) -> Committed {
    let height = done.header.height;
    let places = (first..)
        .zip(&done.ids)
        .map(|(index, id)| (*id, RecordPlace { height, index }))
        .collect();
    (done.header.clone(), places)
}

impl Ledger {
    /// Opens or creates the ledger below `dir`, cuts off a torn last block, and carries out the blocks that the state store has
    /// not seen.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it open, [`Error::OtherNetwork`] if the folder is another network's;
    /// [`Error::Damaged`], [`Error::Diverged`], [`Error::Store`], [`Error::Io`].
    pub fn open(dir: &Path, genesis_bytes: &[u8], options: Options) -> Result<Self, Error> {
        Self::open_reporting(dir, genesis_bytes, options, &mut |_, _| {})
    }

    fn open_reporting(
        dir: &Path,
        genesis_bytes: &[u8],
        options: Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, Error> {
        let lock = lock(dir)?;
        snapshot::settle(dir)?;
        let kv = Arc::new(FjallKv::open(&dir.join("state"), options.cache_bytes)?);
        Self::open_locked(dir, genesis_bytes, options, kv, lock, progress)
    }

    /// As [`Self::open`], with state and indexes in another store than the folder's own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        dir: &Path,
        genesis_bytes: &[u8],
        options: Options,
        kv: Arc<dyn Kv>,
    ) -> Result<Self, Error> {
        let lock = lock(dir)?;
        Self::open_locked(dir, genesis_bytes, options, kv, lock, &mut |_, _| {})
    }

    fn open_locked(
        dir: &Path,
        genesis_bytes: &[u8],
        options: Options,
        kv: Arc<dyn Kv>,
        lock: File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, Error> {
        let genesis = Genesis::from_bytes(genesis_bytes)?;
        let network = genesis.network_id();
        let store = Store::new(kv);
        let head = match store.head(&network)? {
            Some(head) => head,
            None if Base::load(&dir.join("blocks"))?.height > 0 => {
                return Err(Error::NoStateBefore {
                    first: Base::load(&dir.join("blocks"))?.height + 1,
                    path: dir.to_owned(),
                });
            }
            None => store.found(&genesis, genesis_bytes)?,
        };
        // The store was told of a block only after its file was synced, so fewer blocks than that is damage, not a torn tail.
        let blocks = BlockStore::open(&dir.join("blocks"), options.segment_bytes, head.height)?;
        let tree = StateTreeStore::open(
            &tree_dir(&dir.join("state")),
            Sizes::of_cache(options.cache_bytes),
            &store,
            &head,
        )?;
        let first = head.tree_size - head.tree_size % WIDTH;
        let last = read_entries(&blocks, &store, genesis_bytes, first, head.tree_size)?;
        let tiles = Tiles::open(&dir.join("tiles"), head.tree_size, last)?;
        let frontier = frontier_at(&tiles.reading(), head.tree_size)?;
        if frontier.root() != head.tree_root {
            return Err(Error::damaged_index(
                &dir.join("tiles"),
                "the tiles do not give the tree's root",
            ));
        }
        let ledger = Self {
            dir: dir.to_owned(),
            network,
            genesis,
            genesis_bytes: genesis_bytes.to_vec(),
            store,
            executed: Kept::default(),
            inner: RwLock::new(Inner {
                head,
                blocks,
                tiles,
                frontier,
                tree,
                read_only: None,
                undo: None,
            }),
            _lock: lock,
        };
        ledger.catch_up(progress)?;
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
        let held = lock(dir)?;
        snapshot::settle(dir)?;
        let first = Base::load(&dir.join("blocks"))?.height + 1;
        if first > 1 {
            return Err(Error::NoStateBefore {
                first,
                path: dir.to_owned(),
            });
        }
        for name in ["state", "tiles"] {
            let path = dir.join(name);
            if path.exists() {
                std::fs::remove_dir_all(&path).on("empty", &path)?;
            }
        }
        let kv = Arc::new(FjallKv::open(&dir.join("state"), options.cache_bytes)?);
        let ledger = Self::open_locked(dir, genesis_bytes, options, kv, held, progress)?;
        ledger.flush()?;
        Ok(ledger)
    }

    /// Carries out the stored blocks that the state store has not seen, certificates and all.
    fn catch_up(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        let last = self.read().blocks.height();
        for height in self.head().height + 1..=last {
            let stored = self.read().blocks.read(height)?;
            let certificate =
                CommitCertificate::from_bytes(&stored.certificate).map_err(|source| {
                    Error::Codec {
                        what: "stored certificate",
                        source,
                    }
                })?;
            let mut inner = self.write();
            let done = self.decided(&inner, &stored.block, &certificate, &|_| None)?;
            self.follow(&mut inner, &done, &certificate)?;
            self.tidy(&mut inner)?;
            drop(inner);
            progress(height, last);
        }
        Ok(())
    }

    /// Commits a decided block: its file is synced before this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not the next block that the network decided (the ledger stands as before, and another
    /// sender may have the right one); [`Error::Diverged`] if it is and does not follow here (the node must stop);
    /// [`Error::ReadOnly`] and [`Error::Io`] if the disk fails.
    pub fn commit(
        &self,
        block: &[u8],
        certificate: &CommitCertificate,
        verified: VerifiedCache<'_>,
    ) -> Result<Committed, Error> {
        self.read().check_writable()?;
        let done = self.decided(&self.read(), block, certificate, verified)?;
        let mut inner = self.write();
        inner.check_writable()?;
        if done.header.previous != inner.head.hash {
            return Err(Error::Internal("two commits at one time"));
        }
        let first = inner.head.tree_size;
        let written = inner
            .blocks
            .append(block, &certificate.to_bytes())
            .and_then(|()| self.follow(&mut inner, &done, certificate))
            .and_then(|()| self.tidy(&mut inner));
        if let Err(e) = written {
            return Err(inner.fail(e));
        }
        drop(inner);
        self.executed.clear();
        Ok(committed(&done, first))
    }

    /// Commits decided blocks that follow each other, as [`Self::commit`] does one, with one sync for all: for a node that is far
    /// behind. Nobody sees the ledger at a block of them before all are on disk. `each` hears of every block that was committed.
    ///
    /// # Errors
    /// As [`Self::commit`], of the first block that fails; those before it are committed.
    pub fn commit_all(
        &self,
        blocks: &[(Vec<u8>, CommitCertificate)],
        verified: VerifiedCache<'_>,
        each: &mut dyn FnMut(Committed),
    ) -> Result<(), Error> {
        let mut inner = self.write();
        inner.check_writable()?;
        let (mut frames, mut whole) = (Vec::new(), Vec::new());
        let mut failed = None;
        self.store.gather();
        for (block, certificate) in blocks {
            let done = match self.decided(&inner, block, certificate, verified) {
                Ok(done) => done,
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            };
            let first = inner.head.tree_size;
            if let Err(e) = self.follow(&mut inner, &done, certificate) {
                // What is gathered is never written: the files are as before.
                return Err(inner.fail(e));
            }
            frames.push((block.as_slice(), certificate.to_bytes()));
            whole.push(committed(&done, first));
        }
        let written = inner
            .blocks
            .append_all(&frames)
            .and_then(|()| self.store.settle())
            .and_then(|()| self.tidy(&mut inner));
        if let Err(e) = written {
            return Err(inner.fail(e));
        }
        drop(inner);
        self.executed.clear();
        whole.into_iter().for_each(each);
        failed.map_or(Ok(()), Err)
    }

    /// Brings tiles, state and indexes up to a block that is on disk. The head in the store moves last, so whatever fails or
    /// crashes on the way is done again from the block.
    fn follow(
        &self,
        inner: &mut Inner,
        done: &Executed,
        certificate: &CommitCertificate,
    ) -> Result<(), Error> {
        inner.tiles.append(&done.entries, &done.leaves)?;
        let head = Head::after(&done.header);
        let handover = handover(&inner.tree, done, certificate)?;
        if let Some(undo) = &mut inner.undo {
            for (key, _) in &done.effects {
                if !undo.contains_key(key) {
                    undo.insert(key.clone(), self.store.state.get(key)?);
                }
            }
        }
        let (effects, ids) = (&done.effects, &done.ids);
        let pages = inner.tree.write(head.height, &done.change)?;
        self.store
            .advance(inner.head.tree_size, &head, effects, ids, handover.as_ref())?;
        inner.tree.apply(&done.change, &pages)?;
        inner.frontier = done.frontier.clone();
        inner.head = head;
        Ok(())
    }

    /// Sees to the files of the state tree after blocks that the state store has been told of.
    fn tidy(&self, inner: &mut Inner) -> Result<(), Error> {
        let height = inner.head.height;
        inner.tree.tidy(&self.store, height)
    }

    /// Makes what the state store holds durable; blocks are durable anyway.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn flush(&self) -> Result<(), Error> {
        self.store.flush()
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
        &self.store.state
    }

    /// The validators that decide the next block.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn validators(&self) -> Result<ValidatorSet, Error> {
        Ok(state::validators(&self.store.state)?)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What proves to somebody who knows the validators up to this block who they are from the next one on; nothing if they stay.
fn handover(
    tree: &StateTreeStore,
    done: &Executed,
    certificate: &CommitCertificate,
) -> Result<Option<Handover>, Error> {
    let key = state::keys::validators();
    let written = done.effects.iter().find(|(k, _)| *k == key);
    let Some((_, Some(validators))) = written else {
        return Ok(None);
    };
    Ok(Some(Handover {
        header: done.header.clone(),
        certificate: certificate.clone(),
        validators: validators.clone(),
        proof: tree.prove_with(&done.change, &key)?,
    }))
}

/// Where the state tree lies, beside the state that it can be made from.
pub(crate) fn tree_dir(state: &Path) -> PathBuf {
    state.join("tree")
}

/// Takes the folder for this process.
pub(crate) fn lock(dir: &Path) -> Result<File, Error> {
    make_dir(dir)?;
    let path = dir.join("LOCK");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .on("open", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(Error::Io {
            action: "lock",
            path,
            source,
        }),
    }
}
