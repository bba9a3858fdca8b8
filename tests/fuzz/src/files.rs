//! Texts that people edit and hand over: the configuration and member cards. What is read can be written, and is read again as
//! the same.

use std::path::Path;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use tally_contracts::Roles;
use tally_contracts::ids::PublicKey;
use tally_contracts::{MemberEntry, NodeEntry};
use tally_node::audiences::check_audience_name;
use tally_node::card::MemberCard;
use tally_node::config::Config;
use tally_node::keys::AdminKey;

use crate::{Seeds, named};

/// Bytes as each text.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let path = Path::new("tally.toml");
    if let Ok(config) = Config::parse(path, text) {
        let again = Config::parse(path, &config.to_text());
        assert!(
            again.is_ok_and(|again| again == config),
            "{}",
            config.to_text()
        );
        let _ = (
            config.roles(),
            config.data_dir(path),
            config.passphrase_file(path),
        );
    }
    if let Ok(card) = MemberCard::parse(text) {
        let again = card.to_text().expect("what was read can be written");
        assert_eq!(MemberCard::parse(&again).ok(), Some(card));
    }
    let _ = check_audience_name(text);
}

/// A whole configuration, the least one, and a card.
pub fn seeds() -> Seeds {
    let config = Config::new("acme", Roles::BRAND.with(Roles::MEDIA));
    let admin = AdminKey::generate(&mut ChaCha20Rng::seed_from_u64(1));
    let public = |key_use: &str| {
        let seed = Sha256::digest(format!("fuzz {key_use}"));
        PublicKey::from(&ed25519_dalek::SigningKey::from_bytes(&seed.into()))
    };
    let node = NodeEntry {
        transport: public("transport"),
        consensus: public("consensus"),
        checkpoint: public("checkpoint"),
        cosignature: public("cosignature"),
        records: public("records"),
        power: 1,
        consensus_addr: "/dns4/acme.example/tcp/26600".into(),
        swarm_addr: "/dns4/acme.example/tcp/26601".into(),
        http_url: "https://acme.example".into(),
    };
    let entry = MemberEntry::new("acme", Roles::BRAND, vec![admin.public()], vec![node]);
    let card = MemberCard::sign(entry.expect("a member"), &admin).expect("a card");
    // Without the comments there is more for a mutation to hit.
    let short: Vec<_> = config
        .to_text()
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|l| format!("{l}\n"))
        .collect();
    named([
        ("config", short.concat()),
        (
            "config-least",
            "[member]\nname = \"acme\"\nroles = [\"brand\"]\n".to_owned(),
        ),
        ("card", card.to_text().expect("a text")),
    ])
}
