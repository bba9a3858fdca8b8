//! Where a scan was made, coarsely: a country and a region, never a position.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};

use super::ScanError;

/// Longest name of a region, in bytes.
const MAX_REGION: usize = 64;

/// A country by its two letters (ISO 3166-1), and a region of it by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    country: [u8; 2],
    region: String,
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
        })
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
        w.raw(&self.country).text(&self.region);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let bad = || CodecError::Text { what: "place" };
        let country = std::str::from_utf8(r.raw("country", 2)?).map_err(|_| bad())?;
        let region = r.text("region", MAX_REGION)?;
        let place = Self::new(country, &region).map_err(|_| bad())?;
        // Only the form that `write` gives is canonical.
        if place.country() == country && place.region == region {
            Ok(place)
        } else {
            Err(bad())
        }
    }
}
