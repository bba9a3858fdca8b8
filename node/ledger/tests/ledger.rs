//! Executing, committing, serving and rebuilding.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Chain, OPTIONS, copy_dir};
use tally_contracts::block::{Block, BlockInfo, CommitCertificate};
use tally_contracts::ids::{BlockHash, MemberId, NetworkId};
use tally_contracts::state::keys;
use tally_ledger::sample::{SampleNetwork, bench};
use tally_ledger::{CheckError, Error, Kv, Ledger, MemoryKv, Options};
use tally_merkle::tile::{TileKind, TileReader, TileTree, decode_bundle, decode_hashes, width_at};
use tally_merkle::{Hash, TilePath, leaf_hash, root_at, verify_consistency, verify_inclusion};

#[test]
fn records_are_found_and_proven_at_every_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    let mut roots = BTreeMap::from([(1, ledger.head().tree_root)]);
    for count in [1, 0, 3, 260, 0, 2] {
        let before = ledger.head();
        let (block, certificate) = chain.block(&ledger, count);
        assert_eq!(ledger.head(), before, "preparing changes nothing");
        let header = ledger.check(&block.to_bytes(), &|_| None).unwrap();
        assert_eq!((header, ledger.head()), (block.header.clone(), before));
        let (_, places) = ledger
            .commit(&block.to_bytes(), &certificate, &|_| None)
            .unwrap();
        let head = ledger.head();
        roots.insert(head.tree_size, head.tree_root);
        let grown = if count == 0 { 0 } else { count as u64 + 1 };
        assert_eq!(head.tree_size, before.tree_size + grown);
        assert_eq!(head.state_root == before.state_root, count == 0);
        assert_eq!(places.len(), count);
        for ((id, place), bytes) in places.iter().zip(&block.records) {
            assert_eq!(ledger.find(id).unwrap(), Some(*place));
            assert_eq!(&ledger.entry(place.index).unwrap(), bytes);
            assert_eq!(ledger.height_of(place.index).unwrap(), head.height);
        }
        if count > 0 {
            let info = BlockInfo::from_bytes(&ledger.entry(head.tree_size - 1).unwrap()).unwrap();
            assert_eq!(info.height, head.height);
            assert_eq!(info.state_root, head.state_root);
        }
    }
    let size = ledger.head().tree_size;
    assert_eq!(size, 271);
    assert_eq!(ledger.entry(0).unwrap(), chain.genesis);
    let entries = ledger.entries(0, size).unwrap();
    for (at, root) in &roots {
        assert_eq!(ledger.root_at(*at).unwrap(), *root);
        for index in [0, at / 2, at - 1] {
            let leaf = leaf_hash(&entries[usize::try_from(index).unwrap()]);
            let proof = ledger.inclusion_proof(index, *at).unwrap();
            verify_inclusion(&leaf, index, *at, &proof, root).unwrap();
        }
        let proof = ledger.consistency_proof(*at, size).unwrap();
        verify_consistency(*at, size, root, &roots[&size], &proof).unwrap();
    }
    for judged in [
        ledger.entry(size).err(),
        ledger.entries(0, size + 1).err(),
        ledger.root_at(size + 1).err(),
        ledger.inclusion_proof(0, size + 1).err(),
        ledger.consistency_proof(1, size + 1).err(),
    ] {
        assert!(
            matches!(judged, Some(Error::OutOfRange { .. })),
            "{judged:?}"
        );
    }
}

