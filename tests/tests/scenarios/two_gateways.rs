//! Two nodes of one brand over one PostgreSQL: codes raced at both are first at one of them; either may be killed, the database too.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tally_tests::postgres::{PASSWORD, Postgres};
use tally_tests::{Client, Member, Network, Scenario, get, gtin, request, skip, until};

const CODES: usize = 120;
const LIMIT: Duration = Duration::from_secs(60);
const BEIJING: &str = "wx4g";
const SHANGHAI: &str = "wtw3";
const GUANGZHOU: &str = "ws0e";

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn share(member: &Member, postgres: &Postgres, log_id: i64) -> Result<()> {
    fs::write(member.dir.join("index.key"), "5a".repeat(32))?;
    fs::write(member.dir.join("db.password"), PASSWORD)?;
    member.configure("scans", "log_id", log_id)?;
    member.configure("scans", "index", postgres.url())?;
    member.configure("scans", "index_key_file", "index.key")?;
    member.configure("scans", "index_password_file", "db.password")
}

/// Scans until the node says something that can be kept; 503 is asked again under the same key.
fn scan(member: &Member, code: &str, key: &str) -> Result<Value> {
    let mut said = Value::Null;
    until("an answer", LIMIT, || {
        let answer = member.client().scan(code, key)?;
        ensure!(answer.status == 200, "{}", answer.told());
        said = answer.json();
        Ok(())
    })?;
    Ok(said)
}

#[test]
fn two_nodes_of_one_brand_never_both_say_first() {
    Scenario::run("two-gateways", both);
}

fn both(scenario: &Scenario) -> Result<()> {
    let Some(mut postgres) = Postgres::start()? else {
        skip(
            "two gateways",
            "PostgreSQL is not installed: apt-get install postgresql",
        );
        return Ok(());
    };
    // The second machine makes its card first; the first takes it into its own.
    let root = scenario.dir();
    let other = root.join("other-machine");
    fs::create_dir(&other)?;
    let mut second = Member::init(&other, "brand", "brand", 0)?;
    let card = second.card().display().to_string();
    let first = Member::init_with(root, "brand", "brand", 1, &["--with-node", &card])?;
    fs::copy(first.card(), second.card())?;
    share(&first, &postgres, 0)?;
    let mut network = Network::found_of(root, vec![first], 1_000)?;
    network.start()?;
    let genesis = network[0].dir.join("genesis-to-sign").display().to_string();
    second.ok(&["join", "--network", &network.id, &genesis])?;
    let product = gtin(77);
    network[0].add_product(&product)?;
    let batch = network[0].issue(&product, "L1", CODES, false)?;
    let sold = network[0].issue(&product, "L2", 1, true)?;

    // A second node that its operator took for one that issues: it made keys of its own, and must not use them.
    second.start()?;
    second.wait_up(LIMIT)?;
    let height = network[0].head(None)?.0;
    second.wait_height(height, LIMIT)?;
    refused_to_issue(&second, &product, "has no keys of batch")?;
    second.stop()?;
    for made in ["codes", "scans"] {
        fs::remove_dir_all(second.dir.join(made))?;
    }
    share(&second, &postgres, 1)?;

    // Without the issuer's folder it would take every code for an invented one, so it does not start.
    let refused = second.run(&["up"])?;
    ensure!(
        refused.exit != 0 && format!("{refused:?}").contains("holds no issuer's keys"),
        "{refused:?}"
    );

    copy_dir(&network[0].dir.join("codes"), &second.dir.join("codes"))?;
    second.start()?;
    second.wait_up(LIMIT)?;
    second.wait_ready(LIMIT)?;
    refused_to_issue(&second, &product, "further gateway")?;
    let (_, code, _) = second.run(&["codes", "new-epoch"])?.refusal()?;
    ensure!(code == "not_the_issuer", "{code}");
    network[0].ok(&["codes", "activate", &batch.id])?;
    let height = network[0].head(None)?.0;
    second.wait_height(height, LIMIT)?;

    let mut firsts = BTreeSet::new();
    for (n, row) in batch.codes.iter().enumerate() {
        let code = &row.0;
        let (a, b) = std::thread::scope(|scope| {
            let a = scope.spawn(|| scan(&network[0], code, &format!("a{n}")));
            let b = scope.spawn(|| scan(&second, code, &format!("b{n}")));
            (a.join(), b.join())
        });
        let said = [a, b].map(|r| r.map_err(|_| anyhow::anyhow!("a scan panicked")));
        let [a, b] = said;
        let verdicts = [a??, b??].map(|s| s["verdict"].as_str().unwrap_or_default().to_owned());
        let first = verdicts.iter().filter(|v| *v == "genuine_first").count();
        ensure!(first <= 1, "code {n}: {verdicts:?}");
        if first == 1 {
            firsts.insert(n);
        }
        match n {
            30 => {
                second.kill()?;
                second.start()?;
                second.wait_up(LIMIT)?;
                second.wait_ready(LIMIT)?;
            }
            // Codes are raced while it starts as well: what cannot be decided then is kept.
            60 => {
                postgres.kill();
                postgres.wait_up()?;
            }
            75 => {
                for node in [network[0].client(), second.client()] {
                    index_is_back(&node)?;
                }
            }
            90 => {
                network[0].kill()?;
                network.start()?;
            }
            _ => {}
        }
    }
    ensure!(firsts.len() > CODES / 2, "only {} firsts", firsts.len());
    // What could not be verified is, and then every code has a first scan.
    for node in [network[0].client(), second.client()] {
        index_is_back(&node)?;
        until("every scan to have its verdict", LIMIT, || {
            let verdicts = node.ok(&["scans", "stats"])?["verdicts"].clone();
            ensure!(verdicts["cannot_verify_now"].is_null(), "{verdicts}");
            Ok(())
        })?;
    }
    // What was said is said again, and each counts two scans at least.
    for (n, row) in batch.codes.iter().enumerate() {
        let again = scan(&second, &row.0, &format!("c{n}"))?;
        ensure!(again["verdict"] == "genuine_repeat", "code {n}: {again}");
    }
    // What both logs count together is what was issued: every code is one unit, first at one gateway and repeated.
    let (mut units, mut repeats) = (0, 0);
    for node in [network[0].client(), second.client()] {
        let stats = node.ok(&["scans", "stats"])?;
        ensure!(stats["shared_index"] == true, "{stats}");
        let of_batch = &stats["batches"][0];
        ensure!(of_batch["batch"] == batch.id.as_str(), "{stats}");
        ensure!(of_batch["issued"] == CODES, "{stats}");
        ensure!(of_batch["p_value"].is_null(), "{stats}");
        units += of_batch["units"].as_u64().unwrap_or_default();
        repeats += stats["verdicts"]["genuine_repeat"]
            .as_u64()
            .unwrap_or_default();
    }
    ensure!(units == CODES as u64, "{units} units");
    ensure!(repeats >= 2 * CODES as u64 - 10, "{repeats} repeats");
    dealers_are_shared(&network[0], &second, &sold.codes[0].0)?;
    network.stop()?;
    second.stop()
}

