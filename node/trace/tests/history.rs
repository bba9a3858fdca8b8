//! What holds for every history.

use proptest::prelude::*;
use tally_trace::cell::{Cell, Spot};
use tally_trace::history::{Counts, Custody, History, MAX_HISTORY_BYTES};
use tally_trace::observation::{Claim, Observation, Stage, Territory};
use tally_trace::score::DEFAULT_THRESHOLD_MNAT;
use tally_trace::sim::cities::CITIES;

const DAY_MS: u64 = 24 * 3_600_000;

fn spot(city: usize, accuracy_m: u32) -> Spot {
    let city = CITIES[city % CITIES.len()];
    Spot {
        cell: Cell::of(city.lat, city.lon, 4).unwrap(),
        accuracy_m,
    }
}

prop_compose! {
    fn any_scan()(
        time_ms in 0..200 * DAY_MS,
        person in 0_u8..40,
        city in prop::option::of(0_usize..68),
        device in any::<bool>(),
        claim in 0_u8..3,
        stage in 0_u8..6,
        territory in 0_u8..3,
        failures in 0_u32..10,
    ) -> Observation {
        Observation {
            time_ms,
            source: [person; 16],
            spot: city.map(|c| spot(c, if device { 50 } else { 50_000 })),
            claim: [Claim::Absent, Claim::Right, Claim::Wrong][usize::from(claim)],
            stage: [
                Stage::BeforeRelease,
                Stage::BeforeShipment,
                Stage::Market,
                Stage::StockAfterSale,
                Stage::Recalled,
                Stage::Void,
            ][usize::from(stage)],
            territory: [Territory::Unknown, Territory::Inside, Territory::Outside][usize::from(territory)],
            failures,
        }
    }
}

/// A scan, or what a dealer says.
fn any_step() -> impl Strategy<Value = (Option<Custody>, Observation)> {
    let custody = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Custody::Received)),
        1 => Just(Some(Custody::Sold)),
    ];
    (custody, any_scan())
}

fn take(history: &mut History, (custody, o): &(Option<Custody>, Observation)) {
    match custody {
        None => history.observe(o),
        Some(custody) => history.custody(*custody, o),
    }
}

fn history(scans: &[Observation]) -> History {
    let mut history = History::new();
    for scan in scans {
        history.observe(scan);
    }
    history
}

