use rand_core::OsRng;
use tally_contracts::{Error, Roles};
use tempfile::TempDir;

use super::*;

const WORK: u8 = 10;

fn pass(text: &str) -> Passphrase {
    Passphrase::new(text.into()).unwrap()
}

fn config(name: &str, port: u16) -> Config {
    let mut config = Config::new(name, Roles::BRAND);
    config.consensus.listen = format!("/ip4/127.0.0.1/tcp/{port}");
    config.swarm.listen = format!("/ip4/127.0.0.1/tcp/{}", port + 1);
    config.swarm.advertise = format!("/dns4/{name}.example/tcp/{}", port + 1);
    config
}

struct Founder {
    made: Initialised,
    admin: AdminKey,
}

fn found(tmp: &TempDir, name: &str, port: u16) -> Founder {
    let right = pass("correct horse");
    let root = tmp.path().join(name);
    let made = init(&root, &config(name, port), &right, WORK, &mut OsRng).unwrap();
    let admin = KeyStore::new(made.dir.keys()).open_admin(&right).unwrap();
    Founder { made, admin }
}

fn genesis(founders: &[&Founder]) -> GenesisFile {
    let cards: Vec<_> = founders
        .iter()
        .map(|f| read_card(&f.made.dir.card_file()).unwrap())
        .collect();
    draw_up(
        "trial",
        NetworkKind::Test,
        1_700_000_000_000,
        Rules::default(),
        &cards,
        &mut OsRng,
    )
    .unwrap()
}

fn three(tmp: &TempDir) -> [Founder; 3] {
    [
        found(tmp, "acme", 7000),
        found(tmp, "boreal", 7010),
        found(tmp, "cobalt", 7020),
    ]
}

#[test]
fn three_founders_found_a_network_apart() {
    let tmp = tempfile::tempdir().unwrap();
    let [a, b, c] = three(&tmp);
    let path = tmp.path().join("genesis");
    write_genesis(&path, &genesis(&[&a, &b, &c])).unwrap();
    let network = read_genesis(&path).unwrap().network_id();
    // Each signs its own copy, in no order.
    let mut copies = Vec::new();
    for f in [&c, &a, &b] {
        let mut copy = read_genesis(&path).unwrap();
        let member = sign(&mut copy, &f.made.card, &f.admin, Some(network)).unwrap();
        assert_eq!(member, f.made.card.entry().id);
        assert_eq!(copy.missing().len(), 2);
        copies.push(copy);
    }
    let partly = merge(copies[..2].to_vec()).unwrap();
    assert_eq!(partly.missing(), ["boreal"]);
    assert!(describe(&partly).contains("not signed by: boreal"));
    assert!(matches!(
        join(&a.made.dir, &partly, None),
        Err(CeremonyError::Genesis(Error::Unsigned { members })) if members == ["boreal"]
    ));
    assert!(matches!(
        load_genesis(&a.made.dir),
        Err(CeremonyError::NotJoined { .. })
    ));
    let whole = merge(copies).unwrap();
    assert!(describe(&whole).contains(&network.to_string()));
    for f in [&a, &b, &c] {
        assert_eq!(join(&f.made.dir, &whole, Some(network)).unwrap(), network);
        assert_eq!(load_genesis(&f.made.dir).unwrap(), whole);
        // Again: nothing changes.
        join(&f.made.dir, &whole, None).unwrap();
        let keys = KeyStore::new(f.made.dir.keys());
        let public = keys.open_node(&pass("correct horse")).unwrap().public();
        let name = &f.made.card.entry().name;
        let member = whole.genesis().member_by_name(name).unwrap();
        assert_eq!(public.find(member).unwrap().transport, public.transport);
        let stranger = NodeKeys::generate(&mut OsRng).public();
        assert!(stranger.find(member).is_none());
    }
}

#[test]
fn a_newcomer_takes_over_the_genesis_of_others() {
    let tmp = tempfile::tempdir().unwrap();
    let (a, late) = (found(&tmp, "acme", 7000), found(&tmp, "late", 7100));
    let cards = [a.made.card.clone()];
    let mut file = draw_up(
        "net",
        NetworkKind::Test,
        5,
        Rules::default(),
        &cards,
        &mut OsRng,
    )
    .unwrap();
    let network = file.network_id();
    let dir = &late.made.dir;
    // Not signed by all; not a founder; another network; a founder that says it is none.
    assert!(matches!(
        join_later(dir, &file, network),
        Err(CeremonyError::Genesis(Error::Unsigned { .. }))
    ));
    sign(&mut file, &a.made.card, &a.admin, None).unwrap();
    assert!(matches!(
        join(dir, &file, None),
        Err(CeremonyError::NotAMember { .. })
    ));
    assert!(matches!(
        join_later(dir, &file, NetworkId([0; 32])),
        Err(CeremonyError::Network { .. })
    ));
    assert!(matches!(
        join_later(&a.made.dir, &file, network),
        Err(CeremonyError::Founder { .. })
    ));
    assert_eq!(join_later(dir, &file, network).unwrap(), network);
    assert_eq!(load_genesis(dir).unwrap(), file);
}

