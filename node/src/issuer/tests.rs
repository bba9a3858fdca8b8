//! The store as a directory that is killed, filled up, damaged and attacked from inside.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rand_core::OsRng;
use tally_codes::batch::{BatchSpec, Deriver, verify_unit_opening};
use tally_codes::claim::ClaimOutcome;
use tally_codes::gs1::UrlBase;
use tally_contracts::ids::{BatchId, MemberId};
use tally_contracts::records::Gtin;
use tally_contracts::state::BatchStatus;
use tally_merkle::Hash;
use tempfile::TempDir;

use super::*;
use crate::scans::{ClaimCheck, Issuer, ScannedCode, UnitFinding, UnitRef};
use crate::sealed::{SealedError, StorageKey};

const OWNER: MemberId = MemberId([7; 16]);
const GTIN: &str = "09521234543213";

#[derive(Default)]
struct FakeLedger {
    batches: Mutex<HashMap<BatchId, AnchoredBatch>>,
    down: AtomicBool,
}

impl FakeLedger {
    fn anchor(&self, meta: &BatchMeta, status: BatchStatus) {
        let batch = AnchoredBatch {
            first_index: meta.first_index,
            count: meta.count,
            status,
            unit_root: meta.unit_root,
            redemption_root: meta.redemption_root,
        };
        self.batches.lock().unwrap().insert(meta.id, batch);
    }
}

impl AnchoredBatches for FakeLedger {
    fn batch(&self, id: &BatchId) -> Result<Option<AnchoredBatch>, String> {
        if self.down.load(Ordering::SeqCst) {
            return Err("down".into());
        }
        Ok(self.batches.lock().unwrap().get(id).cloned())
    }
}

struct World {
    dir: TempDir,
    ledger: Arc<FakeLedger>,
    store: IssuerStore,
}

fn key(byte: u8) -> StorageKey {
    StorageKey::from_bytes([byte; 32])
}

fn gtin() -> Gtin {
    GTIN.parse().unwrap()
}

fn base() -> UrlBase {
    UrlBase::parse("https://id.t.cn").unwrap()
}

fn new_batch(first_index: u64, count: u64) -> NewBatch {
    NewBatch {
        gtin: gtin(),
        lot: format!("LOT-{}", first_index % 1000).parse().unwrap(),
        count,
        first_index,
    }
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let ledger = Arc::new(FakeLedger::default());
        let store = open(dir.path(), &ledger).unwrap();
        Self { dir, ledger, store }
    }

    fn reopen(&mut self) -> Result<(), IssuerError> {
        self.store = open(self.dir.path(), &self.ledger)?;
        Ok(())
    }

    /// Makes a batch and returns its rows: serial and claim code.
    fn prepare(&self, first: u64, count: u64) -> (BatchMeta, Vec<(String, String)>) {
        let mut out = Vec::new();
        let meta = self
            .store
            .prepare_batch(&new_batch(first, count), &base(), &mut out, &mut |_, _| {})
            .unwrap();
        let rows = String::from_utf8(out).unwrap();
        let rows = rows.lines().skip(1).map(|l| {
            let mut fields = l.split(',').skip(1).map(str::to_owned);
            (fields.next().unwrap(), fields.next().unwrap())
        });
        (meta, rows.collect())
    }

    fn finding(&self, serial: &str) -> Finding {
        self.store.verify(&gtin(), serial, None).finding
    }

    fn batch_dir(&self, meta: &BatchMeta) -> PathBuf {
        self.dir.path().join("batches").join(meta.dir_name())
    }

    fn batch_dirs(&self) -> usize {
        fs::read_dir(self.dir.path().join("batches"))
            .unwrap()
            .count()
    }
}

fn open(dir: &Path, ledger: &Arc<FakeLedger>) -> Result<IssuerStore, IssuerError> {
    IssuerStore::open(
        dir,
        key(1),
        OWNER,
        Arc::clone(ledger) as Arc<dyn AnchoredBatches>,
    )
}

