//! `POST /v1/events`: what dealers and shops say of the units in their hands.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::api::{PlaceBody, is_json, media_type, read_body};
use super::router::Gateway;
use super::{Problem, read_code};
use crate::scans::{EventKind, EventOutcome, EventRequest, ScanError};

/// The most codes of one request: a pallet's worth; more come in several.
const MAX_CODES: usize = 500;

/// Body of `POST /v1/events`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsBody {
    event: String,
    codes: Vec<String>,
    place: Option<PlaceBody>,
}

/// Every key is there in every answer.
#[derive(Serialize)]
struct EventsView {
    event: &'static str,
    dealer: String,
    /// Codes whose event stands in the log now, said again or not.
    taken: usize,
    results: Vec<ResultView>,
}

#[derive(Serialize)]
struct ResultView {
    code: String,
    result: &'static str,
    sold_before: Option<bool>,
}

/// The dealer whose key came with the request.
async fn dealer(gateway: &Gateway, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let key = headers.get(AUTHORIZATION).and_then(|key| key.to_str().ok());
    let key = key.and_then(|key| key.strip_prefix("Bearer "));
    match (&gateway.config.dealers, key) {
        (Some(dealers), Some(key)) => dealers.name_of(key).await.map_err(|error| {
            tracing::warn!(%error, "a dealer's key cannot be looked up now");
            let reason = "dealers cannot be looked up now".to_owned();
            ScanError::IndexAway { reason }.into()
        }),
        _ => Ok(None),
    }
}

/// Takes the events of a request, all in one group if nothing else comes. If any cannot be taken now, none is answered: the request is to be
/// sent again, and what was taken already is not taken twice.
pub(super) async fn post(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let Some(dealer) = dealer(&gateway, &parts.headers).await? else {
        let mut response = Problem::new(
            StatusCode::UNAUTHORIZED,
            "dealers-only",
            "For dealers only",
            "expected the key of a dealer as Authorization: Bearer",
        )
        .into_response();
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        return Ok(response);
    };
    let body = read_body(Request::new(body)).await?;
    if !is_json(&parts.headers) {
        return Err(media_type());
    }
    let body: EventsBody = serde_json::from_slice(&body).map_err(|e| {
        Problem::input(format!(
            "the body is not the expected JSON object: event, codes; place is optional: {e}"
        ))
    })?;
    let kind = EventKind::from_name(&body.event)
        .ok_or_else(|| Problem::input("event: expected sell or receive"))?;
    if body.codes.is_empty() || body.codes.len() > MAX_CODES {
        return Err(Problem::input(format!("codes: expected 1 to {MAX_CODES}")));
    }
    let place = body.place.map(PlaceBody::place).transpose()?;
    if let Some(reason) = gateway.status.read_only() {
        return Err(ScanError::ReadOnly { reason }.into());
    }
    let _turn = gateway.enter_dealer(&dealer).await?;
    let results = futures::future::join_all(body.codes.into_iter().map(|text| async {
        let Ok(code) = read_code(&text) else {
            return Ok(ResultView::new(text, "not_a_code", None));
        };
        let outcome = gateway.service.event(EventRequest {
            kind,
            code,
            dealer: dealer.clone(),
            place: place.clone(),
        });
        Ok(match outcome.await {
            Ok(EventOutcome::Taken { sold_before }) => {
                ResultView::new(text, "taken", Some(sold_before))
            }
            Ok(EventOutcome::Again) => ResultView::new(text, "again", None),
            Ok(EventOutcome::Unknown) => {
                gateway.note_dealer(&dealer);
                ResultView::new(text, "unknown", None)
            }
            Err(ScanError::NotIssuer { .. }) => ResultView::new(text, "other_issuer", None),
            Err(error) => return Err(Problem::from(error)),
        })
    }))
    .await
    .into_iter()
    .collect::<Result<Vec<_>, Problem>>()?;
    let view = EventsView {
        event: kind.name(),
        dealer,
        taken: results
            .iter()
            .filter(|r| matches!(r.result, "taken" | "again"))
            .count(),
        results,
    };
    Ok(Json(view).into_response())
}

impl ResultView {
    const fn new(code: String, result: &'static str, sold_before: Option<bool>) -> Self {
        Self {
            code,
            result,
            sold_before,
        }
    }
}
