//! Counts, over the tuning seeds, how often the detector's evidence is seen on honest units and on copied codes at their third
//! pack. The weights in `src/score.rs` are natural logarithms of the quotients, rounded, with the caps that are explained there.
//!
//! `cargo run --release -p tally-trace --example tune`

use std::collections::{BTreeMap, BTreeSet};

use tally_trace::history::{Counts, History};
use tally_trace::sim::params::{FROZEN, TUNING_SEEDS};
use tally_trace::sim::{Campaign, World};

const HONEST: u64 = 1_000_000;
const RUNS: u64 = 20_000;

fn keys(c: &Counts) -> Vec<String> {
    let mut keys = vec![format!(
        "visits {} places {} network jumps {}",
        c.visits.min(4),
        c.places.min(4),
        c.network_jumps.min(2)
    )];
    let group = if c.places >= 2 {
        "two places"
    } else {
        "one place "
    };
    for (name, value) in [
        ("outside", c.outside),
        ("claim again", c.claim_again),
        ("claim wrong", c.claim_wrong),
        ("early", c.early),
        ("after sale", c.after_sale),
        ("void", c.void),
        ("guessing", c.guessing),
        ("device jumps", c.device_jumps),
    ] {
        keys.push(format!("{group}: {name} {}", value.min(3)));
    }
    keys.push(format!("{group}: all"));
    keys
}

fn main() {
    let world = World::new(FROZEN);
    let mut seen: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let (mut units, mut runs) = (0_u64, 0_u64);
    for seed in TUNING_SEEDS {
        for unit in 0..HONEST {
            let mut history = History::new();
            for scan in world.honest_unit(seed, unit) {
                history.observe(&scan.observation());
            }
            units += 1;
            for key in keys(history.counts()) {
                seen.entry(key).or_default().0 += 1;
            }
        }
        for run in 0..RUNS {
            for scans in world.campaign(seed, run, &Campaign::of_run(run)) {
                let (mut history, mut packs) = (History::new(), BTreeSet::new());
                for scan in scans {
                    history.observe(&scan.observation());
                    packs.insert(scan.pack);
                    if packs.len() == 3 {
                        break;
                    }
                }
                if packs.len() == 3 {
                    runs += 1;
                    for key in keys(history.counts()) {
                        seen.entry(key).or_default().1 += 1;
                    }
                }
            }
        }
    }
    println!("{units} honest units, {runs} copied codes at their third pack");
    for (key, (honest, copied)) in seen {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let ratio = |n: u64, of: u64| n as f64 / of as f64;
        let (h, c) = (ratio(honest, units), ratio(copied, runs));
        println!(
            "{key:45} honest {h:.3e}  copied {c:.3e}  ln {:6.2}",
            (c / h).ln()
        );
    }
}
