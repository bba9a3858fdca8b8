//! The test network: members, ledger, streams.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use rand_core::OsRng;
use tally_contracts::apply::{Context, check_and_apply, genesis_effects};
use tally_contracts::envelope::Signer;
use tally_contracts::ids::{
    AgreementId, KeyId, MemberId, NetworkId, PublicKey, RecordId, SessionId, Signature,
};
use tally_contracts::records::{
    AcceptAgreement, Body, BudgetCap, Computation, Kind, Noise, ProposeAgreement, Suite,
};
use tally_contracts::refusal::ApplyError;
use tally_contracts::state::{
    self, Budget, MatchState, MemoryState, Pair, StateError, StateRead, keys,
};
use tally_contracts::{
    Genesis, MemberEntry, NetworkKind, NodeEntry, Record, Roles, Rules, Unsigned,
};
use tally_measure::{ImportOptions, import};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::OwnedMutexGuard;

use crate::audiences::AudienceStore;
use crate::matching::*;
use crate::psi_wire::Deadlines;
use crate::sealed::StorageKey;

pub(super) const NAMES: [&str; 4] = ["brand", "media", "other", "auditor"];

/// Which key of a member: 0 administrator, 1 to 5 of its node.
fn key(member: usize, which: u8) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(member).unwrap() * 16 + which + 1; 32])
}

pub(super) fn records_key(member: usize) -> SigningKey {
    key(member, 5)
}

fn entry(member: usize) -> MemberEntry {
    let port = 7000 + 10 * member;
    let node = NodeEntry {
        transport: PublicKey::from(&key(member, 1)),
        consensus: PublicKey::from(&key(member, 2)),
        checkpoint: PublicKey::from(&key(member, 3)),
        cosignature: PublicKey::from(&key(member, 4)),
        records: PublicKey::from(&records_key(member)),
        power: 1,
        consensus_addr: format!("/ip4/127.0.0.1/tcp/{port}"),
        swarm_addr: format!("/ip4/127.0.0.1/tcp/{}", port + 1),
        http_url: format!("http://127.0.0.1:{}", port + 2),
    };
    let admin = PublicKey::from(&key(member, 0));
    MemberEntry::new(NAMES[member], Roles::MEDIA, vec![admin], vec![node]).unwrap()
}

pub(super) fn member(i: usize) -> MemberId {
    entry(i).id
}

pub(super) fn identity(i: usize) -> PeerIdentity {
    PeerIdentity {
        member: member(i),
        node: PublicKey::from(&key(i, 1)),
    }
}

pub(super) struct Core {
    pub(super) state: MemoryState,
    pub(super) time_ms: u64,
    network: NetworkId,
    height: u64,
    committed: HashSet<RecordId>,
    /// Kinds that are not taken now.
    pub(super) broken: HashSet<Kind>,
}

impl Core {
    fn commit(&mut self, bytes: &[u8]) -> Result<RecordId, LedgerError> {
        let record =
            Record::from_bytes(bytes).map_err(|e| LedgerError::Unavailable(e.to_string()))?;
        let id = record.id();
        if self.committed.contains(&id) {
            return Ok(id);
        }
        if self.broken.contains(&record.body().unwrap().kind()) {
            return Err(LedgerError::Unavailable("no quorum".into()));
        }
        self.height += 1;
        self.time_ms += 100;
        let ctx = Context {
            network: self.network,
            height: self.height,
            block_time_ms: self.time_ms,
        };
        match check_and_apply(&self.state, &record, &ctx) {
            Ok(effects) => self.state.apply(effects),
            Err(ApplyError::Refused(r)) => return Err(LedgerError::Refused(r.notice())),
            Err(ApplyError::State(e)) => panic!("{e}"),
        }
        self.committed.insert(id);
        Ok(id)
    }

    fn next(&self, signing: &SigningKey, owner: MemberId) -> Signer {
        let public = PublicKey::from(signing);
        let nonce = state::key_state(&self.state, &owner, &KeyId::of(&public))
            .unwrap()
            .unwrap()
            .next_nonce;
        Signer::new(owner, &public, nonce)
    }

    fn sign_and_commit(
        &mut self,
        body: &Body,
        signing: &SigningKey,
        owner: MemberId,
    ) -> Result<RecordId, LedgerError> {
        let signer = self.next(signing, owner);
        let record = Unsigned::new(self.network, self.time_ms + 60_000, vec![signer], body)
            .sign(&[signing])
            .unwrap();
        self.commit(record.bytes())
    }
}

