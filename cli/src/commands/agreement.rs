//! `tally agreement`

use anyhow::Result;
use serde_json::{Value, json};

use super::{Context, text_at};
use crate::args::{AgreementCommand, Noise, ProposeArgs, SumArgs, default_profile};
use crate::exit::{Exit, Failure};

/// The order in which an agreement is read.
const SHOWN: [&str; 21] = [
    "agreement",
    "status",
    "purpose",
    "parties",
    "proposed_by",
    "accepted_by",
    "waits_for",
    "computations",
    "noise",
    "sums",
    "helper",
    "noise_against_helper",
    "profile",
    "people_in_a_set",
    "smallest_result",
    "audiences_an_epoch",
    "matches",
    "expires",
    "suite",
    "epoch",
    "budget_left",
];

/// What people are told of an agreement that was just signed.
const SIGNED: [&str; 5] = ["agreement", "status", "waits_for", "record", "height"];

/// The columns of the list.
const LISTED: [&str; 8] = [
    "agreement",
    "status",
    "with",
    "computations",
    "matches",
    "noise",
    "expires",
    "purpose",
];

pub(super) fn run(ctx: &Context, command: &AgreementCommand) -> Result<()> {
    match command {
        AgreementCommand::Propose(args) => return propose(ctx, args),
        AgreementCommand::Accept { agreement } => {
            let answer = ctx.ask("agreement_accept", &json!({"agreement": agreement}))?;
            ctx.show_keys(&answer, &SIGNED, Some(&after_accepting(ctx, &answer)));
        }
        AgreementCommand::Revoke { agreement } => {
            ctx.show(
                &ctx.ask("agreement_revoke", &json!({"agreement": agreement}))?,
                None,
            );
        }
        AgreementCommand::List => {
            let mut agreements = ctx.ask("agreements", &json!({}))?;
            if !ctx.common.json {
                for row in agreements.as_array_mut().into_iter().flatten() {
                    row["matches"] = json!(format!("{} of {}", row["matches"], row["of"]));
                }
            }
            ctx.table(
                &agreements,
                &LISTED,
                "no agreements yet: `tally agreement propose --help` tells how",
            );
        }
        AgreementCommand::Show { agreement } => {
            ctx.show_keys(
                &ctx.ask("agreement_show", &json!({"agreement": agreement}))?,
                &SHOWN,
                None,
            );
        }
    }
    Ok(())
}

fn sum_terms(args: &SumArgs) -> Result<Value> {
    let Some(value_cap) = args.value_cap else {
        return Err(Failure::new(
            Exit::Usage,
            "usage",
            "join_sum needs --value-cap: no noise covers a value without bound",
        )
        .next("give the amount that all but the largest conversions stay below")
        .into());
    };
    Ok(json!({
        "model": args.model,
        "labels": args.labels,
        "label_side": args.label_side,
        "label_min": args.label_min,
        "value_cap": value_cap,
        "conversions_per_person": args.conversions_per_person,
        "click_days": args.click_days,
        "view_days": args.view_days,
        "max_conversions": args.max_conversions,
        "max_keys": args.max_keys,
    }))
}

fn propose(ctx: &Context, args: &ProposeArgs) -> Result<()> {
    let profile = args
        .profile
        .as_deref()
        .unwrap_or(default_profile(&args.id_type));
    let mut request = json!({
        "with": args.with,
        "purpose": args.purpose,
        "computations": args.computations,
        "suite": args.suite,
        "helper": args.overlap.helper,
        "helper_noise": args.overlap.helper_noise.map(Noise::to_json),
        "id_type": args.id_type,
        "profile": profile,
        "noise": args.noise.to_json(),
        "epoch_answers": args.epoch_answers,
        "lifetime_answers": args.lifetime_answers,
        "min_set": args.min_set,
        "max_set": args.max_set,
        "min_result": args.min_result,
        "max_audiences": args.max_audiences,
        "max_matches": args.max_matches,
        "days": args.days,
    });
    if args.computations.iter().any(|c| c == "join_sum") {
        let sums = sum_terms(&args.sums)?;
        if let Some(map) = request.as_object_mut() {
            map.insert("sums".into(), sums);
        }
    }
    let answer = ctx.ask("agreement_propose", &request)?;
    let id = match text_at(&answer, "agreement") {
        "" => "AGREEMENT",
        id => id,
    };
    let mut accepting = args.with.clone();
    accepting.extend(args.overlap.helper.clone());
    let next = format!(
        "{} run: tally agreement accept {id}",
        accepting.join(" and ")
    );
    ctx.show_keys(&answer, &SIGNED, Some(&next));
    Ok(())
}

/// What this member, or who else, does once it has accepted.
fn after_accepting(ctx: &Context, answer: &Value) -> String {
    let id = text_at(answer, "agreement");
    let waits: Vec<_> = answer
        .get("waits_for")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !waits.is_empty() {
        return format!("{} run: tally agreement accept {id}", waits.join(" and "));
    }
    if answer.get("party") == Some(&json!(false)) {
        return "each of the parties may ask now; this node only helps".to_owned();
    }
    format!(
        "tally match request --agreement {id} --audience LABEL{}",
        ctx.config_option()
    )
}
