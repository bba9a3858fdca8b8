//! Blocks that are committed together, with one sync.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Chain, copy_dir};
use tally_contracts::block::CommitCertificate;
use tally_ledger::{Batch, Error, Kv, Ledger, MemoryKv, Pair};

type Decided = (Vec<u8>, CommitCertificate);

/// Blocks of a ledger that committed them one by one: empty ones, large ones, and one by which a fifth member is admitted.
fn decided(chain: &mut Chain, dir: &Path) -> (Ledger, Vec<Decided>) {
    let ledger = chain.replayed(dir).unwrap();
    for count in [3, 0, 1, 300, 0] {
        chain.commit(&ledger, count);
    }
    chain.time_ms += 1_000;
    let admission = chain.network.admission(4).unwrap();
    let records = chain
        .network
        .change(vec![admission], &[0, 1, 2], chain.time_ms)
        .unwrap();
    let proposer = chain.network.member(0);
    let prepared = ledger
        .prepare(&records, chain.time_ms, proposer, &|_| None)
        .unwrap();
    assert!(prepared.refused.is_empty(), "{:?}", prepared.refused);
    let certificate = chain.network.certificate(&prepared.block.header, 3);
    ledger
        .commit(&prepared.block.to_bytes(), &certificate, &|_| None)
        .unwrap();
    for count in [2, 0, 5] {
        chain.time_ms += 1_000;
        let records = chain.records(count);
        let prepared = ledger
            .prepare(&records, chain.time_ms, proposer, &|_| None)
            .unwrap();
        // Of five now.
        let certificate = chain.network.certificate(&prepared.block.header, 4);
        ledger
            .commit(&prepared.block.to_bytes(), &certificate, &|_| None)
            .unwrap();
    }
    let blocks = (1..=ledger.head().height)
        .map(|height| {
            let stored = ledger.block(height).unwrap();
            let certificate = CommitCertificate::from_bytes(&stored.certificate).unwrap();
            (stored.block, certificate)
        })
        .collect();
    (ledger, blocks)
}

fn commit_all(ledger: &Ledger, blocks: &[Decided]) -> (Vec<u64>, Result<(), Error>) {
    let mut heights = Vec::new();
    let result = ledger.commit_all(blocks, &|_| None, &mut |(header, places)| {
        assert_eq!(places.len(), header.record_count as usize);
        for (id, place) in places {
            assert_eq!(ledger.find(&id).unwrap(), Some(place));
        }
        heights.push(header.height);
    });
    (heights, result)
}

fn same(a: &Ledger, b: &Ledger) {
    let head = a.head();
    assert_eq!(head, b.head());
    assert_eq!(a.state().scan(b"").unwrap(), b.state().scan(b"").unwrap());
    assert_eq!(
        a.entries(0, head.tree_size).unwrap(),
        b.entries(0, head.tree_size).unwrap()
    );
    assert_eq!(
        a.root_at(head.tree_size).unwrap(),
        b.root_at(head.tree_size).unwrap()
    );
    for height in 1..=head.height {
        assert_eq!(a.block(height).unwrap(), b.block(height).unwrap());
    }
}

