//! The terms of `join_sum` in an agreement: what is summed by which labels, within which bounds, under which noise. Integers
//! throughout. The label side is fixed: it asks, and the other side has the values.

use std::fmt;
use std::str::FromStr;

use super::{BudgetCap, DELTA_ONE};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::ids::MemberId;
use crate::refusal::Refusal;

/// Most labels, beside [`OTHER_LABEL`].
pub const MAX_SUM_LABELS: usize = 255;
/// Longest name of a label, in bytes.
pub const MAX_LABEL_NAME: usize = 64;
/// The label of what the agreement does not name and of what too few people have; always there, never named.
pub const OTHER_LABEL: &str = "other";
/// Longest window, in seconds: 90 days.
pub const MAX_WINDOW_S: u32 = 90 * 86_400;
/// Most touches that share a conversion: lcm(1..=7) is 420.
pub const MAX_LINEAR_TOUCHES: u8 = 7;
/// Every sum with its noises, in minor units times the unit of weights, stays below this.
pub const SUM_RANGE: u64 = 1 << 40;
/// Most rows of one side, dummies and fillers included.
pub const MAX_SUM_ROWS: u64 = 1 << 30;
/// Largest epsilon, in millionths.
const MAX_MICRO_EPS: u32 = 100_000_000;
/// Most groups (labels times weights).
const MAX_GROUPS: u64 = 1 << 13;
/// Largest bound of the noise of matches.
const MAX_MATCH_BOUND: u32 = 1 << 20;
/// ln 2 in millionths, rounded up.
const LN2_MICRO: u128 = 693_148;

/// Which touches share a conversion. As text `first`, `last_touch`, `linear:N`; `linear` alone is read as `linear:7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumModel {
    /// The earliest eligible touch. Code 1.
    First,
    /// The latest eligible click; without one, the latest eligible view. Code 2.
    LastTouch,
    /// The latest eligible touches, an equal share each. Code 3.
    Linear {
        /// At most so many: 1 to [`MAX_LINEAR_TOUCHES`].
        touches: u8,
    },
}

impl SumModel {
    /// Most touches that share one conversion: the slots of a key.
    #[must_use]
    pub const fn slots(self) -> u32 {
        match self {
            Self::First | Self::LastTouch => 1,
            Self::Linear { touches } => touches as u32,
        }
    }

    /// What weights are counted in: lcm(1..=slots).
    #[must_use]
    pub fn unit(self) -> u32 {
        // At most 420 in an agreement; what would not fit is no model of any.
        (2..=self.slots()).fold(1_u32, |lcm, n| (lcm / gcd(lcm, n)).saturating_mul(n))
    }

    /// The weights that a label can have over [`Self::unit`], ascending.
    #[must_use]
    pub fn weights(self) -> Vec<u32> {
        let unit = self.unit();
        let mut weights: Vec<u32> = (1..=self.slots())
            .flat_map(|n| (1..=n).map(move |k| unit / n * k))
            .collect();
        weights.sort_unstable();
        weights.dedup();
        weights
    }
}

const fn gcd(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl fmt::Display for SumModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::LastTouch => f.write_str("last_touch"),
            Self::Linear { touches } => write!(f, "linear:{touches}"),
        }
    }
}

/// Text that names no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no model; expected first, last_touch, or linear:N with N from 1 to 7")]
pub struct ParseModelError {
    /// The text.
    pub found: String,
}

impl FromStr for SumModel {
    type Err = ParseModelError;

    fn from_str(text: &str) -> Result<Self, ParseModelError> {
        let linear = |n: &str| {
            n.parse()
                .ok()
                .filter(|n| (1..=MAX_LINEAR_TOUCHES).contains(n))
        };
        match text {
            "first" => Some(Self::First),
            "last_touch" => Some(Self::LastTouch),
            "linear" => Some(Self::Linear {
                touches: MAX_LINEAR_TOUCHES,
            }),
            other => other
                .strip_prefix("linear:")
                .and_then(linear)
                .map(|touches| Self::Linear { touches }),
        }
        .ok_or_else(|| ParseModelError {
            found: text.chars().take(48).collect(),
        })
    }
}

/// One label of an agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumLabel {
    /// The channel or campaign, 1 to [`MAX_LABEL_NAME`] bytes, not [`OTHER_LABEL`].
    pub name: String,
    /// How many people it must have; one that has fewer goes to [`OTHER_LABEL`].
    pub minimum_people: u32,
}

