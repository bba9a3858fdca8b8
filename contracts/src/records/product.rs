//! Products and batches of unit codes.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use tally_merkle::Hash;

use super::BODY_VERSION;
use super::expiry::{ExpiryDate, read_expiry, write_expiry};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::domains;
use crate::ids::{BatchId, MemberId, head};

/// Longest description or brand name, in bytes.
pub const MAX_DESCRIPTION: usize = 256;
/// Longest lot, in characters of GS1's set 82.
pub const MAX_LOT: usize = 20;
/// Longest reason of a recall, in bytes.
pub const MAX_REASON: usize = 256;
/// Bits of a unit's index within its issuer.
pub const INDEX_BITS: u32 = 36;
/// The most units of one batch.
pub const MAX_BATCH_COUNT: u64 = 1 << 32;

/// Text that is not a GTIN, lot or date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTradeError {
    /// Not 14 digits.
    #[error("expected a GTIN of 14 digits, found {found:?}")]
    GtinForm {
        /// The text.
        found: String,
    },
    /// The last digit is not the check digit.
    #[error("GTIN {found}: check digit is {digit}, expected {expected}")]
    GtinCheckDigit {
        /// The text.
        found: String,
        /// What it ends in.
        digit: u8,
        /// What it should end in.
        expected: u8,
    },
    /// Not 1 to 20 characters of GS1's set 82.
    #[error("expected a lot of 1 to 20 characters of GS1 set 82, found {found:?}")]
    Lot {
        /// The text.
        found: String,
    },
    /// Not a date.
    #[error("expected a date YYMMDD, found {found:?}")]
    Date {
        /// The text.
        found: String,
    },
    /// Not a day or month of a calendar.
    #[error(
        "expected a date YYYY-MM-DD, or YYYY-MM for the end of the month, in 2000 to 2075, found {found:?}"
    )]
    CalendarDate {
        /// The text.
        found: String,
    },
}

/// A GTIN-14 with a right check digit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtin([u8; 14]);

impl Gtin {
    /// The 14 ASCII digits.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 14] {
        &self.0
    }

    /// The digits as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Gtin {
    type Err = ParseTradeError;

    /// Reads 14 digits; GS1 General Specifications 7.9 for the check digit.
    fn from_str(text: &str) -> Result<Self, ParseTradeError> {
        let form = || ParseTradeError::GtinForm {
            found: text.chars().take(32).collect(),
        };
        let digits: [u8; 14] = text.as_bytes().try_into().map_err(|_| form())?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(form());
        }
        let [body @ .., last] = digits;
        let sum: u32 = body
            .iter()
            .rev()
            .zip([3, 1].into_iter().cycle())
            .map(|(d, weight)| u32::from(d - b'0') * weight)
            .sum();
        let expected = u8::try_from((10 - sum % 10) % 10).unwrap_or_default();
        let digit = last - b'0';
        if digit == expected {
            Ok(Self(digits))
        } else {
            Err(ParseTradeError::GtinCheckDigit {
                found: text.to_owned(),
                digit,
                expected,
            })
        }
    }
}

impl fmt::Display for Gtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Gtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gtin({self})")
    }
}

impl Canonical for Gtin {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let digits = r.raw("GTIN", 14)?;
        std::str::from_utf8(digits)
            .ok()
            .and_then(|t| t.parse().ok())
            .ok_or(CodecError::Text { what: "GTIN" })
    }
}

/// A lot: 1 to 20 characters of GS1's set 82.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lot(String);

impl Lot {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Lot {
    type Err = ParseTradeError;

    fn from_str(text: &str) -> Result<Self, ParseTradeError> {
        let in_set = |b: u8| b.is_ascii_alphanumeric() || b"!\"%&'()*+,-./:;<=>?_".contains(&b);
        if (1..=MAX_LOT).contains(&text.len()) && text.bytes().all(in_set) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseTradeError::Lot {
                found: text.chars().take(32).collect(),
            })
        }
    }
}

impl fmt::Display for Lot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Lot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lot({:?})", self.0)
    }
}

