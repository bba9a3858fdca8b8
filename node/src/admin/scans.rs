//! What the scan log says in numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tally_contracts::state;
use tally_trace::stats::{Finding, Group, HONEST_DOUBLE_RATE, test_groups};

use super::ops::{internal, usage};
use super::{AdminError, Progress};
use crate::runtime::Node;
use crate::scans::{Counted, Statistics, StatisticsQuery, Tally, Verdict};

const DAY_MS: u64 = 86_400_000;
/// Of the batches and places that are named as standing out, this share at most is expected to be honest.
const FALSE_SHARE: f64 = 0.01;
/// Places with fewer scans are put together when nothing else is asked for.
const LEAST: u64 = 5;

/// Arguments of `scan_stats`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsArgs {
    /// Only the last days.
    #[serde(default)]
    days: Option<u64>,
    /// Count places by cells of so many characters instead of by region.
    #[serde(default)]
    cell: usize,
    /// Put places with fewer scans together.
    #[serde(default)]
    least: Option<u64>,
    /// Share of honest units with a second visit.
    #[serde(default)]
    honest_rate: Option<f64>,
}

/// Counts by verdict, day, batch and place.
pub(super) async fn stats(
    node: &Arc<Node>,
    a: StatsArgs,
    progress: Progress,
) -> Result<Value, AdminError> {
    let honest_rate = a.honest_rate.unwrap_or(HONEST_DOUBLE_RATE);
    if !(honest_rate > 0.0 && honest_rate < 1.0) {
        return Err(usage("the honest rate must be more than 0 and less than 1"));
    }
    let now_ms = node.scans.now_ms();
    let since_ms = a
        .days
        .map_or(0, |days| now_ms.saturating_sub(days.saturating_mul(DAY_MS)));
    let query = StatisticsQuery {
        since_ms,
        cell_length: a.cell,
    };
    let scans = Arc::clone(&node.scans);
    let counted = tokio::task::spawn_blocking(move || {
        let mut report = |done, total| progress.report("scans", done, total);
        scans.log().statistics(query, &mut report)
    })
    .await
    .map_err(internal)?
    .map_err(usage)?;
    let batches = batches(node, &counted, honest_rate)?;
    let (places, suppressed) = places(&counted, a.least.unwrap_or(LEAST), honest_rate)?;
    Ok(json!({
        "scans": counted.scans,
        "deleted": counted.deleted,
        "since_ms": since_ms,
        "first_ms": counted.span_ms.map(|s| s.0),
        "last_ms": counted.span_ms.map(|s| s.1),
        "verdicts": verdicts(&counted.verdicts),
        "days": days(&counted),
        "batches": batches,
        "places": places,
        "places_put_together": suppressed,
        "least": a.least.unwrap_or(LEAST),
        "honest_rate": honest_rate,
        "shared_index": counted.shared,
    }))
}

fn verdicts(counts: &BTreeMap<Verdict, u64>) -> Value {
    let named = |(verdict, count): (&Verdict, &u64)| (verdict.name().to_owned(), json!(count));
    Value::Object(counts.iter().map(named).collect::<Map<_, _>>())
}

fn days(counted: &Statistics) -> Vec<Value> {
    counted
        .days
        .iter()
        .filter(|(_, counts)| counts.values().any(|n| *n > 0))
        .map(|(day, counts)| {
            json!({
                "day": date(*day),
                "scans": counts.values().sum::<u64>(),
                "verdicts": verdicts(counts),
            })
        })
        .collect()
}

/// A day since 1970 as ISO 8601.
fn date(day: u64) -> String {
    let seconds = i64::try_from(day.saturating_mul(DAY_MS / 1000)).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| format!("day {day}"), |t| t.date().to_string())
}

/// Tests tallies together; nothing if doubles and units are not of one log.
fn judged<'a>(
    tallies: impl Iterator<Item = &'a Tally>,
    shared: bool,
    honest_rate: f64,
) -> Result<Vec<Option<Finding>>, AdminError> {
    let groups: Vec<Group> = tallies
        .map(|t| Group {
            scanned: t.units,
            doubled: t.doubled.min(t.units),
        })
        .collect();
    if shared {
        return Ok(vec![None; groups.len()]);
    }
    let found = test_groups(&groups, honest_rate, FALSE_SHARE).map_err(internal)?;
    Ok(found.into_iter().map(Some).collect())
}

