//! What an auditor takes home: a proof of one code, record, scan, match or overlap, or of a statement on the state, in one text, and its
//! verifier; and the replay of a whole ledger.
//!
//! In scope: the `extra` of our `.tlog-proof` files, the one policy of a network, and [`verify`], a pure function from bytes to
//! what they prove. Out of scope: making a proof from a ledger and a batch's keys (the node does), files, network, clock.
//!
//! The root of trust is the network ID alone. It is the hash of the genesis document, which travels in the proof and fixes the
//! validators; they fix the policy, byte for byte; the policy accepts the checkpoint; the checkpoint's root holds the entries;
//! the last of them, a BlockInfo, holds the state root. Nothing in a proof is ignored: a changed byte fails. Where members have
//! changed the network since, a [`Roster`] of a replay takes the place of the genesis' members.
//!
//! It is a crate of its own because it needs both the contracts and the codes, which must not need each other, and nothing that
//! a node needs to run. Formats: `docs/formats.md`, "Proofs to take home".

mod code;
mod error;
mod extra;
mod following;
mod matching;
mod overlap;
mod policy;
pub mod render;
pub mod replay;
mod report;
mod roster;
mod scan;
mod state;
mod verify;

pub use code::{ParseCodeError, UnitCode};
pub use error::Error;
pub use extra::{BlockInclusion, CodeExtra, Extra, HeadInclusion, RecordExtra, StateValue};
pub use following::{Following, PastValue};
pub use matching::MatchExtra;
pub use overlap::{OverlapExtra, PlacedRecord};
pub use policy::{network_policy, policy_of};
pub use report::{
    CodeReport, Cosigner, MatchReport, OverlapReport, Proven, RecordReport, Report, ScanReport,
    Signatory, StateReport,
};
pub use roster::{MAX_ROSTER_BYTES, PastKey, Roster};
pub use scan::{
    SIGNED_RECEIPT_BYTES, ScanExtra, ScanName, ScanReason, ScanReceipt, ScanVerdict, scan_code_hash,
};
pub use state::{BudgetStatement, Question, StateAnswer, StateExtra, Statement};
pub use verify::{judge_checkpoint, verify, verify_under};
