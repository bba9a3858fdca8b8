//! Rows for printers, claim codes for who may read them, and what a kill leaves.

use super::*;

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

#[test]
fn links_have_the_expiry_date_where_it_is_wanted() {
    let w = World::new();
    let folder = TempDir::new().unwrap();
    let date = "280229".parse().unwrap();
    for (first, in_links) in [(0, true), (40_000, false)] {
        let out = folder.path().join(format!("{first}.csv"));
        let order = order(&out, RowFormat::Csv, None);
        let new = NewBatch {
            expiry: Some(Expiry { date, in_links }),
            ..new_batch(first, 40_000)
        };
        // Killed and begun again: the date is kept with the job.
        interrupted(&w, &new, &order, 2);
        let meta = w.store.print_batch(&new, &order, &mut |_, _| {}).unwrap();
        let rows = fs::read_to_string(&out).unwrap();
        let again = folder.path().join("again.csv");
        w.store
            .export(&meta, &export(Some(&again), None), &mut |_, _| {})
            .unwrap();
        assert_eq!(fs::read_to_string(&again).unwrap(), rows);
        assert_eq!(rows.lines().count(), 40_001);
        for row in rows.lines().skip(1) {
            let (url, serial) = row.split_once(',').unwrap();
            let path = format!("HTTPS://ID.T.CN/01/{GTIN}/21/{serial}");
            let tail = if in_links { "?17=280229" } else { "" };
            assert_eq!(url, format!("{path}{tail}"));
        }
        assert_eq!(meta.to_record().expires, Some(date));
    }
}

#[test]
fn a_new_batch_takes_the_place_of_no_file() {
    let w = World::new();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("codes.csv");
    let printer = age::x25519::Identity::generate();
    let order = order(&out, RowFormat::Csv, Some(&printer));
    let claims = out.with_extension("claims.age");
    let print = |first| {
        w.store
            .print_batch(&new_batch(first, 300), &order, &mut |_, _| {})
    };
    for file in [&out, &claims] {
        fs::write(file, "of another batch").unwrap();
        assert!(
            matches!(print(0), Err(IssuerError::FileIsThere { path }) if path == *file),
            "{}",
            file.display()
        );
        assert_eq!(fs::read_to_string(file).unwrap(), "of another batch");
        fs::remove_file(file).unwrap();
    }
    let meta = print(0).unwrap();
    let rows = fs::read(&out).unwrap();
    // Its job is not ended yet: the same call goes on with the batch, and with the file.
    assert_eq!(print(0).unwrap(), meta);
    assert!(fs::read(&out).unwrap() == rows);
    // Once it is, the call would make another batch.
    w.store.announced(0).unwrap();
    w.ledger.anchor(&meta, BatchStatus::Active);
    assert!(matches!(print(300), Err(IssuerError::FileIsThere { path }) if path == claims));
    assert!(fs::read(&out).unwrap() == rows);
}
