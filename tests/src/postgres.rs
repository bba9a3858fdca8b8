//! A PostgreSQL of its own for a test: from Debian's package, in a temporary folder, over a Unix socket.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::until;

/// The password of the user `tally`.
pub const PASSWORD: &str = "a password that must stand nowhere";
/// Who it runs as if the test runs as root, for whom it does not start.
const NOBODY: u32 = 65_534;
const START_LIMIT: Duration = Duration::from_secs(60);

/// A server; killed when dropped.
pub struct Postgres {
    programs: PathBuf,
    dir: tempfile::TempDir,
    server: Option<Child>,
}

/// The folder of PostgreSQL's programs: Debian's packages lay them aside of the PATH.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().join("bin"))
        .filter(|p| p.join("initdb").is_file())
        .collect();
    versions.sort();
    versions.pop()
}

impl Postgres {
    /// Starts one; `None` if PostgreSQL is not installed. It may not answer questions yet.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start() -> Result<Option<Self>> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        // Another user must get into it, so it is not below a private folder.
        let dir = tempfile::Builder::new().prefix("tally-pg-").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        for name in ["data", "socket"] {
            let path = dir.path().join(name);
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            if rustix::process::geteuid().is_root() {
                chown(&path, Some(NOBODY), Some(NOBODY))?;
            }
        }
        let password = dir.path().join("password");
        fs::write(&password, PASSWORD)?;
        let mut postgres = Self {
            programs,
            dir,
            server: None,
        };
        let made = postgres
            .program("initdb")
            .args(["-U", "tally", "-A", "scram-sha-256"])
            .args(["--no-sync", "-E", "UTF8", "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(postgres.dir.path().join("data"))
            .stderr(Stdio::piped())
            .output()?;
        ensure!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        postgres.wait_up()?;
        Ok(Some(postgres))
    }

    /// The URL of the database that is there from the start, without the password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// What the statement gives, as `psql` prints it without headers, trimmed.
    ///
    /// # Errors
    /// If it fails.
    pub fn query(&self, sql: &str) -> Result<String> {
        let out = Command::new(self.programs.join("psql"))
            .env("PGPASSWORD", PASSWORD)
            .args([
                "-X", "-A", "-t", "-w", "-U", "tally", "-d", "postgres", "-h",
            ])
            .arg(self.dir.path().join("socket"))
            .args(["-c", sql])
            .output()?;
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        ensure!(out.status.success(), "psql: {}", text(&out.stderr));
        Ok(text(&out.stdout))
    }

    /// The URL of one of its databases, without the password.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let socket = self.dir.path().join("socket").display().to_string();
        format!("postgres://tally@{}/{database}", socket.replace('/', "%2F"))
    }

    /// Starts the server if it does not run, and waits until its socket is open.
    ///
    /// # Errors
    /// If it does not start.
    pub fn wait_up(&mut self) -> Result<()> {
        let socket = self.dir.path().join("socket/.s.PGSQL.5432");
        until("PostgreSQL to be up", START_LIMIT, || {
            let ended = match &mut self.server {
                Some(server) => server.try_wait()?.is_some(),
                None => true,
            };
            // Processes of one that was killed may hold its memory for a moment: then it refuses, and is started again.
            if ended {
                self.server = Some(
                    self.program("postgres")
                        .arg("-D")
                        .arg(self.dir.path().join("data"))
                        .arg("-k")
                        .arg(self.dir.path().join("socket"))
                        .args(["-c", "listen_addresses=", "-c", "shared_buffers=32MB"])
                        .spawn()?,
                );
            }
            UnixStream::connect(&socket).map(drop).context("connect")
        })
    }

    /// SIGKILL for the server and for every process it made.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let children = children(server.id());
        let _ = server.kill();
        let _ = server.wait();
        for child in children {
            if let Some(pid) = Pid::from_raw(child) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The processes whose parent is this one.
fn children(parent: u32) -> Vec<i32> {
    let mut out = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let of_parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1))
            .is_some_and(|p| p == parent.to_string());
        if of_parent && let Some(Ok(pid)) = entry.file_name().to_str().map(str::parse) {
            out.push(pid);
        }
    }
    out
}
