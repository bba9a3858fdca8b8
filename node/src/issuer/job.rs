//! A batch that is being printed: what is needed to go on with it after the process was killed.
//!
//! ```text
//! codes/jobs/<first index>/job     sealed: what was asked for, and the keys of the batch
//! codes/jobs/<first index>/roots   roots of the chunks whose rows are on disk, in frames with a checksum; nothing secret
//! ```
//!
//! Everything about a unit follows from the keys, so a batch that is begun again under the same keys is the same batch: no code is
//! made twice and none is left out. A job ends when the ledger has its batch, or refuses it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tally_codes::batch::{ChunkRoots, RowFormat};
use tally_codes::gs1::UrlBase;
use tally_codes::keys::{BatchKeys, KeyEpoch};
use tally_contracts::codec::{Reader, Writer};
use tally_contracts::ids::MemberId;
use tally_contracts::records::batch_id;
use tally_merkle::{Hash, empty_root};
use zeroize::Zeroizing;

use super::claims::MAX_RECIPIENTS;
use super::meta::damaged;
use super::{BatchMeta, ClaimsOrder, IssuerError, NewBatch, PrintOrder, Recipients};
use crate::files::{FileError, create_private_dir, sync_dir};
use crate::sealed::{StorageKey, read_sealed, write_sealed};

const JOB_FILE: &str = "job";
const ROOTS_FILE: &str = "roots";
const VERSION: u8 = 2;
/// The longest path and the longest base URL.
const MAX_TEXT: usize = 8192;

/// A job on disk.
pub(super) struct Job {
    dir: PathBuf,
    /// The batch, its roots not known yet.
    pub(super) meta: BatchMeta,
    pub(super) keys: BatchKeys,
    pub(super) order: PrintOrder,
    /// Of the chunks whose rows were on disk when the process ended.
    pub(super) made: Vec<ChunkRoots>,
}

impl Job {
    /// Goes on with the job for `new` if there is one, and begins it otherwise. Jobs for another batch at the same index are
    /// dropped: only one batch can have it.
    pub(super) fn open_or_begin(
        folder: &Path,
        key: &StorageKey,
        owner: &MemberId,
        (new, order): (&NewBatch, &PrintOrder),
        (keys, epoch): (BatchKeys, KeyEpoch),
    ) -> Result<Self, IssuerError> {
        create_private_dir(folder)?;
        let dir = place(folder, new.first_index);
        if let Some(job) = Self::read(&dir, key, owner)? {
            if job.is_for(new, order) {
                return Ok(job);
            }
            job.end()?;
        }
        create_private_dir(&dir)?;
        let meta = BatchMeta {
            id: batch_id(owner, &new.gtin, &new.lot, new.first_index),
            gtin: new.gtin,
            lot: new.lot.clone(),
            first_index: new.first_index,
            count: new.count,
            epoch: epoch.0,
            unit_root: empty_root(),
            redemption_root: empty_root(),
            expiry: new.expiry,
        };
        let job = Self {
            meta,
            keys,
            order: order.clone(),
            made: Vec::new(),
            dir,
        };
        let roots = job.dir.join(ROOTS_FILE);
        File::create(&roots).map_err(FileError::new("create", &roots))?;
        write_sealed(
            &job.dir.join(JOB_FILE),
            key,
            &purpose(new.first_index),
            &job.to_secret_bytes(),
        )?;
        sync_dir(&job.dir)?;
        sync_dir(folder)?;
        Ok(job)
    }

    /// Whether a job for `new` is there to go on with.
    pub(super) fn is_begun(
        folder: &Path,
        key: &StorageKey,
        owner: &MemberId,
        (new, order): (&NewBatch, &PrintOrder),
    ) -> Result<bool, IssuerError> {
        let job = Self::read(&place(folder, new.first_index), key, owner)?;
        Ok(job.is_some_and(|job| job.is_for(new, order)))
    }

