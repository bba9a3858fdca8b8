//! The files of pages: frames appended, pages read in place, and how much of each file is still wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tally_contracts::CodecError;
use tally_contracts::codec::{Reader, Writer};
use tally_contracts::tree::{PAGE_LEAVES, Page, PagePlace};
use tally_merkle::Hash;

use super::directory::Directory;
use crate::error::{Error, IoContext};
use crate::files::sync_dir;

const VERSION: u8 = 1;
/// Length and checksum.
const FRAME_HEAD: u64 = 8;
/// Version and height.
const BODY_HEAD: usize = 9;
/// A body past this is ended, where a frame may be.
const LONG_BODY: usize = 4 << 20;
const LEAF_BYTES: usize = 64;
const SUFFIX: &str = ".pages";

/// Bytes of a page in a file.
pub(super) fn entry_bytes(place: &PagePlace, leaves: usize) -> u64 {
    (place_bytes(place) + 2 + LEAF_BYTES * leaves) as u64
}

fn place_bytes(place: &PagePlace) -> usize {
    1 + usize::from(place.depth()).div_ceil(8)
}

/// A frame that is being put together at the end of the last file.
pub(super) struct Frame {
    file: u32,
    start: u64,
    height: u64,
    body: Vec<u8>,
}

impl Frame {
    fn begin(file: u32, start: u64, height: u64) -> Self {
        let mut body = vec![VERSION];
        body.extend(height.to_be_bytes());
        Self {
            file,
            start,
            height,
            body,
        }
    }

    /// Adds a page and says where it will lie.
    pub(super) fn put(
        &mut self,
        place: &PagePlace,
        leaves: impl ExactSizeIterator<Item = (Hash, Hash)>,
    ) -> u64 {
        let at = self.start + FRAME_HEAD + self.body.len() as u64;
        let mut w = Writer::new();
        place.write(&mut w);
        self.body.extend(w.into_bytes());
        // No page has more than a u16 counts.
        let count = u16::try_from(leaves.len()).unwrap_or(u16::MAX);
        self.body.extend(count.to_be_bytes());
        for (key, value) in leaves {
            self.body.extend(key.0);
            self.body.extend(value.0);
        }
        joined(self.file, at)
    }

    /// Whether it is time to end it and begin the next.
    pub(super) const fn is_long(&self) -> bool {
        self.body.len() >= LONG_BODY
    }
}

struct Segment {
    file: File,
    bytes: u64,
    /// Bytes of pages that no later one has replaced.
    wanted: u64,
}

impl Segment {
    const fn of(file: File, bytes: u64) -> Self {
        Self {
            file,
            bytes,
            wanted: 0,
        }
    }
}

/// A file whose wanted pages are being moved away, and how far that has come.
pub(super) struct Cleaning {
    file: u32,
    offset: u64,
}

/// All files of pages.
pub(super) struct Files {
    dir: PathBuf,
    file_bytes: u64,
    segments: BTreeMap<u32, Segment>,
    /// Files without wanted pages; a directory of an earlier time may name some.
    retired: BTreeSet<u32>,
    unsynced: BTreeSet<u32>,
    since_directory: u64,
    /// Bytes written since pages were last moved, or could have been.
    untidied: u64,
}

/// What frames say that the directory does not know: pages, and which are no more.
pub(super) type Newer = BTreeMap<PagePlace, Option<Page>>;

