//! The store as a directory that is killed, filled up, damaged and attacked from inside.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rand_core::OsRng;
use tally_codes::batch::{BatchSpec, Deriver, RowFormat, RowForms, verify_unit_opening};
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
    revoked: Mutex<HashSet<(BatchId, u64)>>,
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

    fn is_revoked(&self, id: &BatchId, leaf: u64) -> Result<bool, String> {
        if self.down.load(Ordering::SeqCst) {
            return Err("down".into());
        }
        Ok(self.revoked.lock().unwrap().contains(&(*id, leaf)))
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
        let mut claims = Vec::new();
        let meta = self
            .store
            .prepare_batch(
                &new_batch(first, count),
                &RowForms::claims(RowFormat::Csv),
                (&mut io::sink(), &mut claims),
                &mut |_, _| {},
            )
            .unwrap();
        let rows = String::from_utf8(claims).unwrap();
        let rows = rows.lines().map(|row| {
            let (serial, claim) = row.split_once(',').unwrap();
            (serial.to_owned(), claim.to_owned())
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
    let (mut outer, mut claims) = (Vec::new(), Vec::new());
    let meta = w
        .store
        .prepare_batch(
            &new_batch(0, 20_000),
            &RowForms::outer(RowFormat::Csv, base()).with_claims(true),
            (&mut outer, &mut claims),
            &mut |done, all| steps.push((done, all)),
        )
        .unwrap();
    assert_eq!(steps, [(16_384, 20_000), (20_000, 20_000)]);
    let text = String::from_utf8(claims).unwrap();
    let rows: Vec<(&str, &str)> = text.lines().map(|l| l.split_once(',').unwrap()).collect();
    assert_eq!(rows.len(), 20_000);
    assert_eq!(
        outer.iter().filter(|b| **b == b'\n').count(),
        20_000,
        "both have a row for each unit"
    );
    let ((serial, claim), other) = (rows[77], rows[78].1);

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
                void: false,
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
    let mut registry = prometheus_client::registry::Registry::default();
    let store = Arc::new(open(w.dir.path(), &w.ledger).unwrap());
    registry.register_collector(Box::new(IssuerMetrics::new(store.clone())));
    let text = |registry| {
        let mut out = String::new();
        prometheus_client::encoding::text::encode(&mut out, registry).unwrap();
        out
    };
    assert!(text(&registry).contains("tally_codes_insider_alarms_total 0\n"));
    let found = store.verify(&gtin(), &forge(20), None).finding;
    assert_eq!(found, Finding::Unknown);
    assert!(text(&registry).contains("tally_codes_insider_alarms_total 1\n"));
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
        w.store.prepare_batch(
            &new_batch(0, 40_000),
            &RowForms::outer(RowFormat::Csv, base()),
            (rows, &mut io::sink()),
            &mut |_, _| {},
        )
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
            &RowForms::none(),
            (&mut io::sink(), &mut io::sink()),
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
        w.store.export(&other, &export(None, None), &mut |_, _| {}),
        Err(IssuerError::NoBatch { .. })
    ));
}

/// Stops a call of `print_batch` after so many steps, as a kill does: nothing is cleaned up.
fn interrupted(w: &World, new: &NewBatch, order: &PrintOrder, steps: u64) {
    let mut left = steps;
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        w.store.print_batch(new, order, &mut |_, _| {
            assert!(left > 0, "killed");
            left -= 1;
        })
    }));
    assert!(stopped.is_err());
}

/// An order for outer codes, and for claim codes to somebody.
fn order(out: &Path, format: RowFormat, to: Option<&age::x25519::Identity>) -> PrintOrder {
    PrintOrder {
        base: base(),
        format,
        out: out.to_owned(),
        claims: to.map(|to| claims_order(out, to)),
    }
}

fn claims_order(out: &Path, to: &age::x25519::Identity) -> ClaimsOrder {
    ClaimsOrder {
        out: out.with_extension("claims.age"),
        to: Recipients::new(&[to.to_public().to_string()]).unwrap(),
    }
}

fn export(out: Option<&Path>, claims: Option<ClaimsOrder>) -> ExportOrder {
    ExportOrder {
        base: base(),
        format: RowFormat::Csv,
        out: out.map(Path::to_owned),
        claims,
    }
}

