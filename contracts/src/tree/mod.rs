//! The state tree: a sparse Merkle tree over SHA-256(state key), whose root stands in every block.
//!
//! A leaf is SHA-256(`tally/state-leaf/v1` LF || SHA-256(key) || SHA-256(value)). A part of the tree with one leaf is that
//! leaf, at whatever depth; one with none is 32 zero bytes; any other is SHA-256(`tally/state-node/v1` LF || left || right),
//! left where the next bit of the key's hash, most significant first, is 0. So the root depends on what is stored alone, not
//! on the order of writes.

mod paged;
mod pages;
mod proof;

pub use paged::{
    Leaf as TreeLeaf, LeavesOf, PAGE_LEAVES, PageRead, PageWrite, PagedTree, TreeChange,
};
pub use pages::{Page, PagePlace};
pub use proof::{StateProof, Terminal};

use sha2::{Digest, Sha256};
use tally_merkle::Hash;

use crate::domains;
use crate::error::Error;

/// Root of the empty state.
pub const EMPTY: Hash = Hash([0; 32]);
/// Bits of a key's hash.
const BITS: usize = 256;

/// SHA-256 of a state key: a leaf's place.
#[must_use]
pub fn key_hash(key: &[u8]) -> Hash {
    Hash(Sha256::digest(key).into())
}

/// SHA-256 of a value.
#[must_use]
pub fn value_hash(value: &[u8]) -> Hash {
    Hash(Sha256::digest(value).into())
}

fn leaf(key: &Hash, value: &Hash) -> Hash {
    pair(domains::STATE_LEAF, key, value)
}

fn node(left: &Hash, right: &Hash) -> Hash {
    pair(domains::STATE_NODE, left, right)
}

fn pair(domain: &[u8], a: &Hash, b: &Hash) -> Hash {
    Hash(
        Sha256::new()
            .chain_update(domain)
            .chain_update(a.0)
            .chain_update(b.0)
            .finalize()
            .into(),
    )
}

/// Bit `depth` of a hash, most significant first.
fn bit(hash: &Hash, depth: usize) -> bool {
    hash.0
        .get(depth / 8)
        .is_some_and(|byte| byte >> (7 - depth % 8) & 1 == 1)
}

/// A place in one of the two stores below: nothing, leaf or inner node. The top bit tells the stores apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ref(u32);

impl Ref {
    const NONE: Self = Self(u32::MAX);
    const INNER: u32 = 1 << 31;

    /// The place of an inner node in its store, if it is one.
    fn as_inner(self) -> Option<u32> {
        (self != Self::NONE && self.0 & Self::INNER != 0).then_some(self.0 & !Self::INNER)
    }

