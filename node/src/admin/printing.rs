//! Codes after they are issued: printing them again, withdrawing single ones, and key epochs.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use rand::rngs::OsRng;
use serde::Deserialize;
use serde_json::{Value, json};
use tally_codes::batch::RowFormat;
use tally_codes::gs1::UrlBase;
use tally_codes::keys::{KeyEpoch, MAX_EPOCHS};
use tally_contracts::ids::BatchId;
use tally_contracts::records::{Body, MAX_REVOKED_PARTS, RevokeCodes};
use tally_contracts::state;

use super::codes::must_issue;
use super::ops::{BATCHES, DEADLINE, committed, internal, not_an_id, usage};
use super::{AdminError, Progress};
use crate::issuer::{ClaimsOrder, ExportOrder, IssuerError, Recipients, VoidError};
use crate::runtime::Node;

/// How rows and claim codes are written, as in `codes_issue` and `codes_export`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowArgs {
    #[serde(default)]
    pub(super) format: Option<String>,
    #[serde(default)]
    pub(super) claims_to: Vec<String>,
    #[serde(default)]
    pub(super) claims_out: Option<PathBuf>,
}

impl RowArgs {
    pub(super) fn format(&self) -> Result<RowFormat, AdminError> {
        let format = self.format.as_deref().unwrap_or("csv");
        format.parse().map_err(usage)
    }

    /// Claim codes are written to their recipients alone; there is no way to have them in clear.
    pub(super) fn claims(&self) -> Result<Option<ClaimsOrder>, AdminError> {
        match (&self.claims_out, self.claims_to.as_slice()) {
            (None, []) => Ok(None),
            (Some(out), [_, ..]) => Ok(Some(ClaimsOrder {
                out: out.clone(),
                to: Recipients::new(&self.claims_to).map_err(usage)?,
            })),
            _ => Err(AdminError::new(
                "usage",
                "claim codes need both a file and the recipients that may read it",
                "give --claims-to the printer's age recipient; claim codes are never written in clear",
            )),
        }
    }
}

/// Arguments of `codes_export`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportArgs {
    batch: String,
    #[serde(default)]
    out: Option<PathBuf>,
    rows: RowArgs,
}

/// Writes the rows of an anchored batch again.
pub(super) async fn export(
    node: &Arc<Node>,
    a: ExportArgs,
    progress: Progress,
) -> Result<Value, AdminError> {
    let id: BatchId = a.batch.parse().map_err(not_an_id(BATCHES))?;
    let order = ExportOrder {
        base: UrlBase::parse(&node.config.http.base_url).map_err(usage)?,
        format: a.rows.format()?,
        out: a.out,
        claims: a.rows.claims()?,
    };
    if order.out.is_none() && order.claims.is_none() {
        return Err(usage(
            "nothing to write: neither outer codes nor claim codes are asked for",
        ));
    }
    let issuer = node.issuer.clone();
    let answer = json!({
        "batch": id.to_string(),
        "format": order.format.name(),
        "out": order.out,
        "claims_out": order.claims.as_ref().map(|c| &c.out),
    });
    let meta = tokio::task::spawn_blocking(move || {
        let meta = issuer
            .anchored_batch(&id)?
            .ok_or(IssuerError::NoBatch { id })?;
        issuer.export(&meta, &order, &mut |done, total| {
            progress.report("codes", done, total);
        })?;
        Ok::<_, IssuerError>(meta)
    })
    .await
    .map_err(internal)??;
    let mut answer = answer;
    if let Value::Object(map) = &mut answer {
        map.insert("count".into(), json!(meta.count));
    }
    Ok(answer)
}

/// Arguments of `codes_void`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VoidArgs {
    batch: String,
    list: PathBuf,
}

impl From<VoidError> for AdminError {
    fn from(error: VoidError) -> Self {
        match error {
            VoidError::Lines { .. } => Self::new(
                "bad_lines",
                error.to_string(),
                "nothing was withdrawn; mend or remove these lines and give the list again",
            ),
            VoidError::Empty => Self::new(
                "empty",
                error.to_string(),
                "give links or serials, one a line",
            ),
            VoidError::Read(e) => Self::new(
                "file",
                format!("the list cannot be read: {e}"),
                "give a file that this node may read",
            ),
            VoidError::Issuer(e) => e.into(),
        }
    }
}

