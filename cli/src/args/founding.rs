//! Arguments of the founding, the configuration and `up`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tally_contracts::Roles;
use tally_contracts::ids::NetworkId;

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Issues codes, holds conversions
    Brand,
    /// Holds users, exposures and clicks
    Platform,
    /// Holds exposures and clicks
    Media,
    /// Verifies, and issues nothing
    Auditor,
}

impl Role {
    pub(crate) const fn set(self) -> Roles {
        match self {
            Self::Brand => Roles::BRAND,
            Self::Platform => Roles::PLATFORM,
            Self::Media => Roles::MEDIA,
            Self::Auditor => Roles::AUDITOR,
        }
    }
}

const FOUNDING: &str = "\
The steps of a founding:
  1. each founder    tally init --name NAME --role ROLE --host HOST
                     and hands NAME/member-card.toml to one of them
  2. that one        tally genesis new --network NAME --kind live --out genesis CARD...
                     and hands `genesis` to all
  3. each founder    tally genesis show genesis, compares the network ID by telephone, then
                     tally genesis sign genesis --network ID
  4. each founder    tally join FILE... with the signed copies of all, then tally up";

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:\n  tally init --name acme --role brand --host node.acme.example\n  \
    tally init --name acme --role brand --role media --dir /var/lib/tally --passphrase-file /etc/tally/passphrase\n\n{FOUNDING}"))]
pub(crate) struct InitArgs {
    /// The member's name in the network: 1 to 32 of a-z, 0-9 and -
    #[arg(long)]
    pub(crate) name: String,
    /// What the member does; may be given more than once
    #[arg(long = "role", value_enum, required = true, value_delimiter = ',')]
    pub(crate) roles: Vec<Role>,
    /// The new data directory; the member's name if left out
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Host name or IP address under which the other members reach this node
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// IP address to listen on; all of them if --host is another machine's view of this one
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<std::net::IpAddr>,
    /// First port: consensus here, member swarm one above, HTTP eighty above
    #[arg(long, default_value_t = 26600, value_parser = clap::value_parser!(u16).range(1..=65455))]
    pub(crate) port: u16,
    /// URL that is printed into codes; http://HOST:PORT+80 if left out
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Voting power to ask for; 0 does not vote
    #[arg(long, default_value_t = 1)]
    pub(crate) power: u64,
    /// Accept without asking whatever an accepted agreement allows
    #[arg(long)]
    pub(crate) auto_accept: bool,
    /// File whose first line protects the keys; `tally up` will read it too. Without it the terminal is asked
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Card of a further node of the same member, made by `tally init` on its machine: it is taken into this node's card, which then replaces
    /// the other's; may be given more than once
    #[arg(long = "with-node", value_name = "CARD")]
    pub(crate) with_nodes: Vec<PathBuf>,
    /// Make a second administrator's key in this file, to be kept offline: with it the first can be replaced when it is lost, which the
    /// others cannot do alone where there are three members or fewer
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_key: Option<PathBuf>,
    /// Cost of a guess at the passphrase, as log2 of scrypt's N
    #[arg(long, hide = true, default_value_t = tally_node::keys::DEFAULT_WORK_FACTOR)]
    pub(crate) work_factor: u8,
}

/// What kind of network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// For trials: agreements without noise are allowed, and every answer says so
    Test,
    /// For real data
    Live,
}

/// `genesis ...`
#[derive(Debug, Subcommand)]
pub(crate) enum GenesisCommand {
    /// Draw up the genesis from all founders' cards
    New(GenesisNewArgs),
    /// Sign a genesis with this member's administrator key
    Sign(GenesisSignArgs),
    /// Show what a genesis says and who has signed it
    #[command(after_help = "Example:\n  tally genesis show genesis")]
    Show {
        /// The genesis file
        file: PathBuf,
    },
}

/// Arguments of `genesis new`.
#[derive(Debug, Args)]
#[command(after_help = format!("Example:\n  tally genesis new --network tea-trade --kind test --out genesis */member-card.toml\n\n{FOUNDING}"))]
pub(crate) struct GenesisNewArgs {
    /// The founders' member cards
    #[arg(required = true, value_name = "CARD")]
    pub(crate) cards: Vec<PathBuf>,
    /// The network's name, for people
    #[arg(long, value_name = "NAME")]
    pub(crate) network: String,
    /// Trial or real data; it can never be changed
    #[arg(long, value_enum)]
    pub(crate) kind: Kind,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Longest time between blocks, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = tally_contracts::Rules::default().heartbeat_ms)]
    pub(crate) heartbeat_ms: u64,
    /// Length of a privacy epoch, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = tally_contracts::Rules::default().epoch_ms)]
    pub(crate) epoch_ms: u64,
    /// How far a validator's clock may be off before its blocks are refused, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = tally_contracts::Rules::default().max_skew_ms)]
    pub(crate) max_skew_ms: u64,
}

/// Arguments of `genesis sign`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tally genesis sign genesis --network 3f6c...\n  tally genesis sign genesis --with from-boreal --with from-cobalt\n\n\
    Compare the network ID with the other founders over a second channel before you sign: it stands for every byte of the genesis."
)]
pub(crate) struct GenesisSignArgs {
    /// The genesis file; the signature is added to it
    pub(crate) file: PathBuf,
    /// Take over the signatures of this copy too; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(crate) with: Vec<PathBuf>,
    /// The network ID that the founders agreed on; without it the terminal is asked
    #[arg(long, value_name = "ID")]
    pub(crate) network: Option<NetworkId>,
    /// Write here instead
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// File whose first line opens the keys
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Arguments of `join`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tally join genesis\n  tally join from-acme from-boreal from-cobalt --network 3f6c...\n  tally join genesis --newcomer --network 3f6c...\n\n\
    Every founder's signature and this member's own entry are checked; joining the same network again changes nothing."
)]
pub(crate) struct JoinArgs {
    /// The signed genesis, or the copies that the founders signed apart
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The network ID that is expected
    #[arg(long, value_name = "ID")]
    pub(crate) network: Option<NetworkId>,
    /// Join a network that runs: this member was no founder, the members admit its card by `tally change propose admit`
    #[arg(long, requires = "network")]
    pub(crate) newcomer: bool,
}

/// `config ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check everything that a start needs: the file, keys, permissions, ports, disk
    #[command(after_help = "Example:\n  tally config check --config acme/tally.toml")]
    Check,
    /// Print every key that is in force, with its meaning, default and unit
    #[command(after_help = "Example:\n  tally config show --config acme/tally.toml")]
    Show,
}

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally up --config acme/tally.toml\n\
    \x20 tally up --passphrase-file /run/secrets/tally\n\n\
    The passphrase comes from --passphrase-file, else node.passphrase_file, else the systemd credential \
    tally-passphrase (LoadCredential=tally-passphrase:/etc/tally/passphrase), else the file that \
    TALLY_PASSPHRASE_FILE names, else the terminal.")]
pub(crate) struct UpArgs {
    /// File whose first line opens the keys
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Stop when standard input ends: a node that another program starts does not outlive it
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
}
