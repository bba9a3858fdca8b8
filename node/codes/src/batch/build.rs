//! Making a batch: both trees and the rows for the printer, in one pass over all cores.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::bulk::{Row, Scratch};
use super::derive::Deriver;
use super::levels::{CHUNK, UpperLevels, chunk_root};
use crate::Error;
use crate::gs1::UrlBase;

/// First line of the printer's file.
pub const CSV_HEADER: &str = "url,serial,claim_code\n";

/// Chunks worked on between two calls: 16,384 units, about 1.6 MB of rows.
const WINDOW: u64 = 64;

/// The trees of a batch, without what lies below height 8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchTrees {
    /// Over the unit codes.
    pub unit: UpperLevels,
    /// Over the nullifiers.
    pub redemption: UpperLevels,
}

/// A batch in the making. Memory: the rows of one step, and 64 bytes for each 256 units.
pub struct BatchBuild<'a> {
    deriver: &'a Deriver,
    row: Option<Row>,
    next_chunk: u64,
    unit: Vec<tally_merkle::Hash>,
    redemption: Vec<tally_merkle::Hash>,
}

impl<'a> BatchBuild<'a> {
    /// Starts. With `rows` the rows for the printer are made too, their links beginning so.
    #[must_use]
    pub fn new(deriver: &'a Deriver, rows: Option<&UrlBase>) -> Self {
        Self {
            deriver,
            row: rows.map(|base| Row::new(base, deriver.spec().gtin())),
            next_chunk: 0,
            unit: Vec::new(),
            redemption: Vec::new(),
        }
    }

    /// Units made so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.next_chunk
            .saturating_mul(CHUNK)
            .min(self.deriver.spec().count())
    }

    /// Units in all.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.deriver.spec().count()
    }

    /// Makes the next units, up to 16,384, and puts their rows in place of what `rows` holds (`url,serial,claim_code`, each line
    /// ended by LF; none if none are asked for); `false` when all are made already. Rows are in the order of leaves, which shows
    /// nothing of the order of production. Secret: they hold claim codes. The caller's buffer is used again from step to step
    /// and wiped when it is dropped.
    pub fn next_rows(&mut self, rows: &mut Zeroizing<Vec<u8>>) -> bool {
        let total = self.total();
        let chunks = total.div_ceil(CHUNK);
        if self.next_chunk >= chunks {
            rows.clear();
            return false;
        }
        let start = self.next_chunk;
        let end = (start + WINDOW).min(chunks);
        let row_len = self.row.as_ref().map_or(0, Row::len);
        let units = (end * CHUNK).min(total) - start * CHUNK;
        let length = usize::try_from(units).map_or(0, |n| n.saturating_mul(row_len));
        if rows.capacity() < length {
            // A vector that grows leaves its old bytes behind unwiped; so this one is new.
            *rows = Zeroizing::new(Vec::with_capacity(length));
        }
        rows.resize(length, 0);
        let (deriver, row) = (self.deriver, self.row.as_ref());
        let one = |scratch: &mut Scratch, chunk, rows: Option<&mut [u8]>| {
            [
                chunk_root(deriver.unit_leaves(chunk, row.zip(rows), scratch)),
                chunk_root(deriver.redemption_leaves(chunk, scratch)),
            ]
        };
        let made: Vec<[tally_merkle::Hash; 2]> = if row_len == 0 {
            (start..end)
                .into_par_iter()
                .map_init(Scratch::new, |scratch, chunk| one(scratch, chunk, None))
                .collect()
        } else {
            rows.par_chunks_mut(256 * row_len)
                .enumerate()
                .map_init(Scratch::new, |scratch, (at, rows)| {
                    one(scratch, start + at as u64, Some(rows))
                })
                .collect()
        };
        for [unit, redemption] in made {
            self.unit.push(unit);
            self.redemption.push(redemption);
        }
        self.next_chunk = end;
        true
    }

    /// The trees, once all units are made.
    ///
    /// # Errors
    /// [`Error::Internal`] if some are not.
    pub fn finish(self) -> Result<BatchTrees, Error> {
        if self.done() < self.total() {
            return Err(Error::Internal {
                what: "batch is not complete",
            });
        }
        Ok(BatchTrees {
            unit: UpperLevels::from_base(self.unit),
            redemption: UpperLevels::from_base(self.redemption),
        })
    }
}
