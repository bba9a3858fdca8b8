//! The gateway over real sockets, with the store of scans in a folder of the test.

mod claims;
mod copies;
mod events;
mod hardening;
mod links;
mod places;
mod scanning;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prometheus_client::registry::Registry;
use rand_core::{OsRng, RngCore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::scans::testkit::{
    BRAND, EXPIRES, GTIN, GTIN_OF_NOBODY, RIGHT_CLAIM, TestNode, WRONG_CLAIM, node, pair,
    signing_key,
};
use crate::scans::{Clock as _, Signer, verify_receipt};

#[derive(Default)]
struct Status {
    unready: AtomicBool,
    read_only: Mutex<Option<String>>,
}

impl NodeStatus for Status {
    fn status(&self) -> Value {
        json!({"member": "brand"})
    }

    fn not_ready(&self) -> Vec<String> {
        if self.unready.load(Ordering::SeqCst) {
            vec!["no quorum".into()]
        } else {
            Vec::new()
        }
    }

    fn read_only(&self) -> Option<String> {
        self.read_only.lock().expect("status").clone()
    }
}

/// The real router on a real socket.
struct Site {
    addr: SocketAddr,
    status: Arc<Status>,
    node: TestNode,
    _stop: DropGuard,
}

async fn site(dir: &Path) -> Site {
    site_with(node(BRAND, dir), |_| {}, ServeLimits::default()).await
}

async fn site_with(
    node: TestNode,
    configure: impl FnOnce(&mut GatewayConfig),
    limits: ServeLimits,
) -> Site {
    let mut config = GatewayConfig::new("http://id.example.cn", "testnet", "brand");
    configure(&mut config);
    let status = Arc::new(Status::default());
    let gateway = Gateway::new(
        config,
        Arc::clone(&node.service),
        Arc::clone(&status) as Arc<dyn NodeStatus>,
        Registry::default(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("address");
    let stop = CancellationToken::new();
    let more = Router::new().route("/more", axum::routing::get(async || "more"));
    tokio::spawn(serve(listener, gateway.router(more), limits, stop.clone()));
    Site {
        addr,
        status,
        node,
        _stop: stop.drop_guard(),
    }
}

#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (n, v) = line.split_once(": ")?;
            n.eq_ignore_ascii_case(name).then_some(v)
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The kind of a problem document.
    fn problem(&self) -> String {
        let json = self.json();
        let kind = json["type"].as_str().unwrap_or_default();
        kind.trim_start_matches("urn:tally:problem:").to_owned()
    }

    fn verdict(&self) -> (String, u64) {
        let json = self.json();
        (
            json["verdict"].as_str().unwrap_or("none").to_owned(),
            json["count"].as_u64().unwrap_or(u64::MAX),
        )
    }
}

impl Site {
    /// Sends bytes and reads to the end; `None` if there is no HTTP answer.
    async fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.addr).await.expect("connect");
        // The node may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some(Answer {
            status: head.split(' ').nth(1)?.parse().ok()?,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.raw(request.as_bytes()).await.expect("an answer")
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", "").await
    }

    async fn post(&self, body: &Value, headers: &str) -> Answer {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        self.send("POST", "/v1/scans", &headers, &body.to_string())
            .await
    }

    async fn scan(&self, serial: &str) -> Answer {
        self.post(&json!({"gtin": GTIN, "serial": serial}), "")
            .await
    }

    /// As a browser asks.
    async fn person(&self, path: &str) -> Answer {
        self.send("GET", path, "Accept: text/html,*/*;q=0.8\r\n", "")
            .await
    }

    async fn press(&self, path: &str, token: &str) -> Answer {
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.send("POST", path, headers, &format!("token={token}"))
            .await
    }

    async fn claim(&self, path: &str, token: &str, claim: &str, after: &str) -> Answer {
        let headers =
            "Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: same-origin\r\n";
        let form = format!("token={token}&claim={claim}&after={after}");
        self.send("POST", path, headers, &form).await
    }
}

fn token(page: &Answer) -> String {
    let (_, rest) = page
        .body
        .split_once("name=\"token\" value=\"")
        .expect("a token");
    rest.split('"').next().expect("its end").to_owned()
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("temp dir")
}

fn said(verdict: &str, count: u64) -> (String, u64) {
    (verdict.to_owned(), count)
}
