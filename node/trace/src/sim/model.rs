//! The two worlds: honest units, and codes that were copied.

use super::cities::{CITIES, City, EXITS, Region, SALES_REGIONS};
use super::dice::Dice;
use super::params::{Params, SCAN_RATES};
use crate::geo::distance_m;

const HOUR_MS: f64 = 3_600_000.0;
const DAY_MS: f64 = 24.0 * HOUR_MS;
/// 2026-01-01, the day before which nothing happens.
const EPOCH_MS: f64 = 1_767_225_600_000.0;

/// What became of a claim code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimClaim {
    /// None was entered.
    Absent,
    /// That of the unit.
    Right,
    /// Another.
    Wrong,
}

/// Where the unit stood by what its issuer knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimStage {
    /// Its batch was not activated.
    Early,
    /// On the market.
    Market,
    /// A shop scanned it as stock after its sale was recorded.
    StockAfterSale,
    /// On the void list.
    Void,
}

/// A place as a phone or its network says it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimPlace {
    /// Latitude, degrees.
    pub lat: f64,
    /// Longitude, degrees.
    pub lon: f64,
    /// Accuracy radius, metres.
    pub radius_m: f64,
}

/// One scan, with the truth about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimScan {
    /// POSIX milliseconds.
    pub time_ms: u64,
    /// Pseudonym.
    pub source: [u8; 16],
    /// The place that is told.
    pub place: Option<SimPlace>,
    /// The claim code.
    pub claim: SimClaim,
    /// The unit's stage.
    pub stage: SimStage,
    /// Whether the told place is in the unit's territory; `None` if either is not known.
    pub in_territory: Option<bool>,
    /// Failures of the source with other codes in the last day.
    pub failures: u32,
    /// Truth: the pack that was in front of the phone; 0 is the genuine one.
    pub pack: u32,
}

/// A counterfeiter's work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Campaign {
    /// Packs with copied codes.
    pub copies: u32,
    /// Codes that they were copied from; dealt evenly.
    pub sources: u32,
    /// Cities where they are sold. Each code's copies are dealt evenly over them: this is what "spread over 20 cities" says. A
    /// spread with most copies in a few cities is like one over those few.
    pub cities: usize,
    /// Chance that a buyer scans.
    pub scan_rate: f64,
}

impl Campaign {
    /// 100 copies of one code over 20, 30 or 50 cities, at each of [`SCAN_RATES`]: every pair of them in turn, by the number of a run.
    #[must_use]
    pub const fn of_run(run: u64) -> Self {
        Self {
            copies: 100,
            sources: 1,
            cities: [20, 30, 50][(run % 3) as usize],
            scan_rate: SCAN_RATES[(run / 3 % 3) as usize],
        }
    }
}

/// The world.
#[derive(Debug)]
pub struct World {
    params: Params,
    people: Vec<f64>,
    /// For each city, weights of the others: near and large ones draw travellers and gifts.
    pull: Vec<Vec<f64>>,
    /// For each city, those where its mobile traffic may surface.
    gateways: Vec<Vec<usize>>,
}

/// Somebody with a phone.
#[derive(Clone, Copy)]
struct Person {
    vpn: bool,
    city: usize,
    source: [u8; 16],
    place: Option<SimPlace>,
}

/// What is common to all scans of one pack.
#[derive(Clone, Copy)]
struct Pack {
    number: u32,
    territory: Option<Region>,
    claim_works: bool,
    testers: bool,
}

impl World {
    /// A world by these parameters.
    #[must_use]
    pub fn new(params: Params) -> Self {
        let km = |a: &City, b: &City| distance_m(a.at(), b.at()) / 1000.0;
        let pull = CITIES
            .iter()
            .map(|from| {
                CITIES
                    .iter()
                    .map(|to| {
                        if from.name == to.name {
                            0.0
                        } else {
                            to.people / (50.0 + km(from, to))
                        }
                    })
                    .collect()
            })
            .collect();
        let gateways = CITIES
            .iter()
            .map(|from| {
                (0..CITIES.len())
                    .filter(|i| {
                        CITIES.get(*i).is_some_and(|to| {
                            to.name != from.name && km(from, to) <= params.phones.ip_elsewhere_km
                        })
                    })
                    .collect()
            })
            .collect();
        Self {
            params,
            people: CITIES.iter().map(|c| c.people).collect(),
            pull,
            gateways,
        }
    }

