//! The field of 2^255 - 19, eight independent elements at a time: five limbs of 51 bits each, a vector a limb, multiplied 52 bits
//! at a time (AVX-512 IFMA). No branch and no address depends on a value.
//!
//! Invariant: a limb is below 2^51 + 2^13 wherever an element is kept, so that it fits the multiplier's 52 bits. Every function
//! takes and returns such elements.

use core::arch::x86_64::*;

use crate::sorter::Row;

/// Elements side by side.
pub(crate) const LANES: usize = 8;
/// A limb's 51 bits.
const LOW: u64 = (1 << 51) - 1;

/// Eight elements.
#[derive(Clone, Copy)]
pub(super) struct Field([__m512i; 5]);

/// Limbs of a constant, lowest first.
pub(super) type Limbs = [u64; 5];

/// 1.
pub(super) const ONE: Limbs = [1, 0, 0, 0, 0];
/// A square root of -1: 2^((p-1)/4).
pub(super) const SQRT_M1: Limbs = [
    0x0006_1b27_4a0e_a0b0,
    0x0000_d5a5_fc8f_189d,
    0x0007_ef5e_9cbd_0c60,
    0x0007_8595_a680_4c9e,
    0x0002_b832_4804_fc1d,
];

fn vector(lanes: [u64; LANES]) -> __m512i {
    // SAFETY: both are 64 bytes, and any bytes are a value of either.
    unsafe { core::mem::transmute(lanes) }
}

