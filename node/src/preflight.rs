//! What can be known before a node is started: whether its files, ports, disk and keys are as it needs them.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use tally_contracts::records::KeyPurpose;

use crate::admin;
use crate::config::{Config, DataDir};
use crate::keys::KeyStore;
use crate::room::free_bytes;

/// Fewest files that a node under load has open: links, streams, HTTP connections, segments.
const MIN_OPEN_FILES: u64 = 4096;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// The node starts, and something will be missed.
    Warning,
    /// The node does not start, or must not.
    Error,
}

impl Level {
    /// `ok`, `warning` or `error`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it went.
    pub level: Level,
    /// What was looked at, in a word or two.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it; empty for [`Level::Ok`].
    pub next: String,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what,
            found: found.into(),
            next: String::new(),
        }
    }

    fn warning(what: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            what,
            found: found.into(),
            next: next.into(),
        }
    }

    fn error(what: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            ..Self::warning(what, found, next)
        }
    }
}

/// Looks at everything that a configuration at `path` names. Nothing is changed, and no secret is opened; each port is opened and
/// closed again unless the node runs.
#[must_use]
pub fn preflight(config: &Config, path: &Path) -> Vec<Finding> {
    let dir = config.data_dir(path);
    let running = UnixStream::connect(dir.root().join(admin::SOCKET)).is_ok();
    let mut findings = vec![data_dir(&dir), keys(&dir), passphrase(config, path)];
    findings.push(genesis(&dir));
    findings.extend(operator_token(config, path));
    findings.extend(links(config, path));
    findings.push(disk(config, &dir));
    if running {
        findings.push(Finding::ok("ports", "the node is running and has them"));
    } else {
        findings.extend(ports(config));
    }
    findings.push(base_url(config));
    findings.push(open_files());
    findings
}

/// Permission bits of a file; `None` if it cannot be looked at.
fn mode(path: &Path) -> Option<u32> {
    path.metadata().ok().map(|m| m.permissions().mode() & 0o777)
}

fn data_dir(dir: &DataDir) -> Finding {
    let what = "data directory";
    let shown = dir.root().display();
    let Some(mode) = mode(dir.root()).filter(|_| dir.root().is_dir()) else {
        return Finding::error(
            what,
            format!("{shown} is not there"),
            "run `tally init`, or mend node.data_dir",
        );
    };
    if rustix::fs::access(
        dir.root(),
        rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK,
    )
    .is_err()
    {
        return Finding::error(
            what,
            format!("{shown} cannot be written by this user"),
            "run the node as the directory's owner",
        );
    }
    if mode & 0o077 != 0 {
        return Finding::warning(
            what,
            format!("{shown} is open to other users (mode {mode:o})"),
            format!("chmod 700 {shown}"),
        );
    }
    Finding::ok(what, shown.to_string())
}

fn keys(dir: &DataDir) -> Finding {
    let files = ["node.age", "admin.age"].map(|name| dir.keys().join(name));
    // One that was lost and replaced has another name.
    let replaced = KeyStore::new(dir.keys())
        .rotated_files()
        .is_ok_and(|files| files.iter().any(|f| f.purpose == KeyPurpose::Admin));
    for file in &files {
        match mode(file) {
            None if replaced && file.ends_with("admin.age") => {}
            None => {
                return Finding::error(
                    "keys",
                    format!("{} is not there", file.display()),
                    "run `tally init`, or restore the keys from your backup",
                );
            }
            Some(mode) if mode & 0o077 != 0 => {
                return Finding::warning(
                    "keys",
                    format!("{} is open to other users (mode {mode:o})", file.display()),
                    format!("chmod 600 {}", file.display()),
                );
            }
            Some(_) => {}
        }
    }
    Finding::ok("keys", "both files are there, readable by this user alone")
}

fn passphrase(config: &Config, path: &Path) -> Finding {
    let what = "passphrase";
    let Some(file) = config.passphrase_file(path) else {
        return Finding::ok(
            what,
            "from --passphrase-file, a systemd credential, TALLY_PASSPHRASE_FILE or the terminal",
        );
    };
    secret_file(what, &file).unwrap_or_else(|| Finding::ok(what, file.display().to_string()))
}

