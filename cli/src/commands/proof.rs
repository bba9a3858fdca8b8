//! `tally proof` and `tally ledger proof`

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tally_node::files::write_atomic;

use super::{Context, text_at};
use crate::args::{ProofArgs, ProofCommand, ProofFiles, ProofFrom, StateCommand};

/// Proves a code of this member, a scan, a match, or what the state says.
pub(super) fn run(ctx: &Context, args: &ProofArgs) -> Result<()> {
    match &args.of {
        None => code(ctx, args),
        Some(ProofCommand::Scan { scan, files }) => {
            ask(ctx, "scan_proof", &json!({"scan": scan}), files)
        }
        Some(ProofCommand::Match { id, files }) => {
            ask(ctx, "match_proof", &json!({"id": id}), files)
        }
        Some(ProofCommand::State { of }) => {
            let (args, files) = match of {
                StateCommand::Batch { id, files } => (json!({"of": "batch", "id": id}), files),
                StateCommand::Member { id, files } => (json!({"of": "member", "id": id}), files),
                StateCommand::Agreement { id, files } => {
                    (json!({"of": "agreement", "id": id}), files)
                }
                StateCommand::Budget {
                    agreement,
                    owner,
                    analyst,
                    epoch,
                    files,
                } => (
                    json!({
                        "of": "budget",
                        "agreement": agreement,
                        "owner": owner,
                        "analyst": analyst,
                        "epoch": epoch,
                    }),
                    files,
                ),
            };
            ask(ctx, "state_proof", &args, files)
        }
    }
}

fn code(ctx: &Context, args: &ProofArgs) -> Result<()> {
    // The command line has asked for both.
    let (Some(code), Some(out)) = (&args.code, &args.out) else {
        anyhow::bail!("expected a code and --out");
    };
    let files = ProofFiles {
        out: out.clone(),
        policy_out: args.policy_out.clone(),
        from: args.from,
    };
    let answer = ctx.ask("proof", &json!({"code": code.to_string()}))?;
    let answer = write(lead(ctx, answer, &files)?, &files)?;
    let status = text_at(&answer, "status").to_owned();
    let next = next(&answer, &files);
    let next = match status.as_str() {
        "active" => next,
        status => format!(
            "the batch is {status}, and that is what this proves: `tally audit verify` refuses it\n      {next}"
        ),
    };
    ctx.show(&answer, Some(&next));
    Ok(())
}

/// Proves a record.
pub(super) fn record(ctx: &Context, record: &str, files: &ProofFiles) -> Result<()> {
    ask(ctx, "record_proof", &json!({"record": record}), files)
}

fn ask(ctx: &Context, op: &str, args: &Value, files: &ProofFiles) -> Result<()> {
    let answer = write(lead(ctx, ctx.ask(op, args)?, files)?, files)?;
    let next = next(&answer, files);
    ctx.show(&answer, Some(&next));
    Ok(())
}

fn next(answer: &Value, files: &ProofFiles) -> String {
    let policy = files
        .policy_out
        .as_deref()
        .unwrap_or_else(|| Path::new("POLICY"));
    format!(
        "the auditor runs, on any machine: tally audit verify --network {} --policy {} --proof {}",
        text_at(answer, "network_id"),
        policy.display(),
        files.out.display()
    )
}

/// The answer with a proof that begins where it was asked to.
fn lead(ctx: &Context, mut answer: Value, files: &ProofFiles) -> Result<Value> {
    if files.from == Some(ProofFrom::Genesis) {
        let led = ctx.ask("proof_from_genesis", &json!({"proof": answer["proof"]}))?;
        answer["proof"] = led["proof"].clone();
        answer["policy"] = led["policy"].clone();
    }
    Ok(answer)
}

/// Writes the texts to their files, and puts the files' names in their place.
fn write(mut answer: Value, files: &ProofFiles) -> Result<Value> {
    let Some(fields) = answer.as_object_mut() else {
        anyhow::bail!("the node's answer is no object");
    };
    // It is in the proof; `tally audit verify --entry-out` takes it out again.
    fields.remove("entry");
    let mut put = |field: &str, file: Option<&Path>| -> Result<()> {
        let text = fields.remove(field);
        let text = text.as_ref().and_then(Value::as_str);
        let text = text.with_context(|| format!("the node's answer has no {field}"))?;
        if let Some(file) = file {
            write_atomic(file, text.as_bytes(), 0o644)
                .with_context(|| format!("{} was not written", file.display()))?;
            fields.insert(format!("{field}_file"), json!(file));
        }
        Ok(())
    };
    put("proof", Some(&files.out))?;
    put("policy", files.policy_out.as_deref())?;
    Ok(answer)
}
