//! The record envelope: who says what in which network, until when, and their signatures.
//!
//! Unsigned part: `T` 1 1, network, kind u16, `valid_until_ms` u64, signers (u8 count, then member, key ID and nonce each),
//! body (u32 length and bytes). Then one signature a signer, each over `tally/record/v1` LF || unsigned part.

use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest, Sha256};
use tally_merkle::{Hash, leaf_hash};

use crate::block::{ENTRY_MAGIC, ENTRY_RECORD, MAX_ENTRY_BYTES};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::domains;
use crate::error::Error;
use crate::ids::{KeyId, MemberId, NetworkId, PublicKey, RecordId, Signature};
use crate::records::Body;
use crate::signature::Signed;

const VERSION: u8 = 1;
/// The most signers of one record.
pub const MAX_SIGNERS: usize = 16;

/// One signer of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signer {
    /// The member that speaks.
    pub member: MemberId,
    /// The key that it signs with.
    pub key: KeyId,
    /// The key's next nonce: 0 for its first record, then one more each.
    pub nonce: u64,
}

impl Signer {
    /// A signer by its public key.
    #[must_use]
    pub fn new(member: MemberId, key: &PublicKey, nonce: u64) -> Self {
        Self {
            member,
            key: KeyId::of(key),
            nonce,
        }
    }
}

/// The part of a record that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// The network that it is meant for.
    pub network: NetworkId,
    /// What the body is; see [`crate::records::Kind`].
    pub kind: u16,
    /// Refused in blocks later than this, POSIX milliseconds.
    pub valid_until_ms: u64,
    /// 1 to 16 signers, no key twice.
    pub signers: Vec<Signer>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Unsigned {
    /// A record of a typed body.
    #[must_use]
    pub fn new(network: NetworkId, valid_until_ms: u64, signers: Vec<Signer>, body: &Body) -> Self {
        Self {
            network,
            kind: body.kind().code(),
            valid_until_ms,
            signers,
            body: body.to_bytes(),
        }
    }

    /// The record ID: SHA-256(`tally/record-id/v1` LF || bytes).
    #[must_use]
    pub fn id(&self) -> RecordId {
        record_id(&self.to_bytes())
    }

    /// What each signer signs: `tally/record/v1` LF || bytes.
    #[must_use]
    pub fn sign_bytes(&self) -> Vec<u8> {
        [domains::RECORD, &self.to_bytes()].concat()
    }

    /// One signer's signature.
    #[must_use]
    pub fn sign_with(&self, key: &SigningKey) -> Signature {
        Signature(key.sign(&self.sign_bytes()).to_bytes())
    }

    /// The record with its signatures, one a signer and in their order.
    ///
    /// # Errors
    /// [`Error::SignatureCount`], [`Error::RecordSize`], or [`Error::Codec`] if the fields are out of bounds.
    pub fn assemble(&self, signatures: &[Signature]) -> Result<Record, Error> {
        if signatures.len() != self.signers.len() {
            return Err(Error::SignatureCount {
                expected: self.signers.len(),
                found: signatures.len(),
            });
        }
        let mut w = Writer::new();
        self.write(&mut w);
        for signature in signatures {
            w.raw(&signature.0);
        }
        Record::from_bytes(&w.into_bytes())
    }

    /// Signs with every key, in the order of the signers.
    ///
    /// # Errors
    /// As [`Self::assemble`].
    pub fn sign(&self, keys: &[&SigningKey]) -> Result<Record, Error> {
        let signatures: Vec<_> = keys.iter().map(|key| self.sign_with(key)).collect();
        self.assemble(&signatures)
    }
}

