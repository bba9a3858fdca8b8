//! FF1 (NIST SP 800-38G) with AES-256, radix 2, at the one width of a unit code: 100 bits, a tweak of 14 bytes.
//!
//! At this width the pseudorandom function of a round is CBC-MAC over three blocks, of which the first two are the same for all
//! rounds and codes of one tweak. What is left is one AES call a round, ten a code, and many codes side by side keep the
//! processor's AES unit busy.

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Block};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::keys::SecretKey;
pub use crate::prf::GROUP;

/// Width in bits.
pub const BITS: u32 = 100;

const HALF: u32 = BITS / 2;
const HALF_MASK: u64 = (1 << HALF) - 1;
const ROUNDS: u8 = 10;
/// SP 800-38G algorithm 7 step 5: version 1, method 2, addition 1; radix 2; 10 rounds; u = 50; n = 100; t = 14.
const P: [u8; 16] = [1, 2, 1, 0, 0, 2, 10, 50, 0, 0, 0, 100, 0, 0, 0, 14];

/// The permutation of 100-bit numbers under one key and tweak. Secret: no text form, wiped when dropped.
pub struct Permutation {
    cipher: Aes256,
    /// CBC-MAC state after P and the tweak.
    state: State,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct State(u128);

impl Permutation {
    /// Keyed and tweaked.
    #[must_use]
    pub fn new(key: &SecretKey, tweak: &[u8; 14]) -> Self {
        let cipher = Aes256::new(key.bytes().into());
        let mut block = P.into();
        cipher.encrypt_block(&mut block);
        // Q is tweak || 10 zeros || round || 7 bytes of the half: its first block is the tweak and two zeros.
        for (b, t) in block.iter_mut().zip(tweak) {
            *b ^= t;
        }
        cipher.encrypt_block(&mut block);
        Self {
            cipher,
            state: State(u128::from_be_bytes(block.into())),
        }
    }

    /// The last block of the round's MAC before the cipher.
    fn input(&self, round: u8, half: u64) -> Block {
        let input = self.state.0 ^ u128::from(round) << 56 ^ u128::from(half);
        input.to_be_bytes().into()
    }

    /// The round function: the low 50 bits of the number that the first 12 bytes of the MAC make.
    fn round(&self, round: u8, half: u64) -> u64 {
        let mut block = self.input(round, half);
        self.cipher.encrypt_block(&mut block);
        output(&block)
    }

    /// Enciphers a number below 2^100; higher bits are ignored.
    #[must_use]
    pub fn encrypt(&self, plain: u128) -> u128 {
        let (mut a, mut b) = split(plain);
        for round in 0..ROUNDS {
            let c = a.wrapping_add(self.round(round, b)) & HALF_MASK;
            (a, b) = (b, c);
        }
        join(a, b)
    }

    /// Deciphers a number below 2^100; higher bits are ignored.
    #[must_use]
    pub fn decrypt(&self, code: u128) -> u128 {
        let (mut a, mut b) = split(code);
        for round in (0..ROUNDS).rev() {
            let c = b.wrapping_sub(self.round(round, a)) & HALF_MASK;
            (a, b) = (c, a);
        }
        join(a, b)
    }

    /// [`Self::encrypt`] of each number, in place.
    pub fn encrypt_group(&self, numbers: &mut [u128; GROUP]) {
        // Between two rounds the halves swap roles; after ten they stand where they began.
        let mut halves = Zeroizing::new([[0; GROUP]; 2]);
        let [a, b] = &mut *halves;
        for ((a, b), n) in a.iter_mut().zip(b.iter_mut()).zip(numbers.iter()) {
            (*a, *b) = split(*n);
        }
        let mut blocks = [Block::default(); GROUP];
        for round in 0..ROUNDS {
            let (a, b) = if round % 2 == 0 {
                (&mut *a, &mut *b)
            } else {
                (&mut *b, &mut *a)
            };
            for (block, b) in blocks.iter_mut().zip(b.iter()) {
                *block = self.input(round, *b);
            }
            self.cipher.encrypt_blocks(&mut blocks);
            for (a, block) in a.iter_mut().zip(&blocks) {
                *a = a.wrapping_add(output(block)) & HALF_MASK;
            }
        }
        for (n, (a, b)) in numbers.iter_mut().zip(a.iter().zip(b.iter())) {
            *n = join(*a, *b);
        }
    }
}

fn output(block: &Block) -> u64 {
    let [_, _, _, _, bytes @ .., _, _, _, _] = <[u8; 16]>::from(*block);
    u64::from_be_bytes(bytes) & HALF_MASK
}

/// The low 50 bits.
#[allow(clippy::cast_possible_truncation, reason = "masked to 50 bits")]
const fn low_half(x: u128) -> u64 {
    x as u64 & HALF_MASK
}

const fn split(x: u128) -> (u64, u64) {
    (low_half(x >> HALF), low_half(x))
}

const fn join(a: u64, b: u64) -> u128 {
    (a as u128) << HALF | b as u128
}

#[cfg(test)]
mod tests {
    use aes::Aes256;
    use fpe::ff1::{FF1, FlexibleNumeralString};
    use proptest::prelude::*;

