//! Pages of the state tree: where one is, what its row holds, and the leaves of those that were used last.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use tally_merkle::Hash;

use super::paged::{Leaf, part_of};
use super::{BITS, Part};
use crate::codec::{CodecError, Reader, Writer};

/// The root of a page: everything whose key hash begins with these bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PagePlace {
    /// The bits, then zeros.
    path: Hash,
    depth: u8,
}

impl PagePlace {
    /// The whole tree.
    pub const WHOLE: Self = Self {
        path: Hash([0; 32]),
        depth: 0,
    };

    /// How many bits.
    #[must_use]
    pub const fn depth(&self) -> u8 {
        self.depth
    }

    /// The least key hash below it.
    #[must_use]
    pub const fn first(&self) -> &Hash {
        &self.path
    }

    /// The left or right half. More than 16 leaves never share 252 bits, so no page is that deep.
    pub(super) fn child(self, right: bool) -> Self {
        let mut path = self.path;
        if right && let Some(byte) = path.0.get_mut(usize::from(self.depth / 8)) {
            *byte |= 0x80 >> (self.depth % 8);
        }
        Self {
            path,
            depth: self.depth.saturating_add(1),
        }
    }

    /// The number of bits, then the bytes that have them.
    pub fn write(&self, w: &mut Writer) {
        let bytes = usize::from(self.depth).div_ceil(8);
        w.u8(self.depth)
            .raw(self.path.0.get(..bytes).unwrap_or_default());
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`CodecError`] for anything else.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let depth = r.u8("bits of a page's place")?;
        let mut path = Hash([0; 32]);
        for byte in path.0.iter_mut().take(usize::from(depth).div_ceil(8)) {
            *byte = r.u8("page's place")?;
        }
        if (usize::from(depth)..BITS).any(|i| super::bit(&path, i)) {
            return Err(CodecError::Invalid {
                what: "bits after a page's place",
                found: depth.into(),
            });
        }
        Ok(Self { path, depth })
    }
}

impl fmt::Display for PagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.path, self.depth)
    }
}

/// How many leaves a page has, at least one, their hash, and where they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    hash: Hash,
    at: u64,
    count: u16,
}

impl Page {
    /// A page of leaves as they were read; `None` without leaves, and for more than any page has.
    #[must_use]
    pub fn from_leaves(place: &PagePlace, leaves: &[(Hash, Hash)], at: u64) -> Option<Self> {
        let leaves: Vec<Leaf> = leaves.iter().map(|(k, v)| Leaf::new(*k, *v)).collect();
        let mut page = Self::of_leaves(place, &leaves)?;
        page.at = at;
        Some(page)
    }

    pub(super) fn of_leaves(place: &PagePlace, leaves: &[Leaf]) -> Option<Self> {
        let count = u16::try_from(leaves.len())
            .ok()
            .filter(|count| *count > 0)?;
        Some(Self {
            hash: part_of(leaves, place.depth().into()).hash(),
            at: 0,
            count,
        })
    }

    /// Whether these are the same leaves, wherever they lie.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.hash == other.hash && self.count == other.count
    }

    /// Where its leaves lie, as the store said.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    pub(super) const fn set_at(&mut self, at: u64) {
        self.at = at;
    }

    /// How many leaves it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.into()
    }

    pub(super) const fn part(&self) -> Part {
        match self.count {
            1 => Part::Leaf(self.hash),
            _ => Part::Inner(self.hash),
        }
    }

    /// Number of leaves as u16, where they lie as u64, hash.
    pub fn write(&self, w: &mut Writer) {
        w.raw(&self.count.to_be_bytes())
            .u64(self.at)
            .raw(self.hash.as_bytes());
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`CodecError`] for anything else.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let count = u16::from_be_bytes(r.array("leaves of a page")?);
        let (at, hash) = (r.u64("place of leaves")?, Hash(r.array("page's hash")?));
        if count == 0 {
            return Err(CodecError::Invalid {
                what: "leaves of a page",
                found: 0,
            });
        }
        Ok(Self { hash, at, count })
    }
}

