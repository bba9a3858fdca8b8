//! What the noise costs, exactly: the delta of a truncated discrete Laplace variable in integer arithmetic, rounded up. No floating
//! point: whether an agreement's noise suffices must come out alike on every machine.

use crate::Error;
use crate::noise::{MAX_BOUND, NoiseParams};

/// A delta of 1, in the units of [`NoiseParams::delta`].
pub const DELTA_ONE: u64 = 1 << 60;

/// 1 as a fixed-point number; numbers are below 4.
const ONE: u128 = 1 << FRACTION;
const FRACTION: u32 = 126;

/// A real number between two fixed-point numbers.
#[derive(Debug, Clone, Copy)]
struct Interval {
    low: u128,
    high: u128,
}

/// Both halves of the product of two 128-bit numbers, the lower one first.
const fn wide_product(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a0, a1, b0, b1) = (a & LOW, a >> 64, b & LOW, b >> 64);
    let (p00, p01, p10, p11) = (a0 * b0, a0 * b1, a1 * b0, a1 * b1);
    let middle = (p00 >> 64) + (p01 & LOW) + (p10 & LOW);
    (
        p00 & LOW | middle << 64,
        p11 + (p01 >> 64) + (p10 >> 64) + (middle >> 64),
    )
}

/// Product of fixed-point numbers up to 1, rounded down.
const fn times(a: u128, b: u128) -> u128 {
    let (low, high) = wide_product(a, b);
    high << (128 - FRACTION) | low >> FRACTION
}

impl Interval {
    const fn exactly(value: u128) -> Self {
        Self {
            low: value,
            high: value,
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            low: times(self.low, other.low),
            high: (times(self.high, other.high) + 1).min(ONE),
        }
    }

    fn power(self, mut exponent: u64) -> Self {
        let (mut base, mut out) = (self, Self::exactly(ONE));
        while exponent > 0 {
            if exponent & 1 == 1 {
                out = out.times(base);
            }
            base = base.times(base);
            exponent >>= 1;
        }
        out
    }

    /// e^(-s/t), for s/t up to 100.
    fn exp_of_minus(s: u64, t: u64) -> Self {
        // s / (t 2^8) is below 1/2, and the series alternates.
        const HALVINGS: u32 = 8;
        let (s, t) = (u128::from(s), u128::from(t) << HALVINGS);
        let mut quotient = 0_u128;
        let mut rest = s % t;
        for _ in 0..FRACTION {
            rest <<= 1;
            quotient = quotient << 1 | u128::from(rest >= t);
            rest %= t;
        }
        let x = Self {
            low: quotient,
            high: quotient + 1,
        };
        let mut term = Self::exactly(ONE);
        let mut sum = term;
        for k in 1_u128.. {
            let next = term.times(x);
            term = Self {
                low: next.low / k,
                high: next.high / k + 1,
            };
            sum = if k % 2 == 1 {
                Self {
                    low: sum.low.saturating_sub(term.high),
                    high: sum.high - term.low,
                }
            } else {
                Self {
                    low: sum.low + term.low,
                    high: sum.high + term.high,
                }
            };
            // What is left out is smaller than the last term.
            if term.low == 0 {
                break;
            }
        }
        let sum = Self {
            low: sum.low.saturating_sub(term.high),
            high: (sum.high + term.high).min(ONE),
        };
        sum.power(1 << HALVINGS)
    }
}

/// a/b for a < b, in units of 2^-60, rounded up.
const fn ratio_up(a: u128, b: u128) -> u64 {
    let (mut rest, mut out) = (a, 0_u64);
    let mut bit = 0;
    while bit < 60 {
        rest <<= 1;
        out <<= 1;
        if rest >= b {
            rest -= b;
            out |= 1;
        }
        bit += 1;
    }
    out + (rest > 0) as u64
}

