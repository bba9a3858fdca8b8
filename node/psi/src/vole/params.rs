//! The parameter sets of both suites and the sizes that follow from them and the initiator's count. Both sides derive the same;
//! nothing here depends on any item.

use crate::Error;
use crate::context::Suite;
use crate::simd::BAND_COLUMNS;

/// Number of `vole-rr22-v1`'s parameter set in the opening message. Another code, tree count or width is another set.
/// Sets 1 and 2 are of builds whose trees had the same keys in every run, and whose challenges did not name the base transfers.
pub const PARAMETER_SET: u16 = 3;
/// Number of that of `vole-rr22-malicious-v1`: the same code, tree count, store and hash, with closed trees and checks.
pub const CHECKED_PARAMETER_SET: u16 = 4;
/// That of a suite.
pub(crate) const fn parameter_set(suite: Suite) -> u16 {
    if suite.is_checked() {
        CHECKED_PARAMETER_SET
    } else {
        PARAMETER_SET
    }
}

/// Most elements of one side under these suites: everything is kept in memory.
pub const MAX_VOLE_COUNT: u64 = 1 << 26;

/// Points of noise in a block. With the relative distance 0.15 that the code is assumed to have, a linear test against 256
/// regular noise points has a bias below 0.7^256 < 2^-131.
pub(crate) const TREES: usize = 256;
/// Elements of a block's noise that serve the checks alone: the last but one masks that of the trees, the last its own.
pub(crate) const MASKS: usize = 2;
/// Words by which the initiator shows that 128 columns were made from one vector.
pub(crate) const PROOF_WORDS: usize = 1 + 128;
/// Most entries of a block: what the code reads at random then stays near the processor.
const BLOCK_ENTRIES: usize = 5 << 16;
/// Items of a full bin.
const BIN_ITEMS: u64 = 1 << 16;

/// The shape of the oblivious key-value store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreShape {
    /// Bins.
    pub(crate) bins: usize,
    /// Most rows of a bin; the odds that a full set puts more into any are below 2^-42.
    pub(crate) bin_rows: usize,
    /// Columns of a bin: 1.2 for each row and a band's width.
    pub(crate) bin_columns: usize,
}

impl StoreShape {
    /// For `count` items.
    pub(crate) fn of(count: u64) -> Result<Self, Error> {
        if count > MAX_VOLE_COUNT {
            return Err(Error::TooLong {
                what: "elements of this suite",
                found: count,
                max: MAX_VOLE_COUNT,
            });
        }
        let bins = (count / BIN_ITEMS).max(1);
        let mean = count.div_ceil(bins);
        let rows = if bins == 1 {
            count
        } else {
            // Eight standard deviations and eight above the mean.
            mean + (64 * mean).isqrt() + 9
        };
        let small = |n: u64| {
            usize::try_from(n).map_err(|_| Error::Internal {
                what: "store shape",
            })
        };
        Ok(Self {
            bins: small(bins)?,
            bin_rows: small(rows)?,
            bin_columns: small((6 * rows).div_ceil(5))? + BAND_COLUMNS,
        })
    }

    /// Columns in all; below 2^27.
    pub(crate) const fn columns(&self) -> usize {
        self.bins * self.bin_columns
    }
}

/// The shape of the vector correlation: blocks of equal size that together hold a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VoleShape {
    /// Blocks.
    pub(crate) blocks: usize,
    /// Leaves of a tree, even.
    pub(crate) leaves: usize,
    /// Levels of a tree.
    pub(crate) depth: usize,
    /// Whether the peer's part is checked.
    pub(crate) checked: bool,
}

impl VoleShape {
    /// For at least `entries` entries, of which there is at least one.
    pub(crate) fn of(entries: usize, checked: bool) -> Self {
        let blocks = entries.div_ceil(BLOCK_ENTRIES).max(1);
        let noise = 2 * entries.div_ceil(blocks);
        let leaves = noise.div_ceil(TREES).next_multiple_of(2).max(2);
        Self {
            blocks,
            leaves,
            depth: (usize::BITS - (leaves - 1).leading_zeros()) as usize,
            checked,
        }
    }

    /// Whether a level has a stand-in for the right child that its last node's parent lacks. A path of transfers may lead to where
    /// there is no leaf; without stand-ins its owner would know every leaf, and with them the responder's key.
    pub(crate) const fn has_stand_in(&self, level: usize) -> bool {
        self.checked && !self.level_nodes(level).is_multiple_of(2)
    }

