//! What a pack's holder takes home, and what the trade tells: the proof of a code from its page, the territory of a batch, dealers who say
//! what they have and sell; both reach the verdict.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tally_tests::{Client, Network, Plan, Scenario, get, gtin, request, until};

const PATIENCE: Duration = Duration::from_secs(60);
const BEIJING: &str = "wx4g";
const SHANGHAI: &str = "wtw3";
const GUANGZHOU: &str = "ws0e";

/// The path of the proof that the page of a code links to.
fn proof_path(client: &Client, code: &str) -> Result<String> {
    let at = code.find("/01/").context("a link")?;
    let page = get(&client.http, &code[at..])?;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    let (_, rest) = page
        .split_once("href=\"/v1/codes/")
        .with_context(|| format!("no link to a proof: {page}"))?;
    let end = rest.find('"').context("its end")?;
    Ok(format!("/v1/codes/{}", &rest[..end]))
}

/// A scan in a place, by a browser of its own.
fn scan(client: &Client, code: &str, person: &str, cell: &str) -> Result<Value> {
    let headers = [("content-type", "application/json"), ("user-agent", person)];
    let place = json!({"country": "CN", "cell": cell, "accuracy_m": 50});
    let body = json!({"code": code, "place": place}).to_string();
    let answer = request(&client.http, "POST", "/v1/scans", &headers, body.as_bytes())?;
    ensure!(answer.status == 200, "{}", answer.told());
    Ok(answer.json())
}

fn reasons(scan: &Value) -> Vec<&str> {
    let reasons = scan["reasons"].as_array().into_iter().flatten();
    reasons.filter_map(|r| r["code"].as_str()).collect()
}

fn code_proofs(scenario: &Scenario, network: &Network) -> Result<()> {
    let (brand, other) = (network[0].client(), network[1].client());
    let product = gtin(123_454_321);
    brand.add_product(&product)?;
    let sold = brand.issue(&product, "SOLD", 4, true)?;
    let recalled = brand.issue(&product, "RECALLED", 4, true)?;
    let dir = scenario.dir();
    let policy = get(&brand.http, "/policy")?;
    fs::write(dir.join("policy"), &policy.body)?;
    let take = |code: &str, name: &str| -> Result<()> {
        let path = proof_path(&brand, code)?;
        let file = until("the proof of the code", PATIENCE, || {
            let answer = get(&brand.http, &path)?;
            ensure!(answer.status == 200, "{}", answer.told());
            Ok(answer)
        })?;
        let saved = file.header("content-disposition").unwrap_or_default();
        ensure!(saved.contains(".tlog-proof"), "{saved}");
        Ok(fs::write(dir.join(name), &file.body)?)
    };
    let verify = |code: &str, name: &str| {
        // By the auditor's own command, of another member, with no word from a node.
        let (policy, proof) = (dir.join("policy"), dir.join(name));
        other.judge(&network.id, policy, proof, &["--code", code])
    };
    let (code, next) = (&sold.codes[0].0, &sold.codes[1].0);
    take(code, "code.tlog-proof")?;
    let report = verify(code, "code.tlog-proof")?.ok()?;
    ensure!(report["verified"] == true, "{report}");
    ensure!(report.to_string().contains(&sold.id), "{report}");
    // It proves this code and no other, and not one byte may differ.
    let (_, reason, _) = verify(next, "code.tlog-proof")?.refusal()?;
    ensure!(reason == "other_code", "{reason}");
    let mut bent = fs::read(dir.join("code.tlog-proof"))?;
    let at = bent.len() / 3;
    bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
    fs::write(dir.join("bent.tlog-proof"), bent)?;
    ensure!(
        verify(code, "bent.tlog-proof")?.exit != 0,
        "a bent proof verifies"
    );
    // Made once, handed out again; and as before after a scan.
    let path = proof_path(&brand, code)?;
    let first = get(&brand.http, &path)?.body;
    ensure!(brand.scan(code, "k1")?.status == 200);
    let begun = Instant::now();
    for _ in 0..50 {
        ensure!(get(&brand.http, &path)?.body == first, "another proof");
    }
    println!("50 kept proofs in {:?}", begun.elapsed());
    // A recalled code has another: it is told at once, whatever was kept.
    take(&recalled.codes[0].0, "before.tlog-proof")?;
    verify(&recalled.codes[0].0, "before.tlog-proof")?.ok()?;
    brand.ok(&["codes", "recall", &recalled.id, "--reason", "taste"])?;
    take(&recalled.codes[0].0, "after.tlog-proof")?;
    let (_, reason, _) = verify(&recalled.codes[0].0, "after.tlog-proof")?.refusal()?;
    ensure!(reason == "recalled", "{reason}");

    // Nobody else can prove it, and the page there does not say so.
    let at = code.find("/01/").context("a link")?;
    let page = get(&other.http, &code[at..])?;
    ensure!(!String::from_utf8_lossy(&page.body).contains("/v1/codes/"));
    let refused = get(&other.http, &path)?;
    ensure!(refused.status == 404, "{}", refused.told());
    ensure!(refused.told().contains("brand"), "{}", refused.told());
    // An invented code has none, and whoever tries many waits as one who scans them does.
    let mut slowest = Duration::ZERO;
    for i in 0..26 {
        let begun = Instant::now();
        let path = format!("/v1/codes/{product}/{i:020}/tlog-proof");
        let answer = get(&brand.http, &path)?;
        ensure!(answer.status == 404, "{}", answer.told());
        slowest = slowest.max(begun.elapsed());
    }
    ensure!(slowest >= Duration::from_millis(200), "{slowest:?}");
    Ok(())
}

