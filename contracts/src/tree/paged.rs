//! The state tree of a ledger whose state does not fit into memory: the same root and the same proofs as [`super::StateTree`].
//!
//! What lies below a place with few leaves is a page. The leaves of pages are in somebody's store; in memory are one hash a page, what
//! is above, and the pages that were used last. Nothing here writes: a [`TreeChange`] has the pages to write, and is applied once they
//! are written.

mod planner;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_merkle::Hash;

use self::planner::Planner;
use super::pages::{LeafCache, Page, PagePlace};
use super::{EMPTY, Part, Ref, Slab, StateProof, Terminal, bit, hashed, key_hash, leaf};
use crate::error::Error;
use crate::state::StateError;

/// The most leaves of a page; one with more becomes two.
pub const PAGE_LEAVES: usize = 16;
/// Two pages beside each other with no more leaves than this together become one.
const MERGED_LEAVES: usize = 5;
/// A tree that is built anew is given its leaves by the first byte of their key hashes.
const BUILD_DEPTH: u8 = 8;

/// Reads pages.
pub trait PageRead {
    /// The leaves of the page at a place, as they were written, key hash and value hash. `at` is what writing it gave.
    ///
    /// # Errors
    /// [`StateError::Store`] if the store cannot answer.
    fn leaves(&self, place: &PagePlace, at: u64) -> Result<Vec<(Hash, Hash)>, StateError>;
}

/// Gives the leaves, key hash and value hash in any order, whose key hashes start with a byte.
pub type LeavesOf<'a> = &'a mut dyn FnMut(u8) -> Result<Vec<(Hash, Hash)>, StateError>;

/// Writes the page at a place, or removes it if there are no leaves, and says where it lies.
pub type PageWrite<'a> = &'a mut dyn FnMut(&PagePlace, &[Leaf]) -> Result<u64, StateError>;

/// A leaf with its hash.
#[derive(Debug, Clone, Copy)]
pub struct Leaf {
    key: Hash,
    value: Hash,
    hash: Hash,
}

impl Leaf {
    pub(super) fn new(key: Hash, value: Hash) -> Self {
        Self {
            key,
            value,
            hash: leaf(&key, &value),
        }
    }

    /// Hash of the key.
    #[must_use]
    pub const fn key(&self) -> &Hash {
        &self.key
    }

    /// Hash of the value.
    #[must_use]
    pub const fn value(&self) -> &Hash {
        &self.value
    }
}

type Leaves = Arc<[Leaf]>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Inner {
    hash: Hash,
    left: Ref,
    right: Ref,
}

impl Inner {
    const fn child(&self, right: bool) -> Ref {
        if right { self.right } else { self.left }
    }
}

/// A part of the tree after a change.
#[derive(Debug, Clone, Copy)]
enum At<'a> {
    Kept(Ref),
    New(&'a Draft),
}

/// What a change makes of a part of the tree.
#[derive(Debug)]
enum Draft {
    /// It stays; or, if the place is none, nothing is there any more.
    Kept(Ref),
    Page(Page),
    Inner(Hash, Box<(Draft, Draft)>),
}

/// What writes make of a tree, not carried out yet.
#[derive(Debug)]
pub struct TreeChange {
    before: Hash,
    root: Hash,
    /// The leaves of each page; none of one that is no more.
    pages: BTreeMap<PagePlace, Leaves>,
    draft: Draft,
}

impl TreeChange {
    /// The root with the writes.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.root
    }

    /// The pages to write, with their leaves; without any it is to be removed.
    pub fn pages(&self) -> impl Iterator<Item = (&PagePlace, &[Leaf])> {
        self.pages.iter().map(|(place, leaves)| (place, &**leaves))
    }
}

/// The state tree with its pages in a store: about 16 bytes of memory a leaf, and the leaves that were used
/// last.
pub struct PagedTree {
    root: Ref,
    pub(super) inners: Slab<Inner>,
    pub(super) pages: Slab<Page>,
    used: Mutex<LeafCache<Leaves>>,
}

impl PagedTree {
    /// An empty tree that keeps at most about `cached_leaves` leaves of 96 bytes in memory.
    #[must_use]
    pub fn new(cached_leaves: usize) -> Self {
        Self {
            root: Ref::NONE,
            inners: Slab::new(),
            pages: Slab::new(),
            used: Mutex::new(LeafCache::new(cached_leaves)),
        }
    }

