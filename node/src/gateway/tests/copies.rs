//! What API, page and metrics say of a code that is on several packs.

use super::*;

const DAY_MS: u64 = 24 * 3_600_000;

#[tokio::test]
async fn a_suspect_code_is_told_with_reasons_in_the_api_on_the_page_and_in_the_metrics() {
    let dir = dir();
    let site = site(dir.path()).await;
    let mut last = None;
    for (agent, cell) in [("a", "wx4g0"), ("b", "wtw3s"), ("c", "ws0e9")] {
        let body = json!({
            "gtin": GTIN, "serial": "G1", "place": {"country": "cn", "cell": cell}
        });
        last = Some(site.post(&body, &format!("User-Agent: {agent}\r\n")).await);
        site.node.clock.0.fetch_add(5 * DAY_MS, Ordering::SeqCst);
    }
    let last = last.expect("three");
    assert_eq!(last.verdict(), said("suspect", 3));
    let json = last.json();
    assert_eq!(
        json["reasons"][1],
        json!({
            "code": "several_places",
            "count": 3,
            "words": "it was scanned in 3 places far from each other"
        })
    );
    assert!(
        json["message"]
            .as_str()
            .expect("message")
            .contains("scanned in 3 places far from each other")
    );
    let first = site.scan("G2").await;
    assert_eq!(first.json()["reasons"], json!([]));

    let id = json["scan_id"].as_str().expect("scan ID");
    for (language, words) in [
        ("en", "it was scanned in 3 places far from each other"),
        ("zh", "在3个相距很远的地点被查验"),
    ] {
        let headers = format!("Accept-Language: {language}\r\n");
        let page = site.send("GET", &format!("/s/{id}"), &headers, "").await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains(words), "{}", page.body);
        // The right claim code still helps, and can be entered.
        assert!(page.body.contains("name=\"claim\""), "{}", page.body);
        let look = format!("/01/{GTIN}/21/G1");
        let page = site.send("GET", &look, &headers, "").await;
        assert!(page.body.contains(words), "{}", page.body);
    }
    let metrics = site.send("GET", "/metrics", "", "").await;
    let line = "tally_scans_total{verdict=\"suspect\",channel=\"post\"} 1";
    assert!(metrics.body.contains(line), "{}", metrics.body);
}

#[tokio::test]
async fn a_source_that_tries_codes_raises_one_alarm() {
    let dir = dir();
    let site = site(dir.path()).await;
    let alarm = "tally_probing_alarms_total{from=\"source\"} 1";
    for n in 1..=20 {
        let metrics = site.send("GET", "/metrics", "", "").await;
        assert!(!metrics.body.contains("tally_probing_alarms_total{"), "{n}");
        assert_eq!(
            site.scan(&format!("X{n}")).await.verdict(),
            said("unknown", 0)
        );
    }
    let metrics = site.send("GET", "/metrics", "", "").await;
    assert!(metrics.body.contains(alarm), "{}", metrics.body);
    assert!(!metrics.body.contains("from=\"all\""), "{}", metrics.body);
}
