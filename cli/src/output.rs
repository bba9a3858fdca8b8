//! What a person or a program reads: aligned text, or one JSON value.

use std::io::{self, Write as _};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Writes to standard output. A reader that has gone away (`tally ... | head`) is no error.
pub(crate) fn text(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error.
pub(crate) fn warn(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes one JSON value on one line.
pub(crate) fn value(value: &Value) {
    text(&format!("{value}\n"));
}

/// Text of others without control characters, which could rewrite a terminal.
pub(crate) fn plain(text: &str) -> String {
    let shown = |c: char| {
        let steers = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers && c != '\n' { '\u{fffd}' } else { c }
    };
    text.chars().map(shown).collect()
}

/// A JSON value as text: objects as aligned lines, lists of objects as tables.
pub(crate) fn render(value: &Value) -> String {
    let mut out = String::new();
    put(&mut out, value, 0);
    out
}

/// These keys of an object as text, in this order; without those that are missing or `null`.
pub(crate) fn render_keys(value: &Value, keys: &[&str]) -> String {
    let Value::Object(map) = value else {
        return render(value);
    };
    let pairs: Vec<_> = keys
        .iter()
        .filter_map(|key| map.get_key_value(*key))
        .filter(|(_, value)| !value.is_null())
        .collect();
    let mut out = String::new();
    put_pairs(&mut out, &pairs, 0);
    out
}

/// A list of objects as a table of these columns, in this order.
pub(crate) fn render_table(value: &Value, columns: &[&str]) -> String {
    let Value::Array(items) = value else {
        return render(value);
    };
    let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
    let mut out = String::new();
    put_rows(&mut out, items, &columns.iter().collect::<Vec<_>>(), 0);
    out
}

/// A moment in UTC; nothing for what no calendar has.
pub(crate) fn moment(ms: u64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()?;
    time.format(&Rfc3339).ok()
}

/// Puts the moment at `key`, which is in POSIX milliseconds, in its place under a name without the unit. For people: programs get the number.
pub(crate) fn tell_moment(value: &mut Value, key: &str) {
    let Some(fields) = value.as_object_mut() else {
        return;
    };
    let told = fields.get(key).and_then(Value::as_u64).and_then(moment);
    if let (Some(told), Some(name)) = (told, key.strip_suffix("_ms")) {
        fields.remove(key);
        fields.insert(name.to_owned(), Value::String(told));
    }
}

/// Keys that people look for first, in the order in which they are read; all others follow by name.
const ORDER: [&str; 28] = [
    "match",
    "agreement",
    "batch",
    "code",
    "audience",
    "owner",
    "analyst",
    "reason",
    "status",
    "stage",
    "with",
    "asked_by",
    "computation",
    "computations",
    "answer",
    "rows",
    "people",
    "repeated_rows",
    "repeated_lines",
    "dropped_rows",
    "dropped",
    "why",
    "lines",
    "answers_left_this_epoch",
    "answers_left_in_all",
    "started",
    "sum",
    "give_or_take",
];

fn ordered<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|key| {
        let place = ORDER.iter().position(|k| k == key);
        (place.unwrap_or(ORDER.len()), *key)
    });
    keys
}

fn label(key: &str) -> String {
    let words: Vec<_> = key
        .split('_')
        .map(|word| if word == "id" { "ID" } else { word })
        .collect();
    words.join(" ")
}

/// A value that stands on one line; `None` for a table or a block of lines.
fn short(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("-".to_owned()),
        Value::Bool(true) => Some("yes".to_owned()),
        Value::Bool(false) => Some("no".to_owned()),
        Value::Number(n) => Some(grouped(&n.to_string())),
        Value::String(s) if s.contains('\n') => None,
        Value::String(s) => Some(plain(s)),
        Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        Value::Array(items) => {
            let words: Option<Vec<_>> = items
                .iter()
                .map(|i| {
                    if i.is_object() || i.is_array() {
                        None
                    } else {
                        short(i)
                    }
                })
                .collect();
            words.map(|w| w.join(", "))
        }
        Value::Object(map) if map.is_empty() => Some("none".to_owned()),
        Value::Object(_) => None,
    }
}

/// Whole numbers with a comma at every third digit; others as they are.
pub(crate) fn grouped(number: &str) -> String {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    if digits.len() < 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut out = String::from(sign);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn put(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => put_object(out, map, indent),
        Value::Array(items) if items.iter().any(Value::is_object) => put_table(out, items, indent),
        Value::String(s) => {
            for line in plain(s).lines() {
                out.push_str(&format!("{pad}{line}\n"));
            }
        }
        other => match short(other) {
            Some(line) => out.push_str(&format!("{pad}{line}\n")),
            None => {
                if let Value::Array(items) = other {
                    for item in items {
                        put(out, item, indent);
                    }
                }
            }
        },
    }
}

fn put_object(out: &mut String, map: &Map<String, Value>, indent: usize) {
    let pairs: Vec<_> = ordered(map.keys())
        .into_iter()
        .filter_map(|key| map.get_key_value(key))
        .collect();
    put_pairs(out, &pairs, indent);
}

fn put_pairs(out: &mut String, pairs: &[(&String, &Value)], indent: usize) {
    let pad = " ".repeat(indent);
    let width = pairs.iter().map(|(k, _)| k.chars().count()).max();
    let width = width.unwrap_or(0);
    for (key, value) in pairs {
        let key = label(&plain(key));
        match short(value) {
            Some(line) => out.push_str(&format!("{pad}{key:width$}  {line}\n")),
            None => {
                out.push_str(&format!("{pad}{key}\n"));
                put(out, value, indent + 2);
            }
        }
    }
}

