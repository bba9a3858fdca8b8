//! The genesis document: entry 0 of the ledger, whose hash is the network ID.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::block::{ENTRY_GENESIS, ENTRY_MAGIC, MAX_ENTRY_BYTES, MAX_VALIDATORS};
use crate::codec::{Canonical, Reader, Writer};
use crate::error::{Error, field, once};
use crate::ids::{KeyId, MemberId, NetworkId, PublicKey};

pub use crate::member::{
    MAX_ADDRESS, MAX_ADMIN_KEYS, MAX_MEMBER_NAME, MAX_NODES, MAX_POWER, MAX_URL, MemberEntry,
    NodeEntry, Roles, check_member_name,
};
pub use crate::rules::{NetworkKind, RULES_VERSION, Rules};

const VERSION: u8 = 1;
/// The most members in a genesis.
pub const MAX_MEMBERS: usize = 64;
/// The longest network name, in bytes.
pub const MAX_NETWORK_NAME: usize = 64;

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
