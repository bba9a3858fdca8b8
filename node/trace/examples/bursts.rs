//! Measures what the frozen simulation, which sells copies over two months, does not show: copies of a code that are all scanned
//! within an hour or a day, a genuine unit that is shown to many, and copies of which no place is told. Everything but the words of
//! the tables stays as the parameters say.
//!
//! `cargo run --release -p tally-trace --example bursts -- fresh` for the published figures; without a word, on the tuning seeds.

use tally_trace::history::History;
use tally_trace::score::DEFAULT_THRESHOLD_MNAT;
use tally_trace::sim::params::{
    FRESH_SEEDS, FROZEN, Forged, Honest, Params, Phones, SCAN_RATES, TUNING_SEEDS,
};
use tally_trace::sim::run::{campaign_scores, honest_score};
use tally_trace::sim::{Campaign, SimScan, World};

/// Runs of each row and seed.
const RUNS: u64 = 250;
/// Units that are shown, of each row and seed.
const SHOWN: u64 = 250;
/// Honest units of each seed where no place is told.
const HONEST: u64 = 50_000;
const HOUR_MS: f64 = 3_600_000.0;
const SPANS: [(&str, f64); 3] = [
    ("a minute", HOUR_MS / 60.0),
    ("an hour", HOUR_MS),
    ("a day", 24.0 * HOUR_MS),
];

fn suspect(score: u32) -> bool {
    score >= DEFAULT_THRESHOLD_MNAT
}

/// Counted from 1: the scan at which a code is suspect.
fn noticed_at(scans: &[SimScan]) -> Option<usize> {
    let mut history = History::new();
    let at = scans.iter().position(|scan| {
        history.observe(&scan.observation());
        suspect(history.assess().score_mnat)
    })?;
    Some(at + 1)
}

fn percent(n: usize, of: usize) -> String {
    format!("{:.1}%", 100.0 * n as f64 / of.max(1) as f64)
}

/// The frozen world, but no phone says where it is and nobody enters a claim code: what is passed on is a picture.
fn picture() -> Params {
    Params {
        honest: Honest {
            claim_first: 0.0,
            claim_again: 0.0,
            claim_other: 0.0,
            ..FROZEN.honest
        },
        phones: Phones {
            gps: 0.0,
            ..FROZEN.phones
        },
        ..FROZEN
    }
}

/// Copies of one code that are all scanned within some time.
fn bursts(seeds: [u64; 4], params: Params) {
    let marks = [3, 4, 5, 6, 10];
    println!("| cities | 100 copies scanned within | third scan | 4th | 5th | 6th | 10th | all |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for cities in [1, 2, 5, 20] {
        for (words, span_ms) in SPANS {
            let world = World::new(Params {
                forged: Forged {
                    sold_days: span_ms / (24.0 * HOUR_MS),
                    scan_mean_d: 0.0,
                    ..params.forged
                },
                ..params
            });
            let campaign = Campaign {
                copies: 100,
                sources: 1,
                cities,
                scan_rate: 1.0,
            };
            let at: Vec<Option<usize>> = std::thread::scope(|scope| {
                let (world, campaign) = (&world, &campaign);
                let parts = seeds.map(|seed| {
                    scope.spawn(move || {
                        (0..RUNS)
                            .flat_map(|run| world.campaign(seed, run, campaign))
                            .map(|scans| noticed_at(&scans))
                            .collect::<Vec<_>>()
                    })
                });
                parts
                    .into_iter()
                    .flat_map(|p| p.join().unwrap_or_default())
                    .collect()
            });
            let by = |mark| at.iter().flatten().filter(|n| **n <= mark).count();
            let (noticed, ever, codes) = (marks.map(by), by(usize::MAX), at.len());
            let row = noticed.map(|n| percent(n, codes)).join(" | ");
            println!("| {cities} | {words} | {row} | {} |", percent(ever, codes));
        }
    }
}

