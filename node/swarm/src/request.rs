//! Requests and answers: one stream each. The request is one frame; the answer is a status byte and one frame.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::{PeerKey, ServeLimits};
use crate::error::{Error, Refusal};
use crate::frame;
use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::stream::StreamReceiver;

/// The answer follows.
const OK: u8 = 0;
/// The request is over the limit, which follows as a `u32`.
const TOO_LARGE: u8 = 1;
/// Too many requests of this peer are being answered.
const BUSY: u8 = 2;
/// The handler refused; its reason follows.
const REFUSED: u8 = 3;
/// The answer is over the limit.
const ANSWER_TOO_LARGE: u8 = 4;
/// The handler took too long.
const TOO_SLOW: u8 = 5;

const MAX_REASON_BYTES: usize = 1_024;

/// Sends `body` over a fresh stream and reads the answer; the caller sets the deadline around it.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite>(
    stream: S,
    peer: &str,
    body: &[u8],
    max_response_bytes: usize,
    limit: Duration,
) -> Result<Vec<u8>, Error> {
    let (mut reader, mut writer) = split(stream);
    let write = async {
        frame::write("request", &mut writer, body, limit).await?;
        writer
            .shutdown()
            .await
            .map_err(|e| Error::io("request", &e, limit))
    };
    let read = async {
        let io = |e| Error::io("answer", &e, limit);
        let status = reader.read_u8().await.map_err(io)?;
        let max = if status == OK {
            max_response_bytes
        } else {
            MAX_REASON_BYTES
        };
        let answer = frame::read("answer", &mut reader, max, limit).await?;
        Ok((status, answer))
    };
    tokio::pin!(write, read);
    // A peer that refuses says so before it has read everything: the answer counts even if writing fails.
    let (status, answer) = tokio::select! {
        biased;
        answer = &mut read => answer?,
        written = &mut write => match (written, read.await) {
            (_, Ok(answer)) => answer,
            (Err(error), Err(_)) | (Ok(()), Err(error)) => return Err(error),
        },
    };
    let peer = peer.to_owned();
    match status {
        OK => Ok(answer),
        TOO_LARGE => Err(Error::RequestTooLarge {
            peer,
            found: body.len() as u64,
            max: answer
                .try_into()
                .map_or(0, |max: [u8; 4]| u32::from_be_bytes(max).into()),
        }),
        BUSY => Err(Error::Busy {
            peer,
            what: "too many requests at a time",
        }),
        REFUSED => Err(Error::Refused {
            peer,
            reason: plain(&answer),
        }),
        ANSWER_TOO_LARGE => Err(Error::PeerFailed {
            peer,
            what: "its answer is over its own limit",
        }),
        TOO_SLOW => Err(Error::PeerFailed {
            peer,
            what: "its handler took too long",
        }),
        found => Err(Error::Status { found }),
    }
}

/// A peer's words without control characters.
fn plain(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Answers the requests of one protocol until the host stops.
pub(crate) fn serve<F, Fut>(
    shared: Arc<Shared>,
    protocol: Arc<str>,
    mut incoming: StreamReceiver,
    limits: ServeLimits,
    handler: F,
) where
    F: Fn(PeerKey, Vec<u8>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<u8>, Refusal>> + Send + 'static,
{
    let handler = Arc::new(handler);
    tokio::spawn(async move {
        let mut slots: HashMap<PeerKey, Arc<Semaphore>> = HashMap::new();
        loop {
            let (peer, mut stream) = tokio::select! {
                () = shared.stop.cancelled() => return,
                next = incoming.recv() => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            // The deadline below covers every read and write.
            stream.set_idle_timeout(None);
            // Only peers with requests under way keep a place.
            slots.retain(|_, s| s.available_permits() < limits.max_concurrent_per_peer);
            let slot = slots
                .entry(peer)
                .or_insert_with(|| Arc::new(Semaphore::new(limits.max_concurrent_per_peer)));
            let slot = slot.clone().try_acquire_owned().ok();
            let (shared, protocol) = (shared.clone(), protocol.clone());
            let (handler, limits) = (handler.clone(), limits.clone());
            tokio::spawn(async move {
                let removed = shared.link_by_key(&peer).map(|l| l.removed.clone());
                let work = answer(&mut stream, peer, slot, &limits, &*handler);
                let outcome = match removed {
                    Ok(removed) => tokio::select! {
                        () = removed.cancelled() => "cut",
                        outcome = timeout(limits.deadline, work) => outcome.unwrap_or("deadline"),
                    },
                    Err(_) => "cut",
                };
                let served = &shared.metrics.requests_served;
                Metrics::count_outcome(served, &protocol, outcome);
            });
        }
    });
}

pub(crate) async fn answer<S, F, Fut>(
    stream: &mut S,
    peer: PeerKey,
    slot: Option<OwnedSemaphorePermit>,
    limits: &ServeLimits,
    handler: &F,
) -> &'static str
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(PeerKey, Vec<u8>) -> Fut,
    Fut: Future<Output = Result<Vec<u8>, Refusal>>,
{
    let Some(_slot) = slot else {
        return reply(stream, BUSY, &[], limits, "busy").await;
    };
    let body = match frame::read("request", stream, limits.max_request_bytes, limits.deadline).await
    {
        Ok(body) => body,
        Err(Error::TooLarge { max, .. }) => {
            let max = u32::try_from(max).unwrap_or(u32::MAX).to_be_bytes();
            return reply(stream, TOO_LARGE, &max, limits, "request_too_large").await;
        }
        Err(error) => {
            tracing::debug!(%error, "request not read");
            return "not_read";
        }
    };
    // What is left for the handler leaves a little to tell the peer about it.
    let allowed = limits.deadline.mul_f64(0.9);
    match timeout(allowed, handler(peer, body)).await {
        Ok(Ok(body)) if body.len() > limits.max_response_bytes => {
            tracing::warn!(
                bytes = body.len(),
                max = limits.max_response_bytes,
                "answer over the limit"
            );
            reply(stream, ANSWER_TOO_LARGE, &[], limits, "answer_too_large").await
        }
        Ok(Ok(body)) => reply(stream, OK, &body, limits, "ok").await,
        Ok(Err(refusal)) => {
            let end = refusal.0.floor_char_boundary(MAX_REASON_BYTES);
            let reason = refusal.0.get(..end).unwrap_or_default();
            reply(stream, REFUSED, reason.as_bytes(), limits, "refused").await
        }
        Err(_) => reply(stream, TOO_SLOW, &[], limits, "too_slow").await,
    }
}

async fn reply<S: AsyncWrite + Unpin>(
    stream: &mut S,
    status: u8,
    body: &[u8],
    limits: &ServeLimits,
    outcome: &'static str,
) -> &'static str {
    let sent = async {
        stream
            .write_u8(status)
            .await
            .map_err(|e| Error::io("answer", &e, limits.deadline))?;
        frame::write("answer", stream, body, limits.deadline).await?;
        stream
            .shutdown()
            .await
            .map_err(|e| Error::io("answer", &e, limits.deadline))
    };
    match sent.await {
        Ok(()) => outcome,
        Err(error) => {
            tracing::debug!(%error, "answer not written");
            "not_written"
        }
    }
}
