//! Arguments around the ledger, proofs and exports.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tally_contracts::ids::NetworkId;
use tally_evidence::UnitCode;

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
    /// Write the proof that a record stands in the ledger, for anyone to verify offline
    #[command(
        after_help = "Example:\n  tally ledger proof 77b2... --out record.tlog-proof --policy-out network.policy"
    )]
    Proof {
        /// The record ID
        record: String,
        #[command(flatten)]
        files: ProofFiles,
    },
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
    after_help = "Example:\n  tally proof 09521234543213/0Q2B... --out code.tlog-proof --policy-out network.policy\n\n\
    The proof holds all that an auditor needs beside the network ID: `tally audit verify` needs no node. It says what the ledger\n\
    said of the batch when it was made, and of nothing later: take a new one after a recall. It opens this one code, and shows\n\
    nothing of its claim code or of other codes."
)]
pub(crate) struct ProofArgs {
    /// The code, issued by this member: the link of its QR code, or GTIN/SERIAL
    pub(crate) code: UnitCode,
    #[command(flatten)]
    pub(crate) files: ProofFiles,
}

/// Where a proof goes.
#[derive(Debug, Args)]
pub(crate) struct ProofFiles {
    /// The proof to write, a C2SP tlog-proof
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Write the network's policy too, a C2SP tlog-policy; it is the same for all proofs of a network
    #[arg(long, value_name = "FILE")]
    pub(crate) policy_out: Option<PathBuf>,
}

/// `audit ...`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify a proof of a code or of a record, offline
    ///
    /// Needs no node, no configuration and no data directory: only the two files, and the network ID, which must come from a source
    /// that you trust, such as each founder apart. The ID is the hash of the genesis document in the proof; the genesis fixes the
    /// validators, they fix the policy byte for byte, and more than two thirds of them must have cosigned.
    Verify(AuditArgs),
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tally audit verify --network 5b1e... --policy network.policy --proof code.tlog-proof\n  \
    tally audit verify --network 5b1e... --policy network.policy --proof code.tlog-proof --code 09521234543213/0Q2B...\n\n\
    Exit code 0: all of it verified, and a code's batch is released and not recalled as of the time that is printed.\n\
    Exit code 4: it did not; error.code says why:\n  \
      recalled           verified, and the batch is recalled\n  \
      not_released       verified, and the batch is issued but not released for sale\n  \
      other_network      the proof is of a network with another ID\n  \
      other_code         the proof is not of the code named by --code\n  \
      not_in_batch       the code is not one of the batch that was issued\n  \
      quorum             too few validators cosigned the checkpoint\n  \
      policy_short       the policy would take less than two thirds of the validators\n  \
      policy_differs, policy_malformed   the policy is not this network's\n  \
      checkpoint, unknown_signature, inclusion, state, record, signer, genesis, contradiction   a part is not right\n  \
      malformed, no_extra   not a proof of ours\n\
    Exit code 1: a file cannot be read; 2: the command line is wrong."
)]
pub(crate) struct AuditArgs {
    /// The network ID, 64 hex digits
    #[arg(long, value_name = "ID")]
    pub(crate) network: NetworkId,
    /// The network's policy file
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// The proof file
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: PathBuf,
    /// The code that the proof must be of: the link of its QR code, or GTIN/SERIAL
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<UnitCode>,
    /// Write the record's entry, if all verified: with it any tool that knows C2SP tlog-proof can check the inclusion
    #[arg(long, value_name = "FILE")]
    pub(crate) entry_out: Option<PathBuf>,
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
