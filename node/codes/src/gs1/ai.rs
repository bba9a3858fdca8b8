//! Application identifiers: which there are, what their values look like, and which make a Digital Link.

use super::charset::{is_set_39, is_set_64, is_set_82};
use super::gtin::ends_in_check_digit;
use super::table::{PATHS, TABLE};

/// Characters of a part of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Set {
    /// Digits.
    N,
    /// Set 82.
    X,
    /// Set 39.
    Y,
    /// Set 64.
    Z,
}

/// What is checked of a part besides length and characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    None,
    CheckDigit,
    /// The pair of check characters of a Global Model Number.
    CheckPair,
    /// Begins with a company prefix: at least four digits.
    Prefix,
    /// YYMMDD; day 00 allowed if true.
    Date(bool),
    /// HHMM.
    Minutes,
    /// HH and then, if there, MM and SS.
    Time,
    Zero,
    ZeroOrOne,
    /// "Piece i of n", two digits each.
    Pieces,
    /// Percent coded text.
    Percent,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) set: Set,
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) optional: bool,
    pub(super) rule: Rule,
}

impl Part {
    pub(super) const fn rule(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    pub(super) const fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }
}

/// Identifiers `first` to `last`, both of one length, counted by their last digit.
pub(super) struct Entry {
    pub(super) first: &'static str,
    pub(super) last: &'static str,
    pub(super) parts: &'static [Part],
    /// May stand in the query of a link.
    pub(super) attribute: bool,
}

/// The entry of an identifier, if it is known.
pub(super) fn entry(ai: &str) -> Option<&'static Entry> {
    TABLE
        .iter()
        .find(|e| e.first.len() == ai.len() && (e.first..=e.last).contains(&ai))
}

/// The qualifier sequences of a primary key of links; `None` for other identifiers.
pub(super) fn sequences(key: &str) -> Option<&'static [&'static [&'static str]]> {
    PATHS
        .iter()
        .find_map(|(k, sequences)| (*k == key).then_some(*sequences))
}

/// Whether the length of the whole element is known from the first two digits (General Specifications figure 7.8.5-2); others end
/// in FNC1 in an element string.
pub(super) fn has_known_length(ai: &str) -> bool {
    let head = ai.get(..2).and_then(|head| head.parse().ok());
    matches!(head, Some(0_u8..=4 | 11..=20 | 31..=36 | 41))
}

/// Checks a value against the identifier's form. Not checked: country, currency, bank account, coupon and place codes, and company prefixes against
/// GS1's list of them.
///
/// # Errors
/// What is wrong, in words.
pub fn validate(ai: &str, value: &str) -> Result<(), &'static str> {
    let entry = entry(ai).ok_or("not a known application identifier")?;
    let mut rest = value.as_bytes();
    if rest.is_empty() {
        return Err("value is empty");
    }
    for part in entry.parts {
        if rest.is_empty() && part.optional {
            break;
        }
        let take = rest.len().min(part.max);
        if take < part.min {
            return Err("value is too short");
        }
        let (head, tail) = rest.split_at(take);
        check_part(part, head)?;
        rest = tail;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err("value is too long")
    }
}

fn check_part(part: &Part, text: &[u8]) -> Result<(), &'static str> {
    let (in_set, wrong): (fn(u8) -> bool, _) = match part.set {
        Set::N => (|b| b.is_ascii_digit(), "not a digit"),
        Set::X => (is_set_82, "a character is not of set 82"),
        Set::Y => (is_set_39, "a character is not of set 39"),
        Set::Z => (is_set_64, "a character is not of set 64"),
    };
    if !text.iter().all(|b| in_set(*b)) {
        return Err(wrong);
    }
    let two = |at: usize| {
        text.get(at..at + 2).map(|d| {
            d.iter()
                .fold(0, |n: u32, c| 10 * n + u32::from(c.wrapping_sub(b'0')))
        })
    };
    let ok = |yes: bool, what| if yes { Ok(()) } else { Err(what) };
    match part.rule {
        Rule::None => Ok(()),
        Rule::CheckDigit => ok(ends_in_check_digit(text).is_ok(), "wrong check digit"),
        Rule::CheckPair => ok(has_check_pair(text), "wrong pair of check characters"),
        Rule::Prefix => {
            ok(text.iter().take_while(|b| b.is_ascii_digit()).count() >= 4, "too short for a company prefix")
        }
        Rule::Date(day_zero) => ok(is_date([two(0), two(2), two(4)], day_zero), "not a date"),
        Rule::Minutes => ok(two(0) < Some(24) && two(2) < Some(60), "not a time"),
        Rule::Time => ok(
            text.len().is_multiple_of(2)
                && two(0) < Some(24)
                && [2, 4].into_iter().all(|at| two(at).is_none_or(|n| n < 60)),
            "not a time",
        ),
        Rule::Zero => ok(text.iter().all(|b| *b == b'0'), "not zero"),
        Rule::ZeroOrOne => ok(matches!(text, b"0" | b"1"), "not 0 or 1"),
        Rule::Pieces => ok(two(0) > Some(0) && two(0) <= two(2), "not a piece of a total"),
        Rule::Percent => ok(
            text.iter().enumerate().all(|(i, b)| {
                *b != b'%' || matches!(text.get(i + 1..i + 3), Some([h, l]) if h.is_ascii_hexdigit() && l.is_ascii_hexdigit())
            }),
            "wrong percent coding",
        ),
    }
}

