//! What the rooms of the node ask of each other, answered by the ledger, the chain and the member swarm.

pub mod matching;
pub mod reconnect;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tally_contracts::ids::{MemberId, PublicKey};
use tally_contracts::records::{AnchorScans, Body, Gtin};
use tally_contracts::state::{self, keys};
use tally_contracts::{Canonical, MemberEntry};
use tally_ledger::Ledger;
use tally_swarm::{Host, Peer, Refusal, ServeLimits};

use crate::chain::{Chain, Submitter};
use crate::scans::{
    AnchorError, Anchored, Anchorer, CodeBook, ForwardError, Forwarder, MAX_FORWARD_BYTES, Product,
    RecordKeys, ScanService,
};

/// Protocol by which a scan of another member's code travels to its issuer.
const FORWARD: &str = "/tally/scans/1";
/// How long the issuer may take.
const FORWARD_DEADLINE: Duration = Duration::from_secs(3);
/// How long an anchor may wait for its block.
const ANCHOR_DEADLINE: Duration = Duration::from_secs(30);

/// Every member of the network, in the order of their IDs.
///
/// # Errors
/// The store's, as text.
pub fn members(ledger: &Ledger) -> Result<Vec<MemberEntry>, String> {
    let rows = ledger
        .state()
        .scan(keys::MEMBER.as_bytes())
        .map_err(|e| e.to_string())?;
    rows.iter()
        .map(|(_, value)| MemberEntry::from_bytes(value).map_err(|e| e.to_string()))
        .collect()
}

/// The nodes of the network as the member swarm dials them.
#[must_use]
pub fn swarm_peers(members: &[MemberEntry]) -> Vec<Peer> {
    members
        .iter()
        .flat_map(|m| {
            m.nodes.iter().enumerate().map(|(i, n)| Peer {
                key: n.transport.0,
                addr: n.swarm_addr.clone(),
                label: if i == 0 {
                    m.name.clone()
                } else {
                    format!("{}/{i}", m.name)
                },
            })
        })
        .collect()
}

/// Products and keys, from the ledger's state.
#[derive(Clone)]
pub struct LedgerBook {
    ledger: Arc<Ledger>,
    own: MemberId,
}

impl LedgerBook {
    /// For the node of member `own`.
    #[must_use]
    pub const fn new(ledger: Arc<Ledger>, own: MemberId) -> Self {
        Self { ledger, own }
    }
}

impl CodeBook for LedgerBook {
    fn product(&self, gtin: &Gtin) -> Option<Product> {
        let state = self.ledger.state();
        let product = state::product(state, gtin).ok().flatten()?;
        let owner_name = state::member(state, &product.owner)
            .ok()
            .flatten()
            .map(|m| m.name)
            .unwrap_or_default();
        Some(Product {
            own: product.owner == self.own,
            owner: product.owner,
            owner_name,
            description: product.description,
            brand: product.brand,
        })
    }
}

impl RecordKeys for LedgerBook {
    fn record_keys(&self, member: &MemberId) -> Vec<PublicKey> {
        let entry = state::member(self.ledger.state(), member).ok().flatten();
        entry
            .map(|m| m.nodes.iter().map(|n| n.records).collect())
            .unwrap_or_default()
    }
}

/// Carries scans to the nodes of their issuers.
pub struct SwarmForwarder {
    ledger: Arc<Ledger>,
    host: Host,
}

impl SwarmForwarder {
    /// Over this host.
    #[must_use]
    pub const fn new(ledger: Arc<Ledger>, host: Host) -> Self {
        Self { ledger, host }
    }
}

#[async_trait]
impl Forwarder for SwarmForwarder {
    async fn ask(&self, issuer: MemberId, request: Vec<u8>) -> Result<Vec<u8>, ForwardError> {
        let fail = |reason: String| ForwardError { reason };
        let member = state::member(self.ledger.state(), &issuer)
            .map_err(|e| fail(e.to_string()))?
            .ok_or_else(|| fail(format!("{issuer} is not a member")))?;
        let mut reason = format!("no node of {} is connected", member.name);
        for node in &member.nodes {
            match self
                .host
                .request(&node.transport.0, FORWARD, &request, FORWARD_DEADLINE)
                .await
            {
                Ok(answer) => return Ok(answer),
                Err(e) => reason = e.to_string(),
            }
        }
        Err(fail(reason))
    }
}

/// Answers the scans that other members forward.
///
/// # Errors
/// [`tally_swarm::Error`] if the protocol is served already.
pub fn serve_forwarded(
    host: &Host,
    ledger: Arc<Ledger>,
    service: Arc<ScanService>,
) -> Result<(), tally_swarm::Error> {
    let limits = ServeLimits {
        max_request_bytes: MAX_FORWARD_BYTES,
        max_response_bytes: 8 * 1024,
        max_concurrent_per_peer: 64,
        deadline: FORWARD_DEADLINE,
    };
    host.serve(FORWARD, limits, move |peer, request| {
        let (ledger, service) = (ledger.clone(), service.clone());
        async move {
            let refuse = |e: String| Refusal::new(e);
            let from = members(&ledger)
                .map_err(refuse)?
                .into_iter()
                .find(|m| m.nodes.iter().any(|n| n.transport.0 == peer))
                .ok_or_else(|| refuse("not a member's node".into()))?;
            service
                .answer_forwarded(from.id, &request)
                .await
                .map_err(|e| refuse(e.to_string()))
        }
    })
}

/// Puts the roots of the scan log into the ledger.
pub struct LedgerAnchorer {
    chain: Chain,
    submitter: Submitter,
}

impl LedgerAnchorer {
    /// Signing with the node's records key.
    #[must_use]
    pub const fn new(chain: Chain, submitter: Submitter) -> Self {
        Self { chain, submitter }
    }

    fn newest(&self, log_id: u16) -> Result<Option<Anchored>, AnchorError> {
        let anchor = state::anchor(self.chain.ledger().state(), &self.chain.member(), log_id)
            .map_err(|e| AnchorError {
                reason: e.to_string(),
            })?;
        Ok(anchor.map(|a| Anchored {
            size: a.size,
            root: a.root,
            record: a.record,
        }))
    }
}

#[async_trait]
impl Anchorer for LedgerAnchorer {
    async fn last(&self, log_id: u16) -> Result<Option<Anchored>, AnchorError> {
        self.newest(log_id)
    }

    async fn anchor(&self, anchor: AnchorScans) -> Result<Anchored, AnchorError> {
        let (size, root) = (anchor.size, anchor.root);
        let (record, _) = self
            .submitter
            .submit(&Body::from(anchor), ANCHOR_DEADLINE)
            .await
            .map_err(|e| AnchorError {
                reason: e.to_string(),
            })?;
        Ok(Anchored { size, root, record })
    }
}
