//! Sorting of secret rows in bounded memory: sorted runs, each in sealed pages of its own, merged.
//!
//! The rows are people's IDs, so what leaves memory is sealed (see [`BucketFiles`]), in a file without a name that vanishes with
//! the process. Blinded elements, which need no seal, have sorters of their own in [`crate::spill`].

use std::io;
use std::path::PathBuf;

use rayon::slice::ParallelSliceMut as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::bucket_files::{BucketFiles, PageCursor};

/// Most runs on disk; with a page of each in memory while they are merged.
const MAX_RUNS: u32 = 512;

/// Takes rows of bytes in any order.
pub(crate) struct SealedSorter {
    dir: PathBuf,
    /// Bytes of rows that are held.
    run_bytes: usize,
    run: Run,
    /// Of the runs on disk, each a bucket; none while all fits into memory.
    files: Option<BucketFiles>,
    runs: u32,
}

/// Rows end to end, and where each lies.
#[derive(Default)]
struct Run {
    bytes: Zeroizing<Vec<u8>>,
    places: Vec<(u32, u16)>,
}

impl Run {
    fn row(&self, (from, len): (u32, u16)) -> &[u8] {
        let from = from as usize;
        self.bytes
            .get(from..from + usize::from(len))
            .unwrap_or_default()
    }

    fn sort(&mut self) {
        let mut places = std::mem::take(&mut self.places);
        places.par_sort_unstable_by(|a, b| self.row(*a).cmp(self.row(*b)));
        self.places = places;
    }

    fn clear(&mut self) {
        self.bytes.zeroize();
        self.places.clear();
    }
}

impl SealedSorter {
    /// Holds about `run_bytes` (at most 2^31) of rows, and eight more bytes for each, in memory; the rest is in a file in `dir`.
    pub(crate) fn new(dir: PathBuf, run_bytes: usize) -> Self {
        Self {
            dir,
            run_bytes: run_bytes.min(1 << 31),
            run: Run::default(),
            files: None,
            runs: 0,
        }
    }

    /// Adds a row, given in parts.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for a row of over 65,535 bytes, or more rows than can be merged.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if !self.run.places.is_empty() && self.run.bytes.len() + len > self.run_bytes {
            self.spill()?;
        }
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "a row over its bound");
        let from = u32::try_from(self.run.bytes.len()).map_err(|_| wrong())?;
        let place = (from, u16::try_from(len).map_err(|_| wrong())?);
        parts
            .iter()
            .for_each(|p| push_wiped(&mut self.run.bytes, p));
        self.run.places.push(place);
        Ok(())
    }

    /// Sorts what is held and lays it down as a run.
    fn spill(&mut self) -> io::Result<()> {
        if self.runs >= MAX_RUNS {
            let what = "more rows than can be sorted";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        self.run.sort();
        let files = match &mut self.files {
            Some(files) => files,
            none => none.insert(BucketFiles::create(&self.dir, MAX_RUNS)?),
        };
        for place in &self.run.places {
            files.push(self.runs, 0, self.run.row(*place))?;
        }
        files.seal(self.runs)?;
        self.runs += 1;
        self.run.clear();
        Ok(())
    }

    /// All rows, ascending, equal ones kept.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn finish(mut self) -> io::Result<SealedRows> {
        self.run.sort();
        let mut rows = SealedRows {
            heads: Vec::new(),
            held: (self.run, 0),
            cursors: (0..self.runs).map(PageCursor::new).collect(),
            files: self.files,
            shown: false,
        };
        for run in 0..=rows.cursors.len() {
            if run < rows.cursors.len() {
                rows.advance(run)?;
            }
            rows.enter(run);
        }
        Ok(rows)
    }
}

/// Rows in ascending order.
pub(crate) struct SealedRows {
    /// The runs that have a row left, ascending by their next ones. The run behind the cursors is the one in memory.
    heads: Vec<usize>,
    held: (Run, usize),
    cursors: Vec<PageCursor>,
    files: Option<BucketFiles>,
    /// Whether the least row was shown.
    shown: bool,
}

impl SealedRows {
    /// The next row.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.shown && !self.heads.is_empty() {
            let run = self.heads.remove(0);
            self.advance(run)?;
            self.enter(run);
        }
        self.shown = true;
        Ok(self.heads.first().and_then(|run| self.head(*run)))
    }

    fn head(&self, run: usize) -> Option<&[u8]> {
        match self.cursors.get(run) {
            Some(cursor) => cursor.value(),
            None => {
                let (held, at) = &self.held;
                held.places.get(*at).map(|place| held.row(*place))
            }
        }
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        match (self.cursors.get_mut(run), &self.files) {
            (Some(cursor), Some(files)) => files.advance(cursor),
            _ => {
                self.held.1 += 1;
                Ok(())
            }
        }
    }

    /// Puts a run where its next row belongs, or nowhere at its end.
    fn enter(&mut self, run: usize) {
        let Some(row) = self.head(run) else {
            return;
        };
        let at = self
            .heads
            .partition_point(|other| self.head(*other) < Some(row));
        self.heads.insert(at, run);
    }
}

/// Appends without leaving an unwiped copy behind where the bytes grow.
pub(crate) fn push_wiped(bytes: &mut Zeroizing<Vec<u8>>, value: &[u8]) {
    if bytes.len() + value.len() > bytes.capacity() {
        let mut larger = Vec::with_capacity((2 * bytes.capacity()).max(1 << 16) + value.len());
        larger.extend_from_slice(bytes);
        bytes.zeroize();
        *bytes = Zeroizing::new(larger);
    }
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn rows_come_back_in_order_whatever_fits_into_memory(
            rows in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..300), 0..400),
            run_bytes in 300_usize..60_000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = SealedSorter::new(dir.path().to_owned(), run_bytes);
            for row in &rows {
                let (head, tail) = row.split_at(row.len() / 2);
                sorter.push(&[head, tail]).unwrap();
            }
            let mut sorted = sorter.finish().unwrap();
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            let mut found = Vec::new();
            while let Some(row) = sorted.next().unwrap() {
                found.push(row.to_vec());
            }
            prop_assert!(sorted.next().unwrap().is_none());
            let mut expected = rows;
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_cannot_be_sorted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = SealedSorter::new(dir.path().to_owned(), 1);
        assert!(sorter.push(&[&[0; 40_000], &[0; 40_000]]).is_err());
        // A row a run.
        for _ in 0..=MAX_RUNS {
            sorter.push(&[b"row"]).unwrap();
        }
        assert!(sorter.push(&[b"row"]).is_err());
        let mut sorter = SealedSorter::new(dir.path().join("none"), 1);
        sorter.push(&[b"row"]).unwrap();
        assert!(sorter.push(&[b"row"]).is_err());
    }
}
