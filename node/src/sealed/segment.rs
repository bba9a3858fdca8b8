//! One segment file of a sealed log: how it begins, how it is read, and what may be torn.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::SealedError;
use super::file::{create_private, sync_parent, temp_name};
use super::frame::{
    FRAME_HEAD_BYTES, HEADER_BYTES, HeaderFault, SEAL_BYTES, first_frame_of, frame_len, gap_len,
    split,
};
use super::log::LogOptions;
use super::reader::{Position, SealedReader};

pub(super) struct Replayed {
    pub(super) next_frame: u64,
    pub(super) end: u64,
    pub(super) torn: u64,
}

/// Where reading a segment begins.
#[derive(Clone, Copy)]
pub(super) enum Start {
    /// At its header, which must name this frame as its first.
    Segment { first_frame: u64 },
    /// At a frame in it.
    Frame { frame: u64, offset: u64 },
}

/// Reads one segment. Only in the `last` one may the tail be torn.
pub(super) fn replay<E: From<SealedError>>(
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

pub(super) fn damaged(path: &Path, offset: u64, what: &'static str) -> SealedError {
    SealedError::Damaged {
        path: path.into(),
        offset,
        what,
    }
}

pub(super) fn segment_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08}.log"))
}

pub(super) fn list_segments(dir: &Path) -> Result<Vec<u32>, SealedError> {
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
pub(super) fn create_segment(
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

pub(super) fn open_end(path: &Path, offset: u64) -> Result<File, SealedError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(SealedError::io("open", path))?;
    file.seek(SeekFrom::Start(offset))
        .map_err(SealedError::io("seek", path))?;
    Ok(file)
}

pub(super) fn cut(path: &Path, len: u64) -> Result<(), SealedError> {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(SealedError::io("open", path))?;
    file.set_len(len)
        .map_err(SealedError::io("truncate", path))?;
    file.sync_all().map_err(SealedError::io("sync", path))
}
