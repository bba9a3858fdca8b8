//! Arguments around the ledger, proofs and exports.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `ledger ...`
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Show one record: who signed it, what it says, where it stands
    #[command(after_help = "Example:\n  tally ledger show 77b2...")]
    Show {
        /// The record ID
        record: String,
    },
    /// Show the last block's height, tree and state roots
    #[command(
        after_help = "Examples:\n  tally ledger head\n  tally ledger head --at-height 120   compare state roots of two nodes"
    )]
    Head {
        /// As of this height instead
        #[arg(long, value_name = "HEIGHT")]
        at_height: Option<u64>,
    },
    /// Print the newest checkpoint that a quorum cosigned
    Checkpoint,
    /// Submit a record that was signed elsewhere, and wait until it is committed
    #[command(after_help = "Example:\n  tally ledger submit record.bin")]
    Submit {
        /// File with the signed record's bytes
        file: PathBuf,
    },
}

/// Arguments of `proof`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tally proof http://127.0.0.1:26680/01/09521234543213/21/ABC... --out code.tlog-proof"
)]
pub(crate) struct ProofArgs {
    /// The code: the link of its QR code, or GTIN/SERIAL
    pub(crate) code: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// `export ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ExportCommand {
    /// Write tiles, entry bundles, checkpoint, keys and policy of the ledger
    ///
    /// The layout is that of C2SP tlog-tiles, so any static file server can serve it and any client of that format can read it.
    /// Files: checkpoint, tile/..., log.vkey, validators.vkeys, policy. Stop the node first; it holds the ledger.
    #[command(after_help = "Example:\n  tally export tiles --config acme/tally.toml --out ./log")]
    Tiles {
        /// The folder to write to, new or empty
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}
