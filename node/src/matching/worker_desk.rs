//! The node's side of its workers' connections: it carries their frames, signs and releases for them, and keeps the past.

use std::sync::Arc;
use std::time::Duration;

use tally_psi::buckets::Step;
use tally_psi::{Stage, Statement};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::buckets::is_break;
use super::desk::{Inner, MatchDesk};
use super::engine::Host;
use super::error::MatchError;
use super::lists::OpenList;
use crate::psi_wire::Desk as _;
use crate::workers::asks::{Answer, Ask, End, First};
use crate::workers::channel::{self, MAX_MESSAGE_BYTES, Receiver, Sender, carry};
use crate::workers::{Lease, NodeWorkers, WorkersError};

/// Most connections of workers at a time: two for each.
const MAX_CONNECTIONS: usize = 512;

impl MatchDesk {
    /// Lets workers match buckets of lists from now on. Once, before any match.
    pub fn use_workers(&self, workers: NodeWorkers) {
        // A second call changes nothing.
        let _ = self.0.workers.set(Arc::new(workers));
    }

    /// Serves the connections of workers until `stop`; returns when all have ended.
    pub async fn serve_workers(&self, listener: TcpListener, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = places.clone().acquire_owned().await;
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a worker's connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (inner, stop) = (self.0.clone(), stop.clone());
            tasks.spawn(async move {
                let _place = place;
                let served = tokio::select! {
                    () = stop.cancelled() => Ok(()),
                    served = inner.serve_worker(stream) => served,
                };
                if let Err(error) = served {
                    tracing::warn!(%from, %error, "a worker's connection broke");
                }
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

impl Inner {
    async fn serve_worker(&self, stream: tokio::net::TcpStream) -> Result<(), WorkersError> {
        let Some(workers) = self.workers.get() else {
            return Ok(());
        };
        let (sender, mut receiver) =
            channel::open(stream, &workers.key, channel::End::Node).await?;
        let Some(first) = receiver.first().await? else {
            return Ok(());
        };
        let first = First::from_bytes(&first).map_err(|_| WorkersError::Malformed {
            what: "another first message than is due",
        })?;
        match first {
            First::Asks(lease) => self.serve_asks(workers, lease, sender, receiver).await,
            First::Frames(lease) => {
                let list = self.list_named(&lease.list);
                let taken = list.and_then(|list| list.take_stream(&lease));
                if let Some((stream, cancel)) = taken {
                    tokio::select! {
                        () = cancel.cancelled() => {}
                        () = carry(stream, sender, receiver) => {}
                    }
                }
                Ok(())
            }
        }
    }

    /// Begins an attempt and answers what its worker asks, until it ends.
    async fn serve_asks(
        &self,
        workers: &NodeWorkers,
        lease: Lease,
        mut sender: Sender,
        mut receiver: Receiver,
    ) -> Result<(), WorkersError> {
        let list = self.list_named(&lease.list);
        let Some(list) = list else {
            let refused = Answer::Refused {
                reason: "the list is over".into(),
                over: true,
            };
            return sender.send(&refused.to_bytes()).await;
        };
        let (attempt, seeds) = match self.begin(&list, &lease).await {
            Ok(begun) => begun,
            Err(declined) => {
                let refused = Answer::Refused {
                    reason: declined.reason,
                    over: declined.over,
                };
                return sender.send(&refused.to_bytes()).await;
            }
        };
        tracing::info!(id = %list.agreed.id, bucket = lease.bucket, attempt = lease.attempt, "a worker begins a bucket");
        let (session, noise) = (seeds.session().clone(), list.noise_seed.clone());
        sender
            .send(&Answer::Begin(session, noise).to_bytes())
            .await?;
        let mut ended = None;
        while ended.is_none() {
            let message = tokio::select! {
                () = attempt.cancel.cancelled() => break,
                message = receiver.receive(MAX_MESSAGE_BYTES) => message,
            };
            // A worker that is gone says nothing more.
            let Ok(Some(message)) = message else { break };
            let ask = Ask::from_bytes(&message).map_err(|_| WorkersError::Malformed {
                what: "something that is no ask",
            })?;
            if let Ask::End(end, why) = &ask {
                ended = Some((*end, why.clone()));
            }
            let answer = self.answer_ask(&list, &lease, ask).await;
            sender.send(&answer.to_bytes()).await?;
        }
        // Its stream to the peer ends with it.
        drop(attempt);
        match ended {
            Some((End::Finished, _)) if list.past.now().is_finished(lease.bucket) => {
                let removed = workers.queue.remove(&lease.list, Some(lease.bucket)).await;
                if let Err(error) = removed {
                    tracing::debug!(%error, "a finished bucket is still in the queue");
                }
            }
            Some((End::Hopeless, reason)) => list.fail(MatchError::Worker {
                bucket: lease.bucket,
                reason,
            }),
            Some((End::Finished | End::Broke, _)) => list.note_broke(),
            // Died: the next need not wait for the end of its lease.
            None => {
                list.note_broke();
                let _ = workers.queue.hold(&lease, Duration::ZERO).await;
            }
        }
        Ok(())
    }

    async fn answer_ask(&self, list: &Arc<OpenList>, lease: &Lease, ask: Ask) -> Answer {
        let mut host = Host::new(self, &list.agreed, Some(list));
        let refused = |reason: String| Answer::Refused {
            reason,
            over: false,
        };
        let answered = match ask {
            Ask::Past => Ok(Answer::Past(list.past.now())),
            Ask::Note(step) if bucket_of(&step) != lease.bucket => {
                Err("a step of another bucket".into())
            }
            Ask::Note(step) => {
                let past = list.past.clone();
                let noted = tokio::task::spawn_blocking(move || past.take(&step)).await;
                self.note_progress(&list.agreed.id, list.progress());
                match noted {
                    Ok(Ok(())) => Ok(Answer::Done),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("the thread that notes a step died".into()),
                }
            }
            Ask::Seal(statement) if !signs(list, &statement) => {
                Err("a statement that this side does not sign".into())
            }
            Ask::Seal(statement) => host.seal(&statement).await.map(Answer::Seal),
            Ask::CheckSeal(statement, seal) => {
                let checked = host.check_seal(&statement, &seal).await;
                checked.map(|()| Answer::Done)
            }
            Ask::Release(statement) if !releases(list, &statement) => {
                Err("a release of something else".into())
            }
            Ask::Release(statement) => host.release(&statement).await.map(|()| Answer::Done),
            Ask::Progress(_) => {
                self.note_progress(&list.agreed.id, list.progress());
                Ok(Answer::Done)
            }
            Ask::End(..) => Ok(Answer::Done),
        };
        // What this node found wrong is not better the next time.
        if let Some(error) = host.error.filter(|e| !is_break(e)) {
            list.fail(error);
        }
        answered.unwrap_or_else(refused)
    }
}

const fn bucket_of(step: &Step) -> u32 {
    match step {
        Step::Rewound { bucket }
        | Step::Begun { bucket, .. }
        | Step::Answering { bucket, .. }
        | Step::Finished { bucket, .. } => *bucket,
    }
}

/// Whether a statement is of the own end of a bucket of the list.
fn signs(list: &OpenList, statement: &Statement) -> bool {
    let own_end = match list.role() {
        tally_psi::messages::Role::Initiator => Stage::InitiatorEnd,
        tally_psi::messages::Role::Responder => Stage::ResponderEnd,
    };
    statement.stage == own_end && statement.counts == list.plan.capacities()
}

/// Whether a statement is what the release of the list is bound to.
fn releases(list: &OpenList, statement: &Statement) -> bool {
    let context = list.params.context.digest();
    let [digest, _] = statement.streams;
    statement.context == context && digest == list.plan.digest(&context)
}
