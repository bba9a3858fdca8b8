//! How many honest units are called suspect where people differ from the simulation's parameters, on the tuning seeds. The detector
//! has priors close to these parameters, so other seeds of the same world do not show what it costs when they are wrong.
//!
//! `cargo run --release -p tally-trace --example worlds`

use tally_trace::score::DEFAULT_THRESHOLD_MNAT;
use tally_trace::sim::World;
use tally_trace::sim::params::{FROZEN, Honest, Params, Phones, TUNING_SEEDS};
use tally_trace::sim::run::honest_score;

/// Honest units of each seed.
const HONEST: u64 = 500_000;

fn called(params: Params) -> u64 {
    let world = World::new(params);
    std::thread::scope(|scope| {
        let world = &world;
        let parts = TUNING_SEEDS.map(|seed| {
            scope.spawn(move || {
                (0..HONEST)
                    .filter(|unit| honest_score(world, seed, *unit) >= DEFAULT_THRESHOLD_MNAT)
                    .count() as u64
            })
        });
        parts.into_iter().filter_map(|p| p.join().ok()).sum()
    })
}

fn main() {
    let honest = FROZEN.honest;
    let gifts = |from, to| Honest {
        gift_days: (from, to),
        ..honest
    };
    let worlds = [
        ("as the parameters say", honest),
        ("gifts lie 1 to 60 days", gifts(1.0, 60.0)),
        ("gifts lie 1 to 14 days", gifts(1.0, 14.0)),
        ("gifts lie 7 to 120 days", gifts(7.0, 120.0)),
        (
            "twice as many gifts are scanned at both ends",
            Honest {
                gift_both: 0.2,
                ..honest
            },
        ),
        (
            "travellers stay 10 days",
            Honest {
                travel_mean_d: 10.0,
                ..honest
            },
        ),
        (
            "twice as many travellers",
            Honest {
                rescan_travel: 0.1,
                rescan_household: 0.3,
                ..honest
            },
        ),
        (
            "twice as many repetitions",
            Honest {
                rescans: 0.2,
                ..honest
            },
        ),
        (
            "tables last 8 hours",
            Honest {
                table_h: 8.0,
                ..honest
            },
        ),
    ];
    let phones = |vpn, vpn_on| Phones {
        vpn,
        vpn_on,
        ..FROZEN.phones
    };
    let with_phones = [
        ("five times as many phones on VPNs", phones(0.1, 0.5)),
        ("one phone in five on a VPN, always", phones(0.2, 1.0)),
    ];
    let worlds = worlds.map(|(name, honest)| (name, Params { honest, ..FROZEN }));
    let with_phones = with_phones.map(|(name, phones)| (name, Params { phones, ..FROZEN }));
    println!("| world | called of 10,000 honest scanned units |");
    println!("| --- | --- |");
    for (name, params) in worlds.into_iter().chain(with_phones) {
        let units = HONEST * TUNING_SEEDS.len() as u64;
        println!(
            "| {name} | {:.2} |",
            called(params) as f64 * 10_000.0 / units as f64
        );
    }
}
