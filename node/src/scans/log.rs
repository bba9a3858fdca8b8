//! The scan log: what readers see of it, and how it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tally_contracts::ids::RecordId;
use tally_merkle::Hash;
use tokio::sync::{mpsc, oneshot, watch};

use super::anchor::{AnchorBook, AnchorRecord, AnchorState};
use super::checkpoint::{Checkpoint, Keeper};
use super::draft::{Appended, Draft, EventDraft, Job, LaterDraft, Reply};
use super::index::{EmbeddedIndex, PostgresIndex, ScanIndex};
use super::keys::{KeyState, KeyUse};
use super::leaves::Leaves;
use super::line::MAX_LINE;
use super::record::LogEntry;
use super::retention::{Deleted, delete_before};
use super::state::{Limits, Pending, Shared};
use super::statistics::{self, Statistics, StatisticsQuery};
use super::table::Table;
use super::writer;
use super::{
    CodeHash, Copies, History, LaterVerdict, Reasons, ScanError, ScanId, ScanRecord, Seen,
    SharedIndex, UnitRef, Verdict,
};
use crate::sealed::{LogOptions, RowSealer, SealedError, SealedLog, SealedReader, StorageKey};

const PURPOSE: &str = "scans";
/// How long after a failed write nothing is tried.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How a scan log is kept.
#[derive(Clone)]
pub struct ScanLogConfig {
    /// Its directory, made if absent.
    pub dir: PathBuf,
    /// Which of the member's scan logs this is; two nodes of a member must not share one.
    pub log_id: u16,
    /// Scans that may wait for the writer before new ones are turned away.
    pub max_waiting: usize,
    /// Scans that are synced together.
    pub max_group: usize,
    /// How long idempotency keys are remembered, in milliseconds.
    pub max_key_age_ms: u64,
    /// Rows of the index in memory before they are written into a segment; about three a scan, 100 bytes each.
    pub max_rows: usize,
    /// Below this many free bytes on the disk nothing is written.
    pub min_free_bytes: u64,
    /// Sizes of the files.
    pub files: LogOptions,
    /// What is kept of a code's earlier scans.
    pub history: Arc<dyn History>,
    /// The index that it shares with the member's other gateways; `None` for one of its own.
    pub shared: Option<Arc<SharedIndex>>,
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
            max_key_age_ms: 24 * 3600 * 1000,
            max_rows: 200_000,
            min_free_bytes: 64 << 20,
            files: LogOptions::default(),
            history: Arc::new(Copies::default()),
            shared: None,
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

impl StoredScan {
    /// The verdict as it is known now: the later one, if there is one.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.later
            .as_ref()
            .map_or(self.record.verdict, |l| l.verdict)
    }

    /// The unit, if this member issued it.
    #[must_use]
    pub fn unit(&self) -> Option<UnitRef> {
        self.record
            .unit
            .or_else(|| self.later.as_ref().and_then(|l| l.unit))
    }
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

/// An open scan log. Dropping it ends the writer once everything handed in is written.
pub struct ScanLog {
    shared: Arc<Shared>,
    anchors: AnchorBook,
    log_id: u16,
    max_waiting: usize,
    secret: StorageKey,
    retention: StorageKey,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

/// What is kept beside the log, as the checkpoint has it.
struct Beside {
    checkpoint: Checkpoint,
    table: Table,
    leaves: Leaves,
}

impl Beside {
    /// Opens it, or says in the process's log why it must be built again.
    fn open(dir: &Path, key: &StorageKey, sealer: &RowSealer) -> Option<Self> {
        let checkpoint = Checkpoint::load(dir, key)?;
        let size = checkpoint.snapshot.as_ref().map_or(0, |s| s.size);
        let opened = (|| {
            let table = Table::open(dir, sealer.clone(), &checkpoint.segments)?;
            let leaves = Leaves::open(dir, size)?;
            let root = leaves.root_at(size)?;
            Ok::<_, ScanError>((table, leaves, root))
        })();
        let (table, leaves, root) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "the scan index cannot be used");
                return None;
            }
        };
        if checkpoint
            .snapshot
            .as_ref()
            .is_some_and(|s| root != Some(s.root))
        {
            tracing::warn!(
                "the leaves beside the scan log have another root than their checkpoint"
            );
            return None;
        }
        Some(Self {
            checkpoint,
            table,
            leaves,
        })
    }

    fn start_over(dir: &Path, sealer: &RowSealer) -> Result<Self, ScanError> {
        Ok(Self {
            checkpoint: Checkpoint::start_over(dir)?,
            table: Table::open(dir, sealer.clone(), &[])?,
            leaves: Leaves::open(dir, 0)?,
        })
    }
}

