//! Frames: a big-endian `u32` length and that many bytes.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::Error;

/// Reads one frame of at most `max` bytes within `limit`. Memory grows with the bytes that arrive, not with the length
/// claimed.
///
/// # Errors
/// [`Error::TooLarge`] (nothing of the body is read), [`Error::EarlyEnd`], [`Error::Deadline`], [`Error::Io`].
pub async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    max: usize,
    limit: Duration,
) -> Result<Vec<u8>, Error> {
    timeout(limit, read("frame", reader, max, limit))
        .await
        .unwrap_or(Err(Error::Deadline {
            what: "reading a frame",
            limit,
        }))
}

/// Writes one frame and flushes it within `limit`.
///
/// # Errors
/// [`Error::TooLarge`] over 2^32-1 bytes, [`Error::Deadline`], [`Error::Io`].
pub async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    body: &[u8],
    limit: Duration,
) -> Result<(), Error> {
    timeout(limit, async {
        write("frame", writer, body, limit).await?;
        writer
            .flush()
            .await
            .map_err(|e| Error::io("frame", &e, limit))
    })
    .await
    .unwrap_or(Err(Error::Deadline {
        what: "writing a frame",
        limit,
    }))
}

/// The length of the next frame; `None` if the stream ends cleanly before it.
pub(crate) async fn read_length<R: AsyncRead + Unpin>(
    what: &'static str,
    reader: &mut R,
    limit: Duration,
) -> Result<Option<u32>, Error> {
    let mut head = [0; 4];
    let mut have = 0;
    while let Some(rest) = head.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest).await {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(Error::EarlyEnd { what }),
            Ok(n) => have += n,
            Err(e) => return Err(Error::io(what, &e, limit)),
        }
    }
    Ok(Some(u32::from_be_bytes(head)))
}

pub(crate) async fn read_body<R: AsyncRead + Unpin>(
    what: &'static str,
    reader: &mut R,
    length: u32,
    max: usize,
    limit: Duration,
) -> Result<Vec<u8>, Error> {
    let length = length as usize;
    if length > max {
        return Err(Error::TooLarge {
            what,
            found: length as u64,
            max: max as u64,
        });
    }
    let mut body = Vec::with_capacity(length.min(64 << 10));
    reader
        .take(length as u64)
        .read_to_end(&mut body)
        .await
        .map_err(|e| Error::io(what, &e, limit))?;
    if body.len() == length {
        Ok(body)
    } else {
        Err(Error::EarlyEnd { what })
    }
}

/// Reads a frame without a timer of its own; `limit` is only reported.
pub(crate) async fn read<R: AsyncRead + Unpin>(
    what: &'static str,
    reader: &mut R,
    max: usize,
    limit: Duration,
) -> Result<Vec<u8>, Error> {
    match read_length(what, reader, limit).await? {
        Some(length) => read_body(what, reader, length, max, limit).await,
        None => Err(Error::EarlyEnd { what }),
    }
}

/// Writes a frame without a timer and without flushing; `limit` is only reported.
pub(crate) async fn write<W: AsyncWrite + Unpin>(
    what: &'static str,
    writer: &mut W,
    body: &[u8],
    limit: Duration,
) -> Result<(), Error> {
    let length = u32::try_from(body.len()).map_err(|_| Error::TooLarge {
        what,
        found: body.len() as u64,
        max: u32::MAX.into(),
    })?;
    let io = |e| Error::io(what, &e, limit);
    writer.write_all(&length.to_be_bytes()).await.map_err(io)?;
    writer.write_all(body).await.map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn frames_round_trip_and_bad_ones_are_typed() {
        let mut wire = Vec::new();
        write_frame(&mut wire, b"abc", LIMIT).await.unwrap();
        assert_eq!(wire, b"\0\0\0\x03abc");
        assert_eq!(
            read_frame(&mut wire.as_slice(), 3, LIMIT).await.unwrap(),
            b"abc"
        );
        assert_eq!(
            read_frame(&mut wire.as_slice(), 2, LIMIT).await,
            Err(Error::TooLarge {
                what: "frame",
                found: 3,
                max: 2
            })
        );
        for cut in 0..wire.len() {
            let mut short = wire.get(..cut).unwrap();
            assert_eq!(
                read_frame(&mut short, 3, LIMIT).await,
                Err(Error::EarlyEnd { what: "frame" }),
                "{cut} bytes"
            );
        }
        let huge = [0xFF; 4];
        assert!(matches!(
            read_frame(&mut huge.as_slice(), 1 << 20, LIMIT).await,
            Err(Error::TooLarge { .. })
        ));
    }

    #[tokio::test]
    async fn a_silent_peer_meets_the_deadline() {
        let (mut near, _far) = tokio::io::duplex(8);
        assert!(matches!(
            read_frame(&mut near, 10, LIMIT).await,
            Err(Error::Deadline { .. })
        ));
        assert!(matches!(
            write_frame(&mut near, &[0; 64], LIMIT).await,
            Err(Error::Deadline { .. })
        ));
    }
}
