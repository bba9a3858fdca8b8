//! The most that any detector could notice by the third scan of a code, with the simulator's own parameters.
//!
//! The detector here knows more than any can: of each of the first three scans the true city, the exact time, the claim code, the
//! territory, whether its source guesses, and who is the same person or sat at the same table; and the counterfeiter's plan: how many
//! cities, how many buyers scan. It does not know whether another person in the same city is of the household or bought another pack, nor
//! whether one in another city travelled, got a gift or bought another pack. By Neyman and Pearson nobody who is wrong about as many honest
//! units notices more copied codes than who calls those with the largest likelihood ratio. Scans before the release, of void labels, and
//! on a shelf are given to it as noticed without any error: so the figure is a bound from above, but for the chance that nothing else
//! happened in between, of which the few percents are left out.
//!
//! Places as phones tell them, VPNs, networks that surface elsewhere are functions of what it sees, by dice that know of no copies: who
//! sees them instead sees less. Times count from the first scan, since nobody knows when a counterfeiter begins.
//!
//! `cargo run --release -p tally-trace --example oracle`

use tally_trace::geo::distance_m;
use tally_trace::sim::cities::{CITIES, Region, SALES_REGIONS};
use tally_trace::sim::params::{FROZEN, Params, SCAN_RATES};
use tally_trace::sim::{Campaign, Dice, World};

/// Honest units, of which about one in thirty has three scans.
const HONEST: u64 = 4_000_000;
/// Copied codes of each plan.
const RUNS: u64 = 6_000;
/// Share of honest units that may be called.
const WRONG: f64 = 1e-4;
const COPIES: u32 = 100;
const HOUR_D: f64 = 1.0 / 24.0;
/// Steps of the integrals over the time of the first scan, and their end, days.
const STEPS: u32 = 120;
const END_D: f64 = 75.0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// By another person: the opening of a pack, the buyer of a gift, a traveller, somebody of the household. Which is not told.
    Other,
    /// The same person again, or a guest at the same table; the detector is told of which opening.
    Same,
    Table,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claim {
    Absent,
    Right,
    Wrong,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at_d: f64,
    city: usize,
    kind: Kind,
    /// Which opening it follows from; told for [`Kind::Same`] and [`Kind::Table`] alone. Of an opening, which it is.
    main: u32,
    /// Whether it is an opening; not told.
    opening: bool,
    claim: Claim,
    /// By a source that guesses.
    guessing: bool,
    /// Given to the detector.
    given: bool,
}

/// The first three scans of a code, and the territory of its batch if that is known.
struct Case {
    scans: [Seen; 3],
    territory: Option<Region>,
}

struct Model {
    p: Params,
    people: Vec<f64>,
    pull: Vec<Vec<f64>>,
    share: Vec<f64>,
}

fn km(a: usize, b: usize) -> f64 {
    match (CITIES.get(a), CITIES.get(b)) {
        (Some(a), Some(b)) => distance_m(a.at(), b.at()) / 1000.0,
        _ => 0.0,
    }
}

fn region(city: usize) -> Option<Region> {
    CITIES.get(city).map(|c| c.region)
}

impl Model {
    fn new(p: Params) -> Self {
        let people: Vec<f64> = CITIES.iter().map(|c| c.people).collect();
        let all: f64 = people.iter().sum();
        let pull = (0..CITIES.len())
            .map(|from| {
                let row: Vec<f64> = (0..CITIES.len())
                    .map(|to| match CITIES.get(to) {
                        Some(city) if to != from => city.people / (50.0 + km(from, to)),
                        _ => 0.0,
                    })
                    .collect();
                let sum: f64 = row.iter().sum();
                row.into_iter().map(|x| x / sum).collect()
            })
            .collect();
        Self {
            p,
            share: people.iter().map(|x| x / all).collect(),
            people,
            pull,
        }
    }

    fn pull_of(&self, from: usize, to: usize) -> f64 {
        self.pull
            .get(from)
            .and_then(|row| row.get(to))
            .copied()
            .unwrap_or_default()
    }

