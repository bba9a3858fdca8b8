//! A history as it is stored, by this version and by those before it.

use super::{FirstScan, History, MAX_SOURCES, MAX_VISITS, Person, Visit};
use crate::Error;
use crate::burst::{Burst, MAX_PLACES};
use crate::cell::{Cell, Spot};
use crate::ratio::MAX_SEEN;

/// The largest stored history, bytes.
pub const MAX_HISTORY_BYTES: usize = 23
    + MAX_VISITS * VISIT_BYTES
    + MAX_SOURCES * 9
    + MAX_SEEN * SEEN_BYTES
    + BURST_BYTES
    + SELLER_BYTES;
const VISIT_BYTES: usize = 26;
const SEEN_BYTES: usize = 21;
const BURST_BYTES: usize = 10 + MAX_PLACES * 10;
const SELLER_BYTES: usize = 8;
const VERSION: u8 = 5;
/// The version before bursts.
const VERSION_WITHOUT_BURSTS: u8 = 4;
/// Counts of that version and of those before it.
const COUNTS_WITHOUT_BURSTS: usize = 15;
/// The versions before the first scans were kept, of a unit that was not sold and of one that was.
const VERSION_WITHOUT_SEEN: u8 = 2;
/// See [`VERSION_WITHOUT_SEEN`].
const VERSION_SOLD_WITHOUT_SEEN: u8 = 3;
/// The version before the counts of far and prompt places; it is read as if there were none.
const VERSION_WITHOUT_WAYS: u8 = 1;
/// Counts of that version.
const COUNTS_WITHOUT_WAYS: usize = 13;

/// Flags of a stored history.
mod flag {
    pub(super) const CLAIMED: u8 = 1;
    pub(super) const SOLD: u8 = 2;
    pub(super) const MORE: u8 = 4;
    /// The one scan that is kept is that of the one visit and the one pseudonym.
    pub(super) const ONE: u8 = 8;
    pub(super) const ALL: u8 = CLAIMED | SOLD | MORE | ONE;
}

/// Takes big-endian numbers off the front of stored bytes.
struct Stored<'a>(&'a [u8]);

impl Stored<'_> {
    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Error::Stored {
            what,
            expected: "more bytes",
            found: self.0.len() as u64,
        })?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.take(what)?))
    }

    fn spot(&mut self) -> Result<Option<Spot>, Error> {
        let len = self.byte("cell")?;
        let [a, b, c, d, e] = self.take("cell")?;
        let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let accuracy_m = u32::from_be_bytes(self.take("accuracy")?);
        match len {
            0 => Ok(None),
            len => Ok(Some(Spot {
                cell: Cell::from_bits(len, bits)?,
                accuracy_m,
            })),
        }
    }

    fn burst(&mut self) -> Result<Burst, Error> {
        let mut burst = Burst::begin(u64::from_be_bytes(self.take("time")?), None);
        burst.credit = i8::from_be_bytes(self.take("credit")?);
        for _ in 0..self.count("places", MAX_PLACES)? {
            let place = self.spot()?.ok_or(Error::Stored {
                what: "place",
                expected: "a cell",
                found: 0,
            })?;
            burst.places.push(place);
        }
        Ok(burst)
    }

    fn count(&mut self, what: &'static str, max: usize) -> Result<usize, Error> {
        let n = self.byte(what)?;
        if usize::from(n) <= max {
            Ok(usize::from(n))
        } else {
            Err(Error::Stored {
                what,
                expected: "fewer",
                found: n.into(),
            })
        }
    }
}

fn put_spot(out: &mut Vec<u8>, spot: Option<&Spot>) {
    let (len, bits, accuracy) = spot.map_or((0, 0, 0), |s| {
        (s.cell.characters(), s.cell.bits(), s.accuracy_m)
    });
    out.push(len);
    out.extend(bits.to_be_bytes().iter().skip(3));
    out.extend(accuracy.to_be_bytes());
}

