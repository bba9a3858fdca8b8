//! Is a batch or a region scanned twice more often than honest units are? Exact tail probabilities, and a bound on false alarms over
//! many batches.

use crate::Error;

/// Share of honest scanned units with a second visit, in the simulation of the tuning seeds.
///
/// A brand whose customers differ should set its own, from batches that it trusts.
pub const HONEST_DOUBLE_RATE: f64 = 0.027;
/// Terms of a tail that are summed at most; they fall fast enough that a billion units need far fewer.
const MAX_TERMS: u32 = 4_000_000;

/// Units of one batch, region or dealer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Scanned at least once.
    pub scanned: u64,
    /// Of those, with a second visit.
    pub doubled: u64,
}

/// What the statistics say of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// Chance of so many doubles or more if the group is honest.
    pub p_value: f64,
    /// Whether it stands out among all groups that were tested together.
    pub stands_out: bool,
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn real(n: u64) -> f64 {
    n as f64
}

/// Sums `first` and what follows it, each term being the one before times `ratio(step)`, until nothing is added any more.
fn sum(first: f64, ratio: impl Fn(f64) -> f64) -> f64 {
    let (mut term, mut total) = (first, first);
    for step in 0..MAX_TERMS {
        term *= ratio(f64::from(step));
        total += term;
        if term <= total * 1e-17 {
            break;
        }
    }
    total.min(1.0)
}

/// P(X >= k) for X binomial with `n` trials of chance `p`; exact to about ten digits.
///
/// # Errors
/// [`Error::Statistic`] if `k > n` or `p` is not between 0 and 1.
pub fn binomial_tail(n: u64, k: u64, p: f64) -> Result<f64, Error> {
    if k > n {
        return Err(Error::Statistic {
            what: "successes",
            expected: "at most the trials",
        });
    }
    if !(p > 0.0 && p < 1.0) {
        return Err(Error::Statistic {
            what: "chance",
            expected: "more than 0 and less than 1",
        });
    }
    if k == 0 {
        return Ok(1.0);
    }
    let (nn, kk) = (real(n), real(k));
    let point = |x: f64| {
        let ways = libm::lgamma(nn + 1.0) - libm::lgamma(x + 1.0) - libm::lgamma(nn - x + 1.0);
        libm::exp(ways + x * libm::log(p) + (nn - x) * libm::log1p(-p))
    };
    let odds = p / (1.0 - p);
    Ok(if kk > nn * p {
        sum(point(kk), |i| {
            (nn - kk - i).max(0.0) / (kk + i + 1.0) * odds
        })
    } else {
        let low = kk - 1.0;
        1.0 - sum(point(low), |i| {
            (low - i).max(0.0) / (nn - low + i + 1.0) / odds
        })
    })
}

/// P(X >= k) for X Poisson with this mean; exact to about ten digits.
///
/// # Errors
/// [`Error::Statistic`] if the mean is not positive and finite.
pub fn poisson_tail(mean: f64, k: u64) -> Result<f64, Error> {
    if !(mean > 0.0 && mean.is_finite()) {
        return Err(Error::Statistic {
            what: "mean",
            expected: "more than 0",
        });
    }
    if k == 0 {
        return Ok(1.0);
    }
    let kk = real(k);
    let point = |x: f64| libm::exp(x * libm::log(mean) - mean - libm::lgamma(x + 1.0));
    Ok(if kk > mean {
        sum(point(kk), |i| mean / (kk + i + 1.0))
    } else {
        let low = kk - 1.0;
        1.0 - sum(point(low), |i| (low - i).max(0.0) / mean)
    })
}

/// Benjamini and Hochberg (1995): which of these p-values stand out so that of all that do, a share of at most `rate` is expected to
/// be honest. In the order of the input.
#[must_use]
pub fn benjamini_hochberg(p_values: &[f64], rate: f64) -> Vec<bool> {
    let mut sorted: Vec<f64> = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let total = real(sorted.len() as u64);
    let limit = sorted
        .iter()
        .zip(1_u64..)
        .filter(|(p, rank)| **p <= rate * real(*rank) / total)
        .map(|(p, _)| *p)
        .last();
    p_values
        .iter()
        .map(|p| limit.is_some_and(|l| *p <= l))
        .collect()
}

