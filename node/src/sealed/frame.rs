//! The bytes of a sealed log: segment headers and frames.
//!
//! Segment header, 60 bytes: magic and version (8), segment number u32, number of its first frame u64, nonce (24), tag (16) of the
//! empty text, so that a wrong key is told apart from damage. Frame: length u32 of what follows the check, CRC-32C u32 over
//! length and frame number, nonce (24), ciphertext with its tag. The check makes a changed length damage, and not a torn tail.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_core::{OsRng, RngCore};
use tally_contracts::domains::{SEALED_FRAME, SEALED_SEGMENT};
use zeroize::Zeroizing;

use super::StorageKey;

const MAGIC: &[u8; 8] = b"TALLYSL\x01";
const NONCE: usize = 24;
const TAG: usize = 16;

/// Length of a segment header.
pub(super) const HEADER_BYTES: usize = 8 + 4 + 8 + NONCE + TAG;
/// Length and check of a frame.
pub(super) const FRAME_HEAD_BYTES: usize = 8;
/// What sealing adds to the plain bytes of a frame, without the frame's head.
pub(super) const SEAL_BYTES: usize = NONCE + TAG;

/// Seals and opens the frames of one log.
#[derive(Clone)]
pub(super) struct Sealer {
    cipher: XChaCha20Poly1305,
    purpose: Vec<u8>,
}

impl Sealer {
    pub(super) fn new(key: &StorageKey, purpose: &str) -> Self {
        let mut bound = u32::try_from(purpose.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes()
            .to_vec();
        bound.extend_from_slice(purpose.as_bytes());
        Self {
            cipher: XChaCha20Poly1305::new(key.bytes().into()),
            purpose: bound,
        }
    }

    fn bound(&self, domain: &[u8], segment: u32, frame: u64) -> Vec<u8> {
        let mut out = domain.to_vec();
        out.extend_from_slice(&self.purpose);
        out.extend_from_slice(&segment.to_be_bytes());
        out.extend_from_slice(&frame.to_be_bytes());
        out
    }

    /// `None` only for more bytes than the cipher takes at once, which no caller has.
    fn seal(&self, plain: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        OsRng.fill_bytes(&mut nonce);
        let sealed = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad })
            .ok()?;
        let mut out = nonce.to_vec();
        out.extend_from_slice(&sealed);
        Some(out)
    }

    fn unseal(&self, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, msg) = sealed.split_at_checked(NONCE)?;
        self.cipher
            .decrypt(XNonce::from_slice(nonce), Payload { msg, aad })
            .ok()
            .map(Zeroizing::new)
    }

    pub(super) fn header(&self, segment: u32, first_frame: u64) -> Option<Vec<u8>> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&segment.to_be_bytes());
        out.extend_from_slice(&first_frame.to_be_bytes());
        out.extend(self.seal(&[], &self.bound(SEALED_SEGMENT, segment, first_frame))?);
        Some(out)
    }

    /// Whether `bytes` is the header of that segment under this key; `Err` if it is no header at all.
    pub(super) fn check_header(
        &self,
        bytes: &[u8; HEADER_BYTES],
        segment: u32,
        first_frame: u64,
    ) -> Result<(), HeaderFault> {
        let Some(rest) = bytes.strip_prefix(MAGIC.as_slice()) else {
            return Err(HeaderFault::NoHeader);
        };
        let Some((numbers, sealed)) = rest.split_at_checked(12) else {
            return Err(HeaderFault::NoHeader);
        };
        let mut expected = segment.to_be_bytes().to_vec();
        expected.extend_from_slice(&first_frame.to_be_bytes());
        if numbers != expected {
            return Err(HeaderFault::OutOfOrder);
        }
        self.unseal(sealed, &self.bound(SEALED_SEGMENT, segment, first_frame))
            .map(|_| ())
            .ok_or(HeaderFault::WrongKey)
    }

    /// A whole frame, head included.
    pub(super) fn frame(&self, plain: &[u8], segment: u32, frame: u64) -> Option<Vec<u8>> {
        let sealed = self.seal(plain, &self.bound(SEALED_FRAME, segment, frame))?;
        let mut out = head(u32::try_from(sealed.len()).ok()?, frame).to_vec();
        out.extend(sealed);
        Some(out)
    }

    /// The plain bytes of a frame without its head.
    pub(super) fn open_frame(
        &self,
        sealed: &[u8],
        segment: u32,
        frame: u64,
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.unseal(sealed, &self.bound(SEALED_FRAME, segment, frame))
    }
}

/// Why a segment header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    NoHeader,
    OutOfOrder,
    WrongKey,
}

fn head(len: u32, frame: u64) -> [u8; FRAME_HEAD_BYTES] {
    let mut checked = [0; 12];
    checked[..4].copy_from_slice(&len.to_be_bytes());
    checked[4..].copy_from_slice(&frame.to_be_bytes());
    let mut out = [0; FRAME_HEAD_BYTES];
    out[..4].copy_from_slice(&len.to_be_bytes());
    out[4..].copy_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
    out
}

/// The head of a gap: bytes that were given back to the disk when the frame before `next_frame` was written anew and became shorter.
pub(super) fn gap_head(len: u32, next_frame: u64) -> [u8; FRAME_HEAD_BYTES] {
    head(len, !next_frame)
}

/// The length of a gap, if the head is one.
pub(super) fn gap_len(bytes: [u8; FRAME_HEAD_BYTES], next_frame: u64) -> Option<u32> {
    frame_len(bytes, !next_frame)
}

/// The number of the first frame that a segment header names; nothing is checked.
pub(super) fn first_frame_of(header: &[u8; HEADER_BYTES]) -> u64 {
    header
        .get(12..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |n| u64::from_be_bytes(*n))
}

/// The length that a frame's head names, if its check holds.
pub(super) fn frame_len(bytes: [u8; FRAME_HEAD_BYTES], frame: u64) -> Option<u32> {
    let [a, b, c, d, ..] = bytes;
    let len = u32::from_be_bytes([a, b, c, d]);
    (head(len, frame) == bytes).then_some(len)
}

/// Joins the entries of one group: each behind its 32-bit length.
pub(super) fn join<T: AsRef<[u8]>>(entries: &[T]) -> Zeroizing<Vec<u8>> {
    let size = entries.iter().map(|e| 4 + e.as_ref().len()).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    for entry in entries {
        let entry = entry.as_ref();
        out.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(entry);
    }
    out
}

/// The entries of a group, or `None` if the bytes are not a group.
pub(super) fn split(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (entry, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        out.push(entry);
        bytes = rest;
    }
    Some(out)
}
