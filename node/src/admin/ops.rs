//! What can be asked over the admin socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tally_contracts::block::{BlockInfo, ENTRY_BLOCK_INFO, ENTRY_RECORD};
use tally_contracts::ids::{BatchId, MemberId, RecordId};
use tally_contracts::records::{ActivateBatch, Body, RecallBatch};
use tally_contracts::state::{self, BatchState, keys};
use tally_contracts::{Canonical, Record};
use tally_ledger::RecordPlace;
use tally_merkle::Note;

use super::codes::with_causes;
use super::{
    AdminError, Progress, agreements, audiences, codes, governance, matches, printing, products,
    proofs, records, scans, trade,
};
use crate::chain::{SubmitError, Submitter};
use crate::runtime::Node;
use crate::snapshots;
use crate::status::status;
use crate::tile_export::{ExportError, export_tiles};

/// How long a record may wait for its block.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// The command that shows this member's batches.
pub(super) const BATCHES: &str = "tally codes list";
/// The command that shows the agreements.
pub(super) const AGREEMENTS: &str = "tally agreement list";
/// The command that shows the proposals.
pub(super) const CHANGES: &str = "tally change list";

fn args<T: DeserializeOwned>(args: Value) -> Result<T, AdminError> {
    let args = if args.is_null() { json!({}) } else { args };
    serde_json::from_value(args).map_err(|e| {
        AdminError::new(
            "usage",
            format!("arguments: {e}"),
            "see the command's --help",
        )
    })
}

/// What was given is not what an operation takes. The message says what was expected, so nothing else is to be tried.
pub(super) fn usage(message: impl std::fmt::Display) -> AdminError {
    AdminError::new("usage", message.to_string(), "")
}

/// As [`usage`], of an ID: the command that shows those there are.
pub(super) fn not_an_id<E: std::fmt::Display>(command: &'static str) -> impl Fn(E) -> AdminError {
    move |e| AdminError::new("usage", e.to_string(), format!("`{command}` shows them"))
}

/// What an operator does about a record that the contracts refuse.
fn after_refusal(code: &str) -> &'static str {
    match code {
        "gtin_taken" => "`tally product list` says what is registered, and by whom",
        "unknown_product" => "register it: `tally product add`",
        "batch_status" | "unknown_batch" => {
            "`tally codes list` shows the batches and how they stand"
        }
        "unknown_agreement" | "already_accepted" | "agreement_status" | "agreement_expired" => {
            "`tally agreement list` shows the agreements and how they stand"
        }
        "unknown_change" | "change_status" | "change_expired" | "already_voted" => {
            "`tally change list` shows the proposals and how they stand"
        }
        _ => "every member's node would refuse this record; change it",
    }
}

pub(super) fn internal(message: impl std::fmt::Display) -> AdminError {
    AdminError::new("internal", message.to_string(), "read the node's log")
}

impl From<SubmitError> for AdminError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::Refused(notice) => {
                Self::new("refused", message, after_refusal(&notice.code))
            }
            SubmitError::Pool(_) => Self::new("busy", message, "try again in a few seconds"),
            SubmitError::ReadOnly(_) => Self::new(
                "read_only",
                message,
                "free disk space; the node goes on by itself then",
            ),
            SubmitError::Timeout { .. } => {
                Self::new("timeout", message, "`tally status` says who is missing")
            }
            SubmitError::Internal(_) => internal(message),
        }
    }
}

