//! What all machines share: the hellos, both streams' counts and digests, the statements, what goes out.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use crate::Error;
use crate::context::Suite;
use crate::group::tag_bytes;
use crate::machine::{Output, Phase, Progress, Stage, Statement};
use crate::messages::{HEADER_BYTES, Hello, MASKED_BYTES, Message, ROWS_PER_FRAME, Role};
use crate::params::Params;
use crate::sorter::Row;
use crate::vole::params::StoreShape;

/// One direction's stream of points and tags.
#[derive(Default)]
struct Stream {
    hash: Sha256,
    points: u64,
    tags: u64,
}

/// How much a direction's stream holds once it is complete.
#[derive(Clone, Copy, Default)]
struct Due {
    points: u64,
    tags: u64,
}

/// The shared half of a machine.
pub(crate) struct Link {
    pub(crate) params: Params,
    role: Role,
    pub(crate) context: [u8; 32],
    pub(crate) own_count: u64,
    pub(crate) peer_count: u64,
    own: Stream,
    peer: Stream,
    own_due: Due,
    peer_due: Due,
    /// Digests of the finished streams, the initiator's first.
    pub(crate) streams: [[u8; 32]; 2],
    out: VecDeque<Output>,
}

impl Link {
    /// For a machine of `suite`, with so many own items.
    pub(crate) fn new(params: Params, suite: Suite, role: Role, items: u64) -> Result<Self, Error> {
        if params.context.suite != suite {
            return Err(Error::Invalid {
                what: "suite for this machine",
                found: params.context.suite.number().into(),
            });
        }
        let own_count = params.own_count(items)?;
        let context = params.context.digest();
        Ok(Self {
            role,
            context,
            params,
            own_count,
            peer_count: 0,
            own: Stream::default(),
            peer: Stream::default(),
            own_due: Due::default(),
            peer_due: Due::default(),
            streams: [[0; 32]; 2],
            out: VecDeque::new(),
        })
    }

    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub(crate) fn send(&mut self, message: &Message) -> Result<(), Error> {
        let frame = message.encode()?;
        match message {
            Message::Points(rows) => {
                self.own.points += rows.len() as u64;
                self.own.hash.update(&frame);
            }
            Message::Masked(bytes) => {
                self.own.points += (bytes.len() / MASKED_BYTES) as u64;
                self.own.hash.update(&frame);
            }
            Message::Tags(_)
            | Message::Opening { .. }
            | Message::Choices(_)
            | Message::Corrections(_)
            | Message::Sums(_)
            | Message::Check(_) => self.own.hash.update(&frame),
            _ => {}
        }
        self.out.push_back(Output::Send(frame));
        Ok(())
    }

    /// Sends tags: the first bytes of each row.
    pub(crate) fn send_tags(
        &mut self,
        rows: &[Row],
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(rows.len() * len);
        for row in rows {
            bytes.extend_from_slice(row.get(offset..offset + len).unwrap_or_default());
        }
        self.own.tags += rows.len() as u64;
        self.send(&Message::Tags(bytes))
    }

