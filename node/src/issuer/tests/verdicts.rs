//! What the store says of a code, and who decides it.

use super::*;

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
                expires: None,
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
    let ask = |claim| Issuer::verify(&w.store, &code, claim, 0);
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

#[test]
fn a_batch_expires_by_the_time_that_is_given() {
    let mut w = World::new();
    let expiry = Expiry {
        date: "271200".parse().unwrap(),
        in_links: true,
    };
    let (meta, rows) = w.prepare_new(&NewBatch {
        expiry: Some(expiry),
        ..new_batch(0, 10)
    });
    assert_eq!(meta.to_record().expires, Some(expiry.date));
    w.reopen().unwrap();
    assert_eq!(w.store.batches(), std::slice::from_ref(&meta));
    let code = ScannedCode::new(GTIN, &rows[3].0).unwrap();
    let over = expiry.date.over_from_ms();
    let ask = |w: &World, now| Issuer::verify(&w.store, &code, None, now).0;
    w.ledger.anchor(&meta, BatchStatus::Issued);
    assert!(matches!(ask(&w, over), UnitFinding::NotReleased(_)));
    w.ledger.anchor(&meta, BatchStatus::Active);
    assert!(matches!(ask(&w, over - 1), UnitFinding::Released(_)));
    assert!(matches!(ask(&w, over), UnitFinding::Expired(_)));
    assert_eq!(Issuer::expires(&w.store, &meta.id), Some(expiry.date));
    let Finding::Issued { index, .. } = w.finding(&rows[3].0) else {
        panic!()
    };
    let batch = w.store.loadout().batches[0].clone();
    let leaf = batch.checker.leaf_index(index).unwrap();
    w.ledger.revoked.lock().unwrap().insert((meta.id, leaf));
    assert!(matches!(ask(&w, over), UnitFinding::Revoked(_)));
    w.ledger.anchor(&meta, BatchStatus::Recalled);
    assert!(matches!(ask(&w, over), UnitFinding::Recalled(_)));

    // A batch that the ledger has with another date is not the one that was made here.
    w.ledger
        .batches
        .lock()
        .unwrap()
        .get_mut(&meta.id)
        .unwrap()
        .expires = None;
    assert_eq!(ask(&w, 0), UnitFinding::Unknown);
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
    let record = meta.to_record();
    assert_eq!(
        (
            record.id(&OWNER),
            record.count,
            record.unit_root,
            record.expires
        ),
        (meta.id, 5, meta.unit_root, None)
    );
    let other = BatchMeta { count: 6, ..meta };
    assert!(matches!(
        w.store.export(&other, &export(None, None), &mut |_, _| {}),
        Err(IssuerError::NoBatch { .. })
    ));
}
