//! What both sides must hold alike before a key is blinded, and the bounds that follow.

use sha2::{Digest, Sha256};

use crate::Error;
use crate::context::{Computation, Context, Suite};
use crate::noise::{NoiseParams, sample_laplace};
use crate::seeds::SeedRng;

/// Most labels.
pub const MAX_LABELS: usize = 256;
/// Most weight classes.
pub const MAX_CLASSES: usize = 64;
/// Most groups: labels times classes.
pub const MAX_GROUPS: usize = 1 << 13;
/// Most quantities of one key.
pub const MAX_QUANTITIES: usize = 4;
/// Most rows of one side, dummies and fillers included.
pub const MAX_ROWS: u64 = 1 << 30;
/// Exponents stay below this: what a table of discrete logarithms covers.
pub(crate) const MAX_EXPONENT: u64 = 1 << 40;
/// Largest epsilon, in millionths.
const MAX_EPSILON_MICRO: u32 = 100_000_000;

/// The noise of the sums of one quantity, fixed by the agreement: each side draws a discrete Laplace variable truncated to
/// `[-bound, bound]` for each label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueNoise {
    /// Epsilon in millionths, for all labels together.
    pub epsilon_micro: u32,
    /// The most that one person can add, in minor units times the unit of weights: over all labels together.
    pub sensitivity: u64,
    /// Where it is cut.
    pub bound: u64,
}

/// The noise of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SumNoise {
    /// None: exact sums, and exact numbers of matches for the label side. For networks whose genesis says `test`, and nowhere
    /// else.
    NoneInTestNetwork,
    /// Two noises, one of each side, on every sum, and a pool for every group.
    Laplace {
        /// The noise on the number of matches in a group, which the label side sees.
        matches: NoiseParams,
        /// For each quantity, the noise on its sums.
        values: Vec<ValueNoise>,
    },
}

/// The terms of a query: from the agreement and the question, equal on both sides.
///
/// The value side brings *entries* (conversions, say), each as `rows_per_entry` keys of which at most `slots` are matched; the
/// weights of the matched ones add up to at most `unit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumTerms {
    /// For each label, how many people it must have; one that has fewer goes to label 0. 1 to [`MAX_LABELS`] labels.
    pub minimum_people: Vec<u32>,
    /// The weights that a key may have, ascending, from 1: 1 to [`MAX_CLASSES`].
    pub weights: Vec<u32>,
    /// What weights are counted in.
    pub unit: u32,
    /// For each quantity, the largest value of one entry: 1 to [`MAX_QUANTITIES`] of them.
    pub value_caps: Vec<u64>,
    /// Most entries of one person.
    pub entries_per_person: u32,
    /// Keys of one entry.
    pub rows_per_entry: u32,
    /// Most keys of one entry that can match.
    pub slots: u32,
    /// Most rows of the label side, fillers included and dummies not.
    pub max_label_rows: u64,
    /// Most entries of the value side, padding included.
    pub max_entries: u64,
    /// The noise.
    pub noise: SumNoise,
}

/// What a run is set up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumParams {
    /// What the session is bound to, besides the terms.
    pub context: Context,
    /// The terms.
    pub terms: SumTerms,
}

impl SumTerms {
    /// How many groups there are: a group is `label * weights.len() + class`.
    #[must_use]
    pub const fn groups(&self) -> usize {
        self.minimum_people.len() * self.weights.len()
    }

    /// Quantities of a key.
    pub(crate) const fn quantities(&self) -> usize {
        self.value_caps.len()
    }

    /// K, the dummies of each group's pool.
    pub(crate) const fn pool(&self) -> u64 {
        match &self.noise {
            SumNoise::NoneInTestNetwork => 0,
            SumNoise::Laplace { matches, .. } => matches.pool() as u64,
        }
    }

    /// The noise's bound for a quantity; 0 without noise.
    pub(crate) fn offset(&self, quantity: usize) -> u64 {
        match &self.noise {
            SumNoise::NoneInTestNetwork => 0,
            SumNoise::Laplace { values, .. } => values.get(quantity).map_or(0, |v| v.bound),
        }
    }

    /// A draw of the noise of a quantity, in `[-offset, offset]`.
    pub(crate) fn draw(&self, quantity: usize, rng: &mut SeedRng) -> Result<i64, Error> {
        match &self.noise {
            SumNoise::NoneInTestNetwork => Ok(0),
            SumNoise::Laplace { values, .. } => {
                let v = values.get(quantity).ok_or(Error::Internal {
                    what: "a quantity without noise",
                })?;
                sample_laplace(v.epsilon_micro, v.sensitivity, v.bound, rng)
            }
        }
    }

