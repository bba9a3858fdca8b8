//! `tally.toml` and the data directory around it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use axum::http::HeaderName;
use serde::{Deserialize, Serialize};
use tally_contracts::Roles;
use tally_contracts::genesis::check_member_name;
use tally_psi::buckets::Rule;
use zeroize::Zeroizing;

use crate::chain::Witness;
use crate::files::{FileError, parent, read_bounded};
use crate::gateway::{OperatorToken, ProductLinks, is_contact};

mod keys_table;
mod scans;
mod secrets;
mod workers;

pub use keys_table::{KeyDoc, SectionDoc, documentation};
pub use scans::ScansSection;
pub use secrets::{read_key, read_password};
pub use workers::WorkersSection;

/// The name of the configuration file in a data directory.
pub const CONFIG_FILE: &str = "tally.toml";
const MAX_CONFIG_BYTES: usize = 1 << 20;
const MAX_TOKEN_FILE_BYTES: usize = 4096;
const MAX_LINKS_FILE_BYTES: usize = 4 << 20;
/// Shortest operator token, in characters.
const MIN_TOKEN: usize = 16;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text is no configuration: not TOML, an unknown key, a missing key, a value of the wrong type.
    #[error("{path} line {line}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there; names the key.
        reason: String,
    },
    /// A value out of range.
    #[error("{path}: {key} = {found}, expected {expected}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, with its section.
        key: &'static str,
        /// The value found.
        found: String,
        /// What it may be.
        expected: String,
    },
}

/// The configuration of one node. Every key is described, with default and unit, in the text that [`Config::to_text`] gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who runs the node.
    pub member: MemberSection,
    /// Files and passphrase.
    #[serde(default)]
    pub node: NodeSection,
    /// The consensus port.
    #[serde(default = "PortSection::consensus")]
    pub consensus: PortSection,
    /// The member swarm's port.
    #[serde(default = "PortSection::swarm")]
    pub swarm: PortSection,
    /// The ledger.
    #[serde(default)]
    pub ledger: LedgerSection,
    /// The HTTP gateway.
    #[serde(default)]
    pub http: HttpSection,
    /// Scans and their anchors.
    #[serde(default)]
    pub scans: ScansSection,
    /// Matches.
    #[serde(default, rename = "match")]
    pub matches: MatchSection,
    /// Processes that work on this node's lists.
    #[serde(default)]
    pub workers: WorkersSection,
    /// The log of the process.
    #[serde(default)]
    pub log: LogSection,
    /// Limits on memory, disk and peers.
    #[serde(default)]
    pub limits: LimitsSection,
}

/// `[member]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberSection {
    /// The member's name in the network.
    pub name: String,
    /// Its roles: `brand`, `platform`, `media`, `auditor`.
    pub roles: Vec<String>,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSection {
    /// Data directory, relative to the configuration file.
    pub data_dir: PathBuf,
    /// File with the passphrase, relative to the configuration file; empty for none.
    pub passphrase_file: PathBuf,
    /// Voting power asked for in the member card.
    pub power: u64,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            data_dir: ".".into(),
            passphrase_file: PathBuf::new(),
            power: 1,
        }
    }
}

/// `[consensus]` and `[swarm]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSection {
    /// Multiaddr to listen on.
    pub listen: String,
    /// Multiaddr under which the other members reach it.
    #[serde(default)]
    pub advertise: String,
}

impl PortSection {
    fn at(listen: &str) -> Self {
        Self {
            listen: listen.to_owned(),
            advertise: String::new(),
        }
    }

    fn consensus() -> Self {
        Self::at("/ip4/0.0.0.0/tcp/26600")
    }

    fn swarm() -> Self {
        Self::at("/ip4/0.0.0.0/tcp/26601")
    }

    /// The address for the member card: `advertise`, or `listen` if that is empty.
    #[must_use]
    pub fn public(&self) -> &str {
        if self.advertise.is_empty() {
            &self.listen
        } else {
            &self.advertise
        }
    }
}

/// `[ledger]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerSection {
    /// External witnesses that are asked to cosign checkpoints, each as vkey, space, URL.
    pub witnesses: Vec<String>,
    /// Blocks that are younger than this stay, in days; 0: all stay, if `retain_entries` is 0 too.
    pub retain_days: u64,
    /// So many of the last entries stay; 0: all stay, if `retain_days` is 0 too.
    pub retain_entries: u64,
    /// A snapshot is made when the newest is older than this, in hours; 0: only when asked for.
    pub snapshot_hours: u64,
    /// A block file is closed when it has reached this many bytes; old blocks are dropped by whole files.
    pub block_file_bytes: u64,
}