/// The noise of `join_sum`. One byte 0; or 1, both epsilons u32, N u8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumNoise {
    /// None: exact sums, in test networks alone.
    None,
    /// Discrete Laplace noises: two on every sum, one of each side; one on every number of matches, which the label side sees.
    Laplace {
        /// Epsilon of the sums of all labels together, in millionths; 1 to 100,000,000. Charged to both owners.
        sums_micro_eps: u32,
        /// Epsilon of the numbers of matches of all groups together, likewise. Charged to the value side besides: its people are
        /// counted.
        matches_micro_eps: u32,
        /// Cutting each of the two noises costs a delta of at most 2^-this; 1 to 59.
        delta_exp: u8,
    },
}

/// What `join_sum` computes under an agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinSumTerms {
    /// The party that has the labels and asks.
    pub label_side: MemberId,
    /// How credit is given.
    pub model: SumModel,
    /// How long after a click a conversion may come, in seconds; 1 to [`MAX_WINDOW_S`].
    pub click_window_s: u32,
    /// The same for a view.
    pub view_window_s: u32,
    /// The labels, ascending by name; at most [`MAX_SUM_LABELS`].
    pub labels: Vec<SumLabel>,
    /// U: a conversion of a larger value counts as this, in minor units of the currency; at least 1.
    pub value_cap: u64,
    /// Conversions of one person that count, the first by time; at least 1.
    pub conversions_per_person: u32,
    /// Most conversions of the value side, its padding included; at least 1.
    pub max_conversions: u64,
    /// Most keys of the label side, its padding included and the pool's dummies not; at least 1.
    pub max_keys: u64,
    /// The noise.
    pub noise: SumNoise,
}

/// The least B so that cutting a discrete Laplace of this sensitivity D at B costs at most 2^-`delta_exp`: from
/// e^(-epsilon (B - D + 1) / D) <= 2^-`delta_exp`, which bounds the mass of the D outermost values from B = D on. `None` past
/// 2^64 - 1.
fn noise_bound(sensitivity: u64, micro_eps: u32, delta_exp: u8) -> Option<u64> {
    let eps = u128::from(micro_eps.max(1));
    let scaled = u128::from(sensitivity) * (eps + u128::from(delta_exp) * LN2_MICRO);
    u64::try_from(scaled.div_ceil(eps) + 1).ok()
}

impl JoinSumTerms {
    /// How many labels there are, [`OTHER_LABEL`] included.
    #[must_use]
    pub const fn label_count(&self) -> usize {
        self.labels.len() + 1
    }

    /// The name of a label; number 0 is [`OTHER_LABEL`].
    #[must_use]
    pub fn label(&self, number: usize) -> Option<&str> {
        match number.checked_sub(1) {
            None => Some(OTHER_LABEL),
            Some(at) => self.labels.get(at).map(|l| l.name.as_str()),
        }
    }

    /// Keys of one conversion: one for each level of time and slot. Levels are 0 to floor(log2(the longer window)).
    #[must_use]
    pub fn rows_per_conversion(&self) -> u32 {
        let longest = self.click_window_s.max(self.view_window_s).max(1);
        (longest.ilog2() + 1) * self.model.slots()
    }

    /// What one person can add to the sums of all labels together, in minor units times the unit.
    #[must_use]
    pub fn sum_sensitivity(&self) -> Option<u64> {
        self.value_cap
            .checked_mul(self.model.unit().into())?
            .checked_mul(self.conversions_per_person.into())
    }

    /// D: what one person can add to the numbers of matches of all groups together.
    #[must_use]
    pub const fn match_sensitivity(&self) -> Option<u32> {
        self.conversions_per_person.checked_mul(self.model.slots())
    }

    /// O: where each noise of a sum is cut; 0 without noise, `None` where it does not fit.
    #[must_use]
    pub fn sum_bound(&self) -> Option<u64> {
        match self.noise {
            SumNoise::None => Some(0),
            SumNoise::Laplace {
                sums_micro_eps,
                delta_exp,
                ..
            } => noise_bound(self.sum_sensitivity()?, sums_micro_eps, delta_exp),
        }
    }

