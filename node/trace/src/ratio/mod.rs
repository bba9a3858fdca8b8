//! The likelihood ratio of a code's first scans: of several packs that bear the code, over one pack that people scanned.
//!
//! Both hypotheses are made of the same pieces. A pack is opened once; around that scan lie, as a Poisson process, those of the
//! people near it: of the household and of who opened it under another pseudonym (most within hours, some within weeks), of guests
//! at a table, of somebody who looked at it on the shelf, of somebody who took it to another place. One pack may also have been a
//! gift that its buyer scanned weeks before, or a sample that strangers scan in one place. Several packs are opened independently
//! of each other, at a rate that nobody knows, in places as far from each other as the issuer's customers are.
//!
//! Who opened a pack, who travelled, where the middle of a household is (a network's word may be wrong), which scans belong to one
//! pack, whether claim codes were copied too, and how fast copies are scanned: all that is summed over. So the quotient is a ratio
//! of two whole likelihoods, and not a sum of hints. Priors are the constants below and in `tables`; distances enter by classes.
//! They are close to the simulation's parameters; `--example worlds` shows what it costs where people differ from these.
//!
//! All arithmetic is IEEE double with `libm`, in a fixed order: every machine gets the same.

pub mod pairs;
mod tables;

use self::pairs::Pair;
use self::tables::{BOTH_INSIDE, COPIES, JOURNEY, SAME, Table};
use crate::cell::Spot;
use crate::history::MAX_SPEED_M_PER_S;
use crate::observation::{Claim, Territory};

/// Most pseudonyms that are looked at: the first.
pub const MAX_SEEN: usize = 6;
const DAY_MS: f64 = 86_400_000.0;
const HOUR: f64 = 1.0 / 24.0;

/// Rates of scans that follow from an opening, a unit: near it, by another pseudonym.
const NEAR: f64 = 0.055;
/// Share of those that come late, and mean delays in days.
const LATE: f64 = 0.2;
const SOON_MEAN: f64 = 3.0 * HOUR;
const LATE_MEAN: f64 = 10.0;
/// A look on the shelf before the opening; its mean delay is [`LATE_MEAN`] too.
const SHELF: f64 = 0.005;
/// Share of units opened at a table, guests there, and for how long, days.
const TABLE: f64 = 0.03;
const GUESTS: f64 = 2.5;
const TABLE_LAST: f64 = 3.0 * HOUR;
/// Share of tables that end at any time, and their mean.
const TABLE_LONG: f64 = 0.2;
const TABLE_LONG_MEAN: f64 = 5.0 * HOUR;
/// Journeys, their mean stay in days, what a way takes besides, days; a share of them is long.
const TRAVEL: f64 = 0.005;
const STAY_MEAN: f64 = 3.0;
const LONG_SHARE: f64 = 0.1;
const LONG_MEAN: f64 = 20.0;
/// Gifts that were scanned at both ends, and the days between: most lie one to eight weeks, and any other time is possible too.
const GIFT: f64 = 0.006;
const GIFT_DAYS: (f64, f64) = (7.0, 60.0);
const GIFT_ELSE: f64 = 0.3;
const GIFT_ELSE_MEAN: f64 = 25.0;
/// How much rarer somebody who did not open a pack looks at it twice.
const AGAIN_OTHER: f64 = 0.03;
/// Share of units that stand open in a shop.
const SAMPLE: f64 = 0.0001;
/// Claim codes are entered by who opens a pack, and by others; the share that belongs to another pack, slips and mischief.
const ENTER_OPENED: f64 = 0.3;
const ENTER_OTHER: f64 = 0.08;
const SLIP: f64 = 0.003;
/// Share of counterfeiters who copy claim codes too, and of right ones where they do not.
const COPIED_CLAIMS: f64 = 0.2;
const RIGHT_ANYHOW: f64 = 0.02;
/// Chance that the first place is in the territory, of an honest unit and of a copied one; and of a place if another is not.
const HOME_INSIDE: f64 = 0.95;
const COPY_INSIDE: f64 = 0.18;
const INSIDE_AFTER_OUTSIDE: f64 = 0.15;
/// Scans a day by further packs, with the chance of each: copies are sold over weeks, and a picture of a code is passed on within
/// a day or an hour.
const RATES: [(f64, f64); 8] = [
    (0.03, 0.15),
    (0.08, 0.27),
    (0.17, 0.26),
    (0.5, 0.24),
    (2.0, 0.05),
    (12.0, 0.01),
    (100.0, 0.01),
    (1_000.0, 0.01),
];