impl Default for LedgerSection {
    fn default() -> Self {
        Self {
            witnesses: Vec::new(),
            retain_days: 0,
            retain_entries: 0,
            snapshot_hours: 0,
            block_file_bytes: 64 << 20,
        }
    }
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSection {
    /// Socket address to listen on.
    pub listen: String,
    /// URL under which consumers and other members reach it; stands in the codes.
    pub base_url: String,
    /// Addresses of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Header in which these proxies say where the caller's address is; empty for none.
    pub place_header: String,
    /// File with the brand's further links, relative to the configuration file; empty for none.
    pub links_file: PathBuf,
    /// File with the operator's token, relative to the configuration file; empty for none.
    pub operator_token_file: PathBuf,
    /// Where consumers report a doubtful product; empty for nowhere.
    pub contact: String,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:26680".into(),
            base_url: "http://127.0.0.1:26680".into(),
            trusted_proxies: Vec::new(),
            place_header: String::new(),
            links_file: PathBuf::new(),
            operator_token_file: PathBuf::new(),
            contact: String::new(),
        }
    }
}

/// What a node does with another member's request for a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoAccept {
    /// None is accepted.
    Never,
    /// Whatever an accepted agreement allows is accepted.
    Agreed,
}

/// `[match]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatchSection {
    /// Which requests of other members are accepted.
    pub auto_accept: AutoAccept,
    /// Milliseconds without progress after which a match is aborted.
    pub idle_timeout_ms: u64,
    /// Items of the larger side in a bucket of a list, on average and at most; above twice as many a list is cut into buckets.
    pub bucket_items: u64,
}

impl Default for MatchSection {
    fn default() -> Self {
        Self {
            auto_accept: AutoAccept::Never,
            idle_timeout_ms: 60_000,
            bucket_items: Rule::STANDARD.mean,
        }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// Filter of the `tracing` kind: `info`, `warn,tally_node=debug`.
    pub level: String,
    /// The form of the lines.
    pub format: LogFormat,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Longest HTTP request body, in bytes.
    pub http_body_bytes: u64,
    /// HTTP requests being answered at a time.
    pub http_concurrent: u64,
    /// Records waiting in the pool.
    pub pool_records: u64,
    /// Bytes of records waiting in the pool.
    pub pool_bytes: u64,
    /// Memory for the state store and its tree, in bytes; they may take up to twice as much.
    pub state_cache_bytes: u64,
    /// Streams that one peer may have open to this node.
    pub swarm_streams_per_peer: u64,
    /// Free disk space under which the node takes no more scans or records, in bytes.
    pub disk_reserve_bytes: u64,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            http_body_bytes: 256 << 10,
            http_concurrent: 512,
            pool_records: 50_000,
            pool_bytes: 64 << 20,
            state_cache_bytes: 64 << 20,
            swarm_streams_per_peer: 96,
            disk_reserve_bytes: 256 << 20,
        }
    }
}

impl Config {
    /// How this node's ledger is opened.
    #[must_use]
    pub const fn ledger_options(&self) -> tally_ledger::Options {
        tally_ledger::Options {
            segment_bytes: self.ledger.block_file_bytes,
            cache_bytes: self.limits.state_cache_bytes,
        }
    }

