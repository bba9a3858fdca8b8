//! `tally snapshot`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tally_ledger::Error;
use tally_ledger::snapshot::{MANIFEST, MAX_FILE_BYTES, Manifest, Source, check_empty, restore};
use tally_merkle::note::MAX_NOTE_BYTES;
use tally_merkle::{Checkpoint, Note};
use tally_node::backup::{Forgotten, Probation};
use tally_node::files::read_bounded;

use super::{Context, absolute};
use crate::args::{SnapshotCommand, SnapshotRestoreArgs};
use crate::exit::{Exit, Failure};
use crate::http::{Getter, Target};
use crate::output;
use crate::progress::{Bar, Progress};

/// A height in text.
const MAX_HEIGHT_BYTES: usize = 32;
/// The longest wait for a snapshot of the node, in seconds: a large state is written meanwhile.
const SAVE_TIMEOUT_S: u64 = 3_600;

pub(super) fn run(ctx: &Context, command: &SnapshotCommand) -> Result<()> {
    match command {
        SnapshotCommand::Save { out } => {
            let out = out.as_deref().map(absolute).transpose()?;
            let next = match &out {
                Some(dir) => format!(
                    "tally snapshot restore --from {} on the new node",
                    dir.display()
                ),
                None => "tally snapshot restore --from http://THIS-NODE on the new node".into(),
            };
            let answer = ctx.ask_within("snapshot_save", &json!({"out": out}), SAVE_TIMEOUT_S)?;
            ctx.show(&answer, Some(&next));
            Ok(())
        }
        SnapshotCommand::Show { from } => {
            let mut files = Files::open(from, ctx.timeout())?;
            let bytes = files
                .fetch(MANIFEST, MAX_FILE_BYTES)
                .map_err(|why| anyhow!(why).context(refused("there is no snapshot")))?;
            show(ctx, &Manifest::from_bytes(&bytes)?, None);
            Ok(())
        }
        SnapshotCommand::Restore(args) => bring(ctx, args),
    }
}

fn bring(ctx: &Context, args: &SnapshotRestoreArgs) -> Result<()> {
    let (config, dir) = ctx.config()?;
    ctx.stopped(&dir)?;
    let genesis = Context::genesis(&dir)?;
    let trusted = args
        .checkpoint
        .iter()
        .map(|path| {
            let text = String::from_utf8(read_bounded(path, MAX_NOTE_BYTES)?)?;
            Ok(Note::parse(&text)?.text().parse::<Checkpoint>()?)
        })
        .collect::<Result<Vec<_>>>()
        .context("a checkpoint that you trust cannot be read")?;
    let options = config.ledger_options();
    let mut files = Files::open(&args.from, ctx.timeout())?;
    // A node that keeps its ledger keeps its vote too.
    check_empty(&dir.ledger())
        .map_err(|e| anyhow!(e).context(refused("this node did not begin at the snapshot")))?;
    // From here on this node may not know what its key has voted for.
    Probation::impose(&dir, Forgotten::Snapshot)?;
    let mut bar = Bar::new(ctx.common.json);
    let mut news = |done, total| {
        bar.update(&Progress {
            done,
            total,
            what: "bytes".into(),
        });
    };
    let document = genesis.document();
    let restored = restore(
        &dir.ledger(),
        document,
        options,
        &mut files,
        &trusted,
        &mut news,
    );
    drop(bar);
    let (ledger, manifest) = restored.map_err(|e| {
        let not_verified = matches!(e, Error::Snapshot { .. });
        let failure = Failure {
            exit: if not_verified { Exit::NotVerified } else { Exit::Failed },
            ..refused("this node did not begin at the snapshot")
        };
        anyhow!(e).context(if not_verified {
            failure.next("take a snapshot of another member, or start without one: `tally up` fetches every block")
        } else {
            failure
        })
    })?;
    if !ctx.common.json {
        output::text(&format!(
            "begun at height {}; compare the block's hash with a second member's\n",
            ledger.head().height
        ));
    }
    let next = format!("tally up{}", ctx.config_option());
    show(ctx, &manifest, Some(&next));
    Ok(())
}

fn show(ctx: &Context, manifest: &Manifest, next: Option<&str>) {
    let mut value = shown(manifest);
    if !ctx.common.json {
        output::tell_moment(&mut value, "time_ms");
    }
    ctx.show(&value, next);
}

fn refused(what: &str) -> Failure {
    Failure::new(Exit::Failed, "snapshot", what)
}

fn shown(manifest: &Manifest) -> Value {
    json!({
        "network_id": manifest.network.to_string(),
        "height": manifest.header.height,
        "block": manifest.header.hash().to_string(),
        "time_ms": manifest.header.time_ms,
        "tree_size": manifest.header.tree_size,
        "tree_root": manifest.header.tree_root.to_string(),
        "state_root": manifest.header.state_root.to_string(),
        "files": manifest.state.len() + manifest.tiles.len() + 3,
        "bytes": manifest.total_bytes(),
    })
}

/// The files of a snapshot: in a folder, or of a node by HTTP.
enum Files {
    Folder(PathBuf),
    Http { getter: Box<Getter>, folder: String },
}

impl Files {
    /// A URL or a folder. A node is asked which its newest snapshot is; all files are then of that one.
    fn open(from: &str, timeout: Duration) -> Result<Self> {
        if !from.contains("://") {
            return Ok(Self::Folder(PathBuf::from(from)));
        }
        let mut getter = Box::new(Getter::new(Target::parse(from)?, timeout)?);
        let height = getter.get("snapshot", MAX_HEIGHT_BYTES).context(
            refused("there is no snapshot")
                .next("have its operator run `tally snapshot save`, or ask another member"),
        )?;
        let height: u64 = std::str::from_utf8(&height)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .context("the node named no height")?;
        let folder = format!("snapshot/{height}");
        Ok(Self::Http { getter, folder })
    }
}

impl Source for Files {
    fn fetch(&mut self, name: &str, max: usize) -> Result<Vec<u8>, String> {
        match self {
            Self::Folder(dir) => {
                read_bounded(&dir.join(name), max).map_err(|e| match e.is_missing() {
                    true => format!("{} is not there", dir.join(name).display()),
                    false => e.to_string(),
                })
            }
            Self::Http { getter, folder } => getter
                .get(&format!("{folder}/{name}"), max)
                .map_err(|e| format!("{e:#}")),
        }
    }
}
