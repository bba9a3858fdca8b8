//! From a signed record to a committed one: the pool, its gossip, the blocks made of it, and the checkpoints after them.

mod application;
mod blocks;
#[cfg(test)]
mod catch_up_tests;
mod cosign;
pub(crate) mod fuzzing;
mod gossip;
#[cfg(test)]
mod many_tests;
mod pool;
mod submit;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tally_contracts::Record;
use tally_contracts::apply::{Context, Verified, apply, verify_records};
use tally_contracts::ids::{KeyId, MemberId, RecordId};
use tally_contracts::refusal::{ApplyError, Refusal, RefusalNotice};
use tally_contracts::state::{self, StateRead};
use tally_ledger::{Checkpoints, Head, Ledger, RecordPlace};
use tally_merkle::Hash;
use tokio::sync::{Notify, oneshot, watch};

use crate::room::Room;

pub use application::ChainApplication;
pub use blocks::serve_blocks;
pub use cosign::{announce_head, run_cosigning};
pub use gossip::{run_announcing, run_gossip};
pub use pool::{PoolError, PoolLimits};
pub use submit::{Lease, Submitter};
pub use witness::{MAX_WITNESSES, Witness, WitnessState, run_witnessing};

/// Tokens of verified records that are remembered, so that a record is verified once a node.
const VERIFIED_KEPT: usize = 65_536;

/// Why a record was not taken, or not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The contracts refuse it; every node would.
    #[error("refused: {0}")]
    Refused(RefusalNotice),
    /// No room now.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// This node's disk does not take writes.
    #[error("this node is read-only: {0}")]
    ReadOnly(String),
    /// It was taken but not committed in time; it may still be.
    #[error(
        "record {id} was not committed within {seconds} s; is there a quorum of validators? (`tally status` says)"
    )]
    Timeout {
        /// The record.
        id: RecordId,
        /// How long was waited.
        seconds: u64,
    },
    /// The node stops, or its store failed.
    #[error("{0}")]
    Internal(String),
}

impl From<Refusal> for SubmitError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.notice())
    }
}

impl From<ApplyError> for SubmitError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Refused(refusal) => refusal.into(),
            ApplyError::State(e) => Self::Internal(e.to_string()),
        }
    }
}

/// What became of a record.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It stands in the ledger.
    Committed(RecordPlace),
    /// The contracts refuse it.
    Refused(RefusalNotice),
}

#[derive(Default)]
struct VerifiedCache {
    tokens: HashMap<Hash, Verified>,
    order: VecDeque<Hash>,
}

impl VerifiedCache {
    fn insert(&mut self, token: Verified) {
        let leaf = *token.leaf();
        if self.tokens.insert(leaf, token).is_none() {
            self.order.push_back(leaf);
        }
        while self.order.len() > VERIFIED_KEPT {
            if let Some(old) = self.order.pop_front() {
                self.tokens.remove(&old);
            }
        }
    }
}

/// The chain on this node. Clones are handles of the same one.
#[derive(Clone)]
pub struct Chain(Arc<Inner>);

struct Inner {
    ledger: Arc<Ledger>,
    room: Room,
    member: MemberId,
    checkpoints: Mutex<Checkpoints>,
    witnessed: Mutex<witness::Witnessed>,
    witnesses: Mutex<Vec<witness::Answers>>,
    pool: Mutex<pool::Pool>,
    verified: Mutex<VerifiedCache>,
    waiting: Mutex<HashMap<RecordId, Vec<oneshot::Sender<Outcome>>>>,
    work: Notify,
    fresh: tokio::sync::mpsc::UnboundedSender<Vec<u8>>,
    head: watch::Sender<Head>,
    /// Held while a snapshot is made.
    saving: Mutex<()>,
    /// Time of the newest live proposal of each other validator's member, less the time of its arrival; in milliseconds.
    skews: Mutex<BTreeMap<MemberId, i64>>,
}

/// Every record of a call gets an answer, so this is a bug.
fn no_answer<T>() -> Result<T, SubmitError> {
    Err(SubmitError::Internal("a record without an answer".into()))
}

