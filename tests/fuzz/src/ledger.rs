//! Block files with anything in them: what is torn is cut off, what is damaged is left as it was, and the store goes on.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use tally_ledger::sample::{START_MS, SampleNetwork};
use tally_ledger::{BlockStore, Error, Ledger, Options};
use tempfile::TempDir;

use crate::bytes::Bytes;
use crate::{Seeds, named};

/// Larger than any file here: one segment.
const SEGMENT_BYTES: u64 = 1 << 30;

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fn open(acknowledged: u64) -> Result<BlockStore, Error> {
    BlockStore::open(DIR.path(), SEGMENT_BYTES, acknowledged)
}

/// A byte, how many blocks were acknowledged; the rest is the file.
pub fn run(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let acknowledged = u64::from(input.u8() % 8);
    let path = DIR.path().join("00000001.seg");
    fs::write(&path, input.0).expect("write");
    let mut store = match open(acknowledged) {
        Ok(store) => store,
        Err(Error::Damaged { .. }) => {
            assert_eq!(
                fs::read(&path).expect("read"),
                input.0,
                "changed by a refusal"
            );
            return;
        }
        Err(e) => panic!("{e}"),
    };
    assert!(store.height() >= acknowledged);
    let kept = fs::read(&path).expect("read");
    assert!(input.0.starts_with(&kept));
    for height in 1..=store.height() {
        match store.read(height) {
            Ok(_) | Err(Error::Damaged { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }
    // It can be written to, and what was acknowledged is there after a restart.
    store.append(&[7; 40], &[8; 9]).expect("append");
    let height = store.height();
    drop(store);
    let store = open(height).expect("its own file");
    assert_eq!(store.height(), height);
    let last = store.read(height).expect("the last block");
    assert_eq!((last.block, last.certificate), (vec![7; 40], vec![8; 9]));
}

/// Blocks of one record with their certificates, from height 1.
pub(crate) fn sample_chain(blocks: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("a folder");
    let mut network = SampleNetwork::new(4).expect("members");
    let genesis = network.genesis.to_bytes();
    let ledger = Ledger::open(dir.path(), &genesis, Options::default()).expect("a ledger");
    let mut time_ms = START_MS;
    (0..blocks)
        .map(|_| {
            time_ms += 1000;
            let records = network.records(1, time_ms).expect("records");
            let prepared = ledger
                .prepare(&records, time_ms, network.member(0), &|_| None)
                .expect("a block");
            let block = prepared.block.to_bytes();
            let certificate = network.certificate(&prepared.block.header, 3);
            ledger
                .commit(&block, &certificate, &|_| None)
                .expect("commit");
            (block, certificate.to_bytes())
        })
        .collect()
}

/// A file of three blocks: whole, torn, with zeros at the end, with a changed byte.
pub fn seeds() -> Seeds {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |blocks: &[(Vec<u8>, Vec<u8>)]| {
        let path: &Path = dir.path();
        let mut store = BlockStore::open(path, SEGMENT_BYTES, 0).expect("a store");
        for (block, certificate) in blocks {
            store.append(block, certificate).expect("append");
        }
        fs::read(path.join("00000001.seg")).expect("read")
    };
    let whole = file(&sample_chain(3));
    let with = |acknowledged: u8, file: &[u8]| [&[acknowledged], file].concat();
    let mut zeros = whole.clone();
    let end = zeros.len() - 100;
    zeros[end..].fill(0);
    let mut changed = whole.clone();
    changed[20] ^= 1;
    named([
        ("three-blocks", with(3, &whole)),
        ("torn", with(2, &whole[..end])),
        ("torn-and-acknowledged", with(3, &whole[..end])),
        ("zeros", with(2, &zeros)),
        ("changed", with(0, &changed)),
        ("empty", with(0, b"")),
    ])
}
