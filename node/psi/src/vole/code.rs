//! The linear code that turns a sparse noise vector into a pseudo-random one of half its length: expand-convolute, of Raghuraman,
//! Rindal and Tanguy, "Expand-convolute codes for pseudorandom correlation generators from LPN" (CRYPTO 2023). The second half of
//! the input is convolved twice with 24 random taps and one fixed, then each output is the input's first half at its place plus 7
//! of the convolved elements: one from each quarter and three from anywhere.
//!
//! The code is public and fixed by the parameter set and its length; that sparse regular noise looks random under it is an
//! assumption (dual LPN for this code).

use super::prg::Prg;
use crate::simd::{Kernels, TAPS};

/// Seeds: pi's digits go on where those of the trees end.
const TAP_SEEDS: [u128; 2] = [
    0x4528_21e6_38d0_1377_be54_66cf_34e9_0c6c,
    0xc0ac_29b7_c97c_50dd_3f84_d5b5_b547_0917,
];
const INDEX_SEED: u128 = 0x9216_d5d9_8979_fb1b_d131_0ba6_98df_b5ac;
/// Convolved elements in an output, by quarter and by chance.
const REGULAR: usize = 4;
const UNIFORM: usize = 3;
/// Outputs whose places are drawn together.
const BATCH: usize = 1024;

/// The code of one output length.
pub(crate) struct Code {
    output: usize,
    taps: [Vec<u32>; 2],
}

impl Code {
    /// For `output` elements from twice as many; more than the convolution's window, a multiple of 4, below 2^32.
    pub(crate) fn new(output: usize) -> Self {
        Self {
            output,
            taps: TAP_SEEDS.map(|seed| {
                let mut words = vec![0; output.div_ceil(4)];
                Prg::new(seed).fill(&mut words);
                words
                    .into_iter()
                    .flat_map(quarters)
                    .map(|w| w & ((1 << TAPS) - 1))
                    .take(output)
                    .collect()
            }),
        }
    }

    /// Encodes in place: the output is the first half of `x`, which holds twice as many elements of `W` field elements each.
    /// Constant time in `x`.
    pub(crate) fn encode<const W: usize>(&self, kernels: Kernels, x: &mut [[u128; W]]) {
        let (out, convolved) = x.split_at_mut(self.output);
        for taps in &self.taps {
            kernels.convolve(convolved, taps);
        }
        let mut prg = Prg::new(INDEX_SEED);
        let mut words = vec![0; 2 * BATCH];
        let mut places = vec![[0_u32; REGULAR + UNIFORM]; BATCH];
        for out in out.chunks_mut(BATCH) {
            prg.fill(&mut words);
            self.places(&words, &mut places);
            kernels.add_places(out, convolved, &places);
        }
    }

    /// Two words of randomness for each output's places.
    #[allow(clippy::cast_possible_truncation)]
    fn places(&self, words: &[u128], places: &mut [[u32; REGULAR + UNIFORM]]) {
        let quarter = self.output as u64 / REGULAR as u64;
        let pick = |w: u32, of: u64| ((u64::from(w) * of) >> 32) as u32;
        for (pair, places) in words.as_chunks::<2>().0.iter().zip(places) {
            let [a, b] = pair.map(quarters);
            for ((q, w), place) in (0..).zip(a).zip(places.iter_mut()) {
                *place = pick(w, quarter) + q * quarter as u32;
            }
            for (w, place) in b.into_iter().zip(places.iter_mut().skip(REGULAR)) {
                *place = pick(w, self.output as u64);
            }
        }
    }
}

