//! Rows of a CSV file (RFC 4180) in bounded memory. A row that is not well formed costs that row alone: after a quote that is
//! never closed, reading goes on at the next line.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};

use zeroize::Zeroizing;

use crate::DropReason;

/// The longest row, in bytes; longer ones are dropped without being held.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
/// The longest ID field, in bytes.
pub const MAX_FIELD_BYTES: usize = 1024;
/// The most lines that one row with quoted line breaks may have.
pub const MAX_RECORD_LINES: usize = 16;
const BUFFER_BYTES: usize = 256 * 1024;

/// The fields of one row, unquoted, in one buffer that is wiped when dropped.
#[derive(Default)]
pub(crate) struct Fields {
    bytes: Zeroizing<Vec<u8>>,
    ends: Vec<usize>,
}

impl Fields {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, i: usize) -> Option<&[u8]> {
        let start = match i.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..*self.ends.get(i)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

/// Why a line is not a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A quote inside an unquoted field, or text after a closing quote.
    Quoting,
    /// The line ends inside quotes.
    Open,
}

/// Splits one row without its line end.
fn split(row: &[u8], fields: &mut Fields) -> Result<(), Fault> {
    fields.clear();
    let mut rest = row;
    loop {
        let after = if let Some(quoted) = rest.strip_prefix(b"\"") {
            unquote(quoted, &mut fields.bytes)?
        } else {
            let end = rest.iter().position(|b| *b == b',').unwrap_or(rest.len());
            let (field, after) = rest.split_at_checked(end).ok_or(Fault::Quoting)?;
            if field.contains(&b'"') {
                return Err(Fault::Quoting);
            }
            fields.bytes.extend_from_slice(field);
            after
        };
        fields.end();
        match after.split_first() {
            None => return Ok(()),
            Some((b',', next)) => rest = next,
            Some(_) => return Err(Fault::Quoting),
        }
    }
}

/// Reads a quoted field behind its opening quote; returns what follows the closing one.
fn unquote<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Fault> {
    loop {
        let end = rest.iter().position(|b| *b == b'"').ok_or(Fault::Open)?;
        let (text, after) = rest.split_at_checked(end).ok_or(Fault::Open)?;
        out.extend_from_slice(text);
        let after = after.strip_prefix(b"\"").ok_or(Fault::Open)?;
        match after.strip_prefix(b"\"") {
            Some(next) => {
                out.push(b'"');
                rest = next;
            }
            None => return Ok(after),
        }
    }
}

struct Line {
    number: u64,
    bytes: Zeroizing<Vec<u8>>,
    overlong: bool,
}

/// Reads rows one by one.
pub(crate) struct RecordReader<R> {
    source: BufReader<R>,
    lines_read: u64,
    pending: VecDeque<Line>,
    columns: Option<usize>,
}

