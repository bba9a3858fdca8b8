//! Both ends of the request protocol over any stream, for the fuzz targets alone: no part of the interface.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::{Error, Refusal, ServeLimits, request};

/// Sends a request and reads what the other end answers.
///
/// # Errors
/// As [`crate::Host::request`].
pub async fn ask<S: AsyncRead + AsyncWrite>(
    stream: S,
    body: &[u8],
    max_response_bytes: usize,
    limit: Duration,
) -> Result<Vec<u8>, Error> {
    request::ask(stream, "peer", body, max_response_bytes, limit).await
}

/// Reads a request and answers with its body, or refuses an empty one. Returns how it went, as the metrics name it.
pub async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    limits: &ServeLimits,
) -> &'static str {
    let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().ok();
    let echo = async |_, body: Vec<u8>| {
        if body.is_empty() {
            Err(Refusal::new("empty"))
        } else {
            Ok(body)
        }
    };
    request::answer(stream, [0; 32], slot, limits, &echo).await
}
