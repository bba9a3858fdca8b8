//! One file for each group of commands.

mod agreement;
mod audience;
pub(crate) mod audit;
mod backup;
mod bench;
mod change;
mod codes;
mod completions;
mod config;
mod dealer;
mod event;
mod export;
mod genesis;
mod init;
mod join;
mod keys;
mod ledger;
mod matches;
mod product;
mod proof;
mod reindex;
mod scan;
mod scans;
mod snapshot;
mod status;
mod up;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tally_contracts::GenesisFile;
use tally_node::ceremony;
use tally_node::config::{CONFIG_FILE, Config, ConfigError, DataDir};
use tally_node::passphrase::{Passphrase, Purpose, find_passphrase};

use crate::admin_client::{AdminClient, is_running};
use crate::args::{Cli, Command, Common};
use crate::exit::{Exit, Failure};
use crate::progress::{Bar, Progress};
use crate::{output, quickstart};

/// How long each word from a node is waited for, in seconds.
const TIMEOUT_S: u64 = 120;
/// The same while another member is to agree to a match.
const MATCH_TIMEOUT_S: u64 = 900;

/// Runs one command line.
pub(crate) fn run(cli: Cli) -> Result<()> {
    let mut common = cli.common;
    // A node's folder is named as well as its file.
    if common.config.is_dir() {
        common.config.push(CONFIG_FILE);
    }
    let ctx = Context { common };
    if !matches!(cli.command, Command::Up(_)) {
        log_to_stderr();
    }
    match cli.command {
        Command::Quickstart(args) => quickstart::run(&quickstart::Args {
            json: ctx.common.json,
            ..args
        }),
        Command::Init(args) => init::run(&ctx, &args),
        Command::Genesis(command) => genesis::run(&ctx, &command),
        Command::Join(args) => join::run(&ctx, &args),
        Command::Config(command) => config::run(&ctx, &command),
        Command::Up(args) => up::run(&ctx, &args),
        Command::Status => status::run(&ctx),
        Command::Product(command) => product::run(&ctx, &command),
        Command::Codes(command) => codes::run(&ctx, &command),
        Command::Scan(args) => scan::run(&ctx, &args),
        Command::Event(args) => event::run(&ctx, &args),
        Command::Dealer(command) => dealer::run(&ctx, &command),
        Command::Scans(command) => scans::run(&ctx, &command),
        Command::Audience(command) => audience::run(&ctx, &command),
        Command::Agreement(command) => agreement::run(&ctx, &command),
        Command::Match(command) => matches::run(&ctx, &command),
        Command::Psi(command) => worker::run(&ctx, &command),
        Command::Change(command) => change::run(&ctx, &command),
        Command::Keys(command) => keys::run(&ctx, &command),
        Command::Ledger(command) => ledger::run(&ctx, &command),
        Command::Proof(args) => proof::run(&ctx, &args),
        Command::Audit(command) => audit::run(&ctx, &command),
        Command::Export(command) => export::run(&ctx, &command),
        Command::Reindex => reindex::run(&ctx),
        Command::Snapshot(command) => snapshot::run(&ctx, &command),
        Command::Backup(args) => backup::back_up(&ctx, &args),
        Command::Restore(args) => backup::bring_back(&ctx, &args),
        Command::Bench(command) => bench::run(&ctx, &command),
        Command::Completions { shell } => {
            completions::run(shell);
            Ok(())
        }
    }
}

/// Warnings of the libraries; a node's log is set up by its configuration instead.
fn log_to_stderr() {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .without_time()
        .with_target(false)
        .try_init();
}

/// What commands share.
struct Context {
    common: Common,
}

impl Context {
    /// How long each word from a node is waited for.
    fn timeout(&self) -> Duration {
        match self.common.timeout {
            // For ever, nearly.
            Some(0) => Duration::from_secs(u32::MAX.into()),
            given => Duration::from_secs(given.unwrap_or(TIMEOUT_S)),
        }
    }

    /// The configuration file named by `--config`.
    fn config_path(&self) -> &Path {
        &self.common.config
    }

    /// The configuration and its data directory.
    fn config(&self) -> Result<(Config, DataDir)> {
        let path = self.config_path();
        let config = Config::load(path).map_err(|e| {
            let failure = match &e {
                ConfigError::File(file) if file.is_missing() => {
                    Failure::new(Exit::Failed, "config", format!("there is no configuration file {}", path.display()))
                        .next("name it by --config FILE or TALLY_CONFIG; `tally init` makes a new node, `tally quickstart` a whole network")
                }
                _ => Failure::new(Exit::Failed, "config", "the configuration cannot be used")
                    .next("`tally init` writes every key with its default into a new tally.toml"),
            };
            anyhow::Error::new(e).context(failure)
        })?;
        let dir = config.data_dir(path);
        Ok((config, dir))
    }

