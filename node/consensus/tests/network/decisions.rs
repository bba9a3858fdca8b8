//! Scenarios over real engines on loopback TCP. Each is bounded well under 20 s.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::common::TestNetwork;
use tally_consensus::Error;

const HOUR: Duration = Duration::from_secs(3600);
const ALL: &[usize] = &[0, 1, 2, 3];

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_decide_the_same_twenty_heights_and_then_rest() {
    let mut net = TestNetwork::new(&[1, 1, 1, 1], HOUR);
    let begin = Instant::now();
    net.start_all().await;
    net.reach(ALL, 1, secs(10)).await;
    println!("first block: {:?} after the start", begin.elapsed());
    let begin = Instant::now();
    net.drive(ALL, 20, secs(15)).await;
    println!("19 heights, one record at a time: {:?}", begin.elapsed());
    net.assert_equal(ALL, 20);

    let status = net.nodes[0].engine.as_ref().unwrap().status();
    assert_eq!(status.validators.len(), 4);
    assert!(status.running);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let before: Vec<u64> = ALL.iter().map(|n| net.height(*n)).collect();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let after: Vec<u64> = ALL.iter().map(|n| net.height(*n)).collect();
    assert_eq!(before, after, "an idle network makes no blocks");
    let status = net.nodes[0].engine.as_ref().unwrap().status();
    assert!(status.waiting);
    assert_eq!(status.peers.len(), 3);
    assert_eq!(status.heard.len(), 3);
    assert_eq!(status.height, after[0] + 1);

    // Woken again by a record that only one node knows: the others join it.
    net.nodes[2].shared.submit(b"known to one");
    net.reach(ALL, after[0] + 1, secs(10)).await;
    for n in ALL {
        net.stop(*n).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stops_the_others_go_on_and_it_catches_up() {
    let mut net = TestNetwork::new(&[1, 1, 1, 1], HOUR);
    net.start_all().await;
    net.drive(ALL, 3, secs(10)).await;
    net.stop(1).await;
    let left = &[0, 2, 3];
    let target = net.height(0) + 6;
    net.drive(left, target, secs(18)).await;
    assert!(net.height(1) < target);
    let begin = Instant::now();
    net.start(1).await;
    net.reach(ALL, target, secs(10)).await;
    println!("caught up in {:?}", begin.elapsed());
    let more = net.height(0) + 3;
    net.drive(ALL, more, secs(10)).await;
    net.assert_equal(ALL, more);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_of_one_validator_works_and_restarts() {
    let mut net = TestNetwork::new(&[5], HOUR);
    net.start(0).await;
    net.drive(&[0], 10, secs(10)).await;
    net.stop(0).await;
    net.start(0).await;
    net.drive(&[0], 15, secs(10)).await;
    net.stop(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_stop_and_go_on() {
    let mut net = TestNetwork::new(&[1, 1, 1, 1], HOUR);
    net.start_all().await;
    net.drive(ALL, 5, secs(10)).await;
    for n in ALL {
        net.stop(*n).await;
    }
    let target = net.height(0) + 5;
    net.start_all().await;
    net.drive(ALL, target, secs(15)).await;
    net.assert_equal(ALL, target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_power_follows() {
    let mut net = TestNetwork::new(&[1, 0], Duration::from_millis(200));
    net.start_all().await;
    net.reach(&[0, 1], 8, secs(15)).await;
    net.assert_equal(&[0, 1], 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_quorum_stops_and_comes_back() {
    let mut net = TestNetwork::new(&[1, 1, 1, 1], HOUR);
    net.start_all().await;
    net.drive(ALL, 2, secs(10)).await;
    net.stop(2).await;
    net.stop(3).await;
    let at = net.height(0);
    net.submit(b"while there is no quorum");
    tokio::time::sleep(secs(3)).await;
    assert!(net.height(0) <= at + 1, "two of four decide nothing new");
    net.start(2).await;
    let begin = Instant::now();
    net.reach(&[0, 1, 2], at + 1, secs(12)).await;
    println!("decided {:?} after the third came back", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_stops_the_engine_and_says_why() {
    let mut net = TestNetwork::new(&[1], HOUR);
    net.start(0).await;
    net.drive(&[0], 2, secs(10)).await;
    let at = net.height(0);
    net.nodes[0]
        .shared
        .fail_commit
        .store(true, Ordering::SeqCst);
    net.submit(b"cannot be committed");
    let mut engine = net.nodes[0].engine.take().unwrap();
    let error = tokio::time::timeout(secs(10), engine.ended())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(&error, Error::Halted { height, .. } if *height == at + 1),
        "{error}"
    );
    assert!(!engine.status().running);
    assert_eq!(net.height(0), at);
    // The decided block is still there: it is committed at the next start.
    net.nodes[0]
        .shared
        .fail_commit
        .store(false, Ordering::SeqCst);
    net.start(0).await;
    net.reach(&[0], at + 1, secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_block_is_asked_for_again_and_the_node_goes_on() {
    let mut net = TestNetwork::new(&[1, 1, 1, 1], Duration::from_millis(300));
    net.start_all().await;
    net.drive(&[0, 1, 2, 3], 2, secs(15)).await;
    // Blocks of its own are not refused: who sent them is this node.
    net.nodes[3]
        .shared
        .refuse_commits
        .store(2, Ordering::SeqCst);
    let begun = net.height(3);
    net.drive(&[0, 1, 2], begun + 6, secs(30)).await;
    let refused = || net.nodes[3].shared.refused.load(Ordering::SeqCst);
    net.reach(&[3], begun + 6, secs(30)).await;
    assert_eq!(refused(), 2);
    assert!(net.nodes[3].engine.as_ref().unwrap().status().running);
    // It votes again: with node 0 gone its vote is needed.
    net.stop(0).await;
    let at = net.height(1);
    net.drive(&[1, 2, 3], at + 3, secs(30)).await;
    net.assert_equal(&[1, 2, 3], at + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_nobody_has_rightly_stops_the_engine() {
    let mut net = TestNetwork::new(&[1], HOUR);
    net.start(0).await;
    net.drive(&[0], 1, secs(10)).await;
    net.nodes[0]
        .shared
        .refuse_commits
        .store(9, Ordering::SeqCst);
    net.submit(b"own block");
    let mut engine = net.nodes[0].engine.take().unwrap();
    let ended = tokio::time::timeout(secs(10), engine.ended())
        .await
        .unwrap();
    assert!(matches!(ended, Err(Error::Halted { .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_diverges_halts_instead_of_following() {
    let mut net = TestNetwork::new(&[1, 1, 1, 1], HOUR);
    net.nodes[3].shared.diverge.store(true, Ordering::SeqCst);
    net.start_all().await;
    net.drive(&[0, 1, 2], 3, secs(15)).await;
    let mut engine = net.nodes[3].engine.take().unwrap();
    let error = tokio::time::timeout(secs(10), engine.ended())
        .await
        .unwrap()
        .unwrap_err();
    // It may have proposed a block of its own before; the first of another proposer ends it.
    let at = net.height(3);
    assert!(
        matches!(&error, Error::Halted { height, .. } if *height == at + 1),
        "{error}"
    );
    net.assert_equal(&[0, 1, 2, 3], at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_engines_never_share_a_folder() {
    let mut net = TestNetwork::new(&[1], HOUR);
    net.start(0).await;
    let first = net.nodes[0].engine.take();
    let error = net.try_start(0).await.unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_configurations_are_refused() {
    let net = TestNetwork::new(&[1], HOUR);
    let mut bad = Vec::new();
    let mut config = net.config(0);
    config.listen = "127.0.0.1:1".to_owned();
    bad.push(config);
    let mut config = net.config(0);
    config.listen = "/ip4/127.0.0.1/udp/1".to_owned();
    bad.push(config);
    let mut config = net.config(0);
    config.peers = vec!["nobody".to_owned()];
    bad.push(config);
    let mut config = net.config(0);
    config.timeouts.max = secs(60);
    bad.push(config);
    for config in bad {
        let error = tally_consensus::start(config, net.ledger(0))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
    }
}

/// Each node on a runtime of its own, which is torn down at any moment: what a kill does, as far as one process can.
#[test]
fn torn_down_at_any_moment_nothing_forks_and_all_go_on() {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    println!("seed {seed}");
    let mut random = u64::from(seed) | 1;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let mut net = TestNetwork::new(&[1, 1, 1, 1], Duration::from_millis(50));
    let mut runtimes: Vec<_> = ALL.iter().map(|_| Some(runtime())).collect();
    for n in ALL {
        runtimes[*n].as_ref().unwrap().block_on(net.start(*n));
    }
    let outside = runtime();
    outside.block_on(net.reach(ALL, 2, secs(10)));
    for _ in 0..4 {
        let victim = usize::try_from(next(4)).unwrap();
        std::thread::sleep(Duration::from_millis(next(120)));
        runtimes[victim].take().unwrap().shutdown_timeout(secs(2));
        net.nodes[victim].engine = None;
        std::thread::sleep(Duration::from_millis(next(300)));
        let fresh = runtime();
        let mut tries = 0;
        // The log's thread lets go of its file a little later.
        while let Err(error) = fresh.block_on(net.try_start(victim)) {
            tries += 1;
            assert!(tries < 100, "{error}");
            std::thread::sleep(Duration::from_millis(20));
        }
        runtimes[victim] = Some(fresh);
    }
    let target = ALL.iter().map(|n| net.height(*n)).max().unwrap() + 3;
    outside.block_on(net.reach(ALL, target, secs(15)));
    net.assert_equal(ALL, target);
    for runtime in runtimes.into_iter().flatten() {
        runtime.shutdown_timeout(secs(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_at_the_port_and_a_stranger_change_nothing() {
    use tokio::io::AsyncWriteExt as _;

    let mut net = TestNetwork::new(&[1, 1], Duration::from_millis(100));
    net.start_all().await;
    net.reach(&[0, 1], 2, secs(10)).await;
    for n in 0..20u8 {
        let address = ("127.0.0.1", net.nodes[0].port);
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let garbage: Vec<u8> = (0..=255)
            .cycle()
            .step_by(7)
            .skip(n.into())
            .take(3000)
            .collect();
        let _ = stream.write_all(&garbage).await;
    }
    // A stranger with the right protocol names, but in nobody's list.
    let mut config = net.config(1);
    config.transport_key = tally_consensus::Secret::new([77; 32]);
    config.listen = "/ip4/127.0.0.1/tcp/0".to_owned();
    config.dir = config.dir.with_file_name("stranger");
    config.moniker = Some("stranger".to_owned());
    config.consensus_key = tally_consensus::Secret::new([78; 32]);
    let other = TestNetwork::new(&[1], HOUR);
    let mut stranger = tally_consensus::start(config, other.ledger_of(&net))
        .await
        .unwrap();
    let target = net.height(0) + 10;
    net.reach(&[0, 1], target, secs(10)).await;
    assert_eq!(other.height(0), 0, "a stranger learns nothing");
    assert_eq!(
        net.nodes[0].engine.as_ref().unwrap().status().peers.len(),
        1
    );
    stranger.stop().await.unwrap();
}

/// Not a benchmark, a figure for the record: blocks of 1,000 records of 250 bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput_of_four_nodes_in_one_process() {
    let mut net = TestNetwork::new(&[1, 1, 1, 1], HOUR);
    net.max_records = 1000;
    net.start_all().await;
    net.drive(ALL, 2, secs(10)).await;
    let records = 10_000u32;
    let from = net.height(0);
    for n in 0..records {
        let mut record = vec![0; 250];
        record[..4].copy_from_slice(&n.to_be_bytes());
        net.submit(&record);
    }
    let begin = Instant::now();
    net.reach(ALL, from + 10, secs(18)).await;
    let took = begin.elapsed();
    println!("10 blocks of 1,000 records of 250 bytes: {took:?}");
    net.assert_equal(ALL, from + 10);
}