impl Canonical for Unsigned {
    fn write(&self, w: &mut Writer) {
        w.u8(ENTRY_MAGIC)
            .u8(ENTRY_RECORD)
            .u8(VERSION)
            .raw(&self.network.0)
            .u16(self.kind)
            .u64(self.valid_until_ms)
            .u8(u8::try_from(self.signers.len()).unwrap_or(u8::MAX));
        for s in &self.signers {
            w.raw(&s.member.0).raw(&s.key.0).u64(s.nonce);
        }
        w.bytes(&self.body);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("entry magic", ENTRY_MAGIC)?;
        r.version("entry type", ENTRY_RECORD)?;
        r.version("record version", VERSION)?;
        let network = NetworkId(r.array("network")?);
        let kind = r.u16("kind")?;
        let valid_until_ms = r.u64("valid until")?;
        let count = r.u8("signer count")?;
        if !(1..=MAX_SIGNERS).contains(&usize::from(count)) {
            return Err(CodecError::Invalid {
                what: "signer count",
                found: count.into(),
            });
        }
        let mut signers: Vec<Signer> = Vec::with_capacity(count.into());
        for _ in 0..count {
            let signer = Signer {
                member: MemberId(r.array("signer's member")?),
                key: KeyId(r.array("signer's key")?),
                nonce: r.u64("signer's nonce")?,
            };
            if signers.iter().any(|s| s.key == signer.key) {
                return Err(CodecError::Invalid {
                    what: "repeated signer",
                    found: signers.len() as u64,
                });
            }
            signers.push(signer);
        }
        Ok(Self {
            network,
            kind,
            valid_until_ms,
            signers,
            body: r.bytes("body", MAX_ENTRY_BYTES)?.to_vec(),
        })
    }
}

/// A signed record as it came: its exact bytes are what is hashed, stored and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    unsigned: Unsigned,
    signatures: Vec<Signature>,
    bytes: Vec<u8>,
    unsigned_len: usize,
    // Asked for many times on a record's way, so made once.
    id: RecordId,
    leaf: Hash,
}

impl Record {
    /// Decodes an envelope, all of it; checks form and bounds, not signatures.
    ///
    /// # Errors
    /// [`Error::RecordSize`], [`Error::Codec`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(Error::RecordSize {
                found: bytes.len(),
                max: MAX_ENTRY_BYTES,
            });
        }
        let mut r = Reader::new(bytes);
        let unsigned = Unsigned::read(&mut r)?;
        let unsigned_len = bytes.len().saturating_sub(r.left());
        let mut signatures = Vec::with_capacity(unsigned.signers.len());
        for _ in &unsigned.signers {
            signatures.push(Signature(r.array("signature")?));
        }
        r.finish()?;
        Ok(Self {
            unsigned,
            signatures,
            id: record_id(bytes.get(..unsigned_len).unwrap_or_default()),
            leaf: leaf_hash(bytes),
            bytes: bytes.to_vec(),
            unsigned_len,
        })
    }

    /// The signed bytes: the ledger's entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was signed.
    #[must_use]
    pub const fn unsigned(&self) -> &Unsigned {
        &self.unsigned
    }

    /// The signers.
    #[must_use]
    pub fn signers(&self) -> &[Signer] {
        &self.unsigned.signers
    }

    /// The signatures, one a signer.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The record ID; the same however it was signed.
    #[must_use]
    pub const fn id(&self) -> RecordId {
        self.id
    }

    /// RFC 6962 leaf hash of the signed bytes: names this very envelope, signatures included, so a node caches by it.
    #[must_use]
    pub const fn leaf(&self) -> Hash {
        self.leaf
    }

    /// The typed body.
    ///
    /// # Errors
    /// [`CodecError`] for an unknown kind or a body that is not canonical.
    pub fn body(&self) -> Result<Body, CodecError> {
        Body::from_bytes(self.unsigned.kind, &self.unsigned.body)
    }

    /// Each signature with its message, under the keys given (one a signer, in order).
    #[must_use]
    pub fn signed(&self, keys: &[PublicKey]) -> Vec<Signed> {
        let message = [domains::RECORD, self.unsigned_bytes()].concat();
        keys.iter()
            .zip(&self.signatures)
            .map(|(key, signature)| Signed {
                key: *key,
                message: message.clone(),
                signature: *signature,
            })
            .collect()
    }

    fn unsigned_bytes(&self) -> &[u8] {
        self.bytes.get(..self.unsigned_len).unwrap_or_default()
    }
}

fn record_id(unsigned: &[u8]) -> RecordId {
    RecordId(
        Sha256::new()
            .chain_update(domains::RECORD_ID)
            .chain_update(unsigned)
            .finalize()
            .into(),
    )
}
