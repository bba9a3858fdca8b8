//! The tree on disk against the tree in memory, through reopening, kills and losses.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tally_contracts::StateTree;
use tally_contracts::ids::BlockHash;

use super::*;
use crate::kv::{Kv as _, MemoryKv};
use crate::waited::ran_and_waited;

/// Files so small that a few blocks fill some.
const SMALL: Sizes = Sizes {
    cache_bytes: 20 * LEAF_MEMORY,
    file_bytes: 8 << 10,
};

fn head(height: u64, state_root: Hash) -> Head {
    Head {
        height,
        hash: BlockHash([0; 32]),
        time_ms: 0,
        tree_size: 1,
        tree_root: Hash([0; 32]),
        state_root,
    }
}

/// A state store that starts empty, its tree, and the tree in memory.
struct Bench {
    dir: tempfile::TempDir,
    kv: Arc<MemoryKv>,
    store: Store,
    plain: StateTree,
    tree: StateTreeStore,
    head: Head,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kv = Arc::new(MemoryKv::new());
        let store = Store::new(kv.clone());
        let plain = StateTree::new();
        let head = head(0, plain.root());
        let tree = StateTreeStore::open(dir.path(), SMALL, &store, &head).unwrap();
        Self {
            dir,
            kv,
            store,
            plain,
            tree,
            head,
        }
    }

    /// One block; `stop` says after which step the process dies, none of which may make a difference.
    fn block(&mut self, effects: &Effects, stop: Option<u8>) {
        let change = self.tree.change(effects).unwrap();
        let next = head(self.head.height + 1, change.root());
        if stop == Some(0) {
            return self.reopen();
        }
        let places = self.tree.write(next.height, &change).unwrap();
        if stop == Some(1) {
            return self.reopen();
        }
        self.store.advance(1, &next, effects, &[], None).unwrap();
        assert_eq!(self.plain.commit(effects).unwrap(), change.root());
        self.head = next;
        if stop == Some(2) {
            return self.reopen();
        }
        self.tree.apply(&change, &places).unwrap();
        self.tree.tidy(&self.store, next.height).unwrap();
        self.check();
    }

    fn reopen(&mut self) {
        self.tree = StateTreeStore::open(self.dir.path(), SMALL, &self.store, &self.head).unwrap();
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.tree.root(), self.plain.root());
        assert_eq!(self.tree.root(), self.head.state_root);
        assert_eq!(self.tree.len(), self.plain.len());
        for k in (0..620_u16).step_by(31) {
            let key = k.to_be_bytes();
            assert_eq!(self.tree.prove(&key).unwrap(), self.plain.prove(&key));
        }
    }

    /// The store and the tree in memory as they were when `kept` was taken.
    fn go_back(&mut self, kept: &Kept) {
        self.kv = Arc::new(MemoryKv::new());
        self.kv.write(kept.rows.clone()).unwrap();
        self.store = Store::new(self.kv.clone());
        self.plain = kept.plain.clone();
        self.head = kept.head;
    }

    fn keep(&self) -> Kept {
        let rows = self.kv.scan(b"");
        Kept {
            rows: rows
                .map(|p| p.map(|(k, v)| (k, Some(v))).unwrap())
                .collect(),
            plain: self.plain.clone(),
            head: self.head,
            files: files(self.dir.path()),
        }
    }
}

struct Kept {
    rows: crate::kv::Batch,
    plain: StateTree,
    head: Head,
    files: BTreeMap<String, Vec<u8>>,
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| {
            let name = e.file_name().into_string().unwrap();
            (name, fs::read(e.path()).unwrap())
        })
        .collect()
}

