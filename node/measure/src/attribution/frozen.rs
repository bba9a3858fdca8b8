//! Touches and conversions as bytes, for a store that freezes and commits to them.
//!
//! Big-endian: version 1; 1 touches, 2 conversions; for touches a u16 count of channels, each a u8 length and a name; a u32 count of
//! people, ascending by ID, each a u16 length and an ID, a u32 count of rows, and the rows in the order of the import: a touch is
//! u64 time, u16 channel, u8 kind (1 view, 2 click); a conversion u64 time, u64 value, 16 bytes of its order's hash.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::journeys::{MAX_CHANNEL_BYTES, MAX_CHANNELS, MAX_VALUE, RawConversion, RawTouch};
use super::{Conversions, Journeys, MAX_TIME, MAX_TOUCHES, RowReport, TouchKind};
use crate::{Error, Identifier, MAX_IDENTIFIER_BYTES, MAX_SET_SIZE};

const VERSION: u8 = 1;
const TOUCHES: u8 = 1;
const CONVERSIONS: u8 = 2;
const TOUCH_BYTES: usize = 11;
const CONVERSION_BYTES: usize = 32;

/// A buffer of the size that all people's rows take, so that it never grows and leaves no copy.
fn buffer<T>(head: usize, people: &BTreeMap<Identifier, Vec<T>>, row: usize) -> Zeroizing<Vec<u8>> {
    let size = people
        .iter()
        .map(|(id, rows)| 6 + id.as_bytes().len() + rows.len() * row)
        .sum::<usize>();
    Zeroizing::new(Vec::with_capacity(6 + head + size))
}

fn write_people<T>(
    out: &mut Vec<u8>,
    people: &BTreeMap<Identifier, Vec<T>>,
    each: impl Fn(&T, &mut Vec<u8>),
) {
    // Bounded by the import: 2^28 people, 10,000 rows each.
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&count(people.len()));
    for (id, rows) in people {
        let len = u16::try_from(id.as_bytes().len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(&count(rows.len()));
        rows.iter().for_each(|row| each(row, out));
    }
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize, expected: &'static str) -> Result<&'a [u8], Error> {
        let (head, rest) = self
            .0
            .split_at_checked(n)
            .ok_or(Error::Frozen { expected })?;
        self.0 = rest;
        Ok(head)
    }

    fn number<const N: usize>(&mut self, expected: &'static str) -> Result<u64, Error> {
        Ok(self
            .take(N, expected)?
            .iter()
            .fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn header(&mut self, kind: u8) -> Result<(), Error> {
        if self.take(2, "a header")? == [VERSION, kind] {
            Ok(())
        } else {
            Err(Error::Frozen {
                expected: "rows of this kind and version",
            })
        }
    }

    fn people<T>(
        &mut self,
        row_bytes: usize,
        each: impl Fn(&mut Self) -> Result<T, Error>,
    ) -> Result<(BTreeMap<Identifier, Vec<T>>, RowReport), Error> {
        let expected = "a list of people";
        let bad = || Error::Frozen { expected };
        let count = self.number::<4>(expected)?;
        if count > MAX_SET_SIZE as u64 {
            return Err(bad());
        }
        let mut people = BTreeMap::new();
        let mut report = RowReport::default();
        for _ in 0..count {
            let len = usize::try_from(self.number::<2>(expected)?).map_err(|_| bad())?;
            if len > MAX_IDENTIFIER_BYTES {
                return Err(bad());
            }
            let id = Identifier::from_bytes(self.take(len, expected)?)?;
            let rows = usize::try_from(self.number::<4>(expected)?).map_err(|_| bad())?;
            // Bounded by what is there before memory is set aside.
            if rows > MAX_TOUCHES || rows > self.0.len() / row_bytes {
                return Err(bad());
            }
            let ascending = people.last_key_value().is_none_or(|(last, _)| *last < id);
            let rows = (0..rows)
                .map(|_| each(self))
                .collect::<Result<Vec<T>, _>>()?;
            if !ascending || rows.is_empty() {
                return Err(bad());
            }
            report.used += rows.len() as u64;
            people.insert(id, rows);
        }
        if !self.0.is_empty() {
            return Err(bad());
        }
        report.rows = report.used;
        report.people = count;
        Ok((people, report))
    }

    fn time(&mut self) -> Result<u64, Error> {
        let at = self.number::<8>("a time")?;
        if at < MAX_TIME {
            Ok(at)
        } else {
            Err(Error::Time)
        }
    }
}

impl Journeys {
    /// All touches as bytes; the report is not in them.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let names: usize = self.channels.iter().map(|c| c.len() + 1).sum();
        let mut out = buffer(2 + names, &self.people, TOUCH_BYTES);
        out.extend_from_slice(&[VERSION, TOUCHES]);
        // At most 4,096 names of at most 64 bytes.
        let channels = u16::try_from(self.channels.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&channels.to_be_bytes());
        for name in &self.channels {
            out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(name.as_bytes());
        }
        write_people(&mut out, &self.people, |touch, out| {
            out.extend_from_slice(&touch.at.to_be_bytes());
            out.extend_from_slice(&touch.channel.to_be_bytes());
            out.push(match touch.kind {
                TouchKind::View => 1,
                TouchKind::Click => 2,
            });
        });
        out
    }

    /// The touches of [`Self::to_bytes`], all of them; the report counts what is there.
    ///
    /// # Errors
    /// [`Error::Frozen`], [`Error::Time`], [`Error::IdentifierLength`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let expected = "names of channels";
        let bad = || Error::Frozen { expected };
        let mut bytes = Bytes(bytes);
        bytes.header(TOUCHES)?;
        let count = usize::try_from(bytes.number::<2>(expected)?).map_err(|_| bad())?;
        if count > MAX_CHANNELS {
            return Err(bad());
        }
        let mut channels = Vec::new();
        for _ in 0..count {
            let len = usize::try_from(bytes.number::<1>(expected)?).map_err(|_| bad())?;
            if len > MAX_CHANNEL_BYTES {
                return Err(bad());
            }
            let name = std::str::from_utf8(bytes.take(len, expected)?).map_err(|_| bad())?;
            channels.push(name.to_owned());
        }
        let (people, report) = bytes.people(TOUCH_BYTES, |bytes| {
            let expected = "a touch";
            let bad = || Error::Frozen { expected };
            Ok(RawTouch {
                at: bytes.time()?,
                channel: u16::try_from(bytes.number::<2>(expected)?)
                    .ok()
                    .filter(|c| usize::from(*c) < count)
                    .ok_or_else(bad)?,
                kind: match bytes.number::<1>(expected)? {
                    1 => TouchKind::View,
                    2 => TouchKind::Click,
                    _ => return Err(bad()),
                },
            })
        })?;
        Ok(Self {
            people,
            channels,
            report,
        })
    }
}

