//! A small ledger on disk, and networks of in-process nodes over loopback TCP.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod links;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use tally_consensus::{
    AppError, Application, CheckContext, CommitError, EngineConfig, EngineHandle, Error, Fatal,
    Refusal, Secret, Validator, address_with_peer_id, start, verify_certificate,
};
use tally_contracts::block::{Block, CommitCertificate, Header};
use tally_contracts::ids::{BlockHash, MemberId, NetworkId, PublicKey};
use tally_merkle::Hash;
use tokio::sync::Notify;

pub const NETWORK: NetworkId = NetworkId([0xab; 32]);

/// What a test and its node's ledger share.
#[derive(Default)]
pub struct Shared {
    pool: Mutex<VecDeque<Vec<u8>>>,
    work: Notify,
    pub height: AtomicU64,
    pub fail_commit: AtomicBool,
    /// How many commits of others' blocks are refused from now on.
    pub refuse_commits: AtomicU32,
    pub refused: AtomicU32,
    built: Mutex<Vec<BlockHash>>,
    pub diverge: AtomicBool,
    /// Proposed blocks are too old or too new for this node's clock.
    pub untimely: AtomicBool,
    pub refused_as_untimely: AtomicU32,
}

impl Shared {
    pub fn submit(&self, record: &[u8]) {
        self.pool.lock().unwrap().push_back(record.to_vec());
        self.work.notify_one();
    }
}

pub struct Ledger {
    dir: PathBuf,
    shared: Arc<Shared>,
    validators: Vec<Validator>,
    blocks: Vec<(Vec<u8>, CommitCertificate)>,
    last: (BlockHash, u64),
    heartbeat: Duration,
    last_commit: Instant,
    max_records: usize,
}

impl Ledger {
    pub fn open(
        dir: &Path,
        shared: Arc<Shared>,
        validators: Vec<Validator>,
        heartbeat: Duration,
        max_records: usize,
    ) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut ledger = Self {
            dir: dir.to_owned(),
            shared,
            validators,
            blocks: Vec::new(),
            last: (BlockHash([0; 32]), 0),
            heartbeat,
            last_commit: Instant::now(),
            max_records,
        };
        while let Ok(block) = fs::read(ledger.path(ledger.blocks.len() as u64 + 1, "block")) {
            let certificate =
                fs::read(ledger.path(ledger.blocks.len() as u64 + 1, "cert")).unwrap();
            ledger.keep(block, CommitCertificate::from_bytes(&certificate).unwrap());
        }
        ledger
    }

    fn path(&self, height: u64, what: &str) -> PathBuf {
        self.dir.join(format!("{height:08}.{what}"))
    }

    fn keep(&mut self, block: Vec<u8>, certificate: CommitCertificate) {
        let header = Block::from_bytes(&block).unwrap().header;
        self.last = (header.hash(), header.time_ms);
        self.blocks.push((block, certificate));
        self.last_commit = Instant::now();
        self.shared
            .height
            .store(self.blocks.len() as u64, Ordering::SeqCst);
    }
}

fn root(records: &[Vec<u8>], salt: &[u8]) -> Hash {
    let mut leaves = salt.to_vec();
    for record in records {
        leaves.extend_from_slice(tally_merkle::leaf_hash(record).as_bytes());
    }
    tally_merkle::leaf_hash(&leaves)
}

#[async_trait]
impl Application for Ledger {
    async fn next_height(&mut self) -> u64 {
        self.blocks.len() as u64 + 1
    }

    async fn validators(&mut self, _height: u64) -> Vec<Validator> {
        self.validators.clone()
    }

    async fn wait_for_work(&mut self) {
        loop {
            if !self.shared.pool.lock().unwrap().is_empty() {
                return;
            }
            let left = self.heartbeat.saturating_sub(self.last_commit.elapsed());
            tokio::select! {
                () = self.shared.work.notified() => {}
                () = tokio::time::sleep(left) => return,
            }
        }
    }

    async fn build_block(&mut self, height: u64, _round: u32) -> Result<Vec<u8>, AppError> {
        let pool = self.shared.pool.lock().unwrap();
        let records: Vec<Vec<u8>> = pool.iter().take(self.max_records).cloned().collect();
        let header = Header {
            rules_version: 1,
            network: NETWORK,
            height,
            previous: self.last.0,
            time_ms: self.last.1 + 1,
            record_count: u32::try_from(records.len()).unwrap(),
            tree_size: height,
            tree_root: root(&records, b"tree"),
            state_root: root(&records, b"state"),
            proposer: MemberId([1; 16]),
        };
        self.shared.built.lock().unwrap().push(header.hash());
        Ok(Block { header, records }.to_bytes())
    }

