//! Proofs to take home: of one code of this member, or of any record. The texts go back to the command, which writes the files.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tally_contracts::ids::{MemberId, RecordId, SessionId};
use tally_contracts::records::Gtin;
use tally_contracts::state;
use tally_evidence::{Proven, Question, UnitCode};
use tally_ledger::Ledger;
use tally_merkle::Note;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Duration, Instant};

use super::AdminError;
use super::matches::{self, Found};
use super::ops::{DEADLINE, internal, usage};
use crate::issuer::IssuerError;
use crate::proofs::{
    self, AtHead, CodeEvidence, EndSearch, Kit, ProofError, StateTaken, place, record_kit,
    scan_proof, sealed, size_with,
};
use crate::runtime::Node;
use crate::scans::ScanId;

/// How often the newest checkpoint is looked at.
const LOOK: Duration = Duration::from_millis(5);

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

/// Arguments of `scan_proof`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScanArgs {
    scan: String,
}

/// Arguments of `match_proof`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchArgs {
    id: String,
}

/// Arguments of `state_proof`: what is asked, and of what.
#[derive(Deserialize)]
#[serde(tag = "of", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum StateArgs {
    Batch {
        id: String,
    },
    Member {
        id: String,
    },
    Agreement {
        id: String,
    },
    Budget {
        agreement: String,
        owner: String,
        analyst: String,
        epoch: Option<u64>,
    },
}

/// Arguments of `proof_from_genesis`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GenesisArgs {
    proof: String,
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
            ProofError::Ledger(tally_ledger::Error::NoEntryYet { .. }) => Self::new(
                "not_yet",
                message,
                "try again after the next record; a scan brings one, as the scan log is anchored",
            ),
            ProofError::NoSession { .. } => Self::new(
                "not_found",
                message,
                "`tally match list` shows the matches of this node; of others the whole session is needed",
            ),
            ProofError::NotClosed { .. } => not_closed(),
            ProofError::Ledger(tally_ledger::Error::Dropped { .. }) => Self::new(
                "not_found",
                message,
                "this node has dropped old entries; a node that keeps them can prove it",
            ),
            ProofError::EmptyLedger => Self::new(
                "not_yet",
                message,
                "commit a record first: without one there is nothing to prove",
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
    let kit = taken(node, move |ledger| {
        CodeEvidence::take(ledger, unit.clone(), &gtin)
    })
    .await?;
    let mut answer = answer(&kit);
    answer["batch"] = json!(batch.to_string());
    answer["code"] = json!(code.to_string());
    Ok(answer)
}

/// What is proven of the state, waited for.
async fn taken<T: AtHead + Send + Sync + 'static>(
    node: &Node,
    take: impl Fn(&Ledger) -> Result<T, ProofError> + Send + Sync + 'static,
) -> Result<Kit, AdminError> {
    sealed(&node.chain, take, DEADLINE).await?.ok_or_else(late)
}

/// The proof of a scan that this node took.
pub(super) async fn scan(node: &Arc<Node>, a: ScanArgs) -> Result<Value, AdminError> {
    let id: ScanId = a.scan.parse().map_err(usage)?;
    let kit = scan_proof(&node.chain, &node.scans, id, DEADLINE)
        .await
        .map_err(|problem| {
            let code = match problem.kind {
                "not-found" => "not_found",
                "not-anchored" => "not_yet",
                _ => "internal",
            };
            AdminError::new(
                code,
                problem.detail,
                "a scan is proven by the node that took it, some seconds later, once its log is anchored",
            )
        })?
        .ok_or_else(late)?;
    let mut answer = answer(&kit);
    answer["scan"] = json!(id.to_string());
    Ok(answer)
}

/// The proof of what the state says.
pub(super) async fn state(node: &Arc<Node>, a: &StateArgs) -> Result<Value, AdminError> {
    let question = question(node, a)?;
    let kit = taken(node, move |ledger| StateTaken::take(ledger, question)).await?;
    Ok(answer(&kit))
}

