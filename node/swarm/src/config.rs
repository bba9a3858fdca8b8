//! What a host is started with, and what it says about its peers.

use std::time::{Duration, SystemTime};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use zeroize::Zeroizing;

use crate::Error;

/// A transport public key: 32 bytes, Ed25519.
pub type PeerKey = [u8; 32];

/// The seed of the transport key. Wiped when dropped; it has no text form.
pub struct TransportSeed(pub(crate) Zeroizing<[u8; 32]>);

impl TransportSeed {
    /// Takes over the 32 bytes.
    #[must_use]
    pub fn new(seed: Zeroizing<[u8; 32]>) -> Self {
        Self(seed)
    }
}

/// What a host needs to start.
pub struct HostConfig {
    /// The transport key's seed.
    pub secret: TransportSeed,
    /// Where to listen: `/ip4/ADDRESS/tcp/PORT` each; port 0 takes any free port; an empty list only dials.
    pub listen: Vec<String>,
    /// Limits on what peers may use of this host.
    pub limits: Limits,
}

/// Limits on what peers and strangers may use of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Inbound connections that have not finished their handshake, all together.
    pub max_pending_inbound: usize,
    /// Inbound connections from one IP address that have not finished their handshake.
    pub max_pending_inbound_per_ip: usize,
    /// How long a handshake (TCP, Noise, yamux) may take.
    pub handshake_timeout: Duration,
    /// Connections to one peer; the oldest is closed when one more comes.
    pub max_connections_per_peer: usize,
    /// Streams that one peer may have open to this host, and this host to one peer, each (1 to 120).
    pub max_streams_per_peer: usize,
    /// The longest answer that [`crate::Host::request`] takes, in bytes.
    pub max_response_bytes: usize,
    /// The longest notification, in bytes.
    pub max_notification_bytes: usize,
    /// Notifications waiting for one peer; the oldest is dropped.
    pub max_notify_queue: usize,
    /// Bytes of notifications waiting for one peer; the oldest is dropped.
    pub max_notify_queue_bytes: usize,
    /// How long opening a stream or writing one notification may take.
    pub write_timeout: Duration,
    /// How long a stream for a match may make no progress while it is being read or written; see
    /// [`crate::PeerStream::set_idle_timeout`].
    pub stream_idle_timeout: Duration,
    /// Time between pings of a connection; one that goes unanswered this long again closes the connection.
    pub ping_interval: Duration,
    /// The first wait before dialing a peer again.
    pub dial_retry_min: Duration,
    /// The longest wait before dialing again a peer that was lost less than a minute ago; after that, five times as long.
    pub dial_retry_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pending_inbound: 128,
            max_pending_inbound_per_ip: 32,
            handshake_timeout: Duration::from_secs(5),
            max_connections_per_peer: 2,
            max_streams_per_peer: 96,
            max_response_bytes: 16 << 20,
            max_notification_bytes: 1 << 20,
            max_notify_queue: 1_024,
            max_notify_queue_bytes: 8 << 20,
            write_timeout: Duration::from_secs(10),
            stream_idle_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(5),
            dial_retry_min: Duration::from_millis(100),
            dial_retry_max: Duration::from_secs(1),
        }
    }
}

impl Limits {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let within = |name, found: usize, max: usize, expected| {
            if (1..=max).contains(&found) {
                Ok(())
            } else {
                Err(Error::Limit {
                    name,
                    found,
                    expected,
                })
            }
        };
        // Twice this number, and those still being negotiated, must stay under the multiplexer's own count, which
        // closes the whole connection when it is passed.
        within(
            "max_streams_per_peer",
            self.max_streams_per_peer,
            120,
            "1 to 120",
        )?;
        within(
            "max_connections_per_peer",
            self.max_connections_per_peer,
            8,
            "1 to 8",
        )?;
        within(
            "max_notify_queue",
            self.max_notify_queue,
            1 << 20,
            "1 to 2^20",
        )?;
        let frame = u32::MAX as usize;
        within(
            "max_response_bytes",
            self.max_response_bytes,
            frame,
            "1 to 2^32-1",
        )?;
        within(
            "max_notification_bytes",
            self.max_notification_bytes,
            frame,
            "1 to 2^32-1",
        )
    }
}

/// What a peer may ask of one request protocol of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeLimits {
    /// The longest request, in bytes.
    pub max_request_bytes: usize,
    /// The longest answer, in bytes.
    pub max_response_bytes: usize,
    /// Requests of one peer being answered at a time; more are refused as busy.
    pub max_concurrent_per_peer: usize,
    /// How long a request may take from its first byte to the end of its answer, the handler's work included.
    pub deadline: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            max_request_bytes: 1 << 20,
            max_response_bytes: 4 << 20,
            max_concurrent_per_peer: 32,
            deadline: Duration::from_secs(30),
        }
    }
}

/// One node of the ledger's node list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its transport public key.
    pub key: PeerKey,
    /// Where to dial it, `/dns4/HOST/tcp/PORT` or `/ip4/ADDRESS/tcp/PORT`; empty if it can only dial us.
    pub addr: String,
    /// A name for logs and errors.
    pub label: String,
}

/// What is known of a peer now.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// Its transport public key.
    pub key: PeerKey,
    /// Its name.
    pub label: String,
    /// Whether a connection stands.
    pub connected: bool,
    /// When the present state began: connected since, or gone since.
    pub since: SystemTime,
    /// The latest round trip, in milliseconds.
    pub rtt_ms: Option<f64>,
}

/// A peer's address, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Dialed as it is.
    Direct(Multiaddr),
    /// Resolved by the system each time that it is dialed, so that a peer may move.
    Name {
        host: String,
        port: u16,
        family: Family,
    },
}

/// Which addresses of a name count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::Address {
            found: text.to_owned(),
            reason,
        };
        let addr: Multiaddr = text.parse().map_err(|e| bad(format!("{e}")))?;
        let parts: Vec<_> = addr.iter().collect();
        let [host, Protocol::Tcp(port)] = parts.as_slice() else {
            return Err(bad(
                "a host and a TCP port are needed, and nothing else".into()
            ));
        };
        let name = |host: &str, family| Self::Name {
            host: host.to_owned(),
            port: *port,
            family,
        };
        match host {
            Protocol::Ip4(_) | Protocol::Ip6(_) => Ok(Self::Direct(addr.clone())),
            Protocol::Dns(host) => Ok(name(host, Family::Any)),
            Protocol::Dns4(host) => Ok(name(host, Family::V4)),
            Protocol::Dns6(host) => Ok(name(host, Family::V6)),
            _ => Err(bad("the host is neither an IP address nor a name".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for good in [
            "/ip4/127.0.0.1/tcp/7",
            "/ip6/::1/tcp/7",
            "/dns4/a.example/tcp/7",
            "/dns/a/tcp/1",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a:7",
            "/ip4/127.0.0.1",
            "/ip4/1.2.3.4/udp/7",
            "/ip4/1.2.3.4/tcp/7/ws",
            "/tcp/7",
            "/ip4/1.2.3.4/tcp/70000",
        ] {
            assert!(
                matches!(Address::parse(bad), Err(Error::Address { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn limits_that_the_multiplexer_cannot_bear_are_refused() {
        let limits = Limits {
            max_streams_per_peer: 121,
            ..Limits::default()
        };
        assert!(matches!(
            limits.check(),
            Err(Error::Limit {
                name: "max_streams_per_peer",
                found: 121,
                ..
            })
        ));
        assert!(Limits::default().check().is_ok());
    }
}
