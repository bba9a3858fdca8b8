//! Proofs to take home: of one code of this member, or of any record. The texts go back to the command, which writes the files.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tally_contracts::ids::RecordId;
use tally_contracts::records::Gtin;
use tally_evidence::{Proven, UnitCode};
use tally_merkle::Note;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Duration, Instant, timeout};

use super::AdminError;
use super::ops::{DEADLINE, internal, usage};
use crate::issuer::IssuerError;
use crate::proofs::{CodeEvidence, Kit, ProofError, place, record_kit, size_with};
use crate::runtime::Node;

/// How often the newest checkpoint is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// States that are kept until their checkpoint has a quorum.
const KEPT: usize = 64;

/// Arguments of `proof`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeArgs {
    code: String,
}

/// Arguments of `record_proof`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordArgs {
    record: String,
}

impl From<ProofError> for AdminError {
    fn from(error: ProofError) -> Self {
        let message = error.to_string();
        match error {
            ProofError::NoRecord { .. } => Self::new(
                "not_found",
                message,
                "is the ID whole? `tally status` says whether this node is in step",
            ),
            _ => internal(message),
        }
    }
}

/// The proof of a code that this member issued.
pub(super) async fn code(node: &Arc<Node>, a: CodeArgs) -> Result<Value, AdminError> {
    let code: UnitCode = a.code.parse().map_err(usage)?;
    let gtin: Gtin = code.gtin.as_str().parse().map_err(usage)?;
    let issuer = node.issuer.clone();
    let unit = tokio::task::spawn_blocking(move || issuer.proof(&gtin, &code.serial.to_string()))
        .await
        .map_err(internal)?
        .map_err(|e| match e {
            IssuerError::NotIssued => AdminError::new(
                "not_issued",
                "this member issued no such code in a batch that the ledger has",
                "only the node that issued a code can prove it; is the code whole, and of this brand?",
            ),
            other => other.into(),
        })?;
    let batch = unit.batch;
    // The state is known at the head alone, and it must be that of the checkpoint. So the states of the last heads are kept until
    // one of them is what the newest checkpoint is of.
    let mut heads = node.chain.heads();
    let mut taken: BTreeMap<u64, CodeEvidence> = BTreeMap::new();
    let until = Instant::now() + DEADLINE;
    loop {
        let size = heads.borrow_and_update().tree_size;
        if !taken.contains_key(&size) {
            let evidence = CodeEvidence::take(node.chain.ledger(), unit.clone(), &gtin)?;
            taken.insert(evidence.tree_size(), evidence);
            while taken.len() > KEPT {
                taken.pop_first();
            }
        }
        if let Some((size, note)) = node.chain.checkpoint()
            && let Some(evidence) = taken.get(&size)
        {
            let note = Note::parse(&note).map_err(internal)?;
            match evidence.seal(node.chain.ledger(), &note) {
                // By power it is a quorum, by number not yet: cosignatures still come in.
                Err(ProofError::Verify(tally_evidence::Error::Quorum { .. })) => {}
                sealed => {
                    let mut answer = answer(&sealed?);
                    answer["batch"] = json!(batch.to_string());
                    answer["code"] = json!(code.to_string());
                    return Ok(answer);
                }
            }
        }
        if Instant::now() >= until {
            return Err(late());
        }
        if let Ok(Err(_)) = timeout(LOOK, heads.changed()).await {
            return Err(internal("the node is stopping"));
        }
    }
}

/// The proof of a record.
pub(super) async fn record(node: &Arc<Node>, a: RecordArgs) -> Result<Value, AdminError> {
    let ledger = node.chain.ledger();
    let id: RecordId = a.record.parse().map_err(usage)?;
    let place = place(ledger, &id)?;
    let needed = size_with(ledger, place)?;
    let until = Instant::now() + DEADLINE;
    loop {
        let (_, note) = node.chain.wait_checkpoint(needed, DEADLINE).await?;
        let note = Note::parse(&note).map_err(internal)?;
        match record_kit(ledger, place, &note) {
            Err(ProofError::Verify(tally_evidence::Error::Quorum { .. })) => {}
            kit => return Ok(answer(&kit?)),
        }
        if Instant::now() >= until {
            return Err(late());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn late() -> AdminError {
    AdminError::new(
        "timeout",
        format!(
            "no checkpoint got the cosignatures that a proof needs within {} s",
            DEADLINE.as_secs()
        ),
        "`tally status` says which validators are missing",
    )
}

/// POSIX milliseconds as RFC 3339 in UTC.
fn utc(ms: u64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()?;
    time.format(&Rfc3339).ok()
}

fn answer(kit: &Kit) -> Value {
    let mut answer = json!({
        "network_id": kit.report.network.to_string(),
        "size": kit.report.tree_size,
        "entry": hex::encode(&kit.report.entry),
        "proof": kit.proof,
        "policy": kit.policy,
    });
    match &kit.report.proven {
        Proven::Code(code) => {
            answer["index"] = json!(code.index);
            answer["record"] = json!(code.record.to_string());
            answer["status"] = json!(code.status.name());
            answer["as_of_height"] = json!(code.as_of_height);
            answer["as_of"] = json!(utc(code.as_of_ms));
        }
        Proven::Record(record) => {
            answer["index"] = json!(record.index);
            answer["record"] = json!(record.record.to_string());
            answer["height"] = json!(record.height);
            answer["time"] = json!(utc(record.time_ms));
        }
    }
    answer
}