    fn share_of(&self, city: usize) -> f64 {
        self.share.get(city).copied().unwrap_or_default()
    }

    fn way_d(&self, from: usize, to: usize) -> f64 {
        (self.p.honest.travel_lost_h + km(from, to) / self.p.honest.travel_kmh) * HOUR_D
    }

    fn territory(&self, dice: &mut Dice, home: usize) -> Option<Region> {
        if !dice.chance(self.p.territory_known) {
            None
        } else if dice.chance(self.p.honest.diverted) {
            SALES_REGIONS.get(dice.below(SALES_REGIONS.len())).copied()
        } else {
            region(home)
        }
    }

    /// Chance that a unit at `home` has this territory, if it is known.
    fn territory_of(&self, territory: Option<Region>, home: usize) -> f64 {
        let (h, regions) = (&self.p.honest, SALES_REGIONS.len() as f64);
        match territory {
            None => 1.0,
            Some(t) if region(home) == Some(t) => 1.0 - h.diverted + h.diverted / regions,
            Some(_) => h.diverted / regions,
        }
    }

    /// The same for a copy, whose city says nothing of where its pattern was shipped to.
    fn territory_of_copy(&self, territory: Option<Region>) -> f64 {
        (0..CITIES.len())
            .map(|home| self.share_of(home) * self.territory_of(territory, home))
            .sum()
    }

    fn claim(&self, dice: &mut Dice, works: bool, chance: f64) -> Claim {
        if !dice.chance(chance) {
            Claim::Absent
        } else if !works || dice.chance(self.p.honest.claim_slip) {
            Claim::Wrong
        } else {
            Claim::Right
        }
    }

    /// What follows from the opening of a pack.
    fn opened(
        &self,
        dice: &mut Dice,
        city: usize,
        at_d: f64,
        works: bool,
        mains: &mut u32,
        out: &mut Vec<Seen>,
    ) {
        let h = &self.p.honest;
        let main = *mains;
        *mains += 1;
        let first = self.claim(dice, works, h.claim_first);
        out.push(Seen {
            at_d,
            city,
            kind: Kind::Other,
            main,
            opening: true,
            claim: first,
            guessing: false,
            given: false,
        });
        let mut push = |at_d, city, kind, main, claim, given| {
            out.push(Seen {
                at_d,
                city,
                kind,
                main,
                opening: false,
                claim,
                guessing: false,
                given,
            });
        };
        for _ in 0..dice.poisson(h.rescans) {
            let kind = dice.weighted(&[
                h.rescan_same,
                h.rescan_household,
                h.rescan_shelf,
                h.rescan_travel,
            ]);
            let delay = if dice.chance(h.late) {
                dice.exponential(h.late_mean_d)
            } else {
                dice.exponential(h.soon_mean_h) * HOUR_D
            };
            match kind {
                0 => {
                    let claim = self.claim(dice, works, h.claim_again);
                    push(at_d + delay, city, Kind::Same, main, claim, false);
                }
                1 => {
                    let claim = self.claim(dice, works, h.claim_other);
                    push(at_d + delay, city, Kind::Other, main, claim, false);
                }
                2 => {
                    let earlier = dice.exponential(h.shelf_mean_d);
                    push(at_d - earlier, city, Kind::Other, main, Claim::Absent, true);
                }
                _ => {
                    let to = self.pull.get(city).map_or(0, |row| dice.weighted(row));
                    let at = at_d + self.way_d(city, to) + dice.exponential(h.travel_mean_d);
                    let claim = self.claim(dice, works, h.claim_again);
                    push(at, to, Kind::Other, main, claim, false);
                }
            }
        }
        if dice.chance(h.table) {
            for _ in 0..=dice.poisson(h.table_more) {
                let at = at_d + dice.between(0.0, h.table_h) * HOUR_D;
                let claim = self.claim(dice, works, h.claim_other);
                push(at, city, Kind::Table, main, claim, false);
            }
        }
    }