    /// The tree whose pages were stored. O(pages) hashes.
    ///
    /// # Errors
    /// [`Error::Internal`] if they are not the pages of one tree.
    pub fn from_pages<E: From<Error>>(
        cached_leaves: usize,
        pages: impl IntoIterator<Item = Result<(PagePlace, Page), E>>,
    ) -> Result<Self, E> {
        let mut tree = Self::new(cached_leaves);
        for row in pages {
            let (place, page) = row?;
            tree.put(&place, page)?;
        }
        tree.rehash(tree.root)?;
        tree.inners.items.shrink_to_fit();
        tree.pages.items.shrink_to_fit();
        Ok(tree)
    }

    fn put(&mut self, place: &PagePlace, page: Page) -> Result<(), Error> {
        const BAD: Error = Error::Internal {
            what: "two pages of the state tree for one place",
        };
        let new = Ref(self.pages.put(page)?);
        let mut parent: Option<(u32, bool)> = None;
        for depth in 0..=place.depth() {
            let at = match parent {
                None => self.root,
                Some((i, right)) => {
                    let inner = self.inners.items.get(i as usize);
                    inner.map_or(Ref::NONE, |inner| inner.child(right))
                }
            };
            let below = if depth == place.depth() {
                if at != Ref::NONE {
                    return Err(BAD);
                }
                new
            } else if at == Ref::NONE {
                Ref(self.inners.put(Inner {
                    hash: EMPTY,
                    left: Ref::NONE,
                    right: Ref::NONE,
                })? | Ref::INNER)
            } else if at.0 & Ref::INNER == 0 {
                return Err(BAD);
            } else {
                at
            };
            match parent {
                None => self.root = below,
                Some((i, right)) => {
                    if let Some(inner) = self.inners.items.get_mut(i as usize) {
                        *(if right {
                            &mut inner.right
                        } else {
                            &mut inner.left
                        }) = below;
                    }
                }
            }
            parent = Some((below.0 & !Ref::INNER, bit(place.first(), depth.into())));
        }
        Ok(())
    }

    /// Fills in the hashes of a part of the tree whose pages have theirs.
    fn rehash(&mut self, at: Ref) -> Result<(), Error> {
        let Some(inner) = self.inner(at).copied() else {
            return Ok(());
        };
        self.rehash(inner.left)?;
        self.rehash(inner.right)?;
        let Part::Inner(hash) = Part::join(self.part(inner.left), self.part(inner.right)) else {
            return Err(Error::Internal {
                what: "a page of the state tree below its place",
            });
        };
        if let Some(inner) = self.inners.items.get_mut((at.0 & !Ref::INNER) as usize) {
            inner.hash = hash;
        }
        Ok(())
    }

    /// The tree of all leaves given, its pages written; the order of bits is that of the bytes asked for. O(n) hashes.
    ///
    /// # Errors
    /// Those of `leaves` and `write`; [`StateError::Tree`] if a leaf is given for another byte than its own.
    pub fn build(
        cached_leaves: usize,
        leaves: LeavesOf<'_>,
        write: PageWrite<'_>,
    ) -> Result<Self, StateError> {
        let mut tree = Self::new(cached_leaves);
        let mut planner = Planner {
            tree: &tree,
            rows: None,
            pages: BTreeMap::new(),
            write: Some(write),
        };
        let draft = planner.built(PagePlace::WHOLE, leaves)?;
        let change = planner.change(draft);
        tree.apply(&change, &[]).map_err(|e| StateError::Store {
            message: e.to_string(),
        })?;
        Ok(tree)
    }

    /// What stands at a place, if it is no part of a page.
    fn at(&self, place: &PagePlace) -> Option<Ref> {
        (0..place.depth().into()).try_fold(self.root, |at, depth| {
            Some(self.inner(at)?.child(bit(place.first(), depth)))
        })
    }

    /// The page that a place has now, if there is one just there.
    #[must_use]
    pub fn page_at(&self, place: &PagePlace) -> Option<&Page> {
        self.page(self.at(place)?)
    }

    /// Says where a page lies now; nothing if there is none just there.
    pub fn move_page(&mut self, place: &PagePlace, to: u64) {
        let page = self.at(place).and_then(Ref::as_outer);
        if let Some(page) = page.and_then(|i| self.pages.items.get_mut(i as usize)) {
            page.set_at(to);
        }
    }

