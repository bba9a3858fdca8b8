//! The one writer of the scan log: decides verdicts in the order of the log, and syncs many scans at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rand_core::{OsRng, RngCore};
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_merkle::Hash;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::index::{Group, IndexError, Wanted};
use super::keys::{KeyState, KeyUse};
use super::record::{LogEntry, read_option, write_option};
use super::state::{Effect, Shared, Staged};
use super::stored::Stored;
use super::{
    Channel, ClaimCheck, CodeHash, First, LaterVerdict, MAX_FORWARD_BYTES, Place, Reasons,
    ScanError, ScanId, ScanRecord, ScannedCode, Seen, UnitRef, Verdict, scan_leaf,
};
use crate::sealed::SealedLog;

const LINE_VERSION: u8 = 1;
/// The largest entry, without salt, key and evidence.
const MAX_ENTRY: usize = 1024;
/// The largest signed answer kept with a scan.
const MAX_EVIDENCE: usize = MAX_FORWARD_BYTES;
/// The largest line with its length.
pub(super) const MAX_LINE: usize = MAX_ENTRY + MAX_EVIDENCE + 128;

/// What stands on disk for one leaf: salt and entry, which the leaf hash covers, then what is needed besides.
pub(super) struct Line {
    pub(super) salt: [u8; 16],
    pub(super) entry: Vec<u8>,
    pub(super) key: Option<KeyUse>,
    /// The issuer's signed answer, if the scan was forwarded.
    pub(super) evidence: Vec<u8>,
}

impl Canonical for Line {
    fn write(&self, w: &mut Writer) {
        w.u8(LINE_VERSION).raw(&self.salt).bytes(&self.entry);
        write_option(w, self.key.as_ref());
        w.bytes(&self.evidence);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("line version", LINE_VERSION)?;
        Ok(Self {
            salt: r.array("salt")?,
            entry: r.bytes("entry", MAX_ENTRY)?.to_vec(),
            key: read_option(r, "idempotency key")?,
            evidence: r.bytes("evidence", MAX_EVIDENCE)?.to_vec(),
        })
    }
}

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
    pub(super) evidence: Vec<u8>,
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
}

type Outcome = Result<Appended, ScanError>;
pub(super) type Reply = oneshot::Sender<Outcome>;

pub(super) enum Job {
    Scan(Box<Draft>, Reply),
    Later(LaterDraft, Reply),
    /// Begin a new segment, so that retention can reach the scans of the last one.
    Roll(oneshot::Sender<Result<(), ScanError>>),
}

/// A job that gets a line, once its verdict is decided.
struct Work {
    what: What,
    code: CodeHash,
    reply: Reply,
}

enum What {
    Scan(Box<Draft>),
    Later {
        draft: LaterDraft,
        scan: Box<ScanRecord>,
    },
}

impl Work {
    const fn finding(&self) -> &Finding {
        match &self.what {
            What::Scan(draft) => &draft.finding,
            What::Later { draft, .. } => &draft.finding,
        }
    }

    /// The row that is needed to decide.
    const fn wanted(&self) -> Option<Wanted> {
        let change = match self.finding() {
            Finding::Counted(_) | Finding::Held(..) => true,
            Finding::Other(Verdict::CannotVerifyNow) | Finding::Answered { .. } => return None,
            Finding::Other(_) => false,
        };
        Some(Wanted {
            code: self.code,
            change,
        })
    }
}

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

