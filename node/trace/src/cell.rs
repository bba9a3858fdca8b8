//! Where a scan was made, as coarsely as it is kept: a geohash cell and how well the position was known.
//!
//! Geohash (public domain, G. Niemeyer, 2008): longitude and latitude are halved in turn, longitude first, and five bits make a
//! character. Written here because it is thirty lines; the crate of that name brings a geometry library along.

use crate::Error;
use crate::geo::distance_m;

const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
/// Longest cell, characters; about 19 m by 38 m, which is finer than anything a scan log should keep.
pub const MAX_CELL: u8 = 8;
/// Characters of a cell that are kept when nothing else is configured: 39 km by 20 km, a city.
pub const DEFAULT_CELL: u8 = 4;
/// A position is the device's own, and not its network's, if it is known to this many metres.
pub const DEVICE_ACCURACY_M: u32 = 1_000;

/// A geohash cell of one to eight characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The bits, right-aligned; five a character.
    bits: u64,
    len: u8,
}

impl Cell {
    /// The cell of `len` characters that holds a position in degrees.
    ///
    /// # Errors
    /// [`Error::Position`], [`Error::CellLength`].
    pub fn of(lat: f64, lon: f64, len: u8) -> Result<Self, Error> {
        if !((-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon)) {
            return Err(Error::Position { lat, lon });
        }
        check_len(usize::from(len))?;
        let (mut lats, mut lons) = ((-90.0, 90.0), (-180.0, 180.0));
        let mut bits = 0;
        for i in 0..u32::from(len) * 5 {
            let (range, value) = if i % 2 == 0 {
                (&mut lons, lon)
            } else {
                (&mut lats, lat)
            };
            bits = bits << 1 | u64::from(halve(range, |middle| value >= middle));
        }
        Ok(Self { bits, len })
    }

    /// Reads a geohash in either case.
    ///
    /// # Errors
    /// [`Error::CellLength`], [`Error::CellCharacter`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let len = check_len(text.chars().count())?;
        let mut bits = 0;
        for c in text.chars() {
            let value = ALPHABET
                .iter()
                .position(|a| char::from(*a) == c.to_ascii_lowercase())
                .ok_or(Error::CellCharacter { found: c })?;
            bits = bits << 5 | value as u64;
        }
        Ok(Self { bits, len })
    }

    /// From the number of characters and the bits that [`Self::bits`] gave.
    ///
    /// # Errors
    /// [`Error::CellLength`], [`Error::Stored`].
    pub fn from_bits(len: u8, bits: u64) -> Result<Self, Error> {
        check_len(usize::from(len))?;
        if bits >> (u32::from(len) * 5) == 0 {
            Ok(Self { bits, len })
        } else {
            Err(Error::Stored {
                what: "cell",
                expected: "five bits a character",
                found: bits,
            })
        }
    }

    /// Number of characters, 1 to 8.
    #[must_use]
    pub const fn characters(&self) -> u8 {
        self.len
    }

    /// The bits, five a character, at most 40.
    #[must_use]
    pub const fn bits(&self) -> u64 {
        self.bits
    }

    /// The larger cell of at most `len` characters that holds this one.
    #[must_use]
    pub fn coarsen(&self, len: u8) -> Self {
        let len = self.len.min(len.max(1));
        Self {
            bits: self.bits >> (u32::from(self.len - len) * 5),
            len,
        }
    }

    /// South-west and north-east corner, degrees.
    fn corners(&self) -> ((f64, f64), (f64, f64)) {
        let (mut lats, mut lons) = ((-90.0, 90.0), (-180.0, 180.0));
        let total = u32::from(self.len) * 5;
        for i in 0..total {
            let bit = self.bits >> (total - 1 - i) & 1 == 1;
            halve(if i % 2 == 0 { &mut lons } else { &mut lats }, |_| bit);
        }
        ((lats.0, lons.0), (lats.1, lons.1))
    }

    /// The middle: latitude and longitude, degrees.
    #[must_use]
    pub fn centre(&self) -> (f64, f64) {
        let (low, high) = self.corners();
        (f64::midpoint(low.0, high.0), f64::midpoint(low.1, high.1))
    }

    /// Metres from the middle to the farthest corner.
    #[must_use]
    pub fn radius_m(&self) -> f64 {
        let (low, high) = self.corners();
        let centre = self.centre();
        distance_m(centre, low).max(distance_m(centre, high))
    }
}

/// Keeps the half above the middle if `upper` says so of it, and says which.
fn halve(range: &mut (f64, f64), upper: impl Fn(f64) -> bool) -> bool {
    let middle = f64::midpoint(range.0, range.1);
    let up = upper(middle);
    if up {
        range.0 = middle;
    } else {
        range.1 = middle;
    }
    up
}

