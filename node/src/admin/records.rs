//! Signed records by the hundred, for whoever signs elsewhere and submits much.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminError;
use super::ops::{DEADLINE, internal, usage};
use crate::chain::SubmitError;
use crate::runtime::Node;

/// Arguments of `submit_many`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubmitManyArgs {
    records_hex: Vec<String>,
    /// Answer when all are committed, not when all are taken.
    #[serde(default)]
    wait: bool,
}

/// Takes records in order and stops at the first that is not taken. Answers how many were, and why the next one was not.
pub(super) async fn submit_many(node: &Arc<Node>, a: SubmitManyArgs) -> Result<Value, AdminError> {
    let wait = a.wait;
    let (chain, records) = (node.chain.clone(), a.records_hex);
    // Signatures are verified here, so not on the runtime's own threads.
    let (taken, failed) = tokio::task::spawn_blocking(move || {
        let records: Vec<Vec<u8>> = records
            .iter()
            .map(hex::decode)
            .collect::<Result<_, _>>()
            .map_err(usage)?;
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let mut taken = Vec::with_capacity(records.len());
        let mut failed: Option<SubmitError> = None;
        for answer in chain.submit_all(&records) {
            match answer {
                Ok(id) if failed.is_none() => taken.push(id),
                Ok(_) => {}
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        Ok::<_, AdminError>((taken, failed))
    })
    .await
    .map_err(internal)??;
    if wait {
        for id in &taken {
            node.chain.wait(*id, DEADLINE).await?;
        }
    }
    let failed = failed.map(|e| {
        let e = AdminError::from(e);
        json!({"code": e.code, "message": e.message, "next": e.next})
    });
    Ok(json!({"taken": taken.len(), "failed": failed}))
}
