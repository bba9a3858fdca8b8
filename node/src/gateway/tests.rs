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
use crate::scans::testkit::{BRAND, GTIN, GTIN_OF_NOBODY, TestNode, node, pair, signing_key};
use crate::scans::{Signer, verify_receipt};

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

    async fn press(&self, path: &str, token: &str) -> Answer {
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.send("POST", path, headers, &format!("token={token}"))
            .await
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

#[tokio::test]
async fn the_api_gives_every_verdict_with_a_receipt() {
    let dir = dir();
    let site = site(dir.path()).await;
    let first = site
        .post(
            &json!({
                "code": format!("HTTPS://ID.EXAMPLE.CN/01/{GTIN}/21/G1?17=270101"),
                "place": {"country": "cn", "region": "Sichuan"},
            }),
            "",
        )
        .await;
    assert_eq!(
        (first.status, first.verdict()),
        (200, said("genuine_first", 1))
    );
    let json = first.json();
    let receipt = STANDARD
        .decode(json["receipt"].as_str().expect("receipt"))
        .expect("base64");
    let receipt = verify_receipt(&receipt, &signing_key(BRAND).public_key()).expect("receipt");
    assert_eq!(receipt.scan.to_string(), json["scan_id"]);
    assert_eq!(json["anchor"]["state"], "pending");
    assert_eq!(json["product"]["brand"], "Highland");
    let second = site.scan("G1").await;
    assert_eq!(second.verdict(), said("genuine_repeat", 2));
    assert_eq!(second.json()["first_place"], "Sichuan, CN");
    assert_eq!(second.json()["first_scanned_at"], json["scanned_at"]);
    assert_eq!(site.scan("H1").await.verdict(), said("not_released", 0));
    assert_eq!(site.scan("R1").await.verdict(), said("recalled", 0));
    let unknown = site.scan("X1").await;
    assert_eq!(unknown.verdict(), said("unknown", 0));
    let of_nobody = site
        .post(&json!({"gtin": GTIN_OF_NOBODY, "serial": "G1"}), "")
        .await;
    assert_eq!(of_nobody.verdict(), said("unknown", 0));
    assert_eq!(of_nobody.json()["product"], Value::Null);
    let claim = site
        .post(&json!({"gtin": GTIN, "serial": "G1", "claim": "RIGHT"}), "")
        .await;
    assert_eq!(claim.json()["claim"], "right");
    // Every answer has the same keys.
    let keys = |a: &Answer| -> Vec<String> {
        a.json()
            .as_object()
            .expect("object")
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(keys(&unknown), keys(&first));

    let id = json["scan_id"].as_str().expect("id");
    let got = site.get(&format!("/v1/scans/{id}")).await;
    assert_eq!(got.json(), json);
    let proof = site.get(&format!("/v1/scans/{id}/proof")).await;
    assert_eq!(proof.status, 409);
    assert!(proof.header("retry-after").is_some());
    assert_eq!(site.get("/v1/scans/00").await.status, 404);
    let none = format!("/v1/scans/{}", "0".repeat(32));
    assert_eq!(site.get(&none).await.status, 404);
}

#[tokio::test]
async fn looking_never_consumes_first_and_the_button_counts_once() {
    let dir = dir();
    let site = site(dir.path()).await;
    let path = format!("/01/{GTIN}/21/G1");
    let page = site.get(&path).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(page.body.contains("nobody has checked it yet"));
    assert!(page.body.contains("Tea, 100 g &#60;green&#62;"));
    for (method, headers) in [
        ("HEAD", ""),
        ("GET", "Sec-Purpose: prefetch;prerender\r\n"),
        ("GET", "User-Agent: WhatsApp/2\r\n"),
        ("GET", ""),
    ] {
        assert_eq!(site.send(method, &path, headers, "").await.status, 200);
    }
    assert_eq!(site.node.service.log().size(), 0);

    let pressed = site.press(&path, &token(&page)).await;
    assert_eq!(pressed.status, 303);
    let to = pressed.header("location").expect("location").to_owned();
    for _ in 0..2 {
        let result = site.get(&to).await;
        assert!(
            result.body.contains("you are the first to check it"),
            "{}",
            result.body
        );
    }
    // Pressing twice is one scan.
    let again = site.press(&path, &token(&page)).await;
    assert_eq!(again.header("location"), Some(to.as_str()));
    assert_eq!(site.node.service.log().size(), 1);
    // A token that is not from a page of this code counts nothing.
    for bad in [
        token(&site.get(&format!("/01/{GTIN}/21/G2")).await),
        "x".into(),
        String::new(),
    ] {
        let answer = site.press(&path, &bad).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some(path.as_str()))
        );
    }
    assert_eq!(site.node.service.log().size(), 1);
    let page = site.get(&path).await;
    assert!(page.body.contains("It was checked once before"));
    let second = site.press(&path, &token(&page)).await;
    let result = site.get(second.header("location").expect("location")).await;
    assert!(result.body.contains("Genuine code, checked before"));
}

