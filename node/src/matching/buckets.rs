//! A list that is too large for one run: the set goes to disk by bucket, and what is finished is kept, so that a match goes on after
//! this node or the other one was killed.
//!
//! Beside a match's file lie `ID.past`, where its list is (sealed, replaced at each step), and `ID.rows-NNNNNN`, the rows of each
//! finished bucket. The items themselves lie in a file that cannot be read after the process is gone: they are sorted into buckets
//! again from the audience.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tally_measure::SaltedEntry;
use tally_merkle::Frontier;
use tally_psi::buckets::{BucketStore, Buckets, EachItem, Past, Plan, Step};
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
        for bucket in 0..past.done() {
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
        let done = self.past()?.map_or(0, |past| past.done());
        // Rows are written before the bucket counts as finished.
        for path in (0..=done).map(|bucket| self.rows_path(bucket)) {
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

/// Items, sorters and journal of a run.
pub(super) struct DeskStore {
    pub(super) files: BucketFiles,
    pub(super) sorters: SpillSorters,
    pub(super) journal: Journal,
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

    fn note(&mut self, step: &Step, past: &Past) -> Result<(), Error> {
        self.journal.note(step, past).map_err(storage)
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
        let past = journal.past()?.unwrap_or_default();
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
                files: scatter(&audiences, &meta, &dir, &plan, &context)?,
                sorters,
                journal,
            };
            let kind = item_numbers(meta.profile)?;
            let machine =
                Buckets::new(role, params, own, kind, rule, seeds, Box::new(store), past)?;
            Ok(machine.map(|m| Box::new(m) as Box<dyn Machine>))
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
