//! One member of a network under test, and the process of its node.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{path_text, run_in};
use crate::{Client, tally, until};

/// How long a node may take to end after SIGTERM before it is killed, and the scenario fails.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Cost of a guess at the passphrase of the key files, low: there is nothing to guess here.
const WORK_FACTOR: &str = "10";

/// Where a member's node runs, and how it is reached.
#[derive(Debug, Clone)]
pub struct Place {
    /// Address under which the other members reach it, and on which it listens.
    pub host: String,
    /// First of its ports: consensus, then the member swarm, HTTP eighty above.
    pub port: u16,
    /// Address of its HTTP gateway for the scenario.
    pub http: String,
    /// Command before the node's own that puts it there.
    pub inside: Vec<String>,
}

impl Place {
    /// Three free ports of the loopback.
    ///
    /// # Errors
    /// If none are found.
    pub fn loopback() -> Result<Self> {
        Ok(Self {
            host: "127.0.0.1".into(),
            port: crate::network::free_ports()?,
            http: "127.0.0.1".into(),
            inside: Vec::new(),
        })
    }
}

/// A member: its folder, ports and node. Dropping it kills the node.
pub struct Member {
    client: Client,
    place: Place,
    env: Vec<(String, String)>,
    child: Option<Child>,
}

impl Deref for Member {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Member {
    /// `tally init` in a new folder below `root`, on three free ports of the loopback.
    ///
    /// # Errors
    /// If it fails.
    pub fn init(root: &Path, name: &str, roles: &str, power: u64) -> Result<Self> {
        Self::init_at(root, name, roles, power, Place::loopback()?)
    }

    /// As [`Self::init`], with further arguments.
    ///
    /// # Errors
    /// If it fails.
    pub fn init_with(
        root: &Path,
        name: &str,
        roles: &str,
        power: u64,
        further: &[&str],
    ) -> Result<Self> {
        Self::init_by(root, name, roles, power, Place::loopback()?, further)
    }

    /// `tally init` in a new folder below `root`, for a node at a place.
    ///
    /// # Errors
    /// If it fails.
    pub fn init_at(root: &Path, name: &str, roles: &str, power: u64, place: Place) -> Result<Self> {
        Self::init_by(root, name, roles, power, place, &[])
    }

    fn init_by(
        root: &Path,
        name: &str,
        roles: &str,
        power: u64,
        place: Place,
        further: &[&str],
    ) -> Result<Self> {
        let passphrase = root.join(format!("{name}.passphrase"));
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&passphrase)?;
        file.write_all(b"a passphrase of a test\n")?;
        let dir = root.join(name);
        let (port_text, power) = (place.port.to_string(), power.to_string());
        let (dir_text, passphrase) = (path_text(&dir)?, path_text(&passphrase)?);
        let mut args = vec![
            "init",
            "--name",
            name,
            "--role",
            roles,
            "--dir",
            &dir_text,
            "--host",
            &place.host,
            "--listen",
            &place.host,
            "--port",
            &port_text,
            "--power",
            &power,
            "--passphrase-file",
            &passphrase,
            "--work-factor",
            WORK_FACTOR,
            "--auto-accept",
        ];
        args.extend_from_slice(further);
        run_in(root, &args)?
            .ok()
            .with_context(|| format!("init of {name}"))?;
        let client = Client {
            name: name.to_owned(),
            dir,
            http: format!("{}:{}", place.http, place.port + 80),
        };
        let member = Self {
            client,
            place,
            env: Vec::new(),
            child: None,
        };
        if let Ok(level) = std::env::var("TALLY_NODE_LOG") {
            member.configure("log", "level", level.as_str())?;
        }
        if member.place.http != member.place.host {
            let listen = format!("0.0.0.0:{}", member.place.port + 80);
            member.configure("http", "listen", listen)?;
        }
        Ok(member)
    }

    /// The member from outside, for a thread.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Its member card.
    #[must_use]
    pub fn card(&self) -> PathBuf {
        self.dir.join("member-card.toml")
    }

