//! A node is lost with its disk and comes back from a backup that was made while it ran. As a validator it must not vote at a height
//! at which it may have voted before.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tally_tests::{Member, Outcome, Response, Scenario, get, gtin, until};

/// The genesis' clock skew: a restored validator keeps silent for twice as long. Long enough to look at it meanwhile.
const SKEW_MS: u64 = 8_000;

#[test]
fn a_lost_node_comes_back_and_votes_only_for_what_is_new() {
    Scenario::run("restore", |scenario| {
        let root = scenario.dir();
        let mut members = ["acme", "boreal", "cobalt", "delta"]
            .iter()
            .map(|name| Member::init(root, name, "brand", 1))
            .collect::<Result<Vec<_>>>()?;
        found(root, &members)?;
        for member in &mut members {
            member.start()?;
        }
        for member in &mut members {
            member.wait_up(Duration::from_secs(60))?;
        }
        for member in &members {
            member.wait_ready(Duration::from_secs(60))?;
        }
        let acme = members[0].client();
        acme.add_product(&gtin(5))?;
        let batch = acme.issue(&gtin(5), "L1", 50, true)?;
        ensure!(verdict(&acme.scan(&batch.codes[0].0, "before")?)? == "genuine_first");
        until("the scan to be anchored", Duration::from_secs(30), || {
            let metrics = String::from_utf8(get(&acme.http, "/metrics")?.body)?;
            ensure!(
                metrics.contains("tally_scan_log_anchored_size 1"),
                "{metrics}"
            );
            Ok(())
        })?;

        // The identity is made on the machine that will restore; only its recipient comes here.
        let safe = root.join("safe");
        fs::create_dir(&safe)?;
        let identity = safe.join("backup.key");
        let made = acme.ok(&["backup", "--new-identity", text(&identity)?])?;
        let recipient = made["recipient"]
            .as_str()
            .context("no recipient")?
            .to_owned();
        let file = safe.join("acme.tally-backup");
        let made = acme.ok(&["backup", "--to", &recipient, "--out", text(&file)?])?;
        ensure!(
            made["files"].as_u64() > Some(5) && made["blocks"] == true,
            "{made}"
        );
        let (backed_up, _) = acme.head(None)?;

        // What the backup does not have: records of the others and of this node.
        let later = acme.add_product(&gtin(6))?;
        members[1].add_product(&gtin(7))?;

        // The disk is gone.
        members[0].kill()?;
        fs::rename(&acme.dir, root.join("lost"))?;
        let wrong = safe.join("wrong.key");
        members[1].ok(&["backup", "--new-identity", text(&wrong)?])?;
        let restore = |key: &Path| -> Result<Outcome> {
            members[1].run(&[
                "restore",
                text(&file)?,
                "--identity",
                text(key)?,
                "--dir",
                text(&acme.dir)?,
            ])
        };
        let refused = restore(&wrong)?;
        ensure!(refused.exit == 1, "{refused:?}");
        let restored = restore(&identity)?.ok()?;
        ensure!(restored["height"].as_u64() >= Some(backed_up), "{restored}");
        ensure!(
            restore(&identity)?.exit == 1,
            "a directory with something in it was overwritten"
        );

        ensure!(acme.ok(&["config", "check"])?["ok"] == true);
        members[0].start()?;
        members[0].wait_up(Duration::from_secs(60))?;
        let status = acme.ok(&["status"])?;
        ensure!(status["consensus"]["on_probation"] == true, "{status}");
        let advice = status["advice"].to_string();
        ensure!(
            advice.contains("restored from a backup") && advice.contains("does not vote"),
            "{status}"
        );
        // It has what it had and fetches what it missed.
        let (height, root_hash) = members[1].head(None)?;
        acme.wait_height(height, Duration::from_secs(30))?;
        ensure!(acme.head(Some(height))?.1 == root_hash, "another state");
        acme.ok(&["ledger", "show", &later])?;

        // Three validators are a quorum of four. With a second one away two are left, and this one must not make it three.
        members[3].kill()?;
        std::thread::sleep(Duration::from_millis(2_500));
        let (stalled, _) = members[1].head(None)?;
        std::thread::sleep(Duration::from_secs(4));
        let (still, _) = members[1].head(None)?;
        let on_probation = acme.ok(&["status"])?["consensus"]["on_probation"] == true;
        ensure!(
            on_probation,
            "the probation was over before it could be looked at"
        );
        ensure!(
            still == stalled,
            "a height was decided with the vote of a validator that may have voted before"
        );
        members[3].start()?;
        members[3].wait_up(Duration::from_secs(60))?;

        until(
            "the restored node to vote again",
            Duration::from_secs(90),
            || {
                let status = acme.ok(&["status"])?;
                ensure!(status["consensus"]["on_probation"] == false, "{status}");
                Ok(())
            },
        )?;
        acme.wait_ready(Duration::from_secs(60))?;
        // Now it does make the quorum.
        members[3].kill()?;
        let (height, _) = members[1].head(None)?;
        members[1].wait_height(height + 3, Duration::from_secs(60))?;

        // Its codes and scans are there.
        ensure!(verdict(&acme.scan(&batch.codes[0].0, "after")?)? == "genuine_repeat");
        ensure!(verdict(&acme.scan(&batch.codes[1].0, "new")?)? == "genuine_first");
        acme.issue(&gtin(6), "L2", 10, true)?;
        for member in &mut members[..3] {
            member.stop()?;
        }
        Ok(())
    });
}

fn verdict(answer: &Response) -> Result<String> {
    let json: Value = answer.json();
    json["verdict"]
        .as_str()
        .map(str::to_owned)
        .with_context(|| answer.told())
}

/// A network of all members with a short clock skew.
fn found(root: &Path, members: &[Member]) -> Result<()> {
    let genesis = root.join("genesis");
    let skew = SKEW_MS.to_string();
    let mut args = vec!["genesis", "new", "--network", "tea-trade", "--kind", "test"];
    args.extend([
        "--heartbeat-ms",
        "1000",
        "--max-skew-ms",
        &skew,
        "--out",
        text(&genesis)?,
    ]);
    let cards: Vec<_> = members.iter().map(Member::card).collect();
    for card in &cards {
        args.push(text(card)?);
    }
    let drawn = members[0].ok(&args)?;
    let id = drawn["network_id"].as_str().context("no network ID")?;
    for member in members {
        member.ok(&["genesis", "sign", text(&genesis)?, "--network", id])?;
    }
    for member in members {
        member.ok(&["join", text(&genesis)?, "--network", id])?;
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
