//! Errors at the HTTP border: problem documents (RFC 9457), and from which errors they come.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::LinkError;
use crate::scans::ScanError;

/// What is told to a client whose request is not done. Holds no secret and nothing of other clients.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// The last part of the problem's type.
    pub kind: &'static str,
    /// What it is, the same for all of the kind.
    pub title: &'static str,
    /// What it is in this case.
    pub detail: String,
    /// After how many seconds to try again.
    pub retry_after_s: Option<u64>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    pub(crate) const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(super) fn input(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "input",
            "The request is not of its form",
            detail,
        )
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The request body is too large",
            "the body is over the limit of this node",
        )
    }

    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "The node has too much to do",
            detail,
        )
        .retry_after(1)
    }

    pub(super) fn slow_down(seconds: u64) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "slow-down",
            "Too many requests",
            "too many codes are being tried from this address",
        )
        .retry_after(seconds)
    }

    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The node has a fault",
            "the node's log says more",
        )
    }

    /// `Retry-After`, if there is one.
    pub(super) fn put_retry_after(&self, response: &mut Response) {
        if let Some(seconds) = self.retry_after_s {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: format!("urn:tally:problem:{}", self.kind),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        self.put_retry_after(&mut response);
        // For the guard, which makes a page of it if a person asked.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<LinkError> for Problem {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Code(error) => error.into(),
            LinkError::Link(tally_codes::Error::Element { ai, what }) if ai == "01" => Self::new(
                StatusCode::BAD_REQUEST,
                "gtin",
                "The GTIN is not one",
                format!("GTIN: {what}"),
            ),
            other => Self::new(
                StatusCode::BAD_REQUEST,
                "code",
                "The code cannot be read",
                other.to_string(),
            ),
        }
    }
}

impl From<ScanError> for Problem {
    fn from(error: ScanError) -> Self {
        let detail = error.to_string();
        match error {
            ScanError::Gtin(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "gtin",
                "The GTIN is not one",
                detail,
            ),
            ScanError::Input { .. } => Self::input(detail),
            ScanError::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key",
                "The idempotency key belongs to another request",
                detail,
            ),
            ScanError::ReadOnly { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "read-only",
                "The node takes no scans now",
                detail,
            )
            .retry_after(30),
            ScanError::Busy { .. } | ScanError::Closed | ScanError::IndexAway { .. } => {
                Self::busy(detail)
            }
            ScanError::NotFound => Self::not_found(detail),
            ScanError::NotAnchored => Self::new(
                StatusCode::CONFLICT,
                "not-anchored",
                "The scan is not anchored yet",
                detail,
            )
            .retry_after(3),
            _ => {
                tracing::error!(%error, "a request failed");
                Self::internal()
            }
        }
    }
}
