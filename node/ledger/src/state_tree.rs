//! The state tree on disk. Pages are appended to files, one frame a block, and never changed; the directory says where the newest of each
//! lies. Pages that are still wanted are moved out of old files, which are then removed.
//!
//! A frame is a u32 length, the CRC-32C of the body, and the body: version, height of its block, then pages: place, u16 number of leaves,
//! and of each leaf key hash and value hash. A page without leaves is one that is no more. The directory names a place in the files; a start
//! reads it and the frames from there on. Frames after the head of the state store are cut off: their block is carried out again. So a
//! kill at any moment costs nothing. If files or directory are not those of the head, as after a loss of power that the frames did
//! not survive, the tree is made anew from the state.

mod directory;
mod files;
mod leaves;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use tally_contracts::state::StateError;
use tally_contracts::tree::{PagePlace, PageRead, PagedTree, TreeChange};
use tally_contracts::{Effects, StateProof};
use tally_merkle::Hash;

use self::directory::Directory;
use self::files::{Cleaning, Files, entry_bytes};
use self::leaves::Gathered;
use crate::error::Error;
use crate::files::make_dir;
use crate::store::{Head, Store};

/// Bytes that a leaf takes in memory among those used last, with what stands around it.
const LEAF_MEMORY: u64 = 128;

/// How the files are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Memory for pages that were used last, in bytes.
    pub(crate) cache_bytes: u64,
    /// Size past which a new file is begun; files hold at most this much more than twice what is wanted.
    pub(crate) file_bytes: u64,
}

impl Sizes {
    /// The tree's part of the memory that the state store may use.
    pub(crate) const fn of_cache(cache_bytes: u64) -> Self {
        Self {
            cache_bytes: cache_bytes / 4,
            file_bytes: 64 << 20,
        }
    }

    fn cached_leaves(&self) -> usize {
        usize::try_from(self.cache_bytes / LEAF_MEMORY).unwrap_or(usize::MAX)
    }
}

/// The tree of the state in the store.
pub(crate) struct StateTreeStore {
    dir: PathBuf,
    tree: PagedTree,
    files: Files,
    cleaning: Option<Cleaning>,
}

impl PageRead for Files {
    fn leaves(&self, place: &PagePlace, at: u64) -> Result<Vec<(Hash, Hash)>, StateError> {
        self.read(place, at).map_err(|e| StateError::Store {
            message: e.to_string(),
        })
    }
}

impl StateTreeStore {
    /// Opens the tree in `dir`, or makes it anew if the one there is not that of the store's head.
    pub(crate) fn open(
        dir: &Path,
        sizes: Sizes,
        store: &Store,
        head: &Head,
    ) -> Result<Self, Error> {
        make_dir(dir)?;
        match Self::load(dir, sizes, head)? {
            Ok(found) => return Ok(found),
            Err(reason) => tracing::info!(reason, "the state tree is made from the state"),
        }
        let made = Self::make(dir, sizes, store, head.height)?;
        if made.root() != head.state_root {
            return Err(Error::damaged_index(
                dir.parent().unwrap_or(dir),
                "the state does not give its root",
            ));
        }
        Ok(made)
    }

    /// The tree that files and directory give at a head, or why they do not.
    fn load(dir: &Path, sizes: Sizes, head: &Head) -> Result<Result<Self, String>, Error> {
        let directory = match Directory::read(dir)? {
            Ok(directory) => directory,
            Err(reason) => return Ok(Err(reason)),
        };
        if directory.height > head.height {
            return Ok(Err("its directory is of a later block".into()));
        }
        let (mut files, newer) = match Files::open(dir, sizes.file_bytes, &directory, head.height)?
        {
            Ok(opened) => opened,
            Err(reason) => return Ok(Err(reason)),
        };
        let older = directory.pages().filter(|row| match row {
            Ok((place, _)) => !newer.contains_key(place),
            Err(_) => true,
        });
        let newer = newer.iter();
        let newer = newer.filter_map(|(place, page)| page.map(|page| Ok((*place, page))));
        let Ok(tree) = PagedTree::from_pages(sizes.cached_leaves(), older.chain(newer)) else {
            return Ok(Err("its pages are not those of one tree".into()));
        };
        if tree.root() != head.state_root {
            return Ok(Err("it does not give the state root".into()));
        }
        let counted = tree.each_page(&mut |place, page| {
            files.count(page.at(), entry_bytes(&place, page.count()))
        });
        if let Err(reason) = counted {
            return Ok(Err(reason));
        }
        Ok(Ok(Self {
            dir: dir.to_owned(),
            tree,
            files,
            cleaning: None,
        }))
    }

