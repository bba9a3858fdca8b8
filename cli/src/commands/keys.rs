//! `tally keys`

use std::path::Path;

use anyhow::{Result, anyhow};
use serde_json::{Map, Value, json};
use tally_contracts::records::KeyPurpose;
use tally_node::keys::{KeyError, KeyStore};

use super::Context;
use crate::args::KeysCommand;
use crate::exit::{Exit, Failure};

pub(super) fn run(ctx: &Context, command: &KeysCommand) -> Result<()> {
    match command {
        KeysCommand::Rotate {
            purpose,
            passphrase_file,
            work_factor,
        } => rotate(ctx, purpose, passphrase_file.as_deref(), *work_factor),
        KeysCommand::List { passphrase_file } => list(ctx, passphrase_file.as_deref()),
    }
}

fn failed(error: KeyError) -> anyhow::Error {
    anyhow!(error).context(Failure::new(
        Exit::Failed,
        "keys",
        "no key was made or read",
    ))
}

fn rotate(ctx: &Context, purpose: &str, passphrase: Option<&Path>, work_factor: u8) -> Result<()> {
    let Some(purpose) = KeyPurpose::parse(purpose) else {
        let all: Vec<_> = KeyPurpose::ALL.iter().map(|p| p.name()).collect();
        let what = format!("{purpose:?} is no purpose of a key");
        return Err(Failure::new(Exit::Usage, "usage", what)
            .next(format!("one of {}", all.join(", ")))
            .into());
    };
    let (config, dir) = ctx.config()?;
    let passphrase = ctx.passphrase(passphrase, &config)?;
    let store = KeyStore::new(dir.keys());
    // Under a passphrase that does not open the others, the node would not start any more.
    let known = store.open_node(&passphrase).map(drop);
    known.map_err(failed)?;
    let (public, path) = store
        .create_rotated(&passphrase, work_factor, purpose, &mut rand::rngs::OsRng)
        .map_err(failed)?;
    let next = format!(
        "back up {}, then: tally change propose rotate-key --purpose {purpose} --new {public}{}",
        path.display(),
        ctx.config_option()
    );
    let answer = json!({"purpose": purpose.name(), "new": public.to_string(), "file": path});
    ctx.show(&answer, Some(&next));
    Ok(())
}

fn list(ctx: &Context, passphrase: Option<&Path>) -> Result<()> {
    let (config, dir) = ctx.config()?;
    let passphrase = ctx.passphrase(passphrase, &config)?;
    let store = KeyStore::new(dir.keys());
    let mut answer = Map::new();
    let public = store.open_node(&passphrase).map_err(failed)?.public();
    for purpose in KeyPurpose::ALL {
        if let Some(key) = public.of(*purpose) {
            answer.insert(purpose.name().into(), key.to_string().into());
        }
    }
    match store.open_admin(&passphrase) {
        Ok(admin) => {
            let name = KeyPurpose::Admin.name();
            answer.insert(name.into(), admin.public().to_string().into());
        }
        Err(KeyError::Missing { .. }) => {}
        Err(e) => return Err(failed(e)),
    }
    let since: Vec<Value> = store
        .rotated_files()
        .map_err(failed)?
        .into_iter()
        .map(|f| json!({"purpose": f.purpose.name(), "starts_with": f.starts_with, "file": f.path}))
        .collect();
    answer.insert("made_since".into(), since.into());
    ctx.show(&Value::Object(answer), None);
    Ok(())
}
