//! Blocks on disk, the state store, and the proofs served from them.
//!
//! In scope: append-only block files, tiles, the state in a small store, executing and committing blocks, proofs at any size,
//! checkpoints with their cosignatures. Out of scope: consensus, network, clocks, where keys come from.
//!
//! The blocks are the truth: a block is synced before its commit returns, and everything else (state, indexes, tiles) is
//! brought up to them at the next start, or rebuilt by [`Ledger::reindex`]. A ledger may begin at a [`snapshot`] instead of the
//! genesis, and may drop old blocks ([`Ledger::drop_old`]); its state then cannot be rebuilt from blocks alone.

mod base;
mod blocks;
mod checkpoints;
mod error;
mod execute;
mod files;
mod gather;
mod kv;
mod ledger;
mod prune;
pub mod sample;
mod serve;
pub mod snapshot;
mod state_tree;
mod store;
mod tiles;
#[cfg(test)]
mod waited;

pub use blocks::{BlockStore, StoredBlock};
pub use checkpoints::{CheckpointKeys, Checkpoints, cosigner_name, origin};
pub use error::Error;
pub use execute::{CheckError, Prepared, VerifiedCache};
pub use kv::{Batch, FjallKv, Kv, MemoryKv, Pair};
pub use ledger::{Committed, Ledger, Options};
pub use serve::StateEvidence;
pub use store::{Head, RecordPlace, StateStore};
