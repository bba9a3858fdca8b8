//! The column of a CSV file that a bench matches, row by row, and the file of matches.

use std::io::Write as _;
use std::path::Path;

use super::psi::Error;

/// Columns that are taken, in this order; a file with one column is taken whatever its name.
const COLUMNS: [&str; 2] = ["phone", "id"];
/// Bytes read ahead.
const BUFFER_BYTES: usize = 1 << 20;

/// Calls `each` with every value of the column that is not empty, trimmed; a value's row is the number of those before it.
/// Returns the column's name.
pub(super) fn read_column(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<String, Error> {
    let bad = |reason: String| Error::Csv {
        path: path.to_owned(),
        reason,
    };
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_path(path)
        .map_err(|e| bad(e.to_string()))?;
    let headers = reader.headers().map_err(|e| bad(e.to_string()))?.clone();
    let find = |name: &str| headers.iter().position(|h| h.trim() == name);
    let at = COLUMNS
        .iter()
        .find_map(|name| find(name))
        .or((headers.len() == 1).then_some(0))
        .ok_or_else(|| bad("expected a column phone or id, or one column alone".into()))?;
    let mut record = csv::ByteRecord::new();
    while reader
        .read_byte_record(&mut record)
        .map_err(|e| bad(e.to_string()))?
    {
        let value = record.get(at).unwrap_or_default().trim_ascii();
        if !value.is_empty() {
            each(value)?;
        }
    }
    Ok(headers.get(at).unwrap_or_default().trim().to_owned())
}

/// Writes the values of `rows`, ascending, from the column of `input` to `output`, under the column's name.
pub(super) fn write_matches(input: &Path, rows: &[u64], output: &Path) -> Result<(), Error> {
    let io = |source: std::io::Error| Error::Io {
        what: format!("writing {}", output.display()),
        source,
    };
    let file = std::fs::File::create(output).map_err(io)?;
    let mut out = std::io::BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut rows = rows.iter().peekable();
    let mut row = 0;
    let mut lines = Vec::new();
    // The name is known at the end; it is short, and the file is not.
    let name = read_column(input, |value| {
        if rows.next_if_eq(&&row).is_some() {
            lines.push(b'\n');
            lines.extend_from_slice(value);
        }
        row += 1;
        Ok(())
    })?;
    out.write_all(name.as_bytes()).map_err(io)?;
    out.write_all(&lines).map_err(io)?;
    out.write_all(b"\n").map_err(io)?;
    out.flush().map_err(io)
}
