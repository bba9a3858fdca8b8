//! The oblivious key-value store: a random band matrix (Bienstock, Patel, Seo, Yeo, "Near-optimal oblivious key-value stores for
//! efficient PSI, PSU and volume-hiding multi-maps", 2023). A store is a vector; the sum of the columns that a key's band names
//! is the key's value, and for any other key it is random.
//!
//! Bands are 128 wide, columns 1.2 a row and a band's width more, rows fall into bins of about 2^16. Encoding is Gaussian
//! elimination over rows sorted by their first column: row operations stay within a band.
//!
//! Encoding fails for fewer than one set in 2^41. It is never tried again under another key: which keys fail depends on the set,
//! so a second one would tell of it. Neither encoding nor summing is constant time in the keys; both are local work.

use rayon::prelude::*;

use super::params::StoreShape;
use super::prg::{Compress, Prg};
use crate::Error;
use crate::simd::{BAND_COLUMNS, Band};

/// Rows whose bands are drawn together.
const BATCH: usize = 256;

/// What a key is: 128 bits from a hash, uniform and independent of the row function's key's other images.
pub(crate) type StoreKey = u128;

/// Maps keys to rows under the session's key.
pub(crate) struct Rows {
    shape: StoreShape,
    bands: Compress,
}

impl Rows {
    pub(crate) fn new(shape: StoreShape, row_key: u128) -> Self {
        Self {
            shape,
            bands: Compress::new(row_key),
        }
    }

    /// First column of a key, over all bins: the key's halves choose bin and place.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn start(&self, key: StoreKey) -> u32 {
        let pick =
            |half: u128, of: usize| (((half & u128::from(u64::MAX)) * of as u128) >> 64) as u32;
        let places = self.shape.bin_columns - BAND_COLUMNS + 1;
        // Below 2^27: see `StoreShape::columns`.
        pick(key, self.shape.bins) * self.shape.bin_columns as u32 + pick(key >> 64, places)
    }

    /// The rows of `keys`.
    pub(crate) fn rows(&self, keys: &[StoreKey], rows: &mut Vec<Band>) {
        let mut bits = vec![0; keys.len()];
        self.bands.apply(keys, &mut bits);
        rows.clear();
        rows.extend(keys.iter().zip(bits).map(|(key, bits)| Band {
            start: self.start(*key),
            bits: bits | 1,
        }));
    }

    /// The places of `keys`, ordered by their first column: summing and elimination then walk through the store once.
    pub(crate) fn order<T: Sync>(&self, keys: &[T], key: impl Fn(&T) -> StoreKey) -> Vec<u32> {
        let mut next = vec![0_u32; self.shape.columns() + 1];
        for k in keys {
            next[self.start(key(k)) as usize + 1] += 1;
        }
        let mut sum = 0;
        for n in &mut next {
            sum += *n;
            *n = sum;
        }
        let mut order = vec![0; keys.len()];
        for (place, k) in (0_u32..).zip(keys) {
            let n = &mut next[self.start(key(k)) as usize];
            order[*n as usize] = place;
            *n += 1;
        }
        order
    }

    /// The store that gives each key its value. `pairs` holds distinct keys in any order and `order` their places as by
    /// [`Self::order`]; columns that no row needs come from `free`.
    ///
    /// # Errors
    /// [`Error::Encoding`] for a bin that is too full and for rows that depend on each other, as two equal keys do.
    pub(crate) fn encode(
        &self,
        pairs: &[(StoreKey, u128)],
        order: &[u32],
        free: u128,
    ) -> Result<Vec<u128>, Error> {
        let mut columns = vec![0; self.shape.columns()];
        let width = self.shape.bin_columns;
        let mut seeds = vec![0; self.shape.bins];
        Prg::new(free).fill(&mut seeds);
        columns
            .par_chunks_mut(width)
            .zip(seeds)
            .enumerate()
            .try_for_each(|(bin, (columns, seed))| {
                let first = bin * width;
                let at = |column: usize| {
                    order.partition_point(|i| (self.start(pairs[*i as usize].0) as usize) < column)
                };
                self.encode_bin(
                    pairs,
                    &order[at(first)..at(first + width)],
                    first,
                    columns,
                    seed,
                )
            })?;
        Ok(columns)
    }

    fn encode_bin(
        &self,
        pairs: &[(StoreKey, u128)],
        order: &[u32],
        first: usize,
        columns: &mut [u128],
        free: u128,
    ) -> Result<(), Error> {
        if order.len() > self.shape.bin_rows {
            return Err(Error::Encoding {
                what: "a bin is too full",
            });
        }
        // For each column the band of the row that is solved for it, shifted to start there; 0 where there is none.
        let mut pivots = vec![0_u128; columns.len()];
        let (mut keys, mut rows) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        for places in order.chunks(BATCH) {
            keys.clear();
            keys.extend(places.iter().map(|i| pairs[*i as usize].0));
            self.rows(&keys, &mut rows);
            for (place, row) in places.iter().zip(&rows) {
                let value = pairs[*place as usize].1;
                eliminate(
                    &mut pivots,
                    columns,
                    row.start as usize - first,
                    row.bits,
                    value,
                )?;
            }
        }
        let mut free = Prg::new(free);
        let mut spare = [0; 64];
        let mut spent = spare.len();
        for column in (0..columns.len()).rev() {
            let mut bits = pivots[column];
            if bits == 0 {
                if spent == spare.len() {
                    free.fill(&mut spare);
                    spent = 0;
                }
                columns[column] = spare[spent];
                spent += 1;
                continue;
            }
            // Its own bit is the lowest.
            bits &= bits - 1;
            let mut value = columns[column];
            while bits != 0 {
                value ^= columns[column + bits.trailing_zeros() as usize];
                bits &= bits - 1;
            }
            columns[column] = value;
        }
        Ok(())
    }
}

/// Adds a row to those solved: earlier rows are taken off it until its first column is nobody's. No row reaches past the columns,
/// since none starts later than the last place and earlier ones end before.
fn eliminate(
    pivots: &mut [u128],
    values: &mut [u128],
    mut column: usize,
    mut bits: u128,
    mut value: u128,
) -> Result<(), Error> {
    while bits != 0 {
        let zeros = bits.trailing_zeros();
        column += zeros as usize;
        bits >>= zeros;
        let (Some(pivot), Some(solved)) = (pivots.get_mut(column), values.get_mut(column)) else {
            return Err(Error::Internal {
                what: "a row outside its bin",
            });
        };
        if *pivot == 0 {
            (*pivot, *solved) = (bits, value);
            return Ok(());
        }
        bits ^= *pivot;
        value ^= *solved;
    }
    Err(Error::Encoding {
        what: "rows depend on each other",
    })
}

#[cfg(test)]
mod tests;
