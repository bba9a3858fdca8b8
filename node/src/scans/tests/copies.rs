//! A code that is on several packs, over the real service.

use super::*;

pub(super) const DAY_MS: u64 = 24 * 3_600_000;
pub(super) const BEIJING: &str = "wx4g0";
pub(super) const SHANGHAI: &str = "wtw3s";
pub(super) const GUANGZHOU: &str = "ws0e9";

pub(super) fn at(serial: &str, source: u8, cell: &str) -> ScanRequest {
    let place = Place::new("cn", "").expect("place");
    ScanRequest {
        source: [source; 16],
        place: Some(place.with_cell(Some(Cell::new(cell).expect("cell")))),
        ..request(serial, None)
    }
}

pub(super) async fn scan(node: &TestNode, request: ScanRequest) -> ScanOutcome {
    node.service.scan(request).await.expect("scan")
}

pub(super) fn later(node: &TestNode, ms: u64) {
    node.clock.0.fetch_add(ms, Ordering::SeqCst);
}

pub(super) fn kinds(reasons: &Reasons) -> Vec<(&'static str, u8)> {
    let each = reasons.as_slice().iter();
    each.map(|r| (r.kind.code(), r.count)).collect()
}

/// Scans of one code in three cities, days apart, the last of which is suspect.
async fn three_cities(node: &TestNode, serial: &str) -> ScanOutcome {
    let mut last = None;
    for (person, cell) in [(1, BEIJING), (2, SHANGHAI), (3, GUANGZHOU)] {
        if let Some(ScanOutcome { scan, .. }) = &last {
            assert!(scan.record.verdict.is_genuine());
            assert_eq!(scan.record.reasons, Reasons::none());
        }
        last = Some(scan(node, at(serial, person, cell)).await);
        later(node, 5 * DAY_MS);
    }
    last.expect("three")
}

#[tokio::test]
async fn three_far_cities_days_apart_are_suspect_with_reasons_also_after_a_restart() {
    let dir = dir();
    let (third, time_ms) = {
        let node = node(BRAND, dir.path());
        let third = three_cities(&node, "G1").await;
        assert_eq!(verdict(&node, "G2").await, (Verdict::GenuineFirst, 1));
        (third, node.clock.0.load(Ordering::SeqCst))
    };
    let record = &third.scan.record;
    assert_eq!((record.verdict, record.count), (Verdict::Suspect, 3));
    let expected = [("several_visits", 3), ("several_places", 3)];
    assert_eq!(kinds(&record.reasons), expected);
    let receipt = verify_receipt(&third.receipt.to_bytes(), &signing_key(BRAND).public_key())
        .expect("receipt");
    assert_eq!(receipt.verdict, Verdict::Suspect);
    assert_eq!(receipt.reasons, record.reasons);

    let node = node(BRAND, dir.path());
    node.clock.0.store(time_ms, Ordering::SeqCst);
    let got = node.service.get(record.id).await.expect("get");
    assert_eq!(got.scan.record, *record);
    assert_eq!(got.receipt, third.receipt);
    let known = node.service.look(&code("G1")).await.expect("look");
    assert_eq!((known.verdict, known.count), (Verdict::Suspect, 3));
    assert_eq!(kinds(&known.reasons), expected);
    // Whoever scans now hears of it, in whichever city.
    let fourth = scan(&node, at("G1", 9, BEIJING)).await.scan.record;
    assert_eq!((fourth.verdict, fourth.count), (Verdict::Suspect, 4));
    assert_eq!(kinds(&fourth.reasons)[0], ("several_visits", 4));
    assert_eq!(
        fourth.first.expect("first").time_ms,
        record.first.as_ref().expect("first").time_ms
    );
}

