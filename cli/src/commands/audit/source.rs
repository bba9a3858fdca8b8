//! Where an auditor reads a ledger from: the tiles of a running node over HTTP, or a folder that somebody wrote. Everything that
//! comes is bounded before it is taken, and nothing of it is believed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tally_merkle::note::MAX_NOTE_BYTES;
use tally_merkle::tile::{
    MAX_ENTRY_BYTES, TILE_WIDTH, TileKind, TileReader, TileTree, decode_bundle, decode_hashes,
    width_at,
};
use tally_merkle::{
    Checkpoint, Hash, Note, TilePath, consistency_proof, inclusion_proof, root_at,
    verify_consistency, verify_inclusion,
};
use tally_node::files::read_bounded;

use crate::exit::{Exit, Failure};
use crate::http::{Getter, Target};

/// The longest entry bundle: each entry with its length.
const MAX_BUNDLE_BYTES: usize = TILE_WIDTH as usize * (MAX_ENTRY_BYTES + 2);
/// Tiles that are kept: 8 MiB.
const MAX_TILES: usize = 1024;

/// Reads files of a ledger by their path.
enum Files {
    Folder(PathBuf),
    Http(Box<Getter>),
}

/// Hash tiles by level and index.
type Kept = HashMap<(u8, u64), Arc<[Hash]>>;

/// A ledger in C2SP tlog-tiles form.
pub(super) struct Source {
    name: String,
    files: RefCell<Files>,
    tiles: RefCell<Kept>,
}

/// A source's checkpoint, as it came.
pub(super) struct Signed {
    pub(super) note: Note,
    pub(super) checkpoint: Checkpoint,
}

impl Source {
    /// A URL or a folder; nothing is read yet.
    pub(super) fn open(from: &str, timeout: Duration) -> Result<Self> {
        let files = if from.contains("://") {
            Files::Http(Box::new(Getter::new(Target::parse(from)?, timeout)?))
        } else {
            let dir = PathBuf::from(from);
            if !dir.is_dir() {
                let failure = Failure::new(
                    Exit::Failed,
                    "source",
                    format!("{from} is neither a URL nor a folder"),
                );
                return Err(failure
                    .next("give a node's URL, or a folder of `tally export tiles`")
                    .into());
            }
            Files::Folder(dir)
        };
        Ok(Self {
            name: from.to_owned(),
            files: RefCell::new(files),
            tiles: RefCell::default(),
        })
    }

    /// What it is called on the command line.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, path: &str, max: usize) -> Result<Vec<u8>> {
        match &mut *self.files.borrow_mut() {
            Files::Folder(dir) => Ok(read_bounded(&dir.join(path), max)?),
            Files::Http(getter) => getter.get(path, max),
        }
        .with_context(|| format!("{} could not be read from {}", path, self.name))
    }

    /// The newest checkpoint. Its signatures are not looked at here.
    pub(super) fn checkpoint(&self) -> Result<Signed> {
        let bytes = self.read("checkpoint", MAX_NOTE_BYTES)?;
        let wrong = |why: String| {
            Failure::new(
                Exit::NotVerified,
                "checkpoint",
                format!("the checkpoint of {} is none: {why}", self.name),
            )
        };
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".into()))?;
        let note = Note::parse(&text).map_err(|e| wrong(e.to_string()))?;
        let checkpoint: Checkpoint = note.text().parse().map_err(|e| wrong(format!("{e}")))?;
        if checkpoint.size == 0 {
            return Err(wrong("its tree is empty".into()).into());
        }
        Ok(Signed { note, checkpoint })
    }

    /// The entries of bundle `index` in a tree of `size`.
    pub(super) fn bundle(&self, index: u64, size: u64) -> Result<Vec<Vec<u8>>> {
        let width = width_at(TileKind::Entries, index, size);
        let path = TilePath::new(TileKind::Entries, index, width)?;
        let bytes = self.read(&path.to_string(), MAX_BUNDLE_BYTES)?;
        let entries = decode_bundle(&bytes, width).map_err(|e| self.damaged(&path, &e))?;
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// One entry of a tree of `size`.
    pub(super) fn entry(&self, index: u64, size: u64) -> Result<Vec<u8>> {
        let width = u64::from(TILE_WIDTH);
        let at = usize::try_from(index % width)?;
        self.bundle(index / width, size)?
            .into_iter()
            .nth(at)
            .ok_or_else(|| anyhow!("{} has no entry {index}", self.name))
    }

    fn damaged(&self, path: &TilePath, error: &tally_merkle::Error) -> Failure {
        Failure::new(
            Exit::NotVerified,
            "tile",
            format!("{path} of {} is not of its form: {error}", self.name),
        )
    }

    /// The tree of a checkpoint.
    pub(super) fn tree(&self, checkpoint: &Checkpoint) -> Tree<'_> {
        Tree {
            source: self,
            size: checkpoint.size,
            root: checkpoint.root,
        }
    }
}

