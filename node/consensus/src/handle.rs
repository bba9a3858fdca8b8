//! Starting the engine, watching it, stopping it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, SystemTime};

use libp2p::Multiaddr;
use malachitebft_app_channel::NetworkRequest;
use malachitebft_app_channel::app::engine::network::PersistentPeerError;
use malachitebft_app_channel::app::metrics;
use tally_contracts::ids::PublicKey;
use tokio::sync::{mpsc, watch};

use crate::application::{Application, Validator};
use crate::config::{EngineConfig, MAX_ROUND_TIMEOUT, RoundTimeouts};
use crate::error::Error;
use crate::gate::{Gate, parse_peer};
use crate::malachite::driver::{Driver, Undecided};
use crate::malachite::polkas::Polkas;
use crate::malachite::signing::Keys;
use crate::malachite::spawn;
use crate::malachite::store::ProposalStore;

const PEERS_INTERVAL: Duration = Duration::from_millis(500);
/// How long a peer is out after a reset: longer than the reset and what follows from it take at the other end.
const RESET_PAUSE: Duration = Duration::from_millis(250);
/// How long the engine may take to let go of a connection that is gone.
const LETS_GO: Duration = Duration::from_secs(1);
/// Connections that the engine itself allows one address: all come from the door, which counts by those behind it.
const ALL_AT_ONE: usize = 65_536;
/// What the engine says of a log whose head is cut or garbled; it panics then as it starts.
const HEADLESS_LOG: [&str; 3] = [
    "Invalid WAL version",
    "Failed to read sequence number",
    "failed to fill whole buffer",
];

/// The last verified vote of a validator that reached this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The validator.
    pub validator: PublicKey,
    /// Height of its vote.
    pub height: u64,
    /// Round of its vote.
    pub round: u32,
}

/// Where the engine stands. Validators of [`Self::validators`] that are missing from [`Self::heard`], or far behind in it, are
/// those that a stalled height waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The height being decided: one above the last committed block.
    pub height: u64,
    /// Its round; 0 also before it starts.
    pub round: u32,
    /// Whose turn it is to propose.
    pub proposer: Option<PublicKey>,
    /// True while there is nothing to order: the height has not been started.
    pub waiting: bool,
    /// Validators of the height, ascending by key.
    pub validators: Vec<Validator>,
    /// What was last heard from each other validator since the start.
    pub heard: Vec<Heard>,
    /// Peer IDs of connected nodes, ascending.
    pub peers: Vec<String>,
    /// Those of them that have not proven their consensus key on this connection, ascending. For longer than a moment that means
    /// that the two nodes do not agree on whether they are connected: what this one says is not heard.
    pub unproven: Vec<String>,
    /// False once the engine has stopped.
    pub running: bool,
}

/// A running engine. When the last handle is dropped the engine stops too, in the background.
#[derive(Clone)]
pub struct EngineHandle {
    gate: Gate,
    network: mpsc::Sender<NetworkRequest>,
    status: watch::Receiver<Status>,
    ended: watch::Receiver<Option<Result<(), Error>>>,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineHandle")
    }
}

impl EngineHandle {
    /// Where the engine stands now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// A receiver that sees every change of the status.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Lets in and connects to one more node, by its multiaddr with `/p2p/`. Nothing happens if it is known by this very address.
    ///
    /// # Errors
    /// [`Error::Config`] for an address that cannot be used, [`Error::Engine`] if the engine has ended.
    pub async fn add_peer(&self, address: &str) -> Result<(), Error> {
        let (_, peer) = parse_peer(address)?;
        if let Some(old) = self.gate.dismiss(&peer) {
            self.remove(old).await?;
        }
        let local = self.gate.admit(address).await?;
        self.add(local).await
    }

    /// Cuts off a node, by the same text with which it was added. Nothing happens if it is not known.
    ///
    /// # Errors
    /// As [`Self::add_peer`].
    pub async fn remove_peer(&self, address: &str) -> Result<(), Error> {
        let (_, peer) = parse_peer(address)?;
        match self.gate.dismiss(&peer) {
            Some(local) => self.remove(local).await,
            None => Ok(()),
        }
    }

