//! Claim codes on the page, and those who guess.

use super::*;

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
    // A typing error after the visitor's own check: when it is mended, that check is still known as the visitor's.
    let path = format!("/01/{GTIN}/21/G3");
    let page = site.get(&path).await;
    let pressed = site.press(&path, &token(&page)).await;
    let first = pressed.header("location").expect("location").to_owned();
    let id = first.trim_start_matches("/s/");
    let mistyped = site
        .claim(
            &path,
            &token(&site.get(&first).await),
            "0000-0000-00001",
            id,
        )
        .await;
    assert_eq!(mistyped.status, 422);
    let hidden = format!("name=\"after\" value=\"{id}\"");
    assert!(mistyped.body.contains(&hidden), "{}", mistyped.body);
    let mended = site.claim(&path, &token(&mistyped), RIGHT_CLAIM, id).await;
    let result = site.get(mended.header("location").expect("location")).await;
    assert!(
        result.body.contains("nobody checked this pack before you"),
        "{}",
        result.body
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

/// Requests that never end, of this site and from this address; each waits or is turned away.
fn crowd(site: &Arc<Site>, bodies: impl Fn(usize, u64) -> Value + Clone + Send + 'static) -> Crowd {
    let tasks = (0..8).map(|who| {
        let (site, bodies) = (Arc::clone(site), bodies.clone());
        tokio::spawn(async move {
            for n in 0.. {
                let body = bodies(who, n);
                site.post(&body, "").await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    });
    Crowd(tasks.collect())
}

struct Crowd(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Crowd {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_as_much_as_can_be_locks_out_nobody_behind_the_same_address() {
    let dir = dir();
    let slow = BackoffConfig {
        free_failures: 2,
        min_delay: Duration::from_millis(400),
        max_delay: Duration::from_millis(400),
        max_waiting: 2,
        ..BackoffConfig::default()
    };
    let site = site_with(
        node(BRAND, dir.path()),
        |c| (c.backoff, c.claim_backoff) = (slow, slow),
        ServeLimits::default(),
    );
    let site = Arc::new(site.await);
    // Half of the guessers invent serials, the others try claim codes on a pack of somebody else's.
    let crowd = crowd(&site, |who, n| match who % 2 {
        0 => json!({"gtin": GTIN, "serial": format!("X{who}-{n}")}),
        _ => json!({"gtin": GTIN, "serial": "G1", "claim": WRONG_CLAIM}),
    });
    let started = Instant::now();
    while site.scan("X").await.status != 429 {
        assert!(started.elapsed() < Duration::from_secs(20), "no crowd");
    }
    // As a client does that knows what Retry-After means; how often it had to ask.
    let patient = async |body: &Value| {
        let started = Instant::now();
        for tries in 1.. {
            let answer = site.post(body, "").await;
            if answer.status != 429 {
                return (answer, tries);
            }
            assert!(started.elapsed() < Duration::from_secs(5), "locked out");
            let seconds = answer.header("retry-after").expect("when");
            tokio::time::sleep(Duration::from_secs(seconds.parse().expect("seconds"))).await;
        }
        unreachable!()
    };
    let mut turned_away = 0;
    for serial in ["G2", "G3", "G4", "G5"] {
        let (answer, tries) = patient(&json!({"gtin": GTIN, "serial": serial})).await;
        assert_eq!(answer.verdict(), said("genuine_first", 1));
        assert!(tries <= 2, "{tries}");
        turned_away += tries - 1;
        // The page of the code, its button, and anything else that is asked of it then.
        let page = site.person(&format!("/01/{GTIN}/21/{serial}")).await;
        if tries == 2 {
            assert_eq!(page.status, 200);
        }
    }
    assert!(turned_away > 0, "nobody had to wait outside");
    for (serial, claims) in [
        // The pack whose claim codes are tried, too; however the code is written the second time.
        ("G1", [RIGHT_CLAIM, "0000 0000 00000"]),
        ("G6", [RIGHT_CLAIM, "0000000000000"]),
    ] {
        let mut tries = 0;
        let claim = loop {
            let claim = claims[tries.min(1)];
            tries += 1;
            let body = json!({"gtin": GTIN, "serial": serial, "claim": claim});
            let answer = site.post(&body, "").await;
            if answer.status != 429 {
                break answer;
            }
            assert!(tries < 2, "the right claim code is locked out");
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        assert_eq!(claim.json()["claim"], "right", "{serial}");
    }
    // What is turned away says nothing of the code, and takes the same time; a wrong one gains nothing by having waited.
    let mut shapes = std::collections::HashSet::new();
    let mut seen = [0; 2];
    for n in 0..40 {
        let is_right = n % 2 == 0;
        let serial = format!("{}{n}", if is_right { "G1" } else { "Y" });
        let started = Instant::now();
        let answer = site.scan(&serial).await;
        if answer.status == 429 {
            assert!(started.elapsed() >= Duration::from_millis(10));
            let lines = answer.head.lines().filter(|l| !l.starts_with("date"));
            shapes.insert(format!("{}{}", lines.collect::<String>(), answer.body));
            seen[usize::from(is_right)] += 1;
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    assert_eq!(shapes.len(), 1, "{shapes:?}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for n in (1..20).step_by(2) {
        let started = Instant::now();
        let answer = site.scan(&format!("Y{n}")).await;
        let has_waited_inside = started.elapsed() >= Duration::from_millis(400);
        assert!(answer.status == 429 || has_waited_inside, "{}", answer.body);
    }
    drop(crowd);
}
