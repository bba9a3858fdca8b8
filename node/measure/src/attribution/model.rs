//! The models: which touches share a conversion's credit, and by which weights.

use std::str::FromStr;

use super::{Touch, TouchKind};
use crate::Error;

/// Most touches that share a conversion in [`Model::Linear`]: lcm(1..=7) is 420.
pub const MAX_LINEAR_TOUCHES: u8 = 7;
/// Longest window: 90 days.
const MAX_WINDOW_S: u32 = 90 * 86_400;

/// How long after a touch a conversion may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    click_s: u32,
    view_s: u32,
}

impl Windows {
    /// Windows in seconds.
    ///
    /// # Errors
    /// [`Error::Window`] unless both are from 1 second to 90 days.
    pub const fn new(click_s: u32, view_s: u32) -> Result<Self, Error> {
        let mut found = click_s;
        if click_s != 0 && click_s <= MAX_WINDOW_S {
            found = view_s;
            if view_s != 0 && view_s <= MAX_WINDOW_S {
                return Ok(Self { click_s, view_s });
            }
        }
        Err(Error::Window {
            found,
            max: MAX_WINDOW_S,
        })
    }

    /// Days: 7 for a click, 1 for a view.
    #[must_use]
    pub const fn click_7_view_1() -> Self {
        Self {
            click_s: 7 * 86_400,
            view_s: 86_400,
        }
    }

    /// The window of a touch, in seconds.
    #[must_use]
    pub const fn of(&self, kind: TouchKind) -> u64 {
        match kind {
            TouchKind::Click => self.click_s as u64,
            TouchKind::View => self.view_s as u64,
        }
    }

    /// The longer one, in seconds.
    #[must_use]
    pub const fn longest(&self) -> u64 {
        if self.click_s > self.view_s {
            self.click_s as u64
        } else {
            self.view_s as u64
        }
    }

    /// Largest level of a dyadic interval: the longest that fits the longer window. 19 for 7 days.
    #[must_use]
    pub fn max_level(&self) -> u8 {
        // At most 22, for 90 days.
        u8::try_from(self.longest().ilog2()).unwrap_or(22)
    }
}

/// An attribution model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// The earliest eligible touch.
    First,
    /// The latest eligible click; without one, the latest eligible view.
    LastTouch,
    /// The latest eligible touches, at most so many, an equal share each. Who has more of them is credited for the latest.
    Linear {
        /// From 1. Up to [`MAX_LINEAR_TOUCHES`] for a private join; more for the plain reference alone.
        touches: u8,
    },
}

/// The part of a conversion that one label gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// The label.
    pub label: u16,
    /// Its weight over [`Model::unit`].
    pub weight: u32,
}

/// All shares of a conversion: one for each label, by label; their weights add up to [`Model::unit`]. Empty if nothing is
/// eligible.
pub type Credit = Vec<Share>;

impl Model {
    /// What weights are counted in: the weights of one conversion add up to this. 1 where one touch takes all, 420 for linear
    /// over up to 7 touches.
    ///
    /// # Errors
    /// [`Error::Model`] for a linear model over no touches, or over more than 22.
    pub fn unit(&self) -> Result<u32, Error> {
        match *self {
            Self::First | Self::LastTouch => Ok(1),
            Self::Linear { touches: 0 } => Err(Error::Model { touches: 0 }),
            Self::Linear { touches } => (2..=u32::from(touches))
                .try_fold(1_u32, |lcm, n| lcm.checked_mul(n / gcd(lcm, n)))
                .ok_or(Error::Model { touches }),
        }
    }

    /// The weights that a label can have, ascending: the weight classes of the private join.
    ///
    /// # Errors
    /// [`Error::Model`].
    pub fn classes(&self) -> Result<Vec<u32>, Error> {
        let unit = self.unit()?;
        let most = match *self {
            Self::First | Self::LastTouch => 1,
            Self::Linear { touches } => u32::from(touches),
        };
        let mut classes: Vec<u32> = (1..=most)
            .flat_map(|n| (1..=n).map(move |k| unit / n * k))
            .collect();
        classes.sort_unstable();
        classes.dedup();
        Ok(classes)
    }

    /// Most labels that share one conversion, and so the slots of a key.
    #[must_use]
    pub const fn slots(&self) -> u8 {
        match *self {
            Self::First | Self::LastTouch => 1,
            Self::Linear { touches } => touches,
        }
    }

    /// The credit for a conversion at `t` of somebody with these touches, ordered by time.
    ///
    /// # Errors
    /// [`Error::Model`].
    pub fn credit(&self, touches: &[Touch], t: u64, windows: &Windows) -> Result<Credit, Error> {
        let unit = self.unit()?;
        // Before `t`, and not so long before that no window reaches.
        let from = touches.partition_point(|x| x.at.saturating_add(windows.longest()) < t);
        let to = touches.partition_point(|x| x.at < t);
        let candidates = touches.get(from..to).unwrap_or_default();
        let mut eligible = candidates
            .iter()
            .filter(|x| t <= x.at.saturating_add(windows.of(x.kind)));
        let one = |touch: Option<&Touch>| {
            touch.map_or_else(Vec::new, |x| {
                vec![Share {
                    label: x.label,
                    weight: unit,
                }]
            })
        };
        Ok(match *self {
            Self::First => one(eligible.next()),
            Self::LastTouch => {
                let mut view = None;
                let click = eligible.rfind(|x| match x.kind {
                    TouchKind::Click => true,
                    TouchKind::View => {
                        view = view.or(Some(**x));
                        false
                    }
                });
                one(click.or(view.as_ref()))
            }
            Self::Linear { touches } => {
                let mut labels: Vec<u16> = eligible
                    .rev()
                    .take(touches.into())
                    .map(|x| x.label)
                    .collect();
                let n = u32::try_from(labels.len()).unwrap_or(u32::MAX).max(1);
                labels.sort_unstable();
                labels
                    .chunk_by(|a, b| a == b)
                    .filter_map(|same| {
                        Some(Share {
                            label: *same.first()?,
                            weight: unit / n * u32::try_from(same.len()).ok()?,
                        })
                    })
                    .collect()
            }
        })
    }

