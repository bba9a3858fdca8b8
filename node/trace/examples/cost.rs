//! What the likelihood ratio of a code's first scans costs, at its third and at its sixth pseudonym, on one core.
//!
//! `cargo run --release -p tally-trace --example cost`

use std::hint::black_box;
use std::time::Instant;

use tally_trace::ratio::{MAX_SEEN, Seen, log_ratio_mnat};
use tally_trace::sim::params::{FROZEN, TUNING_SEEDS};
use tally_trace::sim::{Campaign, SimScan, World};

const RUNS: u64 = 1_000;
/// The quickest round counts: others had to share the core.
const ROUNDS: u32 = 20;

/// The first scan of each of the first pseudonyms.
fn first(scans: &[SimScan], people: usize) -> Option<Vec<Seen>> {
    let mut sources = Vec::new();
    let mut seen = Vec::new();
    for o in scans.iter().map(SimScan::observation) {
        if sources.contains(&o.source) || seen.len() == people {
            continue;
        }
        sources.push(o.source);
        seen.push(Seen {
            time_ms: o.time_ms,
            spot: o.spot,
            claim: o.claim,
            territory: o.territory,
            again: false,
        });
    }
    (seen.len() == people).then_some(seen)
}

fn main() {
    let world = World::new(FROZEN);
    let campaign = Campaign {
        copies: 100,
        sources: 1,
        cities: 30,
        scan_rate: 0.3,
    };
    let [seed, ..] = TUNING_SEEDS;
    let codes: Vec<_> = (0..RUNS)
        .flat_map(|run| world.campaign(seed, run, &campaign))
        .collect();
    for people in [3, MAX_SEEN] {
        let all: Vec<_> = codes.iter().filter_map(|c| first(c, people)).collect();
        let quickest = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                for seen in &all {
                    black_box(log_ratio_mnat(black_box(seen)));
                }
                start.elapsed()
            })
            .min()
            .unwrap_or_default();
        println!(
            "{people} pseudonyms: {:.1} us ({} codes)",
            quickest.as_secs_f64() * 1e6 / all.len().max(1) as f64,
            all.len()
        );
    }
}
