//! Deleting old scans.

use tally_merkle::verify_inclusion;

use super::*;
use crate::sealed::LogOptions;

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

#[tokio::test]
async fn old_scans_go_and_leaves_anchors_proofs_and_counts_stay() {
    let dir = dir();
    let ledger = Arc::new(FakeLedger::default());
    let stop = CancellationToken::new();
    let node = node_with(BRAND, &small(dir.path()));
    let anchoring = tokio::spawn(run_anchoring(
        Arc::clone(&node.service),
        Arc::clone(&ledger) as Arc<dyn Anchorer>,
        0,
        quick(),
        stop.clone(),
    ));
    // One that cannot be verified yet; it must not be deleted.
    node.issuer.unavailable.store(true, Ordering::SeqCst);
    let waiting = node
        .service
        .scan(request("Gwait", None))
        .await
        .expect("scan");
    node.issuer.unavailable.store(false, Ordering::SeqCst);
    let mut old = Vec::new();
    for n in 0..300 {
        let scan = node
            .service
            .scan(request(&format!("G{}", n % 80), Some(&format!("k{n}"))));
        old.push(scan.await.expect("scan"));
    }
    let cutoff = old.last().expect("scans").scan.record.time_ms + 1;
    let mut new = Vec::new();
    for n in 60..120 {
        new.push(
            node.service
                .scan(request(&format!("G{n}"), None))
                .await
                .expect("scan"),
        );
    }
    let log = node.service.log();
    until("all anchored", || {
        log.anchor_state().last.is_some_and(|a| a.size == 361)
    })
    .await;
    let root = log.root_at(361).expect("root");
    let before = log.bytes();

    let done = node.service.delete_before(cutoff).await.expect("delete");
    assert_eq!(done.entries, 300);
    assert_eq!(
        node.service
            .delete_before(cutoff)
            .await
            .expect("again")
            .entries,
        0
    );

    let check = async |node: &TestNode| {
        let log = node.service.log();
        assert_eq!((log.size(), log.codes()), (361, 120));
        assert_eq!(log.root_at(361).expect("root"), root);
        for scan in &old {
            let id = scan.scan.record.id;
            assert!(matches!(log.scan(&id), Err(ScanError::NotFound)), "deleted");
            // Whoever has the receipt can still have it proven.
            let proof = log.proof(&id).expect("proof");
            assert_eq!(proof.leaf, scan.receipt.receipt.leaf);
            let root = ledger.root_at(0, proof.anchor.size).expect("anchored");
            verify_inclusion(
                &proof.leaf,
                proof.index,
                proof.anchor.size,
                &proof.path,
                &root,
            )
            .expect("included");
        }
        for scan in new.iter().chain([&waiting]) {
            let stored = log.scan(&scan.scan.record.id).expect("kept");
            assert_eq!(stored.record, scan.scan.record);
        }
        for n in 0..120_u64 {
            let of_old = if n < 60 { 4 } else { 3 };
            let expected = u64::from(n < 80) * of_old + u64::from(n >= 60);
            let seen = log
                .seen(&code(&format!("G{n}")).hash())
                .await
                .expect("seen");
            assert_eq!(seen.count, expected, "G{n}");
            assert!(seen.first.is_some());
        }
        assert_eq!(log.pending(), 1);
    };
    check(&node).await;
    assert_eq!(log.bytes(), before);
    stop.cancel();
    anchoring.await.expect("task");
    drop(node);
    check(&node_with(BRAND, &small(dir.path()))).await;
    // The counts are in what is left of the scans, not in the index alone.
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let node = node_with(BRAND, &small(dir.path()));
    assert_eq!(node.service.log().root_at(361).expect("root"), root);
    for n in 0..120_u64 {
        let (said, count) = verdict(&node, &format!("G{n}")).await;
        let of_old = if n < 60 { 4 } else { 3 };
        let expected = u64::from(n < 80) * of_old + u64::from(n >= 60) + 1;
        assert_eq!((said, count), (Verdict::GenuineRepeat, expected), "G{n}");
    }
    // Nothing of the deleted scans can be read any more: neither ID nor pseudonym nor idempotency key.
    drop(node);
    let key = storage_key();
    let mut lines = Vec::new();
    crate::sealed::SealedLog::open(
        &dir.path().join("log"),
        &key.derive("tally/scan-log/v1"),
        "scans",
        LogOptions::default(),
        |_, bytes| {
            lines.push(bytes.to_vec());
            Ok::<_, ScanError>(())
        },
    )
    .expect("log");
    for scan in &old {
        let id = scan.scan.record.id.0;
        assert!(!lines.iter().any(|l| l.windows(16).any(|w| w == id)));
    }
}

#[tokio::test]
async fn a_segment_half_old_loses_only_that_half_and_readers_never_notice() {
    let dir = dir();
    let node = node_with(BRAND, &ScanLogConfig::new(dir.path(), 0));
    let mut scans = Vec::new();
    for n in 0..40 {
        scans.push(
            node.service
                .scan(request(&format!("G{n}"), None))
                .await
                .expect("scan"),
        );
    }
    let service = Arc::clone(&node.service);
    let kept: Vec<_> = scans[30..].iter().map(|s| s.scan.record.id).collect();
    let reading = tokio::task::spawn_blocking(move || {
        for _ in 0..50 {
            for id in &kept {
                service.log().scan(id).expect("kept");
            }
        }
    });
    for keep in [10, 20, 30] {
        let cutoff = scans[keep].scan.record.time_ms;
        let done = node.service.delete_before(cutoff).await.expect("delete");
        assert_eq!(
            done,
            Deleted {
                entries: 10,
                finished_segments: 0
            }
        );
        for (n, scan) in scans.iter().enumerate() {
            let found = node.service.log().scan(&scan.scan.record.id);
            assert_eq!(found.is_ok(), n >= keep, "{n}");
        }
    }
    reading.await.expect("reader");
    assert_eq!(verdict(&node, "G1").await, (Verdict::GenuineRepeat, 2));
}
