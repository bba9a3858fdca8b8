//! The scan API.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{RequestExt, body::Body};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tally_contracts::codec::Canonical;
use zeroize::Zeroizing;

use super::lang::Lang;
use super::moments::rfc3339;
use super::router::Gateway;
use super::source::Source;
use super::view::Said;
use super::{Problem, parse_link_url};
use crate::scans::{
    AnchorRecord, Cell, Channel, First, MAX_CLAIM, Place, Product, Reasons, ScanError, ScanId,
    ScanOutcome, ScanRequest, ScannedCode, Verdict,
};

/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

/// Body of `POST /v1/scans`: `code`, or `gtin` and `serial`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScanBody {
    code: Option<String>,
    gtin: Option<String>,
    serial: Option<String>,
    claim: Option<String>,
    place: Option<PlaceBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceBody {
    country: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    cell: Option<String>,
    #[serde(default)]
    accuracy_m: Option<u32>,
}

impl PlaceBody {
    /// The place, if it is one.
    pub(super) fn place(self) -> Result<Place, ScanError> {
        let cell = self.cell.as_deref().map(Cell::new).transpose()?;
        let place = Place::new(&self.country, &self.region)?.with_cell(cell);
        Ok(place.with_accuracy(self.accuracy_m))
    }
}

/// Every key is there in every answer.
#[derive(Serialize)]
struct ScanView {
    scan_id: String,
    verdict: &'static str,
    message: String,
    gtin: String,
    serial: String,
    product: Option<ProductView>,
    count: u64,
    scanned_at: String,
    first_scanned_at: Option<String>,
    first_place: Option<String>,
    claim: &'static str,
    reasons: Vec<ReasonView>,
    receipt: String,
    anchor: AnchorView,
    later: Option<LaterView>,
}

/// Why a code is suspect.
#[derive(Serialize)]
struct ReasonView {
    code: &'static str,
    count: u8,
    words: String,
}

#[derive(Serialize)]
struct ProductView {
    description: String,
    brand: String,
    member: String,
}

#[derive(Serialize)]
struct AnchorView {
    state: &'static str,
    size: Option<u64>,
    record: Option<String>,
}

#[derive(Serialize)]
struct LaterView {
    verdict: &'static str,
    message: String,
    count: u64,
    reasons: Vec<ReasonView>,
    answered_at: String,
    first_scanned_at: Option<String>,
}

#[derive(Serialize)]
struct ProofView {
    scan_id: String,
    log_id: u16,
    leaf_index: u64,
    tree_size: u64,
    leaf_hash: String,
    root: String,
    path: Vec<String>,
    anchor_record: String,
    receipt: String,
}

impl From<Product> for ProductView {
    fn from(product: Product) -> Self {
        Self {
            description: product.description,
            brand: product.brand,
            member: product.owner_name,
        }
    }
}

impl From<Option<AnchorRecord>> for AnchorView {
    fn from(anchor: Option<AnchorRecord>) -> Self {
        Self {
            state: if anchor.is_some() {
                "anchored"
            } else {
                "pending"
            },
            size: anchor.map(|a| a.size),
            record: anchor.map(|a| a.record.to_string()),
        }
    }
}

fn reasons(reasons: &Reasons) -> Vec<ReasonView> {
    reasons
        .as_slice()
        .iter()
        .map(|r| ReasonView {
            code: r.kind.code(),
            count: r.count,
            words: r.to_string(),
        })
        .collect()
}

fn first_at(first: Option<&First>) -> Option<String> {
    first.map(|f| rfc3339(f.time_ms))
}

fn view(gateway: &Gateway, outcome: ScanOutcome) -> ScanView {
    // Told with this verdict alone: it costs a look into the ledger.
    let expires = Some(&outcome.scan)
        .filter(|scan| scan.verdict() == Verdict::Expired)
        .and_then(|scan| gateway.service.expires(scan));
    let record = outcome.scan.record;
    let owner = outcome.product.as_ref().map(owner_name).map(str::to_owned);
    let message = |verdict, count, first: Option<&First>, reasons: &Reasons| {
        let said = Said {
            verdict,
            count,
            first,
            owner: owner.as_deref(),
            look: false,
            claim: record.claim,
            reasons: reasons.as_slice(),
            expires,
            own: None,
        };
        let words = said.words(Lang::En);
        format!("{}. {}", words.headline, words.text)
    };
    let later = outcome.scan.later.map(|l| LaterView {
        verdict: l.verdict.name(),
        message: message(l.verdict, l.count, l.first.as_ref(), &l.reasons),
        count: l.count,
        reasons: reasons(&l.reasons),
        answered_at: rfc3339(l.time_ms),
        first_scanned_at: first_at(l.first.as_ref()),
    });
    ScanView {
        scan_id: record.id.to_string(),
        verdict: record.verdict.name(),
        message: message(
            record.verdict,
            record.count,
            record.first.as_ref(),
            &record.reasons,
        ),
        gtin: record.code.gtin().to_string(),
        serial: record.code.serial().to_owned(),
        product: outcome.product.map(Into::into),
        count: record.count,
        scanned_at: rfc3339(record.time_ms),
        first_scanned_at: first_at(record.first.as_ref()),
        first_place: record.first.and_then(|f| f.place).map(|p| p.to_string()),
        claim: record.claim.name(),
        reasons: reasons(&record.reasons),
        receipt: STANDARD.encode(outcome.receipt.to_bytes()),
        anchor: outcome.anchor.into(),
        later,
    }
}

