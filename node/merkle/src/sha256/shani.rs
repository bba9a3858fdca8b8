//! The compression function of SHA-256 for two messages in turns, by the SHA extensions of x86-64.
//!
//! The one place of this crate with `unsafe`: reading 16 bytes into a register, and calling code for a processor feature after
//! asking for it. Its safe twin is [`super::compress`], to which the tests hold it.
#![allow(unsafe_code, reason = "a SIMD module with a safe twin")]

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
    _mm_shuffle_epi32, _mm_storeu_si128,
};

use super::State;

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

/// Whether this processor has the instructions.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
}

/// Does the work and answers `true`, or `false` where the processor cannot.
pub(super) fn compress_pair<const B: usize>(
    states: &mut [State; 2],
    a: &[[u8; 64]; B],
    b: &[[u8; 64]; B],
) -> bool {
    if !available() {
        return false;
    }
    // SAFETY: the processor has the features that the function is compiled for.
    unsafe { run(states, a, b) };
    true
}

#[target_feature(enable = "sse2")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: reads the 16 bytes of the reference, at any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
fn load_words(words: &[u32; 4]) -> __m128i {
    // SAFETY: as above.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

/// The four constants of the rounds from `4 * i` on; `i` is below 16.
fn constants(i: usize) -> &'static [u32; 4] {
    &K.as_chunks::<4>().0[i]
}

#[target_feature(enable = "sse2")]
fn store_words(words: &mut [u32; 4], value: __m128i) {
    // SAFETY: writes the 16 bytes of the reference, at any alignment.
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), value) }
}

/// The two registers that the instructions want the state in: `a b e f` and `c d g h`.
#[derive(Clone, Copy)]
struct Registers {
    abef: __m128i,
    cdgh: __m128i,
}

impl Registers {
    #[target_feature(enable = "sse2,ssse3,sse4.1")]
    fn load(state: &State) -> Self {
        let [a, b, c, d, e, f, g, h] = *state;
        let cdab = _mm_shuffle_epi32(load_words(&[a, b, c, d]), 0xB1);
        let efgh = _mm_shuffle_epi32(load_words(&[e, f, g, h]), 0x1B);
        Self {
            abef: _mm_alignr_epi8(cdab, efgh, 8),
            cdgh: _mm_blend_epi16(efgh, cdab, 0xF0),
        }
    }

    #[target_feature(enable = "sse2,ssse3,sse4.1")]
    fn store(self, state: &mut State) {
        let feba = _mm_shuffle_epi32(self.abef, 0x1B);
        let dchg = _mm_shuffle_epi32(self.cdgh, 0xB1);
        let (mut low, mut high) = ([0; 4], [0; 4]);
        store_words(&mut low, _mm_blend_epi16(feba, dchg, 0xF0));
        store_words(&mut high, _mm_alignr_epi8(dchg, feba, 8));
        let ([a, b, c, d], [e, f, g, h]) = (low, high);
        *state = [a, b, c, d, e, f, g, h];
    }
}

/// Four big-endian words of a block in each of four registers.
#[target_feature(enable = "sse2,ssse3")]
fn words(block: &[u8; 64]) -> [__m128i; 4] {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let (parts, _) = block.as_chunks::<16>();
    match parts {
        [a, b, c, d] => [
            _mm_shuffle_epi8(load(a), swap),
            _mm_shuffle_epi8(load(b), swap),
            _mm_shuffle_epi8(load(c), swap),
            _mm_shuffle_epi8(load(d), swap),
        ],
        // 64 bytes are four times 16.
        _ => [swap; 4],
    }
}

#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn run(states: &mut [State; 2], a: &[[u8; 64]], b: &[[u8; 64]]) {
    let mut x = Registers::load(&states[0]);
    let mut y = Registers::load(&states[1]);
    for (a, b) in a.iter().zip(b) {
        let (x0, y0) = (x, y);
        let [mut a0, mut a1, mut a2, mut a3] = words(a);
        let [mut b0, mut b1, mut b2, mut b3] = words(b);
        // Four rounds of both messages with the words in the first register of each.
        macro_rules! rounds {
            ($i:expr, $a:ident, $b:ident) => {
                let k = load_words(constants($i));
                let (s, t) = (_mm_add_epi32($a, k), _mm_add_epi32($b, k));
                x.cdgh = _mm_sha256rnds2_epu32(x.cdgh, x.abef, s);
                y.cdgh = _mm_sha256rnds2_epu32(y.cdgh, y.abef, t);
                x.abef = _mm_sha256rnds2_epu32(x.abef, x.cdgh, _mm_shuffle_epi32(s, 0x0E));
                y.abef = _mm_sha256rnds2_epu32(y.abef, y.cdgh, _mm_shuffle_epi32(t, 0x0E));
            };
        }
        // The words four steps on, in place of the ones that are used up.
        macro_rules! next {
            ($w0:ident, $w1:ident, $w2:ident, $w3:ident) => {
                $w0 = _mm_sha256msg2_epu32(
                    _mm_add_epi32(_mm_sha256msg1_epu32($w0, $w1), _mm_alignr_epi8($w3, $w2, 4)),
                    $w3,
                );
            };
        }
        macro_rules! four {
            ($i:expr) => {
                rounds!($i, a0, b0);
                next!(a0, a1, a2, a3);
                next!(b0, b1, b2, b3);
                rounds!($i + 1, a1, b1);
                next!(a1, a2, a3, a0);
                next!(b1, b2, b3, b0);
                rounds!($i + 2, a2, b2);
                next!(a2, a3, a0, a1);
                next!(b2, b3, b0, b1);
                rounds!($i + 3, a3, b3);
                next!(a3, a0, a1, a2);
                next!(b3, b0, b1, b2);
            };
        }
        four!(0);
        four!(4);
        four!(8);
        rounds!(12, a0, b0);
        rounds!(13, a1, b1);
        rounds!(14, a2, b2);
        rounds!(15, a3, b3);
        x.abef = _mm_add_epi32(x.abef, x0.abef);
        x.cdgh = _mm_add_epi32(x.cdgh, x0.cdgh);
        y.abef = _mm_add_epi32(y.abef, y0.abef);
        y.cdgh = _mm_add_epi32(y.cdgh, y0.cdgh);
    }
    x.store(&mut states[0]);
    y.store(&mut states[1]);
}
