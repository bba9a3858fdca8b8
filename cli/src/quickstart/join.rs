//! A plain join over two raw files: what a match must give. It shares no code with the import: its own reading of CSV, its own
//! clean-up of phone numbers.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};
use csv::{ByteRecord, ReaderBuilder, Trim};

/// Most bytes of a cell that can be a phone number, however it is written.
const MAX_CELL: usize = 64;

/// The people of a file: the digits of every plausible international number in its column `phone`.
pub(super) fn people(path: &Path) -> Result<HashSet<Vec<u8>>> {
    let mut rows = ReaderBuilder::new()
        .flexible(true)
        .trim(Trim::All)
        .from_path(path)
        .with_context(|| path.display().to_string())?;
    let header = rows.byte_headers()?.clone();
    let column = header
        .iter()
        .position(|name| {
            let name = name.strip_prefix("\u{feff}".as_bytes()).unwrap_or(name);
            name.eq_ignore_ascii_case(b"phone")
        })
        .with_context(|| format!("{} has no column named phone", path.display()))?;
    let mut people = HashSet::new();
    let mut row = ByteRecord::new();
    while rows.read_byte_record(&mut row)? {
        if row.len() == header.len() {
            people.extend(row.get(column).and_then(digits));
        }
    }
    Ok(people)
}

/// How many people are in both files.
pub(super) fn common(a: &HashSet<Vec<u8>>, b: &HashSet<Vec<u8>>) -> u64 {
    a.intersection(b).count() as u64
}

/// The digits of a number that begins with `+` and could be dialed; `None` for anything else.
fn digits(cell: &[u8]) -> Option<Vec<u8>> {
    let rest = cell.strip_prefix(b"+")?;
    if cell.len() > MAX_CELL {
        return None;
    }
    let mut digits = Vec::with_capacity(16);
    for byte in rest {
        match byte {
            b'0'..=b'9' => digits.push(*byte),
            b' ' | b'-' | b'.' | b'(' | b')' => {}
            _ => return None,
        }
    }
    let plausible = match digits.as_slice() {
        [b'1', ..] => digits.len() == 11,
        [b'8', b'6', ..] => (9..=14).contains(&digits.len()),
        _ => (8..=15).contains(&digits.len()),
    };
    plausible.then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_cleaned_and_rubbish_is_none() {
        for same in [
            "+12125550143",
            "+1 212 555 0143",
            "+1 (212) 555-0143",
            "+1.212.555.0143",
        ] {
            assert_eq!(digits(same.as_bytes()).unwrap(), b"12125550143", "{same}");
        }
        assert_eq!(digits(b"+8613000285084").unwrap(), b"8613000285084");
        for bad in [
            "",
            "unknown",
            "+",
            "+1 212 555",
            "12125550143",
            "+1 212 555 0143 x5",
            "+86130002850841234",
            "+1234567890123456",
        ] {
            assert_eq!(digits(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_shipped_files_have_the_people_that_their_description_says() {
        let dir = tempfile::tempdir().unwrap();
        let files = super::super::matching::Files::sample(dir.path()).unwrap();
        let (a, b) = (people(&files.brand).unwrap(), people(&files.media).unwrap());
        assert_eq!((a.len(), b.len(), common(&a, &b)), (3_000, 4_000, 1_200));
    }
}
