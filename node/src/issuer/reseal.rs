//! Sealing the issuer's folder under another key, so that the member's other gateways can open a copy of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::IssuerError;
use super::meta::damaged;
use super::store::{BATCH_FILE, BATCHES, KEY_FILE, KEY_PURPOSE, batch_purpose, name_of};
use crate::files::FileError;
use crate::sealed::{SealedError, StorageKey, read_sealed, write_sealed};

/// Whether `dir` holds the keys of an issuer.
#[must_use]
pub fn has_issuer(dir: &Path) -> bool {
    dir.join(KEY_FILE).is_file()
}

/// Seals everything in the issuer's folder `dir` under `new` that is sealed under `old` still. It may be interrupted at any point and repeated; a
/// folder that is sealed under `new`, or holds nothing, stays as it is.
///
/// # Errors
/// [`IssuerError::Sealed`] if a file opens under neither key, [`IssuerError::Damaged`] while a batch is being printed: finish it first,
/// [`IssuerError::File`].
pub fn reseal(dir: &Path, old: &StorageKey, new: &StorageKey) -> Result<(), IssuerError> {
    if !has_issuer(dir) {
        return Ok(());
    }
    // The issuer's keys last: as long as they are under the old key the rest may be under either.
    let keys = dir.join(KEY_FILE);
    if opens(&keys, new, KEY_PURPOSE)? {
        return Ok(());
    }
    let jobs = dir.join("jobs");
    if fs::read_dir(&jobs).is_ok_and(|mut d| d.next().is_some()) {
        return Err(damaged(
            &jobs,
            "a batch is being printed: finish it, then share the codes",
        ));
    }
    let batches = dir.join(BATCHES);
    let entries = match fs::read_dir(&batches) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    };
    for entry in entries.map_err(FileError::new("read", &batches))? {
        let batch: PathBuf = entry.path();
        one(
            &batch.join(BATCH_FILE),
            old,
            new,
            &batch_purpose(&name_of(&batch)),
        )?;
    }
    one(&keys, old, new, KEY_PURPOSE)
}

fn opens(path: &Path, key: &StorageKey, purpose: &str) -> Result<bool, IssuerError> {
    match read_sealed(path, key, purpose) {
        Ok(found) => Ok(found.is_some()),
        Err(SealedError::WrongKey { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn one(path: &Path, old: &StorageKey, new: &StorageKey, purpose: &str) -> Result<(), IssuerError> {
    if opens(path, new, purpose)? {
        return Ok(());
    }
    if let Some(plain) = read_sealed(path, old, purpose)? {
        write_sealed(path, new, purpose, &plain)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tally_contracts::ids::MemberId;

    use super::*;
    use crate::issuer::{IssuerStore, NoneAnchored};

    #[test]
    fn a_folder_opens_under_the_new_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = [1, 2].map(|n| StorageKey::from_bytes([n; 32]));
        let open = |key: &StorageKey| {
            IssuerStore::open(
                dir.path(),
                key.clone(),
                MemberId([1; 16]),
                Arc::new(NoneAnchored),
            )
        };
        assert!(!has_issuer(dir.path()));
        reseal(dir.path(), &old, &new).unwrap();
        drop(open(&old).unwrap());
        assert!(has_issuer(dir.path()));
        for _ in 0..2 {
            reseal(dir.path(), &old, &new).unwrap();
            drop(open(&new).unwrap());
            assert!(open(&old).is_err());
        }
        let other = StorageKey::from_bytes([3; 32]);
        assert!(reseal(dir.path(), &old, &other).is_err());
    }
}
