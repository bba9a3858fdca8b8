//! The order of leaves in a tree of a batch: a keyed permutation of `0..count`, so that a leaf's place says nothing of when its unit
//! was made. The two trees of a batch have orders of their own, so that places in one say nothing of places in the other.
//!
//! A generalised Feistel network of ten rounds (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002, section 5):
//! numbers below `a * b`, `a` the square root of `count` rounded up and `b` the quotient of `count` by `a` rounded up, are
//! pairs `(l, r)` with `l * b + r`; rounds with an even number add to `l`, the others to `r`, what AES makes of the other half.
//! It is walked until the result is below `count`, which is nearly always so at once. It hides an order, and nothing rests on
//! it but that: a batch may be far smaller than what FF1 is made for.

use aes::Block;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::keys::SecretKey;
use crate::prf::{GROUP, Prf, high};

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
    /// `l` is below it.
    a: u64,
    /// `r` is below it.
    b: u64,
}

/// What [`LeafOrder::offsets`] works in. Secret: wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Pairs {
    l: [u64; GROUP],
    r: [u64; GROUP],
}

impl Pairs {
    pub(crate) const fn new() -> Self {
        Self {
            l: [0; GROUP],
            r: [0; GROUP],
        }
    }
}

impl LeafOrder {
    /// `count` is 1 to 2^32.
    pub(crate) fn new(key: &SecretKey, tree: Tree, count: u64) -> Self {
        let root = count.isqrt();
        let a = (root + u64::from(root * root < count)).max(1);
        Self {
            prf: Prf::new(key),
            label: (tree as u64) << 32,
            count,
            a,
            b: count.div_ceil(a),
        }
    }

    /// What a round adds: the first 64 bits of AES of tree (u32) || round (u32) || half (u64), scaled to `0..modulus`.
    fn addend(&self, round: u64, half: u64, modulus: u64) -> u64 {
        scale(low(self.prf.of(self.label | round, half) >> 64), modulus)
    }

    /// One walk forward.
    fn forward(&self, x: u64) -> u64 {
        let (mut l, mut r) = (x / self.b, x % self.b);
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                l = add(l, self.addend(round, r, self.a), self.a);
            } else {
                r = add(r, self.addend(round, l, self.b), self.b);
            }
        }
        l * self.b + r
    }

    /// One walk backward.
    fn backward(&self, x: u64) -> u64 {
        let (mut l, mut r) = (x / self.b, x % self.b);
        for round in (0..ROUNDS).rev() {
            if round % 2 == 0 {
                l = subtract(l, self.addend(round, r, self.a), self.a);
            } else {
                r = subtract(r, self.addend(round, l, self.b), self.b);
            }
        }
        l * self.b + r
    }

    /// The leaf of the unit at `offset` within the batch, which is below `count`.
    pub(crate) fn leaf(&self, offset: u64) -> u64 {
        let mut x = self.forward(offset);
        while x >= self.count {
            x = self.forward(x);
        }
        x
    }

    /// The offset of the unit at `leaf`, which is below `count`.
    fn offset(&self, leaf: u64) -> u64 {
        let mut x = self.backward(leaf);
        while x >= self.count {
            x = self.backward(x);
        }
        x
    }

    /// [`Self::offset`] of each leaf, in place.
    pub(crate) fn offsets(
        &self,
        leaves: &mut [u64; GROUP],
        pairs: &mut Pairs,
        blocks: &mut [Block; GROUP],
    ) {
        let Pairs { l, r } = pairs;
        for (x, (l, r)) in leaves.iter().zip(l.iter_mut().zip(r.iter_mut())) {
            (*l, *r) = (x / self.b, x % self.b);
        }
        for round in (0..ROUNDS).rev() {
            let (to, from, modulus) = if round % 2 == 0 {
                (&mut *l, &*r, self.a)
            } else {
                (&mut *r, &*l, self.b)
            };
            self.prf.group(self.label | round, from, blocks);
            for (to, block) in to.iter_mut().zip(blocks.iter()) {
                *to = subtract(*to, scale(high(block), modulus), modulus);
            }
        }
        for (x, (l, r)) in leaves.iter_mut().zip(l.iter().zip(r.iter())) {
            *x = l.wrapping_mul(self.b).wrapping_add(*r);
            if *x >= self.count {
                *x = self.offset(*x);
            }
        }
    }
}

/// `x * modulus / 2^64`: below `modulus`.
fn scale(x: u64, modulus: u64) -> u64 {
    low(u128::from(x).wrapping_mul(u128::from(modulus)) >> 64)
}

/// Both are below `modulus`, which is below 2^33.
const fn add(x: u64, y: u64, modulus: u64) -> u64 {
    let sum = x.wrapping_add(y);
    if sum >= modulus { sum - modulus } else { sum }
}

/// Both are below `modulus`.
const fn subtract(x: u64, y: u64, modulus: u64) -> u64 {
    let less = x.wrapping_sub(y);
    if x >= y {
        less
    } else {
        less.wrapping_add(modulus)
    }
}

/// The low 64 bits.
#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low(x: u128) -> u64 {
    x as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All offsets in the order of leaves, by the quick way, which is held against the simple one.
    fn offsets(order: &LeafOrder) -> Vec<u64> {
        let mut all = Vec::new();
        for start in (0..order.count).step_by(GROUP) {
            let mut group = std::array::from_fn(|i| (start + i as u64).min(order.count - 1));
            let leaves = group;
            order.offsets(
                &mut group,
                &mut Pairs::new(),
                &mut [Block::default(); GROUP],
            );
            assert_eq!(group, leaves.map(|leaf| order.offset(leaf)));
            all.extend(group);
        }
        all.truncate(usize::try_from(order.count).unwrap());
        all
    }

    #[test]
    fn every_size_is_permuted_and_reversed() {
        let key = SecretKey::from_bytes([3; 32]);
        for count in (1..70).chain([255, 256, 257, 1000, 4095, 4096, 4097, 4099]) {
            let order = LeafOrder::new(&key, Tree::Unit, count);
            let mut leaves = offsets(&order);
            for (leaf, offset) in leaves.iter().enumerate() {
                assert_eq!(order.leaf(*offset), leaf as u64);
            }
            leaves.sort_unstable();
            assert!(leaves.into_iter().eq(0..count), "{count}");
        }
    }

    #[test]
    fn the_largest_batches_fit() {
        for count in [1 << 32, (1 << 32) - 1, (1 << 32) - 65_535] {
            let order = LeafOrder::new(&SecretKey::from_bytes([3; 32]), Tree::Unit, count);
            assert!(order.a * order.b >= count && order.a * order.b < count + order.a);
            for x in [0, count / 2, count - 1] {
                assert_eq!(order.leaf(order.offset(x)), x);
            }
        }
    }

    #[test]
    fn orders_differ_by_tree_and_key() {
        let of = |key, tree| {
            offsets(&LeafOrder::new(
                &SecretKey::from_bytes([key; 32]),
                tree,
                1000,
            ))
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
