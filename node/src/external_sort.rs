//! Sorting in bounded memory: sorted runs, each in sealed pages of its own, merged.
//!
//! Rows are people's IDs, or blinded elements of a match. What leaves memory is sealed either way (see [`BucketFiles`]), in a file
//! without a name that vanishes with the process, and a page that is cut or changed is an error.

use std::io;
use std::path::PathBuf;

use rayon::slice::ParallelSliceMut as _;
use tally_psi::{Error, Row, SortedRows, Sorter, SorterFactory};
use zeroize::{Zeroize, Zeroizing};

use crate::bucket_files::{BucketFiles, PageCursor, storage};

/// Most runs on disk; with a page of each in memory while they are merged.
const MAX_RUNS: u32 = 512;

/// Rows in memory, in any order until they are sorted. They are wiped.
pub(crate) trait Run: Default + Send {
    /// Bytes of rows.
    fn bytes(&self) -> usize;

    /// Adds a row, given in parts.
    ///
    /// # Errors
    /// `InvalidInput` for a row of a length that cannot be held.
    fn push(&mut self, parts: &[&[u8]]) -> io::Result<()>;

    fn sort(&mut self);

    /// `None` behind the last.
    fn row(&self, index: usize) -> Option<&[u8]>;

    fn clear(&mut self);
}

fn wrong_length() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a row over its bound")
}

/// Rows of any length up to 65,535 bytes: end to end, and where each lies, in eight more bytes.
#[derive(Default)]
pub(crate) struct Varying {
    bytes: Zeroizing<Vec<u8>>,
    places: Vec<(u32, u16)>,
}

impl Varying {
    fn at(&self, (from, len): (u32, u16)) -> &[u8] {
        let from = from as usize;
        self.bytes
            .get(from..from + usize::from(len))
            .unwrap_or_default()
    }
}

impl Run for Varying {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let from = u32::try_from(self.bytes.len()).map_err(|_| wrong_length())?;
        let place = (from, u16::try_from(len).map_err(|_| wrong_length())?);
        parts.iter().for_each(|p| push_wiped(&mut self.bytes, p));
        self.places.push(place);
        Ok(())
    }

    fn sort(&mut self) {
        let mut places = std::mem::take(&mut self.places);
        places.par_sort_unstable_by(|a, b| self.at(*a).cmp(self.at(*b)));
        self.places = places;
    }

    fn row(&self, index: usize) -> Option<&[u8]> {
        self.places.get(index).map(|place| self.at(*place))
    }

    fn clear(&mut self) {
        self.bytes.zeroize();
        self.places.clear();
    }
}

/// Rows of one length, with nothing beside them.
#[derive(Default)]
pub(crate) struct Fixed(Zeroizing<Vec<Row>>);

impl Run for Fixed {
    fn bytes(&self) -> usize {
        self.0.as_flattened().len()
    }

    fn push(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let [row] = parts else {
            return Err(wrong_length());
        };
        let row = Row::try_from(*row).map_err(|_| wrong_length())?;
        push_wiped(&mut self.0, &[row]);
        Ok(())
    }

    fn sort(&mut self) {
        self.0.par_sort_unstable();
    }

    fn row(&self, index: usize) -> Option<&[u8]> {
        self.0.get(index).map(<[u8; 32]>::as_slice)
    }

    fn clear(&mut self) {
        self.0.zeroize();
    }
}

/// Takes rows in any order.
pub(crate) struct SealedSorter<R> {
    dir: PathBuf,
    /// Bytes of rows that are held.
    run_bytes: usize,
    run: R,
    /// Of the runs on disk, each a bucket; none while all fits into memory.
    files: Option<BucketFiles>,
    runs: u32,
}

impl<R: Run> SealedSorter<R> {
    /// Holds about `run_bytes` (at most 2^31) of rows in memory; the rest is in a file in `dir`.
    pub(crate) fn new(dir: PathBuf, run_bytes: usize) -> Self {
        Self {
            dir,
            run_bytes: run_bytes.min(1 << 31),
            run: R::default(),
            files: None,
            runs: 0,
        }
    }