    /// All scans of one genuine unit that is not copied and is scanned at least once, oldest first.
    #[must_use]
    pub fn honest_unit(&self, seed: u64, unit: u64) -> Vec<SimScan> {
        let dice = &mut Dice::new(seed, unit);
        let h = &self.params.honest;
        let home = dice.weighted(&self.people);
        let pack = Pack {
            number: 0,
            territory: self.territory(dice, home),
            claim_works: true,
            testers: false,
        };
        let sold_ms = EPOCH_MS + dice.between(30.0, 60.0) * DAY_MS;
        let mut scans = Vec::new();
        if dice.chance(h.staff_early) {
            let early = sold_ms - dice.between(15.0, 25.0) * DAY_MS;
            let person = self.person(dice, home);
            scans.push(SimScan {
                stage: SimStage::Early,
                claim: SimClaim::Absent,
                ..self.scan(dice, &pack, &person, early)
            });
        }
        let (opened_in, opened_ms) = if dice.chance(h.gift_away * h.gift_both) {
            let buyer = self.person(dice, home);
            scans.push(SimScan {
                claim: SimClaim::Absent,
                ..self.scan(dice, &pack, &buyer, sold_ms)
            });
            let days = dice.between(h.gift_days.0, h.gift_days.1);
            (self.other_city(dice, home), sold_ms + days * DAY_MS)
        } else {
            (home, sold_ms)
        };
        self.opened(dice, &pack, opened_in, opened_ms, &mut scans);
        if dice.chance(self.params.sale_recorded * h.returned) {
            let clerk = self.person(dice, home);
            let back = sold_ms + dice.between(1.0, 14.0) * DAY_MS;
            scans.push(SimScan {
                stage: SimStage::StockAfterSale,
                claim: SimClaim::Absent,
                ..self.scan(dice, &pack, &clerk, back)
            });
        }
        if dice.chance(h.void_mistake) {
            for scan in &mut scans {
                scan.stage = SimStage::Void;
            }
        }
        scans.sort_by_key(|s| s.time_ms);
        scans
    }

    /// The scans of one genuine unit that is shown to many in one place, in a window or on a stage: each of `people` scans it once within
    /// `span_ms`. Oldest first. It is no part of the frozen world, and no published figure but its own rests on it.
    #[must_use]
    pub fn shown_unit(&self, seed: u64, unit: u64, people: u32, span_ms: f64) -> Vec<SimScan> {
        let dice = &mut Dice::new(seed, unit);
        let city = dice.weighted(&self.people);
        let pack = Pack {
            number: 0,
            territory: self.territory(dice, city),
            claim_works: true,
            testers: false,
        };
        let begin_ms = EPOCH_MS + dice.between(30.0, 60.0) * DAY_MS;
        let centre = CITIES.get(city).map_or((0.0, 0.0), City::at);
        let stands = dice.near(centre, 15_000.0);
        let gps_radius_m = self.params.phones.gps_radius_m;
        let mut scans: Vec<SimScan> = (0..people)
            .map(|_| {
                let mut person = self.person(dice, city);
                // Everybody stands before it.
                if let Some(place) = &mut person.place
                    && place.radius_m <= gps_radius_m
                {
                    (place.lat, place.lon) = dice.near(stands, gps_radius_m);
                }
                let at = begin_ms + dice.between(0.0, span_ms);
                self.scan(dice, &pack, &person, at)
            })
            .collect();
        scans.sort_by_key(|s| s.time_ms);
        scans
    }

