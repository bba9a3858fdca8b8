//! The column of a CSV file that a bench matches, row by row, and the file of matches.

use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use super::psi::Error;

/// Columns that are taken, in this order; a file with one column is taken whatever its name.
const COLUMNS: [&str; 2] = ["phone", "id"];
/// Bytes read ahead.
const BUFFER_BYTES: usize = 1 << 20;

/// Calls `each` with every value of the column that is not empty, trimmed, until it says that it is enough; a value's row is the number
/// of those before it. Returns the column's name.
pub(super) fn read_column(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> Result<ControlFlow<()>, Error>,
) -> Result<String, Error> {
    let bad = |reason: String| bad(path, reason);
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_path(path)
        .map_err(|e| bad(e.to_string()))?;
    let headers = reader.headers().map_err(|e| bad(e.to_string()))?.clone();
    let at = place(path, &headers)?;
    let mut record = csv::ByteRecord::new();
    while reader
        .read_byte_record(&mut record)
        .map_err(|e| bad(e.to_string()))?
    {
        let value = record.get(at).unwrap_or_default().trim_ascii();
        if !value.is_empty() && each(value)?.is_break() {
            break;
        }
    }
    Ok(headers.get(at).unwrap_or_default().trim().to_owned())
}

/// How many values [`read_column`] gives. A file of one column without quotes has one a line: counted so, at a quarter of the time.
pub(super) fn count_column(path: &Path) -> Result<u64, Error> {
    let bad = |e: std::io::Error| bad(path, e.to_string());
    let file = std::fs::File::open(path).map_err(bad)?;
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
    let (mut line, mut values, mut is_header) = (Vec::new(), 0, true);
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(bad)? == 0 {
            return Ok(values);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let is_plain = !text.contains(&b'"') && !text.contains(&b'\r') && !text.contains(&b',');
        if !is_plain {
            break;
        }
        // A line with nothing in it is none.
        if !text.is_empty() {
            values += u64::from(!is_header && !text.trim_ascii().is_empty());
            is_header = false;
        }
    }
    let mut values = 0;
    read_column(path, |_| {
        values += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(values)
}

/// The column's name.
fn column_name(path: &Path) -> Result<String, Error> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_path(path)
        .map_err(|e| bad(path, e.to_string()))?;
    let headers = reader.headers().map_err(|e| bad(path, e.to_string()))?;
    let at = place(path, headers)?;
    Ok(headers.get(at).unwrap_or_default().trim().to_owned())
}

/// Which column is taken.
fn place(path: &Path, headers: &csv::StringRecord) -> Result<usize, Error> {
    let find = |name: &str| headers.iter().position(|h| h.trim() == name);
    COLUMNS
        .iter()
        .find_map(|name| find(name))
        .or((headers.len() == 1).then_some(0))
        .ok_or_else(|| {
            let expected = "expected a column phone or id, or one column alone";
            bad(path, expected.into())
        })
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Csv {
        path: path.to_owned(),
        reason,
    }
}

/// Writes the values of the rows that `is_match` names, which is asked for each in order, from the column of `input` to `output`,
/// under the column's name. Returns how many.
pub(super) fn write_matches(
    input: &Path,
    mut is_match: impl FnMut(u64) -> bool,
    output: &Path,
) -> Result<u64, Error> {
    let io = |source: std::io::Error| Error::Io {
        what: format!("writing {}", output.display()),
        source,
    };
    let file = std::fs::File::create(output).map_err(io)?;
    let mut out = std::io::BufWriter::with_capacity(BUFFER_BYTES, file);
    out.write_all(column_name(input)?.as_bytes()).map_err(io)?;
    let (mut row, mut written) = (0, 0);
    read_column(input, |value| {
        if is_match(row) {
            out.write_all(b"\n")
                .and_then(|()| out.write_all(value))
                .map_err(io)?;
            written += 1;
        }
        row += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    out.write_all(b"\n").map_err(io)?;
    out.flush().map_err(io)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_counted_as_they_are_read(
            header in "(phone|id|x|phone,id|\\ufeffphone)",
            lines in proptest::collection::vec("[a1 ,\"]{0,3}\r?", 0..12),
            end in "\n{0,2}",
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.csv");
            std::fs::write(&path, format!("{header}\n{}{end}", lines.join("\n"))).unwrap();
            let mut read = 0;
            let name = read_column(&path, |_| {
                read += 1;
                Ok(ControlFlow::Continue(()))
            });
            prop_assert!(name.is_ok());
            prop_assert_eq!(count_column(&path).unwrap(), read);
        }
    }
}