/// Withdraws the codes of a list.
pub(super) async fn void(
    node: &Arc<Node>,
    a: VoidArgs,
    progress: Progress,
) -> Result<Value, AdminError> {
    let batch: BatchId = a.batch.parse().map_err(not_an_id(BATCHES))?;
    let (issuer, list) = (node.issuer.clone(), a.list);
    let list = tokio::task::spawn_blocking(move || {
        let file = File::open(&list)?;
        issuer.void_list(&batch, &mut BufReader::new(file))
    })
    .await
    .map_err(internal)??;
    let mut records = Vec::new();
    let total = list.parts.len() as u64;
    let mut done = 0;
    // A list that is given again after an interruption leaves out what is in the ledger by then.
    for parts in list.parts.chunks(MAX_REVOKED_PARTS) {
        let body = Body::from(RevokeCodes {
            batch,
            parts: parts.to_vec(),
        });
        let (record, place) = node.records.submit(&body, DEADLINE).await?;
        records.push(committed(&record, place));
        done += parts.len() as u64;
        progress.report("parts", done, total);
    }
    let ledger = node.chain.ledger();
    let all = state::revoked_count(ledger.state(), &batch).map_err(internal)?;
    Ok(json!({
        "batch": batch.to_string(),
        "withdrawn": list.fresh,
        "already": list.already,
        "repeated": list.repeated,
        "void": all,
        "records": records,
    }))
}

/// The key epochs that codes are tried against.
pub(super) fn epochs(node: &Node) -> Result<Value, AdminError> {
    let mut batches = std::collections::BTreeMap::<u32, (u64, u64)>::new();
    for meta in node.issuer.batches() {
        let (n, codes) = batches.entry(meta.epoch).or_default();
        *n += 1;
        *codes += meta.count;
    }
    let (live, current) = node.issuer.epochs();
    let rows = live.into_iter().map(|epoch| {
        let (n, codes) = batches.get(&epoch.0).copied().unwrap_or_default();
        json!({"epoch": epoch.0, "current": epoch == current, "batches": n, "codes": codes})
    });
    Ok(json!({"most": MAX_EPOCHS, "epochs": rows.collect::<Vec<_>>()}))
}

/// Draws a new permutation key, which later batches take.
pub(super) async fn begin_epoch(node: &Arc<Node>) -> Result<Value, AdminError> {
    must_issue(node)?;
    // Not in the middle of a batch.
    let _turn = node.issuing.lock().await;
    let issuer = node.issuer.clone();
    let epoch = tokio::task::spawn_blocking(move || issuer.begin_epoch(&mut OsRng))
        .await
        .map_err(internal)?;
    let epoch = epoch.map_err(|e| match e {
        IssuerError::Codes(e) => AdminError::new(
            "too_many_epochs",
            e.to_string(),
            "`tally codes epochs` lists them; `tally codes retire-epoch` makes room",
        ),
        e => e.into(),
    })?;
    Ok(json!({"epoch": epoch.0}))
}

/// Arguments of `codes_retire_epoch`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetireArgs {
    epoch: u32,
    #[serde(default)]
    forget_codes: bool,
}

/// Destroys the permutation key of an epoch.
pub(super) async fn retire_epoch(node: &Arc<Node>, a: RetireArgs) -> Result<Value, AdminError> {
    must_issue(node)?;
    let _turn = node.issuing.lock().await;
    let of_epoch = node.issuer.batches();
    let codes: u64 = of_epoch
        .iter()
        .filter(|m| m.epoch == a.epoch)
        .map(|m| m.count)
        .sum();
    if codes > 0 && !a.forget_codes {
        return Err(AdminError::new(
            "epoch_in_use",
            format!(
                "{codes} codes of epoch {} would answer `unknown` for ever",
                a.epoch
            ),
            "when all these goods have expired, say so with --forget-codes",
        ));
    }
    let issuer = node.issuer.clone();
    tokio::task::spawn_blocking(move || issuer.retire_epoch(KeyEpoch(a.epoch)))
        .await
        .map_err(internal)?
        .map_err(|e| match e {
            IssuerError::Codes(e) => AdminError::new(
                "refused",
                e.to_string(),
                "the current epoch stays; `tally codes epochs` lists the others",
            ),
            e => e.into(),
        })?;
    Ok(json!({"epoch": a.epoch, "forgotten_codes": codes}))
}
