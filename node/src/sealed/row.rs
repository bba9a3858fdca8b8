//! Sealing of pieces that have their place elsewhere: blocks of a table, rows of a database.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_core::{OsRng, RngCore};
use zeroize::Zeroizing;

use super::StorageKey;

const NONCE: usize = 24;

/// Seals and opens pieces under one key that is used for nothing else.
#[derive(Clone)]
pub struct RowSealer(XChaCha20Poly1305);

impl RowSealer {
    /// What sealing adds, in bytes.
    pub const EXTRA_BYTES: usize = NONCE + 16;

    /// Under this key.
    #[must_use]
    pub fn new(key: &StorageKey) -> Self {
        Self(XChaCha20Poly1305::new(key.bytes().into()))
    }

    /// `plain`, sealed under a fresh nonce and bound to `place`: it opens only there. `None` for more than the cipher takes at once (256 GB).
    #[must_use]
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        OsRng.fill_bytes(&mut nonce);
        let sealed = self
            .0
            .encrypt(
                XNonce::from_slice(&nonce),
                Payload {
                    msg: plain,
                    aad: place,
                },
            )
            .ok()?;
        let mut out = Vec::with_capacity(NONCE + sealed.len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Some(out)
    }

    /// What was sealed for `place`; `None` if a byte of either was changed.
    #[must_use]
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, msg) = sealed.split_at_checked(NONCE)?;
        self.0
            .decrypt(XNonce::from_slice(nonce), Payload { msg, aad: place })
            .ok()
            .map(Zeroizing::new)
    }
}
