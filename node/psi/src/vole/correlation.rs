//! The silent vector correlation over GF(2^128): the initiator gets pseudo-random A and C, the responder Delta and B, with
//! C = B + A * Delta entry by entry. Block after block, noise terms at punctured places are expanded by trees and compressed by the
//! code; what is sent grows with the number of blocks alone. For parties that follow the protocol.
//!
//! One correlation serves one session: Delta and both vectors are wiped, never stored, never used again.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::base_transfer::BASE_TRANSFERS;
use super::code::Code;
use super::extension::{self, WIDTH};
use super::hashes::Oracles;
use super::noise_terms::{BLOCK_WORDS, NoiseInitiator, NoiseResponder};
use super::params::{TREES, VoleShape};
use super::prg::Prg;
use super::trees::{Children, choice};
use crate::Error;
use crate::simd::Kernels;

/// Noise of one block on the initiator's side.
struct BlockNoise {
    /// The punctured place of each tree.
    holes: Zeroizing<Vec<usize>>,
    c: Zeroizing<[u128; TREES]>,
    a: Zeroizing<Vec<u128>>,
}

/// The initiator's side, once its corrections are made.
pub(crate) struct InitiatorCorrelation {
    shape: VoleShape,
    kernels: Kernels,
    code: Code,
    children: Children,
    blocks: Vec<BlockNoise>,
    /// Key of the chosen side of each transfer.
    keys: Zeroizing<Vec<u128>>,
}

/// Number of the first transfer of a tree.
const fn first_transfer(shape: &VoleShape, block: usize, tree: usize) -> usize {
    (block * TREES + tree) * shape.depth
}

/// Numbers as they are sent.
pub(crate) fn to_bytes(words: &[u128], out: &mut Vec<u8>) {
    out.reserve(16 * words.len());
    words
        .iter()
        .for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
}

/// Numbers as they came; an incomplete one at the end is left out.
pub(crate) fn from_bytes(bytes: &[u8]) -> impl ExactSizeIterator<Item = u128> {
    bytes
        .as_chunks::<16>()
        .0
        .iter()
        .map(|b| u128::from_le_bytes(*b))
}

impl InitiatorCorrelation {
    /// Draws the noise from `seed`; also returns the corrections to send, [`VoleShape::correction_bytes`] of them. `base` holds
    /// both keys of each base transfer.
    ///
    /// # Errors
    /// [`Error::Internal`] for another number of base transfers.
    pub(crate) fn new(
        kernels: Kernels,
        shape: VoleShape,
        oracles: &Oracles,
        seed: u128,
        base: &[[u128; 2]],
    ) -> Result<(Self, Vec<u8>), Error> {
        let (for_extension, for_noise) = halves(base)?;
        let mut prg = Prg::new(seed);
        let mut choices = Zeroizing::new(vec![0_u128; shape.transfers().div_ceil(WIDTH)]);
        let mut noise = NoiseInitiator::new(for_noise);
        let mut noise_words = Vec::with_capacity(shape.blocks * BLOCK_WORDS);
        let mut blocks = Vec::with_capacity(shape.blocks);
        for block in 0..shape.blocks {
            let mut c = Zeroizing::new([0; TREES]);
            let mut random = Zeroizing::new([0; TREES]);
            prg.fill(c.as_mut_slice());
            prg.fill(random.as_mut_slice());
            let mut holes = Zeroizing::new(Vec::with_capacity(TREES));
            for (tree, random) in random.iter().enumerate() {
                let hole = place(*random, shape.leaves);
                holes.push(hole);
                for level in 1..=shape.depth {
                    let at = first_transfer(&shape, block, tree) + level - 1;
                    if let Some(word) = choices.get_mut(at / WIDTH) {
                        *word |= u128::from(choice(&shape, hole, level)) << (at % WIDTH);
                    }
                }
            }
            let (words, a) = noise.block(kernels, &c);
            noise_words.extend_from_slice(&words);
            blocks.push(BlockNoise { holes, c, a });
        }
        let (sent, rows) = extension::receive(for_extension, &choices);
        let keys = (0..)
            .zip(rows.iter())
            .map(|(i, row)| oracles.transfer(i, *row));
        let keys = Zeroizing::new(keys.collect());
        let mut bytes = Vec::with_capacity(shape.correction_bytes());
        to_bytes(&sent, &mut bytes);
        to_bytes(&noise_words, &mut bytes);
        Ok((
            Self {
                shape,
                kernels,
                code: Code::new(shape.block_entries()),
                children: Children::new(),
                blocks,
                keys,
            },
            bytes,
        ))
    }