/// What is wrong with a file that holds a secret, if something is.
fn secret_file(what: &'static str, file: &Path) -> Option<Finding> {
    let Some(mode) = mode(file) else {
        return Some(Finding::error(
            what,
            format!("{} cannot be read", file.display()),
            "make the file, or mend the key of tally.toml that names it",
        ));
    };
    (mode & 0o077 != 0).then(|| {
        Finding::warning(
            what,
            format!("{} is open to other users (mode {mode:o})", file.display()),
            format!("chmod 600 {}", file.display()),
        )
    })
}

fn genesis(dir: &DataDir) -> Finding {
    if dir.genesis_file().is_file() {
        Finding::ok("genesis", "taken over")
    } else {
        Finding::error(
            "genesis",
            "this node has joined no network yet",
            "run `tally join` with the genesis that every founder has signed",
        )
    }
}

fn operator_token(config: &Config, path: &Path) -> Option<Finding> {
    let what = "operator token";
    let file = &config.http.operator_token_file;
    if file.as_os_str().is_empty() {
        return None;
    }
    if let Err(error) = config.operator_token(path) {
        return Some(Finding::error(
            what,
            error.to_string(),
            "write a line of 16 or more visible characters into it",
        ));
    }
    let file = crate::files::parent(path).join(file);
    Some(secret_file(what, &file).unwrap_or_else(|| Finding::ok(what, file.display().to_string())))
}

fn links(config: &Config, path: &Path) -> Option<Finding> {
    let file = &config.http.links_file;
    (!file.as_os_str().is_empty()).then(|| match config.product_links(path) {
        Ok(_) => Finding::ok("http.links_file", file.display().to_string()),
        Err(error) => Finding::error(
            "http.links_file",
            error.to_string(),
            "mend the file, or take it out of the configuration; docs/operator.md shows one",
        ),
    })
}

fn disk(config: &Config, dir: &DataDir) -> Finding {
    let reserve = config.limits.disk_reserve_bytes;
    let gb = |bytes: u64| format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10);
    match free_bytes(dir.root()) {
        None => Finding::ok("disk", "the system does not say how much is free"),
        Some(free) if free < reserve => Finding::error(
            "disk",
            format!("{} free, {} are to be kept free", gb(free), gb(reserve)),
            "free some, or lower limits.disk_reserve_bytes",
        ),
        Some(free) if free < reserve.saturating_mul(4) => Finding::warning(
            "disk",
            format!(
                "{} free; below {} nothing new is taken",
                gb(free),
                gb(reserve)
            ),
            "free some",
        ),
        Some(free) => Finding::ok("disk", format!("{} free", gb(free))),
    }
}

