//! The pages that a phone shows: they work without script, and looking at one never counts as a scan.

use std::sync::Arc;

use axum::RequestExt;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tally_codes::ClaimCode;
use tally_contracts::records::ExpiryDate;
use zeroize::Zeroizing;

use super::api::owner_name;
use super::lang::{Choice, Lang, query_with};
use super::link::{code_path, code_proof_path, parse_product_path, path_and_query};
use super::moments::{day, place, rfc3339, when};
use super::render::{
    ChoicesPage, ClaimField, CodePage, Facts, Form, LandingPage, ProductPage, ResultPage, Visit,
};
use super::resolver::{Answer, no_product};
use super::router::Gateway;
use super::source::Source;
use super::typed::parse_typed;
use super::view::Said;
use super::{LinkError, Problem};
use crate::scans::{
    Channel, ClaimCheck, First, MAX_CLAIM, Product, ScanId, ScanOutcome, ScanRequest, ScannedCode,
    Verdict,
};

/// The sign of the pages, for tabs and bookmarks: a tally stick with its notches.
const MARK: &str = include_str!("../../templates/mark.svg");

fn see_other(location: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// `GET /`.
pub(super) async fn landing(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let visit = Visit::new(&uri, &headers);
    gateway.render(
        StatusCode::OK,
        &visit,
        &LandingPage {
            frame: gateway.frame(&visit),
            base_url: &gateway.config.base_url,
        },
    )
}

/// `GET /assets/mark.svg`.
pub(super) async fn mark() -> Response {
    let headers = [
        (CONTENT_TYPE, "image/svg+xml"),
        (CACHE_CONTROL, "public, max-age=604800"),
    ];
    (headers, MARK).into_response()
}

/// `GET /.well-known/gs1resolver`.
pub(super) async fn resolver(State(gateway): State<Arc<Gateway>>) -> Response {
    gateway.describe_resolver()
}

/// A code as someone typed it.
#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    code: String,
}

/// `GET /check?code=..`: from the form of the landing page to the page of the code.
pub(super) async fn check(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Ok(Query(typed)) = Query::<Typed>::try_from_uri(&uri) else {
        return Err(Problem::input("expected code"));
    };
    let code = parse_typed(&typed.code)?;
    let choice = Choice::of(&uri, &headers);
    let path = code_path(gateway.config.base_path(), &code);
    Ok(see_other(&format!("{path}{}", choice.query())))
}

/// `GET /01/{gtin}/21/{serial}` and `GET /01/{gtin}`: what is known now, or where the links lead. Counts nothing, whoever or whatever
/// fetches it.
pub(super) async fn look(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let link = parse_product_path(path_and_query(&uri)).map_err(code_problem)?;
    let visit = Visit::new(&uri, &headers);
    let gtin = link.gtin().ok_or(LinkError::NoGtin)?;
    let product = gtin
        .as_str()
        .parse()
        .ok()
        .and_then(|gtin| gateway.service.product(&gtin));
    let mut response = match gateway.resolve(&link, product.as_ref(), &uri, &headers)? {
        Answer::Response(response) => return Ok(response),
        Answer::Choices(targets) => gateway.render(
            StatusCode::MULTIPLE_CHOICES,
            &visit,
            &ChoicesPage {
                frame: gateway.frame(&visit),
                targets: &targets,
            },
        ),
        Answer::Page => match link.serial() {
            Some(serial) => {
                let code = ScannedCode::new(gtin.as_str(), serial)?;
                let source = Source::of(&gateway.config, &headers, request.extensions());
                code_page(&gateway, &visit, source, &code, None).await?
            }
            None => {
                let product = product.as_ref().ok_or_else(no_product)?;
                gateway.render(
                    StatusCode::OK,
                    &visit,
                    &ProductPage {
                        frame: gateway.frame(&visit),
                        product: product.into(),
                        gtin: gtin.as_str(),
                    },
                )
            }
        },
    };
    gateway.point_to_linkset(&link, &mut response);
    Ok(response)
}