proptest! {
    #[test]
    fn no_scan_and_no_sale_lowers_a_score(steps in prop::collection::vec(any_step(), 1..40)) {
        let mut history = History::new();
        let mut before = 0;
        for step in &steps {
            take(&mut history, step);
            let now = history.assess().score_mnat;
            prop_assert!(now >= before, "{before} to {now}");
            before = now;
        }
    }

    #[test]
    fn a_far_scan_at_impossible_speed_never_lowers_and_between_devices_always_raises(
        scans in prop::collection::vec(any_scan(), 0..6),
    ) {
        let mut history = history(&scans);
        let first = Observation { time_ms: 300 * DAY_MS, source: [100; 16], spot: Some(spot(0, 50)), ..quiet() };
        history.observe(&first);
        let before = history.assess();
        // Beijing, and Guangzhou a minute later.
        history.observe(&Observation { time_ms: 300 * DAY_MS + 60_000, source: [101; 16], spot: Some(spot(42, 50)), ..quiet() });
        let after = history.assess();
        prop_assert!(after.score_mnat >= before.score_mnat);
        prop_assert_eq!(history.counts().device_jumps, 1 + self::history(&[scans, vec![first]].concat()).counts().device_jumps);
        prop_assert!(after.reasons.iter().any(|r| r.kind.code() == "impossible_speed"));
    }

    #[test]
    fn room_is_bounded_and_stored_bytes_read_back(steps in prop::collection::vec(any_step(), 0..300)) {
        let mut history = History::new();
        for step in &steps {
            take(&mut history, step);
        }
        let bytes = history.to_bytes();
        prop_assert!(bytes.len() <= MAX_HISTORY_BYTES);
        prop_assert_eq!(History::from_bytes(&bytes).unwrap(), history);
    }

    #[test]
    fn a_suspect_code_has_a_reason(steps in prop::collection::vec(any_step(), 1..12)) {
        let mut history = History::new();
        for step in &steps {
            take(&mut history, step);
            let found = history.assess();
            prop_assert!(!found.is_suspect(DEFAULT_THRESHOLD_MNAT) || !found.reasons.is_empty());
        }
    }

    /// Whoever stands in one place with one pack, under as many pseudonyms as they like, makes no suspect code without claim codes.
    #[test]
    fn one_place_alone_is_never_enough(scans in prop::collection::vec((any_scan(), any::<bool>()), 1..20)) {
        let mut history = History::new();
        for (scan, placed) in scans {
            history.observe(&Observation {
                spot: placed.then(|| spot(3, 50_000)),
                claim: Claim::Absent,
                stage: Stage::Market,
                failures: 0,
                ..scan
            });
        }
        prop_assert!(!history.assess().is_suspect(DEFAULT_THRESHOLD_MNAT));
    }

    #[test]
    fn garbage_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(history) = History::from_bytes(&bytes) {
            let _ = history.assess();
        }
    }

    #[test]
    fn a_changed_length_is_refused(steps in prop::collection::vec(any_step(), 1..20), cut in 1_usize..20) {
        let mut history = History::new();
        history.observe(&quiet());
        for step in &steps {
            take(&mut history, step);
        }
        let mut bytes = history.to_bytes();
        bytes.push(0);
        prop_assert!(History::from_bytes(&bytes).is_err());
        bytes.truncate(bytes.len() - 1 - cut);
        prop_assert!(History::from_bytes(&bytes).is_err());
    }

    /// Claimed for scans that nobody would gather: strangers, days apart, in cities far from each other.
    #[test]
    fn the_order_of_unrelated_scans_does_not_matter(
        order in Just([0_usize, 9, 15, 27, 37, 42, 53, 66]).prop_shuffle(),
        claims in prop::collection::vec(0_u8..3, 8),
    ) {
        let scan = |city: usize| Observation {
            time_ms: (city as u64 + 1) * 3 * DAY_MS,
            source: [u8::try_from(city).unwrap() + 1; 16],
            spot: Some(spot(city, 50_000)),
            claim: [Claim::Absent, Claim::Right, Claim::Wrong][usize::from(claims[city % 8])],
            ..quiet()
        };
        let mut sorted = order;
        sorted.sort_unstable();
        let one = history(&order.map(scan));
        let other = history(&sorted.map(scan));
        // How far and how soon a new place is depends on which was known before; with so many places it weighs nothing.
        let plain = |history: &History| Counts {
            far: 0,
            prompt: 0,
            ..*history.counts()
        };
        prop_assert_eq!(plain(&one), plain(&other));
        prop_assert_eq!(one.assess(), other.assess());
    }
}

fn quiet() -> Observation {
    Observation {
        time_ms: 0,
        source: [0; 16],
        spot: None,
        claim: Claim::Absent,
        stage: Stage::Market,
        territory: Territory::Unknown,
        failures: 0,
    }
}

#[test]
fn a_family_at_one_table_is_one_visit_and_a_bottle_that_travels_is_not() {
    let table: Vec<_> = (1..=9)
        .map(|p| Observation {
            time_ms: u64::from(p) * 600_000,
            source: [p; 16],
            spot: Some(spot(3, if p % 2 == 0 { 50 } else { 50_000 })),
            claim: if p == 1 { Claim::Right } else { Claim::Absent },
            ..quiet()
        })
        .collect();
    let found = history(&table);
    assert_eq!((found.counts().visits, found.counts().places), (1, 1));
    assert_eq!(found.assess().score_mnat, 0);

    let mut later = table;
    later.push(Observation {
        time_ms: 20 * DAY_MS,
        source: [77; 16],
        spot: Some(spot(54, 50_000)),
        claim: Claim::Right,
        ..quiet()
    });
    let found = history(&later);
    assert_eq!((found.counts().visits, found.counts().places), (2, 2));
    assert_eq!(found.counts().claim_again, 1);
}

#[test]
fn a_jump_of_a_network_is_counted_and_is_no_visit() {
    let home = Observation {
        source: [1; 16],
        spot: Some(spot(0, 50)),
        ..quiet()
    };
    let vpn = Observation {
        time_ms: 60_000,
        source: [2; 16],
        spot: Some(spot(42, 50_000)),
        ..quiet()
    };
    let found = history(&[home, vpn]);
    let c = found.counts();
    assert_eq!(
        (c.visits, c.places, c.network_jumps, c.device_jumps),
        (1, 1, 1, 0)
    );
    assert_eq!(found.assess().score_mnat, 0);
    // Tianjin is 110 km from Beijing: less than both radii of networks, and an hour's drive from a device's own position.
    let near = Observation {
        time_ms: DAY_MS / 12,
        source: [3; 16],
        spot: Some(spot(1, 50_000)),
        ..quiet()
    };
    assert_eq!(history(&[home, near]).counts().network_jumps, 1);
}