    /// Sends tags that stand at the head of numbers.
    pub(crate) fn send_cut_tags(&mut self, tags: &[u128], len: usize) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(tags.len() * len);
        for tag in tags {
            bytes.extend_from_slice(tag.to_be_bytes().get(..len).unwrap_or_default());
        }
        self.own.tags += tags.len() as u64;
        self.send(&Message::Tags(bytes))
    }

    pub(crate) fn progress(&mut self, phase: Phase, done: u64, total: u64) {
        self.out
            .push_back(Output::Progress(Progress { phase, done, total }));
    }

    pub(crate) fn send_hello(&mut self) -> Result<(), Error> {
        let hello = Hello {
            suite: self.params.context.suite,
            computation: self.params.context.computation,
            role: self.role,
            count: self.own_count,
            noise: self.params.noise,
            context: self.context,
        };
        self.send(&Message::Hello(hello))
    }

    /// Accepts the peer's hello if it names what is ours.
    pub(crate) fn accept_hello(&mut self, hello: &Hello) -> Result<(), Error> {
        let ours = &self.params;
        let what = if hello.role == self.role {
            "role"
        } else if hello.suite != ours.context.suite {
            "suite"
        } else if hello.computation != ours.context.computation {
            "computation"
        } else if hello.noise != ours.noise {
            "noise"
        } else if hello.context != self.context {
            "context"
        } else {
            ours.verify_claim(hello.count)?;
            self.peer_count = hello.count;
            return self.set_due();
        };
        Err(Error::Mismatch { what })
    }

    /// What the streams will hold, from both counts.
    fn set_due(&mut self) -> Result<(), Error> {
        let [initiator, responder] = self.counts();
        let (asks, answers) = match self.params.context.suite {
            Suite::DhRistrettoV1 => (
                Due {
                    points: initiator,
                    tags: 0,
                },
                Due {
                    points: responder,
                    tags: initiator,
                },
            ),
            suite @ (Suite::VoleRr22V1 | Suite::VoleRr22MaliciousV1) => (
                Due {
                    // The store, and the initiator's part of the coin.
                    points: StoreShape::of(initiator)?.columns() as u64
                        + u64::from(suite.is_checked()),
                    tags: 0,
                },
                Due {
                    points: 0,
                    tags: responder,
                },
            ),
        };
        (self.own_due, self.peer_due) = match self.role {
            Role::Initiator => (asks, answers),
            Role::Responder => (answers, asks),
        };
        Ok(())
    }

    /// Both counts, the initiator's first.
    const fn counts(&self) -> [u64; 2] {
        match self.role {
            Role::Initiator => [self.own_count, self.peer_count],
            Role::Responder => [self.peer_count, self.own_count],
        }
    }

    /// The peer's frame; its points and tags are counted against the claim before anything is done with them.
    pub(crate) fn receive(
        &mut self,
        frame: &[u8],
        expected: &'static str,
    ) -> Result<Message, Error> {
        let message = Message::decode(frame)?;
        let name = message.name();
        match &message {
            Message::Abort { code, reason } => {
                return Err(Error::PeerAborted {
                    code: *code,
                    reason: reason.clone(),
                });
            }
            _ if !expected.split(" or ").any(|e| e == name) => {
                return Err(Error::UnexpectedMessage {
                    expected,
                    found: name,
                });
            }
            Message::Points(rows) => {
                self.peer.points += rows.len() as u64;
                count("elements", self.peer_due.points, self.peer.points, true)?;
                self.peer.hash.update(frame);
            }
            Message::Masked(bytes) => {
                self.peer.points += (bytes.len() / MASKED_BYTES) as u64;
                count("elements", self.peer_due.points, self.peer.points, true)?;
                self.peer.hash.update(frame);
            }
            Message::Tags(bytes) => {
                self.peer.tags += (bytes.len() / self.tag_len()) as u64;
                count("tags", self.peer_due.tags, self.peer.tags, true)?;
                self.peer.hash.update(frame);
            }
            Message::Opening { .. }
            | Message::Choices(_)
            | Message::Corrections(_)
            | Message::Sums(_)
            | Message::Check(_) => self.peer.hash.update(frame),
            _ => {}
        }
        Ok(message)
    }

    /// Points received so far.
    pub(crate) const fn received_points(&self) -> u64 {
        self.peer.points
    }

    /// Tags received so far.
    pub(crate) const fn received_tags(&self) -> u64 {
        self.peer.tags
    }

    /// Closes the peer's stream: exact counts, and its own digest.
    pub(crate) fn close_peer(
        &mut self,
        points: u64,
        tags: u64,
        digest: &[u8; 32],
    ) -> Result<(), Error> {
        let due = self.peer_due;
        count("elements", due.points, self.peer.points, false)?;
        count("tags", due.tags, self.peer.tags, false)?;
        count("stated elements", due.points, points, false)?;
        count("stated tags", due.tags, tags, false)?;
        let (what, at) = match self.role {
            Role::Initiator => ("responder's", 1),
            Role::Responder => ("initiator's", 0),
        };
        let found: [u8; 32] = std::mem::take(&mut self.peer.hash).finalize().into();
        if found != *digest {
            return Err(Error::Digest { what });
        }
        self.put_digest(at, found);
        Ok(())
    }

    /// Closes the own stream.
    pub(crate) fn close_own(&mut self) -> Result<(), Error> {
        if self.own.points != self.own_due.points || self.own.tags != self.own_due.tags {
            return Err(Error::Internal {
                what: "own stream is short",
            });
        }
        let digest = std::mem::take(&mut self.own.hash).finalize().into();
        self.put_digest(
            match self.role {
                Role::Initiator => 0,
                Role::Responder => 1,
            },
            digest,
        );
        Ok(())
    }

    fn put_digest(&mut self, at: usize, digest: [u8; 32]) {
        if let Some(slot) = self.streams.get_mut(at) {
            *slot = digest;
        }
    }

    pub(crate) fn send_end(&mut self, seal: Vec<u8>) -> Result<(), Error> {
        let at = match self.role {
            Role::Initiator => 0,
            Role::Responder => 1,
        };
        let digest = self.streams.get(at).copied().unwrap_or_default();
        let (points, tags) = (self.own.points, self.own.tags);
        self.send(&Message::End {
            points,
            tags,
            digest,
            seal,
        })
    }

    pub(crate) const fn statement(&self, stage: Stage, published: Option<i64>) -> Statement {
        Statement {
            stage,
            context: self.context,
            counts: self.counts(),
            streams: self.streams,
            published,
            sums: None,
        }
    }

    pub(crate) fn tag_len(&self) -> usize {
        if self.params.context.suite.is_checked() {
            16
        } else {
            tag_bytes(self.own_count, self.peer_count)
        }
    }
}

/// Refuses rows that do not ascend strictly from `last` on, where `first` is the stream index of the first.
pub(crate) fn verify_ascending(
    last: &mut Option<Row>,
    rows: &[Row],
    first: u64,
) -> Result<(), Error> {
    for (row, index) in rows.iter().zip(first..) {
        match last.as_ref().map(|l| l.cmp(row)) {
            Some(std::cmp::Ordering::Equal) => return Err(Error::Duplicate { index }),
            Some(std::cmp::Ordering::Greater) => {
                return Err(Error::Unsorted {
                    what: "element",
                    index,
                });
            }
            _ => *last = Some(*row),
        }
    }
    Ok(())
}

fn count(what: &'static str, expected: u64, found: u64, so_far: bool) -> Result<(), Error> {
    if found == expected || (so_far && found < expected) {
        Ok(())
    } else {
        Err(Error::Count {
            what,
            expected,
            found,
        })
    }
}

/// Bytes that a frame of `rows` points takes; a sanity check of the constant.
const _: () = assert!(ROWS_PER_FRAME * 32 + HEADER_BYTES <= crate::messages::MAX_PAYLOAD_BYTES);
