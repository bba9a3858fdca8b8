//! What is checked of a part of a value besides its length and characters (the content rules of GS1's Syntax Dictionary).

use super::coupon::{is_coupon, is_offer};
use super::gtin::ends_in_check_digit;
use super::lists::{is_country, is_country_number, is_currency_number, is_package_type};

/// A rule for the content of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    None,
    CheckDigit,
    /// Global Model Number: a company prefix in front, a pair of check characters behind; with `true` something that is not a digit.
    Model(bool),
    /// Begins with a company prefix: at least four digits.
    Prefix,
    /// YYMMDD; day 00 allowed if true.
    Date(bool),
    /// YYYYMMDD.
    LongDate,
    /// HHMM.
    Minutes,
    /// HH and then, if there, MM and SS.
    Time,
    Zero,
    NotZero,
    ZeroOrOne,
    /// One of these characters.
    OneOf(&'static [u8]),
    /// No zero in front, but for 0 itself.
    NoZeroPrefix,
    /// "Piece i of n", two digits each.
    Pieces,
    /// "i/n" of a birth.
    Position,
    /// Percent coded text.
    Percent,
    /// At most this number.
    AtMost(u64),
    /// ISO 3166-1 number.
    CountryNumber,
    /// ISO 3166-1 number, or 999.
    CountryNumberOrAny,
    /// ISO 3166-1 two letters.
    Country,
    /// ISO 4217 number.
    CurrencyNumber,
    /// ISO 13616.
    Iban,
    /// AIDC media type.
    Media,
    /// UN/ECE recommendation 21 with GS1's additions.
    Package,
    /// Importer index of EU regulation 2018/574.
    Importer,
    /// Padding of base 64.
    Padding,
    /// North American coupon.
    Coupon,
    /// North American positive offer file.
    Offer,
}

/// The number that ASCII digits stand for; `None` for other text and beyond 64 bits.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, c| {
        let d = c.is_ascii_digit().then(|| u64::from(c - b'0'))?;
        n.checked_mul(10)?.checked_add(d)
    })
}

fn part(text: &[u8], at: usize, len: usize) -> Option<u64> {
    text.get(at..at + len).and_then(number)
}

impl Rule {
    /// Checks a part whose characters are of its set.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn check(self, text: &[u8]) -> Result<(), &'static str> {
        let two = |at| part(text, at, 2);
        let (ok, what) = match self {
            Self::None => return Ok(()),
            Self::CheckDigit => (ends_in_check_digit(text).is_ok(), "wrong check digit"),
            Self::Model(non_digit) => {
                Self::Prefix.check(text)?;
                if non_digit && text.iter().all(u8::is_ascii_digit) {
                    return Err("expected something that is not a digit");
                }
                (has_check_pair(text), "wrong pair of check characters")
            }
            Self::Prefix => (
                text.iter().take_while(|b| b.is_ascii_digit()).count() >= 4,
                "too short for a company prefix",
            ),
            Self::Date(day_zero) => (is_short_date(text, day_zero), "not a date"),
            Self::LongDate => (
                part(text, 0, 4).is_some_and(|year| is_date(year, two(4), two(6), false)),
                "not a date",
            ),
            Self::Minutes => (is_below(two(0), 24) && is_below(two(2), 60), "not a time"),
            Self::Time => (
                text.len().is_multiple_of(2)
                    && is_below(two(0), 24)
                    && [2, 4].into_iter().all(|at| two(at).is_none_or(|n| n < 60)),
                "not a time",
            ),
            Self::Zero => (text.iter().all(|b| *b == b'0'), "not zero"),
            Self::NotZero => (text.iter().any(|b| *b != b'0'), "zero"),
            Self::ZeroOrOne => (matches!(text, b"0" | b"1"), "not 0 or 1"),
            Self::OneOf(set) => (
                matches!(text, [b] if set.contains(b)),
                "not one of the values that are defined",
            ),
            Self::NoZeroPrefix => (text.len() == 1 || !text.starts_with(b"0"), "zero in front"),
            Self::Pieces => (
                two(0) > Some(0) && two(0) <= two(2),
                "not a piece of a total",
            ),
            Self::Position => (is_position(text), "not a position in a sequence"),
            Self::Percent => (is_percent_coded(text), "wrong percent coding"),
            Self::AtMost(most) => (number(text).is_some_and(|n| n <= most), "out of range"),
            Self::CountryNumber => (is_country_number(text), "not a country of ISO 3166"),
            Self::CountryNumberOrAny => (
                text == b"999" || is_country_number(text),
                "not a country of ISO 3166",
            ),
            Self::Country => (is_country(text), "not a country of ISO 3166"),
            Self::CurrencyNumber => (is_currency_number(text), "not a currency of ISO 4217"),
            Self::Iban => return check_iban(text),
            Self::Media => (
                matches!(number(text), Some(1..=10 | 80..=99)),
                "not an AIDC media type",
            ),
            Self::Package => (is_package_type(text), "not a package type"),
            Self::Importer => (
                matches!(text, [b] if b.is_ascii_alphanumeric() || b"-_".contains(b)),
                "not an importer index",
            ),
            Self::Padding => (is_padded(text), "wrong padding"),
            Self::Coupon => (is_coupon(text), "not a coupon"),
            Self::Offer => (is_offer(text), "not a positive offer"),
        };
        if ok { Ok(()) } else { Err(what) }
    }
}

