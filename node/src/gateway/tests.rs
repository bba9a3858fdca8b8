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
    BRAND, GTIN, GTIN_OF_NOBODY, RIGHT_CLAIM, TestNode, WRONG_CLAIM, node, pair, signing_key,
};
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
        .post(
            &json!({"gtin": GTIN, "serial": "G1", "claim": RIGHT_CLAIM}),
            "",
        )
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
            result.body.contains("you are the first to check it")
                && result.body.contains("name=\"claim\""),
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
    assert!(
        page.body.contains("It was checked once before"),
        "{}",
        page.body
    );
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
        (format!("/01/{GTIN_OF_NOBODY}"), 404, "not registered"),
        (format!("/01/{GTIN}/21/G1/10/B"), 400, "link"),
        (format!("/01/{GTIN}/21/G1/"), 400, "slash"),
        (format!("/01/{GTIN}/21/{}", "A".repeat(21)), 400, "(21)"),
        ("/s/".to_owned(), 404, "does not exist"),
        (format!("/s/{}", "0".repeat(32)), 404, "does not exist"),
        ("/s/x".to_owned(), 404, "does not exist"),
        ("/check?code=hello".to_owned(), 400, "14 digits"),
        ("/check".to_owned(), 400, "14 digits"),
    ] {
        let page = site.person(&path).await;
        assert_eq!(page.status, status, "{path}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8"),
            "{path}"
        );
        assert!(page.body.contains(reason), "{path}: {}", page.body);
        // A program is told the same in JSON.
        let document = site
            .send("GET", &path, "Accept: application/json\r\n", "")
            .await;
        assert_eq!(document.status, status, "{path}");
        assert_eq!(
            document.header("content-type"),
            Some("application/problem+json"),
            "{path}"
        );
        assert_eq!(document.json()["status"], status);
    }
    let product = site.person(&format!("/01/{GTIN}")).await;
    assert_eq!(product.status, 200);
    assert!(product.body.contains("Tea, 100 g &#60;green&#62;") && !product.body.contains("<form"));
    for (typed, to) in [
        ("09521234543213+g1-%2F+", "/01/09521234543213/21/g1-%2F"),
        (
            "%2801%2909521234543213%2821%29G1",
            "/01/09521234543213/21/G1",
        ),
        (
            "https%3A%2F%2Fid.example.cn%2F01%2F09521234543213%2F21%2FG1&lang=zh",
            "/01/09521234543213/21/G1?lang=zh",
        ),
    ] {
        let answer = site.get(&format!("/check?code={typed}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(to)));
    }
    assert_eq!(site.get("/").await.status, 200);
}

#[tokio::test]
async fn links_are_resolved_as_gs1_says() {
    let dir = dir();
    let site = site(dir.path()).await;
    let unit = format!("/01/{GTIN}/21/G1");
    let root = "http://id.example.cn";
    let page = site.person(&unit).await;
    let linkset =
        format!("<{root}{unit}?linkType=all>; rel=\"linkset\"; type=\"application/linkset+json\"");
    assert_eq!(page.header("link"), Some(linkset.as_str()));
    let ask = async |path: &str, accept: &str, language: &str| {
        let headers = format!("Accept: {accept}\r\nAccept-Language: {language}\r\n");
        site.send("GET", path, &headers, "").await
    };
    for (path, accept) in [
        (format!("{unit}?linkType=all"), "*/*"),
        (format!("{unit}?linkType=linkset"), "text/html"),
        (unit.clone(), "application/linkset+json"),
        (unit.clone(), "application/json, text/html;q=0.5"),
    ] {
        let answer = ask(&path, accept, "en").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/linkset+json")
        );
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            answer.header("cross-origin-resource-policy"),
            Some("cross-origin")
        );
        let set = &answer.json()["linkset"][0];
        assert_eq!(set["anchor"], format!("{root}{unit}"));
        for kind in ["defaultLink", "verificationService", "recallStatus"] {
            let targets = set[format!("https://gs1.org/voc/{kind}")]
                .as_array()
                .expect("links");
            assert_eq!(
                (targets.len(), &targets[0]["href"]),
                (1, &json!(format!("{root}{unit}")))
            );
        }
        let pip = &set["https://gs1.org/voc/pip"];
        assert_eq!(pip[1]["href"], format!("{root}/01/{GTIN}?lang=zh"));
        assert_eq!(pip[1]["hreflang"], json!(["zh"]));
    }
    // One link, or the one of the visitor's language: go there, and take the rest of the query along.
    for (query, language, to) in [
        (
            "linkType=gs1:verificationService&17=270101",
            "fr",
            format!("{root}{unit}?17=270101"),
        ),
        ("linkType=gs1:defaultLink", "fr", format!("{root}{unit}")),
        (
            "linkType=gs1:pip",
            "zh-CN,en;q=0.4",
            format!("{root}/01/{GTIN}?lang=zh"),
        ),
        (
            "linkType=https%3A%2F%2Fgs1.org%2Fvoc%2Fpip",
            "en",
            format!("{root}/01/{GTIN}?lang=en"),
        ),
        (
            "linkType=gs1:pip&lang=zh",
            "en",
            format!("{root}/01/{GTIN}?lang=zh"),
        ),
    ] {
        let answer = ask(&format!("{unit}?{query}"), "*/*", language).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (307, Some(to.as_str())),
            "{query}"
        );
        let head = site
            .send(
                "HEAD",
                &format!("{unit}?{query}"),
                &format!("Accept-Language: {language}\r\n"),
                "",
            )
            .await;
        assert_eq!(
            (head.status, head.header("location")),
            (307, Some(to.as_str()))
        );
    }
    // Several that are as good as each other: a list, for a person a page of it.
    let both = ask(&format!("{unit}?linkType=gs1:pip"), "*/*", "fr").await;
    assert_eq!(
        (both.status, both.header("content-type")),
        (300, Some("application/linkset+json"))
    );
    assert_eq!(
        both.json()["linkset"][0]["https://gs1.org/voc/pip"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let both = ask(&format!("{unit}?linkType=gs1:pip"), "text/html", "fr").await;
    assert_eq!(both.status, 300);
    assert!(
        both.body.contains(&format!("{root}/01/{GTIN}?lang=zh")),
        "{}",
        both.body
    );
    // None: 404, in the form that was asked for.
    for kind in [
        "gs1:traceability",
        "gs1:promotion",
        "nonsense",
        "%3Cscript%3E",
    ] {
        let none = ask(&format!("{unit}?linkType={kind}"), "application/json", "en").await;
        assert_eq!(
            (none.status, none.json()["type"].as_str()),
            (404, Some("urn:tally:problem:link-type")),
            "{kind}"
        );
        assert_eq!(
            ask(&format!("{unit}?linkType={kind}"), "text/html", "en")
                .await
                .status,
            404
        );
    }
    let nobody = ask(&format!("/01/{GTIN_OF_NOBODY}?linkType=all"), "*/*", "en").await;
    assert_eq!(nobody.status, 404);
    let product = ask(&format!("/01/{GTIN}/10/LOT?linkType=all"), "*/*", "en")
        .await
        .json();
    assert_eq!(product["linkset"][0]["anchor"], format!("{root}/01/{GTIN}"));
    assert_eq!(
        product["linkset"][0].get("https://gs1.org/voc/verificationService"),
        None
    );
    let described = site.get("/.well-known/gs1resolver").await;
    assert_eq!(described.header("content-type"), Some("application/json"));
    assert_eq!(described.json()["resolverRoot"], root);
    assert_eq!(described.json()["supportedPrimaryKeys"], json!(["01"]));
    // Nothing of this was a scan.
    assert_eq!(site.node.service.log().size(), 0);
}

#[tokio::test]
async fn pages_speak_the_visitors_language_and_keep_the_choice() {
    let dir = dir();
    let site = site(dir.path()).await;
    let path = format!("/01/{GTIN}/21/G1");
    let chinese = site
        .send(
            "GET",
            &path,
            "Accept-Language: zh-CN,zh;q=0.9,en;q=0.8\r\n",
            "",
        )
        .await;
    assert_eq!(chinese.header("content-language"), Some("zh-Hans"));
    assert!(
        chinese.body.contains("<html lang=\"zh-Hans\">") && chinese.body.contains("尚未被查验")
    );
    assert!(chinese.body.contains("href=\"?lang=en\""));
    let switched = site.get(&format!("{path}?17=270101&lang=zh")).await;
    assert!(
        switched.body.contains("action=\"?17=270101&#38;lang=zh\""),
        "{}",
        switched.body
    );
    let pressed = site
        .press(&format!("{path}?lang=zh"), &token(&switched))
        .await;
    let to = pressed.header("location").expect("location").to_owned();
    assert!(to.ends_with("?lang=zh"), "{to}");
    let result = site.get(&to).await;
    assert!(result.body.contains("您是第一位查验者"));
    assert!(result.body.contains(&format!("action=\"{path}?lang=zh\"")));
    for bad in ["/nothing?lang=zh", "/s/x?lang=zh", "/01/1?lang=zh"] {
        let page = site.person(bad).await;
        assert!(page.body.contains("<html lang=\"zh-Hans\">"), "{bad}");
    }
}

#[tokio::test]
async fn a_claim_code_is_checked_with_its_pack_and_a_slip_costs_nothing() {
    let dir = dir();
    let site = site(dir.path()).await;
    let path = format!("/01/{GTIN}/21/G1");
    let page = site.get(&path).await;
    // A typing error counts nothing, is shown again to be mended, and is escaped.
    for typed in [
        "0000-0000-0000",
        "0000-0000-00001",
        "%22%3E%3Cscript%3E",
        &"0".repeat(40),
    ] {
        let answer = site.claim(&path, &token(&page), typed, "").await;
        assert_eq!(answer.status, 422, "{typed}");
        assert!(
            answer.body.contains("typing error") && answer.body.contains("aria-invalid=\"true\"")
        );
        assert!(!answer.body.contains("<script"));
    }
    assert_eq!(site.node.service.log().size(), 0);
    let pressed = site.press(&path, &token(&page)).await;
    let first = pressed.header("location").expect("location").to_owned();
    let id = first.trim_start_matches("/s/").to_owned();
    let result = site.get(&first).await;
    // No claim code typed: nothing is counted, the result is shown again.
    let empty = site.claim(&path, &token(&result), "", &id).await;
    assert_eq!(empty.header("location"), Some(first.as_str()));
    assert_eq!(site.node.service.log().size(), 1);
    let wrong = site.claim(&path, &token(&result), WRONG_CLAIM, &id).await;
    let to = wrong.header("location").expect("location").to_owned();
    let page = site.get(&to).await;
    assert!(
        page.body.contains("belongs to another pack"),
        "{}",
        page.body
    );
    assert!(page.body.contains("name=\"claim\""));
    // The right one is answered, knows the visitor's own check from those of others, and is idempotent.
    let wrong_id = to
        .trim_start_matches("/s/")
        .split('?')
        .next()
        .expect("id")
        .to_owned();
    for _ in 0..2 {
        let right = site
            .claim(&path, &token(&page), RIGHT_CLAIM, &wrong_id)
            .await;
        let page = site.get(right.header("location").expect("location")).await;
        assert!(
            page.body.contains("both codes belong together"),
            "{}",
            page.body
        );
        assert!(page.body.contains("checked once before"), "{}", page.body);
        assert!(!page.body.contains("name=\"claim\""));
        assert_eq!(site.node.service.log().size(), 3);
    }
    // Nobody else's scan is taken for the visitor's own.
    let other = site
        .send(
            "GET",
            &format!("/s/{wrong_id}?after={id}"),
            "User-Agent: another\r\n",
            "",
        )
        .await;
    assert_eq!(other.status, 200);
    // With the first page's own field, one press checks both.
    let path = format!("/01/{GTIN}/21/G2");
    let page = site.get(&path).await;
    let both = site.claim(&path, &token(&page), RIGHT_CLAIM, "").await;
    let result = site.get(both.header("location").expect("location")).await;
    assert!(
        result.body.contains("nobody checked this pack before you"),
        "{}",
        result.body
    );
    let then = site.claim(&path, &token(&page), WRONG_CLAIM, "").await;
    assert_eq!(
        then.status, 303,
        "another claim code with the same page is another scan"
    );
}

#[tokio::test]
async fn guessing_claim_codes_is_slow_and_the_right_one_always_opens() {
    let dir = dir();
    let slow = BackoffConfig {
        free_failures: 2,
        min_delay: Duration::from_millis(150),
        max_delay: Duration::from_millis(150),
        ..BackoffConfig::default()
    };
    let site = site_with(
        node(BRAND, dir.path()),
        |c| c.claim_backoff = slow,
        ServeLimits::default(),
    )
    .await;
    let claim = async |serial: &str, claim: &str| {
        let start = Instant::now();
        let answer = site
            .post(&json!({"gtin": GTIN, "serial": serial, "claim": claim}), "")
            .await;
        (
            answer.json()["claim"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            start.elapsed(),
        )
    };
    for _ in 0..4 {
        assert_eq!(claim("G1", WRONG_CLAIM).await.0, "wrong");
    }
    // This source is slow at this pack; the right claim code is right all the same.
    let (found, took) = claim("G1", RIGHT_CLAIM).await;
    assert_eq!(found, "right");
    assert!(took >= Duration::from_millis(150));
    // Another pack, and this one without a claim code, are not slowed.
    let (found, took) = claim("G2", RIGHT_CLAIM).await;
    assert!(
        found == "right" && took < Duration::from_millis(150),
        "{took:?}"
    );
    let start = Instant::now();
    site.scan("G1").await;
    assert!(start.elapsed() < Duration::from_millis(150));
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
    for method in ["DELETE", "PUT", "PATCH", "TRACE", "BREW"] {
        let answer = site.send(method, "/01/1/21/1", "", "").await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"), "{method}");
    }
    let options = site.send("OPTIONS", "/v1/scans", "", "").await;
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("POST"))
    );
    assert_eq!(site.send("OPTIONS", "/nothing", "", "").await.status, 404);
    for path in ["/v1/scans/", "/check/", "/s/", "/healthz/"] {
        assert_eq!(site.get(path).await.status, 404, "{path}");
    }
    let head = site.send("HEAD", "/", "", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(site.get("/nothing").await.status, 404);
    let lost = site.person("/nothing").await;
    assert_eq!(
        (lost.status, lost.header("content-type")),
        (404, Some("text/html; charset=utf-8"))
    );
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
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"));
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
    let mark = site.get("/assets/mark.svg").await;
    assert_eq!(mark.header("cache-control"), Some("public, max-age=604800"));
    assert_eq!(mark.header("content-type"), Some("image/svg+xml"));
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
    assert!(!page.body.contains("<form") && page.body.contains("No checks are taken"));
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
    let path = format!("/01/{GTIN}/21/G1");
    let people = futures::future::join_all((0..8).map(|_| site.person(&path))).await;
    let refused = people.iter().find(|a| a.status == 429).expect("429");
    assert!(refused.header("retry-after").is_some());
    assert!(
        refused.body.contains("says nothing about your product"),
        "{}",
        refused.body
    );
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
async fn without_a_token_only_callers_on_the_machine_see_operators_routes() {
    let dir = dir();
    let site = site(dir.path()).await;
    for path in ["/v1/status", "/metrics"] {
        assert_eq!(site.get(path).await.status, 200);
        for header in [
            "X-Forwarded-For: 203.0.113.9",
            "Forwarded: for=203.0.113.9",
            "Via: 1.1 proxy",
        ] {
            let through = site.send("GET", path, &format!("{header}\r\n"), "").await;
            assert_eq!(through.status, 403, "{header}");
        }
    }
}

#[tokio::test]
async fn a_form_of_another_site_counts_nothing() {
    let dir = dir();
    let site = site(dir.path()).await;
    let path = format!("/01/{GTIN}/21/G1");
    let form = format!("token={}", token(&site.get(&path).await));
    for from in ["cross-site", "same-site"] {
        let headers = format!(
            "Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: {from}\r\n"
        );
        let answer = site.send("POST", &path, &headers, &form).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some(path.as_str()))
        );
    }
    assert_eq!(site.send("POST", &path, "", &form).await.status, 400);
    assert_eq!(site.node.service.log().size(), 0);
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
        assert!(page.body.contains("href=\"/tally/assets/mark.svg\""));
        let pressed = site.press(&path, &token(&page)).await;
        assert!(
            pressed
                .header("location")
                .is_some_and(|l| l.starts_with("/tally/s/"))
        );
        assert_eq!(
            site.get(&format!("{prefix}/assets/mark.svg")).await.status,
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
