//! `tally up`

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tally_node::config::{Config, LogFormat};
use tally_node::runtime::Ended;
use tracing_subscriber::EnvFilter;

use super::Context;
use crate::args::UpArgs;
use crate::exit::{Exit, Failure};

/// How long tasks that are still at work may take when a node ends.
const SHUTDOWN: Duration = Duration::from_secs(10);

pub(super) fn run(ctx: &Context, args: &UpArgs) -> Result<()> {
    let (config, dir) = ctx.config()?;
    ctx.stopped(&dir)?;
    Context::genesis(&dir)?;
    let passphrase = ctx.passphrase(args.passphrase_file.as_deref(), &config)?;
    start_log(&config)?;
    loop {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let ended = runtime.block_on(tally_node::runtime::run(ctx.config_path(), &passphrase));
        // With the runtime goes everything that the node holds, its files and ports too.
        runtime.shutdown_timeout(SHUTDOWN);
        match ended {
            Ok(Ended::Asked) => return Ok(()),
            Ok(Ended::RoomAgain) => {
                tracing::info!("there is room on the disk again; starting anew")
            }
            Err(e) => {
                let next = "the log above says more; a node that halted must not be started again before its cause is known";
                return Err(anyhow!(e)
                    .context(Failure::new(Exit::Failed, "up", "the node stopped").next(next)));
            }
        }
    }
}

/// The log of the process, on standard error, as the configuration says.
fn start_log(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log.level)
        .with_context(|| format!("log.level = {:?} is no filter", config.log.level))?;
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    match config.log.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    }
    .map_err(|e| anyhow!(e).context("the log cannot be set up"))
}
