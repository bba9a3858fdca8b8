//! Proofs over HTTP: of a code, of a scan, for whoever knows it, and the network's policy.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tally_evidence::{Roster, policy_of};
use tally_merkle::Note;

use super::code_file::{self, CodeFiles};
use super::{Kit, ProofError, place, scan_kit, size_with};
use crate::chain::Chain;
use crate::gateway::{Gateway, Problem};
use crate::issuer::IssuerStore;
use crate::scans::{ScanId, ScanService};

/// How long a request waits for the checkpoint that it needs.
pub(super) const WAIT: Duration = Duration::from_secs(5);
/// How often the newest checkpoint is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What the routes need.
#[derive(Clone)]
struct Proofs {
    chain: Chain,
    scans: Arc<ScanService>,
}

/// The routes, for a node whose gateway is `gateway`.
pub fn router(
    chain: Chain,
    scans: Arc<ScanService>,
    issuer: Arc<IssuerStore>,
    gateway: Arc<Gateway>,
) -> Router {
    let codes = Router::new()
        .route("/v1/codes/{gtin}/{serial}/tlog-proof", get(code_file::code))
        .with_state(Arc::new(CodeFiles::new(chain.clone(), issuer, gateway)));
    Router::new()
        .route("/v1/scans/{id}/tlog-proof", get(scan))
        .route("/policy", get(policy))
        .with_state(Proofs { chain, scans })
        .merge(codes)
}

/// A text to be saved under a name.
pub(super) fn file(name: &str, text: String) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if let Ok(value) = format!("attachment; filename=\"{name}\"").parse() {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// The network's policy, which every proof needs.
async fn policy(State(proofs): State<Proofs>) -> Result<Response, Problem> {
    let ledger = proofs.chain.ledger();
    let roster = Roster::of_state(ledger.state(), ledger.head().height).map_err(internal)?;
    let policy =
        policy_of(&roster.network, &roster.members, &roster.validators()).map_err(internal)?;
    Ok(file("network.policy", policy.to_string()))
}

/// The proof of a scan.
async fn scan(State(proofs): State<Proofs>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id: ScanId = id
        .parse()
        .map_err(|_| Problem::not_found("expected a scan ID of 32 hex digits"))?;
    let kit = scan_proof(&proofs.chain, &proofs.scans, id, WAIT)
        .await?
        .ok_or_else(no_checkpoint)?;
    Ok(file(&format!("scan-{id}.tlog-proof"), kit.proof))
}

/// The proof of a scan of this node; `None` if no checkpoint with its anchor gets a quorum within `wait`.
///
/// # Errors
/// A [`Problem`]: there is no such scan, it is not anchored yet, or the node failed.
pub(crate) async fn scan_proof(
    chain: &Chain,
    scans: &Arc<ScanService>,
    id: ScanId,
    wait: Duration,
) -> Result<Option<Kit>, Problem> {
    let (proof, receipt) = scans.proof(id).await?;
    let until = tokio::time::Instant::now() + wait;
    loop {
        if let Some((size, note)) = chain.checkpoint() {
            let (chain, proof, receipt) = (chain.clone(), proof.clone(), receipt.clone());
            let made = tokio::task::spawn_blocking(move || {
                let ledger = chain.ledger();
                let place = place(ledger, &proof.anchor.record)?;
                if size < size_with(ledger, place)? {
                    return Ok(None);
                }
                let note = Note::parse(&note)?;
                match scan_kit(ledger, place, &proof, &receipt, &note) {
                    // By power it is a quorum, by number not yet.
                    Err(ProofError::Verify(tally_evidence::Error::Quorum { .. })) => Ok(None),
                    kit => kit.map(Some),
                }
            })
            .await
            .map_err(internal)?
            .map_err(internal)?;
            if made.is_some() {
                return Ok(made);
            }
        }
        if tokio::time::Instant::now() >= until {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) fn no_checkpoint() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no-checkpoint",
        "No checkpoint yet",
        "no checkpoint that can prove it has a quorum of cosignatures yet",
    )
    .retry_after(3)
}

pub(super) fn internal(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "a proof could not be made");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "The node failed",
        "the proof could not be made",
    )
}
