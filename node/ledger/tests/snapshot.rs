//! Snapshots: what is restored is what was, bent ones are refused, a restore may be killed.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Chain, OPTIONS, copy_dir};
use tally_contracts::ids::PublicKey;
use tally_contracts::records::Change;
use tally_ledger::snapshot::{MANIFEST, Manifest, Source, restore};
use tally_ledger::{Error, Head, Ledger, cosigner_name, origin};
use tally_merkle::{Checkpoint, Note, note, verify_inclusion};

type Files = BTreeMap<String, Vec<u8>>;

/// Files in memory, one of which may be bent, or fails to come.
struct Memory<'a> {
    files: &'a Files,
    bent: Option<(&'a str, usize)>,
    fails_after: usize,
}

impl<'a> Memory<'a> {
    fn of(files: &'a Files) -> Self {
        Self {
            files,
            bent: None,
            fails_after: usize::MAX,
        }
    }
}

impl Source for Memory<'_> {
    fn fetch(&mut self, name: &str, max: usize) -> Result<Vec<u8>, String> {
        self.fails_after = self.fails_after.checked_sub(1).ok_or("the line was cut")?;
        let mut bytes = self.files.get(name).ok_or("no such file")?.clone();
        if let Some((_, at)) = self.bent.filter(|(bent, _)| *bent == name) {
            bytes[at] ^= 1;
        }
        if bytes.len() > max {
            return Err("too long".into());
        }
        Ok(bytes)
    }
}

fn cosigned(chain: &Chain, head: &Head, signers: &[usize]) -> Note {
    let network = chain.network.genesis.network_id();
    let text = Checkpoint {
        origin: origin(&network),
        size: head.tree_size,
        root: head.tree_root,
    }
    .to_string();
    let mut signed = Note::unsigned(text.clone()).unwrap();
    let key = chain.network.key(0, "checkpoint");
    let by_log = note::sign(&text, &origin(&network), &key).unwrap();
    signed.signatures.push(by_log);
    for i in signers {
        let key = chain.network.key(*i, "cosignature");
        let name = cosigner_name(&network, &format!("member-{i}"));
        let signature = note::cosign(&text, &name, &key, 1_790_000_100).unwrap();
        signed.signatures.push(signature);
    }
    signed
}

fn read_all(dir: &Path) -> Files {
    fs::read_dir(dir)
        .unwrap()
        .map(|e| {
            let e = e.unwrap();
            let name = e.file_name().into_string().unwrap();
            (name, fs::read(e.path()).unwrap())
        })
        .collect()
}

fn save(chain: &Chain, ledger: &Ledger) -> (Manifest, Files) {
    let out = tempfile::tempdir().unwrap();
    let manifest = ledger
        .save_snapshot(out.path(), &mut |head| {
            Ok(cosigned(chain, head, &[0, 1, 2]))
        })
        .unwrap();
    (manifest, read_all(out.path()))
}

fn bring(chain: &Chain, dir: &Path, source: &mut Memory<'_>) -> Result<Ledger, Error> {
    restore(dir, &chain.genesis, OPTIONS, source, &[], &mut |_, _| {}).map(|(ledger, _)| ledger)
}

/// Commits a change of the first member's power, by the votes of three.
fn change_power(chain: &mut Chain, ledger: &Ledger, power: u64) {
    let change = Change::SetPower {
        member: chain.network.member(0),
        node: PublicKey::from(&chain.network.key(0, "transport")),
        power,
    };
    chain.time_ms += 1000;
    let records = chain
        .network
        .change(vec![change], &[0, 1, 2], chain.time_ms)
        .unwrap();
    let prepared = ledger
        .prepare(&records, chain.time_ms, chain.network.member(0), &|_| None)
        .unwrap();
    assert!(prepared.refused.is_empty(), "{:?}", prepared.refused);
    let certificate = chain.network.certificate(&prepared.block.header, 4);
    ledger
        .commit(&prepared.block.to_bytes(), &certificate, &|_| None)
        .unwrap();
}

