//! Lists of codes that are withdrawn.

use super::*;

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
    let said = |w: &World| Issuer::verify(&w.store, &code, None, 0).0;
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
