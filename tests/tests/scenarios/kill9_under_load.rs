//! SIGKILL of any node at random moments while records and scans flow: nothing that was acknowledged is lost.
//!
//! What was acknowledged is written down by the clients, in files outside of the nodes. `TALLY_KILLS` sets how many nodes are
//! killed (20), `TALLY_SEED` which ones and when.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng as _;
use serde_json::{Value, json};
use tally_tests::{
    Acknowledged, Client, Network, Plan, Scenario, get, gtin, number_from_env, one_history, request,
};

/// The codes that are scanned, of one batch of the brand.
const CODES: usize = 600;
/// The product that they are of.
const PRODUCT: u32 = 1;
/// How long a node may take to be in step after the last kill.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Registers products, and at the brand issues and activates batches, until told to stop.
fn submit(
    client: &Client,
    stop: &AtomicBool,
    next: &AtomicU32,
    mut log: Acknowledged,
) -> Result<PathBuf> {
    let mut own: Option<String> = None;
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let done = match &own {
            Some(product) if number.is_multiple_of(3) => client
                .issue(product, &format!("L{number}"), 3, false)
                .and_then(|batch| {
                    log.note(&json!({"record": batch.record}))?;
                    client.ok(&["codes", "activate", &batch.id])
                })
                .and_then(|answer| log.note(&json!({"record": answer["record"]}))),
            _ => client.add_product(&gtin(number)).and_then(|record| {
                own = Some(gtin(number));
                log.note(&json!({"record": record}))
            }),
        };
        if done.is_err() {
            // A node that is down, or a record whose fate is unknown: nothing was promised.
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(log.path().to_owned())
}

/// Scans codes at one node until told to stop. A scan without an answer is sent again under its key, as a careful client does.
fn scan(
    client: &Client,
    codes: &[String],
    mut rng: impl rand::RngCore,
    stop: &AtomicBool,
    mut log: Acknowledged,
) -> Result<PathBuf> {
    for number in 0_u64.. {
        let code = &codes[rng.gen_range(0..codes.len())];
        let key = format!("{}-{:016x}-{number}", client.name, rng.r#gen::<u64>());
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(log.path().to_owned());
            }
            match client.scan(code, &key) {
                Ok(answer) if answer.status == 200 => {
                    let said = answer.json();
                    ensure!(said["receipt"].is_string(), "no receipt: {said}");
                    log.note(&json!({
                        "node": client.name, "code": code, "key": key, "scan": said["scan_id"],
                        "verdict": said["verdict"], "receipt": said["receipt"], "count": said["count"],
                    }))?;
                    break;
                }
                // Down, stopping, or not ready: come again.
                Ok(answer) if answer.status == 503 => {}
                Ok(answer) => bail!("a scan was answered with {}", answer.told()),
                Err(_) => {}
            }
            thread::sleep(Duration::from_millis(30));
        }
        thread::sleep(Duration::from_millis(rng.gen_range(0..20)));
    }
    Ok(log.path().to_owned())
}

/// Kills and restarts nodes; at times two are down, and then nothing is committed until one is back.
fn kill_nodes(network: &mut Network, kills: u64, rng: &mut impl rand::RngCore) -> Result<()> {
    let mut down: Vec<(usize, Instant)> = Vec::new();
    for kill in 1..=kills {
        let at = Instant::now() + Duration::from_millis(rng.gen_range(100..2_200));
        while Instant::now() < at {
            start_due(network, &mut down)?;
            thread::sleep(Duration::from_millis(5));
        }
        let victim = rng.gen_range(0..network.len());
        if network[victim].is_started() {
            network[victim].kill()?;
        } else {
            // It is down: kill it in the middle of its start instead.
            down.retain(|(member, _)| *member != victim);
            network[victim].start()?;
            thread::sleep(Duration::from_millis(rng.gen_range(5..300)));
            network[victim].kill()?;
        }
        println!("kill {kill}: {}", network[victim].name);
        down.push((
            victim,
            Instant::now() + Duration::from_millis(rng.gen_range(0..1_500)),
        ));
    }
    while !down.is_empty() {
        start_due(network, &mut down)?;
        thread::sleep(Duration::from_millis(20));
    }
    for member in network.iter_mut() {
        ensure!(member.ended().is_none(), "{} ended by itself", member.name);
    }
    Ok(())
}