    /// Hands over each page with its place, ascending.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn each_page<E>(
        &self,
        give: &mut dyn FnMut(PagePlace, &Page) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_below(self.root, PagePlace::WHOLE, give)
    }

    fn each_below<E>(
        &self,
        at: Ref,
        place: PagePlace,
        give: &mut dyn FnMut(PagePlace, &Page) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(inner) = self.inner(at) {
            self.each_below(inner.left, place.child(false), give)?;
            return self.each_below(inner.right, place.child(true), give);
        }
        self.page(at).map_or(Ok(()), |page| give(place, page))
    }

    /// How many leaves there are. O(pages).
    #[must_use]
    pub fn len(&self) -> usize {
        self.count(self.root)
    }

    fn count(&self, at: Ref) -> usize {
        match self.inner(at) {
            Some(inner) => self.count(inner.left) + self.count(inner.right),
            None => self.page(at).map_or(0, Page::count),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root == Ref::NONE
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.part(self.root).hash()
    }

    /// What writes would make of the tree. Changes nothing. O(w log n) hashes; reads the pages that are written to.
    ///
    /// # Errors
    /// Those of `rows`; [`StateError::Tree`] if it gives other leaves than were written.
    pub fn change(
        &self,
        writes: &[(Vec<u8>, Option<Vec<u8>>)],
        rows: &dyn PageRead,
    ) -> Result<TreeChange, StateError> {
        let writes = hashed(writes);
        let mut planner = Planner {
            tree: self,
            rows: Some(rows),
            pages: BTreeMap::new(),
            write: None,
        };
        let draft = planner.after(self.root, PagePlace::WHOLE, &writes)?;
        Ok(planner.change(draft))
    }

    /// Carries out a change whose pages were written; `at` says where each lies, in their order.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is one of another tree, or beyond two thousand million pages; the tree is of no more use after the
    /// latter.
    pub fn apply(&mut self, change: &TreeChange, at: &[u64]) -> Result<(), Error> {
        if change.before != self.root() {
            return Err(Error::Internal {
                what: "a change of another state tree",
            });
        }
        let places: BTreeMap<PagePlace, u64> = change
            .pages
            .keys()
            .copied()
            .zip(at.iter().copied())
            .collect();
        self.root = self.install(self.root, PagePlace::WHOLE, &change.draft, &places)?;
        let mut used = self.used();
        for (place, leaves) in &change.pages {
            if leaves.is_empty() {
                used.remove(place);
            } else {
                used.insert(*place, leaves.clone(), leaves.len());
            }
        }
        Ok(())
    }

    /// Proof of what stands under a key, or that nothing does.
    ///
    /// # Errors
    /// Those of `rows`; [`StateError::Tree`] if it gives other leaves than were written.
    pub fn prove(&self, key: &[u8], rows: &dyn PageRead) -> Result<StateProof, StateError> {
        self.prove_from(At::Kept(self.root), &BTreeMap::new(), &key_hash(key), rows)
    }

    /// As [`Self::prove`], with the writes of a change, whose pages need not be written.
    ///
    /// # Errors
    /// As [`Self::prove`].
    pub fn prove_with(
        &self,
        change: &TreeChange,
        key: &[u8],
        rows: &dyn PageRead,
    ) -> Result<StateProof, StateError> {
        self.prove_from(At::New(&change.draft), &change.pages, &key_hash(key), rows)
    }

    fn prove_from(
        &self,
        mut at: At<'_>,
        new: &BTreeMap<PagePlace, Leaves>,
        path: &Hash,
        rows: &dyn PageRead,
    ) -> Result<StateProof, StateError> {
        let (mut place, mut siblings) = (PagePlace::WHOLE, Vec::new());
        let page = loop {
            let (left, right) = match at {
                At::New(Draft::Kept(kept)) => {
                    at = At::Kept(*kept);
                    continue;
                }
                At::New(Draft::Page(page)) => break Some(*page),
                At::New(Draft::Inner(_, children)) => (At::New(&children.0), At::New(&children.1)),
                At::Kept(kept) => match self.inner(kept) {
                    Some(inner) => (At::Kept(inner.left), At::Kept(inner.right)),
                    None => break self.page(kept).copied(),
                },
            };
            let to_right = bit(path, place.depth().into());
            let (next, other) = if to_right {
                (right, left)
            } else {
                (left, right)
            };
            siblings.push(self.hash_at(other));
            place = place.child(to_right);
            at = next;
        };
        let leaves = match (page, new.get(&place)) {
            (None, _) => {
                return Ok(StateProof {
                    siblings,
                    terminal: Terminal::Empty,
                });
            }
            (Some(_), Some(leaves)) => leaves.clone(),
            (Some(page), None) => self.read(&place, &page, rows)?,
        };
        let (mut within, mut depth) = (&*leaves, usize::from(place.depth()));
        while within.len() > 1 {
            let (left, right) = divided(within, depth);
            depth += 1;
            let (next, other) = if bit(path, depth - 1) {
                (right, left)
            } else {
                (left, right)
            };
            siblings.push(part_of(other, depth).hash());
            within = next;
        }
        let terminal = within.first().map_or(Terminal::Empty, |l| Terminal::Leaf {
            key_hash: l.key,
            value_hash: l.value,
        });
        Ok(StateProof { siblings, terminal })
    }

    fn hash_at(&self, at: At<'_>) -> Hash {
        match at {
            At::Kept(kept) => self.part(kept).hash(),
            At::New(draft) => self.draft_part(draft).hash(),
        }
    }

    fn inner(&self, at: Ref) -> Option<&Inner> {
        at.as_inner()
            .and_then(|i| self.inners.items.get(i as usize))
    }

    fn page(&self, at: Ref) -> Option<&Page> {
        at.as_outer().and_then(|i| self.pages.items.get(i as usize))
    }

    fn part(&self, at: Ref) -> Part {
        match self.inner(at) {
            Some(inner) => Part::Inner(inner.hash),
            None => self.page(at).map_or(Part::Empty, Page::part),
        }
    }

    fn draft_part(&self, draft: &Draft) -> Part {
        match draft {
            Draft::Kept(kept) => self.part(*kept),
            Draft::Page(page) => page.part(),
            Draft::Inner(hash, _) => Part::Inner(*hash),
        }
    }

    /// The leaves of a page of this tree. What is read from the store is judged by the page's hash.
    fn read(
        &self,
        place: &PagePlace,
        page: &Page,
        rows: &dyn PageRead,
    ) -> Result<Leaves, StateError> {
        if let Some(leaves) = self.used().get(place) {
            return Ok(leaves);
        }
        let leaves: Leaves = with_hashes(rows.leaves(place, page.at())?).into();
        if Page::of_leaves(place, &leaves).is_none_or(|found| !found.is_same(page)) {
            return Err(StateError::Tree {
                place: place.to_string(),
            });
        }
        self.used().insert(*place, leaves.clone(), leaves.len());
        Ok(leaves)
    }

    fn used(&self) -> MutexGuard<'_, LeafCache<Leaves>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a draft where `old` stood.
    fn install(
        &mut self,
        old: Ref,
        place: PagePlace,
        draft: &Draft,
        at: &BTreeMap<PagePlace, u64>,
    ) -> Result<Ref, Error> {
        match draft {
            Draft::Kept(kept) if *kept == old => Ok(old),
            Draft::Kept(kept) => {
                self.free(old);
                Ok(*kept)
            }
            Draft::Page(page) => {
                self.free(old);
                let mut page = *page;
                if let Some(at) = at.get(&place) {
                    page.set_at(*at);
                }
                Ok(Ref(self.pages.put(page)?))
            }
            Draft::Inner(hash, children) => {
                let (old_left, old_right) = if let Some(inner) = self.inner(old).copied() {
                    self.inners.free.extend(old.as_inner());
                    (inner.left, inner.right)
                } else {
                    self.free(old);
                    (Ref::NONE, Ref::NONE)
                };
                let inner = Inner {
                    hash: *hash,
                    left: self.install(old_left, place.child(false), &children.0, at)?,
                    right: self.install(old_right, place.child(true), &children.1, at)?,
                };
                Ok(Ref(self.inners.put(inner)? | Ref::INNER))
            }
        }
    }

    /// Gives up the places of a part of the tree.
    fn free(&mut self, at: Ref) {
        if let Some(inner) = self.inner(at).copied() {
            self.free(inner.left);
            self.free(inner.right);
            self.inners.free.extend(at.as_inner());
        } else {
            self.pages.free.extend(at.as_outer());
        }
    }
}

fn with_hashes(leaves: Vec<(Hash, Hash)>) -> Vec<Leaf> {
    leaves
        .into_iter()
        .map(|(key, value)| Leaf::new(key, value))
        .collect()
}

fn divided(leaves: &[Leaf], depth: usize) -> (&[Leaf], &[Leaf]) {
    leaves.split_at(leaves.partition_point(|l| !bit(&l.key, depth)))
}

pub(super) fn part_of(leaves: &[Leaf], depth: usize) -> Part {
    match leaves {
        [] => Part::Empty,
        [leaf] => Part::Leaf(leaf.hash),
        many => {
            let (left, right) = divided(many, depth);
            Part::join(part_of(left, depth + 1), part_of(right, depth + 1))
        }
    }
}
