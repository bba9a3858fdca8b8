//! The handle of a running host.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version;
use libp2p::identity::{Keypair, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, noise, ping, swarm, tcp, yamux};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use zeroize::Zeroize as _;

use crate::behaviour::{Behaviour, Gate};
use crate::config::{Address, HostConfig, Peer, PeerKey, PeerStatus, ServeLimits};
use crate::driver::{Command, Driver};
use crate::error::{Error, Refusal};
use crate::handler::Open;
use crate::metrics::{Counted, Metrics, Traffic};
use crate::shared::{Link, Place, Shared, peer_id, protocol_name};
use crate::stream::{PeerStream, StreamReceiver};
use crate::{notify, request};

/// Streams of one connection, both directions, before the multiplexer gives it up. Its windows start at 256 KiB a stream,
/// which bounds what a peer can make this host hold unread.
const MAX_MUXED_STREAMS: usize = 320;

struct Inner {
    shared: Arc<Shared>,
    key: PeerKey,
    listen_addrs: Vec<String>,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// A running host. Clones are handles of the same host, which stops when the last one is dropped.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

impl Host {
    /// Starts a host with an empty list of peers: until [`Self::set_peers`], everybody is a stranger. Must be called inside
    /// a tokio runtime.
    ///
    /// Boxed, and so built here: the transport would else be built again in every program that starts a host.
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::Address`], [`Error::Listen`] (the port is taken, say).
    #[inline(never)]
    pub fn start(config: HostConfig) -> Pin<Box<dyn Future<Output = Result<Self, Error>> + Send>> {
        Box::pin(Self::open(config))
    }

    async fn open(config: HostConfig) -> Result<Self, Error> {
        let HostConfig {
            secret,
            listen,
            limits,
        } = config;
        limits.check()?;
        let (keypair, key) = keypair(&secret.0)?;
        drop(secret);
        let (sender, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(limits, sender));
        let mut swarm = build(&keypair, &shared)?;
        let mut listen_addrs = Vec::new();
        for text in &listen {
            listen_addrs.push(listen_on(&mut swarm, text).await?);
        }
        let driver = tokio::spawn(Driver::new(swarm, shared.clone(), receiver).run());
        Ok(Self(Arc::new(Inner {
            shared,
            key,
            listen_addrs,
            driver: Mutex::new(Some(driver)),
        })))
    }

    /// The host's own transport public key.
    #[must_use]
    pub fn key(&self) -> PeerKey {
        self.0.key
    }

    /// Where the host listens, one for each address asked for, with the port that was taken.
    #[must_use]
    pub fn listen_addrs(&self) -> &[String] {
        &self.0.listen_addrs
    }

    /// Replaces the list of peers. Those no longer in it are cut at once, streams included; new ones are dialed at once.
    /// The host's own key is skipped, and of two entries with one key the first counts.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Address`]; the list is then as before.
    pub fn set_peers(&self, peers: Vec<Peer>) -> Result<(), Error> {
        let shared = &self.0.shared;
        let mut wanted = Vec::with_capacity(peers.len());
        let mut seen = HashSet::new();
        for peer in peers {
            if peer.key == self.0.key {
                continue;
            }
            let Some(id) = peer_id(&peer.key) else {
                return Err(Error::Key { label: peer.label });
            };
            let address = match peer.addr.as_str() {
                "" => None,
                text => Some(Address::parse(text)?),
            };
            if seen.insert(id) {
                let label = peer.label;
                wanted.push((id, peer.key, Place { label, address }));
            }
        }
        let (added, removed, moved) = shared.replace_links(|old| {
            let (mut new, mut added, mut moved) = (HashMap::new(), Vec::new(), Vec::new());
            for (id, key, place) in wanted {
                let link = if let Some(link) = old.get(&id) {
                    if link.set_place(place) {
                        moved.push(id);
                    }
                    link.clone()
                } else {
                    let link = Link::new(key, id, place, &shared.limits, &shared.stop);
                    let link = Arc::new(link);
                    added.push(link.clone());
                    link
                };
                new.insert(id, link);
            }
            let removed: Vec<_> = old
                .values()
                .filter(|link| !new.contains_key(&link.id))
                .cloned()
                .collect();
            (new, (added, removed, moved))
        });
        for link in &removed {
            link.removed.cancel();
            link.set_connected(false);
        }
        let mut fresh = moved;
        for link in added {
            fresh.push(link.id);
            tokio::spawn(notify::run(shared.clone(), link));
        }
        self.command(Command::Peers {
            removed: removed.iter().map(|link| link.id).collect(),
            fresh,
        })
    }

