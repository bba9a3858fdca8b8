//! Every command, option and help text, declared once: help and completions come from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod bench;
mod codes;
mod founding;
mod governance;
mod keeping;
mod matching;
mod proving;
mod snapshot;
mod worker;

pub(crate) use bench::{
    BenchAttributionArgs, BenchCommand, BenchComputation, BenchIssueArgs, BenchLedgerArgs,
    BenchPsiArgs, BenchScanArgs,
};
pub(crate) use codes::{
    CodesCommand, DealerCommand, EventArgs, ExportArgs, IssueArgs, LabelsArgs, PlaceArgs,
    ProductCommand, RowArgs, ScanArgs, ScansCommand, StatsArgs, VerifyArgs,
};
pub(crate) use founding::{
    ConfigCommand, GenesisCommand, GenesisNewArgs, GenesisSignArgs, InitArgs, JoinArgs, Kind, Role,
    UpArgs,
};
pub(crate) use governance::{ChangeCommand, KeysCommand, OneNode, ProposeCommand, Proposing};
pub(crate) use keeping::{BackupArgs, RestoreArgs};
pub(crate) use matching::{
    AgreementCommand, AudienceCommand, ImportArgs, MatchCommand, Noise, ProposeArgs, RequestArgs,
    SumArgs, default_profile,
};
pub(crate) use proving::{
    AuditArgs, AuditCommand, DiffArgs, ExportCommand, LedgerCommand, ProofArgs, ProofCommand,
    ProofFiles, ProofFrom, ReplayArgs, StateCommand,
};

pub(crate) use snapshot::{SnapshotCommand, SnapshotRestoreArgs};
pub(crate) use worker::{PsiCommand, WorkerArgs};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by a rule, or failed; the reason is printed
  2  the command line is wrong
  3  the node is not running
  4  a proof, a policy or a code did not verify
  5  no answer in time; what was asked for may still happen

