//! Arguments around the ledger, proofs and exports.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
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
    /// Drop old blocks and entry bundles now, instead of at the next look
    ///
    /// By the bounds given here, or without any by `ledger.retain_days` and `ledger.retain_entries`. Goes by whole block files; the last 256
    /// blocks stay. Hash tiles, roots, proofs and this member's own records stay: agree with the other members who keeps everything.
    #[command(
        after_help = "Examples:\n  tally ledger prune\n  tally ledger prune --retain-days 400 --retain-entries 1000000"
    )]
    Prune {
        /// Blocks that are younger stay, in days
        #[arg(long, value_name = "DAYS")]
        retain_days: Option<u64>,
        /// So many of the last entries stay
        #[arg(long, value_name = "N")]
        retain_entries: Option<u64>,
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
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n\
    \x20 tally proof 09521234543213/0Q2B... --out code.tlog-proof --policy-out network.policy\n\
    \x20 tally proof scan 5d1f... --out scan.tlog-proof\n\
    \x20 tally proof state batch 6e10... --out batch.tlog-proof\n\
    \x20 tally proof match 77b2... --out match.tlog-proof\n\n\
    The proof holds all that an auditor needs beside the network ID: `tally audit verify` needs no node. It says \
    what the ledger said of the batch when it was made, and of nothing later: take a new one after a recall. It \
    opens this one code, and shows nothing of its claim code or of other codes."
)]
pub(crate) struct ProofArgs {
    /// Of something else than a code
    #[command(subcommand)]
    pub(crate) of: Option<ProofCommand>,
    /// The code, issued by this member: the link of its QR code, or GTIN/SERIAL
    #[arg(required = true)]
    pub(crate) code: Option<UnitCode>,
    /// The proof to write, a C2SP tlog-proof
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) out: Option<PathBuf>,
    /// Write the network's policy too, a C2SP tlog-policy; it is the same for all proofs of a network
    #[arg(long, value_name = "FILE")]
    pub(crate) policy_out: Option<PathBuf>,
    /// Put into the proof what leads from there to the members of now, for a network whose members or keys have changed: the network
    /// ID is enough then, and no members file is needed
    #[arg(long, value_name = "WHERE", value_enum)]
    pub(crate) from: Option<ProofFrom>,
}

/// Where a proof begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProofFrom {
    /// At the genesis
    Genesis,
}

/// `proof ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ProofCommand {
    /// Prove one scan that this node took: what it answered, when, and that the ledger holds it
    ///
    /// The file has the node's signed receipt: scan ID, time, verdict, count, and the hash of the code. It has no pseudonym, no place,
    /// no claim code, and not the code itself.
    #[command(
        after_help = "Example:\n  tally proof scan 5d1f... --out scan.tlog-proof --policy-out network.policy"
    )]
    Scan {
        /// The scan ID, 32 hex digits; `tally scan` and the page of the check show it
        scan: String,
        #[command(flatten)]
        files: ProofFiles,
    },
    /// Prove what the ledger's state says: of a batch, a member, an agreement, or what is left of a budget
    State {
        /// What is asked
        #[command(subcommand)]
        of: StateCommand,
    },
    /// Prove how a match ended: with the receipt that both members signed, or of an overlap_n the helper's and who confirmed it
    #[command(after_help = "Example:\n  tally proof match 77b2... --out match.tlog-proof")]
    Match {
        /// The match of this node, or the first characters of its ID; or the session of any
        id: String,
        #[command(flatten)]
        files: ProofFiles,
    },
}

/// `proof state ...`
#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Where a batch is in its life; "this batch is not recalled"
    #[command(
        after_help = "Example:\n  tally proof state batch 6e1020494dd70df091b62b5000c0bed5 --out batch.tlog-proof"
    )]
    Batch {
        /// The batch ID, 32 hex digits
        id: String,
        #[command(flatten)]
        files: ProofFiles,
    },
    /// Whether a member is admitted
    #[command(after_help = "Example:\n  tally proof state member acme --out member.tlog-proof")]
    Member {
        /// The member's name or ID
        id: String,
        #[command(flatten)]
        files: ProofFiles,
    },
    /// Where an agreement is in its life
    #[command(
        after_help = "Example:\n  tally proof state agreement 77b2... --out agreement.tlog-proof"
    )]
    Agreement {
        /// The agreement ID, 64 hex digits
        id: String,
        #[command(flatten)]
        files: ProofFiles,
    },
    /// What an owner has left for an analyst under an agreement
    #[command(
        after_help = "Example:\n  tally proof state budget 77b2... --owner media --analyst acme --out budget.tlog-proof"
    )]
    Budget {
        /// The agreement ID, 64 hex digits: it has the caps
        agreement: String,
        /// Whose budget: a member's name or ID
        #[arg(long, value_name = "MEMBER")]
        owner: String,
        /// Who asks of the owner's sets: a member's name or ID
        #[arg(long, value_name = "MEMBER")]
        analyst: String,
        /// The epoch; left out: that of the last block
        #[arg(long, value_name = "NUMBER")]
        epoch: Option<u64>,
        #[command(flatten)]
        files: ProofFiles,
    },
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
    /// Put into the proof what leads from there to the members of now, for a network whose members or keys have changed: the network
    /// ID is enough then, and no members file is needed
    #[arg(long, value_name = "WHERE", value_enum)]
    pub(crate) from: Option<ProofFrom>,
}

