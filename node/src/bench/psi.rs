//! `tally bench psi`: two processes match two CSV files over the product's own Noise stream, and the answer is held against a
//! plain join.
//!
//! The parent ([`run`]) starts itself twice with a hidden command, which has to call [`psi_party`]. Each party is a swarm host
//! on loopback with a fresh key, knows the other alone, reads its CSV file, runs the product's driver and reports its own
//! `getrusage` as its last act. Not measured: ledger, signatures and agreement, which cost milliseconds a match.

use std::ffi::OsString;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::resource::{UsageWho, getrusage};
use rand::rngs::{OsRng, StdRng};
use rand::seq::SliceRandom as _;
use rand::{RngCore as _, SeedableRng as _};
use rayon::slice::ParallelSliceMut as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tally_psi::buckets::Rule;
use tally_psi::messages::Role;
use tally_psi::{
    Computation, Context, Noise, Outcome, Params, Party, PeerCount, Progress, Report, Seeds,
    Statement, Suite, session_id,
};
use tally_swarm::{Host, HostConfig, Limits, Peer, TransportSeed};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::column::{read_column, write_matches};
use super::psi_buckets::{self, Bits, Own};
use crate::psi_wire::{self, Deadlines, Desk};

/// The stream's protocol.
const PROTOCOL: &str = "/tally/bench/psi/1";
/// The column of generated files.
const COLUMN: &str = "phone";

/// Why a bench gave no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or a pipe failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A CSV file cannot be used.
    #[error("{}: {reason}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An engine that this version does not have.
    #[error("no engine {found}, expected dh, vole, or vole with malicious")]
    Engine {
        /// What was asked for.
        found: String,
    },
    /// A computation that the engine does not have.
    #[error("the engine {engine} computes list alone, not {computation}")]
    Computation {
        /// The engine.
        engine: String,
        /// What was asked for.
        computation: &'static str,
    },
    /// A party failed.
    #[error("party {role} failed: {reason}")]
    Party {
        /// `a` or `b`.
        role: &'static str,
        /// Its last words.
        reason: String,
    },
    /// The swarm failed.
    #[error(transparent)]
    Swarm(#[from] tally_swarm::Error),
    /// The match failed.
    #[error(transparent)]
    Match(#[from] psi_wire::Error),
    /// The items were refused.
    #[error(transparent)]
    Items(#[from] tally_psi::Error),
    /// Parent and party do not understand each other.
    #[error("party and parent disagree: {0}")]
    Pipe(String),
}

/// Where the sets come from.
#[derive(Debug, Clone)]
pub enum Input {
    /// Two generated files of this many phone numbers each, half of them common, in random order.
    Generated(u64),
    /// Two CSV files with a column `phone` or `id`, or with one column; values are taken as they are, without normalisation. A file
    /// that begins with 64 hexadecimal characters alone has no header line, and its matches get none.
    Files(PathBuf, PathBuf),
}

/// How to start a party: this program and the arguments of the hidden command that calls [`psi_party`].
#[derive(Debug, Clone)]
pub struct PartyCommand {
    /// The program, usually the running one.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Additional environment.
    pub env: Vec<(String, String)>,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// `dh` or `vole`.
    pub engine: String,
    /// Whether `vole` checks that the peer follows the protocol.
    pub malicious: bool,
    /// `list` or `cardinality`, the latter without noise so that it can be checked.
    pub computation: Computation,
    /// The sets.
    pub input: Input,
    /// When a list is cut into buckets.
    pub rule: Rule,
    /// Where the matches of a `list` go, as CSV; a temporary file where nobody asks for them.
    pub out: Option<PathBuf>,
    /// How to start a party.
    pub party: PartyCommand,
}

/// The figures. Sums are over both parties; `bytes_per_item` and `cpu_us_per_item` are by `n`, the larger set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// `dh` or `vole`.
    pub engine: String,
    /// The suite that ran.
    pub suite: &'static str,
    /// Items of the larger set, without repeats.
    pub n: u64,
    /// From the start of the parties to both exits, CSV reading and writing included.
    pub wall_s: f64,
    /// Party A (initiator), user and system time.
    pub cpu_a_s: f64,
    /// Party B (responder), user and system time.
    pub cpu_b_s: f64,
    /// Both parties.
    pub cpu_us_per_item: f64,
    /// Largest resident set of A.
    pub rss_a_mb: f64,
    /// Largest resident set of B.
    pub rss_b_mb: f64,
    /// Bytes both ways at the TCP socket, Noise and multiplexer included.
    pub bytes_per_item: f64,
    /// Common items found.
    pub matches: u64,
    /// Whether they are those of a plain join: by every matched value for `list`, by their number for `cardinality`.
    pub correct: bool,
    /// The arithmetic that ran, as both parties say.
    pub backend: String,
    /// The processor, as the system names it.
    pub hardware: String,
    /// Processors that this process may use.
    pub cores: usize,
}

/// What a party is told first.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    initiator: bool,
    suite: u8,
    computation: u8,
    file: PathBuf,
    out: PathBuf,
    spill: PathBuf,
    /// Of the rule on buckets.
    single: u64,
    mean: u64,
}

