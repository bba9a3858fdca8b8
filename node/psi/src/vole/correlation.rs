//! The silent vector correlation over GF(2^128): the initiator gets pseudo-random A and C, the responder Delta and B, with
//! C = B + A * Delta entry by entry. Block after block, noise terms at punctured places are expanded by trees and compressed by the
//! code; what is sent grows with the number of blocks alone. For parties that follow the protocol, unless the shape is checked: then
//! the responder verifies the corrections before it sends sums, and the initiator the sums before it sends anything that needs
//! them ([`super::checks`]).
//!
//! One correlation serves one session: Delta and both vectors are wiped, never stored, never used again.

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::base_transfer::BASE_TRANSFERS;
use super::checks::{self, TreeCheck, TreeShare};
use super::code::Code;
use super::extension::{self, WIDTH};
use super::hashes::{Checked, Oracles};
use super::noise_terms::{NoiseInitiator, NoiseResponder, total};
use super::params::{TREES, VoleShape};
use super::prg::Prg;
use super::trees::{Children, choice};
use crate::Error;
use crate::simd::Kernels;

/// Noise of one block on the initiator's side.
struct BlockNoise {
    /// The punctured place of each tree.
    holes: Zeroizing<Vec<usize>>,
    /// For each tree, then the masks.
    c: Zeroizing<Vec<u128>>,
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
    /// Digest of the base transfers' and of the corrections.
    sent: [u8; 32],
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
    /// both keys of each base transfer, `before` their transcript.
    ///
    /// # Errors
    /// [`Error::Internal`] for another number of base transfers.
    pub(crate) fn new(
        kernels: Kernels,
        shape: VoleShape,
        oracles: &Oracles,
        seed: u128,
        base: &[[u128; 2]],
        before: &[u8; 32],
    ) -> Result<(Self, Vec<u8>), Error> {
        let (for_extension, for_noise) = halves(base)?;
        let mut prg = Prg::new(seed);
        let mut choices = Zeroizing::new(vec![0_u128; shape.choice_words()]);
        let mut noise = NoiseInitiator::new(for_noise);
        let mut noise_bytes = Vec::with_capacity(shape.blocks * shape.noise_bytes());
        let mut blocks = Vec::with_capacity(shape.blocks);
        for block in 0..shape.blocks {
            let mut c = Zeroizing::new(vec![0; shape.elements()]);
            let mut random = Zeroizing::new([0; TREES]);
            prg.fill(&mut c);
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
            let (words, columns) = noise.block(kernels, &c);
            let from = noise_bytes.len();
            to_bytes(&words, &mut noise_bytes);
            if shape.checked {
                let sent = noise_bytes.get(from..).unwrap_or_default();
                let challenge = oracles.check(Checked::Noise, block as u64, before, sent);
                let shown = checks::show_columns(kernels, &challenge, &c, &columns);
                to_bytes(&shown, &mut noise_bytes);
            }
            let a = total(&columns);
            blocks.push(BlockNoise { holes, c, a });
        }
        if shape.checked {
            let mut mask = [0; 1];
            prg.fill(&mut mask);
            if let Some(last) = choices.last_mut() {
                *last = mask[0];
            }
        }
        let (sent, columns) = extension::receive(for_extension, &choices);
        let rows = extension::rows(&columns);
        let keys = (0..)
            .zip(rows.iter())
            .map(|(i, row)| oracles.transfer(i, *row));
        let keys = Zeroizing::new(keys.collect());
        let mut bytes = Vec::with_capacity(shape.correction_bytes());
        to_bytes(&sent, &mut bytes);
        if shape.checked {
            let challenge = oracles.check(Checked::Extension, 0, before, &bytes);
            let shown = checks::show_columns(kernels, &challenge, &choices, &columns);
            to_bytes(&shown, &mut bytes);
        }
        bytes.extend_from_slice(&noise_bytes);
        Ok((
            Self {
                shape,
                kernels,
                code: Code::new(shape.block_entries()),
                children: Children::new(oracles.tree_keys),
                blocks,
                keys,
                sent: digest(before, &bytes),
            },
            bytes,
        ))
    }

