//! The ledger's tree as C2SP tiles in files. Full tiles and full entry bundles are written once and never changed; the right
//! edge lives in memory and is rebuilt from the blocks at start.

use std::path::{Path, PathBuf};

use tally_merkle::tile::{
    TILE_WIDTH, TileKind, TilePath, decode_bundle, decode_hashes, encode_bundle, encode_hashes,
    width_at,
};
use tally_merkle::{Hash, NodeSource, root_of};

use crate::error::{Error, IoContext};
use crate::files::write_all_whole;

/// Hashes in a full tile, entries in a full bundle.
pub(crate) const WIDTH: u64 = TILE_WIDTH as u64;

/// The tree and its tiles.
pub(crate) struct Tiles {
    dir: PathBuf,
    right: RightEdge,
}

/// What no file holds yet.
#[derive(Clone)]
struct RightEdge {
    size: u64,
    /// At level l, the hashes of the tile of that level that is not full yet.
    edge: Vec<Vec<Hash>>,
    bundle: Vec<Vec<u8>>,
}

impl Tiles {
    /// Rebuilds the right edge of a tree of `size` entries, whose last `size % 256` entries are given.
    pub(crate) fn open(dir: &Path, size: u64, last_entries: Vec<Vec<u8>>) -> Result<Self, Error> {
        let mut tiles = Self {
            dir: dir.to_owned(),
            right: RightEdge {
                size,
                edge: Vec::new(),
                bundle: last_entries,
            },
        };
        if tiles.right.bundle.len() as u64 != size % WIDTH {
            return Err(Error::Internal(
                "the last entries do not end at the tree's size",
            ));
        }
        let leaves = tiles.right.bundle.iter();
        let leaves = leaves.map(|e| tally_merkle::leaf_hash(e)).collect();
        tiles.right.edge.push(leaves);
        let mut full = size / WIDTH;
        let mut level = 0;
        while full > 0 {
            let first = full - full % WIDTH;
            let hashes: Result<Vec<Hash>, Error> = (first..full)
                .map(|i| Ok(root_of(&tiles.full_tile(level, i)?)))
                .collect();
            tiles.right.edge.push(hashes?);
            full /= WIDTH;
            level += 1;
        }
        Ok(tiles)
    }

    /// Appends entries with their leaf hashes; tiles and bundles that become full are written, and synced when this returns. After
    /// an error the tree in memory is what it was, and the files have at most tiles that are not asked for yet.
    pub(crate) fn append(&mut self, entries: &[Vec<u8>], leaves: &[Hash]) -> Result<(), Error> {
        if entries.len() != leaves.len() {
            return Err(Error::Internal("entries and leaves differ in number"));
        }
        let mut right = self.right.clone();
        let mut files = Vec::new();
        for (entry, leaf) in entries.iter().zip(leaves) {
            right.append(entry, *leaf, &mut |kind, index, bytes| {
                let path = TilePath::new(kind, index, TILE_WIDTH)?.to_string();
                files.push((self.dir.join(path), bytes));
                Ok(())
            })?;
        }
        write_all_whole(&files)?;
        self.right = right;
        Ok(())
    }

    fn full(&self, kind: TileKind, index: u64) -> Result<(PathBuf, Vec<u8>), Error> {
        let path = self
            .dir
            .join(TilePath::new(kind, index, TILE_WIDTH)?.to_string());
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::damaged_index(&path, "the tile is missing"));
            }
            read => read.on("read tile", &path)?,
        };
        Ok((path, bytes))
    }

    fn full_tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Error> {
        let (path, bytes) = self.full(TileKind::Hashes(level), index)?;
        decode_hashes(&bytes, TILE_WIDTH).map_err(|e| damaged(&path, &e))
    }

    /// The bytes of a tile or entry bundle at its width in the tree of `size`; empty if that tree has none there.
    pub(crate) fn bytes(&self, kind: TileKind, index: u64, width: u16) -> Result<Vec<u8>, Error> {
        let width_now = width_at(kind, index, self.right.size);
        if width > width_now || width == 0 {
            return Ok(Vec::new());
        }
        let taken = usize::from(width);
        if width_now == TILE_WIDTH {
            let (path, bytes) = self.full(kind, index)?;
            return match kind {
                _ if width == TILE_WIDTH => Ok(bytes),
                TileKind::Hashes(_) => Ok(bytes.get(..32 * taken).unwrap_or_default().to_vec()),
                TileKind::Entries => {
                    let entries =
                        decode_bundle(&bytes, TILE_WIDTH).map_err(|e| damaged(&path, &e))?;
                    Ok(encode_bundle(entries.get(..taken).unwrap_or_default())?)
                }
            };
        }
        match kind {
            TileKind::Hashes(level) => {
                let edge = self
                    .right
                    .edge
                    .get(usize::from(level))
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                Ok(encode_hashes(edge.get(..taken).unwrap_or_default()))
            }
            TileKind::Entries => Ok(encode_bundle(
                self.right.bundle.get(..taken).unwrap_or_default(),
            )?),
        }
    }

    fn hashes(&self, level: u8, index: u64) -> Result<Vec<Hash>, Error> {
        if width_at(TileKind::Hashes(level), index, self.right.size) == TILE_WIDTH {
            self.full_tile(level, index)
        } else {
            Ok(self
                .right
                .edge
                .get(usize::from(level))
                .cloned()
                .unwrap_or_default())
        }
    }
}

impl RightEdge {
    /// Appends an entry and hands on what became full.
    fn append(
        &mut self,
        entry: &[u8],
        leaf: Hash,
        full: &mut impl FnMut(TileKind, u64, Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut hash = leaf;
        let mut filled = 0u8;
        while let Some(edge) = self.edge.get_mut(usize::from(filled))
            && edge.len() as u64 + 1 == WIDTH
        {
            edge.push(hash);
            let index = self.size >> (8 * (u32::from(filled) + 1));
            if filled == 0 {
                let mut bundle: Vec<&[u8]> = self.bundle.iter().map(Vec::as_slice).collect();
                bundle.push(entry);
                full(TileKind::Entries, index, encode_bundle(&bundle)?)?;
            }
            full(TileKind::Hashes(filled), index, encode_hashes(edge))?;
            hash = root_of(edge);
            edge.clear();
            filled += 1;
        }
        if filled == 0 {
            self.bundle.push(entry.to_vec());
        } else {
            self.bundle.clear();
        }
        if self.edge.len() <= usize::from(filled) {
            self.edge.push(Vec::new());
        }
        if let Some(edge) = self.edge.get_mut(usize::from(filled)) {
            edge.push(hash);
        }
        self.size += 1;
        Ok(())
    }
}

fn damaged(path: &Path, error: &tally_merkle::Error) -> Error {
    Error::damaged_index(path, error.to_string())
}

impl NodeSource for Tiles {
    type Error = Error;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Error> {
        let tile_level = level / 8;
        let within = u32::from(level % 8);
        let first = index << within;
        let tile = self.hashes(tile_level, first / WIDTH)?;
        let from = usize::try_from(first % WIDTH).unwrap_or(0);
        let hashes = tile
            .get(from..from + (1 << within))
            .ok_or(Error::OutOfRange {
                what: "tree node",
                asked: index,
                have: self.right.size,
            })?;
        Ok(root_of(hashes))
    }
}
