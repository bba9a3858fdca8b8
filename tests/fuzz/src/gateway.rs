//! The HTTP gateway's router, with the real scan service and log behind it: any request gets an answer of the documented kind,
//! never a server error, and always with the headers that harden it. And forwarded scans, as another member sends them.
//!
//! An input is lines: method, path, headers, an empty line; then the body. One that begins with a byte 0 is a forwarded scan.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use ed25519_dalek::SigningKey;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tally_contracts::Canonical;
use tally_contracts::ids::{BatchId, MemberId, NetworkId, PublicKey};
use tally_contracts::records::Gtin;
use tally_node::gateway::{BackoffConfig, Gateway, GatewayConfig, NodeStatus, OperatorToken};
use tally_node::scans::{
    ClaimCheck, Clock, CodeBook, ForwardError, ForwardRequest, Forwarder, Issuer, Product,
    RecordKeys, ScanId, ScanLog, ScanLogConfig, ScanService, ScannedCode, ServiceConfig, Signer,
    UnitFinding, UnitRef,
};
use tally_node::sealed::StorageKey;
use tempfile::TempDir;
use tower::ServiceExt;

use crate::stream::block_on;
use crate::{Seeds, named};

const BASE: &str = "https://id.example/stem";
const NETWORK: NetworkId = NetworkId([7; 32]);
const BRAND: MemberId = MemberId([1; 16]);
const MEDIA: MemberId = MemberId([2; 16]);
/// A product of the brand, whose node this is.
const GTIN: &str = "09521234543213";
/// A product of another member, whose node does not answer.
const GTIN_OF_MEDIA: &str = "09506000134352";
/// The claim code of every pack.
const CLAIM: &str = "0000-0000-00000";
/// In the body of a press: the token that the page gives.
const TOKEN: &[u8] = b"token=@";
/// Scans after which the log is begun anew.
const MAX_SCANS: u64 = 2000;
/// No page is larger.
const MAX_ANSWER: usize = 1 << 20;

struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

struct Book;

impl CodeBook for Book {
    fn product(&self, gtin: &Gtin) -> Option<Product> {
        let own = gtin.as_str() == GTIN;
        (own || gtin.as_str() == GTIN_OF_MEDIA).then(|| Product {
            owner: if own { BRAND } else { MEDIA },
            owner_name: "member".into(),
            description: "Tea, 100 g <green>".into(),
            brand: "Highland & \"sons\"".into(),
            own,
        })
    }
}

/// The first letter of a serial says what is found.
struct Letters;

impl Issuer for Letters {
    fn expires(
        &self,
        _: &tally_contracts::ids::BatchId,
    ) -> Option<tally_contracts::records::ExpiryDate> {
        "260930".parse().ok()
    }

    fn territory(
        &self,
        _: &tally_contracts::ids::BatchId,
    ) -> Option<tally_contracts::records::Territory> {
        None
    }

    fn verify(
        &self,
        code: &ScannedCode,
        claim: Option<&str>,
        now_ms: u64,
    ) -> (UnitFinding, ClaimCheck) {
        let unit = UnitRef {
            batch: BatchId([9; 16]),
            index: 3,
        };
        let finding = match code.serial().as_bytes().first() {
            Some(b'G') => UnitFinding::Released(unit),
            Some(b'H') => UnitFinding::NotReleased(unit),
            Some(b'R') => UnitFinding::Recalled(unit),
            Some(b'V') => UnitFinding::Revoked(unit),
            Some(b'E') if now_ms.is_multiple_of(2) => UnitFinding::Expired(unit),
            Some(b'E') => UnitFinding::Released(unit),
            Some(b'N') => UnitFinding::Unavailable,
            _ => UnitFinding::Unknown,
        };
        let claim = match claim {
            Some(CLAIM) => ClaimCheck::Right,
            Some(_) => ClaimCheck::Wrong,
            None => ClaimCheck::Absent,
        };
        (finding, claim)
    }
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

struct Keys;

impl RecordKeys for Keys {
    fn record_keys(&self, _: &MemberId) -> Vec<PublicKey> {
        vec![signing_key().public_key()]
    }
}

struct Nobody;

#[async_trait]
impl Forwarder for Nobody {
    async fn ask(&self, _: MemberId, _: Vec<u8>) -> Result<Vec<u8>, ForwardError> {
        Err(ForwardError {
            reason: "no route".into(),
        })
    }
}

struct Ready;

impl NodeStatus for Ready {
    fn status(&self) -> Value {
        json!({"member": "brand"})
    }

