//! The agreement's noise, in the terms of the protocol, and what it does to an answer.

use serde::{Deserialize, Serialize};
use tally_contracts::NetworkKind;
use tally_contracts::records::{Computation, Noise};
use tally_contracts::refusal::Refusal;
use tally_psi::NoiseParams;

use super::error::MatchError;
use super::overlap::REGION_SENSITIVITY;

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
    plan(micro_eps, delta, SENSITIVITY)
}

/// The same for the noise of `overlap_n` against the helper.
///
/// # Errors
/// As [`plan_noise`].
pub fn plan_region_noise(micro_eps: u32, delta: u64) -> Result<Noise, MatchError> {
    plan(micro_eps, delta, REGION_SENSITIVITY)
}

fn plan(micro_eps: u32, delta: u64, sensitivity: u32) -> Result<Noise, MatchError> {
    // All of the odds: such a noise would promise nothing.
    if delta >= tally_psi::DELTA_ONE {
        return Err(tally_psi::Error::Noise {
            reason: "delta out of range",
        }
        .into());
    }
    let planned = tally_psi::plan_bound_for(micro_eps, delta, sensitivity)?;
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
    match noise_params(noise, SENSITIVITY)? {
        None if kind == NetworkKind::Test => Ok(tally_psi::Noise::NoneInTestNetwork),
        None => Err(Refusal::Noise { computation }.into()),
        Some(params) => Ok(tally_psi::Noise::Laplace(params)),
    }
}

/// An agreed noise in the terms of the protocol; refused where its bound does not give the agreement's delta.
pub(super) fn noise_params(
    noise: &Noise,
    sensitivity: u32,
) -> Result<Option<NoiseParams>, MatchError> {
    let Noise::Laplace {
        micro_eps,
        delta,
        bound,
    } = *noise
    else {
        return Ok(None);
    };
    let too_large = |_| tally_psi::Error::Noise {
        reason: "epsilon out of range",
    };
    let params = NoiseParams {
        epsilon_micro: u32::try_from(micro_eps).map_err(too_large)?,
        sensitivity,
        bound,
    };
    params.verify()?;
    if params.delta()? > delta {
        return Err(MatchError::decline(
            "noise",
            format!("a noise bound of {bound} costs more than the agreement's delta"),
        ));
    }
    Ok(Some(params))
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
    /// Two truncated discrete Laplace noises on a count of several parties: one of all parties, which hides from the helper what they
    /// share and which they know, and one of the helper.
    Overlap {
        /// Of the helper's noise.
        epsilon: f64,
        /// It lies in [-bound, bound].
        bound: u32,
        /// Of the parties' noise on each set of parties.
        regions_epsilon: f64,
        /// It lies in [-`regions_bound`, `regions_bound`].
        regions_bound: u32,
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
        let (standard_deviation, within_95) = spread(params, params);
        Self::Laplace {
            epsilon: f64::from(params.epsilon_micro) / 1e6,
            bound: params.bound,
            standard_deviation,
            within_95,
        }
    }
}

impl NoiseView {
    /// Of an overlap.
    pub(super) fn overlap(regions: &NoiseParams, published: &NoiseParams) -> Self {
        let (standard_deviation, within_95) = spread(regions, published);
        Self::Overlap {
            epsilon: f64::from(published.epsilon_micro) / 1e6,
            bound: published.bound,
            regions_epsilon: f64::from(regions.epsilon_micro) / 1e6,
            regions_bound: regions.bound,
            standard_deviation,
            within_95,
        }
    }
}

/// Standard deviation and 95% half-width of the sum of a draw of each.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn spread(one: &NoiseParams, other: &NoiseParams) -> (f64, u32) {
    let ln_a = |p: &NoiseParams| -f64::from(p.epsilon_micro) / 1e6 / f64::from(p.sensitivity);
    let range = one.bound.saturating_add(other.bound);
    if one.bound.max(other.bound) > EXACT_BOUND {
        // The variances of discrete Laplace noises; truncation only lowers them.
        let variance = |p: &NoiseParams| {
            let a = ln_a(p).exp();
            2.0 * a / (1.0 - a).powi(2)
        };
        let untruncated = (variance(one) + variance(other)).sqrt();
        let half = (1.96 * untruncated).ceil().min(f64::from(range));
        return (untruncated, half as u32);
    }
    let odds = |p: &NoiseParams| -> Vec<f64> {
        let bound = i64::from(p.bound);
        let weights = (-bound..=bound).map(|z| (ln_a(p) * z.unsigned_abs() as f64).exp());
        let total: f64 = weights.clone().sum();
        weights.map(|w| w / total).collect()
    };
    // Mass of each distance |z1 + z2|.
    let mut distances = vec![0.0; range as usize + 1];
    let (ones, others) = (odds(one), odds(other));
    for (i, x) in ones.iter().enumerate() {
        for (j, y) in others.iter().enumerate() {
            if let Some(d) = distances.get_mut((i + j).abs_diff(range as usize)) {
                *d += x * y;
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
    (variance.sqrt(), half.unwrap_or(range))
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
        let (sd, half) = spread(&params, &params);
        // One draw has a standard deviation of 2.8, two have sqrt(2) times that.
        assert!((sd - 2.8 * 2.0_f64.sqrt()).abs() < 0.1, "{sd}");
        assert!((7..=10).contains(&half), "{half}");
        // Of two different ones the variances add up.
        let wider = NoiseParams {
            epsilon_micro: 250_000,
            bound: 60,
            ..params
        };
        let (both, _) = spread(&params, &wider);
        let (alone, _) = spread(&wider, &wider);
        assert!((both * both - (sd * sd + alone * alone) / 2.0).abs() < 0.01);
    }
}
