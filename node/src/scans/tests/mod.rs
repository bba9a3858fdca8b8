//! Scenarios of the scan log and its service.

mod copies;
mod index;
mod postgres;
mod process;
mod retention;
mod statistics;
mod trade;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tally_contracts::codec::Canonical;
use tally_contracts::records::ExpiryDate;
use tally_merkle::verify_inclusion;
use tokio_util::sync::CancellationToken;

use trade::{
    a_unit_that_was_sold_and_turns_up_elsewhere,
    of_two_shops_that_sell_one_unit_at_once_one_is_the_first,
};

use super::testkit::*;
use super::*;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("temp dir")
}

async fn verdict(node: &TestNode, serial: &str) -> (Verdict, u64) {
    let outcome = node
        .service
        .scan(request(serial, None))
        .await
        .expect("scan");
    (outcome.scan.record.verdict, outcome.scan.record.count)
}

fn quick() -> TaskConfig {
    TaskConfig {
        anchor_every: 5,
        anchor_after: Duration::from_millis(20),
        retry_min: Duration::from_millis(5),
        retry_max: Duration::from_millis(20),
    }
}

/// Waits at most five seconds.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(5), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Copies as a backup does: what is merged away before its turn comes is left out.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("mkdir");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            match fs::copy(entry.path(), target) {
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => panic!("copy: {e}"),
            }
        }
    }
}

/// A scan after the last day is not counted, and what was counted before is still told.
async fn expires_by_the_clock(node: &TestNode) {
    let date: ExpiryDate = EXPIRES.parse().expect("date");
    assert_eq!(verdict(node, "E1").await, (Verdict::GenuineFirst, 1));
    let (begin, over) = (node.clock.now_ms(), date.over_from_ms());
    node.clock.0.store(over - 1, Ordering::SeqCst);
    assert_eq!(verdict(node, "E1").await, (Verdict::GenuineRepeat, 2));
    node.clock.0.store(over, Ordering::SeqCst);
    assert_eq!(verdict(node, "E1").await, (Verdict::Expired, 2));
    assert_eq!(verdict(node, "E2").await, (Verdict::Expired, 0));
    let code = ScannedCode::new(GTIN, "E1").expect("code");
    let known = node.service.look(&code).await.expect("look");
    assert_eq!((known.verdict, known.count), (Verdict::Expired, 2));
    assert!(known.first.is_some_and(|f| f.time_ms <= begin));
    node.clock.0.store(begin, Ordering::SeqCst);
    assert_eq!(verdict(node, "E2").await, (Verdict::GenuineFirst, 1));
}

async fn verdicts_follow_the_order_of_the_log(backend: &Backend) {
    let dir = dir();
    let node = backend.node(dir.path());
    assert_eq!(verdict(&node, "G1").await, (Verdict::GenuineFirst, 1));
    assert_eq!(verdict(&node, "G1").await, (Verdict::GenuineRepeat, 2));
    assert_eq!(verdict(&node, "G2").await, (Verdict::GenuineFirst, 1));
    assert_eq!(verdict(&node, "H1").await, (Verdict::NotReleased, 0));
    assert_eq!(verdict(&node, "R1").await, (Verdict::Recalled, 0));
    assert_eq!(verdict(&node, "V1").await, (Verdict::Revoked, 0));
    assert_eq!(verdict(&node, "X1").await, (Verdict::Unknown, 0));
    expires_by_the_clock(&node).await;
    let mut of_nobody = request("G1", None);
    of_nobody.code = ScannedCode::new(GTIN_OF_NOBODY, "G1").expect("code");
    let outcome = node.service.scan(of_nobody).await.expect("scan");
    assert_eq!(outcome.scan.record.verdict, Verdict::Unknown);
    assert!(outcome.product.is_none());

    let third = node.service.scan(request("G1", None)).await.expect("scan");
    let first = third.scan.record.first.expect("first");
    assert!(first.time_ms < third.scan.record.time_ms);
    assert_eq!(first.place.expect("place").to_string(), "Sichuan, CN");
}

