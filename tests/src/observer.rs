//! Someone outside who keeps the network busy, writes down what it was promised, and at the end holds the network to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::{Client, Entry, Network, Scenario, entries, gtin, until};

/// How long nodes may take in the end until they agree and serve all they promised.
const SETTLE: Duration = Duration::from_secs(60);

/// A client's list of what was acknowledged to it: a JSON object a line, in a file of its own.
pub struct Acknowledged {
    file: File,
    path: PathBuf,
}

impl Acknowledged {
    /// An empty list in a folder.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(format!("{name}.acknowledged"));
        let file = File::create(&path)?;
        Ok(Self { file, path })
    }

    /// Writes an acknowledgement down.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&mut self, what: &Value) -> Result<()> {
        self.file.write_all(format!("{what}\n").as_bytes())?;
        Ok(self.file.flush()?)
    }

    /// Reads a list back.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<Vec<Value>> {
        fs::read_to_string(path)?
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What an observer found in the end.
#[derive(Debug, Clone)]
pub struct Report {
    /// Records that were acknowledged to it.
    pub records: usize,
    /// Entries of the ledger.
    pub entries: usize,
    /// Height of the ledger.
    pub height: u64,
    /// Milliseconds from hand-over to acknowledgement, ascending.
    pub latencies_ms: Vec<u64>,
}

impl Report {
    /// Milliseconds that so many of a hundred acknowledgements took at most; 0 without any.
    #[must_use]
    pub fn percentile_ms(&self, percent: usize) -> u64 {
        let last = self.latencies_ms.len().saturating_sub(1);
        let at = last * percent.min(100) / 100;
        self.latencies_ms.get(at).copied().unwrap_or_default()
    }
}

