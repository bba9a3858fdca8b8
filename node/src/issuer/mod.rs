//! What the issuer keeps of its codes: keys, batches and the upper levels of their trees, sealed in one directory.
//!
//! In scope: making a batch so that it is there whole or not at all, writing the printer's rows, verifying scanned codes against the
//! batches that the ledger has, opening a unit's leaf. Out of scope: submitting records, counting scans, HTTP.
//!
//! ```text
//! codes/issuer.keys                  sealed: permutation keys of the live epochs
//! codes/batches/<first index>-<root>/batch   sealed: what the batch is, and its keys
//! codes/batches/<first index>-<root>/trees   levels of both trees from height 8 up; salted hashes, nothing secret
//! codes/jobs/<first index>/          a batch that is being printed, see `job`
//! ```
//!
//! A batch is written into a directory of another name and moved to its place when it is durable. A batch that is here but not in
//! the ledger verifies nothing: its codes are unknown, and raise an alarm, until a record anchors exactly these roots.

mod claims;
mod error;
mod job;
mod meta;
mod metrics;
mod print;
mod reseal;
mod store;
#[cfg(test)]
mod tests;
mod trees;
mod verify;
mod void;

pub use claims::{ClaimsOrder, MAX_RECIPIENTS, RecipientError, Recipients};
pub use error::IssuerError;
pub use meta::{BatchMeta, Expiry};
pub(crate) use meta::{encode_batch, recode_batch};
pub use metrics::IssuerMetrics;
pub use print::{ExportOrder, PrintOrder};
pub use reseal::{has_issuer, reseal};
pub use store::{IssuerStore, NewBatch};
pub(crate) use verify::NoneAnchored;
pub use verify::{AnchoredBatch, AnchoredBatches, Counters, Finding, UnitProof, VerifyOutcome};
pub use void::{BadLine, VoidError, VoidList};
