//! `tally audit replay`: the contracts over every entry from the genesis on.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tally_contracts::ids::NetworkId;
use tally_contracts::{Canonical as _, Record};
use tally_evidence::replay::{Difference, Replay};
use tally_evidence::{judge_checkpoint, network_policy, policy_of};
use tally_merkle::Verified;
use tally_node::files::write_atomic;

use super::source::{Ahead, Signed, Source, Tree};
use super::words::time_ms;
use crate::args::ReplayArgs;
use crate::commands::Context;
use crate::exit::{Exit, Failure};
use crate::output::{self, grouped};
use crate::progress::{Bar, Progress};

/// Entries between two news of the bar.
const NEWS: u64 = 4096;

/// What a replay that found no difference says.
struct Done {
    replay: Replay,
    signed: Signed,
    quorum: Quorum,
    took: Duration,
}

/// Who signed a checkpoint.
struct Quorum {
    cosigners: Vec<(String, u64)>,
    needed: usize,
    validators: usize,
}

/// Why a replay stopped.
enum Stopped {
    /// The entries are not what the contracts give.
    Differs {
        difference: Box<Difference>,
        /// Whether the entry stands under the checkpoint: then the network vouches for it, else the source alone.
        under_checkpoint: Option<bool>,
        /// What the entry is.
        entry: Value,
    },
    /// Anything else.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) fn run(ctx: &Context, args: &ReplayArgs) -> Result<()> {
    let timeout = ctx.timeout();
    match replay(ctx, args, timeout) {
        Ok(done) => {
            let answer = answer(&done, args);
            if ctx.common.json {
                output::value(&answer);
            } else {
                output::text(&output::plain(&words(&done, args)));
            }
            Ok(())
        }
        Err(Stopped::Failed(error)) => Err(error),
        Err(Stopped::Differs {
            difference,
            under_checkpoint,
            entry,
        }) => Err(differs(ctx, &difference, under_checkpoint, &entry)),
    }
}

/// The network ID of a genesis entry, compared with the one that was given.
pub(super) fn same_network(found: NetworkId, expected: Option<&NetworkId>) -> Result<()> {
    match expected {
        Some(expected) if *expected != found => {
            let what = format!("the ledger is of network {found}, expected {expected}");
            Err(Failure::new(Exit::NotVerified, "other_network", what)
                .next("compare the network ID with what each founder says, apart from who gave you the ledger")
                .into())
        }
        _ => Ok(()),
    }
}

fn replay(ctx: &Context, args: &ReplayArgs, timeout: Duration) -> Result<Done, Stopped> {
    let started = Instant::now();
    let source = Source::open(&args.from, timeout)?;
    let signed = source.checkpoint()?;
    let tree = source.tree(&signed.checkpoint);
    let size = signed.checkpoint.size;
    let genesis = source.entry(0, size)?;
    let at = |difference: Difference| {
        let entry = source.entry(difference.index, size).ok();
        Stopped::Differs {
            under_checkpoint: entry
                .as_ref()
                .and_then(|e| under(&tree, difference.index, e)),
            entry: entry.as_deref().map_or(Value::Null, shown),
            difference: Box::new(difference),
        }
    };
    let mut replay = Replay::new(&genesis).map_err(at)?;
    same_network(replay.network(), args.network.as_ref())?;
    // A checkpoint that nobody vouches for is found out before the work, as long as the founders are the validators.
    let early = quorum_of(
        &signed,
        &network_policy(replay.genesis())?,
        &tally_contracts::ValidatorSet::from_genesis(replay.genesis()),
    );
    let mut bar = Bar::new(ctx.common.json);
    let mut first = true;
    for bundle in Ahead::start(&args.from, timeout, size) {
        for entry in bundle? {
            if std::mem::take(&mut first) {
                continue;
            }
            replay.entry(&entry).map_err(at)?;
            if replay.size() % NEWS == 0 {
                bar.update(&Progress {
                    done: replay.size(),
                    total: size,
                    what: format!("entries, height {}", replay.progress().height),
                });
            }
        }
    }
    drop(bar);
    if replay.size() != size {
        let what = format!("{} of {size} entries came", replay.size());
        return Err(anyhow!(what).into());
    }
    replay.finish().map_err(at)?;
    if replay.tree_root() != signed.checkpoint.root {
        let what = format!(
            "the {size} entries give the root {}, the checkpoint has {}",
            replay.tree_root(),
            signed.checkpoint.root
        );
        let failure = Failure::new(Exit::NotVerified, "tree_root", what);
        return Err(failure
            .next("these entries are not those that the network signed; take them from another member")
            .into());
    }
    let (set, members) = replay.validators()?;
    let quorum = if set == tally_contracts::ValidatorSet::from_genesis(replay.genesis()) {
        early?
    } else {
        // Members have changed who validates: what the founders signed for says nothing any more.
        let policy = policy_of(&replay.network(), &members, &set)?;
        quorum_of(&signed, &policy, &set)?
    };
    if let Some(file) = &args.members_out {
        write_atomic(file, &replay.roster()?.to_bytes(), 0o644)?;
    }
    if let Some(file) = &args.policy_out {
        let policy = policy_of(&replay.network(), &members, &set)?;
        write_atomic(file, policy.to_string().as_bytes(), 0o644)?;
    }
    Ok(Done {
        replay,
        signed,
        quorum,
        took: started.elapsed(),
    })
}

