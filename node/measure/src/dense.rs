//! Own input that looks like an enumeration: whoever matches every number of a range learns who is in the other's set.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

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

/// The number that an ID is, if it is one: digits, with or without a plus.
#[must_use]
pub fn number_of(id: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(id).ok()?;
    text.strip_prefix('+').unwrap_or(text).parse().ok()
}

/// Looks for the densest run of half of the numbers (but 100 to 10,000 of them), one after the other, in 160 kB. The numbers are
/// secret, and wiped when this is dropped.
#[derive(Default)]
pub struct DenseFinder {
    /// All numbers while they are few; then those of a longest run.
    last: VecDeque<u64>,
    /// The least span of a longest run, once there are more than few.
    span: Option<u64>,
}

impl Drop for DenseFinder {
    fn drop(&mut self) {
        self.last.make_contiguous().zeroize();
    }
}

impl DenseFinder {
    /// No number yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            // Never grown, so that no copy is left behind.
            last: VecDeque::with_capacity(2 * MAX_VALUES),
            span: None,
        }
    }

    /// Takes the next number; they come in ascending order, and one that repeats the last is passed over.
    pub fn push(&mut self, number: u64) {
        if self.last.back() == Some(&number) {
            return;
        }
        if self.last.len() == 2 * MAX_VALUES {
            // From here on a run of the longest kind is what is looked for.
            self.look(MAX_VALUES);
            self.last.drain(..=MAX_VALUES);
        }
        self.last.push_back(number);
        if let (Some(least), Some(first)) = (self.span, self.last.front()) {
            self.span = Some(least.min((number - first).saturating_add(1)));
            self.last.pop_front();
        }
    }

    /// Notes the least span of `run` numbers among those that are held.
    fn look(&mut self, run: usize) {
        let numbers = self.last.make_contiguous();
        let span = numbers
            .windows(run)
            .filter_map(|w| w.last()?.checked_sub(*w.first()?)?.checked_add(1))
            .min();
        self.span = self.span.into_iter().chain(span).min();
    }

    /// The densest run, if it is dense.
    #[must_use]
    pub fn finish(mut self) -> Option<DenseRange> {
        let run = if self.span.is_some() {
            MAX_VALUES
        } else {
            let run = (self.last.len() / 2).clamp(MIN_VALUES, MAX_VALUES);
            self.look(run);
            run
        };
        let (span, values) = (self.span?, run as u64);
        (span <= values * MAX_GAP).then_some(DenseRange { values, span })
    }
}

/// As [`DenseFinder`], over IDs in any order; those that are not numbers are passed over.
pub(crate) fn find(ids: &[Identifier]) -> Option<DenseRange> {
    let mut numbers: Vec<u64> = ids
        .iter()
        .filter_map(|id| number_of(id.as_bytes()))
        .collect();
    numbers.sort_unstable();
    let mut finder = DenseFinder::new();
    numbers.iter().for_each(|number| finder.push(*number));
    numbers.zeroize();
    finder.finish()
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
    fn one_number_after_the_other_gives_what_all_at_once_give() {
        let plain = |numbers: &[u64]| {
            let run = (numbers.len() / 2).clamp(super::MIN_VALUES, super::MAX_VALUES);
            let span = numbers.windows(run).map(|w| w[run - 1] - w[0] + 1).min()?;
            let values = run as u64;
            (span <= values * super::MAX_GAP).then_some(DenseRange { values, span })
        };
        // About the bounds between few and many, with the densest run at the front, in the middle, at the end, and none.
        for n in [0, 99, 100, 250, 19_999, 20_000, 20_001, 29_999, 45_000_u64] {
            for dense in [0, n / 3, n.saturating_sub(10_050), n] {
                let step = |i: u64| {
                    if (dense..dense + 10_050).contains(&i) {
                        2
                    } else {
                        7
                    }
                };
                let mut at = 0;
                let numbers: Vec<u64> = (0..n)
                    .map(|i| {
                        at += step(i);
                        at
                    })
                    .collect();
                let mut finder = super::DenseFinder::new();
                for number in &numbers {
                    finder.push(*number);
                    finder.push(*number);
                }
                assert_eq!(finder.finish(), plain(&numbers), "{n} {dense}");
            }
        }
    }

    #[test]
    fn text_ids_are_no_range() {
        let texts: Vec<_> = (0..200)
            .filter_map(|i| Identifier::from_bytes(format!("u{i}@example.com").as_bytes()).ok())
            .collect();
        assert_eq!(find(&texts), None);
    }
}
