//! `tally bench ledger`: validators as processes, records of 250 bytes signed by distinct keys, every node verifying all.
//!
//! Records are signed beforehand and handed over in bulk by the admin sockets, each member's at its own node. First as fast as
//! the nodes take them, until every node has committed all; then at a fixed rate, timed from the hand-over until the node says
//! that the record is committed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use serde::Serialize;
use serde_json::{Value, json};
use tally_contracts::envelope::Signer;
use tally_contracts::genesis::Roles;
use tally_contracts::ids::{MemberId, NetworkId, PublicKey};
use tally_contracts::records::{Body, Gtin, RegisterProduct};
use tally_contracts::{Canonical as _, Record, Unsigned};
use tally_node::bench::kit::{cores, hardware, percentile_ms};
use tally_node::keys::KeyStore;

use super::processes::{cpu_s, rss_mb};
use super::stored::{self, Stored};
use crate::admin_client::AdminClient;
use crate::quickstart::network::{Member, Network};

/// Names for as many validators as can be asked for.
const NAMES: [&str; 16] = [
    "v01", "v02", "v03", "v04", "v05", "v06", "v07", "v08", "v09", "v10", "v11", "v12", "v13",
    "v14", "v15", "v16",
];
/// Bytes of a record.
const RECORD_BYTES: usize = 250;
/// Records in one hand-over of the first phase.
const BULK: usize = 500;
/// Time between hand-overs of the second phase.
const TICK: Duration = Duration::from_millis(20);
/// How long a hand-over may take.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How long nodes may take to commit what was taken.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(10);

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Nodes, all of them validators, 1 to 16.
    pub(crate) validators: usize,
    /// Records of the first phase.
    pub(crate) records: usize,
    /// Records a second of the second phase.
    pub(crate) rate: usize,
    /// Length of the second phase, in seconds.
    pub(crate) seconds: usize,
    /// Records in the ledger before the node is started; for one validator.
    pub(crate) stored: Option<usize>,
    /// Where the nodes' data goes; the system's folder for temporary files if not given.
    pub(crate) dir: Option<PathBuf>,
}

/// The figures.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    validators: usize,
    /// Records of the first phase.
    records: usize,
    record_bytes: usize,
    /// Of the first phase, until every node has committed all of them.
    records_per_s: f64,
    /// CPU of all nodes together in the first phase, for each record.
    cpu_us_per_record: f64,
    /// CPU of this process in the first phase, which shares the cores.
    client_cpu_s: f64,
    /// Blocks of the first phase.
    blocks: u64,
    /// Records a second in the second phase.
    finality_rate: usize,
    finality_p50_ms: f64,
    finality_p99_ms: f64,
    finality_max_ms: f64,
    /// Of the largest node.
    rss_mb: f64,
    /// Over a ledger that was filled before.
    #[serde(flatten)]
    stored: Option<Stored>,
    /// Of such a one: from SIGKILL and start to the first answer, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_s: Option<f64>,
    /// And all files of the node then, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_bytes: Option<u64>,
    /// All nodes, asked at one height.
    state_roots_equal: bool,
    hardware: String,
    cores: usize,
}

/// One member's records, ready to be handed over.
struct Stock {
    data_dir: PathBuf,
    config: PathBuf,
    /// First those of the first phase.
    records: Vec<String>,
    ids: Vec<String>,
}