fn quorum_of(
    signed: &Signed,
    policy: &tally_merkle::Policy,
    set: &tally_contracts::ValidatorSet,
) -> Result<Quorum> {
    let verified: Verified = judge_checkpoint(&signed.note, policy, set).map_err(|error| {
        Failure::new(Exit::NotVerified, error.reason(), error.to_string())
            .next("without a quorum nobody but the source vouches for this ledger")
    })?;
    Ok(Quorum {
        cosigners: verified.witnesses,
        needed: policy.needed(),
        validators: policy.witnesses().count(),
    })
}

/// Whether an entry stands under the checkpoint; `None` if the tiles cannot be had.
fn under(tree: &Tree<'_>, index: u64, entry: &[u8]) -> Option<bool> {
    match tree.holds(index, entry) {
        Ok(()) => Some(true),
        Err(e) => e
            .downcast_ref::<Failure>()
            .is_some_and(|f| f.exit == Exit::NotVerified)
            .then_some(false),
    }
}

/// An entry for people and programs.
pub(super) fn shown(entry: &[u8]) -> Value {
    use tally_contracts::block::{BlockInfo, ENTRY_BLOCK_INFO, ENTRY_RECORD};
    let kind = entry.get(1).copied().unwrap_or_default();
    if kind == ENTRY_RECORD
        && let Ok(record) = Record::from_bytes(entry)
    {
        let signers: Vec<String> = record
            .signers()
            .iter()
            .map(|s| s.member.to_string())
            .collect();
        let (kind, says) = record.body().map_or_else(
            |e| ("unknown".to_owned(), e.to_string()),
            |body| {
                let (says, _) = tally_node::proofs::json::body(&body, &|_| None);
                (body.kind().name().to_owned(), says)
            },
        );
        return json!({"type": "record", "record": record.id().to_string(), "kind": kind, "says": says, "signers": signers});
    }
    if kind == ENTRY_BLOCK_INFO
        && let Ok(info) = BlockInfo::from_bytes(entry)
    {
        return json!({
            "type": "block_info",
            "height": info.height,
            "time": time_ms(info.time_ms),
            "records": info.record_count,
            "proposer": info.proposer.to_string(),
            "previous": info.previous.to_string(),
            "state_root": info.state_root.to_string(),
        });
    }
    json!({"type": "unknown", "bytes": entry.len()})
}