impl<R: Read> RecordReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source: BufReader::with_capacity(BUFFER_BYTES, source),
            lines_read: 0,
            pending: VecDeque::new(),
            columns: None,
        }
    }

    /// From now on, a row with another number of columns is malformed.
    pub(crate) const fn expect_columns(&mut self, columns: usize) {
        self.columns = Some(columns);
    }

    /// The next row that is not blank: the line that it begins on, and its fields in `fields` or why it has none. `None` at the
    /// end.
    pub(crate) fn next(
        &mut self,
        fields: &mut Fields,
    ) -> io::Result<Option<(u64, Result<(), DropReason>)>> {
        loop {
            let Some(line) = self.line()? else {
                return Ok(None);
            };
            if line.overlong {
                return Ok(Some((line.number, Err(DropReason::TooLong))));
            }
            if line.bytes.is_empty() {
                continue;
            }
            let result = match split(&line.bytes, fields) {
                Ok(()) => self.check_columns(fields),
                Err(Fault::Quoting) => Err(DropReason::Quoting),
                Err(Fault::Open) => self.continue_row(&line.bytes, fields)?,
            };
            return Ok(Some((line.number, result)));
        }
    }

    fn check_columns(&self, fields: &Fields) -> Result<(), DropReason> {
        match self.columns {
            Some(columns) if columns != fields.len() => Err(DropReason::ColumnCount),
            _ => Ok(()),
        }
    }

    /// Joins following lines until the open quote closes and the row is right; if it never does, they are rows of their own.
    fn continue_row(
        &mut self,
        first: &[u8],
        fields: &mut Fields,
    ) -> io::Result<Result<(), DropReason>> {
        let mut row = Zeroizing::new(first.to_vec());
        let mut taken = Vec::new();
        while taken.len() + 1 < MAX_RECORD_LINES {
            let Some(line) = self.line()? else { break };
            row.push(b'\n');
            row.extend_from_slice(&line.bytes);
            let overlong = line.overlong || row.len() > MAX_RECORD_BYTES;
            taken.push(line);
            if overlong {
                break;
            }
            match split(&row, fields) {
                Err(Fault::Open) => {}
                Err(Fault::Quoting) => break,
                Ok(()) if self.check_columns(fields).is_ok() => return Ok(Ok(())),
                Ok(()) => break,
            }
        }
        for line in taken.into_iter().rev() {
            self.pending.push_front(line);
        }
        Ok(Err(DropReason::Quoting))
    }

    /// The next line without its end, or `None` at the end of the source.
    fn line(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.pending.pop_front() {
            return Ok(Some(line));
        }
        let mut line = Line {
            number: self.lines_read + 1,
            bytes: Zeroizing::new(Vec::new()),
            overlong: false,
        };
        let mut any = false;
        loop {
            let chunk = match self.source.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                if !any {
                    return Ok(None);
                }
                break;
            }
            any = true;
            let end = chunk.iter().position(|b| *b == b'\n');
            let text = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            if line.bytes.len() + text.len() > MAX_RECORD_BYTES {
                line.overlong = true;
                line.bytes.clear();
            } else if !line.overlong {
                line.bytes.extend_from_slice(text);
            }
            let used = text.len() + usize::from(end.is_some());
            self.source.consume(used);
            if end.is_some() {
                break;
            }
        }
        if line.bytes.last() == Some(&b'\r') {
            line.bytes.pop();
        }
        self.lines_read += 1;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (u64, Result<Vec<String>, DropReason>);

    fn rows(text: &[u8], columns: usize) -> Vec<Row> {
        let mut reader = RecordReader::new(text);
        reader.expect_columns(columns);
        let mut fields = Fields::default();
        let mut out = Vec::new();
        while let Some((line, row)) = reader.next(&mut fields).unwrap() {
            let row = row.map(|()| {
                fields
                    .iter()
                    .map(|f| String::from_utf8_lossy(f).into_owned())
                    .collect()
            });
            out.push((line, row));
        }
        out
    }

    fn ok(line: u64, fields: &[&str]) -> Row {
        (line, Ok(fields.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn rows_with_and_without_quotes() {
        let text = b"a,b\r\n\n\"x,1\",\"say \"\"hi\"\"\"\n,\n\"two\nlines\",c\nlast,";
        assert_eq!(
            rows(text, 2),
            [
                ok(1, &["a", "b"]),
                ok(3, &["x,1", "say \"hi\""]),
                ok(4, &["", ""]),
                ok(5, &["two\nlines", "c"]),
                ok(7, &["last", ""]),
            ]
        );
    }

    #[test]
    fn a_bad_row_costs_only_itself() {
        let text = b"a,\"open\nb,2\nc,\"3\"\nd,4\"\n\"e\"x,5\nf\ng,7,8\nh,9\n";
        assert_eq!(
            rows(text, 2),
            [
                (1, Err(DropReason::Quoting)),
                ok(2, &["b", "2"]),
                ok(3, &["c", "3"]),
                (4, Err(DropReason::Quoting)),
                (5, Err(DropReason::Quoting)),
                (6, Err(DropReason::ColumnCount)),
                (7, Err(DropReason::ColumnCount)),
                ok(8, &["h", "9"]),
            ]
        );
    }

    #[test]
    fn overlong_lines_are_dropped_and_not_held() {
        let mut text = vec![b'x'; 3 * MAX_RECORD_BYTES];
        text.extend_from_slice(b",y\nshort,1\n\"");
        text.extend(vec![b'z'; MAX_RECORD_BYTES + 1]);
        text.extend_from_slice(b"\nend,2");
        assert_eq!(
            rows(&text, 2),
            [
                (1, Err(DropReason::TooLong)),
                ok(2, &["short", "1"]),
                (3, Err(DropReason::TooLong)),
                ok(4, &["end", "2"]),
            ]
        );
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_swallow_the_file() {
        let mut text = b"\"open,1\n".to_vec();
        for i in 0..100 {
            text.extend_from_slice(format!("row{i},2\n").as_bytes());
        }
        let rows = rows(&text, 2);
        assert_eq!(rows.len(), 101);
        assert_eq!(rows.iter().filter(|(_, r)| r.is_ok()).count(), 100);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_end_and_every_line_is_accounted_for(
            bytes in proptest::collection::vec(proptest::sample::select(b"ab,\"\n\r\xff".to_vec()), 0..400),
        ) {
            let all = rows(&bytes, 2);
            proptest::prop_assert!(all.windows(2).all(|w| w[0].0 < w[1].0));
            let lines = bytes.split(|b| *b == b'\n').count() as u64;
            proptest::prop_assert!(all.iter().all(|(l, _)| (1..=lines).contains(l)));
        }

        #[test]
        fn what_is_quoted_comes_back(fields in proptest::collection::vec("[a-z,\"\n ]{0,12}", 1..5)) {
            proptest::prop_assume!(fields.iter().any(|f| !f.is_empty()));
            proptest::prop_assume!(fields.iter().map(|f| f.matches('\n').count()).sum::<usize>() < MAX_RECORD_LINES);
            let row: Vec<_> = fields.iter().map(|f| format!("\"{}\"", f.replace('"', "\"\""))).collect();
            let text = row.join(",");
            let expected: Vec<&str> = fields.iter().map(String::as_str).collect();
            proptest::prop_assert_eq!(rows(text.as_bytes(), fields.len()), [ok(1, &expected)]);
        }
    }
}