    /// The passphrase of existing keys.
    fn passphrase(&self, flag: Option<&Path>, config: &Config) -> Result<Passphrase> {
        let named = config.passphrase_file(self.config_path());
        find_passphrase(flag, named.as_deref(), Purpose::Open).map_err(|e| {
            anyhow::Error::new(e).context(
                Failure::new(Exit::Failed, "passphrase", "the keys cannot be opened").next(
                    "write the passphrase into a file of mode 600 and name it by --passphrase-file",
                ),
            )
        })
    }

    /// The genesis that the data directory joined.
    fn genesis(dir: &DataDir) -> Result<GenesisFile> {
        ceremony::load_genesis(dir).map_err(|e| {
            anyhow::Error::new(e).context(
                Failure::new(
                    Exit::Failed,
                    "genesis",
                    "this node belongs to no network yet",
                )
                .next("`tally join FILE --network ID`, with the genesis that every founder has signed"),
            )
        })
    }

    /// Asks the node, showing its progress.
    fn ask(&self, op: &str, args: &Value) -> Result<Value> {
        self.ask_within(op, args, TIMEOUT_S)
    }

    /// As [`Self::ask`], for a job whose next word may be far off: `seconds` hold if the command line says nothing.
    fn ask_within(&self, op: &str, args: &Value, seconds: u64) -> Result<Value> {
        let (_, dir) = self.config()?;
        let timeout = Duration::from_secs(self.common.timeout.unwrap_or(seconds));
        let mut bar = Bar::new(self.common.json);
        AdminClient::connect(dir.root(), self.config_path(), timeout)?.call(
            op,
            args,
            &mut |news: &Progress| bar.update(news),
        )
    }

    /// Refuses to open files that a running node holds.
    fn stopped(&self, dir: &DataDir) -> Result<()> {
        if is_running(dir.root()) {
            let what = format!(
                "the node of {} is running and holds its ledger",
                self.config_path().display()
            );
            return Err(Failure::new(Exit::Failed, "running", what)
                .next("stop it (Ctrl-C, or `systemctl stop`), run this again, then start it")
                .into());
        }
        Ok(())
    }

    /// Prints an answer, and for people what to do next.
    fn show(&self, value: &Value, next: Option<&str>) {
        self.print(value, next, output::render);
    }

    /// As [`Self::show`]; people see these keys alone, those that are known.
    fn show_keys(&self, value: &Value, keys: &[&str], next: Option<&str>) {
        self.print(value, next, |value| output::render_keys(value, keys));
    }

    fn print(&self, value: &Value, next: Option<&str>, render: impl Fn(&Value) -> String) {
        if self.common.json {
            output::value(value);
            return;
        }
        let mut text = render(value);
        if let Some(next) = next {
            text.push_str(&format!("next: {next}\n"));
        }
        output::text(&text);
    }

    /// Prints a list; `none` is said if it is empty.
    fn list(&self, value: &Value, none: &str) {
        let empty = value.as_array().is_some_and(Vec::is_empty);
        if empty && !self.common.json {
            output::text(&format!("{none}\n"));
        } else {
            self.show(value, None);
        }
    }

    /// As [`Self::list`]; people see these columns alone, in this order.
    fn table(&self, value: &Value, columns: &[&str], none: &str) {
        if self.common.json || value.as_array().is_none_or(Vec::is_empty) {
            self.list(value, none);
        } else {
            output::text(&output::render_table(value, columns));
        }
    }

    /// ` --config FILE` for a command that is suggested, if it needs one.
    fn config_option(&self) -> String {
        let path = self.config_path();
        if path == Path::new("tally.toml") {
            String::new()
        } else {
            format!(" --config {}", path.display())
        }
    }
}

/// A path that means the same in the node's working directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| anyhow::anyhow!(e).context(format!("{} names no file", path.display())))
}

/// Text at a key of an answer, or nothing.
fn text_at<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tally_contracts::NetworkKind;
    use tally_node::keys::KeyStore;

    use super::*;

    /// The genesis document of a network of one, founded by the commands themselves.
    pub(super) fn genesis() -> Vec<u8> {
        let tmp = tempfile::tempdir().unwrap();
        let pass = Passphrase::new("correct horse".into()).unwrap();
        let mut config = Config::new("acme", tally_contracts::Roles::BRAND);
        config.consensus.listen = "/ip4/127.0.0.1/tcp/7000".into();
        config.swarm.listen = "/ip4/127.0.0.1/tcp/7001".into();
        let rng = &mut rand::rngs::OsRng;
        let made = ceremony::init(&tmp.path().join("acme"), &config, &pass, 10, rng).unwrap();
        let cards = [made.card.clone()];
        let mut file = ceremony::draw_up(
            "t",
            NetworkKind::Test,
            1,
            tally_contracts::Rules::default(),
            &cards,
            rng,
        )
        .unwrap();
        let admin = KeyStore::new(made.dir.keys()).open_admin(&pass).unwrap();
        ceremony::sign(&mut file, &made.card, &admin, None).unwrap();
        file.document().to_vec()
    }
}
