//! The match desk: asks other members for matches and answers theirs, under agreements in the ledger. What follows is for matches of two;
//! `overlap` is for three to eight and a helper.
//!
//! A match runs over one stream. Request (agreement, computation, the initiator's committed set and its opening, a nonce), then
//! Accept or Refuse with a typed reason; both sign OpenMatch, which reserves the budget; the protocol of `tally-psi` runs, and
//! the responder commits ReleaseMatch, which spends the budget, before its first reply byte; both sign the receipt in
//! CloseMatch, over a second stream, so that a receipt whose stream broke can be signed later. Every message is signed by the
//! sender's record key and bound to the initiator's nonce.
//!
//! Each step is stored, sealed, before the peer hears of it: a crash at any point leaves budget spent or given back, never
//! released and unspent. A list in buckets that broke goes on over a stream of its own, which begins with Resume and Resumed, under the
//! release that it has. The same query again gets the stored answer and costs nothing.
//!
//! In scope: the protocol, the stored matches. Out of scope: how streams are opened and records committed, which
//! [`PeerPort`] and [`LedgerPort`] stand for.

mod answer;
mod buckets;
mod cosign;
mod desk;
mod engine;
mod error;
mod files;
pub(crate) mod fuzzing;
mod initiator;
mod lists;
mod messages;
mod noise;
mod overlap;
mod policy;
mod ports;
mod responder;
mod resume;
mod state;
mod sums;
mod terms;
#[cfg(test)]
mod tests;
mod wire;
mod worker_desk;

pub use answer::{Answer, LabelSum};
pub use desk::{DeskIdentity, DeskOptions, MatchDesk};
pub use error::{MatchError, Side};
pub use initiator::MatchRequest;
pub use noise::{NoiseView, plan_noise, plan_region_noise};
pub use overlap::{OverlapPartyView, OverlapRequest, OverlapRole, OverlapView};
pub use policy::{AnswerAgreed, Inquiry, Policy, RefuseAll};
pub use ports::{LedgerError, LedgerPort, MatchIo, PeerError, PeerIdentity, PeerPort, RecordLease};
pub use responder::Served;
pub use state::{MatchId, MatchView, Role, Stage};
