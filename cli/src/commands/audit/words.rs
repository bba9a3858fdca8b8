//! What a proof proves, in sentences and as one object.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tally_contracts::records::BudgetCap;
use tally_contracts::state::BatchState;
use tally_evidence::{
    BudgetStatement, CodeReport, Proven, RecordReport, Report, ScanReport, Statement, render,
};
use tally_node::proofs::json as shown;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::endings;
use crate::output::grouped;

/// POSIX milliseconds as people write times, in UTC.
pub(super) fn time_ms(ms: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms after 1970"))
}

pub(super) fn time_s(seconds: u64) -> String {
    time_ms(seconds.saturating_mul(1000))
}

/// What is proven, in sentences.
pub(super) fn words(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: String| {
        let _ = writeln!(out, "  {label:<12} {text}");
    };
    let title = match &report.proven {
        Proven::Code(code) => {
            code_words(code, &mut line);
            format!(
                "verified: {} is a code that {} issued",
                code.code, code.issuer_name
            )
        }
        Proven::Record(record) => {
            record_words(report, record, &mut line);
            format!("verified: record {} stands in the ledger", record.record)
        }
        Proven::Scan(scan) => {
            scan_words(scan, &mut line);
            let code = scan
                .code
                .map_or_else(|| "a code".to_owned(), |c| c.to_string());
            format!(
                "verified: {} was asked about {code} and answered {}",
                scan.member_name,
                scan.receipt.verdict.name()
            )
        }
        Proven::State(state) => {
            line(
                "as of",
                format!(
                    "{}, height {}. Of anything later this proof says nothing.",
                    time_ms(state.as_of_ms),
                    state.as_of_height
                ),
            );
            state_words(report, &state.statement, &mut line);
            format!("verified: {}", sentence(report, &state.statement))
        }
        Proven::Match(matched) => {
            endings::match_words(matched, &mut line);
            format!(
                "verified: the match between {}, who asked, and {} is {}",
                matched.initiator_name, matched.responder_name, matched.matched.status
            )
        }
        Proven::Overlap(overlap) => {
            endings::overlap_words(overlap, &mut line);
            format!(
                "verified: the overlap of {}, with {} as helper, is {}",
                overlap.party_names.join(", "),
                overlap.helper_name,
                overlap.overlap.status
            )
        }
    };
    let cosigners: Vec<String> = report
        .cosigners
        .iter()
        .map(|c| format!("{} at {}", c.name, time_s(c.time_s)))
        .collect();
    line(
        "cosigned by",
        format!(
            "{} of {} validators, {} needed: {}",
            report.cosigners.len(),
            report.validators,
            report.needed,
            cosigners.join(", ")
        ),
    );
    line(
        "checkpoint",
        format!("{} entries, root {}", report.tree_size, report.tree_root),
    );
    line(
        "network",
        format!(
            "{} ({}), a {} network",
            report.network,
            report.network_name,
            report.network_kind.name()
        ),
    );
    format!("{title}\n{out}")
}

fn code_words(code: &CodeReport, line: &mut dyn FnMut(&str, String)) {
    line(
        "product",
        format!(
            "{}, brand {}, GTIN {}",
            code.description,
            code.brand,
            code.gtin()
        ),
    );
    let expiry = code.expires.map_or_else(String::new, |date| {
        format!(", good until {}", date.to_calendar())
    });
    line("lot", format!("{}{expiry}", code.lot));
    line(
        "issued",
        format!(
            "by {} at {}, height {}, in batch {} of {} units",
            code.issuer_name,
            time_ms(code.issued_ms),
            code.issued_height,
            code.batch,
            code.units
        ),
    );
    line(
        "status",
        format!(
            "{} since {}; not recalled and the code not void as of {}, height {}. Of anything later this proof says nothing.",
            code.status,
            time_ms(code.status_since_ms),
            time_ms(code.as_of_ms),
            code.as_of_height
        ),
    );
}

fn record_words(report: &Report, record: &RecordReport, line: &mut dyn FnMut(&str, String)) {
    let rendered = render::render(&record.body, &|id| report.name(id));
    line("says", rendered.sentence);
    for (name, value) in lines_of(&shown::shown(&rendered.fields)) {
        line("", format!("{name}: {value}"));
    }
    committed_words(record, line);
}

