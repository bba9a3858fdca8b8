//! Byzantine-fault-tolerant ordering of blocks: an engine that exists (Malachite, a Tendermint in Rust) behind a border that
//! does not show it.
//!
//! In scope: running the engine over its own libp2p swarm, carrying block bodies as signed parts, persisting every proposal
//! before the engine hears of it, value sync, and stopping when a decided block cannot be committed. Out of scope: what a
//! block means, the record pool, and storage of decided blocks; these are the [`Application`]'s.
//!
//! The swarm's libp2p identity is the node's **transport** key, the same as that of the member swarm, so both have the same
//! peer ID and one entry in the ledger's node list pins both. Votes are signed by the **consensus** key alone.
//!
//! ```no_run
//! # async fn run(application: impl tally_consensus::Application, network: tally_contracts::ids::NetworkId)
//! # -> Result<(), tally_consensus::Error> {
//! use tally_consensus::{EngineConfig, Secret, start};
//!
//! let config = EngineConfig::new(
//!     network,
//!     Secret::new([1; 32]),
//!     Secret::new([2; 32]),
//!     "/ip4/127.0.0.1/tcp/26600",
//!     "consensus".into(),
//! );
//! let mut engine = start(config, application).await?;
//! println!("deciding height {}", engine.status().height);
//! engine.stop().await
//! # }
//! ```

mod application;
mod config;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod handle;
mod identity;
mod malachite;
mod verify;

pub use application::{
    AppError, Application, CheckContext, CommitError, DecidedBlock, Fatal, Refusal, Validator,
};
pub use config::{EngineConfig, MAX_ROUND_TIMEOUT, RoundTimeouts, Secret};
pub use error::Error;
pub use handle::{EngineHandle, Heard, Status, metrics_text, start};
pub use identity::{address_with_peer_id, peer_id};
pub use verify::{CertificateError, verify_certificate};
