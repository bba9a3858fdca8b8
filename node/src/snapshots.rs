//! Snapshots that this node makes and serves, and the dropping of old blocks.
//!
//! A snapshot lies in `ledger/snapshots/<height>/`; the newest two are kept, so that who is fetching one while the next is made can
//! end. Over HTTP, `/snapshot` says the newest height and `/snapshot/<height>/<file>` gives its files: nothing in them that does
//! not follow from the ledger's entries.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tally_contracts::ids::MemberId;
use tally_contracts::records::Body;
use tally_contracts::{Record, state};
use tally_ledger::snapshot::{MANIFEST, MAX_FILE_BYTES, Manifest, is_file_name};
use tally_ledger::{Error, Head, Ledger};
use tally_merkle::Note;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, now_ms};
use crate::config::LedgerSection;
use crate::files::{FileError, read_bounded, sync_dir};

/// Folder below the ledger's.
const FOLDER: &str = "snapshots";
/// Where one is made.
const MAKING: &str = "making";
/// How many are kept.
const KEPT: usize = 2;
/// How long a checkpoint of the snapshot's tree is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often what is configured is looked at.
const EVERY: Duration = Duration::from_secs(600);
const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;

/// Makes a snapshot in the folder `out`, or among those that this node serves. Gives the manifest and the folder.
///
/// # Errors
/// [`Error`].
pub fn save(chain: &Chain, out: Option<&Path>) -> Result<(Manifest, PathBuf), Error> {
    let _one = chain.saving().ok_or(Error::NoSnapshot {
        reason: "another one is being made".into(),
    })?;
    if let Some(out) = out {
        return Ok((save_to(chain, out)?, out.to_owned()));
    }
    let dir = chain.ledger().dir().join(FOLDER);
    let io = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    };
    let making = dir.join(MAKING);
    if making.exists() {
        // Of a node that was killed.
        fs::remove_dir_all(&making).map_err(io("remove", &making))?;
    }
    let manifest = save_to(chain, &making)?;
    let place = dir.join(manifest.header.height.to_string());
    if place.exists() {
        fs::remove_dir_all(&making).map_err(io("remove", &making))?;
    } else {
        fs::rename(&making, &place).map_err(io("rename", &making))?;
        sync_dir(&dir).map_err(|FileError { path, source, .. }| Error::Io {
            action: "sync",
            path,
            source,
        })?;
    }
    let heights = heights(chain);
    for old in heights.iter().rev().skip(KEPT) {
        let path = dir.join(old.to_string());
        fs::remove_dir_all(&path).map_err(io("remove", &path))?;
    }
    Ok((manifest, place))
}

/// A head that no entry commits to yet, or whose checkpoint the validators of another height cosigned, is tried again. What fails
/// leaves no file behind.
fn save_to(chain: &Chain, out: &Path) -> Result<Manifest, Error> {
    let until = Instant::now() + PATIENCE;
    // A folder with something in it is refused, and what is in it is somebody's.
    let ours = fs::read_dir(out).map_or(true, |mut files| files.next().is_none());
    loop {
        let saved = chain
            .ledger()
            .save_snapshot(out, &mut |head| wait_checkpoint(chain, head, until));
        let Err(error) = saved else { return saved };
        if ours {
            let _ = fs::remove_dir_all(out);
        }
        let again = match &error {
            Error::NoEntryYet { .. } => true,
            Error::Snapshot { file, .. } => file == MANIFEST,
            _ => false,
        };
        if !again || Instant::now() >= until {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Runs on one of the runtime's threads for blocking work.
fn wait_checkpoint(chain: &Chain, head: &Head, until: Instant) -> Result<Note, Error> {
    let left = until.saturating_duration_since(Instant::now());
    let waited = Handle::current().block_on(chain.wait_checkpoint(head.tree_size, left));
    let (_, note) = waited.map_err(|e| Error::NoSnapshot {
        reason: format!("{e}; `tally status` says who is missing"),
    })?;
    Ok(Note::parse(&note)?)
}

/// Heights of the snapshots that are whole, ascending.
fn heights(chain: &Chain) -> Vec<u64> {
    let dir = chain.ledger().dir().join(FOLDER);
    let mut heights: Vec<u64> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.path().join(MANIFEST).exists())
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    heights.sort_unstable();
    heights
}

/// Height of the newest snapshot that this node serves.
#[must_use]
pub fn newest(chain: &Chain) -> Option<u64> {
    heights(chain).last().copied()
}

/// The routes of snapshots and of the minimum index.
pub fn router(chain: Chain) -> Router {
    Router::new()
        .route("/snapshot", get(height))
        .route("/snapshot/{height}/{file}", get(file))
        .route("/minimum-index", get(minimum))
        .with_state(chain)
}

async fn height(State(chain): State<Chain>) -> Response {
    match tokio::task::spawn_blocking(move || newest(&chain)).await {
        Ok(Some(height)) => (
            [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))],
            format!("{height}\n"),
        )
            .into_response(),
        _ => (StatusCode::NOT_FOUND, "this node has made no snapshot\n").into_response(),
    }
}

