//! The small store under the ledger: one space of keys, written in atomic batches.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fjall::config::{PartitioningPolicy, PinningPolicy};

use crate::error::Error;
use crate::files::make_dir;

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);
/// Writes that happen all together or not at all; `None` removes.
pub type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// An ordered store. What outgrows one machine can stand behind it too.
pub trait Kv: Send + Sync {
    /// The value under a key.
    ///
    /// # Errors
    /// [`Error::Store`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Carries out a batch atomically, also across a crash; not durable before [`Kv::flush`]. A later write of a key stands.
    ///
    /// # Errors
    /// [`Error::Store`]; nothing of the batch is then visible after the next start.
    fn write(&self, batch: Batch) -> Result<(), Error>;

    /// Every pair whose key starts with `prefix`, ascending.
    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a>;

    /// Every pair from `key` on, ascending.
    fn from<'a>(&'a self, key: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a>;

    /// The pair with the greatest key from `from` to `to`, both included.
    ///
    /// # Errors
    /// [`Error::Store`].
    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// [`Error::Store`].
    fn flush(&self) -> Result<(), Error>;
}

/// The file of a database, below the folder of the state.
const DATABASE: &str = "rows";
/// All rows are of one space.
const SPACE: &str = "ledger";
/// Open files that are kept for later, of some thirty at ten million records.
const OPEN_FILES: usize = 64;
/// The least that the library takes. What is in its journal is read again at a start.
const JOURNAL_BYTES: u64 = 64 << 20;
/// The least for rows that are not in a file yet.
const LEAST_NEW_BYTES: u64 = 1 << 20;

/// [`Kv`] in a fjall database: new rows in memory and in a journal, older ones in sorted files that are merged by one thread. A batch is
/// with the system when [`Kv::write`] returns, so the end of the process loses nothing.
pub struct FjallKv {
    // Before the database: what is dropped first lets go of it.
    rows: fjall::Keyspace,
    db: fjall::Database,
}

impl FjallKv {
    /// Opens or creates the database below the folder `dir`. Of `memory_bytes` a quarter is for new rows, up to four times while files
    /// are written, and a quarter for what was read last.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open(dir: &Path, memory_bytes: u64) -> Result<Self, Error> {
        make_dir(dir)?;
        let path = dir.join(DATABASE);
        let quarter = memory_bytes / 4;
        // A database that was closed a moment ago keeps its lock until its thread has ended.
        let mut tries = 40;
        let db = loop {
            let opened = fjall::Database::builder(&path)
                .cache_size(quarter)
                .max_cached_files(Some(OPEN_FILES))
                .max_journaling_size(JOURNAL_BYTES)
                .worker_threads(1)
                .open();
            match opened {
                Err(fjall::Error::Locked) if tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(std::time::Duration::from_millis(25));
                }
                opened => break opened?,
            }
        };
        // Filters and indexes of the files stay in memory, about 3 bytes a row: most reads are of rows that are not there, and a filter that
        // fell out of the cache would be read and checked as a whole for each.
        let rows = db.keyspace(SPACE, || {
            fjall::KeyspaceCreateOptions::default()
                .max_memtable_size(quarter.max(LEAST_NEW_BYTES))
                .filter_block_pinning_policy(PinningPolicy::all(true))
                .filter_block_partitioning_policy(PartitioningPolicy::all(false))
                .index_block_pinning_policy(PinningPolicy::all(true))
                .index_block_partitioning_policy(PartitioningPolicy::all(false))
        })?;
        Ok(Self { rows, db })
    }

    fn pairs<'a>(&self, found: fjall::Iter) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        Box::new(found.map(pair))
    }
}

fn pair(found: fjall::Guard) -> Result<Pair, Error> {
    let (key, value) = found.into_inner()?;
    Ok((key.to_vec(), value.to_vec()))
}

