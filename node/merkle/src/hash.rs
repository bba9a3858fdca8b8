//! RFC 6962 hashing: SHA-256 with the leaf and node prefixes.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::sha256::Message;

/// A SHA-256 hash in a tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// SHA-256(0x00 || entry): the hash of a leaf (RFC 6962 2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([0])
            .chain_update(entry)
            .finalize()
            .into(),
    )
}

/// SHA-256(0x01 || left || right): the hash of an inner node (RFC 6962 2.1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([1])
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// 0x01 and two hashes.
const NODE: Message<2> = Message::new(&[1], 65);

/// The level above `level` in a tree of RFC 6962; a last node without a sibling stands for itself. Pairs of nodes are hashed side
/// by side.
#[must_use]
pub fn parents(level: &[Hash]) -> Vec<Hash> {
    let mut out = Vec::with_capacity(level.len().div_ceil(2));
    let (fours, rest) = level.as_chunks::<4>();
    let (mut first, mut second) = (NODE, NODE);
    for [a, b, c, d] in fours {
        first.put::<1, 32>(&a.0);
        first.put::<33, 32>(&b.0);
        second.put::<1, 32>(&c.0);
        second.put::<33, 32>(&d.0);
        out.extend(Message::hash_pair(&first, &second));
    }
    for pair in rest.chunks(2) {
        match pair {
            [left, right] => out.push(node_hash(left, right)),
            [alone] => out.push(*alone),
            _ => {}
        }
    }
    out
}

/// SHA-256 of nothing: the root of the empty tree.
#[must_use]
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}
