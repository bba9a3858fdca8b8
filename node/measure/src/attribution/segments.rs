//! One person's time, cut where the credit changes.

use super::{Credit, MAX_TIME, MAX_TOUCHES, SumModel, Touch, Windows, credit};
use crate::Error;

/// A span of time with one credit.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment {
    /// The first second.
    pub from: u64,
    /// The second after the last.
    pub to: u64,
    /// The credit of a conversion in it; never empty.
    pub credit: Credit,
}

/// The segments of somebody's touches, which are ordered by time: ascending, disjoint, with some credit each, and neighbours
/// with another one. They hold exactly the seconds at which a conversion is credited.
///
/// # Errors
/// [`Error::Time`] for touches out of order or past [`MAX_TIME`], [`Error::Touches`] for more than [`MAX_TOUCHES`],
/// [`Error::Model`].
pub fn segments(
    touches: &[Touch],
    model: &SumModel,
    windows: &Windows,
) -> Result<Vec<Segment>, Error> {
    if touches.len() > MAX_TOUCHES {
        return Err(Error::Touches {
            found: touches.len(),
            max: MAX_TOUCHES,
        });
    }
    if !touches.is_sorted_by_key(|x| x.at) || touches.last().is_some_and(|x| x.at >= MAX_TIME) {
        return Err(Error::Time);
    }
    // A touch counts from the second after it to the last of its window: credit is constant between these ends.
    let mut ends: Vec<u64> = touches
        .iter()
        .flat_map(|x| [x.at, x.at.saturating_add(windows.of(x.kind))])
        .collect();
    ends.sort_unstable();
    ends.dedup();
    let mut out: Vec<Segment> = Vec::new();
    for pair in ends.windows(2) {
        let &[a, b] = pair else { continue };
        let credit = credit(model, touches, b, windows)?;
        if credit.is_empty() {
            continue;
        }
        let (from, to) = (a.saturating_add(1), b.saturating_add(1));
        match out.last_mut() {
            Some(last) if last.to == from && last.credit == credit => last.to = to,
            _ => out.push(Segment { from, to, credit }),
        }
    }
    Ok(out)
}
