//! `tally proof`

use anyhow::Result;
use serde_json::json;

use super::{Context, absolute};
use crate::args::ProofArgs;

pub(super) fn run(ctx: &Context, args: &ProofArgs) -> Result<()> {
    let answer = ctx.ask(
        "proof",
        &json!({"code": args.code, "out": absolute(&args.out)?}),
    )?;
    let next = format!(
        "hand {} to the auditor; with the network ID and the policy from elsewhere they need nothing more from this node",
        args.out.display()
    );
    ctx.show(&answer, Some(&next));
    Ok(())
}
