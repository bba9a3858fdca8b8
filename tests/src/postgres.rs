//! A PostgreSQL of its own for a scenario: from Debian's package, in the scenario's folder, over a Unix socket.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::until;

/// The password of the user `tally`.
pub const PASSWORD: &str = "a password of a test";
/// Who it runs as if the scenario runs as root, for whom it does not start.
const NOBODY: u32 = 65_534;

/// A server; killed when dropped.
pub struct Postgres {
    programs: PathBuf,
    dir: tempfile::TempDir,
    server: Child,
}

impl Postgres {
    /// Starts one; `None` if PostgreSQL is not installed.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start() -> Result<Option<Self>> {
        let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path().join("bin"))
            .filter(|p| p.join("initdb").is_file())
            .collect();
        versions.sort();
        let Some(programs) = versions.pop() else {
            return Ok(None);
        };
        // Another user must get into it, so it is not below the scenario's private folder.
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
        let made = program(&programs, "initdb", dir.path())
            .args([
                "-U",
                "tally",
                "-A",
                "scram-sha-256",
                "--no-sync",
                "--pwfile",
            ])
            .arg(&password)
            .arg("-D")
            .arg(dir.path().join("data"))
            .status()?;
        ensure!(made.success(), "initdb: {made}");
        let server = serve(&programs, dir.path())?;
        let postgres = Self {
            programs,
            dir,
            server,
        };
        postgres.wait_up()?;
        Ok(Some(postgres))
    }

    /// Its URL, without the password.
    #[must_use]
    pub fn url(&self) -> String {
        let socket = self.dir.path().join("socket").display().to_string();
        format!("postgres://tally@{}/postgres", socket.replace('/', "%2F"))
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

    fn wait_up(&self) -> Result<()> {
        let socket = self.dir.path().join("socket/.s.PGSQL.5432");
        until("PostgreSQL to be up", Duration::from_secs(60), || {
            UnixStream::connect(&socket).map(drop).context("connect")
        })
    }

    /// Ends it with SIGKILL and starts it again.
    ///
    /// # Errors
    /// If it does not start.
    pub fn kill_and_start(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        // Its own processes, which hold its memory, end a moment later: until then it refuses.
        until("PostgreSQL to start again", Duration::from_secs(60), || {
            if !matches!(self.server.try_wait(), Ok(None)) {
                self.server = serve(&self.programs, self.dir.path())?;
            }
            std::thread::sleep(Duration::from_millis(300));
            ensure!(matches!(self.server.try_wait(), Ok(None)), "it ended");
            let socket = self.dir.path().join("socket/.s.PGSQL.5432");
            UnixStream::connect(socket).map(drop).context("connect")
        })
    }
}

fn program(programs: &Path, name: &str, dir: &Path) -> Command {
    let mut command = Command::new(programs.join(name));
    command
        .current_dir(dir)
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

fn serve(programs: &Path, dir: &Path) -> Result<Child> {
    Ok(program(programs, "postgres", dir)
        .arg("-D")
        .arg(dir.join("data"))
        .arg("-k")
        .arg(dir.join("socket"))
        .args(["-c", "listen_addresses=", "-c", "shared_buffers=32MB"])
        .spawn()?)
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: its own processes end with it.
        if let Some(pid) = rustix::process::Pid::from_raw(self.server.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.server.wait();
    }
}