impl Conversions {
    /// All conversions as bytes; the report is not in them.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = buffer(0, &self.people, CONVERSION_BYTES);
        out.extend_from_slice(&[VERSION, CONVERSIONS]);
        write_people(&mut out, &self.people, |c, out| {
            out.extend_from_slice(&c.at.to_be_bytes());
            out.extend_from_slice(&c.value.to_be_bytes());
            out.extend_from_slice(&c.order);
        });
        out
    }

    /// The conversions of [`Self::to_bytes`], all of them; the report counts what is there.
    ///
    /// # Errors
    /// As [`Journeys::from_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut bytes = Bytes(bytes);
        bytes.header(CONVERSIONS)?;
        let (people, report) = bytes.people(CONVERSION_BYTES, |bytes| {
            let expected = "a conversion";
            let bad = Error::Frozen { expected };
            Ok(RawConversion {
                at: bytes.time()?,
                value: match bytes.number::<8>(expected)? {
                    value if value <= MAX_VALUE => value,
                    _ => return Err(bad),
                },
                order: bytes.take(16, expected)?.try_into().map_err(|_| bad)?,
            })
        })?;
        Ok(Self { people, report })
    }
}

#[cfg(test)]
mod tests {
    use crate::attribution::{
        ConversionColumns, Conversions, Journeys, LabelTerms, Labels, TouchColumns,
        import_conversions, import_touches,
    };

    const TOUCHES: &str = "phone,touched_at,channel,kind\n\
        +8613000285084,200,eta,click\n+8613000285084,100,iota,view\n+8613026188133,5,eta,view\n";
    const CONVERSIONS: &str = "phone,converted_at,value_cents,order_id\n\
        +8613000285084,250,7,a\n+8613000285084,260,9,b\n+8613000285084,260,9,a\n";

    #[test]
    fn rows_come_back_and_cut_or_changed_ones_do_not_panic() {
        let profile = "e164".parse().unwrap();
        let columns = TouchColumns::default();
        let touches = import_touches(TOUCHES.as_bytes(), profile, None, &columns).unwrap();
        let bytes = touches.to_bytes();
        assert_eq!(bytes.capacity(), bytes.len(), "the buffer never grew");
        let again = Journeys::from_bytes(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.people().count(), 2);
        let labels = Labels::new(vec![LabelTerms {
            name: "eta".into(),
            minimum_people: 2,
        }])
        .unwrap();
        assert!(again.labelled(&labels) == touches.labelled(&labels));

        let columns = ConversionColumns::default();
        let conversions =
            import_conversions(CONVERSIONS.as_bytes(), profile, None, &columns).unwrap();
        let other = conversions.to_bytes();
        let again = Conversions::from_bytes(&other).unwrap();
        assert_eq!(again.to_bytes(), other);
        assert!(again.bounded(8, 2) == conversions.bounded(8, 2));

        assert!(Journeys::from_bytes(&other).is_err());
        assert!(Conversions::from_bytes(&bytes).is_err());
        for cut in 0..bytes.len() {
            assert!(Journeys::from_bytes(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            let mut bent = bytes.to_vec();
            bent[at] ^= 0xff;
            let _ = Journeys::from_bytes(&bent);
        }
        assert!(Journeys::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }
}
