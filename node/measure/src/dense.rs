//! Own input that looks like an enumeration: whoever matches every number of a range learns who is in the other's set.

use serde::{Deserialize, Serialize};

use crate::Identifier;

/// The fewest values that can make a warning.
const MIN_VALUES: usize = 100;
/// Longer runs than this are not looked for: one of this length is warning enough.
const MAX_VALUES: usize = 10_000;
/// A run is dense if it fills at least one in this many of the numbers that it spans.
const MAX_GAP: u64 = 4;

/// A run of numbers among the IDs that fills at least a quarter of the range it spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenseRange {
    /// How many IDs the run has.
    pub values: u64,
    /// How many numbers lie between its ends, ends included.
    pub span: u64,
}

/// The densest run of half of the IDs (but 100 to 10,000 of them), if it is dense; IDs that are not numbers are passed over.
pub(crate) fn find(ids: &[Identifier]) -> Option<DenseRange> {
    let mut numbers: Vec<u64> = ids
        .iter()
        .filter_map(|id| std::str::from_utf8(id.as_bytes()).ok())
        .filter_map(|text| text.strip_prefix('+').unwrap_or(text).parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let run = (numbers.len() / 2).clamp(MIN_VALUES, MAX_VALUES);
    let span = numbers
        .windows(run)
        .filter_map(|w| w.last()?.checked_sub(*w.first()?)?.checked_add(1))
        .min()?;
    let values = run as u64;
    zeroize::Zeroize::zeroize(&mut numbers);
    (span <= values * MAX_GAP).then_some(DenseRange { values, span })
}

#[cfg(test)]
mod tests {
    use super::{DenseRange, find};
    use crate::Identifier;

    fn ids(numbers: impl Iterator<Item = u64>) -> Vec<Identifier> {
        numbers
            .map(|n| {
                Identifier::from_bytes(format!("+{n}").as_bytes()).unwrap_or_else(|e| panic!("{e}"))
            })
            .collect()
    }

    #[test]
    fn a_run_is_found_and_a_scattered_set_is_not() {
        let run = ids((0..300).map(|i| 8_613_000_000_000 + 3 * i));
        assert_eq!(
            find(&run),
            Some(DenseRange {
                values: 150,
                span: 448
            })
        );
        let scattered = ids((0..300).map(|i| 8_613_000_000_000 + 1_000 * i));
        assert_eq!(find(&scattered), None);
        assert_eq!(find(&ids(0..99)), None);
        assert_eq!(
            find(&ids(0..100)),
            Some(DenseRange {
                values: 100,
                span: 100
            })
        );
    }

    #[test]
    fn a_run_inside_a_scattered_set_is_found() {
        let mixed = (0..500)
            .map(|i| 10_000_000 * i)
            .chain(70_000_000_001..70_000_000_600);
        assert!(find(&ids(mixed)).is_some());
    }

    #[test]
    fn text_ids_are_no_range() {
        let texts: Vec<_> = (0..200)
            .filter_map(|i| Identifier::from_bytes(format!("u{i}@example.com").as_bytes()).ok())
            .collect();
        assert_eq!(find(&texts), None);
    }
}