    /// Drops every connection with a node, in both directions, and makes a new one. Both nodes have none in between, so that they
    /// agree on which is the first. Takes about 300 ms. Nothing happens if the node is not known.
    ///
    /// # Errors
    /// As [`Self::add_peer`].
    pub async fn reset_peer(&self, address: &str) -> Result<(), Error> {
        let (_, peer) = parse_peer(address)?;
        let Some(local) = self.gate.close(&peer) else {
            return Ok(());
        };
        let removed = self.remove(local.clone()).await;
        tokio::time::sleep(RESET_PAUSE).await;
        let gone = async {
            while let Ok(Some(dump)) = NetworkRequest::dump_state(&self.network).await {
                if dump.peers.keys().all(|p| p.to_string() != peer.to_string()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(LETS_GO, gone).await;
        // One that was dismissed meanwhile has no address any more, one that was admitted anew another.
        match self.gate.reopen(&peer) {
            Some(now) if now == local => removed.and(self.add(local).await),
            _ => removed,
        }
    }

    /// When the oldest connection with a node that stands here began, by the node's peer ID; nothing if there is none.
    #[must_use]
    pub fn oldest_connection(&self, peer: &str) -> Option<SystemTime> {
        self.gate.oldest(&peer.parse().ok()?)
    }

    async fn add(&self, local: Multiaddr) -> Result<(), Error> {
        match NetworkRequest::add_persistent_peer(&self.network, local).await {
            Ok(Ok(()) | Err(PersistentPeerError::AlreadyExists)) => Ok(()),
            Ok(Err(e)) => Err(Error::engine(e)),
            Err(e) => Err(Error::engine(e)),
        }
    }

    async fn remove(&self, local: Multiaddr) -> Result<(), Error> {
        match NetworkRequest::remove_persistent_peer(&self.network, local).await {
            Ok(Ok(()) | Err(PersistentPeerError::NotFound)) => Ok(()),
            Ok(Err(e)) => Err(Error::engine(e)),
            Err(e) => Err(Error::engine(e)),
        }
    }

    /// Waits until the engine has ended.
    ///
    /// # Errors
    /// Why, if it was not [`Self::stop`]. [`Error::Halted`] must not be answered by a restart without an operator.
    pub async fn ended(&mut self) -> Result<(), Error> {
        match self.ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err(Error::engine("its task is gone")),
        }
    }

    /// Stops the engine, finishing the call to the application that is under way. Its port and files are free when this
    /// returns.
    ///
    /// # Errors
    /// Why it had ended before, if it had.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.stop.send_replace(true);
        self.ended().await
    }
}

/// The engine's metrics in Prometheus text form, all engines of this process together (label `moniker`).
#[must_use]
pub fn metrics_text() -> String {
    let mut text = String::new();
    metrics::export(&mut text);
    text
}

/// Starts the engine: listens, connects to the peers, replays its log, and decides heights from
/// [`Application::next_height`] on.
///
/// # Errors
/// [`Error`] for a configuration that cannot be used, a folder that cannot be written or is in use, or an engine that does
/// not start.
pub async fn start(
    config: EngineConfig,
    mut application: impl Application,
) -> Result<EngineHandle, Error> {
    check_timeouts(&config.timeouts)?;
    let lock = lock_dir(&config.dir)?;
    let store = ProposalStore::open(config.dir.join("proposals"))?;
    let keys = Keys::new(&config.consensus_key, config.network);
    let own = spawn::transport(&config)?.public().to_peer_id();
    let gate = Gate::open(own, &config.listen, config.max_connections_per_ip).await?;
    let mut behind = config.clone();
    behind.max_connections_per_ip = ALL_AT_ONE;
    behind.peers.clear();
    for peer in &config.peers {
        let local = gate.admit(peer).await;
        match local {
            Ok(local) => behind.peers.push(local.to_string()),
            Err(e) => {
                gate.stop().await;
                return Err(e);
            }
        }
    }
    behind.listen = gate.make_way();
    let polkas = Polkas::default();
    let spawned = spawn::spawn(&behind, &keys, &polkas).await;
    if spawned.is_err() {
        gate.stop().await;
    }
    let (channels, engine) = match spawned {
        Ok(spawned) => spawned,
        // The engine opens the log as it starts, and fails if its head is not one. No other part of it speaks of it then.
        Err(Error::Engine { reason }) if HEADLESS_LOG.iter().any(|e| reason.contains(e)) => {
            let height = application.next_height().await;
            // The engine's own words for an error of its start; nothing has panicked.
            let reason = reason.replace("Actor panicked during startup: ", "");
            return Err(Error::DamagedLog { height, reason });
        }
        Err(e) => return Err(e),
    };

    let (status_tx, status) = watch::channel(Status {
        running: true,
        ..Status::default()
    });
    let (stop, stopped) = watch::channel(false);
    let (ended_tx, ended) = watch::channel(None);
    let network = channels.net_requests.clone();
    let (connected_tx, connected) = watch::channel(None);
    let peers = tokio::spawn(watch_peers(
        network.clone(),
        status_tx.clone(),
        connected_tx,
    ));
    let driver = Driver::new(
        application,
        keys,
        Undecided { store, polkas },
        channels,
        status_tx.clone(),
        config.timeouts,
        connected,
    );
    let running = tokio::spawn(driver.run(stopped));
    let door = gate.clone();
    tokio::spawn(async move {
        // A panic of the application ends the engine like any other failure.
        let result = running.await.unwrap_or_else(|e| Err(Error::engine(e)));
        if let Err(error) = &result {
            tracing::error!(%error, "consensus has ended");
        }
        peers.abort();
        door.stop().await;
        engine
            .stop(result.as_ref().map_or("failed", |()| "asked to stop"))
            .await;
        drop(lock);
        status_tx.send_modify(|status| status.running = false);
        ended_tx.send_replace(Some(result));
    });
    Ok(EngineHandle {
        gate,
        network,
        status,
        ended,
        stop,
    })
}

fn check_timeouts(timeouts: &RoundTimeouts) -> Result<(), Error> {
    let bad = |reason: &str| {
        Err(Error::Config {
            field: "timeouts",
            reason: reason.to_owned(),
        })
    };
    if timeouts.max > MAX_ROUND_TIMEOUT {
        return bad("the maximum is over 5 s");
    }
    let steps = [
        timeouts.propose,
        timeouts.absent,
        timeouts.prevote,
        timeouts.precommit,
    ];
    if steps.iter().any(|t| t.is_zero() || *t > timeouts.max) {
        return bad("each step needs more than zero and at most the maximum");
    }
    Ok(())
}

/// Two engines on one folder would vote twice: the lock is held as long as the engine runs.
fn lock_dir(dir: &Path) -> Result<File, Error> {
    fs::create_dir_all(dir).map_err(|e| Error::io(dir, &e))?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| Error::io(&path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Io {
            path: path.display().to_string(),
            reason: "in use by another engine".to_owned(),
        }),
        Err(TryLockError::Error(e)) => Err(Error::io(&path, &e)),
    }
}

