//! The own side's IDs: kept in blocks that are wiped, without any way to print them.

use std::hash::{BuildHasher, RandomState};

use rand_core::CryptoRngCore;
use rayon::prelude::*;

use crate::Error;
use crate::messages::Role;
use crate::simd::wipe;
use crate::sort::sort_uniform;

/// Longest value of an item, in bytes.
pub const MAX_VALUE_BYTES: usize = 512;
/// Bytes a block holds; blocks are never grown, since growing leaves an unwiped copy behind.
const BLOCK_BYTES: usize = 1 << 20;

/// The number of an ID type (phone, email, ...), fixed by the agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdType(pub u8);

/// The number of a normalisation profile, fixed by the agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile(pub u8);

/// Values end to end, wiped when dropped. It never grows past what it was made for, so no copy is left elsewhere.
struct Block(Vec<u8>);

impl Drop for Block {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

#[derive(Clone, Copy)]
struct Place {
    block: u32,
    offset: u32,
    row: u32,
}

/// Collects item values of one ID type and profile.
pub struct ItemSetBuilder {
    id_type: IdType,
    profile: Profile,
    blocks: Vec<Block>,
    places: Vec<Place>,
}

impl ItemSetBuilder {
    /// Nothing collected yet.
    #[must_use]
    pub const fn new(id_type: IdType, profile: Profile) -> Self {
        Self {
            id_type,
            profile,
            blocks: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Adds a normalised value; its row is the number of values pushed before.
    ///
    /// # Errors
    /// [`Error::Item`] unless it has 1 to [`MAX_VALUE_BYTES`] bytes; [`Error::TooLong`] past 2^32 - 1 values.
    pub fn push(&mut self, value: &[u8]) -> Result<(), Error> {
        if value.is_empty() || value.len() > MAX_VALUE_BYTES {
            return Err(Error::Item {
                found: value.len(),
                max: MAX_VALUE_BYTES,
            });
        }
        let full = Error::TooLong {
            what: "item set",
            found: self.places.len() as u64,
            max: u64::from(u32::MAX),
        };
        let needed = value.len() + 2;
        if self
            .blocks
            .last()
            .is_none_or(|b| b.0.len() + needed > BLOCK_BYTES)
        {
            self.blocks.push(Block(Vec::with_capacity(BLOCK_BYTES)));
        }
        let (Ok(block), Ok(row), Ok(len)) = (
            u32::try_from(self.blocks.len() - 1),
            u32::try_from(self.places.len()),
            u16::try_from(value.len()),
        ) else {
            return Err(full);
        };
        let Some(Block(bytes)) = self.blocks.last_mut() else {
            return Err(Error::Internal { what: "no block" });
        };
        let offset = u32::try_from(bytes.len()).map_err(|_| full)?;
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(value);
        self.places.push(Place { block, offset, row });
        Ok(())
    }

    /// The set: repeated values keep their first row, the order of the rest stays. O(n log n) on all cores.
    ///
    /// # Errors
    /// [`Error::Internal`] alone.
    pub fn finish(self) -> Result<ItemSet, Error> {
        let Self {
            id_type,
            profile,
            blocks,
            mut places,
        } = self;
        // Equal values meet under equal hashes, whose key is drawn for this set: nobody can choose values that collide.
        let hash = RandomState::new();
        let hashes: Vec<u128> = places
            .par_iter()
            .map(|p| {
                let hash = hash.hash_one(slice(&blocks, *p));
                u128::from(hash) << 64 | u128::from(p.row)
            })
            .collect();
        let hashes = sort_uniform(hashes);
        let value = |number: u128| {
            // The low half is a row, which is its place's number until rows are left out.
            usize::try_from(number & u128::from(u32::MAX))
                .ok()
                .and_then(|row| places.get(row))
                .and_then(|p| slice(&blocks, *p))
        };
        let mut repeated = Vec::new();
        for same in hashes
            .chunk_by(|a, b| a >> 64 == b >> 64)
            .filter(|s| s.len() > 1)
        {
            let mut same: Vec<_> = same.iter().map(|n| (value(*n), *n)).collect();
            // By value, then by row.
            same.sort_unstable();
            for pair in same.windows(2) {
                if pair[0].0 == pair[1].0 {
                    repeated.push(pair[1].1 & u128::from(u32::MAX));
                }
            }
        }
        repeated.sort_unstable();
        let mut next = repeated.iter().peekable();
        places.retain(|p| next.next_if(|row| **row == u128::from(p.row)).is_none());
        places.shrink_to_fit();
        Ok(ItemSet {
            duplicates: repeated.len() as u64,
            items: places.len(),
            filler_of: 0,
            id_type,
            profile,
            blocks,
            places,
        })
    }
}

/// Distinct items of one ID type and profile. Secret: no `Debug`, no `Display`, wiped when dropped.
pub struct ItemSet {
    id_type: IdType,
    profile: Profile,
    blocks: Vec<Block>,
    places: Vec<Place>,
    duplicates: u64,
    /// Items; the places behind them are fillers.
    items: usize,
    /// Whose fillers they are.
    filler_of: u8,
}

/// First byte of a filler's message. Then the side's number and a zero: a filler of one side is never one of the other's.
const FILLER: u8 = 3;

impl ItemSet {
    /// Fills the set up to `len` with random elements of a domain of their own, which match nothing: not even what the other side fills
    /// its set up with.
    pub(crate) fn fill(
        &mut self,
        len: usize,
        role: Role,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(), Error> {
        if self.items != self.places.len() || self.items > len {
            return Err(Error::Internal {
                what: "a set that is filled already",
            });
        }
        self.filler_of = role.number();
        const BYTES: usize = 2 + 32;
        while self.places.len() < len {
            let n = (len - self.places.len()).min(BLOCK_BYTES / BYTES);
            let mut block = Block(Vec::with_capacity(n * BYTES));
            let number = u32::try_from(self.blocks.len());
            for i in 0..n {
                let mut value = [0; BYTES];
                value[1] = 32;
                rng.fill_bytes(&mut value[2..]);
                let (Ok(block_number), Ok(offset)) = (number, u32::try_from(i * BYTES)) else {
                    return Err(Error::Internal {
                        what: "filler place",
                    });
                };
                block.0.extend_from_slice(&value);
                self.places.push(Place {
                    block: block_number,
                    offset,
                    row: u32::MAX,
                });
            }
            self.blocks.push(block);
        }
        Ok(())
    }

    /// How many distinct items, and fillers where there are some.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many pushed values were repeated and left out.
    #[must_use]
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The row of every item, in order, [`u32::MAX`] for a filler; the values are wiped.
    pub(crate) fn into_rows(self) -> Vec<u32> {
        self.places.iter().map(|p| p.row).collect()
    }

    /// The row under which item `index` was first pushed.
    pub(crate) fn row(&self, index: usize) -> Option<u64> {
        self.places.get(index).map(|p| p.row.into())
    }

    /// The message that is hashed for item `index`, in two parts: 0x00 || ID type || profile, then length || value; for a filler
    /// 0x03 || side || 0x00, then the same of its random value.
    pub(crate) fn message(&self, index: usize) -> Option<([u8; 3], &[u8])> {
        let place = *self.places.get(index)?;
        let head = if index < self.items {
            [0, self.id_type.0, self.profile.0]
        } else {
            [FILLER, self.filler_of, 0]
        };
        Some((head, slice(&self.blocks, place)?))
    }
}

/// Length and value at a place.
fn slice(blocks: &[Block], place: Place) -> Option<&[u8]> {
    let bytes = blocks
        .get(place.block as usize)?
        .0
        .get(place.offset as usize..)?;
    let (len, _) = bytes.split_first_chunk::<2>()?;
    bytes.get(..2 + usize::from(u16::from_be_bytes(*len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&[u8]]) -> ItemSet {
        let mut b = ItemSetBuilder::new(IdType(3), Profile(4));
        for v in values {
            b.push(v).unwrap();
        }
        b.finish().unwrap()
    }

    #[test]
    fn messages_are_framed_and_repeats_keep_the_first_row() {
        let s = set(&[b"zz", b"a", b"zz", b"b", b"a"]);
        assert_eq!((s.len(), s.duplicates()), (3, 2));
        assert_eq!(
            (0..3).map(|i| s.row(i).unwrap()).collect::<Vec<_>>(),
            [0, 1, 3]
        );
        // Many repeats of few values, and the bound between the two ways of sorting.
        let many: Vec<Vec<u8>> = (0..10_000_u32)
            .map(|i| (i * i % 977).to_string().into_bytes())
            .collect();
        let borrowed: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        let mut seen = std::collections::HashSet::new();
        let first: Vec<u32> = (0..10_000)
            .filter(|i| seen.insert(&many[*i as usize]))
            .collect();
        let m = set(&borrowed);
        assert_eq!(
            (m.len(), m.duplicates()),
            (first.len(), 10_000 - first.len() as u64)
        );
        assert_eq!(m.into_rows(), first);
        let mut filled = set(&[b"a", b"b"]);
        let mut rng = crate::SeedRng::new(&[1; 32]);
        filled.fill(50_000, Role::Responder, &mut rng).unwrap();
        assert_eq!(filled.len(), 50_000);
        let (head, first_filler) = filled.message(2).unwrap();
        assert_eq!((head, first_filler.len()), ([3, 2, 0], 34));
        assert_eq!(filled.message(1).unwrap().0, [0, 3, 4]);
        assert_ne!(filled.message(49_999).unwrap().1, first_filler);
        assert!(filled.fill(60_000, Role::Responder, &mut rng).is_err());
        let rows = filled.into_rows();
        assert_eq!(rows[..3], [0, 1, u32::MAX]);
        assert_eq!(s.message(0), Some(([0, 3, 4], &b"\x00\x02zz"[..])));
        assert_eq!(s.message(2), Some(([0, 3, 4], &b"\x00\x01b"[..])));
        assert_eq!(s.message(3), None);
    }

    #[test]
    fn lengths_are_bounded_and_blocks_roll_over() {
        let mut b = ItemSetBuilder::new(IdType(1), Profile(1));
        assert!(matches!(b.push(b""), Err(Error::Item { found: 0, .. })));
        assert!(b.push(&[1; MAX_VALUE_BYTES + 1]).is_err());
        for i in 0..5000_u32 {
            let mut v = [7; MAX_VALUE_BYTES];
            v[..4].copy_from_slice(&i.to_be_bytes());
            b.push(&v).unwrap();
        }
        let s = b.finish().unwrap();
        assert_eq!(s.len(), 5000);
        assert!(s.blocks.len() > 1 && s.blocks.iter().all(|b| b.0.capacity() == BLOCK_BYTES));
        let (_, m) = s.message(4999).unwrap();
        assert_eq!(m[2..6], 4999_u32.to_be_bytes());
    }
}
