//! What became of every row of an import.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tally_contracts::records::{IdType, Profile};

use crate::DenseRange;

/// Why a row was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DropReason {
    /// The row has more or fewer columns than the header.
    ColumnCount,
    /// A quote that does not open a field, is followed by text, or is never closed.
    Quoting,
    /// The ID is not UTF-8.
    Utf8,
    /// The row or the ID is longer than anything that can be an ID.
    TooLong,
    /// The ID is empty.
    Empty,
    /// Not a phone number, or of a length that no number of its country has.
    Phone,
    /// A phone number without `+` and country, and no default region to read it by.
    PhoneRegion,
    /// A phone number with an extension: it names a switchboard, not a person.
    PhoneExtension,
    /// A phone number that the profile cannot express: `cn11` is for Chinese mobile numbers.
    PhoneForm,
    /// Not an e-mail address.
    Email,
    /// Not a device ID or open ID of the expected form.
    DeviceId,
    /// An ID of zeros only: what devices give when tracking is refused.
    AllZero,
    /// Not a hash of the expected length in hex or Base64, or the hash of nothing.
    Hash,
    /// Not a time in whole POSIX seconds.
    Time,
    /// No channel, or a name that is too long or not UTF-8.
    Channel,
    /// Neither `view` nor `click`.
    Kind,
    /// Not a whole number of minor units, from 0.
    Value,
    /// More touches of one person than are taken.
    TooMany,
}

impl DropReason {
    /// One line for people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::ColumnCount => "another number of columns than the header",
            Self::Quoting => "quotes that do not match",
            Self::Utf8 => "not UTF-8",
            Self::TooLong => "too long",
            Self::Empty => "empty",
            Self::Phone => "not a valid phone number",
            Self::PhoneRegion => "phone number without country code, and no default region given",
            Self::PhoneExtension => "phone number with an extension",
            Self::PhoneForm => "not a Chinese mobile number",
            Self::Email => "not an e-mail address",
            Self::DeviceId => "not a device ID of this type",
            Self::AllZero => "an ID of zeros",
            Self::Hash => "not a hash of this kind, or the hash of nothing",
            Self::Time => "not a time in whole POSIX seconds",
            Self::Channel => "no channel, or not a name",
            Self::Kind => "neither view nor click",
            Self::Value => "not a whole number of minor units of the currency, from 0",
            Self::TooMany => "more of one person than are taken",
        }
    }
}

/// How many rows, and where the first of them are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// How many rows.
    pub count: u64,
    /// The lines, counted from 1 (the header), where the first of them begin.
    pub first_lines: Vec<u64>,
}

impl Lines {
    pub(crate) fn add(&mut self, line: u64, keep: usize) {
        self.count += 1;
        if self.first_lines.len() < keep {
            self.first_lines.push(line);
        }
    }
}

/// What became of every row: `rows = used + duplicates.count + dropped_rows()`. It holds counts and line numbers, never an ID,
/// and serialises as one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Rows after the header; blank lines are not rows.
    pub rows: u64,
    /// Distinct people.
    pub used: u64,
    /// Rows whose ID came before.
    pub duplicates: Lines,
    /// Rows not used, by reason.
    pub dropped: BTreeMap<DropReason, Lines>,
    /// Rows that were used, or repeated, although their phone number lies in no range known to be assigned. Many of them mean
    /// a wrong column or a broken export.
    #[serde(default)]
    pub unassigned: Lines,
    /// The kind of ID.
    #[serde(with = "id_type_text")]
    pub id_type: IdType,
    /// The form that IDs were brought into.
    #[serde(with = "profile_text")]
    pub profile: Profile,
    /// Set if the IDs are numbers that fill a range: an enumeration rather than an audience.
    pub dense_range: Option<DenseRange>,
}

impl ImportReport {
    pub(crate) const fn new(profile: Profile) -> Self {
        Self {
            rows: 0,
            used: 0,
            duplicates: Lines {
                count: 0,
                first_lines: Vec::new(),
            },
            dropped: BTreeMap::new(),
            unassigned: Lines {
                count: 0,
                first_lines: Vec::new(),
            },
            id_type: profile.id_type(),
            profile,
            dense_range: None,
        }
    }

    /// How many rows were not used, for any reason but repetition.
    #[must_use]
    pub fn dropped_rows(&self) -> u64 {
        self.dropped.values().map(|l| l.count).sum()
    }
}

mod profile_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use tally_contracts::records::Profile;

    pub(super) fn serialize<S: Serializer>(profile: &Profile, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(profile)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Profile, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

mod id_type_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use tally_contracts::records::IdType;

    pub(super) fn serialize<S: Serializer>(id_type: &IdType, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(id_type)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<IdType, D::Error> {
        let text = String::deserialize(d)?;
        IdType::parse(&text).ok_or_else(|| D::Error::custom("unknown ID type"))
    }
}
