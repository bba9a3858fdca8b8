//! `tally audit diff`: where two histories part, and who signed both.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tally_contracts::block::{BlockInfo, ENTRY_BLOCK_INFO};
use tally_contracts::genesis::{Genesis, network_id};
use tally_evidence::network_policy;
use tally_merkle::Vkey;

use super::replay::{same_network, shown};
use super::source::{Signed, Source, Tree};
use super::words::time_ms;
use crate::args::DiffArgs;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::output;

/// Entries that are looked through for the end of a block: no block has more.
const MAX_BLOCK_ENTRIES: u64 = 8193;

/// One of the two histories.
struct Side {
    signed: Signed,
    /// Names of the nodes that signed as the log, and of the validators that cosigned, each verified.
    logs: Vec<String>,
    cosigners: Vec<(String, Option<u64>)>,
    quorum: bool,
}

pub(super) fn run(ctx: &Context, args: &DiffArgs) -> Result<()> {
    let report = compare(args, ctx.timeout())?;
    if ctx.common.json {
        output::value(&report);
    } else {
        output::text(&output::plain(&words(&report, args)));
    }
    if report["parted"] == true {
        let what = "the two histories part";
        return Err(Failure::new(Exit::NotVerified, "parted", what)
            .told()
            .next("keep both checkpoints and the two entries: who signed both has signed two histories")
            .into());
    }
    if report["a"]["quorum"] == false || report["b"]["quorum"] == false {
        let what = "a checkpoint has no quorum of the founders' validators";
        return Err(Failure::new(Exit::NotVerified, "quorum", what)
            .told()
            .next("the histories agree, but nobody but its source vouches for that checkpoint")
            .into());
    }
    Ok(())
}

/// Compares two ledgers, and says where they part.
pub(super) fn compare(args: &DiffArgs, timeout: Duration) -> Result<Value> {
    let a = Source::open(&args.a, timeout)?;
    let b = Source::open(&args.b, timeout)?;
    let (signed_a, signed_b) = (a.checkpoint()?, b.checkpoint()?);
    let trees = [a.tree(&signed_a.checkpoint), b.tree(&signed_b.checkpoint)];
    let [tree_a, tree_b] = &trees;
    let genesis = tree_a.entry(0)?;
    let network = network_id(&genesis);
    let other = network_id(&tree_b.entry(0)?);
    for network in [network, other] {
        same_network(network, args.network.as_ref())?;
    }
    if network != other {
        let what = format!(
            "{} is of network {network}, {} of network {other}: they have no entry in common",
            a.name(),
            b.name(),
        );
        return Err(Failure::new(Exit::NotVerified, "other_network", what).into());
    }
    let founded = Genesis::from_bytes(&genesis)?;
    let sides = [side(signed_a, &founded)?, side(signed_b, &founded)?];
    let shared = tree_a.size.min(tree_b.size);
    let parted = part(&trees, shared)?;
    report(args, &sides, &trees, network, shared, parted)
}