#[tokio::test]
async fn pages_read_links_as_gs1_says_and_escape_what_they_show() {
    let dir = dir();
    let site = site(dir.path()).await;
    for path in [
        format!("/01/{GTIN}/10/LOT1/21/G1?17=270101&x=y"),
        format!("/01/{GTIN}/22/A/10/B/21/G1"),
        format!("/01/{GTIN}/21/%3Cscript%3E%22%27%26"),
    ] {
        let page = site.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.body.contains("<script"));
    }
    for (path, status, reason) in [
        ("/01/09521234543214/21/G1".to_owned(), 400, "check digit"),
        (format!("/01/{GTIN}"), 404, "/21/"),
        (format!("/01/{GTIN}/21/G1/10/B"), 404, "link"),
        (format!("/01/{GTIN}/21/G1/"), 404, "link"),
        (format!("/01/{GTIN}/21/{}", "A".repeat(21)), 404, "(21)"),
    ] {
        let page = site.get(&path).await;
        assert_eq!(page.status, status, "{path}");
        assert!(page.body.contains(reason), "{path}: {}", page.body);
    }
    let typed = site.get("/check?gtin=09521234543213&serial=g1-%2F+").await;
    assert_eq!(
        (typed.status, typed.header("location")),
        (303, Some("/01/09521234543213/21/g1%2F"))
    );
    assert_eq!(site.get("/check?gtin=1&serial=1").await.status, 400);
    assert_eq!(site.get("/").await.status, 200);
}

