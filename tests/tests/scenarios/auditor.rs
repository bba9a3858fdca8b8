//! An auditor's work on a running network: the proof of a scan from the page, the API and the command; statements on the state; the
//! replay of the ledger from a node and from a folder; two histories compared.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tally_tests::{Client, Network, Plan, Scenario, get, gtin, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Verifies a proof; it must be good.
fn verified(
    client: &Client,
    network: &str,
    dir: &Path,
    proof: &str,
    more: &[&str],
) -> Result<Value> {
    client
        .judge(network, dir.join("policy"), dir.join(proof), more)?
        .ok()
}

fn text(value: &Value) -> Result<String> {
    value
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("text, not {value}"))
}

#[test]
fn what_an_auditor_takes_home_from_a_running_network() {
    Scenario::run("auditor", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
        let brand = network[0].client();
        let other = network[1].client();
        let product = gtin(123_454_321);
        brand.add_product(&product)?;
        let sold = brand.issue(&product, "SOLD", 8, true)?;
        let held = brand.issue(&product, "HELD", 4, false)?;
        let dir = scenario.dir();
        let url = |client: &Client| format!("http://{}", client.http);

        // The network's policy, over HTTP: the same as every proof's.
        let policy = get(&brand.http, "/policy")?;
        ensure!(policy.status == 200, "{}", policy.told());
        fs::write(dir.join("policy"), &policy.body)?;

        // A scan at another member's node: it is that member's log that holds it.
        let mut scans = Vec::new();
        for (i, client) in [&brand, &other].into_iter().enumerate() {
            let answer = client.scan(&sold.codes[i].0, &format!("key-{i}"))?;
            ensure!(answer.status == 200, "{}", answer.told());
            scans.push((client, answer.json()));
        }
        let mut network_id = String::new();
        for (i, (client, scan)) in scans.iter().enumerate() {
            let id = text(&scan["scan_id"])?;
            let path = format!("/v1/scans/{id}/tlog-proof");
            let file = until("the proof of the scan", PATIENCE, || {
                let answer = get(&client.http, &path)?;
                ensure!(answer.status == 200, "{}", answer.told());
                Ok(answer)
            })?;
            let name = format!("scan-{i}.tlog-proof");
            fs::write(dir.join(&name), &file.body)?;
            // The page of the check links to it.
            let page = get(&client.http, &format!("/s/{id}"))?;
            ensure!(
                String::from_utf8_lossy(&page.body).contains(&path),
                "no link to the proof"
            );
            let out = dir.join(format!("scan-{i}-cli.tlog-proof"));
            let made = client.ok(&[
                "proof",
                "scan",
                &id,
                "--out",
                out.to_str().context("UTF-8")?,
            ])?;
            network_id = text(&made["network_id"])?;
            let link = sold.codes[i].0.clone();
            for name in [name.clone(), format!("scan-{i}-cli.tlog-proof")] {
                let told = verified(&other, &network_id, dir, &name, &["--code", &link])?;
                ensure!(
                    told["proven"] == "scan" && told["scan"] == json!(id),
                    "{told}"
                );
                ensure!(told["verdict"] == "genuine_first", "{told}");
                ensure!(told["member"] == json!(client.name), "{told}");
            }
            // Another code than the one that was scanned.
            let policy = dir.join("policy");
            let wrong = ["--code", &sold.codes[5].0];
            let wrong = other.judge(&network_id, policy, &out, &wrong)?;
            ensure!(wrong.refusal()?.1 == "other_code");
            let none = get(
                &client.http,
                &format!("/v1/scans/{}/tlog-proof", "0".repeat(32)),
            )?;
            ensure!(none.status == 404, "{}", none.told());
        }

        // Statements on the state.
        let state = |args: &[&str], name: &str| -> Result<()> {
            let out = dir.join(name);
            let mut line = vec!["proof", "state"];
            line.extend(args);
            line.extend(["--out", out.to_str().context("UTF-8")?]);
            other.ok(&line).map(drop)
        };
        state(&["batch", &sold.id], "sold.tlog-proof")?;
        let told = verified(&brand, &network_id, dir, "sold.tlog-proof", &[])?;
        ensure!(
            told["status"] == "active" && told["batch"] == json!(sold.id),
            "{told}"
        );
        ensure!(
            text(&told["statement"])?.contains("is not recalled"),
            "{told}"
        );
        state(&["member", &brand.name], "member.tlog-proof")?;
        let told = verified(&brand, &network_id, dir, "member.tlog-proof", &[])?;
        ensure!(
            told["member"] == json!(brand.name) && told["there"] == true,
            "{told}"
        );
        for (args, reason) in [
            (["batch", held.id.as_str()], "not_released"),
            (["batch", &"09".repeat(16)], "absent"),
            (["agreement", &"09".repeat(32)], "absent"),
        ] {
            state(&args, "bad.tlog-proof")?;
            let (policy, bad) = (dir.join("policy"), dir.join("bad.tlog-proof"));
            let refused = brand.judge(&network_id, policy, bad, &[])?;
            let (exit, code, _) = refused.refusal()?;
            ensure!((exit, code.as_str()) == (4, reason), "{exit} {code}");
        }

        // A record in words.
        let shown = brand.ok(&["ledger", "show", &sold.record])?;
        ensure!(
            shown["says"] == json!(format!("issues 8 codes of product {product}, lot SOLD")),
            "{shown}"
        );
        ensure!(
            shown["body"]["count"] == 8 && shown["body"]["gtin"] == json!(product),
            "{shown}"
        );

        // The whole ledger, from a running node.
        let told = other.ok(&[
            "audit",
            "replay",
            "--network",
            &network_id,
            "--from",
            &url(&brand),
        ])?;
        ensure!(
            told["replayed"] == true && told["records"].as_u64() >= Some(5),
            "{told}"
        );
        ensure!(
            told["needed"] == 3 && told["links_compared"].as_u64() >= Some(1),
            "{told}"
        );
        let wrong = other.run(&[
            "audit",
            "replay",
            "--network",
            &"07".repeat(32),
            "--from",
            &url(&brand),
        ])?;
        ensure!(wrong.refusal()?.1 == "other_network");
        // Two nodes show one history.
        let told = other.ok(&["audit", "diff", &url(&brand), &url(&other)])?;
        ensure!(told["parted"] == false, "{told}");

        // The same from folders, which may then be compared with a node that runs: of one that runs itself, and of one that is stopped.
        let third = network[2].client();
        let running = dir.join("log-of-a-running-node");
        let running_text = running.to_str().context("UTF-8")?;
        let written = third.ok(&["export", "tiles", "--out", running_text])?;
        let told = other.ok(&["audit", "replay", "--from", running_text])?;
        ensure!(
            told["replayed"] == true && told["entries"] == written["tree_size"],
            "{told}"
        );
        let again = third.run(&["export", "tiles", "--out", running_text])?;
        ensure!(again.refusal()?.1 == "export");
        network[2].stop()?;
        let log = dir.join("log");
        let log_text = log.to_str().context("UTF-8")?;
        third.ok(&["export", "tiles", "--out", log_text])?;
        let told = other.ok(&["audit", "replay", "--from", log_text])?;
        ensure!(
            told["replayed"] == true && told["network_id"] == json!(network_id),
            "{told}"
        );
        let told = other.ok(&["audit", "diff", log_text, &url(&other)])?;
        ensure!(told["parted"] == false, "{told}");
        ensure!(
            fs::read(log.join("policy"))? == policy.body,
            "another policy"
        );
        network.stop()
    });
}
