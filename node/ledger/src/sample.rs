//! A network with published keys and records for it: for tests and `tally bench`. Never for a network that anyone uses.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest, Sha256};
use tally_contracts::block::{
    CommitCertificate, CommitSignature, Header, VoteType, vote_sign_bytes,
};
use tally_contracts::codec::{Canonical as _, Writer};
use tally_contracts::ids::{MemberId, PublicKey, Signature};
use tally_contracts::records::{Body, Change, ProposeChange, RegisterProduct, Vote};
use tally_contracts::{
    Genesis, MemberEntry, NetworkKind, NodeEntry, Record, Roles, Rules, Signer, Unsigned, domains,
};

use crate::error::Error;
use crate::ledger::{Ledger, Options};

/// When the sample network was founded, POSIX milliseconds.
pub const START_MS: u64 = 1_790_000_000_000;

/// A genesis of brands called `member-0`, `member-1` and so on, one validator each, and their keys.
pub struct SampleNetwork {
    /// The genesis document.
    pub genesis: Genesis,
    members: usize,
    nonce: u64,
    /// Next nonces of the administrators' keys, by member.
    admin_nonces: BTreeMap<usize, u64>,
}

impl SampleNetwork {
    /// A network of this many members, 1 to 64.
    ///
    /// # Errors
    /// [`Error::Genesis`] for another number.
    pub fn new(members: usize) -> Result<Self, Error> {
        let entries = (0..members).map(entry).collect::<Result<Vec<_>, _>>()?;
        let genesis = Genesis::new(
            "Sample",
            NetworkKind::Test,
            START_MS,
            [7; 32],
            Rules::default(),
            entries,
        )?;
        Ok(Self {
            genesis,
            members,
            nonce: 0,
            admin_nonces: BTreeMap::new(),
        })
    }

    /// The change that admits a member who is no founder, by its card.
    ///
    /// # Errors
    /// [`Error::Genesis`] never in practice.
    pub fn admission(&self, i: usize) -> Result<Change, Error> {
        let entry = entry(i)?;
        let mut message = Writer::new();
        message.raw(domains::MEMBER_CARD);
        entry.write(&mut message);
        let signature = key(i, "admin").sign(&message.into_bytes());
        Ok(Change::AdmitMember {
            entry,
            signer: public(i, "admin"),
            signature: Signature(signature.to_bytes()),
        })
    }

    /// The records by which members change the network: a proposal by the first of `voters` and the votes of the others, each by its
    /// administrator's key.
    ///
    /// # Errors
    /// [`Error::Genesis`] never in practice.
    pub fn change(
        &mut self,
        changes: Vec<Change>,
        voters: &[usize],
        time_ms: u64,
    ) -> Result<Vec<Record>, Error> {
        let until = time_ms + 3_600_000;
        let proposal = ProposeChange {
            changes,
            delay_blocks: 0,
            expires_ms: until,
            why: String::new(),
        };
        let mut records: Vec<Record> = Vec::new();
        for i in voters {
            let body = records.first().map_or_else(
                || Body::from(proposal.clone()),
                |first| {
                    let vote = Vote {
                        change: first.id(),
                        approve: true,
                    };
                    vote.into()
                },
            );
            let signing = key(*i, "admin");
            let nonce = self.admin_nonces.entry(*i).or_default();
            let member = MemberId::derive(&name(*i), &public(*i, "admin"));
            let signer = Signer::new(member, &PublicKey::from(&signing), *nonce);
            *nonce += 1;
            let unsigned = Unsigned::new(self.genesis.network_id(), until, vec![signer], &body);
            records.push(unsigned.sign(&[&signing])?);
        }
        Ok(records)
    }

    /// The ID of a member.
    #[must_use]
    pub fn member(&self, i: usize) -> MemberId {
        MemberId::derive(&name(i), &public(i, "admin"))
    }

    /// A member's key for one use: `admin`, `transport`, `consensus`, `checkpoint`, `cosignature` or `records`.
    #[must_use]
    pub fn key(&self, i: usize, key_use: &str) -> SigningKey {
        key(i, key_use)
    }

    /// The next `count` records of member 0, each for a product of its own, valid for an hour from `time_ms`.
    ///
    /// # Errors
    /// [`Error::Genesis`] never in practice.
    pub fn records(&mut self, count: usize, time_ms: u64) -> Result<Vec<Record>, Error> {
        let signing = key(0, "records");
        (0..count)
            .map(|_| {
                let body = RegisterProduct {
                    gtin: gtin(self.nonce)
                        .parse()
                        .map_err(|_| Error::Internal("sample GTIN"))?,
                    description: "Green tea, 20 bags".into(),
                    brand: "Sample".into(),
                };
                let signer = Signer::new(self.member(0), &PublicKey::from(&signing), self.nonce);
                self.nonce += 1;
                let network = self.genesis.network_id();
                let unsigned =
                    Unsigned::new(network, time_ms + 3_600_000, vec![signer], &body.into());
                Ok(unsigned.sign(&[&signing])?)
            })
            .collect()
    }

