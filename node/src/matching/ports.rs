//! What the desk needs of the rest of the node.

use std::time::Duration;

use async_trait::async_trait;
use tally_contracts::Unsigned;
use tally_contracts::envelope::Signer;
use tally_contracts::ids::{MemberId, NetworkId, PublicKey, RecordId, Signature};
use tally_contracts::records::Body;
use tally_contracts::refusal::RefusalNotice;
use tally_contracts::state::StateRead;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a record was not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The contracts refuse it.
    #[error("refused: {0}")]
    Refused(RefusalNotice),
    /// It was taken, and not committed in time; it may still be.
    #[error("not committed within {} s", after.as_secs())]
    Timeout {
        /// How long it was waited for.
        after: Duration,
    },
    /// This node cannot take records now.
    #[error("{0}")]
    Unavailable(String),
}

/// The ledger, as this node sees it: its state (by [`StateRead`], at the newest height), its time, and the way into it.
#[async_trait]
pub trait LedgerPort: StateRead + Send + Sync {
    /// The network.
    fn network(&self) -> NetworkId;

    /// The time that the next block will have, or earlier: never before the newest block's. POSIX milliseconds.
    fn time_ms(&self) -> u64;

    /// The next nonce of this node's record key; nothing else is signed with the key until the lease is dropped.
    async fn lease(&self) -> Box<dyn RecordLease>;

    /// Submits a record that others may submit too; taking one that is there already is no error.
    ///
    /// # Errors
    /// [`LedgerError::Refused`], [`LedgerError::Unavailable`].
    async fn submit(&self, record: &[u8]) -> Result<RecordId, LedgerError>;

    /// Waits until a record is committed.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn wait_committed(&self, id: &RecordId, deadline: Duration) -> Result<(), LedgerError>;

    /// Signs a record with this node's record key alone, submits it, and waits until it is committed. Waits for the lease.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn submit_own(&self, body: &Body, deadline: Duration) -> Result<RecordId, LedgerError>;
}

/// The right to use the record key's next nonce.
pub trait RecordLease: Send + Sync {
    /// The signer with that nonce.
    fn signer(&self) -> Signer;

    /// This node's signature of a record.
    fn sign(&self, unsigned: &Unsigned) -> Signature;
}

/// Who is at the other end of a stream, as the transport has proven it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The member.
    pub member: MemberId,
    /// The transport key of its node.
    pub node: PublicKey,
}

/// A stream in both directions, confidential and authenticated.
pub trait MatchIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> MatchIo for T {}

/// Why a member's node cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot reach a node of member {member}: {reason}")]
pub struct PeerError {
    /// The member.
    pub member: MemberId,
    /// Why not.
    pub reason: String,
}

/// The other members' nodes.
#[async_trait]
pub trait PeerPort: Send + Sync {
    /// A new match stream to a node of the member, and who that node has proven to be.
    ///
    /// # Errors
    /// [`PeerError`].
    async fn open_stream(
        &self,
        member: &MemberId,
    ) -> Result<(Box<dyn MatchIo>, PeerIdentity), PeerError>;
}
