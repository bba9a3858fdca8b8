//! Deciding a group: each scan sees what those before it in the log have done, and nobody else does before it is durable.

use std::collections::{BTreeMap, HashMap};

use rand_core::{OsRng, RngCore};
use tally_contracts::codec::Canonical;
use tally_merkle::Hash;
use zeroize::Zeroizing;

use super::super::draft::{
    Appended, Draft, EventDraft, Finding, LaterDraft, Outcome, Reply, verdict_of,
};
use super::super::index::{IndexError, Wanted};
use super::super::keys::KeyUse;
use super::super::line::Line;
use super::super::record::LogEntry;
use super::super::state::{Effect, Staged};
use super::super::{
    CodeHash, LaterVerdict, Reasons, ScanError, ScanRecord, Seen, Verdict, scan_leaf,
};
use super::{ScanWriter, describe};

/// A job that gets a line, once its verdict is decided.
pub(super) struct Work {
    pub(super) what: What,
    pub(super) code: CodeHash,
    pub(super) reply: Reply,
}

pub(super) enum What {
    Scan(Box<Draft>),
    Later {
        draft: LaterDraft,
        scan: Box<ScanRecord>,
    },
    Event(Box<EventDraft>),
}

impl Work {
    /// The row that is needed to decide.
    pub(super) const fn wanted(&self) -> Option<Wanted> {
        let finding = match &self.what {
            What::Scan(draft) => Some(&draft.finding),
            What::Later { draft, .. } => Some(&draft.finding),
            What::Event(_) => None,
        };
        let change = match finding {
            None | Some(Finding::Counted(_) | Finding::Held(..)) => true,
            Some(Finding::Other(Verdict::CannotVerifyNow) | Finding::Answered { .. }) => {
                return None;
            }
            Some(Finding::Other(_)) => false,
        };
        Some(Wanted {
            code: self.code,
            change,
        })
    }
}

/// A group as it is decided: what it will change is seen by its later works and by nobody else before it is durable.
#[derive(Default)]
pub(super) struct Decided {
    pub(super) lines: Vec<Zeroizing<Vec<u8>>>,
    pub(super) staged: Vec<Staged>,
    pub(super) rows: HashMap<CodeHash, Seen>,
    pub(super) changed: BTreeMap<[u8; 32], Seen>,
    /// Whether rows are held for change.
    pub(super) holds: bool,
    /// One for each work; what is new has its index still open.
    pub(super) results: Vec<(Reply, Outcome)>,
    /// The line of each work, if it has one.
    pub(super) line_of: Vec<Option<usize>>,
}

impl ScanWriter {
    pub(super) fn decide(&mut self, works: Vec<Work>) -> (Decided, bool) {
        let mut decided = Decided::default();
        let mut away = None;
        decided.holds = works.iter().filter_map(Work::wanted).any(|w| w.change);
        match self.rows(&works) {
            Ok(rows) => decided.rows = rows,
            Err(IndexError::Failed(error)) => {
                let error = self.shared.noted::<()>(Err(error));
                let reason = error.err().map_or_else(String::new, |e| describe(&e));
                tracing::error!(reason, "scans cannot be decided");
                for work in works {
                    let reason = reason.clone();
                    decided.line_of.push(None);
                    decided
                        .results
                        .push((work.reply, Err(ScanError::ReadOnly { reason })));
                }
                return (decided, false);
            }
            Err(IndexError::Away { reason } | IndexError::Unsure { reason }) => {
                self.in_step = false;
                away = Some(reason);
            }
        }
        for work in works {
            let line = decided.lines.len();
            let result = self.stage(&mut decided, work.what, work.code, away.as_deref());
            let has_line = decided.lines.len() > line;
            decided.line_of.push(has_line.then_some(line));
            decided.results.push((work.reply, result));
        }
        (decided, away.is_some())
    }

    fn stage(
        &self,
        decided: &mut Decided,
        what: What,
        code: CodeHash,
        away: Option<&str>,
    ) -> Result<Appended, ScanError> {
        match what {
            What::Scan(draft) => {
                let mut draft = *draft;
                if let Some(reason) = away.filter(|_| draft.finding.needs_index()) {
                    if draft.decide_now {
                        return Err(ScanError::IndexAway {
                            reason: reason.to_owned(),
                        });
                    }
                    // Kept, and decided when the index is back: never first by guess.
                    draft.finding = Finding::Other(Verdict::CannotVerifyNow);
                }
                Ok(self.stage_scan(decided, draft, code))
            }
            What::Later { draft, scan } => {
                if let Some(reason) = away.filter(|_| draft.finding.needs_index()) {
                    return Err(ScanError::IndexAway {
                        reason: reason.to_owned(),
                    });
                }
                self.stage_later(decided, draft, &scan, code);
                Ok(Appended::Later)
            }
            What::Event(draft) => match away {
                // The dealer sends it again.
                Some(reason) => Err(ScanError::IndexAway {
                    reason: reason.to_owned(),
                }),
                None => Ok(self.stage_event(decided, *draft, code)),
            },
        }
    }

