//! Notes, cosignatures, policies and proofs: what we make is read back and verifies, and every changed byte is refused.

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use tally_merkle::{Checkpoint, Error, MemoryTree, Note, Policy, TlogProof, Vkey, leaf_hash, note};

const ORIGIN: &str = "tally/00ff";
const TIME: u64 = 1_700_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn log_key(seed: u8) -> Vkey {
    Vkey::ed25519(ORIGIN, key(seed).verifying_key().to_bytes()).unwrap()
}

fn member(i: u8) -> String {
    format!("{ORIGIN}/member-{i}")
}

fn witness_key(i: u8) -> Vkey {
    Vkey::cosignature(&member(i), key(100 + i).verifying_key().to_bytes()).unwrap()
}

fn policy(n: u8) -> Policy {
    Policy::two_thirds(
        (0..n).map(log_key).collect(),
        (0..n)
            .map(|i| (format!("member-{i}"), witness_key(i)))
            .collect(),
    )
    .unwrap()
}

/// A checkpoint of `tree`, signed by log 0 and cosigned by these members.
fn checkpoint(tree: &MemoryTree, cosigners: &[u8]) -> Note {
    let text = Checkpoint {
        origin: ORIGIN.into(),
        size: tree.size(),
        root: tree.root(),
    }
    .to_string();
    let mut checkpoint = Note::unsigned(text.clone()).unwrap();
    checkpoint
        .signatures
        .push(note::sign(&text, ORIGIN, &key(0)).unwrap());
    for i in cosigners {
        checkpoint
            .signatures
            .push(note::cosign(&text, &member(*i), &key(100 + i), TIME).unwrap());
    }
    checkpoint
}

fn small_tree() -> MemoryTree {
    (0..7u8).map(|i| leaf_hash(&[i])).collect()
}

#[test]
fn quorum_is_more_than_two_thirds() {
    let tree = small_tree();
    for (n, enough) in [(1u8, 1u8), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5)] {
        let policy = policy(n);
        policy.check_two_thirds().unwrap();
        for count in 0..=n {
            let cosigners: Vec<u8> = (0..count).collect();
            let judged = policy.verify(&checkpoint(&tree, &cosigners));
            if count >= enough {
                let verified = judged.unwrap();
                assert_eq!(verified.witnesses.len(), usize::from(count));
                assert!(verified.witnesses.iter().all(|(_, t)| *t == TIME));
                assert_eq!((verified.logs.len(), verified.unknown_signatures), (1, 0));
                assert_eq!(verified.checkpoint.root, tree.root());
            } else {
                assert!(
                    matches!(judged, Err(Error::Quorum { .. })),
                    "{count} of {n}: {judged:?}"
                );
            }
        }
    }
}

#[test]
fn strangers_do_not_count_and_are_counted() {
    let tree = small_tree();
    let mut note = checkpoint(&tree, &[0, 1, 7, 8]);
    assert!(matches!(
        policy(4).verify(&note),
        Err(Error::Quorum { found: 2, .. })
    ));
    let text = note.text().to_owned();
    note.signatures
        .push(note::cosign(&text, &member(2), &key(102), TIME).unwrap());
    assert_eq!(policy(4).verify(&note).unwrap().unknown_signatures, 2);
    // A cosignature is no log signature.
    note.signatures.remove(0);
    assert!(matches!(
        policy(4).verify(&note),
        Err(Error::Unsigned { .. })
    ));
}

#[test]
fn one_key_signs_once() {
    let tree = small_tree();
    let mut note = checkpoint(&tree, &[0, 1, 2]);
    let text = note.text().to_owned();
    note.signatures
        .push(note::cosign(&text, &member(0), &key(100), TIME + 1).unwrap());
    assert!(matches!(
        policy(4).verify(&note),
        Err(Error::DuplicateSignature { .. })
    ));
}

#[test]
fn another_networks_checkpoint_is_refused() {
    let text = Checkpoint {
        origin: "tally/0100".into(),
        size: 7,
        root: small_tree().root(),
    }
    .to_string();
    let mut note = Note::unsigned(text.clone()).unwrap();
    note.signatures
        .push(note::sign(&text, ORIGIN, &key(0)).unwrap());
    for i in 0..4 {
        note.signatures
            .push(note::cosign(&text, &member(i), &key(100 + i), TIME).unwrap());
    }
    assert!(matches!(policy(4).verify(&note), Err(Error::Origin { .. })));
}

