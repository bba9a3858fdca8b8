//! A full disk: the node goes read-only with a reason, loses nothing that it acknowledged, and comes back when there is room.
//!
//! The node's data lies on a small file system in memory, mounted in a mount namespace that only this test sees. That needs
//! root, or user namespaces; where there is neither, the test says so.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tally_tests::{
    Client, Member, Network, Plan, Scenario, again, get, gtin, inside, skip, until, within,
};

/// Size of the small disk.
const DISK: u64 = 96 << 20;
/// What the node keeps free on it.
const RESERVE: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// The options of `unshare` that work here, if any.
fn namespace() -> Option<&'static [&'static str]> {
    let works = |options: &[&str]| {
        let probe = "mount -t tmpfs -o size=64k none /mnt";
        Command::new("unshare")
            .args(options)
            .args(["sh", "-c", probe])
            .output()
            .is_ok_and(|out| out.status.success())
    };
    [
        &["-m", "--propagation", "private"][..],
        &["-m", "-U", "-r", "--propagation", "private"],
    ]
    .into_iter()
    .find(|options| works(options))
}

#[test]
fn read_only_with_a_reason_until_there_is_room() {
    if inside() {
        Scenario::run("disk-full", scenario);
        return;
    }
    let Some(options) = namespace() else {
        skip(
            "disk_full",
            "no mount namespace can be made: it needs root or user namespaces",
        );
        return;
    };
    again(
        "disk_full::read_only_with_a_reason_until_there_is_room",
        options,
    );
}

