//! The members of a network as a verifier takes them: those of the genesis, or, where members have changed the network since, as
//! they are after a replay.

use tally_contracts::block::MAX_ENTRY_BYTES;
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::envelope::Signer;
use tally_contracts::genesis::{MAX_MEMBER_NAME, MAX_MEMBERS};
use tally_contracts::ids::{KeyId, MemberId, NetworkId, PublicKey};
use tally_contracts::records::KeyPurpose;
use tally_contracts::state::{self, KeyUse, RetiredKey, StateError, StateRead, keys};
use tally_contracts::{Genesis, MemberEntry, NodeEntry, ValidatorSet};

const VERSION: u8 = 1;
/// The most keys of the past that a file may have.
pub(crate) const MAX_PAST: usize = 65_536;
/// The longest file, in bytes.
pub const MAX_ROSTER_BYTES: usize = MAX_ENTRY_BYTES * 128;

/// A key that signed records once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastKey {
    /// Whose it was.
    pub member: MemberId,
    /// Its member's name; empty if nothing says it any more.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// What it was for.
    pub purpose: KeyPurpose,
}

/// Members, their keys, and the keys of the past.
///
/// It is worth as much as where it comes from. One made of a genesis is as good as the network ID; one that a replay made is as good
/// as the replay, which knows the changes by the signatures of those who passed them, and cannot know whether it was given all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// The network.
    pub network: NetworkId,
    /// The height of the block after which they are so; 0 for those of the genesis.
    pub height: u64,
    /// The members, ascending by ID.
    pub members: Vec<MemberEntry>,
    /// Keys that are no longer in force.
    pub past: Vec<PastKey>,
}

impl Roster {
    /// The founders.
    #[must_use]
    pub fn of_genesis(genesis: &Genesis) -> Self {
        Self {
            network: genesis.network_id(),
            height: 0,
            members: genesis.members.clone(),
            past: Vec::new(),
        }
    }

    /// As the state after the block of a height has them.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn of_state(state: &dyn StateRead, height: u64) -> Result<Self, StateError> {
        let names: Vec<(String, Vec<u8>)> = state
            .scan(keys::MEMBER_NAME.as_bytes())?
            .into_iter()
            .filter_map(|(key, id)| {
                let name = key.get(keys::MEMBER_NAME.len()..)?.to_vec();
                Some((String::from_utf8(name).ok()?, id))
            })
            .collect();
        let mut past = Vec::new();
        for (key, value) in state.scan(keys::RETIRED_KEY.as_bytes())? {
            let damaged = |source| StateError::Damaged {
                key: keys::show(&key),
                source,
            };
            let retired = RetiredKey::from_bytes(&value).map_err(damaged)?;
            let Some(public) = key
                .get(keys::RETIRED_KEY.len()..)
                .and_then(|k| <[u8; 32]>::try_from(k).ok())
            else {
                continue;
            };
            let name = names
                .iter()
                .find(|(_, id)| *id == retired.member.0)
                .map(|(name, _)| name.clone());
            past.push(PastKey {
                member: retired.member,
                name: name.unwrap_or_default(),
                key: PublicKey(public),
                purpose: retired.purpose,
            });
        }
        Ok(Self {
            network: state::network_info(state)?.network,
            height,
            members: state::members(state)?,
            past,
        })
    }

    /// The validators among their nodes.
    #[must_use]
    pub fn validators(&self) -> ValidatorSet {
        ValidatorSet::from_members(&self.members)
    }

    /// A member.
    #[must_use]
    pub fn member(&self, id: &MemberId) -> Option<&MemberEntry> {
        self.members.iter().find(|m| m.id == *id)
    }

    /// The name of a member, of now or of before.
    #[must_use]
    pub fn name(&self, id: &MemberId) -> Option<&str> {
        self.member(id).map(|m| m.name.as_str()).or_else(|| {
            let gone = self.past.iter().find(|p| p.member == *id)?;
            Some(gone.name.as_str())
        })
    }

    /// The same, or its ID if it has none here.
    pub(crate) fn name_or_id(&self, id: &MemberId) -> String {
        self.name(id)
            .map_or_else(|| id.to_string(), ToOwned::to_owned)
    }

    /// The member whose node has this key for checkpoints.
    #[must_use]
    pub fn by_checkpoint_key(&self, key: &PublicKey) -> Option<&MemberEntry> {
        let has = |n: &NodeEntry| n.checkpoint == *key;
        self.members.iter().find(|m| m.nodes.iter().any(has))
    }

    /// The keys with which nodes of a member sign or signed records.
    #[must_use]
    pub fn record_keys(&self, member: &MemberEntry) -> Vec<PublicKey> {
        let past = self
            .past
            .iter()
            .filter(|p| p.member == member.id && p.purpose == KeyPurpose::Records);
        let now = member.nodes.iter().map(|n| n.records);
        now.chain(past.map(|p| p.key)).collect()
    }

    /// The key that a signer names, in force now or once.
    #[must_use]
    pub fn signing_key(&self, signer: &Signer) -> Option<(PublicKey, KeyUse)> {
        let now = self.member(&signer.member).into_iter().flat_map(|m| {
            let records = m.nodes.iter().map(|n| (n.records, KeyUse::Records));
            records.chain(m.admin_keys.iter().map(|k| (*k, KeyUse::Admin)))
        });
        let past = self
            .past
            .iter()
            .filter(|p| p.member == signer.member)
            .filter_map(|p| match p.purpose {
                KeyPurpose::Records => Some((p.key, KeyUse::Records)),
                KeyPurpose::Admin => Some((p.key, KeyUse::Admin)),
                _ => None,
            });
        now.chain(past)
            .find(|(key, _)| KeyId::of(key) == signer.key)
    }
}

