//! `tally export`

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tally_ledger::Ledger;
use tally_merkle::Note;
use tally_merkle::note::MAX_NOTE_BYTES;
use tally_node::config::DataDir;
use tally_node::files::{read_bounded, write_atomic};
use tally_node::proofs::VERIFIER_PAGE;
use tally_node::tile_export::{ExportError, export_tiles};

use super::{Context, absolute};
use crate::admin_client::is_running;
use crate::args::ExportCommand;
use crate::exit::{Exit, Failure};

/// The longest wait for the node, in seconds: a large ledger is many files.
const TIMEOUT_S: u64 = 3_600;

pub(super) fn run(ctx: &Context, command: &ExportCommand) -> Result<()> {
    match command {
        ExportCommand::Tiles { out } => tiles(ctx, out),
        ExportCommand::Verifier { out } => verifier(ctx, out),
    }
}

/// Writes the page that verifies proofs in a browser.
fn verifier(ctx: &Context, out: &Path) -> Result<()> {
    write_atomic(out, VERIFIER_PAGE.as_bytes(), 0o644)?;
    let answer = json!({
        "file": out,
        "bytes": VERIFIER_PAGE.len(),
        "sha256": hex::encode(Sha256::digest(VERIFIER_PAGE)),
    });
    ctx.show(
        &answer,
        Some("open it in a browser; it needs no server and no network"),
    );
    Ok(())
}

/// The running node writes them itself; of a stopped one this process opens the ledger.
fn tiles(ctx: &Context, out: &Path) -> Result<()> {
    let (config, dir) = ctx.config()?;
    let answer = if is_running(dir.root()) {
        ctx.ask_within("tiles_export", &json!({"out": absolute(out)?}), TIMEOUT_S)?
    } else {
        let genesis = Context::genesis(&dir)?;
        let options = config.ledger_options();
        let ledger = Ledger::open(&dir.ledger(), genesis.document(), options)
            .map_err(|e| locked(anyhow!(e), "nothing was exported"))?;
        let exported = export_tiles(&ledger, &checkpoint(&dir)?, out).map_err(|e| {
            let exit = if matches!(e, ExportError::Root { .. }) {
                Exit::NotVerified
            } else {
                Exit::Failed
            };
            let failure = Failure::new(exit, "export", "nothing was exported");
            let next = e.next();
            anyhow!(e).context(if next.is_empty() {
                failure
            } else {
                failure.next(next)
            })
        })?;
        exported.to_json(out)
    };
    ctx.show(
        &answer,
        Some("serve the folder by any file server, or hand it to an auditor"),
    );
    Ok(())
}

/// The newest checkpoint with a quorum that the node kept.
fn checkpoint(dir: &DataDir) -> Result<Note> {
    let path = dir.ledger().join("checkpoint");
    let none = || {
        Failure::new(Exit::Failed, "checkpoint", "there is no checkpoint with a quorum of cosignatures yet")
            .next("start the node and let the network make a block; `tally status` says when there is one")
    };
    let bytes = read_bounded(&path, MAX_NOTE_BYTES).map_err(|e| anyhow!(e).context(none()))?;
    let text = String::from_utf8(bytes).context("the checkpoint is not UTF-8 text")?;
    Note::parse(&text).context("the checkpoint file is damaged")
}

/// Says what to do about a ledger that another process holds.
pub(super) fn locked(error: anyhow::Error, what: &str) -> anyhow::Error {
    let held = error.chain().any(|e| e.to_string().contains("lock"));
    let failure = Failure::new(Exit::Failed, "ledger", what);
    error.context(if held {
        failure.next(
            "another process holds the ledger: stop the node first, run this again, then start it",
        )
    } else {
        failure
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_is_held_is_told_from_a_broken_one() {
        let tmp = tempfile::tempdir().unwrap();
        let held = second_opening(tmp.path());
        let failure = |e: &anyhow::Error| e.downcast_ref::<Failure>().and_then(|f| f.next.clone());
        assert!(failure(&locked(held, "no")).is_some_and(|n| n.contains("stop the node")));
        assert!(failure(&locked(anyhow!("damaged"), "no")).is_none());
    }

    /// The error of a second opening of one ledger.
    fn second_opening(dir: &Path) -> anyhow::Error {
        let genesis = crate::commands::tests::genesis();
        let first = Ledger::open(dir, &genesis, tally_ledger::Options::default()).unwrap();
        let second = Ledger::open(dir, &genesis, tally_ledger::Options::default())
            .err()
            .unwrap();
        drop(first);
        anyhow!(second)
    }
}