/// That two ledgers are one: head, proofs of every entry, state.
fn same(old: &Ledger, new: &Ledger, entries_from: u64) {
    assert_eq!(old.head(), new.head());
    let size = old.head().tree_size;
    for index in (0..size).step_by(7) {
        let proof = new.inclusion_proof(index, size).unwrap();
        assert_eq!(proof, old.inclusion_proof(index, size).unwrap());
        if index >= entries_from || index == 0 {
            assert_eq!(new.entry(index).unwrap(), old.entry(index).unwrap());
        } else {
            let refused = new.entry(index);
            assert!(matches!(refused, Err(Error::Dropped { .. })), "{refused:?}");
        }
    }
    assert_eq!(
        old.root_at(size / 2).unwrap(),
        new.root_at(size / 2).unwrap()
    );
    let all = |l: &Ledger| l.state().scan(b"").unwrap();
    assert_eq!(all(old), all(new));
}

#[test]
fn a_ledger_goes_on_from_a_snapshot_as_from_the_genesis() {
    // Trees that end within a bundle, with a bundle, and with a bundle of many.
    for counts in [&[3][..], &[254], &[100, 0, 700, 0, 0, 1], &[255, 254, 254]] {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut chain = Chain::new();
        let ledger = chain.open(dir.path());
        for count in counts {
            chain.commit(&ledger, *count);
        }
        let (manifest, files) = save(&chain, &ledger);
        let at = ledger.head();
        assert_eq!(manifest.header.height, at.height);
        let new = bring(&chain, other.path(), &mut Memory::of(&files)).unwrap();
        let first = (at.tree_size - 1) / 256 * 256;
        assert_eq!(
            (new.first_entry(), new.first_height()),
            (first, at.height + 1)
        );
        same(&ledger, &new, first);
        let proven = new.state_evidence(b"net/rules/").unwrap();
        assert_eq!(proven, ledger.state_evidence(b"net/rules/").unwrap());
        for count in [0, 5, 300] {
            let (block, certificate) = chain.block(&ledger, count);
            for l in [&ledger, &new] {
                l.commit(&block.to_bytes(), &certificate, &|_| None)
                    .unwrap();
            }
        }
        same(&ledger, &new, first);
        assert!(matches!(new.block(at.height), Err(Error::Dropped { .. })));
        assert!(new.block(at.height + 1).is_ok());
        drop(new);
        // As it was after a restart; and its blocks alone do not give its state.
        same(&ledger, &chain.open(other.path()), first);
        let again = Ledger::reindex(other.path(), &chain.genesis, OPTIONS, &mut |_, _| {});
        assert!(matches!(again.err(), Some(Error::NoStateBefore { .. })));
        // A snapshot of a ledger that began at one.
        let new = chain.open(other.path());
        let third = tempfile::tempdir().unwrap();
        let (_, files) = save(&chain, &new);
        let newest = bring(&chain, third.path(), &mut Memory::of(&files)).unwrap();
        same(&ledger, &newest, newest.first_entry());
    }
}

#[test]
fn the_validators_are_followed_from_the_genesis() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut chain = Chain::new();
    let ledger = chain.open(dir.path());
    chain.commit(&ledger, 3);
    change_power(&mut chain, &ledger, 2);
    chain.commit(&ledger, 3);
    // The last change comes into force with the very block of the snapshot.
    change_power(&mut chain, &ledger, 5);
    assert_eq!(ledger.validators().unwrap().total_power(), 8);
    // Three without the strongest are no quorum any more.
    let out = tempfile::tempdir().unwrap();
    let weak = ledger.save_snapshot(&out.path().join("a"), &mut |head| {
        Ok(cosigned(&chain, head, &[1, 2, 3]))
    });
    let why = weak.unwrap_err().to_string();
    assert!(why.contains("power 3, expected 6"), "{why}");
    let out = out.path().join("b");
    ledger
        .save_snapshot(&out, &mut |head| Ok(cosigned(&chain, head, &[0, 1, 2])))
        .unwrap();
    let files = read_all(&out);
    let new = bring(&chain, other.path(), &mut Memory::of(&files)).unwrap();
    same(&ledger, &new, 0);
    // Rebuilt from the blocks, the trail is the same.
    drop(ledger);
    let ledger = Ledger::reindex(dir.path(), &chain.genesis, OPTIONS, &mut |_, _| {}).unwrap();
    let out = tempfile::tempdir().unwrap();
    ledger
        .save_snapshot(out.path(), &mut |head| {
            Ok(cosigned(&chain, head, &[0, 1, 2]))
        })
        .unwrap();
    assert_eq!(read_all(out.path()), files);

    // A trail with a step missing, and one of another network.
    for bytes in [&files["trail"][..5], b"\x01\0\0\0\0"] {
        let mut files = files.clone();
        files.insert("trail".into(), bytes.to_vec());
        let tmp = tempfile::tempdir().unwrap();
        let judged = bring(&chain, tmp.path(), &mut Memory::of(&files));
        assert!(matches!(judged.err(), Some(Error::Snapshot { .. })));
    }
}

