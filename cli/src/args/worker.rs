//! Arguments of `psi`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `psi`
#[derive(Debug, Subcommand)]
pub(crate) enum PsiCommand {
    /// Work for this member's node: match buckets of its large lists until Ctrl-C or SIGTERM
    Worker(WorkerArgs),
}

/// Arguments of `psi worker`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n\
    \x20 tally psi worker --database postgres://tally@db/tally --key-file worker-key --store file:///srv/tally-shared\n\n\
    The node's tally.toml names the same database, key and store under [workers]; the queue tells the worker where \
    the node is. It needs no data directory and holds none of the node's keys. Start one on each machine that is to \
    help: it uses all cores. A worker that dies costs what it had done of one bucket.")]
pub(crate) struct WorkerArgs {
    /// The database with the queue, without a password
    #[arg(long, value_name = "URL")]
    pub(crate) database: String,
    /// The file whose first line is the database's password
    #[arg(long, value_name = "FILE")]
    pub(crate) database_password_file: Option<PathBuf>,
    /// The file whose first line is the worker key, 64 hex digits, as at the node
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// The shared store: file:///FOLDER, or s3://BUCKET[/PREFIX] with AWS_ENDPOINT and so on in the environment
    #[arg(long, value_name = "URL")]
    pub(crate) store: String,
    /// What the queue calls this worker; left out: the process ID
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Hold a bucket for so long without a sign of life
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub(crate) lease: u64,
    /// A folder for blinded elements that do not fit into memory; left out: the system's for temporary files
    #[arg(long, value_name = "DIR")]
    pub(crate) spill: Option<PathBuf>,
}
