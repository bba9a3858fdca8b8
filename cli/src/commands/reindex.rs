//! `tally reindex`

use anyhow::Result;
use serde_json::json;
use tally_ledger::{Head, Ledger};
use tally_node::config::{Config, DataDir};

use super::Context;
use super::export::locked;
use crate::output;
use crate::progress::{Bar, Progress};

pub(super) fn run(ctx: &Context) -> Result<()> {
    let (config, dir) = ctx.config()?;
    ctx.stopped(&dir)?;
    let head = rebuild(ctx, &config, &dir).map_err(|e| locked(e, "nothing was rebuilt"))?;
    let answer = json!({
        "height": head.height,
        "tree_size": head.tree_size,
        "tree_root": head.tree_root.to_string(),
        "state_root": head.state_root.to_string(),
    });
    if !ctx.common.json {
        output::text("rebuilt from the blocks\n");
    }
    ctx.show(&answer, Some(&format!("tally up{}", ctx.config_option())));
    Ok(())
}

/// Makes state, tiles and indexes again from the blocks of a node that does not run.
pub(super) fn rebuild(ctx: &Context, config: &Config, dir: &DataDir) -> Result<Head> {
    let genesis = Context::genesis(dir)?;
    let options = config.ledger_options();
    let mut bar = Bar::new(ctx.common.json);
    let mut news = |done, total| {
        bar.update(&Progress {
            done,
            total,
            what: "blocks".into(),
        });
    };
    let ledger = Ledger::reindex(&dir.ledger(), genesis.document(), options, &mut news)?;
    Ok(ledger.head())
}
