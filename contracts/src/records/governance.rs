//! Governance: what members change about the network itself, by proposals and votes.

use std::fmt;

use super::BODY_VERSION;
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::ids::{ChangeId, MemberId, PublicKey, RecordId, Signature};
use crate::member::{MAX_ADDRESS, MAX_URL, MemberEntry, NodeEntry};

/// The most changes in one proposal; they come into force together or not at all.
pub const MAX_CHANGES: usize = 16;
/// The longest text that says why, in bytes.
pub const MAX_WHY: usize = 256;
/// The most blocks between the one that passes a proposal and the first one under it.
pub const MAX_DELAY_BLOCKS: u32 = 10_000_000;
/// How long votes may be taken, in milliseconds: 90 days.
pub const MAX_VOTING_MS: u64 = 90 * 86_400_000;

macro_rules! key_uses {
    ($($(#[$meta:meta])* $name:ident = $code:literal $word:literal),+ $(,)?) => {
        /// What one of a member's public keys is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum KeyPurpose { $($(#[$meta])* $name,)+ }

        impl KeyPurpose {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The number in records.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)+ }
            }

            /// The word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The purpose of one word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|p| p.name() == word)
            }
        }

        impl Canonical for KeyPurpose {
            fn write(&self, w: &mut Writer) {
                w.u8(self.code());
            }

            fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
                match r.u8("key purpose")? {
                    $($code => Ok(Self::$name),)+
                    found => Err(CodecError::Invalid { what: "key purpose", found: found.into() }),
                }
            }
        }
    };
}

key_uses! {
    /// Identity on both swarms.
    Transport = 1 "transport",
    /// Signs votes and proposals.
    Consensus = 2 "consensus",
    /// Signs checkpoints.
    Checkpoint = 3 "checkpoint",
    /// Cosigns checkpoints.
    Cosignature = 4 "cosignature",
    /// Signs records.
    Records = 5 "records",
    /// Signs governance and agreements.
    Admin = 6 "admin",
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rules that members may change without a new version of the contracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// As [`crate::Rules::heartbeat_ms`].
    pub heartbeat_ms: u64,
    /// As [`crate::Rules::max_block_bytes`].
    pub max_block_bytes: u32,
    /// As [`crate::Rules::max_block_records`].
    pub max_block_records: u32,
    /// As [`crate::Rules::max_skew_ms`].
    pub max_skew_ms: u64,
}

/// One change. A node is named by its present transport key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Code 1: a new member, by its card: the entry, and the signature over `tally/member-card/v1` LF || entry by one of the
    /// administrators that the entry names.
    AdmitMember {
        /// The member.
        entry: MemberEntry,
        /// One of its administrators' keys.
        signer: PublicKey,
        /// Its signature.
        signature: Signature,
    },
    /// Code 2: a member leaves, with its nodes and keys.
    RemoveMember {
        /// The member.
        member: MemberId,
    },
    /// Code 3: a node's voting power; 0 takes it out of the validators.
    SetPower {
        /// Its member.
        member: MemberId,
        /// The node.
        node: PublicKey,
        /// The power from then on.
        power: u64,
    },
    /// Code 4: one more node of a member.
    AddNode {
        /// The member.
        member: MemberId,
        /// The node.
        node: NodeEntry,
    },
    /// Code 5: a node of a member that has others leaves.
    RemoveNode {
        /// The member.
        member: MemberId,
        /// The node.
        node: PublicKey,
    },
    /// Code 6: one key in the place of another: a rotation, or the replacement of a lost key.
    RotateKey {
        /// The member.
        member: MemberId,
        /// What the key is for.
        purpose: KeyPurpose,
        /// The key in force.
        old: PublicKey,
        /// The key from then on; never used before in the network.
        new: PublicKey,
    },
    /// Code 7: where a node is reached.
    SetAddresses {
        /// Its member.
        member: MemberId,
        /// The node.
        node: PublicKey,
        /// As [`NodeEntry::consensus_addr`].
        consensus_addr: String,
        /// As [`NodeEntry::swarm_addr`].
        swarm_addr: String,
        /// As [`NodeEntry::http_url`].
        http_url: String,
    },
    /// Code 8: one more administrator's key of a member.
    AddAdminKey {
        /// The member.
        member: MemberId,
        /// The key.
        key: PublicKey,
    },
    /// Code 9: one administrator's key less, of a member that has others.
    RemoveAdminKey {
        /// The member.
        member: MemberId,
        /// The key.
        key: PublicKey,
    },
    /// Code 10: the next version of the contracts. A program that does not know it stops at that height.
    SetRulesVersion {
        /// One more than the version in force.
        version: u32,
    },
    /// Code 11: heartbeat, bounds of blocks, clock skew.
    SetParameters(Parameters),
}

impl Change {
    /// The words for it, as in `remove member`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AdmitMember { .. } => "admit member",
            Self::RemoveMember { .. } => "remove member",
            Self::SetPower { .. } => "set power",
            Self::AddNode { .. } => "add node",
            Self::RemoveNode { .. } => "remove node",
            Self::RotateKey { .. } => "rotate key",
            Self::SetAddresses { .. } => "set addresses",
            Self::AddAdminKey { .. } => "add administrator's key",
            Self::RemoveAdminKey { .. } => "remove administrator's key",
            Self::SetRulesVersion { .. } => "set rules version",
            Self::SetParameters(_) => "set parameters",
        }
    }
}

