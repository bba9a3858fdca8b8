//! One file of sorted rows, written once.
//!
//! ```text
//! blocks     each sealed: rows, one behind the other: key (17), length of the value u16, value
//! index      sealed: for each block its first key (17) and its offset u64; then the end of the last block, u64
//! filter     sealed: a Bloom filter over the keys, without those of scan IDs
//! trailer    magic and version (8), offset of index u64, of filter u64, end of filter u64, rows u64, CRC-32C of all that u32
//! ```
//! Each piece is bound to the number of the file and of the block, so none can be moved.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::bloom::Bloom;
use super::{Kind, Row, RowKey, TableError};
use crate::sealed::RowSealer;

const MAGIC: &[u8; 8] = b"TALLYST\x01";
const TRAILER: usize = 8 + 4 * 8 + 4;
/// A block is closed once it has this many bytes.
const BLOCK_BYTES: usize = 4 << 10;
/// The largest value.
pub(super) const MAX_VALUE: usize = 2 << 10;
/// Written bytes after which the file is synced, so that the sync at the end, or one of another file, never has much to do.
const SYNC_BYTES: u64 = 4 << 20;
const INDEX: u64 = u64::MAX;
const FILTER: u64 = u64::MAX - 1;

fn place(number: u32, block: u64) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&number.to_be_bytes());
    out[4..].copy_from_slice(&block.to_be_bytes());
    out
}

/// The file of segment `number`.
pub(super) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.rows"))
}

/// Whether the filter is asked about keys of this kind. Scan IDs are only looked for when somebody names one.
fn is_filtered(key: &RowKey) -> bool {
    key.kind() != Some(Kind::Scan)
}

/// A segment, open for reading from any thread.
pub(super) struct Segment {
    pub(super) number: u32,
    /// How often its rows have been merged; segments of one tier are of about one size.
    pub(super) tier: u8,
    pub(super) rows: u64,
    path: PathBuf,
    file: File,
    sealer: RowSealer,
    /// First key and offset of each block.
    index: Vec<(RowKey, u64)>,
    end: u64,
    filter: Bloom,
}

/// Writes one.
pub(super) struct SegmentWriter {
    number: u32,
    tier: u8,
    path: PathBuf,
    file: File,
    sealer: RowSealer,
    block: Zeroizing<Vec<u8>>,
    first: Option<RowKey>,
    index: Vec<(RowKey, u64)>,
    filter: Bloom,
    offset: u64,
    synced: u64,
    rows: u64,
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TableError + use<> {
    let path = path.to_owned();
    move |source| TableError::Io {
        action,
        path,
        source,
    }
}

impl SegmentWriter {
    /// Begins the file; what an interrupted one left is replaced. At most `rows` rows will come.
    pub(super) fn new(
        dir: &Path,
        sealer: &RowSealer,
        number: u32,
        tier: u8,
        rows: u64,
    ) -> Result<Self, TableError> {
        let path = path(dir, number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(io("create", &path))?;
        Ok(Self {
            number,
            tier,
            path,
            file,
            sealer: sealer.clone(),
            block: Zeroizing::new(Vec::with_capacity(BLOCK_BYTES + MAX_VALUE)),
            first: None,
            index: Vec::new(),
            filter: Bloom::for_keys(rows),
            offset: 0,
            synced: 0,
            rows: 0,
        })
    }

    /// Adds a row; keys must grow.
    pub(super) fn push(&mut self, key: &RowKey, value: &[u8]) -> Result<(), TableError> {
        let len = u16::try_from(value.len())
            .ok()
            .filter(|n| usize::from(*n) <= MAX_VALUE)
            .ok_or(TableError::Internal {
                what: "a value over the limit",
            })?;
        self.first.get_or_insert(*key);
        self.block.extend_from_slice(&key.0);
        self.block.extend_from_slice(&len.to_be_bytes());
        self.block.extend_from_slice(value);
        if is_filtered(key) {
            self.filter.add(key);
        }
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.close_block()?;
        }
        Ok(())
    }

    fn close_block(&mut self) -> Result<(), TableError> {
        let Some(first) = self.first.take() else {
            return Ok(());
        };
        let number = self.index.len() as u64;
        self.index.push((first, self.offset));
        let block = std::mem::take(&mut *self.block);
        self.write(number, &Zeroizing::new(block))
    }

    fn write(&mut self, block: u64, plain: &[u8]) -> Result<(), TableError> {
        let sealed =
            self.sealer
                .seal(&place(self.number, block), plain)
                .ok_or(TableError::Internal {
                    what: "a block that cannot be sealed",
                })?;
        self.file
            .write_all(&sealed)
            .map_err(io("write", &self.path))?;
        self.offset += sealed.len() as u64;
        if self.offset - self.synced >= SYNC_BYTES {
            self.file.sync_data().map_err(io("sync", &self.path))?;
            self.synced = self.offset;
        }
        Ok(())
    }

