//! How many buckets a list is cut into, how many items each has room for, and which bucket an item falls into: all of it public,
//! from the two counts and the context.

use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;

use crate::messages::Role;
use crate::{Error, IdType, MAX_COUNT, Profile};

/// When a list is cut, and into what. Both sides take [`Rule::STANDARD`]; another one serves tests, and a peer that has another sees
/// another number of buckets and refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Up to this many items on the larger side there is one bucket: a plain run.
    pub single: u64,
    /// Most items that fall into a bucket on average, on the larger side.
    pub mean: u64,
}

impl Rule {
    /// One bucket up to 2^21 items; else at most 2^20 items a bucket on average.
    pub const STANDARD: Self = Self {
        single: 1 << 21,
        mean: 1 << 20,
    };
}

/// Leading bits of the hash that may name a bucket.
pub(super) const MAX_BITS: u32 = 16;

/// The buckets of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    bits: u32,
    counts: [u64; 2],
    capacities: [u64; 2],
}

impl Plan {
    /// The plan for these counts, the initiator's first; `None` where one bucket holds everything and a plain run is due.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a count over [`MAX_COUNT`], or for more than 2^16 buckets.
    pub fn of(counts: [u64; 2], rule: Rule) -> Result<Option<Self>, Error> {
        let [a, b] = counts;
        let larger = a.max(b);
        if larger > MAX_COUNT {
            return Err(Error::TooLong {
                what: "items of a list",
                found: larger,
                max: MAX_COUNT,
            });
        }
        if larger <= rule.single {
            return Ok(None);
        }
        let buckets = larger.div_ceil(rule.mean.max(1)).next_power_of_two();
        let bits = buckets.ilog2().max(1);
        if bits > MAX_BITS {
            return Err(Error::TooLong {
                what: "buckets",
                found: buckets,
                max: 1 << MAX_BITS,
            });
        }
        Ok(Some(Self {
            bits,
            counts,
            capacities: counts.map(|n| capacity(n, bits)),
        }))
    }

    /// How many buckets, a power of two.
    #[must_use]
    pub const fn buckets(&self) -> u32 {
        1 << self.bits
    }

    /// Items of both sides, the initiator's first.
    #[must_use]
    pub const fn counts(&self) -> [u64; 2] {
        self.counts
    }

    /// Items that a side brings in each bucket, fillers included, the initiator's first.
    #[must_use]
    pub const fn capacities(&self) -> [u64; 2] {
        self.capacities
    }

    /// The two numbers of a side and of the other.
    pub(super) const fn of_side(pair: [u64; 2], role: Role) -> (u64, u64) {
        let [initiator, responder] = pair;
        match role {
            Role::Initiator => (initiator, responder),
            Role::Responder => (responder, initiator),
        }
    }

    /// SHA-256 over context, counts, buckets and capacities: what a release of the whole list is bound to.
    #[must_use]
    pub fn digest(&self, context: &[u8; 32]) -> [u8; 32] {
        let mut h = Sha256::new()
            .chain_update(b"tally/psi-plan/v2\n")
            .chain_update(context)
            .chain_update(self.buckets().to_be_bytes());
        for number in self.counts.iter().chain(&self.capacities) {
            h.update(number.to_be_bytes());
        }
        h.finalize().into()
    }

    /// Names the buckets of items in a session.
    #[must_use]
    pub fn names(&self, context: &[u8; 32], id_type: IdType, profile: Profile) -> BucketNames {
        let key: [u8; 32] = Sha256::new()
            .chain_update(b"tally/psi-bucket/v2\n")
            .chain_update(context)
            .chain_update([0, id_type.0, profile.0])
            .finalize()
            .into();
        let key: [u8; 16] = std::array::from_fn(|i| key[i]);
        BucketNames {
            keyed: SipHasher24::new_with_key(&key),
            bits: self.bits,
        }
    }
}

/// Room for the items of a bucket, of `count` items that fall into 2^`bits` of them: k above the mean, where k^2 >= L (2 mean + k)
/// with L >= ln 2 (42 + bits). By Chernoff's bound a bucket then overflows with odds below e^-L, so that any of the buckets of both
/// sides does with odds below 2^-41. Never more than `count`.
fn capacity(count: u64, bits: u32) -> u64 {
    let mean = count.div_ceil(1 << bits);
    // 7/10 is above ln 2.
    let l = (u64::from(42 + bits) * 7).div_ceil(10);
    // The positive root of k^2 - L k - 2 L mean, rounded up; L is below 50 and the mean at most 2^32.
    let above = (l + (l * l + 8 * l * mean).isqrt() + 1).div_ceil(2);
    count.min(mean + above)
}

/// Names the bucket of an item: the leading bits of SipHash-2-4 of the value, under the first 16 bytes of SHA-256(`tally/psi-bucket/v2` LF
/// || context || 0x00 || ID type || profile). Both sides know the key: it has to spread items evenly, and to spread them otherwise in
/// another session. Who chooses items that meet in one bucket overfills a bucket of its own, and is refused.
#[derive(Clone)]
pub struct BucketNames {
    keyed: SipHasher24,
    bits: u32,
}

