//! A pseudorandom function of a label and a 64-bit number: one AES-256 call.
//!
//! A block cipher gives different outputs for different inputs; at the 2^36 inputs of one key that cannot be told from a
//! random function (the advantage is below 2^-57).

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Block};

use crate::keys::SecretKey;

/// Numbers worked on side by side: as many as the widest AES unit of today's processors takes at once.
pub const GROUP: usize = 64;

/// Keyed. Secret: no text form, wiped when dropped.
pub(crate) struct Prf(Aes256);

impl Prf {
    pub(crate) fn new(key: &SecretKey) -> Self {
        Self(Aes256::new(key.bytes().into()))
    }

    /// AES of `label` (8 bytes) || `number` (8 bytes).
    pub(crate) fn of(&self, label: u64, number: u64) -> u128 {
        let mut block = Block::from(input(label, number));
        self.0.encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    }

    /// [`Self::of`] for each number, as blocks.
    pub(crate) fn group(&self, label: u64, numbers: &[u64; GROUP], out: &mut [Block; GROUP]) {
        for (block, n) in out.iter_mut().zip(numbers) {
            *block = input(label, *n).into();
        }
        self.0.encrypt_blocks(out);
    }
}

fn input(label: u64, number: u64) -> [u8; 16] {
    (u128::from(label) << 64 | u128::from(number)).to_be_bytes()
}

/// The first 64 bits of a block.
#[inline]
pub(crate) fn high(block: &Block) -> u64 {
    block.first_chunk().map_or(0, |b| u64::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_group_equals_one_by_one(key: [u8; 32], label: u64, numbers in proptest::collection::vec(any::<u64>(), GROUP)) {
            let prf = Prf::new(&SecretKey::from_bytes(key));
            let numbers: [u64; GROUP] = numbers.try_into().unwrap();
            let mut out = [Block::default(); GROUP];
            prf.group(label, &numbers, &mut out);
            for (n, block) in numbers.iter().zip(&out) {
                let one = prf.of(label, *n);
                prop_assert_eq!(u128::from_be_bytes((*block).into()), one);
                prop_assert_eq!(u128::from(high(block)), one >> 64);
            }
        }
    }
}
