//! The HTTP requests that the command makes, without TLS: a small POST to a gateway, and reading files of a ledger.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::exit::{Exit, Failure};

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host and port to connect to.
    authority: String,
    /// What the URL says, for the Host header.
    host: String,
    /// Path before the routes; no final slash.
    base: String,
}

impl Target {
    /// Of `http://HOST[:PORT][/PATH]`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Failure::new(Exit::Usage, "url", format!("{url:?} {what}"))
                .next("give --url as http://HOST[:PORT][/PATH]")
        };
        if url.starts_with("https://") {
            return Err(wrong("needs TLS, which this command does not speak").into());
        }
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| wrong("is no http URL"))?;
        let (host, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.is_empty() || host.contains(['@', ' ', '?', '#']) || base.contains([' ', '?', '#'])
        {
            return Err(wrong("is no http URL").into());
        }
        let after_ip6 = host.rsplit_once(']').map_or(host, |(_, after)| after);
        let authority = if after_ip6.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        Ok(Self {
            authority,
            host: host.to_owned(),
            base: base.trim_end_matches('/').to_owned(),
        })
    }
}

/// What a gateway answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    pub(crate) retry_after: Option<String>,
}

/// Posts JSON and reads the answer.
pub(crate) fn post_json(
    target: &Target,
    path: &str,
    header: Option<(&str, &str)>,
    body: &Value,
    timeout: Duration,
) -> Result<Reply> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::time::timeout(timeout, post(target, path, header, body))
            .await
            .unwrap_or_else(|_| {
                let what = format!(
                    "the gateway at {} did not answer within {} s",
                    target.authority,
                    timeout.as_secs()
                );
                Err(Failure::new(Exit::Timeout, "timeout", what)
                    .next("it may have been taken; send it again, a scan with the same --idempotency-key")
                    .into())
            })
    })
}

