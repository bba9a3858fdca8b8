//! The door between the engine and the network.
//!
//! The engine's own swarm cannot let go of a connection whose other end is out of reach: closing it waits until what is still to be sent
//! was sent, and TCP tries that again after ever longer pauses, up to minutes. Meanwhile the other node, which has forgotten the old
//! connection, makes a new one. Here it is a second one to a known peer, so its greeting (topics, proof of the consensus key) is not
//! given again, and what the other node says from then on is heard by nobody.
//!
//! So the engine speaks to loopback alone, and this door carries the bytes. It can drop every connection with one peer at once, in both
//! directions, and the network is told by resets: then both engines have none with each other, and the next is a first one for both.
//!
//! A connection begins with [`HELLO`] and the dialer's peer ID. That is a label, by which the door finds the connections of a peer, and
//! proves nothing: who speaks is proven by the handshake within.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_buf, sink};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use crate::error::Error;
use crate::identity::parse_address;

/// First bytes of a connection.
const HELLO: &[u8] = b"tally/consensus/1\n";
/// Bytes of the peer ID of an Ed25519 key.
const ID_BYTES: usize = 38;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a dialer may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// How long the last bytes of a connection that the engine closed may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// Pause after an error of the system, as when there are too many open files.
const AFTER_ERROR: Duration = Duration::from_millis(100);
const BUFFER: usize = 64 << 10;

/// The door. Clones are handles of the same one.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    own: PeerId,
    /// Where the engine listens.
    engine: SocketAddr,
    /// Keeps that port until the engine takes it.
    kept: Mutex<Option<TcpListener>>,
    per_ip: usize,
    ips: Mutex<HashMap<IpAddr, usize>>,
    peers: Mutex<HashMap<PeerId, Peer>>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

struct Peer {
    /// By which the engine dials it.
    local: Multiaddr,
    /// No connection is let through for the moment.
    closed: bool,
    door: AbortHandle,
    /// Its connections, with when they began.
    live: Vec<(SystemTime, AbortHandle)>,
}

/// One connection of an IP address.
struct Slot {
    gate: Gate,
    ip: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut ips = lock(&self.gate.0.ips);
        if let Some(count) = ips.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                ips.remove(&self.ip);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The peer that an address names.
fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    address.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

/// Reads the multiaddr of a peer.
///
/// # Errors
/// [`Error::Config`] if it has no peer ID, or is not one of TCP.
pub(crate) fn parse_peer(text: &str) -> Result<(Multiaddr, PeerId), Error> {
    let address = parse_address("peers", text)?;
    let bad = |reason: &str| Error::Config {
        field: "peers",
        reason: format!("{text}: {reason}"),
    };
    let peer = peer_of(&address).ok_or_else(|| bad("no peer ID"))?;
    if peer.to_bytes().len() != ID_BYTES {
        return Err(bad("the peer ID is not that of an Ed25519 key"));
    }
    if !address.iter().any(|part| matches!(part, Protocol::Tcp(_))) {
        return Err(bad("not a TCP address"));
    }
    Ok((address, peer))
}

/// Where to listen.
fn listen_at(text: &str) -> Result<SocketAddr, Error> {
    let address = parse_address("listen", text)?;
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => Some(IpAddr::V4(ip)),
        Some(Protocol::Ip6(ip)) => Some(IpAddr::V6(ip)),
        _ => None,
    };
    match (ip, parts.next()) {
        (Some(ip), Some(Protocol::Tcp(port))) => Ok(SocketAddr::new(ip, port)),
        _ => Err(Error::Config {
            field: "listen",
            reason: format!("{text} is not a TCP address with an IP address"),
        }),
    }
}

async fn connect(address: &Multiaddr) -> io::Result<TcpStream> {
    let unfit = || io::Error::other("not an address that can be dialed");
    let mut parts = address.iter();
    let host = parts.next().ok_or_else(unfit)?;
    let Some(Protocol::Tcp(port)) = parts.next() else {
        return Err(unfit());
    };
    let found: Vec<SocketAddr> = match &host {
        Protocol::Ip4(ip) => vec![SocketAddr::new(IpAddr::V4(*ip), port)],
        Protocol::Ip6(ip) => vec![SocketAddr::new(IpAddr::V6(*ip), port)],
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
            let found = lookup_host((name.as_ref(), port)).await?;
            found
                .filter(|a| match host {
                    Protocol::Dns4(_) => a.is_ipv4(),
                    Protocol::Dns6(_) => a.is_ipv6(),
                    _ => true,
                })
                .take(8)
                .collect()
        }
        _ => return Err(unfit()),
    };
    TcpStream::connect(found.as_slice()).await
}