    /// The scans of each copied code of a campaign, oldest first; a code that nobody scanned has none.
    ///
    /// A buyer of a copy behaves as any honest person does.
    #[must_use]
    pub fn campaign(&self, seed: u64, run: u64, campaign: &Campaign) -> Vec<Vec<SimScan>> {
        let dice = &mut Dice::new(seed, run);
        let f = &self.params.forged;
        let mut cities: Vec<usize> = (0..CITIES.len()).collect();
        for i in 0..cities.len() {
            let left = cities.len().saturating_sub(i);
            cities.swap(i, i + dice.below(left));
        }
        cities.truncate(campaign.cities.max(1));
        let begin_ms = EPOCH_MS + 30.0 * DAY_MS;
        let claim_works = dice.chance(f.claim_copied);
        let early = dice.chance(f.leaked_early);
        let void = dice.chance(f.from_waste);
        (0..campaign.sources)
            .map(|code| {
                let source_city = dice.weighted(&self.people);
                let territory = self.territory(dice, source_city);
                let sale_known = dice.chance(self.params.sale_recorded);
                let mut scans = Vec::new();
                if dice.chance(f.original_sold * campaign.scan_rate) {
                    let pack = Pack {
                        number: 0,
                        territory,
                        claim_works: true,
                        testers: false,
                    };
                    let at = begin_ms - dice.between(0.0, 30.0) * DAY_MS;
                    self.opened(dice, &pack, source_city, at, &mut scans);
                }
                // The copies of this code, by their number in the whole print run.
                let mine = (code..campaign.copies).step_by(campaign.sources.max(1) as usize);
                for (place, number) in mine.enumerate() {
                    let Some(city) = cities.get(place % cities.len().max(1)).copied() else {
                        continue;
                    };
                    let pack = Pack {
                        number: number + 1,
                        territory,
                        claim_works,
                        testers: true,
                    };
                    let sold_ms = begin_ms + dice.between(0.0, f.sold_days) * DAY_MS;
                    if sale_known && dice.chance(f.shop_scan * campaign.scan_rate) {
                        let clerk = self.person(dice, city);
                        scans.push(SimScan {
                            stage: SimStage::StockAfterSale,
                            claim: SimClaim::Absent,
                            ..self.scan(dice, &pack, &clerk, sold_ms)
                        });
                    }
                    if dice.chance(campaign.scan_rate) {
                        let at = sold_ms + dice.exponential(f.scan_mean_d) * DAY_MS;
                        self.opened(dice, &pack, city, at, &mut scans);
                    }
                }
                let activated_ms = begin_ms + f.early_days * DAY_MS;
                for scan in &mut scans {
                    if void && scan.pack != 0 {
                        scan.stage = SimStage::Void;
                    } else if early && before(scan.time_ms, activated_ms) {
                        scan.stage = SimStage::Early;
                    }
                }
                scans.sort_by_key(|s| s.time_ms);
                scans
            })
            .collect()
    }

    /// A pack is scanned where it is opened, and what follows from that.
    fn opened(
        &self,
        dice: &mut Dice,
        pack: &Pack,
        city: usize,
        at_ms: f64,
        scans: &mut Vec<SimScan>,
    ) {
        let h = &self.params.honest;
        let first = self.person(dice, city);
        let scan = self.scan(dice, pack, &first, at_ms);
        scans.push(SimScan {
            claim: self.claim(dice, pack, h.claim_first),
            ..scan
        });
        for _ in 0..dice.poisson(h.rescans) {
            let kind = dice.weighted(&[
                h.rescan_same,
                h.rescan_household,
                h.rescan_shelf,
                h.rescan_travel,
            ]);
            let delay_ms = if dice.chance(h.late) {
                dice.exponential(h.late_mean_d) * DAY_MS
            } else {
                dice.exponential(h.soon_mean_h) * HOUR_MS
            };
            let (person, when_ms, claims) = match kind {
                0 => {
                    let again = self.same_person(dice, &first);
                    (again, at_ms + delay_ms, h.claim_again)
                }
                1 => (self.person(dice, city), at_ms + delay_ms, h.claim_other),
                2 => {
                    let earlier = dice.exponential(h.shelf_mean_d) * DAY_MS;
                    // The claim code is covered while the pack stands on a shelf.
                    (self.person(dice, city), at_ms - earlier, 0.0)
                }
                _ => {
                    let to = self.other_city(dice, city);
                    let km = match (CITIES.get(city), CITIES.get(to)) {
                        (Some(a), Some(b)) => distance_m(a.at(), b.at()) / 1000.0,
                        _ => 0.0,
                    };
                    let way_h = h.travel_lost_h + km / h.travel_kmh;
                    let stay = dice.exponential(h.travel_mean_d) * DAY_MS;
                    let person = self.person(dice, to);
                    (person, at_ms + way_h * HOUR_MS + stay, h.claim_again)
                }
            };
            let scan = self.scan(dice, pack, &person, when_ms);
            scans.push(SimScan {
                claim: self.claim(dice, pack, claims),
                ..scan
            });
        }
        if dice.chance(h.table) {
            for _ in 0..=dice.poisson(h.table_more) {
                let guest = self.person(dice, city);
                let when_ms = at_ms + dice.between(0.0, h.table_h) * HOUR_MS;
                let scan = self.scan(dice, pack, &guest, when_ms);
                scans.push(SimScan {
                    claim: self.claim(dice, pack, h.claim_other),
                    ..scan
                });
            }
        }
    }

