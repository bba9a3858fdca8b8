//! What both roles share: the session's key and domain, the own elements, both streams' counts and digests.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::Error;
use crate::expand::HashToGroup;
use crate::group::{Input, Key, tag_bytes, tags};
use crate::item::ItemSet;
use crate::machine::{Output, Phase, Progress, Stage, Statement};
use crate::messages::{HEADER_BYTES, Hello, Message, ROWS_PER_FRAME, Role};
use crate::params::Params;
use crate::seeds::Seeds;
use crate::sorter::{Row, SorterFactory};

/// One direction's stream of points and tags.
#[derive(Default)]
struct Stream {
    hash: Sha256,
    points: u64,
    tags: u64,
}

/// What this side hashes.
struct Elements {
    seeds: Seeds,
    set: ItemSet,
    /// Dummies of the pool that this side brings; the rest of the pool is private fillers.
    dummies: u32,
}

/// The shared half of a machine.
pub(crate) struct Link {
    pub(crate) params: Params,
    role: Role,
    pub(crate) context: [u8; 32],
    hash: HashToGroup,
    pub(crate) key: Key,
    elements: Elements,
    pub(crate) sorters: Box<dyn SorterFactory>,
    pub(crate) own_count: u64,
    pub(crate) peer_count: u64,
    own: Stream,
    peer: Stream,
    /// Digests of the finished streams, the initiator's first.
    pub(crate) streams: [[u8; 32]; 2],
    out: VecDeque<Output>,
}

impl Link {
    pub(crate) fn new(
        params: Params,
        role: Role,
        set: ItemSet,
        seeds: Seeds,
        sorters: Box<dyn SorterFactory>,
    ) -> Result<Self, Error> {
        let own_count = params.own_count(&set)?;
        let context = params.context.digest();
        Ok(Self {
            role,
            hash: HashToGroup::for_context(&context)?,
            key: seeds.key()?,
            context,
            elements: Elements {
                seeds,
                set,
                dummies: params.noise.pool(),
            },
            params,
            sorters,
            own_count,
            peer_count: 0,
            own: Stream::default(),
            peer: Stream::default(),
            streams: [[0; 32]; 2],
            out: VecDeque::new(),
        })
    }

    pub(crate) const fn seeds(&self) -> &Seeds {
        &self.elements.seeds
    }

    pub(crate) const fn set(&self) -> &ItemSet {
        &self.elements.set
    }

    pub(crate) const fn set_dummies(&mut self, dummies: u32) {
        self.elements.dummies = dummies;
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
            Message::Tags(_) => self.own.hash.update(&frame),
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
            return Ok(());
        };
        Err(Error::Mismatch { what })
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
                count("elements", self.peer_count, self.peer.points, true)?;
                self.peer.hash.update(frame);
            }
            Message::Tags(bytes) => {
                self.peer.tags += (bytes.len() / self.tag_len()) as u64;
                count("tags", self.own_count, self.peer.tags, true)?;
                self.peer.hash.update(frame);
            }
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
        let tags_due = match self.role {
            Role::Initiator => self.own_count,
            Role::Responder => 0,
        };
        count("elements", self.peer_count, self.peer.points, false)?;
        count("tags", tags_due, self.peer.tags, false)?;
        count("stated elements", self.peer_count, points, false)?;
        count("stated tags", tags_due, tags, false)?;
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
        if self.own.points != self.own_count {
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
            counts: match self.role {
                Role::Initiator => [self.own_count, self.peer_count],
                Role::Responder => [self.peer_count, self.own_count],
            },
            streams: self.streams,
            published,
        }
    }

    pub(crate) fn tag_len(&self) -> usize {
        tag_bytes(self.own_count, self.peer_count)
    }

    /// The own elements from `from` on, at most a frame of them, blinded.
    pub(crate) fn blind(&self, from: u64) -> Result<Vec<Row>, Error> {
        let n = usize::try_from(self.own_count.saturating_sub(from))
            .unwrap_or(usize::MAX)
            .min(ROWS_PER_FRAME);
        let elements = &self.elements;
        self.key.blind(&self.hash, n, |i| elements.input(from, i))
    }

    /// Tags of the peer's points, raised; `first` is the stream index of the first.
    pub(crate) fn raise_to_tags(&self, points: &[Row], first: u64) -> Result<Vec<Row>, Error> {
        let raised = self.key.raise(points, first)?;
        Ok(tags(&self.context, &raised, self.tag_len()))
    }
}

impl Elements {
    /// Items, then dummies (0x01 || index), then private fillers (0x02 || random): all hashed alike, so that they cost alike.
    fn input(&self, from: u64, i: usize) -> Result<Input, Error> {
        let bug = Error::Internal {
            what: "element index",
        };
        let index = usize::try_from(from).map_err(|_| bug.clone())? + i;
        if let Some((head, rest)) = self.set.message(index) {
            return Ok(Input {
                head,
                head_len: 3,
                rest: Zeroizing::new(rest.to_vec()),
            });
        }
        let index = u32::try_from(index - self.set.len()).map_err(|_| bug)?;
        Ok(if index < self.dummies {
            Input {
                head: [1, 0, 0],
                head_len: 1,
                rest: Zeroizing::new(index.to_be_bytes().to_vec()),
            }
        } else {
            Input {
                head: [2, 0, 0],
                head_len: 1,
                rest: self.seeds.filler(index),
            }
        })
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
