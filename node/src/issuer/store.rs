//! The directory: opening it, and making batches in it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rand_core::{CryptoRngCore, OsRng, RngCore as _};
use tally_codes::batch::{BatchBuild, BatchTrees, Deriver, RowForms};
use tally_codes::keys::{BatchKeys, IssuerId, IssuerKeys, KeyEpoch};
use tally_codes::verdict::BatchChecker;
use tally_contracts::ids::{BatchId, MemberId};
use tally_contracts::records::{Gtin, Lot, batch_id};

use super::meta::damaged;
use super::print::{Plain, write_rows};
use super::trees;
use super::verify::{AnchoredBatches, Tally};
use super::{BatchMeta, Expiry, IssuerError};
use crate::files::{FileError, create_private_dir, sync_dir};
use crate::sealed::{StorageKey, read_sealed, write_sealed};

pub(super) const KEY_FILE: &str = "issuer.keys";
pub(super) const KEY_PURPOSE: &str = "issuer-keys";
pub(super) const BATCHES: &str = "batches";
pub(super) const BATCH_FILE: &str = "batch";
pub(super) const TREES_FILE: &str = "trees";
/// What a directory is called while a batch is being written into it.
const UNFINISHED: &str = "unfinished-";

/// What a new batch shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBatch {
    /// The product.
    pub gtin: Gtin,
    /// The lot.
    pub lot: Lot,
    /// Units, 1 to 2^32.
    pub count: u64,
    /// The index after the issuer's last batch in the ledger, 0 for its first.
    pub first_index: u64,
    /// When its units expire, if they do.
    pub expiry: Option<Expiry>,
}

/// A batch in memory.
pub(super) struct Loaded {
    pub(super) meta: BatchMeta,
    pub(super) keys: BatchKeys,
    pub(super) checker: BatchChecker,
    pub(super) dir: PathBuf,
}

/// What is read for each code.
pub(super) struct Loadout {
    pub(super) issuer: IssuerKeys,
    /// By first index.
    pub(super) batches: Vec<Arc<Loaded>>,
}

/// The issuer's keys and batches. Shared by threads: codes are verified while a batch is made.
pub struct IssuerStore {
    pub(super) dir: PathBuf,
    pub(super) owner: MemberId,
    pub(super) key: StorageKey,
    pub(super) ledger: Arc<dyn AnchoredBatches>,
    pub(super) state: RwLock<Arc<Loadout>>,
    pub(super) tally: Tally,
}