#[test]
fn init_makes_all_or_nothing_and_never_twice() {
    let tmp = tempfile::tempdir().unwrap();
    let a = found(&tmp, "acme", 7000);
    let dir = &a.made.dir;
    for folder in DataDir::FOLDERS {
        assert!(dir.root().join(folder).is_dir(), "{folder}");
    }
    let loaded = Config::load(&dir.config_file()).unwrap();
    assert_eq!(loaded, config("acme", 7000));
    assert_eq!(
        a.made.card.entry().nodes[0].swarm_addr,
        "/dns4/acme.example/tcp/7001"
    );
    let before = fs::read(KeyStore::new(dir.keys()).node_file()).unwrap();
    let again = init(dir.root(), &loaded, &pass("another one"), WORK, &mut OsRng);
    let err = again.unwrap_err();
    assert!(matches!(err, CeremonyError::Initialised { .. }));
    assert!(err.to_string().contains("tally up --config"), "{err}");
    assert_eq!(
        fs::read(KeyStore::new(dir.keys()).node_file()).unwrap(),
        before
    );
    assert!(matches!(
        KeyStore::new(dir.keys()).open_node(&pass("another one")),
        Err(KeyError::WrongPassphrase { .. })
    ));
    // A failure leaves nothing behind.
    let bad = tmp.path().join("bad");
    assert!(init(&bad, &loaded, &pass("correct horse"), 99, &mut OsRng).is_err());
    let mut unreachable = config("bad", 7000);
    unreachable.consensus.listen = "/ip4/127.0.0.1/tcp/0".into();
    assert!(init(&bad, &unreachable, &pass("correct horse"), WORK, &mut OsRng).is_err());
    let left: Vec<_> = fs::read_dir(tmp.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["acme"]);
}

#[test]
fn a_changed_card_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let a = found(&tmp, "acme", 7000);
    let b = found(&tmp, "boreal", 7010);
    let text = fs::read_to_string(a.made.dir.card_file()).unwrap();
    assert_eq!(MemberCard::parse(&text).unwrap(), a.made.card);
    assert_eq!(a.made.card.to_text().unwrap(), text);
    let entry = a.made.card.entry();
    let other = b.made.card.entry();
    let swaps = [
        ("power = 1".to_owned(), "power = 2".to_owned()),
        ("[\"brand\"]".to_owned(), "[\"auditor\"]".to_owned()),
        ("acme.example".to_owned(), "evil.example".to_owned()),
        ("name = \"acme\"".to_owned(), "name = \"acne\"".to_owned()),
        (
            entry.nodes[0].consensus.to_string(),
            other.nodes[0].consensus.to_string(),
        ),
        (entry.id.to_string(), other.id.to_string()),
        (
            format!("admin_keys = [\"{}\"]", entry.admin_keys[0]),
            format!("admin_keys = [\"{}\"]", other.admin_keys[0]),
        ),
        (
            format!("signed_by = \"{}\"", entry.admin_keys[0]),
            format!("signed_by = \"{}\"", other.admin_keys[0]),
        ),
        ("version = 1".to_owned(), "version = 2".to_owned()),
        (
            "version = 1".to_owned(),
            "version = 1\nvarsion = 1".to_owned(),
        ),
    ];
    for (from, to) in swaps {
        let bad = text.replace(&from, &to);
        assert_ne!(bad, text, "{from}");
        assert!(MemberCard::parse(&bad).is_err(), "{from} -> {to}");
    }
    // Any digit of the signature.
    let at = text.find("\nsignature = \"").unwrap() + 14;
    for i in 0..128 {
        let mut bad = text.clone().into_bytes();
        bad[at + i] = if bad[at + i] == b'0' { b'1' } else { b'0' };
        assert!(
            MemberCard::parse(std::str::from_utf8(&bad).unwrap()).is_err(),
            "digit {i}"
        );
    }
    assert!(MemberCard::parse("").is_err());
    assert!(MemberCard::parse(&"x".repeat(MAX_CARD_BYTES + 1)).is_err());
    // A comment or another line end changes nothing that counts.
    assert!(MemberCard::parse(&text.replace('\n', "\r\n")).is_ok());
}