    fn case(
        &self,
        dice: &mut Dice,
        mut scans: Vec<Seen>,
        territory: Option<Region>,
        tester: f64,
    ) -> Option<Case> {
        scans.sort_by(|a, b| a.at_d.total_cmp(&b.at_d));
        let mut first: [Seen; 3] = [*scans.first()?, *scans.get(1)?, *scans.get(2)?];
        for seen in &mut first {
            seen.guessing = dice.chance(tester);
        }
        Some(Case {
            scans: first,
            territory,
        })
    }

    fn honest(&self, seed: u64, unit: u64) -> Option<Case> {
        let dice = &mut Dice::new(seed, unit);
        let h = &self.p.honest;
        let home = dice.weighted(&self.people);
        let territory = self.territory(dice, home);
        let (mut scans, mut mains) = (Vec::new(), 0);
        if dice.chance(h.gift_away * h.gift_both) {
            scans.push(Seen {
                at_d: 0.0,
                city: home,
                kind: Kind::Other,
                main: 0,
                opening: false,
                claim: Claim::Absent,
                guessing: false,
                given: false,
            });
            mains = 1;
            let at = dice.between(h.gift_days.0, h.gift_days.1);
            let to = self.pull.get(home).map_or(0, |row| dice.weighted(row));
            self.opened(dice, to, at, true, &mut mains, &mut scans);
        } else {
            self.opened(dice, home, 0.0, true, &mut mains, &mut scans);
        }
        self.case(dice, scans, territory, h.many_failures)
    }

    fn copied(&self, seed: u64, run: u64, cities: usize, rate: f64) -> Option<Case> {
        let dice = &mut Dice::new(seed, run);
        let f = &self.p.forged;
        let mut order: Vec<usize> = (0..CITIES.len()).collect();
        for i in 0..order.len() {
            let left = order.len().saturating_sub(i);
            order.swap(i, i + dice.below(left));
        }
        order.truncate(cities);
        let works = dice.chance(f.claim_copied);
        let (early, void) = (dice.chance(f.leaked_early), dice.chance(f.from_waste));
        let source = dice.weighted(&self.people);
        let territory = self.territory(dice, source);
        let (mut scans, mut mains) = (Vec::new(), 0);
        if dice.chance(f.original_sold * rate) {
            let at = -dice.between(0.0, 30.0);
            self.opened(dice, source, at, true, &mut mains, &mut scans);
        }
        for place in 0..COPIES as usize {
            let Some(city) = order.get(place % cities).copied() else {
                continue;
            };
            let sold = dice.between(0.0, f.sold_days);
            if dice.chance(rate) {
                let at = sold + dice.exponential(f.scan_mean_d);
                self.opened(dice, city, at, works, &mut mains, &mut scans);
            }
        }
        let mut case = self.case(dice, scans, territory, f.tester)?;
        for seen in &mut case.scans {
            seen.given |= void || (early && seen.at_d < f.early_days);
        }
        Some(case)
    }

    /// Chance of the claim code of one scan, if a claim code is entered with this chance.
    fn claim_of(&self, seen: &Seen, enters: f64, works: bool) -> f64 {
        let slip = if works { self.p.honest.claim_slip } else { 1.0 };
        match seen.claim {
            Claim::Absent => 1.0 - enters,
            Claim::Right => enters * (1.0 - slip),
            Claim::Wrong => enters * slip,
        }
    }

    /// Density of the delay of somebody of the household, a day.
    fn household(&self, delay_d: f64) -> f64 {
        let h = &self.p.honest;
        h.rescans
            * h.rescan_household
            * (h.late * exponential(h.late_mean_d, delay_d)
                + (1.0 - h.late) * exponential(h.soon_mean_h * HOUR_D, delay_d))
    }

    /// Density that somebody takes a unit from one city to the other and scans it so much later.
    fn travel(&self, from: usize, to: usize, delay_d: f64) -> f64 {
        let h = &self.p.honest;
        h.rescans
            * h.rescan_travel
            * self.pull_of(from, to)
            * exponential(h.travel_mean_d, delay_d - self.way_d(from, to))
    }
}

/// A counterfeiter's plan, as far as times go.
struct Plan {
    cities: usize,
    rate: f64,
}

