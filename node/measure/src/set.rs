//! The salted commitment to a set of people.
//!
//! Each person has a random salt of 16 bytes for one epoch. The leaves of an RFC 6962 tree are
//! salt || u16 ID type || u16 profile || value, ascending by leaf hash, so that the order says nothing about the values; without the
//! salts a leaf cannot be guessed, and a person is erased by deleting one salt. What the ledger holds hides root and size as
//! well: SHA-256(`tally/audience-commitment/v1` LF || salt[32] || u64 size || root), opened to the peer alone.

use rand_core::CryptoRngCore;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
pub use tally_contracts::domains::AUDIENCE_COMMITMENT;
use tally_contracts::records::{Profile, size_bucket};
use tally_merkle::{Hash, empty_root, leaf_hash, node_hash};
use zeroize::Zeroizing;

use crate::{Error, Identifier, MAX_IDENTIFIER_BYTES};

/// Length of a person's salt.
pub const SALT_BYTES: usize = 16;
/// The most people in one set.
pub const MAX_SET_SIZE: usize = 1 << 28;

/// A person in a set. Secret: no text form; the ID is wiped when dropped.
#[derive(Clone)]
pub struct SaltedEntry {
    /// Random, stored, never derived.
    pub salt: [u8; SALT_BYTES],
    /// Who.
    pub id: Identifier,
}

impl SaltedEntry {
    /// The RFC 6962 leaf hash of this person in a set of `profile`.
    #[must_use]
    pub fn leaf(&self, profile: Profile) -> Hash {
        let value = self.id.as_bytes();
        let mut leaf = Zeroizing::new(Vec::with_capacity(SALT_BYTES + 4 + MAX_IDENTIFIER_BYTES));
        leaf.extend_from_slice(&self.salt);
        leaf.extend_from_slice(&profile.id_type().code().to_be_bytes());
        leaf.extend_from_slice(&profile.code().to_be_bytes());
        leaf.extend_from_slice(value);
        leaf_hash(&leaf)
    }
}

/// A frozen set of people in one profile, in its committed order.
pub struct SaltedSet {
    profile: Profile,
    entries: Vec<SaltedEntry>,
    root: Hash,
}

impl SaltedSet {
    /// Draws a salt for each person and commits to them all. Uses every core; about three hashes a person.
    ///
    /// # Errors
    /// [`Error::SetSize`] for more than [`MAX_SET_SIZE`].
    pub fn new(
        profile: Profile,
        ids: Vec<Identifier>,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Self, Error> {
        check_size(ids.len())?;
        let mut entries: Vec<_> = ids
            .into_iter()
            .map(|id| {
                let mut salt = [0; SALT_BYTES];
                rng.fill_bytes(&mut salt);
                SaltedEntry { salt, id }
            })
            .collect();
        entries.par_sort_by_cached_key(|entry| entry.leaf(profile).0);
        let leaves = entries.par_iter().map(|e| e.leaf(profile)).collect();
        Ok(Self {
            profile,
            entries,
            root: tree_root(leaves),
        })
    }

    /// Takes a stored set back, if it is in its committed order and gives the root.
    ///
    /// # Errors
    /// [`Error::SetRoot`], [`Error::SetSize`].
    pub fn from_entries(
        profile: Profile,
        entries: Vec<SaltedEntry>,
        root: &Hash,
    ) -> Result<Self, Error> {
        check_size(entries.len())?;
        let leaves: Vec<Hash> = entries.par_iter().map(|e| e.leaf(profile)).collect();
        if !leaves.is_sorted_by(|a, b| a < b) || tree_root(leaves) != *root {
            return Err(Error::SetRoot);
        }
        Ok(Self {
            profile,
            entries,
            root: *root,
        })
    }

    /// The form of its IDs.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// The people, in committed order.
    #[must_use]
    pub fn entries(&self) -> &[SaltedEntry] {
        &self.entries
    }

    /// How many people.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Root of the tree over the people; shown to the peer alone.
    #[must_use]
    pub const fn root(&self) -> &Hash {
        &self.root
    }

    /// The smallest `b` with `size <= 2^b`: what the ledger says of the size.
    #[must_use]
    pub fn size_bucket(&self) -> u8 {
        size_bucket(self.size())
    }

    /// An opening with a fresh salt; its commitment is what goes to the ledger.
    #[must_use]
    pub fn opening(&self, rng: &mut impl CryptoRngCore) -> SetOpening {
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        SetOpening {
            root: self.root,
            size: self.size(),
            salt,
        }
    }
}

pub(crate) const fn check_size(found: usize) -> Result<(), Error> {
    if found > MAX_SET_SIZE {
        return Err(Error::SetSize {
            found,
            max: MAX_SET_SIZE,
        });
    }
    Ok(())
}

/// Root of the RFC 6962 tree over leaf hashes: level by level, an odd last node moves up as it is (RFC 6962 2.1).
fn tree_root(mut level: Vec<Hash>) -> Hash {
    while level.len() > 1 {
        level = level
            .par_chunks(2)
            .with_min_len(1024)
            .filter_map(|pair| match pair {
                [left, right] => Some(node_hash(left, right)),
                [odd] => Some(*odd),
                _ => None,
            })
            .collect();
    }
    level.first().copied().unwrap_or_else(empty_root)
}

/// What opens a commitment. For the peer of a match, never for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetOpening {
    /// Root of the tree over the people.
    pub root: Hash,
    /// How many they are.
    pub size: u64,
    /// Keeps root and size from being guessed.
    pub salt: [u8; 32],
}

