//! How two places lie to each other, as a node knows them.

use crate::cell::Spot;
use crate::geo::distance_m;

/// Upper ends of the classes of distance between the middles of two cells, metres; the last class is open.
const ENDS_M: [f64; CLASSES - 1] = [
    25_000.0,
    50_000.0,
    75_000.0,
    100_000.0,
    150_000.0,
    200_000.0,
    300_000.0,
    450_000.0,
    700_000.0,
    1_000_000.0,
    1_500_000.0,
    2_000_000.0,
    2_600_000.0,
];
/// Classes of distance.
pub const CLASSES: usize = 14;
/// Who said the two places: both devices, one, none.
pub const WORDS: usize = 3;

/// A class of distance and whose word it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// 0: two devices; 1: one; 2: two networks.
    pub word: usize,
    /// The class of distance, from near to far.
    pub class: usize,
    /// Distance of the middles, metres.
    pub metres: f64,
}

impl Pair {
    /// How `a` and `b` lie; `None` if a place is not known.
    #[must_use]
    pub fn of(a: Option<&Spot>, b: Option<&Spot>) -> Option<Self> {
        let (a, b) = (a?, b?);
        let metres = if a.cell == b.cell {
            0.0
        } else {
            distance_m(a.cell.centre(), b.cell.centre())
        };
        Some(Self {
            word: usize::from(!a.is_device()) + usize::from(!b.is_device()),
            class: ENDS_M.iter().take_while(|end| metres >= **end).count(),
            metres,
        })
    }
}