#[test]
fn stock_that_was_sold_elsewhere_speaks_for_a_copy_and_the_way_to_the_shop_does_not() {
    let at = |day: u64, dealer: u8, city| Observation {
        time_ms: day * DAY_MS,
        source: [dealer; 16],
        spot: Some(spot(city, 50)),
        ..quiet()
    };
    let mut history = History::new();
    // Maker, wholesaler, shop: far from each other, and no place is counted.
    for (day, dealer, city) in [(0, 1, 0), (4, 2, 42), (9, 3, 20)] {
        history.custody(Custody::Received, &at(day, dealer, city));
    }
    history.custody(Custody::Sold, &at(12, 3, 20));
    assert_eq!(*history.counts(), Counts::default());
    // The till rings twice, the goods are taken back: the seller's own affair.
    history.custody(Custody::Sold, &at(12, 3, 20));
    history.custody(Custody::Received, &at(14, 3, 20));
    assert_eq!(*history.counts(), Counts::default());
    assert!(history.is_sold());
    // Another shop has it in stock, and sells it.
    history.custody(Custody::Received, &at(30, 4, 60));
    history.custody(Custody::Sold, &at(31, 4, 60));
    assert_eq!(history.counts().after_sale, 1, "once for each shop");
    let found = history.assess();
    assert!(found.reasons.iter().any(|r| r.kind.code() == "after_sale"));
    assert!(
        !found.is_suspect(tally_trace::score::DEFAULT_THRESHOLD_MNAT),
        "one shop may err"
    );
}

#[test]
fn two_scans_are_not_enough_and_the_order_of_people_tells_a_gift_from_copies() {
    let at = |day: u64, person: u8, city| Observation {
        time_ms: day * DAY_MS,
        source: [person; 16],
        spot: Some(spot(city, 50)),
        ..quiet()
    };
    // Beijing and Guangzhou, where somebody looked again.
    let (buyer, receiver) = (at(0, 1, 0), at(20, 2, 42));
    assert_eq!(history(&[buyer, receiver]).assess().score_mnat, 0);
    let gift = history(&[buyer, receiver, at(20, 2, 42)]).assess();
    assert!(!gift.is_suspect(DEFAULT_THRESHOLD_MNAT));
    // Who looks again is who opened it; then it came to Guangzhou far too late for a journey.
    let copies = history(&[buyer, at(0, 1, 0), receiver]).assess();
    assert!(copies.score_mnat > gift.score_mnat + 1_000);
}

#[test]
fn a_history_of_an_older_version_goes_on_by_its_counts() {
    let mut old = vec![2, 0];
    // Two visits in two places, one far and soon; no visit and no pseudonym kept.
    old.extend([2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]);
    let mut history = History::from_bytes(&old).unwrap();
    assert_eq!(history.assess().score_mnat, 0);
    history.observe(&Observation {
        spot: Some(spot(3, 50)),
        ..quiet()
    });
    let bytes = history.to_bytes();
    assert_eq!(History::from_bytes(&bytes).unwrap(), history);
    assert_eq!(history.counts().visits, 3);
    assert_eq!(
        history.assess().score_mnat,
        history.counts().assess().score_mnat
    );
}

/// A node tells the scans that another member forwards apart by their time alone, in the pseudonym's first eight bytes.
#[test]
fn forwarded_scans_in_three_cities_are_as_suspect_as_others() {
    let scans: Vec<_> = [0, 27, 42]
        .into_iter()
        .zip(0_u64..)
        .map(|(city, n)| {
            let time_ms = 1_790_000_000_000 + 5 * n * DAY_MS;
            let mut source = [7; 16];
            for (byte, time) in source.iter_mut().zip(time_ms.to_be_bytes()) {
                *byte ^= time;
            }
            Observation {
                time_ms,
                source,
                spot: Some(spot(city, 50_000)),
                ..quiet()
            }
        })
        .collect();
    assert!(history(&scans).assess().is_suspect(DEFAULT_THRESHOLD_MNAT));
}

#[test]
fn a_place_is_one_place_after_many_visits_that_told_none() {
    let visits: Vec<_> = (0..10_u8)
        .map(|n| Observation {
            time_ms: u64::from(n) * 3 * DAY_MS,
            source: [n; 16],
            spot: (n == 4 || n == 9).then(|| spot(3, 50_000)),
            ..quiet()
        })
        .collect();
    let found = history(&visits);
    assert_eq!((found.counts().visits, found.counts().places), (10, 1));
    assert!(!found.assess().is_suspect(DEFAULT_THRESHOLD_MNAT));
}