impl Kv for FjallKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.rows.get(key)?.map(|v| v.to_vec()))
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        // Rows of a batch have one number there, so of two with one key it would not be said which stands.
        let last: BTreeMap<Vec<u8>, Option<Vec<u8>>> = batch.into_iter().collect();
        let mut writes = self.db.batch();
        for (key, value) in last {
            match value {
                Some(value) => writes.insert(&self.rows, key, value),
                None => writes.remove(&self.rows, key),
            }
        }
        Ok(writes.commit()?)
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        self.pairs(self.rows.prefix(prefix))
    }

    fn from<'a>(&'a self, key: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        self.pairs(self.rows.range(key..))
    }

    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        if from > to {
            return Ok(None);
        }
        self.rows.range(from..=to).next_back().map(pair).transpose()
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(self.db.persist(fjall::PersistMode::SyncData)?)
    }
}

/// [`Kv`] in memory, for tests and for tools that rebuild everything from the blocks.
#[derive(Debug, Default)]
pub struct MemoryKv {
    pairs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryKv {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn pairs(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.pairs().get(key).cloned())
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut pairs = self.pairs();
        for (key, value) in batch {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        let found: Vec<_> = self
            .pairs()
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| Ok((key.clone(), value.clone())))
            .collect();
        Box::new(found.into_iter())
    }

    fn from<'a>(&'a self, key: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        let found: Vec<_> = self
            .pairs()
            .range::<[u8], _>((Bound::Included(key), Bound::Unbounded))
            .map(|(key, value)| Ok((key.clone(), value.clone())))
            .collect();
        Box::new(found.into_iter())
    }

    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        if from > to {
            return Ok(None);
        }
        Ok(self
            .pairs()
            .range::<[u8], _>((Bound::Included(from), Bound::Included(to)))
            .next_back()
            .map(|(key, value)| (key.clone(), value.clone())))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(kv: &dyn Kv) -> Vec<Pair> {
        kv.from(&[]).map(Result::unwrap).collect()
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..3, 1..4)
    }

    fn batch() -> impl Strategy<Value = Batch> {
        let value = prop::collection::vec(any::<u8>(), 0..3);
        prop::collection::vec((key(), prop::option::of(value)), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// On disk and in memory are the same, also after the database was closed between two batches.
        #[test]
        fn it_is_the_store_in_memory(
            batches in prop::collection::vec((batch(), any::<bool>()), 0..6),
            from in key(),
            to in key(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let plain = MemoryKv::new();
            let mut kv = FjallKv::open(dir.path(), 4 << 20).unwrap();
            for (batch, close) in batches {
                plain.write(batch.clone()).unwrap();
                kv.write(batch).unwrap();
                if close {
                    drop(kv);
                    kv = FjallKv::open(dir.path(), 4 << 20).unwrap();
                }
                prop_assert_eq!(all(&kv), all(&plain));
                prop_assert_eq!(kv.get(&from).unwrap(), plain.get(&from).unwrap());
                let scan = |kv: &dyn Kv| kv.scan(&from).map(Result::unwrap).collect::<Vec<_>>();
                prop_assert_eq!(scan(&kv), scan(&plain));
                prop_assert_eq!(kv.last_between(&from, &to).unwrap(), plain.last_between(&from, &to).unwrap());
            }
        }
    }

    /// More than the memory for new rows: files are written and merged, and rows are read from them before and after a start.
    #[test]
    fn rows_past_memory_are_in_files() {
        let dir = tempfile::tempdir().unwrap();
        let key = |n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
        let plain = MemoryKv::new();
        {
            let kv = FjallKv::open(dir.path(), 4 << 20).unwrap();
            for first in (0..100_000).step_by(1_000) {
                let rows = first..first + 1_000;
                let mut batch: Batch = rows.map(|n| (key(n), Some(vec![7; 100]))).collect();
                // A tenth of the thousand before goes.
                batch.extend(
                    (first.saturating_sub(1_000)..first)
                        .step_by(10)
                        .map(|n| (key(n), None)),
                );
                plain.write(batch.clone()).unwrap();
                kv.write(batch).unwrap();
            }
            assert!(kv.rows.table_count() > 1, "no file was written");
            assert!(all(&kv) == all(&plain));
        }
        let kv = FjallKv::open(dir.path(), 4 << 20).unwrap();
        assert!(all(&kv) == all(&plain));
        for n in (0..100_000).step_by(77) {
            assert_eq!(kv.get(&key(n)).unwrap(), plain.get(&key(n)).unwrap());
        }
    }
}
