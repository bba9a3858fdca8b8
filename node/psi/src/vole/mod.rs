//! Suite `vole-rr22-v1`: the intersection as a list, by an oblivious pseudo-random function from a vector correlation (Raghuraman and
//! Rindal, "Blazing fast PSI from improved OKVS and subfield VOLE", CCS 2022, figure 11).
//!
//! The initiator encodes its items and their hashes into a store P and sends D = P + A. The responder's K = B + Delta * D is then
//! C + Delta * P, so that for an item of the initiator's both sides look up the same: K at the item less Delta times the item's
//! hash is C at the item. The responder sends a hash of that for every item of its own, sorted; for an item that the initiator
//! does not have it is random to the initiator.

mod base_transfer;
mod code;
mod correlation;
mod extension;
mod hashes;
mod initiator;
mod noise_terms;
pub(crate) mod params;
mod prg;
mod responder;
mod store;
mod tags;
mod trees;

pub use initiator::VoleInitiator;
pub use responder::VoleResponder;

use crate::simd::Kernels;

/// Which vector instructions this suite's arithmetic uses on this machine: `avx512`, `pclmul` or `portable`.
#[must_use]
pub fn kernels() -> &'static str {
    Kernels::detect().name()
}
