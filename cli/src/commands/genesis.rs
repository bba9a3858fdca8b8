//! `tally genesis new|sign|show`

use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tally_contracts::{GenesisFile, NetworkKind, Rules};
use tally_node::ceremony;
use tally_node::keys::KeyStore;

use super::Context;
use crate::args::{GenesisCommand, GenesisNewArgs, GenesisSignArgs, Kind};
use crate::exit::{Exit, Failure};
use crate::output;

pub(super) fn run(ctx: &Context, command: &GenesisCommand) -> Result<()> {
    match command {
        GenesisCommand::New(args) => new(ctx, args),
        GenesisCommand::Sign(args) => sign(ctx, args),
        GenesisCommand::Show { file } => {
            let file = read(file)?;
            if ctx.common.json {
                output::value(&summary(&file));
            } else {
                output::text(&output::plain(&ceremony::describe(&file)));
            }
            Ok(())
        }
    }
}

/// Reads a genesis file.
pub(super) fn read(path: &Path) -> Result<GenesisFile> {
    ceremony::read_genesis(path).map_err(|e| {
        anyhow!(e).context(Failure::new(
            Exit::Failed,
            "genesis",
            format!("{} is no genesis file", path.display()),
        ))
    })
}

/// A genesis for programs.
pub(super) fn summary(file: &GenesisFile) -> Value {
    let genesis = file.genesis();
    let members: Vec<_> = genesis
        .members
        .iter()
        .map(|m| {
            let signed = file.signatures().iter().any(|s| s.member == m.id);
            let roles: Vec<_> = m.roles.names().collect();
            let power: u64 = m.nodes.iter().map(|n| n.power).sum();
            json!({"name": m.name, "id": m.id.to_string(), "roles": roles, "nodes": m.nodes.len(), "power": power, "signed": signed})
        })
        .collect();
    json!({
        "network": genesis.name,
        "network_id": file.network_id().to_string(),
        "kind": genesis.kind.name(),
        "members": members,
        "missing": file.missing(),
    })
}

fn new(ctx: &Context, args: &GenesisNewArgs) -> Result<()> {
    let refused = || Failure::new(Exit::Failed, "genesis", "no genesis was drawn up");
    if args.out.exists() {
        return Err(refused()).map_err(|f| {
            let what = format!(
                "{} exists already, and signatures may stand in it",
                args.out.display()
            );
            anyhow!(what).context(f.next("name another file by --out"))
        });
    }
    let mut cards = Vec::with_capacity(args.cards.len());
    for path in &args.cards {
        let card = ceremony::read_card(path).map_err(|e| {
            anyhow!(e).context(
                Failure::new(
                    Exit::Failed,
                    "card",
                    format!("{} cannot be used", path.display()),
                )
                .next("ask that founder for the card again; each line of it is signed"),
            )
        })?;
        cards.push(card);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let rules = Rules {
        heartbeat_ms: args.heartbeat_ms,
        epoch_ms: args.epoch_ms,
        max_skew_ms: args.max_skew_ms,
        ..Rules::default()
    };
    let kind = match args.kind {
        Kind::Test => NetworkKind::Test,
        Kind::Live => NetworkKind::Live,
    };
    let created_ms = u64::try_from(now.as_millis())?;
    let file = ceremony::draw_up(
        &args.network,
        kind,
        created_ms,
        rules,
        &cards,
        &mut rand::rngs::OsRng,
    )
    .and_then(|file| ceremony::write_genesis(&args.out, &file).map(|()| file))
    .map_err(|e| anyhow!(e).context(refused()))?;
    if ctx.common.json {
        output::value(&summary(&file));
        return Ok(());
    }
    output::text(&format!(
        "{}written to {out}\nnext: hand {out} to every founder; each runs `tally genesis show {out}`, compares the network ID by\n\
         \x20     telephone, and runs `tally genesis sign {out} --network {id}`\n",
        output::plain(&ceremony::describe(&file)),
        out = args.out.display(),
        id = file.network_id(),
    ));
    Ok(())
}

fn sign(ctx: &Context, args: &GenesisSignArgs) -> Result<()> {
    let (config, dir) = ctx.config()?;
    let mut files = vec![read(&args.file)?];
    for path in &args.with {
        files.push(read(path)?);
    }
    let refused = || Failure::new(Exit::Failed, "genesis", "the genesis was not signed");
    let mut file = ceremony::merge(files).map_err(|e| anyhow!(e).context(refused()))?;
    if args.network.is_none() {
        agree(&file)?;
    }
    let own = ceremony::read_card(&dir.card_file()).map_err(|e| anyhow!(e).context(refused()))?;
    let passphrase = ctx.passphrase(args.passphrase_file.as_deref(), &config)?;
    let admin = KeyStore::new(dir.keys())
        .open_admin(&passphrase)
        .map_err(|e| anyhow!(e).context(refused()))?;
    let out = args.out.as_ref().unwrap_or(&args.file);
    ceremony::sign(&mut file, &own, &admin, args.network)
        .and_then(|_| ceremony::write_genesis(out, &file))
        .map_err(|e| anyhow!(e).context(refused()))?;
    if ctx.common.json {
        output::value(&summary(&file));
        return Ok(());
    }
    let missing = file.missing();
    let next = if missing.is_empty() {
        format!(
            "every founder has signed: hand {} to all, and each runs `tally join {}`",
            out.display(),
            out.display()
        )
    } else {
        format!(
            "hand {} on; not signed yet by {}",
            out.display(),
            missing.join(", ")
        )
    };
    output::text(&format!(
        "signed for {} in {}\nnext: {next}\n",
        own.entry().name,
        out.display()
    ));
    Ok(())
}

/// Shows the genesis at the terminal and asks.
fn agree(file: &GenesisFile) -> Result<()> {
    let stdin = std::io::stdin();
    let failure = |message: &str| {
        Failure::new(Exit::Usage, "network", message).next(format!(
            "if the founders agreed on it, add `--network {}`",
            file.network_id()
        ))
    };
    if !stdin.is_terminal() {
        return Err(
            failure("nobody is there to compare the network ID, and none was given").into(),
        );
    }
    output::warn(&output::plain(&ceremony::describe(file)));
    output::warn("Is this the network ID that the other founders have? Type yes to sign: ");
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    if line.trim() == "yes" {
        Ok(())
    } else {
        Err(failure("not signed").into())
    }
}