/// What one pseudonym did first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// POSIX milliseconds of the first scan.
    pub time_ms: u64,
    /// Where.
    pub spot: Option<Spot>,
    /// The claim code, of any of its scans.
    pub claim: Claim,
    /// Whether that was in the territory.
    pub territory: Territory,
    /// Whether it came again.
    pub again: bool,
}

fn exponential(mean: f64, x: f64) -> f64 {
    if x < 0.0 {
        0.0
    } else {
        libm::exp(-x / mean) / mean
    }
}

/// A square of numbers by two scans.
type Square = [[f64; MAX_SEEN]; MAX_SEEN];

/// What is worked out once of every pair and every scan.
struct Facts {
    n: usize,
    same: Square,
    journey: Square,
    copies: Square,
    both_inside: Square,
    /// Densities of the second of a pair if the first is the opening, a day.
    near: Square,
    guest: Square,
    travel: Square,
    gift: Square,
    /// Of the claim code, if one is entered by who opens, by others, by a buyer: with claim codes that work, and without.
    opened: [[f64; MAX_SEEN]; 2],
    other: [[f64; MAX_SEEN]; 2],
    buyer: [f64; MAX_SEEN],
    again: [bool; MAX_SEEN],
    inside: [Option<bool>; MAX_SEEN],
    span: f64,
}

fn claim_of(claim: Claim, enters: f64, works: bool) -> f64 {
    let wrong = if works { SLIP } else { 1.0 - RIGHT_ANYHOW };
    match claim {
        Claim::Absent => 1.0 - enters,
        Claim::Right => enters * (1.0 - wrong),
        Claim::Wrong => enters * wrong,
    }
}

