//! `tally export`

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tally_contracts::Canonical as _;
use tally_evidence::{Roster, policy_of};
use tally_ledger::Ledger;
use tally_merkle::note::MAX_NOTE_BYTES;
use tally_merkle::{Checkpoint, Note};
use tally_node::config::DataDir;
use tally_node::files::{read_bounded, write_atomic};
use tally_node::proofs::VERIFIER_PAGE;

use super::Context;
use crate::args::ExportCommand;
use crate::exit::{Exit, Failure};

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

fn tiles(ctx: &Context, out: &Path) -> Result<()> {
    let (config, dir) = ctx.config()?;
    ctx.stopped(&dir)?;
    let refused = || Failure::new(Exit::Failed, "export", "nothing was exported");
    if std::fs::read_dir(out).is_ok_and(|mut d| d.next().is_some()) {
        let what = format!("{} is not empty", out.display());
        return Err(anyhow!(what).context(
            refused().next("name a new folder by --out: files of another tree size would mix"),
        ));
    }
    let genesis = Context::genesis(&dir)?;
    let options = config.ledger_options();
    let ledger = Ledger::open(&dir.ledger(), genesis.document(), options)
        .map_err(|e| locked(anyhow!(e), "nothing was exported"))?;
    let note = checkpoint(&dir)?;
    let size = note.text().parse::<Checkpoint>()?.size;

    let roster = Roster::of_state(ledger.state(), ledger.head().height)?;
    let policy = policy_of(&roster.network, &roster.members, &roster.validators())?;
    let verified =
        policy.verify(&note).map_err(|e| {
            anyhow!(e).context(refused().next(
                "start the node and let it reach the others: a new checkpoint replaces this one",
            ))
        })?;
    let root = ledger.root_at(size)?;
    if root != verified.checkpoint.root {
        let what = format!(
            "the checkpoint of size {size} has root {}, the ledger {root}",
            verified.checkpoint.root
        );
        return Err(anyhow!(what).context(
            Failure {
                exit: Exit::NotVerified,
                ..refused()
            }
            .next("tally reindex"),
        ));
    }
    let log = verified
        .logs
        .first()
        .context("the policy found no log key")?;

    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let tiles = ledger.export_tiles(size, out)?;
    write_atomic(&out.join("members"), &roster.to_bytes(), 0o644)?;
    let validators: String = policy.witnesses().map(|(_, k)| format!("{k}\n")).collect();
    for (name, text) in [
        ("log.vkey", format!("{log}\n")),
        ("validators.vkeys", validators),
        ("policy", policy.to_string()),
        // Last, so that a folder with a checkpoint is whole.
        ("checkpoint", note.to_string()),
    ] {
        write_atomic(&out.join(name), text.as_bytes(), 0o644)?;
    }
    let answer = json!({
        "out": out,
        "network_id": ledger.network().to_string(),
        "tree_size": size,
        "root": root.to_string(),
        "tiles": tiles,
        "cosignatures": verified.witnesses.len(),
    });
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