/// The index of the first entry that differs; `None` if the shorter history is the start of the longer.
fn part(trees: &[Tree<'_>; 2], shared: u64) -> Result<Option<u64>> {
    let same = |size| -> Result<bool> { Ok(trees[0].root_at(size)? == trees[1].root_at(size)?) };
    if same(shared)? {
        return Ok(None);
    }
    // The genesis is the same. Roots of `low` entries agree, of `high` they do not; each is proven consistent with its checkpoint.
    let (mut low, mut high) = (1, shared);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if same(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Some(low))
}

fn side(signed: Signed, genesis: &Genesis) -> Result<Side> {
    let policy = network_policy(genesis)?;
    let text = signed.note.text();
    let by = |key: &Vkey| {
        signed
            .note
            .signatures
            .iter()
            .find_map(|s| s.verify(text, key).ok())
    };
    let mut logs = Vec::new();
    for key in policy.logs() {
        if by(key).is_some() {
            let node = genesis.members.iter().find(|m| {
                m.nodes
                    .iter()
                    .any(|n| n.checkpoint.0.as_slice() == key.key())
            });
            logs.push(node.map_or_else(|| "unknown".to_owned(), |m| m.name.clone()));
        }
    }
    let cosigners: Vec<(String, Option<u64>)> = policy
        .witnesses()
        .filter_map(|(name, key)| Some((name.to_owned(), by(key)?)))
        .collect();
    let set = tally_contracts::ValidatorSet::from_genesis(genesis);
    Ok(Side {
        quorum: tally_evidence::judge_checkpoint(&signed.note, &policy, &set).is_ok(),
        signed,
        logs,
        cosigners,
    })
}

/// The entry at which a side parts, proven under its checkpoint, and the block that it is in.
fn entry(tree: &Tree<'_>, index: u64) -> Result<Value> {
    let bytes = tree.entry(index)?;
    let mut value = shown(&bytes);
    let end = tree.size.min(index.saturating_add(MAX_BLOCK_ENTRIES));
    for at in index..end {
        let bytes = tree.entry(at)?;
        if bytes.get(1) == Some(&ENTRY_BLOCK_INFO)
            && let Ok(info) = BlockInfo::from_bytes(&bytes)
        {
            value["block"] = json!({
                "height": info.height,
                "time": time_ms(info.time_ms),
                "proposer": info.proposer.to_string(),
                "state_root": info.state_root.to_string(),
            });
            break;
        }
    }
    value["hex"] = json!(hex::encode(bytes));
    Ok(value)
}

fn report(
    args: &DiffArgs,
    sides: &[Side; 2],
    trees: &[Tree<'_>; 2],
    network: tally_contracts::ids::NetworkId,
    shared: u64,
    parted: Option<u64>,
) -> Result<Value> {
    let of = |side: &Side, from: &str| {
        json!({
            "from": from,
            "size": side.signed.checkpoint.size,
            "root": side.signed.checkpoint.root.to_string(),
            "signed_by": side.logs,
            "cosigned_by": side.cosigners.iter().map(|(name, time_s)| json!({"name": name, "time": time_s.map(|t| time_ms(t.saturating_mul(1000)))})).collect::<Vec<_>>(),
            "quorum": side.quorum,
            "checkpoint": side.signed.note.to_string(),
        })
    };
    let mut report = json!({
        "network_id": network.to_string(),
        "network_id_given": args.network.is_some(),
        "parted": parted.is_some(),
        "common_entries": parted.unwrap_or(shared),
        "a": of(&sides[0], &args.a),
        "b": of(&sides[1], &args.b),
    });
    let Some(index) = parted else {
        return Ok(report);
    };
    report["index"] = json!(index);
    report["a"]["entry"] = entry(&trees[0], index)?;
    report["b"]["entry"] = entry(&trees[1], index)?;
    let mut both: Vec<&str> = sides[0]
        .cosigners
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| sides[1].cosigners.iter().any(|(other, _)| other == name))
        .collect();
    both.sort_unstable();
    report["signed_both"] = json!(both);
    Ok(report)
}

fn words(report: &Value, args: &DiffArgs) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> String {
        let names: Vec<String> = value
            .as_array()
            .into_iter()
            .flatten()
            .map(|v| {
                v.as_str()
                    .map_or_else(|| text(&v["name"]), ToOwned::to_owned)
            })
            .collect();
        if names.is_empty() {
            "nobody".to_owned()
        } else {
            names.join(", ")
        }
    };
    let mut out = String::new();
    let common = report["common_entries"].as_u64().unwrap_or_default();
    let _ = if report["parted"] == true {
        writeln!(
            out,
            "the two histories part at entry {common}: the {common} entries before it are the same"
        )
    } else {
        writeln!(
            out,
            "the two histories agree: the first {common} entries are the same"
        )
    };
    for (label, from) in [("a", &args.a), ("b", &args.b)] {
        let side = &report[label];
        let _ = writeln!(
            out,
            "  {}  {from}: {} entries, root {}\n     signed by {}; cosigned by {}{}",
            label.to_uppercase(),
            side["size"],
            text(&side["root"]),
            list(&side["signed_by"]),
            list(&side["cosigned_by"]),
            if side["quorum"] == true {
                ", a quorum"
            } else {
                ", no quorum"
            }
        );
        let entry = &side["entry"];
        if !entry.is_null() {
            let says = if entry["says"].is_string() {
                format!(
                    "record {}: {}",
                    text(&entry["record"]),
                    text(&entry["says"])
                )
            } else {
                format!("{}", entry["type"])
            };
            let _ = writeln!(
                out,
                "     entry {common}: {says}\n     in the block of height {}, {}, state root {}",
                entry["block"]["height"],
                text(&entry["block"]["time"]),
                text(&entry["block"]["state_root"])
            );
        }
    }
    if report["parted"] == true {
        let _ = writeln!(out, "  signed both: {}", list(&report["signed_both"]));
    }
    let _ = writeln!(out, "  network {}", text(&report["network_id"]));
    out
}