impl Canonical for Lot {
    fn write(&self, w: &mut Writer) {
        w.text(&self.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.text("lot", MAX_LOT)?
            .parse()
            .map_err(|_| CodecError::Text { what: "lot" })
    }
}

/// Reads text that may not be empty.
pub(crate) fn non_empty(
    r: &mut Reader<'_>,
    what: &'static str,
    max: usize,
) -> Result<String, CodecError> {
    let text = r.text(what, max)?;
    if text.trim().is_empty() {
        return Err(CodecError::Text { what });
    }
    Ok(text)
}

/// Kind 1: a GTIN, which has one owner for ever. Signed by a record key of a brand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterProduct {
    /// The GTIN.
    pub gtin: Gtin,
    /// What the product is, 1 to 256 bytes.
    pub description: String,
    /// Its brand name, 1 to 256 bytes.
    pub brand: String,
}

impl Canonical for RegisterProduct {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION);
        self.gtin.write(w);
        w.text(&self.description).text(&self.brand);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            gtin: Gtin::read(r)?,
            description: non_empty(r, "description", MAX_DESCRIPTION)?,
            brand: non_empty(r, "brand name", MAX_DESCRIPTION)?,
        })
    }
}

/// Kind 2: a batch of unit codes, complete and fixed. Signed by a record key of the GTIN's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueBatch {
    /// The product.
    pub gtin: Gtin,
    /// The lot.
    pub lot: Lot,
    /// Index of its first unit within its issuer: the end of the issuer's last batch, 0 for its first.
    pub first_index: u64,
    /// Units, 1 to 2^32; `first_index + count` is at most 2^36.
    pub count: u64,
    /// Root of the tree of unit codes.
    pub unit_root: Hash,
    /// Root of the tree of redemption nullifiers.
    pub redemption_root: Hash,
    /// The last day on which the units are good.
    pub expires: Option<ExpiryDate>,
}

impl IssueBatch {
    /// The batch's ID under its owner.
    #[must_use]
    pub fn id(&self, owner: &MemberId) -> BatchId {
        batch_id(owner, &self.gtin, &self.lot, self.first_index)
    }
}

/// First 16 bytes of SHA-256(`tally/batch-id/v1` LF || owner || GTIN || u32 length and lot || first index).
#[must_use]
pub fn batch_id(owner: &MemberId, gtin: &Gtin, lot: &Lot, first_index: u64) -> BatchId {
    let mut w = Writer::new();
    gtin.write(w.raw(domains::BATCH_ID).raw(&owner.0));
    lot.write(&mut w);
    w.u64(first_index);
    BatchId(head(&Sha256::digest(w.into_bytes()).into()))
}

impl Canonical for IssueBatch {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION);
        self.gtin.write(w);
        self.lot.write(w);
        w.u64(self.first_index)
            .u64(self.count)
            .raw(self.unit_root.as_bytes())
            .raw(self.redemption_root.as_bytes());
        write_expiry(w, self.expires.as_ref());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        let (gtin, lot) = (Gtin::read(r)?, Lot::read(r)?);
        let first_index = r.u64("first index")?;
        let count = r.u64("count")?;
        let in_range = (1..=MAX_BATCH_COUNT).contains(&count)
            && first_index
                .checked_add(count)
                .is_some_and(|end| end <= 1 << INDEX_BITS);
        if !in_range {
            return Err(CodecError::Invalid {
                what: "count",
                found: count,
            });
        }
        Ok(Self {
            gtin,
            lot,
            first_index,
            count,
            unit_root: Hash(r.array("unit root")?),
            redemption_root: Hash(r.array("redemption root")?),
            expires: read_expiry(r)?,
        })
    }
}

/// Kind 3: releases an issued batch for sale. Signed by a record key of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivateBatch {
    /// The batch.
    pub batch: BatchId,
}

impl Canonical for ActivateBatch {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION).raw(&self.batch.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            batch: BatchId(r.array("batch ID")?),
        })
    }
}

/// Kind 4: recalls an issued or active batch, for ever. Signed by a record key of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallBatch {
    /// The batch.
    pub batch: BatchId,
    /// Why, for the public; 1 to 256 bytes.
    pub reason: String,
}

impl Canonical for RecallBatch {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION).raw(&self.batch.0).text(&self.reason);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            batch: BatchId(r.array("batch ID")?),
            reason: non_empty(r, "reason", MAX_REASON)?,
        })
    }
}
