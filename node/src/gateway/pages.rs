//! The pages that a phone shows: they work without script, and looking at one never counts as a scan.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use rand_core::{OsRng, RngCore};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::api::{owner_name, read_body};
use super::router::Gateway;
use super::source::Source;
use super::view::{Tone, Words, date, rfc3339, words};
use super::{LinkError, Problem, parse_link_path};
use crate::scans::{Channel, Product, ScanId, ScanOutcome, ScanRequest, ScannedCode, Verdict};

/// How long the button of a page works; after that the page shows itself anew.
const TOKEN_LIFE_MS: u64 = 12 * 3600 * 1000;

/// What every page has.
struct Frame<'a> {
    base: &'a str,
    network: &'a str,
    member: &'a str,
    test: bool,
}

#[derive(Template)]
#[template(path = "code.html")]
struct CodePage<'a> {
    frame: Frame<'a>,
    said: Words,
    product: Option<ProductLines<'a>>,
    gtin: &'a str,
    serial: &'a str,
    token: Option<String>,
    button: &'static str,
}

#[derive(Template)]
#[template(path = "result.html")]
struct ResultPage<'a> {
    frame: Frame<'a>,
    said: Words,
    later: Option<Words>,
    product: Option<ProductLines<'a>>,
    gtin: &'a str,
    serial: &'a str,
    scan_id: String,
    scanned_at: String,
    scanned_at_iso: String,
    link: String,
    anchor: Option<String>,
}

#[derive(Template)]
#[template(path = "landing.html")]
struct LandingPage<'a> {
    frame: Frame<'a>,
    base_url: &'a str,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    frame: Frame<'a>,
    said: Words,
}

struct ProductLines<'a> {
    description: &'a str,
    brand: &'a str,
}

impl<'a> From<&'a Product> for ProductLines<'a> {
    fn from(product: &'a Product) -> Self {
        Self {
            description: &product.description,
            brand: owner_name(product),
        }
    }
}

impl Gateway {
    fn frame(&self) -> Frame<'_> {
        Frame {
            base: self.config.base_path(),
            network: &self.config.network_name,
            member: &self.config.member_name,
            test: self.config.test_network,
        }
    }

    fn message(&self, problem: &Problem) -> Response {
        let tone = if problem.status.is_server_error() || problem.retry_after_s.is_some() {
            Tone::Wait
        } else {
            Tone::Stop
        };
        let mut response = render(
            problem.status,
            &MessagePage {
                frame: self.frame(),
                said: Words {
                    tone,
                    headline: problem.title.to_owned(),
                    text: sentence(&problem.detail),
                },
            },
        );
        problem.put_retry_after(&mut response);
        response
    }

    fn token_mac(&self, random: &str, time: &str, code: &ScannedCode) -> String {
        hex::encode(self.service.log().pseudonym(&[
            b"page",
            random.as_bytes(),
            time.as_bytes(),
            &code.hash().0,
        ]))
    }

    /// Names one press of one page's button, so that pressing it twice or reloading counts once.
    fn token(&self, code: &ScannedCode) -> String {
        let mut random = [0; 16];
        OsRng.fill_bytes(&mut random);
        let random = hex::encode(random);
        let time = format!("{:016x}", self.service.now_ms());
        let mac = self.token_mac(&random, &time, code);
        format!("{random}.{time}.{mac}")
    }

    fn is_valid_token(&self, token: &str, code: &ScannedCode) -> bool {
        let mut parts = token.split('.');
        let (Some(random), Some(time), Some(mac), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let expected = self.token_mac(random, time, code);
        let age = u64::from_str_radix(time, 16)
            .map(|made| self.service.now_ms().saturating_sub(made))
            .unwrap_or(u64::MAX);
        bool::from(expected.as_bytes().ct_eq(mac.as_bytes())) && age < TOKEN_LIFE_MS
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    format!("{head}{}.", chars.as_str())
}

fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page was not rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn see_other(location: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// `GET /`.
pub(super) async fn landing(State(gateway): State<Arc<Gateway>>) -> Response {
    render(
        StatusCode::OK,
        &LandingPage {
            frame: gateway.frame(),
            base_url: &gateway.config.base_url,
        },
    )
}

/// `GET /assets/style.css`.
pub(super) async fn style() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/css; charset=utf-8"),
        (CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, include_str!("../../templates/style.css")).into_response()
}

/// A code as someone typed it.
#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    gtin: String,
    #[serde(default)]
    serial: String,
}

/// `GET /check?gtin=..&serial=..`: from the form of the landing page to the page of the code.
pub(super) async fn check(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Response {
    let Ok(Query(typed)) = Query::<Typed>::try_from_uri(&uri) else {
        return gateway.message(&Problem::input("expected gtin and serial"));
    };
    let plain = |text: &str| -> String {
        text.chars()
            .filter(|c| !c.is_whitespace() && *c != '-')
            .collect()
    };
    match ScannedCode::new(&plain(&typed.gtin), &plain(&typed.serial)) {
        Ok(code) => see_other(&code_path(&gateway, &code)),
        Err(error) => gateway.message(&error.into()),
    }
}

/// The path of a code's page. A serial may hold `%` and `/`.
fn code_path(gateway: &Gateway, code: &ScannedCode) -> String {
    let mut serial = String::new();
    for b in code.serial().bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            serial.push(char::from(b));
        } else {
            serial.push_str(&format!("%{b:02X}"));
        }
    }
    format!(
        "{}/01/{}/21/{serial}",
        gateway.config.base_path(),
        code.gtin()
    )
}

