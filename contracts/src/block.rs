//! Blocks, the entry that closes each of them, and what validators sign. Engine-neutral: auditors read these for years.

use sha2::{Digest, Sha256};
use tally_merkle::Hash;

use crate::codec::{CodecError, Reader, Writer};
use crate::domains;
use crate::ids::{BlockHash, MemberId, NetworkId, PublicKey, Signature};

/// First byte of every ledger entry.
pub const ENTRY_MAGIC: u8 = b'T';
/// Second byte of an entry that is a genesis document.
pub const ENTRY_GENESIS: u8 = 0;
/// Second byte of an entry that is a record.
pub const ENTRY_RECORD: u8 = 1;
/// Second byte of an entry that is a [`BlockInfo`].
pub const ENTRY_BLOCK_INFO: u8 = 2;
/// An entry's largest size: entry bundles carry a 16-bit length.
pub const MAX_ENTRY_BYTES: usize = 65_535;
/// The most records in one block.
pub const MAX_BLOCK_RECORDS: usize = 8_192;
/// The largest block, header and records together. The engine's gossip bears 4 MiB and its sync 10 MiB; a larger block would
/// wedge every laggard.
pub const MAX_BLOCK_BYTES: usize = 2 * 1024 * 1024;
/// The most validators.
pub const MAX_VALIDATORS: usize = 128;

const VERSION: u8 = 1;

/// A block's header; its hash is the block hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Rules by which the block was executed.
    pub rules_version: u32,
    /// The network.
    pub network: NetworkId,
    /// 1 for the first block after the genesis.
    pub height: u64,
    /// Hash of the block before, zero at height 1.
    pub previous: BlockHash,
    /// Block time, POSIX milliseconds; greater than the previous block's.
    pub time_ms: u64,
    /// Records in this block, without the BlockInfo entry.
    pub record_count: u32,
    /// Entries in the ledger's tree after this block.
    pub tree_size: u64,
    /// Root of the ledger's tree after this block.
    pub tree_root: Hash,
    /// Root of the state after this block.
    pub state_root: Hash,
    /// The member whose validator proposed it.
    pub proposer: MemberId,
}

impl Header {
    /// Canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION)
            .u32(self.rules_version)
            .raw(&self.network.0)
            .u64(self.height)
            .raw(&self.previous.0)
            .u64(self.time_ms)
            .u32(self.record_count)
            .u64(self.tree_size)
            .raw(self.tree_root.as_bytes())
            .raw(self.state_root.as_bytes())
            .raw(&self.proposer.0);
        w.into_bytes()
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let version = r.u8("header version")?;
        if version != VERSION {
            return Err(CodecError::Invalid {
                what: "header version",
                found: version.into(),
            });
        }
        Ok(Self {
            rules_version: r.u32("rules version")?,
            network: NetworkId(r.array("network")?),
            height: r.u64("height")?,
            previous: BlockHash(r.array("previous block hash")?),
            time_ms: r.u64("block time")?,
            record_count: r.u32("record count")?,
            tree_size: r.u64("tree size")?,
            tree_root: Hash(r.array("tree root")?),
            state_root: Hash(r.array("state root")?),
            proposer: MemberId(r.array("proposer")?),
        })
    }

    /// Decodes canonical bytes, all of them.
    ///
    /// # Errors
    /// [`CodecError`] for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        let header = Self::read(&mut r)?;
        r.finish()?;
        Ok(header)
    }

    /// SHA-256(`tally/block/v1` LF || header bytes).
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        BlockHash(
            Sha256::new()
                .chain_update(domains::BLOCK)
                .chain_update(self.to_bytes())
                .finalize()
                .into(),
        )
    }
}

/// A header and the exact signed bytes of its records, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// Each record as it was signed.
    pub records: Vec<Vec<u8>>,
}

impl Block {
    /// Canonical bytes: length-prefixed header, counted records.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&self.header.to_bytes())
            .list(&self.records, |w, r| {
                w.bytes(r);
            });
        w.into_bytes()
    }

    /// Decodes canonical bytes within the block's bounds. It checks form only: that the count in the header is the count of
    /// records, not that the roots are right.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > MAX_BLOCK_BYTES {
            return Err(CodecError::TooLong {
                what: "block",
                found: bytes.len(),
                max: MAX_BLOCK_BYTES,
            });
        }
        let mut r = Reader::new(bytes);
        let header = Header::from_bytes(r.bytes("header", 1024)?)?;
        let records = r.list("records", MAX_BLOCK_RECORDS, |r| {
            Ok(r.bytes("record", MAX_ENTRY_BYTES)?.to_vec())
        })?;
        r.finish()?;
        if records.len() != header.record_count as usize {
            return Err(CodecError::Invalid {
                what: "record count",
                found: header.record_count.into(),
            });
        }
        Ok(Self { header, records })
    }
}