    /// What is known of every peer of the list, ordered by label.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let mut all: Vec<_> = self
            .0
            .shared
            .links()
            .iter()
            .map(|link| {
                let status = link.status();
                PeerStatus {
                    key: link.key,
                    label: link.label(),
                    connected: status.connected,
                    since: status.since,
                    rtt_ms: status.rtt_ms,
                }
            })
            .collect();
        all.sort_by(|a, b| (&a.label, a.key).cmp(&(&b.label, b.key)));
        all
    }

    /// Whether a connection to the peer stands now.
    #[must_use]
    pub fn is_connected(&self, key: &PeerKey) -> bool {
        self.0
            .shared
            .link_by_key(key)
            .is_ok_and(|link| link.status().connected)
    }

    /// Waits until a connection to the peer stands.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`], [`Error::Deadline`], [`Error::Stopped`].
    pub async fn wait_connected(&self, key: &PeerKey, limit: Duration) -> Result<(), Error> {
        let wait = async {
            loop {
                if self.0.shared.stop.is_cancelled() {
                    return Err(Error::Stopped);
                }
                if self.0.shared.link_by_key(key)?.status().connected {
                    return Ok(());
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(limit, wait).await.unwrap_or(Err(Error::Deadline {
            what: "connecting",
            limit,
        }))
    }

    /// Sends a request and returns the answer, at most [`crate::Limits::max_response_bytes`] long. `deadline` covers
    /// everything from opening the stream on. A peer that is not connected is not waited for.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`], [`Error::NotConnected`], [`Error::Busy`], [`Error::Unsupported`],
    /// [`Error::RequestTooLarge`], [`Error::Refused`], [`Error::PeerFailed`], [`Error::TooLarge`], [`Error::EarlyEnd`],
    /// [`Error::Deadline`], [`Error::Cut`], [`Error::Io`], [`Error::Stopped`].
    pub async fn request(
        &self,
        key: &PeerKey,
        protocol: &str,
        body: &[u8],
        deadline: Duration,
    ) -> Result<Vec<u8>, Error> {
        let shared = &self.0.shared;
        let link = shared.link_by_key(key)?;
        let label = link.label();
        let max = shared.limits.max_response_bytes;
        let work = async {
            let stream = open(shared, &link, protocol, deadline).await?;
            request::ask(stream, &label, body, max, deadline).await
        };
        let result = tokio::select! {
            () = link.removed.cancelled() => Err(Error::Cut { peer: label.clone() }),
            done = timeout(deadline, work) => done.unwrap_or(Err(Error::Deadline {
                what: "a request",
                limit: deadline,
            })),
        };
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Error::Refused { .. } | Error::RequestTooLarge { .. } | Error::Busy { .. }) => {
                "refused"
            }
            Err(Error::Deadline { .. }) => "deadline",
            Err(_) => "failed",
        };
        Metrics::count_outcome(&shared.metrics.requests_sent, protocol, outcome);
        result
    }

    /// Answers the requests of a protocol with `handler`, which gets the peer's transport key and the request. A handler
    /// that panics or runs over its time ends that one request.
    ///
    /// # Errors
    /// [`Error::Served`], [`Error::Protocol`].
    pub fn serve<F, Fut>(
        &self,
        protocol: &str,
        limits: ServeLimits,
        handler: F,
    ) -> Result<(), Error>
    where
        F: Fn(PeerKey, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<u8>, Refusal>> + Send + 'static,
    {
        let incoming = self.accept_streams(protocol)?;
        let shared = self.0.shared.clone();
        request::serve(shared, protocol.into(), incoming, limits, handler);
        Ok(())
    }

    /// Queues `body` for every connected peer, best effort: a slow peer's oldest notifications are dropped and counted.
    /// Returns how many peers it was queued for; 0 for one longer than [`crate::Limits::max_notification_bytes`].
    pub fn notify_all(&self, protocol: &str, body: impl Into<Bytes>) -> usize {
        let body = body.into();
        let shared = &self.0.shared;
        let max = shared.limits.max_notification_bytes;
        if body.len() > max {
            tracing::warn!(protocol, bytes = body.len(), max, "notification too long");
            Metrics::count(&shared.metrics.notifications_dropped, protocol);
            return 0;
        }
        notify::notify_all(shared, protocol, &body)
    }

    /// Receives the notifications of a protocol: the peer's transport key and the body, at most
    /// [`crate::Limits::max_notification_bytes`] long. At most `queue` of them wait; while it is full, peers are not read.
    ///
    /// # Errors
    /// [`Error::Served`], [`Error::Protocol`].
    pub fn notifications(
        &self,
        protocol: &str,
        queue: usize,
    ) -> Result<mpsc::Receiver<(PeerKey, Vec<u8>)>, Error> {
        let incoming = self.accept_streams(protocol)?;
        let (sender, receiver) = mpsc::channel(queue.max(1));
        let shared = self.0.shared.clone();
        let max = shared.limits.max_notification_bytes;
        notify::receive(shared, protocol.into(), incoming, max, sender);
        Ok(receiver)
    }

    /// Opens a raw stream to a connected peer.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`], [`Error::NotConnected`], [`Error::Busy`], [`Error::Unsupported`], [`Error::Deadline`],
    /// [`Error::Cut`], [`Error::Stopped`].
    pub async fn open_stream(&self, key: &PeerKey, protocol: &str) -> Result<PeerStream, Error> {
        let shared = &self.0.shared;
        let link = shared.link_by_key(key)?;
        let mut stream = open(shared, &link, protocol, shared.limits.write_timeout).await?;
        stream.set_idle_timeout(Some(shared.limits.stream_idle_timeout));
        Ok(stream)
    }

    /// Takes the raw streams that peers open for a protocol.
    ///
    /// # Errors
    /// [`Error::Served`], [`Error::Protocol`].
    pub fn accept_streams(&self, protocol: &str) -> Result<StreamReceiver, Error> {
        let shared = &self.0.shared;
        let receiver = shared.accept(protocol)?;
        Ok(StreamReceiver(receiver, shared.limits.stream_idle_timeout))
    }

    /// Bytes at the sockets so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let metrics = &self.0.shared.metrics;
        Traffic {
            bytes_in: metrics.bytes_in.get(),
            bytes_out: metrics.bytes_out.get(),
        }
    }

    /// Puts the host's counters into `registry`, under `tally_swarm`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.0.shared.metrics.register(registry);
    }

    /// Stops the host and waits until its ports are closed.
    pub async fn shutdown(&self) {
        self.0.shared.stop.cancel();
        let driver = self
            .0
            .driver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(driver) = driver {
            // It fails only if it panicked, and then it has ended too.
            let _ = driver.await;
        }
    }

    fn command(&self, command: Command) -> Result<(), Error> {
        self.0
            .shared
            .commands
            .send(command)
            .map_err(|_| Error::Stopped)
    }
}

