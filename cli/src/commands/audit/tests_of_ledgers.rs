//! Replays and comparisons of ledgers that were written as tiles, good and bent.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser as _;
use tally_contracts::records::RegisterProduct;
use tally_contracts::{Record, Signer, Unsigned};
use tally_ledger::sample::{START_MS, SampleNetwork};
use tally_ledger::{Ledger, Options};
use tally_merkle::tile::{TILE_WIDTH, decode_bundle, encode_bundle};
use tally_merkle::{Checkpoint, Note, note};
use tempfile::TempDir;

use super::*;
use crate::args::{Cli, Command};

/// A ledger of four validators, and the folder that it is written to.
struct Log {
    dir: TempDir,
    network: SampleNetwork,
    ledger: Ledger,
    time_ms: u64,
}

impl Log {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let network = SampleNetwork::new(4).unwrap();
        let genesis = network.genesis.to_bytes();
        let ledger = Ledger::open(&dir.path().join("l"), &genesis, Options::default()).unwrap();
        Self {
            dir,
            network,
            ledger,
            time_ms: START_MS,
        }
    }

    fn block(&mut self, records: &[Record]) {
        self.block_by(records, 3);
    }

    /// The same, with the precommits of so many of the founders.
    fn block_by(&mut self, records: &[Record], signers: usize) {
        self.time_ms += 1000;
        let proposer = self.network.member(0);
        let prepared = self
            .ledger
            .prepare(records, self.time_ms, proposer, &|_| None)
            .unwrap();
        assert!(prepared.refused.is_empty() && prepared.left_over == 0);
        let certificate = self.network.certificate(&prepared.block.header, signers);
        self.ledger
            .commit(&prepared.block.to_bytes(), &certificate, &|_| None)
            .unwrap();
    }

    fn blocks(&mut self, count: usize, records: usize) {
        for _ in 0..count {
            let records = self.network.records(records, self.time_ms).unwrap();
            self.block(&records);
        }
    }

    /// A record of member 1.
    fn other(&self, gtin: &str, nonce: u64) -> Record {
        let key = self.network.key(1, "records");
        let body = RegisterProduct {
            gtin: gtin.parse().unwrap(),
            description: "Something else".into(),
            brand: "Other".into(),
        };
        let public = tally_contracts::ids::PublicKey::from(&key);
        let signer = Signer::new(self.network.member(1), &public, nonce);
        Unsigned::new(
            self.network.genesis.network_id(),
            self.time_ms + 60_000,
            vec![signer],
            &body.into(),
        )
        .sign(&[&key])
        .unwrap()
    }

    /// Writes it with a checkpoint that these members cosigned.
    fn export(&self, cosigners: &[usize]) -> PathBuf {
        let head = self.ledger.head();
        // Of its own: partial tiles of another size would stay beside those of this one.
        let name = format!("log-{}-{cosigners:?}", head.tree_size);
        let out = self.dir.path().join(name);
        let note = signed(&self.network, head.tree_size, head.tree_root, cosigners);
        self.ledger.export(&note, &out).unwrap();
        out
    }
}

fn signed(
    network: &SampleNetwork,
    size: u64,
    root: tally_merkle::Hash,
    cosigners: &[usize],
) -> Note {
    use tally_contracts::genesis::{cosigner_name, origin};
    let id = network.genesis.network_id();
    let text = Checkpoint {
        origin: origin(&id),
        size,
        root,
    }
    .to_string();
    let mut note = Note::unsigned(text.clone()).unwrap();
    let key = network.key(0, "checkpoint");
    note.signatures
        .push(note::sign(&text, &origin(&id), &key).unwrap());
    for i in cosigners {
        let name = cosigner_name(&id, &format!("member-{i}"));
        let key = network.key(*i, "cosignature");
        note.signatures
            .push(note::cosign(&text, &name, &key, START_MS / 1000).unwrap());
    }
    note
}

