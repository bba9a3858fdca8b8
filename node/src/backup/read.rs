//! Restores a backup into an empty directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use age::{Decryptor, Identity};
use serde::de::DeserializeOwned;
use tar::{Archive, EntryType};

use super::{
    BLOCKS, BackupError, FILES, FOLDERS, Forgotten, Key, MANIFEST, MAX_NOTE_BYTES, MAX_WORK_FACTOR,
    Manifest, Probation, TALLY, Tally, VERSION,
};
use crate::config::DataDir;
use crate::files::{FileError, create_private_dir, sync_dir};

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// How much it held.
    pub tally: Tally,
}

/// Writes the files of a backup into `dir`, which must not be there or be empty, and puts its node on [`Probation`]. All is
/// durable when it returns. `news` hears the bytes done.
///
/// # Errors
/// [`BackupError`]; what was written is removed again.
pub fn restore(
    backup: impl Read,
    key: &Key,
    dir: &DataDir,
    news: &mut dyn FnMut(u64),
) -> Result<Restored, BackupError> {
    let root = dir.root();
    create_private_dir(root)?;
    if fs::read_dir(root)
        .map_err(FileError::new("list", root))?
        .next()
        .is_some()
    {
        return Err(BackupError::NotEmpty {
            path: root.to_owned(),
        });
    }
    let restored = unpack(backup, key, root, news).and_then(|restored| {
        for folder in DataDir::FOLDERS {
            create_private_dir(&root.join(folder))?;
        }
        Probation::impose(dir, Forgotten::Restored)?;
        sync_all_dirs(root)?;
        Ok(restored)
    });
    if restored.is_err() {
        // Only what this call made is in it. Best effort: the error that counts is the one above.
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
    restored
}

fn unpack(
    backup: impl Read,
    key: &Key,
    root: &Path,
    news: &mut dyn FnMut(u64),
) -> Result<Restored, BackupError> {
    let refused = |e: &dyn std::fmt::Display| BackupError::Decrypt(e.to_string());
    let decryptor =
        Decryptor::new(io::BufReader::with_capacity(1 << 16, backup)).map_err(|e| refused(&e))?;
    let mut by_passphrase = None;
    let identity: &dyn Identity = match key {
        Key::Identity(identity) => identity,
        Key::Passphrase(passphrase) => {
            let mut identity = age::scrypt::Identity::new(passphrase.secret());
            identity.set_max_work_factor(MAX_WORK_FACTOR);
            by_passphrase.insert(identity)
        }
    };
    let plain = decryptor
        .decrypt(std::iter::once(identity))
        .map_err(|e| refused(&e))?;
    let mut archive = Archive::new(plain);
    let mut manifest: Option<Manifest> = None;
    let mut end: Option<Tally> = None;
    let mut found = Tally::default();
    for entry in archive.entries().map_err(BackupError::io("read"))? {
        let mut entry = entry.map_err(BackupError::io("read"))?;
        let path = entry.path().map_err(BackupError::io("read"))?.into_owned();
        let member = || BackupError::Member {
            name: path.display().to_string(),
        };
        if entry.header().entry_type() != EntryType::Regular || end.is_some() {
            return Err(member());
        }
        if manifest.is_none() {
            if path != Path::new(MANIFEST) {
                return Err(BackupError::Form(format!(
                    "it begins with {:?}, expected {MANIFEST}",
                    path.display()
                )));
            }
            let read: Manifest = note(&mut entry)?;
            if read.version != VERSION {
                return Err(BackupError::Form(format!(
                    "version {}, expected {VERSION}",
                    read.version
                )));
            }
            manifest = Some(read);
        } else if path == Path::new(TALLY) {
            end = Some(note(&mut entry)?);
        } else if belongs(&path) {
            found.files += 1;
            found.bytes += write_file(&root.join(&path), &mut entry)?;
            news(found.bytes);
        } else {
            return Err(member());
        }
    }
    let manifest = manifest.ok_or_else(|| BackupError::Form("it is empty".into()))?;
    // To the end of the encryption, whose last part proves that nothing was cut.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(BackupError::io("read"))?;
    match end {
        Some(tally) if tally == found => Ok(Restored { manifest, tally }),
        end => Err(BackupError::NotWhole {
            expected: end.map_or_else(|| "an end".into(), |tally| tally.to_string()),
            found: found.to_string(),
        }),
    }
}

/// Whether a path is one that a backup has: plain names below the folders of [`FOLDERS`], or one of [`FILES`].
fn belongs(path: &Path) -> bool {
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    plain
        && (FILES.iter().any(|f| path == Path::new(f))
            || FOLDERS
                .iter()
                .chain([&BLOCKS])
                .any(|f| path.starts_with(f) && path != Path::new(f)))
}

fn note<T: DeserializeOwned>(entry: &mut impl Read) -> Result<T, BackupError> {
    let mut text = Vec::new();
    entry
        .take(MAX_NOTE_BYTES)
        .read_to_end(&mut text)
        .map_err(BackupError::io("read"))?;
    serde_json::from_slice(&text).map_err(|e| BackupError::Form(e.to_string()))
}

fn write_file(path: &Path, content: &mut impl Read) -> Result<u64, BackupError> {
    create_private_dir(crate::files::parent(path))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(FileError::new("write", path))?;
    let bytes = io::copy(content, &mut file).map_err(FileError::new("write", path))?;
    file.sync_all().map_err(FileError::new("sync", path))?;
    Ok(bytes)
}

/// Makes the entries of a directory and of all below it durable.
fn sync_all_dirs(root: &Path) -> Result<(), BackupError> {
    let mut dirs: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)
            .map_err(FileError::new("list", &dir))?
            .flatten()
        {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                dirs.push(entry.path());
            }
        }
        sync_dir(&dir)?;
    }
    File::open(crate::files::parent(root))
        .and_then(|d| d.sync_all())
        .map_err(FileError::new("sync", root))?;
    Ok(())
}
