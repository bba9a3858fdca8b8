//! Configuration of the engine.

use std::path::PathBuf;
use std::time::Duration;

use tally_contracts::ids::NetworkId;
use zeroize::Zeroizing;

/// The longest that any step of a round waits, whatever the round: after a lost quorum is back, the network decides within
/// a few seconds.
pub const MAX_ROUND_TIMEOUT: Duration = Duration::from_secs(5);

/// A 32-byte Ed25519 seed. Wiped when dropped; it has neither `Debug` nor `Display`.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Takes a seed.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// How long the steps of a round wait in round 0, and how much longer in each further round, up to `max`; `absent` does not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTimeouts {
    /// For the proposal and its block. Default 1.5 s.
    pub propose: Duration,
    /// For the proposal of a validator to which this node has no connection (it may still come by way of others), and for further
    /// precommits in its rounds, when each validator has its first turn at a height, and not in the first seconds after this node's
    /// start. Default 200 ms, so that such a round costs less than half a second.
    pub absent: Duration,
    /// For prevotes that agree, once two thirds have come. Default 500 ms.
    pub prevote: Duration,
    /// For precommits that agree, once two thirds have come. Default 500 ms.
    pub precommit: Duration,
    /// Added to each for every round after the first. Default 500 ms.
    pub delta: Duration,
    /// Upper bound of each. Default and most: [`MAX_ROUND_TIMEOUT`].
    pub max: Duration,
}

impl Default for RoundTimeouts {
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(1500),
            absent: Duration::from_millis(200),
            prevote: Duration::from_millis(500),
            precommit: Duration::from_millis(500),
            delta: Duration::from_millis(500),
            max: MAX_ROUND_TIMEOUT,
        }
    }
}

/// Everything the engine needs besides its [`crate::Application`].
#[derive(Clone)]
pub struct EngineConfig {
    /// The network; bound into everything that is signed and into the swarm's protocol names.
    pub network: NetworkId,
    /// Seed of the consensus key, which signs votes, proposals and block parts.
    pub consensus_key: Secret,
    /// Seed of the transport key: the swarm's libp2p identity.
    pub transport_key: Secret,
    /// Multiaddr to listen on, TCP, e.g. `/ip4/0.0.0.0/tcp/26600`.
    pub listen: String,
    /// Multiaddrs of the other nodes, with `/p2p/<peer ID>` ([`crate::address_with_peer_id`]). Nobody else is let in.
    pub peers: Vec<String>,
    /// Folder for the write-ahead log and undecided proposals; created if missing. Never share it, never restore an old copy
    /// of it: it is what keeps this node from voting twice.
    pub dir: PathBuf,
    /// Round time-outs.
    pub timeouts: RoundTimeouts,
    /// How many connections one IP address may hold. Default 64: several nodes on one host.
    pub max_connections_per_ip: usize,
    /// Name of this node in metrics and logs of the engine; unique in the process. Default: first hex digits of its
    /// consensus key.
    pub moniker: Option<String>,
    /// How often this node tells its height to its peers, so that laggards catch up. Default 1 s.
    pub status_interval: Duration,
}

impl EngineConfig {
    /// A configuration with defaults for all that has one.
    #[must_use]
    pub fn new(
        network: NetworkId,
        consensus_key: Secret,
        transport_key: Secret,
        listen: impl Into<String>,
        dir: PathBuf,
    ) -> Self {
        Self {
            network,
            consensus_key,
            transport_key,
            listen: listen.into(),
            peers: Vec::new(),
            dir,
            timeouts: RoundTimeouts::default(),
            max_connections_per_ip: 64,
            moniker: None,
            status_interval: Duration::from_secs(1),
        }
    }
}