#[test]
fn a_batch_lives() {
    let mut w = World::new();
    let mut steps = Vec::new();
    let mut out = Vec::new();
    let meta = w
        .store
        .prepare_batch(
            &new_batch(0, 20_000),
            &base(),
            &mut out,
            &mut |done, all| steps.push((done, all)),
        )
        .unwrap();
    assert_eq!(steps, [(16_384, 20_000), (20_000, 20_000)]);
    let mut again = Vec::new();
    w.store
        .export_rows(&meta, &base(), &mut again, &mut |_, _| {})
        .unwrap();
    assert_eq!(again, out);
    let text = String::from_utf8(out).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip(1)
        .map(|l| l.split(',').collect())
        .collect();
    assert_eq!(rows.len(), 20_000);
    let (serial, claim, other) = (rows[77][1], rows[77][2], rows[78][2]);

    assert_eq!(w.finding(serial), Finding::Unknown, "not anchored yet");
    assert!(matches!(
        w.store.proof(&gtin(), serial),
        Err(IssuerError::NotIssued)
    ));
    let mut index = None;
    for status in [
        BatchStatus::Issued,
        BatchStatus::Active,
        BatchStatus::Recalled,
    ] {
        w.ledger.anchor(&meta, status);
        for typed in [
            serial.to_owned(),
            serial.to_lowercase(),
            serial.replace('0', "O"),
        ] {
            let Finding::Issued {
                batch,
                index: i,
                status: s,
            } = w.finding(&typed)
            else {
                panic!("{typed}")
            };
            assert_eq!((batch, s), (meta.id, status));
            assert_eq!(*index.get_or_insert(i), i);
        }
        w.reopen().unwrap();
    }
    for (typed, outcome) in [
        (None, ClaimOutcome::Absent),
        (Some(claim), ClaimOutcome::Right),
        (Some(other), ClaimOutcome::Wrong),
        (Some("12345"), ClaimOutcome::Mistyped),
    ] {
        assert_eq!(w.store.verify(&gtin(), serial, typed).claim, outcome);
    }
    let proof = w.store.proof(&gtin(), serial).unwrap();
    assert_eq!(
        (
            proof.batch,
            proof.unit_root,
            proof.opening.serial.to_string().as_str()
        ),
        (meta.id, meta.unit_root, serial)
    );
    verify_unit_opening(&meta.unit_root, meta.count, &proof.opening).unwrap();
    assert_eq!(
        w.store.counters(),
        Counters {
            checks: 4,
            wrong_claims: 1,
            ..Counters::default()
        }
    );
}

#[test]
fn the_ledger_decides() {
    let w = World::new();
    let (meta, rows) = w.prepare(0, 10);
    let (later, later_rows) = w.prepare(0, 10);
    assert_eq!(meta.id, later.id, "made again before it was anchored");
    w.ledger.anchor(&later, BatchStatus::Active);
    assert_eq!(w.finding(&rows[0].0), Finding::Unknown);
    assert!(matches!(
        w.finding(&later_rows[0].0),
        Finding::Issued { .. }
    ));
    for change in [
        (|b| b.unit_root = Hash([0; 32])) as fn(&mut AnchoredBatch),
        |b| b.redemption_root = Hash([0; 32]),
        |b| b.count = 9,
        |b| b.first_index = 1,
    ] {
        w.ledger.anchor(&later, BatchStatus::Active);
        w.ledger
            .batches
            .lock()
            .unwrap()
            .entry(later.id)
            .and_modify(change);
        assert_eq!(w.finding(&later_rows[0].0), Finding::Unknown);
    }
    w.ledger.down.store(true, Ordering::SeqCst);
    assert_eq!(w.finding(&later_rows[0].0), Finding::Unavailable);
    assert!(matches!(
        w.store.proof(&gtin(), &later_rows[0].0),
        Err(IssuerError::Unavailable { .. })
    ));
    assert_eq!(
        w.finding("00000000000000000000"),
        Finding::Unknown,
        "no key of ours made it, whatever the ledger says"
    );
    let counters = w.store.counters();
    assert_eq!(
        (
            counters.alarms_not_anchored,
            counters.alarms_outside_batch,
            counters.tag_failures
        ),
        (5, 0, 1)
    );
}

