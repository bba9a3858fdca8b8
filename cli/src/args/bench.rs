//! Arguments of the benches.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `bench ...`
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Match two files between two processes over the product's own stream, and compare with a plain join
    Psi(BenchPsiArgs),
    /// Issue unit codes by the path of `codes issue`, up to the printer's file on disk
    Issue(BenchIssueArgs),
    /// Scan codes over HTTP at a node, and load a server that does nothing in the same way
    Scan(BenchScanArgs),
    /// Submit records to several validators, as fast as they take them and then at a fixed rate
    Ledger(BenchLedgerArgs),
    /// The server that does nothing, which `bench scan` starts
    #[command(hide = true)]
    EmptyHandler,
    /// One party of `bench psi`, which starts it and tells it what to do
    #[command(hide = true)]
    PsiParty,
}

/// What a bench computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchComputation {
    /// The intersection itself
    List,
    /// How many are in both, without noise
    Cardinality,
}

/// Arguments of `bench psi`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tally bench psi --n 65536\n  tally bench psi --engine vole --files brand.csv media.csv --out matches.csv --json\n\n\
    Files have a header line with a column `phone` or `id`, or one column alone; values are taken as they are. Time is from the start of the two processes to\n\
    both exits, bytes are counted at the socket, CPU and memory are those that each process reports of itself."
)]
pub(crate) struct BenchPsiArgs {
    /// Generate two sets of this many phone numbers, half of them common
    #[arg(long, value_name = "N", conflicts_with = "files", required_unless_present = "files",
        value_parser = clap::value_parser!(u64).range(1..=1 << 28))]
    pub(crate) n: Option<u64>,
    /// Match these two CSV files instead
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub(crate) files: Option<Vec<PathBuf>>,
    /// Write the matches of a list to this CSV file
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The engine: dh, or for a list also vole
    #[arg(long, default_value = "dh")]
    pub(crate) engine: String,
    /// With the engine vole: check that the peer follows the protocol (vole-rr22-malicious-v1)
    #[arg(long)]
    pub(crate) malicious: bool,
    /// What to compute
    #[arg(long, value_enum, default_value = "list")]
    pub(crate) computation: BenchComputation,
}

/// Arguments of `bench issue`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tally bench issue --count 10000000 --json\n\n\
    Everything is made but the ledger's one record: keys, serials, tags, claim codes, both trees, the CSV file and the sealed batch,\n\
    all of it synced to disk. What was made is removed at the end."
)]
pub(crate) struct BenchIssueArgs {
    /// How many codes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    pub(crate) count: u64,
    /// A folder on the disk that is to be measured. Left out: the system's folder for temporary files
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Arguments of `bench scan`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tally bench scan --json\n\n\
    Founds a network of one validator in a temporary folder, issues and releases codes, and scans each once. Every answer has a\n\
    receipt, so its scan is on disk. The load comes from this process, the node is another one; both use the same cores.")]
pub(crate) struct BenchScanArgs {
    /// How many scans
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = number(1, 10_000_000))]
    pub(crate) scans: usize,
    /// How many connections; a node takes at most 256 from one address
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = number(1, 256))]
    pub(crate) connections: usize,
}

/// Arguments of `bench ledger`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tally bench ledger --validators 4 --json\n\n\
    Founds a network of validators in a temporary folder and runs them as processes. Records have 250 bytes and are signed\n\
    beforehand, each member's with its own key and at its own node; every node verifies every record."
)]
pub(crate) struct BenchLedgerArgs {
    /// How many validators
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = number(1, 16))]
    pub(crate) validators: usize,
    /// How many records as fast as the nodes take them
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = number(100, 10_000_000))]
    pub(crate) records: usize,
    /// How many records a second at the fixed rate
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = number(50, 100_000))]
    pub(crate) rate: usize,
    /// For how many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = number(1, 3_600))]
    pub(crate) seconds: usize,
}

/// Reads a whole number within bounds.
fn number(min: usize, max: usize) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| {
        text.parse()
            .ok()
            .filter(|n| (min..=max).contains(n))
            .ok_or_else(|| format!("expected a whole number from {min} to {max}"))
    }
}
