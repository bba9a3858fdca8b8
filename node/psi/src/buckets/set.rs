//! Sets of buckets, and the one hash that stands for what was done in them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::plan::MAX_BITS;
use crate::Error;

/// Some of the buckets of a list: a bit for each, the first bucket's the highest of the first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSet {
    buckets: u32,
    bits: Vec<u8>,
}

impl BucketSet {
    /// None of `buckets`.
    #[must_use]
    pub fn empty(buckets: u32) -> Self {
        Self {
            buckets,
            bits: vec![0; bytes_of(buckets)],
        }
    }

    /// Puts a bucket into the set; one that there is not stays outside.
    pub fn insert(&mut self, bucket: u32) {
        if bucket < self.buckets
            && let Some(byte) = self.bits.get_mut(bytes_before(bucket))
        {
            *byte |= bit(bucket);
        }
    }

    /// Whether a bucket is in it.
    #[must_use]
    pub fn contains(&self, bucket: u32) -> bool {
        let byte = self.bits.get(bytes_before(bucket));
        byte.is_some_and(|byte| byte & bit(bucket) != 0)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.bits.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that are not in it, ascending.
    pub fn missing(&self) -> impl Iterator<Item = u32> {
        (0..self.buckets).filter(|bucket| !self.contains(*bucket))
    }

    /// Its bits, for the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Reads the bits of a set of `buckets` from exactly so many bytes as it takes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number of buckets that no list has, for another length, and for bits of buckets that there are not.
    pub(crate) fn from_bytes(buckets: u32, bits: &[u8]) -> Result<Self, Error> {
        if !(2..=1 << MAX_BITS).contains(&buckets) || !buckets.is_power_of_two() {
            return Err(Error::Invalid {
                what: "number of buckets",
                found: buckets.into(),
            });
        }
        let beyond = 0xff_u8.checked_shr(buckets).unwrap_or(0);
        if bits.len() != bytes_of(buckets) || bits.last().is_some_and(|b| b & beyond != 0) {
            return Err(Error::Invalid {
                what: "set of finished buckets",
                found: bits.len() as u64,
            });
        }
        Ok(Self {
            buckets,
            bits: bits.to_vec(),
        })
    }
}

/// Bytes that a set of `buckets` takes.
fn bytes_of(buckets: u32) -> usize {
    bytes_before(buckets.saturating_add(7))
}

fn bytes_before(bucket: u32) -> usize {
    usize::try_from(bucket / 8).unwrap_or(usize::MAX)
}

const fn bit(bucket: u32) -> u8 {
    0x80 >> (bucket % 8)
}

/// What a side signs in a bucket names this where a plain run names its context.
pub(super) fn place(plan: &[u8; 32], bucket: u32) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"tally/psi-bucket-place/v1\n")
        .chain_update(plan)
        .chain_update(bucket.to_be_bytes())
        .finalize()
        .into()
}

/// What was done in a bucket: the digests of both its streams, the initiator's first.
pub(super) fn done(plan: &[u8; 32], bucket: u32, streams: &[[u8; 32]; 2]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"tally/psi-bucket-done/v1\n")
        .chain_update(plan)
        .chain_update(bucket.to_be_bytes())
        .chain_update(streams.as_flattened())
        .finalize()
        .into()
}

/// One hash over all buckets of a list, in the order of their numbers: what was done in each that is in `set`, zeros for each that is
/// not.
pub(super) fn digest(set: &BucketSet, done: &BTreeMap<u32, [u8; 32]>) -> [u8; 32] {
    let mut h = Sha256::new();
    h.update(b"tally/psi-bucket-set/v1\n");
    for bucket in 0..set.buckets {
        let known = done.get(&bucket).filter(|_| set.contains(bucket));
        h.update(known.unwrap_or(&[0; 32]));
    }
    h.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_survive_their_bytes_and_others_are_refused() {
        for buckets in [2, 4, 8, 64, 1 << 16] {
            let mut set = BucketSet::empty(buckets);
            assert!(set.is_empty());
            for bucket in [0, 1, buckets - 1, buckets] {
                set.insert(bucket);
            }
            let inside: u32 = if buckets == 2 { 2 } else { 3 };
            assert_eq!((set.len(), set.contains(buckets)), (inside, false));
            let missing = u32::try_from(set.missing().count()).unwrap();
            assert_eq!(missing, buckets - inside);
            let bytes = set.as_bytes().to_vec();
            assert_eq!(BucketSet::from_bytes(buckets, &bytes).unwrap(), set);
            assert!(BucketSet::from_bytes(buckets, &bytes[1..]).is_err());
            assert!(BucketSet::from_bytes(buckets, &[&bytes[..], &[0]].concat()).is_err());
        }
        for buckets in [0, 1, 3, 1 << 17] {
            assert!(BucketSet::from_bytes(buckets, &[0]).is_err());
        }
        assert!(BucketSet::from_bytes(4, &[0b0000_1000]).is_err());
        assert!(BucketSet::from_bytes(4, &[0b0001_0000]).is_ok());
    }

    #[test]
    fn the_digest_names_every_bucket_and_what_was_done() {
        let entries: BTreeMap<u32, [u8; 32]> = (0..8)
            .map(|k| (k, done(&[1; 32], k, &[[2; 32], [3; 32]])))
            .collect();
        let set = |of: &[u32]| {
            let mut set = BucketSet::empty(8);
            of.iter().for_each(|k| set.insert(*k));
            set
        };
        let all: Vec<u32> = (0..8).collect();
        let mut digests = vec![digest(&set(&[]), &entries), digest(&set(&all), &entries)];
        digests.extend((0..8).map(|k| digest(&set(&[k]), &entries)));
        let mut swapped = entries.clone();
        swapped.insert(0, entries[&1]);
        swapped.insert(1, entries[&0]);
        digests.push(digest(&set(&all), &swapped));
        for (i, one) in digests.iter().enumerate() {
            assert!(!digests[..i].contains(one), "{i}");
        }
        // What is not in the set does not count.
        assert_eq!(digests[2], digest(&set(&[0]), &[(0, entries[&0])].into()));
        assert_ne!(place(&[1; 32], 0), place(&[1; 32], 1));
    }
}
