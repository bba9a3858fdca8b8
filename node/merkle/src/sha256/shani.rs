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

use super::{K, State};

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
