//! Batches: the units of one lot, all made from keys, and the two trees over them that are anchored in the ledger.
//!
//! Everything about a unit follows from keys and its index `i` (u64, big-endian; `AES(K, l, i)` is AES-256 of `l` as u64 || `i`):
//!
//! - tag: first 64 bits of HMAC-SHA-256(K_tag, `tally/tag/v1` LF || issuer (16) || GTIN (14) || `i`)
//! - serial: 20 Crockford characters of FF1(permutation key, tweak GTIN, index (36 bits) || tag)
//! - claim code: 12 Crockford characters of the first 60 bits of AES(K_claim, 2, `i`)
//! - claim commitment: SHA-256(`tally/claim/v1` LF || AES(K_claim, 1, `i`) || GTIN || serial || claim code)
//! - leaf of the unit tree: RFC 6962 leaf hash of `tally/unit/v1` LF || AES(K_salt, 1, `i`) || GTIN || serial || claim commitment
//! - nullifier: AES(K_null, 1, `i`) || AES(K_null, 2, `i`)
//! - leaf of the redemption tree: RFC 6962 leaf hash of `tally/null/v1` LF || nullifier
//!
//! Both are trees of RFC 6962, each in a keyed order of its own, so that the place of a leaf says nothing of when its unit was
//! made: the permutation of `crate::order` under K_order. Only levels from height 8 up are kept; a proof derives 256 leaves anew.

mod build;
mod bulk;
mod derive;
mod levels;
mod opening;
mod rows;

pub use build::{BatchBuild, BatchTrees, ChunkRoots};
pub use derive::{BatchSpec, Deriver, MAX_COUNT, Unit};
pub use levels::{CHUNK, UpperLevels, level_sizes};
pub use opening::{RedemptionOpening, UnitOpening, verify_redemption_opening, verify_unit_opening};
pub use rows::{BatchRows, RowBuffers, RowFormat, RowForms};
