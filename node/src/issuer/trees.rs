//! The file with the stored levels of both trees of a batch.
//!
//! Magic and version (8 bytes), units (u64), then the levels of the unit tree from height 8 up, then those of the redemption tree, 32
//! bytes a node. Whatever is read is checked against the anchored root before it leaves the store, so the file has no checksum.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use tally_codes::batch::{BatchTrees, level_sizes};
use tally_merkle::Hash;

use crate::files::FileError;

const MAGIC: &[u8; 8] = b"TALLYBT\x01";
const HEAD: u64 = 16;

/// Writes the file durably.
pub(super) fn write(path: &Path, count: u64, trees: &BatchTrees) -> Result<(), FileError> {
    let written = || -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let mut out = BufWriter::with_capacity(1 << 16, file);
        out.write_all(MAGIC)?;
        out.write_all(&count.to_be_bytes())?;
        for level in [&trees.unit, &trees.redemption]
            .into_iter()
            .flat_map(tally_codes::batch::UpperLevels::levels)
        {
            for node in level {
                out.write_all(node.as_bytes())?;
            }
        }
        out.into_inner()?.sync_all()
    };
    written().map_err(FileError::new("write", path))
}

/// An open file.
pub(super) struct TreeFile {
    file: File,
    sizes: Vec<u64>,
}

impl TreeFile {
    /// Opens it and checks its head and length.
    pub(super) fn open(path: &Path, count: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        let sizes = level_sizes(count);
        let expected = HEAD + 64 * sizes.iter().sum::<u64>();
        let mut head = [0; 16];
        file.read_exact_at(&mut head, 0)?;
        let (magic, units) = head.split_at(8);
        if magic != MAGIC || units != count.to_be_bytes() || file.metadata()?.len() != expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not the trees of this batch",
            ));
        }
        Ok(Self { file, sizes })
    }

    /// A node of a stored level of the unit tree; level 0 is height 8.
    pub(super) fn unit_node(&self, level: usize, position: u64) -> io::Result<Hash> {
        if self.sizes.get(level).is_none_or(|size| position >= *size) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such node"));
        }
        let below: u64 = self.sizes.iter().take(level).sum();
        let mut node = [0; 32];
        self.file
            .read_exact_at(&mut node, HEAD + 32 * (below + position))?;
        Ok(Hash(node))
    }
}
