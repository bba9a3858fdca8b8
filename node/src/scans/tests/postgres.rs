//! The index that gateways share, on a PostgreSQL that the test starts itself.

use std::collections::{HashMap, HashSet};

use rand_core::{OsRng, RngCore as _};
use zeroize::Zeroizing;

use super::process::{Answer, Gateway, LOG_ID, URL};
use super::trade::{event, taken};
use super::*;
use crate::database::cluster::{Cluster, PASSWORD};
use crate::sealed::StorageKey;

/// The index at this URL, with the key and password of all tests.
pub(super) fn shared(url: &str) -> SharedIndex {
    SharedIndex {
        url: url.to_owned(),
        password: Some(Zeroizing::new(PASSWORD.to_owned())),
        key: StorageKey::from_bytes([77; 32]),
    }
}

/// A database of its own.
async fn database(cluster: &Cluster, name: &str) -> Backend {
    cluster.create(name).await;
    Backend {
        shared: Some(Arc::new(shared(&cluster.url(name)))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scenarios_of_the_embedded_index_on_postgresql() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let mut n = 0;
    all_scenarios(async || {
        n += 1;
        database(&cluster, &format!("scenario{n}")).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dealer_said_at_one_gateway_is_known_at_the_other() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let backend = database(&cluster, "events").await;
    let dirs = [dir(), dir()];
    let [first, second] = [0_u16, 1].map(|log_id| {
        let config = ScanLogConfig {
            shared: backend.shared.clone(),
            ..ScanLogConfig::new(dirs[usize::from(log_id)].path(), log_id)
        };
        node_with(BRAND, &config)
    });
    let sell = |node| event(node, EventKind::Sell, "shop", "wtw3");
    assert_eq!(sell(&first).await, taken(false));
    assert_eq!(sell(&second).await, EventOutcome::Again);
    assert_eq!(second.service.log().size(), 0, "one event, in one log");
    // Nothing was written, so nothing is held: the other gateway goes on at once.
    let begun = Instant::now();
    assert_eq!(
        event(&first, EventKind::Receive, "kiosk", "wtw3").await,
        taken(true)
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    // Both at once, many codes: each is one event.
    let said = |node: &TestNode, n: u64| {
        let service = Arc::clone(&node.service);
        async move {
            let request = EventRequest {
                kind: EventKind::Sell,
                code: code(&format!("G{n}")),
                dealer: "shop".to_owned(),
                place: None,
            };
            service.event(request).await.expect("event")
        }
    };
    for n in 100..140 {
        let both = tokio::join!(said(&first, n), said(&second, n));
        let fresh = [both.0, both.1]
            .iter()
            .filter(|o| **o == taken(false))
            .count();
        assert_eq!(fresh, 1, "{both:?}");
    }
    // Older than keys are remembered: it is said anew.
    for node in [&first, &second] {
        super::copies::later(node, 2 * super::copies::DAY_MS);
    }
    assert_eq!(sell(&second).await, taken(true));
    assert_eq!(sell(&first).await, EventOutcome::Again);
}

/// Two nodes with keys of their own and one index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_and_browser_is_one_visitor_at_both_gateways() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let backend = database(&cluster, "visitors").await;
    let dirs = [dir(), dir()];
    let [first, second] = [0_u16, 1].map(|log_id| {
        let config = ScanLogConfig {
            shared: backend.shared.clone(),
            ..ScanLogConfig::new(dirs[usize::from(log_id)].path(), log_id)
        };
        let own = u8::try_from(log_id).expect("small");
        node_under(BRAND, &config, &StorageKey::from_bytes([100 + own; 32]))
    });
    let name = |node: &TestNode, who: &str| {
        let log = node.service.log();
        log.pseudonym(&[b"source", who.as_bytes(), b"phone"])
    };
    assert_eq!(name(&first, "192.0.2.1"), name(&second, "192.0.2.1"));
    assert_ne!(name(&first, "192.0.2.1"), name(&second, "192.0.2.2"));
    // So a household that scans at both is not taken for two that scan on two occasions.
    let scan = async |node: &TestNode, serial: &str, who: &str| {
        let source = name(node, who);
        let request = ScanRequest {
            source,
            place: None,
            ..request(serial, None)
        };
        node.service.scan(request).await.expect("scan");
    };
    for (serial, third) in [("G1", "192.0.2.1"), ("G2", "192.0.2.3")] {
        scan(&first, serial, "192.0.2.1").await;
        scan(&second, serial, third).await;
    }
    let seen = async |serial: &str| {
        let seen = first.service.log().seen(&code(serial).hash()).await;
        seen.expect("seen").history
    };
    let (one, two) = (seen("G1").await, seen("G2").await);
    assert!(one.len() < two.len(), "{} {}", one.len(), two.len());
}

/// As [`super::durable_scans_per_second`], on PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn durable_scans_per_second_on_postgresql() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let backend = database(&cluster, "speed").await;
    let dir = dir();
    measure(&backend.node(dir.path())).await;
}

fn two(cluster: &Cluster, database: &str, dirs: &[tempfile::TempDir; 2], which: usize) -> Gateway {
    let env = [(URL, cluster.url(database)), (LOG_ID, which.to_string())];
    Gateway::start(dirs[which].path(), &env)
}

fn below(n: u64) -> u64 {
    OsRng.next_u64() % n
}

/// Scans that a gateway was given and has not answered.
type Open = HashMap<String, String>;

/// What was said, and by which gateway.
#[derive(Default)]
struct Said {
    acks: HashMap<String, Answer>,
    unanswered: [Open; 2],
    refused: usize,
}

impl Said {
    fn take(&mut self, which: usize, answer: &Answer) {
        match answer {
            Answer::Ack { key, .. } => {
                self.unanswered[which].remove(key);
                if let Some(before) = self.acks.insert(key.clone(), answer.clone()) {
                    assert_eq!(&before, answer, "said otherwise before");
                }
            }
            Answer::Refused { .. } => self.refused += 1,
        }
    }
}

/// Two gateways on one database, the same codes raced at both, each of the three killed at random moments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_never_both_say_first_whatever_is_killed() {
    const CODES: u64 = 4_000;
    let Some(mut cluster) = Cluster::start().await else {
        return;
    };
    database(&cluster, "race").await;
    let dirs = [dir(), dir()];
    let mut gateways = [0, 1].map(|which| Some(two(&cluster, "race", &dirs, which)));
    let mut said = Said::default();
    let mut kills = [0; 3];
    let mut next = 0;
    while next < CODES || said.unanswered.iter().any(|u| !u.is_empty()) {
        // A few codes more, at both, in another order at each.
        let until = (next + 20 + below(120)).min(CODES);
        for (which, slot) in gateways.iter_mut().enumerate() {
            let gateway = slot.as_mut().expect("running");
            let mut serials: Vec<_> = (next..until).collect();
            serials.sort_by_key(|n| n.wrapping_mul(0x9e37_79b9 + 2 * which as u64 + 1) % 8_191);
            for n in serials {
                let (serial, key) = (format!("G{n}"), format!("{which}-{n}"));
                said.unanswered[which].insert(key.clone(), serial.clone());
                gateway.scan(&serial, &key);
            }
        }
        next = until;
        // Somebody dies in the middle of it; later on nobody does, so that it comes to an end.
        let victim = if next < CODES { below(12) } else { 99 };
        tokio::time::sleep(Duration::from_millis(below(60))).await;
        match usize::try_from(victim).expect("small") {
            which @ (0 | 1) => {
                kills[which] += 1;
                for answer in gateways[which].take().expect("running").kill() {
                    said.take(which, &answer);
                }
                gateways[which] = Some(two(&cluster, "race", &dirs, which));
            }
            2 => {
                kills[2] += 1;
                cluster.kill();
                tokio::time::sleep(Duration::from_millis(below(300))).await;
                cluster.up().await;
            }
            _ => {}
        }
        for (which, slot) in gateways.iter_mut().enumerate() {
            let gateway = slot.as_mut().expect("running");
            while let Some(answer) = gateway.next(Duration::from_millis(40)) {
                said.take(which, &answer);
            }
            // What is still open is asked again under the same key, as a client does.
            if next >= CODES || below(4) == 0 {
                for (key, serial) in &said.unanswered[which] {
                    gateway.scan(serial, key);
                }
            }
        }
    }
    for (which, slot) in gateways.into_iter().enumerate() {
        for answer in slot.expect("running").stop() {
            said.take(which, &answer);
        }
    }
    println!(
        "{} scans acknowledged, {} refused, killed: {kills:?}",
        said.acks.len(),
        said.refused
    );
    check_race(&cluster, &dirs, &said, CODES).await;
    assert!(kills.iter().sum::<u32>() > 2);
}

async fn check_race(cluster: &Cluster, dirs: &[tempfile::TempDir; 2], said: &Said, codes: u64) {
    let backend = Backend {
        shared: Some(Arc::new(shared(&cluster.url("race")))),
    };
    let nodes = [0_u16, 1].map(|log_id| {
        node_with(
            BRAND,
            &ScanLogConfig {
                shared: backend.shared.clone(),
                ..ScanLogConfig::new(dirs[usize::from(log_id)].path(), log_id)
            },
        )
    });
    // Scans that could not be verified get their verdict.
    for node in &nodes {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run_retries(
            Arc::clone(&node.service),
            quick(),
            stop.clone(),
        ));
        let start = Instant::now();
        while node.service.log().pending() > 0 {
            assert!(start.elapsed() < Duration::from_secs(120), "never verified");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        task.await.expect("task");
    }
    // Nothing that was acknowledged is lost or says something else now.
    let mut unverified = 0;
    for (key, answer) in &said.acks {
        let Answer::Ack {
            verdict,
            count,
            index,
            id,
            ..
        } = answer
        else {
            panic!("{answer:?}");
        };
        let which = usize::from(key.starts_with('1'));
        let stored = nodes[which].service.log().scan(&id.parse().expect("id"));
        let stored = stored.expect("acknowledged");
        assert_eq!(stored.record.verdict.name(), verdict);
        assert_eq!((stored.record.count, stored.index), (*count, *index));
        unverified += u64::from(stored.record.verdict == Verdict::CannotVerifyNow);
    }
    println!("{unverified} of them could not be verified at once");
    // Over both logs each code has one first scan, and its scans are numbered without a gap: each counted exactly once.
    let mut numbers: HashMap<String, Vec<u64>> = HashMap::new();
    let mut firsts = HashSet::new();
    for node in &nodes {
        for entry in node.service.log().everything() {
            let (serial, verdict, count) = entry;
            if !verdict.is_counted() {
                continue;
            }
            numbers.entry(serial.clone()).or_default().push(count);
            if verdict == Verdict::GenuineFirst {
                assert!(firsts.insert(serial.clone()), "{serial} was first twice");
            }
        }
    }
    assert_eq!(numbers.len() as u64, codes);
    assert_eq!(firsts.len() as u64, codes);
    for (serial, mut counts) in numbers {
        counts.sort_unstable();
        assert_eq!(
            counts,
            (1..=counts.len() as u64).collect::<Vec<_>>(),
            "{serial}"
        );
        assert!(counts.len() >= 2, "{serial}");
        let seen = nodes[0].service.log().seen(&code(&serial).hash()).await;
        assert_eq!(seen.expect("seen").count, counts.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_scans_are_kept_and_decided_later() {
    let Some(mut cluster) = Cluster::start().await else {
        return;
    };
    let backend = database(&cluster, "away").await;
    let dir = dir();
    let node = backend.node(dir.path());
    assert_eq!(verdict(&node, "G1").await, (Verdict::GenuineFirst, 1));
    cluster.kill();
    for n in 0..5 {
        let start = Instant::now();
        let (said, _) = verdict(&node, &format!("G{n}")).await;
        assert_eq!(said, Verdict::CannotVerifyNow);
        assert!(start.elapsed() < Duration::from_secs(6));
    }
    assert!(node.service.log().index_away().is_some());
    assert_eq!(verdict(&node, "X").await.0, Verdict::Unknown);
    let looked = node.service.look(&code("G1")).await.expect("look");
    assert_eq!(looked.verdict, Verdict::CannotVerifyNow);
    // A forwarded scan is not taken: the asker keeps it.
    let forward = ForwardRequest {
        network: NETWORK,
        asker: MEDIA,
        scan: ScanId([9; 16]),
        code: code("G7"),
        place: None,
        look: false,
        claim: None,
    };
    let refused = node
        .service
        .answer_forwarded(MEDIA, &forward.to_bytes())
        .await;
    assert!(
        matches!(refused, Err(ScanError::IndexAway { .. })),
        "{refused:?}"
    );

    cluster.up().await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_retries(
        Arc::clone(&node.service),
        quick(),
        stop.clone(),
    ));
    let start = Instant::now();
    while node.service.log().pending() > 0 {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    task.await.expect("task");
    assert_eq!(node.service.log().index_away(), None);
    assert_eq!(verdict(&node, "G1").await, (Verdict::GenuineRepeat, 3));
    assert_eq!(verdict(&node, "G2").await, (Verdict::GenuineRepeat, 2));
    assert_eq!(verdict(&node, "G9").await, (Verdict::GenuineFirst, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_lost_is_counted_again_from_the_log() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let dir = dir();
    // A log with an index of its own moves to a shared one; what it counted goes along.
    {
        let node = Backend::default().node(dir.path());
        for n in 0..1_500 {
            let scan = request(&format!("G{}", n % 400), None);
            node.service.scan(scan).await.expect("scan");
        }
    }
    let backend = database(&cluster, "lost").await;
    let node = backend.node(dir.path());
    assert_eq!(verdict(&node, "G3").await, (Verdict::GenuineRepeat, 5));
    assert_eq!(verdict(&node, "G399").await, (Verdict::GenuineRepeat, 4));
    assert_eq!(verdict(&node, "G400").await, (Verdict::GenuineFirst, 1));
    drop(node);
    // The database is a copy from before a part of it.
    let client = cluster.client("lost").await.expect("connect");
    let sql = "CREATE TABLE kept_codes AS SELECT * FROM tally_scan_codes; CREATE TABLE kept_logs AS SELECT * FROM tally_scan_logs";
    client.batch_execute(sql).await.expect("copy");
    let node = backend.node(dir.path());
    for n in 395..420 {
        node.service
            .scan(request(&format!("G{n}"), None))
            .await
            .expect("scan");
    }
    drop(node);
    let sql = "TRUNCATE tally_scan_codes, tally_scan_logs; INSERT INTO tally_scan_codes SELECT * FROM kept_codes; \
               INSERT INTO tally_scan_logs SELECT * FROM kept_logs";
    client.batch_execute(sql).await.expect("restore");
    let node = backend.node(dir.path());
    assert_eq!(verdict(&node, "G419").await, (Verdict::GenuineRepeat, 2));
    assert_eq!(verdict(&node, "G400").await, (Verdict::GenuineRepeat, 3));
    assert_eq!(verdict(&node, "G3").await, (Verdict::GenuineRepeat, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_log_or_password_never_says_first_and_the_database_learns_no_code() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let backend = database(&cluster, "secret").await;
    let (a, b, c, d) = (dir(), dir(), dir(), dir());
    let first = backend.node(a.path());
    let mut with_place = request("G1", None);
    with_place.place = Some(Place::new("CN", "Sichuan").expect("place"));
    let outcome = first.service.scan(with_place).await.expect("scan");
    assert_eq!(outcome.scan.record.verdict, Verdict::GenuineFirst);

    let url = cluster.url("secret");
    let other_key = SharedIndex {
        key: StorageKey::from_bytes([78; 32]),
        ..shared(&url)
    };
    let other_password = SharedIndex {
        password: Some(Zeroizing::new("another secret".to_owned())),
        ..shared(&url)
    };
    let config = |dir: &Path, log_id, shared| ScanLogConfig {
        shared: Some(Arc::new(shared)),
        ..ScanLogConfig::new(dir, log_id)
    };
    for (dir, log_id, shared, reason) in [
        (&b, 1, other_key, "another key"),
        (&c, 0, shared(&url), "log 0"),
        (&d, 2, other_password, "password"),
    ] {
        let node = node_with(BRAND, &config(dir.path(), log_id, shared));
        for serial in ["G1", "G2"] {
            assert_eq!(
                verdict(&node, serial).await.0,
                Verdict::CannotVerifyNow,
                "{reason}"
            );
        }
        let away = node.service.log().index_away().expect("away");
        assert!(away.contains(reason), "{away}");
        assert!(!away.contains(PASSWORD) && !away.contains("another secret"));
    }
    // Neither code nor serial nor place nor the code's plain hash stands in the database.
    let client = cluster.client("secret").await.expect("connect");
    let mut stored = Vec::new();
    for sql in [
        "SELECT code || data FROM tally_scan_codes",
        "SELECT unnest(lines) FROM tally_scan_logs",
        "SELECT key_check FROM tally_scan_meta",
    ] {
        for row in client.query(sql, &[]).await.expect("query") {
            stored.extend(row.get::<_, Vec<u8>>(0));
        }
    }
    assert!(stored.len() > 200);
    let hash = code("G1").hash();
    for secret in [&b"Sichuan"[..], GTIN.as_bytes(), &hash.0[..16]] {
        assert!(!stored.windows(secret.len()).any(|w| w == secret));
    }
}
