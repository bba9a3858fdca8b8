//! Items of a set by bucket, in sealed pages that each hold items of one bucket: on disk in one file without a name, or wherever
//! [`Pages`] puts them.
//!
//! The pages hold people's IDs, so every one is sealed under a key that is drawn for this set of buckets and kept in memory alone: what
//! a process leaves behind when it is killed cannot be read by anybody, and nothing has to be cleared. Memory is one open page a
//! bucket and a page number for each full one.

use std::fs::{File, OpenOptions, remove_file};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use rand::RngCore as _;
use rand::rngs::OsRng;
use tally_psi::buckets::EachItem;
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of all open pages together, about.
const OPEN_BYTES: usize = 16 << 20;
/// Shortest and longest page; a page holds at least one item of any length.
const PAGE_BYTES: (usize, usize) = (4 << 10, 64 << 10);
/// The same where each page is an object of its own: fewer and longer ones.
const OPEN_OBJECT_BYTES: usize = 64 << 20;
const OBJECT_BYTES: (usize, usize) = (64 << 10, 4 << 20);
/// Row and length before a value, and length of a page's content before it.
const HEAD: usize = 4 + 2;
const USED: usize = 4;
const TAG: usize = 16;

/// Where sealed pages are kept. Calls may block.
pub(crate) trait Pages: Send + Sync {
    /// Keeps a page; each number is written once, and all pages are of one length.
    ///
    /// # Errors
    /// What the store says.
    fn write(&self, page: u32, bytes: &[u8]) -> io::Result<()>;

    /// Fills `bytes`, which are as long as a page, with a page that was kept.
    ///
    /// # Errors
    /// What the store says, also for a page of another length.
    fn read(&self, page: u32, bytes: &mut [u8]) -> io::Result<()>;
}

/// A file without a name, page after page.
struct Nameless(File);

fn offset(page: u32, len: usize) -> u64 {
    u64::from(page) * len as u64
}

impl Pages for Nameless {
    fn write(&self, page: u32, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset(page, bytes.len()))
    }

    fn read(&self, page: u32, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset(page, bytes.len()))
    }
}

/// Pages and what opens them.
pub(crate) struct PageReader {
    pages: Box<dyn Pages>,
    cipher: ChaCha20Poly1305,
    page_bytes: usize,
}

impl PageReader {
    /// Opens pages with `page_bytes` of content each, sealed under `key`.
    pub(crate) fn new(pages: Box<dyn Pages>, key: &[u8; 32], page_bytes: usize) -> Self {
        Self {
            pages,
            cipher: ChaCha20Poly1305::new(key.into()),
            page_bytes,
        }
    }

    /// Shows the items of these pages, one page in memory at a time.
    ///
    /// # Errors
    /// What the store says, in `E`'s form, and what `each` gives.
    pub(crate) fn visit<E: From<io::Error>>(
        &self,
        numbers: &[u32],
        each: &mut impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut page = Zeroizing::new(Vec::new());
        for number in numbers {
            let items = self.open(*number, &mut page)?;
            show(page.get(items).unwrap_or_default(), each)?;
        }
        Ok(())
    }

    /// Reads and opens a page; where its items are in it.
    fn open(&self, number: u32, page: &mut Zeroizing<Vec<u8>>) -> io::Result<Range<usize>> {
        page.resize(self.page_bytes + TAG, 0);
        self.pages.read(number, page)?;
        let (text, tag) = page
            .split_at_mut_checked(self.page_bytes)
            .ok_or_else(damaged)?;
        self.cipher
            .decrypt_in_place_detached(&nonce(number), b"", text, Tag::from_slice(tag))
            .map_err(|_| damaged())?;
        let used = text.first_chunk::<USED>().map(|n| u32::from_be_bytes(*n));
        let used = used.and_then(|n| usize::try_from(n).ok());
        match used {
            Some(used) if (USED..=text.len()).contains(&used) => Ok(USED..used),
            _ => Err(damaged()),
        }
    }

