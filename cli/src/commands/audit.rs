//! `tally audit`: files in, an answer out. It opens no configuration and no data directory, and asks nobody.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tally_contracts::ids::NetworkId;
use tally_evidence::{CodeReport, Proven, RecordReport, Report, UnitCode, verify};
use tally_merkle::policy::MAX_POLICY_BYTES;
use tally_merkle::tlog_proof::MAX_TLOG_PROOF_BYTES;
use tally_node::files::{read_bounded, write_atomic};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Context;
use crate::args::{AuditArgs, AuditCommand};
use crate::exit::{Exit, Failure};
use crate::output;

pub(super) fn run(ctx: &Context, command: &AuditCommand) -> Result<()> {
    let AuditCommand::Verify(args) = command;
    verify_command(ctx, args)
}

fn verify_command(ctx: &Context, args: &AuditArgs) -> Result<()> {
    let AuditArgs {
        network,
        policy,
        proof,
        code,
        entry_out,
    } = args;
    let report = verify_files(network, policy, proof, code.as_ref())?;
    if let Some(file) = entry_out {
        write_atomic(file, &report.entry, 0o644)?;
    }
    if ctx.common.json {
        output::value(&json(&report));
    } else {
        output::text(&output::plain(&words(&report)));
    }
    Ok(())
}

/// Verifies two files; the failure says why, and ends the command with exit code 4, or 1 if a file cannot be read.
pub(crate) fn verify_files(
    network: &NetworkId,
    policy: &Path,
    proof: &Path,
    code: Option<&UnitCode>,
) -> Result<Report> {
    let policy = read_bounded(policy, MAX_POLICY_BYTES).context("nothing was verified")?;
    let proof = read_bounded(proof, MAX_TLOG_PROOF_BYTES).context("nothing was verified")?;
    verify(network, &policy, &proof, code).map_err(|error| {
        let mut message = error.to_string();
        if let Some(Report {
            proven: Proven::Code(code),
            ..
        }) = error.report()
        {
            let _ = write!(
                message,
                " ({} since {}, as of {}, height {})",
                code.status,
                time_ms(code.status_since_ms),
                time_ms(code.as_of_ms),
                code.as_of_height
            );
        }
        let failure = Failure::new(Exit::NotVerified, error.reason(), message);
        failure.next(advice(&error)).into()
    })
}

fn advice(error: &tally_evidence::Error) -> &'static str {
    use tally_evidence::Error as E;
    match error {
        E::Recalled(_) => "do not sell or use goods of this batch; the proof itself is right",
        E::NotReleased(_) => {
            "ask the brand: goods of this batch should not be on sale yet; the proof itself is right"
        }
        E::OtherNetwork { .. } => {
            "compare the network ID with what each founder says, apart from who gave you the proof"
        }
        E::PolicyShort | E::PolicyDiffers { .. } | E::PolicyForm(_) => {
            "`tally proof --policy-out` and `tally export tiles` write the network's policy"
        }
        E::OtherCode { .. } | E::NotOfCode => "ask for the proof of this very code",
        _ => "do not rely on it; ask for a new proof",
    }
}

/// POSIX milliseconds as people write times, in UTC.
fn time_ms(ms: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms after 1970"))
}

fn time_s(seconds: u64) -> String {
    time_ms(seconds.saturating_mul(1000))
}

/// What is proven, in sentences.
fn words(report: &Report) -> String {
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
            record_words(record, &mut line);
            format!("verified: record {} stands in the ledger", record.record)
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
    let expiry = code
        .expires
        .map_or_else(String::new, |date| format!(", expires {date} (YYMMDD)"));
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
            "{} since {}; not recalled as of {}, height {}. Of anything later this proof says nothing.",
            code.status,
            time_ms(code.status_since_ms),
            time_ms(code.as_of_ms),
            code.as_of_height
        ),
    );
}

