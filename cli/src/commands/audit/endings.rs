//! How a match of two or an overlap of several ended, in sentences and as one object.

use serde_json::{Value, json};
use tally_contracts::records::{Close, Computation, Noise, OverlapClose};
use tally_contracts::state::OverlapParty;
use tally_evidence::{MatchReport, OverlapReport, RecordReport, render};
use tally_node::proofs::json as shown;

use super::words::{amount, committed_words, signers, time_ms};
use crate::output::grouped;

fn without_receipt(is_released: bool) -> String {
    let budget = if is_released {
        "the answer was released before, so the budget is spent"
    } else {
        "nothing was released, and the budget was given back"
    };
    format!("none: {budget}")
}

fn people(bucket: u8) -> String {
    grouped(&render::people(bucket).to_string())
}

pub(super) fn match_words(matched: &MatchReport, line: &mut dyn FnMut(&str, String)) {
    line("match", matched.session.to_string());
    line(
        "agreement",
        format!(
            "{}, {}, for \"{}\"",
            matched.matched.agreement, matched.agreement.status, matched.agreement.terms.purpose
        ),
    );
    line("asked for", matched.matched.computation.to_string());
    line("opened", time_ms(matched.matched.opened_ms));
    match &matched.close {
        Close::Done(receipt) => {
            line(
                "sets",
                format!(
                    "at most {} and {} people",
                    people(receipt.initiator_bucket),
                    people(receipt.responder_bucket)
                ),
            );
            let besides = if receipt.computation == Computation::JoinSum {
                format!(
                    ", {} of the responder besides",
                    amount(&receipt.count_spent)
                )
            } else {
                String::new()
            };
            line(
                "spent",
                format!("{} of each owner{besides}", amount(&receipt.spent)),
            );
            line("result", format!("committed to as {}", receipt.result));
            line(
                "streams",
                format!(
                    "{} and {}",
                    receipt.initiator_stream, receipt.responder_stream
                ),
            );
        }
        Close::Failed | Close::Cancelled => {
            line("receipt", without_receipt(matched.matched.is_released()));
        }
    }
    committed_words(&matched.closed, line);
    line(
        "as of",
        format!(
            "{}, height {}",
            time_ms(matched.as_of_ms),
            matched.as_of_height
        ),
    );
}

pub(super) fn match_json(matched: &MatchReport, out: &mut Value) {
    out["proven"] = json!("match");
    out["session"] = json!(matched.session.to_string());
    out["status"] = json!(matched.matched.status.name());
    out["initiator"] = json!(matched.initiator_name);
    out["responder"] = json!(matched.responder_name);
    out["computation"] = json!(matched.matched.computation.name());
    out["agreement"] = json!(matched.matched.agreement.to_string());
    out["agreement_status"] = json!(matched.agreement.status.name());
    out["purpose"] = json!(matched.agreement.terms.purpose);
    out["opened"] = json!(time_ms(matched.matched.opened_ms));
    out["released"] = json!(matched.matched.is_released());
    out["receipt"] = match &matched.close {
        Close::Done(receipt) => shown::shown(&render::receipt(receipt)),
        Close::Failed | Close::Cancelled => Value::Null,
    };
    ended_json(&matched.closed, matched.as_of_ms, matched.as_of_height, out);
}

/// The parties with their names and, of those that have given theirs, their confirmations.
fn parties(
    overlap: &OverlapReport,
) -> impl Iterator<Item = (&OverlapParty, &str, Option<&RecordReport>)> {
    let parties = overlap.overlap.parties.iter().zip(&overlap.party_names);
    let mut confirmed = overlap.confirmed.iter();
    parties.map(move |(party, name)| {
        let record = party.confirmed.then(|| confirmed.next()).flatten();
        (party, name.as_str(), record)
    })
}

fn noise(noise: &Noise) -> String {
    match noise {
        Noise::None => "none".to_owned(),
        Noise::Laplace {
            micro_eps, bound, ..
        } => format!(
            "epsilon {}.{:06}, at most {bound} either way",
            micro_eps / 1_000_000,
            micro_eps % 1_000_000
        ),
    }
}

