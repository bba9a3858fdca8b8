//! Runs a party or the helper of an `overlap_n` over one stream with each of the others.

use std::collections::HashMap;

use async_trait::async_trait;
use tally_psi::Progress;
use tally_psi::overlap::{OverlapMachine, OverlapOutput, OverlapReport, OverlapStatement, Peer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    Deadlines, Error, FRAMES_IN_FLIGHT, goodbye, is_end, on_thread, peer_abort, read_frames,
    refused, write_frames,
};

/// How long the last frames of either side are waited for.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a machine needs of its node.
#[async_trait]
pub trait OverlapDesk: Send {
    /// Signs a statement of this node, after it has stored what follows from it.
    ///
    /// # Errors
    /// A reason, which ends the run and stays on this side.
    async fn seal(&mut self, statement: &OverlapStatement) -> Result<Vec<u8>, String>;

    /// Accepts a peer's signature of a statement.
    ///
    /// # Errors
    /// A reason, which ends the run.
    async fn check_seal(
        &mut self,
        from: Peer,
        statement: &OverlapStatement,
        seal: &[u8],
    ) -> Result<(), String>;

    /// Helper only: returns once the release of these lists (padded counts and digests, in the order of the parties) is committed to
    /// the ledger.
    ///
    /// # Errors
    /// A reason, which ends the run.
    async fn release(&mut self, lists: &[(u64, [u8; 32])]) -> Result<(), String>;

    /// Hears how far the run is.
    fn progress(&mut self, progress: Progress);
}

/// What comes of a peer's stream; `None` is its end.
type Event = (Peer, Option<Result<Vec<u8>, Error>>);

/// Runs `machine` to its end over a stream with each of its peers, and closes them. All peers are told of a failure on this side by
/// an abort with a code and a reason. A stream that ends once nothing is due from its peer is no failure.
///
/// # Errors
/// Any; this side then does not know that every party holds the count.
pub async fn run<S>(
    streams: Vec<(Peer, S)>,
    machine: Box<dyn OverlapMachine>,
    desk: &mut dyn OverlapDesk,
    deadlines: Deadlines,
    cancel: &CancellationToken,
) -> Result<OverlapReport, Error>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (events, inbox) = mpsc::channel(FRAMES_IN_FLIGHT);
    let (aborts, mut aborted) = mpsc::channel(1);
    let mut outboxes = HashMap::new();
    let mut tasks = Tasks::default();
    for (peer, stream) in streams {
        let (read, write) = tokio::io::split(stream);
        let (frames_in, from_peer) = mpsc::channel(FRAMES_IN_FLIGHT);
        let (outbox, frames_out) = mpsc::channel(FRAMES_IN_FLIGHT);
        let (abort, told) = oneshot::channel();
        tasks
            .readers
            .push(tokio::spawn(read_frames(read, frames_in, abort, deadlines)));
        tasks
            .writers
            .push(tokio::spawn(write_frames(write, frames_out, deadlines)));
        tasks
            .readers
            .push(tokio::spawn(forward(peer, from_peer, events.clone())));
        let aborts = aborts.clone();
        tasks.readers.push(tokio::spawn(async move {
            if let Ok(frame) = told.await {
                let _ = aborts.send(frame).await;
            }
        }));
        outboxes.insert(number(peer), outbox);
    }
    drop((events, aborts));
    let mut run = Run {
        machine: Some(machine),
        desk,
        inbox,
        outboxes,
    };
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::Cancelled),
        Some(frame) = aborted.recv() => Err(peer_abort(&frame)),
        done = timeout(deadlines.total, run.steps()) => done.unwrap_or(Err(Error::Deadline {
            what: "the match",
            limit: deadlines.total,
        })),
    };
    let Run {
        outboxes, inbox, ..
    } = run;
    if let Err(error) = &result
        && let Some(frame) = goodbye(error)
    {
        for outbox in outboxes.values() {
            // A peer that does not read is not worth more than this.
            let _ = timeout(FAREWELL, outbox.send(frame.clone().into())).await;
        }
    }
    drop((outboxes, inbox));
    let _ = timeout(FAREWELL, async {
        for writer in &mut tasks.writers {
            let _ = writer.await;
        }
    })
    .await;
    match result {
        // Where a peer has aborted, its reason says more than how that showed.
        Err(error) if is_end(&error) => match timeout(FAREWELL, aborted.recv()).await {
            Ok(Some(frame)) => Err(peer_abort(&frame)),
            _ => Err(error),
        },
        other => other,
    }
}

