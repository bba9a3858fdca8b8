//! The leaves of the log by index: their hashes, where they lie in the log, and the tree over them; in files, a few bytes of memory each.
//!
//! ```text
//! leaves   a record of 60 bytes for each: leaf hash (32), position in the log (24), CRC-32C of index and record u32
//! nodes    the hashes of full subtrees of 256 leaves, 32 bytes each
//! ```
//! Leaf hashes are salted commitments and no secret. The files are synced before a checkpoint names their length; what is longer is
//! read from the log again. A checkpoint also names the root, so that changed hashes show.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tally_merkle::{
    Hash, NodeSource, consistency_proof, inclusion_proof, node_hash, root_at, root_of,
};

use super::ScanError;
use super::table::TableError;
use crate::sealed::Position;

const RECORD: usize = 32 + Position::BYTES + 4;
/// Subtrees of this height and more are in memory: 64 bytes for each 256 leaves.
const HEIGHT: u8 = 8;
const WIDTH: u64 = 1 << HEIGHT;

/// The leaves. One thread appends; reading needs no change.
pub(super) struct Leaves {
    path: PathBuf,
    leaves: File,
    nodes: File,
    size: u64,
    /// `upper[l][i]` is the root of the full subtree `i` of height `HEIGHT + l`.
    upper: Vec<Vec<Hash>>,
    /// The leaves after the last full subtree.
    tail: Vec<Hash>,
    unwritten: Vec<u8>,
}

fn record(index: u64, leaf: &Hash, position: Position) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    out[..32].copy_from_slice(leaf.as_bytes());
    out[32..RECORD - 4].copy_from_slice(&position.to_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&index.to_be_bytes()), &out[..RECORD - 4]);
    out[RECORD - 4..].copy_from_slice(&crc.to_be_bytes());
    out
}

fn parse(index: u64, bytes: &[u8; RECORD]) -> Option<(Hash, Position)> {
    let (leaf, rest) = bytes.split_first_chunk::<32>()?;
    let position = Position::from_bytes(rest.first_chunk()?);
    let leaf = Hash(*leaf);
    (record(index, &leaf, position) == *bytes).then_some((leaf, position))
}

fn open(path: &Path) -> Result<File, TableError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TableError + use<> {
    let path = path.to_owned();
    move |source| TableError::Io {
        action,
        path,
        source,
    }
}

impl Leaves {
    /// The first `size` leaves of the files in `dir`; what they hold after is forgotten.
    pub(super) fn open(dir: &Path, size: u64) -> Result<Self, TableError> {
        let (path, nodes_path) = (dir.join("leaves"), dir.join("nodes"));
        let (leaves, nodes) = (open(&path)?, open(&nodes_path)?);
        let mut out = Self {
            path,
            leaves,
            nodes,
            size,
            upper: Vec::new(),
            tail: Vec::new(),
            unwritten: Vec::new(),
        };
        let full = size / WIDTH;
        for (file, path, len) in [
            (&out.leaves, &out.path, size * RECORD as u64),
            (&out.nodes, &nodes_path, full * 32),
        ] {
            let found = file.metadata().map_err(failed("read", path))?.len();
            if found < len {
                return Err(TableError::Damaged {
                    path: path.clone(),
                    what: "shorter than its checkpoint says",
                });
            }
            file.set_len(len).map_err(failed("truncate", path))?;
        }
        let bytes = fs::read(&nodes_path).map_err(failed("read", &nodes_path))?;
        for node in bytes.as_chunks::<32>().0 {
            out.push_upper(Hash(*node));
        }
        out.tail = out
            .read(full * WIDTH, size)?
            .into_iter()
            .map(|r| r.0)
            .collect();
        Ok(out)
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    fn push_upper(&mut self, node: Hash) {
        let mut hash = node;
        for level in 0.. {
            if self.upper.len() == level {
                self.upper.push(Vec::new());
            }
            let Some(nodes) = self.upper.get_mut(level) else {
                return;
            };
            let left = nodes.last().copied();
            nodes.push(hash);
            match left {
                Some(left) if nodes.len().is_multiple_of(2) => hash = node_hash(&left, &hash),
                _ => return,
            }
        }
    }

    /// Appends a leaf, which can be read once [`Self::write`] was called.
    pub(super) fn append(&mut self, leaf: Hash, position: Position) -> Result<(), TableError> {
        self.unwritten
            .extend_from_slice(&record(self.size, &leaf, position));
        self.size += 1;
        self.tail.push(leaf);
        if self.tail.len() as u64 == WIDTH {
            let node = root_of(&self.tail);
            let at = (self.size / WIDTH - 1) * 32;
            self.nodes
                .write_all_at(node.as_bytes(), at)
                .map_err(failed("write", &self.path))?;
            self.push_upper(node);
            self.tail.clear();
        }
        // While a log is read at start nobody looks between.
        if self.unwritten.len() >= 1 << 16 {
            self.write()?;
        }
        Ok(())
    }

    /// Hands what was appended to the system.
    pub(super) fn write(&mut self) -> Result<(), TableError> {
        let at = self.size * RECORD as u64 - self.unwritten.len() as u64;
        self.leaves
            .write_all_at(&self.unwritten, at)
            .map_err(failed("write", &self.path))?;
        self.unwritten.clear();
        Ok(())
    }

    /// Handles of the files, to be synced by another thread.
    pub(super) fn files(&self) -> Result<[File; 2], TableError> {
        let copy = |file: &File| file.try_clone().map_err(failed("sync", &self.path));
        Ok([copy(&self.leaves)?, copy(&self.nodes)?])
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<(Hash, Position)>, TableError> {
        let count = usize::try_from(to - from).unwrap_or_default();
        let mut bytes = vec![0; count * RECORD];
        self.leaves
            .read_exact_at(&mut bytes, from * RECORD as u64)
            .map_err(failed("read", &self.path))?;
        (from..)
            .zip(bytes.as_chunks::<RECORD>().0)
            .map(|(index, record)| {
                parse(index, record).ok_or_else(|| TableError::Damaged {
                    path: self.path.clone(),
                    what: "a leaf is not what was written",
                })
            })
            .collect()
    }

    /// Hash and place of one leaf; `None` if there is none.
    pub(super) fn get(&self, index: u64) -> Result<Option<(Hash, Position)>, TableError> {
        if index >= self.size {
            return Ok(None);
        }
        Ok(self.read(index, index + 1)?.pop())
    }

    /// The root of the first `size` leaves.
    pub(super) fn root_at(&self, size: u64) -> Result<Option<Hash>, ScanError> {
        if size > self.size {
            return Ok(None);
        }
        root_at(&Tree(self), size).map(Some).map_err(|e| e.0)
    }

    /// The proof that leaf `index` is in the tree of the first `size` leaves.
    pub(super) fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, ScanError> {
        inclusion_proof(&Tree(self), index, size).map_err(|e| e.0)
    }

    /// The proof that the first `new` leaves extend the first `old`.
    pub(super) fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, ScanError> {
        consistency_proof(&Tree(self), old, new).map_err(|e| e.0)
    }
}

struct Tree<'a>(&'a Leaves);

struct Fault(ScanError);

impl From<tally_merkle::Error> for Fault {
    fn from(_: tally_merkle::Error) -> Self {
        Self(ScanError::Internal {
            what: "a proof outside the tree",
        })
    }
}

impl NodeSource for Tree<'_> {
    type Error = Fault;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Fault> {
        let outside = Fault(ScanError::Internal {
            what: "a subtree outside the tree",
        });
        if let Some(level) = level.checked_sub(HEIGHT) {
            let nodes = self.0.upper.get(usize::from(level));
            return nodes
                .zip(usize::try_from(index).ok())
                .and_then(|(nodes, i)| nodes.get(i))
                .copied()
                .ok_or(outside);
        }
        let from = index << level;
        let to = from + (1 << level);
        if to > self.0.size {
            return Err(outside);
        }
        let leaves: Vec<_> = self
            .0
            .read(from, to)
            .map_err(|e| Fault(e.into()))?
            .into_iter()
            .map(|r| r.0)
            .collect();
        Ok(root_of(&leaves))
    }
}

