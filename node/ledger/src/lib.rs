//! Blocks on disk, the state store, and the proofs served from them.
//!
//! In scope: append-only block files, tiles, the state in sled, executing and committing blocks, proofs at any size,
//! checkpoints with their cosignatures. Out of scope: consensus, network, keys.

mod blocks;
mod checkpoints;
mod error;
mod files;
mod ledger;
mod tiles;

pub use blocks::{BlockStore, StoredBlock};
pub use checkpoints::{CheckpointKeys, Checkpoints, cosigner_name, origin};
pub use error::Error;
pub use ledger::{
    CheckError, Head, Ledger, Options, Prepared, RecordPlace, StateStore, VerifiedCache,
};