/// Carries out one request.
pub(super) async fn carry_out(
    node: &Arc<Node>,
    op: &str,
    given: Value,
    progress: Progress,
) -> Result<Value, AdminError> {
    match op {
        "status" => Ok(status(node)),
        "head" => head(node, &args(given)?),
        "checkpoint" => {
            let (size, note) = node.chain.checkpoint().ok_or_else(no_checkpoint)?;
            Ok(json!({"size": size, "note": note}))
        }
        "tiles_export" => tiles_export(node, args(given)?).await,
        "snapshot_save" => snapshot_save(node, args(given)?).await,
        "ledger_prune" => ledger_prune(node, args(given)?).await,
        "product_add" => products::add(node, args(given)?).await,
        "products" => products::list(node),
        "codes_issue" => codes::issue(node, args(given)?, progress).await,
        "codes_verify" => codes::verify(node, args(given)?).await,
        "codes_export" => printing::export(node, args(given)?, progress).await,
        "codes_void" => printing::void(node, args(given)?, progress).await,
        "codes_epochs" => printing::epochs(node),
        "codes_new_epoch" => printing::begin_epoch(node).await,
        "codes_retire_epoch" => printing::retire_epoch(node, args(given)?).await,
        "batches" => batches(node),
        "batch_activate" => activate(node, args(given)?).await,
        "batch_territory" => trade::set_territory(node, args(given)?).await,
        "dealer_add" => trade::add_dealer(node, args(given)?).await,
        "dealer_remove" => trade::remove_dealer(node, args(given)?).await,
        "dealers" => trade::dealers(node).await,
        "batch_recall" => {
            let a: BatchArgs = args(given)?;
            let batch = a.batch.parse::<BatchId>().map_err(not_an_id(BATCHES))?;
            submit(
                &node.records,
                RecallBatch {
                    batch,
                    reason: a.reason,
                }
                .into(),
            )
            .await
        }
        "record_show" => record_show(node, &args(given)?),
        "proof" => proofs::code(node, args(given)?).await,
        "record_proof" => proofs::record(node, args(given)?).await,
        "proof_from_genesis" => proofs::from_genesis(node, args(given)?).await,
        "scan_stats" => scans::stats(node, args(given)?, progress).await,
        "scan_proof" => proofs::scan(node, args(given)?).await,
        "state_proof" => proofs::state(node, &args(given)?).await,
        "match_proof" => proofs::matched(node, &args(given)?).await,
        "audience_import" => audiences::import(node, args(given)?, progress).await,
        "audiences" => audiences::list(node),
        "agreement_propose" => agreements::propose(node, args(given)?).await,
        "agreement_accept" => agreements::accept(node, args(given)?).await,
        "agreement_revoke" => agreements::revoke(node, args(given)?).await,
        "agreements" => agreements::list(node),
        "agreement_show" => agreements::show(node, &args(given)?),
        "change_propose" => governance::propose(node, args(given)?).await,
        "change_vote" => governance::vote(node, args(given)?).await,
        "changes" => governance::list(node),
        "change_show" => governance::show(node, &args(given)?),
        "match_request" => matches::request(node, args(given)?, progress).await,
        "matches" => Ok(matches::list(node)),
        "match_show" => matches::show(node, args(given)?).await,
        "match_cancel" => matches::cancel(node, args(given)?).await,
        "submit" => {
            let a: SubmitArgs = args(given)?;
            let bytes = hex::decode(a.record_hex).map_err(usage)?;
            let (id, place) = node.chain.submit_and_wait(&bytes, DEADLINE).await?;
            Ok(committed(&id, place))
        }
        "submit_many" => records::submit_many(node, args(given)?).await,
        other => Err(AdminError::new(
            "unknown_op",
            format!("this node does not know {other:?}"),
            "is the command newer than the node? Start the node again with the same version",
        )),
    }
}

fn no_checkpoint() -> AdminError {
    AdminError::new(
        "not_yet",
        "no checkpoint has a quorum of cosignatures yet",
        "try again in a few seconds",
    )
}

pub(super) fn committed(id: &RecordId, place: RecordPlace) -> Value {
    json!({"record": id.to_string(), "height": place.height, "index": place.index})
}

