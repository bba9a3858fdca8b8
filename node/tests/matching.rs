//! Audiences, agreements and matches through whole nodes: two validators in this process, over real swarms and admin sockets.

mod common;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use common::{TestNetwork, files};
use serde_json::{Value, json};
use tally_contracts::genesis::Roles;
use tally_node::config::AutoAccept;
use tracing_subscriber::fmt::MakeWriter;

const MEMBERS: [(&str, Roles); 2] = [("brand", Roles::BRAND), ("media", Roles::MEDIA)];

/// What the nodes of this process log, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(log.clone())
            .init();
        log
    })
}

/// Person `n` of the test: digits that stand nowhere else.
fn digits(n: u32) -> String {
    format!("86139{:08}", 10_007 * n + 53)
}

/// People of a range as a file, with rows that cannot be used.
fn write_csv(path: &Path, range: std::ops::Range<u32>) {
    let first = digits(range.start);
    let mut text = String::from("order,phone\n");
    for (i, n) in range.enumerate() {
        let d = digits(n);
        // Several ways of writing the same.
        let written = match i % 3 {
            0 => format!("+{d}"),
            1 => format!("+{} {} {}", &d[..2], &d[2..6], &d[6..]),
            _ => format!("\"+{}-{}\"", &d[..2], &d[2..]),
        };
        writeln!(text, "{i},{written}").unwrap();
    }
    // A repeated person, an empty one, one that is no number, one column too many, a quote that is never closed.
    write!(
        text,
        "x,+{first}\nx,\nx,+{first}77\nx,+{first},1\nx,\"+{first}"
    )
    .unwrap();
    fs::write(path, text).unwrap();
}

fn import_args(file: &Path, label: &str) -> Value {
    json!({"file": file, "id_type": "phone", "profile": "e164", "label": label})
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "as `json!` makes it at every call"
)]
fn terms(computations: &[&str], noise: Value) -> Value {
    json!({
        "with": ["media"], "purpose": "a test", "computations": computations, "id_type": "phone", "profile": "e164",
        "noise": noise, "epoch_answers": 2, "lifetime_answers": 40, "min_set": 10, "max_set": 100_000, "min_result": 5,
        "max_audiences": 4, "max_matches": 20, "days": 30,
    })
}

async fn agree(net: &TestNetwork, terms: Value) -> String {
    let (brand, media) = (&net.nodes[0], &net.nodes[1]);
    let proposed = brand.ok("agreement_propose", terms).await;
    assert_eq!(proposed["status"], "proposed");
    assert_eq!(proposed["waits_for"], json!(["media"]));
    net.see(&proposed).await;
    let id = proposed["agreement"].as_str().unwrap().to_owned();
    let accepted = media.ok("agreement_accept", json!({"agreement": id})).await;
    assert_eq!(accepted["status"], "active");
    net.see(&accepted).await;
    id
}

async fn import_both(net: &TestNetwork) -> (PathBuf, PathBuf) {
    let (a, b) = (
        net.dir.path().join("buyers.csv"),
        net.dir.path().join("viewers.csv"),
    );
    write_csv(&a, 0..300);
    write_csv(&b, 180..580);
    for (i, (file, label)) in [(&a, "buyers"), (&b, "viewers")].into_iter().enumerate() {
        let done = net.nodes[i]
            .ok("audience_import", import_args(file, label))
            .await;
        net.see(&done).await;
    }
    (a, b)
}

