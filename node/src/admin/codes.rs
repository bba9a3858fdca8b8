//! Issuing unit codes, and looking at one without counting it as a scan.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tally_codes::gs1::UrlBase;
use tally_contracts::Canonical;
use tally_contracts::ids::BatchId;
use tally_contracts::records::{Body, ExpiryDate, Gtin, Lot, Territory};
use tally_contracts::state::{self, BatchState, keys};

use super::ops::{DEADLINE, committed, internal, usage};
use super::printing::RowArgs;
use super::{AdminError, Progress, trade};
use crate::chain::SubmitError;
use crate::gateway::read_code;
use crate::issuer::{BatchMeta, Expiry, IssuerError, NewBatch, PrintOrder};
use crate::runtime::Node;

/// Arguments of `codes_issue`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssueArgs {
    gtin: String,
    lot: String,
    count: u64,
    out: PathBuf,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    claims_to: Vec<String>,
    #[serde(default)]
    claims_out: Option<PathBuf>,
    /// Issue although keys of earlier batches are not here.
    #[serde(default)]
    keys_lost: bool,
    /// Where the batch is meant to be sold.
    #[serde(default)]
    territory: Option<Vec<String>>,
    /// The last day on which the units are good: `YYYY-MM-DD` or `YYYY-MM`.
    #[serde(default)]
    expires: Option<String>,
    /// Leave the date out of the links.
    #[serde(default)]
    plain_links: bool,
}

impl IssueArgs {
    /// The date, in the links where they have room for it.
    fn expiry(&self, base: &UrlBase, now_ms: u64) -> Result<Option<Expiry>, AdminError> {
        let Some(text) = &self.expires else {
            return Ok(None);
        };
        let date = ExpiryDate::from_calendar(text).map_err(usage)?;
        if date.is_over(now_ms) {
            return Err(usage(format!(
                "the units would have expired on {text} already"
            )));
        }
        Ok(Some(Expiry {
            date,
            in_links: !self.plain_links && base.has_room_for_expiry(),
        }))
    }
}

/// Arguments of `codes_verify`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyArgs {
    code: String,
    #[serde(default)]
    claim: Option<String>,
}

impl From<IssuerError> for AdminError {
    fn from(error: IssuerError) -> Self {
        if error.is_disk_full() {
            Self::new(
                "disk_full",
                error.to_string(),
                "free disk space; no batch was made",
            )
        } else if matches!(error, IssuerError::PrinterFile(_)) {
            let message = with_causes(&error);
            Self::new(
                "file",
                message,
                "give --out a new file in a folder that this node may write to",
            )
        } else if matches!(error, IssuerError::SameFile { .. }) {
            usage(error)
        } else if matches!(error, IssuerError::FileIsThere { .. }) {
            Self::new(
                "file",
                error.to_string(),
                "name another file: that one may hold the codes of another batch (`tally codes list`)",
            )
        } else if matches!(error, IssuerError::NoBatch { .. }) {
            Self::new(
                "not_found",
                error.to_string(),
                "`tally codes list` has this member's batches",
            )
        } else {
            Self::new("issuer", error.to_string(), "read the node's log")
        }
    }
}

/// What went wrong and why, in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Refuses what only the node that issues may do: keys and batches that a further gateway made would be in its own copy of the issuer's
/// folder alone, and every other gateway would take such codes for invented ones.
pub(super) fn must_issue(node: &Node) -> Result<(), AdminError> {
    let log_id = node.config.scans.log_id;
    if log_id == 0 {
        return Ok(());
    }
    Err(AdminError::new(
        "not_the_issuer",
        format!(
            "this node is a further gateway of its member (scans.log_id is {log_id}): one node alone issues codes and changes their keys"
        ),
        "do it on the node with scans.log_id 0, then copy its folder codes/ here and start this node again",
    ))
}

/// Refuses if the ledger has a batch of this member of which this node has no keys: then another node of the member issues, and would take
/// this one's codes for invented ones.
fn holds_all_batches(node: &Node) -> Result<(), AdminError> {
    let (here, member) = (node.issuer.batches(), node.chain.member());
    let here: HashSet<_> = here.iter().map(|meta| meta.id).collect();
    let rows = node.chain.ledger().state().scan(keys::BATCH.as_bytes());
    for (key, value) in rows.map_err(internal)? {
        let batch = BatchState::from_bytes(&value).map_err(internal)?;
        let id = key
            .get(keys::BATCH.len()..)
            .and_then(|id| id.try_into().ok())
            .map(BatchId)
            .ok_or_else(|| internal("a batch under a key that is none"))?;
        if batch.owner == member && !here.contains(&id) {
            return Err(AdminError::new(
                "not_the_issuer",
                format!("this node has no keys of batch {id} of its member: another node issues"),
                "issue on that node; if its keys are lost for good, give --keys-lost",
            ));
        }
    }
    Ok(())
}

