//! A list that is too large for one run: the set goes to disk by bucket, and what is finished is kept, so that a match goes on after
//! this node or the other one was killed.
//!
//! Beside a match's file lie `ID.past`, where its list is (sealed, replaced at each step), and `ID.rows-NNNNNN`, the rows of each
//! finished bucket. The items themselves lie in a file that cannot be read after the process is gone: they are sorted into buckets
//! again from the audience.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_measure::SaltedEntry;
use tally_merkle::Frontier;
use tally_psi::buckets::{BucketStore, Buckets, EachItem, Past, Plan, Step};
use tally_psi::messages::Scope;
use tally_psi::{Computation, Error, Machine, Params, Seeds, SorterFactory};

use super::desk::Inner;
use super::engine::{Agreed, item_numbers};
use super::error::MatchError;
use super::state::{MatchFile, MatchId, Role};
use crate::audiences::{AudienceError, AudienceMeta, AudienceStore};
use crate::bucket_files::BucketFiles;
use crate::sealed::{SealedError, StorageKey, read_sealed, write_sealed};
use crate::spill::SpillSorters;

/// For so long after it was asked for a broken match may go on; then it ends, and what was released stays spent.
pub(super) const RESUME_FOR_MS: u64 = 24 * 3_600_000;

/// Where a list in buckets is, on disk.
pub(super) struct Journal {
    dir: PathBuf,
    key: StorageKey,
    id: MatchId,
}

impl Journal {
    pub(super) fn new(dir: &Path, key: &StorageKey, id: MatchId) -> Self {
        Self {
            dir: dir.to_owned(),
            key: key.derive("tally/match-buckets/v1"),
            id,
        }
    }

    fn past_path(&self) -> PathBuf {
        self.dir.join(format!("{}.past", self.id))
    }

    fn rows_path(&self, bucket: u32) -> PathBuf {
        self.dir.join(format!("{}.rows-{bucket:06}", self.id))
    }

    fn purpose(&self, what: &str) -> String {
        format!("match-buckets/{}/{what}", self.id)
    }

    /// What was noted last, if anything was.
    pub(super) fn past(&self) -> Result<Option<Past>, MatchError> {
        let bytes = read_sealed(&self.past_path(), &self.key, &self.purpose("past"))?;
        Ok(bytes.map(|b| Past::from_bytes(&b)).transpose()?)
    }

    /// Notes a step, and what is known with it; durable when this returns.
    fn note(&self, step: &Step, past: &Past) -> Result<(), SealedError> {
        // Also of a bucket without a match: a repeated one has its own rows and no older ones.
        if let Step::Finished { bucket, rows, .. } = step {
            let bytes: Vec<u8> = rows.iter().flat_map(|row| row.to_be_bytes()).collect();
            let purpose = self.purpose(&format!("rows/{bucket}"));
            write_sealed(&self.rows_path(*bucket), &self.key, &purpose, &bytes)?;
        }
        write_sealed(
            &self.past_path(),
            &self.key,
            &self.purpose("past"),
            &past.to_bytes(),
        )
    }

    /// The rows of all finished buckets, ascending.
    pub(super) fn rows(&self) -> Result<Option<Vec<u64>>, MatchError> {
        let Some(past) = self.past()? else {
            return Ok(None);
        };
        let mut rows = Vec::new();
        for bucket in past.finished() {
            let purpose = self.purpose(&format!("rows/{bucket}"));
            if let Some(bytes) = read_sealed(&self.rows_path(bucket), &self.key, &purpose)? {
                let (more, _) = bytes.as_chunks::<8>();
                rows.extend(more.iter().map(|row| u64::from_be_bytes(*row)));
            }
        }
        if rows.len() as u64 != past.rows() {
            return Err(SealedError::Damaged {
                path: self.past_path(),
                offset: 0,
                what: "another number of rows than noted",
            }
            .into());
        }
        rows.sort_unstable();
        Ok(Some(rows))
    }