    /// Addresses of its consensus, swarm and HTTP ports.
    #[must_use]
    pub fn addresses(&self) -> [String; 3] {
        let port = self.place.port;
        [port, port + 1, port + 80].map(|port| format!("{}:{port}", self.place.host))
    }

    /// Sets a key of its configuration.
    ///
    /// # Errors
    /// If there is no such section, or the file cannot be written.
    pub fn configure(&self, section: &str, key: &str, value: impl Into<toml::Value>) -> Result<()> {
        let path = self.config();
        let mut table: toml::Table = fs::read_to_string(&path)?.parse()?;
        table
            .get_mut(section)
            .and_then(toml::Value::as_table_mut)
            .with_context(|| format!("[{section}] in {}", path.display()))?
            .insert(key.to_owned(), value.into());
        fs::write(&path, table.to_string())?;
        Ok(())
    }

    /// Starts its node. The process dies with the calling thread, whatever ends that: call it from the scenario's own thread.
    ///
    /// # Errors
    /// If it runs already, or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        // setpriv, of util-linux, becomes the program, as does what puts it elsewhere: the process ID is the node's.
        let mut line: Vec<&str> = self.place.inside.iter().map(String::as_str).collect();
        line.extend(["setpriv", "--pdeathsig", "KILL", "--"]);
        let child = Command::new(line[0])
            .args(&line[1..])
            .arg(tally())
            .args(["up", "--config"])
            .arg(self.config())
            .current_dir(&self.dir)
            .env_remove("TALLY_CONFIG")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start a node with setpriv of util-linux")?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the node answers over its admin socket.
    ///
    /// # Errors
    /// If it does not within `limit`, or has ended.
    pub fn wait_up(&mut self, limit: Duration) -> Result<()> {
        until(&format!("{} to answer", self.name), limit, || {
            self.ok(&["status"]).map(drop)
        })
        .with_context(|| format!("process: {:?}", self.ended()))
    }

    /// Ends the node with SIGKILL.
    ///
    /// # Errors
    /// If it had ended by itself: that is a fault, not a kill.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the node is not running")?;
        if let Some(status) = child.try_wait()? {
            bail!(
                "the node of {} had ended by itself with {status}",
                self.name
            );
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sets a variable of the environment of the node, from its next start on; an empty value removes it.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(have, _)| have != name);
        if !value.is_empty() {
            self.env.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Stops the node where it stands (SIGSTOP), as a machine that hangs.
    ///
    /// # Errors
    /// If it is not running.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused node go on.
    ///
    /// # Errors
    /// If it is not running.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the node is not running")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("a process ID")?, signal)?)
    }

    /// Asks the node to end with SIGTERM, and waits for that.
    ///
    /// # Errors
    /// If it does not end in time, or with an error.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let mut child = self.child.take().context("the node is not running")?;
        let end = Instant::now() + STOP_LIMIT;
        while Instant::now() < end {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "{} stopped with {status}", self.name);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill()?;
        child.wait()?;
        bail!(
            "{} did not stop within {} s",
            self.name,
            STOP_LIMIT.as_secs()
        )
    }

    /// Waits until the node has ended by itself.
    ///
    /// # Errors
    /// If it is not running, or does not end.
    pub fn wait_ended(&mut self) -> Result<ExitStatus> {
        let end = Instant::now() + STOP_LIMIT;
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                self.child = None;
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} did not end", self.name)
    }

    /// How the node ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Whether a process of the node was started and has not been ended by the scenario.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Resident memory of the node, in bytes.
    ///
    /// # Errors
    /// If it is not running.
    pub fn resident(&self) -> Result<u64> {
        let pid = self.child.as_ref().context("the node is not running")?.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"))
            .and_then(|kb| kb.trim().parse::<u64>().ok())
            .map(|kb| kb * 1024)
            .context("no VmRSS")
    }

    /// Where its node writes its log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
