//! Where the stored blocks start. A ledger that began at a snapshot, or has dropped old blocks, has none before its base; what later
//! work needs of the time before stands in the file `base` beside the block files.

use std::path::Path;

use tally_contracts::CodecError;
use tally_contracts::block::MAX_ENTRY_BYTES;
use tally_contracts::codec::{Reader, Writer};

use crate::error::{Error, IoContext};
use crate::files::write_whole;
use crate::tiles::WIDTH;

const NAME: &str = "base";
const VERSION: u8 = 1;
/// Whole bundle of the longest entries, and what stands around it.
const MAX_BYTES: u64 = WIDTH * (MAX_ENTRY_BYTES as u64 + 4) + 64;

/// The last block that is not there, and the entries of the last bundle before the first one that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// Height of the last block that is not stored; 0 if all are.
    pub(crate) height: u64,
    /// Number of the first block file.
    pub(crate) segment: u32,
    /// Entries of the tree after the block of `height`; 0 if all blocks are stored.
    pub(crate) tree_size: u64,
    /// The entries of the bundle that holds the last of them, up to it: 1 to 256, none if all blocks are stored.
    pub(crate) edge: Vec<Vec<u8>>,
}

impl Default for Base {
    fn default() -> Self {
        Self {
            height: 0,
            segment: 1,
            tree_size: 0,
            edge: Vec::new(),
        }
    }
}

impl Base {
    /// The first index of the bundle in which the last of `tree_size` entries stands.
    pub(crate) const fn edge_from(tree_size: u64) -> u64 {
        let last = tree_size.saturating_sub(1);
        last - last % WIDTH
    }

    /// Index of the first entry that is stored; 0 if all are.
    pub(crate) fn first_entry(&self) -> u64 {
        self.tree_size.saturating_sub(self.edge.len() as u64)
    }

    /// The base in a folder of blocks; without a file, one with all blocks.
    pub(crate) fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(NAME);
        if !path.exists() {
            return Ok(Self::default());
        }
        let damaged = |reason: String| Error::damaged_blocks(&path, 0, reason);
        if std::fs::metadata(&path).on("read", &path)?.len() > MAX_BYTES {
            return Err(damaged("it is too long".into()));
        }
        let bytes = std::fs::read(&path).on("read", &path)?;
        let (body, sum) = bytes
            .split_last_chunk::<4>()
            .ok_or_else(|| damaged("it is too short".into()))?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
            return Err(damaged("wrong checksum".into()));
        }
        let base = Self::from_bytes(body).map_err(|e| damaged(e.to_string()))?;
        if base.edge.is_empty() || base.first_entry() != Self::edge_from(base.tree_size) {
            return Err(damaged("its entries are not those of one bundle".into()));
        }
        Ok(base)
    }

    /// Replaces the file; it is on disk when this returns.
    pub(crate) fn store(&self, dir: &Path) -> Result<(), Error> {
        let mut bytes = self.to_bytes();
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        write_whole(&dir.join(NAME), &bytes)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION)
            .u64(self.height)
            .u32(self.segment)
            .u64(self.tree_size)
            .list(&self.edge, |w, entry| {
                w.bytes(entry);
            });
        w.into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        r.version("base version", VERSION)?;
        let base = Self {
            height: r.u64("height")?,
            segment: r.u32("first block file")?,
            tree_size: r.u64("tree size")?,
            edge: r.list("entries", usize::try_from(WIDTH).unwrap_or(256), |r| {
                Ok(r.bytes("entry", MAX_ENTRY_BYTES)?.to_vec())
            })?,
        };
        r.finish()?;
        Ok(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_and_a_changed_byte_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Base::load(dir.path()).unwrap(), Base::default());
        let base = Base {
            height: 9,
            segment: 3,
            tree_size: 515,
            edge: vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()],
        };
        assert_eq!(base.first_entry(), 512);
        base.store(dir.path()).unwrap();
        assert_eq!(Base::load(dir.path()).unwrap(), base);
        let path = dir.path().join(NAME);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert!(
                matches!(Base::load(dir.path()), Err(Error::Damaged { .. })),
                "byte {at}"
            );
        }
    }
}
