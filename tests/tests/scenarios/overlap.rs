//! How many people three members have in common, by `overlap_n` with the auditor's node as helper, over four real processes: exact in a
//! test network, within its bounds with noise, refused without a helper that is agreed, consents and is there; and all or none of them
//! hold the count when a party or the helper is killed at any moment.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng as _;
use serde_json::Value;
use tally_tests::{Client, Network, Plan, Scenario, until};

const PATIENCE: Duration = Duration::from_secs(90);
const BRAND: usize = 0;
const PLATFORM: usize = 1;
const MEDIA: usize = 2;
const AUDITOR: usize = 3;
const PARTIES: [usize; 3] = [BRAND, PLATFORM, MEDIA];

/// The people of each party, by number.
fn people(party: usize) -> HashSet<u32> {
    match party {
        BRAND => (0..9_000).collect(),
        PLATFORM => (0..24_000).step_by(2).collect(),
        _ => (3_000..33_000).step_by(3).collect(),
    }
}

/// A plain join of all three.
fn reference() -> i64 {
    let sets = PARTIES.map(people);
    let common = sets[0]
        .iter()
        .filter(|n| sets[1].contains(n) && sets[2].contains(n));
    i64::try_from(common.count()).unwrap_or(i64::MAX)
}

fn phone(n: u32) -> String {
    format!("+8613{:09}", u64::from(n) * 7_919 % 1_000_000_000)
}

fn propose(network: &Network, more: &[&str]) -> Result<Value> {
    let mut args = vec![
        "agreement",
        "propose",
        "--with",
        "platform",
        "--with",
        "media",
        "--purpose",
        "reach of all three",
        "--computation",
        "overlap_n",
        "--epoch-answers",
        "60",
        "--lifetime-answers",
        "60",
    ];
    args.extend(more);
    network[BRAND].ok(&args)
}

fn height(answer: &Value) -> Result<u64> {
    answer["height"].as_u64().context("a height")
}

/// An agreement that these have accepted besides brand.
fn agree(network: &Network, accepting: &[usize], more: &[&str]) -> Result<String> {
    let proposed = propose(network, more)?;
    let id = proposed["agreement"].as_str().context("an agreement")?;
    let mut last = height(&proposed)?;
    for member in accepting {
        network[*member].wait_height(last, PATIENCE)?;
        last = height(&network[*member].ok(&["agreement", "accept", id])?)?;
    }
    for member in network.iter() {
        member.wait_height(last, PATIENCE)?;
    }
    Ok(id.to_owned())
}

const ALL: [usize; 3] = [PLATFORM, MEDIA, AUDITOR];

fn request(agreement: &str) -> [&str; 8] {
    [
        "match",
        "request",
        "--agreement",
        agreement,
        "--audience",
        "people",
        "--computation",
        "overlap_n",
    ]
}

fn found(answer: &Value) -> Result<i64> {
    answer["found"]
        .as_i64()
        .with_context(|| format!("a count in {answer}"))
}

/// The newest match of an agreement at a member, if there is one.
fn newest(client: &Client, agreement: &str) -> Result<Option<Value>> {
    let listed = client.ok(&["match", "list"])?;
    for row in listed.as_array().context("a list")? {
        let id = row["match"].as_str().context("a match")?;
        let shown = client.ok(&["match", "show", id])?;
        if shown["agreement"] == agreement {
            return Ok(Some(shown));
        }
    }
    Ok(None)
}

/// Spent or reserved answers of brand's budget, for platform and for the helper.
fn left(network: &Network, agreement: &str) -> Result<BTreeSet<u64>> {
    let shown = network[MEDIA].ok(&["agreement", "show", agreement])?;
    let rows = shown["budget_left"].as_array().context("budgets")?;
    ensure!(rows.len() == 9, "{shown}");
    rows.iter()
        .map(|row| row["answers_left_this_epoch"].as_u64().context("answers"))
        .collect()
}