    /// As [`Self::visit`], for a machine.
    ///
    /// # Errors
    /// [`tally_psi::Error::Storage`], and what `each` gives.
    pub(crate) fn load(&self, numbers: &[u32], each: EachItem<'_>) -> Result<(), tally_psi::Error> {
        self.visit(numbers, &mut |row, value| each(row, value).map_err(Loading))
            .map_err(|Loading(error)| error)
    }
}

/// An error of a page, or of what takes its items.
struct Loading(tally_psi::Error);

impl From<io::Error> for Loading {
    fn from(error: io::Error) -> Self {
        Self(storage(error))
    }
}

/// The items of a sealed bucket one at a time, with one page in memory; before the first of them until it is advanced.
pub(crate) struct PageCursor {
    bucket: u32,
    /// Which of the bucket's pages is read next.
    next: usize,
    page: Zeroizing<Vec<u8>>,
    /// What of the page was not shown yet.
    rest: Range<usize>,
    value: Option<Range<usize>>,
}

impl PageCursor {
    /// Before the first item of a bucket.
    pub(crate) fn new(bucket: u32) -> Self {
        Self {
            bucket,
            next: 0,
            page: Zeroizing::new(Vec::new()),
            rest: 0..0,
            value: None,
        }
    }

    /// The value that it stands at; `None` behind the last.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.page.get(self.value.clone()?)
    }
}

/// Items by bucket.
pub(crate) struct BucketFiles {
    reader: PageReader,
    key: Zeroizing<[u8; 32]>,
    /// Of each bucket: the page that is being filled, and those that are kept.
    buckets: Vec<(Vec<u8>, Vec<u32>)>,
    pages: u32,
}

impl Drop for BucketFiles {
    fn drop(&mut self) {
        self.buckets.iter_mut().for_each(|(open, _)| open.zeroize());
    }
}

