//! A list between two members, whose buckets workers of the initiator match: founded, configured and asked for by the commands. Workers
//! are killed while they hold a bucket; the list is exact, and the node did nothing of it itself.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tally_tests::postgres::{PASSWORD, Postgres};
use tally_tests::{Member, Network, Plan, Scenario, skip, tally, until};

const PATIENCE: Duration = Duration::from_secs(120);
/// Many times the items of a bucket, with fillers 32 buckets.
const MANY: u64 = 300_000;
const BUCKET_ITEMS: i64 = 20_000;
const BUCKETS: u64 = 32;
const FEW: u64 = 2_000;
const COMMON: u64 = 700;
/// Workers that are killed, one after the other, and those that do the rest.
const KILLED: [&str; 3] = ["first", "second", "third"];
const LAST: [&str; 2] = ["fourth", "fifth"];

fn phone(n: u64) -> String {
    format!("+86139{n:08}")
}

/// Ends what it started.
struct Worker(Child);

impl Worker {
    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("a process")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a worker is started with.
struct Shared<'a> {
    postgres: &'a Postgres,
    root: &'a Path,
}

impl Shared<'_> {
    fn path(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    fn store(&self) -> String {
        format!("file://{}", self.path("store"))
    }

    fn start(&self, name: &str, key: &str) -> Result<Worker> {
        let child = Command::new(tally())
            .args(["psi", "worker", "--json", "--name", name, "--lease", "3"])
            .args(["--database", &self.postgres.url()])
            .args(["--database-password-file", &self.path("db.password")])
            .args(["--key-file", &self.path(key), "--store", &self.store()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Worker(child))
    }

    /// Whether a bucket that is not done is the one of this worker, its lease over or not.
    fn has(&self, name: &str) -> Result<bool> {
        let sql = format!("SELECT count(*) FROM tally_psi_buckets WHERE worker = '{name}'");
        Ok(self.postgres.query(&sql)? != "0")
    }
}

#[test]
fn workers_match_a_list_and_each_of_them_may_be_killed() {
    Scenario::run("workers", list);
}

fn list(scenario: &Scenario) -> Result<()> {
    let Some(postgres) = Postgres::start()? else {
        skip(
            "workers",
            "PostgreSQL is not installed: apt-get install postgresql",
        );
        return Ok(());
    };
    let root = scenario.dir();
    let shared = Shared {
        postgres: &postgres,
        root,
    };
    fs::create_dir(root.join("store"))?;
    fs::write(root.join("worker.key"), "7b".repeat(32))?;
    fs::write(root.join("other.key"), "7c".repeat(32))?;
    fs::write(root.join("db.password"), PASSWORD)?;
    let plan = Plan {
        members: vec![("brand", "brand"), ("media", "media")],
        heartbeat_ms: 1_000,
    };
    let mut network = Network::found(scenario, &plan)?;
    for member in network.iter() {
        member.configure("match", "bucket_items", BUCKET_ITEMS)?;
    }
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    for (name, value) in [
        ("listen", free),
        ("database", postgres.url()),
        ("database_password_file", shared.path("db.password")),
        ("key_file", shared.path("worker.key")),
        ("store", shared.store()),
    ] {
        network[0].configure("workers", name, value)?;
    }
    network.start()?;
    let (brand, media) = (&network[0], &network[1]);
    let agreement = prepare(brand, media, &shared)?;

    let asked: [&str; 10] = [
        "match",
        "request",
        "--agreement",
        &agreement,
        "--audience",
        "spring",
        "--computation",
        "list",
        "--out",
        &shared.path("common.csv"),
    ];
    let (answer, last) = std::thread::scope(|scope| {
        let answer = scope.spawn(|| brand.ok(&asked));
        for name in KILLED {
            until(
                "a worker to be killed with a bucket in hand",
                PATIENCE,
                || {
                    let worker = shared.start(name, "worker.key")?;
                    until("a worker to have a bucket", PATIENCE, || {
                        ensure!(shared.has(name)?, "{name} has none");
                        Ok(())
                    })?;
                    // SIGKILL, to one that is stopped too. It may have said a moment before that it was done with its bucket.
                    worker.signal(Signal::STOP)?;
                    drop(worker);
                    ensure!(shared.has(name)?, "{name} let go of its bucket");
                    Ok(())
                },
            )?;
        }
        let last = LAST.map(|name| shared.start(name, "worker.key"));
        let answer = answer
            .join()
            .map_err(|_| anyhow!("the request panicked"))??;
        Ok::<_, anyhow::Error>((answer, last))
    })?;

    let text = fs::read_to_string(root.join("common.csv"))?;
    let mut found: Vec<&str> = text.lines().filter(|l| l.starts_with('+')).collect();
    found.sort_unstable();
    let mut expected: Vec<String> = (MANY - COMMON..MANY).map(|n| phone(7 * n)).collect();
    expected.sort_unstable();
    ensure!(found == expected, "{} people found: {answer}", found.len());
    let log = brand.log();
    ensure!(
        !log.contains("no worker goes on") && !log.contains("no bucket can be given to workers"),
        "the node worked itself"
    );

    // They end when they are asked to. The killed ones had held a bucket each, which these have done.
    let mut buckets = 0;
    for worker in last {
        let mut worker = worker?;
        worker.signal(Signal::TERM)?;
        until("a worker to end", PATIENCE, || {
            ensure!(worker.0.try_wait()?.is_some(), "it goes on");
            Ok(())
        })?;
        let said = worker.0.stdout.take().context("what it said")?;
        let said: Value = serde_json::from_reader(said)?;
        buckets += said["finished_buckets"].as_u64().context("a number")?;
    }
    ensure!(
        (KILLED.len() as u64..=BUCKETS).contains(&buckets),
        "{buckets} of {BUCKETS} buckets by the last two"
    );
    let mut wrong = shared.start("another", "other.key")?;
    until("another key to be refused", PATIENCE, || {
        let ended = wrong.0.try_wait()?.context("it goes on")?;
        ensure!(ended.code() == Some(1), "{ended}");
        Ok(())
    })?;
    network.stop()
}

/// Two audiences and an agreement on lists; which.
fn prepare(brand: &Member, media: &Member, shared: &Shared<'_>) -> Result<String> {
    let mut many = BufWriter::new(File::create(shared.path("many.csv"))?);
    writeln!(many, "phone")?;
    for n in 0..MANY {
        writeln!(many, "{}", phone(7 * n))?;
    }
    many.flush()?;
    let few: String = (0..FEW)
        .map(|n| phone(7 * (MANY - COMMON + n)) + "\n")
        .collect();
    fs::write(shared.path("few.csv"), format!("phone\n{few}"))?;
    let height = |answer: &Value| answer["height"].as_u64().context("a height");
    for (member, file) in [(brand, "many.csv"), (media, "few.csv")] {
        let file = shared.path(file);
        let done = member.ok(&["audience", "import", &file, "--label", "spring"])?;
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
    Ok(agreement.to_owned())
}
