//! A newcomer begins at a snapshot that a running node serves: it is admitted, follows, votes if asked to, and has the state of all;
//! what it never had it refuses with a reason. A bent snapshot gives no ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tally_tests::{Client, Member, Network, Plan, Scenario, get, gtin, number, until};

const STEP: Duration = Duration::from_secs(30);
/// Longest time between blocks, in milliseconds.
const HEARTBEAT_MS: u64 = 500;
/// Small, so that a node on probation votes soon.
const SKEW_MS: u64 = 1_000;

/// Proposes that a member be admitted, and votes until the proposal has passed.
fn admit(clients: &[Client], card: &str) -> Result<()> {
    let (proposer, voters) = clients.split_first().context("a proposer")?;
    let proposed = proposer.ok(&["change", "propose", "admit", "--card", card])?;
    let change = proposed["change"].as_str().context("a change")?;
    for voter in voters {
        voter.wait_height(number(&proposed, "height")?, STEP)?;
        let voted = voter.ok(&["change", "vote", change])?;
        if voted["status"] != "open" {
            return Ok(());
        }
    }
    bail!("the votes of all do not suffice")
}

#[test]
fn a_newcomer_begins_at_a_snapshot_and_has_the_state_of_all() {
    Scenario::run("snapshot", |scenario| {
        let roles = Plan::four().members;
        let members = roles
            .iter()
            .map(|(name, roles)| Member::init(scenario.dir(), name, roles, 1))
            .collect::<Result<Vec<_>>>()?;
        let mut network = Network::found_by(scenario.dir(), members, HEARTBEAT_MS, SKEW_MS)?;
        network.start()?;
        let clients: Vec<Client> = network.iter().map(Member::client).collect();
        let brand = clients.first().context("a member")?;
        let early = brand.run(&["snapshot", "save"])?;
        ensure!(early.refusal()?.1 == "no_snapshot", "{early:?}");

        let (next, stop) = (
            Arc::new(AtomicU32::new(1)),
            Arc::new(AtomicBool::new(false)),
        );
        let loads: Vec<_> = clients
            .iter()
            .take(3)
            .cloned()
            .map(|client| {
                let (next, stop) = (next.clone(), stop.clone());
                thread::spawn(move || client.load(&next, &stop))
            })
            .collect();
        until("more than a bundle of entries", STEP, || {
            ensure!(
                number(&brand.ok(&["ledger", "head"])?, "tree_size")? > 270,
                "fewer"
            );
            Ok(())
        })?;
        let saved = brand.ok(&["snapshot", "save"])?;
        let at = number(&saved, "height")?;
        ensure!(
            number(&brand.ok(&["status"])?, "snapshot_height")? == at,
            "not served"
        );
        println!("saved at height {at}: {} bytes", saved["bytes"]);

        // The newcomer has the genesis and nothing else.
        let mut fifth = Member::init(scenario.dir(), "fifth", "media,brand", 1)?;
        let genesis = network[0].dir.join("ledger/genesis");
        let genesis = genesis.to_str().context("a path")?;
        fifth.ok(&["join", genesis, "--network", &network.id, "--newcomer"])?;

        // A snapshot of which one byte was changed on the way.
        let copy = scenario.dir().join("copy");
        let copy_text = copy.to_str().context("a path")?;
        brand.ok(&["snapshot", "save", "--out", copy_text])?;
        let bent = copy.join("state-000000");
        let mut bytes = std::fs::read(&bent)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&bent, bytes)?;
        let refused = fifth.run(&["snapshot", "restore", "--from", copy_text])?;
        let (exit, code, message) = refused.refusal()?;
        ensure!(exit == 4 && code == "snapshot", "{refused:?}");
        ensure!(message.contains("state-000000"), "{message}");
        ensure!(
            !fifth.dir.join("ledger/state").exists(),
            "something of it is left"
        );

        let url = format!("http://{}", network[0].http);
        let shown = fifth.ok(&["snapshot", "show", "--from", &url])?;
        let restored = fifth.ok(&["snapshot", "restore", "--from", &url])?;
        ensure!(
            shown == restored && number(&restored, "height")? == at,
            "{restored}"
        );
        let there = brand.ok(&["ledger", "head", "--at-height", &at.to_string()])?;
        ensure!(
            restored["state_root"] == there["state_root"],
            "{restored} {there}"
        );
        fifth.start()?;
        fifth.wait_up(STEP)?;
        ensure!(fifth.head(None)?.0 == at, "it began elsewhere");
        println!("restored");

        let card = fifth.card();
        admit(&clients, card.to_str().context("a path")?)?;
        until("the fifth to be in step", STEP, || {
            ensure!(fifth.head(None)?.0 + 3 >= brand.head(None)?.0, "it lags");
            Ok(())
        })?;
        until("the fifth to be let vote", STEP, || {
            let status = fifth.client().ok(&["status"])?;
            ensure!(status["consensus"]["on_probation"] == false, "not yet");
            Ok(())
        })?;
        until("all to see five", STEP, || {
            for client in &clients {
                let seen = client.ok(&["status"])?["consensus"]["power_present"].clone();
                ensure!(seen == 5, "{} sees {seen}", client.name);
            }
            Ok(())
        })?;
        // With one of five away, nothing is decided without the newcomer's vote.
        network[3].stop()?;
        brand.add_product(&gtin(900_001))?;
        fifth.add_product(&gtin(900_002))?;
        network[3].start()?;
        network[3].wait_up(STEP)?;
        println!("voted");

        stop.store(true, Ordering::Relaxed);
        let mut acknowledged = 0;
        for load in loads {
            let records = load.join().map_err(|_| anyhow::anyhow!("a load failed"))?;
            acknowledged += records.len();
        }
        ensure!(acknowledged > 200, "only {acknowledged} records");
        let (height, root) = network.agree(STEP)?;
        fifth.wait_height(height, STEP)?;
        ensure!(fifth.head(Some(height))?.1 == root, "another state root");

        // What it never had, it says; the tree reaches back all the same.
        let old = fifth.run(&["ledger", "head", "--at-height", "1"])?;
        ensure!(old.refusal()?.2.contains("not on this node"), "{old:?}");
        let status = fifth.ok(&["status"])?;
        ensure!(number(&status, "first_height")? == at + 1, "{status}");
        let gone = get(&fifth.http, "/tile/entries/000")?;
        ensure!(
            gone.status == 410 && gone.told().contains("minimum-index"),
            "{gone:?}"
        );
        let (here, there) = (
            get(&fifth.http, "/tile/0/000")?,
            get(&network[0].http, "/tile/0/000")?,
        );
        ensure!(here.status == 200 && here.body == there.body, "{here:?}");
        let minimum = String::from_utf8(get(&fifth.http, "/minimum-index")?.body)?;
        let first = number(&status, "first_entry")?.to_string();
        ensure!(
            minimum.starts_with(&format!(
                "tally/minimum-index/v1\n{}\n{first}\n",
                network.id
            )),
            "{minimum}"
        );
        println!("{acknowledged} records; height {height}, state root {root}");
        network.stop()?;
        fifth.stop()
    });
}
