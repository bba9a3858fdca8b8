//! Whole nodes in one process: founded as real ones are, asked over their admin sockets.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::OsRng;
use serde_json::{Value, json};
use tally_contracts::genesis::{NetworkKind, Roles, Rules};
use tally_node::admin;
use tally_node::ceremony;
use tally_node::config::{AutoAccept, Config, DataDir};
use tally_node::keys::KeyStore;
use tally_node::passphrase::Passphrase;
use tally_node::runtime::{Ended, RunError, run_until};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const PASSPHRASE: &str = "correct horse battery";
const LIMIT: Duration = Duration::from_secs(60);

/// How a node is asked to stop, and what it ends with.
type Running = (oneshot::Sender<()>, JoinHandle<Result<Ended, RunError>>);

/// One node.
pub struct TestNode {
    pub name: &'static str,
    pub dir: DataDir,
    /// Everything that the node answered, progress included.
    pub heard: Arc<Mutex<String>>,
    running: Option<Running>,
}

/// A test network of validators of equal power.
pub struct TestNetwork {
    pub nodes: Vec<TestNode>,
    pub dir: tempfile::TempDir,
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|l| l.local_addr().unwrap().port())
        .collect()
}

impl TestNetwork {
    /// Founds and starts a network. `edit` changes a node's configuration before.
    pub async fn start(
        members: &[(&'static str, Roles)],
        edit: impl Fn(&str, &mut Config),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let passphrase = Passphrase::new(PASSPHRASE.to_owned()).unwrap();
        let ports = free_ports(3 * members.len());
        let (mut dirs, mut cards) = (Vec::new(), Vec::new());
        for ((name, roles), ports) in members.iter().zip(ports.chunks(3)) {
            let mut config = Config::new(name, *roles);
            config.consensus.listen = format!("/ip4/127.0.0.1/tcp/{}", ports[0]);
            config.swarm.listen = format!("/ip4/127.0.0.1/tcp/{}", ports[1]);
            config.http.listen = format!("127.0.0.1:{}", ports[2]);
            config.http.base_url = format!("http://127.0.0.1:{}", ports[2]);
            config.matches.auto_accept = AutoAccept::Agreed;
            edit(name, &mut config);
            let root = dir.path().join(name);
            let made = ceremony::init(&root, &config, &passphrase, 10, &mut OsRng).unwrap();
            dirs.push(made.dir);
            cards.push(made.card);
        }
        let rules = Rules {
            heartbeat_ms: 1_000,
            ..Rules::default()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut genesis = ceremony::draw_up(
            "test",
            NetworkKind::Test,
            u64::try_from(now.as_millis()).unwrap(),
            rules,
            &cards,
            &mut OsRng,
        )
        .unwrap();
        for (dir, card) in dirs.iter().zip(&cards) {
            let admin = KeyStore::new(dir.keys()).open_admin(&passphrase).unwrap();
            ceremony::sign(&mut genesis, card, &admin, None).unwrap();
        }
        let mut nodes = Vec::new();
        for (dir, (name, _)) in dirs.into_iter().zip(members) {
            ceremony::join(&dir, &genesis, None).unwrap();
            nodes.push(TestNode {
                name,
                dir,
                heard: Arc::default(),
                running: None,
            });
        }
        let mut network = Self { nodes, dir };
        for i in 0..members.len() {
            network.run(i);
        }
        for node in &network.nodes {
            node.wait_up().await;
        }
        network
    }

    /// Runs one node.
    pub fn run(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let (stop, stopped) = oneshot::channel();
        let config = node.dir.config_file();
        let task = tokio::spawn(async move {
            let passphrase = Passphrase::new(PASSPHRASE.to_owned()).unwrap();
            let stopped = async {
                let _ = stopped.await;
            };
            run_until(
                &config,
                &passphrase,
                tally_node::runtime::Start::default(),
                stopped,
            )
            .await
        });
        node.running = Some((stop, task));
    }

    /// Stops one node and waits for its end.
    pub async fn stop(&mut self, i: usize) {
        if let Some((stop, task)) = self.nodes[i].running.take() {
            let _ = stop.send(());
            task.await.unwrap().unwrap();
        }
    }

    pub async fn stop_all(&mut self) {
        let mut tasks = Vec::new();
        for node in &mut self.nodes {
            if let Some((stop, task)) = node.running.take() {
                let _ = stop.send(());
                tasks.push(task);
            }
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }

    /// Waits until every node has committed what an answer speaks of.
    pub async fn see(&self, answer: &Value) {
        let height = answer["height"].as_u64().unwrap();
        for node in &self.nodes {
            tokio::time::timeout(LIMIT, async {
                while node.ok("head", json!({})).await["height"].as_u64().unwrap() < height {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await
            .unwrap();
        }
    }
}

impl TestNode {
    async fn wait_up(&self) {
        let wait = async {
            while self.call("status", json!({})).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.unwrap();
    }

    /// An operation over the admin socket: the answer, or the error object.
    pub async fn call(&self, op: &str, args: Value) -> io::Result<Result<Value, Value>> {
        let mut stream = UnixStream::connect(self.dir.root().join(admin::SOCKET)).await?;
        let line = json!({"op": op, "args": args}).to_string() + "\n";
        stream.write_all(line.as_bytes()).await?;
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = tokio::time::timeout(LIMIT, lines.next_line()).await?? {
            let mut heard = self.heard.lock().unwrap();
            heard.push_str(&line);
            heard.push('\n');
            drop(heard);
            let value: Value = serde_json::from_str(&line)?;
            if let Some(ok) = value.get("ok") {
                return Ok(Ok(ok.clone()));
            }
            if let Some(error) = value.get("error") {
                return Ok(Err(error.clone()));
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// The answer of an operation that succeeds.
    pub async fn ok(&self, op: &str, args: Value) -> Value {
        match self.call(op, args).await.unwrap() {
            Ok(value) => value,
            Err(error) => panic!("{op} at {}: {error}", self.name),
        }
    }

    /// The code and message of an operation that fails.
    pub async fn err(&self, op: &str, args: Value) -> (String, String) {
        match self.call(op, args).await.unwrap() {
            Ok(value) => panic!("{op} at {} succeeded: {value}", self.name),
            Err(error) => (
                error["code"].as_str().unwrap().to_owned(),
                error["message"].as_str().unwrap().to_owned(),
            ),
        }
    }
}

/// Every file below a folder with its bytes.
pub fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            out.push((path, bytes));
        }
    }
    out
}
