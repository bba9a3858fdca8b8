//! A load generator: many kept-open HTTP/1.1 connections, each sending its next request when it has the answer to the last.
//!
//! It is small so that it leaves the processor to the server that it measures: requests are bytes made beforehand, and of an answer only
//! status, length and the text that must stand in it are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest answer that is read, head and body, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a run gave.
pub(super) struct Outcome {
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    /// From each request to its answer, sorted.
    pub(super) times: Vec<Duration>,
}

/// A `POST` request with a JSON body.
pub(super) fn post(path: &str, address: &str, idempotency_key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nidempotency-key: {idempotency_key}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends every request once over `connections` connections. An answer that is not 200, or whose body does not hold `expected`, fails
/// the run.
pub(super) async fn run(
    address: &str,
    connections: usize,
    requests: Arc<Vec<Vec<u8>>>,
    expected: &'static str,
) -> Result<Outcome> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        open.push(stream);
    }
    let begun = Instant::now();
    let tasks: Vec<_> = open
        .into_iter()
        .map(|stream| {
            tokio::spawn(one(
                stream,
                Arc::clone(&next),
                Arc::clone(&requests),
                expected,
            ))
        })
        .collect();
    let mut times = Vec::with_capacity(requests.len());
    for task in tasks {
        times.extend(task.await.context("a connection's task failed")??);
    }
    let elapsed = begun.elapsed();
    ensure!(times.len() == requests.len(), "{} answers", times.len());
    times.sort_unstable();
    Ok(Outcome { elapsed, times })
}

async fn one(
    mut stream: TcpStream,
    next: Arc<AtomicUsize>,
    requests: Arc<Vec<Vec<u8>>>,
    expected: &'static str,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    let mut buffer = Vec::with_capacity(4096);
    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
        let sent = Instant::now();
        stream.write_all(request).await?;
        tokio::time::timeout(PATIENCE, answer(&mut stream, &mut buffer, expected))
            .await
            .context("an answer took too long")??;
        times.push(sent.elapsed());
    }
    Ok(times)
}

/// Reads one answer; nothing may follow it.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>, expected: &str) -> Result<()> {
    buffer.clear();
    loop {
        if let Some((status, head, length)) = head(buffer)? {
            let all = head + length;
            if buffer.len() == all {
                let text = std::str::from_utf8(buffer.get(head..).unwrap_or_default())?;
                ensure!(status == 200, "answer {status}: {text}");
                ensure!(text.contains(expected), "expected {expected} in {text}");
                return Ok(());
            }
            ensure!(buffer.len() < all, "more bytes than the answer has");
        }
        ensure!(
            buffer.len() <= MAX_ANSWER,
            "an answer of more than {MAX_ANSWER} bytes"
        );
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server closed the connection");
        }
    }
}

/// Status, length of the head and of the body; `None` while the head is not whole.
fn head(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default())?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|l| l.split(' ').nth(1))
        .and_then(|s| s.parse().ok())
        .context("an answer without a status")?;
    let length = lines
        .filter_map(|l| l.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .context("an answer without a length")?;
    Ok(Some((status, end + 4, length)))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn heads_are_read() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello";
        let body = whole.len() - b"hello".len();
        assert_eq!(head(whole).unwrap(), Some((200, body, 5)));
        for cut in 0..body {
            assert_eq!(head(&whole[..cut]).unwrap(), None);
        }
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(head(b"nonsense\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn a_wrong_answer_fails_the_run() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut bytes = vec![0; 4096];
                    while let Ok(n) = stream.read(&mut bytes).await
                        && n > 0
                    {
                        let said: &[u8] = if bytes.starts_with(b"POST /good") {
                            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                        } else {
                            b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
                        };
                        // Not at once, so that an answer comes in parts.
                        for part in said.chunks(30) {
                            stream.write_all(part).await.unwrap();
                            stream.flush().await.unwrap();
                        }
                    }
                });
            }
        });
        let good = post("/good", &address, "1", "{}");
        let requests = Arc::new(vec![good.clone(); 50]);
        let outcome = run(&address, 4, requests.clone(), "ok").await.unwrap();
        assert_eq!(outcome.times.len(), 50);
        assert!(run(&address, 4, requests, "other").await.is_err());
        let mixed = Arc::new(vec![good, post("/bad", &address, "2", "{}")]);
        assert!(run(&address, 1, mixed, "").await.is_err());
    }
}
