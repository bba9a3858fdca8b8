//! `tally audience`

use anyhow::Result;
use serde_json::json;

use super::{Context, absolute};
use crate::args::{AudienceCommand, ImportArgs, default_profile};

pub(super) fn run(ctx: &Context, command: &AudienceCommand) -> Result<()> {
    match command {
        AudienceCommand::Import(args) => import(ctx, args),
        AudienceCommand::List => {
            ctx.list(
                &ctx.ask("audiences", &json!({}))?,
                "no audiences yet: `tally audience import FILE --label NAME` brings one",
            );
            Ok(())
        }
    }
}

fn import(ctx: &Context, args: &ImportArgs) -> Result<()> {
    let profile = args
        .profile
        .as_deref()
        .unwrap_or(default_profile(&args.id_type));
    let mut request = json!({
        "file": absolute(&args.file)?, "id_type": args.id_type, "profile": profile, "label": args.label,
        "holds": args.holds,
    });
    if let Some(map) = request.as_object_mut() {
        map.extend(args.region.iter().map(|r| ("region".into(), json!(r))));
        map.extend(args.column.iter().map(|c| ("column".into(), json!(c))));
    }
    let answer = ctx.ask("audience_import", &request)?;
    let next = format!(
        "tally match request --agreement AGREEMENT --audience {}{}",
        args.label,
        ctx.config_option()
    );
    let keys = [
        "audience",
        "holds",
        "note",
        "report",
        "on_the_ledger",
        "epoch",
        "label",
        "record",
    ];
    ctx.show_keys(&answer, &keys, Some(&next));
    Ok(())
}