/// Host and port of `/ip4/ADDRESS/tcp/PORT`, the form that a checked configuration has.
fn tcp(multiaddr: &str) -> Option<SocketAddr> {
    let mut parts = multiaddr.split('/').skip(2);
    let ip = parts.next()?.parse().ok()?;
    let port = parts.nth(1)?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

fn ports(config: &Config) -> Vec<Finding> {
    let all = [
        ("consensus.listen", tcp(&config.consensus.listen)),
        ("swarm.listen", tcp(&config.swarm.listen)),
        ("http.listen", config.http.listen.parse().ok()),
    ];
    let mut findings: Vec<Finding> = all
        .into_iter()
        .filter_map(|(what, address)| Some((what, address?)))
        .map(|(what, address)| match TcpListener::bind(address) {
            Ok(_) => Finding::ok(what, format!("{address} is free")),
            Err(error) => Finding::error(
                what,
                format!("{address}: {error}"),
                "another program has the port, or the address is not of this machine: choose another",
            ),
        })
        .collect();
    let http = config.http.listen.parse::<SocketAddr>().ok();
    if http.is_some_and(|a| !a.ip().is_loopback()) && config.http.trusted_proxies.is_empty() {
        findings.push(Finding::warning(
            "http.listen",
            "open to other machines, and this node speaks no TLS",
            "put a proxy with TLS before it and name it in http.trusted_proxies, or listen on 127.0.0.1",
        ));
    }
    findings
}

fn base_url(config: &Config) -> Finding {
    let url = &config.http.base_url;
    if url.starts_with("https://") {
        Finding::ok("http.base_url", url.clone())
    } else {
        Finding::warning(
            "http.base_url",
            format!("{url} is not https"),
            "phones warn about such links; printed codes cannot be changed later",
        )
    }
}

fn open_files() -> Finding {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < MIN_OPEN_FILES => Finding::warning(
            "open files",
            format!("this session may open {limit}"),
            format!("raise it to {MIN_OPEN_FILES} or more (ulimit -n, LimitNOFILE)"),
        ),
        Some(limit) => Finding::ok("open files", format!("up to {limit}")),
        None => Finding::ok("open files", "without limit"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tally_contracts::Roles;

    use super::*;

    fn found<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
        findings
            .iter()
            .find(|f| f.what == what)
            .unwrap_or_else(|| panic!("{what} was not looked at: {findings:?}"))
    }

    /// A directory as `init` leaves it, with ports that the system gives.
    fn made() -> (tempfile::TempDir, Config, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new("acme", Roles::parse("brand").unwrap());
        config.consensus.listen = "/ip4/127.0.0.1/tcp/0".into();
        config.swarm.listen = "/ip4/127.0.0.1/tcp/0".into();
        config.http.listen = "127.0.0.1:0".into();
        config.http.base_url = "https://id.example".into();
        config.limits.disk_reserve_bytes = 1;
        let path = dir.path().join("tally.toml");
        for folder in DataDir::FOLDERS {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for file in ["keys/node.age", "keys/admin.age", "ledger/genesis"] {
            write(&dir.path().join(file), 0o600);
        }
        chmod(dir.path(), 0o700);
        (dir, config, path)
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn write(path: &Path, mode: u32) {
        std::fs::write(path, "sixteen-visible-characters\n").unwrap();
        chmod(path, mode);
    }

    #[test]
    fn a_made_directory_is_well() {
        let (_dir, config, path) = made();
        let findings = preflight(&config, &path);
        let bad: Vec<_> = findings
            .iter()
            .filter(|f| f.level != Level::Ok && f.what != "open files")
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
        for what in ["consensus.listen", "swarm.listen", "http.listen"] {
            assert!(found(&findings, what).found.ends_with("is free"));
        }
    }

    #[test]
    fn what_is_missing_is_an_error_with_a_next_step() {
        let (dir, mut config, path) = made();
        std::fs::remove_file(dir.path().join("keys/admin.age")).unwrap();
        std::fs::remove_file(dir.path().join("ledger/genesis")).unwrap();
        config.node.passphrase_file = "nowhere".into();
        config.http.operator_token_file = "nowhere-either".into();
        config.http.links_file = "no-links".into();
        config.limits.disk_reserve_bytes = u64::MAX;
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        config.http.listen = taken.local_addr().unwrap().to_string();
        let findings = preflight(&config, &path);
        for what in [
            "keys",
            "genesis",
            "passphrase",
            "operator token",
            "http.links_file",
            "disk",
            "http.listen",
        ] {
            let finding = found(&findings, what);
            assert_eq!(finding.level, Level::Error, "{finding:?}");
            assert!(!finding.next.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn what_others_can_read_is_told() {
        let (dir, mut config, path) = made();
        chmod(dir.path(), 0o755);
        chmod(&dir.path().join("keys/node.age"), 0o640);
        config.node.passphrase_file = "pass".into();
        write(&dir.path().join("pass"), 0o644);
        config.http.operator_token_file = "token".into();
        write(&dir.path().join("token"), 0o604);
        config.http.base_url = "http://id.example".into();
        let findings = preflight(&config, &path);
        for what in [
            "data directory",
            "keys",
            "passphrase",
            "operator token",
            "http.base_url",
        ] {
            let finding = found(&findings, what);
            assert_eq!(finding.level, Level::Warning, "{finding:?}");
            assert!(!finding.next.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(
            tcp("/ip4/10.0.0.1/tcp/26600"),
            "10.0.0.1:26600".parse().ok()
        );
        assert_eq!(tcp("/ip6/::1/tcp/1"), "[::1]:1".parse().ok());
        assert_eq!(tcp("/dns4/host/tcp/1"), None);
        assert_eq!(tcp(""), None);
    }
}
