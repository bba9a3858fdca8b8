//! `[workers]`

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::secrets::{check_database, read_key, read_password};
use super::{Config, ConfigError, parent};
use crate::workers::Database;

/// `[workers]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkersSection {
    /// HOST:PORT where workers connect; empty for no workers.
    pub listen: String,
    /// HOST:PORT by which workers reach that; empty for the same.
    pub address: String,
    /// The database with the queue.
    pub database: String,
    /// File with the database's password, relative to the configuration file; empty for none.
    pub database_password_file: PathBuf,
    /// File with the worker key, relative to the configuration file.
    pub key_file: PathBuf,
    /// URL of the shared store.
    pub store: String,
    /// Milliseconds without a sign of a worker after which the node works itself.
    pub patience_ms: u64,
}

impl Default for WorkersSection {
    fn default() -> Self {
        Self {
            listen: String::new(),
            address: String::new(),
            database: String::new(),
            database_password_file: PathBuf::new(),
            key_file: PathBuf::new(),
            store: String::new(),
            patience_ms: 15_000,
        }
    }
}

impl WorkersSection {
    /// Whether the node lets workers work for it.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.listen.is_empty()
    }

    /// Where workers reach the node.
    #[must_use]
    pub fn address(&self) -> &str {
        if self.address.is_empty() {
            &self.listen
        } else {
            &self.address
        }
    }

    /// Checks forms and ranges.
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        if !self.is_on() {
            return Ok(());
        }
        check_database(path, "workers.database", &self.database)?;
        let store = &self.store;
        for (key, missing, expected) in [
            (
                "workers.key_file",
                self.key_file.as_os_str().is_empty(),
                "a file with 64 hex digits, the same for the node and all its workers",
            ),
            (
                "workers.store",
                !store.starts_with("file:///") && !store.starts_with("s3://"),
                "\"file:///FOLDER\" or \"s3://BUCKET[/PREFIX]\"",
            ),
        ] {
            if missing {
                return Err(ConfigError::Value {
                    path: path.to_owned(),
                    key,
                    found: "nothing of the kind".into(),
                    expected: expected.into(),
                });
            }
        }
        Ok(())
    }
}

impl Config {
    /// The database of the workers that the configuration at `path` names, with the secrets from their files, if there are workers.
    ///
    /// # Errors
    /// [`ConfigError::File`], [`ConfigError::Value`].
    pub fn workers_database(&self, path: &Path) -> Result<Option<Database>, ConfigError> {
        let workers = &self.workers;
        if !workers.is_on() {
            return Ok(None);
        }
        let at = |file: &Path| parent(path).join(file);
        let password = &workers.database_password_file;
        Ok(Some(Database {
            url: workers.database.clone(),
            password: if password.as_os_str().is_empty() {
                None
            } else {
                Some(read_password(
                    "workers.database_password_file",
                    &at(password),
                )?)
            },
            key: read_key("workers.key_file", &at(&workers.key_file))?,
        }))
    }
}
