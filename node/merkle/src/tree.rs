//! Trees that grow: the right edge alone, a whole tree in memory, and proofs from any store of subtree hashes.

use crate::{Error, Hash, empty_root, node_hash};

/// The roots of the full subtrees that a tree consists of, largest first: all that is needed to append and to know the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            size: 0,
            peaks: Vec::new(),
        }
    }

    /// A tree of `size` leaves from its peaks, largest first.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the number of peaks is not the number of one bits in the size, or the size is over 2^62.
    pub fn from_peaks(size: u64, peaks: Vec<Hash>) -> Result<Self, Error> {
        // The bound keeps every later append and index free of overflow.
        if peaks.len() == size.count_ones() as usize && size <= 1 << 62 {
            Ok(Self { size, peaks })
        } else {
            Err(Error::malformed(
                "frontier",
                format!("{} peaks for size {size}", peaks.len()),
                "one peak for each bit set in the size",
            ))
        }
    }

    /// Leaves in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The peaks, largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf by its hash; amortised one hash.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root; O(log n) hashes.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.peaks)
    }
}

fn fold(peaks: &[Hash]) -> Hash {
    let mut peaks = peaks.iter().rev();
    let Some(first) = peaks.next() else {
        return empty_root();
    };
    peaks.fold(*first, |right, left| node_hash(left, &right))
}

/// A store of the hashes of full subtrees.
pub trait NodeSource {
    /// What reading can end in; it takes up the errors of proofs.
    type Error: From<Error>;

    /// The hash of the subtree of `2^level` leaves that starts at leaf `index * 2^level`.
    ///
    /// # Errors
    /// Whatever the store gives, also if the subtree is not full.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

impl<S: NodeSource + ?Sized> NodeSource for &S {
    type Error = S::Error;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        (**self).node(level, index)
    }
}

/// The root over the leaves `start..end`, whose start is a multiple of a power of two not less than the length.
fn range_root<S: NodeSource>(source: &S, start: u64, end: u64) -> Result<Hash, S::Error> {
    let mut peaks = Vec::new();
    let mut at = start;
    while at < end {
        let level =
            (63 - (end - at).leading_zeros()).min(if at == 0 { 63 } else { at.trailing_zeros() });
        peaks.push(source.node(u8::try_from(level).unwrap_or(63), at >> level)?);
        at += 1 << level;
    }
    Ok(fold(&peaks))
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// The source's.
pub fn root_at<S: NodeSource>(source: &S, size: u64) -> Result<Hash, S::Error> {
    range_root(source, 0, size)
}

/// The right edge of the tree of the first `size` leaves.
///
/// # Errors
/// The source's.
pub fn frontier_at<S: NodeSource>(source: &S, size: u64) -> Result<Frontier, S::Error> {
    let mut peaks = Vec::new();
    let mut at = 0;
    for level in (0..64_u8).rev().filter(|l| size >> l & 1 == 1) {
        peaks.push(source.node(level, at >> level)?);
        at += 1 << level;
    }
    Ok(Frontier { size, peaks })
}

/// The inclusion proof of leaf `index` in the tree of the first `size` leaves, leaf side first (RFC 9162 2.1.3.1).
///
/// # Errors
/// [`Error::OutOfRange`], and the source's.
pub fn inclusion_proof<S: NodeSource>(
    source: &S,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, S::Error> {
    if index >= size {
        return Err(Error::OutOfRange {
            what: "leaf index",
            found: index,
            size,
        }
        .into());
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let half = split(end - start);
        if index - start < half {
            proof.push(range_root(source, start + half, end)?);
            end = start + half;
        } else {
            proof.push(range_root(source, start, start + half)?);
            start += half;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The consistency proof from the tree of `old` leaves to that of `new` (RFC 9162 2.1.4.1); empty for equal sizes.
///
/// # Errors
/// [`Error::ConsistencySizes`] for an old size of 0 or above the new one, and the source's.
pub fn consistency_proof<S: NodeSource>(
    source: &S,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, S::Error> {
    if old == 0 || old > new {
        return Err(Error::ConsistencySizes { old, new }.into());
    }
    let mut proof = Vec::new();
    let (mut start, mut end, mut whole) = (0, new, true);
    while old != end {
        let half = split(end - start);
        if old - start <= half {
            proof.push(range_root(source, start + half, end)?);
            end = start + half;
        } else {
            proof.push(range_root(source, start, start + half)?);
            start += half;
            whole = false;
        }
    }
    if !whole {
        proof.push(range_root(source, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The largest power of two smaller than `n` (n > 1).
const fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}
