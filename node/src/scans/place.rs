//! Where a scan was made, coarsely: a country, a region and a cell of a few kilometres, never a position.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};

use super::ScanError;

/// Longest name of a region, in bytes.
const MAX_REGION: usize = 64;

/// The characters of geohash: base 32 without a, i, l, o.
const GEOHASH: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
/// Longest cell that is ever kept, in characters: about 1.2 by 0.6 kilometres.
pub const MAX_CELL: usize = 6;
/// Longest cell that is taken as input, before it is cut.
const MAX_GIVEN_CELL: usize = 12;
/// A position known to this many metres is the device's own and not its network's.
pub const DEVICE_ACCURACY_M: u32 = tally_trace::cell::DEVICE_ACCURACY_M;
/// Stands behind the cell if the position was the device's own. No character of a geohash.
const DEVICE_MARK: char = '+';

/// Stands for a country that is not known; ISO 3166-1 gives it to nobody.
pub const NO_COUNTRY: &str = "ZZ";

/// A coarse place on the map: a geohash of 1 to 6 characters. 5 of them are about 4.9 by 4.9 kilometres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    bytes: [u8; MAX_CELL],
    len: u8,
}

impl Cell {
    /// Takes a geohash of 1 to 12 characters in either case and forgets all but the first six.
    ///
    /// # Errors
    /// [`ScanError::Input`]; the value is not repeated.
    pub fn new(geohash: &str) -> Result<Self, ScanError> {
        let lower = geohash.to_ascii_lowercase();
        if !(1..=MAX_GIVEN_CELL).contains(&lower.len())
            || !lower.bytes().all(|b| GEOHASH.contains(&b))
        {
            return Err(ScanError::Input {
                what: "cell",
                expected: "1 to 12 characters of geohash",
            });
        }
        let mut bytes = [0; MAX_CELL];
        for (to, from) in bytes.iter_mut().zip(lower.bytes()) {
            *to = from;
        }
        let len = u8::try_from(lower.len().min(MAX_CELL)).unwrap_or_default();
        Ok(Self { bytes, len })
    }

    /// The geohash, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..usize::from(self.len))
            .and_then(|b| std::str::from_utf8(b).ok())
            .unwrap_or_default()
    }

    /// The larger cell of at most `max` characters around it; `None` for 0.
    #[must_use]
    pub fn cut(self, max: usize) -> Option<Self> {
        Self::new(self.as_str().get(..max).unwrap_or(self.as_str())).ok()
    }
}

/// A country by its two letters (ISO 3166-1; [`NO_COUNTRY`] if it is not known), a region of it by name, and a coarse cell if one was told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    country: [u8; 2],
    region: String,
    cell: Option<Cell>,
    device: bool,
}

impl Place {
    /// Takes two letters in either case, and a region of at most 64 bytes that may be empty.
    ///
    /// # Errors
    /// [`ScanError::Input`].
    pub fn new(country: &str, region: &str) -> Result<Self, ScanError> {
        let letters: [u8; 2] = country
            .as_bytes()
            .try_into()
            .ok()
            .filter(|c: &[u8; 2]| c.iter().all(u8::is_ascii_alphabetic))
            .ok_or(ScanError::Input {
                what: "country",
                expected: "two letters of ISO 3166-1",
            })?;
        let region = region.trim();
        if region.len() > MAX_REGION || region.chars().any(char::is_control) {
            return Err(ScanError::Input {
                what: "region",
                expected: "at most 64 bytes of plain text",
            });
        }
        Ok(Self {
            country: letters.map(|c| c.to_ascii_uppercase()),
            region: region.to_owned(),
            cell: None,
            device: false,
        })
    }

    /// The same place with this cell.
    #[must_use]
    pub fn with_cell(mut self, cell: Option<Cell>) -> Self {
        self.cell = cell;
        self.device &= cell.is_some();
        self
    }

    /// The same place, of which the cell was known to so many metres before it was cut. Only whether that is the device's own position
    /// is kept; without a cell nothing is.
    #[must_use]
    pub fn with_accuracy(mut self, accuracy_m: Option<u32>) -> Self {
        self.device = self.cell.is_some() && accuracy_m.is_some_and(|m| m <= DEVICE_ACCURACY_M);
        self
    }

    /// Whether the device itself said where it was, to [`DEVICE_ACCURACY_M`] metres; else the cell may be that of its network.
    #[must_use]
    pub const fn is_device(&self) -> bool {
        self.device
    }

