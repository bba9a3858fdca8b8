//! What can go wrong with a sealed store.

use std::io;
use std::path::PathBuf;

/// Why a sealed log or file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// The operating system refused.
    #[error("{path}: cannot {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The key does not open the store, or the file belongs to another store.
    #[error("{path}: the storage key does not open this store of purpose {purpose}")]
    WrongKey {
        /// The file.
        path: PathBuf,
        /// The purpose asked for.
        purpose: String,
    },
    /// Bytes that were durable once are not what was written.
    #[error("{path}: damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged frame starts, in bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// One entry is larger than a frame may be.
    #[error("entry of {found} bytes is over the limit of {max}")]
    TooLong {
        /// Its length.
        found: usize,
        /// The largest length allowed.
        max: usize,
    },
    /// The log does not hold the entry from which it was to be read on: it is another log, or an older copy.
    #[error("{dir}: no entry at byte {offset} of segment {segment}")]
    NoEntry {
        /// The log.
        dir: PathBuf,
        /// The segment.
        segment: u32,
        /// Where, in bytes.
        offset: u64,
    },
    /// Another process has this log open.
    #[error("{path}: in use by another process")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// An earlier write or sync failed in a way that leaves the end of the file unknown; the log must be opened again.
    #[error("{path}: closed after a failed write, open it again")]
    Poisoned {
        /// The segment.
        path: PathBuf,
    },
}

impl SealedError {
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether the cause is a full disk or an exhausted quota.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