/// Pages with their leaves, bounded by the number of leaves; what came in first goes first.
#[derive(Debug)]
pub(super) struct LeafCache<T> {
    most: usize,
    held: usize,
    pages: BTreeMap<PagePlace, (T, usize, u64)>,
    /// In the order in which they came, with the number under which they did; some are not there any more.
    order: VecDeque<(PagePlace, u64)>,
    next: u64,
}

impl<T: Clone> LeafCache<T> {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            held: 0,
            pages: BTreeMap::new(),
            order: VecDeque::new(),
            next: 0,
        }
    }

    pub(super) fn get(&self, place: &PagePlace) -> Option<T> {
        self.pages.get(place).map(|(leaves, ..)| leaves.clone())
    }

    pub(super) fn insert(&mut self, place: PagePlace, leaves: T, count: usize) {
        self.remove(&place);
        self.next += 1;
        self.held += count;
        self.pages.insert(place, (leaves, count, self.next));
        self.order.push_back((place, self.next));
        // Removed pages leave their place in the order behind; it must not outgrow the pages.
        while self.held > self.most || self.order.len() > 2 * self.pages.len() + 16 {
            let Some((place, number)) = self.order.pop_front() else {
                break;
            };
            if self.pages.get(&place).is_some_and(|(.., n)| *n == number) {
                self.remove(&place);
            }
        }
    }

    pub(super) fn remove(&mut self, place: &PagePlace) {
        if let Some((_, count, _)) = self.pages.remove(place) {
            self.held -= count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::new();
        write(&mut w);
        w.into_bytes()
    }

    #[test]
    fn places_and_pages_are_read_back_and_others_refused() {
        let read = |bytes: &[u8]| {
            let mut r = Reader::new(bytes);
            let place = PagePlace::read(&mut r)?;
            r.finish().map(|()| place)
        };
        let mut place = PagePlace::WHOLE;
        for depth in 0..60 {
            assert_eq!(read(&bytes(|w| place.write(w))).unwrap(), place);
            let (left, right) = (place.child(false), place.child(true));
            assert!(left.first() == place.first() && left < right);
            place = if depth % 3 == 0 { left } else { right };
        }
        for bad in [&[][..], &[1], &[0, 0], &[1, 0xc0], &[9, 1]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let leaves = [
            (Hash([3; 32]), Hash([4; 32])),
            (Hash([5; 32]), Hash([4; 32])),
        ];
        let page = Page::from_leaves(&PagePlace::WHOLE, &leaves, 9).unwrap();
        assert_eq!((page.count(), page.at()), (2, 9));
        let written = bytes(|w| page.write(w));
        assert_eq!(Page::read(&mut Reader::new(&written)).unwrap(), page);
        assert!(Page::read(&mut Reader::new(&[0; 42])).is_err());
        assert_eq!(Page::from_leaves(&PagePlace::WHOLE, &[], 0), None);
    }

    #[test]
    fn the_cache_keeps_to_its_bound() {
        let mut cache = LeafCache::new(100);
        let place = |i: u8| PagePlace {
            path: Hash([i; 32]),
            depth: 8,
        };
        for round in 0..50 {
            for i in 0..20 {
                cache.insert(place(i), round, 9);
                assert_eq!(cache.get(&place(i)), Some(round));
                if i % 3 == 0 {
                    cache.remove(&place(i));
                    assert_eq!(cache.get(&place(i)), None);
                }
                assert!(cache.held <= 100 && cache.order.len() <= 2 * cache.pages.len() + 16);
                assert_eq!(cache.held, cache.pages.values().map(|p| p.1).sum::<usize>());
            }
        }
        assert!(cache.pages.len() >= 10);
        cache.insert(place(99), 0, 101);
        assert_eq!(cache.get(&place(99)), None);
    }
}
