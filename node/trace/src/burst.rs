//! Whether a code is scanned in more far places at once than phones on VPNs explain.
//!
//! A network's word for a place contradicts another's too often to make a visit of it: a VPN puts a phone anywhere. But a family has
//! one phone on a VPN, or two, and of a hundred people who scan a demonstration unit a few have one. A picture of a code that is
//! passed on, or a day on which many copies are opened, looks different: nearly every scan comes from another place.
//!
//! So the scans of a **burst**, which lasts until nobody scanned for a day, are played as a sequential test (Wald, 1945) of these two.
//! A pseudonym in a place far from all places of the burst wins what three in a known place lose; one in a neighbouring city, where mobile
//! networks surface, neither wins nor loses. At least [`MIN_PLACES`] places are needed, of which two phones on VPNs and a home explain three.

use crate::cell::Spot;
use crate::history::{NEIGHBOUR_M, VISIT_MS};

/// Places far from each other from which on a burst speaks for copies.
pub(crate) const MIN_PLACES: u8 = 4;
/// Most places that are told apart: the latest.
pub(crate) const MAX_PLACES: usize = 6;
/// What a pseudonym in a new far place adds.
const NEW_PLACE: i8 = 3;
/// From which credit on a burst speaks for copies.
const ENOUGH: i8 = 6;
/// The least credit, so that a demonstration unit whose code is copied later is not trusted for ever.
const LEAST: i8 = -30;

/// The burst that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Burst {
    /// POSIX milliseconds of its latest scan.
    pub(crate) last_ms: u64,
    /// What the test has gathered.
    pub(crate) credit: i8,
    /// Places at least [`NEIGHBOUR_M`] from each other; the one that was scanned in last stands last. At most [`MAX_PLACES`].
    pub(crate) places: Vec<Spot>,
}

impl Burst {
    /// One that begins with a scan.
    pub(crate) fn begin(time_ms: u64, spot: Option<Spot>) -> Self {
        Self {
            last_ms: time_ms,
            credit: 0,
            places: spot.into_iter().collect(),
        }
    }

    /// Takes in a scan of a pseudonym that is new. Gives the number of places, if they are too many for phones on VPNs.
    pub(crate) fn take_in(&mut self, time_ms: u64, spot: Option<Spot>) -> Option<u8> {
        if time_ms > self.last_ms.saturating_add(VISIT_MS) {
            *self = Self::begin(time_ms, spot);
            return None;
        }
        if time_ms.saturating_add(VISIT_MS) < self.last_ms {
            // It came late, and is of an earlier one.
            return None;
        }
        self.last_ms = self.last_ms.max(time_ms);
        let spot = spot?;
        match self
            .places
            .iter()
            .rposition(|p| p.gap_m(&spot) < NEIGHBOUR_M)
        {
            Some(at) => {
                let known = self.places.remove(at);
                let same = known.gap_m(&spot) <= 0.0;
                if same {
                    self.credit = self.credit.saturating_sub(1).max(LEAST);
                }
                // What a device says of the same place is known better.
                let better = same && spot.radius_m() < known.radius_m();
                self.places.push(if better { spot } else { known });
            }
            None => {
                if !self.places.is_empty() {
                    self.credit = self.credit.saturating_add(NEW_PLACE);
                }
                if self.places.len() >= MAX_PLACES {
                    self.places.remove(0);
                }
                self.places.push(spot);
            }
        }
        let places = u8::try_from(self.places.len()).unwrap_or(u8::MAX);
        (places >= MIN_PLACES && self.credit >= ENOUGH).then_some(places)
    }

    /// Whether a home and two phones on VPNs explain its places: a device's own position comes over no VPN.
    pub(crate) fn is_family_with_vpns(&self) -> bool {
        let devices = self.places.iter().filter(|p| p.is_device()).count();
        self.places.len() < usize::from(MIN_PLACES) && devices < 2
    }
}

#[cfg(test)]
mod tests {
    use super::{Burst, LEAST};
    use crate::cell::{Cell, Spot};

    fn spot(cell: &str) -> Option<Spot> {
        Some(Spot {
            cell: Cell::parse(cell).unwrap(),
            accuracy_m: 50_000,
        })
    }

    /// Beijing, Guangzhou, Urumqi, Chengdu, Harbin.
    const FAR: [&str; 5] = ["wx4g", "ws0e", "tzy3", "wm6n", "yb4h"];

    #[test]
    fn four_far_places_in_turn_are_too_many_and_three_are_not() {
        let mut burst = Burst::begin(0, spot(FAR[0]));
        assert_eq!(burst.take_in(1, spot(FAR[1])), None);
        assert_eq!(burst.take_in(2, spot(FAR[2])), None);
        assert!(burst.is_family_with_vpns());
        assert_eq!(burst.take_in(3, None), None);
        assert_eq!(burst.take_in(4, spot(FAR[3])), Some(4));
        assert!(!burst.is_family_with_vpns());
    }

    #[test]
    fn known_places_speak_against_it_and_are_forgotten_within_bounds() {
        let mut burst = Burst::begin(0, spot(FAR[0]));
        for n in 0..1_000 {
            assert_eq!(burst.take_in(n, spot(FAR[0])), None);
        }
        assert_eq!(burst.credit, LEAST);
        for cell in FAR.into_iter().skip(1) {
            assert_eq!(burst.take_in(1_000, spot(cell)), None, "{cell}");
        }
    }

    #[test]
    fn a_day_without_a_scan_ends_it() {
        let day = super::VISIT_MS;
        let mut burst = Burst::begin(0, spot(FAR[0]));
        for (n, cell) in (1..).zip(FAR.into_iter().skip(1)) {
            let found = burst.take_in(n * day, spot(cell));
            assert_eq!(found.is_some(), n >= 3, "{n}");
        }
        let mut burst = Burst::begin(0, spot(FAR[0]));
        for (n, cell) in (1..).zip(FAR.into_iter().skip(1)) {
            assert_eq!(burst.take_in(n * (day + 1), spot(cell)), None);
            assert_eq!(burst.places.len(), 1);
        }
    }
}
