//! Where the passphrase of the key files comes from: a file, a systemd credential, or a person at a terminal.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret as _, SecretString};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::files::{FileError, read_bounded};

/// The environment variable that names a file with the passphrase.
pub const PASSPHRASE_FILE_VARIABLE: &str = "TALLY_PASSPHRASE_FILE";
/// The name of the systemd credential with the passphrase (`LoadCredential=tally-passphrase:/path`).
pub const PASSPHRASE_CREDENTIAL: &str = "tally-passphrase";
/// The shortest passphrase for new keys, in characters.
pub const MIN_PASSPHRASE_CHARS: usize = 8;
const MAX_PASSPHRASE_BYTES: usize = 4_096;

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// A passphrase file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A passphrase that is empty, or not text.
    #[error("the passphrase from {source_name} is empty or not UTF-8 text")]
    Empty {
        /// Where it came from.
        source_name: String,
    },
    /// A passphrase for new keys that is too short.
    #[error("the passphrase has {found} characters, expected at least {min}")]
    Short {
        /// Its length.
        found: usize,
        /// The shortest allowed.
        min: usize,
    },
    /// The second entry is not the first.
    #[error("the two passphrases differ")]
    Differ,
    /// No file is named anywhere, and there is no terminal to ask at.
    #[error(
        "no passphrase: name a file by --passphrase-file, node.passphrase_file, ${PASSPHRASE_FILE_VARIABLE} or the systemd \
         credential {PASSPHRASE_CREDENTIAL}; there is no terminal to ask at"
    )]
    NoSource,
    /// The terminal failed.
    #[error("cannot ask at the terminal")]
    Terminal(#[source] io::Error),
}

/// The passphrase of the key files. Secret: no text form, wiped when dropped.
#[derive(Clone)]
pub struct Passphrase(SecretString);

impl Passphrase {
    /// Takes over a passphrase; `None` if it is empty.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        let text = Zeroizing::new(text);
        (!text.is_empty()).then(|| Self(SecretString::from(text.as_str().to_owned())))
    }

    pub(crate) fn secret(&self) -> SecretString {
        self.0.clone()
    }

    /// Checks that it is long enough for new keys.
    ///
    /// # Errors
    /// [`PassphraseError::Short`].
    pub fn check_new(&self) -> Result<(), PassphraseError> {
        let found = self.0.expose_secret().chars().count();
        if found < MIN_PASSPHRASE_CHARS {
            Err(PassphraseError::Short {
                found,
                min: MIN_PASSPHRASE_CHARS,
            })
        } else {
            Ok(())
        }
    }

    /// The first line of a file, without its line end.
    ///
    /// # Errors
    /// [`PassphraseError::File`], [`PassphraseError::Empty`].
    pub fn from_file(path: &Path) -> Result<Self, PassphraseError> {
        let bytes = Zeroizing::new(read_bounded(path, MAX_PASSPHRASE_BYTES)?);
        if let Ok(meta) = path.metadata()
            && meta.permissions().mode() & 0o077 != 0
        {
            tracing::warn!(path = %path.display(), "other users may read the passphrase file; chmod 600 it");
        }
        let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        std::str::from_utf8(line)
            .ok()
            .and_then(|text| Self::new(text.to_owned()))
            .ok_or_else(|| PassphraseError::Empty {
                source_name: path.display().to_string(),
            })
    }
}

/// Whether a passphrase opens keys that exist, or will protect new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Existing keys: asked for once.
    Open,
    /// New keys: asked for twice at a terminal, and long enough.
    Create,
}

/// Finds the passphrase: `flag`, then `config`, then the systemd credential, then `$TALLY_PASSPHRASE_FILE`, then the terminal.
///
/// # Errors
/// [`PassphraseError`]; a file that is named and cannot be read is an error, never skipped.
pub fn find_passphrase(
    flag: Option<&Path>,
    config: Option<&Path>,
    purpose: Purpose,
) -> Result<Passphrase, PassphraseError> {
    let named = flag
        .or(config)
        .map(Path::to_path_buf)
        .or_else(credential)
        .or_else(|| env::var_os(PASSPHRASE_FILE_VARIABLE).map(PathBuf::from));
    let found = match named {
        Some(path) => Passphrase::from_file(&path)?,
        None => ask(purpose)?,
    };
    if purpose == Purpose::Create {
        found.check_new()?;
    }
    Ok(found)
}

fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("CREDENTIALS_DIRECTORY")?).join(PASSPHRASE_CREDENTIAL);
    path.exists().then_some(path)
}

fn ask(purpose: Purpose) -> Result<Passphrase, PassphraseError> {
    let tty = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| PassphraseError::NoSource)?;
    let first = ask_once(&tty, "Passphrase of the node's keys: ")?;
    if purpose == Purpose::Create {
        let second = ask_once(&tty, "The same again: ")?;
        if first != second {
            return Err(PassphraseError::Differ);
        }
    }
    Passphrase::new(first.to_string()).ok_or_else(|| PassphraseError::Empty {
        source_name: "the terminal".into(),
    })
}

/// Turns the echo on again, whatever happens.
struct EchoOff<'a>(&'a File, Termios);

impl Drop for EchoOff<'_> {
    fn drop(&mut self) {
        // Nothing better can be done if the terminal is gone.
        let _ = tcsetattr(self.0, OptionalActions::Flush, &self.1);
    }
}

fn ask_once(tty: &File, prompt: &str) -> Result<Zeroizing<String>, PassphraseError> {
    let failed = |e: rustix::io::Errno| PassphraseError::Terminal(e.into());
    let before = tcgetattr(tty).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let guard = EchoOff(tty, before);
    tcsetattr(tty, OptionalActions::Flush, &silent).map_err(failed)?;
    let mut out = tty;
    let mut line = Zeroizing::new(String::new());
    let read = write!(out, "{prompt}")
        .and_then(|()| BufReader::new(tty).read_line(&mut line))
        .and_then(|_| writeln!(out));
    drop(guard);
    read.map_err(PassphraseError::Terminal)?;
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        for (bytes, expected) in [
            (&b"correct horse\n"[..], Some("correct horse")),
            (b"correct horse\r\nmore", Some("correct horse")),
            (b" spaces count ", Some(" spaces count ")),
            (b"", None),
            (b"\nsecond", None),
            (b"\xFF\xFE", None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let found = Passphrase::from_file(&path).ok();
            let found = found.as_ref().map(|p| p.0.expose_secret());
            assert_eq!(found, expected);
        }
        std::fs::write(&path, vec![b'a'; MAX_PASSPHRASE_BYTES + 1]).unwrap();
        assert!(matches!(
            Passphrase::from_file(&path),
            Err(PassphraseError::File(_))
        ));
    }

    #[test]
    fn a_named_file_is_never_skipped_and_new_ones_are_long() {
        let dir = tempfile::tempdir().unwrap();
        let (here, gone) = (dir.path().join("here"), dir.path().join("gone"));
        std::fs::write(&here, "short").unwrap();
        assert!(find_passphrase(Some(&here), Some(&gone), Purpose::Open).is_ok());
        assert!(matches!(
            find_passphrase(Some(&gone), Some(&here), Purpose::Open),
            Err(PassphraseError::File(_))
        ));
        assert!(matches!(
            find_passphrase(None, Some(&here), Purpose::Create),
            Err(PassphraseError::Short { found: 5, min: 8 })
        ));
    }
}