/// Decrypts a file of claim codes.
fn decrypted(path: &Path, identity: &age::x25519::Identity) -> String {
    let file = io::BufReader::new(fs::File::open(path).unwrap());
    let reader = age::Decryptor::new_buffered(file).unwrap();
    let mut text = String::new();
    reader
        .decrypt(std::iter::once(identity as &dyn age::Identity))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// All files under a folder.
fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files_under(&path));
        } else {
            out.push(path);
        }
    }
    out
}

#[test]
fn claim_codes_are_for_the_printer_alone() {
    let mut w = World::new();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("codes.csv");
    let (printer, other) = (
        age::x25519::Identity::generate(),
        age::x25519::Identity::generate(),
    );
    let order = order(&out, RowFormat::Csv, Some(&printer));
    let claims_out = order.claims.as_ref().unwrap().out.clone();
    let new = new_batch(0, 90_000);
    // Killed in the middle: what is on disk then is searched as well.
    interrupted(&w, &new, &order, 4);
    let torn: Vec<(PathBuf, Vec<u8>)> = [w.dir.path(), folder.path()]
        .iter()
        .flat_map(|d| files_under(d))
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    w.reopen().unwrap();
    let meta = w.store.print_batch(&new, &order, &mut |_, _| {}).unwrap();
    w.ledger.anchor(&meta, BatchStatus::Active);
    let claims = decrypted(&claims_out, &printer);
    let rows: Vec<(&str, &str)> = claims
        .lines()
        .skip(1)
        .map(|l| l.split_once(',').unwrap())
        .collect();
    assert!(claims.starts_with("serial,claim_code\n"));
    let outer = fs::read_to_string(&out).unwrap();
    assert!(outer.starts_with("url,serial\n"));
    assert_eq!((rows.len(), outer.lines().count()), (90_000, 90_001));
    for (outer, (serial, _)) in outer.lines().skip(1).zip(&rows) {
        assert!(outer.ends_with(serial));
    }
    for at in [0, 12_345, 89_999] {
        let (serial, claim) = rows[at];
        assert_eq!(
            w.store.verify(&gtin(), serial, Some(claim)).claim,
            ClaimOutcome::Right
        );
    }
    // Nobody else reads it.
    let file = io::BufReader::new(fs::File::open(&claims_out).unwrap());
    assert!(
        age::Decryptor::new_buffered(file)
            .unwrap()
            .decrypt(std::iter::once(&other as &dyn age::Identity))
            .is_err()
    );
    // In no file of the store or of the folder is a claim code in clear, with or without hyphens; a serial is in the outer file.
    let now: Vec<(PathBuf, Vec<u8>)> = [w.dir.path(), folder.path()]
        .iter()
        .flat_map(|d| files_under(d))
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    assert!(now.len() >= 6, "{}", now.len());
    let claim_codes: HashSet<&[u8]> = rows.iter().map(|(_, claim)| claim.as_bytes()).collect();
    let bare: HashSet<String> = rows.iter().map(|(_, c)| c.replace('-', "")).collect();
    let bare: HashSet<&[u8]> = bare.iter().map(String::as_bytes).collect();
    let serials: HashSet<&[u8]> = rows.iter().map(|(serial, _)| serial.as_bytes()).collect();
    let holds = |bytes: &[u8], what: &HashSet<&[u8]>, length: usize| {
        bytes.windows(length).any(|window| what.contains(window))
    };
    assert!(now.iter().any(|(_, bytes)| holds(bytes, &serials, 20)));
    assert!(
        holds(claims.as_bytes(), &claim_codes, 15),
        "the search finds"
    );
    for (path, bytes) in torn.iter().chain(&now) {
        assert!(!holds(bytes, &claim_codes, 15), "{path:?}");
        assert!(!holds(bytes, &bare, 13), "{path:?}");
    }
    assert_eq!(
        fs::metadata(&claims_out).unwrap().permissions().mode() & 0o777,
        0o600
    );

    // The same again, later and for another printer; without claim codes; and claim codes alone.
    let again = folder.path().join("again.csv");
    let to_other = claims_order(&again, &other);
    w.store
        .export(
            &meta,
            &export(Some(&again), Some(to_other.clone())),
            &mut |_, _| {},
        )
        .unwrap();
    assert_eq!(fs::read_to_string(&again).unwrap(), outer);
    assert_eq!(decrypted(&to_other.out, &other), claims);
    fs::remove_file(&again).unwrap();
    fs::remove_file(&to_other.out).unwrap();
    w.store
        .export(&meta, &export(None, Some(to_other.clone())), &mut |_, _| {})
        .unwrap();
    assert!(!again.exists());
    assert_eq!(decrypted(&to_other.out, &other), claims);
    let both = ClaimsOrder {
        out: again.clone(),
        ..to_other
    };
    assert!(matches!(
        w.store
            .export(&meta, &export(Some(&again), Some(both)), &mut |_, _| {}),
        Err(IssuerError::SameFile { .. })
    ));
}