#[test]
fn an_insider_with_the_keys_is_noticed() {
    let w = World::new();
    let (meta, _) = w.prepare(0, 10);
    let (second, _) = w.prepare(10, 10);
    w.ledger.anchor(&meta, BatchStatus::Active);
    w.ledger.anchor(&second, BatchStatus::Active);
    // The real keys, as somebody inside would take them.
    let loadout = w.store.loadout();
    let stolen = &loadout.batches[0];
    let forge = |index| {
        let spec = BatchSpec::new(GTIN.parse().unwrap(), index, 1).unwrap();
        let deriver =
            Deriver::new(&loadout.issuer, stolen.meta.key_epoch(), &stolen.keys, spec).unwrap();
        deriver.unit(index).unwrap().serial.to_string()
    };
    assert!(
        matches!(w.finding(&forge(9)), Finding::Issued { index: 9, .. }),
        "inside, it is the unit itself"
    );
    for index in [10, 19, 20, (1 << 36) - 1] {
        assert_eq!(w.finding(&forge(index)), Finding::Unknown);
    }
    assert_eq!(
        w.store.counters(),
        Counters {
            checks: 5,
            alarms_outside_batch: 4,
            ..Counters::default()
        }
    );
    for made_up in [
        "",
        "x",
        "!!!!!!!!!!!!!!!!!!!!",
        "0123456789ABCDEFGHJK",
        &"9".repeat(100),
    ] {
        assert_eq!(w.finding(made_up), Finding::Unknown);
    }
    assert_eq!(w.store.counters().tag_failures, 5);
}

#[test]
fn the_scan_log_hears_what_it_needs() {
    let w = World::new();
    let (meta, rows) = w.prepare(0, 10);
    let (serial, claim) = &rows[3];
    let code = ScannedCode::new(GTIN, serial).unwrap();
    let ask = |claim| Issuer::verify(&w.store, &code, claim);
    assert_eq!(ask(None), (UnitFinding::Unknown, ClaimCheck::Absent));
    w.ledger.anchor(&meta, BatchStatus::Issued);
    let Finding::Issued { index, .. } = w.finding(serial) else {
        panic!()
    };
    let unit = UnitRef {
        batch: meta.id,
        index,
    };
    assert_eq!(ask(None).0, UnitFinding::NotReleased(unit));
    w.ledger.anchor(&meta, BatchStatus::Recalled);
    assert_eq!(ask(None).0, UnitFinding::Recalled(unit));
    w.ledger.anchor(&meta, BatchStatus::Active);
    assert_eq!(
        ask(Some(claim)),
        (UnitFinding::Released(unit), ClaimCheck::Right)
    );
    assert_eq!(
        ask(Some(&rows[4].1)),
        (UnitFinding::Released(unit), ClaimCheck::Wrong)
    );
    assert_eq!(
        ask(Some("typo")),
        (UnitFinding::Released(unit), ClaimCheck::Absent),
        "no guess"
    );
    w.ledger.down.store(true, Ordering::SeqCst);
    assert_eq!(
        ask(Some(claim)),
        (UnitFinding::Unavailable, ClaimCheck::Absent)
    );
}

/// Fails with a full disk after so many bytes.
struct Short(usize);

impl Write for Short {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_makes_no_batch() {
    let mut w = World::new();
    let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let make = |w: &World, rows: &mut (dyn Write + Send)| {
        w.store
            .prepare_batch(&new_batch(0, 40_000), &base(), rows, &mut |_, _| {})
    };
    for rows in [
        &mut full as &mut (dyn Write + Send),
        &mut Short(0),
        &mut Short(2_000_000),
    ] {
        let e = make(&w, rows).unwrap_err();
        assert!(e.is_disk_full() && matches!(e, IssuerError::Rows(_)), "{e}");
        assert_eq!((w.batch_dirs(), w.store.batches().len()), (0, 0));
    }
    // The directory itself cannot be written: here it is gone.
    let folder = w.dir.path().join("batches");
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, b"").unwrap();
    assert!(matches!(
        make(&w, &mut io::sink()),
        Err(IssuerError::File(_))
    ));
    assert!(w.store.batches().is_empty());
    fs::remove_file(&folder).unwrap();
    w.reopen().unwrap();
    make(&w, &mut io::sink()).unwrap();
    assert_eq!(w.batch_dirs(), 1);
}

