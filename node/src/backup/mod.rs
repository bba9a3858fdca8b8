//! A backup of a node: everything of its data directory that cannot be made again, in one age-encrypted file.
//!
//! Inside is a tar archive. Its first member says what it is ([`Manifest`]), its last one how many files and bytes stand between
//! ([`Tally`]), so that a shortened archive is seen even where the encryption would allow it. `consensus/` is never in it: an old
//! copy of a validator's votes makes it vote twice. State, tiles and sockets are not either: they follow from the blocks.

mod probation;
mod read;
mod write;

pub use probation::{Forgotten, Probation};
pub use read::{Restored, restore};
pub use write::backup;

use std::io;
use std::path::PathBuf;
use std::str::FromStr as _;

use age::secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::files::FileError;
use crate::passphrase::Passphrase;

/// Name of the first member of the archive.
const MANIFEST: &str = "tally-backup.json";
/// Name of the last member.
const TALLY: &str = "tally-end.json";
/// Version of the archive's form.
const VERSION: u32 = 1;
/// Longest first or last member, in bytes.
const MAX_NOTE_BYTES: u64 = 64 * 1024;
/// Highest work factor of a passphrase-encrypted backup that is opened: about 16 times the usual one.
const MAX_WORK_FACTOR: u8 = 22;

/// Files at the top of a data directory that belong into a backup.
const FILES: [&str; 3] = ["tally.toml", "member-card.toml", "ledger/genesis"];
/// Folders that belong into it.
const FOLDERS: [&str; 5] = ["keys", "codes", "audiences", "matches", "scans"];
/// The blocks, which the other members have as well.
const BLOCKS: &str = "ledger/blocks";

/// Why there is no backup, or why none can be restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A file of the data directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nobody to encrypt to.
    #[error("a backup needs a recipient or a passphrase")]
    NoRecipient,
    /// Text that is no age recipient.
    #[error("{found:?} is no age recipient: {reason}")]
    Recipient {
        /// The text.
        found: String,
        /// What is wrong.
        reason: String,
    },
    /// A file that holds no age identity.
    #[error("{path} holds no age identity, expected a line AGE-SECRET-KEY-1...")]
    Identity {
        /// The file.
        path: PathBuf,
    },
    /// The encryption failed.
    #[error("the backup cannot be encrypted: {0}")]
    Encrypt(String),
    /// The key does not open it, or it was changed or cut.
    #[error("the backup cannot be opened: {0}")]
    Decrypt(String),
    /// It is no backup of a form that this version knows.
    #[error("not a backup that this version can read: {0}")]
    Form(String),
    /// A member of the archive that a backup never has.
    #[error("the archive holds {name:?}, which no backup has")]
    Member {
        /// Its name.
        name: String,
    },
    /// What is there does not add up.
    #[error("the backup is not whole: expected {expected}, found {found}")]
    NotWhole {
        /// Files and bytes by its end.
        expected: String,
        /// Files and bytes that came.
        found: String,
    },
    /// The target holds something.
    #[error("{path} is not empty")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Reading or writing the archive.
    #[error("cannot {action} the backup")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl BackupError {
    fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The archive's form.
    pub version: u32,
    /// The member's name.
    pub member: String,
    /// The network ID; empty if the node had joined none.
    pub network: String,
    /// When it was made, POSIX milliseconds.
    pub made_ms: u64,
    /// Whether the blocks are in it.
    pub blocks: bool,
}

/// How much stands in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} files of {} bytes", self.files, self.bytes)
    }
}

/// Who can open a backup.
pub enum Lock {
    /// Whoever has the secret key of one of these age recipients (`age1...`).
    Recipients(Vec<age::x25519::Recipient>),
    /// Whoever knows the passphrase.
    Passphrase(Passphrase),
}

impl Lock {
    /// Takes recipients as text.
    ///
    /// # Errors
    /// [`BackupError::Recipient`], [`BackupError::NoRecipient`].
    pub fn recipients<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, BackupError> {
        let recipients = texts
            .into_iter()
            .map(|text| {
                age::x25519::Recipient::from_str(text.trim()).map_err(|reason| {
                    BackupError::Recipient {
                        found: text.to_owned(),
                        reason: reason.to_owned(),
                    }
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() {
            return Err(BackupError::NoRecipient);
        }
        Ok(Self::Recipients(recipients))
    }
}

/// What opens a backup. Secret.
pub enum Key {
    /// An age identity.
    Identity(age::x25519::Identity),
    /// The passphrase.
    Passphrase(Passphrase),
}

impl Key {
    /// Reads the identity in the text of an age key file, whose other lines are comments.
    #[must_use]
    pub fn identity(text: &str) -> Option<Self> {
        text.lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .and_then(|line| age::x25519::Identity::from_str(line).ok())
            .map(Self::Identity)
    }
}

/// A new identity and its recipient, as the text of an age key file. Secret.
#[must_use]
pub fn new_identity() -> (zeroize::Zeroizing<String>, String) {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let text = format!(
        "# public key: {recipient}\n{}\n",
        identity.to_string().expose_secret()
    );
    (text.into(), recipient)
}

#[cfg(test)]
mod tests;
