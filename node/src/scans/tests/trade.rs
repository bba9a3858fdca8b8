//! What the issuer and dealers know of where goods should be: territories, stock and sales.

use tally_contracts::records::Territory;

use super::copies::{BEIJING, DAY_MS, GUANGZHOU, SHANGHAI, at, kinds, later, scan};
use super::*;

fn territory(areas: &[&str]) -> Option<Territory> {
    Territory::new(areas.iter().map(|a| a.parse().expect("area")).collect())
}

fn said(kind: EventKind, serial: &str, dealer: &str, cell: &str) -> EventRequest {
    let place = Place::new("cn", "").expect("place");
    EventRequest {
        kind,
        code: code(serial),
        dealer: dealer.to_owned(),
        place: Some(place.with_cell(Some(Cell::new(cell).expect("cell")))),
    }
}

pub(super) async fn event(
    node: &TestNode,
    kind: EventKind,
    dealer: &str,
    cell: &str,
) -> EventOutcome {
    let request = said(kind, "G1", dealer, cell);
    node.service.event(request).await.expect("event")
}

pub(super) const fn taken(sold_before: bool) -> EventOutcome {
    EventOutcome::Taken { sold_before }
}

/// Three visits in two cities are no suspicion, unless the goods were for neither.
#[tokio::test]
async fn places_outside_the_territory_speak_for_a_copy() {
    for (areas, suspect) in [
        (&[][..], false),
        (&["geohash:wx4"], false),
        (&["CN"], false),
        (&["VN"], true),
        (&["geohash:wm6", "JP"], true),
    ] {
        let dir = dir();
        let node = node(BRAND, dir.path());
        *node.issuer.territory.lock().expect("territory") = territory(areas);
        let mut last = None;
        // As a gift is: bought in one place, opened weeks later in another by two people.
        for (person, cell, after) in [
            (1, BEIJING, 0),
            (2, SHANGHAI, 20 * DAY_MS),
            (3, SHANGHAI, 10 * 60_000),
        ] {
            later(&node, after);
            last = Some(scan(&node, at("G1", person, cell)).await.scan.record);
        }
        let record = last.expect("three");
        let is = record.verdict == Verdict::Suspect;
        assert_eq!(is, suspect, "{areas:?}: {:?}", kinds(&record.reasons));
        let outside = kinds(&record.reasons).contains(&("outside_territory", 2));
        assert_eq!(outside, suspect, "{areas:?}");
    }
}

pub(super) async fn a_unit_that_was_sold_and_turns_up_elsewhere(backend: &Backend) {
    let dir = dir();
    let before = {
        let node = backend.node(dir.path());
        // From wholesale to a shop, and sold: no place is counted, and the customer is the first.
        assert_eq!(
            event(&node, EventKind::Receive, "wholesale", BEIJING).await,
            taken(false)
        );
        later(&node, DAY_MS);
        assert_eq!(
            event(&node, EventKind::Receive, "shop", SHANGHAI).await,
            taken(false)
        );
        assert_eq!(
            event(&node, EventKind::Sell, "shop", SHANGHAI).await,
            taken(false)
        );
        // A till that sends it again.
        assert_eq!(
            event(&node, EventKind::Sell, "shop", SHANGHAI).await,
            EventOutcome::Again
        );
        let first = scan(&node, at("G1", 1, SHANGHAI)).await.scan.record;
        assert_eq!((first.verdict, first.count), (Verdict::GenuineFirst, 1));
        later(&node, 5 * DAY_MS);
        // Another shop has it in stock, and its customer scans it.
        assert_eq!(
            event(&node, EventKind::Receive, "kiosk", GUANGZHOU).await,
            taken(true)
        );
        assert_eq!(
            event(&node, EventKind::Sell, "kiosk", GUANGZHOU).await,
            taken(true)
        );
        later(&node, 2 * DAY_MS);
        let found = scan(&node, at("G1", 2, BEIJING)).await.scan.record;
        assert_eq!((found.verdict, found.count), (Verdict::Suspect, 2));
        assert!(
            kinds(&found.reasons).contains(&("after_sale", 1)),
            "{:?}",
            kinds(&found.reasons)
        );
        node.service
            .log()
            .seen(&code("G1").hash())
            .await
            .expect("seen")
    };
    // It follows from the log alone.
    if backend.shared.is_none() {
        fs::remove_dir_all(dir.path().join("index")).expect("remove");
    }
    let node = backend.node(dir.path());
    let after = node
        .service
        .log()
        .seen(&code("G1").hash())
        .await
        .expect("seen");
    assert_eq!(after, before);
    assert_eq!(node.service.log().size(), 7);
}

