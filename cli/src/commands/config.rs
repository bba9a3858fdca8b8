//! `tally config check`

use anyhow::Result;

use super::Context;
use crate::args::ConfigCommand;
use crate::output;

pub(super) fn run(ctx: &Context, command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Check = command;
    let (config, _) = ctx.config()?;
    if ctx.common.json {
        output::value(&serde_json::to_value(&config)?);
    } else {
        output::text(&config.to_text());
    }
    Ok(())
}
