//! The x-only Montgomery ladder of Curve25519 for eight elements at a time (RFC 7748), to be measured against the steps over
//! ristretto255: a suite of its own would pay only where this is much faster. It is not (docs/performance.md), so it serves tests alone.

use std::time::Instant;

use curve25519_dalek::montgomery::MontgomeryPoint;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::field::{Field, LANES, Limbs, ONE};
use super::tests::eights;
use crate::group::Key;
use crate::simd::digits;
use crate::sorter::Row;

/// (486662 - 2) / 4.
const A24: Limbs = [121_665, 0, 0, 0, 0];

/// Every lane's u times the scalar, a little-endian number below 2^255, as a fraction. Constant time in scalar and points.
#[target_feature(enable = "avx512f,avx512ifma")]
fn ladder(u: &Field, scalar: &Row) -> (Field, Field) {
    let (one, zero, a24) = (
        Field::splat(&ONE),
        Field::splat(&[0; 5]),
        Field::splat(&A24),
    );
    let (mut x2, mut z2, mut x3, mut z3) = (one, zero, *u, one);
    let mut swapped = 0;
    for place in (0..255).rev() {
        let bit = scalar[place / 8] >> (place % 8) & 1;
        let swap = 0_u8.wrapping_sub(std::hint::black_box(bit ^ swapped));
        swapped = bit;
        (x2, x3) = (Field::select(swap, &x2, &x3), Field::select(swap, &x3, &x2));
        (z2, z3) = (Field::select(swap, &z2, &z3), Field::select(swap, &z3, &z2));
        let (a, b) = (x2.add(&z2), x2.sub(&z2));
        let (aa, bb) = (a.square(), b.square());
        let e = aa.sub(&bb);
        let da = x3.sub(&z3).mul(&a);
        let cb = x3.add(&z3).mul(&b);
        x3 = da.add(&cb).square();
        z3 = u.mul(&da.sub(&cb).square());
        x2 = aa.mul(&bb);
        z2 = e.mul(&aa.add(&a24.mul(&e)));
    }
    let swap = 0_u8.wrapping_sub(std::hint::black_box(swapped));
    (Field::select(swap, &x2, &x3), Field::select(swap, &z2, &z3))
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn multiply(us: &[Row; LANES], scalar: &Row) -> [Row; LANES] {
    let (x, z) = ladder(&Field::from_rows(us), scalar);
    x.mul(&z.invert()).to_rows()
}

/// X25519 of eight points under one scalar.
fn x25519(scalar: &Row, us: &[Row; LANES]) -> [Row; LANES] {
    let mut clamped = *scalar;
    clamped[0] &= 248;
    clamped[31] = clamped[31] & 127 | 64;
    // SAFETY: every caller has looked for the instructions.
    unsafe { multiply(us, &clamped) }
}

fn row(hex: &str) -> Row {
    hex::decode(hex).unwrap().try_into().unwrap()
}

#[test]
fn rfc7748_5_2() {
    if eights().is_none() {
        return;
    }
    let vectors = [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ];
    for (scalar, u, expected) in vectors {
        for lane in 0..LANES {
            let mut us = [[9; 32]; LANES];
            us[lane] = row(u);
            assert_eq!(x25519(&row(scalar), &us)[lane], row(expected));
        }
    }
}

fn iterate(n: u32) -> Row {
    let mut base = [0; 32];
    base[0] = 9;
    let (mut k, mut u) = (base, base);
    for _ in 0..n {
        (k, u) = (x25519(&k, &[u; LANES])[0], k);
    }
    k
}

#[test]
fn rfc7748_5_2_iterated() {
    if eights().is_none() {
        return;
    }
    assert_eq!(
        iterate(1),
        row("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
    );
    assert_eq!(
        iterate(1_000),
        row("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")
    );
}

#[test]
#[ignore = "takes a minute"]
fn rfc7748_5_2_a_million_times() {
    if eights().is_none() {
        return;
    }
    assert_eq!(
        iterate(1_000_000),
        row("7c3911e0ab2586fd864497297e575e6f3bc601c0883c30df5f4dd2d24f665424")
    );
}

/// Points of the curve and of its twist alike.
fn compare(vectors: usize) {
    if eights().is_none() {
        return;
    }
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    for _ in 0..vectors {
        let mut scalar = [0; 32];
        rng.fill_bytes(&mut scalar);
        let mut us = [[0; 32]; LANES];
        us.iter_mut().for_each(|u| rng.fill_bytes(u));
        let twin = us.map(|u| MontgomeryPoint(u).mul_clamped(scalar).to_bytes());
        assert_eq!(x25519(&scalar, &us), twin);
    }
}

#[test]
fn the_ladder_equals_its_twin_on_ten_thousand_random_points() {
    compare(1_250);
}

#[test]
#[ignore = "takes minutes"]
fn the_ladder_equals_its_twin_on_a_million_random_points() {
    compare(125_000);
}

/// The comparison that decides: one step of either kind, in nanoseconds an element, in turns.
#[test]
#[ignore = "measures time"]
fn what_a_step_costs() {
    let Some(eights) = eights() else { return };
    let mut scalar = [0x35; 32];
    scalar[31] = 0x05;
    let half = digits(&scalar);
    let uniform: Vec<[u8; 64]> = (1..=128).map(|i| [i; 64]).collect();
    let rows = eights.blind(&uniform, &half);
    // The fastest of many: what the machine's other work does not slow.
    let time = |work: &mut dyn FnMut()| {
        let once = |()| {
            let start = Instant::now();
            work();
            start.elapsed().as_nanos()
        };
        std::iter::repeat_n((), 300).map(once).min().unwrap_or(0) / 128
    };
    let hash = time(&mut || drop(std::hint::black_box(eights.blind(&uniform, &half))));
    let raise = time(&mut || drop(std::hint::black_box(eights.raise(&rows, &half))));
    let ladders = time(&mut || {
        for chunk in rows.as_chunks::<LANES>().0 {
            // SAFETY: the instructions were detected.
            std::hint::black_box(unsafe { ladder_alone(chunk, &scalar) });
        }
    });
    // What a processor without these instructions runs; AVX2 if built with `--cfg curve25519_dalek_backend="simd"`.
    let single = Key::from_uniform(&[0x35; 64]).unwrap().without_eights();
    let singles = time(&mut || drop(std::hint::black_box(single.raise(&rows, 0).unwrap())));
    println!(
        "ns an element: map, multiply, encode {hash}; decode, multiply, encode {raise}; ladder alone {ladders}; one at a time {singles}"
    );
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn ladder_alone(us: &[Row; LANES], scalar: &Row) -> [Row; LANES] {
    let (x, _) = ladder(&Field::from_rows(us), scalar);
    x.to_rows()
}