    /// The cell, if one was told.
    #[must_use]
    pub const fn cell(&self) -> Option<Cell> {
        self.cell
    }

    /// The same place with a cell of at most `max` characters.
    #[must_use]
    pub fn cut(mut self, max: usize) -> Self {
        let cell = self.cell.and_then(|c| c.cut(max));
        self = self.with_cell(cell);
        self
    }

    /// The country's two letters, upper case.
    #[must_use]
    pub fn country(&self) -> &str {
        std::str::from_utf8(&self.country).unwrap_or_default()
    }

    /// The middle of the cell of a place without a country, degrees of latitude and longitude with one place after the point: all that
    /// there is to say of it.
    #[must_use]
    pub fn degrees(&self) -> Option<(f64, f64)> {
        let cell = self.cell.filter(|_| self.country() == NO_COUNTRY)?;
        let (lat, lon) = tally_trace::cell::Cell::parse(cell.as_str()).ok()?.centre();
        let tenths = |degrees: f64| (degrees * 10.0).round() / 10.0;
        Some((tenths(lat), tenths(lon)))
    }

    /// The region; empty if only the country is known.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some((lat, lon)) = self.degrees() {
            return write!(f, "near {lat:.1}, {lon:.1}");
        }
        if !self.region.is_empty() {
            write!(f, "{}, ", self.region)?;
        }
        f.write_str(self.country())
    }
}

impl Canonical for Place {
    fn write(&self, w: &mut Writer) {
        let mut cell = self
            .cell
            .as_ref()
            .map_or_else(String::new, |c| c.as_str().to_owned());
        if self.device {
            cell.push(DEVICE_MARK);
        }
        w.raw(&self.country).text(&self.region).text(&cell);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let bad = || CodecError::Text { what: "place" };
        let country = std::str::from_utf8(r.raw("country", 2)?).map_err(|_| bad())?;
        let region = r.text("region", MAX_REGION)?;
        let text = r.text("cell", MAX_CELL + 1)?;
        let (text, device) = match text.strip_suffix(DEVICE_MARK) {
            Some(cell) => (cell, true),
            None => (text.as_str(), false),
        };
        let cell = match text {
            "" => None,
            text => Some(Cell::new(text).map_err(|_| bad())?),
        };
        let place = Self::new(country, &region)
            .map_err(|_| bad())?
            .with_cell(cell)
            .with_accuracy(device.then_some(DEVICE_ACCURACY_M));
        // Only the form that `write` gives is canonical.
        if place.country() == country
            && place.region == region
            && place.device == device
            && cell.is_none_or(|c| c.as_str() == text)
        {
            Ok(place)
        } else {
            Err(bad())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(cell: &str, accuracy_m: Option<u32>) -> Place {
        let cell = Cell::new(cell).ok();
        Place::new("cn", "Sichuan")
            .unwrap()
            .with_cell(cell)
            .with_accuracy(accuracy_m)
    }

    #[test]
    fn of_the_accuracy_only_whose_position_it_is_is_kept() {
        for (accuracy, device) in [
            (None, false),
            (Some(0), true),
            (Some(DEVICE_ACCURACY_M), true),
            (Some(DEVICE_ACCURACY_M + 1), false),
        ] {
            let place = place("wm6n2j", accuracy).cut(4);
            assert_eq!(place.is_device(), device);
            assert_eq!(place.cell().unwrap().as_str(), "wm6n");
            let bytes = place.to_bytes();
            assert_eq!(bytes.ends_with(b"wm6n+"), device);
            assert_eq!(Place::from_bytes(&bytes).unwrap(), place);
        }
        assert!(!place("", Some(10)).is_device(), "no cell, no accuracy");
        assert!(!place("wm6n", Some(10)).cut(0).is_device());
    }

    #[test]
    fn a_place_has_one_form() {
        let good = place("wm6n2j", Some(5)).to_bytes();
        let end = good.len() - b"wm6n2j+".len();
        // The length of the text stands before it.
        for cell in ["+", "wm6n2j+2", "wm6n++", "WM6N+", "wm6a"] {
            let mut bad = good[..end].to_vec();
            let at = bad.len() - 1;
            bad[at] = u8::try_from(cell.len()).unwrap();
            bad.extend(cell.as_bytes());
            assert!(Place::from_bytes(&bad).is_err(), "{cell}");
        }
    }
}
