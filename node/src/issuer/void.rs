//! Void lists: codes that shall be withdrawn, as a printer or a warehouse gives them, one a line.

use std::collections::BTreeMap;
use std::io::BufRead;

use tally_codes::verdict::{self, CheckResult, check};
use tally_codes::{Serial, gs1};
use tally_contracts::ids::BatchId;
use tally_contracts::records::{RevokedLeaves, RevokedPart};
use tally_evidence::UnitCode;

use super::store::{Loaded, Loadout};
use super::{IssuerError, IssuerStore};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 4096;
/// How many bad lines are named.
const MAX_NAMED: usize = 20;

/// What a void list asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidList {
    /// What is not void yet, ascending by number.
    pub parts: Vec<RevokedPart>,
    /// Codes in these parts.
    pub fresh: u64,
    /// Codes of the list that are void already.
    pub already: u64,
    /// Lines that name a code of an earlier line.
    pub repeated: u64,
}

/// A line that names no code of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong; the code itself is not repeated.
    pub reason: String,
}

/// Why nothing of a void list is done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VoidError {
    /// The list cannot be read.
    #[error("the list cannot be read")]
    Read(#[from] std::io::Error),
    /// Lines that name no code of the batch.
    #[error("{count} lines name no code of this batch: {}", named(first))]
    Lines {
        /// How many.
        count: u64,
        /// The first of them, at most 20.
        first: Vec<BadLine>,
    },
    /// A list without codes.
    #[error("the list has no code")]
    Empty,
    /// The store, or no such batch.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

impl From<tally_codes::Error> for VoidError {
    fn from(error: tally_codes::Error) -> Self {
        Self::Issuer(error.into())
    }
}

fn named(lines: &[BadLine]) -> String {
    let named: Vec<String> = lines
        .iter()
        .map(|l| format!("line {}: {}", l.line, l.reason))
        .collect();
    named.join("; ")
}

impl IssuerStore {
    /// Reads a void list for an anchored batch. A line is a link, `GTIN/SERIAL`, a serial, or a row of an exported file, whose first
    /// field counts; empty lines and those that begin with `#` are passed over. One line that names no code of the batch
    /// spoils the whole list. Memory: 256 bytes for each 2,048 codes of the batch.
    ///
    /// # Errors
    /// [`VoidError`].
    pub fn void_list(&self, id: &BatchId, list: &mut dyn BufRead) -> Result<VoidList, VoidError> {
        let loadout = self.loadout();
        let mut batch = None;
        for candidate in loadout.batches.iter().filter(|b| b.meta.id == *id) {
            if self.anchored(&candidate.meta)?.is_some() {
                batch = Some(candidate);
            }
        }
        let batch = batch.ok_or(IssuerError::NoBatch { id: *id })?;
        let mut reader = Reader {
            loadout: &loadout,
            batch,
            gtin: gs1::Gtin::from_bytes(batch.meta.gtin.as_bytes())?,
        };
        let mut seen: BTreeMap<u32, RevokedLeaves> = BTreeMap::new();
        let mut parts: BTreeMap<u32, RevokedLeaves> = BTreeMap::new();
        let (mut fresh, mut already, mut repeated) = (0, 0, 0);
        let (mut bad, mut first) = (0_u64, Vec::new());
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let mut limited = std::io::Read::take(&mut *list, MAX_LINE);
            if limited.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() as u64 == MAX_LINE {
                let what = "a line of more than 4,095 bytes; the rest was not read";
                bad += 1;
                first.push(BadLine {
                    line: number,
                    reason: what.to_owned(),
                });
                break;
            }
            let index = match reader.index(&line, number)? {
                Ok(None) => continue,
                Ok(Some(index)) => index,
                Err(reason) => {
                    bad += 1;
                    if first.len() < MAX_NAMED {
                        first.push(BadLine {
                            line: number,
                            reason,
                        });
                    }
                    continue;
                }
            };
            let leaf = batch.checker.leaf_index(index)?;
            let part = RevokedPart::number_of(leaf);
            let seen = seen.entry(part).or_default();
            if seen.contains(leaf) {
                repeated += 1;
                continue;
            }
            seen.insert(leaf);
            if self.is_void(batch, index)? {
                already += 1;
            } else {
                fresh += 1;
                parts.entry(part).or_default().insert(leaf);
            }
        }
        if bad > 0 {
            return Err(VoidError::Lines { count: bad, first });
        }
        if fresh + already == 0 {
            return Err(VoidError::Empty);
        }
        Ok(VoidList {
            parts: parts
                .into_iter()
                .map(|(number, leaves)| RevokedPart { number, leaves })
                .collect(),
            fresh,
            already,
            repeated,
        })
    }
}