fn put<T>(answers: &mut [Option<T>], i: usize, answer: T) {
    if let Some(slot) = answers.get_mut(i) {
        *slot = Some(answer);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// POSIX milliseconds by this machine's clock.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| u64::try_from(d.as_millis()).ok())
        .unwrap_or_default()
}

/// The next nonce of a key by the ledger; 0 for a key that is not there.
fn next_nonce(state: &dyn StateRead, member: &MemberId, key: &KeyId) -> u64 {
    state::key_state(state, member, key)
        .ok()
        .flatten()
        .map_or(0, |k| k.next_nonce)
}

impl Chain {
    /// The chain over an open ledger. The receiver gets each record taken from this node's own users, to be handed to
    /// [`run_gossip`].
    #[must_use]
    pub fn new(
        ledger: Arc<Ledger>,
        room: Room,
        member: MemberId,
        checkpoints: Checkpoints,
        limits: PoolLimits,
    ) -> (Self, tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
        let (fresh, receiver) = tokio::sync::mpsc::unbounded_channel();
        let head = watch::Sender::new(ledger.head());
        let inner = Inner {
            ledger,
            room,
            member,
            checkpoints: Mutex::new(checkpoints),
            witnessed: Mutex::default(),
            witnesses: Mutex::default(),
            pool: Mutex::new(pool::Pool::new(limits)),
            verified: Mutex::default(),
            waiting: Mutex::default(),
            work: Notify::new(),
            fresh,
            head,
            saving: Mutex::new(()),
            skews: Mutex::default(),
        };
        (Self(Arc::new(inner)), receiver)
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.0.ledger
    }

    /// Why no record of this node's own is taken, if so: the ledger cannot be written, or the disk is nearly full.
    #[must_use]
    pub fn read_only(&self) -> Option<String> {
        self.0.ledger.read_only().or_else(|| self.0.room.lacking())
    }

    /// The own member.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.0.member
    }

    /// The newest checkpoint with a quorum of cosignatures: its size and its note.
    #[must_use]
    pub fn checkpoint(&self) -> Option<(u64, String)> {
        lock(&self.0.checkpoints)
            .best()
            .map(|(size, note)| (size, note.to_string()))
    }

    /// Size of the newest checkpoint with a quorum, and the time of its newest cosignature in POSIX seconds.
    #[must_use]
    pub fn checkpoint_time_s(&self) -> Option<(u64, u64)> {
        lock(&self.0.checkpoints).best_time_s()
    }

    /// How far the clocks of the other validators' members are ahead of this machine's, in milliseconds (negative: behind): the
    /// median over the newest block that each of them proposed since this node started. `None` before the first one.
    #[must_use]
    pub fn clock_skew_ms(&self) -> Option<i64> {
        let mut skews: Vec<i64> = lock(&self.0.skews).values().copied().collect();
        skews.sort_unstable();
        skews.get(skews.len() / 2).copied()
    }

    /// Held while a snapshot is made; nothing if one is.
    pub(crate) fn saving(&self) -> Option<MutexGuard<'_, ()>> {
        self.0.saving.try_lock().ok()
    }

    /// The signed statement of which entries this node still has (`docs/formats.md`).
    ///
    /// # Errors
    /// [`tally_ledger::Error`].
    pub fn minimum_index(&self) -> Result<String, tally_ledger::Error> {
        lock(&self.0.checkpoints).minimum_index(&self.0.ledger, now_ms() / 1000)
    }

    /// Waits until a checkpoint of at least `size` has a quorum.
    ///
    /// # Errors
    /// [`SubmitError::Internal`] after the deadline.
    pub async fn wait_checkpoint(
        &self,
        size: u64,
        deadline: Duration,
    ) -> Result<(u64, String), SubmitError> {
        let until = tokio::time::Instant::now() + deadline;
        loop {
            if let Some((have, note)) = self.checkpoint()
                && have >= size
            {
                return Ok((have, note));
            }
            if tokio::time::Instant::now() >= until {
                return Err(SubmitError::Internal(format!(
                    "no checkpoint of size {size} got a quorum of cosignatures within {} s",
                    deadline.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sees every new head.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Head> {
        self.0.head.subscribe()
    }

    /// Records and bytes waiting in the pool.
    #[must_use]
    pub fn pool_size(&self) -> (usize, usize) {
        let pool = lock(&self.0.pool);
        (pool.len(), pool.bytes())
    }

    /// Takes a record into the pool after checking all that can be checked now, and hands it to the other members.
    ///
    /// # Errors
    /// [`SubmitError`], with the reason for the submitter.
    pub fn submit(&self, bytes: &[u8]) -> Result<RecordId, SubmitError> {
        self.submit_all(&[bytes]).pop().unwrap_or_else(no_answer)
    }

    /// [`Self::submit`] of many records in order, their signatures verified in batches; the answer at `i` is for record `i`.
    /// Records of one key may follow each other in one call.
    pub fn submit_all(&self, records: &[&[u8]]) -> Vec<Result<RecordId, SubmitError>> {
        let answers = self.take(records, true);
        records
            .iter()
            .zip(answers)
            .map(|(bytes, answer)| {
                let (id, new) = answer?;
                if new {
                    let _ = self.0.fresh.send(bytes.to_vec());
                }
                Ok(id)
            })
            .collect()
    }

    /// As [`Self::submit_all`], for records of this node's users (`own`) or from a peer; says of each whether it was new.
    fn take(&self, records: &[&[u8]], own: bool) -> Vec<Result<(RecordId, bool), SubmitError>> {
        let inner = &*self.0;
        let mut answers: Vec<Option<Result<(RecordId, bool), SubmitError>>> = Vec::new();
        let mut fresh: Vec<(usize, RecordId, Record)> = Vec::new();
        // What others have signed is carried on with while the disk bears it: it comes in blocks anyway.
        let read_only = if own {
            self.read_only()
        } else {
            inner.ledger.read_only()
        };
        for (i, bytes) in records.iter().enumerate() {
            answers.push(match (self.recognise(bytes), &read_only) {
                (Err(e), _) => Some(Err(e)),
                (Ok(_), Some(reason)) => Some(Err(SubmitError::ReadOnly(reason.clone()))),
                (Ok((id, None)), None) => Some(Ok((id, false))),
                (Ok((id, Some(record))), None) => {
                    fresh.push((i, id, record));
                    None
                }
            });
        }
        let state = inner.ledger.state();
        // A key's next nonce is asked for once: it moves only with the head, and a pool that knows an older one is cleaned
        // after the next block.
        let mut nonces: HashMap<KeyId, u64> = HashMap::new();
        let mut expected = |member: &MemberId, key: &KeyId| {
            *nonces
                .entry(*key)
                .or_insert_with(|| next_nonce(state, member, key))
        };
        {
            // What there is no room for costs no signature checks.
            let pool = lock(&inner.pool);
            fresh.retain(|(i, _, record)| match pool.check(record, &mut expected) {
                Ok(()) => true,
                Err(e) => {
                    put(&mut answers, *i, Err(e.into()));
                    false
                }
            });
        }
        let to_verify: Vec<&Record> = fresh.iter().map(|(_, _, record)| record).collect();
        let tokens = match verify_records(state, &to_verify) {
            Ok(tokens) => tokens,
            Err(e) => {
                let internal = |_| Err(SubmitError::Internal(e.to_string()));
                return records.iter().map(internal).collect();
            }
        };
        let mut good = Vec::with_capacity(fresh.len());
        for ((i, id, record), token) in fresh.into_iter().zip(tokens) {
            let checked = token.map_err(SubmitError::from).and_then(|token| {
                self.check_now(&record, &token, &mut expected)
                    .map(|()| token)
            });
            match checked {
                Ok(token) => good.push((i, id, record, token)),
                Err(e) => put(&mut answers, i, Err(e)),
            }
        }
        let mut any = false;
        {
            let mut verified = lock(&inner.verified);
            let mut pool = lock(&inner.pool);
            for (i, id, record, token) in good {
                verified.insert(token);
                let added = pool.add(record, own, now_ms(), &mut expected);
                any |= matches!(added, Ok(true));
                put(
                    &mut answers,
                    i,
                    added.map(|new| (id, new)).map_err(Into::into),
                );
            }
        }
        if any {
            inner.work.notify_one();
        }
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(no_answer))
            .collect()
    }

    /// Decodes a record; without it if it waits or stands in the ledger already.
    fn recognise(&self, bytes: &[u8]) -> Result<(RecordId, Option<Record>), SubmitError> {
        let record = Record::from_bytes(bytes).map_err(|e| {
            SubmitError::from(Refusal::Envelope {
                message: e.to_string(),
            })
        })?;
        let id = record.id();
        let found = lock(&self.0.pool).contains(&id)
            || self
                .0
                .ledger
                .find(&id)
                .map_err(|e| SubmitError::Internal(e.to_string()))?
                .is_some();
        Ok((id, (!found).then_some(record)))
    }

    /// What can be said of a verified record before its block: its nonces are not used, and if nothing of its keys is in between,
    /// the contracts accept it.
    fn check_now(
        &self,
        record: &Record,
        token: &Verified,
        expected: &mut impl FnMut(&MemberId, &KeyId) -> u64,
    ) -> Result<(), SubmitError> {
        let ledger = &self.0.ledger;
        let mut ahead = false;
        for s in record.signers() {
            let expected = expected(&s.member, &s.key);
            if s.nonce < expected {
                return Err(Refusal::NonceReplayed {
                    key: s.key,
                    expected,
                    found: s.nonce,
                }
                .into());
            }
            ahead |= s.nonce > expected;
        }
        if !ahead {
            // Nothing of these keys is in between, so this is what the next block would say.
            let head = ledger.head();
            let ctx = Context {
                network: ledger.network(),
                height: head.height + 1,
                block_time_ms: now_ms().max(head.time_ms + 1),
            };
            apply(ledger.state(), record, token, &ctx)?;
        }
        Ok(())
    }

    /// Submits a record and waits until it is committed.
    ///
    /// # Errors
    /// [`SubmitError`]; [`SubmitError::Timeout`] says nothing about whether it will be.
    pub async fn submit_and_wait(
        &self,
        bytes: &[u8],
        deadline: Duration,
    ) -> Result<(RecordId, RecordPlace), SubmitError> {
        let record = Record::from_bytes(bytes).map_err(|e| {
            SubmitError::from(Refusal::Envelope {
                message: e.to_string(),
            })
        })?;
        let waiting = self.watch(record.id());
        let id = self.submit(bytes)?;
        self.finish(id, waiting, deadline).await
    }

    /// Waits until a record is committed, whoever submits it.
    ///
    /// # Errors
    /// [`SubmitError::Timeout`], [`SubmitError::Refused`].
    pub async fn wait(&self, id: RecordId, deadline: Duration) -> Result<RecordPlace, SubmitError> {
        let waiting = self.watch(id);
        Ok(self.finish(id, waiting, deadline).await?.1)
    }

    fn watch(&self, id: RecordId) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = lock(&self.0.waiting);
        let list = waiting.entry(id).or_default();
        list.retain(|s| !s.is_closed());
        list.push(sender);
        receiver
    }

    async fn finish(
        &self,
        id: RecordId,
        waiting: oneshot::Receiver<Outcome>,
        deadline: Duration,
    ) -> Result<(RecordId, RecordPlace), SubmitError> {
        // It may have been committed before anybody listened.
        let find = || {
            self.0
                .ledger
                .find(&id)
                .map_err(|e| SubmitError::Internal(e.to_string()))
        };
        if let Some(place) = find()? {
            return Ok((id, place));
        }
        match tokio::time::timeout(deadline, waiting).await {
            Ok(Ok(Outcome::Committed(place))) => Ok((id, place)),
            Ok(Ok(Outcome::Refused(notice))) => Err(SubmitError::Refused(notice)),
            Ok(Err(_)) => Err(SubmitError::Internal("the node is stopping".into())),
            Err(_) => match find()? {
                Some(place) => Ok((id, place)),
                None => Err(SubmitError::Timeout {
                    id,
                    seconds: deadline.as_secs(),
                }),
            },
        }
    }

    fn tell(&self, id: &RecordId, outcome: &Outcome) {
        let listeners = lock(&self.0.waiting).remove(id);
        for listener in listeners.into_iter().flatten() {
            let _ = listener.send(outcome.clone());
        }
    }

    fn verified(&self) -> impl Fn(&Record) -> Option<Verified> + use<> {
        let inner = self.0.clone();
        move |record| lock(&inner.verified).tokens.get(&record.leaf()).cloned()
    }

    /// Drops what can no longer be committed, and tells those who wait for it.
    fn clean_pool(&self) {
        let inner = &*self.0;
        let state = inner.ledger.state();
        let head = inner.ledger.head();
        let stale = lock(&inner.pool).drop_stale(head.time_ms, |m, k| {
            match state::key_state(state, m, k) {
                Ok(Some(key)) => key.next_nonce,
                // The key is no longer one: nothing it has signed can be committed.
                Ok(None) => u64::MAX,
                Err(_) => 0,
            }
        });
        for (id, passed) in stale {
            if matches!(inner.ledger.find(&id), Ok(Some(_))) {
                continue;
            }
            let message = if passed {
                "another record used its nonce first, or its key is no longer in force"
            } else {
                "its time ran out before it was committed"
            };
            let code = if passed { "nonce_replayed" } else { "expired" };
            self.tell(
                &id,
                &Outcome::Refused(RefusalNotice {
                    code: code.into(),
                    message: message.into(),
                }),
            );
        }
        lock(&inner.waiting).retain(|_, list| list.iter().any(|s| !s.is_closed()));
    }
}
