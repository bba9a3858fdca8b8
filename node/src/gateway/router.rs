//! The routes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Extensions, HeaderMap, Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use prometheus_client::registry::Registry;
use tally_trace::probing::{Alarm, Probing, ProbingLimits};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::backoff::{Backoff, SourceKey, Waiting};
use super::guard::{guard, operators_only};
use super::outside::{Asked, Outside};
use super::source::Source;
use super::whereabouts::told_by_proxy;
use super::{GatewayConfig, Metrics, NodeStatus, Problem, api, events, ops, pages};
use crate::scans::{
    ClaimCheck, CodeHash, Knowledge, MAX_CLAIM, Place, Product, ScanError, ScanOutcome,
    ScanRequest, ScanService, ScannedCode, Verdict,
};

/// Right codes of one source, and of all, that may wait outside.
const OWN_OUTSIDE: (usize, usize) = (1024, 65_536);
/// The same for codes of other members. Whether they are right only their issuers can say, so invented ones are among them, and who waited is
/// asked for there.
const FOREIGN_OUTSIDE: (usize, usize) = (32, 4096);
/// When a request is turned away, whatever was found of its code meanwhile; that takes microseconds.
const TURN_AWAY: Duration = Duration::from_millis(10);

/// The gateway of one node.
pub struct Gateway {
    pub(super) config: GatewayConfig,
    pub(super) service: Arc<ScanService>,
    pub(super) status: Arc<dyn NodeStatus>,
    pub(super) metrics: Metrics,
    pub(super) backoff: Arc<Backoff<SourceKey>>,
    pub(super) claim_backoff: Arc<Backoff<(SourceKey, CodeHash)>>,
    /// By the name of a dealer, who has shown a key: an address that guesses is no dealer's fault.
    dealer_backoff: Arc<Backoff<[u8; 16]>>,
    own_outside: Outside,
    foreign_outside: Outside,
    pub(super) permits: Semaphore,
    probing: Mutex<Probing>,
}

impl Gateway {
    /// Puts the gateway together. `registry` may hold metrics of other parts of the node.
    #[must_use]
    pub fn new(
        config: GatewayConfig,
        service: Arc<ScanService>,
        status: Arc<dyn NodeStatus>,
        registry: Registry,
    ) -> Arc<Self> {
        Arc::new(Self {
            backoff: Arc::new(Backoff::new(config.backoff)),
            claim_backoff: Arc::new(Backoff::new(config.claim_backoff)),
            dealer_backoff: Arc::new(Backoff::new(config.backoff)),
            own_outside: Outside::new(OWN_OUTSIDE.0, OWN_OUTSIDE.1),
            foreign_outside: Outside::new(FOREIGN_OUTSIDE.0, FOREIGN_OUTSIDE.1),
            permits: Semaphore::new(config.max_requests.max(1)),
            probing: Mutex::new(Probing::new(ProbingLimits::default())),
            metrics: Metrics::new(registry),
            config,
            service,
            status,
        })
    }

    /// All routes, and those of `more` beside them under the same limits and headers. `more` must have no fallback of its own.
    /// Under a base URL with a path they are served with and without it, for proxies that strip it and for those that do not.
    pub fn router(self: &Arc<Self>, more: Router) -> Router {
        let operators = Router::new()
            .route("/v1/status", get(ops::status))
            .route("/metrics", get(ops::metrics))
            .route_layer(from_fn_with_state(Arc::clone(self), operators_only));
        let routes = Router::new()
            .route("/", get(pages::landing))
            .route("/check", get(pages::check))
            .route("/01/{*rest}", get(pages::look).post(pages::scan))
            .route("/s/{id}", get(pages::result))
            .route("/assets/mark.svg", get(pages::mark))
            .route("/.well-known/gs1resolver", get(pages::resolver))
            .route("/v1/scans", post(api::post_scan))
            .route("/v1/scans/{id}", get(api::get_scan))
            .route("/v1/scans/{id}/proof", get(api::get_proof))
            .route("/v1/events", post(events::post))
            .route("/healthz", get(ops::healthz))
            .route("/readyz", get(ops::readyz))
            .merge(operators)
            .with_state(Arc::clone(self))
            .merge(more);
        let base = self.config.base_path();
        let routes = if base.is_empty() {
            routes
        } else {
            Router::new().nest(base, routes.clone()).merge(routes)
        };
        routes
            .fallback(fallback)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(DefaultBodyLimit::max(self.config.max_body_bytes))
            .layer(from_fn_with_state(Arc::clone(self), guard))
    }