#[test]
fn rows_are_json_if_wanted() {
    let w = World::new();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("codes.jsonl");
    let printer = age::x25519::Identity::generate();
    let order = order(&out, RowFormat::Jsonl, Some(&printer));
    w.store
        .print_batch(&new_batch(0, 300), &order, &mut |_, _| {})
        .unwrap();
    let outer = fs::read_to_string(&out).unwrap();
    let claims = decrypted(&order.claims.unwrap().out, &printer);
    let rows = |text: &str| -> Vec<serde_json::Value> {
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    };
    let (outer, claims) = (rows(&outer), rows(&claims));
    assert_eq!((outer.len(), claims.len()), (300, 300));
    for (outer, claim) in outer.iter().zip(&claims) {
        assert_eq!(outer["serial"], claim["serial"]);
        let url = outer["url"].as_str().unwrap();
        assert!(url.ends_with(outer["serial"].as_str().unwrap()));
        assert_eq!(claim["claim_code"].as_str().unwrap().len(), 15);
    }
}

#[test]
fn void_lists_name_codes_of_one_batch_or_do_nothing() {
    let w = World::new();
    let (meta, rows) = w.prepare(0, 5000);
    let (other, other_rows) = w.prepare(5000, 10);
    w.ledger.anchor(&meta, BatchStatus::Active);
    w.ledger.anchor(&other, BatchStatus::Active);
    let read = |text: &str| w.store.void_list(&meta.id, &mut text.as_bytes());
    let serial = |at: usize| rows[at].0.as_str();
    let list = format!(
        "url,serial\n# wasted on Monday\n\nHTTPS://ID.T.CN/01/{GTIN}/21/{0},{0}\n{1}\r\n  {2}\n{GTIN}/{3}\n\
         {{\"url\":\"HTTPS://ID.T.CN/01/{GTIN}/21/{4}\",\"serial\":\"{4}\"}}\n{1}",
        serial(0),
        serial(1),
        serial(2).to_lowercase(),
        serial(3),
        serial(4),
    );
    let found = read(&list).unwrap();
    assert_eq!((found.fresh, found.already, found.repeated), (5, 0, 1));
    let leaf = |at: usize| {
        w.ledger.anchor(&meta, BatchStatus::Active);
        w.store
            .proof(&gtin(), serial(at))
            .unwrap()
            .opening
            .leaf_index
    };
    let mut leaves = 0;
    for part in &found.parts {
        leaves += part.leaves.count();
    }
    assert_eq!(leaves, 5);
    for at in 0..5 {
        let leaf = leaf(at);
        let number = tally_contracts::records::RevokedPart::number_of(leaf);
        let part = found.parts.iter().find(|p| p.number == number).unwrap();
        assert!(part.leaves.contains(leaf), "the leaf that proofs show");
    }

    // One of them is void by now.
    w.ledger.revoked.lock().unwrap().insert((meta.id, leaf(0)));
    let again = read(&list).unwrap();
    assert_eq!((again.fresh, again.already, again.repeated), (4, 1, 1));
    let Finding::Issued { void, .. } = w.finding(serial(0)) else {
        panic!()
    };
    assert!(void);
    assert!(matches!(
        w.finding(serial(1)),
        Finding::Issued { void: false, .. }
    ));
    let code = ScannedCode::new(GTIN, serial(0)).unwrap();
    let said = |w: &World| Issuer::verify(&w.store, &code, None).0;
    assert!(matches!(said(&w), UnitFinding::Revoked(_)));
    w.ledger.anchor(&meta, BatchStatus::Issued);
    assert!(matches!(said(&w), UnitFinding::Revoked(_)));
    w.ledger.anchor(&meta, BatchStatus::Recalled);
    assert!(matches!(said(&w), UnitFinding::Recalled(_)));
    w.ledger.anchor(&meta, BatchStatus::Active);

    // A single bad line spoils the list, and is named without its code.
    let bad = format!(
        "{}\n{}\nnonsense\n09521234543220/{}\n00000000000000000000\n{{}}\n",
        serial(5),
        other_rows[0].0,
        serial(6)
    );
    let Err(VoidError::Lines { count, first }) = read(&bad) else {
        panic!()
    };
    let lines: Vec<u64> = first.iter().map(|l| l.line).collect();
    assert_eq!((count, lines), (5, vec![2, 3, 4, 5, 6]));
    assert!(first[0].reason.contains(&other.id.to_string()), "{first:?}");
    assert!(first[3].reason.contains("no code"), "{first:?}");
    assert!(!format!("{first:?}").contains(&other_rows[0].0));
    let many = "x\n".repeat(1000);
    assert!(
        matches!(read(&many), Err(VoidError::Lines { count: 1000, first }) if first.len() == 20)
    );
    assert!(matches!(read("# nothing\n\n"), Err(VoidError::Empty)));
    assert!(matches!(
        read(&"9".repeat(10_000)),
        Err(VoidError::Lines { count: 1, .. })
    ));
    assert!(matches!(
        w.store.void_list(&BatchId([9; 16]), &mut &b"x"[..]),
        Err(VoidError::Issuer(IssuerError::NoBatch { .. }))
    ));
    assert_eq!(w.store.counters().tag_failures, 0, "nobody guessed");
    w.ledger.down.store(true, Ordering::SeqCst);
    assert!(matches!(
        read(&list),
        Err(VoidError::Issuer(IssuerError::Unavailable { .. }))
    ));
    assert_eq!(w.finding(serial(1)), Finding::Unavailable);
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
    let order = order(&out, RowFormat::Csv, None);
    interrupted(&w, &new, &order, 5);
    let (all_rows, all_roots) = (fs::read(&unfinished).unwrap(), fs::read(&roots).unwrap());
    assert!(all_roots.len() > 3 * 64 * 64 && all_rows.len() > 5_500_000);
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
            .print_batch(&new, &order, &mut |done, _| {
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
    let again = folder.path().join("again.csv");
    w.store
        .export(&meta, &export(Some(&again), None), &mut |_, _| {})
        .unwrap();
    assert!(fs::read(&again).unwrap() == bytes);

    // The record came into the ledger, and the process was killed before it could say so.
    fs::write(&out, &bytes).unwrap();
    let next = new_batch(90_000, 90_000);
    let next = NewBatch {
        lot: new.lot.clone(),
        ..next
    };
    let known = |w: &World, new: &NewBatch| w.store.already_announced(new, &order).unwrap();
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
    let order = order(&out, RowFormat::Csv, None);
    interrupted(&w, &new_batch(0, 40_000), &order, 1);
    w.reopen().unwrap();
    let meta = w
        .store
        .print_batch(&new_batch(0, 300), &order, &mut |_, _| {})
        .unwrap();
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 301);
    assert_eq!(meta.count, 300);
    w.store.announced(0).unwrap();
    assert_eq!(fs::read_dir(w.dir.path().join("jobs")).unwrap().count(), 0);
    w.ledger.anchor(&meta, BatchStatus::Active);
    // A full disk ends the job: the next call begins anew, under other keys.
    let full = PrintOrder {
        out: "/dev/full/codes.csv".into(),
        ..order
    };
    let failed = w
        .store
        .print_batch(&new_batch(300, 300), &full, &mut |_, _| {});
    assert!(matches!(failed, Err(IssuerError::PrinterFile(_))));
    assert_eq!(fs::read_dir(w.dir.path().join("jobs")).unwrap().count(), 0);
}