/// What is known of a code in figures, and where its proof is: with the node that issued it.
fn facts(
    gateway: &Gateway,
    lang: Lang,
    code: &ScannedCode,
    (product, verdict): (Option<&Product>, Verdict),
    (count, first): (u64, Option<&First>),
    expires: Option<&ExpiryDate>,
) -> Facts {
    let is_issued = !matches!(verdict, Verdict::Unknown | Verdict::CannotVerifyNow);
    Facts {
        proof: product
            .filter(|p| p.own && is_issued)
            .map(|_| code_proof_path(gateway.config.base_path(), code)),
        first: first.map(|f| {
            let at = when(lang, f.time_ms);
            match &f.place {
                Some(p) => format!("{at} · {}", place(lang, p)),
                None => at,
            }
        }),
        checks: (count > 0).then_some(count),
        expires: expires.map(|date| day(lang, date)),
    }
}

/// A claim code to be mended.
struct Mistyped<'a> {
    typed: &'a str,
    /// The visitor's scan that it was to be added to.
    after: Option<ScanId>,
}

/// The page of a code; with `mistyped`, that claim code is shown again to be mended.
async fn code_page(
    gateway: &Gateway,
    visit: &Visit,
    source: Source,
    code: &ScannedCode,
    mistyped: Option<Mistyped<'_>>,
) -> Result<Response, Problem> {
    let known = gateway.look_from(source, code).await?;
    let can_scan = gateway.read_only().is_none();
    let lang = visit.choice.lang;
    let t = lang.phrases();
    let said = Said {
        verdict: known.verdict,
        count: known.count,
        first: known.first.as_ref(),
        owner: known.product.as_ref().map(owner_name),
        look: true,
        claim: ClaimCheck::Absent,
        reasons: known.reasons.as_slice(),
        expires: known.expires,
        own: None,
    };
    let status = if mistyped.is_some() {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    Ok(gateway.render(
        status,
        visit,
        &CodePage {
            frame: gateway.frame(visit),
            said: said.words(lang),
            product: known.product.as_ref().map(Into::into),
            facts: facts(
                gateway,
                lang,
                code,
                (known.product.as_ref(), known.verdict),
                (known.count, known.first.as_ref()),
                known.expires.as_ref(),
            ),
            gtin: code.gtin().as_str(),
            serial: code.serial(),
            form: can_scan.then(|| Form {
                action: query_with(&visit.uri, visit.choice.chosen.then_some(lang)),
                token: gateway.token(code),
                button: if known.verdict == Verdict::Unknown {
                    t.report_code
                } else {
                    t.check_now
                },
                claim: (known.verdict != Verdict::Unknown).then(|| ClaimField {
                    typed: mistyped
                        .as_ref()
                        .map_or_else(String::new, |m| m.typed.to_owned()),
                    mistyped: mistyped.is_some(),
                }),
                after: mistyped
                    .as_ref()
                    .and_then(|m| m.after)
                    .map(|after| after.to_string()),
            }),
        },
    ))
}

fn code_problem(error: LinkError) -> Problem {
    let mut problem = Problem::from(error);
    problem.title = "This code cannot be read";
    problem
}

#[derive(Deserialize)]
struct ScanForm {
    token: String,
    #[serde(default)]
    claim: String,
    /// The scan that the claim code is added to.
    #[serde(default)]
    after: String,
}

/// `POST /01/{gtin}/21/{serial}`: the button. Takes the scan and goes to its page, which may be reloaded at will.
pub(super) async fn scan(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let source = Source::of(&gateway.config, &headers, request.extensions());
    let address_place = gateway.address_place(&headers, request.extensions());
    let code = super::parse_link_path(path_and_query(&uri)).map_err(code_problem)?;
    let visit = Visit::new(&uri, &headers);
    let axum::Form(form) =
        request
            .extract::<axum::Form<ScanForm>, _>()
            .await
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(),
                _ => Problem::input("expected a form with a token"),
            })?;
    let claim = Zeroizing::new(form.claim);
    let base = gateway.config.base_path();
    let query = visit.choice.query();
    let is_foreign = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none");
    if is_foreign || !gateway.is_valid_token(&form.token, &code) {
        // Too old, or not from a page of ours: show the page, do not count.
        return Ok(see_other(&format!("{}{query}", code_path(base, &code))));
    }
    let after = form.after.parse::<ScanId>().ok();
    let claim = Some(claim.trim()).filter(|c| !c.is_empty());
    if claim.is_none()
        && let Some(after) = after
    {
        return Ok(see_other(&format!("{base}/s/{after}{query}")));
    }
    if let Some(typed) = claim
        && (typed.len() > MAX_CLAIM || ClaimCode::parse(typed).is_err())
    {
        let mistyped = Some(Mistyped { typed, after });
        return code_page(&gateway, &visit, source, &code, mistyped).await;
    }
    let _turn = gateway.enter(source, &code, claim).await?;
    // Another claim code with the same page is another scan; the same one again is not.
    let of_claim = claim.map_or(String::new(), |claim| {
        hex::encode(
            gateway
                .service
                .log()
                .pseudonym(&[b"claim", claim.as_bytes()]),
        )
    });
    let outcome = gateway
        .take(
            source,
            ScanRequest {
                code,
                claim: claim.map(|claim| Zeroizing::new(claim.to_owned())),
                // The page asks no phone for its position.
                place: None,
                address_place,
                channel: Channel::Page,
                source: source.pseudonym(gateway.service.log(), &headers),
                idempotency_key: Some(format!("page:{}:{of_claim}", form.token)),
            },
        )
        .await?;
    let mut to = format!("{base}/s/{}{query}", outcome.scan.record.id);
    if let Some(after) = after {
        to.push_str(if query.is_empty() { "?" } else { "&" });
        to.push_str(&format!("after={after}"));
    }
    Ok(see_other(&to))
}

