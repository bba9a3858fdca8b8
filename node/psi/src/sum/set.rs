//! What each side brings: keys with groups, and keys with values. Kept in blocks that are wiped, without any way to print them.

use zeroize::Zeroizing;

use super::terms::SumTerms;
use crate::Error;
use crate::item::{IdType, ItemSet, ItemSetBuilder, Profile};
use crate::sizes::public_size;

/// Collects the label side's keys.
pub struct LabelledSetBuilder {
    items: ItemSetBuilder,
    places: Vec<(u16, u16)>,
}

/// The label side's keys, each once, by group.
pub struct LabelledSet {
    pub(crate) items: ItemSet,
    /// For each group, which items are in it.
    pub(crate) groups: Vec<Vec<u32>>,
}

impl LabelledSetBuilder {
    /// Nothing collected yet.
    #[must_use]
    pub const fn new(id_type: IdType, profile: Profile) -> Self {
        Self {
            items: ItemSetBuilder::new(id_type, profile),
            places: Vec::new(),
        }
    }

    /// Adds a key under a label, with the weight at `class`.
    ///
    /// # Errors
    /// Those of [`ItemSetBuilder::push`].
    pub fn push(&mut self, label: u16, class: u16, key: &[u8]) -> Result<(), Error> {
        self.items.push(key)?;
        self.places.push((label, class));
        Ok(())
    }

    /// The set under these terms; `people` says how many people each label has. The keys of a label with fewer than its minimum
    /// are put under label 0.
    ///
    /// # Errors
    /// [`Error::Terms`] for labels or classes that the terms do not have, and for a number of `people` other than of labels;
    /// [`Error::Duplicate`] for a key that was pushed twice; [`Error::TooLong`] for more rows than the terms allow.
    pub fn finish(self, terms: &SumTerms, people: &[u64]) -> Result<LabelledSet, Error> {
        terms.verify()?;
        let classes = terms.weights.len();
        if people.len() != terms.minimum_people.len() {
            return Err(Error::Terms {
                reason: "people are to be told for every label",
            });
        }
        let small: Vec<bool> = people
            .iter()
            .zip(&terms.minimum_people)
            .map(|(n, min)| *n < u64::from(*min))
            .collect();
        let items = unique(self.items)?;
        let mut groups = vec![Vec::new(); terms.groups()];
        for ((label, class), index) in self.places.iter().zip(0_u32..) {
            let unknown = Error::Terms {
                reason: "a key's label or class is not one of them",
            };
            let (label, class) = (usize::from(*label), usize::from(*class));
            let label = match small.get(label) {
                Some(true) => 0,
                Some(false) => label,
                None => return Err(unknown),
            };
            if class >= classes {
                return Err(unknown);
            }
            groups
                .get_mut(label * classes + class)
                .ok_or(unknown)?
                .push(index);
        }
        let set = LabelledSet { items, groups };
        let rows: u64 = set.padded().iter().map(|n| u64::from(*n)).sum();
        if rows > terms.max_label_rows {
            return Err(Error::TooLong {
                what: "label rows",
                found: rows,
                max: terms.max_label_rows,
            });
        }
        Ok(set)
    }
}

impl LabelledSet {
    /// The padded size of each group.
    pub(crate) fn padded(&self) -> Vec<u32> {
        let padded = |g: &Vec<u32>| u32::try_from(public_size(g.len() as u64)).unwrap_or(u32::MAX);
        self.groups.iter().map(padded).collect()
    }
}

/// Collects the value side's keys.
pub struct ValuedSetBuilder {
    items: ItemSetBuilder,
    quantities: usize,
    /// All values, key after key. Secret; moved to a larger buffer as it grows, the older one wiped.
    values: Zeroizing<Vec<u64>>,
}

/// The value side's keys, each once, with their values.
pub struct ValuedSet {
    pub(crate) items: ItemSet,
    pub(crate) values: Zeroizing<Vec<u64>>,
    /// Entries, padded.
    pub(crate) entries: u64,
}

impl ValuedSetBuilder {
    /// Nothing collected yet; every key has `quantities` values.
    #[must_use]
    pub fn new(id_type: IdType, profile: Profile, quantities: usize) -> Self {
        Self {
            items: ItemSetBuilder::new(id_type, profile),
            quantities,
            values: Zeroizing::new(Vec::new()),
        }
    }

    /// Adds a key with its values, one for each quantity.
    ///
    /// # Errors
    /// Those of [`ItemSetBuilder::push`]; [`Error::Count`] for another number of values.
    pub fn push(&mut self, key: &[u8], values: &[u64]) -> Result<(), Error> {
        if values.len() != self.quantities {
            return Err(Error::Count {
                what: "values of a key",
                expected: self.quantities as u64,
                found: values.len() as u64,
            });
        }
        self.items.push(key)?;
        if self.values.len() + values.len() > self.values.capacity() {
            let mut larger =
                Zeroizing::new(Vec::with_capacity((self.values.capacity() * 2).max(1024)));
            larger.extend_from_slice(&self.values);
            self.values = larger;
        }
        self.values.extend_from_slice(values);
        Ok(())
    }

    /// The set of `entries` entries under these terms.
    ///
    /// # Errors
    /// [`Error::Duplicate`] for a key that was pushed twice, [`Error::TooLong`] for more entries, more rows or larger values than
    /// the terms allow, [`Error::SumRange`] where a sum could leave its range.
    pub fn finish(self, terms: &SumTerms, entries: u64) -> Result<ValuedSet, Error> {
        terms.verify()?;
        let too_long = |what, found, max| Err(Error::TooLong { what, found, max });
        let entries_padded = public_size(entries);
        if entries_padded > terms.max_entries {
            return too_long("entries", entries_padded, terms.max_entries);
        }
        if self.quantities != terms.quantities() {
            return Err(Error::Count {
                what: "quantities",
                expected: terms.quantities() as u64,
                found: self.quantities as u64,
            });
        }
        terms.verify_range(entries_padded)?;
        for key in self.values.chunks(self.quantities.max(1)) {
            for (value, cap) in key.iter().zip(&terms.value_caps) {
                let max = cap.saturating_mul(terms.entries_per_person.into());
                if *value > max {
                    // Not the value: it is somebody's.
                    return too_long("a value of a key", max.saturating_add(1), max);
                }
            }
        }
        let items = unique(self.items)?;
        let max = entries.saturating_mul(terms.rows_per_entry.into());
        if items.len() as u64 > max {
            return too_long("rows of all entries", items.len() as u64, max);
        }
        Ok(ValuedSet {
            items,
            values: self.values,
            entries: entries_padded,
        })
    }
}

impl ValuedSet {
    /// The values of an item.
    pub(crate) fn values(&self, index: usize, quantities: usize) -> &[u64] {
        let start = index.saturating_mul(quantities);
        self.values
            .get(start..start.saturating_add(quantities))
            .unwrap_or_default()
    }
}

/// The items, all of them different: then an item's index is its row.
fn unique(items: ItemSetBuilder) -> Result<ItemSet, Error> {
    let items = items.finish()?;
    if items.duplicates() > 0 {
        return Err(Error::Duplicate {
            index: items.len() as u64,
        });
    }
    Ok(items)
}