    /// B: half the pool of each group; 0 without noise, `None` where it does not fit.
    #[must_use]
    pub fn match_bound(&self) -> Option<u32> {
        match self.noise {
            SumNoise::None => Some(0),
            SumNoise::Laplace {
                matches_micro_eps,
                delta_exp,
                ..
            } => {
                let sensitivity = self.match_sensitivity()?.into();
                let bound = noise_bound(sensitivity, matches_micro_eps, delta_exp)?;
                u32::try_from(bound).ok().filter(|b| *b <= MAX_MATCH_BOUND)
            }
        }
    }

    /// What a match costs: each owner for the sums, and the value side besides for the numbers of matches.
    #[must_use]
    pub fn charges(&self) -> [BudgetCap; 2] {
        match self.noise {
            SumNoise::None => [BudgetCap::default(); 2],
            SumNoise::Laplace {
                sums_micro_eps,
                matches_micro_eps,
                delta_exp,
            } => {
                let delta = DELTA_ONE >> delta_exp.min(60);
                [sums_micro_eps, matches_micro_eps].map(|eps| BudgetCap {
                    // eps^2 / 2, rounded up; at most 5 * 10^9.
                    micro_rho: (u64::from(eps) * u64::from(eps)).div_ceil(2_000_000),
                    delta,
                })
            }
        }
    }

    /// Refuses terms under which a sum could leave its range, or that could never be used.
    pub(crate) fn verify(&self) -> Result<(), Refusal> {
        let refuse = |what, found: u64, expected| {
            Err(Refusal::Terms {
                what,
                found,
                expected,
            })
        };
        let groups = self.label_count() as u64 * self.model.weights().len() as u64;
        if groups > MAX_GROUPS {
            return refuse("labels times weights", groups, "at most 8192");
        }
        for (what, found) in [
            ("value cap", self.value_cap),
            (
                "conversions of a person",
                self.conversions_per_person.into(),
            ),
            ("most conversions", self.max_conversions),
            ("most keys", self.max_keys),
        ] {
            if found == 0 {
                return refuse(what, found, "at least 1");
            }
        }
        // What does not fit an integer is out of range all the more.
        let bound = self.sum_bound().unwrap_or(u64::MAX);
        let largest = u128::from(self.max_conversions)
            .saturating_mul(self.value_cap.into())
            .saturating_mul(self.model.unit().into())
            .saturating_add(2 * u128::from(bound));
        if largest >= SUM_RANGE.into() {
            return refuse(
                "largest sum (conversions times value cap times unit, and twice the noise)",
                u64::try_from(largest).unwrap_or(u64::MAX),
                "less than 2^40",
            );
        }
        let Some(match_bound) = self.match_bound() else {
            return refuse(
                "noise of matches",
                u64::MAX,
                "a bound of at most 2^20: fewer conversions a person, or a larger epsilon",
            );
        };
        let pool = u64::from(match_bound)
            .saturating_mul(2)
            .saturating_mul(groups);
        let brought = self
            .max_conversions
            .saturating_mul(self.rows_per_conversion().into());
        for (what, rows) in [
            ("rows of the labels", self.max_keys),
            ("rows of the values", brought),
        ] {
            let rows = rows.saturating_add(pool);
            if rows > MAX_SUM_ROWS {
                return refuse(what, rows, "at most 2^30");
            }
        }
        Ok(())
    }
}

/// A number in a range, both ends included.
fn ranged(what: &'static str, found: u32, min: u32, max: u32) -> Result<u32, CodecError> {
    if (min..=max).contains(&found) {
        Ok(found)
    } else {
        Err(CodecError::Invalid {
            what,
            found: found.into(),
        })
    }
}

impl Canonical for SumModel {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::First => w.u8(1),
            Self::LastTouch => w.u8(2),
            Self::Linear { touches } => w.u8(3).u8(*touches),
        };
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match r.u8("model")? {
            1 => Ok(Self::First),
            2 => Ok(Self::LastTouch),
            3 => match r.u8("touches")? {
                touches @ 1..=MAX_LINEAR_TOUCHES => Ok(Self::Linear { touches }),
                found => Err(CodecError::Invalid {
                    what: "touches",
                    found: found.into(),
                }),
            },
            found => Err(CodecError::Invalid {
                what: "model",
                found: found.into(),
            }),
        }
    }
}

