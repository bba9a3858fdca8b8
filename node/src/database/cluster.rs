//! A PostgreSQL that a test starts itself and ends by its process ID.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

pub(crate) const PASSWORD: &str = "a password that must stand nowhere";
/// Who PostgreSQL runs as if the test runs as root, for whom it does not start.
const NOBODY: u32 = 65534;

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

/// A cluster in a temporary folder, reached over a Unix socket; ended when dropped.
pub(crate) struct Cluster {
    programs: PathBuf,
    dir: tempfile::TempDir,
    server: Option<Child>,
}

impl Cluster {
    /// Starts one; `None` if there is no PostgreSQL, which is a failure if nothing may be skipped.
    pub(crate) async fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let strict = std::env::var("CI_STRICT").is_ok_and(|v| v == "1");
            assert!(
                !strict,
                "PostgreSQL is not installed: apt-get install postgresql"
            );
            println!("SKIPPED: there is no /usr/lib/postgresql/*/bin/initdb");
            return None;
        };
        let dir = tempfile::Builder::new()
            .prefix("tally-pg-")
            .tempdir()
            .expect("temp dir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        for name in ["data", "socket"] {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("mkdir");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("permissions");
            if rustix::process::geteuid().is_root() {
                chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
            }
        }
        let password = dir.path().join("password");
        fs::write(&password, PASSWORD).expect("password");
        let mut cluster = Self {
            programs,
            dir,
            server: None,
        };
        let made = cluster
            .program("initdb")
            .args([
                "-U",
                "tally",
                "-A",
                "scram-sha-256",
                "--no-sync",
                "-E",
                "UTF8",
            ])
            .arg("--pwfile")
            .arg(&password)
            .arg("-D")
            .arg(cluster.dir.path().join("data"))
            .output()
            .expect("initdb");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        cluster.up().await;
        Some(cluster)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let socket = self.dir.path().join("socket").display().to_string();
        format!("postgres://tally@{}/{database}", socket.replace('/', "%2F"))
    }

    pub(crate) async fn client(
        &self,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config: tokio_postgres::Config = self.url(database).parse()?;
        config.password(PASSWORD);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Starts the server, also after it was killed.
    pub(crate) async fn up(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let running = self
                .server
                .as_mut()
                .is_some_and(|s| s.try_wait().expect("wait").is_none());
            if !running {
                // Its own children may hold the memory for a moment after it was killed: then it refuses, and is started again.
                let server = self
                    .program("postgres")
                    .arg("-D")
                    .arg(self.dir.path().join("data"))
                    .arg("-k")
                    .arg(self.dir.path().join("socket"))
                    .args(["-c", "listen_addresses=", "-c", "shared_buffers=32MB"])
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("postgres");
                self.server = Some(server);
            }
            if self.client("postgres").await.is_ok() {
                return;
            }
            assert!(Instant::now() < end, "PostgreSQL does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGKILL for the server and for every process it made.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let children = children(server.id());
        let _ = server.kill();
        let _ = server.wait();
        for child in children {
            if let Some(pid) = rustix::process::Pid::from_raw(child) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Makes a database of its own.
    pub(crate) async fn create(&self, name: &str) {
        let client = self.client("postgres").await.expect("connect");
        let sql = format!("CREATE DATABASE {name}");
        client.batch_execute(&sql).await.expect("database");
    }
}

impl Drop for Cluster {
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
