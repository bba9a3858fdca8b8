//! Whether a place lies in a territory, as far as a coarse place tells it.

use tally_contracts::records::{AreaKind, Territory};
use tally_trace::cell::{Cell, Spot};

use super::{DEVICE_ACCURACY_M, NO_COUNTRY, Place, Reach};

/// How well the place of a network address is known, metres. A place that was told with a scan is taken as no better, unless it says
/// that it is the device's own.
pub(super) const PLACE_ACCURACY_M: u32 = 50_000;

/// The place's cell with its accuracy.
pub(super) fn spot(place: &Place) -> Option<Spot> {
    let accuracy_m = if place.is_device() {
        DEVICE_ACCURACY_M
    } else {
        PLACE_ACCURACY_M
    };
    Some(Spot {
        cell: Cell::parse(place.cell()?.as_str()).ok()?,
        accuracy_m,
    })
}

impl Reach {
    /// Whether `place` is in `territory`. Outside is said only of what is certainly outside every area: another country, another subdivision by
    /// its code, a cell with a gap to the area's that the accuracy does not bridge. One area that may hold it makes it inside, and one
    /// that cannot be compared makes it unknown.
    pub(super) fn of(place: Option<&Place>, territory: Option<&Territory>) -> Self {
        let (Some(place), Some(territory)) = (place, territory.filter(|t| !t.is_empty())) else {
            return Self::Unknown;
        };
        let no_country = place.country() == NO_COUNTRY;
        let of = territory.areas().iter().map(|area| match area.kind() {
            AreaKind::Country(_) | AreaKind::Subdivision(..) if no_country => Self::Unknown,
            AreaKind::Country(country) => within(Some(country == place.country())),
            AreaKind::Subdivision(country, _) if country != place.country() => within(Some(false)),
            AreaKind::Subdivision(country, part) => {
                within(subdivision(place, country).map(|found| found.eq_ignore_ascii_case(part)))
            }
            AreaKind::Cell(cell) => {
                let area = Cell::parse(cell).ok().map(|cell| Spot {
                    cell,
                    accuracy_m: 0,
                });
                within(
                    spot(place)
                        .zip(area)
                        .map(|(spot, area)| spot.gap_m(&area) <= 0.0),
                )
            }
        });
        let mut all = Self::Outside;
        for one in of {
            match one {
                Self::Inside => return Self::Inside,
                Self::Unknown => all = Self::Unknown,
                Self::Outside => {}
            }
        }
        all
    }
}

const fn within(is: Option<bool>) -> Reach {
    match is {
        Some(true) => Reach::Inside,
        Some(false) => Reach::Outside,
        None => Reach::Unknown,
    }
}

/// The subdivision's code, if the region was told as one: `SC` or `CN-SC`. A name is nothing to compare by.
fn subdivision<'a>(place: &'a Place, country: &str) -> Option<&'a str> {
    let region = place.region();
    let code = match region.split_once('-') {
        Some((before, code)) if before.eq_ignore_ascii_case(country) => code,
        Some(_) => return None,
        None => region,
    };
    let is_code = (1..=3).contains(&code.len())
        && code
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    is_code.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scans::place::Cell as PlaceCell;

    fn place(country: &str, region: &str, cell: &str) -> Place {
        Place::new(country, region)
            .unwrap()
            .with_cell(PlaceCell::new(cell).ok())
    }

    #[test]
    fn outside_is_said_only_of_what_certainly_is() {
        let territory = |areas: &[&str]| {
            Territory::new(areas.iter().map(|a| a.parse().unwrap()).collect()).unwrap()
        };
        // Chengdu lies in wm6n, Beijing in wx4g; wm6 and wm7 are neighbours.
        for (areas, place, reach) in [
            (&["CN"][..], place("CN", "", ""), Reach::Inside),
            (&["CN"], place("VN", "", ""), Reach::Outside),
            (&["CN", "VN"], place("VN", "", ""), Reach::Inside),
            (&["CN-SC"], place("CN", "SC", ""), Reach::Inside),
            (&["CN-SC"], place("CN", "CN-SC", ""), Reach::Inside),
            (&["CN-SC"], place("CN", "YN", ""), Reach::Outside),
            (&["CN-SC"], place("VN", "SC", ""), Reach::Outside),
            // A name is not compared, and neither is nothing.
            (&["CN-SC"], place("CN", "Sichuan", ""), Reach::Unknown),
            (&["CN-SC"], place("CN", "", ""), Reach::Unknown),
            (&["CN-SC", "CN"], place("CN", "Sichuan", ""), Reach::Inside),
            (&["CN-SC", "VN"], place("CN", "Sichuan", ""), Reach::Unknown),
            (&["geohash:wm6"], place("CN", "", "wm6n"), Reach::Inside),
            (&["geohash:wm6"], place("CN", "", "wx4g"), Reach::Outside),
            (&["geohash:wm6"], place("CN", "", ""), Reach::Unknown),
            // Whose country is not known may be in any.
            (&["CN"], place("ZZ", "", "wm6n"), Reach::Unknown),
            (&["CN-SC"], place("ZZ", "", "wm6n"), Reach::Unknown),
            (&["geohash:wm6"], place("ZZ", "", "wx4g"), Reach::Outside),
            // Beside it: a network's place may as well be inside, a device's is not if it is far enough in the next cell.
            (&["geohash:wm6n"], place("CN", "", "wm6p"), Reach::Inside),
            (&[], place("CN", "", ""), Reach::Unknown),
        ] {
            let territory = territory(areas);
            assert_eq!(
                Reach::of(Some(&place), Some(&territory)),
                reach,
                "{areas:?} {place}"
            );
        }
        let sichuan = territory(&["geohash:wm6n"]);
        let device = place("CN", "", "wm6x").with_accuracy(Some(50));
        assert_eq!(Reach::of(Some(&device), Some(&sichuan)), Reach::Outside);
        assert_eq!(
            Reach::of(Some(&place("CN", "", "wm6x")), Some(&sichuan)),
            Reach::Inside
        );
        assert_eq!(Reach::of(None, Some(&sichuan)), Reach::Unknown);
        assert_eq!(Reach::of(Some(&device), None), Reach::Unknown);
    }
}
