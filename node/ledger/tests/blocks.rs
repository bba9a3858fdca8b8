//! Block files: what is torn is cut off, what is damaged is not.

mod common;

use std::fs;
use std::path::Path;

use common::Chain;
use tally_ledger::{BlockStore, Error};

fn fill(dir: &Path, n: u8) -> BlockStore {
    let mut store = BlockStore::open(dir, 200, 0).unwrap();
    for i in 1..=n {
        store.append(&[i; 40], &[i; 9]).unwrap();
    }
    store
}

#[test]
fn blocks_survive_reopening_over_several_files() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 20));
    let store = BlockStore::open(dir.path(), 200, 20).unwrap();
    assert_eq!(store.height(), 20);
    for i in 1..=20_u8 {
        let stored = store.read(i.into()).unwrap();
        assert_eq!(stored.block, vec![i; 40]);
        assert_eq!(stored.certificate, vec![i; 9]);
    }
    assert!(matches!(store.read(21), Err(Error::OutOfRange { .. })));
    assert!(matches!(store.read(0), Err(Error::OutOfRange { .. })));
    assert!(fs::read_dir(dir.path()).unwrap().count() > 3);
}

#[test]
fn a_tail_torn_at_any_byte_loses_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 3));
    let path = dir.path().join("00000001.seg");
    let whole = fs::read(&path).unwrap();
    let frame = whole.len() / 3;
    for cut in 2 * frame..whole.len() {
        // Torn, torn with zeros after it, and torn with the wrong bytes in it.
        let mut zeros = whole[..cut].to_vec();
        zeros.resize(whole.len(), 0);
        let mut wrong = whole.clone();
        wrong[cut] ^= 0x40;
        for bytes in [&whole[..cut], &zeros, &wrong] {
            fs::write(&path, bytes).unwrap();
            let mut store = BlockStore::open(dir.path(), 200, 2).unwrap();
            assert_eq!(store.height(), 2, "cut at {cut}");
            store.append(&[9; 40], &[9; 9]).unwrap();
            drop(store);
            let store = BlockStore::open(dir.path(), 200, 3).unwrap();
            assert_eq!(store.read(3).unwrap().block, vec![9; 40]);
            drop(store);

            // The third block is known to have been acknowledged: nothing is cut off.
            fs::write(&path, bytes).unwrap();
            let judged = BlockStore::open(dir.path(), 200, 3);
            assert!(matches!(judged, Err(Error::Damaged { .. })), "cut at {cut}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }
}

#[test]
fn damage_before_the_tail_is_an_error_that_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 12));
    let first = dir.path().join("00000001.seg");
    let whole = fs::read(&first).unwrap();
    let mut bytes = whole.clone();
    bytes[20] ^= 1;
    fs::write(&first, &bytes).unwrap();
    let store = BlockStore::open(dir.path(), 200, 0).unwrap();
    assert!(matches!(
        store.read(1),
        Err(Error::Damaged { offset: 0, .. })
    ));
    assert!(store.read(2).is_ok());
    drop(store);
    // A length that does not fit, in a file that is not the last.
    bytes = whole.clone();
    bytes[0] = 0xff;
    fs::write(&first, &bytes).unwrap();
    let judged = BlockStore::open(dir.path(), 200, 0);
    assert!(matches!(judged, Err(Error::Damaged { offset: 0, .. })));
    fs::write(&first, &whole).unwrap();
    fs::remove_file(dir.path().join("00000002.seg")).unwrap();
    let judged = BlockStore::open(dir.path(), 200, 0);
    assert!(matches!(judged, Err(Error::Damaged { .. })));
}

#[test]
fn a_changed_length_is_not_taken_for_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    for _ in 0..3 {
        chain.commit(&ledger, 1);
    }
    drop(ledger);
    let path = dir.path().join("blocks/00000001.seg");
    let whole = fs::read(&path).unwrap();
    let second = 8 + u32::from_be_bytes(whole[..4].try_into().unwrap()) as usize;
    for (byte, value) in [(0, 0xff), (1, 0xff), (2, 0xff), (3, 0)] {
        let mut bytes = whole.clone();
        bytes[second + byte] = value;
        fs::write(&path, &bytes).unwrap();
        // Nobody remembers how many blocks there were, and still none is cut off.
        let judged = BlockStore::open(&dir.path().join("blocks"), 1 << 20, 0).map(|s| {
            let read: Vec<_> = (1..=s.height()).map(|h| s.read(h).is_ok()).collect();
            (s.height(), read)
        });
        match judged {
            Err(Error::Damaged { offset, .. }) => assert!(offset >= second as u64),
            // A shorter length that fits is found when the block is read.
            Ok((height, read)) => assert!(height >= 2 && read[0] && !read[1], "{read:?}"),
            Err(e) => panic!("{e}"),
        }
        assert!(fs::read(&path).unwrap() == bytes, "nothing is cut off");
    }
}
