//! What the engine asks of the ledger. No type of the engine crosses this border.

use async_trait::async_trait;
use tally_contracts::block::CommitCertificate;
use tally_contracts::ids::{BlockHash, PublicKey};

/// A voting node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Validator {
    /// Its consensus key.
    pub key: PublicKey,
    /// Its voting power; a validator of power 0 is left out of the set.
    pub power: u64,
}

/// Where a block to be checked came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckContext {
    /// Proposed now; check it against this node's clock too.
    Live,
    /// Proposed again, after more than two thirds have prevoted for it in some round: its time was judged by those who saw it fresh;
    /// no clock checks.
    Prevoted,
    /// Decided by others before; no clock checks.
    Sync,
    /// Seen before a restart; no clock checks.
    Replay,
}

/// Why a block could not be built now. The round passes without a proposal and the next proposer tries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AppError(pub String);

/// Why nothing may follow: the engine stops, signs no more, and [`crate::EngineHandle`] reports it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

/// Why a decided block was not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// What came is not the block that was decided, or its certificate proves nothing: who sent it is at fault and the ledger
    /// stands as before. The engine asks others for the height again, and votes for no other block meanwhile.
    #[error("{0}")]
    Refused(String),
    /// Nothing may follow: the engine stops.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why a block is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The block is malformed, does not follow the last one, or its records do not give its tree root. Live: vote nil.
    /// From sync: the serving peer is to blame and another one is asked.
    #[error("{0}")]
    Invalid(String),
    /// The bytes are what the header commits to, but executing them here gives something else (another state root). Live:
    /// vote nil. If it turns out to be decided: the engine halts, because this node has left the network's rules.
    #[error("{0}")]
    Diverged(String),
    /// Live alone: its time is too far from this node's clock. Vote nil; if more than two thirds prevote for it all the same, it is
    /// checked again when it comes again, as [`CheckContext::Prevoted`].
    #[error("{0}")]
    Untimely(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}

/// The canonical bytes of a block that was decided, and its certificate.
pub type DecidedBlock = (Vec<u8>, CommitCertificate);

/// The ledger, as the engine sees it. Calls come one at a time, in the order of the protocol.
#[async_trait]
pub trait Application: Send + 'static {
    /// The height after the last committed block; 1 on an empty ledger.
    async fn next_height(&mut self) -> u64;

    /// The validators that decide `height`, which is at most one above the last committed block. An answer without any power
    /// halts the engine. Order does not matter; equal answers on all nodes do.
    async fn validators(&mut self, height: u64) -> Vec<Validator>;

    /// Resolves when there are records to order or the heartbeat has expired since the last block. Must be cancel-safe: it
    /// is dropped and called again at any time. Only called between heights; a height once started gets a block, so
    /// [`Self::build_block`] must be able to build one without records (a peer may have started the height).
    async fn wait_for_work(&mut self);

    /// Canonical bytes of a block for `height`, at most `MAX_BLOCK_BYTES`.
    ///
    /// # Errors
    /// [`AppError`] if none can be built now.
    async fn build_block(&mut self, height: u64, round: u32) -> Result<Vec<u8>, AppError>;

    /// Checks a block fully, as if it were executed, and gives its hash. `height` is always that of
    /// [`Self::next_height`].
    ///
    /// # Errors
    /// [`Refusal`], with the reason for the log.
    async fn check_block(
        &mut self,
        height: u64,
        round: u32,
        block: &[u8],
        context: CheckContext,
    ) -> Result<BlockHash, Refusal>;

    /// Commits a decided block; durable when it returns. It may be called again with the last block after a crash between
    /// commit and answer only if [`Self::next_height`] still names that height.
    ///
    /// # Errors
    /// [`CommitError`]; [`CommitError::Fatal`] stops the engine.
    async fn commit_block(
        &mut self,
        block: Vec<u8>,
        certificate: CommitCertificate,
    ) -> Result<(), CommitError>;

    /// A committed block and its certificate, for nodes that lag behind. `None` if it is not there (any more).
    async fn block_at(&mut self, height: u64) -> Option<DecidedBlock>;

    /// Whether others have so many more blocks that it is quicker to take them by [`Self::next_blocks`] than one by one from the
    /// engine. Asked between two heights, when this node starts or was handed the last one; an answer of true is followed by calls
    /// of [`Self::next_blocks`] until it gives nothing. May take half a second.
    async fn is_far_behind(&mut self) -> bool {
        false
    }

    /// The next blocks after the last committed one; nothing when this node is near the others, or nobody hands over any. Must be
    /// cancel-safe.
    async fn next_blocks(&mut self) -> Option<Vec<DecidedBlock>> {
        None
    }

    /// Commits blocks that [`Self::next_blocks`] gave; all are durable when it returns. It must verify everything about them: the
    /// engine has seen nothing of them.
    ///
    /// # Errors
    /// [`CommitError`]; of one that is refused, those before it are committed.
    async fn commit_blocks(&mut self, blocks: Vec<DecidedBlock>) -> Result<(), CommitError> {
        for (block, certificate) in blocks {
            self.commit_block(block, certificate).await?;
        }
        Ok(())
    }

    /// Whether a part of this node's own block is not sent. No ledger does that: it is what a lying proposer in a test does.
    #[doc(hidden)]
    fn keeps_back(&mut self, _height: u64, _round: u32, _part: u32) -> bool {
        false
    }

    /// The lowest height that [`Self::block_at`] can give; 1 if nothing was dropped.
    async fn first_height(&mut self) -> u64;
}