#[test]
fn commits_go_on_while_a_snapshot_is_made() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut chain = Chain::new();
    let ledger = chain.open(dir.path());
    for _ in 0..3 {
        chain.commit(&ledger, 8_000);
    }
    let out = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let mut writer = Chain::new();
    writer.time_ms = chain.time_ms;
    drop(writer.records(24_000));
    let manifest = std::thread::scope(|scope| {
        let committing = scope.spawn(|| {
            let mut blocks = 0;
            while !stop.load(Ordering::Relaxed) {
                writer.commit(&ledger, 50);
                blocks += 1;
            }
            blocks
        });
        let manifest = ledger
            .save_snapshot(out.path(), &mut |head| {
                Ok(cosigned(&chain, head, &[0, 1, 2]))
            })
            .unwrap();
        stop.store(true, Ordering::Relaxed);
        assert!(committing.join().unwrap() > 0);
        manifest
    });
    assert!(manifest.state.len() > 2, "{}", manifest.state.len());
    let files = read_all(out.path());
    // The state root is judged there: it is of the block of the manifest, whatever came meanwhile.
    let new = bring(&chain, other.path(), &mut Memory::of(&files)).unwrap();
    assert!(new.head().height < ledger.head().height);
    for height in new.head().height + 1..=ledger.head().height {
        let stored = ledger.block(height).unwrap();
        let certificate =
            tally_contracts::block::CommitCertificate::from_bytes(&stored.certificate).unwrap();
        new.commit(&stored.block, &certificate, &|_| None).unwrap();
    }
    assert_eq!(new.head(), ledger.head());
}

#[test]
fn every_bent_byte_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut chain = Chain::new();
    let ledger = chain.open(dir.path());
    change_power(&mut chain, &ledger, 2);
    chain.commit(&ledger, 300);
    let (_, files) = save(&chain, &ledger);
    let target = other.path();
    let mut tried = 0;
    for (name, bytes) in &files {
        let step = if bytes.len() > 4_000 { 911 } else { 1 };
        for at in (0..bytes.len()).step_by(step) {
            let mut source = Memory::of(&files);
            source.bent = Some((name, at));
            let judged = bring(&chain, target, &mut source);
            assert!(
                matches!(judged.err(), Some(Error::Snapshot { .. })),
                "{name}, byte {at}"
            );
            tried += 1;
        }
        // Cut short, or not there.
        let mut short = files.clone();
        short.get_mut(name).unwrap().pop();
        assert!(bring(&chain, target, &mut Memory::of(&short)).is_err());
        short.remove(name);
        assert!(bring(&chain, target, &mut Memory::of(&short)).is_err());
    }
    assert!(tried > 2_000, "{tried}");
    // Nothing of it is a ledger.
    let opened = Ledger::open(target, &chain.genesis, OPTIONS);
    assert!(matches!(opened.err(), Some(Error::Unfinished { .. })));
    bring(&chain, target, &mut Memory::of(&files)).unwrap();
}

