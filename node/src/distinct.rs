//! The distinct values among many, in the memory of a part of them: scattered to disk by a keyed hash, and looked at part by part.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::Path;

use tally_psi::{EachValue, Error, ItemSource};
use zeroize::{Zeroize as _, Zeroizing};

use crate::bucket_files::BucketFiles;
use crate::external_sort::push_wiped;
use crate::spill::storage;

/// Values in a part, on average, if as many come as were expected.
const PART_VALUES: u64 = 1 << 19;
const MAX_PARTS: u64 = 1 << 12;

/// Takes values in any order, repeated ones too. They are secret: sealed on disk, in a file without a name.
pub(crate) struct Collector {
    files: BucketFiles,
    parts: u32,
    /// Drawn for these values: nobody chooses values that meet in one part.
    hash: RandomState,
}

impl Collector {
    /// For about `expected` values, in a file in `dir`.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn create(dir: &Path, expected: u64) -> io::Result<Self> {
        let parts = expected.div_ceil(PART_VALUES).clamp(1, MAX_PARTS);
        let parts = u32::try_from(parts).unwrap_or(1);
        Ok(Self {
            files: BucketFiles::create(dir, parts)?,
            parts,
            hash: RandomState::new(),
        })
    }

    /// Adds a value.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for one that is too long.
    pub(crate) fn push(&mut self, value: &[u8]) -> io::Result<()> {
        let part = self.hash.hash_one(value) % u64::from(self.parts);
        let part = u32::try_from(part).unwrap_or_default();
        self.files.push(part, 0, value)
    }

    /// The distinct ones.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn finish(self) -> io::Result<Distinct> {
        let mut found = Distinct {
            files: self.files,
            parts: self.parts,
            next: 0,
            part: Part::default(),
            count: 0,
        };
        for number in 0..found.parts {
            found.load(number)?;
            found.count += found.part.places.len() as u64;
        }
        found.part = Part::default();
        Ok(found)
    }
}

/// Distinct values, shown once, in no order that says anything.
pub(crate) struct Distinct {
    files: BucketFiles,
    parts: u32,
    /// The part that is looked at next.
    next: u32,
    part: Part,
    count: u64,
}

/// Values end to end, and where each distinct one lies.
#[derive(Default)]
struct Part {
    bytes: Zeroizing<Vec<u8>>,
    places: Vec<(u32, u32)>,
    given: usize,
}

impl Part {
    fn value(&self, (from, to): (u32, u32)) -> &[u8] {
        self.bytes
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }
}

impl Distinct {
    /// How many there are.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    fn load(&mut self, number: u32) -> io::Result<()> {
        let full = || io::Error::new(io::ErrorKind::InvalidData, "a part of over 4 GiB");
        let mut part = std::mem::take(&mut self.part);
        part.bytes.zeroize();
        part.places.clear();
        part.given = 0;
        self.files.visit(number, |_, value| {
            let from = u32::try_from(part.bytes.len()).map_err(|_| full())?;
            let to = u32::try_from(part.bytes.len() + value.len()).map_err(|_| full())?;
            push_wiped(&mut part.bytes, value);
            part.places.push((from, to));
            Ok::<_, io::Error>(())
        })?;
        let mut places = std::mem::take(&mut part.places);
        places.sort_unstable_by(|a, b| part.value(*a).cmp(part.value(*b)));
        places.dedup_by(|a, b| part.value(*a) == part.value(*b));
        part.places = places;
        self.part = part;
        Ok(())
    }
}

impl ItemSource for Distinct {
    fn next_values(&mut self, max: usize, each: EachValue<'_>) -> Result<(), Error> {
        let mut left = max;
        while left > 0 {
            let (from, len) = (self.part.given, self.part.places.len());
            if from == len {
                if self.next >= self.parts {
                    return Ok(());
                }
                self.load(self.next).map_err(storage)?;
                self.next += 1;
                continue;
            }
            let to = len.min(from + left);
            for place in self.part.places.get(from..to).unwrap_or_default() {
                each(self.part.value(*place))?;
            }
            self.part.given = to;
            left -= to - from;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn each_value_comes_once(
            values in proptest::collection::vec("[ab]{1,6}|x{100,300}", 0..2000),
            expected in prop_oneof![Just(0_u64), Just(5 << 19)],
            page in 1_usize..700,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut collector = Collector::create(dir.path(), expected).unwrap();
            for value in &values {
                collector.push(value.as_bytes()).unwrap();
            }
            let mut distinct = collector.finish().unwrap();
            let plain: BTreeSet<Vec<u8>> = values.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(distinct.count(), plain.len() as u64);
            let mut found = Vec::new();
            loop {
                let before = found.len();
                distinct
                    .next_values(page, &mut |value| {
                        found.push(value.to_vec());
                        Ok(())
                    })
                    .unwrap();
                prop_assert!(found.len() - before <= page);
                if found.len() - before < page {
                    break;
                }
            }
            let set: BTreeSet<Vec<u8>> = found.iter().cloned().collect();
            prop_assert_eq!(found.len(), set.len());
            prop_assert_eq!(set, plain);
        }
    }
}
