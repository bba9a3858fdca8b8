//! What can go wrong with stored audiences.

use std::io;
use std::path::PathBuf;

use crate::sealed::SealedError;

/// Why an audience cannot be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudienceError {
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
    /// A sealed file cannot be read or written.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// A name that an audience cannot have.
    #[error("audience names have 1 to {max} printable characters, found {found}")]
    Name {
        /// The longest name, in bytes.
        max: usize,
        /// How many bytes came.
        found: usize,
    },
    /// One set for each name and epoch: a set is frozen once it is there.
    #[error("audience {name} has a set for epoch {epoch}; the next epoch takes a new one")]
    Exists {
        /// The audience.
        name: String,
        /// The epoch.
        epoch: u64,
    },
    /// No such audience.
    #[error("there is no audience {name}")]
    Unknown {
        /// The audience, or its label.
        name: String,
    },
    /// A set without people.
    #[error("the import has no usable row; its report says why")]
    Empty,
    /// A stored file that is not what was written.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The set does not give the root that it was committed under, or has a value that is no identifier.
    #[error(transparent)]
    Set(#[from] tally_measure::Error),
}

impl AudienceError {
    pub(crate) fn io(
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
}
