//! Governance: who may change what about the network, from which height on, and what is refused.

mod common;

use common::{NAMES, Net, code, key, public};
use ed25519_dalek::Signer as _;
use proptest::prelude::*;
use tally_contracts::ids::{ChangeId, KeyId, MemberId, PublicKey, Signature};
use tally_contracts::records::{
    AnchorScans, Change, KeyPurpose, MAX_VOTING_MS, Parameters, ProposeChange, Vote,
};
use tally_contracts::state::{self, ChangeStatus, MemoryState, StateRead, keys};
use tally_contracts::{
    Canonical, MemberEntry, NetworkKind, NodeEntry, Record, Refusal, Roles, StateTree,
    ValidatorSet, domains, execute_block, members_after,
};

fn net() -> Net {
    Net::new(NetworkKind::Test)
}

fn proposal(net: &Net, changes: Vec<Change>) -> ProposeChange {
    ProposeChange {
        changes,
        delay_blocks: 0,
        expires_ms: net.ctx.block_time_ms + 86_400_000,
        why: "test".into(),
    }
}

fn propose(net: &mut Net, by: &str, body: ProposeChange) -> Result<ChangeId, Refusal> {
    let record = net.record(body, &[(by, "admin")]);
    net.submit(&record).map(|()| record.id())
}

fn vote(net: &mut Net, by: &str, change: ChangeId, approve: bool) -> Result<(), Refusal> {
    net.by_admin(by, Vote { change, approve })
}

fn status(net: &Net, id: ChangeId) -> ChangeStatus {
    state::change(&net.state, &id).unwrap().unwrap().status
}

/// Passes changes with the votes of three of four, and ends the block.
fn pass(net: &mut Net, changes: Vec<Change>) -> Result<ChangeId, Refusal> {
    let body = proposal(net, changes);
    let id = propose(net, "brand", body)?;
    vote(net, "platform", id, true)?;
    assert_eq!(status(net, id), ChangeStatus::Open);
    vote(net, "media", id, true)?;
    assert_eq!(status(net, id), ChangeStatus::Passed);
    net.end_block();
    assert_eq!(status(net, id), ChangeStatus::InForce);
    Ok(id)
}

/// The refusal of a proposal of these changes.
fn refused(net: &mut Net, changes: Vec<Change>) -> &'static str {
    let body = proposal(net, changes);
    code(propose(net, "brand", body))
}

fn set(net: &Net) -> ValidatorSet {
    state::validators(&net.state).unwrap()
}

fn entry(net: &Net, name: &str) -> MemberEntry {
    state::member(&net.state, &net.member(name))
        .unwrap()
        .unwrap()
}

fn admit(entry: MemberEntry, signer: &str) -> Change {
    let message = [domains::MEMBER_CARD, &entry.to_bytes()].concat();
    Change::AdmitMember {
        entry,
        signer: public(signer, "admin"),
        signature: Signature(key(signer, "admin").sign(&message).to_bytes()),
    }
}

fn power(net: &Net, name: &str, power: u64) -> Change {
    Change::SetPower {
        member: net.member(name),
        node: public(name, "transport"),
        power,
    }
}

fn rotate(net: &Net, name: &str, purpose: KeyPurpose, new: PublicKey) -> Change {
    Change::RotateKey {
        member: net.member(name),
        purpose,
        old: public(name, purpose.name()),
        new,
    }
}

fn anchor(log_id: u16) -> AnchorScans {
    AnchorScans {
        log_id,
        size: 1,
        root: tally_merkle::Hash([1; 32]),
        consistency: Vec::new(),
    }
}

#[test]
fn a_change_passes_with_more_than_two_thirds_of_the_members_and_not_before() {
    let mut net = net();
    let before = set(&net);
    let body = proposal(&net, vec![power(&net, "media", 9)]);
    let id = propose(&mut net, "brand", body).unwrap();
    vote(&mut net, "platform", id, true).unwrap();
    net.end_block();
    assert_eq!(status(&net, id), ChangeStatus::Open);
    assert_eq!(set(&net), before);
    vote(&mut net, "auditor", id, true).unwrap();
    // The block that passes it is still the old validators'.
    assert_eq!(set(&net), before);
    let height = net.ctx.height;
    net.end_block();
    assert_eq!(set(&net).total_power(), 12);
    let found = state::change(&net.state, &id).unwrap().unwrap();
    assert_eq!(found.status, ChangeStatus::InForce);
    assert_eq!(
        (found.decided_height, found.from_height),
        (height, height + 1)
    );
    assert_eq!(code(vote(&mut net, "media", id, true)), "change_status");
}

