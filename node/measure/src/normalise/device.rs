//! Device IDs and open IDs. Zeros only are what a device gives when its owner refuses to be tracked: never an ID.

use super::identifier;
use crate::{DropReason, Identifier};

/// The longest opaque ID.
const MAX_OPAQUE_BYTES: usize = 128;

/// A UUID in its 8-4-4-4-12 form.
pub(super) fn uuid(text: &str, case: impl Fn(&str) -> String) -> Result<Identifier, DropReason> {
    let well_formed = text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    if !well_formed {
        return Err(DropReason::DeviceId);
    }
    not_zero(text)?;
    identifier(zeroize::Zeroizing::new(case(text)).as_bytes())
}

/// Printable ASCII, as it came: upper and lower case differ.
pub(super) fn opaque(text: &str) -> Result<Identifier, DropReason> {
    if text.len() > MAX_OPAQUE_BYTES {
        return Err(DropReason::TooLong);
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(DropReason::DeviceId);
    }
    not_zero(text)?;
    identifier(text.as_bytes())
}

fn not_zero(text: &str) -> Result<(), DropReason> {
    if text.bytes().all(|b| matches!(b, b'0' | b'-')) {
        Err(DropReason::AllZero)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::normalise::tests::text;

    #[test]
    fn uuids_have_the_case_of_their_platform() {
        let id = "6D92078a-8246-4BA4-ae5b-76104861e7dc";
        assert_eq!(text("idfa", None, id), id.to_uppercase());
        assert_eq!(text("gaid", None, id), id.to_lowercase());
        for bad in [
            "6D92078a82464BA4ae5b76104861e7dc",
            "6D92078a-8246-4BA4-ae5b-76104861e7dg",
            "x",
            "{6D92078a-8246-4BA4-ae5b-76104861e7d",
        ] {
            assert_eq!(text("idfa", None, bad), "DeviceId");
        }
    }

    #[test]
    fn zeros_are_no_device() {
        assert_eq!(
            text("idfa", None, "00000000-0000-0000-0000-000000000000"),
            "AllZero"
        );
        assert_eq!(text("oaid", None, "0000000000000000"), "AllZero");
        assert_eq!(text("open_id", None, "0-0"), "AllZero");
    }

    #[test]
    fn opaque_ids_stay_as_they_are() {
        assert_eq!(
            text("open_id", None, " oLVPpjqs9BhvzwPj5A "),
            "oLVPpjqs9BhvzwPj5A"
        );
        assert_eq!(text("oaid", None, "has space"), "DeviceId");
        assert_eq!(text("oaid", None, &"a".repeat(129)), "TooLong");
    }
}
