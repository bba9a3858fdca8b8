//! Signed notes (C2SP signed-note) and cosignatures (C2SP tlog-cosignature v1).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::error::Error;
use crate::vkey::{KeyKind, NoteKeyId, Vkey, check_name};

/// The largest note that is read, in bytes.
pub const MAX_NOTE_BYTES: usize = 1024 * 1024;
/// The most signatures in a note.
pub const MAX_SIGNATURES: usize = 512;
/// The longest signature, key ID included: ML-DSA-44 with a time needs 2,432 bytes.
pub const MAX_SIGNATURE_BYTES: usize = 8192;

/// One signature line: `— <name> <base64(key ID || signature)>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's ID.
    pub key_id: NoteKeyId,
    /// What follows the key ID: 64 bytes for 0x01; time (u64, POSIX seconds) and 64 bytes for 0x04.
    pub signature: Vec<u8>,
}

impl NoteSignature {
    /// The time of a cosignature in POSIX seconds, if these bytes are one by length. Unverified.
    #[must_use]
    pub fn time_s(&self) -> Option<u64> {
        let (time, rest) = self.signature.split_first_chunk::<8>()?;
        (rest.len() == 64).then_some(u64::from_be_bytes(*time))
    }

    /// Checks this signature over `text` by `key`, which must be the one it names. Gives the time of a cosignature.
    ///
    /// # Errors
    /// [`Error::Signature`]; [`Error::KeyKind`] for a key that this build cannot verify.
    pub fn verify(&self, text: &str, key: &Vkey) -> Result<Option<u64>, Error> {
        let bad = || Error::Signature {
            name: self.name.clone(),
        };
        if self.name != key.name() || self.key_id != key.id() {
            return Err(bad());
        }
        match key.kind() {
            KeyKind::Ed25519 => {
                key.verify(text.as_bytes(), &self.signature)?;
                Ok(None)
            }
            KeyKind::Cosignature => {
                let (time, signature) = self.signature.split_first_chunk::<8>().ok_or_else(bad)?;
                let time = u64::from_be_bytes(*time);
                if i64::try_from(time).is_err() {
                    return Err(bad());
                }
                key.verify(&cosigned_message(text, time), signature)?;
                Ok(Some(time))
            }
            KeyKind::MlDsa44 => Err(Error::KeyKind {
                name: self.name.clone(),
                kind: key.kind().byte(),
                expected: "0x01 or 0x04",
            }),
        }
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.0.to_vec();
        bytes.extend_from_slice(&self.signature);
        write!(f, "— {} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for NoteSignature {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self, Error> {
        let bad = || Error::malformed("signature line", line, "— name base64(key ID || signature)");
        let (name, bytes) = line
            .strip_prefix("— ")
            .and_then(|l| l.split_once(' '))
            .ok_or_else(bad)?;
        check_name(name)?;
        if bytes.len() > MAX_SIGNATURE_BYTES / 3 * 4 {
            return Err(Error::TooLarge {
                what: "signature line",
                found: bytes.len(),
                max: MAX_SIGNATURE_BYTES / 3 * 4,
            });
        }
        let bytes = STANDARD.decode(bytes).map_err(|_| bad())?;
        let (id, signature) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
        if signature.is_empty() {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_owned(),
            key_id: NoteKeyId(*id),
            signature: signature.to_vec(),
        })
    }
}

/// Text and the signatures over it. Nothing in it is trusted before [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    /// In the order of the lines.
    pub signatures: Vec<NoteSignature>,
}

/// What [`Note::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteVerification {
    /// Each signature of a known key, all of them right.
    pub signatures: Vec<VerifiedSignature>,
    /// Signature lines by keys that were not given; nothing is known about them.
    pub unknown: usize,
}

/// A signature that verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// Which of the keys given signed.
    pub key: usize,
    /// The cosignature's time in POSIX seconds; `None` for a 0x01 key.
    pub time_s: Option<u64>,
}

impl Note {
    /// A note with no signatures yet.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the text does not end in a newline or has other control characters.
    pub fn unsigned(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        check_text(&text)?;
        Ok(Self {
            text,
            signatures: Vec::new(),
        })
    }