/// Proofs of an overlap that is done, made by a party and by the helper, by its ID or by its session: anybody verifies them from the
/// network ID, policy and file; bent in any place they are refused.
fn proven(network: &Network, dir: &Path, id: &str) -> Result<()> {
    let policy = dir.join("policy");
    let policy = policy.to_str().context("a path in UTF-8")?;
    let shown = network[MEDIA].ok(&["match", "show", id])?;
    let session = shown["session"].as_str().context("a session")?;
    let start = id.get(..12).context("an ID")?;
    let cases: [(usize, &str, &[&str]); 4] = [
        (BRAND, start, &[]),
        (MEDIA, session, &[]),
        (AUDITOR, id, &[]),
        (PLATFORM, session, &["--from", "genesis"]),
    ];
    for (member, of, more) in cases {
        let file = dir.join(format!("overlap-{member}.tlog-proof"));
        let file = file.to_str().context("a path in UTF-8")?;
        let mut args = vec!["proof", "match", of, "--out", file, "--policy-out", policy];
        args.extend(more);
        let made = network[member].ok(&args)?;
        ensure!(
            made["match"] == id && made["status"] == "done",
            "{made} of {}",
            network[member].name
        );
        let verify = |network_id: &str, file: &str| {
            network[AUDITOR]
                .client()
                .judge(network_id, policy, file, &[])
        };
        let told = verify(&network.id, file)?.ok()?;
        ensure!(
            told["proven"] == "overlap"
                && told["session"] == session
                && told["status"] == "done"
                && told["helper"] == "auditor"
                && told["agreement"] == shown["agreement"]
                && told["purpose"] == "reach of all three"
                && told["waits_for"] == serde_json::json!([])
                && told["receipt"]["result"].is_string(),
            "{told}"
        );
        let parties = told["parties"].as_array().context("parties")?;
        let theirs = shown["parties"].as_array().context("parties")?;
        for (party, theirs) in parties.iter().zip(theirs) {
            let bucket = party["size_bucket"].as_u64().context("a bucket")?;
            ensure!(
                party["party"] == theirs["party"]
                    && theirs["people_at_most"] == 1_u64 << bucket
                    && party["confirmed_by_record"].is_string(),
                "{party} and {theirs}"
            );
        }
        ensure!(parties.len() == 3, "{told}");
        let (_, code, _) = verify(&"07".repeat(32), file)?.refusal()?;
        ensure!(code == "other_network", "{code}");
        let good = fs::read(file)?;
        let bent_file = dir.join("bent.tlog-proof");
        for at in (0..good.len()).step_by(good.len() / 8) {
            let mut bent = good.clone();
            bent[at] ^= 1;
            fs::write(&bent_file, &bent)?;
            let bent = verify(&network.id, bent_file.to_str().context("UTF-8")?)?;
            let (exit, ..) = bent.refusal()?;
            ensure!(exit == 4, "byte {at}: {}", bent.json);
        }
    }
    let (_, code, _) = network[BRAND]
        .run(&["proof", "match", &"07".repeat(32), "--out", policy])?
        .refusal()?;
    ensure!(code == "not_found", "{code}");
    Ok(())
}

