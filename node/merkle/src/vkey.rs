//! Keys of notes: their IDs, their one text form (`vkey`), and verification by ZIP-215.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The longest key name in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest text of a key: name, ID, and 1,313 bytes in base64.
const MAX_VKEY_BYTES: usize = MAX_NAME_BYTES + 10 + 1752;

/// How a key signs (C2SP signed-note, signature types).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// 0x01: Ed25519 over the note text.
    Ed25519,
    /// 0x04: timestamped Ed25519 cosignature (`cosignature/v1`).
    Cosignature,
    /// 0x06: ML-DSA-44 cosignature. Its keys are read and their signatures ignored; this build cannot verify them.
    MlDsa44,
}

impl KeyKind {
    /// The type byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
            Self::MlDsa44 => 0x06,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Ed25519),
            0x04 => Some(Self::Cosignature),
            0x06 => Some(Self::MlDsa44),
            _ => None,
        }
    }

    const fn key_len(self) -> usize {
        match self {
            Self::Ed25519 | Self::Cosignature => 32,
            Self::MlDsa44 => 1312,
        }
    }
}

/// First 4 bytes of SHA-256(name || 0x0A || type || key). Not a strong hash: it only says which key to try.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoteKeyId(pub [u8; 4]);

impl NoteKeyId {
    /// The ID of a key.
    #[must_use]
    pub fn of(name: &str, kind: KeyKind, key: &[u8]) -> Self {
        let [a, b, c, d, ..]: [u8; 32] = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', kind.byte()])
            .chain_update(key)
            .finalize()
            .into();
        Self([a, b, c, d])
    }
}

impl fmt::Display for NoteKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for NoteKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteKeyId({self})")
    }
}

/// A named public key of a note; its text is `name+hex8(ID)+base64(type || key)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    kind: KeyKind,
    id: NoteKeyId,
    key: Vec<u8>,
}

impl Vkey {
    /// A 0x01 key.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a name that cannot stand in a note, or a key that is no point of large order.
    pub fn ed25519(name: &str, key: [u8; 32]) -> Result<Self, Error> {
        Self::new(name, KeyKind::Ed25519, key.to_vec())
    }

    /// A 0x04 key.
    ///
    /// # Errors
    /// As [`Self::ed25519`].
    pub fn cosignature(name: &str, key: [u8; 32]) -> Result<Self, Error> {
        Self::new(name, KeyKind::Cosignature, key.to_vec())
    }

    fn new(name: &str, kind: KeyKind, key: Vec<u8>) -> Result<Self, Error> {
        check_name(name)?;
        // A key of small order would verify signatures that nobody made.
        if let Ok(bytes) = <&[u8; 32]>::try_from(key.as_slice()) {
            let weak = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_or(true, |k| k.is_weak());
            if weak {
                return Err(Error::malformed(
                    "key of a vkey",
                    name,
                    "an Ed25519 point of large order",
                ));
            }
        }
        Ok(Self {
            id: NoteKeyId::of(name, kind, &key),
            name: name.to_owned(),
            kind,
            key,
        })
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it signs.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its ID.
    #[must_use]
    pub const fn id(&self) -> NoteKeyId {
        self.id
    }

    /// The public key's bytes.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Checks an Ed25519 signature by ZIP-215.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        let bad = || Error::Signature {
            name: self.name.clone(),
        };
        let signature = <[u8; 64]>::try_from(signature).map_err(|_| bad())?;
        ed25519_zebra::VerificationKey::try_from(self.key.as_slice())
            .and_then(|k| k.verify(&ed25519_zebra::Signature::from(signature), message))
            .map_err(|_| bad())
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.kind.byte()];
        bytes.extend_from_slice(&self.key);
        write!(f, "{}+{}+{}", self.name, self.id, STANDARD.encode(bytes))
    }
}

impl FromStr for Vkey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |expected| Error::malformed("vkey", text, expected);
        if text.len() > MAX_VKEY_BYTES {
            return Err(Error::TooLarge {
                what: "vkey",
                found: text.len(),
                max: MAX_VKEY_BYTES,
            });
        }
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("name+hex8+base64"));
        };
        let bytes = STANDARD
            .decode(key)
            .map_err(|_| bad("a key in canonical base64"))?;
        let (kind, key) = bytes.split_first().ok_or_else(|| bad("a key"))?;
        let kind =
            KeyKind::from_byte(*kind).ok_or_else(|| bad("a key of type 0x01, 0x04 or 0x06"))?;
        if key.len() != kind.key_len() {
            return Err(bad("a key of the length of its type"));
        }
        let vkey = Self::new(name, kind, key.to_vec())?;
        if vkey.id.to_string() != id {
            return Err(bad("the ID that name and key give"));
        }
        Ok(vkey)
    }
}

/// Checks that a name can stand in a note: 1 to 256 bytes, no white space, control character or plus.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || name
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '+')
    {
        return Err(Error::malformed(
            "key name",
            name,
            "1 to 256 bytes without space, control character or plus",
        ));
    }
    Ok(())
}

/// Reads an ASCII decimal without sign or leading zeros.
pub(crate) fn parse_decimal(what: &'static str, text: &str) -> Result<u64, Error> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
        && text.len() <= 20;
    canonical
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| {
            Error::malformed(
                what,
                text,
                "a decimal below 2^64 without leading zeros or sign",
            )
        })
}

/// Reads a SHA-256 hash in canonical base64.
pub(crate) fn parse_hash(what: &'static str, text: &str) -> Result<crate::Hash, Error> {
    let bad = || Error::malformed(what, text, "32 bytes in canonical base64");
    if text.len() != 44 {
        return Err(bad());
    }
    let bytes = STANDARD.decode(text).map_err(|_| bad())?;
    Ok(crate::Hash(bytes.try_into().map_err(|_| bad())?))
}
