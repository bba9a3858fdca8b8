//! A validator that lies. The engine and the ledger are the real ones; what they are told is not. Its misbehaviour lives in this
//! test alone.
//!
//! It proposes blocks with a wrong state root, a wrong tree, a time of its own, or a record that is in the ledger already; it
//! withholds the parts of its blocks; it votes for whatever is proposed. As twins it is two engines with one consensus key, which
//! sign two proposals and two votes for one round. The others decide one history, keep their time, and say who signed twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use tally_consensus::{
    AppError, Application, CheckContext, CommitError, EngineConfig, EngineHandle, Refusal, Secret,
    Validator, address_with_peer_id, start,
};
use tally_contracts::block::{Block, CommitCertificate};
use tally_contracts::ids::BlockHash;
use tally_ledger::{CheckpointKeys, Checkpoints, Ledger, Options};
use tally_merkle::Hash;
use tally_node::ceremony;
use tally_node::chain::{Chain, ChainApplication, PoolLimits};
use tally_node::config::DataDir;
use tally_node::keys::{KeyStore, NodeKeys};
use tally_node::passphrase::Passphrase;
use tally_node::room::Room;
use tally_tests::{Member, Network, Observer, Place, Scenario};

/// How often each lie is told: at every fourth height it is the liar's turn.
const LIES: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(20);
/// The members that are honest: those before the liar.
const HONEST: [usize; 3] = [0, 1, 2];
const LIAR: usize = 3;
/// Its accomplice, whose transport key lets the second twin in; it has no vote of its own.
const ACCOMPLICE: usize = 4;

/// What the liar does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Lie {
    None,
    StateRoot,
    Tree,
    Time,
    Previous,
    RepeatedRecord,
    Withheld,
    Silence,
    YesToAll,
}

const ALL: [Lie; 8] = [
    Lie::StateRoot,
    Lie::Tree,
    Lie::Time,
    Lie::Previous,
    Lie::RepeatedRecord,
    Lie::Withheld,
    Lie::Silence,
    Lie::YesToAll,
];

/// Shared with the test.
#[derive(Default)]
struct Orders {
    lie: AtomicU8,
    told: AtomicU64,
}

impl Orders {
    fn is(&self, lie: Lie) -> bool {
        self.lie.load(Ordering::Relaxed) == lie as u8
    }
}

/// The real application, misrepresented.
struct Liar {
    inner: ChainApplication,
    ledger: Arc<Ledger>,
    orders: Arc<Orders>,
}

impl Liar {
    /// An honest block, made wrong.
    fn spoil(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let mut block = Block::from_bytes(&bytes)?;
        let header = &mut block.header;
        if self.orders.is(Lie::StateRoot) {
            header.state_root = Hash([9; 32]);
        } else if self.orders.is(Lie::Tree) {
            header.tree_root = Hash([9; 32]);
        } else if self.orders.is(Lie::Time) {
            header.time_ms += 3_600_000;
        } else if self.orders.is(Lie::Previous) {
            header.previous = BlockHash([9; 32]);
        } else if self.orders.is(Lie::RepeatedRecord) {
            let old = (1..=header.height - 1).rev().find_map(|height| {
                let stored = self.ledger.block(height).ok()?;
                Block::from_bytes(&stored.block).ok()?.records.pop()
            });
            block.records.push(old.context("a record in the ledger")?);
            block.header.record_count += 1;
        } else {
            return Ok(bytes);
        }
        self.orders.told.fetch_add(1, Ordering::Relaxed);
        Ok(block.to_bytes())
    }
}

#[async_trait]
impl Application for Liar {
    async fn next_height(&mut self) -> u64 {
        self.inner.next_height().await
    }

    async fn validators(&mut self, height: u64) -> Vec<Validator> {
        self.inner.validators(height).await
    }

    async fn wait_for_work(&mut self) {
        self.inner.wait_for_work().await;
    }

    async fn build_block(&mut self, height: u64, round: u32) -> Result<Vec<u8>, AppError> {
        if self.orders.is(Lie::Silence) {
            self.orders.told.fetch_add(1, Ordering::Relaxed);
            return Err(AppError("silence".into()));
        }
        let honest = self.inner.build_block(height, round).await?;
        self.spoil(honest).map_err(|e| AppError(e.to_string()))
    }

    fn keeps_back(&mut self, _height: u64, _round: u32, _part: u32) -> bool {
        let lies = self.orders.is(Lie::Withheld);
        self.orders
            .told
            .fetch_add(u64::from(lies), Ordering::Relaxed);
        lies
    }

    async fn check_block(
        &mut self,
        height: u64,
        round: u32,
        block: &[u8],
        context: CheckContext,
    ) -> Result<BlockHash, Refusal> {
        let honest = self.inner.check_block(height, round, block, context).await;
        if self.orders.is(Lie::YesToAll) {
            self.orders.told.fetch_add(1, Ordering::Relaxed);
            let block = Block::from_bytes(block).map_err(|e| e.to_string())?;
            return Ok(block.header.hash());
        }
        honest
    }

    async fn commit_block(
        &mut self,
        block: Vec<u8>,
        certificate: CommitCertificate,
    ) -> Result<(), CommitError> {
        self.inner.commit_block(block, certificate).await
    }

    async fn block_at(&mut self, height: u64) -> Option<(Vec<u8>, CommitCertificate)> {
        self.inner.block_at(height).await
    }

    async fn first_height(&mut self) -> u64 {
        self.inner.first_height().await
    }
}

fn open_keys(member: &Member) -> Result<NodeKeys> {
    let passphrase = Passphrase::new("a passphrase of a test".into()).context("passphrase")?;
    Ok(KeyStore::new(member.dir.join("keys")).open_node(&passphrase)?)
}

