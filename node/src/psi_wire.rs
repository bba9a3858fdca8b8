//! Runs a set intersection machine over a stream: frames with deadlines, at most a few of them in memory, the arithmetic on
//! threads of its own, and what only the node can do (sign, commit a release, tell how far it is) asked of a [`Desk`].
//!
//! The match desk and `tally bench` both run matches by [`run`]; [`overlap`] does the same for a run of several parties.

use std::time::Duration;

use async_trait::async_trait;
use tally_psi::messages::{HEADER_BYTES, Message, abort_frame, payload_len};
use tally_psi::{Machine, Output, Progress, Report, Statement};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub mod overlap;

/// Frames waiting in each direction; a frame is at most 1 MiB.
const FRAMES_IN_FLIGHT: usize = 2;
/// Type byte of an abort frame, which is looked for out of turn.
const ABORT: u8 = 7;
/// Type byte of a working frame, which machines do not see.
const WORKING: u8 = 8;

/// Why a run over a stream ended without a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The protocol refused, or the peer aborted ([`tally_psi::Error::PeerAborted`]).
    #[error(transparent)]
    Protocol(#[from] tally_psi::Error),
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Io(#[from] std::io::Error),
    /// Something took too long.
    #[error("{what} took longer than {} s", limit.as_secs())]
    Deadline {
        /// What.
        what: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// The desk would not sign, accept or release.
    #[error("{what} refused: {reason}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its reason.
        reason: String,
    },
    /// The caller cancelled the run.
    #[error("the match was cancelled")]
    Cancelled,
    /// A worker of this process died.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl Error {
    /// Whether the run broke from outside, so that another may do better: a stream or process that ended, or somebody too slow.
    #[must_use]
    pub const fn is_break(&self) -> bool {
        match self {
            Self::Io(_) | Self::Deadline { .. } | Self::Internal(_) => true,
            Self::Protocol(error) => is_break(error),
            Self::Refused { .. } | Self::Cancelled => false,
        }
    }
}

/// As [`tally_psi::Error::is_break`]; and where the peer found this side too slow.
pub(crate) const fn is_break(error: &tally_psi::Error) -> bool {
    match error {
        tally_psi::Error::PeerAborted { code: TOO_SLOW, .. } => true,
        error => error.is_break(),
    }
}

/// What a machine needs of its node.
#[async_trait]
pub trait Desk: Send {
    /// What is to be done before the machine's first step. The stream is open meanwhile, and the peer told that this side works.
    ///
    /// # Errors
    /// A reason, which ends the run and stays on this side.
    async fn ready(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Signs a statement of this side; empty where nothing is signed.
    ///
    /// # Errors
    /// A reason, which ends the run and stays on this side.
    async fn seal(&mut self, statement: &Statement) -> Result<Vec<u8>, String>;

    /// Accepts the peer's signature of a statement.
    ///
    /// # Errors
    /// A reason, which ends the run.
    async fn check_seal(&mut self, statement: &Statement, seal: &[u8]) -> Result<(), String>;

    /// Responder only: returns once the release is committed to the ledger. Nothing keyed has left before.
    ///
    /// # Errors
    /// A reason, which ends the run.
    async fn release(&mut self, statement: &Statement) -> Result<(), String>;

    /// Hears how far the run is, a few times a second at most.
    fn progress(&mut self, progress: Progress);
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From one frame to the next; a peer that computes for longer says so by working frames.
    pub idle: Duration,
    /// One frame, from its first byte to its last, in either direction.
    pub frame: Duration,
    /// How often this side says that it is working while it sends nothing; well under the peer's `idle`.
    pub working: Duration,
    /// The whole run.
    pub total: Duration,
}

impl Default for Deadlines {
    /// A minute, half a minute, ten seconds, six hours.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            frame: Duration::from_secs(30),
            working: Duration::from_secs(10),
            total: Duration::from_secs(6 * 3600),
        }
    }
}

