//! The genesis document: entry 0 of the ledger, whose hash is the network ID.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::block::{
    ENTRY_GENESIS, ENTRY_MAGIC, MAX_BLOCK_BYTES, MAX_BLOCK_RECORDS, MAX_ENTRY_BYTES, MAX_VALIDATORS,
};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::error::Error;
use crate::ids::{KeyId, MemberId, NetworkId, PublicKey};
use crate::signature::check_public_key;

const VERSION: u8 = 1;
/// The rules that this crate implements.
pub const RULES_VERSION: u32 = 1;
/// The most members in a genesis.
pub const MAX_MEMBERS: usize = 64;
/// The most administrators' keys of a member.
pub const MAX_ADMIN_KEYS: usize = 8;
/// The most nodes of a member.
pub const MAX_NODES: usize = 8;
/// A node's largest power; keeps every sum and product of powers far from overflow.
pub const MAX_POWER: u64 = 1 << 32;
/// The longest network name, in bytes.
pub const MAX_NETWORK_NAME: usize = 64;
/// The longest member name, in bytes.
pub const MAX_MEMBER_NAME: usize = 32;
/// The longest address of a node, in bytes.
pub const MAX_ADDRESS: usize = 128;
/// The longest HTTP base URL of a node, in bytes.
pub const MAX_URL: usize = 256;

/// What a network may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkKind {
    /// A test network: agreements without noise are allowed, and every answer says so.
    Test,
    /// A network for real data.
    Live,
}

impl NetworkKind {
    /// 1 test, 2 live.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Test => 1,
            Self::Live => 2,
        }
    }

    /// The word for it: `test` or `live`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match r.u8("network kind")? {
            1 => Ok(Self::Test),
            2 => Ok(Self::Live),
            found => Err(CodecError::Invalid {
                what: "network kind",
                found: found.into(),
            }),
        }
    }
}

/// The rules that a network starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Version of the contracts; this crate knows [`RULES_VERSION`].
    pub rules_version: u32,
    /// Longest time between blocks, in milliseconds (100 to 3,600,000).
    pub heartbeat_ms: u64,
    /// Length of a privacy epoch, in milliseconds (1,000 to ten years); epoch = block time / `epoch_ms`.
    pub epoch_ms: u64,
    /// Largest block in bytes (1,024 to [`MAX_BLOCK_BYTES`]).
    pub max_block_bytes: u32,
    /// Most records in a block (1 to [`MAX_BLOCK_RECORDS`]).
    pub max_block_records: u32,
    /// How far a live block's time may be from a validator's clock, in milliseconds (1 to 3,600,000).
    pub max_skew_ms: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rules_version: RULES_VERSION,
            heartbeat_ms: 10_000,
            epoch_ms: 7 * 24 * 3_600_000,
            max_block_bytes: 2 * 1024 * 1024,
            max_block_records: 8_192,
            max_skew_ms: 30_000,
        }
    }
}

impl Canonical for Rules {
    fn write(&self, w: &mut Writer) {
        w.u32(self.rules_version)
            .u64(self.heartbeat_ms)
            .u64(self.epoch_ms)
            .u32(self.max_block_bytes)
            .u32(self.max_block_records)
            .u64(self.max_skew_ms);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            rules_version: r.u32("rules version")?,
            heartbeat_ms: r.u64("heartbeat")?,
            epoch_ms: r.u64("epoch length")?,
            max_block_bytes: r.u32("block bytes")?,
            max_block_records: r.u32("block records")?,
            max_skew_ms: r.u64("clock skew")?,
        })
    }
}

