//! Blocks in append-only segment files. A frame is a u32 length, the CRC-32C of the payload, and the payload: the block's
//! length-prefixed bytes and its certificate's. A frame is synced before [`BlockStore::append`] returns, so only the last
//! one can be torn; that one was acknowledged to nobody and is cut off at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tally_contracts::block::MAX_BLOCK_BYTES;
use tally_contracts::codec::{Reader, Writer};

use crate::error::{Error, IoContext};
use crate::files::{make_dir, sync_dir};

const FRAME_HEAD: u64 = 8;
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
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

/// The blocks of one ledger, from height 1.
pub struct BlockStore {
    dir: PathBuf,
    segment_bytes: u64,
    places: Vec<Place>,
    current: Option<(u32, File, u64)>,
}

impl BlockStore {
    /// Opens or creates the store, and cuts off a torn last frame. `segment_bytes` is the size past which a new file is begun.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a bad frame that is not the last of the last file; [`Error::Io`].
    pub fn open(dir: &Path, segment_bytes: u64) -> Result<Self, Error> {
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
        let mut store = Self {
            dir: dir.to_owned(),
            segment_bytes,
            places: Vec::new(),
            current: None,
        };
        for (i, number) in numbers.iter().enumerate() {
            let expected = u32::try_from(i + 1).unwrap_or(u32::MAX);
            if *number != expected {
                return Err(Error::Damaged {
                    path: store.path(expected),
                    offset: 0,
                    reason: format!(
                        "the file is missing, while {} exists",
                        store.path(*number).display()
                    ),
                });
            }
            store.scan(*number, i + 1 == numbers.len())?;
        }
        Ok(store)
    }

