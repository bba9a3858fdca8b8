//! Small plain files that are replaced as a whole and durable when a call returns.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file that the operating system did not let us read or write.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot {action}")]
pub struct FileError {
    /// What was being done.
    pub action: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self {
            action,
            path,
            source,
        }
    }

    /// Whether the file is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Replaces `path` by `bytes` with permissions `mode`; after a crash it is the old file or the new one.
///
/// # Errors
/// [`FileError`].
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(format!(".{}.tmp", std::process::id()));
    let temp = PathBuf::from(temp);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temp)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(FileError::new("write", &temp))
        .and_then(|()| fs::rename(&temp, path).map_err(FileError::new("write", path)));
    if written.is_err() {
        // Best effort: the error that counts is the one above.
        let _ = fs::remove_file(&temp);
    }
    written?;
    sync_dir(parent(path))
}

/// Reads a file of at most `max` bytes.
///
/// # Errors
/// [`FileError`], with [`io::ErrorKind::FileTooLarge`] for a longer one.
pub fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max as u64 + 1).read_to_end(&mut bytes))
        .map_err(FileError::new("read", path))?;
    if bytes.len() > max {
        let source = io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {max} bytes"),
        );
        return Err(FileError::new("read", path)(source));
    }
    Ok(bytes)
}

/// Creates a directory, parents included, that only its owner enters.
///
/// # Errors
/// [`FileError`].
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::new("create", path))
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// [`FileError`].
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|d| d.sync_all())
        .map_err(FileError::new("sync", path))
}

/// The directory that a file is in.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
