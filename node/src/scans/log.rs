//! The scan log: what readers see of it, and how it is opened.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tally_contracts::codec::Canonical;
use tally_contracts::ids::{MemberId, RecordId};
use tally_merkle::{Hash, MemoryTree};
use tokio::sync::{mpsc, oneshot, watch};

use super::anchor::{AnchorBook, AnchorRecord, AnchorState};
use super::index::VerdictIndex;
use super::keys::{IdempotencyKeys, KeyState, KeyUse};
use super::record::LogEntry;
use super::writer::{self, Appended, Draft, Job, LaterDraft, Line, MAX_LINE, Staged};
use super::{CodeHash, LaterVerdict, Place, ScanError, ScanId, ScanRecord, ScannedCode, Seen};
use crate::room::free_bytes;
use crate::sealed::{LogOptions, Position, SealedError, SealedLog, SealedReader, StorageKey};

const PURPOSE: &str = "scans";
/// How long after a failed write nothing is tried.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How a scan log is kept.
#[derive(Debug, Clone)]
pub struct ScanLogConfig {
    /// Its directory, made if absent.
    pub dir: PathBuf,
    /// Which of the member's scan logs this is; two nodes of a member must not share one.
    pub log_id: u16,
    /// Scans that may wait for the writer before new ones are turned away.
    pub max_waiting: usize,
    /// Scans that are synced together.
    pub max_group: usize,
    /// Idempotency keys that are remembered.
    pub max_keys: usize,
    /// For how long, in milliseconds.
    pub max_key_age_ms: u64,
    /// Below this many free bytes on the disk nothing is written.
    pub min_free_bytes: u64,
    /// Sizes of the files.
    pub files: LogOptions,
}

impl ScanLogConfig {
    /// The defaults, for the log `log_id` in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, log_id: u16) -> Self {
        Self {
            dir: dir.into(),
            log_id,
            max_waiting: 4096,
            max_group: 512,
            max_keys: 1_000_000,
            max_key_age_ms: 24 * 3600 * 1000,
            min_free_bytes: 64 << 20,
            files: LogOptions::default(),
        }
    }
}

/// A scan in the log.
#[derive(Debug, Clone)]
pub struct StoredScan {
    /// What was said.
    pub record: ScanRecord,
    /// Index of its leaf.
    pub index: u64,
    /// Its leaf hash.
    pub leaf: Hash,
    /// What the issuer said later, if it could not be asked at once.
    pub later: Option<LaterVerdict>,
}

/// That a scan stands under a root which the ledger holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanProof {
    /// The scan.
    pub scan: ScanId,
    /// Which of the member's logs.
    pub log_id: u16,
    /// Index of its leaf.
    pub index: u64,
    /// Its leaf hash, as in the receipt.
    pub leaf: Hash,
    /// RFC 9162 2.1.3 inclusion proof, leaf side first, in the tree of `anchor.size`.
    pub path: Vec<Hash>,
    /// The anchor.
    pub anchor: AnchorRecord,
}

/// A scan whose issuer must be asked again.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) id: ScanId,
    pub(super) code: ScannedCode,
    pub(super) place: Option<Place>,
    pub(super) issuer: Option<MemberId>,
}

/// Everything in memory; only the writer changes it, and only by what is durable.
pub(super) struct State {
    pub(super) index: VerdictIndex,
    pub(super) keys: IdempotencyKeys,
    pub(super) pending: BTreeMap<u64, Pending>,
    later: HashMap<u64, u64>,
    ids: HashMap<ScanId, u64>,
    positions: Vec<Position>,
    tree: MemoryTree,
    bytes: u64,
}

pub(super) struct Shared {
    state: RwLock<State>,
    reader: SealedReader,
    dir: PathBuf,
    min_free_bytes: u64,
    write_failure: Mutex<Option<(String, Instant)>>,
    forked: Mutex<Option<String>>,
    size: watch::Sender<u64>,
}

