//! Everything about a unit, from keys and its index.

use tally_merkle::sha256::Message;
use tally_merkle::{Hash, leaf_hash};
use zeroize::Zeroizing;

use super::bulk::Scratch;
use super::levels::{CHUNK, chunk_path, upper_path};
use super::opening::{RedemptionOpening, UnitOpening};
use super::rows::ChunkRows;
use crate::Error;
use crate::claim::{ClaimCode, commitment};
use crate::ff1::Permutation;
use crate::gs1::Gtin;
use crate::keys::{BatchKeys, IssuerKeys, KeyEpoch};
use crate::order::{LeafOrder, Tree};
use crate::prf::Prf;
use crate::unit::{INDEX_BITS, PlainUnit, Serial, TagMac, encipher};

/// The most units of one batch.
pub const MAX_COUNT: u64 = 1 << 32;

pub(super) const LABEL_SALT: u64 = 1;
pub(super) const LABEL_CLAIM_SALT: u64 = 1;
pub(super) const LABEL_CLAIM: u64 = 2;
pub(super) const LABEL_NULL: [u64; 2] = [1, 2];

/// Which units a batch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSpec {
    gtin: Gtin,
    first_index: u64,
    count: u64,
}

impl BatchSpec {
    /// `count` units, 1 to 2^32, of one product from `first_index` on; all indexes are below 2^36.
    ///
    /// # Errors
    /// [`Error::Range`].
    pub const fn new(gtin: Gtin, first_index: u64, count: u64) -> Result<Self, Error> {
        if count == 0 || count > MAX_COUNT {
            return Err(Error::Range {
                what: "number of units",
                found: count,
                min: 1,
                max: MAX_COUNT,
            });
        }
        let max = (1 << INDEX_BITS) - count;
        if first_index > max {
            return Err(Error::Range {
                what: "first index",
                found: first_index,
                min: 0,
                max,
            });
        }
        Ok(Self {
            gtin,
            first_index,
            count,
        })
    }

    /// The product.
    #[must_use]
    pub const fn gtin(&self) -> &Gtin {
        &self.gtin
    }

    /// Index of the first unit within the issuer.
    #[must_use]
    pub const fn first_index(&self) -> u64 {
        self.first_index
    }

    /// Units.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether a unit's index is in the batch.
    #[must_use]
    pub const fn contains(&self, index: u64) -> bool {
        index >= self.first_index && index - self.first_index < self.count
    }

    pub(crate) fn offset(&self, index: u64) -> Result<u64, Error> {
        if self.contains(index) {
            Ok(index - self.first_index)
        } else {
            Err(Error::Range {
                what: "index of a unit",
                found: index,
                min: self.first_index,
                max: self.first_index + (self.count - 1),
            })
        }
    }
}

/// One unit with its secrets. No text form; the claim code is wiped when dropped.
pub struct Unit {
    /// Index within the issuer.
    pub index: u64,
    /// What is printed.
    pub serial: Serial,
    /// The claim code. Secret.
    pub claim: ClaimCode,
    pub(super) salt: [u8; 16],
    pub(super) commitment: Hash,
}

/// Derives units, leaves and openings of one batch. Secret: no text form, keys are wiped when dropped.
pub struct Deriver {
    spec: BatchSpec,
    pub(super) permutation: Permutation,
    pub(super) tag: TagMac,
    pub(super) salt: Prf,
    pub(super) claim: Prf,
    pub(super) null: Prf,
    pub(super) unit_order: LeafOrder,
    pub(super) null_order: LeafOrder,
}

impl Deriver {
    /// For the batch `spec` with `keys`, enciphered in `epoch`.
    ///
    /// # Errors
    /// [`Error::UnknownEpoch`].
    pub fn new(
        issuer: &IssuerKeys,
        epoch: KeyEpoch,
        keys: &BatchKeys,
        spec: BatchSpec,
    ) -> Result<Self, Error> {
        Ok(Self {
            permutation: Permutation::new(issuer.permutation_key(epoch)?, spec.gtin.as_bytes()),
            tag: TagMac::new(&keys.tag, issuer.issuer()),
            salt: Prf::new(&keys.salt),
            claim: Prf::new(&keys.claim),
            null: Prf::new(&keys.null),
            unit_order: LeafOrder::new(&keys.order, Tree::Unit, spec.count),
            null_order: LeafOrder::new(&keys.order, Tree::Redemption, spec.count),
            spec,
        })
    }

    /// The batch.
    #[must_use]
    pub const fn spec(&self) -> &BatchSpec {
        &self.spec
    }

    /// One unit.
    ///
    /// # Errors
    /// [`Error::Range`] if the batch has no such index.
    pub fn unit(&self, index: u64) -> Result<Unit, Error> {
        self.spec.offset(index)?;
        let serial = encipher(
            &self.permutation,
            PlainUnit {
                index,
                tag: self.tag.tag(&self.spec.gtin, index),
            },
        );
        let chars = serial.to_chars();
        let claim = ClaimCode::from_random(self.claim.of(LABEL_CLAIM, index));
        let claim_salt = self.claim.of(LABEL_CLAIM_SALT, index).to_be_bytes();
        Ok(Unit {
            index,
            serial,
            salt: self.salt.of(LABEL_SALT, index).to_be_bytes(),
            commitment: commitment(&claim_salt, &self.spec.gtin, &chars, &claim),
            claim,
        })
    }

