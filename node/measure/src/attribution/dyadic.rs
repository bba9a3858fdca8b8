//! Dyadic intervals of time: `[index * 2^level, (index + 1) * 2^level)` seconds. Any span of time is a few of them, and any
//! second lies in exactly one of each level.

/// Times are below this: 2^40 seconds.
pub const MAX_TIME: u64 = 1 << 40;

/// One dyadic interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// Its length is 2^level seconds.
    pub level: u8,
    /// Its number among those of the level.
    pub index: u64,
}

/// The fewest intervals of levels up to `max_level` that cover the seconds `from <= t < to` and nothing else, ascending.
/// Nothing where `to <= from`. At most 2 `max_level` and (to - from) / 2^`max_level` of them.
pub fn cover(from: u64, to: u64, max_level: u8) -> impl Iterator<Item = Interval> {
    let mut at = from;
    std::iter::from_fn(move || {
        let left = to.checked_sub(at).filter(|l| *l > 0)?;
        // The longest that begins here and ends in time.
        let level = at.trailing_zeros().min(left.ilog2()).min(max_level.into());
        let interval = Interval {
            level: u8::try_from(level).ok()?,
            index: at >> level,
        };
        at = at.checked_add(1 << level)?;
        Some(interval)
    })
}

/// The intervals that hold the second `t`: one of each level from 0 to `max_level`.
pub fn ancestors(t: u64, max_level: u8) -> impl Iterator<Item = Interval> {
    (0..=max_level.min(63)).map(move |level| Interval {
        level,
        index: t >> level,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(i: Interval, t: u64) -> bool {
        t >> i.level == i.index
    }

    #[test]
    fn small_covers_by_hand() {
        let of = |from, to, max| {
            cover(from, to, max)
                .map(|i| (i.level, i.index))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(3, 11, 19), [(0, 3), (2, 1), (1, 4), (0, 10)]);
        assert_eq!(of(0, 8, 1), [(1, 0), (1, 1), (1, 2), (1, 3)]);
        assert_eq!(of(5, 5, 19), []);
        assert_eq!(of(6, 5, 19), []);
        assert_eq!(ancestors(11, 3).count(), 4);
    }

    proptest! {
        #[test]
        fn a_second_meets_exactly_one_interval_of_a_cover_that_holds_it(
            from in 0_u64..1 << 33, len in 1_u64..1 << 21, near in -3_i64..3, end in any::<bool>(), max in 0_u8..21,
        ) {
            let to = from + len;
            prop_assume!(len >> max < 1 << 12);
            let cover: Vec<_> = cover(from, to, max).collect();
            let edge = if end { to } else { from };
            for t in [edge.saturating_add_signed(near), from + len / 2] {
                let met = ancestors(t, max).filter(|a| cover.contains(a)).count();
                prop_assert_eq!(met, usize::from((from..to).contains(&t)));
                prop_assert_eq!(met, cover.iter().filter(|i| holds(**i, t)).count());
            }
            prop_assert!(cover.len() as u64 <= 2 * u64::from(max) + (len >> max) + 1);
            prop_assert!(cover.is_sorted_by_key(|i| i.index << i.level));
        }
    }
}
