//! Where codes with 100 copies over 20 to 50 cities are missed at their third scan, on the tuning seeds: by which packs the three
//! scans were of (`AAB`: the first pack twice, then another), by how many pseudonyms, and by how the places lie to the first. And what
//! other thresholds would do.
//!
//! `cargo run --release -p tally-trace --example misses`

use std::collections::{BTreeMap, BTreeSet};

use tally_trace::geo::distance_m;
use tally_trace::history::History;
use tally_trace::score::DEFAULT_THRESHOLD_MNAT;
use tally_trace::sim::params::{FROZEN, SCAN_RATES, TUNING_SEEDS};
use tally_trace::sim::run::honest_score;
use tally_trace::sim::{Campaign, SimScan, World};

const RUNS: u64 = 400;

fn shape(scans: &[SimScan]) -> String {
    let mut packs: Vec<u32> = Vec::new();
    let mut letters = String::new();
    for scan in scans {
        let known = packs.iter().position(|p| *p == scan.pack);
        let at = known.unwrap_or_else(|| {
            packs.push(scan.pack);
            packs.len() - 1
        });
        letters.push(['A', 'B', 'C'].get(at).copied().unwrap_or('?'));
    }
    let people: BTreeSet<_> = scans.iter().map(|s| s.source).collect();
    format!("{letters} by {}", people.len())
}

/// How the second and the third scan lie to the first, in place and in time.
fn ways(scans: &[SimScan]) -> String {
    let Some((first, later)) = scans.split_first() else {
        return String::new();
    };
    let words: Vec<String> = later
        .iter()
        .map(|scan| {
            let place = match (first.place, scan.place) {
                (Some(a), Some(b)) => match distance_m((a.lat, a.lon), (b.lat, b.lon)) {
                    d if d < 150_000.0 => "near",
                    d if d < 450_000.0 => "neighbour",
                    _ => "far",
                },
                _ => "unknown",
            };
            let time = match scan.time_ms.abs_diff(first.time_ms) / 3_600_000 {
                0..6 => "soon",
                6..168 => "days",
                _ => "weeks",
            };
            format!("{place} {time}")
        })
        .collect();
    words.join(", ")
}

/// Thresholds that are tried, milli-nats.
const THRESHOLDS: [u32; 7] = [5_600, 5_800, 6_000, 6_200, 6_400, 6_600, 6_800];
/// Honest units of each seed.
const HONEST: u64 = 500_000;

/// What other thresholds would do.
fn thresholds(world: &World, third: &[u32]) {
    let honest: Vec<u32> = std::thread::scope(|scope| {
        let parts = TUNING_SEEDS.map(|seed| {
            scope.spawn(move || {
                (0..HONEST)
                    .map(|unit| honest_score(world, seed, unit))
                    .filter(|score| *score > 0)
                    .collect::<Vec<_>>()
            })
        });
        parts
            .into_iter()
            .flat_map(|p| p.join().unwrap_or_default())
            .collect()
    });
    let units = HONEST * TUNING_SEEDS.len() as u64;
    println!("\n| threshold | called of 10,000 honest | noticed at the third scan |");
    println!("| --- | --- | --- |");
    for threshold in THRESHOLDS {
        let reach = |scores: &[u32]| scores.iter().filter(|s| **s >= threshold).count() as f64;
        println!(
            "| {threshold} | {:.2} | {:.1}% |",
            reach(&honest) * 10_000.0 / units as f64,
            100.0 * reach(third) / third.len().max(1) as f64
        );
    }
}

fn main() {
    let world = World::new(FROZEN);
    let mut shapes: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut missed: BTreeMap<String, u32> = BTreeMap::new();
    let mut of = 0_u32;
    let mut third = Vec::new();
    for (cities, scan_rate) in [20, 30, 50]
        .into_iter()
        .flat_map(|cities| SCAN_RATES.map(|rate| (cities, rate)))
    {
        let campaign = Campaign {
            copies: 100,
            sources: 1,
            cities,
            scan_rate,
        };
        for seed in TUNING_SEEDS {
            for scans in (0..RUNS).flat_map(|run| world.campaign(seed, run, &campaign)) {
                let Some(three) = scans.get(..3) else {
                    continue;
                };
                let mut history = History::new();
                for scan in three {
                    history.observe(&scan.observation());
                }
                of += 1;
                third.push(history.assess().score_mnat);
                let entry = shapes.entry(shape(three)).or_default();
                entry.0 += 1;
                if !history.assess().is_suspect(DEFAULT_THRESHOLD_MNAT) {
                    entry.1 += 1;
                    let key = format!("{}: {}", shape(three), ways(three));
                    *missed.entry(key).or_default() += 1;
                }
            }
        }
    }
    let percent = |n: u32, of: u32| 100.0 * f64::from(n) / f64::from(of.max(1));
    println!("{of} codes with three scans");
    for (shape, (n, missed)) in &shapes {
        println!(
            "{shape}: {:.2}% of codes, noticed {:.1}%, missed {:.2}% of all",
            percent(*n, of),
            100.0 - percent(*missed, *n),
            percent(*missed, of)
        );
    }
    let mut missed: Vec<_> = missed.into_iter().collect();
    missed.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    for (what, n) in missed.iter().take(20) {
        println!("missed {:.2}%: {what}", percent(*n, of));
    }
    thresholds(&world, &third);
}
