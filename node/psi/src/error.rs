//! Everything that can go wrong, in one enum.

/// Why a run ended without a result. No variant holds an identifier, a key or a blinded element.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message ended before a field did.
    #[error("truncated {what}: needed {needed} bytes, {left} left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Bytes it takes.
        needed: usize,
        /// Bytes there were.
        left: usize,
    },
    /// Bytes after the end of a message.
    #[error("{left} bytes after the end of a {what}")]
    Trailing {
        /// The message.
        what: &'static str,
        /// How many.
        left: usize,
    },
    /// A length or count over its bound.
    #[error("{what} is {found}, more than the allowed {max}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// What came.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// A value that its field does not allow.
    #[error("invalid {what}: {found}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What came.
        found: u64,
    },
    /// Text that is not UTF-8 or holds control characters.
    #[error("{what} is not plain UTF-8 text")]
    Text {
        /// The field.
        what: &'static str,
    },
    /// A message that does not belong here.
    #[error("message mismatch: expected {expected}, found {found}")]
    UnexpectedMessage {
        /// What the state waits for.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// The peer runs another version, suite, computation, noise or context.
    #[error("the peer's {what} is not ours")]
    Mismatch {
        /// Which parameter.
        what: &'static str,
    },
    /// A claimed or delivered count is not the one agreed.
    #[error("{what}: expected {expected}, found {found}")]
    Count {
        /// Of what.
        what: &'static str,
        /// Agreed or claimed.
        expected: u64,
        /// Delivered.
        found: u64,
    },
    /// A point that is not a canonical ristretto255 encoding (RFC 9496 4.3.1), or the identity.
    #[error("element {index} is {problem}")]
    Point {
        /// Its place in the peer's stream, from 0.
        index: u64,
        /// `not a canonical encoding` or `the identity`.
        problem: &'static str,
    },
    /// The same element twice.
    #[error("element {index} was sent twice")]
    Duplicate {
        /// Its place in the peer's stream or, where the stream is unordered, in the sorted one.
        index: u64,
    },
    /// A list that has to be sorted is not.
    #[error("{what} {index} is out of order")]
    Unsorted {
        /// `element` or `tag`.
        what: &'static str,
        /// Its place in the peer's stream.
        index: u64,
    },
    /// What shows that the peer followed the protocol does not hold (`vole-rr22-malicious-v1`): it deviated, or bytes changed.
    #[error("the peer's {what} failed their check")]
    Check {
        /// Of what.
        what: &'static str,
    },
    /// The stream's SHA-256 is not the one in its end message.
    #[error("the {what} stream does not hash to its stated digest")]
    Digest {
        /// Whose stream.
        what: &'static str,
    },
    /// The peer ended the run.
    #[error("the peer aborted with code {code}: {reason}")]
    PeerAborted {
        /// Its code.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// The peer's stream ended in the middle of the run.
    #[error("the stream ended while waiting for {expected}")]
    EarlyEnd {
        /// What was due.
        expected: &'static str,
    },
    /// An item value is empty or too long.
    #[error("item value of {found} bytes, expected 1 to {max}")]
    Item {
        /// Its length.
        found: usize,
        /// The longest allowed.
        max: usize,
    },
    /// Noise parameters that the computation or the sampler does not allow.
    #[error("noise parameters refused: {reason}")]
    Noise {
        /// Why.
        reason: &'static str,
    },
    /// Terms of a private sum that do not fit each other or its bounds.
    #[error("terms of the sum refused: {reason}")]
    Terms {
        /// Which of them.
        reason: &'static str,
    },
    /// Terms of a count over several parties that do not fit each other, or that lack what it needs.
    #[error("terms of the overlap refused: {reason}")]
    Overlap {
        /// Which of them.
        reason: &'static str,
    },
    /// Sums that could leave the range in which they can be decrypted: refused before anything is blinded.
    #[error(
        "a sum could take {bits} bits, expected at most {max_bits}: fewer entries, a lower cap or a coarser unit"
    )]
    SumRange {
        /// Bits of the largest exponent that could come.
        bits: u32,
        /// Bits that there are.
        max_bits: u32,
    },
    /// A total of the peer's that decrypts to nothing in its range.
    #[error("total {index} is not in its range")]
    SumTotal {
        /// Its place.
        index: u64,
    },
    /// A sorter holds all the rows it may.
    #[error("sorter is full at {cap_rows} rows")]
    SorterFull {
        /// Its bound.
        cap_rows: u64,
    },
    /// A host's sorter failed.
    #[error("sorter storage failed: {reason}")]
    Storage {
        /// What it said.
        reason: String,
    },
    /// A set does not fit the protocol's store; fewer than one run in 2^41. Running again with the same set would tell the peer of
    /// it, so this is counted and reported, and nothing else.
    #[error("the set could not be encoded: {what}")]
    Encoding {
        /// Why.
        what: &'static str,
    },
    /// More items fell into one bucket than it has room for: fewer than one run in 2^40.
    #[error("bucket {bucket} has room for {capacity} items, {found} fell into it")]
    BucketFull {
        /// Which.
        bucket: u32,
        /// Items it has room for.
        capacity: u64,
        /// Items of this side that fell into it.
        found: u64,
    },
    /// The peer asks again and again for buckets that were answered.
    #[error("answered buckets were asked for again {found} times, expected at most {max}")]
    Repeats {
        /// How often, with this time.
        found: u32,
        /// The bound.
        max: u32,
    },
    /// The host called something that this state does not allow.
    #[error("{call} called while {state}")]
    State {
        /// The call.
        call: &'static str,
        /// The state.
        state: &'static str,
    },
    /// A bug in this crate.
    #[error("internal error: {what}")]
    Internal {
        /// Which invariant broke.
        what: &'static str,
    },
}