/// The fields of a record, one on each line, nested names joined by a dot.
fn lines_of(value: &Value) -> Vec<(String, String)> {
    fn walk(out: &mut Vec<(String, String)>, name: &str, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let name = if name.is_empty() {
                        key.clone()
                    } else {
                        format!("{name}.{key}")
                    };
                    walk(out, &name, value);
                }
            }
            Value::Null => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Array(items) => {
                let words: Vec<String> = items.iter().map(plain_value).collect();
                out.push((name.to_owned(), words.join(", ")));
            }
            other => out.push((name.to_owned(), plain_value(other))),
        }
    }
    let mut out = Vec::new();
    walk(&mut out, "", value);
    out
}

fn plain_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn committed_words(record: &RecordReport, line: &mut dyn FnMut(&str, String)) {
    let signed: Vec<String> = record
        .signatories
        .iter()
        .map(|s| format!("{} ({} key {})", s.name, s.key_use, s.key))
        .collect();
    line("signed by", signed.join(", "));
    line(
        "committed",
        format!(
            "at {}, height {}, entry {}",
            time_ms(record.time_ms),
            record.height,
            record.index
        ),
    );
}

/// What is proven, as one object.
pub(super) fn json(report: &Report) -> Value {
    let mut out = json!({
        "verified": true,
        "network_id": report.network.to_string(),
        "network": report.network_name,
        "network_kind": report.network_kind.name(),
        "tree_size": report.tree_size,
        "tree_root": report.tree_root.to_string(),
        "signed_by": report.signed_by,
        "cosigned_by": report.cosigners.iter().map(|c| json!({"name": c.name, "time": time_s(c.time_s)})).collect::<Vec<_>>(),
        "cosignatures": report.cosigners.len(),
        "needed": report.needed,
        "validators": report.validators,
    });
    match &report.proven {
        Proven::Code(code) => {
            out["proven"] = json!("code");
            out["code"] = json!(code.code.to_string());
            out["gtin"] = json!(code.gtin().as_str());
            out["product"] = json!(code.description);
            out["brand"] = json!(code.brand);
            out["lot"] = json!(code.lot.as_str());
            out["expires"] = json!(code.expires.map(|d| d.to_calendar()));
            out["expired"] = json!(code.is_expired());
            out["batch"] = json!(code.batch.to_string());
            out["units"] = json!(code.units);
            out["issuer"] = json!(code.issuer_name);
            out["issuer_id"] = json!(code.issuer.to_string());
            out["record"] = json!(code.record.to_string());
            out["index"] = json!(code.index);
            out["issued"] = json!(time_ms(code.issued_ms));
            out["issued_height"] = json!(code.issued_height);
            out["status"] = json!(code.status.name());
            out["revoked"] = json!(code.revoked);
            out["status_since"] = json!(time_ms(code.status_since_ms));
            out["as_of"] = json!(time_ms(code.as_of_ms));
            out["as_of_height"] = json!(code.as_of_height);
        }
        Proven::Record(record) => {
            out["proven"] = json!("record");
            out["record"] = json!(record.record.to_string());
            out["kind"] = json!(record.body.kind().name());
            let (says, body) = shown::body(&record.body, &|id| report.name(id));
            out["says"] = json!(says);
            out["body"] = body;
            out["signers"] = signers(record);
            out["index"] = json!(record.index);
            out["height"] = json!(record.height);
            out["time"] = json!(time_ms(record.time_ms));
        }
        Proven::Scan(scan) => scan_json(scan, &mut out),
        Proven::State(state) => {
            out["proven"] = json!("state");
            out["statement"] = json!(sentence(report, &state.statement));
            out["there"] = json!(state.statement.is_there());
            state_json(report, &state.statement, &mut out);
            out["as_of"] = json!(time_ms(state.as_of_ms));
            out["as_of_height"] = json!(state.as_of_height);
        }
        Proven::Match(matched) => endings::match_json(matched, &mut out),
        Proven::Overlap(overlap) => endings::overlap_json(overlap, &mut out),
    }
    out
}

pub(super) fn signers(record: &RecordReport) -> Value {
    record
        .signatories
        .iter()
        .map(|s| json!({"member": s.name, "key": s.key.to_string(), "use": s.key_use.name()}))
        .collect()
}