impl Canonical for SumNoise {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::None => w.u8(0),
            Self::Laplace {
                sums_micro_eps,
                matches_micro_eps,
                delta_exp,
            } => w
                .u8(1)
                .u32(*sums_micro_eps)
                .u32(*matches_micro_eps)
                .u8(*delta_exp),
        };
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match r.u8("noise of sums")? {
            0 => Ok(Self::None),
            1 => {
                let sums = r.u32("epsilon of sums")?;
                let matches = r.u32("epsilon of matches")?;
                let delta_exp = r.u8("delta's exponent")?;
                ranged("delta's exponent", delta_exp.into(), 1, 59)?;
                Ok(Self::Laplace {
                    sums_micro_eps: ranged("epsilon of sums", sums, 1, MAX_MICRO_EPS)?,
                    matches_micro_eps: ranged("epsilon of matches", matches, 1, MAX_MICRO_EPS)?,
                    delta_exp,
                })
            }
            found => Err(CodecError::Invalid {
                what: "noise of sums",
                found: found.into(),
            }),
        }
    }
}

impl Canonical for SumLabel {
    fn write(&self, w: &mut Writer) {
        w.text(&self.name).u32(self.minimum_people);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let name = super::product::non_empty(r, "label", MAX_LABEL_NAME)?;
        if name == OTHER_LABEL {
            return Err(CodecError::Invalid {
                what: "label with the name of the one that is always there",
                found: 0,
            });
        }
        Ok(Self {
            name,
            minimum_people: r.u32("minimum of people")?,
        })
    }
}

