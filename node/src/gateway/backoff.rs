//! Slows down sources that try many codes that were never issued, and sources that try many claim codes on one pack.
//!
//! Nothing here looks at whether what is asked is right: a right code is answered from a slowed source too, only later, and codes
//! on a shelf cannot be locked by anyone, as another source is not slowed. Every answer to a slowed source takes the same time,
//! whatever it says. Few may wait at once; a right code for which there is no place waits [outside](super::outside).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::source::subscriber;

/// When and how much sources are slowed.
#[derive(Debug, Clone, Copy)]
pub struct BackoffConfig {
    /// Failures that cost nothing.
    pub free_failures: u32,
    /// After this time a source's failures count half.
    pub half_life: Duration,
    /// The first delay; it doubles with every further `free_failures`.
    pub min_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// Requests of one slowed source that may wait at once; more are turned away with 429, to come again.
    pub max_waiting: u32,
    /// Sources that are remembered.
    pub max_sources: usize,
}

impl BackoffConfig {
    /// For claim codes of one pack from one source: a few slips of the finger cost nothing.
    #[must_use]
    pub fn claims() -> Self {
        Self {
            free_failures: 5,
            ..Self::default()
        }
    }
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            free_failures: 20,
            half_life: Duration::from_secs(60),
            min_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(4),
            max_waiting: 4,
            max_sources: 100_000,
        }
    }
}

/// Failures are counted up to this many times the free ones.
const MAX_OVER: f64 = 16.0;

#[derive(Debug)]
struct Source {
    failures: f64,
    at: Instant,
    waiting: u32,
}

/// A [`subscriber`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SourceKey(IpAddr);

impl From<IpAddr> for SourceKey {
    fn from(addr: IpAddr) -> Self {
        Self(subscriber(addr))
    }
}

/// Who is slowed down: a source, or a source at one code.
pub(super) trait Key: Hash + Eq + Copy {}

impl<K: Hash + Eq + Copy> Key for K {}

#[derive(Debug)]
pub(super) struct Backoff<K> {
    config: BackoffConfig,
    sources: Mutex<HashMap<K, Source>>,
}

/// Held while a request of a slowed source is worked on.
pub(super) struct Waiting<K: Key> {
    backoff: Arc<Backoff<K>>,
    key: K,
}

impl<K: Key> Drop for Waiting<K> {
    fn drop(&mut self) {
        if let Some(source) = self.backoff.lock().get_mut(&self.key) {
            source.waiting = source.waiting.saturating_sub(1);
        }
    }
}

