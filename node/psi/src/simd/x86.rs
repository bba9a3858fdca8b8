//! Kernels for x86-64. Every function's caller has detected its instructions.

use core::arch::x86_64::*;

use super::{BAND_COLUMNS, Band, TAPS, portable};

fn vector(a: u128) -> __m128i {
    // SAFETY: both are 16 bytes, and any bytes are a value of either.
    unsafe { core::mem::transmute(a) }
}

fn scalar(a: __m128i) -> u128 {
    // SAFETY: as above.
    unsafe { core::mem::transmute(a) }
}

/// Schoolbook product: low, middle and high part, each 128 bits, 64 apart.
#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1")]
fn product(a: __m128i, b: __m128i) -> [__m128i; 3] {
    [
        _mm_clmulepi64_si128(a, b, 0x00),
        _mm_xor_si128(
            _mm_clmulepi64_si128(a, b, 0x01),
            _mm_clmulepi64_si128(a, b, 0x10),
        ),
        _mm_clmulepi64_si128(a, b, 0x11),
    ]
}

/// Two folds by x^63 + x^62 + x^57: see [`portable`]'s `reduce`.
#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1")]
fn reduce([low, middle, high]: [__m128i; 3]) -> __m128i {
    let folds = _mm_set_epi64x(0, 0xC200_0000_0000_0000_u64.cast_signed());
    let low = _mm_xor_si128(low, _mm_slli_si128(middle, 8));
    let high = _mm_xor_si128(high, _mm_srli_si128(middle, 8));
    let once = _mm_xor_si128(
        _mm_shuffle_epi32(low, 0x4e),
        _mm_clmulepi64_si128(low, folds, 0x00),
    );
    let twice = _mm_xor_si128(
        _mm_shuffle_epi32(once, 0x4e),
        _mm_clmulepi64_si128(once, folds, 0x00),
    );
    _mm_xor_si128(high, twice)
}

#[target_feature(enable = "pclmulqdq,sse4.1")]
pub(super) fn dot(a: u128, b: u128) -> u128 {
    scalar(reduce(product(vector(a), vector(b))))
}

/// Products are added before they are reduced: once for all.
#[target_feature(enable = "pclmulqdq,sse4.1")]
pub(super) fn inner_product(a: &[u128], b: &[u128]) -> u128 {
    let mut sum = [_mm_setzero_si128(); 3];
    for (a, b) in a.iter().zip(b) {
        for (s, p) in sum.iter_mut().zip(product(vector(*a), vector(*b))) {
            *s = _mm_xor_si128(*s, p);
        }
    }
    scalar(reduce(sum))
}

#[target_feature(enable = "pclmulqdq,sse4.1")]
pub(super) fn add_products(sums: &mut [u128], factor: u128, values: &[u128]) {
    let factor = vector(factor);
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum ^= scalar(reduce(product(factor, vector(*value))));
    }
}