/// Carries bytes both ways until one side ends. The stream to the network ends with a reset, whatever it still has to send.
async fn carry(mut outer: TcpStream, mut inner: TcpStream) {
    let (outer_in, mut outer_out) = outer.split();
    let (inner_in, mut inner_out) = inner.split();
    let mut outer_in = BufReader::with_capacity(BUFFER, outer_in);
    let mut inner_in = BufReader::with_capacity(BUFFER, inner_in);
    let by_engine = tokio::select! {
        _ = copy_buf(&mut outer_in, &mut inner_out) => false,
        _ = copy_buf(&mut inner_in, &mut outer_out) => true,
    };
    if by_engine {
        // Its last words, to who is there to hear them.
        let _ = timeout(FAREWELL, async {
            outer_out.shutdown().await?;
            copy_buf(&mut outer_in, &mut sink()).await
        })
        .await;
    }
}

/// Small messages are sent at once, and dropping the stream resets the connection.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_zero_linger()
}

impl Gate {
    /// Opens the door for the node `own` at `listen`; the engine is to listen at [`Self::make_way`].
    ///
    /// # Errors
    /// [`Error::Config`] for an address that is none, [`Error::Io`] for one that cannot be had.
    pub(crate) async fn open(own: PeerId, listen: &str, per_ip: usize) -> Result<Self, Error> {
        let at = listen_at(listen)?;
        let failed = |at: SocketAddr| {
            move |e: io::Error| Error::Io {
                path: at.to_string(),
                reason: e.to_string(),
            }
        };
        let listener = TcpListener::bind(at).await.map_err(failed(at))?;
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let kept = TcpListener::bind(any).await.map_err(failed(any))?;
        let engine = kept.local_addr().map_err(failed(any))?;
        let gate = Self(Arc::new(Inner {
            own,
            engine,
            kept: Mutex::new(Some(kept)),
            per_ip,
            ips: Mutex::default(),
            peers: Mutex::default(),
            listener: Mutex::default(),
        }));
        let listening = tokio::spawn(gate.clone().listen(listener));
        *lock(&gate.0.listener) = Some(listening);
        Ok(gate)
    }

    /// Where the engine is to listen, at once: its port is kept free no longer.
    pub(crate) fn make_way(&self) -> String {
        drop(lock(&self.0.kept).take());
        format!("/ip4/{}/tcp/{}", self.0.engine.ip(), self.0.engine.port())
    }

    /// Lets a peer in, and gives the address by which the engine reaches it.
    ///
    /// # Errors
    /// As [`parse_peer`]; [`Error::Io`] if the system has no port left.
    pub(crate) async fn admit(&self, address: &str) -> Result<Multiaddr, Error> {
        let (address, peer) = parse_peer(address)?;
        self.dismiss(&peer);
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let failed = |e: io::Error| Error::Io {
            path: any.to_string(),
            reason: e.to_string(),
        };
        let listener = TcpListener::bind(any).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let local = Multiaddr::from(Ipv4Addr::LOCALHOST)
            .with(Protocol::Tcp(port))
            .with(Protocol::P2p(peer));
        let door = tokio::spawn(self.clone().door(peer, address, listener)).abort_handle();
        lock(&self.0.peers).insert(
            peer,
            Peer {
                local: local.clone(),
                closed: false,
                door,
                live: Vec::new(),
            },
        );
        Ok(local)
    }

    /// Drops a peer and its connections; gives the address by which the engine knows it, if it was there.
    pub(crate) fn dismiss(&self, peer: &PeerId) -> Option<Multiaddr> {
        let peer = lock(&self.0.peers).remove(peer)?;
        peer.door.abort();
        peer.live.iter().for_each(|(_, task)| task.abort());
        Some(peer.local)
    }