    /// The text, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads a note; it must have at least one signature line.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::TooLarge`].
    pub fn parse(note: &str) -> Result<Self, Error> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(Error::TooLarge {
                what: "note",
                found: note.len(),
                max: MAX_NOTE_BYTES,
            });
        }
        check_text(note)?;
        let bad = |expected| Error::malformed("note", note, expected);
        let split = note
            .rfind("\n\n")
            .ok_or_else(|| bad("an empty line before the signatures"))?;
        let (text, lines) = note
            .split_at_checked(split + 1)
            .ok_or_else(|| bad("text"))?;
        let lines = lines
            .strip_prefix('\n')
            .and_then(|l| l.strip_suffix('\n'))
            .ok_or_else(|| bad("signature lines that end in a newline"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(Error::TooLarge {
                    what: "signatures of a note",
                    found: signatures.len() + 1,
                    max: MAX_SIGNATURES,
                });
            }
            signatures.push(line.parse()?);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// Checks every signature by one of `keys`; lines of other keys are counted and ignored, as the format asks. A key of type
    /// 0x06 counts as unknown.
    ///
    /// # Errors
    /// [`Error::Signature`] if a known key's signature is wrong, [`Error::DuplicateSignature`] if it signed twice,
    /// [`Error::Unsigned`] if none of the keys signed.
    pub fn verify(&self, keys: &[Vkey]) -> Result<NoteVerification, Error> {
        let mut found = NoteVerification {
            signatures: Vec::new(),
            unknown: 0,
        };
        for signature in &self.signatures {
            let known = keys.iter().enumerate().find(|(_, k)| {
                k.kind() != KeyKind::MlDsa44
                    && k.name() == signature.name
                    && k.id() == signature.key_id
            });
            let Some((index, key)) = known else {
                found.unknown += 1;
                continue;
            };
            if found.signatures.iter().any(|s| s.key == index) {
                return Err(Error::DuplicateSignature {
                    name: signature.name.clone(),
                });
            }
            let time_s = signature.verify(&self.text, key)?;
            found
                .signatures
                .push(VerifiedSignature { key: index, time_s });
        }
        if found.signatures.is_empty() {
            return Err(Error::Unsigned { known: keys.len() });
        }
        Ok(found)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|s| writeln!(f, "{s}"))
    }
}

/// Signs a note's text with a 0x01 key named `name`.
///
/// # Errors
/// [`Error::Malformed`] if the name or the text cannot stand in a note.
pub fn sign(text: &str, name: &str, key: &SigningKey) -> Result<NoteSignature, Error> {
    check_text(text)?;
    check_name(name)?;
    Ok(NoteSignature {
        name: name.to_owned(),
        key_id: NoteKeyId::of(name, KeyKind::Ed25519, key.verifying_key().as_bytes()),
        signature: key.sign(text.as_bytes()).to_bytes().to_vec(),
    })
}

/// Cosigns a checkpoint's text with a 0x04 key named `name` at `time_s` (POSIX seconds, at most 2^63 - 1).
///
/// # Errors
/// [`Error::Malformed`] if the name, the text or the time cannot stand in a cosignature.
pub fn cosign(
    text: &str,
    name: &str,
    key: &SigningKey,
    time_s: u64,
) -> Result<NoteSignature, Error> {
    check_text(text)?;
    check_name(name)?;
    if i64::try_from(time_s).is_err() {
        return Err(Error::malformed(
            "cosignature time",
            time_s.to_string(),
            "at most 2^63 - 1 seconds",
        ));
    }
    let mut signature = time_s.to_be_bytes().to_vec();
    signature.extend_from_slice(&key.sign(&cosigned_message(text, time_s)).to_bytes());
    Ok(NoteSignature {
        name: name.to_owned(),
        key_id: NoteKeyId::of(name, KeyKind::Cosignature, key.verifying_key().as_bytes()),
        signature,
    })
}

/// What a `cosignature/v1` signs.
fn cosigned_message(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

fn check_text(text: &str) -> Result<(), Error> {
    if !text.ends_with('\n') || text.bytes().any(|b| b < 0x20 && b != b'\n') {
        return Err(Error::malformed(
            "note text",
            text,
            "lines that end in LF, without other control characters",
        ));
    }
    Ok(())
}
