//! Arguments of the benches.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `bench ...`
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Match two files between two processes over the product's own stream, and compare with a plain join
    Psi(BenchPsiArgs),
    /// Attribute conversions to channels by a private sum over two files, and compare with the plain reference
    Attribution(BenchAttributionArgs),
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
#[command(after_help = "Examples:\n\
    \x20 tally bench psi --n 65536\n\
    \x20 tally bench psi --engine vole --files brand.csv media.csv --out matches.csv --json\n\n\
    Files have a header line with a column `phone` or `id`, or one column alone, which needs no header line if it \
    holds hashes of 64 hexadecimal characters. Those match in either case, other values as they are. Time is from \
    the start of the two processes to both exits, bytes are counted at the socket, CPU and memory are those that \
    each process reports of itself.\n\n\
    With --workers the network is founded in a temporary folder, and each run has an agreement of its own. The \
    database may be empty or left from another bench; that of a real member is refused, since it has another worker \
    key. On Debian: apt-get install postgresql, then as its user: createuser --pwprompt tally; createdb --owner \
    tally tally_bench. Then:\n\
    \x20 tally bench psi --engine vole --n 4194304 --workers 1,4 --database postgres://tally@localhost/tally_bench \
    --database-password-file FILE --json")]
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
    /// Instead of two bare parties: nodes of two members, a list, and so many `tally psi worker` processes of the one that asks; several
    /// numbers are several runs, as in 1,4
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = number(1, 64), requires = "database",
        conflicts_with_all = ["files", "out", "computation"])]
    pub(crate) workers: Vec<usize>,
    /// With --workers: a PostgreSQL database for the queue, as postgres://USER@HOST:PORT/DATABASE
    #[arg(long, value_name = "URL", requires = "workers")]
    pub(crate) database: Option<String>,
    /// The file whose first line is the database's password
    #[arg(long, value_name = "FILE", requires = "database")]
    pub(crate) database_password_file: Option<PathBuf>,
    /// With --workers: items in a bucket, as match.bucket_items in tally.toml; N has to be more than two buckets, else nothing is cut
    #[arg(long, value_name = "ITEMS", requires = "workers", default_value_t = 1 << 20, value_parser = number(1 << 10, 1 << 20))]
    pub(crate) bucket_items: usize,
}

/// Arguments of `bench attribution`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n\
    \x20 tally bench attribution --touches media_touches.csv --conversions brand_conversions.csv --model linear \
    --epsilon 1\n\n\
    Touches have the columns phone, touched_at (POSIX seconds), channel, kind (view or click); conversions phone, \
    converted_at, value_cents, order_id. Both sides run in this process, without network, ledger or agreement: it \
    shows what the protocol costs and what its noise does, and is no way to match with another member.")]
pub(crate) struct BenchAttributionArgs {
    /// The media side's touches, a CSV file
    #[arg(long, value_name = "FILE")]
    pub(crate) touches: PathBuf,
    /// The brand side's conversions, a CSV file
    #[arg(long, value_name = "FILE")]
    pub(crate) conversions: PathBuf,
    /// first, last_touch, linear (over the latest 7 touches), or linear:N over at most N
    #[arg(long, value_name = "MODEL", default_value = "last_touch")]
    pub(crate) model: String,
    /// The profile of the phone numbers
    #[arg(long, value_name = "PROFILE", default_value = "e164")]
    pub(crate) profile: String,
    /// Noise of the sums and, once more, of the matches; left out: none
    #[arg(long, value_name = "EPSILON", value_parser = epsilon)]
    pub(crate) epsilon: Option<u32>,
    /// The largest value of a conversion in minor units; what is over it is cut
    #[arg(long, value_name = "VALUE", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1 << 39))]
    pub(crate) value_cap: u64,
    /// Conversions of one person that count, the first by time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) per_person: u32,
    /// Channels that fewer people met go to `other`
    #[arg(long, value_name = "PEOPLE", default_value_t = 50)]
    pub(crate) minimum: u32,
    /// Days within which a conversion may follow a click
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=90))]
    pub(crate) click_days: u32,
    /// Days within which it may follow a view
    #[arg(long, value_name = "DAYS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=90))]
    pub(crate) view_days: u32,
}

/// Arguments of `bench issue`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n\
    \x20 tally bench issue --count 10000000 --json\n\n\
    Everything is made but the ledger's one record: keys, serials, tags, claim codes, both trees, the CSV file of \
    outer codes, the encrypted one of claim codes and the sealed batch, all of it synced to disk. What was made is \
    removed at the end.")]
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
#[command(after_help = "Example:\n\
    \x20 tally bench scan --json\n\n\
    Founds a network of one validator in a temporary folder, issues and releases codes, and scans each once. Every \
    answer has a receipt, so its scan is on disk. The load comes from this process, the node is another one; both \
    use the same cores.")]
pub(crate) struct BenchScanArgs {
    /// How many scans
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = number(1, 10_000_000))]
    pub(crate) scans: usize,
    /// How many connections; a node takes at most 256 from one address
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = number(1, 256))]
    pub(crate) connections: usize,
    /// Go on until so many scans are stored, all taken over HTTP, then compare the last with the first, kill the node and start it again
    #[arg(long, value_name = "N", value_parser = number(1, 100_000_000))]
    pub(crate) stored: Option<usize>,
    /// Keep the index of codes in this PostgreSQL database, which must be empty: `postgres://USER@HOST/DATABASE`
    #[arg(long, value_name = "URL")]
    pub(crate) index: Option<String>,
    /// The file with the database's password
    #[arg(long, value_name = "FILE", requires = "index")]
    pub(crate) index_password_file: Option<PathBuf>,
}

/// Arguments of `bench ledger`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n\
    \x20 tally bench ledger --validators 4 --json\n\n\
    Founds a network of validators in a temporary folder and runs them as processes. Records have 250 bytes and are \
    signed beforehand, each member's with its own key and at its own node; every node verifies every record.\n\n\
    With --stored, for one validator, the ledger is filled before its node is started, by the library and with all \
    checks: some 15 GB of disk and 20 minutes of processor time for ten million records. Memory, restart and proofs \
    are measured there too.")]
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
    /// Start over a ledger that holds so many records; with `--validators 1` only
    #[arg(long, value_name = "N", value_parser = number(1, 100_000_000))]
    pub(crate) stored: Option<usize>,
    /// The folder for the nodes' data, on a disk with room. Left out: the system's folder for temporary files
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Reads an epsilon, into millionths.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn epsilon(text: &str) -> Result<u32, String> {
    match text.parse::<f64>() {
        Ok(e) if (0.000_001..=100.0).contains(&e) => Ok((e * 1e6).round() as u32),
        _ => Err("expected a number from 0.000001 to 100".to_owned()),
    }
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
