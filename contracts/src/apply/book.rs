//! The members and rules as they are at one height, and what changes do to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::MAX_VALIDATORS;
use crate::codec::Canonical;
use crate::domains;
use crate::genesis::{MAX_MEMBERS, Rules};
use crate::ids::{KeyId, MemberId, PublicKey, Signature};
use crate::member::{MAX_ADMIN_KEYS, MAX_NODES, MemberEntry, NodeEntry};
use crate::records::{Change, KeyPurpose};
use crate::refusal::{ApplyError, Refusal};
use crate::signature::{Signed, verify_batch};
use crate::state::{self, KeyState, KeyUse, Overlay, RetiredKey, StateError, StateRead, keys};
use crate::validators::ValidatorSet;

/// Members, rules, and the keys that were retired on the way here.
#[derive(Clone)]
pub(super) struct Book {
    members: BTreeMap<MemberId, MemberEntry>,
    rules: Rules,
    retired: BTreeMap<PublicKey, RetiredKey>,
    /// Members that a change was for: the others were checked when they came.
    touched: BTreeSet<MemberId>,
}

impl Book {
    /// As the state has it.
    pub(super) fn read(state: &dyn StateRead) -> Result<Self, StateError> {
        let members = state::members(state)?;
        Ok(Self {
            members: members.into_iter().map(|m| (m.id, m)).collect(),
            rules: state::rules(state)?,
            retired: BTreeMap::new(),
            touched: BTreeSet::new(),
        })
    }

    pub(super) fn into_members(self) -> Vec<MemberEntry> {
        self.members.into_values().collect()
    }

    /// Carries out changes that are in force from a height on. After an error the book is worth nothing.
    pub(super) fn carry_out(
        &mut self,
        state: &dyn StateRead,
        changes: &[Change],
        from_height: u64,
    ) -> Result<(), ApplyError> {
        for change in changes {
            self.change(state, change, from_height)?;
        }
        self.check()?;
        Ok(())
    }

