//! Snapshots: the state after one block, and what a new node needs to go on from there instead of from the genesis.
//!
//! A snapshot is a few files of bounded size: `manifest`; `trail`, how the validators came to be who they are; `edge`, the entries of
//! the tree's last bundle, of which the last is the BlockInfo that commits to the state; `state-NNNNNN`, the keys and values; and
//! `tiles-NNNNNN`, the full hash tiles. Whoever restores one believes nothing of it but what follows from the genesis: each set of
//! validators must have signed the block that names the next, the last one the block of the snapshot; that block's header names the
//! roots, and what came must give them.

mod format;
mod restore;
mod save;

pub use format::{FileSum, MANIFEST, MAX_FILE_BYTES, Manifest, is_file_name};
pub(crate) use restore::settle;
pub use restore::{Source, check_empty, restore};
pub use tally_contracts::handover::Handover;