#[test]
fn killed_at_any_point_a_batch_is_whole_or_absent() {
    let mut w = World::new();
    let (meta, rows) = w.prepare(0, 700);
    w.ledger.anchor(&meta, BatchStatus::Active);
    let (kept, folder) = (w.batch_dir(&meta), w.dir.path().join("batches"));
    let files = ["trees", "batch.tmp", "batch"];
    let trees = fs::read(kept.join("trees")).unwrap();
    let batch = fs::read(kept.join("batch")).unwrap();
    // What stands in the directory of a batch whose making was interrupted: some of its files, the last of them cut short.
    for written in 0..=files.len() {
        for cut in [0, 1, 100] {
            let dir = folder.join(format!("unfinished-{written:08x}{cut:08x}"));
            fs::create_dir(&dir).unwrap();
            for (i, name) in files.iter().take(written).enumerate() {
                let bytes = if *name == "trees" { &trees } else { &batch };
                let len = if i + 1 == written {
                    bytes.len().min(cut)
                } else {
                    bytes.len()
                };
                fs::write(dir.join(name), &bytes[..len]).unwrap();
            }
        }
    }
    assert_eq!(w.batch_dirs(), 13);
    w.reopen().unwrap();
    assert_eq!((w.batch_dirs(), w.store.batches()), (1, vec![meta.clone()]));
    assert!(matches!(w.finding(&rows[0].0), Finding::Issued { .. }));
    w.store.proof(&gtin(), &rows[699].0).unwrap();
}

#[test]
fn damage_is_named_and_never_proven() {
    let mut w = World::new();
    let (meta, rows) = w.prepare(0, 700);
    let (second, _) = w.prepare(700, 700);
    w.ledger.anchor(&meta, BatchStatus::Active);
    let path = w.batch_dir(&meta).join("trees");
    let good = fs::read(&path).unwrap();
    // Levels of 700 leaves: 3, 2 and 1 nodes. Each of these four is a sibling in the proof of some unit.
    for node in [0, 1, 3, 4] {
        let mut bad = good.clone();
        bad[16 + 32 * node] ^= 1;
        fs::write(&path, bad).unwrap();
        let refused = rows
            .iter()
            .step_by(20)
            .filter(|(s, _)| matches!(w.store.proof(&gtin(), s), Err(IssuerError::Damaged { .. })))
            .count();
        assert!(refused > 0, "node {node}");
    }
    for bad in [
        &good[..good.len() - 1],
        &[],
        &[&good[..], &[0]].concat(),
        &[b"X", &good[1..]].concat(),
    ] {
        fs::write(&path, bad).unwrap();
        assert!(matches!(w.reopen(), Err(IssuerError::Damaged { .. })));
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(w.reopen(), Err(IssuerError::Damaged { .. })));
    fs::write(&path, &good).unwrap();
    w.reopen().unwrap();

    let (one, two) = (
        w.batch_dir(&meta).join("batch"),
        w.batch_dir(&second).join("batch"),
    );
    let kept = fs::read(&one).unwrap();
    fs::copy(&two, &one).unwrap();
    assert!(
        matches!(
            w.reopen(),
            Err(IssuerError::Sealed(SealedError::WrongKey { .. }))
        ),
        "of another batch"
    );
    fs::remove_file(&one).unwrap();
    assert!(matches!(w.reopen(), Err(IssuerError::Damaged { .. })));
    fs::write(&one, kept).unwrap();
    w.reopen().unwrap();

    let keys = w.dir.path().join("issuer.keys");
    let saved = fs::read(&keys).unwrap();
    fs::remove_file(&keys).unwrap();
    assert!(
        matches!(w.reopen(), Err(IssuerError::Damaged { .. })),
        "no new keys beside old batches"
    );
    fs::write(&keys, saved).unwrap();
    let open = |k, owner| IssuerStore::open(w.dir.path(), key(k), owner, w.ledger.clone());
    assert!(matches!(
        open(2, OWNER),
        Err(IssuerError::Sealed(SealedError::WrongKey { .. }))
    ));
    assert!(matches!(
        open(1, MemberId([8; 16])),
        Err(IssuerError::OtherIssuer { .. })
    ));
    assert!(open(1, OWNER).is_ok());
}