#[test]
fn every_changed_byte_of_a_proof_or_policy_is_refused() {
    let tree = small_tree();
    let policy = policy(4);
    for cosigners in [vec![0, 1, 2], vec![0, 1, 2, 3]] {
        let proof = TlogProof {
            extra: None,
            index: 5,
            hashes: tree.inclusion_proof(5, 7).unwrap(),
            checkpoint: checkpoint(&tree, &cosigners),
        };
        // As strict as an auditor is: the canonical quorum, and no line that nobody vouches for.
        let judge = |proof: &[u8], policy: &[u8]| -> Option<()> {
            let proof: TlogProof = std::str::from_utf8(proof).ok()?.parse().ok()?;
            let policy: Policy = std::str::from_utf8(policy).ok()?.parse().ok()?;
            policy.check_two_thirds().ok()?;
            let verified = proof.verify(&policy, &leaf_hash(&[5])).ok()?;
            (verified.unknown_signatures == 0).then_some(())
        };
        let (proof, policy) = (
            proof.to_string().into_bytes(),
            policy.to_string().into_bytes(),
        );
        judge(&proof, &policy).unwrap();
        // A log line whose key did not sign may change into another good key only by breaking its ID, so that fails too.
        for (which, bytes) in [("proof", &proof), ("policy", &policy)] {
            for at in 0..bytes.len() {
                for flip in [1u8, 2, 4, 8, 16, 32, 64, 128, 7, 255] {
                    let mut bad = bytes.clone();
                    bad[at] ^= flip;
                    let judged = if which == "proof" {
                        judge(&bad, &policy)
                    } else {
                        judge(&proof, &bad)
                    };
                    // A name may change when every place that uses it does; one byte never reaches two places.
                    assert!(judged.is_none(), "{which} byte {at} ^ {flip}");
                }
            }
        }
    }
}

#[test]
fn proofs_are_read_back() {
    let tree = small_tree();
    for (extra, index) in [(None, 0), (Some(vec![1, 2, 3]), 6)] {
        let proof = TlogProof {
            extra,
            index,
            hashes: tree.inclusion_proof(index, 7).unwrap(),
            checkpoint: checkpoint(&tree, &[0, 1, 2, 3]),
        };
        let text = proof.to_string();
        assert_eq!(text.parse::<TlogProof>().unwrap(), proof);
        for (from, to) in [
            ("index ", "index 0"),
            ("index ", "index  "),
            ("proof@v1\n", "proof@v1\nextra \n"),
            ("proof@v1\n", "proof@v2\n"),
            ("\n\n", "\n\n\n"),
            ("\n", "\r\n"),
        ] {
            assert!(
                text.replacen(from, to, 1).parse::<TlogProof>().is_err(),
                "{from:?} to {to:?}"
            );
        }
    }
}