fn start_due(network: &mut Network, down: &mut Vec<(usize, Instant)>) -> Result<()> {
    let now = Instant::now();
    for (member, _) in down.iter().filter(|(_, at)| *at <= now) {
        network[*member].start()?;
    }
    down.retain(|(_, at)| *at > now);
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost() {
    Scenario::run("kill9", |scenario| {
        let kills = number_from_env("TALLY_KILLS").unwrap_or(20);
        let mut network = Network::running(scenario, &Plan::four())?;
        let brand = network[0].client();
        brand.add_product(&gtin(PRODUCT))?;
        let batch = brand.issue(&gtin(PRODUCT), "SOLD", CODES, true)?;
        let codes: Arc<Vec<String>> =
            Arc::new(batch.codes.into_iter().map(|(url, _)| url).collect());
        let (height, _) = brand.head(None)?;
        for member in network.iter() {
            member.wait_height(height, CATCH_UP)?;
        }

        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU32::new(PRODUCT + 1));
        let (mut submitters, mut scanners) = (Vec::new(), Vec::new());
        for (i, member) in network.iter().enumerate() {
            let log = Acknowledged::new(scenario.dir(), &format!("records-{}", member.name))?;
            let (client, stop_now, next) = (member.client(), stop.clone(), next.clone());
            submitters.push(thread::spawn(move || {
                submit(&client, &stop_now, &next, log)
            }));

            let log = Acknowledged::new(scenario.dir(), &format!("scans-{}", member.name))?;
            let (client, stop_now, codes) = (member.client(), stop.clone(), codes.clone());
            let rng = scenario.rng(10 + i as u64);
            scanners.push(thread::spawn(move || {
                scan(&client, &codes, rng, &stop_now, log)
            }));
        }
        let killed = kill_nodes(&mut network, kills, &mut scenario.rng(1));
        stop.store(true, Ordering::Relaxed);
        let collect = |threads: Vec<thread::JoinHandle<Result<PathBuf>>>| -> Result<Vec<Value>> {
            let mut all = Vec::new();
            for thread in threads {
                let path = thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a client panicked"))??;
                all.extend(Acknowledged::read(&path)?);
            }
            Ok(all)
        };
        let (records, scans) = (collect(submitters)?, collect(scanners)?);
        killed?;
        network.wait_ready()?;
        println!(
            "{} records and {} scans were acknowledged",
            records.len(),
            scans.len()
        );
        ensure!(
            records.len() as u64 >= kills && scans.len() as u64 >= 5 * kills,
            "too little load to prove anything"
        );

        let ids: BTreeSet<String> = records
            .iter()
            .map(|r| {
                r["record"]
                    .as_str()
                    .map(str::to_owned)
                    .context("a record without an ID")
            })
            .collect::<Result<_>>()?;
        let (height, root) = network.agree(CATCH_UP)?;
        records_are_there(&network, &ids)?;
        scans_are_there(&network, &scans)?;

        // The same again from nothing but the blocks.
        network.stop()?;
        for member in network.iter() {
            for folder in ["state", "tiles"] {
                let path = member.dir.join("ledger").join(folder);
                // A ledger without a full tile has no folder for tiles yet.
                if path.exists() {
                    fs::remove_dir_all(path)?;
                }
            }
            let rebuilt = member.ok(&["reindex"])?;
            ensure!(rebuilt["height"].as_u64() >= Some(height), "{rebuilt}");
        }
        network.start()?;
        for member in network.iter() {
            let again = member.head(Some(height))?;
            ensure!(
                again == (height, root.clone()),
                "{} after reindex: {again:?}",
                member.name
            );
        }
        network.agree(CATCH_UP)?;
        records_are_there(&network, &ids)?;
        scans_are_there(&network, &scans)?;
        network.stop()
    });
}

/// Every acknowledged record stands in the ledger of every node, all ledgers are one, and no key used a nonce twice or left one
/// out.
fn records_are_there(network: &Network, ids: &BTreeSet<String>) -> Result<()> {
    let promises: Vec<Value> = ids.iter().map(|id| json!({"record": id})).collect();
    let entries = one_history(network, &promises)?;
    println!("{} records, {entries} entries", ids.len());
    // By the command that an operator would take, on every node.
    let asked: Mutex<Vec<(Client, String)>> = Mutex::new(
        network
            .iter()
            .flat_map(|m| ids.iter().map(|id| (m.client(), id.clone())))
            .collect(),
    );
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some((client, id)) = asked.lock().ok().and_then(|mut a| a.pop()) {
                        let shown = client.ok(&["ledger", "show", &id])?;
                        ensure!(shown["record"] == id.as_str(), "{}: {shown}", client.name);
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })
}

/// Every acknowledged scan is still at its node: by its ID with the same receipt, and by its key with the same answer. No code
/// was said to be new twice.
fn scans_are_there(network: &Network, scans: &[Value]) -> Result<()> {
    let mut firsts: BTreeSet<&str> = BTreeSet::new();
    for scan in scans {
        let text = |key: &str| {
            scan[key]
                .as_str()
                .with_context(|| format!("{key} in {scan}"))
        };
        let member = network
            .iter()
            .find(|m| scan["node"] == m.name.as_str())
            .context("a member")?;
        let answer = get(&member.http, &format!("/v1/scans/{}", text("scan")?))?;
        let found = answer.json();
        ensure!(
            answer.status == 200
                && found["receipt"] == scan["receipt"]
                && found["verdict"] == scan["verdict"],
            "{} lost {scan}: {}",
            member.name,
            answer.told()
        );
        if scan["verdict"] == "genuine_first" {
            ensure!(firsts.insert(text("code")?), "a code was new twice: {scan}");
        }
    }
    ensure!(!firsts.is_empty(), "no code was ever new");
    // Asked again under its key, a scan gets its own answer and is not counted again.
    for scan in scans.iter().step_by(scans.len() / 200 + 1) {
        let member = network
            .iter()
            .find(|m| scan["node"] == m.name.as_str())
            .context("a member")?;
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", scan["key"].as_str().context("a key")?),
        ];
        let body = json!({"code": scan["code"]}).to_string();
        let answer = request(&member.http, "POST", "/v1/scans", &headers, body.as_bytes())?;
        let found = answer.json();
        ensure!(
            found["scan_id"] == scan["scan"]
                && answer.header("idempotency-replayed") == Some("true"),
            "{} answered {scan} anew: {}",
            member.name,
            answer.told()
        );
    }
    Ok(())
}
