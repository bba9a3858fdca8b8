//! What is known of each code from its scans, behind one small trait: [`embedded`] for one gateway, [`postgres`] for several gateways of
//! one member.
//!
//! The writer of the scan log takes the rows of a group's codes ([`ScanIndex::begin`]), decides, and hands the changed rows back together with
//! the lines that the log will get ([`ScanIndex::commit`]). Between the two nobody else changes these rows, so "first" is said once.
//! What was committed is in force even if the process dies before the log has it: then [`ScanIndex::resume`] tells the lines.

mod embedded;
mod postgres;

use async_trait::async_trait;
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};

pub(super) use self::embedded::EmbeddedIndex;
pub(super) use self::postgres::PostgresIndex;
pub use self::postgres::SharedIndex;
use super::record::{read_option, write_option};
use super::{CodeHash, EventKind, First, MAX_HISTORY, ScanError};

/// What the scans of one code were.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// How many counted.
    pub count: u64,
    /// The first of those.
    pub first: Option<First>,
    /// What the detector keeps; see [`History`](super::History). At most [`MAX_HISTORY`] bytes.
    pub history: Vec<u8>,
    /// What dealers said of it last, at most [`MAX_SAID`], in that order: the same said again, at whichever gateway, is one event.
    pub said: Vec<Said>,
}

/// The most events of a code that are remembered in its row.
pub const MAX_SAID: usize = 16;

/// That a dealer said something of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Pseudonym of the dealer, the same at every gateway.
    pub source: [u8; 16],
    /// What happened.
    pub kind: EventKind,
    /// When it was said first, POSIX milliseconds.
    pub time_ms: u64,
}

impl Canonical for Said {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.source);
        self.kind.write(w);
        w.u64(self.time_ms);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            source: r.array("dealer")?,
            kind: EventKind::read(r)?,
            time_ms: r.u64("time")?,
        })
    }
}

impl Seen {
    /// Whether the dealer said the same at most `max_age_ms` before `now_ms`.
    #[must_use]
    pub fn was_said(
        &self,
        source: &[u8; 16],
        kind: EventKind,
        now_ms: u64,
        max_age_ms: u64,
    ) -> bool {
        self.said.iter().any(|said| {
            said.source == *source
                && said.kind == kind
                && now_ms.saturating_sub(said.time_ms) <= max_age_ms
        })
    }
}

impl Canonical for Seen {
    fn write(&self, w: &mut Writer) {
        w.u64(self.count);
        write_option(w, self.first.as_ref());
        w.bytes(&self.history);
        // Most codes are never spoken of: their rows end here, as rows did before there were events.
        if !self.said.is_empty() {
            w.list(&self.said, |w, said| said.write(w));
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            count: r.u64("count")?,
            first: read_option(r, "first")?,
            history: r.bytes("history", MAX_HISTORY)?.to_vec(),
            said: if r.left() > 0 {
                let said: Vec<Said> = r.list("events", MAX_SAID, Said::read)?;
                if said.is_empty() {
                    return Err(CodecError::Invalid {
                        what: "events",
                        found: 0,
                    });
                }
                said
            } else {
                Vec::new()
            },
        })
    }
}

/// A code whose row a group needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) code: CodeHash,
    /// Whether its row may be changed; else it is only looked at.
    pub(super) change: bool,
}

/// Why the index does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    /// It is away and will be back: nothing is decided, and nothing was changed.
    #[error("the scan index is away: {reason}")]
    Away {
        /// Why, without secrets.
        reason: String,
    },
    /// It went away during a commit: whether that is in force is told by [`ScanIndex::resume`] once it is back.
    #[error("the scan index went away while it was written: {reason}")]
    Unsure {
        /// Why, without secrets.
        reason: String,
    },
    /// It does not work.
    #[error(transparent)]
    Failed(#[from] ScanError),
}

/// A group of lines on its way into the log.
pub(super) struct Group<'a> {
    /// Leaves in the log before it; the effects of all of them are in the index.
    pub(super) base: u64,
    /// What the log will get.
    pub(super) lines: &'a [&'a [u8]],
}

/// Where an index that is kept apart from the log stands.
#[derive(Debug, Default)]
pub(super) struct Resume {
    /// The effects of the leaves before this one are in the index, and so are those of `lines`.
    pub(super) applied: u64,
    /// The lines of the last group that was committed: they belong into the log, if they are not there yet.
    pub(super) lines: Vec<Vec<u8>>,
}

/// The index. All but [`Self::seen`] is called by the one writer of the log, and may wait.
#[async_trait]
pub(super) trait ScanIndex: Send + Sync {
    /// The rows of these codes, in their order; a code never seen has the default one. Those to be changed stay as they are until
    /// [`Self::commit`] or the next call of this.
    fn begin(&self, wanted: &[Wanted]) -> Result<Vec<Seen>, IndexError>;

    /// Sets rows that [`Self::begin`] gave for change, durably and together with the lines, or nothing at all.
    fn commit(&self, rows: &[(CodeHash, Seen)], group: &Group<'_>) -> Result<(), IndexError>;

    /// What was committed last is in the log, and these are the rows after it; so are those of entries read from the log at start, unless
    /// it is kept apart.
    fn logged(&self, rows: Vec<(CodeHash, Seen)>);

    /// Whether it is kept apart from the log: then it may be away, and ahead of the log, and other gateways use it too.
    fn is_apart(&self) -> bool;

    /// Where it stands, if it is kept apart; asked at start and after it was away.
    fn resume(&self) -> Result<Resume, IndexError>;

    /// The row of a code as it is now.
    async fn seen(&self, code: &CodeHash) -> Result<Seen, IndexError>;

    /// Why it is away, if it is.
    fn away(&self) -> Option<String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_events_are_as_they_were() {
        let plain = Seen {
            count: 2,
            first: Some(First {
                time_ms: 7,
                place: None,
            }),
            history: vec![1, 2],
            said: Vec::new(),
        };
        let bytes = plain.to_bytes();
        assert_eq!(Seen::from_bytes(&bytes).unwrap(), plain);
        let said = |n: u8| Said {
            source: [n; 16],
            kind: EventKind::Sell,
            time_ms: 1_000,
        };
        let spoken = Seen {
            said: (0..16).map(said).collect(),
            ..plain
        };
        let long = spoken.to_bytes();
        assert!(long.starts_with(&bytes) && long.len() == bytes.len() + 4 + 16 * 25);
        assert_eq!(Seen::from_bytes(&long).unwrap(), spoken);
        assert!(
            Seen::from_bytes(&[&bytes[..], &[0; 4]].concat()).is_err(),
            "one form"
        );
        let more = Seen {
            said: (0..17).map(said).collect(),
            ..spoken.clone()
        };
        assert!(Seen::from_bytes(&more.to_bytes()).is_err());

        let was = |source: u8, kind, now| spoken.was_said(&[source; 16], kind, now, 50);
        assert!(was(3, EventKind::Sell, 1_050) && was(3, EventKind::Sell, 900));
        assert!(!was(3, EventKind::Sell, 1_051), "too old");
        assert!(!was(3, EventKind::Receive, 1_000) && !was(16, EventKind::Sell, 1_000));
    }
}
