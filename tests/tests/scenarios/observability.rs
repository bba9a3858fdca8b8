//! What an operator watches: status, the check before a start, metrics, and that dashboard and alerts ask for metrics that are there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tally_tests::{Client, Network, Plan, Scenario, get, gtin, until};

/// Counters by a label, which are shown from their first event on; none of these happens in this scenario.
const RARE: [&str; 3] = [
    "tally_swarm_connections_refused_total",
    "tally_swarm_streams_refused_total",
    "tally_swarm_notifications_dropped_total",
];

#[test]
fn an_operator_sees_how_the_network_is() {
    Scenario::run("observability", |scenario| {
        let mut network = Network::found(scenario, &Plan::four())?;
        let brand = network[0].client();

        // Before the start: all ports are free.
        let checked = brand.ok(&["config", "check"])?;
        ensure!(checked["ok"] == true, "{checked}");
        let says = finding(&checked, "swarm.listen")?;
        ensure!(
            says["found"]
                .as_str()
                .is_some_and(|s| s.ends_with("is free")),
            "{says}"
        );
        network.start()?;
        let checked = brand.ok(&["config", "check"])?;
        let says = finding(&checked, "ports")?;
        ensure!(checked["ok"] == true && says["level"] == "ok", "{checked}");

        // What would not start is told with the next step, and by the exit code.
        let genesis = brand.dir.join("ledger/genesis");
        let aside = brand.dir.join("genesis-aside");
        fs::rename(&genesis, &aside)?;
        let outcome = brand.run(&["config", "check"])?;
        fs::rename(&aside, &genesis)?;
        ensure!(
            outcome.exit == 1 && outcome.json["ok"] == false,
            "{outcome:?}"
        );
        ensure!(
            finding(&outcome.json, "genesis")?["level"] == "error",
            "{outcome:?}"
        );
        let keys = brand.dir.join("keys/node.age");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o644))?;
        let checked = brand.ok(&["config", "check"])?;
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600))?;
        ensure!(
            finding(&checked, "keys")?["level"] == "warning",
            "{checked}"
        );

        brand.add_product(&gtin(3))?;
        let batch = brand.issue(&gtin(3), "L1", 20, true)?;
        ensure!(brand.scan(&batch.codes[0].0, "one")?.status == 200);

        let status = until("a cosigned checkpoint", Duration::from_secs(20), || {
            let status = brand.ok(&["status"])?;
            ensure!(
                status["checkpoint_age_s"].as_u64().is_some_and(|s| s < 30),
                "{status}"
            );
            ensure!(
                status["clock_skew_ms"]
                    .as_i64()
                    .is_some_and(|ms| ms.abs() < 2_000),
                "{status}"
            );
            Ok(status)
        })?;
        ensure!(status["advice"] == serde_json::json!([]), "{status}");
        ensure!(status["disk"]["free_bytes"].as_u64() > status["disk"]["reserve_bytes"].as_u64());

        dashboards_ask_for_what_is_there(&brand)?;

        // One goes away: it is named, with the time since.
        network[3].kill()?;
        until(
            "the missing one to be named",
            Duration::from_secs(40),
            || {
                let status = brand.ok(&["status"])?;
                let missing = &status["consensus"]["missing"][0];
                ensure!(
                    missing["name"] == "auditor" && missing["seconds"].is_u64(),
                    "{status}"
                );
                ensure!(status["consensus"]["power_present"] == 3, "{status}");
                let advice = status["advice"][0].as_str().unwrap_or_default();
                ensure!(
                    advice.starts_with("auditor (gone for ")
                        && advice.contains("the network goes on without"),
                    "{status}"
                );
                ensure!(metric(&brand, "tally_voting_power_present")? == 3.0);
                Ok(())
            },
        )?;
        network.stop()
    });
}

fn finding<'a>(checked: &'a Value, what: &str) -> Result<&'a Value> {
    checked["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|f| f["what"] == what)
        .with_context(|| format!("{what} was not looked at: {checked}"))
}

fn metrics(client: &Client) -> Result<String> {
    let answer = get(&client.http, "/metrics")?;
    ensure!(answer.status == 200, "{}", answer.told());
    Ok(String::from_utf8(answer.body)?)
}

fn metric(client: &Client, name: &str) -> Result<f64> {
    let text = metrics(client)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .with_context(|| format!("no {name} in\n{text}"))?;
    Ok(line.parse()?)
}

/// Every metric that the shipped dashboard and alerts name is one that a node serves.
fn dashboards_ask_for_what_is_there(client: &Client) -> Result<()> {
    let served: BTreeSet<String> = metrics(client)?
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(names)
        .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy");
    let dashboard = fs::read_to_string(folder.join("grafana.json"))?;
    let panels: Value = serde_json::from_str(&dashboard)?;
    ensure!(
        panels["panels"].as_array().is_some_and(|p| p.len() > 10),
        "no panels"
    );
    let alerts = fs::read_to_string(folder.join("alerts.yml"))?;
    let asked: BTreeSet<String> = names(&dashboard).chain(names(&alerts)).collect();
    ensure!(asked.len() > 20, "only {asked:?} are asked for");
    for name in &asked {
        ensure!(
            served.contains(name) || RARE.contains(&name.as_str()),
            "{name} is asked for and not served; there are {served:?}"
        );
    }
    Ok(())
}

/// The metrics named in a text.
fn names(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("tally_"))
        .map(str::to_owned)
}
