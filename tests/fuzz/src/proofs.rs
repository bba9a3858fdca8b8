//! Trees against their definition: every proof that is made verifies, and no other does.
//!
//! An input is the tree's size, an index, an older size, a place and a change there; the rest are hashes of a made-up proof.

use std::collections::BTreeMap;

use tally_contracts::{StateProof, StateTree};
use tally_merkle::{
    Frontier, Hash, MemoryTree, empty_root, leaf_hash, node_hash, root_of, verify_consistency,
    verify_inclusion,
};

use crate::bytes::Bytes;
use crate::{Seeds, named};

const MAX_SIZE: u64 = 300;

/// RFC 6962 2.1, word for word.
fn by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let k = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(k);
            node_hash(&by_definition(left), &by_definition(right))
        }
    }
}

/// A proof with one thing changed.
fn changed(proof: &[Hash], place: u16, change: u8) -> Vec<Hash> {
    let mut bad = proof.to_vec();
    let at = usize::from(place) % (bad.len() + 1);
    match change % 4 {
        0 => bad.insert(at, Hash([change; 32])),
        1 if at < bad.len() => {
            bad.remove(at);
        }
        2 if at < bad.len() => bad[at].0[usize::from(place >> 8) % 32] ^= change,
        _ => bad.truncate(at),
    }
    bad
}

fn log_tree(input: &mut Bytes<'_>) {
    let size = u64::from(input.u16()) % MAX_SIZE + 1;
    let index = u64::from(input.u16()) % size;
    let old = u64::from(input.u16()) % size + 1;
    let (place, change) = (input.u16(), input.u8());
    let leaves: Vec<Hash> = (0..size).map(|i| leaf_hash(&i.to_be_bytes())).collect();
    let old_leaves = &leaves[..usize::try_from(old).expect("small")];
    let (root, old_root) = (by_definition(&leaves), by_definition(old_leaves));
    let tree = MemoryTree::from_leaf_hashes(leaves.clone());
    assert_eq!(
        (tree.root(), tree.root_at(old).expect("smaller")),
        (root, old_root)
    );
    assert_eq!((root_of(&leaves), root_of(old_leaves)), (root, old_root));
    let mut frontier = Frontier::default();
    for leaf in &leaves {
        frontier.append(*leaf);
    }
    assert_eq!(frontier.root(), root);
    let again = Frontier::from_peaks(size, frontier.peaks().to_vec()).expect("its own peaks");
    assert_eq!(again.root(), root);

    let leaf = leaves[usize::try_from(index).expect("small")];
    let proof = tree.inclusion_proof(index, size).expect("in range");
    verify_inclusion(&leaf, index, size, &proof, &root).expect("a good proof");
    let bad = changed(&proof, place, change);
    assert_eq!(
        verify_inclusion(&leaf, index, size, &bad, &root).is_ok(),
        bad == proof
    );
    let proof = tree.consistency_proof(old, size).expect("in range");
    verify_consistency(old, size, &old_root, &root, &proof).expect("a good proof");
    let bad = changed(&proof, place, change);
    assert_eq!(
        verify_consistency(old, size, &old_root, &root, &bad).is_ok(),
        bad == proof
    );
    // A made-up proof leads nowhere, whatever the numbers.
    let (big, bigger) = (input.u64(), input.u64());
    let made_up: Vec<Hash> = (0..input.u8() % 70).map(|_| Hash(input.array())).collect();
    assert!(verify_inclusion(&leaf, big, bigger, &made_up, &root).is_err() || bigger == 1);
    assert!(
        verify_consistency(big, bigger, &old_root, &Hash([9; 32]), &made_up).is_err(),
        "a root that nobody made"
    );
}

/// The state tree, by steps of writes: as it is made at once, and with proofs of what is there and what is not.
fn state_tree(input: &mut Bytes<'_>) {
    let mut tree = StateTree::new();
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for _ in 0..input.u8() % 6 {
        let mut writes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for _ in 0..input.u8() % 20 {
            let (key, value) = (vec![input.u8() % 40], input.u8());
            writes.insert(key, (value % 3 != 0).then(|| vec![value]));
        }
        let writes: Vec<_> = writes.into_iter().collect();
        let preview = tree.preview(&writes);
        assert_eq!(tree.commit(&writes).expect("a small tree"), preview);
        for (key, value) in writes {
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        let at_once = StateTree::from_leaves(&model).expect("a small tree");
        assert_eq!((at_once.root(), at_once.len()), (preview, tree.len()));
    }
    let key = vec![input.u8() % 41];
    let value = model.get(&key).map(Vec::as_slice);
    let proof = tree.prove(&key);
    proof
        .verify(&tree.root(), &key, value)
        .expect("a good proof");
    let other = if value.is_some() {
        None
    } else {
        Some(&b"x"[..])
    };
    assert!(proof.verify(&tree.root(), &key, other).is_err());
    let bad = StateProof {
        siblings: changed(&proof.siblings, input.u16(), input.u8()),
        ..proof.clone()
    };
    assert_eq!(bad.verify(&tree.root(), &key, value).is_ok(), bad == proof);
}

/// One of each tree.
pub fn run(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    log_tree(&mut input);
    state_tree(&mut input);
}

/// Sizes around powers of two.
pub fn seeds() -> Seeds {
    [(1, 0, 1), (7, 3, 4), (8, 7, 8), (9, 8, 5), (257, 256, 255)]
        .into_iter()
        .flat_map(|(size, index, old): (u16, u16, u16)| {
            let mut bytes = Vec::new();
            for n in [size - 1, index, old - 1, 0x0102] {
                bytes.extend(n.to_be_bytes());
            }
            bytes.push(2);
            bytes.extend(u64::from(index).to_be_bytes());
            bytes.extend(u64::from(size).to_be_bytes());
            bytes.push(2);
            bytes.extend([5; 64]);
            // Three steps of writes, then a key and a change.
            bytes.push(3);
            for step in 0..3_u8 {
                bytes.push(5);
                bytes.extend((0..10).map(|i| i * 7 + step));
            }
            bytes.extend([3, 0, 1, 2]);
            named([(format!("size-{size}"), bytes)])
        })
        .collect()
}
