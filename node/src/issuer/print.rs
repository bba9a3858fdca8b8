//! The printer's files: they appear whole or not at all, and are on disk when a batch is announced.
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
use tally_codes::batch::{
    BatchBuild, BatchRows, CHUNK, ChunkRoots, Deriver, RowBuffers, RowFormat, RowForms,
};
use tally_codes::gs1::UrlBase;
use tally_codes::keys::BatchKeys;

use super::claims::ClaimsFile;
use super::job::{Job, RootsFile};
use super::{BatchMeta, ClaimsOrder, IssuerError, IssuerStore, NewBatch};
use crate::files::FileError;

/// Buffers of rows on their way: one is filled, one written, one waits.
const BUFFERS: usize = 3;
/// Bytes after which what was written is sent on to the disk.
const SYNC_EVERY: u64 = if cfg!(test) { 1 << 20 } else { 64 << 20 };
const JOBS: &str = "jobs";

/// What a printer gets of a new batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrintOrder {
    /// What links begin with.
    pub base: UrlBase,
    /// How rows are written.
    pub format: RowFormat,
    /// The file of outer codes.
    pub out: PathBuf,
    /// The claim codes, if anybody shall have them now.
    pub claims: Option<ClaimsOrder>,
}

/// What is written of a batch again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOrder {
    /// What links begin with.
    pub base: UrlBase,
    /// How rows are written.
    pub format: RowFormat,
    /// The file of outer codes, if they are wanted.
    pub out: Option<PathBuf>,
    /// The claim codes, if they are wanted.
    pub claims: Option<ClaimsOrder>,
}

impl PrintOrder {
    fn forms(&self, meta: &BatchMeta) -> Result<RowForms, IssuerError> {
        let base = meta.links(&self.base)?;
        Ok(RowForms::outer(self.format, base).with_claims(self.claims.is_some()))
    }
}

