//! How the node and its workers speak to an S3-compatible store: HTTP/1.1 without TLS, a connection a request.
//!
//! Requests are signed (AWS signature, version 4) and pages sealed, so what an open network shows is sizes and times. As with the
//! database, whoever wants TLS makes a tunnel.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::prefix::PrefixStore;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer: a page, or a list of a thousand.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The bucket and prefix of a URL (`BUCKET[/PREFIX]`), as a builder says where and who.
///
/// # Errors
/// What is missing.
pub(super) fn store(
    builder: AmazonS3Builder,
    place: &str,
) -> Result<PrefixStore<object_store::aws::AmazonS3>, String> {
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if !endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        return Err(
            "expected AWS_ENDPOINT=http://HOST[:PORT] in the environment; there is no TLS here, make a tunnel"
                .into(),
        );
    }
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let store = builder
        .with_bucket_name(bucket)
        .with_allow_http(true)
        .with_http_connector(Plain)
        .build()
        .map_err(|e| e.to_string())?;
    Ok(PrefixStore::new(store, prefix.trim_matches('/')))
}

#[derive(Debug)]
struct Plain;

impl HttpConnector for Plain {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(&'static str);

#[async_trait]
impl HttpService for Plain {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        timeout(DEADLINE, answer(request))
            .await
            .map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?
    }
}

async fn answer(request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let (mut parts, body) = request.into_parts();
    let wrong = |what| HttpError::new(HttpErrorKind::Unknown, Wrong(what));
    let uri = std::mem::take(&mut parts.uri);
    let authority = uri
        .authority()
        .ok_or_else(|| wrong("a URL without a host"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("a URL that is not http"));
    }
    let host = HeaderValue::from_str(authority.as_str());
    let host = host.map_err(|_| wrong("a host of another form"))?;
    parts.headers.insert(HOST, host);
    let path = uri.path_and_query().cloned();
    parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    let to = (authority.host(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(to)
        .await
        .map_err(|e| HttpError::new(HttpErrorKind::Connect, e))?;
    let failed = |e| HttpError::new(HttpErrorKind::Request, e);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // It ends with the answer, or with what is dropped here.
    tokio::spawn(connection);
    let request = Request::from_parts(parts, body);
    let (parts, body) = sender
        .send_request(request)
        .await
        .map_err(failed)?
        .into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|e| HttpError::new_boxed(HttpErrorKind::Interrupted, e))?;
    Ok(HttpResponse::from_parts(parts, body.to_bytes().into()))
}
