//! Lists in buckets that run, and their buckets on streams of their own: those that this member's workers match, and those that the
//! initiator's ask for.
//!
//! A list runs on the stream of its match, which stays open for as long: it carries the plans, whatever buckets nobody else has matched,
//! and the closing handshake. Where the initiator has workers, it first lets them match buckets, each over a stream that begins with
//! Bucket and Resumed; the responder lets a worker of its own answer, if one is there, or answers itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand_core::{OsRng, RngCore as _};
use tally_psi::buckets::{Buckets, Plan};
use tally_psi::messages::{self, Scope};
use tally_psi::{IdType, Machine, Params, Phase, Profile, Progress, Seeds};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::buckets::{DeskStore, SharedPast};
use super::desk::Inner;
use super::engine::{Agreed, Host};
use super::error::MatchError;
use super::messages::Message;
use super::ports::MatchIo;
use super::resume::not_resumable;
use super::state::{HashText, MatchId, MatchView, Role};
use super::wire::{Wire, unexpected};
use crate::bucket_files::BucketFiles;
use crate::external_sort::SpillSorters;
use crate::psi_wire;
use crate::workers::{Job, Lease, NodeWorkers, SharedStore, WorkersError};

/// For so long a responder waits for one of its workers before it answers a bucket itself; the stream is silent meanwhile.
const CLAIM: Duration = Duration::from_secs(1);
/// How often it is looked whether something has changed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A list in buckets that runs: what the machines of all its buckets share.
pub(super) struct OpenList {
    /// Names it in the queue.
    pub(super) name: [u8; 16],
    pub(super) agreed: Agreed,
    pub(super) params: Params,
    pub(super) plan: Plan,
    pub(super) kind: (IdType, Profile),
    pub(super) files: Arc<BucketFiles>,
    pub(super) sorters: SpillSorters,
    pub(super) past: Arc<SharedPast>,
    pub(super) noise_seed: Zeroizing<[u8; 32]>,
    /// Where its pages are, if workers can read them.
    pub(super) folder: Option<String>,
    /// Held while a release is committed: of several buckets that come to the gate one asks the ledger.
    pub(super) releasing: tokio::sync::Mutex<()>,
    /// Ends all its buckets.
    pub(super) cancel: CancellationToken,
    live: Mutex<Live>,
}

/// What is under way in a list.
struct Live {
    attempts: HashMap<u32, Attempt>,
    /// Streams of the initiator that wait for a worker of the responder.
    parked: HashMap<u32, Box<dyn MatchIo>>,
    /// Whether workers may begin: at the initiator while nothing runs on the list's own stream.
    open: bool,
    /// When a worker was heard of last.
    seen: Instant,
    /// Attempts that broke.
    broke: u32,
    failed: Option<MatchError>,
    serial: u64,
}

/// An attempt at a bucket.
struct Attempt {
    serial: u64,
    /// The number of the worker's hold; 0 for the node itself.
    number: u32,
    cancel: CancellationToken,
    /// The stream to the peer, until the worker's frames are carried.
    stream: Option<Box<dyn MatchIo>>,
}

/// Ends an attempt when it is dropped.
pub(super) struct AttemptGuard<'a> {
    list: &'a OpenList,
    bucket: u32,
    serial: u64,
    pub(super) cancel: CancellationToken,
}

impl Drop for AttemptGuard<'_> {
    fn drop(&mut self) {
        self.cancel.cancel();
        let mut live = self.list.live();
        let current = live.attempts.get(&self.bucket);
        if current.is_some_and(|a| a.serial == self.serial) {
            live.attempts.remove(&self.bucket);
        }
    }
}