impl Rules {
    fn check(&self) -> Result<(), Error> {
        let in_range = |what, found: u64, range: std::ops::RangeInclusive<u64>, expected| {
            if range.contains(&found) {
                Ok(())
            } else {
                Err(field(what, found.to_string(), expected))
            }
        };
        let version = u64::from(RULES_VERSION);
        in_range(
            "rules version",
            self.rules_version.into(),
            version..=version,
            "the version of this program",
        )?;
        in_range(
            "heartbeat",
            self.heartbeat_ms,
            100..=3_600_000,
            "100 to 3600000 ms",
        )?;
        in_range(
            "epoch length",
            self.epoch_ms,
            1_000..=315_360_000_000,
            "1000 ms to ten years",
        )?;
        in_range(
            "block bytes",
            self.max_block_bytes.into(),
            1_024..=MAX_BLOCK_BYTES as u64,
            "1 KiB to 2 MiB",
        )?;
        in_range(
            "block records",
            self.max_block_records.into(),
            1..=MAX_BLOCK_RECORDS as u64,
            "1 to 8192",
        )?;
        in_range(
            "clock skew",
            self.max_skew_ms,
            1..=3_600_000,
            "1 to 3600000 ms",
        )
    }
}

/// What a member does in the network: any set of these, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Roles(u8);

impl Roles {
    /// Issues codes.
    pub const BRAND: Self = Self(1);
    /// Runs a platform.
    pub const PLATFORM: Self = Self(2);
    /// Sells or shows advertising.
    pub const MEDIA: Self = Self(4);
    /// Audits.
    pub const AUDITOR: Self = Self(8);

    const NAMES: [(u8, &'static str); 4] =
        [(1, "brand"), (2, "platform"), (4, "media"), (8, "auditor")];

    /// The set of the bits given; `None` for an empty set or an unknown bit.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits == 0 || bits > 15 {
            None
        } else {
            Some(Self(bits))
        }
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every role of `other` is here.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The words, in the order of their bits.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(bit, _)| self.0 & bit != 0)
            .map(|(_, name)| name)
    }

    /// The role of one word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(_, name)| *name == word)
            .map(|(bit, _)| Self(*bit))
    }
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

/// One node of a member: the public halves of its keys, its power and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// Identity of the member swarm (libp2p).
    pub transport: PublicKey,
    /// Signs consensus messages.
    pub consensus: PublicKey,
    /// Signs checkpoints (C2SP type 0x01).
    pub checkpoint: PublicKey,
    /// Cosigns checkpoints (C2SP type 0x04).
    pub cosignature: PublicKey,
    /// Signs records.
    pub records: PublicKey,
    /// Voting power, at most [`MAX_POWER`]; 0 does not vote.
    pub power: u64,
    /// Multiaddr of the consensus port, as `/dns4/HOST/tcp/PORT` or `/ip4/A.B.C.D/tcp/PORT`.
    pub consensus_addr: String,
    /// Multiaddr of the member swarm.
    pub swarm_addr: String,
    /// HTTP base URL without a final slash; empty if none is public.
    pub http_url: String,
}

impl NodeEntry {
    /// Every public key with its use.
    #[must_use]
    pub fn keys(&self) -> [(&'static str, PublicKey); 5] {
        [
            ("transport", self.transport),
            ("consensus", self.consensus),
            ("checkpoint", self.checkpoint),
            ("cosignature", self.cosignature),
            ("records", self.records),
        ]
    }

    fn check(&self) -> Result<(), Error> {
        if self.power > MAX_POWER {
            return Err(field("power", self.power.to_string(), "at most 2^32"));
        }
        check_multiaddr("consensus address", &self.consensus_addr)?;
        check_multiaddr("swarm address", &self.swarm_addr)?;
        check_url(&self.http_url)
    }
}

impl Canonical for NodeEntry {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION);
        for (_, key) in self.keys() {
            w.raw(&key.0);
        }
        w.u64(self.power)
            .text(&self.consensus_addr)
            .text(&self.swarm_addr)
            .text(&self.http_url);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("node entry version", VERSION)?;
        Ok(Self {
            transport: PublicKey(r.array("transport key")?),
            consensus: PublicKey(r.array("consensus key")?),
            checkpoint: PublicKey(r.array("checkpoint key")?),
            cosignature: PublicKey(r.array("cosignature key")?),
            records: PublicKey(r.array("records key")?),
            power: r.u64("power")?,
            consensus_addr: r.text("consensus address", MAX_ADDRESS)?,
            swarm_addr: r.text("swarm address", MAX_ADDRESS)?,
            http_url: r.text("http url", MAX_URL)?,
        })
    }
}