/// `audit ...`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify a proof of a code, record, scan, match or of the state, offline
    ///
    /// Needs no node, no configuration and no data directory: only the two files, and the network ID, which must come from a source
    /// that you trust, such as each founder apart. The ID is the hash of the genesis document in the proof; the genesis fixes the
    /// validators, they fix the policy byte for byte, and more than two thirds of them must have cosigned.
    Verify(AuditArgs),
    /// Carry the contracts out over every entry, from the genesis on, and compare every state root
    ///
    /// Reads tiles and checkpoint of a running node, or of a folder that `tally export tiles` wrote. Believes nothing of them: the
    /// entries must give the checkpoint's root, every record must be one that the contracts accept, every block must follow the one
    /// before and say the state root that its records give, and a quorum must have cosigned. Holds the shared state in memory.
    Replay(ReplayArgs),
    /// Find where two histories part, and who signed both
    Diff(DiffArgs),
}

/// Arguments of `audit replay`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally audit replay --network 5b1e... --from http://ledger.example:26680\n\
    \x20 tally audit replay --network 5b1e... --from ./log --json\n\n\
    Exit code 0: all of it was carried out and agrees. Exit code 4: it does not; the first difference is told with \
    its entry, and whether the entry stands under the checkpoint that the validators cosigned.")]
pub(crate) struct ReplayArgs {
    /// Where to read from: a node's URL (http), or a folder with checkpoint and tiles
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) from: String,
    /// The network ID, 64 hex digits, from a source that you trust; left out, the ledger's own is taken and told
    #[arg(long, value_name = "ID")]
    pub(crate) network: Option<NetworkId>,
    /// Write the members and validators of the end, followed from the genesis by the changes that members passed: what
    /// `tally audit verify --members` takes
    #[arg(long, value_name = "FILE")]
    pub(crate) members_out: Option<PathBuf>,
    /// Write the policy of the validators of the end
    #[arg(long, value_name = "FILE")]
    pub(crate) policy_out: Option<PathBuf>,
}

/// Arguments of `audit diff`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n\
    \x20 tally audit diff http://acme.example:26680 ./log-of-last-year\n\n\
    Exit code 0: one history is the start of the other, and both checkpoints have a quorum. Exit code 4: they part \
    (error parted), or a checkpoint has no quorum, or tiles do not lead to their checkpoint.")]
pub(crate) struct DiffArgs {
    /// One ledger: a node's URL (http), or a folder with checkpoint and tiles
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// The other
    #[arg(value_name = "B")]
    pub(crate) b: String,
    /// The network ID, 64 hex digits, from a source that you trust; left out, the ledgers' own is taken and told
    #[arg(long, value_name = "ID")]
    pub(crate) network: Option<NetworkId>,
    /// Members and validators as `tally audit replay --members-out` wrote them: both checkpoints are judged by these, and the entries are not
    /// carried out again
    #[arg(long, value_name = "FILE")]
    pub(crate) members: Option<PathBuf>,
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally audit verify --network 5b1e... --policy network.policy --proof code.tlog-proof\n\
    \x20 tally audit verify --network 5b1e... --policy network.policy --proof code.tlog-proof --code \
    09521234543213/0Q2B...\n\n\
    Exit code 0: all of it verified, and a code's batch is released and not recalled, and the code not void, as of \
    the time that is printed.\n\
    Exit code 4: it did not; error.code says why:\n\
    \x20 recalled           verified, and the batch is recalled\n\
    \x20 absent             verified, and the state has no such batch, member or agreement\n\
    \x20 revoked            verified, and this one code is void\n\
    \x20 not_released       verified, and the batch is issued but not released for sale\n\
    \x20 other_network      the proof is of a network with another ID\n\
    \x20 other_code         the proof is not of the code named by --code\n\
    \x20 not_in_batch       the code is not one of the batch that was issued\n\
    \x20 quorum             too few validators cosigned the checkpoint\n\
    \x20 policy_short       the policy would take less than two thirds of the validators\n\
    \x20 policy_differs, policy_malformed   the policy is not this network's\n\
    \x20 checkpoint, unknown_signature, inclusion, state, record, signer, genesis, following, contradiction   a part is \
    not right\n\
    \x20 malformed, no_extra   not a proof of ours\n\
    Exit code 1: a file cannot be read; 2: the command line is wrong.")]
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
    /// Members and validators of now, for a network whose members have changed it since its genesis: the file that
    /// `tally audit replay --members-out` wrote, or `tally export tiles` of somebody you trust
    #[arg(long, value_name = "FILE")]
    pub(crate) members: Option<PathBuf>,
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
    /// Files: checkpoint, tile/..., log.vkey, validators.vkeys, policy, members. A node that runs writes them itself.
    #[command(after_help = "Example:\n  tally export tiles --config acme/tally.toml --out ./log")]
    Tiles {
        /// The folder to write to, new or empty
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Write the page that verifies proofs in a browser, as one file
    ///
    /// It works from disk, needs no server and no network, and refuses what `tally audit verify` refuses. Compare the SHA-256 that is
    /// printed with that of another member's file before you trust a copy.
    #[command(after_help = "Example:\n  tally export verifier --out verifier.html")]
    Verifier {
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}
