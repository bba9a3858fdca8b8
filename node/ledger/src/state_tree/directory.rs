//! Where each page of the state tree lies: one file, replaced as a whole.

use std::fs;
use std::path::Path;

use tally_contracts::codec::{Reader, Writer};
use tally_contracts::tree::{Page, PagePlace, PagedTree};

use crate::error::{Error, IoContext};
use crate::files::write_whole;

const NAME: &str = "directory";
const VERSION: u8 = 1;
const SUM: usize = 4;

/// Bytes: version, height, file number u32 and offset u64 from which frames are not in it, number of pages u64, the pages, CRC-32C.
pub(super) struct Directory {
    /// Height of its block.
    pub(super) height: u64,
    /// File and offset at which the files ended.
    pub(super) end: (u32, u64),
    count: u64,
    rows: Vec<u8>,
}

impl Directory {
    /// The directory in a folder, or why there is none that can be used.
    pub(super) fn read(dir: &Path) -> Result<Result<Self, String>, Error> {
        let path = dir.join(NAME);
        let mut bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Err("there is none".into()));
            }
            read => read.on("read", &path)?,
        };
        let Some((body, sum)) = bytes.split_last_chunk::<SUM>() else {
            return Ok(Err("its directory is cut short".into()));
        };
        if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
            return Ok(Err("its directory has a wrong checksum".into()));
        }
        let mut r = Reader::new(body);
        let parsed = (|| {
            r.version("directory version", VERSION)?;
            Ok::<_, tally_contracts::CodecError>((
                r.u64("height")?,
                (u32::from_be_bytes(r.array("file")?), r.u64("offset")?),
                r.u64("pages")?,
            ))
        })();
        match parsed {
            Err(e) => Ok(Err(e.to_string())),
            Ok((height, end, count)) => {
                bytes.truncate(bytes.len() - SUM);
                bytes.drain(..HEAD);
                Ok(Ok(Self {
                    height,
                    end,
                    count,
                    rows: bytes,
                }))
            }
        }
    }

    /// The pages with their places.
    pub(super) fn pages(&self) -> impl Iterator<Item = Result<(PagePlace, Page), Error>> {
        let mut r = Reader::new(&self.rows);
        (0..self.count).map(move |_| {
            let row = PagePlace::read(&mut r).and_then(|place| Ok((place, Page::read(&mut r)?)));
            row.map_err(|source| Error::Codec {
                what: "directory of the state tree",
                source,
            })
        })
    }

    pub(super) fn write(
        dir: &Path,
        height: u64,
        end: (u32, u64),
        tree: &PagedTree,
    ) -> Result<(), Error> {
        let (mut w, mut count) = (Writer::new(), 0);
        tree.each_page(&mut |place, page| {
            place.write(&mut w);
            page.write(&mut w);
            count += 1;
            Ok::<_, Error>(())
        })?;
        let mut head = Writer::new();
        head.u8(VERSION)
            .u64(height)
            .raw(&end.0.to_be_bytes())
            .u64(end.1)
            .u64(count);
        let head = head.into_bytes();
        debug_assert_eq!(head.len(), HEAD);
        let mut bytes = w.into_bytes();
        bytes.splice(..0, head);
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        write_whole(&dir.join(NAME), &bytes)
    }

    pub(super) fn remove(dir: &Path) -> Result<(), Error> {
        let path = dir.join(NAME);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.on("remove", &path),
        }
    }
}

/// Version, height, file, offset, count.
const HEAD: usize = 1 + 8 + 4 + 8 + 8;
