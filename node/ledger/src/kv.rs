//! The small store under the ledger: one space of keys, written in atomic batches.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Error;

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

/// Bytes that sled has in memory for each byte that it counts against its cache: it counts pages as they are on disk, and holds each key
/// and value of them by itself. Measured with 200,000 records; seven, less some for what it holds without a cache.
const HELD_FOR_COUNTED: u64 = 4;

/// [`Kv`] in a sled database, flushed every half second.
pub struct SledKv {
    db: sled::Db,
}

impl SledKv {
    /// Opens or creates the database in the folder `dir`. `memory_bytes` is about what it may take in memory.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open(dir: &Path, memory_bytes: u64) -> Result<Self, Error> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(memory_bytes / HELD_FOR_COUNTED)
            .flush_every_ms(Some(500));
        // A database that was closed a moment ago keeps its lock until its flushing thread has ended.
        let mut tries = 40;
        loop {
            match config.open() {
                Ok(db) => return Ok(Self { db }),
                Err(sled::Error::Io(e))
                    if tries > 0 && e.to_string().contains("could not acquire lock") =>
                {
                    tries -= 1;
                    std::thread::sleep(std::time::Duration::from_millis(25));
                }
                Err(other) => return Err(other.into()),
            }
        }
    }
}

impl Kv for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.db.get(key)?.map(|v| v.to_vec()))
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        Ok(self.db.apply_batch(writes)?)
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        Box::new(self.db.scan_prefix(prefix).map(|pair| {
            let (key, value) = pair?;
            Ok((key.to_vec(), value.to_vec()))
        }))
    }

    fn from<'a>(&'a self, key: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        Box::new(self.db.range(key..).map(|pair| {
            let (key, value) = pair?;
            Ok((key.to_vec(), value.to_vec()))
        }))
    }

    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        match self.db.range(from..=to).next_back() {
            None => Ok(None),
            Some(pair) => {
                let (key, value) = pair?;
                Ok(Some((key.to_vec(), value.to_vec())))
            }
        }
    }

    fn flush(&self) -> Result<(), Error> {
        self.db.flush()?;
        Ok(())
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