/// Files whose sums are right and whose content is not: the manifest is made anew over them.
#[test]
fn what_the_block_does_not_commit_to_is_refused_whatever_the_sums_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.open(dir.path());
    chain.commit(&ledger, 600);
    let (manifest, files) = save(&chain, &ledger);
    for (name, at) in [("state-000000", 40), ("tiles-000000", 40), ("edge", 40)] {
        let mut files = files.clone();
        let bytes = files.get_mut(name).unwrap();
        let at = bytes.len() - at;
        bytes[at] ^= 1;
        let sum = tally_merkle::Hash(<sha2::Sha256 as sha2::Digest>::digest(&bytes).into());
        let mut manifest = manifest.clone();
        match name {
            "edge" => manifest.edge.hash = sum,
            "state-000000" => manifest.state[0].hash = sum,
            _ => manifest.tiles[0].hash = sum,
        }
        files.insert(MANIFEST.into(), manifest.to_bytes());
        let tmp = tempfile::tempdir().unwrap();
        let judged = bring(&chain, tmp.path(), &mut Memory::of(&files)).err();
        assert!(matches!(judged, Some(Error::Snapshot { .. })), "{judged:?}");
    }
}

#[test]
fn a_checkpoint_that_the_operator_trusts_must_be_of_the_same_history() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.open(dir.path());
    chain.commit(&ledger, 40);
    let early = ledger.head();
    chain.commit(&ledger, 400);
    let (_, files) = save(&chain, &ledger);
    let checkpoint = |size, root| Checkpoint {
        origin: origin(&ledger.network()),
        size,
        root,
    };
    let judge = |trusted: Checkpoint| {
        let tmp = tempfile::tempdir().unwrap();
        let source = &mut Memory::of(&files);
        restore(
            tmp.path(),
            &chain.genesis,
            OPTIONS,
            source,
            &[trusted],
            &mut |_, _| {},
        )
        .map(drop)
    };
    judge(checkpoint(early.tree_size, early.tree_root)).unwrap();
    let other = judge(checkpoint(early.tree_size - 1, early.tree_root)).unwrap_err();
    assert!(other.to_string().contains("two histories"), "{other}");
    let beyond = judge(checkpoint(9_999, early.tree_root)).unwrap_err();
    assert!(beyond.to_string().contains("newer"), "{beyond}");
}

#[test]
fn a_restore_may_be_cut_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.open(dir.path());
    chain.commit(&ledger, 300);
    let (_, files) = save(&chain, &ledger);
    let target = tempfile::tempdir().unwrap();
    for cut in 0..files.len() {
        let mut source = Memory::of(&files);
        source.fails_after = cut;
        let judged = bring(&chain, target.path(), &mut source).err();
        assert!(matches!(judged, Some(Error::Snapshot { .. })), "{judged:?}");
    }
    drop(bring(&chain, target.path(), &mut Memory::of(&files)).unwrap());
    // A ledger that is there is not overwritten.
    let judged = bring(&chain, target.path(), &mut Memory::of(&files)).err();
    assert!(
        matches!(judged, Some(Error::NoSnapshot { .. })),
        "{judged:?}"
    );
    // Killed while it was moved into place: whatever is left is moved by the next start.
    for moved in 0..=3 {
        let half = tempfile::tempdir().unwrap();
        copy_dir(target.path(), half.path());
        let work = half.path().join("restoring");
        fs::create_dir(&work).unwrap();
        fs::write(work.join("verified"), &files[MANIFEST]).unwrap();
        for part in ["tiles", "state", "blocks"].iter().skip(moved) {
            fs::rename(half.path().join(part), work.join(part)).unwrap();
        }
        if moved % 2 == 0 {
            same(&ledger, &chain.open(half.path()), 256);
        } else {
            let source = &mut Memory::of(&files);
            same(&ledger, &bring(&chain, half.path(), source).unwrap(), 256);
        }
        assert!(!work.exists());
    }
}

