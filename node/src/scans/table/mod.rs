//! A table of small rows on disk: newest rows in memory, older ones in sorted segment files that are written once and merged.
//!
//! In scope: looking up a key in microseconds at tens of millions of rows with a few bytes of memory a row; sealed and checked files.
//! Out of scope: durability of what is in memory. The scan log is the truth; [`super::checkpoint`] says which segments hold which part
//! of it, and the rest is read from the log again.

mod bloom;
mod merge;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use self::segment::{Segment, SegmentWriter};
use crate::sealed::RowSealer;

/// Why a table cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The operating system refused.
    #[error("{path}: cannot {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not what was written.
    #[error("{path}: damaged: {what}; it is rebuilt from the scan log at the next start")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A bug.
    #[error("internal error: {what}")]
    Internal {
        /// Where.
        what: &'static str,
    },
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A code: what its scans were.
    Code = 1,
    /// A scan ID: the index of its leaf.
    Scan = 2,
    /// An idempotency key: which scan answered it.
    Request = 3,
    /// The leaf of a scan that could not be verified: that of its later verdict.
    Later = 4,
}

/// Kind, then 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowKey([u8; 17]);

impl RowKey {
    pub(super) fn new(kind: Kind, name: &[u8; 16]) -> Self {
        let mut out = [kind as u8; 17];
        out[1..].copy_from_slice(name);
        Self(out)
    }

    fn kind(&self) -> Option<Kind> {
        [Kind::Code, Kind::Scan, Kind::Request, Kind::Later]
            .into_iter()
            .find(|k| *k as u8 == self.0[0])
    }
}

/// The value of a row.
pub(super) type Row = Box<[u8]>;
type Rows = HashMap<RowKey, Row>;

/// Which file a segment is, for the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentRef {
    pub(super) number: u32,
    pub(super) tier: u8,
}

struct Inner {
    active: Rows,
    /// Rows on their way into a segment.
    frozen: Option<Arc<Rows>>,
    /// Newest first.
    segments: Vec<Arc<Segment>>,
}

/// The table. One thread puts rows, any thread reads.
pub(super) struct Table {
    dir: PathBuf,
    sealer: RowSealer,
    inner: RwLock<Inner>,
}

/// Says of a row whether it may be dropped when segments are merged.
pub(super) type IsOld<'a> = &'a (dyn Fn(Kind, &[u8]) -> bool + Sync);

impl Table {
    /// The table of these segments in `dir`, newest first.
    pub(super) fn open(
        dir: &Path,
        sealer: RowSealer,
        segments: &[SegmentRef],
    ) -> Result<Self, TableError> {
        let segments = segments
            .iter()
            .map(|s| Segment::open(dir, &sealer, s.number, s.tier).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            dir: dir.to_owned(),
            sealer,
            inner: RwLock::new(Inner {
                active: Rows::new(),
                frozen: None,
                segments,
            }),
        })
    }

    fn read<T>(&self, f: impl FnOnce(&Inner) -> T) -> T {
        // Every change is one insertion or one assignment: a panic elsewhere leaves no half of one.
        f(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest value of a key.
    pub(super) fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        let segments = match self.read(|t| {
            let frozen = || t.frozen.as_ref().and_then(|f| f.get(key));
            match t.active.get(key).or_else(frozen) {
                Some(row) => Ok(row.clone()),
                None => Err(t.segments.clone()),
            }
        }) {
            Ok(row) => return Ok(Some(row)),
            Err(segments) => segments,
        };
        for segment in segments {
            if let Some(row) = segment.get(key)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Sets the values of keys.
    pub(super) fn put_all(&self, rows: impl IntoIterator<Item = (RowKey, Row)>) {
        self.write(|t| t.active.extend(rows));
    }

    /// Rows that are in memory alone.
    pub(super) fn in_memory(&self) -> usize {
        self.read(|t| t.active.len())
    }

    /// Takes the rows in memory aside, to be written by [`Self::write_frozen`]; `false` if others still are, and for none at all.
    pub(super) fn freeze(&self) -> bool {
        self.write(|t| {
            if t.frozen.is_some() || t.active.is_empty() {
                return false;
            }
            t.frozen = Some(Arc::new(std::mem::take(&mut t.active)));
            true
        })
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.read(|t| t.frozen.is_some())
    }

    /// Writes what was taken aside into segment `number`. It counts once the checkpoint names it; see [`Self::take_in`].
    pub(super) fn write_frozen(&self, number: u32) -> Result<Option<NewSegment>, TableError> {
        let Some(rows) = self.read(|t| t.frozen.clone()) else {
            return Ok(None);
        };
        let mut sorted: Vec<_> = rows.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| **key);
        let mut writer =
            SegmentWriter::new(&self.dir, &self.sealer, number, 0, sorted.len() as u64)?;
        for (key, row) in sorted {
            writer.push(key, row)?;
        }
        Ok(Some(NewSegment {
            segment: writer.finish(&self.dir)?,
            replaces: Vec::new(),
        }))
    }

    /// The segments, newest first.
    pub(super) fn segments(&self) -> Vec<SegmentRef> {
        self.read(|t| t.segments.iter().map(|s| reference(s)).collect())
    }

    /// Reads from the new segment on, instead of the rows in memory or the segments that it was made of; those are removed.
    pub(super) fn take_in(&self, new: NewSegment) {
        let segment = Arc::new(new.segment);
        let old = self.write(|t| {
            if new.replaces.is_empty() {
                t.frozen = None;
                t.segments.insert(0, segment);
                return Vec::new();
            }
            let is_old = |s: &Arc<Segment>| new.replaces.contains(&s.number);
            let at = t.segments.iter().position(is_old).unwrap_or_default();
            let (old, kept): (Vec<_>, Vec<_>) = t.segments.drain(..).partition(is_old);
            t.segments = kept;
            t.segments.insert(at.min(t.segments.len()), segment);
            old
        });
        for segment in old {
            segment.remove();
        }
    }
}

fn reference(segment: &Segment) -> SegmentRef {
    SegmentRef {
        number: segment.number,
        tier: segment.tier,
    }
}

/// A segment that is durable and not read from yet.
pub(super) struct NewSegment {
    segment: Segment,
    /// The numbers of those it was made of; none if it was made of rows in memory.
    replaces: Vec<u32>,
}

impl NewSegment {
    /// What [`Table::segments`] will give once it is taken in.
    pub(super) fn after(&self, segments: &[SegmentRef]) -> Vec<SegmentRef> {
        let is_old = |s: &SegmentRef| self.replaces.contains(&s.number);
        let at = segments.iter().position(is_old).unwrap_or_default();
        let mut out: Vec<_> = segments.iter().filter(|s| !is_old(s)).copied().collect();
        out.insert(at.min(out.len()), reference(&self.segment));
        out
    }
}

/// Every plain byte of the segments in `dir`, for tests that search them.
#[cfg(test)]
pub(super) fn everything(dir: &Path, sealer: &RowSealer) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name();
        let Some(number) = name.to_str().and_then(|n| n.strip_suffix(".rows")) else {
            continue;
        };
        let segment = Segment::open(dir, sealer, number.parse().unwrap(), 0).unwrap();
        let mut rows = segment.rows();
        while let Some((key, row)) = rows.next_row().unwrap() {
            out.extend_from_slice(&key.0);
            out.extend_from_slice(&row);
        }
    }
    out
}