    fn scan(&self, dice: &mut Dice, pack: &Pack, person: &Person, at_ms: f64) -> SimScan {
        let (h, f) = (&self.params.honest, &self.params.forged);
        let many = if pack.testers {
            f.tester
        } else {
            h.many_failures
        };
        let failures = if dice.chance(many) {
            5 + dice.poisson(7.0)
        } else if dice.chance(h.few_failures) {
            1 + dice.poisson(0.5).min(2)
        } else {
            0
        };
        SimScan {
            time_ms: whole_ms(at_ms),
            source: person.source,
            place: person.place,
            claim: SimClaim::Absent,
            stage: SimStage::Market,
            in_territory: match (pack.territory, person.place) {
                (Some(territory), Some(place)) => Some(region_of(&place) == territory),
                _ => None,
            },
            failures,
            pack: pack.number,
        }
    }

    fn claim(&self, dice: &mut Dice, pack: &Pack, chance: f64) -> SimClaim {
        if !dice.chance(chance) {
            SimClaim::Absent
        } else if !pack.claim_works || dice.chance(self.params.honest.claim_slip) {
            SimClaim::Wrong
        } else {
            SimClaim::Right
        }
    }

    fn person(&self, dice: &mut Dice, city: usize) -> Person {
        let vpn = dice.chance(self.params.phones.vpn);
        self.connect(dice, vpn, city)
    }

    /// The same person scanning in the same city later, perhaps from another address.
    fn same_person(&self, dice: &mut Dice, person: &Person) -> Person {
        if person.vpn || dice.chance(self.params.phones.new_address) {
            self.connect(dice, person.vpn, person.city)
        } else {
            *person
        }
    }

    /// A pseudonym and a place for one connection.
    fn connect(&self, dice: &mut Dice, vpn: bool, city: usize) -> Person {
        let p = &self.params.phones;
        let centre = |city: usize| CITIES.get(city).map_or((0.0, 0.0), City::at);
        // People live around the centre.
        let truth = dice.near(centre(city), 15_000.0);
        let place = if dice.chance(p.gps) {
            let (lat, lon) = dice.near(truth, p.gps_radius_m);
            Some(SimPlace {
                lat,
                lon,
                radius_m: p.gps_radius_m,
            })
        } else if dice.chance(p.no_place) {
            None
        } else {
            let around = if vpn && dice.chance(p.vpn_on) {
                if dice.chance(p.vpn_abroad) {
                    EXITS.get(dice.below(EXITS.len())).map_or(truth, City::at)
                } else {
                    centre(dice.below(CITIES.len()))
                }
            } else if dice.chance(p.ip_elsewhere) {
                let near = self.gateways.get(city).map_or(&[][..], Vec::as_slice);
                near.get(dice.below(near.len()))
                    .map_or(truth, |c| centre(*c))
            } else {
                truth
            };
            let (lat, lon) = dice.near(around, p.ip_radius_m);
            Some(SimPlace {
                lat,
                lon,
                radius_m: p.ip_radius_m,
            })
        };
        Person {
            vpn,
            city,
            source: dice.bytes(),
            place,
        }
    }