fn request(agreement: &str, computation: &str) -> Value {
    json!({"agreement": agreement, "computation": computation, "audience": "buyers"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_import_agree_and_match_and_show_nobody() {
    let log = log();
    let mut net = TestNetwork::start(&MEMBERS, |_, _| {}).await;
    let (buyers, _) = import_both(&net).await;
    let (brand, media) = (&net.nodes[0], &net.nodes[1]);

    // The report of the import, by reason and line.
    let sets = brand.ok("audiences", json!({})).await;
    assert_eq!(sets[0]["people"], 300);
    assert_eq!(sets[0]["repeated_rows"], 1);
    assert_eq!(sets[0]["dropped_rows"], 4);
    let heard = brand.heard.lock().unwrap().clone();
    for part in [
        "\"repeated_lines\":\"302\"",
        "\"reason\":\"empty\",\"rows\":1",
        "\"lines\":\"304\"",
        "\"reason\":\"column_count\"",
        "\"reason\":\"quoting\"",
    ] {
        assert!(heard.contains(part), "{part} not in {heard}");
    }

    // Frozen: not twice in an epoch. And arguments that cannot be.
    let (code, _) = brand
        .err("audience_import", import_args(&buyers, "buyers"))
        .await;
    assert_eq!(code, "exists");
    let with = |key: &str, value: Value| {
        let mut args = import_args(&buyers, "others");
        args[key] = value;
        args
    };
    for (args, code) in [
        (with("profile", json!("uid2")), "usage"),
        (with("id_type", json!("fax")), "usage"),
        (with("column", json!("telephone")), "import"),
        (with("region", json!("Atlantis")), "usage"),
        (with("file", json!("buyers.csv")), "usage"),
        (with("file", json!(net.dir.path())), "usage"),
        (with("file", json!("/no/such/file")), "file"),
        (with("label", json!("")), "usage"),
        (with("labell", json!("x")), "usage"),
    ] {
        let found = brand.err("audience_import", args.clone()).await;
        assert_eq!(found.0, code, "{args} {found:?}");
    }

    // An exact count, stored: the same again is the same match.
    let exact = agree(&net, terms(&["cardinality", "list"], json!("none"))).await;
    let counted = brand
        .ok("match_request", request(&exact, "cardinality"))
        .await;
    assert_eq!(counted["found"], 120);
    assert_eq!(counted["stage"], "done", "{counted}");
    assert!(counted["noise"].as_str().unwrap().contains("test network"));
    assert!(counted["receipt_record"].is_string());
    let again = brand
        .ok("match_request", request(&exact, "cardinality"))
        .await;
    assert_eq!(again["match"], counted["match"]);
    let theirs = media
        .ok("match_show", json!({"match": counted["match"]}))
        .await;
    assert_eq!(
        (&theirs["found"], &theirs["asked_by"]),
        (&json!(120), &json!("them"))
    );

    // A list: its people into a private file, and nowhere else.
    let out = net.dir.path().join("people.csv");
    let mut args = request(&exact, "list");
    args["out"] = json!(out);
    let listed = brand.ok("match_request", args.clone()).await;
    assert_eq!(listed["found"], 120);
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let written = fs::read_to_string(&out).unwrap();
    let mut expected: Vec<_> = (180..300).map(|n| format!("+{}", digits(n))).collect();
    expected.sort();
    assert_eq!(written.lines().next(), Some("phone"));
    assert_eq!(written.lines().skip(1).collect::<Vec<_>>(), expected);
    assert_eq!(brand.err("match_request", args).await.0, "file");
    let of_count = json!({"match": counted["match"], "out": net.dir.path().join("none.csv")});
    assert_eq!(brand.err("match_show", of_count).await.0, "no_list");
    let at_media = json!({"match": listed["match"], "out": net.dir.path().join("none.csv")});
    assert_eq!(media.err("match_show", at_media).await.0, "no_list");

    // The same people under the faster suite.
    let mut faster = terms(&["list"], json!("none"));
    faster["suite"] = json!("vole-rr22-v1");
    let faster = agree(&net, faster).await;
    let out = net.dir.path().join("faster.csv");
    let mut args = request(&faster, "list");
    args["out"] = json!(out);
    assert_eq!(brand.ok("match_request", args).await["found"], 120);
    assert_eq!(fs::read_to_string(&out).unwrap(), written);

    // With noise: near, charged, and no more than the budget pays for.
    let noise = json!({"epsilon_micro": 500_000, "delta_exp": 20});
    let noisy = agree(&net, terms(&["cardinality"], noise)).await;
    let counted = brand
        .ok("match_request", request(&noisy, "cardinality"))
        .await;
    let bound = counted["noise_detail"]["bound"].as_i64().unwrap();
    assert!((counted["found"].as_i64().unwrap() - 120).abs() <= 2 * bound);
    let shown = brand
        .ok("agreement_show", json!({"agreement": noisy}))
        .await;
    assert_eq!(
        shown["budget_left"][0]["answers_left_this_epoch"], 1,
        "{shown}"
    );
    assert_eq!(shown["matches"], "1 of 20");

    // What is not agreed, not there or not allowed is refused with a reason.
    assert_eq!(
        brand.err("match_request", request(&noisy, "list")).await.0,
        "refused"
    );
    assert_eq!(
        brand.err("match_request", request(&noisy, "sum")).await.0,
        "usage"
    );
    let mut unknown = request(&noisy, "cardinality");
    unknown["audience"] = json!("nobody");
    assert_eq!(brand.err("match_request", unknown).await.0, "not_found");
    assert_eq!(
        brand
            .err("match_request", request(&"ab".repeat(32), "cardinality"))
            .await
            .0,
        "refused"
    );
    let done = json!({"match": counted["match"]});
    assert_eq!(brand.err("match_cancel", done).await.0, "ended");
    assert_eq!(
        brand
            .err("match_show", json!({"match": "00000000"}))
            .await
            .0,
        "not_found"
    );
    for (key, value) in [
        ("with", json!(["nobody"])),
        ("with", json!(["brand"])),
        ("computations", json!(["sum"])),
        ("days", json!(0)),
        ("purpose", json!("")),
        ("noise", json!({"epsilon_micro": 0, "delta_exp": 20})),
        ("noise", json!("little")),
    ] {
        let mut args = terms(&["cardinality"], json!("none"));
        args[key] = value;
        assert_eq!(
            brand.err("agreement_propose", args.clone()).await.0,
            "usage",
            "{args}"
        );
    }

    // A revoked agreement allows nothing more.
    let revoked = media
        .ok("agreement_revoke", json!({"agreement": exact}))
        .await;
    assert_eq!(revoked["status"], "revoked");
    net.see(&revoked).await;
    let mut other = request(&exact, "cardinality");
    other["audience"] = json!("buyers");
    let (code, message) = brand.err("match_request", other).await;
    assert_eq!(code, "refused", "{message}");
    assert_eq!(
        brand
            .ok("agreements", json!({}))
            .await
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        brand
            .ok("matches", json!({}))
            .await
            .as_array()
            .unwrap()
            .len(),
        4
    );

    net.stop_all().await;

    // Nobody shows anywhere: not in what was answered, not in what was logged, not on the disks.
    let mut places = vec![("log".to_owned(), log.0.lock().unwrap().clone())];
    for node in &net.nodes {
        places.push((
            format!("answers of {}", node.name),
            node.heard.lock().unwrap().clone().into_bytes(),
        ));
        for (path, bytes) in files(node.dir.root()) {
            places.push((path.display().to_string(), bytes));
        }
    }
    assert!(places.len() > 20 && places[0].1.len() > 10_000);
    let canaries = canaries();
    for (place, bytes) in &places {
        assert!(!shows(bytes, &canaries), "a person stands in {place}");
    }
    // The search finds what is there.
    assert!(shows(&fs::read(&buyers).unwrap(), &canaries));
    assert!(shows(hex::encode(&written).as_bytes(), &canaries));
}

/// Everybody's national number as it may leak: plain, as one of the files has it, in hex.
fn canaries() -> HashSet<Vec<u8>> {
    (0..580)
        .flat_map(|n| {
            let d = digits(n);
            let spaced = format!("{} {}", &d[2..6], &d[6..]);
            [d[2..].to_owned(), spaced, hex::encode(&d[2..])]
        })
        .map(String::into_bytes)
        .collect()
}

fn shows(bytes: &[u8], canaries: &HashSet<Vec<u8>>) -> bool {
    (0..bytes.len()).any(|at| {
        let rest = &bytes[at..];
        (rest.starts_with(b"139") || rest.starts_with(b"313339"))
            && [11, 12, 22]
                .iter()
                .any(|n| rest.get(..*n).is_some_and(|part| canaries.contains(part)))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_nobody_says_so() {
    let mut net = TestNetwork::start(&MEMBERS, |name, config| {
        if name == "media" {
            config.matches.auto_accept = AutoAccept::Never;
        }
    })
    .await;
    import_both(&net).await;
    let id = agree(&net, terms(&["cardinality"], json!("none"))).await;
    let (brand, media) = (&net.nodes[0], &net.nodes[1]);
    let (code, message) = brand
        .err("match_request", request(&id, "cardinality"))
        .await;
    assert_eq!(code, "refused");
    assert!(message.contains("match.auto_accept"), "{message}");
    assert_eq!(brand.ok("matches", json!({})).await[0]["stage"], "refused");
    assert_eq!(media.ok("matches", json!({})).await, json!([]));
    // Nothing was spent on it.
    let shown = brand.ok("agreement_show", json!({"agreement": id})).await;
    assert_eq!(shown["matches"], "0 of 20");

    // The other way round it works, and a member that is down is told apart from one that refuses.
    let args = json!({"agreement": id, "computation": "cardinality", "audience": "viewers"});
    assert_eq!(media.ok("match_request", args).await["found"], 120);
    net.stop(1).await;
    let (code, message) = net.nodes[0]
        .err("match_request", request(&id, "cardinality"))
        .await;
    assert_eq!(code, "unreachable", "{message}");
    net.stop_all().await;
}
