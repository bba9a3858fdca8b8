//! The one writer of the scan log: decides verdicts in the order of the log, and syncs many scans at once.

use std::collections::HashMap;
use std::sync::Arc;

use rand_core::{OsRng, RngCore};
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_merkle::Hash;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::keys::{KeyState, KeyUse};
use super::log::{Pending, Shared};
use super::record::{LogEntry, read_option, write_option};
use super::{
    Channel, ClaimCheck, CodeHash, First, LaterVerdict, MAX_FORWARD_BYTES, Place, ScanError,
    ScanId, ScanRecord, ScannedCode, Seen, UnitRef, Verdict, scan_leaf,
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

pub(super) type Reply = oneshot::Sender<Result<Appended, ScanError>>;

pub(super) enum Job {
    Scan(Box<Draft>, Reply),
    Later(LaterDraft, Reply),
}

/// One group: what it will change, seen by the later drafts of the group and by nobody else before it is durable.
#[derive(Default)]
struct Group {
    lines: Vec<Zeroizing<Vec<u8>>>,
    bytes: usize,
    staged: Vec<Staged>,
    seen: HashMap<CodeHash, Seen>,
    keys: HashMap<[u8; 16], ([u8; 16], u64)>,
    replies: Vec<(Reply, Result<Appended, ScanError>)>,
}

pub(super) struct Staged {
    pub(super) leaf: Hash,
    pub(super) entry: LogEntry,
    pub(super) key: Option<KeyUse>,
    /// For a later verdict: the index of its scan.
    pub(super) resolves: Option<u64>,
    pub(super) code: CodeHash,
    pub(super) seen: Option<Seen>,
}

/// Runs until every sender is gone.
pub(super) fn run(
    mut log: SealedLog,
    shared: &Arc<Shared>,
    mut jobs: mpsc::Receiver<Job>,
    max_group: usize,
    max_frame_bytes: usize,
) {
    while let Some(job) = jobs.blocking_recv() {
        // While a group is being synced the next one gathers by itself: no waiting is needed to fill it.
        let mut group = Group::default();
        let room = shared.check_room();
        let mut next = Some(job);
        while let Some(job) = next {
            match &room {
                Ok(()) => stage(shared, &mut group, job),
                Err(reason) => refuse(job, reason),
            }
            // A group is one frame of the log, so that it is durable as a whole or not at all.
            next = if group.replies.len() < max_group && group.bytes + MAX_LINE <= max_frame_bytes {
                jobs.try_recv().ok()
            } else {
                None
            };
        }
        commit(&mut log, shared, group);
    }
}

fn refuse(job: Job, reason: &str) {
    let (Job::Scan(_, reply) | Job::Later(_, reply)) = job;
    // Who no longer waits needs no answer.
    let _ = reply.send(Err(ScanError::ReadOnly {
        reason: reason.to_owned(),
    }));
}

fn stage(shared: &Shared, group: &mut Group, job: Job) {
    let base = shared.size();
    match job {
        Job::Scan(draft, reply) => {
            let result = stage_scan(shared, group, base, *draft);
            group.replies.push((reply, result));
        }
        Job::Later(draft, reply) => {
            let result = stage_later(shared, group, draft);
            group.replies.push((reply, result));
        }
    }
}

fn stage_scan(
    shared: &Shared,
    group: &mut Group,
    base: u64,
    draft: Draft,
) -> Result<Appended, ScanError> {
    if let Some(used) = &draft.key {
        let state = match group.keys.get(&used.key) {
            Some((request, index)) if *request == used.request => {
                KeyState::Answered { index: *index }
            }
            Some(_) => KeyState::OtherRequest,
            None => shared.read(|s| s.keys.state(used))?,
        };
        match state {
            KeyState::New => {}
            KeyState::Answered { index } => return Ok(Appended::Before { index }),
            KeyState::OtherRequest => return Err(ScanError::KeyReused),
        }
    }
    let index = base + group.lines.len() as u64;
    let code = draft.code.hash();
    let decided = decide(
        shared,
        group,
        &code,
        draft.time_ms,
        draft.place.as_ref(),
        draft.finding,
    )?;
    let record = ScanRecord {
        id: draft.id,
        time_ms: draft.time_ms,
        code: draft.code,
        verdict: decided.verdict,
        count: decided.count,
        first: decided.first,
        unit: decided.unit,
        source: draft.source,
        place: draft.place,
        channel: draft.channel,
        issuer: draft.issuer,
        claim: draft.claim,
    };
    if let Some(used) = &draft.key {
        group.keys.insert(used.key, (used.request, index));
    }
    let leaf = push(
        group,
        LogEntry::Scan(record.clone()),
        draft.key,
        draft.evidence,
        None,
        (code, decided.seen),
    );
    Ok(Appended::New {
        record: Box::new(record),
        index,
        leaf,
    })
}

fn stage_later(
    shared: &Shared,
    group: &mut Group,
    draft: LaterDraft,
) -> Result<Appended, ScanError> {
    let taken = group.staged.iter().any(|s| s.resolves == Some(draft.index));
    let Some(pending) = shared.read(|s| s.pending.get(&draft.index).cloned())? else {
        return Ok(Appended::Later);
    };
    if taken {
        return Ok(Appended::Later);
    }
    let Pending {
        id, code, place, ..
    } = pending;
    let hash = code.hash();
    let decided = decide(
        shared,
        group,
        &hash,
        draft.time_ms,
        place.as_ref(),
        draft.finding,
    )?;
    let later = LaterVerdict {
        scan: id,
        time_ms: draft.time_ms,
        verdict: decided.verdict,
        count: decided.count,
        first: decided.first,
        unit: decided.unit,
    };
    push(
        group,
        LogEntry::Later(later),
        None,
        draft.evidence,
        Some(draft.index),
        (hash, decided.seen),
    );
    Ok(Appended::Later)
}

struct Decided {
    verdict: Verdict,
    count: u64,
    first: Option<First>,
    unit: Option<UnitRef>,
    seen: Option<Seen>,
}

/// The verdict of a finding at this point of the log.
fn decide(
    shared: &Shared,
    group: &mut Group,
    code: &CodeHash,
    time_ms: u64,
    place: Option<&Place>,
    finding: Finding,
) -> Result<Decided, ScanError> {
    if let Finding::Answered {
        verdict,
        count,
        first,
    } = finding
    {
        return Ok(Decided {
            verdict,
            count,
            first,
            unit: None,
            seen: None,
        });
    }
    let before = match group.seen.get(code) {
        Some(seen) => Some(seen.clone()),
        None => shared.read(|s| s.index.seen(code))?,
    };
    let (verdict, unit) = match finding {
        Finding::Counted(unit) => {
            let seen = Seen {
                count: before.as_ref().map_or(0, |s| s.count).saturating_add(1),
                first: before.as_ref().map_or_else(
                    || First {
                        time_ms,
                        place: place.cloned(),
                    },
                    |s| s.first.clone(),
                ),
            };
            group.seen.insert(*code, seen.clone());
            return Ok(Decided {
                verdict: if before.is_none() {
                    Verdict::GenuineFirst
                } else {
                    Verdict::GenuineRepeat
                },
                count: seen.count,
                first: Some(seen.first.clone()),
                unit: Some(unit),
                seen: Some(seen),
            });
        }
        Finding::Held(unit, verdict) => (verdict, Some(unit)),
        Finding::Other(verdict) => (verdict, None),
        Finding::Answered { .. } => (Verdict::CannotVerifyNow, None),
    };
    Ok(Decided {
        verdict,
        count: before.as_ref().map_or(0, |s| s.count),
        first: before.map(|s| s.first),
        unit,
        seen: None,
    })
}

fn push(
    group: &mut Group,
    entry: LogEntry,
    key: Option<KeyUse>,
    evidence: Vec<u8>,
    resolves: Option<u64>,
    (code, seen): (CodeHash, Option<Seen>),
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
    let line = Zeroizing::new(line.to_bytes());
    group.bytes += 4 + line.len();
    group.lines.push(line);
    group.staged.push(Staged {
        leaf,
        entry,
        key,
        resolves,
        code,
        seen,
    });
    leaf
}

fn commit(log: &mut SealedLog, shared: &Shared, mut group: Group) {
    let failed = if group.lines.is_empty() {
        None
    } else {
        let lines: Vec<&[u8]> = group.lines.iter().map(|l| l.as_slice()).collect();
        match log.append(&lines) {
            Ok(positions) => shared
                .apply(std::mem::take(&mut group.staged), &positions, log.bytes())
                .err()
                .map(|e| e.to_string()),
            Err(e) => Some(if e.is_disk_full() {
                "the disk is full".to_owned()
            } else {
                describe(&e)
            }),
        }
    };
    if let Some(reason) = &failed {
        tracing::error!(reason, "scans were not written");
    }
    if !group.lines.is_empty() {
        shared.set_write_failure(failed.clone());
    }
    for (reply, result) in group.replies {
        let result = match (&failed, result) {
            (Some(reason), Ok(_)) => Err(ScanError::ReadOnly {
                reason: reason.clone(),
            }),
            (_, result) => result,
        };
        let _ = reply.send(result);
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
