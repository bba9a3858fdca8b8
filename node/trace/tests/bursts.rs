//! Scans that come in a burst: a picture of a code that is passed on, a campaign day, a unit shown to many, families on VPNs.

use proptest::prelude::*;
use tally_trace::cell::{Cell, Spot};
use tally_trace::history::History;
use tally_trace::observation::{Claim, Observation, Stage, Territory};
use tally_trace::score::DEFAULT_THRESHOLD_MNAT;
use tally_trace::sim::Dice;
use tally_trace::sim::cities::{CITIES, EXITS};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
const BEGIN_MS: u64 = 1_790_000_000_000;

/// A place that a network told.
fn network(lat: f64, lon: f64) -> Spot {
    Spot {
        cell: Cell::of(lat, lon, 4).unwrap(),
        accuracy_m: 50_000,
    }
}

fn city(n: usize) -> Spot {
    let city = CITIES[n % CITIES.len()];
    network(city.lat, city.lon)
}

fn exit(n: usize) -> Spot {
    let exit = EXITS[n % EXITS.len()];
    network(exit.lat, exit.lon)
}

/// Scans by a new pseudonym each.
fn scans(each: impl IntoIterator<Item = (u64, Spot)>) -> Vec<Observation> {
    each.into_iter()
        .zip(0_u64..)
        .map(|((time_ms, spot), n)| Observation {
            time_ms: BEGIN_MS + time_ms,
            source: (u128::from(n + 1) << 64 | u128::from(n)).to_be_bytes(),
            spot: Some(spot),
            claim: Claim::Absent,
            stage: Stage::Market,
            territory: Territory::Unknown,
            failures: 0,
        })
        .collect()
}

/// Counted from 1: the scan at which the code is suspect. Its history is stored and read between scans, as a node does.
fn suspect_at(scans: &[Observation]) -> Option<usize> {
    let mut stored = Vec::new();
    let at = scans.iter().position(|scan| {
        let mut history = History::from_bytes(&stored).unwrap();
        history.observe(scan);
        stored = history.to_bytes();
        history.assess().is_suspect(DEFAULT_THRESHOLD_MNAT)
    });
    at.map(|at| at + 1)
}

#[test]
fn twenty_cities_in_turn_are_suspect_within_a_few_scans_at_any_pace() {
    let mut dice = Dice::new(7, 0);
    for gap_ms in [
        1,
        500,
        10_000,
        3 * MINUTE_MS,
        390_000,
        15 * MINUTE_MS,
        30 * MINUTE_MS,
        120 * MINUTE_MS,
        480 * MINUTE_MS,
    ] {
        let mut at = Vec::new();
        for _ in 0..200 {
            let mut cities: Vec<usize> = (0..CITIES.len()).collect();
            for i in 0..cities.len() {
                let left = cities.len() - i;
                cities.swap(i, i + dice.below(left));
            }
            cities.truncate(20);
            let turn = (0..100_u64).zip(cities.iter().cycle());
            let found = suspect_at(&scans(turn.map(|(n, c)| (n * gap_ms, city(*c)))));
            at.push(found.unwrap_or(usize::MAX));
        }
        at.sort_unstable();
        println!(
            "a scan each {} s: half by the {}., nine of ten by the {}., all by the {}.",
            gap_ms as f64 / 1000.0,
            at[100],
            at[180],
            at[199]
        );
        assert!(at[100] <= 5 && at[180] <= 8 && at[199] <= 16, "{gap_ms}");
    }
}

#[test]
fn a_burst_has_its_reasons() {
    // Beijing, Guangzhou, Chengdu, Harbin, Urumqi within seconds.
    let far = [
        (39.9, 116.4),
        (23.1, 113.3),
        (30.7, 104.1),
        (45.8, 126.6),
        (43.8, 87.6),
    ];
    let each = (0..).zip(far.map(|(lat, lon)| network(lat, lon)));
    let mut history = History::new();
    for scan in scans(each.map(|(n, spot)| (n * 1_000, spot))) {
        history.observe(&scan);
    }
    let found = history.assess();
    let reasons: Vec<_> = found
        .reasons
        .iter()
        .map(|r| (r.kind.code(), r.count))
        .collect();
    assert_eq!(
        reasons,
        [("several_places", 5), ("impossible_network_speed", 4)]
    );
}