pub(super) async fn of_two_shops_that_sell_one_unit_at_once_one_is_the_first(backend: &Backend) {
    let dir = dir();
    let node = backend.node(dir.path());
    let sold = (0..16).map(|i| {
        node.service
            .event(said(EventKind::Sell, "G2", &format!("shop {i}"), BEIJING))
    });
    let outcomes = futures::future::join_all(sold).await;
    let first = outcomes
        .iter()
        .filter(|o| *o.as_ref().expect("event") == taken(false));
    assert_eq!(first.count(), 1);
}

#[tokio::test]
async fn only_what_this_member_issued_is_taken() {
    let (a, b) = (dir(), dir());
    let (brand, media) = pair(a.path(), b.path());
    let unknown = said(EventKind::Sell, "X1", "shop", BEIJING);
    assert_eq!(
        brand.service.event(unknown).await.expect("event"),
        EventOutcome::Unknown
    );
    let foreign = said(EventKind::Sell, "G1", "shop", BEIJING);
    assert!(matches!(
        media.service.event(foreign).await,
        Err(ScanError::NotIssuer { .. })
    ));
    for dealer in ["", &"x".repeat(MAX_DEALER + 1)] {
        let bad = said(EventKind::Sell, "G1", dealer, BEIJING);
        assert!(matches!(
            brand.service.event(bad).await,
            Err(ScanError::Input { .. })
        ));
    }
    brand.issuer.unavailable.store(true, Ordering::SeqCst);
    let later = said(EventKind::Sell, "G1", "shop", BEIJING);
    assert!(matches!(
        brand.service.event(later).await,
        Err(ScanError::ReadOnly { .. })
    ));
    assert_eq!(brand.service.log().size(), 0);
    // What is deleted after its time leaves its leaf, and an event has no page.
    brand.issuer.unavailable.store(false, Ordering::SeqCst);
    let sold = said(EventKind::Sell, "G1", "shop", BEIJING);
    assert_eq!(
        brand.service.event(sold).await.expect("event"),
        taken(false)
    );
    let root = brand.service.log().root_at(1).expect("root");
    let cutoff = brand.clock.0.load(Ordering::SeqCst) + 1;
    let deleted = brand.service.delete_before(cutoff).await.expect("delete");
    assert_eq!(deleted.entries, 1);
    // The wire holds the brand's service, too.
    drop((brand, media));
    fs::remove_dir_all(a.path().join("index")).expect("remove");
    let brand = self::node(BRAND, a.path());
    assert_eq!(brand.service.log().root_at(1).expect("root"), root);
}

#[test]
fn entries_of_the_version_before_read_as_if_no_territory_had_been_known() {
    let mut samples = super::super::fuzzing::samples().into_iter();
    let (name, mut bytes) = samples.next().expect("a scan");
    assert_eq!((name, bytes[0]), ("scan", 4));
    // The reach is the last byte.
    assert_eq!(bytes.pop(), Some(2));
    bytes[0] = 3;
    let super::super::record::LogEntry::Scan(scan) =
        super::super::record::LogEntry::from_bytes(&bytes).expect("version 3")
    else {
        panic!("a scan");
    };
    assert_eq!((scan.reach, scan.count), (Reach::Unknown, 2));
    bytes[0] = 2;
    assert!(super::super::record::LogEntry::from_bytes(&bytes).is_err());
}