async fn of_many_scans_of_one_code_at_once_exactly_one_is_first(backend: &Backend) {
    let dir = dir();
    let node = backend.node(dir.path());
    let scans = (0..64).map(|_| node.service.scan(request("G1", None)));
    let outcomes = futures::future::join_all(scans).await;
    let mut counts: Vec<_> = outcomes
        .iter()
        .map(|o| o.as_ref().expect("scan").scan.record.count)
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=64).collect::<Vec<_>>());
}

async fn looking_changes_nothing(backend: &Backend) {
    let dir = dir();
    let node = backend.node(dir.path());
    for _ in 0..3 {
        let known = node.service.look(&code("G1")).await.expect("look");
        assert_eq!((known.verdict, known.count), (Verdict::GenuineFirst, 0));
    }
    assert_eq!(node.service.log().size(), 0);
    verdict(&node, "G1").await;
    let known = node.service.look(&code("G1")).await.expect("look");
    assert_eq!((known.verdict, known.count), (Verdict::GenuineRepeat, 1));
}

async fn a_repeated_request_gets_the_same_answer_also_after_a_restart(backend: &Backend) {
    let dir = dir();
    let first = {
        let node = backend.node(dir.path());
        let first = node
            .service
            .scan(request("G1", Some("k")))
            .await
            .expect("scan");
        // Together in one group as well.
        let (a, b) = tokio::join!(
            node.service.scan(request("G2", Some("k2"))),
            node.service.scan(request("G2", Some("k2")))
        );
        assert_eq!(a.expect("a").receipt, b.expect("b").receipt);
        let other = node.service.scan(request("G3", Some("k"))).await;
        assert!(matches!(other, Err(ScanError::KeyReused)));
        first
    };
    let node = backend.node(dir.path());
    let again = node
        .service
        .scan(request("G1", Some("k")))
        .await
        .expect("scan");
    assert!(again.repeated && !first.repeated);
    assert_eq!(again.receipt, first.receipt);
    assert_eq!(again.scan.record, first.scan.record);
    let other = node.service.scan(request("G3", Some("k"))).await;
    assert!(matches!(other, Err(ScanError::KeyReused)));
    assert_eq!(verdict(&node, "G1").await, (Verdict::GenuineRepeat, 2));
    assert_eq!(node.service.log().size(), 3);
}

#[tokio::test]
async fn a_receipt_verifies_offline_and_fails_on_every_flipped_byte() {
    let dir = dir();
    let node = node(BRAND, dir.path());
    let outcome = node.service.scan(request("G1", None)).await.expect("scan");
    let bytes = outcome.receipt.to_bytes();
    let key = signing_key(BRAND).public_key();
    let receipt = verify_receipt(&bytes, &key).expect("verifies");
    assert_eq!(receipt.scan, outcome.scan.record.id);
    assert_eq!(receipt.code, code("G1").hash());
    assert_eq!((receipt.log_index, receipt.log_size), (0, 1));
    assert!(verify_receipt(&bytes, &signing_key(MEDIA).public_key()).is_err());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(verify_receipt(&changed, &key).is_err(), "byte {at}");
        assert!(verify_receipt(&bytes[..at], &key).is_err(), "cut at {at}");
    }
}

