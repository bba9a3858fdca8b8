//! The append-only sealed log: segment files of frames, one frame per group append, synced before the append returns.
//!
//! Because every frame is durable before the next is begun, a crash can tear the last frame of the last segment only; that one is cut
//! off when the log is opened. Anything else that does not open is damage, and is reported with its place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::file::{create_private, sync_parent, temp_name};
use super::frame::{
    FRAME_HEAD_BYTES, HEADER_BYTES, HeaderFault, SEAL_BYTES, Sealer, first_frame_of, frame_len,
    gap_head, gap_len, join, split,
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

/// Where one entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    frame: u64,
    offset: u64,
    segment: u32,
    entry: u32,
}

impl Position {
    /// Length of [`Self::to_bytes`].
    pub const BYTES: usize = 24;

    /// Frame u64, offset u64, segment u32, number of the entry in its frame u32; big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(&self.frame.to_be_bytes());
        out[8..16].copy_from_slice(&self.offset.to_be_bytes());
        out[16..20].copy_from_slice(&self.segment.to_be_bytes());
        out[20..].copy_from_slice(&self.entry.to_be_bytes());
        out
    }

    /// Reads [`Self::to_bytes`]; whether an entry lies there is seen when it is read.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [frame, offset, rest] = *bytes.as_chunks::<8>().0 else {
            return Self {
                frame: 0,
                offset: 0,
                segment: 0,
                entry: 0,
            };
        };
        let rest = u64::from_be_bytes(rest);
        Self {
            frame: u64::from_be_bytes(frame),
            offset: u64::from_be_bytes(offset),
            segment: u32::try_from(rest >> 32).unwrap_or(u32::MAX),
            entry: u32::try_from(rest & u64::from(u32::MAX)).unwrap_or(u32::MAX),
        }
    }

    /// The segment that it lies in.
    #[must_use]
    pub const fn segment(self) -> u32 {
        self.segment
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

/// Reads entries of an open log by position, from any thread.
#[derive(Clone)]
pub struct SealedReader {
    dir: Arc<Path>,
    purpose: Arc<str>,
    sealer: Sealer,
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

impl SealedReader {
    /// Reads the log in `dir`, which need not be open yet.
    #[must_use]
    pub fn new(dir: &Path, key: &StorageKey, purpose: &str) -> Self {
        Self {
            dir: dir.into(),
            purpose: purpose.into(),
            sealer: Sealer::new(key, purpose),
        }
    }

    /// The entry at `position`.
    ///
    /// # Errors
    /// [`SealedError::Damaged`] if it does not open, [`SealedError::Io`].
    pub fn read(&self, position: Position) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        let path = segment_path(&self.dir, position.segment);
        let bad = |what| damaged(&path, position.offset, what);
        let file = File::open(&path).map_err(SealedError::io("open", &path))?;
        let mut head = [0; FRAME_HEAD_BYTES];
        file.read_exact_at(&mut head, position.offset)
            .map_err(SealedError::io("read", &path))?;
        let len = frame_len(head, position.frame).ok_or_else(|| bad("frame head"))?;
        let mut sealed = vec![0; len as usize];
        file.read_exact_at(&mut sealed, position.offset + FRAME_HEAD_BYTES as u64)
            .map_err(SealedError::io("read", &path))?;
        let plain = self
            .sealer
            .open_frame(&sealed, position.segment, position.frame)
            .ok_or_else(|| bad("frame does not open"))?;
        let entries = split(&plain).ok_or_else(|| bad("frame is no group"))?;
        entries
            .get(position.entry as usize)
            .map(|e| Zeroizing::new(e.to_vec()))
            .ok_or_else(|| bad("no such entry"))
    }
}

impl SealedReader {
    /// Shows every entry of a segment that is not the last one.
    ///
    /// # Errors
    /// [`SealedError::Damaged`], [`SealedError::Io`], and what `visit` gives.
    pub fn visit_segment<E: From<SealedError>>(
        &self,
        segment: u32,
        mut visit: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let first_frame = self.first_frame(segment)?;
        let start = Start::Segment { first_frame };
        replay(self, segment, start, false, &any_size(), &mut visit)?;
        Ok(())
    }

    /// Shows every entry that is whole now of the segment that is being written.
    ///
    /// # Errors
    /// As [`Self::visit_segment`].
    pub fn visit_open_segment<E: From<SealedError>>(
        &self,
        segment: u32,
        mut visit: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let first_frame = self.first_frame(segment)?;
        let start = Start::Segment { first_frame };
        // What is not whole yet looks like a torn tail, and is left alone.
        replay(self, segment, start, true, &any_size(), &mut visit)?;
        Ok(())
    }

    /// The number of a segment's first frame.
    fn first_frame(&self, segment: u32) -> Result<u64, SealedError> {
        let path = segment_path(&self.dir, segment);
        let mut header = [0; HEADER_BYTES];
        File::open(&path)
            .and_then(|f| f.read_exact_at(&mut header, 0))
            .map_err(SealedError::io("read", &path))?;
        Ok(first_frame_of(&header))
    }

    /// Writes a segment that is not the last one anew, each entry as `map` gives it, none longer than it was. Every entry keeps its position,
    /// also for who reads meanwhile; what becomes free is given back to the disk. After a crash the segment is the old one or the new one.
    ///
    /// # Errors
    /// [`SealedError::TooLong`] if an entry grew, [`SealedError::Damaged`], [`SealedError::Io`], and what `map` gives; the segment is as before.
    pub fn rewrite_segment<E: From<SealedError>>(
        &self,
        segment: u32,
        mut map: impl FnMut(&[u8]) -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<(), E> {
        let path = segment_path(&self.dir, segment);
        let mut frames: Vec<(u64, u64)> = Vec::new();
        self.visit_segment(segment, |position, _| {
            if frames.last() != Some(&(position.frame, position.offset)) {
                frames.push((position.frame, position.offset));
            }
            Ok::<_, E>(())
        })?;
        let old = File::open(&path).map_err(SealedError::io("open", &path))?;
        let len = old
            .metadata()
            .map_err(SealedError::io("read", &path))?
            .len();
        let temp = temp_name(&path);
        let new = create_private(&temp)?;
        let write = |bytes: &[u8], at: u64| {
            new.write_all_at(bytes, at)
                .map_err(SealedError::io("write", &temp))
        };
        let mut header = [0; HEADER_BYTES];
        old.read_exact_at(&mut header, 0)
            .map_err(SealedError::io("read", &path))?;
        write(&header, 0)?;
        for (i, (frame, offset)) in frames.iter().copied().enumerate() {
            let bad = |what| damaged(&path, offset, what);
            let end = frames.get(i + 1).map_or(len, |next| next.1);
            let mut head = [0; FRAME_HEAD_BYTES];
            old.read_exact_at(&mut head, offset)
                .map_err(SealedError::io("read", &path))?;
            let sealed_len = frame_len(head, frame).ok_or_else(|| bad("frame head"))?;
            let mut sealed = vec![0; sealed_len as usize];
            old.read_exact_at(&mut sealed, offset + FRAME_HEAD_BYTES as u64)
                .map_err(SealedError::io("read", &path))?;
            let plain = self
                .sealer
                .open_frame(&sealed, segment, frame)
                .ok_or_else(|| bad("frame does not open"))?;
            let entries = split(&plain)
                .ok_or_else(|| bad("frame is no group"))?
                .into_iter()
                .map(&mut map)
                .collect::<Result<Vec<_>, E>>()?;
            let too_long = || SealedError::TooLong {
                found: entries.iter().map(|e| 4 + e.len()).sum(),
                max: plain.len(),
            };
            let mut bytes = self
                .sealer
                .frame(&join(&entries), segment, frame)
                .ok_or_else(too_long)?;
            let room = usize::try_from(end - offset).unwrap_or_default();
            let gap = room.checked_sub(bytes.len()).ok_or_else(too_long)?;
            if gap > 0 && gap < FRAME_HEAD_BYTES {
                // No gap is so short: such a frame stays as it is.
                bytes = vec![0; room];
                old.read_exact_at(&mut bytes, offset)
                    .map_err(SealedError::io("read", &path))?;
            }
            write(&bytes, offset)?;
            if gap >= FRAME_HEAD_BYTES {
                let len = u32::try_from(gap - FRAME_HEAD_BYTES).map_err(|_| too_long())?;
                write(&gap_head(len, frame + 1), offset + bytes.len() as u64)?;
            }
        }
        // Gaps are not written: they take no room.
        new.set_len(len).map_err(SealedError::io("write", &temp))?;
        new.sync_all().map_err(SealedError::io("sync", &temp))?;
        fs::rename(&temp, &path).map_err(SealedError::io("rename", &temp))?;
        Ok(sync_parent(&path)?)
    }
}

/// For segments that were written under limits of their own.
const fn any_size() -> LogOptions {
    LogOptions {
        max_segment_bytes: u64::MAX,
        max_frame_bytes: u32::MAX as usize - SEAL_BYTES,
    }
}

struct Replayed {
    next_frame: u64,
    end: u64,
    torn: u64,
}

/// Where reading a segment begins.
#[derive(Clone, Copy)]
enum Start {
    /// At its header, which must name this frame as its first.
    Segment { first_frame: u64 },
    /// At a frame in it.
    Frame { frame: u64, offset: u64 },
}

/// Reads one segment. Only in the `last` one may the tail be torn.
fn replay<E: From<SealedError>>(
    reader: &SealedReader,
    segment: u32,
    start: Start,
    last: bool,
    options: &LogOptions,
    visit: &mut impl FnMut(Position, &[u8]) -> Result<(), E>,
) -> Result<Replayed, E> {
    let path = segment_path(&reader.dir, segment);
    let file = File::open(&path).map_err(SealedError::io("open", &path))?;
    let len = file
        .metadata()
        .map_err(SealedError::io("read", &path))?
        .len();
    let mut input = BufReader::with_capacity(1 << 16, file);
    let mut header = [0; HEADER_BYTES];
    let read = |input: &mut BufReader<File>, into: &mut [u8]| {
        input
            .read_exact(into)
            .map_err(SealedError::io("read", &path))
    };
    if len < HEADER_BYTES as u64 {
        return Err(damaged(&path, 0, "segment header is cut").into());
    }
    read(&mut input, &mut header)?;
    let first_frame = match start {
        Start::Segment { first_frame } => first_frame,
        Start::Frame { .. } => first_frame_of(&header),
    };
    match reader.sealer.check_header(&header, segment, first_frame) {
        Ok(()) => {}
        Err(HeaderFault::WrongKey) => {
            return Err(SealedError::WrongKey {
                path,
                purpose: reader.purpose.to_string(),
            }
            .into());
        }
        Err(HeaderFault::NoHeader) => return Err(damaged(&path, 0, "no segment header").into()),
        Err(HeaderFault::OutOfOrder) => {
            return Err(damaged(&path, 0, "frames before this segment are missing").into());
        }
    }
    let (mut at, mut frame) = match start {
        Start::Segment { first_frame } => (HEADER_BYTES as u64, first_frame),
        Start::Frame { frame, offset } => {
            let no_entry = || SealedError::NoEntry {
                dir: reader.dir.to_path_buf(),
                segment,
                offset,
            };
            let mut head = [0; FRAME_HEAD_BYTES];
            let there = offset
                .checked_add(FRAME_HEAD_BYTES as u64)
                .is_some_and(|end| end <= len)
                && offset >= HEADER_BYTES as u64
                && frame >= first_frame
                && input.get_ref().read_exact_at(&mut head, offset).is_ok()
                && frame_len(head, frame).is_some();
            if !there {
                return Err(no_entry().into());
            }
            input
                .seek(SeekFrom::Start(offset))
                .map_err(SealedError::io("seek", &path))?;
            (offset, frame)
        }
    };
    let max_len = (options.max_frame_bytes + SEAL_BYTES) as u64;
    loop {
        let left = len - at;
        let done = |torn| {
            Ok(Replayed {
                next_frame: frame,
                end: at,
                torn,
            })
        };
        if left == 0 {
            return done(0);
        }
        let torn = |what| {
            if last {
                done(left)
            } else {
                Err(E::from(damaged(&path, at, what)))
            }
        };
        if left < FRAME_HEAD_BYTES as u64 {
            return torn("frame head is cut");
        }
        let mut head = [0; FRAME_HEAD_BYTES];
        read(&mut input, &mut head)?;
        let after = left - FRAME_HEAD_BYTES as u64;
        if let Some(gap) = gap_len(head, frame)
            && u64::from(gap) <= after
        {
            input
                .seek_relative(i64::from(gap))
                .map_err(SealedError::io("seek", &path))?;
            at += FRAME_HEAD_BYTES as u64 + u64::from(gap);
            continue;
        }
        let Some(frame_len) = frame_len(head, frame).filter(|n| u64::from(*n) <= max_len) else {
            // A file may have grown by blocks that were never written: those read as zeros.
            return if only_zeros(&mut input).map_err(SealedError::io("read", &path))? {
                torn("frame head is zeros")
            } else {
                Err(damaged(&path, at, "frame head").into())
            };
        };
        if after < u64::from(frame_len) {
            return torn("frame is cut");
        }
        let mut sealed = vec![0; frame_len as usize];
        read(&mut input, &mut sealed)?;
        let Some(plain) = reader.sealer.open_frame(&sealed, segment, frame) else {
            let unwritten = after == u64::from(frame_len)
                && sealed.last_chunk::<16>().is_some_and(|t| *t == [0; 16]);
            return if unwritten {
                torn("frame ends in zeros")
            } else {
                Err(damaged(&path, at, "frame does not open").into())
            };
        };
        let entries = split(&plain).ok_or_else(|| damaged(&path, at, "frame is no group"))?;
        for (entry, bytes) in (0..).zip(entries) {
            let position = Position {
                frame,
                offset: at,
                segment,
                entry,
            };
            visit(position, bytes)?;
        }
        at += FRAME_HEAD_BYTES as u64 + u64::from(frame_len);
        frame += 1;
    }
}

fn only_zeros(input: &mut impl Read) -> io::Result<bool> {
    let mut buf = [0; 4096];
    loop {
        let n = input.read(&mut buf)?;
        if n == 0 {
            return Ok(true);
        }
        if buf.iter().take(n).any(|b| *b != 0) {
            return Ok(false);
        }
    }
}

fn damaged(path: &Path, offset: u64, what: &'static str) -> SealedError {
    SealedError::Damaged {
        path: path.into(),
        offset,
        what,
    }
}

fn segment_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08}.log"))
}