#[derive(Deserialize)]
struct ResultQuery {
    #[serde(default)]
    after: String,
}

/// `GET /s/{id}`: one scan and what was said.
pub(super) async fn result(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = id
        .parse::<ScanId>()
        .map_err(|error| Problem::not_found(error.to_string()))?;
    let outcome = gateway.service.get(id).await?;
    let after = Query::<ResultQuery>::try_from_uri(&uri)
        .ok()
        .and_then(|q| q.0.after.parse::<ScanId>().ok());
    let own = match after {
        Some(after) if after != id => gateway.service.get(after).await.ok(),
        _ => None,
    };
    // Only the scan just before this one, of the same code by the same visitor, is the visitor's own first look.
    let record = &outcome.scan.record;
    let own = own.map(|o| o.scan.record).filter(|o| {
        o.code == record.code
            && o.source == record.source
            && o.verdict.is_counted()
            && o.count + 1 == record.count
    });
    let visit = Visit::new(&uri, &headers);
    Ok(show(&gateway, &visit, &outcome, own.map(|o| o.verdict)))
}

fn show(gateway: &Gateway, visit: &Visit, outcome: &ScanOutcome, own: Option<Verdict>) -> Response {
    let record = &outcome.scan.record;
    let lang = visit.choice.lang;
    let t = lang.phrases();
    let owner = outcome.product.as_ref().map(owner_name);
    let later = outcome.scan.later.as_ref();
    let (verdict, count, first, reasons) = match later {
        None => (
            record.verdict,
            record.count,
            record.first.as_ref(),
            &record.reasons,
        ),
        Some(l) => (l.verdict, l.count, l.first.as_ref(), &l.reasons),
    };
    let expires = gateway.service.expires(&outcome.scan);
    let said = Said {
        verdict,
        count,
        first,
        owner,
        look: false,
        claim: record.claim,
        reasons: reasons.as_slice(),
        expires,
        own,
    };
    let base = gateway.config.base_path();
    let link = code_path(base, &record.code);
    let can_claim =
        verdict.is_counted() && record.claim != ClaimCheck::Right && gateway.read_only().is_none();
    gateway.render(
        StatusCode::OK,
        visit,
        &ResultPage {
            frame: gateway.frame(visit),
            said: said.words(lang),
            answered_later: later.is_some(),
            product: outcome.product.as_ref().map(Into::into),
            facts: facts(
                gateway,
                lang,
                &record.code,
                (outcome.product.as_ref(), verdict),
                (count, first),
                expires.as_ref(),
            ),
            gtin: record.code.gtin().as_str(),
            serial: record.code.serial(),
            form: can_claim.then(|| Form {
                action: format!("{link}{}", visit.choice.query()),
                token: gateway.token(&record.code),
                button: t.claim_check,
                claim: Some(ClaimField {
                    typed: String::new(),
                    mistyped: false,
                }),
                after: Some(record.id.to_string()),
            }),
            scan_id: record.id.to_string(),
            scanned_at: when(lang, record.time_ms),
            scanned_at_iso: rfc3339(record.time_ms),
            link: format!("{link}{}", visit.choice.query()),
            anchor: outcome.anchor.map(|a| a.record.to_string()),
        },
    )
}