fn check_len(found: usize) -> Result<u8, Error> {
    u8::try_from(found)
        .ok()
        .filter(|len| (1..=MAX_CELL).contains(len))
        .ok_or(Error::CellLength {
            max: usize::from(MAX_CELL),
            found,
        })
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        for i in (0..u32::from(self.len)).rev() {
            let index = usize::try_from(self.bits >> (i * 5) & 31).unwrap_or_default();
            f.write_char(ALPHABET.get(index).copied().map_or('?', char::from))?;
        }
        Ok(())
    }
}

/// A place with the doubt about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spot {
    /// The cell.
    pub cell: Cell,
    /// How well the position was known before it was made coarse, metres: about 50 for a device's own, 50,000 for that of its
    /// network address.
    pub accuracy_m: u32,
}

impl Spot {
    /// Metres around the cell's middle within which the scan was made.
    #[must_use]
    pub fn radius_m(&self) -> f64 {
        self.cell.radius_m() + f64::from(self.accuracy_m)
    }

    /// Whether the device itself said where it was.
    #[must_use]
    pub const fn is_device(&self) -> bool {
        self.accuracy_m <= DEVICE_ACCURACY_M
    }

    /// Metres that certainly lie between two scans: the distance of the middles less both radii, at least 0.
    #[must_use]
    pub fn gap_m(&self, other: &Self) -> f64 {
        if self.cell == other.cell {
            return 0.0;
        }
        let middles = distance_m(self.cell.centre(), other.cell.centre());
        (middles - self.radius_m() - other.radius_m()).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Spot};
    use crate::Error;
    use crate::geo::distance_m;

    /// Published examples: the first two of the format's description, the others of three libraries' own tests.
    const KNOWN: [(f64, f64, &str); 5] = [
        (57.64911, 10.40744, "u4pruydq"),
        (42.605, -5.603, "ezs42"),
        (37.8324, 112.5584, "ww8p1r4t"),
        (31.163_739_22, 121.625_859_27, "wtw3r9jj"),
        (37.566_680_5, 126.978_414_7, "wydm9qyc"),
    ];

    #[test]
    fn published_examples() {
        for (lat, lon, text) in KNOWN {
            for len in 1..=text.len() {
                let expected = &text[..len];
                let cell = Cell::of(lat, lon, u8::try_from(len).unwrap()).unwrap();
                assert_eq!(cell.to_string(), expected);
                assert_eq!(Cell::parse(expected).unwrap(), cell);
                assert_eq!(Cell::parse(&expected.to_uppercase()).unwrap(), cell);
                assert_eq!(
                    Cell::from_bits(cell.characters(), cell.bits()).unwrap(),
                    cell
                );
                assert!(distance_m(cell.centre(), (lat, lon)) <= cell.radius_m());
            }
        }
    }

    #[test]
    fn cells_of_four_characters_are_about_a_city() {
        let cell = Cell::parse("wtw3").unwrap();
        assert!(
            (19_000.0..23_000.0).contains(&cell.radius_m()),
            "{}",
            cell.radius_m()
        );
        assert_eq!(Cell::parse("wtw3r9jj").unwrap().coarsen(4), cell);
        assert_eq!(cell.coarsen(8), cell);
        assert_eq!(cell.coarsen(0).to_string(), "w");
    }

    #[test]
    fn what_is_no_cell_is_refused() {
        assert_eq!(Cell::parse(""), Err(Error::CellLength { max: 8, found: 0 }));
        assert_eq!(
            Cell::parse("wtw3r9jjz"),
            Err(Error::CellLength { max: 8, found: 9 })
        );
        assert_eq!(
            Cell::parse("wta3"),
            Err(Error::CellCharacter { found: 'a' })
        );
        assert!(Cell::of(91.0, 0.0, 4).is_err());
        assert!(Cell::of(f64::NAN, 0.0, 4).is_err());
        assert!(Cell::of(0.0, 0.0, 9).is_err());
        assert!(Cell::from_bits(1, 32).is_err());
    }

    #[test]
    fn both_radii_are_taken_off() {
        let spot = |lat, lon, accuracy_m| Spot {
            cell: Cell::of(lat, lon, 4).unwrap(),
            accuracy_m,
        };
        let beijing = spot(39.904, 116.407, 50);
        let shanghai = spot(31.230, 121.474, 50_000);
        let gap = beijing.gap_m(&shanghai);
        let all = distance_m(beijing.cell.centre(), shanghai.cell.centre());
        let radii = 50_050.0 + beijing.cell.radius_m() + shanghai.cell.radius_m();
        assert!((all - gap - radii).abs() < 1.0);
        assert!((gap - shanghai.gap_m(&beijing)).abs() < 1e-6);
        assert!(spot(23.129, 113.264, 50_000).gap_m(&spot(23.022, 113.122, 50_000)) < 1e-9);
    }
}