/// Opens a stream without an idle timeout.
pub(crate) async fn open(
    shared: &Shared,
    link: &Arc<Link>,
    protocol: &str,
    limit: Duration,
) -> Result<PeerStream, Error> {
    let protocol = protocol_name(protocol)?;
    let Ok(permit) = link.outbound.clone().try_acquire_owned() else {
        return Err(Error::Busy {
            peer: link.label(),
            what: "too many streams are open to it",
        });
    };
    let (reply, answer) = oneshot::channel();
    let open = Open {
        protocol,
        permit,
        reply,
    };
    shared
        .commands
        .send(Command::Open(link.clone(), open))
        .map_err(|_| Error::Stopped)?;
    match timeout(limit, answer).await {
        Ok(Ok(stream)) => stream,
        // The connection went away with the question.
        Ok(Err(_)) => Err(Error::Cut { peer: link.label() }),
        Err(_) => Err(Error::Deadline {
            what: "opening a stream",
            limit,
        }),
    }
}

fn keypair(seed: &[u8; 32]) -> Result<(Keypair, PeerKey), Error> {
    let mut seed = *seed;
    let secret = ed25519::SecretKey::try_from_bytes(&mut seed);
    seed.zeroize();
    let pair = ed25519::Keypair::from(secret.map_err(|_| Error::Key {
        label: "this host".into(),
    })?);
    let key = pair.public().to_bytes();
    Ok((Keypair::from(pair), key))
}

fn build(keypair: &Keypair, shared: &Arc<Shared>) -> Result<Swarm<Behaviour>, Error> {
    let limits = &shared.limits;
    let noise = noise::Config::new(keypair).map_err(|_| Error::Key {
        label: "this host".into(),
    })?;
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(MAX_MUXED_STREAMS);
    let metrics = shared.metrics.clone();
    let transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .map(move |socket, _| Counted::new(socket, &metrics))
        .upgrade(Version::V1)
        .authenticate(noise)
        .multiplex(muxer)
        .timeout(limits.handshake_timeout)
        .boxed();
    let behaviour = Behaviour {
        gate: Gate::new(shared.clone()),
        ping: ping::Behaviour::new(
            ping::Config::new()
                .with_interval(limits.ping_interval)
                .with_timeout(limits.ping_interval),
        ),
    };
    let config = swarm::Config::with_tokio_executor().with_max_negotiating_inbound_streams(32);
    let local = keypair.public().to_peer_id();
    Ok(Swarm::new(transport, behaviour, local, config))
}

/// Listens, and returns the address with the port that was taken.
async fn listen_on(swarm: &mut Swarm<Behaviour>, text: &str) -> Result<String, Error> {
    let failed = |reason: String| Error::Listen {
        addr: text.to_owned(),
        reason,
    };
    let address = match Address::parse(text)? {
        Address::Direct(address) => address,
        Address::Name { .. } => return Err(failed("an IP address is needed here".into())),
    };
    if let Some(socket) = socket(&address).filter(|s| s.port() != 0) {
        // libp2p sets SO_REUSEPORT on its listeners, so that two hosts could share a port without noticing.
        TcpListener::bind(socket).map_err(|e| failed(e.to_string()))?;
    }
    let id = swarm
        .listen_on(address)
        .map_err(|e| failed(e.to_string()))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } if listener_id == id => {
                let port = socket(&address).map_or(0, |s| s.port());
                // An unspecified address is reported once for each interface: keep what was asked for.
                let host = text.split("/tcp/").next().unwrap_or(text);
                return Ok(format!("{host}/tcp/{port}"));
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                ..
            } if listener_id == id => {
                return Err(failed(format!("{reason:?}")));
            }
            _ => {}
        }
    }
}

fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}
