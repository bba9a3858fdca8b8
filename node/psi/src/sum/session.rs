//! What both machines share: the hello, the streams' digests and counts, the statements, what goes out.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use super::messages::{Sizes, SumHello, SumMessage};
use super::terms::{SumParams, SumTerms};
use crate::Error;
use crate::group::tag_bytes;
use crate::machine::{Outcome, Output, Phase, Progress, Report, Stage, Statement};
use crate::messages::{HEADER_BYTES, Message, Role};
use crate::role::Wire;
use crate::sizes::verify_public;

/// The shared half of a machine.
pub(crate) struct Session {
    pub(crate) terms: SumTerms,
    pub(crate) context: [u8; 32],
    role: Role,
    /// The initiator's groups, padded, without dummies.
    pub(crate) groups: Vec<u32>,
    /// The responder's entries, padded.
    pub(crate) entries: u64,
    own: Sha256,
    peer: Sha256,
    pub(crate) streams: [[u8; 32]; 2],
    /// The sums with both noises, once this side has them; they stand in the statements from then on.
    pub(crate) published: Option<Vec<i64>>,
    out: VecDeque<Output>,
}

impl Session {
    pub(crate) fn new(params: SumParams, role: Role) -> Result<Self, Error> {
        params.verify()?;
        Ok(Self {
            context: params.digest(),
            terms: params.terms,
            role,
            groups: Vec::new(),
            entries: 0,
            own: Sha256::new(),
            peer: Sha256::new(),
            streams: [[0; 32]; 2],
            published: None,
            out: VecDeque::new(),
        })
    }

    pub(crate) fn send(&mut self, message: &SumMessage) -> Result<(), Error> {
        let frame = message.encode()?;
        if is_stream(message) {
            self.own.update(&frame);
        }
        self.out.push_back(Output::Send(frame));
        Ok(())
    }

    pub(crate) fn send_shared(&mut self, message: Message) -> Result<(), Error> {
        self.send(&SumMessage::Shared(message))
    }

    pub(crate) fn progress(&mut self, phase: Phase, done: u64, total: u64) {
        self.out
            .push_back(Output::Progress(Progress { phase, done, total }));
    }

    pub(crate) fn send_hello(&mut self) -> Result<(), Error> {
        let sizes = match self.role {
            Role::Initiator => Sizes::Groups(self.groups.clone()),
            Role::Responder => Sizes::Entries(self.entries),
        };
        let hello = SumHello {
            context: self.context,
            sizes,
        };
        self.send(&SumMessage::Hello(hello))
    }

    /// Accepts the peer's hello if it names what is ours and its sizes are allowed.
    pub(crate) fn accept_hello(&mut self, hello: SumHello) -> Result<(), Error> {
        if hello.context != self.context {
            return Err(Error::Mismatch { what: "context" });
        }
        match (self.role, hello.sizes) {
            (Role::Responder, Sizes::Groups(groups)) => {
                let expected = self.terms.groups() as u64;
                if groups.len() as u64 != expected {
                    return Err(Error::Count {
                        what: "groups",
                        expected,
                        found: groups.len() as u64,
                    });
                }
                let rows: u64 = groups.iter().map(|n| u64::from(*n)).sum();
                if rows > self.terms.max_label_rows {
                    return Err(Error::TooLong {
                        what: "label rows",
                        found: rows,
                        max: self.terms.max_label_rows,
                    });
                }
                groups.iter().try_for_each(|n| verify_public((*n).into()))?;
                self.groups = groups;
                Ok(())
            }
            (Role::Initiator, Sizes::Entries(entries)) => {
                if entries > self.terms.max_entries {
                    return Err(Error::TooLong {
                        what: "entries",
                        found: entries,
                        max: self.terms.max_entries,
                    });
                }
                verify_public(entries)?;
                self.terms.verify_range(entries)?;
                self.entries = entries;
                Ok(())
            }
            _ => Err(Error::Mismatch { what: "role" }),
        }
    }

    /// Rows of each group, dummies included.
    pub(crate) fn group_rows(&self) -> Vec<u64> {
        let pool = self.terms.pool();
        self.groups.iter().map(|n| u64::from(*n) + pool).collect()
    }

    /// Rows of the label side.
    pub(crate) fn label_rows(&self) -> u64 {
        self.group_rows().iter().sum()
    }

    /// Rows of the value side.
    pub(crate) fn entry_rows(&self) -> u64 {
        self.entries * u64::from(self.terms.rows_per_entry)
            + self.terms.pool() * self.terms.groups() as u64
    }

