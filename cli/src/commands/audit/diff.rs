//! `tally audit diff`: where two histories part, and who signed both.
//!
//! Who may sign a checkpoint follows from the entries under it: each side is carried out again from the genesis, with every change of
//! members, validators and keys that the members passed. So the one thing that is trusted is the network ID, as in a replay. A side
//! that leaves the contracts' rules is followed up to there, and that is told.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tally_contracts::block::{BlockInfo, ENTRY_BLOCK_INFO};
use tally_contracts::genesis::network_id;
use tally_contracts::ids::PublicKey;
use tally_evidence::replay::Replay;
use tally_evidence::{Roster, policy_of};
use tally_merkle::Vkey;

use super::replay::{same_network, shown};
use super::source::{Ahead, Signed, Source, Tree};
use super::words::time_ms;
use crate::args::DiffArgs;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::{Bar, Progress};

/// Entries that are looked through for the end of a block: no block has more.
const MAX_BLOCK_ENTRIES: u64 = 8193;

/// One of the two histories.
struct Side {
    signed: Signed,
    /// Names of the nodes that signed as the log, and of the validators that cosigned, each verified.
    logs: Vec<String>,
    cosigners: Vec<(String, Option<u64>)>,
    quorum: bool,
    needed: usize,
    validators: usize,
    followed: Followed,
}

/// The members of a side, as they are after its last entry.
#[derive(Clone)]
struct Followed {
    roster: Roster,
    /// The first entry that the contracts do not give, if there is one: the members are those of the block before it.
    fault: Option<String>,
    /// Whether they come from a file and not from the entries.
    given: bool,
}

/// Entries between two news of the bar.
const NEWS: u64 = 4096;

/// Carries out the entries of a side. It stops before entry `end`, or at the first that the contracts do not give; in that case the
/// second value says which.
fn carry_out(
    from: &str,
    timeout: Duration,
    size: u64,
    end: u64,
    bar: &mut Bar,
) -> Result<(Replay, Option<(u64, String)>)> {
    let mut replay: Option<Replay> = None;
    // Entries up to the end of the last block that was right.
    let mut whole = 1;
    for bundle in Ahead::start(from, timeout, size) {
        for entry in bundle? {
            let Some(replay) = &mut replay else {
                replay = Some(Replay::new(&entry)?);
                continue;
            };
            if replay.size() >= end {
                break;
            }
            match replay.entry(&entry) {
                Ok(None) => {}
                Ok(Some(_)) => whole = replay.size(),
                Err(difference) => {
                    let told = difference.to_string();
                    return Ok((
                        replay_to(from, timeout, size, whole, bar)?,
                        Some((difference.index, told)),
                    ));
                }
            }
            if replay.size() % NEWS == 0 {
                bar.update(&Progress {
                    done: replay.size(),
                    total: end,
                    what: format!("entries of {from}"),
                });
            }
        }
    }
    let replay = replay.context("no entries")?;
    Ok((replay, None))
}

/// The same up to the end of a block that is known to be right.
fn replay_to(from: &str, timeout: Duration, size: u64, end: u64, bar: &mut Bar) -> Result<Replay> {
    Ok(carry_out(from, timeout, size, end, bar)?.0)
}

fn follow(from: &str, timeout: Duration, tree: &Tree<'_>, bar: &mut Bar) -> Result<Followed> {
    let (replay, fault) = carry_out(from, timeout, tree.size, tree.size, bar)?;
    // What was carried out must be what the checkpoint stands for.
    if tree.root_at(replay.size())? != replay.tree_root() {
        let what = format!(
            "the first {} entries of {from} do not lead to its checkpoint",
            replay.size()
        );
        return Err(Failure::new(Exit::NotVerified, "tree_root", what).into());
    }
    if let Some((index, _)) = &fault {
        tree.entry(*index)?;
    }
    Ok(Followed {
        roster: replay.roster()?,
        fault: fault.map(|(_, told)| told),
        given: false,
    })
}

pub(super) fn run(ctx: &Context, args: &DiffArgs) -> Result<()> {
    let report = compare(args, ctx.timeout(), ctx.common.json)?;
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
        let what = "a checkpoint has no quorum of the validators of its time";
        return Err(Failure::new(Exit::NotVerified, "quorum", what)
            .told()
            .next("the histories agree, but nobody but its source vouches for that checkpoint")
            .into());
    }
    Ok(())
}

/// Compares two ledgers, and says where they part. `quiet`: without a bar.
pub(super) fn compare(args: &DiffArgs, timeout: Duration, quiet: bool) -> Result<Value> {
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
    let given = args.members.as_deref().map(super::roster).transpose()?;
    if let Some(given) = &given
        && given.network != network
    {
        let what = format!(
            "the members file is of network {}, expected {network}",
            given.network
        );
        return Err(Failure::new(Exit::NotVerified, "other_network", what).into());
    }
    let mut bar = Bar::new(quiet);
    let mut of = |from: &str, tree: &Tree<'_>| match &given {
        Some(roster) => Ok(Followed {
            roster: roster.clone(),
            fault: None,
            given: true,
        }),
        None => follow(from, timeout, tree, &mut bar),
    };
    let followed_a = of(&args.a, tree_a)?;
    let followed_b = of(&args.b, tree_b)?;
    drop(bar);
    let sides = [side(signed_a, followed_a)?, side(signed_b, followed_b)?];
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

fn side(signed: Signed, followed: Followed) -> Result<Side> {
    let roster = &followed.roster;
    let set = roster.validators();
    let policy = policy_of(&roster.network, &roster.members, &set)?;
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
            let public = <[u8; 32]>::try_from(key.key()).ok().map(PublicKey);
            let member = public.and_then(|key| roster.by_checkpoint_key(&key));
            logs.push(member.map_or_else(|| "unknown".to_owned(), |m| m.name.clone()));
        }
    }
    let cosigners: Vec<(String, Option<u64>)> = policy
        .witnesses()
        .filter_map(|(name, key)| Some((name.to_owned(), by(key)?)))
        .collect();
    Ok(Side {
        quorum: tally_evidence::judge_checkpoint(&signed.note, &policy, &set).is_ok(),
        needed: policy.needed(),
        validators: policy.witnesses().count(),
        signed,
        logs,
        cosigners,
        followed,
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
            "needed": side.needed,
            "validators": side.validators,
            "members_from": if side.followed.given { "file" } else { "entries" },
            "members_height": side.followed.roster.height,
            "fault": side.followed.fault,
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
            "  {}  {from}: {} entries, root {}\n     signed by {}; cosigned by {}: {} of {} validators {}, {} needed{}",
            label.to_uppercase(),
            side["size"],
            text(&side["root"]),
            list(&side["signed_by"]),
            list(&side["cosigned_by"]),
            side["cosigned_by"].as_array().map_or(0, Vec::len),
            side["validators"],
            if side["members_from"] == "file" {
                "by the members file".to_owned()
            } else {
                format!("as of height {}", side["members_height"])
            },
            side["needed"],
            if side["quorum"] == true {
                ", a quorum"
            } else {
                ", no quorum"
            }
        );
        if let Some(fault) = side["fault"].as_str() {
            let _ = writeln!(
                out,
                "     it leaves the contracts' rules, and was followed up to there: {fault}"
            );
        }
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