/// Submits at every member, one record after the other, until it is told to stop.
pub struct Observer {
    stop: Arc<AtomicBool>,
    begin: Instant,
    /// For each member, when it last acknowledged a record: milliseconds after `begin`, 0 for never.
    last: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<Result<PathBuf>>>,
    refusals: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Observer {
    /// Begins to submit at every member of a network. Products get numbers from `first` on.
    ///
    /// # Errors
    /// If its files cannot be made.
    pub fn start(scenario: &Scenario, network: &Network, first: u32) -> Result<Self> {
        let everyone: Vec<usize> = (0..network.len()).collect();
        Self::start_at(scenario, network, first, &everyone)
    }

    /// Begins to submit at these members alone.
    ///
    /// # Errors
    /// If its files cannot be made.
    pub fn start_at(
        scenario: &Scenario,
        network: &Network,
        first: u32,
        members: &[usize],
    ) -> Result<Self> {
        let mut observer = Self {
            stop: Arc::default(),
            begin: Instant::now(),
            last: Vec::new(),
            threads: Vec::new(),
            refusals: Arc::default(),
        };
        let next = Arc::new(AtomicU32::new(first));
        for (i, member) in network.iter().enumerate() {
            let last = Arc::new(AtomicU64::new(0));
            observer.last.push(last.clone());
            if !members.contains(&i) {
                continue;
            }
            let name = format!("{}-{first}", member.name);
            let log = Acknowledged::new(scenario.dir(), &name)?;
            let submitter = Submitter {
                client: member.client(),
                stop: observer.stop.clone(),
                next: next.clone(),
                begin: observer.begin,
                last,
                refusals: observer.refusals.clone(),
            };
            observer
                .threads
                .push(thread::spawn(move || submitter.run(log)));
        }
        Ok(observer)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a member has acknowledged anything in the last so many milliseconds.
    #[must_use]
    pub fn heard_within(&self, member: usize, ms: u64) -> bool {
        let last = self.last[member].load(Ordering::Relaxed);
        last > 0 && last + ms >= self.now_ms()
    }

    /// Waits until each of these members has acknowledged a record from now on; gives how long that took.
    ///
    /// # Errors
    /// If one has not within `limit`; names those.
    pub fn progress(&self, members: &[usize], limit: Duration) -> Result<Duration> {
        let (from, start) = (self.now_ms(), Instant::now());
        loop {
            let silent: Vec<usize> = members
                .iter()
                .copied()
                .filter(|m| self.last[*m].load(Ordering::Relaxed) <= from)
                .collect();
            if silent.is_empty() {
                return Ok(start.elapsed());
            }
            ensure!(
                start.elapsed() < limit,
                "members {silent:?} acknowledged nothing within {} s; refusals so far: {:?}",
                limit.as_secs(),
                self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops, and checks the network's one history against everything that was acknowledged. All nodes must be up.
    ///
    /// # Errors
    /// If a promise was broken.
    pub fn finish(self, network: &mut Network) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let mut promises = Vec::new();
        for thread in self.threads {
            let path = thread.join().map_err(|_| anyhow!("a client panicked"))??;
            promises.extend(Acknowledged::read(&path)?);
        }
        for member in network.iter_mut() {
            ensure!(member.ended().is_none(), "{} ended by itself", member.name);
            ensure!(
                !member.log().contains(" panicked at "),
                "{} panicked",
                member.name
            );
        }
        network.wait_ready()?;
        let mut latencies_ms: Vec<u64> = promises.iter().filter_map(|p| p["ms"].as_u64()).collect();
        latencies_ms.sort_unstable();
        let (height, _) = network.agree(SETTLE)?;
        let entries = one_history(network, &promises)?;
        Ok(Report {
            records: promises.len(),
            entries,
            height,
            latencies_ms,
        })
    }
}

struct Submitter {
    client: Client,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU32>,
    begin: Instant,
    last: Arc<AtomicU64>,
    refusals: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Submitter {
    fn run(self, mut log: Acknowledged) -> Result<PathBuf> {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let gtin = gtin(number);
            let handed = Instant::now();
            let args = ["product", "add", "--gtin", &gtin, "--description", "Tea"];
            let outcome = self.client.run(&args)?;
            if outcome.exit == 0 {
                log.note(&json!({
                    "node": self.client.name, "record": outcome.json["record"], "height": outcome.json["height"],
                    "index": outcome.json["index"], "ms": u64::try_from(handed.elapsed().as_millis())?,
                }))?;
                let now = u64::try_from(self.begin.elapsed().as_millis())?;
                self.last.store(now.max(1), Ordering::Relaxed);
            } else {
                // A node that is down, or a record whose fate is unknown: nothing was promised.
                let (_, code, _) = outcome.refusal()?;
                let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
                *refusals.entry(code).or_default() += 1;
                drop(refusals);
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(log.path().to_owned())
    }
}

/// Checks that all nodes serve one history, that every acknowledged record stands in it where it was said to, and that every
/// key's nonces are 0, 1, 2 and so on, each once. Gives the number of entries that all have.
///
/// # Errors
/// If one of that is not so.
pub fn one_history(network: &Network, promises: &[Value]) -> Result<usize> {
    let mut promised: HashMap<String, Option<u64>> = HashMap::new();
    for promise in promises {
        let id = promise["record"]
            .as_str()
            .context("a promise without a record")?;
        promised.insert(id.to_owned(), promise["index"].as_u64());
    }
    let mut first: Option<Vec<Entry>> = None;
    let mut common = usize::MAX;
    for member in network.iter() {
        // A node serves no further than its checkpoint, which the next heartbeat brings up to the last record.
        let what = format!("{} to serve every record", member.name);
        let ledger = until(&what, SETTLE, || {
            let ledger = entries(&member.http)?;
            let found: BTreeSet<String> = ledger
                .iter()
                .flat_map(|e| &e.record)
                .map(|r| r.id().to_string())
                .collect();
            let lost: Vec<_> = promised.keys().filter(|id| !found.contains(*id)).collect();
            ensure!(lost.is_empty(), "{} lost {lost:?}", member.name);
            Ok(ledger)
        })?;
        let mut nonces: HashMap<_, BTreeSet<u64>> = HashMap::new();
        for (index, entry) in ledger.iter().enumerate() {
            let Some(record) = &entry.record else {
                continue;
            };
            for signer in record.signers() {
                let new = nonces.entry(signer.key).or_default().insert(signer.nonce);
                ensure!(
                    new,
                    "nonce {} of {} was used twice",
                    signer.nonce,
                    signer.key
                );
            }
            if let Some(Some(promised)) = promised.get(&record.id().to_string()) {
                ensure!(
                    *promised == index as u64,
                    "{}: record {} was promised at {promised} and stands at {index}",
                    member.name,
                    record.id()
                );
            }
        }
        for (key, used) in &nonces {
            let gapless = used.iter().copied().eq(0..used.len() as u64);
            ensure!(gapless, "nonces of {key} have a gap: {used:?}");
        }
        common = common.min(ledger.len());
        if let Some(first) = &first {
            let length = first.len().min(ledger.len());
            ensure!(
                first[..length] == ledger[..length],
                "{} has another ledger",
                member.name
            );
        } else {
            first = Some(ledger);
        }
    }
    Ok(common)
}