    /// Adds A to `masked` and returns C, of the same length, from the responder's sums.
    ///
    /// # Errors
    /// [`Error::Internal`] unless `masked` has the entries and `sums` the bytes of the shape.
    pub(crate) fn finish(
        &self,
        sums: &[u8],
        masked: &mut [u128],
    ) -> Result<Zeroizing<Vec<u128>>, Error> {
        let mut c = Zeroizing::new(vec![0; masked.len()]);
        let size = self.shape.block_entries();
        if sums.len() != self.shape.sum_bytes() || masked.len().div_ceil(size) != self.shape.blocks
        {
            return Err(Error::Internal {
                what: "correlation size",
            });
        }
        masked
            .par_chunks_mut(size)
            .zip(c.par_chunks_mut(size))
            .zip(sums.par_chunks(self.shape.sum_bytes() / self.shape.blocks))
            .enumerate()
            .for_each(|(block, ((masked, c), sums))| {
                let pairs = self.block(block, sums);
                for ((m, c), pair) in masked.iter_mut().zip(c).zip(pairs.iter()) {
                    *m ^= pair[0];
                    *c = pair[1];
                }
            });
        Ok(c)
    }

    /// A and C of a block, in pairs; the second half is what the code left of the noise.
    fn block(&self, block: usize, sums: &[u8]) -> Zeroizing<Vec<[u128; 2]>> {
        let shape = &self.shape;
        let noise = &self.blocks[block];
        let mut pairs = Zeroizing::new(vec![[0; 2]; shape.noise()]);
        let mut leaves = Zeroizing::new(vec![0; shape.leaves]);
        let width = 2 * shape.depth + 1;
        for (tree, (pairs, sums)) in pairs
            .chunks_mut(shape.leaves)
            .zip(sums.chunks(16 * width))
            .enumerate()
        {
            let hole = noise.holes[tree];
            let first = first_transfer(shape, block, tree);
            let sent = |at: usize| from_bytes(sums).nth(at).unwrap_or(0);
            let total = self.children.puncture(shape, hole, &mut leaves, |level| {
                let side = usize::from(choice(shape, hole, level));
                sent(2 * (level - 1) + side) ^ self.keys[first + level - 1]
            });
            leaves[hole] = sent(width - 1) ^ noise.a[tree] ^ total;
            for (pair, leaf) in pairs.iter_mut().zip(leaves.iter()) {
                pair[1] = *leaf;
            }
            pairs[hole][0] = noise.c[tree];
        }
        self.code.encode(self.kernels, &mut pairs);
        pairs
    }
}

/// The responder's side: Delta and B, and the sums that the initiator needs.
pub(crate) struct ResponderCorrelation {
    pub(crate) delta: Zeroizing<u128>,
    pub(crate) b: Zeroizing<Vec<u128>>,
}

/// What the responder chose and got in the base transfers.
pub(crate) struct ResponderBase<'a> {
    /// Its bits in the first 128: any.
    pub(crate) extension: u128,
    /// Its bits in the others: Delta.
    pub(crate) delta: u128,
    /// The keys.
    pub(crate) keys: &'a [u128],
}

impl ResponderCorrelation {
    /// `entries` entries from the initiator's corrections and fresh roots from `seed`; also returns the sums to send.
    ///
    /// # Errors
    /// [`Error::Internal`] for another number of base transfers or other sizes than the shape's.
    pub(crate) fn new(
        kernels: Kernels,
        shape: VoleShape,
        oracles: &Oracles,
        seed: u128,
        base: &ResponderBase<'_>,
        corrections: &[u8],
        entries: usize,
    ) -> Result<(Self, Vec<u8>), Error> {
        let (for_extension, for_noise) = halves(base.keys)?;
        let size = shape.block_entries();
        if corrections.len() != shape.correction_bytes() || entries.div_ceil(size) != shape.blocks {
            return Err(Error::Internal {
                what: "correlation size",
            });
        }
        let words: Vec<u128> = from_bytes(corrections).collect();
        let (columns, noise_words) = words.split_at(shape.transfers().next_multiple_of(WIDTH));
        let rows = extension::send(for_extension, base.extension, columns)?;
        let mut noise = NoiseResponder::new(for_noise, base.delta);
        let noise = noise_words
            .chunks(BLOCK_WORDS)
            .map(|words| noise.block(words))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut roots = Zeroizing::new(vec![0; shape.blocks * TREES]);
        Prg::new(seed).fill(&mut roots);
        let (code, children) = (Code::new(size), Children::new());
        let mut b = Zeroizing::new(vec![0; entries]);
        let sums: Vec<Vec<u8>> = b
            .par_chunks_mut(size)
            .enumerate()
            .map(|(block, b)| {
                let mut leaves = Zeroizing::new(vec![[0; 1]; shape.noise()]);
                let mut sums = Vec::with_capacity(shape.sum_bytes() / shape.blocks);
                for (tree, leaves) in leaves.chunks_mut(shape.leaves).enumerate() {
                    let leaves = leaves.as_flattened_mut();
                    let first = first_transfer(&shape, block, tree);
                    let mut total = 0;
                    children.expand(
                        &shape,
                        roots[block * TREES + tree],
                        leaves,
                        |level, sides| {
                            let at = first + level - 1;
                            let row = rows[at];
                            let keys =
                                [row, row ^ base.extension].map(|r| oracles.transfer(at as u64, r));
                            to_bytes(&[sides[0] ^ keys[0], sides[1] ^ keys[1]], &mut sums);
                            total = sides[0] ^ sides[1];
                        },
                    );
                    to_bytes(&[total ^ noise[block][tree]], &mut sums);
                }
                code.encode(kernels, &mut leaves);
                b.copy_from_slice(&leaves.as_flattened()[..b.len()]);
                sums
            })
            .collect();
        Ok((
            Self {
                delta: Zeroizing::new(base.delta),
                b,
            },
            sums.concat(),
        ))
    }
}

