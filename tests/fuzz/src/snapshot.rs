//! Snapshots of which any file is anything: refused with a reason and nothing left that is a ledger, or the very ledger that was saved.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};
use tally_contracts::ids::PublicKey;
use tally_contracts::records::Change;
use tally_contracts::Record;
use tally_ledger::sample::{START_MS, SampleNetwork};
use tally_ledger::snapshot::{FileSum, Handover, MANIFEST, Manifest, Source, restore};
use tally_ledger::{Error, Head, Ledger, Options, cosigner_name, origin};
use tally_merkle::{Checkpoint, Hash, Note, note};

use crate::bytes::{Bytes, put_piece};
use crate::{Seeds, named};

type Files = BTreeMap<String, Vec<u8>>;

/// A snapshot as it was saved, and what it must give.
struct Saved {
    genesis: Vec<u8>,
    files: Files,
    manifest: Manifest,
    head: Head,
}

static SAVED: LazyLock<Saved> = LazyLock::new(save);

const OPTIONS: Options = Options {
    segment_bytes: 1 << 20,
    cache_bytes: 1 << 20,
};

fn commit(network: &SampleNetwork, ledger: &Ledger, records: &[Record], time_ms: u64) {
    let prepared = ledger
        .prepare(records, time_ms, network.member(0), &|_| None)
        .expect("a block");
    assert!(prepared.refused.is_empty(), "{:?}", prepared.refused);
    let certificate = network.certificate(&prepared.block.header, 4);
    ledger
        .commit(&prepared.block.to_bytes(), &certificate, &|_| None)
        .expect("commit");
}

/// One of two full tiles, some entries beyond, and one change of validators.
fn save() -> Saved {
    let dir = tempfile::tempdir().expect("a folder");
    let mut network = SampleNetwork::new(4).expect("members");
    let genesis = network.genesis.to_bytes();
    let ledger = Ledger::open(&dir.path().join("ledger"), &genesis, OPTIONS).expect("a ledger");
    let power = Change::SetPower {
        member: network.member(0),
        node: PublicKey::from(&network.key(0, "transport")),
        power: 2,
    };
    let mut time_ms = START_MS;
    for count in [300, 0, 240] {
        time_ms += 1000;
        let records = match count {
            0 => network.change(vec![power.clone()], &[0, 1, 2], time_ms),
            count => network.records(count, time_ms),
        };
        commit(&network, &ledger, &records.expect("records"), time_ms);
    }
    let id = network.genesis.network_id();
    let out = dir.path().join("out");
    let manifest = ledger
        .save_snapshot(&out, &mut |head| {
            let text = Checkpoint {
                origin: origin(&id),
                size: head.tree_size,
                root: head.tree_root,
            }
            .to_string();
            let mut signed = Note::unsigned(text.clone())?;
            for i in 0..3 {
                let name = cosigner_name(&id, &format!("member-{i}"));
                let key = network.key(i, "cosignature");
                let line = note::cosign(&text, &name, &key, START_MS / 1000 + 60)?;
                signed.signatures.push(line);
            }
            Ok(signed)
        })
        .expect("a snapshot");
    let files = fs::read_dir(&out)
        .expect("list")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name");
            (name, fs::read(entry.path()).expect("read"))
        })
        .collect();
    Saved {
        genesis,
        files,
        manifest,
        head: ledger.head(),
    }
}

struct Memory<'a>(&'a Files);

impl Source for Memory<'_> {
    fn fetch(&mut self, name: &str, max: usize) -> Result<Vec<u8>, String> {
        let bytes = self.0.get(name).ok_or("no such file")?;
        if bytes.len() > max {
            return Err("too long".into());
        }
        Ok(bytes.clone())
    }
}

/// The manifest of these files: the saved one with the sums that they have.
fn summed(files: &Files) -> Vec<u8> {
    let sum = |name: &str| {
        let bytes = files.get(name).map_or(&[][..], Vec::as_slice);
        FileSum {
            bytes: u32::try_from(bytes.len()).expect("a small file"),
            hash: Hash(Sha256::digest(bytes).into()),
        }
    };
    let all = |kind: &str| {
        let names = files.keys().filter(|name| name.starts_with(kind));
        names.map(|name| sum(name)).collect()
    };
    let manifest = Manifest {
        trail: sum("trail"),
        edge: sum("edge"),
        state: all("state-"),
        tiles: all("tiles-"),
        ..SAVED.manifest.clone()
    };
    manifest.to_bytes()
}

/// A byte: whether the manifest has the sums of what is there. Then pieces, each behind the number of the file that it replaces and
/// how it does: as it is, or some bytes of it from a place on.
pub fn run(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::from_bytes(bytes) {
        assert_eq!(manifest.to_bytes(), bytes);
    }
    if let Ok(handover) = Handover::from_bytes(bytes) {
        assert_eq!(handover.to_bytes(), bytes);
    }
    let mut input = Bytes(bytes);
    let sums = input.u8() & 1 == 1;
    let mut files = SAVED.files.clone();
    for _ in 0..4 {
        if input.is_empty() {
            break;
        }
        let (number, patch) = (usize::from(input.u8()), input.u8() & 1 == 1);
        let at = usize::from(input.u16());
        let piece = input.piece();
        let Some(file) = files.values_mut().nth(number) else {
            continue;
        };
        if patch {
            let to = file.iter_mut().skip(at);
            to.zip(piece).for_each(|(to, from)| *to = *from);
        } else {
            *file = piece.to_vec();
        }
    }
    if sums {
        files.insert(MANIFEST.into(), summed(&files));
    }
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = dir.path().join("ledger");
    fs::create_dir(&ledger).expect("a folder");
    let restored = restore(
        &ledger,
        &SAVED.genesis,
        OPTIONS,
        &mut Memory(&files),
        &[],
        &mut |_, _| {},
    );
    match restored {
        Ok((restored, manifest)) => {
            assert_eq!(restored.head(), SAVED.head);
            assert_eq!(manifest.header, SAVED.manifest.header);
        }
        Err(Error::Snapshot { .. }) => {
            for part in ["blocks", "state", "tiles", "restoring/verified"] {
                assert!(!ledger.join(part).exists(), "a refusal left {part}");
            }
        }
        Err(e) => panic!("{e}"),
    }
}

/// Each file as it is, with a changed byte, empty; with the old sums and with new ones; and the decoders' own.
pub fn seeds() -> Seeds {
    let mut seeds = vec![
        ("whole".to_owned(), vec![0]),
        ("summed".to_owned(), vec![1]),
        ("manifest".to_owned(), SAVED.manifest.to_bytes()),
    ];
    let trail = &SAVED.files["trail"];
    // Behind the version, the number of handovers and the length of the first.
    seeds.push(("handover".to_owned(), trail[9..].to_vec()));
    for (number, (name, file)) in (0_u8..).zip(&SAVED.files) {
        let with = |sums: u8, patch: u8, at: usize, piece: &[u8]| {
            let at = u16::try_from(at).expect("a small file").to_be_bytes();
            let mut out = vec![sums, number, patch, at[0], at[1]];
            put_piece(&mut out, piece);
            out
        };
        let middle = file.len() / 2;
        let changed = [file[middle] ^ 1];
        for sums in [0, 1] {
            let seed = |what: &str| format!("{name}-{what}-{sums}");
            seeds.push((seed("changed"), with(sums, 1, middle, &changed)));
            seeds.push((seed("empty"), with(sums, 0, 0, b"")));
            seeds.push((seed("short"), with(sums, 0, 0, &file[..middle.min(2000)])));
        }
    }
    named(seeds)
}