#[tokio::test]
async fn a_family_a_gift_and_a_vpn_are_not_suspect() {
    let dir = dir();
    let node = node(BRAND, dir.path());
    for person in 1..=9 {
        let record = scan(&node, at("G1", person, BEIJING)).await.scan.record;
        assert!(record.verdict.is_genuine());
        later(&node, 600_000);
    }
    // One of them uses an exit in another city.
    let record = scan(&node, at("G1", 20, GUANGZHOU)).await.scan.record;
    assert_eq!(record.verdict, Verdict::GenuineRepeat);
    // Bought in one city, opened in another by a family.
    scan(&node, at("G2", 1, SHANGHAI)).await;
    later(&node, 20 * DAY_MS);
    for person in 2..=5 {
        let record = scan(&node, at("G2", person, GUANGZHOU)).await.scan.record;
        assert_eq!(record.verdict, Verdict::GenuineRepeat);
    }
    // Nothing is known of the places: no number of repetitions is enough.
    for person in 1..=30 {
        let mut request = request("G3", None);
        request.source = [person; 16];
        assert!(scan(&node, request).await.scan.record.verdict.is_genuine());
        later(&node, 2 * DAY_MS);
    }
}

#[tokio::test]
async fn scans_over_another_member_s_node_count_and_its_answer_tells_the_reasons() {
    let (a, b) = (dir(), dir());
    let (brand, media) = pair(a.path(), b.path());
    for cell in [BEIJING, SHANGHAI] {
        let record = scan(&media, at("G1", 1, cell)).await.scan.record;
        assert!(record.verdict.is_genuine());
        later(&brand, 5 * DAY_MS);
        later(&media, 5 * DAY_MS);
    }
    let record = scan(&media, at("G1", 1, GUANGZHOU)).await.scan.record;
    assert_eq!((record.verdict, record.count), (Verdict::Suspect, 3));
    assert_eq!(
        kinds(&record.reasons),
        [("several_visits", 3), ("several_places", 3)]
    );
    assert!(record.unit.is_none());
    let known = media.service.look(&code("G1")).await.expect("look");
    assert_eq!(known.verdict, Verdict::Suspect);
    assert_eq!(known.reasons, record.reasons);
}

#[tokio::test]
async fn a_scan_before_the_release_counts_for_a_suspicion_and_not_as_first() {
    let dir = dir();
    let node = node(BRAND, dir.path());
    let record = scan(&node, at("H1", 1, BEIJING)).await.scan.record;
    assert_eq!((record.verdict, record.count), (Verdict::NotReleased, 0));
    // A batch that is not released answers so, however suspect the code is.
    later(&node, 5 * DAY_MS);
    scan(&node, at("H1", 2, SHANGHAI)).await;
    later(&node, 5 * DAY_MS);
    let record = scan(&node, at("H1", 3, GUANGZHOU)).await.scan.record;
    assert_eq!(record.verdict, Verdict::NotReleased);
    assert_eq!(record.reasons, Reasons::none());
}

#[tokio::test]
async fn phones_that_say_where_they_are_weigh_more_than_networks() {
    let dir = dir();
    let node = node(BRAND, dir.path());
    let from = |person: u8, cell: &str, accuracy_m| {
        let mut request = at("G1", person, cell);
        request.place = request.place.map(|p| p.with_accuracy(accuracy_m));
        request
    };
    // Three far cities within half an hour: nobody travels so.
    for (accuracy_m, serial) in [(None, "G1"), (Some(30), "G2")] {
        let mut last = None;
        for (person, cell) in [(1, BEIJING), (2, GUANGZHOU), (3, SHANGHAI)] {
            let mut request = from(person, cell, accuracy_m);
            request.code = code(serial);
            last = Some(scan(&node, request).await.scan.record);
            later(&node, 900_000);
        }
        let record = last.expect("three");
        if accuracy_m.is_none() {
            assert_eq!(record.verdict, Verdict::GenuineRepeat, "a VPN does that");
        } else {
            assert_eq!(record.verdict, Verdict::Suspect);
            assert!(kinds(&record.reasons).contains(&("impossible_speed", 2)));
        }
    }
}
