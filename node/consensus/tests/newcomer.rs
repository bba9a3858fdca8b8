//! A validator that comes when the others run: they learn of it one after the other, it follows with a key of nobody at first, starts
//! again with its own, and then nothing is decided without it.

mod common;

use std::time::Duration;

use common::TestNetwork;

const HOUR: Duration = Duration::from_secs(3600);
const NEW: usize = 4;
const FOUNDERS: &[usize] = &[0, 1, 2, 3];

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

async fn a_vote_of_a_newcomer_counts() {
    let mut net = TestNetwork::new(&[1, 1, 1, 1, 1], HOUR);
    net.newcomer = Some(NEW);
    net.on_probation = Some(NEW);
    for founder in FOUNDERS {
        net.start(*founder).await;
    }
    net.drive(FOUNDERS, 5, secs(15)).await;
    net.start(NEW).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for founder in FOUNDERS {
        let address = net.address(*founder, NEW);
        let engine = net.nodes[*founder].engine.as_ref().unwrap();
        engine.add_peer(&address).await.unwrap();
    }
    let height = net.height(0) + 5;
    net.drive(&[0, 1, 2, 3, NEW], height, secs(20)).await;
    net.on_probation = None;
    net.stop(NEW).await;
    net.start(NEW).await;
    let height = net.height(0) + 5;
    net.drive(&[0, 1, 2, 3, NEW], height, secs(20)).await;
    net.stop(3).await;
    let height = net.height(0) + 5;
    net.drive(&[0, 1, 2, NEW], height, secs(20)).await;
    net.assert_equal(&[0, 1, 2, NEW], height);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_decided_without_the_newcomer() {
    a_vote_of_a_newcomer_counts().await;
}
