//! The match desk's way to the ledger and to the other members' nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tally_contracts::Unsigned;
use tally_contracts::envelope::Signer;
use tally_contracts::ids::{MemberId, NetworkId, PublicKey, RecordId, Signature};
use tally_contracts::records::Body;
use tally_contracts::state::{self, Pair, StateError, StateRead};
use tally_ledger::Ledger;
use tally_psi::buckets::Rule;
use tally_swarm::{Host, PeerKey, PeerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chain::{self, Chain, SubmitError, Submitter, now_ms};
use crate::config::{AutoAccept, MatchSection};
use crate::matching::{
    AnswerAgreed, DeskOptions, LedgerError, LedgerPort, MatchDesk, MatchIo, PeerError,
    PeerIdentity, PeerPort, Policy, RecordLease, RefuseAll, Served,
};
use crate::psi_wire::Deadlines;

/// Protocol of the streams on which two nodes match.
const MATCH: &str = "/tally/match/1";
/// How often matches that a crash or a broken stream left are looked after.
const TIDY_EVERY: Duration = Duration::from_secs(30);
/// How often a side that sends nothing says that it works; far under the least idle timeout that a configuration may have.
const WORKING_EVERY: Duration = Duration::from_secs(1);
/// The stream's own watch waits this much longer than the protocol, whose error says more.
const STREAM_MARGIN: Duration = Duration::from_secs(5);

/// The desk's bounds, by the configuration.
#[must_use]
pub fn desk_options(config: &MatchSection) -> DeskOptions {
    let idle = Duration::from_millis(config.idle_timeout_ms);
    let defaults = DeskOptions::default();
    DeskOptions {
        step: defaults.step.min(idle),
        bucket_rule: Rule {
            single: 2 * config.bucket_items,
            mean: config.bucket_items,
        },
        deadlines: Deadlines {
            idle,
            frame: defaults.deadlines.frame.min(idle),
            working: WORKING_EVERY,
            ..defaults.deadlines
        },
        ..defaults
    }
}

/// Who decides on the requests of others, by the configuration.
#[must_use]
pub fn desk_policy(config: &MatchSection) -> Arc<dyn Policy> {
    match config.auto_accept {
        AutoAccept::Never => Arc::new(RefuseAll),
        AutoAccept::Agreed => Arc::new(AnswerAgreed),
    }
}

/// The ledger of this node, with its records key.
pub struct ChainPort {
    chain: Chain,
    records: Submitter,
}

impl ChainPort {
    /// Signing with the node's records key.
    #[must_use]
    pub const fn new(chain: Chain, records: Submitter) -> Self {
        Self { chain, records }
    }
}

impl StateRead for ChainPort {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.chain.ledger().state().get(key)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StateError> {
        StateRead::scan(self.chain.ledger().state(), prefix)
    }
}

struct ChainLease(chain::Lease);

impl RecordLease for ChainLease {
    fn signer(&self) -> Signer {
        self.0.signer()
    }

    fn sign(&self, unsigned: &Unsigned) -> Signature {
        unsigned.sign_with(self.0.key())
    }
}

fn ledger_error(error: SubmitError) -> LedgerError {
    match error {
        SubmitError::Refused(notice) => LedgerError::Refused(notice),
        SubmitError::Timeout { seconds, .. } => LedgerError::Timeout {
            after: Duration::from_secs(seconds),
        },
        other => LedgerError::Unavailable(other.to_string()),
    }
}

#[async_trait]
impl LedgerPort for ChainPort {
    fn network(&self) -> NetworkId {
        self.chain.ledger().network()
    }

    fn time_ms(&self) -> u64 {
        self.chain.ledger().head().time_ms.max(now_ms())
    }

    async fn lease(&self) -> Box<dyn RecordLease> {
        Box::new(ChainLease(self.records.lease().await))
    }

    async fn submit(&self, record: &[u8]) -> Result<RecordId, LedgerError> {
        self.chain.submit(record).map_err(ledger_error)
    }

    async fn wait_committed(&self, id: &RecordId, deadline: Duration) -> Result<(), LedgerError> {
        let waited = self.chain.wait(*id, deadline).await;
        waited.map(drop).map_err(ledger_error)
    }

    async fn submit_own(&self, body: &Body, deadline: Duration) -> Result<RecordId, LedgerError> {
        let submitted = self.records.submit(body, deadline).await;
        submitted.map(|(id, _)| id).map_err(ledger_error)
    }
}

/// The other members' nodes over the member swarm.
pub struct SwarmPeers {
    ledger: Arc<Ledger>,
    host: Host,
    idle: Duration,
}

impl SwarmPeers {
    /// Over this host, for a desk with these options.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, host: Host, options: &DeskOptions) -> Self {
        Self {
            ledger,
            host,
            idle: stream_idle(options),
        }
    }
}

