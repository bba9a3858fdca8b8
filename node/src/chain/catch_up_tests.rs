//! A node that is far behind takes blocks many at a time. Two nodes of a network whose other validators are away: one has the blocks,
//! one has none.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use tally_consensus::{EngineConfig, EngineHandle, Secret, address_with_peer_id};
use tally_contracts::block::Block;
use tally_contracts::ids::PublicKey;
use tally_ledger::sample::{START_MS, SampleNetwork};
use tally_ledger::{CheckpointKeys, Checkpoints, Ledger, Options};
use tally_swarm::{Host, HostConfig, Limits, Peer, ServeLimits, TransportSeed};
use zeroize::Zeroizing;

use super::blocks::{decode_request, encode_answer};
use super::{Chain, ChainApplication, PoolLimits, serve_blocks};
use crate::room::Room;

/// The member that has all blocks, and the one that has none.
const FULL: usize = 0;
const BEHIND: usize = 3;
const PROTOCOL: &str = "/tally/blocks/1";

/// Writes a ledger of so many blocks; gives its network.
fn write_ledger(dir: &Path, blocks: usize, records: usize) -> SampleNetwork {
    let mut network = SampleNetwork::new(4).unwrap();
    let ledger = Ledger::open(dir, &network.genesis.to_bytes(), Options::default()).unwrap();
    let mut time_ms = START_MS;
    for _ in 0..blocks {
        time_ms += 1_000;
        let records = network.records(records, time_ms).unwrap();
        let prepared = ledger
            .prepare(&records, time_ms, network.member(0), &|_| None)
            .unwrap();
        let certificate = network.certificate(&prepared.block.header, 3);
        ledger
            .commit(&prepared.block.to_bytes(), &certificate, &|_| None)
            .unwrap();
    }
    network
}