impl Canonical for Change {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::AdmitMember {
                entry,
                signer,
                signature,
            } => {
                entry.write(w.u8(1));
                w.raw(&signer.0).raw(&signature.0);
            }
            Self::RemoveMember { member } => {
                w.u8(2).raw(&member.0);
            }
            Self::SetPower {
                member,
                node,
                power,
            } => {
                w.u8(3).raw(&member.0).raw(&node.0).u64(*power);
            }
            Self::AddNode { member, node } => {
                node.write(w.u8(4).raw(&member.0));
            }
            Self::RemoveNode { member, node } => {
                w.u8(5).raw(&member.0).raw(&node.0);
            }
            Self::RotateKey {
                member,
                purpose,
                old,
                new,
            } => {
                purpose.write(w.u8(6).raw(&member.0));
                w.raw(&old.0).raw(&new.0);
            }
            Self::SetAddresses {
                member,
                node,
                consensus_addr,
                swarm_addr,
                http_url,
            } => {
                w.u8(7)
                    .raw(&member.0)
                    .raw(&node.0)
                    .text(consensus_addr)
                    .text(swarm_addr)
                    .text(http_url);
            }
            Self::AddAdminKey { member, key } => {
                w.u8(8).raw(&member.0).raw(&key.0);
            }
            Self::RemoveAdminKey { member, key } => {
                w.u8(9).raw(&member.0).raw(&key.0);
            }
            Self::SetRulesVersion { version } => {
                w.u8(10).u32(*version);
            }
            Self::SetParameters(p) => {
                w.u8(11)
                    .u64(p.heartbeat_ms)
                    .u32(p.max_block_bytes)
                    .u32(p.max_block_records)
                    .u64(p.max_skew_ms);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let code = r.u8("change")?;
        if code == 1 {
            return Ok(Self::AdmitMember {
                entry: MemberEntry::read(r)?,
                signer: PublicKey(r.array("card's signer")?),
                signature: Signature(r.array("card's signature")?),
            });
        }
        if code == 10 {
            return Ok(Self::SetRulesVersion {
                version: r.u32("rules version")?,
            });
        }
        if code == 11 {
            return Ok(Self::SetParameters(Parameters {
                heartbeat_ms: r.u64("heartbeat")?,
                max_block_bytes: r.u32("block bytes")?,
                max_block_records: r.u32("block records")?,
                max_skew_ms: r.u64("clock skew")?,
            }));
        }
        if !(2..=9).contains(&code) {
            return Err(CodecError::Invalid {
                what: "change",
                found: code.into(),
            });
        }
        let member = MemberId(r.array("member ID")?);
        let key = |r: &mut Reader<'_>, what| Ok::<_, CodecError>(PublicKey(r.array(what)?));
        Ok(match code {
            2 => Self::RemoveMember { member },
            3 => Self::SetPower {
                member,
                node: key(r, "node")?,
                power: r.u64("power")?,
            },
            4 => Self::AddNode {
                member,
                node: NodeEntry::read(r)?,
            },
            5 => Self::RemoveNode {
                member,
                node: key(r, "node")?,
            },
            6 => Self::RotateKey {
                member,
                purpose: KeyPurpose::read(r)?,
                old: key(r, "old key")?,
                new: key(r, "new key")?,
            },
            7 => Self::SetAddresses {
                member,
                node: key(r, "node")?,
                consensus_addr: r.text("consensus address", MAX_ADDRESS)?,
                swarm_addr: r.text("swarm address", MAX_ADDRESS)?,
                http_url: r.text("http url", MAX_URL)?,
            },
            8 => Self::AddAdminKey {
                member,
                key: key(r, "administrator's key")?,
            },
            _ => Self::RemoveAdminKey {
                member,
                key: key(r, "administrator's key")?,
            },
        })
    }
}

/// Kind 50: proposes changes; the proposal's ID is this record's ID, and its proposer has voted for it by this. Signed by an
/// administrator of any member. It passes with the votes of more than two thirds of the members, one each whatever their power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposeChange {
    /// 1 to 16 changes, carried out in this order, all or none.
    pub changes: Vec<Change>,
    /// Blocks between the one that passes it and the first one under it: 0 is the very next block.
    pub delay_blocks: u32,
    /// Votes are taken until then, POSIX milliseconds; at most 90 days ahead.
    pub expires_ms: u64,
    /// Why, for the other administrators; may be empty, at most 256 bytes.
    pub why: String,
}

impl Canonical for ProposeChange {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION)
            .list(&self.changes, |w, c| c.write(w))
            .u32(self.delay_blocks)
            .u64(self.expires_ms)
            .text(&self.why);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        let changes = r.list("changes", MAX_CHANGES, Change::read)?;
        if changes.is_empty() {
            return Err(CodecError::Invalid {
                what: "changes",
                found: 0,
            });
        }
        Ok(Self {
            changes,
            delay_blocks: r.u32("delay")?,
            expires_ms: r.u64("expiry")?,
            why: r.text("reason", MAX_WHY)?,
        })
    }
}

/// Kind 51: a member's one vote on a proposal. The proposer's vote against it withdraws it. Signed by an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// The proposal.
    pub change: ChangeId,
    /// For it, or against.
    pub approve: bool,
}

impl Canonical for Vote {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION).raw(&self.change.0).bool(self.approve);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            change: RecordId(r.array("proposal")?),
            approve: r.bool("vote")?,
        })
    }
}
