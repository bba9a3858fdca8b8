//! `tally up`

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tally_node::config::{Config, LogFormat};
use tally_node::runtime::{Ended, Start, asked_to_stop, run_until};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use super::Context;
use crate::admin_client::is_running;
use crate::args::UpArgs;
use crate::exit::{Exit, Failure};

/// How long tasks that are still at work may take when a node ends.
const SHUTDOWN: Duration = Duration::from_secs(10);

pub(super) fn run(ctx: &Context, args: &UpArgs) -> Result<()> {
    let (config, dir) = ctx.config()?;
    if is_running(dir.root()) {
        let what = format!("the node of {} runs already", ctx.config_path().display());
        let next = format!("`tally status{}` says how it is", ctx.config_option());
        return Err(Failure::new(Exit::Failed, "running", what)
            .next(next)
            .into());
    }
    Context::genesis(&dir)?;
    let passphrase = ctx.passphrase(args.passphrase_file.as_deref(), &config)?;
    start_log(&config)?;
    let until_stdin_closes = args.until_stdin_closes;
    let mut start = Start::default();
    loop {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let stop = async move {
            tokio::select! {
                () = asked_to_stop() => {}
                () = stdin_closed(), if until_stdin_closes => {}
            }
        };
        let ended = runtime.block_on(run_until(ctx.config_path(), &passphrase, start, stop));
        // With the runtime goes everything that the node holds, its files and ports too.
        runtime.shutdown_timeout(SHUTDOWN);
        match ended {
            Ok(Ended::Asked) => return Ok(()),
            Ok(Ended::RoomAgain) => {
                tracing::info!("there is room on the disk again; starting anew");
            }
            Ok(Ended::MayVote) => {
                tracing::info!("this node has followed long enough and votes again; starting anew");
            }
            Ok(Ended::LogSetAside) => {
                tracing::info!("starting anew, without a vote for a while");
            }
            Ok(Ended::NewKeys) => {
                tracing::info!("starting anew with the keys that the ledger names");
                start.other_transport = false;
            }
            Ok(Ended::OtherTransport) => start.other_transport = !start.other_transport,
            Err(e) => {
                let next = "the log above says more; a node that halted must not be started again before its cause is known";
                return Err(anyhow!(e)
                    .context(Failure::new(Exit::Failed, "up", "the node stopped").next(next)));
            }
        }
    }
}

/// Resolves at the end of standard input. A thread of its own reads it, so that a read that never ends does not hold the node.
async fn stdin_closed() {
    let (closed, heard) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(closed);
    });
    let _ = heard.await;
}

/// What the engine tells of every vote, its network of every dial that fails, and the store of its files, is for whoever looks into
/// these. The node itself tells what of it an operator has to know: connections, quorum, halts.
const ENGINE_QUIET: &str = "arc_malachitebft=warn,arc_malachitebft_network=off,arc_malachitebft_discovery=off,\
                            libp2p=warn,fjall=warn,lsm_tree=warn";

/// The filter that `log.level` asks for. `debug` and `trace` alone show everything, `error` and `off` no more than they say; what a filter
/// says of the engine's modules holds.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    match level.trim().to_ascii_lowercase().as_str() {
        "debug" | "trace" | "error" | "off" => EnvFilter::try_new(level),
        _ => EnvFilter::try_new(format!("{ENGINE_QUIET},{level}")),
    }
}

/// The log of the process, on standard error, as the configuration says.
fn start_log(config: &Config) -> Result<()> {
    let filter = filter(&config.log.level)
        .with_context(|| format!("log.level = {:?} is no filter", config.log.level))?;
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // Colours are for eyes, not for files and journals.
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // Told on standard error too, by a macro that panics if that fails: a log on a full disk must not end the node.
        .log_internal_errors(false)
        .with_env_filter(filter);
    match config.log.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    }
    .map_err(|e| anyhow!(e).context("the log cannot be set up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_quiet_unless_it_is_asked() {
        let shown = |level: &str| filter(level).unwrap().to_string();
        for level in ["info", "warn", "info,tally_node::chain=debug"] {
            let shown = shown(level);
            assert!(shown.contains("arc_malachitebft_network=off"), "{shown}");
            assert!(shown.contains("arc_malachitebft=warn"), "{shown}");
        }
        assert!(!shown("debug").contains("malachite"));
        let asked = shown("info,arc_malachitebft_network=debug");
        assert!(asked.contains("arc_malachitebft_network=debug"), "{asked}");
        assert!(!asked.contains("arc_malachitebft_network=off"), "{asked}");
        assert!(filter("tally_node=loud").is_err());
    }
}