impl Plan {
    /// Share of packs that are scanned by `d` days: sold uniformly over the time of sale, scanned an exponential time later.
    fn by(p: &Params, d: f64) -> f64 {
        let (sale, mean) = (p.forged.sold_days, p.forged.scan_mean_d);
        // Integral over the day of sale of 1 - exp(-(d - sold) / mean).
        let until = d.clamp(0.0, sale);
        (until - mean * ((until - d.max(0.0)) / mean).exp() + mean * (-d.max(0.0) / mean).exp())
            / sale
    }

    fn at(p: &Params, d: f64) -> f64 {
        let step = 1e-3;
        (Self::by(p, d + step) - Self::by(p, d - step)) / (2.0 * step)
    }

    /// The density that packs are first scanned at a time t and so much later each, and no other until `span_d` after t, integrated over
    /// t. With the genuine pack as the first if `original`: it was sold in the thirty days before.
    fn packs(&self, p: &Params, later_d: &[f64], span_d: f64, original: bool) -> f64 {
        let n = f64::from(COPIES);
        let steps = STEPS / if original { 3 } else { 1 };
        let (from, to) = if original { (-30.0, 0.0) } else { (0.0, END_D) };
        let step = (to - from) / f64::from(steps);
        let copies = u32::try_from(later_d.len()).unwrap_or_default() + u32::from(!original);
        let chosen: f64 = (0..copies)
            .map(|i| (n - f64::from(i)) * self.rate)
            .product();
        let sum: f64 = (0..steps)
            .map(|i| {
                let t = from + (f64::from(i) + 0.5) * step;
                let first = if original { 1.0 / 30.0 } else { Self::at(p, t) };
                let others: f64 = later_d.iter().map(|d| Self::at(p, t + d)).product();
                let quiet = 1.0 - self.rate * Self::by(p, t + span_d);
                first * others * quiet.powf(n - f64::from(copies))
            })
            .sum();
        chosen * sum * step
    }

    /// Chance that a further pack is in this city, after packs in those.
    fn in_city(&self, city: usize, before: &[usize]) -> f64 {
        let each = f64::from(COPIES) / self.cities as f64;
        let left = f64::from(COPIES) - before.len() as f64;
        let here = |city| before.iter().filter(|c| **c == city).count() as f64;
        if here(city) > 0.0 {
            return (each - here(city)).max(0.0) / left;
        }
        let mut known: Vec<usize> = before.to_vec();
        known.sort_unstable();
        known.dedup();
        let in_known: f64 = known
            .iter()
            .map(|c| (each - here(*c)).max(0.0) / left)
            .sum();
        (1.0 - in_known) / (CITIES.len() - known.len()) as f64
    }
}

/// What the all-knowing detector makes of a case.
enum Judged {
    /// Noticed without an error.
    Given,
    /// By its likelihood ratio.
    Ratio(f64),
}

fn exponential(mean: f64, x: f64) -> f64 {
    if x < 0.0 {
        0.0
    } else {
        (-x / mean).exp() / mean
    }
}

/// What a scan by another person may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The opening of a pack.
    Pack,
    /// The buyer of a gift.
    Buyer,
    /// Somebody of the household of that opening, or who took it to another city.
    Household(usize),
    Traveller(usize),
}

/// Every way in which the scans by other persons can have come about.
fn ways(scans: &[Seen; 3], others: &[usize], gift: bool) -> Vec<Vec<(usize, Role)>> {
    let mut ways: Vec<Vec<(usize, Role)>> = vec![Vec::new()];
    for i in others {
        let mut next = Vec::new();
        for way in ways {
            let mut with = |role| {
                let mut longer = way.clone();
                longer.push((*i, role));
                next.push(longer);
            };
            with(Role::Pack);
            if gift && way.is_empty() {
                with(Role::Buyer);
            }
            for (j, role) in &way {
                if *role == Role::Pack {
                    let (Some(a), Some(b)) = (scans.get(*j), scans.get(*i)) else {
                        continue;
                    };
                    with(if a.city == b.city {
                        Role::Household(*j)
                    } else {
                        Role::Traveller(*j)
                    });
                }
            }
        }
        ways = next;
    }
    // Who comes again, and guests, follow from an opening that stands there.
    ways.retain(|way| {
        scans.iter().all(|seen| {
            seen.kind == Kind::Other
                || way.iter().any(|(j, role)| {
                    *role == Role::Pack
                        && scans
                            .get(*j)
                            .is_some_and(|s| s.opening && s.main == seen.main)
                })
        })
    });
    ways
}

