//! The correlation of a block's noise: the initiator draws `TREES` field elements c and gets a, the responder gets b with
//! a = b + c * Delta. Gilboa's multiplication ("Two party RSA key generation", CRYPTO 1999) over 128 transfers, one for each bit
//! of Delta: 2 KiB an element, which is why it serves the noise alone.

use zeroize::Zeroizing;

use super::params::TREES;
use super::prg::Prg;
use crate::Error;
use crate::simd::Kernels;

/// Bits of a field element.
const BITS: usize = 128;
/// Words that a block's correlation sends.
pub(crate) const BLOCK_WORDS: usize = BITS * TREES;

/// The initiator's side, block after block: it holds both keys of each transfer.
pub(crate) struct NoiseInitiator(Vec<[Prg; 2]>);

impl NoiseInitiator {
    pub(crate) fn new(base: &[[u128; 2]]) -> Self {
        Self(base.iter().map(|k| k.map(Prg::new)).collect())
    }

    /// The words to send for the next block, and its a.
    pub(crate) fn block(
        &mut self,
        kernels: Kernels,
        c: &[u128; TREES],
    ) -> (Vec<u128>, Zeroizing<Vec<u128>>) {
        let mut sent = vec![0; BLOCK_WORDS];
        let mut a = Zeroizing::new(vec![0; TREES]);
        let mut first = Zeroizing::new([0; TREES]);
        for ((j, prgs), sent) in self.0.iter_mut().enumerate().zip(sent.chunks_mut(TREES)) {
            let [zero, one] = prgs;
            zero.fill(first.as_mut_slice());
            one.fill(sent);
            // Their sum plus c times x^j, whose dot product is that of the lone bit j.
            kernels.add_products(sent, 1 << j, c);
            for ((s, a), f) in sent.iter_mut().zip(a.iter_mut()).zip(first.iter()) {
                *s ^= f;
                *a ^= f;
            }
        }
        (sent, a)
    }
}

/// The responder's side: the bits of Delta were its choices.
pub(crate) struct NoiseResponder {
    delta: Zeroizing<u128>,
    prgs: Vec<Prg>,
}

impl NoiseResponder {
    pub(crate) fn new(base: &[u128], delta: u128) -> Self {
        Self {
            delta: Zeroizing::new(delta),
            prgs: base.iter().map(|k| Prg::new(*k)).collect(),
        }
    }

    /// b of the next block, from the initiator's words.
    ///
    /// # Errors
    /// [`Error::Internal`] for another number of words.
    pub(crate) fn block(&mut self, received: &[u128]) -> Result<Zeroizing<Vec<u128>>, Error> {
        if received.len() != BLOCK_WORDS || self.prgs.len() != BITS {
            return Err(Error::Internal {
                what: "noise words",
            });
        }
        let mut b = Zeroizing::new(vec![0; TREES]);
        let mut own = Zeroizing::new([0; TREES]);
        for ((j, prg), received) in self.prgs.iter_mut().enumerate().zip(received.chunks(TREES)) {
            prg.fill(own.as_mut_slice());
            let mask = (*self.delta >> j & 1).wrapping_neg();
            for ((b, o), r) in b.iter_mut().zip(own.iter()).zip(received) {
                *b ^= o ^ r & mask;
            }
        }
        Ok(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_is_b_plus_c_times_delta_in_every_block() {
        let mut prg = Prg::new(4);
        let base: Vec<[u128; 2]> = (0..BITS)
            .map(|_| [prg.next_block(), prg.next_block()])
            .collect();
        let delta = prg.next_block();
        let chosen: Vec<u128> = (0..BITS)
            .map(|j| base[j][(delta >> j & 1) as usize])
            .collect();
        for kernels in Kernels::all() {
            let mut initiator = NoiseInitiator::new(&base);
            let mut responder = NoiseResponder::new(&chosen, delta);
            let mut seen = std::collections::HashSet::new();
            for _ in 0..3 {
                let c: [u128; TREES] = std::array::from_fn(|_| prg.next_block());
                let (sent, a) = initiator.block(kernels, &c);
                let b = responder.block(&sent).unwrap();
                for i in 0..TREES {
                    assert_eq!(a[i], b[i] ^ kernels.dot(c[i], delta));
                    assert!(seen.insert(b[i]));
                }
            }
            assert!(responder.block(&[0; 5]).is_err());
        }
    }
}