#[test]
fn votes_count_once_and_end() {
    let mut net = net();
    let body = proposal(&net, vec![power(&net, "media", 9)]);
    let id = propose(&mut net, "brand", body.clone()).unwrap();
    assert_eq!(code(vote(&mut net, "brand", id, true)), "already_voted");
    vote(&mut net, "platform", id, true).unwrap();
    assert_eq!(code(vote(&mut net, "platform", id, true)), "already_voted");
    assert_eq!(code(vote(&mut net, "platform", id, false)), "already_voted");
    assert_eq!(
        code(vote(&mut net, "media", ChangeId::from(net_id()), true)),
        "unknown_change"
    );
    // Two of four against: three can no longer be for it.
    vote(&mut net, "media", id, false).unwrap();
    assert_eq!(status(&net, id), ChangeStatus::Open);
    vote(&mut net, "auditor", id, false).unwrap();
    assert_eq!(status(&net, id), ChangeStatus::Rejected);
    // Taken back by its proposer.
    let mut other = body.clone();
    other.why = "again".into();
    let id = propose(&mut net, "brand", other).unwrap();
    vote(&mut net, "brand", id, false).unwrap();
    assert_eq!(status(&net, id), ChangeStatus::Withdrawn);
    // Over.
    let mut late = body;
    late.why = "late".into();
    let id = propose(&mut net, "brand", late.clone()).unwrap();
    net.ctx.block_time_ms = late.expires_ms;
    assert_eq!(code(vote(&mut net, "media", id, true)), "change_expired");
    assert_eq!(code(propose(&mut net, "media", late.clone())), "terms");
    late.expires_ms = net.ctx.block_time_ms + MAX_VOTING_MS + 1;
    assert_eq!(code(propose(&mut net, "media", late)), "terms");
    // By a node's key it is nobody's vote.
    let body = proposal(&net, vec![power(&net, "media", 5)]);
    assert_eq!(code(net.by(&["brand"], body)), "key_use");
}

fn net_id() -> tally_contracts::ids::RecordId {
    tally_contracts::ids::RecordId([1; 32])
}

#[test]
fn a_member_is_admitted_by_its_card_and_leaves_with_its_keys() {
    let mut net = net();
    let fifth = common::entry("fifth", Roles::MEDIA, 1);
    let id = pass(&mut net, vec![admit(fifth.clone(), "fifth")]).unwrap();
    assert_eq!(set(&net).validators().len(), 5);
    assert_eq!(state::members(&net.state).unwrap().len(), 5);
    let found = state::member_by_name(&net.state, "fifth").unwrap().unwrap();
    assert_eq!(found, fifth);
    // Its keys sign from then on.
    let member = fifth.id;
    for key_use in ["admin", "records"] {
        let id = KeyId::of(&public("fifth", key_use));
        let key = state::key_state(&net.state, &member, &id).unwrap().unwrap();
        assert_eq!(key.next_nonce, 0);
    }
    assert_eq!(status(&net, id), ChangeStatus::InForce);
    // Five members: four votes are needed.
    let body = proposal(&net, vec![Change::RemoveMember { member }]);
    let id = propose(&mut net, "brand", body).unwrap();
    for name in ["platform", "media"] {
        vote(&mut net, name, id, true).unwrap();
    }
    assert_eq!(status(&net, id), ChangeStatus::Open);
    vote(&mut net, "auditor", id, true).unwrap();
    net.end_block();
    assert_eq!(set(&net).validators().len(), 4);
    assert!(state::member(&net.state, &member).unwrap().is_none());
    assert_eq!(
        state::member_by_name(&net.state, "fifth").unwrap(),
        None,
        "the name is kept, the member is gone"
    );
    for (_, key) in fifth.keys() {
        let retired = state::retired_key(&net.state, &key).unwrap().unwrap();
        assert_eq!(
            (retired.member, retired.from_height),
            (member, net.ctx.height)
        );
    }
    let id = KeyId::of(&public("fifth", "records"));
    assert!(
        state::key_state(&net.state, &member, &id)
            .unwrap()
            .is_none()
    );
    // Neither its name nor its keys come back.
    assert_eq!(
        refused(&mut net, vec![admit(fifth.clone(), "fifth")]),
        "name_taken"
    );
    let renamed = MemberEntry::new("sixth", Roles::MEDIA, fifth.admin_keys, fifth.nodes).unwrap();
    assert_eq!(
        refused(&mut net, vec![admit(renamed, "fifth")]),
        "key_taken"
    );
}

