//! Touches and conversions as bytes, for a store that freezes and commits to them.
//!
//! Big-endian: version 1; 1 touches, 2 conversions; for touches a u16 count of channels, each a u8 length and a name; a u32 count of
//! people, ascending by ID, each a u16 length and an ID, a u32 count of rows, and the rows in the order of the import: a touch is
//! u64 time, u16 channel, u8 kind (1 view, 2 click); a conversion u64 time, u64 value, 16 bytes of its order's hash.

use std::collections::BTreeMap;

use tally_contracts::codec::{CodecError, Reader};
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

/// What stands in stored rows, or cannot.
fn expected(what: &'static str) -> impl Fn(CodecError) -> Error {
    move |_| Error::Frozen { expected: what }
}

fn header(r: &mut Reader<'_>, kind: u8) -> Result<(), Error> {
    let found = r.array("header").map_err(expected("a header"))?;
    if found == [VERSION, kind] {
        Ok(())
    } else {
        Err(Error::Frozen {
            expected: "rows of this kind and version",
        })
    }
}

fn time(r: &mut Reader<'_>) -> Result<u64, Error> {
    let at = r.u64("time").map_err(expected("a time"))?;
    if at < MAX_TIME {
        Ok(at)
    } else {
        Err(Error::Time)
    }
}

fn people<T>(
    r: &mut Reader<'_>,
    row_bytes: usize,
    each: impl Fn(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<(BTreeMap<Identifier, Vec<T>>, RowReport), Error> {
    const WHAT: &str = "a list of people";
    let bad = || Error::Frozen { expected: WHAT };
    let count = r.count("people", MAX_SET_SIZE).map_err(expected(WHAT))?;
    let mut people = BTreeMap::new();
    let mut report = RowReport::default();
    for _ in 0..count {
        let len = usize::from(r.u16("length").map_err(expected(WHAT))?);
        if len > MAX_IDENTIFIER_BYTES {
            return Err(bad());
        }
        let id = Identifier::from_bytes(r.raw("ID", len).map_err(expected(WHAT))?)?;
        let rows = r.count("rows", MAX_TOUCHES).map_err(expected(WHAT))?;
        // Bounded by what is there before memory is set aside.
        if rows > r.left() / row_bytes {
            return Err(bad());
        }
        let ascending = people.last_key_value().is_none_or(|(last, _)| *last < id);
        let rows = (0..rows).map(|_| each(r)).collect::<Result<Vec<T>, _>>()?;
        if !ascending || rows.is_empty() {
            return Err(bad());
        }
        report.used += rows.len() as u64;
        people.insert(id, rows);
    }
    if r.left() > 0 {
        return Err(bad());
    }
    report.rows = report.used;
    report.people = count as u64;
    Ok((people, report))
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
        const NAMES: &str = "names of channels";
        let bad = || Error::Frozen { expected: NAMES };
        let mut r = Reader::new(bytes);
        header(&mut r, TOUCHES)?;
        let count = usize::from(r.u16("channels").map_err(expected(NAMES))?);
        if count > MAX_CHANNELS {
            return Err(bad());
        }
        let mut channels = Vec::new();
        for _ in 0..count {
            let len = usize::from(r.u8("length").map_err(expected(NAMES))?);
            if len > MAX_CHANNEL_BYTES {
                return Err(bad());
            }
            let name = r.raw("name", len).map_err(expected(NAMES))?;
            let name = std::str::from_utf8(name).map_err(|_| bad())?;
            channels.push(name.to_owned());
        }
        let (people, report) = people(&mut r, TOUCH_BYTES, |r| {
            const WHAT: &str = "a touch";
            let bad = || Error::Frozen { expected: WHAT };
            let at = time(r)?;
            let channel = r.u16("channel").map_err(expected(WHAT))?;
            if usize::from(channel) >= count {
                return Err(bad());
            }
            let kind = match r.u8("kind").map_err(expected(WHAT))? {
                1 => TouchKind::View,
                2 => TouchKind::Click,
                _ => return Err(bad()),
            };
            Ok(RawTouch { at, channel, kind })
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
        let mut r = Reader::new(bytes);
        header(&mut r, CONVERSIONS)?;
        let (people, report) = people(&mut r, CONVERSION_BYTES, |r| {
            const WHAT: &str = "a conversion";
            Ok(RawConversion {
                at: time(r)?,
                value: match r.u64("value").map_err(expected(WHAT))? {
                    value if value <= MAX_VALUE => value,
                    _ => return Err(Error::Frozen { expected: WHAT }),
                },
                order: r.array("order").map_err(expected(WHAT))?,
            })
        })?;
        Ok(Self { people, report })
    }
}

#[cfg(test)]
mod tests {
    use crate::attribution::{
        ConversionColumns, Conversions, Journeys, Labels, SumLabel, TouchColumns,
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
        let labels = Labels::new(vec![SumLabel {
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