impl<K: Key> Backoff<K> {
    pub(super) fn new(config: BackoffConfig) -> Self {
        Self {
            config,
            sources: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures_now(&self, source: &Source, now: Instant) -> f64 {
        let age = now.saturating_duration_since(source.at).as_secs_f64();
        source.failures * (-age / self.config.half_life.as_secs_f64()).exp2()
    }

    fn delay(&self, failures: f64) -> Option<Duration> {
        let free = f64::from(self.config.free_failures.max(1));
        let over = failures / free - 1.0;
        (over >= 0.0).then(|| {
            let delay = self.config.min_delay.as_secs_f64() * over.min(32.0).exp2();
            Duration::from_secs_f64(delay.min(self.config.max_delay.as_secs_f64()))
        })
    }

    /// Lets a request of the source in, at once or after its delay; `Err` says after how many seconds to come back.
    pub(super) async fn enter(self: &Arc<Self>, key: K) -> Result<Option<Waiting<K>>, u64> {
        let (delay, waiting) = {
            let mut sources = self.lock();
            let Some(source) = sources.get_mut(&key) else {
                return Ok(None);
            };
            let failures = self.failures_now(source, Instant::now());
            let Some(delay) = self.delay(failures) else {
                return Ok(None);
            };
            if source.waiting >= self.config.max_waiting {
                return Err(delay.as_secs().saturating_add(1));
            }
            source.waiting += 1;
            let waiting = Waiting {
                backoff: Arc::clone(self),
                key,
            };
            (delay, waiting)
        };
        tokio::time::sleep(delay).await;
        Ok(Some(waiting))
    }

    /// Notes that the source asked for what was never issued.
    pub(super) fn failed(&self, key: K) {
        let now = Instant::now();
        let mut sources = self.lock();
        if sources.len() >= self.config.max_sources && !sources.contains_key(&key) {
            // Room is made by forgetting who has the least to answer for; an attacker who owns that many addresses is not
            // held up by delays anyway.
            sources.retain(|_, s| s.waiting > 0 || self.failures_now(s, now) >= 1.0);
            if sources.len() >= self.config.max_sources {
                sources.retain(|_, s| s.waiting > 0);
            }
        }
        let failures = sources
            .get(&key)
            .map_or(0.0, |source| self.failures_now(source, now));
        let source = sources.entry(key).or_insert(Source {
            failures,
            at: now,
            waiting: 0,
        });
        // What is far beyond the longest delay would only make it last, for everybody behind the address.
        let most = f64::from(self.config.free_failures.max(1)) * MAX_OVER;
        source.failures = (failures + 1.0).min(most);
        source.at = now;
    }

    /// Sources that are slowed now.
    pub(super) fn slowed(&self) -> usize {
        let now = Instant::now();
        self.lock()
            .values()
            .filter(|s| self.delay(self.failures_now(s, now)).is_some())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn delays_grow_with_failures_are_bounded_and_fade() {
        let ms = Duration::from_millis;
        let backoff = Arc::new(Backoff::new(BackoffConfig {
            free_failures: 2,
            half_life: ms(500),
            min_delay: ms(20),
            max_delay: ms(60),
            max_waiting: 2,
            max_sources: 10,
        }));
        assert_eq!(backoff.delay(1.9), None);
        assert_eq!(backoff.delay(2.0), Some(ms(20)));
        assert_eq!(backoff.delay(4.0), Some(ms(40)));
        assert_eq!(backoff.delay(1e9), Some(ms(60)));
        let key = SourceKey::from(IpAddr::from([10, 0, 0, 1]));
        let other = SourceKey::from(IpAddr::from([10, 0, 0, 2]));
        backoff.failed(key);
        assert!(matches!(backoff.enter(key).await, Ok(None)));
        for _ in 0..1000 {
            backoff.failed(key);
        }
        let failures = backoff.lock()[&key].failures;
        assert!(failures <= 2.0 * MAX_OVER, "{failures}");
        assert!(matches!(backoff.enter(other).await, Ok(None)));
        assert_eq!(backoff.slowed(), 1);
        let start = Instant::now();
        let (a, b, c) = tokio::join!(backoff.enter(key), backoff.enter(key), backoff.enter(key));
        assert!(start.elapsed() >= ms(60));
        assert!(matches!((&a, &b, c), (Ok(Some(_)), Ok(Some(_)), Err(1))));
        drop((a, b));
        assert!(matches!(backoff.enter(key).await, Ok(Some(_))));
        let source = Source {
            failures: 8.0,
            at: Instant::now(),
            waiting: 0,
        };
        let later = backoff.failures_now(&source, source.at + ms(1000));
        assert!((later - 2.0).abs() < 1e-9);
    }

    #[test]
    fn sources_are_bounded_and_one_subscriber_is_one_source() {
        let backoff = Backoff::<SourceKey>::new(BackoffConfig {
            max_sources: 3,
            ..BackoffConfig::default()
        });
        for i in 0..20 {
            backoff.failed(SourceKey::from(IpAddr::from([10, 0, 0, i])));
        }
        assert!(backoff.lock().len() <= 3);
        let v6 = |last: u16| SourceKey::from(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));
        assert_eq!(v6(1), v6(2));
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1]);
        assert_eq!(SourceKey::from(mapped), IpAddr::from([10, 0, 0, 1]).into());
    }
}