#[test]
fn admissions_that_are_refused() {
    let mut net = net();
    let fifth = common::entry("fifth", Roles::MEDIA, 1);
    // Signed by somebody else's administrator.
    assert_eq!(
        refused(&mut net, vec![admit(fifth.clone(), "brand")]),
        "card"
    );
    let Change::AdmitMember { signer, .. } = admit(fifth.clone(), "fifth") else {
        unreachable!()
    };
    let forged = Change::AdmitMember {
        entry: fifth.clone(),
        signer,
        signature: Signature([1; 64]),
    };
    assert_eq!(refused(&mut net, vec![forged]), "card");
    let mut other_id = fifth.clone();
    other_id.id = MemberId([9; 16]);
    assert_eq!(refused(&mut net, vec![admit(other_id, "fifth")]), "entry");
    let mut weak = fifth.clone();
    weak.nodes[0].records = PublicKey([0; 32]);
    assert_eq!(refused(&mut net, vec![admit(weak, "fifth")]), "entry");
    let mut taken = fifth.clone();
    taken.nodes[0].transport = public("media", "transport");
    assert_eq!(refused(&mut net, vec![admit(taken, "fifth")]), "key_taken");
    let named = common::entry("brand", Roles::MEDIA, 1);
    assert_eq!(refused(&mut net, vec![admit(named, "brand")]), "name_taken");
    // Twice in one proposal.
    let twice = vec![admit(fifth.clone(), "fifth"), admit(fifth, "fifth")];
    assert_eq!(refused(&mut net, twice), "name_taken");
}

#[test]
fn every_key_rotates_and_the_old_one_is_worth_nothing() {
    let mut net = net();
    net.by(&["media"], anchor(1)).unwrap();
    let waiting = net.record(anchor(2), &[("media", "records")]);
    for purpose in KeyPurpose::ALL {
        let new = public("media", &format!("{purpose} 2"));
        let change = rotate(&net, "media", *purpose, new);
        pass(&mut net, vec![change]).unwrap();
    }
    let media = entry(&net, "media");
    let expected: Vec<_> = [
        "transport",
        "consensus",
        "checkpoint",
        "cosignature",
        "records",
    ]
    .map(|p| public("media", &format!("{p} 2")))
    .to_vec();
    let found: Vec<_> = media.nodes[0].keys().iter().map(|(_, k)| *k).collect();
    assert_eq!(found, expected);
    assert_eq!(media.admin_keys, [public("media", "admin 2")]);
    assert_eq!(media.id, net.member("media"), "the ID survives");
    let set = set(&net);
    let v = set.get(&public("media", "consensus 2")).unwrap();
    assert_eq!(v.cosignature, public("media", "cosignature 2"));
    assert!(set.get(&public("media", "consensus")).is_none());
    // A record that was signed with the old key is refused, new ones by the new key are taken from nonce 0 on.
    assert_eq!(code(net.submit(&waiting)), "unknown_key");
    let record = net.record(anchor(2), &[("media", "records 2")]);
    assert_eq!(record.signers()[0].nonce, 0);
    net.submit(&record).unwrap();
    // Nothing goes back.
    let back = Change::RotateKey {
        member: net.member("media"),
        purpose: KeyPurpose::Records,
        old: public("media", "records 2"),
        new: public("media", "records"),
    };
    assert_eq!(refused(&mut net, vec![back]), "key_taken");
    let gone = rotate(&net, "media", KeyPurpose::Records, public("media", "3"));
    assert_eq!(refused(&mut net, vec![gone]), "key_not_in_force");
}

#[test]
fn the_others_replace_a_lost_administrators_key() {
    let mut net = net();
    let change = rotate(&net, "auditor", KeyPurpose::Admin, public("auditor", "new"));
    pass(&mut net, vec![change]).unwrap();
    let body = proposal(&net, vec![power(&net, "media", 2)]);
    let old = net.member("auditor");
    assert!(
        state::key_state(&net.state, &old, &KeyId::of(&public("auditor", "admin")))
            .unwrap()
            .is_none()
    );
    let record = net.record(body, &[("auditor", "new")]);
    net.submit(&record).unwrap();
}