async fn file(
    State(chain): State<Chain>,
    UrlPath((height, file)): UrlPath<(u64, String)>,
) -> Response {
    if !is_file_name(&file) {
        return (StatusCode::NOT_FOUND, "not a file of a snapshot\n").into_response();
    }
    let path = chain
        .ledger()
        .dir()
        .join(FOLDER)
        .join(height.to_string())
        .join(file);
    match tokio::task::spawn_blocking(move || read_bounded(&path, MAX_FILE_BYTES)).await {
        Ok(Ok(bytes)) => (
            [
                (
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/octet-stream"),
                ),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            ],
            bytes,
        )
            .into_response(),
        Ok(Err(e)) if e.is_missing() => (
            StatusCode::NOT_FOUND,
            "no such snapshot here; /snapshot says the newest\n",
        )
            .into_response(),
        Ok(Err(e)) => {
            tracing::error!(error = %e, "a snapshot's file could not be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn minimum(State(chain): State<Chain>) -> Response {
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    match tokio::task::spawn_blocking(move || chain.minimum_index()).await {
        Ok(Ok(note)) => (
            [
                (header::CONTENT_TYPE, text),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            ],
            note,
        )
            .into_response(),
        failed => {
            tracing::error!(?failed, "the minimum index could not be signed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Drops blocks that are older than so many days and not among the last so many entries, up to the newest checkpoint with a quorum;
/// nothing if both are 0. The own member's records stay with their BlockInfo, and those of others that end a match or an overlap in
/// which it took part: its codes, anchors and matches are proven by them.
/// Gives the index of the first entry that is left, if it is another one now.
///
/// # Errors
/// [`Error`].
pub fn drop_old(chain: &Chain, days: u64, entries: u64) -> Result<Option<u64>, Error> {
    if days == 0 && entries == 0 {
        return Ok(None);
    }
    let head = chain.ledger().head();
    let proven = chain.checkpoint().map_or(0, |(size, _)| size);
    let cutoff_ms = now_ms().saturating_sub(days.saturating_mul(DAY_MS));
    let member = chain.member();
    let dropped = chain.ledger().drop_old(
        &|header| {
            header.tree_size <= proven
                && (days == 0 || header.time_ms < cutoff_ms)
                && header.tree_size.saturating_add(entries) <= head.tree_size
        },
        &|record: &Record| {
            record.signers().iter().any(|s| s.member == member)
                || ends_session_of(chain.ledger(), &member, record)
        },
    )?;
    if dropped.is_some() {
        // Signed and on disk before the next reader asks.
        chain.minimum_index()?;
    }
    Ok(dropped)
}

/// Whether it is the record of another at the end of a match or an overlap in which a member took part.
pub(crate) fn ends_session_of(ledger: &Ledger, member: &MemberId, record: &Record) -> bool {
    let session = match record.body() {
        // Where the state cannot be read, it stays.
        Ok(Body::CloseMatch(b)) => {
            return state::match_state(ledger.state(), &b.session).map_or(true, |found| {
                found.is_some_and(|m| m.initiator == *member || m.responder == *member)
            });
        }
        Ok(Body::CloseOverlap(b)) => b.session,
        Ok(Body::ConfirmOverlap(b)) => b.session,
        _ => return false,
    };
    // Where the state cannot be read, it stays.
    state::overlap(ledger.state(), &session).map_or(true, |found| {
        found.is_some_and(|o| o.helper == *member || o.place(member).is_some())
    })
}

/// Makes snapshots and drops old blocks as configured, until `stop`.
pub async fn run_keeping(chain: Chain, config: LedgerSection, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        let (of, config) = (chain.clone(), config.clone());
        let done = tokio::task::spawn_blocking(move || {
            match drop_old(&of, config.retain_days, config.retain_entries) {
                Ok(Some(first)) => tracing::info!(first, "old entries were dropped"),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "old entries were not dropped"),
            }
            if config.snapshot_hours > 0 && is_due(&of, config.snapshot_hours) {
                match save(&of, None) {
                    Ok((manifest, _)) => {
                        tracing::info!(height = manifest.header.height, "made a snapshot");
                    }
                    Err(error) => tracing::error!(%error, "no snapshot was made"),
                }
            }
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "keeping the ledger small failed");
        }
    }
}

/// Whether the newest snapshot's block is so old.
fn is_due(chain: &Chain, hours: u64) -> bool {
    let Some(height) = newest(chain) else {
        return true;
    };
    let path = chain.ledger().dir().join(FOLDER);
    let path = path.join(height.to_string()).join(MANIFEST);
    let manifest = read_bounded(&path, MAX_FILE_BYTES)
        .ok()
        .and_then(|bytes| Manifest::from_bytes(&bytes).ok());
    manifest.is_none_or(|m| {
        m.header
            .time_ms
            .saturating_add(hours.saturating_mul(HOUR_MS))
            < now_ms()
    })
}