fn free_bytes(dir: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Writes a file until less than `leave` bytes are free; 0 fills the disk to the last byte.
fn fill(file: &Path, leave: u64) -> Result<()> {
    let dir = file.parent().context("a folder")?;
    let mut out = File::options().create(true).append(true).open(file)?;
    loop {
        let free = free_bytes(dir)?;
        let room = usize::try_from(free.saturating_sub(leave))?.min(1 << 20);
        if room == 0 || out.write_all(&vec![0x5a; room.max(1)]).is_err() {
            break;
        }
    }
    // What is left of the last page.
    while leave == 0 && out.write_all(&[0]).is_ok() {}
    Ok(())
}

/// What was acknowledged is still there.
fn kept(client: &Client, scans: &[(String, String)], records: &[String]) -> Result<()> {
    for (id, receipt) in scans {
        let answer = get(&client.http, &format!("/v1/scans/{id}"))?;
        ensure!(
            answer.status == 200 && answer.json()["receipt"] == receipt.as_str(),
            "{}",
            answer.told()
        );
    }
    for id in records {
        client.ok(&["ledger", "show", id])?;
    }
    Ok(())
}

/// Scans until the answer is no acknowledgement; gives what was refused with.
fn scan_until_refused(
    client: &Client,
    codes: &[(String, String)],
    scans: &mut Vec<(String, String)>,
) -> Result<(u16, String)> {
    for n in 0..20_000 {
        let answer = client.scan(&codes[n % codes.len()].0, &format!("{}-{n}", scans.len()))?;
        let said = answer.json();
        if answer.status != 200 {
            return Ok((answer.status, answer.told()));
        }
        let text = |key: &str| said[key].as_str().map(str::to_owned).context("text");
        scans.push((text("scan_id")?, text("receipt")?));
    }
    anyhow::bail!("scans are taken without end")
}

fn scenario(scenario: &Scenario) -> Result<()> {
    // The brand's data directory, its log in it, is on a disk of its own.
    let disk = scenario.dir().join("disk");
    fs::create_dir(&disk)?;
    let mounted = Command::new("mount")
        .args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={DISK},mode=700"),
            "none",
        ])
        .arg(&disk)
        .status()?;
    ensure!(mounted.success(), "mount ended with {mounted}");

    let plan = Plan::four();
    let members = plan
        .members
        .iter()
        .map(|(name, roles)| {
            let root = if *name == "brand" {
                &disk
            } else {
                scenario.dir()
            };
            Member::init(root, name, roles, 1)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut network = Network::found_of(scenario.dir(), members, plan.heartbeat_ms)?;
    network[0].configure("limits", "disk_reserve_bytes", i64::try_from(RESERVE)?)?;
    network.start()?;
    let (brand, media) = (network[0].client(), network[2].client());
    let ballast = disk.join("ballast");
    let mut records = vec![brand.add_product(&gtin(1))?];
    let batch = brand.issue(&gtin(1), "L1", 50, true)?;
    let mut scans = Vec::new();
    for n in 0..20 {
        let answer = brand.scan(&batch.codes[n].0, &format!("before-{n}"))?;
        ensure!(answer.status == 200, "{}", answer.told());
        let said = answer.json();
        let text = |key: &str| said[key].as_str().map(str::to_owned).context("text");
        scans.push((text("scan_id")?, text("receipt")?));
    }

    // 1. Below the reserve: nothing new is taken, with the reason; the node still votes and follows.
    fill(&ballast, RESERVE / 2)?;
    let (status, told) = scan_until_refused(&brand, &batch.codes, &mut scans)?;
    ensure!(
        status == 503 && told.contains("read-only") && told.contains("free"),
        "{told}"
    );
    let (exit, code, message) = brand
        .run(&["product", "add", "--gtin", &gtin(2), "--description", "x"])?
        .refusal()?;
    ensure!(
        exit == 1 && code == "read_only" && message.contains("free"),
        "{exit} {code} {message}"
    );
    let issued = brand.run(&[
        "codes",
        "issue",
        "--gtin",
        &gtin(1),
        "--lot",
        "L2",
        "--count",
        "5",
        "--out",
        "L2.csv",
    ])?;
    ensure!(issued.refusal()?.1 == "read_only", "{issued:?}");
    ensure!(
        !disk.join("L2.csv").exists(),
        "codes of a batch that was not issued were written"
    );
    let ready = get(&brand.http, "/readyz")?;
    ensure!(
        ready.status == 503 && ready.told().contains("free"),
        "{}",
        ready.told()
    );
    let said = brand.ok(&["status"])?;
    ensure!(
        said["read_only"]
            .as_str()
            .is_some_and(|r| r.contains("free"))
            && said["advice"].to_string().contains("free"),
        "{said}"
    );
    records.push(media.add_product(&gtin(3))?);
    let (height, _) = media.head(None)?;
    brand.wait_height(height, PATIENCE)?;
    kept(&brand, &scans, &records)?;

    // 2. Room again: it goes on by itself.
    fs::remove_file(&ballast)?;
    brand.wait_ready(PATIENCE)?;
    records.push(brand.add_product(&gtin(4))?);
    let answer = brand.scan(&batch.codes[0].0, "after-the-reserve")?;
    ensure!(answer.status == 200, "{}", answer.told());

    // 3. Not a byte left, and the others go on: blocks cannot be stored. The node stays, says why, and does not vote.
    fill(&ballast, 0)?;
    for n in 10..14 {
        records.push(media.add_product(&gtin(n))?);
    }
    let (height, _) = media.head(None)?;
    let stuck = until("the full node to say that it is stuck", PATIENCE, || {
        let said = brand.ok(&["status"])?;
        ensure!(said["consensus"]["running"] == false, "{said}");
        Ok(said)
    })?;
    ensure!(network[0].ended().is_none(), "the node ended");
    ensure!(
        stuck["read_only"].is_string() && !stuck["advice"].to_string().is_empty(),
        "{stuck}"
    );
    let ready = get(&brand.http, "/readyz")?;
    ensure!(ready.status == 503, "{}", ready.told());
    let answer = brand.scan(&batch.codes[1].0, "no-room")?;
    ensure!(
        answer.status == 503 && answer.told().contains("read-only"),
        "{}",
        answer.told()
    );
    let (_, code, _) = brand
        .run(&["product", "add", "--gtin", &gtin(5), "--description", "x"])?
        .refusal()?;
    ensure!(code == "read_only", "{code}");
    kept(&brand, &scans, &records[..3])?;

    // 4. Room again: in step by itself, with everything.
    fs::remove_file(&ballast)?;
    within("the node to come back", PATIENCE, || {
        get(&brand.http, "/readyz").is_ok_and(|r| r.status == 200)
    })?;
    ensure!(network[0].ended().is_none(), "the node ended");
    brand.wait_height(height, PATIENCE)?;
    kept(&brand, &scans, &records)?;
    records.push(brand.add_product(&gtin(6))?);
    let answer = brand.scan(&batch.codes[2].0, "room")?;
    ensure!(answer.status == 200, "{}", answer.told());
    network.agree(PATIENCE)?;

    // 5. Killed on a full disk, and started there: it loses nothing.
    fill(&ballast, 0)?;
    network[0].kill()?;
    fs::remove_file(&ballast)?;
    network.start()?;
    kept(&brand, &scans, &records)?;
    network.agree(PATIENCE)?;
    network.stop()
}