/// One member's view of the ledger.
pub(super) struct Port {
    core: Arc<Mutex<Core>>,
    member: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Port {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap()
    }
}

impl StateRead for Port {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.core().state.get(key)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StateError> {
        self.core().state.scan(prefix)
    }
}

struct TestLease {
    _turn: OwnedMutexGuard<()>,
    signer: Signer,
    key: SigningKey,
}

impl RecordLease for TestLease {
    fn signer(&self) -> Signer {
        self.signer
    }

    fn sign(&self, unsigned: &Unsigned) -> Signature {
        unsigned.sign_with(&self.key)
    }
}

#[async_trait]
impl LedgerPort for Port {
    fn network(&self) -> NetworkId {
        self.core().network
    }

    fn time_ms(&self) -> u64 {
        self.core().time_ms
    }

    async fn lease(&self) -> Box<dyn RecordLease> {
        let turn = self.turn.clone().lock_owned().await;
        let key = records_key(self.member);
        let signer = self.core().next(&key, member(self.member));
        Box::new(TestLease {
            _turn: turn,
            signer,
            key,
        })
    }

    async fn submit(&self, record: &[u8]) -> Result<RecordId, LedgerError> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.core().commit(record)
    }

    async fn wait_committed(&self, id: &RecordId, deadline: Duration) -> Result<(), LedgerError> {
        for _ in 0..deadline.as_millis() / 2 {
            if self.core().committed.contains(id) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err(LedgerError::Timeout { after: deadline })
    }

    async fn submit_own(&self, body: &Body, _: Duration) -> Result<RecordId, LedgerError> {
        let _turn = self.turn.lock().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.core()
            .sign_and_commit(body, &records_key(self.member), member(self.member))
    }
}

/// What becomes of a stream's bytes, both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Both ends see the end after this many bytes.
    Cut(u64),
    /// Nothing moves after this many bytes.
    Stall(u64),
    /// Bytes after this many are changed.
    Garble(u64),
}

/// Opens streams to the other desks of the test.
pub(super) struct Streets {
    from: usize,
    net: Weak<Net>,
}

#[async_trait]
impl PeerPort for Streets {
    async fn open_stream(
        &self,
        to: &MemberId,
    ) -> Result<(Box<dyn MatchIo>, PeerIdentity), PeerError> {
        let gone = |reason: &str| PeerError {
            member: *to,
            reason: reason.into(),
        };
        let net = self.net.upgrade().ok_or_else(|| gone("stopped"))?;
        let i = (0..NAMES.len())
            .find(|i| member(*i) == *to)
            .ok_or_else(|| gone("unknown"))?;
        let desk = net.desk(i).ok_or_else(|| gone("down"))?;
        let (a, b) = net.street();
        let from = identity(self.from);
        let served = net.served.clone();
        tokio::spawn(async move {
            let done = desk.serve(Box::new(b), from).await;
            let done = match done {
                Ok(Served::Match(view)) => Ok(*view),
                Ok(Served::Overlap(_) | Served::Link) => return,
                Err(error) => Err(error),
            };
            served.lock().unwrap().push(done);
        });
        Ok((Box::new(a), identity(i)))
    }
}

