//! Hosts on loopback for the scenarios.
#![allow(dead_code, unreachable_pub)]

use std::time::Duration;

use tally_swarm::{Host, HostConfig, Limits, Peer, TransportSeed};

pub const SOON: Duration = Duration::from_secs(10);

pub async fn host_at(seed: u8, listen: &str, limits: Limits) -> Host {
    Host::start(HostConfig {
        secret: TransportSeed::new([seed; 32].into()),
        listen: if listen.is_empty() {
            Vec::new()
        } else {
            vec![listen.to_owned()]
        },
        limits,
    })
    .await
    .unwrap()
}

pub async fn host(seed: u8) -> Host {
    host_at(seed, "/ip4/127.0.0.1/tcp/0", Limits::default()).await
}

pub fn peer(host: &Host, label: &str) -> Peer {
    Peer {
        key: host.key(),
        addr: host.listen_addrs().first().cloned().unwrap_or_default(),
        label: label.to_owned(),
    }
}

pub async fn pair_with(a_limits: Limits, b_limits: Limits) -> (Host, Host) {
    let a = host_at(1, "/ip4/127.0.0.1/tcp/0", a_limits).await;
    let b = host_at(2, "/ip4/127.0.0.1/tcp/0", b_limits).await;
    introduce(&a, &b).await;
    (a, b)
}

pub async fn introduce(a: &Host, b: &Host) {
    a.set_peers(vec![peer(b, "b")]).unwrap();
    b.set_peers(vec![peer(a, "a")]).unwrap();
    a.wait_connected(&b.key(), SOON).await.unwrap();
    b.wait_connected(&a.key(), SOON).await.unwrap();
}

pub async fn pair() -> (Host, Host) {
    pair_with(Limits::default(), Limits::default()).await
}

pub fn port(host: &Host) -> u16 {
    host.listen_addrs()[0]
        .rsplit('/')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Waits until `what` holds.
pub async fn until(what: impl Fn() -> bool) {
    tokio::time::timeout(SOON, async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it did not happen in time");
}