/// Runs both phases; `say` hears what is being done.
pub(crate) fn run(options: &Options, say: &dyn Fn(&str)) -> Result<Figures> {
    let mut scratch = tempfile::Builder::new();
    scratch.prefix("tally-bench-");
    let scratch = match &options.dir {
        Some(dir) => scratch.tempdir_in(dir)?,
        None => scratch.tempdir()?,
    };
    let founders: Vec<_> = NAMES
        .iter()
        .take(options.validators)
        .map(|name| (*name, Roles::BRAND))
        .collect();
    say("founding the network and starting its nodes");
    let mut network = Network::found_of("bench", scratch.path(), &founders)?;
    let stored = match options.stored {
        None => {
            network.start()?;
            None
        }
        Some(count) => {
            let filled = stored::fill(&network, count, say)?;
            Some(stored::ask(&mut network, &filled, say)?)
        }
    };

    let n = options.validators;
    let first: Vec<usize> = shares(options.records, n);
    let second: Vec<usize> = shares(options.rate * options.seconds, n);
    say("signing records");
    let nonce = options.stored.unwrap_or_default() as u64;
    let stocks = sign_all(&network, nonce, &first, &second)?;

    say("first phase: as fast as the nodes take them");
    let before = nodes_cpu(&network)?;
    let own = tally_node::bench::kit::used().cpu_s;
    let height = network.members[0].height()?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let handed: Vec<_> = stocks
            .iter()
            .zip(&first)
            .map(|(stock, count)| scope.spawn(move || stock.hand_over(0, *count)))
            .collect();
        handed.into_iter().try_for_each(|h| {
            h.join()
                .map_err(|_| anyhow::anyhow!("a submitter failed"))?
        })
    })?;
    for (stock, count) in stocks.iter().zip(&first) {
        let last = stock
            .ids
            .get(count.saturating_sub(1))
            .context("no record")?;
        for member in &network.members {
            wait_committed(member, last)?;
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let cpu = nodes_cpu(&network)? - before;
    let client_cpu_s = tally_node::bench::kit::used().cpu_s - own;
    let blocks = network.members[0].height()? - height;

    say("second phase: at a fixed rate");
    let mut times = at_rate(&stocks, &first, &second, options)?;
    times.sort_unstable();

    let common = network
        .members
        .iter()
        .map(Member::height)
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .min()
        .context("no node")?;
    let roots: Vec<String> = network
        .members
        .iter()
        .map(|m| m.state_root(common))
        .collect::<Result<_>>()?;
    let mut largest = 0.0_f64;
    for member in &network.members {
        largest = largest.max(rss_mb(member.pid().context("a node that runs")?)?);
    }
    let (mut restart_s, mut disk_bytes) = (None, None);
    if stored.is_some()
        && let Some(member) = network.members.first_mut()
    {
        member.kill()?;
        disk_bytes = Some(stored::disk_bytes(member.dir.root())?);
        restart_s = Some(stored::restart(member)?);
    }
    let records = precise(options.records);
    Ok(Figures {
        validators: n,
        records: options.records,
        record_bytes: RECORD_BYTES,
        records_per_s: records / elapsed,
        cpu_us_per_record: cpu * 1e6 / records,
        client_cpu_s,
        blocks,
        finality_rate: options.rate,
        finality_p50_ms: percentile_ms(&times, 0.5),
        finality_p99_ms: percentile_ms(&times, 0.99),
        finality_max_ms: percentile_ms(&times, 1.0),
        rss_mb: largest,
        stored,
        restart_s,
        disk_bytes,
        state_roots_equal: roots.windows(2).all(|w| w[0] == w[1]),
        hardware: hardware(),
        cores: cores(),
    })
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn precise(n: usize) -> f64 {
    n as f64
}

/// `total` in `n` shares that differ by one at most.
fn shares(total: usize, n: usize) -> Vec<usize> {
    (0..n)
        .map(|i| total / n + usize::from(i < total % n))
        .collect()
}

fn nodes_cpu(network: &Network) -> Result<f64> {
    network
        .members
        .iter()
        .map(|m| cpu_s(m.pid().context("a node that runs")?))
        .sum()
}

fn sign_all(
    network: &Network,
    nonce: u64,
    first: &[usize],
    second: &[usize],
) -> Result<Vec<Stock>> {
    let id: NetworkId = network.id.parse()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let valid_until_ms = u64::try_from(now)? + 3_600_000;
    std::thread::scope(|scope| {
        let signing: Vec<_> = network
            .members
            .iter()
            .zip(first.iter().zip(second))
            .enumerate()
            .map(|(i, (member, (first, second)))| {
                scope.spawn(move || {
                    let signing = Signing::new(member, i, id, valid_until_ms)?;
                    Stock::sign(member, &signing, nonce, first + second)
                })
            })
            .collect();
        signing
            .into_iter()
            .map(|s| {
                s.join()
                    .map_err(|_| anyhow::anyhow!("a signing thread failed"))?
            })
            .collect()
    })
}

/// A member's key, and what else its records need.
pub(super) struct Signing {
    key: SigningKey,
    public: PublicKey,
    owner: MemberId,
    number: u64,
    network: NetworkId,
    valid_until_ms: u64,
}

impl Signing {
    /// For the member of this number.
    pub(super) fn new(
        member: &Member,
        number: usize,
        network: NetworkId,
        valid_until_ms: u64,
    ) -> Result<Self> {
        let keys = KeyStore::new(member.dir.keys()).open_node(&member.passphrase()?)?;
        let key = keys.records();
        let card = tally_node::ceremony::read_card(&member.dir.card_file())?;
        Ok(Self {
            public: PublicKey(key.verifying_key().to_bytes()),
            key,
            owner: card.entry().id,
            number: number as u64,
            network,
            valid_until_ms,
        })
    }

    /// The record of a nonce: a product of its own, in just so many bytes.
    pub(super) fn record(&self, nonce: u64) -> Result<Record> {
        let unsigned = |description: String| -> Result<Unsigned> {
            let body = Body::from(RegisterProduct {
                gtin: gtin(self.number, nonce)?,
                description,
                brand: "Bench".into(),
            });
            let signer = Signer::new(self.owner, &self.public, nonce);
            Ok(Unsigned::new(
                self.network,
                self.valid_until_ms,
                vec![signer],
                &body,
            ))
        };
        // The unsigned part and one signature of 64 bytes.
        let shortest = unsigned("x".into())?.to_bytes().len() + 64;
        let filled = "x".repeat(1 + RECORD_BYTES.saturating_sub(shortest));
        let record = unsigned(filled)?.sign(&[&self.key])?;
        ensure!(
            record.bytes().len() == RECORD_BYTES,
            "a record of {} bytes",
            record.bytes().len()
        );
        Ok(record)
    }
}

impl Stock {
    fn sign(member: &Member, signing: &Signing, first: u64, count: usize) -> Result<Self> {
        let mut records = Vec::with_capacity(count);
        let mut ids = Vec::with_capacity(count);
        for nonce in first..first + count as u64 {
            let record = signing.record(nonce)?;
            records.push(hex::encode(record.bytes()));
            ids.push(record.id().to_string());
        }
        Ok(Self {
            data_dir: member.dir.root().to_owned(),
            config: member.config.clone(),
            records,
            ids,
        })
    }

    fn call(&self, from: usize, to: usize, wait: bool) -> Result<Value> {
        let records = self.records.get(from..to).context("records to hand over")?;
        AdminClient::connect(&self.data_dir, &self.config, CALL_LIMIT)?.call(
            "submit_many",
            &json!({"records_hex": records, "wait": wait}),
            &mut |_| {},
        )
    }

    /// Hands over the records from `at` on, as many as `count`, as fast as the node takes them.
    fn hand_over(&self, at: usize, count: usize) -> Result<()> {
        let (mut next, end) = (at, at + count);
        while next < end {
            let answer = self.call(next, end.min(next + BULK), false)?;
            let taken = answer["taken"]
                .as_u64()
                .context("an answer without a count")?;
            next += usize::try_from(taken)?;
            let failed = &answer["failed"];
            if failed["code"] == "busy" {
                std::thread::sleep(PAUSE);
            } else if !failed.is_null() {
                bail!("a record was refused: {failed}");
            }
        }
        Ok(())
    }
}

/// A GTIN of its own for each record, with its check digit.
fn gtin(member: u64, number: u64) -> Result<Gtin> {
    let digits = format!("{:013}", member * 10_000_000_000 + number);
    let sum: u32 = digits
        .bytes()
        .zip([3, 1].into_iter().cycle())
        .map(|(d, weight)| u32::from(d - b'0') * weight)
        .sum();
    Ok(format!("{digits}{}", (10 - sum % 10) % 10).parse()?)
}

fn wait_committed(member: &Member, record: &str) -> Result<()> {
    let until = Instant::now() + DRAIN_LIMIT;
    while member
        .call("record_show", &json!({"record": record}))
        .is_err()
    {
        ensure!(
            Instant::now() < until,
            "the node of {} did not commit record {record} in {} s",
            member.name,
            DRAIN_LIMIT.as_secs()
        );
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Hands records over in small lots at the rate, and times each from when it was due.
fn at_rate(
    stocks: &[Stock],
    first: &[usize],
    second: &[usize],
    options: &Options,
) -> Result<Vec<Duration>> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let ticks = options.seconds * 1000 / usize::try_from(TICK.as_millis())?;
    let begun = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let mut calls = Vec::new();
        for tick in 0..ticks {
            let due = begun + TICK * u32::try_from(tick)?;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            for (stock, (first, count)) in stocks.iter().zip(first.iter().zip(second)) {
                let (from, to) = (count * tick / ticks, count * (tick + 1) / ticks);
                if from == to {
                    continue;
                }
                let times = Arc::clone(&times);
                calls.push(scope.spawn(move || -> Result<()> {
                    let answer = stock.call(first + from, first + to, true)?;
                    ensure!(answer["failed"].is_null(), "refused: {}", answer["failed"]);
                    let took = due.elapsed();
                    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                    times.extend(std::iter::repeat_n(took, to - from));
                    Ok(())
                }));
            }
        }
        calls.into_iter().try_for_each(|c| {
            c.join()
                .map_err(|_| anyhow::anyhow!("a submitter failed"))?
        })
    })?;
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(times.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_has_a_gtin_of_its_own() {
        let all = [gtin(0, 0), gtin(0, 1), gtin(1, 0), gtin(15, 999_999_999)];
        let all: Vec<String> = all.map(|g| g.unwrap().to_string()).into();
        assert!(all.windows(2).all(|w| w[0] < w[1]), "{all:?}");
    }

    #[test]
    fn shares_add_up() {
        assert_eq!(shares(10, 4), [3, 3, 2, 2]);
        assert_eq!(shares(3, 4), [1, 1, 1, 0]);
    }
}