/// A dealer of one gateway is one of the other; what it says at both is one event; and what is said at either reaches the detector.
fn dealers_are_shared(first: &Member, second: &Member, code: &str) -> Result<()> {
    for (node, name) in [(first, "shop"), (second, "kiosk")] {
        node.ok(&["dealer", "add", name, "--key-file", &format!("{name}.key")])?;
    }
    fs::copy(first.dir.join("shop.key"), second.dir.join("shop.key"))?;
    fs::copy(second.dir.join("kiosk.key"), first.dir.join("kiosk.key"))?;
    let again = second.run(&["dealer", "add", "shop", "--key-file", "again.key"])?;
    let (_, refused, _) = again.refusal()?;
    ensure!(refused == "known", "{refused}");
    for node in [first, second] {
        until("both dealers at both gateways", LIMIT, || {
            let list = node.ok(&["dealer", "list"])?;
            ensure!(list.as_array().is_some_and(|l| l.len() == 2), "{list}");
            Ok(())
        })?;
    }
    let say = |node: &Member, event: &str, dealer: &str, cell: &str| {
        let (key, url) = (format!("{dealer}.key"), format!("http://{}", node.http));
        let head = ["event", event, code, "--key-file", &key, "--url", &url];
        let place = ["--country", "CN", "--cell", cell, "--accuracy-m", "50"];
        node.run(&[&head[..], &place].concat())
    };
    let received = say(first, "receive", "shop", SHANGHAI)?.ok()?;
    ensure!(received["taken"] == 1, "{received}");
    let sold = say(second, "sell", "shop", SHANGHAI)?.ok()?;
    ensure!(sold["taken"] == 1 && sold["again"] == 0, "{sold}");
    // The same at the other gateway, and again at this one.
    for node in [first, second] {
        let said = say(node, "sell", "shop", SHANGHAI)?.ok()?;
        ensure!(said["again"] == 1, "{said}");
    }
    let bought = scan_at(first, code, "customer", SHANGHAI)?;
    ensure!(bought["verdict"] == "genuine_first", "{bought}");
    // Another dealer has it in stock afterwards: the other gateway knows of the sale.
    let stocked = say(second, "receive", "kiosk", GUANGZHOU)?.ok()?;
    ensure!(stocked["sold_before"] == 1, "{stocked}");
    let found = scan_at(first, code, "another", BEIJING)?;
    let reasons = found["reasons"].to_string();
    ensure!(
        found["verdict"] == "suspect" && reasons.contains("after_sale"),
        "{found}"
    );
    // A key that is taken back at one gateway is refused at the other.
    first.ok(&["dealer", "remove", "kiosk"])?;
    until("the key to be refused", LIMIT, || {
        let (_, reason, _) = say(second, "sell", "kiosk", GUANGZHOU)?.refusal()?;
        ensure!(reason == "dealers-only", "{reason}");
        Ok(())
    })
}

/// A scan whose device tells its place.
fn scan_at(member: &Member, code: &str, person: &str, cell: &str) -> Result<Value> {
    let headers = [("content-type", "application/json"), ("user-agent", person)];
    let place = json!({"country": "CN", "cell": cell, "accuracy_m": 50});
    let body = json!({"code": code, "place": place}).to_string();
    let answer = request(&member.http, "POST", "/v1/scans", &headers, body.as_bytes())?;
    ensure!(answer.status == 200, "{}", answer.told());
    Ok(answer.json())
}

fn index_is_back(node: &Client) -> Result<()> {
    until("the index to be back", LIMIT, || {
        let status = get(&node.http, "/v1/status")?.json();
        let away = status.pointer("/scans/index_away");
        ensure!(away.is_some_and(Value::is_null), "{away:?}");
        Ok(())
    })
}

fn refused_to_issue(node: &Member, product: &str, why: &str) -> Result<()> {
    let out = node.dir.join("refused.csv").display().to_string();
    let args = [
        "codes", "issue", "--gtin", product, "--lot", "L2", "--count", "10", "--out", &out,
    ];
    let (exit, code, message) = node.run(&args)?.refusal()?;
    ensure!(exit == 1 && code == "not_the_issuer", "{exit} {code}");
    ensure!(message.contains(why), "{message}");
    ensure!(!Path::new(&out).exists(), "a file of refused codes");
    Ok(())
}