    /// The configuration of a member with every default.
    #[must_use]
    pub fn new(name: &str, roles: Roles) -> Self {
        Self {
            member: MemberSection {
                name: name.to_owned(),
                roles: roles.names().map(ToOwned::to_owned).collect(),
            },
            node: NodeSection::default(),
            consensus: PortSection::consensus(),
            swarm: PortSection::swarm(),
            ledger: LedgerSection::default(),
            http: HttpSection::default(),
            scans: ScansSection::default(),
            matches: MatchSection::default(),
            workers: WorkersSection::default(),
            log: LogSection::default(),
            limits: LimitsSection::default(),
        }
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = read_bounded(path, MAX_CONFIG_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let before = e.as_bytes().get(..e.utf8_error().valid_up_to());
            ConfigError::Parse {
                path: path.to_owned(),
                line: 1 + newlines(before.unwrap_or_default()),
                reason: "not UTF-8 text".into(),
            }
        })?;
        Self::parse(path, &text)
    }

    /// Parses and checks the text of a configuration; `path` is for errors.
    ///
    /// # Errors
    /// [`ConfigError::Parse`], [`ConfigError::Value`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| {
            let start = e.span().map_or(0, |span| span.start);
            let before = text.as_bytes().get(..start).unwrap_or_default();
            ConfigError::Parse {
                path: path.to_owned(),
                line: 1 + newlines(before),
                reason: e.message().to_owned(),
            }
        })?;
        config.check(path)?;
        Ok(config)
    }

    /// The roles as a set; `None` if one is unknown or there are none.
    #[must_use]
    pub fn roles(&self) -> Option<Roles> {
        let mut roles = self.member.roles.iter().map(|word| Roles::parse(word));
        let first = roles.next()??;
        roles.try_fold(first, |all, role| Some(all.with(role?)))
    }

    /// The data directory of a configuration file at `path`.
    #[must_use]
    pub fn data_dir(&self, path: &Path) -> DataDir {
        let dir: PathBuf = parent(path)
            .join(&self.node.data_dir)
            .components()
            .collect();
        DataDir::new(dir)
    }

    /// The passphrase file that the configuration names, if it does.
    #[must_use]
    pub fn passphrase_file(&self, path: &Path) -> Option<PathBuf> {
        let file = &self.node.passphrase_file;
        (!file.as_os_str().is_empty()).then(|| parent(path).join(file))
    }

    /// The brand's further links, from the file that the configuration at `path` names, if it does.
    ///
    /// # Errors
    /// [`ConfigError::File`]; [`ConfigError::Value`] if it is no such file.
    pub fn product_links(&self, path: &Path) -> Result<ProductLinks, ConfigError> {
        let file = &self.http.links_file;
        if file.as_os_str().is_empty() {
            return Ok(ProductLinks::default());
        }
        let bytes = read_bounded(&parent(path).join(file), MAX_LINKS_FILE_BYTES)?;
        let bad = |reason: String| ConfigError::Value {
            path: path.to_owned(),
            key: "http.links_file",
            found: format!("{} ({reason})", file.display()),
            expected: "a TOML file with a [[link]] for each link".into(),
        };
        let text = String::from_utf8(bytes).map_err(|_| bad("not UTF-8 text".into()))?;
        ProductLinks::parse(&text).map_err(|error| bad(error.to_string()))
    }

    /// The operator's token: the first line of the file that the configuration at `path` names, if it does.
    ///
    /// # Errors
    /// [`ConfigError::File`]; [`ConfigError::Value`] if it is shorter than 16 characters or not of visible ASCII characters.
    pub fn operator_token(&self, path: &Path) -> Result<Option<OperatorToken>, ConfigError> {
        let file = &self.http.operator_token_file;
        if file.as_os_str().is_empty() {
            return Ok(None);
        }
        let bytes = Zeroizing::new(read_bounded(
            &parent(path).join(file),
            MAX_TOKEN_FILE_BYTES,
        )?);
        let token = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.lines().next())
            .map(str::trim)
            .filter(|t| t.len() >= MIN_TOKEN && t.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| ConfigError::Value {
                path: path.to_owned(),
                key: "http.operator_token_file",
                found: file.display().to_string(),
                expected: "a file whose first line has 16 visible ASCII characters or more".into(),
            })?;
        Ok(Some(OperatorToken::new(token.to_owned())))
    }

    /// The header in which proxies say where the caller's address is, if one is set.
    #[must_use]
    pub fn place_header(&self) -> Option<HeaderName> {
        HeaderName::from_bytes(self.http.place_header.as_bytes()).ok()
    }

    /// The text of the configuration, with every key, its default and its unit.
    #[must_use]
    pub fn to_text(&self) -> String {
        keys_table::render(self)
    }

    /// Checks ranges and forms.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let bad = |key, found: &dyn std::fmt::Display, expected: &str| ConfigError::Value {
            path: path.to_owned(),
            key,
            found: found.to_string(),
            expected: expected.to_owned(),
        };
        check_member_name(&self.member.name).map_err(|_| {
            let expected = "1 to 32 of a-z, 0-9 and -, not starting with -";
            bad("member.name", &self.member.name, expected)
        })?;
        if self.roles().is_none() {
            let found = format!("{:?}", self.member.roles);
            let expected = "some of brand, platform, media, auditor";
            return Err(bad("member.roles", &found, expected));
        }
        let ports = [
            ("consensus.listen", &self.consensus.listen, true),
            ("consensus.advertise", &self.consensus.advertise, false),
            ("swarm.listen", &self.swarm.listen, true),
            ("swarm.advertise", &self.swarm.advertise, false),
        ];
        for (key, found, listen) in ports {
            if !(is_address(found, listen) || (!listen && found.is_empty())) {
                let expected = if listen {
                    "/ip4/ADDRESS/tcp/PORT or /ip6/ADDRESS/tcp/PORT"
                } else {
                    "/dns4/HOST/tcp/PORT or /ip4/ADDRESS/tcp/PORT, or nothing"
                };
                return Err(bad(key, found, expected));
            }
        }
        Witness::parse_all(&self.ledger.witnesses).map_err(|reason| {
            let expected =
                "at most 8 of \"VKEY http://HOST[:PORT][/PREFIX]\", with keys of kind 0x04";
            bad("ledger.witnesses", &reason, expected)
        })?;
        if self.http.listen.parse::<SocketAddr>().is_err() {
            return Err(bad("http.listen", &self.http.listen, "ADDRESS:PORT"));
        }
        let url = &self.http.base_url;
        let host = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(|h| h.is_empty() || h.ends_with('/') || h.contains(['?', '#', ' '])) {
            let expected = "http(s)://HOST[:PORT][/PATH] without a final slash";
            return Err(bad("http.base_url", url, expected));
        }
        if !is_contact(&self.http.contact) {
            let expected = "https://..., a mail address, +TELEPHONE, or nothing";
            return Err(bad("http.contact", &self.http.contact, expected));
        }
        if !self.http.place_header.is_empty() {
            let found = &self.http.place_header;
            if self.place_header().is_none() {
                return Err(bad("http.place_header", found, "the name of a header"));
            }
            if self.http.trusted_proxies.is_empty() {
                let expected = "a proxy in http.trusted_proxies that sets it, or nothing";
                return Err(bad("http.place_header", found, expected));
            }
        }
        if self.log.level.trim().is_empty() {
            return Err(bad("log.level", &"\"\"", "a filter such as info"));
        }
        self.scans.check(path)?;
        self.workers.check(path)?;
        let limits = &self.limits;
        let numbers = [
            ("node.power", self.node.power, 0, 1 << 32),
            ("scans.anchor_every", self.scans.anchor_every, 1, 1 << 20),
            (
                "scans.anchor_interval_ms",
                self.scans.anchor_interval_ms,
                100,
                86_400_000,
            ),
            (
                "match.idle_timeout_ms",
                self.matches.idle_timeout_ms,
                5_000,
                86_400_000,
            ),
            (
                "match.bucket_items",
                self.matches.bucket_items,
                1 << 10,
                Rule::STANDARD.mean,
            ),
            (
                "limits.http_body_bytes",
                limits.http_body_bytes,
                1 << 10,
                64 << 20,
            ),
            (
                "ledger.block_file_bytes",
                self.ledger.block_file_bytes,
                64 << 10,
                1 << 30,
            ),
            ("limits.http_concurrent", limits.http_concurrent, 1, 1 << 16),
            ("limits.pool_records", limits.pool_records, 1, 1 << 24),
            ("limits.pool_bytes", limits.pool_bytes, 1 << 20, 16 << 30),
            (
                "limits.state_cache_bytes",
                limits.state_cache_bytes,
                1 << 20,
                256 << 30,
            ),
            (
                "limits.swarm_streams_per_peer",
                limits.swarm_streams_per_peer,
                8,
                120,
            ),
            (
                "limits.disk_reserve_bytes",
                limits.disk_reserve_bytes,
                0,
                1 << 50,
            ),
        ];
        for (key, found, min, max) in numbers {
            if !(min..=max).contains(&found) {
                return Err(bad(key, &found, &format!("{min} to {max}")));
            }
        }
        Ok(())
    }
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

