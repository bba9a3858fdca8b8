//! Where scans are made, as a proxy in front tells it.

use super::*;
use crate::scans::Place;

const DAY_MS: u64 = 24 * 3_600_000;
const HEADER: &str = "X-Client-Place";

async fn behind_a_proxy(dir: &Path, proxies: &[&str]) -> Site {
    site_with(
        node(BRAND, dir),
        |c| {
            c.trusted_proxies = proxies
                .iter()
                .map(|p| p.parse().expect("address"))
                .collect();
            c.place_header = HEADER.to_ascii_lowercase().parse().ok();
        },
        ServeLimits::default(),
    )
    .await
}

/// A visitor behind a proxy, who opens the page and presses the button; the scan's own page.
async fn visit(site: &Site, visitor: u8, path: &str, place: &str) -> Answer {
    let headers = format!(
        "X-Forwarded-For: 203.0.113.{visitor}\r\nUser-Agent: phone {visitor}\r\n{HEADER}: {place}\r\n"
    );
    let page = site.send("GET", path, &headers, "").await;
    let form = format!("{headers}Content-Type: application/x-www-form-urlencoded\r\n");
    let body = format!("token={}", token(&page));
    let pressed = site.send("POST", path, &form, &body).await;
    let to = pressed.header("location").expect("location").to_owned();
    site.send("GET", &to, &headers, "").await
}

/// What the log has of the scan that a page shows.
async fn stored(site: &Site, page: &Answer) -> Option<Place> {
    let (_, rest) = page.body.split_once("/v1/scans/").expect("its number");
    let id = rest.get(..32).expect("32 digits").parse().expect("number");
    let outcome = site.node.service.get(id).await.expect("scan");
    outcome.scan.record.place
}

#[tokio::test]
async fn scans_of_the_page_have_the_place_that_a_trusted_proxy_tells_and_no_finer() {
    let dir = dir();
    let site = behind_a_proxy(dir.path(), &["127.0.0.1"]).await;
    let path = format!("/01/{GTIN}/21/G1");
    let mut last = None;
    for (visitor, place, cell) in [
        (1, "CN-BJ 39.9042,116.4074,20", "wx4g0"),
        (2, "CN-SH 31.2304,121.4737", "wtw3s"),
        (3, "CN-GD ws0e9d2m", "ws0e9"),
    ] {
        let page = visit(&site, visitor, &path, place).await;
        let place = stored(&site, &page).await.expect("a place");
        assert_eq!(place.cell().expect("a cell").as_str(), cell);
        assert!(!place.is_device());
        last = Some(page);
        site.node.clock.0.fetch_add(5 * DAY_MS, Ordering::SeqCst);
    }
    let last = last.expect("three").body;
    assert!(
        last.contains("it was scanned in 3 places far from each other"),
        "{last}"
    );
    let look = site.get(&path).await;
    assert!(look.body.contains("· BJ, China"), "{}", look.body);
    // What cannot be read is no place, and the scan is taken.
    let path = format!("/01/{GTIN}/21/G2");
    let page = visit(&site, 4, &path, "somewhere").await;
    assert_eq!(stored(&site, &page).await, None);
    // Without a country the page still says about where.
    let path = format!("/01/{GTIN}/21/G3");
    let page = visit(&site, 5, &path, "30.6598,104.0633").await;
    assert!(
        page.body.contains("· near 30.7° N, 104.1° E"),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn a_place_from_anyone_else_is_ignored() {
    let dir = dir();
    // Another machine is the proxy, not the one that asks.
    let site = behind_a_proxy(dir.path(), &["192.0.2.7"]).await;
    let path = format!("/01/{GTIN}/21/G1");
    for (visitor, place) in [
        (1, "CN 39.9042,116.4074"),
        (2, "CN 31.2304,121.4737"),
        (3, "CN 23.1291,113.2644"),
    ] {
        let page = visit(&site, visitor, &path, place).await;
        assert_eq!(stored(&site, &page).await, None);
        assert!(!page.body.contains("far from each other"));
        site.node.clock.0.fetch_add(5 * DAY_MS, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_program_that_tells_no_place_has_its_addresss_and_may_ask_again_from_another() {
    let dir = dir();
    let site = behind_a_proxy(dir.path(), &["127.0.0.1"]).await;
    let body = json!({"gtin": GTIN, "serial": "G1"});
    let headers = |place: &str| format!("Idempotency-Key: k1\r\n{HEADER}: {place}\r\n");
    let first = site.post(&body, &headers("CN-BJ 39.9042,116.4074")).await;
    assert_eq!(first.json()["first_place"], "BJ, CN");
    let again = site.post(&body, &headers("CN-SH 31.2304,121.4737")).await;
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.json()["scan_id"], first.json()["scan_id"]);
    // What the program says itself goes before.
    let told = json!({"gtin": GTIN, "serial": "G2", "place": {"country": "FR", "cell": "u09tv"}});
    let told = site.post(&told, &format!("{HEADER}: CN wx4g0\r\n")).await;
    assert_eq!(told.json()["first_place"], "FR");
}
