//! The ceremony of docs/operator.md on separate machines: cards and genesis travel as files, nothing else does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tally_tests::{Member, Network, Outcome, Plan, Scenario, gtin};

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// That a command was refused with this exit code, and a message that has `part` in it.
fn refused(outcome: &Outcome, exit: i32, part: &str) -> Result<()> {
    let (found, code, message) = outcome.refusal()?;
    ensure!(
        found == exit && message.contains(part),
        "expected exit {exit} and {part:?}, found exit {found}, {code}: {message}"
    );
    Ok(())
}

/// A file as another machine gets it.
fn carried(from: &Path, to: &Member, name: &str) -> Result<PathBuf> {
    let copy = to.dir.join(name);
    fs::copy(from, &copy)?;
    Ok(copy)
}

fn network_id(summary: &Value) -> Result<String> {
    summary["network_id"]
        .as_str()
        .map(str::to_owned)
        .context("no network ID")
}

/// `genesis new` by one founder, from the cards that it was handed.
fn draw_up(by: &Member, cards: &[PathBuf], name: &str) -> Result<(PathBuf, String)> {
    let out = by.dir.join(name);
    let mut args = vec!["genesis", "new", "--network", "tea-trade", "--kind", "test"];
    args.extend(["--heartbeat-ms", "1000", "--out", text(&out)?]);
    for card in cards {
        args.push(text(card)?);
    }
    let id = network_id(&by.ok(&args)?)?;
    Ok((out, id))
}

