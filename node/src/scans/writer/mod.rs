//! The one writer of the scan log: decides verdicts in the order of the log, and syncs many scans at once.

mod decide;
mod in_step;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use self::decide::{Decided, What, Work};
use super::draft::{Appended, Job, Outcome, Reply};
use super::index::{Group, IndexError, Wanted};
use super::keys::{KeyState, KeyUse};
use super::line::MAX_LINE;
use super::state::{Shared, Staged};
use super::{CodeHash, ScanError, Seen};
use crate::sealed::SealedLog;

/// A group before it is decided.
#[derive(Default)]
struct Gathered {
    works: Vec<Work>,
    /// By idempotency key: the request, and which of the works it is.
    keys: HashMap<[u8; 16], ([u8; 16], usize)>,
    /// Repetitions of a request of the same group.
    again: Vec<(usize, Reply)>,
    resolved: HashSet<u64>,
}

struct ScanWriter {
    log: SealedLog,
    shared: Arc<Shared>,
    max_frame_bytes: usize,
    /// Whether log and index are known to agree.
    in_step: bool,
    /// Idempotency keys of a group of which it is not known whether the index took it.
    unsure: HashSet<[u8; 16]>,
}

/// Runs until every sender is gone.
pub(super) fn run(
    log: SealedLog,
    shared: &Arc<Shared>,
    mut jobs: mpsc::Receiver<Job>,
    max_group: usize,
    max_frame_bytes: usize,
) {
    // A group is one frame of the log, so that it is durable as a whole or not at all.
    let max_group = max_group.min(max_frame_bytes / MAX_LINE).max(1);
    let mut writer = ScanWriter {
        log,
        in_step: !shared.index.is_apart(),
        shared: Arc::clone(shared),
        max_frame_bytes,
        unsure: HashSet::new(),
    };
    if !writer.in_step {
        // Not for a scan to wait for; if the index is away it is tried again with the first one.
        let _ = writer.step();
    }
    while let Some(job) = jobs.blocking_recv() {
        // While a group is being synced the next one gathers by itself: no waiting is needed to fill it.
        let mut group = vec![job];
        while group.len() < max_group {
            match jobs.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        writer.take(group);
    }
}

fn answer(reply: Reply, result: Outcome) {
    // Who no longer waits needs no answer.
    let _ = reply.send(result);
}

impl ScanWriter {
    fn take(&mut self, jobs: Vec<Job>) {
        if let Err(reason) = self.shared.check_room() {
            for job in jobs {
                let error = ScanError::ReadOnly {
                    reason: reason.clone(),
                };
                match job {
                    Job::Scan(_, reply) | Job::Later(_, reply) | Job::Event(_, reply) => {
                        answer(reply, Err(error));
                    }
                    Job::Roll(reply) => drop(reply.send(Err(error))),
                }
            }
            return;
        }
        let mut gathered = Gathered::default();
        for job in jobs {
            let Job::Roll(reply) = job else {
                self.gather(&mut gathered, job);
                continue;
            };
            let rolled = self.log.roll().map_err(ScanError::from);
            self.shared.set_segment(self.log.segment());
            let _ = reply.send(rolled);
        }
        let again = std::mem::take(&mut gathered.again);
        let (decided, away) = self.decide(gathered.works);
        let results = self.commit(decided, away);
        let appended: Vec<_> = results
            .iter()
            .map(|(_, result)| match result {
                Ok(Appended::New { index, .. } | Appended::Event { index, .. }) => {
                    Some(Appended::Before { index: *index })
                }
                Ok(Appended::EventBefore) => Some(Appended::EventBefore),
                _ => None,
            })
            .collect();
        for (reply, result) in results {
            answer(reply, result);
        }
        for (work, reply) in again {
            let result = match appended.get(work).cloned().flatten() {
                Some(before) => Ok(before),
                None => Err(ScanError::ReadOnly {
                    reason: "the same request failed a moment ago".to_owned(),
                }),
            };
            answer(reply, result);
        }
    }

    /// Answers what needs no line, and keeps the rest.
    fn gather(&self, gathered: &mut Gathered, job: Job) {
        match job {
            Job::Scan(draft, reply) => {
                if let Some(reply) = self.admit(gathered, draft.key.as_ref(), reply) {
                    gathered.works.push(Work {
                        code: draft.code.hash(),
                        what: What::Scan(draft),
                        reply,
                    });
                }
            }
            Job::Event(draft, reply) => {
                if let Some(reply) = self.admit(gathered, Some(&draft.key), reply) {
                    gathered.works.push(Work {
                        code: draft.event.code_hash(),
                        what: What::Event(draft),
                        reply,
                    });
                }
            }
            Job::Roll(_) => {}
            Job::Later(draft, reply) => {
                if !gathered.resolved.insert(draft.index) {
                    return answer(reply, Ok(Appended::Later));
                }
                match self.shared.pending(draft.index) {
                    Ok(Some(scan)) => gathered.works.push(Work {
                        code: scan.code_hash(),
                        what: What::Later {
                            draft,
                            scan: Box::new(scan),
                        },
                        reply,
                    }),
                    Ok(None) => answer(reply, Ok(Appended::Later)),
                    Err(error) => answer(reply, Err(error)),
                }
            }
        }
    }

    /// Gives the reply back if the request is new; else it is answered, or will be with the group.
    fn admit(&self, gathered: &mut Gathered, key: Option<&KeyUse>, reply: Reply) -> Option<Reply> {
        let Some(used) = key else {
            return Some(reply);
        };
        if self.unsure.contains(&used.key) {
            // It may be counted already: kept once more it would be counted twice.
            let reason = "whether this scan was counted is not known yet".to_owned();
            answer(reply, Err(ScanError::IndexAway { reason }));
            return None;
        }
        match gathered.keys.get(&used.key) {
            Some((request, work)) if *request == used.request => {
                gathered.again.push((*work, reply));
                return None;
            }
            Some(_) => {
                answer(reply, Err(ScanError::KeyReused));
                return None;
            }
            None => {}
        }
        let result = match self.shared.key_state(used) {
            Ok(KeyState::New) => {
                let work = gathered.works.len();
                gathered.keys.insert(used.key, (used.request, work));
                return Some(reply);
            }
            Ok(KeyState::Answered { index }) => Ok(Appended::Before { index }),
            Ok(KeyState::OtherRequest) => Err(ScanError::KeyReused),
            Err(error) => Err(error),
        };
        answer(reply, result);
        None
    }

    /// The rows of the works' codes.
    fn rows(&mut self, works: &[Work]) -> Result<HashMap<CodeHash, Seen>, IndexError> {
        let mut wanted: HashMap<CodeHash, bool> = HashMap::new();
        for w in works.iter().filter_map(Work::wanted) {
            *wanted.entry(w.code).or_default() |= w.change;
        }
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let wanted: Vec<_> = wanted
            .into_iter()
            .map(|(code, change)| Wanted { code, change })
            .collect();
        for again in [true, false] {
            if !self.in_step {
                self.step()?;
            }
            match self.shared.index.begin(&wanted) {
                Ok(rows) => return Ok(wanted.iter().map(|w| w.code).zip(rows).collect()),
                // The database may have been started again since the last group.
                Err(IndexError::Away { .. }) if again => self.in_step = false,
                Err(error) => return Err(error),
            }
        }
        Err(IndexError::Away {
            reason: "it went away twice".to_owned(),
        })
    }

    /// Makes the group durable: first in the index, if that is kept apart, then in the log.
    fn commit(&mut self, mut decided: Decided, away: bool) -> Vec<(Reply, Outcome)> {
        let mut base = self.shared.size();
        let mut failed = None;
        if decided.lines.is_empty() && decided.holds && !away {
            // Nothing is written: another gateway need not wait for these rows.
            let group = Group { base, lines: &[] };
            if self.shared.index.commit(&[], &group).is_err() {
                self.in_step = false;
            }
        }
        if !decided.lines.is_empty() {
            let lines: Vec<&[u8]> = decided.lines.iter().map(|l| l.as_slice()).collect();
            let rows: Vec<_> = decided
                .changed
                .iter()
                .map(|(code, seen)| (CodeHash(*code), seen.clone()))
                .collect();
            let committed = if away || !decided.holds {
                Ok(())
            } else {
                self.shared.index.commit(
                    &rows,
                    &Group {
                        base,
                        lines: &lines,
                    },
                )
            };
            failed = match committed {
                Ok(()) => {
                    let staged = std::mem::take(&mut decided.staged);
                    self.append(&lines, staged).err()
                }
                Err(IndexError::Unsure { reason }) => {
                    self.in_step = false;
                    self.unsure
                        .extend(decided.staged.iter().filter_map(|s| Some(s.key?.key)));
                    // Back at once, it may say that the group is in force: then the group has just been put into the log.
                    match self.step() {
                        Ok(Some(recovered)) if self.is_logged(lines.first()) => {
                            base = recovered;
                            None
                        }
                        _ => Some(reason),
                    }
                }
                Err(IndexError::Away { reason }) => {
                    self.in_step = false;
                    Some(reason)
                }
                Err(IndexError::Failed(error)) => Some(describe(&error)),
            };
            if let Some(reason) = &failed {
                tracing::error!(reason, "scans were not written");
            }
        }
        decided
            .results
            .into_iter()
            .zip(decided.line_of)
            .map(|((reply, result), line)| {
                let result = match (&failed, line, result) {
                    (Some(reason), Some(_), Ok(_)) => Err(ScanError::ReadOnly {
                        reason: reason.clone(),
                    }),
                    (_, Some(line), Ok(Appended::New { record, leaf, .. })) => Ok(Appended::New {
                        record,
                        index: base + line as u64,
                        leaf,
                    }),
                    (_, Some(line), Ok(Appended::Event { sold_before, .. })) => {
                        Ok(Appended::Event {
                            index: base + line as u64,
                            sold_before,
                        })
                    }
                    (_, _, result) => result,
                };
                (reply, result)
            })
            .collect()
    }

    /// Appends lines to the log and takes them over; the error is for the operator.
    fn append(&mut self, lines: &[&[u8]], staged: Vec<Staged>) -> Result<(), String> {
        let result = match self.log.append(lines) {
            Ok(positions) => {
                self.shared.set_segment(self.log.segment());
                let applied = self.shared.apply(staged, &positions, self.log.bytes());
                self.shared.noted(applied).map_err(|e| describe(&e))
            }
            Err(e) if e.is_disk_full() => Err("the disk is full".to_owned()),
            Err(e) => Err(describe(&e)),
        };
        if result.is_err() {
            // What the index took may be missing in the log.
            self.in_step = !self.shared.index.is_apart();
        }
        self.shared.set_write_failure(result.clone().err());
        result
    }
}

/// An error with its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        out.push_str(": ");
        out.push_str(&e.to_string());
        cause = e.source();
    }
    out
}
