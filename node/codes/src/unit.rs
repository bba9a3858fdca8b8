//! Unit codes: a 36-bit index and a 64-bit tag, enciphered together into the 20 characters of a serial.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use tally_merkle::sha256::{self, State};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Error;
use crate::crockford;
use crate::ff1::Permutation;
use crate::gs1::Gtin;
use crate::keys::{IssuerId, SecretKey};

/// Bits of a unit's index within its issuer.
pub const INDEX_BITS: u32 = 36;
/// Characters of a serial.
pub const SERIAL_LEN: usize = 20;

const TAG_DOMAIN: &[u8; 13] = b"tally/tag/v1\n";
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
        let mut out = [0; SERIAL_LEN];
        let (high, low) = out.split_at_mut(SERIAL_LEN / 2);
        #[allow(clippy::cast_possible_truncation, reason = "50 bits of each are used")]
        let halves = [(self.0 >> 50) as u64, self.0 as u64];
        high.copy_from_slice(&crockford::encode_short::<10>(halves[0]));
        low.copy_from_slice(&crockford::encode_short::<10>(halves[1]));
        out
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

/// Makes and checks the tags of one batch's key. Secret: no text form, wiped when dropped.
///
/// HMAC-SHA-256 over 51 bytes is two compressions, one from each of two chaining values that stand for the key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct TagMac {
    inner: State,
    outer: State,
    /// `tally/tag/v1` LF || issuer, room for GTIN and index, and the padding of a message of 64 + 51 bytes.
    block: [u8; 64],
}

impl TagMac {
    pub(crate) fn new(key: &SecretKey, issuer: IssuerId) -> Self {
        let keyed = |pad: u8| {
            let mut block = Zeroizing::new([pad; 64]);
            for (b, k) in block.iter_mut().zip(key.bytes()) {
                *b ^= k;
            }
            let mut state = sha256::INITIAL;
            sha256::compress(&mut state, &block);
            state
        };
        let mut block = [0; 64];
        block[..13].copy_from_slice(TAG_DOMAIN);
        block[13..29].copy_from_slice(&issuer.0);
        block[51] = 0x80;
        block[56..].copy_from_slice(&((64 + 51) * 8_u64).to_be_bytes());
        Self {
            inner: keyed(0x36),
            outer: keyed(0x5c),
            block,
        }
    }

    /// First 64 bits of HMAC-SHA-256 over `tally/tag/v1` LF || issuer || GTIN || index (u64).
    pub(crate) fn tag(&self, gtin: &Gtin, index: u64) -> u64 {
        let mut tag = [0; 2];
        self.tags(gtin, &[index; 2], &mut tag);
        tag[0]
    }

    /// [`Self::tag`] of each unit, two side by side; the numbers of both lists are even.
    pub(crate) fn tags(&self, gtin: &Gtin, indexes: &[u64], tags: &mut [u64]) {
        let mut inner = [[self.block]; 2];
        for [block] in &mut inner {
            block[29..43].copy_from_slice(gtin.as_bytes());
        }
        let mut outer = [[OUTER]; 2];
        let (indexes, tags) = (indexes.as_chunks::<2>().0, tags.as_chunks_mut::<2>().0);
        for (indexes, tags) in indexes.iter().zip(tags) {
            for ([block], index) in inner.iter_mut().zip(indexes) {
                block[43..51].copy_from_slice(&index.to_be_bytes());
            }
            let mut states = [self.inner; 2];
            sha256::compress_pair(&mut states, &inner[0], &inner[1]);
            for ([block], state) in outer.iter_mut().zip(&states) {
                block[..32].copy_from_slice(&sha256::to_hash(state).0);
            }
            states = [self.outer; 2];
            sha256::compress_pair(&mut states, &outer[0], &outer[1]);
            *tags = states.map(|state| first_64(&state));
        }
        inner.as_flattened_mut().as_flattened_mut().zeroize();
        outer.as_flattened_mut().as_flattened_mut().zeroize();
    }

    /// Whether the tag is right, in constant time.
    pub(crate) fn is_right(&self, gtin: &Gtin, plain: PlainUnit) -> bool {
        self.tag(gtin, plain.index).ct_eq(&plain.tag).into()
    }
}

/// The one block that HMAC's outer hash takes after its key: room for the inner hash, and the padding of 64 + 32 bytes.
const OUTER: [u8; 64] = {
    let mut block = [0; 64];
    block[32] = 0x80;
    block[62] = 3;
    block
};

const fn first_64(state: &State) -> u64 {
    (state[0] as u64) << 32 | state[1] as u64
}

/// What a serial holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PlainUnit {
    /// Below 2^36.
    pub(crate) index: u64,
    pub(crate) tag: u64,
}

impl PlainUnit {
    /// The number that is enciphered.
    pub(crate) const fn to_bits(self) -> u128 {
        (self.index as u128) << 64 | self.tag as u128
    }
}

/// Enciphers one unit.
pub(crate) fn encipher(permutation: &Permutation, unit: PlainUnit) -> Serial {
    Serial(permutation.encrypt(unit.to_bits()))
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
    use hmac::{Hmac, Mac};
    use proptest::prelude::*;
    use sha2::Sha256;

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
        for i in 0..8 {
            let unit = PlainUnit {
                index: (1 << 36) - 1 - i,
                tag: u64::MAX - i,
            };
            assert_eq!(decipher(&p, encipher(&p, unit)), unit);
        }
    }

    proptest! {
        #[test]
        fn tags_equal_the_peer(key: [u8; 32], issuer: [u8; 16], indexes: [u64; 2]) {
            let gtin: Gtin = "09521234543213".parse().unwrap();
            let mac = TagMac::new(&SecretKey::from_bytes(key), IssuerId(issuer));
            let peer = indexes.map(|index| {
                let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).unwrap();
                mac.update(b"tally/tag/v1\n");
                mac.update(&issuer);
                mac.update(gtin.as_bytes());
                mac.update(&index.to_be_bytes());
                let out: [u8; 32] = mac.finalize().into_bytes().into();
                u64::from_be_bytes(*out.first_chunk().unwrap())
            });
            prop_assert_eq!(indexes.map(|i| mac.tag(&gtin, i)), peer);
            let mut tags = [0; 2];
            mac.tags(&gtin, &indexes, &mut tags);
            prop_assert_eq!(tags, peer);
        }
    }
}
