//! `tally bench scan`: durable scans over HTTP at a node that is a process of its own, and the same load on a server that does
//! nothing, in the same run.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use rand::RngCore as _;
use rand::rngs::OsRng;
use serde::Serialize;
use serde_json::json;
use tally_contracts::genesis::Roles;
use tally_node::bench::kit::{cores, hardware, percentile_ms, used};
use tally_node::config::Config;
use tally_node::files::write_atomic;
use tokio::runtime::Runtime;

use super::load::{self, Outcome};
use super::processes::{cpu_s, rss_mb};
use crate::quickstart::network::Network;

const GTIN: &str = "09521234543213";
/// Scans before those that are measured: connections, caches, threads.
const WARM_UP: usize = 2_000;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Scans, each of a code of its own.
    pub(crate) scans: usize,
    /// Connections.
    pub(crate) connections: usize,
    /// Scans that are stored in the end, if more than those.
    pub(crate) stored: Option<usize>,
    /// The database of a shared index; `None` for the node's own.
    pub(crate) index: Option<String>,
    /// The file with its password, absolute.
    pub(crate) index_password_file: Option<PathBuf>,
}

/// The figures.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Scans measured, each acknowledged with a receipt once it was on disk.
    scans: usize,
    scans_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// `scans_per_s` over what a server that does nothing answers a second under the same load.
    ratio_to_empty_handler: f64,
    empty_per_s: f64,
    connections: usize,
    /// `embedded` or `postgresql`.
    index: &'static str,
    /// CPU of the node for each scan.
    node_cpu_us_per_scan: f64,
    /// CPU of the load generator for each scan, on the same cores.
    client_cpu_us_per_scan: f64,
    rss_mb: f64,
    #[serde(flatten)]
    stored: Option<Stored>,
    hardware: String,
    cores: usize,
}

/// The figures of a node that has stored many scans.
#[derive(Debug, Serialize)]
struct Stored {
    /// Scans stored when the last ones were measured.
    stored: usize,
    /// Over all of them.
    stored_per_s: f64,
    /// Of the first and of the last [`Options::scans`].
    first_p99_ms: f64,
    last_p99_ms: f64,
    last_over_first: f64,
    last_per_s: f64,
    /// From the start of the process after SIGKILL until it answers.
    restart_s: f64,
    /// What the scan log and what is beside it take on disk.
    disk_mb: f64,
    rss_stored_mb: f64,
}

/// Lets a node keep its index in a database, as one of several gateways would.
fn share(config: &Path, url: &str, password: Option<&Path>) -> Result<()> {
    let mut set = Config::load(config)?;
    url.clone_into(&mut set.scans.index);
    set.scans.index_key_file = "index.key".into();
    if let Some(password) = password {
        set.scans.index_password_file = password.to_owned();
    }
    let mut key = [0_u8; 32];
    OsRng.fill_bytes(&mut key);
    let dir = config.parent().context("a configuration in a folder")?;
    write_atomic(&dir.join("index.key"), hex::encode(key).as_bytes(), 0o600)?;
    Ok(write_atomic(config, set.to_text().as_bytes(), 0o600)?)
}

/// Runs the bench; `say` hears what is being done.
pub(crate) fn run(options: &Options, say: &dyn Fn(&str)) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let scratch = tempfile::Builder::new().prefix("tally-bench-").tempdir()?;
    say("founding a network of one validator and starting its node");
    let mut network = Network::found_of("bench", scratch.path(), &[("brand", Roles::BRAND)])?;
    if let Some(url) = &options.index {
        share(
            &network.brand().config,
            url,
            options.index_password_file.as_deref(),
        )?;
    }
    network.start()?;
    say("issuing codes");
    let total = options.stored.unwrap_or(0).max(options.scans + WARM_UP);
    let mut links = issue(&network, scratch.path(), total)?;
    let codes = links.take(options.scans + WARM_UP)?;
    let node = network.brand();
    let address = node.http.replace("http://", "");
    let address = address.as_str();
    let (warm_up, measured) = codes.split_at(WARM_UP);
    let (warm_up, measured) = (post(address, warm_up), post(address, measured));
    let genuine = r#""verdict":"genuine_first""#;

    say("scanning");
    runtime.block_on(load::run(
        address,
        options.connections,
        warm_up.clone(),
        genuine,
    ))?;
    let pid = node.pid().context("a node that runs")?;
    let (node_before, own_before) = (cpu_s(pid)?, used().cpu_s);
    let scans = runtime.block_on(load::run(
        address,
        options.connections,
        measured.clone(),
        genuine,
    ))?;
    let (node_cpu, own_cpu) = (cpu_s(pid)? - node_before, used().cpu_s - own_before);
    let rss = rss_mb(pid)?;
    let stored = if options.stored.is_some() {
        Some(store(
            options,
            &runtime,
            &mut network,
            &mut links,
            total,
            &scans,
            say,
        )?)
    } else {
        None
    };
    drop(network);

    say("the same load on a server that does nothing");
    let empty = empty(&runtime, options.connections, &warm_up, &measured)?;
    let per_s = |outcome: &Outcome| precise(outcome.times.len()) / outcome.elapsed.as_secs_f64();
    let n = precise(options.scans);
    Ok(Figures {
        scans: options.scans,
        scans_per_s: per_s(&scans),
        p50_ms: percentile_ms(&scans.times, 0.5),
        p99_ms: percentile_ms(&scans.times, 0.99),
        ratio_to_empty_handler: per_s(&scans) / per_s(&empty),
        empty_per_s: per_s(&empty),
        connections: options.connections,
        index: if options.index.is_some() {
            "postgresql"
        } else {
            "embedded"
        },
        node_cpu_us_per_scan: node_cpu * 1e6 / n,
        client_cpu_us_per_scan: own_cpu * 1e6 / n,
        rss_mb: rss,
        stored,
        hardware: hardware(),
        cores: cores(),
    })
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn precise(n: usize) -> f64 {
    n as f64
}

