//! A CSV file in, a set of people and a report out.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;

use rayon::prelude::*;
use tally_contracts::records::Profile;
use zeroize::Zeroizing;

use crate::record::{Fields, RecordReader};
use crate::set::check_size;
use crate::{
    DropReason, Error, Identifier, ImportReport, Lines, MAX_FIELD_BYTES, Normaliser, Region, dense,
};

/// Bytes of IDs that are held before they are normalised, all cores at once.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_ROWS: usize = 16_384;

/// How to read a file.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The form that IDs are brought into.
    pub profile: Profile,
    /// Name of the column that holds them, upper or lower case; by default the ID type's name (`phone`, `email`, ...). The
    /// other columns are not looked at.
    pub column: Option<String>,
    /// The country of phone numbers that come without one.
    pub default_region: Option<Region>,
    /// How many line numbers the report gives for each reason.
    pub max_lines: usize,
}

impl ImportOptions {
    /// The defaults for a profile: the column named like the ID type, no default region, 20 line numbers for each reason.
    #[must_use]
    pub const fn new(profile: Profile) -> Self {
        Self {
            profile,
            column: None,
            default_region: None,
            max_lines: 20,
        }
    }
}

/// An imported set.
pub struct Import {
    /// Each person once, ascending.
    pub ids: Vec<Identifier>,
    /// What became of the rows.
    pub report: ImportReport,
}

/// Reads a CSV file with a header row. Rows that cannot be used are reported and never end the import. Memory grows with the
/// number of distinct people only, and not with them in [`import_each`]; uses every core.
///
/// # Errors
/// [`Error::Read`] if the source fails, [`Error::Empty`], [`Error::Header`], [`Error::NoColumn`],
/// [`Error::AmbiguousColumn`], [`Error::SetSize`] for more than [`MAX_SET_SIZE`](crate::MAX_SET_SIZE) people.
pub fn import<R: Read>(source: R, options: &ImportOptions) -> Result<Import, Error> {
    let mut seen = HashSet::new();
    let mut duplicates = Lines::default();
    let mut report = import_each(source, options, &mut |line, id| {
        if !seen.insert(id) {
            duplicates.add(line, options.max_lines);
        }
        check_size(seen.len())
    })?;
    let mut ids: Vec<_> = seen.into_iter().collect();
    ids.par_sort_unstable();
    report.used = ids.len() as u64;
    report.duplicates = duplicates;
    report.dense_range = dense::find(&ids);
    Ok(Import { ids, report })
}

/// As [`import`], but hands over the ID of every row that has one, with the line where the row begins, in the order of the file:
/// who takes them finds which repeat an earlier one. So the report says nothing of distinct people, repeated rows and a dense range
/// yet. Memory does not grow with the file.
///
/// # Errors
/// Those of [`import`] but [`Error::SetSize`], and what `each` gives.
pub fn import_each<R: Read, E: From<Error>>(
    source: R,
    options: &ImportOptions,
    each: &mut impl FnMut(u64, Identifier) -> Result<(), E>,
) -> Result<ImportReport, E> {
    let mut reader = RecordReader::new(source);
    let mut fields = Fields::default();
    let column = read_header(&mut reader, &mut fields, options)?;
    let mut batch = Batch::new();
    let mut rows = Rows {
        report: ImportReport::new(options.profile),
        normaliser: Normaliser::new(options.profile, options.default_region),
        keep: options.max_lines,
    };
    while let Some((line, row)) = reader.next(&mut fields).map_err(Error::from)? {
        let field = row.map(|()| fields.get(column).unwrap_or_default());
        if !batch.push(line, field) {
            rows.take(&mut batch, each)?;
            batch.push(line, field);
        }
    }
    rows.take(&mut batch, each)?;
    Ok(rows.report)
}

