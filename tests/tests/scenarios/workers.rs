//! A large list between two members, whose buckets workers of the initiator match: founded, configured and asked for by the commands.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tally_tests::postgres::{PASSWORD, Postgres};
use tally_tests::{Network, Plan, Scenario, skip, tally, until};

const PATIENCE: Duration = Duration::from_secs(120);
/// More than 2^21: four buckets.
const MANY: u64 = 2_200_000;
const FEW: u64 = 2_000;
const COMMON: u64 = 700;

fn phone(n: u64) -> String {
    format!("+86139{n:08}")
}

/// Ends what it started.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "two million people: a minute on an idle machine"]
fn workers_match_a_large_list() {
    Scenario::run("workers", large_list);
}

fn large_list(scenario: &Scenario) -> Result<()> {
    let Some(postgres) = Postgres::start()? else {
        skip(
            "workers",
            "PostgreSQL is not installed: apt-get install postgresql",
        );
        return Ok(());
    };
    let root = scenario.dir();
    let store = root.join("store");
    fs::create_dir(&store)?;
    let store_url = format!("file://{}", store.display());
    let key = root.join("worker.key");
    fs::write(&key, "7b".repeat(32))?;
    let password = root.join("db.password");
    fs::write(&password, PASSWORD)?;
    let mut network = Network::found(scenario, &Plan::four())?;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let path = |p: &std::path::Path| p.display().to_string();
    for (name, value) in [
        ("listen", free),
        ("database", postgres.url()),
        ("database_password_file", path(&password)),
        ("key_file", path(&key)),
        ("store", store_url.clone()),
    ] {
        network[0].configure("workers", name, value)?;
    }
    network.start()?;

    let mut many = BufWriter::new(File::create(root.join("many.csv"))?);
    writeln!(many, "phone")?;
    for n in 0..MANY {
        writeln!(many, "{}", phone(7 * n))?;
    }
    many.flush()?;
    let few: String = (0..FEW)
        .map(|n| phone(7 * (MANY - COMMON + n)) + "\n")
        .collect();
    fs::write(root.join("few.csv"), format!("phone\n{few}"))?;
    let (brand, media) = (&network[0], &network[2]);
    let height = |answer: &Value| answer["height"].as_u64().context("a height");
    for (member, file) in [(brand, "many.csv"), (media, "few.csv")] {
        let file = path(&root.join(file));
        let done = member.ok(&[
            "audience",
            "import",
            &file,
            "--label",
            "spring",
            "--timeout",
            "600",
        ])?;
        brand.wait_height(height(&done)?, PATIENCE)?;
    }
    let proposed = brand.ok(&[
        "agreement",
        "propose",
        "--with",
        "media",
        "--purpose",
        "a trial",
        "--computation",
        "list",
        "--suite",
        "vole-rr22-malicious-v1",
        "--noise",
        "none",
    ])?;
    let agreement = proposed["agreement"].as_str().context("an agreement")?;
    media.wait_height(height(&proposed)?, PATIENCE)?;
    let accepted = media.ok(&["agreement", "accept", agreement])?;
    brand.wait_height(height(&accepted)?, PATIENCE)?;

    let worker = |key: &str| {
        let mut command = Command::new(tally());
        command
            .args(["psi", "worker", "--json", "--database", &postgres.url()])
            .args(["--database-password-file", &path(&password)])
            .args(["--key-file", key, "--store", &store_url])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    };
    // Another key is refused at once, once the first has made the tables.
    let mut workers: Vec<Worker> = Vec::new();
    for _ in 0..2 {
        workers.push(Worker(worker(&path(&key)).spawn()?));
    }
    let other = root.join("other.key");
    fs::write(&other, "7c".repeat(32))?;
    until("another key to be refused", PATIENCE, || {
        let mut wrong = Worker(worker(&path(&other)).spawn()?);
        std::thread::sleep(Duration::from_secs(2));
        ensure!(
            wrong.0.try_wait()?.is_some_and(|s| s.code() == Some(1)),
            "it goes on"
        );
        Ok(())
    })?;

    let out = root.join("common.csv");
    let answer = brand.ok(&[
        "match",
        "request",
        "--agreement",
        agreement,
        "--audience",
        "spring",
        "--computation",
        "list",
        "--out",
        &path(&out),
    ])?;
    let text = fs::read_to_string(&out)?;
    let mut found: Vec<&str> = text.lines().filter(|l| l.starts_with('+')).collect();
    found.sort_unstable();
    let mut expected: Vec<String> = (MANY - COMMON..MANY).map(|n| phone(7 * n)).collect();
    expected.sort_unstable();
    ensure!(found == expected, "{} people found: {answer}", found.len());

    // They did it, and end when they are asked to.
    let mut buckets = 0;
    for worker in &mut workers {
        let pid =
            rustix::process::Pid::from_raw(i32::try_from(worker.0.id())?).context("a process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        until("a worker to end", PATIENCE, || {
            ensure!(worker.0.try_wait()?.is_some(), "it goes on");
            Ok(())
        })?;
        let said = worker.0.stdout.take().context("what it said")?;
        let said: Value = serde_json::from_reader(said)?;
        buckets += said["finished_buckets"].as_u64().context("a number")?;
    }
    ensure!(buckets == 4, "{buckets} of 4 buckets");
    network.stop()
}
