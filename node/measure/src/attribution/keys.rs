//! Both sides of the private join: keys of a person, an interval of time, and a slot.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{Conversion, Interval, MAX_TIME, SumModel, Touch, Windows, ancestors, cover, segments};
use crate::{Error, Identifier};

/// Bytes of a key behind the person's ID: slot, level, index.
pub const KEY_SUFFIX_BYTES: usize = 10;

/// The key's bytes: the ID, then a fixed number of further bytes, so that no two keys share their bytes.
fn key(out: &mut Zeroizing<Vec<u8>>, id: &Identifier, interval: Interval, slot: u8) {
    out.clear();
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&[slot, interval.level]);
    out.extend_from_slice(&interval.index.to_be_bytes());
}

/// A buffer for keys that never grows, so that no copy is left unwiped.
fn buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(
        crate::MAX_IDENTIFIER_BYTES + KEY_SUFFIX_BYTES,
    ))
}

/// The media side's keys, each once: for every segment of every person, for every dyadic interval of it, a key for each label
/// that shares its credit. `row` is given the label, the place of its weight in [`SumModel::weights`], and the key's bytes.
///
/// # Errors
/// Those of `row` and of [`segments`]; [`Error::Model`].
pub fn media_keys<E: From<Error>>(
    people: &BTreeMap<Identifier, Vec<Touch>>,
    model: &SumModel,
    windows: &Windows,
    mut row: impl FnMut(u16, usize, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let classes = model.weights();
    let mut bytes = buffer();
    for (id, touches) in people {
        for segment in segments(touches, model, windows)? {
            for interval in cover(segment.from, segment.to, windows.max_level()) {
                for (share, slot) in segment.credit.iter().zip(0_u8..) {
                    let class = classes
                        .binary_search(&share.weight)
                        .map_err(|_| Error::Internal { what: "a weight" })?;
                    key(&mut bytes, id, interval, slot);
                    row(share.label, class, &bytes)?;
                }
            }
        }
    }
    Ok(())
}

/// How many keys a conversion has on the brand side: one a level and slot.
#[must_use]
pub fn brand_rows_per_conversion(model: &SumModel, windows: &Windows) -> u32 {
    (u32::from(windows.max_level()) + 1) * model.slots()
}

/// The brand side's keys, each once, with the values of all conversions of that person which share it. `row` is given the key's
/// bytes and the value in minor units. At most [`brand_rows_per_conversion`] for each conversion.
///
/// # Errors
/// Those of `row`; [`Error::Time`] for a conversion past [`MAX_TIME`], [`Error::Overflow`].
pub fn brand_keys<E: From<Error>>(
    people: &BTreeMap<Identifier, Vec<Conversion>>,
    model: &SumModel,
    windows: &Windows,
    mut row: impl FnMut(&[u8], u64) -> Result<(), E>,
) -> Result<(), E> {
    let mut bytes = buffer();
    let slots = u8::try_from(model.slots()).map_err(|_| Error::Internal { what: "slots" })?;
    let mut values: BTreeMap<Interval, u64> = BTreeMap::new();
    for (id, conversions) in people {
        values.clear();
        for c in conversions {
            if c.at >= MAX_TIME {
                return Err(Error::Time.into());
            }
            for interval in ancestors(c.at, windows.max_level()) {
                let sum = values.entry(interval).or_default();
                *sum = sum.checked_add(c.value).ok_or(Error::Overflow)?;
            }
        }
        for (interval, value) in &values {
            for slot in 0..slots {
                key(&mut bytes, id, *interval, slot);
                row(&bytes, *value)?;
            }
        }
    }
    Ok(())
}
