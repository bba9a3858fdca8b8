//! What every member agrees on: records, rules and state; pure and deterministic.
//!
//! In scope: the canonical codec, envelopes and their signatures, blocks, the contracts (`apply`), the state tree and its
//! proofs. Out of scope: files, sockets, clocks, randomness, consensus. Formats are described in `docs/formats.md`.
//!
//! ```
//! use ed25519_dalek::SigningKey;
//! use tally_contracts::ids::PublicKey;
//! use tally_contracts::records::RegisterProduct;
//! use tally_contracts::state::MemoryState;
//! use tally_contracts::{
//!     Context, Genesis, MemberEntry, NetworkKind, NodeEntry, Roles, Rules, Signer, Unsigned, check_and_apply, genesis_effects,
//! };
//!
//! let key = |i| SigningKey::from_bytes(&[i; 32]);
//! let node = NodeEntry {
//!     transport: PublicKey::from(&key(1)),
//!     consensus: PublicKey::from(&key(2)),
//!     checkpoint: PublicKey::from(&key(3)),
//!     cosignature: PublicKey::from(&key(4)),
//!     records: PublicKey::from(&key(5)),
//!     power: 1,
//!     consensus_addr: "/ip4/127.0.0.1/tcp/7000".into(),
//!     swarm_addr: "/ip4/127.0.0.1/tcp/7001".into(),
//!     http_url: "http://127.0.0.1:8080".into(),
//! };
//! let member = MemberEntry::new("brand", Roles::BRAND, vec![PublicKey::from(&key(6))], vec![node])?;
//! let id = member.id;
//! let genesis = Genesis::new("Example", NetworkKind::Test, 0, [0; 32], Rules::default(), vec![member])?;
//! let mut state = MemoryState::new();
//! state.apply(genesis_effects(&genesis));
//!
//! let body = RegisterProduct {
//!     gtin: "09521234543213".parse()?,
//!     description: "Green tea".into(),
//!     brand: "Example".into(),
//! };
//! let signer = Signer::new(id, &PublicKey::from(&key(5)), 0);
//! let record = Unsigned::new(genesis.network_id(), 60_000, vec![signer], &body.into()).sign(&[&key(5)])?;
//! let ctx = Context { network: genesis.network_id(), height: 1, block_time_ms: 1_000 };
//! let effects = check_and_apply(&state, &record, &ctx)?;
//! assert_eq!(effects.len(), 2); // the product, and the key's next nonce
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod apply;
pub mod block;
pub mod codec;
pub mod domains;
pub mod envelope;
pub mod error;
pub mod genesis;
pub mod genesis_file;
pub mod handover;
pub mod ids;
pub mod member;
pub mod records;
pub mod refusal;
pub mod rules;
pub mod signature;
pub mod state;
pub mod tree;
pub mod validators;

pub use apply::{
    BlockOutcome, Context, Verified, apply, check_and_apply, due_changes, execute_block,
    genesis_effects, members_after, verify_record, verify_records,
};
pub use codec::{Canonical, CodecError};
pub use envelope::{Record, Signer, Unsigned};
pub use error::Error;
pub use genesis::{Genesis, MemberEntry, NetworkKind, NodeEntry, Roles, Rules};
pub use genesis_file::{FounderSignature, GenesisFile};
pub use refusal::{ApplyError, Refusal, RefusalNotice};
pub use state::{Effects, Overlay, StateError, StateRead};
pub use tree::{PagedTree, StateProof, StateTree};
pub use validators::{Validator, ValidatorSet};
