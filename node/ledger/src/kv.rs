//! The small store under the ledger: one space of keys, written in atomic batches.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fjall::Readable as _;
use fjall::config::{PartitioningPolicy, PinningPolicy};

use crate::error::{Error, IoContext as _};
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
    /// [`Error::Store`]; after the next start the batch is there as a whole or not at all.
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

/// The database, below the folder of the state.
const DATABASE: &str = "rows";
/// The file by which the library knows its own.
const MARK: &str = "version";
/// A file of the store that nodes of early builds had there.
const FORMER: &str = "db";
/// All rows are of one space.
const SPACE: &str = "ledger";
/// Open files that are kept for later, of some thirty at ten million records.
const OPEN_FILES: usize = 64;
/// The least that the library takes. What is in its journal is read again at a start.
const JOURNAL_BYTES: u64 = 64 << 20;
/// The least for rows that are not in a file yet.
const LEAST_NEW_BYTES: u64 = 1 << 20;
/// What a row takes in memory beside its bytes.
const ROW_BYTES: usize = 64;
/// Heaps of new rows that wait to be written, and files that wait to be merged, past which a write waits. The library waits too, at 4 and 20, but
/// would not hear there that its thread has failed.
const WAITING: usize = 3;
const WAITING_FILES: usize = 16;
/// After a loss of power at most so much is carried out again from the blocks.
const SYNC_EVERY: Duration = Duration::from_millis(500);

/// [`Kv`] in a fjall database: new rows in memory and in a journal, older ones in sorted files that are merged by one thread. A batch is
/// with the system when [`Kv::write`] returns, so the end of the process loses nothing; it is durable half a second later.
pub struct FjallKv {
    // Before the database: what is dropped first lets go of it.
    rows: fjall::Keyspace,
    db: fjall::Database,
    /// Bytes of new rows past which they are written to a file.
    heap_bytes: u64,
    written: Mutex<Written>,
}

struct Written {
    /// Bytes of rows since the last file was begun.
    new_bytes: u64,
    synced: Instant,
}

impl FjallKv {
    /// Opens or creates the database below the folder `dir`. Of `memory_bytes` a quarter is for new rows, up to four times while files
    /// are written, and a quarter for what was read last.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Damaged`] if it cannot be read, or is of an early build.
    pub fn open(dir: &Path, memory_bytes: u64) -> Result<Self, Error> {
        make_dir(dir)?;
        if dir.join(FORMER).exists() {
            return Err(Error::damaged_index(
                dir,
                "it is in the form of an earlier version",
            ));
        }
        let path = dir.join(DATABASE);
        // Killed while it was made: there is nothing in it, and the library would take it neither for new nor for its own.
        if path.exists() && std::fs::metadata(path.join(MARK)).map_or(0, |m| m.len()) == 0 {
            std::fs::remove_dir_all(&path).on("empty", &path)?;
        }
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
                    std::thread::sleep(Duration::from_millis(25));
                }
                Err(e @ (fjall::Error::Locked | fjall::Error::Io(_))) => return Err(e.into()),
                // A journal with a hole, say, as a loss of power can leave it.
                Err(e) => return Err(Error::damaged_index(&path, e.to_string())),
                Ok(db) => break db,
            }
        };
        // Filters and indexes of the files stay in memory, about 3 bytes a row: most reads are of rows that are not there, and a filter that
        // fell out of the cache would be read and checked as a whole for each. When new rows go to a file is for `write` to say: the library
        // keeps that size with the database, and its thread, which would begin the file, does not while it merges.
        let rows = db.keyspace(SPACE, || {
            fjall::KeyspaceCreateOptions::default()
                .max_memtable_size(u64::MAX)
                .filter_block_pinning_policy(PinningPolicy::all(true))
                .filter_block_partitioning_policy(PartitioningPolicy::all(false))
                .index_block_pinning_policy(PinningPolicy::all(true))
                .index_block_partitioning_policy(PartitioningPolicy::all(false))
        })?;
        Ok(Self {
            rows,
            db,
            heap_bytes: quarter.max(LEAST_NEW_BYTES),
            written: Mutex::new(Written {
                new_bytes: 0,
                synced: Instant::now(),
            }),
        })
    }

    /// Begins a file with the new rows, if they are many, when there are not too many that wait already; and syncs, if it is time.
    fn after_write(&self, bytes: u64) -> Result<(), Error> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.new_bytes = written.new_bytes.saturating_add(bytes);
        if written.new_bytes >= self.heap_bytes {
            while self.rows.sealed_memtable_count() >= WAITING
                || self.rows.l0_table_count() >= WAITING_FILES
            {
                std::thread::sleep(Duration::from_millis(5));
                // Fails if the thread that should see to them did.
                self.db.persist(fjall::PersistMode::Buffer)?;
            }
            self.rows.rotate_memtable()?;
            written.new_bytes = 0;
        }
        if written.synced.elapsed() >= SYNC_EVERY {
            self.db.persist(fjall::PersistMode::SyncData)?;
            written.synced = Instant::now();
        }
        Ok(())
    }
}