    fn stage_scan(&self, decided: &mut Decided, draft: Draft, code: CodeHash) -> Appended {
        let before = decided.rows.get(&code).cloned().unwrap_or_default();
        let (verdict, count, first, unit, reasons) =
            verdict_of(&before, draft.time_ms, draft.place.as_ref(), draft.finding);
        let mut record = ScanRecord {
            id: draft.id,
            time_ms: draft.time_ms,
            code: draft.code,
            verdict,
            count,
            first,
            unit,
            source: draft.source,
            place: draft.place,
            channel: draft.channel,
            issuer: draft.issuer,
            claim: draft.claim,
            reasons,
            reach: draft.reach,
        };
        let row = unit.map(|_| {
            let first = record.first.clone().filter(|_| record.is_counted());
            let effect = Effect::new(&record, (verdict, record.reach), first);
            effect.onto(&before, self.shared.history())
        });
        if let Some(reasons) = self.suspicion(verdict, row.as_ref()) {
            record.verdict = Verdict::Suspect;
            record.reasons = reasons;
        }
        let leaf = decided.push(
            LogEntry::Scan(record.clone()),
            draft.key,
            draft.evidence,
            None,
            (code, row),
        );
        Appended::New {
            record: Box::new(record),
            index: 0,
            leaf,
        }
    }

    /// Why a genuine code is suspect after this scan, by its row.
    fn suspicion(&self, verdict: Verdict, row: Option<&Seen>) -> Option<Reasons> {
        let row = row.filter(|_| verdict.is_genuine())?;
        self.shared.history().suspicion(&row.history)
    }

    fn stage_later(
        &self,
        decided: &mut Decided,
        draft: LaterDraft,
        scan: &ScanRecord,
        code: CodeHash,
    ) {
        let before = decided.rows.get(&code).cloned().unwrap_or_default();
        let (verdict, count, first, unit, reasons) =
            verdict_of(&before, draft.time_ms, scan.place.as_ref(), draft.finding);
        let row = unit.map(|_| {
            let first = first.clone().filter(|_| verdict.is_counted());
            let effect = Effect::new(scan, (verdict, draft.reach), first);
            effect.onto(&before, self.shared.history())
        });
        let (verdict, reasons) = self
            .suspicion(verdict, row.as_ref())
            .map_or((verdict, reasons), |found| (Verdict::Suspect, found));
        let later = LaterVerdict {
            scan: scan.id,
            time_ms: draft.time_ms,
            verdict,
            count,
            first,
            unit,
            reasons,
            reach: draft.reach,
        };
        decided.push(
            LogEntry::Later(later),
            None,
            draft.evidence,
            Some(draft.index),
            (code, row),
        );
    }

    fn stage_event(&self, decided: &mut Decided, draft: EventDraft, code: CodeHash) -> Appended {
        let before = decided.rows.get(&code).cloned().unwrap_or_default();
        if self.shared.was_said(&before, &draft.event) {
            return Appended::EventBefore;
        }
        let history = self.shared.history();
        let sold_before = history.is_sold(&before.history);
        let row = Effect::of_event(&draft.event).onto(&before, history);
        decided.push(
            LogEntry::Event(draft.event),
            Some(draft.key),
            Vec::new(),
            None,
            (code, Some(row)),
        );
        Appended::Event {
            index: 0,
            sold_before,
        }
    }
}

impl Decided {
    fn push(
        &mut self,
        entry: LogEntry,
        key: Option<KeyUse>,
        evidence: Vec<u8>,
        resolves: Option<u64>,
        (code, row): (CodeHash, Option<Seen>),
    ) -> Hash {
        let mut salt = [0; 16];
        OsRng.fill_bytes(&mut salt);
        let bytes = entry.to_bytes();
        let leaf = scan_leaf(&salt, &bytes);
        let line = Line {
            salt,
            entry: bytes,
            key,
            evidence,
        };
        self.lines.push(Zeroizing::new(line.to_bytes()));
        let before = self.rows.get(&code);
        let row = row.filter(|row| Some(row) != before);
        if let Some(row) = &row {
            self.rows.insert(code, row.clone());
            self.changed.insert(code.0, row.clone());
        }
        self.staged.push(Staged {
            leaf,
            entry: Some(entry),
            key,
            resolves,
            row: row.map(|row| (code, row)),
        });
        leaf
    }
}
