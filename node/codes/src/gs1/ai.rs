//! Application identifiers: which there are, what their values look like, and which make a Digital Link.

use super::charset::{is_set_39, is_set_64, is_set_82};
use super::rules::Rule;
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

/// Whether GS1 could still give this number away: two to four digits, as many as the others that begin with the same two.
pub(super) fn may_be_new(ai: &str) -> bool {
    (2..=4).contains(&ai.len())
        && ai.bytes().all(|b| b.is_ascii_digit())
        && TABLE
            .iter()
            .filter(|e| (e.first.get(..2)..=e.last.get(..2)).contains(&ai.get(..2)))
            .all(|e| e.first.len() == ai.len())
}

/// Checks a value against the identifier's form: length, characters and content. Company prefixes are not looked up in GS1's list of
/// them.
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
    part.rule.check(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gs1::link::tests::{Score, bracketed};

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

    #[test]
    fn rules_follow_the_vectors() {
        let Some(vectors) = crate::gs1::link::tests::vectors() else {
            return;
        };
        let mut score = Score::default();
        for v in vectors["test_ai_linters"].as_array().unwrap() {
            let (text, err) = (v["ai"].as_str().unwrap(), v["err"].as_str().unwrap());
            let elements = bracketed(text);
            assert!(!elements.is_empty(), "{text}");
            let results: Vec<_> = elements
                .iter()
                .map(|(ai, value)| validate(ai, value))
                .collect();
            let ok = results.iter().all(Result::is_ok);
            score.add(
                ok,
                err == "GS1_LINTER_OK",
                &format!("{text} {err} {results:?}"),
            );
        }
        score.check("element rules");
    }
}
