//! SHA-256 of two short messages side by side, for trees and other places with very many of them.
//!
//! One SHA-256 is a chain of instructions that each wait for the one before; two that are worked on in turns fill the gaps. On
//! x86-64 with the SHA extensions that is nearly twice as fast as one after the other. Elsewhere they are worked on one after the
//! other, by `sha2`.

#[cfg(target_arch = "x86_64")]
mod shani;

use crate::hash::Hash;

/// The chaining value of SHA-256: eight words.
pub type State = [u32; 8];

/// What a message begins with (FIPS 180-4 5.3.3).
pub const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// What the pair runs on, for benches: `sha-ni, 2 side by side` or `sha2`.
#[must_use]
pub fn backend() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if shani::available() {
        return "sha-ni, 2 side by side";
    }
    "sha2"
}

/// The compression function over one block (FIPS 180-4 6.2.2), by `sha2`.
pub fn compress(state: &mut State, block: &[u8; 64]) {
    sha2::compress256(state, &[(*block).into()]);
}

/// The compression function over `a` into the first state and over `b` into the second.
pub fn compress_pair<const B: usize>(
    states: &mut [State; 2],
    a: &[[u8; 64]; B],
    b: &[[u8; 64]; B],
) {
    #[cfg(target_arch = "x86_64")]
    if shani::compress_pair(states, a, b) {
        return;
    }
    let [first, second] = states;
    a.iter().for_each(|block| compress(first, block));
    b.iter().for_each(|block| compress(second, block));
}

/// The hash that a chaining value stands for at the end of a message.
#[must_use]
#[inline]
pub fn to_hash(state: &State) -> Hash {
    let mut out = [0; 32];
    let (words, _) = out.as_chunks_mut::<4>();
    for (to, word) in words.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
    Hash(out)
}

/// A message of a fixed length in `B` blocks with its padding. Parts of it are written over again and again, so that what stays
/// the same is written once.
#[derive(Clone, Copy)]
pub struct Message<const B: usize>([[u8; 64]; B]);

impl<const B: usize> Message<B> {
    /// `length` bytes that begin with `prefix`, then zeros.
    ///
    /// # Panics
    /// If a message of that length does not fill just `B` blocks, or is shorter than its prefix; both are constants of formats, so
    /// this is seen when the program is compiled.
    #[must_use]
    pub const fn new(prefix: &[u8], length: usize) -> Self {
        let mut blocks = [[0; 64]; B];
        assert!(prefix.len() <= length && (length + 9).div_ceil(64) == B);
        let bytes = blocks.as_flattened_mut();
        let (head, _) = bytes.split_at_mut(prefix.len());
        head.copy_from_slice(prefix);
        bytes[length] = 0x80;
        let bits = (length as u64 * 8).to_be_bytes();
        let (_, end) = bytes.split_at_mut(64 * B - 8);
        end.copy_from_slice(&bits);
        Self(blocks)
    }

    /// Writes `part` at the offset `AT`.
    #[inline]
    pub fn put<const AT: usize, const N: usize>(&mut self, part: &[u8; N]) {
        const { assert!(AT + N <= 64 * B - 9) };
        if let Some(to) = self.0.as_flattened_mut().get_mut(AT..AT + N) {
            to.copy_from_slice(part);
        }
    }

    /// The hash of the message.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let [hash, _] = Self::hash_pair(self, self);
        hash
    }

    /// The hashes of two messages, worked on side by side.
    #[must_use]
    #[inline]
    pub fn hash_pair(a: &Self, b: &Self) -> [Hash; 2] {
        let mut states = [INITIAL; 2];
        compress_pair(&mut states, &a.0, &b.0);
        states.map(|s| to_hash(&s))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    fn same<const N: usize, const B: usize>(bytes: &[u8]) {
        let peer = |m: &[u8; N]| Hash(Sha256::digest(m).into());
        let a: &[u8; N] = bytes.first_chunk().unwrap();
        let b: &[u8; N] = bytes.last_chunk().unwrap();
        let prefix = &a[..N / 3];
        let mut first = Message::<B>::new(prefix, N);
        // Once with what is written over, so that nothing of it stays.
        first.put::<0, N>(b);
        let second = first;
        first.put::<0, N>(a);
        assert_eq!(
            Message::hash_pair(&first, &second),
            [peer(a), peer(b)],
            "{N} bytes"
        );
        assert_eq!(second.hash(), peer(b));
        let mut zeros = *a;
        zeros[N / 3..].fill(0);
        assert_eq!(Message::<B>::new(prefix, N).hash(), peer(&zeros));
    }

    proptest! {
        #[test]
        fn pairs_equal_the_peer(bytes in proptest::collection::vec(any::<u8>(), 200)) {
            same::<0, 1>(&bytes);
            same::<1, 1>(&bytes);
            same::<47, 1>(&bytes);
            same::<55, 1>(&bytes);
            same::<56, 2>(&bytes);
            same::<63, 2>(&bytes);
            same::<64, 2>(&bytes);
            same::<65, 2>(&bytes);
            same::<97, 2>(&bytes);
            same::<119, 2>(&bytes);
            same::<120, 3>(&bytes);
        }

        #[test]
        fn any_state_is_carried_on(a: [[u8; 32]; 6], b: [[u8; 32]; 6], states: [State; 2]) {
            let blocks = |m: &[[u8; 32]; 6]| {
                let mut out = [[0; 64]; 3];
                for (to, from) in out.as_flattened_mut().iter_mut().zip(m.as_flattened()) {
                    *to = *from;
                }
                out
            };
            let (a, b) = (blocks(&a), blocks(&b));
            let mut expected = states;
            a.iter().for_each(|block| compress(&mut expected[0], block));
            b.iter().for_each(|block| compress(&mut expected[1], block));
            let mut found = states;
            compress_pair(&mut found, &a, &b);
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn one_block_equals_the_peer(bytes: [u8; 32]) {
            let mut message = Message::<1>::new(&[], 32);
            message.put::<0, 32>(&bytes);
            let mut state = INITIAL;
            compress(&mut state, &message.0[0]);
            prop_assert_eq!(to_hash(&state), Hash(Sha256::digest(bytes).into()));
        }
    }
}