/// A party's address, to the parent and from it to the other.
#[derive(Debug, Serialize, Deserialize)]
struct Contact {
    key: String,
    addr: String,
}

/// What a party says last.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    cpu_s: f64,
    rss_mb: f64,
    bytes: u64,
    items: u64,
    matches: u64,
    backend: String,
}

/// Runs one bench.
///
/// # Errors
/// Any of [`Error`]; a wrong answer is none, it stands in [`Figures::correct`].
pub async fn run(options: &Options) -> Result<Figures, Error> {
    let suite = suite(&options.engine, options.malicious)?;
    if suite.is_vole() && options.computation != Computation::List {
        return Err(Error::Computation {
            engine: options.engine.clone(),
            computation: options.computation.name(),
        });
    }
    let scratch = Scratch::new()?;
    let (file_a, file_b) = match &options.input {
        Input::Files(a, b) => (a.clone(), b.clone()),
        Input::Generated(n) => generate(&scratch.0, *n)?,
    };
    let expected = plain_join(&file_a, &file_b)?;
    let out = options.out.clone();
    let out = out.unwrap_or_else(|| scratch.0.join("matches.csv"));
    let task = |initiator, file| Task {
        initiator,
        suite: suite.number(),
        computation: options.computation.number(),
        file,
        out: out.clone(),
        spill: scratch.0.clone(),
        single: options.rule.single,
        mean: options.rule.mean,
    };
    let started = Instant::now();
    let mut a = Started::new(&options.party, &task(true, file_a.clone())).await?;
    let mut b = Started::new(&options.party, &task(false, file_b.clone())).await?;
    a.introduce(&mut b).await?;
    let (a, b) = tokio::join!(a.finish(), b.finish());
    let wall_s = started.elapsed().as_secs_f64();
    let (a, b) = match (a, b) {
        (Ok(a), Ok(b)) => (a, b),
        // The one that did not merely lose its peer says more, but which that is cannot be known: show both.
        (Err(Error::Party { role, reason }), Err(Error::Party { reason: other, .. })) => {
            return Err(Error::Party {
                role,
                reason: format!("{reason}; party b: {other}"),
            });
        }
        (Err(e), _) | (_, Err(e)) => return Err(e),
    };
    let n = a.items.max(b.items);
    let per_item = |total: f64| if n == 0 { 0.0 } else { total / precise(n) };
    let correct = a.matches == expected.len() as u64
        && match options.computation {
            Computation::List => {
                let mut lines = 0;
                let mut wrong = 0;
                read_column(&out, |value| {
                    lines += 1;
                    wrong += u64::from(expected.binary_search(&hash(value)).is_err());
                    Ok(ControlFlow::Continue(()))
                })?;
                lines == a.matches && wrong == 0
            }
            _ => b.matches == a.matches,
        };
    Ok(Figures {
        engine: options.engine.clone(),
        suite: suite.name(),
        n,
        wall_s,
        cpu_a_s: a.cpu_s,
        cpu_b_s: b.cpu_s,
        cpu_us_per_item: per_item((a.cpu_s + b.cpu_s) * 1e6),
        rss_a_mb: a.rss_mb,
        rss_b_mb: b.rss_mb,
        bytes_per_item: per_item(precise(a.bytes)),
        matches: a.matches,
        correct,
        backend: if a.backend == b.backend {
            a.backend
        } else {
            format!("{} and {}", a.backend, b.backend)
        },
        hardware: processor(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}

/// The suite of an engine, checked against a deviating peer or not.
///
/// # Errors
/// [`Error::Engine`].
pub fn suite(engine: &str, malicious: bool) -> Result<Suite, Error> {
    match (engine, malicious) {
        ("dh", false) => Ok(Suite::DhRistrettoV1),
        ("vole", false) => Ok(Suite::VoleRr22V1),
        ("vole", true) => Ok(Suite::VoleRr22MaliciousV1),
        (found, _) => Err(Error::Engine {
            found: found.to_owned(),
        }),
    }
}

/// Largest resident set of this program. What `getrusage` tells instead (in kilobytes) begins with that of the process that
/// started it.
fn peak_rss_mb() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kilobytes) / 1024.0)
}