    fn change(
        &mut self,
        state: &dyn StateRead,
        change: &Change,
        from_height: u64,
    ) -> Result<(), ApplyError> {
        match change {
            Change::AdmitMember {
                entry,
                signer,
                signature,
            } => {
                check_card(entry, signer, signature)?;
                let known = state.get(&keys::member_name(&entry.name))?.is_some()
                    || self.members.values().any(|m| m.name == entry.name);
                if known {
                    return Err(Refusal::NameTaken {
                        name: entry.name.clone(),
                    }
                    .into());
                }
                for (_, key) in entry.keys() {
                    self.new_key(state, &key)?;
                }
                if self.members.len() >= MAX_MEMBERS {
                    return Err(full("members", self.members.len(), "at most 64").into());
                }
                self.touched.insert(entry.id);
                self.members.insert(entry.id, entry.clone());
            }
            Change::RemoveMember { member } => {
                let gone = self
                    .members
                    .remove(member)
                    .ok_or(Refusal::UnknownMember { member: *member })?;
                for key in &gone.admin_keys {
                    self.retire(gone.id, KeyPurpose::Admin, *key, from_height);
                }
                for node in &gone.nodes {
                    self.retire_node(gone.id, node, from_height);
                }
            }
            Change::SetPower {
                member,
                node,
                power,
            } => {
                let node = self.node(member, node)?;
                if node.power == *power {
                    return Err(Refusal::NoChange { what: "power" }.into());
                }
                node.power = *power;
            }
            Change::AddNode { member, node } => {
                for (_, key) in node.keys() {
                    self.new_key(state, &key)?;
                }
                let member = self.member(member)?;
                if member.nodes.len() >= MAX_NODES {
                    return Err(full("nodes", member.nodes.len(), "at most 8").into());
                }
                member.nodes.push(node.clone());
            }
            Change::RemoveNode { member, node } => {
                let gone = self.node(member, node)?.clone();
                let owner = self.member(member)?;
                if owner.nodes.len() == 1 {
                    return Err(Refusal::LastNode { member: *member }.into());
                }
                owner.nodes.retain(|n| n.transport != gone.transport);
                self.retire_node(*member, &gone, from_height);
            }
            Change::RotateKey {
                member,
                purpose,
                old,
                new,
            } => {
                self.new_key(state, new)?;
                let owner = self.member(member)?;
                let slot = slots(owner, *purpose).into_iter().find(|k| **k == *old);
                let slot = slot.ok_or(Refusal::KeyNotInForce {
                    member: *member,
                    purpose: *purpose,
                    key: *old,
                })?;
                *slot = *new;
                self.retire(*member, *purpose, *old, from_height);
            }
            Change::SetAddresses {
                member,
                node,
                consensus_addr,
                swarm_addr,
                http_url,
            } => {
                let node = self.node(member, node)?;
                let before = node.clone();
                node.consensus_addr.clone_from(consensus_addr);
                node.swarm_addr.clone_from(swarm_addr);
                node.http_url.clone_from(http_url);
                if *node == before {
                    return Err(Refusal::NoChange { what: "addresses" }.into());
                }
            }
            Change::AddAdminKey { member, key } => {
                self.new_key(state, key)?;
                let owner = self.member(member)?;
                if owner.admin_keys.len() >= MAX_ADMIN_KEYS {
                    let found = owner.admin_keys.len();
                    return Err(full("administrators' keys", found, "at most 8").into());
                }
                owner.admin_keys.push(*key);
            }
            Change::RemoveAdminKey { member, key } => {
                let owner = self.member(member)?;
                if !owner.admin_keys.contains(key) {
                    return Err(Refusal::KeyNotInForce {
                        member: *member,
                        purpose: KeyPurpose::Admin,
                        key: *key,
                    }
                    .into());
                }
                if owner.admin_keys.len() == 1 {
                    return Err(Refusal::LastAdminKey { member: *member }.into());
                }
                owner.admin_keys.retain(|k| k != key);
                self.retire(*member, KeyPurpose::Admin, *key, from_height);
            }
            Change::SetRulesVersion { version } => {
                let expected = self.rules.rules_version.saturating_add(1);
                if *version != expected {
                    return Err(Refusal::RulesVersion {
                        expected,
                        found: *version,
                    }
                    .into());
                }
                self.rules.rules_version = *version;
            }
            Change::SetParameters(p) => {
                let rules = Rules {
                    heartbeat_ms: p.heartbeat_ms,
                    max_block_bytes: p.max_block_bytes,
                    max_block_records: p.max_block_records,
                    max_skew_ms: p.max_skew_ms,
                    ..self.rules.clone()
                };
                if rules == self.rules {
                    return Err(Refusal::NoChange { what: "parameters" }.into());
                }
                rules.check_ranges().map_err(Refusal::from)?;
                self.rules = rules;
            }
        }
        Ok(())
    }

