//! Counts over a scan log: by verdict, day, batch and place, and how many units were scanned twice or are suspect.
//!
//! The log is read once, from its beginning, with no memory for single codes: the first scan of a unit says how many it counts, and at the
//! second the row of the code says whether the visits were apart and whether it is suspect now.

use std::collections::BTreeMap;

use tally_contracts::ids::BatchId;
use tally_trace::history as trace;
use tokio::runtime::Handle;

use super::record::LogEntry;
use super::state::Shared;
use super::stored::Stored;
use super::{CodeHash, First, Place, ScanError, ScanRecord, UnitRef, Verdict};

/// Most places that are counted apart; scans from further ones are counted under no name.
pub const MAX_PLACES: usize = 10_000;
/// Longest cell by which scans are counted: four characters are about 39 by 20 kilometres.
pub const MAX_COUNTED_CELL: usize = 4;
const DAY_MS: u64 = 86_400_000;
/// Entries between two reports.
const REPORT_EVERY: u64 = 20_000;

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub struct StatisticsQuery {
    /// Only scans from this time on, POSIX milliseconds; units whose first scan is older are none.
    pub since_ms: u64,
    /// Characters of the cells by which places are counted, at most [`MAX_COUNTED_CELL`]; 0 counts by country and region.
    pub cell_length: usize,
}

/// What was counted of one batch or place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Scans of units of this member.
    pub scans: u64,
    /// Units of which the first scan is in the log.
    pub units: u64,
    /// Of those, scanned again on another occasion; counted where the first scan was.
    pub doubled: u64,
    /// Of those, suspect now.
    pub suspect: u64,
}

/// A place as it is counted: country, region and cell, of which the last or the last two are empty.
pub type Counted = (String, String, String);

/// The counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Scans, of all members' codes, that are not deleted.
    pub scans: u64,
    /// Entries of which retention left nothing but their leaf, whenever they were made; they are in no other count.
    pub deleted: u64,
    /// When the first and the last of the others were made, POSIX milliseconds.
    pub span_ms: Option<(u64, u64)>,
    /// By verdict, a later one in place of `cannot_verify_now`.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// By day since 1970 (UTC) and verdict.
    pub days: BTreeMap<u64, BTreeMap<Verdict, u64>>,
    /// By batch of this member.
    pub batches: BTreeMap<BatchId, Tally>,
    /// By place, of this member's units; under empty names those that told none, or one too many.
    pub places: BTreeMap<Counted, Tally>,
    /// Whether other gateways count in the same index: then units may have their first scan in another gateway's log, and doubles of one
    /// log cannot be compared with the units of it.
    pub shared: bool,
}

impl Statistics {
    fn tell(&mut self, time_ms: u64, verdict: Verdict) {
        *self.verdicts.entry(verdict).or_default() += 1;
        let day = self.days.entry(time_ms / DAY_MS).or_default();
        *day.entry(verdict).or_default() += 1;
    }

    /// The issuer has answered: the scan of this time has another verdict now.
    fn tell_later(&mut self, time_ms: u64, verdict: Verdict) {
        let waiting = Verdict::CannotVerifyNow;
        let day = self.days.entry(time_ms / DAY_MS).or_default();
        for counts in [&mut self.verdicts, day] {
            if let Some(count) = counts.get_mut(&waiting) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(&waiting);
                }
            }
            *counts.entry(verdict).or_default() += 1;
        }
    }

    fn place(&mut self, place: Option<&Place>, cell_length: usize) -> &mut Tally {
        let mut name = named(place, cell_length);
        if self.places.len() >= MAX_PLACES && !self.places.contains_key(&name) {
            name = Counted::default();
        }
        self.places.entry(name).or_default()
    }
}

fn named(place: Option<&Place>, cell_length: usize) -> Counted {
    let Some(place) = place else {
        return Counted::default();
    };
    if cell_length == 0 {
        return (
            place.country().to_owned(),
            place.region().to_owned(),
            String::new(),
        );
    }
    let cell = place.cell().and_then(|c| c.cut(cell_length));
    let cell = cell.map_or_else(String::new, |c| c.as_str().to_owned());
    (place.country().to_owned(), String::new(), cell)
}

/// One scan of a unit of this member, as it was decided at last.
struct Decided<'a> {
    unit: UnitRef,
    verdict: Verdict,
    count: u64,
    first: Option<&'a First>,
    place: Option<&'a Place>,
    code: CodeHash,
}

struct Counting<'a> {
    shared: &'a Shared,
    query: StatisticsQuery,
    runtime: Handle,
    out: Statistics,
}

