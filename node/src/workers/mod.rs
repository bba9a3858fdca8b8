//! Workers: processes of one member that match buckets of its lists, so that a list takes the cores of several machines.
//!
//! ```text
//!                      PostgreSQL: a row a bucket, leases
//!                       |                          |
//!   peer's node ---- node ------ TCP, sealed ---- worker
//!                       |                          |
//!                      shared store: sealed pages of items
//! ```
//! The node sorts its set into buckets, as sealed pages in a shared store ([`SharedStore`]), and puts a row a bucket into the member's
//! PostgreSQL ([`Queue`]). A worker takes a row, under a lease that it extends while it lives, and connects to the node, which opens a
//! stream to the other member's node and carries its frames. All arithmetic is the worker's; every signature, the release and what has
//! been done are the node's, which a worker asks for them (`asks`). So a worker holds no key of the node and no word of the ledger.
//!
//! One key, the same at the node and all its workers, seals the rows and both directions of the connections (`channel`). What it
//! guards: which items a member has (the rows hold the keys of the pages), its matching rows, and the node's hand that signs what a
//! worker has computed.
//!
//! Whoever dies, nothing is counted twice: the node keeps one attempt at a bucket at a time, by the number of the lease, and the past of
//! the list takes a finish from the newest attempt alone ([`tally_psi::buckets::Past::take`]).

pub(crate) mod asks;
pub(crate) mod channel;
mod job;
mod queue;
mod s3;
mod store;
mod worker;

use std::time::Duration;

use zeroize::Zeroizing;

pub(crate) use job::Job;
pub use queue::{Lease, Queue, Taken};
pub use store::SharedStore;
pub use worker::{Worker, WorkerOptions};

use crate::sealed::StorageKey;

/// Why workers cannot be used, or one cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkersError {
    /// The queue's database is away, or refuses.
    #[error("the database of the workers: {reason}")]
    Database {
        /// What it says.
        reason: String,
    },
    /// The database, or the node, has another key than this process.
    #[error("{what} has another worker key: it must be the same at the node and all its workers")]
    Key {
        /// Which.
        what: &'static str,
    },
    /// The shared store cannot be used.
    #[error("the shared store of the workers: {reason}")]
    Store {
        /// What it says.
        reason: String,
    },
    /// A connection between node and worker broke.
    #[error("the connection between node and worker: {0}")]
    Io(#[from] std::io::Error),
    /// The other end sent what it must not.
    #[error("the other end of the connection sent {what}")]
    Malformed {
        /// What.
        what: &'static str,
    },
    /// The node does not want this bucket worked on.
    #[error("the node: {reason}")]
    Declined {
        /// Why.
        reason: String,
        /// Whether the bucket is finished or its list is over, so that nobody has to try again.
        over: bool,
    },
}

/// The member's database for workers, with its secrets.
pub struct Database {
    /// As `postgres://USER@HOST[:PORT]/DATABASE`, or of another form that libpq knows, without a password.
    pub url: String,
    /// Its password, if it asks for one.
    pub password: Option<Zeroizing<String>>,
    /// The key that the node and all its workers have.
    pub key: StorageKey,
}

/// What a node needs to let workers work for it.
pub struct NodeWorkers {
    /// The queue.
    pub queue: Queue,
    /// The shared store.
    pub store: SharedStore,
    /// Under which connections are sealed.
    pub key: StorageKey,
    /// Where workers reach the node, as HOST:PORT.
    pub address: String,
    /// For so long the node waits for a worker's sign before it works itself.
    pub patience: Duration,
}
