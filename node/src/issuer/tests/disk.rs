//! The store as a directory that is killed, filled up and damaged.

use super::*;

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
