//! The ledger in C2SP tlog-tiles form over HTTP: `/checkpoint`, `/tile/<L>/<N>`, `/tile/entries/<N>`.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tally_merkle::TilePath;

use crate::chain::Chain;

/// Tiles never change once they are full, nor does what a partial one says.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const SHORT: HeaderValue = HeaderValue::from_static("no-cache");

/// The routes.
pub fn router(chain: Chain) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .with_state(chain)
}

async fn checkpoint(State(chain): State<Chain>) -> Response {
    match chain.served_checkpoint() {
        Some((_, note)) => (
            [
                (
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("text/plain; charset=utf-8"),
                ),
                (header::CACHE_CONTROL, SHORT),
            ],
            note,
        )
            .into_response(),
        None => (
            StatusCode::NOT_FOUND,
            "no checkpoint has a quorum of cosignatures yet\n",
        )
            .into_response(),
    }
}

async fn tile(State(chain): State<Chain>, Path(path): Path<String>) -> Response {
    let Ok(path) = format!("tile/{path}").parse::<TilePath>() else {
        return (StatusCode::NOT_FOUND, "not the path of a tile\n").into_response();
    };
    // Nothing past what validators have cosigned is served: an auditor could not check it.
    let size = chain.checkpoint().map_or(0, |(size, _)| size);
    if !path.is_within(size) {
        return (StatusCode::NOT_FOUND, "the ledger has no such tile yet\n").into_response();
    }
    let read = tokio::task::spawn_blocking(move || chain.ledger().tile(&path)).await;
    match read {
        Ok(Ok(bytes)) if !bytes.is_empty() => (
            [
                (
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/octet-stream"),
                ),
                (header::CACHE_CONTROL, FOR_EVER),
            ],
            bytes,
        )
            .into_response(),
        Ok(Ok(_)) => StatusCode::NOT_FOUND.into_response(),
        // Not an error: the statement at /minimum-index says so too.
        Ok(Err(e @ tally_ledger::Error::Dropped { .. })) => {
            (StatusCode::GONE, format!("{e}; see /minimum-index\n")).into_response()
        }
        Ok(Err(e)) => {
            tracing::error!(error = %e, "a tile could not be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(e) => {
            tracing::error!(error = %e, "reading a tile failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
