//! SHA-256 of two short messages side by side, for trees and other places with very many of them.
//!
//! One SHA-256 is a chain of instructions that each wait for the one before; two that are worked on in turns fill the gaps. On
//! x86-64 with the SHA extensions that is nearly twice as fast as one after the other. Elsewhere they are worked on one after the
//! other, in portable code.

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

/// What the pair runs on, for benches: `sha-ni, 2 side by side` or `portable`.
#[must_use]
pub fn backend() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if shani::available() {
        return "sha-ni, 2 side by side";
    }
    "portable"
}

/// FIPS 180-4 4.2.2.
#[rustfmt::skip]
static K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// The compression function over one block (FIPS 180-4 6.2.2), as it is written there.
pub fn compress(state: &mut State, block: &[u8; 64]) {
    let mut w = [0_u32; 64];
    for (word, bytes) in w.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for t in 16..64 {
        let (x, y) = (w[t - 15], w[t - 2]);
        let s0 = x.rotate_right(7) ^ x.rotate_right(18) ^ x >> 3;
        let s1 = y.rotate_right(17) ^ y.rotate_right(19) ^ y >> 10;
        w[t] = s1
            .wrapping_add(w[t - 7])
            .wrapping_add(s0)
            .wrapping_add(w[t - 16]);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (w, k) in w.iter().zip(&K) {
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let ch = e & f ^ !e & g;
        let t1 = h
            .wrapping_add(s1)
            .wrapping_add(ch)
            .wrapping_add(*k)
            .wrapping_add(*w);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let maj = a & b ^ a & c ^ b & c;
        (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
        (d, c, b, a) = (c, b, a, t1.wrapping_add(s0.wrapping_add(maj)));
    }
    for (s, x) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *s = s.wrapping_add(x);
    }
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
        fn the_portable_way_equals_the_peer(bytes: [u8; 32]) {
            let mut message = Message::<1>::new(&[], 32);
            message.put::<0, 32>(&bytes);
            let mut state = INITIAL;
            compress(&mut state, &message.0[0]);
            prop_assert_eq!(to_hash(&state), Hash(Sha256::digest(bytes).into()));
        }
    }
}
