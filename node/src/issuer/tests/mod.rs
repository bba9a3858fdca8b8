//! The store as a directory that is killed, filled up, damaged and attacked from inside: what the tests share.

mod disk;
mod printing;
mod verdicts;
mod void;

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rand_core::OsRng;
use tally_codes::batch::{BatchSpec, Deriver, RowFormat, RowForms, verify_unit_opening};
use tally_codes::claim::ClaimOutcome;
use tally_codes::gs1::UrlBase;
use tally_contracts::ids::{BatchId, MemberId};
use tally_contracts::records::Gtin;
use tally_contracts::state::BatchStatus;
use tally_merkle::Hash;
use tempfile::TempDir;

use super::*;
use crate::scans::{ClaimCheck, Issuer, ScannedCode, UnitFinding, UnitRef};
use crate::sealed::{SealedError, StorageKey};

const OWNER: MemberId = MemberId([7; 16]);

const GTIN: &str = "09521234543213";

#[derive(Default)]
struct FakeLedger {
    batches: Mutex<HashMap<BatchId, AnchoredBatch>>,
    revoked: Mutex<HashSet<(BatchId, u64)>>,
    down: AtomicBool,
}

impl FakeLedger {
    fn anchor(&self, meta: &BatchMeta, status: BatchStatus) {
        let batch = AnchoredBatch {
            first_index: meta.first_index,
            count: meta.count,
            status,
            unit_root: meta.unit_root,
            redemption_root: meta.redemption_root,
            expires: meta.expires(),
        };
        self.batches.lock().unwrap().insert(meta.id, batch);
    }
}

impl AnchoredBatches for FakeLedger {
    fn territory(
        &self,
        _: &tally_contracts::ids::BatchId,
    ) -> Result<Option<tally_contracts::records::Territory>, String> {
        Ok(None)
    }

    fn batch(&self, id: &BatchId) -> Result<Option<AnchoredBatch>, String> {
        if self.down.load(Ordering::SeqCst) {
            return Err("down".into());
        }
        Ok(self.batches.lock().unwrap().get(id).cloned())
    }

    fn is_revoked(&self, id: &BatchId, leaf: u64) -> Result<bool, String> {
        if self.down.load(Ordering::SeqCst) {
            return Err("down".into());
        }
        Ok(self.revoked.lock().unwrap().contains(&(*id, leaf)))
    }
}

struct World {
    dir: TempDir,
    ledger: Arc<FakeLedger>,
    store: IssuerStore,
}

fn key(byte: u8) -> StorageKey {
    StorageKey::from_bytes([byte; 32])
}

fn gtin() -> Gtin {
    GTIN.parse().unwrap()
}

fn base() -> UrlBase {
    UrlBase::parse("https://id.t.cn").unwrap()
}

fn new_batch(first_index: u64, count: u64) -> NewBatch {
    NewBatch {
        gtin: gtin(),
        lot: format!("LOT-{}", first_index % 1000).parse().unwrap(),
        count,
        first_index,
        expiry: None,
    }
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let ledger = Arc::new(FakeLedger::default());
        let store = open(dir.path(), &ledger).unwrap();
        Self { dir, ledger, store }
    }

    fn reopen(&mut self) -> Result<(), IssuerError> {
        self.store = open(self.dir.path(), &self.ledger)?;
        Ok(())
    }

    /// Makes a batch and returns its rows: serial and claim code.
    fn prepare(&self, first: u64, count: u64) -> (BatchMeta, Vec<(String, String)>) {
        self.prepare_new(&new_batch(first, count))
    }

    fn prepare_new(&self, new: &NewBatch) -> (BatchMeta, Vec<(String, String)>) {
        let mut claims = Vec::new();
        let meta = self
            .store
            .prepare_batch(
                new,
                &RowForms::claims(RowFormat::Csv),
                (&mut io::sink(), &mut claims),
                &mut |_, _| {},
            )
            .unwrap();
        let rows = String::from_utf8(claims).unwrap();
        let rows = rows.lines().map(|row| {
            let (serial, claim) = row.split_once(',').unwrap();
            (serial.to_owned(), claim.to_owned())
        });
        (meta, rows.collect())
    }

    fn finding(&self, serial: &str) -> Finding {
        self.store.verify(&gtin(), serial, None).finding
    }

    fn batch_dir(&self, meta: &BatchMeta) -> PathBuf {
        self.dir.path().join("batches").join(meta.dir_name())
    }

    fn batch_dirs(&self) -> usize {
        fs::read_dir(self.dir.path().join("batches"))
            .unwrap()
            .count()
    }
}

fn open(dir: &Path, ledger: &Arc<FakeLedger>) -> Result<IssuerStore, IssuerError> {
    IssuerStore::open(
        dir,
        key(1),
        OWNER,
        Arc::clone(ledger) as Arc<dyn AnchoredBatches>,
    )
}

fn export(out: Option<&Path>, claims: Option<ClaimsOrder>) -> ExportOrder {
    ExportOrder {
        base: base(),
        format: RowFormat::Csv,
        out: out.map(Path::to_owned),
        claims,
    }
}
