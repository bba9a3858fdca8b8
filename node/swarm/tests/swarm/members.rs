//! Who may talk to whom: the list decides, at connection and at every change.

use std::time::{Duration, Instant};

use crate::common::{SOON, host, host_at, pair, peer, until};
use tally_swarm::{Error, Limits, Peer, ServeLimits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ECHO: &str = "/test/echo/1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_talk_and_an_outsider_is_refused() {
    let (a, b) = pair().await;
    b.serve(ECHO, ServeLimits::default(), async |from, body: Vec<u8>| {
        Ok([&from[..], &body].concat())
    })
    .unwrap();
    let answer = a.request(&b.key(), ECHO, b"hello", SOON).await.unwrap();
    assert_eq!(answer, [&a.key()[..], b"hello"].concat());
    assert!(a.peers()[0].connected);
    until(|| a.peers()[0].rtt_ms.is_some()).await;

    // The outsider knows the address and the key, and is in nobody's list.
    let outsider = host(3).await;
    outsider.set_peers(vec![peer(&b, "b")]).unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    b.register_metrics(&mut registry);
    let refused = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.contains("tally_swarm_connections_refused_total{reason=\"not_in_the_list\"}")
    };
    until(refused).await;
    let err = outsider
        .request(&b.key(), ECHO, b"x", SOON)
        .await
        .unwrap_err();
    assert!(
        matches!(
            err,
            Error::NotConnected { .. }
                | Error::Cut { .. }
                | Error::EarlyEnd { .. }
                | Error::Io { .. }
        ),
        "{err}"
    );
    assert!(matches!(
        b.request(&outsider.key(), ECHO, b"x", SOON).await,
        Err(Error::UnknownPeer { .. })
    ));
    assert!(a.request(&b.key(), ECHO, b"still", SOON).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_key_at_an_address_is_not_talked_to() {
    let (a, b, c) = (host(1).await, host(2).await, host(3).await);
    // a believes that b lives where c does; c would let a in.
    let wrong = Peer {
        key: b.key(),
        addr: c.listen_addrs()[0].clone(),
        label: "b".into(),
    };
    a.set_peers(vec![wrong]).unwrap();
    c.set_peers(vec![Peer {
        addr: String::new(),
        ..peer(&a, "a")
    }])
    .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!a.peers()[0].connected);
    assert!(!c.is_connected(&a.key()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_cuts_links_and_streams_at_once() {
    let (a, b) = pair().await;
    let mut incoming = b.accept_streams("/test/raw/1").unwrap();
    let mut near = a.open_stream(&b.key(), "/test/raw/1").await.unwrap();
    near.write_all(b"ping").await.unwrap();
    near.flush().await.unwrap();
    let (from, mut far) = incoming.recv().await.unwrap();
    assert_eq!(from, a.key());
    let mut four = [0; 4];
    far.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"ping");

    let begun = Instant::now();
    b.set_peers(Vec::new()).unwrap();
    let err = far.read_u8().await.unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(near.read_u8().await.is_err());
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    until(|| !a.is_connected(&b.key())).await;
    assert!(b.peers().is_empty());

    // Back in the list, they talk again.
    b.set_peers(vec![peer(&a, "a")]).unwrap();
    a.wait_connected(&b.key(), SOON).await.unwrap();
    until(|| b.is_connected(&a.key())).await;
    let mut near = loop {
        if let Ok(stream) = a.open_stream(&b.key(), "/test/raw/1").await {
            break stream;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    near.write_all(b"x").await.unwrap();
    assert_eq!(
        incoming.recv().await.unwrap().1.read_u8().await.unwrap(),
        b'x'
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_peer_is_back_within_a_second() {
    // Only a is reachable for b, and only b's address is known to a: each side's dialing is tried by itself.
    for (a_dials, b_dials) in [(true, false), (false, true)] {
        let a = host(1).await;
        let mut b = host(2).await;
        let only = |p: Peer, dial: bool| {
            if dial {
                p
            } else {
                Peer {
                    addr: String::new(),
                    ..p
                }
            }
        };
        a.set_peers(vec![only(peer(&b, "b"), a_dials)]).unwrap();
        b.set_peers(vec![only(peer(&a, "a"), b_dials)]).unwrap();
        a.wait_connected(&b.key(), SOON).await.unwrap();
        let addr = b.listen_addrs()[0].clone();
        b.shutdown().await;
        until(|| !a.is_connected(&b.key())).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        b = host_at(2, &addr, Limits::default()).await;
        b.set_peers(vec![only(peer(&a, "a"), b_dials)]).unwrap();
        let begun = Instant::now();
        a.wait_connected(&b.key(), SOON).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_millis(1500),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_resolved() {
    let (a, b) = (host(1).await, host(2).await);
    let addr = format!("/dns4/localhost/tcp/{}", crate::common::port(&b));
    a.set_peers(vec![Peer {
        addr,
        ..peer(&b, "b")
    }])
    .unwrap();
    b.set_peers(vec![Peer {
        addr: String::new(),
        ..peer(&a, "a")
    }])
    .unwrap();
    a.wait_connected(&b.key(), SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_configurations_are_typed() {
    let a = host(1).await;
    let bad = |key, addr: &str| {
        vec![Peer {
            key,
            addr: addr.into(),
            label: "x".into(),
        }]
    };
    // y = 2 is on no curve point.
    let mut no_point = [0; 32];
    no_point[0] = 2;
    assert!(matches!(
        a.set_peers(bad(no_point, "")),
        Err(Error::Key { .. })
    ));
    let good = host(2).await.key();
    assert!(matches!(
        a.set_peers(bad(good, "127.0.0.1:7")),
        Err(Error::Address { .. })
    ));
    assert!(a.peers().is_empty());
    let twice = tally_swarm::Host::start(tally_swarm::HostConfig {
        secret: tally_swarm::TransportSeed::new([9; 32].into()),
        listen: a.listen_addrs().to_vec(),
        limits: Limits::default(),
    })
    .await;
    assert!(matches!(twice.err(), Some(Error::Listen { .. })));
    assert!(a.accept_streams("/twice").is_ok());
    let held = a.accept_streams("/held").unwrap();
    assert!(matches!(
        a.accept_streams("/held").err(),
        Some(Error::Served { .. })
    ));
    drop(held);
    assert!(a.accept_streams("/held").is_ok());
    assert!(matches!(
        a.accept_streams("held").err(),
        Some(Error::Protocol { .. })
    ));
}
