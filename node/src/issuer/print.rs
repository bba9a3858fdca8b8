//! The printer's file: it appears whole or not at all, and is on disk when a batch is announced.
//!
//! Codes are made faster than a disk takes their rows. So one thread writes while the next rows are made, and what is written
//! goes to the disk in the background, not all of it at the end. Each time some of it is there, the roots over it are noted in
//! the job, from which a killed process goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rand_core::OsRng;
use tally_codes::batch::{BatchBuild, CHUNK, CSV_HEADER, ChunkRoots, Deriver, row_len};
use tally_codes::gs1::UrlBase;
use tally_codes::keys::BatchKeys;
use tally_contracts::state::BatchStatus;
use zeroize::Zeroizing;

use super::job::{Job, RootsFile};
use super::{BatchMeta, IssuerError, IssuerStore, NewBatch};
use crate::files::FileError;

/// Buffers of rows on their way: one is filled, one written, one waits.
const BUFFERS: usize = 3;
/// Bytes after which what was written is sent on to the disk.
const SYNC_EVERY: u64 = if cfg!(test) { 1 << 20 } else { 64 << 20 };
const JOBS: &str = "jobs";

impl IssuerStore {
    /// Makes a batch as [`Self::prepare_batch`] does, with its rows in the file `out`, readable by its owner alone, because claim
    /// codes stand in it. When the process is killed, the same call goes on where it stopped and gives the same codes. The
    /// caller ends this by [`Self::announced`] once the ledger has the batch or refuses it.
    ///
    /// On an error the file is not there, and the next call begins anew.
    ///
    /// # Errors
    /// As [`Self::prepare_batch`], and [`IssuerError::PrinterFile`].
    pub fn print_batch(
        &self,
        new: &NewBatch,
        base: &UrlBase,
        out: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BatchMeta, IssuerError> {
        let fresh = (
            BatchKeys::generate(&mut OsRng),
            self.loadout().issuer.current(),
        );
        let request = (new, base, out);
        let job = Job::open_or_begin(&self.jobs(), &self.key, &self.owner, request, fresh)?;
        let temporary = temporary(out);
        let made = self
            .print(job, base, &temporary, progress)
            .and_then(|meta| {
                let failed = FileError::new("rename", out);
                std::fs::rename(&temporary, out)
                    .map_err(|e| IssuerError::PrinterFile(failed(e)))?;
                Ok(meta)
            });
        if made.is_err() {
            // Best effort: the error that counts is the one above.
            let _ = std::fs::remove_file(&temporary);
            let _ = self.announced(new.first_index);
        }
        made
    }

    fn print(
        &self,
        mut job: Job,
        base: &UrlBase,
        temporary: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BatchMeta, IssuerError> {
        let failed = |action| {
            let error = FileError::new(action, temporary);
            |e| IssuerError::PrinterFile(error(e))
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(temporary)
            .map_err(failed("create"))?;
        let loadout = self.loadout();
        let deriver = Deriver::new(
            &loadout.issuer,
            job.meta.key_epoch(),
            &job.keys,
            job.meta.spec()?,
        )?;
        let length = file.metadata().map_err(failed("read"))?.len();
        let chunks = chunks_within(length, job.made.len() as u64, job.meta.count, base);
        let journal = job.journal(usize::try_from(chunks).unwrap_or(0))?;
        let mut rows = DurableFile::at(file, end_of(chunks, job.meta.count, base), journal)
            .map_err(failed("write"))?;
        let mut build = BatchBuild::resume(&deriver, Some(base), std::mem::take(&mut job.made))?;
        write_rows(&mut build, &mut rows, progress)?;
        let trees = build.finish()?;
        job.meta.unit_root = trees.unit.root();
        job.meta.redemption_root = trees.redemption.root();
        self.keep(&job.meta, &job.keys, &trees)?;
        Ok(job.meta)
    }

    /// Ends the job of the batch at `first_index`, if there is one: the ledger has the batch, or refuses it.
    ///
    /// # Errors
    /// [`IssuerError::File`], [`IssuerError::Sealed`].
    pub fn announced(&self, first_index: u64) -> Result<(), IssuerError> {
        for job in Job::all(&self.jobs(), &self.key, &self.owner)? {
            if job.meta.first_index == first_index {
                job.end()?;
            }
        }
        Ok(())
    }

    /// The batch that an interrupted call for the same request made, if the ledger has it already: then nothing is left to do. Jobs
    /// for other batches that are in the ledger end.
    ///
    /// # Errors
    /// As [`Self::announced`], and [`IssuerError::Unavailable`].
    pub fn already_announced(
        &self,
        new: &NewBatch,
        base: &UrlBase,
        out: &Path,
    ) -> Result<Option<BatchMeta>, IssuerError> {
        let mut found = None;
        for job in Job::all(&self.jobs(), &self.key, &self.owner)? {
            for meta in self.batches_with_id(&job.meta.id) {
                let anchored: Option<BatchStatus> = self.status_of(&meta)?;
                if anchored.is_some() {
                    if job.is_same_request(new, base, out) && out.exists() {
                        found = Some(meta);
                    }
                    job.end()?;
                    break;
                }
            }
        }
        Ok(found)
    }

    fn jobs(&self) -> PathBuf {
        self.dir.join(JOBS)
    }
}

fn temporary(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

/// Bytes of the file with the rows of the first `chunks` chunks.
fn end_of(chunks: u64, count: u64, base: &UrlBase) -> u64 {
    if chunks == 0 {
        return 0;
    }
    let units = chunks.saturating_mul(CHUNK).min(count);
    CSV_HEADER.len() as u64 + units.saturating_mul(row_len(base) as u64)
}

/// How many of the `chunks` that are noted have all their rows in a file of `length` bytes.
fn chunks_within(length: u64, chunks: u64, count: u64, base: &UrlBase) -> u64 {
    if end_of(chunks, count, base) <= length {
        return chunks;
    }
    let rows = length.saturating_sub(CSV_HEADER.len() as u64) / row_len(base) as u64;
    (rows / CHUNK).min(chunks)
}

/// Where rows go.
pub(super) trait Rows {
    /// Takes rows and the roots over them.
    fn rows(&mut self, rows: &[u8], roots: &[ChunkRoots]) -> io::Result<()>;

    /// Everything is where it belongs when this returns.
    fn finish(&mut self) -> io::Result<()>;
}

/// Any writer takes rows alone.
pub(super) struct Plain<'a>(pub(super) &'a mut (dyn Write + Send));

impl Rows for Plain<'_> {
    fn rows(&mut self, rows: &[u8], _: &[ChunkRoots]) -> io::Result<()> {
        self.0.write_all(rows)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A file whose bytes are sent to the disk while more are written, and the journal of what is there.
struct DurableFile {
    file: File,
    journal: RootsFile,
    unsynced: u64,
    roots: Vec<ChunkRoots>,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl DurableFile {
    /// Goes on at `end`; what follows it is cut off.
    fn at(mut file: File, end: u64, journal: RootsFile) -> io::Result<Self> {
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        Ok(Self {
            file,
            journal,
            unsynced: 0,
            roots: Vec::new(),
            syncing: None,
        })
    }

    fn join(&mut self) -> io::Result<()> {
        match self.syncing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("a thread that syncs a file failed")),
        }
    }
}

impl Rows for DurableFile {
    fn rows(&mut self, rows: &[u8], roots: &[ChunkRoots]) -> io::Result<()> {
        self.file.write_all(rows)?;
        self.unsynced += rows.len() as u64;
        self.roots.extend_from_slice(roots);
        if self.unsynced >= SYNC_EVERY && self.syncing.as_ref().is_none_or(JoinHandle::is_finished)
        {
            self.join()?;
            self.unsynced = 0;
            let (file, mut journal) = (self.file.try_clone()?, self.journal.try_clone()?);
            let roots = std::mem::take(&mut self.roots);
            self.syncing = Some(thread::spawn(move || {
                file.sync_data()?;
                journal.add(&roots)
            }));
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.join()?;
        self.file.sync_all()?;
        let roots = std::mem::take(&mut self.roots);
        if roots.is_empty() {
            return Ok(());
        }
        self.journal.add(&roots)
    }
}

/// Writes the header and all rows that are not there yet; one thread writes what the others have made.
pub(super) fn write_rows(
    build: &mut BatchBuild<'_>,
    rows: &mut (dyn Rows + Send),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), IssuerError> {
    let begun = build.done() > 0;
    let (full, to_write) = mpsc::sync_channel::<(Zeroizing<Vec<u8>>, Vec<ChunkRoots>)>(BUFFERS);
    let (give_back, empty) = mpsc::sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // The channel has room for all of them.
        let _ = give_back.send(Zeroizing::default());
    }
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            if !begun {
                rows.rows(CSV_HEADER.as_bytes(), &[])?;
            }
            for (part, roots) in to_write {
                rows.rows(&part, &roots)?;
                // Nobody takes buffers back when the last rows are made.
                let _ = give_back.send(part);
            }
            rows.finish()
        });
        // The channels close when the writer has failed; its error is the one that counts.
        while let Ok(mut part) = empty.recv() {
            let before = build.roots().len();
            if !build.next_rows(&mut part) {
                break;
            }
            let roots = build.roots().get(before..).unwrap_or_default().to_vec();
            if full.send((part, roots)).is_err() {
                break;
            }
            progress(build.done(), build.total());
        }
        drop(full);
        match writer.join() {
            Ok(result) => result.map_err(IssuerError::Rows),
            Err(_) => Err(IssuerError::Rows(io::Error::other(
                "the thread that writes rows failed",
            ))),
        }
    })
}
