//! A block on which validators are locked is decided with the vote of one that saw it too late to judge its time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::TestNetwork;
use crate::common::links::Links;

const HOUR: Duration = Duration::from_secs(3600);
/// It proposes the block and votes for it, and hears nothing.
const DEAF: usize = 2;
/// It is away meanwhile.
const LATE: usize = 3;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The node whose turn it is to propose first at a height: by ascending keys.
fn proposer(net: &TestNetwork, height: u64) -> usize {
    let mut keys: Vec<_> = (0..).zip(net.validators.iter().map(|v| v.key)).collect();
    keys.sort_by_key(|(_, key)| *key);
    let turn = usize::try_from(height).unwrap() % keys.len();
    keys[turn].0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_votes_for_a_locked_block_whatever_its_clock_says() {
    let mut net = TestNetwork::new(&[1, 1, 1, 1], HOUR);
    let links = Links::of(&mut net, DEAF).await;
    for node in [0, 1, DEAF] {
        net.start(node).await;
    }
    net.drive(&[0, 1, DEAF], 3, secs(15)).await;
    while proposer(&net, net.height(0) + 1) != DEAF {
        net.drive(&[0, 1, DEAF], net.height(0) + 1, secs(10)).await;
    }
    let height = net.height(0) + 1;
    links.deafen();
    net.nodes[DEAF].shared.submit(b"that two are locked on");
    // Its prevote makes a polka with theirs; its precommit never comes, since it does not see the polka.
    tokio::time::sleep(secs(3)).await;
    assert_eq!(net.height(0), height - 1, "two of four decided");
    net.stop(DEAF).await;

    net.nodes[LATE]
        .shared
        .untimely
        .store(true, Ordering::SeqCst);
    net.start(LATE).await;
    net.reach(&[0, 1, LATE], height, secs(20)).await;
    net.assert_equal(&[0, 1, LATE], height);
    let block = net.block(LATE, height);
    assert_eq!(
        block.records,
        [b"that two are locked on"],
        "another block was decided"
    );
    // Of a block that it sees fresh it judges the time: only its own are decided with its vote.
    let fresh = net.nodes[LATE]
        .shared
        .refused_as_untimely
        .load(Ordering::SeqCst);
    net.submit(b"fresh");
    net.reach(&[0, 1, LATE], height + 1, secs(20)).await;
    let later = net.nodes[LATE]
        .shared
        .refused_as_untimely
        .load(Ordering::SeqCst);
    assert!(proposer(&net, height + 1) == LATE || later > fresh);
}
