//! Small file helpers: whole files appear at once or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext};

/// Makes a folder and those above it.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).on("create folder", path)
}

/// Makes a folder's entries durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|d| d.sync_all())
        .on("sync folder", path)
}

/// Writes a whole file: temporary name, sync, rename, sync of the folder.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_all_whole(&[(path.to_owned(), bytes.to_vec())])
}

/// Writes files, each of which appears at once or not at all, and all of which are on disk when this returns. All are written before
/// the first is synced: the disk then has them in one go.
pub(crate) fn write_all_whole(files: &[(PathBuf, Vec<u8>)]) -> Result<(), Error> {
    let mut open = Vec::with_capacity(files.len());
    let mut dirs = BTreeSet::new();
    for (path, bytes) in files {
        let dir = path
            .parent()
            .ok_or(Error::Internal("a file without a folder"))?;
        if dirs.insert(dir) {
            make_dir(dir)?;
        }
        let mut name = path
            .file_name()
            .ok_or(Error::Internal("a file without a name"))?
            .to_owned();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        let mut file = File::create(&temporary).on("create", &temporary)?;
        file.write_all(bytes).on("write", &temporary)?;
        open.push((path, temporary, file));
    }
    for (path, temporary, file) in open {
        file.sync_all().on("sync", &temporary)?;
        fs::rename(&temporary, path).on("rename", &temporary)?;
    }
    dirs.into_iter().try_for_each(sync_dir)
}
