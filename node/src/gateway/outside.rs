//! Right codes that were turned away, as too many requests of their source were waiting already: they wait outside, and are answered at
//! once when they come again.
//!
//! Behind one address may be one phone or a whole carrier, and whoever guesses there keeps every waiting place taken. So among those that
//! are turned away it matters who is right, or the guesser locks the others out. That must not be an oracle: right and wrong are turned away
//! alike, after the same time and for the same time, and only who comes again after that learns more, no sooner than who had waited inside.
//! Whoever guesses with many requests at once can still learn by this that they are wrong: it is told everybody whose right code is answered
//! within a bounded time, by the answer or by its absence. What forbids guessing is the length of the codes, 60 and 64 bits.
//!
//! Wrong codes take no room here, and room is bounded: who is to push somebody else out needs as many right codes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::SourceKey;

/// For so long after its wait a code is answered at once: time to open its page, press the button and read.
const OPEN_FOR: Duration = Duration::from_secs(120);

/// What was asked, as a pseudonym.
pub(super) type Asked = [u8; 16];

#[derive(Default)]
struct Waiters {
    /// What was asked, and when its wait is over; the oldest first.
    sources: HashMap<SourceKey, VecDeque<(Asked, Instant)>>,
    /// Of all sources.
    total: usize,
}

impl Waiters {
    /// Forgets whose time is over.
    fn tidy(&mut self, now: Instant) {
        self.sources.retain(|_, waiting| {
            waiting.retain(|(_, ready)| now < *ready + OPEN_FOR);
            !waiting.is_empty()
        });
        self.total = self.sources.values().map(VecDeque::len).sum();
    }
}

/// Who waits outside.
pub(super) struct Outside {
    max_of_source: usize,
    max: usize,
    waiters: Mutex<Waiters>,
}

impl Outside {
    /// Room for `max` codes, at most `max_of_source` from one source.
    pub(super) fn new(max_of_source: usize, max: usize) -> Self {
        Self {
            max_of_source,
            max,
            waiters: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a right code was turned away until `ready`. Who waits already does not begin anew.
    pub(super) fn wait(&self, key: SourceKey, asked: Asked, now: Instant, ready: Instant) {
        let mut waiters = self.lock();
        if waiters.total >= self.max {
            waiters.tidy(now);
        }
        let is_full = waiters.total >= self.max;
        let waiting = waiters.sources.entry(key).or_default();
        let before = waiting.len();
        waiting.retain(|(_, ready)| now < *ready + OPEN_FOR);
        if waiting.iter().all(|(known, _)| *known != asked) {
            if is_full || waiting.len() >= self.max_of_source {
                waiting.pop_front();
            }
            if !is_full || waiting.len() < before {
                waiting.push_back((asked, ready));
            }
        }
        let after = waiting.len();
        if after == 0 {
            waiters.sources.remove(&key);
        }
        waiters.total = (waiters.total + after).saturating_sub(before);
    }

    /// Whether anything of the source waits or has waited.
    pub(super) fn holds(&self, key: SourceKey) -> bool {
        self.lock().sources.contains_key(&key)
    }

    /// Whether it was turned away and has waited since.
    pub(super) fn has_waited(&self, key: SourceKey, asked: &Asked, now: Instant) -> bool {
        let waiters = self.lock();
        waiters.sources.get(&key).is_some_and(|waiting| {
            waiting
                .iter()
                .any(|(known, ready)| known == asked && *ready <= now && now < *ready + OPEN_FOR)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn key(last: u8) -> SourceKey {
        IpAddr::from([10, 0, 0, last]).into()
    }

    #[test]
    fn who_has_waited_is_let_in_for_a_while() {
        let outside = Outside::new(10, 100);
        let (asked, other) = ([1; 16], [2; 16]);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!outside.has_waited(key(1), &asked, at(0)));
        outside.wait(key(1), asked, at(0), at(5));
        assert!(!outside.has_waited(key(1), &asked, at(4)));
        // Asking too early costs nothing.
        outside.wait(key(1), asked, at(4), at(9));
        for seconds in [5, 6, 124] {
            assert!(outside.has_waited(key(1), &asked, at(seconds)));
        }
        assert!(!outside.has_waited(key(1), &other, at(5)));
        assert!(!outside.has_waited(key(2), &asked, at(5)));
        assert!(outside.holds(key(1)) && !outside.holds(key(2)));
        assert!(!outside.has_waited(key(1), &asked, at(125)));
        outside.wait(key(1), asked, at(125), at(130));
        assert!(
            !outside.has_waited(key(1), &asked, at(125)),
            "it waits anew"
        );
        assert!(outside.has_waited(key(1), &asked, at(130)));
    }

    #[test]
    fn room_is_bounded_for_each_and_for_all() {
        let outside = Outside::new(3, 8);
        let now = Instant::now();
        let asked = |n: u8| [n; 16];
        for source in 0..4 {
            for n in 0..5 {
                outside.wait(key(source), asked(n), now, now);
            }
        }
        let held = |source| {
            (0..5)
                .filter(|n| outside.has_waited(key(source), &asked(*n), now))
                .count()
        };
        // Whoever comes late finds no room, and pushes nobody else out.
        assert_eq!([0, 1, 2, 3].map(held), [3, 3, 2, 0]);
        assert_eq!(outside.lock().total, 8);
        assert!(
            outside.has_waited(key(0), &asked(4), now),
            "the newest stays"
        );
        assert!(!outside.holds(key(3)));
        let later = now + OPEN_FOR;
        outside.wait(key(3), asked(0), later, later);
        assert_eq!(outside.lock().total, 1, "room is made of what is over");
    }
}