async fn scans_are_anchored_and_proven_under_the_receipts_leaf(backend: &Backend) {
    let dir = dir();
    let node = backend.node(dir.path());
    let ledger = Arc::new(FakeLedger::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_anchoring(
        Arc::clone(&node.service),
        Arc::clone(&ledger) as Arc<dyn Anchorer>,
        0,
        quick(),
        stop.clone(),
    ));
    let mut receipts = Vec::new();
    for i in 0..23 {
        let outcome = node.service.scan(request(&format!("G{i}"), None)).await;
        receipts.push(outcome.expect("scan").receipt.receipt);
        if i % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let log = node.service.log();
    until("all anchored", || {
        log.anchor_state().last.is_some_and(|a| a.size == 23)
    })
    .await;
    assert!(log.anchor_state().anchors > 1);
    for receipt in &receipts {
        let (proof, _) = node.service.proof(receipt.scan).await.expect("proof");
        assert_eq!(proof.leaf, receipt.leaf);
        assert_eq!(proof.index, receipt.log_index);
        let root = ledger.root_at(0, proof.anchor.size).expect("in the ledger");
        verify_inclusion(
            &proof.leaf,
            proof.index,
            proof.anchor.size,
            &proof.path,
            &root,
        )
        .expect("included");
    }
    stop.cancel();
    task.await.expect("task");
    let late = node
        .service
        .scan(request("Glate", None))
        .await
        .expect("scan");
    let proof = node.service.proof(late.scan.record.id).await;
    assert!(matches!(proof, Err(ScanError::NotAnchored)));
}

#[tokio::test]
async fn an_anchor_that_was_committed_unheard_is_found_again() {
    let dir = dir();
    let node = node(BRAND, dir.path());
    let ledger = Arc::new(FakeLedger::default());
    ledger.mute.store(true, Ordering::SeqCst);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_anchoring(
        Arc::clone(&node.service),
        Arc::clone(&ledger) as Arc<dyn Anchorer>,
        0,
        quick(),
        stop.clone(),
    ));
    verdict(&node, "G1").await;
    let log = node.service.log();
    until("anchored", || {
        log.anchor_state().last.is_some_and(|a| a.size == 1)
    })
    .await;
    ledger.mute.store(false, Ordering::SeqCst);
    ledger.down.store(true, Ordering::SeqCst);
    verdict(&node, "G2").await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(log.anchor_state().last.map(|a| a.size), Some(1));
    ledger.down.store(false, Ordering::SeqCst);
    until("anchored at last", || {
        log.anchor_state().last.is_some_and(|a| a.size == 2)
    })
    .await;
    stop.cancel();
    task.await.expect("task");
}

#[tokio::test]
async fn a_log_that_is_older_than_its_anchors_becomes_read_only() {
    let dir = dir();
    let ledger = Arc::new(FakeLedger::default());
    ledger.anchors.lock().expect("ledger").insert(
        0,
        vec![Anchored {
            size: 9,
            root: tally_merkle::empty_root(),
            record: tally_contracts::ids::RecordId([1; 32]),
        }],
    );
    let node = node(BRAND, dir.path());
    run_anchoring(
        Arc::clone(&node.service),
        ledger,
        0,
        quick(),
        CancellationToken::new(),
    )
    .await;
    let refused = node.service.scan(request("G1", None)).await;
    assert!(matches!(refused, Err(ScanError::ReadOnly { .. })));
    assert!(node.service.look(&code("G1")).await.is_ok());
}

#[tokio::test]
async fn a_full_disk_refuses_scans_with_a_reason_and_keeps_reading() {
    let dir = dir();
    let kept = {
        let node = node(BRAND, dir.path());
        node.service.scan(request("G1", None)).await.expect("scan")
    };
    let mut config = ScanLogConfig::new(dir.path(), 0);
    config.min_free_bytes = u64::MAX;
    let node = node_with(BRAND, &config);
    let refused = node.service.scan(request("G2", None)).await;
    assert!(
        matches!(refused, Err(ScanError::ReadOnly { reason }) if reason.contains("bytes are free"))
    );
    let got = node.service.get(kept.scan.record.id).await.expect("get");
    assert_eq!(got.scan.record, kept.scan.record);
}

