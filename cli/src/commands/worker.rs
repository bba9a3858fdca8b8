//! `tally psi worker`

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tally_node::config::{read_key, read_password};
use tally_node::runtime::asked_to_stop;
use tally_node::workers::{Database, Queue, SharedStore, Worker, WorkerOptions, WorkersError};
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::args::{PsiCommand, WorkerArgs};
use crate::exit::{Exit, Failure};
use crate::output;

/// How often an idle worker looks for a bucket.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Elements that a sorter keeps in memory: 32 MiB.
const ROWS_IN_MEMORY: usize = 1 << 20;

pub(super) fn run(ctx: &Context, command: &PsiCommand) -> Result<()> {
    let PsiCommand::Worker(args) = command;
    let options = options(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let finished = runtime.block_on(async {
        // A wrong key, or no database, is said at once and not only in a log.
        options.queue.check().await?;
        if !ctx.common.json {
            output::text(&format!("worker {} waits for buckets\n", options.name));
        }
        let stop = CancellationToken::new();
        tokio::spawn({
            let stop = stop.clone();
            async move {
                asked_to_stop().await;
                stop.cancel();
            }
        });
        Worker::new(options).run(&stop).await
    });
    let finished = finished.map_err(failure)?;
    ctx.show(&json!({ "finished_buckets": finished }), None);
    Ok(())
}

fn options(args: &WorkerArgs) -> Result<WorkerOptions> {
    let password = &args.database_password_file;
    let database = Database {
        url: args.database.clone(),
        password: password
            .as_deref()
            .map(|file| read_password("--database-password-file", file))
            .transpose()?,
        key: read_key("--key-file", &args.key_file)?,
    };
    let name = args.name.clone();
    Ok(WorkerOptions {
        queue: Queue::new(&database).map_err(failure)?,
        store: SharedStore::open(&args.store).map_err(failure)?,
        key: database.key,
        name: name.unwrap_or_else(|| format!("pid {}", std::process::id())),
        lease: Duration::from_secs(args.lease),
        look_every: LOOK_EVERY,
        spill: args.spill.clone().unwrap_or_else(std::env::temp_dir),
        rows_in_memory: ROWS_IN_MEMORY,
    })
}

fn failure(error: WorkersError) -> anyhow::Error {
    let (code, next) = match &error {
        WorkersError::Key { .. } => (
            "worker_key",
            "give the node ([workers] key_file) and every worker (--key-file) the same key",
        ),
        WorkersError::Store { .. } => (
            "store",
            "the node's tally.toml names the store under [workers] store",
        ),
        _ => (
            "database",
            "the node's tally.toml names the database under [workers] database",
        ),
    };
    let failure = Failure::new(Exit::Failed, code, "this worker cannot work").next(next);
    anyhow::Error::new(error).context(failure)
}