#[test]
fn every_changed_header_field_fails_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    chain.commit(&ledger, 2);
    let (block, _) = chain.block(&ledger, 2);
    let checked = |change: &dyn Fn(&mut Block)| {
        let mut bad = block.clone();
        change(&mut bad);
        ledger.check(&bad.to_bytes(), &|_| None)
    };
    checked(&|_| {}).unwrap();
    let changes: [&dyn Fn(&mut Block); 12] = [
        &|b| b.header.rules_version += 1,
        &|b| b.header.network = NetworkId([1; 32]),
        &|b| b.header.height += 1,
        &|b| b.header.previous = BlockHash([1; 32]),
        &|b| b.header.time_ms = 5,
        &|b| b.header.time_ms += 1,
        &|b| b.header.tree_size += 1,
        &|b| b.header.tree_root = Hash([1; 32]),
        &|b| b.header.proposer = MemberId([1; 16]),
        &|b| b.records.swap(0, 1),
        &|b| b.records[1] = b.records[0].clone(),
        &|b| b.records[0][80] ^= 1,
    ];
    for (i, change) in changes.iter().enumerate() {
        let judged = checked(change);
        assert!(
            matches!(judged, Err(CheckError::Invalid(_))),
            "{i}: {judged:?}"
        );
    }
    assert!(matches!(
        ledger.check(b"no block", &|_| None),
        Err(CheckError::Invalid(_))
    ));
}

/// Gives a block the tree root that its records have, whatever else is wrong with it.
fn rooted(ledger: &Ledger, mut block: Block) -> Block {
    let head = ledger.head();
    let mut leaves: Vec<Hash> = ledger
        .entries(0, head.tree_size)
        .unwrap()
        .iter()
        .map(|e| leaf_hash(e))
        .collect();
    block.header.record_count = u32::try_from(block.records.len()).unwrap();
    let h = &block.header;
    let info = BlockInfo {
        rules_version: h.rules_version,
        height: h.height,
        time_ms: h.time_ms,
        previous: h.previous,
        record_count: h.record_count,
        proposer: h.proposer,
        state_root: h.state_root,
    };
    leaves.extend(block.records.iter().map(|r| leaf_hash(r)));
    leaves.push(leaf_hash(&info.to_bytes()));
    block.header.tree_size = leaves.len() as u64;
    block.header.tree_root = tally_merkle::root_of(&leaves);
    block
}

#[test]
fn a_wrong_decision_stops_the_node_and_a_wrong_sender_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    let (first, certificate) = chain.block(&ledger, 1);
    ledger
        .commit(&first.to_bytes(), &certificate, &|_| None)
        .unwrap();
    let before = ledger.head();
    let (block, good) = chain.block(&ledger, 2);
    let refused = |bytes: &[u8], certificate: &CommitCertificate| {
        let judged = ledger.commit(bytes, certificate, &|_| None);
        assert!(matches!(judged, Err(Error::Refused { .. })), "{judged:?}");
        assert_eq!((ledger.head(), ledger.read_only()), (before, None));
    };
    // Two of four validators; another block's certificate; the block before; records changed on the way.
    refused(
        &block.to_bytes(),
        &chain.network.certificate(&block.header, 2),
    );
    refused(&block.to_bytes(), &certificate);
    refused(&first.to_bytes(), &certificate);
    let mut forged = good.clone();
    forged.signatures[1].signature.0[7] ^= 1;
    refused(&block.to_bytes(), &forged);
    let mut swapped = block.clone();
    swapped.records.swap(0, 1);
    refused(&swapped.to_bytes(), &good);
    let mut longer = block.clone();
    longer.records[1].extend_from_slice(&[0; 9000]);
    refused(&longer.to_bytes(), &good);

    // The network decided on these, but no rules of this node give them.
    let mut root = block.clone();
    root.header.state_root = Hash([3; 32]);
    let mut replay = block.clone();
    replay.records[1].clone_from(&first.records[0]);
    let mut time = block.clone();
    time.header.time_ms = before.time_ms;
    for bad in [root, replay, time] {
        let bad = rooted(&ledger, bad);
        let certificate = chain.network.certificate(&bad.header, 3);
        let judged = ledger.commit(&bad.to_bytes(), &certificate, &|_| None);
        assert!(matches!(judged, Err(Error::Diverged { .. })), "{judged:?}");
        assert_eq!(ledger.head(), before);
    }
    let mut root = block.clone();
    root.header.state_root = Hash([3; 32]);
    let judged = ledger.check(&rooted(&ledger, root).to_bytes(), &|_| None);
    assert!(matches!(judged, Err(CheckError::Diverged(_))), "{judged:?}");

    ledger.commit(&block.to_bytes(), &good, &|_| None).unwrap();
    assert_eq!(ledger.head().height, 2);
}

