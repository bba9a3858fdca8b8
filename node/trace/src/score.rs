//! How much more likely a code's history is if the code was copied than if it was not.
//!
//! The score is a natural logarithm of a likelihood ratio, in thousandths (milli-nats), and an integer, so that every node gives
//! the same. From the third scan on, and up to [`MAX_SEEN`](crate::ratio::MAX_SEEN) pseudonyms, it is the ratio of
//! [`crate::ratio`], with what the model there knows nothing of added: stages of the unit, and sources that guess.
//!
//! With fewer scans or more pseudonyms it is a sum of weights, each from a count of [`Counts`]. They were read off the output of
//! `cargo run --release -p tally-trace --example tune`, which counts each kind of evidence in the simulation's tuning seeds: among
//! honest units, and among codes with 100 copies over 20 to 50 cities at their third pack. Some things were changed by hand:
//!
//! - Evidence that anybody can make who has the code before them (wrong claim codes, guessing) weighs less than measured. It may
//!   add to a suspicion; in a single visit it can never be one.
//! - Visits in one place weigh little, however many they are: a sample in a shop is scanned by a hundred people. So copies that are
//!   sold in one city are not seen by this score. See `docs/copies.md`.
//! - Two places weigh by how far apart they are and how soon the second came, and less than measured, so that the honest units which are
//!   called are spent where they buy most. Two scans alone are not enough for what they say of places and claim codes.
//!
//! A history keeps the highest score that it had, so no scan lowers one.

use crate::burst::MIN_PLACES;
use crate::history::{Counts, History};
use crate::ratio::log_ratio_mnat;

/// The score from which a code is suspect when nothing else is configured.
pub const DEFAULT_THRESHOLD_MNAT: u32 = 6_600;

/// What is known and speaks for a copy. The numbers are stored and do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReasonKind {
    /// Scanned by different people at different times; counts the visits.
    Visits = 1,
    /// Scanned in places with a gap between them; counts the places.
    Places = 2,
    /// Devices were at places between which nobody travels so fast.
    Speed = 3,
    /// Network addresses were; a VPN does that too.
    NetworkSpeed = 4,
    /// The claim code was entered again later by others.
    ClaimAgain = 5,
    /// Claim codes were entered that belong to another pack.
    ClaimWrong = 6,
    /// Scanned before the batch was released or the unit shipped.
    Early = 7,
    /// Scanned outside the territory that it was shipped to; counts the places.
    Outside = 8,
    /// Scanned as stock after it was sold.
    AfterSale = 9,
    /// Scanned after a recall.
    Recalled = 10,
    /// Scanned though its label was written off.
    Void = 11,
    /// Scanned by somebody who also tried codes that nobody issued.
    Guessing = 12,
}

impl ReasonKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Visits,
        Self::Places,
        Self::Speed,
        Self::NetworkSpeed,
        Self::ClaimAgain,
        Self::ClaimWrong,
        Self::Early,
        Self::Outside,
        Self::AfterSale,
        Self::Recalled,
        Self::Void,
        Self::Guessing,
    ];

    /// Its number in stored form.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind of a stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.number() == number)
    }

    /// The word for it in an API; stable.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Visits => "several_visits",
            Self::Places => "several_places",
            Self::Speed => "impossible_speed",
            Self::NetworkSpeed => "impossible_network_speed",
            Self::ClaimAgain => "claim_code_again",
            Self::ClaimWrong => "claim_code_wrong",
            Self::Early => "before_release",
            Self::Outside => "outside_territory",
            Self::AfterSale => "after_sale",
            Self::Recalled => "after_recall",
            Self::Void => "void_label",
            Self::Guessing => "guessing_source",
        }
    }
}

/// One reason with its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason {
    /// What.
    pub kind: ReasonKind,
    /// How often; stops at 255.
    pub count: u8,
}

