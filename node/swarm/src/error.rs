//! What can go wrong between two hosts.

use std::io;
use std::time::Duration;

/// Why the member swarm could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A transport public key that is no Ed25519 point.
    #[error("the transport key of {label} is not an Ed25519 public key")]
    Key {
        /// The peer's label.
        label: String,
    },
    /// An address that is not `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT`.
    #[error("address {found:?} is not /ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT: {reason}")]
    Address {
        /// The text found.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A port could not be opened.
    #[error("cannot listen on {addr}: {reason}")]
    Listen {
        /// The address asked for.
        addr: String,
        /// What the system said.
        reason: String,
    },
    /// A limit that makes no sense.
    #[error("limit {name} is {found}, expected {expected}")]
    Limit {
        /// The field of [`crate::Limits`].
        name: &'static str,
        /// The value found.
        found: usize,
        /// What it may be.
        expected: &'static str,
    },
    /// A protocol name that does not start with `/`.
    #[error("protocol name {found:?} does not start with a slash")]
    Protocol {
        /// The name found.
        found: String,
    },
    /// Something already answers that protocol on this host.
    #[error("protocol {protocol} is served already")]
    Served {
        /// The protocol.
        protocol: String,
    },
    /// The host has been stopped.
    #[error("the host is stopped")]
    Stopped,
    /// The key does not stand in the list of peers.
    #[error("peer {peer} is not in the list of peers")]
    UnknownPeer {
        /// Hex of the first bytes of the key.
        peer: String,
    },
    /// The peer stands in the list, but there is no connection to it now.
    #[error("not connected to {peer}")]
    NotConnected {
        /// The peer's label.
        peer: String,
    },
    /// The connection, or the peer's place in the list, ended meanwhile.
    #[error("the connection to {peer} was cut")]
    Cut {
        /// The peer's label.
        peer: String,
    },
    /// The peer does not answer that protocol.
    #[error("{peer} does not serve {protocol}")]
    Unsupported {
        /// The peer's label.
        peer: String,
        /// The protocol.
        protocol: String,
    },
    /// The peer did not do its part in time.
    #[error("{what} took longer than {limit:?}")]
    Deadline {
        /// What was being waited for.
        what: &'static str,
        /// How long was allowed.
        limit: Duration,
    },
    /// The stream ended in the middle of a message.
    #[error("the stream ended early, while reading the {what}")]
    EarlyEnd {
        /// What was being read.
        what: &'static str,
    },
    /// A message announced a length over the limit; nothing of it was read.
    #[error("{what} of {found} bytes is over the limit of {max}")]
    TooLarge {
        /// Which message.
        what: &'static str,
        /// The length announced.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The peer refused a request as too large.
    #[error("{peer} refused a request of {found} bytes: its limit is {max}")]
    RequestTooLarge {
        /// The peer's label.
        peer: String,
        /// The request's length.
        found: u64,
        /// The peer's limit.
        max: u64,
    },
    /// The peer answers as many requests of ours as it allows already, or this host has too many streams open to it.
    #[error("{peer} is busy: {what}")]
    Busy {
        /// The peer's label.
        peer: String,
        /// Which limit was met.
        what: &'static str,
    },
    /// The peer's handler refused the request.
    #[error("{peer} refused: {reason}")]
    Refused {
        /// The peer's label.
        peer: String,
        /// The peer's words: untrusted text, at most 1,024 bytes, without control characters.
        reason: String,
    },
    /// The peer could not answer: its answer was too large, or its handler too slow.
    #[error("{peer} failed to answer: {what}")]
    PeerFailed {
        /// The peer's label.
        peer: String,
        /// What failed there.
        what: &'static str,
    },
    /// An answer whose first byte means nothing.
    #[error("answer status {found} is not known")]
    Status {
        /// The byte found.
        found: u8,
    },
    /// The connection broke.
    #[error("connection failed: {reason}")]
    Io {
        /// The kind of failure.
        kind: io::ErrorKind,
        /// What the system said.
        reason: String,
    },
}

impl Error {
    /// Maps a failed read or write of `what`.
    pub(crate) fn io(what: &'static str, error: &io::Error, limit: Duration) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::EarlyEnd { what },
            io::ErrorKind::TimedOut => Self::Deadline { what, limit },
            kind => Self::Io {
                kind,
                reason: error.to_string(),
            },
        }
    }
}

/// A handler's refusal of a request; the text reaches the peer, cut to 1,024 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Refusal {
    /// A refusal with `reason`.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}
