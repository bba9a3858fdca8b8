//! A `list` of any size in bounded memory: items fall into buckets by a hash, and each bucket is matched by a whole run of the suite,
//! one after the other on one stream, or several at a time on streams of their own.
//!
//! **Which bucket.** The leading bits of a hash of the item under the session's context ([`Plan`]): both sides name the same, and
//! nobody can choose items that crowd a bucket before the session's nonces are drawn. The number of buckets and their room follow from
//! the two counts, which both sides know anyway. Each side fills each of its buckets up with random elements of a domain of their own,
//! so that sizes say nothing more; the odds that a bucket has too little room are below 2^-40 a run.
//!
//! **One run a bucket.** Each has fresh randomness: scalar, salt, correlation, coin. The context is the same for all and names no
//! bucket. What binds a run to its place is what its two ends are signed over: SHA-256(prefix || plan's digest || bucket) where a
//! plain run names its context. So a signature is worth nothing in any other place, list or session, and buckets may finish in any
//! order. A finished bucket leaves SHA-256(prefix || plan's digest || bucket || both streams' digests). The last statement names
//! the plan's digest and one hash over what all buckets left, in the order of their numbers.
//!
//! **One release.** It is bound to the plan's digest and asked for at the first gate that any bucket comes to, before anything that
//! depends on the responder's items has left. Within each bucket nothing of that kind leaves before the initiator's stream of that
//! bucket is complete and signed. A scalar serves one attempt at one bucket, so points of another cannot be reflected into it.
//!
//! **Several streams.** A stream's [`Scope`](crate::messages::Scope) says whether it is for one bucket or for all that are left and
//! the end of the list. The machines of a side share one [`Past`]. Whoever begins a bucket ends what was under way in it: an older
//! attempt may neither answer nor finish, whatever its host does ([`Past::take`]), so that of two workers only one counts.
//!
//! **After a break.** Steps are durable before what follows from them leaves ([`Step`], [`Past`]). A run that goes on draws everything
//! anew for the buckets that were under way; finished buckets stay. The initiator names which it has finished, and a hash over them;
//! the responder must have finished them alike. Those that it has finished and the initiator has not are run again: the initiator
//! died before it noted them. Buckets that were answered are answered again at most [`MAX_REPEATS`] times in a list, so that a peer
//! which pretends to have died gains that many buckets' worth of guesses, and no more. A peer that claims more buckets than are
//! finished is refused. An initiator that runs a bucket again sends a freshly masked store: the responder learns nothing.

mod past;
mod plan;
mod run;
mod set;

pub use past::{MAX_BEGUN, MAX_REPEATS, Past, Step};
pub use plan::{BucketNames, Plan, Rule};
pub use run::{BucketStore, Buckets, EachItem};
pub use set::BucketSet;