#[derive(Debug, Clone)]
enum Step {
    Block(Vec<(u16, Option<u8>)>, Option<u8>),
    Reopen,
    /// The state store lost its last blocks.
    StoreBehind(usize),
    /// The files lost their last blocks.
    FilesBehind(usize),
    /// A write of the last file that got this far.
    Torn(Vec<u8>),
    /// The last file lost its end.
    Cut(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let writes = |keys: u16, present: f64, most: usize| {
        let value = prop::option::weighted(present, any::<u8>());
        prop::collection::vec((0..keys, value), 0..most)
    };
    let block = prop_oneof![
        writes(600, 0.9, 80),
        writes(40, 0.6, 10),
        writes(600, 0.1, 200)
    ];
    let stop = prop_oneof![6 => Just(None), 1 => (0_u8..3).prop_map(Some)];
    prop_oneof![
        20 => (block, stop).prop_map(|(block, stop)| Step::Block(block, stop)),
        2 => Just(Step::Reopen),
        1 => any::<usize>().prop_map(Step::StoreBehind),
        1 => any::<usize>().prop_map(Step::FilesBehind),
        1 => prop::collection::vec(any::<u8>(), 1..40).prop_map(Step::Torn),
        1 => any::<u16>().prop_map(Step::Cut),
    ]
}

fn effects(writes: Vec<(u16, Option<u8>)>) -> Effects {
    let writes: BTreeMap<_, _> = writes.into_iter().collect();
    writes
        .into_iter()
        .map(|(k, v)| (k.to_be_bytes().to_vec(), v.map(|v| vec![v])))
        .collect()
}

fn last_file(dir: &Path) -> std::path::PathBuf {
    let names = files(dir).into_keys();
    dir.join(names.filter(|n| n.ends_with(".pages")).max().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn is_the_tree_in_memory_whatever_happens(steps in prop::collection::vec(step(), 1..40)) {
        let mut bench = Bench::new();
        let mut kept = vec![bench.keep()];
        for step in steps {
            let dir = bench.dir.path().to_owned();
            match step {
                Step::Block(writes, stop) => {
                    bench.block(&effects(writes), stop);
                    kept.push(bench.keep());
                    continue;
                }
                Step::Reopen => {}
                Step::StoreBehind(back) => {
                    let at = kept.len().saturating_sub(1 + back % 6);
                    bench.go_back(&kept[at]);
                    kept.truncate(at + 1);
                }
                Step::FilesBehind(back) => {
                    let at = kept.len().saturating_sub(1 + back % 6);
                    files(&dir).into_keys().for_each(|n| fs::remove_file(dir.join(n)).unwrap());
                    kept[at].files.iter().for_each(|(n, bytes)| fs::write(dir.join(n), bytes).unwrap());
                }
                Step::Torn(bytes) => {
                    let path = last_file(&dir);
                    let mut whole = fs::read(&path).unwrap();
                    whole.extend(bytes);
                    fs::write(path, whole).unwrap();
                }
                Step::Cut(bytes) => {
                    let path = last_file(&dir);
                    let whole = fs::read(&path).unwrap();
                    let left = whole.len().saturating_sub(usize::from(bytes));
                    fs::write(path, &whole[..left]).unwrap();
                }
            }
            bench.reopen();
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_no_frame_and_no_directory(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        // With the right version, so that what follows is looked at.
        let body = [&[1][..], &bytes].concat();
        if let Some((_, pages)) = files::frame_pages(1, 0, &body) {
            prop_assert!(pages.iter().all(|(place, leaves, _)| entry_bytes(place, leaves.len()) <= body.len() as u64));
        }
        let dir = tempfile::tempdir().unwrap();
        let sum = crc32c::crc32c(&body).to_be_bytes();
        fs::write(dir.path().join("directory"), [&body[..], &sum].concat()).unwrap();
        if let Ok(directory) = Directory::read(dir.path()).unwrap() {
            // A wrong number of pages ends with the first that is not there.
            prop_assert!(directory.pages().take_while(Result::is_ok).count() <= body.len());
        }
    }
}

#[test]
fn files_stay_bounded_and_a_start_reads_the_directory() {
    let mut bench = Bench::new();
    let wide = (0..600).map(|k| (k, Some(0))).collect();
    bench.block(&effects(wide), None);
    for round in 0..400_u16 {
        let writes = (0..20).map(|i| {
            (
                round.wrapping_mul(37).wrapping_add(i * 29) % 600,
                Some(round.to_be_bytes()[1]),
            )
        });
        bench.block(&effects(writes.collect()), None);
    }
    // 600 leaves are 40 kB; without cleaning it would be about 8 MB.
    let bytes = bench.tree.files.bytes();
    assert!(bytes < 160 << 10, "{bytes}");
    bench.reopen();
    // Its pages come from directory and frames: the state itself is not read.
    let none = Store::new(Arc::new(MemoryKv::new()));
    let opened = StateTreeStore::open(bench.dir.path(), SMALL, &none, &bench.head).unwrap();
    assert_eq!(opened.root(), bench.plain.root());
}

#[test]
fn what_is_damaged_is_made_anew_or_found_out() {
    let mut bench = Bench::new();
    for round in 0..5 {
        let writes = (0..600).map(|k| (k, Some(round))).collect();
        bench.block(&effects(writes), None);
    }
    let whole = files(bench.dir.path());
    let dir = bench.dir.path().to_owned();
    let put = |files: &BTreeMap<String, Vec<u8>>| {
        files
            .iter()
            .for_each(|(n, bytes)| fs::write(dir.join(n), bytes).unwrap());
    };
    let step = whole["directory"].len() / 40;
    for i in (0..whole["directory"].len()).step_by(step.max(1)) {
        let mut bad = whole.clone();
        bad.get_mut("directory").unwrap()[i] ^= 1;
        put(&bad);
        bench.reopen();
    }
    put(&whole);
    for name in whole.keys() {
        put(&whole);
        fs::remove_file(dir.join(name)).unwrap();
        bench.reopen();
        files(&dir)
            .into_keys()
            .for_each(|n| fs::remove_file(dir.join(n)).unwrap());
    }
    // A flipped byte of a page shows when the page is used, if not at the start.
    put(&whole);
    let name = whole.keys().find(|n| n.ends_with(".pages")).unwrap();
    let mut bad = whole[name].clone();
    bad.iter_mut().skip(30).step_by(64).for_each(|b| *b ^= 1);
    fs::write(dir.join(name), bad).unwrap();
    let tree = StateTreeStore::open(&dir, SMALL, &bench.store, &bench.head).unwrap();
    assert_eq!(tree.root(), bench.plain.root());
    for k in 0..600_u16 {
        let key = k.to_be_bytes();
        if let Ok(proof) = tree.prove(&key) {
            assert_eq!(proof, bench.plain.prove(&key));
        }
    }
    // A state that is not the head's is refused.
    let judged = StateTreeStore::open(&dir, SMALL, &bench.store, &head(5, Hash([1; 32])));
    assert!(judged.is_err());
}

#[test]
fn a_state_past_memory_is_gathered_by_way_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut gathered = Gathered::begin(&dir.path().join("gathered")).unwrap();
    let n = u32::try_from(leaves::IN_MEMORY).unwrap() + 1000;
    for i in 0..n {
        gathered.add(&i.to_be_bytes(), b"").unwrap();
    }
    let mut leaves = Vec::new();
    for first in 0..=u8::MAX {
        let part = gathered.take(first).unwrap();
        assert!(part.iter().all(|(key, _)| key.0[0] == first));
        leaves.extend(part);
    }
    gathered.end().unwrap();
    leaves.sort_unstable();
    let mut expected: Vec<_> = (0..n)
        .map(|i| tally_contracts::tree::key_hash(&i.to_be_bytes()))
        .collect();
    expected.sort_unstable();
    assert!(leaves.into_iter().map(|l| l.0).eq(expected));
    assert!(files(dir.path()).is_empty());
}

/// Resident memory of this process in MB.
fn rss_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

/// `cargo test --release -p tally-ledger --lib -- --ignored --nocapture state_tree_speed`; `TALLY_TREE_KEYS` is how many keys, ten
/// million unless it says otherwise.
#[test]
#[ignore = "measures; writes 2 GB"]
fn state_tree_speed() {
    let keys = std::env::var("TALLY_TREE_KEYS")
        .ok()
        .and_then(|n| n.parse().ok());
    let keys: u64 = keys.unwrap_or(10_000_000);
    let dir = tempfile::tempdir().unwrap();
    let sizes = Sizes::of_cache(64 << 20);
    let store = Store::new(Arc::new(MemoryKv::new()));
    let before = rss_mb();
    let mut at = head(0, StateTree::new().root());
    let mut tree = StateTreeStore::open(dir.path(), sizes, &store, &at).unwrap();
    let key = |i: u64| format!("product/{i:014}").into_bytes();
    let (mut begun, mut cpu, mut slowest) = (Instant::now(), ran_and_waited()[0], Duration::ZERO);
    for block in 0..keys / 1000 {
        let effects: Effects = (block * 1000..(block + 1) * 1000)
            .map(|i| (key(i), Some(vec![7; 100])))
            .collect();
        let now = Instant::now();
        let change = tree.change(&effects).unwrap();
        at = head(at.height + 1, change.root());
        let places = tree.write(at.height, &change).unwrap();
        tree.apply(&change, &places).unwrap();
        tree.tidy(&store, at.height).unwrap();
        slowest = slowest.max(now.elapsed());
        if (block + 1) % (keys / 10_000) == 0 {
            let each = keys as f64 / 10.0;
            println!(
                "{} keys: {:.0} a second, {:.1} us of CPU a key, slowest block {slowest:.1?}, {} MB of memory for it, {} MB of files",
                (block + 1) * 1000,
                each / begun.elapsed().as_secs_f64(),
                (ran_and_waited()[0] - cpu).as_secs_f64() * 1e6 / each,
                rss_mb() - before,
                tree.files.bytes() >> 20,
            );
            (begun, cpu, slowest) = (Instant::now(), ran_and_waited()[0], Duration::ZERO);
        }
    }
    let (mut clock, mut own): (Vec<_>, Vec<_>) = (0..20_000_u64)
        .map(|i| {
            let i = i.wrapping_mul(2_654_435_761) % keys;
            let (waited, now) = (ran_and_waited()[1], Instant::now());
            let proof = tree.prove(&key(i)).unwrap();
            let took = now.elapsed();
            proof
                .verify(&at.state_root, &key(i), Some(&[7; 100]))
                .unwrap();
            (took, took.saturating_sub(ran_and_waited()[1] - waited))
        })
        .unzip();
    clock.sort_unstable();
    own.sort_unstable();
    println!(
        "state proof: p50 {:?}, p99 {:?}; without waiting for a processor p99 {:?}",
        clock[10_000], clock[19_800], own[19_800]
    );
    drop(tree);
    let begun = Instant::now();
    let tree = StateTreeStore::open(dir.path(), sizes, &store, &at).unwrap();
    println!("opened in {:?}, {} MB", begun.elapsed(), rss_mb());
    assert_eq!(tree.root(), at.state_root);
}
