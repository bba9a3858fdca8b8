//! The index on disk: restarts, damage, what it remembers, what it must not hold.

use std::collections::HashMap;

use tally_contracts::codec::Canonical;

use super::*;
use crate::sealed::{LogOptions, SealedLog};

/// Keeps the last bytes of who scanned where, and how often.
struct Trail;

impl History for Trail {
    fn after(&self, history: &[u8], scan: &Observation<'_>) -> Vec<u8> {
        let mut out = history.to_vec();
        out.push(scan.source[0]);
        out.push(u8::from(scan.held.is_some()));
        out.extend_from_slice(&scan.time_ms.to_be_bytes()[6..]);
        out.extend_from_slice(&scan.count.to_be_bytes()[7..]);
        let from = out.len().saturating_sub(MAX_HISTORY);
        out.split_off(from)
    }
}

/// A log whose index writes segments after a few scans, and whose segments are small.
fn small(dir: &Path) -> ScanLogConfig {
    ScanLogConfig {
        max_rows: 40,
        files: LogOptions {
            max_segment_bytes: 16 << 10,
            max_frame_bytes: 16 << 10,
        },
        history: Arc::new(Trail),
        ..ScanLogConfig::new(dir, 0)
    }
}

fn from(serial: &str, source: u8, key: Option<&str>) -> ScanRequest {
    ScanRequest {
        source: [source; 16],
        ..request(serial, key)
    }
}

/// Scans as a model remembers them.
#[derive(Default)]
struct Model {
    counts: HashMap<String, u64>,
    receipts: Vec<(Receipt, String, String)>,
}

impl Model {
    async fn scan(&mut self, node: &TestNode, round: u64, n: u64) {
        let serial = match n % 7 {
            0 => format!("H{}", n % 5),
            _ => format!("G{}", (n * 31 + round) % 61),
        };
        let key = format!("{round}/{n}");
        let source = u8::try_from(n % 200).expect("small");
        let outcome = node.service.scan(from(&serial, source, Some(&key))).await;
        let outcome = outcome.expect("scan");
        let record = &outcome.scan.record;
        if serial.starts_with('G') {
            let count = self.counts.entry(serial.clone()).or_default();
            *count += 1;
            assert_eq!(record.count, *count, "{serial}");
            let verdict = if *count == 1 {
                Verdict::GenuineFirst
            } else {
                Verdict::GenuineRepeat
            };
            assert_eq!(record.verdict, verdict, "{serial}");
        } else {
            assert_eq!((record.verdict, record.count), (Verdict::NotReleased, 0));
        }
        self.receipts.push((outcome.receipt.receipt, key, serial));
    }

    /// Everything that was acknowledged is there, as it was said.
    async fn check(&self, node: &TestNode) {
        let log = node.service.log();
        assert_eq!(log.codes(), self.counts.len() as u64);
        for (receipt, key, serial) in &self.receipts {
            let stored = log.scan(&receipt.scan).expect("acknowledged");
            assert_eq!(
                (stored.index, stored.leaf, stored.record.verdict),
                (receipt.log_index, receipt.leaf, receipt.verdict)
            );
            let source = stored.record.source[0];
            let again = node.service.scan(from(serial, source, Some(key))).await;
            let again = again.expect("scan");
            assert!(again.repeated);
            assert_eq!(again.receipt.receipt, *receipt);
        }
        assert_eq!(log.size(), self.receipts.len() as u64);
        for (serial, count) in &self.counts {
            let seen = log.seen(&code(serial).hash()).await.expect("seen");
            assert_eq!(seen.count, *count, "{serial}");
        }
    }
}

async fn histories(node: &TestNode) -> Vec<Seen> {
    let mut out = Vec::new();
    for n in 0..61 {
        let hash = code(&format!("G{n}")).hash();
        out.push(node.service.log().seen(&hash).await.expect("seen"));
    }
    out
}

