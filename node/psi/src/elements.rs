//! What the Diffie-Hellman machines blind: the own items, dummies and fillers, under the session's key and domain.

use zeroize::Zeroizing;

use crate::Error;
use crate::expand::HashToGroup;
use crate::group::{Input, Key, tags};
use crate::link::Link;
use crate::messages::ROWS_PER_FRAME;
use crate::seeds::Seeds;
use crate::sorter::Row;
use crate::stream::{Items, Page};

/// What this side hashes.
pub(crate) struct Elements {
    hash: HashToGroup,
    key: Key,
    pub(crate) seeds: Seeds,
    pub(crate) items: Items,
    /// Dummies of the pool that this side brings; the rest of the pool is private fillers.
    pub(crate) dummies: u32,
}

impl Elements {
    /// Those of a session, with all dummies of the pool.
    pub(crate) fn new(link: &Link, items: Items, seeds: Seeds) -> Result<Self, Error> {
        Ok(Self {
            hash: HashToGroup::for_context(&link.context)?,
            key: seeds.key()?,
            seeds,
            items,
            dummies: link.params.noise.pool(),
        })
    }

    /// The elements from `from` on, at most a frame of them, blinded.
    pub(crate) fn blind(&mut self, link: &Link, from: u64) -> Result<Vec<Row>, Error> {
        let n = usize::try_from(link.own_count.saturating_sub(from))
            .unwrap_or(usize::MAX)
            .min(ROWS_PER_FRAME);
        let blinding = Blinding {
            count: self.items.len(),
            page: self.items.page(from, n)?,
            from,
            dummies: self.dummies,
            seeds: &self.seeds,
        };
        self.key.blind(&self.hash, n, |i| blinding.input(i))
    }

    /// Tags of the peer's points, raised; `first` is the stream index of the first.
    pub(crate) fn raise_to_tags(
        &self,
        link: &Link,
        points: &[Row],
        first: u64,
    ) -> Result<Vec<Row>, Error> {
        let raised = self.key.raise(points, first)?;
        Ok(tags(&link.context, &raised, link.tag_len()))
    }
}

/// A frame's worth of what is hashed.
struct Blinding<'a> {
    /// Items in all.
    count: u64,
    page: Page<'a>,
    /// Index of the first element.
    from: u64,
    dummies: u32,
    seeds: &'a Seeds,
}

impl Blinding<'_> {
    /// Items, then dummies (0x01 || index), then private fillers (0x02 || random): all hashed alike, so that they cost alike.
    fn input(&self, i: usize) -> Result<Input, Error> {
        if let Some((head, rest)) = self.page.message(i) {
            return Ok(Input {
                head,
                head_len: 3,
                rest: Zeroizing::new(rest.to_vec()),
            });
        }
        let index = (self.from + i as u64).checked_sub(self.count);
        let index = index
            .and_then(|n| u32::try_from(n).ok())
            .ok_or(Error::Internal {
                what: "element index",
            })?;
        Ok(if index < self.dummies {
            Input {
                head: [1, 0, 0],
                head_len: 1,
                rest: Zeroizing::new(index.to_be_bytes().to_vec()),
            }
        } else {
            Input {
                head: [2, 0, 0],
                head_len: 1,
                rest: self.seeds.filler(index),
            }
        })
    }
}
