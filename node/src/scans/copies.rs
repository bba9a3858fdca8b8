//! Notices copied codes: shows the scans of a code to the detector of `tally-trace`, whose history the index keeps.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_trace::history as trace;
use tally_trace::history::Custody;
use tally_trace::observation::{self, Claim, Stage, Territory};
use tally_trace::score::{DEFAULT_THRESHOLD_MNAT, Reason, ReasonKind};

use super::reach::spot;
use super::{Channel, ClaimCheck, EventKind, Handling, History, Observation, Reach, Verdict};

/// Why a code is suspect, at most one of each kind, in the order of their numbers; empty if it is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reasons(Vec<Reason>);

impl Reasons {
    /// None.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Each of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Reason] {
        &self.0
    }
}

impl Canonical for Reasons {
    fn write(&self, w: &mut Writer) {
        w.u8(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        for reason in &self.0 {
            w.u8(reason.kind.number()).u8(reason.count);
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let bad = |found: u8| CodecError::Invalid {
            what: "reason",
            found: found.into(),
        };
        let count = r.u8("reasons")?;
        if usize::from(count) > ReasonKind::ALL.len() {
            return Err(bad(count));
        }
        let mut out: Vec<Reason> = Vec::new();
        for _ in 0..count {
            let number = r.u8("reason")?;
            let kind = ReasonKind::from_number(number).ok_or_else(|| bad(number))?;
            // One form only: rising numbers, nothing counted as never.
            if out.last().is_some_and(|last| last.kind >= kind) {
                return Err(bad(number));
            }
            let count = r.u8("reason count")?;
            if count == 0 {
                return Err(bad(count));
            }
            out.push(Reason { kind, count });
        }
        Ok(Self(out))
    }
}

/// The detector, with the score from which a code is suspect.
#[derive(Debug, Clone, Copy)]
pub struct Copies {
    /// Milli-nats; see `tally_trace::score`.
    pub threshold_mnat: u32,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            threshold_mnat: DEFAULT_THRESHOLD_MNAT,
        }
    }
}

fn observation(scan: &Observation<'_>) -> observation::Observation {
    let mut source = *scan.source;
    if scan.channel == Channel::Forward {
        // All scans that one member forwards come under its own pseudonym: they are told apart by their time.
        for (byte, time) in source.iter_mut().zip(scan.time_ms.to_be_bytes()) {
            *byte ^= time;
        }
    }
    observation::Observation {
        time_ms: scan.time_ms,
        source,
        spot: scan.place.and_then(spot),
        claim: match scan.claim {
            ClaimCheck::Absent => Claim::Absent,
            ClaimCheck::Right => Claim::Right,
            ClaimCheck::Wrong => Claim::Wrong,
        },
        stage: match scan.held {
            Some(Verdict::NotReleased) => Stage::BeforeRelease,
            Some(Verdict::Recalled) => Stage::Recalled,
            Some(Verdict::Revoked) => Stage::Void,
            // An expired pack that is scanned is one on the market: whoever holds it looks at its date.
            _ => Stage::Market,
        },
        territory: territory(scan.reach),
        // A source that guesses is known under another name than the log has, for a day: see `docs/copies.md`.
        failures: 0,
    }
}

const fn territory(reach: Reach) -> Territory {
    match reach {
        Reach::Unknown => Territory::Unknown,
        Reach::Inside => Territory::Inside,
        Reach::Outside => Territory::Outside,
    }
}

impl History for Copies {
    fn after(&self, history: &[u8], scan: &Observation<'_>) -> Vec<u8> {
        let mut history = trace::History::from_bytes(history).unwrap_or_default();
        history.observe(&observation(scan));
        history.to_bytes()
    }

    fn after_event(&self, history: &[u8], event: &Handling<'_>) -> Vec<u8> {
        let mut history = trace::History::from_bytes(history).unwrap_or_default();
        let custody = match event.kind {
            EventKind::Receive => Custody::Received,
            EventKind::Sell => Custody::Sold,
        };
        history.custody(
            custody,
            &observation::Observation {
                time_ms: event.time_ms,
                source: *event.source,
                spot: event.place.and_then(spot),
                claim: Claim::Absent,
                stage: Stage::Market,
                territory: territory(event.reach),
                failures: 0,
            },
        );
        history.to_bytes()
    }

    fn is_sold(&self, history: &[u8]) -> bool {
        trace::History::from_bytes(history).is_ok_and(|h| h.is_sold())
    }

    fn suspicion(&self, history: &[u8]) -> Option<Reasons> {
        let found = trace::History::from_bytes(history).ok()?.assess();
        found
            .is_suspect(self.threshold_mnat)
            .then_some(Reasons(found.reasons))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_one_form() {
        let reasons = Reasons(vec![
            Reason {
                kind: ReasonKind::Visits,
                count: 3,
            },
            Reason {
                kind: ReasonKind::ClaimWrong,
                count: 1,
            },
        ]);
        assert_eq!(reasons.to_bytes(), [2, 1, 3, 6, 1]);
        assert_eq!(Reasons::from_bytes(&[2, 1, 3, 6, 1]).unwrap(), reasons);
        for bad in [
            &[2, 6, 1, 1, 3][..],
            &[2, 1, 3, 1, 3],
            &[1, 1, 0],
            &[1, 13, 1],
            &[13],
            &[1],
        ] {
            assert!(Reasons::from_bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_history_always_fits_the_index() {
        const { assert!(trace::MAX_HISTORY_BYTES <= super::super::MAX_HISTORY) }
    }
}