fn territories(brand: &Client) -> Result<()> {
    let product = gtin(123_454_322);
    brand.add_product(&product)?;
    let batch = brand.issue(&product, "SOUTH", 4, false)?;
    brand.ok(&[
        "codes",
        "activate",
        &batch.id,
        "--territory",
        "VN,geohash:wm6",
    ])?;
    let batches = brand.ok(&["codes", "list"])?;
    let row = batches.as_array().context("batches")?;
    let row = row.iter().find(|r| r["batch"] == json!(batch.id));
    let row = row.context("the batch")?;
    ensure!(row["territory"] == json!(["VN", "geohash:wm6"]), "{row}");
    // Two places, between which phones cannot have travelled, are suspect anyhow; that both are outside is said too.
    for (person, cell) in [("a", BEIJING), ("b", GUANGZHOU)] {
        let found = scan(brand, &batch.codes[0].0, person, cell)?;
        ensure!(found["verdict"] != "unknown", "{found}");
    }
    let found = scan(brand, &batch.codes[0].0, "c", SHANGHAI)?;
    ensure!(found["verdict"] == "suspect", "{found}");
    ensure!(reasons(&found).contains(&"outside_territory"), "{found}");
    // Every member reads it; it can be changed and taken back.
    brand.ok(&["codes", "territory", &batch.id, "cn-sc"])?;
    let told = brand.ok(&["codes", "territory", &batch.id, "--unset"])?;
    let record = told["record"].as_str().context("a record")?;
    let shown = brand.ok(&["ledger", "show", record])?;
    ensure!(
        shown["says"]
            .as_str()
            .is_some_and(|s| s.starts_with("takes back")),
        "{shown}"
    );
    let (_, reason, said) = brand
        .run(&["codes", "territory", &batch.id, "China"])?
        .refusal()?;
    ensure!(
        reason == "usage" && said.contains("CN-SC"),
        "{reason}: {said}"
    );
    Ok(())
}

fn dealers(brand: &Client) -> Result<()> {
    let product = gtin(123_454_323);
    brand.add_product(&product)?;
    let batch = brand.issue(&product, "GOODS", 4, true)?;
    for name in ["shop", "kiosk"] {
        let key = format!("{name}.key");
        let made = brand.ok(&["dealer", "add", name, "--key-file", &key])?;
        ensure!(
            !made.to_string().contains("dealer-"),
            "the key was told: {made}"
        );
    }
    let list: String = batch
        .codes
        .iter()
        .map(|(url, _)| format!("{url}\n"))
        .collect();
    fs::write(brand.dir.join("carton.txt"), format!("# a carton\n{list}"))?;
    let event = |event: &str, dealer: &str, more: &[&str]| {
        let key = format!("{dealer}.key");
        let url = format!("http://{}", brand.http);
        let mut args = vec!["event", event, "--key-file", &key, "--url", &url];
        args.extend(more);
        brand.run(&args)
    };
    let place = |cell: &'static str| ["--country", "CN", "--cell", cell, "--accuracy-m", "50"];
    let carton = ["--list", "carton.txt"];
    let received = event("receive", "shop", &[&carton[..], &place(SHANGHAI)].concat())?.ok()?;
    ensure!(
        received["taken"] == 4 && received["sold_before"] == 0,
        "{received}"
    );
    let code = batch.codes[0].0.as_str();
    let sold = event("sell", "shop", &[&[code][..], &place(SHANGHAI)].concat())?.ok()?;
    ensure!(sold["taken"] == 1 && sold["dealer"] == "shop", "{sold}");
    let again = event("sell", "shop", &[code])?.ok()?;
    ensure!(again["again"] == 1, "{again}");
    // What the trade says is no scan: the customer is the first.
    let first = scan(brand, code, "customer", SHANGHAI)?;
    ensure!(first["verdict"] == "genuine_first", "{first}");
    // The same code in another shop.
    let other = event(
        "receive",
        "kiosk",
        &[&[code][..], &place(GUANGZHOU)].concat(),
    )?
    .ok()?;
    ensure!(other["sold_before"] == 1, "{other}");
    let found = scan(brand, code, "another", BEIJING)?;
    ensure!(found["verdict"] == "suspect", "{found}");
    ensure!(reasons(&found).contains(&"after_sale"), "{found}");
    // A code of nobody, and a key of nobody.
    let refused = event("sell", "shop", &[&format!("{product}/{:020}", 1)])?;
    ensure!(refused.exit == 4, "{refused:?}");
    brand.ok(&["dealer", "remove", "kiosk"])?;
    let (_, reason, _) = event("sell", "kiosk", &[code])?.refusal()?;
    ensure!(reason == "dealers-only", "{reason}");
    let left = brand.ok(&["dealer", "list"])?;
    ensure!(left.as_array().is_some_and(|l| l.len() == 1), "{left}");
    Ok(())
}

#[test]
fn proofs_of_codes_and_the_word_of_the_trade() {
    Scenario::run("trade", |scenario| {
        let plan = Plan {
            members: vec![("brand", "brand"), ("media", "media")],
            ..Plan::one()
        };
        let mut network = Network::running(scenario, &plan)?;
        code_proofs(scenario, &network)?;
        let brand = network[0].client();
        territories(&brand)?;
        dealers(&brand)?;
        // All of it holds after a kill.
        network[0].kill()?;
        network.start()?;
        let left = brand.ok(&["dealer", "list"])?;
        ensure!(left[0]["dealer"] == "shop", "{left}");
        Ok(())
    });
}
