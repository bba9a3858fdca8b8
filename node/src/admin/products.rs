//! Products: registering one, and all that members have registered.

use serde::Deserialize;
use serde_json::{Value, json};
use tally_contracts::Canonical;
use tally_contracts::records::{Gtin, RegisterProduct};
use tally_contracts::state::{ProductState, keys};

use super::AdminError;
use super::agreements::name_of;
use super::ops::{internal, submit, usage};
use crate::runtime::Node;

/// Arguments of `product_add`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProductArgs {
    gtin: String,
    description: String,
    #[serde(default)]
    brand: String,
}

/// Registers a product.
pub(super) async fn add(node: &Node, a: ProductArgs) -> Result<Value, AdminError> {
    let gtin: Gtin = a.gtin.parse().map_err(usage)?;
    let brand = if a.brand.is_empty() {
        node.member_name.clone()
    } else {
        a.brand
    };
    let body = RegisterProduct {
        gtin,
        description: a.description,
        brand,
    };
    submit(&node.records, body.into()).await
}

/// The products of all members, by GTIN.
pub(super) fn list(node: &Node) -> Result<Value, AdminError> {
    let state = node.chain.ledger().state();
    let rows = state.scan(keys::PRODUCT.as_bytes()).map_err(internal)?;
    let mut out = Vec::new();
    for (key, value) in rows {
        let product = ProductState::from_bytes(&value).map_err(internal)?;
        let gtin = key
            .get(keys::PRODUCT.len()..)
            .and_then(|gtin| std::str::from_utf8(gtin).ok())
            .ok_or_else(|| internal("a product under a key that is none"))?;
        out.push(json!({
            "gtin": gtin,
            "description": product.description,
            "brand": product.brand,
            "owner": name_of(node, &product.owner),
            "own": product.owner == node.chain.member(),
            "record": product.record.to_string(),
        }));
    }
    Ok(Value::Array(out))
}
