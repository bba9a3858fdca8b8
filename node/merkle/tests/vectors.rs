//! The shared vectors: trees of up to 70,000 entries, checkpoints, and the notes of the C2SP texts. Accepted and refused cases
//! are counted apart, so that a verifier that says one thing to everything fails.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tally_merkle::{
    Checkpoint, Error, Frontier, Hash, MemoryTree, Note, Vkey, frontier_at, leaf_hash, root_of,
    verify_consistency, verify_inclusion,
};

fn load<T: DeserializeOwned>(name: &str) -> Option<T> {
    let dir = std::env::var_os("TALLY_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    let path = dir.join("tlog").join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).expect("vector file is JSON")),
        Err(e) => {
            assert_ne!(
                std::env::var("CI_STRICT").as_deref(),
                Ok("1"),
                "nothing may be skipped: no vectors of trees"
            );
            println!("skipped: {name}: {e}");
            None
        }
    }
}

fn hash(text: &str) -> Hash {
    Hash(STANDARD.decode(text).unwrap().try_into().unwrap())
}

fn hashes(texts: &[String]) -> Vec<Hash> {
    texts.iter().map(|t| hash(t)).collect()
}

#[derive(Deserialize)]
struct Tree {
    roots: Vec<Root>,
    inclusion: Vec<Inclusion>,
    consistency: Vec<Consistency>,
}

#[derive(Deserialize)]
struct Root {
    size: u64,
    root: String,
}

#[derive(Deserialize)]
struct Inclusion {
    index: u64,
    size: u64,
    leaf_hash: String,
    proof: Vec<String>,
}

#[derive(Deserialize)]
struct Consistency {
    old: u64,
    new: u64,
    old_root: String,
    new_root: String,
    proof: Vec<String>,
}

#[test]
fn tree_of_70000() {
    let Some(vectors) = load::<Tree>("rfc6962-tree-70000.json") else {
        return;
    };
    let leaves: Vec<Hash> = (0..70_000)
        .map(|i| leaf_hash(format!("tallystick-vector-leaf {i}").as_bytes()))
        .collect();
    let tree = MemoryTree::from_leaf_hashes(leaves.clone());
    let mut grown = MemoryTree::new();
    grown.extend(leaves.iter().copied());
    assert!(tree == grown, "one by one gives another tree than at once");

    let mut frontier = Frontier::new();
    let mut roots = vectors.roots.iter().peekable();
    for size in 0..=70_000u64 {
        if let Some(expected) = roots.next_if(|r| r.size == size) {
            let root = hash(&expected.root);
            assert_eq!(frontier.root(), root, "frontier at {size}");
            assert_eq!(tree.root_at(size).unwrap(), root, "tree at {size}");
            assert_eq!(root_of(&leaves[..usize::try_from(size).unwrap()]), root);
            assert_eq!(frontier_at(&tree, size).unwrap(), frontier);
            assert_eq!(
                Frontier::from_peaks(size, frontier.peaks().to_vec()).unwrap(),
                frontier
            );
        }
        if let Some(leaf) = leaves.get(usize::try_from(size).unwrap()) {
            frontier.append(*leaf);
        }
    }
    assert!(roots.next().is_none());

    let (mut accepted, mut refused) = (0, 0);
    for v in &vectors.inclusion {
        let (leaf, proof) = (hash(&v.leaf_hash), hashes(&v.proof));
        let root = tree.root_at(v.size).unwrap();
        verify_inclusion(&leaf, v.index, v.size, &proof, &root).unwrap();
        assert_eq!(tree.inclusion_proof(v.index, v.size).unwrap(), proof);
        accepted += 1;
        let check = |index, size, proof: &[Hash], root: &Hash| {
            verify_inclusion(&leaf, index, size, proof, root).unwrap_err();
            1
        };
        refused += check(v.size, v.size, &proof, &root);
        if v.size > 1 {
            refused += check((v.index + 1) % v.size, v.size, &proof, &root);
        }
        refused += check(
            v.index,
            v.size,
            &[proof.clone(), vec![root]].concat(),
            &root,
        );
        refused += check(v.index, v.size, &proof, &leaf_hash(b""));
        if let Some((_, short)) = proof.split_last() {
            refused += check(v.index, v.size, short, &root);
        }
    }
    println!("inclusion: {accepted} accepted, {refused} refused");
    assert!(accepted >= 100 && refused >= 400);

    let (mut accepted, mut refused) = (0, 0);
    for v in &vectors.consistency {
        let (old, new, proof) = (hash(&v.old_root), hash(&v.new_root), hashes(&v.proof));
        verify_consistency(v.old, v.new, &old, &new, &proof).unwrap();
        assert_eq!(tree.consistency_proof(v.old, v.new).unwrap(), proof);
        accepted += 1;
        let longer = [proof.clone(), vec![new]].concat();
        for (old_root, new_root, proof) in [
            (leaf_hash(b""), new, proof.clone()),
            (old, leaf_hash(b""), proof.clone()),
            (old, new, longer),
        ] {
            verify_consistency(v.old, v.new, &old_root, &new_root, &proof).unwrap_err();
            refused += 1;
        }
        if let Some((_, short)) = proof.split_last() {
            verify_consistency(v.old, v.new, &old, &new, short).unwrap_err();
            refused += 1;
        }
        verify_consistency(0, v.new, &old, &new, &proof).unwrap_err();
        refused += 1;
    }
    println!("consistency: {accepted} accepted, {refused} refused");
    assert!(accepted >= 200 && refused >= 800);
}

#[derive(Deserialize)]
struct Cases {
    log_vkey: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    note: String,
    valid: Option<bool>,
}

#[test]
fn checkpoints() {
    let Some(vectors) = load::<Cases>("checkpoint-cases.json") else {
        return;
    };
    let key: Vkey = vectors.log_vkey.parse().unwrap();
    assert_eq!(key.to_string(), vectors.log_vkey);
    let judge = |text: &str| -> Result<Checkpoint, Error> {
        let note = Note::parse(text)?;
        assert_eq!(note.to_string(), text, "a note has one form");
        note.verify(std::slice::from_ref(&key))?;
        let checkpoint: Checkpoint = note.text().parse()?;
        assert_eq!(checkpoint.to_string(), note.text());
        Ok(checkpoint)
    };
    let (mut accepted, mut refused) = (0, 0);
    for case in &vectors.cases {
        match (judge(&case.note), case.valid) {
            (Ok(_), Some(true)) => accepted += 1,
            // Where the texts leave it open, this crate is strict.
            (Err(_), Some(false) | None) => refused += 1,
            (judged, _) => panic!("{}: expected {:?}, got {judged:?}", case.id, case.valid),
        }
    }
    println!("checkpoints: {accepted} accepted, {refused} refused");
    assert!(accepted >= 3 && refused >= 10);
}

#[derive(Deserialize)]
struct Known {
    vkey: String,
    note: String,
    valid: bool,
}

#[test]
fn known_notes() {
    let Some(known) = load::<Known>("known-notes.json") else {
        return;
    };
    assert!(known.valid);
    let key: Vkey = known.vkey.parse().unwrap();
    let note = Note::parse(&known.note).unwrap();
    assert_eq!(
        note.verify(std::slice::from_ref(&key))
            .unwrap()
            .signatures
            .len(),
        1
    );
    assert_eq!(note.to_string(), known.note);
    let changed = Note::parse(&known.note.replacen("example message", "other message", 1)).unwrap();
    assert!(matches!(
        changed.verify(&[key]),
        Err(Error::Signature { .. })
    ));
}
