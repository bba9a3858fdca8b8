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
    /// The coin that both sides tossed: tags are then bound to it and to their items.
    pub(crate) coin: Option<u128>,
}

impl Tagging<'_> {
    /// For each place of `order`, the tag of the item there, as a number whose highest bytes are sent. `columns` is the store, and
    /// `delta` times each item's value is added to what it gives.
    pub(crate) fn tags(
        &self,
        pairs: &[(u128, u128)],
        order: &[u32],
        columns: &[u128],
        delta: u128,
    ) -> Vec<u128> {
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
                for (tag, item) in tags.iter_mut().zip(keys.iter().zip(values.iter())) {
                    *tag = match self.coin {
                        None => self.oracles.tag(*tag),
                        Some(coin) => self.oracles.bound_tag(*tag ^ coin, (*item.0, *item.1)),
                    };
                }
            });
        tags
    }
}

/// The own tags, to be found among the peer's: ascending, and each with its item.
pub(crate) struct OwnTags {
    /// A tag's first bytes at the head, its item's place at the end.
    numbers: Zeroizing<Vec<u128>>,
    /// Bits that are the tag's.
    mask: u128,
    /// Of tags that leave no room for a place: their last bytes, by place.
    tails: Option<Zeroizing<Vec<u32>>>,
    at: usize,
}

impl OwnTags {
    /// Of `tags` for the places of `order`, of which `len` bytes count: 1 to 12, or 16.
    ///
    /// # Errors
    /// [`Error::Internal`] for another length.
    pub(crate) fn new(tags: Vec<u128>, order: &[u32], len: usize) -> Result<Self, Error> {
        // 40 bits and the logarithm of two counts below 2^26 and a half: the place stands behind it. A whole tag is longer.
        let (head, whole) = match len {
            1..=12 => (len, false),
            16 => (12, true),
            _ => return Err(Error::Internal { what: "tag length" }),
        };
        let mask = u128::MAX << (128 - 8 * head);
        let tails = whole.then(|| {
            let mut tails = Zeroizing::new(vec![0; order.len()]);
            for (tag, place) in tags.iter().zip(order) {
                tails[*place as usize] = tail(*tag);
            }
            tails
        });
        let mut numbers = tags;
        for (tag, place) in numbers.iter_mut().zip(order) {
            *tag = *tag & mask | u128::from(*place);
        }
        Ok(Self {
            numbers: Zeroizing::new(sort_uniform(numbers)),
            mask,
            tails,
            at: 0,
        })
    }

    /// Hands the place of every own item with this tag to `found`; the peer's tags come in ascending order.
    pub(crate) fn find(&mut self, tag: u128, mut found: impl FnMut(u32)) {
        let head = tag & self.mask;
        while let Some(own) = self
            .numbers
            .get(self.at)
            .filter(|n| **n & self.mask <= head)
        {
            let place = tail(*own);
            let same = |tails: &Zeroizing<Vec<u32>>| tails.get(place as usize) == Some(&tail(tag));
            if own & self.mask == head && self.tails.as_ref().is_none_or(same) {
                found(place);
            }
            self.at += 1;
        }
    }
}

/// The lowest 32 bits.
#[allow(clippy::cast_possible_truncation)]
const fn tail(number: u128) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_tag_counts() {
        let tags = [5_u128 << 120, 9 << 120 | 7, 2 << 120 | 1 << 31];
        let order = [2, 0, 1];
        for len in [1, 8, 12, 16] {
            let mut found = Vec::new();
            let mut own = OwnTags::new(tags.to_vec(), &order, len).unwrap();
            let cut = |t: u128| {
                if len == 16 {
                    t
                } else {
                    t & u128::MAX << (128 - 8 * len)
                }
            };
            for tag in [0, cut(tags[2]), 3 << 120, cut(tags[0]), cut(tags[1])] {
                own.find(tag, |place| found.push(place));
            }
            assert_eq!(found, [1, 2, 0], "{len} bytes");
        }
        // The last byte alone differs.
        let mut own = OwnTags::new(tags.to_vec(), &order, 16).unwrap();
        let mut found = Vec::new();
        own.find(tags[2] ^ 1, |place| found.push(place));
        own.find(tags[1], |place| found.push(place));
        assert_eq!(found, [0]);
        assert!(OwnTags::new(Vec::new(), &[], 13).is_err());
    }
}