    /// The place in the other store of what is no inner node, if there is anything.
    fn as_outer(self) -> Option<u32> {
        // NONE has the top bit set, so it is in neither store.
        (self.0 & Self::INNER == 0).then_some(self.0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Leaf {
    key: Hash,
    value: Hash,
    hash: Hash,
}

#[derive(Debug, Clone, Copy)]
struct Inner {
    hash: Hash,
    left: Ref,
    right: Ref,
}

/// A vector with reused places.
#[derive(Debug, Clone)]
struct Slab<T> {
    items: Vec<T>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    const fn new() -> Self {
        Self {
            items: Vec::new(),
            free: Vec::new(),
        }
    }

    fn put(&mut self, item: T) -> Result<u32, Error> {
        if let Some(i) = self.free.pop()
            && let Some(slot) = self.items.get_mut(i as usize)
        {
            *slot = item;
            return Ok(i);
        }
        let i = u32::try_from(self.items.len())
            .ok()
            .filter(|i| *i < Ref::INNER - 1)
            .ok_or(Error::Internal {
                what: "state tree is full",
            })?;
        self.items.push(item);
        Ok(i)
    }
}

/// A write with its hashes: where, and the new value's hash or `None` to remove.
type Write = (Hash, Option<Hash>);

/// The hash and shape of a part of the tree, which is all that its parent needs.
#[derive(Debug, Clone, Copy)]
enum Part {
    Empty,
    Leaf(Hash),
    Inner(Hash),
}

impl Part {
    const fn hash(&self) -> Hash {
        match self {
            Self::Empty => EMPTY,
            Self::Leaf(hash) | Self::Inner(hash) => *hash,
        }
    }

    /// A lone leaf moves up; anything else is hashed.
    fn join(left: Self, right: Self) -> Self {
        match (left, right) {
            (Self::Empty, Self::Empty) => Self::Empty,
            (lone @ Self::Leaf(_), Self::Empty) | (Self::Empty, lone @ Self::Leaf(_)) => lone,
            (left, right) => Self::Inner(node(&left.hash(), &right.hash())),
        }
    }
}

/// The state tree in memory: about 170 bytes a leaf. Rebuilt from the leaves at start.
#[derive(Debug, Clone)]
pub struct StateTree {
    root: Ref,
    leaves: Slab<Leaf>,
    inners: Slab<Inner>,
}

impl Default for StateTree {
    fn default() -> Self {
        Self::new()
    }
}

impl StateTree {
    /// An empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            root: Ref::NONE,
            leaves: Slab::new(),
            inners: Slab::new(),
        }
    }

    /// The tree of the keys and values given, in any order; a later value of a key replaces an earlier one.
    ///
    /// # Errors
    /// [`Error::Internal`] beyond two thousand million leaves.
    pub fn from_leaves<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        leaves: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Error> {
        let mut tree = Self::new();
        let mut writes: Vec<Write> = leaves
            .into_iter()
            .map(|(k, v)| (key_hash(k.as_ref()), Some(value_hash(v.as_ref()))))
            .collect();
        sort(&mut writes);
        tree.write(&writes)?;
        tree.leaves.items.shrink_to_fit();
        tree.inners.items.shrink_to_fit();
        Ok(tree)
    }

    /// How many leaves there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leaves.items.len() - self.leaves.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root == Ref::NONE
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.hash_of(self.root)
    }