async fn post(
    target: &Target,
    path: &str,
    header: Option<(&str, &str)>,
    body: &Value,
) -> Result<Reply> {
    let stream = TcpStream::connect(&target.authority).await.map_err(|e| {
        anyhow!(e).context(
            Failure::new(
                Exit::NotRunning,
                "not_running",
                format!("nothing answers at {}", target.authority),
            )
            .next("start the node with `tally up`, or name another gateway by --url"),
        )
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}{path}", target.base))
        .header(HOST, &target.host)
        .header(USER_AGENT, concat!("tally/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_string())))
        .context("the request cannot be written")?;
    let answer = sender
        .send_request(request)
        .await
        .context("the gateway broke the connection")?;
    let status = answer.status().as_u16();
    let retry_after = answer
        .headers()
        .get(RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .map(ToOwned::to_owned);
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    connection.abort();
    let body = body
        .map_err(|e| anyhow!(e))
        .context("the gateway's answer is cut or too long")?
        .to_bytes();
    Ok(Reply {
        status,
        body,
        retry_after,
    })
}

/// Reads files below one URL, over a connection that is kept.
pub(crate) struct Getter {
    target: Target,
    timeout: Duration,
    runtime: tokio::runtime::Runtime,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Getter {
    /// Connects with the first file. Each file must come within `timeout`.
    pub(crate) fn new(target: Target, timeout: Duration) -> Result<Self> {
        Ok(Self {
            target,
            timeout,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            sender: None,
        })
    }

    /// The file at `path`, without leading slash, of at most `max` bytes. A node that asks to be left alone for a while is.
    pub(crate) fn get(&mut self, path: &str, max: usize) -> Result<Vec<u8>> {
        let until = Instant::now() + self.timeout;
        loop {
            let kept = self.sender.is_some();
            let left = until.saturating_duration_since(Instant::now());
            let asked = ask(&self.target, &mut self.sender, path, max);
            let answer = self
                .runtime
                .block_on(async { tokio::time::timeout(left, asked).await });
            match answer {
                Ok(Ok(Answer::File(bytes))) => return Ok(bytes),
                Ok(Ok(Answer::Wait(seconds))) => {
                    self.sender = None;
                    let pause = Duration::from_secs(seconds.clamp(1, 30));
                    if Instant::now() + pause >= until {
                        let what = format!("{} is busy", self.target.authority);
                        return Err(Failure::new(Exit::Timeout, "timeout", what).into());
                    }
                    std::thread::sleep(pause);
                }
                Ok(Err(error)) => {
                    self.sender = None;
                    // The other side may have closed a connection that was idle.
                    if !kept || error.downcast_ref::<Failure>().is_some() {
                        return Err(error);
                    }
                }
                Err(_) => {
                    self.sender = None;
                    let what = format!(
                        "{} did not answer within {} s",
                        self.target.authority,
                        self.timeout.as_secs()
                    );
                    return Err(Failure::new(Exit::Timeout, "timeout", what).into());
                }
            }
        }
    }
}

enum Answer {
    File(Vec<u8>),
    /// Too many requests; try again after so many seconds.
    Wait(u64),
}

async fn ask(
    target: &Target,
    kept: &mut Option<SendRequest<Empty<Bytes>>>,
    path: &str,
    max: usize,
) -> Result<Answer> {
    let sender = match kept {
        Some(sender) if !sender.is_closed() => sender,
        _ => {
            let stream = TcpStream::connect(&target.authority).await.map_err(|e| {
                anyhow!(e).context(
                    Failure::new(
                        Exit::NotRunning,
                        "not_running",
                        format!("nothing answers at {}", target.authority),
                    )
                    .next("is the URL that of a running node?"),
                )
            })?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            kept.insert(sender)
        }
    };
    sender.ready().await?;
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("{}/{path}", target.base))
        .header(HOST, &target.host)
        .header(USER_AGENT, concat!("tally/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .context("the request cannot be written")?;
    let answer = sender.send_request(request).await?;
    match answer.status().as_u16() {
        200 => {}
        429 | 503 => {
            let after = answer.headers().get(RETRY_AFTER);
            let after = after.and_then(|v| v.to_str().ok()?.parse().ok());
            return Ok(Answer::Wait(after.unwrap_or(1)));
        }
        status => {
            let what = format!("{} answered {status} for /{path}", target.authority);
            return Err(Failure::new(Exit::Failed, "source", what).into());
        }
    }
    let body = Limited::new(answer.into_body(), max).collect().await;
    let body = body.map_err(|e| {
        let what = format!("/{path} is cut, or longer than {max} bytes");
        anyhow!(e).context(Failure::new(Exit::NotVerified, "too_long", what))
    })?;
    Ok(Answer::File(body.to_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use serde_json::json;

    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, authority, base) in [
            ("http://h", "h:80", ""),
            ("http://h:8080/", "h:8080", ""),
            ("http://[::1]/a/b/", "[::1]:80", "/a/b"),
            ("http://[::1]:81", "[::1]:81", ""),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (target.authority.as_str(), target.base.as_str()),
                (authority, base),
                "{url}"
            );
        }
        for url in [
            "",
            "h",
            "https://h",
            "http://",
            "http:///x",
            "http://u@h",
            "http://h/?q",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_post_comes_back_with_its_status() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut seen, mut buffer) = (Vec::new(), [0; 1024]);
            while !seen.ends_with(b"{\"a\":1}") {
                let n = stream.read(&mut buffer).unwrap();
                seen.extend_from_slice(&buffer[..n]);
            }
            stream
                .write_all(b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\n{}")
                .unwrap();
            String::from_utf8(seen).unwrap()
        });
        let target = Target::parse(&format!("http://{at}/base")).unwrap();
        let reply = post_json(
            &target,
            "/v1/scans",
            Some(("idempotency-key", "k")),
            &json!({"a": 1}),
            Duration::from_secs(5),
        )
        .unwrap();
        assert_eq!(
            (
                reply.status,
                reply.body.as_ref(),
                reply.retry_after.as_deref()
            ),
            (429, &b"{}"[..], Some("7"))
        );
        let seen = server.join().unwrap();
        assert!(
            seen.starts_with("POST /base/v1/scans HTTP/1.1\r\n"),
            "{seen}"
        );
        assert!(seen.contains("idempotency-key: k\r\n"), "{seen}");
    }

    #[test]
    fn nobody_there_is_its_own_exit_code() {
        let gone = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let target = Target::parse(&format!("http://{gone}")).unwrap();
        let error = post_json(&target, "/", None, &json!({}), Duration::from_secs(5)).unwrap_err();
        assert_eq!(
            error.downcast_ref::<Failure>().unwrap().exit,
            Exit::NotRunning
        );
    }
}