/// Ends with the run, however it ends.
#[derive(Default)]
struct Tasks {
    readers: Vec<JoinHandle<()>>,
    writers: Vec<JoinHandle<()>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in self.readers.iter().chain(&self.writers) {
            task.abort();
        }
    }
}

/// A key for maps.
const fn number(peer: Peer) -> usize {
    match peer {
        Peer::Party(i) => i,
        Peer::Helper => usize::MAX,
    }
}

async fn forward(
    peer: Peer,
    mut from: mpsc::Receiver<Result<Vec<u8>, Error>>,
    events: mpsc::Sender<Event>,
) {
    while let Some(frame) = from.recv().await {
        if events.send((peer, Some(frame))).await.is_err() {
            return;
        }
    }
    let _ = events.send((peer, None)).await;
}

struct Run<'a> {
    /// Absent while a thread works on it.
    machine: Option<Box<dyn OverlapMachine>>,
    desk: &'a mut dyn OverlapDesk,
    inbox: mpsc::Receiver<Event>,
    /// Frames may hold a share of the key, so they are wiped.
    outboxes: HashMap<usize, mpsc::Sender<Zeroizing<Vec<u8>>>>,
}

impl Run<'_> {
    async fn on_thread<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut (dyn OverlapMachine + 'static)) -> Result<T, tally_psi::Error>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        on_thread(&mut self.machine, work).await
    }

    fn is_due(&self, peer: Peer) -> bool {
        self.machine.as_ref().is_none_or(|m| m.is_due(peer))
    }

    async fn steps(&mut self) -> Result<OverlapReport, Error> {
        loop {
            match self.on_thread(OverlapMachine::poll).await? {
                OverlapOutput::Send { to, frame } => {
                    let sent = match self.outboxes.get(&number(to)) {
                        Some(outbox) => outbox.send(frame).await.is_ok(),
                        None => return Err(Error::Internal("a peer without a stream")),
                    };
                    if !sent && self.is_due(to) {
                        return Err(self.broken(to).await);
                    }
                }
                OverlapOutput::Progress(progress) => self.desk.progress(progress),
                OverlapOutput::NeedFrame => self.frame().await?,
                OverlapOutput::NeedSeal(statement) => {
                    let seal = self.desk.seal(&statement).await;
                    let seal = seal.map_err(refused("a seal"))?;
                    self.on_thread(|m| m.seal(seal)).await?;
                }
                OverlapOutput::CheckSeal {
                    from,
                    statement,
                    seal,
                } => {
                    let checked = self.desk.check_seal(from, &statement, &seal).await;
                    checked.map_err(refused("a peer's seal"))?;
                    self.on_thread(OverlapMachine::accept_seal).await?;
                }
                OverlapOutput::NeedRelease(lists) => {
                    let released = self.desk.release(&lists).await;
                    released.map_err(refused("the release"))?;
                    self.on_thread(OverlapMachine::release).await?;
                }
                OverlapOutput::Done(report) => return Ok(*report),
            }
        }
    }

    /// Waits for the next frame, over streams that end when nothing is due from them.
    async fn frame(&mut self) -> Result<(), Error> {
        loop {
            match self.inbox.recv().await {
                Some((peer, Some(Ok(frame)))) => {
                    let frame = Zeroizing::new(frame);
                    return self.on_thread(move |m| m.input(peer, &frame)).await;
                }
                Some((peer, _)) if !self.is_due(peer) => {}
                Some((_, Some(Err(error)))) => return Err(error),
                Some((_, None)) | None => {
                    let machine = self.machine.as_ref();
                    return Err(
                        machine.map_or(Error::Internal("no machine"), |m| m.input_end().into())
                    );
                }
            }
        }
    }

    /// Why a peer takes no more frames, if it left words.
    async fn broken(&mut self, to: Peer) -> Error {
        let wait = async {
            while let Some((peer, event)) = self.inbox.recv().await {
                match event {
                    Some(Err(error)) if peer == to => return Some(error),
                    None if peer == to => return None,
                    _ => {}
                }
            }
            None
        };
        let late = timeout(FAREWELL, wait).await;
        late.ok().flatten().unwrap_or_else(|| {
            Error::Io(std::io::Error::new(
                std::io::ErrorKind::BrokenPipe,
                "a peer takes no more frames",
            ))
        })
    }
}