/// One member: what it brings to a founding ceremony, and what the state holds of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberEntry {
    /// Derived from the name and the first administrator's key.
    pub id: MemberId,
    /// `[a-z0-9][a-z0-9-]{0,31}`, unique in the network.
    pub name: String,
    /// What it does.
    pub roles: Roles,
    /// Administrators' keys, 1 to 8.
    pub admin_keys: Vec<PublicKey>,
    /// Nodes, 1 to 8.
    pub nodes: Vec<NodeEntry>,
}

impl MemberEntry {
    /// An entry with its ID derived.
    ///
    /// # Errors
    /// What [`Self::check`] finds.
    pub fn new(
        name: &str,
        roles: Roles,
        admin_keys: Vec<PublicKey>,
        nodes: Vec<NodeEntry>,
    ) -> Result<Self, Error> {
        let Some(first) = admin_keys.first() else {
            return Err(field("administrators' keys", "0".into(), "1 to 8"));
        };
        let entry = Self {
            id: MemberId::derive(name, first),
            name: name.to_owned(),
            roles,
            admin_keys,
            nodes,
        };
        entry.check()?;
        Ok(entry)
    }

    /// Every public key of the member with its use.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, PublicKey)> + '_ {
        self.admin_keys
            .iter()
            .map(|k| ("administrator", *k))
            .chain(self.nodes.iter().flat_map(NodeEntry::keys))
    }

    /// Checks the entry by itself: name, ID, keys, addresses.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), Error> {
        check_member_name(&self.name)?;
        if !(1..=MAX_ADMIN_KEYS).contains(&self.admin_keys.len()) {
            return Err(field(
                "administrators' keys",
                self.admin_keys.len().to_string(),
                "1 to 8",
            ));
        }
        if !(1..=MAX_NODES).contains(&self.nodes.len()) {
            return Err(field("nodes", self.nodes.len().to_string(), "1 to 8"));
        }
        if let Some(first) = self.admin_keys.first() {
            let expected = MemberId::derive(&self.name, first);
            if self.id != expected {
                return Err(Error::MemberId {
                    name: self.name.clone(),
                    expected,
                    found: self.id,
                });
            }
        }
        let mut seen = BTreeSet::new();
        for (_, key) in self.keys() {
            check_public_key(&key)?;
            once(&mut seen, "public key", key)?;
        }
        self.nodes.iter().try_for_each(NodeEntry::check)
    }
}

impl Canonical for MemberEntry {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .raw(&self.id.0)
            .text(&self.name)
            .u8(self.roles.bits())
            .list(&self.admin_keys, |w, k| {
                w.raw(&k.0);
            })
            .list(&self.nodes, |w, n| {
                n.write(w);
            });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("member entry version", VERSION)?;
        let id = MemberId(r.array("member ID")?);
        let name = r.text("member name", MAX_MEMBER_NAME)?;
        let bits = r.u8("roles")?;
        let roles = Roles::from_bits(bits).ok_or(CodecError::Invalid {
            what: "roles",
            found: bits.into(),
        })?;
        Ok(Self {
            id,
            name,
            roles,
            admin_keys: r.list("administrators' keys", MAX_ADMIN_KEYS, |r| {
                Ok(PublicKey(r.array("administrator's key")?))
            })?,
            nodes: r.list("nodes", MAX_NODES, NodeEntry::read)?,
        })
    }
}

/// The genesis document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// The network's name, for people; 1 to 64 bytes.
    pub name: String,
    /// Test or live.
    pub kind: NetworkKind,
    /// When it was drawn up, POSIX milliseconds; block times are later.
    pub created_ms: u64,
    /// Random, so that two networks of the same members differ.
    pub nonce: [u8; 32],
    /// The rules.
    pub rules: Rules,
    /// Members, ascending by ID.
    pub members: Vec<MemberEntry>,
}

