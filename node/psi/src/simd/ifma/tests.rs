#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::sync::OnceLock;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::*;
use crate::simd::{Eights, digits};

/// The instructions, or a printed reason and nothing to test.
pub(super) fn eights() -> Option<Eights> {
    static TOLD: OnceLock<Option<Eights>> = OnceLock::new();
    *TOLD.get_or_init(|| {
        let found = Eights::detect();
        if found.is_none() {
            println!("skipped: no AVX-512 IFMA");
        }
        found
    })
}

/// p, little-endian.
const P: Row = {
    let mut p = [0xff; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    p
};

/// Numbers whose limbs and carries are at their ends, and random ones.
fn rows() -> Vec<Row> {
    let mut rows = vec![[0; 32], [0xff; 32], P, [0x55; 32], [0xaa; 32]];
    for d in [1, 2, 18, 19, 20] {
        let mut row = P;
        row[0] -= d;
        rows.push(row);
        row = [0; 32];
        row[0] = d;
        rows.push(row);
        let mut over = P;
        over[0] = over[0].saturating_add(d);
        rows.push(over);
    }
    for bit in (0..255).step_by(17) {
        let mut row = [0; 32];
        row[bit / 8] = 1 << (bit % 8);
        rows.push(row);
    }
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    for _ in 0..200 {
        let mut row = [0; 32];
        rng.fill_bytes(&mut row);
        rows.push(row);
    }
    rows
}

/// a b mod p by shifting and adding, bit by bit: an oracle that shares nothing with what it judges.
fn slow_product(a: &Row, b: &Row) -> Row {
    let mut a = *a;
    a[31] &= 0x7f;
    let mut sum = [0; 32];
    for bit in (0..255).rev() {
        sum = slow_sum(&sum, &sum);
        if b[bit / 8] >> (bit % 8) & 1 == 1 {
            sum = slow_sum(&sum, &slow_sum(&a, &[0; 32]));
        }
    }
    sum
}

/// a + b mod p, of numbers below 2^255.
fn slow_sum(a: &Row, b: &Row) -> Row {
    let mut sum = [0_u8; 32];
    let mut carry = 0_u16;
    for ((s, a), b) in sum.iter_mut().zip(a).zip(b) {
        let t = u16::from(*a) + u16::from(*b) + carry;
        (*s, carry) = ((t & 0xff) as u8, t >> 8);
    }
    for _ in 0..3 {
        let mut less = [0_u8; 32];
        let mut borrow = 0_i16;
        for ((l, s), p) in less.iter_mut().zip(&sum).zip(&P) {
            let t = i16::from(*s) - i16::from(*p) - borrow;
            (*l, borrow) = (t.rem_euclid(256) as u8, i16::from(t < 0));
        }
        if borrow == 0 {
            sum = less;
        }
    }
    sum
}

#[test]
fn the_field_s_operations_are_those_of_numbers() {
    if eights().is_none() {
        return;
    }
    // SAFETY: the instructions were detected.
    unsafe { field_operations() }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn field_operations() {
    let rows = rows();
    let below = |row: &Row| {
        let mut row = *row;
        row[31] &= 0x7f;
        slow_sum(&row, &[0; 32])
    };
    for (first, second) in vectors(&rows).zip(vectors(&rows[7..])) {
        let (a, b) = (Field::from_rows(&first), Field::from_rows(&second));
        let found = [
            a.to_rows(),
            a.mul(&b).to_rows(),
            a.square().to_rows(),
            a.add(&b).to_rows(),
            a.sub(&b).add(&b).to_rows(),
            a.neg().add(&a).to_rows(),
            // Sums of sums: what is not reduced in between must not overflow.
            a.sub(&b).mul(&a.add(&b)).to_rows(),
            a.invert().mul(&a).to_rows(),
        ];
        for lane in 0..LANES {
            let (x, y) = (below(&first[lane]), below(&second[lane]));
            let mut one = [0; 32];
            one[0] = u8::from(x != [0; 32]);
            let squares = (slow_product(&x, &x), slow_product(&y, &y));
            let expected = [
                x,
                slow_product(&x, &y),
                squares.0,
                slow_sum(&x, &y),
                x,
                [0; 32],
                found[6][lane],
                one,
            ];
            for (what, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_eq!(found[lane], expected, "operation {what} of {x:?} and {y:?}");
            }
            // (a - b)(a + b) + b^2 = a^2
            assert_eq!(slow_sum(&found[6][lane], &squares.1), squares.0);
        }
        assert_eq!(
            a.is_zero(),
            (0..LANES).fold(0, |m, l| m | u8::from(below(&first[l]) == [0; 32]) << l)
        );
        assert_eq!(
            a.is_negative(),
            (0..LANES).fold(0, |m, l| m | (below(&first[l])[0] & 1) << l)
        );
    }
}

fn dalek(points: impl Iterator<Item = RistrettoPoint>, half: &Scalar) -> Vec<Row> {
    points
        .map(|p| (p * (half + half)).compress().to_bytes())
        .collect()
}

/// Both steps on `n` random elements, under a key each thousand.
fn compare(n: usize, seed: u64) {
    let Some(eights) = eights() else { return };
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    for from in (0..n).step_by(1000) {
        let mut uniform = vec![[0; 64]; 1000.min(n - from)];
        uniform.iter_mut().for_each(|u| rng.fill_bytes(u));
        let mut wide = [0; 64];
        rng.fill_bytes(&mut wide);
        let half = Scalar::from_bytes_mod_order_wide(&wide);
        let digits = digits(half.as_bytes());
        let blinded = eights.blind(&uniform, &digits);
        let points = uniform.iter().map(RistrettoPoint::from_uniform_bytes);
        assert_eq!(blinded, dalek(points, &half));
        let raised = eights.raise(&blinded, &digits).unwrap();
        let points = blinded
            .iter()
            .map(|b| CompressedRistretto(*b).decompress().unwrap());
        assert_eq!(raised, dalek(points, &half));
    }
}

#[test]
fn eights_equal_their_twin_on_ten_thousand_random_elements() {
    compare(10_000, 4);
}

#[test]
#[ignore = "takes minutes"]
fn eights_equal_their_twin_on_a_million_random_elements() {
    compare(1_000_000, 5);
}

#[test]
fn every_number_of_elements_is_the_same() {
    let Some(eights) = eights() else { return };
    let half = Scalar::from(12_345_u64);
    let digits = digits(half.as_bytes());
    for n in 0..20_u8 {
        let uniform: Vec<[u8; 64]> = (1..=n).map(|i| [i; 64]).collect();
        let blinded = eights.blind(&uniform, &digits);
        let points = uniform.iter().map(RistrettoPoint::from_uniform_bytes);
        assert_eq!(blinded, dalek(points, &half), "{n}");
        assert_eq!(
            eights.raise(&blinded, &digits).unwrap().len(),
            usize::from(n)
        );
    }
}

/// Scalars whose digits and carries are at their ends, and the neutral element among others.
#[test]
fn scalars_and_elements_at_their_ends() {
    let Some(eights) = eights() else { return };
    let mut uniform = vec![[0; 64], [0xff; 64], [1; 64]];
    for bit in 0..8 {
        let mut bytes = [0; 64];
        bytes[bit * 8] = 1 << bit;
        uniform.push(bytes);
    }
    let mut scalars = vec![Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(8_u64)];
    for byte in [0x77, 0x78, 0x87, 0x88, 0x80, 0x08, 0x0f, 0xf0] {
        let mut bytes = [byte; 32];
        bytes[31] &= 0x0f;
        scalars.push(Scalar::from_bytes_mod_order(bytes));
    }
    for half in scalars {
        let digits = digits(half.as_bytes());
        let points = uniform.iter().map(RistrettoPoint::from_uniform_bytes);
        assert_eq!(eights.blind(&uniform, &digits), dalek(points, &half));
    }
}

/// What the decoder refuses is exactly what its twin refuses.
#[test]
fn encodings_are_refused_as_by_the_twin() {
    let Some(eights) = eights() else { return };
    let half = digits(Scalar::from(3_u64).as_bytes());
    let mut good = 0;
    for row in rows() {
        let mut even = row;
        even[0] &= 0xfe;
        even[31] &= 0x7f;
        for row in [row, even] {
            let twin = CompressedRistretto(row)
                .decompress()
                .filter(|_| row != [0; 32]);
            let ours = eights.raise(&[row], &half);
            assert_eq!(ours.is_ok(), twin.is_some(), "{row:?}");
            if let (Ok(ours), Some(twin)) = (ours, twin) {
                good += 1;
                assert_eq!(ours, dalek([twin].into_iter(), &Scalar::from(3_u64)));
            }
        }
    }
    assert!(good > 50, "{good}");
}

proptest! {
    #[test]
    fn digits_are_the_scalar(bytes: [u8; 32]) {
        let scalar = Scalar::from_bytes_mod_order(bytes);
        let mut sum = Scalar::ZERO;
        for digit in digits(scalar.as_bytes()).iter().rev() {
            prop_assert!((-8..=8).contains(digit));
            let size = Scalar::from(digit.unsigned_abs());
            sum = sum * Scalar::from(16_u64) + if *digit < 0 { -size } else { size };
        }
        prop_assert_eq!(sum, scalar);
    }
}
