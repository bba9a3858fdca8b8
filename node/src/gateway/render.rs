//! The templates of the pages, and what fills them.

use askama::Template;
use axum::extract::Request;
use axum::http::header::{CONTENT_LANGUAGE, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};

use super::Problem;
use super::accept::{prefers_linkset, prefers_page};
use super::api::owner_name;
use super::config::contact_href;
use super::lang::{Choice, query_with};
use super::phrases::{Phrases, problem_words};
use super::resolver::Target;
use super::router::Gateway;
use super::view::{Tone, Words};
use crate::scans::Product;

/// The one style sheet; it stands in every page, so that a page is one request.
pub(super) const STYLE: &str = include_str!("../../templates/style.css");

/// Who looks, and at what.
pub(super) struct Visit {
    pub(super) uri: Uri,
    pub(super) choice: Choice,
    page: bool,
}

impl Visit {
    pub(super) fn of(request: &Request) -> Self {
        Self::new(request.uri(), request.headers())
    }

    pub(super) fn new(uri: &Uri, headers: &HeaderMap) -> Self {
        let is_page = ["/01/", "/s/", "/check"]
            .iter()
            .any(|part| uri.path().contains(part));
        Self {
            uri: uri.clone(),
            choice: Choice::of(uri, headers),
            page: prefers_page(headers) || is_page && !prefers_linkset(headers),
        }
    }

    /// Whether a problem is told by a page: people ask for HTML, and pages are HTML unless JSON is asked for.
    pub(super) const fn wants_page(&self) -> bool {
        self.page
    }
}

/// What every page has.
pub(super) struct Frame<'a> {
    pub(super) t: &'static Phrases,
    pub(super) lang: &'static str,
    pub(super) style: &'static str,
    pub(super) base: &'a str,
    /// What links and forms add to keep a chosen language.
    pub(super) query: &'static str,
    /// The language that was chosen by the switch.
    pub(super) chosen: Option<&'static str>,
    /// Address of this page in the other language, with its name and tag.
    pub(super) switch: String,
    pub(super) switch_name: &'static str,
    pub(super) switch_tag: &'static str,
    pub(super) network: &'a str,
    pub(super) member: &'a str,
    pub(super) test: bool,
    contact: &'a str,
}

impl Frame<'_> {
    /// Text and target of the contact for reports.
    fn contact(&self) -> Option<(&str, String)> {
        contact_href(self.contact).map(|href| (self.contact.trim_start_matches("https://"), href))
    }
}

/// The claim code's field.
pub(super) struct ClaimField {
    /// What was typed, if it is to be mended: it goes back to whoever typed it and nowhere else.
    pub(super) typed: String,
    pub(super) mistyped: bool,
}

/// What leads to a scan.
pub(super) struct Form {
    pub(super) action: String,
    pub(super) token: String,
    pub(super) button: &'static str,
    pub(super) claim: Option<ClaimField>,
    /// The scan that a claim code is added to.
    pub(super) after: Option<String>,
}

#[derive(Template)]
#[template(path = "code.html")]
pub(super) struct CodePage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) said: Words,
    pub(super) product: Option<ProductLines<'a>>,
    pub(super) facts: Facts,
    pub(super) gtin: &'a str,
    pub(super) serial: &'a str,
    pub(super) form: Option<Form>,
}

#[derive(Template)]
#[template(path = "result.html")]
pub(super) struct ResultPage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) said: Words,
    pub(super) answered_later: bool,
    pub(super) product: Option<ProductLines<'a>>,
    pub(super) facts: Facts,
    pub(super) gtin: &'a str,
    pub(super) serial: &'a str,
    pub(super) form: Option<Form>,
    pub(super) scan_id: String,
    pub(super) scanned_at: String,
    pub(super) scanned_at_iso: String,
    pub(super) link: String,
    pub(super) anchor: Option<String>,
}

#[derive(Template)]
#[template(path = "product_page.html")]
pub(super) struct ProductPage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) product: ProductLines<'a>,
    pub(super) gtin: &'a str,
}

#[derive(Template)]
#[template(path = "landing.html")]
pub(super) struct LandingPage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) base_url: &'a str,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    frame: Frame<'a>,
    said: Words,
    detail: &'a str,
}

#[derive(Template)]
#[template(path = "choices.html")]
pub(super) struct ChoicesPage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) targets: &'a [Target],
}

/// A product as its page shows it.
pub(super) struct ProductLines<'a> {
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

/// What is known in figures.
#[derive(Default)]
pub(super) struct Facts {
    /// Time and place of the first check.
    pub(super) first: Option<String>,
    pub(super) checks: Option<u64>,
    /// The last day on which the pack is good.
    pub(super) expires: Option<String>,
    /// Where the file lies that proves the code.
    pub(super) proof: Option<String>,
}

impl Gateway {
    pub(super) fn frame(&self, visit: &Visit) -> Frame<'_> {
        let (lang, other) = (visit.choice.lang, visit.choice.lang.other());
        Frame {
            t: lang.phrases(),
            lang: lang.tag(),
            style: STYLE,
            base: self.config.base_path(),
            query: visit.choice.query(),
            chosen: visit.choice.chosen.then_some(lang.key()),
            // Only a query: the path is that of the page itself, also under a base path that a proxy strips.
            switch: query_with(&visit.uri, Some(other)),
            switch_name: other.name(),
            switch_tag: other.tag(),
            network: &self.config.network_name,
            member: &self.config.member_name,
            test: self.config.test_network,
            contact: &self.config.contact,
        }
    }

    /// A problem as a page.
    pub(super) fn problem_page(&self, problem: &Problem, visit: &Visit) -> Response {
        self.render(
            problem.status,
            visit,
            &MessagePage {
                frame: self.frame(visit),
                said: problem_words(visit.choice.lang, problem),
                detail: &problem.detail,
            },
        )
    }

    pub(super) fn render(
        &self,
        status: StatusCode,
        visit: &Visit,
        page: &impl Template,
    ) -> Response {
        match page.render() {
            Ok(html) => {
                let mut response = (status, Html(html)).into_response();
                let headers = response.headers_mut();
                headers.insert(
                    CONTENT_LANGUAGE,
                    HeaderValue::from_static(visit.choice.lang.tag()),
                );
                headers.insert(VARY, HeaderValue::from_static("accept, accept-language"));
                response
            }
            Err(error) => {
                tracing::error!(%error, "a page was not rendered");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