/// The processor's model, where the system tells.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "))
        .map_or_else(
            || std::env::consts::ARCH.to_owned(),
            |(_, model)| model.trim().to_owned(),
        )
}

/// The hidden command: one party, told what to do by lines of JSON on its standard input, answering on its standard output.
///
/// # Errors
/// Any of [`Error`]; the caller prints it on standard error and exits with a code other than 0.
pub async fn psi_party() -> Result<(), Error> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut line = async || {
        lines
            .next_line()
            .await
            .map_err(io("reading standard input"))?
            .ok_or_else(|| Error::Pipe("no more input".into()))
    };
    let task: Task = parse(&line().await?)?;
    let mut seed = Zeroizing::new([0; 32]);
    OsRng.fill_bytes(seed.as_mut());
    let limits = Limits {
        stream_idle_timeout: Duration::from_secs(120),
        ..Limits::default()
    };
    let host = Host::start(HostConfig {
        secret: TransportSeed::new(seed),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        limits,
    })
    .await?;
    let mut streams = host.accept_streams(PROTOCOL)?;
    say(&Contact {
        key: hex::encode(host.key()),
        addr: host.listen_addrs().first().cloned().unwrap_or_default(),
    })?;
    let peer: Contact = parse(&line().await?)?;
    let key = hex::decode(&peer.key)
        .ok()
        .and_then(|k| <[u8; 32]>::try_from(k).ok())
        .ok_or_else(|| Error::Pipe("peer key".into()))?;
    host.set_peers(vec![Peer {
        key,
        addr: peer.addr,
        label: "peer".into(),
    }])?;
    let computation = Computation::from_number(task.computation)?;
    let own = Own::read(&task.file, task.single, computation, &task.spill)?;
    host.wait_connected(&key, Duration::from_secs(60)).await?;
    let stream = if task.initiator {
        host.open_stream(&key, PROTOCOL).await?
    } else {
        let next = tokio::time::timeout(Duration::from_secs(600), streams.recv()).await;
        let (_, stream) = next
            .ok()
            .flatten()
            .ok_or_else(|| Error::Pipe("no stream came".into()))?;
        stream
    };
    let items = own.count();
    let (report, found) = match_over(stream, &task, own, (host.key(), key)).await?;
    let matches = match &report.outcome {
        Outcome::Matched { rows } => {
            let mut rows = rows.iter().peekable();
            let is_match = |row| rows.next_if_eq(&&row).is_some();
            write_matches(&task.file, is_match, &task.out)?
        }
        Outcome::Listed { .. } => write_matches(&task.file, |row| found.has(row), &task.out)?,
        Outcome::Published { value } => u64::try_from(*value).unwrap_or(0),
        Outcome::Served | Outcome::Sums { .. } => 0,
    };
    let traffic = host.traffic();
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(|e| Error::Io {
        what: "getrusage".into(),
        source: e.into(),
    })?;
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1_000_000.0;
    say(&Measured {
        cpu_s: seconds(usage.user_time()) + seconds(usage.system_time()),
        rss_mb: peak_rss_mb().unwrap_or(usage.max_rss() as f64 / 1024.0),
        bytes: traffic.bytes_in + traffic.bytes_out,
        items,
        matches,
        backend: match Suite::from_number(task.suite)? {
            suite if suite.is_vole() => tally_psi::kernels().to_owned(),
            _ => tally_psi::backend().to_owned(),
        },
    })
}

