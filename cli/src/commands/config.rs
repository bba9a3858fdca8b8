//! `tally config check`, `tally config show`

use anyhow::Result;
use serde_json::json;
use tally_node::config::Config;
use tally_node::preflight::{Level, preflight};

use super::Context;
use crate::args::ConfigCommand;
use crate::exit::{Exit, Failure};
use crate::output;

pub(super) fn run(ctx: &Context, command: &ConfigCommand) -> Result<()> {
    let (config, _) = ctx.config()?;
    match command {
        ConfigCommand::Check => check(ctx, &config),
        ConfigCommand::Show => {
            if ctx.common.json {
                output::value(&serde_json::to_value(&config)?);
            } else {
                output::text(&config.to_text());
            }
            Ok(())
        }
    }
}

/// Looks at files, keys, ports and disk; fails if the node would not start.
fn check(ctx: &Context, config: &Config) -> Result<()> {
    let findings = preflight(config, ctx.config_path());
    let errors = findings.iter().filter(|f| f.level == Level::Error).count();
    if ctx.common.json {
        let findings: Vec<_> = findings
            .iter()
            .map(|f| json!({"level": f.level.name(), "what": f.what, "found": f.found, "next": f.next}))
            .collect();
        output::value(&json!({"ok": errors == 0, "findings": findings}));
    } else {
        let mut text = String::new();
        for f in &findings {
            text.push_str(&format!(
                "{:<8}{:<18}{}\n",
                f.level,
                f.what,
                output::plain(&f.found)
            ));
            if !f.next.is_empty() {
                text.push_str(&format!("{:<26}{}\n", "", output::plain(&f.next)));
            }
        }
        if errors == 0 {
            text.push_str("the node can start\n");
        }
        output::text(&text);
    }
    if errors == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        "config",
        format!("{errors} of {} checks failed", findings.len()),
    )
    .next("mend what is marked `error` above; `tally config show` prints every key")
    .told()
    .into())
}
