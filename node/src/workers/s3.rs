//! How the node and its workers speak to an S3-compatible store: HTTP/1.1, a connection a request, over TLS where the endpoint says
//! `https`.
//!
//! Requests are signed (AWS signature, version 4) and pages sealed, so what an open network shows without TLS is sizes and times. The
//! authorities that TLS trusts are those of the system, or of the file that `SSL_CERT_FILE` names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpService,
};
use object_store::prefix::PrefixStore;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Longest answer: a page, or a list of a thousand.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Names the file with the authorities that are trusted, as PEM.
const AUTHORITIES: &str = "SSL_CERT_FILE";
/// Where systems keep it: Debian and Arch, Fedora, SUSE, Alpine.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The bucket and prefix of a URL (`BUCKET[/PREFIX]`), as a builder says where and who, trusting the authorities of the system.
///
/// # Errors
/// What is missing.
pub(super) fn store(
    builder: AmazonS3Builder,
    place: &str,
) -> Result<PrefixStore<object_store::aws::AmazonS3>, String> {
    store_trusting(builder, place, authorities)
}

/// As [`store`], trusting the authorities of a file, which is asked for where the endpoint says `https`.
///
/// # Errors
/// What is missing.
pub(super) fn store_trusting(
    builder: AmazonS3Builder,
    place: &str,
    authorities: impl FnOnce() -> Result<PathBuf, String>,
) -> Result<PrefixStore<object_store::aws::AmazonS3>, String> {
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let tls = match endpoint.as_deref().and_then(|e| e.split_once("://")) {
        Some(("http", _)) => None,
        Some(("https", _)) => Some(connector(&authorities()?)?),
        _ => {
            return Err(
                "expected AWS_ENDPOINT=https://HOST[:PORT] (or http://) in the environment".into(),
            );
        }
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let store = builder
        .with_bucket_name(bucket)
        .with_allow_http(tls.is_none())
        .with_http_connector(Client { tls })
        .build()
        .map_err(|e| e.to_string())?;
    Ok(PrefixStore::new(store, prefix.trim_matches('/')))
}

/// The file with the authorities that are trusted.
fn authorities() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(AUTHORITIES) {
        return Ok(named.into());
    }
    let there = SYSTEM_AUTHORITIES.iter().find(|p| Path::new(p).is_file());
    there.map(PathBuf::from).ok_or_else(|| {
        format!("this system has no file of certificate authorities where one is expected: name it by {AUTHORITIES}")
    })
}

/// TLS 1.3 that trusts the authorities of a file.
fn connector(file: &Path) -> Result<TlsConnector, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| wrong(&e))? {
        // A system may hold some of a form that is not supported; what matters is whether the server's is among the others.
        let _ = roots.add(certificate.map_err(|e| wrong(&e))?);
    }
    if roots.is_empty() {
        return Err(wrong(&"no certificate authority in it"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[derive(Clone)]
struct Client {
    /// Where the endpoint says `https`.
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl HttpConnector for Client {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(&'static str);

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        timeout(DEADLINE, self.answer(request))
            .await
            .map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?
    }
}

impl Client {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        let wrong = |what| HttpError::new(HttpErrorKind::Unknown, Wrong(what));
        let uri = std::mem::take(&mut parts.uri);
        let authority = uri
            .authority()
            .ok_or_else(|| wrong("a URL without a host"))?;
        let (scheme, port) = match &self.tls {
            Some(_) => ("https", 443),
            None => ("http", 80),
        };
        if uri.scheme_str() != Some(scheme) {
            return Err(wrong("a URL of another scheme than the endpoint's"));
        }
        let host = HeaderValue::from_str(authority.as_str());
        let host = host.map_err(|_| wrong("a host of another form"))?;
        parts.headers.insert(HOST, host);
        let path = uri.path_and_query().cloned();
        parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        let refused = |e| HttpError::new(HttpErrorKind::Connect, e);
        let to = (authority.host(), authority.port_u16().unwrap_or(port));
        let stream = TcpStream::connect(to).await.map_err(refused)?;
        let Some(tls) = &self.tls else {
            return exchange(stream, parts, body).await;
        };
        // An IPv6 address stands in brackets.
        let name = authority.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|_| wrong("a host that is no name"))?;
        let stream = tls.connect(name, stream).await.map_err(refused)?;
        exchange(stream, parts, body).await
    }
}

/// One request and its answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    parts: Parts,
    body: HttpRequestBody,
) -> Result<HttpResponse, HttpError> {
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

/// Makes a bucket, unsigned, at a server that a test has started; whether it is there.
#[cfg(test)]
pub(super) async fn make_bucket(url: &str, trusted: Option<&Path>) -> bool {
    let client = Client {
        tls: trusted.map(|file| connector(file).unwrap()),
    };
    let request = Request::put(url).header("content-length", "0");
    let made = client.answer(request.body(HttpRequestBody::empty()).unwrap());
    made.await.is_ok_and(|answer| answer.status().is_success())
}
