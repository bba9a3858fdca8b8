//! One node, running: opens what is on disk, wires the rooms together, serves until it is told to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rand_core::{OsRng, RngCore as _};
use tally_consensus::{EngineConfig, EngineHandle, Secret};
use tally_contracts::Roles;
use tally_contracts::genesis::NetworkKind;
use tally_contracts::ids::{MemberId, PublicKey};
use tally_contracts::state;
use tally_ledger::{CheckpointKeys, Checkpoints, Ledger, Options};
use tally_swarm::{Host, HostConfig, Limits, TransportSeed};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::admin;
use crate::audiences::{AudienceError, AudienceStore};
use crate::backup::{Forgotten, Probation};
use crate::ceremony::{self, CeremonyError};
use crate::chain::{
    Chain, ChainApplication, PoolLimits, Submitter, Witness, run_announcing, run_cosigning,
    run_gossip, run_witnessing, serve_blocks,
};
use crate::config::{Config, ConfigError, DataDir};
use crate::dealers::{DealerError, Dealers};
use crate::files::FileError;
use crate::gateway::{Gateway, GatewayConfig, OperatorToken, ProductLinks, ServeLimits, serve};
use crate::issuer::{IssuerError, IssuerMetrics, IssuerStore, has_issuer, reseal};
use crate::keys::{KeyError, KeyStore, NodeKeys};
use crate::matching::{DeskIdentity, MatchDesk, MatchError};
use crate::membership::{self, Again, Follower};
use crate::passphrase::Passphrase;
use crate::proofs;
use crate::room::Room;
use crate::scans::{
    Copies, ScanError, ScanLog, ScanLogConfig, ScanService, ServiceConfig, SharedIndex,
    SystemClock, TaskConfig, run_anchoring, run_retention, run_retries,
};
use crate::sealed::StorageKey;
use crate::snapshots;
use crate::status::Status;
use crate::tiles;
use crate::vitals::VitalsCollector;
use crate::wiring::matching::{
    ChainPort, SwarmPeers, desk_options, desk_policy, run_tidying, serve_matches,
};
use crate::wiring::reconnect::run_reconnecting;
use crate::wiring::{self, LedgerAnchorer, LedgerBook, SwarmForwarder};
use crate::workers::{NodeWorkers, Queue, SharedStore, WorkersError};

/// How long a forwarded scan is waited for.
const FORWARD_DEADLINE: Duration = Duration::from_secs(3);

