//! Counting a log.

use std::collections::BTreeMap;

use super::*;
use crate::sealed::LogOptions;

const DAY_MS: u64 = 24 * 3_600_000;
/// The clock of the test nodes begins in the middle of this day.
const FIRST_DAY: u64 = 1_790_000_000_000 / DAY_MS;

fn small(dir: &Path) -> ScanLogConfig {
    ScanLogConfig {
        max_rows: 40,
        files: LogOptions {
            max_segment_bytes: 16 << 10,
            max_frame_bytes: 16 << 10,
        },
        ..ScanLogConfig::new(dir, 0)
    }
}

fn at(serial: &str, source: u8, region: &str, cell: &str) -> ScanRequest {
    let place = Place::new("cn", region).expect("place");
    ScanRequest {
        source: [source; 16],
        place: Some(place.with_cell(Cell::new(cell).ok())),
        ..request(serial, None)
    }
}

async fn scan(node: &TestNode, request: ScanRequest) {
    node.service.scan(request).await.expect("scan");
}

fn later(node: &TestNode, ms: u64) {
    node.clock.0.fetch_add(ms, Ordering::SeqCst);
}

async fn counted(node: &TestNode, since_ms: u64, cell_length: usize) -> Statistics {
    let service = Arc::clone(&node.service);
    let query = StatisticsQuery {
        since_ms,
        cell_length,
    };
    tokio::task::spawn_blocking(move || service.log().statistics(query, &mut |_, _| {}))
        .await
        .expect("task")
        .expect("statistics")
}

fn tally(scans: u64, units: u64, doubled: u64, suspect: u64) -> Tally {
    Tally {
        scans,
        units,
        doubled,
        suspect,
    }
}

fn region(name: &str) -> Counted {
    ("CN".to_owned(), name.to_owned(), String::new())
}

/// 200 units at home, of which 20 are scanned again at once and 10 days later by others; one that is copied; one that nobody made, one
/// that is not released, and one that waits for its issuer.
async fn filled(node: &TestNode) {
    for n in 0..200 {
        scan(node, at(&format!("G{n}"), 1, "Sichuan", "wm6n2")).await;
        if n < 20 {
            scan(node, at(&format!("G{n}"), 2, "Sichuan", "wm6n2")).await;
        }
    }
    scan(node, at("G900", 1, "Beijing", "wx4g0")).await;
    later(node, 5 * DAY_MS);
    for n in 50..60 {
        scan(node, at(&format!("G{n}"), 3, "Sichuan", "wm6n2")).await;
    }
    scan(node, at("G900", 2, "Shanghai", "wtw3s")).await;
    later(node, 5 * DAY_MS);
    scan(node, at("G900", 3, "Guangdong", "ws0e9")).await;
    scan(node, request("X1", None)).await;
    scan(node, at("H1", 1, "Sichuan", "wm6n2")).await;
    node.issuer.unavailable.store(true, Ordering::SeqCst);
    scan(node, at("G500", 1, "Sichuan", "wm6n2")).await;
    node.issuer.unavailable.store(false, Ordering::SeqCst);
}

fn check(found: &Statistics) {
    // The last one waits.
    assert_eq!((found.scans, found.deleted, found.shared), (236, 0, false));
    let verdicts: BTreeMap<_, _> = [
        (Verdict::GenuineFirst, 201),
        (Verdict::GenuineRepeat, 31),
        (Verdict::Suspect, 1),
        (Verdict::NotReleased, 1),
        (Verdict::Unknown, 1),
        (Verdict::CannotVerifyNow, 1),
    ]
    .into();
    assert_eq!(found.verdicts, verdicts);
    let days: Vec<_> = found
        .days
        .iter()
        .map(|(day, counts)| (*day, counts.values().sum::<u64>()))
        .collect();
    assert_eq!(
        days,
        [(FIRST_DAY, 221), (FIRST_DAY + 5, 11), (FIRST_DAY + 10, 4)]
    );
    let batches: Vec<_> = found.batches.values().copied().collect();
    assert_eq!(batches, [tally(234, 201, 11, 1)]);
    // Doubles stand where the first scan was made.
    let places: BTreeMap<_, _> = [
        (region("Sichuan"), tally(231, 200, 10, 0)),
        (region("Beijing"), tally(1, 1, 1, 1)),
        (region("Shanghai"), tally(1, 0, 0, 0)),
        (region("Guangdong"), tally(1, 0, 0, 0)),
    ]
    .into();
    assert_eq!(found.places, places);
}

#[tokio::test]
async fn a_log_of_several_segments_is_counted_also_after_a_restart() {
    let dir = dir();
    {
        let node = node_with(BRAND, &small(dir.path()));
        filled(&node).await;
        check(&counted(&node, 0, 0).await);
        // By cells of three characters; the map is coarser than the log.
        let found = counted(&node, 0, 3).await;
        let cell = ("CN".to_owned(), String::new(), "wm6".to_owned());
        assert_eq!(found.places[&cell], tally(231, 200, 10, 0));
        let service = Arc::clone(&node.service);
        let too_fine = StatisticsQuery {
            since_ms: 0,
            cell_length: MAX_COUNTED_CELL + 1,
        };
        let refused =
            tokio::task::spawn_blocking(move || service.log().statistics(too_fine, &mut |_, _| {}));
        assert!(matches!(
            refused.await.expect("task"),
            Err(ScanError::Input { .. })
        ));
    }
    let node = node_with(BRAND, &small(dir.path()));
    check(&counted(&node, 0, 0).await);
}

#[tokio::test]
async fn the_last_days_alone_and_what_the_issuer_said_later() {
    let dir = dir();
    let node = node_with(BRAND, &small(dir.path()));
    filled(&node).await;
    // Of the last days only: their units have older first scans and are none.
    let since = (FIRST_DAY + 4) * DAY_MS;
    let found = counted(&node, since, 0).await;
    assert_eq!(found.scans, 15);
    let batch = found.batches.values().next().copied();
    assert_eq!(batch, Some(tally(13, 0, 0, 0)));

    // The scan that waited gets its verdict, and is counted on its day.
    let stop = CancellationToken::new();
    let retries = tokio::spawn(run_retries(
        Arc::clone(&node.service),
        quick(),
        stop.clone(),
    ));
    until("its verdict", || node.service.log().pending() == 0).await;
    stop.cancel();
    retries.await.expect("retries");
    let found = counted(&node, 0, 0).await;
    assert_eq!(found.scans, 236);
    assert_eq!(found.verdicts.get(&Verdict::CannotVerifyNow), None);
    assert_eq!(found.verdicts[&Verdict::GenuineFirst], 202);
    assert_eq!(found.places[&region("Sichuan")], tally(232, 201, 10, 0));

    // Deleted scans are in no other figure, and their units are none, so that no unit is doubled without being one.
    let cutoff = (FIRST_DAY + 2) * DAY_MS;
    let gone = node.service.delete_before(cutoff).await.expect("delete");
    assert!(gone.entries > 100);
    let found = counted(&node, 0, 0).await;
    assert_eq!(found.deleted, gone.entries);
    for tally in found.batches.values().chain(found.places.values()) {
        assert!(tally.doubled <= tally.units, "{tally:?}");
    }
}
