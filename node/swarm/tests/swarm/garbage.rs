//! Garbage at the port: dropped, counted, and the members do not notice.

use std::time::{Duration, Instant};

use crate::common::{SOON, host_at, pair_with, peer, port};
use tally_swarm::{Limits, ServeLimits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn limits() -> Limits {
    Limits {
        handshake_timeout: Duration::from_millis(500),
        ..Limits::default()
    }
}

/// A stream of bytes that is not random but looks so; the seed is in the test.
fn noise(mut x: u64, n: usize) -> Vec<u8> {
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_le_bytes()[3]
        })
        .collect()
}

async fn ended(mut socket: TcpStream) {
    let mut sink = vec![0; 4096];
    tokio::time::timeout(SOON, async {
        while matches!(socket.read(&mut sink).await, Ok(n) if n > 0) {}
    })
    .await
    .expect("the host did not drop it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_half_open_and_slow_are_dropped_and_members_served() {
    let (a, b) = pair_with(Limits::default(), limits()).await;
    b.serve("/echo/1", ServeLimits::default(), async |_, body| Ok(body))
        .unwrap();
    let at = ("127.0.0.1", port(&b));
    let mut jobs = tokio::task::JoinSet::new();
    for i in 0..24_u32 {
        jobs.spawn(async move {
            let mut s = TcpStream::connect(at).await.unwrap();
            let _ = s
                .write_all(&noise(u64::from(i) + 1, 1 + 997 * i as usize))
                .await;
            ended(s).await;
        });
    }
    // Right protocol names, wrong everything else.
    for tail in [
        noise(77, 2000),
        b"\x13/multistream/1.0.0\n".to_vec(),
        vec![0xFF; 70_000],
    ] {
        jobs.spawn(async move {
            let mut s = TcpStream::connect(at).await.unwrap();
            let _ = s.write_all(b"\x13/multistream/1.0.0\n\x07/noise\n").await;
            let _ = s.write_all(&tail).await;
            ended(s).await;
        });
    }
    // Silent ones, and one that drips a byte at a time.
    for _ in 0..16 {
        jobs.spawn(async move { ended(TcpStream::connect(at).await.unwrap()).await });
    }
    jobs.spawn(async move {
        let begun = Instant::now();
        let mut s = TcpStream::connect(at).await.unwrap();
        for byte in b"\x13/multistream/1.0.0\n\x07/noise\n".iter().cycle() {
            if s.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(begun.elapsed() < SOON, "a slow handshake was never dropped");
        }
    });
    for i in 0..50_u8 {
        let answer = a.request(&b.key(), "/echo/1", &[i], SOON).await.unwrap();
        assert_eq!(answer, [i]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Some(done) = jobs.join_next().await {
        done.unwrap();
    }
    assert!(a.request(&b.key(), "/echo/1", b"x", SOON).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_silent_sockets_passes_and_a_member_gets_in() {
    let b = host_at(2, "/ip4/127.0.0.1/tcp/0", limits()).await;
    let a = crate::common::host(1).await;
    b.set_peers(vec![peer(&a, "a")]).unwrap();
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(TcpStream::connect(("127.0.0.1", port(&b))).await.unwrap());
    }
    // b dials a as well, but here a alone dials b, from the flooded address.
    b.set_peers(vec![tally_swarm::Peer {
        addr: String::new(),
        ..peer(&a, "a")
    }])
    .unwrap();
    a.set_peers(vec![peer(&b, "b")]).unwrap();
    a.wait_connected(&b.key(), SOON).await.unwrap();
    for socket in held {
        ended(socket).await;
    }
    assert!(a.is_connected(&b.key()));
}