impl IssuerStore {
    /// Opens the directory of the issuer `owner`, which is made on first use, and removes what an interrupted batch left there.
    ///
    /// # Errors
    /// [`IssuerError::Sealed`] if the key is another, [`IssuerError::OtherIssuer`], [`IssuerError::Damaged`], [`IssuerError::File`].
    pub fn open(
        dir: impl Into<PathBuf>,
        key: StorageKey,
        owner: MemberId,
        ledger: Arc<dyn AnchoredBatches>,
    ) -> Result<Self, IssuerError> {
        let dir = dir.into();
        let folder = dir.join(BATCHES);
        create_private_dir(&folder)?;
        let key_file = dir.join(KEY_FILE);
        let entries = batch_dirs(&folder)?;
        let issuer = match read_sealed(&key_file, &key, KEY_PURPOSE)? {
            Some(bytes) => IssuerKeys::from_secret_bytes(&bytes)
                .map_err(|e| damaged(&key_file, e.to_string()))?,
            // New keys beside old batches would turn every code on the shelves into an unknown one.
            None if !entries.is_empty() => {
                return Err(damaged(&key_file, "missing, though there are batches"));
            }
            None => {
                let issuer = IssuerKeys::generate(IssuerId(owner.0), &mut OsRng);
                write_sealed(&key_file, &key, KEY_PURPOSE, &issuer.to_secret_bytes())?;
                sync_dir(&dir)?;
                issuer
            }
        };
        if issuer.issuer() != IssuerId(owner.0) {
            return Err(IssuerError::OtherIssuer { path: key_file });
        }
        let mut batches = entries
            .into_iter()
            .map(|dir| load(&issuer, &owner, &key, dir).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        batches.sort_by_key(|b| b.meta.first_index);
        Ok(Self {
            dir,
            owner,
            key,
            ledger,
            state: RwLock::new(Arc::new(Loadout { issuer, batches })),
            tally: Tally::default(),
        })
    }

    /// The issuer.
    #[must_use]
    pub const fn owner(&self) -> MemberId {
        self.owner
    }

    /// All batches made here, anchored or not, by first index.
    #[must_use]
    pub fn batches(&self) -> Vec<BatchMeta> {
        self.loadout()
            .batches
            .iter()
            .map(|b| b.meta.clone())
            .collect()
    }

    pub(super) fn loadout(&self) -> Arc<Loadout> {
        // What is behind the lock is replaced as a whole: a panic elsewhere cannot leave it half written.
        Arc::clone(
            &self
                .state
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    fn replace<E>(&self, change: impl FnOnce(&Loadout) -> Result<Loadout, E>) -> Result<(), E> {
        let mut state = self
            .state
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = Arc::new(change(&state)?);
        Ok(())
    }

    /// Makes a batch: writes the rows for the printer, keeps its keys and trees durably, and returns what the ledger has to be told.
    /// Rows of outer codes go to `outer`, which must be its owner's alone; rows of claim codes to `claims`, which must encrypt them.
    /// `progress` is called with the units made and the units in all. Takes seconds for a million units; blocks.
    ///
    /// When this returns an error no batch was made, and rows written so far are worth nothing. When it returns, the batch is
    /// durable here; its codes are unknown until a record anchors these roots. Calling again under the same ID makes another batch, of which
    /// only the one that is anchored counts.
    ///
    /// # Errors
    /// [`IssuerError::Codes`] for a count or index out of range, [`IssuerError::Rows`], [`IssuerError::File`] and
    /// [`IssuerError::Sealed`]: see [`IssuerError::is_disk_full`].
    pub fn prepare_batch(
        &self,
        new: &NewBatch,
        forms: &RowForms,
        (outer, claims): (&mut (dyn Write + Send), &mut (dyn Write + Send)),
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BatchMeta, IssuerError> {
        let loadout = self.loadout();
        let epoch = loadout.issuer.current();
        let keys = BatchKeys::generate(&mut OsRng);
        let mut meta = BatchMeta {
            id: batch_id(&self.owner, &new.gtin, &new.lot, new.first_index),
            gtin: new.gtin,
            lot: new.lot.clone(),
            first_index: new.first_index,
            count: new.count,
            epoch: epoch.0,
            unit_root: tally_merkle::empty_root(),
            redemption_root: tally_merkle::empty_root(),
            expiry: new.expiry,
        };
        let deriver = Deriver::new(&loadout.issuer, epoch, &keys, meta.spec()?)?;
        let mut build = BatchBuild::new(&deriver, forms);
        write_rows(&mut build, &mut Plain { outer, claims }, progress)?;
        let trees = build.finish()?;
        meta.unit_root = trees.unit.root();
        meta.redemption_root = trees.redemption.root();
        self.keep(&meta, &keys, &trees)?;
        Ok(meta)
    }

    /// Keeps a batch durably, and knows it from now on. One that is kept already stays as it is.
    pub(super) fn keep(
        &self,
        meta: &BatchMeta,
        keys: &BatchKeys,
        trees: &BatchTrees,
    ) -> Result<(), IssuerError> {
        let loadout = self.loadout();
        if loadout.batches.iter().any(|b| b.meta == *meta) {
            return Ok(());
        }
        let folder = self.dir.join(BATCHES);
        let unfinished = folder.join(format!("{UNFINISHED}{:016x}", OsRng.next_u64()));
        let place = folder.join(meta.dir_name());
        let written = || -> Result<(), IssuerError> {
            create_private_dir(&unfinished)?;
            trees::write(&unfinished.join(TREES_FILE), meta.count, trees)?;
            let secret = meta.to_secret_bytes(keys);
            write_sealed(
                &unfinished.join(BATCH_FILE),
                &self.key,
                &batch_purpose(&meta.dir_name()),
                &secret,
            )?;
            sync_dir(&unfinished)?;
            fs::rename(&unfinished, &place).map_err(FileError::new("rename", &unfinished))?;
            Ok(sync_dir(&folder)?)
        };
        if let Err(e) = written() {
            // Best effort: the error that counts is this one, and opening the store removes what is left.
            let _ = fs::remove_dir_all(&unfinished);
            let _ = fs::remove_dir_all(&place);
            return Err(e);
        }
        let loaded = Arc::new(Loaded {
            checker: BatchChecker::new(&loadout.issuer, meta.key_epoch(), keys, meta.spec()?),
            meta: meta.clone(),
            keys: keys.clone(),
            dir: place,
        });
        self.replace(|old| {
            let mut batches = old.batches.clone();
            let at = batches.partition_point(|b| b.meta.first_index <= meta.first_index);
            batches.insert(at, loaded);
            Ok::<_, IssuerError>(Loadout {
                issuer: old.issuer.clone(),
                batches,
            })
        })
    }

    /// Begins a new key epoch, which later batches take. At most four are live.
    ///
    /// # Errors
    /// [`IssuerError::Codes`] if four are live, [`IssuerError::Sealed`].
    pub fn begin_epoch(&self, rng: &mut impl CryptoRngCore) -> Result<KeyEpoch, IssuerError> {
        let mut epoch = KeyEpoch(0);
        self.replace(|old| {
            let mut issuer = old.issuer.clone();
            epoch = issuer.begin_epoch(rng)?;
            self.write_keys(&issuer)?;
            Ok::<_, IssuerError>(Loadout {
                issuer,
                batches: old.batches.clone(),
            })
        })?;
        Ok(epoch)
    }

    /// Destroys the key of an epoch: its codes are unknown from then on. The current epoch stays.
    ///
    /// # Errors
    /// [`IssuerError::Codes`] if the epoch is not live or is the current one, [`IssuerError::Sealed`].
    pub fn retire_epoch(&self, epoch: KeyEpoch) -> Result<(), IssuerError> {
        self.replace(|old| {
            let mut issuer = old.issuer.clone();
            issuer.retire_epoch(epoch)?;
            self.write_keys(&issuer)?;
            Ok::<_, IssuerError>(Loadout {
                issuer,
                batches: old.batches.clone(),
            })
        })
    }

    /// The live key epochs in order, and the one that new batches take.
    #[must_use]
    pub fn epochs(&self) -> (Vec<KeyEpoch>, KeyEpoch) {
        let loadout = self.loadout();
        (loadout.issuer.live().collect(), loadout.issuer.current())
    }

    fn write_keys(&self, issuer: &IssuerKeys) -> Result<(), IssuerError> {
        let bytes = issuer.to_secret_bytes();
        Ok(write_sealed(
            &self.dir.join(KEY_FILE),
            &self.key,
            KEY_PURPOSE,
            &bytes,
        )?)
    }

    /// The batch made here under an ID that the ledger has.
    ///
    /// # Errors
    /// [`IssuerError::Unavailable`].
    pub fn anchored_batch(&self, id: &BatchId) -> Result<Option<BatchMeta>, IssuerError> {
        for meta in self.batches_with_id(id) {
            if self.anchored(&meta)?.is_some() {
                return Ok(Some(meta));
            }
        }
        Ok(None)
    }

    /// The batches made here under an ID: one, unless it was made again before it was anchored.
    #[must_use]
    pub fn batches_with_id(&self, id: &BatchId) -> Vec<BatchMeta> {
        self.batches().into_iter().filter(|m| m.id == *id).collect()
    }
}

impl Loaded {
    pub(super) fn deriver(&self, issuer: &IssuerKeys) -> Result<Deriver, tally_codes::Error> {
        Deriver::new(issuer, self.meta.key_epoch(), &self.keys, self.meta.spec()?)
    }
}

/// Binds the sealed file to its directory, so that no batch takes the place of another.
pub(super) fn batch_purpose(dir_name: &str) -> String {
    format!("issuer-batch/{dir_name}")
}

/// The directories of finished batches; unfinished ones are removed.
fn batch_dirs(folder: &Path) -> Result<Vec<PathBuf>, IssuerError> {
    let mut dirs = Vec::new();
    for entry in fs::read_dir(folder).map_err(FileError::new("read", folder))? {
        let path = entry.map_err(FileError::new("read", folder))?.path();
        if name_of(&path).starts_with(UNFINISHED) {
            fs::remove_dir_all(&path).map_err(FileError::new("remove", &path))?;
        } else {
            dirs.push(path);
        }
    }
    Ok(dirs)
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn load(
    issuer: &IssuerKeys,
    owner: &MemberId,
    key: &StorageKey,
    dir: PathBuf,
) -> Result<Loaded, IssuerError> {
    let file = dir.join(BATCH_FILE);
    let bytes = read_sealed(&file, key, &batch_purpose(&name_of(&dir)))?
        .ok_or_else(|| damaged(&file, "missing"))?;
    let (meta, keys) =
        BatchMeta::from_secret_bytes(owner, &bytes).map_err(|what| damaged(&file, what))?;
    if meta.dir_name() != name_of(&dir) {
        return Err(damaged(&file, "belongs to another directory"));
    }
    let path = dir.join(TREES_FILE);
    trees::TreeFile::open(&path, meta.count).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => damaged(&path, "missing"),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            damaged(&path, "not the trees of this batch")
        }
        _ => FileError::new("open", &path)(e).into(),
    })?;
    Ok(Loaded {
        checker: BatchChecker::new(issuer, meta.key_epoch(), &keys, meta.spec()?),
        meta,
        keys,
        dir,
    })
}
