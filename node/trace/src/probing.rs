//! Who tries codes that nobody issued: failures by source, in bounded room, and alarms.
//!
//! Time is cut into windows. Counts are kept for this window and the one before, so a source's failures are those of between one and
//! two windows. When a table is full, further sources are counted together: a flood from many sources raises the alarm of the
//! whole instead of theirs.

use std::collections::HashMap;

/// Limits of the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbingLimits {
    /// Length of a window, milliseconds.
    pub window_ms: u64,
    /// Failures of one source within its windows that raise an alarm.
    pub per_source: u32,
    /// Failures of all sources in one window that raise an alarm.
    pub all: u64,
    /// Sources of one window that are kept apart; about 40 bytes each.
    pub max_sources: usize,
}

impl Default for ProbingLimits {
    fn default() -> Self {
        Self {
            window_ms: 24 * 3_600_000,
            per_source: 20,
            all: 10_000,
            max_sources: 100_000,
        }
    }
}

/// Raised once a window, for a source or for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// One source tries codes.
    Source {
        /// Its failures so far.
        failures: u32,
    },
    /// Codes are tried from everywhere.
    All {
        /// All failures of the window.
        failures: u64,
    },
}

#[derive(Debug, Default)]
struct Window {
    number: u64,
    sources: HashMap<u64, u32>,
    total: u64,
}

/// The counter.
#[derive(Debug)]
pub struct Probing {
    limits: ProbingLimits,
    now: Window,
    before: Window,
}

fn short(source: &[u8; 16]) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| {
        source.get(i).copied().unwrap_or_default()
    }))
}

impl Probing {
    /// No failure yet.
    #[must_use]
    pub fn new(limits: ProbingLimits) -> Self {
        Self {
            limits,
            now: Window::default(),
            before: Window::default(),
        }
    }

    /// Goes on to the window of a time. A time of an earlier window counts in the present one.
    fn turn(&mut self, time_ms: u64) {
        let number = time_ms / self.limits.window_ms.max(1);
        if number > self.now.number {
            let done = std::mem::take(&mut self.now);
            let follows = done.number.saturating_add(1) == number;
            self.before = if follows { done } else { Window::default() };
            self.now.number = number;
        }
    }

    /// Counts a failure of `source`; the alarms that it raises.
    pub fn failed(&mut self, source: &[u8; 16], time_ms: u64) -> Vec<Alarm> {
        self.turn(time_ms);
        let mut alarms = Vec::new();
        let key = short(source);
        let earlier = self.before.sources.get(&key).copied().unwrap_or_default();
        let room = self.now.sources.len() < self.limits.max_sources;
        if room || self.now.sources.contains_key(&key) {
            let count = self.now.sources.entry(key).or_default();
            *count = count.saturating_add(1);
            let failures = count.saturating_add(earlier);
            // Once as it passes the limit, or at the first failure of a window that begins above it.
            if failures == self.limits.per_source
                || (*count == 1 && failures > self.limits.per_source)
            {
                alarms.push(Alarm::Source { failures });
            }
        }
        self.now.total = self.now.total.saturating_add(1);
        if self.now.total == self.limits.all {
            alarms.push(Alarm::All {
                failures: self.now.total,
            });
        }
        alarms
    }

    /// Failures of a source in this window and the one before.
    pub fn failures(&mut self, source: &[u8; 16], time_ms: u64) -> u32 {
        self.turn(time_ms);
        let key = short(source);
        [&self.now, &self.before]
            .into_iter()
            .filter_map(|w| w.sources.get(&key))
            .fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Sources that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.now.sources.len() + self.before.sources.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Alarm, Probing, ProbingLimits};

    fn limits() -> ProbingLimits {
        ProbingLimits {
            window_ms: 1000,
            per_source: 3,
            all: 10,
            max_sources: 4,
        }
    }

    #[test]
    fn a_source_is_alarmed_once_a_window_and_forgotten_after_two() {
        let mut p = Probing::new(limits());
        let alarms: Vec<_> = (0..5).map(|_| p.failed(&[1; 16], 500)).collect();
        assert_eq!(alarms.concat(), [Alarm::Source { failures: 3 }]);
        assert_eq!(p.failures(&[1; 16], 500), 5);
        assert_eq!(p.failures(&[2; 16], 500), 0);
        assert_eq!(p.failed(&[1; 16], 1500), [Alarm::Source { failures: 6 }]);
        assert_eq!(p.failures(&[1; 16], 1600), 6);
        assert_eq!(p.failures(&[1; 16], 2500), 1);
        assert_eq!(p.failures(&[1; 16], 9000), 0);
    }

    #[test]
    fn a_flood_from_everywhere_holds_bounded_room_and_is_alarmed_as_one() {
        let mut p = Probing::new(limits());
        let mut alarms = Vec::new();
        for i in 0..200_u64 {
            let mut source = [0; 16];
            source[..8].copy_from_slice(&i.to_be_bytes());
            alarms.extend(p.failed(&source, 100 + i / 20));
            assert!(p.held() <= 8);
        }
        assert_eq!(alarms, [Alarm::All { failures: 10 }]);
    }
}
