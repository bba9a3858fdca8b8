//! What the gateway is told.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{BackoffConfig, ProductLinks};
use crate::dealers::Dealers;

/// A secret that an operator's tools send as `Authorization: Bearer`. It has no text form.
pub struct OperatorToken(Zeroizing<String>);

impl OperatorToken {
    /// Takes the token over.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }

    /// Whether `found` is the token; constant time in the token.
    pub(super) fn matches(&self, found: &str) -> bool {
        self.0.as_bytes().ct_eq(found.as_bytes()).into()
    }
}

/// Settings of the gateway.
pub struct GatewayConfig {
    /// Where the outside reaches this node, as `https://id.example.cn` or with a path; without a final `/`.
    pub base_url: String,
    /// The network's name.
    pub network_name: String,
    /// Whether it is a test network; the pages say so.
    pub test_network: bool,
    /// The member's name.
    pub member_name: String,
    /// Required for `/v1/status` and `/metrics` if set; otherwise they are for callers on this machine only.
    pub operator_token: Option<OperatorToken>,
    /// Dealers who may say what becomes of units; `None` for nobody.
    pub dealers: Option<Arc<Dealers>>,
    /// Where consumers report a doubtful product; empty for nowhere. See [`is_contact`].
    pub contact: String,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// The header in which these say where the caller's address is; `None` for none.
    pub place_header: Option<HeaderName>,
    /// What the brand links to beside the node's own pages.
    pub links: ProductLinks,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long a request may take, body included.
    pub request_timeout: Duration,
    /// Requests worked on at once; more are turned away with 503.
    pub max_requests: usize,
    /// How sources that try many wrong codes are slowed down.
    pub backoff: BackoffConfig,
    /// How a source that tries many claim codes on one pack is slowed down.
    pub claim_backoff: BackoffConfig,
}

/// Longest contact, in bytes.
const MAX_CONTACT: usize = 200;

/// Whether a text can be shown to consumers as a contact: an `https://` address, a mail address, a telephone number with its `+`, or
/// nothing.
#[must_use]
pub fn is_contact(text: &str) -> bool {
    text.is_empty() || text.len() <= MAX_CONTACT && contact_href(text).is_some()
}

/// The target of a link to the contact.
pub(super) fn contact_href(text: &str) -> Option<String> {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"<>\"'".contains(&b));
    if text.starts_with("https://") && text.len() > 8 && plain {
        return Some(text.to_owned());
    }
    if let Some((name, host)) = text.split_once('@') {
        let is_mail = plain
            && !name.is_empty()
            && host.contains('.')
            && !text.contains(['?', '&', '%', ':', '/']);
        return is_mail.then(|| format!("mailto:{text}"));
    }
    let number = text.strip_prefix('+')?;
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let is_number = (6..=15).contains(&digits.len())
        && number
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-'));
    is_number.then(|| format!("tel:+{digits}"))
}

impl GatewayConfig {
    /// The defaults.
    #[must_use]
    pub fn new(base_url: &str, network_name: &str, member_name: &str) -> Self {
        Self {
            base_url: base_url.trim_end_matches('/').to_owned(),
            network_name: network_name.to_owned(),
            test_network: false,
            member_name: member_name.to_owned(),
            operator_token: None,
            dealers: None,
            contact: String::new(),
            trusted_proxies: Vec::new(),
            place_header: None,
            links: ProductLinks::default(),
            max_body_bytes: 64 << 10,
            request_timeout: Duration::from_secs(10),
            max_requests: 1024,
            backoff: BackoffConfig::default(),
            claim_backoff: BackoffConfig::claims(),
        }
    }

    /// The path of the base URL: empty, or `/` and more without a final `/`.
    #[must_use]
    pub fn base_path(&self) -> &str {
        let after_scheme = self
            .base_url
            .split_once("://")
            .map_or(self.base_url.as_str(), |(_, rest)| rest);
        after_scheme
            .find('/')
            .and_then(|at| after_scheme.get(at..))
            .unwrap_or_default()
            .trim_end_matches('/')
    }

    /// Whether the outside reaches the node by https.
    pub(super) fn is_https(&self) -> bool {
        self.base_url
            .get(..8)
            .is_some_and(|s| s.eq_ignore_ascii_case("https://"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_links() {
        for (text, href) in [
            (
                "https://brand.example/report?from=scan",
                "https://brand.example/report?from=scan",
            ),
            ("care@brand.example", "mailto:care@brand.example"),
            ("+86 400-123 4567", "tel:+864001234567"),
        ] {
            assert!(is_contact(text));
            assert_eq!(contact_href(text).as_deref(), Some(href));
        }
        assert!(is_contact(""));
        for bad in [
            "http://x",
            "javascript:alert(1)",
            "https://",
            "https://a b",
            "a@b",
            "@b.c",
            "a@b.c?subject=x",
            "400 123",
            "+12",
            "call us",
        ] {
            assert!(!is_contact(bad), "{bad}");
        }
        assert!(!is_contact(&format!("https://{}", "x".repeat(200))));
    }
}