async fn a_code_of_another_member_is_decided_and_counted_by_its_issuer(backend: &Backend) {
    let (a, b) = (dir(), dir());
    let (brand, media) = backend.pair(a.path(), b.path());
    assert_eq!(verdict(&media, "G1").await, (Verdict::GenuineFirst, 1));
    assert_eq!(verdict(&brand, "G1").await, (Verdict::GenuineRepeat, 2));
    assert_eq!(verdict(&media, "G1").await, (Verdict::GenuineRepeat, 3));
    assert_eq!(verdict(&media, "R1").await, (Verdict::Recalled, 0));
    assert_eq!(verdict(&media, "X1").await, (Verdict::Unknown, 0));
    let known = media.service.look(&code("G1")).await.expect("look");
    assert_eq!((known.verdict, known.count), (Verdict::GenuineRepeat, 3));
    assert_eq!(brand.service.log().size(), 5);
    let mut with_claim = request("G2", None);
    with_claim.claim = Some(RIGHT_CLAIM.to_owned().into());
    let outcome = media.service.scan(with_claim).await.expect("scan");
    assert_eq!(outcome.scan.record.claim, ClaimCheck::Right);
    // A node that is not the issuer does not answer, and neither does one of another network or for another sender.
    let id = ScanId([0; 16]);
    let forward = |network, asker| ForwardRequest {
        network,
        asker,
        scan: id,
        code: code("G1"),
        place: None,
        look: false,
        claim: None,
    };
    let bytes = forward(NETWORK, BRAND).to_bytes();
    let refused = media.service.answer_forwarded(BRAND, &bytes).await;
    assert!(matches!(refused, Err(ScanError::NotIssuer { .. })));
    let refused = brand.service.answer_forwarded(MEDIA, &bytes).await;
    assert!(matches!(
        refused,
        Err(ScanError::Mismatch { what: "asker" })
    ));
    let bytes = forward(tally_contracts::ids::NetworkId([0; 32]), MEDIA).to_bytes();
    let refused = brand.service.answer_forwarded(MEDIA, &bytes).await;
    assert!(matches!(
        refused,
        Err(ScanError::Mismatch { what: "network" })
    ));
}

#[tokio::test]
async fn an_answer_that_was_changed_is_no_answer() {
    let (a, b) = (dir(), dir());
    let (_brand, media) = pair(a.path(), b.path());
    for at in (0..400).step_by(7) {
        *media.wire.flip_byte.lock().expect("wire") = Some(at);
        let outcome = media.service.scan(request("G1", None)).await.expect("scan");
        assert_eq!(
            outcome.scan.record.verdict,
            Verdict::CannotVerifyNow,
            "byte {at}"
        );
    }
}

async fn a_scan_that_could_not_be_verified_is_asked_again_and_counted_once(backend: &Backend) {
    let (a, b) = (dir(), dir());
    let (brand, media) = backend.pair(a.path(), b.path());
    // The issuer counts, but its answer is lost; then the wire is cut.
    media.wire.lose_answers.store(true, Ordering::SeqCst);
    let lost = media.service.scan(request("G1", None)).await.expect("scan");
    assert_eq!(lost.scan.record.verdict, Verdict::CannotVerifyNow);
    media.wire.cut.store(true, Ordering::SeqCst);
    let cut = media.service.scan(request("R1", None)).await.expect("scan");
    assert_eq!(media.service.log().pending(), 2);
    drop(media);

    // Asked again after a restart as well.
    let media = node(MEDIA, b.path());
    assert_eq!(media.service.log().pending(), 2);
    *media.wire.to.lock().expect("wire") = Some(Arc::clone(&brand.service));
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_retries(
        Arc::clone(&media.service),
        quick(),
        stop.clone(),
    ));
    until("answered", || media.service.log().pending() == 0).await;
    stop.cancel();
    task.await.expect("task");
    let later = |outcome: ScanOutcome| outcome.scan.later.map(|l| (l.verdict, l.count));
    let got = media.service.get(lost.scan.record.id).await.expect("get");
    assert_eq!(got.scan.record.verdict, Verdict::CannotVerifyNow);
    assert_eq!(later(got), Some((Verdict::GenuineFirst, 1)));
    let got = media.service.get(cut.scan.record.id).await.expect("get");
    assert_eq!(later(got), Some((Verdict::Recalled, 0)));
    assert_eq!(verdict(&brand, "G1").await, (Verdict::GenuineRepeat, 2));
    drop(media);
    let media = node(MEDIA, b.path());
    assert_eq!(
        (media.service.log().pending(), media.service.log().size()),
        (0, 4)
    );
}

async fn an_issuer_that_could_not_verify_counts_later_itself(backend: &Backend) {
    let dir = dir();
    {
        let node = backend.node(dir.path());
        node.issuer.unavailable.store(true, Ordering::SeqCst);
        assert_eq!(verdict(&node, "G1").await, (Verdict::CannotVerifyNow, 0));
        node.issuer.unavailable.store(false, Ordering::SeqCst);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run_retries(
            Arc::clone(&node.service),
            quick(),
            stop.clone(),
        ));
        until("answered", || node.service.log().pending() == 0).await;
        stop.cancel();
        task.await.expect("task");
        assert_eq!(verdict(&node, "G1").await, (Verdict::GenuineRepeat, 2));
    }
    let node = backend.node(dir.path());
    assert_eq!(verdict(&node, "G1").await, (Verdict::GenuineRepeat, 3));
}