impl Genesis {
    /// A document with its members sorted.
    ///
    /// # Errors
    /// What [`Self::check`] finds.
    pub fn new(
        name: &str,
        kind: NetworkKind,
        created_ms: u64,
        nonce: [u8; 32],
        rules: Rules,
        mut members: Vec<MemberEntry>,
    ) -> Result<Self, Error> {
        members.sort_by_key(|m| m.id);
        let genesis = Self {
            name: name.to_owned(),
            kind,
            created_ms,
            nonce,
            rules,
            members,
        };
        genesis.check()?;
        Ok(genesis)
    }

    /// The entry's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(ENTRY_MAGIC)
            .u8(ENTRY_GENESIS)
            .u8(VERSION)
            .text(&self.name)
            .u8(self.kind.code())
            .u64(self.created_ms)
            .raw(&self.nonce);
        self.rules.write(&mut w);
        w.list(&self.members, |w, m| m.write(w));
        w.into_bytes()
    }

    /// Decodes the entry's bytes, all of them, and checks the document.
    ///
    /// # Errors
    /// [`Error::Codec`], and what [`Self::check`] finds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        r.version("entry magic", ENTRY_MAGIC)?;
        r.version("entry type", ENTRY_GENESIS)?;
        r.version("genesis version", VERSION)?;
        let genesis = Self {
            name: r.text("network name", MAX_NETWORK_NAME)?,
            kind: NetworkKind::read(&mut r)?,
            created_ms: r.u64("time of creation")?,
            nonce: r.array("nonce")?,
            rules: Rules::read(&mut r)?,
            members: r.list("members", MAX_MEMBERS, MemberEntry::read)?,
        };
        r.finish()?;
        genesis.check()?;
        Ok(genesis)
    }

    /// Checks everything that a genesis must be: rules in range, members sorted, names and keys unique over the whole document
    /// and all uses, addresses plausible, some power, and a size that fits one entry.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), Error> {
        if self.name.is_empty()
            || self.name.len() > MAX_NETWORK_NAME
            || self.name.chars().any(char::is_control)
        {
            return Err(field(
                "network name",
                self.name.clone(),
                "1 to 64 bytes of text",
            ));
        }
        self.rules.check()?;
        if !(1..=MAX_MEMBERS).contains(&self.members.len()) {
            return Err(field("members", self.members.len().to_string(), "1 to 64"));
        }
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        let (mut power, mut validators, mut last) = (0_u64, 0_usize, None);
        for member in &self.members {
            member.check()?;
            if last.is_some_and(|id| id >= member.id) {
                return Err(Error::Order { found: member.id });
            }
            last = Some(member.id);
            once(&mut names, "member name", member.name.clone())?;
            for (_, key) in member.keys() {
                once(&mut keys, "public key", key)?;
            }
            for node in &member.nodes {
                power = power.saturating_add(node.power);
                validators += usize::from(node.power > 0);
            }
        }
        if power == 0 {
            return Err(field("total power", "0".into(), "a node that votes"));
        }
        if validators > MAX_VALIDATORS {
            return Err(field("validators", validators.to_string(), "at most 128"));
        }
        let size = self.to_bytes().len();
        if size > MAX_ENTRY_BYTES {
            return Err(Error::RecordSize {
                found: size,
                max: MAX_ENTRY_BYTES,
            });
        }
        Ok(())
    }

    /// SHA-256 of the document.
    #[must_use]
    pub fn network_id(&self) -> NetworkId {
        network_id(&self.to_bytes())
    }

    /// A member by its ID.
    #[must_use]
    pub fn member(&self, id: &MemberId) -> Option<&MemberEntry> {
        self.members.iter().find(|m| m.id == *id)
    }

    /// A member by its name.
    #[must_use]
    pub fn member_by_name(&self, name: &str) -> Option<&MemberEntry> {
        self.members.iter().find(|m| m.name == name)
    }

    /// The node, and its member, that has `key` for any use.
    #[must_use]
    pub fn node_by_key(&self, key: &PublicKey) -> Option<(&MemberEntry, &NodeEntry)> {
        self.members.iter().find_map(|m| {
            let node = m
                .nodes
                .iter()
                .find(|n| n.keys().iter().any(|(_, k)| k == key))?;
            Some((m, node))
        })
    }
}

