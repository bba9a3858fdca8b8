//! The tree against a plain model of its definition.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::codec::Canonical;

/// The definition, word for word: a list of (key hash, value hash) of one part of the tree at a depth.
fn model(leaves: &[(Hash, Hash)], depth: usize) -> Hash {
    match leaves {
        [] => EMPTY,
        [(key, value)] => leaf(key, value),
        many => {
            let (left, right): (Vec<_>, Vec<_>) = many.iter().partition(|l| !bit(&l.0, depth));
            node(&model(&left, depth + 1), &model(&right, depth + 1))
        }
    }
}

fn model_root(state: &BTreeMap<Vec<u8>, Vec<u8>>) -> Hash {
    let leaves: Vec<_> = state
        .iter()
        .map(|(k, v)| (key_hash(k), value_hash(v)))
        .collect();
    model(&leaves, 0)
}

type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn writes() -> impl Strategy<Value = Vec<Writes>> {
    let one = (
        0_u8..60,
        proptest::option::weighted(0.7, any::<u8>().prop_map(|b| vec![b])),
    )
        .prop_map(|(k, v)| (vec![k], v));
    proptest::collection::vec(proptest::collection::vec(one, 0..30), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn equals_the_model(blocks in writes()) {
        let (mut tree, mut state) = (StateTree::new(), BTreeMap::new());
        for block in blocks {
            let preview = tree.preview(&block);
            prop_assert_eq!(preview, tree.commit(&block).unwrap());
            for (k, v) in block {
                match v {
                    Some(v) => state.insert(k, v),
                    None => state.remove(&k),
                };
            }
            prop_assert_eq!(tree.root(), model_root(&state));
            prop_assert_eq!(tree.len(), state.len());
        }
        prop_assert_eq!(StateTree::from_leaves(&state).unwrap().root(), tree.root());
        // No node is lost or kept for nothing.
        let inner = tree.inners.items.len() - tree.inners.free.len();
        let mut rebuilt = StateTree::new();
        for (k, v) in &state {
            rebuilt.commit(&[(k.clone(), Some(v.clone()))]).unwrap();
        }
        prop_assert_eq!(rebuilt.root(), tree.root());
        prop_assert_eq!(inner, rebuilt.inners.items.len() - rebuilt.inners.free.len());
        for k in 0..80_u8 {
            let value = state.get(&vec![k]).map(Vec::as_slice);
            let proof = tree.prove(&[k]);
            prop_assert_eq!(&StateProof::from_bytes(&proof.to_bytes()).unwrap(), &proof);
            prop_assert_eq!(proof.verify(&tree.root(), &[k], value), Ok(()));
            // The opposite, another value, another key and another root must fail.
            let wrong = if value.is_some() { None } else { Some(&b"x"[..]) };
            prop_assert!(proof.verify(&tree.root(), &[k], wrong).is_err());
            prop_assert!(proof.verify(&tree.root(), &[k], Some(b"other")).is_err());
            prop_assert!(proof.verify(&Hash([9; 32]), &[k], value).is_err());
            if let Some(value) = value {
                prop_assert!(proof.verify(&tree.root(), b"unknown", Some(value)).is_err());
            }
        }
    }

    #[test]
    fn garbage_is_no_proof(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(proof) = StateProof::from_bytes(&bytes) {
            prop_assert!(proof.verify(&Hash([1; 32]), b"key", Some(b"value")).is_err());
        }
    }
}

#[test]
fn every_flipped_byte_of_a_proof_fails() {
    let tree =
        StateTree::from_leaves((0..200_u32).map(|i| (i.to_be_bytes(), i.to_le_bytes()))).unwrap();
    for (key, value) in [
        (7_u32.to_be_bytes().to_vec(), Some(7_u32.to_le_bytes())),
        (b"absent".to_vec(), None),
    ] {
        let value = value.as_ref().map(<[u8; 4]>::as_slice);
        let bytes = tree.prove(&key).to_bytes();
        for i in 0..bytes.len() {
            for flip in [1, 0x80] {
                let mut bad = bytes.clone();
                bad[i] ^= flip;
                let accepted = StateProof::from_bytes(&bad)
                    .is_ok_and(|p| p.verify(&tree.root(), &key, value).is_ok());
                assert!(!accepted, "byte {i}");
            }
        }
    }
}

#[test]
fn a_leaf_elsewhere_shows_no_absence() {
    let tree = StateTree::from_leaves((0..50_u8).map(|i| ([i], [i]))).unwrap();
    // The proof of one present key, passed off as the absence of each other present key.
    for i in 0..50_u8 {
        for j in 0..50_u8 {
            assert!(tree.prove(&[i]).verify(&tree.root(), &[j], None).is_err());
        }
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p tally-contracts --lib -- --ignored --nocapture tree_speed"]
fn tree_speed() {
    let n = 1_000_000_u64;
    let start = std::time::Instant::now();
    let mut tree = StateTree::from_leaves((0..n).map(|i| (i.to_be_bytes(), [0]))).unwrap();
    println!("built {n} leaves in {:?}", start.elapsed());
    let bytes = tree.leaves.items.capacity() * size_of::<Leaf>()
        + tree.inners.items.capacity() * size_of::<Inner>();
    println!("{} bytes a leaf", bytes as u64 / n);
    let start = std::time::Instant::now();
    let mut done = 0_u64;
    for block in 0..50_u64 {
        let writes: Writes = (0..4_000_u64)
            .map(|i| {
                let k = (block * 4_000 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) % (2 * n);
                (k.to_be_bytes().to_vec(), Some(vec![1]))
            })
            .collect();
        let preview = tree.preview(&writes);
        assert_eq!(preview, tree.commit(&writes).unwrap());
        done += 4_000;
    }
    println!(
        "{:.0} writes/s, each previewed and committed, 4,000 a block",
        done as f64 / start.elapsed().as_secs_f64()
    );
}
