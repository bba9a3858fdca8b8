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

/// A country by its two letters (ISO 3166-1), a region of it by name, and a coarse cell if one was told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    country: [u8; 2],
    region: String,
    cell: Option<Cell>,
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
        })
    }

    /// The same place with this cell.
    #[must_use]
    pub fn with_cell(mut self, cell: Option<Cell>) -> Self {
        self.cell = cell;
        self
    }

    /// The cell, if one was told.
    #[must_use]
    pub const fn cell(&self) -> Option<Cell> {
        self.cell
    }

    /// The same place with a cell of at most `max` characters.
    #[must_use]
    pub fn cut(mut self, max: usize) -> Self {
        self.cell = self.cell.and_then(|c| c.cut(max));
        self
    }

    /// The country's two letters, upper case.
    #[must_use]
    pub fn country(&self) -> &str {
        std::str::from_utf8(&self.country).unwrap_or_default()
    }

    /// The region; empty if only the country is known.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.region.is_empty() {
            write!(f, "{}, ", self.region)?;
        }
        f.write_str(self.country())
    }
}

impl Canonical for Place {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.country)
            .text(&self.region)
            .text(self.cell.as_ref().map_or("", Cell::as_str));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let bad = || CodecError::Text { what: "place" };
        let country = std::str::from_utf8(r.raw("country", 2)?).map_err(|_| bad())?;
        let region = r.text("region", MAX_REGION)?;
        let text = r.text("cell", MAX_CELL)?;
        let cell = match text.as_str() {
            "" => None,
            text => Some(Cell::new(text).map_err(|_| bad())?),
        };
        let place = Self::new(country, &region)
            .map_err(|_| bad())?
            .with_cell(cell);
        // Only the form that `write` gives is canonical.
        if place.country() == country
            && place.region == region
            && cell.is_none_or(|c| c.as_str() == text)
        {
            Ok(place)
        } else {
            Err(bad())
        }
    }
}