    /// Elements of a block's noise: one for each tree, and the masks.
    pub(crate) const fn elements(&self) -> usize {
        if self.checked { TREES + MASKS } else { TREES }
    }

    /// Length of a block's noise.
    pub(crate) const fn noise(&self) -> usize {
        TREES * self.leaves
    }

    /// Entries that a block gives.
    pub(crate) const fn block_entries(&self) -> usize {
        self.noise() / 2
    }

    /// Nodes of a tree's level, the root's being 0; the last node of an odd level has no sibling.
    pub(crate) const fn level_nodes(&self, level: usize) -> usize {
        self.leaves.div_ceil(1 << (self.depth - level))
    }

    /// Oblivious transfers: one for each level of each tree.
    pub(crate) const fn transfers(&self) -> usize {
        self.blocks * TREES * self.depth
    }

    /// Words of an extension's column: a bit for each transfer, and one word that masks the check.
    pub(crate) const fn choice_words(&self) -> usize {
        self.transfers().div_ceil(128) + self.checked as usize
    }

    /// Words that show a set of columns to be right: those of the extension, or those of a block's noise.
    pub(crate) const fn proof_words(&self) -> usize {
        if self.checked { PROOF_WORDS } else { 0 }
    }

    /// Bytes of the extension in the initiator's corrections: 128 columns and what shows that they are right.
    pub(crate) const fn extension_bytes(&self) -> usize {
        (128 * self.choice_words() + self.proof_words()) * 16
    }

    /// Bytes of a block's noise in them: each element in 128 multiples, and what shows that they are right.
    pub(crate) const fn noise_bytes(&self) -> usize {
        (128 * self.elements() + self.proof_words()) * 16
    }

    /// Bytes of the initiator's corrections: the extension, then the noise of each block.
    pub(crate) const fn correction_bytes(&self) -> usize {
        self.extension_bytes() + self.blocks * self.noise_bytes()
    }

    /// Bytes of the responder's sums: for every tree two a level and one more.
    pub(crate) const fn sum_bytes(&self) -> usize {
        self.blocks * TREES * (2 * self.depth + 1) * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_design() {
        let s = StoreShape::of(1 << 20).unwrap();
        assert_eq!((s.bins, s.bin_rows, s.bin_columns), (16, 67593, 81240));
        let v = VoleShape::of(s.columns(), false);
        assert_eq!((v.blocks, v.leaves, v.depth), (4, 2540, 12));
        // What the checks add at 2^20: 3 kB for the extension, 6 kB a block.
        let c = VoleShape::of(s.columns(), true);
        assert_eq!(
            c.correction_bytes() - v.correction_bytes(),
            (128 + 129) * 16 + 4 * (2 * 128 + 129) * 16
        );
        assert_eq!(c.sum_bytes(), v.sum_bytes());
        // Both within what they may send an item: 34 and 39 bytes, signatures and headers aside.
        let n = 1 << 20;
        let fixed = 256 * 64 + s.columns() * 16;
        assert!(fixed + v.correction_bytes() + v.sum_bytes() + 10 * n < 34 * n);
        assert!(fixed + c.correction_bytes() + c.sum_bytes() + 16 * n < 39 * n);
        assert!(v.blocks * v.block_entries() >= s.columns());
        let s = StoreShape::of(0).unwrap();
        assert_eq!((s.bins, s.columns()), (1, 128));
        assert!(StoreShape::of(MAX_VOLE_COUNT).unwrap().columns() < 1 << 27);
        assert!(StoreShape::of(MAX_VOLE_COUNT + 1).is_err());
    }

    #[test]
    fn every_shape_holds_its_entries() {
        for entries in (1..3000).chain([65536, 327_680, 327_681, 1_299_824, 20_000_000]) {
            let v = VoleShape::of(entries, true);
            assert!(v.blocks * v.block_entries() >= entries);
            assert!(v.block_entries() <= BLOCK_ENTRIES + TREES);
            assert!(v.leaves.is_multiple_of(2) && v.leaves <= 1 << v.depth);
            assert_eq!((v.level_nodes(0), v.level_nodes(v.depth)), (1, v.leaves));
            for level in 0..v.depth {
                assert!(v.level_nodes(level + 1) <= 2 * v.level_nodes(level));
                assert!(v.level_nodes(level + 1) > 2 * (v.level_nodes(level) - 1));
                let lacks = v.level_nodes(level + 1) < 2 * v.level_nodes(level);
                assert_eq!(v.has_stand_in(level + 1), lacks);
            }
        }
    }
}
