//! `tally bench psi --workers`: a list between the nodes of two members, whose buckets worker processes of the asking member match.
//!
//! Nodes, workers and database are real ones; the other member's node answers by itself. Each run has an agreement of its own over
//! the same two sets, so that its list is matched anew.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::OsRng;
use rand::seq::SliceRandom as _;
use serde::Serialize;
use serde_json::{Value, json};
use tally_contracts::genesis::Roles;
use tally_node::bench::kit::{cores, hardware};
use tally_node::config::Config;
use tally_node::files::write_atomic;
use tally_psi::Suite;

use super::processes::{cpu_s, rss_mb};
use crate::admin_client::AdminClient;
use crate::quickstart::network::{Member, Network, free_ports};

/// The worker key: of a bench alone, and always the same, so that the database can be used again.
const KEY: &str = "62656e6368206f6620776f726b65727300000000000000000000000000000000";
/// How long an import or a match may take.
const CALL_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// How long a node may take to see what another has committed.
const STEP: Duration = Duration::from_secs(60);
/// Both sides together are as many as there are made-up phone numbers.
const MOST_PEOPLE: u64 = 60_000_000;
/// Before a run, workers have so long to connect to the database.
const SETTLE: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) suite: Suite,
    /// People of each side.
    pub(crate) n: u64,
    /// Workers of each run.
    pub(crate) workers: Vec<usize>,
    pub(crate) database: String,
    /// The file with its password, absolute.
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) bucket_items: u64,
}

/// The figures.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    suite: &'static str,
    /// People of each side, half of them common.
    n: u64,
    bucket_items: u64,
    /// Common people found.
    matches: u64,
    /// Whether every run found those of a plain join, by every value.
    pub(crate) correct: bool,
    runs: Vec<Run>,
    /// The arithmetic of the workers.
    backend: &'static str,
    hardware: String,
    cores: usize,
}

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Run {
    workers: usize,
    /// From the request to the answer.
    wall_s: f64,
    /// All workers together from their start, user and system time.
    cpu_s: f64,
    /// The asking member's node meanwhile.
    cpu_a_s: f64,
    /// The other member's node meanwhile, which does that side of every bucket.
    cpu_b_s: f64,
    /// Workers and both nodes.
    cpu_us_per_item: f64,
    /// Largest resident set of a worker.
    rss_worker_mb: f64,
    /// Workers that matched anything: those that used more than a twentieth of an equal share.
    busy_workers: usize,
    /// `cpu_s` over that of the first run with one worker, if there is one.
    ratio_to_one: Option<f64>,
    /// The same of workers and both nodes.
    ratio_of_all_to_one: Option<f64>,
}

/// Processes and the files with what they say; ends them when it is dropped.
struct Workers(Vec<(Child, PathBuf)>);