fn answer(done: &Done, args: &ReplayArgs) -> Value {
    let progress = done.replay.progress();
    let seconds = done.took.as_secs_f64();
    json!({
        "replayed": true,
        "network_id": done.replay.network().to_string(),
        "network_id_given": args.network.is_some(),
        "entries": done.replay.size(),
        "records": progress.records,
        "blocks": progress.blocks,
        "height": progress.height,
        "time": time_ms(progress.time_ms),
        "tree_root": done.signed.checkpoint.root.to_string(),
        "state_root": done.replay.state_root().to_string(),
        "links_compared": progress.links,
        "links_open": progress.open_links,
        "cosigned_by": done.quorum.cosigners.iter().map(|(name, time_s)| json!({"name": name, "time": time_ms(time_s * 1000)})).collect::<Vec<_>>(),
        "needed": done.quorum.needed,
        "validators": done.quorum.validators,
        "seconds": seconds,
        "records_per_s": per_second(progress.records, done.took),
    })
}

fn per_second(records: u64, took: Duration) -> u64 {
    let ms = took.as_millis().max(1);
    u64::try_from(u128::from(records) * 1000 / ms).unwrap_or(u64::MAX)
}

fn words(done: &Done, args: &ReplayArgs) -> String {
    let progress = done.replay.progress();
    let n = |value: u64| grouped(&value.to_string());
    let names: Vec<&str> = done
        .quorum
        .cosigners
        .iter()
        .map(|(n, _)| n.as_str())
        .collect();
    let given = if args.network.is_some() {
        ""
    } else {
        " (not given by --network: compare it with what each founder says)"
    };
    format!(
        "replayed: {} records in {} blocks give every state root, up to height {}, {}\n  \
         entries      {}, root {}\n  \
         state root   {}\n  \
         links        {} blocks name the block before; {} follow a block without records, whose hash no entry has\n  \
         cosigned by  {} of {} validators, {} needed: {}\n  \
         network      {}{given}\n  \
         took         {:.1} s, {} records a second\n",
        n(progress.records),
        n(progress.blocks),
        n(progress.height),
        time_ms(progress.time_ms),
        n(done.replay.size()),
        done.signed.checkpoint.root,
        done.replay.state_root(),
        n(progress.links),
        n(progress.open_links),
        names.len(),
        done.quorum.validators,
        done.quorum.needed,
        names.join(", "),
        done.replay.network(),
        done.took.as_secs_f64(),
        n(per_second(progress.records, done.took)),
    )
}

fn differs(
    ctx: &Context,
    difference: &Difference,
    under_checkpoint: Option<bool>,
    entry: &Value,
) -> anyhow::Error {
    let reason = difference.fault.reason();
    let who = match under_checkpoint {
        Some(true) => "the entry stands under the checkpoint: those who cosigned it vouch for it",
        Some(false) => "the entry does not stand under the checkpoint: only the source says so",
        None => "whether the entry stands under the checkpoint cannot be told from this source",
    };
    let next = match under_checkpoint {
        Some(true) => "keep checkpoint and entries: they prove that the network left its rules",
        _ => "take the ledger from another member and replay it again",
    };
    let message = format!("the ledger is not what its contracts give: {difference}");
    if ctx.common.json {
        output::value(&json!({
            "replayed": false,
            "difference": {
                "index": difference.index,
                "height": difference.height,
                "reason": reason,
                "message": difference.fault.to_string(),
                "under_checkpoint": under_checkpoint,
                "entry": entry,
            },
            "error": {"code": reason, "message": message, "next": next},
            "exit": Exit::NotVerified as u8,
        }));
    } else {
        let height = difference
            .height
            .map_or_else(String::new, |h| format!(", in the block of height {h}"));
        let text = format!(
            "first difference: entry {}{height}\n  what         {}\n  entry        {}\n  vouched for  {who}\n",
            difference.index, difference.fault, entry
        );
        output::text(&output::plain(&text));
    }
    Failure::new(Exit::NotVerified, reason, message)
        .told()
        .next(next)
        .into()
}
