use std::collections::BTreeSet;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("tally.toml"), text)
}

const LEAST: &str = "[member]\nname = \"acme\"\nroles = [\"brand\", \"media\"]\n";

#[test]
fn the_generated_text_is_whole_and_comes_back() {
    let mut config = Config::new("acme", Roles::BRAND.with(Roles::MEDIA));
    assert_eq!(parse(LEAST).unwrap(), config);
    config.node.passphrase_file = "/run/a \"quoted\" path".into();
    config.matches.auto_accept = AutoAccept::Agreed;
    config.limits.pool_bytes = 5 << 20;
    let text = config.to_text();
    assert_eq!(parse(&text).unwrap(), config);
    assert!(text.contains("auto_accept = \"agreed\""), "{text}");
    assert!(
        text.contains("Default: 2000\nanchor_interval_ms = 2000\n"),
        "{text}"
    );
    assert!(text.lines().all(|l| l.len() <= 120));
}

#[test]
fn every_key_is_documented_and_no_other() {
    let table = toml::Table::try_from(Config::new("acme", Roles::BRAND)).unwrap();
    let mut real = BTreeSet::new();
    for (section, keys) in &table {
        for key in keys.as_table().unwrap().keys() {
            real.insert(format!("{section}.{key}"));
        }
    }
    let told: BTreeSet<_> = documentation()
        .iter()
        .flat_map(|s| s.keys.iter().map(move |k| format!("{}.{}", s.name, k.name)))
        .collect();
    assert_eq!(real, told);
    // Each has a default, but for those that say so.
    for section in documentation() {
        for key in section.keys {
            let text: String = Config::new("acme", Roles::BRAND)
                .to_text()
                .lines()
                .scan("", |now, line| {
                    if line.starts_with('[') {
                        *now = line.trim_matches(['[', ']']);
                    }
                    Some((*now, line))
                })
                .filter(|(now, line)| {
                    *now != section.name || !line.starts_with(&format!("{} =", key.name))
                })
                .map(|(_, line)| format!("{line}\n"))
                .collect();
            let is_port_listen =
                key.name == "listen" && !["http", "workers"].contains(&section.name);
            let result = parse(&text);
            if key.required || is_port_listen {
                assert!(
                    matches!(&result, Err(ConfigError::Parse { reason, .. }) if reason.contains(key.name)),
                    "{}.{}: {result:?}",
                    section.name,
                    key.name
                );
            } else {
                assert_eq!(result.unwrap(), Config::new("acme", Roles::BRAND));
            }
        }
    }
}

#[test]
fn unknown_keys_are_refused_with_name_and_line() {
    for (extra, name) in [
        (
            "\n[scans]\nanchor_every = 5\nanchor_evry = 6\n",
            "anchor_evry",
        ),
        ("\n\n\n[scanz]\n", "scanz"),
    ] {
        let text = format!("{LEAST}{extra}");
        let expected = 1 + text.lines().position(|l| l.contains(name)).unwrap();
        match parse(&text) {
            Err(ConfigError::Parse { line, reason, .. }) => {
                assert_eq!(line, expected, "{reason}");
                assert!(reason.contains(name), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    let with = |section: &str, line: &str| parse(&format!("{LEAST}[{section}]\n{line}\n"));
    for (section, line, key) in [
        ("scans", "anchor_every = 0", "scans.anchor_every"),
        (
            "scans",
            "anchor_interval_ms = 99",
            "scans.anchor_interval_ms",
        ),
        (
            "consensus",
            "listen = \"/dns4/a/tcp/1\"",
            "consensus.listen",
        ),
        ("swarm", "listen = \"0.0.0.0:7\"", "swarm.listen"),
        (
            "swarm",
            "listen = \"/ip4/1.2.3.4/tcp/7\"\nadvertise = \"/dns4//tcp/1\"",
            "swarm.advertise",
        ),
        ("http", "listen = \"localhost\"", "http.listen"),
        ("http", "base_url = \"https://x/\"", "http.base_url"),
        ("http", "base_url = \"ftp://x\"", "http.base_url"),
        ("http", "contact = \"call us\"", "http.contact"),
        ("http", "contact = \"javascript:alert(1)\"", "http.contact"),
        (
            "http",
            "trusted_proxies = [\"127.0.0.1\"]\nplace_header = \"X Y\"",
            "http.place_header",
        ),
        // Nobody could set it.
        ("http", "place_header = \"X-Place\"", "http.place_header"),
        ("log", "level = \"\"", "log.level"),
        (
            "limits",
            "swarm_streams_per_peer = 121",
            "limits.swarm_streams_per_peer",
        ),
    ] {
        match with(section, line) {
            Err(ConfigError::Value { key: found, .. }) => assert_eq!(found, key),
            other => panic!("{key}: {other:?}"),
        }
    }
    assert!(matches!(
        with("http", "trusted_proxies = [\"proxy\"]"),
        Err(ConfigError::Parse { line: 5, .. })
    ));
    assert!(matches!(
        with("match", "auto_accept = \"always\""),
        Err(ConfigError::Parse { line: 5, .. })
    ));
    assert!(matches!(
        with("scans", "anchor_every = -1"),
        Err(ConfigError::Parse { line: 5, .. })
    ));
    for roles in ["[]", "[\"king\"]"] {
        let text = format!("[member]\nname = \"acme\"\nroles = {roles}\n");
        assert!(matches!(
            parse(&text),
            Err(ConfigError::Value {
                key: "member.roles",
                ..
            })
        ));
    }
    assert!(matches!(
        parse("[member]\nname = \"Acme\"\nroles = [\"brand\"]\n"),
        Err(ConfigError::Value {
            key: "member.name",
            ..
        })
    ));
}

#[test]
fn files_are_beside_the_configuration() {
    let mut config = Config::new("acme", Roles::BRAND);
    let path = Path::new("/srv/acme/tally.toml");
    assert_eq!(
        config.data_dir(path).ledger(),
        Path::new("/srv/acme/./ledger")
    );
    assert_eq!(config.passphrase_file(path), None);
    config.node.passphrase_file = "secret".into();
    assert_eq!(
        config.passphrase_file(path).unwrap(),
        Path::new("/srv/acme/secret")
    );
    config.node.data_dir = "/var/lib/tally".into();
    assert_eq!(config.data_dir(path).root(), Path::new("/var/lib/tally"));
}

#[test]
fn the_operator_token_is_the_first_line_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tally.toml");
    let mut config = Config::new("acme", Roles::BRAND);
    assert!(config.operator_token(&path).unwrap().is_none());
    config.http.operator_token_file = "token".into();
    assert!(matches!(
        config.operator_token(&path),
        Err(ConfigError::File(_))
    ));
    for (text, good) in [
        ("0123456789abcdef\nmore\n", true),
        ("0123456789abcde\n", false),
        ("0123456789 abcdef", false),
        ("", false),
    ] {
        std::fs::write(dir.path().join("token"), text).unwrap();
        let token = config.operator_token(&path);
        assert_eq!(token.is_ok_and(|t| t.is_some()), good, "{text:?}");
    }
}