impl Canonical for JoinSumTerms {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.label_side.0);
        self.model.write(w);
        w.u32(self.click_window_s)
            .u32(self.view_window_s)
            .list(&self.labels, |w, l| l.write(w))
            .u64(self.value_cap)
            .u32(self.conversions_per_person)
            .u64(self.max_conversions)
            .u64(self.max_keys);
        self.noise.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let label_side = MemberId(r.array("label side")?);
        let model = SumModel::read(r)?;
        let click_window_s = ranged("click window", r.u32("click window")?, 1, MAX_WINDOW_S)?;
        let view_window_s = ranged("view window", r.u32("view window")?, 1, MAX_WINDOW_S)?;
        let labels = r.list("labels", MAX_SUM_LABELS, SumLabel::read)?;
        if !labels.is_sorted_by(|a, b| a.name < b.name) {
            return Err(CodecError::Invalid {
                what: "order of labels",
                found: labels.len() as u64,
            });
        }
        Ok(Self {
            label_side,
            model,
            click_window_s,
            view_window_s,
            labels,
            value_cap: r.u64("value cap")?,
            conversions_per_person: r.u32("conversions of a person")?,
            max_conversions: r.u64("most conversions")?,
            max_keys: r.u64("most keys")?,
            noise: SumNoise::read(r)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> JoinSumTerms {
        JoinSumTerms {
            label_side: MemberId([3; 16]),
            model: SumModel::LastTouch,
            click_window_s: 7 * 86_400,
            view_window_s: 86_400,
            labels: ["eta", "iota"]
                .map(|name| SumLabel {
                    name: name.into(),
                    minimum_people: 50,
                })
                .to_vec(),
            value_cap: 200_000,
            conversions_per_person: 1,
            max_conversions: 8_192,
            max_keys: 1 << 20,
            noise: SumNoise::Laplace {
                sums_micro_eps: 500_000,
                matches_micro_eps: 300_000,
                delta_exp: 20,
            },
        }
    }

    fn bad(change: impl Fn(&mut JoinSumTerms)) -> &'static str {
        let mut terms = terms();
        change(&mut terms);
        match terms.verify() {
            Err(Refusal::Terms { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_range_is_kept_exactly() {
        assert_eq!(terms().verify(), Ok(()));
        // n * U * unit + 2 * O against 2^40, to the unit.
        let bound = terms().sum_bound().unwrap();
        let room = (SUM_RANGE - 1 - 2 * bound) / 200_000;
        let mut most = terms();
        most.max_conversions = room;
        most.max_keys = 1;
        // The rows are bounded too.
        assert!(room * 20 + u64::from(most.match_bound().unwrap()) * 6 < MAX_SUM_ROWS);
        assert_eq!(most.verify(), Ok(()));
        assert!(bad(|t| t.max_conversions = room + 1).starts_with("largest sum"));
        assert!(bad(|t| t.value_cap = u64::MAX).starts_with("largest sum"));
        assert!(bad(|t| t.max_conversions = u64::MAX).starts_with("largest sum"));
        // In weights over 420 there is room for 420 times fewer.
        let linear = |t: &mut JoinSumTerms| t.model = SumModel::Linear { touches: 7 };
        let mut fits = terms();
        linear(&mut fits);
        assert_eq!(fits.verify(), Ok(()));
        assert!(bad(|t| (linear(t), t.max_conversions = room).0).starts_with("largest sum"));
        assert_eq!(bad(|t| t.max_keys = MAX_SUM_ROWS), "rows of the labels");
        assert_eq!(bad(|t| t.max_keys = 0), "most keys");
        assert_eq!(
            bad(|t| t.conversions_per_person = 0),
            "conversions of a person"
        );
    }

    #[test]
    fn bounds_follow_from_sensitivity_epsilon_and_delta() {
        // D (1 + 20 ln 2 / 0.5) + 1, rounded up.
        assert_eq!(noise_bound(1, 500_000, 20), Some(30));
        let mass = |bound: u64, d: u64, eps: f64| {
            // Mass of the D outermost values on one side.
            let a = (-eps / d as f64).exp();
            let total = 1.0 + 2.0 * (1..=bound).map(|z| a.powf(z as f64)).sum::<f64>();
            (bound - d + 1..=bound)
                .map(|z| a.powf(z as f64))
                .sum::<f64>()
                / total
        };
        for (d, micro_eps, exp) in [
            (1, 500_000, 20),
            (7, 300_000, 30),
            (40, 2_000_000, 10),
            (3, 1_000, 5),
        ] {
            let bound = noise_bound(d, micro_eps, exp).unwrap();
            let delta = 2_f64.powi(-i32::from(exp));
            let eps = f64::from(micro_eps) / 1e6;
            assert!(mass(bound, d, eps) <= delta, "{d} {micro_eps} {exp}");
        }
        assert_eq!(noise_bound(u64::MAX, 1, 59), None);
    }

    #[test]
    fn the_value_side_is_charged_for_the_matches_besides() {
        let [sums, matches] = terms().charges();
        assert_eq!((sums.micro_rho, matches.micro_rho), (125_000, 45_000));
        assert_eq!((sums.delta, matches.delta), (1 << 40, 1 << 40));
        let mut exact = terms();
        exact.noise = SumNoise::None;
        assert_eq!(exact.charges(), [BudgetCap::default(); 2]);
        assert_eq!(exact.sum_bound(), Some(0));
    }

    #[test]
    fn models_have_their_weights() {
        let linear = |touches| SumModel::Linear { touches };
        assert_eq!((linear(7).unit(), linear(7).weights().len()), (420, 18));
        assert_eq!((linear(1).unit(), linear(1).weights()), (1, vec![1]));
        assert_eq!(linear(3).weights(), [2, 3, 4, 6]);
        for text in ["first", "last_touch", "linear:1", "linear:7"] {
            assert_eq!(text.parse::<SumModel>().unwrap().to_string(), text);
        }
        assert_eq!("linear".parse(), Ok(linear(7)));
        for text in ["linear:", "linear:0", "linear:8", "last", ""] {
            assert!(text.parse::<SumModel>().is_err());
        }
    }

    #[test]
    fn terms_come_back_and_wrong_ones_do_not() {
        let good = terms();
        assert_eq!(JoinSumTerms::from_bytes(&good.to_bytes()), Ok(good.clone()));
        for change in [
            (|t: &mut JoinSumTerms| t.labels.reverse()) as fn(&mut JoinSumTerms),
            |t| t.labels[0].name = "other".into(),
            |t| t.labels[0].name = String::new(),
            |t| t.labels[1].name = "eta".into(),
            |t| t.click_window_s = 0,
            |t| t.view_window_s = MAX_WINDOW_S + 1,
            |t| t.model = SumModel::Linear { touches: 8 },
            |t| {
                t.noise = SumNoise::Laplace {
                    sums_micro_eps: 0,
                    matches_micro_eps: 1,
                    delta_exp: 20,
                };
            },
            |t| {
                t.noise = SumNoise::Laplace {
                    sums_micro_eps: 1,
                    matches_micro_eps: 1,
                    delta_exp: 60,
                };
            },
        ] {
            let mut wrong = good.clone();
            change(&mut wrong);
            assert!(JoinSumTerms::from_bytes(&wrong.to_bytes()).is_err());
        }
    }
}
