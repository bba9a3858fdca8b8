//! Proofs to take home: what is in one has one form, and of the files of a real proof nothing can be changed.
//!
//! An input is the extra of a proof, or a members file, or entries of a ledger, or a policy, a zero byte and a proof, or a code.

use std::sync::LazyLock;

use tally_contracts::genesis::network_id;
use tally_contracts::ids::NetworkId;
use tally_contracts::{Canonical, Genesis};
use tally_evidence::replay::Replay;
use tally_evidence::{Extra, Roster, UnitCode, network_policy, verify};
use tally_merkle::TlogProof;

use crate::{Seeds, named, same};

/// A golden proof of the evidence crate, made by a real ledger.
struct Golden {
    name: &'static str,
    proof: &'static str,
    parsed: TlogProof,
    extra: Vec<u8>,
    /// The record in it, which the same proof is of as well.
    record: Option<Vec<u8>>,
}

/// The proofs' network and its policy.
struct Network {
    id: NetworkId,
    policy: &'static str,
    proofs: Vec<Golden>,
}

macro_rules! golden {
    ($($name:literal),+) => {
        vec![$(($name, include_str!(concat!("../../../node/evidence/tests/golden/", $name, ".tlog-proof")))),+]
    };
}

static GOLDEN: LazyLock<Network> = LazyLock::new(|| {
    let all = golden![
        "code", "record", "scan", "batch", "member", "budget", "match", "sum", "overlap"
    ];
    let proofs = all.into_iter().map(|(name, proof)| {
        let parsed: TlogProof = proof.parse().expect("a proof");
        let extra = parsed.extra.clone().expect("an extra");
        let read = Extra::from_bytes(&extra).expect("a golden extra");
        let record = read.record().cloned();
        Golden {
            name,
            proof,
            parsed,
            extra,
            record: record.map(|record| Extra::Record(record).to_bytes()),
        }
    });
    Network {
        id: include_str!("../../../node/evidence/tests/golden/network_id")
            .trim()
            .parse()
            .expect("an ID"),
        policy: include_str!("../../../node/evidence/tests/golden/policy"),
        proofs: proofs.collect(),
    }
});

/// Bytes as the extra of each golden proof.
fn extra(bytes: &[u8]) {
    let Ok(extra) = Extra::from_bytes(bytes) else {
        return;
    };
    same("extra", bytes, &extra.to_bytes());
    let network = &*GOLDEN;
    for golden in &network.proofs {
        let proof = TlogProof {
            extra: Some(bytes.to_vec()),
            ..golden.parsed.clone()
        }
        .to_string();
        let judge = |network: &NetworkId, policy: &str| {
            verify(network, policy.as_bytes(), proof.as_bytes(), None).is_ok()
        };
        let good = bytes == golden.extra || golden.record.as_deref() == Some(bytes);
        assert_eq!(judge(&network.id, network.policy), good, "{}", golden.name);
        // A network that its maker made up has other keys than those that signed.
        let genesis = extra.genesis();
        if let Ok(own) = Genesis::from_bytes(genesis)
            && let Ok(policy) = network_policy(&own)
        {
            assert_eq!(judge(&network_id(genesis), &policy.to_string()), good);
        }
    }
}

/// Bytes as entries after a real genesis, each with its length before it: what a replay takes, it counts.
fn replay(bytes: &[u8]) {
    let network = &*GOLDEN;
    let Some(first) = network.proofs.first() else {
        return;
    };
    let read = Extra::from_bytes(&first.extra).expect("a golden extra");
    let mut replay = Replay::new(read.genesis()).expect("a golden genesis");
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((entry, after)) = after.split_at_checked(u16::from_be_bytes(*length).into())
        else {
            break;
        };
        if replay.entry(entry).is_err() {
            break;
        }
        rest = after;
    }
    let progress = replay.progress();
    assert!(progress.records + progress.blocks < replay.size());
}

/// Bytes for each.
pub fn run(bytes: &[u8]) {
    if let Ok(roster) = Roster::from_bytes(bytes) {
        same("members", bytes, &roster.to_bytes());
        let _ = roster.validators();
    }
    extra(bytes);
    replay(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some((policy, proof)) = text.split_once('\0') {
        let network = &*GOLDEN;
        let judged = verify(&network.id, policy.as_bytes(), proof.as_bytes(), None);
        let known = network.proofs.iter().any(|golden| golden.proof == proof);
        assert_eq!(judged.is_ok(), policy == network.policy && known);
    }
    if let Ok(code) = text.parse::<UnitCode>() {
        assert_eq!(code.to_string().parse(), Ok(code));
    }
}

/// The golden proofs' extras and the records in them, a proof's files, entries, and codes in both forms.
pub fn seeds() -> Seeds {
    let network = &*GOLDEN;
    let mut seeds = named([
        (
            "code",
            include_bytes!("../../../node/evidence/tests/golden/code")
                .trim_ascii()
                .to_vec(),
        ),
        (
            "code-link",
            b"https://id.t.cn/01/09521234543213/10/L7/21/o123456789abcdefghjk".to_vec(),
        ),
    ]);
    if let Some(first) = network.proofs.first()
        && let Ok(extra) = Extra::from_bytes(&first.extra)
        && let Ok(genesis) = Genesis::from_bytes(extra.genesis())
    {
        let roster = Roster::of_genesis(&genesis).to_bytes();
        seeds.extend(named([("members".to_owned(), roster)]));
    }
    for golden in &network.proofs {
        let name = golden.name;
        seeds.extend(named([(format!("extra-{name}"), golden.extra.clone())]));
        if let Some(record) = &golden.record {
            seeds.extend(named([(format!("record-of-{name}"), record.clone())]));
        }
        if let Ok(Extra::Record(record)) = Extra::from_bytes(&golden.extra) {
            let files = format!("{}\0{}", network.policy, golden.proof);
            seeds.extend(named([("policy-and-proof".to_owned(), files.into_bytes())]));
            let mut entries = Vec::new();
            for entry in [record.record, record.block.info.to_bytes()] {
                let length = u16::try_from(entry.len()).expect("an entry");
                entries.extend(length.to_be_bytes());
                entries.extend(entry);
            }
            seeds.extend(named([("entries".to_owned(), entries)]));
        }
    }
    seeds
}