/// A group as it is decided: what it will change is seen by its later works and by nobody else before it is durable.
#[derive(Default)]
struct Decided {
    lines: Vec<Zeroizing<Vec<u8>>>,
    staged: Vec<Staged>,
    rows: HashMap<CodeHash, Seen>,
    changed: BTreeMap<[u8; 32], Seen>,
    /// Whether rows are held for change.
    holds: bool,
    /// One for each work; what is new has its index still open.
    results: Vec<(Reply, Outcome)>,
    /// The line of each work, if it has one.
    line_of: Vec<Option<usize>>,
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
                    Job::Scan(_, reply) | Job::Later(_, reply) => answer(reply, Err(error)),
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
                Ok(Appended::New { index, .. }) => Some(*index),
                _ => None,
            })
            .collect();
        for (reply, result) in results {
            answer(reply, result);
        }
        for (work, reply) in again {
            let result = match appended.get(work).copied().flatten() {
                Some(index) => Ok(Appended::Before { index }),
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
                if let Some(used) = &draft.key {
                    if self.unsure.contains(&used.key) {
                        // It may be counted already: kept once more it would be counted twice.
                        return answer(
                            reply,
                            Err(ScanError::IndexAway {
                                reason: "whether this scan was counted is not known yet".to_owned(),
                            }),
                        );
                    }
                    match gathered.keys.get(&used.key) {
                        Some((request, work)) if *request == used.request => {
                            return gathered.again.push((*work, reply));
                        }
                        Some(_) => return answer(reply, Err(ScanError::KeyReused)),
                        None => {}
                    }
                    match self.shared.key_state(used) {
                        Ok(KeyState::New) => {}
                        Ok(KeyState::Answered { index }) => {
                            return answer(reply, Ok(Appended::Before { index }));
                        }
                        Ok(KeyState::OtherRequest) => {
                            return answer(reply, Err(ScanError::KeyReused));
                        }
                        Err(error) => return answer(reply, Err(error)),
                    }
                    gathered
                        .keys
                        .insert(used.key, (used.request, gathered.works.len()));
                }
                gathered.works.push(Work {
                    code: draft.code.hash(),
                    what: What::Scan(draft),
                    reply,
                });
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

    fn decide(&mut self, works: Vec<Work>) -> (Decided, bool) {
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
        };
        let row = unit.map(|_| {
            let first = record.first.clone().filter(|_| record.is_counted());
            let effect = Effect::new(&record, verdict, first);
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
            let effect = Effect::new(scan, verdict, first);
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
        };
        decided.push(
            LogEntry::Later(later),
            None,
            draft.evidence,
            Some(draft.index),
            (code, row),
        );
    }

    /// Makes the group durable: first in the index, if that is kept apart, then in the log.
    fn commit(&mut self, mut decided: Decided, away: bool) -> Vec<(Reply, Outcome)> {
        let mut base = self.shared.size();
        let mut failed = None;
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

    /// Whether the scan of a line is in the log.
    fn is_logged(&self, line: Option<&&[u8]>) -> bool {
        line.and_then(|line| Line::from_bytes(line).ok())
            .and_then(|line| LogEntry::from_bytes(&line.entry).ok())
            .is_some_and(|entry| self.has(&entry).unwrap_or(false))
    }

    fn has(&self, entry: &LogEntry) -> Result<bool, ScanError> {
        Ok(match entry {
            LogEntry::Scan(scan) => self.shared.leaf_of(&scan.id)?.is_some(),
            LogEntry::Later(later) => match self.shared.leaf_of(&later.scan)? {
                Some(leaf) => self.shared.pending(leaf)?.is_none(),
                None => false,
            },
        })
    }

    /// Brings log and index together: what the index took and the log did not get is put into the log, and what the log has and the index
    /// lost is put into the index. Gives the leaf of the first line that the log got, if it got any.
    fn step(&mut self) -> Result<Option<u64>, IndexError> {
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

/// How many scans are counted in the index at a time when it has lost them.
const GIVE_BACK: usize = 512;

/// Tells the entries of a log apart.
fn name(entry: &LogEntry) -> [u8; 17] {
    let (kind, id) = match entry {
        LogEntry::Scan(scan) => (1, scan.id),
        LogEntry::Later(later) => (2, later.scan),
    };
    let mut out = [kind; 17];
    out[1..].copy_from_slice(&id.0);
    out
}

impl Finding {
    /// Whether it cannot be decided without the index.
    const fn needs_index(&self) -> bool {
        matches!(self, Self::Counted(_) | Self::Held(..))
    }
}

/// The verdict of a finding after the scans that `before` tells, without a look at its history: verdict, count, first scan, unit, and
/// the issuer's reasons if another member decided.
fn verdict_of(
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
