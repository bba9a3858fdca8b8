#![allow(clippy::cast_possible_truncation)]

use polyval::universal_hash::{KeyInit, UniversalHash};
use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> u128 {
    u128::from_le_bytes(hex::decode(text).unwrap().try_into().unwrap())
}

/// The field's 1: x^128 reduced.
const ONE: u128 = 0xC200_0000_0000_0000_0000_0000_0000_0001;

/// Bit by bit: b is shifted through, the sum divided by x each time.
fn slow_dot(a: u128, b: u128) -> u128 {
    // x^-1 of the field's polynomial x^128 + x^127 + x^126 + x^121 + 1.
    const FOLD: u128 = 1 << 127 | 1 << 126 | 1 << 125 | 1 << 120;
    let mut sum = 0;
    for i in 0..128 {
        if b >> i & 1 == 1 {
            sum ^= a;
        }
        let odd = sum & 1;
        sum >>= 1;
        if odd == 1 {
            sum ^= FOLD;
        }
    }
    sum
}

#[test]
fn polyval_of_rfc_8452_appendix_a() {
    for k in Kernels::all() {
        let h = hex("25629347589242761d31f826ba4b757b");
        let first = k.dot(hex("4f4f95668c83dfb6401762bb2d01a262"), h);
        let second = k.dot(first ^ hex("d1a24ddd2721d006bbe45f20d3c9f362"), h);
        assert_eq!(
            second,
            hex("f7a3b47b846119fae5b7866cf5e5b77e"),
            "{}",
            k.name()
        );
    }
}

#[test]
fn this_processor_is_named() {
    println!("kernels: {}", Kernels::detect().name());
    assert_eq!(Kernels::all()[0], Kernels::Portable);
    assert_eq!(Kernels::all().last(), Some(&Kernels::detect()));
}

proptest! {
    #[test]
    fn dot_is_the_field_s_product(a: u128, b: u128, c: u128) {
        let oracle = |a: u128, b: u128| {
            let mut p = polyval::Polyval::new(&b.to_le_bytes().into());
            p.update(&[a.to_le_bytes().into()]);
            u128::from_le_bytes(p.finalize().into())
        };
        for k in Kernels::all() {
            let ab = k.dot(a, b);
            prop_assert_eq!(ab, slow_dot(a, b));
            prop_assert_eq!(ab, oracle(a, b));
            prop_assert_eq!(ab, k.dot(b, a));
            prop_assert_eq!(k.dot(a, b ^ c), ab ^ k.dot(a, c));
            prop_assert_eq!(k.dot(ab, c), k.dot(a, k.dot(b, c)));
            prop_assert_eq!(k.dot(a, ONE), a);
        }
    }

    #[test]
    fn every_element_but_zero_has_an_inverse(a: u128) {
        prop_assume!(a != 0);
        // a^(2^128 - 2)
        let k = Kernels::detect();
        let (mut power, mut inverse) = (a, ONE);
        for _ in 1..128 {
            power = k.dot(power, power);
            inverse = k.dot(inverse, power);
        }
        prop_assert_eq!(k.dot(a, inverse), ONE);
    }

    #[test]
    fn sums_and_products_are_the_twin_s(
        columns in proptest::collection::vec(any::<u128>(), 128..200),
        rows in proptest::collection::vec((0_u32..90, any::<u128>()), 0..20),
        factor: u128,
    ) {
        let rows: Vec<Band> = rows.into_iter().map(|(start, bits)| Band { start, bits }).collect();
        let mut expected = vec![7; rows.len()];
        for (row, sum) in rows.iter().zip(&mut expected) {
            *sum = 0;
            if row.start as usize + BAND_COLUMNS <= columns.len() {
                for j in 0..BAND_COLUMNS {
                    if row.bits >> j & 1 == 1 {
                        *sum ^= columns[row.start as usize + j];
                    }
                }
            }
        }
        for k in Kernels::all() {
            let mut sums = vec![7; rows.len()];
            k.sum_bands(&columns, &rows, &mut sums);
            prop_assert_eq!(&sums, &expected);
            let mut products = columns[..50].to_vec();
            k.add_products(&mut products, factor, &columns[50..100]);
            for (i, p) in products.iter().enumerate() {
                prop_assert_eq!(*p, columns[i] ^ slow_dot(factor, columns[50 + i]));
            }
            // The shorter one ends it.
            let sum = columns[..50].iter().zip(&columns[50..]).fold(0, |s, (a, b)| s ^ slow_dot(*a, *b));
            prop_assert_eq!(k.inner_product(&columns[..50], &columns[50..]), sum);
            prop_assert_eq!(k.inner_product(&columns[50..100], &columns[..50]), sum);
            prop_assert_eq!(k.inner_product(&[], &columns), 0);
        }
    }

    #[test]
    fn convolutions_are_the_definition_s(
        x in proptest::collection::vec(any::<[u128; 2]>(), 26..90),
        seed: u64,
    ) {
        let taps: Vec<u32> = (0..x.len() as u64)
            .map(|i| (seed ^ i).wrapping_mul(0x9E37_79B9_7F4A_7C15) as u32)
            .collect();
        let mut expected = x.clone();
        for i in 0..x.len() {
            for j in 0..=TAPS {
                if j == TAPS || taps[i] >> j & 1 == 1 {
                    let from = expected[i];
                    let to = &mut expected[(i + 1 + j) % x.len()];
                    to[0] ^= from[0];
                    to[1] ^= from[1];
                }
            }
        }
        for k in Kernels::all() {
            let mut pairs = x.clone();
            k.convolve(&mut pairs, &taps);
            prop_assert_eq!(&pairs, &expected);
            for half in 0..2 {
                let mut single: Vec<[u128; 1]> = x.iter().map(|p| [p[half]]).collect();
                k.convolve(&mut single, &taps);
                let want: Vec<[u128; 1]> = expected.iter().map(|p| [p[half]]).collect();
                prop_assert_eq!(single, want);
            }
        }
    }
}

