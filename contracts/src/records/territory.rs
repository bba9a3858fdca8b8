//! Where the units of a batch are meant to be sold.

use std::fmt;
use std::str::FromStr;

use super::BODY_VERSION;
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::ids::BatchId;

/// The most areas of a territory.
pub const MAX_AREAS: usize = 64;
/// The longest map cell, in characters of a geohash: four are about 39 by 20 kilometres.
pub const MAX_AREA_CELL: usize = 4;
/// The longest area in its text form, in bytes.
const MAX_AREA: usize = CELL.len() + MAX_AREA_CELL;
/// Stands before a geohash.
const CELL: &str = "geohash:";
/// The characters of a geohash: base 32 without a, i, l, o.
const GEOHASH: &[u8] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// Text that is no area.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a country (CN), a subdivision of one (CN-SC), or a map cell of 1 to 4 characters (geohash:wm6), found {found:?}"
)]
pub struct ParseAreaError {
    /// The text.
    pub found: String,
}

/// What an area is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AreaKind<'a> {
    /// A country: two letters of ISO 3166-1.
    Country(&'a str),
    /// A subdivision: its country, and one to three letters or digits of ISO 3166-2.
    Subdivision(&'a str, &'a str),
    /// A map cell: one to four characters of a geohash.
    Cell(&'a str),
}

/// An area, coarse: a country, a subdivision of one or a map cell, in its one text form: `CN`, `CN-SC`, `geohash:wm6`. Whether a code of
/// ISO 3166 is assigned is not checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Area(String);

impl Area {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> AreaKind<'_> {
        match (self.0.strip_prefix(CELL), self.0.split_once('-')) {
            (Some(cell), _) => AreaKind::Cell(cell),
            (None, Some((country, part))) => AreaKind::Subdivision(country, part),
            (None, None) => AreaKind::Country(&self.0),
        }
    }
}

impl FromStr for Area {
    type Err = ParseAreaError;

    /// Reads the text form, in either case.
    fn from_str(text: &str) -> Result<Self, ParseAreaError> {
        let bad = || ParseAreaError {
            found: text.chars().take(32).collect(),
        };
        let text = text.trim();
        let cell = text
            .get(..CELL.len())
            .filter(|head| head.eq_ignore_ascii_case(CELL))
            .and_then(|head| text.get(head.len()..));
        if let Some(cell) = cell {
            let cell = cell.to_ascii_lowercase();
            let is_cell = (1..=MAX_AREA_CELL).contains(&cell.len())
                && cell.bytes().all(|b| GEOHASH.contains(&b));
            return is_cell
                .then(|| Self(format!("{CELL}{cell}")))
                .ok_or_else(bad);
        }
        let (country, part) = match text.split_once('-') {
            Some((country, part)) => (country, Some(part)),
            None => (text, None),
        };
        let is_area = country.len() == 2
            && country.bytes().all(|b| b.is_ascii_alphabetic())
            && part.is_none_or(|part| {
                (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
            });
        is_area
            .then(|| Self(text.to_ascii_uppercase()))
            .ok_or_else(bad)
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Canonical for Area {
    fn write(&self, w: &mut Writer) {
        w.text(&self.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let text = r.text("area", MAX_AREA)?;
        text.parse()
            .ok()
            .filter(|area: &Self| area.0 == text)
            .ok_or(CodecError::Text { what: "area" })
    }
}

/// Areas, each once, at most [`MAX_AREAS`]. One without areas says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Territory(Vec<Area>);

impl Territory {
    /// Takes the areas in any order, each as often as it comes; `None` if they are too many.
    #[must_use]
    pub fn new(mut areas: Vec<Area>) -> Option<Self> {
        areas.sort_unstable();
        areas.dedup();
        (areas.len() <= MAX_AREAS).then_some(Self(areas))
    }

    /// The areas, ascending by their text.
    #[must_use]
    pub fn areas(&self) -> &[Area] {
        &self.0
    }

    /// Whether it says nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Canonical for Territory {
    fn write(&self, w: &mut Writer) {
        w.list(&self.0, |w, area| area.write(w));
    }

    /// Ascending, each once.
    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let areas: Vec<Area> = r.list("areas", MAX_AREAS, Area::read)?;
        if areas.windows(2).any(|two| two.first() >= two.last()) {
            return Err(CodecError::Text {
                what: "order of the areas",
            });
        }
        Ok(Self(areas))
    }
}

/// Kind 6: says where the units of a batch are meant to be sold, in place of what was said before. Signed by a record key of its owner.
/// Every member reads it; who does not want that leaves it out. Without areas it takes back what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetTerritory {
    /// The batch.
    pub batch: BatchId,
    /// Where.
    pub territory: Territory,
}

impl Canonical for SetTerritory {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION).raw(&self.batch.0);
        self.territory.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            batch: BatchId(r.array("batch ID")?),
            territory: Territory::read(r)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_have_one_form() {
        for (text, form, kind) in [
            ("cn", "CN", AreaKind::Country("CN")),
            (" CN-sc ", "CN-SC", AreaKind::Subdivision("CN", "SC")),
            ("FR-75", "FR-75", AreaKind::Subdivision("FR", "75")),
            ("GeoHash:WM6n", "geohash:wm6n", AreaKind::Cell("wm6n")),
        ] {
            let area: Area = text.parse().unwrap();
            assert_eq!((area.as_str(), area.kind()), (form, kind));
            assert_eq!(Area::from_bytes(&area.to_bytes()).unwrap(), area);
        }
        for bad in [
            "",
            "C",
            "CHN",
            "C1",
            "CN-",
            "CN-ABCD",
            "CN-S C",
            "CN-S-C",
            "geohash:",
            "geohash:a",
            "geohash:wm6n2",
            "wm6n",
            "中国",
        ] {
            assert!(bad.parse::<Area>().is_err(), "{bad}");
        }
        let mut w = Writer::new();
        w.text("cn");
        assert!(Area::from_bytes(&w.into_bytes()).is_err(), "not its form");
    }

    #[test]
    fn a_territory_has_one_form() {
        let areas = |texts: &[&str]| {
            texts
                .iter()
                .map(|t| t.parse().unwrap())
                .collect::<Vec<Area>>()
        };
        let territory = Territory::new(areas(&["VN", "CN-SC", "VN", "geohash:wm6"])).unwrap();
        assert_eq!(territory.areas(), areas(&["CN-SC", "VN", "geohash:wm6"]));
        let bytes = territory.to_bytes();
        assert_eq!(Territory::from_bytes(&bytes).unwrap(), territory);
        for other in [&["VN", "CN"][..], &["CN", "CN"]] {
            let bytes = Territory(areas(other)).to_bytes();
            assert!(Territory::from_bytes(&bytes).is_err(), "{other:?}");
        }
        let many = (0..=MAX_AREAS).map(|i| format!("CN-{i}").parse().unwrap());
        assert_eq!(Territory::new(many.collect()), None);
    }
}
