//! People in any number, brought into the order of their set in bounded memory: sorted by ID, where repeated ones meet, then salted
//! and sorted by leaf.

use std::collections::BinaryHeap;
use std::io;
use std::path::Path;

use rand_core::CryptoRngCore;
use rayon::prelude::*;
use tally_contracts::records::Profile;
use tally_measure::{
    DenseFinder, Identifier, ImportReport, Lines, MAX_SET_SIZE, SALT_BYTES, SaltedEntry, number_of,
};
use tally_merkle::Hash;
use zeroize::Zeroizing;

use super::AudienceError;
use crate::external_sort::{SealedRows, SealedSorter, Varying, push_wiped};

/// People who are salted at a time, on all cores.
const BATCH: usize = 8192;
/// Bytes of a row before a value: its number, so that numbers come in their order, and its length.
const HEAD: usize = 8 + 2;
/// Bytes of a row behind a value: the line.
const LINE: usize = 8;

/// The IDs of a file, each with its line, repeated ones too.
pub(super) struct Listed(SealedSorter<Varying>);

impl Listed {
    pub(super) fn new(dir: &Path, run_bytes: usize) -> Self {
        Self(SealedSorter::new(dir.to_owned(), run_bytes))
    }

    pub(super) fn push(&mut self, line: u64, id: &Identifier) -> io::Result<()> {
        let value = id.as_bytes();
        let number = number_of(value).unwrap_or(u64::MAX).to_be_bytes();
        let len = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
        self.0.push(&[&number, &len, value, &line.to_be_bytes()])
    }

    /// Shows each person once, and says in the report how many they are, which rows repeat an earlier one (`keep` lines of them) and
    /// whether they are dense.
    pub(super) fn finish(
        self,
        report: &mut ImportReport,
        keep: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), AudienceError>,
        failed: impl Fn(io::Error) -> AudienceError,
    ) -> Result<(), AudienceError> {
        let mut rows = self.0.finish().map_err(&failed)?;
        let (mut last, mut dense) = (Zeroizing::new(Vec::new()), DenseFinder::new());
        let (mut first_lines, mut repeated) = (BinaryHeap::new(), 0);
        while let Some(row) = rows.next().map_err(&failed)? {
            let (value, line) = split(row).ok_or_else(|| failed(damaged()))?;
            // No ID is empty.
            if *value == **last {
                repeated += 1;
                // The greatest of them goes.
                first_lines.push(line);
                if first_lines.len() > keep {
                    first_lines.pop();
                }
                continue;
            }
            last.clear();
            push_wiped(&mut last, value);
            number_of(value)
                .into_iter()
                .for_each(|number| dense.push(number));
            report.used += 1;
            each(value)?;
        }
        report.duplicates = Lines {
            count: repeated,
            first_lines: first_lines.into_sorted_vec(),
        };
        report.dense_range = dense.finish();
        Ok(())
    }
}

fn split(row: &[u8]) -> Option<(&[u8], u64)> {
    let (value, line) = row.get(HEAD..)?.split_last_chunk::<LINE>()?;
    Some((value, u64::from_be_bytes(*line)))
}

pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a sorted row is damaged")
}

/// Distinct people on their way into a set.
pub(super) struct Salting<'a, R> {
    profile: Profile,
    rng: &'a mut R,
    sorter: SealedSorter<Varying>,
    batch: Vec<SaltedEntry>,
    count: usize,
}

impl<'a, R: CryptoRngCore> Salting<'a, R> {
    pub(super) fn new(dir: &Path, run_bytes: usize, profile: Profile, rng: &'a mut R) -> Self {
        Self {
            profile,
            rng,
            sorter: SealedSorter::new(dir.to_owned(), run_bytes),
            batch: Vec::with_capacity(BATCH),
            count: 0,
        }
    }

    /// Draws a person's salt.
    pub(super) fn push(
        &mut self,
        id: Identifier,
        failed: impl Fn(io::Error) -> AudienceError,
    ) -> Result<(), AudienceError> {
        self.count += 1;
        if self.count > MAX_SET_SIZE {
            return Err(AudienceError::Set(tally_measure::Error::SetSize {
                found: self.count,
                max: MAX_SET_SIZE,
            }));
        }
        let mut salt = [0; SALT_BYTES];
        self.rng.fill_bytes(&mut salt);
        self.batch.push(SaltedEntry { salt, id });
        if self.batch.len() == BATCH {
            self.flush().map_err(failed)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let profile = self.profile;
        let leaves: Vec<Hash> = self.batch.par_iter().map(|e| e.leaf(profile)).collect();
        for (leaf, entry) in leaves.iter().zip(self.batch.drain(..)) {
            self.sorter
                .push(&[leaf.as_bytes(), &entry.salt, entry.id.as_bytes()])?;
        }
        Ok(())
    }

    /// How many there are, and all of them by leaf.
    pub(super) fn finish(mut self) -> io::Result<(u64, Salted)> {
        self.flush()?;
        Ok((self.count as u64, Salted(self.sorter.finish()?)))
    }
}

/// A person of a set, with the leaf.
pub(super) struct Person<'a> {
    pub(super) leaf: Hash,
    pub(super) salt: &'a [u8; SALT_BYTES],
    pub(super) id: &'a [u8],
}

/// People in the order of their set.
pub(super) struct Salted(SealedRows<Varying>);

impl Salted {
    /// The next person.
    pub(super) fn next(&mut self) -> io::Result<Option<Person<'_>>> {
        let Some(row) = self.0.next()? else {
            return Ok(None);
        };
        let parts = row.split_first_chunk::<32>();
        let parts = parts.and_then(|(leaf, rest)| Some((leaf, rest.split_first_chunk()?)));
        let (leaf, (salt, id)) = parts.ok_or_else(damaged)?;
        let leaf = Hash(*leaf);
        Ok(Some(Person { leaf, salt, id }))
    }
}
