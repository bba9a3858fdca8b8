//! The texts of the log: each has one form, so what is read is written back byte for byte; and tiles.
//!
//! An input is read as each text. One with a zero byte is a policy, the zero, and a proof that the policy judges.

use std::str::FromStr;

use ed25519_dalek::SigningKey;
use tally_merkle::tile::{decode_bundle, decode_hashes, encode_bundle, encode_hashes};
use tally_merkle::{
    Checkpoint, MemoryTree, Note, Policy, TilePath, TlogProof, Vkey, leaf_hash, note,
};

use crate::bytes::Bytes;
use crate::{Seeds, named, same};

fn text<T: FromStr + ToString>(what: &str, text: &str) {
    if let Ok(value) = text.parse::<T>() {
        same(what, text.as_bytes(), value.to_string().as_bytes());
    }
}

/// Bytes for every text.
pub fn run(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let width = input.u16() % 258;
    if let Ok(hashes) = decode_hashes(input.0, width) {
        same("hash tile", input.0, &encode_hashes(&hashes));
    }
    if let Ok(entries) = decode_bundle(input.0, width) {
        let again = encode_bundle(&entries).expect("what was read fits");
        same("bundle", input.0, &again);
    }
    let Ok(utf8) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(note) = Note::parse(utf8) {
        same("note", bytes, note.to_string().as_bytes());
    }
    text::<Checkpoint>("checkpoint", utf8);
    text::<TlogProof>("proof", utf8);
    text::<Policy>("policy", utf8);
    text::<Vkey>("vkey", utf8);
    text::<TilePath>("tile path", utf8);
    if let Some((policy, proof)) = utf8.split_once('\0') {
        let (policy, proof) = (policy.parse::<Policy>(), proof.parse::<TlogProof>());
        if let Ok(policy) = &policy {
            let _ = policy.check_two_thirds();
        }
        if let (Ok(policy), Ok(proof)) = (policy, proof)
            && let Ok(verified) = proof.verify(&policy, &leaf_hash(&[3]))
        {
            assert!(proof.index < verified.checkpoint.size);
        }
    }
}

const ORIGIN: &str = "tally/00ff";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// A checkpoint and a proof with the policy that they satisfy, their keys, tiles and their paths.
pub fn seeds() -> Seeds {
    let member = |i: u8| format!("{ORIGIN}/member-{i}");
    let log = Vkey::ed25519(ORIGIN, key(0).verifying_key().to_bytes()).expect("a key");
    let witness = |i: u8| {
        Vkey::cosignature(&member(i), key(100 + i).verifying_key().to_bytes()).expect("a key")
    };
    let policy = Policy::two_thirds(
        vec![log.clone()],
        (0..4)
            .map(|i| (format!("member-{i}"), witness(i)))
            .collect(),
    )
    .expect("a policy");
    let tree: MemoryTree = (0..7_u8).map(|i| leaf_hash(&[i])).collect();
    let text = Checkpoint {
        origin: ORIGIN.into(),
        size: tree.size(),
        root: tree.root(),
    }
    .to_string();
    let mut checkpoint = Note::unsigned(text.clone()).expect("a note");
    checkpoint
        .signatures
        .push(note::sign(&text, ORIGIN, &key(0)).expect("a signature"));
    for i in 0..3 {
        let time = 1_700_000_000 + u64::from(i);
        let cosignature = note::cosign(&text, &member(i), &key(100 + i), time);
        checkpoint
            .signatures
            .push(cosignature.expect("a signature"));
    }
    let proof = |extra| TlogProof {
        extra,
        index: 3,
        hashes: tree.inclusion_proof(3, 7).expect("a proof"),
        checkpoint: checkpoint.clone(),
    };
    proof(None)
        .verify(&policy, &leaf_hash(&[3]))
        .expect("a good proof");
    let hashes: Vec<_> = (0..3).filter_map(|i| tree.leaf(i)).collect();
    let bundle = encode_bundle(&[b"one".as_slice(), b"", b"three"]).expect("a bundle");
    let mut out = named([
        ("checkpoint", text.clone().into_bytes()),
        ("note", checkpoint.to_string().into_bytes()),
        ("proof", proof(None).to_string().into_bytes()),
        (
            "proof-extra",
            proof(Some(b"extra".to_vec())).to_string().into_bytes(),
        ),
        ("policy", policy.to_string().into_bytes()),
        (
            "policy-and-proof",
            format!("{policy}\0{}", proof(None)).into_bytes(),
        ),
        ("vkey", log.to_string().into_bytes()),
        ("vkey-witness", witness(1).to_string().into_bytes()),
        (
            "tile-hashes",
            [&[0, 3], &encode_hashes(&hashes)[..]].concat(),
        ),
        ("tile-bundle", [&[0, 3], &bundle[..]].concat()),
    ]);
    for (i, path) in TilePath::of_tree(70_000).step_by(137).take(4).enumerate() {
        out.push((format!("path-{i}"), path.to_string().into_bytes()));
    }
    out
}