    /// Adds A to `masked` and returns C, of the same length, from the responder's sums; also, where the shape is checked, this
    /// side of each block's check, which must pass before anything is sent that depends on C.
    ///
    /// # Errors
    /// [`Error::Internal`] unless `masked` has the entries and `sums` the bytes of the shape.
    pub(crate) fn finish(
        &self,
        oracles: &Oracles,
        sums: &[u8],
        masked: &mut [u128],
    ) -> Result<(Zeroizing<Vec<u128>>, Vec<TreeShare>), Error> {
        let mut c = Zeroizing::new(vec![0; masked.len()]);
        let size = self.shape.block_entries();
        if sums.len() != self.shape.sum_bytes() || masked.len().div_ceil(size) != self.shape.blocks
        {
            return Err(Error::Internal {
                what: "correlation size",
            });
        }
        let shares: Vec<Option<TreeShare>> = masked
            .par_chunks_mut(size)
            .zip(c.par_chunks_mut(size))
            .zip(sums.par_chunks(self.shape.sum_bytes() / self.shape.blocks))
            .enumerate()
            .map(|(block, ((masked, c), sums))| {
                let (pairs, share) = self.block(oracles, block, sums);
                for ((m, c), pair) in masked.iter_mut().zip(c).zip(pairs.iter()) {
                    *m ^= pair[0];
                    *c = pair[1];
                }
                share
            })
            .collect();
        Ok((c, shares.into_iter().flatten().collect()))
    }

    /// A and C of a block, in pairs; the second half is what the code left of the noise.
    fn block(
        &self,
        oracles: &Oracles,
        block: usize,
        sums: &[u8],
    ) -> (Zeroizing<Vec<[u128; 2]>>, Option<TreeShare>) {
        let shape = &self.shape;
        let noise = &self.blocks[block];
        let check = tree_check(self.kernels, shape, oracles, block, &self.sent, sums);
        let mut share = TreeShare {
            expected: noise.a.get(TREES).copied().unwrap_or(0),
            shown: noise.c.get(TREES).copied().unwrap_or(0),
        };
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
            if let Some(check) = &check {
                share.expected ^= check.leaves(tree, &leaves);
                share.shown ^= check.lone(tree, hole, noise.c[tree]);
            }
            for (pair, leaf) in pairs.iter_mut().zip(leaves.iter()) {
                pair[1] = *leaf;
            }
            pairs[hole][0] = noise.c[tree];
        }
        self.code.encode(self.kernels, &mut pairs);
        (pairs, check.map(|_| share))
    }
}

/// Of the base transfers' transcript and the corrections.
fn digest(before: &[u8; 32], corrections: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(before)
        .chain_update(corrections)
        .finalize()
        .into()
}

/// The challenge to a block's trees, where the shape is checked: over the corrections and the block's sums.
fn tree_check(
    kernels: Kernels,
    shape: &VoleShape,
    oracles: &Oracles,
    block: usize,
    corrections: &[u8; 32],
    sums: &[u8],
) -> Option<TreeCheck> {
    shape.checked.then(|| {
        let challenge = oracles.check(Checked::Trees, block as u64, corrections, sums);
        TreeCheck::new(kernels, &challenge, TREES, shape.leaves)
    })
}

/// The responder's side: Delta and B, and the sums that the initiator needs.
pub(crate) struct ResponderCorrelation {
    pub(crate) delta: Zeroizing<u128>,
    pub(crate) b: Zeroizing<Vec<u128>>,
    /// This side of each block's check; empty where the shape is not checked.
    pub(crate) shares: Zeroizing<Vec<u128>>,
}

/// What the responder chose and got in the base transfers.
pub(crate) struct ResponderBase<'a> {
    /// Its bits in the first 128: any.
    pub(crate) extension: u128,
    /// Its bits in the others: Delta.
    pub(crate) delta: u128,
    /// The keys.
    pub(crate) keys: &'a [u128],
    /// Their transcript.
    pub(crate) before: [u8; 32],
}

