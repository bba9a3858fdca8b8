//! Everything that can go wrong in the ledger's files and rules.

use std::path::{Path, PathBuf};

use tally_contracts::CodecError;
use tally_contracts::state::StateError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read or written; after a failed write the ledger is read-only until it is opened again.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An earlier write failed, so nothing more is written.
    #[error(
        "the ledger is read-only since a write failed: {reason}; free disk space or replace the disk, then start the node again"
    )]
    ReadOnly {
        /// The first failure.
        reason: String,
    },
    /// The members have gone on to contracts that this program does not know.
    #[error(
        "the network's rules are version {version}, which this program does not know; install one that does and start it again"
    )]
    Rules {
        /// The version in force.
        version: u32,
    },
    /// A change of the network came into force with a block without records, which leaves no entry to prove the state by.
    #[error(
        "a change of the network came into force at height {height} in a block without records; after the next record the state can be \
         proven again"
    )]
    NoEntryYet {
        /// The height of the head.
        height: u64,
    },
    /// Another process has the folder open.
    #[error("{path} is locked by another process; stop that node first")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// What was acknowledged is missing or damaged. Nothing is cut off or overwritten.
    #[error("{path} is damaged at offset {offset}: {reason}; {remedy}")]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// Where the bad part starts, in bytes.
        offset: u64,
        /// What is wrong.
        reason: String,
        /// What an operator can do.
        remedy: &'static str,
    },
    /// The state store failed.
    #[error("state store: {0}")]
    Store(#[from] fjall::Error),
    /// A value in the state store cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Bytes that are not the canonical form of what they should be.
    #[error("{what}: {source}")]
    Codec {
        /// What was being decoded.
        what: &'static str,
        /// Why it failed.
        source: CodecError,
    },
    /// The genesis document given is not the one that the folder was made for.
    #[error("this folder belongs to network {found}, not to {expected}")]
    OtherNetwork {
        /// The network asked for.
        expected: String,
        /// The network found.
        found: String,
    },
    /// The genesis document is not valid.
    #[error("genesis: {0}")]
    Genesis(#[from] tally_contracts::Error),
    /// A block that the network has not decided, or not here: its sender is at fault, and this node can go on.
    #[error("block at height {height} refused: {reason}")]
    Refused {
        /// Its height.
        height: u64,
        /// Why.
        reason: String,
    },
    /// A block that the network has decided, but that does not follow here. A node must not go on.
    #[error(
        "block at height {height} was decided by the network, but not by this node's rules: {reason}; install the version that the others run, then run `tally reindex`"
    )]
    Diverged {
        /// Its height.
        height: u64,
        /// What differs, found and expected.
        reason: String,
    },
    /// Nothing has this index, height or size.
    #[error("{what} {asked} is not there; the ledger has {have}")]
    OutOfRange {
        /// What was asked for.
        what: &'static str,
        /// Which one.
        asked: u64,
        /// How far the ledger goes.
        have: u64,
    },
    /// It was dropped, or never was here: this ledger began at a snapshot.
    #[error(
        "{what} {asked} is not on this node any more; the first one is {first}; other members may have it"
    )]
    Dropped {
        /// What was asked for.
        what: &'static str,
        /// Which one.
        asked: u64,
        /// The first one that is here.
        first: u64,
    },
    /// A snapshot that is not what it should be. Nothing of it is used.
    #[error("snapshot refused: {file}: {reason}")]
    Snapshot {
        /// Which of its files.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A snapshot cannot be made now.
    #[error("no snapshot now: {reason}")]
    NoSnapshot {
        /// Why.
        reason: String,
    },
    /// A restored snapshot was not put in place to its end.
    #[error(
        "{path} is left from a restore that did not end; run `tally snapshot restore` again, or remove that folder"
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// The state of the time before the first stored block is not here and cannot be made from blocks.
    #[error(
        "the blocks here start at height {first}, and the state before them cannot be made from blocks; move {path} away and run \
         `tally snapshot restore`"
    )]
    NoStateBefore {
        /// Height of the first stored block.
        first: u64,
        /// The folder of the ledger's files.
        path: PathBuf,
    },
    /// A proof or note could not be made or checked.
    #[error(transparent)]
    Merkle(#[from] tally_merkle::Error),
    /// A state that cannot arise; a defect of this program.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl Error {
    /// Block files that cannot be repaired from what is on this machine.
    pub(crate) fn damaged_blocks(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset,
            reason: reason.into(),
            remedy: "restore it from a backup, or move the ledger folder away and let the node fetch the blocks again",
        }
    }

    /// Something that follows from the blocks and can be made again.
    pub(crate) fn damaged_index(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset: 0,
            reason: reason.into(),
            remedy: "run `tally reindex`",
        }
    }
}

/// Attaches what was tried to an input or output error.
pub(crate) trait IoContext<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
