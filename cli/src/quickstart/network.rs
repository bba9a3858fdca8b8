//! Founds a network of four members on this machine, by the steps of a real founding, and runs their nodes as processes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::OsRng;
use rand::{Rng as _, RngCore};
use serde_json::{Value, json};
use tally_contracts::genesis::{NetworkKind, Roles, Rules};
use tally_node::ceremony;
use tally_node::config::{AutoAccept, Config, DataDir};
use tally_node::keys::KeyStore;
use tally_node::passphrase::Passphrase;

use crate::admin_client::AdminClient;

/// The members, with what they do.
pub(crate) const MEMBERS: [(&str, Roles); 4] = [
    ("brand", Roles::BRAND),
    ("platform", Roles::PLATFORM),
    ("media", Roles::MEDIA),
    ("auditor", Roles::AUDITOR),
];
/// How long a node may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long an operation over the admin socket may take.
const CALL_LIMIT: Duration = Duration::from_secs(120);
/// Work factor of key files under a generated passphrase of 256 bits, which needs no stretching.
const WORK_FACTOR: u8 = 12;

/// One member's node.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) config: PathBuf,
    pub(crate) dir: DataDir,
    pub(crate) http: String,
    child: Option<Child>,
}

/// The four of them.
pub(crate) struct Network {
    pub(crate) members: Vec<Member>,
    pub(crate) id: String,
}

impl Member {
    /// Starts the node's process.
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = self.dir.root().join("node.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        let exe = std::env::current_exe().context("the path of this program")?;
        let child = Command::new(exe)
            .args(["up", "--until-stdin-closes", "--config"])
            .arg(&self.config)
            // Held open by this process: whatever ends it ends its nodes.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start a node")?;
        self.child = Some(child);
        Ok(())
    }

    /// The process, if it was started.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The passphrase of its keys, which were made a moment ago.
    pub(crate) fn passphrase(&self) -> Result<Passphrase> {
        Ok(Passphrase::from_file(&self.dir.root().join("passphrase"))?)
    }

    /// Ends the process with SIGKILL: nothing is flushed, nothing said.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("kill a node")?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks the process to end, and kills it if it does not.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if let Ok(pid) = i32::try_from(child.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Carries out an operation over the node's admin socket.
    pub(crate) fn call(&self, op: &str, args: &Value) -> Result<Value> {
        let mut client = AdminClient::connect(self.dir.root(), &self.config, CALL_LIMIT)?;
        client
            .call(op, args, &mut |_| {})
            .with_context(|| format!("{op} at {}", self.name))
    }

    /// Waits until the node answers.
    pub(crate) fn wait_up(&mut self) -> Result<Value> {
        self.wait_up_within(START_LIMIT)
    }