struct Reader<'a> {
    loadout: &'a Loadout,
    batch: &'a Loaded,
    gtin: gs1::Gtin,
}

impl Reader<'_> {
    /// The index of the unit that a line names, `None` for a line without a code; inside, why the line is bad.
    fn index(
        &mut self,
        line: &[u8],
        number: u64,
    ) -> Result<Result<Option<u64>, String>, tally_codes::Error> {
        let Ok(text) = std::str::from_utf8(line) else {
            return Ok(Err("not text".to_owned()));
        };
        let text = match field(text.trim()) {
            Ok(text) => text,
            Err(reason) => return Ok(Err(reason)),
        };
        if text.is_empty() || text.starts_with('#') {
            return Ok(Ok(None));
        }
        if number == 1 && (text == "url" || text == "serial") {
            return Ok(Ok(None));
        }
        let code = match self.code(&text) {
            Ok(code) => code,
            Err(reason) => return Ok(Err(reason)),
        };
        if code.gtin != self.gtin {
            return Ok(Err(format!("of another product, {}", code.gtin)));
        }
        if let Some((_, index)) = self.find(&std::iter::once(self.batch), code.serial)? {
            return Ok(Ok(Some(index)));
        }
        let all = self.loadout.batches.iter().map(|b| &**b);
        Ok(Err(match self.find(&all, code.serial)? {
            Some((id, _)) => format!("a code of batch {id}"),
            None => "no code that this issuer made".to_owned(),
        }))
    }

    fn code(&self, text: &str) -> Result<UnitCode, String> {
        if text.contains('/') {
            return text.parse().map_err(|e| format!("{e}"));
        }
        let serial = text
            .parse::<Serial>()
            .or_else(|e| Serial::parse_typed(text).map_err(|_| e));
        Ok(UnitCode {
            gtin: self.gtin,
            serial: serial.map_err(|e| e.to_string())?,
        })
    }

    /// The batch and index of a code among the batches, anchored or not. Counts and alarms nothing: nobody scanned it.
    fn find<'a>(
        &self,
        batches: &(impl Iterator<Item = &'a Loaded> + Clone),
        serial: Serial,
    ) -> Result<Option<(BatchId, u64)>, tally_codes::Error> {
        let table = batches.clone().map(|b| &b.checker);
        let found = check(&self.loadout.issuer, &table, &self.gtin, serial, |_| {
            Ok::<_, tally_codes::Error>(Some(verdict::BatchStatus::Active))
        })?;
        let CheckResult::Valid { row, index, .. } = found else {
            return Ok(None);
        };
        Ok(batches.clone().nth(row).map(|batch| (batch.meta.id, index)))
    }
}

/// The first field of a row, or the link of a JSON row.
fn field(line: &str) -> Result<String, String> {
    if line.starts_with('{') {
        let row: serde_json::Value =
            serde_json::from_str(line).map_err(|_| "not a JSON object".to_owned())?;
        let code = ["url", "serial"]
            .iter()
            .find_map(|key| row.get(key)?.as_str());
        return code
            .map(str::to_owned)
            .ok_or_else(|| "a JSON object without url and serial".to_owned());
    }
    let first = line.split(',').next().unwrap_or_default();
    Ok(first.trim().trim_matches('"').to_owned())
}
