//! Notifications: best effort, one bounded queue and one task per peer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;

use crate::config::{Limits, PeerKey};
use crate::frame;
use crate::host::open;
use crate::metrics::Metrics;
use crate::shared::{Link, Shared};
use crate::stream::PeerStream;
use crate::{Error, StreamReceiver};

struct Item {
    protocol: Arc<str>,
    body: Bytes,
}

#[derive(Default)]
struct Items {
    items: VecDeque<Item>,
    bytes: usize,
}

/// What waits to be sent to one peer.
pub(crate) struct Queue {
    items: Mutex<Items>,
    wake: Notify,
    max_items: usize,
    max_bytes: usize,
}

impl Queue {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            items: Mutex::default(),
            wake: Notify::new(),
            max_items: limits.max_notify_queue,
            max_bytes: limits.max_notify_queue_bytes,
        }
    }

    /// Adds one at the end and drops from the front what is over the limits; the protocols of what was dropped.
    fn push(&self, item: Item) -> Vec<Arc<str>> {
        let mut dropped = Vec::new();
        let mut q = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        q.bytes += item.body.len();
        q.items.push_back(item);
        while q.items.len() > self.max_items || q.bytes > self.max_bytes {
            let Some(old) = q.items.pop_front() else {
                break;
            };
            q.bytes -= old.body.len();
            dropped.push(old.protocol);
        }
        drop(q);
        self.wake.notify_one();
        dropped
    }

    fn pop(&self) -> Option<Item> {
        let mut q = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let item = q.items.pop_front()?;
        q.bytes -= item.body.len();
        Some(item)
    }
}

/// Queues `body` for every connected peer; how many there are.
pub(crate) fn notify_all(shared: &Shared, protocol: &str, body: &Bytes) -> usize {
    let protocol: Arc<str> = protocol.into();
    let mut reached = 0;
    for link in shared.links() {
        if link.status().connected {
            reached += 1;
            let item = Item {
                protocol: protocol.clone(),
                body: body.clone(),
            };
            for dropped in link.queue.push(item) {
                Metrics::count(&shared.metrics.notifications_dropped, &dropped);
            }
        }
    }
    reached
}

/// Sends what is queued for one peer until the peer leaves the list.
pub(crate) async fn run(shared: Arc<Shared>, link: Arc<Link>) {
    let mut streams = HashMap::new();
    loop {
        tokio::select! {
            () = link.removed.cancelled() => return,
            () = link.queue.wake.notified() => {}
        }
        while let Some(item) = link.queue.pop() {
            let sent = tokio::select! {
                () = link.removed.cancelled() => return,
                sent = send(&shared, &link, &mut streams, &item) => sent,
            };
            let metrics = &shared.metrics;
            match sent {
                Ok(()) => Metrics::count(&metrics.notifications_sent, &item.protocol),
                Err(error) => {
                    tracing::debug!(peer = %link.label(), %error, "notification dropped");
                    Metrics::count(&metrics.notifications_dropped, &item.protocol);
                }
            }
        }
    }
}

async fn send(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    streams: &mut HashMap<Arc<str>, PeerStream>,
    item: &Item,
) -> Result<(), Error> {
    let limit = shared.limits.write_timeout;
    // A stream kept from before may have ended with its connection: then once more over a new one.
    if let Some(mut stream) = streams.remove(&item.protocol)
        && write(&mut stream, &item.body, limit).await.is_ok()
    {
        streams.insert(item.protocol.clone(), stream);
        return Ok(());
    }
    let mut stream = open(shared, link, &item.protocol, limit).await?;
    write(&mut stream, &item.body, limit).await?;
    streams.insert(item.protocol.clone(), stream);
    Ok(())
}

async fn write(stream: &mut PeerStream, body: &[u8], limit: Duration) -> Result<(), Error> {
    timeout(limit, async {
        frame::write("notification", stream, body, limit).await?;
        stream
            .flush()
            .await
            .map_err(|e| Error::io("notification", &e, limit))
    })
    .await
    .unwrap_or(Err(Error::Deadline {
        what: "writing a notification",
        limit,
    }))
}

/// How many streams of one notification protocol a peer may hold: an old one may linger beside the new one.
const STREAMS_PER_PEER: usize = 4;

/// Takes the notifications of one protocol from all peers into one queue. Each peer's stream is read by a task of its own,
/// which stops reading while the queue is full, so the pressure goes back to the sender, whose queue drops its oldest.
pub(crate) fn receive(
    shared: Arc<Shared>,
    protocol: Arc<str>,
    mut incoming: StreamReceiver,
    max_bytes: usize,
    sender: mpsc::Sender<(PeerKey, Vec<u8>)>,
) {
    tokio::spawn(async move {
        let mut slots: HashMap<PeerKey, Arc<Semaphore>> = HashMap::new();
        loop {
            let (peer, stream) = tokio::select! {
                () = shared.stop.cancelled() => return,
                () = sender.closed() => return,
                next = incoming.recv() => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            slots.retain(|_, s| s.available_permits() < STREAMS_PER_PEER);
            let slot = slots
                .entry(peer)
                .or_insert_with(|| Arc::new(Semaphore::new(STREAMS_PER_PEER)));
            let Ok(permit) = slot.clone().try_acquire_owned() else {
                Metrics::count(&shared.metrics.streams_refused, &protocol);
                continue;
            };
            let (shared, protocol, sender) = (shared.clone(), protocol.clone(), sender.clone());
            tokio::spawn(async move {
                if let Err(error) =
                    read_all(&shared, &protocol, peer, stream, max_bytes, &sender).await
                {
                    tracing::debug!(%error, protocol = %protocol, "notification stream ended");
                }
                drop(permit);
            });
        }
    });
}

async fn read_all(
    shared: &Shared,
    protocol: &str,
    peer: PeerKey,
    mut stream: PeerStream,
    max_bytes: usize,
    sender: &mpsc::Sender<(PeerKey, Vec<u8>)>,
) -> Result<(), Error> {
    // Between notifications the stream may rest for as long as the connection stands; pings see to that.
    stream.set_idle_timeout(None);
    let limit = shared.limits.write_timeout;
    let what = "notification";
    loop {
        let next = tokio::select! {
            () = sender.closed() => return Ok(()),
            next = frame::read_length(what, &mut stream, limit) => next?,
        };
        let Some(length) = next else { return Ok(()) };
        let body = timeout(
            limit,
            frame::read_body(what, &mut stream, length, max_bytes, limit),
        )
        .await
        .unwrap_or(Err(Error::Deadline { what, limit }))?;
        Metrics::count(&shared.metrics.notifications_received, protocol);
        if sender.send((peer, body)).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_dropped_by_count_and_by_bytes() {
        let queue = Queue::new(&Limits {
            max_notify_queue: 3,
            max_notify_queue_bytes: 10,
            ..Limits::default()
        });
        let push = |body: &'static [u8]| {
            queue
                .push(Item {
                    protocol: "/p".into(),
                    body: Bytes::from_static(body),
                })
                .len()
        };
        assert_eq!([push(b"1"), push(b"2"), push(b"3")], [0, 0, 0]);
        assert_eq!(push(b"4"), 1);
        assert_eq!(push(b"123456789"), 2);
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|i| i.body).collect();
        assert_eq!(
            left,
            [Bytes::from_static(b"4"), Bytes::from_static(b"123456789")]
        );
        assert_eq!(push(b"12345678901"), 1);
        assert!(queue.pop().is_none());
    }
}