/// A source's tree under one checkpoint: what it gives is proven against the checkpoint's root.
pub(super) struct Tree<'a> {
    source: &'a Source,
    pub(super) size: u64,
    pub(super) root: Hash,
}

struct Tiles<'a>(&'a Tree<'a>);

impl TileReader for Tiles<'_> {
    type Error = anyhow::Error;

    fn tile(&self, level: u8, index: u64) -> Result<Arc<[Hash]>> {
        let source = self.0.source;
        if let Some(tile) = source.tiles.borrow().get(&(level, index)) {
            return Ok(tile.clone());
        }
        let kind = TileKind::Hashes(level);
        let width = width_at(kind, index, self.0.size);
        let path = TilePath::new(kind, index, width)?;
        let bytes = source.read(&path.to_string(), usize::from(TILE_WIDTH) * 32)?;
        let hashes = decode_hashes(&bytes, width).map_err(|e| source.damaged(&path, &e))?;
        let tile: Arc<[Hash]> = hashes.into();
        let mut tiles = source.tiles.borrow_mut();
        if tiles.len() >= MAX_TILES {
            tiles.clear();
        }
        tiles.insert((level, index), tile.clone());
        Ok(tile)
    }
}

impl Tree<'_> {
    fn unfit(&self, error: &tally_merkle::Error) -> Failure {
        Failure::new(
            Exit::NotVerified,
            "tiles",
            format!(
                "the tiles of {} do not lead to its checkpoint: {error}",
                self.source.name
            ),
        )
    }

    /// The root of the first `size` entries, proven consistent with the checkpoint.
    pub(super) fn root_at(&self, size: u64) -> Result<Hash> {
        let tiles = TileTree(Tiles(self));
        let root = root_at(&tiles, size)?;
        if size == self.size {
            if root != self.root {
                let error = tally_merkle::Error::Root { what: "tiles" };
                return Err(self.unfit(&error).into());
            }
            return Ok(root);
        }
        let proof = consistency_proof(&tiles, size, self.size)?;
        verify_consistency(size, self.size, &root, &self.root, &proof)
            .map_err(|e| self.unfit(&e))?;
        Ok(root)
    }

    /// Entry `index`, proven to stand under the checkpoint.
    pub(super) fn entry(&self, index: u64) -> Result<Vec<u8>> {
        let entry = self.source.entry(index, self.size)?;
        self.holds(index, &entry)?;
        Ok(entry)
    }

    /// Proves that an entry stands under the checkpoint.
    pub(super) fn holds(&self, index: u64, entry: &[u8]) -> Result<()> {
        let proof = inclusion_proof(&TileTree(Tiles(self)), index, self.size)?;
        let leaf = tally_merkle::leaf_hash(entry);
        verify_inclusion(&leaf, index, self.size, &proof, &self.root)
            .map_err(|e| self.unfit(&e))?;
        Ok(())
    }
}

/// Bundles of a tree read ahead by a thread of its own, a few at a time, so that reading and carrying out go on together.
pub(super) struct Ahead {
    bundles: std::sync::mpsc::Receiver<Result<Vec<Vec<u8>>>>,
}

impl Ahead {
    /// Bundles that wait at most; each has at most 256 entries.
    const WAITING: usize = 8;

    /// Reads all bundles of the tree of `size` entries of a source named `from`.
    pub(super) fn start(from: &str, timeout: Duration, size: u64) -> Self {
        let (send, bundles) = std::sync::mpsc::sync_channel(Self::WAITING);
        let from = from.to_owned();
        std::thread::spawn(move || {
            let source = match Source::open(&from, timeout) {
                Ok(source) => source,
                Err(e) => {
                    let _ = send.send(Err(e));
                    return;
                }
            };
            for index in 0..size.div_ceil(u64::from(TILE_WIDTH)) {
                let bundle = source.bundle(index, size);
                let failed = bundle.is_err();
                // The other end is gone once a difference is found.
                if send.send(bundle).is_err() || failed {
                    return;
                }
            }
        });
        Self { bundles }
    }
}

impl Iterator for Ahead {
    type Item = Result<Vec<Vec<u8>>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.bundles.recv().ok()
    }
}
