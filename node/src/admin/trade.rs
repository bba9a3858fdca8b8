//! Where batches are meant to be sold, and the dealers who say what becomes of units.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tally_contracts::ids::BatchId;
use tally_contracts::records::{Area, MAX_AREAS, SetTerritory, Territory};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::AdminError;
use super::ops::{BATCHES, DEADLINE, committed, internal, not_an_id, usage};
use crate::dealers::DealerError;
use crate::runtime::Node;

/// Arguments of `batch_territory`: the areas in their text form; none takes back what was said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TerritoryArgs {
    batch: String,
    areas: Vec<String>,
}

/// Arguments of `dealer_add`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DealerArgs {
    name: String,
    /// The key that another gateway made, secret.
    #[serde(default)]
    key: Option<String>,
}

/// Arguments of `dealer_remove`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DealerName {
    name: String,
}

impl From<DealerError> for AdminError {
    fn from(error: DealerError) -> Self {
        let message = error.to_string();
        match error {
            DealerError::Name | DealerError::Key => usage(message),
            DealerError::Known { .. } => Self::new(
                "known",
                message,
                "`tally dealer remove` ends its key; then it can be added with a new one",
            ),
            DealerError::NotKnown { .. } => {
                Self::new("not_found", message, "`tally dealer list` has them")
            }
            DealerError::Full { .. } => {
                Self::new("full", message, "remove those that are not needed any more")
            }
            DealerError::Away { .. } => Self::new(
                "index_away",
                message,
                "try again when the database of scans.index answers",
            ),
            DealerError::Sealed(_) | DealerError::Codec(_) => internal(message),
        }
    }
}

/// The territory of these areas.
pub(super) fn territory(areas: &[String]) -> Result<Territory, AdminError> {
    let areas = areas
        .iter()
        .map(|area| area.parse::<Area>().map_err(usage))
        .collect::<Result<Vec<_>, _>>()?;
    Territory::new(areas).ok_or_else(|| usage(format!("a territory has at most {MAX_AREAS} areas")))
}

/// Says in the ledger where a batch is meant to be sold.
pub(super) async fn set(
    node: &Arc<Node>,
    batch: BatchId,
    territory: Territory,
) -> Result<Value, AdminError> {
    let body = SetTerritory { batch, territory };
    let (record, place) = node.records.submit(&body.into(), DEADLINE).await?;
    Ok(committed(&record, place))
}

/// The same, asked for by itself.
pub(super) async fn set_territory(node: &Arc<Node>, a: TerritoryArgs) -> Result<Value, AdminError> {
    let batch: BatchId = a.batch.parse().map_err(not_an_id(BATCHES))?;
    set(node, batch, territory(&a.areas)?).await
}

/// Adds a dealer; the answer has its key, once.
pub(super) async fn add_dealer(node: &Arc<Node>, a: DealerArgs) -> Result<Value, AdminError> {
    let key = a.key.map(zeroize::Zeroizing::new);
    let key = key.as_ref().map(|k| k.as_str());
    let key = node.dealers.add(&a.name, key, node.scans.now_ms()).await?;
    Ok(json!({"dealer": a.name.trim(), "key": key.as_str()}))
}

/// Removes a dealer.
pub(super) async fn remove_dealer(node: &Arc<Node>, a: DealerName) -> Result<Value, AdminError> {
    node.dealers.remove(&a.name).await?;
    Ok(json!({"removed": a.name}))
}

/// The dealers, without their keys.
pub(super) async fn dealers(node: &Node) -> Result<Value, AdminError> {
    let rows = node.dealers.list().await?.into_iter().map(|dealer| {
        let since =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(dealer.since_ms) * 1_000_000);
        let since = since.ok().and_then(|t| t.format(&Rfc3339).ok());
        json!({"dealer": dealer.name, "since": since})
    });
    Ok(Value::Array(rows.collect()))
}
