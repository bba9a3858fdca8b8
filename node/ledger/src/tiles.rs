//! The ledger's tree as C2SP tiles in files. Full tiles and full entry bundles are written once and never changed; the right
//! edge lives in memory and is rebuilt from the blocks at start.

use std::path::{Path, PathBuf};

use tally_merkle::tile::{
    TILE_WIDTH, TileKind, TilePath, decode_bundle, decode_hashes, encode_bundle, encode_hashes,
    width_at,
};
use tally_merkle::{Hash, NodeSource, root_of};

use crate::error::{Error, IoContext};
use crate::files::write_whole;

/// Hashes in a full tile, entries in a full bundle.
pub(crate) const WIDTH: u64 = TILE_WIDTH as u64;

/// The tree and its tiles.
pub(crate) struct Tiles {
    dir: PathBuf,
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
            size,
            edge: Vec::new(),
            bundle: last_entries,
        };
        if tiles.bundle.len() as u64 != size % WIDTH {
            return Err(Error::Internal(
                "the last entries do not end at the tree's size",
            ));
        }
        tiles.edge.push(
            tiles
                .bundle
                .iter()
                .map(|e| tally_merkle::leaf_hash(e))
                .collect(),
        );
        let mut full = size / WIDTH;
        let mut level = 0;
        while full > 0 {
            let first = full - full % WIDTH;
            let hashes: Result<Vec<Hash>, Error> = (first..full)
                .map(|i| Ok(root_of(&tiles.full_tile(level, i)?)))
                .collect();
            tiles.edge.push(hashes?);
            full /= WIDTH;
            level += 1;
        }
        Ok(tiles)
    }

    /// Appends an entry; a tile or bundle that becomes full is written and synced.
    pub(crate) fn append(&mut self, entry: &[u8]) -> Result<(), Error> {
        self.bundle.push(entry.to_vec());
        let mut hash = tally_merkle::leaf_hash(entry);
        let mut index = self.size;
        for level in 0_u8..=7 {
            if self.edge.len() <= usize::from(level) {
                self.edge.push(Vec::new());
            }
            let Some(edge) = self.edge.get_mut(usize::from(level)) else {
                break;
            };
            edge.push(hash);
            if (edge.len() as u64) < WIDTH {
                break;
            }
            index /= WIDTH;
            let full = std::mem::take(edge);
            if level == 0 {
                let bundle = std::mem::take(&mut self.bundle);
                self.write(TileKind::Entries, index, &encode_bundle(&bundle)?)?;
            }
            self.write(TileKind::Hashes(level), index, &encode_hashes(&full))?;
            hash = root_of(&full);
        }
        self.size += 1;
        Ok(())
    }

    fn write(&self, kind: TileKind, index: u64, bytes: &[u8]) -> Result<(), Error> {
        write_whole(
            &self
                .dir
                .join(TilePath::new(kind, index, TILE_WIDTH)?.to_string()),
            bytes,
        )
    }

    fn full(&self, kind: TileKind, index: u64) -> Result<(PathBuf, Vec<u8>), Error> {
        let path = self
            .dir
            .join(TilePath::new(kind, index, TILE_WIDTH)?.to_string());
        let bytes = std::fs::read(&path).on("read tile", &path)?;
        Ok((path, bytes))
    }

    fn full_tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Error> {
        let (path, bytes) = self.full(TileKind::Hashes(level), index)?;
        decode_hashes(&bytes, TILE_WIDTH).map_err(|e| damaged(path, &e))
    }

    /// The bytes of a tile or entry bundle at its width in the tree of `size`; empty if that tree has none there.
    pub(crate) fn bytes(&self, kind: TileKind, index: u64, width: u16) -> Result<Vec<u8>, Error> {
        let width_now = width_at(kind, index, self.size);
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
                        decode_bundle(&bytes, TILE_WIDTH).map_err(|e| damaged(path, &e))?;
                    Ok(encode_bundle(entries.get(..taken).unwrap_or_default())?)
                }
            };
        }
        match kind {
            TileKind::Hashes(level) => {
                let edge = self
                    .edge
                    .get(usize::from(level))
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                Ok(encode_hashes(edge.get(..taken).unwrap_or_default()))
            }
            TileKind::Entries => Ok(encode_bundle(self.bundle.get(..taken).unwrap_or_default())?),
        }
    }

    fn hashes(&self, level: u8, index: u64) -> Result<Vec<Hash>, Error> {
        if width_at(TileKind::Hashes(level), index, self.size) == TILE_WIDTH {
            self.full_tile(level, index)
        } else {
            Ok(self
                .edge
                .get(usize::from(level))
                .cloned()
                .unwrap_or_default())
        }
    }
}

fn damaged(path: PathBuf, error: &tally_merkle::Error) -> Error {
    Error::Damaged {
        path,
        offset: 0,
        reason: format!("{error}; run `tally reindex`"),
    }
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
                have: self.size,
            })?;
        Ok(root_of(hashes))
    }
}
