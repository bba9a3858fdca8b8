use std::sync::Arc;

use tally_consensus::{Application, CommitError, Fatal};
use tally_contracts::envelope::{Signer, Unsigned};
use tally_contracts::ids::PublicKey;
use tally_ledger::sample::{START_MS, SampleNetwork};
use tally_ledger::{CheckpointKeys, Checkpoints, Ledger, Options};

use super::pool::Pool;
use super::*;

fn chain(network: &SampleNetwork, dir: &std::path::Path) -> Chain {
    let genesis = network.genesis.to_bytes();
    let ledger = Arc::new(Ledger::open(dir, &genesis, Options::default()).unwrap());
    let keys = CheckpointKeys {
        member: "member-0".into(),
        checkpoint: network.key(0, "checkpoint"),
        cosignature: Some(network.key(0, "cosignature")),
    };
    let checkpoints = Checkpoints::open(dir, ledger.network(), keys).unwrap();
    Chain::new(
        ledger,
        Room::new(dir, 0),
        network.member(0),
        checkpoints,
        PoolLimits::default(),
    )
    .0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_its_sender_spoiled_is_refused_and_the_right_one_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = SampleNetwork::new(4).unwrap();
    let chain = chain(&network, dir.path());
    let time_ms = START_MS + 1_000;
    let records = network.records(3, time_ms).unwrap();
    let prepared = chain
        .ledger()
        .prepare(&records, time_ms, network.member(1), &|_| None)
        .unwrap();
    let block = prepared.block.to_bytes();
    let header = &prepared.block.header;
    let good = network.certificate(header, 3);
    let mut app = ChainApplication::new(chain.clone());

    let refused = |result: Result<(), CommitError>| {
        assert!(matches!(result, Err(CommitError::Refused(_))), "{result:?}");
        assert_eq!(chain.ledger().head().height, 0);
        assert_eq!(chain.ledger().read_only(), None);
    };
    // Rubbish, a block without one of its records, a certificate of too few, one with a wrong signature.
    refused(app.commit_block(b"rubbish".to_vec(), good.clone()).await);
    let mut cut = prepared.block.clone();
    cut.records.pop();
    refused(app.commit_block(cut.to_bytes(), good.clone()).await);
    let few = network.certificate(header, 2);
    refused(app.commit_block(block.clone(), few).await);
    let mut forged = good.clone();
    forged.signatures[0].signature.0[7] ^= 1;
    refused(app.commit_block(block.clone(), forged).await);

    app.commit_block(block, good).await.unwrap();
    assert_eq!(chain.ledger().head().height, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decided_block_that_does_not_follow_stops_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let network = SampleNetwork::new(4).unwrap();
    let chain = chain(&network, dir.path());
    let mut block = chain
        .ledger()
        .prepare(&[], START_MS + 1_000, network.member(1), &|_| None)
        .unwrap()
        .block;
    // Decided by the others, with another state than this node gets; without records no entry repeats it.
    block.header.state_root = Hash([9; 32]);
    let certificate = network.certificate(&block.header, 3);
    let mut app = ChainApplication::new(chain);
    let result = app.commit_block(block.to_bytes(), certificate).await;
    assert!(
        matches!(result, Err(CommitError::Fatal(Fatal(_)))),
        "{result:?}"
    );
}

#[test]
fn the_pool_is_bounded_in_records() {
    let mut network = SampleNetwork::new(1).unwrap();
    let mut pool = Pool::new(PoolLimits {
        max_records: 2,
        ..PoolLimits::default()
    });
    let records = network.records(3, START_MS).unwrap();
    let mut add = |i: usize| pool.add(records[i].clone(), true, 0, |_, _| 0);
    assert_eq!(add(0), Ok(true));
    assert_eq!(add(1), Ok(true));
    // One that is there needs no room.
    assert_eq!(add(0), Ok(false));
    let full = PoolError::TooMany {
        what: "all members",
        max: 2,
    };
    assert_eq!(add(2), Err(full));
    pool.remove(&records[0].id());
    assert_eq!(pool.add(records[2].clone(), true, 0, |_, _| 0), Ok(true));
}

#[test]
fn one_member_cannot_fill_the_pool() {
    let mut network = SampleNetwork::new(2).unwrap();
    let mut pool = Pool::new(PoolLimits::new(40, 1 << 20));
    let mine = network.records(30, START_MS).unwrap();
    let key = network.key(1, "records");
    let theirs: Vec<Record> = (0..10)
        .map(|nonce| {
            let signer = Signer::new(network.member(1), &PublicKey::from(&key), nonce);
            let body = mine[0].body().unwrap();
            Unsigned::new(network.genesis.network_id(), START_MS, vec![signer], &body)
                .sign(&[&key])
                .unwrap()
        })
        .collect();
    let full = Err(PoolError::TooMany {
        what: "this member",
        max: 10,
    });
    for (i, record) in mine.iter().enumerate() {
        let room = pool.check(record, |_, _| 0);
        let added = pool.add(record.clone(), true, 0, |_, _| 0);
        assert_eq!(added.clone().map(drop), room);
        assert_eq!(room, if i < 10 { Ok(()) } else { full.clone() });
    }
    for record in &theirs {
        assert_eq!(pool.add(record.clone(), true, 0, |_, _| 0), Ok(true));
    }
    assert_eq!(pool.len(), 20);
    pool.remove(&mine[3].id());
    assert_eq!(pool.add(mine[12].clone(), true, 0, |_, _| 0), Ok(true));
}