impl ResponderCorrelation {
    /// `entries` entries from the initiator's corrections and fresh roots from `seed`; also returns the sums to send.
    ///
    /// # Errors
    /// [`Error::Check`] for corrections that do not pass; [`Error::Internal`] for another number of base transfers or other sizes than the shape's.
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
        let sent = digest(&base.before, corrections);
        let (extension_bytes, noise_bytes) = corrections.split_at(shape.extension_bytes());
        let (columns, shown) = words_and_proof(&shape, extension_bytes);
        let columns = extension::send(for_extension, base.extension, &columns)?;
        if shape.checked {
            checks::verify_columns(
                kernels,
                &oracles.check(
                    Checked::Extension,
                    0,
                    &base.before,
                    sent_part(&shape, extension_bytes),
                ),
                &columns,
                base.extension,
                |_| ONE,
                ("transfers", &shown),
            )?;
        }
        let rows = extension::rows(&columns);
        let mut noise = NoiseResponder::new(for_noise, base.delta);
        let noise = (0..)
            .zip(noise_bytes.chunks(shape.noise_bytes()))
            .map(|(block, bytes)| {
                let (words, shown) = words_and_proof(&shape, bytes);
                let columns = noise.block(&words)?;
                if shape.checked {
                    checks::verify_columns(
                        kernels,
                        &oracles.check(
                            Checked::Noise,
                            block,
                            &base.before,
                            sent_part(&shape, bytes),
                        ),
                        &columns,
                        base.delta,
                        |j| 1 << j,
                        ("noise", &shown),
                    )?;
                }
                Ok(total(&columns))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let mut roots = Zeroizing::new(vec![0; shape.blocks * TREES]);
        Prg::new(seed).fill(&mut roots);
        let (code, children) = (Code::new(size), Children::new(oracles.tree_keys));
        let mut b = Zeroizing::new(vec![0; entries]);
        let (sums, shares): (Vec<Vec<u8>>, Vec<Option<u128>>) = b
            .par_chunks_mut(size)
            .enumerate()
            .map(|(block, b)| {
                let mut leaves = Zeroizing::new(vec![[0; 1]; shape.noise()]);
                let mut sums = Vec::with_capacity(shape.sum_bytes() / shape.blocks);
                for (tree, leaves) in leaves.chunks_mut(shape.leaves).enumerate() {
                    let leaves = leaves.as_flattened_mut();
                    let first = first_transfer(&shape, block, tree);
                    let total = children.expand(
                        &shape,
                        roots[block * TREES + tree],
                        leaves,
                        |level, sides| {
                            let at = first + level - 1;
                            let row = rows[at];
                            let keys =
                                [row, row ^ base.extension].map(|r| oracles.transfer(at as u64, r));
                            to_bytes(&[sides[0] ^ keys[0], sides[1] ^ keys[1]], &mut sums);
                        },
                    );
                    to_bytes(&[total ^ noise[block][tree]], &mut sums);
                }
                let share =
                    tree_check(kernels, &shape, oracles, block, &sent, &sums).map(|check| {
                        let trees = leaves.chunks(shape.leaves).enumerate();
                        trees.fold(noise[block][TREES], |sum, (tree, leaves)| {
                            sum ^ check.leaves(tree, leaves.as_flattened())
                        })
                    });
                code.encode(kernels, &mut leaves);
                b.copy_from_slice(&leaves.as_flattened()[..b.len()]);
                (sums, share)
            })
            .unzip();
        Ok((
            Self {
                delta: Zeroizing::new(base.delta),
                b,
                shares: Zeroizing::new(shares.into_iter().flatten().collect()),
            },
            sums.concat(),
        ))
    }
}

/// The field's 1.
const ONE: u128 = 0xC200_0000_0000_0000_0000_0000_0000_0001;

/// What a part of the corrections corrects, without what shows it to be right.
fn sent_part<'a>(shape: &VoleShape, part: &'a [u8]) -> &'a [u8] {
    part.get(..part.len() - 16 * shape.proof_words())
        .unwrap_or_default()
}

