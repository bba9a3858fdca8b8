//! Eight ristretto255 elements at a time (RFC 9496): decoding, the map from uniform bytes, multiplication by one scalar for all
//! lanes, encoding of doubles with one inversion for many. Every result has the bytes that curve25519-dalek gives, which is its twin
//! in tests and runs where the instructions are missing.

use core::arch::x86_64::__mmask8;

use subtle::ConstantTimeEq;

use super::Digits;
use super::field::{Field, LANES, Limbs, ONE, SQRT_M1};
use crate::sorter::Row;

// Constants of RFC 9496 4.1.
const D: Limbs = [
    0x0003_4dca_1359_78a3,
    0x0001_a828_3b15_6ebd,
    0x0005_e7a2_6001_c029,
    0x0007_39c6_63a0_3cbb,
    0x0005_2036_cee2_b6ff,
];
/// 2 D.
const D2: Limbs = [
    0x0006_9b94_26b2_f159,
    0x0003_5050_762a_dd7a,
    0x0003_cf44_c003_8052,
    0x0006_738c_c740_7977,
    0x0002_406d_9dc5_6dff,
];
const ONE_MINUS_D_SQ: Limbs = [
    0x0004_09c1_945f_c176,
    0x0007_19ab_c6a1_fc4f,
    0x0001_c37f_90b2_0684,
    0x0000_6bcc_ca55_eedf,
    0x0000_2907_2a8b_2b3e,
];
const D_MINUS_ONE_SQ: Limbs = [
    0x0005_5aaa_44ed_4d20,
    0x0005_9603_c333_2635,
    0x0002_6d3b_af4a_7928,
    0x0001_20a6_6e69_97a9,
    0x0005_968b_37af_66c2,
];
const SQRT_AD_MINUS_ONE: Limbs = [
    0x0007_f6a0_497b_2e1b,
    0x0001_836f_0a97_afd2,
    0x0007_d747_f6be_7638,
    0x0004_5607_9e7e_6498,
    0x0003_7693_1bf2_b834,
];
const INVSQRT_A_MINUS_D: Limbs = [
    0x0000_fdaa_805d_40ea,
    0x0002_eb48_2e57_d339,
    0x0000_0761_0274_bc58,
    0x0006_510b_613d_c8ff,
    0x0007_86c8_905c_faff,
];

/// Points of the twisted Edwards curve, x = X/Z, y = Y/Z, xy = T/Z.
#[derive(Clone, Copy)]
pub(super) struct Points {
    x: Field,
    y: Field,
    z: Field,
    t: Field,
}

/// The same without T, which doubling does not need.
#[derive(Clone, Copy)]
struct Projective {
    x: Field,
    y: Field,
    z: Field,
}

/// x = X/Z, y = Y/T: what sums and doubles come as.
#[derive(Clone, Copy)]
struct Completed {
    x: Field,
    y: Field,
    z: Field,
    t: Field,
}

/// What is added: Y + X, Y - X, Z, 2 D T.
#[derive(Clone, Copy)]
struct Cached {
    plus: Field,
    minus: Field,
    z: Field,
    t2d: Field,
}

