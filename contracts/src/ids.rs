//! Identifiers: fixed-size byte strings with one text form, lower-case hex.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::domains;

/// Text that is not an identifier of the expected length in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} lower-case hex digits for a {what}, found {found} characters")]
pub struct ParseIdError {
    /// The name of the identifier type.
    pub what: &'static str,
    /// How many hex digits it has.
    pub expected: usize,
    /// How many characters came.
    pub found: usize,
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $len:expr, $what:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let bad = || ParseIdError { what: $what, expected: 2 * $len, found: text.chars().count() };
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(bad());
                }
                let bytes = hex::decode(text).map_err(|_| bad())?;
                Ok(Self(bytes.try_into().map_err(|_| bad())?))
            }
        }
    };
}

id!(
    /// SHA-256 of the genesis document: names one network, for ever.
    NetworkId, 32, "network ID"
);
id!(
    /// A member, fixed at admission; it survives every rotation of keys.
    MemberId, 16, "member ID"
);
id!(
    /// First 8 bytes of SHA-256(`tally/key-id/v1` LF || Ed25519 public key).
    KeyId, 8, "key ID"
);
id!(
    /// SHA-256 over the unsigned part of a record, under its own domain.
    RecordId, 32, "record ID"
);
id!(
    /// Hash of a block header: what validators vote on.
    BlockHash, 32, "block hash"
);
id!(
    /// An Ed25519 public key in its 32-byte encoding; decoded only by the ZIP-215 verifier.
    PublicKey, 32, "public key"
);
id!(
    /// An Ed25519 signature.
    Signature, 64, "signature"
);
id!(
    /// A batch: first 16 bytes of SHA-256(`tally/batch-id/v1` LF || owner || GTIN || u32 length and lot || first index).
    BatchId, 16, "batch ID"
);
id!(
    /// A match: the hash of both sides' nonces, made by the match protocol.
    SessionId, 32, "session ID"
);
id!(
    /// The salted hash of an audience's name, made by its owner; nothing else of it is public.
    AudienceLabel, 32, "audience label"
);

/// An agreement is named by the record that proposed it.
pub type AgreementId = RecordId;

/// A proposal of governance is named by the record that made it.
pub type ChangeId = RecordId;

impl KeyId {
    /// The ID of a public key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let hash = Sha256::new()
            .chain_update(domains::KEY_ID)
            .chain_update(key.0)
            .finalize();
        Self(head(&hash.into()))
    }
}

impl MemberId {
    /// The ID of the member that was admitted under `name` with `first_admin_key`: first 16 bytes of
    /// SHA-256(`tally/member-id/v1` LF || u32 length and name || key).
    #[must_use]
    pub fn derive(name: &str, first_admin_key: &PublicKey) -> Self {
        let hash = Sha256::new()
            .chain_update(domains::MEMBER_ID)
            .chain_update(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes())
            .chain_update(name)
            .chain_update(first_admin_key.0)
            .finalize();
        Self(head(&hash.into()))
    }
}

impl From<&ed25519_dalek::VerifyingKey> for PublicKey {
    fn from(key: &ed25519_dalek::VerifyingKey) -> Self {
        Self(key.to_bytes())
    }
}

impl From<&ed25519_dalek::SigningKey> for PublicKey {
    fn from(key: &ed25519_dalek::SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }
}

/// The first `N` bytes of a hash.
pub(crate) fn head<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    const { assert!(N <= 32) };
    std::array::from_fn(|i| hash.get(i).copied().unwrap_or_default())
}
