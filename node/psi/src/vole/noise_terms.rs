//! The correlation of a block's noise: the initiator draws field elements c, one for each tree (and a few for the checks), and gets a, the responder gets b with
//! a = b + c * Delta. Gilboa's multiplication ("Two party RSA key generation", CRYPTO 1999) over 128 transfers, one for each bit
//! of Delta: 2 KiB an element, which is why it serves the noise alone. By itself for parties that follow the protocol;
//! [`super::checks`] shows that all 128 columns were made from one c.

use zeroize::Zeroizing;

use super::prg::Prg;
use crate::Error;
use crate::simd::Kernels;

/// Bits of a field element, and columns.
pub(crate) const BITS: usize = 128;

/// a or b, element by element: the columns' sum.
pub(crate) fn total(columns: &[u128]) -> Zeroizing<Vec<u128>> {
    let mut sum = Zeroizing::new(vec![0; columns.len() / BITS]);
    for column in columns.chunks(sum.len().max(1)) {
        for (s, c) in sum.iter_mut().zip(column) {
            *s ^= c;
        }
    }
    sum
}

/// The initiator's side, block after block: it holds both keys of each transfer.
pub(crate) struct NoiseInitiator(Vec<[Prg; 2]>);

impl NoiseInitiator {
    pub(crate) fn new(base: &[[u128; 2]]) -> Self {
        Self(base.iter().map(|k| k.map(Prg::new)).collect())
    }

    /// The words to send for the next block, and its columns, whose [`total`] is a.
    pub(crate) fn block(
        &mut self,
        kernels: Kernels,
        c: &[u128],
    ) -> (Vec<u128>, Zeroizing<Vec<u128>>) {
        let mut sent = vec![0; BITS * c.len()];
        let mut columns = Zeroizing::new(vec![0; BITS * c.len()]);
        let size = c.len().max(1);
        for (((j, prgs), sent), first) in self
            .0
            .iter_mut()
            .enumerate()
            .zip(sent.chunks_mut(size))
            .zip(columns.chunks_mut(size))
        {
            let [zero, one] = prgs;
            zero.fill(first);
            one.fill(sent);
            // Their sum plus c times x^j, whose dot product is that of the lone bit j.
            kernels.add_products(sent, 1 << j, c);
            for (s, f) in sent.iter_mut().zip(first.iter()) {
                *s ^= f;
            }
        }
        (sent, columns)
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

    /// The columns of the next block, whose [`total`] is b, from the initiator's words.
    ///
    /// # Errors
    /// [`Error::Internal`] unless the words are whole columns.
    pub(crate) fn block(&mut self, received: &[u128]) -> Result<Zeroizing<Vec<u128>>, Error> {
        if received.is_empty() || !received.len().is_multiple_of(BITS) || self.prgs.len() != BITS {
            return Err(Error::Internal {
                what: "noise words",
            });
        }
        let size = received.len() / BITS;
        let mut columns = Zeroizing::new(vec![0; received.len()]);
        for (((j, prg), received), own) in self
            .prgs
            .iter_mut()
            .enumerate()
            .zip(received.chunks(size))
            .zip(columns.chunks_mut(size))
        {
            prg.fill(own);
            let mask = (*self.delta >> j & 1).wrapping_neg();
            for (o, r) in own.iter_mut().zip(received) {
                *o ^= r & mask;
            }
        }
        Ok(columns)
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
                let c: [u128; 258] = std::array::from_fn(|_| prg.next_block());
                let (sent, columns) = initiator.block(kernels, &c);
                let (a, b) = (total(&columns), total(&responder.block(&sent).unwrap()));
                for i in 0..c.len() {
                    assert_eq!(a[i], b[i] ^ kernels.dot(c[i], delta));
                    assert!(seen.insert(b[i]));
                }
            }
            assert!(responder.block(&[0; 5]).is_err());
        }
    }
}
