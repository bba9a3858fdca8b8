//! What shows that a unit is in an anchored batch, and its check, which needs no key.

use tally_merkle::sha256::Message;
use tally_merkle::{Hash, leaf_hash, verify_inclusion};

use super::derive::unit_leaf;
use crate::Error;
use crate::gs1::Gtin;
use crate::keys::Bytes;
use crate::unit::Serial;

const VERSION: u8 = 1;
const UNIT_KIND: u8 = b'U';
const NULL_DOMAIN: &[u8; 14] = b"tally/null/v1\n";
/// A tree of 2^32 leaves has paths of 32 hashes.
const MAX_PATH: usize = 32;

/// Opens a unit's leaf. It shows the unit code and nothing of the claim code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOpening {
    /// The leaf's salt.
    pub salt: [u8; 16],
    /// The product.
    pub gtin: Gtin,
    /// The serial.
    pub serial: Serial,
    /// Commitment to the claim code, under a salt that is not here.
    pub claim_commitment: Hash,
    /// Place of the leaf, from 0.
    pub leaf_index: u64,
    /// Siblings, leaf side first, at most 32.
    pub path: Vec<Hash>,
}

/// Opens a leaf of the redemption tree. Whoever sees it can link it to other redemptions of the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedemptionOpening {
    /// The nullifier.
    pub nullifier: [u8; 32],
    /// Place of the leaf, from 0.
    pub leaf_index: u64,
    /// Siblings, leaf side first, at most 32.
    pub path: Vec<Hash>,
}

/// What the leaf of a nullifier is the SHA-256 of: 0x00 (RFC 6962 2.1) || `tally/null/v1` LF || nullifier.
pub(super) const REDEMPTION_LEAF: Message<1> = Message::new(b"\0tally/null/v1\n", 47);

pub(super) fn redemption_leaf(nullifier: &[u8; 32]) -> Hash {
    let mut entry = [0; 14 + 32];
    entry[..14].copy_from_slice(NULL_DOMAIN);
    entry[14..].copy_from_slice(nullifier);
    leaf_hash(&entry)
}

/// Checks that the opened unit is in the batch of `count` units with unit tree root `root`.
///
/// # Errors
/// [`Error::Root`].
pub fn verify_unit_opening(root: &Hash, count: u64, opening: &UnitOpening) -> Result<(), Error> {
    let leaf = unit_leaf(
        &opening.salt,
        &opening.gtin,
        &opening.serial.to_chars(),
        &opening.claim_commitment,
    );
    verify(
        "unit opening",
        root,
        count,
        opening.leaf_index,
        leaf,
        &opening.path,
    )
}

/// Checks that the nullifier is one of the batch of `count` units with redemption tree root `root`.
///
/// # Errors
/// [`Error::Root`].
pub fn verify_redemption_opening(
    root: &Hash,
    count: u64,
    opening: &RedemptionOpening,
) -> Result<(), Error> {
    let leaf = redemption_leaf(&opening.nullifier);
    verify(
        "redemption opening",
        root,
        count,
        opening.leaf_index,
        leaf,
        &opening.path,
    )
}

fn verify(
    what: &'static str,
    root: &Hash,
    size: u64,
    index: u64,
    leaf: Hash,
    path: &[Hash],
) -> Result<(), Error> {
    verify_inclusion(&leaf, index, size, path, root).map_err(|_| Error::Root { what })
}

impl UnitOpening {
    /// Version, kind, salt, GTIN, serial (20 characters), claim commitment, leaf index (u64), number of siblings (u8), siblings.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION, UNIT_KIND];
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(self.gtin.as_bytes());
        out.extend_from_slice(&self.serial.to_chars());
        out.extend_from_slice(self.claim_commitment.as_bytes());
        out.extend_from_slice(&self.leaf_index.to_be_bytes());
        out.push(u8::try_from(self.path.len()).unwrap_or(u8::MAX));
        out.extend(self.path.iter().flat_map(|h| h.0));
        out
    }

    /// Reads [`Self::to_bytes`]: all bytes, in their one form.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Bytes {
            what: "unit opening",
            all: bytes,
            at: 0,
        };
        r.exactly(&[VERSION, UNIT_KIND])?;
        let salt = *r.array()?;
        let gtin = Gtin::from_bytes(r.array()?).map_err(|_| r.malformed())?;
        let chars = r.array::<20>()?;
        let serial: Serial = std::str::from_utf8(chars)
            .ok()
            .and_then(|t| t.parse().ok())
            .ok_or_else(|| r.malformed())?;
        if serial.to_chars() != *chars {
            return Err(r.malformed());
        }
        let claim_commitment = Hash(*r.array()?);
        let leaf_index = u64::from_be_bytes(*r.array()?);
        let [n] = *r.array()?;
        if usize::from(n) > MAX_PATH {
            return Err(r.malformed());
        }
        let path = (0..n)
            .map(|_| r.array().map(|h| Hash(*h)))
            .collect::<Result<_, _>>()?;
        r.end()?;
        Ok(Self {
            salt,
            gtin,
            serial,
            claim_commitment,
            leaf_index,
            path,
        })
    }
}
