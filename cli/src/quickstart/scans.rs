//! Scans over HTTP, as a phone or a shop would make them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// One kept-open connection to a node.
pub(crate) struct Client {
    address: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(base_url: &str) -> Result<Self> {
        let address = base_url
            .strip_prefix("http://")
            .context("an http:// address")?
            .to_owned();
        let stream = TcpStream::connect(&address)
            .await
            .with_context(|| address.clone())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { address, sender })
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Bytes)> {
        let bytes = body.map(|b| b.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(bytes)))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|e| anyhow::anyhow!("{e}"))?
            .to_bytes();
        Ok((status, body))
    }

    /// Scans a code; gives its verdict, once the node has acknowledged it.
    pub(crate) async fn scan(&mut self, code: &str) -> Result<String> {
        let (status, body) = self
            .send(Method::POST, "/v1/scans", Some(json!({"code": code})))
            .await?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !status.is_success() {
            bail!("{status}: {value}");
        }
        if value["receipt"].is_null() {
            bail!("a scan without a receipt: {value}");
        }
        Ok(value["verdict"]
            .as_str()
            .context("an answer without a verdict")?
            .to_owned())
    }
}

/// Counts verdicts by name.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) verdicts: BTreeMap<String, u64>,
    /// Verdicts other than the one that was due.
    pub(crate) wrong: u64,
    /// Scans that were turned away because the source had tried too many wrong codes.
    pub(crate) slowed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, verdict: &str, due: &str) {
        self.wrong += u64::from(verdict != due);
        *self.verdicts.entry(verdict.to_owned()).or_default() += 1;
    }

    /// Adds what another one counted.
    pub(crate) fn merge(&mut self, other: Self) {
        self.wrong += other.wrong;
        self.slowed += other.slowed;
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.verdicts.values().sum()
    }
}