    async fn check_block(
        &mut self,
        height: u64,
        _round: u32,
        block: &[u8],
        context: CheckContext,
    ) -> Result<BlockHash, Refusal> {
        let block = Block::from_bytes(block).map_err(|e| e.to_string())?;
        let header = &block.header;
        if height != self.blocks.len() as u64 + 1
            || header.height != height
            || header.previous != self.last.0
            || header.time_ms <= self.last.1
            || header.tree_root != root(&block.records, b"tree")
        {
            return Err(Refusal::Invalid("does not follow".to_owned()));
        }
        if context == CheckContext::Live && self.shared.untimely.load(Ordering::SeqCst) {
            self.shared
                .refused_as_untimely
                .fetch_add(1, Ordering::SeqCst);
            return Err(Refusal::Untimely("by this node's clock".to_owned()));
        }
        if header.state_root != root(&block.records, b"state")
            || self.shared.diverge.load(Ordering::SeqCst)
        {
            return Err(Refusal::Diverged("state root differs".to_owned()));
        }
        Ok(header.hash())
    }

    async fn commit_block(
        &mut self,
        block: Vec<u8>,
        certificate: CommitCertificate,
    ) -> Result<(), CommitError> {
        if self.shared.fail_commit.load(Ordering::SeqCst) {
            return Err(Fatal("the disk is full".to_owned()).into());
        }
        let left = self.shared.refuse_commits.load(Ordering::SeqCst);
        let own = self
            .shared
            .built
            .lock()
            .unwrap()
            .contains(&certificate.block);
        if left > 0 && (!own || self.validators.len() == 1) {
            self.shared.refuse_commits.store(left - 1, Ordering::SeqCst);
            self.shared.refused.fetch_add(1, Ordering::SeqCst);
            return Err(CommitError::Refused("not the decided block".to_owned()));
        }
        let decoded = Block::from_bytes(&block).unwrap();
        assert_eq!(certificate.block, decoded.header.hash());
        verify_certificate(&NETWORK, &self.validators, &certificate).unwrap();
        let height = self.blocks.len() as u64 + 1;
        fs::write(self.path(height, "cert"), certificate.to_bytes()).unwrap();
        fs::write(self.path(height, "block"), &block).unwrap();
        self.shared
            .pool
            .lock()
            .unwrap()
            .retain(|r| !decoded.records.contains(r));
        self.keep(block, certificate);
        Ok(())
    }

    async fn block_at(&mut self, height: u64) -> Option<(Vec<u8>, CommitCertificate)> {
        let index = usize::try_from(height.checked_sub(1)?).ok()?;
        self.blocks.get(index).cloned()
    }

    async fn first_height(&mut self) -> u64 {
        1
    }
}

pub struct Node {
    pub seed: u8,
    pub port: u16,
    pub dir: PathBuf,
    pub shared: Arc<Shared>,
    pub engine: Option<EngineHandle>,
}

pub struct TestNetwork {
    pub nodes: Vec<Node>,
    pub validators: Vec<Validator>,
    pub heartbeat: Duration,
    pub max_records: usize,
    /// The port by which one node knows another, if it is not the other's own.
    pub routes: HashMap<(usize, usize), u16>,
    _dir: tempfile::TempDir,
}

pub fn public(seed: [u8; 32]) -> PublicKey {
    PublicKey(SigningKey::from_bytes(&seed).verifying_key().to_bytes())
}

/// Ports that are free now, below those that the system gives to connections, so that none takes one before its node starts.
fn free_ports(n: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
        .map(|next| 20_000 + (start + next % 10_000) % 10_000)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .take(n)
        .collect()
}