    /// Removes the rows of a list that has fewer than its agreement lets anybody see, or that has ended without an answer.
    pub(super) fn forget_rows(&self) -> Result<(), MatchError> {
        // Rows are written before the bucket counts as finished.
        let begun: BTreeSet<u32> = self
            .past()?
            .iter()
            .flat_map(Past::marks)
            .map(|(bucket, _)| *bucket)
            .collect();
        for path in begun.into_iter().map(|bucket| self.rows_path(bucket)) {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(SealedError::Io {
                        action: "remove",
                        path,
                        source,
                    }
                    .into());
                }
                _ => {}
            }
        }
        match fs::remove_file(self.past_path()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(SealedError::Io {
                action: "remove",
                path: self.past_path(),
                source,
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// A list's past with its journal, shared by the machines of all its buckets.
pub(super) struct SharedPast {
    journal: Journal,
    past: Mutex<Past>,
}

impl SharedPast {
    /// What the journal says, or that of a list that is begun with the plan of this digest.
    pub(super) fn open(journal: Journal, plan: [u8; 32]) -> Result<Self, MatchError> {
        let past = journal.past()?.unwrap_or_else(|| Past::new(plan));
        Ok(Self {
            journal,
            past: Mutex::new(past),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        // A step that panicked has not changed it.
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been done so far.
    pub(super) fn now(&self) -> Past {
        self.lock().clone()
    }

    /// Takes a step; durable when this returns.
    pub(super) fn take(&self, step: &Step) -> Result<(), Error> {
        let mut past = self.lock();
        let mut next = past.clone();
        next.take(step)?;
        self.journal.note(step, &next).map_err(storage)?;
        *past = next;
        Ok(())
    }
}

/// Items, sorters and past of a run.
pub(super) struct DeskStore {
    pub(super) files: Arc<BucketFiles>,
    pub(super) sorters: SpillSorters,
    pub(super) past: Arc<SharedPast>,
}

#[allow(clippy::needless_pass_by_value)]
fn storage(error: impl ToString) -> Error {
    Error::Storage {
        reason: error.to_string(),
    }
}

/// An error of a page, or of what takes its items.
struct Visited(Error);

impl From<io::Error> for Visited {
    fn from(error: io::Error) -> Self {
        Self(storage(error))
    }
}

impl BucketStore for DeskStore {
    fn load(&mut self, bucket: u32, each: EachItem<'_>) -> Result<(), Error> {
        self.files
            .visit(bucket, |row, value| each(row, value).map_err(Visited))
            .map_err(|Visited(error)| error)
    }

    fn past(&mut self) -> Result<Past, Error> {
        Ok(self.past.now())
    }

    fn note(&mut self, step: &Step) -> Result<(), Error> {
        self.past.take(step)
    }

    fn sorters(&mut self) -> Box<dyn SorterFactory> {
        Box::new(self.sorters.clone())
    }
}

/// Puts a set into buckets, one of its files in memory at a time, and verifies it against its root on the way.
fn scatter(
    audiences: &AudienceStore,
    meta: &AudienceMeta,
    dir: &Path,
    plan: &Plan,
    context: &[u8; 32],
) -> Result<BucketFiles, MatchError> {
    let (id_type, profile) = item_numbers(meta.profile)?;
    let names = plan.names(context, id_type, profile);
    let mut files = BucketFiles::create(dir, plan.buckets()).map_err(storage)?;
    let (mut tree, mut last) = (Frontier::new(), None);
    let mut sorted = true;
    audiences.visit(meta, |entry: SaltedEntry| {
        let leaf = entry.leaf(meta.profile);
        sorted &= last < Some(leaf);
        last = Some(leaf);
        let row = tree.size();
        tree.append(leaf);
        let value = entry.id.as_bytes();
        files
            .push(names.of(value), row, value)
            .map_err(AudienceError::io("write buckets in", dir))
    })?;
    if sorted && tree.root() == meta.root {
        Ok(files)
    } else {
        Err(AudienceError::Set(tally_measure::Error::SetRoot).into())
    }
}

impl Inner {
    /// Where the list of a match is kept.
    pub(super) fn journal(&self, id: MatchId) -> Journal {
        Journal::new(self.store.dir(), self.store.key(), id)
    }

    /// The machine for a list that needs several buckets; `None` where a plain run is due.
    pub(super) async fn in_buckets(
        &self,
        agreed: &Agreed,
        params: &Params,
        seeds: impl FnOnce() -> Seeds,
    ) -> Result<Option<Box<dyn Machine>>, MatchError> {
        if params.context.computation != Computation::List {
            return Ok(None);
        }
        // Both sides' public sizes, so that the number of buckets and what fills them up say no more than these.
        let own = agreed.own.public_size();
        let (a, b) = agreed.by_role(own, agreed.their_size);
        let rule = self.options.bucket_rule;
        let Some(plan) = Plan::of([a, b], rule)? else {
            return Ok(None);
        };
        let journal = self.journal(agreed.id);
        self.store.update(&agreed.id, |f| f.in_buckets = true)?;
        let (audiences, meta, dir) = (
            self.audiences.clone(),
            agreed.own.clone(),
            self.store.dir().to_owned(),
        );
        let sorters = SpillSorters::new(dir.clone(), self.options.rows_in_memory);
        let role = match agreed.role {
            Role::Initiator => tally_psi::messages::Role::Initiator,
            Role::Responder => tally_psi::messages::Role::Responder,
        };
        let (params, seeds) = (params.clone(), seeds());
        let work = move || -> Result<Option<Box<dyn Machine>>, MatchError> {
            let context = params.context.digest();
            let store = DeskStore {
                files: Arc::new(scatter(&audiences, &meta, &dir, &plan, &context)?),
                sorters,
                past: Arc::new(SharedPast::open(journal, plan.digest(&context))?),
            };
            let kind = item_numbers(meta.profile)?;
            let machine =
                Buckets::new(role, params, plan, kind, Scope::All, seeds, Box::new(store));
            Ok(Some(Box::new(machine?)))
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| MatchError::Internal {
                what: "the thread that reads a set died",
            })?
    }

    /// Whether a match that broke may go on: a list in buckets that nobody has ended, for a day after it was asked for.
    pub(super) fn may_resume(&self, file: &MatchFile) -> bool {
        file.in_buckets
            && file.view.answer.is_none()
            && !file.view.stage.is_final()
            && self.ledger.time_ms() < file.view.started_ms.saturating_add(RESUME_FOR_MS)
    }
}

/// Whether a match broke from outside, so that it may go on: a stream or process that ended, a disk, or somebody who was too slow. A
/// refusal, a deviation, a cancellation and a wrong stream end it.
pub(super) const fn is_break(error: &MatchError) -> bool {
    use crate::psi_wire::Error as Wire;
    match error {
        MatchError::Run(Wire::Io(_) | Wire::Deadline { .. } | Wire::Internal(_))
        | MatchError::Psi(Error::EarlyEnd { .. } | Error::Storage { .. })
        | MatchError::Ended { .. }
        | MatchError::Peer(_)
        | MatchError::Timeout { .. } => true,
        // Codes of the peer's own trouble and of one that found us too slow.
        MatchError::Psi(Error::PeerAborted { code, .. }) => matches!(*code, 7 | 8 | 12),
        _ => false,
    }
}
