//! `[scans]`

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tally_trace::score::DEFAULT_THRESHOLD_MNAT;

use super::secrets::{check_database, read_key, read_password};
use super::{Config, ConfigError, parent};
use crate::scans::{MAX_CELL, SharedIndex};

/// The index that needs no other program.
const EMBEDDED: &str = "embedded";

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
        check_database(path, "scans.index", &self.index)?;
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
        let at = |file: &Path| parent(path).join(file);
        let password = &scans.index_password_file;
        Ok(Some(SharedIndex {
            url: scans.index.clone(),
            password: if password.as_os_str().is_empty() {
                None
            } else {
                Some(read_password("scans.index_password_file", &at(password))?)
            },
            key: read_key("scans.index_key_file", &at(&scans.index_key_file))?,
        }))
    }
}
