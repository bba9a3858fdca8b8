//! What can go wrong with a scan.

use tally_contracts::codec::CodecError;
use tally_contracts::records::ParseTradeError;

use super::table::TableError;
use crate::sealed::SealedError;

/// Why a scan is not accepted, or the scan log does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The GTIN is not one.
    #[error(transparent)]
    Gtin(ParseTradeError),
    /// A field that is not of its form; its value is not repeated.
    #[error("{what}: expected {expected}")]
    Input {
        /// The field.
        what: &'static str,
        /// Its form.
        expected: &'static str,
    },
    /// The idempotency key was used for another request.
    #[error("idempotency key was used before for another request")]
    KeyReused,
    /// Nothing can be written now; what is there can be read.
    #[error("read-only: {reason}")]
    ReadOnly {
        /// What the operator must repair.
        reason: String,
    },
    /// More scans are waiting than may wait.
    #[error("{waiting} scans are waiting to be written")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// No scan of that ID.
    #[error("no such scan")]
    NotFound,
    /// The scan is not under an anchored root yet.
    #[error("scan is not anchored yet")]
    NotAnchored,
    /// The scan log is closing.
    #[error("the scan log is closed")]
    Closed,
    /// The ledger holds more of this log than this node does, or another root: an old copy was restored, or two nodes use one log ID.
    #[error("the ledger has {anchored} scans of this log, {found} are here and they do not agree")]
    Forked {
        /// Size in the ledger.
        anchored: u64,
        /// Size here.
        found: u64,
    },
    /// A message from another member, or stored bytes, that are not of their form.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A signature does not verify.
    #[error("{what}: signature does not verify")]
    Signature {
        /// What was signed.
        what: &'static str,
    },
    /// A signed statement is about something else.
    #[error("{what}: not about this scan")]
    Mismatch {
        /// The field.
        what: &'static str,
    },
    /// A code that is not issued by this member was forwarded here.
    #[error("this member is not the issuer of GTIN {gtin}")]
    NotIssuer {
        /// The GTIN.
        gtin: String,
    },
    /// The index that several gateways share is away.
    #[error("the scan index is away: {reason}")]
    IndexAway {
        /// Why, without secrets.
        reason: String,
    },
    /// The index that several gateways share is not what it should be.
    #[error("the shared scan index: {what}")]
    Shared {
        /// What is wrong.
        what: &'static str,
    },
    /// What lies beside the scan log on disk.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The scan log on disk.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// A bug.
    #[error("internal error: {what}")]
    Internal {
        /// Where.
        what: &'static str,
    },
}

impl ScanError {
    /// Whether something beside the log is damaged, which is built again at the next start.
    pub(super) const fn is_damage(&self) -> bool {
        matches!(self, Self::Table(TableError::Damaged { .. }))
    }
}
