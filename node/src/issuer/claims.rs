//! Claim codes on their way to a printer: an age file (age-encryption.org/v1) to the printer's keys, and nothing else. They are
//! encrypted as they are made and are never in clear on disk.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::stream::StreamWriter;

use super::IssuerError;
use crate::files::FileError;

/// The most recipients of one file.
pub const MAX_RECIPIENTS: usize = 16;

/// Who can read claim codes: 1 to 16 age recipients (`age1...`, X25519). Public keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipients(Vec<String>);

/// Text that is no list of recipients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientError {
    /// Not an age recipient.
    #[error("recipient {number} is no age recipient (age1...): {reason}")]
    Form {
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// None, or too many.
    #[error("{found} recipients, expected 1 to {MAX_RECIPIENTS}")]
    Count {
        /// How many.
        found: usize,
    },
}

impl Recipients {
    /// Reads recipients; two lists of the same ones are equal whatever their order.
    ///
    /// # Errors
    /// [`RecipientError`].
    pub fn new<T: AsRef<str>>(texts: &[T]) -> Result<Self, RecipientError> {
        let mut out = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let text = text.as_ref();
            // An identity given by mistake is a secret: it stands in no message.
            let recipient =
                age::x25519::Recipient::from_str(text).map_err(|reason| RecipientError::Form {
                    number: i + 1,
                    reason,
                })?;
            out.push(recipient.to_string());
        }
        out.sort_unstable();
        out.dedup();
        if !(1..=MAX_RECIPIENTS).contains(&out.len()) {
            return Err(RecipientError::Count { found: out.len() });
        }
        Ok(Self(out))
    }

    /// Their texts, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    fn encryptor(&self) -> Result<age::Encryptor, String> {
        let keys = self
            .0
            .iter()
            .map(|text| age::x25519::Recipient::from_str(text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(str::to_owned)?;
        age::Encryptor::with_recipients(keys.iter().map(|k| k as &dyn age::Recipient))
            .map_err(|e| e.to_string())
    }
}

impl fmt::Display for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Where claim codes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimsOrder {
    /// The age file.
    pub out: PathBuf,
    /// Who can read it.
    pub to: Recipients,
}

/// An age file in the making.
pub(super) struct ClaimsFile(StreamWriter<BufWriter<File>>);

impl ClaimsFile {
    /// Begins the file anew. It cannot be gone on with: its key is in no other place than its head, encrypted.
    pub(super) fn create(path: &Path, to: &Recipients) -> Result<Self, IssuerError> {
        let failed = |error| IssuerError::PrinterFile(FileError::new("create", path)(error));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let encryptor = to
            .encryptor()
            .map_err(|what| failed(io::Error::other(what)))?;
        let out = BufWriter::with_capacity(1 << 18, file);
        Ok(Self(encryptor.wrap_output(out).map_err(failed)?))
    }

    pub(super) fn write(&mut self, rows: &[u8]) -> io::Result<()> {
        self.0.write_all(rows)
    }

    /// Ends the file; it is on disk when this returns. Without this it does not decrypt.
    pub(super) fn finish(self) -> io::Result<()> {
        let out = self.0.finish()?;
        out.into_inner()?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn recipients_are_read_and_identities_are_not_repeated() {
        let [a, b] = [(); 2].map(|()| age::x25519::Identity::generate());
        let [x, y] = [&a, &b].map(|i| i.to_public().to_string());
        let both = Recipients::new(&[&x, &y]).unwrap();
        assert_eq!(both, Recipients::new(&[&y, &x, &y]).unwrap());
        assert_eq!(both.as_slice().len(), 2);
        assert_eq!(
            Recipients::new::<String>(&[]),
            Err(RecipientError::Count { found: 0 })
        );
        let secret = a.to_string();
        let error = Recipients::new(&[x.as_str(), secret.expose_secret()]).unwrap_err();
        assert!(matches!(error, RecipientError::Form { number: 2, .. }));
        assert!(!error.to_string().contains("SECRET"), "{error}");
        let many: Vec<String> = (0..17)
            .map(|_| age::x25519::Identity::generate().to_public().to_string())
            .collect();
        assert_eq!(
            Recipients::new(&many),
            Err(RecipientError::Count { found: 17 })
        );
    }
}
