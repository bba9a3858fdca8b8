//! Phone numbers, by a port of libphonenumber. A number with its country is used if its length is one that the country's
//! numbers have; that it lies in no range known to be assigned is noted and does not drop it, because ranges are opened faster
//! than tables of them are renewed, and two members with tables of different age would lose the same person to each other. A
//! number without its country is read by the default region and must be one that the region's plan knows.

use std::str::FromStr;

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat};
use tally_contracts::records::Form;
use zeroize::Zeroize;

use super::{Normalised, identifier};
use crate::{DropReason, Error, Identifier};

/// Longer than any phone number with all its punctuation.
const MAX_PHONE_BYTES: usize = 40;
const CHINA: i32 = 86;

/// A country or territory, by its two capital letters in ISO 3166-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region(rlibphonenumber::Region);

impl FromStr for Region {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let upper = text.trim().to_ascii_uppercase();
        if upper.len() != 2 || !upper.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(Error::Region);
        }
        upper
            .parse::<rlibphonenumber::Region>()
            .ok()
            .filter(|region| {
                PHONE_NUMBER_UTIL
                    .get_supported_regions()
                    .any(|r| r == *region)
            })
            .map(Self)
            .ok_or(Error::Region)
    }
}

pub(super) fn normalise(
    text: &str,
    form: Form,
    default_region: Option<Region>,
) -> Result<Normalised, DropReason> {
    if text.len() > MAX_PHONE_BYTES {
        return Err(DropReason::Phone);
    }
    // Words for numbers and `ext. 5` are not what a column of people's phones has.
    if text.chars().any(char::is_alphabetic) {
        return Err(DropReason::Phone);
    }
    let mut number = parse(text, form, default_region)?;
    let unassigned = !PHONE_NUMBER_UTIL.is_valid_number(&number);
    let result = render(&number, form).map(|id| Normalised { id, unassigned });
    number.national_number.zeroize();
    result
}

fn render(number: &PhoneNumber, form: Form) -> Result<Identifier, DropReason> {
    if number.extension.is_some() {
        return Err(DropReason::PhoneExtension);
    }
    let e164 = PHONE_NUMBER_UTIL.format(number, PhoneNumberFormat::E164);
    let mut e164 = zeroize::Zeroizing::new(e164.into_owned());
    match form {
        Form::PhoneE164 => identifier(e164.as_bytes()),
        Form::PhoneDigits => {
            e164.retain(|c| c.is_ascii_digit());
            identifier(e164.as_bytes())
        }
        _ => {
            let national = e164.strip_prefix("+86").ok_or(DropReason::PhoneForm)?;
            if number.country_code == CHINA && national.len() == 11 && national.starts_with('1') {
                identifier(national.as_bytes())
            } else {
                Err(DropReason::PhoneForm)
            }
        }
    }
}

/// Reads a number with its country, else in the default region; `cn11` is at home in China. A column of `digits` leaves open
/// where the country ends: there a number must be one that a plan knows, first the default region's, else that of the country
/// whose `+` was left out.
fn parse(
    text: &str,
    form: Form,
    default_region: Option<Region>,
) -> Result<PhoneNumber, DropReason> {
    let plus = |c| matches!(c, '+' | '\u{ff0b}');
    let international = text
        .chars()
        .find(|c| plus(*c) || c.is_numeric())
        .is_some_and(plus);
    match (form, default_region) {
        (Form::PhoneDigits, _) if international => valid(text, None),
        (Form::PhoneDigits, region) => {
            let with_plus = zeroize::Zeroizing::new(format!("+{text}"));
            region
                .ok_or(DropReason::PhoneRegion)
                .and_then(|region| valid(text, Some(region)))
                .or_else(|_| valid(&with_plus, None))
        }
        (Form::PhoneCn11, region) => {
            let china = Region(rlibphonenumber::Region::CN);
            possible(text, Some(region.unwrap_or(china)))
        }
        _ if international => possible(text, None),
        (_, Some(region)) => valid(text, Some(region)),
        (_, None) => Err(if text.chars().any(char::is_numeric) {
            DropReason::PhoneRegion
        } else {
            DropReason::Phone
        }),
    }
}

