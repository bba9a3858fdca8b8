//! Suite `vole-rr22-v1`: the intersection as a list, by an oblivious pseudo-random function from a vector correlation (Raghuraman and
//! Rindal, "Blazing fast PSI from improved OKVS and subfield VOLE", CCS 2022, figure 11).
//!
//! The initiator encodes its items and their hashes into a store P and sends D = P + A. The responder's K = B + Delta * D is then
//! C + Delta * P, so that for an item of the initiator's both sides look up the same: K at the item less Delta times the item's
//! hash is C at the item. The responder sends a hash of that for every item of its own, sorted; for an item that the initiator
//! does not have it is random to the initiator.
//!
//! `vole-rr22-malicious-v1` is the same for parties that may deviate, after Rindal and Schoppmann, "VOLE-PSI: fast OPRF and
//! circuit-PSI from vector-OLE" (EUROCRYPT 2021), figure 4: what makes the correlation is checked ([`checks`]), trees are closed,
//! tags have 128 bits and hash the item with the lookup and a coin that both sides tossed.

mod base_transfer;
mod checks;
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

/// What the timing tests reach of this module.
#[cfg(test)]
pub(crate) mod timing {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::base_transfer::{BaseSender, BaseTransfer, choose};
    use crate::expand::HashToGroup;
    use crate::sorter::Row;

    /// The receiver of base transfers, but for its bits.
    pub(crate) struct Choose {
        hash: HashToGroup,
        sender: Row,
    }

    impl Choose {
        pub(crate) fn new() -> Self {
            let mut rng = ChaCha20Rng::seed_from_u64(3);
            Self {
                hash: HashToGroup::for_context(&[2; 32]).unwrap(),
                sender: BaseSender::new(&mut rng).unwrap().point,
            }
        }

        pub(crate) fn run(&self, bits: [u128; 2]) {
            let with = BaseTransfer {
                context: &[2; 32],
                hash: &self.hash,
            };
            let mut rng = ChaCha20Rng::seed_from_u64(4);
            std::hint::black_box(choose(&with, &mut rng, &self.sender, bits).unwrap());
        }
    }
}
