//! A ledger under test, and blocks for it.
#![allow(dead_code)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tally_contracts::Record;
use tally_contracts::block::{Block, CommitCertificate};
use tally_ledger::sample::{START_MS, SampleNetwork};
use tally_ledger::{Head, Kv, Ledger, MemoryKv, Options};

/// Small files, so that a few blocks roll over.
pub(crate) const OPTIONS: Options = Options {
    segment_bytes: 4096,
    cache_bytes: 8 << 20,
};

pub(crate) struct Chain {
    pub(crate) network: SampleNetwork,
    pub(crate) genesis: Vec<u8>,
    pub(crate) time_ms: u64,
}

impl Chain {
    pub(crate) fn new() -> Self {
        let network = SampleNetwork::new(4).unwrap();
        Self {
            genesis: network.genesis.to_bytes(),
            network,
            time_ms: START_MS,
        }
    }

    pub(crate) fn open(&self, dir: &Path) -> Ledger {
        Ledger::open(dir, &self.genesis, OPTIONS).unwrap()
    }

    pub(crate) fn open_with(
        &self,
        dir: &Path,
        kv: Arc<dyn Kv>,
    ) -> Result<Ledger, tally_ledger::Error> {
        Ledger::open_with(dir, &self.genesis, OPTIONS, kv)
    }

    /// A ledger with its indexes in memory.
    pub(crate) fn replayed(&self, dir: &Path) -> Result<Ledger, tally_ledger::Error> {
        self.open_with(dir, Arc::new(MemoryKv::new()))
    }

    pub(crate) fn records(&mut self, count: usize) -> Vec<Record> {
        self.network.records(count, self.time_ms).unwrap()
    }

    /// The next block with `count` new records, and its certificate.
    pub(crate) fn block(&mut self, ledger: &Ledger, count: usize) -> (Block, CommitCertificate) {
        self.time_ms += 1000;
        let records = self.records(count);
        let proposer = self.network.member(0);
        let prepared = ledger
            .prepare(&records, self.time_ms, proposer, &|_| None)
            .unwrap();
        assert!(prepared.refused.is_empty(), "{:?}", prepared.refused);
        assert_eq!(prepared.left_over, 0);
        let certificate = self.network.certificate(&prepared.block.header, 3);
        (prepared.block, certificate)
    }

    pub(crate) fn commit(&mut self, ledger: &Ledger, count: usize) -> Head {
        let (block, certificate) = self.block(ledger, count);
        ledger
            .commit(&block.to_bytes(), &certificate, &|_| None)
            .unwrap();
        ledger.head()
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
