//! The tree in pages against the tree in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::state::StateError;

type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// A store that only grows: where a page lies is its number among all that were written.
#[derive(Default, Clone)]
struct Store {
    written: Vec<Vec<(Hash, Hash)>>,
    places: BTreeMap<PagePlace, usize>,
}

impl PageRead for Store {
    fn leaves(&self, _: &PagePlace, at: u64) -> Result<Vec<(Hash, Hash)>, StateError> {
        Ok(self.written[usize::try_from(at).unwrap()].clone())
    }
}

impl Store {
    fn put(&mut self, place: PagePlace, leaves: &[TreeLeaf]) -> u64 {
        let at = self.written.len();
        self.written
            .push(leaves.iter().map(|l| (*l.key(), *l.value())).collect());
        if leaves.is_empty() {
            self.places.remove(&place);
        } else {
            self.places.insert(place, at);
        }
        at as u64
    }

    fn write(&mut self, change: &TreeChange) -> Vec<u64> {
        change
            .pages()
            .map(|(place, leaves)| self.put(*place, leaves))
            .collect()
    }

    fn open(&self, cached: usize) -> Result<PagedTree, Error> {
        let pages = self.places.iter().map(|(place, at)| {
            let page = Page::from_leaves(place, &self.written[*at], *at as u64).unwrap();
            Ok::<_, Error>((*place, page))
        });
        PagedTree::from_pages(cached, pages)
    }

    fn leaves(&self) -> Vec<(Hash, Hash)> {
        self.places
            .values()
            .flat_map(|at| self.written[*at].clone())
            .collect()
    }
}

fn carried_out(tree: &mut PagedTree, store: &mut Store, writes: &Writes) {
    let change = tree.change(writes, store).unwrap();
    let at = store.write(&change);
    tree.apply(&change, &at).unwrap();
}