/// The four 32-bit parts, the lowest first.
#[allow(clippy::cast_possible_truncation)]
fn quarters(word: u128) -> [u32; 4] {
    std::array::from_fn(|i| (word >> (32 * i)) as u32)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn random(seed: u128, n: usize) -> Vec<[u128; 1]> {
        let mut out = vec![0; n];
        Prg::new(seed).fill(&mut out);
        out.into_iter().map(|x| [x]).collect()
    }

    /// The code as a matrix of bits, from its description: rows are outputs, columns inputs; column sets as u128 pairs.
    fn matrix(k: usize) -> Vec<Vec<bool>> {
        let draw = |seed: u128, n: usize| -> Vec<u32> {
            let mut prg = Prg::new(seed);
            (0..n.div_ceil(4))
                .flat_map(|_| {
                    let bytes = prg.next_block().to_le_bytes();
                    (0..4).map(move |i| {
                        u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap())
                    })
                })
                .take(n)
                .collect()
        };
        // Element i of the convolved half, as a sum of inputs.
        let unit = |i: usize| (0..2 * k).map(|j| j == i).collect::<Vec<bool>>();
        let add = |a: &mut Vec<bool>, b: &[bool]| a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
        let mut half: Vec<Vec<bool>> = (0..k).map(|i| unit(k + i)).collect();
        for seed in TAP_SEEDS {
            for (i, bits) in draw(seed, k).into_iter().enumerate() {
                let from = half[i].clone();
                for j in 0..24 {
                    if bits >> j & 1 == 1 {
                        add(&mut half[(i + 1 + j) % k], &from);
                    }
                }
                add(&mut half[(i + 25) % k], &from);
            }
        }
        let words = draw(INDEX_SEED, 8 * k);
        (0..k)
            .map(|i| {
                let mut row = unit(i);
                for (j, w) in words[8 * i..8 * i + 7].iter().enumerate() {
                    let (first, of) = if j < 4 { (j * k / 4, k / 4) } else { (0, k) };
                    let place = first + usize::try_from((u64::from(*w) * of as u64) >> 32).unwrap();
                    add(&mut row, &half[place]);
                }
                row
            })
            .collect()
    }

    #[test]
    fn it_is_the_matrix_of_its_description() {
        for k in [64, 68, 128, 192] {
            let code = Code::new(k);
            let matrix = matrix(k);
            let x = random(k as u128, 2 * k);
            for kernels in Kernels::all() {
                let mut got = x.clone();
                code.encode(kernels, &mut got);
                for (row, got) in matrix.iter().zip(&got) {
                    let sum = row
                        .iter()
                        .zip(&x)
                        .filter(|(b, _)| **b)
                        .fold(0, |s, (_, x)| s ^ x[0]);
                    assert_eq!(got[0], sum, "k = {k}, {}", kernels.name());
                }
                // Unit vectors give the matrix's columns: the transpose, read the other way.
                for column in [0, 1, k - 1, k, k + 25, 2 * k - 1] {
                    let mut unit = vec![[0]; 2 * k];
                    unit[column] = [1];
                    code.encode(kernels, &mut unit);
                    assert!(
                        unit[..k]
                            .iter()
                            .zip(&matrix)
                            .all(|(u, row)| u[0] == u128::from(row[column]))
                    );
                }
            }
        }
    }

    #[test]
    fn it_is_linear_and_acts_on_pairs_as_on_each() {
        let k = 4096;
        let code = Code::new(k);
        let (a, b) = (random(1, 2 * k), random(2, 2 * k));
        for kernels in Kernels::all() {
            let encode = |mut x: Vec<[u128; 1]>| {
                code.encode(kernels, &mut x);
                x.truncate(k);
                x
            };
            let sum = encode(a.iter().zip(&b).map(|(a, b)| [a[0] ^ b[0]]).collect());
            let (ea, eb) = (encode(a.clone()), encode(b.clone()));
            assert!(
                sum.iter()
                    .zip(ea.iter().zip(&eb))
                    .all(|(s, (a, b))| s[0] == a[0] ^ b[0])
            );
            let mut pairs: Vec<[u128; 2]> = a.iter().zip(&b).map(|(a, b)| [a[0], b[0]]).collect();
            code.encode(kernels, &mut pairs);
            assert!(
                pairs[..k]
                    .iter()
                    .zip(ea.iter().zip(&eb))
                    .all(|(p, (a, b))| *p == [a[0], b[0]])
            );
        }
    }

    #[test]
    fn every_output_stands_on_the_noise_s_second_half() {
        // A sparse vector comes out dense.
        let k = 10_000;
        let mut x = vec![[0]; 2 * k];
        for i in 0..256 {
            x[i * (2 * k / 256) + 3] = [1];
        }
        Code::new(k).encode(Kernels::detect(), &mut x);
        let ones = x[..k].iter().filter(|x| x[0] == 1).count();
        assert!((4_700..5_300).contains(&ones), "{ones} ones of {k}");
    }

    #[test]
    fn the_parameter_set_is_golden() {
        let digests = [256, 20_480].map(|k| {
            let mut x = random(1, 2 * k);
            Code::new(k).encode(Kernels::detect(), &mut x);
            let mut h = Sha256::new();
            x[..k].iter().for_each(|x| h.update(x[0].to_le_bytes()));
            hex::encode(&h.finalize()[..16])
        });
        assert_eq!(digests, GOLDEN, "another code is another parameter set");
    }
    const GOLDEN: [&str; 2] = [
        "d1bf1bfca9d6dc97bf7876db73e62bfd",
        "20e029f85f3af43d577d07d67bd4ced6",
    ];
}