/// A part of the corrections in words, and the words that show it to be right.
fn words_and_proof(shape: &VoleShape, part: &[u8]) -> (Vec<u128>, Vec<u128>) {
    let mut words: Vec<u128> = from_bytes(part).collect();
    let shown = words.split_off(words.len() - shape.proof_words());
    (words, shown)
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

    /// Both sides before they begin.
    struct Both {
        kernels: Kernels,
        shape: VoleShape,
        entries: usize,
        oracles: Oracles,
        pairs: Vec<[u128; 2]>,
        extension: u128,
        delta: u128,
        keys: Vec<u128>,
        /// What the responder saw of the base transfers.
        before: [u8; 32],
        seeds: [u128; 2],
    }

    impl Both {
        fn new(entries: usize, checked: bool, seed: u128, kernels: Kernels) -> Self {
            let mut prg = Prg::new(seed);
            let pairs: Vec<[u128; 2]> = (0..BASE_TRANSFERS)
                .map(|_| [prg.next_block(), prg.next_block()])
                .collect();
            let (extension, delta) = (prg.next_block(), prg.next_block());
            let keys = pairs
                .iter()
                .enumerate()
                .map(|(i, k)| k[([extension, delta][i / 128] >> (i % 128) & 1) as usize])
                .collect();
            Self {
                kernels,
                shape: VoleShape::of(entries, checked),
                entries,
                oracles: Oracles::new(&[3; 32], seed),
                pairs,
                extension,
                delta,
                keys,
                before: [4; 32],
                seeds: [prg.next_block(), prg.next_block()],
            }
        }

        fn corrections(&self) -> (InitiatorCorrelation, Vec<u8>) {
            let (initiator, corrections) = InitiatorCorrelation::new(
                self.kernels,
                self.shape,
                &self.oracles,
                self.seeds[0],
                &self.pairs,
                &[4; 32],
            )
            .unwrap();
            assert_eq!(corrections.len(), self.shape.correction_bytes());
            (initiator, corrections)
        }

        fn sums(&self, corrections: &[u8]) -> Result<(ResponderCorrelation, Vec<u8>), Error> {
            ResponderCorrelation::new(
                self.kernels,
                self.shape,
                &self.oracles,
                self.seeds[1],
                &ResponderBase {
                    extension: self.extension,
                    delta: self.delta,
                    keys: &self.keys,
                    before: self.before,
                },
                corrections,
                self.entries,
            )
        }

        /// Whether the responder's answer to what the initiator shows is the one expected.
        fn answered(&self, shares: &[TreeShare], responder: &ResponderCorrelation) -> bool {
            assert_eq!(
                shares.len(),
                if self.shape.checked {
                    self.shape.blocks
                } else {
                    0
                }
            );
            let shown = shares.iter().map(|s| s.shown);
            let answers = checks::answers(self.kernels, &responder.shares, shown, self.delta);
            let expected: Vec<u128> = shares.iter().map(|s| s.expected).collect();
            *answers == expected
        }
    }

    /// A, C and the responder's side, for `entries` entries.
    fn run(entries: usize, checked: bool, seed: u128, kernels: Kernels) -> Sides {
        let both = Both::new(entries, checked, seed, kernels);
        let (initiator, corrections) = both.corrections();
        let (responder, sums) = both.sums(&corrections).unwrap();
        assert_eq!(sums.len(), both.shape.sum_bytes());
        let mut a = vec![0; entries];
        let (c, shares) = initiator.finish(&both.oracles, &sums, &mut a).unwrap();
        assert!(both.answered(&shares, &responder));
        assert!(initiator.finish(&both.oracles, &sums[1..], &mut a).is_err());
        let mut long = vec![0; 2 * entries + 512];
        assert!(initiator.finish(&both.oracles, &sums, &mut long).is_err());
        (a, c, responder)
    }

    /// A changed bit anywhere in the corrections is noticed by the responder, before it sends a byte.
    #[test]
    fn wrong_corrections_are_refused() {
        let both = Both::new(3_000, true, 5, Kernels::detect());
        let (_, corrections) = both.corrections();
        let (extension, noise) = (both.shape.extension_bytes(), both.shape.noise_bytes());
        assert_eq!(corrections.len(), extension + noise);
        // A correction, the mask's, a shown word; the same of the noise.
        for (at, what) in [
            (0, "transfers"),
            (extension / 2, "transfers"),
            (extension - 129 * 16 - 1, "transfers"),
            (extension - 129 * 16, "transfers"),
            (extension - 1, "transfers"),
            (extension, "noise"),
            (extension + noise / 2, "noise"),
            (extension + noise - 1, "noise"),
        ] {
            let mut wrong = corrections.clone();
            wrong[at] ^= 0x10;
            let got = both.sums(&wrong).map(|_| ());
            assert_eq!(got, Err(Error::Check { what }), "byte {at}");
        }
        // Without checks nobody would know: what is then sent is a key short of being anybody's.
        let open = Both::new(3_000, false, 5, Kernels::detect());
        let (_, mut corrections) = open.corrections();
        corrections[0] ^= 0x10;
        assert!(open.sums(&corrections).is_ok());
    }

    /// Challenges name the base transfers: what was made for others' is refused though it fits the keys.
    #[test]
    fn corrections_for_other_base_transfers_are_refused() {
        let mut both = Both::new(3_000, true, 8, Kernels::detect());
        let (initiator, corrections) = both.corrections();
        let (_, sums) = both.sums(&corrections).unwrap();
        both.before[31] ^= 1;
        let got = both.sums(&corrections).map(|_| ());
        assert_eq!(got, Err(Error::Check { what: "transfers" }));
        // The responder's own challenges, too.
        let challenge = |before| {
            let sent = digest(before, &corrections);
            both.oracles.check(Checked::Trees, 0, &sent, &sums)
        };
        assert_eq!(digest(&[4; 32], &corrections), initiator.sent);
        assert_ne!(challenge(&both.before), challenge(&[4; 32]));
    }

    /// A responder that alters a sum passes only if no path of the initiator's needed it: it guesses one side of a fork. Sums that are
    /// wrong for every tree are always noticed.
    #[test]
    fn wrong_sums_are_a_guess_of_the_initiator_s_path() {
        let both = Both::new(3_000, true, 6, Kernels::detect());
        let (initiator, corrections) = both.corrections();
        let (responder, sums) = both.sums(&corrections).unwrap();
        let width = 2 * both.shape.depth + 1;
        let passes = |sums: &[u8]| {
            // It takes its challenge from what it sends, as one that deviates would.
            let check = tree_check(
                both.kernels,
                &both.shape,
                &both.oracles,
                0,
                &digest(&both.before, &corrections),
                sums,
            )
            .unwrap();
            let mut all = Zeroizing::new(vec![0; both.shape.noise()]);
            let mut roots = vec![0; TREES];
            Prg::new(both.seeds[1]).fill(&mut roots);
            let mut share = 0;
            for (tree, leaves) in all.chunks_mut(both.shape.leaves).enumerate() {
                Children::new(both.oracles.tree_keys).expand(
                    &both.shape,
                    roots[tree],
                    leaves,
                    |_, _| (),
                );
                share ^= check.leaves(tree, leaves);
            }
            let honest = tree_check(
                both.kernels,
                &both.shape,
                &both.oracles,
                0,
                &initiator.sent,
                &both.sums(&corrections).unwrap().1,
            )
            .unwrap();
            let mut honest_share = 0;
            for (tree, leaves) in all.chunks(both.shape.leaves).enumerate() {
                honest_share ^= honest.leaves(tree, leaves);
            }
            // Its own mask it knows: from the share that it had.
            let mask = responder.shares[0] ^ honest_share;
            let mut a = vec![0; both.entries];
            let (_, shares) = initiator.finish(&both.oracles, sums, &mut a).unwrap();
            let shown = shares.iter().map(|s| s.shown);
            let answers = checks::answers(both.kernels, &[share ^ mask], shown, both.delta);
            answers[0] == shares[0].expected
        };
        assert!(passes(&sums));
        let mut outcomes = [0; 2];
        for tree in 0..16 {
            for level in [1, both.shape.depth] {
                let hole = initiator.blocks[0].holes[tree];
                for side in 0..2 {
                    let mut wrong = sums.clone();
                    wrong[16 * (tree * width + 2 * (level - 1) + side)] ^= 1;
                    let needed = usize::from(choice(&both.shape, hole, level)) == side;
                    let passed = passes(&wrong);
                    assert_eq!(passed, !needed, "tree {tree}, level {level}, side {side}");
                    outcomes[usize::from(passed)] += 1;
                }
            }
            // What is sent for the hole itself, too.
            let mut wrong = sums.clone();
            wrong[16 * (tree * width + width - 1)] ^= 1;
            assert!(!passes(&wrong));
        }
        assert_eq!(outcomes, [32, 32]);
        let mut wrong = sums.clone();
        for tree in 0..TREES {
            wrong[16 * tree * width] ^= 1;
        }
        assert!(!passes(&wrong));
    }

    /// An answer that is right for another Delta, another share or another shown value is none.
    #[test]
    fn wrong_answers_are_noticed() {
        let both = Both::new(700, true, 7, Kernels::detect());
        let (initiator, corrections) = both.corrections();
        let (mut responder, sums) = both.sums(&corrections).unwrap();
        let (_, shares) = initiator
            .finish(&both.oracles, &sums, &mut vec![0; 700])
            .unwrap();
        assert!(both.answered(&shares, &responder));
        responder.shares[0] ^= 1;
        assert!(!both.answered(&shares, &responder));
        responder.shares[0] ^= 1;
        let other = Both {
            delta: both.delta ^ 1,
            ..Both::new(700, true, 7, Kernels::detect())
        };
        assert!(!other.answered(&shares, &responder));
        let mut shown = shares;
        shown[0].shown ^= 1;
        assert!(!both.answered(&shown, &responder));
    }

    #[test]
    fn every_entry_of_c_is_b_plus_a_times_delta() {
        for (entries, checked, kernels) in [1, 128, 257, 5_000, 78_772, 327_681]
            .into_iter()
            .flat_map(|n| Kernels::all().into_iter().map(move |k| (n, k)))
            .filter(|(n, k)| *n < 70_000 || *k == Kernels::detect())
            .flat_map(|(n, k)| [(n, false, k), (n, true, k)])
        {
            let (a, c, responder) = run(entries, checked, entries as u128, kernels);
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
        let (one, two) = (run(1_000, false, 1, k), run(1_000, false, 2, k));
        assert_ne!(*one.2.delta, *two.2.delta);
        assert!(one.0.iter().all(|x| !two.0.contains(x)));
    }
}
