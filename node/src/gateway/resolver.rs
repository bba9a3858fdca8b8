//! The resolver of GS1 Digital Links (GS1-Conformant Resolver Standard 1.2): what there is about a product or a unit, by link type.
//!
//! The node's own links are few: the page of a unit, which verifies it and says what is recalled, and the page of the product in each
//! language. A brand may give further ones. Compressed links are neither read nor written.

use axum::http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, LINK, LOCATION, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tally_codes::gs1::DigitalLink;

use super::Problem;
use super::accept::{LINKSET, prefers_linkset};
use super::lang::{Lang, chosen_tag, is_same, ranked};
use super::link::code_path;
use super::router::Gateway;
use crate::scans::{Product, ScannedCode};

/// GS1's vocabulary of link types.
const VOCABULARY: &str = "https://gs1.org/voc/";

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) href: String,
    pub(super) title: String,
    /// The languages of what is there, as tags of BCP 47; one page may have several, and none is of no matter.
    langs: Vec<String>,
    /// Its media type.
    media: String,
}

/// What there is under one link type.
struct Links {
    kind: String,
    targets: Vec<Target>,
}

/// What a request asked the resolver for.
pub(super) enum Answer {
    /// Go to, or show, the page itself.
    Page,
    /// This response.
    Response(Response),
    /// Several pages that are as good as each other.
    Choices(Vec<Target>),
}

/// The link type that the query asks for, without the vocabulary's name.
fn link_type(uri: &Uri) -> Option<String> {
    let value = uri
        .query()?
        .split('&')
        .find_map(|pair| pair.strip_prefix("linkType="))?;
    let value = value
        .replace("%3A", ":")
        .replace("%3a", ":")
        .replace("%2F", "/")
        .replace("%2f", "/");
    let bare = [
        "gs1:",
        VOCABULARY,
        "http://gs1.org/voc/",
        "https://www.gs1.org/voc/",
        "https://ref.gs1.org/voc/",
    ]
    .iter()
    .find_map(|prefix| value.strip_prefix(prefix))
    .unwrap_or(&value);
    Some(bare.to_owned())
}

/// The query without `linkType`: a redirection hands the rest on.
fn rest_of_query(uri: &Uri) -> Vec<&str> {
    uri.query()
        .into_iter()
        .flat_map(|q| q.split('&'))
        .filter(|pair| !pair.is_empty() && !pair.starts_with("linkType="))
        .collect()
}

fn hand_on(href: &str, uri: &Uri) -> String {
    let rest: Vec<&str> = rest_of_query(uri)
        .into_iter()
        .filter(|pair| !(pair.starts_with("lang=") && href.contains("lang=")))
        .collect();
    match (rest.is_empty(), href.contains('?')) {
        (true, _) => href.to_owned(),
        (false, true) => format!("{href}&{}", rest.join("&")),
        (false, false) => format!("{href}?{}", rest.join("&")),
    }
}

/// The one in the visitor's language: as the query chooses, or else as the header likes best. `None` if none is, or several are.
fn best<'a>(targets: &'a [Target], uri: &Uri, headers: &HeaderMap) -> Option<&'a Target> {
    if let [only] = targets {
        return Some(only);
    }
    let fitting = |tag: &str| -> Vec<&'a Target> {
        // One that names no language is for all.
        let fits = |target: &&Target| {
            target.langs.is_empty() || target.langs.iter().any(|lang| is_same(lang, tag))
        };
        targets.iter().filter(fits).collect()
    };
    let wanted = chosen_tag(uri).into_iter().chain(ranked(headers));
    let found = wanted.map(fitting).find(|found| !found.is_empty())?;
    match *found.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