impl BucketFiles {
    /// Empty buckets over a file in `dir`, which must exist.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn create(dir: &Path, buckets: u32) -> io::Result<Self> {
        let name = format!("buckets-{:016x}{:016x}", OsRng.next_u64(), OsRng.next_u64());
        let path = dir.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        remove_file(&path)?;
        Ok(Self::over(
            Box::new(Nameless(file)),
            buckets,
            OPEN_BYTES,
            PAGE_BYTES,
        ))
    }

    /// Empty buckets over `pages` that are objects of their own.
    pub(crate) fn of_objects(pages: Box<dyn Pages>, buckets: u32) -> Self {
        Self::over(pages, buckets, OPEN_OBJECT_BYTES, OBJECT_BYTES)
    }

    fn over(pages: Box<dyn Pages>, buckets: u32, open: usize, bounds: (usize, usize)) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(key.as_mut());
        let buckets = usize::try_from(buckets).unwrap_or(usize::MAX);
        let page_bytes = (open / buckets.max(1)).clamp(bounds.0, bounds.1);
        Self {
            reader: PageReader::new(pages, &key, page_bytes),
            key,
            buckets: (0..buckets).map(|_| Default::default()).collect(),
            pages: 0,
        }
    }

    /// Under which the pages are sealed; secret.
    pub(crate) const fn key(&self) -> &Zeroizing<[u8; 32]> {
        &self.key
    }

    /// Bytes of content in a page.
    pub(crate) const fn page_bytes(&self) -> usize {
        self.reader.page_bytes
    }

    /// The pages of a bucket that are kept: all of them after [`Self::seal_all`].
    pub(crate) fn pages_of(&self, bucket: u32) -> &[u32] {
        let index = usize::try_from(bucket).unwrap_or(usize::MAX);
        self.buckets
            .get(index)
            .map_or(&[], |(_, numbers)| numbers.as_slice())
    }

    /// Adds an item with its row.
    ///
    /// # Errors
    /// What the store says; `InvalidInput` for a bucket that there is not, a row over 2^32 - 1 or a value longer than a page.
    pub(crate) fn push(&mut self, bucket: u32, row: u64, value: &[u8]) -> io::Result<()> {
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let (Ok(row), Ok(len)) = (u32::try_from(row), u16::try_from(value.len())) else {
            return Err(wrong("row or value out of range"));
        };
        let page_bytes = self.page_bytes();
        if USED + HEAD + value.len() > page_bytes {
            return Err(wrong("value longer than a page"));
        }
        let index = usize::try_from(bucket).map_err(|_| wrong("no such bucket"))?;
        let (open, _) = self
            .buckets
            .get_mut(index)
            .ok_or_else(|| wrong("no such bucket"))?;
        if open.len() + HEAD + value.len() > page_bytes {
            self.flush(index)?;
        }
        let Some((open, _)) = self.buckets.get_mut(index) else {
            return Err(wrong("no such bucket"));
        };
        if open.is_empty() {
            // Never grown, so no copy is left behind.
            open.reserve_exact(page_bytes + TAG);
            open.extend_from_slice(&[0; USED]);
        }
        open.extend_from_slice(&row.to_be_bytes());
        open.extend_from_slice(&len.to_be_bytes());
        open.extend_from_slice(value);
        Ok(())
    }

    /// Seals every open page and keeps it, so that others can read all items.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) fn seal_all(&mut self) -> io::Result<()> {
        (0..self.buckets.len()).try_for_each(|index| self.seal_index(index))
    }

    fn seal_index(&mut self, index: usize) -> io::Result<()> {
        match self.buckets.get(index) {
            Some((open, _)) if !open.is_empty() => self.flush(index),
            _ => Ok(()),
        }
    }

    /// Seals the open page of a bucket that is complete, and lets its memory go.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) fn seal(&mut self, bucket: u32) -> io::Result<()> {
        let index = usize::try_from(bucket).unwrap_or(usize::MAX);
        self.seal_index(index)?;
        if let Some((open, _)) = self.buckets.get_mut(index) {
            open.zeroize();
            *open = Vec::new();
        }
        Ok(())
    }

    /// Moves a cursor on to the next item of its bucket, which is sealed.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) fn advance(&self, cursor: &mut PageCursor) -> io::Result<()> {
        cursor.value = None;
        if cursor.rest.is_empty() {
            let Some(page) = self.pages_of(cursor.bucket).get(cursor.next) else {
                return Ok(());
            };
            cursor.rest = self.reader.open(*page, &mut cursor.page)?;
            cursor.next += 1;
        }
        let rest = cursor.page.get(cursor.rest.clone()).unwrap_or_default();
        let (_, value, left) = split_item(rest).ok_or_else(damaged)?;
        let end = cursor.rest.end - left.len();
        cursor.value = Some(end - value.len()..end);
        cursor.rest.start = end;
        Ok(())
    }

    /// Seals a bucket's open page and keeps it.
    fn flush(&mut self, index: usize) -> io::Result<()> {
        let page = self.pages;
        let page_bytes = self.page_bytes();
        let Some((open, numbers)) = self.buckets.get_mut(index) else {
            return Ok(());
        };
        let used = u32::try_from(open.len()).unwrap_or(u32::MAX);
        if let Some(head) = open.first_chunk_mut::<USED>() {
            *head = used.to_be_bytes();
        }
        open.resize(page_bytes, 0);
        let tag = self
            .reader
            .cipher
            .encrypt_in_place_detached(&nonce(page), b"", open)
            .map_err(|_| io::Error::other("a page could not be sealed"))?;
        open.extend_from_slice(&tag);
        self.reader.pages.write(page, open)?;
        open.clear();
        numbers.push(page);
        // A key never seals two pages under one number.
        self.pages = page
            .checked_add(1)
            .ok_or_else(|| io::Error::other("too many pages"))?;
        Ok(())
    }

    /// Shows the items of a bucket in the order in which they were added, one page in memory at a time.
    ///
    /// # Errors
    /// What the store says, in `E`'s form, and what `each` gives.
    pub(crate) fn visit<E: From<io::Error>>(
        &self,
        bucket: u32,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let index = usize::try_from(bucket).unwrap_or(usize::MAX);
        let Some((open, numbers)) = self.buckets.get(index) else {
            return Ok(());
        };
        self.reader.visit(numbers, &mut each)?;
        show(open.get(USED..).unwrap_or_default(), &mut each)
    }

    /// As [`Self::visit`], for a machine.
    ///
    /// # Errors
    /// [`tally_psi::Error::Storage`], and what `each` gives.
    pub(crate) fn load(&self, bucket: u32, each: EachItem<'_>) -> Result<(), tally_psi::Error> {
        self.visit(bucket, |row, value| each(row, value).map_err(Loading))
            .map_err(|Loading(error)| error)
    }
}