#[test]
fn refused_records_are_left_out_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    let mut records = chain.records(3);
    records.push(records[0].clone());
    let proposer = chain.network.member(0);
    let time_ms = chain.time_ms + 5;
    let prepared = ledger
        .prepare(&records, time_ms, proposer, &|_| None)
        .unwrap();
    assert_eq!(prepared.block.records.len(), 3);
    assert_eq!(prepared.refused.len(), 1);
    assert_eq!(prepared.refused[0].0, records[0].id());
    ledger.check(&prepared.block.to_bytes(), &|_| None).unwrap();

    // More than a block may hold: a prefix is taken, the rest is for later.
    let most = usize::try_from(chain.network.genesis.rules.max_block_records).unwrap();
    let many: Vec<_> = std::iter::repeat_n(records[0].clone(), most + 10).collect();
    let prepared = ledger.prepare(&many, time_ms, proposer, &|_| None).unwrap();
    assert!(prepared.left_over >= 10);
    assert_eq!(prepared.block.records.len(), 1);
    assert_eq!(prepared.refused.len() + 1 + prepared.left_over, most + 10);
    // A time before the last block's is moved on.
    assert_eq!(
        ledger
            .prepare(&[], 0, proposer, &|_| None)
            .unwrap()
            .block
            .header
            .time_ms,
        ledger.head().time_ms + 1
    );
}

#[test]
fn reopening_and_rebuilding_give_the_same_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.open(dir.path());
    for count in [2, 0, 300, 1] {
        chain.commit(&ledger, count);
    }
    let judged = Ledger::open(dir.path(), &chain.genesis, OPTIONS);
    assert!(matches!(judged, Err(Error::Locked { .. })));
    let judged = Ledger::reindex(dir.path(), &chain.genesis, OPTIONS, &mut |_, _| {});
    assert!(matches!(judged, Err(Error::Locked { .. })));
    let head = ledger.head();
    let state = ledger.state().scan(b"").unwrap();
    let files = tile_files(&dir.path().join("tiles"));
    assert!(!files.is_empty());
    drop(ledger);

    let ledger = chain.open(dir.path());
    assert_eq!(ledger.head(), head);
    assert_eq!(ledger.state().scan(b"").unwrap(), state);
    drop(ledger);

    let mut heights = Vec::new();
    let ledger = Ledger::reindex(dir.path(), &chain.genesis, OPTIONS, &mut |at, last| {
        assert_eq!(last, 4);
        heights.push(at);
    })
    .unwrap();
    assert_eq!(heights, [1, 2, 3, 4]);
    assert_eq!(ledger.head(), head);
    assert_eq!(ledger.state().scan(b"").unwrap(), state);
    assert_eq!(tile_files(&dir.path().join("tiles")), files);
    drop(ledger);

    // One of an early build is not opened, and made anew by the same command.
    fs::write(dir.path().join("state/db"), []).unwrap();
    let judged = Ledger::open(dir.path(), &chain.genesis, OPTIONS);
    let judged = judged.err().unwrap().to_string();
    assert!(judged.contains("tally reindex"), "{judged}");
    let again = Ledger::reindex(dir.path(), &chain.genesis, OPTIONS, &mut |_, _| {});
    assert_eq!(again.unwrap().head(), head);

    // Without its index folder a ledger rebuilds it by itself; without its tiles it says what to do.
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let ledger = chain.open(dir.path());
    assert_eq!(ledger.head(), head);
    ledger.flush().unwrap();
    drop(ledger);
    fs::remove_dir_all(dir.path().join("tiles")).unwrap();
    let judged = Ledger::open(dir.path(), &chain.genesis, OPTIONS)
        .err()
        .unwrap();
    assert!(judged.to_string().contains("tally reindex"), "{judged}");

    let other = SampleNetwork::new(3).unwrap().genesis.to_bytes();
    let judged = Ledger::open(dir.path(), &other, OPTIONS);
    assert!(matches!(judged, Err(Error::OtherNetwork { .. })));
}