#[test]
fn four_founders_on_separate_machines() {
    Scenario::run("founding", |scenario| {
        let names = ["acme", "boreal", "cobalt", "delta"];
        let mut members = names
            .iter()
            .map(|name| Member::init(scenario.dir(), name, "brand", 1))
            .collect::<Result<Vec<_>>>()?;
        let stranger = Member::init(scenario.dir(), "stranger", "media", 1)?;
        let acme = &members[0];

        // Keys are never overwritten, and no node starts before it has joined.
        let again = ["init", "--name", "acme", "--role", "brand", "--dir", "."];
        refused(&acme.run(&again)?, 1, "")?;
        refused(&acme.run(&["up"])?, 1, "")?;
        refused(&acme.run(&["status"])?, 3, "is not running")?;

        let cards = members
            .iter()
            .map(|m| carried(&m.card(), acme, &format!("{}.toml", m.name)))
            .collect::<Result<Vec<_>>>()?;

        // A card that was changed on its way is refused, whatever was changed.
        let honest = fs::read_to_string(&cards[1])?;
        let forged = acme.dir.join("forged.toml");
        let mut forgeries = 0;
        for (from, to) in [
            ("name = \"boreal\"", "name = \"borea1\""),
            ("/ip4/127.0.0.1", "/ip4/127.0.0.2"),
            ("power = 1", "power = 9"),
        ] {
            let changed = honest.replacen(from, to, 1);
            if changed == honest {
                continue;
            }
            fs::write(&forged, changed)?;
            let out = acme.dir.join("never");
            let mut args = vec!["genesis", "new", "--network", "x", "--kind", "test"];
            args.extend(["--out", text(&out)?, text(&cards[0])?, text(&forged)?]);
            refused(&acme.run(&args)?, 1, "forged.toml")?;
            ensure!(!out.exists(), "a genesis was drawn up from a forged card");
            forgeries += 1;
        }
        ensure!(
            forgeries >= 2,
            "the card has another form than this test knows"
        );

        let (drawn, id) = draw_up(acme, &cards, "genesis")?;
        let shown = acme.ok(&["genesis", "show", text(&drawn)?])?;
        ensure!(
            network_id(&shown)? == id && shown["kind"] == "test" && shown["network"] == "tea-trade",
            "{shown}"
        );
        // In the order of their IDs, which are random.
        let mut missing: Vec<_> = shown["missing"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        missing.sort_unstable();
        ensure!(missing == names, "{shown}");

        // Another network's ID is not signed, nor is a genesis that one does not stand in.
        let other_id = format!(
            "{}{}",
            if id.starts_with('0') { "1" } else { "0" },
            &id[1..]
        );
        let copy = carried(&drawn, &members[1], "received")?;
        refused(
            &members[1].run(&["genesis", "sign", text(&copy)?, "--network", &other_id])?,
            1,
            "",
        )?;
        refused(
            &members[1].run(&["genesis", "sign", text(&copy)?])?,
            2,
            "network ID",
        )?;
        let astray = carried(&drawn, &stranger, "received")?;
        refused(
            &stranger.run(&["genesis", "sign", text(&astray)?, "--network", &id])?,
            1,
            "",
        )?;

        // Each signs a copy of its own.
        let mut signed = Vec::new();
        for member in &members {
            let copy = carried(&drawn, member, "to-sign")?;
            let summary = member.ok(&["genesis", "sign", text(&copy)?, "--network", &id])?;
            ensure!(network_id(&summary)? == id, "signing changed the network");
            signed.push(copy);
        }

        // Not everybody has signed: nobody joins.
        let partial = carried(&signed[0], &members[0], "partial")?;
        refused(
            &members[0].run(&["join", text(&partial)?, "--network", &id])?,
            1,
            "is not signed by",
        )?;

        // A wrong signature is refused: one bit of the last founder's, at the end of the file.
        let mut bytes = fs::read(&signed[3])?;
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let broken = members[0].dir.join("broken");
        fs::write(&broken, &bytes)?;
        let copies = signed[..3]
            .iter()
            .map(|p| text(p))
            .collect::<Result<Vec<_>>>()?;
        let mut args = vec!["join", text(&broken)?, "--network", &id];
        args.extend(&copies);
        refused(&members[0].run(&args)?, 1, "broken")?;
        // And so is every other flipped byte of a signed copy.
        for at in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let mut flipped = fs::read(&signed[3])?;
            flipped[at] ^= 0x20;
            fs::write(&broken, &flipped)?;
            let outcome = members[0].run(&args)?;
            ensure!(outcome.exit == 1, "byte {at} flipped: {outcome:?}");
        }
        ensure!(
            !members[0].dir.join("ledger/genesis").exists(),
            "joined a broken genesis"
        );

        // A genesis of its own making, of the same cards, signed by nobody else: another network.
        let (other, other_network) = draw_up(&members[0], &cards, "other-genesis")?;
        ensure!(other_network != id, "two geneses have one ID");
        let mut mixed = vec!["join", text(&other)?, "--network", &id];
        mixed.extend(&copies);
        refused(&members[0].run(&mixed)?, 1, "")?;

        for member in &members {
            let copies = signed
                .iter()
                .map(|from| carried(from, member, &format!("from-{}", name_of(from))))
                .collect::<Result<Vec<_>>>()?;
            let mut args = vec!["join", "--network", &id];
            for copy in &copies {
                args.push(text(copy)?);
            }
            member.ok(&args)?;
            // Again: no change.
            member.ok(&args)?;
        }
        // Who joined one network joins no other.
        let alone = Member::init(scenario.dir(), "alone", "brand", 1)?;
        let (solo, solo_id) = draw_up(&alone, &[alone.card()], "solo")?;
        alone.ok(&["genesis", "sign", text(&solo)?, "--network", &solo_id])?;
        refused(&members[0].run(&["join", text(&solo)?])?, 1, "")?;
        refused(&alone.run(&["join", text(&signed[0])?])?, 1, "")?;

        // Below a quorum a node says who is missing, and is not ready; with it, all are.
        for member in &mut members[..2] {
            member.start()?;
        }
        for member in &mut members[..2] {
            member.wait_up(Duration::from_secs(60))?;
        }
        let status = members[0].ok(&["status"])?;
        let advice = status["advice"].to_string();
        ensure!(
            advice.contains("no quorum") && advice.contains("delta"),
            "{status}"
        );
        let ready = tally_tests::get(&members[0].http, "/readyz")?;
        ensure!(
            ready.status == 503 && ready.told().contains("no quorum"),
            "{}",
            ready.told()
        );
        refused(&members[0].run(&["join", text(&solo)?])?, 1, "")?;
        for member in &mut members[2..] {
            member.start()?;
        }
        for member in &members {
            member.wait_ready(Duration::from_secs(60))?;
        }
        let record = members[0].add_product(&gtin(1))?;
        let (height, root) = members[0].head(None)?;
        for member in &members {
            member.wait_height(height, Duration::from_secs(30))?;
            ensure!(
                member.head(Some(height))?.1 == root,
                "{} has another state",
                member.name
            );
            let shown = member.ok(&["ledger", "show", &record])?;
            ensure!(shown["kind"] == "register product", "{shown}");
            let status = member.ok(&["status"])?;
            ensure!(status["network_id"] == id.as_str(), "{status}");
        }
        // Commands that open the files refuse while the node runs.
        refused(&members[0].run(&["reindex"])?, 1, "is running")?;
        for member in &mut members {
            member.stop()?;
        }
        refused(&members[0].run(&["status"])?, 3, "is not running")?;
        Ok(())
    });
}

fn name_of(copy: &Path) -> String {
    copy.parent()
        .and_then(Path::file_name)
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[test]
fn one_validator_is_a_network() {
    Scenario::run("founding-one", |scenario| {
        let mut network = Network::running(scenario, &Plan::one())?;
        let brand = network[0].client();
        let record = brand.add_product(&gtin(7))?;
        let batch = brand.issue(&gtin(7), "L1", 20, true)?;
        let answer = brand.scan(&batch.codes[0].0, "one")?;
        ensure!(
            answer.json()["verdict"] == "genuine_first",
            "{}",
            answer.told()
        );
        let (height, root) = brand.head(None)?;
        network[0].kill()?;
        network.start()?;
        ensure!(
            brand.head(Some(height))?.1 == root,
            "another state after a kill"
        );
        brand.ok(&["ledger", "show", &record])?;
        // A checkpoint of one validator is a quorum, and its tiles are served.
        let found = tally_tests::entries(&brand.http)?;
        ensure!(
            found
                .iter()
                .flat_map(|e| &e.record)
                .any(|r| r.id().to_string() == record)
        );
        network.stop()
    });
}