impl NoiseParams {
    /// The least delta at which one noise gives (epsilon, delta)-differential privacy to whoever changes the count by at most the
    /// sensitivity D, in units of 2^-60, rounded up: at most [`DELTA_ONE`].
    ///
    /// With a = e^(-epsilon/D) and z in [-B, B] with odds in proportion to a^|z|: a shift by d <= D changes odds by at most
    /// a^-D = e^epsilon wherever both are possible, so what remains is where they are not, and the greatest divergence is the mass of
    /// the D outermost values on one side, a^(B-D+1) (1 - a^D) / (1 + a - 2 a^(B+1)).
    ///
    /// What it counts: the counting side sees the responder's noise alone, everybody else both; each by itself costs this. Over k
    /// queries with fresh noise epsilons and deltas add up; the same query over the same sets has the same noise and costs nothing.
    ///
    /// # Errors
    /// [`Error::Noise`] for parameters out of range.
    pub fn delta(&self) -> Result<u64, Error> {
        self.verify()?;
        let bound = u64::from(self.bound);
        let values = 2 * bound + 1;
        let d = u64::from(self.sensitivity);
        if d >= values {
            return Ok(DELTA_ONE);
        }
        let a = Interval::exp_of_minus(self.epsilon_micro.into(), 1_000_000 * d);
        // The mass of the `n` outermost values of one side, n <= B.
        let outermost = |n: u64, up: bool| {
            let (head, taken, far) = (a.power(bound - n + 1), a.power(n), a.power(bound + 1));
            let parts = if up {
                (
                    times(head.high, ONE - taken.low) + 1,
                    (ONE + a.low).saturating_sub(2 * far.high),
                )
            } else {
                (
                    times(head.low, ONE - taken.high),
                    ONE + a.high - 2 * far.low,
                )
            };
            let (mass, all) = parts;
            if mass >= all {
                DELTA_ONE
            } else {
                ratio_up(mass, all)
            }
        };
        Ok(if d <= bound {
            outermost(d, true)
        } else {
            // All but those of the other side; a unit for the other rounding.
            (DELTA_ONE + 1)
                .saturating_sub(outermost(values - d, false))
                .min(DELTA_ONE)
        })
    }
}

