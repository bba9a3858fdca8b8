//! The validators, and what makes a certificate of theirs good.

use crate::block::{CommitCertificate, MAX_VALIDATORS, VoteType, vote_sign_bytes};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::error::Error;
use crate::genesis::{Genesis, MAX_ADDRESS, MAX_MEMBER_NAME, MAX_POWER};
use crate::ids::{MemberId, NetworkId, PublicKey};
use crate::member::MemberEntry;
use crate::signature::{Signed, verify_batch};

const VERSION: u8 = 1;

/// A member's node that votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    /// Signs votes.
    pub consensus: PublicKey,
    /// Its power, at least 1.
    pub power: u64,
    /// Its member.
    pub member: MemberId,
    /// The member's name, part of the name of the cosignature key.
    pub member_name: String,
    /// Cosigns checkpoints.
    pub cosignature: PublicKey,
    /// Signs checkpoints.
    pub checkpoint: PublicKey,
    /// Identity on the member swarm.
    pub transport: PublicKey,
    /// Multiaddr of its consensus port.
    pub consensus_addr: String,
    /// Multiaddr of its member swarm.
    pub swarm_addr: String,
}

/// All validators of one height, ascending by consensus key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorSet {
    validators: Vec<Validator>,
}

impl ValidatorSet {
    /// The nodes of a genesis that vote.
    #[must_use]
    pub fn from_genesis(genesis: &Genesis) -> Self {
        Self::from_members(&genesis.members)
    }

    /// The nodes of these members that vote.
    #[must_use]
    pub fn from_members<'a>(members: impl IntoIterator<Item = &'a MemberEntry>) -> Self {
        let mut validators: Vec<_> = members
            .into_iter()
            .flat_map(|m| m.nodes.iter().map(move |n| (m, n)))
            .filter(|(_, n)| n.power > 0)
            .map(|(m, n)| Validator {
                consensus: n.consensus,
                power: n.power,
                member: m.id,
                member_name: m.name.clone(),
                cosignature: n.cosignature,
                checkpoint: n.checkpoint,
                transport: n.transport,
                consensus_addr: n.consensus_addr.clone(),
                swarm_addr: n.swarm_addr.clone(),
            })
            .collect();
        validators.sort_by_key(|v| v.consensus);
        Self { validators }
    }

    /// The validators, ascending by consensus key.
    #[must_use]
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// The validator of a consensus key.
    #[must_use]
    pub fn get(&self, consensus: &PublicKey) -> Option<&Validator> {
        self.validators
            .binary_search_by_key(consensus, |v| v.consensus)
            .ok()
            .and_then(|i| self.validators.get(i))
    }

    /// The sum of all powers.
    #[must_use]
    pub fn total_power(&self) -> u64 {
        // At most 128 validators of at most 2^32 each: it cannot overflow.
        self.validators.iter().map(|v| v.power).sum()
    }

    /// The least power that is more than two thirds of all.
    #[must_use]
    pub fn quorum_power(&self) -> u64 {
        self.total_power() * 2 / 3 + 1
    }

    /// Whether a power is more than two thirds of all.
    #[must_use]
    pub fn is_quorum(&self, power: u64) -> bool {
        power >= self.quorum_power()
    }
}

impl Canonical for ValidatorSet {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).list(&self.validators, |w, v| {
            w.raw(&v.consensus.0)
                .u64(v.power)
                .raw(&v.member.0)
                .text(&v.member_name)
                .raw(&v.cosignature.0)
                .raw(&v.checkpoint.0)
                .raw(&v.transport.0)
                .text(&v.consensus_addr)
                .text(&v.swarm_addr);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("validator set version", VERSION)?;
        let validators = r.list("validators", MAX_VALIDATORS, |r| {
            let consensus = PublicKey(r.array("consensus key")?);
            let power = r.u64("power")?;
            if !(1..=MAX_POWER).contains(&power) {
                return Err(CodecError::Invalid {
                    what: "power",
                    found: power,
                });
            }
            Ok(Validator {
                consensus,
                power,
                member: MemberId(r.array("member ID")?),
                member_name: r.text("member name", MAX_MEMBER_NAME)?,
                cosignature: PublicKey(r.array("cosignature key")?),
                checkpoint: PublicKey(r.array("checkpoint key")?),
                transport: PublicKey(r.array("transport key")?),
                consensus_addr: r.text("consensus address", MAX_ADDRESS)?,
                swarm_addr: r.text("swarm address", MAX_ADDRESS)?,
            })
        })?;
        if !validators.is_sorted_by(|a, b| a.consensus < b.consensus) {
            return Err(CodecError::Invalid {
                what: "validator order",
                found: validators.len() as u64,
            });
        }
        Ok(Self { validators })
    }
}

impl CommitCertificate {
    /// Checks that validators with more than two thirds of the power signed precommits for the block. Every signature in the
    /// certificate must be by a validator of the set, none twice, and right by ZIP-215.
    ///
    /// # Errors
    /// [`Error::Signer`], [`Error::Duplicate`], [`Error::Quorum`], [`Error::Signature`].
    pub fn verify(&self, set: &ValidatorSet, network: &NetworkId) -> Result<(), Error> {
        let message = vote_sign_bytes(
            network,
            self.height,
            self.round,
            VoteType::Precommit,
            Some(&self.block),
        );
        let mut power = 0_u64;
        let mut last = None;
        for s in &self.signatures {
            if last.is_some_and(|key| key >= s.validator) {
                return Err(Error::Duplicate {
                    what: "validator",
                    found: s.validator.to_string(),
                });
            }
            last = Some(s.validator);
            let validator = set.get(&s.validator).ok_or(Error::Signer {
                what: "certificate",
                key: s.validator,
            })?;
            power = power.saturating_add(validator.power);
        }
        if !set.is_quorum(power) {
            return Err(Error::Quorum {
                expected: set.quorum_power(),
                found: power,
                total: set.total_power(),
            });
        }
        let items: Vec<_> = self
            .signatures
            .iter()
            .map(|s| Signed {
                key: s.validator,
                message: message.clone(),
                signature: s.signature,
            })
            .collect();
        match items
            .iter()
            .zip(verify_batch(&items))
            .find(|(_, right)| !right)
        {
            None => Ok(()),
            Some((item, _)) => Err(Error::Signature {
                what: "certificate",
                key: item.key,
            }),
        }
    }
}