impl OpenList {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        agreed: Agreed,
        params: Params,
        plan: Plan,
        kind: (IdType, Profile),
        files: BucketFiles,
        sorters: SpillSorters,
        past: SharedPast,
        noise_seed: [u8; 32],
        folder: Option<String>,
        cancel: CancellationToken,
    ) -> Self {
        let mut name = [0; 16];
        OsRng.fill_bytes(&mut name);
        let open = agreed.role == Role::Responder;
        Self {
            name,
            agreed,
            params,
            plan,
            kind,
            files: Arc::new(files),
            sorters,
            past: Arc::new(past),
            noise_seed: Zeroizing::new(noise_seed),
            folder,
            releasing: tokio::sync::Mutex::default(),
            cancel,
            live: Mutex::new(Live {
                attempts: HashMap::new(),
                parked: HashMap::new(),
                open,
                seen: Instant::now(),
                broke: 0,
                failed: None,
                serial: 0,
            }),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine for the buckets of a stream.
    pub(super) fn machine(
        &self,
        scope: Scope,
        seeds: Seeds,
    ) -> Result<Box<dyn Machine>, tally_psi::Error> {
        let store = DeskStore {
            files: self.files.clone(),
            sorters: self.sorters.clone(),
            past: self.past.clone(),
        };
        let role = self.role();
        let (params, store) = (self.params.clone(), Box::new(store));
        let machine = Buckets::new(role, params, self.plan, self.kind, scope, seeds, store)?;
        Ok(Box::new(machine))
    }

    pub(super) const fn role(&self) -> messages::Role {
        match self.agreed.role {
            Role::Initiator => messages::Role::Initiator,
            Role::Responder => messages::Role::Responder,
        }
    }

    /// What a worker has to know of a bucket; `None` where it cannot read the pages.
    fn job(
        &self,
        bucket: u32,
        workers: &NodeWorkers,
        rule: tally_psi::buckets::Rule,
    ) -> Option<Job> {
        Some(Job {
            role: self.role(),
            context: self.params.context,
            counts: self.plan.counts(),
            rule,
            kind: self.kind,
            node: workers.address.clone(),
            folder: self.folder.clone()?,
            page_key: self.files.key().clone(),
            page_bytes: self.files.page_bytes(),
            pages: self.files.pages_of(bucket).to_vec(),
        })
    }

    /// Ends the list: no attempt at this bucket will do better. The first reason stays.
    pub(super) fn fail(&self, error: MatchError) {
        tracing::warn!(id = %self.agreed.id, %error, "a bucket of a list failed");
        self.live().failed.get_or_insert(error);
    }

    /// Notes that an attempt broke.
    pub(super) fn note_broke(&self) {
        self.live().broke += 1;
    }

    /// How far the whole list is.
    pub(super) fn progress(&self) -> Progress {
        let (own, theirs) = (self.agreed.own.public_size(), self.agreed.their_size);
        let total = own.max(theirs);
        let done = u128::from(total) * u128::from(self.past.now().done())
            / u128::from(self.plan.buckets());
        Progress {
            phase: Phase::Receive,
            done: u64::try_from(done).unwrap_or(total),
            total,
        }
    }

    /// Begins an attempt, and ends an older one at the same bucket; `None` if there is a newer one, or none may begin now.
    fn begin(
        &self,
        bucket: u32,
        number: u32,
        stream: Option<Box<dyn MatchIo>>,
    ) -> Option<AttemptGuard<'_>> {
        let mut live = self.live();
        let live_one = live.attempts.get(&bucket);
        if !live.open || live_one.is_some_and(|a| a.number > number) {
            return None;
        }
        live.seen = Instant::now();
        live.serial += 1;
        let (serial, cancel) = (live.serial, self.cancel.child_token());
        let attempt = Attempt {
            serial,
            number,
            cancel: cancel.clone(),
            stream,
        };
        if let Some(older) = live.attempts.insert(bucket, attempt) {
            older.cancel.cancel();
        }
        Some(AttemptGuard {
            list: self,
            bucket,
            serial,
            cancel,
        })
    }

    /// The stream of a worker's attempt, once, and what ends it.
    pub(super) fn take_stream(
        &self,
        lease: &Lease,
    ) -> Option<(Box<dyn MatchIo>, CancellationToken)> {
        let mut live = self.live();
        let attempt = live.attempts.get_mut(&lease.bucket)?;
        if attempt.number != lease.attempt {
            return None;
        }
        Some((attempt.stream.take()?, attempt.cancel.clone()))
    }
}

/// Takes a list off those that run, and ends what is under way in it.
pub(super) struct ListGuard<'a> {
    desk: &'a Inner,
    id: MatchId,
}

impl Drop for ListGuard<'_> {
    fn drop(&mut self) {
        let Some(list) = self.desk.lists().remove(&self.id) else {
            return;
        };
        list.cancel.cancel();
        // A thread that still works on a frame notes nothing more: the list may go on in another run.
        list.past.close();
        let workers = self.desk.workers.get().cloned();
        // A runtime that ends has nobody to do it.
        let runtime = Handle::try_current();
        if let (Some(workers), Some(folder), Ok(runtime)) = (workers, &list.folder, runtime) {
            let folder = workers.store.folder(folder);
            runtime.spawn(async move {
                forget(&workers, &list.name, &folder).await;
            });
        }
    }
}

/// Removes what others were told of a list.
async fn forget(workers: &NodeWorkers, name: &[u8; 16], folder: &SharedStore) {
    let removed = workers.queue.remove(name, None).await;
    if let Err(error) = removed.and(folder.clear().await) {
        tracing::warn!(%error, "a list's buckets are still in the queue or the shared store");
    }
}

/// A worker's request that is turned down.
pub(super) struct Declined {
    pub(super) reason: String,
    /// Whether nobody has to try again.
    pub(super) over: bool,
}