impl std::fmt::Display for Reason {
    /// A sentence without its stop: what is known, of the code and of nobody who scanned it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.count;
        let times = if n == 1 {
            "once".to_owned()
        } else {
            format!("{n} times")
        };
        match self.kind {
            ReasonKind::Visits => write!(f, "this code was scanned on {n} separate occasions"),
            ReasonKind::Places => write!(f, "it was scanned in {n} places far from each other"),
            ReasonKind::Speed => write!(
                f,
                "phones scanned it in two places between which nobody travels so fast ({times})"
            ),
            ReasonKind::NetworkSpeed => write!(
                f,
                "it was scanned over networks of places between which nobody travels so fast ({times})"
            ),
            ReasonKind::ClaimAgain => {
                write!(
                    f,
                    "its claim code was entered again at another time ({times})"
                )
            }
            ReasonKind::ClaimWrong => write!(
                f,
                "a claim code of another pack was entered with it ({times})"
            ),
            ReasonKind::Early => write!(f, "it was scanned before it was released ({times})"),
            ReasonKind::Outside => {
                write!(
                    f,
                    "it was scanned in {n} places where it was not shipped to"
                )
            }
            ReasonKind::AfterSale => {
                write!(
                    f,
                    "it was scanned as stock after it had been sold ({times})"
                )
            }
            ReasonKind::Recalled => {
                write!(f, "it was scanned after it had been recalled ({times})")
            }
            ReasonKind::Void => write!(f, "its label had been written off ({times} scanned)"),
            ReasonKind::Guessing => write!(
                f,
                "it was scanned from where codes that nobody issued were tried ({times})"
            ),
        }
    }
}

/// What a history says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// Natural logarithm of the likelihood ratio, in thousandths; at least 0.
    pub score_mnat: u32,
    /// What makes it up, in the order of [`ReasonKind`].
    pub reasons: Vec<Reason>,
}

impl Assessment {
    /// Whether the score reaches a threshold.
    #[must_use]
    pub const fn is_suspect(&self, threshold_mnat: u32) -> bool {
        self.score_mnat >= threshold_mnat
    }
}

/// Weights by a count: what one is worth, and what two or more are.
const fn two_steps(count: u8, one: u32, more: u32) -> u32 {
    match count {
        0 => 0,
        1 => one,
        _ => more,
    }
}

/// The weight of far places at once. Four weigh least: they may still be a home and three phones on VPNs.
const fn at_once_mnat(places: u8) -> u32 {
    match places {
        0..MIN_PLACES => 0,
        MIN_PLACES => 7_500,
        5 => 9_000,
        _ => MOST_PATTERN_MNAT,
    }
}

/// The weight of visits, places and contradictions of networks, which depend on each other.
const fn pattern(c: &Counts) -> u32 {
    let (gathered, at_once) = (gathered_mnat(c), at_once_mnat(c.at_once));
    if gathered > at_once {
        gathered
    } else {
        at_once
    }
}

/// The weight of visits and their places.
const fn gathered_mnat(c: &Counts) -> u32 {
    let base = match (c.visits, c.places, c.network_jumps) {
        (0 | 1, ..) => 0,
        // Two visits in two places are a gift or a journey.
        (2, _, 0) => 0,
        (2, 0 | 1, _) => 3_200,
        (2, _, _) => 5_600,
        (3, 0 | 1, 0) => 2_600,
        (_, 0 | 1, _) => 3_300,
        (3 | 4, 2, 0) => 4_300 + ways(c),
        (3..=5, 2, _) => 5_600 + ways(c),
        (_, 2, _) => 8_000 + ways(c),
        (3, _, _) => 9_700,
        (..) => 10_700,
    };
    // With two places known, a visit that tells no place is most likely a third.
    if c.places == 2 && c.visits >= 3 && c.unplaced > 0 {
        // No more than three places weigh, so that the third, when it is told, does not lower the score.
        let base = base + 3_700;
        if base > 10_700 { 10_700 } else { base }
    } else {
        base
    }
}

/// What the ways between two places add: gifts and travellers go to near places more often, and gifts lie for weeks.
const fn ways(c: &Counts) -> u32 {
    let far = if c.far > 0 { 1_500 } else { 0 };
    let prompt = if c.prompt > 0 { 1_200 } else { 0 };
    far + prompt
}

