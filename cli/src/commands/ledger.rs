//! `tally ledger`

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tally_node::files::read_bounded;

use super::{Context, proof};
use crate::args::LedgerCommand;
use crate::output;

/// No entry of the ledger is longer.
const MAX_RECORD_BYTES: usize = 65_535;
/// The longest wait for a drop, in seconds: every block that goes is read once more.
const PRUNE_TIMEOUT_S: u64 = 3_600;

/// What people are shown of an entry, in this order; the bytes are for programs.
const SHOWN: [&str; 13] = [
    "type",
    "record",
    "kind",
    "says",
    "body",
    "signers",
    "network_id",
    "height",
    "time",
    "records",
    "state_root",
    "index",
    "valid_until",
];

pub(super) fn run(ctx: &Context, command: &LedgerCommand) -> Result<()> {
    let answer = match command {
        LedgerCommand::Show { record } => {
            let mut answer = ctx.ask("record_show", &json!({"record": record}))?;
            if !ctx.common.json {
                output::tell_moment(&mut answer, "valid_until_ms");
                output::tell_moment(&mut answer, "time_ms");
            }
            ctx.show_keys(&answer, &SHOWN, None);
            return Ok(());
        }
        LedgerCommand::Head { at_height } => {
            let args = at_height.map_or_else(|| json!({}), |h| json!({"at_height": h}));
            ctx.ask("head", &args)?
        }
        LedgerCommand::Checkpoint => {
            let answer = ctx.ask("checkpoint", &json!({}))?;
            // A note is for verifiers: as it is, byte for byte.
            let note = answer
                .as_str()
                .or_else(|| answer.get("note").and_then(Value::as_str));
            if let (false, Some(note)) = (ctx.common.json, note) {
                output::text(note);
                return Ok(());
            }
            answer
        }
        LedgerCommand::Prune {
            retain_days,
            retain_entries,
        } => {
            let args = json!({"retain_days": retain_days, "retain_entries": retain_entries});
            ctx.ask_within("ledger_prune", &args, PRUNE_TIMEOUT_S)?
        }
        LedgerCommand::Proof { record, files } => return proof::record(ctx, record, files),
        LedgerCommand::Submit { file } => {
            let bytes = read_bounded(file, MAX_RECORD_BYTES).context("no record was submitted")?;
            ctx.ask("submit", &json!({"record_hex": hex::encode(bytes)}))?
        }
    };
    ctx.show(&answer, None);
    Ok(())
}
