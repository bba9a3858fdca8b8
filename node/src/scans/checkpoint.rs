//! Checkpoints of what the scan log keeps beside it, so that a start reads only the log's tail.
//!
//! `index/checkpoint`, sealed and replaced as a whole, says: up to this leaf, these segments and the files of leaves hold everything. Whatever
//! is missing, damaged or of another log makes the whole folder be built again from the log.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_merkle::Hash;

use super::ScanError;
use super::table::{Kind, NewSegment, SegmentRef, Table};
use crate::sealed::{Position, SealedError, StorageKey, read_sealed, write_sealed};

const VERSION: u8 = 1;
const PURPOSE: &str = "scan-index-checkpoint";
/// Scans that wait for their issuer and fit into a checkpoint.
const MAX_PENDING: usize = 7 << 20;
const MAX_SEGMENTS: usize = 1 << 12;
/// How long after a failure to write is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the log's state was at a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Leaves.
    pub(super) size: u64,
    /// Where the last of them lies.
    pub(super) last: Position,
    /// Root over them.
    pub(super) root: Hash,
    /// Codes that were counted.
    pub(super) codes: u64,
    /// The newest time of a scan, in POSIX milliseconds.
    pub(super) newest_ms: u64,
    /// Scans that wait for their issuer, by leaf.
    pub(super) pending: Vec<u64>,
}

/// A snapshot and where it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Checkpoint {
    /// `None` for an empty log.
    pub(super) snapshot: Option<Snapshot>,
    /// Newest first.
    pub(super) segments: Vec<SegmentRef>,
    /// The number of the next segment.
    next: u32,
}

impl Canonical for Checkpoint {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).bool(self.snapshot.is_some());
        if let Some(s) = &self.snapshot {
            w.u64(s.size)
                .raw(&s.last.to_bytes())
                .raw(s.root.as_bytes())
                .u64(s.codes)
                .u64(s.newest_ms)
                .list(&s.pending, |w, i| {
                    w.u64(*i);
                });
        }
        w.list(&self.segments, |w, s| {
            w.u32(s.number).u8(s.tier);
        })
        .u32(self.next);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("checkpoint version", VERSION)?;
        let snapshot = if r.bool("snapshot")? {
            Some(Snapshot {
                size: r.u64("size")?,
                last: Position::from_bytes(&r.array("position")?),
                root: Hash(r.array("root")?),
                codes: r.u64("codes")?,
                newest_ms: r.u64("newest time")?,
                pending: r.list("pending", MAX_PENDING, |r| r.u64("leaf"))?,
            })
        } else {
            None
        };
        Ok(Self {
            snapshot,
            segments: r.list("segments", MAX_SEGMENTS, |r| {
                Ok(SegmentRef {
                    number: r.u32("segment")?,
                    tier: r.u8("tier")?,
                })
            })?,
            next: r.u32("next segment")?,
        })
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("checkpoint")
}

impl Checkpoint {
    /// The checkpoint in `dir`, and nothing beside what it names; `None` if there is none, or it does not open.
    pub(super) fn load(dir: &Path, key: &StorageKey) -> Option<Self> {
        let bytes = match read_sealed(&path(dir), key, PURPOSE) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%error, "the checkpoint of the scan index is of no use");
                return None;
            }
        };
        let found = Self::from_bytes(&bytes)
            .inspect_err(
                |error| tracing::warn!(%error, "the checkpoint of the scan index is of no use"),
            )
            .ok()?;
        found.sweep(dir);
        Some(found)
    }

    /// Removes segments that were being made when the process ended.
    fn sweep(&self, dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|n| n.strip_suffix(".rows"));
            let known = |n: u32| self.segments.iter().any(|s| s.number == n);
            if number.is_some_and(|n| !n.parse().is_ok_and(known)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Empties the folder, so that everything is made from the log again.
    pub(super) fn start_over(dir: &Path) -> Result<Self, SealedError> {
        let failed = |action| {
            let path = dir.to_owned();
            move |source| SealedError::Io {
                action,
                path,
                source,
            }
        };
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("empty")(e)),
            _ => {}
        }
        crate::files::create_private_dir(dir).map_err(|e| failed("create")(e.source))?;
        Ok(Self::default())
    }
}

/// A snapshot on its way to disk, with the files that must be synced before.
pub(super) struct Due {
    pub(super) snapshot: Snapshot,
    pub(super) files: [File; 2],
}

#[derive(Default)]
struct Work {
    due: Option<Due>,
    merge: bool,
    stop: bool,
    failure: Option<String>,
}

struct Inner {
    dir: PathBuf,
    key: StorageKey,
    table: Arc<Table>,
    max_key_age_ms: u64,
    /// What stands on disk; `None` once it must not be used any more.
    saved: Mutex<Option<Checkpoint>>,
    work: Mutex<Work>,
    changed: Condvar,
}