    fn not_ready(&self) -> Vec<String> {
        Vec::new()
    }

    fn read_only(&self) -> Option<String> {
        None
    }
}

struct Site {
    router: Router,
    service: Arc<ScanService>,
    _dir: TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let log = ScanLog::open(
            &ScanLogConfig::new(dir.path(), 0),
            &StorageKey::from_bytes([5; 32]),
        )
        .expect("a log");
        let service = Arc::new(ScanService::new(
            ServiceConfig {
                network: NETWORK,
                member: BRAND,
                forward_deadline: Duration::from_secs(5),
                cell_length: 5,
            },
            log,
            Arc::new(Book),
            Arc::new(Letters),
            Arc::new(Keys),
            Arc::new(Nobody),
            Arc::new(signing_key()),
            Arc::new(Ticks(AtomicU64::new(1_790_000_000_000))),
        ));
        let mut config = GatewayConfig::new(BASE, "testnet", "brand");
        config.operator_token = Some(OperatorToken::new("token".into()));
        config.trusted_proxies = vec![[127, 0, 0, 1].into()];
        config.max_body_bytes = 4096;
        // Slowing down is a matter of time, which a fuzzer has none of.
        let never = BackoffConfig {
            free_failures: u32::MAX,
            ..BackoffConfig::default()
        };
        (config.backoff, config.claim_backoff) = (never, never);
        config.contact = "care@brand.example".into();
        let gateway = Gateway::new(
            config,
            Arc::clone(&service),
            Arc::new(Ready),
            Registry::default(),
        );
        Self {
            router: gateway.router(Router::new()),
            service,
            _dir: dir,
        }
    }
}

static SITE: Mutex<Option<Site>> = Mutex::new(None);

/// The token in a page.
fn token(page: &[u8]) -> Option<String> {
    let page = std::str::from_utf8(page).ok()?;
    let (_, rest) = page.split_once("name=\"token\" value=\"")?;
    rest.split('"').next().map(str::to_owned)
}

/// The request in an input, if it is one that a server would have read; with this token behind its body's `token=`.
fn request(bytes: &[u8], token: Option<String>) -> Option<Request<Body>> {
    let (head, body) = bytes
        .windows(2)
        .position(|w| w == b"\n\n")
        .map_or((bytes, &b""[..]), |at| (&bytes[..at], &bytes[at + 2..]));
    let mut lines = head.split(|b| *b == b'\n');
    let mut request = Request::builder()
        .method(lines.next()?)
        .uri(lines.next()?)
        .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5))));
    for line in lines.take(20) {
        let colon = line.iter().position(|b| *b == b':')?;
        request = request.header(&line[..colon], &line[colon + 1..]);
    }
    let mut body = body.to_vec();
    if let Some(token) = token {
        body.pop();
        body.extend(token.as_bytes());
    }
    request.body(Body::from(body)).ok()
}

async fn ask(router: Router, request: Request<Body>) -> (u16, Vec<u8>) {
    let shown = format!("{} {}", request.method(), request.uri());
    let head = request.method() == "HEAD";
    let response = router.oneshot(request).await.expect("no error of its own");
    let status = response.status();
    assert!(!status.is_server_error(), "{shown}: {status}");
    for name in [
        "content-security-policy",
        "x-content-type-options",
        "cache-control",
        "strict-transport-security",
    ] {
        assert!(response.headers().contains_key(name), "{shown}: no {name}");
    }
    if let Some(to) = response.headers().get("location") {
        let to = to.to_str().expect("text");
        let own = to.starts_with(BASE) || to.starts_with('/') && !to.starts_with("//");
        assert!(own, "{shown}: sent away to {to}");
    }
    let json = response
        .headers()
        .get("content-type")
        .is_some_and(|v| v.as_bytes().ends_with(b"json"));
    let body = to_bytes(response.into_body(), MAX_ANSWER)
        .await
        .expect("a body");
    if json && !head {
        let read: Result<Value, _> = serde_json::from_slice(&body);
        assert!(read.is_ok(), "{shown}: not the JSON that it says it is");
    }
    (status.as_u16(), body.to_vec())
}