/// Whether a multiaddr of a TCP port is well formed; one to listen on has an IP address, and may have port 0.
fn is_address(text: &str, listen: bool) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let ["", kind, host, "tcp", port] = parts.as_slice() else {
        return false;
    };
    let host_ok = match *kind {
        "ip4" => host.parse::<std::net::Ipv4Addr>().is_ok(),
        "ip6" => host.parse::<std::net::Ipv6Addr>().is_ok(),
        "dns" | "dns4" | "dns6" => !listen && !host.is_empty(),
        _ => false,
    };
    host_ok && port.parse::<u16>().is_ok_and(|p| listen || p != 0)
}

/// One node's directory: `tally.toml` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

macro_rules! folders {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        $($(#[$meta])*
        #[must_use]
        pub fn $name(&self) -> PathBuf {
            self.root.join(stringify!($name))
        })*
    };
}

impl DataDir {
    /// The folders of a data directory.
    pub const FOLDERS: [&str; 7] = [
        "keys",
        "ledger",
        "consensus",
        "scans",
        "codes",
        "audiences",
        "matches",
    ];

    /// The directory at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `tally.toml`, where `init` puts it.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.root.join(CONFIG_FILE)
    }

    /// The member's own card, which the other founders need.
    #[must_use]
    pub fn card_file(&self) -> PathBuf {
        self.root.join("member-card.toml")
    }

    /// The genesis file with every founder's signature, which `join` puts there.
    #[must_use]
    pub fn genesis_file(&self) -> PathBuf {
        self.ledger().join("genesis")
    }

    folders! {
        /// Encrypted keys.
        keys,
        /// Blocks, state and tiles.
        ledger,
        /// The engine's write-ahead log. Never restored from a backup.
        consensus,
        /// The scan log and its index.
        scans,
        /// Secrets of the issued codes.
        codes,
        /// Imported audiences.
        audiences,
        /// Matches with their answers.
        matches,
    }
}

#[cfg(test)]
mod tests;