/// No more than three far places weigh, whichever way they are weighed.
const MOST_PATTERN_MNAT: u32 = 10_700;
/// Visits in one place alone are never enough, however many they are.
const MOST_IN_ONE_PLACE_MNAT: u32 = 3_300;
/// Nor is what one person can make in one visit.
const MOST_IN_ONE_VISIT_MNAT: u32 = 6_000;

/// Within this time, milliseconds, all scans may be those of one family, of which two phones are on a VPN.
const SITTING_MS: u64 = 6 * 3_600_000;

impl Counts {
    /// What the unit's stages add, of which the likelihood ratio of the first scans knows nothing, milli-nats.
    fn besides_mnat(&self) -> u32 {
        two_steps(self.early, 1_600, 5_000)
            + two_steps(self.after_sale, 3_500, 6_000)
            // Holders of a recalled unit scan it to see what to do: this one was judged, the simulation has no recalls.
            + two_steps(self.recalled, 0, 700)
            + two_steps(self.void, 6_000, 8_500)
    }

    /// The score of these counts with its reasons.
    #[must_use]
    pub fn assess(&self) -> Assessment {
        self.assess_with(0)
    }

    /// The same, if the first scans were found to speak for copies with `peak_mnat`.
    fn assess_with(&self, peak_mnat: u32) -> Assessment {
        let outside = match (self.places, self.outside) {
            (0 | 1, _) | (_, 0 | 1) => 0,
            (_, 2) => 2_200,
            _ => 2_500,
        };
        let pattern = pattern(self);
        let weights = [
            pattern,
            outside,
            two_steps(self.device_jumps, 5_000, 9_500),
            two_steps(self.claim_again, 500, 4_000),
            self.besides_mnat(),
            // Both are made without a second pack, by one person: together they stay below every sensible threshold.
            (two_steps(self.claim_wrong, 4_000, 5_500) + two_steps(self.guessing, 2_500, 4_000))
                .min(6_000),
            // Visits in two places of which one had another pack's claim code at hand.
            if self.places >= 2 {
                two_steps(self.claim_wrong, 3_300, 3_300)
            } else {
                0
            },
        ];
        let speaks = pattern > 0 || peak_mnat > 0;
        let mut reasons = Vec::new();
        let mut add = |kind, count: u8, speaks: bool| {
            if speaks && count > 0 {
                reasons.push(Reason { kind, count });
            }
        };
        add(ReasonKind::Visits, self.visits, speaks && self.visits > 1);
        let places = self.places.max(self.at_once);
        add(ReasonKind::Places, places, speaks && places > 1);
        add(ReasonKind::Speed, self.device_jumps, true);
        add(ReasonKind::NetworkSpeed, self.network_jumps, speaks);
        add(ReasonKind::ClaimAgain, self.claim_again, true);
        add(ReasonKind::ClaimWrong, self.claim_wrong, true);
        add(ReasonKind::Early, self.early, true);
        add(ReasonKind::Outside, self.outside, outside > 0);
        add(ReasonKind::AfterSale, self.after_sale, true);
        add(ReasonKind::Recalled, self.recalled, self.recalled > 1);
        add(ReasonKind::Void, self.void, true);
        add(ReasonKind::Guessing, self.guessing, true);
        Assessment {
            score_mnat: weights.iter().sum::<u32>().max(peak_mnat),
            reasons,
        }
    }
}

impl History {
    /// What the history says so far: the highest score that it had.
    #[must_use]
    pub fn assess(&self) -> Assessment {
        let peak = u32::from(self.peak_mnat());
        Assessment {
            score_mnat: peak,
            ..self.counts().assess_with(peak)
        }
    }