    fn other_city(&self, dice: &mut Dice, from: usize) -> usize {
        self.pull.get(from).map_or(0, |pull| dice.weighted(pull))
    }

    /// The region to which a unit was shipped that is opened at `home`.
    fn territory(&self, dice: &mut Dice, home: usize) -> Option<Region> {
        if !dice.chance(self.params.territory_known) {
            return None;
        }
        if dice.chance(self.params.honest.diverted) {
            SALES_REGIONS.get(dice.below(SALES_REGIONS.len())).copied()
        } else {
            CITIES.get(home).map(|c| c.region)
        }
    }
}

/// The region of the nearest city.
fn region_of(place: &SimPlace) -> Region {
    let at = (place.lat, place.lon);
    CITIES
        .iter()
        .chain(&EXITS)
        .min_by(|a, b| distance_m(a.at(), at).total_cmp(&distance_m(b.at(), at)))
        .map_or(Region::Abroad, |c| c.region)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times of the simulation are positive and far below 2^53"
)]
fn whole_ms(ms: f64) -> u64 {
    ms.max(0.0) as u64
}

fn before(time_ms: u64, limit_ms: f64) -> bool {
    time_ms < whole_ms(limit_ms)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::params::{FORMER_SEEDS, FRESH_SEEDS, FROZEN, HELD_OUT_SEEDS, TUNING_SEEDS};
    use super::{Campaign, SimPlace, World, region_of};
    use crate::sim::cities::{CITIES, Region};

    const UNITS: u64 = 40_000;

    #[test]
    fn a_seed_gives_the_same_world_again_and_another_gives_another() {
        let world = World::new(FROZEN);
        let unit = |seed, n| world.honest_unit(seed, n);
        assert_eq!(unit(1, 7), World::new(FROZEN).honest_unit(1, 7));
        assert_ne!(unit(1, 7), unit(2, 7));
        assert_ne!(unit(1, 7), unit(1, 8));
        let all = [
            &TUNING_SEEDS[..],
            &HELD_OUT_SEEDS,
            &FORMER_SEEDS,
            &FRESH_SEEDS,
        ]
        .concat();
        let different: BTreeSet<u64> = all.iter().copied().collect();
        assert_eq!(all.len(), different.len());
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
    fn honest_units_are_scanned_as_often_as_the_parameters_say() {
        let world = World::new(FROZEN);
        let h = FROZEN.honest;
        let scans: usize = (0..UNITS)
            .map(|n| world.honest_unit(TUNING_SEEDS[0], n).len())
            .sum();
        let expected = 1.0
            + h.rescans
            + h.table * (1.0 + h.table_more)
            + h.gift_away * h.gift_both
            + h.staff_early
            + FROZEN.sale_recorded * h.returned;
        let mean = scans as f64 / UNITS as f64;
        assert!((mean - expected).abs() < 0.01, "{mean} against {expected}");
    }

    #[test]
    fn copies_are_dealt_evenly_over_codes_and_cities() {
        let world = World::new(FROZEN);
        let campaign = Campaign {
            copies: 60,
            sources: 3,
            cities: 10,
            scan_rate: 1.0,
        };
        let codes = world.campaign(TUNING_SEEDS[0], 5, &campaign);
        assert_eq!(codes.len(), 3);
        for scans in &codes {
            let packs: BTreeSet<u32> = scans.iter().map(|s| s.pack).filter(|p| *p != 0).collect();
            assert_eq!(packs.len(), 20);
            assert!(scans.is_sorted_by_key(|s| s.time_ms));
        }
        let single = Campaign {
            copies: 40,
            sources: 1,
            cities: 1,
            scan_rate: 1.0,
        };
        let codes = world.campaign(TUNING_SEEDS[0], 5, &single);
        assert_eq!(codes.len(), 1);
    }

    #[test]
    fn every_city_is_in_its_own_region() {
        for city in CITIES {
            let place = SimPlace {
                lat: city.lat,
                lon: city.lon,
                radius_m: 50.0,
            };
            assert_eq!(region_of(&place), city.region, "{}", city.name);
            assert_ne!(city.region, Region::Abroad);
        }
    }
}
