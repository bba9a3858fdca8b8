//! Making a batch: both trees and the rows for the printer, in one pass over all cores.

use rayon::prelude::*;

use super::bulk::Scratch;
use super::derive::Deriver;
use super::levels::{CHUNK, UpperLevels, chunk_root};
use super::rows::{Row, RowBuffers, RowForms, WINDOW, chunk_rows};
use crate::Error;

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
    rows: [Option<Row>; 2],
    roots: Vec<ChunkRoots>,
}

/// The roots of one chunk of the unit tree and of the redemption tree: what is kept of 256 units.
pub type ChunkRoots = [tally_merkle::Hash; 2];

impl<'a> BatchBuild<'a> {
    /// Starts. The rows for the printer are made on the way.
    #[must_use]
    pub fn new(deriver: &'a Deriver, forms: &RowForms) -> Self {
        Self {
            deriver,
            rows: forms.rows(deriver.spec().gtin()),
            roots: Vec::new(),
        }
    }

    /// Goes on after the chunks whose roots are given, from the first on; their rows are not made again.
    ///
    /// # Errors
    /// [`Error::Range`] if the batch has fewer chunks.
    pub fn resume(
        deriver: &'a Deriver,
        forms: &RowForms,
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
            ..Self::new(deriver, forms)
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

    /// Makes the next units, up to 16,384, and puts their rows in place of what `buffers` hold, each line ended by LF and none of a
    /// kind that is not asked for; `false` when all are made already. Rows are in the order of leaves, which shows nothing of the
    /// order of production. Secret. The caller's buffers are used again from step to step and wiped when they are dropped.
    pub fn next_rows(&mut self, buffers: &mut RowBuffers) -> bool {
        let total = self.total();
        let chunks = total.div_ceil(CHUNK);
        let start = self.roots.len() as u64;
        if start >= chunks {
            buffers.outer.clear();
            buffers.claims.clear();
            return false;
        }
        let end = (start + WINDOW).min(chunks);
        let deriver = self.deriver;
        let made: Vec<ChunkRoots> = chunk_rows(&self.rows, buffers, total, (start, end))
            .into_par_iter()
            .enumerate()
            .map_init(Scratch::new, |scratch, (at, rows)| {
                let chunk = start + at as u64;
                [
                    chunk_root(deriver.unit_leaves(chunk, rows, scratch)),
                    chunk_root(deriver.redemption_leaves(chunk, scratch)),
                ]
            })
            .collect();
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
