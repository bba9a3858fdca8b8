//! By what either side of `vole-rr22-malicious-v1` shows that it followed the protocol while the correlation was made. Each check is a
//! random linear combination, its coefficients drawn by a hash of what was sent before, from the base transfers on (Fiat and Shamir),
//! so that it takes no message to ask for it; a mask that serves nothing else hides what the combination would tell.
//!
//! Columns: transfers and noise alike, the initiator sends 128 vectors that must hide one and the same vector. It shows the
//! combination of that vector and of each of its columns; the responder compares, column by column. This is the check of Roy,
//! "SoftSpokenOT: quieter OT extension from small-field silent VOLE in the Minicrypt model" (CRYPTO 2022), for the repetition
//! code: unlike that of Keller, Orsini and Scholl (CRYPTO 2015) it never mixes columns, and its proof stands. An initiator that
//! alters some columns passes only if it guesses the responder's bits there: k bits with odds of 2^-k.
//!
//! Trees: the responder may send sums that are right for some paths alone. Leaves, noise and masks obey one linear equation under
//! Delta; the initiator shows where it stands, hidden by the mask, and the responder must answer with a hash of the other side (Weng,
//! Yang, Katz and Wang, "Wolverine", S&P 2021; Yang, Weng, Lan, Zhang and Wang, "Ferret", CCS 2020). A responder that alters sums passes only
//! if it guesses on which side the paths go.

use zeroize::Zeroizing;

use super::params::PROOF_WORDS;
use super::prg::Prg;
use crate::Error;
use crate::simd::Kernels;

/// `n` coefficients from the head of a challenge.
pub(crate) fn coefficients(challenge: &[u8; 32], n: usize) -> Vec<u128> {
    let seed = challenge
        .first_chunk::<16>()
        .map_or(0, |head| u128::from_le_bytes(*head));
    let mut out = vec![0; n];
    Prg::new(seed).fill(&mut out);
    out
}

/// The combination of a vector whose last element is the mask: that is taken as it is.
fn combine(kernels: Kernels, challenge: &[u128], vector: &[u128]) -> u128 {
    vector.last().map_or(0, |mask| {
        mask ^ kernels.inner_product(challenge, &vector[..vector.len() - 1])
    })
}

/// The initiator's words: the combination of `vector`, then of each of its 128 columns.
pub(crate) fn show_columns(
    kernels: Kernels,
    challenge: &[u8; 32],
    vector: &[u128],
    columns: &[u128],
) -> Vec<u128> {
    let challenge = coefficients(challenge, vector.len().saturating_sub(1));
    let mut words = Vec::with_capacity(PROOF_WORDS);
    words.push(combine(kernels, &challenge, vector));
    let columns = columns.chunks(vector.len().max(1));
    words.extend(columns.map(|column| combine(kernels, &challenge, column)));
    words
}

