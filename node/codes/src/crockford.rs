//! Crockford base 32: five bits a character, no letter that is read as another.
//!
//! Reading rules: either case; O is 0; I and L are 1; U is refused. A check character, the value modulo 37, may follow a code that
//! people type; it never stands inside GS1 AI (21).

use zeroize::Zeroizing;

use crate::Error;

/// The 32 digits.
pub const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// The 37 check characters.
pub const CHECK_ALPHABET: &[u8; 37] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";

const ALLOWED: &str = "0-9 and A-Z without U";

/// The low `5 * N` bits of `value` as `N` characters, most significant first; `N` is at most 25.
#[must_use]
pub fn encode<const N: usize>(value: u128) -> [u8; N] {
    const { assert!(N <= 25) };
    let mut out = [0; N];
    let mut rest = value;
    for c in out.iter_mut().rev() {
        *c = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    out
}

/// Every two characters, by the ten bits that they stand for.
static PAIRS: [[u8; 2]; 1024] = {
    let mut pairs = [[0; 2]; 1024];
    let mut i = 0;
    while i < 1024 {
        pairs[i] = [ALPHABET[i >> 5], ALPHABET[i & 31]];
        i += 1;
    }
    pairs
};

/// The low `10 * N / 2` bits of `value` as `N` characters, most significant first, two at a time: [`encode`] for an even `N` of at most
/// 12.
pub(crate) fn encode_short<const N: usize>(value: u64) -> [u8; N] {
    const { assert!(N <= 12 && N.is_multiple_of(2)) };
    let mut out = [0; N];
    let mut rest = value;
    for two in out.as_chunks_mut::<2>().0.iter_mut().rev() {
        *two = PAIRS[(rest & 1023) as usize];
        rest >>= 10;
    }
    out
}

/// The digit that a character stands for.
fn digit(c: u8) -> Option<u8> {
    Some(match c.to_ascii_uppercase() {
        c @ b'0'..=b'9' => c - b'0',
        b'O' => 0,
        b'I' | b'L' => 1,
        c @ b'A'..=b'H' => c - b'A' + 10,
        c @ b'J'..=b'K' => c - b'J' + 18,
        c @ b'M'..=b'N' => c - b'M' + 20,
        c @ b'P'..=b'T' => c - b'P' + 22,
        c @ b'V'..=b'Z' => c - b'V' + 27,
        _ => return None,
    })
}

/// The value of exactly `n` characters, at most 25.
///
/// # Errors
/// [`Error::Length`], [`Error::Character`].
pub fn decode(what: &'static str, text: &str, n: usize) -> Result<u128, Error> {
    if text.len() != n || n > 25 {
        return Err(Error::Length {
            what,
            expected: n,
            found: text.chars().count(),
        });
    }
    text.bytes()
        .enumerate()
        .try_fold(0u128, |value, (i, c)| match digit(c) {
            Some(d) => Ok(value << 5 | u128::from(d)),
            None => Err(Error::Character {
                what,
                position: i + 1,
                allowed: ALLOWED,
            }),
        })
}

/// The check character of a value: modulo 37.
#[must_use]
pub fn check_character(value: u128) -> char {
    char::from(CHECK_ALPHABET[(value % 37) as usize])
}

/// [`check_character`] as a byte.
pub(crate) const fn check_byte(value: u64) -> u8 {
    CHECK_ALPHABET[(value % 37) as usize]
}

/// Reads what a person typed: `n` characters and a check character, with hyphens and spaces anywhere. The text is taken for secret:
/// the copy made here is wiped, and errors do not name a character.
///
/// # Errors
/// [`Error::Length`], [`Error::Character`], [`Error::Mistyped`].
pub fn decode_typed(what: &'static str, text: &str, n: usize) -> Result<u128, Error> {
    let mut plain = Zeroizing::new(String::with_capacity(n + 1));
    let mut found = 0;
    for c in text.chars().filter(|c| !matches!(c, '-' | ' ')) {
        found += 1;
        if found <= n + 1 {
            if !c.is_ascii() {
                return Err(Error::Character {
                    what,
                    position: found,
                    allowed: ALLOWED,
                });
            }
            plain.push(c);
        }
    }
    if found != n + 1 {
        return Err(Error::Length {
            what,
            expected: n + 1,
            found,
        });
    }
    let (body, check) = plain.split_at(n);
    let value = decode(what, body, n)?;
    // A check character reads like a digit where it is one; U and the four signs stand for themselves.
    let read = |c: char| match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    };
    if check.chars().map(read).eq([check_character(value)]) {
        Ok(value)
    } else {
        Err(Error::Mistyped { what })
    }
}