impl BucketNames {
    /// The bucket of a normalised value.
    #[must_use]
    pub fn of(&self, value: &[u8]) -> u32 {
        let name = self.keyed.hash(value) >> (u64::BITS - self.bits);
        u32::try_from(name).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    /// log2 of the odds that Bin(n, p) is above c: the first term past c times a geometric series that bounds the rest.
    fn log2_tail(n: f64, p: f64, c: f64) -> f64 {
        // Stirling's series: far more exact than the slack that is tested.
        let ln_factorial = |x: f64| {
            if x < 2.0 {
                0.0
            } else {
                x * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI * x).ln() + 1.0 / (12.0 * x)
            }
        };
        let k = c + 1.0;
        if k > n {
            return f64::NEG_INFINITY;
        }
        let term = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
            + k * p.ln()
            + (n - k) * (-p).ln_1p();
        let ratio = (n - k) / (k + 1.0) * p / (1.0 - p);
        assert!(ratio < 1.0, "the capacity is not above the mean");
        (term - (1.0 - ratio).ln()) / std::f64::consts::LN_2
    }

    #[test]
    fn overflow_is_rarer_than_2_to_the_minus_40_at_every_size() {
        let mut plans = 0;
        for bits in 1..=16_u32 {
            for n in [
                1,
                2,
                3,
                10,
                100,
                1000,
                65_537,
                1 << 20,
                3 << 20,
                1 << 24,
                100_000_000,
                1 << 32,
            ] {
                let c = capacity(n, bits);
                // All buckets of both sides.
                let odds = log2_tail(n as f64, 0.5_f64.powi(bits as i32), c as f64)
                    + f64::from(bits)
                    + 1.0;
                assert!(
                    odds < -40.0,
                    "{n} items, {bits} bits, room for {c}: 2^{odds}"
                );
                plans += 1;
            }
        }
        assert_eq!(plans, 192);
        // A fifth less above the mean would not do at the usual size.
        let c = capacity(1 << 24, 4);
        let less = (1 << 20) + (c - (1 << 20)) * 8 / 10;
        assert!(log2_tail(f64::from(1 << 24), 1.0 / 16.0, less as f64) + 5.0 > -40.0);
    }

    #[test]
    fn the_plan_is_a_public_function_of_the_counts() {
        let of = |a, b| Plan::of([a, b], Rule::STANDARD).unwrap();
        assert_eq!(of(1 << 21, 1 << 21), None);
        assert_eq!(of(0, 0), None);
        let p = of(7, (1 << 21) + 1).unwrap();
        assert_eq!((p.buckets(), p.capacities()[0]), (4, 7));
        let p = of(1 << 24, 1 << 24).unwrap();
        assert_eq!(p.buckets(), 16);
        // Padding costs less than one percent.
        assert!(p.capacities()[0] < (1 << 20) * 101 / 100);
        assert_eq!(of(100_000_000, 1).unwrap().buckets(), 128);
        assert_eq!(of(1 << 32, 5).unwrap().buckets(), 4096);
        assert!(Plan::of([(1 << 32) + 1, 1], Rule::STANDARD).is_err());
        let tiny = Rule { single: 0, mean: 1 };
        assert!(Plan::of([1 << 20, 1], tiny).is_err());
        assert_eq!(Plan::of([1, 1], tiny).unwrap().unwrap().buckets(), 2);
    }

    #[test]
    fn names_depend_on_session_type_profile_and_value_and_spread_evenly() {
        let plan = Plan::of([1 << 24, 1], Rule::STANDARD).unwrap().unwrap();
        let names = plan.names(&[1; 32], IdType(1), Profile(1));
        let mut filled = [0_u32; 16];
        let mut moved = [0; 3];
        let others = [
            plan.names(&[2; 32], IdType(1), Profile(1)),
            plan.names(&[1; 32], IdType(2), Profile(1)),
            plan.names(&[1; 32], IdType(1), Profile(2)),
        ];
        for i in 0..16_000_u32 {
            let value = i.to_be_bytes();
            let bucket = names.of(&value);
            filled[bucket as usize] += 1;
            for (moved, other) in moved.iter_mut().zip(&others) {
                *moved += u32::from(other.of(&value) != bucket);
            }
        }
        // Standard deviation 31.
        assert!(filled.iter().all(|n| n.abs_diff(1000) < 180), "{filled:?}");
        assert!(moved.iter().all(|n| *n > 14_500), "{moved:?}");
    }

    #[test]
    fn the_digest_names_every_field() {
        let plan = |a, b, mean| {
            let rule = Rule { single: 10, mean };
            Plan::of([a, b], rule).unwrap().unwrap()
        };
        let all = [
            plan(100, 200, 50).digest(&[1; 32]),
            plan(100, 200, 50).digest(&[2; 32]),
            plan(200, 100, 50).digest(&[1; 32]),
            plan(100, 200, 20).digest(&[1; 32]),
            plan(100, 201, 50).digest(&[1; 32]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one));
        }
    }
}
