//! What the handle, the event loop and the connections share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use libp2p::identity::ed25519;
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::{Address, Limits, PeerKey};
use crate::driver::Command;
use crate::metrics::Metrics;
use crate::notify::Queue;
use crate::stream::PeerStream;

/// Where a peer is and what it is called; may change while the peer stays.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) label: String,
    pub(crate) address: Option<Address>,
}

#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) connected: bool,
    pub(crate) since: SystemTime,
    pub(crate) rtt_ms: Option<f64>,
}

/// One peer of the list, from when it is added until it is removed.
pub(crate) struct Link {
    pub(crate) key: PeerKey,
    pub(crate) id: PeerId,
    place: Mutex<Place>,
    status: Mutex<Status>,
    /// Cancelled when the peer leaves the list: every stream and task of it ends.
    pub(crate) removed: CancellationToken,
    /// Streams that it may still open to us.
    pub(crate) inbound: Arc<Semaphore>,
    /// Streams that we may still open to it.
    pub(crate) outbound: Arc<Semaphore>,
    pub(crate) queue: Queue,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(crate) fn new(
        key: PeerKey,
        id: PeerId,
        place: Place,
        limits: &Limits,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            key,
            id,
            place: Mutex::new(place),
            status: Mutex::new(Status {
                connected: false,
                since: SystemTime::now(),
                rtt_ms: None,
            }),
            removed: stop.child_token(),
            inbound: Arc::new(Semaphore::new(limits.max_streams_per_peer)),
            outbound: Arc::new(Semaphore::new(limits.max_streams_per_peer)),
            queue: Queue::new(limits),
        }
    }

    pub(crate) fn label(&self) -> String {
        lock(&self.place).label.clone()
    }

    pub(crate) fn address(&self) -> Option<Address> {
        lock(&self.place).address.clone()
    }

    /// Whether the address changed.
    pub(crate) fn set_place(&self, place: Place) -> bool {
        let mut old = lock(&self.place);
        let moved = old.address != place.address;
        *old = place;
        moved
    }

    pub(crate) fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        let mut status = lock(&self.status);
        if status.connected != connected {
            *status = Status {
                connected,
                since: SystemTime::now(),
                rtt_ms: None,
            };
        }
    }

    pub(crate) fn set_rtt_ms(&self, rtt_ms: f64) {
        lock(&self.status).rtt_ms = Some(rtt_ms);
    }
}

#[derive(Default)]
struct Protocols {
    senders: HashMap<String, mpsc::Sender<PeerStream>>,
    names: Arc<[StreamProtocol]>,
}

pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    peers: RwLock<HashMap<PeerId, Arc<Link>>>,
    protocols: RwLock<Protocols>,
}

/// How many new streams of one protocol may wait for their taker.
const ACCEPT_QUEUE: usize = 256;

impl Shared {
    pub(crate) fn new(limits: Limits, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self {
            limits,
            metrics: Metrics::default(),
            stop: CancellationToken::new(),
            commands,
            peers: RwLock::default(),
            protocols: RwLock::default(),
        }
    }

    /// The peer with this ID, if it stands in the list.
    pub(crate) fn link(&self, id: &PeerId) -> Option<Arc<Link>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(id).cloned()
    }

    pub(crate) fn link_by_key(&self, key: &PeerKey) -> Result<Arc<Link>, Error> {
        peer_id(key)
            .and_then(|id| self.link(&id))
            .ok_or_else(|| Error::UnknownPeer {
                peer: short_hex(key),
            })
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().cloned().collect()
    }

    /// Replaces the list by what `next` makes of it.
    pub(crate) fn replace_links<T>(
        &self,
        next: impl FnOnce(&HashMap<PeerId, Arc<Link>>) -> (HashMap<PeerId, Arc<Link>>, T),
    ) -> T {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let (new, out) = next(&peers);
        *peers = new;
        out
    }

    /// Starts taking streams of a protocol.
    pub(crate) fn accept(&self, protocol: &str) -> Result<mpsc::Receiver<PeerStream>, Error> {
        let name = protocol_name(protocol)?;
        let mut protocols = self
            .protocols
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        protocols.senders.retain(|_, sender| !sender.is_closed());
        if protocols.senders.contains_key(name.as_ref()) {
            return Err(Error::Served {
                protocol: protocol.to_owned(),
            });
        }
        let (sender, receiver) = mpsc::channel(ACCEPT_QUEUE);
        protocols.senders.insert(protocol.to_owned(), sender);
        protocols.names = protocols
            .senders
            .keys()
            .filter_map(|p| protocol_name(p).ok())
            .collect();
        Ok(receiver)
    }

    /// Names of the protocols that are taken.
    pub(crate) fn protocols(&self) -> Arc<[StreamProtocol]> {
        self.protocols
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .names
            .clone()
    }

    /// Hands a new stream to whoever takes its protocol, or drops it over a limit.
    pub(crate) fn inbound(&self, link: &Arc<Link>, protocol: &str, stream: libp2p::Stream) {
        let taken = link
            .inbound
            .clone()
            .try_acquire_owned()
            .ok()
            .and_then(|permit| {
                let protocols = self
                    .protocols
                    .read()
                    .unwrap_or_else(PoisonError::into_inner);
                let sender = protocols.senders.get(protocol)?;
                sender
                    .try_send(PeerStream::new(stream, link.clone(), permit))
                    .ok()
            });
        if taken.is_none() {
            Metrics::count(&self.metrics.streams_refused, protocol);
            tracing::debug!(peer = %link.label(), protocol, "stream refused over a limit");
        }
    }
}

pub(crate) fn protocol_name(protocol: &str) -> Result<StreamProtocol, Error> {
    StreamProtocol::try_from_owned(protocol.to_owned()).map_err(|_| Error::Protocol {
        found: protocol.to_owned(),
    })
}

/// The libp2p name of a transport key; `None` if it is no Ed25519 point.
pub(crate) fn peer_id(key: &PeerKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key).ok()?;
    Some(libp2p::identity::PublicKey::from(key).to_peer_id())
}

fn short_hex(key: &PeerKey) -> String {
    key.iter().take(4).map(|b| format!("{b:02x}")).collect()
}
