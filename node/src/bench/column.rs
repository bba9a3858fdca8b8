//! The column of a CSV file that a bench matches, row by row, and the file of matches.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Cursor, Read, Seek as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use super::psi::Error;

/// Columns that are taken, in this order; a file with one column is taken whatever its name.
const COLUMNS: [&str; 2] = ["phone", "id"];
/// Bytes read ahead.
const BUFFER_BYTES: usize = 1 << 20;
/// Bytes of a digest in hexadecimal. A file that begins with one alone has no header.
const DIGEST_CHARS: usize = 64;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file whose header is read.
struct Column {
    /// Its name, where the file has a header.
    name: Option<String>,
    rows: Rows,
}

enum Rows {
    /// One column and no quotes so far: a value is a line, read at a fraction of the time.
    Lines {
        file: BufReader<File>,
        /// The first line, where it is no header.
        first: Vec<u8>,
        /// Its number, from 1.
        number: u64,
    },
    /// Anything else that is CSV.
    Csv {
        file: csv::Reader<BufReader<File>>,
        /// Which column.
        at: usize,
        /// The first record, where it is no header.
        first: csv::ByteRecord,
    },
}

impl Column {
    fn open(path: &Path) -> Result<Self, Error> {
        let io = |e: std::io::Error| bad(path, e.to_string());
        let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(io)?);
        if file.fill_buf().map_err(io)?.starts_with(BYTE_ORDER_MARK) {
            file.consume(BYTE_ORDER_MARK.len());
        }
        let mut first = Vec::new();
        let mut number = 0;
        let is_plain = loop {
            first.clear();
            number += 1;
            let read = file.read_until(b'\n', &mut first).map_err(io)?;
            match plain(&first) {
                Some([]) if read > 0 => {}
                found => break found.is_some(),
            }
        };
        if !is_plain {
            file.rewind().map_err(io)?;
            return Self::of_csv(path, file);
        }
        let mut name = None;
        if !first.is_empty() && !is_digest(first.trim_ascii()) {
            name = Some(String::from_utf8_lossy(&first).trim().to_owned());
            first.clear();
        }
        let rows = Rows::Lines {
            file,
            first,
            number,
        };
        Ok(Self { name, rows })
    }

    fn of_csv(path: &Path, file: BufReader<File>) -> Result<Self, Error> {
        let mut file = csv_reader(file);
        let mut first = csv::ByteRecord::new();
        let read = file.read_byte_record(&mut first);
        read.map_err(|e| bad(path, e.to_string()))?;
        if first.len() == 1 && first.iter().all(|v| is_digest(v.trim_ascii())) {
            let rows = Rows::Csv { file, at: 0, first };
            return Ok(Self { name: None, rows });
        }
        let find = |name: &str| first.iter().position(|h| h.trim_ascii() == name.as_bytes());
        let at = COLUMNS.iter().find_map(|name| find(name));
        let at = at.or((first.len() == 1).then_some(0)).ok_or_else(|| {
            let expected = "expected a column phone or id, or one column alone";
            bad(path, expected.into())
        })?;
        let name = String::from_utf8_lossy(first.get(at).unwrap_or_default());
        let name = Some(name.trim().to_owned());
        first.clear();
        let rows = Rows::Csv { file, at, first };
        Ok(Self { name, rows })
    }

    fn each(
        self,
        path: &Path,
        mut each: impl FnMut(&[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let mut kind = Kind(None);
        let mut judged = |value: &[u8], number: u64| {
            if value.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            kind.verify(value).map_err(|found| {
                let reason = format!(
                    "line {number}: expected {DIGEST_CHARS} hexadecimal characters in every line or in none, found {found}"
                );
                bad(path, reason)
            })?;
            each(value)
        };
        match self.rows {
            Rows::Csv { file, at, first } => each_record(path, file, at, 0, first, judged),
            Rows::Lines {
                mut file,
                first,
                mut number,
            } => {
                let mut line = first;
                loop {
                    let Some(text) = plain(&line) else {
                        // From here on it is CSV of one column.
                        let rest = csv_reader(Cursor::new(line).chain(file));
                        let first = csv::ByteRecord::new();
                        return each_record(path, rest, 0, number - 1, first, judged);
                    };
                    if judged(text.trim_ascii(), number)?.is_break() {
                        return Ok(());
                    }
                    line.clear();
                    number += 1;
                    let read = file.read_until(b'\n', &mut line);
                    if read.map_err(|e| bad(path, e.to_string()))? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Whether the values of a file are digests in hexadecimal: as the first is, all have to be.
struct Kind(Option<bool>);

impl Kind {
    /// Refuses a value of the other kind, in words that do not show it.
    fn verify(&mut self, value: &[u8]) -> Result<(), String> {
        let is = is_digest(value);
        if *self.0.get_or_insert(is) == is {
            return Ok(());
        }
        Err(if value.len() == DIGEST_CHARS {
            "a value of the other kind".into()
        } else {
            format!("{} characters", value.len())
        })
    }
}

/// Calls `each` with column `at` of `record` and of the records after it, and their lines' numbers, before which there are `lines` more.
fn each_record(
    path: &Path,
    mut file: csv::Reader<impl Read>,
    at: usize,
    lines: u64,
    mut record: csv::ByteRecord,
    mut each: impl FnMut(&[u8], u64) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    loop {
        let value = record.get(at).unwrap_or_default().trim_ascii();
        let number = lines + record.position().map_or(0, csv::Position::line);
        if each(value, number)?.is_break() {
            return Ok(());
        }
        let read = file.read_byte_record(&mut record);
        if !read.map_err(|e| bad(path, e.to_string()))? {
            return Ok(());
        }
    }
}

fn csv_reader<R: Read>(file: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new()
        .flexible(true)
        .has_headers(false)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(file)
}

/// A line without its end, where it is a record of one field without quotes.
fn plain(line: &[u8]) -> Option<&[u8]> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    // One pass without branches: the compiler makes vectors of it.
    let special = |c: u8| (c == b'"') | (c == b',') | (c == b'\r');
    let is_special = text.iter().fold(false, |found, &c| found | special(c));
    (!is_special).then_some(text)
}

fn is_digest(value: &[u8]) -> bool {
    // Without branches, as in `plain`.
    let all = |all: bool, c: &u8| all & c.is_ascii_hexdigit();
    value.len() == DIGEST_CHARS && value.iter().fold(true, all)
}

/// Calls `each` with every value of the column that is not empty, trimmed, until it says that it is enough; a value's row is the number
/// of those before it. Digests in hexadecimal are given in lower case, other values as they are.
///
/// # Errors
/// Those of `each`; [`Error::Csv`], among them one that names the line of a value that is no digest where others are.
pub(super) fn read_column(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let mut lower = [0; DIGEST_CHARS];
    Column::open(path)?.each(path, |value| {
        if value.len() == lower.len()
            && value.iter().any(u8::is_ascii_uppercase)
            && is_digest(value)
        {
            lower.copy_from_slice(value);
            lower.make_ascii_lowercase();
            return each(&lower);
        }
        each(value)
    })
}

/// How many values [`read_column`] gives.
pub(super) fn count_column(path: &Path) -> Result<u64, Error> {
    let mut values = 0;
    read_column(path, |_| {
        values += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(values)
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Csv {
        path: path.to_owned(),
        reason,
    }
}

/// Writes the values of the rows that `is_match` names, which is asked for each in order, from the column of `input` to `output`,
/// as they stand there, under the column's name if it has one. Returns how many.
pub(super) fn write_matches(
    input: &Path,
    mut is_match: impl FnMut(u64) -> bool,
    output: &Path,
) -> Result<u64, Error> {
    let io = |source: std::io::Error| Error::Io {
        what: format!("writing {}", output.display()),
        source,
    };
    let column = Column::open(input)?;
    let mut out =
        std::io::BufWriter::with_capacity(BUFFER_BYTES, File::create(output).map_err(io)?);
    if let Some(name) = &column.name {
        writeln!(out, "{name}").map_err(io)?;
    }
    let (mut row, mut written) = (0, 0);
    column.each(input, |value| {
        if is_match(row) {
            out.write_all(value)
                .and_then(|()| out.write_all(b"\n"))
                .map_err(io)?;
            written += 1;
        }
        row += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    out.flush().map_err(io)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(path: &Path) -> (Option<String>, Vec<String>) {
        let column = Column::open(path).unwrap();
        let name = column.name.clone();
        let mut values = Vec::new();
        column
            .each(path, |value| {
                values.push(String::from_utf8(value.to_vec()).unwrap());
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        (name, values)
    }

    proptest! {
        #[test]
        fn lines_are_read_as_the_library_reads_them(
            header in "(phone|id|x|phone,id|\\ufeffphone|\"id\"|\n\r?\nid)",
            end_of_header in "\r?\n",
            lines in proptest::collection::vec("[a1 ,\"]{0,3}\r?", 0..12),
            end in "\n{0,2}",
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.csv");
            std::fs::write(&path, format!("{header}{end_of_header}{}{end}", lines.join("\n"))).unwrap();
            let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(&path).unwrap();
            let name = reader.headers().unwrap().get(0).unwrap().trim().to_owned();
            let expected: Vec<String> = reader
                .byte_records()
                .map(|r| String::from_utf8(r.unwrap().get(0).unwrap_or_default().trim_ascii().to_vec()).unwrap())
                .filter(|v| !v.is_empty())
                .collect();
            prop_assert_eq!(count_column(&path).unwrap(), expected.len() as u64);
            prop_assert_eq!(read(&path), (Some(name), expected));
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        for text in ["", "\n", "\u{feff}", "\u{feff}\r\n\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path), (None, vec![]), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_begins_with_a_digest_has_no_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let out = dir.path().join("out.csv");
        let digests: Vec<String> = (0..3).map(|i| format!("{i:064x}")).collect();
        let [a, b, c] = [0, 1, 2].map(|i| &digests[i]);
        for text in [
            format!("{a}\n{b}\n{c}\n"),
            format!("{a}\r\n\r\n{b}\r\n{c}"),
            format!("\u{feff}\"{a}\"\n{b}\n{c}\n"),
            format!("\u{feff}{a}\n{b}\n\"{c}\"\n"),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(read(&path), (None, digests.clone()), "{text:?}");
            assert_eq!(write_matches(&path, |row| row != 1, &out).unwrap(), 2);
            assert_eq!(
                std::fs::read_to_string(&out).unwrap(),
                format!("{a}\n{c}\n")
            );
        }
        // One digit fewer is a name.
        std::fs::write(&path, format!("{}\n{b}\n", &a[1..])).unwrap();
        assert_eq!(read(&path), (Some(a[1..].into()), vec![b.clone()]));
    }

    #[test]
    fn digests_match_in_either_case_and_are_written_as_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        let (path, out) = (dir.path().join("a.csv"), dir.path().join("out.csv"));
        let upper = "AB".repeat(32);
        std::fs::write(&path, format!("id\n{upper}\n")).unwrap();
        let mut values = Vec::new();
        read_column(&path, |value| {
            values.push(String::from_utf8(value.to_vec()).unwrap());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(values, ["ab".repeat(32)]);
        write_matches(&path, |_| true, &out).unwrap();
        let written = std::fs::read_to_string(&out).unwrap();
        assert_eq!(written, format!("id\n{upper}\n"));
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let (a, short, other) = ("0a".repeat(32), "0a".repeat(31), "0g".repeat(32));
        for (text, line) in [
            (format!("{a}\n{short}\n"), 2),
            (format!("\n\n{a}\n{a}0\n"), 4),
            (format!("id\n{a}\n\n{other}\n"), 4),
            (format!("id\r\n{a}\r\n{short}\r\n"), 3),
            (format!("{a}\n\"{a}\"\n{short}\n"), 3),
            (format!("x,id\n1,{a}\n2,{short}\n"), 3),
            (format!("phone\n+8613800000000\n{a}\n"), 3),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = count_column(&path).unwrap_err().to_string();
            assert!(
                error.contains(&format!("line {line}:")),
                "{text:?}: {error}"
            );
            assert!(!error.contains(&short) && !error.contains("0g"), "{error}");
        }
    }
}