    /// The root that [`Self::commit`] of these writes would give. Changes nothing. O(w log n) hashes.
    #[must_use]
    pub fn preview(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Hash {
        self.part_after(self.root, &hashed(writes), 0).hash()
    }

    /// Carries out writes and gives the new root. O(w log n) hashes.
    ///
    /// # Errors
    /// [`Error::Internal`] beyond two thousand million leaves; the tree is then of no more use.
    pub fn commit(&mut self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<Hash, Error> {
        self.write(&hashed(writes))?;
        Ok(self.root())
    }

    /// Proof of what stands under a key, or that nothing does.
    #[must_use]
    pub fn prove(&self, key: &[u8]) -> StateProof {
        let path = key_hash(key);
        let (mut at, mut siblings) = (self.root, Vec::new());
        while let Some(inner) = self.inner(at) {
            let (next, other) = if bit(&path, siblings.len()) {
                (inner.right, inner.left)
            } else {
                (inner.left, inner.right)
            };
            siblings.push(self.hash_of(other));
            at = next;
        }
        let terminal = self.leaf(at).map_or(Terminal::Empty, |l| Terminal::Leaf {
            key_hash: l.key,
            value_hash: l.value,
        });
        StateProof { siblings, terminal }
    }

    fn leaf(&self, at: Ref) -> Option<&Leaf> {
        at.as_outer()
            .and_then(|i| self.leaves.items.get(i as usize))
    }

    fn inner(&self, at: Ref) -> Option<&Inner> {
        at.as_inner()
            .and_then(|i| self.inners.items.get(i as usize))
    }

    fn hash_of(&self, at: Ref) -> Hash {
        self.part(at).hash()
    }

    fn part(&self, at: Ref) -> Part {
        if let Some(l) = self.leaf(at) {
            Part::Leaf(l.hash)
        } else {
            self.inner(at).map_or(Part::Empty, |i| Part::Inner(i.hash))
        }
    }

    /// What the part at `at` becomes; `writes` are those below it, sorted, none twice.
    fn part_after(&self, at: Ref, writes: &[Write], depth: usize) -> Part {
        if writes.is_empty() {
            return self.part(at);
        }
        if let Some(inner) = self.inner(at) {
            let (left, right) = split(writes, depth);
            return Part::join(
                self.part_after(inner.left, left, depth + 1),
                self.part_after(inner.right, right, depth + 1),
            );
        }
        let kept = self
            .leaf(at)
            .filter(|l| writes.binary_search_by_key(&l.key, |w| w.0).is_err())
            .map(|l| (l.key, l.hash));
        fresh_part(kept, writes, depth)
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), Error> {
        self.root = self.after(self.root, writes, 0)?;
        Ok(())
    }

    /// As [`Self::part_after`], changing the stores.
    fn after(&mut self, at: Ref, writes: &[Write], depth: usize) -> Result<Ref, Error> {
        if writes.is_empty() {
            return Ok(at);
        }
        if let Some(inner) = self.inner(at).copied() {
            let (left, right) = split(writes, depth);
            let left = self.after(inner.left, left, depth + 1)?;
            let right = self.after(inner.right, right, depth + 1)?;
            self.inners.free.push(at.0 & !Ref::INNER);
            return self.join(left, right);
        }
        let kept = self.leaf(at).copied();
        let kept = match kept {
            Some(l) if writes.binary_search_by_key(&l.key, |w| w.0).is_err() => Some((l.key, at)),
            Some(_) => {
                self.leaves.free.push(at.0);
                None
            }
            None => None,
        };
        self.fresh(kept, writes, depth)
    }

    /// A part of the tree made of writes and at most one leaf that stays.
    fn fresh(
        &mut self,
        kept: Option<(Hash, Ref)>,
        writes: &[Write],
        depth: usize,
    ) -> Result<Ref, Error> {
        match (kept, writes) {
            (None, []) => return Ok(Ref::NONE),
            (Some((_, at)), []) => return Ok(at),
            (None, [(key, value)]) => {
                return match value {
                    None => Ok(Ref::NONE),
                    Some(value) => Ok(Ref(self.leaves.put(Leaf {
                        key: *key,
                        value: *value,
                        hash: leaf(key, value),
                    })?)),
                };
            }
            _ => {}
        }
        let (left, right) = split(writes, depth);
        let (kept_left, kept_right) = divide(kept, depth);
        let left = self.fresh(kept_left, left, depth + 1)?;
        let right = self.fresh(kept_right, right, depth + 1)?;
        self.join(left, right)
    }

    fn join(&mut self, left: Ref, right: Ref) -> Result<Ref, Error> {
        match Part::join(self.part(left), self.part(right)) {
            Part::Empty => Ok(Ref::NONE),
            Part::Leaf(_) => Ok(if left == Ref::NONE { right } else { left }),
            Part::Inner(hash) => {
                let i = self.inners.put(Inner { hash, left, right })?;
                Ok(Ref(i | Ref::INNER))
            }
        }
    }
}

fn fresh_part(kept: Option<(Hash, Hash)>, writes: &[Write], depth: usize) -> Part {
    match (kept, writes) {
        (None, []) => return Part::Empty,
        (Some((_, hash)), []) => return Part::Leaf(hash),
        (None, [(key, value)]) => {
            return value.map_or(Part::Empty, |value| Part::Leaf(leaf(key, &value)));
        }
        _ => {}
    }
    let (left, right) = split(writes, depth);
    let (kept_left, kept_right) = divide(kept, depth);
    Part::join(
        fresh_part(kept_left, left, depth + 1),
        fresh_part(kept_right, right, depth + 1),
    )
}

/// Writes whose bit `depth` is 0, and the others; keys are distinct, so it never goes below the last bit.
fn split(writes: &[Write], depth: usize) -> (&[Write], &[Write]) {
    debug_assert!(depth < BITS);
    writes.split_at(writes.partition_point(|w| !bit(&w.0, depth)))
}

type Divided<T> = (Option<(Hash, T)>, Option<(Hash, T)>);

fn divide<T>(kept: Option<(Hash, T)>, depth: usize) -> Divided<T> {
    match kept {
        Some(k) if bit(&k.0, depth) => (None, Some(k)),
        other => (other, None),
    }
}

fn hashed(writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<Write> {
    let mut out: Vec<Write> = writes
        .iter()
        .map(|(k, v)| (key_hash(k), v.as_deref().map(value_hash)))
        .collect();
    sort(&mut out);
    out
}

/// Ascending, the last write of a key standing.
fn sort(writes: &mut Vec<Write>) {
    writes.sort_by_key(|w| w.0);
    writes.reverse();
    writes.dedup_by_key(|w| w.0);
    writes.reverse();
}

#[cfg(test)]
mod paged_tests;
#[cfg(test)]
mod tests;
