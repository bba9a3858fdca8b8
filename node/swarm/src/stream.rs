//! A stream to one peer, which ends when the peer leaves the list.

use std::fmt;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Sleep, sleep};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::config::PeerKey;
use crate::shared::Link;

/// One direction's watch over a stream: was the peer removed, and does anything move.
struct Watch {
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    fn new(link: &Link) -> Self {
        Self {
            cut: Box::pin(link.removed.clone().cancelled_owned()),
            timer: None,
        }
    }

    /// Fails if the peer has been removed.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer left the list",
            )),
            Poll::Pending => Ok(()),
        }
    }

    /// Passes `progress` on; one that stays pending for `idle` fails.
    fn bound<T>(
        &mut self,
        cx: &mut Context<'_>,
        idle: Option<Duration>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let (Poll::Pending, Some(idle)) = (&progress, idle) else {
            self.timer = None;
            return progress;
        };
        ready!(
            self.timer
                .get_or_insert_with(|| Box::pin(sleep(idle)))
                .as_mut()
                .poll(cx)
        );
        self.timer = None;
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no progress for too long",
        )))
    }
}

/// A stream to one peer: authenticated, encrypted, with flow control. Reads and writes fail with
/// [`io::ErrorKind::ConnectionAborted`] once the peer leaves the list, and with [`io::ErrorKind::TimedOut`] when they make
/// no progress for the idle timeout.
pub struct PeerStream {
    inner: Compat<libp2p::Stream>,
    link: Arc<Link>,
    idle: Option<Duration>,
    reading: Watch,
    writing: Watch,
    _permit: OwnedSemaphorePermit,
}

impl PeerStream {
    pub(crate) fn new(
        stream: libp2p::Stream,
        link: Arc<Link>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            inner: stream.compat(),
            idle: None,
            reading: Watch::new(&link),
            writing: Watch::new(&link),
            link,
            _permit: permit,
        }
    }

    /// The transport key of the peer at the other end.
    #[must_use]
    pub fn peer(&self) -> PeerKey {
        self.link.key
    }

    /// Sets how long a pending read or write may make no progress; `None` waits for ever. Streams start with
    /// [`crate::Limits::stream_idle_timeout`].
    pub fn set_idle_timeout(&mut self, idle: Option<Duration>) {
        self.idle = idle;
    }
}

impl fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStream")
            .field("peer", &self.link.label())
            .finish_non_exhaustive()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.reading.check(cx)?;
        let progress = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.reading.bound(cx, this.idle, progress)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.writing.check(cx)?;
        let progress = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.writing.bound(cx, this.idle, progress)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.writing.check(cx)?;
        let progress = Pin::new(&mut this.inner).poll_flush(cx);
        this.writing.bound(cx, this.idle, progress)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.writing.check(cx)?;
        let progress = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.writing.bound(cx, this.idle, progress)
    }
}

/// Streams that peers open for one protocol. Dropping it ends the protocol.
pub struct StreamReceiver(pub(crate) mpsc::Receiver<PeerStream>, pub(crate) Duration);

impl StreamReceiver {
    /// The next stream and its peer's key; `None` when the host has been stopped.
    pub async fn recv(&mut self) -> Option<(PeerKey, PeerStream)> {
        let mut stream = self.0.recv().await?;
        stream.set_idle_timeout(Some(self.1));
        Some((stream.peer(), stream))
    }
}