impl History {
    /// As stored: version, flags, highest score, sixteen counts, number of visits and each (first and last time, place), number of
    /// pseudonyms and each with what it was counted for, number of first scans and each (a quarter of the pseudonym, time, place,
    /// marks; of a code with one scan the marks alone), the burst (time, credit, number of places and each; of a code with one scan
    /// nothing), and the seller if there is one. At most [`MAX_HISTORY_BYTES`]; 59 for one scan.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let one = self.only_scan().is_some_and(|only| {
            matches!(self.first.as_slice(), [first]
                if first.quarter == only.quarter && first.seen.time_ms == only.seen.time_ms && first.seen.spot == only.seen.spot)
                && self.burst == only.burst()
        });
        let mut flags = 0;
        for (set, flag) in [
            (self.claimed, flag::CLAIMED),
            (self.is_sold(), flag::SOLD),
            (self.more, flag::MORE),
            (one, flag::ONE),
        ] {
            if set {
                flags |= flag;
            }
        }
        let mut out = vec![VERSION, flags];
        out.extend(self.peak_mnat.to_be_bytes());
        let mut counts = self.counts;
        out.extend(counts.fields().map(|c| *c));
        out.push(u8::try_from(self.visits.len()).unwrap_or(u8::MAX));
        for visit in &self.visits {
            out.extend(visit.first_ms.to_be_bytes());
            out.extend(visit.last_ms.to_be_bytes());
            put_spot(&mut out, visit.spot.as_ref());
        }
        out.push(u8::try_from(self.sources.len()).unwrap_or(u8::MAX));
        for (person, flags) in &self.sources {
            out.extend(person.to_be_bytes());
            out.push(*flags);
        }
        out.push(u8::try_from(self.first.len()).unwrap_or(u8::MAX));
        for scan in &self.first {
            if !one {
                out.extend(scan.quarter.to_be_bytes());
                out.extend(scan.seen.time_ms.to_be_bytes().iter().skip(2));
                put_spot(&mut out, scan.seen.spot.as_ref());
            }
            out.push(scan.marks());
        }
        if !one {
            out.extend(self.burst.last_ms.to_be_bytes());
            out.extend(self.burst.credit.to_be_bytes());
            out.push(u8::try_from(self.burst.places.len()).unwrap_or(u8::MAX));
            for place in &self.burst.places {
                put_spot(&mut out, Some(place));
            }
        }
        if let Some(seller) = self.seller {
            out.extend(seller.to_be_bytes());
        }
        out
    }

    /// Reads what [`Self::to_bytes`] gave; no bytes are an empty history.
    ///
    /// # Errors
    /// [`Error::Stored`], [`Error::CellLength`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Ok(Self::new());
        }
        let mut r = Stored(bytes);
        let version = r.byte("history version")?;
        let counts = match version {
            VERSION => usize::MAX,
            VERSION_WITHOUT_BURSTS | VERSION_WITHOUT_SEEN | VERSION_SOLD_WITHOUT_SEEN => {
                COUNTS_WITHOUT_BURSTS
            }
            VERSION_WITHOUT_WAYS => COUNTS_WITHOUT_WAYS,
            _ => {
                return Err(Error::Stored {
                    what: "history version",
                    expected: "1 to 5",
                    found: version.into(),
                });
            }
        };
        let has_seen = version >= VERSION_WITHOUT_BURSTS;
        let mut flags = r.byte("history flags")?;
        if !has_seen {
            flags &= flag::CLAIMED;
            if version == VERSION_SOLD_WITHOUT_SEEN {
                flags |= flag::SOLD;
            }
        }
        if flags & !flag::ALL != 0 {
            return Err(Error::Stored {
                what: "history flags",
                expected: "known ones",
                found: flags.into(),
            });
        }
        let mut out = Self {
            claimed: flags & flag::CLAIMED != 0,
            more: flags & flag::MORE != 0,
            ..Self::default()
        };
        if has_seen {
            out.peak_mnat = u16::from_be_bytes(r.take("score")?);
        }
        for count in out.counts.fields().into_iter().take(counts) {
            *count = r.byte("count")?;
        }
        for _ in 0..r.count("visits", MAX_VISITS)? {
            let first_ms = u64::from_be_bytes(r.take("time")?);
            let last_ms = u64::from_be_bytes(r.take("time")?);
            let spot = r.spot()?;
            out.visits.push(Visit {
                first_ms,
                last_ms,
                spot,
            });
        }
        for _ in 0..r.count("pseudonyms", MAX_SOURCES)? {
            let person = Person::from_be_bytes(r.take("pseudonym")?);
            out.sources.push((person, r.byte("flags")?));
        }
        let one = flags & flag::ONE != 0;
        if has_seen {
            out.read_first(&mut r, one)?;
        } else {
            // What was looked at one by one is not known: the counts go on alone.
            out.more = true;
            let score = out.counts.assess().score_mnat;
            out.peak_mnat = u16::try_from(score).unwrap_or(u16::MAX);
        }
        if let Some(only) = out.only_scan().filter(|_| one) {
            out.burst = only.burst();
        } else if version == VERSION {
            out.burst = r.burst()?;
        }
        if flags & flag::SOLD != 0 {
            out.seller = Some(Person::from_be_bytes(r.take("seller")?));
        }
        match r.0.len() {
            0 => Ok(out),
            left => Err(Error::Stored {
                what: "history",
                expected: "no bytes after it",
                found: left as u64,
            }),
        }
    }
}

impl History {
    /// The scan of the one visit and the one pseudonym, if there is just one of each; its marks are not known.
    fn only_scan(&self) -> Option<FirstScan> {
        match (self.visits.as_slice(), self.sources.as_slice()) {
            ([visit], [(person, _)]) => Some(FirstScan::new(*person, visit.first_ms, visit.spot)),
            _ => None,
        }
    }

    fn read_first(&mut self, r: &mut Stored<'_>, one: bool) -> Result<(), Error> {
        for _ in 0..r.count("first scans", MAX_SEEN)? {
            let scan = if one {
                self.only_scan().ok_or(Error::Stored {
                    what: "first scan",
                    expected: "one visit and one pseudonym",
                    found: self.visits.len() as u64,
                })?
            } else {
                let quarter = u32::from_be_bytes(r.take("first scan")?);
                let [a, b, c, d, e, f] = r.take("time")?;
                let mut scan = FirstScan::new(0, 0, r.spot()?);
                scan.quarter = quarter;
                scan.seen.time_ms = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
                scan
            };
            self.first.push(scan.with_marks(r.byte("marks")?)?);
        }
        Ok(())
    }
}
