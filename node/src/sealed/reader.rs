//! Where entries of a sealed log lie, and reading them from any thread.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::file::{create_private, sync_parent, temp_name};
use super::frame::{
    FRAME_HEAD_BYTES, HEADER_BYTES, SEAL_BYTES, Sealer, first_frame_of, frame_len, gap_head, join,
    split,
};
use super::log::LogOptions;
use super::segment::{Start, damaged, replay, segment_path};
use super::{SealedError, StorageKey};

/// Where one entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub(super) frame: u64,
    pub(super) offset: u64,
    pub(super) segment: u32,
    pub(super) entry: u32,
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

/// Reads entries of an open log by position, from any thread.
#[derive(Clone)]
pub struct SealedReader {
    pub(super) dir: Arc<Path>,
    pub(super) purpose: Arc<str>,
    pub(super) sealer: Sealer,
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
        let plain = self.frame(&file, &path, position)?;
        let entries = split(&plain).ok_or_else(|| bad("frame is no group"))?;
        entries
            .get(position.entry as usize)
            .map(|e| Zeroizing::new(e.to_vec()))
            .ok_or_else(|| bad("no such entry"))
    }

    /// The content of the frame at `position`, whatever its entry.
    fn frame(
        &self,
        file: &File,
        path: &Path,
        position: Position,
    ) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        let bad = |what| damaged(path, position.offset, what);
        let mut head = [0; FRAME_HEAD_BYTES];
        file.read_exact_at(&mut head, position.offset)
            .map_err(SealedError::io("read", path))?;
        let len = frame_len(head, position.frame).ok_or_else(|| bad("frame head"))?;
        let mut sealed = vec![0; len as usize];
        file.read_exact_at(&mut sealed, position.offset + FRAME_HEAD_BYTES as u64)
            .map_err(SealedError::io("read", path))?;
        self.sealer
            .open_frame(&sealed, position.segment, position.frame)
            .ok_or_else(|| bad("frame does not open"))
    }

    /// Shows every entry of a segment that is not the last one.
    ///
    /// # Errors
    /// [`SealedError::Damaged`], [`SealedError::Io`], and what `visit` gives.
    pub fn visit_segment<E: From<SealedError>>(
        &self,
        segment: u32,
        visit: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.visit(segment, false, visit)
    }

    /// Shows every entry that is whole now of the segment that is being written.
    ///
    /// # Errors
    /// As [`Self::visit_segment`].
    pub fn visit_open_segment<E: From<SealedError>>(
        &self,
        segment: u32,
        visit: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // What is not whole yet looks like a torn tail, and is left alone.
        self.visit(segment, true, visit)
    }

    fn visit<E: From<SealedError>>(
        &self,
        segment: u32,
        may_be_torn: bool,
        mut visit: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = segment_path(&self.dir, segment);
        let mut header = [0; HEADER_BYTES];
        File::open(&path)
            .and_then(|f| f.read_exact_at(&mut header, 0))
            .map_err(SealedError::io("read", &path))?;
        let first_frame = first_frame_of(&header);
        let start = Start::Segment { first_frame };
        replay(self, segment, start, may_be_torn, &any_size(), &mut visit)?;
        Ok(())
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
        // The first entry of each frame.
        let mut frames: Vec<Position> = Vec::new();
        self.visit_segment(segment, |position, _| {
            if frames
                .last()
                .is_none_or(|last| last.frame != position.frame)
            {
                frames.push(position);
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
        for (i, position) in frames.iter().copied().enumerate() {
            let Position { frame, offset, .. } = position;
            let bad = |what| damaged(&path, offset, what);
            let end = frames.get(i + 1).map_or(len, |next| next.offset);
            let plain = self.frame(&old, &path, position)?;
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