/// One genuine unit before many people of one city.
fn shown(seeds: [u64; 4]) {
    println!("\n| people | scan one shown unit within | 1% over a VPN | 5% | 10% |");
    println!("| --- | --- | --- | --- | --- |");
    for people in [20, 100] {
        for (words, span_ms) in SPANS {
            let row = [0.02, 0.1, 0.2].map(|vpn| {
                let phones = Phones {
                    vpn,
                    ..FROZEN.phones
                };
                let world = World::new(Params { phones, ..FROZEN });
                let called: usize = std::thread::scope(|scope| {
                    let world = &world;
                    let parts = seeds.map(|seed| {
                        scope.spawn(move || {
                            (0..SHOWN)
                                .filter(|unit| {
                                    let scans = world.shown_unit(seed, *unit, people, span_ms);
                                    noticed_at(&scans).is_some()
                                })
                                .count()
                        })
                    });
                    parts.into_iter().filter_map(|p| p.join().ok()).sum()
                });
                format!(
                    "{:.2}%",
                    100.0 * called as f64 / (SHOWN * seeds.len() as u64) as f64
                )
            });
            println!("| {people} | {words} | {} |", row.join(" | "));
        }
    }
}

/// The frozen world, if nobody tells a place.
fn no_places(seeds: [u64; 4]) {
    let phones = Phones {
        gps: 0.0,
        no_place: 1.0,
        ..FROZEN.phones
    };
    let world = World::new(Params { phones, ..FROZEN });
    // Where claim codes say nothing: none is entered.
    let silent = World::new(Params {
        phones,
        ..picture()
    });
    let honest: u64 = seeds
        .into_iter()
        .map(|seed| {
            (0..HONEST)
                .filter(|unit| suspect(honest_score(&world, seed, *unit)))
                .count() as u64
        })
        .sum();
    println!(
        "\nno places: {honest} of {} honest units called",
        HONEST * seeds.len() as u64
    );
    println!(
        "| cities | buyers who scan | third pack | third scan | all scans | all scans, if no claim codes are entered |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for scan_rate in SCAN_RATES {
        let campaign = Campaign {
            copies: 100,
            sources: 1,
            cities: 20,
            scan_rate,
        };
        let (mut codes, mut all, mut packs, mut of_packs, mut third, mut of_third) =
            (0, 0, 0, 0, 0, 0);
        for seed in seeds {
            for run in 0..RUNS {
                for code in campaign_scores(&world, seed, run, &campaign) {
                    codes += usize::from(code.packs > 0);
                    all += usize::from(code.packs > 0 && suspect(code.last));
                    of_packs += usize::from(code.third_pack.is_some());
                    packs += usize::from(code.third_pack.is_some_and(suspect));
                    of_third += usize::from(code.third_scan.is_some());
                    third += usize::from(code.third_scan.is_some_and(suspect));
                }
            }
        }
        let (mut quiet, mut of_quiet) = (0, 0);
        for seed in seeds {
            for run in 0..RUNS {
                for code in campaign_scores(&silent, seed, run, &campaign) {
                    of_quiet += usize::from(code.packs > 0);
                    quiet += usize::from(code.packs > 0 && suspect(code.last));
                }
            }
        }
        println!(
            "| 20 | {:.0}% | {} | {} | {} | {} |",
            scan_rate * 100.0,
            percent(packs, of_packs),
            percent(third, of_third),
            percent(all, codes),
            percent(quiet, of_quiet)
        );
    }
}

fn main() {
    let word = std::env::args().nth(1);
    let seeds = match word.as_deref() {
        Some("fresh") => FRESH_SEEDS,
        _ => TUNING_SEEDS,
    };
    println!("as the parameters say");
    bursts(seeds, FROZEN);
    println!("\na picture: no claim codes, no positions of devices");
    bursts(seeds, picture());
    shown(seeds);
    no_places(seeds);
}
