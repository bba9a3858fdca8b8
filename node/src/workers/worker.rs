//! A worker: it takes buckets off the queue, one at a time, and matches each over a stream that the node has opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tally_psi::buckets::{BucketStore, Buckets, EachItem, Past, Plan, Step};
use tally_psi::messages::Scope;
use tally_psi::{Error, Progress, Seeds, SorterFactory, Statement};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::asks::{Answer, Ask, End, First};
use super::channel::{self, MAX_MESSAGE_BYTES, Receiver, Sender};
use super::queue::{Lease, Queue, Taken};
use super::{Job, SharedStore, WorkersError};
use crate::bucket_files::{PageReader, storage};
use crate::external_sort::SpillSorters;
use crate::psi_wire::{self, Deadlines};
use crate::sealed::StorageKey;

/// How long a worker waits before it tries again what failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long the node may take for an answer: a release waits for the ledger.
const ANSWER: Duration = Duration::from_secs(120);
/// How often a worker that sends nothing says that it works; far under the least idle timeout that a node may have.
const WORKING_EVERY: Duration = Duration::from_secs(1);
/// Frames in the pipe between the machine's driver and the connection.
const PIPE_BYTES: usize = 1 << 20;

/// What a worker is started with.
pub struct WorkerOptions {
    /// Where the buckets are.
    pub queue: Queue,
    /// Where their items are.
    pub store: SharedStore,
    /// The key that the node has too.
    pub key: StorageKey,
    /// What others see in the queue, to tell workers apart.
    pub name: String,
    /// For how long a bucket is held without a sign of life.
    pub lease: Duration,
    /// How often it looks for a bucket while it has none.
    pub look_every: Duration,
    /// A folder for elements that do not fit into memory; they are blinded and sealed, and lose their name at once.
    pub spill: PathBuf,
    /// Elements that a sorter keeps in memory, at 32 bytes each.
    pub rows_in_memory: usize,
}

/// A worker.
pub struct Worker(Arc<WorkerOptions>);

impl Worker {
    /// One that has done nothing yet.
    #[must_use]
    pub fn new(options: WorkerOptions) -> Self {
        Self(Arc::new(options))
    }

    /// Takes and matches buckets until `stop`; the one under way is then let go. Returns how many it finished. A database or node
    /// that is away is tried again.
    ///
    /// # Errors
    /// [`WorkersError::Key`]: another key will not come by itself.
    pub async fn run(&self, stop: &CancellationToken) -> Result<u64, WorkersError> {
        let mut finished = 0;
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return Ok(finished),
                next = self.0.queue.take(&self.0.name, self.0.lease) => next,
            };
            let pause = match next {
                Ok(Some(taken)) => {
                    let lease = taken.lease;
                    let (bucket, attempt) = (lease.bucket, lease.attempt);
                    tracing::info!(bucket, attempt, "took a bucket");
                    match self.work(taken, stop).await {
                        Ok(()) => {
                            finished += 1;
                            tracing::info!(bucket, "finished a bucket");
                            Duration::ZERO
                        }
                        Err(error @ WorkersError::Key { .. }) => return Err(error),
                        Err(error) => {
                            tracing::warn!(bucket, %error, "let go of a bucket");
                            self.let_go(&lease, &error).await;
                            self.0.look_every
                        }
                    }
                }
                Ok(None) => self.0.look_every,
                Err(error @ WorkersError::Key { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "no bucket can be taken");
                    AGAIN_AFTER
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(finished),
                () = sleep(pause) => {}
            }
        }
    }

    /// Lets the next worker have a bucket, or nobody if it is over. If the database is away, the lease ends by itself.
    async fn let_go(&self, lease: &Lease, error: &WorkersError) {
        let queue = &self.0.queue;
        let _ = match error {
            WorkersError::Declined { over: true, .. } => {
                queue.remove(&lease.list, Some(lease.bucket)).await
            }
            _ => queue.hold(lease, AGAIN_AFTER).await.map(drop),
        };
    }

    /// Matches a bucket, and holds it meanwhile.
    async fn work(&self, taken: Taken, stop: &CancellationToken) -> Result<(), WorkersError> {
        let options = self.0.clone();
        let (cancel, lease) = (stop.child_token(), taken.lease);
        let heartbeat = AbortOnDropHandle::new(tokio::spawn({
            let (options, cancel) = (options.clone(), cancel.clone());
            async move {
                loop {
                    sleep(options.lease / 3).await;
                    match options.queue.hold(&lease, options.lease).await {
                        Ok(true) => {}
                        // Somebody else has it, or it is over.
                        Ok(false) => return cancel.cancel(),
                        Err(error) => tracing::warn!(%error, "a lease could not be extended"),
                    }
                }
            }
        }));
        let malformed = || WorkersError::Malformed {
            what: "a job of another form",
        };
        let job = Job::from_bytes(&taken.job).map_err(|_| malformed())?;
        let plan = job.plan().map_err(|_| malformed())?;
        let matched = run_bucket(&options, lease, job, plan, &cancel).await;
        drop(heartbeat);
        matched
    }
}

