//! Making a batch: both trees and the rows for the printer, in one pass over all cores.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::derive::Deriver;
use super::levels::{CHUNK, UpperLevels, chunk_root};
use crate::Error;
use crate::gs1::UrlBase;

/// First line of the printer's file.
pub const CSV_HEADER: &str = "url,serial,claim_code\n";

/// Chunks worked on between two calls: 16,384 units, about 1.5 MB of rows.
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
    rows: Option<&'a UrlBase>,
    next_chunk: u64,
    unit: Vec<tally_merkle::Hash>,
    redemption: Vec<tally_merkle::Hash>,
}

impl<'a> BatchBuild<'a> {
    /// Starts. With `rows` the rows for the printer are made too, their links beginning so.
    #[must_use]
    pub const fn new(deriver: &'a Deriver, rows: Option<&'a UrlBase>) -> Self {
        Self {
            deriver,
            rows,
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

    /// Makes the next units, up to 16,384, and returns their rows (`url,serial,claim_code`, each line ended by LF; empty without rows);
    /// `None` when all are made. Rows are in the order of leaves, which shows nothing of the order of production. Secret: they hold
    /// claim codes, and are wiped when dropped.
    pub fn next_rows(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let chunks = self.total().div_ceil(CHUNK);
        if self.next_chunk >= chunks {
            return None;
        }
        let end = (self.next_chunk + WINDOW).min(chunks);
        let (deriver, base) = (self.deriver, self.rows);
        let made: Vec<_> = (self.next_chunk..end)
            .into_par_iter()
            .map(|chunk| {
                let row = base.map_or(0, |b| b.url_len() + 38);
                let mut rows = Zeroizing::new(Vec::with_capacity(256 * row));
                let mut leaves = Vec::with_capacity(256);
                deriver.each_unit(chunk, |unit| {
                    leaves.push(deriver.unit_leaf(unit));
                    if let Some(base) = base {
                        base.write_url(&mut rows, deriver.spec().gtin(), &unit.chars);
                        rows.push(b',');
                        rows.extend_from_slice(&unit.chars);
                        rows.push(b',');
                        rows.extend_from_slice(unit.claim.to_printed().as_bytes());
                        rows.push(b'\n');
                    }
                });
                (
                    rows,
                    chunk_root(leaves),
                    chunk_root(deriver.redemption_leaves(chunk)),
                )
            })
            .collect();
        let mut all = Zeroizing::new(Vec::with_capacity(
            made.iter().map(|(rows, ..)| rows.len()).sum(),
        ));
        for (rows, unit, redemption) in made {
            all.extend_from_slice(&rows);
            self.unit.push(unit);
            self.redemption.push(redemption);
        }
        self.next_chunk = end;
        Some(all)
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
