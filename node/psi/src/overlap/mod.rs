//! How many people three to eight parties have in common (`overlap_n`), with a helper: a node that the agreement names, that none of
//! them is, and that takes no part with any of them.
//!
//! The parties agree on a key that the helper does not learn, over their direct streams. Each sends the helper its set as pseudonyms
//! under that key, sorted, padded with dummies and random fillers. The helper counts those that are in every list and makes the
//! count known, with noise. What each side sees is said in docs/psi.md, and tests hold it against transcripts.
//!
//! | step | from | to | what |
//! | --- | --- | --- | --- |
//! | [`OverlapMessage::Share`] | party | every other party | its part of the key and of the noise against the helper |
//! | [`OverlapMessage::Hello`] | party | helper | digest of the terms, padded count |
//! | [`OverlapMessage::Hello`] | helper | party | the same digest |
//! | [`OverlapMessage::Pseudonyms`], [`OverlapMessage::End`] | party | helper | its list, sorted; count, digest, seal |
//! | release | helper | | committed to the ledger before anything that follows |
//! | [`OverlapMessage::Published`] | helper | party | the count with both noises, a salt, all counts and digests, seal |
//! | [`OverlapMessage::Ack`] | party | helper | it holds the count |
//! | [`OverlapMessage::Final`] | helper | party | every party holds it |

mod helper;
mod machine;
mod messages;
mod party;
mod terms;

pub use helper::OverlapHelper;
pub use machine::{
    MadeKnown, OverlapMachine, OverlapOutput, OverlapReport, OverlapStage, OverlapStatement,
    OverlapTranscript, Peer, run_overlap_in_memory,
};
pub(crate) use messages::{FIRST_KIND, LAST_KIND, max_payload};
pub use messages::{OverlapMessage, PSEUDONYM_BYTES};
pub use party::OverlapParty;
pub use terms::{
    COMPUTATION, MAX_OVERLAP_ITEMS, MAX_PARTIES, MIN_PARTIES, OverlapNoise, OverlapTerms, SUITE,
    overlap_session,
};
