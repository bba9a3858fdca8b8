//! Sorters for matches larger than memory: sorted runs in files without a name, merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions, remove_file};
use std::io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use rand::RngCore as _;
use rand::rngs::OsRng;
use rayon::slice::ParallelSliceMut as _;
use tally_psi::{Error, Row, SortedRows, Sorter, SorterFactory};

/// Most files of one sorter; together with the rows of a run it bounds what can be sorted.
const MAX_RUNS: usize = 512;
/// Read ahead of each run while merging.
const BUFFER_BYTES: usize = 64 << 10;

/// Sorters that keep at most `run_rows` rows (32 bytes each) in memory and the rest in a directory. The files hold blinded
/// elements and tags alone, lose their names as soon as they are open, and vanish with the process.
#[derive(Debug, Clone)]
pub struct SpillSorters {
    dir: PathBuf,
    run_rows: usize,
}

impl SpillSorters {
    /// Sorters that spill into `dir`, which must exist.
    #[must_use]
    pub const fn new(dir: PathBuf, run_rows: usize) -> Self {
        Self { dir, run_rows }
    }
}

impl SorterFactory for SpillSorters {
    fn sorter(&mut self, expected: u64) -> Result<Box<dyn Sorter>, Error> {
        let ahead = usize::try_from(expected).unwrap_or(usize::MAX);
        Ok(Box::new(SpillSorter {
            rows: Vec::with_capacity(ahead.min(self.run_rows).min(1 << 16)),
            runs: Vec::new(),
            config: Self {
                dir: self.dir.clone(),
                run_rows: self.run_rows.max(1),
            },
        }))
    }
}

struct SpillSorter {
    config: SpillSorters,
    rows: Vec<Row>,
    runs: Vec<File>,
}

impl SpillSorter {
    fn spill(&mut self) -> Result<(), Error> {
        if self.runs.len() >= MAX_RUNS {
            return Err(Error::SorterFull {
                cap_rows: (MAX_RUNS * self.config.run_rows) as u64,
            });
        }
        self.rows.par_sort_unstable();
        let write = || -> std::io::Result<File> {
            let name = format!("spill-{:016x}{:016x}", OsRng.next_u64(), OsRng.next_u64());
            let path = self.config.dir.join(name);
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)?;
            remove_file(&path)?;
            file.write_all(self.rows.as_flattened())?;
            file.seek(SeekFrom::Start(0))?;
            Ok(file)
        };
        self.runs.push(write().map_err(storage)?);
        self.rows.clear();
        Ok(())
    }
}

impl Sorter for SpillSorter {
    fn push(&mut self, rows: &[Row]) -> Result<(), Error> {
        let mut rest = rows;
        while !rest.is_empty() {
            let room = self.config.run_rows.saturating_sub(self.rows.len());
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.rows.extend_from_slice(now);
            rest = later;
            if self.rows.len() >= self.config.run_rows {
                self.spill()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Box<dyn SortedRows>, Error> {
        self.rows.par_sort_unstable();
        let mut runs: Vec<Run> = self
            .runs
            .into_iter()
            .map(|f| Run::File(BufReader::with_capacity(BUFFER_BYTES, f)))
            .collect();
        runs.push(Run::Memory(self.rows.into_iter()));
        let mut merged = Merge {
            heads: BinaryHeap::with_capacity(runs.len()),
            runs,
        };
        for run in 0..merged.runs.len() {
            merged.pull(run)?;
        }
        Ok(Box::new(merged))
    }
}

enum Run {
    File(BufReader<File>),
    Memory(std::vec::IntoIter<Row>),
}

impl Run {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        match self {
            Self::Memory(rows) => Ok(rows.next()),
            Self::File(file) => {
                let mut row = [0; 32];
                match file.read_exact(&mut row) {
                    Ok(()) => Ok(Some(row)),
                    // Runs are whole rows, so this is their end.
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
                    Err(e) => Err(storage(e)),
                }
            }
        }
    }
}

struct Merge {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Row, usize)>>,
}

impl Merge {
    fn pull(&mut self, run: usize) -> Result<(), Error> {
        if let Some(source) = self.runs.get_mut(run)
            && let Some(row) = source.next()?
        {
            self.heads.push(Reverse((row, run)));
        }
        Ok(())
    }
}

impl SortedRows for Merge {
    fn next_rows(&mut self, max: usize, out: &mut Vec<Row>) -> Result<(), Error> {
        out.clear();
        while out.len() < max {
            let Some(Reverse((row, run))) = self.heads.pop() else {
                break;
            };
            out.push(row);
            self.pull(run)?;
        }
        Ok(())
    }
}

/// An error of what a machine's host keeps for it, in the machine's form.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn storage(error: impl ToString) -> Error {
    Error::Storage {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha20Rng;

    use super::*;

    #[test]
    fn runs_are_merged_and_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        for (n, run_rows) in [(0, 3), (10, 100), (99, 33), (1000, 7), (1000, 999)] {
            // Few values, so that rows repeat.
            let rows: Vec<Row> = (0..n).map(|_| [rng.gen_range(0..50); 32]).collect();
            let mut factory = SpillSorters::new(dir.path().to_owned(), run_rows);
            let mut sorter = factory.sorter(n).unwrap();
            for part in rows.chunks(17) {
                sorter.push(part).unwrap();
            }
            let mut sorted = sorter.finish().unwrap();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            let (mut got, mut page) = (Vec::new(), Vec::new());
            loop {
                sorted.next_rows(13, &mut page).unwrap();
                if page.is_empty() {
                    break;
                }
                got.extend_from_slice(&page);
            }
            let mut expected = rows;
            expected.sort_unstable();
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn too_many_rows_and_a_missing_directory_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = SpillSorters::new(dir.path().to_owned(), 1)
            .sorter(0)
            .unwrap();
        assert!(sorter.push(&[[0; 32]; MAX_RUNS]).is_ok());
        assert_eq!(
            sorter.push(&[[0; 32]]),
            Err(Error::SorterFull { cap_rows: 512 })
        );
        let mut sorter = SpillSorters::new(dir.path().join("none"), 1)
            .sorter(0)
            .unwrap();
        assert!(matches!(
            sorter.push(&[[0; 32]]),
            Err(Error::Storage { .. })
        ));
    }
}