/// Writes checkpoints and merges segments, on threads of its own, until it is dropped.
pub(super) struct Keeper {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn working(&self) -> MutexGuard<'_, Work> {
        locked(&self.work)
    }

    /// Waits until there is work, and takes it; `None` at the end.
    fn next<T>(&self, take: impl Fn(&mut Work) -> Option<T>) -> Option<T> {
        let mut work = self.working();
        loop {
            if let Some(found) = take(&mut work) {
                return Some(found);
            }
            if work.stop {
                return None;
            }
            work = self
                .changed
                .wait(work)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn set(&self, change: impl FnOnce(&mut Work)) {
        change(&mut self.working());
        self.changed.notify_all();
    }

    fn give_up(&self, reason: String) {
        let was = locked(&self.saved).take();
        if was.is_some() {
            let _ = fs::remove_file(path(&self.dir));
        }
        self.set(|w| w.failure = Some(reason));
    }

    fn number(&self) -> u32 {
        let mut saved = locked(&self.saved);
        saved.as_mut().map_or(0, |checkpoint| {
            let number = checkpoint.next;
            checkpoint.next = number.saturating_add(1);
            number
        })
    }

    /// Makes the new segment count, with the snapshot if there is a newer one.
    fn take_in(&self, new: NewSegment, snapshot: Option<&Snapshot>) -> Result<(), ScanError> {
        let mut saved = locked(&self.saved);
        let Some(last) = saved.as_ref() else {
            return Ok(());
        };
        let checkpoint = Checkpoint {
            snapshot: snapshot.or(last.snapshot.as_ref()).cloned(),
            segments: new.after(&self.table.segments()),
            next: last.next,
        };
        write_sealed(&path(&self.dir), &self.key, PURPOSE, &checkpoint.to_bytes())?;
        *saved = Some(checkpoint);
        self.table.take_in(new);
        Ok(())
    }

    fn flush(&self, due: &Due) -> Result<(), ScanError> {
        let Some(new) = self.table.write_frozen(self.number())? else {
            return Ok(());
        };
        for file in &due.files {
            file.sync_data().map_err(|source| SealedError::Io {
                action: "sync",
                path: self.dir.clone(),
                source,
            })?;
        }
        self.take_in(new, Some(&due.snapshot))
    }

    fn run_flushes(&self) {
        while let Some(due) = self.next(|w| w.due.take()) {
            match self.flush(&due) {
                Ok(()) => self.set(|w| {
                    w.failure = None;
                    w.merge = true;
                }),
                Err(error) => {
                    tracing::error!(%error, "the scan index is not written; it is tried again");
                    self.set(|w| w.failure = Some(error.to_string()));
                    let work = self.working();
                    let waited = self.changed.wait_timeout_while(work, AGAIN, |w| !w.stop);
                    let (mut work, _) = waited.unwrap_or_else(PoisonError::into_inner);
                    if !work.stop {
                        work.due = Some(due);
                    }
                }
            }
        }
    }

    fn run_merges(&self) {
        // Whoever waits for a scan comes first. On Linux this is the priority of this thread alone.
        let _ = rustix::process::nice(10);
        while self
            .next(|w| std::mem::take(&mut w.merge).then_some(()))
            .is_some()
        {
            while self.table.wants_merge() && !self.working().stop {
                if let Err(error) = self.merge() {
                    tracing::error!(%error, "segments of the scan index are not merged");
                    if error.is_damage() {
                        self.give_up(error.to_string());
                    }
                    break;
                }
            }
        }
    }

    fn merge(&self) -> Result<(), ScanError> {
        let newest = locked(&self.saved)
            .as_ref()
            .and_then(|c| c.snapshot.as_ref())
            .map_or(0, |s| s.newest_ms);
        let is_old = |kind, row: &[u8]| {
            let time = super::keys::time_of(row);
            kind == Kind::Request
                && time.is_some_and(|t| newest.saturating_sub(t) > self.max_key_age_ms)
        };
        let stop = || self.working().stop;
        match self.table.merge(self.number(), &is_old, &stop)? {
            Some(new) => self.take_in(new, None),
            None => Ok(()),
        }
    }
}

impl Keeper {
    /// Starts the threads.
    pub(super) fn start(
        dir: &Path,
        key: StorageKey,
        table: Arc<Table>,
        checkpoint: Checkpoint,
        max_key_age_ms: u64,
    ) -> Result<Self, ScanError> {
        let inner = Arc::new(Inner {
            dir: dir.to_owned(),
            key,
            table,
            max_key_age_ms,
            saved: Mutex::new(Some(checkpoint)),
            work: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut keeper = Self {
            inner,
            threads: Vec::new(),
        };
        for (name, run) in [
            ("scan-index", Inner::run_flushes as fn(&Inner)),
            ("scan-merge", Inner::run_merges),
        ] {
            let inner = Arc::clone(&keeper.inner);
            let thread = std::thread::Builder::new()
                .name(name.into())
                .spawn(move || run(&inner))
                .map_err(|source| SealedError::Io {
                    action: "start the keeper of",
                    path: dir.to_owned(),
                    source,
                })?;
            keeper.threads.push(thread);
        }
        Ok(keeper)
    }

    /// Writes the rows that the table has frozen, and the snapshot that goes with them.
    pub(super) fn save(&self, due: Due) {
        self.inner.set(|w| w.due = Some(due));
    }

    /// Waits until nothing is frozen, or that fails.
    pub(super) fn wait(&self) {
        let mut work = self.inner.working();
        while self.inner.table.is_frozen() && work.failure.is_none() && !work.stop {
            work = self
                .inner
                .changed
                .wait(work)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why the index cannot be written, if so.
    pub(super) fn failure(&self) -> Option<String> {
        self.inner.working().failure.clone()
    }

    /// Makes the next start build everything from the log: something is damaged.
    pub(super) fn give_up(&self, reason: String) {
        self.inner.give_up(reason);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.inner.set(|w| w.stop = true);
        for thread in self.threads.drain(..) {
            // A panic has been printed by its own thread.
            let _ = thread.join();
        }
    }
}