    /// All jobs in the folder.
    pub(super) fn all(
        folder: &Path,
        key: &StorageKey,
        owner: &MemberId,
    ) -> Result<Vec<Self>, IssuerError> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(FileError::new("read", folder)(e).into()),
        };
        let mut jobs = Vec::new();
        for entry in entries {
            let dir = entry.map_err(FileError::new("read", folder))?.path();
            jobs.extend(Self::read(&dir, key, owner)?);
        }
        Ok(jobs)
    }

    /// The job in a directory; one that was not begun wholly is removed.
    fn read(dir: &Path, key: &StorageKey, owner: &MemberId) -> Result<Option<Self>, IssuerError> {
        let file = dir.join(JOB_FILE);
        let index = dir
            .file_name()
            .and_then(|n| u64::from_str_radix(n.to_str()?, 16).ok());
        let Some(index) = index else {
            return Ok(None);
        };
        let Some(bytes) = read_sealed(&file, key, &purpose(index))? else {
            if dir.exists() {
                fs::remove_dir_all(dir).map_err(FileError::new("remove", dir))?;
            }
            return Ok(None);
        };
        let mut job =
            Self::from_secret_bytes(dir, owner, &bytes).map_err(|what| damaged(&file, what))?;
        let roots = dir.join(ROOTS_FILE);
        let bytes = fs::read(&roots).map_err(FileError::new("read", &roots))?;
        job.made = whole_frames(&bytes);
        Ok(Some(job))
    }

    fn is_for(&self, new: &NewBatch, order: &PrintOrder) -> bool {
        let m = &self.meta;
        (m.gtin, m.first_index, m.count) == (new.gtin, new.first_index, new.count)
            && m.lot == new.lot
            && m.expiry == new.expiry
            && self.order == *order
    }

    /// Whether the same was asked for, wherever the batch begins.
    pub(super) fn is_same_request(&self, new: &NewBatch, order: &PrintOrder) -> bool {
        let here = NewBatch {
            first_index: self.meta.first_index,
            ..new.clone()
        };
        self.is_for(&here, order)
    }

    /// Takes the first `chunks` for made, and opens the file for the roots of the others.
    pub(super) fn journal(&mut self, chunks: usize) -> Result<RootsFile, IssuerError> {
        self.made.truncate(chunks);
        let path = self.dir.join(ROOTS_FILE);
        // Written anew, so that nothing of a torn frame stays before what follows.
        let mut bytes = Vec::new();
        if !self.made.is_empty() {
            bytes = frame(&self.made);
        }
        let file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_data()?;
                Ok(file)
            })
            .map_err(FileError::new("write", &path))?;
        Ok(RootsFile(file))
    }

    /// Removes the job.
    pub(super) fn end(&self) -> Result<(), IssuerError> {
        fs::remove_dir_all(&self.dir).map_err(FileError::new("remove", &self.dir))?;
        Ok(())
    }

    /// Version, path, base, format and claims order, then the batch and its keys.
    fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut w = Writer::new();
        w.u8(VERSION)
            .bytes(self.order.out.as_os_str().as_bytes())
            .text(self.order.base.as_str())
            .text(self.order.format.name())
            .bool(self.order.claims.is_some());
        if let Some(claims) = &self.order.claims {
            w.bytes(claims.out.as_os_str().as_bytes());
            w.list(claims.to.as_slice(), |w, text| {
                w.text(text);
            });
        }
        let (head, batch) = (w.into_bytes(), self.meta.to_secret_bytes(&self.keys));
        let mut out = Zeroizing::new(Vec::with_capacity(head.len() + batch.len()));
        out.extend_from_slice(&head);
        out.extend_from_slice(&batch);
        out
    }

    fn from_secret_bytes(dir: &Path, owner: &MemberId, bytes: &[u8]) -> Result<Self, String> {
        let mut r = Reader::new(bytes);
        let order = read_order(&mut r)?;
        let rest = bytes.get(bytes.len() - r.left()..).unwrap_or_default();
        let (meta, keys) = BatchMeta::from_secret_bytes(owner, rest)?;
        Ok(Self {
            dir: dir.to_owned(),
            meta,
            keys,
            order,
            made: Vec::new(),
        })
    }
}

