//! What the gateway is told.

use std::net::IpAddr;
use std::time::Duration;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::BackoffConfig;

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
    /// Required for `/v1/status` and `/metrics` if set.
    pub operator_token: Option<OperatorToken>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long a request may take, body included.
    pub request_timeout: Duration,
    /// Requests worked on at once; more are turned away with 503.
    pub max_requests: usize,
    /// How sources that try many wrong codes are slowed down.
    pub backoff: BackoffConfig,
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
            trusted_proxies: Vec::new(),
            max_body_bytes: 64 << 10,
            request_timeout: Duration::from_secs(10),
            max_requests: 1024,
            backoff: BackoffConfig::default(),
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