    /// Accepts terms in range, whose noise covers what one person can change.
    ///
    /// # Errors
    /// [`Error::Terms`], [`Error::Noise`], [`Error::SumRange`] where not even one entry fits.
    pub fn verify(&self) -> Result<(), Error> {
        let refuse = |reason| Err(Error::Terms { reason });
        let labels = self.minimum_people.len();
        if labels == 0 || labels > MAX_LABELS {
            return refuse("number of labels");
        }
        let ascending = self.weights.windows(2).all(|w| w[0] < w[1]);
        let in_range = self.weights.first().is_some_and(|w| *w > 0)
            && self.weights.last().is_some_and(|w| *w <= self.unit);
        if !ascending || !in_range || self.weights.len() > MAX_CLASSES {
            return refuse("weights");
        }
        if self.groups() > MAX_GROUPS {
            return refuse("number of groups");
        }
        if self.value_caps.is_empty()
            || self.value_caps.len() > MAX_QUANTITIES
            || self.value_caps.contains(&0)
        {
            return refuse("quantities");
        }
        if self.entries_per_person == 0 || self.slots == 0 || self.slots > self.rows_per_entry {
            return refuse("keys of an entry");
        }
        let pool = self.pool().saturating_mul(self.groups() as u64);
        let entry_rows = self
            .max_entries
            .saturating_mul(self.rows_per_entry.into())
            .saturating_add(pool);
        if self.max_label_rows.saturating_add(pool) > MAX_ROWS || entry_rows > MAX_ROWS {
            return refuse("number of rows");
        }
        if let SumNoise::Laplace { matches, values } = &self.noise {
            matches.verify()?;
            // One person's entries meet at most so many keys of the label side.
            let changed = u64::from(self.entries_per_person) * u64::from(self.slots);
            if u64::from(matches.sensitivity) < changed {
                return Err(Error::Noise {
                    reason: "sensitivity of matches is below entries of a person times slots",
                });
            }
            if values.len() != self.value_caps.len() {
                return Err(Error::Noise {
                    reason: "one noise for each quantity is needed",
                });
            }
            for (v, cap) in values.iter().zip(&self.value_caps) {
                v.verify()?;
                let changed =
                    u128::from(*cap) * u128::from(self.unit) * u128::from(self.entries_per_person);
                if u128::from(v.sensitivity) < changed {
                    return Err(Error::Noise {
                        reason: "sensitivity of a sum is below value cap times unit times entries of a person",
                    });
                }
            }
        }
        self.verify_range(1)
    }

    /// Refuses what could leave the range of exponents: entries * cap * unit + 2 * bound must be below 2^40.
    pub(crate) fn verify_range(&self, entries: u64) -> Result<(), Error> {
        (0..self.quantities()).try_for_each(|q| self.max_exponent(q, entries).map(|_| ()))
    }

    /// The largest exponent of a quantity that can come: sum, first noise, and offset.
    pub(crate) fn max_exponent(&self, quantity: usize, entries: u64) -> Result<u64, Error> {
        let cap = self.value_caps.get(quantity).copied().unwrap_or(u64::MAX);
        // Four factors of at most 64 bits each would not fit: saturate.
        let largest = u128::from(entries)
            .saturating_mul(cap.into())
            .saturating_mul(self.unit.into())
            .saturating_add(2 * u128::from(self.offset(quantity)));
        match u64::try_from(largest) {
            Ok(largest) if largest < MAX_EXPONENT => Ok(largest),
            _ => Err(Error::SumRange {
                bits: 128 - largest.leading_zeros(),
                max_bits: MAX_EXPONENT.ilog2(),
            }),
        }
    }

    /// SHA-256 over the terms in canonical form: a prefix, then every field in the order of the struct, lists with their length.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut h = Sha256::new();
        h.update(b"tally/psi-sum-terms/v1\n");
        let mut put = |n: u64| h.update(n.to_be_bytes());
        put(self.minimum_people.len() as u64);
        self.minimum_people.iter().for_each(|n| put((*n).into()));
        put(self.weights.len() as u64);
        self.weights.iter().for_each(|n| put((*n).into()));
        put(self.unit.into());
        put(self.value_caps.len() as u64);
        self.value_caps.iter().for_each(|n| put(*n));
        for n in [self.entries_per_person, self.rows_per_entry, self.slots] {
            put(n.into());
        }
        put(self.max_label_rows);
        put(self.max_entries);
        match &self.noise {
            SumNoise::NoneInTestNetwork => put(0),
            SumNoise::Laplace { matches, values } => {
                put(1);
                for n in [matches.epsilon_micro, matches.sensitivity, matches.bound] {
                    put(n.into());
                }
                put(values.len() as u64);
                for v in values {
                    put(v.epsilon_micro.into());
                    put(v.sensitivity);
                    put(v.bound);
                }
            }
        }
        h.finalize().into()
    }
}

