//! Random trees: generated proofs verify, every flipped bit fails, and tiles give the same tree back.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tally_merkle::tile::{
    TileKind, TileReader, TileTree, decode_bundle, decode_hashes, encode_bundle, encode_hashes,
    width_at,
};
use tally_merkle::{
    Error, Hash, MemoryTree, NodeSource, TilePath, consistency_proof, inclusion_proof, leaf_hash,
    root_at, root_of, verify_consistency, verify_inclusion,
};

fn tree(size: u64, seed: u64) -> MemoryTree {
    (0..size)
        .map(|i| leaf_hash(&[seed.to_be_bytes(), i.to_be_bytes()].concat()))
        .collect()
}

fn flips(proof: &[Hash]) -> impl Iterator<Item = Vec<Hash>> {
    (0..proof.len() * 256).map(|bit| {
        let mut bad = proof.to_vec();
        bad[bit / 256].0[bit % 256 / 8] ^= 1 << (bit % 8);
        bad
    })
}

/// The definition of RFC 6962 2.1, word for word.
fn by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => tally_merkle::empty_root(),
        [leaf] => *leaf,
        _ => {
            let k = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(k);
            tally_merkle::node_hash(&by_definition(left), &by_definition(right))
        }
    }
}

#[test]
fn all_small_trees() {
    let tree = tree(40, 1);
    let leaves: Vec<Hash> = (0..40).map(|i| tree.leaf(i).unwrap()).collect();
    for size in 0..=40u64 {
        let root = by_definition(&leaves[..usize::try_from(size).unwrap()]);
        assert_eq!(tree.root_at(size).unwrap(), root);
        assert_eq!(root_of(&leaves[..usize::try_from(size).unwrap()]), root);
        for index in 0..size {
            let proof = tree.inclusion_proof(index, size).unwrap();
            let leaf = &leaves[usize::try_from(index).unwrap()];
            verify_inclusion(leaf, index, size, &proof, &root).unwrap();
            for other in (0..size).filter(|o| *o != index) {
                verify_inclusion(leaf, other, size, &proof, &root).unwrap_err();
            }
        }
        for old in 1..=size {
            let old_root = tree.root_at(old).unwrap();
            let proof = tree.consistency_proof(old, size).unwrap();
            verify_consistency(old, size, &old_root, &root, &proof).unwrap();
            if old != size {
                verify_consistency(old, size, &root, &root, &proof).unwrap_err();
                verify_consistency(old, size, &old_root, &root, &[]).unwrap_err();
            }
        }
    }
    assert!(tree.inclusion_proof(40, 40).is_err());
    assert!(tree.inclusion_proof(0, 41).is_err());
    assert!(tree.consistency_proof(0, 5).is_err());
    assert!(tree.consistency_proof(6, 5).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_flipped_bit_of_a_proof_fails(size in 1u64..700, at in any::<u64>(), old in any::<u64>(), seed: u64) {
        let tree = tree(size, seed);
        let root = tree.root();
        let index = at % size;
        let leaf = tree.leaf(index).unwrap();
        let proof = tree.inclusion_proof(index, size).unwrap();
        verify_inclusion(&leaf, index, size, &proof, &root).unwrap();
        for bad in flips(&proof) {
            prop_assert!(verify_inclusion(&leaf, index, size, &bad, &root).is_err());
        }
        let old = old % size + 1;
        let old_root = tree.root_at(old).unwrap();
        let proof = tree.consistency_proof(old, size).unwrap();
        verify_consistency(old, size, &old_root, &root, &proof).unwrap();
        for bad in flips(&proof) {
            prop_assert!(verify_consistency(old, size, &old_root, &root, &bad).is_err());
        }
    }

    #[test]
    fn garbage_proofs_are_refused(index: u64, size: u64, old: u64, hashes in prop::collection::vec(any::<[u8; 32]>(), 0..70)) {
        let proof: Vec<Hash> = hashes.into_iter().map(Hash).collect();
        let root = leaf_hash(b"root");
        prop_assert!(verify_inclusion(&leaf_hash(b"leaf"), index, size, &proof, &root).is_err());
        prop_assert!(verify_consistency(old, size, &leaf_hash(b"old"), &root, &proof).is_err());
    }

    #[test]
    fn tile_paths_have_one_form(path in "(tile/)?([0-9]{1,2}|entries)/((x[0-9]{3}/){0,7}[0-9]{3})(\\.p/[0-9]{1,3})?") {
        if let Ok(tile) = path.parse::<TilePath>() {
            prop_assert_eq!(tile.to_string(), path);
        }
    }

    #[test]
    fn every_tile_path_is_read_back(level in 0u8..=63, index: u64, width in 1u16..=256, entries: bool) {
        let kind = if entries { TileKind::Entries } else { TileKind::Hashes(level) };
        let tile = TilePath::new(kind, index, width).unwrap();
        prop_assert_eq!(tile.to_string().parse::<TilePath>().unwrap(), tile);
    }

    #[test]
    fn bundles_have_one_form(bytes in prop::collection::vec(0u8..4, 0..60), width in 0u16..20) {
        if let Ok(entries) = decode_bundle(&bytes, width) {
            prop_assert_eq!(entries.len(), usize::from(width));
            prop_assert_eq!(encode_bundle(&entries).unwrap(), bytes);
        }
    }
}

/// Tiles in memory, as a log would publish them.
struct Published(BTreeMap<TilePath, Vec<u8>>, u64);

impl TileReader for Published {
    type Error = Error;

    fn tile(&self, level: u8, index: u64) -> Result<Arc<[Hash]>, Error> {
        let kind = TileKind::Hashes(level);
        let path = TilePath::new(kind, index, width_at(kind, index, self.1))?;
        let bytes = self.0.get(&path).ok_or(Error::OutOfRange {
            what: "tile",
            found: index,
            size: self.1,
        })?;
        Ok(decode_hashes(bytes, path.width())?.into())
    }
}

#[test]
fn the_tree_comes_back_from_its_tiles() {
    let size = 70_000;
    let tree = tree(size, 9);
    let mut tiles = BTreeMap::new();
    for path in TilePath::of_tree(size) {
        assert!(path.is_within(size) && !path.is_within(0));
        if let TileKind::Hashes(level) = path.kind() {
            let hashes: Vec<Hash> = (0..u64::from(path.width()))
                .map(|i| tree.node(level * 8, path.index() * 256 + i).unwrap())
                .collect();
            tiles.insert(path, encode_hashes(&hashes));
        }
    }
    // The example of the C2SP text: 273 full and one of width 112; one full and one of 17; one of 1.
    assert_eq!(tiles.len(), 274 + 2 + 1);
    for last in [
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ] {
        assert!(tiles.contains_key(&last.parse().unwrap()), "{last}");
    }
    let published = TileTree(Published(tiles, size));
    for at in [
        1, 2, 255, 256, 257, 511, 65_535, 65_536, 65_537, 69_999, 70_000,
    ] {
        assert_eq!(root_at(&published, at).unwrap(), tree.root_at(at).unwrap());
        let index = at * 7 / 11;
        assert_eq!(
            inclusion_proof(&published, index, at).unwrap(),
            tree.inclusion_proof(index, at).unwrap()
        );
        assert_eq!(
            consistency_proof(&published, at, size).unwrap(),
            tree.consistency_proof(at, size).unwrap()
        );
    }
    assert!(root_at(&published, 70_001).is_err());
}

#[test]
fn added_tiles_are_those_that_change() {
    let paths =
        |old, new| -> Vec<String> { TilePath::added(old, new).map(|p| p.to_string()).collect() };
    assert_eq!(paths(0, 1), ["tile/entries/000.p/1", "tile/0/000.p/1"]);
    assert_eq!(
        paths(255, 257),
        [
            "tile/entries/000",
            "tile/entries/001.p/1",
            "tile/0/000",
            "tile/0/001.p/1",
            "tile/1/000.p/1"
        ]
    );
    assert_eq!(paths(257, 258), ["tile/entries/001.p/2", "tile/0/001.p/2"]);
    assert_eq!(paths(256, 256), Vec::<String>::new());
    assert_eq!(TilePath::of_tree(0).count(), 0);
}

#[test]
fn paths_of_the_text() {
    for (path, index, width) in [
        ("tile/3/x001/x234/067", 1_234_067, 256),
        ("tile/0/067.p/255", 67, 255),
        ("tile/entries/x001/000.p/1", 1000, 1),
    ] {
        let tile: TilePath = path.parse().unwrap();
        assert_eq!((tile.index(), tile.width()), (index, width));
    }
    for path in [
        "",
        "/tile/0/000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/1/",
        "tile/0/000.p/+1",
        "tile/data/000",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
    ] {
        assert!(path.parse::<TilePath>().is_err(), "{path}");
    }
}