#[test]
fn what_would_leave_nobody_is_refused() {
    let mut net = net();
    let all: Vec<_> = NAMES
        .iter()
        .map(|(name, ..)| power(&net, name, 0))
        .collect();
    assert_eq!(refused(&mut net, all.clone()), "no_validator");
    pass(&mut net, all[..3].to_vec()).unwrap();
    assert_eq!(set(&net).validators().len(), 1);
    let last = Change::RemoveMember {
        member: net.member("auditor"),
    };
    assert_eq!(refused(&mut net, vec![last]), "no_validator");
    let (member, key) = (net.member("media"), public("media", "admin"));
    let only = Change::RemoveAdminKey { member, key };
    assert_eq!(refused(&mut net, vec![only.clone()]), "last_admin_key");
    let second = Change::AddAdminKey {
        member,
        key: public("media", "admin 2"),
    };
    pass(&mut net, vec![second]).unwrap();
    pass_by(&mut net, ["brand", "platform", "auditor"], vec![only]).unwrap();
    assert_eq!(
        entry(&net, "media").admin_keys,
        [public("media", "admin 2")]
    );
    let node = Change::RemoveNode {
        member,
        node: public("media", "transport"),
    };
    assert_eq!(refused(&mut net, vec![node]), "last_node");
    let more = vec![power(&net, "media", u64::MAX)];
    assert_eq!(refused(&mut net, more), "entry");
    let same = vec![power(&net, "media", 0)];
    assert_eq!(refused(&mut net, same), "no_change");
}

fn pass_by(net: &mut Net, by: [&str; 3], changes: Vec<Change>) -> Result<(), Refusal> {
    let body = proposal(net, changes);
    let id = propose(net, by[0], body)?;
    vote(net, by[1], id, true)?;
    vote(net, by[2], id, true)?;
    net.end_block();
    Ok(())
}

#[test]
fn nodes_addresses_and_parameters() {
    let mut net = net();
    let member = net.member("brand");
    let node = NodeEntry {
        power: 2,
        ..common::entry("second", Roles::BRAND, 1).nodes.remove(0)
    };
    let transport = node.transport;
    pass(
        &mut net,
        vec![Change::AddNode {
            member,
            node: node.clone(),
        }],
    )
    .unwrap();
    assert_eq!(set(&net).total_power(), 6);
    assert_eq!(
        refused(&mut net, vec![Change::AddNode { member, node }]),
        "key_taken"
    );
    let moved = Change::SetAddresses {
        member,
        node: transport,
        consensus_addr: "/ip4/192.0.2.7/tcp/1".into(),
        swarm_addr: "/ip4/192.0.2.7/tcp/2".into(),
        http_url: String::new(),
    };
    pass(&mut net, vec![moved.clone()]).unwrap();
    assert_eq!(refused(&mut net, vec![moved]), "no_change");
    let consensus = public("second", "consensus");
    assert_eq!(
        set(&net).get(&consensus).unwrap().consensus_addr,
        "/ip4/192.0.2.7/tcp/1"
    );
    pass(
        &mut net,
        vec![Change::RemoveNode {
            member,
            node: transport,
        }],
    )
    .unwrap();
    assert_eq!(set(&net).total_power(), 4);
    let parameters = |heartbeat_ms| {
        Change::SetParameters(Parameters {
            heartbeat_ms,
            max_block_bytes: 1 << 20,
            max_block_records: 100,
            max_skew_ms: 5_000,
        })
    };
    assert_eq!(refused(&mut net, vec![parameters(1)]), "entry");
    pass(&mut net, vec![parameters(2_000)]).unwrap();
    let rules = state::rules(&net.state).unwrap();
    assert_eq!((rules.heartbeat_ms, rules.max_block_records), (2_000, 100));
    assert_eq!(rules.epoch_ms, common::EPOCH_MS, "epochs stay");
    let version = |version| Change::SetRulesVersion { version };
    assert_eq!(refused(&mut net, vec![version(1)]), "rules_version");
    assert_eq!(refused(&mut net, vec![version(3)]), "rules_version");
    pass(&mut net, vec![version(2)]).unwrap();
    let rules = state::rules(&net.state).unwrap();
    assert_eq!((rules.rules_version, rules.is_known()), (2, false));
}