fn list_segments(dir: &Path) -> Result<Vec<u32>, SealedError> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).map_err(SealedError::io("list", dir))? {
        let entry = entry.map_err(SealedError::io("list", dir))?;
        let name = entry.file_name();
        if let Some(number) = name.to_str().and_then(|n| n.strip_suffix(".log"))
            && let Ok(segment) = number.parse()
        {
            out.push(segment);
        }
    }
    out.sort_unstable();
    Ok(out)
}

/// A segment appears whole or not at all: its header is never torn.
fn create_segment(
    reader: &SealedReader,
    segment: u32,
    first_frame: u64,
) -> Result<PathBuf, SealedError> {
    let path = segment_path(&reader.dir, segment);
    let header = reader
        .sealer
        .header(segment, first_frame)
        .ok_or(SealedError::TooLong { found: 0, max: 0 })?;
    let temp = temp_name(&path);
    let mut file = create_private(&temp)?;
    file.write_all(&header)
        .map_err(SealedError::io("write", &temp))?;
    file.sync_all().map_err(SealedError::io("sync", &temp))?;
    fs::rename(&temp, &path).map_err(SealedError::io("rename", &temp))?;
    sync_parent(&path)?;
    Ok(path)
}

fn open_end(path: &Path, offset: u64) -> Result<File, SealedError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(SealedError::io("open", path))?;
    file.seek(SeekFrom::Start(offset))
        .map_err(SealedError::io("seek", path))?;
    Ok(file)
}

fn cut(path: &Path, len: u64) -> Result<(), SealedError> {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(SealedError::io("open", path))?;
    file.set_len(len)
        .map_err(SealedError::io("truncate", path))?;
    file.sync_all().map_err(SealedError::io("sync", path))
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