#[test]
fn a_changed_genesis_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let [a, b, c] = three(&tmp);
    let mut file = genesis(&[&a, &b, &c]);
    for f in [&a, &b, &c] {
        sign(&mut file, &f.made.card, &f.admin, None).unwrap();
    }
    let good = file.to_bytes();
    let path = tmp.path().join("g");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, bad).unwrap();
        let result = read_genesis(&path).and_then(|g| join(&a.made.dir, &g, None));
        assert!(result.is_err(), "byte {at}");
    }
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(read_genesis(&path).is_err());
    assert!(!a.made.dir.genesis_file().exists());

    // Another genesis with the same members is another network.
    let mut other = genesis(&[&a, &b, &c]);
    assert!(matches!(
        merge(vec![file.clone(), other.clone()]),
        Err(CeremonyError::Network { .. })
    ));
    assert!(matches!(
        sign(&mut other, &a.made.card, &a.admin, Some(file.network_id())),
        Err(CeremonyError::Network { .. })
    ));
    assert!(matches!(
        join(&a.made.dir, &file, Some(other.network_id())),
        Err(CeremonyError::Network { .. })
    ));
    join(&a.made.dir, &file, None).unwrap();
    for f in [&a, &b, &c] {
        sign(&mut other, &f.made.card, &f.admin, None).unwrap();
    }
    assert!(matches!(
        join(&a.made.dir, &other, None),
        Err(CeremonyError::Network { .. })
    ));
    assert_eq!(
        load_genesis(&a.made.dir).unwrap().network_id(),
        file.network_id()
    );
}

#[test]
fn missing_doubled_and_altered_members_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let [a, b, c] = three(&tmp);
    let without_c = genesis(&[&a, &b]);
    assert!(matches!(
        sign(&mut without_c.clone(), &c.made.card, &c.admin, None),
        Err(CeremonyError::NotAMember { .. })
    ));
    let mut signed = without_c;
    for f in [&a, &b] {
        sign(&mut signed, &f.made.card, &f.admin, None).unwrap();
    }
    assert!(matches!(
        join(&c.made.dir, &signed, None),
        Err(CeremonyError::NotAMember { .. })
    ));
    let twice = [a.made.card.clone(), a.made.card.clone()];
    let drawn = draw_up(
        "t",
        NetworkKind::Test,
        1,
        Rules::default(),
        &twice,
        &mut OsRng,
    );
    assert!(matches!(drawn, Err(CeremonyError::DuplicateCard { .. })));
    assert!(matches!(merge(Vec::new()), Err(CeremonyError::NoFile)));

    // Whoever draws up the genesis moves acme's node to itself: acme neither signs nor joins.
    let genuine = genesis(&[&a, &b]);
    let mut members = genuine.genesis().members.clone();
    for member in &mut members {
        if member.name == "acme" {
            member.nodes[0].swarm_addr = "/dns4/boreal.example/tcp/7001".into();
        }
    }
    let forged = Genesis::new(
        "t",
        NetworkKind::Test,
        1,
        [0; 32],
        Rules::default(),
        members,
    )
    .unwrap();
    let mut forged = GenesisFile::new(forged).unwrap();
    assert!(matches!(
        sign(&mut forged, &a.made.card, &a.admin, None),
        Err(CeremonyError::Altered {
            what: "a node's keys, power or addresses",
            ..
        })
    ));
    // Another's administrator cannot sign for acme.
    let mut genuine = genuine;
    assert_eq!(
        sign(&mut genuine, &a.made.card, &b.admin, None).unwrap(),
        b.made.card.entry().id
    );
    assert_eq!(genuine.missing(), ["acme"]);
    assert!(sign(&mut genuine, &a.made.card, &c.admin, None).is_err());
}

#[test]
fn times_are_told_in_words() {
    for (ms, expected) in [
        (604_800_000, "7 days"),
        (86_400_000, "1 day"),
        (90_000_000, "25 hours"),
        (60_000, "1 minute"),
        (10_000, "10 s"),
        (1_500, "1500 ms"),
        (0, "0 ms"),
    ] {
        assert_eq!(duration(ms), expected);
    }
    assert_eq!(utc(1_795_696_742_450), "2026-11-26T12:39:02.45Z");
    assert_eq!(utc(u64::MAX), format!("{} ms POSIX", u64::MAX));
}
