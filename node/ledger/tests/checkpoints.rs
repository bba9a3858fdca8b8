//! Checkpoints: a quorum of the power makes one, and any C2SP policy reads it.

mod common;

use std::fs;

use common::Chain;
use tally_ledger::{CheckpointKeys, Checkpoints, Error, Ledger, cosigner_name, origin};
use tally_merkle::{Note, NoteSignature, Policy, Vkey, note};

const NOW_S: u64 = 1_790_000_100;

fn keys(chain: &Chain, i: usize) -> CheckpointKeys {
    CheckpointKeys {
        member: format!("member-{i}"),
        checkpoint: chain.network.key(i, "checkpoint"),
        cosignature: Some(chain.network.key(i, "cosignature")),
    }
}

fn cosigned(chain: &Chain, ledger: &Ledger, i: usize) -> (u64, NoteSignature) {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Checkpoints::open(dir.path(), ledger.network(), keys(chain, i)).unwrap();
    other.sign_head(ledger, NOW_S).unwrap().unwrap()
}

fn policy(chain: &Chain, ledger: &Ledger) -> Policy {
    let network = ledger.network();
    let public = |i, key_use| chain.network.key(i, key_use).verifying_key().to_bytes();
    Policy::two_thirds(
        (0..4)
            .map(|i| Vkey::ed25519(&origin(&network), public(i, "checkpoint")).unwrap())
            .collect(),
        (0..4)
            .map(|i| {
                let name = format!("member-{i}");
                let key =
                    Vkey::cosignature(&cosigner_name(&network, &name), public(i, "cosignature"));
                (name, key.unwrap())
            })
            .collect(),
    )
    .unwrap()
}

#[test]
fn three_of_four_make_a_checkpoint_that_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    chain.commit(&ledger, 2);
    let validators = ledger.validators().unwrap();
    let open = |chain: &Chain| Checkpoints::open(dir.path(), ledger.network(), keys(chain, 0));
    let mut checkpoints = open(&chain).unwrap();
    let (size, own) = checkpoints.sign_head(&ledger, NOW_S).unwrap().unwrap();
    assert_eq!(size, ledger.head().tree_size);
    assert!(!checkpoints.add(size, own.clone(), &validators).unwrap());
    assert!(
        !checkpoints.add(size, own, &validators).unwrap(),
        "once is once"
    );
    let (_, second) = cosigned(&chain, &ledger, 1);
    assert!(!checkpoints.add(size, second, &validators).unwrap());
    assert!(checkpoints.best().is_none());

    // Wrong bytes, a stranger, a size that is not there, one's own 0x01 key.
    let (_, good) = cosigned(&chain, &ledger, 2);
    let mut bad = good.clone();
    bad.signature[20] ^= 1;
    assert!(checkpoints.add(size, bad, &validators).is_err());
    let mut bad = good.clone();
    bad.name.push('x');
    assert!(checkpoints.add(size, bad, &validators).is_err());
    let judged = checkpoints.add(size + 1, good.clone(), &validators);
    assert!(matches!(judged, Err(Error::OutOfRange { .. })));
    let text = "tally/x\n1\nAAAA\n";
    let name = cosigner_name(&ledger.network(), "member-2");
    let other = note::cosign(text, &name, &chain.network.key(2, "cosignature"), 1).unwrap();
    assert!(checkpoints.add(size, other, &validators).is_err());
    assert!(checkpoints.best().is_none());

    assert!(checkpoints.add(size, good, &validators).unwrap());
    let (best, note) = checkpoints.best().unwrap();
    assert_eq!(best, size);
    let verified = policy(&chain, &ledger).verify(note).unwrap();
    assert_eq!(verified.checkpoint.root, ledger.head().tree_root);
    assert_eq!(verified.witnesses.len(), 3);
    assert_eq!(verified.unknown_signatures, 0);

    // It is kept over a start, exported with its tiles, and gives way to a newer one only.
    let kept = note.to_string();
    let reopened = open(&chain).unwrap();
    assert_eq!(reopened.best().unwrap().1.to_string(), kept);
    let out = dir.path().join("out");
    ledger.export(note, &out).unwrap();
    assert_eq!(fs::read_to_string(out.join("checkpoint")).unwrap(), kept);
    chain.commit(&ledger, 1);
    checkpoints.sign_head(&ledger, NOW_S).unwrap();
    assert_eq!(checkpoints.best().unwrap().0, size);
    for i in [0, 1, 3] {
        let (size, signature) = cosigned(&chain, &ledger, i);
        checkpoints.add(size, signature, &validators).unwrap();
    }
    assert_eq!(checkpoints.best().unwrap().0, ledger.head().tree_size);
}

#[test]
fn a_checkpoint_of_another_history_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let ledger = chain.replayed(dir.path()).unwrap();
    chain.commit(&ledger, 2);
    let text = format!(
        "{}\n2\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        origin(&ledger.network())
    );
    let mut foreign = Note::unsigned(text.clone()).unwrap();
    let key = chain.network.key(0, "checkpoint");
    let signature = note::sign(&text, &origin(&ledger.network()), &key).unwrap();
    foreign.signatures.push(signature);
    fs::write(dir.path().join("checkpoint"), foreign.to_string()).unwrap();
    let mut checkpoints = Checkpoints::open(dir.path(), ledger.network(), keys(&chain, 0)).unwrap();
    assert!(checkpoints.best().is_some());
    assert!(ledger.export(&foreign, &dir.path().join("out")).is_err());
    checkpoints.sign_head(&ledger, NOW_S).unwrap();
    assert!(checkpoints.best().is_none());
    fs::write(dir.path().join("checkpoint"), "garbage").unwrap();
    let checkpoints = Checkpoints::open(dir.path(), ledger.network(), keys(&chain, 0)).unwrap();
    assert!(checkpoints.best().is_none());
}