    /// Where the caller's address is, coarsely, if a trusted proxy says so.
    pub(super) fn address_place(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<Place> {
        let cell_length = self.service.cell_length();
        told_by_proxy(&self.config, cell_length, headers, extensions)
    }

    /// Why no scan is taken now.
    pub(super) fn read_only(&self) -> Option<String> {
        self.status
            .read_only()
            .or_else(|| self.service.log().read_only())
    }

    /// Lets a source in that may have to wait; with a claim code, also for its tries at this pack.
    pub(super) async fn enter(
        &self,
        source: Source,
        code: &ScannedCode,
        claim: Option<&str>,
    ) -> Result<Entered, Problem> {
        let key = source.key();
        let has_waited = |outside: &Outside| {
            outside.holds(key) && outside.has_waited(key, &self.asked(code, claim), Instant::now())
        };
        if has_waited(&self.own_outside) || has_waited(&self.foreign_outside) {
            return Ok(Entered::default());
        }
        match self.wait_turn(key, claim.map(|_| code)).await {
            Ok(entered) => Ok(entered),
            Err(seconds) => Err(self.turn_away(source, code, claim, seconds).await),
        }
    }

    /// As [`Self::enter`], for a dealer.
    pub(super) async fn enter_dealer(
        &self,
        dealer: &str,
    ) -> Result<Option<Waiting<[u8; 16]>>, Problem> {
        let name = self.dealer_key(dealer);
        self.dealer_backoff.enter(name).await.map_err(|seconds| {
            self.metrics.count_refused();
            Problem::slow_down(seconds)
        })
    }

    fn dealer_key(&self, dealer: &str) -> [u8; 16] {
        let log = self.service.log();
        log.pseudonym(&[b"dealer", dealer.as_bytes()])
    }

    /// The name of what is asked. However a claim code is grouped, it is the same.
    fn asked(&self, code: &ScannedCode, claim: Option<&str>) -> Asked {
        let mut plain = Zeroizing::new(String::with_capacity(MAX_CLAIM));
        for c in claim.unwrap_or_default().chars() {
            if c.is_ascii_alphanumeric() && plain.len() < MAX_CLAIM {
                plain.push(c.to_ascii_uppercase());
            }
        }
        let log = self.service.log();
        log.pseudonym(&[b"asked", &code.hash().0, plain.as_bytes()])
    }

    async fn wait_turn(
        &self,
        key: SourceKey,
        claim_of: Option<&ScannedCode>,
    ) -> Result<Entered, u64> {
        let source = self.backoff.enter(key).await?;
        let claim = match claim_of {
            Some(code) => self.claim_backoff.enter((key, code.hash())).await?,
            None => None,
        };
        Ok(Entered {
            _source: source,
            _claim: claim,
        })
    }

    /// Turns a request away for so many seconds. A right code, and one that only its issuer can judge, is answered when it comes again then; a
    /// wrong one counts as tried.
    async fn turn_away(
        &self,
        source: Source,
        code: &ScannedCode,
        claim: Option<&str>,
        seconds: u64,
    ) -> Problem {
        let now = Instant::now();
        self.metrics.count_refused();
        let ready = now + Duration::from_secs(seconds);
        let asked = self.asked(code, claim);
        match self.service.judge(code, claim) {
            Some((Verdict::Unknown, _)) => {
                self.note(source, &code.hash(), Verdict::Unknown, ClaimCheck::Absent);
            }
            Some((verdict, ClaimCheck::Wrong)) => {
                self.note(source, &code.hash(), verdict, ClaimCheck::Wrong);
            }
            Some(_) => self.own_outside.wait(source.key(), asked, now, ready),
            None => self.foreign_outside.wait(source.key(), asked, now, ready),
        }
        tokio::time::sleep_until(now + TURN_AWAY).await;
        Problem::slow_down(seconds)
    }

    /// The product of a code; `None` if nobody registered it.
    pub(crate) fn product(&self, code: &ScannedCode) -> Option<Product> {
        self.service.product(code.gtin())
    }

    /// What is known of a code, for whoever asks by a request with these headers: a source that guesses waits here too, and is noted.
    pub(crate) async fn look(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        code: &ScannedCode,
    ) -> Result<Knowledge, Problem> {
        let source = Source::of(&self.config, headers, extensions);
        self.look_from(source, code).await
    }

    /// As [`Self::look`], from a source that is known.
    pub(super) async fn look_from(
        &self,
        source: Source,
        code: &ScannedCode,
    ) -> Result<Knowledge, Problem> {
        let _turn = self.enter(source, code, None).await?;
        let known = self.service.look(code).await?;
        self.note(source, &code.hash(), known.verdict, ClaimCheck::Absent);
        Ok(known)
    }

    /// Notes what a source asked for.
    pub(super) fn note(
        &self,
        source: Source,
        code: &CodeHash,
        verdict: Verdict,
        claim: ClaimCheck,
    ) {
        if verdict == Verdict::Unknown {
            self.backoff.failed(source.key());
            self.count_failure(&source.name());
        }
        if claim == ClaimCheck::Wrong {
            self.backoff.failed(source.key());
            self.count_failure(&source.name());
            self.claim_backoff.failed((source.key(), *code));
        }
    }

    /// Notes that a dealer told of a code that was never issued.
    pub(super) fn note_dealer(&self, dealer: &str) {
        self.dealer_backoff.failed(self.dealer_key(dealer));
        self.count_failure(&format!("dealer {dealer}"));
    }

    /// Counts a try that failed, and raises the alarm if a source, or all of them, try too many.
    fn count_failure(&self, source: &str) {
        let log = self.service.log();
        let name = log.pseudonym(&[b"probing", source.as_bytes()]);
        let alarms = self
            .probing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failed(&name, self.service.now_ms());
        for alarm in alarms {
            self.metrics.count_alarm(&alarm);
            match alarm {
                Alarm::Source { failures } => {
                    tracing::warn!(failures, "one source tries codes that are not right");
                }
                Alarm::All { failures } => {
                    tracing::warn!(
                        failures,
                        "codes that are not right are tried from everywhere"
                    );
                }
            }
        }
    }

    /// Takes a scan.
    pub(super) async fn take(
        &self,
        source: Source,
        request: ScanRequest,
    ) -> Result<ScanOutcome, ScanError> {
        if let Some(reason) = self.status.read_only() {
            return Err(ScanError::ReadOnly { reason });
        }
        let channel = request.channel;
        let outcome = self.service.scan(request).await?;
        if !outcome.repeated {
            self.metrics
                .count_scan(outcome.scan.record.verdict, channel);
        }
        let record = &outcome.scan.record;
        if !outcome.repeated {
            self.note(source, &record.code_hash(), record.verdict, record.claim);
        }
        Ok(outcome)
    }
}

/// Held while a request that may have had to wait is worked on.
#[derive(Default)]
pub(super) struct Entered {
    _source: Option<Waiting<SourceKey>>,
    _claim: Option<Waiting<(SourceKey, CodeHash)>>,
}

async fn fallback() -> Response {
    Problem::not_found("nothing is served under this path").into_response()
}

/// `OPTIONS` is answered with what is allowed, which the router adds; everything else is refused with the same.
async fn method_not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "Method not allowed",
        format!("{method} is not served under this path"),
    )
    .into_response()
}