async fn connect(
    options: &WorkerOptions,
    node: &str,
    first: First,
) -> Result<(Sender, Receiver), WorkersError> {
    let stream = timeout(AGAIN_AFTER * 5, TcpStream::connect(node)).await;
    let stream = stream.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    let (mut sender, receiver) = channel::open(stream, &options.key, channel::End::Worker).await?;
    sender.send(&first.to_bytes()).await?;
    Ok((sender, receiver))
}

async fn run_bucket(
    options: &WorkerOptions,
    lease: Lease,
    job: Job,
    plan: Plan,
    cancel: &CancellationToken,
) -> Result<(), WorkersError> {
    let (sender, mut receiver) = connect(options, &job.node, First::Asks(lease)).await?;
    let begun = timeout(ANSWER, receiver.receive(MAX_MESSAGE_BYTES)).await;
    let begun = begun.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    let (session, noise) = match begun.as_deref().map(|m| Answer::from_bytes(m)) {
        Some(Some(Answer::Begin(session, noise))) => (session, noise),
        Some(Some(Answer::Refused { reason, over })) => {
            return Err(WorkersError::Declined { reason, over });
        }
        // An end that does not know the key closes without a word.
        None => {
            return Err(WorkersError::Declined {
                reason: "it closed the connection: it is stopping, or has another worker key"
                    .into(),
                over: false,
            });
        }
        Some(_) => {
            return Err(WorkersError::Malformed {
                what: "another answer than whether to begin",
            });
        }
    };
    let node = Node(Arc::new(Mutex::new((sender, receiver))));
    let (frames_out, frames_in) = connect(options, &job.node, First::Frames(lease)).await?;
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let carried = channel::carry(far, frames_out, frames_in);
    let pipe = AbortOnDropHandle::new(tokio::spawn(carried));
    let pages = options.store.folder(&job.folder).pages(Handle::current());
    let params = job.params();
    let store = Remote {
        node: node.clone(),
        handle: Handle::current(),
        reader: PageReader::new(pages, &job.page_key, job.page_bytes),
        pages: job.pages,
        sorters: SpillSorters::new(options.spill.clone(), options.rows_in_memory),
    };
    let (role, kind) = (job.role, job.kind);
    let seeds = Seeds::from_parts(*session, *noise);
    // It asks for the past, so not on a thread of the runtime.
    let made = tokio::task::spawn_blocking(move || {
        let scope = Scope::One(lease.bucket);
        Buckets::new(role, params, plan, kind, scope, seeds, Box::new(store))
    })
    .await;
    let run = async {
        let machine = made.map_err(|_| psi_wire::Error::Internal("a match worker died"))??;
        let mut desk = WorkerDesk {
            node: node.clone(),
            told: Instant::now(),
        };
        let deadlines = Deadlines {
            working: WORKING_EVERY,
            total: Duration::from_secs(12 * 3600),
            ..Deadlines::default()
        };
        psi_wire::run(near, Box::new(machine), &mut desk, deadlines, cancel).await
    };
    let done = run.await;
    // Its last frames may still be on their way.
    let _ = timeout(AGAIN_AFTER * 2, pipe).await;
    let (end, why) = match &done {
        Ok(_) => (End::Finished, String::new()),
        Err(error) if is_break(error) => (End::Broke, error.to_string()),
        Err(error) => (End::Hopeless, error.to_string()),
    };
    // If the node is gone it knows.
    let _ = node.ask(Ask::End(end, why.clone())).await;
    match end {
        End::Finished => Ok(()),
        _ => Err(WorkersError::Declined {
            reason: why,
            over: false,
        }),
    }
}

