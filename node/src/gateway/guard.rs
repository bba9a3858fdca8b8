//! What stands around every route: headers, limits, counting.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::router::Gateway;
use super::{OperatorToken, Problem};

/// No script, no frame, no other origin: the pages need a style sheet and a form.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// Counts the request, bounds how many run and for how long, and hardens the answer's headers.
pub(super) async fn guard(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other".to_owned(), |p| p.as_str().to_owned());
    let too_large = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok())
        .is_some_and(|n| n > gateway.config.max_body_bytes as u64);
    let mut response = match gateway.permits.try_acquire() {
        // Said before the body is sent, not when the limit is reached.
        _ if too_large => Problem::too_large().into_response(),
        Err(_) => Problem::busy("too many requests are being worked on").into_response(),
        Ok(_permit) => tokio::time::timeout(gateway.config.request_timeout, next.run(request))
            .await
            .unwrap_or_else(|_| {
                Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "timeout",
                    "The request took too long",
                    "the request, its body included, was not done in time",
                )
                .retry_after(1)
                .into_response()
            }),
    };
    harden(&mut response, gateway.config.is_https());
    let seconds = start.elapsed().as_secs_f64();
    gateway
        .metrics
        .count_request(&route, response.status().as_u16(), seconds);
    response
}

fn harden(response: &mut Response, https: bool) {
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    );
    // A code's page must not be found by searching.
    set(HeaderName::from_static("x-robots-tag"), "noindex, nofollow");
    set(CACHE_CONTROL, "no-store");
    if https {
        set(STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}

/// Asks for the operator's token where one is set.
pub(super) async fn operators_only(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    let sent = request
        .headers()
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let allowed = |token: &OperatorToken| sent.is_some_and(|sent| token.matches(sent));
    if gateway.config.operator_token.as_ref().is_none_or(allowed) {
        return next.run(request).await;
    }
    let mut response = Problem::new(
        StatusCode::UNAUTHORIZED,
        "operators-only",
        "For operators only",
        "expected the operator token as Authorization: Bearer",
    )
    .into_response();
    response
        .headers_mut()
        .insert("www-authenticate", HeaderValue::from_static("Bearer"));
    response
}
