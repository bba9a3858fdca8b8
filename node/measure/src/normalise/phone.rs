//! Phone numbers, by a port of libphonenumber: a number is used only if it is valid in its country's numbering plan.

use std::str::FromStr;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat};
use tally_contracts::records::Form;
use zeroize::Zeroize;

use super::identifier;
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
) -> Result<Identifier, DropReason> {
    if text.len() > MAX_PHONE_BYTES {
        return Err(DropReason::Phone);
    }
    // Words for numbers and `ext. 5` are not what a column of people's phones has.
    if text.chars().any(char::is_alphabetic) {
        return Err(DropReason::Phone);
    }
    let mut number = parse(text, form, default_region)?;
    let result = render(&number, form);
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

/// Reads a number with its country, else in the default region; `cn11` is at home in China, and in a column of `digits` a
/// number that is not valid in the default region is one whose `+` was left out.
fn parse(
    text: &str,
    form: Form,
    default_region: Option<Region>,
) -> Result<PhoneNumber, DropReason> {
    let region = match form {
        Form::PhoneCn11 => Some(default_region.unwrap_or(Region(rlibphonenumber::Region::CN))),
        _ => default_region,
    };
    let plus = |c| matches!(c, '+' | '\u{ff0b}');
    if text
        .chars()
        .find(|c| plus(*c) || c.is_numeric())
        .is_some_and(plus)
    {
        return valid(text, None);
    }
    let national = region.map(|region| valid(text, Some(region)));
    match (national, form) {
        (Some(Ok(number)), _) => Ok(number),
        (_, Form::PhoneDigits) => {
            let with_plus = zeroize::Zeroizing::new(format!("+{text}"));
            valid(&with_plus, None)
        }
        (Some(Err(reason)), _) => Err(reason),
        (None, _) => Err(if text.chars().any(char::is_numeric) {
            DropReason::PhoneRegion
        } else {
            DropReason::Phone
        }),
    }
}

fn valid(text: &str, region: Option<Region>) -> Result<PhoneNumber, DropReason> {
    PHONE_NUMBER_UTIL
        .parse(text, region.map(|r| r.0))
        .ok()
        .filter(|number| PHONE_NUMBER_UTIL.is_valid_number(number))
        .ok_or(DropReason::Phone)
}

#[cfg(test)]
mod tests {
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
    fn what_no_one_can_be_called_at_is_refused() {
        for field in [
            "unknown",
            "+",
            "+1212555014",
            "+212125550143",
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
    fn regions_are_two_letters() {
        for bad in ["", "C", "CHN", "86", "XX", "\u{4e2d}"] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
        assert!(" gb ".parse::<Region>().is_ok());
    }
}