#[test]
fn what_lies_on_disk_is_sealed_and_private() {
    let w = World::new();
    let (meta, rows) = w.prepare(0, 300);
    let keys = w.store.loadout().batches[0].keys.to_secret_bytes();
    let mut files = vec![w.dir.path().join("issuer.keys")];
    files.extend(
        fs::read_dir(w.batch_dir(&meta))
            .unwrap()
            .map(|e| e.unwrap().path()),
    );
    assert_eq!(files.len(), 3);
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let holds = |what: &[u8]| bytes.windows(what.len()).any(|w| w == what);
        assert!(
            !holds(b"LOT-0") && !holds(rows[0].0.as_bytes()) && !holds(&keys[2..34]),
            "{file:?}"
        );
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600,
            "{file:?}"
        );
    }
    assert_eq!(
        fs::metadata(w.batch_dir(&meta))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
}

#[test]
fn key_epochs_follow_each_other() {
    let mut w = World::new();
    let mut all = Vec::new();
    for e in 0..4 {
        let (meta, rows) = w.prepare(e * 10, 10);
        assert_eq!(u64::from(meta.epoch), e);
        w.ledger.anchor(&meta, BatchStatus::Active);
        all.push((meta, rows));
        if e < 3 {
            w.store.begin_epoch(&mut OsRng).unwrap();
        }
    }
    assert!(w.store.begin_epoch(&mut OsRng).is_err(), "four live");
    w.reopen().unwrap();
    for (meta, rows) in &all {
        for (serial, _) in rows {
            assert!(matches!(w.finding(serial), Finding::Issued { batch, .. } if batch == meta.id));
        }
    }
    assert_eq!(w.store.batches_with_id(&all[2].0.id), [all[2].0.clone()]);
}

#[test]
fn bad_input_is_refused() {
    let w = World::new();
    for (first, count) in [(0, 0), (0, (1 << 32) + 1), (1 << 36, 1), (u64::MAX, 1)] {
        let made = w.store.prepare_batch(
            &new_batch(first, count),
            &base(),
            &mut io::sink(),
            &mut |_, _| {},
        );
        assert!(matches!(made, Err(IssuerError::Codes(_))));
    }
    assert_eq!(w.batch_dirs(), 0);
    let (meta, _) = w.prepare(0, 5);
    let record = meta.to_record(Some("271231".parse().unwrap()));
    assert_eq!(
        (record.id(&OWNER), record.count, record.unit_root),
        (meta.id, 5, meta.unit_root)
    );
    let other = BatchMeta { count: 6, ..meta };
    assert!(matches!(
        w.store
            .export_rows(&other, &base(), &mut io::sink(), &mut |_, _| {}),
        Err(IssuerError::NoBatch { .. })
    ));
}

/// Stops a call of `print_batch` after so many steps, as a kill does: nothing is cleaned up.
fn interrupted(w: &World, new: &NewBatch, out: &Path, steps: u64) {
    let mut left = steps;
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        w.store.print_batch(new, &base(), out, &mut |_, _| {
            assert!(left > 0, "killed");
            left -= 1;
        })
    }));
    assert!(stopped.is_err());
}