/// A unit that is shown to many in one place, of whom a few are on VPNs.
fn shown(homes: &[Spot], exits: &[Spot], people: u64, every: u64) -> Vec<Observation> {
    let mut others = exits.iter();
    scans((0..people).map(|n| {
        let away = (n % every == every - 1).then(|| others.next()).flatten();
        let home = homes[usize::try_from(n).unwrap() % homes.len()];
        (n * 600, away.copied().unwrap_or(home))
    }))
}

#[test]
fn a_unit_shown_to_a_hundred_in_one_place_or_two_is_not_suspect() {
    let exits: Vec<Spot> = (0..8).map(exit).collect();
    for every in [7, 12, 20] {
        for home in [0, 20, 42] {
            let one = shown(&[city(home)], &exits, 100, every);
            assert_eq!(suspect_at(&one), None, "one in {every} of {home}");
            // Beside the same unit in the studio stands a reporter in another city.
            let two = shown(&[city(home), city(home + 11)], &exits, 100, every);
            assert_eq!(
                suspect_at(&two),
                None,
                "one in {every} of {home} and another"
            );
        }
    }
    // The first who scans it may be on a VPN.
    let mut first_away = shown(&[city(3)], &exits, 100, 20);
    first_away[0].spot = Some(exit(7));
    assert_eq!(suspect_at(&first_away), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    /// One phone on a VPN or two, with exits wherever they like, at a table of any size that lasts at most three hours. If it lasts no
    /// longer than 22 minutes, in which nobody travels anywhere, and began at home, somebody may look again days later.
    #[test]
    fn a_family_with_two_phones_on_vpns_is_not_suspect(
        home in 0_usize..68,
        devices in any::<bool>(),
        table in prop::collection::vec(0_u64..180, 1..6),
        exits in prop::collection::vec((0_u64..180, 0_usize..76), 1..3),
        again in 0_usize..3,
        later_day in prop::option::of(1_u64..5),
    ) {
        let mut home = city(home);
        if devices {
            home.accuracy_m = 50;
        }
        let minute_ms = if later_day.is_some() { MINUTE_MS / 8 } else { MINUTE_MS };
        let exits = exits.into_iter().map(|(minute, n)| {
            (minute, if n < CITIES.len() { city(n) } else { exit(n - CITIES.len()) })
        });
        let mut each: Vec<(u64, Spot)> = table.into_iter().map(|minute| (minute, home)).chain(exits).collect();
        each.sort_by_key(|(minute, _)| *minute);
        let mut all = scans(each.into_iter().map(|(minute, spot)| (minute * minute_ms, spot)));
        // One of them looks again.
        if let Some(scan) = all.get(again) {
            all.push(Observation { time_ms: BEGIN_MS + 200 * minute_ms, ..*scan });
        }
        // And somebody of the household on a later day.
        if let Some(day) = later_day.filter(|_| all[0].spot == Some(home)) {
            let source = [9; 16];
            all.push(Observation { time_ms: BEGIN_MS + day * DAY_MS, source, spot: Some(home), ..all[0] });
        }
        prop_assert_eq!(suspect_at(&all), None);
    }
}

#[test]
fn a_history_of_the_version_before_bursts_is_read_and_goes_on() {
    // One scan in Beijing (wx4g), by the version before.
    let mut old = vec![4, 8, 0, 0, 1, 1];
    old.extend([0; 13]);
    old.push(1);
    let beijing = network(39.9, 116.4);
    for _ in 0..2 {
        old.extend(BEGIN_MS.to_be_bytes());
    }
    old.push(4);
    old.extend(&beijing.cell.bits().to_be_bytes()[3..]);
    old.extend(50_000_u32.to_be_bytes());
    let far = [(39.9, 116.4), (23.1, 113.3), (30.7, 104.1), (43.8, 87.6)];
    let each = (0..).zip(far.map(|(lat, lon)| network(lat, lon)));
    let four = scans(each.map(|(n, spot)| (n * 1_000, spot)));
    old.push(1);
    old.extend(&four[0].source[..8]);
    old.push(0);
    old.extend([1, 0]);

    let mut fresh = History::new();
    fresh.observe(&four[0]);
    let mut history = History::from_bytes(&old).unwrap();
    assert_eq!(history, fresh);
    assert_eq!(history.to_bytes().len(), old.len() + 1);
    for scan in &four[1..] {
        assert!(!history.assess().is_suspect(DEFAULT_THRESHOLD_MNAT));
        history.observe(scan);
    }
    assert!(history.assess().is_suspect(DEFAULT_THRESHOLD_MNAT));
}