#[tokio::test]
async fn a_restart_reads_the_tail_alone_and_knows_everything() {
    let dir = dir();
    let mut model = Model::default();
    for round in 0..4 {
        let node = node_with(BRAND, &small(dir.path()));
        model.check(&node).await;
        for n in 0..300 {
            model.scan(&node, round, n).await;
        }
    }
    // A start that read all of the log would find this.
    let first = dir.path().join("log/00000000.log");
    let mut bytes = fs::read(&first).expect("segment");
    bytes[200] ^= 1;
    fs::write(&first, &bytes).expect("write");
    let node = node_with(BRAND, &small(dir.path()));
    assert_eq!(node.service.log().size(), 1_200);
    let early = &model.receipts[0].0;
    assert!(node.service.log().scan(&early.scan).is_err());
    drop(node);
    bytes[200] ^= 1;
    fs::write(&first, &bytes).expect("write");
    model.check(&node_with(BRAND, &small(dir.path()))).await;
}

#[tokio::test]
async fn whatever_is_damaged_beside_the_log_is_built_again_from_it() {
    let live = dir();
    let mut model = Model::default();
    let (rows, root) = {
        let node = node_with(BRAND, &small(live.path()));
        for n in 0..700 {
            model.scan(&node, 0, n).await;
        }
        let log = node.service.log();
        (histories(&node).await, log.root_at(700).expect("root"))
    };
    assert!(rows.iter().any(|r| r.history.len() > 40));
    let index = live.path().join("index");
    let files: Vec<_> = fs::read_dir(&index)
        .expect("list")
        .map(|e| e.expect("entry").file_name())
        .collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        for damage in 0..3 {
            let copy = dir();
            copy_dir(live.path(), copy.path());
            let path = copy.path().join("index").join(&file);
            let mut bytes = fs::read(&path).expect("read");
            match damage {
                0 => fs::remove_file(&path).expect("remove"),
                1 => {
                    bytes.truncate(bytes.len() / 2);
                    fs::write(&path, &bytes).expect("write");
                }
                _ => {
                    let at = bytes.len() - 20;
                    bytes[at] ^= 1;
                    fs::write(&path, &bytes).expect("write");
                }
            }
            let node = node_with(BRAND, &small(copy.path()));
            let log = node.service.log();
            assert_eq!(log.root_at(700).expect("root"), root, "{file:?} {damage}");
            assert_eq!(histories(&node).await, rows, "{file:?} {damage}");
        }
    }
    // Damage that shows only when a row is read: nothing is decided by it, and the next start mends it.
    let copy = dir();
    copy_dir(live.path(), copy.path());
    for entry in fs::read_dir(copy.path().join("index")).expect("list") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|e| e == "rows") {
            let mut bytes = fs::read(&path).expect("read");
            bytes[100] ^= 1;
            fs::write(&path, &bytes).expect("write");
        }
    }
    let node = node_with(BRAND, &small(copy.path()));
    let mut refused = 0;
    for n in 0..61 {
        let scan = node.service.scan(request(&format!("G{n}"), None)).await;
        match scan {
            Ok(outcome) => assert_ne!(outcome.scan.record.verdict, Verdict::GenuineFirst),
            Err(ScanError::ReadOnly { .. } | ScanError::Table(_)) => refused += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(refused > 0);
    drop(node);
    let node = node_with(BRAND, &small(copy.path()));
    for n in 0..61 {
        assert_eq!(
            verdict(&node, &format!("G{n}")).await.0,
            Verdict::GenuineRepeat
        );
    }
}

#[tokio::test]
async fn an_index_of_another_log_is_not_believed() {
    let (a, b) = (dir(), dir());
    let mut model = Model::default();
    for (dir, scans) in [(&a, 200), (&b, 300)] {
        let node = node_with(BRAND, &small(dir.path()));
        model = Model::default();
        for n in 0..scans {
            model.scan(&node, 0, n).await;
        }
    }
    // The index of the shorter log beside the longer one, whose entries are others.
    fs::remove_dir_all(b.path().join("index")).expect("remove");
    copy_dir(&a.path().join("index"), &b.path().join("index"));
    model.check(&node_with(BRAND, &small(b.path()))).await;
    // And an index that is ahead of its log: an older copy of the log was put back.
    fs::remove_dir_all(a.path().join("index")).expect("remove");
    copy_dir(&b.path().join("index"), &a.path().join("index"));
    let node = node_with(BRAND, &small(a.path()));
    assert_eq!(node.service.log().size(), 200);
}

/// As [`super::whatever_was_acknowledged_is_there_after_a_kill`], while segments are written and merged all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_taken_at_any_moment_opens_with_everything_acknowledged() {
    let live = dir();
    let node = node_with(BRAND, &small(live.path()));
    let mut model = Model::default();
    for round in 0..10 {
        for n in 0..97 {
            model.scan(&node, round, n).await;
        }
        let copy = dir();
        copy_dir(live.path(), copy.path());
        model.check(&node_with(BRAND, &small(copy.path()))).await;
    }
}

