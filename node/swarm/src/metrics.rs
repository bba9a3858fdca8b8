//! Counters of a host, and the wrapper that counts bytes at the socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Bytes that went through this host's TCP sockets, handshakes and encryption included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Received.
    pub bytes_in: u64,
    /// Sent.
    pub bytes_out: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ProtocolLabel {
    pub(crate) protocol: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    pub(crate) protocol: String,
    pub(crate) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// Labels are protocols and reasons of ours, never text from a peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) connected_peers: Gauge,
    pub(crate) dials: Counter,
    pub(crate) dial_failures: Counter,
    pub(crate) connections_refused: Family<ReasonLabel, Counter>,
    pub(crate) requests_sent: Family<OutcomeLabel, Counter>,
    pub(crate) requests_served: Family<OutcomeLabel, Counter>,
    pub(crate) streams_refused: Family<ProtocolLabel, Counter>,
    pub(crate) notifications_sent: Family<ProtocolLabel, Counter>,
    pub(crate) notifications_received: Family<ProtocolLabel, Counter>,
    pub(crate) notifications_dropped: Family<ProtocolLabel, Counter>,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("tally_swarm");
        r.register(
            "bytes_in",
            "Bytes received at the sockets",
            self.bytes_in.clone(),
        );
        r.register(
            "bytes_out",
            "Bytes sent at the sockets",
            self.bytes_out.clone(),
        );
        r.register(
            "connected_peers",
            "Peers connected now",
            self.connected_peers.clone(),
        );
        r.register("dials", "Dials begun", self.dials.clone());
        r.register("dial_failures", "Dials failed", self.dial_failures.clone());
        r.register(
            "connections_refused",
            "Inbound connections refused",
            self.connections_refused.clone(),
        );
        r.register(
            "requests_sent",
            "Requests sent to peers",
            self.requests_sent.clone(),
        );
        r.register(
            "requests_served",
            "Requests of peers answered",
            self.requests_served.clone(),
        );
        r.register(
            "streams_refused",
            "Streams of peers refused over a limit",
            self.streams_refused.clone(),
        );
        r.register(
            "notifications_sent",
            "Notifications sent",
            self.notifications_sent.clone(),
        );
        r.register(
            "notifications_received",
            "Notifications received",
            self.notifications_received.clone(),
        );
        r.register(
            "notifications_dropped",
            "Notifications dropped, oldest first, because a peer was slow or gone",
            self.notifications_dropped.clone(),
        );
    }

    pub(crate) fn refuse_connection(&self, reason: &'static str) {
        self.connections_refused
            .get_or_create(&ReasonLabel { reason })
            .inc();
    }

    pub(crate) fn count(family: &Family<ProtocolLabel, Counter>, protocol: &str) {
        family
            .get_or_create(&ProtocolLabel {
                protocol: protocol.to_owned(),
            })
            .inc();
    }

    pub(crate) fn count_outcome(
        family: &Family<OutcomeLabel, Counter>,
        protocol: &str,
        outcome: &'static str,
    ) {
        family
            .get_or_create(&OutcomeLabel {
                protocol: protocol.to_owned(),
                outcome,
            })
            .inc();
    }
}

/// A TCP stream whose bytes are counted.
pub(crate) struct Counted<S> {
    inner: S,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, metrics: &Metrics) -> Self {
        Self {
            inner,
            bytes_in: metrics.bytes_in.clone(),
            bytes_out: metrics.bytes_out.clone(),
        }
    }
}

fn add(counter: &Counter, n: usize) {
    counter.inc_by(u64::try_from(n).unwrap_or(u64::MAX));
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(n)) = &read {
            add(&self.bytes_in, *n);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = &written {
            add(&self.bytes_out, *n);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
