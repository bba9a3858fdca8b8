use std::fs;

use super::*;
use crate::sealed::StorageKey;

fn sealer() -> RowSealer {
    RowSealer::new(&StorageKey::from_bytes([3; 32]))
}

fn key(n: u64) -> RowKey {
    let kind = match n % 3 {
        0 => Kind::Code,
        1 => Kind::Scan,
        _ => Kind::Request,
    };
    let mut name = [0; 16];
    name[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    name[8..].copy_from_slice(&n.to_be_bytes());
    RowKey::new(kind, &name)
}

fn row(n: u64, version: u64) -> Row {
    let mut out = n.to_be_bytes().to_vec();
    out.extend(vec![
        u8::try_from(version).unwrap();
        usize::try_from(n % 50).unwrap()
    ]);
    out.into()
}

/// Writes what is in memory into a segment and merges while there is something to merge.
fn settle(table: &Table, next: &mut u32, is_old: IsOld<'_>) {
    if table.freeze() {
        table.take_in(table.write_frozen(*next).unwrap().unwrap());
        *next += 1;
    }
    while table.wants_merge() {
        let new = table.merge(*next, is_old, &|| false).unwrap().unwrap();
        let expected = new.after(&table.segments());
        table.take_in(new);
        assert_eq!(table.segments(), expected);
        *next += 1;
    }
}

#[test]
fn the_newest_value_of_a_key_is_found_through_flushes_and_merges() {
    let dir = tempfile::tempdir().unwrap();
    let table = Table::open(dir.path(), sealer(), &[]).unwrap();
    let mut next = 0;
    // Each round writes again half of what the round before wrote.
    for round in 0..50_u64 {
        let rows = (round * 100..round * 100 + 200).map(|n| (key(n), row(n, round)));
        table.put_all(rows);
        settle(&table, &mut next, &|_, _| false);
    }
    assert!(table.segments().len() < 12, "{:?}", table.segments());
    let check = |table: &Table| {
        for n in 0..5_000_u64 {
            assert_eq!(table.get(&key(n)).unwrap(), Some(row(n, n / 100)), "{n}");
        }
        for n in 5_100..6_000 {
            assert_eq!(table.get(&key(n)).unwrap(), None);
        }
    };
    check(&table);
    check(&Table::open(dir.path(), sealer(), &table.segments()).unwrap());
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, table.segments().len());
}

#[test]
fn old_rows_go_when_segments_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let table = Table::open(dir.path(), sealer(), &[]).unwrap();
    let mut next = 0;
    for round in 0..6_u64 {
        table.put_all((round * 30..round * 30 + 30).map(|n| (key(n), row(n, 0))));
        settle(&table, &mut next, &|kind, _| kind == Kind::Request);
    }
    for n in 0..180 {
        assert_eq!(table.get(&key(n)).unwrap().is_some(), n % 3 != 2, "{n}");
    }
}

#[test]
fn a_changed_byte_is_damage_and_never_another_answer() {
    let dir = tempfile::tempdir().unwrap();
    let table = Table::open(dir.path(), sealer(), &[]).unwrap();
    table.put_all((0..200).map(|n| (key(n), row(n, 0))));
    settle(&table, &mut 0, &|_, _| false);
    let path = segment::path(dir.path(), 0);
    let bytes = fs::read(&path).unwrap();
    let segments = table.segments();
    for at in (0..bytes.len())
        .step_by(13)
        .chain(bytes.len() - 44..bytes.len())
    {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        let Ok(table) = Table::open(dir.path(), sealer(), &segments) else {
            continue;
        };
        let mut damaged = false;
        for n in 0..200 {
            match table.get(&key(n)) {
                Ok(found) => assert_eq!(found, Some(row(n, 0)), "byte {at}"),
                Err(TableError::Damaged { .. }) => damaged = true,
                Err(e) => panic!("{e}"),
            }
        }
        assert!(damaged, "byte {at}");
    }
    for len in [0, 10, 43, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(Table::open(dir.path(), sealer(), &segments).is_err());
    }
    // Sealed for another number.
    fs::write(segment::path(dir.path(), 1), &bytes).unwrap();
    let moved = [SegmentRef { number: 1, tier: 0 }];
    assert!(Table::open(dir.path(), sealer(), &moved).is_err());
    // Nothing of it can be read without the key.
    let (name, value) = (key(3), row(49, 0));
    assert!(!bytes.windows(16).any(|w| w == &name.0[1..]));
    assert!(!bytes.windows(value.len()).any(|w| w == &value[..]));
}