impl ValueNoise {
    /// Accepts parameters in range.
    ///
    /// # Errors
    /// [`Error::Noise`].
    pub const fn verify(&self) -> Result<(), Error> {
        let reason = if self.epsilon_micro == 0 || self.epsilon_micro > MAX_EPSILON_MICRO {
            "epsilon out of range"
        } else if self.sensitivity == 0 || self.sensitivity >= MAX_EXPONENT {
            "sensitivity out of range"
        } else if self.bound == 0 || self.bound >= MAX_EXPONENT {
            "bound out of range"
        } else {
            return Ok(());
        };
        Err(Error::Noise { reason })
    }

    /// How far a published sum is from the true one in at least 95 of 100 runs, by both noises together, in minor units times the
    /// unit of weights. Rounded up; cutting the noise only makes it less.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub fn within_95(&self) -> u64 {
        // Two Laplace variables of scale b exceed t together with odds e^(-t/b) (1 + t/2b), which is 0.05 at t = 4.115 b.
        let scale = self.sensitivity as f64 * 1e6 / f64::from(self.epsilon_micro);
        ((4.12 * scale).ceil() as u64 + 1).min(self.bound * 2)
    }
}

impl SumParams {
    /// Accepts terms, suite and computation that fit each other.
    pub(crate) fn verify(&self) -> Result<(), Error> {
        if self.context.suite != Suite::DhRistrettoV1 {
            return Err(Error::Invalid {
                what: "suite for this machine",
                found: self.context.suite.number().into(),
            });
        }
        if self.context.computation != Computation::JoinSum {
            return Err(Error::Invalid {
                what: "computation for this machine",
                found: self.context.computation.number().into(),
            });
        }
        self.terms.verify()
    }

    /// What the session is bound to: the context and the terms.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"tally/psi-sum-context/v1\n")
            .chain_update(self.context.digest())
            .chain_update(self.terms.digest())
            .finalize()
            .into()
    }
}

