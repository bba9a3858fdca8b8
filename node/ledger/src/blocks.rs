//! Blocks in append-only segment files. A frame is a u32 length, the CRC-32C of the payload, and the payload: the block's
//! length-prefixed bytes and its certificate's. A frame is synced before [`BlockStore::append`] returns, so only the last
//! one can be torn; that one was acknowledged to nobody and is cut off at the next start. Anything else that is wrong is
//! damage, and is left as it is for someone to look at. The blocks start at height 1, or after a base (see `base.rs`).

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tally_contracts::CodecError;
use tally_contracts::block::{Block, MAX_BLOCK_BYTES};
use tally_contracts::codec::{Reader, Writer};

use crate::base::Base;
use crate::error::{Error, IoContext};
use crate::files::{make_dir, sync_dir};

const FRAME_HEAD: u64 = 8;
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
/// Two lengths.
const MIN_PAYLOAD: usize = 8;
const MAX_PAYLOAD: usize = MAX_BLOCK_BYTES + MAX_CERTIFICATE_BYTES + 8;

#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u32,
    offset: u64,
    len: u32,
}

/// A block and its certificate as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Canonical bytes of the block.
    pub block: Vec<u8>,
    /// Canonical bytes of its commit certificate.
    pub certificate: Vec<u8>,
}

/// The blocks of one ledger, from height 1 or from its base on.
pub struct BlockStore {
    dir: PathBuf,
    segment_bytes: u64,
    base: Base,
    places: Vec<Place>,
    current: Option<(u32, File, u64)>,
}

impl BlockStore {
    /// Opens or creates the store, and cuts off a torn last frame. `segment_bytes` is the size past which a new file is begun.
    /// `acknowledged` is how many blocks are known to have been synced, 0 if nobody knows.
    ///
    /// # Errors
    /// [`Error::Damaged`] if fewer blocks than `acknowledged` are whole, for a bad frame with a good one after it, and for a
    /// missing file; [`Error::Io`].
    pub fn open(dir: &Path, segment_bytes: u64, acknowledged: u64) -> Result<Self, Error> {
        make_dir(dir)?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(dir).on("list", dir)? {
            let name = entry.on("list", dir)?.file_name();
            if let Some(n) = name
                .to_str()
                .and_then(|n| n.strip_suffix(".seg"))
                .and_then(|n| n.parse().ok())
            {
                numbers.push(n);
            }
        }
        numbers.sort_unstable();
        let base = Base::load(dir)?;
        // Files before the base are what a drop that was cut short has left.
        for number in numbers.iter().filter(|n| **n < base.segment) {
            let path = segment_path(dir, *number);
            fs::remove_file(&path).on("remove", &path)?;
        }
        numbers.retain(|n| *n >= base.segment);
        let first = base.segment;
        let mut store = Self {
            dir: dir.to_owned(),
            segment_bytes,
            base,
            places: Vec::new(),
            current: None,
        };
        for (i, number) in numbers.iter().enumerate() {
            let expected = u32::try_from(i).map_or(u32::MAX, |i| first.saturating_add(i));
            if *number != expected {
                return Err(Error::damaged_blocks(
                    &store.path(expected),
                    0,
                    format!(
                        "the file is missing, while {} exists",
                        store.path(*number).display()
                    ),
                ));
            }
            store.scan(*number, i + 1 == numbers.len(), acknowledged)?;
        }
        if store.height() < acknowledged {
            return Err(Error::damaged_blocks(
                dir,
                0,
                format!(
                    "the last block is {}, but {acknowledged} were committed",
                    store.height()
                ),
            ));
        }
        Ok(store)
    }

