//! What the scan log knows of its entries, and how each entry changes it: the same way at start and as it is written.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use tally_contracts::codec::Canonical;
use tally_contracts::ids::MemberId;
use tally_merkle::Hash;
use tokio::sync::watch;

use super::checkpoint::{Due, Keeper, Snapshot};
use super::index::{IndexError, MAX_SAID, Said, ScanIndex, Wanted};
use super::keys::{KeyState, KeyUse};
use super::leaves::Leaves;
use super::line::Line;
use super::record::LogEntry;
use super::stored::{Gone, Stored};
use super::table::{Kind, RowKey, Table};
use super::{
    CodeHash, EventKind, Handling, History, LaterVerdict, MAX_HISTORY, Observation, Place, Reach,
    ScanError, ScanId, ScanRecord, ScannedCode, Seen, TradeEvent, Verdict, scan_leaf,
};
use crate::room::free_bytes;
use crate::sealed::{Position, SealedError, SealedReader};

/// A scan whose issuer must be asked again.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) id: ScanId,
    pub(super) code: ScannedCode,
    pub(super) place: Option<Place>,
    pub(super) issuer: Option<MemberId>,
}

/// An entry on its way into the log, or read from it.
pub(super) struct Staged {
    pub(super) leaf: Hash,
    /// `None` if it was deleted.
    pub(super) entry: Option<LogEntry>,
    pub(super) key: Option<KeyUse>,
    /// For a later verdict: the leaf of its scan.
    pub(super) resolves: Option<u64>,
    /// The row after it, if it changed one.
    pub(super) row: Option<(CodeHash, Seen)>,
}

/// What changes with every entry; only the writer changes it, and only by what is durable.
struct State {
    leaves: Leaves,
    last: Option<Position>,
    /// Scans that wait for their issuer, by leaf.
    pending: BTreeSet<u64>,
    codes: u64,
    newest_ms: u64,
    bytes: u64,
}

/// Limits of what is remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) min_free_bytes: u64,
    pub(super) max_key_age_ms: u64,
    pub(super) max_rows: usize,
}

pub(super) struct Shared {
    state: RwLock<State>,
    pub(super) table: Arc<Table>,
    pub(super) index: Arc<dyn ScanIndex>,
    history: Arc<dyn History>,
    keeper: Keeper,
    pub(super) reader: SealedReader,
    pub(super) dir: PathBuf,
    limits: Limits,
    write_failure: Mutex<Option<(String, Instant)>>,
    forked: Mutex<Option<String>>,
    size: watch::Sender<u64>,
    segment: AtomicU32,
}

/// One scan or event of a unit of this member, as far as the index is concerned.
pub(super) struct Effect {
    pub(super) code: CodeHash,
    /// What is kept as first, if it counts and is.
    pub(super) first: Option<super::First>,
    what: Happened,
}

/// What the detector is told.
enum Happened {
    Scan {
        at: Moment,
        held: Option<Verdict>,
        channel: super::Channel,
        claim: super::ClaimCheck,
    },
    Event {
        at: Moment,
        kind: EventKind,
    },
    /// A scan that was deleted: nothing is known of it but that it counted.
    Gone,
}

/// When, by whom and where.
struct Moment {
    time_ms: u64,
    source: [u8; 16],
    place: Option<Place>,
    reach: Reach,
}

impl Effect {
    /// That of a scan with this verdict. `first` is what would be the first if none was before; `None` if it does not count.
    pub(super) fn new(
        scan: &ScanRecord,
        (verdict, reach): (Verdict, Reach),
        first: Option<super::First>,
    ) -> Self {
        Self {
            code: scan.code_hash(),
            what: Happened::Scan {
                at: Moment {
                    time_ms: scan.time_ms,
                    source: scan.source,
                    place: scan.place.clone(),
                    reach,
                },
                held: first.is_none().then_some(verdict),
                channel: scan.channel,
                claim: scan.claim,
            },
            first,
        }
    }

    /// That of an event.
    pub(super) fn of_event(event: &TradeEvent) -> Self {
        Self {
            code: event.code_hash(),
            first: None,
            what: Happened::Event {
                at: Moment {
                    time_ms: event.time_ms,
                    source: event.source,
                    place: event.place.clone(),
                    reach: event.reach,
                },
                kind: event.kind,
            },
        }
    }

    /// That of a deleted scan; `None` if it did not count.
    fn of_gone(gone: &Gone) -> Option<Self> {
        Some(Self {
            code: gone.code?,
            first: Some(gone.first.clone()?),
            what: Happened::Gone,
        })
    }

