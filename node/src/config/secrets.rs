//! Secrets in files of their own: a password or a key in the first line.

use std::path::Path;

use zeroize::Zeroizing;

use super::{ConfigError, read_bounded};
use crate::sealed::StorageKey;

const MAX_SECRET_FILE_BYTES: usize = 4096;

fn first_line(file: &Path) -> Result<Option<Zeroizing<String>>, ConfigError> {
    let bytes = Zeroizing::new(read_bounded(file, MAX_SECRET_FILE_BYTES)?);
    let line = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|t| t.lines().next());
    Ok(line.map(|l| Zeroizing::new(l.trim().to_owned())))
}

fn bad(key: &'static str, file: &Path, expected: &str) -> ConfigError {
    ConfigError::Value {
        path: file.to_owned(),
        key,
        found: file.display().to_string(),
        expected: expected.to_owned(),
    }
}

/// The key in a file that `key` names: 64 hex digits.
///
/// # Errors
/// [`ConfigError::File`], [`ConfigError::Value`].
pub fn read_key(key: &'static str, file: &Path) -> Result<StorageKey, ConfigError> {
    let mut bytes = Zeroizing::new([0; 32]);
    first_line(file)?
        .and_then(|line| hex::decode_to_slice(line.as_str(), bytes.as_mut()).ok())
        .ok_or_else(|| bad(key, file, "a file whose first line is 64 hex digits"))?;
    Ok(StorageKey::from_bytes(*bytes))
}

/// The password in a file that `key` names.
///
/// # Errors
/// [`ConfigError::File`], [`ConfigError::Value`].
pub fn read_password(key: &'static str, file: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let line = first_line(file)?.filter(|l| !l.is_empty());
    line.ok_or_else(|| bad(key, file, "a file whose first line is the password"))
}

/// Refuses what is no URL of PostgreSQL, and one with a password in it.
pub(super) fn check_database(path: &Path, key: &'static str, url: &str) -> Result<(), ConfigError> {
    let bad = |found: &str, expected: &str| ConfigError::Value {
        path: path.to_owned(),
        key,
        // The value would stand in logs: it is not repeated.
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .ok_or_else(|| bad("something else", "\"postgres://USER@HOST[:PORT]/DATABASE\""))?;
    let user = rest.split_once('@').map_or("", |(user, _)| user);
    if user.contains(':') || rest.contains("password=") {
        return Err(bad(
            "a URL with a password in it",
            "the password in a file of its own",
        ));
    }
    Ok(())
}
