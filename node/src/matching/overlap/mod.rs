//! `overlap_n` between nodes: three to eight parties and the helper that their agreement names.
//!
//! 1. The party that asks draws a nonce, which names the match, and opens a stream to every other party and to the helper: Invite. Each
//!    answers Attend with a nonce of its own, or Refuse. A party's policy chooses what it brings.
//! 2. The asker sends everybody all nonces (Convene). Their hash is the session, so nobody alone chooses it. Every party commits
//!    JoinOverlap to the ledger, which reserves its budget, and says so (Joined); one that is refused says why, and the asker ends it for
//!    all.
//! 3. Once this node's ledger shows that all have joined, each party opens a stream to the helper and to every party after it in the
//!    agreement: Link, Linked. Sets, roots and noise are those of the ledger; the protocol of `tally_psi::overlap` runs.
//! 4. The helper commits ReleaseOverlap before the count leaves it. A party stores the count before it acknowledges it; the helper stores
//!    that all have acknowledged before it says so.
//! 5. The helper commits the receipt; each party compares it with what it holds and saw, and confirms it.
//!
//! A node that died takes up from what it stored and what the ledger says ([`settle`]): a party that had acknowledged when the run
//! broke knows by the helper's receipt that every party holds the count, and by a closing without one that it is void.

mod ask;
mod attend;
mod run;
mod settle;
mod state;
mod terms;

pub use ask::OverlapRequest;
pub(super) use attend::Links;
pub(super) use state::OverlapFile;
pub use state::{OverlapPartyView, OverlapRole, OverlapView};
pub(super) use terms::REGION_SENSITIVITY;