/// Tests groups together: doubled units against the honest rate.
///
/// # Errors
/// [`Error::Statistic`] if a group has more doubles than units, or a rate is not between 0 and 1.
pub fn test_groups(groups: &[Group], honest_rate: f64, rate: f64) -> Result<Vec<Finding>, Error> {
    let p_values = groups
        .iter()
        .map(|g| binomial_tail(g.scanned, g.doubled, honest_rate))
        .collect::<Result<Vec<_>, _>>()?;
    let out = benjamini_hochberg(&p_values, rate);
    Ok(p_values
        .into_iter()
        .zip(out)
        .map(|(p_value, stands_out)| Finding {
            p_value,
            stands_out,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::{Group, benjamini_hochberg, binomial_tail, poisson_tail, test_groups};

    fn close(found: f64, expected: f64) {
        assert!(
            (found / expected - 1.0).abs() < 1e-9,
            "{found} against {expected}"
        );
    }

    /// Term by term, with exact small binomials.
    fn slow(n: u64, k: u64, p: f64) -> f64 {
        (k..=n)
            .map(|x| {
                let ways = (0..x).fold(1.0, |w, i| w * (n - i) as f64 / (i + 1) as f64);
                ways * p.powf(x as f64) * (1.0 - p).powf((n - x) as f64)
            })
            .sum()
    }

    #[test]
    fn binomial_tails() {
        close(binomial_tail(10, 10, 0.5).unwrap(), 1.0 / 1024.0);
        close(binomial_tail(3, 2, 0.5).unwrap(), 0.5);
        for (n, k, p) in [
            (20, 3, 0.05),
            (20, 1, 0.3),
            (50, 40, 0.6),
            (60, 10, 0.4),
            (30, 30, 0.9),
        ] {
            close(binomial_tail(n, k, p).unwrap(), slow(n, k, p));
        }
        close(binomial_tail(7, 0, 0.1).unwrap(), 1.0);
        // Half of a large symmetric one lies above its middle, and half of the middle's own chance.
        let half = binomial_tail(1_000_001, 500_001, 0.5).unwrap();
        assert!((half - 0.5).abs() < 1e-6, "{half}");
        assert!(binomial_tail(2, 3, 0.5).is_err());
        assert!(binomial_tail(2, 1, 0.0).is_err());
        assert!(binomial_tail(2, 1, f64::NAN).is_err());
    }

    #[test]
    fn poisson_tails() {
        close(poisson_tail(1.0, 1).unwrap(), 1.0 - (-1.0_f64).exp());
        close(poisson_tail(0.1, 2).unwrap(), 1.0 - 1.1 * (-0.1_f64).exp());
        close(poisson_tail(5.0, 3).unwrap(), 1.0 - 18.5 * (-5.0_f64).exp());
        assert!(poisson_tail(0.0, 1).is_err());
    }

    #[test]
    fn the_example_of_benjamini_and_hochberg() {
        // The fifteen p-values of section 4.1 of their paper: four are rejected at 0.05.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        let out = benjamini_hochberg(&p, 0.05);
        assert_eq!(out.iter().filter(|x| **x).count(), 4);
        assert!(out[3] && !out[4]);
        assert!(benjamini_hochberg(&[], 0.05).is_empty());
    }

    #[test]
    fn a_copied_batch_stands_out_among_many() {
        let mut groups = vec![
            Group {
                scanned: 1_000,
                doubled: 27
            };
            200
        ];
        groups[77].doubled = 80;
        let found = test_groups(&groups, 0.027, 0.01).unwrap();
        for (i, finding) in found.iter().enumerate() {
            assert_eq!(finding.stands_out, i == 77, "{finding:?}");
        }
    }
}
