//! Makes a backup.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use age::Encryptor;
use tar::{Builder, EntryType, Header};

use super::{BLOCKS, BackupError, FILES, FOLDERS, Lock, MANIFEST, Manifest, TALLY, Tally};
use crate::config::DataDir;
use crate::files::FileError;

/// Writes a backup of the data directory `dir` into `out`, which the caller makes durable. `news` hears bytes done and bytes in
/// all.
///
/// The node may run: logs and blocks only grow, and a torn last frame is cut off when they are opened; each file is read as long as
/// it was when its turn came. Files that come and go meanwhile are left out.
///
/// # Errors
/// [`BackupError`]; what is in `out` then is no backup.
pub fn backup(
    dir: &DataDir,
    lock: &Lock,
    manifest: &Manifest,
    out: impl Write,
    news: &mut dyn FnMut(u64, u64),
) -> Result<Tally, BackupError> {
    let files = listed(dir.root(), manifest.blocks)?;
    let total = files.iter().map(|(_, bytes)| bytes).sum();
    let encryptor = match lock {
        Lock::Recipients(all) => {
            Encryptor::with_recipients(all.iter().map(|r| r as &dyn age::Recipient))
                .map_err(|e| BackupError::Encrypt(e.to_string()))?
        }
        Lock::Passphrase(passphrase) => Encryptor::with_user_passphrase(passphrase.secret()),
    };
    let sealed = encryptor
        .wrap_output(out)
        .map_err(BackupError::io("write"))?;
    let mut tar = Builder::new(sealed);
    add_note(&mut tar, MANIFEST, manifest)?;
    let mut tally = Tally::default();
    for (path, _) in &files {
        if let Some(bytes) = add_file(&mut tar, dir.root(), path)? {
            tally.files += 1;
            tally.bytes += bytes;
            news(tally.bytes, total);
        }
    }
    add_note(&mut tar, TALLY, &tally)?;
    tar.into_inner()
        .and_then(age::stream::StreamWriter::finish)
        .and_then(|mut out| out.flush())
        .map_err(BackupError::io("write"))?;
    Ok(tally)
}

/// The files of a backup, relative to `root`, with their sizes now; in an order in which what was made from a log comes before it.
fn listed(root: &Path, blocks: bool) -> Result<Vec<(PathBuf, u64)>, BackupError> {
    let mut files = Vec::new();
    for name in FILES {
        if let Ok(meta) = root.join(name).metadata() {
            files.push((PathBuf::from(name), meta.len()));
        }
    }
    for name in FOLDERS.into_iter().chain(blocks.then_some(BLOCKS)) {
        walk(root, Path::new(name), &mut files)?;
    }
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<(), BackupError> {
    let path = root.join(folder);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(FileError::new("list", path)(e).into()),
    };
    let mut names = entries
        .map(|entry| entry.map(|e| e.file_name()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(FileError::new("list", &path))?;
    names.sort_unstable();
    for name in names {
        let below = folder.join(&name);
        // Links are followed nowhere: the node makes none.
        let Ok(meta) = root.join(&below).symlink_metadata() else {
            continue;
        };
        if meta.is_dir() {
            walk(root, &below, files)?;
        } else if meta.is_file() && !is_passing(&below) {
            files.push((below, meta.len()));
        }
    }
    Ok(())
}

/// Whether a file is one that is renamed over another in the next moment.
fn is_passing(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "tmp")
}

/// Adds one file as long as it is now; `None` if it is gone.
fn add_file(
    tar: &mut Builder<impl Write>,
    root: &Path,
    path: &Path,
) -> Result<Option<u64>, BackupError> {
    let full = root.join(path);
    let file = match File::open(&full) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileError::new("read", full)(e).into()),
    };
    let bytes = file
        .metadata()
        .map_err(FileError::new("read", &full))?
        .len();
    let mut header = header(bytes);
    // A file that is cut meanwhile gives fewer bytes than its header says, which `append_data` takes silently: zeros stand for them,
    // and the frames' checksums tell them from content.
    let content = file.take(bytes).chain(io::repeat(0)).take(bytes);
    tar.append_data(&mut header, path, content)
        .map_err(BackupError::io("write"))?;
    Ok(Some(bytes))
}

fn add_note(
    tar: &mut Builder<impl Write>,
    name: &str,
    note: &impl serde::Serialize,
) -> Result<(), BackupError> {
    let text = serde_json::to_vec(note).map_err(|e| BackupError::Form(e.to_string()))?;
    tar.append_data(&mut header(text.len() as u64), name, text.as_slice())
        .map_err(BackupError::io("write"))
}

fn header(bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(bytes);
    header
}
