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

use rand_core::{OsRng, RngCore as _};
use tally_psi::buckets::{BucketNames, BucketStore, EachItem, Past, Plan, Step};
use tally_psi::{Computation, Error, Params, SorterFactory};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::desk::Inner;
use super::engine::{Agreed, item_numbers};
use super::error::MatchError;
use super::lists::OpenList;
use super::state::{MatchFile, MatchId};
use crate::audiences::{AudienceError, AudienceMeta, AudienceStore};
use crate::bucket_files::{BucketFiles, storage};
use crate::external_sort::SpillSorters;
use crate::psi_wire;
use crate::sealed::{SealedError, StorageKey, read_sealed, write_sealed};
use crate::workers::{NodeWorkers, SharedStore};

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
    known: Mutex<Known>,
}

struct Known {
    past: Past,
    /// Whether the run is over.
    closed: bool,
}

impl SharedPast {
    /// What the journal says, or that of a list that is begun with the plan of this digest.
    pub(super) fn open(journal: Journal, plan: [u8; 32]) -> Result<Self, MatchError> {
        let past = journal.past()?.unwrap_or_else(|| Past::new(plan));
        Ok(Self {
            journal,
            known: Mutex::new(Known {
                past,
                closed: false,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A step that panicked has not changed it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been done so far.
    pub(super) fn now(&self) -> Past {
        self.lock().past.clone()
    }

    /// Takes a step; durable when this returns.
    pub(super) fn take(&self, step: &Step) -> Result<(), Error> {
        let mut known = self.lock();
        if known.closed {
            return Err(storage("the run of this list is over"));
        }
        let mut next = known.past.clone();
        next.take(step)?;
        self.journal.note(step, &next).map_err(storage)?;
        known.past = next;
        Ok(())
    }

    /// Takes no step any more: another run may go on with the journal.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }
}

/// Items, sorters and past of a run.
pub(super) struct DeskStore {
    pub(super) files: Arc<BucketFiles>,
    pub(super) sorters: SpillSorters,
    pub(super) past: Arc<SharedPast>,
}

impl BucketStore for DeskStore {
    fn load(&mut self, bucket: u32, each: EachItem<'_>) -> Result<(), Error> {
        self.files.load(bucket, each)
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
    names: &BucketNames,
    files: &mut BucketFiles,
) -> Result<(), MatchError> {
    audiences.visit_verified(meta, |row, entry| {
        let value = entry.id.as_bytes();
        files
            .push(names.of(value), row, value)
            .map_err(AudienceError::io("write buckets in", dir))
    })?;
    Ok(())
}

/// A folder in the shared store for a run of a match's list; what an earlier run left is noise, and removed.
async fn new_folder(
    workers: &NodeWorkers,
    id: &MatchId,
) -> Result<(String, SharedStore), MatchError> {
    let of_match = format!("lists/{id}");
    workers
        .store
        .folder(&of_match)
        .clear()
        .await
        .map_err(storage)?;
    let folder = format!("{of_match}/{:016x}", OsRng.next_u64());
    let store = workers.store.folder(&folder);
    Ok((folder, store))
}

impl Inner {
    /// Where the list of a match is kept.
    pub(super) fn journal(&self, id: MatchId) -> Journal {
        Journal::new(self.store.dir(), self.store.key(), id)
    }

    /// The list that a match needs several buckets for; `None` where a plain run is due.
    pub(super) async fn in_buckets(
        &self,
        agreed: &Agreed,
        params: &Params,
        noise_seed: [u8; 32],
        cancel: &CancellationToken,
    ) -> Result<Option<Arc<OpenList>>, MatchError> {
        if params.context.computation != Computation::List {
            return Ok(None);
        }
        // Both sides' public sizes, so that the number of buckets and what fills them up say no more than these.
        let own = agreed.own.public_size();
        let (a, b) = agreed.by_role(own, agreed.their_size);
        let Some(plan) = Plan::of([a, b], self.options.bucket_rule)? else {
            return Ok(None);
        };
        let journal = self.journal(agreed.id);
        self.store.update(&agreed.id, |f| f.in_buckets = true)?;
        let (audiences, meta, dir) = (
            self.audiences.clone(),
            agreed.own.clone(),
            self.store.dir().to_owned(),
        );
        let shared = match self.workers.get() {
            Some(workers) => Some(new_folder(workers, &agreed.id).await?),
            None => None,
        };
        let sorters = SpillSorters::new(dir.clone(), self.options.rows_in_memory);
        let (agreed, params, cancel) = (agreed.clone(), params.clone(), cancel.child_token());
        let runtime = Handle::current();
        let work = move || -> Result<OpenList, MatchError> {
            let context = params.context.digest();
            let kind = item_numbers(meta.profile)?;
            let (files, folder) = match shared {
                None => (BucketFiles::create(&dir, plan.buckets()), None),
                Some((folder, store)) => {
                    let pages = store.pages(runtime);
                    let files = BucketFiles::of_objects(pages, plan.buckets());
                    (Ok(files), Some(folder))
                }
            };
            let mut files = files.map_err(storage)?;
            scatter(
                &audiences,
                &meta,
                &dir,
                &plan.names(&context, kind.0, kind.1),
                &mut files,
            )?;
            if folder.is_some() {
                files.seal_all().map_err(storage)?;
            }
            let past = SharedPast::open(journal, plan.digest(&context))?;
            Ok(OpenList::new(
                agreed, params, plan, kind, files, sorters, past, noise_seed, folder, cancel,
            ))
        };
        let list =
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| MatchError::Internal {
                    what: "the thread that reads a set died",
                })??;
        Ok(Some(Arc::new(list)))
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
    match error {
        MatchError::Run(error) => error.is_break(),
        MatchError::Psi(error) => psi_wire::is_break(error),
        MatchError::Ended { .. } | MatchError::Peer(_) | MatchError::Timeout { .. } => true,
        _ => false,
    }
}
