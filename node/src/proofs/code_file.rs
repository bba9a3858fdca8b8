//! The proof of a code over HTTP, for whoever holds the pack.
//!
//! To make one costs some milliseconds and waits for a checkpoint. So few are made at once, and each is kept for a while. Asking for the
//! proof of an invented code is a guess as any other: it is counted, and its source is slowed like one that scans.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::Semaphore;

use super::http::{WAIT, file, internal, no_checkpoint};
use super::{CodeEvidence, ProofError, sealed};
use crate::chain::Chain;
use crate::gateway::{Gateway, Problem};
use crate::issuer::{IssuerError, IssuerStore};
use crate::scans::{CodeHash, ScannedCode, Verdict};

/// Proofs that are made at once.
const AT_ONCE: usize = 4;
/// How long a request waits for its turn.
const QUEUE: Duration = Duration::from_secs(2);
/// How long a proof is handed out again. It says of which time it is.
const FRESH: Duration = Duration::from_secs(60);
/// Proofs that are kept, of about ten kilobytes each.
const MAX_KEPT: usize = 256;

/// What the route needs.
pub(super) struct CodeFiles {
    chain: Chain,
    issuer: Arc<IssuerStore>,
    gateway: Arc<Gateway>,
    kept: Mutex<Kept>,
    turns: Semaphore,
}

/// Where a code stands, as far as its proof tells it: of another state another proof is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Released,
    Other(Verdict),
}

impl From<Verdict> for Standing {
    fn from(verdict: Verdict) -> Self {
        if verdict.is_counted() {
            Self::Released
        } else {
            Self::Other(verdict)
        }
    }
}

/// Proofs made a short time ago.
#[derive(Default)]
struct Kept(HashMap<CodeHash, (Standing, Instant, String)>);

impl Kept {
    fn get(&self, code: &CodeHash, standing: Standing, now: Instant) -> Option<String> {
        let (of, made, proof) = self.0.get(code)?;
        (*of == standing && now.saturating_duration_since(*made) < FRESH).then(|| proof.clone())
    }

    fn put(&mut self, code: CodeHash, standing: Standing, now: Instant, proof: String) {
        if self.0.len() >= MAX_KEPT && !self.0.contains_key(&code) {
            self.0
                .retain(|_, (_, made, _)| now.saturating_duration_since(*made) < FRESH);
            let oldest = self.0.iter().min_by_key(|(_, (_, made, _))| *made);
            if let Some(oldest) = oldest.map(|(code, _)| *code)
                && self.0.len() >= MAX_KEPT
            {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(code, (standing, now, proof));
    }
}

impl CodeFiles {
    pub(super) fn new(chain: Chain, issuer: Arc<IssuerStore>, gateway: Arc<Gateway>) -> Self {
        Self {
            chain,
            issuer,
            gateway,
            kept: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A proof is put in as a whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn proof(&self, code: &ScannedCode, standing: Standing) -> Result<String, Problem> {
        let hash = code.hash();
        let kept = || self.kept().get(&hash, standing, Instant::now());
        if let Some(proof) = kept() {
            return Ok(proof);
        }
        let _turn = tokio::time::timeout(QUEUE, self.turns.acquire())
            .await
            .map_err(|_| Problem::busy("other proofs are being made"))?;
        // Whoever had the turn before may have made just this one.
        if let Some(proof) = kept() {
            return Ok(proof);
        }
        let (issuer, wanted) = (Arc::clone(&self.issuer), code.clone());
        let unit =
            tokio::task::spawn_blocking(move || issuer.proof(wanted.gtin(), wanted.serial()))
                .await
                .map_err(internal)?
                .map_err(|error| match error {
                    // Another gateway of the issuer can verify codes by the keys it was given, and holds no trees.
                    IssuerError::NotIssued => {
                        not_here("no node of this address holds the tree of this code's batch")
                    }
                    error => internal(error),
                })?;
        let gtin = *code.gtin();
        let made = sealed(
            &self.chain,
            move |ledger| CodeEvidence::take(ledger, unit.clone(), &gtin),
            WAIT,
        )
        .await;
        let kit = match made {
            Ok(kit) => kit.ok_or_else(no_checkpoint)?,
            Err(ProofError::Ledger(tally_ledger::Error::NoEntryYet { .. })) => {
                return Err(no_checkpoint());
            }
            Err(error) => return Err(internal(error)),
        };
        let mut all = self.kept();
        all.put(hash, standing, Instant::now(), kit.proof.clone());
        Ok(kit.proof)
    }
}

fn not_here(detail: impl Into<String>) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-proof",
        "There is no proof of this code here",
        detail,
    )
}

/// `GET /v1/codes/{gtin}/{serial}/tlog-proof`: the file that `tally audit verify` and the verifier page take. A recalled, withdrawn or not
/// released code of this member has one too; it says so.
pub(super) async fn code(
    State(files): State<Arc<CodeFiles>>,
    Path((gtin, serial)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let code = ScannedCode::new(&gtin, &serial)?;
    match files.gateway.product(&code) {
        Some(product) if product.own => {}
        Some(product) => {
            let owner = product.owner_name;
            return Err(not_here(format!("{owner} issues it: ask its node")));
        }
        None => return Err(not_here("nobody registered this product")),
    }
    let known = files
        .gateway
        .look(request.headers(), request.extensions(), &code);
    let verdict = known.await?.verdict;
    match verdict {
        Verdict::Unknown => Err(not_here("nobody issued this code")),
        Verdict::CannotVerifyNow => Err(Problem::busy("codes cannot be verified now")),
        verdict => {
            let proof = files.proof(&code, verdict.into()).await?;
            let name = format!("code-{}-{}.tlog-proof", code.gtin(), code.serial());
            Ok(file(&name, proof))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_kept_for_a_while_and_while_they_are_true() {
        let mut kept = Kept::default();
        let now = Instant::now();
        let (code, released) = (CodeHash([1; 32]), Standing::from(Verdict::GenuineFirst));
        kept.put(code, released, now, "a".into());
        assert_eq!(kept.get(&code, released, now).as_deref(), Some("a"));
        // The first scan changes nothing that is proven, a recall does.
        assert_eq!(released, Standing::from(Verdict::Suspect));
        assert_eq!(kept.get(&code, Verdict::Recalled.into(), now), None);
        assert_eq!(kept.get(&code, released, now + FRESH), None);
        assert_eq!(kept.get(&CodeHash([2; 32]), released, now), None);
    }

    #[test]
    fn the_oldest_proof_makes_room() {
        let mut kept = Kept::default();
        let start = Instant::now();
        let hash = |i: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&(i as u64).to_be_bytes());
            CodeHash(hash)
        };
        let at = |i: usize| start + Duration::from_millis(i as u64);
        for i in 0..=MAX_KEPT {
            kept.put(hash(i), Standing::Released, at(i), i.to_string());
        }
        assert_eq!(kept.0.len(), MAX_KEPT);
        assert_eq!(kept.get(&hash(0), Standing::Released, start), None);
        assert!(kept.get(&hash(1), Standing::Released, start).is_some());
        // Those that are too old all go.
        let later = start + FRESH + Duration::from_secs(1);
        kept.put(hash(999), Standing::Released, later, "new".into());
        assert_eq!(kept.0.len(), 1);
    }
}
