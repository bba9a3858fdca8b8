//! Connections that one end, or neither, knows to be dead, as after a cut of the network that closed nothing.

use std::time::Duration;

use crate::common::links::Links;
use crate::common::{TestNetwork, public};
use tally_consensus::peer_id;

const HOUR: Duration = Duration::from_secs(3600);
const ALL: &[usize] = &[0, 1, 2, 3];
/// The node that is cut off.
const CUT: usize = 0;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

async fn network() -> (TestNetwork, Links) {
    let mut net = TestNetwork::new(&[1, 1, 1, 1], HOUR);
    let links = Links::of(&mut net, CUT).await;
    net.start_all().await;
    net.drive(ALL, 5, secs(15)).await;
    (net, links)
}

async fn reset(net: &TestNetwork, from: usize, to: usize) {
    let engine = net.nodes[from].engine.as_ref().unwrap();
    engine.reset_peer(&net.address(from, to)).await.unwrap();
}

/// The three others go on without it, with blocks that fill whatever can be filled on the way to it.
async fn go_on_without(net: &TestNetwork) {
    let target = net.height(1) + 12;
    while net.height(1) < target {
        let next = net.height(1) + 1;
        for part in 0..5 {
            let mut record = vec![part; 60_000];
            record.extend(next.to_be_bytes());
            for node in 1..4 {
                net.nodes[node].shared.submit(&record);
            }
        }
        net.reach(&[1, 2, 3], next, secs(10)).await;
    }
    assert!(net.height(CUT) < target);
}

/// It is in step, and its vote is heard: without it there is no quorum.
async fn is_whole(mut net: TestNetwork) {
    let height = net.height(1);
    net.reach(&[CUT], height, secs(10)).await;
    net.stop(3).await;
    net.drive(&[CUT, 1, 2], height + 4, secs(15)).await;
    net.assert_equal(&[CUT, 1, 2], height + 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_connections_died_unnoticed_is_heard_again_after_a_reset_at_both_ends() {
    let (net, links) = network().await;
    links.cut();
    go_on_without(&net).await;
    tokio::join!(
        reset(&net, CUT, 1),
        reset(&net, CUT, 2),
        reset(&net, CUT, 3),
        reset(&net, 1, CUT),
        reset(&net, 2, CUT),
        reset(&net, 3, CUT),
    );
    is_whole(net).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_one_end_takes_for_a_second_one_is_told_and_a_reset_cures_it() {
    let (net, links) = network().await;
    links.cut();
    go_on_without(&net).await;
    // The others forget the old connections and make new ones. It knows nothing of that, and greets nobody.
    for other in 1..4 {
        reset(&net, other, CUT).await;
    }
    let id = peer_id(&public([net.nodes[CUT].seed + 100; 32])).unwrap();
    let told = async {
        while (1..4).any(|other| {
            let status = net.nodes[other].engine.as_ref().unwrap().status();
            !status.unproven.contains(&id)
        }) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(secs(5), told)
        .await
        .expect("the connections are whole, or nobody says that they are not");
    // The way is free now, so one end is enough: the other hears of it. Its own old ones are dead, so it must be that one.
    for other in 1..4 {
        reset(&net, CUT, other).await;
    }
    is_whole(net).await;
}