impl Gateway {
    /// What there is for the link: of its unit if it names one, else of its product.
    fn links(&self, link: &DigitalLink, product: &Product) -> (String, Vec<Links>) {
        let base = &self.config.base_url;
        let gtin = link.gtin().map_or(String::new(), |g| g.to_string());
        let page = format!("{base}/01/{gtin}");
        let title = |lang: Lang, what: (&str, &str)| {
            format!("{}: {}", product.description, lang.pick(what.0, what.1))
        };
        let pip = Lang::ALL.map(|lang| Target {
            href: format!("{page}?lang={}", lang.key()),
            title: title(lang, ("product page", "产品页面")),
            langs: vec![lang.key().to_owned()],
            media: "text/html".to_owned(),
        });
        let unit = link
            .serial()
            .and_then(|serial| ScannedCode::new(&gtin, serial).ok())
            .map(|code| format!("{base}{}", code_path("", &code)));
        let anchor = unit.clone().unwrap_or_else(|| page.clone());
        let own = |what: &str| Target {
            href: anchor.clone(),
            title: format!("{}: {what}", product.description),
            langs: Lang::ALL.map(|lang| lang.key().to_owned()).to_vec(),
            media: "text/html".to_owned(),
        };
        let links = |kind: &str, targets| Links {
            kind: kind.to_owned(),
            targets,
        };
        let mut all = vec![links("defaultLink", vec![own("page of the code")])];
        if unit.is_some() {
            all.push(links("verificationService", vec![own("check this pack")]));
            all.push(links("recallStatus", vec![own("recall status")]));
        } else {
            all[0] = links("defaultLink", vec![own("product page")]);
        }
        all.push(links("pip", pip.to_vec()));
        // Another member's products are that member's to link.
        let further = if product.own {
            self.config.links.of(&gtin)
        } else {
            &[]
        };
        for link in further {
            let target = Target {
                href: link.url.clone(),
                title: link.title.clone(),
                langs: Some(link.lang.clone())
                    .filter(|lang| !lang.is_empty())
                    .into_iter()
                    .collect(),
                media: link.media.clone(),
            };
            match all.iter_mut().find(|links| links.kind == link.kind) {
                Some(same) => same.targets.push(target),
                None => all.push(links(&link.kind, vec![target])),
            }
        }
        (anchor, all)
    }

    /// Answers a request that asks for links; [`Answer::Page`] if it only wants the page.
    ///
    /// # Errors
    /// 404 if the product is not registered or has no link of this type.
    pub(super) fn resolve(
        &self,
        link: &DigitalLink,
        product: Option<&Product>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Answer, Problem> {
        let wanted = link_type(uri);
        let linkset = prefers_linkset(headers);
        if wanted.is_none() && !linkset {
            return Ok(Answer::Page);
        }
        let product = product.ok_or_else(no_product)?;
        let (anchor, all) = self.links(link, product);
        let wanted = match wanted.as_deref() {
            None | Some("all" | "linkset") => {
                return Ok(Answer::Response(linkset_response(
                    StatusCode::OK,
                    &anchor,
                    product,
                    &all,
                )));
            }
            Some(wanted) => wanted,
        };
        let found = all
            .into_iter()
            .find(|links| links.kind == wanted)
            .ok_or_else(|| {
                Problem::new(
                    StatusCode::NOT_FOUND,
                    "link-type",
                    "No link of this type",
                    "there is no link of this type for this code; linkType=all lists those that are there",
                )
            })?;
        if linkset {
            return Ok(Answer::Response(linkset_response(
                StatusCode::OK,
                &anchor,
                product,
                &[found],
            )));
        }
        let best = best(&found.targets, uri, headers);
        Ok(match best {
            Some(target) => Answer::Response(redirect(&hand_on(&target.href, uri))),
            None if super::accept::prefers_page(headers) => Answer::Choices(found.targets),
            None => Answer::Response(linkset_response(
                StatusCode::MULTIPLE_CHOICES,
                &anchor,
                product,
                &[found],
            )),
        })
    }

    /// Says on a page where its linkset is (RFC 9264, 8.1).
    pub(super) fn point_to_linkset(&self, link: &DigitalLink, response: &mut Response) {
        let stem = &self.config.base_url;
        let path = link
            .path()
            .iter()
            .map(|e| format!("/{}/{}", e.ai, super::link::escape(&e.value)))
            .collect::<String>();
        let value = format!("<{stem}{path}?linkType=all>; rel=\"linkset\"; type=\"{LINKSET}\"");
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(LINK, value);
        }
        open_to_all(response);
    }

