//! Sorting more rows than a frame holds: the host supplies where they lie; here they lie in memory.

use rayon::prelude::*;

use crate::Error;

/// What is sorted, by its bytes: an encoding, or a tag with an index behind it.
pub type Row = [u8; 32];

/// Takes rows in any order.
pub trait Sorter: Send {
    /// Adds rows.
    ///
    /// # Errors
    /// [`Error::SorterFull`], [`Error::Storage`].
    fn push(&mut self, rows: &[Row]) -> Result<(), Error>;

    /// All rows pushed, ascending, equal ones kept.
    ///
    /// # Errors
    /// [`Error::Storage`].
    fn finish(self: Box<Self>) -> Result<Box<dyn SortedRows>, Error>;
}

/// Gives rows in ascending order.
pub trait SortedRows: Send {
    /// Puts up to `max` further rows into `out`, which is emptied first; fewer than `max` (with `max` > 0) means the end.
    ///
    /// # Errors
    /// [`Error::Storage`].
    fn next_rows(&mut self, max: usize, out: &mut Vec<Row>) -> Result<(), Error>;
}

/// Makes the sorters of a run.
pub trait SorterFactory: Send {
    /// An empty sorter for about `expected` rows.
    ///
    /// # Errors
    /// [`Error::Storage`].
    fn sorter(&mut self, expected: u64) -> Result<Box<dyn Sorter>, Error>;
}

/// Sorters in memory, 32 bytes a row.
#[derive(Debug, Clone)]
pub struct MemorySorters {
    cap_rows: u64,
}

impl MemorySorters {
    /// Sorters that refuse more than `cap_rows` rows each; a run holds at most three at a time.
    #[must_use]
    pub const fn new(cap_rows: u64) -> Self {
        Self { cap_rows }
    }
}

impl SorterFactory for MemorySorters {
    fn sorter(&mut self, expected: u64) -> Result<Box<dyn Sorter>, Error> {
        // The peer's claim sets `expected`: memory follows what comes, not what is claimed.
        let ahead = usize::try_from(expected.min(self.cap_rows).min(1 << 16)).unwrap_or(0);
        Ok(Box::new(MemorySorter {
            rows: Vec::with_capacity(ahead),
            cap_rows: self.cap_rows,
        }))
    }
}

struct MemorySorter {
    rows: Vec<Row>,
    cap_rows: u64,
}

impl Sorter for MemorySorter {
    fn push(&mut self, rows: &[Row]) -> Result<(), Error> {
        if (self.rows.len() + rows.len()) as u64 > self.cap_rows {
            return Err(Error::SorterFull {
                cap_rows: self.cap_rows,
            });
        }
        self.rows.extend_from_slice(rows);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn SortedRows>, Error> {
        let mut rows = self.rows;
        rows.par_sort_unstable();
        Ok(Box::new(MemoryRows { rows, given: 0 }))
    }
}

struct MemoryRows {
    rows: Vec<Row>,
    given: usize,
}

impl SortedRows for MemoryRows {
    fn next_rows(&mut self, max: usize, out: &mut Vec<Row>) -> Result<(), Error> {
        out.clear();
        let rest = self.rows.get(self.given..).unwrap_or_default();
        out.extend_from_slice(rest.get(..max).unwrap_or(rest));
        self.given += out.len();
        Ok(())
    }
}

/// Sorted rows one at a time.
pub(crate) struct Cursor {
    rows: Box<dyn SortedRows>,
    page: Vec<Row>,
    at: usize,
}

impl Cursor {
    const PAGE: usize = 4096;

    pub(crate) fn new(rows: Box<dyn SortedRows>) -> Self {
        Self {
            rows,
            page: Vec::new(),
            at: 0,
        }
    }

    /// The next row without taking it; `None` at the end.
    pub(crate) fn peek(&mut self) -> Result<Option<Row>, Error> {
        if self.at >= self.page.len() {
            self.rows.next_rows(Self::PAGE, &mut self.page)?;
            self.at = 0;
        }
        Ok(self.page.get(self.at).copied())
    }

    pub(crate) const fn advance(&mut self) {
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_rows_come_back_sorted_in_pages_and_the_cap_holds() {
        let mut f = MemorySorters::new(5);
        let mut s = f.sorter(u64::MAX).unwrap();
        s.push(&[[3; 32], [1; 32], [3; 32]]).unwrap();
        s.push(&[[0; 32]]).unwrap();
        assert_eq!(
            s.push(&[[9; 32], [8; 32]]).unwrap_err(),
            Error::SorterFull { cap_rows: 5 }
        );
        let mut rows = s.finish().unwrap();
        let mut out = vec![[7; 32]];
        rows.next_rows(3, &mut out).unwrap();
        assert_eq!(out, [[0; 32], [1; 32], [3; 32]]);
        rows.next_rows(3, &mut out).unwrap();
        assert_eq!(out, [[3; 32]]);
        rows.next_rows(3, &mut out).unwrap();
        assert!(out.is_empty());
    }
}
