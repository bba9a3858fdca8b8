//! Deleting old scans: their lines are replaced by their leaves, in place.
//!
//! A segment is written anew with every frame where it was, so that positions, leaves, anchors and receipts stay true; what is saved is given
//! back to the disk as holes. What a deleted scan did to the count of its code stays, without time, place (but for the first scan's) and
//! pseudonym.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::record::LogEntry;
use super::state::Shared;
use super::stored::{Gone, Stored};
use super::{Clock, ScanError, ScanService, Verdict};
use crate::sealed::{StorageKey, read_sealed, write_sealed};

const PURPOSE: &str = "scan-retention";
const MAX_SEGMENTS: usize = 4 << 20;
const DAY_MS: u64 = 86_400_000;
/// How often old scans are looked for.
const EVERY: Duration = Duration::from_secs(3_600);

/// What a run of retention did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Entries that are gone since.
    pub entries: u64,
    /// Segments of which nothing more can go.
    pub finished_segments: u64,
}

/// Segments in which everything is deleted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Finished(BTreeSet<u32>);

impl Canonical for Finished {
    fn write(&self, w: &mut Writer) {
        let list: Vec<u32> = self.0.iter().copied().collect();
        w.u8(1).list(&list, |w, s| {
            w.u32(*s);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("retention version", 1)?;
        let list = r.list("segments", MAX_SEGMENTS, |r| r.u32("segment"))?;
        Ok(Self(list.into_iter().collect()))
    }
}

/// Deletes the entries from before `cutoff_ms` in every segment but the last. Scans that still wait for their issuer are kept.
pub(super) fn delete_before(
    shared: &Shared,
    dir: &Path,
    key: &StorageKey,
    cutoff_ms: u64,
) -> Result<Deleted, ScanError> {
    let file = dir.join("retention");
    let mut finished = match read_sealed(&file, key, PURPOSE)? {
        Some(bytes) => Finished::from_bytes(&bytes)?,
        None => Finished::default(),
    };
    let mut done = Deleted::default();
    for segment in shared.full_segments() {
        if finished.0.contains(&segment) {
            continue;
        }
        // Entries are in order of time, but for clocks that are set back: what follows is newer still.
        if shared
            .begin_of_segment(segment)?
            .is_some_and(|time| time >= cutoff_ms)
        {
            break;
        }
        let (mut old, mut kept) = (0_u64, 0_u64);
        shared.reader.visit_segment(segment, |_, bytes| {
            match Stored::from_bytes(bytes)? {
                Stored::Gone(_) => {}
                Stored::Line(_, entry) => {
                    let goes = is_old(shared, &entry, cutoff_ms)?;
                    old += u64::from(goes);
                    kept += u64::from(!goes);
                }
            }
            Ok::<_, ScanError>(())
        })?;
        if old > 0 {
            shared.reader.rewrite_segment(segment, |bytes| {
                let Stored::Line(line, entry) = Stored::from_bytes(bytes)? else {
                    return Ok::<_, ScanError>(Zeroizing::new(bytes.to_vec()));
                };
                if !is_old(shared, &entry, cutoff_ms)? {
                    return Ok(Zeroizing::new(bytes.to_vec()));
                }
                let leaf = Stored::Line(line, entry.clone()).leaf();
                let effect = shared.effect(&entry)?;
                let gone = Gone {
                    leaf,
                    first: effect.as_ref().and_then(|e| e.first.clone()),
                    code: match effect {
                        Some(effect) => Some(effect.code),
                        None => code_of(&entry),
                    },
                };
                Ok(Zeroizing::new(gone.to_bytes()))
            })?;
            done.entries += old;
        }
        if kept == 0 {
            finished.0.insert(segment);
            done.finished_segments += 1;
            write_sealed(&file, key, PURPOSE, &finished.to_bytes())?;
        }
    }
    Ok(done)
}

fn code_of(entry: &LogEntry) -> Option<super::CodeHash> {
    match entry {
        LogEntry::Scan(scan) => Some(scan.code_hash()),
        LogEntry::Later(_) | LogEntry::Event(_) => None,
    }
}

fn is_old(shared: &Shared, entry: &LogEntry, cutoff_ms: u64) -> Result<bool, ScanError> {
    Ok(match entry {
        LogEntry::Later(later) => later.time_ms < cutoff_ms,
        LogEntry::Event(event) => event.time_ms < cutoff_ms,
        LogEntry::Scan(scan) if scan.time_ms >= cutoff_ms => false,
        LogEntry::Scan(scan) if scan.verdict != Verdict::CannotVerifyNow => true,
        LogEntry::Scan(scan) => match shared.leaf_of(&scan.id)? {
            Some(leaf) => !shared.is_pending(leaf)?,
            None => true,
        },
    })
}

/// Deletes scans older than `days` days, now and every hour until `stop`.
pub async fn run_retention(
    service: Arc<ScanService>,
    clock: Arc<dyn Clock>,
    days: u64,
    stop: CancellationToken,
) {
    loop {
        let cutoff_ms = clock.now_ms().saturating_sub(days.saturating_mul(DAY_MS));
        match service.delete_before(cutoff_ms).await {
            Ok(done) if done.entries > 0 => {
                tracing::info!(entries = done.entries, "old scans were deleted");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "old scans were not deleted"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