/// A number of a length that its country's numbers have.
fn possible(text: &str, region: Option<Region>) -> Result<PhoneNumber, DropReason> {
    read(text, region, |number| {
        matches!(
            PHONE_NUMBER_UTIL.is_possible_number_with_reason(number),
            Ok(NumberLengthType::IsPossible)
        )
    })
}

/// A number of its country's numbering plan.
fn valid(text: &str, region: Option<Region>) -> Result<PhoneNumber, DropReason> {
    read(text, region, |number| {
        PHONE_NUMBER_UTIL.is_valid_number(number)
    })
}

fn read(
    text: &str,
    region: Option<Region>,
    fits: impl Fn(&PhoneNumber) -> bool,
) -> Result<PhoneNumber, DropReason> {
    PHONE_NUMBER_UTIL
        .parse(text, region.map(|r| r.0))
        .ok()
        .filter(fits)
        .ok_or(DropReason::Phone)
}

#[cfg(test)]
mod tests {
    use crate::Normaliser;
    use crate::Region;
    use crate::normalise::tests::text;

    #[test]
    fn e164_and_its_two_relatives() {
        for (field, e164, digits, cn11) in [
            (
                "+86 130 0028 5084",
                "+8613000285084",
                "8613000285084",
                "13000285084",
            ),
            (
                "(+86)13000285084",
                "+8613000285084",
                "8613000285084",
                "13000285084",
            ),
            (
                "+1 (212) 555-0143",
                "+12125550143",
                "12125550143",
                "PhoneForm",
            ),
            (
                "+390612345678",
                "+390612345678",
                "390612345678",
                "PhoneForm",
            ),
            (
                "8613000285084",
                "PhoneRegion",
                "8613000285084",
                "13000285084",
            ),
            ("13000285084", "PhoneRegion", "Phone", "13000285084"),
            (
                "\u{ff0b}12125550143",
                "+12125550143",
                "12125550143",
                "PhoneForm",
            ),
        ] {
            assert_eq!(text("e164", None, field), e164, "e164 {field}");
            assert_eq!(text("digits", None, field), digits, "digits {field}");
            assert_eq!(text("cn11", None, field), cn11, "cn11 {field}");
        }
    }

    #[test]
    fn the_default_region_reads_national_numbers() {
        assert_eq!(text("e164", Some("cn"), "13000285084"), "+8613000285084");
        assert_eq!(text("e164", Some("US"), "(212) 555-0143"), "+12125550143");
        assert_eq!(text("e164", Some("DE"), "0030 123456"), "Phone");
        assert_eq!(
            text("e164", Some("US"), "+86 13000285084"),
            "+8613000285084"
        );
        assert_eq!(text("digits", Some("CN"), "12125550143"), "12125550143");
    }

    #[test]
    fn digits_of_another_country_may_be_a_number_at_home() {
        // In Ohio and, read in China, a mobile number.
        assert_eq!(text("digits", Some("CN"), "+1 380 234 5678"), "13802345678");
        assert_eq!(text("digits", None, "13802345678"), "13802345678");
        assert_eq!(text("digits", Some("CN"), "13802345678"), "8613802345678");
    }

    #[test]
    fn what_no_one_can_be_called_at_is_refused() {
        for field in [
            "unknown",
            "+",
            "+1212555014",
            "+1-800-FLOWERS",
            "+1 212 555 0143 ext 5",
            "n/a",
            "-",
            "+99912345",
        ] {
            assert_eq!(text("e164", Some("US"), field), "Phone", "{field}");
        }
        assert_eq!(text("e164", None, "+1 212 555 0143 #5"), "PhoneExtension");
    }

    #[test]
    fn a_number_outside_the_known_ranges_is_used_and_noted() {
        let normaliser = Normaliser::new("e164".parse().unwrap(), None);
        for (field, unassigned) in [
            ("+8613000285084", false),
            ("+8615400285084", true),
            ("+212125550143", true),
        ] {
            let found = normaliser.normalise(field.as_bytes()).unwrap();
            assert_eq!(found.id.as_bytes(), field.as_bytes());
            assert_eq!(found.unassigned, unassigned, "{field}");
        }
        assert_eq!(text("cn11", None, "+8615400285084"), "15400285084");
    }

    #[test]
    fn regions_are_two_letters() {
        for bad in ["", "C", "CHN", "86", "XX", "\u{4e2d}"] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
        assert!(" gb ".parse::<Region>().is_ok());
    }
}
