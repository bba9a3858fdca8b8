//! The member card: what a founder hands to the others, signed by its administrator so that a change shows.
//!
//! A TOML file of hex keys and addresses. What is signed is not the text but the member's entry in its canonical bytes
//! (`tally/member-card/v1` LF || entry), so a card may be copied and reflowed, and every field still counts.

use ed25519_dalek::Signer as _;
use serde::{Deserialize, Serialize};
use tally_contracts::codec::Writer;
use tally_contracts::ids::{MemberId, ParseIdError, PublicKey, Signature};
use tally_contracts::signature::verify;
use tally_contracts::{Canonical, MemberEntry, NodeEntry, Roles, domains};

use crate::keys::AdminKey;

/// The longest card, in bytes.
pub const MAX_CARD_BYTES: usize = 64 << 10;
const VERSION: u32 = 1;

/// Why a card is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// Not the TOML of a card.
    #[error("not a member card: {reason}")]
    Parse {
        /// What is wrong.
        reason: String,
    },
    /// A card of another version.
    #[error("member card version {found}, expected {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A key or ID that is no hex of the right length.
    #[error(transparent)]
    Hex(#[from] ParseIdError),
    /// A role that does not exist, or none at all.
    #[error("roles {found:?}, expected some of brand, platform, media, auditor")]
    Roles {
        /// The words found.
        found: Vec<String>,
    },
    /// The entry breaks a rule, or was changed after it was signed.
    #[error("member card of {name}: {source}")]
    Entry {
        /// The member's name.
        name: String,
        /// Which rule.
        source: tally_contracts::Error,
    },
    /// The card is not signed by one of the administrators that it names.
    #[error("member card of {name} is signed by {key}, which is not one of its administrators")]
    Signer {
        /// The member's name.
        name: String,
        /// The key found.
        key: PublicKey,
    },
}

/// A member's entry and its administrator's signature over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberCard {
    entry: MemberEntry,
    signer: PublicKey,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CardText {
    version: u32,
    name: String,
    member_id: String,
    roles: Vec<String>,
    admin_keys: Vec<String>,
    signed_by: String,
    signature: String,
    nodes: Vec<NodeText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeText {
    transport: String,
    consensus: String,
    checkpoint: String,
    cosignature: String,
    records: String,
    power: u64,
    consensus_addr: String,
    swarm_addr: String,
    http_url: String,
}

fn message(entry: &MemberEntry) -> Vec<u8> {
    let mut w = Writer::new();
    w.raw(domains::MEMBER_CARD);
    entry.write(&mut w);
    w.into_bytes()
}

impl MemberCard {
    /// Signs an entry.
    ///
    /// # Errors
    /// [`CardError::Entry`], [`CardError::Signer`] if `admin` is not one of the entry's administrators.
    pub fn sign(entry: MemberEntry, admin: &AdminKey) -> Result<Self, CardError> {
        let card = Self {
            signer: admin.public(),
            signature: Signature(admin.signing().sign(&message(&entry)).to_bytes()),
            entry,
        };
        card.verify()?;
        Ok(card)
    }

    /// The member's entry.
    #[must_use]
    pub fn entry(&self) -> &MemberEntry {
        &self.entry
    }

    /// The administrator who signed it.
    #[must_use]
    pub const fn signer(&self) -> PublicKey {
        self.signer
    }

    /// The signature over `tally/member-card/v1` LF || entry.
    #[must_use]
    pub const fn signature(&self) -> Signature {
        self.signature
    }

    fn verify(&self) -> Result<(), CardError> {
        let name = || self.entry.name.clone();
        let in_entry = |source| CardError::Entry {
            name: name(),
            source,
        };
        self.entry.check().map_err(in_entry)?;
        if !self.entry.admin_keys.contains(&self.signer) {
            return Err(CardError::Signer {
                name: name(),
                key: self.signer,
            });
        }
        verify(
            "member card",
            &self.signer,
            &message(&self.entry),
            &self.signature,
        )
        .map_err(in_entry)
    }

    /// Parses a card and verifies its signature.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn parse(text: &str) -> Result<Self, CardError> {
        let parse = |reason: String| CardError::Parse { reason };
        if text.len() > MAX_CARD_BYTES {
            return Err(parse(format!("longer than {MAX_CARD_BYTES} bytes")));
        }
        let card: CardText = toml::from_str(text).map_err(|e| parse(e.to_string()))?;
        if card.version != VERSION {
            return Err(CardError::Version {
                found: card.version,
            });
        }
        let bits = card
            .roles
            .iter()
            .try_fold(0, |bits, word| Some(bits | Roles::parse(word)?.bits()));
        let roles = bits
            .and_then(Roles::from_bits)
            .ok_or(CardError::Roles { found: card.roles })?;
        let key = |text: &String| text.parse::<PublicKey>();
        let nodes = card
            .nodes
            .iter()
            .map(|n| {
                Ok(NodeEntry {
                    transport: key(&n.transport)?,
                    consensus: key(&n.consensus)?,
                    checkpoint: key(&n.checkpoint)?,
                    cosignature: key(&n.cosignature)?,
                    records: key(&n.records)?,
                    power: n.power,
                    consensus_addr: n.consensus_addr.clone(),
                    swarm_addr: n.swarm_addr.clone(),
                    http_url: n.http_url.clone(),
                })
            })
            .collect::<Result<_, ParseIdError>>()?;
        let card = Self {
            signer: key(&card.signed_by)?,
            signature: card.signature.parse()?,
            entry: MemberEntry {
                id: card.member_id.parse::<MemberId>()?,
                name: card.name,
                roles,
                admin_keys: card.admin_keys.iter().map(key).collect::<Result<_, _>>()?,
                nodes,
            },
        };
        card.verify()?;
        Ok(card)
    }

    /// The card's text; the same card gives the same text.
    ///
    /// # Errors
    /// [`CardError::Parse`] if a field cannot be written; a fault in this program.
    pub fn to_text(&self) -> Result<String, CardError> {
        let text = CardText {
            version: VERSION,
            name: self.entry.name.clone(),
            member_id: self.entry.id.to_string(),
            roles: self.entry.roles.names().map(ToOwned::to_owned).collect(),
            admin_keys: self
                .entry
                .admin_keys
                .iter()
                .map(ToString::to_string)
                .collect(),
            signed_by: self.signer.to_string(),
            signature: self.signature.to_string(),
            nodes: self
                .entry
                .nodes
                .iter()
                .map(|n| NodeText {
                    transport: n.transport.to_string(),
                    consensus: n.consensus.to_string(),
                    checkpoint: n.checkpoint.to_string(),
                    cosignature: n.cosignature.to_string(),
                    records: n.records.to_string(),
                    power: n.power,
                    consensus_addr: n.consensus_addr.clone(),
                    swarm_addr: n.swarm_addr.clone(),
                    http_url: n.http_url.clone(),
                })
                .collect(),
        };
        let body = toml::to_string(&text).map_err(|e| CardError::Parse {
            reason: e.to_string(),
        })?;
        Ok(format!(
            "# Member card of {}: public keys and addresses for a founding, nothing secret.\n\
             # Hand it to whoever draws up the genesis; compare member_id by telephone. A change breaks the signature.\n{body}",
            self.entry.name
        ))
    }
}