/// The name that a consumer knows: the brand's, or else the member's.
pub(super) fn owner_name(product: &Product) -> &str {
    if product.brand.is_empty() {
        &product.owner_name
    } else {
        &product.brand
    }
}

/// `POST /v1/scans`.
pub(super) async fn post_scan(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let source = Source::of(&gateway.config, &headers, &parts.extensions);
    let address_place = gateway.address_place(&headers, &parts.extensions);
    let mut request = Request::new(body);
    *request.extensions_mut() = parts.extensions;
    let body = read_body(request).await?;
    if !is_json(&headers) {
        return Err(media_type());
    }
    let idempotency_key = idempotency_key(&headers)?;
    let scan = parse(&body)?;
    let _turn = gateway
        .enter(
            source,
            &scan.code,
            scan.claim.as_deref().map(String::as_str),
        )
        .await?;
    let outcome = gateway
        .take(
            source,
            ScanRequest {
                code: scan.code,
                claim: scan.claim,
                place: scan.place,
                address_place,
                channel: Channel::Post,
                source: source.pseudonym(gateway.service.log(), &headers),
                idempotency_key: idempotency_key.map(|k| format!("api:{k}")),
            },
        )
        .await?;
    let repeated = outcome.repeated;
    let mut response = Json(view(&gateway, outcome)).into_response();
    if repeated {
        response
            .headers_mut()
            .insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The body, within the limit of the router.
pub(super) async fn read_body(request: Request<Body>) -> Result<Bytes, Problem> {
    request
        .extract::<Bytes, _>()
        .await
        .map_err(|rejection: BytesRejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::too_large()
            } else {
                Problem::input("the body could not be read")
            }
        })
}

pub(super) fn media_type() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "media-type",
        "Unsupported media type",
        "expected application/json",
    )
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .is_some_and(|v| v.trim().eq_ignore_ascii_case("application/json"))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .filter(|k| (1..=MAX_KEY).contains(&k.len()))
        .map(Some)
        .ok_or_else(|| {
            Problem::input("Idempotency-Key: expected 1 to 255 visible ASCII characters")
        })
}

struct Parsed {
    code: ScannedCode,
    claim: Option<Zeroizing<String>>,
    place: Option<Place>,
}

fn parse(body: &[u8]) -> Result<Parsed, Problem> {
    // The parser's message may repeat what was sent, a claim code too: only the place is told.
    let body: ScanBody = serde_json::from_slice(body).map_err(|e| {
        Problem::input(format!(
            "the body is not the expected JSON object, at line {} column {}: code, or gtin and serial; claim and place are \
             optional",
            e.line(),
            e.column()
        ))
    })?;
    let code = match (body.code, body.gtin, body.serial) {
        (Some(link), None, None) => parse_link_url(&link)?,
        (None, Some(gtin), Some(serial)) => ScannedCode::new(&gtin, &serial)?,
        _ => return Err(Problem::input("expected code, or gtin and serial")),
    };
    let claim = body.claim.map(Zeroizing::new).filter(|c| !c.is_empty());
    if claim
        .as_ref()
        .is_some_and(|c| c.len() > MAX_CLAIM || c.chars().any(char::is_control))
    {
        return Err(Problem::input(
            "claim: expected at most 32 bytes of plain text",
        ));
    }
    let place = body.place.map(PlaceBody::place).transpose()?;
    Ok(Parsed { code, claim, place })
}

fn scan_id(text: &str) -> Result<ScanId, Problem> {
    text.parse()
        .map_err(|_| Problem::not_found("expected a scan ID of 32 hex digits"))
}

/// `GET /v1/scans/{id}`.
pub(super) async fn get_scan(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let outcome = gateway.service.get(scan_id(&id)?).await?;
    Ok(Json(view(&gateway, outcome)).into_response())
}

/// `GET /v1/scans/{id}/proof`.
pub(super) async fn get_proof(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (proof, receipt) = gateway.service.proof(scan_id(&id)?).await?;
    Ok(Json(ProofView {
        scan_id: proof.scan.to_string(),
        log_id: proof.log_id,
        leaf_index: proof.index,
        tree_size: proof.anchor.size,
        leaf_hash: proof.leaf.to_string(),
        root: proof.anchor.root.to_string(),
        path: proof.path.iter().map(ToString::to_string).collect(),
        anchor_record: proof.anchor.record.to_string(),
        receipt: STANDARD.encode(receipt.to_bytes()),
    })
    .into_response())
}