    /// The height of the last block; 0 if there is none.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.places.len() as u64
    }

    /// Appends the next block; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Io`]; the file is then cut back to what it was, as far as the disk allows.
    pub fn append(&mut self, block: &[u8], certificate: &[u8]) -> Result<(), Error> {
        let mut w = Writer::new();
        w.bytes(block).bytes(certificate);
        let payload = w.into_bytes();
        if payload.len() > MAX_PAYLOAD {
            return Err(Error::Internal("a block over its size limit"));
        }
        let len = u32::try_from(payload.len()).map_err(|_| Error::Internal("block length"))?;
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
        let mut frame = Vec::with_capacity(payload.len() + 8);
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(&crc32c::crc32c(&payload).to_be_bytes());
        frame.extend_from_slice(&payload);
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

    /// The block of a height.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Damaged`], [`Error::Io`].
    pub fn read(&self, height: u64) -> Result<StoredBlock, Error> {
        let place = height
            .checked_sub(1)
            .and_then(|i| self.places.get(usize::try_from(i).ok()?))
            .ok_or(Error::OutOfRange {
                what: "block",
                asked: height,
                have: self.height(),
            })?;
        let path = self.path(place.segment);
        let file = File::open(&path).on("open", &path)?;
        let payload = read_frame(&file, &path, place.offset, place.len)?;
        let mut r = Reader::new(&payload);
        let decoded = r
            .bytes("block", MAX_BLOCK_BYTES)
            .and_then(|block| {
                Ok((
                    block.to_vec(),
                    r.bytes("certificate", MAX_CERTIFICATE_BYTES)?.to_vec(),
                ))
            })
            .and_then(|pair| r.finish().map(|()| pair));
        let (block, certificate) = decoded.map_err(|e| Error::Damaged {
            path,
            offset: place.offset,
            reason: e.to_string(),
        })?;
        Ok(StoredBlock { block, certificate })
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08}.seg"))
    }

    fn roll(&mut self) -> Result<(), Error> {
        let number = self.current.as_ref().map_or(1, |c| c.0.saturating_add(1));
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
    fn scan(&mut self, number: u32, last_file: bool) -> Result<(), Error> {
        let path = self.path(number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .on("open", &path)?;
        let size = file.metadata().on("read", &path)?.len();
        let mut offset = 0;
        while offset < size {
            let torn = match frame_len(&file, &path, offset, size)? {
                None => true,
                Some(len) => {
                    let end = offset + FRAME_HEAD + u64::from(len);
                    if end == size && read_frame(&file, &path, offset, len).is_err() {
                        true
                    } else {
                        self.places.push(Place {
                            segment: number,
                            offset,
                            len,
                        });
                        offset = end;
                        false
                    }
                }
            };
            if torn {
                if !last_file {
                    return Err(Error::Damaged {
                        path,
                        offset,
                        reason: "incomplete block".into(),
                    });
                }
                tracing::warn!(file = %path.display(), offset, cut = size - offset, "cut off a block that was not written to its end");
                file.set_len(offset).on("shorten", &path)?;
                file.sync_all().on("sync", &path)?;
                break;
            }
        }
        self.current = Some((number, file, offset));
        Ok(())
    }
}

/// The length of the frame at `offset`; `None` if it does not fit the file, as after a torn write.
fn frame_len(file: &File, path: &Path, offset: u64, size: u64) -> Result<Option<u32>, Error> {
    if size - offset < FRAME_HEAD {
        return Ok(None);
    }
    let mut head = [0; 4];
    file.read_exact_at(&mut head, offset).on("read", path)?;
    let len = u32::from_be_bytes(head);
    Ok(
        (len as usize <= MAX_PAYLOAD && offset + FRAME_HEAD + u64::from(len) <= size)
            .then_some(len),
    )
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
        Err(Error::Damaged {
            path: path.to_owned(),
            offset,
            reason: "wrong checksum".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(dir: &Path, n: u8) -> BlockStore {
        let mut store = BlockStore::open(dir, 200).unwrap();
        for i in 1..=n {
            store.append(&vec![i; 40], &[i; 9]).unwrap();
        }
        store
    }

    #[test]
    fn blocks_survive_reopening_over_several_files() {
        let dir = tempfile::tempdir().unwrap();
        drop(fill(dir.path(), 20));
        let store = BlockStore::open(dir.path(), 200).unwrap();
        assert_eq!(store.height(), 20);
        for i in 1..=20_u8 {
            let stored = store.read(i.into()).unwrap();
            assert_eq!(
                (stored.block, stored.certificate),
                (vec![i; 40], vec![i; 9])
            );
        }
        assert!(matches!(store.read(21), Err(Error::OutOfRange { .. })));
        assert!(matches!(store.read(0), Err(Error::OutOfRange { .. })));
        assert!(fs::read_dir(dir.path()).unwrap().count() > 3);
    }

    #[test]
    fn a_tail_torn_at_any_byte_loses_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        drop(fill(dir.path(), 3));
        let path = dir.path().join("00000001.seg");
        let whole = fs::read(&path).unwrap();
        let frame = whole.len() / 3;
        for cut in 2 * frame..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut store = BlockStore::open(dir.path(), 200).unwrap();
            assert_eq!(store.height(), 2, "cut at {cut}");
            store.append(&[9; 40], &[9; 9]).unwrap();
            drop(store);
            let store = BlockStore::open(dir.path(), 200).unwrap();
            assert_eq!(store.read(3).unwrap().block, vec![9; 40]);
        }
    }

    #[test]
    fn damage_before_the_tail_is_an_error_that_names_the_place() {
        let dir = tempfile::tempdir().unwrap();
        drop(fill(dir.path(), 12));
        let first = dir.path().join("00000001.seg");
        let mut bytes = fs::read(&first).unwrap();
        bytes[20] ^= 1;
        fs::write(&first, &bytes).unwrap();
        let store = BlockStore::open(dir.path(), 200).unwrap();
        assert!(matches!(
            store.read(1),
            Err(Error::Damaged { offset: 0, .. })
        ));
        assert!(store.read(2).is_ok());
        drop(store);
        fs::remove_file(dir.path().join("00000002.seg")).unwrap();
        assert!(matches!(
            BlockStore::open(dir.path(), 200),
            Err(Error::Damaged { .. })
        ));
    }
}