/// Density of what hangs on the openings, and of the claim codes, with claim codes that work and with some that do not.
fn rest(m: &Model, case: &Case, way: &[(usize, Role)]) -> [f64; 2] {
    let h = &m.p.honest;
    let mut density = 1.0;
    let mut enters = case.scans.map(|seen| match seen.kind {
        Kind::Same => h.claim_again,
        _ => h.claim_other,
    });
    for (i, role) in way {
        let (Some(seen), Some(claim)) = (case.scans.get(*i), enters.get_mut(*i)) else {
            continue;
        };
        match role {
            Role::Pack => *claim = h.claim_first,
            Role::Buyer => *claim = 0.0,
            Role::Household(j) => {
                if let Some(opening) = case.scans.get(*j) {
                    density *= m.household(seen.at_d - opening.at_d);
                }
            }
            Role::Traveller(j) => {
                *claim = h.claim_again;
                if let Some(opening) = case.scans.get(*j) {
                    density *= m.travel(opening.city, seen.city, seen.at_d - opening.at_d);
                }
            }
        }
    }
    [true, false].map(|works| {
        let claims: f64 = case
            .scans
            .iter()
            .zip(enters)
            .map(|(seen, enters)| m.claim_of(seen, enters, works))
            .product();
        density * claims
    })
}

fn guessing(case: &Case, chance: f64) -> f64 {
    let one = |s: &Seen| if s.guessing { chance } else { 1.0 - chance };
    case.scans.iter().map(one).product()
}

fn judge(m: &Model, plan: &Plan, case: &Case) -> Judged {
    let p = &m.p;
    let h = &p.honest;
    if case.scans.iter().any(|s| s.given) {
        return Judged::Given;
    }
    let [begin, _, end] = &case.scans;
    let span = end.at_d - begin.at_d;
    let others: Vec<usize> = (0..3)
        .filter(|i| case.scans.get(*i).is_some_and(|s| s.kind == Kind::Other))
        .collect();
    let openings = |way: &[(usize, Role)]| -> Vec<Seen> {
        way.iter()
            .filter(|(_, role)| *role == Role::Pack)
            .filter_map(|(i, _)| case.scans.get(*i).copied())
            .collect()
    };
    let mut honest = 0.0;
    for way in ways(&case.scans, &others, true) {
        let [opening] = openings(&way)[..] else {
            continue;
        };
        let buyer = way.iter().find(|(_, role)| *role == Role::Buyer);
        let begins = match buyer.and_then(|(i, _)| case.scans.get(*i)) {
            None => m.share_of(opening.city) * m.territory_of(case.territory, opening.city),
            Some(buyer) => {
                let (days, gap) = (h.gift_days, opening.at_d - buyer.at_d);
                if !(days.0..=days.1).contains(&gap) {
                    continue;
                }
                m.share_of(buyer.city)
                    * m.territory_of(case.territory, buyer.city)
                    * h.gift_away
                    * h.gift_both
                    * m.pull_of(buyer.city, opening.city)
                    / (days.1 - days.0)
            }
        };
        honest += begins * rest(m, case, &way)[0];
    }
    honest *= guessing(case, h.many_failures);
    let original = p.forged.original_sold * plan.rate;
    let works = p.forged.claim_copied;
    let mut copied = 0.0;
    for way in ways(&case.scans, &others, false) {
        let packs = openings(&way);
        let Some((first, further)) = packs.split_first() else {
            continue;
        };
        let later: Vec<f64> = further.iter().map(|s| s.at_d - first.at_d).collect();
        let span = span - (first.at_d - begin.at_d);
        let chance_of_cities = |before: &[usize]| {
            let mut before = before.to_vec();
            let mut chance = 1.0;
            for pack in further {
                chance *= plan.in_city(pack.city, &before);
                before.push(pack.city);
            }
            chance
        };
        let [right, wrong] = rest(m, case, &way);
        let mixed = works * right + (1.0 - works) * wrong;
        copied += (1.0 - original)
            * plan.in_city(first.city, &[])
            * chance_of_cities(&[first.city])
            * plan.packs(p, &later, span, false)
            * mixed
            * m.territory_of_copy(case.territory);
        copied += original
            * m.share_of(first.city)
            * chance_of_cities(&[])
            * plan.packs(p, &later, span, true)
            * mixed
            * m.territory_of(case.territory, first.city);
    }
    copied *= guessing(case, p.forged.tester);
    Judged::Ratio(if honest > 0.0 {
        copied / honest
    } else {
        f64::INFINITY
    })
}

