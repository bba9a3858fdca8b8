//! From the genesis to the members of today, within a proof: for networks whose validators or keys have changed.
//!
//! Validators are followed by handovers (`tally_contracts::handover`) up to one block, and members and keys are proven in the state after it.
//! A list that leaves out a member with no vote, or a key of the past, proves less, never anything wrong: what is missing is refused as
//! unknown. All validators must be among the members, with just the keys and powers that the handovers say.

use tally_contracts::block::{CommitCertificate, Header};
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::genesis::{MAX_MEMBER_NAME, MAX_MEMBERS};
use tally_contracts::handover::{
    Handover, MAX_CERTIFICATE_BYTES, MAX_HANDOVERS, MAX_HEADER_BYTES, NotFollowed, follow,
};
use tally_contracts::ids::PublicKey;
use tally_contracts::state::{RetiredKey, keys};
use tally_contracts::{Genesis, MemberEntry, StateProof, ValidatorSet};

use crate::Error;
use crate::extra::StateValue;
use crate::roster::{MAX_PAST, PastKey, Roster};

/// The longest handover: it travels in an extra.
const MAX_HANDOVER_BYTES: usize = 512 * 1024;

/// A key of the past as the state holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastValue {
    /// The key.
    pub key: PublicKey,
    /// Whose it was, and what for.
    pub retired: StateValue,
    /// The name of its member, if that one is no member any more, and the proof of it.
    pub name: Option<(String, StateProof)>,
}

/// How members came to be those of a block. Nothing in it is trusted before [`Following::roster`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    /// The blocks at which validators changed, up to the block.
    pub trail: Vec<Handover>,
    /// The block.
    pub header: Header,
    /// Precommits for it.
    pub certificate: CommitCertificate,
    /// The members after it, each a `member/` value, ascending by ID.
    pub members: Vec<StateValue>,
    /// Keys that were no longer in force after it, ascending.
    pub past: Vec<PastValue>,
}

impl Following {
    /// The members that follow from the genesis.
    ///
    /// # Errors
    /// [`Error::Following`].
    pub fn roster(&self, genesis: &Genesis) -> Result<Roster, Error> {
        let wrong = |reason: String| Error::Following { reason };
        let set =
            follow(genesis, &self.trail, &self.header, &self.certificate).map_err(|e| match e {
                NotFollowed::Handover(why) | NotFollowed::Block(why) => wrong(why),
            })?;
        let root = &self.header.state_root;
        let mut members: Vec<MemberEntry> = Vec::with_capacity(self.members.len());
        for shown in &self.members {
            let member = MemberEntry::from_bytes(&shown.value).map_err(|e| wrong(e.to_string()))?;
            if members.last().is_some_and(|last| last.id >= member.id) {
                return Err(wrong("the members are not in their order".into()));
            }
            shown
                .proof
                .verify(root, &keys::member(&member.id), Some(&shown.value))
                .map_err(|e| wrong(format!("member {}: {e}", member.id)))?;
            members.push(member);
        }
        if ValidatorSet::from_members(&members) != set {
            return Err(wrong(
                "the validators among the members are not those that the handovers name".into(),
            ));
        }
        let mut past: Vec<PastKey> = Vec::with_capacity(self.past.len());
        for shown in &self.past {
            if past.last().is_some_and(|last| last.key >= shown.key) {
                return Err(wrong("the keys of the past are not in their order".into()));
            }
            let retired =
                RetiredKey::from_bytes(&shown.retired.value).map_err(|e| wrong(e.to_string()))?;
            shown
                .retired
                .proof
                .verify(
                    root,
                    &keys::retired_key(&shown.key),
                    Some(&shown.retired.value),
                )
                .map_err(|e| wrong(format!("key {} of the past: {e}", shown.key)))?;
            if let Some((name, proof)) = &shown.name {
                proof
                    .verify(root, &keys::member_name(name), Some(&retired.member.0))
                    .map_err(|e| wrong(format!("the name {name}: {e}")))?;
            }
            past.push(PastKey {
                member: retired.member,
                name: shown
                    .name
                    .as_ref()
                    .map(|(n, _)| n.clone())
                    .unwrap_or_default(),
                key: shown.key,
                purpose: retired.purpose,
            });
        }
        Ok(Roster {
            network: genesis.network_id(),
            height: self.header.height,
            members,
            past,
        })
    }
}

impl Canonical for Following {
    fn write(&self, w: &mut Writer) {
        w.list(&self.trail, |w, handover| {
            w.bytes(&handover.to_bytes());
        })
        .bytes(&self.header.to_bytes())
        .bytes(&self.certificate.to_bytes())
        .list(&self.members, |w, m| m.write(w))
        .list(&self.past, |w, p| {
            w.raw(&p.key.0);
            p.retired.write(w);
            match &p.name {
                None => {
                    w.u8(0);
                }
                Some((name, proof)) => proof.write(w.u8(1).text(name)),
            }
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            trail: r.list("handovers", MAX_HANDOVERS, |r| {
                Handover::from_bytes(r.bytes("handover", MAX_HANDOVER_BYTES)?)
            })?,
            header: Header::from_bytes(r.bytes("header", MAX_HEADER_BYTES)?)?,
            certificate: CommitCertificate::from_bytes(
                r.bytes("certificate", MAX_CERTIFICATE_BYTES)?,
            )?,
            members: r.list("members", MAX_MEMBERS, StateValue::read)?,
            past: r.list("keys of the past", MAX_PAST, |r| {
                Ok(PastValue {
                    key: PublicKey(r.array("key")?),
                    retired: StateValue::read(r)?,
                    name: if r.bool("name present")? {
                        Some((
                            r.text("member name", MAX_MEMBER_NAME)?,
                            StateProof::read(r)?,
                        ))
                    } else {
                        None
                    },
                })
            })?,
        })
    }
}