    /// As [`Self::wait_up`], for as long as `limit`.
    pub(crate) fn wait_up_within(&mut self, limit: Duration) -> Result<Value> {
        let until = Instant::now() + limit;
        loop {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                let log = fs::read_to_string(self.dir.root().join("node.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(8).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!(
                    "the node of {} ended with {status}:\n{}",
                    self.name,
                    tail.join("\n")
                );
            }
            match self.call("status", &json!({})) {
                Ok(status) => return Ok(status),
                Err(e) if Instant::now() > until => {
                    return Err(e.context("the node does not answer"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(30)),
            }
        }
    }

    /// Height of the node's ledger.
    pub(crate) fn height(&self) -> Result<u64> {
        self.call("head", &json!({}))?["height"]
            .as_u64()
            .context("a head without a height")
    }

    /// State root after a height.
    pub(crate) fn state_root(&self, height: u64) -> Result<String> {
        let head = self.call("head", &json!({"at_height": height}))?;
        Ok(head["state_root"]
            .as_str()
            .context("a head without a state root")?
            .to_owned())
    }

    /// Waits until the node has committed `height`.
    pub(crate) fn wait_height(&self, height: u64, limit: Duration) -> Result<bool> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if self.height().is_ok_and(|h| h >= height) {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(false)
    }
}

impl Network {
    /// `init` for each, exchange of cards, genesis drawn up, signed by each, joined by each.
    pub(crate) fn found(root: &Path) -> Result<Self> {
        Self::found_of("quickstart", root, &MEMBERS)
    }

    /// As [`Self::found`], of these members.
    pub(crate) fn found_of(
        network: &str,
        root: &Path,
        founders: &[(&'static str, Roles)],
    ) -> Result<Self> {
        let ports = free_ports(3 * founders.len())?;
        let mut members = Vec::new();
        let mut cards = Vec::new();
        for (i, (name, roles)) in founders.iter().copied().enumerate() {
            let [consensus, swarm, http] = [ports[3 * i], ports[3 * i + 1], ports[3 * i + 2]];
            let mut config = Config::new(name, roles);
            config.node.passphrase_file = "passphrase".into();
            config.consensus.listen = format!("/ip4/127.0.0.1/tcp/{consensus}");
            config.swarm.listen = format!("/ip4/127.0.0.1/tcp/{swarm}");
            config.http.listen = format!("127.0.0.1:{http}");
            config.http.base_url = format!("http://127.0.0.1:{http}");
            config.matches.auto_accept = AutoAccept::Agreed;
            let mut secret = [0_u8; 32];
            OsRng.fill_bytes(&mut secret);
            let text = hex::encode(secret);
            let passphrase = Passphrase::new(text.clone()).context("passphrase")?;
            let made = ceremony::init(
                &root.join(name),
                &config,
                &passphrase,
                WORK_FACTOR,
                &mut OsRng,
            )?;
            let file = made.dir.root().join("passphrase");
            tally_node::files::write_atomic(&file, text.as_bytes(), 0o600)?;
            cards.push(made.card);
            members.push(Member {
                name,
                config: made.dir.config_file(),
                dir: made.dir,
                http: config.http.base_url,
                child: None,
            });
        }
        let rules = Rules {
            heartbeat_ms: 2_000,
            ..Rules::default()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let drawn = ceremony::draw_up(
            network,
            NetworkKind::Test,
            u64::try_from(now)?,
            rules,
            &cards,
            &mut OsRng,
        )?;
        // Each founder signs a copy of its own, as it would on its own machine.
        let mut signed = Vec::new();
        for (member, card) in members.iter().zip(&cards) {
            let passphrase = member.passphrase()?;
            let admin = KeyStore::new(member.dir.keys()).open_admin(&passphrase)?;
            let mut copy = drawn.clone();
            ceremony::sign(&mut copy, card, &admin, Some(drawn.network_id()))?;
            signed.push(copy);
        }
        let genesis = ceremony::merge(signed)?;
        for member in &members {
            ceremony::join(&member.dir, &genesis, Some(drawn.network_id()))?;
        }
        Ok(Self {
            members,
            id: drawn.network_id().to_string(),
        })
    }

    /// Starts every node and waits until each answers.
    pub(crate) fn start(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.start()?;
        }
        for member in &mut self.members {
            member.wait_up()?;
        }
        Ok(())
    }

    pub(crate) fn brand(&self) -> &Member {
        &self.members[0]
    }

    pub(crate) fn platform(&mut self) -> &mut Member {
        &mut self.members[1]
    }

    pub(crate) fn media(&self) -> &Member {
        &self.members[2]
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.stop();
        }
    }
}

/// Ports that were free a moment ago, all different, outside the range that the system gives to outgoing connections: there one of the network's
/// own nodes might take it before it is listened on.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let mut ports = BTreeSet::new();
    for _ in 0..1_000 {
        if ports.len() == count {
            break;
        }
        let port = rand::thread_rng().gen_range(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.insert(port);
        }
    }
    ensure!(ports.len() == count, "no {count} free ports");
    Ok(ports.into_iter().collect())
}
