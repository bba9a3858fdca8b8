//! Arguments of `snapshot`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `snapshot ...`
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Have the running node write a snapshot at its last block
    ///
    /// Without --out it lies among the node's own, and newcomers fetch it over HTTP. Blocks go on meanwhile.
    #[command(
        after_help = "Examples:\n  tally snapshot save\n  tally snapshot save --out ./snapshot"
    )]
    Save {
        /// Write it to this folder, new or empty, instead of the node's own
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Show of which block a snapshot says to be; nothing of it is verified
    #[command(after_help = "Example:\n  tally snapshot show --from http://brand.example:26680")]
    Show {
        /// A folder, or the URL of a node
        #[arg(long, value_name = "DIR|URL")]
        from: String,
    },
    /// Begin this node's ledger at a snapshot instead of the genesis
    Restore(SnapshotRestoreArgs),
}

/// Arguments of `snapshot restore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally snapshot restore --from http://brand.example:26680\n\
    \x20 tally snapshot restore --from ./snapshot --checkpoint theirs.checkpoint\n\n\
    Run it after `tally join` and before `tally up`; the ledger must be empty. What is believed follows from the \
    genesis: each set of validators signed the block that names the next, the last one signed the snapshot's block, \
    and all keys, values and hashes must give that block's roots. Keys of the past could sign another history if \
    more than two thirds of a set of then were stolen: compare the block's hash that is printed with a second \
    member's, or give a checkpoint that you have from elsewhere by --checkpoint. The node has no entries from before \
    the snapshot, and votes only when it has seen a new block.")]
pub(crate) struct SnapshotRestoreArgs {
    /// A folder that `tally snapshot save --out` wrote, or the URL of a node that serves one
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) from: String,
    /// A checkpoint of this network from somebody else, not newer than the snapshot: its history must be the snapshot's; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Vec<PathBuf>,
}
