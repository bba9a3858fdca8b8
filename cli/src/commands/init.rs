//! `tally init`

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use tally_contracts::Roles;
use tally_node::ceremony::{self, CeremonyError};
use tally_node::config::{AutoAccept, Config};
use tally_node::keys::{KeyError, KeyStore};
use tally_node::passphrase::{Purpose, find_passphrase};

use super::{Context, absolute};
use crate::args::{InitArgs, Role};
use crate::exit::{Exit, Failure};
use crate::output;

pub(super) fn run(ctx: &Context, args: &InitArgs) -> Result<()> {
    let config = config(args)?;
    let root = args
        .dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(&args.name));
    if root.exists() && std::fs::read_dir(&root).is_ok_and(|mut d| d.next().is_some()) {
        // Told before a person types a passphrase twice.
        return Err(refused(CeremonyError::Initialised { path: root }));
    }
    if let Some(file) = &args.recovery_key
        && std::fs::symlink_metadata(file).is_ok()
    {
        return Err(refused(KeyError::Exists { path: file.clone() }));
    }
    let passphrase =
        find_passphrase(args.passphrase_file.as_deref(), None, Purpose::Create).map_err(refused)?;
    // Read before anything is made.
    let further = args
        .with_nodes
        .iter()
        .map(|path| ceremony::read_card(path))
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?;
    let mut made = ceremony::init(
        &root,
        &config,
        &passphrase,
        args.work_factor,
        &mut rand::rngs::OsRng,
    )
    .map_err(refused)?;
    for card in &further {
        let admin = KeyStore::new(made.dir.keys())
            .open_admin(&passphrase)
            .map_err(refused)?;
        made.card = ceremony::add_node(&made.dir, card, &admin).map_err(refused)?;
    }
    if let Some(recovery) = &args.recovery_key {
        made.card = ceremony::add_recovery(
            &made.dir,
            recovery,
            &passphrase,
            args.work_factor,
            &mut rand::rngs::OsRng,
        )
        .map_err(refused)?;
    }
    let entry = made.card.entry();
    let (card, file) = (made.dir.card_file(), made.dir.config_file());
    if ctx.common.json {
        output::value(&json!({
            "dir": root, "config": file, "card": card, "member": entry.name, "member_id": entry.id.to_string(),
            "recovery_key": args.recovery_key,
        }));
        return Ok(());
    }
    output::text(&format!(
        "Made the node of {name} in {root}\n\
         \x20 member ID      {id}\n\
         \x20 configuration  {file}\n\
         \x20 member card    {card}\n\
         \x20 keys           {keys} (keep a copy of this folder apart, with the passphrase elsewhere)\n\
         next: hand the member card to whoever draws up the genesis, and tell them the member ID by telephone;\n\
         \x20     alone, `tally genesis new --network NAME --kind test --out genesis {card}`\n",
        name = entry.name,
        root = root.display(),
        id = entry.id,
        file = file.display(),
        card = card.display(),
        keys = made.dir.keys().display(),
    ));
    if let Some(recovery) = &args.recovery_key {
        output::text(&format!(
            "      {} is a second administrator's key under the same passphrase: keep it offline, and not on this machine\n",
            recovery.display()
        ));
    }
    if !further.is_empty() {
        output::text(&format!(
            "      the card holds {} nodes: copy it over the member-card.toml of each of the others before `tally join` there\n",
            entry.nodes.len()
        ));
    }
    Ok(())
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    anyhow::Error::new(error).context(Failure::new(Exit::Failed, "init", "no node was made"))
}

fn config(args: &InitArgs) -> Result<Config> {
    let roles = args
        .roles
        .iter()
        .copied()
        .map(Role::set)
        .reduce(Roles::with)
        .unwrap_or(Roles::AUDITOR);
    let host: Option<IpAddr> = args.host.parse().ok();
    let listen = args.listen.unwrap_or(match host {
        Some(own) if own.is_loopback() => own,
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    });
    // The argument's range leaves room for the ports above.
    let port = |above: u16| args.port.saturating_add(above);
    let at = |ip: IpAddr, above| match ip {
        IpAddr::V4(ip) => format!("/ip4/{ip}/tcp/{}", port(above)),
        IpAddr::V6(ip) => format!("/ip6/{ip}/tcp/{}", port(above)),
    };
    let public = |above| match host {
        Some(ip) => at(ip, above),
        None => format!("/dns4/{}/tcp/{}", args.host, port(above)),
    };
    let mut config = Config::new(&args.name, roles);
    config.node.power = args.power;
    config.consensus.listen = at(listen, 0);
    config.consensus.advertise = public(0);
    config.swarm.listen = at(listen, 1);
    config.swarm.advertise = public(1);
    // An https address is that of a proxy, which needs nobody else's way in; this node speaks no TLS.
    let tls = |url: &String| url.starts_with("https://");
    let proxied = args.listen.is_none() && args.base_url.as_ref().is_some_and(tls);
    let http = if proxied {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        listen
    };
    config.http.listen = std::net::SocketAddr::new(http, port(80)).to_string();
    config.http.base_url = args.base_url.clone().unwrap_or_else(|| {
        let host = match host {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => args.host.clone(),
        };
        format!("http://{host}:{}", port(80))
    });
    if args.auto_accept {
        config.matches.auto_accept = AutoAccept::Agreed;
    }
    if let Some(file) = &args.passphrase_file {
        config.node.passphrase_file = absolute(file)?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn of(line: &str) -> Config {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Init(args) = cli.command else {
            unreachable!()
        };
        config(&args).unwrap()
    }

    #[test]
    fn a_host_gives_every_address() {
        for (line, consensus, swarm, http, base) in [
            (
                "",
                "/ip4/127.0.0.1/tcp/26600",
                "/ip4/127.0.0.1/tcp/26601",
                "127.0.0.1:26680",
                "http://127.0.0.1:26680",
            ),
            (
                "--host n.example --port 7000",
                "/dns4/n.example/tcp/7000",
                "/dns4/n.example/tcp/7001",
                "0.0.0.0:7080",
                "http://n.example:7080",
            ),
            (
                "--host n.example --base-url https://id.example",
                "/dns4/n.example/tcp/26600",
                "/dns4/n.example/tcp/26601",
                "127.0.0.1:26680",
                "https://id.example",
            ),
            (
                "--host ::1",
                "/ip6/::1/tcp/26600",
                "/ip6/::1/tcp/26601",
                "[::1]:26680",
                "http://[::1]:26680",
            ),
            (
                "--host 10.0.0.5 --listen 10.0.0.5 --base-url https://id.example",
                "/ip4/10.0.0.5/tcp/26600",
                "/ip4/10.0.0.5/tcp/26601",
                "10.0.0.5:26680",
                "https://id.example",
            ),
        ] {
            let config = of(&format!("tally init --name acme --role brand,media {line}"));
            assert_eq!(config.consensus.public(), consensus);
            assert_eq!(config.swarm.public(), swarm);
            assert_eq!(
                (config.http.listen.as_str(), config.http.base_url.as_str()),
                (http, base)
            );
            assert_eq!(config.roles(), Some(Roles::BRAND.with(Roles::MEDIA)));
            // What is written is what is read.
            assert_eq!(
                Config::parse(Path::new("tally.toml"), &config.to_text()).unwrap(),
                config,
                "{line}"
            );
        }
    }
}