/// An open scan log. Dropping it ends the writer once everything handed in is written.
pub struct ScanLog {
    shared: Arc<Shared>,
    anchors: AnchorBook,
    log_id: u16,
    max_waiting: usize,
    secret: StorageKey,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl State {
    fn new(config: &ScanLogConfig) -> Self {
        Self {
            index: VerdictIndex::default(),
            keys: IdempotencyKeys::new(config.max_keys, config.max_key_age_ms),
            pending: BTreeMap::new(),
            later: HashMap::new(),
            ids: HashMap::new(),
            positions: Vec::new(),
            tree: MemoryTree::new(),
            bytes: 0,
        }
    }

    /// Takes over one entry of the log, at start and as it is written: one way for both.
    fn apply(&mut self, staged: Staged, position: Position) {
        let index = self.positions.len() as u64;
        self.positions.push(position);
        self.tree.append(staged.leaf);
        if let Some(seen) = &staged.seen {
            self.index.set(&staged.code, seen);
        }
        match staged.entry {
            LogEntry::Scan(scan) => {
                if let Some(used) = &staged.key {
                    self.keys.insert(used, index, scan.time_ms);
                }
                self.ids.insert(scan.id, index);
                if scan.verdict == super::Verdict::CannotVerifyNow {
                    self.pending.insert(
                        index,
                        Pending {
                            id: scan.id,
                            code: scan.code,
                            place: scan.place,
                            issuer: scan.issuer,
                        },
                    );
                }
            }
            LogEntry::Later(_) => {
                if let Some(scan) = staged.resolves {
                    self.pending.remove(&scan);
                    self.later.insert(scan, index);
                }
            }
        }
    }

    /// What a stored line will change; the counterpart of what the writer stages.
    fn staged(&self, line: &Line) -> Result<Staged, ScanError> {
        let entry = LogEntry::from_bytes(&line.entry)?;
        let (code, resolves, seen) = match &entry {
            LogEntry::Scan(scan) => {
                let seen = seen_after(scan.is_counted(), scan.count, scan.first.as_ref());
                (scan.code_hash(), None, seen)
            }
            LogEntry::Later(later) => {
                let scan = self.ids.get(&later.scan).copied();
                let code = scan
                    .and_then(|i| self.pending.get(&i))
                    .map(|p| p.code.hash())
                    .ok_or(ScanError::Internal {
                        what: "a later verdict without its scan",
                    })?;
                let counted = later.unit.is_some() && later.verdict.is_genuine();
                let seen = seen_after(counted, later.count, later.first.as_ref());
                (code, scan, seen)
            }
        };
        Ok(Staged {
            leaf: super::scan_leaf(&line.salt, &line.entry),
            entry,
            key: line.key,
            resolves,
            code,
            seen,
        })
    }
}

fn seen_after(counted: bool, count: u64, first: Option<&super::First>) -> Option<Seen> {
    first.filter(|_| counted).map(|first| Seen {
        count,
        first: first.clone(),
    })
}

impl Shared {
    pub(super) fn read<T>(&self, f: impl FnOnce(&State) -> T) -> Result<T, ScanError> {
        self.state
            .read()
            .map(|s| f(&s))
            .map_err(|_| ScanError::Internal {
                what: "scan state is poisoned",
            })
    }

    pub(super) fn size(&self) -> u64 {
        *self.size.borrow()
    }

    /// Called by the writer once the entries are durable.
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
        let mut state = self.state.write().map_err(|_| ScanError::Internal {
            what: "scan state is poisoned",
        })?;
        for (staged, position) in staged.into_iter().zip(positions) {
            state.apply(staged, *position);
        }
        state.bytes = bytes;
        let size = state.positions.len() as u64;
        drop(state);
        self.size.send_replace(size);
        Ok(())
    }