/// An error of what a machine's host keeps for it, in the machine's form.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn storage(error: impl ToString) -> tally_psi::Error {
    tally_psi::Error::Storage {
        reason: error.to_string(),
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a page of items is damaged")
}

fn show<E: From<io::Error>>(
    mut items: &[u8],
    each: &mut impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    while !items.is_empty() {
        let (row, value, rest) = split_item(items).ok_or_else(damaged)?;
        each(row.into(), value)?;
        items = rest;
    }
    Ok(())
}

/// The row and value of the first item, and what is behind it.
fn split_item(items: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (row, rest) = items.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    Some((u32::from_be_bytes(*row), value, rest))
}

fn nonce(page: u32) -> Nonce {
    let mut nonce = Nonce::default();
    for (to, from) in nonce.iter_mut().zip(page.to_be_bytes()) {
        *to = from;
    }
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_by_bucket_in_order_and_the_file_has_no_name_and_no_item() {
        let dir = tempfile::tempdir().unwrap();
        for (buckets, rows) in [(2_u32, 20_000), (512, 160_000)] {
            let mut files = BucketFiles::create(dir.path(), buckets).unwrap();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            let value = |row: u64| format!("+86139{row:08}{}", "x".repeat((row % 400) as usize));
            let place = |row: u64| u32::try_from(row * 7 % u64::from(buckets)).unwrap();
            for row in 0..rows {
                files.push(place(row), row, value(row).as_bytes()).unwrap();
            }
            let mut seen = 0;
            for bucket in 0..buckets {
                let mut last = None;
                files
                    .visit(bucket, |row, item| {
                        assert_eq!((place(row), item), (bucket, value(row).as_bytes()));
                        assert!(last < Some(row));
                        last = Some(row);
                        seen += 1;
                        Ok::<_, io::Error>(())
                    })
                    .unwrap();
            }
            assert_eq!(seen, rows);
            assert!(files.pages > 50);
            // What lies on disk shows no item, and a changed byte is found.
            let len = files.page_bytes() + TAG;
            let page = |n| {
                let mut page = vec![0; len];
                files.reader.pages.read(n, &mut page).unwrap();
                page
            };
            for n in 0..files.pages {
                assert!(!page(n).windows(6).any(|w| w == b"+86139"));
            }
            let mut bent = page(0);
            bent[len / 2] ^= 1;
            files.reader.pages.write(0, &bent).unwrap();
            let spoiled = (0..buckets)
                .filter(|b| files.visit(*b, |_, _| Ok::<_, io::Error>(())).is_err())
                .count();
            assert_eq!(spoiled, 1);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = BucketFiles::create(dir.path(), 4096).unwrap();
        assert!(files.push(4096, 0, b"1").is_err());
        assert!(files.push(0, 1 << 32, b"1").is_err());
        assert!(files.push(0, 0, &vec![0; 5000]).is_err());
        assert!(files.push(0, 0, &[7; 512]).is_ok());
        assert!(BucketFiles::create(&dir.path().join("none"), 2).is_err());
    }
}