#[test]
fn policies_are_read_in_one_form() {
    let (log, w0, w1) = (log_key(0), witness_key(0), witness_key(1));
    for good in [
        format!("log {log}\nquorum none\n"),
        format!(
            "log {log} https://log.example/\nwitness a {w0}\nwitness b {w1} https://b.example\ngroup g any a b\nquorum g\n"
        ),
        format!(
            "log {log}\nwitness a {w0}\nwitness b {w1}\ngroup g all a\ngroup h 2 g b\nquorum h\n"
        ),
        format!("witness a {w0}\nquorum a\n"),
    ] {
        assert_eq!(good.parse::<Policy>().unwrap().to_string(), good);
        assert!(good.parse::<Policy>().unwrap().check_two_thirds().is_err());
    }
    for bad in [
        String::new(),
        "quorum a\n".into(),
        "quorum none".into(),
        "quorum none\nquorum none\n".into(),
        format!("# comment\nlog {log}\nquorum none\n"),
        format!("log  {log}\nquorum none\n"),
        format!("log {log}\n\nquorum none\n"),
        format!("log {log}\nlog {log}\nquorum none\n"),
        format!("log {w0}\nquorum none\n"),
        format!("log {log}\nwitness a {log}\nquorum a\n"),
        format!("log {log}\nwitness a {w0}\nwitness b {w0}\nquorum a\n"),
        format!("log {log}\nwitness a {w0}\nwitness a {w1}\nquorum a\n"),
        format!("log {log}\nwitness none {w0}\nquorum none\n"),
        format!("log {log}\nwitness a {w0}\ngroup g 0 a\nquorum g\n"),
        format!("log {log}\nwitness a {w0}\ngroup g 2 a\nquorum g\n"),
        format!("log {log}\nwitness a {w0}\ngroup g 01 a\nquorum g\n"),
        format!("log {log}\nwitness a {w0}\ngroup g any a a\nquorum g\n"),
        format!("log {log}\nwitness a {w0}\ngroup g any\nquorum g\n"),
        format!("log {log}\nwitness a {w0}\ngroup g any b\nquorum g\n"),
        format!("log {log}\nwitness a {w0}\ngroup g any a\ngroup h any a\nquorum g\n"),
        format!("log {log}\ngroup g any g\nquorum g\n"),
        format!("quorum none\nlog {log}\n"),
    ] {
        assert!(bad.parse::<Policy>().is_err(), "{bad}");
    }
}

#[test]
fn keys_are_checked() {
    let good = log_key(0).to_string();
    assert_eq!(good.parse::<Vkey>().unwrap().to_string(), good);
    for bad in [
        good.replacen('+', " ", 1),
        good.to_uppercase(),
        good.replacen("tally/00ff", "tally/00fe", 1),
        good.replacen("+", "+0", 1),
        good.trim_end_matches('=').to_owned() + "==",
        format!("{good}\n"),
    ] {
        assert!(bad.parse::<Vkey>().is_err(), "{bad}");
    }
    // Small order: anyone could sign under it by ZIP-215.
    let mut small = [0; 32];
    small[0] = 1;
    assert!(Vkey::ed25519(ORIGIN, small).is_err());
    assert!(Vkey::ed25519("", key(0).verifying_key().to_bytes()).is_err());
    assert!(Vkey::ed25519("a b", key(0).verifying_key().to_bytes()).is_err());
}

#[test]
fn a_post_quantum_cosignature_is_carried_but_not_counted() {
    use base64::Engine as _;
    use tally_merkle::{KeyKind, NoteKeyId, NoteSignature};
    let public = vec![7u8; 1312];
    let id = NoteKeyId::of("pq.example", KeyKind::MlDsa44, &public);
    let text = format!(
        "pq.example+{id}+{}",
        base64::engine::general_purpose::STANDARD.encode([vec![6], public].concat())
    );
    let vkey: Vkey = text.parse().unwrap();
    assert_eq!((vkey.kind(), vkey.to_string()), (KeyKind::MlDsa44, text));
    let mut note = checkpoint(&small_tree(), &[0]);
    note.signatures.push(NoteSignature {
        name: "pq.example".into(),
        key_id: id,
        signature: vec![9; 8 + 2420],
    });
    let note = Note::parse(&note.to_string()).unwrap();
    let found = note.verify(&[vkey, log_key(0)]).unwrap();
    assert_eq!((found.signatures.len(), found.unknown), (1, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_texts_never_panic(text in "(— [a-z+ ]{0,9} [A-Za-z0-9+/=]{0,12}|[a-z0-9 +]{0,12}|\\PC{0,6}|[\n]{1,2}){0,12}") {
        if let Ok(note) = Note::parse(&text) {
            prop_assert_eq!(note.to_string(), text.clone());
        }
        if let Ok(checkpoint) = text.parse::<Checkpoint>() {
            prop_assert_eq!(checkpoint.to_string(), text.clone());
        }
        if let Ok(proof) = text.parse::<TlogProof>() {
            prop_assert_eq!(proof.to_string(), text.clone());
        }
        if let Ok(policy) = text.parse::<Policy>() {
            prop_assert_eq!(policy.to_string(), text.clone());
        }
        if let Ok(key) = text.parse::<Vkey>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }
}
