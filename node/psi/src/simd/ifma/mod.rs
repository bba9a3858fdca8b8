//! Diffie-Hellman steps over ristretto255, eight elements a vector. Every function's caller has detected AVX-512 F and IFMA.

mod field;
#[cfg(test)]
mod ladder;
mod ristretto;
#[cfg(test)]
mod tests;

use field::Field;
pub(super) use field::LANES;
use ristretto::{Points, encode_doubles};

use super::{Digits, wipe};
use crate::sorter::Row;

/// Rows by eights; the last ones are filled up with copies of the last.
fn vectors<const N: usize>(rows: &[[u8; N]]) -> impl Iterator<Item = [[u8; N]; LANES]> {
    rows.chunks(LANES).map(|chunk| {
        let fill = chunk.last().copied().unwrap_or([0; N]);
        let mut vector = [fill; LANES];
        for (v, row) in vector.iter_mut().zip(chunk) {
            *v = *row;
        }
        vector
    })
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn encoded(points: &[Points], count: usize) -> Vec<Row> {
    let mut rows = encode_doubles(points).concat();
    rows.truncate(count);
    rows
}

/// For each 64 uniform bytes: their element times twice the scalar, encoded.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn blind(uniform: &[[u8; 64]], half: &Digits) -> Vec<Row> {
    let mut points = Vec::with_capacity(uniform.len().div_ceil(LANES));
    for vector in vectors(uniform) {
        let mut parts = [[[0; 32]; LANES]; 2];
        for (lane, bytes) in vector.iter().enumerate() {
            let (halves, _) = bytes.as_chunks::<32>();
            for (part, half) in parts.iter_mut().zip(halves) {
                part[lane] = *half;
            }
        }
        let [first, second] = &parts;
        let hashed = Points::from_uniform(&Field::from_rows(first), &Field::from_rows(second));
        points.push(hashed.times(half));
        wipe(parts.as_flattened_mut().as_flattened_mut());
    }
    encoded(&points, uniform.len())
}

/// For each encoding: its element times twice the scalar, encoded; or the place of the first that is the identity's or no canonical
/// encoding of an element.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn raise(rows: &[Row], half: &Digits) -> Result<Vec<Row>, usize> {
    let mut points = Vec::with_capacity(rows.len().div_ceil(LANES));
    for (number, vector) in vectors(rows).enumerate() {
        let (good, decoded) = Points::decode(&Field::from_rows(&vector));
        for (lane, row) in vector.iter().enumerate() {
            if !may_be_element(row) || good >> lane & 1 == 0 {
                // A copy of the last is not worse than the last.
                return Err(number * LANES + lane);
            }
        }
        points.push(decoded.times(half));
    }
    Ok(encoded(&points, rows.len()))
}

/// Whether the number is below p and even, as RFC 9496 4.3.1 asks of an encoding, and not zero, which is the identity's. Of what the
/// peer sent, so not secret.
fn may_be_element(row: &Row) -> bool {
    let (w, _) = row.as_chunks::<8>();
    let [a, b, c, d] = [w[0], w[1], w[2], w[3]].map(u64::from_le_bytes);
    let top = u64::MAX >> 1;
    let below = d < top || (d == top && !(b == u64::MAX && c == u64::MAX && a >= u64::MAX - 18));
    below && a & 1 == 0 && *row != [0; 32]
}
