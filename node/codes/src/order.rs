//! The order of leaves in a tree of a batch: a keyed permutation of `0..count`, so that a leaf's place says nothing of when its unit
//! was made. The two trees of a batch have orders of their own, so that places in one say nothing of places in the other.
//!
//! A Feistel network with ten rounds over the smallest power of two that holds `count`, walked until the result is below `count`.
//! It hides an order, and nothing rests on it but that: a batch may be far smaller than what FF1 is made for.

use crate::ff1::LANES;
use crate::keys::SecretKey;
use crate::prf::Prf;

const ROUNDS: u64 = 10;

/// Which tree.
#[derive(Clone, Copy)]
pub(crate) enum Tree {
    Unit = 1,
    Redemption = 2,
}

pub(crate) struct LeafOrder {
    prf: Prf,
    label: u64,
    count: u64,
    /// Bits of the left half.
    left: u32,
    /// Bits of the right half: as many, or one more.
    right: u32,
}

impl LeafOrder {
    /// `count` is 1 to 2^32.
    pub(crate) fn new(key: &SecretKey, tree: Tree, count: u64) -> Self {
        let bits = (u64::BITS - count.saturating_sub(1).leading_zeros()).max(2);
        Self {
            prf: Prf::new(key),
            label: (tree as u64) << 32 | u64::from(bits) << 16,
            count,
            left: bits / 2,
            right: bits - bits / 2,
        }
    }

    const fn width(&self, round: u64) -> u32 {
        if round.is_multiple_of(2) {
            self.left
        } else {
            self.right
        }
    }

    fn forward(&self, x: &[u64; LANES]) -> [u64; LANES] {
        let mut a = x.map(|x| x >> self.right);
        let mut b = x.map(|x| x & mask(self.right));
        for round in 0..ROUNDS {
            let y = self.prf.lanes(self.label | round, &b);
            let m = mask(self.width(round));
            for (a, y) in a.iter_mut().zip(y) {
                *a = a.wrapping_add(low(y)) & m;
            }
            (a, b) = (b, a);
        }
        std::array::from_fn(|i| a[i] << self.right | b[i])
    }

    fn backward(&self, x: &[u64; LANES]) -> [u64; LANES] {
        let mut a = x.map(|x| x >> self.right);
        let mut b = x.map(|x| x & mask(self.right));
        for round in (0..ROUNDS).rev() {
            let y = self.prf.lanes(self.label | round, &a);
            let m = mask(self.width(round));
            for (b, y) in b.iter_mut().zip(y) {
                *b = b.wrapping_sub(low(y)) & m;
            }
            (a, b) = (b, a);
        }
        std::array::from_fn(|i| a[i] << self.right | b[i])
    }

    /// The leaf of the unit at `offset` within the batch, which is below `count`.
    pub(crate) fn leaf(&self, offset: u64) -> u64 {
        let mut x = offset;
        loop {
            x = self.forward(&[x; LANES])[0];
            if x < self.count {
                return x;
            }
        }
    }

    /// The offsets of the units at these leaves, in place; each is below `count`.
    pub(crate) fn offsets(&self, leaves: &mut [u64]) {
        let mut pending: Vec<usize> = (0..leaves.len()).collect();
        while !pending.is_empty() {
            for group in pending.chunks(LANES) {
                let mut lanes = [0; LANES];
                for (lane, at) in lanes.iter_mut().zip(group) {
                    *lane = leaves.get(*at).copied().unwrap_or_default();
                }
                for (x, at) in self.backward(&lanes).into_iter().zip(group) {
                    if let Some(leaf) = leaves.get_mut(*at) {
                        *leaf = x;
                    }
                }
            }
            pending.retain(|at| leaves.get(*at).is_some_and(|x| *x >= self.count));
        }
    }
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// The low 64 bits.
#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low(x: u128) -> u64 {
    x as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_permuted_and_reversed() {
        let key = SecretKey::from_bytes([3; 32]);
        for count in (1..70).chain([255, 256, 257, 1000, 4097]) {
            let order = LeafOrder::new(&key, Tree::Unit, count);
            let mut leaves: Vec<u64> = (0..count).collect();
            order.offsets(&mut leaves);
            for (leaf, offset) in leaves.iter().enumerate() {
                assert_eq!(order.leaf(*offset), leaf as u64);
            }
            leaves.sort_unstable();
            assert!(leaves.into_iter().eq(0..count));
        }
    }

    #[test]
    fn the_largest_batch_fits() {
        let order = LeafOrder::new(&SecretKey::from_bytes([3; 32]), Tree::Unit, 1 << 32);
        let mut x = [0, (1 << 32) - 1];
        order.offsets(&mut x);
        assert_eq!(x.map(|x| order.leaf(x)), [0, (1 << 32) - 1]);
    }

    #[test]
    fn orders_differ_by_tree_and_key() {
        let of = |key, tree| {
            let mut leaves: Vec<u64> = (0..1000).collect();
            LeafOrder::new(&SecretKey::from_bytes([key; 32]), tree, 1000).offsets(&mut leaves);
            leaves
        };
        let plain: Vec<u64> = (0..1000).collect();
        let all = [
            plain,
            of(1, Tree::Unit),
            of(1, Tree::Redemption),
            of(2, Tree::Unit),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in all.iter().skip(i + 1) {
                let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
                assert!(same < 12, "{same} leaves of 1000 at one place, 1 expected");
            }
        }
    }
}
