//! The event loop: owns the libp2p swarm, dials, and obeys the handle's commands.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, Swarm, ping};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::config::{Address, Family};
use crate::handler::Open;
use crate::shared::{Link, Shared};

/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection shorter than this counts as a failed dial: the peer does not have us in its list, say.
const LASTING: Duration = Duration::from_secs(5);
/// A peer lost for longer is dialed less often.
const RECENT: Duration = Duration::from_secs(60);

pub(crate) enum Command {
    /// Opens a stream.
    Open(Arc<Link>, Open),
    /// The list changed: cut `removed`, dial what is not connected (`fresh` at once).
    Peers {
        removed: Vec<PeerId>,
        fresh: Vec<PeerId>,
    },
    /// A peer's name was resolved for a dial.
    Resolved(PeerId, Vec<Multiaddr>),
}

struct Dialing {
    /// When to dial next; `None` while connected or while a dial is under way.
    next: Option<Instant>,
    failures: u32,
    /// Since when no lasting connection stood.
    lost_at: Instant,
    connected_at: Option<Instant>,
}

impl Dialing {
    fn new(now: Instant) -> Self {
        Self {
            next: Some(now),
            failures: 0,
            lost_at: now,
            connected_at: None,
        }
    }
}

pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    dialing: HashMap<PeerId, Dialing>,
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            swarm,
            shared,
            commands,
            dialing: HashMap::new(),
        }
    }

    /// Runs until the host is stopped.
    pub(crate) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        loop {
            let due = self.dialing.values().filter_map(|d| d.next).min();
            let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                () = stop.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.event(event),
                () = sleep_until(due) => self.dial_due(),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Open(link, open) => self.swarm.behaviour_mut().gate.open(&link, open),
            Command::Peers { removed, fresh } => {
                for peer in removed {
                    self.dialing.remove(&peer);
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
                let now = Instant::now();
                for peer in fresh {
                    self.dialing.insert(peer, Dialing::new(now));
                }
            }
            Command::Resolved(peer, addresses) => self.dial(peer, addresses),
        }
    }

    fn event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                let now = Instant::now();
                let state = self
                    .dialing
                    .entry(peer_id)
                    .or_insert_with(|| Dialing::new(now));
                state.next = None;
                state.connected_at.get_or_insert(now);
                if let Some(link) = self.shared.link(&peer_id) {
                    tracing::info!(peer = %link.label(), "connected");
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                cause,
                ..
            } => {
                let Some(link) = self.shared.link(&peer_id) else {
                    self.dialing.remove(&peer_id);
                    return;
                };
                let now = Instant::now();
                let state = self
                    .dialing
                    .entry(peer_id)
                    .or_insert_with(|| Dialing::new(now));
                let lasted = state.connected_at.take().map(|at| now - at);
                if lasted.is_some_and(|d| d >= LASTING) {
                    state.failures = 0;
                    state.lost_at = now;
                }
                let cause = cause.map(|c| c.to_string());
                tracing::info!(peer = %link.label(), ?cause, "disconnected");
                self.retry_later(peer_id);
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: Some(peer),
                error,
                ..
            } => {
                self.shared.metrics.dial_failures.inc();
                if let Some(link) = self.shared.link(&peer) {
                    tracing::debug!(peer = %link.label(), %error, "dial failed");
                }
                self.retry_later(peer);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping)) => self.ping(&ping),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "listener error");
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                tracing::error!(?reason, "listener closed");
            }
            _ => {}
        }
    }

    fn ping(&mut self, event: &ping::Event) {
        match &event.result {
            Ok(rtt) => {
                if let Some(link) = self.shared.link(&event.peer) {
                    link.set_rtt_ms(rtt.as_secs_f64() * 1000.0);
                }
            }
            Err(ping::Failure::Unsupported) => {}
            Err(_) => {
                self.swarm.close_connection(event.connection);
            }
        }
    }

    /// Sets the next dial of a peer that is not connected.
    fn retry_later(&mut self, peer: PeerId) {
        if self.swarm.is_connected(&peer) {
            return;
        }
        let limits = &self.shared.limits;
        if let Some(state) = self.dialing.get_mut(&peer) {
            let max = if state.lost_at.elapsed() < RECENT {
                limits.dial_retry_max
            } else {
                limits.dial_retry_max.saturating_mul(5)
            };
            let wait = limits
                .dial_retry_min
                .saturating_mul(1 << state.failures.min(16));
            state.failures = state.failures.saturating_add(1);
            state.next = Some(Instant::now() + wait.min(max));
        }
    }

    fn dial_due(&mut self) {
        let now = Instant::now();
        let due: Vec<PeerId> = self
            .dialing
            .iter()
            .filter(|(_, d)| d.next.is_some_and(|at| at <= now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            if let Some(state) = self.dialing.get_mut(&peer) {
                state.next = None;
            }
            let Some(link) = self.shared.link(&peer) else {
                self.dialing.remove(&peer);
                continue;
            };
            match link.address() {
                // It can only dial us.
                None => {}
                Some(Address::Direct(address)) => self.dial(peer, vec![address]),
                Some(Address::Name { host, port, family }) => {
                    let commands = self.shared.commands.clone();
                    tokio::spawn(async move {
                        let addresses = resolve(&host, port, family).await;
                        let _ = commands.send(Command::Resolved(peer, addresses));
                    });
                }
            }
        }
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.shared.link(&peer).is_none() || self.swarm.is_connected(&peer) {
            return;
        }
        self.shared.metrics.dials.inc();
        // A new port: dialing from the listening port would fail while an old connection between the two lingers.
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Disconnected)
            .addresses(addresses)
            .allocate_new_port()
            .build();
        if let Err(error) = self.swarm.dial(options) {
            self.shared.metrics.dial_failures.inc();
            tracing::debug!(%error, "cannot dial");
            self.retry_later(peer);
        }
    }
}

async fn resolve(host: &str, port: u16, family: Family) -> Vec<Multiaddr> {
    match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => found
            .filter(|a| match family {
                Family::Any => true,
                Family::V4 => a.is_ipv4(),
                Family::V6 => a.is_ipv6(),
            })
            .map(multiaddr)
            .take(8)
            .collect(),
        Ok(Err(error)) => {
            tracing::debug!(host, %error, "name not resolved");
            Vec::new()
        }
        Err(_) => {
            tracing::debug!(host, "name not resolved in time");
            Vec::new()
        }
    }
}

fn multiaddr(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Tcp(addr.port()))
}
