//! The directory of audiences: one directory a set, named after its label and epoch, with `meta` and the people in files of a
//! bounded size. A set is written under another name, synced, and renamed: it is there as a whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rand_core::CryptoRngCore;
use tally_contracts::ids::AudienceLabel;
use tally_contracts::records::Profile;
use tally_measure::{
    Identifier, Import, ImportOptions, ImportReport, SALT_BYTES, SaltedEntry, SaltedSet,
    import_each,
};
use tally_merkle::{Frontier, Hash};
use zeroize::Zeroizing;

use super::entries::{Entries, chunk_name, purpose};
use super::freeze::{Listed, Salted, Salting};
use super::rows::{self, RowsInput, RowsMeta};
use super::{AudienceError, AudienceKey, AudienceMeta, check_audience_name};
use crate::sealed::{StorageKey, read_sealed, write_sealed};

/// Bytes of people in one file.
const CHUNK_BYTES: usize = 4 << 20;
/// Bytes in memory for each sort of an import; 512 times as many can be sorted.
const SORT_BYTES: usize = 32 << 20;
/// Bytes of the salt before the rows.
const ROWS_SALT: usize = 32;
const META: &str = "meta";
const TEMP: &str = ".tmp";

/// Audiences of this node, under one directory and one storage key.
pub struct AudienceStore {
    dir: PathBuf,
    key: StorageKey,
    /// Bytes in memory for each sort of an import.
    sort_bytes: usize,
    /// Held while a set is created or its `meta` replaced.
    writing: Mutex<()>,
}