    /// Makes the tree anew from the state, whatever is in `dir`. O(n) reads and hashes; memory for a 256th of the leaves beside the
    /// tree's own.
    pub(crate) fn make(
        dir: &Path,
        sizes: Sizes,
        store: &Store,
        height: u64,
    ) -> Result<Self, Error> {
        make_dir(dir)?;
        Directory::remove(dir)?;
        let mut files = Files::anew(dir, sizes.file_bytes)?;
        let mut leaves = Gathered::begin(&dir.join("gathered"))?;
        for pair in store.state.pairs() {
            let (key, value) = pair?;
            leaves.add(&key, &value)?;
        }
        let failed = |e: Error| StateError::Store {
            message: e.to_string(),
        };
        let mut frame = files.begin_frame(height)?;
        let tree = PagedTree::build(
            sizes.cached_leaves(),
            &mut |first| leaves.take(first).map_err(failed),
            &mut |place, leaves| {
                if frame.is_long() {
                    files.end_frame(&mut frame).map_err(failed)?;
                }
                let leaves = leaves.iter().map(|l| (*l.key(), *l.value()));
                Ok(frame.put(place, leaves))
            },
        )?;
        files.end_frame(&mut frame)?;
        leaves.end()?;
        tree.each_page(&mut |place, page| {
            files.count(page.at(), entry_bytes(&place, page.count()))
        })
        .map_err(|_| Error::Internal("a page of the state tree in no file"))?;
        let mut made = Self {
            dir: dir.to_owned(),
            tree,
            files,
            cleaning: None,
        };
        made.write_directory(store, height)?;
        Ok(made)
    }

    pub(crate) fn root(&self) -> Hash {
        self.tree.root()
    }

    /// What writes would make of the tree.
    pub(crate) fn change(&self, effects: &Effects) -> Result<TreeChange, StateError> {
        self.tree.change(effects, &self.files)
    }

    pub(crate) fn prove(&self, key: &[u8]) -> Result<StateProof, StateError> {
        self.tree.prove(key, &self.files)
    }

    /// A proof in the tree with a change.
    pub(crate) fn prove_with(
        &self,
        change: &TreeChange,
        key: &[u8],
    ) -> Result<StateProof, StateError> {
        self.tree.prove_with(change, key, &self.files)
    }

    /// Writes the pages of a change, before the state store hears of its block; gives their places for [`Self::apply`].
    pub(crate) fn write(&mut self, height: u64, change: &TreeChange) -> Result<Vec<u64>, Error> {
        let mut frame = self.files.begin_frame(height)?;
        let places = change
            .pages()
            .map(|(place, leaves)| frame.put(place, leaves.iter().map(|l| (*l.key(), *l.value()))))
            .collect();
        self.files.end_frame(&mut frame)?;
        Ok(places)
    }

    /// Carries out a change whose pages and state were written.
    pub(crate) fn apply(&mut self, change: &TreeChange, places: &[u64]) -> Result<(), Error> {
        for ((place, leaves), at) in change.pages().zip(places) {
            if let Some(old) = self.tree.page_at(place) {
                self.files
                    .discount(old.at(), entry_bytes(place, old.count()));
            }
            if !leaves.is_empty() {
                self.files
                    .count(*at, entry_bytes(place, leaves.len()))
                    .map_err(|_| Error::Internal("a page of the state tree in no file"))?;
            }
        }
        self.tree
            .apply(change, places)
            .map_err(|_| Error::Internal("a change of another state tree"))
    }

    /// Moves some wanted pages out of old files and writes the directory, where it is time for either.
    pub(crate) fn tidy(&mut self, store: &Store, height: u64) -> Result<(), Error> {
        if self.cleaning.is_none() {
            self.cleaning = self.files.begin_cleaning();
        }
        if let Some(mut cleaning) = self.cleaning.take() {
            let mut frame = self.files.begin_frame(height)?;
            let mut moved = Vec::new();
            let more = self.files.clean(&mut cleaning, &mut |place, leaves, at| {
                if self.tree.page_at(&place).is_some_and(|p| p.at() == at) {
                    let bytes = entry_bytes(&place, leaves.len());
                    moved.push((place, at, frame.put(&place, leaves.iter().copied()), bytes));
                }
            })?;
            self.files.end_frame(&mut frame)?;
            for (place, from, to, bytes) in moved {
                self.files.discount(from, bytes);
                self.files
                    .count(to, bytes)
                    .map_err(|_| Error::Internal("a page of the state tree in no file"))?;
                self.tree.move_page(&place, to);
            }
            if more {
                self.cleaning = Some(cleaning);
            } else {
                self.files.retire(&cleaning);
            }
        }
        self.files.tidied();
        if self.files.wants_directory() {
            self.write_directory(store, height)?;
        }
        Ok(())
    }

    /// Writes where each page lies, of a block that the state store will not lose; then files that nobody wants may go.
    fn write_directory(&mut self, store: &Store, height: u64) -> Result<(), Error> {
        self.files.sync()?;
        store.flush()?;
        Directory::write(&self.dir, height, self.files.end(), &self.tree)?;
        self.files.directory_written()
    }

    /// Leaves in the tree.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.tree.len()
    }
}