    /// `GET /.well-known/gs1resolver`: the description of the resolver.
    pub(super) fn describe_resolver(&self) -> Response {
        let body = json!({
            "name": format!("{} in {}", self.config.member_name, self.config.network_name),
            "resolverRoot": self.config.base_url,
            "supportedPrimaryKeys": ["01"],
            "supportedLinkType": [{"namespace": VOCABULARY, "prefix": "gs1:"}],
            "supportedContextValuesEnumerated": [],
            "linkTypeDefaultCanBeLinkset": false,
        });
        let mut response = ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response();
        open_to_all(&mut response);
        response
    }
}

pub(super) fn no_product() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-product",
        "The product is not registered",
        "no member of this network has registered this GTIN",
    )
}

fn redirect(location: &str) -> Response {
    let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, value);
    }
    open_to_all(&mut response);
    response
}

/// Links are public: any site may read them. What varies is said, for caches.
fn open_to_all(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
    headers.insert(
        HeaderName::from_static("access-control-expose-headers"),
        HeaderValue::from_static("Link, Location"),
    );
    headers.append(VARY, HeaderValue::from_name(ACCEPT));
    headers.append(VARY, HeaderValue::from_static("accept-language"));
}

/// A linkset as JSON (RFC 9264, 4.2), with relation types of GS1's vocabulary.
fn linkset_response(
    status: StatusCode,
    anchor: &str,
    product: &Product,
    all: &[Links],
) -> Response {
    let mut context = Map::new();
    context.insert("anchor".into(), anchor.into());
    context.insert("itemDescription".into(), product.description.clone().into());
    for links in all {
        let targets: Vec<Value> = links
            .targets
            .iter()
            .map(|t| {
                json!({
                    "href": t.href,
                    "title": t.title,
                    "type": t.media,
                    "hreflang": t.langs,
                })
            })
            .collect();
        context.insert(format!("{VOCABULARY}{}", links.kind), targets.into());
    }
    let body = json!({"linkset": [context]}).to_string();
    let mut response = (status, [(CONTENT_TYPE, LINKSET)], body).into_response();
    response.headers_mut().insert(
        LINK,
        HeaderValue::from_static(
            "<https://ref.gs1.org/standards/resolver/linkset-context>; rel=\"http://www.w3.org/ns/json-ld#context\"; \
             type=\"application/ld+json\"",
        ),
    );
    open_to_all(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_types_are_read_in_every_writing() {
        for (query, expected) in [
            ("linkType=gs1:pip", Some("pip")),
            ("17=270101&linkType=gs1%3Apip", Some("pip")),
            ("linkType=https://gs1.org/voc/pip", Some("pip")),
            ("linkType=https%3A%2F%2Fgs1.org%2Fvoc%2Fpip", Some("pip")),
            ("linkType=all&x", Some("all")),
            ("linktype=all", None),
            ("x", None),
        ] {
            let uri: Uri = format!("/?{query}").parse().expect("uri");
            assert_eq!(link_type(&uri).as_deref(), expected, "{query}");
        }
        assert_eq!(link_type(&"/".parse().expect("uri")), None);
    }

    #[test]
    fn the_rest_of_the_query_is_handed_on() {
        let uri: Uri = "/?17=270101&linkType=gs1:pip&lang=en".parse().expect("uri");
        assert_eq!(hand_on("/p?lang=zh", &uri), "/p?lang=zh&17=270101");
        assert_eq!(hand_on("/p", &uri), "/p?17=270101&lang=en");
        assert_eq!(hand_on("/p", &"/?linkType=all".parse().expect("uri")), "/p");
    }
}
