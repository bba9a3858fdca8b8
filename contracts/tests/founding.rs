//! A genesis: what it may hold, who must sign it, and what state it gives.

mod common;

use common::{NAMES, START_MS, entry, genesis, key, public, signed_genesis};
use tally_contracts::ids::PublicKey;
use tally_contracts::state::{self, KeyUse, MemoryState};
use tally_contracts::{
    Canonical, Error, Genesis, GenesisFile, MemberEntry, NetworkKind, Roles, Rules, Signer,
    ValidatorSet, genesis_effects,
};

fn with(change: impl Fn(&mut Genesis)) -> Result<(), Error> {
    let mut genesis = genesis(NetworkKind::Test);
    change(&mut genesis);
    // What a peer sends is checked as well as what is drawn up.
    assert_eq!(
        genesis.check().is_err(),
        Genesis::from_bytes(&genesis.to_bytes()).is_err()
    );
    genesis.check()
}

/// Gives the entry the ID that its content asks for.
fn rename(m: &mut MemberEntry, name: &str) {
    m.name = name.into();
    m.id = tally_contracts::ids::MemberId::derive(name, &m.admin_keys[0]);
}

#[test]
fn accepts_what_is_right() {
    assert_eq!(with(|_| ()), Ok(()));
    assert_eq!(with(|g| g.members.truncate(1)), Ok(()));
    assert_eq!(with(|g| g.members[0].nodes[0].http_url.clear()), Ok(()));
    assert_eq!(
        with(|g| g.members[0].nodes[0].swarm_addr = "/ip4/127.0.0.1/tcp/1".into()),
        Ok(())
    );
    assert_eq!(
        with(|g| {
            for m in &mut g.members[1..] {
                m.nodes[0].power = 0;
            }
        }),
        Ok(())
    );
}

