//! The twins without vector instructions: what the kernels mean.

use super::{BAND_COLUMNS, Band, TAPS};

/// Every fourth bit.
const QUARTER: u64 = 0x1111_1111_1111_1111;

/// Carry-less product of two 32-bit polynomials: integer products of numbers with three zeros between their bits, so that no
/// carry (at most 8 ones meet) reaches the next bit of the same class.
const fn clmul32(a: u32, b: u32) -> u64 {
    let (a, b) = (a as u64, b as u64);
    let mut sum = 0;
    let mut i = 0;
    while i < 4 {
        let mut class = 0;
        let mut j = 0;
        while j < 4 {
            let (x, y) = (a & (QUARTER << j), b & (QUARTER << ((4 + i - j) & 3)));
            class ^= x.wrapping_mul(y);
            j += 1;
        }
        sum ^= class & (QUARTER << i);
        i += 1;
    }
    sum
}

#[allow(clippy::cast_possible_truncation)]
const fn clmul64(a: u64, b: u64) -> u128 {
    let (a0, a1, b0, b1) = (a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32);
    let (low, high) = (clmul32(a0, b0), clmul32(a1, b1));
    let middle = clmul32(a0 ^ a1, b0 ^ b1) ^ low ^ high;
    low as u128 ^ ((middle as u128) << 32) ^ ((high as u128) << 64)
}

#[allow(clippy::cast_possible_truncation)]
pub(super) const fn dot(a: u128, b: u128) -> u128 {
    let (a0, a1, b0, b1) = (a as u64, (a >> 64) as u64, b as u64, (b >> 64) as u64);
    let (low, high) = (clmul64(a0, b0), clmul64(a1, b1));
    let middle = clmul64(a0 ^ a1, b0 ^ b1) ^ low ^ high;
    reduce(low ^ (middle << 64), high ^ (middle >> 64))
}

/// `(low + high * x^128) * x^-128` modulo x^128 + x^127 + x^126 + x^121 + 1: multiples of the modulus cancel the low half, one
/// word at a time.
#[allow(clippy::cast_possible_truncation)]
const fn reduce(low: u128, high: u128) -> u128 {
    let v0 = low as u64;
    let v1 = (low >> 64) as u64 ^ v0 << 57 ^ v0 << 62 ^ v0 << 63;
    let v2 = high as u64 ^ v0 ^ v0 >> 7 ^ v0 >> 2 ^ v0 >> 1 ^ v1 << 57 ^ v1 << 62 ^ v1 << 63;
    let v3 = (high >> 64) as u64 ^ v1 ^ v1 >> 7 ^ v1 >> 2 ^ v1 >> 1;
    v2 as u128 | (v3 as u128) << 64
}

pub(super) fn add_products(sums: &mut [u128], factor: u128, values: &[u128]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum ^= dot(factor, *value);
    }
}

pub(super) fn inner_product(a: &[u128], b: &[u128]) -> u128 {
    a.iter().zip(b).fold(0, |sum, (a, b)| sum ^ dot(*a, *b))
}

pub(super) fn sum_bands(columns: &[u128], rows: &[Band], sums: &mut [u128]) {
    for (row, sum) in rows.iter().zip(sums) {
        *sum = columns
            .get(row.start as usize..)
            .and_then(<[u128]>::first_chunk::<BAND_COLUMNS>)
            .map_or(0, |window| sum_band(window, row.bits));
    }
}

fn sum_band(window: &[u128; BAND_COLUMNS], mut bits: u128) -> u128 {
    let mut sum = 0;
    while bits != 0 {
        sum ^= window[bits.trailing_zeros() as usize];
        bits &= bits - 1;
    }
    sum
}

/// The sum of the elements at some places.
pub(super) fn sum_places<const W: usize, const N: usize>(
    from: &[[u128; W]],
    places: &[u32; N],
) -> [u128; W] {
    let mut sum = [0; W];
    for place in places {
        if let Some(element) = from.get(*place as usize) {
            for (s, e) in sum.iter_mut().zip(element) {
                *s ^= e;
            }
        }
    }
    sum
}

pub(super) fn add_places<const W: usize, const N: usize>(
    sums: &mut [[u128; W]],
    from: &[[u128; W]],
    places: &[[u32; N]],
) {
    for (sum, places) in sums.iter_mut().zip(places) {
        let more = sum_places(from, places);
        for (s, m) in sum.iter_mut().zip(more) {
            *s ^= m;
        }
    }
}

pub(super) fn convolve<const W: usize>(x: &mut [[u128; W]], taps: &[u32]) {
    if x.len() < TAPS + 2 || taps.len() != x.len() {
        return;
    }
    let straight = x.len() - TAPS - 1;
    for (i, bits) in taps.iter().enumerate().take(straight) {
        let [from, to @ ..] = &mut x[i..i + TAPS + 2] else {
            return;
        };
        for (j, to) in to.iter_mut().enumerate() {
            let mask = tap_mask(*bits, j);
            for (t, f) in to.iter_mut().zip(from.iter()) {
                *t ^= f & mask;
            }
        }
    }
    convolve_end(x, taps, straight);
}

/// The last elements, whose taps wrap around.
pub(super) fn convolve_end<const W: usize>(x: &mut [[u128; W]], taps: &[u32], from: usize) {
    let n = x.len();
    for (i, bits) in taps.iter().enumerate().skip(from) {
        let element = x[i];
        for j in 0..=TAPS {
            let mask = tap_mask(*bits, j);
            for (t, f) in x[(i + 1 + j) % n].iter_mut().zip(element) {
                *t ^= f & mask;
            }
        }
    }
}

/// All ones where tap `j` is on.
const fn tap_mask(bits: u32, j: usize) -> u128 {
    (((bits | 1 << TAPS) >> j & 1) as u128).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_products_by_hand() {
        assert_eq!(clmul32(0b11, 0b11), 0b101);
        assert_eq!(clmul32(u32::MAX, u32::MAX), QUARTER | QUARTER << 2);
        assert_eq!(clmul64(1 << 63, 1 << 63), 1 << 126);
    }
}