impl IssuerStore {
    /// Makes a batch as [`Self::prepare_batch`] does, with its outer codes in the file `order.out`, readable by its owner alone, and its
    /// claim codes, if they are ordered, encrypted in another. When the process is killed, the same call goes on where it stopped
    /// and gives the same codes; the file of claim codes is then made anew. The caller ends this by [`Self::announced`] once the
    /// ledger has the batch or refuses it.
    ///
    /// On an error the files are not there, and the next call begins anew.
    ///
    /// # Errors
    /// As [`Self::prepare_batch`], [`IssuerError::PrinterFile`], and [`IssuerError::FileIsThere`] if a file of a name is there and the call does
    /// not go on with what an earlier one began.
    pub fn print_batch(
        &self,
        new: &NewBatch,
        order: &PrintOrder,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BatchMeta, IssuerError> {
        let claims = order.claims.as_ref().map(|c| c.out.as_path());
        if claims == Some(order.out.as_path()) {
            return Err(IssuerError::SameFile {
                path: order.out.clone(),
            });
        }
        // Claim codes first: a file of outer codes says that all is done.
        let files: Vec<&Path> = claims.into_iter().chain([order.out.as_path()]).collect();
        if !Job::is_begun(&self.jobs(), &self.key, &self.owner, (new, order))?
            && let Some(there) = files.iter().find(|file| file.symlink_metadata().is_ok())
        {
            return Err(IssuerError::FileIsThere {
                path: there.to_path_buf(),
            });
        }
        let fresh = (
            BatchKeys::generate(&mut OsRng),
            self.loadout().issuer.current(),
        );
        let job = Job::open_or_begin(&self.jobs(), &self.key, &self.owner, (new, order), fresh)?;
        let made = self.print(job, order, progress).and_then(|meta| {
            rename_all(&files)?;
            Ok(meta)
        });
        if made.is_err() {
            remove_all(&files);
            let _ = self.announced(new.first_index);
        }
        made
    }

    fn print(
        &self,
        mut job: Job,
        order: &PrintOrder,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BatchMeta, IssuerError> {
        let temporary = temporary(&order.out);
        let failed = |action| {
            let error = FileError::new(action, &temporary);
            |e| IssuerError::PrinterFile(error(e))
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed("create"))?;
        let loadout = self.loadout();
        let deriver = Deriver::new(
            &loadout.issuer,
            job.meta.key_epoch(),
            &job.keys,
            job.meta.spec()?,
        )?;
        let forms = order.forms(&job.meta)?;
        let length = file.metadata().map_err(failed("read"))?.len();
        let chunks = chunks_within(length, job.made.len() as u64, job.meta.count, &forms);
        let journal = job.journal(usize::try_from(chunks).unwrap_or(0))?;
        let end = end_of(chunks, job.meta.count, &forms);
        let mut outer = DurableFile::at(file, end, journal).map_err(failed("write"))?;
        if chunks == 0 {
            outer
                .write(forms.format().outer_header().as_bytes())
                .map_err(failed("write"))?;
        }
        let mut files = PrintFiles {
            outer,
            claims: begin_claims(order.claims.as_ref(), order.format)?,
        };
        if let Some(claims) = &mut files.claims {
            // What was encrypted before the process was killed is lost; the rest of the file is easily made.
            let mut rows = BatchRows::new(&deriver, &RowForms::claims(order.format), chunks);
            let mut buffers = RowBuffers::default();
            while rows.next_rows(&mut buffers) {
                claims.write(&buffers.claims).map_err(IssuerError::Rows)?;
            }
        }
        let mut build = BatchBuild::resume(&deriver, &forms, std::mem::take(&mut job.made))?;
        write_rows(&mut build, &mut files, progress)?;
        let trees = build.finish()?;
        job.meta.unit_root = trees.unit.root();
        job.meta.redemption_root = trees.redemption.root();
        self.keep(&job.meta, &job.keys, &trees)?;
        Ok(job.meta)
    }

    /// Writes rows of a batch again, outer codes, claim codes or both.
    ///
    /// # Errors
    /// [`IssuerError::NoBatch`], [`IssuerError::PrinterFile`], [`IssuerError::Rows`], [`IssuerError::SameFile`].
    pub fn export(
        &self,
        meta: &BatchMeta,
        order: &ExportOrder,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), IssuerError> {
        let claims = order.claims.as_ref().map(|c| c.out.as_path());
        if let (Some(claims), Some(out)) = (claims, &order.out)
            && claims == out
        {
            return Err(IssuerError::SameFile { path: out.clone() });
        }
        let loadout = self.loadout();
        let batch = loadout
            .batches
            .iter()
            .find(|b| b.meta == *meta)
            .ok_or(IssuerError::NoBatch { id: meta.id })?;
        let deriver = batch.deriver(&loadout.issuer)?;
        let paths: Vec<&Path> = claims.into_iter().chain(order.out.as_deref()).collect();
        let mut written = || {
            let mut forms = RowForms::claims(order.format);
            let mut outer = None;
            if let Some(out) = &order.out {
                forms = RowForms::outer(order.format, meta.links(&order.base)?);
                outer = Some(begin_outer(out, order.format)?);
            }
            let forms = forms.with_claims(order.claims.is_some());
            let mut files = ExportFiles {
                outer,
                claims: begin_claims(order.claims.as_ref(), order.format)?,
            };
            let mut rows = BatchRows::new(&deriver, &forms, u64::MAX);
            write_rows(&mut rows, &mut files, progress)?;
            rename_all(&paths)
        };
        let written = written();
        if written.is_err() {
            remove_all(&paths);
        }
        written
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
        order: &PrintOrder,
    ) -> Result<Option<BatchMeta>, IssuerError> {
        let mut found = None;
        for job in Job::all(&self.jobs(), &self.key, &self.owner)? {
            for meta in self.batches_with_id(&job.meta.id) {
                let anchored = self.anchored(&meta)?;
                if anchored.is_some() {
                    let there = order.claims.as_ref().is_none_or(|c| c.out.exists());
                    if job.is_same_request(new, order) && order.out.exists() && there {
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

fn rename_all(files: &[&Path]) -> Result<(), IssuerError> {
    for (i, out) in files.iter().enumerate() {
        if let Err(e) = std::fs::rename(temporary(out), out) {
            for done in files.iter().take(i) {
                // Best effort: the error that counts is the one above.
                let _ = std::fs::remove_file(done);
            }
            return Err(IssuerError::PrinterFile(FileError::new("rename", *out)(e)));
        }
    }
    Ok(())
}

/// Best effort: the error that led here is the one that counts.
fn remove_all(files: &[&Path]) {
    for out in files {
        let _ = std::fs::remove_file(temporary(out));
    }
}

fn begin_claims(
    order: Option<&ClaimsOrder>,
    format: RowFormat,
) -> Result<Option<ClaimsFile>, IssuerError> {
    let Some(order) = order else {
        return Ok(None);
    };
    let mut file = ClaimsFile::create(&temporary(&order.out), &order.to)?;
    file.write(format.claims_header().as_bytes())
        .map_err(IssuerError::Rows)?;
    Ok(Some(file))
}

fn begin_outer(out: &Path, format: RowFormat) -> Result<File, IssuerError> {
    let path = temporary(out);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| {
            file.write_all(format.outer_header().as_bytes())?;
            Ok(file)
        })
        .map_err(|e| IssuerError::PrinterFile(FileError::new("create", &path)(e)))
}

/// Bytes of the file with the rows of the first `chunks` chunks.
fn end_of(chunks: u64, count: u64, forms: &RowForms) -> u64 {
    if chunks == 0 {
        return 0;
    }
    let units = chunks.saturating_mul(CHUNK).min(count);
    header_len(forms) + units.saturating_mul(forms.outer_len() as u64)
}

const fn header_len(forms: &RowForms) -> u64 {
    forms.format().outer_header().len() as u64
}

/// How many of the `chunks` that are noted have all their rows in a file of `length` bytes.
fn chunks_within(length: u64, chunks: u64, count: u64, forms: &RowForms) -> u64 {
    if end_of(chunks, count, forms) <= length {
        return chunks;
    }
    let rows = length.saturating_sub(header_len(forms)) / (forms.outer_len() as u64).max(1);
    (rows / CHUNK).min(chunks)
}

/// Where rows go.
pub(super) trait Sink {
    /// Takes rows and the roots over them.
    fn rows(&mut self, rows: &RowBuffers, roots: &[ChunkRoots]) -> io::Result<()>;

    /// Everything is where it belongs when this returns.
    fn finish(&mut self) -> io::Result<()>;
}

/// Any two writers take rows alone.
pub(super) struct Plain<'a> {
    pub(super) outer: &'a mut (dyn Write + Send),
    pub(super) claims: &'a mut (dyn Write + Send),
}

impl Sink for Plain<'_> {
    fn rows(&mut self, rows: &RowBuffers, _: &[ChunkRoots]) -> io::Result<()> {
        self.outer.write_all(&rows.outer)?;
        self.claims.write_all(&rows.claims)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.outer.flush()?;
        self.claims.flush()
    }
}

/// The files of a new batch.
struct PrintFiles {
    outer: DurableFile,
    claims: Option<ClaimsFile>,
}

impl Sink for PrintFiles {
    fn rows(&mut self, rows: &RowBuffers, roots: &[ChunkRoots]) -> io::Result<()> {
        if let Some(claims) = &mut self.claims {
            claims.write(&rows.claims)?;
        }
        self.outer.rows(&rows.outer, roots)
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(claims) = self.claims.take() {
            claims.finish()?;
        }
        self.outer.finish()
    }
}

/// The files of an export.
struct ExportFiles {
    outer: Option<File>,
    claims: Option<ClaimsFile>,
}

impl Sink for ExportFiles {
    fn rows(&mut self, rows: &RowBuffers, _: &[ChunkRoots]) -> io::Result<()> {
        if let Some(claims) = &mut self.claims {
            claims.write(&rows.claims)?;
        }
        match &mut self.outer {
            Some(outer) => outer.write_all(&rows.outer),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(claims) = self.claims.take() {
            claims.finish()?;
        }
        match &mut self.outer {
            Some(outer) => outer.sync_all(),
            None => Ok(()),
        }
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

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.unsynced += bytes.len() as u64;
        Ok(())
    }

    fn rows(&mut self, rows: &[u8], roots: &[ChunkRoots]) -> io::Result<()> {
        self.write(rows)?;
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

/// What makes rows, a step at a time.
pub(super) trait Source {
    /// Makes the next rows; the roots over them, none for rows alone. `None` when all are made.
    fn next(&mut self, buffers: &mut RowBuffers) -> Option<Vec<ChunkRoots>>;

    /// Units made, and units in all.
    fn progress(&self) -> (u64, u64);
}

impl Source for BatchBuild<'_> {
    fn next(&mut self, buffers: &mut RowBuffers) -> Option<Vec<ChunkRoots>> {
        let before = self.roots().len();
        self.next_rows(buffers)
            .then(|| self.roots().get(before..).unwrap_or_default().to_vec())
    }

    fn progress(&self) -> (u64, u64) {
        (self.done(), self.total())
    }
}

impl Source for BatchRows<'_> {
    fn next(&mut self, buffers: &mut RowBuffers) -> Option<Vec<ChunkRoots>> {
        self.next_rows(buffers).then(Vec::new)
    }

    fn progress(&self) -> (u64, u64) {
        (self.done(), self.total())
    }
}

/// Writes all rows that are not there yet; one thread writes what the others have made.
pub(super) fn write_rows(
    source: &mut dyn Source,
    sink: &mut (dyn Sink + Send),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), IssuerError> {
    let (full, to_write) = mpsc::sync_channel::<(RowBuffers, Vec<ChunkRoots>)>(BUFFERS);
    let (give_back, empty) = mpsc::sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // The channel has room for all of them.
        let _ = give_back.send(RowBuffers::default());
    }
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for (part, roots) in to_write {
                sink.rows(&part, &roots)?;
                // Nobody takes buffers back when the last rows are made.
                let _ = give_back.send(part);
            }
            sink.finish()
        });
        // The channels close when the writer has failed; its error is the one that counts.
        while let Ok(mut part) = empty.recv() {
            let Some(roots) = source.next(&mut part) else {
                break;
            };
            if full.send((part, roots)).is_err() {
                break;
            }
            let (done, total) = source.progress();
            progress(done, total);
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