    /// The score as it stands: by the likelihood ratio of the first scans, and by counts where there are too few or too many.
    pub(crate) fn score_now_mnat(&self) -> u32 {
        let seen = self.seen();
        // Two scans are a gift, whose buyer and whose receiver scanned, too often. Of a history of an older version the first
        // scans are not known; it goes on by its counts alone.
        let third =
            self.is_long() || seen.len() > 2 || (seen.len() == 2 && seen.iter().any(|s| s.again));
        let c = self.counts();
        let jumps = c.network_jumps > 0 || c.device_jumps > 0;
        // Phones on VPNs at one table, or at home whenever it is. Who enters claim codes of other packs has other packs.
        let table = self.burst().is_family_with_vpns() && self.is_within(SITTING_MS);
        let home = c.places < 2 && jumps && c.claim_again < 2;
        let family = (table || home) && c.at_once == 0 && c.device_jumps == 0 && c.claim_wrong == 0;
        if self.is_long() || !third {
            let counted = c.assess().score_mnat;
            let besides = c.besides_mnat();
            return if third && !family {
                counted
            } else {
                besides + (counted - besides).min(MOST_IN_ONE_VISIT_MNAT)
            };
        }
        let ratio = u32::try_from(log_ratio_mnat(&seen)).unwrap_or(0);
        let most = if c.places > 1 || jumps || c.claim_again > 1 {
            MOST_PATTERN_MNAT
        } else if c.claim_wrong == 0 {
            MOST_IN_ONE_PLACE_MNAT
        } else if c.visits < 2 {
            MOST_IN_ONE_VISIT_MNAT
        } else {
            MOST_PATTERN_MNAT
        };
        // Wrong claim codes are in the ratio; with them, guessing is the same person's doing.
        let guessing = two_steps(c.guessing, 2_500, 4_000);
        let made = if family || (c.visits < 2 && !jumps) {
            (ratio.min(most) + guessing).min(MOST_IN_ONE_VISIT_MNAT)
        } else {
            ratio.min(most) + guessing
        };
        made.max(at_once_mnat(c.at_once)) + c.besides_mnat()
    }
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_THRESHOLD_MNAT, Reason, ReasonKind};
    use crate::history::Counts;

    #[test]
    fn no_weight_falls_when_a_count_grows() {
        // Every pair of the counts that depend on each other, and each of the others alone.
        for bits in 0..8_u32.pow(4) {
            let digit = |i: u32| u8::try_from(bits / 8_u32.pow(i) % 8).unwrap();
            let mut c = Counts {
                visits: digit(0),
                places: digit(1),
                network_jumps: digit(2),
                outside: digit(3),
                ..Counts::default()
            };
            for unplaced in 0..2 {
                c.unplaced = unplaced;
                let before = c.assess().score_mnat;
                for field in 0..16 {
                    let mut more = c;
                    if let Some(count) = more.fields().into_iter().nth(field) {
                        *count += 1;
                    }
                    // A new place is always a new visit; and a visit to a known place leaves the places.
                    if more.places > more.visits {
                        continue;
                    }
                    assert!(more.assess().score_mnat >= before, "{c:?} then {more:?}");
                }
            }
        }
    }

    #[test]
    fn what_anybody_can_make_is_never_enough() {
        let made = Counts {
            visits: 1,
            places: 1,
            claim_wrong: 9,
            guessing: 9,
            ..Counts::default()
        };
        assert!(!made.assess().is_suspect(DEFAULT_THRESHOLD_MNAT));
        let shelf = Counts {
            visits: 200,
            places: 1,
            ..Counts::default()
        };
        assert!(!shelf.assess().is_suspect(DEFAULT_THRESHOLD_MNAT));
    }

    #[test]
    fn kinds_have_their_own_numbers_codes_and_words() {
        let mut codes = std::collections::BTreeSet::new();
        for kind in ReasonKind::ALL {
            assert_eq!(ReasonKind::from_number(kind.number()), Some(kind));
            assert!(codes.insert(kind.code()));
            for count in [1, 3] {
                let words = Reason { kind, count }.to_string();
                assert!(words.len() > 20 && !words.ends_with('.'), "{words}");
                // Words speak of the code, never of the person who scans.
                assert!(!words.contains("you") && !words.contains("fake"), "{words}");
            }
        }
        assert_eq!(ReasonKind::from_number(0), None);
    }
}