/// Reads the log from the checkpoint on.
fn read_on(
    config: &ScanLogConfig,
    key: &StorageKey,
    index_key: &StorageKey,
    beside: Beside,
) -> Result<(SealedLog, Shared), ScanError> {
    let dir = config.dir.join("log");
    let index_dir = config.dir.join("index");
    let log_key = key.derive("tally/scan-log/v1");
    let snapshot = beside.checkpoint.snapshot.clone();
    let table = Arc::new(beside.table);
    let index: Arc<dyn ScanIndex> = match &config.shared {
        None => Arc::new(EmbeddedIndex(Arc::clone(&table))),
        Some(shared) => Arc::new(PostgresIndex::new(shared, config.log_id)?),
    };
    let keeper = Keeper::start(
        &index_dir,
        index_key.clone(),
        Arc::clone(&table),
        beside.checkpoint,
        config.max_key_age_ms,
    )?;
    let shared = Shared::new(
        beside.leaves,
        snapshot.as_ref(),
        table,
        index,
        Arc::clone(&config.history),
        keeper,
        SealedReader::new(&dir, &log_key, PURPOSE),
        config.dir.clone(),
        Limits {
            min_free_bytes: config.min_free_bytes,
            max_key_age_ms: config.max_key_age_ms,
            max_rows: config.max_rows.max(1),
        },
    );
    // The entry that the checkpoint ends with is shown once more: it must be the one that the checkpoint means.
    let mut known = snapshot.as_ref().map(|s| s.size.saturating_sub(1));
    let log = SealedLog::open_from(
        &dir,
        &log_key,
        PURPOSE,
        config.files,
        snapshot.as_ref().map(|s| s.last),
        |position, bytes| match known.take() {
            Some(index) => shared.check(index, position, bytes),
            None => shared.replay(position, bytes),
        },
    )?;
    Ok((log, shared))
}

impl ScanLog {
    /// Opens the log, reads what its last checkpoint does not have, and starts the writer. Without a checkpoint, or with one that is damaged
    /// or of another log, all of the log is read.
    ///
    /// # Errors
    /// [`ScanError::Sealed`] if files are damaged, locked or under another key; [`ScanError::Codec`] if an entry is of another version.
    pub fn open(config: &ScanLogConfig, key: &StorageKey) -> Result<Self, ScanError> {
        let index_dir = config.dir.join("index");
        let index_key = key.derive("tally/scan-index/v1");
        let sealer = RowSealer::new(&index_key.derive("rows"));
        let start_over = || Beside::start_over(&index_dir, &sealer);
        let opened = match Beside::open(&index_dir, &index_key, &sealer) {
            None => read_on(config, key, &index_key, start_over()?),
            Some(beside) => match read_on(config, key, &index_key, beside) {
                Err(ScanError::Sealed(error @ SealedError::NoEntry { .. })) => {
                    tracing::warn!(%error, "the scan index is of another log; it is built again");
                    read_on(config, key, &index_key, start_over()?)
                }
                opened => opened,
            },
        };
        let (log, shared) = opened?;
        if let Some(repair) = log.repaired() {
            tracing::warn!(
                file = %repair.path.display(),
                offset = repair.offset,
                dropped_bytes = repair.dropped_bytes,
                "a torn tail was cut off the scan log; nothing in it was ever acknowledged"
            );
        }
        shared.set_bytes(log.bytes());
        shared.set_segment(log.segment());
        let anchors = AnchorBook::open(&config.dir.join("anchors"), key)?;
        let shared = Arc::new(shared);
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
            // One history takes the scans of all gateways that share an index: who scanned has one name at all of them.
            secret: match &config.shared {
                None => key.derive("tally/scan-secret/v1"),
                Some(shared) => shared.key.derive("tally/shared-scan-secret/v1"),
            },
            retention: key.derive("tally/scan-retention/v1"),
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
        self.shared.bytes()
    }

