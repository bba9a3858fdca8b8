//! The append-only sealed log: segment files of frames, one frame per group append, synced before the append returns.
//!
//! Because every frame is durable before the next is begun, a crash can tear the last frame of the last segment only; that one is cut
//! off when the log is opened. Anything else that does not open is damage, and is reported with its place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::frame::{HEADER_BYTES, join};
use super::reader::{Position, SealedReader};
use super::segment::{
    Start, create_segment, cut, damaged, list_segments, open_end, replay, segment_path,
};
use super::{SealedError, StorageKey};

/// Sizes of a log.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// A new segment is begun when one has this many bytes.
    pub max_segment_bytes: u64,
    /// A group larger than this many bytes is split into several frames; no entry may be larger.
    pub max_frame_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            max_segment_bytes: 64 << 20,
            max_frame_bytes: 256 << 10,
        }
    }
}

/// A torn tail that was cut off when the log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The segment.
    pub path: PathBuf,
    /// Its length now.
    pub offset: u64,
    /// How many bytes were cut off.
    pub dropped_bytes: u64,
}

/// An open log; this value is its only writer, in this process and, by a lock file, in any other.
pub struct SealedLog {
    reader: SealedReader,
    options: LogOptions,
    file: File,
    path: PathBuf,
    segment: u32,
    offset: u64,
    next_frame: u64,
    bytes_before: u64,
    repaired: Option<Repair>,
    poisoned: bool,
    _lock: File,
}

impl SealedLog {
    /// Opens the log in `dir`, made if absent, and shows every entry in order to `visit`, one frame in memory at a time.
    ///
    /// # Errors
    /// [`SealedError::WrongKey`], [`SealedError::Damaged`], [`SealedError::Locked`], [`SealedError::Io`], and what `visit` gives.
    pub fn open<E: From<SealedError>>(
        dir: &Path,
        key: &StorageKey,
        purpose: &str,
        options: LogOptions,
        visit: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        Self::open_from(dir, key, purpose, options, None, visit)
    }

    /// As [`Self::open`], but shows only the entries from `from` on, itself first. What lies before is not read: damage there is noticed when
    /// an entry of it is.
    ///
    /// # Errors
    /// As [`Self::open`], and [`SealedError::NoEntry`] if no entry lies at `from`; nothing was shown then.
    pub fn open_from<E: From<SealedError>>(
        dir: &Path,
        key: &StorageKey,
        purpose: &str,
        options: LogOptions,
        from: Option<Position>,
        mut visit: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        fs::create_dir_all(dir).map_err(SealedError::io("create", dir))?;
        let lock = lock(dir)?;
        let reader = SealedReader::new(dir, key, purpose);
        let segments = list_segments(dir)?;
        let no_entry = |from: Position| SealedError::NoEntry {
            dir: dir.into(),
            segment: from.segment,
            offset: from.offset,
        };
        if let Some(from) = from
            && !segments.contains(&from.segment)
        {
            return Err(no_entry(from).into());
        }
        let mut shown = from.is_none();
        let mut next_frame = 0;
        let mut bytes_before = 0;
        let mut end = None;
        let mut repaired = None;
        for (i, &segment) in segments.iter().enumerate() {
            let last = i + 1 == segments.len();
            let path = segment_path(dir, segment);
            if u32::try_from(i).ok() != Some(segment) {
                return Err(damaged(&path, 0, "an earlier segment is missing").into());
            }
            if from.is_some_and(|from| segment < from.segment) {
                bytes_before += fs::metadata(&path)
                    .map_err(SealedError::io("read", &path))?
                    .len();
                continue;
            }
            let start = match from.filter(|from| from.segment == segment) {
                None => Start::Segment {
                    first_frame: next_frame,
                },
                Some(from) => Start::Frame {
                    frame: from.frame,
                    offset: from.offset,
                },
            };
            let replayed = replay(
                &reader,
                segment,
                start,
                last,
                &options,
                &mut |position, bytes: &[u8]| match from {
                    Some(from) if !shown && position.entry < from.entry => Ok(()),
                    Some(from) if !shown && position != from => Err(no_entry(from).into()),
                    _ => {
                        shown = true;
                        visit(position, bytes)
                    }
                },
            )?;
            if let Some(from) = from.filter(|_| !shown) {
                return Err(no_entry(from).into());
            }
            next_frame = replayed.next_frame;
            if replayed.torn > 0 {
                cut(&path, replayed.end)?;
                repaired = Some(Repair {
                    path: path.clone(),
                    offset: replayed.end,
                    dropped_bytes: replayed.torn,
                });
            }
            if last {
                end = Some((segment, path, replayed.end));
            } else {
                bytes_before += replayed.end;
            }
        }
        let (segment, path, offset) = match end {
            Some(end) => end,
            None => (0, create_segment(&reader, 0, 0)?, HEADER_BYTES as u64),
        };
        let file = open_end(&path, offset)?;
        Ok(Self {
            reader,
            options,
            file,
            path,
            segment,
            offset,
            next_frame,
            bytes_before,
            repaired,
            poisoned: false,
            _lock: lock,
        })
    }