impl Counting<'_> {
    fn take(&mut self, stored: &Stored) -> Result<(), ScanError> {
        match stored {
            Stored::Gone(_) => {
                self.out.deleted += 1;
                Ok(())
            }
            Stored::Line(_, entry) => match &**entry {
                LogEntry::Scan(scan) => self.scan(scan),
                LogEntry::Event(_) => Ok(()),
                LogEntry::Later(later) => {
                    let leaf = self.shared.leaf_of(&later.scan)?;
                    let Some(Stored::Line(_, entry)) =
                        leaf.map(|leaf| self.shared.stored(leaf)).transpose()?
                    else {
                        return Ok(());
                    };
                    let LogEntry::Scan(scan) = *entry else {
                        return Ok(());
                    };
                    if scan.time_ms < self.query.since_ms {
                        return Ok(());
                    }
                    self.out.tell_later(scan.time_ms, later.verdict);
                    match later.unit {
                        Some(unit) => self.unit(&Decided {
                            unit,
                            verdict: later.verdict,
                            count: later.count,
                            first: later.first.as_ref(),
                            place: scan.place.as_ref(),
                            code: scan.code_hash(),
                        }),
                        None => Ok(()),
                    }
                }
            },
        }
    }

    fn scan(&mut self, scan: &ScanRecord) -> Result<(), ScanError> {
        if scan.time_ms < self.query.since_ms {
            return Ok(());
        }
        self.out.scans += 1;
        let (from, to) = self.out.span_ms.unwrap_or((scan.time_ms, scan.time_ms));
        self.out.span_ms = Some((from.min(scan.time_ms), to.max(scan.time_ms)));
        self.out.tell(scan.time_ms, scan.verdict);
        match scan.unit {
            Some(unit) => self.unit(&Decided {
                unit,
                verdict: scan.verdict,
                count: scan.count,
                first: scan.first.as_ref(),
                place: scan.place.as_ref(),
                code: scan.code_hash(),
            }),
            None => Ok(()),
        }
    }

    fn unit(&mut self, scan: &Decided<'_>) -> Result<(), ScanError> {
        let length = self.query.cell_length;
        let batch = scan.unit.batch;
        self.out.batches.entry(batch).or_default().scans += 1;
        self.out.place(scan.place, length).scans += 1;
        if !scan.verdict.is_counted() {
            return Ok(());
        }
        // A unit whose first scan is deleted or too old is none here.
        let from = self.out.span_ms.map_or(self.query.since_ms, |span| span.0);
        let first = scan.first.filter(|f| f.time_ms >= from);
        let Some(first) = first else { return Ok(()) };
        match scan.count {
            1 => {
                self.out.batches.entry(batch).or_default().units += 1;
                self.out.place(scan.place, length).units += 1;
            }
            2 => {
                let seen = self
                    .runtime
                    .block_on(self.shared.index.seen(&scan.code))
                    .map_err(ScanError::from)?;
                let history = trace::History::from_bytes(&seen.history).unwrap_or_default();
                let doubled = u64::from(history.counts().visits >= 2);
                let suspect = self.shared.history().suspicion(&seen.history);
                let suspect = u64::from(suspect.is_some());
                let place = first.place.clone();
                let of_batch = self.out.batches.entry(batch).or_default();
                of_batch.doubled += doubled;
                of_batch.suspect += suspect;
                let of_place = self.out.place(place.as_ref(), length);
                of_place.doubled += doubled;
                of_place.suspect += suspect;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Counts the log as it is now. Reads all of it; `report` hears how many entries are done. Needs a runtime, and blocks.
pub(super) fn count(
    shared: &Shared,
    query: StatisticsQuery,
    report: &mut dyn FnMut(u64, u64),
) -> Result<Statistics, ScanError> {
    if query.cell_length > MAX_COUNTED_CELL {
        return Err(ScanError::Input {
            what: "cell length",
            expected: "at most 4 characters",
        });
    }
    let runtime = Handle::try_current().map_err(|_| ScanError::Internal {
        what: "statistics outside a runtime",
    })?;
    // What comes in meanwhile is in the last segment, behind what is counted.
    let (segments, total) = (shared.full_segments(), shared.size());
    let mut counting = Counting {
        shared,
        query,
        runtime,
        out: Statistics {
            shared: shared.index.is_apart(),
            ..Statistics::default()
        },
    };
    let mut done = 0_u64;
    let mut visit = |_, bytes: &[u8]| {
        // A scan that comes in while this runs is not of this count.
        if done < total {
            counting.take(&Stored::from_bytes(bytes)?)?;
        }
        done += 1;
        if done.is_multiple_of(REPORT_EVERY) {
            report(done, total);
        }
        Ok::<_, ScanError>(())
    };
    let last = segments.end;
    for segment in segments {
        shared.reader.visit_segment(segment, &mut visit)?;
    }
    if total > 0 {
        shared.reader.visit_open_segment(last, &mut visit)?;
    }
    Ok(counting.out)
}