#[test]
fn a_delay_is_kept_and_what_waits_is_counted_in() {
    let mut net = net();
    let mut body = proposal(
        &net,
        vec![rotate(
            &net,
            "media",
            KeyPurpose::Consensus,
            public("media", "c2"),
        )],
    );
    body.delay_blocks = 3;
    let id = propose(&mut net, "brand", body).unwrap();
    for name in ["platform", "media"] {
        vote(&mut net, name, id, true).unwrap();
    }
    let first = state::change(&net.state, &id).unwrap().unwrap().from_height;
    assert_eq!(first, net.ctx.height + 4);
    // A second rotation of the same key cannot be carried out after the first.
    let again = rotate(&net, "media", KeyPurpose::Consensus, public("media", "c3"));
    let mut later = proposal(&net, vec![again.clone()]);
    later.delay_blocks = 9;
    assert_eq!(code(propose(&mut net, "brand", later)), "key_not_in_force");
    // Nor before it: the one that waits would become impossible.
    assert_eq!(refused(&mut net, vec![again]), "key_not_in_force");
    while net.ctx.height < first {
        assert!(set(&net).get(&public("media", "consensus")).is_some());
        net.end_block();
    }
    assert!(set(&net).get(&public("media", "c2")).is_some());
    assert_eq!(state::schedule(&net.state).unwrap().0, []);
    assert!(net.state.get(&keys::schedule()).unwrap().is_none());
}

#[test]
fn a_member_that_left_neither_votes_nor_counts() {
    let mut net = net();
    let open = proposal(&net, vec![power(&net, "media", 5)]);
    let id = propose(&mut net, "auditor", open).unwrap();
    let gone = Change::RemoveMember {
        member: net.member("auditor"),
    };
    pass(&mut net, vec![gone]).unwrap();
    // Three members: three votes, and the proposer's is worth nothing any more.
    vote(&mut net, "brand", id, true).unwrap();
    vote(&mut net, "platform", id, true).unwrap();
    assert_eq!(status(&net, id), ChangeStatus::Open);
    vote(&mut net, "media", id, true).unwrap();
    assert_eq!(status(&net, id), ChangeStatus::Passed);
}

#[test]
fn votes_that_suffice_after_a_removal_are_counted_on_demand() {
    let mut net = net();
    for name in ["e", "f", "g"] {
        let new = common::entry(name, Roles::MEDIA, 0);
        let change = admit(new, name);
        let body = proposal(&net, vec![change]);
        let id = propose(&mut net, "brand", body).unwrap();
        let mut voters = vec!["platform", "media", "auditor"];
        if state::members(&net.state).unwrap().len() < 6 {
            voters.truncate(3);
        }
        for voter in voters {
            if status(&net, id) == ChangeStatus::Open {
                vote(&mut net, voter, id, true).unwrap();
            }
        }
        if status(&net, id) == ChangeStatus::Open {
            let record = admin_of(
                &net,
                "e",
                Vote {
                    change: id,
                    approve: true,
                },
            );
            net.submit(&record).unwrap();
        }
        net.end_block();
    }
    assert_eq!(state::members(&net.state).unwrap().len(), 7);
    // Four of seven are for it: five are needed.
    let body = proposal(&net, vec![power(&net, "media", 5)]);
    let id = propose(&mut net, "brand", body).unwrap();
    for voter in ["platform", "media", "auditor"] {
        vote(&mut net, voter, id, true).unwrap();
    }
    assert_eq!(status(&net, id), ChangeStatus::Open);
    let gone: Vec<_> = ["f", "g"]
        .map(|name| Change::RemoveMember {
            member: common::entry(name, Roles::MEDIA, 0).id,
        })
        .to_vec();
    let body = proposal(&net, gone);
    let removal = propose(&mut net, "brand", body).unwrap();
    for voter in ["platform", "media", "auditor"] {
        vote(&mut net, voter, removal, true).unwrap();
    }
    let record = admin_of(
        &net,
        "e",
        Vote {
            change: removal,
            approve: true,
        },
    );
    net.submit(&record).unwrap();
    net.end_block();
    // Now four of five are enough.
    vote(&mut net, "media", id, true).unwrap();
    assert_eq!(status(&net, id), ChangeStatus::Passed);
}

/// A record of an administrator who was no founder.
fn admin_of(net: &Net, name: &str, body: Vote) -> Record {
    let member = common::entry(name, Roles::MEDIA, 0).id;
    let admin = public(name, "admin");
    let nonce = state::key_state(&net.state, &member, &KeyId::of(&admin))
        .unwrap()
        .unwrap()
        .next_nonce;
    let signer = tally_contracts::Signer::new(member, &admin, nonce);
    tally_contracts::Unsigned::new(
        net.network(),
        net.ctx.block_time_ms + 60_000,
        vec![signer],
        &body.into(),
    )
    .sign(&[&key(name, "admin")])
    .unwrap()
}

