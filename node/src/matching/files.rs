//! Sealed files of one kind, one for each match, replaced before the peer hears of the step that they note.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::error::MatchError;
use super::state::MatchId;
use crate::sealed::{SealedError, StorageKey, read_sealed, write_sealed};

/// What is stored of a match.
pub(super) trait Filed: Clone + Serialize + DeserializeOwned {
    /// Ends the file's name, and starts what is bound into its seal.
    const KIND: &'static str;

    /// Names the file.
    fn id(&self) -> MatchId;

    /// When it began, ledger time in POSIX milliseconds.
    fn started_ms(&self) -> u64;
}

/// All files of a kind, in memory too.
pub(super) struct Files<T> {
    dir: PathBuf,
    key: StorageKey,
    files: Mutex<HashMap<MatchId, T>>,
}

impl<T: Filed> Files<T> {
    /// Opens the directory, made if absent.
    pub(super) fn open(dir: &Path, key: StorageKey) -> Result<Self, MatchError> {
        let io = |action| {
            move |source| SealedError::Io {
                action,
                path: dir.to_owned(),
                source,
            }
        };
        fs::create_dir_all(dir).map_err(io("create"))?;
        let mut files = HashMap::new();
        for entry in fs::read_dir(dir).map_err(io("read"))? {
            let path = entry.map_err(io("read"))?.path();
            let id = path
                .file_stem()
                .and_then(|s| s.to_str())
                .and_then(|s| s.parse().ok());
            let (Some(id), true) = (id, path.extension().is_some_and(|e| e == T::KIND)) else {
                continue;
            };
            if let Some(json) = read_sealed(&path, &key, &purpose::<T>(&id))? {
                let file = serde_json::from_slice(&json).map_err(|_| SealedError::Damaged {
                    path,
                    offset: 0,
                    what: "not the description of a match",
                })?;
                files.insert(id, file);
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            key,
            files: Mutex::new(files),
        })
    }

    /// What they are sealed under.
    pub(super) const fn key(&self) -> &StorageKey {
        &self.key
    }

    /// Where the files are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MatchId, T>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a match; durable when this returns. `false`, with nothing done, if its ID is there.
    pub(super) fn add(&self, file: T) -> Result<bool, MatchError> {
        let mut files = self.lock();
        let id = file.id();
        if files.contains_key(&id) {
            return Ok(false);
        }
        self.write(&file)?;
        files.insert(id, file);
        Ok(true)
    }

    /// Changes a match; durable when this returns.
    pub(super) fn update(
        &self,
        id: &MatchId,
        change: impl FnOnce(&mut T),
    ) -> Result<T, MatchError> {
        let mut files = self.lock();
        let mut file = files
            .get(id)
            .cloned()
            .ok_or(MatchError::UnknownMatch { id: *id })?;
        change(&mut file);
        self.write(&file)?;
        files.insert(*id, file.clone());
        Ok(file)
    }

    pub(super) fn get(&self, id: &MatchId) -> Option<T> {
        self.lock().get(id).cloned()
    }

    /// All of them, the newest first.
    pub(super) fn all(&self) -> Vec<T> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by_key(|f| (std::cmp::Reverse(f.started_ms()), f.id()));
        all
    }

    fn write(&self, file: &T) -> Result<(), MatchError> {
        let id = file.id();
        let path = self.dir.join(format!("{id}.{}", T::KIND));
        let json =
            serde_json::to_vec(file)
                .map(Zeroizing::new)
                .map_err(|_| MatchError::Internal {
                    what: "a match that is not JSON",
                })?;
        Ok(write_sealed(&path, &self.key, &purpose::<T>(&id), &json)?)
    }
}

fn purpose<T: Filed>(id: &MatchId) -> String {
    format!("{}/{id}", T::KIND)
}
