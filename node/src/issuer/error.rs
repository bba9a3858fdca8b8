//! What can go wrong with the issuer's store.

use std::io;
use std::path::PathBuf;

use tally_contracts::ids::BatchId;

use crate::files::FileError;
use crate::sealed::SealedError;

/// Why a batch cannot be made, a code not verified, or the store not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// Bad input, or keys that are not of their form.
    #[error(transparent)]
    Codes(#[from] tally_codes::Error),
    /// A sealed file.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// Another file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The printer's file cannot be made.
    #[error(transparent)]
    PrinterFile(FileError),
    /// Outer codes and claim codes shall go to one file.
    #[error("{path}: outer codes and claim codes need a file each")]
    SameFile {
        /// It.
        path: PathBuf,
    },
    /// A new batch would take the place of a file.
    #[error("{path} is there already, and no batch was made")]
    FileIsThere {
        /// It.
        path: PathBuf,
    },
    /// The rows for the printer cannot be written; no batch was made.
    #[error("cannot write the rows for the printer")]
    Rows(#[source] io::Error),
    /// Stored bytes that are not what was written.
    #[error("{path}: damaged: {what}")]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The keys in the directory are another member's.
    #[error("{path}: these are the keys of another issuer")]
    OtherIssuer {
        /// The key file.
        path: PathBuf,
    },
    /// No such batch was made here.
    #[error("no batch {id} was made here")]
    NoBatch {
        /// The batch.
        id: BatchId,
    },
    /// The code is not one of an anchored batch.
    #[error("not a code of an anchored batch")]
    NotIssued,
    /// The ledger cannot be asked now.
    #[error("the ledger cannot be asked: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl IssuerError {
    /// Whether the cause is a full disk or an exhausted quota.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let full = |e: &io::Error| {
            matches!(
                e.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        };
        match self {
            Self::Sealed(e) => e.is_disk_full(),
            Self::File(e) | Self::PrinterFile(e) => full(&e.source),
            Self::Rows(e) => full(e),
            _ => false,
        }
    }
}