pub(super) async fn submit(submitter: &Submitter, body: Body) -> Result<Value, AdminError> {
    let (id, place) = submitter.submit(&body, DEADLINE).await?;
    Ok(committed(&id, place))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitArgs {
    record_hex: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadArgs {
    #[serde(default)]
    at_height: Option<u64>,
}

/// The head, or the header of a block of the past.
fn head(node: &Node, a: &HeadArgs) -> Result<Value, AdminError> {
    let ledger = node.chain.ledger();
    let Some(height) = a.at_height else {
        let head = ledger.head();
        return Ok(json!({
            "height": head.height,
            "tree_size": head.tree_size,
            "tree_root": head.tree_root.to_string(),
            "state_root": head.state_root.to_string(),
        }));
    };
    let stored = ledger.block(height).map_err(usage)?;
    let block = tally_contracts::block::Block::from_bytes(&stored.block).map_err(internal)?;
    Ok(json!({
        "height": height,
        "tree_size": block.header.tree_size,
        "tree_root": block.header.tree_root.to_string(),
        "state_root": block.header.state_root.to_string(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotArgs {
    #[serde(default)]
    out: Option<PathBuf>,
}

/// Makes a snapshot, in a folder of the operator's or among those that the node serves.
async fn snapshot_save(node: &Arc<Node>, a: SnapshotArgs) -> Result<Value, AdminError> {
    let chain = node.chain.clone();
    let saved = tokio::task::spawn_blocking(move || snapshots::save(&chain, a.out.as_deref()));
    let (manifest, dir) = saved.await.map_err(internal)?.map_err(|e| {
        let next = "try again after the next record; `tally status` says how the node is";
        AdminError::new("no_snapshot", e.to_string(), next)
    })?;
    Ok(json!({
        "dir": dir,
        "height": manifest.header.height,
        "block": manifest.header.hash().to_string(),
        "tree_size": manifest.header.tree_size,
        "tree_root": manifest.header.tree_root.to_string(),
        "state_root": manifest.header.state_root.to_string(),
        "files": manifest.state.len() + manifest.tiles.len() + 3,
        "bytes": manifest.total_bytes(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TilesArgs {
    out: PathBuf,
}

/// Writes the ledger's tiles up to the newest checkpoint into a folder of the operator's.
async fn tiles_export(node: &Arc<Node>, a: TilesArgs) -> Result<Value, AdminError> {
    let chain = node.chain.clone();
    let (_, note) = chain.checkpoint().ok_or_else(no_checkpoint)?;
    let note = Note::parse(&note).map_err(internal)?;
    let exported = tokio::task::spawn_blocking(move || {
        // Old bundles are not dropped meanwhile.
        let Some(_one) = chain.saving() else {
            let next = "try again when the snapshot is done";
            return Err(AdminError::new("busy", "a snapshot is being made", next));
        };
        export_tiles(chain.ledger(), &note, &a.out)
            .map(|exported| (exported, a.out))
            .map_err(AdminError::from)
    });
    let (exported, out) = exported.await.map_err(internal)??;
    Ok(exported.to_json(&out))
}

impl From<ExportError> for AdminError {
    fn from(error: ExportError) -> Self {
        let next = error.next();
        Self::new("export", with_causes(&error), next)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PruneArgs {
    #[serde(default)]
    retain_days: Option<u64>,
    #[serde(default)]
    retain_entries: Option<u64>,
}

/// Drops old blocks now, by the bounds given or by the configured ones.
async fn ledger_prune(node: &Arc<Node>, a: PruneArgs) -> Result<Value, AdminError> {
    let configured = &node.config.ledger;
    let (days, entries) = match (a.retain_days, a.retain_entries) {
        (None, None) => (configured.retain_days, configured.retain_entries),
        (days, entries) => (days.unwrap_or(0), entries.unwrap_or(0)),
    };
    if days == 0 && entries == 0 {
        return Err(AdminError::new(
            "usage",
            "neither a bound in days nor one in entries is given or configured",
            "tally ledger prune --retain-days 400",
        ));
    }
    let ledger = node.chain.ledger();
    let before = ledger.first_entry();
    let chain = node.chain.clone();
    let dropped = tokio::task::spawn_blocking(move || snapshots::drop_old(&chain, days, entries));
    dropped.await.map_err(internal)?.map_err(|e| {
        let next = "try again when the snapshot is done; `tally status` says how the node is";
        AdminError::new("prune", e.to_string(), next)
    })?;
    let first = ledger.first_entry();
    Ok(json!({
        "dropped_entries": first.saturating_sub(before),
        "first_entry": first,
        "first_height": ledger.first_height(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivateArgs {
    batch: String,
    /// Where it is meant to be sold, said before it is released.
    #[serde(default)]
    territory: Option<Vec<String>>,
}

async fn activate(node: &Arc<Node>, a: ActivateArgs) -> Result<Value, AdminError> {
    let batch: BatchId = a.batch.parse().map_err(not_an_id(BATCHES))?;
    if let Some(areas) = a.territory {
        trade::set(node, batch, trade::territory(&areas)?).await?;
    }
    submit(&node.records, ActivateBatch { batch }.into()).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchArgs {
    batch: String,
    #[serde(default)]
    reason: String,
}

fn batches(node: &Node) -> Result<Value, AdminError> {
    let rows = node
        .chain
        .ledger()
        .state()
        .scan(keys::BATCH.as_bytes())
        .map_err(internal)?;
    let mut out = Vec::new();
    for (key, value) in rows {
        let batch = BatchState::from_bytes(&value).map_err(internal)?;
        let id = key
            .get(keys::BATCH.len()..)
            .and_then(|id| id.try_into().ok())
            .map(BatchId)
            .ok_or_else(|| internal("a batch under a key that is none"))?;
        let void = state::revoked_count(node.chain.ledger().state(), &id).map_err(internal)?;
        let territory = state::territory(node.chain.ledger().state(), &id).map_err(internal)?;
        let territory: Vec<String> = territory
            .iter()
            .flat_map(|t| t.territory.areas())
            .map(ToString::to_string)
            .collect();
        out.push(json!({
            "batch": id.to_string(),
            "gtin": batch.gtin.as_str(),
            "lot": batch.lot.as_str(),
            "count": batch.count,
            "first_index": batch.first_index,
            "status": batch.status.name(),
            "void": void,
            "territory": territory,
            "expires": batch.expires.map(|date| date.to_calendar()),
            "record": batch.record.to_string(),
            "owner": agreements::name_of(node, &batch.owner),
            "own": batch.owner == node.chain.member(),
        }));
    }
    Ok(Value::Array(out))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordArgs {
    record: String,
}

/// A record by its ID, or an entry by its index.
fn record_show(node: &Node, a: &RecordArgs) -> Result<Value, AdminError> {
    let ledger = node.chain.ledger();
    let index = match a.record.parse::<u64>() {
        Ok(index) if a.record.len() < 20 => index,
        _ => {
            let id: RecordId = a.record.parse().map_err(usage)?;
            let place = ledger.find(&id).map_err(internal)?.ok_or_else(|| {
                AdminError::new(
                    "not_found",
                    format!("no record {id} in the ledger"),
                    "is the ID whole? `tally status` says whether this node is in step",
                )
            })?;
            place.index
        }
    };
    let entry = ledger.entry(index).map_err(|e| {
        AdminError::new(
            "not_found",
            e.to_string(),
            "give a record ID or an entry's index",
        )
    })?;
    let common = json!({"index": index, "bytes": entry.len(), "hex": hex::encode(&entry), "leaf": tally_merkle::leaf_hash(&entry).to_string()});
    let kind = entry.get(1).copied().unwrap_or_default();
    let mut shown = match kind {
        ENTRY_RECORD => {
            let record = Record::from_bytes(&entry).map_err(internal)?;
            let name = |id: &MemberId| {
                let member = state::member(ledger.state(), id).ok().flatten();
                member.map(|m| m.name)
            };
            let signers: Vec<Value> = record
                .signers()
                .iter()
                .map(|s| json!({"name": name(&s.member), "member": s.member.to_string(), "key": s.key.to_string(), "nonce": s.nonce}))
                .collect();
            let body = record.body().map_err(internal)?;
            let (says, fields) = crate::proofs::json::body(&body, &name);
            json!({
                "type": "record",
                "record": record.id().to_string(),
                "kind": body.kind().name(),
                "says": says,
                "valid_until_ms": record.unsigned().valid_until_ms,
                "signers": signers,
                "body": fields,
            })
        }
        ENTRY_BLOCK_INFO => {
            let info = BlockInfo::from_bytes(&entry).map_err(internal)?;
            json!({
                "type": "block_info",
                "height": info.height,
                "time_ms": info.time_ms,
                "records": info.record_count,
                "state_root": info.state_root.to_string(),
            })
        }
        _ => json!({"type": "genesis", "network_id": ledger.network().to_string()}),
    };
    if let (Value::Object(shown), Value::Object(common)) = (&mut shown, common) {
        shown.extend(common);
    }
    Ok(shown)
}