/// The noise on a sum whose truncation costs at most delta = 10^-`delta_exponent`, as [`crate::plan_bound`] has it for a count: the
/// mass of the `sensitivity` outermost values. One person changes the sums of all labels together by `sensitivity` at most, and
/// that mass is largest where one label takes it all.
///
/// Planning only, in floating point: the agreement then fixes the bound as an integer.
///
/// # Errors
/// [`Error::Noise`] where no bound below 2^40 serves or an argument is zero.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
pub fn plan_value_noise(
    epsilon_micro: u32,
    delta_exponent: u32,
    sensitivity: u64,
) -> Result<ValueNoise, Error> {
    let mut noise = ValueNoise {
        epsilon_micro,
        sensitivity,
        bound: 1,
    };
    noise.verify()?;
    // The mass of the D outermost of 2B+1 values, e^(-epsilon (B-D+1)/D) (1 - e^-epsilon) / (1 + a - 2 a^(B+1)), is below
    // e^(-epsilon (B-D+1)/D) once 1 + a - 2 a^(B+1) is at least 1 - e^-epsilon, which it is from B = D on.
    let epsilon = f64::from(epsilon_micro) / 1e6;
    let ln_delta = -f64::from(delta_exponent) * std::f64::consts::LN_10;
    let d = sensitivity as f64;
    let bound = (d * (1.0 - ln_delta / epsilon)).ceil() + 1.0;
    if bound >= MAX_EXPONENT as f64 {
        return Err(Error::Noise {
            reason: "no bound in range reaches that delta",
        });
    }
    noise.bound = bound as u64;
    noise.verify()?;
    Ok(noise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> SumTerms {
        SumTerms {
            minimum_people: vec![0, 50],
            weights: vec![60, 420],
            unit: 420,
            value_caps: vec![200_000],
            entries_per_person: 1,
            rows_per_entry: 140,
            slots: 7,
            max_label_rows: 1 << 20,
            max_entries: 1 << 14,
            noise: SumNoise::Laplace {
                matches: NoiseParams {
                    epsilon_micro: 500_000,
                    sensitivity: 7,
                    bound: 178,
                },
                values: vec![ValueNoise {
                    epsilon_micro: 500_000,
                    sensitivity: 84_000_000,
                    bound: 2_405_000_000,
                }],
            },
        }
    }

    #[test]
    fn the_digest_is_golden_and_every_field_changes_it() {
        let good = terms();
        assert!(good.verify().is_ok());
        assert_eq!(
            hex::encode(good.digest()),
            "7e14f4a5a5176255960034b17bc2560c8bf8182212fd90ce0401d114e85f8fe9",
            "a change here breaks every peer: it needs a new version"
        );
        let changes: [fn(&mut SumTerms); 11] = [
            |t| t.minimum_people[0] = 1,
            |t| t.minimum_people.push(0),
            |t| t.weights[0] = 61,
            |t| t.unit += 1,
            |t| t.value_caps[0] -= 1,
            |t| t.entries_per_person += 1,
            |t| t.rows_per_entry += 1,
            |t| t.slots -= 1,
            |t| t.max_label_rows -= 1,
            |t| t.max_entries -= 1,
            |t| t.noise = SumNoise::NoneInTestNetwork,
        ];
        for change in changes {
            let mut other = terms();
            change(&mut other);
            assert_ne!(other.digest(), good.digest());
        }
    }

    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn planned_noise_reaches_its_delta() {
        for (epsilon_micro, delta_exponent, sensitivity) in [
            (500_000, 6, 1),
            (500_000, 6, 84_000_000),
            (2_000_000, 9, 20_000),
        ] {
            let noise = plan_value_noise(epsilon_micro, delta_exponent, sensitivity).unwrap();
            let (d, b) = (sensitivity as f64, noise.bound as f64);
            let epsilon = f64::from(epsilon_micro) / 1e6;
            let a = (-epsilon / d).exp();
            // The mass of the outermost `sensitivity` values.
            let mass = (-epsilon * (b - d + 1.0) / d).exp() * (1.0 - (-epsilon).exp())
                / (1.0 + a - 2.0 * a.powf(b + 1.0));
            let delta = 10_f64.powi(-i32::try_from(delta_exponent).unwrap());
            assert!(mass <= delta, "{mass} over {delta}");
            assert!(mass > delta / 20.0, "{mass} is far below {delta}");
        }
        assert!(plan_value_noise(1, 6, 1 << 39).is_err());
        assert!(plan_value_noise(0, 6, 1).is_err());
        assert!(plan_value_noise(1, 6, 0).is_err());
    }

    /// Draws at the scale of money: how many exceed k times the scale, against e^-k; mean and both signs.
    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn draws_at_the_scale_of_money_follow_the_distribution() {
        let noise = plan_value_noise(500_000, 6, 84_000_000).unwrap();
        let mut rng = SeedRng::new(&[5; 32]);
        let n = 40_000;
        let draws: Vec<i64> = (0..n)
            .map(|_| {
                sample_laplace(
                    noise.epsilon_micro,
                    noise.sensitivity,
                    noise.bound,
                    &mut rng,
                )
                .unwrap()
            })
            .collect();
        let scale = noise.sensitivity as f64 / 0.5;
        for k in 1..=5 {
            let expected = (-f64::from(k)).exp() * f64::from(n);
            let seen = draws
                .iter()
                .filter(|z| z.unsigned_abs() as f64 > f64::from(k) * scale)
                .count() as f64;
            assert!(
                (seen - expected).abs() < 5.0 * expected.sqrt(),
                "{seen} over {k} scales, expected {expected}"
            );
        }
        let negative = draws.iter().filter(|z| **z < 0).count() as f64;
        assert!((negative - f64::from(n) / 2.0).abs() < 5.0 * (f64::from(n) / 4.0).sqrt());
        let bound = i64::try_from(noise.bound).unwrap();
        assert!(draws.iter().all(|z| z.abs() <= bound));
        // Two of them together are within the stated distance 95 times in 100.
        let within = i64::try_from(noise.within_95()).unwrap();
        let pairs = draws.chunks_exact(2);
        let near = pairs.filter(|p| (p[0] + p[1]).abs() <= within).count() as f64;
        let share = near / f64::from(n / 2);
        assert!((0.945..0.956).contains(&share), "{share}");
    }
}