#[test]
fn old_blocks_go_and_proofs_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.open(dir.path());
    let full = tempfile::tempdir().unwrap();
    let whole = chain.open(full.path());
    let mut early = None;
    for i in 0..420 {
        let count = if i % 3 == 0 { 7 } else { 0 };
        let (block, certificate) = chain.block(&ledger, count);
        for l in [&ledger, &whole] {
            let (_, places) = l
                .commit(&block.to_bytes(), &certificate, &|_| None)
                .unwrap();
            if i == 30 {
                early = places.first().copied();
            }
        }
    }
    let (id, place) = early.unwrap();
    assert_eq!(ledger.first_entry(), 0);
    let never = ledger.drop_old(&|_| false, &|_| false).unwrap();
    assert_eq!(never, None);
    copy_dir(dir.path(), &full.path().join("before"));
    let first = ledger
        .drop_old(&|_| true, &|r| r.id() == id)
        .unwrap()
        .unwrap();
    assert!(first >= 256 && first.is_multiple_of(256), "{first}");
    assert_eq!(first, ledger.first_entry());
    let from = ledger.first_height();
    assert!(from + 255 <= 420, "{from}");
    let check = |ledger: &Ledger| {
        let size = ledger.head().tree_size;
        let root = ledger.head().tree_root;
        for index in 0..size {
            let proof = ledger.inclusion_proof(index, size).unwrap();
            let leaf = tally_merkle::leaf_hash(&whole.entry(index).unwrap());
            verify_inclusion(&leaf, index, size, &proof, &root).unwrap();
        }
        for index in first..size {
            assert_eq!(ledger.entry(index).unwrap(), whole.entry(index).unwrap());
        }
        // What was asked for is there, with its block's BlockInfo; its neighbours are not.
        assert_eq!(
            ledger.entry(place.index).unwrap(),
            whole.entry(place.index).unwrap()
        );
        let info = whole.block_info_of(place.index).unwrap();
        assert_eq!(ledger.block_info_of(place.index).unwrap(), info);
        assert_eq!(ledger.find(&id).unwrap(), Some(place));
        for gone in [place.index - 1, place.index - 8] {
            let refused = ledger.block_info_of(gone);
            assert!(matches!(refused, Err(Error::Dropped { .. })), "{refused:?}");
        }
        assert!(matches!(ledger.entry(2), Err(Error::Dropped { .. })));
        assert!(matches!(ledger.block(from - 1), Err(Error::Dropped { .. })));
        assert!(ledger.block(from).is_ok());
        for path in tally_merkle::TilePath::of_tree(size) {
            let dropped = matches!(path.kind(), tally_merkle::tile::TileKind::Entries)
                && path.index() < first / 256;
            match ledger.tile(&path) {
                Err(Error::Dropped { .. }) => assert!(dropped, "{path}"),
                bytes => assert_eq!(bytes.unwrap(), whole.tile(&path).unwrap(), "{path}"),
            }
        }
    };
    check(&ledger);
    let gone = dir.path().join("tiles/tile/entries/000");
    assert!(!gone.exists() && dir.path().join("tiles/tile/0/000").exists());
    let again = ledger.drop_old(&|_| true, &|_| false).unwrap();
    assert_eq!(again, None, "nothing is left that is old enough");
    chain.commit(&ledger, 9);
    drop(ledger);
    let ledger = chain.open(dir.path());
    assert_eq!(ledger.first_entry(), first);
    drop(ledger);

    // Killed after the base was written and before a file went: the next start takes them away.
    let half = full.path().join("before");
    fs::copy(dir.path().join("blocks/base"), half.join("blocks/base")).unwrap();
    let count = |dir: &Path| fs::read_dir(dir.join("blocks")).unwrap().count();
    let files = count(&half);
    let ledger = chain.open(&half);
    assert!(count(&half) < files);
    assert_eq!((ledger.first_entry(), ledger.first_height()), (first, from));
    assert!(ledger.block(from).is_ok());

    // The last bundles of a drop that was killed go with the next one.
    let ledger = chain.open(dir.path());
    let bundle = |n: u64| {
        let path = tally_merkle::TilePath::new(tally_merkle::tile::TileKind::Entries, n, 256);
        dir.path().join("tiles").join(path.unwrap().to_string())
    };
    let last = first / 256 - 1;
    fs::write(bundle(last), b"left behind").unwrap();
    for _ in 0..300 {
        chain.commit(&ledger, 3);
    }
    let more = ledger.drop_old(&|_| true, &|_| false).unwrap().unwrap();
    assert!(more > first && !bundle(last).exists());
}
