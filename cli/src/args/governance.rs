//! Arguments around governance and keys.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `change ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ChangeCommand {
    /// Propose a change to the network; this member votes for it by that
    #[command(subcommand)]
    Propose(ProposeCommand),
    /// Vote on a proposal
    #[command(
        after_help = "Examples:\n  tally change show 9a41...   read it first\n  tally change vote 9a41...\n  tally change vote 9a41... --against\n\n\
        A vote is final. The proposer's own vote against it takes the proposal back."
    )]
    Vote {
        /// The proposal's ID
        change: String,
        /// Vote against it
        #[arg(long)]
        against: bool,
        /// Vote for it even if the network would stand still with the nodes that are offline now
        #[arg(long)]
        force: bool,
    },
    /// List all proposals, the newest first
    List,
    /// Show what a proposal changes, and who has voted
    Show {
        /// The proposal's ID
        change: String,
    },
}

/// What every proposal may say.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every proposal")]
pub(crate) struct Proposing {
    /// Why, for the other administrators
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) why: String,
    /// Blocks between the one that passes it and the first one under it
    #[arg(long, value_name = "BLOCKS", default_value_t = 0)]
    pub(crate) delay_blocks: u32,
    /// How long votes are taken, in hours; 2160 at most
    #[arg(long, value_name = "HOURS", default_value_t = 168)]
    pub(crate) voting_hours: u64,
    /// Propose it even if the network would stand still with the nodes that are offline now
    #[arg(long)]
    pub(crate) force: bool,
}

/// Whose node.
#[derive(Debug, Clone, Args)]
pub(crate) struct OneNode {
    /// The member; left out, this node's own
    #[arg(long, value_name = "NAME")]
    pub(crate) member: Option<String>,
    /// First digits of the node's transport key, if the member has several
    #[arg(long, value_name = "KEY")]
    pub(crate) node: Option<String>,
}

/// `change propose ...`
#[derive(Debug, Subcommand)]
#[command(
    after_help = "A proposal passes when more than two thirds of the members have voted for it, one vote each, and is in force \
    from the next block on, or --delay-blocks later. This node refuses to propose what would leave no quorum among \
    the nodes that are connected now, and says who is offline."
)]
pub(crate) enum ProposeCommand {
    /// Admit a member by its card
    #[command(
        after_help = "Example:\n  tally change propose admit --card fifth-card.toml\n\nThe newcomer runs `tally init`, hands out its card, and joins by `tally join genesis --newcomer`."
    )]
    Admit {
        /// The member card that the newcomer's `tally init` wrote
        #[arg(long, value_name = "FILE")]
        card: PathBuf,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Remove a member with its nodes and keys
    Remove {
        /// The member
        #[arg(long, value_name = "NAME")]
        member: String,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Set a node's voting power; 0 takes it out of the validators
    Power {
        /// The power from then on
        power: u64,
        #[command(flatten)]
        node: OneNode,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Add a node to a member, by a card with the member's name
    AddNode {
        /// The card of the new node
        #[arg(long, value_name = "FILE")]
        card: PathBuf,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Remove one of several nodes of a member
    RemoveNode {
        #[command(flatten)]
        node: OneNode,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Put a new key in the place of one in force: a rotation, or the replacement of a lost key
    #[command(
        after_help = "Examples:\n  tally keys rotate records                                          first, on the node whose key it is\n  \
        tally change propose rotate-key --purpose records --new 5c1f...\n  tally change propose rotate-key --member boreal --purpose admin --new 77ab..."
    )]
    RotateKey {
        /// transport, consensus, checkpoint, cosignature, records or admin
        #[arg(long)]
        purpose: String,
        /// The new public key, as `tally keys rotate` printed it
        #[arg(long, value_name = "KEY")]
        new: String,
        /// The key in force; only needed among several administrators' keys
        #[arg(long, value_name = "KEY")]
        old: Option<String>,
        #[command(flatten)]
        node: OneNode,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Replace all keys of a node that was lost, by the card of a new one
    ReplaceNode {
        /// The card of the new node
        #[arg(long, value_name = "FILE")]
        card: PathBuf,
        #[command(flatten)]
        node: OneNode,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Say where a node is reached from then on; what is left out stays
    Addresses {
        /// Multiaddr of its consensus port
        #[arg(long, value_name = "ADDR")]
        consensus: Option<String>,
        /// Multiaddr of its swarm port
        #[arg(long, value_name = "ADDR")]
        swarm: Option<String>,
        /// Its public HTTP address
        #[arg(long, value_name = "URL")]
        http: Option<String>,
        #[command(flatten)]
        node: OneNode,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Add or remove an administrator's key of a member
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
    AdminKey {
        /// The member; left out, this node's own
        #[arg(long, value_name = "NAME")]
        member: Option<String>,
        /// A key to add
        #[arg(long, value_name = "KEY", group = "which")]
        add: Option<String>,
        /// A key to remove
        #[arg(long, value_name = "KEY", group = "which")]
        remove: Option<String>,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Go on to the next version of the rules
    RulesVersion {
        /// One more than the version in force
        version: u32,
        #[command(flatten)]
        proposing: Proposing,
    },
    /// Change heartbeat, bounds of blocks or clock skew; what is left out stays
    Parameters {
        /// Longest time between blocks, in milliseconds
        #[arg(long, value_name = "MS")]
        heartbeat_ms: Option<u64>,
        /// Largest block, in bytes
        #[arg(long, value_name = "BYTES")]
        max_block_bytes: Option<u32>,
        /// Most records in a block
        #[arg(long, value_name = "N")]
        max_block_records: Option<u32>,
        /// How far a block's time may be from a validator's clock, in milliseconds
        #[arg(long, value_name = "MS")]
        max_skew_ms: Option<u64>,
        #[command(flatten)]
        proposing: Proposing,
    },
}

/// `keys ...`
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new key for one purpose; it is used once the members have passed the proposal that names it
    #[command(
        after_help = "Example:\n  tally keys rotate consensus\n  tally change propose rotate-key --purpose consensus --new 5c1f...\n\n\
        The node may run meanwhile. From the height of the change on it uses the new key, after a restart of its own within a second or two."
    )]
    Rotate {
        /// transport, consensus, checkpoint, cosignature, records or admin
        purpose: String,
        /// File whose first line opens the keys
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Cost of a guess at the passphrase, as scrypt's log2 N
        #[arg(long, value_name = "N", default_value_t = tally_node::keys::DEFAULT_WORK_FACTOR)]
        work_factor: u8,
    },
    /// List the public keys of this node's seed and those made since
    List {
        /// File whose first line opens the keys
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}