#[tokio::test]
async fn an_idempotency_key_repeats_the_answer_or_refuses() {
    let dir = dir();
    let site = site(dir.path()).await;
    let body = json!({"gtin": GTIN, "serial": "G1"});
    let key = "Idempotency-Key: abc\r\n";
    let first = site.post(&body, key).await;
    let again = site.post(&body, key).await;
    assert_eq!(first.body, again.body);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let other = site.post(&json!({"gtin": GTIN, "serial": "G2"}), key).await;
    assert_eq!(other.status, 422);
    assert_eq!(
        other.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(other.json()["type"], "urn:tally:problem:idempotency-key");
    let long = format!("Idempotency-Key: {}\r\n", "k".repeat(256));
    assert_eq!(site.post(&body, &long).await.status, 400);
    assert_eq!(site.node.service.log().size(), 1);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_restart() {
    let dir = dir();
    let mut acknowledged = Vec::new();
    {
        let site = site(dir.path()).await;
        for i in 0..10 {
            let key = format!("Idempotency-Key: {i}\r\n");
            let body = json!({"gtin": GTIN, "serial": format!("G{}", i % 4)});
            acknowledged.push((
                body.clone(),
                key.clone(),
                site.post(&body, &key).await.json(),
            ));
        }
    }
    // The first node's tasks let go of the log when they end.
    let start = Instant::now();
    while crate::scans::ScanLog::open(
        &crate::scans::ScanLogConfig::new(dir.path(), 0),
        &crate::scans::testkit::storage_key(),
    )
    .is_err()
    {
        assert!(start.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let site = site(dir.path()).await;
    for (body, key, json) in acknowledged {
        let id = json["scan_id"].as_str().expect("id");
        assert_eq!(site.get(&format!("/v1/scans/{id}")).await.json(), json);
        assert_eq!(site.post(&body, &key).await.json(), json);
    }
    assert_eq!(site.scan("G0").await.verdict(), said("genuine_repeat", 4));
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason_and_the_node_stays_up() {
    let dir = dir();
    let site = site(dir.path()).await;
    for (body, status, reason) in [
        (
            json!({"gtin": "09521234543214", "serial": "G1"}),
            400,
            "check digit",
        ),
        (
            json!({"gtin": "952123454321", "serial": "G1"}),
            400,
            "14 digits",
        ),
        (
            json!({"code": "https://h/01/09521234543214/21/G1"}),
            400,
            "check digit",
        ),
        (json!({"code": "hello"}), 400, "no scheme"),
        (json!({"gtin": GTIN}), 400, "serial"),
        (
            json!({"gtin": GTIN, "serial": "G1", "code": "x"}),
            400,
            "serial",
        ),
        (
            json!({"gtin": GTIN, "serial": "G1", "surprise": 1}),
            400,
            "JSON",
        ),
        (json!({"gtin": GTIN, "serial": 5}), 400, "JSON"),
        (json!([1, 2]), 400, "JSON"),
        (
            json!({"gtin": GTIN, "serial": "G1", "place": {"country": "xyz"}}),
            400,
            "country",
        ),
        (
            json!({"gtin": GTIN, "serial": "G1", "claim": "c".repeat(33)}),
            400,
            "claim",
        ),
        (json!({"code": "x".repeat(66_000)}), 413, "limit"),
    ] {
        let answer = site.post(&body, "").await;
        assert_eq!(answer.status, status, "{reason}: {}", answer.body);
        assert!(
            answer.json()["detail"]
                .as_str()
                .expect("detail")
                .contains(reason)
        );
    }
    let secret = site.post(&json!({"claim": {"SECRET": 1}}), "").await;
    assert!(!secret.body.contains("SECRET"));
    let plain = site.send("POST", "/v1/scans", "", "{}").await;
    assert_eq!(plain.status, 415);
    assert_eq!(site.get("/v1/scans").await.status, 405);
    assert_eq!(site.send("DELETE", "/01/1/21/1", "", "").await.status, 405);
    assert_eq!(site.get("/nothing").await.status, 404);
    assert_eq!(site.get("/nothing").await.json()["status"], 404);
    let huge = "POST /v1/scans HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{";
    assert_eq!(site.raw(huge.as_bytes()).await.map(|a| a.status), Some(413));
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        [b"GET /".as_slice(), &[b'a'; 200_000], b" HTTP/1.1\r\n\r\n"].concat(),
        b"POST /v1/scans HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\nConnection: close\r\n\r\nzz\r\n".to_vec(),
        b"GET /01/%00/21/%ff%fe HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec(),
    ] {
        if let Some(answer) = site.raw(&garbage).await {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
    for _ in 0..50 {
        let mut bytes = vec![0; 300];
        OsRng.fill_bytes(&mut bytes);
        bytes.extend_from_slice(b"\r\n\r\n");
        if let Some(answer) = site.raw(&bytes).await {
            assert!((400..500).contains(&answer.status));
        }
    }
    assert_eq!(site.get("/healthz").await.status, 200);
    assert_eq!(site.node.service.log().size(), 0);
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let dir = dir();
    let site = site_with(
        node(BRAND, dir.path()),
        |c| c.base_url = "https://id.example.cn".into(),
        ServeLimits::default(),
    )
    .await;
    for path in [
        "/",
        "/nothing",
        "/v1/status",
        "/01/1/21/1",
        "/more",
        "/healthz",
    ] {
        let answer = site.get(path).await;
        let policy = answer.header("content-security-policy").expect("policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("strict-transport-security", "max-age=31536000"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
    }
    let style = site.get("/assets/style.css").await;
    assert_eq!(style.header("cache-control"), Some("public, max-age=3600"));
    assert_eq!(
        style.header("content-type"),
        Some("text/css; charset=utf-8")
    );
}

#[tokio::test]
async fn a_read_only_node_says_why_and_still_shows_what_it_knows() {
    let dir = dir();
    let site = site(dir.path()).await;
    let scan = site.scan("G1").await.json();
    *site.status.read_only.lock().expect("status") = Some("the disk is full".into());
    let refused = site.scan("G2").await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert!(refused.body.contains("the disk is full"));
    let page = site.get(&format!("/01/{GTIN}/21/G1")).await;
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("<form"));
    let id = scan["scan_id"].as_str().expect("id");
    assert_eq!(site.get(&format!("/v1/scans/{id}")).await.json(), scan);
    assert_eq!(site.get("/readyz").await.status, 503);
    *site.status.read_only.lock().expect("status") = None;
    assert_eq!(site.get("/readyz").await.status, 200);
    site.status.unready.store(true, Ordering::SeqCst);
    let unready = site.get("/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("no quorum"));
    assert_eq!(site.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_source_that_guesses_is_slowed_and_right_codes_are_still_answered() {
    let dir = dir();
    let slow = BackoffConfig {
        free_failures: 3,
        min_delay: Duration::from_millis(150),
        max_delay: Duration::from_millis(150),
        max_waiting: 2,
        ..BackoffConfig::default()
    };
    let site = site_with(
        node(BRAND, dir.path()),
        |c| c.backoff = slow,
        ServeLimits::default(),
    )
    .await;
    for i in 0..6 {
        assert_eq!(site.scan(&format!("X{i}")).await.status, 200);
    }
    let start = Instant::now();
    assert_eq!(site.scan("G1").await.verdict(), said("genuine_first", 1));
    assert!(start.elapsed() >= Duration::from_millis(150));
    let start = Instant::now();
    assert_eq!(site.get(&format!("/01/{GTIN}/21/G1")).await.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(150));
    let many = futures::future::join_all((0..8).map(|_| site.scan("G1"))).await;
    let refused: Vec<_> = many.iter().filter(|a| a.status == 429).collect();
    assert!(!refused.is_empty() && refused.len() < 8);
    assert!(refused.iter().all(|a| a.header("retry-after").is_some()));
    let status = site.get("/v1/status").await.json();
    assert_eq!(status["scans"]["slowed_sources"], 1);
}

#[tokio::test]
async fn slow_clients_and_crowds_do_not_hold_the_node() {
    let dir = dir();
    let limits = ServeLimits {
        header_timeout: Duration::from_millis(200),
        max_connections_per_address: 4,
        ..ServeLimits::default()
    };
    let timeout = Duration::from_millis(300);
    let site = site_with(
        node(BRAND, dir.path()),
        |c| c.request_timeout = timeout,
        limits,
    )
    .await;
    let start = Instant::now();
    let mut loris = TcpStream::connect(site.addr).await.expect("connect");
    loris
        .write_all(b"GET / HTTP/1.1\r\nHost:")
        .await
        .expect("write");
    let mut rest = Vec::new();
    let _ = loris.read_to_end(&mut rest).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    let body = "POST /v1/scans HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";
    assert_eq!(site.raw(body.as_bytes()).await.map(|a| a.status), Some(408));

    let mut crowd = Vec::new();
    for _ in 0..4 {
        crowd.push(TcpStream::connect(site.addr).await.expect("connect"));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let one_more = site
        .raw(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await;
    assert!(one_more.is_none());
    drop(crowd);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(site.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn operators_routes_want_the_token_and_hold_no_codes() {
    let dir = dir();
    let site = site_with(
        node(BRAND, dir.path()),
        |c| c.operator_token = Some(OperatorToken::new("s3cret".into())),
        ServeLimits::default(),
    )
    .await;
    site.scan("GCANARY").await;
    for path in ["/v1/status", "/metrics"] {
        assert_eq!(site.get(path).await.status, 401);
        let wrong = site
            .send("GET", path, "Authorization: Bearer x\r\n", "")
            .await;
        assert_eq!(wrong.status, 401);
        let right = site
            .send("GET", path, "Authorization: Bearer s3cret\r\n", "")
            .await;
        assert_eq!(right.status, 200);
        assert!(!right.body.contains("GCANARY") && !right.body.contains("127.0.0.1"));
    }
    let metrics = site
        .send("GET", "/metrics", "Authorization: Bearer s3cret\r\n", "")
        .await;
    for line in [
        "tally_scans_total{verdict=\"genuine_first\",channel=\"post\"} 1",
        "tally_scan_log_size 1",
        "tally_http_requests_total{route=\"/v1/scans\",status=\"200\"} 1",
    ] {
        assert!(metrics.body.contains(line), "{line}: {}", metrics.body);
    }
    assert_eq!(site.get("/healthz").await.status, 200);
    assert_eq!(site.get("/more").await.body, "more");
}

#[tokio::test]
async fn a_base_path_works_with_and_without_a_proxy_that_strips_it() {
    let dir = dir();
    let site = site_with(
        node(BRAND, dir.path()),
        |c| c.base_url = "https://id.example.cn/tally".into(),
        ServeLimits::default(),
    )
    .await;
    for prefix in ["", "/tally"] {
        let path = format!("{prefix}/01/{GTIN}/21/G1");
        let page = site.get(&path).await;
        assert!(page.body.contains("href=\"/tally/assets/style.css\""));
        let pressed = site.press(&path, &token(&page)).await;
        assert!(
            pressed
                .header("location")
                .is_some_and(|l| l.starts_with("/tally/s/"))
        );
        assert_eq!(
            site.get(&format!("{prefix}/assets/style.css")).await.status,
            200
        );
    }
}

#[tokio::test]
async fn a_code_of_another_member_is_shown_and_scanned_over_the_wire() {
    let (a, b) = (dir(), dir());
    let (brand, media) = pair(a.path(), b.path());
    let site = site_with(
        media,
        |c| c.member_name = "media".into(),
        ServeLimits::default(),
    )
    .await;
    let path = format!("/01/{GTIN}/21/G1");
    let page = site.get(&path).await;
    assert!(page.body.contains("nobody has checked it yet"));
    assert_eq!(brand.service.log().size(), 0);
    assert_eq!(site.scan("G1").await.verdict(), said("genuine_first", 1));
    site.node.wire.cut.store(true, Ordering::SeqCst);
    assert_eq!(
        site.scan("G1").await.verdict(),
        said("cannot_verify_now", 0)
    );
    assert_eq!(site.get(&path).await.status, 200);
}

/// Serves on the port of `TALLY_PAGES_PORT` for looking at the pages in a browser; run it alone with `--ignored`.
#[tokio::test]
#[ignore = "for looking at"]
async fn serve_the_pages() {
    let Ok(port) = std::env::var("TALLY_PAGES_PORT") else {
        println!("skipped: TALLY_PAGES_PORT is not set");
        return;
    };
    let dir = dir();
    let node = node(BRAND, dir.path());
    let mut config = GatewayConfig::new(
        &format!("http://127.0.0.1:{port}"),
        "spring-harvest",
        "highland-tea",
    );
    config.test_network = true;
    let gateway = Gateway::new(
        config,
        Arc::clone(&node.service),
        Arc::new(Status::default()),
        Registry::default(),
    );
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .await
        .expect("bind");
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(
        listener,
        gateway.router(Router::new()),
        ServeLimits::default(),
        stop.clone(),
    ));
    tokio::time::sleep(Duration::from_secs(90)).await;
    stop.cancel();
    task.await.expect("serve");
}