impl Canonical for Roster {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .raw(&self.network.0)
            .u64(self.height)
            .list(&self.members, |w, m| m.write(w))
            .list(&self.past, |w, p| {
                w.raw(&p.member.0).text(&p.name).raw(&p.key.0);
                p.purpose.write(w);
            });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("members file version", VERSION)?;
        Ok(Self {
            network: NetworkId(r.array("network")?),
            height: r.u64("height")?,
            members: r.list("members", MAX_MEMBERS, MemberEntry::read)?,
            past: r.list("keys of the past", MAX_PAST, |r| {
                Ok(PastKey {
                    member: MemberId(r.array("member ID")?),
                    name: r.text("member name", MAX_MEMBER_NAME)?,
                    key: PublicKey(r.array("key")?),
                    purpose: KeyPurpose::read(r)?,
                })
            })?,
        })
    }
}

#[cfg(test)]
mod tests {
    use tally_contracts::genesis_effects;
    use tally_contracts::state::{MemoryState, Overlay};

    use super::*;
    use crate::policy::tests::{genesis, key};
    use crate::policy::{network_policy, policy_of};

    #[test]
    fn a_roster_follows_the_state_and_keeps_the_keys_of_before() {
        let genesis = genesis(&[("a", &[10]), ("b", &[1]), ("c", &[1]), ("d", &[1])]);
        let mut state = MemoryState::new();
        state.apply(genesis_effects(&genesis));
        let founders = Roster::of_genesis(&genesis);
        assert_eq!(Roster::of_state(&state, 0).unwrap(), founders);
        let policy = |r: &Roster| policy_of(&r.network, &r.members, &r.validators()).unwrap();
        assert_eq!(policy(&founders), network_policy(&genesis).unwrap());

        // One member has another records key, another one is gone.
        let mut changed = genesis.members.clone();
        let gone = changed.pop().unwrap();
        let old = changed[0].nodes[0].records;
        changed[0].nodes[0].records = PublicKey::from(&key(250));
        let mut overlay = Overlay::new(&state);
        overlay.put(keys::member(&changed[0].id), &changed[0]);
        overlay.set(keys::member(&gone.id), None);
        for (member, purpose, key) in [
            (changed[0].id, KeyPurpose::Records, old),
            (gone.id, KeyPurpose::Admin, gone.admin_keys[0]),
        ] {
            let retired = RetiredKey {
                member,
                purpose,
                from_height: 5,
            };
            overlay.put(keys::retired_key(&key), &retired);
        }
        let effects = overlay.into_effects();
        state.apply(effects);
        let roster = Roster::of_state(&state, 7).unwrap();
        assert_eq!((roster.height, &roster.members), (7, &changed));
        assert_ne!(policy(&roster), policy(&founders));
        assert_eq!(roster.name(&gone.id), Some(gone.name.as_str()));
        let signer = |member, key: &PublicKey| Signer::new(member, key, 0);
        for (key, key_use) in [
            (old, KeyUse::Records),
            (changed[0].nodes[0].records, KeyUse::Records),
            (changed[0].admin_keys[0], KeyUse::Admin),
        ] {
            let found = roster.signing_key(&signer(changed[0].id, &key));
            assert_eq!(found, Some((key, key_use)));
        }
        let theirs = signer(gone.id, &gone.admin_keys[0]);
        assert!(roster.signing_key(&theirs).is_some());
        assert!(roster.signing_key(&signer(gone.id, &old)).is_none());
        assert_eq!(roster.record_keys(&changed[0]).len(), 2);

        let bytes = roster.to_bytes();
        assert_eq!(Roster::from_bytes(&bytes).unwrap(), roster);
        for cut in 0..bytes.len() {
            assert!(Roster::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
