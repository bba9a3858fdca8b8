//! Lists whose buckets are matched by processes of their own, over a PostgreSQL that the test starts: exact whoever is killed, and no
//! bucket counted twice.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tally_contracts::ids::AgreementId;
use tally_contracts::records::{Computation, Noise, Suite};
use tally_psi::buckets::Rule;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::kit::*;
use crate::database::cluster::{Cluster, PASSWORD};
use crate::matching::*;
use crate::sealed::StorageKey;
use crate::workers::{
    Database, NodeWorkers, Queue, SharedStore, Worker, WorkerOptions, WorkersError,
};

const WORKER: &str = "TALLY_TEST_WORKER";
/// How long a node waits for workers that say nothing, in tests where they have to do it all; and where it shall do it itself.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_secs(4);
/// How long a test may wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn database(url: &str, key: u8) -> Database {
    Database {
        url: url.to_owned(),
        password: Some(Zeroizing::new(PASSWORD.to_owned())),
        key: StorageKey::from_bytes([key; 32]),
    }
}

/// Not a test of its own: a worker, as a process that the tests below start and kill.
#[test]
fn worker_process() {
    let Ok(told) = std::env::var(WORKER) else {
        return;
    };
    let [url, key, store, name, lease_ms, spill] = told.split('|').collect::<Vec<_>>()[..] else {
        panic!("expected six things, found {told}");
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = database(url, key.parse().unwrap());
    let finished = runtime.block_on(async {
        let worker = Worker::new(WorkerOptions {
            queue: Queue::new(&database).unwrap(),
            store: SharedStore::open(store).unwrap(),
            key: database.key,
            name: name.to_owned(),
            lease: Duration::from_millis(lease_ms.parse().unwrap()),
            look_every: Duration::from_millis(20),
            spill: spill.into(),
            rows_in_memory: 1000,
        });
        worker.run(&CancellationToken::new()).await
    });
    if let Err(WorkersError::Key { .. }) = finished {
        std::process::exit(9);
    }
    panic!("a worker ended by itself");
}

/// Processes of this test; killed, by their handles, when it ends.
struct Workers {
    url: String,
    store: String,
    lease_ms: u64,
    spill: PathBuf,
    running: Vec<(String, Child)>,
    started: usize,
}

impl Workers {
    fn start(&mut self, key: u8) -> String {
        let name = format!("worker {}", self.started);
        self.started += 1;
        let told = [
            &self.url,
            &key.to_string(),
            &self.store,
            &name,
            &self.lease_ms.to_string(),
            &self.spill.display().to_string(),
        ];
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "matching::tests::workers::worker_process",
                "--exact",
                "--nocapture",
            ])
            .env(WORKER, told.map(String::as_str).join("|"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.running.push((name.clone(), child));
        name
    }

    /// SIGKILL.
    fn kill(&mut self, name: &str) {
        let at = self.running.iter().position(|(n, _)| n == name).unwrap();
        let (_, mut child) = self.running.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, name: &str, signal: Signal) {
        let (_, child) = self.running.iter().find(|(n, _)| n == name).unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A network of two, with workers at some of them.
struct Field {
    net: Arc<Net>,
    agreement: AgreementId,
    cluster: Cluster,
    workers: Vec<Workers>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

const COUNTS: [u32; 2] = [30_000, 40_000];
const COMMON: u32 = 10_000;
const RULE: Rule = Rule {
    single: 100,
    mean: 2_500,
};
const BUCKETS: u32 = 32;
const KEY: u8 = 40;

impl Field {
    /// `None` if there is no PostgreSQL.
    async fn new(
        suite: Suite,
        with_workers: [bool; 2],
        lease_ms: u64,
        patience: Duration,
    ) -> Option<Self> {
        Self::of(suite, with_workers, lease_ms, patience, COUNTS, RULE).await
    }

    async fn of(
        suite: Suite,
        with_workers: [bool; 2],
        lease_ms: u64,
        patience: Duration,
        [a, b]: [u32; 2],
        bucket_rule: Rule,
    ) -> Option<Self> {
        let cluster = Cluster::start().await?;
        let net = Net::new();
        let options = DeskOptions {
            bucket_rule,
            deadlines: crate::psi_wire::Deadlines {
                idle: Duration::from_secs(20),
                total: Duration::from_secs(1_200),
                ..quick().deadlines
            },
            rows_in_memory: 1_000,
            ..quick()
        };
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let mut workers = Vec::new();
        for i in [0, 1] {
            net.start(i, options);
            if !with_workers[i] {
                continue;
            }
            let name = NAMES[i];
            cluster.create(name).await;
            let shared = dir.path().join(name);
            std::fs::create_dir(&shared).unwrap();
            let (url, store) = (cluster.url(name), format!("file://{}", shared.display()));
            let database = database(&url, KEY);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let desk = net.desk(i).unwrap();
            desk.use_workers(NodeWorkers {
                queue: Queue::new(&database).unwrap(),
                store: SharedStore::open(&store).unwrap(),
                key: database.key,
                address: listener.local_addr().unwrap().to_string(),
                patience,
            });
            let (served, stopped) = (desk.clone(), stop.clone());
            tokio::spawn(async move { served.serve_workers(listener, stopped).await });
            workers.push(Workers {
                url,
                store,
                lease_ms,
                spill: dir.path().to_owned(),
                running: Vec::new(),
                started: 0,
            });
        }
        net.audience(0, "buyers", 0..a).await;
        let from = a - a / 3;
        net.audience(1, "viewers", from..from + b).await;
        let mut terms = net.terms(&[Computation::List], Noise::None);
        terms.suite = suite;
        terms.max_set_size = 1 << 24;
        let agreement = net.agree(terms);
        Some(Self {
            net,
            agreement,
            cluster,
            workers,
            stop,
            _dir: dir,
        })
    }

    fn ask(&self) -> tokio::task::JoinHandle<Result<MatchView, MatchError>> {
        let (net, agreement) = (self.net.clone(), self.agreement);
        tokio::spawn(async move { net.ask(agreement, Computation::List).await })
    }

    /// What the queue of a member says: bucket, attempt and worker of each row, ascending.
    async fn rows(&self, i: usize) -> Vec<(i32, i32, Option<String>)> {
        let Ok(client) = self.cluster.client(NAMES[i]).await else {
            return Vec::new();
        };
        let sql = "SELECT bucket, attempt, worker FROM tally_psi_buckets WHERE lease_until > now() ORDER BY bucket";
        let rows = client.query(sql, &[]).await.unwrap_or_default();
        rows.iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect()
    }

    /// Waits until a worker holds a bucket; which.
    async fn holds(&self, i: usize, worker: &str) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let held = self.rows(i).await;
            let held = held.iter().find(|(.., w)| w.as_deref() == Some(worker));
            if let Some((bucket, ..)) = held {
                return Some(*bucket);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// The list is that of a plain join, was released once, and every bucket was counted once.
    async fn whole(&self, view: &MatchView) {
        let (net, id) = (&self.net, &view.id);
        let rows = u64::from(COMMON);
        assert_eq!(view.answer, Some(Answer::Listed { rows }));
        let desk = net.desk(0).unwrap();
        let text =
            |id: &tally_measure::Identifier| String::from_utf8(id.as_bytes().to_vec()).unwrap();
        let mut found: Vec<_> = desk.matched(id).unwrap().iter().map(text).collect();
        found.sort();
        let [a, _] = COUNTS;
        let mut expected: Vec<_> = (a - COMMON..a)
            .map(|n| format!("+8613{:09}", 7_919 * n))
            .collect();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(net.agreement_matches(&self.agreement), 1);
        for i in [0, 1] {
            let desk = net.desk(i).unwrap();
            let past = desk.0.journal(*id).past().unwrap().unwrap();
            assert_eq!(past.done(), BUCKETS);
            let marks: std::collections::HashSet<_> = past.marks().iter().map(|(_, m)| m).collect();
            assert_eq!(marks.len(), past.begun());
        }
        assert_eq!(
            desk.0.journal(*id).past().unwrap().unwrap().rows(),
            rows,
            "a bucket was counted twice"
        );
    }
}

/// Nothing of a list stays in the queue or the store.
async fn forgotten(field: &Field, i: usize) {
    let until = Instant::now() + PATIENCE;
    let store = field.workers[0].store.strip_prefix("file://").unwrap();
    loop {
        let client = field.cluster.client(NAMES[i]).await.unwrap();
        let left = client.query("SELECT 1 FROM tally_psi_buckets", &[]).await;
        let files = files_in(Path::new(store));
        if left.unwrap().is_empty() && files.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{files:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.extend(files_in(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_one_side_match_a_list_and_each_of_them_may_be_killed_while_it_holds_a_bucket() {
    let Some(mut field) = Field::new(Suite::VoleRr22MaliciousV1, [true, false], 20_000, LONG).await
    else {
        return;
    };
    let names: Vec<_> = (0..4).map(|_| field.workers[0].start(KEY)).collect();
    let asked = field.ask();
    for name in &names {
        let held = field.holds(0, name).await;
        assert!(held.is_some(), "{name} never held a bucket");
        field.workers[0].kill(name);
        field.workers[0].start(KEY);
    }
    let view = asked.await.unwrap().unwrap();
    field.whole(&view).await;
    let past = field.net.desk(0).unwrap().0.journal(view.id).past();
    let begun = past.unwrap().unwrap().begun();
    println!("{begun} attempts at {BUCKETS} buckets, four workers killed");
    forgotten(&field, 0).await;
    field.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_may_have_workers_and_lose_some_under_every_suite() {
    for suite in [Suite::DhRistrettoV1, Suite::VoleRr22V1] {
        let Some(mut field) = Field::new(suite, [true, true], 20_000, LONG).await else {
            return;
        };
        let names: Vec<_> = [0, 1, 0, 1]
            .map(|i| (i, field.workers[i].start(KEY)))
            .into();
        let asked = field.ask();
        // One of each side.
        for (i, name) in &names[..2] {
            assert!(field.holds(*i, name).await.is_some(), "{name}");
            field.workers[*i].kill(name);
            field.workers[*i].start(KEY);
        }
        let view = asked.await.unwrap().unwrap();
        field.whole(&view).await;
        field.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stands_still_loses_its_lease_and_counts_no_more_when_it_wakes() {
    let Some(mut field) = Field::new(Suite::VoleRr22V1, [true, false], 2_000, LONG).await else {
        return;
    };
    let sleeper = field.workers[0].start(KEY);
    let asked = field.ask();
    // Stopped while it holds one; between two it goes on for a moment.
    let bucket = loop {
        assert!(field.holds(0, &sleeper).await.is_some());
        field.workers[0].signal(&sleeper, Signal::STOP);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let rows = field.rows(0).await;
        let held = rows.iter().find(|(.., w)| w.as_deref() == Some(&*sleeper));
        if let Some((bucket, ..)) = held {
            break *bucket;
        }
        field.workers[0].signal(&sleeper, Signal::CONT);
    };
    let other = field.workers[0].start(KEY);
    // It keeps its lease for a while; then the other takes the bucket, as a later attempt.
    let until = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < until, "nobody took the bucket over");
        let rows = field.rows(0).await;
        let over = |(b, attempt, worker): &(i32, i32, Option<String>)| {
            *b == bucket && *attempt > 1 && worker.as_deref() == Some(&*other)
        };
        if rows.iter().any(over) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    field.workers[0].signal(&sleeper, Signal::CONT);
    let view = asked.await.unwrap().unwrap();
    field.whole(&view).await;
    field.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_workers_the_node_does_it_and_a_wrong_key_is_refused() {
    let Some(mut field) = Field::new(Suite::VoleRr22V1, [true, false], 20_000, SHORT).await else {
        return;
    };
    // The node made the tables under its key.
    let node = field.net.desk(0).unwrap();
    node.0.workers.get().unwrap().queue.check().await.unwrap();
    field.workers[0].start(KEY + 1);
    let (_, mut wrong) = field.workers[0].running.pop().unwrap();
    let until = Instant::now() + PATIENCE;
    let code = loop {
        if let Some(status) = wrong.try_wait().unwrap() {
            break status.code();
        }
        assert!(Instant::now() < until, "a worker with another key goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(code, Some(9));
    // One that dies for good after its first bucket: the node does the rest.
    let only = field.workers[0].start(KEY);
    let asked = field.ask();
    assert!(field.holds(0, &only).await.is_some());
    field.workers[0].kill(&only);
    let view = asked.await.unwrap().unwrap();
    field.whole(&view).await;
    field.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_held_by_one_until_its_lease_ends() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    cluster.create("queue").await;
    let queue = || Queue::new(&database(&cluster.url("queue"), KEY)).unwrap();
    let (node, one, two) = (queue(), queue(), queue());
    let list = [7; 16];
    let jobs: Vec<_> = (0..40_u32).map(|b| (b, b.to_be_bytes())).collect();
    let jobs: Vec<_> = jobs.iter().map(|(b, j)| (*b, j.as_slice())).collect();
    node.put(&list, &jobs).await.unwrap();
    // Two take at the same time: every bucket once.
    let long = Duration::from_secs(60);
    let take_all = async |queue: &Queue, name: &str| {
        let mut taken = Vec::new();
        while let Some(next) = queue.take(name, long).await.unwrap() {
            assert_eq!(next.job.as_slice(), next.lease.bucket.to_be_bytes());
            taken.push(next.lease);
        }
        taken
    };
    let (a, b) = tokio::join!(take_all(&one, "one"), take_all(&two, "two"));
    let mut buckets: Vec<_> = a.iter().chain(&b).map(|l| l.bucket).collect();
    buckets.sort_unstable();
    assert_eq!(buckets, (0..40).collect::<Vec<_>>());
    assert!(!a.is_empty() && !b.is_empty());
    // Let go, it is taken as a later attempt, and the earlier holds it no more.
    let lease = a[0];
    assert!(one.hold(&lease, Duration::ZERO).await.unwrap());
    let again = two.take("two", long).await.unwrap().unwrap().lease;
    assert_eq!((again.bucket, again.attempt), (lease.bucket, 2));
    assert!(!one.hold(&lease, long).await.unwrap());
    assert!(two.hold(&again, long).await.unwrap());
    // Another key is refused, and a row that was changed.
    let wrong = Queue::new(&database(&cluster.url("queue"), KEY + 1)).unwrap();
    assert!(matches!(wrong.check().await, Err(WorkersError::Key { .. })));
    let client = cluster.client("queue").await.unwrap();
    client
        .batch_execute("UPDATE tally_psi_buckets SET bucket = bucket + 100, lease_until = NULL WHERE bucket = 3")
        .await
        .unwrap();
    let moved = one.take("one", long).await;
    assert!(matches!(moved, Err(WorkersError::Key { .. })));
    // The database learns no job.
    for row in client
        .query("SELECT job FROM tally_psi_buckets", &[])
        .await
        .unwrap()
    {
        assert!(row.get::<_, &[u8]>(0).len() > 40);
    }
    node.remove(&list, Some(5)).await.unwrap();
    node.remove(&list, None).await.unwrap();
    let left = client
        .query("SELECT 1 FROM tally_psi_buckets", &[])
        .await
        .unwrap();
    assert!(left.is_empty());
}

/// CPU of this process's ended children, user and system.
fn children_cpu() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let of = |t: nix::sys::time::TimeVal| {
        Duration::from_secs(t.tv_sec().cast_unsigned())
            + Duration::from_micros(t.tv_usec().cast_unsigned())
    };
    of(usage.user_time()) + of(usage.system_time())
}

/// `TALLY_WORKERS_N` items a side, 2^22 without, in four buckets: what one and what four workers of each side cost in all.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn cpu_of_one_worker_and_of_four() {
    let n = std::env::var("TALLY_WORKERS_N").map_or(1 << 22, |n| n.parse().unwrap());
    let rule = Rule {
        single: u64::from(n / 2),
        mean: u64::from(n / 4),
    };
    for workers in [1, 4, 1, 4] {
        let suite = Suite::VoleRr22V1;
        let field = Field::of(suite, [true, true], 60_000, LONG, [n, n], rule).await;
        let Some(mut field) = field else {
            return;
        };
        for i in [0, 1] {
            for _ in 0..workers {
                field.workers[i].start(KEY);
            }
        }
        // Idle workers cost as well; from here on all is counted, to their end.
        let (before, start) = (children_cpu(), Instant::now());
        let view = field.ask().await.unwrap().unwrap();
        let wall = start.elapsed();
        let rows = u64::from(n / 3);
        assert_eq!(view.answer, Some(Answer::Listed { rows }));
        field.workers.clear();
        let cpu = children_cpu() - before;
        println!(
            "{n} items a side, {workers} workers a side: {:.2} s CPU of all workers, {:.2} s from request to answer",
            cpu.as_secs_f64(),
            wall.as_secs_f64()
        );
        field.stop.cancel();
    }
}
