//! The levels of a tree from height 8 up, and what lies below one of their nodes.

use tally_merkle::{Hash, empty_root, parents};

use crate::Error;

/// Leaves under a node of the lowest stored level.
pub const CHUNK: u64 = 256;

/// Nodes of each stored level of a tree of `leaf_count` leaves, from height 8 to the root. A last node without a sibling stands for
/// itself one level higher, which gives the tree of RFC 6962.
#[must_use]
pub fn level_sizes(leaf_count: u64) -> Vec<u64> {
    let mut n = leaf_count.div_ceil(CHUNK);
    let mut sizes = vec![n];
    while n > 1 {
        n = n.div_ceil(2);
        sizes.push(n);
    }
    sizes
}

/// The stored levels: 64 bytes for each 256 leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpperLevels {
    levels: Vec<Vec<Hash>>,
}

impl UpperLevels {
    /// Builds them on the lowest stored level.
    #[must_use]
    pub fn from_base(base: Vec<Hash>) -> Self {
        let mut levels = vec![base];
        while let Some(last) = levels.last().filter(|l| l.len() > 1) {
            let next = parents(last);
            levels.push(next);
        }
        Self { levels }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.levels
            .last()
            .and_then(|l| l.first())
            .copied()
            .unwrap_or_else(empty_root)
    }

    /// All levels, from height 8 up.
    #[must_use]
    pub fn levels(&self) -> &[Vec<Hash>] {
        &self.levels
    }

    /// One node; level 0 is height 8.
    ///
    /// # Errors
    /// [`Error::Range`] if there is none.
    pub fn node(&self, level: usize, position: u64) -> Result<Hash, Error> {
        self.levels
            .get(level)
            .and_then(|l| l.get(usize::try_from(position).ok()?))
            .copied()
            .ok_or(Error::Range {
                what: "position of a tree node",
                found: position,
                min: 0,
                max: 0,
            })
    }
}

/// The root over the leaves of one chunk.
pub(super) fn chunk_root(mut leaves: Vec<Hash>) -> Hash {
    while leaves.len() > 1 {
        leaves = parents(&leaves);
    }
    leaves.first().copied().unwrap_or_else(empty_root)
}

/// The siblings of a leaf within its chunk, leaf side first, and the chunk's root.
pub(super) fn chunk_path(mut leaves: Vec<Hash>, mut at: usize, path: &mut Vec<Hash>) -> Hash {
    while leaves.len() > 1 {
        path.extend(leaves.get(at ^ 1));
        leaves = parents(&leaves);
        at /= 2;
    }
    leaves.first().copied().unwrap_or_else(empty_root)
}

/// Appends the siblings of a chunk's root on the stored levels of a tree of `leaf_count` leaves.
pub(super) fn upper_path<E>(
    leaf_count: u64,
    mut position: u64,
    path: &mut Vec<Hash>,
    mut node: impl FnMut(usize, u64) -> Result<Hash, E>,
) -> Result<(), E> {
    for (level, size) in level_sizes(leaf_count).into_iter().enumerate() {
        let sibling = position ^ 1;
        if sibling < size {
            path.push(node(level, sibling)?);
        }
        position /= 2;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tally_merkle::{leaf_hash, node_hash};

    use super::*;

    /// RFC 6962 2.1, as it is written there.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    /// RFC 6962 2.1.1.
    fn rfc_path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() < 2 {
            return Vec::new();
        }
        let k = leaves.len().next_power_of_two() / 2;
        let (mut path, other) = if m < k {
            (rfc_path(m, &leaves[..k]), mth(&leaves[k..]))
        } else {
            (rfc_path(m - k, &leaves[k..]), mth(&leaves[..k]))
        };
        path.push(other);
        path
    }

    #[test]
    fn roots_and_paths_are_those_of_the_rfc() {
        for n in [
            1usize, 2, 3, 7, 255, 256, 257, 511, 512, 513, 1000, 1280, 1281, 2049,
        ] {
            let leaves: Vec<Hash> = (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect();
            let chunks: Vec<Vec<Hash>> = leaves.chunks(256).map(<[Hash]>::to_vec).collect();
            let upper = UpperLevels::from_base(chunks.iter().cloned().map(chunk_root).collect());
            assert_eq!(upper.root(), mth(&leaves), "{n}");
            let sizes: Vec<u64> = upper.levels().iter().map(|l| l.len() as u64).collect();
            assert_eq!(sizes, level_sizes(n as u64));
            for m in (0..n).step_by(1 + n / 40).chain([n - 1]) {
                let mut path = Vec::new();
                let root = chunk_path(chunks[m / 256].clone(), m % 256, &mut path);
                assert_eq!(upper.node(0, (m / 256) as u64), Ok(root));
                upper_path(n as u64, (m / 256) as u64, &mut path, |l, i| {
                    upper.node(l, i)
                })
                .unwrap();
                assert_eq!(path, rfc_path(m, &leaves), "{m} of {n}");
            }
        }
    }
}
