//! The ledger as files: tiles, entry bundles and the newest checkpoint with a quorum, with the keys that verify it, in the layout of C2SP
//! tlog-tiles. The node writes them while it runs, the command when it does not.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tally_contracts::{Canonical as _, ids::NetworkId};
use tally_evidence::{Roster, policy_of};
use tally_ledger::Ledger;
use tally_merkle::{Checkpoint, Hash, Note};

use crate::files::{FileError, write_atomic};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The network.
    pub network: NetworkId,
    /// Entries under the checkpoint.
    pub tree_size: u64,
    /// Their root.
    pub root: Hash,
    /// Files of tiles and entry bundles.
    pub tiles: u64,
    /// Validators that cosigned the checkpoint.
    pub cosignatures: usize,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Files of another tree size would mix with these.
    #[error("{path} is not empty")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The checkpoint has no quorum of the validators of now.
    #[error("the checkpoint of {size} entries is not the validators'")]
    Checkpoint {
        /// Its size.
        size: u64,
        /// Why.
        #[source]
        source: tally_merkle::Error,
    },
    /// The ledger is not what the checkpoint says.
    #[error("the checkpoint of {size} entries has root {expected}, the ledger {found}")]
    Root {
        /// The checkpoint's size.
        size: u64,
        /// Its root.
        expected: Hash,
        /// That of the ledger.
        found: Hash,
    },
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] tally_ledger::Error),
    /// Members and validators cannot be read from the state.
    #[error(transparent)]
    State(#[from] tally_contracts::StateError),
    /// They give no policy.
    #[error(transparent)]
    Policy(#[from] tally_evidence::Error),
    /// The checkpoint is not in its form.
    #[error(transparent)]
    Note(#[from] tally_merkle::Error),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Exported {
    /// For programs; `out` is the folder.
    #[must_use]
    pub fn to_json(&self, out: &Path) -> Value {
        json!({
            "out": out,
            "network_id": self.network.to_string(),
            "tree_size": self.tree_size,
            "root": self.root.to_string(),
            "tiles": self.tiles,
            "cosignatures": self.cosignatures,
        })
    }
}

impl ExportError {
    /// What an operator may try.
    #[must_use]
    pub const fn next(&self) -> &'static str {
        match self {
            Self::NotEmpty { .. } => {
                "name a new folder by --out: files of another tree size would mix"
            }
            Self::Checkpoint { .. } => {
                "let the node run and reach the others: a new checkpoint replaces this one"
            }
            Self::Root { .. } => "stop the node, then `tally reindex`",
            _ => "",
        }
    }
}

/// Writes all tiles under `checkpoint` into the folder `out`, which is new or empty; then `log.vkey`, `validators.vkeys`, `policy` and `members`,
/// and the checkpoint last, so that a folder with one is whole.
///
/// # Errors
/// [`ExportError`]. Nothing is written before the checkpoint was verified.
pub fn export_tiles(
    ledger: &Ledger,
    checkpoint: &Note,
    out: &Path,
) -> Result<Exported, ExportError> {
    if fs::read_dir(out).is_ok_and(|mut files| files.next().is_some()) {
        return Err(ExportError::NotEmpty {
            path: out.to_owned(),
        });
    }
    let size = checkpoint.text().parse::<Checkpoint>()?.size;
    let roster = Roster::of_state(ledger.state(), ledger.head().height)?;
    let policy = policy_of(&roster.network, &roster.members, &roster.validators())?;
    let verified = policy
        .verify(checkpoint)
        .map_err(|source| ExportError::Checkpoint { size, source })?;
    let found = ledger.root_at(size)?;
    if found != verified.checkpoint.root {
        return Err(ExportError::Root {
            size,
            expected: verified.checkpoint.root,
            found,
        });
    }
    fs::create_dir_all(out).map_err(FileError::new("create", out))?;
    let tiles = ledger.export_tiles(size, out)?;
    write_atomic(&out.join("members"), &roster.to_bytes(), 0o644)?;
    let keys = |keys: &mut dyn Iterator<Item = String>| keys.map(|key| key + "\n").collect();
    let log: String = keys(&mut verified.logs.iter().take(1).map(ToString::to_string));
    let validators: String = keys(&mut policy.witnesses().map(|(_, key)| key.to_string()));
    for (name, text) in [
        ("log.vkey", log),
        ("validators.vkeys", validators),
        ("policy", policy.to_string()),
        ("checkpoint", checkpoint.to_string()),
    ] {
        write_atomic(&out.join(name), text.as_bytes(), 0o644)?;
    }
    Ok(Exported {
        network: ledger.network(),
        tree_size: size,
        root: found,
        tiles,
        cosignatures: verified.witnesses.len(),
    })
}