/// `GET /01/{gtin}/21/{serial}`: what is known now. Counts nothing, whoever or whatever fetches it.
pub(super) async fn look(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let source = Source::of(&gateway.config, &headers, request.extensions());
    match look_at(&gateway, source, uri.path()).await {
        Ok(response) => response,
        Err(problem) => gateway.message(&problem),
    }
}

async fn look_at(gateway: &Gateway, source: Source, path: &str) -> Result<Response, Problem> {
    let code = parse_link_path(path).map_err(code_problem)?;
    let _waiting = gateway.enter(source).await?;
    let known = gateway.service.look(&code).await?;
    gateway.note(source, known.verdict);
    let can_scan = gateway.read_only().is_none();
    let owner = known.product.as_ref().map(owner_name);
    Ok(render(
        StatusCode::OK,
        &CodePage {
            frame: gateway.frame(),
            said: words(
                known.verdict,
                known.count,
                known.first.as_ref(),
                owner,
                true,
            ),
            product: known.product.as_ref().map(Into::into),
            gtin: code.gtin().as_str(),
            serial: code.serial(),
            token: can_scan.then(|| gateway.token(&code)),
            button: if known.verdict == Verdict::Unknown {
                "Report this code"
            } else {
                "Check this product now"
            },
        },
    ))
}

fn code_problem(error: LinkError) -> Problem {
    let mut problem = Problem::from(error);
    if problem.kind == "code" {
        problem.status = StatusCode::NOT_FOUND;
    }
    problem.title = "This code cannot be read";
    problem
}

#[derive(Deserialize)]
struct ScanForm {
    token: String,
}

/// `POST /01/{gtin}/21/{serial}`: the button. Takes the scan and goes to its page, which may be reloaded at will.
pub(super) async fn scan(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let source = Source::of(&gateway.config, &headers, request.extensions());
    match scan_code(&gateway, source, uri.path(), &headers, request).await {
        Ok(response) => response,
        Err(problem) => gateway.message(&problem),
    }
}

async fn scan_code(
    gateway: &Gateway,
    source: Source,
    path: &str,
    headers: &HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let code = parse_link_path(path).map_err(code_problem)?;
    let body = read_body(request).await?;
    let form = parse_form(&body)?;
    if !gateway.is_valid_token(&form.token, &code) {
        // Too old, or not from a page of ours: show the page, do not count.
        return Ok(see_other(&code_path(gateway, &code)));
    }
    let _waiting = gateway.enter(source).await?;
    let outcome = gateway
        .take(
            source,
            ScanRequest {
                code,
                claim: None,
                place: None,
                channel: Channel::Page,
                source: source.pseudonym(gateway.service.log(), headers),
                idempotency_key: Some(format!("page:{}", form.token)),
            },
        )
        .await?;
    let to = format!(
        "{}/s/{}",
        gateway.config.base_path(),
        outcome.scan.record.id
    );
    Ok(see_other(&to))
}

fn parse_form(body: &[u8]) -> Result<ScanForm, Problem> {
    let uri = std::str::from_utf8(body)
        .ok()
        .and_then(|text| format!("/?{text}").parse::<Uri>().ok())
        .ok_or_else(|| Problem::input("expected a form"))?;
    Query::<ScanForm>::try_from_uri(&uri)
        .map(|q| q.0)
        .map_err(|_| Problem::input("expected a form with a token"))
}

/// `GET /s/{id}`: one scan and what was said.
pub(super) async fn result(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Response {
    let found = match id.parse::<ScanId>() {
        Ok(id) => gateway.service.get(id).await.map_err(Problem::from),
        Err(error) => Err(Problem::not_found(error.to_string())),
    };
    match found {
        Ok(outcome) => show(&gateway, &outcome),
        Err(problem) => gateway.message(&problem),
    }
}

fn show(gateway: &Gateway, outcome: &ScanOutcome) -> Response {
    let record = &outcome.scan.record;
    let owner = outcome.product.as_ref().map(owner_name);
    render(
        StatusCode::OK,
        &ResultPage {
            frame: gateway.frame(),
            said: words(
                record.verdict,
                record.count,
                record.first.as_ref(),
                owner,
                false,
            ),
            later: outcome
                .scan
                .later
                .as_ref()
                .map(|l| words(l.verdict, l.count, l.first.as_ref(), owner, false)),
            product: outcome.product.as_ref().map(Into::into),
            gtin: record.code.gtin().as_str(),
            serial: record.code.serial(),
            scan_id: record.id.to_string(),
            scanned_at: date(record.time_ms),
            scanned_at_iso: rfc3339(record.time_ms),
            link: code_path(gateway, &record.code),
            anchor: outcome.anchor.map(|a| a.record.to_string()),
        },
    )
}