pub(super) fn overlap_words(report: &OverlapReport, line: &mut dyn FnMut(&str, String)) {
    let overlap = &report.overlap;
    line("overlap", report.session.to_string());
    line(
        "agreement",
        format!(
            "{}, {}, for \"{}\"",
            overlap.agreement, report.agreement.status, report.agreement.terms.purpose
        ),
    );
    line("opened", time_ms(overlap.opened_ms));
    let sets: Vec<String> = parties(report)
        .map(|(party, name, _)| match &party.audience {
            Some(a) => format!("{name} at most {} people", people(a.size_bucket)),
            None => format!("{name} had not joined"),
        })
        .collect();
    line("sets", sets.join(", "));
    line(
        "noise",
        format!(
            "on the count {}; against the helper {}",
            noise(&overlap.noise),
            noise(&overlap.regions)
        ),
    );
    if overlap.is_released() {
        line(
            "spent",
            format!(
                "{} of each party for the count, {} for what the helper saw",
                amount(&overlap.charge),
                amount(&overlap.helper_charge)
            ),
        );
        let lists: Vec<String> = overlap.streams.iter().map(ToString::to_string).collect();
        line("lists", lists.join(", "));
    }
    match &report.close {
        OverlapClose::Done(receipt) => {
            line("result", format!("committed to as {}", receipt.result));
        }
        OverlapClose::Failed | OverlapClose::Cancelled => {
            line("receipt", without_receipt(overlap.is_released()));
        }
    }
    committed_words(&report.closed, line);
    for (_, name, record) in parties(report) {
        let Some(record) = record else { continue };
        let key = record.signatories.first().map(|s| s.key.to_string());
        line(
            "confirmed by",
            format!(
                "{name} at {}, height {} (records key {})",
                time_ms(record.time_ms),
                record.height,
                key.unwrap_or_default()
            ),
        );
    }
    let waits = report.waits_for();
    if !waits.is_empty() {
        line(
            "not yet by",
            format!("{}: it is done when all have", waits.join(", ")),
        );
    }
    line(
        "as of",
        format!(
            "{}, height {}",
            time_ms(report.as_of_ms),
            report.as_of_height
        ),
    );
}

pub(super) fn overlap_json(report: &OverlapReport, out: &mut Value) {
    let overlap = &report.overlap;
    out["proven"] = json!("overlap");
    out["session"] = json!(report.session.to_string());
    out["status"] = json!(overlap.status.name());
    out["computation"] = json!("overlap_n");
    out["parties"] = parties(report)
        .map(|(party, name, record)| {
            json!({
                "party": name,
                "audience": party.audience.as_ref().map(|a| a.label.to_string()),
                "epoch": party.audience.as_ref().map(|a| a.epoch),
                "size_bucket": party.audience.as_ref().map(|a| a.size_bucket),
                "confirmed": record.map(|r| time_ms(r.time_ms)),
                "confirmed_by_record": record.map(|r| r.record.to_string()),
            })
        })
        .collect();
    out["helper"] = json!(report.helper_name);
    out["waits_for"] = json!(report.waits_for());
    out["agreement"] = json!(overlap.agreement.to_string());
    out["agreement_status"] = json!(report.agreement.status.name());
    out["purpose"] = json!(report.agreement.terms.purpose);
    out["opened"] = json!(time_ms(overlap.opened_ms));
    out["released"] = json!(overlap.is_released());
    let cost = |charge| {
        if overlap.is_released() {
            shown::shown(&render::cap(charge))
        } else {
            Value::Null
        }
    };
    out["spent"] = cost(&overlap.charge);
    out["helper_spent"] = cost(&overlap.helper_charge);
    out["receipt"] = match &report.close {
        OverlapClose::Done(receipt) => shown::shown(&render::overlap_receipt(receipt)),
        OverlapClose::Failed | OverlapClose::Cancelled => Value::Null,
    };
    ended_json(&report.closed, report.as_of_ms, report.as_of_height, out);
}

/// The record that closed it, and when that was known.
fn ended_json(closed: &RecordReport, as_of_ms: u64, as_of_height: u64, out: &mut Value) {
    out["record"] = json!(closed.record.to_string());
    out["signers"] = signers(closed);
    out["index"] = json!(closed.index);
    out["height"] = json!(closed.height);
    out["closed"] = json!(time_ms(closed.time_ms));
    out["as_of"] = json!(time_ms(as_of_ms));
    out["as_of_height"] = json!(as_of_height);
}