async fn watch_peers(
    requests: mpsc::Sender<NetworkRequest>,
    status: watch::Sender<Status>,
    connected: watch::Sender<Option<BTreeSet<PublicKey>>>,
) {
    let mut tick = tokio::time::interval(PEERS_INTERVAL);
    loop {
        tick.tick().await;
        let Ok(Some(dump)) = NetworkRequest::dump_state(&requests).await else {
            continue;
        };
        let mut peers: Vec<String> = dump.peers.keys().map(ToString::to_string).collect();
        peers.sort_unstable();
        let mut unproven: Vec<String> = dump
            .peers
            .iter()
            .filter(|(_, peer)| peer.consensus_public_key.is_none())
            .map(|(id, _)| id.to_string())
            .collect();
        unproven.sort_unstable();
        // Keys that a peer has proven to hold; without a proof yet it counts as not connected, for a moment.
        let keys = dump
            .peers
            .values()
            .filter_map(|peer| peer.consensus_public_key.as_deref())
            .filter_map(|key| <[u8; 32]>::try_from(key).ok())
            .map(PublicKey)
            .collect();
        connected.send_replace(Some(keys));
        status.send_if_modified(|status| {
            let changed = status.peers != peers || status.unproven != unproven;
            status.peers = peers;
            status.unproven = unproven;
            changed
        });
    }
}