    /// Codes whose first counted scan is here.
    #[must_use]
    pub fn codes(&self) -> u64 {
        self.shared.codes()
    }

    /// Scans whose issuer must be asked again.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.pending_len()
    }

    /// Why the index that several gateways share is away, if it is; scans of own codes cannot be verified then.
    #[must_use]
    pub fn index_away(&self) -> Option<String> {
        self.shared.index.away()
    }

    /// Why nothing can be written now, if so.
    #[must_use]
    pub fn read_only(&self) -> Option<String> {
        self.shared
            .check_room()
            .err()
            .or_else(|| self.shared.write_failure().map(|(r, _)| r))
    }

    /// Whether a scan need not even be tried: after a failed write one is let through every [`TRY_AGAIN`].
    pub(super) fn check_writable(&self) -> Result<(), ScanError> {
        let failed = || {
            self.shared
                .write_failure()
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

    /// What is known of a code.
    ///
    /// # Errors
    /// [`ScanError::IndexAway`], [`ScanError::Table`].
    pub async fn seen(&self, code: &CodeHash) -> Result<Seen, ScanError> {
        let seen = self.shared.index.seen(code).await;
        self.shared.noted(seen.map_err(ScanError::from))
    }

    /// Why a code is suspect by what is known of it, or `None`.
    pub(super) fn suspicion(&self, seen: &Seen) -> Option<Reasons> {
        self.shared.history().suspicion(&seen.history)
    }

    /// The root of the first `size` leaves; `None` if the log is smaller.
    ///
    /// # Errors
    /// [`ScanError::Internal`].
    pub fn root_at(&self, size: u64) -> Result<Option<Hash>, ScanError> {
        self.shared.leaves(|l| l.root_at(size))
    }

    /// The scan of that ID. Reads the disk.
    ///
    /// # Errors
    /// [`ScanError::NotFound`], [`ScanError::Sealed`].
    pub fn scan(&self, id: &ScanId) -> Result<StoredScan, ScanError> {
        let index = self.shared.leaf_of(id)?.ok_or(ScanError::NotFound)?;
        self.scan_at(index)
    }

    pub(super) fn scan_at(&self, index: u64) -> Result<StoredScan, ScanError> {
        let (leaf, LogEntry::Scan(record)) = self.shared.entry(index)? else {
            return Err(ScanError::NotFound);
        };
        let later = if record.verdict == Verdict::CannotVerifyNow {
            self.shared.later(index)?
        } else {
            None
        };
        Ok(StoredScan {
            record,
            index,
            leaf,
            later,
        })
    }

    /// Proves the scan under the first anchor that covers it.
    ///
    /// # Errors
    /// [`ScanError::NotFound`], [`ScanError::NotAnchored`].
    pub fn proof(&self, id: &ScanId) -> Result<ScanProof, ScanError> {
        let index = self.shared.leaf_of(id)?.ok_or(ScanError::NotFound)?;
        let leaf = self.shared.leaf(index)?;
        let anchor = self.anchor_of(index).ok_or(ScanError::NotAnchored)?;
        let path = self
            .shared
            .leaves(|l| l.inclusion_proof(index, anchor.size))?;
        Ok(ScanProof {
            scan: *id,
            log_id: self.log_id,
            index,
            leaf,
            path,
            anchor,
        })
    }

    /// The consistency proof between two sizes of the log.
    pub(super) fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, ScanError> {
        if old == 0 {
            return Ok(Vec::new());
        }
        self.shared.leaves(|l| l.consistency_proof(old, new))
    }

    /// A keyed hash of 16 bytes: pseudonyms, and names of idempotency keys. The secret is this node's own, or that of all gateways which
    /// share an index.
    #[must_use]
    pub fn pseudonym(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mac = self.secret.mac(parts);
        std::array::from_fn(|i| mac.get(i).copied().unwrap_or_default())
    }

    /// The scan that answered this request before, if one did.
    pub(super) fn answered(&self, used: &KeyUse) -> Result<Option<u64>, ScanError> {
        match self.shared.key_state(used)? {
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

    /// Hands an event to the writer and waits until it is durable.
    pub(super) async fn append_event(&self, draft: EventDraft) -> Result<Appended, ScanError> {
        self.send(|reply| Job::Event(Box::new(draft), reply)).await
    }

    async fn send(&self, job: impl FnOnce(Reply) -> Job) -> Result<Appended, ScanError> {
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

    pub(super) fn pending_after(
        &self,
        index: Option<u64>,
        max: usize,
    ) -> Result<Vec<(u64, Pending)>, ScanError> {
        let from = index.map_or(0, |i| i.saturating_add(1));
        let leaves = self.shared.pending_from(from, max);
        let scan = |index: u64| {
            let scan = self.shared.pending(index)?;
            Ok(scan.map(|s| {
                let pending = Pending {
                    id: s.id,
                    code: s.code,
                    place: s.place,
                    issuer: s.issuer,
                };
                (index, pending)
            }))
        };
        leaves
            .into_iter()
            .filter_map(|index| scan(index).transpose())
            .collect()
    }

    /// Deletes scans from before `cutoff_ms` POSIX milliseconds: their leaves stay, so do receipts' proofs and the counts of their codes. Scans
    /// that still wait for their issuer stay until they have their verdict. Reads and writes whole segments; a crash loses nothing.
    ///
    /// # Errors
    /// [`ScanError::Sealed`], [`ScanError::Closed`]; what was deleted until then stays deleted.
    pub(super) async fn begin_deleting(&self, cutoff_ms: u64) -> Result<(), ScanError> {
        let last = self.shared.full_segments().end;
        let begin = self.shared.begin_of_segment(last)?;
        if begin.is_none_or(|time| time >= cutoff_ms) {
            return Ok(());
        }
        let jobs = self.jobs.as_ref().ok_or(ScanError::Closed)?;
        let (reply, answer) = oneshot::channel();
        jobs.send(Job::Roll(reply))
            .await
            .map_err(|_| ScanError::Closed)?;
        answer.await.map_err(|_| ScanError::Closed)?
    }

    /// The rest of [`Self::begin_deleting`]; blocks.
    pub(super) fn delete_before(&self, cutoff_ms: u64) -> Result<Deleted, ScanError> {
        delete_before(&self.shared, &self.shared.dir, &self.retention, cutoff_ms)
    }

    /// Counts the whole log; `report` hears how many entries are done, and of how many. Reads all of it and blocks; must be called within
    /// a runtime.
    ///
    /// # Errors
    /// [`ScanError::Input`], [`ScanError::Sealed`], [`ScanError::IndexAway`].
    pub fn statistics(
        &self,
        query: StatisticsQuery,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<Statistics, ScanError> {
        statistics::count(&self.shared, query, report)
    }

    /// Follows the size of the log.
    #[must_use]
    pub fn watch_size(&self) -> watch::Receiver<u64> {
        self.shared.watch_size()
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
        self.shared.set_forked(error.to_string());
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }
}

#[cfg(test)]
impl ScanLog {
    /// Serial, verdict and count of every entry, for tests that add logs up.
    pub(super) fn everything(&self) -> Vec<(String, Verdict, u64)> {
        let entry = |index| match self.shared.entry(index).expect("entry").1 {
            LogEntry::Scan(s) => (s.code.serial().to_owned(), s.verdict, s.count),
            LogEntry::Later(l) => {
                let scan = self.scan(&l.scan).expect("scan");
                (scan.record.code.serial().to_owned(), l.verdict, l.count)
            }
            LogEntry::Event(e) => (e.code.serial().to_owned(), Verdict::Unknown, 0),
        };
        (0..self.size()).map(entry).collect()
    }
}

impl Drop for ScanLog {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been printed by its own thread.
            let _ = writer.join();
        }
        self.shared.finish();
    }
}
