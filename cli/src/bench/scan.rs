//! `tally bench scan`: durable scans over HTTP at a node that is a process of its own, and the same load on a server that does
//! nothing, in the same run.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;
use tally_contracts::genesis::Roles;
use tally_node::bench::kit::{cores, hardware, percentile_ms, used};
use tokio::runtime::Runtime;

use super::load::{self, Outcome};
use super::processes::{cpu_s, rss_mb};
use crate::quickstart::network::Network;

const GTIN: &str = "09521234543213";
/// Scans before those that are measured: connections, caches, threads.
const WARM_UP: usize = 2_000;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Scans, each of a code of its own.
    pub(crate) scans: usize,
    /// Connections.
    pub(crate) connections: usize,
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
    /// CPU of the node for each scan.
    node_cpu_us_per_scan: f64,
    /// CPU of the load generator for each scan, on the same cores.
    client_cpu_us_per_scan: f64,
    rss_mb: f64,
    hardware: String,
    cores: usize,
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
    network.start()?;
    say("issuing codes");
    let codes = issue(&network, scratch.path(), options.scans + WARM_UP)?;
    let node = network.brand();
    let address = node
        .http
        .strip_prefix("http://")
        .context("an http:// address")?;
    let requests = |codes: &[String]| -> Arc<Vec<Vec<u8>>> {
        let body = |code: &String| json!({"code": code}).to_string();
        Arc::new(
            codes
                .iter()
                .enumerate()
                .map(|(i, code)| {
                    load::post("/v1/scans", address, &format!("{i}-{code}"), &body(code))
                })
                .collect(),
        )
    };
    let (warm_up, measured) = codes.split_at(WARM_UP);
    let (warm_up, measured) = (requests(warm_up), requests(measured));
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
    let rss_mb = rss_mb(pid)?;
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
        node_cpu_us_per_scan: node_cpu * 1e6 / n,
        client_cpu_us_per_scan: own_cpu * 1e6 / n,
        rss_mb,
        hardware: hardware(),
        cores: cores(),
    })
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn precise(n: usize) -> f64 {
    n as f64
}

/// Registers a product, issues codes for it and releases them; their links, in the order of the printer's file.
fn issue(network: &Network, root: &Path, count: usize) -> Result<Vec<String>> {
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
    csv::Reader::from_path(&out)?
        .records()
        .map(|row| Ok(row?.get(0).context("a row without a link")?.to_owned()))
        .collect()
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