    /// The name on the command line and in results.
    #[must_use]
    pub fn name(&self) -> String {
        match *self {
            Self::First => "first".into(),
            Self::LastTouch => "last_touch".into(),
            Self::Linear { touches } if touches == MAX_LINEAR_TOUCHES => "linear".into(),
            Self::Linear { touches } => format!("linear:{touches}"),
        }
    }
}

impl FromStr for Model {
    type Err = Error;

    /// `first`, `last_touch`, `linear` (over up to 7 touches), `linear:N` (over up to N).
    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "first" => Ok(Self::First),
            "last_touch" => Ok(Self::LastTouch),
            "linear" => Ok(Self::Linear {
                touches: MAX_LINEAR_TOUCHES,
            }),
            other => match other.strip_prefix("linear:").and_then(|n| n.parse().ok()) {
                Some(touches @ 1..=MAX_LINEAR_TOUCHES) => Ok(Self::Linear { touches }),
                Some(touches) => Err(Error::Model { touches }),
                None => Err(Error::ModelName),
            },
        }
    }
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(at: u64, label: u16, click: bool) -> Touch {
        Touch {
            at,
            label,
            kind: if click {
                TouchKind::Click
            } else {
                TouchKind::View
            },
        }
    }

    const LINEAR: Model = Model::Linear { touches: 7 };

    fn credit(model: Model, touches: &[Touch], t: u64) -> Vec<(u16, u32)> {
        let windows = Windows::new(100, 10).unwrap();
        let credit = model.credit(touches, t, &windows).unwrap();
        credit.iter().map(|s| (s.label, s.weight)).collect()
    }

    #[test]
    fn window_edges_are_as_stated() {
        for model in [Model::First, Model::LastTouch, LINEAR] {
            let unit = model.unit().unwrap();
            for (click, last) in [(true, 1100), (false, 1010)] {
                let touches = [touch(1000, 3, click)];
                for (t, hit) in [
                    (999, false),
                    (1000, false),
                    (1001, true),
                    (last, true),
                    (last + 1, false),
                ] {
                    let expected = if hit { vec![(3, unit)] } else { vec![] };
                    assert_eq!(credit(model, &touches, t), expected);
                }
            }
        }
    }

    #[test]
    fn any_click_beats_any_view_and_the_latest_wins() {
        let touches = [
            touch(1000, 1, true),
            touch(1050, 2, true),
            touch(1095, 3, false),
            touch(1096, 4, false),
        ];
        assert_eq!(credit(Model::LastTouch, &touches, 1100), [(2, 1)]);
        assert_eq!(credit(Model::First, &touches, 1100), [(1, 1)]);
        assert_eq!(credit(Model::First, &touches, 1101), [(2, 1)]);
        // Both clicks are out of their window, the views are not.
        let views = [
            touch(1000, 1, true),
            touch(1195, 3, false),
            touch(1196, 4, false),
        ];
        assert_eq!(credit(Model::LastTouch, &views, 1200), [(4, 1)]);
    }

    #[test]
    fn ties_go_by_place() {
        let touches = [touch(1000, 7, true), touch(1000, 5, true)];
        assert_eq!(credit(Model::First, &touches, 1001), [(7, 1)]);
        assert_eq!(credit(Model::LastTouch, &touches, 1001), [(5, 1)]);
        assert_eq!(credit(LINEAR, &touches, 1001), [(5, 210), (7, 210)]);
    }

    #[test]
    fn linear_shares_by_touch_and_ends_at_its_bound() {
        let touches: Vec<_> = (0..9)
            .map(|i| touch(1000 + i, u16::try_from(i % 2).unwrap(), true))
            .collect();
        // Of nine, the latest seven: labels 0 and 1 by turns, from label 0 on.
        assert_eq!(credit(LINEAR, &touches, 1050), [(0, 240), (1, 180)]);
        assert_eq!(
            credit(LINEAR, &touches[..3], 1050),
            [(0, 280), (1, 140)],
            "two of three"
        );
    }

    #[test]
    fn units_and_classes() {
        assert_eq!(LINEAR.unit().unwrap(), 420);
        let classes = LINEAR.classes().unwrap();
        assert_eq!(classes.len(), 18);
        assert_eq!((classes[0], classes[17]), (60, 420));
        assert_eq!(Model::First.classes().unwrap(), [1]);
        assert_eq!(Model::Linear { touches: 16 }.unit().unwrap(), 720_720);
        assert!(Model::Linear { touches: 0 }.unit().is_err());
        assert!(Model::Linear { touches: 200 }.unit().is_err());
        for (name, ok) in [
            ("linear", true),
            ("linear:3", true),
            ("linear:8", false),
            ("x", false),
        ] {
            assert_eq!(name.parse::<Model>().is_ok(), ok);
        }
        assert!(Windows::new(0, 1).is_err());
        assert!(Windows::new(1, MAX_WINDOW_S + 1).is_err());
        assert_eq!(Windows::click_7_view_1().max_level(), 19);
    }
}
