//! What stands around every route: headers, limits, counting.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::render::{STYLE, Visit};
use super::router::Gateway;
use super::{OperatorToken, Problem};

/// No script, no frame, no other origin: the pages bring their one style sheet with them and need an icon and a form.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// Counts the request, bounds how many run and for how long, and hardens the answer's headers.
pub(super) async fn guard(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let visit = Visit::of(&request);
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
    if let Some(problem) = response.extensions_mut().remove::<Problem>()
        && visit.wants_page()
    {
        let mut page = gateway.problem_page(&problem, &visit);
        // What the problem's own headers say stands: when to come back, what is allowed.
        for (name, value) in response.headers() {
            if !page.headers().contains_key(name)
                && *name != CONTENT_TYPE
                && *name != CONTENT_LENGTH
            {
                page.headers_mut().insert(name, value.clone());
            }
        }
        response = page;
    }
    harden(&mut response, gateway.config.is_https());
    let seconds = start.elapsed().as_secs_f64();
    gateway
        .metrics
        .count_request(&route, response.status().as_u16(), seconds);
    response
}

fn harden(response: &mut Response, https: bool) {
    let headers = response.headers_mut();
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert_with(|| POLICY.clone());
    let mut set = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
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

/// Asks for the operator's token where one is set; else lets in who calls from this machine and not through a proxy.
pub(super) async fn operators_only(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let sent = headers
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let allowed = |token: &OperatorToken| sent.is_some_and(|sent| token.matches(sent));
    let token = gateway.config.operator_token.as_ref();
    let is_local = || {
        request
            .extensions()
            .get::<ConnectInfo<SocketAddr>>()
            .is_some_and(|peer| peer.0.ip().to_canonical().is_loopback())
            && ["forwarded", "x-forwarded-for", "x-real-ip", "via"]
                .iter()
                .all(|name| !headers.contains_key(*name))
    };
    if token.map_or_else(is_local, allowed) {
        return next.run(request).await;
    }
    let expected = if token.is_some() {
        "expected the operator token as Authorization: Bearer"
    } else {
        "no operator token is set, so only callers on the node's own machine are answered"
    };
    let status = if token.is_some() {
        StatusCode::UNAUTHORIZED
    } else {
        StatusCode::FORBIDDEN
    };
    let mut response =
        Problem::new(status, "operators-only", "For operators only", expected).into_response();
    if token.is_some() {
        response
            .headers_mut()
            .insert("www-authenticate", HeaderValue::from_static("Bearer"));
    }
    response
}