/// SHA-256 of a genesis document's bytes.
#[must_use]
pub fn network_id(document: &[u8]) -> NetworkId {
    NetworkId(Sha256::digest(document).into())
}

/// The origin line of a network's checkpoints, which is the name of every node's checkpoint key too: `tally/<network ID>`.
#[must_use]
pub fn origin(network: &NetworkId) -> String {
    format!("tally/{network}")
}

/// The name of a member's cosignature keys: `tally/<network ID>/<member name>`.
#[must_use]
pub fn cosigner_name(network: &NetworkId, member_name: &str) -> String {
    format!("tally/{network}/{member_name}")
}

/// The ID under which a member's key signs records.
#[must_use]
pub fn key_id(key: &PublicKey) -> KeyId {
    KeyId::of(key)
}

fn field(what: &'static str, found: String, expected: &'static str) -> Error {
    Error::Field {
        what,
        found,
        expected,
    }
}

fn once<T: Ord + ToString>(
    seen: &mut BTreeSet<T>,
    what: &'static str,
    value: T,
) -> Result<(), Error> {
    if seen.contains(&value) {
        return Err(Error::Duplicate {
            what,
            found: value.to_string(),
        });
    }
    seen.insert(value);
    Ok(())
}

/// Checks a member's name: `[a-z0-9][a-z0-9-]{0,31}`.
///
/// # Errors
/// [`Error::Field`].
pub fn check_member_name(name: &str) -> Result<(), Error> {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ok = name.len() <= MAX_MEMBER_NAME
        && name.bytes().next().is_some_and(word)
        && name.bytes().all(|b| word(b) || b == b'-');
    if ok {
        Ok(())
    } else {
        Err(field(
            "member name",
            name.to_owned(),
            "1 to 32 of a-z, 0-9 and -, not starting with -",
        ))
    }
}

/// `/ip4/A.B.C.D/tcp/PORT`, `/ip6/..`, `/dns/..`, `/dns4/..` or `/dns6/..`; what the hosts parse fully is only made plausible here.
fn check_multiaddr(what: &'static str, text: &str) -> Result<(), Error> {
    let parts: Vec<&str> = text.split('/').collect();
    let ok = text.len() <= MAX_ADDRESS
        && match parts.as_slice() {
            ["", kind, host, "tcp", port] => {
                let host_ok = match *kind {
                    "ip4" => host.parse::<std::net::Ipv4Addr>().is_ok(),
                    "ip6" => host.parse::<std::net::Ipv6Addr>().is_ok(),
                    "dns" | "dns4" | "dns6" => {
                        !host.is_empty()
                            && host
                                .bytes()
                                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
                    }
                    _ => false,
                };
                host_ok
                    && port
                        .parse::<u16>()
                        .is_ok_and(|p| p != 0 && p.to_string() == **port)
            }
            _ => false,
        };
    if ok {
        Ok(())
    } else {
        Err(field(
            what,
            text.to_owned(),
            "/dns4/HOST/tcp/PORT or /ip4/A.B.C.D/tcp/PORT",
        ))
    }
}

fn check_url(text: &str) -> Result<(), Error> {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let ok = text.is_empty()
        || text.len() <= MAX_URL
            && host.is_some_and(|h| {
                !h.is_empty() && !h.ends_with('/') && h.bytes().all(|b| b.is_ascii_graphic())
            });
    if ok {
        Ok(())
    } else {
        Err(field(
            "http url",
            text.to_owned(),
            "http(s)://HOST[:PORT][/PATH] without a final slash, or nothing",
        ))
    }
}