#[test]
fn a_block_torn_at_any_byte_is_committed_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    chain.commit(&ledger, 1);
    let before = ledger.head();
    let path = dir.path().join("blocks/00000001.seg");
    let start = fs::metadata(&path).unwrap().len();
    let (block, certificate) = chain.block(&ledger, 1);
    ledger
        .commit(&block.to_bytes(), &certificate, &|_| None)
        .unwrap();
    let head = ledger.head();
    drop(ledger);
    let whole = fs::read(&path).unwrap();
    for cut in usize::try_from(start).unwrap()..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let ledger = chain.replayed(dir.path()).unwrap();
        assert_eq!(ledger.head(), before, "cut at {cut}");
        // Committing again after each cut would be mostly waiting for the disk.
        if cut % 16 != 0 {
            continue;
        }
        ledger
            .commit(&block.to_bytes(), &certificate, &|_| None)
            .unwrap();
        assert_eq!(ledger.head(), head);
        drop(ledger);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn a_full_disk_makes_the_ledger_read_only_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let kv = Arc::new(MemoryKv::new());
    let ledger = chain.open_with(dir.path(), kv.clone()).unwrap();
    chain.commit(&ledger, 3);
    drop(ledger);
    // The next file to write is one that is always full.
    let options = Options {
        segment_bytes: 1,
        ..OPTIONS
    };
    std::os::unix::fs::symlink("/dev/full", dir.path().join("blocks/00000002.seg")).unwrap();
    let ledger = Ledger::open_with(dir.path(), &chain.genesis, options, kv.clone());
    let Ok(ledger) = ledger else {
        println!("skipped: no /dev/full here");
        return;
    };
    let before = ledger.head();
    // A new store takes the last file that there is, so the first write already fails.
    let (block, certificate) = chain.block(&ledger, 2);
    let failed = ledger
        .commit(&block.to_bytes(), &certificate, &|_| None)
        .unwrap_err();
    assert!(matches!(failed, Error::Io { .. }), "{failed}");
    for _ in 0..2 {
        let judged = ledger.commit(&block.to_bytes(), &certificate, &|_| None);
        assert!(matches!(judged, Err(Error::ReadOnly { .. })));
        let judged = ledger.prepare(&[], 0, chain.network.member(0), &|_| None);
        assert!(matches!(judged, Err(Error::ReadOnly { .. })));
    }
    assert!(ledger.read_only().is_some());
    assert_eq!(ledger.head(), before);
    assert_eq!(ledger.entry(0).unwrap(), chain.genesis);
    ledger.inclusion_proof(2, before.tree_size).unwrap();
    drop(ledger);
    fs::remove_file(dir.path().join("blocks/00000002.seg")).unwrap();
    let ledger = chain.open_with(dir.path(), kv).unwrap();
    assert_eq!(ledger.head(), before);
    ledger
        .commit(&block.to_bytes(), &certificate, &|_| None)
        .unwrap();
}

/// A store whose writes fail from now on.
struct Failing(MemoryKv, std::sync::atomic::AtomicBool);

impl Kv for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }

    fn write(&self, batch: tally_ledger::Batch) -> Result<(), Error> {
        if self.1.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::ReadOnly {
                reason: "disk full".into(),
            });
        }
        self.0.write(batch)
    }

    fn scan<'a>(
        &'a self,
        prefix: &[u8],
    ) -> Box<dyn Iterator<Item = Result<tally_ledger::Pair, Error>> + 'a> {
        self.0.scan(prefix)
    }

    fn from<'a>(
        &'a self,
        key: &[u8],
    ) -> Box<dyn Iterator<Item = Result<tally_ledger::Pair, Error>> + 'a> {
        self.0.from(key)
    }

    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<tally_ledger::Pair>, Error> {
        self.0.last_between(from, to)
    }

    fn flush(&self) -> Result<(), Error> {
        self.0.flush()
    }
}

