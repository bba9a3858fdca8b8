//! A `list` of any size in bounded memory: items fall into buckets by a hash, and the buckets are matched one after the other, each
//! by a whole run of the suite.
//!
//! **Which bucket.** The leading bits of a hash of the item under the session's context ([`Plan`]): both sides name the same, and
//! nobody can choose items that crowd a bucket before the session's nonces are drawn. The number of buckets and their room follow from
//! the two counts, which both sides know anyway. Each side fills each of its buckets up with random elements of a domain of their own,
//! so that sizes say nothing more; the odds that a bucket has too little room are below 2^-40 a run.
//!
//! **One run a bucket.** Each has fresh randomness: scalar, salt, correlation, coin. The context is the same for all and names no
//! bucket. What binds a run to its place is the chain: c_0 is the plan's digest, c_(k+1) = SHA-256(prefix || c_k || both streams'
//! digests of bucket k). What a side signs for bucket k names c_k where a plain run names its context, so it is worth nothing in any
//! other place, list or session. The last statement names the plan's digest and the whole chain.
//!
//! **One release.** It is bound to the plan's digest and asked for at the first bucket's gate, before anything that depends on the
//! responder's items has left. Within each bucket nothing of that kind leaves before the initiator's stream of that bucket is complete
//! and signed. A scalar serves one bucket, so points of another cannot be reflected into it.
//!
//! **After a break.** Steps are durable before what follows from them leaves ([`Step`], [`Past`]). A run that goes on draws everything
//! anew for the bucket that was under way; finished buckets stay. Both sides name how many are finished, and the chain. The responder
//! goes on from its newest state, or from the one before where the initiator had not noted the newest bucket when it died; from
//! nowhere else. A bucket that was answered is answered again at most [`MAX_REPEATS`] times in a list, so that a peer which pretends
//! to have died gains that many buckets' worth of guesses, and no more. A peer that claims more buckets than are finished is
//! refused. An initiator that runs a bucket again sends a freshly masked store: the responder learns nothing.

mod past;
mod plan;
mod run;

pub use past::{MAX_BEGUN, MAX_REPEATS, Past, Step};
pub use plan::{BucketNames, Plan, Rule};
pub use run::{BucketStore, Buckets, EachItem};
