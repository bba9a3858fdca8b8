//! Beginning a ledger at a snapshot. Everything is put together beside the ledger's own folders, in `restoring/`; only when all of
//! it is verified and on disk does a mark say so, and then it is moved into place. Killed before the mark, a restore starts over;
//! killed after it, the next start moves what is left.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tally_contracts::{Canonical as _, Genesis};
use tally_merkle::tile::{TILE_WIDTH, TileKind, decode_bundle, decode_hashes, encode_bundle};
use tally_merkle::{Checkpoint, Hash, TilePath, frontier_at, leaf_hash, root_of};

use super::format::{
    EDGE, FileSum, MANIFEST, MAX_FILE_BYTES, Manifest, TILES_A_FILE, TRAIL, file_name, full_tiles,
    pairs_from_bytes, refused, trail_from_bytes,
};
use crate::base::Base;
use crate::error::{Error, IoContext};
use crate::files::{make_dir, sync_dir, write_all_whole, write_whole};
use crate::kv::FjallKv;
use crate::ledger::{Ledger, Options, lock, tree_dir};
use crate::state_tree::{Sizes, StateTreeStore};
use crate::store::Store;
use crate::tiles::{Tiles, WIDTH};

/// Where a snapshot is put together.
const WORK: &str = "restoring";
/// The file in it that says that it is whole and verified: the manifest.
const DONE: &str = "verified";
/// What a reader is told of a checkpoint that an operator trusts.
const TRUSTED: &str = "the checkpoint that you trust";
/// What is moved into place, in this order; the blocks' base last.
const PARTS: [&str; 3] = ["tiles", "state", "blocks"];

/// Gives a file whose sum was judged.
type Fetch<'a> = &'a mut dyn FnMut(&str, &FileSum) -> Result<Vec<u8>, Error>;

/// Where the files of a snapshot come from. Nothing of what it gives is believed.
pub trait Source {
    /// The bytes of a file; not more than `max` of them.
    ///
    /// # Errors
    /// Why it could not be had.
    fn fetch(&mut self, name: &str, max: usize) -> Result<Vec<u8>, String>;
}

/// Begins the ledger below `dir` at a snapshot, and opens it. It must have no blocks and no state. `trusted` are checkpoints that the
/// operator has from elsewhere: each must be of the snapshot's own history and not beyond it; one that is not, when only a restore
/// that was killed at its end is carried on, leaves the ledger in place. `progress` hears how many bytes of how
/// many are there.
///
/// # Errors
/// [`Error::Snapshot`] with the file and the reason; [`Error::NoSnapshot`] if the ledger is not empty; those of [`Ledger::open`].
pub fn restore(
    dir: &Path,
    genesis_bytes: &[u8],
    options: Options,
    source: &mut dyn Source,
    trusted: &[Checkpoint],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Ledger, Manifest), Error> {
    let genesis = Genesis::from_bytes(genesis_bytes)?;
    let held = lock(dir)?;
    let work = dir.join(WORK);
    if work.join(DONE).exists() {
        // Verified by a restore that was killed while it moved things.
        let manifest = Manifest::from_bytes(&fs::read(work.join(DONE)).on("read", &work)?)?;
        settle(dir)?;
        drop(held);
        let ledger = Ledger::open(dir, genesis_bytes, options)?;
        // What is trusted now, not what was trusted then.
        for checkpoint in trusted {
            let size = check_trusted(checkpoint, &manifest)?;
            same_root(checkpoint, ledger.root_at(size)?)?;
        }
        return Ok((ledger, manifest));
    }
    check_empty(dir)?;
    if work.exists() {
        fs::remove_dir_all(&work).on("empty", &work)?;
    }
    make_dir(&work)?;
    let manifest = bring(&work, &genesis, options, source, trusted, progress)?;
    sync_dir(&work)?;
    write_whole(&work.join(DONE), &manifest.to_bytes())?;
    settle(dir)?;
    drop(held);
    let ledger = Ledger::open(dir, genesis_bytes, options)?;
    Ok((ledger, manifest))
}

/// Whether a ledger may begin below `dir` at a snapshot: where there is none, and where a restore was killed.
///
/// # Errors
/// [`Error::NoSnapshot`] with what is there.
pub fn check_empty(dir: &Path) -> Result<(), Error> {
    if dir.join(WORK).join(DONE).exists() {
        return Ok(());
    }
    match PARTS.map(|part| dir.join(part)).iter().find(|p| p.exists()) {
        None => Ok(()),
        Some(there) => Err(Error::NoSnapshot {
            reason: format!(
                "{} is there: this node has a ledger; to begin it anew, move its folders tiles, state and blocks away",
                there.display()
            ),
        }),
    }
}