fn scan_words(scan: &ScanReport, line: &mut dyn FnMut(&str, String)) {
    let receipt = &scan.receipt;
    if scan.code.is_none() {
        line(
            "code",
            format!(
                "not named; its hash is {}. With --code it is compared.",
                receipt.code
            ),
        );
    }
    line(
        "scan",
        format!(
            "{}, at {} by the clock of {}",
            receipt.scan,
            time_ms(receipt.time_ms),
            scan.member_name
        ),
    );
    line(
        "answer",
        format!(
            "{}, {} counted checks of the code by then",
            receipt.verdict.name(),
            grouped(&receipt.count.to_string())
        ),
    );
    if !receipt.reasons.is_empty() {
        let all: Vec<String> = receipt
            .reasons
            .iter()
            .map(|r| format!("{} ({})", r.name(), r.count))
            .collect();
        line("reasons", all.join(", "));
    }
    line("receipt", format!("signed by records key {}", scan.key));
    line(
        "anchored",
        format!(
            "at {}, height {}, as scan {} of {} in log {}, by record {}",
            time_ms(scan.anchored.time_ms),
            scan.anchored.height,
            receipt.log_index,
            scan.anchored_size,
            receipt.log_id,
            scan.anchored.record
        ),
    );
}

fn scan_json(scan: &ScanReport, out: &mut Value) {
    let receipt = &scan.receipt;
    out["proven"] = json!("scan");
    out["scan"] = json!(receipt.scan.to_string());
    out["code"] = json!(scan.code.map(|c| c.to_string()));
    out["code_hash"] = json!(receipt.code.to_string());
    out["member"] = json!(scan.member_name);
    out["key"] = json!(scan.key.to_string());
    out["verdict"] = json!(receipt.verdict.name());
    out["count"] = json!(receipt.count);
    out["reasons"] = receipt
        .reasons
        .iter()
        .map(|r| json!({"reason": r.name(), "count": r.count}))
        .collect();
    out["scanned"] = json!(time_ms(receipt.time_ms));
    out["log_id"] = json!(receipt.log_id);
    out["leaf_index"] = json!(receipt.log_index);
    out["anchored_size"] = json!(scan.anchored_size);
    out["record"] = json!(scan.anchored.record.to_string());
    out["index"] = json!(scan.anchored.index);
    out["height"] = json!(scan.anchored.height);
    out["anchored"] = json!(time_ms(scan.anchored.time_ms));
}

/// A statement on the state in words.
pub(super) fn sentence(report: &Report, statement: &Statement) -> String {
    let who = |id: &_| report.name(id).unwrap_or_else(|| format!("{id}"));
    match statement {
        Statement::Batch { id, state: None } => format!("no batch {id} was ever issued"),
        Statement::Batch {
            id,
            state: Some(batch),
        } => match batch.status {
            tally_contracts::state::BatchStatus::Recalled => {
                format!("batch {id} is recalled: {}", batch.recall_reason)
            }
            status => format!("batch {id} is not recalled; it is {status}"),
        },
        Statement::Member { id, entry: None } => format!("no member {id} is admitted"),
        Statement::Member {
            id,
            entry: Some(member),
        } => format!(
            "{} is a member of the network, with the ID {id}",
            member.name
        ),
        Statement::Budget(b) => match &b.terms {
            None => format!("there is no agreement {}", b.agreement),
            Some(_) => format!(
                "{} has left for {}: {} in epoch {}, {} in all",
                who(&b.owner),
                who(&b.analyst),
                amount(&b.left_in_epoch),
                b.epoch,
                amount(&b.left_in_all)
            ),
        },
        Statement::Agreement { id, state: None } => format!("there is no agreement {id}"),
        Statement::Agreement {
            id,
            state: Some(agreement),
        } => format!(
            "agreement {id} between {} is {}",
            agreement
                .terms
                .parties
                .iter()
                .map(who)
                .collect::<Vec<_>>()
                .join(" and "),
            agreement.status
        ),
    }
}

/// An amount of budget: rho, and delta in its units.
pub(super) fn amount(cap: &BudgetCap) -> String {
    format!(
        "rho {}.{:06} (delta {} of 2^60)",
        cap.micro_rho / 1_000_000,
        cap.micro_rho % 1_000_000,
        cap.delta
    )
}