fn read_order(r: &mut Reader<'_>) -> Result<PrintOrder, String> {
    use std::os::unix::ffi::OsStrExt as _;
    let text = |e: tally_contracts::CodecError| e.to_string();
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    r.version("job version", VERSION).map_err(text)?;
    let out = path(r.bytes("path", MAX_TEXT).map_err(text)?);
    let base = r.text("base URL", MAX_TEXT).map_err(text)?;
    let format = r.text("format", 16).map_err(text)?;
    let claims = if r.bool("claims order").map_err(text)? {
        let out = path(r.bytes("path of claim codes", MAX_TEXT).map_err(text)?);
        let to = r
            .list("recipients", MAX_RECIPIENTS, |r| r.text("recipient", 128))
            .map_err(text)?;
        let to = Recipients::new(&to).map_err(|e| e.to_string())?;
        Some(ClaimsOrder { out, to })
    } else {
        None
    };
    Ok(PrintOrder {
        out,
        base: UrlBase::parse(&base).map_err(|e| e.to_string())?,
        format: format.parse::<RowFormat>().map_err(|e| e.to_string())?,
        claims,
    })
}

fn place(folder: &Path, first_index: u64) -> PathBuf {
    folder.join(format!("{first_index:09x}"))
}

fn purpose(first_index: u64) -> String {
    format!("issuer-job/{first_index:09x}")
}

/// Where roots are added once their rows are on disk.
pub(super) struct RootsFile(File);

impl RootsFile {
    /// Adds roots; durable when it returns.
    pub(super) fn add(&mut self, roots: &[ChunkRoots]) -> io::Result<()> {
        self.0.write_all(&frame(roots))?;
        self.0.sync_data()
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

/// Number of pairs (u32), CRC-32C of them (u32), then the pairs.
fn frame(roots: &[ChunkRoots]) -> Vec<u8> {
    let body: Vec<u8> = roots.iter().flatten().flat_map(|h| h.0).collect();
    let count = u32::try_from(roots.len()).unwrap_or_default();
    let mut out = Vec::with_capacity(8 + body.len());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    out.extend_from_slice(&body);
    out
}

/// The pairs of all whole frames from the start; what follows a torn one is made again.
fn whole_frames(mut bytes: &[u8]) -> Vec<ChunkRoots> {
    let mut roots = Vec::new();
    while let Some((count, rest)) = bytes.split_first_chunk::<4>()
        && let Some((sum, rest)) = rest.split_first_chunk::<4>()
        && let Some(length) = (u32::from_be_bytes(*count) as usize).checked_mul(64)
        && let Some((body, rest)) = rest.split_at_checked(length)
        && crc32c::crc32c(body) == u32::from_be_bytes(*sum)
        && !body.is_empty()
    {
        let (hashes, _) = body.as_chunks::<32>();
        let (pairs, _) = hashes.as_chunks::<2>();
        roots.extend(pairs.iter().map(|pair| pair.map(Hash)));
        bytes = rest;
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_far_as_they_are_whole() {
        let roots = |n: u8| [Hash([n; 32]), Hash([n + 100; 32])];
        let parts = [vec![roots(1)], vec![roots(2), roots(3)], vec![roots(4)]];
        let ends: Vec<usize> = parts
            .iter()
            .scan(0, |end, p| {
                *end += frame(p).len();
                Some(*end)
            })
            .collect();
        let bytes: Vec<u8> = parts.iter().flat_map(|p| frame(p)).collect();
        for cut in 0..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let expected: Vec<_> = parts.iter().take(whole).flatten().copied().collect();
            assert_eq!(whole_frames(&bytes[..cut]), expected, "{cut}");
            if cut < bytes.len() {
                // File systems leave zeros where a write did not end.
                let mut zeros = bytes[..cut].to_vec();
                zeros.resize(bytes.len(), 0);
                assert_eq!(whole_frames(&zeros), expected, "{cut}");
            }
        }
    }
}