#[expect(clippy::cast_precision_loss, reason = "times are far below 2^53")]
fn days(from_ms: u64, to_ms: u64) -> f64 {
    if to_ms >= from_ms {
        (to_ms - from_ms) as f64 / DAY_MS
    } else {
        -((from_ms - to_ms) as f64 / DAY_MS)
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "every index is below n, which is at most MAX_SEEN; the squares have that side"
)]
impl Facts {
    /// Of at most [`MAX_SEEN`] scans, oldest first.
    fn new(seen: &[Seen]) -> Self {
        let zero = [[0.0; MAX_SEEN]; MAX_SEEN];
        let one = [[1.0; MAX_SEEN]; MAX_SEEN];
        let mut f = Self {
            n: seen.len().min(MAX_SEEN),
            same: one,
            journey: one,
            copies: one,
            both_inside: one,
            near: zero,
            guest: zero,
            travel: zero,
            gift: zero,
            opened: [[1.0; MAX_SEEN]; 2],
            other: [[1.0; MAX_SEEN]; 2],
            buyer: [1.0; MAX_SEEN],
            again: [false; MAX_SEEN],
            inside: [None; MAX_SEEN],
            span: 0.0,
        };
        let look = |table: &Table, pair: Pair| table[pair.word][pair.class];
        for (i, a) in seen.iter().enumerate().take(f.n) {
            for (k, works) in [true, false].into_iter().enumerate() {
                f.opened[k][i] = claim_of(a.claim, ENTER_OPENED, works);
                f.other[k][i] = claim_of(a.claim, ENTER_OTHER, works);
            }
            f.buyer[i] = claim_of(a.claim, 0.01, true);
            f.again[i] = a.again;
            f.inside[i] = match a.territory {
                Territory::Unknown => None,
                Territory::Inside => Some(true),
                Territory::Outside => Some(false),
            };
            f.span = f.span.max(days(seen[0].time_ms, a.time_ms));
            for (j, b) in seen.iter().enumerate().take(f.n) {
                if i == j {
                    continue;
                }
                let pair = Pair::of(a.spot.as_ref(), b.spot.as_ref());
                if let Some(pair) = pair {
                    f.same[i][j] = look(&SAME, pair);
                    f.journey[i][j] = look(&JOURNEY, pair);
                    f.copies[i][j] = look(&COPIES, pair);
                    f.both_inside[i][j] = BOTH_INSIDE[pair.class];
                }
                let lag = days(a.time_ms, b.time_ms);
                f.near[i][j] = if lag >= 0.0 {
                    NEAR * ((1.0 - LATE) * exponential(SOON_MEAN, lag)
                        + LATE * exponential(LATE_MEAN, lag))
                } else {
                    SHELF * exponential(LATE_MEAN, -lag)
                };
                let mut sits = TABLE_LONG * exponential(TABLE_LONG_MEAN, lag);
                if (0.0..TABLE_LAST).contains(&lag) {
                    sits += (1.0 - TABLE_LONG) / TABLE_LAST;
                }
                f.guest[i][j] = GUESTS * sits;
                let way = pair.map_or(0.0, |p| {
                    let gap = (p.metres - 100_000.0).max(0.0);
                    gap / MAX_SPEED_M_PER_S / 86_400.0
                });
                let stay = lag - way;
                f.travel[i][j] = TRAVEL
                    * ((1.0 - LONG_SHARE) * exponential(STAY_MEAN, stay)
                        + LONG_SHARE * exponential(LONG_MEAN, stay));
                let mut lies = GIFT_ELSE * exponential(GIFT_ELSE_MEAN, -lag);
                if (GIFT_DAYS.0..GIFT_DAYS.1).contains(&-lag) {
                    lies += (1.0 - GIFT_ELSE) / (GIFT_DAYS.1 - GIFT_DAYS.0);
                }
                f.gift[i][j] = GIFT * lies;
            }
        }
        f
    }

    /// Density of the scans of a set as those of one pack: of who opened it and who follows from that, with the buyer of a gift `gift`.
    fn pack(&self, set: usize, opened: usize, gift: Option<usize>, works: usize) -> f64 {
        let mut hubs = 0.0;
        let mut sum = 0.0;
        let member = |i: usize| set >> i & 1 == 1 && Some(i) != gift;
        for hub in (0..self.n).filter(|i| member(*i)) {
            hubs += 1.0;
            for (share, table) in [(1.0 - TABLE, false), (TABLE, true)] {
                let mut product = share;
                for i in (0..self.n).filter(|i| member(*i) && *i != opened) {
                    let mut near = self.near[opened][i];
                    if table {
                        near += self.guest[opened][i];
                    }
                    let mut here = near * self.same_to(hub, i);
                    if i != hub {
                        here += self.travel[opened][i] * self.journey[hub][i];
                    }
                    product *= here * self.other[works][i];
                    if self.again[i] {
                        product *= AGAIN_OTHER;
                    }
                }
                product *= self.same_to(hub, opened) * self.opened[works][opened];
                if let Some(buyer) = gift {
                    product *=
                        self.gift[opened][buyer] * self.journey[hub][buyer] * self.buyer[buyer];
                    if self.again[buyer] {
                        product *= AGAIN_OTHER;
                    }
                }
                sum += product;
            }
        }
        sum / f64::max(hubs, 1.0)
    }

    fn same_to(&self, hub: usize, i: usize) -> f64 {
        if hub == i { 1.0 } else { self.same[hub][i] }
    }