/// The last entry of every block that has records: what lets a holder of entries alone know borders, times and state roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Rules version.
    pub rules_version: u32,
    /// Block height.
    pub height: u64,
    /// Block time, POSIX milliseconds.
    pub time_ms: u64,
    /// Hash of the block before.
    pub previous: BlockHash,
    /// Records in the block.
    pub record_count: u32,
    /// Proposing member.
    pub proposer: MemberId,
    /// State root after the block.
    pub state_root: Hash,
}

impl BlockInfo {
    /// The entry's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(ENTRY_MAGIC)
            .u8(ENTRY_BLOCK_INFO)
            .u8(VERSION)
            .u32(self.rules_version)
            .u64(self.height)
            .u64(self.time_ms)
            .raw(&self.previous.0)
            .u32(self.record_count)
            .raw(&self.proposer.0)
            .raw(self.state_root.as_bytes());
        w.into_bytes()
    }

    /// Decodes the entry's bytes, all of them.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        for (what, expected) in [
            ("entry magic", ENTRY_MAGIC),
            ("entry type", ENTRY_BLOCK_INFO),
            ("entry version", VERSION),
        ] {
            let found = r.u8(what)?;
            if found != expected {
                return Err(CodecError::Invalid {
                    what,
                    found: found.into(),
                });
            }
        }
        let info = Self {
            rules_version: r.u32("rules version")?,
            height: r.u64("height")?,
            time_ms: r.u64("block time")?,
            previous: BlockHash(r.array("previous block hash")?),
            record_count: r.u32("record count")?,
            proposer: MemberId(r.array("proposer")?),
            state_root: Hash(r.array("state root")?),
        };
        r.finish()?;
        Ok(info)
    }
}

/// The kind of a consensus vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VoteType {
    /// First step.
    Prevote,
    /// Second step; two thirds of these make the certificate.
    Precommit,
}

/// What a validator signs for a vote: `tally/vote/v1` LF || network ID || height u64 || round u32 || type (1 prevote,
/// 2 precommit) || 1 and the block hash, or 0 for nil.
#[must_use]
pub fn vote_sign_bytes(
    network: &NetworkId,
    height: u64,
    round: u32,
    kind: VoteType,
    value: Option<&BlockHash>,
) -> Vec<u8> {
    let mut w = Writer::new();
    w.raw(domains::VOTE)
        .raw(&network.0)
        .u64(height)
        .u32(round)
        .u8(match kind {
            VoteType::Prevote => 1,
            VoteType::Precommit => 2,
        });
    match value {
        None => w.u8(0),
        Some(hash) => w.u8(1).raw(&hash.0),
    };
    w.into_bytes()
}

/// One precommit inside a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSignature {
    /// The validator's consensus key.
    pub validator: PublicKey,
    /// Its signature over [`vote_sign_bytes`] (precommit, the block's hash).
    pub signature: Signature,
}

/// Precommits of more than two thirds of the power for one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitCertificate {
    /// Height of the block.
    pub height: u64,
    /// Round in which it was decided.
    pub round: u32,
    /// Hash of the block.
    pub block: BlockHash,
    /// Sorted by validator key, without repeats.
    pub signatures: Vec<CommitSignature>,
}

impl CommitCertificate {
    /// Canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION)
            .u64(self.height)
            .u32(self.round)
            .raw(&self.block.0)
            .list(&self.signatures, |w, s| {
                w.raw(&s.validator.0).raw(&s.signature.0);
            });
        w.into_bytes()
    }

    /// Decodes canonical bytes, all of them; signers must ascend.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        let version = r.u8("certificate version")?;
        if version != VERSION {
            return Err(CodecError::Invalid {
                what: "certificate version",
                found: version.into(),
            });
        }
        let certificate = Self {
            height: r.u64("height")?,
            round: r.u32("round")?,
            block: BlockHash(r.array("block hash")?),
            signatures: r.list("signatures", MAX_VALIDATORS, |r| {
                Ok(CommitSignature {
                    validator: PublicKey(r.array("validator key")?),
                    signature: Signature(r.array("signature")?),
                })
            })?,
        };
        r.finish()?;
        if !certificate
            .signatures
            .is_sorted_by(|a, b| a.validator < b.validator)
        {
            return Err(CodecError::Invalid {
                what: "signature order",
                found: 0,
            });
        }
        Ok(certificate)
    }
}
