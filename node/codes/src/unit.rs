//! Unit codes: a 36-bit index and a 64-bit tag, enciphered together into the 20 characters of a serial.

use std::fmt;
use std::str::FromStr;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::Error;
use crate::crockford;
use crate::ff1::{LANES, Permutation};
use crate::gs1::Gtin;
use crate::keys::{IssuerId, SecretKey};

/// Bits of a unit's index within its issuer.
pub const INDEX_BITS: u32 = 36;
/// Characters of a serial.
pub const SERIAL_LEN: usize = 20;

const TAG_DOMAIN: &[u8] = b"tally/tag/v1\n";
const WHAT: &str = "serial";

/// The serial of a unit code: 100 bits, 20 Crockford characters. Whoever does not hold the keys cannot tell it from a random one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(u128);

impl Serial {
    /// The low 100 bits of `bits`.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits & ((1 << 100) - 1))
    }

    /// The 100 bits.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// The 20 characters, upper case.
    #[must_use]
    pub fn to_chars(self) -> [u8; SERIAL_LEN] {
        crockford::encode(self.0)
    }

    /// For people to type: five groups, the last of them with the check character.
    #[must_use]
    pub fn to_typed(self) -> String {
        crockford::grouped(&format!("{self}{}", crockford::check_character(self.0)), 5).to_string()
    }

    /// Reads what a person typed: 20 characters and the check character, hyphens and spaces anywhere.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Character`], [`Error::Mistyped`].
    pub fn parse_typed(text: &str) -> Result<Self, Error> {
        crockford::decode_typed(WHAT, text, SERIAL_LEN).map(Self)
    }
}

impl FromStr for Serial {
    type Err = Error;

    /// Reads 20 characters by Crockford's rules: either case, O as 0, I and L as 1.
    fn from_str(text: &str) -> Result<Self, Error> {
        crockford::decode(WHAT, text, SERIAL_LEN).map(Self)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_chars()).unwrap_or_default())
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// Makes and checks the tags of one batch's key. Secret: no text form.
#[derive(Clone)]
pub(crate) struct TagMac(Hmac<Sha256>);

impl TagMac {
    pub(crate) fn new(key: &SecretKey, issuer: IssuerId) -> Self {
        // HMAC pads a key with zeros to one block; a key of exactly a block cannot be refused.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(key.bytes());
        let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
        mac.update(TAG_DOMAIN);
        mac.update(&issuer.0);
        Self(mac)
    }

    /// First 64 bits of HMAC-SHA-256 over `tally/tag/v1` LF || issuer || GTIN || index (u64): two compressions.
    pub(crate) fn tag(&self, gtin: &Gtin, index: u64) -> u64 {
        let mut mac = self.0.clone();
        mac.update(gtin.as_bytes());
        mac.update(&index.to_be_bytes());
        let out: [u8; 32] = mac.finalize().into_bytes().into();
        out.first_chunk()
            .map_or(0, |head| u64::from_be_bytes(*head))
    }

    /// Whether the tag is right, in constant time.
    pub(crate) fn is_right(&self, gtin: &Gtin, plain: PlainUnit) -> bool {
        self.tag(gtin, plain.index).ct_eq(&plain.tag).into()
    }
}

/// What a serial holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PlainUnit {
    /// Below 2^36.
    pub(crate) index: u64,
    pub(crate) tag: u64,
}

/// Enciphers eight units.
pub(crate) fn encipher(permutation: &Permutation, units: &[PlainUnit; LANES]) -> [Serial; LANES] {
    permutation
        .encrypt_lanes(&units.map(|u| u128::from(u.index) << 64 | u128::from(u.tag)))
        .map(Serial)
}

/// Deciphers one serial.
#[allow(clippy::cast_possible_truncation, reason = "the two parts of 100 bits")]
pub(crate) fn decipher(permutation: &Permutation, serial: Serial) -> PlainUnit {
    let plain = permutation.decrypt(serial.0);
    PlainUnit {
        index: (plain >> 64) as u64,
        tag: plain as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_read_in_every_form() {
        let serial = Serial::from_bits(0xF_EDCB_A987_6543_210F_EDCB_A987);
        let text = serial.to_string();
        assert_eq!(text.len(), 20);
        assert_eq!(text.parse(), Ok(serial));
        assert_eq!(text.to_lowercase().parse(), Ok(serial));
        assert_eq!(text.replace('0', "o").replace('1', "l").parse(), Ok(serial));
        assert_eq!(Serial::parse_typed(&serial.to_typed()), Ok(serial));
        assert_eq!(serial.to_typed().len(), 20 + 3 + 1);
        assert!("".parse::<Serial>().is_err());
        assert!(format!("{text}0").parse::<Serial>().is_err());
        assert!(Serial::parse_typed(&text).is_err(), "no check character");
    }

    #[test]
    fn a_tag_depends_on_key_issuer_product_and_index() {
        let gtin: Gtin = "09521234543213".parse().unwrap();
        let other: Gtin = "09520123456788".parse().unwrap();
        let mac = |k, i| TagMac::new(&SecretKey::from_bytes([k; 32]), IssuerId([i; 16]));
        let tag = mac(1, 1).tag(&gtin, 5);
        // HMAC-SHA-256 computed apart from this crate.
        assert_eq!(format!("{tag:016x}"), GOLDEN_TAG);
        for differing in [
            mac(2, 1).tag(&gtin, 5),
            mac(1, 2).tag(&gtin, 5),
            mac(1, 1).tag(&other, 5),
            mac(1, 1).tag(&gtin, 6),
        ] {
            assert_ne!(tag, differing);
        }
        assert!(mac(1, 1).is_right(&gtin, PlainUnit { index: 5, tag }));
        for bit in 0..64 {
            assert!(!mac(1, 1).is_right(
                &gtin,
                PlainUnit {
                    index: 5,
                    tag: tag ^ 1 << bit
                }
            ));
        }
    }

    const GOLDEN_TAG: &str = "86dd620de860b464";

    #[test]
    fn units_round_trip() {
        let p = Permutation::new(&SecretKey::from_bytes([4; 32]), b"09521234543213");
        let units = std::array::from_fn(|i| PlainUnit {
            index: (1 << 36) - 1 - i as u64,
            tag: u64::MAX - i as u64,
        });
        for (serial, unit) in encipher(&p, &units).into_iter().zip(units) {
            assert_eq!(decipher(&p, serial), unit);
        }
    }
}