/// Whether another attempt may do better. Beside what breaks a match: a newer attempt, and the end of this worker or the peer's.
const fn is_break(error: &psi_wire::Error) -> bool {
    match error {
        psi_wire::Error::Cancelled
        | psi_wire::Error::Protocol(
            Error::Internal { .. }
            | Error::PeerAborted {
                code: psi_wire::CANCELLED,
                ..
            },
        ) => true,
        other => other.is_break(),
    }
}

/// The node, as a worker asks it.
#[derive(Clone)]
struct Node(Arc<Mutex<(Sender, Receiver)>>);

impl Node {
    async fn ask(&self, ask: Ask) -> Result<Answer, String> {
        let mut connection = self.0.lock().await;
        let (sender, receiver) = &mut *connection;
        let asked = async {
            sender.send(&ask.to_bytes()).await?;
            receiver.receive(MAX_MESSAGE_BYTES).await
        };
        let answer = timeout(ANSWER, asked)
            .await
            .map_err(|_| "the node does not answer".to_owned())?
            .map_err(|e| e.to_string())?
            .ok_or("the node has closed the connection")?;
        match Answer::from_bytes(&answer) {
            Some(Answer::Refused { reason, .. }) => Err(reason),
            Some(answer) => Ok(answer),
            None => Err("the node's answer is none".into()),
        }
    }

    async fn done(&self, ask: Ask) -> Result<(), String> {
        match self.ask(ask).await? {
            Answer::Done => Ok(()),
            _ => Err("the node answered something else".into()),
        }
    }
}

/// How often the node hears of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

struct WorkerDesk {
    node: Node,
    told: Instant,
}

#[async_trait]
impl psi_wire::Desk for WorkerDesk {
    async fn seal(&mut self, statement: &Statement) -> Result<Vec<u8>, String> {
        match self.node.ask(Ask::Seal(statement.clone())).await? {
            Answer::Seal(seal) => Ok(seal),
            _ => Err("the node answered something else".into()),
        }
    }

    async fn check_seal(&mut self, statement: &Statement, seal: &[u8]) -> Result<(), String> {
        let ask = Ask::CheckSeal(statement.clone(), seal.to_vec());
        self.node.done(ask).await
    }

    async fn release(&mut self, statement: &Statement) -> Result<(), String> {
        self.node.done(Ask::Release(statement.clone())).await
    }

    fn progress(&mut self, progress: Progress) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        let node = self.node.clone();
        // Nobody waits for it.
        tokio::spawn(async move { node.done(Ask::Progress(progress)).await });
    }
}

/// Items from the shared store, and the past as the node keeps it.
struct Remote {
    node: Node,
    handle: Handle,
    reader: PageReader,
    pages: Vec<u32>,
    sorters: SpillSorters,
}

impl BucketStore for Remote {
    fn load(&mut self, _: u32, each: EachItem<'_>) -> Result<(), Error> {
        self.reader.load(&self.pages, each)
    }

    fn past(&mut self) -> Result<Past, Error> {
        match self.handle.block_on(self.node.ask(Ask::Past)) {
            Ok(Answer::Past(past)) => Ok(past),
            Ok(_) => Err(storage("the node answered something else")),
            Err(reason) => Err(storage(reason)),
        }
    }

    fn note(&mut self, step: &Step) -> Result<(), Error> {
        let noted = self.node.done(Ask::Note(step.clone()));
        self.handle.block_on(noted).map_err(storage)
    }

    fn sorters(&mut self) -> Box<dyn SorterFactory> {
        Box::new(self.sorters.clone())
    }
}