/// Kills a node at a moment while a match of media's runs, has it come back, and sees that all of them or none hold the count; then
/// asks again. Gives every count that was ever shown.
fn killed(
    network: &mut Network,
    victim: usize,
    after: Duration,
    noise: &[&str],
) -> Result<(bool, BTreeSet<i64>)> {
    let agreement = agree(network, &ALL, noise)?;
    let media = network[MEDIA].client();
    let (client, id) = (media.clone(), agreement.clone());
    let asked = std::thread::spawn(move || client.run(&request(&id)));
    let started = Instant::now();
    while newest(&media, &agreement)?.is_none() {
        ensure!(
            started.elapsed() < PATIENCE,
            "the match was never asked for"
        );
    }
    std::thread::sleep(after);
    network[victim].kill()?;
    std::thread::sleep(Duration::from_millis(300));
    network[victim].start()?;
    network[victim].wait_up(PATIENCE)?;
    network[victim].wait_ready(PATIENCE)?;
    let outcome = asked
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that asked died"))??;
    let mut counts = BTreeSet::new();
    if outcome.exit == 0 {
        counts.insert(found(&outcome.json)?);
    }
    let mut all = false;
    until("all to be at the same end", PATIENCE, || {
        let mut ends = BTreeSet::new();
        for member in network.iter() {
            // One that was never reached has heard nothing.
            let Some(shown) = newest(&member.client(), &agreement)? else {
                ends.insert(false);
                continue;
            };
            let stage = shown["stage"].as_str().unwrap_or_default().to_owned();
            match stage.as_str() {
                "done" => {
                    counts.insert(found(&shown)?);
                    ends.insert(true);
                }
                "failed" | "refused" | "cancelled" => {
                    ensure!(shown["found"].is_null(), "{shown}");
                    ends.insert(false);
                }
                _ => bail!("{} is at {stage}: {shown}", member.name),
            }
        }
        ensure!(ends.len() == 1, "some hold the count and some do not");
        all = ends.contains(&true);
        Ok(())
    })?;
    ensure!(outcome.exit != 0 || all, "media was successful alone");
    // The stored answer, or a new run: one draw of noise for one question.
    until("all to be reached again", PATIENCE, || {
        let again = network[BRAND].ok(&request(&agreement))?;
        counts.insert(found(&again)?);
        Ok(())
    })?;
    let spent = left(network, &agreement)?;
    // Every owner is charged alike: once, or twice where the first run was released before it broke.
    ensure!(spent.len() == 1, "{spent:?}");
    Ok((all, counts))
}