/// Finds the column of the IDs in the header row.
fn read_header<R: Read>(
    reader: &mut RecordReader<R>,
    fields: &mut Fields,
    options: &ImportOptions,
) -> Result<usize, Error> {
    let name = options
        .column
        .as_deref()
        .unwrap_or_else(|| options.profile.id_type().name());
    let [column] = find_columns(reader, fields, [name])?;
    Ok(column)
}

/// Finds columns by their names in the header row, upper or lower case.
pub(crate) fn find_columns<R: Read, const N: usize>(
    reader: &mut RecordReader<R>,
    fields: &mut Fields,
    names: [&str; N],
) -> Result<[usize; N], Error> {
    let names = names.map(|name| name.trim().to_lowercase());
    let Some((_, header)) = reader.next(fields)? else {
        return Err(Error::Empty {
            expected: names.join(", "),
        });
    };
    header.map_err(|reason| Error::Header {
        why: reason.describe(),
    })?;
    reader.expect_columns(fields.len());
    let mut found = [0; N];
    for (expected, place) in names.into_iter().zip(&mut found) {
        let named = |field: &[u8]| {
            // A byte order mark stands before the first name, if any.
            let field = field.strip_prefix("\u{feff}".as_bytes()).unwrap_or(field);
            std::str::from_utf8(field).is_ok_and(|name| name.trim().to_lowercase() == expected)
        };
        let matching: Vec<usize> = fields
            .iter()
            .enumerate()
            .filter_map(|(i, field)| named(field).then_some(i))
            .collect();
        *place = match matching.as_slice() {
            [column] => *column,
            [] => {
                return Err(Error::NoColumn {
                    expected,
                    columns: fields.len(),
                });
            }
            more => {
                return Err(Error::AmbiguousColumn {
                    expected,
                    found: more.len(),
                });
            }
        };
    }
    Ok(found)
}

/// Fields that wait for their normalisation. Its buffer never grows, so that no copy is left unwiped.
struct Batch {
    bytes: Zeroizing<Vec<u8>>,
    rows: Vec<(u64, Result<Range<usize>, DropReason>)>,
}

impl Batch {
    fn new() -> Self {
        Self {
            bytes: Zeroizing::new(Vec::with_capacity(BATCH_BYTES)),
            rows: Vec::with_capacity(BATCH_ROWS),
        }
    }

    /// Takes a row, unless the batch is full.
    fn push(&mut self, line: u64, field: Result<&[u8], DropReason>) -> bool {
        let field = field.and_then(|f| {
            if f.len() > MAX_FIELD_BYTES {
                Err(DropReason::TooLong)
            } else {
                Ok(f)
            }
        });
        let length = field.map_or(0, <[u8]>::len);
        if self.rows.len() >= BATCH_ROWS || self.bytes.len() + length > BATCH_BYTES {
            return false;
        }
        let row = field.map(|f| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(f);
            start..self.bytes.len()
        });
        self.rows.push((line, row));
        true
    }
}

struct Rows {
    report: ImportReport,
    normaliser: Normaliser,
    keep: usize,
}

impl Rows {
    fn take<E>(
        &mut self,
        batch: &mut Batch,
        each: &mut impl FnMut(u64, Identifier) -> Result<(), E>,
    ) -> Result<(), E> {
        let normaliser = self.normaliser;
        let bytes = batch.bytes.as_slice();
        let results: Vec<_> = batch
            .rows
            .par_iter()
            .with_min_len(256)
            .map(|(line, row)| {
                let id = row
                    .clone()
                    .and_then(|range| normaliser.normalise(bytes.get(range).unwrap_or_default()));
                (*line, id)
            })
            .collect();
        for (line, id) in results {
            self.report.rows += 1;
            match id {
                Ok(found) => {
                    if found.unassigned {
                        self.report.unassigned.add(line, self.keep);
                    }
                    each(line, found.id)?;
                }
                Err(reason) => self
                    .report
                    .dropped
                    .entry(reason)
                    .or_default()
                    .add(line, self.keep),
            }
        }
        batch.rows.clear();
        batch.bytes.clear();
        Ok(())
    }
}
