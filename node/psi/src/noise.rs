//! Noise on a count: a discrete Laplace variable truncated to [-B, B], drawn exactly in integers (Canonne, Kamath, Steinke,
//! "The Discrete Gaussian for Differential Privacy", algorithms 1 and 2).

use rand_core::RngCore;

use crate::Error;
use crate::accounting::{DELTA_ONE, plan_bound_for};

/// Largest bound B; the pool of dummies is twice that.
pub const MAX_BOUND: u32 = 1 << 20;
/// Largest sensitivity D.
const MAX_SENSITIVITY: u32 = 1 << 20;
/// Largest epsilon, in millionths.
const MAX_EPSILON_MICRO: u32 = 100_000_000;

/// The noise of one count, fixed by the agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseParams {
    /// Epsilon in millionths, 1 to 100,000,000.
    pub epsilon_micro: u32,
    /// D: the most that one person can change the count, from 1.
    pub sensitivity: u32,
    /// B: the noise of each side lies in [-B, B], 1 to [`MAX_BOUND`].
    pub bound: u32,
}

impl NoiseParams {
    /// K = 2B: how many public dummies the pool holds.
    #[must_use]
    pub const fn pool(&self) -> u32 {
        2 * self.bound
    }

    /// Accepts parameters in range.
    ///
    /// # Errors
    /// [`Error::Noise`].
    pub const fn verify(&self) -> Result<(), Error> {
        let reason = if self.epsilon_micro == 0 || self.epsilon_micro > MAX_EPSILON_MICRO {
            "epsilon out of range"
        } else if self.sensitivity == 0 || self.sensitivity > MAX_SENSITIVITY {
            "sensitivity out of range"
        } else if self.bound == 0 || self.bound > MAX_BOUND {
            "bound out of range"
        } else {
            return Ok(());
        };
        Err(Error::Noise { reason })
    }
}

/// The least B at which truncation costs at most delta = 10^-`delta_exponent` for a change of the count by D = `sensitivity`:
/// [`plan_bound_for`] with a delta in decimals.
///
/// # Errors
/// [`Error::Noise`] where no B up to [`MAX_BOUND`] serves or an argument is out of range.
pub fn plan_bound(
    epsilon_micro: u32,
    delta_exponent: u32,
    sensitivity: u32,
) -> Result<NoiseParams, Error> {
    let delta = 10_u64
        .checked_pow(delta_exponent)
        .map_or(0, |parts| DELTA_ONE / parts);
    plan_bound_for(epsilon_micro, delta, sensitivity)
}

/// A draw z in [-B, B] with odds in proportion to e^(-epsilon |z| / D), exactly: integers and rejection alone. Its running time
/// depends on the draw.
///
/// # Errors
/// [`Error::Noise`] for parameters out of range.
pub fn sample_truncated_laplace(
    params: &NoiseParams,
    rng: &mut impl RngCore,
) -> Result<i64, Error> {
    params.verify()?;
    sample_laplace(
        params.epsilon_micro,
        params.sensitivity.into(),
        params.bound.into(),
        rng,
    )
}

/// The same for a sensitivity and bound below 2^40, as sums of money have them.
pub(crate) fn sample_laplace(
    epsilon_micro: u32,
    sensitivity: u64,
    bound: u64,
    rng: &mut impl RngCore,
) -> Result<i64, Error> {
    if epsilon_micro == 0 || sensitivity == 0 || sensitivity >> 40 != 0 || bound >> 40 != 0 {
        return Err(Error::Noise {
            reason: "out of the sampler's range",
        });
    }
    // a = e^(-s/t)
    let (s, t) = reduce(u64::from(epsilon_micro), 1_000_000 * sensitivity);
    loop {
        let u = below(t, rng);
        if !bernoulli_exp(u, t, rng) {
            continue;
        }
        let mut v = 0_u64;
        while bernoulli_exp(1, 1, rng) {
            v += 1;
        }
        let magnitude = (u128::from(t) * u128::from(v) + u128::from(u)) / u128::from(s);
        let negative = below(2, rng) == 1;
        if magnitude > bound.into() || (negative && magnitude == 0) {
            continue;
        }
        let z = i64::try_from(magnitude).map_err(|_| Error::Internal {
            what: "noise range",
        })?;
        return Ok(if negative { -z } else { z });
    }
}

