//! The printer's file: it appears whole or not at all, and is on disk when a batch is announced.
//!
//! Codes are made faster than a disk takes their rows. So one thread writes while the next rows are made, and what is written
//! goes to the disk in the background, not all of it at the end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tally_codes::batch::{BatchBuild, CSV_HEADER};
use tally_codes::gs1::UrlBase;
use zeroize::Zeroizing;

use super::{BatchMeta, IssuerError, IssuerStore, NewBatch};
use crate::files::FileError;

/// Buffers of rows on their way: one is filled, one written, one waits.
const BUFFERS: usize = 3;
/// Bytes after which what was written is sent on to the disk.
const SYNC_EVERY: u64 = 64 << 20;

impl IssuerStore {
    /// Makes a batch as [`Self::prepare_batch`] does, with its rows in the new file `out`, readable by its owner alone, because claim
    /// codes stand in it. On an error the file is not there.
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
        let file_error = |action| {
            let error = FileError::new(action, out);
            |e| IssuerError::PrinterFile(error(e))
        };
        let mut temporary = out.as_os_str().to_owned();
        temporary.push(".unfinished");
        let temporary = PathBuf::from(temporary);
        let mut rows = DurableFile::create(&temporary).map_err(file_error("create"))?;
        let made = self
            .prepare_batch(new, base, &mut rows, progress)
            .and_then(|meta| {
                std::fs::rename(&temporary, out).map_err(file_error("rename"))?;
                Ok(meta)
            });
        if made.is_err() {
            // Best effort: the error that counts is the one above.
            let _ = std::fs::remove_file(&temporary);
        }
        made
    }
}

/// A file whose bytes are sent to the disk while more are written.
struct DurableFile {
    file: File,
    unsynced: u64,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl DurableFile {
    fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            file,
            unsynced: 0,
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

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.unsynced += n as u64;
        if self.unsynced >= SYNC_EVERY && self.syncing.as_ref().is_none_or(JoinHandle::is_finished)
        {
            self.join()?;
            self.unsynced = 0;
            let file = self.file.try_clone()?;
            self.syncing = Some(thread::spawn(move || file.sync_data()));
        }
        Ok(n)
    }

    /// Everything is on disk when this returns.
    fn flush(&mut self) -> io::Result<()> {
        self.join()?;
        self.file.sync_all()
    }
}

/// Writes the header and all rows of a batch, and flushes; one thread writes what the others have made.
pub(super) fn write_rows(
    build: &mut BatchBuild<'_>,
    rows: &mut (dyn Write + Send),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), IssuerError> {
    let (full, to_write) = mpsc::sync_channel::<Zeroizing<Vec<u8>>>(BUFFERS);
    let (give_back, empty) = mpsc::sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // The channel has room for all of them.
        let _ = give_back.send(Zeroizing::default());
    }
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            rows.write_all(CSV_HEADER.as_bytes())?;
            for part in to_write {
                rows.write_all(&part)?;
                // Nobody takes buffers back when the last rows are made.
                let _ = give_back.send(part);
            }
            rows.flush()
        });
        // The channels close when the writer has failed; its error is the one that counts.
        while let Ok(mut part) = empty.recv() {
            if !build.next_rows(&mut part) || full.send(part).is_err() {
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