/// Exchanges nonces, binds a context to them and runs the machine.
async fn match_over(
    mut stream: tally_swarm::PeerStream,
    task: &Task,
    set: Own,
    (own, peer): ([u8; 32], [u8; 32]),
) -> Result<(Report, Bits), Error> {
    let mut nonces = [[0; 32]; 2];
    OsRng.fill_bytes(&mut nonces[0]);
    // A nonce and a count, as two nodes have exchanged them before a match.
    let sent = [&nonces[0][..], &set.count().to_be_bytes()].concat();
    stream
        .write_all(&sent)
        .await
        .map_err(io("sending a nonce"))?;
    stream.flush().await.map_err(io("sending a nonce"))?;
    stream
        .read_exact(&mut nonces[1])
        .await
        .map_err(io("reading a nonce"))?;
    let peer_count = stream.read_u64().await.map_err(io("reading a count"))?;
    let mut parties = [own, peer].map(|node| Party {
        member: [0; 16],
        node,
    });
    if !task.initiator {
        nonces.reverse();
        parties.reverse();
    }
    let params = Params {
        context: Context {
            network: [0; 32],
            suite: Suite::from_number(task.suite)?,
            computation: Computation::from_number(task.computation)?,
            session: session_id(&nonces[0], &nonces[1]),
            initiator: parties[0],
            responder: parties[1],
            agreement: [0; 32],
            initiator_root: [0; 32],
            responder_root: [0; 32],
        },
        noise: Noise::NoneInTestNetwork,
        peer: PeerCount::Exactly(peer_count),
    };
    let seeds = Seeds::new(&mut OsRng, [0; 32]);
    let role = if task.initiator {
        Role::Initiator
    } else {
        Role::Responder
    };
    let found = Bits::default();
    let rule = Rule {
        single: task.single,
        mean: task.mean,
    };
    let machine = psi_buckets::machine(psi_buckets::Setting {
        role,
        params,
        set,
        seeds,
        rule,
        file: &task.file,
        spill: &task.spill,
        found: found.clone(),
    })?;
    let cancel = CancellationToken::new();
    let deadlines = Deadlines {
        total: Duration::from_secs(24 * 3600),
        ..Deadlines::default()
    };
    let report = psi_wire::run(stream, machine, &mut Open, deadlines, &cancel).await?;
    Ok((report, found))
}

/// A desk that signs nothing and releases everything: a bench has no ledger.
struct Open;

#[async_trait]
impl Desk for Open {
    async fn seal(&mut self, _: &Statement) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }

    async fn check_seal(&mut self, _: &Statement, seal: &[u8]) -> Result<(), String> {
        if seal.is_empty() {
            Ok(())
        } else {
            Err("a bench has no seals".into())
        }
    }

    async fn release(&mut self, _: &Statement) -> Result<(), String> {
        Ok(())
    }

    fn progress(&mut self, _: Progress) {}
}

/// A running party.
struct Started {
    role: &'static str,
    child: Child,
    input: ChildStdin,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Started {
    async fn new(party: &PartyCommand, task: &Task) -> Result<Self, Error> {
        let role = if task.initiator { "a" } else { "b" };
        let mut child = Command::new(&party.program)
            .args(&party.args)
            .envs(party.env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(io("starting a party"))?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Pipe("no pipes".into()));
        };
        let sent = input.write_all(to_line(task)?.as_bytes()).await;
        sent.map_err(io("telling a party its task"))?;
        Ok(Self {
            role,
            child,
            input,
            lines: BufReader::new(output).lines(),
        })
    }

    /// The next line of JSON, whatever else the program prints.
    async fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T, Error> {
        loop {
            match self.lines.next_line().await {
                Ok(Some(line)) if line.starts_with('{') => return parse(&line),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(self.last_words().await),
            }
        }
    }

