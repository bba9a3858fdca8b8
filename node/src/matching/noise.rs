//! The agreement's noise, in the terms of the protocol, and what it does to an answer.

use serde::{Deserialize, Serialize};
use tally_contracts::NetworkKind;
use tally_contracts::records::{Computation, Noise};
use tally_contracts::refusal::Refusal;
use tally_psi::NoiseParams;

use super::error::MatchError;

/// The most that one person changes a count of people.
const SENSITIVITY: u32 = 1;
/// Bounds up to this have their interval computed; beyond it the normal approximation is as good.
const EXACT_BOUND: u32 = 2_000;

/// The noise for an agreement on counts: the least bound whose truncation costs at most `delta`, in units of 2^-60.
///
/// # Errors
/// [`MatchError::Psi`] for an epsilon or delta out of range (1 to 100,000,000 millionths; 1 to 2^60 - 1), or if no bound up to
/// [`tally_psi::MAX_BOUND`] serves.
pub fn plan_noise(micro_eps: u32, delta: u64) -> Result<Noise, MatchError> {
    // All of the odds: such a noise would promise nothing.
    if delta >= tally_psi::DELTA_ONE {
        return Err(tally_psi::Error::Noise {
            reason: "delta out of range",
        }
        .into());
    }
    let planned = tally_psi::plan_bound_for(micro_eps, delta, SENSITIVITY)?;
    Ok(Noise::Laplace {
        micro_eps: micro_eps.into(),
        delta,
        bound: planned.bound,
    })
}

/// The noise of a run. Exact counts run in test networks alone; a bound that does not give the agreement's delta is refused,
/// because the ledger would charge too little.
pub(super) fn psi_noise(
    noise: &Noise,
    computation: Computation,
    kind: NetworkKind,
) -> Result<tally_psi::Noise, MatchError> {
    if !computation.is_noised() {
        return Ok(tally_psi::Noise::NoneInTestNetwork);
    }
    match *noise {
        Noise::None if kind == NetworkKind::Test => Ok(tally_psi::Noise::NoneInTestNetwork),
        Noise::None => Err(Refusal::Noise { computation }.into()),
        Noise::Laplace {
            micro_eps,
            delta,
            bound,
        } => {
            let too_large = |_| tally_psi::Error::Noise {
                reason: "epsilon out of range",
            };
            let params = NoiseParams {
                epsilon_micro: u32::try_from(micro_eps).map_err(too_large)?,
                sensitivity: SENSITIVITY,
                bound,
            };
            params.verify()?;
            if params.delta()? > delta {
                return Err(MatchError::decline(
                    "noise",
                    format!("a noise bound of {bound} costs more than the agreement's delta"),
                ));
            }
            Ok(tally_psi::Noise::Laplace(params))
        }
    }
}

/// What the noise does to a published count: shown with every answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NoiseView {
    /// None, as only test networks allow, or for a list.
    None,
    /// Two truncated discrete Laplace noises.
    Laplace {
        /// Of each noise.
        epsilon: f64,
        /// Each noise lies in [-bound, bound].
        bound: u32,
        /// Standard deviation of both together.
        standard_deviation: f64,
        /// The true count is within this distance of the published one in at least 95 of 100 matches.
        within_95: u32,
    },
    /// Two truncated discrete Laplace noises on every sum, and one on every number of matches, which one side sees alone.
    Sums {
        /// Of each noise of the sums, for all labels together.
        epsilon: f64,
        /// Of the noise of the matches.
        matches_epsilon: f64,
        /// Each noise of a sum lies in [-bound, bound], in minor units of the currency, rounded up.
        bound: u64,
        /// The true sum of a label is within this distance of the published one in at least 95 of 100 matches, in minor units.
        within_95: u64,
    },
}

impl NoiseView {
    pub(super) fn of(noise: &tally_psi::Noise) -> Self {
        let tally_psi::Noise::Laplace(params) = noise else {
            return Self::None;
        };
        let (standard_deviation, within_95) = spread(params);
        Self::Laplace {
            epsilon: f64::from(params.epsilon_micro) / 1e6,
            bound: params.bound,
            standard_deviation,
            within_95,
        }
    }
}