    /// The row after it.
    pub(super) fn onto(&self, row: &Seen, history: &dyn History) -> Seen {
        let count = row.count.saturating_add(u64::from(self.first.is_some()));
        let after = match &self.what {
            Happened::Gone => row.history.clone(),
            Happened::Scan {
                at,
                held,
                channel,
                claim,
            } => history.after(
                &row.history,
                &Observation {
                    time_ms: at.time_ms,
                    held: *held,
                    count,
                    source: &at.source,
                    place: at.place.as_ref(),
                    channel: *channel,
                    claim: *claim,
                    reach: at.reach,
                },
            ),
            Happened::Event { at, kind } => history.after_event(
                &row.history,
                &Handling {
                    time_ms: at.time_ms,
                    kind: *kind,
                    source: &at.source,
                    place: at.place.as_ref(),
                    reach: at.reach,
                },
            ),
        };
        let mut said = row.said.clone();
        if let Happened::Event { at, kind } = &self.what {
            said.retain(|s| s.source != at.source || s.kind != *kind);
            if said.len() >= MAX_SAID {
                said.remove(0);
            }
            said.push(Said {
                source: at.source,
                kind: *kind,
                time_ms: at.time_ms,
            });
        }
        Seen {
            count,
            said,
            first: row.first.clone().or_else(|| self.first.clone()),
            history: if after.len() <= MAX_HISTORY {
                after
            } else {
                tracing::error!(
                    found = after.len(),
                    max = MAX_HISTORY,
                    "a history is too long"
                );
                row.history.clone()
            },
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A reason is replaced as a whole: it is never half written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn poisoned() -> ScanError {
    ScanError::Internal {
        what: "scan state is poisoned",
    }
}

fn leaf_key(index: u64) -> RowKey {
    let mut name = [0; 16];
    name[8..].copy_from_slice(&index.to_be_bytes());
    RowKey::new(Kind::Later, &name)
}

fn leaf_of_row(row: &[u8]) -> Result<u64, ScanError> {
    row.try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| ScanError::Internal {
            what: "a row that is no leaf",
        })
}

#[expect(
    clippy::too_many_arguments,
    reason = "one for each thing that is opened apart"
)]
impl Shared {
    pub(super) fn new(
        leaves: Leaves,
        snapshot: Option<&Snapshot>,
        table: Arc<Table>,
        index: Arc<dyn ScanIndex>,
        history: Arc<dyn History>,
        keeper: Keeper,
        reader: SealedReader,
        dir: PathBuf,
        limits: Limits,
    ) -> Self {
        let size = leaves.size();
        Self {
            state: RwLock::new(State {
                leaves,
                last: snapshot.map(|s| s.last),
                pending: snapshot
                    .map(|s| s.pending.iter().copied().collect())
                    .unwrap_or_default(),
                codes: snapshot.map_or(0, |s| s.codes),
                newest_ms: snapshot.map_or(0, |s| s.newest_ms),
                bytes: 0,
            }),
            table,
            index,
            history,
            keeper,
            reader,
            dir,
            limits,
            write_failure: Mutex::default(),
            forked: Mutex::default(),
            size: watch::Sender::new(size),
            segment: AtomicU32::new(0),
        }
    }
}

impl Shared {
    fn read<T>(&self, f: impl FnOnce(&State) -> T) -> Result<T, ScanError> {
        self.state.read().map(|s| f(&s)).map_err(|_| poisoned())
    }

    pub(super) fn size(&self) -> u64 {
        *self.size.borrow()
    }

