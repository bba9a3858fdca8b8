//! `tally event`

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Context, scan, text_at};
use crate::args::EventArgs;
use crate::exit::{Exit, Failure};

/// Codes of one request; what the gateway takes at most is 500.
const AT_ONCE: usize = 400;
/// The first line of an exported file.
const OUTER_HEADER: &str = "url,serial";
/// How many refused codes are named.
const NAMED: usize = 20;

pub(super) fn run(ctx: &Context, args: &EventArgs) -> Result<()> {
    let key = std::fs::read_to_string(&args.key_file)
        .map(Zeroizing::new)
        .with_context(|| format!("{} cannot be read", args.key_file.display()))?;
    let header = Zeroizing::new(format!("Bearer {}", key.trim()));
    let codes = codes(args)?;
    let place = scan::place(&args.place);
    let (mut counts, mut refused) = (Map::new(), Vec::new());
    let (mut dealer, mut sold_before) = (String::new(), 0_u64);
    for codes in codes.chunks(AT_ONCE) {
        let mut body = json!({"event": args.event, "codes": codes});
        if let (Some(place), Some(body)) = (&place, body.as_object_mut()) {
            body.insert("place".into(), place.clone());
        }
        let header = Some(("authorization", header.as_str()));
        let answer = scan::ask(ctx, args.url.as_deref(), "/v1/events", header, &body)?;
        text_at(&answer, "dealer").clone_into(&mut dealer);
        let results = answer.get("results").and_then(Value::as_array);
        for one in results.into_iter().flatten() {
            let result = text_at(one, "result");
            let count = counts.get(result).and_then(Value::as_u64).unwrap_or(0);
            counts.insert(result.to_owned(), json!(count + 1));
            sold_before += u64::from(one.get("sold_before") == Some(&json!(true)));
            if !matches!(result, "taken" | "again") && refused.len() < NAMED {
                refused.push(json!({"code": text_at(one, "code"), "result": result}));
            }
        }
    }
    let of = |result: &str| counts.get(result).and_then(Value::as_u64).unwrap_or(0);
    let taken = of("taken") + of("again");
    ctx.show(
        &json!({
            "event": args.event,
            "dealer": dealer,
            "codes": codes.len(),
            "taken": of("taken"),
            "again": of("again"),
            "sold_before": sold_before,
            "refused": refused,
        }),
        None,
    );
    if taken == codes.len() as u64 {
        return Ok(());
    }
    let what = format!(
        "{} of {} codes are not codes of this brand",
        codes.len() as u64 - taken,
        codes.len()
    );
    Err(Failure::new(Exit::NotVerified, "refused", what)
        .told()
        .into())
}

/// The code in a line: the line itself, or the link in a row of an exported file, which a comma ends; no link of ours has one.
fn code_of_row(line: &str) -> String {
    if line.starts_with('{')
        && let Ok(row) = serde_json::from_str::<Value>(line)
        && let Some(url) = row.get("url").and_then(Value::as_str)
    {
        return url.to_owned();
    }
    let link = line
        .split_once(',')
        .filter(|(link, _)| link.contains("://"));
    link.map_or(line, |(link, _)| link).to_owned()
}

/// The codes of the command line and of the list, in their order.
fn codes(args: &EventArgs) -> Result<Vec<String>> {
    let mut codes = args.codes.clone();
    if let Some(list) = &args.list {
        let mut text = String::new();
        if list == Path::new("-") {
            std::io::stdin()
                .read_to_string(&mut text)
                .context("standard input")?;
        } else {
            text = std::fs::read_to_string(list)
                .with_context(|| format!("{} cannot be read", list.display()))?;
        }
        let lines = text.lines().map(str::trim);
        codes.extend(
            lines
                .filter(|l| !l.is_empty() && !l.starts_with('#') && *l != OUTER_HEADER)
                .map(code_of_row),
        );
    }
    if codes.is_empty() {
        return Err(Failure::new(Exit::Usage, "usage", "the list has no code").into());
    }
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_code_or_a_row() {
        for (line, code) in [
            ("https://t.cn/01/1/21/A", "https://t.cn/01/1/21/A"),
            (
                "https://t.cn/01/1/21/A?17=270630,A",
                "https://t.cn/01/1/21/A?17=270630",
            ),
            (
                r#"{"url":"https://t.cn/01/1/21/A","serial":"A"}"#,
                "https://t.cn/01/1/21/A",
            ),
            ("1/A,B", "1/A,B"),
            ("{", "{"),
        ] {
            assert_eq!(code_of_row(line), code);
        }
    }
}