#[test]
fn a_block_on_disk_counts_even_if_the_indexes_failed() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let kv = Arc::new(Failing(MemoryKv::new(), AtomicBool::new(false)));
    let ledger = chain.open_with(dir.path(), kv.clone()).unwrap();
    chain.commit(&ledger, 250);
    let before = ledger.head();
    // These records fill a tile on the way.
    let (block, certificate) = chain.block(&ledger, 20);
    kv.1.store(true, Ordering::Relaxed);
    ledger
        .commit(&block.to_bytes(), &certificate, &|_| None)
        .unwrap_err();
    assert_eq!(ledger.head(), before);
    assert!(ledger.read_only().is_some());
    assert_eq!(ledger.root_at(before.tree_size).unwrap(), before.tree_root);
    drop(ledger);
    kv.1.store(false, Ordering::Relaxed);
    let ledger = chain.open_with(dir.path(), kv).unwrap();
    assert_eq!(ledger.head().hash, block.header.hash());
    assert_eq!(
        ledger.root_at(block.header.tree_size).unwrap(),
        block.header.tree_root
    );
}

#[test]
fn what_stands_in_the_state_is_proven_to_a_holder_of_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    assert_eq!(ledger.state_evidence(b"x").unwrap().block_info, None);
    chain.commit(&ledger, 3);
    chain.commit(&ledger, 0);
    let head = ledger.head();
    let member = keys::member(&chain.network.member(1));
    for (key, present) in [(member, true), (keys::member(&MemberId([9; 16])), false)] {
        let evidence = ledger.state_evidence(&key).unwrap();
        assert_eq!(evidence.value.is_some(), present);
        assert_eq!(evidence.head, head);
        // The verifier's side: root of a checkpoint -> BlockInfo -> state root -> value.
        let (index, info) = evidence.block_info.unwrap();
        let proof = ledger.inclusion_proof(index, head.tree_size).unwrap();
        let leaf = leaf_hash(&info.to_bytes());
        verify_inclusion(&leaf, index, head.tree_size, &proof, &head.tree_root).unwrap();
        let value = evidence.value.as_deref();
        evidence
            .proof
            .verify(&info.state_root, &key, value)
            .unwrap();
        let other: Option<&[u8]> = if present { None } else { Some(b"?") };
        evidence
            .proof
            .verify(&info.state_root, &key, other)
            .unwrap_err();
        let (proven_head, found, proof) = ledger.prove_value(&key).unwrap();
        proof
            .verify(&proven_head.state_root, &key, found.as_deref())
            .unwrap();
    }
}

/// Tiles read back from an exported folder, as a stranger would.
struct Exported(PathBuf, u64);

impl TileReader for Exported {
    type Error = tally_merkle::Error;

    fn tile(&self, level: u8, index: u64) -> Result<Arc<[Hash]>, tally_merkle::Error> {
        let kind = TileKind::Hashes(level);
        let path = TilePath::new(kind, index, width_at(kind, index, self.1))?;
        let bytes = fs::read(self.0.join(path.to_string())).unwrap();
        Ok(decode_hashes(&bytes, path.width())?.into())
    }
}

