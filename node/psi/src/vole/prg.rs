//! AES-128 as the building block of everything that is expanded here (FIPS 197): counter mode for streams, and the one-way
//! compression `E(x) + x` under fixed keys for trees and rows.

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// Blocks that are encrypted at a time: enough to fill the processor's pipeline.
const BATCH: usize = 32;

type Block = Array<u8, aes::cipher::consts::U16>;

fn cipher(key: u128) -> Aes128 {
    Aes128::new(&Array::from(key.to_le_bytes()))
}

/// A stream of pseudo-random blocks: AES-128 in counter mode from counter 0. Wiped when dropped.
pub(crate) struct Prg {
    cipher: Aes128,
    counter: u128,
}

impl Prg {
    pub(crate) fn new(seed: u128) -> Self {
        Self {
            cipher: cipher(seed),
            counter: 0,
        }
    }

    /// The next `out.len()` blocks.
    pub(crate) fn fill(&mut self, out: &mut [u128]) {
        let mut blocks = [Block::default(); BATCH];
        for chunk in out.chunks_mut(BATCH) {
            for block in &mut blocks {
                *block = self.counter.to_le_bytes().into();
                self.counter = self.counter.wrapping_add(1);
            }
            self.cipher.encrypt_blocks(&mut blocks);
            // Blocks past a short chunk are lost: fine, since the stream is only ever read in one pattern.
            for (out, block) in chunk.iter_mut().zip(&blocks) {
                *out = u128::from_le_bytes((*block).into());
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn next_block(&mut self) -> u128 {
        let mut block = Block::from(self.counter.to_le_bytes());
        self.counter = self.counter.wrapping_add(1);
        self.cipher.encrypt_block(&mut block);
        u128::from_le_bytes(block.into())
    }
}

/// `E(x) + x` for one key: one-way and, for a fixed public key, modelled as circular correlation robust (Guo, Katz, Wang, Yu,
/// "Efficient and secure multiparty computation from fixed-key block ciphers", 2020).
pub(crate) struct Compress(Aes128);

impl Compress {
    pub(crate) fn new(key: u128) -> Self {
        Self(cipher(key))
    }

    /// The image of each of `inputs`, in order; surplus elements of either slice are left alone.
    pub(crate) fn apply(&self, inputs: &[u128], out: &mut [u128]) {
        let mut blocks = [Block::default(); BATCH];
        for (inputs, out) in inputs.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            let blocks = &mut blocks[..inputs.len()];
            for (block, input) in blocks.iter_mut().zip(inputs) {
                *block = input.to_le_bytes().into();
            }
            self.0.encrypt_blocks(blocks);
            for ((out, block), input) in out.iter_mut().zip(blocks).zip(inputs) {
                *out = u128::from_le_bytes((*block).into()) ^ input;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn le(text: &str) -> u128 {
        u128::from_le_bytes(hex::decode(text).unwrap().try_into().unwrap())
    }

    #[test]
    fn aes_is_that_of_fips_197_appendix_c1() {
        let (key, plain, sealed) = (
            le("000102030405060708090a0b0c0d0e0f"),
            le("00112233445566778899aabbccddeeff"),
            le("69c4e0d86a7b0430d8cdb78070b4c55a"),
        );
        let mut out = [0; 2];
        Compress::new(key).apply(&[plain, 0], &mut out);
        assert_eq!(out[0], sealed ^ plain);
        // Counter 0 encrypts the zero block.
        assert_eq!(Prg::new(key).next_block(), out[1]);
    }

    #[test]
    fn a_stream_does_not_depend_on_whole_batches() {
        let mut long = [0; 2 * BATCH];
        Prg::new(7).fill(&mut long);
        let mut prg = Prg::new(7);
        let (a, b) = long.split_at(BATCH);
        let mut again = [0; BATCH];
        prg.fill(&mut again);
        assert_eq!(again, a);
        prg.fill(&mut again);
        assert_eq!(again, b);
        let mut prg = Prg::new(7);
        assert_eq!(long, std::array::from_fn(|_| prg.next_block()));
        let mut inputs = [0; 70];
        Prg::new(1).fill(&mut inputs);
        let mut out = [0; 70];
        let f = Compress::new(3);
        f.apply(&inputs, &mut out);
        for (i, o) in inputs.iter().zip(out) {
            let mut one = [0];
            f.apply(&[*i], &mut one);
            assert_eq!(one[0], o);
        }
    }
}
