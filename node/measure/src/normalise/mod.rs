//! One form for each kind of ID: two members who hold the same person hold the same bytes.

mod device;
mod email;
mod phone;
mod prehashed;

pub use phone::Region;

use tally_contracts::records::{Form, Prehash, Profile};

use crate::{DropReason, Identifier, MAX_FIELD_BYTES};

/// An ID in the form of its profile.
pub struct Normalised {
    /// The ID.
    pub id: Identifier,
    /// A phone number of a possible length, in no range that the tables know to be assigned.
    pub unassigned: bool,
}

impl From<Identifier> for Normalised {
    fn from(id: Identifier) -> Self {
        Self {
            id,
            unassigned: false,
        }
    }
}

/// Brings IDs into the form of one profile.
#[derive(Debug, Clone, Copy)]
pub struct Normaliser {
    profile: Profile,
    default_region: Option<Region>,
}

impl Normaliser {
    /// For a profile; `default_region` is the country of phone numbers that come without one.
    #[must_use]
    pub const fn new(profile: Profile, default_region: Option<Region>) -> Self {
        Self {
            profile,
            default_region,
        }
    }

    /// The normalised ID of one field. An ID in the clear is never hashed here, and a hashed one never hashed again: what
    /// comes hashed has a profile of its own, and its bytes are the hash itself, whether it came in hex or in Base64.
    ///
    /// # Errors
    /// The reason why the field is no ID of this profile.
    pub fn normalise(&self, field: &[u8]) -> Result<Normalised, DropReason> {
        if field.len() > MAX_FIELD_BYTES {
            return Err(DropReason::TooLong);
        }
        let text = std::str::from_utf8(field)
            .map_err(|_| DropReason::Utf8)?
            .trim();
        if text.is_empty() {
            return Err(DropReason::Empty);
        }
        if self.profile.prehash != Prehash::None {
            return prehashed::normalise(text, self.profile.prehash).map(Into::into);
        }
        let id = match self.profile.form {
            form @ (Form::EmailUid2 | Form::EmailGoogle | Form::EmailPlain) => {
                email::normalise(text, form)
            }
            form @ (Form::PhoneE164 | Form::PhoneDigits | Form::PhoneCn11) => {
                return phone::normalise(text, form, self.default_region);
            }
            Form::Idfa => device::uuid(text, str::to_ascii_uppercase),
            Form::Gaid => device::uuid(text, str::to_ascii_lowercase),
            Form::Oaid | Form::OpenId => device::opaque(text),
        }?;
        Ok(id.into())
    }
}

/// An identifier of normalised text, which every rule has made non-empty.
fn identifier(text: &[u8]) -> Result<Identifier, DropReason> {
    Identifier::from_bytes(text).map_err(|_| DropReason::TooLong)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The normalised text of one field; `{reason:?}` if it is none.
    pub(crate) fn text(profile: &str, region: Option<&str>, field: &str) -> String {
        let region = region.map(|r| r.parse().unwrap());
        let normaliser = Normaliser::new(profile.parse().unwrap(), region);
        match normaliser.normalise(field.as_bytes()) {
            Ok(found) => String::from_utf8(found.id.as_bytes().to_vec()).unwrap(),
            Err(reason) => format!("{reason:?}"),
        }
    }

    #[test]
    fn absurd_fields_have_a_reason() {
        let normaliser = Normaliser::new("e164".parse().unwrap(), None);
        let reason = |field: &[u8]| normaliser.normalise(field).err();
        assert_eq!(reason(b""), Some(DropReason::Empty));
        assert_eq!(reason(b"   "), Some(DropReason::Empty));
        assert_eq!(reason(b"\xff\xfe"), Some(DropReason::Utf8));
        assert_eq!(
            reason(&[b'1'; MAX_FIELD_BYTES + 1]),
            Some(DropReason::TooLong)
        );
        assert_eq!(reason(&[b'+'; MAX_FIELD_BYTES]), Some(DropReason::Phone));
    }

    proptest::proptest! {
        #[test]
        fn no_field_panics_and_every_form_is_stable(
            field in "\\PC{0,40}|\\+?[0-9 ()-]{5,20}|[a-z.+]{1,9}@[a-z.]{1,9}",
            form in proptest::sample::select(Form::ALL.to_vec()),
        ) {
            let normaliser = Normaliser::new(Profile::plain(form), Some("CN".parse().unwrap()));
            if let Ok(Normalised { id, .. }) = normaliser.normalise(field.as_bytes()) {
                // What is normalised is its own normal form; of digits without a region, which would be asked first.
                let region = normaliser.default_region.filter(|_| form != Form::PhoneDigits);
                let again = Normaliser::new(normaliser.profile, region).normalise(id.as_bytes());
                proptest::prop_assert!(again.is_ok_and(|again| again.id == id), "form {form}");
            }
        }
    }
}