/// Every plain byte that the log and the index keep.
fn everything_stored(dir: &Path) -> Vec<u8> {
    let key = storage_key();
    let mut out = Vec::new();
    SealedLog::open(
        &dir.join("log"),
        &key.derive("tally/scan-log/v1"),
        "scans",
        LogOptions::default(),
        |_, bytes| {
            out.extend_from_slice(bytes);
            Ok::<_, ScanError>(())
        },
    )
    .expect("log");
    let sealer = crate::sealed::RowSealer::new(&key.derive("tally/scan-index/v1").derive("rows"));
    out.extend(super::super::table::everything(&dir.join("index"), &sealer));
    for name in ["leaves", "nodes"] {
        out.extend(fs::read(dir.join("index").join(name)).expect("leaves"));
    }
    out
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[tokio::test]
async fn a_fine_position_is_cut_before_anything_is_stored() {
    let (a, b) = (dir(), dir());
    {
        let (brand, media) = pair(a.path(), b.path());
        for (node, serial) in [(&brand, "G1"), (&media, "G2")] {
            let place = Place::new("CN", "Sichuan").expect("place");
            let cell = Cell::new("WM6N2K8XYZ12").expect("cell");
            let mut scan = request(serial, None);
            scan.place = Some(place.with_cell(Some(cell)));
            let outcome = node.service.scan(scan).await.expect("scan");
            let kept = outcome.scan.record.place.expect("place").cell();
            assert_eq!(kept.expect("cell").as_str(), "wm6n2");
        }
    }
    for dir in [&a, &b] {
        let stored = everything_stored(dir.path());
        assert!(holds(&stored, b"wm6n2"));
        assert!(!holds(&stored, b"wm6n2k") && !holds(&stored, b"WM6N2"));
    }
}

#[test]
fn cells_are_geohashes_of_at_most_six_characters() {
    let cell = Cell::new("wm6n2k8").expect("cell");
    assert_eq!(cell.as_str(), "wm6n2k");
    assert_eq!(cell.cut(9).expect("cell").as_str(), "wm6n2k");
    assert_eq!(cell.cut(3).expect("cell").as_str(), "wm6");
    assert_eq!(cell.cut(0), None);
    for bad in ["", "a", "wm6i", "wm6 n", "wm6n2k8wm6n2k", "30.1,104.2", "é"] {
        assert!(Cell::new(bad).is_err(), "{bad}");
    }
    let place = Place::new("CN", "").expect("place").with_cell(Some(cell));
    assert_eq!(
        Place::from_bytes(&place.to_bytes()).ok(),
        Some(place.clone())
    );
    // What is told to consumers has no cell.
    assert_eq!(place.to_string(), "CN");
}
