//! What the open internet may not do.

use super::*;

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