impl Completed {
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn projective(&self) -> Projective {
        Projective {
            x: self.x.mul(&self.t),
            y: self.y.mul(&self.z),
            z: self.z.mul(&self.t),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn extended(&self) -> Points {
        Points {
            x: self.x.mul(&self.t),
            y: self.y.mul(&self.z),
            z: self.z.mul(&self.t),
            t: self.x.mul(&self.y),
        }
    }
}

impl Projective {
    /// Hisil, Wong, Carter, Dawson, "Twisted Edwards curves revisited" (ASIACRYPT 2008), 3.3 with a = -1.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn double(&self) -> Completed {
        let (xx, yy, zz) = (self.x.square(), self.y.square(), self.z.square());
        let both = self.x.add(&self.y).square();
        let (sum, difference) = (yy.add(&xx), yy.sub(&xx));
        Completed {
            x: both.sub(&sum),
            y: sum,
            z: difference,
            t: zz.add(&zz).sub(&difference),
        }
    }
}

impl Points {
    /// RFC 9496 4.3.1, of numbers below p that are even; lanes outside of the mask are no elements.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn decode(s: &Field) -> (__mmask8, Self) {
        let one = Field::splat(&ONE);
        let ss = s.square();
        let (u1, u2) = (one.sub(&ss), one.add(&ss));
        let u2_sqr = u2.square();
        let v = Field::splat(&D).mul(&u1.square()).neg().sub(&u2_sqr);
        let (was_square, invsqrt) = Field::sqrt_ratio(&one, &v.mul(&u2_sqr));
        let den_x = invsqrt.mul(&u2);
        let den_y = invsqrt.mul(&den_x).mul(&v);
        let x = s.add(s).mul(&den_x).abs();
        let y = u1.mul(&den_y);
        let t = x.mul(&y);
        let good = was_square & !t.is_negative() & !y.is_zero();
        (good, Self { x, y, z: one, t })
    }

    /// The sum of the maps of both halves (RFC 9496 4.3.4).
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn from_uniform(first: &Field, second: &Field) -> Self {
        let second = map(second).cached();
        map(first).sum(&second).extended()
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn cached(&self) -> Cached {
        Cached {
            plus: self.y.add(&self.x),
            minus: self.y.sub(&self.x),
            z: self.z,
            t2d: self.t.mul(&Field::splat(&D2)),
        }
    }

    /// Section 3.1 of the same paper; complete on this curve.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn sum(&self, other: &Cached) -> Completed {
        let pp = self.y.add(&self.x).mul(&other.plus);
        let mm = self.y.sub(&self.x).mul(&other.minus);
        let tt = self.t.mul(&other.t2d);
        let zz = self.z.mul(&other.z);
        let zz = zz.add(&zz);
        Completed {
            x: pp.sub(&mm),
            y: pp.add(&mm),
            z: zz.add(&tt),
            t: zz.sub(&tt),
        }
    }

    /// Every lane times the scalar of these digits. Time and addresses do not depend on the digits.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn times(&self, digits: &Digits) -> Self {
        let one = self.cached();
        let mut multiples = [one; 8];
        let mut sum = *self;
        for entry in multiples.iter_mut().skip(1) {
            sum = sum.sum(&one).extended();
            *entry = sum.cached();
        }
        let (zero, unit) = (Field::splat(&[0; 5]), Field::splat(&ONE));
        let mut total = Completed {
            x: zero,
            y: unit,
            z: unit,
            t: unit,
        };
        for (place, digit) in digits.iter().rev().enumerate() {
            // The neutral element needs no doubling, and which place is the first is no secret.
            if place != 0 {
                for _ in 0..3 {
                    total = total.projective().double();
                }
                total = total.projective().double();
            }
            total = total.extended().sum(&pick(&multiples, *digit));
        }
        total.extended()
    }
}

/// The multiple of a digit, by looking at all.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn pick(multiples: &[Cached; 8], digit: i8) -> Cached {
    let sign = digit >> 7;
    let size = ((digit ^ sign) - sign).cast_unsigned();
    let unit = Field::splat(&ONE);
    let mut picked = Cached {
        plus: unit,
        minus: unit,
        z: unit,
        t2d: Field::splat(&[0; 5]),
    };
    for (entry, number) in multiples.iter().zip(1_u8..) {
        let mask = 0_u8.wrapping_sub(size.ct_eq(&number).unwrap_u8());
        picked = Cached {
            plus: Field::select(mask, &picked.plus, &entry.plus),
            minus: Field::select(mask, &picked.minus, &entry.minus),
            z: Field::select(mask, &picked.z, &entry.z),
            t2d: Field::select(mask, &picked.t2d, &entry.t2d),
        };
    }
    let negative = sign.cast_unsigned();
    Cached {
        plus: Field::select(negative, &picked.plus, &picked.minus),
        minus: Field::select(negative, &picked.minus, &picked.plus),
        z: picked.z,
        t2d: Field::select(negative, &picked.t2d, &picked.t2d.neg()),
    }
}

