//! The key under which private stores are sealed.

use hkdf::Hkdf;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A symmetric key of 32 bytes. Secret: it has no text form and is wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StorageKey([u8; 32]);

impl StorageKey {
    /// Takes the bytes over; the caller wipes its own copy.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Another key for the use `info`, by HKDF-SHA256 (RFC 5869).
    #[must_use]
    pub fn derive(&self, info: &str) -> Self {
        let mut out = Zeroizing::new([0; 32]);
        // 32 bytes never exceed what HKDF-SHA256 can expand to.
        let expanded = Hkdf::<Sha256>::new(None, &self.0).expand(info.as_bytes(), out.as_mut());
        debug_assert!(expanded.is_ok());
        Self(*out)
    }

    /// HMAC-SHA-256 over `parts`, each behind its 64-bit length, so that no two lists give the same bytes.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC pads a key with zeros to one block; a key of exactly a block cannot be refused.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&self.0);
        let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