/// Puts a restored snapshot into place that is verified; refuses one that is not.
pub(crate) fn settle(dir: &Path) -> Result<(), Error> {
    let work = dir.join(WORK);
    if !work.exists() {
        return Ok(());
    }
    if !work.join(DONE).exists() {
        let nothing = fs::read_dir(&work).on("read", &work)?.next().is_none();
        if nothing && PARTS.iter().all(|part| dir.join(part).exists()) {
            // Killed at its very end.
            return fs::remove_dir(&work).on("remove", &work);
        }
        return Err(Error::Unfinished { path: work });
    }
    for part in PARTS {
        let (from, to) = (work.join(part), dir.join(part));
        // One that is not there was moved before.
        if from.exists() {
            fs::rename(&from, &to).on("rename", &from)?;
        }
    }
    sync_dir(dir)?;
    fs::remove_dir_all(&work).on("remove", &work)?;
    sync_dir(dir)
}

/// Fetches, verifies and writes everything below `work`.
fn bring(
    work: &Path,
    genesis: &Genesis,
    options: Options,
    source: &mut dyn Source,
    trusted: &[Checkpoint],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest, Error> {
    let mut fetch = |name: &str, max: usize| {
        source
            .fetch(name, max)
            .map_err(|reason| refused(name, reason))
    };
    let manifest = Manifest::from_bytes(&fetch(MANIFEST, MAX_FILE_BYTES)?)?;
    manifest.check_counts()?;
    let (mut done, total) = (0, manifest.total_bytes());
    let mut file = |name: &str, sum: &FileSum| -> Result<Vec<u8>, Error> {
        let bytes = fetch(name, sum.bytes as usize)?;
        sum.verify(name, &bytes)?;
        done += u64::from(sum.bytes);
        progress(done, total);
        Ok(bytes)
    };
    // Who decided it comes first: of a snapshot that nobody signed not more than two files are fetched.
    let trail = trail_from_bytes(&file(TRAIL, &manifest.trail)?)
        .map_err(|e| refused(TRAIL, e.to_string()))?;
    let validators = manifest.verify(genesis, &trail)?;

    let head = manifest.head();
    let edge = read_edge(&file(EDGE, &manifest.edge)?, head.tree_size, &manifest)?;
    let tiles = work.join("tiles");
    make_dir(&tiles)?;
    bring_tiles(&tiles, &manifest, &mut file)?;
    let partial = if head.tree_size.is_multiple_of(WIDTH) {
        let path = TilePath::new(TileKind::Entries, head.tree_size / WIDTH - 1, TILE_WIDTH)?;
        write_whole(&tiles.join(path.to_string()), &encode_bundle(&edge)?)?;
        Vec::new()
    } else {
        edge.clone()
    };
    let tree = Tiles::open(&tiles, head.tree_size, partial)?;
    let root = frontier_at(&tree.reading(), head.tree_size)?.root();
    if root != head.tree_root {
        let why = format!(
            "they and the edge give root {root}, expected {}",
            head.tree_root
        );
        return Err(refused("tiles", why));
    }
    check_edge(&tree, &edge, head.tree_size)?;
    for checkpoint in trusted {
        let size = check_trusted(checkpoint, &manifest)?;
        same_root(checkpoint, tally_merkle::root_at(&tree.reading(), size)?)?;
    }

    let kv = Arc::new(FjallKv::open(&work.join("state"), options.cache_bytes)?);
    let store = Store::new(kv);
    for (i, sum) in manifest.state.iter().enumerate() {
        let name = file_name("state", i);
        let pairs =
            pairs_from_bytes(&file(&name, sum)?).map_err(|e| refused(&name, e.to_string()))?;
        store.import(pairs)?;
    }
    // Of what was stored, not of what came: this is what the node will work with.
    let tree = tree_dir(&work.join("state"));
    let sizes = Sizes::of_cache(options.cache_bytes);
    let root = StateTreeStore::make(&tree, sizes, &store, head.height)?.root();
    if root != head.state_root {
        let why = format!("they give state root {root}, expected {}", head.state_root);
        return Err(refused("state", why));
    }
    let found = tally_contracts::state::validators(&store.state)?;
    if found.to_bytes() != validators.to_bytes() {
        return Err(refused(
            TRAIL,
            "the validators of the state are not those that it leads to",
        ));
    }
    store.begin_at(&genesis.network_id(), &head, &trail)?;
    let blocks = work.join("blocks");
    make_dir(&blocks)?;
    Base {
        height: head.height,
        segment: 1,
        tree_size: head.tree_size,
        edge,
    }
    .store(&blocks)?;
    Ok(manifest)
}

/// The entries of the last bundle; the last one is the BlockInfo of the state.
fn read_edge(bytes: &[u8], tree_size: u64, manifest: &Manifest) -> Result<Vec<Vec<u8>>, Error> {
    let width = tree_size
        .checked_sub(Base::edge_from(tree_size))
        .and_then(|w| u16::try_from(w).ok())
        .filter(|w| *w > 0)
        .ok_or_else(|| refused(MANIFEST, "an empty tree"))?;
    let entries = decode_bundle(bytes, width).map_err(|e| refused(EDGE, e.to_string()))?;
    let entries: Vec<Vec<u8>> = entries.into_iter().map(<[u8]>::to_vec).collect();
    let info = entries
        .last()
        .and_then(|e| tally_contracts::block::BlockInfo::from_bytes(e).ok())
        .ok_or_else(|| refused(EDGE, "its last entry is no BlockInfo"))?;
    if info.state_root != manifest.header.state_root {
        let why = format!(
            "its last entry has state root {}, the block {}",
            info.state_root, manifest.header.state_root
        );
        return Err(refused(EDGE, why));
    }
    Ok(entries)
}

/// That the edge's entries are the tree's, also where a full tile stands in its place.
fn check_edge(tree: &Tiles, edge: &[Vec<u8>], tree_size: u64) -> Result<(), Error> {
    if !tree_size.is_multiple_of(WIDTH) {
        // They made the tree's right edge, so its root has judged them.
        return Ok(());
    }
    let tile = tree.bytes(TileKind::Hashes(0), tree_size / WIDTH - 1, TILE_WIDTH)?;
    let leaves = decode_hashes(&tile, TILE_WIDTH)?;
    if edge.iter().map(|e| leaf_hash(e)).eq(leaves) {
        Ok(())
    } else {
        Err(refused(EDGE, "its entries are not those of the tree"))
    }
}

/// That a checkpoint is of the snapshot's network and not beyond it; gives its size.
fn check_trusted(trusted: &Checkpoint, manifest: &Manifest) -> Result<u64, Error> {
    let origin = crate::checkpoints::origin(&manifest.network);
    let size = manifest.header.tree_size;
    let wrong = |why: String| Err(refused(TRUSTED, why));
    if trusted.origin != origin {
        return wrong(format!(
            "its origin is {}, expected {origin}",
            trusted.origin
        ));
    }
    if trusted.size > size || trusted.size == 0 {
        return wrong(format!(
            "it is of {} entries and the snapshot of {size}: take a snapshot that is newer than it",
            trusted.size
        ));
    }
    Ok(trusted.size)
}

/// That a checkpoint's root is that of the snapshot's history at its size.
fn same_root(trusted: &Checkpoint, root: Hash) -> Result<(), Error> {
    if root == trusted.root {
        return Ok(());
    }
    let why = format!(
        "it has root {}, the snapshot's history {root}: these are two histories; ask the members who signed both",
        trusted.root
    );
    Err(refused(TRUSTED, why))
}

/// Writes the full tiles, each judged by the tile above it; the topmost by the root, later.
fn bring_tiles(dir: &Path, manifest: &Manifest, file: Fetch<'_>) -> Result<(), Error> {
    const TILE_BYTES: usize = TILE_WIDTH as usize * 32;
    let mut wanted = full_tiles(manifest.header.tree_size)
        .flat_map(|(level, n)| (0..n).map(move |i| (level, i)));
    let (mut level_now, mut below, mut roots) = (0, Vec::<Hash>::new(), Vec::<Hash>::new());
    for (i, sum) in manifest.tiles.iter().enumerate() {
        let name = file_name("tiles", i);
        let bytes = file(&name, sum)?;
        let mut files = Vec::with_capacity(TILES_A_FILE);
        let (tiles, rest) = bytes.as_chunks::<TILE_BYTES>();
        if !rest.is_empty() || tiles.len() > TILES_A_FILE {
            return Err(refused(&name, "not a whole number of tiles"));
        }
        for tile in tiles {
            let (level, index) = wanted
                .next()
                .ok_or_else(|| refused(&name, "more tiles than the tree has"))?;
            if level != level_now {
                level_now = level;
                below = std::mem::take(&mut roots);
            }
            let hashes = decode_hashes(tile, TILE_WIDTH)?;
            if level > 0 {
                let from = usize::try_from(index * WIDTH).unwrap_or(usize::MAX);
                let expected = below.get(from..from.saturating_add(hashes.len()));
                if expected != Some(hashes.as_slice()) {
                    let why = format!("tile {index} of level {level} is not of those below it");
                    return Err(refused(&name, why));
                }
            }
            roots.push(root_of(&hashes));
            let path = TilePath::new(TileKind::Hashes(level), index, TILE_WIDTH)?;
            files.push((dir.join(path.to_string()), tile.to_vec()));
        }
        write_all_whole(&files)?;
    }
    match wanted.next() {
        None => Ok(()),
        Some((level, index)) => Err(refused(
            "tiles",
            format!("tile {index} of level {level} is missing"),
        )),
    }
}