fn is_below(n: Option<u64>, bound: u64) -> bool {
    n.is_some_and(|n| n < bound)
}

/// Two-digit years fall within 1976 to 2075, where every fourth is a leap year.
pub(super) fn is_short_date(text: &[u8], day_zero: bool) -> bool {
    part(text, 0, 2)
        .is_some_and(|year| is_date(2000 + year, part(text, 2, 2), part(text, 4, 2), day_zero))
}

fn is_date(year: u64, month: Option<u64>, day: Option<u64>, day_zero: bool) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        Some(2) if leap => 29,
        Some(2) => 28,
        Some(4 | 6 | 9 | 11) => 30,
        Some(1..=12) => 31,
        _ => return false,
    };
    day.is_some_and(|day| day <= days && (day_zero || day > 0))
}

fn is_position(text: &[u8]) -> bool {
    let mut sides = text.split(|b| *b == b'/');
    let side = |text: Option<&[u8]>| text.filter(|t| !t.starts_with(b"0")).and_then(number);
    let (Some(position), Some(end), None) = (side(sides.next()), side(sides.next()), sides.next())
    else {
        return false;
    };
    position <= end
}

fn is_percent_coded(text: &[u8]) -> bool {
    text.iter().enumerate().all(|(i, b)| {
        *b != b'%'
            || matches!(text.get(i + 1..i + 3), Some([h, l]) if h.is_ascii_hexdigit() && l.is_ascii_hexdigit())
    })
}

/// At most two padding signs, all at the end; GS1 wants the whole to be a multiple of three characters then.
fn is_padded(text: &[u8]) -> bool {
    let body = text.iter().take_while(|b| **b != b'=').count();
    let pads = text.len() - body;
    text.iter().skip(body).all(|b| *b == b'=')
        && (pads == 0 || pads <= 2 && body > 0 && text.len().is_multiple_of(3))
}

/// ISO 13616: country, check digits, account; modulo 97 over all of it, the first four characters last.
fn check_iban(text: &[u8]) -> Result<(), &'static str> {
    let Some((head, account)) = text.split_at_checked(4).filter(|_| text.len() > 10) else {
        return Err("too short for an IBAN");
    };
    if !head.get(..2).is_some_and(is_country) {
        return Err("IBAN of no country of ISO 3166");
    }
    let mut rest = 0;
    for c in account.iter().chain(head) {
        rest = match c {
            b'0'..=b'9' => rest * 10 + u64::from(c - b'0'),
            b'A'..=b'Z' => rest * 100 + u64::from(c - b'A') + 10,
            _ => return Err("a character is not of an IBAN"),
        } % 97;
    }
    if rest == 1 {
        Ok(())
    } else {
        Err("wrong check digits of an IBAN")
    }
}

