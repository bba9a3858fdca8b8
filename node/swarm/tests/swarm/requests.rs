//! Requests, notifications and streams: what goes wrong is typed, and nothing else is disturbed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::common::{SOON, host, pair, pair_with, peer, until};
use tally_swarm::{Error, Limits, Refusal, ServeLimits, read_frame, write_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const P: &str = "/test/request/1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_typed() {
    let (a, b) = pair().await;
    let limits = ServeLimits {
        max_request_bytes: 1000,
        max_response_bytes: 2000,
        max_concurrent_per_peer: 2,
        deadline: Duration::from_secs(2),
    };
    b.serve(P, limits, async |_, body: Vec<u8>| match body.first() {
        Some(1) => Err(Refusal::new("nonce 3 expected\n4 found")),
        Some(2) => Ok(vec![0; 2001]),
        Some(3) => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(Vec::new())
        }
        Some(4) => panic!("a handler's bug"),
        _ => Ok(body),
    })
    .unwrap();
    let ask = async |body: &[u8]| a.request(&b.key(), P, body, SOON).await;
    assert_eq!(ask(b"").await.unwrap(), b"");
    assert_eq!(ask(&[9; 1000]).await.unwrap(), [9; 1000]);
    for size in [1001, 100_000, 3_000_000] {
        assert_eq!(
            ask(&vec![9; size]).await,
            Err(Error::RequestTooLarge {
                peer: "b".into(),
                found: size as u64,
                max: 1000
            })
        );
    }
    assert_eq!(
        ask(&[1]).await,
        Err(Error::Refused {
            peer: "b".into(),
            reason: "nonce 3 expected 4 found".into()
        })
    );
    assert!(matches!(ask(&[2]).await, Err(Error::PeerFailed { .. })));
    assert!(matches!(
        ask(&[4]).await,
        Err(Error::EarlyEnd { .. } | Error::Io { .. })
    ));
    assert!(matches!(
        a.request(&b.key(), "/test/nothing/1", b"", SOON).await,
        Err(Error::Unsupported { .. })
    ));
    // Two hang; the third is told at once.
    let begun = Instant::now();
    let slow = tokio::join!(ask(&[3]), ask(&[3]), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let busy = ask(b"x").await;
        assert!(begun.elapsed() < Duration::from_secs(1));
        busy
    });
    assert!(matches!(slow.2, Err(Error::Busy { .. })), "{:?}", slow.2);
    assert!(
        matches!(slow.0, Err(Error::PeerFailed { .. })),
        "{:?}",
        slow.0
    );
    assert!(matches!(slow.1, Err(Error::PeerFailed { .. })));
    assert_eq!(ask(b"x").await.unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_ends_and_silence_are_typed() {
    let (a, b) = pair().await;
    let mut raw = b.accept_streams(P).unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        for i in 0.. {
            let Some((_, mut s)) = raw.recv().await else {
                return;
            };
            let answer: &[u8] = match i {
                0 => b"",
                1 => b"\0\0\0",
                2 => b"\0\0\0\0\x0Ashort",
                3 => b"\0\xFF\xFF\xFF\xFF",
                4 => b"\x77\0\0\0\0",
                _ => {
                    kept.push(s);
                    continue;
                }
            };
            let _ = read_frame(&mut s, 100, SOON).await;
            let _ = s.write_all(answer).await;
            let _ = s.shutdown().await;
        }
    });
    let ask = async |limit| a.request(&b.key(), P, b"q", limit).await;
    for _ in 0..3 {
        assert_eq!(ask(SOON).await, Err(Error::EarlyEnd { what: "answer" }));
    }
    assert!(matches!(
        ask(SOON).await,
        Err(Error::TooLarge {
            what: "answer",
            found: 0xFFFF_FFFF,
            ..
        })
    ));
    assert_eq!(ask(SOON).await, Err(Error::Status { found: 0x77 }));
    let begun = Instant::now();
    let limit = Duration::from_millis(300);
    assert_eq!(
        ask(limit).await,
        Err(Error::Deadline {
            what: "a request",
            limit
        })
    );
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_asker_is_dropped_and_frees_its_place() {
    let (a, b) = pair().await;
    let limits = ServeLimits {
        max_concurrent_per_peer: 1,
        deadline: Duration::from_millis(300),
        ..ServeLimits::default()
    };
    b.serve(P, limits, async |_, body| Ok(body)).unwrap();
    let mut slow = a.open_stream(&b.key(), P).await.unwrap();
    slow.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
    slow.flush().await.unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    let ended = slow.read_to_end(&mut rest).await;
    assert!(ended.is_err() || rest.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(a.request(&b.key(), P, b"x", SOON).await.unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_times_out_while_read_or_written() {
    let (a, b) = pair().await;
    let mut raw = b.accept_streams(P).unwrap();
    let mut near = a.open_stream(&b.key(), P).await.unwrap();
    near.set_idle_timeout(Some(Duration::from_millis(200)));
    near.write_all(b"x").await.unwrap();
    near.flush().await.unwrap();
    let (_, _far) = raw.recv().await.unwrap();
    let err = near.read_u8().await.unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::TimedOut);
    // The far side reads nothing: the window fills, and memory stays bounded.
    let err = near.write_all(&vec![0; 64 << 20]).await.unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_requests_from_many_is_answered_whole() {
    let (a, b, c) = (host(1).await, host(2).await, host(3).await);
    a.set_peers(vec![peer(&b, "b"), peer(&c, "c")]).unwrap();
    b.set_peers(vec![peer(&a, "a"), peer(&c, "c")]).unwrap();
    c.set_peers(vec![peer(&a, "a"), peer(&b, "b")]).unwrap();
    let limits = ServeLimits {
        max_concurrent_per_peer: 96,
        ..ServeLimits::default()
    };
    a.serve(P, limits, async |_, body| Ok(body)).unwrap();
    for host in [&b, &c] {
        host.wait_connected(&a.key(), SOON).await.unwrap();
    }
    let before = a.traffic();
    let mut all = tokio::task::JoinSet::new();
    for i in 0..160_u32 {
        let host = if i % 2 == 0 { b.clone() } else { c.clone() };
        let key = a.key();
        all.spawn(async move {
            let body = vec![7; 5_000];
            let answer = host.request(&key, P, &body, SOON).await?;
            assert_eq!(answer, body);
            Ok::<_, Error>(())
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap().unwrap();
    }
    let after = a.traffic();
    let moved = 160 * 5_000;
    assert!(after.bytes_in - before.bytes_in > moved && after.bytes_out - before.bytes_out > moved);
    assert!(after.bytes_in - before.bytes_in < 2 * moved, "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_reach_all_and_survive_a_reconnect() {
    let (a, b, c) = (host(1).await, host(2).await, host(3).await);
    a.set_peers(vec![peer(&b, "b"), peer(&c, "c")]).unwrap();
    b.set_peers(vec![peer(&a, "a")]).unwrap();
    c.set_peers(vec![peer(&a, "a")]).unwrap();
    let mut at_b = b.notifications(P, 16).unwrap();
    let mut at_c = c.notifications(P, 16).unwrap();
    for host in [&b, &c] {
        a.wait_connected(&host.key(), SOON).await.unwrap();
    }
    for i in 0..100_u8 {
        assert_eq!(a.notify_all(P, vec![i]), 2);
    }
    for i in 0..100_u8 {
        assert_eq!(at_b.recv().await.unwrap(), (a.key(), vec![i]));
        assert_eq!(at_c.recv().await.unwrap(), (a.key(), vec![i]));
    }
    // Over the limit: to nobody.
    assert_eq!(a.notify_all(P, vec![0; (1 << 20) + 1]), 0);
    // The stream to c dies with its connection and is opened again.
    let addr = c.listen_addrs()[0].clone();
    c.shutdown().await;
    until(|| !a.is_connected(&c.key())).await;
    assert_eq!(a.notify_all(P, vec![1]), 1);
    let c = crate::common::host_at(3, &addr, Limits::default()).await;
    c.set_peers(vec![peer(&a, "a")]).unwrap();
    let mut at_c = c.notifications(P, 16).unwrap();
    a.wait_connected(&c.key(), SOON).await.unwrap();
    assert_eq!(a.notify_all(P, vec![2]), 2);
    assert_eq!(at_c.recv().await.unwrap().1, vec![2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_costs_only_its_own_queue() {
    let slow = Limits {
        max_notify_queue: 10,
        ..Limits::default()
    };
    let (a, b) = pair_with(slow, Limits::default()).await;
    // Nobody takes from this queue of one.
    let _stuck = b.notifications(P, 1).unwrap();
    let mut other = b.notifications("/test/other/1", 1).unwrap();
    for _ in 0..400 {
        assert_eq!(a.notify_all(P, vec![0; 100_000]), 1);
    }
    let mut registry = prometheus_client::registry::Registry::default();
    a.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let counts: HashMap<&str, &str> = text.lines().filter_map(|l| l.rsplit_once(' ')).collect();
    let dropped = counts["tally_swarm_notifications_dropped_total{protocol=\"/test/request/1\"}"];
    assert!(dropped.parse::<u32>().unwrap() > 100, "{dropped}");
    // Requests go on meanwhile.
    b.serve("/test/echo/1", ServeLimits::default(), async |_, body| {
        Ok(body)
    })
    .unwrap();
    assert!(
        a.request(&b.key(), "/test/echo/1", b"x", SOON)
            .await
            .is_ok()
    );
    assert!(other.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_limited_and_given_back() {
    let few = Limits {
        max_streams_per_peer: 3,
        ..Limits::default()
    };
    let (a, b) = pair_with(few, Limits::default()).await;
    let mut incoming = b.accept_streams(P).unwrap();
    let mut held = Vec::new();
    for i in 0..3_u8 {
        let mut s = a.open_stream(&b.key(), P).await.unwrap();
        write_frame(&mut s, &[i], SOON).await.unwrap();
        held.push(s);
    }
    assert!(matches!(
        a.open_stream(&b.key(), P).await,
        Err(Error::Busy { .. })
    ));
    held.clear();
    assert!(a.open_stream(&b.key(), P).await.is_ok());
    for i in 0..3 {
        let (_, mut s) = incoming.recv().await.unwrap();
        assert_eq!(read_frame(&mut s, 1, SOON).await.unwrap(), [i]);
    }
}