fn pair(found: fjall::Guard) -> Result<Pair, Error> {
    let (key, value) = found.into_inner()?;
    Ok((key.to_vec(), value.to_vec()))
}

// Reads are of a snapshot: without one they see a batch while it is carried out.
impl Kv for FjallKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.db.snapshot().get(&self.rows, key)?;
        Ok(found.map(|v| v.to_vec()))
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        // Rows of a batch have one number there, so of two with one key it would not be said which stands.
        let last: BTreeMap<Vec<u8>, Option<Vec<u8>>> = batch.into_iter().collect();
        let mut writes = self.db.batch();
        let mut bytes = 0;
        for (key, value) in last {
            bytes += ROW_BYTES + key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => writes.insert(&self.rows, key, value),
                None => writes.remove(&self.rows, key),
            }
        }
        writes.commit()?;
        self.after_write(bytes as u64)
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        Box::new(self.db.snapshot().prefix(&self.rows, prefix).map(pair))
    }

    fn from<'a>(&'a self, key: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        Box::new(self.db.snapshot().range(&self.rows, key..).map(pair))
    }

    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        if from > to {
            return Ok(None);
        }
        let mut found = self.db.snapshot().range(&self.rows, from..=to);
        found.next_back().map(pair).transpose()
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
            assert!(all(&kv) == all(&plain));
            let until = Instant::now() + Duration::from_secs(20);
            while kv.rows.table_count() == 0 {
                assert!(Instant::now() < until, "no file was written");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let kv = FjallKv::open(dir.path(), 4 << 20).unwrap();
        assert!(all(&kv) == all(&plain));
        for n in (0..100_000).step_by(77) {
            assert_eq!(kv.get(&key(n)).unwrap(), plain.get(&key(n)).unwrap());
        }
    }

    /// A writer that is faster than the files are written waits; what is new in memory stays bounded.
    #[test]
    fn new_rows_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let kv = FjallKv::open(dir.path(), 4 << 20).unwrap();
        for n in 0..400u32 {
            let key = |i: u32| {
                (n * 1_000 + i)
                    .wrapping_mul(2_654_435_761)
                    .to_be_bytes()
                    .to_vec()
            };
            let batch = (0..1_000).map(|i| (key(i), Some(vec![1; 100]))).collect();
            kv.write(batch).unwrap();
            assert!(kv.rows.sealed_memtable_count() <= WAITING);
            assert!(kv.written.lock().unwrap().new_bytes < 2 * kv.heap_bytes);
        }
    }

    #[test]
    fn a_database_that_was_being_made_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DATABASE);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("0.jnl"), []).unwrap();
        let kv = FjallKv::open(dir.path(), 4 << 20).unwrap();
        kv.write(vec![(b"k".to_vec(), Some(b"v".to_vec()))])
            .unwrap();
        drop(kv);
        let kv = FjallKv::open(dir.path(), 4 << 20).unwrap();
        assert_eq!(kv.get(b"k").unwrap(), Some(b"v".to_vec()));
    }

    #[test]
    fn what_cannot_be_read_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FORMER), []).unwrap();
        let said = |dir: &Path| FjallKv::open(dir, 4 << 20).err().unwrap().to_string();
        assert!(said(dir.path()).contains("earlier version; run `tally reindex`"));

        // A value in the middle of the journal that does not fit its batch's checksum.
        let dir = tempfile::tempdir().unwrap();
        let kv = FjallKv::open(dir.path(), 4 << 20).unwrap();
        for n in 0..3u8 {
            kv.write(vec![(vec![n], Some(vec![0x5a; 1_000]))]).unwrap();
        }
        kv.flush().unwrap();
        drop(kv);
        let path = dir.path().join(DATABASE);
        let journal = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path());
        let journal = journal.filter(|p| p.extension().is_some_and(|e| e == "jnl"));
        for journal in journal {
            let mut bytes = std::fs::read(&journal).unwrap();
            let at = bytes.windows(8).position(|w| w == [0x5a; 8]).unwrap();
            bytes[at + 100] ^= 1;
            std::fs::write(&journal, bytes).unwrap();
        }
        let said = said(dir.path());
        assert!(said.contains("run `tally reindex`"), "{said}");
    }
}
