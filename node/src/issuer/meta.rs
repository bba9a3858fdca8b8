//! What a batch is, as it stands in its sealed file.

use tally_codes::batch::BatchSpec;
use tally_codes::gs1::UrlBase;
use tally_codes::keys::{BatchKeys, KeyEpoch};
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::ids::{BatchId, MemberId};
use tally_contracts::records::{ExpiryDate, Gtin, IssueBatch, Lot, batch_id};
use tally_merkle::Hash;
use zeroize::Zeroizing;

use super::IssuerError;

/// Of a batch without an expiry date.
const VERSION: u8 = 1;
/// Of one with it: the date, and whether links have it, stand before the keys.
const VERSION_DATED: u8 = 2;

/// When units expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The last day on which they are good.
    pub date: ExpiryDate,
    /// Whether the date is in the printed links too.
    pub in_links: bool,
}

/// A batch as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMeta {
    /// Its ID.
    pub id: BatchId,
    /// The product.
    pub gtin: Gtin,
    /// The lot.
    pub lot: Lot,
    /// Index of the first unit within the issuer.
    pub first_index: u64,
    /// Units.
    pub count: u64,
    /// The key epoch of its codes.
    pub epoch: u32,
    /// Root of the tree of unit codes.
    pub unit_root: Hash,
    /// Root of the tree of nullifiers.
    pub redemption_root: Hash,
    /// When its units expire, if they do.
    pub expiry: Option<Expiry>,
}

impl BatchMeta {
    /// The record that announces the batch.
    #[must_use]
    pub fn to_record(&self) -> IssueBatch {
        IssueBatch {
            gtin: self.gtin,
            lot: self.lot.clone(),
            first_index: self.first_index,
            count: self.count,
            unit_root: self.unit_root,
            redemption_root: self.redemption_root,
            expires: self.expires(),
        }
    }

    /// The last day on which its units are good.
    #[must_use]
    pub fn expires(&self) -> Option<ExpiryDate> {
        self.expiry.map(|e| e.date)
    }

    /// What the links of its codes begin with, and end with.
    ///
    /// # Errors
    /// None for a date that is one.
    pub fn links(&self, base: &UrlBase) -> Result<UrlBase, tally_codes::Error> {
        match self.expiry.filter(|e| e.in_links) {
            Some(expiry) => base.clone().with_expiry(expiry.date.as_str()),
            None => Ok(base.clone()),
        }
    }

    /// Which units it has.
    pub(super) fn spec(&self) -> Result<BatchSpec, tally_codes::Error> {
        let gtin = tally_codes::gs1::Gtin::from_bytes(self.gtin.as_bytes())?;
        BatchSpec::new(gtin, self.first_index, self.count)
    }

    /// The name of its directory. The root stands in it, as a batch may be made anew under one ID before any of them is anchored.
    pub(super) fn dir_name(&self) -> String {
        let root: String = self.unit_root.to_string().chars().take(16).collect();
        format!("{:09x}-{root}", self.first_index)
    }

    /// Version, what it is, then the keys.
    pub(super) fn to_secret_bytes(&self, keys: &BatchKeys) -> Zeroizing<Vec<u8>> {
        let mut w = Writer::new();
        w.u8(if self.expiry.is_some() {
            VERSION_DATED
        } else {
            VERSION
        });
        self.gtin.write(&mut w);
        self.lot.write(&mut w);
        w.u64(self.first_index)
            .u64(self.count)
            .u32(self.epoch)
            .raw(self.unit_root.as_bytes())
            .raw(self.redemption_root.as_bytes());
        if let Some(expiry) = &self.expiry {
            w.text(expiry.date.as_str()).bool(expiry.in_links);
        }
        let (head, keys) = (w.into_bytes(), keys.to_secret_bytes());
        let mut out = Zeroizing::new(Vec::with_capacity(head.len() + keys.len()));
        out.extend_from_slice(&head);
        out.extend_from_slice(&keys);
        out
    }

    /// Reads [`Self::to_secret_bytes`]; the error says what is wrong.
    pub(super) fn from_secret_bytes(
        owner: &MemberId,
        bytes: &[u8],
    ) -> Result<(Self, BatchKeys), String> {
        let mut r = Reader::new(bytes);
        let meta = Self::read(owner, &mut r).map_err(|e| e.to_string())?;
        let keys = bytes.get(bytes.len() - r.left()..).unwrap_or_default();
        let keys = BatchKeys::from_secret_bytes(keys).map_err(|e| e.to_string())?;
        meta.spec().map_err(|e| e.to_string())?;
        Ok((meta, keys))
    }

    fn read(owner: &MemberId, r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let version = r.u8("batch file version")?;
        if !matches!(version, VERSION | VERSION_DATED) {
            return Err(CodecError::Invalid {
                what: "batch file version",
                found: version.into(),
            });
        }
        let (gtin, lot) = (Gtin::read(r)?, Lot::read(r)?);
        let first_index = r.u64("first index")?;
        Ok(Self {
            id: batch_id(owner, &gtin, &lot, first_index),
            gtin,
            lot,
            first_index,
            count: r.u64("count")?,
            epoch: r.u32("key epoch")?,
            unit_root: Hash(r.array("unit root")?),
            redemption_root: Hash(r.array("redemption root")?),
            expiry: match version {
                VERSION_DATED => Some(Expiry {
                    date: r
                        .text("expiry date", 6)?
                        .parse()
                        .map_err(|_| CodecError::Text {
                            what: "expiry date",
                        })?,
                    in_links: r.bool("expiry date in links")?,
                }),
                _ => None,
            },
        })
    }

    pub(super) const fn key_epoch(&self) -> KeyEpoch {
        KeyEpoch(self.epoch)
    }

    /// Whether the ledger's batch is this one.
    pub(super) fn is(&self, anchored: &super::AnchoredBatch) -> bool {
        self.first_index == anchored.first_index
            && self.count == anchored.count
            && self.unit_root == anchored.unit_root
            && self.redemption_root == anchored.redemption_root
            && self.expires() == anchored.expires
    }
}

/// What is wrong with a stored batch, as an error.
pub(super) fn damaged(path: &std::path::Path, what: impl Into<String>) -> IssuerError {
    IssuerError::Damaged {
        path: path.into(),
        what: what.into(),
    }
}

/// A stored batch as bytes, for [`crate::fuzzing`].
pub(crate) fn encode_batch(meta: &BatchMeta, keys: &BatchKeys) -> Vec<u8> {
    meta.to_secret_bytes(keys).to_vec()
}

/// A stored batch, read and written again, for [`crate::fuzzing`]; `None` if it is refused.
pub(crate) fn recode_batch(bytes: &[u8]) -> Option<Vec<u8>> {
    let (meta, keys) = BatchMeta::from_secret_bytes(&MemberId([1; 16]), bytes).ok()?;
    Some(encode_batch(&meta, &keys))
}
