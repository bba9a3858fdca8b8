//! Making a batch: both trees and the rows for the printer, in one pass over all cores.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::bulk::{AFTER_URL, Row, Scratch};
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
    roots: Vec<ChunkRoots>,
}

/// The roots of one chunk of the unit tree and of the redemption tree: what is kept of 256 units.
pub type ChunkRoots = [tally_merkle::Hash; 2];

/// Bytes of each row for links that begin with `base`.
#[must_use]
pub const fn row_len(base: &UrlBase) -> usize {
    base.url_len() + AFTER_URL
}

impl<'a> BatchBuild<'a> {
    /// Starts. With `rows` the rows for the printer are made too, their links beginning so.
    #[must_use]
    pub fn new(deriver: &'a Deriver, rows: Option<&UrlBase>) -> Self {
        Self {
            deriver,
            row: rows.map(|base| Row::new(base, deriver.spec().gtin())),
            roots: Vec::new(),
        }
    }

    /// Goes on after the chunks whose roots are given, from the first on; their rows are not made again.
    ///
    /// # Errors
    /// [`Error::Range`] if the batch has fewer chunks.
    pub fn resume(
        deriver: &'a Deriver,
        rows: Option<&UrlBase>,
        roots: Vec<ChunkRoots>,
    ) -> Result<Self, Error> {
        let max = deriver.spec().count().div_ceil(CHUNK);
        let found = roots.len() as u64;
        if found > max {
            return Err(Error::Range {
                what: "number of chunks",
                found,
                min: 0,
                max,
            });
        }
        Ok(Self {
            roots,
            ..Self::new(deriver, rows)
        })
    }

    /// The roots of the chunks made so far.
    #[must_use]
    pub fn roots(&self) -> &[ChunkRoots] {
        &self.roots
    }

    /// Units made so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        (self.roots.len() as u64)
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
        let start = self.roots.len() as u64;
        if start >= chunks {
            rows.clear();
            return false;
        }
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
        let made: Vec<ChunkRoots> = if row_len == 0 {
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
        self.roots.extend(made);
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
            unit: UpperLevels::from_base(self.roots.iter().map(|[unit, _]| *unit).collect()),
            redemption: UpperLevels::from_base(self.roots.iter().map(|[_, null]| *null).collect()),
        })
    }
}
