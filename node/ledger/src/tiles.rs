//! The ledger's tree as C2SP tiles in files. Full tiles and full entry bundles are written once and never changed; the right
//! edge lives in memory and is rebuilt from the blocks at start. Beside it are full tiles above the lowest, with the hashes within
//! them: there are few, and every proof needs some.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tally_merkle::tile::{
    TILE_WIDTH, TileKind, TilePath, decode_bundle, decode_hashes, encode_bundle, encode_hashes,
    width_at,
};
use tally_merkle::{Hash, NodeSource, parents, root_of};

use crate::error::{Error, IoContext};
use crate::files::write_all_whole;

/// Hashes in a full tile, entries in a full bundle.
pub(crate) const WIDTH: u64 = TILE_WIDTH as u64;

/// The tree and its tiles.
pub(crate) struct Tiles {
    dir: PathBuf,
    right: RightEdge,
    upper: Mutex<BTreeMap<(u8, u64), Arc<TileNodes>>>,
}

/// Full tiles above the lowest level that are kept in memory, of 16 KiB each: those of 30 million entries.
const UPPER_TILES: usize = 512;

/// The hashes of a full tile and the nodes above them up to its root: first those of the tile, then their parents, and so on.
struct TileNodes(Vec<Hash>);

impl TileNodes {
    fn of(hashes: Vec<Hash>) -> Self {
        let mut nodes = hashes;
        let mut below = nodes.clone();
        while below.len() > 1 {
            below = parents(&below);
            nodes.extend_from_slice(&below);
        }
        Self(nodes)
    }

    /// The node of a level within the tile, 0 for its own hashes.
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        // The levels below have 256, 128, .. hashes: 512 - 512 / 2^level in all.
        let before = 2 * WIDTH - ((2 * WIDTH) >> level);
        self.0.get(usize::try_from(before + index).ok()?).copied()
    }
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
            upper: Mutex::default(),
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

    /// A full tile above the lowest level with its nodes.
    fn upper_tile(&self, level: u8, index: u64) -> Result<Arc<TileNodes>, Error> {
        let upper = || self.upper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nodes) = upper().get(&(level, index)) {
            return Ok(nodes.clone());
        }
        let nodes = Arc::new(TileNodes::of(self.full_tile(level, index)?));
        let mut upper = upper();
        if upper.len() >= UPPER_TILES {
            // The lowest level has by far the most, and any of them is as likely to be asked for as any other.
            upper.pop_first();
        }
        upper.insert((level, index), nodes.clone());
        Ok(nodes)
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

/// Tiles that were read, by level and index.
type Read = BTreeMap<(u8, u64), Rc<[Hash]>>;

/// The tiles as one proof reads them: each file once. A proof takes up to eight hashes of one tile.
pub(crate) struct Reading<'a> {
    tiles: &'a Tiles,
    read: RefCell<Read>,
}

impl Tiles {
    /// For one proof; no append may come in between, as the lock on the ledger sees to.
    pub(crate) const fn reading(&self) -> Reading<'_> {
        Reading {
            tiles: self,
            read: RefCell::new(BTreeMap::new()),
        }
    }
}

impl Reading<'_> {
    fn hashes(&self, level: u8, index: u64) -> Result<Rc<[Hash]>, Error> {
        if let Some(tile) = self.read.borrow().get(&(level, index)) {
            return Ok(tile.clone());
        }
        let tile: Rc<[Hash]> = self.tiles.hashes(level, index)?.into();
        self.read.borrow_mut().insert((level, index), tile.clone());
        Ok(tile)
    }
}