    pub(crate) fn tag_len(&self) -> usize {
        tag_bytes(self.label_rows(), self.entry_rows())
    }

    /// Points of a ciphertext.
    pub(crate) const fn width(&self) -> usize {
        self.terms.quantities() + 1
    }

    const fn place(role: Role) -> usize {
        match role {
            Role::Initiator => 0,
            Role::Responder => 1,
        }
    }

    /// Ends the own stream; its digest goes into the next statement.
    pub(crate) fn close_own(&mut self) {
        let digest = std::mem::take(&mut self.own).finalize().into();
        if let Some(s) = self.streams.get_mut(Self::place(self.role)) {
            *s = digest;
        }
    }

    /// Sends the end of the own stream.
    pub(crate) fn send_end(&mut self, points: u64, tags: u64, seal: Vec<u8>) -> Result<(), Error> {
        let digest = self.streams.get(Self::place(self.role)).copied();
        self.send_shared(Message::End {
            points,
            tags,
            digest: digest.unwrap_or_default(),
            seal,
        })
    }

    /// Ends the peer's stream: exact counts, and its own digest.
    pub(crate) fn close_peer(
        &mut self,
        due: [u64; 2],
        stated: [u64; 2],
        digest: &[u8; 32],
    ) -> Result<(), Error> {
        for ((what, due), stated) in ["stated elements", "stated tags"]
            .into_iter()
            .zip(due)
            .zip(stated)
        {
            count(what, due, stated)?;
        }
        let (role, what) = match self.role {
            Role::Initiator => (Role::Responder, "responder's"),
            Role::Responder => (Role::Initiator, "initiator's"),
        };
        let found: [u8; 32] = std::mem::take(&mut self.peer).finalize().into();
        if found != *digest {
            return Err(Error::Digest { what });
        }
        if let Some(s) = self.streams.get_mut(Self::place(role)) {
            *s = found;
        }
        Ok(())
    }

    /// Puts the totals into the responder's stream digest: they come after it, and the initiator's is that of the release by then.
    pub(crate) fn bind_totals(&mut self, points: &[[u8; 32]]) {
        let [_, responder] = &mut self.streams;
        *responder = Sha256::new()
            .chain_update(b"tally/psi-sum-totals/v1\n")
            .chain_update(*responder)
            .chain_update(points.as_flattened())
            .finalize()
            .into();
    }

    /// The end of a run, in which both hold the published sums.
    pub(crate) fn report(&self, peer_seal: Vec<u8>) -> Report {
        Report {
            statement: self.statement(Stage::Ack, None),
            outcome: Outcome::Sums {
                values: self.published.clone().unwrap_or_default(),
            },
            peer_seal,
        }
    }
}

impl Wire for Session {
    type Message = SumMessage;

    fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn receive(&mut self, frame: &[u8], expected: &'static str) -> Result<SumMessage, Error> {
        let message = SumMessage::decode(frame)?;
        let name = message.name();
        if let SumMessage::Shared(Message::Abort { code, reason }) = message {
            return Err(Error::PeerAborted { code, reason });
        }
        if !expected.split(" or ").any(|e| e == name) {
            return Err(Error::UnexpectedMessage {
                expected,
                found: name,
            });
        }
        if is_stream(&message) {
            self.peer.update(frame);
        }
        Ok(message)
    }

    fn statement(&self, stage: Stage, _: Option<i64>) -> Statement {
        Statement {
            stage,
            context: self.context,
            counts: [self.label_rows(), self.entry_rows()],
            streams: self.streams,
            published: None,
            sums: self.published.clone(),
        }
    }
}

/// Points, tags, keys and entries are a direction's stream.
const fn is_stream(message: &SumMessage) -> bool {
    matches!(
        message,
        SumMessage::Keys(_)
            | SumMessage::Entries(_)
            | SumMessage::Shared(Message::Points(_) | Message::Tags(_))
    )
}

/// Refuses another count than the one due.
pub(crate) fn count(what: &'static str, expected: u64, found: u64) -> Result<(), Error> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::Count {
            what,
            expected,
            found,
        })
    }
}

/// Bytes that a frame of entries takes; a sanity check of the constant.
const _: () = assert!(
    super::messages::ENTRIES_PER_FRAME * 32 * (super::terms::MAX_QUANTITIES + 2) + HEADER_BYTES
        <= crate::messages::MAX_PAYLOAD_BYTES
);
