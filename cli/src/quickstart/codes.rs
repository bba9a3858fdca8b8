//! Batches of unit codes, and scans of them whose verdicts are known beforehand.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::network::Network;
use super::scans::{Client, Tally};

/// Codes to sell.
const SOLD: u64 = 10_000;
/// Codes of the batch that is recalled, and of the one that is never activated.
const OTHERS: u64 = 50;
/// Different codes that are scanned once.
const SCANS: usize = 300;

/// Pause between two scans of the flow: a shop's till, not a load test.
const PAUSE: Duration = Duration::from_millis(5);

/// The codes of the three batches.
pub(crate) struct Batches {
    pub(crate) issued: u64,
    active: Vec<String>,
    recalled: Vec<String>,
    held: Vec<String>,
}

impl Batches {
    /// A code that is on sale.
    pub(crate) fn sold(&self) -> Result<&str> {
        Ok(self.active.last().context("no codes")?)
    }

    /// A code of the batch that is recalled.
    pub(crate) fn withdrawn(&self) -> Result<&str> {
        Ok(self.recalled.last().context("no codes")?)
    }
}

/// Issues three batches at the brand's node.
pub(crate) fn issue(network: &Network, root: &Path, gtin: &str) -> Result<Batches> {
    let brand = network.brand();
    let make = |lot: &str, count: u64| -> Result<(String, Vec<String>)> {
        let out = root.join(format!("codes-{lot}.csv"));
        let made = brand.call(
            "codes_issue",
            &json!({"gtin": gtin, "lot": lot, "count": count, "out": out}),
        )?;
        let mut rows = csv::Reader::from_path(&out)?;
        let urls: Vec<String> = rows
            .records()
            .map(|row| Ok(row?.get(0).context("a row without a link")?.to_owned()))
            .collect::<Result<_>>()?;
        anyhow::ensure!(
            urls.len() as u64 == count,
            "{} rows for {count} codes",
            urls.len()
        );
        Ok((
            made["batch"]
                .as_str()
                .context("an answer without a batch")?
                .to_owned(),
            urls,
        ))
    };
    let (batch, active) = make("SPRING", SOLD)?;
    brand.call("batch_activate", &json!({"batch": batch}))?;
    let (batch, recalled) = make("SUMMER", OTHERS)?;
    brand.call("batch_activate", &json!({"batch": batch}))?;
    brand.call(
        "batch_recall",
        &json!({"batch": batch, "reason": "a wrong label"}),
    )?;
    let (_, held) = make("AUTUMN", OTHERS)?;
    Ok(Batches {
        issued: SOLD + 2 * OTHERS,
        active,
        recalled,
        held,
    })
}

/// Scans codes of each batch; a copied code is one that is scanned again and again.
pub(crate) async fn scan(network: &Network, batches: &Batches, tally: &mut Tally) -> Result<()> {
    let mut brand = Client::connect(&network.brand().http).await?;
    let mut media = Client::connect(&network.media().http).await?;
    for (i, code) in batches.active.iter().take(SCANS).enumerate() {
        let client = if i % 4 == 0 { &mut media } else { &mut brand };
        tally.add(&client.scan(code).await?, "genuine_first");
    }
    let copied = batches.active.first().context("no codes")?;
    for _ in 0..5 {
        tally.add(&brand.scan(copied).await?, "genuine_repeat");
    }
    for code in batches.recalled.iter().take(5) {
        tally.add(&brand.scan(code).await?, "recalled");
    }
    for code in batches.held.iter().take(5) {
        tally.add(&media.scan(code).await?, "not_released");
    }
    Ok(())
}

/// Scans of real codes that nobody has scanned yet, one after the other at two nodes in turn, until it is stopped.
pub(crate) struct Flow {
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Tally>>,
}

impl Flow {
    /// Begins to scan.
    pub(crate) fn start(runtime: &Runtime, batches: &Batches, addresses: [String; 2]) -> Self {
        let codes: Vec<String> = batches.active.iter().skip(SCANS).cloned().collect();
        let (acknowledged, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, stopped) = (acknowledged.clone(), stop.clone());
        let task = runtime.spawn(async move {
            let [first, second] = addresses;
            let mut clients = [
                Client::connect(&first).await?,
                Client::connect(&second).await?,
            ];
            let mut tally = Tally::default();
            for (i, code) in codes.iter().enumerate() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let verdict = clients[i % 2].scan(code).await?;
                tally.add(&verdict, "genuine_first");
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            Ok(tally)
        });
        Self {
            acknowledged,
            stop,
            task,
        }
    }

    /// Scans acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends the flow and gives what it counted.
    pub(crate) async fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}