impl Workers {
    /// That all still run; else why one ended.
    fn run_still(&mut self) -> Result<()> {
        for (child, log) in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                anyhow::bail!("a worker ended, {status}: {}", said.trim());
            }
        }
        Ok(())
    }

    fn each(&self, read: impl Fn(u32) -> Result<f64>) -> Result<Vec<f64>> {
        self.0.iter().map(|(child, _)| read(child.id())).collect()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs the bench; `say` hears what is being done.
pub(crate) fn run(options: &Options, say: &dyn Fn(&str)) -> Result<Figures> {
    ensure!(
        options.n < MOST_PEOPLE,
        "{} people of each side, expected less than {MOST_PEOPLE}",
        options.n
    );
    ensure!(
        options.n > 2 * options.bucket_items,
        "a list of {} is matched whole, without workers: expected more than two buckets of {}, see --bucket-items",
        options.n,
        options.bucket_items
    );
    let scratch = tempfile::Builder::new().prefix("tally-bench-").tempdir()?;
    let root = scratch.path();
    fs::create_dir(root.join("store"))?;
    write_atomic(&root.join("worker.key"), KEY.as_bytes(), 0o600)?;
    say("founding a network of two members and starting their nodes");
    let founders = [("brand", Roles::BRAND), ("media", Roles::MEDIA)];
    let mut network = Network::found_of("bench", root, &founders)?;
    for (i, member) in network.members.iter().enumerate() {
        configure(&member.config, options, (i == 0).then_some(root))?;
    }
    network.start()?;
    let [brand, media] = network.members.as_slice() else {
        anyhow::bail!("a network of two has other members");
    };

    say("making up two sets and importing them");
    let from = options.n - options.n / 2;
    for (member, label, from) in [(brand, "buyers", 0), (media, "viewers", from)] {
        let file = root.join(format!("{label}.csv"));
        write_people(&file, from, options.n)?;
        let asked = json!({"file": file, "id_type": "phone", "profile": "e164", "label": label});
        let done = call(member, "audience_import", &asked)?;
        fs::remove_file(&file)?;
        see(brand, &done)?;
    }

    let mut figures = Figures {
        suite: options.suite.name(),
        n: options.n,
        bucket_items: options.bucket_items,
        matches: options.n / 2,
        correct: true,
        runs: Vec::new(),
        backend: if options.suite.is_vole() {
            tally_psi::kernels()
        } else {
            tally_psi::backend()
        },
        hardware: hardware(),
        cores: cores(),
    };
    for (number, count) in options.workers.iter().enumerate() {
        let word = if *count == 1 { "worker" } else { "workers" };
        say(&format!("a list with {count} {word}"));
        let agreement = agree(brand, media, options.suite)?;
        let out = root.join(format!("matches-{number}.csv"));
        let run = one_run(options, root, (brand, media), *count, &agreement, &out)?;
        let (found, correct) = check(&out, from, options.n)?;
        fs::remove_file(&out)?;
        if !correct {
            (figures.matches, figures.correct) = (found, false);
        }
        figures.runs.push(run);
    }
    let one = figures.runs.iter().find(|run| run.workers == 1);
    if let Some((cpu, all)) = one.map(|one| (one.cpu_s, one.all())) {
        for run in &mut figures.runs {
            run.ratio_to_one = Some(thousandths(run.cpu_s / cpu));
            run.ratio_of_all_to_one = Some(thousandths(run.all() / all));
        }
    }
    Ok(figures)
}

impl Run {
    fn all(&self) -> f64 {
        self.cpu_s + self.cpu_a_s + self.cpu_b_s
    }
}

/// Sets what a node has to know; `root` is the bench's folder for one that has workers.
fn configure(config: &Path, options: &Options, root: Option<&Path>) -> Result<()> {
    let mut set = Config::load(config)?;
    set.matches.bucket_items = options.bucket_items;
    if let Some(root) = root {
        let port = free_ports(1)?.into_iter().next().context("a port")?;
        set.workers.listen = format!("127.0.0.1:{port}");
        set.workers.database.clone_from(&options.database);
        set.workers.database_password_file = options.password_file.clone().unwrap_or_default();
        set.workers.key_file = root.join("worker.key");
        set.workers.store = store(root);
    }
    Ok(write_atomic(config, set.to_text().as_bytes(), 0o600)?)
}

fn store(root: &Path) -> String {
    format!("file://{}", root.join("store").display())
}

fn call(member: &Member, op: &str, args: &Value) -> Result<Value> {
    AdminClient::connect(member.dir.root(), &member.config, CALL_LIMIT)?
        .call(op, args, &mut |_| {})
        .with_context(|| format!("{op} at {}", member.name))
}

/// Waits until a node has committed what another's answer speaks of.
fn see(member: &Member, answer: &Value) -> Result<()> {
    let height = answer["height"]
        .as_u64()
        .context("an answer without height")?;
    ensure!(
        member.wait_height(height, STEP)?,
        "the node of {} did not reach height {height}",
        member.name
    );
    Ok(())
}

/// Mobile numbers of China, in no order; not dense enough to be taken for guesses.
fn phone(i: u64) -> String {
    format!("+86139{:08}", i * 11 % 100_000_000)
}

fn write_people(file: &Path, from: u64, n: u64) -> Result<()> {
    let mut numbers: Vec<u64> = (from..from + n).collect();
    numbers.shuffle(&mut OsRng);
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "phone")?;
    for number in numbers {
        writeln!(out, "{}", phone(number))?;
    }
    Ok(out.flush()?)
}

