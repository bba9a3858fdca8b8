//! Files of people: every row is used, repeated or dropped with a reason, and a normalised ID is its own normal form.
//!
//! An input is a byte for the form, one for the hashing, one for the region, and a CSV file.

use tally_contracts::records::{Form, Prehash, Profile};
use tally_measure::{ImportOptions, Normaliser, Region, SetOpening, import};

use crate::bytes::Bytes;
use crate::{Seeds, named, same};

const PREHASHES: [Prehash; 4] = [Prehash::None, Prehash::Md5, Prehash::Sha1, Prehash::Sha256];
const REGIONS: [&str; 3] = ["CN", "DE", "US"];

fn one<T: Copy>(of: &[T], byte: u8) -> T {
    of[usize::from(byte) % of.len()]
}

fn region(byte: u8) -> Option<Region> {
    let name = REGIONS.get(usize::from(byte % 4))?;
    Some(name.parse().expect("a region"))
}

/// Imports an input.
pub fn run(bytes: &[u8]) {
    if let Ok(opening) = SetOpening::from_bytes(bytes) {
        same("set opening", bytes, &opening.to_bytes());
    }
    let mut input = Bytes(bytes);
    let profile = Profile {
        form: one(Form::ALL, input.u8()),
        prehash: one(&PREHASHES, input.u8()),
    };
    let region = region(input.u8());
    let mut options = ImportOptions::new(profile);
    options.default_region = region;
    options.max_lines = 3;
    if let Ok(import) = import(input.0, &options) {
        let report = &import.report;
        assert_eq!(
            report.rows,
            report.used + report.duplicates.count + report.dropped_rows()
        );
        assert_eq!(report.used, import.ids.len() as u64);
        assert!(import.ids.is_sorted_by(|a, b| a < b));
    }
    let normaliser = Normaliser::new(profile, region);
    // What carries no country is read in the default region first, where another country's number may be one too.
    let again = match profile.form {
        Form::PhoneDigits | Form::PhoneCn11 => Normaliser::new(profile, None),
        _ => normaliser,
    };
    for field in input.0.split(|b| *b == b'\n').take(8) {
        if let Ok(found) = normaliser.normalise(field)
            && profile.prehash == Prehash::None
        {
            let id = found.id;
            let again = again.normalise(id.as_bytes());
            assert!(again.is_ok_and(|again| again.id == id), "no normal form");
        }
    }
    if let Ok(text) = std::str::from_utf8(input.0) {
        let _ = text.parse::<Region>();
    }
}

/// A file for each kind of ID, with quotes, repetitions and rows that cannot be used.
pub fn seeds() -> Seeds {
    let file = |profile: &str, region: u8, text: &str| {
        let profile: Profile = profile.parse().expect("a profile");
        let form = Form::ALL.iter().position(|f| *f == profile.form);
        let prehash = PREHASHES.iter().position(|p| *p == profile.prehash);
        let head = [form, prehash].map(|at| u8::try_from(at.expect("listed")).expect("small"));
        let import = import(text.as_bytes(), &ImportOptions::new(profile)).expect("a file");
        assert!(import.report.rows > 1);
        [&head[..], &[region], text.as_bytes()].concat()
    };
    let hash = "b4c9a289323b21a01c3e940f150eb9b8c542587f1abfd8f0e1cc1ffc5e475514";
    named([
        (
            "phones",
            file(
                "e164",
                0,
                "name,phone\r\nAda,+1 212 555 0143\r\n\"B, \"\"b\"\"\",(010) 6552 9988\r\nCy,13800138000\r\nDi,\r\nEm,+12125550143\r\n",
            ),
        ),
        (
            "emails",
            file(
                "uid2",
                3,
                "\u{feff}email\nJane.Doe+x@gmail.com\n\"two\nlines@example.org\"\nnobody\nJANE.doe@GMAIL.com\n",
            ),
        ),
        (
            "devices",
            file(
                "idfa",
                3,
                "idfa,x\n6D92078A-8246-4BA4-AE5B-76104861E7DC,1\n00000000-0000-0000-0000-000000000000,2\n\"open,3\n",
            ),
        ),
        (
            "hashes",
            file(
                "prehashed:sha256:uid2",
                3,
                &format!(
                    "email\n{hash}\ntMmiiTI7IaAcPpQPFQ65uMVCWH8av9jw4cwf/F5HVRQ=\nada@example.org\n"
                ),
            ),
        ),
        (
            "opening",
            SetOpening {
                root: tally_merkle::Hash([1; 32]),
                size: 7,
                salt: [2; 32],
            }
            .to_bytes()
            .to_vec(),
        ),
    ])
}