#[test]
fn a_node_asks_what_would_be_left_without_changing_anything() {
    let net = net();
    let body = proposal(
        &net,
        vec![Change::RemoveMember {
            member: net.member("auditor"),
        }],
    );
    let before = net.state.clone();
    let (members, set) = members_after(&net.state, &body).unwrap();
    assert_eq!((members.len(), set.total_power()), (3, 3));
    assert_eq!(net.state, before);
}

/// Blocks as they were made: each with its height and its records.
type History = Vec<(u64, Vec<Record>)>;

/// Makes a history of random changes, and the state after it.
fn history(choices: &[(u8, u8)]) -> (History, MemoryState, u64) {
    let mut net = net();
    let mut blocks = Vec::new();
    let mut fresh = 0_u64;
    for (what, delay) in choices {
        let mut records = Vec::new();
        fresh += 1;
        let new = public("media", &format!("fresh {fresh}"));
        let media = entry(&net, "media");
        let change = match what % 5 {
            0 => power(&net, "brand", u64::from(*delay) + 1),
            1 => Change::RotateKey {
                member: media.id,
                purpose: KeyPurpose::Consensus,
                old: media.nodes[0].consensus,
                new,
            },
            2 => Change::AddAdminKey {
                member: media.id,
                key: new,
            },
            3 => Change::SetParameters(Parameters {
                heartbeat_ms: 1_000 + fresh,
                max_block_bytes: 1 << 20,
                max_block_records: 100,
                max_skew_ms: 5_000,
            }),
            _ => power(&net, "auditor", u64::from(*delay) + 2),
        };
        let mut body = proposal(&net, vec![change]);
        body.delay_blocks = u32::from(*delay % 4);
        let record = net.record(body, &[("brand", "admin")]);
        if net.submit(&record).is_ok() {
            let change = record.id();
            records.push(record);
            for name in ["platform", "auditor"] {
                let approve = true;
                let record = net.record(Vote { change, approve }, &[(name, "admin")]);
                if net.submit(&record).is_ok() {
                    records.push(record);
                }
            }
        }
        blocks.push((net.ctx.height, records));
        net.end_block();
        // Blocks without records in between.
        for _ in 0..what % 3 {
            blocks.push((net.ctx.height, Vec::new()));
            net.end_block();
        }
    }
    (blocks, net.state, net.ctx.height)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whoever executes all blocks, and whoever replays those with records alone, has the validators of each height that the
    /// network had, and the same state in the end.
    #[test]
    fn replay_has_the_set_of_each_height(choices in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..12)) {
        let (blocks, end, height) = history(&choices);
        let start = net();
        let ctx = |h| {
            let mut ctx = start.ctx;
            ctx.height = h;
            ctx.block_time_ms += (h - start.ctx.height) * 1_000;
            ctx
        };
        let none = |_: &Record| None;
        let mut whole = start.state.clone();
        let mut sets = Vec::new();
        let mut tree = StateTree::from_leaves(whole.iter()).unwrap();
        for (h, records) in &blocks {
            sets.push(state::validators(&whole).unwrap());
            let outcome = execute_block(&whole, records, &none, &ctx(*h)).unwrap();
            prop_assert!(outcome.first_refusal().is_none());
            prop_assert!(outcome.effects.is_sorted_by(|a, b| a.0 < b.0));
            tree.commit(&outcome.effects).unwrap();
            whole.apply(outcome.effects);
        }
        prop_assert_eq!(&whole, &end);
        prop_assert_eq!(tree.root(), StateTree::from_leaves(end.iter()).unwrap().root());
        // Without the empty blocks.
        let mut entries = start.state.clone();
        for ((h, records), expected) in blocks.iter().zip(&sets) {
            if records.is_empty() {
                continue;
            }
            entries.apply(tally_contracts::due_changes(&entries, *h).unwrap());
            prop_assert_eq!(&state::validators(&entries).unwrap(), expected);
            let outcome = execute_block(&entries, records, &none, &ctx(*h)).unwrap();
            prop_assert!(outcome.first_refusal().is_none());
            entries.apply(outcome.effects);
        }
        entries.apply(tally_contracts::due_changes(&entries, height).unwrap());
        prop_assert_eq!(entries, end);
        // The set always is what the members give.
        let members = state::members(&whole).unwrap();
        prop_assert_eq!(ValidatorSet::from_members(&members), state::validators(&whole).unwrap());
    }
}