    use super::*;

    /// The other implementation, over its most general numeral string.
    fn peer(key: &[u8; 32], tweak: &[u8], plain: u128) -> u128 {
        let bits: Vec<u16> = (0..100).rev().map(|i| (plain >> i & 1) as u16).collect();
        let out = FF1::<Aes256>::new(key, 2)
            .unwrap()
            .encrypt(tweak, &FlexibleNumeralString::from(bits))
            .unwrap();
        Vec::from(out)
            .into_iter()
            .fold(0, |n, bit| n << 1 | u128::from(bit))
    }

    #[test]
    fn the_peer_gives_the_answers_of_nist() {
        // FF1samples.pdf, samples 7 and 8 (AES-256).
        let key = hex::decode("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94")
            .unwrap();
        let ff1 = FF1::<Aes256>::new(&key, 10).unwrap();
        let digits = FlexibleNumeralString::from((0..10).collect::<Vec<u16>>());
        let out: Vec<u16> = ff1.encrypt(&[], &digits).unwrap().into();
        assert_eq!(out, [6, 6, 5, 7, 6, 6, 7, 0, 0, 9]);
        let out: Vec<u16> = ff1.encrypt(b"9876543210", &digits).unwrap().into();
        assert_eq!(out, [1, 0, 0, 1, 6, 2, 3, 4, 6, 3]);
    }

    #[test]
    fn fixed_vector() {
        let mut key = [0; 32];
        hex::decode_to_slice(
            "2b7e151628aed2a6abf7158809cf4f3cef4359d8d580aa4f7f036d6f04fc6a94",
            &mut key,
        )
        .unwrap();
        let plain = 0x1_2345_6789_abcd_ef01_2345_6789;
        let ours = Permutation::new(&SecretKey::from_bytes(key), b"09521234543213").encrypt(plain);
        assert_eq!(ours, peer(&key, b"09521234543213", plain));
        assert_eq!(ours, GOLDEN, "{ours:x}");
    }

    const GOLDEN: u128 = 0x9_feb6_1668_0025_416e_8732_731d;

    #[test]
    #[ignore = "a million codes through the peer take twelve seconds"]
    fn a_million_equal_the_peer() {
        let p = Permutation::new(&SecretKey::from_bytes([9; 32]), b"09521234543213");
        let mut x = 1;
        for _ in 0..1_000_000 {
            let code = p.encrypt(x);
            assert_eq!(code, peer(&[9; 32], b"09521234543213", x));
            x = code;
        }
    }

    #[test]
    fn extremes() {
        let p = Permutation::new(&SecretKey::from_bytes([9; 32]), b"09521234543213");
        for plain in [0, 1, (1 << 100) - 1, 1 << 99, 1 << 50, (1 << 50) - 1] {
            let code = p.encrypt(plain);
            assert_eq!(code, peer(&[9; 32], b"09521234543213", plain));
            assert_eq!(p.decrypt(code), plain);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn equals_the_peer(key: [u8; 32], tweak: [u8; 14], plain in proptest::collection::vec(any::<u128>(), GROUP)) {
            let plain: [u128; GROUP] = plain.try_into().unwrap();
            let p = Permutation::new(&SecretKey::from_bytes(key), &tweak);
            let mut codes = plain;
            p.encrypt_group(&mut codes);
            for (i, (code, plain)) in codes.iter().zip(&plain).enumerate() {
                let plain = plain & ((1 << 100) - 1);
                prop_assert_eq!(p.encrypt(plain), *code);
                prop_assert_eq!(p.decrypt(*code), plain);
                if i < 8 {
                    prop_assert_eq!(*code, peer(&key, &tweak, plain));
                }
            }
        }
    }
}