fn halves<T>(base: &[T]) -> Result<(&[T], &[T]), Error> {
    if base.len() == BASE_TRANSFERS {
        Ok(base.split_at(BASE_TRANSFERS / 2))
    } else {
        Err(Error::Internal {
            what: "base transfers",
        })
    }
}

/// A place below `of` from the low half of a random word; its bias is below 2^-48.
fn place(random: u128, of: usize) -> usize {
    let scaled = ((random & u128::from(u64::MAX)) * of as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sides = (Vec<u128>, Zeroizing<Vec<u128>>, ResponderCorrelation);

    /// A, C and the responder's side, for `entries` entries.
    fn run(entries: usize, seed: u128, kernels: Kernels) -> Sides {
        let shape = VoleShape::of(entries);
        let oracles = Oracles::new(&[3; 32], seed);
        let mut prg = Prg::new(seed);
        let pairs: Vec<[u128; 2]> = (0..BASE_TRANSFERS)
            .map(|_| [prg.next_block(), prg.next_block()])
            .collect();
        let (extension, delta) = (prg.next_block(), prg.next_block());
        let keys: Vec<u128> = pairs
            .iter()
            .enumerate()
            .map(|(i, k)| k[([extension, delta][i / 128] >> (i % 128) & 1) as usize])
            .collect();
        let (initiator, corrections) =
            InitiatorCorrelation::new(kernels, shape, &oracles, prg.next_block(), &pairs).unwrap();
        assert_eq!(corrections.len(), shape.correction_bytes());
        let base = ResponderBase {
            extension,
            delta,
            keys: &keys,
        };
        let (responder, sums) = ResponderCorrelation::new(
            kernels,
            shape,
            &oracles,
            prg.next_block(),
            &base,
            &corrections,
            entries,
        )
        .unwrap();
        assert_eq!(sums.len(), shape.sum_bytes());
        let mut a = vec![0; entries];
        let c = initiator.finish(&sums, &mut a).unwrap();
        assert!(initiator.finish(&sums[1..], &mut a).is_err());
        assert!(
            initiator
                .finish(&sums, &mut vec![0; 2 * entries + 512])
                .is_err()
        );
        (a, c, responder)
    }

    #[test]
    fn every_entry_of_c_is_b_plus_a_times_delta() {
        for (entries, kernels) in [1, 128, 257, 5_000, 78_772, 327_681]
            .into_iter()
            .flat_map(|n| Kernels::all().into_iter().map(move |k| (n, k)))
            .filter(|(n, k)| *n < 70_000 || *k == Kernels::detect())
        {
            let (a, c, responder) = run(entries, entries as u128, kernels);
            assert_ne!(*responder.delta, 0);
            let mut expected = responder.b.clone();
            kernels.add_products(&mut expected, *responder.delta, &a);
            assert!(*c == *expected, "{entries} entries");
            // What it looks like: no zero, no entry twice, bits balanced.
            let distinct: std::collections::HashSet<u128> = a
                .iter()
                .chain(c.iter())
                .chain(responder.b.iter())
                .copied()
                .collect();
            assert_eq!(distinct.len(), 3 * entries);
            assert!(!distinct.contains(&0));
            if entries >= 5_000 {
                for v in [&a, &*c, &*responder.b] {
                    for bit in [0, 1, 63, 64, 127] {
                        let ones = v.iter().filter(|x| **x >> bit & 1 == 1).count() as f64;
                        let half = entries as f64 / 2.0;
                        assert!(
                            (ones - half).abs() < 5.0 * (half / 2.0).sqrt(),
                            "bit {bit}: {ones}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn another_seed_gives_nothing_alike() {
        let k = Kernels::detect();
        let (one, two) = (run(1_000, 1, k), run(1_000, 2, k));
        assert_ne!(*one.2.delta, *two.2.delta);
        assert!(one.0.iter().all(|x| !two.0.contains(x)));
    }
}