    /// Drops a peer's connections and lets none through until [`Self::reopen`]; gives the address by which the engine knows it.
    pub(crate) fn close(&self, peer: &PeerId) -> Option<Multiaddr> {
        let mut peers = lock(&self.0.peers);
        let peer = peers.get_mut(peer)?;
        peer.closed = true;
        peer.live.drain(..).for_each(|(_, task)| task.abort());
        Some(peer.local.clone())
    }

    /// Lets a peer's connections through again; gives the address by which the engine is to know it, if it is known still.
    pub(crate) fn reopen(&self, peer: &PeerId) -> Option<Multiaddr> {
        let mut peers = lock(&self.0.peers);
        let peer = peers.get_mut(peer)?;
        peer.closed = false;
        Some(peer.local.clone())
    }

    /// When the oldest connection with a peer that stands began.
    pub(crate) fn oldest(&self, peer: &PeerId) -> Option<SystemTime> {
        let peers = lock(&self.0.peers);
        let live = peers.get(peer)?.live.iter();
        live.filter(|(_, task)| !task.is_finished())
            .map(|(began, _)| *began)
            .min()
    }

    /// Ends everything; the port is free when this returns.
    pub(crate) async fn stop(&self) {
        let peers: Vec<PeerId> = lock(&self.0.peers).keys().copied().collect();
        for peer in peers {
            self.dismiss(&peer);
        }
        let listener = lock(&self.0.listener).take();
        if let Some(listener) = listener {
            listener.abort();
            let _ = listener.await;
        }
    }

    fn slot(&self, ip: IpAddr) -> Option<Slot> {
        let mut ips = lock(&self.0.ips);
        let count = ips.entry(ip).or_default();
        if *count >= self.0.per_ip {
            return None;
        }
        *count += 1;
        drop(ips);
        Some(Slot {
            gate: self.clone(),
            ip,
        })
    }

    /// Runs a connection of a peer, as long as the peer is let in.
    fn run(&self, peer: &PeerId, connection: impl Future<Output = ()> + Send + 'static) {
        let mut peers = lock(&self.0.peers);
        let Some(peer) = peers.get_mut(peer).filter(|peer| !peer.closed) else {
            return;
        };
        peer.live.retain(|(_, task)| !task.is_finished());
        let task = tokio::spawn(connection).abort_handle();
        peer.live.push((SystemTime::now(), task));
    }

    /// Takes connections from the network.
    async fn listen(self, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            };
            if let Some(slot) = self.slot(from.ip().to_canonical()) {
                tokio::spawn(self.clone().greet(stream, slot));
            }
        }
    }

    /// Finds out whose a connection is said to be, and carries it.
    async fn greet(self, mut outer: TcpStream, slot: Slot) {
        let mut hello = [0; HELLO.len() + ID_BYTES];
        let read = timeout(INTRODUCTION, outer.read_exact(&mut hello)).await;
        let label = match read {
            Ok(Ok(_)) => hello.strip_prefix(HELLO),
            _ => None,
        };
        let Some(peer) = label.and_then(|id| PeerId::from_bytes(id).ok()) else {
            return;
        };
        let engine = self.0.engine;
        self.run(&peer, async move {
            let _slot = slot;
            if let Ok(inner) = TcpStream::connect(engine).await
                && inner.set_nodelay(true).is_ok()
                && prepare(&outer).is_ok()
            {
                carry(outer, inner).await;
            }
        });
    }

    /// Takes the engine's connections to one peer.
    async fn door(self, peer: PeerId, address: Multiaddr, listener: TcpListener) {
        loop {
            let Ok((inner, _)) = listener.accept().await else {
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            };
            let (own, address) = (self.0.own, address.clone());
            self.run(&peer, async move {
                let Ok(Ok(mut outer)) = timeout(CONNECT, connect(&address)).await else {
                    return;
                };
                let hello = [HELLO, &own.to_bytes()].concat();
                if prepare(&outer).is_ok()
                    && inner.set_nodelay(true).is_ok()
                    && outer.write_all(&hello).await.is_ok()
                {
                    carry(outer, inner).await;
                }
            });
        }
    }
}