async fn pump(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    fault: Fault,
    moved: Arc<AtomicU64>,
    cut: tokio_util::sync::CancellationToken,
) {
    let mut buffer = vec![0; 64];
    loop {
        let n = tokio::select! {
            () = cut.cancelled() => return,
            n = from.read(&mut buffer) => n.unwrap_or(0),
        };
        if n == 0 {
            let _ = to.shutdown().await;
            return;
        }
        let before = moved.fetch_add(n as u64, Ordering::Relaxed);
        match fault {
            Fault::Cut(limit) if before + n as u64 > limit => {
                cut.cancel();
                return;
            }
            Fault::Stall(limit) if before + n as u64 > limit => {
                cut.cancelled().await;
                return;
            }
            Fault::Garble(limit) if before + n as u64 > limit => {
                buffer.iter_mut().for_each(|b| *b ^= 0x5a);
            }
            _ => {}
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// The network of the test.
pub(super) struct Net {
    pub(super) core: Arc<Mutex<Core>>,
    desks: Mutex<[Option<MatchDesk>; NAMES.len()]>,
    pub(super) served: Arc<Mutex<Vec<Result<MatchView, MatchError>>>>,
    /// For the streams that are opened next.
    pub(super) fault: Mutex<Fault>,
    /// Bytes moved over all streams so far.
    pub(super) moved: Arc<AtomicU64>,
    dir: tempfile::TempDir,
    turns: [Arc<tokio::sync::Mutex<()>>; NAMES.len()],
}

pub(super) fn quick() -> DeskOptions {
    DeskOptions {
        step: Duration::from_secs(2),
        commit: Duration::from_secs(2),
        patience: Duration::from_millis(100),
        deadlines: Deadlines {
            idle: Duration::from_secs(2),
            frame: Duration::from_secs(2),
            working: Duration::from_millis(500),
            total: Duration::from_secs(20),
        },
        max_answering: 4,
        rows_in_memory: 100,
        max_buckets: 2,
        bucket_rule: tally_psi::buckets::Rule::STANDARD,
    }
}

impl Net {
    pub(super) fn new() -> Arc<Self> {
        Self::with(NetworkKind::Test)
    }

    pub(super) fn with(kind: NetworkKind) -> Arc<Self> {
        let mut members: Vec<_> = (0..NAMES.len()).map(entry).collect();
        members.sort_by_key(|m| m.id);
        let genesis = Genesis::new("Test", kind, 0, [0; 32], Rules::default(), members).unwrap();
        let mut state = MemoryState::new();
        state.apply(genesis_effects(&genesis));
        let core = Core {
            state,
            time_ms: 1_000_000,
            network: genesis.network_id(),
            height: 0,
            committed: HashSet::new(),
            broken: HashSet::new(),
        };
        let net = Arc::new(Self {
            core: Arc::new(Mutex::new(core)),
            desks: Mutex::default(),
            served: Arc::default(),
            fault: Mutex::new(Fault::None),
            moved: Arc::default(),
            dir: tempfile::tempdir().unwrap(),
            turns: Default::default(),
        });
        for i in 0..NAMES.len() {
            net.start(i, quick());
        }
        net
    }

    /// Starts a desk over its directory, as after a restart.
    pub(super) fn start(self: &Arc<Self>, i: usize, options: DeskOptions) {
        self.start_with(i, options, Arc::new(AnswerAgreed));
    }

    /// The same with another policy.
    pub(super) fn start_with(
        self: &Arc<Self>,
        i: usize,
        options: DeskOptions,
        policy: Arc<dyn Policy>,
    ) {
        let storage = StorageKey::from_bytes([u8::try_from(i).unwrap() + 1; 32]);
        let dir = self.dir(i);
        let audiences = AudienceStore::open(&dir.join("audiences"), &storage).unwrap();
        let port = Port {
            core: self.core.clone(),
            member: i,
            turn: self.turns[i].clone(),
        };
        let own = DeskIdentity {
            member: member(i),
            node: identity(i).node,
            records: records_key(i),
        };
        let desk = MatchDesk::open(
            &dir.join("matches"),
            &storage,
            own,
            Arc::new(port),
            Arc::new(Streets {
                from: i,
                net: Arc::downgrade(self),
            }),
            Arc::new(audiences),
            policy,
            options,
        );
        self.desks.lock().unwrap()[i] = Some(desk.unwrap());
    }

    /// Ends a desk, waits until what it runs has let go of its folder, as that of a killed process has, and opens it anew.
    pub(super) async fn restart(self: &Arc<Self>, i: usize, options: DeskOptions) {
        if let Some(desk) = self.desk(i) {
            self.stop(i);
            for _ in 0..1_000 {
                if Arc::strong_count(&desk.0) == 1 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            assert_eq!(Arc::strong_count(&desk.0), 1, "a run does not end");
        }
        self.start(i, options);
    }

    pub(super) fn stop(&self, i: usize) {
        self.desks.lock().unwrap()[i] = None;
    }

    pub(super) fn desk(&self, i: usize) -> Option<MatchDesk> {
        self.desks.lock().unwrap()[i].clone()
    }

    pub(super) fn dir(&self, i: usize) -> std::path::PathBuf {
        self.dir.path().join(NAMES[i])
    }

    pub(super) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Two ends of a stream with the fault in between.
    pub(super) fn street(&self) -> (DuplexStream, DuplexStream) {
        let fault = *self.fault.lock().unwrap();
        let (a, a_far) = tokio::io::duplex(1 << 16);
        let (b, b_far) = tokio::io::duplex(1 << 16);
        let (a_read, a_write) = tokio::io::split(a_far);
        let (b_read, b_write) = tokio::io::split(b_far);
        let cut = tokio_util::sync::CancellationToken::new();
        let count = self.moved.clone();
        tokio::spawn(pump(a_read, b_write, fault, count.clone(), cut.clone()));
        tokio::spawn(pump(b_read, a_write, fault, count, cut));
        (a, b)
    }

    /// Imports and commits people `range` as an audience of a member.
    pub(super) async fn audience(&self, i: usize, name: &str, range: std::ops::Range<u32>) {
        let rows: String = range
            .map(|n| format!("+8613{:09}\n", 7_919 * u64::from(n) % 1_000_000_000))
            .collect();
        let import = import(
            format!("phone\n{rows}").as_bytes(),
            &ImportOptions::new("e164".parse().unwrap()),
        )
        .unwrap();
        let desk = self.desk(i).unwrap();
        let meta = desk
            .0
            .audiences
            .create(name, desk.epoch().unwrap(), import, &mut OsRng)
            .unwrap();
        desk.commit_audience(&meta.key).await.unwrap();
    }

    /// The default terms between brand and media.
    pub(super) fn terms(&self, computations: &[Computation], noise: Noise) -> ProposeAgreement {
        let mut parties = vec![member(0), member(1)];
        parties.sort();
        let cap = BudgetCap {
            micro_rho: 10_000_000,
            delta: 1 << 50,
        };
        ProposeAgreement {
            parties,
            purpose: "reach of a campaign".into(),
            computations: computations.to_vec(),
            suite: Suite::DhRistrettoV1,
            profile: "e164".parse().unwrap(),
            min_set_size: 10,
            max_set_size: 100_000,
            min_result: 5,
            noise,
            epoch_cap: cap,
            lifetime_cap: cap,
            max_audiences: 3,
            max_matches: 100,
            expires_ms: self.core.lock().unwrap().time_ms + 3_600_000_000,
            sums: None,
            overlap: None,
        }
    }

    pub(super) fn agree(&self, terms: ProposeAgreement) -> AgreementId {
        let mut core = self.core.lock().unwrap();
        let id = core
            .sign_and_commit(&terms.into(), &key(0, 0), member(0))
            .unwrap();
        let accept = AcceptAgreement { agreement: id }.into();
        core.sign_and_commit(&accept, &key(1, 0), member(1))
            .unwrap();
        id
    }

    pub(super) fn commit(
        &self,
        i: usize,
        body: &Body,
        admin: bool,
    ) -> Result<RecordId, LedgerError> {
        let signing = if admin { key(i, 0) } else { records_key(i) };
        self.core
            .lock()
            .unwrap()
            .sign_and_commit(body, &signing, member(i))
    }

    /// Audiences of 300 and 400 people, 120 in common.
    pub(super) async fn audiences(&self) {
        self.audience(0, "buyers", 0..300).await;
        self.audience(1, "viewers", 180..580).await;
    }

    pub(super) async fn ask(
        &self,
        agreement: AgreementId,
        computation: Computation,
    ) -> Result<MatchView, MatchError> {
        self.desk(0)
            .unwrap()
            .request(request(agreement, computation))
            .await
    }

    pub(super) fn match_state(&self, session: &SessionId) -> Option<MatchState> {
        state::match_state(&self.core.lock().unwrap().state, session).unwrap()
    }

    pub(super) fn agreement_matches(&self, id: &AgreementId) -> u32 {
        state::agreement(&self.core.lock().unwrap().state, id)
            .unwrap()
            .unwrap()
            .matches
    }

    /// The budget that an owner's epoch has for all analysts.
    pub(super) fn budget(&self, owner: usize) -> Budget {
        self.budget_at(owner, self.desk(0).unwrap().epoch().unwrap())
    }

    pub(super) fn budget_at(&self, owner: usize, epoch: u64) -> Budget {
        let key = keys::budget_epoch(&member(owner), epoch);
        state::budget(&self.core.lock().unwrap().state, &key).unwrap()
    }

    pub(super) fn pass_time(&self, ms: u64) {
        self.core.lock().unwrap().time_ms += ms;
    }
}

pub(super) fn request(agreement: AgreementId, computation: Computation) -> MatchRequest {
    MatchRequest {
        agreement,
        computation,
        audience: "buyers".into(),
        peer: None,
        peer_audience: None,
    }
}

/// The code of a refusal and who refused.
pub(super) fn refusal(error: &MatchError) -> (Side, &str) {
    match error {
        MatchError::Refused { by, notice } => (*by, &notice.code),
        other => panic!("no refusal: {other:?}"),
    }
}