proptest! {
    #[test]
    fn places_are_the_twin_s(
        from in proptest::collection::vec(any::<[u128; 2]>(), 1..60),
        places in proptest::collection::vec(any::<[u8; 7]>(), 0..70),
    ) {
        // Some past the end.
        let places: Vec<[u32; 7]> = places.iter().map(|p| p.map(|p| u32::from(p) % 64)).collect();
        let mut expected = vec![[3_u128, 5]; places.len()];
        for (sum, places) in expected.iter_mut().zip(&places) {
            for place in places {
                if let Some(e) = from.get(*place as usize) {
                    sum[0] ^= e[0];
                    sum[1] ^= e[1];
                }
            }
        }
        for k in Kernels::all() {
            let mut sums = vec![[3_u128, 5]; places.len()];
            k.add_places(&mut sums, &from, &places);
            prop_assert_eq!(&sums, &expected);
        }
    }

    #[test]
    fn wiping_leaves_zeros_and_no_more(mut bytes in proptest::collection::vec(1_u8.., 0..200), from in 0_usize..20, to in 0_usize..20) {
        let end = bytes.len().saturating_sub(to).max(from.min(bytes.len()));
        let from = from.min(bytes.len());
        wipe(&mut bytes[from..end]);
        for (i, b) in bytes.iter().enumerate() {
            prop_assert_eq!(*b == 0, (from..end).contains(&i));
        }
    }
}

#[test]
fn short_slices_are_left_alone() {
    for k in Kernels::all() {
        let mut x = vec![[1_u128]; 25];
        k.convolve(&mut x, &[1; 25]);
        assert_eq!(x, [[1]; 25]);
        let mut x = vec![[1_u128]; 26];
        k.convolve(&mut x, &[1; 25]);
        assert_eq!(x, [[1]; 26]);
    }
}
