//! `tally reindex`

use anyhow::{Result, anyhow};
use serde_json::json;
use tally_ledger::{Ledger, Options};

use super::Context;
use super::export::locked;
use crate::output;
use crate::progress::{Bar, Progress};

pub(super) fn run(ctx: &Context) -> Result<()> {
    let (config, dir) = ctx.config()?;
    ctx.stopped(&dir)?;
    let genesis = Context::genesis(&dir)?;
    let options = Options {
        cache_bytes: config.limits.state_cache_bytes,
        ..Options::default()
    };
    let mut bar = Bar::new(ctx.common.json);
    let mut news = |done, total| {
        bar.update(&Progress {
            done,
            total,
            what: "blocks".into(),
        });
    };
    let ledger = Ledger::reindex(&dir.ledger(), genesis.document(), options, &mut news)
        .map_err(|e| locked(anyhow!(e), "nothing was rebuilt"))?;
    drop(bar);
    let head = ledger.head();
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
