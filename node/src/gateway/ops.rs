//! What an operator asks of a node: status, health, readiness, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Problem;
use super::router::Gateway;

/// What the rest of the node says of itself.
pub trait NodeStatus: Send + Sync {
    /// One JSON object for `GET /v1/status`; the gateway adds `scans`.
    fn status(&self) -> Value;

    /// Why the node is not ready to serve; empty if it is.
    fn not_ready(&self) -> Vec<String>;

    /// Why the node must not take new scans, a full disk say; the scan log's own reasons need not be repeated.
    fn read_only(&self) -> Option<String> {
        None
    }
}

/// `GET /v1/status`.
pub(super) async fn status(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    let log = gateway.service.log();
    let anchors = log.anchor_state();
    let mut status = gateway.status.status();
    if let Value::Object(map) = &mut status {
        map.insert(
            "scans".into(),
            json!({
                "log_id": log.log_id(),
                "size": log.size(),
                "bytes": log.bytes(),
                "codes": log.codes(),
                "unverified": log.pending(),
                "index_away": log.index_away(),
                "anchored_size": anchors.last.map_or(0, |a| a.size),
                "anchors": anchors.anchors,
                "last_anchor_record": anchors.last.map(|a| a.record.to_string()),
                "read_only": gateway.read_only(),
                "slowed_sources": gateway.backoff.slowed(),
            }),
        );
    }
    Json(status)
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 200 if scans are taken, else 503 with the reasons.
pub(super) async fn readyz(State(gateway): State<Arc<Gateway>>) -> Response {
    let mut reasons = gateway.status.not_ready();
    reasons.extend(gateway.read_only());
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "The node is not ready",
        reasons.join("; "),
    )
    .retry_after(5)
    .into_response()
}

/// `GET /metrics`.
pub(super) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Result<Response, Problem> {
    let text = gateway
        .metrics
        .text(gateway.service.log(), gateway.backoff.slowed())
        .ok_or_else(|| Problem::busy("metrics cannot be read now"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}