/// Each of 4 columns under its bit of the band: a bit of the band is two of a mask of 64-bit lanes.
#[target_feature(enable = "avx512f,avx512vl,bmi2")]
pub(super) fn sum_bands(columns: &[u128], rows: &[Band], sums: &mut [u128]) {
    for (row, sum) in rows.iter().zip(sums) {
        let window = columns
            .get(row.start as usize..)
            .and_then(<[u128]>::first_chunk::<BAND_COLUMNS>);
        *sum = window.map_or(0, |window| sum_band(window, row.bits));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,bmi2")]
#[allow(clippy::cast_possible_truncation)]
fn sum_band(window: &[u128; BAND_COLUMNS], bits: u128) -> u128 {
    let mut acc = [_mm512_setzero_si512(); 4];
    let base = window.as_ptr().cast::<i64>();
    for quarter in 0..4 {
        let pairs = _pdep_u64(
            (bits >> (32 * quarter)) as u64 & 0xffff_ffff,
            0x5555_5555_5555_5555,
        );
        let mask = pairs | pairs << 1;
        for eight in 0..8 {
            let at = 8 * (8 * quarter + eight);
            // SAFETY: `at` is at most 248, so the 8 words end within the window's 256.
            let loaded =
                unsafe { _mm512_maskz_loadu_epi64((mask >> (8 * eight)) as u8, base.add(at)) };
            acc[eight & 3] = _mm512_xor_si512(acc[eight & 3], loaded);
        }
    }
    let all = _mm512_xor_si512(
        _mm512_xor_si512(acc[0], acc[1]),
        _mm512_xor_si512(acc[2], acc[3]),
    );
    let half = _mm256_xor_si256(
        _mm512_castsi512_si256(all),
        _mm512_extracti64x4_epi64(all, 1),
    );
    scalar(_mm_xor_si128(
        _mm256_castsi256_si128(half),
        _mm256_extracti128_si256(half, 1),
    ))
}

/// Elements that are asked for ahead of their turn.
const AHEAD: usize = 20;

/// The portable way, with the memory of later elements asked for early.
pub(super) fn add_places<const W: usize, const N: usize>(
    sums: &mut [[u128; W]],
    from: &[[u128; W]],
    places: &[[u32; N]],
) {
    let fetch = |places: &[u32; N]| {
        for place in places {
            if let Some(element) = from.get(*place as usize) {
                // SAFETY: a hint about memory that exists, in instructions that every x86-64 has.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(element.as_ptr().cast()) };
            }
        }
    };
    places.iter().take(AHEAD).for_each(fetch);
    for (i, (sum, now)) in sums.iter_mut().zip(places).enumerate() {
        if let Some(later) = places.get(i + AHEAD) {
            fetch(later);
        }
        let more = portable::sum_places(from, now);
        for (s, m) in sum.iter_mut().zip(more) {
            *s ^= m;
        }
    }
}

/// `W` is 1 or 2; other widths take the portable way.
#[target_feature(enable = "avx512f,avx512vl,bmi2")]
pub(super) fn convolve<const W: usize>(x: &mut [[u128; W]], taps: &[u32]) {
    if x.len() < TAPS + 2 || taps.len() != x.len() || !(W == 1 || W == 2) {
        return portable::convolve(x, taps);
    }
    let straight = x.len() - TAPS - 1;
    let base = x.as_mut_ptr().cast::<i64>();
    for (i, bits) in taps.iter().enumerate().take(straight) {
        // SAFETY: i + 1 + TAPS is at most x.len() - 1, and each element is 2 * W words. The element's own words are read, then
        // those of the TAPS elements behind it are changed, 4 or 2 elements at a time (both divide TAPS), then those of one more.
        unsafe {
            let from = base.add(2 * W * i);
            let element = if W == 1 {
                _mm512_broadcast_i32x4(_mm_loadu_si128(from.cast()))
            } else {
                _mm512_broadcast_i64x4(_mm256_loadu_si256(from.cast()))
            };
            let to = from.add(2 * W);
            // A bit of `bits` is 2 * W words.
            let mut groups = [0_u64; 2];
            if W == 1 {
                groups[0] = _pdep_u64(u64::from(*bits), 0x5555_5555_5555) * 3;
            } else {
                groups[0] = _pdep_u64(u64::from(*bits & 0xfff), 0x1111_1111_1111) * 15;
                groups[1] = _pdep_u64(u64::from(*bits >> 12 & 0xfff), 0x1111_1111_1111) * 15;
            }
            for (half, mask) in groups.iter().enumerate().take(W) {
                for k in 0..6 {
                    let at = to.add(48 * half + 8 * k);
                    let old = _mm512_loadu_si512(at.cast());
                    #[allow(clippy::cast_possible_truncation)]
                    let new = _mm512_mask_xor_epi64(old, (mask >> (8 * k)) as u8, old, element);
                    _mm512_storeu_si512(at.cast(), new);
                }
            }
            let last = to.add(2 * W * TAPS);
            if W == 1 {
                let sum = _mm_xor_si128(
                    _mm_loadu_si128(last.cast()),
                    _mm512_castsi512_si128(element),
                );
                _mm_storeu_si128(last.cast(), sum);
            } else {
                let sum = _mm256_xor_si256(
                    _mm256_loadu_si256(last.cast()),
                    _mm512_castsi512_si256(element),
                );
                _mm256_storeu_si256(last.cast(), sum);
            }
        }
    }
    portable::convolve_end(x, taps, straight);
}