/// Standard deviation and 95% half-width of the sum of two draws.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn spread(params: &NoiseParams) -> (f64, u32) {
    let ln_a = -f64::from(params.epsilon_micro) / 1e6 / f64::from(params.sensitivity);
    let a = ln_a.exp();
    // Twice the variance of a discrete Laplace; truncation only lowers it.
    let untruncated = (2.0 * 2.0 * a / (1.0 - a).powi(2)).sqrt();
    let bound = params.bound;
    if bound > EXACT_BOUND {
        let half = (1.96 * untruncated).ceil().min(f64::from(bound) * 2.0);
        return (untruncated, half as u32);
    }
    let weights: Vec<f64> = (-i64::from(bound)..=i64::from(bound))
        .map(|z| (ln_a * z.unsigned_abs() as f64).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    // Mass of each distance |z1 + z2|.
    let mut distances = vec![0.0; 2 * bound as usize * 2 + 1];
    for (i, x) in weights.iter().enumerate() {
        for (j, y) in weights.iter().enumerate() {
            if let Some(d) = distances.get_mut((i + j).abs_diff(2 * bound as usize)) {
                *d += x / total * (y / total);
            }
        }
    }
    let variance: f64 = distances
        .iter()
        .zip(0_u32..)
        .map(|(p, d)| p * f64::from(d).powi(2))
        .sum();
    let mut mass = 0.0;
    let half = distances.iter().zip(0_u32..).find_map(|(p, d)| {
        mass += p;
        (mass >= 0.95).then_some(d)
    });
    (variance.sqrt(), half.unwrap_or(2 * bound))
}

#[cfg(test)]
mod tests {
    use tally_contracts::records::DELTA_ONE;

    use super::*;

    fn laplace(bound: u32, delta: u64) -> Noise {
        Noise::Laplace {
            micro_eps: 500_000,
            delta,
            bound,
        }
    }

    #[test]
    fn a_planned_noise_is_accepted_and_a_cheaper_one_is_not() {
        let delta = DELTA_ONE.div_ceil(1_000_000);
        let planned = plan_noise(500_000, delta).unwrap();
        let Noise::Laplace { bound, .. } = planned else {
            panic!("no noise");
        };
        assert!((20..=30).contains(&bound), "{bound}");
        let run = |n: &Noise| psi_noise(n, Computation::Cardinality, NetworkKind::Live);
        assert!(run(&planned).is_ok());
        assert!(run(&laplace(bound - 1, delta)).is_err());
        assert!(run(&laplace(bound, delta / 2)).is_err());
        for exponent in 1..60 {
            let planned = plan_noise(500_000, 1 << (60 - exponent)).unwrap();
            assert!(run(&planned).is_ok(), "{exponent}");
        }
    }

    #[test]
    fn noise_out_of_range_is_refused() {
        for (micro_eps, delta) in [
            (0, 1 << 40),
            (100_000_001, 1 << 40),
            (500_000, 0),
            (500_000, DELTA_ONE),
            (1, 1),
        ] {
            assert!(plan_noise(micro_eps, delta).is_err(), "{micro_eps} {delta}");
        }
    }

    #[test]
    fn exact_counts_are_for_test_networks() {
        let none = |kind| psi_noise(&Noise::None, Computation::Cardinality, kind);
        assert!(none(NetworkKind::Test).is_ok());
        assert!(matches!(
            none(NetworkKind::Live),
            Err(MatchError::Refused { .. })
        ));
        assert!(psi_noise(&Noise::None, Computation::List, NetworkKind::Live).is_ok());
    }

    #[test]
    fn the_spread_is_that_of_two_draws() {
        let params = NoiseParams {
            epsilon_micro: 500_000,
            sensitivity: 1,
            bound: 25,
        };
        let (sd, half) = spread(&params);
        // One draw has a standard deviation of 2.8, two have sqrt(2) times that.
        assert!((sd - 2.8 * 2.0_f64.sqrt()).abs() < 0.1, "{sd}");
        assert!((7..=10).contains(&half), "{half}");
    }
}