fn stream_idle(options: &DeskOptions) -> Duration {
    options.deadlines.idle.max(options.step) + STREAM_MARGIN
}

fn watched(mut stream: PeerStream, idle: Duration) -> Box<dyn MatchIo> {
    stream.set_idle_timeout(Some(idle));
    Box::new(stream)
}

#[async_trait]
impl PeerPort for SwarmPeers {
    async fn open_stream(
        &self,
        member: &MemberId,
    ) -> Result<(Box<dyn MatchIo>, PeerIdentity), PeerError> {
        let fail = |reason: String| PeerError {
            member: *member,
            reason,
        };
        let entry = state::member(self.ledger.state(), member)
            .map_err(|e| fail(e.to_string()))?
            .ok_or_else(|| fail("not a member".into()))?;
        let mut reason = "the ledger names no node".to_owned();
        for node in &entry.nodes {
            match self.host.open_stream(&node.transport.0, MATCH).await {
                Ok(stream) => {
                    let identity = PeerIdentity {
                        member: *member,
                        node: node.transport,
                    };
                    return Ok((watched(stream, self.idle), identity));
                }
                Err(e) => reason = e.to_string(),
            }
        }
        Err(fail(reason))
    }
}

/// Lets the desk answer the streams of other members, until `stop`.
///
/// # Errors
/// [`tally_swarm::Error`] if the protocol is served already.
pub fn serve_matches(
    host: &Host,
    ledger: Arc<Ledger>,
    desk: MatchDesk,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<(), tally_swarm::Error> {
    let mut incoming = host.accept_streams(MATCH)?;
    let idle = stream_idle(desk.options());
    let served = tasks.clone();
    tasks.spawn(async move {
        loop {
            let next = tokio::select! {
                next = incoming.recv() => next,
                () = stop.cancelled() => return,
            };
            let Some((key, stream)) = next else {
                return;
            };
            let Some(peer) = identity(&ledger, &key) else {
                // The swarm lets members' nodes in alone; the list may have changed since.
                tracing::warn!("a match stream of a node that is no member's");
                continue;
            };
            let desk = desk.clone();
            served.spawn(async move {
                let stream = watched(stream, idle);
                match desk.serve(stream, peer).await {
                    Ok(Served::Match(view)) => {
                        tracing::info!(id = %view.id, peer = %peer.member, stage = ?view.stage, "answered a match stream");
                    }
                    Ok(Served::Overlap(view)) => {
                        tracing::info!(id = %view.id, peer = %peer.member, stage = ?view.stage, "took part in an overlap");
                    }
                    Ok(Served::Link) => {}
                    Err(error) => {
                        tracing::warn!(peer = %peer.member, %error, "a match stream ended without success");
                    }
                }
            });
        }
    });
    Ok(())
}

fn identity(ledger: &Ledger, key: &PeerKey) -> Option<PeerIdentity> {
    let members = super::members(ledger).ok()?;
    let member = members
        .iter()
        .find(|m| m.nodes.iter().any(|n| n.transport.0 == *key))?;
    Some(PeerIdentity {
        member: member.id,
        node: PublicKey(*key),
    })
}

/// Looks after matches that a crash or a broken stream left, at once and now and then, until `stop`.
pub async fn run_tidying(desk: MatchDesk, stop: CancellationToken) {
    loop {
        let tidied = tokio::select! {
            tidied = desk.tidy() => tidied,
            () = stop.cancelled() => return,
        };
        match tidied {
            Ok(0) => {}
            Ok(waiting) => tracing::debug!(waiting, "matches wait for a receipt or their closing"),
            Err(error) => tracing::warn!(%error, "not every match could be tidied"),
        }
        tokio::select! {
            () = tokio::time::sleep(TIDY_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
