//! Audiences: a CSV file in, a frozen set committed to the ledger, and a report of every row that was not used.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand_core::OsRng;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tally_contracts::records::{IdType, Profile, size_bucket};
use tally_measure::attribution::{
    ConversionColumns, TouchColumns, import_conversions, import_touches,
};
use tally_measure::{Import, ImportOptions, ImportReport, Lines, Region};

use super::ops::{internal, usage};
use super::{AdminError, Progress};
use crate::audiences::{
    AudienceError, AudienceKey, AudienceMeta, Holds, RowsInput, check_audience_name,
};
use crate::runtime::Node;

/// Bytes read between two words about the progress.
const REPORT_BYTES: u64 = 1 << 20;

/// Arguments of `audience_import`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportArgs {
    file: PathBuf,
    id_type: String,
    profile: String,
    label: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    column: Option<String>,
    /// What the rows are: `people` where it is not said, `touches`, `conversions`.
    #[serde(default)]
    holds: Option<String>,
}

impl From<AudienceError> for AdminError {
    fn from(error: AudienceError) -> Self {
        let (code, next) = match &error {
            AudienceError::Name { .. } => ("usage", "see the command's --help"),
            AudienceError::Exists { .. } => (
                "exists",
                "a set is frozen for its epoch; use another label, or wait for the next epoch",
            ),
            AudienceError::Unknown { .. } => ("not_found", "`tally audience list` shows them"),
            AudienceError::Empty => ("empty", "is it the right column, and the right profile?"),
            _ => ("audience", "read the node's log"),
        };
        Self::new(code, error.to_string(), next)
    }
}

/// ID type and profile, which must belong together.
pub(super) fn parse_profile(id_type: &str, profile: &str) -> Result<Profile, AdminError> {
    let kind = IdType::parse(id_type).ok_or_else(|| {
        let known: Vec<_> = IdType::ALL.iter().map(|t| t.name()).collect();
        usage(format!(
            "{id_type:?} is no ID type, expected one of {}",
            known.join(", ")
        ))
    })?;
    let profile: Profile = profile.parse().map_err(usage)?;
    if profile.id_type() == kind {
        Ok(profile)
    } else {
        Err(usage(format!(
            "profile {profile} is for the ID type {}, not {kind}",
            profile.id_type()
        )))
    }
}

/// Reads a file, freezes and salts the set, and commits it to the ledger.
pub(super) async fn import(
    node: &Arc<Node>,
    a: ImportArgs,
    progress: Progress,
) -> Result<Value, AdminError> {
    let mut options = ImportOptions::new(parse_profile(&a.id_type, &a.profile)?);
    options.column = a.column;
    options.default_region = match &a.region {
        Some(text) => Some(text.parse::<Region>().map_err(usage)?),
        None => None,
    };
    let holds = match &a.holds {
        None => Holds::People,
        Some(word) => Holds::parse(word)
            .ok_or_else(|| usage(format!("{word:?}, expected people, touches or conversions")))?,
    };
    check_audience_name(&a.label)?;
    let _turn = node.importing.lock().await;
    let key = AudienceKey {
        label: node.audiences.label(&a.label),
        epoch: node.matches.epoch()?,
    };
    if let Some(there) = node.audiences.get(&key)? {
        if there.record.is_some() {
            return Err(AudienceError::Exists {
                name: a.label,
                epoch: key.epoch,
            }
            .into());
        }
        // An import that ended between the set and its record. That record may still be on its way, so the set stays.
        let meta = node.matches.commit_audience(&key).await?;
        let mut answer = imported(node, &meta);
        if let Value::Object(map) = &mut answer {
            let note = "an earlier import had stored this set without committing it; it is committed now, and the file was not read";
            map.insert("note".into(), json!(note));
        }
        return Ok(answer);
    }
    let (store, name) = (node.audiences.clone(), a.label);
    let meta = tokio::task::spawn_blocking(move || -> Result<AudienceMeta, AdminError> {
        let source = open(&a.file, &progress)?;
        if holds == Holds::People {
            let done = store.import(&name, key.epoch, source, &options, &mut OsRng);
            return done.map_err(|error| match error {
                AudienceError::Set(error) => refused(&a.file, &error, holds),
                other => other.into(),
            });
        }
        let read = rows_of(source, &options, holds);
        let (import, rows) = read.map_err(|error| refused(&a.file, &error, holds))?;
        progress.report("salting people", import.report.used, import.report.used);
        Ok(store.create_with(&name, key.epoch, import, Some(rows), &mut OsRng)?)
    })
    .await
    .map_err(internal)??;
    tracing::info!(
        label = %meta.key.label,
        epoch = meta.key.epoch,
        people = meta.size,
        rows = meta.report.rows,
        "an audience was imported"
    );
    let meta = node.matches.commit_audience(&meta.key).await?;
    Ok(imported(node, &meta))
}

/// Opens a file that is to be imported.
fn open<'a>(path: &Path, progress: &'a Progress) -> Result<Watched<'a>, AdminError> {
    let cannot = |e: io::Error| {
        AdminError::new(
            "file",
            format!("{}: {e}", path.display()),
            "the node reads the file itself: give one that it may read, on its machine",
        )
    };
    if !path.is_absolute() {
        return Err(usage(format!(
            "{}, expected a whole path, from /",
            path.display()
        )));
    }
    let about = std::fs::metadata(path).map_err(cannot)?;
    if !about.is_file() {
        return Err(usage(format!("{} is no file", path.display())));
    }
    let file = File::open(path).map_err(cannot)?;
    Ok(Watched {
        file,
        done: 0,
        told: 0,
        total: about.len(),
        progress,
    })
}

