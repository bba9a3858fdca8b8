//! Garbage at every door: consensus, swarm and HTTP port, and admin socket, of every node. They stay up and ready, their memory
//! stays bounded, nothing panics, and a record still commits afterwards.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::{Rng as _, RngCore};
use tally_tests::{Network, Plan, Scenario, get, gtin, request};

/// How much more memory a node may hold after everything than before.
const GROWTH: u64 = 96 << 20;
/// Connections of each kind to each door.
const TIMES: usize = 12;
/// Connections to each door that are held open and silent, or send a byte at a time.
const SLOW: usize = 60;
/// For how long.
const SLOW_FOR: Duration = Duration::from_secs(12);
/// How long one connection may be kept by a node that says nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// One connection's worth of bytes, and what happens after them.
struct Shot {
    bytes: Vec<u8>,
    /// Close the sending half and read on.
    half_close: bool,
}

fn random(rng: &mut impl RngCore, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A TLS 1.2 ClientHello as any browser would begin, to a port that speaks no TLS.
fn tls_hello(rng: &mut impl RngCore) -> Vec<u8> {
    let mut hello = vec![0x03, 0x03];
    hello.extend(random(rng, 32));
    hello.extend([0, 0, 4, 0x13, 0x01, 0xc0, 0x2f, 1, 0]);
    let mut out = vec![0x16, 0x03, 0x01];
    out.extend(u16::try_from(hello.len() + 4).unwrap_or(0).to_be_bytes());
    out.extend([1, 0, 0]);
    out.push(u8::try_from(hello.len()).unwrap_or(0));
    out.extend(hello);
    out
}

/// multistream-select, as libp2p begins, and then something else.
fn multistream(then: &[u8]) -> Vec<u8> {
    let mut out = b"\x13/multistream/1.0.0\n".to_vec();
    out.extend_from_slice(then);
    out
}

fn post(path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}

/// What any door is sent.
fn shots(rng: &mut impl RngCore) -> Vec<Shot> {
    let json = "application/json";
    let mut all: Vec<Vec<u8>> = Vec::new();
    for _ in 0..TIMES {
        let length = rng.gen_range(0..4_096);
        all.push(random(rng, length));
        all.push(random(rng, 64 << 10));
    }
    all.push(tls_hello(rng));
    // Lengths that promise far more than comes.
    all.push(vec![0xff; 32]);
    all.push([&u32::MAX.to_be_bytes()[..], &random(rng, 64)].concat());
    all.push(multistream(b"\x07/noise\n"));
    all.push(multistream(
        &[&b"\x07/noise\n\xff\xff"[..], &random(rng, 300)].concat(),
    ));
    all.push(multistream(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
    // HTTP, broken in its line, its headers, its lengths and its body.
    all.push(b"GET\r\n\r\n".to_vec());
    all.push(b"GET / HTTP/9.9\r\n\r\n".to_vec());
    all.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
    all.push(
        [
            &b"GET /"[..],
            &vec![b'a'; 200_000],
            b" HTTP/1.1\r\nhost: x\r\n\r\n",
        ]
        .concat(),
    );
    all.push([&b"GET / HTTP/1.1\r\nx: "[..], &vec![b'a'; 2 << 20]].concat());
    let many: String = (0..20_000).map(|i| format!("h{i}: v\r\n")).collect();
    all.push(format!("GET / HTTP/1.1\r\n{many}\r\n").into_bytes());
    all.push(b"GET /tile/..%2f..%2f..%2fkeys/node.age HTTP/1.1\r\nhost: x\r\n\r\n".to_vec());
    all.push(b"GET /tile/entries/x999/x999/x999/999.p/999 HTTP/1.1\r\nhost: x\r\n\r\n".to_vec());
    all.push(b"GET /01/\xff\xfe/21/%ff%00 HTTP/1.1\r\nhost: x\r\n\r\n".to_vec());
    all.push(b"POST /v1/scans HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_vec());
    all.push(
        b"POST /v1/scans HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
    );
    all.push(
        b"POST /v1/scans HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n"
            .to_vec(),
    );
    all.push(post("/v1/scans", json, &vec![b'['; 4 << 20]));
    all.push(post("/v1/scans", json, &vec![b'['; 200_000]));
    all.push(post(
        "/v1/scans",
        json,
        format!("{}1{}", "{\"code\":".repeat(20_000), "}".repeat(20_000)).as_bytes(),
    ));
    all.push(post("/v1/scans", json, b"{\"code\":\"\xff\xfe\xfd\"}"));
    all.push(post(
        "/v1/scans",
        json,
        b"{\"code\":\"http://x/01/09521234543213/21/\\u0000\\ud800\"}",
    ));
    all.push(post(
        "/01/09521234543213/21/A",
        "application/x-www-form-urlencoded",
        &random(rng, 9_000),
    ));
    // The admin socket's own form, broken.
    all.push(b"{\"op\":\"status\"".to_vec());
    all.push([&vec![b'{'; 500_000][..], b"\n"].concat());
    all.push(
        [
            &b"{\"op\":\"submit\",\"args\":{\"record_hex\":\""[..],
            &vec![b'f'; 3 << 20],
            b"\"}}\n",
        ]
        .concat(),
    );
    all.push([&random(rng, 1_000)[..], b"\n"].concat());
    all.into_iter()
        .map(|bytes| Shot {
            bytes,
            half_close: rng.gen_bool(0.5),
        })
        .collect()
}

/// Fires one shot. Whatever the node does with the connection is right, as long as it lives.
macro_rules! fire {
    ($stream:expr, $shot:expr) => {{
        let mut stream = $stream;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        if stream.write_all(&$shot.bytes).is_ok() {
            if $shot.half_close {
                let _ = stream.shutdown(Shutdown::Write);
            }
            let mut some = [0; 4_096];
            let _ = stream.read(&mut some);
        }
    }};
}

/// Many connections that stay open: silent ones, and ones that send a request by single bytes.
fn slow(addresses: &[String], socket: &std::path::Path) -> Result<()> {
    let mut held: Vec<TcpStream> = Vec::new();
    let mut admin: Vec<UnixStream> = Vec::new();
    for address in addresses {
        for _ in 0..SLOW {
            // A full door may refuse; that is one way to be bounded.
            held.extend(TcpStream::connect(address).ok());
        }
    }
    for _ in 0..SLOW {
        admin.extend(UnixStream::connect(socket).ok());
    }
    let end = Instant::now() + SLOW_FOR;
    let mut request = b"GET /healthz HTTP/1.1\r\nx-slow: "
        .iter()
        .chain(std::iter::repeat(&b'a'));
    while Instant::now() < end {
        let byte = [*request.next().context("endless")?];
        for stream in held.iter_mut().step_by(2) {
            let _ = stream.write(&byte);
        }
        for stream in admin.iter_mut().step_by(2) {
            let _ = stream.write(&byte);
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn every_door_bears_garbage() {
    Scenario::run_alone("garbage", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
        let brand = network[0].client();
        brand.add_product(&gtin(1))?;
        let batch = brand.issue(&gtin(1), "L1", 10, true)?;
        let before = network.resident()?;

        thread::scope(|scope| -> Result<()> {
            let mut threads = Vec::new();
            for (i, member) in network.iter().enumerate() {
                let (addresses, socket) = (member.addresses(), member.dir.join("admin.sock"));
                let mut rng = scenario.rng(i as u64);
                let (slow_addresses, slow_socket) = (addresses.clone(), socket.clone());
                threads.push(scope.spawn(move || -> Result<()> {
                    for (door, address) in addresses.iter().enumerate() {
                        for shot in shots(&mut rng) {
                            let stream = TcpStream::connect(address)
                                .with_context(|| format!("door {door} at {address} is closed"))?;
                            fire!(stream, shot);
                        }
                    }
                    for shot in shots(&mut rng) {
                        let stream =
                            UnixStream::connect(&socket).context("the admin socket is closed")?;
                        fire!(stream, shot);
                    }
                    Ok(())
                }));
                threads.push(scope.spawn(move || slow(&slow_addresses, &slow_socket)));
            }
            // Meanwhile honest customers are served.
            let end = Instant::now() + SLOW_FOR;
            let mut served = 0;
            while Instant::now() < end {
                let answer =
                    brand.scan(&batch.codes[served % 10].0, &format!("meanwhile-{served}"))?;
                ensure!(answer.status == 200, "{}", answer.told());
                served += 1;
                thread::sleep(Duration::from_millis(100));
            }
            ensure!(served > 20, "only {served} scans were answered meanwhile");
            for thread in threads {
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            Ok(())
        })?;

        network.bore(&before, GROWTH)?;
        network.wait_ready()?;
        // What is refused is refused in the form that clients can read.
        let answer = request(
            &brand.http,
            "POST",
            "/v1/scans",
            &[("content-type", "application/json")],
            &vec![b'['; 300 << 10],
        )?;
        ensure!(
            answer.status == 413 && answer.json()["type"] == "urn:tally:problem:too-large",
            "{}",
            answer.told()
        );
        let answer = get(&brand.http, "/tile/..%2fkeys")?;
        ensure!(answer.status == 404, "{}", answer.told());

        for (i, member) in network.iter().enumerate() {
            member.add_product(&gtin(100 + u32::try_from(i)?))?;
        }
        network.agree(Duration::from_secs(30))?;
        network.stop()
    });
}