/// The responder's comparison: its own column j is the initiator's, plus the vector times `factors(j)` where bit j of `bits` is set.
/// Constant time in `bits` and columns.
///
/// # Errors
/// [`Error::Check`] unless all columns hide one vector; [`Error::Internal`] for other sizes.
pub(crate) fn verify_columns(
    kernels: Kernels,
    challenge: &[u8; 32],
    columns: &[u128],
    bits: u128,
    factor: impl Fn(usize) -> u128,
    (what, shown): (&'static str, &[u128]),
) -> Result<(), Error> {
    let size = columns.len() / (PROOF_WORDS - 1);
    let (Some((vector, shown)), 1..) = (shown.split_first(), size) else {
        return Err(Error::Internal {
            what: "check words",
        });
    };
    if shown.len() != PROOF_WORDS - 1 || columns.len() != size * shown.len() {
        return Err(Error::Internal {
            what: "check words",
        });
    }
    let challenge = coefficients(challenge, size - 1);
    let mut wrong = 0;
    for ((j, column), shown) in columns.chunks(size).enumerate().zip(shown) {
        let mask = (bits >> j & 1).wrapping_neg();
        let part = kernels.dot(*vector, factor(j)) & mask;
        wrong |= combine(kernels, &challenge, column) ^ shown ^ part;
    }
    if wrong == 0 {
        Ok(())
    } else {
        Err(Error::Check { what })
    }
}

/// A block's trees under their challenge: the coefficient of a leaf is that of its tree times that of its place.
pub(crate) struct TreeCheck {
    kernels: Kernels,
    trees: Vec<u128>,
    leaves: Vec<u128>,
}

impl TreeCheck {
    pub(crate) fn new(kernels: Kernels, challenge: &[u8; 32], trees: usize, leaves: usize) -> Self {
        let mut trees = coefficients(challenge, trees + leaves);
        let leaves = trees.split_off(trees.len() - leaves);
        Self {
            kernels,
            trees,
            leaves,
        }
    }

    /// The combination of a tree's leaves.
    pub(crate) fn leaves(&self, tree: usize, leaves: &[u128]) -> u128 {
        let sum = self.kernels.inner_product(&self.leaves, leaves);
        self.kernels
            .dot(self.trees.get(tree).copied().unwrap_or(0), sum)
    }

    /// That of a tree with `value` at `place` and zeros elsewhere.
    pub(crate) fn lone(&self, tree: usize, place: usize, value: u128) -> u128 {
        let at = |from: &[u128], i: usize| from.get(i).copied().unwrap_or(0);
        let value = self.kernels.dot(at(&self.leaves, place), value);
        self.kernels.dot(at(&self.trees, tree), value)
    }
}

/// One block's side of the tree check on the initiator's side.
#[derive(Clone, Copy)]
pub(crate) struct TreeShare {
    /// What the responder must know: secret until it has said so.
    pub(crate) expected: u128,
    /// What it is told.
    pub(crate) shown: u128,
}

/// The responder's values that its answer hashes, from what the initiator showed.
pub(crate) fn answers(
    kernels: Kernels,
    own: &[u128],
    shown: impl Iterator<Item = u128>,
    delta: u128,
) -> Zeroizing<Vec<u128>> {
    let values = own
        .iter()
        .zip(shown)
        .map(|(own, shown)| own ^ kernels.dot(shown, delta));
    Zeroizing::new(values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field's 1.
    const ONE: u128 = 0xC200_0000_0000_0000_0000_0000_0000_0001;

    fn random(seed: u128, n: usize) -> Vec<u128> {
        let mut out = vec![0; n];
        Prg::new(seed).fill(&mut out);
        out
    }

    /// Columns of both sides for one vector, where `change` may alter what the initiator hides in a column.
    fn sides(
        size: usize,
        bits: u128,
        factor: impl Fn(usize) -> u128,
        change: impl Fn(usize, &mut [u128]),
    ) -> (Vec<u128>, Vec<u128>, Vec<u128>) {
        let k = Kernels::detect();
        let vector = random(1, size);
        let theirs = random(2, 128 * size);
        let mut ours = theirs.clone();
        for (j, column) in ours.chunks_mut(size).enumerate() {
            let mut hidden = vector.clone();
            change(j, &mut hidden);
            if bits >> j & 1 == 1 {
                k.add_products(column, factor(j), &hidden);
            }
        }
        (vector, theirs, ours)
    }

    #[test]
    fn columns_of_one_vector_pass_and_any_altered_word_does_not() {
        for (size, kernels) in [1, 2, 7, 97, 258]
            .into_iter()
            .flat_map(|n| Kernels::all().into_iter().map(move |k| (n, k)))
        {
            let bits = random(3, 1)[0];
            let factor = |j: usize| ONE ^ (1 << j);
            let (vector, theirs, ours) = sides(size, bits, factor, |_, _| ());
            let challenge = [9; 32];
            let shown = show_columns(kernels, &challenge, &vector, &theirs);
            assert_eq!(shown.len(), PROOF_WORDS);
            let verify = |shown: &[u128], ours: &[u128], bits| {
                verify_columns(kernels, &challenge, ours, bits, factor, ("columns", shown))
            };
            let failed = Err(Error::Check { what: "columns" });
            assert_eq!(verify(&shown, &ours, bits), Ok(()));
            assert_eq!(verify(&shown, &ours, bits ^ 4), failed);
            for word in [0, 1, 64, 128] {
                let mut shown = shown.clone();
                shown[word] ^= 1 << 127;
                assert_eq!(verify(&shown, &ours, bits), failed);
            }
            for at in [0, size - 1, 128 * size - 1] {
                let mut ours = ours.clone();
                ours[at] ^= 1;
                assert_eq!(verify(&shown, &ours, bits), failed);
            }
            assert!(matches!(
                verify(&shown[1..], &ours, bits),
                Err(Error::Internal { .. })
            ));
        }
    }

    /// A deviating initiator that hides another vector in one column passes where the responder's bit there is 0, and else not: it
    /// learns that bit, with odds of one half to be caught. One that alters k columns is caught with odds of 1 - 2^-k.
    #[test]
    fn altering_a_column_is_a_guess_of_one_bit() {
        let k = Kernels::detect();
        for bits in [0, u128::MAX, random(8, 1)[0]] {
            for column in [0, 5, 127] {
                let (vector, theirs, ours) = sides(
                    9,
                    bits,
                    |_| ONE,
                    |j, hidden| {
                        if j == column {
                            hidden[3] ^= 1;
                        }
                    },
                );
                let shown = show_columns(k, &[1; 32], &vector, &theirs);
                let got = verify_columns(k, &[1; 32], &ours, bits, |_| ONE, ("columns", &shown));
                assert_eq!(got.is_ok(), bits >> column & 1 == 0);
                // Showing the altered column's combination instead turns the guess round.
                let (altered, _, _) = sides(9, 0, |_| ONE, |_, _| ());
                let mut altered = altered;
                altered[3] ^= 1;
                let other = show_columns(k, &[1; 32], &altered, &theirs)[0] ^ shown[0];
                let mut turned = shown;
                turned[1 + column] ^= other;
                let got = verify_columns(k, &[1; 32], &ours, bits, |_| ONE, ("columns", &turned));
                assert_eq!(got.is_ok(), bits >> column & 1 == 1);
            }
        }
        // Every column its own vector: the combination cancels nothing.
        let (vector, theirs, ours) =
            sides(9, u128::MAX, |_| ONE, |j, hidden| hidden[j % 8] ^= 1 << j);
        let shown = show_columns(k, &[1; 32], &vector, &theirs);
        assert!(
            verify_columns(k, &[1; 32], &ours, u128::MAX, |_| ONE, ("columns", &shown)).is_err()
        );
    }

    #[test]
    fn a_tree_s_combination_is_linear_and_sees_every_leaf() {
        for k in Kernels::all() {
            let check = TreeCheck::new(k, &[4; 32], 3, 10);
            let leaves = random(5, 10);
            let mut sum = 0;
            for (place, leaf) in leaves.iter().enumerate() {
                let lone = check.lone(2, place, *leaf);
                assert_ne!(lone, 0);
                sum ^= lone;
            }
            assert_eq!(check.leaves(2, &leaves), sum);
            assert_ne!(check.leaves(1, &leaves), sum);
        }
    }
}
