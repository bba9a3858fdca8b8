//! `tally backup`, `tally restore`

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;
use tally_node::backup::{Key, Lock, Manifest, backup, new_identity, restore};
use tally_node::chain::now_ms;
use tally_node::config::{CONFIG_FILE, Config, DataDir};
use tally_node::files::{parent, read_bounded, sync_dir};
use tally_node::passphrase::{Purpose, find_passphrase};

use super::Context;
use super::reindex::rebuild;
use crate::args::{BackupArgs, RestoreArgs};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::{Bar, Progress};

/// Largest age key file that is read, in bytes.
const MAX_IDENTITY_BYTES: usize = 64 * 1024;

pub(super) fn back_up(ctx: &Context, args: &BackupArgs) -> Result<()> {
    if let Some(path) = &args.new_identity {
        return identity(ctx, path);
    }
    let (config, dir) = ctx.config()?;
    let out = args.out.as_deref().context("no file to write is named")?;
    if out.symlink_metadata().is_ok() {
        let what = format!(
            "{} is there already, and nothing was written",
            out.display()
        );
        return Err(Failure::new(Exit::Failed, "file", what)
            .next("name a new file by --out: the last backup is removed when this one is known to be good")
            .into());
    }
    if args.to.is_empty() && args.passphrase_file.is_none() {
        let what =
            "who shall be able to open the backup: expected --to age1... or --passphrase-file FILE";
        return Err(Failure::new(Exit::Usage, "usage", what)
            .next("`tally backup --new-identity FILE`, on another machine, makes a key and prints its age1...")
            .into());
    }
    let lock = match &args.passphrase_file {
        // Named by the command line alone: a backup under the passphrase of the keys in it would fall with them.
        Some(file) => Lock::Passphrase(find_passphrase(Some(file), None, Purpose::Create)?),
        None => Lock::recipients(args.to.iter().map(String::as_str))?,
    };
    let network =
        Context::genesis(&dir).map_or_else(|_| String::new(), |g| g.network_id().to_string());
    let manifest = Manifest {
        version: 1,
        member: config.member.name.clone(),
        network,
        made_ms: now_ms(),
        blocks: !args.without_blocks,
    };
    let mut bar = Bar::new(ctx.common.json);
    let mut news = |done, total| {
        bar.update(&Progress {
            done,
            total,
            what: "bytes".into(),
        });
    };
    // Under another name until it is whole, so that a file of that name is always a backup.
    let temp = out.with_extension("part");
    let written = private(&temp).map(BufWriter::new).and_then(|file| {
        let mut file = file;
        let tally = backup(&dir, &lock, &manifest, &mut file, &mut news)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&temp, out)?;
        sync_dir(parent(out))?;
        Ok(tally)
    });
    drop(bar);
    if written.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    let tally = written.with_context(|| format!("{} was not written", out.display()))?;
    let answer = json!({
        "out": out, "member": manifest.member, "network_id": manifest.network, "files": tally.files, "bytes": tally.bytes,
        "blocks": manifest.blocks,
    });
    ctx.show(&answer, Some("keep it apart from the key or passphrase that opens it, and try `tally restore` on another machine"));
    Ok(())
}

/// Writes a new age identity, for the machine that shall restore.
fn identity(ctx: &Context, path: &Path) -> Result<()> {
    let (text, recipient) = new_identity();
    let mut file = private(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    sync_dir(parent(path))?;
    let answer = json!({"identity": path, "recipient": recipient});
    ctx.show(
        &answer,
        Some(&format!(
            "keep {} off this machine; tally backup --to {recipient} --out FILE",
            path.display()
        )),
    );
    Ok(())
}

/// A new file that only its owner reads.
fn private(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

pub(super) fn bring_back(ctx: &Context, args: &RestoreArgs) -> Result<()> {
    let dir = DataDir::new(&args.dir);
    let key = match &args.identity {
        Some(path) => {
            let bytes = zeroize::Zeroizing::new(read_bounded(path, MAX_IDENTITY_BYTES)?);
            std::str::from_utf8(&bytes)
                .ok()
                .and_then(Key::identity)
                .with_context(|| format!("{} holds no line AGE-SECRET-KEY-1...", path.display()))?
        }
        None => Key::Passphrase(find_passphrase(
            args.passphrase_file.as_deref(),
            None,
            Purpose::Open,
        )?),
    };
    let file = File::open(&args.file)
        .with_context(|| format!("{} cannot be read", args.file.display()))?;
    let mut bar = Bar::new(ctx.common.json);
    let mut news = |done| {
        bar.update(&Progress {
            done,
            total: 0,
            what: "bytes".into(),
        });
    };
    let restored = restore(file, &key, &dir, &mut news).map_err(|e| {
        anyhow!(e).context(
            Failure::new(Exit::Failed, "restore", "nothing was restored")
                .next("another copy, another key, or an empty --dir"),
        )
    })?;
    drop(bar);
    let path = dir.root().join(CONFIG_FILE);
    let config = Config::load(&path)?;
    if config.data_dir(&path).root() != dir.root() {
        bail!(
            "node.data_dir in {} names another directory; mend it before you start the node",
            path.display()
        );
    }
    let height = if restored.manifest.blocks && !restored.manifest.network.is_empty() {
        rebuild(ctx, &config, &dir)
            .context("the files are there, but the blocks do not give a ledger: remove ledger/blocks and fetch them from the others")?
            .height
    } else {
        0
    };
    let answer = json!({
        "dir": dir.root(), "member": restored.manifest.member, "network_id": restored.manifest.network,
        "files": restored.tally.files, "bytes": restored.tally.bytes, "height": height,
    });
    if !ctx.common.json {
        output::text(
            "restored; the node follows the others at first, and votes again once they have decided a new block\n",
        );
    }
    ctx.show(
        &answer,
        Some(&format!(
            "tally config check --config {0}, then tally up --config {0}",
            path.display()
        )),
    );
    Ok(())
}
