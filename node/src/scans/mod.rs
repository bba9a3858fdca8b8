//! The scan log of a member: every scan is durable before it is answered, has a verdict decided in one order, a signed receipt,
//! and a place in a tree whose root is anchored in the ledger.
//!
//! In scope: the log and its index, verdicts, receipts, forwarding to the issuer and its signed answer, anchoring. Out of scope:
//! HTTP (`gateway`), whether a code is genuine (`issuer`), the network between members; those come in through the traits here.

mod anchor;
mod answer;
mod checkpoint;
mod codes;
mod copies;
mod draft;
mod error;
mod event;
pub(crate) mod fuzzing;
mod history;
mod index;
mod keys;
mod leaves;
mod line;
mod log;
mod place;
mod reach;
mod receipt;
mod record;
mod retention;
mod service;
mod state;
mod statistics;
mod stored;
mod table;
mod tasks;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
mod trade;
mod traits;
mod writer;

pub use anchor::{AnchorRecord, AnchorState};
pub(crate) use answer::MAX_CLAIM;
pub use answer::{ForwardRequest, MAX_FORWARD_BYTES, ScanAnswer, SignedAnswer};
pub use codes::{CodeHash, MAX_SERIAL, ScanId, ScannedCode};
pub use copies::{Copies, Reasons};
pub use error::ScanError;
pub use event::{EventKind, MAX_DEALER, TradeEvent};
pub use history::{Handling, History, MAX_HISTORY, NoHistory, Observation};
pub use index::{MAX_SAID, Said, Seen, SharedIndex};
pub use log::{ScanLog, ScanLogConfig, ScanProof, StoredScan};
pub use place::{Cell, DEVICE_ACCURACY_M, MAX_CELL, NO_COUNTRY, Place};
pub use receipt::{Receipt, SignedReceipt, verify_receipt};
pub use record::{
    Channel, ClaimCheck, First, LaterVerdict, Reach, ScanRecord, UnitRef, Verdict, scan_leaf,
};
pub use retention::{Deleted, run_retention};
pub use service::{Knowledge, ScanOutcome, ScanRequest, ScanService, ServiceConfig};
pub use statistics::{Counted, MAX_COUNTED_CELL, MAX_PLACES, Statistics, StatisticsQuery, Tally};
pub use table::TableError;
pub use tasks::{TaskConfig, run_anchoring, run_retries};
pub use trade::{EventOutcome, EventRequest};
pub use traits::{
    AnchorError, Anchored, Anchorer, Clock, CodeBook, ForwardError, Forwarder, Issuer, Product,
    RecordKeys, Signer, SystemClock, UnitFinding,
};