/// Blocks of writes to few keys, so that they are often overwritten and removed, or to many, so that pages are split and merged.
fn blocks() -> impl Strategy<Value = Vec<Writes>> {
    let one = |present: f64| {
        (
            prop_oneof![0_u16..40, 0_u16..900],
            proptest::option::weighted(present, any::<u8>()),
        )
            .prop_map(|(k, v)| (k.to_be_bytes().to_vec(), v.map(|v| vec![v])))
    };
    let block = prop_oneof![
        proptest::collection::vec(one(0.9), 0..400),
        proptest::collection::vec(one(0.5), 0..30),
        proptest::collection::vec(one(0.1), 0..600),
    ];
    proptest::collection::vec(block, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn equals_the_tree_in_memory(
        blocks in blocks(),
        cached in prop_oneof![Just(0_usize), Just(100), Just(1 << 20)],
        reopen in any::<u16>(),
    ) {
        let (mut plain, mut store) = (StateTree::new(), Store::default());
        let mut tree = store.open(cached).unwrap();
        for (i, block) in blocks.iter().enumerate() {
            let before = tree.root();
            let change = tree.change(block, &store).unwrap();
            prop_assert_eq!(tree.root(), before);
            let root = plain.commit(block).unwrap();
            prop_assert_eq!(change.root(), root);
            for k in (0..910_u16).step_by(23) {
                let key = k.to_be_bytes();
                prop_assert_eq!(tree.prove_with(&change, &key, &store).unwrap(), plain.prove(&key));
            }
            let at = store.write(&change);
            tree.apply(&change, &at).unwrap();
            prop_assert_eq!((tree.root(), tree.len()), (root, plain.len()));
            prop_assert_eq!(store.leaves().len(), plain.len());
            // No place is lost or kept for nothing.
            prop_assert_eq!(tree.pages.items.len() - tree.pages.free.len(), store.places.len());
            if reopen >> (i % 16) & 1 == 1 {
                tree = store.open(cached).unwrap();
                prop_assert_eq!(tree.root(), root);
            }
            for k in (0..910_u16).step_by(17) {
                let key = k.to_be_bytes();
                prop_assert_eq!(tree.prove(&key, &store).unwrap(), plain.prove(&key));
            }
        }
        // What is built anew from the leaves is the same tree.
        let leaves = store.leaves();
        let mut anew = Store::default();
        let built = PagedTree::build(
            cached,
            &mut |first| Ok(leaves.iter().rev().filter(|l| l.0.0[0] == first).copied().collect()),
            &mut |place, leaves| Ok(anew.put(*place, leaves)),
        ).unwrap();
        prop_assert_eq!((built.root(), built.len()), (plain.root(), plain.len()));
        let opened = anew.open(cached).unwrap();
        prop_assert_eq!((opened.root(), opened.len()), (plain.root(), plain.len()));
        for k in (0..910_u16).step_by(29) {
            let key = k.to_be_bytes();
            prop_assert_eq!(built.prove(&key, &anew).unwrap(), plain.prove(&key));
        }
        let mut listed = Vec::new();
        built.each_page(&mut |place, page| {
            listed.push((place, usize::try_from(page.at()).unwrap()));
            Ok::<_, Error>(())
        }).unwrap();
        listed.sort_unstable();
        prop_assert_eq!(listed, anew.places.into_iter().collect::<Vec<_>>());
    }
}

fn one(k: u32) -> Writes {
    vec![(k.to_be_bytes().to_vec(), Some(vec![2]))]
}

fn filled(n: u32) -> (PagedTree, Store) {
    let (mut tree, mut store) = (PagedTree::new(0), Store::default());
    let writes = (0..n)
        .map(|i| (i.to_be_bytes().to_vec(), Some(vec![1])))
        .collect();
    carried_out(&mut tree, &mut store, &writes);
    (tree, store)
}

#[test]
fn pages_are_split_and_merged() {
    let (mut tree, mut store) = filled(5_000);
    let pages = store.places.len();
    assert!((5_000 / PAGE_LEAVES..5_000 / 8).contains(&pages), "{pages}");
    let writes = (3..5_000_u32)
        .map(|i| (i.to_be_bytes().to_vec(), None))
        .collect();
    carried_out(&mut tree, &mut store, &writes);
    assert_eq!((tree.len(), store.places.len()), (3, 1));
    assert!(tree.inners.items.len() == tree.inners.free.len());
}

#[test]
fn a_page_is_found_where_it_was_moved_to() {
    let (mut tree, mut store) = filled(300);
    let places: Vec<_> = store.places.clone().into_iter().collect();
    for (place, at) in places {
        let moved = std::mem::take(&mut store.written[at]);
        store.written.push(moved);
        tree.move_page(&place, store.written.len() as u64 - 1);
        assert_eq!(
            tree.page_at(&place).unwrap().at(),
            store.written.len() as u64 - 1
        );
    }
    assert!(tree.page_at(&PagePlace::WHOLE).is_none());
    for k in 0..300_u32 {
        let key = k.to_be_bytes();
        let proof = tree.prove(&key, &store).unwrap();
        proof.verify(&tree.root(), &key, Some(&[1])).unwrap();
    }
}

#[test]
fn a_change_of_another_tree_and_damaged_pages_are_refused() {
    let (mut tree, mut store) = filled(200);
    let second = tree.change(&one(2), &store).unwrap();
    carried_out(&mut tree, &mut store, &one(1));
    assert!(tree.apply(&second, &[]).is_err());

    let key = key_hash(&7_u32.to_be_bytes());
    for damage in [true, false] {
        let mut bad = store.clone();
        for page in &mut bad.written {
            if damage {
                page.iter_mut()
                    .filter(|l| l.0 == key)
                    .for_each(|l| l.1 = Hash([5; 32]));
            } else {
                page.retain(|l| l.0 != key);
            }
        }
        let judged = tree.prove(&7_u32.to_be_bytes(), &bad);
        assert!(matches!(judged, Err(StateError::Tree { .. })), "{judged:?}");
        let judged = tree.change(&one(7), &bad);
        assert!(matches!(judged, Err(StateError::Tree { .. })));
    }
    // One page above others.
    for place in [PagePlace::WHOLE, PagePlace::WHOLE.child(true)] {
        let mut bad = store.clone();
        bad.places.insert(place, 0);
        assert!(bad.open(0).is_err());
    }
}