fn free_port() -> u16 {
    std::iter::repeat_with(|| rand::thread_rng().gen_range(20_000..30_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

struct Node {
    chain: Chain,
    host: Host,
    dir: PathBuf,
    port: u16,
    seed: [u8; 32],
    key: PublicKey,
}

impl Node {
    async fn new(network: &SampleNetwork, member: usize, dir: &Path) -> Self {
        let transport = network.key(member, "transport");
        let seed = transport.to_bytes();
        let genesis = network.genesis.to_bytes();
        let ledger = Arc::new(Ledger::open(dir, &genesis, Options::default()).unwrap());
        let keys = CheckpointKeys {
            member: format!("member-{member}"),
            checkpoint: network.key(member, "checkpoint"),
            cosignature: Some(network.key(member, "cosignature")),
        };
        let checkpoints = Checkpoints::open(dir, ledger.network(), keys).unwrap();
        let room = Room::new(dir, 0);
        let member = network.member(member);
        let (chain, _) = Chain::new(ledger, room, member, checkpoints, PoolLimits::default());
        let host = Host::start(HostConfig {
            secret: TransportSeed::new(Zeroizing::new(seed)),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            limits: Limits::default(),
        })
        .await
        .unwrap();
        Self {
            chain,
            host,
            dir: dir.to_owned(),
            port: free_port(),
            seed,
            key: PublicKey::from(&transport),
        }
    }

    fn peer(&self) -> Peer {
        Peer {
            key: self.key.0,
            addr: self.host.listen_addrs()[0].clone(),
            label: "peer".into(),
        }
    }

    /// Starts its engine, which knows that of `other` if it is to.
    async fn engine(
        &self,
        network: &SampleNetwork,
        member: usize,
        other: Option<&Self>,
        application: ChainApplication,
    ) -> EngineHandle {
        let mut config = EngineConfig::new(
            network.genesis.network_id(),
            Secret::new(network.key(member, "consensus").to_bytes()),
            Secret::new(self.seed),
            format!("/ip4/127.0.0.1/tcp/{}", self.port),
            self.dir.join("consensus"),
        );
        config.moniker = Some(format!("member-{member}-{}", self.port));
        let address = |other: &Self| {
            let address = format!("/ip4/127.0.0.1/tcp/{}", other.port);
            address_with_peer_id(&address, &other.key).unwrap()
        };
        config.peers = other.into_iter().map(address).collect();
        tally_consensus::start(config, application).await.unwrap()
    }

    async fn reach(&self, height: u64, within: Duration) {
        let mut heads = self.chain.heads();
        tokio::time::timeout(within, heads.wait_for(|head| head.height >= height))
            .await
            .unwrap_or_else(|_| panic!("at {} of {height}", self.chain.ledger().head().height))
            .unwrap();
    }
}

/// The two nodes, and the height of the one that has blocks.
async fn two(blocks: usize, records: usize) -> (SampleNetwork, tempfile::TempDir, Node, Node) {
    let dir = tempfile::tempdir().unwrap();
    let network = write_ledger(&dir.path().join("full"), blocks, records);
    let full = Node::new(&network, FULL, &dir.path().join("full")).await;
    let behind = Node::new(&network, BEHIND, &dir.path().join("behind")).await;
    (network, dir, full, behind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_come_many_at_a_time_before_the_engine_begins() {
    // More than one answer holds.
    let (network, _dir, full, behind) = two(700, 1).await;
    serve_blocks(full.chain.clone(), &full.host).unwrap();
    full.host.set_peers(vec![behind.peer()]).unwrap();
    behind.host.set_peers(vec![full.peer()]).unwrap();
    // The engines do not know each other: what comes comes this way.
    let application = ChainApplication::fetching(behind.chain.clone(), behind.host.clone());
    let mut engine = behind.engine(&network, BEHIND, None, application).await;
    behind.reach(700 - 15, Duration::from_secs(30)).await;
    let (here, there) = (behind.chain.ledger(), full.chain.ledger());
    // Nearer than that the engine goes on by itself; here it has nobody to ask.
    let mut status = engine.watch();
    let height = here.head().height;
    tokio::time::timeout(
        Duration::from_secs(10),
        status.wait_for(|status| status.height > height && status.proposer.is_some()),
    )
    .await
    .expect("the engine does not begin")
    .unwrap();
    let last = here.block(height).unwrap();
    assert_eq!(last, there.block(height).unwrap());
    let header = Block::from_bytes(&last.block).unwrap().header;
    assert_eq!(
        (here.head().height, here.head().hash),
        (height, header.hash())
    );
    engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_hands_over_rubbish_is_left_for_the_engine() {
    let (network, _dir, full, behind) = two(40, 1).await;
    full.host.set_peers(vec![behind.peer()]).unwrap();
    behind.host.set_peers(vec![full.peer()]).unwrap();
    // Real blocks, of which one lacks a signature.
    let chain = full.chain.clone();
    full.host
        .serve(PROTOCOL, ServeLimits::default(), move |_, request| {
            let ledger = chain.ledger().clone();
            async move {
                let from = decode_request(&request).unwrap();
                let blocks: Vec<_> = (from..=40)
                    .map(|height| {
                        let stored = ledger.block(height).unwrap();
                        let mut bytes = stored.certificate;
                        if height == 7 {
                            let at = bytes.len() - 1;
                            bytes[at] ^= 1;
                        }
                        (stored.block, bytes)
                    })
                    .collect();
                Ok(encode_answer(1_000_000, &blocks))
            }
        })
        .unwrap();
    let mut other = full
        .engine(
            &network,
            FULL,
            Some(&behind),
            ChainApplication::new(full.chain.clone()),
        )
        .await;
    let application = ChainApplication::fetching(behind.chain.clone(), behind.host.clone());
    let mut engine = behind
        .engine(&network, BEHIND, Some(&full), application)
        .await;
    behind.reach(40, Duration::from_secs(60)).await;
    assert_eq!(behind.chain.ledger().head(), full.chain.ledger().head());
    assert_eq!(behind.chain.ledger().read_only(), None);
    engine.stop().await.unwrap();
    other.stop().await.unwrap();
}

/// `TALLY_BLOCKS` blocks (5,000) of `TALLY_RECORDS` records (1), by the engine alone and many at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures: run it alone, with --nocapture"]
async fn how_fast_a_node_catches_up() {
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let (blocks, records) = (number("TALLY_BLOCKS", 5_000), number("TALLY_RECORDS", 1));
    for (what, count, fetches) in [
        ("by the engine alone", blocks.min(1_000), false),
        ("many at a time", blocks, true),
    ] {
        let (network, _dir, full, behind) = two(count, records).await;
        serve_blocks(full.chain.clone(), &full.host).unwrap();
        full.host.set_peers(vec![behind.peer()]).unwrap();
        behind.host.set_peers(vec![full.peer()]).unwrap();
        let application = ChainApplication::new(full.chain.clone());
        let mut other = full
            .engine(&network, FULL, Some(&behind), application)
            .await;
        let application = if fetches {
            ChainApplication::fetching(behind.chain.clone(), behind.host.clone())
        } else {
            ChainApplication::new(behind.chain.clone())
        };
        let mut engine = behind
            .engine(&network, BEHIND, Some(&full), application)
            .await;
        // The first block is waited for: what a connection takes is not measured.
        behind.reach(1, Duration::from_secs(60)).await;
        let (begun, first) = (Instant::now(), behind.chain.ledger().head().height);
        behind.reach(count as u64, Duration::from_secs(1_800)).await;
        let seconds = begun.elapsed().as_secs_f64();
        let came = count as u64 - first;
        println!(
            "{what}: {came} blocks of {records} records in {seconds:.2} s, {:.0} blocks/s",
            came as f64 / seconds
        );
        engine.stop().await.unwrap();
        other.stop().await.unwrap();
    }
}
