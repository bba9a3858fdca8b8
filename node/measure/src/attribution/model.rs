//! Which touches share a conversion's credit under a model, and by which weights.

use tally_contracts::records::{MAX_WINDOW_S, SumModel};

use super::{Touch, TouchKind};
use crate::Error;

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

/// The part of a conversion that one label gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// The label.
    pub label: u16,
    /// Its weight over [`SumModel::unit`].
    pub weight: u32,
}

/// All shares of a conversion: one for each label, by label; their weights add up to [`SumModel::unit`]. Empty if nothing is
/// eligible.
pub type Credit = Vec<Share>;

/// Most touches that the plain reference shares a conversion among: lcm(1..=22) fits 32 bits. A private join takes at most
/// [`tally_contracts::records::MAX_LINEAR_TOUCHES`].
const MAX_SHARING: u8 = 22;

/// The credit that a model gives for a conversion at `t` of somebody with these touches, ordered by time.
///
/// # Errors
/// [`Error::Model`] for a linear model over no touches, or over more than 22.
pub fn credit(
    model: &SumModel,
    touches: &[Touch],
    t: u64,
    windows: &Windows,
) -> Result<Credit, Error> {
    if let SumModel::Linear { touches } = *model
        && !(1..=MAX_SHARING).contains(&touches)
    {
        return Err(Error::Model { touches });
    }
    let unit = model.unit();
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
    Ok(match *model {
        SumModel::First => one(eligible.next()),
        SumModel::LastTouch => {
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
        SumModel::Linear { touches } => {
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

    const LINEAR: SumModel = SumModel::Linear { touches: 7 };

    fn credited(model: SumModel, touches: &[Touch], t: u64) -> Vec<(u16, u32)> {
        let windows = Windows::new(100, 10).unwrap();
        let credit = credit(&model, touches, t, &windows).unwrap();
        credit.iter().map(|s| (s.label, s.weight)).collect()
    }

    #[test]
    fn window_edges_are_as_stated() {
        for model in [SumModel::First, SumModel::LastTouch, LINEAR] {
            let unit = model.unit();
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
                    assert_eq!(credited(model, &touches, t), expected);
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
        assert_eq!(credited(SumModel::LastTouch, &touches, 1100), [(2, 1)]);
        assert_eq!(credited(SumModel::First, &touches, 1100), [(1, 1)]);
        assert_eq!(credited(SumModel::First, &touches, 1101), [(2, 1)]);
        // Both clicks are out of their window, the views are not.
        let views = [
            touch(1000, 1, true),
            touch(1195, 3, false),
            touch(1196, 4, false),
        ];
        assert_eq!(credited(SumModel::LastTouch, &views, 1200), [(4, 1)]);
    }

    #[test]
    fn ties_go_by_place() {
        let touches = [touch(1000, 7, true), touch(1000, 5, true)];
        assert_eq!(credited(SumModel::First, &touches, 1001), [(7, 1)]);
        assert_eq!(credited(SumModel::LastTouch, &touches, 1001), [(5, 1)]);
        assert_eq!(credited(LINEAR, &touches, 1001), [(5, 210), (7, 210)]);
    }

    #[test]
    fn linear_shares_by_touch_and_ends_at_its_bound() {
        let touches: Vec<_> = (0..9)
            .map(|i| touch(1000 + i, u16::try_from(i % 2).unwrap(), true))
            .collect();
        // Of nine, the latest seven: labels 0 and 1 by turns, from label 0 on.
        assert_eq!(credited(LINEAR, &touches, 1050), [(0, 240), (1, 180)]);
        assert_eq!(
            credited(LINEAR, &touches[..3], 1050),
            [(0, 280), (1, 140)],
            "two of three"
        );
    }

    #[test]
    fn what_cannot_share_a_conversion_is_refused() {
        let windows = Windows::new(100, 10).unwrap();
        for (touches, good) in [(0, false), (1, true), (22, true), (23, false), (200, false)] {
            let model = SumModel::Linear { touches };
            assert_eq!(credit(&model, &[], 5, &windows).is_ok(), good, "{touches}");
        }
        assert_eq!(SumModel::Linear { touches: 16 }.unit(), 720_720);
        assert!(Windows::new(0, 1).is_err());
        assert!(Windows::new(1, MAX_WINDOW_S + 1).is_err());
        assert_eq!(Windows::click_7_view_1().max_level(), 19);
    }
}
