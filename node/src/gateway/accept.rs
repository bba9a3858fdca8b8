//! What kind of answer a client wants, by its `Accept` header.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use super::lang::quality;

/// The media type of linksets as JSON (RFC 9264).
pub(super) const LINKSET: &str = "application/linkset+json";

/// The weight that a media type is asked for by name; 0 if it is not named.
fn weight(headers: &HeaderMap, media: &str) -> f32 {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|range| {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            name.trim()
                .eq_ignore_ascii_case(media)
                .then(|| quality(parameters))
        })
        .fold(0.0, f32::max)
}

/// Whether the client is a person's: it names HTML, and no kind of JSON before it.
pub(super) fn prefers_page(headers: &HeaderMap) -> bool {
    let page = weight(headers, "text/html");
    page > 0.0
        && page >= weight(headers, "application/json")
        && page >= weight(headers, "application/problem+json")
}

/// Whether the client names a linkset, or JSON, and HTML not before it.
pub(super) fn prefers_linkset(headers: &HeaderMap) -> bool {
    let linkset = weight(headers, LINKSET).max(weight(headers, "application/json"));
    linkset > weight(headers, "text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_pages_and_programs_get_what_they_name() {
        for (accept, page, linkset) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                true,
                false,
            ),
            ("*/*", false, false),
            ("application/json", false, true),
            ("application/linkset+json", false, true),
            (
                "application/linkset+json;q=0.9, text/html;q=0.5",
                true,
                true,
            ),
            ("application/json, text/html;q=0.5", false, true),
            ("text/html;q=0", false, false),
            ("", false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("header"));
            assert_eq!(
                (prefers_page(&headers), prefers_linkset(&headers)),
                (page, linkset),
                "{accept}"
            );
        }
        assert!(!prefers_page(&HeaderMap::new()));
    }
}