const fn reduce(a: u64, b: u64) -> (u64, u64) {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x, b / x)
}

/// Uniform in 0..n, n > 0, by rejection.
fn below(n: u64, rng: &mut impl RngCore) -> u64 {
    let n = n.max(1);
    let usable = u64::MAX - u64::MAX % n;
    loop {
        let r = rng.next_u64();
        if r < usable {
            return r % n;
        }
    }
}

/// True with odds e^(-p/q), for p <= q.
fn bernoulli_exp(p: u64, q: u64, rng: &mut impl RngCore) -> bool {
    let mut k = 1_u64;
    // With odds p / (q k) on, else stop: the parity of k decides.
    while below(k, rng) == 0 && below(q, rng) < p {
        k += 1;
    }
    k % 2 == 1
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn planned_bounds_are_those_of_the_design() {
        for (sensitivity, pool) in [(1, 50), (7, 356), (10, 508)] {
            let p = plan_bound(500_000, 6, sensitivity).unwrap();
            assert_eq!(p.pool(), pool, "sensitivity {sensitivity}");
        }
        assert!(plan_bound(0, 6, 1).is_err());
        assert!(plan_bound(1, 300, 1 << 20).is_err());
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let good = NoiseParams {
            epsilon_micro: 500_000,
            sensitivity: 1,
            bound: 25,
        };
        assert!(good.verify().is_ok());
        for bad in [
            NoiseParams { bound: 0, ..good },
            NoiseParams {
                bound: MAX_BOUND + 1,
                ..good
            },
            NoiseParams {
                sensitivity: 0,
                ..good
            },
            NoiseParams {
                epsilon_micro: 0,
                ..good
            },
        ] {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            assert!(sample_truncated_laplace(&bad, &mut rng).is_err());
        }
    }

    /// Chi-square of 200,000 draws against the exact odds, at two parameter sets, one of them with a bound that cuts deep.
    #[test]
    fn draws_follow_the_distribution() {
        for (epsilon_micro, sensitivity, bound, seed) in
            [(500_000, 1, 25, 1_u64), (300_000, 2, 5, 2)]
        {
            let params = NoiseParams {
                epsilon_micro,
                sensitivity,
                bound,
            };
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let b = i64::from(bound);
            let n = 200_000;
            let mut seen = vec![0_f64; 2 * bound as usize + 1];
            for _ in 0..n {
                let z = sample_truncated_laplace(&params, &mut rng).unwrap();
                assert!((-b..=b).contains(&z));
                seen[usize::try_from(z + b).unwrap()] += 1.0;
            }
            let a = (-f64::from(epsilon_micro) / 1e6 / f64::from(sensitivity)).exp();
            let weights: Vec<f64> = (-b..=b)
                .map(|z| a.powi(i32::try_from(z.abs()).unwrap()))
                .collect();
            let total: f64 = weights.iter().sum();
            // Cells with fewer than 20 expected draws are put into one.
            let (mut chi, mut cells, mut rest) = (0.0, 0.0, (0.0, 0.0));
            for (w, s) in weights.iter().zip(&seen) {
                let expected = w / total * f64::from(n);
                if expected < 20.0 {
                    rest = (rest.0 + expected, rest.1 + s);
                } else {
                    chi += (s - expected).powi(2) / expected;
                    cells += 1.0;
                }
            }
            if rest.0 > 0.0 {
                chi += (rest.1 - rest.0).powi(2) / rest.0;
            }
            // Mean of chi-square is `cells`, its deviation sqrt(2 cells): five deviations.
            assert!(
                chi < cells + 5.0 * (2.0_f64 * cells).sqrt(),
                "chi-square {chi} over {cells} cells, seed {seed}"
            );
        }
    }
}
