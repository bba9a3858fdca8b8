//! Records by the hundred are judged as they are one by one, and the pool keeps its books.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use tally_contracts::Record;
use tally_ledger::sample::{START_MS, SampleNetwork};
use tally_ledger::{CheckpointKeys, Checkpoints, Ledger, Options};

use super::pool::Pool;
use super::{Chain, PoolLimits, now_ms};
use crate::room::Room;

fn chain(network: &SampleNetwork, dir: &std::path::Path) -> Chain {
    let genesis = network.genesis.to_bytes();
    let ledger = Ledger::open(dir, &genesis, Options::default()).unwrap();
    let keys = CheckpointKeys {
        member: "member-0".into(),
        checkpoint: network.key(0, "checkpoint"),
        cosignature: Some(network.key(0, "cosignature")),
    };
    let checkpoints = Checkpoints::open(dir, ledger.network(), keys).unwrap();
    let limits = PoolLimits {
        max_ahead: 60,
        ..PoolLimits::default()
    };
    let room = Room::new(dir, 0);
    Chain::new(
        Arc::new(ledger),
        room,
        network.member(0),
        checkpoints,
        limits,
    )
    .0
}

#[test]
fn many_are_judged_as_one_by_one() {
    let mut network = SampleNetwork::new(1).unwrap();
    let (one_dir, all_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = chain(&network, one_dir.path());
    let all = chain(&network, all_dir.path());
    let mut records: Vec<Vec<u8>> = network
        .records(80, now_ms())
        .unwrap()
        .iter()
        .map(|r| r.bytes().to_vec())
        .collect();
    // What is wrong, each in its own way: signature, form, network's time, twice in one call, garbage.
    let last = records[3].len() - 1;
    records[3][last] ^= 1;
    records[10].push(0);
    records[11] = Vec::new();
    records[20] = records[19].clone();
    let old = network.records(1, START_MS - 90_000_000_000).unwrap();
    records.push(old[0].bytes().to_vec());
    records.swap(30, 60);
    let text = |answer: Result<_, super::SubmitError>| answer.map_err(|e| e.to_string());
    let expected: Vec<_> = records.iter().map(|r| text(one.submit(r))).collect();
    let (first, rest) = records.split_at(37);
    let mut found = Vec::new();
    for part in [first, rest] {
        let part: Vec<&[u8]> = part.iter().map(Vec::as_slice).collect();
        found.extend(all.submit_all(&part).into_iter().map(text));
    }
    assert_eq!(found, expected);
    assert_eq!(one.pool_size(), all.pool_size());
    assert!(expected.iter().filter(|e| e.is_ok()).count() > 50);
    assert!(expected.iter().filter(|e| e.is_err()).count() > 10);
    // All of it again: known records are taken, wrong ones refused as before.
    let again: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let again: Vec<_> = all.submit_all(&again).into_iter().map(text).collect();
    assert_eq!(again, expected);
}

fn records(count: usize) -> Vec<Record> {
    let mut network = SampleNetwork::new(1).unwrap();
    network.records(count, START_MS).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn candidates_are_the_gapless_nonces_whatever_came_and_went(
        steps in proptest::collection::vec((0usize..40, any::<bool>()), 0..120),
        expected in 0u64..20,
    ) {
        let all = records(40);
        let mut pool = Pool::new(PoolLimits::default());
        let mut waiting = HashSet::new();
        for (i, add) in steps {
            if add {
                let new = pool.add(all[i].clone(), true, 0, |_, _| 0).unwrap();
                prop_assert_eq!(new, waiting.insert(i));
            } else {
                prop_assert_eq!(pool.remove(&all[i].id()).is_some(), waiting.remove(&i));
            }
        }
        let nonces = |records: &[Record]| -> Vec<u64> {
            records.iter().map(|r| r.signers()[0].nonce).collect()
        };
        let gapless: Vec<u64> = (expected..40)
            .take_while(|n| waiting.contains(&usize::try_from(*n).unwrap()))
            .collect();
        prop_assert_eq!(nonces(&pool.candidates(1000, usize::MAX, |_, _| expected)), gapless.clone());
        let some = nonces(&pool.candidates(3, usize::MAX, |_, _| expected));
        prop_assert_eq!(&some[..], &gapless[..gapless.len().min(3)]);

        // What the ledger has passed goes, and so does what is late.
        let stale: BTreeMap<_, _> = pool.drop_stale(0, |_, _| expected).into_iter().collect();
        for (i, record) in all.iter().enumerate() {
            let passed = waiting.contains(&i) && (i as u64) < expected;
            prop_assert_eq!(stale.get(&record.id()), passed.then_some(&true));
        }
        prop_assert_eq!(pool.len(), waiting.len() - stale.len());
        let late = pool.drop_stale(u64::MAX, |_, _| expected);
        prop_assert!(late.iter().all(|(_, passed)| !passed));
        prop_assert_eq!((pool.len(), pool.bytes()), (0, 0));
        prop_assert!(pool.candidates(1000, usize::MAX, |_, _| 0).is_empty());
    }
}
