//! Who may connect, and which connection a stream goes over.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, ListenFailure};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, ping};

use crate::Error;
use crate::handler::{Handler, Open};
use crate::shared::{Link, Shared};

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) gate: Gate,
    pub(crate) ping: ping::Behaviour,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Denied(&'static str);

/// Lets in the peers of the list and nobody else, and keeps count.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    /// Inbound connections that have not finished their handshake.
    pending: HashMap<ConnectionId, Option<IpAddr>>,
    /// Established connections, oldest first.
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    events: VecDeque<ToSwarm<Infallible, Open>>,
}

impl Gate {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            pending: HashMap::new(),
            connections: HashMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Opens a stream over the newest connection: an older one may be dead without knowing it yet.
    pub(crate) fn open(&mut self, link: &Link, open: Open) {
        let Some(newest) = self.connections.get(&link.id).and_then(|c| c.last()) else {
            let _ = open
                .reply
                .send(Err(Error::NotConnected { peer: link.label() }));
            return;
        };
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: link.id,
            handler: NotifyHandler::One(*newest),
            event: open,
        });
    }

    fn admit(&mut self, peer: &PeerId) -> Result<Handler, ConnectionDenied> {
        match self.shared.link(peer) {
            Some(link) => Ok(Handler::new(self.shared.clone(), link)),
            None => {
                self.shared.metrics.refuse_connection("not_in_the_list");
                Err(ConnectionDenied::new(Denied("not in the list of peers")))
            }
        }
    }
}

fn ip(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = ip(remote);
        let limits = &self.shared.limits;
        let same = self.pending.values().filter(|p| **p == ip).count();
        if self.pending.len() >= limits.max_pending_inbound
            || same >= limits.max_pending_inbound_per_ip
        {
            self.shared.metrics.refuse_connection("too_many_handshakes");
            return Err(ConnectionDenied::new(Denied("too many handshakes")));
        }
        self.pending.insert(id, ip);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.pending.remove(&id);
        self.admit(&peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        _addr: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(&peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            }) => {
                let all = self.connections.entry(peer_id).or_default();
                all.push(connection_id);
                if all.len() > self.shared.limits.max_connections_per_peer
                    && let Some(oldest) = all.first().copied()
                {
                    self.events.push_back(ToSwarm::CloseConnection {
                        peer_id,
                        connection: CloseConnection::One(oldest),
                    });
                }
                if let Some(link) = self.shared.link(&peer_id) {
                    link.set_connected(true);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                ..
            }) => {
                if let Some(all) = self.connections.get_mut(&peer_id) {
                    all.retain(|id| *id != connection_id);
                    if all.is_empty() {
                        self.connections.remove(&peer_id);
                        if let Some(link) = self.shared.link(&peer_id) {
                            link.set_connected(false);
                        }
                    }
                }
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.pending.remove(&connection_id);
            }
            _ => {}
        }
        let peers = i64::try_from(self.connections.len()).unwrap_or(i64::MAX);
        self.shared.metrics.connected_peers.set(peers);
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, never: Infallible) {
        match never {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Open>> {
        // The event loop polls again after every command, so no waker is kept.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
