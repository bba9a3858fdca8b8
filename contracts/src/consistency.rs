//! RFC 9162 2.1.4.2, behind one function.

use tally_merkle::{Hash, node_hash};

/// Whether `proof` shows that the tree of `new_size` leaves starts with the tree of `old_size`; 0 < old < new.
pub(crate) fn extends(
    old_size: u64,
    new_size: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> bool {
    if old_size == 0 || old_size >= new_size || proof.is_empty() {
        return false;
    }
    let (mut f, mut s) = (old_size - 1, new_size - 1);
    let mut path = proof.iter();
    while f & 1 == 1 {
        f >>= 1;
        s >>= 1;
    }
    let first = if old_size.is_power_of_two() {
        Some(old_root)
    } else {
        path.next()
    };
    let Some(first) = first else { return false };
    let (mut from, mut to) = (*first, *first);
    for hash in path {
        if s == 0 {
            return false;
        }
        if f & 1 == 1 || f == s {
            from = node_hash(hash, &from);
            to = node_hash(hash, &to);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            to = node_hash(&to, hash);
        }
        f >>= 1;
        s >>= 1;
    }
    s == 0 && from == *old_root && to == *new_root
}