impl NodeSource for Reading<'_> {
    type Error = Error;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Error> {
        let tile_level = level / 8;
        let within = u32::from(level % 8);
        let first = index << within;
        let (size, at) = (self.tiles.right.size, first / WIDTH);
        if tile_level > 0 && width_at(TileKind::Hashes(tile_level), at, size) == TILE_WIDTH {
            let tile = self.tiles.upper_tile(tile_level, at)?;
            return tile
                .node(within, (first % WIDTH) >> within)
                .ok_or(Error::Internal("a full tile of fewer hashes"));
        }
        let tile = self.hashes(tile_level, first / WIDTH)?;
        let from = usize::try_from(first % WIDTH).unwrap_or(0);
        let hashes = tile
            .get(from..from + (1 << within))
            .ok_or(Error::OutOfRange {
                what: "tree node",
                asked: index,
                have: self.tiles.right.size,
            })?;
        Ok(root_of(hashes))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tally_merkle::{frontier_at, inclusion_proof, leaf_hash, verify_inclusion};

    use super::*;
    use crate::waited::ran_and_waited;

    fn entry(index: u64) -> Vec<u8> {
        index.to_be_bytes().to_vec()
    }

    /// Writes the full hash tiles of a tree of these many entries, and gives its last entries.
    fn write_tree(dir: &Path, size: u64) -> Vec<Vec<u8>> {
        let mut level: Vec<Hash> = (0..size).map(|i| leaf_hash(&entry(i))).collect();
        for number in 0..8 {
            let (full, _) = level.as_chunks::<{ TILE_WIDTH as usize }>();
            for (index, tile) in (0..).zip(full) {
                let kind = TileKind::Hashes(number);
                let path = TilePath::new(kind, index, TILE_WIDTH).unwrap();
                let path = dir.join(path.to_string());
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, encode_hashes(tile)).unwrap();
            }
            level = full.iter().map(|tile| root_of(tile)).collect();
        }
        (size - size % WIDTH..size).map(entry).collect()
    }

    /// A tree in files, and its root.
    struct Tree {
        _dir: tempfile::TempDir,
        tiles: Tiles,
        size: u64,
        root: Hash,
    }

    impl Tree {
        fn of(size: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let last = write_tree(dir.path(), size);
            let tiles = Tiles::open(dir.path(), size, last).unwrap();
            let root = frontier_at(&tiles.reading(), size).unwrap().root();
            Self {
                _dir: dir,
                tiles,
                size,
                root,
            }
        }

        /// Times of inclusion proofs of entries all over the tree, each verified; ascending. First by the clock, then
        /// without what the thread waited for a processor.
        fn times(&self, proofs: std::ops::Range<u64>) -> (Vec<Duration>, Vec<Duration>) {
            let (size, root) = (self.size, &self.root);
            let (mut clock, mut own): (Vec<_>, Vec<_>) = proofs
                .map(|i| {
                    // A step that is prime to every size here, so that neighbours are far apart.
                    let index = i.wrapping_mul(2_654_435_761) % size;
                    let (waited, begun) = (ran_and_waited()[1], Instant::now());
                    let proof = inclusion_proof(&self.tiles.reading(), index, size).unwrap();
                    let took = begun.elapsed();
                    let waited = ran_and_waited()[1] - waited;
                    verify_inclusion(&leaf_hash(&entry(index)), index, size, &proof, root).unwrap();
                    (took, took.saturating_sub(waited))
                })
                .unzip();
            clock.sort_unstable();
            own.sort_unstable();
            (clock, own)
        }
    }

    #[test]
    fn proofs_are_right_over_three_levels_of_tiles() {
        Tree::of(256 * 256 + 300).times(0..2_000);
    }

    #[test]
    fn more_upper_tiles_than_are_kept_are_read_again() {
        let tree = Tree::of(256 * 256 * 3);
        let nodes = tree.tiles.upper_tile(1, 0).unwrap();
        for i in 0..UPPER_TILES as u64 {
            let mut upper = tree.tiles.upper.lock().unwrap();
            upper.insert((9, i), nodes.clone());
            while upper.len() > UPPER_TILES {
                upper.pop_first();
            }
        }
        assert!(!tree.tiles.upper.lock().unwrap().contains_key(&(1, 0)));
        tree.times(0..50);
        assert!(tree.tiles.upper.lock().unwrap().len() <= UPPER_TILES);
    }

    /// `cargo test --release -p tally-ledger -- --ignored --nocapture proof_speed`; `TALLY_PROOF_ENTRIES` is the size, ten million
    /// unless it says otherwise. Needs 32 bytes of disk an entry. Files are in the system's page cache.
    #[test]
    #[ignore = "measures; writes 320 MB"]
    fn proof_speed() {
        let size = std::env::var("TALLY_PROOF_ENTRIES")
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(10_000_000);
        let tree = Tree::of(size);
        let at = |times: &[Duration], part: usize| times[(times.len() - 1) * part / 1000];
        let limit = Duration::from_millis(1);
        for round in 0..10 {
            let (clock, own) = tree.times(round * 10_000..(round + 1) * 10_000);
            println!(
                "inclusion proof among {size} entries: p50 {:?}, p99 {:?}, slowest {:?}; without waiting for a processor p50 {:?}, p99 {:?}",
                at(&clock, 500),
                at(&clock, 990),
                at(&clock, 1000),
                at(&own, 500),
                at(&own, 990),
            );
            // On a machine with other work a proof in a hundred waits for a processor, which says nothing of proofs.
            assert!(at(&own, 990) < limit, "p99 {:?}", at(&own, 990));
        }
    }
}