/// Why a file cannot be imported.
fn refused(path: &Path, error: &tally_measure::Error, holds: Holds) -> AdminError {
    let columns = match holds {
        Holds::People => "",
        Holds::Touches => "; touches have touched_at, channel and kind besides",
        Holds::Conversions => "; conversions have converted_at, value_cents and order_id besides",
    };
    AdminError::new(
        "import",
        format!("{}: {error}", path.display()),
        format!(
            "the first line names the columns; --id-type and --column say which one holds the IDs{columns}"
        ),
    )
}

/// Touches or conversions, and the people who have one, who are an audience like any other.
fn rows_of(
    source: impl Read,
    options: &ImportOptions,
    holds: Holds,
) -> Result<(Import, RowsInput), tally_measure::Error> {
    let (profile, region) = (options.profile, options.default_region);
    let id = options.column.clone();
    let (ids, report, bytes) = match holds {
        Holds::Touches => {
            let columns = TouchColumns {
                id,
                ..TouchColumns::default()
            };
            let found = import_touches(source, profile, region, &columns)?;
            let ids = found.people().cloned().collect();
            (ids, found.report().clone(), found.to_bytes())
        }
        _ => {
            let columns = ConversionColumns {
                id,
                ..ConversionColumns::default()
            };
            let found = import_conversions(source, profile, region, &columns)?;
            let ids = found.people().cloned().collect();
            (ids, found.report().clone(), found.to_bytes())
        }
    };
    let import = Import {
        ids,
        report: report.of_people(profile),
    };
    let rows = RowsInput {
        holds,
        report,
        bytes,
    };
    Ok((import, rows))
}

/// A file whose reading is reported.
struct Watched<'a> {
    file: File,
    done: u64,
    told: u64,
    total: u64,
    progress: &'a Progress,
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        self.done += n as u64;
        if self.done - self.told >= REPORT_BYTES || (n == 0 && self.told < self.done) {
            self.told = self.done;
            self.progress.report("bytes read", self.done, self.total);
        }
        Ok(n)
    }
}

/// What became of the rows, without any of their content.
pub(super) fn report(report: &ImportReport) -> Value {
    let lines = |l: &Lines| {
        let mut text: Vec<String> = l.first_lines.iter().map(ToString::to_string).collect();
        if l.count > l.first_lines.len() as u64 {
            text.push("...".into());
        }
        text.join(", ")
    };
    let dropped: Vec<Value> = report
        .dropped
        .iter()
        .map(|(reason, l)| {
            json!({
                "reason": serde_json::to_value(reason).unwrap_or_default(),
                "why": reason.describe(),
                "rows": l.count,
                "lines": lines(l),
            })
        })
        .collect();
    let mut out = json!({
        "rows": report.rows,
        "people": report.used,
        "repeated_rows": report.duplicates.count,
        "repeated_lines": lines(&report.duplicates),
        "dropped_rows": report.dropped_rows(),
        "dropped": dropped,
    });
    if let (1.., Value::Object(map)) = (report.unassigned.count, &mut out) {
        let note = format!(
            "{} rows were used although no range with their number is known to be assigned; lines {}",
            report.unassigned.count,
            lines(&report.unassigned)
        );
        map.insert("note".into(), json!(note));
    }
    if let (Some(dense), Value::Object(map)) = (&report.dense_range, &mut out) {
        let warning = format!(
            "{} of the IDs fill a range of {} numbers: this is a list of guesses rather than an audience",
            dense.values, dense.span
        );
        map.insert("warning".into(), json!(warning));
    }
    out
}

fn imported(node: &Node, meta: &AudienceMeta) -> Value {
    let record = meta.record.map(|r| r.to_string());
    let height = meta
        .record
        .and_then(|r| node.chain.ledger().find(&r).ok().flatten())
        .map(|place| place.height);
    let mut out = Map::new();
    out.insert("audience".into(), json!(meta.name));
    out.insert("label".into(), json!(meta.key.label.to_string()));
    out.insert("epoch".into(), json!(meta.key.epoch));
    out.insert("profile".into(), json!(meta.profile.to_string()));
    out.insert("people".into(), json!(meta.size));
    out.insert("on_the_ledger".into(), json!(public(meta)));
    out.insert("record".into(), json!(record));
    out.insert("height".into(), json!(height));
    out.insert("holds".into(), json!(meta.holds().name()));
    let mut report = report(&meta.report);
    if let (Some(rows), Value::Object(report)) = (&meta.rows, &mut report) {
        report.insert("used_rows".into(), json!(rows.report.used));
    }
    out.insert("report".into(), report);
    Value::Object(out)
}

/// All that the other members see of a set.
fn public(meta: &AudienceMeta) -> String {
    format!(
        "commitment {}, at most {} people",
        meta.commitment(),
        1_u64 << size_bucket(meta.public_size()).min(63)
    )
}

/// The sets of this node.
pub(super) fn list(node: &Node) -> Result<Value, AdminError> {
    let rows: Vec<Value> = node
        .audiences
        .list()?
        .iter()
        .map(|m| {
            json!({
                "audience": m.name,
                "epoch": m.key.epoch,
                "profile": m.profile.to_string(),
                "holds": m.holds().name(),
                "people": m.size,
                "repeated_rows": m.report.duplicates.count,
                "dropped_rows": m.report.dropped_rows(),
                "committed": m.record.is_some(),
                "label": m.key.label.to_string(),
            })
        })
        .collect();
    Ok(Value::Array(rows))
}