/// How many people a list has, and whether they are `from..n`, each once.
fn check(file: &Path, from: u64, n: u64) -> Result<(u64, bool)> {
    let mut found: Vec<String> = BufReader::new(File::open(file)?)
        .lines()
        .filter(|line| line.as_ref().map_or(true, |l| l.starts_with('+')))
        .collect::<Result<_, _>>()?;
    found.sort_unstable();
    let mut expected: Vec<String> = (from..n).map(phone).collect();
    expected.sort_unstable();
    Ok((found.len() as u64, found == expected))
}

fn agree(brand: &Member, media: &Member, suite: Suite) -> Result<String> {
    let terms = json!({
        "with": [media.name],
        "purpose": "a bench",
        "computations": ["list"],
        "suite": suite.name(),
        "id_type": "phone",
        "profile": "e164",
        "noise": "none",
        "epoch_answers": 10,
        "lifetime_answers": 40,
        "min_set": 1,
        "max_set": 1_u64 << 28,
        "min_result": 0,
        "max_audiences": 1,
        "max_matches": 1,
        "days": 1,
    });
    let proposed = call(brand, "agreement_propose", &terms)?;
    let id = proposed["agreement"]
        .as_str()
        .context("an agreement")?
        .to_owned();
    see(media, &proposed)?;
    let accepted = call(media, "agreement_accept", &json!({"agreement": id}))?;
    see(brand, &accepted)?;
    Ok(id)
}

fn one_run(
    options: &Options,
    root: &Path,
    (brand, media): (&Member, &Member),
    count: usize,
    agreement: &str,
    out: &Path,
) -> Result<Run> {
    let mut workers = Workers(Vec::new());
    for i in 0..count {
        workers.0.push(start(options, root, i)?);
    }
    std::thread::sleep(SETTLE);
    workers.run_still()?;
    let nodes = |member: &Member| cpu_s(member.pid().context("a node that runs")?);
    let before = [nodes(brand)?, nodes(media)?];
    let begun = Instant::now();
    let asked =
        json!({"agreement": agreement, "computation": "list", "audience": "buyers", "out": out});
    call(brand, "match_request", &asked)?;
    let wall_s = begun.elapsed().as_secs_f64();
    workers.run_still()?;
    let each = workers.each(cpu_s)?;
    let largest = workers.each(rss_mb)?.into_iter().fold(0.0, f64::max);
    let cpu_s: f64 = each.iter().sum();
    let least = cpu_s / precise(20 * count as u64);
    let mut run = Run {
        workers: count,
        wall_s: thousandths(wall_s),
        cpu_s: thousandths(cpu_s),
        cpu_a_s: thousandths(nodes(brand)? - before[0]),
        cpu_b_s: thousandths(nodes(media)? - before[1]),
        cpu_us_per_item: 0.0,
        rss_worker_mb: thousandths(largest),
        busy_workers: each.iter().filter(|cpu| **cpu > least).count(),
        ratio_to_one: None,
        ratio_of_all_to_one: None,
    };
    run.cpu_us_per_item = thousandths(run.all() * 1e6 / precise(options.n));
    Ok(run)
}

/// Clocks of processes tell hundredths of a second: further digits are none.
fn thousandths(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
const fn precise(n: u64) -> f64 {
    n as f64
}

fn start(options: &Options, root: &Path, number: usize) -> Result<(Child, PathBuf)> {
    let log = root.join(format!("worker-{number}.log"));
    let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
    command
        .args(["psi", "worker", "--json", "--database", &options.database])
        .arg("--key-file")
        .arg(root.join("worker.key"))
        .args([
            "--store",
            &store(root),
            "--name",
            &format!("bench {number}"),
        ])
        .arg("--spill")
        .arg(root);
    if let Some(file) = &options.password_file {
        command.arg("--database-password-file").arg(file);
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()
        .context("start a worker")?;
    Ok((child, log))
}
