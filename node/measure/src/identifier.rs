//! One person's ID, after normalisation.

use std::hash::{Hash, Hasher};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Error;

/// The longest normalised ID, in bytes.
pub const MAX_IDENTIFIER_BYTES: usize = 256;

/// A normalised ID. Secret: it has no text form (neither `Debug` nor `Display`), and is wiped when dropped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Zeroize, ZeroizeOnDrop)]
pub struct Identifier(Box<[u8]>);

impl Identifier {
    /// Takes normalised bytes.
    ///
    /// # Errors
    /// [`Error::IdentifierLength`] unless there are 1 to [`MAX_IDENTIFIER_BYTES`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() || bytes.len() > MAX_IDENTIFIER_BYTES {
            return Err(Error::IdentifierLength {
                found: bytes.len(),
                max: MAX_IDENTIFIER_BYTES,
            });
        }
        Ok(Self(bytes.into()))
    }

    /// The normalised bytes: what is hashed, and nothing but that.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Hash for Identifier {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
