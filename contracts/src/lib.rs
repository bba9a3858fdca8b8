//! What every member agrees on: records, rules and state; pure and deterministic.
//!
//! In scope: the canonical codec, envelopes and their signatures, blocks, the contracts (`apply`), the state tree and its
//! proofs. Out of scope: files, sockets, clocks, randomness, consensus. Formats are described in `docs/formats.md`.

pub mod apply;
pub mod block;
pub mod codec;
mod consistency;
pub mod domains;
pub mod envelope;
pub mod error;
pub mod genesis;
pub mod genesis_file;
pub mod ids;
pub mod records;
pub mod refusal;
pub mod signature;
pub mod state;
pub mod tree;
pub mod validators;

pub use apply::{
    BlockOutcome, Context, Verified, apply, check_and_apply, execute_block, genesis_effects,
    verify_record, verify_records,
};
pub use codec::{Canonical, CodecError};
pub use envelope::{Record, Signer, Unsigned};
pub use error::Error;
pub use genesis::{Genesis, MemberEntry, NetworkKind, NodeEntry, Roles, Rules};
pub use genesis_file::{FounderSignature, GenesisFile};
pub use refusal::{ApplyError, Refusal, RefusalNotice};
pub use state::{Effects, Overlay, StateError, StateRead};
pub use tree::{StateProof, StateTree};
pub use validators::{Validator, ValidatorSet};