    /// What every network must have, whatever was changed.
    fn check(&self) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        let (mut validators, mut power) = (0_usize, 0_u64);
        for member in self.members.values() {
            if self.touched.contains(&member.id) {
                member.check_parts()?;
            }
            for (_, key) in member.keys() {
                if !seen.insert(key) {
                    return Err(Refusal::KeyTaken { key });
                }
            }
            for node in &member.nodes {
                validators += usize::from(node.power > 0);
                power = power.saturating_add(node.power);
            }
        }
        if power == 0 {
            return Err(Refusal::NoValidator);
        }
        if validators > MAX_VALIDATORS {
            return Err(full("validators", validators, "at most 128"));
        }
        Ok(())
    }

    /// Writes what differs from `before`.
    pub(super) fn write(&self, before: &Self, state: &mut Overlay<'_>) {
        for (key, retired) in &self.retired {
            state.put(keys::retired_key(key), retired);
        }
        for (id, member) in &self.members {
            if before.members.get(id) == Some(member) {
                continue;
            }
            if !before.members.contains_key(id) {
                state.set(keys::member_name(&member.name), Some(id.0.to_vec()));
            }
            state.put(keys::member(id), member);
        }
        for id in before.members.keys() {
            // Its name stays taken: cosignatures and reports carry it for ever.
            if !self.members.contains_key(id) {
                state.set(keys::member(id), None);
            }
        }
        let (old, new) = (before.signing_keys(), self.signing_keys());
        for ((member, key), _) in old.iter().filter(|(k, _)| !new.contains_key(*k)) {
            state.set(keys::signing_key(member, &KeyId::of(key)), None);
        }
        for ((member, key), key_use) in new.iter().filter(|(k, _)| !old.contains_key(*k)) {
            let value = KeyState {
                key: *key,
                key_use: *key_use,
                next_nonce: 0,
            };
            state.put(keys::signing_key(member, &KeyId::of(key)), &value);
        }
        if self.rules != before.rules {
            state.put(keys::rules(), &self.rules);
        }
        let sets = [before, self].map(|book| ValidatorSet::from_members(book.members.values()));
        if let [old, new] = sets
            && old != new
        {
            state.put(keys::validators(), &new);
        }
    }

    fn signing_keys(&self) -> BTreeMap<(MemberId, PublicKey), KeyUse> {
        self.members
            .values()
            .flat_map(|m| {
                let admin = m.admin_keys.iter().map(|k| ((m.id, *k), KeyUse::Admin));
                let records = m.nodes.iter().map(|n| ((m.id, n.records), KeyUse::Records));
                admin.chain(records)
            })
            .collect()
    }

    fn member(&mut self, id: &MemberId) -> Result<&mut MemberEntry, Refusal> {
        self.touched.insert(*id);
        self.members
            .get_mut(id)
            .ok_or(Refusal::UnknownMember { member: *id })
    }

    fn node(&mut self, member: &MemberId, node: &PublicKey) -> Result<&mut NodeEntry, Refusal> {
        self.member(member)?
            .nodes
            .iter_mut()
            .find(|n| n.transport == *node)
            .ok_or(Refusal::KeyNotInForce {
                member: *member,
                purpose: KeyPurpose::Transport,
                key: *node,
            })
    }

    /// Refuses a key that is in force or was once.
    fn new_key(&self, state: &dyn StateRead, key: &PublicKey) -> Result<(), ApplyError> {
        let in_force = self
            .members
            .values()
            .any(|m| m.keys().any(|(_, k)| k == *key));
        if in_force || self.retired.contains_key(key) || state::retired_key(state, key)?.is_some() {
            return Err(Refusal::KeyTaken { key: *key }.into());
        }
        Ok(())
    }

    fn retire(&mut self, member: MemberId, purpose: KeyPurpose, key: PublicKey, from_height: u64) {
        let retired = RetiredKey {
            member,
            purpose,
            from_height,
        };
        self.retired.insert(key, retired);
    }

    fn retire_node(&mut self, member: MemberId, node: &NodeEntry, from_height: u64) {
        for (purpose, key) in [
            (KeyPurpose::Transport, node.transport),
            (KeyPurpose::Consensus, node.consensus),
            (KeyPurpose::Checkpoint, node.checkpoint),
            (KeyPurpose::Cosignature, node.cosignature),
            (KeyPurpose::Records, node.records),
        ] {
            self.retire(member, purpose, key, from_height);
        }
    }
}

/// The places of a member's keys for one purpose.
fn slots(member: &mut MemberEntry, purpose: KeyPurpose) -> Vec<&mut PublicKey> {
    let nodes = member.nodes.iter_mut();
    match purpose {
        KeyPurpose::Admin => member.admin_keys.iter_mut().collect(),
        KeyPurpose::Transport => nodes.map(|n| &mut n.transport).collect(),
        KeyPurpose::Consensus => nodes.map(|n| &mut n.consensus).collect(),
        KeyPurpose::Checkpoint => nodes.map(|n| &mut n.checkpoint).collect(),
        KeyPurpose::Cosignature => nodes.map(|n| &mut n.cosignature).collect(),
        KeyPurpose::Records => nodes.map(|n| &mut n.records).collect(),
    }
}

fn full(what: &'static str, found: usize, expected: &'static str) -> Refusal {
    Refusal::Terms {
        what,
        found: found as u64,
        expected,
    }
}

/// A card is right if one of the administrators that it names has signed it: whoever is admitted holds that key.
fn check_card(
    entry: &MemberEntry,
    signer: &PublicKey,
    signature: &Signature,
) -> Result<(), Refusal> {
    entry.check()?;
    let item = Signed {
        key: *signer,
        message: [domains::MEMBER_CARD, &entry.to_bytes()].concat(),
        signature: *signature,
    };
    if entry.admin_keys.contains(signer) && verify_batch(&[item]) == [true] {
        Ok(())
    } else {
        Err(Refusal::Card {
            name: entry.name.clone(),
        })
    }
}