fn record_words(record: &RecordReport, line: &mut dyn FnMut(&str, String)) {
    line("says", format!("{:?}", record.body));
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
fn json(report: &Report) -> Value {
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
            out["expires"] = json!(code.expires.map(|d| d.to_string()));
            out["batch"] = json!(code.batch.to_string());
            out["units"] = json!(code.units);
            out["issuer"] = json!(code.issuer_name);
            out["issuer_id"] = json!(code.issuer.to_string());
            out["record"] = json!(code.record.to_string());
            out["index"] = json!(code.index);
            out["issued"] = json!(time_ms(code.issued_ms));
            out["issued_height"] = json!(code.issued_height);
            out["status"] = json!(code.status.name());
            out["status_since"] = json!(time_ms(code.status_since_ms));
            out["as_of"] = json!(time_ms(code.as_of_ms));
            out["as_of_height"] = json!(code.as_of_height);
        }
        Proven::Record(record) => {
            out["proven"] = json!("record");
            out["record"] = json!(record.record.to_string());
            out["kind"] = json!(record.body.kind().name());
            out["body"] = json!(format!("{:?}", record.body));
            out["signers"] = json!(
                record
                    .signatories
                    .iter()
                    .map(|s| json!({"member": s.name, "key": s.key.to_string(), "use": s.key_use.name()}))
                    .collect::<Vec<_>>()
            );
            out["index"] = json!(record.index);
            out["height"] = json!(record.height);
            out["time"] = json!(time_ms(record.time_ms));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../node/evidence/tests/golden")
            .join(name)
    }

    fn network() -> NetworkId {
        let id = std::fs::read_to_string(golden("network_id")).unwrap();
        id.trim().parse().unwrap()
    }

    fn failure(verified: Result<Report>) -> (Exit, String) {
        let error = verified.unwrap_err();
        error
            .downcast_ref::<Failure>()
            .map_or((Exit::Failed, String::new()), |f| (f.exit, f.code.clone()))
    }

    #[test]
    fn an_answer_says_what_and_on_whose_word() {
        let (policy, proof) = (golden("policy"), golden("code.tlog-proof"));
        let report = verify_files(&network(), &policy, &proof, None).unwrap();
        let text = words(&report);
        for part in [
            "is a code that member-0 issued",
            "Green tea, 100 g, brand Sample, GTIN 09521234543213",
            "by member-0 at 2026-09-21T14:13:22Z, height 2, in batch",
            "not recalled as of 2026-09-21T14:13:24Z, height 4",
            "4 of 4 validators, 3 needed: member-0 at 2026-09-21T14:13:24Z",
            "(Sample), a test network",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let value = json(&report);
        assert_eq!(value["verified"], true);
        assert_eq!(value["status"], "active");
        assert_eq!(value["network_id"], network().to_string());
        assert_eq!(value["issued"], "2026-09-21T14:13:22Z");
    }

    #[test]
    fn what_does_not_verify_has_its_own_exit_code() {
        let (policy, proof) = (golden("policy"), golden("code.tlog-proof"));
        let other = NetworkId([7; 32]);
        assert_eq!(
            failure(verify_files(&other, &policy, &proof, None)),
            (Exit::NotVerified, "other_network".into())
        );
        let code = "09521234543213/00000000000000000000".parse().unwrap();
        assert_eq!(
            failure(verify_files(&network(), &policy, &proof, Some(&code))),
            (Exit::NotVerified, "other_code".into())
        );
        assert_eq!(
            failure(verify_files(&network(), &proof, &proof, None)),
            (Exit::NotVerified, "policy_malformed".into())
        );
        assert_eq!(
            failure(verify_files(&network(), &policy, &policy, None)),
            (Exit::NotVerified, "malformed".into())
        );
        // A file that is not there says nothing of a proof.
        assert_eq!(
            failure(verify_files(&network(), &policy, &golden("none"), None)).0,
            Exit::Failed
        );
    }
}
