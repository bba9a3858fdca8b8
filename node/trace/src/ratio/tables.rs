//! What was measured on the tuning seeds, rounded (`cargo run --release -p tally-trace --example rates`).
//!
//! Each number of the first three tables is a quotient: how often a pair of such scans lies so far apart, over how often any two
//! customers do. The rows say whose word the two places are: two devices', one's, none's.

use super::pairs::{CLASSES, WORDS};

/// A table of quotients.
pub(super) type Table = [[f64; CLASSES]; WORDS];

/// Two scans in one city, with what networks and VPNs make of it. The least number of devices' own places is judged: a position
/// can be invented.
#[rustfmt::skip]
pub(super) const SAME: Table = [
    [47.0, 35.0, 0.5, 0.01, 1e-3, 3e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-3],
    [42.0, 40.0, 27.0, 3.8, 0.3, 0.35, 0.35, 0.22, 0.006, 0.006, 0.008, 0.01, 0.022, 0.22],
    [39.0, 37.0, 30.0, 19.0, 2.5, 0.65, 0.65, 0.4, 0.013, 0.011, 0.013, 0.016, 0.037, 0.38],
];

/// The two ends of a journey, or of a gift.
#[rustfmt::skip]
pub(super) const JOURNEY: Table = [
    [0.1, 0.5, 6.5, 6.3, 4.8, 3.5, 2.8, 2.0, 1.4, 0.97, 0.71, 0.56, 0.5, 0.55],
    [0.1, 0.3, 1.5, 4.5, 4.8, 3.8, 2.8, 2.0, 1.4, 0.97, 0.71, 0.57, 0.55, 0.58],
    [0.1, 0.2, 0.5, 1.7, 4.1, 3.7, 2.9, 2.0, 1.4, 0.97, 0.72, 0.58, 0.57, 0.58],
];

/// Two packs with the same code, of a hundred over twenty to fifty cities.
#[rustfmt::skip]
pub(super) const COPIES: Table = [
    [1.2, 1.0, 0.7, 0.65, 0.65, 0.8, 0.78, 0.94, 0.87, 0.9, 0.87, 1.1, 1.5, 2.5],
    [1.15, 1.1, 0.95, 0.7, 0.65, 0.8, 0.78, 0.94, 0.87, 0.9, 0.87, 1.1, 1.5, 2.5],
    [1.1, 1.05, 1.0, 0.85, 0.65, 0.8, 0.78, 0.94, 0.87, 0.9, 0.87, 1.1, 1.5, 2.3],
];

/// Chance that a place is in the territory if another, so far away, is.
pub(super) const BOTH_INSIDE: [f64; CLASSES] = [
    0.995, 0.995, 0.99, 0.99, 0.98, 0.95, 0.86, 0.66, 0.44, 0.18, 0.062, 0.012, 0.01, 0.01,
];