fn main() {
    let m = Model::new(FROZEN);
    let seeds = [0x6f72_0001_u64, 0x6f72_0002];
    let cases: Vec<Case> = std::thread::scope(|scope| {
        let m = &m;
        let parts = seeds.map(|seed| {
            scope.spawn(move || {
                (0..HONEST / 2)
                    .filter_map(|unit| m.honest(seed, unit))
                    .collect::<Vec<_>>()
            })
        });
        parts
            .into_iter()
            .flat_map(|p| p.join().unwrap_or_default())
            .collect()
    });
    let share = |n: usize, of: u64| n as f64 / of as f64;
    println!(
        "{HONEST} honest units, {:.2}% with three scans\n",
        share(cases.len(), HONEST) * 100.0
    );
    println!(
        "| cities | buyers who scan | third scan is of the third pack, here | in the simulator | the most that can be noticed |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let world = World::new(FROZEN);
    let (mut sum, mut plans) = (0.0, 0.0);
    for cities in [20, 30, 50] {
        for rate in SCAN_RATES {
            let plan = Plan { cities, rate };
            let mut honest: Vec<f64> = cases
                .iter()
                .filter_map(|case| match judge(&m, &plan, case) {
                    Judged::Ratio(ratio) => Some(ratio),
                    // Given: no error counts.
                    Judged::Given => None,
                })
                .collect();
            honest.sort_by(|a, b| b.total_cmp(a));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "some thousands"
            )]
            let may = (WRONG * HONEST as f64) as usize;
            let limit = honest.get(may).copied().unwrap_or_default();
            let (mut of, mut noticed, mut third) = (0_u32, 0_u32, 0_u32);
            for run in 0..RUNS {
                let Some(case) = m.copied(seeds[0] ^ 0xff00, run, cities, rate) else {
                    continue;
                };
                of += 1;
                third += u32::from(case.scans.iter().all(|s| s.opening));
                noticed += u32::from(match judge(&m, &plan, &case) {
                    Judged::Given => true,
                    Judged::Ratio(ratio) => ratio > limit,
                });
            }
            // The same of the frozen simulator, to see that this is the same world.
            let campaign = Campaign {
                copies: COPIES,
                sources: 1,
                cities,
                scan_rate: rate,
            };
            let (mut sim_of, mut sim_third) = (0_u32, 0_u32);
            for run in 0..RUNS {
                for scans in world.campaign(seeds[1] ^ 0xff00, run, &campaign) {
                    if let [a, b, c, ..] = scans.as_slice() {
                        sim_of += 1;
                        sim_third +=
                            u32::from(a.pack != b.pack && b.pack != c.pack && a.pack != c.pack);
                    }
                }
            }
            let percent = |n: u32, of: u32| 100.0 * f64::from(n) / f64::from(of.max(1));
            println!(
                "| {cities} | {:.0}% | {:.1}% | {:.1}% | {:.1}% |",
                rate * 100.0,
                percent(third, of),
                percent(sim_third, sim_of),
                percent(noticed, of)
            );
            sum += percent(noticed, of);
            plans += 1.0;
        }
    }
    println!("\nin all {:.1}%", sum / plans);
}
