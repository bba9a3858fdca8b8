//! Keeping log and index in step, where the index is kept apart and either may be ahead after a crash.

use std::collections::{HashMap, HashSet};

use tally_contracts::codec::Canonical;

use super::super::ScanError;
use super::super::index::{Group, IndexError, Wanted};
use super::super::line::Line;
use super::super::record::LogEntry;
use super::super::state::Effect;
use super::super::stored::Stored;
use super::ScanWriter;

/// How many scans are counted in the index at a time when it has lost them.
const GIVE_BACK: usize = 512;

impl ScanWriter {
    /// Whether the scan of a line is in the log.
    pub(super) fn is_logged(&self, line: Option<&&[u8]>) -> bool {
        line.and_then(|line| Line::from_bytes(line).ok())
            .and_then(|line| LogEntry::from_bytes(&line.entry).ok())
            .is_some_and(|entry| self.has(&entry).unwrap_or(false))
    }

    fn has(&self, entry: &LogEntry) -> Result<bool, ScanError> {
        Ok(match entry {
            LogEntry::Scan(scan) => self.shared.leaf_of(&scan.id)?.is_some(),
            LogEntry::Event(event) => self.shared.leaf_of(&event.id)?.is_some(),
            LogEntry::Later(later) => match self.shared.leaf_of(&later.scan)? {
                Some(leaf) => self.shared.pending(leaf)?.is_none(),
                None => false,
            },
        })
    }

    /// Brings log and index together: what the index took and the log did not get is put into the log, and what the log has and the index
    /// lost is put into the index. Gives the leaf of the first line that the log got, if it got any.
    pub(super) fn step(&mut self) -> Result<Option<u64>, IndexError> {
        let resume = self.shared.index.resume()?;
        let mut own = HashSet::new();
        let mut entries = Vec::with_capacity(resume.lines.len());
        for bytes in &resume.lines {
            let line = Line::from_bytes(bytes).map_err(ScanError::from)?;
            let staged = self.shared.staged(&line)?;
            own.extend(staged.entry.as_ref().map(name));
            entries.push(staged);
        }
        let mut recovered = None;
        if let Some(first) = entries.first().and_then(|e| e.entry.as_ref())
            && !self.has(first)?
        {
            let lines: Vec<&[u8]> = resume.lines.iter().map(Vec::as_slice).collect();
            let size: usize = lines.iter().map(|l| l.len() + 4).sum();
            if size > self.max_frame_bytes {
                return Err(IndexError::Failed(ScanError::Internal {
                    what: "a group larger than a frame",
                }));
            }
            recovered = Some(self.shared.size());
            tracing::warn!(
                scans = lines.len(),
                "scans that were decided and not yet written are written now"
            );
            self.append(&lines, entries)
                .map_err(|reason| IndexError::Away { reason })?;
        }
        self.give_back(resume.applied, &own)?;
        self.in_step = true;
        self.unsure.clear();
        Ok(recovered)
    }

    /// Counts in the index what only the log has, from leaf `from` on, except the entries of `own`.
    fn give_back(&self, from: u64, own: &HashSet<[u8; 17]>) -> Result<(), IndexError> {
        let size = self.shared.size();
        let mut effects = Vec::new();
        for leaf in from..size {
            let stored = self.shared.stored(leaf)?;
            if matches!(&stored, Stored::Line(_, entry) if own.contains(&name(entry))) {
                continue;
            }
            effects.extend(self.shared.effect_of(&stored)?);
            if effects.len() >= GIVE_BACK || (leaf + 1 == size && !effects.is_empty()) {
                self.give_back_some(&effects, leaf + 1)?;
                effects.clear();
            }
        }
        if !effects.is_empty() {
            self.give_back_some(&effects, size)?;
        }
        Ok(())
    }

    fn give_back_some(&self, effects: &[Effect], base: u64) -> Result<(), IndexError> {
        tracing::warn!(
            scans = effects.len(),
            "scans of the log that the index does not have are counted in it"
        );
        let codes: HashSet<_> = effects.iter().map(|e| e.code).collect();
        let wanted: Vec<_> = codes
            .into_iter()
            .map(|code| Wanted { code, change: true })
            .collect();
        let rows = self.shared.index.begin(&wanted)?;
        let mut rows: HashMap<_, _> = wanted.iter().map(|w| w.code).zip(rows).collect();
        for effect in effects {
            let row = rows.entry(effect.code).or_default();
            *row = effect.onto(row, self.shared.history());
        }
        let rows: Vec<_> = rows.into_iter().collect();
        self.shared.index.commit(&rows, &Group { base, lines: &[] })
    }
}

/// Tells the entries of a log apart.
fn name(entry: &LogEntry) -> [u8; 17] {
    let (kind, id) = match entry {
        LogEntry::Scan(scan) => (1, scan.id),
        LogEntry::Later(later) => (2, later.scan),
        LogEntry::Event(event) => (3, event.id),
    };
    let mut out = [kind; 17];
    out[1..].copy_from_slice(&id.0);
    out
}
