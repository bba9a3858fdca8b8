//! RFC 6962 trees, strict proof verifiers, tiles, signed notes, checkpoints, cosignatures, proofs to take home and the policies
//! that judge them. Pure: no files, no clock, no randomness.
//!
//! In scope: RFC 6962 hashing (and SHA-256 of two messages side by side, which makes trees quick), RFC 9162 proofs (2.1.3, 2.1.4), and the C2SP texts signed-note, tlog-checkpoint,
//! tlog-cosignature (v1, Ed25519), tlog-tiles, tlog-proof and tlog-policy. Out of scope: serving, storing, witnessing.
//!
//! The formats are small and every text here has exactly one form, which is stricter than the C2SP texts ask and than the
//! crates `tlog_tiles` and `signed_note` (0.2) are: those verify by another signature rule than the rest of this workspace,
//! bind the tree to their own storage traits, and have neither proof files nor policies. So the code is our own, checked
//! against the shared vectors and by public verifiers.
//!
//! ```
//! use tally_merkle::{MemoryTree, leaf_hash, verify_inclusion};
//!
//! let tree: MemoryTree = ["a", "b", "c"].iter().map(|e| leaf_hash(e.as_bytes())).collect();
//! let proof = tree.inclusion_proof(1, 3)?;
//! verify_inclusion(&leaf_hash(b"b"), 1, 3, &proof, &tree.root())?;
//! # Ok::<(), tally_merkle::Error>(())
//! ```

pub mod checkpoint;
mod error;
mod hash;
mod memory;
pub mod note;
pub mod policy;
mod proof;
pub mod sha256;
pub mod tile;
pub mod tlog_proof;
mod tree;
pub mod vkey;

pub use checkpoint::Checkpoint;
pub use error::Error;
pub use hash::{Hash, empty_root, leaf_hash, node_hash, parents};
pub use memory::{MemoryTree, root_of};
pub use note::{Note, NoteSignature};
pub use policy::{Policy, Verified};
pub use proof::{MAX_PROOF_HASHES, verify_consistency, verify_inclusion};
pub use tile::TilePath;
pub use tlog_proof::TlogProof;
pub use tree::{Frontier, NodeSource, consistency_proof, frontier_at, inclusion_proof, root_at};
pub use vkey::{KeyKind, NoteKeyId, Vkey};
