//! The own side's IDs where there are more than memory holds: shown once, a page at a time.

use crate::Error;
use crate::item::{IdType, ItemSet, ItemSetBuilder, Profile};

/// Is shown a normalised value.
pub type EachValue<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Error>;

/// Where streamed values lie. They are secret, and distinct over all calls.
pub trait ItemSource: Send {
    /// Shows the next `max` values, fewer only at the end.
    ///
    /// # Errors
    /// [`Error::Storage`], and what `each` gives.
    fn next_values(&mut self, max: usize, each: EachValue<'_>) -> Result<(), Error>;
}

/// Distinct items of one ID type and profile that are not in memory. Their order does not matter: what is sent of them is sorted.
pub struct ItemStream {
    kind: (IdType, Profile),
    count: u64,
    given: u64,
    source: Box<dyn ItemSource>,
}

impl ItemStream {
    /// `count` items from a source.
    #[must_use]
    pub fn new(id_type: IdType, profile: Profile, count: u64, source: Box<dyn ItemSource>) -> Self {
        Self {
            kind: (id_type, profile),
            count,
            given: 0,
            source,
        }
    }

    /// The items `from` and on, at most `max`, which must be those behind the last ones.
    fn page(&mut self, from: u64, max: usize) -> Result<ItemSet, Error> {
        let left = usize::try_from(self.count.saturating_sub(from)).unwrap_or(usize::MAX);
        let expected = left.min(max);
        let mut page = ItemSetBuilder::new(self.kind.0, self.kind.1);
        if expected > 0 {
            if from != self.given {
                return Err(Error::Internal {
                    what: "a stream of items that goes back",
                });
            }
            self.source
                .next_values(expected, &mut |value| page.push(value))?;
            self.given = from + expected as u64;
        }
        let page = page.finish()?;
        if page.len() != expected {
            return Err(Error::Count {
                what: "distinct items of a stream",
                expected: expected as u64,
                found: page.len() as u64,
            });
        }
        Ok(page)
    }
}

/// What a machine matches.
pub enum Items {
    /// A set in memory.
    Set(ItemSet),
    /// Items that are not: for a count under `dh-ristretto-v1` or `helper-prf-v1`, where no row of the own side is named.
    Stream(ItemStream),
}

impl From<ItemSet> for Items {
    fn from(set: ItemSet) -> Self {
        Self::Set(set)
    }
}

impl From<ItemStream> for Items {
    fn from(stream: ItemStream) -> Self {
        Self::Stream(stream)
    }
}

/// Some of the items.
pub(crate) enum Page<'a> {
    /// The whole set, and the index of the first that is meant.
    Of(&'a ItemSet, usize),
    /// No others.
    Own(ItemSet),
}

impl Items {
    /// How many.
    pub(crate) const fn len(&self) -> u64 {
        match self {
            Self::Set(set) => set.len() as u64,
            Self::Stream(stream) => stream.count,
        }
    }

    /// The row under which item `index` was pushed, of a set.
    pub(crate) fn row(&self, index: usize) -> Option<u64> {
        match self {
            Self::Set(set) => set.row(index),
            Self::Stream(_) => None,
        }
    }

    /// The items `from` and on, `max` if there are so many.
    pub(crate) fn page(&mut self, from: u64, max: usize) -> Result<Page<'_>, Error> {
        match self {
            Self::Set(set) => Ok(Page::Of(set, usize::try_from(from).unwrap_or(usize::MAX))),
            Self::Stream(stream) => Ok(Page::Own(stream.page(from, max)?)),
        }
    }

    /// The set, for a machine that needs it whole.
    pub(crate) fn into_set(self) -> Result<ItemSet, Error> {
        match self {
            Self::Set(set) => Ok(set),
            Self::Stream(stream) => Err(Error::Invalid {
                what: "items that are not in memory",
                found: stream.count,
            }),
        }
    }
}

impl Page<'_> {
    /// As [`ItemSet::message`]; none behind the last.
    pub(crate) fn message(&self, i: usize) -> Option<([u8; 3], &[u8])> {
        match self {
            Self::Of(set, from) => set.message(from.checked_add(i)?),
            Self::Own(set) => set.message(i),
        }
    }
}
