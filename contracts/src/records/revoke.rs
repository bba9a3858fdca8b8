//! Codes of a batch that are withdrawn one by one: labels that the printer wasted, packs that were lost.

use std::fmt;

use super::BODY_VERSION;
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::ids::BatchId;

/// Leaves of a batch's unit tree that one part of its void list is of.
pub const REVOKED_PART_LEAVES: u64 = 2048;
/// The most parts of one record: 62,400 bytes.
pub const MAX_REVOKED_PARTS: usize = 240;

const BYTES: usize = 256;

/// Which of 2,048 leaves in a row are void: leaf `n` is bit `7 - n % 8` of byte `n / 8`.
#[derive(Clone, PartialEq, Eq)]
pub struct RevokedLeaves(Box<[u8; BYTES]>);

impl Default for RevokedLeaves {
    fn default() -> Self {
        Self(Box::new([0; BYTES]))
    }
}

impl RevokedLeaves {
    const fn place(leaf: u64) -> (usize, u8) {
        let at = leaf % REVOKED_PART_LEAVES;
        // Below 256.
        ((at / 8) as usize, 0x80 >> (at % 8))
    }

    /// Whether a leaf of the batch, counted from the batch's first, is void. The part must be the leaf's.
    #[must_use]
    pub fn contains(&self, leaf: u64) -> bool {
        let (byte, bit) = Self::place(leaf);
        self.0.get(byte).is_some_and(|b| b & bit != 0)
    }

    /// Adds a leaf of this part.
    pub fn insert(&mut self, leaf: u64) {
        let (byte, bit) = Self::place(leaf);
        if let Some(b) = self.0.get_mut(byte) {
            *b |= bit;
        }
    }

    /// Adds the leaves of `other`.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0.iter()) {
            *mine |= theirs;
        }
    }

    /// How many leaves are void, at most 2,048.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|b| u64::from(b.count_ones())).sum()
    }

    /// The last void leaf, counted from the part's first.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        (0..REVOKED_PART_LEAVES).rev().find(|n| self.contains(*n))
    }
}

impl fmt::Debug for RevokedLeaves {
    /// The void leaves, counted from the part's first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..REVOKED_PART_LEAVES).filter(|n| self.contains(*n)))
            .finish()
    }
}

impl Canonical for RevokedLeaves {
    fn write(&self, w: &mut Writer) {
        w.raw(self.0.as_slice());
    }

    /// 256 bytes, not all zero.
    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let leaves = Self(Box::new(r.array("void leaves")?));
        if leaves.count() == 0 {
            return Err(CodecError::Invalid {
                what: "number of void leaves",
                found: 0,
            });
        }
        Ok(leaves)
    }
}

/// A part of a batch's void list: leaves `2,048 * number` and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedPart {
    /// Its number, from 0.
    pub number: u32,
    /// What is void there.
    pub leaves: RevokedLeaves,
}

impl RevokedPart {
    /// The part that a leaf of a batch belongs to; a batch has at most 2^32 leaves, so at most 2^21 parts.
    #[must_use]
    pub fn number_of(leaf: u64) -> u32 {
        u32::try_from(leaf / REVOKED_PART_LEAVES).unwrap_or(u32::MAX)
    }

    /// The last leaf of the batch that it names.
    #[must_use]
    pub fn last_leaf(&self) -> u64 {
        u64::from(self.number)
            .saturating_mul(REVOKED_PART_LEAVES)
            .saturating_add(self.leaves.last().unwrap_or_default())
    }
}

impl Canonical for RevokedPart {
    fn write(&self, w: &mut Writer) {
        w.u32(self.number);
        self.leaves.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            number: r.u32("part of the void list")?,
            leaves: RevokedLeaves::read(r)?,
        })
    }
}

/// Kind 5: withdraws single codes of a batch, for ever. Signed by a record key of its owner.
///
/// A code is named by the place of its leaf in the batch's unit tree, which is in a keyed order and stands in every proof of the
/// code: so the record shows nothing of the order of production, nor of any code. It is written as large as what it makes of the
/// state, so that a small record cannot cause much work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeCodes {
    /// The batch.
    pub batch: BatchId,
    /// 1 to 240 parts, ascending by number. What was void before may be named again.
    pub parts: Vec<RevokedPart>,
}

impl Canonical for RevokeCodes {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION).raw(&self.batch.0);
        w.list(&self.parts, |w, part| part.write(w));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        let batch = BatchId(r.array("batch ID")?);
        let parts: Vec<RevokedPart> = r.list(
            "parts of the void list",
            MAX_REVOKED_PARTS,
            RevokedPart::read,
        )?;
        if parts.is_empty() {
            return Err(CodecError::Invalid {
                what: "number of parts of the void list",
                found: 0,
            });
        }
        for two in parts.windows(2) {
            if let [a, b] = two
                && a.number >= b.number
            {
                return Err(CodecError::Invalid {
                    what: "order of the parts of the void list",
                    found: b.number.into(),
                });
            }
        }
        Ok(Self { batch, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_where_they_are_said_to_be() {
        let mut leaves = RevokedLeaves::default();
        for leaf in [0, 9, 2047, 2048 * 7 + 100] {
            assert!(!leaves.contains(leaf));
            leaves.insert(leaf);
            assert!(leaves.contains(leaf));
        }
        assert_eq!((leaves.count(), leaves.last()), (4, Some(2047)));
        let bytes = leaves.to_bytes();
        assert_eq!(
            (bytes[0], bytes[1], bytes[12], bytes[255]),
            (0x80, 0x40, 0x08, 1)
        );
        let part = RevokedPart { number: 3, leaves };
        assert_eq!(part.last_leaf(), 4 * 2048 - 1);
        assert_eq!(RevokedPart::number_of(part.last_leaf()), 3);
        assert_eq!(RevokedPart::number_of((1 << 32) - 1), (1 << 21) - 1);
        assert!(RevokedLeaves::from_bytes(&[0; 256]).is_err());
    }

    #[test]
    fn a_full_record_fits() {
        let mut leaves = RevokedLeaves::default();
        leaves.insert(5);
        let part = |number| RevokedPart {
            number,
            leaves: leaves.clone(),
        };
        let of = |numbers: Vec<u32>| RevokeCodes {
            batch: BatchId([1; 16]),
            parts: numbers.into_iter().map(part).collect(),
        };
        let read = |body: &RevokeCodes| RevokeCodes::from_bytes(&body.to_bytes()).is_ok();
        let full = of((0..240).collect());
        assert!(read(&full));
        // Room for the envelope of a record with one signer.
        assert!(full.to_bytes().len() < 65_535 - 1_024);
        for bad in [vec![], vec![1, 1], vec![2, 1], (0..241).collect()] {
            assert!(!read(&of(bad)));
        }
    }
}