    /// Chance of what is known of the territory if `home` was shipped to.
    fn territory(&self, home: usize, home_inside: f64) -> f64 {
        let of = |inside: bool, chance: f64| if inside { chance } else { 1.0 - chance };
        let mut product = 1.0;
        let home_is = self.inside[home];
        if let Some(inside) = home_is {
            product *= of(inside, home_inside);
        }
        for i in (0..self.n).filter(|i| *i != home) {
            if let Some(inside) = self.inside[i] {
                product *= match home_is {
                    Some(true) => of(inside, self.both_inside[home][i]),
                    Some(false) | None => of(inside, INSIDE_AFTER_OUTSIDE),
                };
            }
        }
        product
    }

    fn rate(&self, further: usize) -> f64 {
        RATES
            .iter()
            .map(|(rate, chance)| {
                let mut p = *chance * libm::exp(-rate * self.span);
                for _ in 0..further {
                    p *= rate;
                }
                p
            })
            .sum()
    }

    /// Likelihood of one pack.
    fn honest(&self) -> f64 {
        let all = (1 << self.n) - 1;
        let mut sum = 0.0;
        for opened in 0..self.n {
            sum += self.pack(all, opened, None, 0) * self.territory(opened, HOME_INSIDE);
            for buyer in (0..self.n).filter(|i| *i != opened) {
                if self.gift[opened][buyer] > 0.0 {
                    sum +=
                        self.pack(all, opened, Some(buyer), 0) * self.territory(buyer, HOME_INSIDE);
                }
            }
        }
        // A sample: strangers, in one place.
        let mut sample = SAMPLE * self.rate(self.n.saturating_sub(1));
        for i in 1..self.n {
            sample *= self.same[0][i] * self.other[0][i];
        }
        sum + sample * self.territory(0, HOME_INSIDE) * self.other[0][0]
    }

    /// Likelihood of several packs, or of one of several that are not scanned yet.
    fn copied(&self) -> f64 {
        let sets = 1_usize << self.n;
        let mut sum = 0.0;
        for (works, share) in [(0, COPIED_CLAIMS), (1, 1.0 - COPIED_CLAIMS)] {
            let mut pack = [0.0; 1 << MAX_SEEN];
            for (set, to) in pack.iter_mut().enumerate().take(sets).skip(1) {
                let begins = set.trailing_zeros() as usize;
                let place = if begins == 0 {
                    1.0
                } else {
                    self.copies[0][begins]
                };
                *to = place
                    * (0..self.n)
                        .filter(|i| set >> i & 1 == 1)
                        .map(|opened| self.pack(set, opened, None, works))
                        .sum::<f64>();
            }
            // ways[set][m]: density of a set as that of m packs.
            let mut ways = [[0.0; MAX_SEEN + 1]; 1 << MAX_SEEN];
            ways[0][0] = 1.0;
            for set in 1..sets {
                let low = set & set.wrapping_neg();
                let rest = set ^ low;
                // Every subset of the rest, with the lowest.
                let mut sub = rest;
                loop {
                    let mine = sub | low;
                    for m in 1..=self.n {
                        ways[set][m] += pack[mine] * ways[set ^ mine][m - 1];
                    }
                    if sub == 0 {
                        break;
                    }
                    sub = (sub - 1) & rest;
                }
            }
            for (packs, density) in ways[sets - 1].iter().enumerate().skip(1) {
                sum += share * density * self.rate(packs - 1);
            }
        }
        sum * self.territory(0, COPY_INSIDE)
    }
}

/// The natural logarithm of the likelihood ratio, in thousandths.
#[must_use]
pub fn log_ratio_mnat(seen: &[Seen]) -> i32 {
    if seen.len() < 2 {
        return 0;
    }
    let mut sorted: Vec<Seen> = seen.iter().take(MAX_SEEN).copied().collect();
    sorted.sort_by_key(|s| s.time_ms);
    let facts = Facts::new(&sorted);
    let (copied, honest) = (facts.copied(), facts.honest());
    if copied <= 0.0 {
        return 0;
    }
    let ratio = libm::log(copied / honest.max(1e-60));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a logarithm of a double is small"
    )]
    let mnat = libm::round(ratio.clamp(-20.0, 20.0) * 1_000.0) as i32;
    mnat
}
