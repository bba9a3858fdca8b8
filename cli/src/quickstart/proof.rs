//! One record, proven from two files: what an auditor takes home.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tally_contracts::Record;
use tally_merkle::{Policy, TlogProof, leaf_hash};

use super::network::Network;

/// Gets proof and policy of a record from the auditor's node, writes them to files, and verifies them from those files alone.
pub(crate) fn record(network: &Network, id: &str, root: &Path) -> Result<bool> {
    let auditor = network.members.last().context("four members")?;
    let kit = auditor.call("record_proof", &json!({"record": id}))?;
    let text = |name: &str| {
        kit[name]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("an answer without {name}"))
    };
    let (proof_file, policy_file) = (root.join("record.tlog-proof"), root.join("policy"));
    std::fs::write(&proof_file, text("proof")?)?;
    std::fs::write(&policy_file, text("policy")?)?;

    let proof: TlogProof = std::fs::read_to_string(&proof_file)?.parse()?;
    let policy: Policy = std::fs::read_to_string(&policy_file)?.parse()?;
    policy.check_two_thirds()?;
    let entry = hex::decode(text("entry")?)?;
    let verified = proof.verify(&policy, &leaf_hash(&entry))?;
    ensure!(
        verified.checkpoint.origin == format!("tally/{}", network.id),
        "a checkpoint of another network"
    );
    ensure!(
        Record::from_bytes(&entry)?.id().to_string() == id,
        "the entry is another record"
    );
    // A verifier that accepts everything would pass so far.
    let mut changed = entry;
    if let Some(last) = changed.last_mut() {
        *last ^= 1;
    }
    Ok(proof.verify(&policy, &leaf_hash(&changed)).is_err())
}
