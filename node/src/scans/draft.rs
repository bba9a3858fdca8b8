//! Scans on their way into the log, and what becomes of them.

use tally_merkle::Hash;
use tokio::sync::oneshot;

use super::keys::KeyUse;
use super::{
    Channel, ClaimCheck, First, Place, Reach, Reasons, ScanError, ScanId, ScanRecord, ScannedCode,
    Seen, TradeEvent, UnitRef, Verdict,
};

/// What verification found, before the log's order decides whether it is the first scan.
#[derive(Debug, Clone)]
pub(super) enum Finding {
    /// Genuine, issued here: counted here.
    Counted(UnitRef),
    /// Issued here, but not to be counted.
    Held(UnitRef, Verdict),
    /// Not issued, or nobody knows now.
    Other(Verdict),
    /// The issuer, another member, has decided.
    Answered {
        verdict: Verdict,
        count: u64,
        first: Option<First>,
        reasons: Reasons,
    },
}

/// A scan on its way into the log.
pub(super) struct Draft {
    pub(super) id: ScanId,
    pub(super) time_ms: u64,
    pub(super) code: ScannedCode,
    pub(super) finding: Finding,
    pub(super) source: [u8; 16],
    pub(super) place: Option<Place>,
    pub(super) channel: Channel,
    pub(super) issuer: Option<tally_contracts::ids::MemberId>,
    pub(super) claim: ClaimCheck,
    pub(super) reach: Reach,
    pub(super) key: Option<KeyUse>,
    pub(super) evidence: Vec<u8>,
    /// Refuse it while the index is away, instead of keeping it unverified.
    pub(super) decide_now: bool,
}

/// A later verdict on its way into the log.
pub(super) struct LaterDraft {
    pub(super) index: u64,
    pub(super) time_ms: u64,
    pub(super) finding: Finding,
    pub(super) reach: Reach,
    pub(super) evidence: Vec<u8>,
}

/// An event on its way into the log.
pub(super) struct EventDraft {
    pub(super) event: TradeEvent,
    pub(super) key: KeyUse,
}

/// What became of a draft.
#[derive(Debug, Clone)]
pub(super) enum Appended {
    /// It stands in the log, durably.
    New {
        record: Box<ScanRecord>,
        index: u64,
        leaf: Hash,
    },
    /// The same request was answered before, by the scan at `index`.
    Before { index: u64 },
    /// A later verdict was written, or there was one already.
    Later,
    /// The dealer said the same of the code before, at this gateway or another one.
    EventBefore,
    /// The event stands in the log, durably. Whether the unit had been sold before it.
    Event { index: u64, sold_before: bool },
}

pub(super) type Outcome = Result<Appended, ScanError>;
pub(super) type Reply = oneshot::Sender<Outcome>;

pub(super) enum Job {
    Scan(Box<Draft>, Reply),
    Later(LaterDraft, Reply),
    Event(Box<EventDraft>, Reply),
    /// Begin a new segment, so that retention can reach the scans of the last one.
    Roll(oneshot::Sender<Result<(), ScanError>>),
}

impl Finding {
    /// The unit, if this member issued it.
    pub(super) const fn unit(&self) -> Option<UnitRef> {
        match self {
            Self::Counted(unit) | Self::Held(unit, _) => Some(*unit),
            Self::Other(_) | Self::Answered { .. } => None,
        }
    }

    /// Whether it cannot be decided without the index.
    pub(super) const fn needs_index(&self) -> bool {
        matches!(self, Self::Counted(_) | Self::Held(..))
    }
}

/// The verdict of a finding after the scans that `before` tells, without a look at its history: verdict, count, first scan, unit, and
/// the issuer's reasons if another member decided.
pub(super) fn verdict_of(
    before: &Seen,
    time_ms: u64,
    place: Option<&Place>,
    finding: Finding,
) -> (Verdict, u64, Option<First>, Option<UnitRef>, Reasons) {
    match finding {
        Finding::Answered {
            verdict,
            count,
            first,
            reasons,
        } => (verdict, count, first, None, reasons),
        Finding::Counted(unit) => {
            let (verdict, first) = match &before.first {
                None => (
                    Verdict::GenuineFirst,
                    First {
                        time_ms,
                        place: place.cloned(),
                    },
                ),
                Some(first) => (Verdict::GenuineRepeat, first.clone()),
            };
            let count = before.count.saturating_add(1);
            (verdict, count, Some(first), Some(unit), Reasons::none())
        }
        Finding::Held(unit, verdict) => (
            verdict,
            before.count,
            before.first.clone(),
            Some(unit),
            Reasons::none(),
        ),
        Finding::Other(verdict) => (
            verdict,
            before.count,
            before.first.clone(),
            None,
            Reasons::none(),
        ),
    }
}