/// Runs `machine` over `stream` to its end and closes the stream. The peer is told of a failure on this side by an abort with
/// a code and a reason.
///
/// A [`tally_swarm::PeerStream`]'s own idle timeout must be no shorter than `deadlines.idle`. After `cancel`, at most one frame
/// is still worked on.
///
/// # Errors
/// Any; this side then holds no result, and does not know whether the peer does unless the error is from before the end.
pub async fn run<S>(
    stream: S,
    machine: Box<dyn Machine>,
    desk: &mut dyn Desk,
    deadlines: Deadlines,
    cancel: &CancellationToken,
) -> Result<Report, Error>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let (frames_in, inbox) = mpsc::channel(FRAMES_IN_FLIGHT);
    let (outbox, frames_out) = mpsc::channel(FRAMES_IN_FLIGHT);
    let (abort, mut aborted) = oneshot::channel();
    let reader = tokio::spawn(read_frames(read, frames_in, abort, deadlines));
    let mut writer = tokio::spawn(write_frames(write, frames_out, deadlines));
    let mut run = Run {
        machine: Some(machine),
        desk,
        inbox,
        outbox,
        deadlines,
    };
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::Cancelled),
        Ok(frame) = &mut aborted => Err(peer_abort(&frame)),
        done = timeout(deadlines.total, run.steps()) => done.unwrap_or(Err(Error::Deadline {
            what: "the match",
            limit: deadlines.total,
        })),
    };
    let result = with_reason(result, &mut aborted);
    let Run {
        outbox, mut inbox, ..
    } = run;
    let last = match &result {
        Err(error) => goodbye(error),
        Ok(_) => None,
    };
    if let Some(frame) = last {
        // A peer that does not read is not worth more than this.
        let _ = timeout(Duration::from_secs(2), outbox.send(frame)).await;
    }
    drop(outbox);
    // Both sides close their half and wait for the other's: a process that ends at once would take its last frame with it.
    let closing = async {
        let _ = (&mut writer).await;
        while let Some(Ok(_)) = inbox.recv().await {}
    };
    let _ = timeout(Duration::from_secs(2), closing).await;
    writer.abort();
    reader.abort();
    with_reason(result, &mut aborted)
}

/// Whether a run ended as one does whose peer has aborted: the stream broke, or came to its end.
const fn is_end(error: &Error) -> bool {
    matches!(
        error,
        Error::Io(_) | Error::Internal(_) | Error::Protocol(tally_psi::Error::EarlyEnd { .. })
    )
}

/// Where the peer has aborted, its reason says more than how that showed.
fn with_reason<T>(
    result: Result<T, Error>,
    aborted: &mut oneshot::Receiver<Vec<u8>>,
) -> Result<T, Error> {
    match result {
        Err(error) if is_end(&error) => {
            Err(aborted.try_recv().map_or(error, |frame| peer_abort(&frame)))
        }
        other => other,
    }
}

struct Run<'a> {
    /// Absent while a thread works on it.
    machine: Option<Box<dyn Machine>>,
    desk: &'a mut dyn Desk,
    inbox: mpsc::Receiver<Result<Vec<u8>, Error>>,
    outbox: mpsc::Sender<Vec<u8>>,
    deadlines: Deadlines,
}

impl Run<'_> {
    async fn steps(&mut self) -> Result<Report, Error> {
        let ready = self.desk.ready().await;
        ready.map_err(refused("what comes before the run"))?;
        loop {
            match self.on_thread(Machine::poll).await? {
                Output::Send(frame) => {
                    if self.outbox.send(frame).await.is_err() {
                        return Err(self.broken().await);
                    }
                }
                Output::Progress(progress) => self.desk.progress(progress),
                Output::NeedFrame => match self.inbox.recv().await {
                    Some(frame) => {
                        let frame = frame?;
                        self.on_thread(move |m| m.input(&frame)).await?;
                    }
                    None => {
                        let machine = self.machine.as_ref();
                        return Err(
                            machine.map_or(Error::Internal("no machine"), |m| m.input_end().into())
                        );
                    }
                },
                Output::NeedSeal(statement) => {
                    let seal = self.desk.seal(&statement).await;
                    let seal = seal.map_err(refused("a seal"))?;
                    self.on_thread(|m| m.seal(seal)).await?;
                }
                Output::CheckSeal { statement, seal } => {
                    let checked = self.desk.check_seal(&statement, &seal).await;
                    checked.map_err(refused("the peer's seal"))?;
                    self.on_thread(Machine::accept_seal).await?;
                }
                Output::NeedRelease(statement) => {
                    let released = self.desk.release(&statement).await;
                    released.map_err(refused("the release"))?;
                    self.on_thread(Machine::release).await?;
                }
                Output::Done(report) => return Ok(*report),
            }
        }
    }

    async fn on_thread<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut (dyn Machine + 'static)) -> Result<T, tally_psi::Error> + Send + 'static,
    ) -> Result<T, Error> {
        on_thread(&mut self.machine, work).await
    }

    /// Why the writer is gone: what the reader says, else that the stream broke.
    async fn broken(&mut self) -> Error {
        let wait = async {
            while let Some(frame) = self.inbox.recv().await {
                if let Err(error) = frame {
                    return Some(error);
                }
            }
            None
        };
        let late = timeout(self.deadlines.frame.min(Duration::from_secs(2)), wait).await;
        late.ok().flatten().unwrap_or_else(|| {
            Error::Io(std::io::Error::new(
                std::io::ErrorKind::BrokenPipe,
                "the peer takes no more frames",
            ))
        })
    }
}

/// Lets a thread that may block work on a machine; the arithmetic itself spreads over all cores from there.
async fn on_thread<M: ?Sized + Send + 'static, T: Send + 'static>(
    slot: &mut Option<Box<M>>,
    work: impl FnOnce(&mut M) -> Result<T, tally_psi::Error> + Send + 'static,
) -> Result<T, Error> {
    let Some(mut machine) = slot.take() else {
        return Err(Error::Internal("no machine"));
    };
    let (machine, done) = tokio::task::spawn_blocking(move || {
        let done = work(machine.as_mut());
        (machine, done)
    })
    .await
    .map_err(|_| Error::Internal("a match worker died"))?;
    *slot = Some(machine);
    Ok(done?)
}