fn words(vector: __m512i) -> [u64; LANES] {
    // SAFETY: as above.
    unsafe { core::mem::transmute(vector) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn all(word: u64) -> __m512i {
    _mm512_set1_epi64(word.cast_signed())
}

/// Sum of the products of the limbs at these places, by a multiplying instruction.
macro_rules! sum {
    ($instruction:ident, $a:ident $b:ident: $($i:literal $j:literal),+) => {{
        let mut sum = _mm512_setzero_si512();
        $(sum = $instruction(sum, $a[$i], $b[$j]);)+
        sum
    }};
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn doubled(x: __m512i) -> __m512i {
    _mm512_add_epi64(x, x)
}

/// x + 19 y: 19 = 16 + 2 + 1. For both below 2^55 the result is below 2^60.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn plus_19(x: __m512i, y: __m512i) -> __m512i {
    let three = _mm512_add_epi64(y, doubled(y));
    _mm512_add_epi64(_mm512_add_epi64(x, three), _mm512_slli_epi64::<4>(y))
}

impl Field {
    /// The same element in every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn splat(limbs: &Limbs) -> Self {
        Self([
            all(limbs[0]),
            all(limbs[1]),
            all(limbs[2]),
            all(limbs[3]),
            all(limbs[4]),
        ])
    }

    /// Little-endian numbers of 255 bits, not necessarily below p; the highest bit of each row is ignored.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn from_rows(rows: &[Row; LANES]) -> Self {
        let mut limbs = [[0; LANES]; 5];
        for (lane, row) in rows.iter().enumerate() {
            let (w, _) = row.as_chunks::<8>();
            let [a, b, c, d] = [w[0], w[1], w[2], w[3]].map(u64::from_le_bytes);
            limbs[0][lane] = a & LOW;
            limbs[1][lane] = (a >> 51 | b << 13) & LOW;
            limbs[2][lane] = (b >> 38 | c << 26) & LOW;
            limbs[3][lane] = (c >> 25 | d << 39) & LOW;
            limbs[4][lane] = d >> 12 & LOW;
        }
        Self(limbs.map(vector))
    }

    /// The canonical encodings, little-endian.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn to_rows(self) -> [Row; LANES] {
        let limbs = self.canonical().0.map(words);
        let mut rows = [[0; 32]; LANES];
        for (lane, row) in rows.iter_mut().enumerate() {
            let [a, b, c, d, e] = limbs.map(|l| l[lane]);
            let numbers = [
                a | b << 51,
                b >> 13 | c << 38,
                c >> 26 | d << 25,
                d >> 39 | e << 12,
            ];
            row.copy_from_slice(numbers.map(u64::to_le_bytes).as_flattened());
        }
        rows
    }

    /// Limbs below 2^63 made to fit again, all at once: what is over goes to the next limb, from the highest 19 times to the lowest.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn carry(x: [__m512i; 5]) -> Self {
        let low = all(LOW);
        let over = [
            _mm512_srli_epi64::<51>(x[0]),
            _mm512_srli_epi64::<51>(x[1]),
            _mm512_srli_epi64::<51>(x[2]),
            _mm512_srli_epi64::<51>(x[3]),
            _mm512_srli_epi64::<51>(x[4]),
        ];
        Self([
            _mm512_madd52lo_epu64(_mm512_and_si512(x[0], low), over[4], all(19)),
            _mm512_add_epi64(_mm512_and_si512(x[1], low), over[0]),
            _mm512_add_epi64(_mm512_and_si512(x[2], low), over[1]),
            _mm512_add_epi64(_mm512_and_si512(x[3], low), over[2]),
            _mm512_add_epi64(_mm512_and_si512(x[4], low), over[3]),
        ])
    }

    /// The sum.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn add(&self, other: &Self) -> Self {
        let (a, b) = (&self.0, &other.0);
        Self::carry([
            _mm512_add_epi64(a[0], b[0]),
            _mm512_add_epi64(a[1], b[1]),
            _mm512_add_epi64(a[2], b[2]),
            _mm512_add_epi64(a[3], b[3]),
            _mm512_add_epi64(a[4], b[4]),
        ])
    }

    /// The difference.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn sub(&self, other: &Self) -> Self {
        // 4p, so that no limb goes below zero.
        let (first, rest) = (all(4 * (LOW - 18)), all(4 * LOW));
        let (a, b) = (&self.0, &other.0);
        Self::carry([
            _mm512_add_epi64(a[0], _mm512_sub_epi64(first, b[0])),
            _mm512_add_epi64(a[1], _mm512_sub_epi64(rest, b[1])),
            _mm512_add_epi64(a[2], _mm512_sub_epi64(rest, b[2])),
            _mm512_add_epi64(a[3], _mm512_sub_epi64(rest, b[3])),
            _mm512_add_epi64(a[4], _mm512_sub_epi64(rest, b[4])),
        ])
    }

    /// Minus the element.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn neg(&self) -> Self {
        Self::splat(&[0; 5]).sub(self)
    }

    /// A column of a product and the five columns above it, each below 2^55, folded: 2^255 is 19.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn fold(low: [__m512i; 5], high: [__m512i; 5]) -> Self {
        Self::carry([
            plus_19(low[0], high[0]),
            plus_19(low[1], high[1]),
            plus_19(low[2], high[2]),
            plus_19(low[3], high[3]),
            plus_19(low[4], high[4]),
        ])
    }

    /// The product.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn mul(&self, other: &Self) -> Self {
        let (a, b) = (&self.0, &other.0);
        // A high half weighs 2^52 where the next column weighs 2^51.
        let h0 = doubled(sum!(_mm512_madd52hi_epu64, a b: 0 0));
        let h1 = doubled(sum!(_mm512_madd52hi_epu64, a b: 0 1, 1 0));
        let h2 = doubled(sum!(_mm512_madd52hi_epu64, a b: 0 2, 1 1, 2 0));
        let h3 = doubled(sum!(_mm512_madd52hi_epu64, a b: 0 3, 1 2, 2 1, 3 0));
        let h4 = doubled(sum!(_mm512_madd52hi_epu64, a b: 0 4, 1 3, 2 2, 3 1, 4 0));
        let h5 = doubled(sum!(_mm512_madd52hi_epu64, a b: 1 4, 2 3, 3 2, 4 1));
        let h6 = doubled(sum!(_mm512_madd52hi_epu64, a b: 2 4, 3 3, 4 2));
        let h7 = doubled(sum!(_mm512_madd52hi_epu64, a b: 3 4, 4 3));
        let h8 = doubled(sum!(_mm512_madd52hi_epu64, a b: 4 4));
        let l0 = sum!(_mm512_madd52lo_epu64, a b: 0 0);
        let l1 = sum!(_mm512_madd52lo_epu64, a b: 0 1, 1 0);
        let l2 = sum!(_mm512_madd52lo_epu64, a b: 0 2, 1 1, 2 0);
        let l3 = sum!(_mm512_madd52lo_epu64, a b: 0 3, 1 2, 2 1, 3 0);
        let l4 = sum!(_mm512_madd52lo_epu64, a b: 0 4, 1 3, 2 2, 3 1, 4 0);
        let l5 = sum!(_mm512_madd52lo_epu64, a b: 1 4, 2 3, 3 2, 4 1);
        let l6 = sum!(_mm512_madd52lo_epu64, a b: 2 4, 3 3, 4 2);
        let l7 = sum!(_mm512_madd52lo_epu64, a b: 3 4, 4 3);
        let l8 = sum!(_mm512_madd52lo_epu64, a b: 4 4);
        Self::fold(
            [
                l0,
                _mm512_add_epi64(l1, h0),
                _mm512_add_epi64(l2, h1),
                _mm512_add_epi64(l3, h2),
                _mm512_add_epi64(l4, h3),
            ],
            [
                _mm512_add_epi64(l5, h4),
                _mm512_add_epi64(l6, h5),
                _mm512_add_epi64(l7, h6),
                _mm512_add_epi64(l8, h7),
                h8,
            ],
        )
    }

    /// The square.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn square(&self) -> Self {
        let a = &self.0;
        // Products of two different limbs count twice, and so does every high half: what is left counts once, twice, or four times.
        let h1 = doubled(sum!(_mm512_madd52hi_epu64, a a: 0 1));
        let h2 = doubled(sum!(_mm512_madd52hi_epu64, a a: 0 2));
        let h3 = doubled(sum!(_mm512_madd52hi_epu64, a a: 0 3, 1 2));
        let h4 = doubled(sum!(_mm512_madd52hi_epu64, a a: 0 4, 1 3));
        let h5 = doubled(sum!(_mm512_madd52hi_epu64, a a: 1 4, 2 3));
        let h6 = doubled(sum!(_mm512_madd52hi_epu64, a a: 2 4));
        let h7 = doubled(sum!(_mm512_madd52hi_epu64, a a: 3 4));
        let l1 = sum!(_mm512_madd52lo_epu64, a a: 0 1);
        let l2 = sum!(_mm512_madd52lo_epu64, a a: 0 2);
        let l3 = sum!(_mm512_madd52lo_epu64, a a: 0 3, 1 2);
        let l4 = sum!(_mm512_madd52lo_epu64, a a: 0 4, 1 3);
        let l5 = sum!(_mm512_madd52lo_epu64, a a: 1 4, 2 3);
        let l6 = sum!(_mm512_madd52lo_epu64, a a: 2 4);
        let l7 = sum!(_mm512_madd52lo_epu64, a a: 3 4);
        let r1 = doubled(_mm512_madd52hi_epu64(l1, a[0], a[0]));
        let r2 = _mm512_madd52lo_epu64(doubled(_mm512_add_epi64(l2, h1)), a[1], a[1]);
        let r3 = doubled(_mm512_madd52hi_epu64(_mm512_add_epi64(l3, h2), a[1], a[1]));
        let r4 = _mm512_madd52lo_epu64(doubled(_mm512_add_epi64(l4, h3)), a[2], a[2]);
        let r5 = doubled(_mm512_madd52hi_epu64(_mm512_add_epi64(l5, h4), a[2], a[2]));
        let r6 = _mm512_madd52lo_epu64(doubled(_mm512_add_epi64(l6, h5)), a[3], a[3]);
        let r7 = doubled(_mm512_madd52hi_epu64(_mm512_add_epi64(l7, h6), a[3], a[3]));
        let r8 = _mm512_madd52lo_epu64(doubled(h7), a[4], a[4]);
        let r9 = doubled(_mm512_madd52hi_epu64(_mm512_setzero_si512(), a[4], a[4]));
        let r0 = _mm512_madd52lo_epu64(_mm512_setzero_si512(), a[0], a[0]);
        Self::fold([r0, r1, r2, r3, r4], [r5, r6, r7, r8, r9])
    }

    /// Squared `n` times.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn squares(&self, n: u32) -> Self {
        let mut x = *self;
        for _ in 0..n {
            x = x.square();
        }
        x
    }

    /// x^(2^250 - 1) and x^11, of which both long powers are made.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn long_power(&self) -> (Self, Self) {
        let x2 = self.square();
        let x9 = x2.squares(2).mul(self);
        let x11 = x9.mul(&x2);
        let n5 = x11.square().mul(&x9);
        let n10 = n5.squares(5).mul(&n5);
        let n20 = n10.squares(10).mul(&n10);
        let n40 = n20.squares(20).mul(&n20);
        let n50 = n40.squares(10).mul(&n10);
        let n100 = n50.squares(50).mul(&n50);
        let n200 = n100.squares(100).mul(&n100);
        (n200.squares(50).mul(&n50), x11)
    }

    /// The inverse, x^(p-2); zero for zero.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn invert(&self) -> Self {
        let (long, x11) = self.long_power();
        long.squares(5).mul(&x11)
    }

    /// x^((p-5)/8).
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn power_p58(&self) -> Self {
        self.long_power().0.squares(2).mul(self)
    }

    /// SQRT_RATIO_M1 (RFC 9496 4.2): in lanes of the mask the non-negative root of u/v, in others that of i u/v.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn sqrt_ratio(u: &Self, v: &Self) -> (__mmask8, Self) {
        let root = Self::splat(&SQRT_M1);
        let v3 = v.square().mul(v);
        let v7 = v3.square().mul(v);
        let r = u.mul(&v3).mul(&u.mul(&v7).power_p58());
        let check = v.mul(&r.square());
        let correct = check.sub(u).is_zero();
        let flipped = check.add(u).is_zero();
        let flipped_i = check.add(&u.mul(&root)).is_zero();
        let r = Self::select(flipped | flipped_i, &r, &r.mul(&root));
        (correct | flipped, r.abs())
    }

    /// Limbs of the number below p.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn canonical(&self) -> Self {
        // Now below 2p.
        let Self(mut x) = Self::carry(self.0);
        let low = all(LOW);
        // Whether it is p or more: then adding 19 reaches 2^255.
        let mut q = all(19);
        q = _mm512_srli_epi64::<51>(_mm512_add_epi64(x[0], q));
        q = _mm512_srli_epi64::<51>(_mm512_add_epi64(x[1], q));
        q = _mm512_srli_epi64::<51>(_mm512_add_epi64(x[2], q));
        q = _mm512_srli_epi64::<51>(_mm512_add_epi64(x[3], q));
        q = _mm512_srli_epi64::<51>(_mm512_add_epi64(x[4], q));
        x[0] = _mm512_madd52lo_epu64(x[0], q, all(19));
        x[1] = _mm512_add_epi64(x[1], _mm512_srli_epi64::<51>(x[0]));
        x[2] = _mm512_add_epi64(x[2], _mm512_srli_epi64::<51>(x[1]));
        x[3] = _mm512_add_epi64(x[3], _mm512_srli_epi64::<51>(x[2]));
        x[4] = _mm512_add_epi64(x[4], _mm512_srli_epi64::<51>(x[3]));
        let x = [
            _mm512_and_si512(x[0], low),
            _mm512_and_si512(x[1], low),
            _mm512_and_si512(x[2], low),
            _mm512_and_si512(x[3], low),
            _mm512_and_si512(x[4], low),
        ];
        Self(x)
    }

    /// Lanes that are zero.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn is_zero(&self) -> __mmask8 {
        let Self([a, b, c, d, e]) = self.canonical();
        let any = _mm512_or_si512(
            _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d)),
            e,
        );
        _mm512_testn_epi64_mask(any, any)
    }

    /// Lanes that are negative: odd (RFC 9496 4.1).
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn is_negative(&self) -> __mmask8 {
        _mm512_test_epi64_mask(self.canonical().0[0], all(1))
    }

    /// The non-negative one of x and -x.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn abs(&self) -> Self {
        Self::select(self.is_negative(), self, &self.neg())
    }

    /// `yes` in lanes of the mask, `no` in others.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn select(mask: __mmask8, no: &Self, yes: &Self) -> Self {
        let (a, b) = (&no.0, &yes.0);
        Self([
            _mm512_mask_blend_epi64(mask, a[0], b[0]),
            _mm512_mask_blend_epi64(mask, a[1], b[1]),
            _mm512_mask_blend_epi64(mask, a[2], b[2]),
            _mm512_mask_blend_epi64(mask, a[3], b[3]),
            _mm512_mask_blend_epi64(mask, a[4], b[4]),
        ])
    }
}
