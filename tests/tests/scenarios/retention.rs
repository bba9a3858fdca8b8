//! Old entries are dropped while records flow. A node that is killed in the middle of a drop has what it says it has, and goes on; a
//! public verifier takes what it exports; its own records are proven as before, those of others by who keeps them.
//!
//! `TALLY_PYTHON` names a Python that has aics-tlog, as in `public_verifiers.rs`.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::Rng as _;
use tally_tests::{
    Client, Member, Network, Plan, Scenario, entry_bundle_path, get, gtin, number, until, verifiers,
};

const STEP: Duration = Duration::from_secs(60);
/// Longest time between blocks, in milliseconds.
const HEARTBEAT_MS: u64 = 100;
const SKEW_MS: u64 = 30_000;
/// The smallest block files.
const FILE_BYTES: i64 = 64 << 10;
/// The blocks that always stay, and some files' worth besides.
const HEIGHT: u64 = 256 + 130;
const KILLS: u32 = 4;
/// Blocks between two of them, so that there is something to drop.
const BETWEEN: u64 = 40;
/// How many at once at each node, so that blocks have several records.
const CLIENTS: u32 = 4;

/// That a node serves exactly what it says: bundles from its first entry on, every hash tile, a statement of the minimum index.
fn serves_what_it_says(dropped: &Member, whole: &Member) -> Result<u64> {
    let first = number(&dropped.client().ok(&["status"])?, "first_entry")?;
    ensure!(
        first.is_multiple_of(256),
        "entries start at {first}, within a bundle"
    );
    let minimum = String::from_utf8(get(&dropped.http, "/minimum-index")?.body)?;
    ensure!(
        minimum.lines().nth(2) == Some(first.to_string().as_str()),
        "{minimum}"
    );
    let full = number(&dropped.ok(&["ledger", "head"])?, "tree_size")? / 256;
    for n in 0..full {
        let bundle = entry_bundle_path(n, full * 256);
        let here = get(&dropped.http, &bundle)?;
        if n < first / 256 {
            ensure!(here.status == 410, "{bundle}: {}", here.told());
        } else {
            let there = get(&whole.http, &bundle)?;
            ensure!(
                here.status == 200 && here.body == there.body,
                "{bundle}: {}",
                here.told()
            );
        }
        let tile = bundle.replace("/entries/", "/0/");
        let (here, there) = (get(&dropped.http, &tile)?, get(&whole.http, &tile)?);
        ensure!(here.status == 200 && here.body == there.body, "{tile}");
    }
    Ok(first)
}

#[test]
fn a_node_that_is_killed_while_it_drops_has_what_it_says_it_has() {
    Scenario::run("retention", |scenario| {
        let roles = Plan::four().members;
        let members = roles
            .iter()
            .map(|(name, roles)| Member::init(scenario.dir(), name, roles, 1))
            .collect::<Result<Vec<_>>>()?;
        members[0].configure("ledger", "block_file_bytes", FILE_BYTES)?;
        let mut network = Network::found_by(scenario.dir(), members, HEARTBEAT_MS, SKEW_MS)?;
        network.start()?;
        let clients: Vec<Client> = network.iter().map(Member::client).collect();
        let (brand, other) = (&clients[0], &clients[1]);
        let own = brand.add_product(&gtin(900_001))?;
        let others = other.add_product(&gtin(900_002))?;
        let unbounded = brand.run(&["ledger", "prune"])?;
        ensure!(unbounded.refusal()?.1 == "usage", "{unbounded:?}");

        let (next, stop) = (AtomicU32::new(1), AtomicBool::new(false));
        thread::scope(|scope| -> Result<()> {
            // Not by the node that is killed.
            let loads: Vec<_> = (0..CLIENTS)
                .flat_map(|_| &clients[1..])
                .map(|client| scope.spawn(|| client.load(&next, &stop)))
                .collect();
            let done = rounds(scenario, &mut network);
            stop.store(true, Ordering::Relaxed);
            for load in loads {
                let records = load.join().map_err(|_| anyhow::anyhow!("a load failed"))?;
                let acknowledged = records.len();
                ensure!(acknowledged > 20, "only {acknowledged} records");
            }
            done
        })?;
        network.agree(STEP)?;
        let first = serves_what_it_says(&network[0], &network[1])?;

        let proof = scenario.dir().join("own.tlog-proof");
        let policy = scenario.dir().join("policy");
        let (proof, policy) = (
            proof.to_str().context("a path")?,
            policy.to_str().context("a path")?,
        );
        let files = ["--out", proof, "--policy-out", policy];
        brand.ok(&[&["ledger", "proof", &own][..], &files].concat())?;
        let verified = other.judge(&network.id, policy, proof, &[])?.ok()?;
        ensure!(verified["record"] == own, "{verified}");
        let gone = brand.run(&["ledger", "proof", &others, "--out", proof])?;
        ensure!(gone.refusal()?.2.contains("not on this node"), "{gone:?}");
        other.ok(&["ledger", "proof", &others, "--out", proof])?;

        let minimum = get(&brand.http, "/minimum-index")?.body;
        network[0].stop()?;
        let folder = scenario.dir().join("export");
        brand.ok(&[
            "export",
            "tiles",
            "--out",
            folder.to_str().context("a path")?,
        ])?;
        fs::write(folder.join("minimum-index"), minimum)?;
        // Go's code wants every entry.
        for verifier in verifiers(scenario)?
            .iter()
            .filter(|v| v.name == "aics-tlog")
        {
            let found = verifier.accepts(&folder, None, &folder)?;
            println!("{}: {found}", verifier.name);
            ensure!(
                number(&found, "entries")? + first == number(&found, "size")?,
                "{found}"
            );
        }
        network.stop()
    });
}

/// Drops that are killed at any moment, and one that is not.
fn rounds(scenario: &Scenario, network: &mut Network) -> Result<()> {
    let mut rng = scenario.rng(1);
    let brand = network[0].client();
    let (mut first, mut height) = (0, HEIGHT);
    for round in 0..KILLS {
        until("enough blocks", 2 * STEP, || {
            ensure!(brand.head(None)?.0 > height, "fewer");
            Ok(())
        })?;
        height += BETWEEN;
        let delay = Duration::from_millis(rng.gen_range(8..40));
        thread::scope(|scope| -> Result<()> {
            let client = &brand;
            let dropping =
                scope.spawn(move || client.run(&["ledger", "prune", "--retain-entries", "1"]));
            thread::sleep(delay);
            network[0].kill()?;
            dropping
                .join()
                .map_err(|_| anyhow::anyhow!("a thread failed"))??;
            Ok(())
        })?;
        network[0].start()?;
        network[0].wait_up(STEP)?;
        let now = serves_what_it_says(&network[0], &network[1])?;
        ensure!(
            now >= first,
            "{now} after {first}: dropped entries are back"
        );
        let blocks = number(&brand.ok(&["status"])?, "first_height")?;
        println!(
            "round {round}: killed after {delay:?}, entries from {first} -> {now}, blocks from {blocks}"
        );
        first = now;
    }
    let dropped = brand.ok(&["ledger", "prune", "--retain-entries", "1"])?;
    let now = serves_what_it_says(&network[0], &network[1])?;
    ensure!(
        number(&dropped, "first_entry")? == now
            && number(&dropped, "dropped_entries")? == now - first,
        "{dropped}"
    );
    ensure!(now > 0, "nothing was old enough: {dropped}");
    Ok(())
}
