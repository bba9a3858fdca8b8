//! What the API and the button of a page say of a code, and what they keep.

use super::*;

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
    assert_eq!(site.scan("V1").await.verdict(), said("revoked", 0));
    *site.node.issuer.expires.lock().expect("expires") = EXPIRES.parse().ok();
    assert_eq!(site.scan("E1").await.verdict(), said("genuine_first", 1));
    let begin = site.node.clock.now_ms();
    site.node.clock.0.store(1_790_856_000_000, Ordering::SeqCst);
    let expired = site.scan("E1").await;
    assert_eq!(expired.verdict(), said("expired", 1));
    let message = expired.json()["message"].to_string();
    assert!(
        message.contains("good until 30 September 2026"),
        "{message}"
    );
    site.node.clock.0.store(begin, Ordering::SeqCst);
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
