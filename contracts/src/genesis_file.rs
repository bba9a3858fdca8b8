//! The genesis file that founders pass around: the document and their signatures beside it.

use ed25519_dalek::{Signer as _, SigningKey};

use crate::block::MAX_ENTRY_BYTES;
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::domains;
use crate::error::Error;
use crate::genesis::{Genesis, MAX_MEMBERS, network_id};
use crate::ids::{MemberId, NetworkId, PublicKey, Signature};
use crate::signature::verify;

const VERSION: u8 = 1;

/// One founder's signature over `tally/genesis/v1` LF || network ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FounderSignature {
    /// The founding member.
    pub member: MemberId,
    /// One of its administrators' keys.
    pub key: PublicKey,
    /// The signature.
    pub signature: Signature,
}

/// A genesis document, byte for byte, and the founders' signatures so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisFile {
    document: Vec<u8>,
    genesis: Genesis,
    signatures: Vec<FounderSignature>,
}

impl GenesisFile {
    /// A file without signatures.
    ///
    /// # Errors
    /// What [`Genesis::check`] finds.
    pub fn new(genesis: Genesis) -> Result<Self, Error> {
        genesis.check()?;
        Ok(Self {
            document: genesis.to_bytes(),
            genesis,
            signatures: Vec::new(),
        })
    }

    /// The document.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The document's bytes: entry 0 of the ledger.
    #[must_use]
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// The signatures so far, ascending by member.
    #[must_use]
    pub fn signatures(&self) -> &[FounderSignature] {
        &self.signatures
    }

    /// SHA-256 of the document.
    #[must_use]
    pub fn network_id(&self) -> NetworkId {
        network_id(&self.document)
    }

    /// Signs with an administrator's key; the member is found by it. A member's second signature replaces its first.
    ///
    /// # Errors
    /// [`Error::Signer`] if no founder has this administrator's key.
    pub fn sign(&mut self, key: &SigningKey) -> Result<MemberId, Error> {
        let public = PublicKey::from(key);
        let signature = Signature(key.sign(&self.message()).to_bytes());
        let member = self
            .genesis
            .members
            .iter()
            .find(|m| m.admin_keys.contains(&public))
            .map(|m| m.id)
            .ok_or(Error::Signer {
                what: "genesis",
                key: public,
            })?;
        self.put(FounderSignature {
            member,
            key: public,
            signature,
        });
        Ok(member)
    }

    /// Takes over a founder's signature that came by itself.
    ///
    /// # Errors
    /// [`Error::Signer`] or [`Error::Signature`].
    pub fn add(&mut self, signature: FounderSignature) -> Result<(), Error> {
        self.check(&signature)?;
        self.put(signature);
        Ok(())
    }

    /// Names of the founders who have not signed.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.genesis
            .members
            .iter()
            .filter(|m| self.signatures.iter().all(|s| s.member != m.id))
            .map(|m| m.name.clone())
            .collect()
    }

    /// Checks that every founder has signed.
    ///
    /// # Errors
    /// [`Error::Unsigned`], [`Error::Signer`], [`Error::Signature`].
    pub fn verify(&self) -> Result<(), Error> {
        let members = self.missing();
        if !members.is_empty() {
            return Err(Error::Unsigned { members });
        }
        self.signatures.iter().try_for_each(|s| self.check(s))
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION)
            .bytes(&self.document)
            .list(&self.signatures, |w, s| s.write(w));
        w.into_bytes()
    }

    /// Decodes a file, whole or still short of signatures, and checks the document and the signatures that are there.
    ///
    /// # Errors
    /// [`Error::Codec`], what [`Genesis::check`] finds, [`Error::Signer`], [`Error::Signature`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        r.version("genesis file version", VERSION)?;
        let document = r.bytes("genesis document", MAX_ENTRY_BYTES)?.to_vec();
        let signatures = r.list("signatures", MAX_MEMBERS, FounderSignature::read)?;
        r.finish()?;
        if !signatures.is_sorted_by(|a, b| a.member < b.member) {
            return Err(CodecError::Invalid {
                what: "signature order",
                found: 0,
            }
            .into());
        }
        let file = Self {
            genesis: Genesis::from_bytes(&document)?,
            document,
            signatures,
        };
        file.signatures.iter().try_for_each(|s| file.check(s))?;
        Ok(file)
    }

    fn message(&self) -> Vec<u8> {
        [domains::GENESIS, &self.network_id().0].concat()
    }

    fn check(&self, s: &FounderSignature) -> Result<(), Error> {
        let known = self
            .genesis
            .member(&s.member)
            .is_some_and(|m| m.admin_keys.contains(&s.key));
        if !known {
            return Err(Error::Signer {
                what: "genesis",
                key: s.key,
            });
        }
        verify("genesis", &s.key, &self.message(), &s.signature)
    }

    fn put(&mut self, signature: FounderSignature) {
        self.signatures.retain(|s| s.member != signature.member);
        self.signatures.push(signature);
        self.signatures.sort_by_key(|s| s.member);
    }
}

impl Canonical for FounderSignature {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.member.0)
            .raw(&self.key.0)
            .raw(&self.signature.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            member: MemberId(r.array("member ID")?),
            key: PublicKey(r.array("administrator's key")?),
            signature: Signature(r.array("signature")?),
        })
    }
}