fn refused(what: &'static str) -> impl FnOnce(String) -> Error {
    move |reason| Error::Refused { what, reason }
}

/// Abort codes of hosts; machines leave them out ([`tally_psi::Error::code`]).
const REFUSED: u16 = 10;
pub(crate) const CANCELLED: u16 = 11;
const TOO_SLOW: u16 = 12;

/// The abort frame for a failure of this side; `None` where the peer knows or cannot be told.
fn goodbye(error: &Error) -> Option<Vec<u8>> {
    let (code, reason) = match error {
        Error::Protocol(tally_psi::Error::PeerAborted { .. }) | Error::Io(_) => return None,
        Error::Protocol(error) => return Some(abort_frame(error)),
        // A desk's reason may name what is this side's own business.
        Error::Refused { what, .. } => (REFUSED, format!("{what} was refused")),
        Error::Cancelled => (CANCELLED, "cancelled".to_owned()),
        Error::Deadline { .. } => (TOO_SLOW, error.to_string()),
        Error::Internal(_) => (8, "internal".to_owned()),
    };
    Message::Abort { code, reason }.encode().ok()
}

fn peer_abort(frame: &[u8]) -> Error {
    match Message::decode(frame) {
        Ok(Message::Abort { code, reason }) => {
            tally_psi::Error::PeerAborted { code, reason }.into()
        }
        Ok(_) => Error::Internal("not an abort frame"),
        Err(error) => error.into(),
    }
}

/// Reads frames until the peer closes; an abort is handed over out of turn.
async fn read_frames<S: AsyncRead>(
    mut stream: ReadHalf<S>,
    frames: mpsc::Sender<Result<Vec<u8>, Error>>,
    abort: oneshot::Sender<Vec<u8>>,
    deadlines: Deadlines,
) {
    loop {
        match read_frame(&mut stream, deadlines).await {
            Ok(None) => return,
            Ok(Some(frame)) if frame.first() == Some(&WORKING) => {}
            Ok(Some(frame)) if frame.first() == Some(&ABORT) => {
                // Who does not hear it has ended.
                let _ = abort.send(frame);
                return;
            }
            Ok(Some(frame)) => {
                if frames.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = frames.send(Err(error)).await;
                return;
            }
        }
    }
}

/// One frame; `None` if the stream ended before its first byte. Memory is set aside only for a length that the type allows.
async fn read_frame<S: AsyncRead>(
    stream: &mut ReadHalf<S>,
    deadlines: Deadlines,
) -> Result<Option<Vec<u8>>, Error> {
    let mut frame = vec![0; HEADER_BYTES];
    let waiting = timeout(
        deadlines.idle,
        stream.read(frame.get_mut(..1).unwrap_or_default()),
    )
    .await;
    let got = waiting.map_err(|_| Error::Deadline {
        what: "waiting for a frame",
        limit: deadlines.idle,
    })??;
    if got == 0 {
        return Ok(None);
    }
    let reading = async {
        stream
            .read_exact(frame.get_mut(1..).unwrap_or_default())
            .await?;
        let Some((header, _)) = frame.split_first_chunk::<HEADER_BYTES>() else {
            return Err(Error::Internal("frame header"));
        };
        let len = payload_len(header)?;
        frame.resize(HEADER_BYTES + len, 0);
        if let Some(payload) = frame.get_mut(HEADER_BYTES..) {
            stream.read_exact(payload).await?;
        }
        Ok(Some(frame))
    };
    timeout(deadlines.frame, reading)
        .await
        .unwrap_or(Err(Error::Deadline {
            what: "reading a frame",
            limit: deadlines.frame,
        }))
}

/// Writes frames until the sender is dropped, with working frames in long pauses, then closes this half.
async fn write_frames<S, F>(
    mut stream: WriteHalf<S>,
    mut frames: mpsc::Receiver<F>,
    deadlines: Deadlines,
) where
    S: AsyncWrite,
    F: AsRef<[u8]> + From<Vec<u8>>,
{
    loop {
        let frame = tokio::select! {
            frame = frames.recv() => frame,
            () = sleep_until(Instant::now() + deadlines.working) => {
                // Cannot fail: a working frame has no field.
                Some(Message::Working.encode().unwrap_or_default().into())
            }
        };
        let Some(frame) = frame else {
            let _ = timeout(deadlines.frame, stream.shutdown()).await;
            return;
        };
        let writing = async {
            stream.write_all(frame.as_ref()).await?;
            stream.flush().await
        };
        // The reader learns why; here it is enough to stop, which closes the queue.
        if !matches!(timeout(deadlines.frame, writing).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
