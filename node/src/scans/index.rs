//! How often each code was scanned, and when first; in memory, rebuilt from the log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{CodeHash, First, Place};

/// The counted scans of one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: First,
}

/// Half of a code's hash: a collision would need 2^64 codes, and costs a wrong count.
type Key = [u8; 16];

#[derive(Debug, Clone)]
struct Slot {
    first_ms: u64,
    place: Option<Arc<Place>>,
    count: u64,
}

/// The index; about 100 bytes a scanned code.
#[derive(Debug, Default)]
pub(super) struct VerdictIndex {
    slots: HashMap<Key, Slot>,
    places: HashSet<Arc<Place>>,
}

fn key(code: &CodeHash) -> Key {
    std::array::from_fn(|i| code.0.get(i).copied().unwrap_or_default())
}

impl VerdictIndex {
    pub(super) fn seen(&self, code: &CodeHash) -> Option<Seen> {
        self.slots.get(&key(code)).map(|slot| Seen {
            count: slot.count,
            first: First {
                time_ms: slot.first_ms,
                place: slot.place.as_deref().cloned(),
            },
        })
    }

    /// Sets what is known of a code after one more counted scan.
    pub(super) fn set(&mut self, code: &CodeHash, seen: &Seen) {
        let place = seen.first.place.as_ref().map(|place| {
            if let Some(known) = self.places.get(place) {
                return Arc::clone(known);
            }
            let place = Arc::new(place.clone());
            self.places.insert(Arc::clone(&place));
            place
        });
        self.slots.insert(
            key(code),
            Slot {
                first_ms: seen.first.time_ms,
                place,
                count: seen.count,
            },
        );
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
