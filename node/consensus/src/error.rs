//! The crate's error.

use crate::application::Fatal;

/// Why the engine did not start, or why it stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration cannot be used.
    #[error("{field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the consensus folder cannot be read or written.
    #[error("{path}: {reason}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The engine did not start, or ended by itself.
    #[error("consensus engine: {reason}")]
    Engine {
        /// What the engine said.
        reason: String,
    },
    /// The write-ahead log is damaged, not only cut short: what this node voted at a height cannot be known, and it must not vote
    /// there again.
    #[error(
        "the log of votes consensus/wal/consensus.wal is damaged ({reason}): this node does not know how it voted at height {height}"
    )]
    DamagedLog {
        /// The height of the log.
        height: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The application cannot go on from a decided block; nothing was signed after this.
    #[error("halted at height {height}: {reason}")]
    Halted {
        /// The height that could not be committed.
        height: u64,
        /// The application's reason.
        reason: Fatal,
    },
}

impl Error {
    pub(crate) fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            reason: error.to_string(),
        }
    }

    #[allow(clippy::needless_pass_by_value)] // it is given as the argument of map_err
    pub(crate) fn engine(reason: impl ToString) -> Self {
        Self::Engine {
            reason: reason.to_string(),
        }
    }
}