    /// Whether the log may be written now.
    pub(super) fn check_room(&self) -> Result<(), String> {
        if let Some(reason) = locked(&self.forked).clone() {
            return Err(reason);
        }
        match free_bytes(&self.dir) {
            Some(free) if free < self.min_free_bytes => Err(format!(
                "{free} bytes are free on the disk of the scan log, {} are kept free",
                self.min_free_bytes
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn set_write_failure(&self, reason: Option<String>) {
        *locked(&self.write_failure) = reason.map(|r| (r, Instant::now()));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A reason is replaced as a whole: it is never half written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScanLog {
    /// Opens the log, rebuilds what is in memory, and starts the writer.
    ///
    /// # Errors
    /// [`ScanError::Sealed`] if files are damaged, locked or under another key; [`ScanError::Codec`] if an entry is of another version.
    pub fn open(config: &ScanLogConfig, key: &StorageKey) -> Result<Self, ScanError> {
        let mut state = State::new(config);
        let log = SealedLog::open(
            &config.dir.join("log"),
            &key.derive("tally/scan-log/v1"),
            PURPOSE,
            config.files,
            |position, bytes| {
                let line = Line::from_bytes(bytes)?;
                let staged = state.staged(&line)?;
                state.apply(staged, position);
                Ok::<_, ScanError>(())
            },
        )?;
        if let Some(repair) = log.repaired() {
            tracing::warn!(
                file = %repair.path.display(),
                offset = repair.offset,
                dropped_bytes = repair.dropped_bytes,
                "a torn tail was cut off the scan log; nothing in it was ever acknowledged"
            );
        }
        state.bytes = log.bytes();
        let anchors = AnchorBook::open(&config.dir.join("anchors"), key)?;
        let size = state.positions.len() as u64;
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            reader: log.reader(),
            dir: config.dir.clone(),
            min_free_bytes: config.min_free_bytes,
            write_failure: Mutex::default(),
            forked: Mutex::default(),
            size: watch::Sender::new(size),
        });
        let (jobs, receiver) = mpsc::channel(config.max_waiting.max(1));
        let writer = std::thread::Builder::new()
            .name("scan-writer".into())
            .spawn({
                let shared = Arc::clone(&shared);
                let max_group = config.max_group.max(1);
                let max_frame = config.files.max_frame_bytes.max(MAX_LINE);
                move || writer::run(log, &shared, receiver, max_group, max_frame)
            })
            .map_err(|source| SealedError::Io {
                action: "start the writer of",
                path: config.dir.clone(),
                source,
            })?;
        Ok(Self {
            shared,
            anchors,
            log_id: config.log_id,
            max_waiting: config.max_waiting,
            secret: key.derive("tally/scan-secret/v1"),
            jobs: Some(jobs),
            writer: Some(writer),
        })
    }

    /// Which of the member's logs this is.
    #[must_use]
    pub const fn log_id(&self) -> u16 {
        self.log_id
    }

    /// Leaves in the log.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shared.size()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.read(|s| s.bytes).unwrap_or_default()
    }

    /// Codes with a counted scan.
    #[must_use]
    pub fn codes(&self) -> usize {
        self.shared.read(|s| s.index.len()).unwrap_or_default()
    }

    /// Scans whose issuer must be asked again.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.read(|s| s.pending.len()).unwrap_or_default()
    }

    /// Idempotency keys in memory.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.shared.read(|s| s.keys.len()).unwrap_or_default()
    }

    /// Why nothing can be written now, if so.
    #[must_use]
    pub fn read_only(&self) -> Option<String> {
        self.shared
            .check_room()
            .err()
            .or_else(|| locked(&self.shared.write_failure).clone().map(|(r, _)| r))
    }

    /// Whether a scan need not even be tried: after a failed write one is let through every [`TRY_AGAIN`].
    pub(super) fn check_writable(&self) -> Result<(), ScanError> {
        let failed = || {
            locked(&self.shared.write_failure)
                .clone()
                .filter(|(_, at)| at.elapsed() < TRY_AGAIN)
                .map(|(reason, _)| reason)
        };
        match self.shared.check_room().err().or_else(failed) {
            Some(reason) => Err(ScanError::ReadOnly { reason }),
            None => Ok(()),
        }
    }

    /// Anchors so far.
    #[must_use]
    pub fn anchor_state(&self) -> AnchorState {
        self.anchors.state()
    }

    /// The anchor that covers the leaf at `index`, if there is one yet.
    #[must_use]
    pub fn anchor_of(&self, index: u64) -> Option<AnchorRecord> {
        self.anchors.covering(index)
    }

    /// The counted scans of a code.
    ///
    /// # Errors
    /// [`ScanError::Internal`].
    pub fn seen(&self, code: &CodeHash) -> Result<Option<Seen>, ScanError> {
        self.shared.read(|s| s.index.seen(code))
    }

    /// The root of the first `size` leaves; `None` if the log is smaller.
    ///
    /// # Errors
    /// [`ScanError::Internal`].
    pub fn root_at(&self, size: u64) -> Result<Option<Hash>, ScanError> {
        self.shared.read(|s| s.tree.root_at(size).ok())
    }

    /// The scan of that ID. Reads the disk.
    ///
    /// # Errors
    /// [`ScanError::NotFound`], [`ScanError::Sealed`].
    pub fn scan(&self, id: &ScanId) -> Result<StoredScan, ScanError> {
        let index = self
            .shared
            .read(|s| s.ids.get(id).copied())?
            .ok_or(ScanError::NotFound)?;
        self.scan_at(index)
    }

    pub(super) fn scan_at(&self, index: u64) -> Result<StoredScan, ScanError> {
        let later = self.shared.read(|s| s.later.get(&index).copied())?;
        let (leaf, LogEntry::Scan(record)) = self.entry(index)? else {
            return Err(ScanError::NotFound);
        };
        let later = match later.map(|i| self.entry(i)).transpose()? {
            Some((_, LogEntry::Later(later))) => Some(later),
            _ => None,
        };
        Ok(StoredScan {
            record,
            index,
            leaf,
            later,
        })
    }

    fn entry(&self, index: u64) -> Result<(Hash, LogEntry), ScanError> {
        let position = self
            .shared
            .read(|s| {
                usize::try_from(index)
                    .ok()
                    .and_then(|i| s.positions.get(i).copied())
            })?
            .ok_or(ScanError::NotFound)?;
        let line = Line::from_bytes(&self.shared.reader.read(position)?)?;
        let leaf = super::scan_leaf(&line.salt, &line.entry);
        Ok((leaf, LogEntry::from_bytes(&line.entry)?))
    }

    /// Proves the scan under the first anchor that covers it.
    ///
    /// # Errors
    /// [`ScanError::NotFound`], [`ScanError::NotAnchored`].
    pub fn proof(&self, id: &ScanId) -> Result<ScanProof, ScanError> {
        let scan = self.scan(id)?;
        let anchor = self.anchor_of(scan.index).ok_or(ScanError::NotAnchored)?;
        let path = self
            .shared
            .read(|s| s.tree.inclusion_proof(scan.index, anchor.size))?
            .map_err(|_| ScanError::Internal {
                what: "no inclusion proof under an anchor",
            })?;
        Ok(ScanProof {
            scan: *id,
            log_id: self.log_id,
            index: scan.index,
            leaf: scan.leaf,
            path,
            anchor,
        })
    }

    /// The consistency proof between two sizes of the log.
    pub(super) fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, ScanError> {
        if old == 0 {
            return Ok(Vec::new());
        }
        self.shared
            .read(|s| s.tree.consistency_proof(old, new))?
            .map_err(|_| ScanError::Internal {
                what: "no consistency proof",
            })
    }

    /// A keyed hash of 16 bytes under this node's own secret: pseudonyms, and names of idempotency keys.
    #[must_use]
    pub fn pseudonym(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mac = self.secret.mac(parts);
        std::array::from_fn(|i| mac.get(i).copied().unwrap_or_default())
    }

    /// The scan that answered this request before, if one did.
    pub(super) fn answered(&self, used: &KeyUse) -> Result<Option<u64>, ScanError> {
        match self.shared.read(|s| s.keys.state(used))? {
            KeyState::New => Ok(None),
            KeyState::Answered { index } => Ok(Some(index)),
            KeyState::OtherRequest => Err(ScanError::KeyReused),
        }
    }

    /// Hands a scan to the writer and waits until it is durable.
    pub(super) async fn append(&self, draft: Draft) -> Result<Appended, ScanError> {
        self.send(|reply| Job::Scan(Box::new(draft), reply)).await
    }

    /// Hands a later verdict to the writer and waits until it is durable.
    pub(super) async fn append_later(&self, draft: LaterDraft) -> Result<Appended, ScanError> {
        self.send(|reply| Job::Later(draft, reply)).await
    }

    async fn send(&self, job: impl FnOnce(writer::Reply) -> Job) -> Result<Appended, ScanError> {
        let jobs = self.jobs.as_ref().ok_or(ScanError::Closed)?;
        let (reply, answer) = oneshot::channel();
        jobs.try_send(job(reply)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => ScanError::Busy {
                waiting: self.max_waiting,
            },
            mpsc::error::TrySendError::Closed(_) => ScanError::Closed,
        })?;
        answer.await.map_err(|_| ScanError::Closed)?
    }

    pub(super) fn pending_after(&self, index: Option<u64>, max: usize) -> Vec<(u64, Pending)> {
        let from = index.map_or(0, |i| i.saturating_add(1));
        self.shared
            .read(|s| {
                s.pending
                    .range(from..)
                    .take(max)
                    .map(|(i, p)| (*i, p.clone()))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// Follows the size of the log.
    #[must_use]
    pub fn watch_size(&self) -> watch::Receiver<u64> {
        self.shared.size.subscribe()
    }

    /// Keeps an anchor that the ledger has.
    pub(crate) fn record_anchor(
        &self,
        size: u64,
        root: Hash,
        record: RecordId,
    ) -> Result<(), ScanError> {
        self.anchors.push(AnchorRecord { size, root, record })
    }

    /// From now on nothing is written: the ledger and this log disagree.
    pub(super) fn set_forked(&self, error: &ScanError) {
        *locked(&self.shared.forked) = Some(error.to_string());
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }
}

impl Drop for ScanLog {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been printed by its own thread.
            let _ = writer.join();
        }
    }
}
