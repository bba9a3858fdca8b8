//! `tally change`

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tally_node::card::MAX_CARD_BYTES;
use tally_node::files::read_bounded;

use super::{Context, text_at};
use crate::args::{ChangeCommand, OneNode, ProposeCommand, Proposing};

/// The order in which a proposal is read.
const SHOWN: [&str; 12] = [
    "change",
    "status",
    "what",
    "why",
    "proposed_by",
    "approved_by",
    "against",
    "votes_missing",
    "waits_for",
    "voting_ends",
    "delay_blocks",
    "in_force_from_height",
];

pub(super) fn run(ctx: &Context, command: &ChangeCommand) -> Result<()> {
    match command {
        ChangeCommand::Propose(what) => {
            let (what, proposing) = request(what)?;
            let request = json!({
                "what": what,
                "why": proposing.why,
                "delay_blocks": proposing.delay_blocks,
                "voting_hours": proposing.voting_hours,
                "force": proposing.force,
            });
            answer(ctx, &ctx.ask("change_propose", &request)?);
        }
        ChangeCommand::Vote {
            change,
            against,
            force,
        } => {
            let request = json!({"change": change, "approve": !against, "force": force});
            answer(ctx, &ctx.ask("change_vote", &request)?);
        }
        ChangeCommand::List => ctx.list(
            &ctx.ask("changes", &json!({}))?,
            "no proposals yet: `tally change propose --help` tells how",
        ),
        ChangeCommand::Show { change } => {
            answer(ctx, &ctx.ask("change_show", &json!({"change": change}))?);
        }
    }
    Ok(())
}

/// Shows a proposal with the step that it waits for.
fn answer(ctx: &Context, change: &Value) {
    let id = text_at(change, "change");
    let waits: Vec<&str> = change["waits_for"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let next = match text_at(change, "status") {
        "open" => Some(format!(
            "{} more of {} run: tally change vote {id}",
            change["votes_missing"],
            waits.join(", ")
        )),
        "passed" => Some(format!(
            "nothing; it is in force from height {} on",
            change["in_force_from_height"]
        )),
        _ => None,
    };
    ctx.show_keys(change, &SHOWN, next.as_deref());
}

fn card(path: &Path) -> Result<String> {
    let read = || {
        let bytes = read_bounded(path, MAX_CARD_BYTES)?;
        String::from_utf8(bytes).map_err(|_| anyhow!("{} is not UTF-8 text", path.display()))
    };
    read().with_context(|| format!("{} is no member card", path.display()))
}

fn of_node(change: &str, node: &OneNode) -> Value {
    json!({"change": change, "member": node.member, "node": node.node})
}

/// A request's fields together.
fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

/// What the node is asked for.
fn request(command: &ProposeCommand) -> Result<(Value, &Proposing)> {
    Ok(match command {
        ProposeCommand::Admit {
            card: file,
            proposing,
        } => (json!({"change": "admit", "card": card(file)?}), proposing),
        ProposeCommand::Remove { member, proposing } => {
            (json!({"change": "remove", "member": member}), proposing)
        }
        ProposeCommand::Power {
            power,
            node,
            proposing,
        } => (
            with(of_node("power", node), json!({"power": power})),
            proposing,
        ),
        ProposeCommand::AddNode {
            card: file,
            proposing,
        } => (
            json!({"change": "add-node", "card": card(file)?}),
            proposing,
        ),
        ProposeCommand::RemoveNode { node, proposing } => (of_node("remove-node", node), proposing),
        ProposeCommand::RotateKey {
            purpose,
            new,
            old,
            node,
            proposing,
        } => (
            with(
                of_node("rotate-key", node),
                json!({"purpose": purpose, "new": new, "old": old}),
            ),
            proposing,
        ),
        ProposeCommand::ReplaceNode {
            card: file,
            node,
            proposing,
        } => (
            with(of_node("replace-node", node), json!({"card": card(file)?})),
            proposing,
        ),
        ProposeCommand::Addresses {
            consensus,
            swarm,
            http,
            node,
            proposing,
        } => (
            with(
                of_node("addresses", node),
                json!({"consensus": consensus, "swarm": swarm, "http": http}),
            ),
            proposing,
        ),
        ProposeCommand::AdminKey {
            member,
            add,
            remove,
            proposing,
        } => (
            json!({"change": "admin-key", "member": member, "add": add, "remove": remove}),
            proposing,
        ),
        ProposeCommand::RulesVersion { version, proposing } => (
            json!({"change": "rules-version", "version": version}),
            proposing,
        ),
        ProposeCommand::Parameters {
            heartbeat_ms,
            max_block_bytes,
            max_block_records,
            max_skew_ms,
            proposing,
        } => (
            json!({
                "change": "parameters",
                "heartbeat_ms": heartbeat_ms,
                "max_block_bytes": max_block_bytes,
                "max_block_records": max_block_records,
                "max_skew_ms": max_skew_ms,
            }),
            proposing,
        ),
    })
}