/// The least B at which one noise of `epsilon_micro` and `sensitivity` costs at most `delta`, in units of 2^-60.
///
/// # Errors
/// [`Error::Noise`] where no B up to [`MAX_BOUND`] serves, or an argument is out of range.
pub fn plan_bound_for(
    epsilon_micro: u32,
    delta: u64,
    sensitivity: u32,
) -> Result<NoiseParams, Error> {
    let with = |bound| NoiseParams {
        epsilon_micro,
        sensitivity,
        bound,
    };
    // Truncation costs less with each step of the bound.
    let (mut low, mut high) = (1, MAX_BOUND);
    if delta == 0 || with(high).delta()? > delta {
        return Err(Error::Noise {
            reason: "no bound in range reaches that delta",
        });
    }
    while low < high {
        let middle = u32::midpoint(low, high);
        if with(middle).delta()? <= delta {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(with(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(epsilon_micro: u32, sensitivity: u32, bound: u32) -> NoiseParams {
        NoiseParams {
            epsilon_micro,
            sensitivity,
            bound,
        }
    }

    fn float(units: u64) -> f64 {
        units as f64 / DELTA_ONE as f64
    }

    /// The greatest divergence over all shifts either way, value by value: sum of max(0, p(z) - e^epsilon p(z - d)).
    fn divergence(p: &NoiseParams) -> f64 {
        let epsilon = f64::from(p.epsilon_micro) / 1e6;
        let b = i64::from(p.bound);
        let weight = |z: i64| {
            if z.abs() > b {
                0.0
            } else {
                (-epsilon / f64::from(p.sensitivity) * z.abs() as f64).exp()
            }
        };
        let all: f64 = (-b..=b).map(weight).sum();
        let d = i64::from(p.sensitivity);
        (-d..=d)
            .map(|shift| {
                (-b - d..=b + d)
                    .map(|z| {
                        let (here, there) = (weight(z) / all, weight(z - shift) / all);
                        // Rounding must not count as divergence where both are possible.
                        let gap = here - epsilon.exp() * there;
                        if gap > 1e-12 * here { gap } else { 0.0 }
                    })
                    .sum::<f64>()
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn delta_is_the_divergence_computed_value_by_value() {
        for (epsilon_micro, sensitivity, bound) in [
            (500_000, 1, 1),
            (500_000, 1, 2),
            (500_000, 1, 25),
            (500_000, 7, 178),
            (500_000, 10, 254),
            (300_000, 2, 5),
            (1_000_000, 3, 3),
            (1_000_000, 3, 2),
            (1_000_000, 4, 2),
            (1_000_000, 5, 2),
            (1_000_000, 6, 2),
            (100_000, 20, 40),
            (2_500_000, 1, 9),
            (10_000_000, 2, 3),
            (1, 1, 4),
            (1, 1_000, 700),
        ] {
            let p = params(epsilon_micro, sensitivity, bound);
            let (exact, brute) = (float(p.delta().unwrap()), divergence(&p));
            assert!(
                (exact - brute).abs() < 1e-12 + 1e-9 * brute,
                "{p:?}: {exact} against {brute}"
            );
        }
    }

    #[test]
    fn it_rounds_up_by_less_than_two_units() {
        // a = e^-100: the mass of one of three values is a / (1 + 2a), 3.7e-44: less than a unit, and never 0.
        assert_eq!(params(100_000_000, 1, 1).delta().unwrap(), 1);
        assert_eq!(params(500_000, 3, 1).delta().unwrap(), DELTA_ONE);
        // Without any slope all values are alike, nearly: 1 of 9, 700 of 1,401.
        for (p, parts, of) in [
            (params(1, 1, 4), 1, 9),
            (params(1, 1 << 20, 1 << 20), 1 << 20, (1 << 21) + 1),
        ] {
            let delta = p.delta().unwrap();
            assert!((float(delta) - f64::from(parts) / f64::from(of)).abs() < 1e-5);
        }
        assert!(params(0, 1, 1).delta().is_err());
        assert!(params(1, 1, 0).delta().is_err());
    }

    #[test]
    fn exponentials_are_narrow_and_right() {
        for (s, t) in [
            (1, 2),
            (1, 1),
            (100, 1),
            (1, 1 << 40),
            (693_147, 1_000_000),
            (77, 3),
        ] {
            let e = Interval::exp_of_minus(s, t);
            assert!(e.low <= e.high && e.high - e.low < 1 << 20, "{s}/{t}");
            let float = e.low as f64 / ONE as f64;
            let expected = (-(s as f64) / t as f64).exp();
            assert!(
                (float - expected).abs() < 1e-14 * expected + 1e-30,
                "{s}/{t}: {float}"
            );
        }
        // 38 digits of e^-1/2: 0.60653065971263342360379953499118045344.
        let e = Interval::exp_of_minus(1, 2);
        let digits = 60_653_065_971_263_342_360_379_953_499_118_045_344_u128;
        let ten = 10_u128.pow(38);
        // low * 10^38 <= digits * 2^126 + rounding <= high * 10^38, compared in 256 bits.
        let wide = |a, b| {
            let (low, high) = wide_product(a, b);
            (high, low)
        };
        assert!(wide(e.low, ten) <= wide(digits + 1, ONE));
        assert!(wide(e.high, ten) >= wide(digits - 1, ONE));
    }

    #[test]
    fn wide_products_are_right() {
        assert_eq!(wide_product(u128::MAX, u128::MAX), (1, u128::MAX - 1));
        assert_eq!(wide_product(1 << 100, 1 << 100), (0, 1 << 72));
        assert_eq!(wide_product(12_345, 67_890), (838_102_050, 0));
        assert_eq!(ratio_up(1, 2), DELTA_ONE / 2);
        assert_eq!(ratio_up(1, 3), DELTA_ONE / 3 + 1);
    }

    #[test]
    fn a_planned_bound_is_the_least() {
        for (epsilon, delta, sensitivity) in [
            (500_000, DELTA_ONE / 1_000_000, 1),
            (500_000, 1 << 20, 7),
            (2_000_000, 1, 3),
        ] {
            let p = plan_bound_for(epsilon, delta, sensitivity).unwrap();
            assert!(p.delta().unwrap() <= delta);
            let less = params(epsilon, sensitivity, p.bound - 1);
            assert!(less.delta().unwrap() > delta);
        }
        assert!(plan_bound_for(500_000, 0, 1).is_err());
        assert!(plan_bound_for(1, 1, 1 << 20).is_err());
    }
}