#[test]
fn together_they_give_what_they_give_one_by_one() {
    let (one_dir, all_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut chain = Chain::new();
    let (one, blocks) = decided(&mut chain, one_dir.path());
    let all = chain.open(all_dir.path());
    let (first, rest) = blocks.split_at(2);
    assert_eq!(commit_all(&all, first).0, [1, 2]);
    commit_all(&all, &[]).1.unwrap();
    let (heights, result) = commit_all(&all, rest);
    result.unwrap();
    assert_eq!(heights, (3..=9).collect::<Vec<_>>());
    same(&one, &all);
    drop(all);
    let all = chain.open(all_dir.path());
    same(&one, &all);
    // It goes on one by one, in the file of the last of them.
    chain.time_ms += 1_000;
    let records = chain.records(1);
    let proposer = chain.network.member(1);
    let next = one
        .prepare(&records, chain.time_ms, proposer, &|_| None)
        .unwrap();
    let certificate = chain.network.certificate(&next.block.header, 4);
    for ledger in [&one, &all] {
        ledger
            .commit(&next.block.to_bytes(), &certificate, &|_| None)
            .unwrap();
    }
    same(&one, &all);
    drop(all);
    same(&one, &chain.open(all_dir.path()));
}

#[test]
fn those_before_one_that_is_refused_stay() {
    let (one_dir, all_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut chain = Chain::new();
    let (one, mut blocks) = decided(&mut chain, one_dir.path());
    let all = chain.open(all_dir.path());
    let good = blocks[4].clone();
    blocks[4].1.signatures.truncate(2);
    let (heights, result) = commit_all(&all, &blocks);
    assert_eq!(heights, [1, 2, 3, 4]);
    assert!(
        matches!(result, Err(Error::Refused { height: 5, .. })),
        "{result:?}"
    );
    assert_eq!((all.head().height, all.read_only()), (4, None));
    // One that is skipped, and one that comes again.
    let (heights, result) = commit_all(&all, &blocks[5..]);
    assert!(heights.is_empty() && matches!(result, Err(Error::Refused { .. })));
    let (heights, result) = commit_all(&all, &blocks[..1]);
    assert!(heights.is_empty() && matches!(result, Err(Error::Refused { .. })));
    // Nobody who was admitted later may sign earlier, nor may those of before sign without the fifth.
    blocks[4] = good;
    let header = tally_contracts::block::Block::from_bytes(&blocks[7].0)
        .unwrap()
        .header;
    let whole = blocks[7].1.clone();
    blocks[7].1 = chain.network.certificate(&header, 3);
    let (heights, result) = commit_all(&all, &blocks[4..]);
    assert_eq!(heights, [5, 6, 7]);
    assert!(
        matches!(result, Err(Error::Refused { height: 8, .. })),
        "{result:?}"
    );
    blocks[7].1 = whole;
    commit_all(&all, &blocks[7..]).1.unwrap();
    same(&one, &all);
}

/// A store that is lost with the machine: from some moment on it takes nothing.
#[derive(Default)]
struct Lost {
    kv: MemoryKv,
    lost: AtomicBool,
}

impl Kv for Lost {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.kv.get(key)
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        if self.lost.load(Ordering::SeqCst) {
            return Err(Error::Internal("the power is gone"));
        }
        self.kv.write(batch)
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        self.kv.scan(prefix)
    }

    fn from<'a>(&'a self, key: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, Error>> + 'a> {
        self.kv.from(key)
    }

    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        self.kv.last_between(from, to)
    }

    fn flush(&self) -> Result<(), Error> {
        self.kv.flush()
    }
}

#[test]
fn the_store_never_knows_of_a_block_that_has_no_file() {
    let (one_dir, all_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut chain = Chain::new();
    let (one, blocks) = decided(&mut chain, one_dir.path());
    let kv = Arc::new(Lost::default());
    let all = chain.open_with(all_dir.path(), kv.clone()).unwrap();
    commit_all(&all, &blocks[..3]).1.unwrap();
    // After the files are synced, before the store hears of them.
    kv.lost.store(true, Ordering::SeqCst);
    let (heights, result) = commit_all(&all, &blocks[3..]);
    assert!(heights.is_empty() && result.is_err());
    assert!(all.read_only().is_some());
    drop(all);
    kv.lost.store(false, Ordering::SeqCst);
    let all = chain.open_with(all_dir.path(), kv).unwrap();
    same(&one, &all);
    drop(all);

    // Before the file has its name: it is not there, and its number is free.
    let other_dir = tempfile::tempdir().unwrap();
    let all = chain.open(other_dir.path());
    commit_all(&all, &blocks[..3]).1.unwrap();
    drop(all);
    let files = other_dir.path().join("blocks");
    let newest = fs::read_dir(&files)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .max()
        .unwrap();
    let number: u32 = newest
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let torn = files.join(format!("{:08}.new", number + 1));
    fs::write(&torn, b"half of a fr").unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_dir(other_dir.path(), copy.path());
    let all = chain.open(copy.path());
    assert_eq!(all.head().height, 3);
    commit_all(&all, &blocks[3..]).1.unwrap();
    same(&one, &all);
    assert!(
        !copy
            .path()
            .join("blocks")
            .join(torn.file_name().unwrap())
            .exists()
    );
}