/// What lies on disk at any moment is what a killed process leaves: copies taken under load are opened and compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_is_there_after_a_kill() {
    let live = dir();
    let node = node(BRAND, live.path());
    let done = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(std::sync::Mutex::new(Vec::new()));
    let load: Vec<_> = (0..16)
        .map(|worker| {
            let (service, done, acknowledged) = (
                Arc::clone(&node.service),
                Arc::clone(&done),
                Arc::clone(&acknowledged),
            );
            tokio::spawn(async move {
                let mut i = 0;
                while !done.load(Ordering::SeqCst) {
                    let key = format!("{worker}/{i}");
                    let serial = format!("G{worker}A{}", i % 10);
                    let outcome = service.scan(request(&serial, Some(&key))).await;
                    let outcome = outcome.expect("scan");
                    let mut acknowledged = acknowledged.lock().expect("list");
                    acknowledged.push((outcome.receipt.receipt, key, serial));
                    i += 1;
                }
            })
        })
        .collect();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(40)).await;
        let before: Vec<_> = acknowledged.lock().expect("list").clone();
        let copy = dir();
        copy_dir(live.path(), copy.path());
        let reopened = testkit::node(BRAND, copy.path());
        let log = reopened.service.log();
        assert!(log.size() >= before.len() as u64);
        for (receipt, key, serial) in before.iter().rev().take(40).chain(before.iter().take(5)) {
            let stored = log.scan(&receipt.scan).expect("acknowledged");
            assert_eq!(
                (stored.index, stored.leaf),
                (receipt.log_index, receipt.leaf)
            );
            let again = reopened.service.scan(request(serial, Some(key))).await;
            assert_eq!(again.expect("scan").receipt.receipt, *receipt);
        }
        // The copy may hold a group that the live node has not taken note of yet.
        until("in step", || node.service.log().size() >= log.size()).await;
        let root = node.service.log().root_at(log.size()).expect("root");
        assert_eq!(log.root_at(log.size()).expect("root"), root);
        assert!(root.is_some());
    }
    done.store(true, Ordering::SeqCst);
    for task in load {
        task.await.expect("worker");
    }
}

/// Where a brand's node has its index.
#[derive(Default, Clone)]
struct Backend {
    shared: Option<Arc<SharedIndex>>,
}

impl Backend {
    fn node(&self, dir: &Path) -> TestNode {
        node_with(
            BRAND,
            &ScanLogConfig {
                shared: self.shared.clone(),
                ..ScanLogConfig::new(dir, 0)
            },
        )
    }

    fn pair(&self, brand_dir: &Path, media_dir: &Path) -> (TestNode, TestNode) {
        let (brand, media) = (self.node(brand_dir), node(MEDIA, media_dir));
        *media.wire.to.lock().expect("wire") = Some(Arc::clone(&brand.service));
        (brand, media)
    }
}

/// Makes a test on the embedded index of each scenario, and a function that runs all of them on another.
macro_rules! scenarios {
    ($($name:ident)+) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Backend::default()).await;
            })+
        }

        /// Runs every scenario; `fresh` gives an index that knows nothing.
        async fn all_scenarios(mut fresh: impl AsyncFnMut() -> Backend) {
            $(
                println!("{}", stringify!($name));
                $name(&fresh().await).await;
            )+
        }
    };
}

scenarios! {
    verdicts_follow_the_order_of_the_log
    of_many_scans_of_one_code_at_once_exactly_one_is_first
    looking_changes_nothing
    a_repeated_request_gets_the_same_answer_also_after_a_restart
    a_code_of_another_member_is_decided_and_counted_by_its_issuer
    a_scan_that_could_not_be_verified_is_asked_again_and_counted_once
    an_issuer_that_could_not_verify_counts_later_itself
    scans_are_anchored_and_proven_under_the_receipts_leaf
    a_unit_that_was_sold_and_turns_up_elsewhere
    of_two_shops_that_sell_one_unit_at_once_one_is_the_first
}

