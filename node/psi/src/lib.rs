//! Private set intersection as state machines: frames in, frames out, with no socket, file or clock in sight. Two nodes learn
//! which rows they share (`list`) or how many, with noise (`cardinality`), and neither sees the other's IDs.
//!
//! In scope: hashing IDs to ristretto255 under a session's own domain (RFC 9380, RFC 9496), blinding on all cores, the frames
//! and their strict decoding, the noise, the gate before a reply, the closing handshake. Out of scope: the network (the host
//! carries [`machine::Output::Send`] frames), signatures (the host seals [`machine::Statement`]s), the ledger (the host calls
//! `release`), budgets and thresholds.
//!
//! Three suites exist: [`Suite::DhRistrettoV1`] for everything, [`Suite::VoleRr22V1`] for `list`, much faster for large sets, and
//! [`Suite::VoleRr22MaliciousV1`], the same for peers that may deviate from the protocol; messages and contexts name the suite, and
//! [`machine::open`] makes the machine of the one that an agreement fixes. Three to eight parties count what they have in common by
//! [`overlap`]. Honest-but-curious peers learn nothing else; a peer may
//! also send arbitrary bytes and gets a typed error. What a deviating peer can still do is said at [`machine`].
//!
//! ```
//! use rand_core::{OsRng, RngCore};
//! use tally_psi::*;
//!
//! let set = |values: &[&str]| {
//!     let mut builder = ItemSetBuilder::new(IdType(1), Profile(1));
//!     values.iter().try_for_each(|v| builder.push(v.as_bytes()))?;
//!     builder.finish()
//! };
//! let context = Context {
//!     network: [1; 32],
//!     suite: Suite::DhRistrettoV1,
//!     computation: Computation::Cardinality,
//!     session: session_id(&[2; 32], &[3; 32]),
//!     initiator: Party { member: [4; 16], node: [5; 32] },
//!     responder: Party { member: [6; 16], node: [7; 32] },
//!     agreement: [8; 32],
//!     initiator_root: [9; 32],
//!     responder_root: [10; 32],
//! };
//! let params = Params { context, noise: Noise::NoneInTestNetwork, peer: PeerCount::Exactly(2) };
//! let mut noise_seed = [0; 32];
//! OsRng.fill_bytes(&mut noise_seed);
//! let mut a = Initiator::new(
//!     params.clone(), set(&["a", "b"])?, Seeds::new(&mut OsRng, noise_seed), Box::new(MemorySorters::new(1000)))?;
//! let mut b = Responder::new(
//!     params, set(&["b", "c"])?, Seeds::new(&mut OsRng, noise_seed), Box::new(MemorySorters::new(1000)))?;
//! let (report, _) = machine::run_in_memory(&mut a, &mut b)?;
//! assert!(matches!(report.outcome, Outcome::Published { value: 1 }));
//! # Ok::<(), tally_psi::Error>(())
//! ```

mod accounting;
pub mod buckets;
mod context;
mod elements;
mod error;
mod expand;
mod frame;
mod group;
mod initiator;
mod item;
mod link;
pub mod machine;
pub mod messages;
mod noise;
pub mod overlap;
mod params;
mod responder;
mod role;
mod seeds;
#[allow(unsafe_code)]
mod simd;
mod sizes;
mod sort;
mod sorter;
mod stream;
pub mod sum;
#[cfg(test)]
mod timing;
mod vole;

pub use accounting::{DELTA_ONE, plan_bound_for};
pub use context::{Computation, Context, Party, Suite, VERSION, session_id};
pub use error::Error;
pub use group::backend;
pub use initiator::Initiator;
pub use item::{IdType, ItemSet, ItemSetBuilder, MAX_VALUE_BYTES, Profile};
pub use machine::{Machine, Outcome, Output, Phase, Progress, Report, Stage, Statement};
pub use noise::{MAX_BOUND, NoiseParams, plan_bound, sample_truncated_laplace};
pub use params::{MAX_COUNT, Noise, Params, PeerCount};
pub use responder::Responder;
pub use seeds::{SeedRng, Seeds};
pub use sizes::public_size;
pub use sorter::{MemorySorters, Row, SortedRows, Sorter, SorterFactory};
pub use stream::{EachValue, ItemSource, ItemStream, Items};
pub use vole::params::{CHECKED_PARAMETER_SET, MAX_VOLE_COUNT, PARAMETER_SET};
pub use vole::{VoleInitiator, VoleResponder, kernels};