/// General Specifications 7.9.5: set 82 values weighted by primes from the right, modulo 1021, in two characters of a set of 32.
fn has_check_pair(text: &[u8]) -> bool {
    const SET_82: &[u8; 82] =
        b"!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    const SET_32: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
    const PRIMES: [u32; 23] = [
        2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83,
    ];
    let Some((body, pair)) = text.split_last_chunk::<2>() else {
        return false;
    };
    let value = |b: &u8| {
        SET_82
            .iter()
            .position(|c| c == b)
            .and_then(|v| u32::try_from(v).ok())
    };
    let sum: Option<u32> = body
        .iter()
        .rev()
        .zip(PRIMES)
        .map(|(b, prime)| Some(value(b)? * prime))
        .sum();
    sum.is_some_and(|sum| {
        let sum = (sum % 1021) as usize;
        [SET_32[sum >> 5], SET_32[sum & 31]] == *pair
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_accepts_and_refuses() {
        for (rule, good, bad) in [
            (
                Rule::LongDate,
                &["20240229", "19991231"][..],
                &["20230229", "19000229", "20240100"][..],
            ),
            (Rule::Minutes, &["0000", "2359"], &["2400", "2360"]),
            (
                Rule::Time,
                &["00", "2359", "235959"],
                &["24", "2360", "235960", "001"],
            ),
            (Rule::NotZero, &["0001"], &["0000"]),
            (Rule::OneOf(b"019"), &["0", "9"], &["2", "01", ""]),
            (Rule::NoZeroPrefix, &["0", "10"], &["01", "00"]),
            (
                Rule::Pieces,
                &["0101", "0102", "9999"],
                &["0001", "0201", "0000"],
            ),
            (
                Rule::Position,
                &["1/1", "1/3", "9/10"],
                &[
                    "0/3", "3/1", "1/", "/1", "01/2", "1/02", "1//2", "a/b", "12",
                ],
            ),
            (
                Rule::AtMost(1_800_000_000),
                &["0000000000", "1800000000"],
                &["1800000001"],
            ),
            (Rule::CountryNumber, &["156", "276"], &["999", "000", "157"]),
            (Rule::CountryNumberOrAny, &["999", "156"], &["998"]),
            (Rule::Country, &["CN", "DE"], &["XX", "cn"]),
            (Rule::CurrencyNumber, &["156", "978"], &["000", "001"]),
            (
                Rule::Iban,
                &["GB98MIDL07009312345678", "BE71096123456769"],
                &[
                    "BE71096123456760",
                    "XX71096123456769",
                    "BE7109612x456769",
                    "BE71096123",
                ],
            ),
            (Rule::Media, &["01", "10", "80", "99"], &["00", "11", "79"]),
            (
                Rule::Package,
                &["1A", "8", "ZZ", "APE"],
                &["0", "", "ABC", "1A8"],
            ),
            (Rule::Importer, &["-", "_", "a", "0"], &["=", "", "ab"]),
            (
                Rule::Padding,
                &["1", "12", "12=", "1=="],
                &["===", "123=", "12==", "1=2", "="],
            ),
            (Rule::Percent, &["a%20", "%fF"], &["%", "%4", "%4g"]),
            (Rule::Prefix, &["1234", "12345A"], &["123", "123A"]),
            (
                Rule::Model(false),
                &["1987654Ad4X4bL5ttr2310c2K"],
                &["1987654Ad4X4bL5ttr2310cK2", "22"],
            ),
            (
                Rule::Model(true),
                &["1987654Ad4X4bL5ttr2310c2K"],
                &["1987654000000"],
            ),
            (
                Rule::Date(true),
                &["260228", "280229", "260200", "000229"],
                &["260229", "261301", "260431", "000000"],
            ),
            (Rule::Date(false), &["260228"], &["260200"]),
        ] {
            for text in good {
                assert_eq!(rule.check(text.as_bytes()), Ok(()), "{rule:?} {text}");
            }
            for text in bad {
                assert!(rule.check(text.as_bytes()).is_err(), "{rule:?} {text}");
            }
        }
    }
}