impl SetOpening {
    /// Length of its bytes.
    pub const LEN: usize = 72;

    /// SHA-256(`tally/audience-commitment/v1` LF || salt || u64 size || root): the root in `CommitAudience`.
    #[must_use]
    pub fn commitment(&self) -> Hash {
        Hash(
            Sha256::new()
                .chain_update(AUDIENCE_COMMITMENT)
                .chain_update(self.salt)
                .chain_update(self.size.to_be_bytes())
                .chain_update(self.root.as_bytes())
                .finalize()
                .into(),
        )
    }

    /// root || u64 size || salt.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let parts = self
            .root
            .as_bytes()
            .iter()
            .copied()
            .chain(self.size.to_be_bytes())
            .chain(self.salt);
        for (to, from) in out.iter_mut().zip(parts) {
            *to = from;
        }
        out
    }

    /// Takes the bytes of an opening, all of them.
    ///
    /// # Errors
    /// [`Error::Opening`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = || Error::Opening {
            expected: Self::LEN,
            found: bytes.len(),
        };
        let (root, rest) = bytes.split_first_chunk::<32>().ok_or_else(wrong)?;
        let (size, rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        Ok(Self {
            root: Hash(*root),
            size: u64::from_be_bytes(*size),
            salt: rest.try_into().map_err(|_| wrong())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;
    use tally_contracts::domains;

    use super::*;

    fn ids(n: u32) -> Vec<Identifier> {
        (0..n)
            .map(|i| Identifier::from_bytes(format!("+861300000{i:04}").as_bytes()).unwrap())
            .collect()
    }

    fn set(n: u32, seed: u64) -> SaltedSet {
        let profile = "e164".parse().unwrap();
        SaltedSet::new(profile, ids(n), &mut ChaCha20Rng::seed_from_u64(seed)).unwrap()
    }

    /// RFC 6962 2.1, written as the definition has it.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&definition(left), &definition(right))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962() {
        for n in (0..40).chain([1023, 1024, 1025, 3000]) {
            let set = set(n, 1);
            let leaves: Vec<_> = set
                .entries()
                .iter()
                .map(|e| e.leaf(set.profile()))
                .collect();
            assert_eq!(*set.root(), definition(&leaves), "{n}");
        }
    }

    #[test]
    fn the_leaf_bytes_are_fixed() {
        let entry = SaltedEntry {
            salt: [7; 16],
            id: Identifier::from_bytes(b"+12125550143").unwrap(),
        };
        let mut expected = vec![7; 16];
        expected.extend_from_slice(&[0, 2, 0, 0x11]);
        expected.extend_from_slice(b"+12125550143");
        assert_eq!(entry.leaf("e164".parse().unwrap()), leaf_hash(&expected));
        assert_ne!(entry.leaf("digits".parse().unwrap()), leaf_hash(&expected));
    }

    #[test]
    fn other_salts_give_another_root_and_order() {
        let (a, b) = (set(100, 1), set(100, 2));
        assert_ne!(a.root(), b.root());
        let order = |s: &SaltedSet| {
            s.entries()
                .iter()
                .map(|e| e.id.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        assert_ne!(order(&a), order(&b));
        assert_eq!(a.size_bucket(), 7);
    }

    #[test]
    fn a_stored_set_must_give_its_root() {
        let set = set(50, 1);
        let root = *set.root();
        let back = SaltedSet::from_entries(set.profile(), set.entries().to_vec(), &root);
        assert!(back.is_ok_and(|b| b.size() == 50));
        let mut swapped = set.entries().to_vec();
        swapped.swap(0, 1);
        let mut changed = set.entries().to_vec();
        changed[3].salt[0] ^= 1;
        let mut short = set.entries().to_vec();
        short.pop();
        for bad in [swapped, changed, short] {
            assert!(matches!(
                SaltedSet::from_entries(set.profile(), bad, &root),
                Err(Error::SetRoot)
            ));
        }
        let other =
            SaltedSet::from_entries("digits".parse().unwrap(), set.entries().to_vec(), &root);
        assert!(matches!(other, Err(Error::SetRoot)));
    }

    #[test]
    fn an_opening_binds_root_size_and_salt() {
        let opening = set(50, 1).opening(&mut ChaCha20Rng::seed_from_u64(3));
        assert_eq!(
            SetOpening::from_bytes(&opening.to_bytes()).unwrap(),
            opening
        );
        for i in 0..SetOpening::LEN {
            let mut bytes = opening.to_bytes();
            bytes[i] ^= 1;
            assert_ne!(
                SetOpening::from_bytes(&bytes).unwrap().commitment(),
                opening.commitment()
            );
        }
        assert!(SetOpening::from_bytes(&opening.to_bytes()[1..]).is_err());
        for domain in domains::ALL {
            assert!(*domain == AUDIENCE_COMMITMENT || !domain.starts_with(AUDIENCE_COMMITMENT));
            assert!(*domain == AUDIENCE_COMMITMENT || !AUDIENCE_COMMITMENT.starts_with(domain));
        }
    }
}