impl Files {
    fn none(dir: &Path, file_bytes: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            file_bytes,
            segments: BTreeMap::new(),
            retired: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            since_directory: 0,
            untidied: 0,
        }
    }

    /// Opens the files that a directory is of, reads the frames after it up to a height, and cuts the others off. Gives the reason if
    /// they are not the directory's.
    pub(super) fn open(
        dir: &Path,
        file_bytes: u64,
        directory: &Directory,
        height: u64,
    ) -> Result<Result<(Self, Newer), String>, Error> {
        let (first, end) = directory.end;
        let mut files = Self::none(dir, file_bytes);
        let mut newer = Newer::new();
        let mut cut = false;
        for number in numbers(dir)? {
            let path = path(dir, number);
            if cut {
                fs::remove_file(&path).on("remove", &path)?;
                continue;
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .on("open", &path)?;
            let bytes = file.metadata().on("read", &path)?.len();
            files.segments.insert(number, Segment::of(file, bytes));
            if number < first {
                continue;
            }
            let mut offset = if number == first { end } else { 0 };
            if offset > bytes {
                return Ok(Err("a file is shorter than its directory says".into()));
            }
            while let Some(frame) = files.frame(number, offset)? {
                let Some((at, pages)) = frame_pages(number, offset, &frame) else {
                    break;
                };
                if at > height {
                    break;
                }
                for (place, leaves, at) in pages {
                    newer.insert(place, Page::from_leaves(&place, &leaves, at));
                }
                offset += FRAME_HEAD + frame.len() as u64;
                files.since_directory += FRAME_HEAD + frame.len() as u64;
            }
            files.unsynced.insert(number);
            if offset < bytes
                && let Some(segment) = files.segments.get_mut(&number)
            {
                segment.file.set_len(offset).on("cut", &path)?;
                segment.bytes = offset;
                cut = true;
            }
        }
        if !files.segments.contains_key(&first) {
            return Ok(Err("a file that its directory names is missing".into()));
        }
        Ok(Ok((files, newer)))
    }

    /// Removes what is there and begins the first file.
    pub(super) fn anew(dir: &Path, file_bytes: u64) -> Result<Self, Error> {
        for number in numbers(dir)? {
            let path = path(dir, number);
            fs::remove_file(&path).on("remove", &path)?;
        }
        let mut files = Self::none(dir, file_bytes);
        files.begin_file(1)?;
        Ok(files)
    }

    fn begin_file(&mut self, number: u32) -> Result<(), Error> {
        let path = path(&self.dir, number);
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .on("create", &path)?;
        sync_dir(&self.dir)?;
        self.segments.insert(number, Segment::of(file, 0));
        Ok(())
    }

    /// The number of the last file and its length: where the next frame goes.
    pub(super) fn end(&self) -> (u32, u64) {
        let last = self.segments.last_key_value();
        last.map_or((0, 0), |(number, segment)| (*number, segment.bytes))
    }

    pub(super) fn begin_frame(&mut self, height: u64) -> Result<Frame, Error> {
        let (file, bytes) = self.end();
        if bytes >= self.file_bytes {
            let next = file
                .checked_add(1)
                .ok_or(Error::Internal("too many files of pages"))?;
            self.begin_file(next)?;
        }
        let (file, bytes) = self.end();
        Ok(Frame::begin(file, bytes, height))
    }

    /// Writes a frame, unless nothing was put into it, and begins the next in its place. Not synced.
    pub(super) fn end_frame(&mut self, frame: &mut Frame) -> Result<(), Error> {
        if frame.body.len() > BODY_HEAD {
            let path = path(&self.dir, frame.file);
            let segment = self
                .segments
                .get_mut(&frame.file)
                .ok_or(Error::Internal("a frame of no file"))?;
            let length = u32::try_from(frame.body.len())
                .map_err(|_| Error::Internal("a frame of pages past 4 GiB"))?;
            let mut bytes = Vec::with_capacity(frame.body.len() + 8);
            bytes.extend(length.to_be_bytes());
            bytes.extend(crc32c::crc32c(&frame.body).to_be_bytes());
            bytes.append(&mut frame.body);
            let written = segment.file.write_all_at(&bytes, frame.start);
            written.on("write", &path)?;
            segment.bytes = frame.start + bytes.len() as u64;
            self.unsynced.insert(frame.file);
            self.since_directory += bytes.len() as u64;
            self.untidied += bytes.len() as u64;
        }
        *frame = self.begin_frame(frame.height)?;
        Ok(())
    }

    /// The body of a frame; `None` at the end of the file and for one that is torn.
    fn frame(&self, number: u32, offset: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(segment) = self.segments.get(&number) else {
            return Ok(None);
        };
        let path = path(&self.dir, number);
        let Some(room) = segment
            .bytes
            .checked_sub(offset)
            .and_then(|n| n.checked_sub(FRAME_HEAD))
        else {
            return Ok(None);
        };
        let mut head = [0; 8];
        segment
            .file
            .read_exact_at(&mut head, offset)
            .on("read", &path)?;
        let (length, sum) = halves(u64::from_be_bytes(head));
        if u64::from(length) > room {
            return Ok(None);
        }
        let mut body = vec![0; length as usize];
        segment
            .file
            .read_exact_at(&mut body, offset + FRAME_HEAD)
            .on("read", &path)?;
        Ok((u64::from(crc32c::crc32c(&body)) == sum).then_some(body))
    }

    /// The leaves of the page of a place.
    pub(super) fn read(&self, place: &PagePlace, at: u64) -> Result<Vec<(Hash, Hash)>, Error> {
        let (number, offset) = halves(at);
        let damaged = |what: &str| {
            let reason = format!("{what} of place {place} at {offset}");
            Error::damaged_index(&path(&self.dir, number), reason)
        };
        let segment = self.segments.get(&number);
        let segment = segment.ok_or_else(|| damaged("no file with the page"))?;
        // The longest page, or what is left of the file.
        let longest = entry_bytes(place, PAGE_LEAVES);
        let length = segment.bytes.saturating_sub(offset).min(longest);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        segment
            .file
            .read_exact_at(&mut bytes, offset)
            .map_err(|e| damaged(&format!("{e}; reading the page")))?;
        match entry(&mut Reader::new(&bytes)) {
            Ok((found, leaves)) if found == *place => Ok(leaves),
            _ => Err(damaged("no page")),
        }
    }

    /// Notes that a page of these many bytes lies here.
    pub(super) fn count(&mut self, at: u64, bytes: u64) -> Result<(), String> {
        let (number, offset) = halves(at);
        match self.segments.get_mut(&number) {
            Some(segment) if offset.saturating_add(bytes) <= segment.bytes => {
                segment.wanted += bytes;
                Ok(())
            }
            _ => Err(format!("its directory names a page past file {number}")),
        }
    }

    /// Notes that a page that was counted is not wanted any more.
    pub(super) fn discount(&mut self, at: u64, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&halves(at).0) {
            segment.wanted = segment.wanted.saturating_sub(bytes);
        }
    }

    /// A file to clean, if there is more that nobody wants than there should be: the one of which the least is wanted.
    pub(super) fn begin_cleaning(&mut self) -> Option<Cleaning> {
        let (last, _) = self.end();
        let old = |number: &u32| *number != last;
        let segments = self.segments.iter();
        let empty = segments.filter(|(n, s)| old(n) && s.wanted == 0);
        self.retired.extend(empty.map(|(number, _)| *number));
        let (mut bytes, mut wanted) = (0, 0);
        let mut least: Option<(u64, u32)> = None;
        for (number, segment) in &self.segments {
            if self.retired.contains(number) {
                continue;
            }
            bytes += segment.bytes;
            wanted += segment.wanted;
            let share = segment.wanted.saturating_mul(1000) / segment.bytes.max(1);
            if old(number) && least.is_none_or(|(other, _)| share < other) {
                least = Some((share, *number));
            }
        }
        if bytes <= 2 * wanted + self.file_bytes {
            return None;
        }
        least.map(|(_, file)| Cleaning { file, offset: 0 })
    }

    /// Gives the pages of the next frames of a file that is cleaned, and says whether there are more. Each call goes somewhat
    /// further than the files have grown since the last.
    pub(super) fn clean(
        &self,
        cleaning: &mut Cleaning,
        give: &mut dyn FnMut(PagePlace, Vec<(Hash, Hash)>, u64),
    ) -> Result<bool, Error> {
        let until = cleaning.offset + 3 * self.untidied + (1 << 16);
        while cleaning.offset < until {
            let Some(body) = self.frame(cleaning.file, cleaning.offset)? else {
                return Ok(false);
            };
            let path = path(&self.dir, cleaning.file);
            let (_, pages) = frame_pages(cleaning.file, cleaning.offset, &body)
                .ok_or_else(|| Error::damaged_index(&path, "a frame that is none"))?;
            for (place, leaves, at) in pages {
                if !leaves.is_empty() {
                    give(place, leaves, at);
                }
            }
            cleaning.offset += FRAME_HEAD + body.len() as u64;
        }
        Ok(true)
    }

    /// Begins to count what is written until the next cleaning.
    pub(super) const fn tidied(&mut self) {
        self.untidied = 0;
    }

    /// A file that was cleaned to its end goes after the next directory. One with pages left has a damaged frame, and stays.
    pub(super) fn retire(&mut self, cleaning: &Cleaning) {
        if let Some(segment) = self.segments.get(&cleaning.file) {
            if segment.wanted == 0 {
                self.retired.insert(cleaning.file);
            } else {
                tracing::warn!(file = cleaning.file, "pages could not be moved");
            }
        }
    }

    /// Whether so much was written since the last directory that reading it would hold up a start.
    pub(super) fn wants_directory(&self) -> bool {
        let wanted: u64 = self.segments.values().map(|s| s.wanted).sum();
        self.since_directory > self.file_bytes.max(wanted / 4)
    }

    /// Makes every frame durable.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        for number in std::mem::take(&mut self.unsynced) {
            if let Some(segment) = self.segments.get(&number) {
                let path = path(&self.dir, number);
                segment.file.sync_data().on("sync", &path)?;
            }
        }
        Ok(())
    }

    /// Removes the files that the directory written just now does not name.
    pub(super) fn directory_written(&mut self) -> Result<(), Error> {
        self.since_directory = 0;
        for number in std::mem::take(&mut self.retired) {
            self.segments.remove(&number);
            let path = path(&self.dir, number);
            fs::remove_file(&path).on("remove", &path)?;
        }
        Ok(())
    }

    /// Bytes of all files.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|s| s.bytes).sum()
    }
}

