//! The crate's error, for everything but the refusal of a record (see [`crate::Refusal`]).

use std::collections::BTreeSet;

use tally_merkle::Hash;

use crate::codec::CodecError;
use crate::ids::{MemberId, PublicKey};

/// Why bytes, a genesis, a signature, a certificate or a proof is not right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes are not in canonical form.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A field of a genesis or of a member's entry is out of its range.
    #[error("{what}: {found:?} is not valid; expected {expected}")]
    Field {
        /// The field.
        what: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// Something that must be there once is there twice.
    #[error("{what} {found} appears twice")]
    Duplicate {
        /// The field.
        what: &'static str,
        /// The value that repeats.
        found: String,
    },
    /// Members are not in ascending order of their IDs.
    #[error("member {found} is out of order")]
    Order {
        /// The first that is not after the one before it.
        found: MemberId,
    },
    /// A member's ID is not the one that its name and first administrator's key give.
    #[error("member {name} has ID {found}, expected {expected}")]
    MemberId {
        /// The member's name.
        name: String,
        /// The derived ID.
        expected: MemberId,
        /// The ID in the entry.
        found: MemberId,
    },
    /// A public key that is not a canonical point of large order; anyone could sign under some such keys.
    #[error("public key {found} is not canonical or is of small order")]
    PublicKey {
        /// The key.
        found: PublicKey,
    },
    /// A signature does not verify.
    #[error("signature of {what} by key {key} is wrong")]
    Signature {
        /// What was signed.
        what: &'static str,
        /// The key that it should verify under.
        key: PublicKey,
    },
    /// A key that may not sign here.
    #[error("key {key} may not sign a {what}")]
    Signer {
        /// What was signed.
        what: &'static str,
        /// The key.
        key: PublicKey,
    },
    /// Founders who have not signed the genesis.
    #[error("not signed by: {}", members.join(", "))]
    Unsigned {
        /// Their names.
        members: Vec<String>,
    },
    /// How many signatures an envelope has and needs.
    #[error("expected {expected} signatures, found {found}")]
    SignatureCount {
        /// As many as signers.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// A record that is larger than an entry may be.
    #[error("record of {found} bytes is over the limit of {max}")]
    RecordSize {
        /// Its size in bytes.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// A certificate without enough power.
    #[error("certificate carries power {found} of {total}, expected at least {expected}")]
    Quorum {
        /// More than two thirds of the total.
        expected: u64,
        /// The signers' power.
        found: u64,
        /// The set's power.
        total: u64,
    },
    /// A state proof that does not lead to the root.
    #[error("state proof leads to {found}, expected {expected}")]
    ProofRoot {
        /// The state root.
        expected: Hash,
        /// What the proof gives.
        found: Hash,
    },
    /// A state proof that shows something else than what was asked.
    #[error("state proof shows {found}, expected {expected}")]
    ProofContent {
        /// What was asked.
        expected: &'static str,
        /// What it shows.
        found: &'static str,
    },
    /// Something that cannot happen did; a fault in this program.
    #[error("internal fault: {what}")]
    Internal {
        /// What.
        what: &'static str,
    },
}

/// An [`Error::Field`].
pub(crate) fn field(what: &'static str, found: String, expected: &'static str) -> Error {
    Error::Field {
        what,
        found,
        expected,
    }
}

/// Refuses a value that was seen before.
///
/// # Errors
/// [`Error::Duplicate`].
pub(crate) fn once<T: Ord + ToString>(
    seen: &mut BTreeSet<T>,
    what: &'static str,
    value: T,
) -> Result<(), Error> {
    if seen.contains(&value) {
        return Err(Error::Duplicate {
            what,
            found: value.to_string(),
        });
    }
    seen.insert(value);
    Ok(())
}
