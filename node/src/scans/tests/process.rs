//! Gateways as processes of their own, to be killed.
//!
//! The test binary runs itself again as such a process ([`gateway_process`]): it opens the log in a folder, takes a scan for each line that it is
//! given, and tells each answer in a line once it is durable.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::*;

const DIR: &str = "TALLY_TEST_GATEWAY_DIR";
/// The shared index, if there is one.
pub(super) const URL: &str = "TALLY_TEST_GATEWAY_URL";
pub(super) const LOG_ID: &str = "TALLY_TEST_GATEWAY_LOG";

/// Not a test: the process. Does nothing when it is run as one.
#[test]
#[ignore = "runs as a process of other tests"]
fn gateway_process() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let mut config = ScanLogConfig::new(&dir, 0);
    config.max_rows = 60;
    if let Ok(url) = std::env::var(URL) {
        config.log_id = std::env::var(LOG_ID).expect("log").parse().expect("log");
        config.shared = Some(Arc::new(postgres::shared(&url)));
    }
    let node = node_with(BRAND, &config);
    runtime.spawn(run_retries(
        Arc::clone(&node.service),
        quick(),
        CancellationToken::new(),
    ));
    println!("\nready {}", node.service.log().size());
    for line in std::io::stdin().lines() {
        let line = line.expect("line");
        let service = Arc::clone(&node.service);
        runtime.spawn(async move {
            let (serial, key) = line.split_once(' ').expect("serial and key");
            let said = match service.scan(request(serial, Some(key))).await {
                Ok(outcome) => format!(
                    "ack {key} {serial} {} {} {} {}",
                    outcome.scan.record.verdict.name(),
                    outcome.scan.record.count,
                    outcome.scan.index,
                    outcome.scan.record.id
                ),
                Err(error) => format!("err {key} {serial} {error}"),
            };
            println!("{said}");
        });
    }
}

/// A process with a log; killed when dropped.
pub(super) struct Gateway {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Scans in its log when it was ready.
    pub(super) size: u64,
}

impl Gateway {
    pub(super) fn start(dir: &Path, env: &[(&str, String)]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "scans::tests::process::gateway_process"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .envs(env.iter().map(|(k, v)| (*k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        let output = BufReader::new(child.stdout.take().expect("output"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut gateway = Self {
            input: child.stdin.take(),
            child,
            lines,
            size: 0,
        };
        let ready = gateway.wait_for("ready ").expect("ready");
        gateway.size = ready["ready ".len()..].parse().expect("size");
        gateway
    }

    fn wait_for(&self, prefix: &str) -> Option<String> {
        let end = Instant::now() + Duration::from_secs(30);
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if line.starts_with(prefix) {
                return Some(line);
            }
        }
        None
    }

    /// Hands a scan in; `false` if the process is gone.
    pub(super) fn scan(&mut self, serial: &str, key: &str) -> bool {
        let line = format!("{serial} {key}\n");
        self.input
            .as_mut()
            .is_some_and(|i| i.write_all(line.as_bytes()).is_ok())
    }

    /// The next answer.
    pub(super) fn next(&self, wait: Duration) -> Option<Answer> {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let Some(answer) = Answer::parse(&self.lines.recv_timeout(left).ok()?) {
                return Some(answer);
            }
        }
    }

    /// SIGKILL; what it had said before is given.
    pub(super) fn kill(mut self) -> Vec<Answer> {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
        let mut out = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            out.extend(Answer::parse(&line));
        }
        out
    }

    /// Ends it as an operator would.
    pub(super) fn stop(mut self) -> Vec<Answer> {
        drop(self.input.take());
        let mut out = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(20)) {
            out.extend(Answer::parse(&line));
        }
        let _ = self.child.wait();
        out
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a gateway said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Ack {
        key: String,
        serial: String,
        verdict: String,
        count: u64,
        index: u64,
        id: String,
    },
    Refused {
        key: String,
        serial: String,
    },
}

impl Answer {
    fn parse(line: &str) -> Option<Self> {
        let parts: Vec<&str> = line.split(' ').collect();
        match parts.as_slice() {
            ["ack", key, serial, verdict, count, index, id] => Some(Self::Ack {
                key: (*key).into(),
                serial: (*serial).into(),
                verdict: (*verdict).into(),
                count: count.parse().ok()?,
                index: index.parse().ok()?,
                id: (*id).into(),
            }),
            ["err", key, serial, ..] => Some(Self::Refused {
                key: (*key).into(),
                serial: (*serial).into(),
            }),
            _ => None,
        }
    }
}

#[test]
fn killed_twenty_times_it_has_lost_nothing_that_it_acknowledged() {
    let dir = dir();
    let mut said: Vec<Answer> = Vec::new();
    for round in 0..20_u64 {
        let mut gateway = Gateway::start(dir.path(), &[]);
        assert!(gateway.size >= said.len() as u64);
        // What was said before is said again for the same keys.
        for before in said.iter().rev().take(20) {
            let Answer::Ack { key, serial, .. } = before else {
                continue;
            };
            gateway.scan(serial, key);
            assert_eq!(gateway.next(Duration::from_secs(10)).as_ref(), Some(before));
        }
        let scans = 40 + round * 7 % 90;
        for n in 0..200_u64 {
            gateway.scan(
                &format!("G{}", (n * 13 + round) % 97),
                &format!("{round}-{n}"),
            );
        }
        for _ in 0..scans {
            said.extend(gateway.next(Duration::from_secs(10)));
        }
        said.extend(gateway.kill());
    }
    let mut firsts = std::collections::HashMap::new();
    let mut counts = std::collections::HashSet::new();
    for answer in &said {
        let Answer::Ack {
            serial,
            verdict,
            count,
            ..
        } = answer
        else {
            panic!("{answer:?}");
        };
        assert!(counts.insert((serial.clone(), *count)), "{answer:?} twice");
        if verdict == "genuine_first" {
            assert_eq!(firsts.insert(serial.clone(), ()), None, "{serial}");
        }
    }
    assert!(said.len() > 1_000);
    let gateway = Gateway::start(dir.path(), &[]);
    assert!(gateway.size >= said.len() as u64);
    assert_eq!(gateway.stop(), []);
}
