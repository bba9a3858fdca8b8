//! The list of one node: a sealed file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tally_contracts::codec::Canonical;

use super::{DealerError, Entry, List};
use crate::sealed::{StorageKey, read_sealed, write_sealed};

const PURPOSE: &str = "dealers";

/// On disk and in memory.
pub(super) struct FileList {
    path: PathBuf,
    key: StorageKey,
    entries: Mutex<Arc<Vec<Entry>>>,
}

impl FileList {
    pub(super) fn open(path: &Path, key: &StorageKey) -> Result<Self, DealerError> {
        let entries = match read_sealed(path, key, PURPOSE)? {
            Some(bytes) => List::from_bytes(&bytes)?.0,
            None => Vec::new(),
        };
        Ok(Self {
            path: path.to_owned(),
            key: key.clone(),
            entries: Mutex::new(Arc::new(entries)),
        })
    }

    pub(super) fn entries(&self) -> Arc<Vec<Entry>> {
        // The list is replaced as a whole.
        Arc::clone(&self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the new list durable, then takes it over. A small file: some milliseconds.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<(), DealerError>,
    ) -> Result<(), DealerError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = List(entries.to_vec());
        change(&mut new.0)?;
        write_sealed(&self.path, &self.key, PURPOSE, &new.to_bytes())?;
        *entries = Arc::new(new.0);
        Ok(())
    }
}
