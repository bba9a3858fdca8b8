//! The member swarm: authenticated, encrypted connections between the nodes of a network, and nothing of what they say.
//!
//! In scope: libp2p over TCP with Noise and yamux behind an allow-list that the ledger dictates, dialing that never gives
//! up, requests and answers, best-effort notifications, raw streams, and the limits that keep a peer or a stranger from
//! using up the host. Out of scope: what the bytes mean, discovery (addresses stand in the ledger), relaying.
//!
//! A stranger gets as far as the Noise handshake, where its key is seen not to stand in the list; no protocol of ours is
//! ever spoken to it. Frames are a big-endian `u32` length and that many bytes; a request stream carries one frame each
//! way, the answer's preceded by a status byte.
//!
//! ```
//! # use std::time::Duration;
//! # use tally_swarm::{Host, HostConfig, Limits, Peer, ServeLimits, TransportSeed};
//! # fn host(seed: u8) -> HostConfig {
//! #     HostConfig {
//! #         secret: TransportSeed::new([seed; 32].into()),
//! #         listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
//! #         limits: Limits::default(),
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tally_swarm::Error> {
//! let (a, b) = (Host::start(host(1)).await?, Host::start(host(2)).await?);
//! let peer = |h: &Host, label: &str| Peer { key: h.key(), addr: h.listen_addrs()[0].clone(), label: label.into() };
//! a.set_peers(vec![peer(&b, "b")])?;
//! b.set_peers(vec![peer(&a, "a")])?;
//! b.serve("/example/1", ServeLimits::default(), async |_from, mut body: Vec<u8>| {
//!     body.reverse();
//!     Ok(body)
//! })?;
//! a.wait_connected(&b.key(), Duration::from_secs(5)).await?;
//! let answer = a.request(&b.key(), "/example/1", b"abc", Duration::from_secs(5)).await?;
//! assert_eq!(answer, b"cba");
//! # Ok(())
//! # }
//! ```

mod behaviour;
mod config;
mod driver;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod host;
mod metrics;
mod notify;
mod request;
mod shared;
mod stream;

pub use config::{HostConfig, Limits, Peer, PeerKey, PeerStatus, ServeLimits, TransportSeed};
pub use error::{Error, Refusal};
pub use frame::{read_frame, write_frame};
pub use host::Host;
pub use metrics::Traffic;
pub use stream::{PeerStream, StreamReceiver};
