//! Who a request comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::header::USER_AGENT;
use axum::http::{Extensions, HeaderMap};

use super::GatewayConfig;
use super::backoff::SourceKey;
use crate::scans::ScanLog;

/// The address at the other end of the connection.
pub(super) fn peer(extensions: &Extensions) -> IpAddr {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::from([0, 0, 0, 0]), |c| c.0.ip().to_canonical())
}

/// The address without what its subscriber may choose: an IPv4 address, or the /64 of an IPv6 address. Phones change the rest of it
/// every day, and whoever likes has 2^64 of them.
pub(super) fn subscriber(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let network = u128::from(v6) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
    }
}

/// The address that a request is answered for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source(pub(super) IpAddr);

impl Source {
    /// The peer's address; behind a trusted proxy, the right-most address of `X-Forwarded-For` that is not a trusted proxy.
    pub(super) fn of(config: &GatewayConfig, headers: &HeaderMap, extensions: &Extensions) -> Self {
        let peer = peer(extensions);
        if !config.trusted_proxies.contains(&peer) {
            return Self(peer);
        }
        let mut from = peer;
        let lines: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Ok(addr) = hop.trim().parse::<IpAddr>() else {
                break;
            };
            from = addr.to_canonical();
            if !config.trusted_proxies.contains(&from) {
                break;
            }
        }
        Self(from)
    }

    /// Its name in the back-off.
    pub(super) fn key(self) -> SourceKey {
        self.0.into()
    }

    /// Its subscriber, for what is counted by subscribers. Personal: only under a key.
    pub(super) fn name(self) -> String {
        subscriber(self.0).to_string()
    }

    /// The pseudonym of its subscriber with this browser, in the scan log.
    pub(super) fn pseudonym(self, log: &ScanLog, headers: &HeaderMap) -> [u8; 16] {
        let agent = headers.get(USER_AGENT).map_or(&[][..], |v| v.as_bytes());
        log.pseudonym(&[b"source", self.name().as_bytes(), agent])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_and_browser_are_one_pseudonym() {
        let dir = tempfile::tempdir().expect("temp dir");
        let node = crate::scans::testkit::node(crate::scans::testkit::BRAND, dir.path());
        let of = |addr: &str, agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, agent.parse().expect("value"));
            Source(addr.parse().expect("address")).pseudonym(node.service.log(), &headers)
        };
        let phone = of("2001:db8:0:1:a:b:c:d", "phone");
        // A temporary address of the same phone (RFC 8981), and others.
        assert_eq!(of("2001:db8:0:1:1:2:3:4", "phone"), phone);
        assert_ne!(of("2001:db8:0:2:a:b:c:d", "phone"), phone);
        assert_ne!(of("2001:db8:0:1:a:b:c:d", "other"), phone);
        let v4 = of("192.0.2.1", "phone");
        assert_eq!(of("::ffff:192.0.2.1", "phone"), v4);
        assert_ne!(of("192.0.2.2", "phone"), v4);
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let mut config = GatewayConfig::new("http://h", "n", "m");
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-for",
            "1.1.1.1, 2.2.2.2, 10.0.0.2".parse().expect("value"),
        );
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 5))));
        let of = |config: &GatewayConfig| Source::of(config, &headers, &extensions).0;
        assert_eq!(of(&config), IpAddr::from([10, 0, 0, 1]));
        config.trusted_proxies = vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        assert_eq!(of(&config), IpAddr::from([2, 2, 2, 2]));
    }
}
