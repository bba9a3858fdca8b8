//! Strict verifiers of RFC 9162: a proof with one hash too few or too many is refused.

use crate::{Error, Hash, node_hash};

/// The most hashes that a proof in a tree of 64-bit size can have.
pub const MAX_PROOF_HASHES: usize = 64;

/// Shows that `leaf` is entry `index` of the tree of `size` leaves with `root` (RFC 9162 2.1.3.2). `proof` is leaf side first.
///
/// # Errors
/// [`Error::OutOfRange`], [`Error::ProofLength`], [`Error::Root`].
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), Error> {
    const WHAT: &str = "inclusion";
    if index >= size {
        return Err(Error::OutOfRange {
            what: "leaf index",
            found: index,
            size,
        });
    }
    let (mut f, mut s, mut r) = (index, size - 1, *leaf);
    for p in proof {
        if s == 0 {
            return Err(Error::ProofLength {
                what: WHAT,
                found: proof.len(),
            });
        }
        if f & 1 == 1 || f == s {
            r = node_hash(p, &r);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            r = node_hash(&r, p);
        }
        f >>= 1;
        s >>= 1;
    }
    if s != 0 {
        return Err(Error::ProofLength {
            what: WHAT,
            found: proof.len(),
        });
    }
    if r == *root {
        Ok(())
    } else {
        Err(Error::Root { what: WHAT })
    }
}

/// Shows that the tree of `new_size` leaves starts with the tree of `old_size` (RFC 9162 2.1.4.2). Equal sizes need an empty
/// proof and equal roots; an old size of 0 is refused, because it proves nothing.
///
/// # Errors
/// [`Error::ConsistencySizes`], [`Error::ProofLength`], [`Error::Root`].
pub fn verify_consistency(
    old_size: u64,
    new_size: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), Error> {
    const WHAT: &str = "consistency";
    let length = || Error::ProofLength {
        what: WHAT,
        found: proof.len(),
    };
    if old_size == 0 || old_size > new_size {
        return Err(Error::ConsistencySizes {
            old: old_size,
            new: new_size,
        });
    }
    if old_size == new_size {
        return match (proof.is_empty(), old_root == new_root) {
            (false, _) => Err(length()),
            (true, false) => Err(Error::Root { what: WHAT }),
            (true, true) => Ok(()),
        };
    }
    if proof.is_empty() {
        return Err(length());
    }
    let (mut f, mut s) = (old_size - 1, new_size - 1);
    while f & 1 == 1 {
        f >>= 1;
        s >>= 1;
    }
    let mut path = proof.iter();
    let first = if old_size.is_power_of_two() {
        old_root
    } else {
        path.next().ok_or_else(length)?
    };
    let (mut from, mut to) = (*first, *first);
    for c in path {
        if s == 0 {
            return Err(length());
        }
        if f & 1 == 1 || f == s {
            from = node_hash(c, &from);
            to = node_hash(c, &to);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            to = node_hash(&to, c);
        }
        f >>= 1;
        s >>= 1;
    }
    if s != 0 {
        return Err(length());
    }
    if from == *old_root && to == *new_root {
        Ok(())
    } else {
        Err(Error::Root { what: WHAT })
    }
}