fn state_words(report: &Report, statement: &Statement, line: &mut dyn FnMut(&str, String)) {
    match statement {
        Statement::Batch {
            state: Some(batch), ..
        } => batch_words(report, batch, line),
        Statement::Member {
            entry: Some(member),
            ..
        } => {
            line("roles", member.roles.names().collect::<Vec<_>>().join(", "));
            let power: u64 = member.nodes.iter().map(|n| n.power).sum();
            line(
                "nodes",
                format!("{}, voting power {power}", member.nodes.len()),
            );
        }
        Statement::Budget(b) => budget_words(b, line),
        Statement::Agreement {
            state: Some(agreement),
            ..
        } => {
            line("purpose", agreement.terms.purpose.clone());
            line(
                "matches",
                format!("{} of {}", agreement.matches, agreement.terms.max_matches),
            );
            line("expires", time_ms(agreement.terms.expires_ms));
        }
        _ => {}
    }
}

fn batch_words(report: &Report, batch: &BatchState, line: &mut dyn FnMut(&str, String)) {
    let owner = report
        .name(&batch.owner)
        .unwrap_or_else(|| batch.owner.to_string());
    line(
        "batch",
        format!(
            "{} units of product {}, lot {}, issued by {owner} with record {}",
            grouped(&batch.count.to_string()),
            batch.gtin,
            batch.lot,
            batch.record
        ),
    );
    line(
        "status",
        format!("{} since {}", batch.status, time_ms(batch.changed_ms)),
    );
}

fn budget_words(b: &BudgetStatement, line: &mut dyn FnMut(&str, String)) {
    let Some(terms) = &b.terms else { return };
    line(
        "epoch",
        format!(
            "cap {}, spent {}, reserved {}, over all analysts",
            amount(&terms.terms.epoch_cap),
            amount(&b.in_epoch.spent),
            amount(&b.in_epoch.reserved)
        ),
    );
    line(
        "in all",
        format!(
            "cap {}, spent {}, reserved {}, for this analyst",
            amount(&terms.terms.lifetime_cap),
            amount(&b.in_all.spent),
            amount(&b.in_all.reserved)
        ),
    );
    line("agreement", format!("{}, {}", b.agreement, terms.status));
}

fn state_json(report: &Report, statement: &Statement, out: &mut Value) {
    let name = |id: &_| json!(report.name(id).unwrap_or_else(|| format!("{id}")));
    match statement {
        Statement::Batch { id, state } => {
            out["of"] = json!("batch");
            out["batch"] = json!(id.to_string());
            if let Some(batch) = state {
                out["status"] = json!(batch.status.name());
                out["status_since"] = json!(time_ms(batch.changed_ms));
                out["recall_reason"] = json!(batch.recall_reason);
                out["issuer"] = name(&batch.owner);
                out["gtin"] = json!(batch.gtin.as_str());
                out["lot"] = json!(batch.lot.as_str());
                out["units"] = json!(batch.count);
                out["record"] = json!(batch.record.to_string());
            }
        }
        Statement::Member { id, entry } => {
            out["of"] = json!("member");
            out["member_id"] = json!(id.to_string());
            if let Some(member) = entry {
                out["member"] = json!(member.name);
                out["roles"] = member.roles.names().collect();
                out["nodes"] = json!(member.nodes.len());
                out["power"] = json!(member.nodes.iter().map(|n| n.power).sum::<u64>());
            }
        }
        Statement::Budget(b) => {
            out["of"] = json!("budget");
            out["agreement"] = json!(b.agreement.to_string());
            out["owner"] = name(&b.owner);
            out["analyst"] = name(&b.analyst);
            out["epoch"] = json!(b.epoch);
            for (key, cap) in [
                ("left_in_epoch", &b.left_in_epoch),
                ("left_in_all", &b.left_in_all),
                ("spent_in_epoch", &b.in_epoch.spent),
                ("reserved_in_epoch", &b.in_epoch.reserved),
                ("spent_in_all", &b.in_all.spent),
                ("reserved_in_all", &b.in_all.reserved),
            ] {
                out[key] = shown::shown(&render::cap(cap));
            }
        }
        Statement::Agreement { id, state } => {
            out["of"] = json!("agreement");
            out["agreement"] = json!(id.to_string());
            if let Some(agreement) = state {
                out["status"] = json!(agreement.status.name());
                out["matches"] = json!(agreement.matches);
                out["terms"] =
                    shown::shown(&render::Shown::Fields(render::terms(&agreement.terms)));
            }
        }
    }
}