#[test]
fn a_killed_print_goes_on_without_a_duplicate_or_a_gap() {
    let mut w = World::new();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("codes.csv");
    let unfinished = folder.path().join("codes.csv.unfinished");
    let roots = w.dir.path().join("jobs/000000000/roots");
    // Six steps of 16,384 units.
    let new = new_batch(0, 90_000);
    interrupted(&w, &new, &out, 5);
    let (all_rows, all_roots) = (fs::read(&unfinished).unwrap(), fs::read(&roots).unwrap());
    assert!(all_roots.len() > 3 * 64 * 64 && all_rows.len() > 7_000_000);
    assert!(!out.exists() && w.store.batches().is_empty());
    let mut made: Option<(BatchMeta, Vec<u8>)> = None;
    // What a crash can leave: rows at least as far as the roots say, torn frames, and, for good measure, less.
    for (rows, noted) in [
        (all_rows.len(), all_roots.len()),
        (all_rows.len(), all_roots.len() - 1),
        (all_rows.len() - 1, all_roots.len()),
        (all_rows.len() / 2, all_roots.len()),
        (all_rows.len(), 100),
        (5, all_roots.len()),
        (0, 0),
    ] {
        fs::write(&unfinished, &all_rows[..rows]).unwrap();
        fs::write(&roots, &all_roots[..noted]).unwrap();
        w.reopen().unwrap();
        let mut first = None;
        let meta = w
            .store
            .print_batch(&new, &base(), &out, &mut |done, _| {
                first.get_or_insert(done);
            })
            .unwrap();
        let started_over = rows < 2_000_000 || noted < 8_000;
        assert_eq!(
            first == Some(16_384),
            started_over,
            "{rows} {noted} {first:?}"
        );
        let file = fs::read(&out).unwrap();
        assert_eq!(file.iter().filter(|b| **b == b'\n').count(), 90_001);
        let (same, bytes) = made.get_or_insert_with(|| (meta.clone(), file.clone()));
        assert_eq!(meta, *same);
        assert!(file == *bytes, "{rows} {noted}");
        assert!(!unfinished.exists());
        // The job stays until the ledger has its say.
        assert!(roots.exists());
        fs::remove_file(&out).unwrap();
    }
    let (meta, bytes) = made.unwrap();
    assert!(bytes.starts_with(&all_rows[..all_rows.len() / 2]));
    assert_eq!(w.store.batches(), std::slice::from_ref(&meta));
    let mut again = Vec::new();
    w.store
        .export_rows(&meta, &base(), &mut again, &mut |_, _| {})
        .unwrap();
    assert!(again == bytes);

    // The record came into the ledger, and the process was killed before it could say so.
    fs::write(&out, &bytes).unwrap();
    let next = new_batch(90_000, 90_000);
    let next = NewBatch {
        lot: new.lot.clone(),
        ..next
    };
    let known = |w: &World, new: &NewBatch| w.store.already_announced(new, &base(), &out).unwrap();
    assert_eq!(known(&w, &next), None, "not anchored");
    w.ledger.anchor(&meta, BatchStatus::Issued);
    assert_eq!(known(&w, &next), Some(meta));
    assert_eq!(known(&w, &next), None, "told once");
    assert!(!roots.exists());
}

#[test]
fn another_batch_takes_the_place_of_a_killed_one() {
    let mut w = World::new();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("codes.csv");
    interrupted(&w, &new_batch(0, 40_000), &out, 1);
    w.reopen().unwrap();
    let meta = w
        .store
        .print_batch(&new_batch(0, 300), &base(), &out, &mut |_, _| {})
        .unwrap();
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 301);
    assert_eq!(meta.count, 300);
    w.store.announced(0).unwrap();
    assert_eq!(fs::read_dir(w.dir.path().join("jobs")).unwrap().count(), 0);
    w.ledger.anchor(&meta, BatchStatus::Active);
    // A full disk ends the job: the next call begins anew, under other keys.
    let full = Path::new("/dev/full/codes.csv");
    let failed = w
        .store
        .print_batch(&new_batch(300, 300), &base(), full, &mut |_, _| {});
    assert!(matches!(failed, Err(IssuerError::PrinterFile(_))));
    assert_eq!(fs::read_dir(w.dir.path().join("jobs")).unwrap().count(), 0);
}