    /// Ends the file; it is durable when this returns.
    pub(super) fn finish(mut self, dir: &Path) -> Result<Segment, TableError> {
        self.close_block()?;
        let end = self.offset;
        let mut index = Vec::with_capacity(self.index.len() * 25 + 8);
        for (key, offset) in &self.index {
            index.extend_from_slice(&key.0);
            index.extend_from_slice(&offset.to_be_bytes());
        }
        index.extend_from_slice(&end.to_be_bytes());
        self.write(INDEX, &index)?;
        let at_filter = self.offset;
        let filter = self.filter.to_bytes();
        self.write(FILTER, &filter)?;
        let mut trailer = MAGIC.to_vec();
        for n in [end, at_filter, self.offset, self.rows] {
            trailer.extend_from_slice(&n.to_be_bytes());
        }
        trailer.extend_from_slice(&crc32c::crc32c(&trailer).to_be_bytes());
        self.file
            .write_all(&trailer)
            .map_err(io("write", &self.path))?;
        self.file.sync_all().map_err(io("sync", &self.path))?;
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(io("sync", dir))?;
        Ok(Segment {
            number: self.number,
            tier: self.tier,
            rows: self.rows,
            path: self.path,
            file: self.file,
            sealer: self.sealer,
            index: self.index,
            end,
            filter: self.filter,
        })
    }
}

impl Segment {
    /// Opens segment `number`, and reads its index and filter. Blocks are checked as they are read.
    pub(super) fn open(
        dir: &Path,
        sealer: &RowSealer,
        number: u32,
        tier: u8,
    ) -> Result<Self, TableError> {
        let path = path(dir, number);
        let damaged = |what| TableError::Damaged {
            path: path.clone(),
            what,
        };
        let file = File::open(&path).map_err(io("open", &path))?;
        let len = file.metadata().map_err(io("read", &path))?.len();
        let mut trailer = [0; TRAILER];
        let at = len
            .checked_sub(TRAILER as u64)
            .ok_or_else(|| damaged("the trailer is cut"))?;
        file.read_exact_at(&mut trailer, at)
            .map_err(io("read", &path))?;
        let (body, crc) = trailer.split_at(TRAILER - 4);
        if !body.starts_with(MAGIC) || crc32c::crc32c(body).to_be_bytes() != *crc {
            return Err(damaged("the trailer is none"));
        }
        let mut numbers = [0_u64; 4];
        for (n, bytes) in numbers.iter_mut().zip(body[8..].as_chunks::<8>().0) {
            *n = u64::from_be_bytes(*bytes);
        }
        let [end, at_filter, at_trailer, rows] = numbers;
        if !(end <= at_filter && at_filter <= at_trailer && at_trailer == at) {
            return Err(damaged("the trailer names other places"));
        }
        let piece = |from: u64, to: u64, block| {
            let mut sealed = vec![0; usize::try_from(to - from).unwrap_or_default()];
            file.read_exact_at(&mut sealed, from)
                .map_err(io("read", &path))?;
            sealer
                .open(&place(number, block), &sealed)
                .ok_or_else(|| damaged("the index does not open"))
        };
        let plain = piece(end, at_filter, INDEX)?;
        let (records, rest) = plain.as_chunks::<25>();
        if rest != end.to_be_bytes() {
            return Err(damaged("the index is cut"));
        }
        let index: Vec<_> = records
            .iter()
            .filter_map(|r| {
                let (key, offset) = r.split_first_chunk::<17>()?;
                Some((RowKey(*key), u64::from_be_bytes(*offset.first_chunk()?)))
            })
            .collect();
        let filter = Bloom::from_bytes(&piece(at_filter, at_trailer, FILTER)?)
            .ok_or_else(|| damaged("the filter is cut"))?;
        Ok(Self {
            number,
            tier,
            rows,
            path: path.clone(),
            file,
            sealer: sealer.clone(),
            index,
            end,
            filter,
        })
    }

    fn damaged(&self, what: &'static str) -> TableError {
        TableError::Damaged {
            path: self.path.clone(),
            what,
        }
    }

    fn block(&self, block: usize) -> Result<Zeroizing<Vec<u8>>, TableError> {
        let from = self.index.get(block).map_or(self.end, |b| b.1);
        let to = self.index.get(block + 1).map_or(self.end, |b| b.1);
        let len = to
            .checked_sub(from)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| self.damaged("blocks are out of order"))?;
        let mut sealed = vec![0; len];
        self.file
            .read_exact_at(&mut sealed, from)
            .map_err(io("read", &self.path))?;
        self.sealer
            .open(&place(self.number, block as u64), &sealed)
            .ok_or_else(|| self.damaged("a block does not open"))
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &RowKey) -> Result<Option<Row>, TableError> {
        if is_filtered(key) && !self.filter.may_hold(key) {
            return Ok(None);
        }
        let after = self.index.partition_point(|(first, _)| first <= key);
        let Some(block) = after.checked_sub(1) else {
            return Ok(None);
        };
        let plain = self.block(block)?;
        let mut rest = plain.as_slice();
        while !rest.is_empty() {
            let (found, value, next) =
                split_row(rest).ok_or_else(|| self.damaged("a block is no list of rows"))?;
            if found >= *key {
                return Ok((found == *key).then(|| value.into()));
            }
            rest = next;
        }
        Ok(None)
    }

    /// Every row, in order.
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows {
            segment: self,
            next: 0,
            block: Zeroizing::default(),
            at: 0,
        }
    }

    /// Removes the file; who has it open may read on.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a merged index file stays behind");
        }
    }
}

fn split_row(bytes: &[u8]) -> Option<(RowKey, &[u8], &[u8])> {
    let (key, rest) = bytes.split_first_chunk::<17>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((RowKey(*key), value, rest))
}

/// Walks over a segment, one block in memory.
pub(super) struct Rows<'a> {
    segment: &'a Segment,
    next: usize,
    block: Zeroizing<Vec<u8>>,
    at: usize,
}

impl Rows<'_> {
    /// The next row.
    pub(super) fn next_row(&mut self) -> Result<Option<(RowKey, Row)>, TableError> {
        if self.at >= self.block.len() {
            if self.next >= self.segment.index.len() {
                return Ok(None);
            }
            self.block = self.segment.block(self.next)?;
            self.next += 1;
            self.at = 0;
        }
        let (key, value, _) = self
            .block
            .get(self.at..)
            .and_then(split_row)
            .ok_or_else(|| self.segment.damaged("a block is no list of rows"))?;
        self.at += 17 + 2 + value.len();
        Ok(Some((key, value.into())))
    }
}
