//! `tally match`

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{Context, MATCH_TIMEOUT_S, absolute, text_at};
use crate::args::{MatchCommand, RequestArgs};
use crate::exit::{Exit, Failure};

/// What people want to know of a match; programs get more.
const SHOWN: [&str; 23] = [
    "match",
    "stage",
    "progress",
    "answer",
    "sums",
    "noise",
    "reason",
    "computation",
    "with",
    "parties",
    "helper",
    "this_node",
    "asked_by",
    "audience",
    "people",
    "repeated_rows",
    "dropped_rows",
    "their_people_at_most",
    "agreement",
    "opened_by_record",
    "receipt_record",
    "started",
    "took",
];

pub(super) fn run(ctx: &Context, command: &MatchCommand) -> Result<()> {
    match command {
        MatchCommand::Request(args) => return request(ctx, args),
        MatchCommand::List => ctx.list(
            &ctx.ask("matches", &json!({}))?,
            "no matches yet: `tally match request --help` tells how",
        ),
        MatchCommand::Show { id, out } => {
            let mut asked = Map::from_iter([("match".to_owned(), json!(id))]);
            if let Some(out) = out {
                asked.insert("out".into(), json!(absolute(out)?));
            }
            show(ctx, ctx.ask("match_show", &Value::Object(asked))?, None);
        }
        MatchCommand::Cancel { id } => {
            ctx.show(&ctx.ask("match_cancel", &json!({"match": id}))?, None);
        }
    }
    Ok(())
}

fn request(ctx: &Context, args: &RequestArgs) -> Result<()> {
    let mut asked = Map::new();
    asked.insert("agreement".into(), json!(args.agreement));
    asked.insert("computation".into(), json!(args.computation));
    asked.insert("audience".into(), json!(args.audience));
    if let Some(peer) = &args.peer {
        asked.insert("peer".into(), json!(peer));
    }
    if let Some(label) = &args.peer_audience {
        asked.insert("peer_audience".into(), json!(label));
    }
    if !args.party_audiences.is_empty() {
        let mut audiences = Map::new();
        for named in &args.party_audiences {
            let Some((member, label)) = named.split_once('=') else {
                let what = format!("--party-audience {named}, expected MEMBER=LABEL");
                return Err(Failure::new(Exit::Usage, "usage", what)
                    .next("labels stand in the ledger: `tally audience list` at that member shows them")
                    .into());
            };
            audiences.insert(member.to_owned(), json!(label));
        }
        asked.insert("party_audiences".into(), Value::Object(audiences));
    }
    if let Some(out) = &args.out {
        if args.computation != "list" {
            let what = format!("--out is for people, and {} gives none", args.computation);
            return Err(Failure::new(Exit::Usage, "usage", what)
                .next("ask with --computation list, if the agreement allows it")
                .into());
        }
        asked.insert("out".into(), json!(absolute(out)?));
    }
    let answer = ctx.ask_within("match_request", &Value::Object(asked), MATCH_TIMEOUT_S)?;
    let next = (args.computation == "list" && args.out.is_none()).then(|| {
        format!(
            "tally match show {} --out FILE{}",
            text_at(&answer, "match"),
            ctx.config_option()
        )
    });
    show(ctx, answer, next.as_deref());
    Ok(())
}

/// Prints a match; people get seconds, and sums as they are read.
fn show(ctx: &Context, mut answer: Value, next: Option<&str>) {
    if !ctx.common.json
        && let Some(fields) = answer.as_object_mut()
    {
        if let Some(ms) = fields.get("took_ms").and_then(Value::as_u64) {
            fields.insert(
                "took".into(),
                json!(format!("{}.{} s", ms / 1000, ms / 100 % 10)),
            );
        }
        let sums = fields.get_mut("sums").and_then(Value::as_array_mut);
        for sum in sums.into_iter().flatten().filter_map(Value::as_object_mut) {
            sum.remove("sum_times_unit");
        }
    }
    ctx.show_keys(&answer, &SHOWN, next);
}