/// A validator with the liar's vote and the transport of `body`, which runs in this process.
async fn lie(
    network: &Network,
    body: usize,
    folder: &Path,
    orders: &Arc<Orders>,
) -> Result<EngineHandle> {
    let (voter, body) = (&network[LIAR], &network[body]);
    let file = ceremony::load_genesis(&DataDir::new(&body.dir))?;
    let genesis = file.genesis().clone();
    let keys = open_keys(voter)?;
    let transport = open_keys(body)?;
    let entry = |name: &str| genesis.member_by_name(name).context("not a member");
    let member = entry(&voter.name)?;
    let own_node = entry(&body.name)?.nodes.first().context("no node")?;
    let ledger = Arc::new(Ledger::open(
        &folder.join("ledger"),
        file.document(),
        Options::default(),
    )?);
    let checkpoint_keys = CheckpointKeys {
        member: member.name.clone(),
        checkpoint: keys.checkpoint(),
        cosignature: None,
    };
    let checkpoints = Checkpoints::open(&folder.join("ledger"), ledger.network(), checkpoint_keys)?;
    let (chain, _) = Chain::new(
        ledger.clone(),
        Room::new(folder, 0),
        member.id,
        checkpoints,
        PoolLimits::default(),
    );
    let mut config = EngineConfig::new(
        ledger.network(),
        Secret::new(*keys.consensus_seed()),
        Secret::new(*transport.transport_seed()),
        own_node.consensus_addr.clone(),
        folder.join("consensus"),
    );
    config.moniker = Some(format!("liar-{}", body.name));
    let honest: BTreeSet<&str> = HONEST.iter().map(|i| network[*i].name.as_str()).collect();
    for peer in genesis
        .members
        .iter()
        .filter(|m| honest.contains(m.name.as_str()))
    {
        for node in &peer.nodes {
            config
                .peers
                .push(address_with_peer_id(&node.consensus_addr, &node.transport)?);
        }
    }
    let liar = Liar {
        inner: ChainApplication::new(chain),
        ledger,
        orders: orders.clone(),
    };
    Ok(start(config, liar).await?)
}

/// What each honest member has written into its log that contains this text.
fn logged(network: &Network, text: &str) -> usize {
    HONEST
        .iter()
        .map(|i| network[*i].log().matches(text).count())
        .sum()
}

#[test]
fn a_lying_validator_changes_nothing() {
    Scenario::run("byzantine", |scenario| {
        let root = scenario.dir();
        let mut members = Vec::new();
        for (name, roles, power) in [
            ("brand", "brand", 1),
            ("platform", "platform,brand", 1),
            ("media", "media,brand", 1),
            ("liar", "auditor,brand", 1),
            ("accomplice", "auditor,brand", 0),
        ] {
            members.push(Member::init_at(
                root,
                name,
                roles,
                power,
                Place::loopback()?,
            )?);
        }
        let mut network = Network::found_of(root, members, 1_000)?;
        for i in HONEST {
            network[i].start()?;
        }
        for i in HONEST {
            network[i].wait_up(PATIENCE)?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let orders = Arc::new(Orders::default());
        let mut liar = runtime.block_on(lie(&network, LIAR, &root.join("liar-a"), &orders))?;
        let observer = Observer::start_at(scenario, &network, 1, &HONEST)?;
        observer.progress(&HONEST, PATIENCE)?;

        for kind in ALL {
            orders.told.store(0, Ordering::Relaxed);
            let refused = logged(&network, "proposed block refused");
            orders.lie.store(kind as u8, Ordering::Relaxed);
            tally_tests::within(&format!("{kind:?} to be told"), PATIENCE, || {
                orders.told.load(Ordering::Relaxed) >= LIES
            })?;
            let took = observer
                .progress(&HONEST, PATIENCE)
                .with_context(|| format!("{kind:?}"))?;
            let told = orders.told.load(Ordering::Relaxed);
            let refused = logged(&network, "proposed block refused") - refused;
            println!(
                "{kind:?}: told {told} times, refused {refused} times, the others went on after {took:?}"
            );
            ensure!(
                refused > 0 || matches!(kind, Lie::Withheld | Lie::Silence | Lie::YesToAll),
                "{kind:?} was not refused"
            );
            ensure!(liar.status().running, "the liar's engine has stopped");
        }
        orders.lie.store(Lie::None as u8, Ordering::Relaxed);
        observer.progress(&HONEST, PATIENCE)?;

        // Twins.
        let mut twin =
            runtime.block_on(lie(&network, ACCOMPLICE, &root.join("liar-b"), &orders))?;
        let twice = |what: &str| {
            logged(
                &network,
                &format!("validator signed two {what} for one round"),
            )
        };
        let reported =
            tally_tests::until("the twins to be found out", Duration::from_secs(40), || {
                let found = (twice("votes"), twice("proposals"));
                ensure!(found.0 + found.1 > 0, "nobody noticed");
                Ok(found)
            });
        observer.progress(&HONEST, PATIENCE).context("with twins")?;
        let (votes, proposals) = reported?;
        println!("twins: reported for votes {votes} times, for proposals {proposals} times");
        runtime.block_on(async {
            liar.stop().await?;
            twin.stop().await
        })?;
        drop(runtime);

        // An operator puts honest nodes in their place: they have the one history too.
        for i in [LIAR, ACCOMPLICE] {
            network[i].start()?;
            network[i].wait_up(PATIENCE)?;
        }
        let report = observer.finish(&mut network)?;
        println!(
            "{} records, height {}, p50 {} ms, p99 {} ms",
            report.records,
            report.height,
            report.percentile_ms(50),
            report.percentile_ms(99)
        );
        network.stop()
    });
}