impl AudienceStore {
    /// Opens the directory, made if absent, and clears what a crash left unfinished.
    ///
    /// # Errors
    /// [`AudienceError::Io`].
    pub fn open(dir: &Path, key: &StorageKey) -> Result<Self, AudienceError> {
        make_dir(dir, true)?;
        for entry in fs::read_dir(dir).map_err(AudienceError::io("read", dir))? {
            let path = entry.map_err(AudienceError::io("read", dir))?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                fs::remove_dir_all(&path).map_err(AudienceError::io("remove", &path))?;
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            key: key.derive("tally/audiences/v1"),
            sort_bytes: SORT_BYTES,
            writing: Mutex::new(()),
        })
    }

    /// The label of a name: a keyed hash, so that the ledger does not show the name, the same in every epoch.
    #[must_use]
    pub fn label(&self, name: &str) -> AudienceLabel {
        AudienceLabel(self.key.mac(&[b"tally/audience-label/v1", name.as_bytes()]))
    }

    /// Holds about `bytes` in memory for each of the two sorts of an import, whatever the number of people; 32 MiB where nobody says so.
    #[must_use]
    pub fn with_sort_bytes(mut self, bytes: usize) -> Self {
        self.sort_bytes = bytes;
        self
    }

    /// Reads a CSV file of people, salts, commits to and stores the set; memory does not grow with them. Durable when this returns. The
    /// report is that of [`tally_measure::import()`].
    ///
    /// # Errors
    /// As [`Self::create`], and [`AudienceError::Set`] for what that function refuses.
    pub fn import(
        &self,
        name: &str,
        epoch: u64,
        source: impl Read,
        options: &ImportOptions,
        rng: &mut impl CryptoRngCore,
    ) -> Result<AudienceMeta, AudienceError> {
        check_audience_name(name)?;
        let mut listed = Listed::new(&self.dir, self.sort_bytes);
        let mut report = import_each(source, options, &mut |line, id| {
            listed.push(line, &id).map_err(self.sorting())
        })?;
        self.freeze(name, epoch, options.profile, None, rng, |salting| {
            let each = |value: &[u8]| salting.push(Identifier::from_bytes(value)?, self.sorting());
            listed.finish(&mut report, options.max_lines, each, self.sorting())?;
            Ok(report)
        })
    }

    /// Salts, commits to and stores an imported set. Durable when this returns.
    ///
    /// # Errors
    /// [`AudienceError::Exists`] if the audience has a set for the epoch, [`AudienceError::Empty`], [`AudienceError::Name`],
    /// and whatever writing gives; then nothing is there.
    pub fn create(
        &self,
        name: &str,
        epoch: u64,
        import: Import,
        rng: &mut impl CryptoRngCore,
    ) -> Result<AudienceMeta, AudienceError> {
        self.create_with(name, epoch, import, None, rng)
    }

    /// As [`Self::create`], with the touches or conversions of these people: frozen, sealed and committed to with them.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_with(
        &self,
        name: &str,
        epoch: u64,
        import: Import,
        rows: Option<RowsInput>,
        rng: &mut impl CryptoRngCore,
    ) -> Result<AudienceMeta, AudienceError> {
        let Import { ids, report } = import;
        self.freeze(name, epoch, report.profile, rows, rng, |salting| {
            for id in ids {
                salting.push(id, self.sorting())?;
            }
            Ok(report)
        })
    }

    /// An error of a sort, in this store's form.
    fn sorting(&self) -> impl Fn(io::Error) -> AudienceError + use<> {
        let dir = self.dir.clone();
        move |error| AudienceError::io("sort people in", &dir)(error)
    }

    /// Salts the people that `fill` gives, commits to them and stores them.
    fn freeze<R: CryptoRngCore>(
        &self,
        name: &str,
        epoch: u64,
        profile: Profile,
        rows: Option<RowsInput>,
        rng: &mut R,
        fill: impl FnOnce(&mut Salting<'_, R>) -> Result<ImportReport, AudienceError>,
    ) -> Result<AudienceMeta, AudienceError> {
        check_audience_name(name)?;
        let key = AudienceKey {
            label: self.label(name),
            epoch,
        };
        let exists = || AudienceError::Exists {
            name: name.to_owned(),
            epoch,
        };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let target = self.set_dir(&key);
        if target.exists() {
            return Err(exists());
        }
        let mut salting = Salting::new(&self.dir, self.sort_bytes, profile, rng);
        let report = fill(&mut salting)?;
        let (size, mut people) = salting.finish().map_err(self.sorting())?;
        if size == 0 {
            return Err(AudienceError::Empty);
        }
        let mut opening_salt = [0; 32];
        rng.fill_bytes(&mut opening_salt);
        let mut meta = AudienceMeta {
            name: name.to_owned(),
            key,
            profile,
            size,
            padded_size: Some(tally_psi::public_size(size)),
            rows: None,
            // Known once the people are written.
            root: Hash([0; 32]),
            opening_salt: Hash(opening_salt),
            report,
            record: None,
            chunks: 0,
        };
        let temp = target.with_extension("tmp");
        debug_assert!(temp.to_string_lossy().ends_with(TEMP));
        make_dir(&temp, false)?;
        let written = match rows {
            Some(rows) => self.write_rows(&temp, &mut meta, rows, rng),
            None => Ok(()),
        };
        let done = written
            .and_then(|()| self.write_set(&temp, &mut meta, &mut people))
            .and_then(|()| {
                sync_dir(&temp)?;
                fs::rename(&temp, &target).map_err(|e| match e.kind() {
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => exists(),
                    _ => AudienceError::io("rename", &temp)(e),
                })?;
                sync_dir(&self.dir)
            });
        if let Err(error) = done {
            // What cannot be removed now is removed when the store is opened.
            let _ = fs::remove_dir_all(&temp);
            return Err(error);
        }
        Ok(meta)
    }

    fn write_set(
        &self,
        dir: &Path,
        meta: &mut AudienceMeta,
        people: &mut Salted,
    ) -> Result<(), AudienceError> {
        let mut chunk = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES));
        let mut tree = Frontier::new();
        while let Some(person) = people.next().map_err(self.sorting())? {
            tree.append(person.leaf);
            let value = person.id;
            if chunk.len() + SALT_BYTES + 2 + value.len() > CHUNK_BYTES {
                self.write_chunk(dir, meta, &mut chunk)?;
            }
            chunk.extend_from_slice(person.salt);
            let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
            chunk.extend_from_slice(&len.to_be_bytes());
            chunk.extend_from_slice(value);
        }
        self.write_chunk(dir, meta, &mut chunk)?;
        meta.root = tree.root();
        self.write_meta(dir, meta)
    }

    /// A salt and the rows, in files of bounded size.
    fn write_rows(
        &self,
        dir: &Path,
        meta: &mut AudienceMeta,
        rows: RowsInput,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(), AudienceError> {
        let mut salted = Zeroizing::new(vec![0; ROWS_SALT]);
        rng.fill_bytes(&mut salted);
        salted.reserve_exact(rows.bytes.len());
        salted.extend_from_slice(&rows.bytes);
        let mut chunks = 0_u32;
        for part in salted.chunks(CHUNK_BYTES) {
            let path = dir.join(rows_name(chunks));
            write_sealed(&path, &self.key, &rows_purpose(&meta.key, chunks), part)?;
            chunks = chunks.saturating_add(1);
        }
        meta.rows = Some(RowsMeta {
            holds: rows.holds,
            report: rows.report,
            digest: rows::digest(&salted),
            chunks,
        });
        Ok(())
    }

    /// The touches or conversions of an audience, verified against its commitment; `None` if it has none.
    ///
    /// # Errors
    /// [`AudienceError::Damaged`] or [`AudienceError::Sealed`] if a file is missing, cut or changed.
    pub fn load_rows(
        &self,
        meta: &AudienceMeta,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, AudienceError> {
        let Some(rows) = &meta.rows else {
            return Ok(None);
        };
        let dir = self.set_dir(&meta.key);
        let parts = (0..rows.chunks)
            .map(|number| {
                let path = dir.join(rows_name(number));
                read_sealed(&path, &self.key, &rows_purpose(&meta.key, number))?.ok_or(
                    AudienceError::Damaged {
                        path,
                        what: "missing",
                    },
                )
            })
            .collect::<Result<Vec<_>, AudienceError>>()?;
        let mut salted = Zeroizing::new(Vec::with_capacity(parts.iter().map(|p| p.len()).sum()));
        parts.iter().for_each(|p| salted.extend_from_slice(p));
        if rows::digest(&salted) != rows.digest || salted.len() < ROWS_SALT {
            return Err(AudienceError::Damaged {
                path: dir,
                what: "other rows than were committed to",
            });
        }
        salted.drain(..ROWS_SALT);
        Ok(Some(salted))
    }

    fn write_chunk(
        &self,
        dir: &Path,
        meta: &mut AudienceMeta,
        chunk: &mut Zeroizing<Vec<u8>>,
    ) -> Result<(), AudienceError> {
        let path = dir.join(chunk_name(meta.chunks));
        let purpose = purpose(&meta.key, meta.chunks);
        write_sealed(&path, &self.key, &purpose, chunk)?;
        chunk.clear();
        meta.chunks = meta.chunks.saturating_add(1);
        Ok(())
    }

    fn write_meta(&self, dir: &Path, meta: &AudienceMeta) -> Result<(), AudienceError> {
        let path = dir.join(META);
        let json = serde_json::to_vec(meta).map_err(|_| AudienceError::Damaged {
            path: path.clone(),
            what: "cannot be written as JSON",
        })?;
        Ok(write_sealed(
            &path,
            &self.key,
            &meta_purpose(&meta.key),
            &json,
        )?)
    }

    /// All sets, by label, the newest epoch first.
    ///
    /// # Errors
    /// [`AudienceError`] for a set that cannot be read.
    pub fn list(&self) -> Result<Vec<AudienceMeta>, AudienceError> {
        let mut out = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(AudienceError::io("read", &self.dir))? {
            let entry = entry.map_err(AudienceError::io("read", &self.dir))?;
            if let Some(key) = entry.file_name().to_str().and_then(parse_dir)
                && let Some(meta) = self.get(&key)?
            {
                out.push(meta);
            }
        }
        out.sort_by(|a, b| (&a.name, b.key.epoch).cmp(&(&b.name, a.key.epoch)));
        Ok(out)
    }

    /// One set, if it is there.
    ///
    /// # Errors
    /// [`AudienceError::Sealed`], [`AudienceError::Damaged`].
    pub fn get(&self, key: &AudienceKey) -> Result<Option<AudienceMeta>, AudienceError> {
        let path = self.set_dir(key).join(META);
        let Some(json) = read_sealed(&path, &self.key, &meta_purpose(key))? else {
            return Ok(None);
        };
        let damaged = |what| AudienceError::Damaged {
            path: path.clone(),
            what,
        };
        let meta: AudienceMeta =
            serde_json::from_slice(&json).map_err(|_| damaged("not the description of a set"))?;
        if meta.key == *key {
            Ok(Some(meta))
        } else {
            Err(damaged("describes another set"))
        }
    }

    /// The newest set of an audience.
    ///
    /// # Errors
    /// [`AudienceError::Unknown`], and as [`Self::get`].
    pub fn latest(&self, name: &str) -> Result<AudienceMeta, AudienceError> {
        let label = self.label(name);
        self.list()?
            .into_iter()
            .find(|meta| meta.key.label == label)
            .ok_or_else(|| AudienceError::Unknown { name: name.into() })
    }

    /// Notes the record that committed a set.
    ///
    /// # Errors
    /// [`AudienceError::Unknown`], and as [`Self::get`].
    pub fn set_record(
        &self,
        key: &AudienceKey,
        record: tally_contracts::ids::RecordId,
    ) -> Result<AudienceMeta, AudienceError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut meta = self.get(key)?.ok_or_else(|| AudienceError::Unknown {
            name: key.label.to_string(),
        })?;
        meta.record = Some(record);
        self.write_meta(&self.set_dir(key), &meta)?;
        Ok(meta)
    }

    /// Every person of a set in committed order, one file in memory at a time. Nothing of it is verified against the root.
    #[must_use]
    pub fn entries(&self, meta: &AudienceMeta) -> Entries {
        Entries::new(self.set_dir(&meta.key), self.key.clone(), meta.clone())
    }

    /// Shows every person of a set in committed order, one file in memory at a time.
    ///
    /// # Errors
    /// [`AudienceError::Damaged`] or [`AudienceError::Sealed`] if a file is missing, cut or changed; what was shown before is
    /// then part of the set all the same. What `each` gives.
    pub fn visit(
        &self,
        meta: &AudienceMeta,
        mut each: impl FnMut(SaltedEntry) -> Result<(), AudienceError>,
    ) -> Result<(), AudienceError> {
        self.entries(meta).try_for_each(|entry| each(entry?))
    }

    /// As [`Self::visit`], each person with its row; the set is verified against its root on the way.
    ///
    /// # Errors
    /// As [`Self::visit`], and, once all were shown, [`AudienceError::Set`] if the root is another.
    pub fn visit_verified(
        &self,
        meta: &AudienceMeta,
        mut each: impl FnMut(u64, SaltedEntry) -> Result<(), AudienceError>,
    ) -> Result<(), AudienceError> {
        let (mut tree, mut last) = (Frontier::new(), None);
        let mut sorted = true;
        self.visit(meta, |entry| {
            let leaf = entry.leaf(meta.profile);
            sorted &= last < Some(leaf);
            last = Some(leaf);
            let row = tree.size();
            tree.append(leaf);
            each(row, entry)
        })?;
        if sorted && tree.root() == meta.root {
            Ok(())
        } else {
            Err(tally_measure::Error::SetRoot.into())
        }
    }

    /// A whole set in memory, verified against its root.
    ///
    /// # Errors
    /// As [`Self::visit`], and [`AudienceError::Set`] if the root is another.
    pub fn load(&self, meta: &AudienceMeta) -> Result<SaltedSet, AudienceError> {
        let mut entries = Vec::with_capacity(usize::try_from(meta.size).unwrap_or(0).min(1 << 22));
        self.visit(meta, |entry| {
            entries.push(entry);
            Ok(())
        })?;
        Ok(SaltedSet::from_entries(meta.profile, entries, &meta.root)?)
    }

    fn set_dir(&self, key: &AudienceKey) -> PathBuf {
        self.dir.join(format!("{}-{}", key.label, key.epoch))
    }
}

fn parse_dir(name: &str) -> Option<AudienceKey> {
    let (label, epoch) = name.split_once('-')?;
    Some(AudienceKey {
        label: label.parse().ok()?,
        epoch: epoch.parse().ok()?,
    })
}

fn rows_name(number: u32) -> String {
    format!("rows-{number:06}")
}

fn rows_purpose(key: &AudienceKey, number: u32) -> String {
    format!("audience-rows/{}/{}/{number}", key.label, key.epoch)
}

fn meta_purpose(key: &AudienceKey) -> String {
    format!("audience-meta/{}/{}", key.label, key.epoch)
}

fn make_dir(path: &Path, parents: bool) -> Result<(), AudienceError> {
    DirBuilder::new()
        .recursive(parents)
        .mode(0o700)
        .create(path)
        .map_err(AudienceError::io("create", path))
}

fn sync_dir(path: &Path) -> Result<(), AudienceError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(AudienceError::io("sync", path))
}