/// Makes a batch, writes the printer's file, and announces the batch to the ledger.
pub(super) async fn issue(
    node: &Arc<Node>,
    a: IssueArgs,
    progress: Progress,
) -> Result<Value, AdminError> {
    must_issue(node)?;
    let gtin: Gtin = a.gtin.parse().map_err(usage)?;
    let lot: Lot = a.lot.parse().map_err(usage)?;
    let territory = a.territory.as_deref().map(trade::territory).transpose()?;
    let base = UrlBase::parse(&node.config.http.base_url).map_err(usage)?;
    let expiry = a.expiry(&base, node.scans.now_ms())?;
    let rows = RowArgs {
        format: a.format,
        claims_to: a.claims_to,
        claims_out: a.claims_out,
    };
    let order = PrintOrder {
        base,
        format: rows.format()?,
        out: a.out,
        claims: rows.claims()?,
    };
    // One batch at a time: its first index is the one after the last batch in the ledger.
    let _turn = node.issuing.lock().await;
    let ledger = node.chain.ledger();
    let product = state::product(ledger.state(), &gtin)
        .map_err(internal)?
        .ok_or_else(|| {
            AdminError::new(
                "refused",
                format!("GTIN {} is not registered", gtin.as_str()),
                "register it: `tally product add`",
            )
        })?;
    if product.owner != node.chain.member() {
        let message = format!("GTIN {} belongs to another member", gtin.as_str());
        return Err(AdminError::new(
            "refused",
            message,
            "only its owner issues codes for it",
        ));
    }
    if !a.keys_lost {
        holds_all_batches(node)?;
    }
    let first_index = state::next_index(ledger.state(), &node.chain.member()).map_err(internal)?;
    let new = NewBatch {
        gtin,
        lot,
        count: a.count,
        first_index,
        expiry,
    };
    let (issuer, wanted) = (node.issuer.clone(), order.clone());
    let (meta, known) = tokio::task::spawn_blocking(move || {
        if let Some(meta) = issuer.already_announced(&new, &wanted)? {
            return Ok::<_, IssuerError>((meta, true));
        }
        let meta = issuer.print_batch(&new, &wanted, &mut |done, total| {
            progress.report("codes", done, total);
        })?;
        Ok((meta, false))
    })
    .await
    .map_err(internal)??;
    if known {
        // The node was stopped after the batch had come into the ledger and before this was said.
        say_territory(node, &meta, territory).await?;
        return said_again(node, &meta, &order);
    }
    let body = Body::from(meta.to_record());
    let done = match node.records.submit(&body, DEADLINE).await {
        Ok((record, place)) => committed(&record, place),
        Err(e) => {
            if matches!(e, SubmitError::Refused(_)) {
                // Codes of a batch that the ledger refuses would never verify: nobody must print them.
                let _ = std::fs::remove_file(&order.out);
                if let Some(claims) = &order.claims {
                    let _ = std::fs::remove_file(&claims.out);
                }
                node.issuer.announced(meta.first_index)?;
            }
            // Otherwise it may come into the ledger yet; the same command goes on from here.
            return Err(e.into());
        }
    };
    say_territory(node, &meta, territory).await?;
    node.issuer.announced(meta.first_index)?;
    issued(&meta, &order, &done["record"], &done["height"])
}

/// Says in the ledger where the batch is meant to be sold, unless that stands there or nothing was given.
async fn say_territory(
    node: &Arc<Node>,
    meta: &BatchMeta,
    territory: Option<Territory>,
) -> Result<(), AdminError> {
    let Some(territory) = territory else {
        return Ok(());
    };
    let said = state::territory(node.chain.ledger().state(), &meta.id).map_err(internal)?;
    if said.is_none_or(|said| said.territory != territory) {
        trade::set(node, meta.id, territory).await?;
    }
    Ok(())
}

fn issued(
    meta: &BatchMeta,
    order: &PrintOrder,
    record: &Value,
    height: &Value,
) -> Result<Value, AdminError> {
    let links = meta.links(&order.base).map_err(internal)?;
    Ok(json!({
        "batch": meta.id.to_string(),
        "count": meta.count,
        "first_index": meta.first_index,
        "unit_root": meta.unit_root.to_string(),
        "epoch": meta.epoch,
        "format": order.format.name(),
        "out": order.out,
        "claims_out": order.claims.as_ref().map(|c| &c.out),
        "claims_to": order.claims.as_ref().map(|c| c.to.as_slice()),
        "qr": {
            "version": links.qr_version(),
            "level": "M",
            "link_characters": links.url_len(),
            "note": qr_note(meta, &links),
        },
        "expires": meta.expires().map(|date| date.to_calendar()),
        "expires_in_links": meta.expiry.map(|e| e.in_links),
        "record": record,
        "height": height,
    }))
}

/// Which symbol the links need, and whether they have the expiry date.
fn qr_note(meta: &BatchMeta, links: &UrlBase) -> String {
    let mut note = links.qr_note();
    if meta.expiry.is_some_and(|e| !e.in_links) {
        note.push_str("; they are without the expiry date, which stands in the ledger");
        if !links.has_room_for_expiry() {
            note.push_str(": with ?17= they would need a larger symbol than version 4-M");
        }
    }
    note
}

/// The answer for a batch that is in the ledger already.
fn said_again(node: &Arc<Node>, meta: &BatchMeta, order: &PrintOrder) -> Result<Value, AdminError> {
    let ledger = node.chain.ledger();
    let batch = state::batch(ledger.state(), &meta.id)
        .map_err(internal)?
        .ok_or_else(|| internal("a batch that was in the ledger is not"))?;
    let place = ledger
        .find(&batch.record)
        .map_err(internal)?
        .ok_or_else(|| internal("a record that was in the ledger is not"))?;
    issued(
        meta,
        order,
        &json!(batch.record.to_string()),
        &json!(place.height),
    )
}

/// What is known of a code, without a scan.
pub(super) async fn verify(node: &Arc<Node>, a: VerifyArgs) -> Result<Value, AdminError> {
    let code = read_code(&a.code).map_err(usage)?;
    let known = node.scans.look(&code).await.map_err(internal)?;
    let claim = a.claim.map(|claim| {
        let outcome = node.issuer.verify(code.gtin(), code.serial(), Some(&claim));
        format!("{:?}", outcome.claim).to_lowercase()
    });
    Ok(json!({
        "verdict": known.verdict.name(),
        "count": known.count,
        "product": known.product.map(|p| p.description),
        "expires": known.expires.map(|date| date.to_calendar()),
        "claim": claim,
    }))
}