    /// Adds a row, given in parts.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for a row that cannot be held, or more rows than can be merged.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let held = self.run.bytes();
        if held > 0 && held + len > self.run_bytes {
            self.spill()?;
        }
        self.run.push(parts)
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
        let mut index = 0;
        while let Some(row) = self.run.row(index) {
            files.push(self.runs, 0, row)?;
            index += 1;
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
    pub(crate) fn finish(mut self) -> io::Result<SealedRows<R>> {
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
pub(crate) struct SealedRows<R> {
    /// The runs that have a row left, descending by their next ones. The run behind the cursors is the one in memory.
    heads: Vec<usize>,
    held: (R, usize),
    cursors: Vec<PageCursor>,
    files: Option<BucketFiles>,
    /// Whether the least row was shown.
    shown: bool,
}

impl<R: Run> SealedRows<R> {
    /// The next row.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.shown
            && let Some(run) = self.heads.pop()
        {
            self.advance(run)?;
            self.enter(run);
        }
        self.shown = true;
        Ok(self.heads.last().and_then(|run| self.head(*run)))
    }

    fn head(&self, run: usize) -> Option<&[u8]> {
        match self.cursors.get(run) {
            Some(cursor) => cursor.value(),
            None => self.held.0.row(self.held.1),
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
            .partition_point(|other| self.head(*other) > Some(row));
        self.heads.insert(at, run);
    }
}

/// Sorters of a match that keep at most `run_rows` rows (32 bytes each) in memory and the rest in a directory.
#[derive(Debug, Clone)]
pub(crate) struct SpillSorters {
    dir: PathBuf,
    run_rows: usize,
}

impl SpillSorters {
    /// Sorters that spill into `dir`, which must exist.
    pub(crate) const fn new(dir: PathBuf, run_rows: usize) -> Self {
        Self { dir, run_rows }
    }
}

impl SorterFactory for SpillSorters {
    fn sorter(&mut self, _: u64) -> Result<Box<dyn Sorter>, Error> {
        let run_rows = self.run_rows.clamp(1, 1 << 26);
        Ok(Box::new(RowSorter {
            sorter: SealedSorter::new(self.dir.clone(), run_rows * size_of::<Row>()),
            left: u64::from(MAX_RUNS) * run_rows as u64,
            cap_rows: u64::from(MAX_RUNS) * run_rows as u64,
        }))
    }
}

struct RowSorter {
    sorter: SealedSorter<Fixed>,
    /// Rows that may still come, of `cap_rows`.
    left: u64,
    cap_rows: u64,
}

impl Sorter for RowSorter {
    fn push(&mut self, rows: &[Row]) -> Result<(), Error> {
        let cap_rows = self.cap_rows;
        self.left =
            (self.left.checked_sub(rows.len() as u64)).ok_or(Error::SorterFull { cap_rows })?;
        rows.iter()
            .try_for_each(|row| self.sorter.push(&[row]))
            .map_err(storage)
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn SortedRows>, Error> {
        Ok(Box::new(self.sorter.finish().map_err(storage)?))
    }
}

impl SortedRows for SealedRows<Fixed> {
    fn next_rows(&mut self, max: usize, out: &mut Vec<Row>) -> Result<(), Error> {
        out.clear();
        while out.len() < max
            && let Some(row) = self.next().map_err(storage)?
        {
            out.push(Row::try_from(row).map_err(storage)?);
        }
        Ok(())
    }
}

/// Appends without leaving an unwiped copy behind where the values grow.
pub(crate) fn push_wiped<T: Copy + Zeroize>(held: &mut Zeroizing<Vec<T>>, values: &[T]) {
    if held.len() + values.len() > held.capacity() {
        let least = (1 << 16) / size_of::<T>();
        let mut larger = Vec::with_capacity((2 * held.capacity()).max(least) + values.len());
        larger.extend_from_slice(held);
        held.zeroize();
        *held = Zeroizing::new(larger);
    }
    held.extend_from_slice(values);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha20Rng;

    use super::*;

    fn all<R: Run>(sorter: SealedSorter<R>) -> io::Result<Vec<Vec<u8>>> {
        let mut sorted = sorter.finish()?;
        let mut found = Vec::new();
        while let Some(row) = sorted.next()? {
            found.push(row.to_vec());
        }
        assert!(sorted.next()?.is_none());
        Ok(found)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn rows_come_back_in_order_whatever_fits_into_memory(
            rows in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..300), 0..400),
            run_bytes in 300_usize..60_000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = SealedSorter::<Varying>::new(dir.path().to_owned(), run_bytes);
            for row in &rows {
                let (head, tail) = row.split_at(row.len() / 2);
                sorter.push(&[head, tail]).unwrap();
            }
            prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
            let mut expected = rows;
            expected.sort();
            prop_assert_eq!(all(sorter).unwrap(), expected);
        }

        #[test]
        fn rows_of_a_match_come_back_in_pages_at_every_edge_of_a_run(
            run_rows in 1_usize..40,
            runs in 0_usize..5,
            beside in 0_usize..3,
            values in 1_u8..=255,
            (pushed, page) in (1_usize..70, 1_usize..70),
            seed: u64,
        ) {
            // A run less one, a run, one more; few values, so that rows repeat.
            let n = (runs * run_rows + beside).saturating_sub(1);
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let rows: Vec<Row> = (0..n).map(|_| [rng.gen_range(0..values); 32]).collect();
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = SpillSorters::new(dir.path().to_owned(), run_rows).sorter(1 << 60).unwrap();
            rows.chunks(pushed).for_each(|part| sorter.push(part).unwrap());
            let mut sorted = sorter.finish().unwrap();
            prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
            let (mut found, mut out) = (Vec::new(), vec![[7; 32]]);
            loop {
                sorted.next_rows(page, &mut out).unwrap();
                found.extend_from_slice(&out);
                if out.len() < page {
                    break;
                }
            }
            sorted.next_rows(page, &mut out).unwrap();
            prop_assert!(out.is_empty());
            let mut expected = rows;
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_run_is_laid_down_with_the_first_row_that_does_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = SealedSorter::<Fixed>::new(dir.path().to_owned(), 3 * 32);
        let mut runs = Vec::new();
        for row in 0..7 {
            sorter.push(&[&[row; 32]]).unwrap();
            runs.push(sorter.runs);
        }
        assert_eq!(runs, [0, 0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn what_cannot_be_sorted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let new = |dir: &Path| SealedSorter::<Varying>::new(dir.to_owned(), 1);
        let mut sorter = new(dir.path());
        assert!(sorter.push(&[&[0; 40_000], &[0; 40_000]]).is_err());
        // A row a run.
        for _ in 0..=MAX_RUNS {
            sorter.push(&[b"row"]).unwrap();
        }
        assert!(sorter.push(&[b"row"]).is_err());
        let mut sorter = new(&dir.path().join("none"));
        sorter.push(&[b"row"]).unwrap();
        assert!(sorter.push(&[b"row"]).is_err());

        let mut sorter = SealedSorter::<Fixed>::new(dir.path().to_owned(), 1 << 20);
        assert!(sorter.push(&[&[0; 31]]).is_err());
        assert!(sorter.push(&[&[0; 16], &[0; 16]]).is_err());
        let mut sorter = SpillSorters::new(dir.path().to_owned(), 1)
            .sorter(0)
            .unwrap();
        sorter.push(&[[0; 32]; MAX_RUNS as usize]).unwrap();
        let full = Error::SorterFull { cap_rows: 512 };
        assert_eq!(sorter.push(&[[0; 32]]), Err(full));
        let mut sorter = SpillSorters::new(dir.path().join("none"), 1)
            .sorter(0)
            .unwrap();
        let failed = sorter.push(&[[0; 32]; 2]);
        assert!(matches!(failed, Err(Error::Storage { .. })));
    }

    /// The file without a name that was made in a directory.
    fn nameless(dir: &Path) -> fs::File {
        let is_it = |link: &fs::DirEntry| {
            fs::read_link(link.path()).is_ok_and(|target| target.starts_with(dir))
        };
        let links = fs::read_dir("/proc/self/fd").unwrap();
        let link = links.flatten().find(is_it).unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open(link.path())
            .unwrap()
    }

    #[test]
    fn a_file_that_was_cut_is_an_error_and_not_an_end() {
        for cut in [1, 40_000, u64::MAX] {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = SealedSorter::<Fixed>::new(dir.path().to_owned(), 1 << 16);
            for i in 0..6_000_u32 {
                let mut row = [0; 32];
                row[..4].copy_from_slice(&i.to_be_bytes());
                sorter.push(&[&row]).unwrap();
            }
            let file = nameless(dir.path());
            let len = file.metadata().unwrap().len();
            file.set_len(len.saturating_sub(cut)).unwrap();
            assert!(all(sorter).is_err());
        }
    }
}