impl TestNetwork {
    /// `powers` of the nodes; 0 follows without a vote. Idle networks make no block unless `heartbeat` passes.
    pub fn new(powers: &[u64], heartbeat: Duration) -> Self {
        if std::env::var_os("TALLY_TEST_LOG").is_some() {
            let _ = tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_env("TALLY_TEST_LOG"))
                .try_init();
        }
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(powers.len());
        let nodes: Vec<Node> = (1u8..)
            .zip(&ports)
            .map(|(seed, port)| Node {
                seed,
                port: *port,
                dir: dir.path().join(format!("node{seed}")),
                shared: Arc::default(),
                engine: None,
            })
            .collect();
        let validators = nodes
            .iter()
            .zip(powers)
            .map(|(node, power)| Validator {
                key: public([node.seed; 32]),
                power: *power,
            })
            .collect();
        Self {
            nodes,
            validators,
            heartbeat,
            max_records: 100,
            routes: HashMap::new(),
            _dir: dir,
        }
    }

    pub fn config(&self, index: usize) -> EngineConfig {
        let node = &self.nodes[index];
        let mut config = EngineConfig::new(
            NETWORK,
            Secret::new([node.seed; 32]),
            Secret::new([node.seed + 100; 32]),
            format!("/ip4/127.0.0.1/tcp/{}", node.port),
            node.dir.join("consensus"),
        );
        config.peers = self
            .nodes
            .iter()
            .filter(|other| other.seed != node.seed)
            .map(|other| self.address(index, usize::from(other.seed) - 1))
            .collect();
        config.moniker = Some(format!("n{}-{}", node.seed, node.port));
        config
    }

    /// By which one node knows another.
    pub fn address(&self, from: usize, to: usize) -> String {
        let other = &self.nodes[to];
        let port = self.routes.get(&(from, to)).unwrap_or(&other.port);
        let address = format!("/ip4/127.0.0.1/tcp/{port}");
        address_with_peer_id(&address, &public([other.seed + 100; 32])).unwrap()
    }

    pub fn ledger(&self, index: usize) -> Ledger {
        let node = &self.nodes[index];
        Ledger::open(
            &node.dir.join("ledger"),
            Arc::clone(&node.shared),
            self.validators.clone(),
            self.heartbeat,
            self.max_records,
        )
    }

    /// An empty ledger of this network's folder, with the validators of another network.
    pub fn ledger_of(&self, other: &Self) -> Ledger {
        let mut ledger = self.ledger(0);
        ledger.validators.clone_from(&other.validators);
        ledger
    }

    pub async fn start(&mut self, index: usize) {
        self.try_start(index).await.unwrap();
    }

    pub async fn try_start(&mut self, index: usize) -> Result<(), Error> {
        let engine = start(self.config(index), self.ledger(index)).await?;
        self.nodes[index].engine = Some(engine);
        Ok(())
    }

    pub async fn start_all(&mut self) {
        for index in 0..self.nodes.len() {
            self.start(index).await;
        }
    }

    pub async fn stop(&mut self, index: usize) {
        if let Some(mut engine) = self.nodes[index].engine.take() {
            engine.stop().await.unwrap();
        }
    }

    pub fn submit(&self, record: &[u8]) {
        for node in &self.nodes {
            node.shared.submit(record);
        }
    }

    pub fn height(&self, index: usize) -> u64 {
        self.nodes[index].shared.height.load(Ordering::SeqCst)
    }

    /// Waits until every node named has committed `height`.
    pub async fn reach(&self, nodes: &[usize], height: u64, within: Duration) {
        let end = Instant::now() + within;
        while nodes.iter().any(|n| self.height(*n) < height) {
            let at: Vec<u64> = (0..self.nodes.len()).map(|n| self.height(n)).collect();
            assert!(
                Instant::now() < end,
                "height {height} not reached in {within:?}: {at:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Submits one record after the other until the nodes named have committed `height`.
    pub async fn drive(&self, nodes: &[usize], height: u64, within: Duration) {
        let end = Instant::now() + within;
        let mut at = self.height(nodes[0]);
        while at < height {
            self.submit(format!("record {at} {:?}", Instant::now()).as_bytes());
            let left = end.saturating_duration_since(Instant::now());
            self.reach(&nodes[..1], at + 1, left).await;
            at = self.height(nodes[0]);
        }
        self.reach(nodes, height, end.saturating_duration_since(Instant::now()))
            .await;
    }

    /// A block that a node has committed.
    pub fn block(&self, node: usize, height: u64) -> Block {
        let path = self.nodes[node].dir.join("ledger");
        Block::from_bytes(&fs::read(path.join(format!("{height:08}.block"))).unwrap()).unwrap()
    }

    /// The blocks committed by all the nodes named are the same up to `height`.
    pub fn assert_equal(&self, nodes: &[usize], height: u64) {
        for h in 1..=height {
            let block = |n: usize| {
                fs::read(
                    self.nodes[n]
                        .dir
                        .join("ledger")
                        .join(format!("{h:08}.block")),
                )
                .unwrap()
            };
            let first = block(nodes[0]);
            assert!(
                nodes.iter().all(|n| block(*n) == first),
                "height {h} differs"
            );
        }
    }
}
