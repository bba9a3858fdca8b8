//! What the scan log needs of the rest of the node.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tally_contracts::ids::{BatchId, MemberId, PublicKey, RecordId, Signature};
use tally_contracts::records::{AnchorScans, ExpiryDate, Gtin, Territory};
use tally_merkle::Hash;

use super::{ClaimCheck, ScannedCode, UnitRef};

/// The node's clock.
pub trait Clock: Send + Sync {
    /// POSIX milliseconds.
    fn now_ms(&self) -> u64;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| u64::try_from(d.as_millis()).ok())
            .unwrap_or_default()
    }
}

/// Signs with the node's records key.
pub trait Signer: Send + Sync {
    /// The public half, as it stands in the ledger.
    fn public_key(&self) -> PublicKey;

    /// A signature over the whole message.
    fn sign(&self, message: &[u8]) -> Signature;
}

impl Signer for ed25519_dalek::SigningKey {
    fn public_key(&self) -> PublicKey {
        PublicKey::from(self)
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(ed25519_dalek::Signer::sign(self, message).to_bytes())
    }
}

/// A registered product, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// The member that registered it and issues its codes.
    pub owner: MemberId,
    /// That member's name.
    pub owner_name: String,
    /// What the product is.
    pub description: String,
    /// The brand on the pack; empty if none was registered.
    pub brand: String,
    /// Whether the owner is this node's own member.
    pub own: bool,
}

/// Looks products up in the ledger's state.
pub trait CodeBook: Send + Sync {
    /// The product of a GTIN; `None` if nobody registered it.
    fn product(&self, gtin: &Gtin) -> Option<Product>;
}

/// The keys of members in the ledger's state.
pub trait RecordKeys: Send + Sync {
    /// The records keys of a member's nodes; empty for no member.
    fn record_keys(&self, member: &MemberId) -> Vec<PublicKey>;
}

/// What the issuer's own node finds about a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitFinding {
    /// Issued, and its batch is active.
    Released(UnitRef),
    /// Issued, and its batch is not active yet.
    NotReleased(UnitRef),
    /// Issued, and its batch is recalled.
    Recalled(UnitRef),
    /// Issued, and this one unit is withdrawn.
    Revoked(UnitRef),
    /// Issued, its batch is active, and its last day is over.
    Expired(UnitRef),
    /// Not issued; also a right tag outside every anchored batch, for which the issuer raises its own alarm.
    Unknown,
    /// The keys cannot be used now, or the ledger is not there yet.
    Unavailable,
}

/// Verifies codes that this node's member issued. Called on a worker thread; may compute, must not wait.
pub trait Issuer: Send + Sync {
    /// What is known of the code at `now_ms`, POSIX milliseconds. `claim` is the covert code as typed, secret.
    fn verify(
        &self,
        code: &ScannedCode,
        claim: Option<&str>,
        now_ms: u64,
    ) -> (UnitFinding, ClaimCheck);

    /// The last day on which units of a batch are good; `None` if there is none or it is not known.
    fn expires(&self, batch: &BatchId) -> Option<ExpiryDate>;

    /// Where a batch is meant to be sold; `None` if that is not known.
    fn territory(&self, batch: &BatchId) -> Option<Territory>;
}

/// Why a forwarded scan has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("issuer not reached: {reason}")]
pub struct ForwardError {
    /// For the operator.
    pub reason: String,
}

/// Carries scans of other members' codes to their nodes over the member swarm.
#[async_trait]
pub trait Forwarder: Send + Sync {
    /// Sends the bytes of a [`ForwardRequest`](super::ForwardRequest) to a node of `issuer`, where
    /// [`ScanService::answer_forwarded`](super::ScanService::answer_forwarded) answers, and returns that answer. The caller sets
    /// the deadline by dropping the future.
    async fn ask(&self, issuer: MemberId, request: Vec<u8>) -> Result<Vec<u8>, ForwardError>;
}

/// What the ledger has of a scan log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchored {
    /// Leaves under the root.
    pub size: u64,
    /// The root.
    pub root: Hash,
    /// The record that says so.
    pub record: RecordId,
}

/// Why an anchor did not get into the ledger; it is tried again in every case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("anchor not committed: {reason}")]
pub struct AnchorError {
    /// For the operator.
    pub reason: String,
}

/// Submits anchors as records of this member.
#[async_trait]
pub trait Anchorer: Send + Sync {
    /// The newest committed anchor of this member's log `log_id`.
    async fn last(&self, log_id: u16) -> Result<Option<Anchored>, AnchorError>;

    /// Submits the record and waits until it is committed or refused, or cannot be any more.
    async fn anchor(&self, anchor: AnchorScans) -> Result<Anchored, AnchorError>;
}