#[cfg(test)]
mod tests {
    use tally_merkle::MemoryTree;

    use super::*;

    fn leaf(n: u64) -> Hash {
        tally_merkle::leaf_hash(&n.to_be_bytes())
    }

    #[test]
    fn proofs_are_those_of_a_tree_in_memory_also_when_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = |n: u64| Position::from_bytes(&std::array::from_fn(|i| n.to_be_bytes()[i % 8]));
        let mut leaves = Leaves::open(dir.path(), 0).unwrap();
        let mut tree = MemoryTree::new();
        for n in 0..1_500 {
            leaves.append(leaf(n), place(n)).unwrap();
            tree.append(leaf(n));
        }
        leaves.write().unwrap();
        let check = |leaves: &Leaves, size: u64| {
            assert_eq!(leaves.size(), size);
            for n in (0..=size).step_by(37).chain([size]) {
                assert_eq!(leaves.root_at(n).unwrap(), tree.root_at(n).ok());
                assert_eq!(
                    leaves.consistency_proof(n.max(1), size).ok(),
                    tree.consistency_proof(n.max(1), size).ok()
                );
            }
            for n in (0..size).step_by(41) {
                assert_eq!(leaves.get(n).unwrap(), Some((leaf(n), place(n))));
                assert_eq!(
                    leaves.inclusion_proof(n, size).ok(),
                    tree.inclusion_proof(n, size).ok()
                );
            }
            assert_eq!(leaves.get(size).unwrap(), None);
            assert_eq!(leaves.root_at(size + 1).unwrap(), None);
        };
        check(&leaves, 1_500);
        drop(leaves);
        check(&Leaves::open(dir.path(), 1_500).unwrap(), 1_500);
        // Cut back to a checkpoint, and on from there.
        let mut leaves = Leaves::open(dir.path(), 1_025).unwrap();
        check(&leaves, 1_025);
        for n in 1_025..1_300 {
            leaves.append(leaf(n), place(n)).unwrap();
        }
        leaves.write().unwrap();
        check(&leaves, 1_300);
        assert!(Leaves::open(dir.path(), 1_301).is_err());
    }

    #[test]
    fn a_changed_leaf_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let mut leaves = Leaves::open(dir.path(), 0).unwrap();
        for n in 0..300 {
            leaves
                .append(leaf(n), Position::from_bytes(&[1; 24]))
                .unwrap();
        }
        leaves.write().unwrap();
        let path = dir.path().join("leaves");
        let mut bytes = fs::read(&path).unwrap();
        bytes[290 * RECORD + 40] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(leaves.get(290), Err(TableError::Damaged { .. })));
        assert!(leaves.get(289).is_ok());
        // The root under the checkpoint shows what the sums do not.
        let root = leaves.root_at(256).unwrap();
        let mut nodes = fs::read(dir.path().join("nodes")).unwrap();
        nodes[3] ^= 1;
        fs::write(dir.path().join("nodes"), nodes).unwrap();
        let again = Leaves::open(dir.path(), 256).unwrap();
        assert_ne!(again.root_at(256).unwrap(), root);
    }
}
