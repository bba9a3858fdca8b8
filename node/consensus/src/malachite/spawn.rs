//! Starts and stops the engine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use malachitebft_app_channel::app::config::{
    ConsensusConfig, DiscoveryConfig, NodeConfig, P2pConfig, ProtocolNames, ValuePayload,
    ValueSyncConfig,
};
use malachitebft_app_channel::app::types::codec::Codec as _;
use malachitebft_app_channel::{
    Channels, ConsensusContext, EngineHandle as EngineTask, NetworkContext, NetworkIdentity,
    RequestContext, SyncContext, WalContext, start_engine,
};

use super::codec::WireCodec;
use super::context::TallyContext;
use super::driver::MAX_SYNC_BLOCKS;
use super::polkas::Polkas;
use super::signing::{Keys, Zip215};
use crate::config::EngineConfig;
use crate::error::Error;
use crate::identity::parse_address;

const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The engine under way.
pub(crate) struct Engine {
    task: EngineTask,
    wal: PathBuf,
}

struct Settings {
    moniker: String,
    consensus: ConsensusConfig,
    value_sync: ValueSyncConfig,
}

impl NodeConfig for Settings {
    fn moniker(&self) -> &str {
        &self.moniker
    }

    fn consensus(&self) -> &ConsensusConfig {
        &self.consensus
    }

    fn consensus_mut(&mut self) -> &mut ConsensusConfig {
        &mut self.consensus
    }

    fn value_sync(&self) -> &ValueSyncConfig {
        &self.value_sync
    }

    fn value_sync_mut(&mut self) -> &mut ValueSyncConfig {
        &mut self.value_sync
    }
}

fn settings(config: &EngineConfig, keys: &Keys) -> Result<Settings, Error> {
    let listen_addr = parse_address("listen", &config.listen)?;
    if !listen_addr.protocol_stack().any(|p| p == "tcp") {
        return Err(Error::Config {
            field: "listen",
            reason: format!("{} is not a TCP address", config.listen),
        });
    }
    let persistent_peers = config
        .peers
        .iter()
        .map(|peer| parse_address("peers", peer))
        .collect::<Result<Vec<_>, _>>()?;
    // A peer of another network is cut at the first exchange, and could follow nothing anyway.
    let network: String = config.network.to_string().chars().take(16).collect();
    let name = |use_: &str| format!("/tally/{network}/{use_}/v1");
    let mut p2p = P2pConfig {
        listen_addr,
        persistent_peers,
        persistent_peers_only: true,
        discovery: DiscoveryConfig {
            enabled: false,
            max_connections_per_ip: config.max_connections_per_ip,
            // Outsiders are refused anyway; a peer known by name must be able to come back at once.
            ip_throttle_duration: Duration::ZERO,
            ..DiscoveryConfig::default()
        },
        protocol_names: ProtocolNames {
            consensus: name("consensus"),
            discovery_kad: name("kad"),
            discovery_regres: name("discovery"),
            sync: name("sync"),
            validator_proof: name("validator-proof"),
        },
        ..P2pConfig::default()
    };
    p2p.channel_names.consensus = name("votes");
    p2p.channel_names.proposal_parts = name("parts");
    p2p.channel_names.sync = name("status");
    p2p.channel_names.liveness = name("liveness");
    let moniker = config
        .moniker
        .clone()
        .unwrap_or_else(|| keys.public().to_string().chars().take(12).collect());
    Ok(Settings {
        moniker,
        consensus: ConsensusConfig {
            enabled: true,
            p2p,
            value_payload: ValuePayload::ProposalAndParts,
            ..ConsensusConfig::default()
        },
        value_sync: ValueSyncConfig {
            enabled: true,
            status_update_interval: config.status_interval.max(Duration::from_millis(100)),
            request_timeout: Duration::from_secs(5),
            batch_size: MAX_SYNC_BLOCKS,
            ..ValueSyncConfig::default()
        },
    })
}

/// The node's identity on the engine's swarm.
pub(crate) fn transport(config: &EngineConfig) -> Result<Keypair, Error> {
    Keypair::ed25519_from_bytes(*config.transport_key.expose()).map_err(Error::engine)
}

/// Starts the engine over its own swarm; the prevotes that it verifies are noted in `polkas`.
///
/// Boxed here, and so built here: what an `async fn` awaits is else built again in every program that starts an engine, and this takes
/// a minute of a processor.
#[inline(never)]
pub(crate) fn spawn<'a>(
    config: &'a EngineConfig,
    keys: &'a Keys,
    polkas: &'a Polkas,
) -> Pin<Box<dyn Future<Output = Spawned> + Send + 'a>> {
    Box::pin(start(config, keys, polkas))
}

/// What the engine is spoken to by, and itself.
type Spawned = Result<(Channels<TallyContext>, Engine), Error>;

async fn start(config: &EngineConfig, keys: &Keys, polkas: &Polkas) -> Spawned {
    let settings = settings(config, keys)?;
    let keypair = transport(config)?;
    let proof = keys.validator_proof(keypair.public().to_peer_id().to_bytes());
    let proof = WireCodec.encode(&proof).map_err(Error::engine)?;
    let identity = NetworkIdentity::new_validator(
        settings.moniker.clone(),
        keypair,
        keys.address().to_string(),
        proof,
    );
    let wal = config.dir.join("wal").join("consensus.wal");
    let (channels, task) = start_engine(
        TallyContext,
        settings,
        WalContext::new(wal.clone(), WireCodec),
        NetworkContext::new(identity, WireCodec),
        ConsensusContext::new_validator(
            keys.address(),
            Box::new(Zip215::new(config.network, polkas.clone())),
            Box::new(keys.clone()),
        ),
        SyncContext::new(WireCodec),
        RequestContext::new(16),
    )
    .await
    .map_err(|e| Error::engine(format!("{e:#}")))?;
    Ok((channels, Engine { task, wal }))
}

impl Engine {
    /// Stops all of it; its port and its files are free when this returns.
    pub(crate) async fn stop(self, reason: &str) {
        let node = &self.task.actor;
        node.get_cell()
            .stop_children_and_wait(Some(reason.to_owned()), Some(STOP_TIMEOUT))
            .await;
        node.stop(Some(reason.to_owned()));
        if tokio::time::timeout(STOP_TIMEOUT, self.task.handle)
            .await
            .is_err()
        {
            tracing::warn!("the consensus engine did not stop in time");
        }
        wait_until_unlocked(&self.wal).await;
    }
}

/// The log is written by a thread that ends a little after its actor; until then it holds the file's lock.
async fn wait_until_unlocked(path: &Path) {
    let end = Instant::now() + STOP_TIMEOUT;
    while Instant::now() < end {
        match File::open(path).map(|file| file.try_lock()) {
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(2)).await,
            Ok(Ok(())) | Err(_) => return,
        }
    }
    tracing::warn!("the consensus log is still in use");
}
