//! `tally dealer`

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tally_node::files::write_atomic;
use zeroize::Zeroizing;

use super::{Context, text_at};
use crate::args::DealerCommand;
use crate::exit::{Exit, Failure};

pub(super) fn run(ctx: &Context, command: &DealerCommand) -> Result<()> {
    match command {
        DealerCommand::Add {
            name,
            key_file,
            have_key,
        } => {
            let known = have_key
                .then(|| std::fs::read_to_string(key_file).map(Zeroizing::new))
                .transpose()
                .with_context(|| format!("{} cannot be read", key_file.display()))?;
            if !have_key && key_file.exists() {
                let what = format!("{} is there already", key_file.display());
                return Err(Failure::new(Exit::Usage, "file", what)
                    .next("name a new file, or take over the key in it with --have-key")
                    .into());
            }
            let key = known.as_ref().map(|k| k.trim());
            let mut answer = ctx.ask("dealer_add", &json!({"name": name, "key": key}))?;
            if !have_key {
                let key = Zeroizing::new(format!("{}\n", text_at(&answer, "key")));
                write_atomic(key_file, key.as_bytes(), 0o600)?;
            }
            // The key goes into its file alone.
            if let Value::Object(map) = &mut answer {
                map.remove("key");
                map.insert("key_file".into(), json!(key_file));
            }
            let next = "hand the file to the dealer; it says `tally event sell --key-file FILE CODE`, or sends the key as \
                        Authorization: Bearer to /v1/events";
            ctx.show(&answer, Some(next));
        }
        DealerCommand::List => ctx.list(
            &ctx.ask("dealers", &json!({}))?,
            "no dealers yet: `tally dealer add` names one",
        ),
        DealerCommand::Remove { name } => {
            ctx.show(&ctx.ask("dealer_remove", &json!({"name": name}))?, None);
        }
    }
    Ok(())
}