/// MAP of RFC 9496 4.3.4.
#[target_feature(enable = "avx512f,avx512ifma")]
fn map(t: &Field) -> Points {
    let one = Field::splat(&ONE);
    let d = Field::splat(&D);
    let minus_one = one.neg();
    let r = Field::splat(&SQRT_M1).mul(&t.square());
    let u = r.add(&one).mul(&Field::splat(&ONE_MINUS_D_SQ));
    let v = minus_one.sub(&r.mul(&d)).mul(&r.add(&d));
    let (was_square, s) = Field::sqrt_ratio(&u, &v);
    let s_prime = s.mul(t).abs().neg();
    let s = Field::select(was_square, &s_prime, &s);
    let c = Field::select(was_square, &r, &minus_one);
    let n = c
        .mul(&r.sub(&one))
        .mul(&Field::splat(&D_MINUS_ONE_SQ))
        .sub(&v);
    let ss = s.square();
    Completed {
        x: s.add(&s).mul(&v),
        y: one.sub(&ss),
        z: n.mul(&Field::splat(&SQRT_AD_MINUS_ONE)),
        t: one.add(&ss),
    }
    .extended()
}

/// A double on its way to its encoding.
struct Half {
    e: Field,
    f: Field,
    g: Field,
    h: Field,
    eg: Field,
    fh: Field,
    /// The product of all before.
    before: Field,
    /// Lanes whose double is the neutral element, so that nothing can be divided by.
    neutral: __mmask8,
}

/// Encodings (RFC 9496 4.3.2) of the doubles of all points, vector by vector, with one inversion: a double's inverse square root
/// follows from an inverse of its half's coordinates.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn encode_doubles(points: &[Points]) -> Vec<[Row; LANES]> {
    let one = Field::splat(&ONE);
    let d = Field::splat(&D);
    let mut product = one;
    let halves: Vec<Half> = points
        .iter()
        .map(|p| {
            let (xx, yy, zz) = (p.x.square(), p.y.square(), p.z.square());
            let dtt = p.t.square().mul(&d);
            let e = p.x.mul(&p.y.add(&p.y));
            let f = zz.add(&dtt);
            let g = yy.add(&xx);
            let h = zz.sub(&dtt);
            let (eg, fh) = (e.mul(&g), f.mul(&h));
            let all = eg.mul(&fh);
            let neutral = all.is_zero();
            let before = product;
            product = product.mul(&Field::select(neutral, &all, &one));
            Half {
                e,
                f,
                g,
                h,
                eg,
                fh,
                before,
                neutral,
            }
        })
        .collect();
    let mut inverse = product.invert();
    let root = Field::splat(&SQRT_M1);
    let (zero, magic) = (Field::splat(&[0; 5]), Field::splat(&INVSQRT_A_MINUS_D));
    let mut rows: Vec<[Row; LANES]> = halves
        .iter()
        .rev()
        .map(|half| {
            let own = inverse.mul(&half.before);
            let all = half.eg.mul(&half.fh);
            inverse = inverse.mul(&Field::select(half.neutral, &all, &one));
            let own = Field::select(half.neutral, &own, &zero);
            let (z_inv, t_inv) = (half.eg.mul(&own), half.fh.mul(&own));
            let turn = half.eg.mul(&z_inv).is_negative();
            let e = Field::select(turn, &half.e, &half.g);
            let g = Field::select(turn, &half.g, &half.e.neg());
            let h = Field::select(turn, &half.h, &half.f.mul(&root));
            let magic = Field::select(turn, &magic, &root);
            let flip = h.mul(&e).mul(&z_inv).is_negative();
            let g = Field::select(flip, &g, &g.neg());
            h.sub(&g).mul(&magic.mul(&g.mul(&t_inv))).abs().to_rows()
        })
        .collect();
    rows.reverse();
    rows
}