fn tally(t: &Tally, finding: Option<&Finding>) -> Map<String, Value> {
    let Value::Object(out) = json!({
        "scans": t.scans,
        "units": t.units,
        "scanned_twice": t.doubled,
        "suspect": t.suspect,
        "p_value": finding.map(|f| f.p_value),
        "stands_out": finding.map(|f| f.stands_out),
    }) else {
        return Map::new();
    };
    out
}

fn batches(node: &Node, counted: &Statistics, honest_rate: f64) -> Result<Vec<Value>, AdminError> {
    let found = judged(counted.batches.values(), counted.shared, honest_rate)?;
    let ledger = node.chain.ledger().state();
    let mut out = Vec::with_capacity(found.len());
    for ((id, t), finding) in counted.batches.iter().zip(&found) {
        let mut row = tally(t, finding.as_ref());
        row.insert("batch".to_owned(), json!(id.to_string()));
        if let Some(batch) = state::batch(ledger, id).map_err(internal)? {
            row.insert("gtin".to_owned(), json!(batch.gtin.as_str()));
            row.insert("lot".to_owned(), json!(batch.lot.as_str()));
            row.insert("issued".to_owned(), json!(batch.count));
            row.insert("status".to_owned(), json!(batch.status.name()));
        }
        out.push(Value::Object(row));
    }
    Ok(out)
}

/// Places with at least so many scans, and the sum of the others. If the others are too few to hide in, the smallest of the named
/// ones join them: else their number would follow from the sum over all.
fn suppress(
    places: &BTreeMap<Counted, Tally>,
    least: u64,
) -> (Vec<(&Counted, &Tally)>, Tally, u64) {
    let mut named: Vec<_> = places.iter().collect();
    named.sort_by(|a, b| b.1.scans.cmp(&a.1.scans).then(a.0.cmp(b.0)));
    let (mut together, mut count) = (Tally::default(), 0);
    while let Some((_, t)) = named.last() {
        let hidden = together.scans;
        if t.scans >= least && (hidden == 0 || hidden >= least) {
            break;
        }
        together.scans += t.scans;
        together.units += t.units;
        together.doubled += t.doubled;
        together.suspect += t.suspect;
        count += 1;
        named.pop();
    }
    (named, together, count)
}

fn places(
    counted: &Statistics,
    least: u64,
    honest_rate: f64,
) -> Result<(Vec<Value>, Value), AdminError> {
    let (named, together, count) = suppress(&counted.places, least);
    let found = judged(named.iter().map(|(_, t)| *t), counted.shared, honest_rate)?;
    let rows = named
        .into_iter()
        .zip(&found)
        .map(|(((country, region, cell), t), finding)| {
            let mut row = tally(t, finding.as_ref());
            row.insert("country".to_owned(), json!(country));
            row.insert("region".to_owned(), json!(region));
            row.insert("cell".to_owned(), json!(cell));
            Value::Object(row)
        })
        .collect();
    let mut rest = tally(&together, None);
    rest.insert("places".to_owned(), json!(count));
    Ok((rows, Value::Object(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places_of(scans: &[u64]) -> BTreeMap<Counted, Tally> {
        scans
            .iter()
            .enumerate()
            .map(|(i, scans)| {
                let name = ("CN".to_owned(), format!("R{i}"), String::new());
                let tally = Tally {
                    scans: *scans,
                    units: *scans,
                    ..Tally::default()
                };
                (name, tally)
            })
            .collect()
    }

    #[test]
    fn small_places_hide_in_each_other() {
        for (scans, named, together) in [
            (&[9, 7, 5][..], 3, 0),
            (&[9, 2, 3], 1, 5),
            // 4 alone would follow from the total: the next smallest joins it.
            (&[9, 7, 4], 1, 11),
            (&[4], 0, 4),
            (&[1, 1, 1], 0, 3),
            (&[], 0, 0),
        ] {
            let places = places_of(scans);
            let (shown, rest, count) = suppress(&places, 5);
            assert_eq!((shown.len(), rest.scans), (named, together), "{scans:?}");
            assert_eq!(count, (scans.len() - named) as u64);
            assert!(shown.iter().all(|(_, t)| t.scans >= 5));
            assert_eq!(
                shown.iter().map(|(_, t)| t.scans).sum::<u64>() + rest.scans,
                scans.iter().sum::<u64>()
            );
        }
        assert_eq!(suppress(&places_of(&[1, 2]), 0).0.len(), 2);
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(20_454), "2026-01-01");
    }
}
