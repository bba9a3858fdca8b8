//! What the Diffie-Hellman machines blind: the own items, dummies and fillers, under the session's key and domain.

use zeroize::Zeroizing;

use crate::Error;
use crate::expand::HashToGroup;
use crate::group::{Input, Key, tags};
use crate::item::ItemSet;
use crate::link::Link;
use crate::messages::ROWS_PER_FRAME;
use crate::seeds::Seeds;
use crate::sorter::Row;

/// What this side hashes.
pub(crate) struct Elements {
    hash: HashToGroup,
    key: Key,
    pub(crate) seeds: Seeds,
    pub(crate) set: ItemSet,
    /// Dummies of the pool that this side brings; the rest of the pool is private fillers.
    pub(crate) dummies: u32,
}

impl Elements {
    /// Those of a session, with all dummies of the pool.
    pub(crate) fn new(link: &Link, set: ItemSet, seeds: Seeds) -> Result<Self, Error> {
        Ok(Self {
            hash: HashToGroup::for_context(&link.context)?,
            key: seeds.key()?,
            seeds,
            set,
            dummies: link.params.noise.pool(),
        })
    }

    /// The elements from `from` on, at most a frame of them, blinded.
    pub(crate) fn blind(&self, link: &Link, from: u64) -> Result<Vec<Row>, Error> {
        let n = usize::try_from(link.own_count.saturating_sub(from))
            .unwrap_or(usize::MAX)
            .min(ROWS_PER_FRAME);
        self.key.blind(&self.hash, n, |i| self.input(from, i))
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

    /// Items, then dummies (0x01 || index), then private fillers (0x02 || random): all hashed alike, so that they cost alike.
    fn input(&self, from: u64, i: usize) -> Result<Input, Error> {
        let bug = Error::Internal {
            what: "element index",
        };
        let index = usize::try_from(from).map_err(|_| bug.clone())? + i;
        if let Some((head, rest)) = self.set.message(index) {
            return Ok(Input {
                head,
                head_len: 3,
                rest: Zeroizing::new(rest.to_vec()),
            });
        }
        let index = u32::try_from(index - self.set.len()).map_err(|_| bug)?;
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
