//! E-mail addresses. `uid2`: lower case; at gmail.com dots and the +suffix go. `google`: the same at googlemail.com too, and inner
//! spaces go. `plain`: lower case.

use tally_contracts::records::Form;

use super::identifier;
use crate::{DropReason, Identifier};

/// The longest address (RFC 5321 4.5.3.1.3, without the angle brackets).
const MAX_EMAIL_BYTES: usize = 254;

pub(super) fn normalise(text: &str, form: Form) -> Result<Identifier, DropReason> {
    let mut text = zeroize::Zeroizing::new(text.to_lowercase());
    if form == Form::EmailGoogle {
        text.retain(|c| !c.is_whitespace());
    }
    if text.len() > MAX_EMAIL_BYTES {
        return Err(DropReason::TooLong);
    }
    let (local, domain) = text.split_once('@').ok_or(DropReason::Email)?;
    check(local, domain)?;
    let folds = match form {
        Form::EmailUid2 => domain == "gmail.com",
        Form::EmailGoogle => domain == "gmail.com" || domain == "googlemail.com",
        _ => false,
    };
    if !folds {
        return identifier(text.as_bytes());
    }
    let name = local.split('+').next().unwrap_or_default();
    let name = zeroize::Zeroizing::new(name.replace('.', ""));
    if name.is_empty() {
        return Err(DropReason::Email);
    }
    identifier(
        zeroize::Zeroizing::new([name.as_bytes(), b"@", domain.as_bytes()].concat()).as_slice(),
    )
}

/// Enough to tell an address from something else: it is not delivered to.
fn check(local: &str, domain: &str) -> Result<(), DropReason> {
    let plain = |text: &str| {
        !text.is_empty()
            && !text
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || "@,;<>\"".contains(c))
    };
    let labelled = domain.contains('.') && domain.split('.').all(|label| !label.is_empty());
    if plain(local) && plain(domain) && labelled {
        Ok(())
    } else {
        Err(DropReason::Email)
    }
}

#[cfg(test)]
mod tests {
    use crate::normalise::tests::text;

    #[test]
    fn each_profile_has_its_rule() {
        for (field, uid2, google, plain) in [
            (
                " Ada.B+x@Gmail.com ",
                "adab@gmail.com",
                "adab@gmail.com",
                "ada.b+x@gmail.com",
            ),
            (
                "Ada.B@googlemail.com",
                "ada.b@googlemail.com",
                "adab@googlemail.com",
                "ada.b@googlemail.com",
            ),
            (
                "Ada.B+x@Example.org",
                "ada.b+x@example.org",
                "ada.b+x@example.org",
                "ada.b+x@example.org",
            ),
            ("ada b@example.org", "Email", "adab@example.org", "Email"),
        ] {
            assert_eq!(text("uid2", None, field), uid2);
            assert_eq!(text("google", None, field), google);
            assert_eq!(text("plain", None, field), plain);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for field in [
            "ada",
            "@example.org",
            "ada@",
            "ada@example",
            "a@b@c.org",
            "ada@.org",
            "+x@gmail.com",
            "...@gmail.com",
            "<a@b.org>",
        ] {
            assert_eq!(text("uid2", None, field), "Email", "{field}");
        }
        assert_eq!(
            text("plain", None, &format!("{}@example.org", "a".repeat(250))),
            "TooLong"
        );
    }
}