#[test]
fn identifiers_and_fields_out_of_form_are_refused() {
    assert!(matches!(
        ScannedCode::new("09521234543214", "A"),
        Err(ScanError::Gtin(_))
    ));
    assert!(matches!(
        ScannedCode::new("0952123454321", "A"),
        Err(ScanError::Gtin(_))
    ));
    for serial in ["", "A B", "123456789012345678901", "é", "#"] {
        assert!(ScannedCode::new(GTIN, serial).is_err(), "{serial}");
    }
    assert!(ScannedCode::new(GTIN, "!%&/?_az").is_ok());
    let code = ScannedCode::new(GTIN, "0123456789ABCDEFGH1K").expect("code");
    let typed = ScannedCode::new(GTIN, "o123456789abcdefghLk").expect("code");
    assert_eq!(code.hash(), typed.hash());
    assert_ne!(
        ScannedCode::new(GTIN, "abc").expect("code"),
        ScannedCode::new(GTIN, "ABC").expect("code")
    );
    assert!(Place::new("C1", "").is_err());
    assert!(Place::new("CN", &"x".repeat(65)).is_err());
    assert!(Place::new("CN", "a\nb").is_err());
    assert!("00".parse::<ScanId>().is_err());
}

proptest! {
    #[test]
    fn messages_decode_only_from_their_own_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(value) = SignedReceipt::from_bytes(&bytes) {
            prop_assert_eq!(value.to_bytes(), bytes.clone());
        }
        if let Ok(value) = SignedAnswer::from_bytes(&bytes) {
            prop_assert_eq!(value.to_bytes(), bytes.clone());
        }
        if let Ok(value) = ForwardRequest::from_bytes(&bytes) {
            prop_assert_eq!(value.to_bytes(), bytes.clone());
        }
        if let Ok(value) = ScanRecord::from_bytes(&bytes) {
            prop_assert_eq!(value.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_changed_record_is_refused_or_reads_as_what_it_says(at in 0_usize..300, with in any::<u8>()) {
        let record = ScanRecord {
            id: ScanId([1; 16]),
            time_ms: 2,
            code: code("G1"),
            verdict: Verdict::GenuineRepeat,
            count: 3,
            first: Some(First { time_ms: 1, place: Place::new("CN", "Yunnan").ok() }),
            unit: Some(UnitRef { batch: tally_contracts::ids::BatchId([3; 16]), index: 5 }),
            source: [6; 16],
            place: None,
            channel: Channel::Page,
            issuer: Some(BRAND),
            claim: ClaimCheck::Wrong,
            reasons: Reasons::none(),
            reach: Reach::Outside,
        };
        let mut bytes = record.to_bytes();
        prop_assert_eq!(ScanRecord::from_bytes(&bytes).ok(), Some(record));
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(value) = ScanRecord::from_bytes(&bytes) {
            prop_assert_eq!(value.to_bytes(), bytes);
        }
    }
}

/// Prints durable scans a second of one log; run it alone, with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn durable_scans_per_second() {
    let dir = tempfile::tempdir_in(std::env::var("TALLY_BENCH_DIR").unwrap_or("/var/tmp".into()))
        .expect("temp dir");
    measure(&node(BRAND, dir.path())).await;
}

async fn measure(node: &TestNode) {
    for clients in [1_usize, 16, 256, 1024] {
        let start = Instant::now();
        let each = (20_000 / clients).clamp(10, 300);
        let tasks: Vec<_> = (0..clients)
            .map(|c| {
                let service = Arc::clone(&node.service);
                tokio::spawn(async move {
                    for i in 0..each {
                        let serial = format!("G{c}A{i}");
                        service.scan(request(&serial, None)).await.expect("scan");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("client");
        }
        let n = clients * each;
        let per_second =
            f64::from(u32::try_from(n).expect("small")) / start.elapsed().as_secs_f64();
        println!("{clients} clients: {n} scans, {per_second:.0} a second");
    }
}
