//! `tally scans`

mod picture;

use anyhow::Result;
use serde_json::{Value, json};
use tally_node::files::write_atomic;

use super::{Context, text_at};
use crate::args::{ScansCommand, StatsArgs};
use crate::output;

pub(super) fn run(ctx: &Context, command: &ScansCommand) -> Result<()> {
    match command {
        ScansCommand::Stats(args) => stats(ctx, args),
    }
}

fn stats(ctx: &Context, args: &StatsArgs) -> Result<()> {
    let request = json!({
        "days": args.days,
        "cell": args.cell.unwrap_or_default(),
        "least": args.least,
        "honest_rate": args.honest_rate,
    });
    let answer = ctx.ask("scan_stats", &request)?;
    if let Some(path) = &args.svg {
        write_atomic(path, picture::draw(&answer).as_bytes(), 0o644)?;
    }
    if ctx.common.json {
        output::value(&answer);
    } else {
        output::text(&words(&answer));
        if let Some(path) = &args.svg {
            output::text(&format!("\ndrawn in {}\n", path.display()));
        }
    }
    Ok(())
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn rows<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The name of a place's row.
fn place(row: &Value) -> String {
    let at = |key| output::plain(text_at(row, key)).replace('\n', " ");
    let parts = [at("cell"), at("region"), at("country")];
    let told: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    if told.is_empty() {
        "not told".to_owned()
    } else {
        told.join(", ")
    }
}

/// A probability as it is read: small ones by their power of ten.
fn probability(p: f64) -> String {
    match p {
        1.0.. => "1".to_owned(),
        0.001.. => format!("{p:.3}"),
        _ => format!("{p:.1e}"),
    }
}

/// What is told of a batch or place, in the order of its columns.
fn cells(name: String, row: &Value) -> Vec<String> {
    let count = |key| output::grouped(&number(row, key).to_string());
    let chance = row.get("p_value").and_then(Value::as_f64);
    let stands_out = row.get("stands_out").and_then(Value::as_bool) == Some(true);
    vec![
        name,
        count("scans"),
        count("units"),
        count("scanned_twice"),
        count("suspect"),
        chance.map_or_else(|| "-".to_owned(), probability),
        if stands_out { "stands out" } else { "" }.to_owned(),
    ]
}

const COLUMNS: [&str; 7] = [
    "",
    "scans",
    "units",
    "scanned twice",
    "suspect",
    "chance if honest",
    "",
];

/// Columns side by side; all but the first and the last are numbers.
fn table(head: &[&str], body: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = body.iter().filter_map(|row| row.get(i));
        cells
            .map(|cell| cell.chars().count())
            .chain(head.get(i).map(|cell| cell.chars().count()))
            .max()
            .unwrap_or_default()
    };
    let line = |cells: &[&str]| {
        let mut out = String::from("  ");
        for (i, cell) in cells.iter().enumerate() {
            let width = width(i);
            if i == 0 {
                out.push_str(&format!("{cell:<width$}"));
            } else if i + 1 == COLUMNS.len() {
                out.push_str(&format!("  {cell}"));
            } else {
                out.push_str(&format!("  {cell:>width$}"));
            }
        }
        format!("{}\n", out.trim_end())
    };
    let mut out = line(head);
    for row in body {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        out.push_str(&line(&cells));
    }
    out
}

fn words(answer: &Value) -> String {
    let scans = number(answer, "scans");
    let deleted = number(answer, "deleted");
    if scans == 0 && deleted == 0 {
        return "no scans yet\n".to_owned();
    }
    let mut out = format!("{} scans", output::grouped(&scans.to_string()));
    if deleted > 0 {
        out.push_str(&format!(
            ", and {} were deleted since and are in no figure",
            output::grouped(&deleted.to_string())
        ));
    }
    out.push_str("\n\nby verdict\n");
    let listed = |value: &Value| {
        let counts = value.get("verdicts").and_then(Value::as_object);
        let counts = counts.into_iter().flatten();
        counts
            .map(|(verdict, n)| (verdict.clone(), n.as_u64().unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let mut verdicts = listed(answer);
    verdicts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    for (verdict, n) in verdicts {
        out.push_str(&format!(
            "  {verdict:<18} {:>12}\n",
            output::grouped(&n.to_string())
        ));
    }
    out.push_str("\nby day (UTC)\n");
    for day in rows(answer, "days") {
        let parts: Vec<String> = listed(day)
            .into_iter()
            .map(|(verdict, n)| format!("{verdict} {}", output::grouped(&n.to_string())))
            .collect();
        out.push_str(&format!(
            "  {}  {:>12}  {}\n",
            text_at(day, "day"),
            output::grouped(&number(day, "scans").to_string()),
            parts.join(", ")
        ));
    }
    let batches: Vec<_> = rows(answer, "batches")
        .iter()
        .map(|row| {
            let id: String = text_at(row, "batch").chars().take(16).collect();
            cells(
                output::plain(&format!("{id} lot {}", text_at(row, "lot"))),
                row,
            )
        })
        .collect();
    if !batches.is_empty() {
        out.push_str("\nby batch\n");
        out.push_str(&table(&COLUMNS, &batches));
    }
    let mut places: Vec<_> = rows(answer, "places")
        .iter()
        .map(|row| cells(place(row), row))
        .collect();
    if let Some(rest) = answer
        .get("places_put_together")
        .filter(|rest| number(rest, "places") > 0)
    {
        places.push(cells(
            format!(
                "{} others, with few scans",
                output::grouped(&number(rest, "places").to_string())
            ),
            rest,
        ));
    }
    if !places.is_empty() {
        out.push_str("\nby place\n");
        out.push_str(&table(&COLUMNS, &places));
    }
    if answer.get("shared_index").and_then(Value::as_bool) == Some(true) {
        out.push_str(
            "\nthese are the scans of this gateway; add those of the others before you compare doubles with units\n",
        );
    } else if [rows(answer, "batches"), rows(answer, "places")]
        .concat()
        .iter()
        .any(|row| row.get("stands_out").and_then(Value::as_bool) == Some(true))
    {
        out.push_str(
            "\nwhat stands out is scanned twice more often than honest units are: look at some of its codes (docs/copies.md)\n",
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_tables() {
        let row = json!({"batch": "ab".repeat(32), "lot": "L7\u{1b}[2J", "scans": 12_345, "units": 10_000, "scanned_twice": 900,
            "suspect": 3, "p_value": 1.5e-9, "stands_out": true});
        let other = json!({"country": "CN", "region": "Sichuan", "cell": "", "scans": 7, "units": 7, "scanned_twice": 0,
            "suspect": 0, "p_value": null, "stands_out": null});
        let answer = json!({
            "scans": 12_360, "deleted": 8, "verdicts": {"genuine_first": 12_000, "suspect": 3},
            "days": [{"day": "2026-01-01", "scans": 12_003, "verdicts": {"genuine_first": 12_000, "suspect": 3}}],
            "batches": [row], "places": [other],
            "places_put_together": {"places": 2, "scans": 5, "units": 5}, "shared_index": false,
        });
        let text = words(&answer);
        for said in [
            "12,360 scans",
            "8 were deleted",
            "genuine_first",
            "2026-01-01",
            "stands out",
            "1.5e-9",
            "Sichuan, CN",
            "2 others, with few scans",
            "docs/copies.md",
        ] {
            assert!(text.contains(said), "{said} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "others' text steers no terminal");
        assert_eq!(words(&json!({"scans": 0})), "no scans yet\n");
    }
}
