//! Where a detector of copies keeps what it wants to know of a code's earlier scans.

use super::{Channel, ClaimCheck, EventKind, Place, Reach, Reasons, Verdict};

/// The longest history of a code, in bytes.
pub const MAX_HISTORY: usize = 600;

/// What a detector is told of one scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation<'a> {
    /// POSIX milliseconds of the scan.
    pub time_ms: u64,
    /// Why it did not count: not released, recalled, revoked, expired; `None` if it counted.
    pub held: Option<Verdict>,
    /// Counted scans of the code, this one included if it counted.
    pub count: u64,
    /// Pseudonym of who scanned.
    pub source: &'a [u8; 16],
    /// Where, if it was said.
    pub place: Option<&'a Place>,
    /// How it came.
    pub channel: Channel,
    /// What became of the claim code.
    pub claim: ClaimCheck,
    /// Whether that is in the batch's territory.
    pub reach: Reach,
}

/// What a detector is told of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handling<'a> {
    /// POSIX milliseconds.
    pub time_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// Pseudonym of the dealer.
    pub source: &'a [u8; 16],
    /// Where, if it was said.
    pub place: Option<&'a Place>,
    /// Whether that is in the batch's territory.
    pub reach: Reach,
}

/// Updates the history of a code with each scan of a unit that this member issued. The index keeps the bytes and does not look into them.
///
/// It must be a pure function: the history is made again from the log after damage, and by each of several gateways. Bytes that it does not
/// know (of an older version of itself) it must take as none.
pub trait History: Send + Sync {
    /// The history after `scan`; at most [`MAX_HISTORY`] bytes, longer ones are not kept.
    fn after(&self, history: &[u8], scan: &Observation<'_>) -> Vec<u8>;

    /// The history after an event; of the same length at most.
    fn after_event(&self, history: &[u8], _event: &Handling<'_>) -> Vec<u8> {
        history.to_vec()
    }

    /// Whether the unit was sold, by an event before.
    fn is_sold(&self, _history: &[u8]) -> bool {
        false
    }

    /// Why the code is suspect by its history, or `None` if it is not.
    fn suspicion(&self, _history: &[u8]) -> Option<Reasons> {
        None
    }
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHistory;

impl History for NoHistory {
    fn after(&self, _: &[u8], _: &Observation<'_>) -> Vec<u8> {
        Vec::new()
    }
}