    /// Appends the entries in order and syncs; returns where each lies. All of them are durable, or the call fails; after a failure
    /// a prefix that filled whole frames may be there all the same, which only a group over `max_frame_bytes` can have.
    ///
    /// # Errors
    /// [`SealedError::TooLong`] with nothing written; [`SealedError::Io`], after which the log can be used again if the end of the
    /// file could be restored; [`SealedError::Poisoned`] if it could not.
    pub fn append<T: AsRef<[u8]>>(&mut self, entries: &[T]) -> Result<Vec<Position>, SealedError> {
        let max = self.options.max_frame_bytes;
        if let Some(long) = entries.iter().find(|e| e.as_ref().len() + 4 > max) {
            return Err(SealedError::TooLong {
                found: long.as_ref().len(),
                max: max.saturating_sub(4),
            });
        }
        let mut positions = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let mut size = 0;
            let fits = rest
                .iter()
                .take_while(|e| {
                    size += 4 + e.as_ref().len();
                    size <= max
                })
                .count();
            let (group, later) = rest.split_at(fits);
            self.append_frame(group, &mut positions)?;
            rest = later;
        }
        Ok(positions)
    }

    fn append_frame<T: AsRef<[u8]>>(
        &mut self,
        group: &[T],
        positions: &mut Vec<Position>,
    ) -> Result<(), SealedError> {
        if self.poisoned {
            return Err(SealedError::Poisoned {
                path: self.path.clone(),
            });
        }
        if self.offset >= self.options.max_segment_bytes {
            self.roll()?;
        }
        let plain = join(group);
        let frame = self
            .reader
            .sealer
            .frame(&plain, self.segment, self.next_frame)
            .ok_or(SealedError::TooLong {
                found: plain.len(),
                max: self.options.max_frame_bytes,
            })?;
        if let Err(e) = self.file.write_all(&frame) {
            // The frame was never acknowledged: take it back, so that the log goes on once there is room.
            self.poisoned = self.restore_end().is_err();
            return Err(SealedError::io("write", &self.path)(e));
        }
        if let Err(e) = self.file.sync_data() {
            // After a failed sync the kernel may have dropped the pages: nothing is known about this file until it is read again.
            self.poisoned = true;
            return Err(SealedError::io("sync", &self.path)(e));
        }
        positions.extend((0..).take(group.len()).map(|entry| Position {
            frame: self.next_frame,
            offset: self.offset,
            segment: self.segment,
            entry,
        }));
        self.offset += frame.len() as u64;
        self.next_frame += 1;
        Ok(())
    }

    /// The number of the last segment.
    #[must_use]
    pub const fn segment(&self) -> u32 {
        self.segment
    }

    /// Begins a new segment, unless the last one is empty: from then on the one before can be written anew.
    ///
    /// # Errors
    /// [`SealedError::Io`]; the log goes on in the last segment then.
    pub fn roll(&mut self) -> Result<(), SealedError> {
        if self.offset <= HEADER_BYTES as u64 || self.poisoned {
            return Ok(());
        }
        let segment = self.segment + 1;
        let path = create_segment(&self.reader, segment, self.next_frame)?;
        self.file = open_end(&path, HEADER_BYTES as u64)?;
        self.bytes_before += self.offset;
        self.path = path;
        self.segment = segment;
        self.offset = HEADER_BYTES as u64;
        Ok(())
    }

    fn restore_end(&mut self) -> io::Result<()> {
        self.file.set_len(self.offset)?;
        self.file.seek(SeekFrom::Start(self.offset))?;
        self.file.sync_data()
    }

    /// A reader that may be handed to other threads.
    #[must_use]
    pub fn reader(&self) -> SealedReader {
        self.reader.clone()
    }

    /// Length of all segments, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes_before + self.offset
    }

    /// The torn tail that was cut off when the log was opened, if there was one.
    #[must_use]
    pub const fn repaired(&self) -> Option<&Repair> {
        self.repaired.as_ref()
    }
}

/// How often a lock that another holds is tried, and the pause after each time.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

fn lock(dir: &Path) -> Result<File, SealedError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(SealedError::io("create", &path))?;
    // A program that this process starts holds every lock of it between fork and exec, even one that was just given up.
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(e)) => return Err(SealedError::io("lock", path)(e)),
        }
    }
    Err(SealedError::Locked { path })
}