fn is_date([year, month, day]: [Option<u32>; 3], day_zero: bool) -> bool {
    let (Some(year), Some(month), Some(day)) = (year, month, day) else {
        return false;
    };
    // Two-digit years fall within 1976 to 2075, where every fourth is a leap year.
    let days = match month {
        2 if year.is_multiple_of(4) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    day <= days && (day_zero || day > 0)
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
    fn identifiers_are_found_once() {
        for e in TABLE {
            assert!(e.first.len() == e.last.len() && e.first <= e.last && !e.parts.is_empty());
            assert!(e.first.bytes().all(|b| b.is_ascii_digit()));
            assert_eq!(e.first[..e.first.len() - 1], e.last[..e.last.len() - 1]);
            let (mut least, mut most) = (0, 0);
            for p in e.parts {
                assert!(p.min <= p.max && p.max > 0);
                least += if p.optional { 0 } else { p.min };
                most += p.max;
            }
            assert!(least > 0 && most <= 90);
            // No identifier begins another, so that element strings can be taken apart.
            for other in TABLE {
                if !std::ptr::eq(e, other) {
                    let n = e.first.len().min(other.first.len());
                    assert!(
                        other.last[..n] < e.first[..n] || other.first[..n] > e.last[..n],
                        "{} {}",
                        e.first,
                        other.first
                    );
                }
            }
        }
        for (key, sequences) in PATHS {
            assert!(entry(key).is_some());
            assert!(
                sequences
                    .iter()
                    .flat_map(|s| s.iter())
                    .all(|q| entry(q).is_some())
            );
        }
        assert!(
            entry("3105").is_some()
                && entry("3106").is_none()
                && entry("89").is_none()
                && entry("").is_none()
        );
    }

    #[test]
    fn dates() {
        for (value, good) in [
            ("260228", true),
            ("260229", false),
            ("280229", true),
            ("260200", true),
            ("261301", false),
            ("260431", false),
            ("000000", false),
        ] {
            assert_eq!(validate("17", value).is_ok(), good, "{value}");
        }
        assert!(validate("4326", "260200").is_err());
    }

    #[test]
    fn model_numbers() {
        // GS1's example of a Global Model Number.
        assert_eq!(validate("8013", "1987654Ad4X4bL5ttr2310c2K"), Ok(()));
        assert!(validate("8013", "1987654Ad4X4bL5ttr2310cK2").is_err());
    }

    /// Rules of the vectors that are not checked here: tables of countries, banks, coupons and places.
    const NOT_CHECKED: &[&str] = &[
        "COUPON",
        "ISO3166",
        "IBAN",
        "LONGITUDE",
        "BIOLOGICAL",
        "IMPORT_IDX",
        "ZERO_PREFIX",
    ];

    #[test]
    fn rules_follow_the_vectors() {
        let Some(vectors) = crate::gs1::link::tests::vectors() else {
            return;
        };
        let (mut accepted, mut rejected, mut skipped) = (0, 0, 0);
        for v in vectors["test_ai_linters"].as_array().unwrap() {
            let (text, err) = (v["ai"].as_str().unwrap(), v["err"].as_str().unwrap());
            if NOT_CHECKED.iter().any(|n| err.contains(n)) {
                skipped += 1;
                continue;
            }
            let results: Vec<_> = text
                .split('(')
                .skip(1)
                .map(|e| e.split_once(')').unwrap())
                .map(|(ai, value)| validate(ai, value))
                .collect();
            let ok = results.iter().all(Result::is_ok);
            assert_eq!(ok, err == "GS1_LINTER_OK", "{text} {err} {results:?}");
            if ok { accepted += 1 } else { rejected += 1 }
        }
        println!("element rules: {accepted} accepted, {rejected} rejected, {skipped} not covered");
        assert!(accepted >= 2 && rejected >= 13);
    }
}
