//! `[scans]`

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tally_trace::score::DEFAULT_THRESHOLD_MNAT;
use zeroize::Zeroizing;

use super::{Config, ConfigError, parent, read_bounded};
use crate::scans::{MAX_CELL, SharedIndex};
use crate::sealed::StorageKey;

/// The index that needs no other program.
const EMBEDDED: &str = "embedded";
const MAX_SECRET_FILE_BYTES: usize = 4096;

/// `[scans]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScansSection {
    /// Scans after which the scan log is anchored.
    pub anchor_every: u64,
    /// Milliseconds after which it is anchored if there are new scans.
    pub anchor_interval_ms: u64,
    /// Characters of a place's cell that are kept.
    pub cell_length: u8,
    /// Score from which a code is suspect, milli-nats.
    pub suspect_score: u32,
    /// Days after which scans are deleted; 0 for never.
    pub retention_days: u64,
    /// Which of the member's scan logs this node keeps.
    pub log_id: u16,
    /// Where the verdict index is: `embedded`, or the URL of a PostgreSQL database.
    pub index: String,
    /// File with the database's password, relative to the configuration file; empty for none.
    pub index_password_file: PathBuf,
    /// File with the key of the shared index, relative to the configuration file.
    pub index_key_file: PathBuf,
}

impl Default for ScansSection {
    fn default() -> Self {
        Self {
            anchor_every: 1_000,
            anchor_interval_ms: 2_000,
            cell_length: 5,
            suspect_score: DEFAULT_THRESHOLD_MNAT,
            retention_days: 0,
            log_id: 0,
            index: EMBEDDED.into(),
            index_password_file: PathBuf::new(),
            index_key_file: PathBuf::new(),
        }
    }
}

impl ScansSection {
    /// Whether several gateways share the index.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.index != EMBEDDED
    }

    /// Checks forms and ranges.
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let bad = |key, found: String, expected: &str| ConfigError::Value {
            path: path.to_owned(),
            key,
            found,
            expected: expected.to_owned(),
        };
        if usize::from(self.cell_length) > MAX_CELL {
            return Err(bad(
                "scans.cell_length",
                self.cell_length.to_string(),
                "0 to 6",
            ));
        }
        if !(1_000..=1_000_000).contains(&self.suspect_score) {
            return Err(bad(
                "scans.suspect_score",
                self.suspect_score.to_string(),
                "1000 to 1000000",
            ));
        }
        if self.retention_days > 36_500 {
            return Err(bad(
                "scans.retention_days",
                self.retention_days.to_string(),
                "0 to 36500",
            ));
        }
        if !self.is_shared() {
            return Ok(());
        }
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| self.index.strip_prefix(scheme));
        let Some(rest) = rest else {
            return Err(bad(
                "scans.index",
                "something else".into(),
                "\"embedded\" or \"postgres://USER@HOST[:PORT]/DATABASE\"",
            ));
        };
        let user = rest.split_once('@').map_or("", |(user, _)| user);
        if user.contains(':') || rest.contains("password=") {
            // The value would stand in logs: it is not repeated.
            return Err(bad(
                "scans.index",
                "a URL with a password in it".into(),
                "the password in the file that scans.index_password_file names",
            ));
        }
        if self.index_key_file.as_os_str().is_empty() {
            return Err(bad(
                "scans.index_key_file",
                "nothing".into(),
                "a file with 64 hex digits, the same for every gateway of the member",
            ));
        }
        Ok(())
    }
}

impl Config {
    /// The shared index that the configuration at `path` names, if it does, with the secrets from their files.
    ///
    /// # Errors
    /// [`ConfigError::File`]; [`ConfigError::Value`] if the key is not 64 hex digits or the password no text.
    pub fn shared_index(&self, path: &Path) -> Result<Option<SharedIndex>, ConfigError> {
        let scans = &self.scans;
        if !scans.is_shared() {
            return Ok(None);
        }
        let first_line = |file: &Path| {
            let bytes = read_bounded(&parent(path).join(file), MAX_SECRET_FILE_BYTES)?;
            let bytes = Zeroizing::new(bytes);
            let line = std::str::from_utf8(&bytes)
                .ok()
                .and_then(|t| t.lines().next());
            Ok::<_, ConfigError>(line.map(|l| Zeroizing::new(l.trim().to_owned())))
        };
        let bad = |key, file: &Path, expected: &str| ConfigError::Value {
            path: path.to_owned(),
            key,
            found: file.display().to_string(),
            expected: expected.to_owned(),
        };
        let mut key = Zeroizing::new([0; 32]);
        first_line(&scans.index_key_file)?
            .and_then(|line| hex::decode_to_slice(line.as_str(), key.as_mut()).ok())
            .ok_or_else(|| {
                bad(
                    "scans.index_key_file",
                    &scans.index_key_file,
                    "a file whose first line is 64 hex digits",
                )
            })?;
        let password = if scans.index_password_file.as_os_str().is_empty() {
            None
        } else {
            let line = first_line(&scans.index_password_file)?;
            Some(line.filter(|l| !l.is_empty()).ok_or_else(|| {
                bad(
                    "scans.index_password_file",
                    &scans.index_password_file,
                    "a file whose first line is the password",
                )
            })?)
        };
        Ok(Some(SharedIndex {
            url: scans.index.clone(),
            password,
            key: StorageKey::from_bytes(*key),
        }))
    }
}