/// Runs a command line of `tally audit`; gives the stable word of its failure.
fn audit(args: &[&str]) -> Result<(), String> {
    let line = ["tally", "--json", "audit"].iter().chain(args);
    let cli = Cli::try_parse_from(line).unwrap();
    let Command::Audit(command) = &cli.command else {
        panic!("another command")
    };
    let ctx = Context {
        common: cli.common.clone(),
    };
    run(&ctx, command).map_err(|error| {
        let failure = error.downcast_ref::<Failure>();
        let failure = failure.unwrap_or_else(|| panic!("{error:#}"));
        assert_eq!(failure.exit, Exit::NotVerified, "{error:#}");
        failure.code.clone()
    })
}

/// A change to the entries of a bundle.
type Bend<'a> = &'a dyn Fn(&mut Vec<Vec<u8>>);

fn replay_of(dir: &Path) -> Result<(), String> {
    audit(&["replay", "--from", dir.to_str().unwrap()])
}

/// Changes one entry bundle of an export.
fn change(dir: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let tile = dir.join("tile/entries/000.p");
    let file = std::fs::read_dir(tile).unwrap().next().unwrap().unwrap();
    let width: u16 = file.file_name().to_str().unwrap().parse().unwrap();
    let bytes = std::fs::read(file.path()).unwrap();
    let mut entries: Vec<Vec<u8>> = decode_bundle(&bytes, width)
        .unwrap()
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect();
    change(&mut entries);
    std::fs::write(file.path(), encode_bundle(&entries).unwrap()).unwrap();
}