/// Carries out an input.
pub fn run(bytes: &[u8]) {
    let mut site = SITE.lock().expect("one thread");
    if site
        .as_ref()
        .is_none_or(|s| s.service.log().size() > MAX_SCANS)
    {
        *site = Some(Site::new());
    }
    let site = site.as_ref().expect("just made");
    if let Some((0, forwarded)) = bytes.split_first() {
        let before = site.service.log().size();
        if block_on(site.service.answer_forwarded(MEDIA, forwarded)).is_err() {
            assert_eq!(site.service.log().size(), before);
        }
    } else if let Some(first) = request(bytes, None) {
        let (is_press, path) = (first.method() == "POST", first.uri().clone());
        if is_press && bytes.ends_with(TOKEN) {
            let page = Request::get(path).body(Body::empty()).expect("a path");
            let (_, page) = block_on(ask(site.router.clone(), page));
            if let Some(pressed) = request(bytes, token(&page)) {
                block_on(ask(site.router.clone(), pressed));
            }
        } else {
            block_on(ask(site.router.clone(), first));
        }
    }
}

/// A request for each route, and a forwarded scan.
pub fn seeds() -> Seeds {
    let json = "Content-Type:application/json";
    let form = "Content-Type:application/x-www-form-urlencoded";
    let scan = format!(
        r#"{{"code":"HTTPS://ID.EXAMPLE/01/{GTIN}/21/G1?17=270101","place":{{"country":"cn","region":"Sichuan"}},"claim":"{CLAIM}"}}"#
    );
    let parts = format!(r#"{{"gtin":"{GTIN}","serial":"H1"}}"#);
    let forwarded = format!(r#"{{"gtin":"{GTIN_OF_MEDIA}","serial":"G1"}}"#);
    let mut out: Seeds = [
        ("landing", "GET\n/\nHost:h".to_owned()),
        (
            "check",
            format!("GET\n/check?code=https%3A%2F%2Fh%2F01%2F{GTIN}%2F21%2FG1\nHost:h"),
        ),
        (
            "look",
            format!(
                "GET\n/01/{GTIN}/21/G1?17=270101\nUser-Agent:a\nX-Forwarded-For:1.2.3.4, 127.0.0.1"
            ),
        ),
        (
            "look-under-base",
            format!("GET\n/stem/01/{GTIN}/21/R1\nHost:h"),
        ),
        ("head", format!("HEAD\n/01/{GTIN}/21/G1\nHost:h")),
        (
            "press",
            format!("POST\n/01/{GTIN}/21/G1\n{form}\n\ntoken=0123"),
        ),
        (
            "press-with-token",
            format!("POST\n/01/{GTIN}/21/G1\n{form}\n\ntoken=@"),
        ),
        (
            "scan",
            format!("POST\n/v1/scans\n{json}\nIdempotency-Key:k1\n\n{scan}"),
        ),
        ("scan-parts", format!("POST\n/v1/scans\n{json}\n\n{parts}")),
        (
            "scan-forwarded",
            format!("POST\n/v1/scans\n{json}\n\n{forwarded}"),
        ),
        (
            "get-scan",
            format!("GET\n/v1/scans/{}\nHost:h", "0".repeat(32)),
        ),
        (
            "get-proof",
            format!("GET\n/v1/scans/{}/proof\nHost:h", "0".repeat(32)),
        ),
        ("result", format!("GET\n/s/{}\nHost:h", "0".repeat(32))),
        (
            "status",
            "GET\n/v1/status\nAuthorization:Bearer token".to_owned(),
        ),
        (
            "metrics",
            "GET\n/metrics\nAuthorization:Bearer token".to_owned(),
        ),
        ("health", "GET\n/healthz\nHost:h".to_owned()),
        ("mark", "GET\n/assets/mark.svg\nHost:h".to_owned()),
        ("resolver", "GET\n/.well-known/gs1resolver\nHost:h".to_owned()),
        (
            "linkset",
            format!("GET\n/01/{GTIN}/21/G1?linkType=all\nAccept:application/linkset+json;q=0.9, text/html;q=0.1"),
        ),
        (
            "link-type",
            format!("GET\n/01/{GTIN}?linkType=gs1:pip&x=y\nAccept-Language:zh-CN, de;q=0.5"),
        ),
        (
            "typed",
            format!("GET\n/check?code=(01){GTIN}(21)0123-4567-89AB\nHost:h"),
        ),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.into_bytes()))
    .collect();
    let request = ForwardRequest {
        network: NETWORK,
        asker: MEDIA,
        scan: ScanId([4; 16]),
        code: ScannedCode::new(GTIN, "G7").expect("a code"),
        place: None,
        look: false,
        claim: Some(CLAIM.to_owned().into()),
    };
    out.extend(named([(
        "forwarded",
        [&[0], &request.to_bytes()[..]].concat(),
    )]));
    out
}