fn put_table(out: &mut String, items: &[Value], indent: usize) {
    let mut columns: Vec<&String> = Vec::new();
    for key in items
        .iter()
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
    {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    let columns = ordered(columns.into_iter());
    let flat = items.iter().all(|i| {
        i.as_object()
            .is_some_and(|m| m.values().all(|v| short(v).is_some()))
    });
    if !flat {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            put(out, item, indent);
        }
        return;
    }
    put_rows(out, items, &columns, indent);
}

/// The rows of a table under their names. A column in which no row says anything is left out.
fn put_rows(out: &mut String, items: &[Value], columns: &[&String], indent: usize) {
    let says = |column: &&&String| {
        let mut cells = items.iter().filter_map(|item| item.get(column.as_str()));
        cells.any(|cell| !cell.is_null() && cell.as_str() != Some(""))
    };
    let columns: Vec<&String> = columns.iter().filter(says).copied().collect();
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|c| label(&plain(c))).collect()];
    for item in items {
        let cell = |key: &String| item.get(key).and_then(short).unwrap_or_default();
        rows.push(columns.iter().map(|c| cell(c)).collect());
    }
    let numeric: Vec<bool> = columns
        .iter()
        .map(|c| {
            items
                .iter()
                .all(|i| i.get(c.as_str()).is_none_or(Value::is_number))
        })
        .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|c| {
            rows.iter()
                .filter_map(|r| r.get(c))
                .map(|t| t.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in &rows {
        let mut line = " ".repeat(indent);
        for ((cell, width), right) in row.iter().zip(&widths).zip(&numeric) {
            let cell = if *right {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:width$}  ")
            };
            line.push_str(&cell);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_aligned_and_lists_are_tables() {
        let value = json!({
            "height": 12345, "read_only": null, "ok": true,
            "peers": [{"name": "acme", "lag": 1}, {"name": "boreal", "lag": 20000}],
            "tags": ["a", "b"], "deep": {"x": 1},
        });
        let text = render(&value);
        for line in [
            "height     12,345",
            "read only  -",
            "ok         yes",
            "tags       a, b",
            "  x  1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} not in\n{text}");
        }
        let rows: Vec<_> = text
            .lines()
            .filter(|l| l.contains("name") || l.contains("acme") || l.contains("boreal"))
            .collect();
        assert_eq!(rows.len(), 3, "{text}");
        let end = |l: &str, what: &str| l.find(what).map(|at| at + what.len());
        let column = rows
            .iter()
            .zip(["lag", "1", "20,000"])
            .map(|(l, w)| end(l, w))
            .collect::<Vec<_>>();
        // These keys come in the order of their names, so the number stands first and ends in one column.
        assert!(column.windows(2).all(|w| w[0] == w[1]), "{text}");
    }

    #[test]
    fn what_people_look_for_stands_first() {
        let value = json!({"zeta": 1, "alpha": 2, "stage": "done", "match": "ab", "hidden": null});
        let keys = |text: &str| -> Vec<String> {
            let words = text.lines().filter_map(|l| l.split_whitespace().next());
            words.map(ToOwned::to_owned).collect()
        };
        let all = ["match", "stage", "alpha", "hidden", "zeta"];
        assert_eq!(keys(&render(&value)), all);
        let some = ["zeta", "match", "hidden", "missing"];
        assert_eq!(keys(&render_keys(&value, &some)), ["zeta", "match"]);
        let table = render(&json!([{"started": 1, "match": "x"}, {"alpha": 2}]));
        let head = table.lines().next().unwrap().split_whitespace();
        assert_eq!(head.collect::<Vec<_>>(), ["match", "started", "alpha"]);
    }

    #[test]
    fn tables_have_the_columns_that_say_something() {
        let rows =
            json!([{"b": 1, "a": "x", "void": null, "why": ""}, {"b": 20, "a": "y", "why": ""}]);
        assert_eq!(
            render_table(&rows, &["b", "why", "missing", "void", "a"]),
            " b  a\n 1  x\n20  y\n"
        );
        assert_eq!(render(&rows), "a   b\nx   1\ny  20\n");
        assert_eq!(label("network_id"), "network ID");
        assert_eq!(label("idle_ids"), "idle ids");
    }

    #[test]
    fn moments_are_told_to_people() {
        let mut value = json!({"time_ms": 1_795_696_865_258_u64, "count": 3});
        tell_moment(&mut value, "time_ms");
        tell_moment(&mut value, "valid_until_ms");
        assert_eq!(
            value,
            json!({"time": "2026-11-26T12:41:05.258Z", "count": 3})
        );
    }

    #[test]
    fn text_of_others_cannot_steer_the_terminal() {
        let text = render(&json!({"purpose\u{1b}[2J": "a\u{1b}[31mb\u{202e}c\rd"}));
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text:?}");
    }

    #[test]
    fn numbers_are_grouped_only_when_long_and_whole() {
        let found: Vec<_> = ["9999", "12345", "-1234567", "12345.5", "1e20"]
            .map(grouped)
            .into();
        assert_eq!(found, ["9999", "12,345", "-1,234,567", "12345.5", "1e20"]);
    }
}