#[test]
fn refuses_what_is_not() {
    let spare = public("spare", "x");
    type Change = Box<dyn Fn(&mut Genesis)>;
    let cases: Vec<Change> = vec![
        Box::new(|g| g.name.clear()),
        Box::new(|g| g.name = "a\nb".into()),
        Box::new(|g| g.members.clear()),
        Box::new(|g| g.members.reverse()),
        Box::new(|g| {
            let first = g.members[0].clone();
            g.members.insert(0, first);
        }),
        Box::new(|g| g.members[0].id.0[0] ^= 1),
        Box::new(|g| g.members[0].name = "other".into()),
        Box::new(|g| rename(&mut g.members[0], "Upper")),
        Box::new(|g| rename(&mut g.members[0], "-dash")),
        Box::new(|g| rename(&mut g.members[0], "")),
        Box::new(|g| rename(&mut g.members[0], &"a".repeat(33))),
        Box::new(|g| {
            let name = g.members[1].name.clone();
            rename(&mut g.members[0], &name);
            g.members.sort_by_key(|m| m.id);
        }),
        Box::new(|g| g.members[0].admin_keys.clear()),
        Box::new(|g| g.members[0].nodes.clear()),
        Box::new(|g| {
            let one = g.members[0].nodes[0].clone();
            g.members[0].nodes = vec![one; 9];
        }),
        // One key twice: within a node, over members, over uses.
        Box::new(|g| g.members[0].nodes[0].consensus = g.members[0].nodes[0].transport),
        Box::new(|g| g.members[0].nodes[0].records = g.members[1].nodes[0].records),
        Box::new(|g| g.members[0].nodes[0].records = g.members[1].admin_keys[0]),
        Box::new(move |g| g.members[0].admin_keys.extend([spare, spare])),
        // Keys that anyone could sign under, and no key at all.
        Box::new(|g| g.members[0].nodes[0].records = PublicKey([0; 32])),
        Box::new(|g| g.members[0].nodes[0].records = PublicKey([0xff; 32])),
        Box::new(|g| {
            for m in &mut g.members {
                m.nodes[0].power = 0;
            }
        }),
        Box::new(|g| g.members[0].nodes[0].power = (1 << 32) + 1),
        Box::new(|g| g.rules.rules_version = 2),
        Box::new(|g| g.rules.heartbeat_ms = 0),
        Box::new(|g| g.rules.epoch_ms = 0),
        Box::new(|g| g.rules.max_block_bytes = 2 * 1024 * 1024 + 1),
        Box::new(|g| g.rules.max_block_records = 8_193),
        Box::new(|g| g.rules.max_skew_ms = 0),
    ];
    for (i, change) in cases.iter().enumerate() {
        assert!(with(change).is_err(), "case {i}");
    }
    for bad in [
        "",
        "host:1",
        "/ip4/1.2.3/tcp/1",
        "/dns4//tcp/1",
        "/dns4/a/udp/1",
        "/dns4/a/tcp/0",
        "/dns4/a/tcp/65536",
        "/dns4/a/tcp/01",
        "/dns4/a b/tcp/1",
        "/dns4/a/tcp/1/p2p/x",
    ] {
        assert!(
            with(|g| g.members[0].nodes[0].consensus_addr = bad.into()).is_err(),
            "{bad}"
        );
    }
    for bad in ["ftp://a", "http://", "http://a/", "http://a b", "a"] {
        assert!(
            with(|g| g.members[0].nodes[0].http_url = bad.into()).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn ceremony() {
    // Each founder draws up its entry by itself; one puts them together; each signs the same bytes.
    let entries =
        NAMES.map(|(n, r, p)| MemberEntry::from_bytes(&entry(n, r, p).to_bytes()).unwrap());
    let genesis = Genesis::new(
        "Example network",
        NetworkKind::Test,
        START_MS,
        [1; 32],
        Rules::default(),
        entries.to_vec(),
    )
    .unwrap();
    let mut file = GenesisFile::new(genesis).unwrap();
    let unsigned = GenesisFile::from_bytes(&file.to_bytes()).unwrap();
    assert_eq!(unsigned.missing().len(), 4);
    for (i, (name, ..)) in NAMES.iter().enumerate() {
        assert!(
            matches!(file.verify(), Err(Error::Unsigned { members }) if members.len() == 4 - i)
        );
        // One of them signs its own copy, and only the signature travels.
        let mut copy = unsigned.clone();
        copy.sign(&key(name, "admin")).unwrap();
        assert_eq!(copy.network_id(), file.network_id());
        file.add(copy.signatures()[0].clone()).unwrap();
    }
    assert_eq!(file.verify(), Ok(()));
    // Signing twice changes nothing; a stranger and a record key may not sign.
    file.sign(&key("brand", "admin")).unwrap();
    assert_eq!(file.signatures().len(), 4);
    assert!(file.sign(&key("stranger", "admin")).is_err());
    assert!(file.sign(&key("brand", "records")).is_err());
}

#[test]
fn every_flipped_byte_of_the_file_fails() {
    let file = signed_genesis(NetworkKind::Live);
    assert_eq!(file.verify(), Ok(()));
    let bytes = file.to_bytes();
    for i in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[i] ^= 1;
        let accepted = GenesisFile::from_bytes(&bad).is_ok_and(|f| f.verify().is_ok());
        assert!(!accepted, "byte {i}");
    }
    // A signature moved to another network's file is worth nothing there.
    let mut other = GenesisFile::new(genesis(NetworkKind::Test)).unwrap();
    assert!(other.add(file.signatures()[0].clone()).is_err());
}

#[test]
fn state_of_a_genesis() {
    let genesis = genesis(NetworkKind::Live);
    let mut state = MemoryState::new();
    state.apply(genesis_effects(&genesis));
    let info = state::network_info(&state).unwrap();
    assert_eq!(
        (info.network, info.kind),
        (genesis.network_id(), NetworkKind::Live)
    );
    assert_eq!(state::rules(&state).unwrap(), genesis.rules);
    assert_eq!(
        state::validators(&state).unwrap(),
        ValidatorSet::from_genesis(&genesis)
    );
    for (name, roles, _) in NAMES {
        let member = state::member_by_name(&state, name).unwrap().unwrap();
        assert_eq!(member.roles, roles);
        for (word, key_use) in [("records", KeyUse::Records), ("admin", KeyUse::Admin)] {
            let signer = Signer::new(member.id, &public(name, word), 0);
            let key = state::key_state(&state, &member.id, &signer.key)
                .unwrap()
                .unwrap();
            assert_eq!((key.key_use, key.next_nonce), (key_use, 0));
        }
        // Keys that sign no records are not in the table of those that do.
        let signer = Signer::new(member.id, &public(name, "consensus"), 0);
        assert_eq!(
            state::key_state(&state, &member.id, &signer.key).unwrap(),
            None
        );
    }
    assert_eq!(
        Roles::BRAND.with(Roles::AUDITOR).to_string(),
        "brand,auditor"
    );
    assert_eq!(Roles::parse("media"), Some(Roles::MEDIA));
}
