//! Arguments of `backup` and `restore`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally backup --new-identity backup.key        on another machine; prints the recipient age1...\n\
    \x20 tally backup --to age1... --out acme.tally-backup\n\
    \x20 tally backup --passphrase-file backup-pass --out acme.tally-backup\n\n\
    Keys, codes, scans, audiences, matches, configuration, genesis and blocks. Never `consensus/`: an old copy of a \
    validator's votes makes it vote twice. The file is an age file with a tar archive inside, so the `age` tool \
    opens it too.")]
pub(crate) struct BackupArgs {
    /// The file to write; it must not be there yet
    #[arg(long, value_name = "FILE", required_unless_present = "new_identity")]
    pub(crate) out: Option<PathBuf>,
    /// Encrypt to this age recipient; may be given more than once
    #[arg(long, value_name = "age1...", conflicts_with = "passphrase_file")]
    pub(crate) to: Vec<String>,
    /// Encrypt with the passphrase in the first line of this file; take another than the keys have
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Leave out the blocks, which the other members have as well
    #[arg(long)]
    pub(crate) without_blocks: bool,
    /// Instead of a backup, write a new age identity into this file and print its recipient
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "to", "passphrase_file", "without_blocks"])]
    pub(crate) new_identity: Option<PathBuf>,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally restore acme.tally-backup --identity backup.key --dir acme\n\n\
    State and tiles are made again from the blocks. The node then follows the others without voting until they have \
    decided a block that was proposed after its start, about twice the network's clock skew later; it votes again by \
    itself. Never run the old node beside it.")]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) file: PathBuf,
    /// The data directory to make; it must be empty or not there
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The age key file that opens the backup
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(crate) identity: Option<PathBuf>,
    /// The file whose first line is the passphrase that opens the backup; without both, the terminal is asked
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}