    /// The height of the last block, stored or not; 0 if there is none.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.base.height + self.places.len() as u64
    }

    /// Where the stored blocks start.
    pub(crate) const fn base(&self) -> &Base {
        &self.base
    }

    /// The height of the last block of every file but the one that is written to, ascending.
    pub(crate) fn borders(&self) -> Vec<(u32, u64)> {
        let heights = self.base.height + 1..;
        let pairs: Vec<(u32, u64)> = self.places.iter().map(|p| p.segment).zip(heights).collect();
        pairs
            .windows(2)
            .filter_map(|pair| match pair {
                [(segment, height), (next, _)] if segment != next => Some((*segment, *height)),
                _ => None,
            })
            .collect()
    }

    /// Drops the blocks up to the base given, which ends a file. The base is on disk before the first file goes.
    pub(crate) fn drop_before(&mut self, base: Base) -> Result<(), Error> {
        if base.height <= self.base.height || base.height >= self.height() {
            return Err(Error::Internal("a base outside the stored blocks"));
        }
        base.store(&self.dir)?;
        let gone = usize::try_from(base.height - self.base.height)
            .map_err(|_| Error::Internal("block count"))?;
        self.places.drain(..gone);
        let old = self.base.segment..base.segment;
        self.base = base;
        for number in old {
            let path = self.path(number);
            fs::remove_file(&path).on("remove", &path)?;
        }
        sync_dir(&self.dir)
    }

    /// Appends the next block; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Io`]; the file is then cut back to what it was, as far as the disk allows.
    pub fn append(&mut self, block: &[u8], certificate: &[u8]) -> Result<(), Error> {
        let (frame, len) = frame_of(block, certificate)?;
        if self
            .current
            .as_ref()
            .is_none_or(|(_, _, end)| *end >= self.segment_bytes)
        {
            self.roll()?;
        }
        let number = self.current.as_ref().map_or(1, |c| c.0);
        let path = self.path(number);
        let Some((_, file, end)) = self.current.as_mut() else {
            return Err(Error::Internal("no segment"));
        };
        let written = file
            .seek(SeekFrom::Start(*end))
            .and_then(|_| file.write_all(&frame))
            .and_then(|()| file.sync_data());
        if let Err(source) = written {
            let _ = file.set_len(*end).and_then(|()| file.sync_data());
            return Err(Error::Io {
                action: "append to",
                path,
                source,
            });
        }
        self.places.push(Place {
            segment: number,
            offset: *end,
            len,
        });
        *end += FRAME_HEAD + u64::from(len);
        Ok(())
    }

    /// Appends the next blocks with one sync; durable when it returns. They are a file of their own, which has its name only once it is
    /// whole: so a crash leaves all of them or none, and no torn frame before a good one.
    ///
    /// # Errors
    /// [`Error::Io`]; none of them is there then.
    pub(crate) fn append_all(&mut self, blocks: &[(&[u8], Vec<u8>)]) -> Result<(), Error> {
        if let [] | [_] = blocks {
            return blocks
                .iter()
                .try_for_each(|(block, certificate)| self.append(block, certificate));
        }
        let number = self.next_number();
        let path = self.path(number);
        let unnamed = path.with_extension("new");
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for (block, certificate) in blocks {
            let (frame, len) = frame_of(block, certificate)?;
            places.push(Place {
                segment: number,
                offset: bytes.len() as u64,
                len,
            });
            bytes.extend(frame);
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&unnamed)
            .on("create", &unnamed)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .on("write", &unnamed)?;
        fs::rename(&unnamed, &path).on("rename", &unnamed)?;
        sync_dir(&self.dir)?;
        self.places.extend(places);
        self.current = Some((number, file, bytes.len() as u64));
        Ok(())
    }

    /// The block of a height.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Dropped`], [`Error::Damaged`], [`Error::Io`].
    pub fn read(&self, height: u64) -> Result<StoredBlock, Error> {
        if (1..=self.base.height).contains(&height) {
            return Err(Error::Dropped {
                what: "block",
                asked: height,
                first: self.base.height + 1,
            });
        }
        let place = height
            .checked_sub(self.base.height + 1)
            .and_then(|i| self.places.get(usize::try_from(i).ok()?))
            .ok_or(Error::OutOfRange {
                what: "block",
                asked: height,
                have: self.height(),
            })?;
        let path = self.path(place.segment);
        let file = File::open(&path).on("open", &path)?;
        let payload = read_frame(&file, &path, place.offset, place.len)?;
        decode_payload(&payload)
            .map_err(|e| Error::damaged_blocks(&path, place.offset, e.to_string()))
    }

    fn path(&self, number: u32) -> PathBuf {
        segment_path(&self.dir, number)
    }

    /// The number of the next file.
    fn next_number(&self) -> u32 {
        let first = self.base.segment;
        let current = self.current.as_ref();
        current.map_or(first, |c| c.0.saturating_add(1))
    }

    fn roll(&mut self) -> Result<(), Error> {
        let number = self.next_number();
        let path = self.path(number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .on("create", &path)?;
        file.sync_all().on("sync", &path)?;
        sync_dir(&self.dir)?;
        self.current = Some((number, file, 0));
        Ok(())
    }

    /// Reads the frames of one file. Only heads are read, but for the last frame of the last file, whose checksum decides
    /// whether it was torn; the others are checked whenever they are read.
    fn scan(&mut self, number: u32, last_file: bool, acknowledged: u64) -> Result<(), Error> {
        let path = self.path(number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .on("open", &path)?;
        let size = file.metadata().on("read", &path)?.len();
        let mut offset = 0;
        while offset < size {
            let Some(len) = self.whole_frame(&file, &path, offset, size, last_file)? else {
                self.cut_off(&file, &path, offset, size, last_file, acknowledged)?;
                break;
            };
            self.places.push(Place {
                segment: number,
                offset,
                len,
            });
            offset += FRAME_HEAD + u64::from(len);
        }
        self.current = Some((number, file, offset));
        Ok(())
    }

    /// The length of the frame at `offset`; `None` if it is not whole.
    fn whole_frame(
        &self,
        file: &File,
        path: &Path,
        offset: u64,
        size: u64,
        last_file: bool,
    ) -> Result<Option<u32>, Error> {
        let Some(len) = frame_len(file, path, offset, size)? else {
            return Ok(None);
        };
        if last_file && offset + FRAME_HEAD + u64::from(len) == size {
            return match read_frame(file, path, offset, len) {
                Ok(_) => Ok(Some(len)),
                Err(Error::Damaged { .. }) => Ok(None),
                Err(e) => Err(e),
            };
        }
        Ok(Some(len))
    }

    /// Cuts off what is left from `offset`, if it can only be a last frame that was being written.
    fn cut_off(
        &self,
        file: &File,
        path: &Path,
        offset: u64,
        size: u64,
        last_file: bool,
        acknowledged: u64,
    ) -> Result<(), Error> {
        let damaged = |reason: String| Err(Error::damaged_blocks(path, offset, reason));
        let height = self.height() + 1;
        if !last_file {
            return damaged(format!("block {height} is incomplete"));
        }
        if self.height() < acknowledged {
            return damaged(format!(
                "block {height} is not whole, but {acknowledged} were committed"
            ));
        }
        // A changed length sends the scan astray at the frame before, or right here.
        if let Some(before) = self.places.last().filter(|p| self.path(p.segment) == path) {
            read_frame(file, path, before.offset, before.len)?;
        }
        if size - offset > MAX_PAYLOAD as u64 + FRAME_HEAD {
            return damaged(format!(
                "block {height} is not whole, and more than one block follows"
            ));
        }
        let mut rest = vec![0; usize::try_from(size - offset).unwrap_or(0)];
        file.read_exact_at(&mut rest, offset).on("read", path)?;
        if holds_later_block(&rest, height) {
            return damaged(format!(
                "block {height} is not whole, but a whole one follows"
            ));
        }
        tracing::warn!(file = %path.display(), offset, cut = size - offset, "cut off a block that was not written to its end");
        file.set_len(offset).on("shorten", path)?;
        file.sync_all().on("sync", path)
    }
}

/// A frame, with the length of its payload.
fn frame_of(block: &[u8], certificate: &[u8]) -> Result<(Vec<u8>, u32), Error> {
    let mut w = Writer::new();
    w.bytes(block).bytes(certificate);
    let payload = w.into_bytes();
    if payload.len() > MAX_PAYLOAD {
        return Err(Error::Internal("a block over its size limit"));
    }
    let len = u32::try_from(payload.len()).map_err(|_| Error::Internal("block length"))?;
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&crc32c::crc32c(&payload).to_be_bytes());
    frame.extend_from_slice(&payload);
    Ok((frame, len))
}

fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

/// The length of the frame at `offset`; `None` if it does not fit the file, as after a torn write. Zeros, which some file
/// systems leave after a crash, are no frame.
fn frame_len(file: &File, path: &Path, offset: u64, size: u64) -> Result<Option<u32>, Error> {
    if size - offset < FRAME_HEAD {
        return Ok(None);
    }
    let mut head = [0; 4];
    file.read_exact_at(&mut head, offset).on("read", path)?;
    let len = u32::from_be_bytes(head);
    let fits = (MIN_PAYLOAD..=MAX_PAYLOAD).contains(&(len as usize))
        && offset + FRAME_HEAD + u64::from(len) <= size;
    Ok(fits.then_some(len))
}

/// Whether a whole frame with a block of `height` or above starts anywhere in these bytes but at their start: then the length that
/// stands there was changed, and was not torn.
fn holds_later_block(bytes: &[u8], height: u64) -> bool {
    (1..bytes.len()).any(|at| {
        let frame = bytes.get(at..).and_then(|b| {
            let (len, b) = b.split_first_chunk::<4>()?;
            let (sum, b) = b.split_first_chunk::<4>()?;
            let payload = b.get(..u32::from_be_bytes(*len) as usize)?;
            // The inner lengths rule out nearly every place before a checksum is made.
            let stored = decode_payload(payload).ok()?;
            (crc32c::crc32c(payload) == u32::from_be_bytes(*sum)).then_some(stored)
        });
        frame.is_some_and(|stored| {
            Block::from_bytes(&stored.block).is_ok_and(|b| b.header.height >= height)
        })
    })
}

fn decode_payload(payload: &[u8]) -> Result<StoredBlock, CodecError> {
    let mut r = Reader::new(payload);
    let block = r.bytes("block", MAX_BLOCK_BYTES)?;
    let certificate = r.bytes("certificate", MAX_CERTIFICATE_BYTES)?;
    r.finish()?;
    Ok(StoredBlock {
        block: block.to_vec(),
        certificate: certificate.to_vec(),
    })
}

fn read_frame(file: &File, path: &Path, offset: u64, len: u32) -> Result<Vec<u8>, Error> {
    let mut sum = [0; 4];
    file.read_exact_at(&mut sum, offset + 4).on("read", path)?;
    let mut payload = vec![0; len as usize];
    file.read_exact_at(&mut payload, offset + FRAME_HEAD)
        .on("read", path)?;
    if crc32c::crc32c(&payload) == u32::from_be_bytes(sum) {
        Ok(payload)
    } else {
        Err(Error::damaged_blocks(path, offset, "wrong checksum"))
    }
}
