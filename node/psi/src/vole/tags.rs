//! Tags of many items: lookups in a store in its order, hashed, cut and sorted.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::hashes::Oracles;
use super::store::Rows;
use crate::Error;
use crate::simd::Kernels;
use crate::sort::sort_uniform;

/// Items looked up together.
const BATCH: usize = 1024;

/// What tags are made with.
pub(crate) struct Tagging<'a> {
    pub(crate) kernels: Kernels,
    pub(crate) oracles: &'a Oracles,
    pub(crate) rows: &'a Rows,
    /// Bytes of a tag, at most 12.
    pub(crate) len: usize,
}

impl Tagging<'_> {
    /// The bits that a tag has.
    pub(crate) fn mask(&self) -> Result<u128, Error> {
        // 40 bits and the logarithm of two counts below 2^26 and a half: the index stands behind it.
        if (1..=12).contains(&self.len) {
            Ok(u128::MAX << (128 - 8 * self.len))
        } else {
            Err(Error::Internal { what: "tag length" })
        }
    }

    /// For each item, its tag at the head of a number and its place in `pairs` at the end; ascending. `columns` is the store,
    /// and `delta` times each item's value is added to what it gives.
    pub(crate) fn tags(
        &self,
        pairs: &[(u128, u128)],
        order: &[u32],
        columns: &[u128],
        delta: u128,
    ) -> Result<Vec<u128>, Error> {
        let mask = self.mask()?;
        let mut tags = vec![0; order.len()];
        tags.par_chunks_mut(BATCH)
            .zip(order.par_chunks(BATCH))
            .for_each(|(tags, order)| {
                let (keys, values): (Vec<u128>, Vec<u128>) =
                    order.iter().map(|i| pairs[*i as usize]).unzip();
                let (keys, values) = (Zeroizing::new(keys), Zeroizing::new(values));
                let mut bands = Vec::new();
                self.rows.rows(&keys, &mut bands);
                self.kernels.sum_bands(columns, &bands, tags);
                if delta != 0 {
                    self.kernels.add_products(tags, delta, &values);
                }
                for (tag, place) in tags.iter_mut().zip(order) {
                    *tag = self.oracles.tag(*tag) & mask | u128::from(*place);
                }
            });
        Ok(sort_uniform(tags))
    }
}
