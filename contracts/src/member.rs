//! A member as it enters a network: its name, roles, keys and nodes.

use std::collections::BTreeSet;

use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::error::{Error, field, once};
use crate::ids::{MemberId, PublicKey};
use crate::signature::check_public_key;

const VERSION: u8 = 1;
/// The most administrators' keys of a member.
pub const MAX_ADMIN_KEYS: usize = 8;
/// The most nodes of a member.
pub const MAX_NODES: usize = 8;
/// A node's largest power; keeps every sum and product of powers far from overflow.
pub const MAX_POWER: u64 = 1 << 32;
/// The longest member name, in bytes.
pub const MAX_MEMBER_NAME: usize = 32;
/// The longest address of a node, in bytes.
pub const MAX_ADDRESS: usize = 128;
/// The longest HTTP base URL of a node, in bytes.
pub const MAX_URL: usize = 256;

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

    /// Checks the entry by itself as it enters a network: name, ID, keys, addresses.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), Error> {
        self.check_parts()?;
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
        Ok(())
    }

    /// As [`Self::check`] without the ID, which survives the key that it was derived from.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check_parts(&self) -> Result<(), Error> {
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
