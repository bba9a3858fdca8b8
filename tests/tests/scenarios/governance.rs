//! Members change their network while records flow: a fifth member is admitted, keys are rotated and replaced, power moves, a
//! member leaves. Nothing that was acknowledged is lost, and all have one state in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tally_tests::{Client, Member, Network, Plan, Scenario, gtin, until};

/// How long a node may take to be in step after a change.
const STEP: Duration = Duration::from_secs(45);

fn text(value: &Value, key: &str) -> Result<String> {
    value[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("no {key} in {value}"))
}

/// A command that is tried again while the node starts anew with other keys.
fn patiently(client: &Client, args: &[&str]) -> Result<Value> {
    let mut last = None;
    for _ in 0..100 {
        let outcome = client.run(args)?;
        if outcome.exit == 0 {
            return Ok(outcome.json);
        }
        let (exit, code, message) = outcome.refusal()?;
        let may_pass = exit == 3 || code == "io" || code == "timeout" || message.contains("closed");
        last = Some(format!("{code}: {message}"));
        if !may_pass {
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    bail!("{}: tally {}: {last:?}", client.name, args.join(" "))
}

/// Proposes by the first, votes by the others, until it is in force at the first.
fn pass(by: &[&Client], what: &[&str]) -> Result<u64> {
    let (proposer, voters) = by.split_first().context("a proposer")?;
    let args = [&["change", "propose"], what].concat();
    let proposed = proposer.ok(&args)?;
    let change = text(&proposed, "change")?;
    for voter in voters {
        voter.wait_height(proposed["height"].as_u64().context("a height")?, STEP)?;
        // A node whose administrator's key was just replaced votes with the old one until it has started again.
        until(&format!("{} to vote", voter.name), STEP, || {
            let voted = voter.ok(&["change", "vote", &change])?;
            ensure!(voted["change"] == change, "{voted}");
            Ok(())
        })?;
    }
    let mut from = 0;
    until(&format!("{what:?} to be in force"), STEP, || {
        let shown = patiently(proposer, &["change", "show", &change])?;
        ensure!(shown["status"] == "in force", "{shown}");
        from = shown["in_force_from_height"].as_u64().context("a height")?;
        Ok(())
    })?;
    Ok(from)
}

fn power(client: &Client) -> Result<(u64, u64)> {
    let status = client.ok(&["status"])?;
    let at = |key: &str| status["consensus"][key].as_u64().context("a power");
    Ok((at("voting_power")?, at("power_present")?))
}

/// Waits until a member sees all the voting power there is.
fn whole(client: &Client, total: u64) -> Result<()> {
    until(
        &format!("{} to see power {total}", client.name),
        STEP,
        || {
            let seen = power(client)?;
            ensure!(seen == (total, total), "{seen:?}");
            Ok(())
        },
    )
}

/// That a node tells its operator so.
fn advised(client: &Client, part: &str) -> Result<()> {
    let status = client.ok(&["status"])?;
    let advice = status["advice"].to_string();
    ensure!(advice.contains(part), "{advice}");
    Ok(())
}

fn new_key(client: &Client, purpose: &str) -> Result<String> {
    let made = client.ok(&["keys", "rotate", purpose, "--work-factor", "10"])?;
    text(&made, "new")
}

/// The key that signed a record.
fn signer(client: &Client, record: &str) -> Result<String> {
    let shown = client.ok(&["ledger", "show", record])?;
    text(&shown["signers"][0], "key")
}

/// Has a record proven by one node, and verified with what a replay of another one's tiles gives; then by a proof that begins at the genesis,
/// with nothing but the network ID.
fn prove(by: &Client, from: &Client, record: &str, network: &str) -> Result<()> {
    let path = |name: &str| -> Result<String> {
        let path = by.dir.join(name);
        path.to_str().map(str::to_owned).context("a path")
    };
    let (proof, given) = (path("record.tlog-proof")?, path("given.policy")?);
    by.ok(&[
        "ledger",
        "proof",
        record,
        "--out",
        &proof,
        "--policy-out",
        &given,
    ])?;
    let blind = by.judge(network, &given, &proof, &[])?;
    ensure!(blind.refusal()?.1 == "policy_differs", "{blind:?}");
    let (members, policy) = (path("members")?, path("followed.policy")?);
    let url = format!("http://{}", from.http);
    by.ok(&[
        "audit",
        "replay",
        "--from",
        &url,
        "--network",
        network,
        "--members-out",
        &members,
        "--policy-out",
        &policy,
    ])?;
    ensure!(
        std::fs::read(&policy)? == std::fs::read(&given)?,
        "the replay gives another policy than the node"
    );
    let known = ["--members", members.as_str()];
    let verified = by.judge(network, &policy, &proof, &known)?.ok()?;
    ensure!(verified["record"] == record, "{verified}");
    by.ok(&[
        "ledger", "proof", record, "--from", "genesis", "--out", &proof,
    ])?;
    let verified = by.judge(network, &policy, &proof, &[])?.ok()?;
    ensure!(verified["record"] == record, "{verified}");
    Ok(())
}

/// A member that was no founder, ready to start.
fn newcomer(scenario: &Scenario, network: &Network) -> Result<Member> {
    let fifth = Member::init(scenario.dir(), "fifth", "media,brand", 1)?;
    let genesis = network[0].dir.join("ledger/genesis");
    let genesis = genesis.to_str().context("a path")?;
    let refused = fifth.run(&["join", genesis, "--network", &network.id])?;
    let (_, _, message) = refused.refusal()?;
    ensure!(message.contains("did not join"), "{message}");
    follow(&fifth, network)?;
    Ok(fifth)
}

/// Has a node that did not found the network join it.
fn follow(member: &Member, network: &Network) -> Result<()> {
    let genesis = network[0].dir.join("ledger/genesis");
    let genesis = genesis.to_str().context("a path")?;
    member
        .ok(&["join", genesis, "--network", &network.id, "--newcomer"])
        .map(drop)
}

#[test]
fn members_change_their_network_while_records_flow() {
    Scenario::run("governance", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
        let clients: Vec<Client> = network.iter().map(Member::client).collect();
        let [brand, platform, media, auditor] = clients.as_slice() else {
            bail!("four members");
        };

        let (next, stop) = (
            Arc::new(AtomicU32::new(1)),
            Arc::new(AtomicBool::new(false)),
        );
        let loads: Vec<_> = [brand, platform, auditor]
            .into_iter()
            .map(|client| {
                let (client, next, stop) = (client.clone(), next.clone(), stop.clone());
                thread::spawn(move || client.load(&next, &stop))
            })
            .collect();

        // A node that the members have not admitted gets nothing.
        let mut fifth = newcomer(scenario, &network)?;
        fifth.start()?;
        fifth.wait_up(STEP)?;
        ensure!(fifth.head(None)?.0 == 0, "a stranger was served");
        advised(&fifth.client(), "change propose admit")?;

        // One vote is not enough, and a second one of the same member is none.
        let card = fifth.card();
        let card = card.to_str().context("a path")?;
        let admit = ["change", "propose", "admit", "--card", card];
        let proposed = brand.ok(&admit)?;
        let change = text(&proposed, "change")?;
        let again = brand.run(&["change", "vote", &change])?;
        ensure!(again.refusal()?.2.contains("has voted"), "{again:?}");
        platform.wait_height(proposed["height"].as_u64().context("a height")?, STEP)?;
        let voted = platform.ok(&["change", "vote", &change])?;
        ensure!(
            voted["status"] == "open" && voted["votes_missing"] == 1,
            "{voted}"
        );
        ensure!(power(brand)?.0 == 4, "admitted too early");
        media.wait_height(voted["height"].as_u64().context("a height")?, STEP)?;
        media.ok(&["change", "vote", &change])?;
        until("the fifth to be in step", STEP, || {
            ensure!(fifth.head(None)?.0 + 3 >= brand.head(None)?.0, "it lags");
            Ok(())
        })?;
        for client in [brand, media, &fifth.client()] {
            whole(client, 5)?;
        }
        fifth.add_product(&gtin(next.fetch_add(1, Ordering::Relaxed)))?;
        println!("admitted a fifth member");

        // A validator's consensus key. With one of five away, nothing is decided without the new key's vote.
        let key = new_key(media, "consensus")?;
        let rotate = ["rotate-key", "--purpose", "consensus", "--new", &key];
        // The own node must have it: another member's operator cannot mistype it unnoticed, nor can this one.
        let wrong = "11".repeat(32);
        let typo = [
            "change",
            "propose",
            "rotate-key",
            "--purpose",
            "consensus",
            "--new",
            &wrong,
        ];
        ensure!(
            media.run(&typo)?.refusal()?.1 == "key_not_here",
            "a key from nowhere"
        );
        let five = fifth.client();
        pass(&[media, brand, platform, &five], &rotate)?;
        whole(brand, 5)?;
        fifth.stop()?;
        patiently(
            brand,
            &[
                "product",
                "add",
                "--gtin",
                &gtin(900_001),
                "--description",
                "Tea",
            ],
        )?;
        fifth.start()?;
        fifth.wait_up(STEP)?;
        whole(brand, 5)?;
        println!("rotated a consensus key");

        // A records key: the old one signs no more.
        let early = platform.add_product(&gtin(900_002))?;
        let old = signer(platform, &early)?;
        let key = new_key(platform, "records")?;
        pass(
            &[platform, brand, media, auditor],
            &["rotate-key", "--purpose", "records", "--new", &key],
        )?;
        until("platform to sign with its new key", STEP, || {
            let made = patiently(
                platform,
                &[
                    "product",
                    "add",
                    "--gtin",
                    &gtin(next.fetch_add(1, Ordering::Relaxed)),
                    "--description",
                    "Tea",
                ],
            )?;
            ensure!(
                signer(platform, &text(&made, "record")?)? != old,
                "the old key"
            );
            Ok(())
        })?;
        whole(brand, 5)?;
        println!("rotated a records key");

        // The auditor lost its administrator's key; the others replace it, and it votes with the new one further down.
        std::fs::remove_file(auditor.dir.join("keys/admin.age"))?;
        let key = new_key(auditor, "admin")?;
        let lost = [
            "rotate-key",
            "--member",
            "auditor",
            "--purpose",
            "admin",
            "--new",
            &key,
        ];
        pass(&[brand, platform, media, &five], &lost)?;
        whole(brand, 5)?;
        println!("replaced a lost administrator's key");

        pass(&[brand, platform, media, auditor], &["power", "3"])?;
        for client in [brand, auditor, &five] {
            whole(client, 7)?;
        }
        println!("changed power");

        // With two away the network goes on, but would not without a third: the node says who is missing.
        fifth.stop()?;
        network[3].stop()?;
        until("brand to miss two", STEP, || {
            ensure!(power(brand)?.1 == 5, "{:?}", power(brand)?);
            Ok(())
        })?;
        let refused = brand.run(&["change", "propose", "remove", "--member", "media"])?;
        let (_, code, message) = refused.refusal()?;
        ensure!(
            code == "no_live_quorum" && message.contains("auditor") && message.contains("fifth"),
            "{code}: {message}"
        );
        network[3].start()?;
        fifth.start()?;
        fifth.wait_up(STEP)?;
        network[3].wait_up(STEP)?;
        whole(brand, 7)?;
        println!("refused what would leave no live quorum");

        // The fifth leaves: its links are cut, and its records are worth nothing.
        fifth.add_product(&gtin(next.fetch_add(1, Ordering::Relaxed)))?;
        let from = pass(
            &[brand, platform, media, auditor],
            &["remove", "--member", "fifth"],
        )?;
        for client in [brand, platform, media, auditor] {
            whole(client, 6)?;
            let status = client.ok(&["status"])?;
            let peers = status["peers"].as_array().context("peers")?;
            ensure!(peers.iter().all(|p| p["name"] != "fifth"), "{status}");
        }
        until("the fifth to be alone", STEP, || {
            let status = fifth.ok(&["status"])?;
            let peers = status["peers"].as_array().context("peers")?;
            ensure!(peers.iter().all(|p| p["connected"] == false), "{status}");
            Ok(())
        })?;
        let late = fifth.run(&[
            "product",
            "add",
            "--gtin",
            &gtin(900_003),
            "--description",
            "x",
        ])?;
        ensure!(late.exit != 0, "a removed member's record: {late:?}");
        ensure!(
            fifth.head(None)?.0 < from + 1,
            "it was served after it left"
        );
        advised(&fifth.client(), "was removed")?;
        println!("removed a member");

        // A node that is away while its transport key is rotated finds its way back by the new one.
        let key = new_key(platform, "transport")?;
        network[1].stop()?;
        pass(
            &[brand, media, auditor],
            &[
                "rotate-key",
                "--member",
                "platform",
                "--purpose",
                "transport",
                "--new",
                &key,
            ],
        )?;
        network[1].start()?;
        network[1].wait_up(STEP)?;
        until("platform to be back", Duration::from_secs(90), || {
            ensure!(power(brand)? == (6, 6), "{:?}", power(brand)?);
            Ok(())
        })?;
        println!("a rotated transport key was found");

        // A machine is gone with all its keys; a new one takes its place.
        network[2].stop()?;
        let elsewhere = scenario.dir().join("elsewhere");
        std::fs::create_dir(&elsewhere)?;
        let media_again = Member::init(&elsewhere, "media", "media,brand", 1)?;
        let card = media_again.card();
        let card = card.to_str().context("a path")?;
        let replace = ["replace-node", "--member", "media", "--card", card];
        pass(&[brand, platform, auditor], &replace)?;
        follow(&media_again, &network)?;
        network[2] = media_again;
        network[2].start()?;
        network[2].wait_up(STEP)?;
        whole(brand, 6)?;
        whole(&network[2].client(), 6)?;
        println!("a lost node was replaced");

        stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for load in loads {
            acknowledged.extend(load.join().map_err(|_| anyhow::anyhow!("a load failed"))?);
        }
        let (height, root) = network.agree(STEP)?;
        ensure!(
            acknowledged.len() > 50,
            "only {} records",
            acknowledged.len()
        );
        for record in &acknowledged {
            for client in [brand, auditor] {
                client.ok(&["ledger", "show", record])?;
            }
        }
        // What an auditor takes home of a record by a key that was rotated since: the founders' policy is not the network's any more,
        // the members that a replay of its own gives are.
        prove(platform, brand, &early, &network.id)?;
        println!("proven to an auditor who followed the changes from the genesis");
        println!(
            "{} acknowledged records are there; height {height}, state root {root}",
            acknowledged.len()
        );
        network.stop()?;
        fifth.stop()
    });
}
