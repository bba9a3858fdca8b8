//! The parameter set of `vole-rr22-v1` and the sizes that follow from it and the initiator's count. Both sides derive the same;
//! nothing here depends on any item.

use crate::Error;
use crate::simd::BAND_COLUMNS;

/// Number of this parameter set in the opening message. Another code, tree count or width is another set.
pub const PARAMETER_SET: u16 = 1;
/// Most elements of one side under this suite: everything is kept in memory.
pub const MAX_VOLE_COUNT: u64 = 1 << 26;

/// Points of noise in a block. With the relative distance 0.15 that the code is assumed to have, a linear test against 256
/// regular noise points has a bias below 0.7^256 < 2^-131.
pub(crate) const TREES: usize = 256;
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
}

impl VoleShape {
    /// For at least `entries` entries, of which there is at least one.
    pub(crate) fn of(entries: usize) -> Self {
        let blocks = entries.div_ceil(BLOCK_ENTRIES).max(1);
        let noise = 2 * entries.div_ceil(blocks);
        let leaves = noise.div_ceil(TREES).next_multiple_of(2).max(2);
        Self {
            blocks,
            leaves,
            depth: (usize::BITS - (leaves - 1).leading_zeros()) as usize,
        }
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

    /// Bytes of the initiator's corrections: the extension's columns, then a block's noise in 128 multiples each.
    pub(crate) const fn correction_bytes(&self) -> usize {
        self.transfers().next_multiple_of(128) * 16 + self.blocks * 128 * TREES * 16
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
        let v = VoleShape::of(s.columns());
        assert_eq!((v.blocks, v.leaves, v.depth), (4, 2540, 12));
        assert!(v.blocks * v.block_entries() >= s.columns());
        let s = StoreShape::of(0).unwrap();
        assert_eq!((s.bins, s.columns()), (1, 128));
        assert!(StoreShape::of(MAX_VOLE_COUNT).unwrap().columns() < 1 << 27);
        assert!(StoreShape::of(MAX_VOLE_COUNT + 1).is_err());
    }

    #[test]
    fn every_shape_holds_its_entries() {
        for entries in (1..3000).chain([65536, 327_680, 327_681, 1_299_824, 20_000_000]) {
            let v = VoleShape::of(entries);
            assert!(v.blocks * v.block_entries() >= entries);
            assert!(v.block_entries() <= BLOCK_ENTRIES + TREES);
            assert!(v.leaves.is_multiple_of(2) && v.leaves <= 1 << v.depth);
            assert_eq!((v.level_nodes(0), v.level_nodes(v.depth)), (1, v.leaves));
            for level in 0..v.depth {
                assert!(v.level_nodes(level + 1) <= 2 * v.level_nodes(level));
                assert!(v.level_nodes(level + 1) > 2 * (v.level_nodes(level) - 1));
            }
        }
    }
}