type Entry = (PagePlace, Vec<(Hash, Hash)>, u64);

/// Height and pages of a frame; `None` if it is none.
pub(super) fn frame_pages(file: u32, offset: u64, body: &[u8]) -> Option<(u64, Vec<Entry>)> {
    let mut r = Reader::new(body);
    r.version("version of a frame of pages", VERSION).ok()?;
    let height = r.u64("height").ok()?;
    let (mut pages, mut at) = (Vec::new(), offset + FRAME_HEAD + BODY_HEAD as u64);
    let end = offset + FRAME_HEAD + body.len() as u64;
    while at < end {
        let (place, leaves) = entry(&mut r).ok()?;
        let bytes = entry_bytes(&place, leaves.len());
        pages.push((place, leaves, joined(file, at)));
        at += bytes;
    }
    Some((height, pages))
}

fn entry(r: &mut Reader<'_>) -> Result<(PagePlace, Vec<(Hash, Hash)>), CodecError> {
    let place = PagePlace::read(r)?;
    let count = u16::from_be_bytes(r.array("leaves of a page")?);
    if usize::from(count) > PAGE_LEAVES {
        return Err(CodecError::Invalid {
            what: "leaves of a page",
            found: count.into(),
        });
    }
    let leaves = (0..count)
        .map(|_| Ok((Hash(r.array("key hash")?), Hash(r.array("value hash")?))))
        .collect::<Result<_, CodecError>>()?;
    Ok((place, leaves))
}

/// Where a page lies, in one number.
fn joined(file: u32, offset: u64) -> u64 {
    (u64::from(file) << 32) | offset
}

/// The halves of a number: file and offset of a page.
const fn halves(at: u64) -> (u32, u64) {
    ((at >> 32) as u32, at & 0xffff_ffff)
}

fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}{SUFFIX}"))
}

/// Numbers of the files in a folder, ascending.
fn numbers(dir: &Path) -> Result<Vec<u32>, Error> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).on("list", dir)? {
        let name = entry.on("list", dir)?.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(SUFFIX));
        numbers.extend(number.and_then(|n| n.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
