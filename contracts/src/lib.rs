//! What every member agrees on: records, rules and state; pure and deterministic.
//!
//! In scope: the canonical codec, envelopes and their signatures, blocks, the contracts (`apply`), the state tree and its
//! proofs. Out of scope: files, sockets, clocks, randomness, consensus. Formats are described in `docs/formats.md`.

pub mod block;
pub mod codec;
pub mod domains;
pub mod envelope;
pub mod error;
pub mod genesis;
pub mod genesis_file;
pub mod ids;
pub mod records;
pub mod signature;
pub mod state;
pub mod validators;

pub use codec::{Canonical, CodecError};
pub use envelope::{Record, Signer, Unsigned};
pub use error::Error;
pub use genesis::{Genesis, MemberEntry, NetworkKind, NodeEntry, Roles, Rules};
pub use genesis_file::{FounderSignature, GenesisFile};
pub use state::{Effects, Overlay, StateError, StateRead};
pub use validators::{Validator, ValidatorSet};
