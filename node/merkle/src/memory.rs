//! A tree wholly in memory: batches, scan logs, small histories.

use rayon::prelude::*;

use crate::error::Error;
use crate::hash::{Hash, empty_root, node_hash, parents};
use crate::tree::{NodeSource, consistency_proof, inclusion_proof, root_at};

/// Below this many pairs one core is quicker than handing work out.
const PARALLEL_PAIRS: usize = 4096;

/// Every level of a tree, 64 bytes for each leaf; append is O(1) on average, a proof O(log² n).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryTree {
    /// `levels[l][i]` is the hash of the full subtree `i` of height `l`.
    levels: Vec<Vec<Hash>>,
}

impl MemoryTree {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree over these leaf hashes; uses every core.
    #[must_use]
    pub fn from_leaf_hashes(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|l| l.len() > 1) {
            let above = pairs(below);
            levels.push(above);
        }
        Self { levels }
    }

    /// Entries in the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |l| l.len() as u64)
    }

    /// The hash of leaf `index`.
    #[must_use]
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        NodeSource::node(self, 0, index).ok()
    }

    /// Appends a leaf hash.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(nodes) = self.levels.get_mut(level) else {
                return;
            };
            let left = nodes.last().copied();
            nodes.push(hash);
            match left {
                Some(left) if nodes.len() % 2 == 0 => hash = node_hash(&left, &hash),
                _ => return,
            }
        }
    }

    /// The root of the whole tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root_at(self.size()).unwrap_or_else(|_| empty_root())
    }

    /// The root of the first `size` entries.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the tree has fewer.
    pub fn root_at(&self, size: u64) -> Result<Hash, Error> {
        self.check_size(size)?;
        root_at(self, size)
    }

    /// The proof that leaf `index` is in the tree of the first `size` entries: leaf side first.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, Error> {
        self.check_size(size)?;
        inclusion_proof(self, index, size)
    }

    /// The proof that the first `new` entries extend the first `old`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::ConsistencySizes`].
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        self.check_size(new)?;
        consistency_proof(self, old, new)
    }

    fn check_size(&self, size: u64) -> Result<(), Error> {
        if size > self.size() {
            return Err(Error::OutOfRange {
                what: "tree size",
                found: size,
                size: self.size(),
            });
        }
        Ok(())
    }
}

impl NodeSource for MemoryTree {
    type Error = Error;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Error> {
        self.levels
            .get(usize::from(level))
            .zip(usize::try_from(index).ok())
            .and_then(|(nodes, i)| nodes.get(i))
            .copied()
            .ok_or_else(|| Error::OutOfRange {
                what: "subtree index",
                found: index,
                size: self.size(),
            })
    }
}

impl FromIterator<Hash> for MemoryTree {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        Self::from_leaf_hashes(leaves.into_iter().collect())
    }
}

impl Extend<Hash> for MemoryTree {
    fn extend<I: IntoIterator<Item = Hash>>(&mut self, leaves: I) {
        leaves.into_iter().for_each(|leaf| self.append(leaf));
    }
}

/// The next level up, without the node that has no sibling yet.
fn pairs(below: &[Hash]) -> Vec<Hash> {
    let (pairs, _) = below.as_chunks::<2>();
    let below = pairs.as_flattened();
    if pairs.len() < PARALLEL_PAIRS {
        parents(below)
    } else {
        below
            .par_chunks(PARALLEL_PAIRS / 2)
            .flat_map_iter(parents)
            .collect()
    }
}

/// The root of the tree over these leaf hashes (RFC 6962 2.1); n - 1 hashes, on every core.
#[must_use]
pub fn root_of(leaves: &[Hash]) -> Hash {
    // Only the edge below the right-most peak is kept from each level, so memory is one level at a time.
    let mut level = leaves.to_vec();
    let mut odd: Vec<Hash> = Vec::new();
    while level.len() > 1 {
        if level.len() % 2 == 1 {
            odd.extend(level.pop());
        }
        level = pairs(&level);
    }
    let Some(top) = level.pop() else {
        return empty_root();
    };
    let mut peaks = odd.into_iter();
    let Some(first) = peaks.next() else {
        return top;
    };
    let right = peaks.fold(first, |right, left| node_hash(&left, &right));
    node_hash(&top, &right)
}
