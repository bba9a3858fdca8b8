//! `tally match`

use anyhow::Result;
use serde_json::json;

use super::{Context, MATCH_TIMEOUT_S};
use crate::args::{MatchCommand, RequestArgs};

pub(super) fn run(ctx: &Context, command: &MatchCommand) -> Result<()> {
    match command {
        MatchCommand::Request(args) => return request(ctx, args),
        MatchCommand::List => ctx.list(
            &ctx.ask("matches", &json!({}))?,
            "no matches yet: `tally match request --help` tells how",
        ),
        MatchCommand::Show { session } => {
            ctx.show(&ctx.ask("match_show", &json!({"session": session}))?, None);
        }
        MatchCommand::Cancel { session } => ctx.show(
            &ctx.ask("match_cancel", &json!({"session": session}))?,
            None,
        ),
    }
    Ok(())
}

fn request(ctx: &Context, args: &RequestArgs) -> Result<()> {
    let mut request = json!({"agreement": args.agreement, "computation": args.computation, "audience": args.audience});
    if let (Some(peer), Some(map)) = (&args.peer, request.as_object_mut()) {
        map.insert("peer".into(), json!(peer));
    }
    ctx.show(
        &ctx.ask_within("match_request", &request, MATCH_TIMEOUT_S)?,
        None,
    );
    Ok(())
}
