use std::fs;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha20Rng;
use rand_core::{OsRng, SeedableRng as _};
use tally_contracts::ids::RecordId;
use tally_measure::{Import, ImportOptions, SaltedSet, import};

use super::{AudienceError, AudienceMeta, AudienceStore};
use crate::peak;
use crate::sealed::StorageKey;

fn people(n: u32) -> Import {
    let csv: String = (0..n).map(|i| format!("+861300{i:07}\n")).collect();
    let options = ImportOptions::new("e164".parse().unwrap());
    import(format!("phone\n{csv}oops\n").as_bytes(), &options).unwrap()
}

fn store(dir: &Path) -> AudienceStore {
    AudienceStore::open(dir, &StorageKey::from_bytes([7; 32])).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path));
        } else {
            out.push(path);
        }
    }
    out
}

fn ids(store: &AudienceStore, meta: &AudienceMeta) -> Vec<Vec<u8>> {
    let set = store.load(meta).unwrap();
    let mut ids: Vec<_> = set
        .entries()
        .iter()
        .map(|e| e.id.as_bytes().to_vec())
        .collect();
    ids.sort();
    ids
}

#[test]
fn a_set_comes_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let meta = store(dir.path())
        .create("buyers", 9, people(500), &mut OsRng)
        .unwrap();
    assert_eq!(
        (meta.size, meta.report.rows, meta.report.used),
        (500, 501, 500)
    );
    let store = store(dir.path());
    assert_eq!(store.list().unwrap(), std::slice::from_ref(&meta));
    assert_eq!(store.latest("buyers").unwrap(), meta);
    let expected: Vec<_> = people(500)
        .ids
        .iter()
        .map(|id| id.as_bytes().to_vec())
        .collect();
    assert_eq!(ids(&store, &meta), expected);
    assert_eq!(meta.commit().root, meta.opening().commitment());
    assert_eq!(meta.reference().size_bucket, 9);
}

#[test]
fn several_files_hold_a_large_set() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let meta = store.create("all", 1, people(150_000), &mut OsRng).unwrap();
    assert!(meta.chunks >= 2);
    assert_eq!(store.load(&meta).unwrap().size(), 150_000);
}

#[test]
fn a_set_is_frozen_for_its_epoch_and_its_label_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let first = store.create("buyers", 9, people(3), &mut OsRng).unwrap();
    let again = store.create("buyers", 9, people(4), &mut OsRng);
    assert!(matches!(again, Err(AudienceError::Exists { epoch: 9, .. })));
    let next = store.create("buyers", 10, people(3), &mut OsRng).unwrap();
    assert_eq!(first.key.label, next.key.label);
    assert_ne!(first.root, next.root, "salts are fresh in every epoch");
    assert_ne!(first.key.label, store.label("others"));
    assert_eq!(store.latest("buyers").unwrap().key.epoch, 10);
    assert!(matches!(
        store.latest("others"),
        Err(AudienceError::Unknown { .. })
    ));
}

#[test]
fn names_and_empty_sets_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    for name in ["", "a\nb", &"x".repeat(65)] {
        assert!(matches!(
            store.create(name, 1, people(1), &mut OsRng),
            Err(AudienceError::Name { .. })
        ));
    }
    assert!(matches!(
        store.create("a", 1, people(0), &mut OsRng),
        Err(AudienceError::Empty)
    ));
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn the_record_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let meta = store.create("buyers", 9, people(3), &mut OsRng).unwrap();
    store.set_record(&meta.key, RecordId([5; 32])).unwrap();
    assert_eq!(
        store.latest("buyers").unwrap().record,
        Some(RecordId([5; 32]))
    );
}