fn over(reason: &str) -> Declined {
    Declined {
        reason: reason.into(),
        over: true,
    }
}

#[allow(clippy::needless_pass_by_value)]
fn later(reason: impl ToString) -> Declined {
    Declined {
        reason: reason.to_string(),
        over: false,
    }
}

impl Inner {
    pub(super) fn lists(&self) -> MutexGuard<'_, HashMap<MatchId, Arc<OpenList>>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a list among those that run.
    pub(super) fn open_list(&self, list: &Arc<OpenList>) -> ListGuard<'_> {
        let id = list.agreed.id;
        self.lists().insert(id, list.clone());
        ListGuard { desk: self, id }
    }

    /// The list of a name that workers know.
    pub(super) fn list_named(&self, name: &[u8; 16]) -> Option<Arc<OpenList>> {
        self.lists().values().find(|l| l.name == *name).cloned()
    }

    /// Seeds for an attempt, kept like those of the run.
    fn fresh_seeds(&self, list: &OpenList) -> Result<Seeds, MatchError> {
        let seeds = Seeds::new(&mut OsRng, *list.noise_seed);
        let session = HashText::of(**seeds.session());
        self.store
            .update(&list.agreed.id, |f| f.earlier_seeds.push(session))?;
        Ok(seeds)
    }

    /// Puts buckets into the queue.
    async fn enqueue(
        &self,
        list: &OpenList,
        workers: &NodeWorkers,
        buckets: impl Iterator<Item = u32>,
    ) -> Result<(), WorkersError> {
        let rule = self.options.bucket_rule;
        let jobs: Vec<_> = buckets
            .filter_map(|b| Some((b, list.job(b, workers, rule)?.to_bytes())))
            .collect();
        let jobs: Vec<_> = jobs.iter().map(|(b, job)| (*b, job.as_slice())).collect();
        workers.queue.put(&list.name, &jobs).await
    }

    /// Initiator: lets workers match the buckets that are left, for as long as there are workers. What they leave is done on the list's
    /// own stream.
    pub(super) async fn distribute(&self, list: &OpenList) -> Result<(), MatchError> {
        let Some(workers) = self.workers.get() else {
            return Ok(());
        };
        let past = list.past.now();
        let left: Vec<u32> = (0..list.plan.buckets())
            .filter(|b| !past.is_finished(*b))
            .collect();
        let most = 16 + 3 * list.plan.buckets();
        if let Err(error) = self.enqueue(list, workers, left.into_iter()).await {
            tracing::warn!(id = %list.agreed.id, %error, "no bucket can be given to workers");
            return Ok(());
        }
        {
            let mut live = list.live();
            (live.open, live.seen) = (true, Instant::now());
        }
        loop {
            if list.past.now().done() == list.plan.buckets() {
                break;
            }
            {
                let mut live = list.live();
                if let Some(failed) = live.failed.take() {
                    return Err(failed);
                }
                let alone = live.attempts.is_empty() && live.seen.elapsed() > workers.patience;
                if alone || live.broke > most {
                    let broke = live.broke;
                    tracing::warn!(id = %list.agreed.id, broke, "no worker goes on: this node does");
                    break;
                }
            }
            sleep(LOOK_EVERY).await;
        }
        let removed = workers.queue.remove(&list.name, None).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "buckets are still in the queue");
        }
        // What is under way ends; a bucket that finishes this moment is finished.
        {
            let mut live = list.live();
            live.open = false;
            live.attempts.values().for_each(|a| a.cancel.cancel());
        }
        while !list.live().attempts.is_empty() {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Begins a worker's attempt: at the initiator over a new stream, at the responder over one that waits.
    pub(super) async fn begin<'a>(
        &self,
        list: &'a OpenList,
        lease: &Lease,
    ) -> Result<(AttemptGuard<'a>, Seeds), Declined> {
        let bucket = lease.bucket;
        if bucket >= list.plan.buckets() {
            return Err(over("there is no such bucket"));
        }
        let stream = match list.agreed.role {
            Role::Initiator if list.past.now().is_finished(bucket) => {
                return Err(over("the bucket is finished"));
            }
            Role::Initiator => {
                list.live().seen = Instant::now();
                tokio::select! {
                    () = list.cancel.cancelled() => return Err(over("the list is over")),
                    stream = self.ask_bucket(list, bucket) => stream?,
                }
            }
            Role::Responder => {
                let parked = list.live().parked.remove(&bucket);
                parked.ok_or_else(|| over("nobody asks for the bucket now"))?
            }
        };
        let begun = list.begin(bucket, lease.attempt, Some(stream));
        let attempt = begun.ok_or_else(|| later("another worker has the bucket"))?;
        let seeds = self.fresh_seeds(list).map_err(later)?;
        Ok((attempt, seeds))
    }

    /// Initiator: a stream for a bucket.
    async fn ask_bucket(&self, list: &OpenList, bucket: u32) -> Result<Box<dyn MatchIo>, Declined> {
        let id = list.agreed.id;
        let nonce = self.store.get(&id).ok_or_else(|| over("no such match"))?;
        let nonce = nonce.nonce.0;
        let opened = self.peers.open_stream(&list.agreed.peer.member).await;
        let (stream, peer) = opened.map_err(later)?;
        if peer != list.agreed.peer {
            return Err(later("another node of the peer answers"));
        }
        let mut wire = self.wire(stream, peer, nonce, false);
        let asked = async {
            wire.send(&Message::Bucket { nonce, bucket }).await?;
            match wire.receive("resumed").await? {
                Message::Resumed => Ok(()),
                other => unexpected("resumed", &other),
            }
        };
        match asked.await {
            Ok(()) => Ok(wire.stream),
            Err(error) => {
                let ended = matches!(&error, MatchError::Refused { notice, .. }
                    if notice.code == super::resume::ENDED);
                let declined = Declined {
                    reason: error.to_string(),
                    over: ended,
                };
                if ended {
                    list.fail(error);
                }
                Err(declined)
            }
        }
    }

    /// Responder: answers one bucket, by a worker if one is there.
    pub(super) async fn serve_bucket(
        &self,
        nonce: [u8; 32],
        bucket: u32,
        mut wire: Wire<'_>,
    ) -> Result<MatchView, MatchError> {
        let id = MatchId::of(&nonce);
        let known = self.store.get(&id).filter(|f| {
            f.view.role == Role::Responder && f.view.peer == wire.peer.member && f.nonce.0 == nonce
        });
        let ready = match known {
            Some(file) if file.view.answer.is_none() && !file.view.stage.is_final() => {
                let list = self.lists().get(&id).cloned();
                list.filter(|l| l.agreed.peer == wire.peer && bucket < l.plan.buckets())
                    .ok_or_else(|| {
                        MatchError::decline("list_not_ready", "the list does not run yet")
                    })
            }
            _ => Err(not_resumable()),
        };
        let list = match ready {
            Ok(list) => list,
            Err(error) => {
                wire.refuse(&error).await;
                return Err(error);
            }
        };
        wire.send(&Message::Resumed).await?;
        if let Some(stream) = self.offer(&list, bucket, wire.stream).await {
            self.answer_bucket(&list, bucket, stream).await?;
        }
        self.view(&id)
    }

    /// Offers a stream to the workers; it comes back if none takes it.
    async fn offer(
        &self,
        list: &OpenList,
        bucket: u32,
        stream: Box<dyn MatchIo>,
    ) -> Option<Box<dyn MatchIo>> {
        let Some(workers) = self.workers.get().filter(|_| list.folder.is_some()) else {
            return Some(stream);
        };
        list.live().parked.insert(bucket, stream);
        let put = self.enqueue(list, workers, std::iter::once(bucket)).await;
        if put.is_ok() {
            let until = Instant::now() + CLAIM;
            while Instant::now() < until && list.live().parked.contains_key(&bucket) {
                sleep(LOOK_EVERY).await;
            }
        }
        let back = list.live().parked.remove(&bucket)?;
        let removed = workers.queue.remove(&list.name, Some(bucket)).await;
        if let Err(error) = put.and(removed) {
            tracing::warn!(bucket, %error, "a bucket could not be given to workers");
        }
        Some(back)
    }

    /// Answers a bucket on this node.
    async fn answer_bucket(
        &self,
        list: &Arc<OpenList>,
        bucket: u32,
        stream: Box<dyn MatchIo>,
    ) -> Result<(), MatchError> {
        let turn = timeout(self.options.step, self.in_process.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(MatchError::Timeout {
                waiting_for: "a bucket before it",
                after: self.options.step,
            });
        };
        let begun = list.begin(bucket, 0, None);
        let attempt =
            begun.ok_or_else(|| MatchError::decline("busy", "a worker has the bucket"))?;
        let seeds = self.fresh_seeds(list)?;
        let made = list.clone();
        let machine =
            tokio::task::spawn_blocking(move || made.machine(Scope::One(bucket), seeds)).await;
        let machine = machine.map_err(|_| MatchError::Internal {
            what: "the thread that opens a bucket died",
        })??;
        let mut host = Host::new(self, &list.agreed, Some(list));
        let deadlines = self.options.deadlines;
        let ran = psi_wire::run(stream, machine, &mut host, deadlines, &attempt.cancel).await;
        self.note_progress(&list.agreed.id, list.progress());
        match (ran, host.error) {
            (Ok(_), _) => Ok(()),
            (Err(_), Some(own)) => Err(own),
            (Err(error), None) => Err(error.into()),
        }
    }
}