    pub(super) fn watch_size(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    pub(super) fn history(&self) -> &dyn History {
        self.history.as_ref()
    }

    /// Whether the dealer has said the same of the code already, at this gateway or another one.
    pub(super) fn was_said(&self, row: &Seen, event: &TradeEvent) -> bool {
        row.was_said(
            &event.source,
            event.kind,
            event.time_ms,
            self.limits.max_key_age_ms,
        )
    }

    /// Takes over one entry of the log at start.
    pub(super) fn replay(&self, position: Position, bytes: &[u8]) -> Result<(), ScanError> {
        let stored = Stored::from_bytes(bytes)?;
        let mut staged = match &stored {
            Stored::Line(line, _) => self.staged(line)?,
            Stored::Gone(gone) => Staged {
                leaf: gone.leaf,
                entry: None,
                key: None,
                resolves: None,
                row: None,
            },
        };
        // An index that is kept apart has its rows already.
        if !self.index.is_apart()
            && let Some(effect) = self.effect_of(&stored)?
        {
            let wanted = Wanted {
                code: effect.code,
                change: true,
            };
            let before = self.index.begin(&[wanted]).map_err(ScanError::from)?;
            let row = effect.onto(
                &before.into_iter().next().unwrap_or_default(),
                self.history(),
            );
            staged.row = Some((effect.code, row));
        }
        let bytes = self.bytes();
        self.apply(vec![staged], &[position], bytes)
    }

    /// Whether the entry at `position` is the one of leaf `index`.
    pub(super) fn check(
        &self,
        index: u64,
        position: Position,
        bytes: &[u8],
    ) -> Result<(), ScanError> {
        let leaf = Stored::from_bytes(bytes)?.leaf();
        if self.read(|s| s.leaves.get(index))?? == Some((leaf, position)) {
            return Ok(());
        }
        Err(SealedError::NoEntry {
            dir: self.dir.clone(),
            segment: position.segment(),
            offset: 0,
        }
        .into())
    }

    /// A line of the log as it was staged, without its row.
    pub(super) fn staged(&self, line: &Line) -> Result<Staged, ScanError> {
        let entry = LogEntry::from_bytes(&line.entry)?;
        let resolves = match &entry {
            LogEntry::Scan(_) | LogEntry::Event(_) => None,
            LogEntry::Later(later) => {
                Some(self.leaf_of(&later.scan)?.ok_or(ScanError::Internal {
                    what: "a later verdict without its scan",
                })?)
            }
        };
        Ok(Staged {
            leaf: scan_leaf(&line.salt, &line.entry),
            entry: Some(entry),
            key: line.key,
            resolves,
            row: None,
        })
    }

    /// What a stored line does to the row of its code; `None` if nothing.
    pub(super) fn effect_of(&self, stored: &Stored) -> Result<Option<Effect>, ScanError> {
        match stored {
            Stored::Line(_, entry) => self.effect(entry),
            Stored::Gone(gone) => Ok(Effect::of_gone(gone)),
        }
    }

    /// What an entry does to the row of its code; `None` if nothing.
    pub(super) fn effect(&self, entry: &LogEntry) -> Result<Option<Effect>, ScanError> {
        Ok(match entry {
            LogEntry::Scan(scan) => scan.unit.map(|_| {
                let first = scan.first.clone().filter(|_| scan.is_counted());
                Effect::new(scan, (scan.verdict, scan.reach), first)
            }),
            LogEntry::Event(event) => Some(Effect::of_event(event)),
            LogEntry::Later(later) if later.unit.is_some() => {
                let leaf = self.leaf_of(&later.scan)?.ok_or(ScanError::NotFound)?;
                let first = later.first.clone().filter(|_| later.verdict.is_counted());
                match self.stored(leaf)? {
                    Stored::Line(_, entry) => match *entry {
                        LogEntry::Scan(scan) => {
                            Some(Effect::new(&scan, (later.verdict, later.reach), first))
                        }
                        LogEntry::Later(_) | LogEntry::Event(_) => return Err(ScanError::NotFound),
                    },
                    // The scan is deleted and its later verdict is not yet.
                    Stored::Gone(mut gone) => {
                        gone.first = first;
                        Effect::of_gone(&gone)
                    }
                }
            }
            LogEntry::Later(_) => None,
        })
    }

    /// Takes over entries that are durable at these positions.
    pub(super) fn apply(
        &self,
        staged: Vec<Staged>,
        positions: &[Position],
        bytes: u64,
    ) -> Result<(), ScanError> {
        if staged.len() != positions.len() {
            return Err(ScanError::Internal {
                what: "not every entry has a position",
            });
        }
        let (mut rows, mut seen) = (Vec::with_capacity(staged.len() * 2), Vec::new());
        let mut state = self.state.write().map_err(|_| poisoned())?;
        for (staged, position) in staged.into_iter().zip(positions) {
            let index = state.leaves.size();
            state.leaves.append(staged.leaf, *position)?;
            state.last = Some(*position);
            state.codes += u64::from(staged.entry.as_ref().is_some_and(LogEntry::is_first));
            seen.extend(staged.row);
            match staged.entry {
                None => {}
                Some(LogEntry::Scan(scan)) => {
                    state.newest_ms = state.newest_ms.max(scan.time_ms);
                    if let Some(used) = &staged.key {
                        rows.push((used.row_key(), used.row(index, scan.time_ms)));
                    }
                    rows.push((
                        RowKey::new(Kind::Scan, &scan.id.0),
                        Box::new(index.to_be_bytes()),
                    ));
                    if scan.verdict == Verdict::CannotVerifyNow {
                        state.pending.insert(index);
                    }
                }
                Some(LogEntry::Event(event)) => {
                    state.newest_ms = state.newest_ms.max(event.time_ms);
                    if let Some(used) = &staged.key {
                        rows.push((used.row_key(), used.row(index, event.time_ms)));
                    }
                    rows.push((
                        RowKey::new(Kind::Scan, &event.id.0),
                        Box::new(index.to_be_bytes()),
                    ));
                }
                Some(LogEntry::Later(_)) => {
                    if let Some(scan) = staged.resolves {
                        state.pending.remove(&scan);
                        rows.push((leaf_key(scan), Box::new(index.to_be_bytes())));
                    }
                }
            }
        }
        state.leaves.write()?;
        state.bytes = bytes;
        let size = state.leaves.size();
        drop(state);
        self.table.put_all(rows);
        self.index.logged(seen);
        self.size.send_replace(size);
        self.keep()
    }

    /// Begins a checkpoint if much is in memory, and waits for the last one if too much is.
    fn keep(&self) -> Result<(), ScanError> {
        let rows = self.table.in_memory();
        if rows < self.limits.max_rows {
            return Ok(());
        }
        if rows >= self.limits.max_rows.saturating_mul(3) {
            self.keeper.wait();
        }
        self.checkpoint()
    }

    /// Begins a checkpoint, unless one is being written.
    pub(super) fn checkpoint(&self) -> Result<(), ScanError> {
        let due = self.read(|s| {
            let size = s.leaves.size();
            let (Some(last), Some(root)) = (s.last, s.leaves.root_at(size)?) else {
                return Ok(None);
            };
            Ok::<_, ScanError>(Some(Due {
                snapshot: Snapshot {
                    size,
                    last,
                    root,
                    codes: s.codes,
                    newest_ms: s.newest_ms,
                    pending: s.pending.iter().copied().collect(),
                },
                files: s.leaves.files()?,
            }))
        })??;
        if let Some(due) = due
            && self.table.freeze()
        {
            self.keeper.save(due);
        }
        Ok(())
    }

    /// Writes a last checkpoint, so that the next start has nothing to read.
    pub(super) fn finish(&self) {
        self.keeper.wait();
        if let Err(error) = self.checkpoint() {
            tracing::warn!(%error, "no last checkpoint of the scan index");
        }
        self.keeper.wait();
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        if let Ok(mut state) = self.state.write() {
            state.bytes = bytes;
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.read(|s| s.bytes).unwrap_or_default()
    }

    pub(super) fn codes(&self) -> u64 {
        self.read(|s| s.codes).unwrap_or_default()
    }

    pub(super) fn pending_len(&self) -> usize {
        self.read(|s| s.pending.len()).unwrap_or_default()
    }

    /// Leaves of scans that wait for their issuer, from one on.
    pub(super) fn pending_from(&self, from: u64, max: usize) -> Vec<u64> {
        self.read(|s| s.pending.range(from..).take(max).copied().collect())
            .unwrap_or_default()
    }

    /// The scan at a leaf, if it waits for its issuer.
    pub(super) fn pending(&self, index: u64) -> Result<Option<ScanRecord>, ScanError> {
        if !self.read(|s| s.pending.contains(&index))? {
            return Ok(None);
        }
        match self.entry(index)? {
            (_, LogEntry::Scan(scan)) => Ok(Some(scan)),
            _ => Ok(None),
        }
    }

    /// What is known of an idempotency key.
    pub(super) fn key_state(&self, used: &KeyUse) -> Result<KeyState, ScanError> {
        let Some(row) = self.noted(self.table.get(&used.row_key()).map_err(ScanError::from))?
        else {
            return Ok(KeyState::New);
        };
        let now = self.read(|s| s.newest_ms)?;
        Ok(used.state(&row, now, self.limits.max_key_age_ms))
    }

    /// The leaf of a scan.
    pub(super) fn leaf_of(&self, id: &ScanId) -> Result<Option<u64>, ScanError> {
        let row = self.noted(
            self.table
                .get(&RowKey::new(Kind::Scan, &id.0))
                .map_err(ScanError::from),
        )?;
        row.map(|row| leaf_of_row(&row)).transpose()
    }

    /// The later verdict of the scan at a leaf.
    pub(super) fn later(&self, index: u64) -> Result<Option<LaterVerdict>, ScanError> {
        let row = self.noted(self.table.get(&leaf_key(index)).map_err(ScanError::from))?;
        let Some(row) = row else {
            return Ok(None);
        };
        match self.entry(leaf_of_row(&row)?)? {
            (_, LogEntry::Later(later)) => Ok(Some(later)),
            _ => Ok(None),
        }
    }

    /// The entry at a leaf; [`ScanError::NotFound`] if it was deleted.
    pub(super) fn entry(&self, index: u64) -> Result<(Hash, LogEntry), ScanError> {
        let stored = self.stored(index)?;
        let leaf = stored.leaf();
        match stored {
            Stored::Line(_, entry) => Ok((leaf, *entry)),
            Stored::Gone(_) => Err(ScanError::NotFound),
        }
    }

    /// What lies at a leaf.
    pub(super) fn stored(&self, index: u64) -> Result<Stored, ScanError> {
        let found = self.read(|s| s.leaves.get(index))?;
        let (leaf, position) = self
            .noted(found.map_err(ScanError::from))?
            .ok_or(ScanError::NotFound)?;
        let stored = Stored::from_bytes(&self.reader.read(position)?)?;
        if stored.leaf() != leaf {
            return Err(ScanError::Internal {
                what: "an entry that is not the one of its leaf",
            });
        }
        Ok(stored)
    }

    /// Whether the scan at a leaf waits for its issuer.
    pub(super) fn is_pending(&self, index: u64) -> Result<bool, ScanError> {
        self.read(|s| s.pending.contains(&index))
    }

    /// The leaf hash at an index.
    pub(super) fn leaf(&self, index: u64) -> Result<Hash, ScanError> {
        let found = self.read(|s| s.leaves.get(index))?;
        let found = self.noted(found.map_err(ScanError::from))?;
        found.map(|(leaf, _)| leaf).ok_or(ScanError::NotFound)
    }

    /// The segments of the log before the last one.
    pub(super) fn full_segments(&self) -> std::ops::Range<u32> {
        0..self.segment.load(Ordering::SeqCst)
    }

    /// Tells which segment is the last.
    pub(super) fn set_segment(&self, segment: u32) {
        self.segment.store(segment, Ordering::SeqCst);
    }

    /// When the first entry of a segment was made, in POSIX milliseconds; `None` if it is deleted, or there is none.
    pub(super) fn begin_of_segment(&self, segment: u32) -> Result<Option<u64>, ScanError> {
        let (mut low, mut high) = (0, self.size());
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.read(|s| s.leaves.get(middle))?;
            let (_, position) = self
                .noted(found.map_err(ScanError::from))?
                .ok_or(ScanError::NotFound)?;
            if position.segment() < segment {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low == self.size() {
            return Ok(None);
        }
        Ok(match self.stored(low)? {
            Stored::Line(_, entry) => Some(entry.time_ms()),
            Stored::Gone(_) => None,
        })
    }

    /// Looks at the leaves.
    pub(super) fn leaves<T>(
        &self,
        f: impl FnOnce(&Leaves) -> Result<T, ScanError>,
    ) -> Result<T, ScanError> {
        self.noted(self.read(|s| f(&s.leaves))?)
    }

    /// Damage beside the log is built again at the next start; until then nothing may be decided by it.
    pub(super) fn noted<T>(&self, result: Result<T, ScanError>) -> Result<T, ScanError> {
        if let Err(error) = &result
            && error.is_damage()
        {
            tracing::error!(%error, "the node must be started again");
            self.keeper.give_up(error.to_string());
        }
        result
    }

    /// Whether the log may be written now.
    pub(super) fn check_room(&self) -> Result<(), String> {
        if let Some(reason) = locked(&self.forked)
            .clone()
            .or_else(|| self.keeper.failure())
        {
            return Err(reason);
        }
        match free_bytes(&self.dir) {
            Some(free) if free < self.limits.min_free_bytes => Err(format!(
                "{free} bytes are free on the disk of the scan log, {} are kept free",
                self.limits.min_free_bytes
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn write_failure(&self) -> Option<(String, Instant)> {
        locked(&self.write_failure).clone()
    }

    pub(super) fn set_write_failure(&self, reason: Option<String>) {
        *locked(&self.write_failure) = reason.map(|r| (r, Instant::now()));
    }

    pub(super) fn set_forked(&self, reason: String) {
        *locked(&self.forked) = Some(reason);
    }
}

impl From<IndexError> for ScanError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Away { reason } | IndexError::Unsure { reason } => {
                Self::IndexAway { reason }
            }
            IndexError::Failed(error) => error,
        }
    }
}