impl Error {
    /// The code that an abort message carries for this error: 1 malformed, 2 out of place, 3 parameters, 4 counts, 5 elements,
    /// 6 digest, 7 early end, 8 own trouble, 9 passed on from the peer, 13 a failed check; 10 to 12 are the hosts': refused, cancelled, too slow.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::Truncated { .. }
            | Self::Trailing { .. }
            | Self::TooLong { .. }
            | Self::Invalid { .. }
            | Self::Text { .. } => 1,
            Self::UnexpectedMessage { .. } => 2,
            Self::Mismatch { .. }
            | Self::Noise { .. }
            | Self::Terms { .. }
            | Self::Overlap { .. }
            | Self::SumRange { .. } => 3,
            Self::Count { .. } | Self::Repeats { .. } => 4,
            Self::Point { .. }
            | Self::Duplicate { .. }
            | Self::Unsorted { .. }
            | Self::SumTotal { .. } => 5,
            Self::Digest { .. } => 6,
            Self::EarlyEnd { .. } => 7,
            Self::PeerAborted { .. } => 9,
            Self::Check { .. } => 13,
            Self::Item { .. }
            | Self::SorterFull { .. }
            | Self::Encoding { .. }
            | Self::BucketFull { .. }
            | Self::Storage { .. }
            | Self::State { .. }
            | Self::Internal { .. } => 8,
        }
    }

    /// Whether a run broke from outside, so that another may do better: the peer's stream ended, a store failed, or the peer says so of
    /// its side.
    #[must_use]
    pub const fn is_break(&self) -> bool {
        match self {
            Self::EarlyEnd { .. } | Self::Storage { .. } => true,
            Self::PeerAborted { code, .. } => matches!(*code, 7 | 8),
            _ => false,
        }
    }

    /// What the peer is told: the error's words, or `internal` where they concern this side alone.
    #[must_use]
    pub fn peer_reason(&self) -> String {
        if self.code() == 8 {
            "internal".to_owned()
        } else {
            self.to_string()
        }
    }
}
