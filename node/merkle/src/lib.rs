//! RFC 6962 trees, tiles, proofs, signed notes and checkpoints.

mod hash;

pub use hash::{Hash, empty_root, leaf_hash, node_hash};