#[test]
fn nothing_readable_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path())
        .create("secret buyers", 9, people(50), &mut OsRng)
        .unwrap();
    for path in files(dir.path()) {
        let bytes = fs::read(&path).unwrap();
        for canary in [&b"+86130"[..], b"861300000001", b"secret buyers", b"e164"] {
            assert!(
                !bytes.windows(canary.len()).any(|w| w == canary),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn changed_swapped_cut_and_missing_files_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let meta = store.create("a", 9, people(150_000), &mut OsRng).unwrap();
    let set = fs::read_dir(dir.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let (one, two) = (set.join("people-000000"), set.join("people-000001"));
    let (first, second) = (fs::read(&one).unwrap(), fs::read(&two).unwrap());
    let mut flipped = first.clone();
    flipped[1000] ^= 1;
    for (path, bytes) in [
        (&one, &flipped),
        (&one, &second),
        (&one, &first[..first.len() - 1].to_vec()),
    ] {
        fs::write(path, bytes).unwrap();
        assert!(store.load(&meta).is_err());
    }
    fs::remove_file(&one).unwrap();
    assert!(matches!(
        store.load(&meta),
        Err(AudienceError::Damaged {
            what: "missing",
            ..
        })
    ));
    fs::write(&one, &first).unwrap();
    assert!(store.load(&meta).is_ok());
    let other = AudienceStore::open(dir.path(), &StorageKey::from_bytes([8; 32])).unwrap();
    assert!(matches!(other.list(), Err(AudienceError::Sealed(_))));
}

#[test]
fn what_a_crash_left_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join(format!("{}-9.tmp", "ab".repeat(32)));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("people-000000"), b"half").unwrap();
    let store = store(dir.path());
    assert!(!left.exists());
    assert!(store.list().unwrap().is_empty());
}

/// A file with repeats, rows that cannot be used, numbers of several lengths and a dense run.
fn mixed(people: u32) -> String {
    let mut csv = String::from("phone,name\n");
    for i in 0..people {
        csv += &format!("+861390{:07},a\n", 3 * i);
        if i % 7 == 0 {
            csv += &format!("+861390{:07},again\n", 3 * (i / 2));
        }
        if i % 11 == 0 {
            csv += "nobody,x\n";
        }
        if i % 13 == 0 {
            csv += &format!("+12125{:06},b\n", 550_000 + i % 9_000);
        }
    }
    csv
}

#[test]
fn a_streamed_import_is_that_in_memory_whatever_fits_into_memory() {
    let csv = mixed(30_000);
    let mut options = ImportOptions::new("e164".parse().unwrap());
    options.max_lines = 9;
    let plain = import(csv.as_bytes(), &options).unwrap();
    assert!(plain.report.duplicates.count > 1_000 && plain.report.dense_range.is_some());
    let expected: Vec<_> = plain.ids.iter().map(|id| id.as_bytes().to_vec()).collect();
    for sort_bytes in [8 << 10, 300_000, 32 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).with_sort_bytes(sort_bytes);
        let meta = store
            .import("buyers", 9, csv.as_bytes(), &options, &mut OsRng)
            .unwrap();
        assert_eq!(meta.report, plain.report);
        // Read back, it is verified against its root.
        assert_eq!(ids(&store, &meta), expected);
        assert_eq!(store.get(&meta.key).unwrap().as_ref(), Some(&meta));
        let again = store.import("buyers", 9, csv.as_bytes(), &options, &mut OsRng);
        assert!(matches!(again, Err(AudienceError::Exists { .. })));
        let none = store.import("none", 9, &b"phone\nx\n"[..], &options, &mut OsRng);
        assert!(matches!(none, Err(AudienceError::Empty)));
        let columns = store.import("none", 9, &b"id\nx\n"[..], &options, &mut OsRng);
        assert!(matches!(columns, Err(AudienceError::Set(_))));
        assert_eq!(store.list().unwrap().len(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_set_has_the_root_that_it_has_in_memory() {
    for sort_bytes in [4 << 10, 32 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).with_sort_bytes(sort_bytes);
        let rng = || ChaCha20Rng::seed_from_u64(3);
        let meta = store.create("a", 1, people(9_000), &mut rng()).unwrap();
        let profile = "e164".parse().unwrap();
        let plain = SaltedSet::new(profile, people(9_000).ids, &mut rng()).unwrap();
        assert_eq!(meta.root, *plain.root());
        let order = |set: &SaltedSet| -> Vec<_> {
            let entries = set.entries().iter();
            entries
                .map(|e| (e.salt, e.id.as_bytes().to_vec()))
                .collect()
        };
        assert_eq!(order(&store.load(&meta).unwrap()), order(&plain));
    }
}

const IMPORTER: &str = "TALLY_TEST_IMPORTER";

/// Not a test of its own: a process that imports so many people and says how much memory it had at most.
#[test]
fn importing_process() {
    let Ok(people) = std::env::var(IMPORTER) else {
        return;
    };
    let people: u64 = people.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).with_sort_bytes(1 << 20);
    let mut next = 0;
    // Rows as they are read: the file is not in memory either.
    let rows = std::iter::from_fn(move || {
        let row = match next {
            0 => "phone\n".to_owned(),
            n if n <= people => format!("+86139{:08}\n", n * 37 % 100_000_000),
            _ => return None,
        };
        next += 1;
        Some(row)
    });
    let options = ImportOptions::new("e164".parse().unwrap());
    let meta = store
        .import("a", 1, Lines(rows, Vec::new()), &options, &mut OsRng)
        .unwrap();
    assert_eq!(meta.size, people);
    store.visit_verified(&meta, |_, _| Ok(())).unwrap();
    peak::say();
}

/// Reads what an iterator gives.
struct Lines<I>(I, Vec<u8>);

impl<I: Iterator<Item = String>> std::io::Read for Lines<I> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.1.is_empty() {
            self.1 = self.0.next().unwrap_or_default().into_bytes();
        }
        let n = self.1.len().min(out.len());
        out[..n].copy_from_slice(&self.1[..n]);
        self.1.drain(..n);
        Ok(n)
    }
}

#[test]
fn four_times_the_people_take_no_more_memory() {
    let peak_kb = |people: u64| {
        let test = "audiences::tests::importing_process";
        peak::kilobytes(test, IMPORTER, &people.to_string())
    };
    let (few, many) = (peak_kb(200_000), peak_kb(800_000));
    println!("200,000 people: {few} kB, 800,000: {many} kB");
    // In memory each person takes over 60 bytes: 36 MB more. Buffers of open pages fill up, 8 MB of them.
    assert!(many < few + 18_000, "{few} kB, {many} kB");
}