With --json every command prints one JSON value to standard output, errors too:
  {\"error\":{\"code\":\"...\",\"message\":\"...\",\"next\":\"...\"},\"exit\":1}";

const EXAMPLES: &str = "\
Examples:
  tally quickstart                      four nodes on this machine, codes, scans, a match and a proof
  tally init --name acme --role brand   the first step of a real node; `tally init --help` tells the others
  tally status                          is the node well, and what to do if not
";

/// Codes that prove a product genuine, and audiences that match without being shown.
///
/// Each member of a network runs one node with `tally up`. The other commands ask that node over a socket in its data
/// directory, so they run on the same machine and as the same user; only `scan` speaks HTTP, `psi worker` works anywhere, and `audit`, `export` and `reindex`
/// read files.
#[derive(Debug, Parser)]
#[command(
    name = "tally",
    version,
    max_term_width = 110,
    arg_required_else_help = true
)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// The node's configuration file; the data directory is named in it
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TALLY_CONFIG",
        default_value = "tally.toml"
    )]
    pub(crate) config: PathBuf,
    /// Print one JSON value instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Wait this long for each word from the node; 0 waits for ever. Left out: 120, for a match 900
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole network on this machine: four nodes, codes, scans, a match, a proof
    ///
    /// Starts a brand, a platform, a media company and an auditor as separate processes, takes them through the steps of a real
    /// founding, does the main jobs on sample data, stops one node and starts it again, and prints a report.
    #[command(
        after_help = "Examples:\n  tally quickstart --exit\n  tally quickstart --dir ./net --data ./my-csv-files"
    )]
    Quickstart(crate::quickstart::Args),

    /// Make a node's data directory: keys, tally.toml, member card
    Init(InitArgs),
    /// Draw up, sign and read the document that founds a network
    #[command(subcommand)]
    Genesis(GenesisCommand),
    /// Take over the genesis that every founder has signed
    Join(JoinArgs),
    /// Check the configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run the node until Ctrl-C or SIGTERM
    Up(UpArgs),
    /// Say how the node is, and what to do if something is wrong
    #[command(
        after_help = "Examples:\n  tally status\n  tally status --json --config brand/tally.toml"
    )]
    Status,

    /// Register and list products, the things that codes are issued for
    #[command(subcommand)]
    Product(ProductCommand),
    /// Issue, activate, recall and verify unit codes
    #[command(subcommand)]
    Codes(CodesCommand),
    /// Scan one code over HTTP, as a phone or a shop does
    Scan(ScanArgs),
    /// Say what became of units, as a dealer or shop with a key: they came in, or were sold
    Event(EventArgs),
    /// Name the dealers who may say so
    #[command(subcommand)]
    Dealer(DealerCommand),
    /// Look at all scans together
    #[command(subcommand)]
    Scans(ScansCommand),

    /// Bring in sets of people, from CSV files
    #[command(subcommand)]
    Audience(AudienceCommand),
    /// Propose, accept and end agreements: who may ask what of whose data
    #[command(subcommand)]
    Agreement(AgreementCommand),
    /// Match an audience with another member's, under an agreement
    #[command(subcommand)]
    Match(MatchCommand),
    /// Help this member's node with large matches
    #[command(subcommand)]
    Psi(PsiCommand),

    /// Propose changes to the network and vote on them: members, nodes, keys, power, rules
    #[command(subcommand)]
    Change(ChangeCommand),
    /// Make new keys for this node and its administrator
    #[command(subcommand)]
    Keys(KeysCommand),

    /// Look into the ledger
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Write the proof of a code, a scan, a match or of the state, for anyone to verify offline
    Proof(ProofArgs),
    /// Verify what somebody hands you, without a node of your own
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Write the ledger's tiles as files, or the page that verifies proofs in a browser
    #[command(subcommand)]
    Export(ExportCommand),
    /// Rebuild everything that follows from the blocks: state, tiles, indexes
    ///
    /// The blocks stay as they are. Stop the node first; it holds the ledger.
    #[command(after_help = "Example:\n  tally reindex --config acme/tally.toml")]
    Reindex,
    /// Make, look at and begin from snapshots of the ledger's state
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Write what cannot be made again into one encrypted file; the node may run
    Backup(BackupArgs),
    /// Make a node's data directory from a backup
    Restore(RestoreArgs),

    /// Measure this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  tally completions bash > /etc/bash_completion.d/tally")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_help() {
        fn walk(command: &clap::Command) {
            assert!(
                command.get_about().is_some(),
                "{} says nothing",
                command.get_name()
            );
            for arg in command.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{} {} says nothing",
                    command.get_name(),
                    arg.get_id()
                );
            }
            for below in command.get_subcommands() {
                walk(below);
            }
        }
        walk(&Cli::command());
    }

    #[test]
    fn help_breaks_no_line_by_hand() {
        fn walk(command: &clap::Command) {
            for help in [command.get_after_help(), command.get_after_long_help()] {
                let help = help.map(ToString::to_string).unwrap_or_default();
                let lines: Vec<&str> = help.lines().collect();
                for pair in lines.windows(2) {
                    // The terminal breaks paragraphs where it ends, so a break of ours leaves half a line.
                    let goes_on = |line: &str| line.starts_with(|c: char| c.is_lowercase());
                    assert!(
                        pair[0].is_empty() || !goes_on(pair[1]),
                        "{}: {pair:?}",
                        command.get_name()
                    );
                }
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    /// Command lines of a page: what follows `tally` in code, up to where the code or the shell's command ends.
    fn command_lines(page: &str) -> Vec<String> {
        // A line that goes on is one line, in a block and in a sentence.
        let page = page.replace("\\\n", " ");
        let mut out = Vec::new();
        let mut block = false;
        let mut text = String::new();
        for line in page.lines() {
            if line.trim_start().starts_with("```") {
                block = !block;
            } else if block {
                let line = line.trim_start().trim_start_matches("$ ");
                let line = line
                    .strip_prefix("cargo run --release -- ")
                    .map_or_else(|| line.to_owned(), |command| format!("tally {command}"));
                out.extend(line.split(['|', '#']).map(str::trim).map(ToOwned::to_owned));
            } else {
                text.push_str(line);
                text.push('\n');
            }
        }
        for paragraph in text.split("\n\n") {
            let code = paragraph.split('`').skip(1).step_by(2);
            out.extend(code.map(|c| c.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        out.retain(|line| line.starts_with("tally "));
        out
    }

    #[test]
    fn what_the_pages_say_to_type_exists() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
        for file in std::fs::read_dir(root.join("docs")).unwrap() {
            pages.push(file.unwrap().path());
        }
        pages.retain(|page| page.extension().is_some_and(|e| e == "md"));
        let tally = Cli::command();
        let mut seen = 0;
        for page in pages {
            let text = std::fs::read_to_string(&page).unwrap();
            for line in command_lines(&text) {
                let (mut command, mut options) = (&tally, Vec::new());
                let mut path = true;
                for word in line.split_whitespace().skip(1) {
                    let word = word.trim_end_matches([',', '.', ';', ':']);
                    if let Some(option) = word.strip_prefix("--") {
                        options.push(
                            option
                                .split(['=', '|'])
                                .next()
                                .unwrap_or_default()
                                .to_owned(),
                        );
                        path = false;
                    } else if path {
                        match command.find_subcommand(word) {
                            Some(below) => command = below,
                            // A place for a word, or the first argument.
                            None => path = false,
                        }
                    }
                }
                let name = line.split_whitespace().nth(1).unwrap_or_default();
                let named = name.starts_with(|c: char| c.is_ascii_lowercase());
                assert!(
                    !named || !std::ptr::eq(command, &tally),
                    "{}: no command {line:?}",
                    page.display()
                );
                let known = |option: &str| {
                    ["help", "version", ""].contains(&option)
                        || [command, &tally]
                            .iter()
                            .any(|c| c.get_arguments().any(|arg| arg.get_long() == Some(option)))
                };
                for option in options.iter().filter(|_| named) {
                    assert!(
                        known(option),
                        "{}: no --{option} in {line:?}",
                        page.display()
                    );
                }
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen} command lines were found");
    }

    #[test]
    fn common_options_stand_before_and_after_the_command() {
        for line in [["tally", "--json", "status"], ["tally", "status", "--json"]] {
            assert!(Cli::try_parse_from(line).is_ok_and(|c| c.common.json));
        }
        assert!(Cli::try_parse_from(["tally", "status", "--unknown"]).is_err());
    }
}