/// The links of a printer's file, read bit by bit.
struct Links(csv::StringRecordsIntoIter<std::fs::File>);

impl Links {
    fn take(&mut self, count: usize) -> Result<Vec<String>> {
        self.0
            .by_ref()
            .take(count)
            .map(|row| Ok(row?.get(0).context("a row without a link")?.to_owned()))
            .collect()
    }
}

fn post(address: &str, codes: &[String]) -> Arc<Vec<Vec<u8>>> {
    let request = |(i, code): (usize, &String)| {
        let body = json!({"code": code}).to_string();
        load::post("/v1/scans", address, &format!("{i}-{code}"), &body)
    };
    Arc::new(codes.iter().enumerate().map(request).collect())
}

/// Goes on scanning until `total` scans are stored, the last ones measured like the first; then kills the node and starts it again.
fn store(
    options: &Options,
    runtime: &Runtime,
    network: &mut Network,
    links: &mut Links,
    total: usize,
    first: &Outcome,
    say: &dyn Fn(&str),
) -> Result<Stored> {
    let genuine = r#""verdict":"genuine_first""#;
    let address = network.brand().http.replace("http://", "");
    let begun = Instant::now();
    let before = options.scans + WARM_UP;
    let (mut stored, mut last) = (before, None);
    while stored < total {
        let codes = links.take(options.scans.min(total - stored))?;
        anyhow::ensure!(!codes.is_empty(), "fewer codes than were issued");
        stored += codes.len();
        let requests = post(&address, &codes);
        last =
            Some(runtime.block_on(load::run(&address, options.connections, requests, genuine))?);
        say(&format!("{stored} scans are stored"));
    }
    let last = last.as_ref().unwrap_or(first);
    let stored_s = (begun.elapsed() + first.elapsed).as_secs_f64();
    let member = network.members.first_mut().context("a member")?;
    let rss_stored_mb = rss_mb(member.pid().context("a node that runs")?)?;
    say("killing the node and starting it again");
    member.kill()?;
    let disk_mb = folder_bytes(&member.dir.scans())? / 1024.0 / 1024.0;
    let started = Instant::now();
    member.start()?;
    member.wait_up()?;
    let restart_s = started.elapsed().as_secs_f64();
    let p99 = |outcome: &Outcome| percentile_ms(&outcome.times, 0.99);
    Ok(Stored {
        stored,
        stored_per_s: precise(stored - WARM_UP) / stored_s,
        first_p99_ms: p99(first),
        last_p99_ms: p99(last),
        last_over_first: p99(last) / p99(first),
        last_per_s: precise(last.times.len()) / last.elapsed.as_secs_f64(),
        restart_s,
        disk_mb,
        rss_stored_mb,
    })
}

/// What the files of a folder hold, in bytes.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn folder_bytes(dir: &Path) -> Result<f64> {
    let mut sum = 0.0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            entry.metadata()?.len() as f64
        };
    }
    Ok(sum)
}

/// Registers a product, issues codes for it and releases them; their links, in the order of the printer's file.
fn issue(network: &Network, root: &Path, count: usize) -> Result<Links> {
    let node = network.brand();
    node.call(
        "product_add",
        &json!({"gtin": GTIN, "description": "Green tea, 100 g", "brand": "Bench"}),
    )?;
    let out = root.join("codes.csv");
    let made = node.call(
        "codes_issue",
        &json!({"gtin": GTIN, "lot": "BENCH", "count": count, "out": out}),
    )?;
    node.call("batch_activate", &json!({"batch": made["batch"]}))?;
    Ok(Links(csv::Reader::from_path(&out)?.into_records()))
}

/// The server that does nothing, as a process; ended when dropped.
struct Empty(Child);

impl Drop for Empty {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn empty(
    runtime: &Runtime,
    connections: usize,
    warm_up: &Arc<Vec<Vec<u8>>>,
    measured: &Arc<Vec<Vec<u8>>>,
) -> Result<Outcome> {
    let mut server = Empty(
        Command::new(std::env::current_exe()?)
            .args(["bench", "empty-handler"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the server that does nothing")?,
    );
    let mut address = String::new();
    BufReader::new(server.0.stdout.take().context("its output")?).read_line(&mut address)?;
    let address = address.trim();
    runtime.block_on(load::run(address, connections, warm_up.clone(), ""))?;
    runtime.block_on(load::run(address, connections, measured.clone(), ""))
}
