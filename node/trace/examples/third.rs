//! Prototype.
use std::collections::{BTreeMap, BTreeSet};
use tally_trace::history::History;
use tally_trace::observation::Observation;
use tally_trace::sim::params::{FROZEN, SCAN_RATES, TUNING_SEEDS};
use tally_trace::sim::{Campaign, SimScan, World};

#[derive(Default)]
struct Watch {
    old: History,
    peak: i32,
}
impl Watch {
    fn observe(&mut self, o: &Observation) {
        self.old.observe(o);
        self.peak = self.old.assess().score_mnat as i32;
    }
}
fn shape(scans: &[SimScan]) -> String {
    let mut names: Vec<u32> = Vec::new();
    let mut s = String::new();
    for x in scans.iter().take(3) {
        let at = names.iter().position(|p| *p == x.pack).unwrap_or_else(|| {
            names.push(x.pack);
            names.len() - 1
        });
        s.push(char::from(b'A' + at as u8));
    }
    s
}
fn main() {
    let honest: u64 = std::env::args()
        .nth(1)
        .map_or(500_000, |s| s.parse().unwrap());
    let runs: u64 = 1500;
    let world = World::new(FROZEN);
    let mut scores: Vec<(i32, u64, u64)> = std::thread::scope(|scope| {
        let world = &world;
        let parts = TUNING_SEEDS.map(|seed| {
            scope.spawn(move || {
                (0..honest)
                    .filter_map(|u| {
                        let scans = world.honest_unit(seed, u);
                        if scans.len() < 2 {
                            return None;
                        }
                        let mut w = Watch::default();
                        for s in &scans {
                            w.observe(&s.observation())
                        }
                        (w.peak > 2000).then_some((w.peak, seed, u))
                    })
                    .collect::<Vec<_>>()
            })
        });
        parts.into_iter().flat_map(|p| p.join().unwrap()).collect()
    });
    scores.sort_by(|a, b| b.cmp(a));
    let n = honest as f64 * 4.0;
    let limit = scores[(n * 0.75e-4) as usize].0;
    println!(
        "limit at 0.75e-4: {limit}; at 1e-4 {}",
        scores[(n * 1e-4) as usize].0
    );
    let mut by: BTreeMap<(String, usize), (u32, u32)> = BTreeMap::new();
    let mut missed: BTreeMap<String, u32> = BTreeMap::new();
    let mut tot = (0, 0, 0, 0, 0);
    for cities in [20, 30, 50] {
        for rate in SCAN_RATES {
            let c = Campaign {
                copies: 100,
                sources: 1,
                cities,
                scan_rate: rate,
            };
            let (mut of, mut hit, mut pof, mut phit, mut oldhit) = (0, 0, 0, 0, 0);
            for seed in TUNING_SEEDS {
                for run in 0..runs / 4 {
                    for scans in world.campaign(seed, run, &c) {
                        let mut w = Watch::default();
                        let mut packs = BTreeSet::new();
                        for (i, s) in scans.iter().enumerate() {
                            w.observe(&s.observation());
                            packs.insert(s.pack);
                            if i == 2 {
                                of += 1;
                                let h = w.peak > limit;
                                hit += u32::from(h);
                                oldhit += u32::from(w.old.assess().score_mnat >= 7200);
                                let e = by
                                    .entry((
                                        shape(&scans),
                                        scans[..3]
                                            .iter()
                                            .map(|s| s.source)
                                            .collect::<BTreeSet<_>>()
                                            .len(),
                                    ))
                                    .or_default();
                                e.0 += 1;
                                e.1 += u32::from(h);
                                if !h {
                                    let f = scans[0];
                                    let mut k = shape(&scans);
                                    for x in &scans[..3] {
                                        let km = match (x.place, f.place) {
                                            (Some(a), Some(b)) => {
                                                tally_trace::geo::distance_m(
                                                    (a.lat, a.lon),
                                                    (b.lat, b.lon),
                                                ) / 1e3
                                            }
                                            _ => -1.0,
                                        };
                                        let d = (x.time_ms - f.time_ms) as f64 / 8.64e7;
                                        k.push_str(&format!(
                                            " {}{}",
                                            if km < 0.0 {
                                                "?"
                                            } else if km < 150. {
                                                "n"
                                            } else if km < 450. {
                                                "m"
                                            } else {
                                                "F"
                                            },
                                            if d < 0.25 {
                                                "0"
                                            } else if d < 7. {
                                                "d"
                                            } else {
                                                "w"
                                            }
                                        ));
                                    }
                                    *missed.entry(k).or_default() += 1;
                                }
                            }
                            if packs.len() == 3 && i >= 2 {
                                pof += 1;
                                phit += u32::from(w.peak > limit);
                                break;
                            }
                        }
                    }
                }
            }
            println!(
                "{cities} {rate}: third scan {:.2}% (old {:.2}%)  third pack {:.2}%",
                100. * f64::from(hit) / f64::from(of),
                100. * f64::from(oldhit) / f64::from(of),
                100. * f64::from(phit) / f64::from(pof)
            );
            tot = (
                tot.0 + of,
                tot.1 + hit,
                tot.2 + pof,
                tot.3 + phit,
                tot.4 + oldhit,
            );
        }
    }
    let p = |a: u32, b: u32| 100. * f64::from(a) / f64::from(b);
    println!(
        "ALL third scan {:.2}% (old {:.2}%) third pack {:.2}%",
        p(tot.1, tot.0),
        p(tot.4, tot.0),
        p(tot.3, tot.2)
    );
    for (k, (n, h)) in by {
        println!(
            "{k:?}: {:.2}% of runs, noticed {:.1}%, missed {:.2}% of all",
            p(n, tot.0),
            p(h, n),
            p(n - h, tot.0)
        );
    }
    let mut missed: Vec<_> = missed.into_iter().collect();
    missed.sort_by_key(|k| std::cmp::Reverse(k.1));
    for (k, m) in missed.iter().take(30) {
        println!("  missed {:.2}% {k}", p(*m, tot.0));
    }
    // What honest units are called.
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for (_, seed, u) in scores.iter().take((n * 0.75e-4) as usize) {
        let scans = world.honest_unit(*seed, *u);
        let mut s = String::new();
        let f = scans[0];
        for x in &scans {
            let km = match (x.place, f.place) {
                (Some(a), Some(b)) => {
                    tally_trace::geo::distance_m((a.lat, a.lon), (b.lat, b.lon)) / 1e3
                }
                _ => -1.0,
            };
            let d = (x.time_ms - f.time_ms) as f64 / 8.64e7;
            s.push_str(&format!(
                "{}{}{} ",
                if km < 0.0 {
                    "?"
                } else if km < 150. {
                    "n"
                } else if km < 450. {
                    "m"
                } else {
                    "F"
                },
                if d < 0.25 {
                    "0"
                } else if d < 7. {
                    "d"
                } else {
                    "w"
                },
                match x.claim {
                    tally_trace::sim::SimClaim::Wrong => "!",
                    _ => "",
                }
            ));
        }
        *kinds.entry(s).or_default() += 1;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|k| std::cmp::Reverse(k.1));
    for (k, n) in kinds.iter().take(25) {
        println!("  {n} {k}");
    }
}
