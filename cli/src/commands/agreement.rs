//! `tally agreement`

use anyhow::Result;
use serde_json::json;

use super::{Context, text_at};
use crate::args::{AgreementCommand, ProposeArgs, default_profile};

/// The order in which an agreement is read.
const SHOWN: [&str; 18] = [
    "agreement",
    "status",
    "purpose",
    "parties",
    "proposed_by",
    "accepted_by",
    "waits_for",
    "computations",
    "noise",
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

pub(super) fn run(ctx: &Context, command: &AgreementCommand) -> Result<()> {
    match command {
        AgreementCommand::Propose(args) => return propose(ctx, args),
        AgreementCommand::Accept { agreement } => {
            let answer = ctx.ask("agreement_accept", &json!({"agreement": agreement}))?;
            let next = format!(
                "tally match request --agreement {agreement} --audience LABEL{}",
                ctx.config_option()
            );
            ctx.show(&answer, Some(&next));
        }
        AgreementCommand::Revoke { agreement } => {
            ctx.show(
                &ctx.ask("agreement_revoke", &json!({"agreement": agreement}))?,
                None,
            );
        }
        AgreementCommand::List => {
            ctx.list(
                &ctx.ask("agreements", &json!({}))?,
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

fn propose(ctx: &Context, args: &ProposeArgs) -> Result<()> {
    let profile = args
        .profile
        .as_deref()
        .unwrap_or(default_profile(&args.id_type));
    let request = json!({
        "with": args.with,
        "purpose": args.purpose,
        "computations": args.computations,
        "suite": args.suite,
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
    let answer = ctx.ask("agreement_propose", &request)?;
    let id = match text_at(&answer, "agreement") {
        "" => "AGREEMENT",
        id => id,
    };
    let next = format!(
        "{} run: tally agreement accept {id}",
        args.with.join(" and ")
    );
    ctx.show(&answer, Some(&next));
    Ok(())
}
