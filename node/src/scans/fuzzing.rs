//! What the scan log keeps, as bytes, for [`crate::fuzzing`].

use tally_contracts::codec::Canonical;
use tally_contracts::ids::{BatchId, MemberId};

use super::line::Line;
use super::record::{LogEntry, is_current};
use super::{
    Channel, ClaimCheck, EventKind, First, LaterVerdict, Place, Reach, Reasons, ScanError, ScanId,
    ScanRecord, ScannedCode, TradeEvent, UnitRef, Verdict,
};

/// A line of the log, read and written again with its entry; `None` if either is refused.
pub(crate) fn recode_line(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut line = Line::from_bytes(bytes).ok()?;
    // An older version is read, and not written any more.
    if !is_current(&line.entry) {
        LogEntry::from_bytes(&line.entry).ok()?;
        return None;
    }
    line.entry = LogEntry::from_bytes(&line.entry).ok()?.to_bytes();
    Some(line.to_bytes())
}

/// An entry of the log, read and written again; `None` if it is refused.
pub(crate) fn recode_entry(bytes: &[u8]) -> Option<Vec<u8>> {
    let entry = LogEntry::from_bytes(bytes).ok()?;
    is_current(bytes).then(|| entry.to_bytes())
}

/// A scan with every field, a later verdict and an event.
fn entries() -> Result<[LogEntry; 3], ScanError> {
    let first = Some(First {
        time_ms: 1_790_000_000_000,
        place: Some(Place::new("CN", "Sichuan")?),
    });
    let unit = Some(UnitRef {
        batch: BatchId([1; 16]),
        index: 17,
    });
    let id = ScanId([2; 16]);
    Ok([
        LogEntry::Scan(ScanRecord {
            id,
            time_ms: 1_790_000_000_001,
            code: ScannedCode::new("09521234543213", "0123456789ABCDEFGHJK")?,
            verdict: Verdict::GenuineRepeat,
            count: 2,
            first: first.clone(),
            unit,
            source: [3; 16],
            place: Some(Place::new("DE", "")?),
            channel: Channel::Page,
            issuer: Some(MemberId([4; 16])),
            claim: ClaimCheck::Right,
            reasons: Reasons::none(),
            reach: Reach::Outside,
        }),
        LogEntry::Later(LaterVerdict {
            scan: id,
            time_ms: 1_790_000_000_002,
            verdict: Verdict::GenuineFirst,
            count: 1,
            first,
            unit,
            reasons: Reasons::none(),
            reach: Reach::Inside,
        }),
        LogEntry::Event(TradeEvent {
            id,
            time_ms: 1_790_000_000_003,
            kind: EventKind::Sell,
            code: ScannedCode::new("09521234543213", "0123456789ABCDEFGHJK")?,
            unit: UnitRef {
                batch: BatchId([1; 16]),
                index: 17,
            },
            dealer: "Corner shop".to_owned(),
            source: [7; 16],
            place: Some(Place::new("CN", "SC")?),
            reach: Reach::Inside,
        }),
    ])
}

/// Entries and lines.
pub(crate) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut out = Vec::new();
    for (name, entry) in ["scan", "later-verdict", "event"]
        .into_iter()
        .zip(entries().into_iter().flatten())
    {
        let entry = entry.to_bytes();
        out.push((name, entry.clone()));
        let line = Line {
            salt: [5; 16],
            entry,
            key: None,
            evidence: vec![6; 9],
        };
        out.push((
            match name {
                "scan" => "line-of-scan",
                "event" => "line-of-event",
                _ => "line-of-later-verdict",
            },
            line.to_bytes(),
        ));
    }
    out
}
