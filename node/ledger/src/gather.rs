//! Writes of several blocks that reach the store together: it must not be told of a block before that block's file is synced, and
//! a node that is far behind syncs once for many.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::Error;
use crate::kv::{Batch, Kv, Pair};

/// What is to be written, by key; `None` removes.
type Pending = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
type Pairs<'a> = Box<dyn Iterator<Item = Result<Pair, Error>> + 'a>;

/// A [`Kv`] that keeps its writes in memory between [`Gathering::begin`] and [`Gathering::settle`]. What is read has them all the time.
pub(crate) struct Gathering {
    below: Arc<dyn Kv>,
    pending: RwLock<Option<Pending>>,
}

impl Gathering {
    pub(crate) fn new(below: Arc<dyn Kv>) -> Self {
        Self {
            below,
            pending: RwLock::new(None),
        }
    }

    /// From now on writes stay in memory.
    pub(crate) fn begin(&self) {
        self.lock().get_or_insert_default();
    }

    /// Hands on all that was kept, as one batch; from now on writes are handed on at once.
    ///
    /// # Errors
    /// [`Error::Store`]; what was kept can still be read then.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        let kept = self.pending().clone();
        if let Some(kept) = kept {
            self.below.write(kept.into_iter().collect())?;
        }
        // Not before the store has it: a reader finds it in one of the two at any time.
        *self.lock() = None;
        Ok(())
    }

    fn pending(&self) -> RwLockReadGuard<'_, Option<Pending>> {
        self.pending.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Option<Pending>> {
        self.pending.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept from `key` on, as long as `is_in` says.
    fn kept_from(&self, key: &[u8], is_in: impl Fn(&[u8]) -> bool) -> Batch {
        let pending = self.pending();
        let Some(pending) = pending.as_ref() else {
            return Vec::new();
        };
        pending
            .range::<[u8], _>((Bound::Included(key), Bound::Unbounded))
            .take_while(|(key, _)| is_in(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl Kv for Gathering {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if let Some(kept) = self.pending().as_ref().and_then(|p| p.get(key)) {
            return Ok(kept.clone());
        }
        self.below.get(key)
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        if let Some(pending) = self.lock().as_mut() {
            pending.extend(batch);
            return Ok(());
        }
        self.below.write(batch)
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Pairs<'a> {
        let kept = self.kept_from(prefix, |key| key.starts_with(prefix));
        over(self.below.scan(prefix), kept)
    }

    fn from<'a>(&'a self, key: &[u8]) -> Pairs<'a> {
        let kept = self.kept_from(key, |_| true);
        over(self.below.from(key), kept)
    }

    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        let kept = self.kept_from(from, |key| key <= to);
        let below = self.below.last_between(from, to)?;
        if kept.iter().any(|(_, value)| value.is_none()) {
            // What is last below may be one that is removed; then the one before it counts.
            return self
                .from(from)
                .take_while(|pair| pair.as_ref().map_or(true, |(key, _)| key.as_slice() <= to))
                .last()
                .transpose();
        }
        let last = kept.into_iter().next_back();
        let last = last.and_then(|(key, value)| Some((key, value?)));
        Ok(match (last, below) {
            (Some(kept), Some(below)) if below.0 > kept.0 => Some(below),
            (Some(kept), _) => Some(kept),
            (None, below) => below,
        })
    }

    fn flush(&self) -> Result<(), Error> {
        self.below.flush()
    }
}

/// Both, ascending; where a key is in both, what was kept counts.
fn over<'a>(below: Pairs<'a>, kept: Batch) -> Pairs<'a> {
    if kept.is_empty() {
        return below;
    }
    let mut below = below.peekable();
    let mut kept = kept.into_iter().peekable();
    Box::new(std::iter::from_fn(move || next_of(&mut below, &mut kept)))
}

fn next_of<'a>(
    below: &mut Peekable<Pairs<'a>>,
    kept: &mut Peekable<<Batch as IntoIterator>::IntoIter>,
) -> Option<Result<Pair, Error>> {
    loop {
        let (is_kept_next, is_same) = match (below.peek(), kept.peek()) {
            (_, None) | (Some(Err(_)), _) => return below.next(),
            (None, Some(_)) => (true, false),
            (Some(Ok((old, _))), Some((new, _))) => (new <= old, new == old),
        };
        if !is_kept_next {
            return below.next();
        }
        if is_same {
            below.next();
        }
        match kept.next() {
            Some((key, Some(value))) => return Some(Ok((key, value))),
            Some((_, None)) => {}
            None => return below.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kv::MemoryKv;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..3, 1..4)
    }

    fn batch() -> impl Strategy<Value = Batch> {
        prop::collection::vec(
            (
                key(),
                prop::option::of(prop::collection::vec(any::<u8>(), 0..3)),
            ),
            0..12,
        )
    }

    fn all(pairs: Pairs<'_>) -> Vec<Pair> {
        pairs.map(Result::unwrap).collect()
    }

    proptest! {
        /// Before, during and after, reads are those of a store that was written at once.
        #[test]
        fn reads_are_those_of_a_plain_store(
            before in batch(),
            kept in prop::collection::vec(batch(), 0..4),
            from in key(),
            to in key(),
        ) {
            let (plain, below) = (MemoryKv::new(), Arc::new(MemoryKv::new()));
            let store = Gathering::new(below.clone());
            let same = |store: &Gathering| {
                prop_assert_eq!(all(store.from(&[])), all(plain.from(&[])));
                prop_assert_eq!(all(store.from(&from)), all(plain.from(&from)));
                prop_assert_eq!(all(store.scan(&from)), all(plain.scan(&from)));
                prop_assert_eq!(store.get(&from).unwrap(), plain.get(&from).unwrap());
                prop_assert_eq!(
                    store.last_between(&from, &to).unwrap(),
                    plain.last_between(&from, &to).unwrap()
                );
                Ok(())
            };
            store.write(before.clone()).unwrap();
            plain.write(before).unwrap();
            same(&store)?;
            let untouched = all(below.from(&[]));
            store.begin();
            for batch in kept {
                store.write(batch.clone()).unwrap();
                plain.write(batch).unwrap();
                same(&store)?;
            }
            prop_assert_eq!(all(below.from(&[])), untouched);
            store.settle().unwrap();
            same(&store)?;
            prop_assert_eq!(all(below.from(&[])), all(plain.from(&[])));
        }
    }
}
