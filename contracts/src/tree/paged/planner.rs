//! What writes make of a paged tree, worked out without changing it.

use std::collections::BTreeMap;

use super::super::pages::{Page, PagePlace};
use super::super::{Part, Ref, Write, split};
use super::{
    BUILD_DEPTH, Draft, Leaf, Leaves, LeavesOf, MERGED_LEAVES, PAGE_LEAVES, PageRead, PageWrite,
    PagedTree, TreeChange, divided, with_hashes,
};
use crate::state::StateError;

/// Works out a change.
pub(super) struct Planner<'a> {
    pub(super) tree: &'a PagedTree,
    /// `None` if the tree is empty.
    pub(super) rows: Option<&'a dyn PageRead>,
    pub(super) pages: BTreeMap<PagePlace, Leaves>,
    /// Where pages go at once, if not with the change.
    pub(super) write: Option<PageWrite<'a>>,
}

impl Planner<'_> {
    pub(super) fn change(self, draft: Draft) -> TreeChange {
        TreeChange {
            before: self.tree.root(),
            root: self.tree.draft_part(&draft).hash(),
            pages: self.pages,
            draft,
        }
    }

    pub(super) fn after(
        &mut self,
        at: Ref,
        place: PagePlace,
        writes: &[Write],
    ) -> Result<Draft, StateError> {
        if writes.is_empty() {
            return Ok(Draft::Kept(at));
        }
        if let Some(inner) = self.tree.inner(at) {
            let (left, right) = split(writes, place.depth().into());
            let left = self.after(inner.left, place.child(false), left)?;
            let right = self.after(inner.right, place.child(true), right)?;
            return self.join(place, left, right, MERGED_LEAVES);
        }
        let old = self.leaves(&Draft::Kept(at), &place)?;
        if !old.is_empty() {
            self.remove(place)?;
        }
        self.fresh(place, &written(&old, writes))
    }

    /// A part of the tree with these leaves and no others.
    fn fresh(&mut self, place: PagePlace, leaves: &[Leaf]) -> Result<Draft, StateError> {
        if leaves.is_empty() {
            return Ok(Draft::Kept(Ref::NONE));
        }
        if leaves.len() <= PAGE_LEAVES {
            return self.page(place, leaves);
        }
        let (left, right) = divided(leaves, place.depth().into());
        let left = self.fresh(place.child(false), left)?;
        let right = self.fresh(place.child(true), right)?;
        Ok(self.above(left, right))
    }

    fn page(&mut self, place: PagePlace, leaves: &[Leaf]) -> Result<Draft, StateError> {
        let Some(mut page) = Page::of_leaves(&place, leaves) else {
            return Ok(Draft::Kept(Ref::NONE));
        };
        if let Some(write) = &mut self.write {
            page.set_at(write(&place, leaves)?);
            // Deeper ones are never joined.
            if place.depth() > BUILD_DEPTH {
                return Ok(Draft::Page(page));
            }
        }
        self.pages.insert(place, leaves.into());
        Ok(Draft::Page(page))
    }

    fn remove(&mut self, place: PagePlace) -> Result<(), StateError> {
        if let Some(write) = &mut self.write {
            write(&place, &[])?;
            self.pages.remove(&place);
        } else {
            self.pages.insert(place, Leaves::default());
        }
        Ok(())
    }

    fn above(&self, left: Draft, right: Draft) -> Draft {
        let (tree, a, b) = (self.tree, &left, &right);
        let hash = Part::join(tree.draft_part(a), tree.draft_part(b)).hash();
        Draft::Inner(hash, Box::new((left, right)))
    }

    /// Two parts beside each other; as one page if they are pages with at most `most` leaves together. So there are always two leaves
    /// or more below a place that is no page.
    fn join(
        &mut self,
        place: PagePlace,
        left: Draft,
        right: Draft,
        most: usize,
    ) -> Result<Draft, StateError> {
        let counts = (self.count(&left), self.count(&right));
        let (Some(a), Some(b)) = counts else {
            return Ok(self.above(left, right));
        };
        if a + b > most {
            return Ok(self.above(left, right));
        }
        let mut leaves = Vec::with_capacity(a + b);
        for (draft, to_right) in [(&left, false), (&right, true)] {
            let below = place.child(to_right);
            leaves.extend_from_slice(&self.leaves(draft, &below)?);
            if self.count(draft) != Some(0) {
                self.remove(below)?;
            }
        }
        self.page(place, &leaves)
    }

    /// How many leaves a part has that is a page or nothing.
    fn count(&self, draft: &Draft) -> Option<usize> {
        match draft {
            Draft::Kept(Ref::NONE) => Some(0),
            Draft::Kept(kept) => self.tree.page(*kept).map(Page::count),
            Draft::Page(page) => Some(page.count()),
            Draft::Inner(..) => None,
        }
    }

    fn leaves(&self, draft: &Draft, place: &PagePlace) -> Result<Leaves, StateError> {
        let Draft::Kept(kept) = draft else {
            return Ok(self.pages.get(place).cloned().unwrap_or_default());
        };
        match (self.tree.page(*kept), self.rows) {
            (Some(page), Some(rows)) => self.tree.read(place, page, rows),
            _ => Ok(Leaves::default()),
        }
    }

    /// The part of the tree of all leaves below a place.
    pub(super) fn built(
        &mut self,
        place: PagePlace,
        leaves: LeavesOf<'_>,
    ) -> Result<Draft, StateError> {
        if place.depth() == BUILD_DEPTH {
            let first = place.first().0.first().copied().unwrap_or_default();
            let mut part = leaves(first)?;
            if part.iter().any(|(key, _)| key.0.first() != Some(&first)) {
                return Err(StateError::Tree {
                    place: place.to_string(),
                });
            }
            part.sort_unstable_by_key(|(key, _)| *key);
            return self.fresh(place, &with_hashes(part));
        }
        let left = self.built(place.child(false), leaves)?;
        let right = self.built(place.child(true), leaves)?;
        self.join(place, left, right, PAGE_LEAVES)
    }
}

/// Leaves with writes carried out; both ascending.
fn written(leaves: &[Leaf], writes: &[Write]) -> Vec<Leaf> {
    let mut out = Vec::with_capacity(leaves.len() + writes.len());
    let mut left = leaves.iter().copied().peekable();
    for (key, value) in writes {
        while let Some(leaf) = left.next_if(|l| l.key < *key) {
            out.push(leaf);
        }
        left.next_if(|l| l.key == *key);
        out.extend(value.map(|value| Leaf::new(*key, value)));
    }
    out.extend(left);
    out
}
