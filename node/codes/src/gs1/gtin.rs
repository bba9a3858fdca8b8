//! GTIN and lot.

use std::fmt;
use std::str::FromStr;

use super::is_set_82;
use crate::Error;

/// Longest lot, in characters.
pub const MAX_LOT: usize = 20;

const WHAT: &str = "GTIN";

/// The check digit (0 to 9) that belongs behind these digits (0 to 9 each): weights 3, 1, 3, ... from the right (General Specifications 7.9). One
/// rule for all GS1 keys.
#[must_use]
pub fn check_digit(digits: &[u8]) -> u8 {
    // Sums modulo 10 fit in a byte at any length.
    let sum = digits
        .iter()
        .rev()
        .zip([3, 1].into_iter().cycle())
        .fold(0, |sum: u8, (d, weight)| (sum + d % 10 * weight) % 10);
    (10 - sum) % 10
}

/// Whether ASCII digits end in their check digit.
pub(super) fn ends_in_check_digit(text: &[u8]) -> Result<(), (u8, u8)> {
    let digits: Vec<u8> = text.iter().map(|c| c.wrapping_sub(b'0')).collect();
    match digits.split_last() {
        Some((last, body)) if check_digit(body) != *last => Err((check_digit(body), *last)),
        _ => Ok(()),
    }
}

/// A GTIN-14 with a right check digit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtin([u8; 14]);

impl Gtin {
    /// Takes 14 ASCII digits.
    ///
    /// # Errors
    /// [`Error::Character`], [`Error::CheckDigit`].
    pub fn from_bytes(digits: &[u8; 14]) -> Result<Self, Error> {
        if let Some(at) = digits.iter().position(|c| !c.is_ascii_digit()) {
            return Err(Error::Character {
                what: WHAT,
                position: at + 1,
                allowed: "0-9",
            });
        }
        ends_in_check_digit(digits).map_err(|(expected, found)| Error::CheckDigit {
            what: WHAT,
            expected: char::from(b'0' + expected % 10),
            found: char::from(b'0' + found % 10),
        })?;
        Ok(Self(*digits))
    }

    /// Reads a GTIN-8, -12, -13 or -14, filling up with zeros on the left.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Character`], [`Error::CheckDigit`].
    pub fn parse_short(text: &str) -> Result<Self, Error> {
        match text.len() {
            8 | 12 | 13 => format!("{text:0>14}").parse(),
            _ => text.parse(),
        }
    }

    /// The 14 ASCII digits.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 14] {
        &self.0
    }

    /// The digits as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Gtin {
    type Err = Error;

    /// Reads exactly 14 digits.
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.as_bytes().try_into().map_err(|_| Error::Length {
            what: WHAT,
            expected: 14,
            found: text.chars().count(),
        })?;
        Self::from_bytes(digits)
    }
}

impl fmt::Display for Gtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Gtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gtin({self})")
    }
}

/// A lot: 1 to 20 characters of GS1's set 82.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lot(String);

impl Lot {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Lot {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > MAX_LOT {
            return Err(Error::Length {
                what: "lot",
                expected: MAX_LOT,
                found: text.chars().count(),
            });
        }
        match text.bytes().position(|b| !is_set_82(b)) {
            Some(at) => Err(Error::Character {
                what: "lot",
                position: at + 1,
                allowed: "GS1 set 82",
            }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Lot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits() {
        let digits = |t: &str| t.bytes().map(|c| c - b'0').collect::<Vec<_>>();
        // GS1's own examples: a GTIN and an SSCC.
        for key in ["09521234543213", "106141411234567897"] {
            let all = digits(key);
            let (last, body) = all.split_last().unwrap();
            assert_eq!(check_digit(body), *last);
        }
        assert_eq!(check_digit(&[]), 0);
        // 500 nines weigh three, 500 weigh one.
        assert_eq!(check_digit(&[9; 1000]), 0);
        for d in 0..10u8 {
            let text = format!("0952123454321{d}");
            assert_eq!(text.parse::<Gtin>().is_ok(), d == 3);
        }
    }

    #[test]
    fn gtins() {
        assert!(matches!(
            "9521234543213".parse::<Gtin>(),
            Err(Error::Length { found: 13, .. })
        ));
        assert!(matches!(
            "0952123454321x".parse::<Gtin>(),
            Err(Error::Character { position: 14, .. })
        ));
        assert!(matches!(
            "09521234543214".parse::<Gtin>(),
            Err(Error::CheckDigit {
                expected: '3',
                found: '4',
                ..
            })
        ));
        for (short, long) in [
            ("9521234543213", "09521234543213"),
            ("416000336108", "00416000336108"),
            ("02345673", "00000002345673"),
        ] {
            assert_eq!(Gtin::parse_short(short).unwrap().as_str(), long);
        }
        assert!(
            Gtin::parse_short("123").is_err()
                && Gtin::parse_short("").is_err()
                && Gtin::parse_short("0234567é").is_err()
        );
    }

    #[test]
    fn lots() {
        for good in ["L", "L2026-10", "a/b%c", "12345678901234567890"] {
            assert_eq!(good.parse::<Lot>().unwrap().as_str(), good);
        }
        for bad in ["", "123456789012345678901", "a b", "é", "a#", "a\n"] {
            assert!(bad.parse::<Lot>().is_err(), "{bad:?}");
        }
    }
}
