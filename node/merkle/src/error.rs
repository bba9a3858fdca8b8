//! The crate's error.

/// Why a text, a proof or a signature is not right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A leaf index, subtree or tree size that the tree does not have.
    #[error("{what} {found} is out of range for a tree of size {size}")]
    OutOfRange {
        /// What was asked for.
        what: &'static str,
        /// The index or size asked for.
        found: u64,
        /// Entries in the tree.
        size: u64,
    },
    /// A consistency proof from a tree that is empty or larger than the new one.
    #[error("no consistency proof exists from size {old} to size {new}")]
    ConsistencySizes {
        /// Size of the old tree.
        old: u64,
        /// Size of the new tree.
        new: u64,
    },
    /// A proof with another number of hashes than its index and sizes need.
    #[error("{what} proof has {found} hashes, which does not fit its sizes")]
    ProofLength {
        /// `inclusion` or `consistency`.
        what: &'static str,
        /// How many hashes came.
        found: usize,
    },
    /// A proof that leads to another root.
    #[error("{what} proof leads to another root")]
    Root {
        /// `inclusion` or `consistency`.
        what: &'static str,
    },
    /// Bytes or text not in the one form that the format has.
    #[error("{what}: found {found}, expected {expected}")]
    Malformed {
        /// The format and the part of it.
        what: &'static str,
        /// What came, shortened.
        found: String,
        /// What the format allows.
        expected: &'static str,
    },
    /// Text, a list or an entry over its bound.
    #[error("{what} of {found} is over the limit of {max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// A signature by a known key that does not verify.
    #[error("signature by {name} does not verify")]
    Signature {
        /// The key's name.
        name: String,
    },
    /// Two signatures by the same key in one note.
    #[error("note has two signatures by {name}")]
    DuplicateSignature {
        /// The key's name.
        name: String,
    },
    /// No signature by any known key.
    #[error("note is signed by none of the {known} keys that may sign it")]
    Unsigned {
        /// How many keys were known.
        known: usize,
    },
    /// A key of a kind that this build cannot verify, or that may not stand there.
    #[error("key {name} is of type 0x{kind:02x}, expected {expected}")]
    KeyKind {
        /// The key's name.
        name: String,
        /// The type byte.
        kind: u8,
        /// What may stand there.
        expected: &'static str,
    },
    /// The checkpoint's origin is not the name of the log key that signed it.
    #[error("checkpoint has origin {found:?}, expected {expected:?}")]
    Origin {
        /// The key's name.
        expected: String,
        /// The checkpoint's first line.
        found: String,
    },
    /// Too few cosignatures for the policy's quorum.
    #[error("{found} cosignatures do not make the quorum {quorum:?} of the policy")]
    Quorum {
        /// The quorum's name in the policy.
        quorum: String,
        /// How many witnesses of the policy cosigned.
        found: usize,
    },
}

impl Error {
    /// An [`Error::Malformed`] with what came, cut to 64 characters and without control characters.
    pub(crate) fn malformed(
        what: &'static str,
        found: impl AsRef<str>,
        expected: &'static str,
    ) -> Self {
        let mut cut: String = found.as_ref().chars().take(64).collect();
        if cut.len() < found.as_ref().len() {
            cut.push('…');
        }
        Self::Malformed {
            what,
            // Debug escapes control characters and quotes.
            found: format!("{cut:?}"),
            expected,
        }
    }
}