#[test]
fn three_parties_and_a_helper() {
    Scenario::run("overlap", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
        let mut last = 0;
        for party in PARTIES {
            let mut csv = String::from("phone\n");
            for n in people(party) {
                writeln!(csv, "{}", phone(n))?;
            }
            let file = scenario.dir().join(format!("people-{party}.csv"));
            fs::write(&file, csv)?;
            let file = file.to_str().context("a path in UTF-8")?;
            let done = network[party].ok(&["audience", "import", file, "--label", "people"])?;
            last = last.max(height(&done)?);
        }
        for member in network.iter() {
            member.wait_height(last, PATIENCE)?;
        }
        let exact = reference();
        ensure!(exact > 500, "{exact}");

        // No helper, a party as helper, two parties: refused, with what to do.
        let refused = |more: &[&str]| -> Result<(String, String)> {
            let mut args = vec!["--noise", "none"];
            args.extend(more);
            let mut all = vec![
                "agreement",
                "propose",
                "--with",
                "media",
                "--purpose",
                "x",
                "--computation",
                "overlap_n",
            ];
            all.extend(&args);
            let (_, code, message) = network[BRAND].run(&all)?.refusal()?;
            Ok((code, message))
        };
        let (_, message) = refused(&["--with", "platform"])?;
        ensure!(message.contains("needs a helper"), "{message}");
        let (code, message) = refused(&["--with", "platform", "--helper", "media"])?;
        ensure!(
            code == "refused" && message.contains("one of the parties"),
            "{code} {message}"
        );
        let (code, message) = refused(&["--helper", "auditor"])?;
        ensure!(
            code == "refused" && message.contains("at least three"),
            "{code} {message}"
        );
        let (_, message) = refused(&["--with", "platform", "--helper", "nobody"])?;
        ensure!(message.contains("no member"), "{message}");

        // The helper has to consent, and to be there.
        let plain = ["--helper", "auditor", "--noise", "none"];
        let unaccepted = agree(&network, &[PLATFORM, MEDIA], &plain)?;
        let outcome = network[BRAND].run(&request(&unaccepted))?;
        let (_, code, message) = outcome.refusal()?;
        ensure!(
            code == "refused" && message.contains("agreement_status"),
            "{code} {message}"
        );
        let shown = network[BRAND].ok(&["agreement", "show", &unaccepted])?;
        ensure!(
            shown["waits_for"] == serde_json::json!(["auditor"]) && shown["helper"] == "auditor",
            "{shown}"
        );
        let agreement = agree(&network, &ALL, &plain)?;
        network[AUDITOR].stop()?;
        let outcome = network[BRAND].run(&request(&agreement))?;
        let (_, code, message) = outcome.refusal()?;
        ensure!(
            code == "unreachable" && message.contains("auditor"),
            "{code} {message}"
        );
        ensure!(
            outcome.json.to_string().contains("tally status"),
            "no next step in {}",
            outcome.json
        );
        network[AUDITOR].start()?;
        network[AUDITOR].wait_up(PATIENCE)?;
        network.wait_ready()?;

        // Without noise: the count of the plain join, at every party, with a receipt that all have confirmed.
        let mut answer = Value::Null;
        until("the helper to be reached again", PATIENCE, || {
            answer = network[BRAND].ok(&request(&agreement))?;
            Ok(())
        })?;
        ensure!(found(&answer)? == exact, "{answer}, expected {exact}");
        ensure!(
            answer["stage"] == "done" && answer["receipt_record"].is_string(),
            "{answer}"
        );
        let rows = answer["parties"].as_array().context("parties")?;
        ensure!(
            rows.len() == 3 && rows.iter().all(|row| row["confirmed"] == true),
            "{answer}"
        );
        let id = answer["match"].as_str().context("a match")?.to_owned();
        for member in network.iter() {
            until("all to be done", PATIENCE, || {
                let theirs = member.ok(&["match", "show", &id])?;
                ensure!(
                    found(&theirs)? == exact && theirs["stage"] == "done",
                    "{theirs}"
                );
                let role = if member.name == "auditor" {
                    "the helper"
                } else {
                    "a party"
                };
                ensure!(theirs["this_node"] == role, "{theirs}");
                Ok(())
            })?;
        }
        proven(&network, scenario.dir(), &id)?;

        // The same question of another party is the stored answer, free.
        let again = network[MEDIA].ok(&request(&agreement))?;
        ensure!(again["match"] == answer["match"], "{again}");

        // With noise: within its bounds, and charged to all three alike.
        let noise = [
            "--helper",
            "auditor",
            "--noise",
            "1,2^-20",
            "--helper-noise",
            "0.5,2^-20",
        ];
        let noised = agree(&network, &ALL, &noise)?;
        ensure!(left(&network, &noised)? == BTreeSet::from([60]));
        let answer = network[PLATFORM].ok(&request(&noised))?;
        let detail = &answer["noise_detail"];
        let bound = detail["bound"].as_i64().context("a bound")?
            + detail["regions_bound"].as_i64().context("a bound")?;
        let distance = (found(&answer)? - exact).abs();
        ensure!(distance <= bound && bound < 400, "{distance} off: {answer}");
        ensure!(left(&network, &noised)? == BTreeSet::from([59]));

        // Killed at any moment: all hold the count or none, and never two draws.
        let mut rng = scenario.rng(1);
        let mut ends = [0, 0];
        for (victim, least) in [
            (PLATFORM, 0),
            (AUDITOR, 0),
            (BRAND, 150),
            (AUDITOR, 150),
            (PLATFORM, 300),
            (AUDITOR, 300),
        ] {
            let after = Duration::from_millis(least + rng.gen_range(0..200));
            let (all, counts) = killed(&mut network, victim, after, &noise)?;
            println!(
                "{} killed after {after:?}: {}",
                network[victim].name,
                if all {
                    "all hold the count"
                } else {
                    "none does"
                }
            );
            ensure!(counts.len() == 1, "{counts:?}: more than one draw");
            ends[usize::from(all)] += 1;
        }
        ensure!(ends[0] > 0, "nobody was killed in the middle");

        // Nobody's number is in any log.
        let phone = phone(3_000);
        network.runs_and_kept(&phone)?;
        network.agree(PATIENCE)?;
        network.stop()
    });
}
