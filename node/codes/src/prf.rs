//! A pseudorandom function of a label and a 64-bit number: one AES-256 call.
//!
//! A block cipher gives different outputs for different inputs; at the 2^36 inputs of one key that cannot be told from a
//! random function (the advantage is below 2^-57).

use aes::cipher::{BlockEncrypt, KeyInit};
use aes::{Aes256, Block};

use crate::ff1::LANES;
use crate::keys::SecretKey;

/// Keyed. Secret: no text form, wiped when dropped.
pub(crate) struct Prf(Aes256);

impl Prf {
    pub(crate) fn new(key: &SecretKey) -> Self {
        Self(Aes256::new(key.bytes().into()))
    }

    /// AES of `label` (8 bytes) || `number` (8 bytes), for eight numbers.
    pub(crate) fn lanes(&self, label: u64, numbers: &[u64; LANES]) -> [u128; LANES] {
        // Loops, as `map` over arrays is not unrolled at this size.
        let mut blocks = [Block::default(); LANES];
        for (block, n) in blocks.iter_mut().zip(numbers) {
            block.copy_from_slice(&(u128::from(label) << 64 | u128::from(*n)).to_be_bytes());
        }
        self.0.encrypt_blocks(&mut blocks);
        let mut out = [0; LANES];
        for (out, block) in out.iter_mut().zip(blocks) {
            *out = u128::from_be_bytes(block.into());
        }
        out
    }
}
