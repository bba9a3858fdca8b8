//! Which code was scanned, and what the scan is called.

use std::fmt;
use std::str::FromStr;

use rand_core::{CryptoRng, RngCore};
use sha2::{Digest, Sha256};
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::domains::SCAN_CODE;
use tally_contracts::records::Gtin;

use super::ScanError;

/// Longest serial of GS1 AI (21), in characters.
pub const MAX_SERIAL: usize = 20;

/// 16 random bytes that name a scan. Whoever knows one may read its verdict, so it is drawn from a secure source.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScanId(pub [u8; 16]);

impl ScanId {
    /// A new one.
    pub fn random(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Display for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanId({self})")
    }
}

impl FromStr for ScanId {
    type Err = ScanError;

    fn from_str(text: &str) -> Result<Self, ScanError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ScanError::Input {
            what: "scan ID",
            expected: "32 hex digits",
        })?;
        Ok(Self(bytes))
    }
}

/// SHA-256 over GTIN and serial under its own domain: names a code in receipts and in the index.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeHash(pub [u8; 32]);

impl fmt::Display for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeHash({self})")
    }
}

/// A code as it was read: a GTIN with a right check digit and a serial of 1 to 20 characters of GS1's set 82. It need not be genuine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScannedCode {
    gtin: Gtin,
    serial: String,
}

impl ScannedCode {
    /// Takes a GTIN of 14 digits and a serial. A serial of 20 characters that reads as a unit code in Crockford's base32 (either
    /// case, O for 0, I and L for 1) is kept in its one canonical form, so that no spelling of a code is scanned "first" again.
    ///
    /// # Errors
    /// [`ScanError::Gtin`], [`ScanError::Input`].
    pub fn new(gtin: &str, serial: &str) -> Result<Self, ScanError> {
        let gtin = gtin.parse().map_err(ScanError::Gtin)?;
        if (1..=MAX_SERIAL).contains(&serial.len()) && serial.bytes().all(is_set_82) {
            Ok(Self {
                gtin,
                serial: canonical_serial(serial),
            })
        } else {
            Err(ScanError::Input {
                what: "serial",
                expected: "1 to 20 characters of GS1 set 82",
            })
        }
    }

    /// The GTIN.
    #[must_use]
    pub const fn gtin(&self) -> &Gtin {
        &self.gtin
    }

    /// The serial.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The code's name in receipts.
    #[must_use]
    pub fn hash(&self) -> CodeHash {
        CodeHash(
            Sha256::new()
                .chain_update(SCAN_CODE)
                .chain_update(self.gtin.as_bytes())
                .chain_update(self.serial.as_bytes())
                .finalize()
                .into(),
        )
    }
}

fn canonical_serial(serial: &str) -> String {
    let read = |c: char| match c.to_ascii_uppercase() {
        'O' => Some('0'),
        'I' | 'L' => Some('1'),
        'U' => None,
        c if c.is_ascii_alphanumeric() => Some(c),
        _ => None,
    };
    Some(serial)
        .filter(|s| s.len() == MAX_SERIAL)
        .and_then(|s| s.chars().map(read).collect())
        .unwrap_or_else(|| serial.to_owned())
}

/// GS1 General Specifications, figure 7.11-1 (AI encodable character set 82).
fn is_set_82(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!\"%&'()*+,-./:;<=>?_".contains(&b)
}

impl Canonical for ScannedCode {
    fn write(&self, w: &mut Writer) {
        w.raw(self.gtin.as_bytes()).text(&self.serial);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let gtin = Gtin::read(r)?;
        let serial = r.text("serial", MAX_SERIAL)?;
        Self::new(gtin.as_str(), &serial)
            .ok()
            .filter(|code| code.serial == serial)
            .ok_or(CodecError::Text { what: "serial" })
    }
}
