//! Three members, one of whom loses its administrator's key. The other two cannot replace it, since more than two thirds of the
//! members must vote; the member itself can, with the second key that it made at the founding and kept elsewhere.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tally_tests::{Client, Member, Network, Scenario, until};

const STEP: Duration = Duration::from_secs(45);

fn text(value: &Value, key: &str) -> Result<String> {
    let found = value[key].as_str().map(str::to_owned);
    found.with_context(|| format!("no {key} in {value}"))
}

fn path(path: &std::path::Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// Proposes by the first and votes by the others; gives the proposal.
fn propose(by: &[&Client], what: &[&str]) -> Result<String> {
    let (proposer, voters) = by.split_first().context("a proposer")?;
    let mut proposed = Value::Null;
    until("the proposal", STEP, || {
        proposed = proposer.ok(&[&["change", "propose"], what].concat())?;
        Ok(())
    })?;
    let change = text(&proposed, "change")?;
    let height = proposed["height"].as_u64().context("a height")?;
    for voter in voters {
        voter.wait_height(height, STEP)?;
        voter.ok(&["change", "vote", &change])?;
    }
    Ok(change)
}

fn in_force(client: &Client, change: &str) -> Result<()> {
    until("the change to be in force", STEP, || {
        let shown = client.ok(&["change", "show", change])?;
        ensure!(shown["status"] == "in force", "{shown}");
        Ok(())
    })
}

#[test]
fn a_lost_key_is_replaced_among_three_with_the_one_kept_offline() {
    Scenario::run("recovery-key", |scenario| {
        let safe = scenario.dir().join("safe");
        std::fs::create_dir(&safe)?;
        let kept = safe.join("cobalt-recovery.age");
        let members = vec![
            Member::init(scenario.dir(), "acme", "brand", 1)?,
            Member::init(scenario.dir(), "boreal", "media", 1)?,
            Member::init_with(
                scenario.dir(),
                "cobalt",
                "auditor",
                1,
                &["--recovery-key", path(&kept)?],
            )?,
        ];
        let mut network = Network::found_of(scenario.dir(), members, 1_000)?;
        network.start()?;
        let clients: Vec<Client> = network.iter().map(Member::client).collect();
        let [acme, boreal, cobalt] = clients.as_slice() else {
            bail!("three members");
        };

        let lost = network[2].dir.join("keys/admin.age");
        let gone = text(&cobalt.ok(&["keys", "list"])?, "admin")?;
        network[2].stop()?;
        std::fs::remove_file(&lost)?;

        // Two of three votes are not enough.
        let new = text(
            &cobalt.ok(&["keys", "rotate", "admin", "--work-factor", "10"])?,
            "new",
        )?;
        let args = [
            "rotate-key",
            "--member",
            "cobalt",
            "--purpose",
            "admin",
            "--old",
            &gone,
            "--new",
            &new,
            "--force",
        ];
        // Nothing is decided with two of three validators: the node runs again first, with the key that was kept.
        std::fs::copy(&kept, &lost)?;
        network[2].start()?;
        network[2].wait_up(STEP)?;
        network.wait_ready()?;
        let change = propose(&[acme, boreal], &args)?;
        let shown = acme.ok(&["change", "show", &change])?;
        ensure!(
            shown["status"] == "open" && shown["votes_missing"] == 1,
            "two of three passed it: {shown}"
        );
        // The third vote is the member's own.
        let height = acme.head(None)?.0;
        cobalt.wait_height(height, STEP)?;
        cobalt.ok(&["change", "vote", &change])?;
        in_force(acme, &change)?;

        // The kept key goes back to its place; the new one signs from now on.
        network[2].stop()?;
        std::fs::remove_file(&lost)?;
        network[2].start()?;
        network[2].wait_up(STEP)?;
        network.wait_ready()?;
        ensure!(text(&cobalt.ok(&["keys", "list"])?, "admin").is_err());
        let change = propose(&[cobalt, acme, boreal], &["power", "2"])?;
        in_force(cobalt, &change)?;
        network.stop()
    });
}