#[test]
fn exported_tiles_give_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    for count in [255, 10, 300, 4] {
        chain.commit(&ledger, count);
    }
    let head = ledger.head();
    // At the head, at a size whose last tile has become full since, and before the first block.
    for size in [head.tree_size, 300, 1] {
        let out = dir.path().join(format!("out-{size}"));
        let count = ledger.export_tiles(size, &out).unwrap();
        assert_eq!(count, TilePath::of_tree(size).count() as u64);
        let tiles = TileTree(Exported(out.clone(), size));
        assert_eq!(
            root_at(&tiles, size).unwrap(),
            ledger.root_at(size).unwrap()
        );
        let mut entries = Vec::new();
        for path in TilePath::of_tree(size).filter(|p| p.kind() == TileKind::Entries) {
            let bytes = fs::read(out.join(path.to_string())).unwrap();
            for entry in decode_bundle(&bytes, path.width()).unwrap() {
                entries.push(entry.to_vec());
            }
        }
        assert_eq!(entries, ledger.entries(0, size).unwrap());
    }
    assert!(
        ledger
            .export_tiles(head.tree_size + 1, &dir.path().join("no"))
            .is_err()
    );
    for beyond in [
        "tile/0/002.p/255",
        "tile/0/009",
        "tile/3/000",
        "tile/entries/003.p/1",
    ] {
        let bytes = ledger.tile(&beyond.parse().unwrap()).unwrap();
        assert!(bytes.is_empty(), "{beyond}");
    }
}

#[test]
fn the_bench_commits_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let report = bench(dir.path(), 3, 100).unwrap();
    assert_eq!((report.blocks, report.records), (3, 300));
    println!("{report:?}");
}

fn tile_files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(tile_files(&path));
        } else {
            out.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    out
}

#[derive(Debug, Clone)]
enum Step {
    Commit(usize),
    /// Starts again with the indexes as they are.
    Reopen,
    /// Starts again with the indexes as they were at some earlier time: what was not flushed is gone.
    Crash(usize),
    /// Starts again after a write that got this far.
    Torn(Vec<u8>),
    Rebuild,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        4 => (0usize..40).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        2 => (0usize..100).prop_map(Step::Crash),
        2 => prop::collection::vec(any::<u8>(), 1..60).prop_map(Step::Torn),
        1 => Just(Step::Rebuild),
    ]
}

fn snapshot(kv: &dyn Kv) -> tally_ledger::Batch {
    kv.scan(b"")
        .map(|pair| pair.map(|(k, v)| (k, Some(v))).unwrap())
        .collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]

    #[test]
    fn nothing_committed_is_lost_whatever_happens(steps in proptest::collection::vec(step(), 1..14)) {
        let dir = tempfile::tempdir().unwrap();
        let mut chain = Chain::new();
        let mut kv = Arc::new(MemoryKv::new());
        let mut ledger = chain.open_with(dir.path(), kv.clone()).unwrap();
        let mut flushed = vec![snapshot(&*kv)];
        let mut head = ledger.head();
        for step in steps {
            if let Step::Commit(count) = step {
                head = chain.commit(&ledger, count);
                flushed.push(snapshot(&*kv));
                continue;
            }
            drop(ledger);
            match step {
                Step::Crash(at) => {
                    kv = Arc::new(MemoryKv::new());
                    kv.write(flushed[at % flushed.len()].clone()).unwrap();
                }
                Step::Rebuild => kv = Arc::new(MemoryKv::new()),
                Step::Torn(bytes) => {
                    let blocks = dir.path().join("blocks");
                    let last = fs::read_dir(&blocks).unwrap().map(|e| e.unwrap().path()).max();
                    if let Some(last) = last {
                        let mut whole = fs::read(&last).unwrap();
                        whole.extend(bytes);
                        fs::write(&last, whole).unwrap();
                    }
                }
                Step::Reopen | Step::Commit(_) => {}
            }
            ledger = chain.open_with(dir.path(), kv.clone()).unwrap();
            proptest::prop_assert_eq!(ledger.head(), head);
            proptest::prop_assert_eq!(ledger.root_at(head.tree_size).unwrap(), head.tree_root);
        }
        drop(ledger);
        let copy = tempfile::tempdir().unwrap();
        copy_dir(&dir.path().join("blocks"), &copy.path().join("blocks"));
        let rebuilt = chain.replayed(copy.path()).unwrap();
        proptest::prop_assert_eq!(rebuilt.head(), head);
    }
}
