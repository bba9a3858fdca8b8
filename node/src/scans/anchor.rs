//! Which sizes of the scan log are anchored in the ledger, and by which records.

use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::ids::RecordId;
use tally_merkle::Hash;

use super::ScanError;
use crate::sealed::{LogOptions, SealedLog, StorageKey};

const VERSION: u8 = 1;

/// One anchor of this log in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorRecord {
    /// Leaves under the root.
    pub size: u64,
    /// The root.
    pub root: Hash,
    /// The record that anchors it.
    pub record: RecordId,
}

/// How far the log is anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorState {
    /// Anchors so far.
    pub anchors: u64,
    /// The newest one.
    pub last: Option<AnchorRecord>,
}

impl Canonical for AnchorRecord {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .u64(self.size)
            .raw(self.root.as_bytes())
            .raw(self.record.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("anchor version", VERSION)?;
        Ok(Self {
            size: r.u64("size")?,
            root: Hash(r.array("root")?),
            record: RecordId(r.array("record")?),
        })
    }
}

/// The anchors, growing in size, kept on disk.
pub(super) struct AnchorBook {
    log: Mutex<SealedLog>,
    anchors: RwLock<Vec<AnchorRecord>>,
}

impl AnchorBook {
    pub(super) fn open(dir: &Path, key: &StorageKey) -> Result<Self, ScanError> {
        let mut anchors: Vec<AnchorRecord> = Vec::new();
        let log = SealedLog::open(
            dir,
            &key.derive("tally/scan-anchors/v1"),
            "scan anchors",
            LogOptions::default(),
            |_, bytes| {
                anchors.push(AnchorRecord::from_bytes(bytes)?);
                Ok::<_, ScanError>(())
            },
        )?;
        Ok(Self {
            log: Mutex::new(log),
            anchors: RwLock::new(anchors),
        })
    }

    pub(super) fn push(&self, anchor: AnchorRecord) -> Result<(), ScanError> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if self
            .state()
            .last
            .is_some_and(|last| last.size >= anchor.size)
        {
            return Ok(());
        }
        log.append(&[anchor.to_bytes()])?;
        self.anchors
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(anchor);
        Ok(())
    }

    pub(super) fn state(&self) -> AnchorState {
        let anchors = self.anchors.read().unwrap_or_else(PoisonError::into_inner);
        AnchorState {
            anchors: anchors.len() as u64,
            last: anchors.last().copied(),
        }
    }

    /// The first anchor over more than `index` leaves.
    pub(super) fn covering(&self, index: u64) -> Option<AnchorRecord> {
        let anchors = self.anchors.read().unwrap_or_else(PoisonError::into_inner);
        let at = anchors.partition_point(|a| a.size <= index);
        anchors.get(at).copied()
    }
}