    /// The nullifier of a unit: what a redemption shows. Secret until then.
    ///
    /// # Errors
    /// [`Error::Range`] if the batch has no such index.
    pub fn nullifier(&self, index: u64) -> Result<Zeroizing<[u8; 32]>, Error> {
        self.spec.offset(index)?;
        let mut out = Zeroizing::new([0; 32]);
        let (halves, _) = out.as_chunks_mut::<16>();
        for (half, label) in halves.iter_mut().zip(LABEL_NULL) {
            *half = self.null.of(label, index).to_be_bytes();
        }
        Ok(out)
    }

    /// The leaf of one unit.
    #[cfg(test)]
    pub(super) fn unit_leaf(&self, unit: &Unit) -> Hash {
        let chars = unit.serial.to_chars();
        unit_leaf(&unit.salt, &self.spec.gtin, &chars, &unit.commitment)
    }

    /// Opens the leaf of a unit in the unit tree, with a path to its root. `node` gives stored nodes by level (0 is height 8) and
    /// position. Costs 256 leaves, a tenth of a millisecond.
    ///
    /// # Errors
    /// [`Error::Range`] if the batch has no such index, and what `node` returns.
    pub fn unit_opening<E: From<Error>>(
        &self,
        index: u64,
        node: impl FnMut(usize, u64) -> Result<Hash, E>,
    ) -> Result<UnitOpening, E> {
        let leaf_index = self.unit_order.leaf(self.spec.offset(index)?);
        let leaves = self.unit_leaves(
            leaf_index / CHUNK,
            ChunkRows::default(),
            &mut Scratch::new(),
        );
        let path = self.path(leaves, leaf_index, node)?;
        let unit = self.unit(index)?;
        Ok(UnitOpening {
            salt: unit.salt,
            gtin: self.spec.gtin,
            serial: unit.serial,
            claim_commitment: unit.commitment,
            leaf_index,
            path,
        })
    }

    /// Opens the leaf of a unit in the redemption tree. Shows the nullifier.
    ///
    /// # Errors
    /// As [`Self::unit_opening`].
    pub fn redemption_opening<E: From<Error>>(
        &self,
        index: u64,
        node: impl FnMut(usize, u64) -> Result<Hash, E>,
    ) -> Result<RedemptionOpening, E> {
        let leaf_index = self.null_order.leaf(self.spec.offset(index)?);
        let leaves = self.redemption_leaves(leaf_index / CHUNK, &mut Scratch::new());
        let path = self.path(leaves, leaf_index, node)?;
        Ok(RedemptionOpening {
            nullifier: *self.nullifier(index)?,
            leaf_index,
            path,
        })
    }

    fn path<E: From<Error>>(
        &self,
        leaves: Vec<Hash>,
        leaf_index: u64,
        node: impl FnMut(usize, u64) -> Result<Hash, E>,
    ) -> Result<Vec<Hash>, E> {
        let at = usize::try_from(leaf_index % CHUNK)
            .map_err(|_| Error::Internal { what: "leaf index" })?;
        let mut path = Vec::with_capacity(32);
        chunk_path(leaves, at, &mut path);
        upper_path(self.spec.count, leaf_index / CHUNK, &mut path, node)?;
        Ok(path)
    }
}

const UNIT_DOMAIN: &[u8; 14] = b"tally/unit/v1\n";

/// What the leaf of a unit is the SHA-256 of: 0x00 (RFC 6962 2.1) || `tally/unit/v1` LF || salt || GTIN || serial || claim commitment.
pub(super) struct UnitLeafMessage(Message<2>);

impl UnitLeafMessage {
    pub(super) fn new(gtin: &Gtin) -> Self {
        let mut message = Message::new(b"\0tally/unit/v1\n", 97);
        message.put::<31, 14>(gtin.as_bytes());
        Self(message)
    }

    /// For one unit, in place of the one before.
    #[inline]
    pub(super) fn set(&mut self, salt: &[u8; 16], serial: &[u8; 20], commitment: &Hash) {
        self.0.put::<15, 16>(salt);
        self.0.put::<45, 20>(serial);
        self.0.put::<65, 32>(&commitment.0);
    }

    #[inline]
    pub(super) fn hash_pair(a: &Self, b: &Self) -> [Hash; 2] {
        Message::hash_pair(&a.0, &b.0)
    }
}

/// The leaf of a unit.
pub(super) fn unit_leaf(
    salt: &[u8; 16],
    gtin: &Gtin,
    serial: &[u8; 20],
    commitment: &Hash,
) -> Hash {
    let mut entry = [0; 14 + 16 + 14 + 20 + 32];
    let parts: [&[u8]; 5] = [
        UNIT_DOMAIN,
        salt,
        gtin.as_bytes(),
        serial,
        commitment.as_bytes(),
    ];
    for (to, from) in entry.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    leaf_hash(&entry)
}