/// The proof of how a match of two or of several ended: one of this node by its ID or the start of that, any by its session.
pub(super) async fn matched(node: &Arc<Node>, a: &MatchArgs) -> Result<Value, AdminError> {
    // The later the record that is looked from, the less there is to read.
    let (id, session, from) = match (matches::find(node, &a.id), a.id.parse::<SessionId>()) {
        (Ok(Found::Match(v)), _) => (Some(v.id), v.session, v.close_record),
        (Ok(Found::Overlap(v)), _) => (Some(v.id), v.session, v.release_record.or(v.join_record)),
        (Err(_), Ok(session)) => (None, Some(session), None),
        (Err(error), Err(_)) => return Err(error),
    };
    let session = session.ok_or_else(not_closed)?;
    let search = EndSearch::new(session, from);
    let kit = taken(node, move |ledger| search.take(ledger)).await?;
    let mut answer = answer(&kit);
    answer["match"] = json!(id.map(|id| id.to_string()));
    Ok(answer)
}

fn not_closed() -> AdminError {
    AdminError::new(
        "not_yet",
        "the match has no record that closes it",
        "`tally match show ID` says how far it is",
    )
}

/// The question that the arguments ask.
fn question(node: &Node, a: &StateArgs) -> Result<Question, AdminError> {
    let genesis = node.chain.ledger().genesis();
    let member = |text: &str| -> Result<MemberId, AdminError> {
        if let Some(member) = genesis.member_by_name(text) {
            return Ok(member.id);
        }
        let found = state::member_by_name(node.chain.ledger().state(), text).map_err(internal)?;
        match found {
            Some(member) => Ok(member.id),
            None => text.parse().map_err(|_| {
                usage(format!(
                    "{text:?} is neither a member's name nor the ID of one"
                ))
            }),
        }
    };
    Ok(match a {
        StateArgs::Batch { id } => Question::Batch(id.parse().map_err(usage)?),
        StateArgs::Member { id } => Question::Member(member(id)?),
        StateArgs::Agreement { id } => Question::Agreement(id.parse().map_err(usage)?),
        StateArgs::Budget {
            agreement,
            owner,
            analyst,
            epoch,
        } => Question::Budget {
            agreement: agreement.parse().map_err(usage)?,
            owner: member(owner)?,
            analyst: member(analyst)?,
            epoch: match epoch {
                Some(epoch) => *epoch,
                None => {
                    let rules = state::rules(node.chain.ledger().state()).map_err(internal)?;
                    let time_ms = node.chain.ledger().head().time_ms;
                    time_ms.checked_div(rules.epoch_ms).unwrap_or_default()
                }
            },
        },
    })
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

/// The same proof with what leads from the genesis to the members of now.
pub(super) async fn from_genesis(node: &Arc<Node>, a: GenesisArgs) -> Result<Value, AdminError> {
    let ledger = node.chain.ledger().clone();
    let kit = tokio::task::spawn_blocking(move || proofs::from_genesis(&ledger, &a.proof))
        .await
        .map_err(internal)??;
    Ok(json!({"proof": kit.proof, "policy": kit.policy}))
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
        Proven::Scan(scan) => {
            answer["index"] = json!(scan.anchored.index);
            answer["record"] = json!(scan.anchored.record.to_string());
            answer["verdict"] = json!(scan.receipt.verdict.name());
            answer["anchored"] = json!(utc(scan.anchored.time_ms));
        }
        Proven::State(state) => {
            answer["there"] = json!(state.statement.is_there());
            answer["as_of_height"] = json!(state.as_of_height);
            answer["as_of"] = json!(utc(state.as_of_ms));
        }
        Proven::Match(matched) => {
            answer["index"] = json!(matched.closed.index);
            answer["record"] = json!(matched.closed.record.to_string());
            answer["session"] = json!(matched.session.to_string());
            answer["status"] = json!(matched.matched.status.name());
            answer["as_of_height"] = json!(matched.as_of_height);
            answer["as_of"] = json!(utc(matched.as_of_ms));
        }
        Proven::Overlap(overlap) => {
            answer["index"] = json!(overlap.closed.index);
            answer["record"] = json!(overlap.closed.record.to_string());
            answer["session"] = json!(overlap.session.to_string());
            answer["status"] = json!(overlap.overlap.status.name());
            answer["waits_for"] = json!(overlap.waits_for());
            answer["as_of_height"] = json!(overlap.as_of_height);
            answer["as_of"] = json!(utc(overlap.as_of_ms));
        }
    }
    answer
}
