//! `tally audit`: files or tiles in, an answer out. It opens no configuration and no data directory. `verify` asks nobody.

mod diff;
mod endings;
mod replay;
mod source;
#[cfg(test)]
mod tests_of_ledgers;
mod words;

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use anyhow::Result;
use tally_contracts::Canonical as _;
use tally_contracts::ids::NetworkId;
use tally_evidence::{MAX_ROSTER_BYTES, Proven, Report, Roster, UnitCode};
use tally_merkle::policy::MAX_POLICY_BYTES;
use tally_merkle::tlog_proof::MAX_TLOG_PROOF_BYTES;
use tally_node::files::{read_bounded, write_atomic};

use super::Context;
use crate::args::{AuditArgs, AuditCommand};
use crate::exit::{Exit, Failure};
use crate::output;
use words::{json, sentence, time_ms, words};

pub(super) fn run(ctx: &Context, command: &AuditCommand) -> Result<()> {
    match command {
        AuditCommand::Verify(args) => verify_command(ctx, args),
        AuditCommand::Replay(args) => replay::run(ctx, args),
        AuditCommand::Diff(args) => diff::run(ctx, args),
    }
}

fn verify_command(ctx: &Context, args: &AuditArgs) -> Result<()> {
    let AuditArgs {
        network,
        policy,
        proof,
        members,
        code,
        entry_out,
    } = args;
    let report = verify_under(network, policy, proof, code.as_ref(), members.as_deref())?;
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
    verify_under(network, policy, proof, code, None)
}

/// As [`verify_files`], with the members of a file in the place of the founders.
fn verify_under(
    network: &NetworkId,
    policy: &Path,
    proof: &Path,
    code: Option<&UnitCode>,
    members: Option<&Path>,
) -> Result<Report> {
    let policy = read(policy, MAX_POLICY_BYTES, "policy_malformed")?;
    let proof = read(proof, MAX_TLOG_PROOF_BYTES, "malformed")?;
    let roster = members.map(roster).transpose()?;
    tally_evidence::verify_under(network, &policy, &proof, code, roster.as_ref()).map_err(|error| {
        let mut message = error.to_string();
        match error.report().map(|report| (report, &report.proven)) {
            Some((_, Proven::Code(code))) => {
                let _ = write!(
                    message,
                    " ({} since {}, as of {}, height {})",
                    code.status,
                    time_ms(code.status_since_ms),
                    time_ms(code.as_of_ms),
                    code.as_of_height
                );
            }
            Some((report, Proven::State(state))) => {
                let _ = write!(
                    message,
                    " ({}, as of {}, height {})",
                    sentence(report, &state.statement),
                    time_ms(state.as_of_ms),
                    state.as_of_height
                );
            }
            _ => {}
        }
        let failure = Failure::new(Exit::NotVerified, error.reason(), message);
        failure.next(advice(&error)).into()
    })
}

/// Members of a file.
fn roster(path: &Path) -> Result<Roster> {
    let bytes = read(path, MAX_ROSTER_BYTES, "members_malformed")?;
    Roster::from_bytes(&bytes).map_err(|e| {
        let message = format!("{} is no members file: {e}", path.display());
        Failure::new(Exit::NotVerified, "members_malformed", message)
            .next("`tally audit replay --members-out FILE` writes one")
            .into()
    })
}

/// Reads a file. One that is longer than any of its kind can be did not verify; one that cannot be read says nothing.
fn read(path: &Path, max: usize, reason: &str) -> Result<Vec<u8>> {
    read_bounded(path, max).map_err(|error| {
        if error.source.kind() == io::ErrorKind::FileTooLarge {
            let message = format!("{} is longer than {max} bytes", path.display());
            Failure::new(Exit::NotVerified, reason, message)
                .next("it is no file of this kind")
                .into()
        } else {
            anyhow::Error::new(error).context("nothing was verified")
        }
    })
}

fn advice(error: &tally_evidence::Error) -> &'static str {
    use tally_evidence::Error as E;
    match error {
        E::Recalled(_) => "do not sell or use goods of this batch; the proof itself is right",
        E::Revoked(_) => {
            "do not sell or use this pack, and ask the brand; the proof itself is right"
        }
        E::NotReleased(_) => {
            "ask the brand: goods of this batch should not be on sale yet; the proof itself is right"
        }
        E::Expired(_) => {
            "its last day is over: do not sell it, and ask the brand before you use it; the proof itself is right"
        }
        E::Absent(_) => "all verified: what was asked for is not there as of that time",
        E::OtherNetwork { .. } => {
            "compare the network ID with what each founder says, apart from who gave you the proof"
        }
        E::PolicyShort | E::PolicyDiffers { .. } | E::PolicyForm(_) => {
            "`tally proof --policy-out` and `tally export tiles` write the network's policy; if members have changed the network since its genesis, `tally audit replay --members-out FILE` and `--members FILE`"
        }
        E::OtherCode { .. } | E::NotOfCode | E::OtherScan => "ask for the proof of this very code",
        _ => "do not rely on it; ask for a new proof",
    }
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
            "not recalled and the code not void as of 2026-09-21T14:13:24Z, height 4",
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
    fn an_overlap_says_who_counted_for_whom_and_who_confirmed_it() {
        let policy = golden("policy");
        let verified = |name: &str| {
            let proof = golden(&format!("{name}.tlog-proof"));
            verify_files(&network(), &policy, &proof, None).unwrap()
        };
        let report = verified("overlap-unconfirmed");
        let (text, value) = (words(&report), json(&report));
        for part in [
            "with member-3 as helper, is released",
            "active, for \"people whom all have reached\"",
            "member-2 at most 4096 people",
            "on the count epsilon 0.500000, at most 64 either way; against the helper epsilon 0.400000, at most 120 either way",
            "rho 0.125000 (delta 1024 of 2^60) of each party for the count, rho 0.080000 (delta 1024 of 2^60) for what the helper saw",
            "signed by    member-3 (records key ",
            "confirmed by ",
            "it is done when all have",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert_eq!(value["status"], "released");
        let waits = value["waits_for"].as_array().unwrap();
        assert_eq!(waits.len(), 1);
        for party in value["parties"].as_array().unwrap() {
            let is_missing = party["confirmed_by_record"].is_null();
            assert_eq!(is_missing, party["party"] == waits[0], "{party}");
        }

        let (done, failed) = (json(&verified("overlap")), verified("overlap-failed"));
        assert_eq!(
            (&done["status"], &done["helper"]),
            (&"done".into(), &"member-3".into())
        );
        assert!(done["waits_for"].as_array().unwrap().is_empty());
        assert_eq!(done["receipt"]["spent"]["micro_rho"], 125_000);
        assert!(words(&failed).contains("none: the answer was released before"));
        let failed = json(&failed);
        assert!(failed["receipt"].is_null() && failed["released"] == true);
        assert_eq!(failed["helper_spent"]["micro_rho"], 80_000);
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
        // Longer than any policy or proof can be.
        let tmp = tempfile::tempdir().unwrap();
        let long = tmp.path().join("long");
        std::fs::write(&long, vec![b'x'; MAX_TLOG_PROOF_BYTES + 1]).unwrap();
        assert_eq!(
            failure(verify_files(&network(), &policy, &long, None)),
            (Exit::NotVerified, "malformed".into())
        );
        assert_eq!(
            failure(verify_files(&network(), &long, &proof, None)),
            (Exit::NotVerified, "policy_malformed".into())
        );
        // A file that is not there says nothing of a proof.
        assert_eq!(
            failure(verify_files(&network(), &policy, &golden("none"), None)).0,
            Exit::Failed
        );
    }
}
