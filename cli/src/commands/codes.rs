//! `tally codes`

use anyhow::Result;
use serde_json::json;

use super::{Context, absolute, text_at};
use crate::args::{CodesCommand, IssueArgs, VerifyArgs};
use crate::exit::{Exit, Failure};

pub(super) fn run(ctx: &Context, command: &CodesCommand) -> Result<()> {
    match command {
        CodesCommand::Issue(args) => issue(ctx, args),
        CodesCommand::Activate { batch } => {
            let answer = ctx.ask("batch_activate", &json!({"batch": batch}))?;
            ctx.show(
                &answer,
                Some("the codes answer `genuine` from now on; try one with `tally scan`"),
            );
            Ok(())
        }
        CodesCommand::Recall { batch, reason } => {
            let answer = ctx.ask("batch_recall", &json!({"batch": batch, "reason": reason}))?;
            ctx.show(&answer, None);
            Ok(())
        }
        CodesCommand::Verify(args) => verify(ctx, args),
        CodesCommand::List => {
            ctx.list(
                &ctx.ask("batches", &json!({}))?,
                "no batches yet: `tally codes issue` makes one",
            );
            Ok(())
        }
    }
}

fn issue(ctx: &Context, args: &IssueArgs) -> Result<()> {
    let request = json!({"gtin": args.gtin, "lot": args.lot, "count": args.count, "out": absolute(&args.out)?});
    let answer = ctx.ask("codes_issue", &request)?;
    let batch = match text_at(&answer, "batch") {
        "" => "BATCH",
        id => id,
    };
    let next = format!(
        "send {} to the printer and keep it secret; `tally codes activate {batch}{}` when the goods leave",
        args.out.display(),
        ctx.config_option(),
    );
    ctx.show(&answer, Some(&next));
    Ok(())
}

fn verify(ctx: &Context, args: &VerifyArgs) -> Result<()> {
    let answer = ctx.ask(
        "codes_verify",
        &json!({"code": args.code, "claim": args.claim}),
    )?;
    ctx.show(&answer, None);
    match text_at(&answer, "verdict") {
        verdict if verdict.starts_with("genuine") => Ok(()),
        "cannot_verify_now" => {
            let what = "the code cannot be verified now: its issuer does not answer";
            let failure = Failure::new(Exit::Failed, "cannot_verify_now", what).told();
            Err(failure
                .next("try again later; the code may well be genuine")
                .into())
        }
        verdict => {
            let what = format!("the code is not good: {verdict}");
            Err(Failure::new(Exit::NotVerified, verdict, what).told().into())
        }
    }
}
