//! What dealers say over HTTP.

use super::*;
use crate::dealers::Dealers;
use crate::sealed::StorageKey;

async fn site_of_dealers(dir: &Path) -> (Site, Arc<Dealers>) {
    let dealers = Dealers::open(&dir.join("dealers"), &StorageKey::from_bytes([1; 32]));
    let dealers = Arc::new(dealers.expect("dealers"));
    let of_site = Arc::clone(&dealers);
    let configure = |config: &mut GatewayConfig| config.dealers = Some(of_site);
    let site = site_with(node(BRAND, dir), configure, ServeLimits::default()).await;
    (site, dealers)
}

async fn send(site: &Site, key: &str, body: &Value) -> Answer {
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n");
    site.send("POST", "/v1/events", &headers, &body.to_string())
        .await
}

#[tokio::test]
async fn a_dealer_with_a_key_says_what_was_sold() {
    let dir = dir();
    let (site, dealers) = site_of_dealers(dir.path()).await;
    let shop = dealers.add("shop", None, 0).await.expect("key");
    let kiosk = dealers.add("kiosk", None, 0).await.expect("key");
    let body = json!({
        "event": "sell",
        "codes": [
            format!("{GTIN}/G1"), format!("https://h/01/{GTIN}/21/G2"), format!("{GTIN}/X1"),
            format!("{GTIN_OF_NOBODY}/G1"), "no code",
        ],
        "place": {"country": "cn", "cell": "wx4g0"},
    });
    let answer = send(&site, &shop, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    assert_eq!(
        (&json["event"], &json["dealer"]),
        (&json!("sell"), &json!("shop"))
    );
    assert_eq!(json["taken"], 2);
    let results = |json: &Value| -> Vec<String> {
        let results = json["results"].as_array().expect("results");
        results
            .iter()
            .map(|r| r["result"].as_str().expect("result").to_owned())
            .collect()
    };
    assert_eq!(
        results(&json),
        ["taken", "taken", "unknown", "other_issuer", "not_a_code"]
    );
    assert_eq!(json["results"][0]["sold_before"], false);
    // Sent again after a broken connection.
    let again = send(&site, &shop, &body).await.json();
    assert_eq!(results(&again)[..2], ["again", "again"]);
    assert_eq!(again["taken"], 2);
    // Somebody else has it too.
    let body = json!({"event": "receive", "codes": [format!("{GTIN}/G1")]});
    let other = send(&site, &kiosk, &body).await.json();
    assert_eq!(other["results"][0]["sold_before"], true);
    // It is no scan: the customer is the first.
    assert_eq!(site.scan("G1").await.verdict(), said("genuine_first", 1));
}

#[tokio::test]
async fn nobody_else_does() {
    let dir = dir();
    let (site, dealers) = site_of_dealers(dir.path()).await;
    let key = dealers.add("shop", None, 0).await.expect("key");
    let body = json!({"event": "sell", "codes": [format!("{GTIN}/G1")]});
    for wrong in ["", "dealer-", &key[..key.len() - 1]] {
        let answer = send(&site, wrong, &body).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!answer.body.contains("shop"));
    }
    for bad in [
        json!({"event": "steal", "codes": [format!("{GTIN}/G1")]}),
        json!({"event": "sell", "codes": []}),
        json!({"event": "sell", "codes": vec![format!("{GTIN}/G1"); 501]}),
        json!({"event": "sell"}),
        json!({"event": "sell", "codes": [format!("{GTIN}/G1")], "place": {"country": "china"}}),
        json!({"event": "sell", "codes": [format!("{GTIN}/G1")], "more": 1}),
    ] {
        assert_eq!(send(&site, &key, &bad).await.status, 400, "{bad}");
    }
    assert_eq!(site.node.service.log().size(), 0);
    dealers.remove("shop").await.expect("remove");
    assert_eq!(send(&site, &key, &body).await.status, 401);
    // A gateway without dealers.
    let other = self::dir();
    let site = self::site(other.path()).await;
    assert_eq!(send(&site, &key, &body).await.status, 401);
}

#[tokio::test]
async fn a_node_that_takes_nothing_takes_no_event() {
    let dir = dir();
    let (site, dealers) = site_of_dealers(dir.path()).await;
    let key = dealers.add("shop", None, 0).await.expect("key");
    *site.status.read_only.lock().expect("status") = Some("disk".to_owned());
    let body = json!({"event": "sell", "codes": [format!("{GTIN}/G1")]});
    assert_eq!(send(&site, &key, &body).await.status, 503);
    *site.status.read_only.lock().expect("status") = None;
    site.node.issuer.unavailable.store(true, Ordering::SeqCst);
    let answer = send(&site, &key, &body).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_dealer_is_not_slowed_by_who_guesses_from_the_same_address_but_by_own_guesses() {
    let dir = dir();
    let dealers = Dealers::open(
        &dir.path().join("dealers"),
        &StorageKey::from_bytes([1; 32]),
    );
    let dealers = Arc::new(dealers.expect("dealers"));
    let of_site = Arc::clone(&dealers);
    let delay = Duration::from_millis(300);
    let configure = |config: &mut GatewayConfig| {
        config.dealers = Some(of_site);
        config.backoff = BackoffConfig {
            free_failures: 3,
            min_delay: delay,
            max_delay: delay,
            ..BackoffConfig::default()
        };
    };
    let site = site_with(node(BRAND, dir.path()), configure, ServeLimits::default()).await;
    let key = dealers.add("shop", None, 0).await.expect("key");
    let kiosk = dealers.add("kiosk", None, 0).await.expect("key");
    for n in 0..5 {
        site.scan(&format!("X{n}")).await;
    }
    let sell = async |key: &str, serial: &str| {
        let started = Instant::now();
        let body = json!({"event": "sell", "codes": [format!("{GTIN}/{serial}")]});
        assert_eq!(send(&site, key, &body).await.status, 200);
        started.elapsed()
    };
    assert!(
        sell(&key, "G1").await < delay,
        "the address is slowed, not the dealer"
    );
    for n in 0..4 {
        sell(&key, &format!("X{n}")).await;
    }
    assert!(sell(&key, "G2").await >= delay, "the dealer guesses");
    assert!(sell(&kiosk, "G2").await < delay, "another dealer does not");
}