/// Why a node does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The network was not joined, or is another.
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] tally_ledger::Error),
    /// The member swarm.
    #[error(transparent)]
    Swarm(#[from] tally_swarm::Error),
    /// The consensus engine.
    #[error(transparent)]
    Consensus(#[from] tally_consensus::Error),
    /// The scan log.
    #[error(transparent)]
    Scans(#[from] ScanError),
    /// The issuer's keys and batches.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The list of dealers.
    #[error(transparent)]
    Dealers(#[from] DealerError),
    /// The stored audiences.
    #[error(transparent)]
    Audiences(#[from] AudienceError),
    /// The stored matches.
    #[error(transparent)]
    Matches(#[from] MatchError),
    /// The workers' database or store.
    #[error(transparent)]
    Workers(#[from] WorkersError),
    /// A further gateway of a brand without the issuer's folder: it would take every code for an invented one.
    #[error(
        "{path} holds no issuer's keys: a node with scans.log_id over 0 needs a copy of that folder from the node that issues"
    )]
    NoCodes {
        /// The folder.
        path: PathBuf,
    },
    /// A port or socket that cannot be opened.
    #[error("cannot listen on {address}: {source}; is another node running, or the port taken?")]
    Listen {
        /// The address or path.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of the data directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// Anything that this program should have prevented.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What the parts of a running node share.
pub struct Node {
    /// The configuration.
    pub config: Config,
    /// The node's directory.
    pub dir: DataDir,
    /// The chain.
    pub chain: Chain,
    /// Signs records with the node's records key.
    pub records: Submitter,
    /// Signs agreements with the member's administrator key.
    pub admin: Submitter,
    /// The member swarm.
    pub host: Host,
    /// The consensus engine.
    pub engine: EngineHandle,
    /// The scan log and its verdicts.
    pub scans: Arc<ScanService>,
    /// Who may say what becomes of units.
    pub dealers: Arc<Dealers>,
    /// The member's keys and batches of unit codes.
    pub issuer: Arc<IssuerStore>,
    /// Held while a batch is made and announced.
    pub issuing: tokio::sync::Mutex<()>,
    /// The member's audiences.
    pub audiences: Arc<AudienceStore>,
    /// Held while an audience is read in.
    pub importing: tokio::sync::Mutex<()>,
    /// Asks for matches and answers those of others.
    pub matches: MatchDesk,
    /// Name of the own member.
    pub member_name: String,
    /// The disk that all of it lies on.
    pub room: Room,
    /// Why it does not vote yet, if so.
    pub on_probation: Option<Forgotten>,
}

/// How a node came to its end without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Asked,
    /// Its engine had stopped because the disk was full, and there is room again: it can be run again at once.
    RoomAgain,
    /// It was restored from a backup, has followed long enough, and may vote from its next start on: run it again at once.
    MayVote,
    /// Its engine's log of votes was damaged; run again at once, it follows and does not vote for a while.
    LogSetAside,
    /// The ledger names other keys of it, which it has: it is to be run again at once, with those.
    NewKeys,
    /// Nobody lets it in by its transport key, and a newer one is here: it is to be run again with [`Start::other_transport`]
    /// the other way round.
    OtherTransport,
}

/// How a node is run again after the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Start {
    /// With the newest transport key that was made, whatever the node's own ledger says: a node that was away while its key was
    /// rotated does not know it yet.
    pub other_transport: bool,
}

/// Runs the node of the configuration at `path` until Ctrl-C or SIGTERM. A node whose disk is full stays up and tells why it is
/// read-only; it ends by itself only when there is room again. Then everything it holds is free once the runtime that ran it is
/// shut down, and it is to be run again.
///
/// # Errors
/// [`RunError`] if it cannot start, or if it halted: a node that halted must not be started again without looking into why.
pub async fn run(path: &Path, passphrase: &Passphrase) -> Result<Ended, RunError> {
    run_until(path, passphrase, Start::default(), asked_to_stop()).await
}

/// As [`run`], until `asked_to_stop` resolves: several nodes can run in one process.
///
/// # Errors
/// As [`run`].
pub async fn run_until(
    path: &Path,
    passphrase: &Passphrase,
    start: Start,
    asked_to_stop: impl Future<Output = ()> + Send,
) -> Result<Ended, RunError> {
    let config = Config::load(path)?;
    let operator_token = config.operator_token(path)?;
    let links = config.product_links(path)?;
    let dir = config.data_dir(path);
    let store = KeyStore::new(dir.keys());
    let base = store.open_node(passphrase)?;
    let genesis_file = ceremony::load_genesis(&dir)?;
    let genesis = genesis_file.genesis().clone();

    let ledger = open_ledger(
        dir.ledger(),
        genesis_file.document().to_vec(),
        config.ledger_options(),
    )
    .await?;
    let network = ledger.network();
    let rules = state::rules(ledger.state()).map_err(tally_ledger::Error::from)?;
    if !rules.is_known() {
        let version = rules.rules_version;
        return Err(tally_ledger::Error::Rules { version }.into());
    }
    let mut own = membership::own(
        &ledger,
        &config.member.name,
        &dir.card_file(),
        &store,
        base,
        passphrase,
    )?;
    if start.other_transport {
        let state = ledger.state();
        own.keys = store.untried_transport(own.keys, passphrase, |key| {
            !matches!(state::retired_key(state, key), Ok(None))
        })?;
    }
    let (member, keys) = (own.member.clone(), &own.keys);
    let transport = keys.public().transport;
    let checkpoint_keys = CheckpointKeys {
        member: member.name.clone(),
        checkpoint: keys.checkpoint(),
        cosignature: Some(keys.cosignature()),
    };
    let checkpoints = Checkpoints::open(&dir.ledger(), network, checkpoint_keys)?;
    let limits = PoolLimits::new(
        usize::try_from(config.limits.pool_records).unwrap_or(usize::MAX),
        usize::try_from(config.limits.pool_bytes).unwrap_or(64 << 20),
    );
    let room = Room::new(dir.root(), config.limits.disk_reserve_bytes);
    let (chain, fresh) = Chain::new(ledger.clone(), room.clone(), member.id, checkpoints, limits);

    let host = Host::start(HostConfig {
        secret: TransportSeed::new(keys.transport_seed()),
        listen: vec![config.swarm.listen.clone()],
        limits: Limits {
            max_streams_per_peer: usize::try_from(config.limits.swarm_streams_per_peer)
                .unwrap_or(64),
            ..Limits::default()
        },
    })
    .await?;
    let members = wiring::members(&ledger).map_err(RunError::Internal)?;
    host.set_peers(wiring::swarm_peers(&members))?;
    run_gossip(chain.clone(), host.clone(), fresh)?;
    run_cosigning(chain.clone(), host.clone())?;

    let records = Submitter::new(chain.clone(), keys.records());
    let admin = Submitter::new(chain.clone(), own.admin.signing());
    let log_id = config.scans.log_id;
    let index = config.shared_index(path)?.map(Arc::new);
    // Gateways of one member share the issuer's folder under the member's key, not under this node's.
    let codes_key = index
        .as_ref()
        .map_or_else(|| keys.storage(), |i| i.key.derive("tally/codes/v1"));
    if index.is_some() {
        reseal(&dir.codes(), &keys.storage(), &codes_key)?;
    }
    if log_id > 0 && member.roles.has(Roles::BRAND) && !has_issuer(&dir.codes()) {
        return Err(RunError::NoCodes { path: dir.codes() });
    }
    let dealers = open_dealers(&dir, &keys.storage(), index.as_deref())?;
    let scan_config = ScanLogConfig {
        min_free_bytes: config.limits.disk_reserve_bytes,
        history: Arc::new(Copies {
            threshold_mnat: config.scans.suspect_score,
        }),
        shared: index,
        ..ScanLogConfig::new(dir.scans(), log_id)
    };
    let storage = keys.storage();
    let log = blocking(move || ScanLog::open(&scan_config, &storage)).await??;
    let issuer = open_issuer(&dir, codes_key, member.id, ledger.clone()).await?;
    let book = LedgerBook::new(ledger.clone(), member.id);
    let service = Arc::new(ScanService::new(
        ServiceConfig {
            network,
            member: member.id,
            forward_deadline: FORWARD_DEADLINE,
            cell_length: usize::from(config.scans.cell_length),
        },
        log,
        Arc::new(book.clone()),
        issuer.clone(),
        Arc::new(book),
        Arc::new(SwarmForwarder::new(ledger.clone(), host.clone())),
        Arc::new(keys.records()),
        Arc::new(SystemClock),
    ));
    wiring::serve_forwarded(&host, ledger.clone(), service.clone())?;

    let (audiences, desk) = open_desk(
        &config,
        &dir,
        keys,
        (member.id, transport),
        &chain,
        &records,
        &host,
    )
    .await?;

    let max_skew_ms = state::rules(ledger.state())
        .map_err(|e| RunError::Internal(e.to_string()))?
        .max_skew_ms;
    let probation = Probation::of(&dir, ledger.head().time_ms, max_skew_ms);
    let consensus_seed = match &probation {
        None => keys.consensus_seed(),
        Some(probation) => {
            tracing::warn!(
                seconds = probation.left().as_secs(),
                "{}: this node follows and does not vote until it has seen a block of afterwards",
                probation.why().reason()
            );
            // A key of nobody: what the engine signs with it counts nowhere.
            let mut seed = Zeroizing::new([0; 32]);
            OsRng.fill_bytes(seed.as_mut());
            seed
        }
    };
    let mut engine_config = EngineConfig::new(
        network,
        Secret::new(*consensus_seed),
        Secret::new(*keys.transport_seed()),
        config.consensus.listen.clone(),
        dir.consensus(),
    );
    engine_config.moniker = Some(member.name.clone());
    engine_config.peers = membership::engine_peers(&members, &transport)
        .map_err(RunError::Internal)?
        .into_iter()
        .collect();
    serve_blocks(chain.clone(), &host)?;
    let application = ChainApplication::fetching(chain.clone(), host.clone());
    let mut engine = match tally_consensus::start(engine_config, application).await {
        Ok(engine) => engine,
        Err(error @ tally_consensus::Error::DamagedLog { .. }) => {
            set_log_aside(&dir, &error)?;
            host.shutdown().await;
            return Ok(Ended::LogSetAside);
        }
        Err(error) => return Err(error.into()),
    };

    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (again, mut again_wanted) = watch::channel(None);
    tasks.spawn(membership::run(
        Follower {
            chain: chain.clone(),
            host: host.clone(),
            engine: engine.clone(),
            store,
            own,
            members,
            transport,
            again,
        },
        stop.clone(),
    ));
    let shared = Arc::new(Node {
        dir,
        chain: chain.clone(),
        records: records.clone(),
        admin,
        host: host.clone(),
        engine: engine.clone(),
        scans: service.clone(),
        dealers,
        issuer,
        issuing: tokio::sync::Mutex::default(),
        audiences,
        importing: tokio::sync::Mutex::default(),
        matches: desk.clone(),
        member_name: member.name.clone(),
        room: room.clone(),
        on_probation: probation.as_ref().map(Probation::why),
        config,
    });
    tasks.spawn(run_announcing_until(
        chain.clone(),
        host.clone(),
        stop.clone(),
    ));
    let (watching, watched) = (
        run_reconnecting(ledger.clone(), host.clone(), engine.clone()),
        stop.clone(),
    );
    tasks.spawn(async move {
        tokio::select! {
            () = watching => {}
            () = watched.cancelled() => {}
        }
    });
    let witnesses =
        Witness::parse_all(&shared.config.ledger.witnesses).map_err(RunError::Internal)?;
    let (asking, asked) = (run_witnessing(chain.clone(), witnesses), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = asking => {}
            () = asked.cancelled() => {}
        }
    });
    let task_config = TaskConfig {
        anchor_every: shared.config.scans.anchor_every,
        anchor_after: Duration::from_millis(shared.config.scans.anchor_interval_ms),
        ..TaskConfig::default()
    };
    let anchorer = Arc::new(LedgerAnchorer::new(chain.clone(), records));
    tasks.spawn(run_anchoring(
        service.clone(),
        anchorer,
        log_id,
        task_config,
        stop.clone(),
    ));
    tasks.spawn(run_retries(service.clone(), task_config, stop.clone()));
    if shared.config.scans.retention_days > 0 {
        tasks.spawn(run_retention(
            service.clone(),
            Arc::new(SystemClock),
            shared.config.scans.retention_days,
            stop.clone(),
        ));
    }

    tasks.spawn(snapshots::run_keeping(
        chain.clone(),
        shared.config.ledger.clone(),
        stop.clone(),
    ));
    if let Some(listener) = employ(&shared.config, path, &desk).await? {
        let (desk, stop) = (desk.clone(), stop.clone());
        tasks.spawn(async move { desk.serve_workers(listener, stop).await });
    }
    tasks.spawn(run_tidying(desk.clone(), stop.clone()));
    serve_matches(&host, ledger.clone(), desk.clone(), &tasks, stop.clone())?;

    let listen = shared.config.http.listen.clone();
    let listener = TcpListener::bind(&listen)
        .await
        .map_err(|source| RunError::Listen {
            address: listen,
            source,
        })?;
    tasks.spawn(serve(
        listener,
        routes(
            &shared,
            (&genesis.name, genesis.kind),
            operator_token,
            links,
        ),
        ServeLimits {
            unlimited: shared.config.http.trusted_proxies.clone(),
            ..ServeLimits::default()
        },
        stop.clone(),
    ));
    let socket = shared.dir.root().join(admin::SOCKET);
    let admin_listener = admin::listen(&socket).map_err(|source| RunError::Listen {
        address: socket.display().to_string(),
        source,
    })?;
    tasks.spawn(admin::serve(admin_listener, shared.clone(), stop.clone()));
    tracing::info!(member = %member.name, %network, height = ledger.head().height, http = %shared.config.http.listen, "node is up");

    tokio::pin!(asked_to_stop);
    let ended = tokio::select! {
        result = engine.ended() => match result {
            Err(error) if is_of_full_disk(&error, &ledger, &room) => {
                tracing::error!(%error, "the engine cannot store any more; the node is read-only until there is room");
                tokio::select! {
                    () = room.wait() => Ok(Ended::RoomAgain),
                    () = &mut asked_to_stop => Ok(Ended::Asked),
                }
            }
            Err(error @ tally_consensus::Error::DamagedLog { .. }) => {
                set_log_aside(&shared.dir, &error).map(|()| Ended::LogSetAside)
            }
            result => result.map(|()| Ended::Asked).map_err(RunError::from),
        },
        over = probation_over(probation.as_ref(), &chain) => over.map(|()| Ended::MayVote),
        () = &mut asked_to_stop => Ok(Ended::Asked),
        why = wanted(&mut again_wanted) => Ok(match why {
            Again::Keys => Ended::NewKeys,
            Again::Transport => Ended::OtherTransport,
        }),
    };
    tracing::info!("stopping");
    stop.cancel();
    tasks.close();
    // While the engine still runs, so that budget reserved for a match can go back.
    let _ = tokio::time::timeout(Duration::from_secs(8), async {
        desk.stop().await;
        tasks.wait().await;
    })
    .await;
    let is_well = matches!(
        ended,
        Ok(Ended::Asked | Ended::MayVote | Ended::NewKeys | Ended::OtherTransport)
    );
    if is_well && engine.status().running {
        engine.stop().await?;
    }
    host.shutdown().await;
    let _ = std::fs::remove_file(&socket);
    // After a full disk the state store may refuse; what it lacks follows from the blocks at the next start.
    let was_full = matches!(ended, Ok(Ended::RoomAgain)) || room.lacking().is_some();
    if !was_full && ledger.read_only().is_none() {
        blocking(move || ledger.flush()).await??;
    }
    ended
}

/// A node that does not know how it voted is in the position of one that was restored: it follows until nothing that it may have
/// voted for is open. Its damaged log is kept for whoever wants to look into it.
fn set_log_aside(dir: &DataDir, error: &tally_consensus::Error) -> Result<(), RunError> {
    let log = dir.consensus().join("wal").join("consensus.wal");
    let aside = log.with_extension("wal.damaged");
    Probation::impose(dir, Forgotten::DamagedLog)?;
    std::fs::rename(&log, &aside).map_err(FileError::new("rename", &log))?;
    tracing::error!(
        %error, kept = %aside.display(),
        "this node follows the others and does not vote until they have decided a block that it cannot have voted for"
    );
    Ok(())
}

/// Resolves when a probation is over; never without one.
async fn probation_over(probation: Option<&Probation>, chain: &Chain) -> Result<(), RunError> {
    match probation {
        Some(probation) => Ok(probation.over(chain.heads()).await?),
        None => std::future::pending().await,
    }
}

/// Whether the engine ended for want of room. A ledger that halted without being read-only did so for another reason, which
/// must be looked into whatever the disk is like.
fn is_of_full_disk(error: &tally_consensus::Error, ledger: &Ledger, room: &Room) -> bool {
    let halted = matches!(error, tally_consensus::Error::Halted { .. });
    room.lacking().is_some() && (!halted || ledger.read_only().is_some())
}

/// Resolves when the node is to be started again.
async fn wanted(again: &mut watch::Receiver<Option<Again>>) -> Again {
    match again.wait_for(Option::is_some).await.map(|why| *why) {
        Ok(Some(why)) => why,
        // Nobody follows the members any more: then nothing is asked for.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

async fn run_announcing_until(chain: Chain, host: Host, stop: CancellationToken) {
    tokio::select! {
        () = run_announcing(chain, host) => {}
        () = stop.cancelled() => {}
    }
}

/// The dealers: of all gateways where they share an index, else of this node.
fn open_dealers(
    dir: &DataDir,
    storage: &StorageKey,
    index: Option<&SharedIndex>,
) -> Result<Arc<Dealers>, DealerError> {
    let file = dir.scans().join("dealers");
    let dealers = match index {
        Some(index) => {
            if file.exists() {
                tracing::warn!(
                    "the gateways of this member share one list of dealers; the one of this node alone is not used any more: add its \
                     dealers again with --have-key"
                );
            }
            Dealers::shared(index)?
        }
        None => Dealers::open(&file, storage)?,
    };
    Ok(Arc::new(dealers))
}

fn routes(
    node: &Arc<Node>,
    (network_name, kind): (&str, NetworkKind),
    operator_token: Option<OperatorToken>,
    links: ProductLinks,
) -> Router {
    let mut config =
        GatewayConfig::new(&node.config.http.base_url, network_name, &node.member_name);
    config.test_network = kind == NetworkKind::Test;
    config.operator_token = operator_token;
    config.links = links;
    config.dealers = Some(node.dealers.clone());
    config
        .trusted_proxies
        .clone_from(&node.config.http.trusted_proxies);
    config.place_header = node.config.place_header();
    config.contact.clone_from(&node.config.http.contact);
    config.max_body_bytes = usize::try_from(node.config.limits.http_body_bytes).unwrap_or(64 << 10);
    config.max_requests = usize::try_from(node.config.limits.http_concurrent).unwrap_or(512);
    let mut registry = prometheus_client::registry::Registry::default();
    node.host.register_metrics(&mut registry);
    registry.register_collector(Box::new(VitalsCollector::new(node)));
    registry.register_collector(Box::new(IssuerMetrics::new(node.issuer.clone())));
    let gateway = Gateway::new(
        config,
        node.scans.clone(),
        Arc::new(Status::new(node.clone())),
        registry,
    );
    let more = tiles::router(node.chain.clone()).merge(snapshots::router(node.chain.clone()));
    let proofs = proofs::router(
        node.chain.clone(),
        node.scans.clone(),
        node.issuer.clone(),
        gateway.clone(),
    );
    gateway.router(more.merge(proofs))
}

/// Opens the ledger off the runtime's threads: it may have many blocks to carry out.
async fn open_ledger(
    dir: PathBuf,
    genesis: Vec<u8>,
    options: Options,
) -> Result<Arc<Ledger>, RunError> {
    Ok(Arc::new(
        blocking(move || Ledger::open(&dir, &genesis, options)).await??,
    ))
}

/// Opens the issuer's store; its batches are read from disk.
async fn open_issuer(
    dir: &DataDir,
    key: StorageKey,
    owner: MemberId,
    ledger: Arc<Ledger>,
) -> Result<Arc<IssuerStore>, RunError> {
    let codes = dir.codes();
    Ok(Arc::new(
        blocking(move || IssuerStore::open(codes, key, owner, ledger)).await??,
    ))
}

/// Opens the stored audiences and matches, and the desk over them.
async fn open_desk(
    config: &Config,
    dir: &DataDir,
    keys: &NodeKeys,
    (member, node): (MemberId, PublicKey),
    chain: &Chain,
    records: &Submitter,
    host: &Host,
) -> Result<(Arc<AudienceStore>, MatchDesk), RunError> {
    let (audiences, matches) = (dir.audiences(), dir.matches());
    let storage = keys.storage();
    let identity = DeskIdentity {
        member,
        node,
        records: keys.records(),
    };
    let options = desk_options(&config.matches);
    let policy = desk_policy(&config.matches);
    let ledger = Arc::new(ChainPort::new(chain.clone(), records.clone()));
    let peers = Arc::new(SwarmPeers::new(
        chain.ledger().clone(),
        host.clone(),
        &options,
    ));
    blocking(move || {
        let audiences = Arc::new(AudienceStore::open(&audiences, &storage)?);
        let desk = MatchDesk::open(
            &matches,
            &storage,
            identity,
            ledger,
            peers,
            audiences.clone(),
            policy,
            options,
        )?;
        Ok((audiences, desk))
    })
    .await?
}

/// Lets the desk use workers, if the configuration names some, and opens the port where they connect.
async fn employ(
    config: &Config,
    path: &Path,
    desk: &MatchDesk,
) -> Result<Option<TcpListener>, RunError> {
    let Some(database) = config.workers_database(path)? else {
        return Ok(None);
    };
    let section = &config.workers;
    desk.use_workers(NodeWorkers {
        queue: Queue::new(&database)?,
        store: SharedStore::open(&section.store)?,
        key: database.key,
        address: section.address().to_owned(),
        patience: Duration::from_millis(section.patience_ms),
    });
    let listener = TcpListener::bind(&section.listen).await;
    listener.map(Some).map_err(|source| RunError::Listen {
        address: section.listen.clone(),
        source,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RunError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| RunError::Internal(e.to_string()))
}

/// Resolves on Ctrl-C or SIGTERM.
pub async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(e) => {
            tracing::error!(error = %e, "SIGTERM cannot be waited for; only Ctrl-C stops this node");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