    /// Precommits of the first `signers` members for a block.
    #[must_use]
    pub fn certificate(&self, header: &Header, signers: usize) -> CommitCertificate {
        let block = header.hash();
        let message = vote_sign_bytes(
            &header.network,
            header.height,
            0,
            VoteType::Precommit,
            Some(&block),
        );
        let mut signatures: Vec<_> = (0..signers.min(self.members))
            .map(|i| CommitSignature {
                validator: public(i, "consensus"),
                signature: Signature(key(i, "consensus").sign(&message).to_bytes()),
            })
            .collect();
        signatures.sort_by_key(|s| s.validator);
        CommitCertificate {
            height: header.height,
            round: 0,
            block,
            signatures,
        }
    }
}

fn name(i: usize) -> String {
    format!("member-{i}")
}

fn key(i: usize, key_use: &str) -> SigningKey {
    SigningKey::from_bytes(&Sha256::digest(format!("tally sample key {i} {key_use}")).into())
}

fn public(i: usize, key_use: &str) -> PublicKey {
    PublicKey::from(&key(i, key_use))
}

fn entry(i: usize) -> Result<MemberEntry, Error> {
    let node = NodeEntry {
        transport: public(i, "transport"),
        consensus: public(i, "consensus"),
        checkpoint: public(i, "checkpoint"),
        cosignature: public(i, "cosignature"),
        records: public(i, "records"),
        power: 1,
        consensus_addr: "/dns4/localhost/tcp/7000".into(),
        swarm_addr: "/dns4/localhost/tcp/7001".into(),
        http_url: "http://localhost:7002".into(),
    };
    Ok(MemberEntry::new(
        &name(i),
        Roles::BRAND,
        vec![public(i, "admin")],
        vec![node],
    )?)
}

/// GTIN-14 number `i`, with its check digit.
fn gtin(i: u64) -> String {
    let body = format!("{i:013}");
    let sum: u32 = body
        .bytes()
        .rev()
        .zip([3, 1].into_iter().cycle())
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

/// What [`bench()`] measured; every time is for all blocks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BenchReport {
    /// Blocks committed.
    pub blocks: usize,
    /// Records in all of them.
    pub records: usize,
    /// Making the blocks, signatures verified.
    pub prepare: Duration,
    /// Checking them as another node would, signatures verified.
    pub check: Duration,
    /// Committing what was checked, synced to disk.
    pub commit: Duration,
    /// Opening the ledger again with all state and tiles in place.
    pub reopen: Duration,
    /// Rebuilding state and tiles from the blocks.
    pub reindex: Duration,
}

/// Commits `blocks` blocks of `records_per_block` records to a ledger in the empty folder `dir`, in the steps of a validator.
///
/// # Errors
/// Those of the ledger.
pub fn bench(dir: &Path, blocks: usize, records_per_block: usize) -> Result<BenchReport, Error> {
    let mut network = SampleNetwork::new(4)?;
    let genesis = network.genesis.to_bytes();
    let ledger = Ledger::open(dir, &genesis, Options::default())?;
    // Another node's ledger, so that checking is not answered from what preparing kept.
    let proposer_dir = dir.join("proposer");
    let proposer = Ledger::open(&proposer_dir, &genesis, Options::default())?;
    let mut report = BenchReport {
        blocks,
        records: 0,
        prepare: Duration::ZERO,
        check: Duration::ZERO,
        commit: Duration::ZERO,
        reopen: Duration::ZERO,
        reindex: Duration::ZERO,
    };
    let mut time_ms = START_MS;
    for _ in 0..blocks {
        time_ms += 1000;
        let records = network.records(records_per_block, time_ms)?;
        let start = Instant::now();
        let prepared = proposer.prepare(&records, time_ms, network.member(0), &|_| None)?;
        report.prepare += start.elapsed();
        report.records += prepared.block.records.len();
        let block = prepared.block.to_bytes();
        let start = Instant::now();
        ledger
            .check(&block, &|_| None)
            .map_err(|_| Error::Internal("a sample block fails the check"))?;
        report.check += start.elapsed();
        let certificate = network.certificate(&prepared.block.header, 3);
        let start = Instant::now();
        ledger.commit(&block, &certificate, &|_| None)?;
        report.commit += start.elapsed();
        proposer.commit(&block, &certificate, &|_| None)?;
    }
    drop((ledger, proposer));
    let start = Instant::now();
    drop(Ledger::open(dir, &genesis, Options::default())?);
    report.reopen = start.elapsed();
    let start = Instant::now();
    drop(Ledger::reindex(
        dir,
        &genesis,
        Options::default(),
        &mut |_, _| {},
    )?);
    report.reindex = start.elapsed();
    Ok(report)
}