/// `text` with a hyphen after every `size` characters; the last group takes one character more rather than standing alone with
/// it. Wiped when dropped, as it may be secret.
#[must_use]
pub fn grouped(text: &str, size: usize) -> Zeroizing<String> {
    let n = text.chars().count();
    let mut out = Zeroizing::new(String::with_capacity(n + n / size.max(1)));
    for (i, c) in text.chars().enumerate() {
        if i > 0 && i % size.max(1) == 0 && i + 1 < n {
            out.push('-');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_character_reads_as_crockford_says() {
        for (i, c) in ALPHABET.iter().enumerate() {
            let upper = char::from(*c).to_string();
            assert_eq!(decode("x", &upper, 1), Ok(i as u128));
            assert_eq!(decode("x", &upper.to_lowercase(), 1), Ok(i as u128));
        }
        for (text, value) in [("o", 0), ("O", 0), ("i", 1), ("I", 1), ("l", 1), ("L", 1)] {
            assert_eq!(decode("x", text, 1), Ok(value));
        }
        for bad in ["U", "u", "*", "-", " ", "\0", "[", "@"] {
            assert!(
                matches!(
                    decode("x", bad, 1),
                    Err(Error::Character { position: 1, .. })
                ),
                "{bad}"
            );
        }
        assert!(matches!(
            decode("x", "00", 3),
            Err(Error::Length {
                expected: 3,
                found: 2,
                ..
            })
        ));
        assert!(matches!(decode("x", "é", 1), Err(Error::Length { .. })));
        assert!(matches!(decode("x", "é", 2), Err(Error::Character { .. })));
    }

    #[test]
    fn known_values() {
        assert_eq!(&encode::<2>(1023), b"ZZ");
        assert_eq!(&encode::<4>(0x1234), b"04HM");
        // 1234 mod 37 = 13, which is D; 32..=36 are the signs.
        assert_eq!(check_character(1234), 'D');
        assert_eq!((32..37).map(check_character).collect::<String>(), "*~$=U");
    }

    #[test]
    fn groups() {
        assert_eq!(grouped("ABCDEFGHJKMNX", 4).as_str(), "ABCD-EFGH-JKMNX");
        assert_eq!(grouped("ABCD", 4).as_str(), "ABCD");
        assert_eq!(grouped("ABCDEF", 4).as_str(), "ABCD-EF");
    }

    #[test]
    fn typing_errors_are_caught() {
        let value = 0xABC_DEF0_1234_5678_u128 & ((1 << 60) - 1);
        let mut text: Vec<u8> = encode::<12>(value).to_vec();
        text.push(check_character(value) as u8);
        let read = |t: &[u8]| decode_typed("claim code", std::str::from_utf8(t).unwrap(), 12);
        assert_eq!(read(&text), Ok(value));
        for i in 0..12 {
            for c in ALPHABET {
                let mut other = text.clone();
                other[i] = *c;
                assert_eq!(read(&other).is_ok(), text[i] == *c, "one wrong character");
            }
            if i < 11 {
                let mut swapped = text.clone();
                swapped.swap(i, i + 1);
                assert_eq!(
                    read(&swapped).is_ok(),
                    text[i] == text[i + 1],
                    "two swapped"
                );
            }
        }
        assert!(matches!(read(&text[..12]), Err(Error::Length { .. })));
        let mut longer = text.clone();
        longer.push(b'0');
        assert!(matches!(
            read(&longer),
            Err(Error::Length { found: 14, .. })
        ));
    }

    proptest! {
        #[test]
        fn two_at_a_time_equals_one_at_a_time(value: u64) {
            prop_assert_eq!(encode_short::<12>(value), encode::<12>(value.into()));
            prop_assert_eq!(encode_short::<10>(value), encode::<10>(value.into()));
        }

        #[test]
        fn hundred_bits_round_trip(value in 0u128..1 << 100, lower: bool) {
            let text = String::from_utf8(encode::<20>(value).to_vec()).unwrap();
            let text = if lower { text.to_lowercase() } else { text };
            prop_assert_eq!(decode("x", &text, 20), Ok(value));
            let typed = grouped(&format!("{text}{}", check_character(value)), 5);
            prop_assert_eq!(decode_typed("x", &typed, 20), Ok(value));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}") {
            let _ = decode("x", &text, 12);
            let _ = decode_typed("x", &text, 12);
        }
    }
}