#[test]
fn a_good_ledger_is_replayed_and_a_bent_one_is_not() {
    let mut log = Log::new();
    log.blocks(5, 7);
    // A block without records is no entry, but a height.
    log.block(&[]);
    log.blocks(2, 3);
    let good = log.export(&[0, 1, 2, 3]);
    assert_eq!(replay_of(&good), Ok(()));
    let id = log.network.genesis.network_id().to_string();
    let from = good.to_str().unwrap();
    assert_eq!(audit(&["replay", "--from", from, "--network", &id]), Ok(()));
    let other = "07".repeat(32);
    assert_eq!(
        audit(&["replay", "--from", from, "--network", &other]),
        Err("other_network".into())
    );

    // Two of four are no quorum.
    assert_eq!(replay_of(&log.export(&[0, 1])), Err("quorum".into()));

    let cases: &[(&str, Bend<'_>)] = &[
        // The state root of the first BlockInfo, its last byte.
        ("state_root", &|e| *e[8].last_mut().unwrap() ^= 1),
        ("time", &|e| e[8][17] = 0),
        ("height", &|e| e[8][14] = 0),
        ("rules_version", &|e| e[8][6] = 9),
        ("record_count", &|e| e[8][3 + 4 + 8 + 8 + 32 + 3] ^= 1),
        ("proposer", &|e| e[8][3 + 4 + 8 + 8 + 32 + 4] ^= 1),
        ("previous_block", &|e| e[16][3 + 4 + 8 + 8] ^= 1),
        ("refused_record", &|e| e.swap(1, 2)),
        ("refused_record", &|e| *e[3].last_mut().unwrap() ^= 1),
        ("entry", &|e| e[1][0] ^= 1),
        ("entry", &|e| e[1][1] = 7),
        ("genesis", &|e| e[0].truncate(9)),
        ("refused_record", &|e| e[9] = e[1].clone()),
    ];
    for (i, (reason, bend)) in cases.iter().enumerate() {
        let bent = log.export(&[0, 1, 2]);
        change(&bent, bend);
        assert_eq!(replay_of(&bent), Err((*reason).to_owned()), "case {i}");
        std::fs::remove_dir_all(&bent).unwrap();
    }
    // A whole block less: all that is there is right, but it is not what was signed.
    let head = log.ledger.head();
    let short = log.export(&[0, 1, 2]);
    let note = signed(
        &log.network,
        head.tree_size,
        tally_merkle::Hash([1; 32]),
        &[0, 1, 2],
    );
    std::fs::write(short.join("checkpoint"), note.to_string()).unwrap();
    assert_eq!(replay_of(&short), Err("tree_root".into()));
}

#[test]
fn a_ledger_that_ends_within_a_block_or_never_ends_one_is_refused() {
    let mut log = Log::new();
    log.blocks(2, 4);
    // A checkpoint of the genesis, a block of five entries, and two records of the next: no validator signs one.
    let out = log.dir.path().join("torn");
    let root = log.ledger.root_at(8).unwrap();
    log.ledger.export_tiles(8, &out).unwrap();
    let note = signed(&log.network, 8, root, &[0, 1, 2]);
    std::fs::write(out.join("checkpoint"), note.to_string()).unwrap();
    assert_eq!(replay_of(&out), Err("unfinished".into()));

    // Records without end, all signed by a member: memory is bounded by the largest block.
    let mut network = SampleNetwork::new(4).unwrap();
    let most = network.genesis.rules.max_block_records as usize;
    let mut replay = tally_evidence::replay::Replay::new(&network.genesis.to_bytes()).unwrap();
    let records = network.records(most + 1, START_MS).unwrap();
    let (last, fitting) = records.split_last().unwrap();
    for record in fitting {
        replay.entry(record.bytes()).unwrap();
    }
    let difference = replay.entry(last.bytes()).unwrap_err();
    assert_eq!(difference.fault.reason(), "block_size");
    assert_eq!(difference.index, 1 + most as u64);
}

#[test]
fn where_two_histories_part_is_found_with_who_signed_both() {
    for (before, after) in [(1, 4), (60, 2), (3, 60)] {
        let (mut a, mut b) = (Log::new(), Log::new());
        for log in [&mut a, &mut b] {
            log.blocks(before, 5);
        }
        let common = a.ledger.head().tree_size;
        assert_eq!(a.ledger.head(), b.ledger.head());
        let fork = b.other("09506000134352", 0);
        b.block(&[fork]);
        a.blocks(after, 5);
        b.blocks(after + 1, 5);
        let (dir_a, dir_b) = (a.export(&[0, 1, 2]), b.export(&[1, 2, 3]));
        let ctx_report = |x: &Path, y: &Path| {
            let args = ["diff", x.to_str().unwrap(), y.to_str().unwrap()];
            audit(&args)
        };
        assert_eq!(ctx_report(&dir_a, &dir_b), Err("parted".into()));
        let report = diff::compare(
            &crate::args::DiffArgs {
                a: dir_a.to_str().unwrap().into(),
                b: dir_b.to_str().unwrap().into(),
                network: None,
                members: None,
            },
            Duration::from_secs(5),
            true,
        )
        .unwrap();
        assert_eq!(report["index"], common);
        assert_eq!(
            report["signed_both"],
            serde_json::json!(["member-1", "member-2"])
        );
        assert!(
            report["b"]["entry"]["says"]
                .as_str()
                .unwrap()
                .contains("registers product 09506000134352: Something else")
        );
        assert_eq!(report["a"]["entry"]["block"]["height"], before + 1);
        // Each history agrees with itself, and with its own beginning.
        assert_eq!(ctx_report(&dir_a, &dir_a), Ok(()));
        let longer = {
            a.blocks(1, 2);
            a.export(&[0, 1, 2, 3])
        };
        assert_eq!(ctx_report(&dir_a, &longer), Ok(()));
        assert_eq!(ctx_report(&longer, &dir_b), Err("parted".into()));
        // Tiles that do not lead to their checkpoint.
        let bent = a.export(&[1, 2, 3]);
        let tile = std::fs::read_dir(bent.join("tile/0"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.is_file() || p.extension().is_some());
        let tile = tile.unwrap();
        let tile = if tile.is_dir() {
            std::fs::read_dir(tile)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path()
        } else {
            tile
        };
        let mut bytes = std::fs::read(&tile).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&tile, bytes).unwrap();
        assert_eq!(ctx_report(&bent, &longer), Err("tiles".into()));
    }
}

/// A checkpoint of the head, signed as the log by member 0 and cosigned under these names with these members' keys.
fn export_by(log: &Log, name: &str, cosigners: &[(&str, usize)]) -> PathBuf {
    use tally_contracts::genesis::{cosigner_name, origin};
    let head = log.ledger.head();
    let id = log.network.genesis.network_id();
    let mut note = signed(&log.network, head.tree_size, head.tree_root, &[]);
    let text = note.text().to_owned();
    assert!(text.starts_with(&origin(&id)));
    for (member, key) in cosigners {
        let key = log.network.key(*key, "cosignature");
        let line = note::cosign(&text, &cosigner_name(&id, member), &key, START_MS / 1000);
        note.signatures.push(line.unwrap());
    }
    let out = log.dir.path().join(name);
    log.ledger.export(&note, &out).unwrap();
    out
}

fn diff(a: &Path, b: &Path, members: Option<&Path>) -> serde_json::Value {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let args = crate::args::DiffArgs {
        a: text(a),
        b: text(b),
        network: None,
        members: members.map(Path::to_owned),
    };
    diff::compare(&args, Duration::from_secs(5), true).unwrap()
}

/// A member admitted, one removed, one with another cosignature key: who may vouch for a checkpoint follows from its entries.
#[test]
fn a_comparison_follows_the_changes_of_members_and_keys() {
    use tally_contracts::ids::PublicKey;
    use tally_contracts::records::{Change, KeyPurpose};
    let pass = |log: &mut Log, changes, voters: &[usize], signers| {
        let records = log.network.change(changes, voters, log.time_ms).unwrap();
        log.block_by(&records, signers);
    };
    let (mut a, mut b) = (Log::new(), Log::new());
    let public = |log: &Log, i, key_use| PublicKey::from(&log.network.key(i, key_use));
    for log in [&mut a, &mut b] {
        log.blocks(2, 3);
        let admit = log.network.admission(4).unwrap();
        let rotate = Change::RotateKey {
            member: log.network.member(2),
            purpose: KeyPurpose::Cosignature,
            old: public(log, 2, "cosignature"),
            new: public(log, 12, "cosignature"),
        };
        pass(log, vec![admit, rotate], &[0, 1, 2], 3);
        let remove = Change::RemoveMember {
            member: log.network.member(3),
        };
        // Of five validators four must sign.
        pass(log, vec![remove], &[0, 1, 2, 4], 4);
        log.blocks(1, 2);
    }
    let before = a.ledger.head().tree_size;
    // Validators now: 0, 1, 2 with another key, 4.
    let fork = b.other("09506000134352", 0);
    b.block(&[fork]);
    for log in [&mut a, &mut b] {
        log.blocks(2, 2);
    }
    let now = [("member-0", 0), ("member-2", 12), ("member-4", 4)];
    let founders = [
        ("member-0", 0),
        ("member-1", 1),
        ("member-2", 2),
        ("member-3", 3),
    ];
    let good = export_by(&a, "good", &now);
    let stale = export_by(&a, "stale", &founders);
    let other = export_by(&b, "other", &now[1..]);
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    assert_eq!(audit(&["diff", &path(&good), &path(&good)]), Ok(()));
    // The founders of then, all of them, vouch for nothing any more.
    assert_eq!(
        audit(&["diff", &path(&good), &path(&stale)]),
        Err("quorum".into())
    );
    let report = diff(&good, &stale, None);
    assert_eq!(report["a"]["quorum"], true);
    assert_eq!(report["a"]["members_from"], "entries");
    assert_eq!(report["b"]["quorum"], false);
    let names = |side: &serde_json::Value| -> Vec<String> {
        let list = side["cosigned_by"].as_array().unwrap();
        list.iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut found = names(&report["b"]);
    found.sort_unstable();
    assert_eq!(found, ["member-0", "member-1"]);

    let report = diff(&good, &other, None);
    assert_eq!(report["index"], before);
    assert_eq!(
        report["signed_both"],
        serde_json::json!(["member-2", "member-4"])
    );

    // A members file of a replay says the same, and that of the founders' time another thing.
    let file = |name: &str, from: &Path| {
        let out = a.dir.path().join(name);
        let args = ["replay", "--from", from.to_str().unwrap(), "--members-out"];
        assert_eq!(
            audit(&[&args[..], &[out.to_str().unwrap()]].concat()),
            Ok(())
        );
        out
    };
    let members = file("members", &good);
    let report = diff(&good, &stale, Some(&members));
    assert_eq!(report["a"]["members_from"], "file");
    assert_eq!(
        (&report["a"]["quorum"], &report["b"]["quorum"]),
        (&true.into(), &false.into())
    );
    let mut early = Log::new();
    early.blocks(1, 1);
    let early_members = file("early", &early.export(&[0, 1, 2]));
    let report = diff(&good, &stale, Some(&early_members));
    assert_eq!(
        (&report["a"]["quorum"], &report["b"]["quorum"]),
        (&false.into(), &true.into())
    );

    // Entries that are not those of the tiles are not believed.
    let bend = |entries: &mut Vec<Vec<u8>>| *entries.last_mut().unwrap().last_mut().unwrap() ^= 1;
    let bent = export_by(&b, "bent", &now);
    change(&bent, bend);
    assert_eq!(
        audit(&["diff", &path(&good), &path(&bent)]),
        Err("tiles".into())
    );
    // A side that leaves the rules, and is signed all the same, is followed up to there.
    let entries = {
        let mut found = Vec::new();
        change(&bent, |entries| found.clone_from(entries));
        found
    };
    let leaves: Vec<tally_merkle::Hash> =
        entries.iter().map(|e| tally_merkle::leaf_hash(e)).collect();
    let mut frontier = tally_merkle::Frontier::new();
    for leaf in &leaves {
        frontier.append(*leaf);
    }
    let tile: Vec<u8> = leaves.iter().flat_map(|h| h.as_bytes().to_vec()).collect();
    std::fs::write(bent.join(format!("tile/0/000.p/{}", leaves.len())), tile).unwrap();
    let size = u64::try_from(leaves.len()).unwrap();
    let note = signed(&b.network, size, frontier.root(), &[0, 1]);
    std::fs::write(bent.join("checkpoint"), note.to_string()).unwrap();
    let report = diff(&good, &bent, None);
    let fault = report["b"]["fault"].as_str().unwrap();
    assert!(fault.contains("state root"), "{fault}");
    assert_eq!(report["index"], before);
    assert_eq!(report["b"]["quorum"], false);
    assert_eq!(report["signed_both"], serde_json::json!(["member-0"]));
}

#[test]
fn files_from_outside_are_bounded() {
    let mut log = Log::new();
    log.blocks(1, 3);
    let dir = log.export(&[0, 1, 2]);
    let bundle = dir.join("tile/entries/000.p/5");
    let file = std::fs::File::create(&bundle).unwrap();
    file.set_len(64 << 20).unwrap();
    let cli =
        Cli::try_parse_from(["tally", "audit", "replay", "--from", dir.to_str().unwrap()]).unwrap();
    let Command::Audit(command) = &cli.command else {
        panic!("another command")
    };
    let ctx = Context { common: cli.common };
    let error = run(&ctx, command).unwrap_err();
    assert!(format!("{error:#}").contains("longer than"), "{error:#}");
    std::fs::write(dir.join("checkpoint"), "x".repeat(2 << 20)).unwrap();
    assert!(run(&ctx, command).is_err());
    assert_eq!(usize::from(TILE_WIDTH), 256);
}

/// `TALLY_REPLAY_RECORDS=1000000 cargo test --release -p tally -- --ignored --nocapture replay_speed`
#[test]
#[ignore = "a measurement: takes minutes to make its ledger"]
fn replay_speed() {
    let records: usize =
        std::env::var("TALLY_REPLAY_RECORDS").map_or(100_000, |n| n.parse().unwrap());
    let mut log = Log::new();
    let started = Instant::now();
    log.blocks(records / 4000, 4000);
    let dir = log.export(&[0, 1, 2, 3]);
    let made = started.elapsed();
    drop(log.ledger);
    let started = Instant::now();
    let from = dir.to_str().unwrap();
    assert_eq!(audit(&["replay", "--from", from]), Ok(()));
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("");
    println!(
        "{records} records made in {made:?}, replayed in {:?}; {peak}",
        started.elapsed()
    );
}