    async fn last_words(&mut self) -> Error {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What it managed to say is enough.
            let _ = stderr.read_to_string(&mut text).await;
        }
        Error::Party {
            role: self.role,
            reason: text
                .lines()
                .last()
                .unwrap_or("it ended without a word")
                .into(),
        }
    }

    /// Tells each the other's contact.
    async fn introduce(&mut self, other: &mut Self) -> Result<(), Error> {
        let (mine, theirs): (Contact, Contact) = (self.next().await?, other.next().await?);
        for (party, contact) in [(self, theirs), (other, mine)] {
            let line = to_line(&contact)?;
            let sent = party.input.write_all(line.as_bytes()).await;
            sent.map_err(io("telling a party its peer"))?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Measured, Error> {
        let measured = self.next().await?;
        let status = self.child.wait().await.map_err(io("waiting for a party"))?;
        if status.success() {
            Ok(measured)
        } else {
            Err(self.last_words().await)
        }
    }
}

/// A folder for generated files and spills, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("tally-bench-{:016x}", OsRng.next_u64()));
        std::fs::create_dir(&path).map_err(io("making a temporary folder"))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left behind in the system's temporary one is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two files of `n` made-up phone numbers, `n / 2` of them common.
fn generate(dir: &Path, n: u64) -> Result<(PathBuf, PathBuf), Error> {
    let mut rng = StdRng::from_entropy();
    let mut write = |name: &str, from: u64| {
        let mut numbers: Vec<u32> = (0..u32::try_from(n).unwrap_or(u32::MAX)).collect();
        numbers.shuffle(&mut rng);
        let path = dir.join(name);
        let put = || {
            let mut out = std::io::BufWriter::new(std::fs::File::create(&path)?);
            writeln!(out, "{COLUMN}")?;
            // An odd multiplier permutes the ten-digit tail's low bits: the ranges are not dense.
            for i in numbers {
                let i = from + u64::from(i);
                writeln!(
                    out,
                    "+861{:010}",
                    i.wrapping_mul(6_180_339) % 10_000_000_000
                )?;
            }
            out.flush()
        };
        put().map_err(io("writing generated sets"))?;
        Ok::<_, Error>(path)
    };
    Ok((write("a.csv", 0)?, write("b.csv", n - n / 2)?))
}

/// A value's hash: half of SHA-256, so that 16 bytes a row are enough to hold a plain join of a hundred million in memory. That two
/// values of such a bench share one has odds below 2^-70.
fn hash(value: &[u8]) -> u128 {
    let digest: [u8; 32] = Sha256::digest(value).into();
    u128::from_be_bytes(*digest.first_chunk().unwrap_or(&[0; 16]))
}

/// The hashes of every value that is in both files, ascending.
fn plain_join(a: &Path, b: &Path) -> Result<Vec<u128>, Error> {
    let set = |path| {
        let mut set = Vec::new();
        read_column(path, |value| {
            set.push(hash(value));
            Ok(ControlFlow::Continue(()))
        })?;
        set.par_sort_unstable();
        set.dedup();
        Ok::<_, Error>(set)
    };
    let (mut both, theirs) = (set(a)?, set(b)?);
    both.retain(|value| theirs.binary_search(value).is_ok());
    Ok(both)
}

#[allow(clippy::cast_precision_loss)]
const fn precise(n: u64) -> f64 {
    n as f64
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}

fn to_line(value: &impl Serialize) -> Result<String, Error> {
    let mut line = serde_json::to_string(value).map_err(|e| Error::Pipe(e.to_string()))?;
    line.push('\n');
    Ok(line)
}

fn parse<T: for<'de> Deserialize<'de>>(line: &str) -> Result<T, Error> {
    serde_json::from_str(line).map_err(|e| Error::Pipe(e.to_string()))
}

fn say(value: &impl Serialize) -> Result<(), Error> {
    let line = to_line(value)?;
    // On a line of its own, whatever the program printed before.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}").as_bytes())
        .and_then(|()| out.flush())
        .map_err(io("writing standard output"))
}

#[cfg(test)]
mod tests;
