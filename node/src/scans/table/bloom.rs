//! Tells that a key is not in a segment without reading it.

use super::RowKey;

const BITS_PER_KEY: u64 = 10;
const PROBES: u64 = 7;

/// A Bloom filter: of the keys that were not added about one in a hundred is taken for one that was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bloom(Vec<u64>);

/// Two independent numbers of a key. Most keys are hashes already; mixing costs little and serves the others.
fn hashes(key: &RowKey) -> (u64, u64) {
    let mut words = [0_u64; 2];
    for (word, bytes) in words.iter_mut().zip(key.0[1..].as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let [a, b] = words;
    let mix = |mut x: u64| {
        x ^= x >> 32;
        x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^= x >> 32;
        x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^ (x >> 32)
    };
    let a = mix(a ^ u64::from(key.0[0]) << 56 ^ b.rotate_left(17));
    (a, mix(b ^ a) | 1)
}

impl Bloom {
    /// An empty one for at most `keys` keys.
    pub(super) fn for_keys(keys: u64) -> Self {
        let words = keys.saturating_mul(BITS_PER_KEY).div_ceil(64).max(1);
        Self(vec![0; usize::try_from(words).unwrap_or(1)])
    }

    fn probes(&self, key: &RowKey) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.0.len() as u128 * 64;
        let (a, b) = hashes(key);
        (0..PROBES).map(move |i| {
            let hash = a.wrapping_add(i.wrapping_mul(b));
            // The upper half of a product spreads over the range without a division.
            let bit = (u128::from(hash) * bits) >> 64;
            let word = usize::try_from(bit / 64).unwrap_or_default();
            (word, 1 << (bit % 64))
        })
    }

    pub(super) fn add(&mut self, key: &RowKey) {
        for (word, bit) in self.probes(key) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// `false` only if the key was never added.
    pub(super) fn may_hold(&self, key: &RowKey) -> bool {
        self.probes(key)
            .all(|(word, bit)| self.0.get(word).is_none_or(|w| w & bit != 0))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    /// `None` if the length is not one of whole words.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        (rest.is_empty() && !words.is_empty())
            .then(|| Self(words.iter().map(|w| u64::from_be_bytes(*w)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn key(n: u64) -> RowKey {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        RowKey::new(Kind::Later, &bytes)
    }

    #[test]
    fn added_keys_are_held_and_few_others() {
        let mut bloom = Bloom::for_keys(10_000);
        (0..10_000).for_each(|n| bloom.add(&key(n)));
        assert!((0..10_000).all(|n| bloom.may_hold(&key(n))));
        let wrong = (10_000..110_000)
            .filter(|n| bloom.may_hold(&key(*n)))
            .count();
        assert!(wrong < 2_000, "{wrong} of 100,000");
        assert_eq!(Bloom::from_bytes(&bloom.to_bytes()), Some(bloom));
        assert_eq!(Bloom::from_bytes(&[0; 9]), None);
    }
}
