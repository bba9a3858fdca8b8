//! The side that answers. Nothing that depends on its key leaves before the initiator's stream is complete, its seal accepted
//! and the release committed.

use crate::Error;
use crate::context::{Computation, Suite};
use crate::elements::Elements;
use crate::link::{Link, verify_ascending};
use crate::machine::{Phase, Stage};
use crate::messages::{Message, ROWS_PER_FRAME, Role};
use crate::noise::sample_truncated_laplace;
use crate::params::{Noise, Params};
use crate::role::{self, Answered, Need, PASSED, Run};
use crate::seeds::Seeds;
use crate::sorter::{Cursor, Row, SortedRows, Sorter, SorterFactory};
use crate::stream::Items;

/// The responder of a run.
pub struct Responder(Run<Answerer>);

role::machine!(Responder);

struct Answerer {
    link: Link,
    elements: Elements,
    sorters: Box<dyn SorterFactory>,
}

/// What grows while the initiator's stream comes in.
struct Work {
    /// The own elements blinded so far.
    next: u64,
    /// They, to be sent ascending in either computation: their order would tell of the set's.
    own: Box<dyn Sorter>,
    /// Tags for the initiator: by their bytes for a count, behind their index for a list.
    replies: Box<dyn Sorter>,
    /// List: the initiator's points, to find repeated ones; in a count their order shows them.
    seen: Option<Box<dyn Sorter>>,
    last: Option<Row>,
}

/// What waits behind the gate.
struct Ready {
    own: Box<dyn SortedRows>,
    replies: Box<dyn SortedRows>,
}

enum State {
    AwaitHello,
    Receive(Work),
    CheckEnd {
        work: Work,
        seal: Vec<u8>,
    },
    Blind(Work),
    Gate(Ready),
    SendPoints {
        ready: Ready,
        last: Option<Row>,
        sent: u64,
    },
    SendTags {
        replies: Box<dyn SortedRows>,
    },
    Closing(Answered),
}

impl Responder {
    /// A responder that will match `set`.
    ///
    /// # Errors
    /// [`Error::Noise`], [`Error::Invalid`] and [`Error::TooLong`] for parameters that do not fit each other.
    pub fn new(
        params: Params,
        items: impl Into<Items>,
        seeds: Seeds,
        sorters: Box<dyn SorterFactory>,
    ) -> Result<Self, Error> {
        let items = items.into();
        let link = Link::new(params, Suite::DhRistrettoV1, Role::Responder, items.len())?;
        let mut elements = Elements::new(&link, items, seeds)?;
        if let Noise::Laplace(p) = &link.params.noise {
            let mut rng = elements.seeds.noise(b"responder")?;
            let drawn = i64::from(p.bound) + sample_truncated_laplace(p, &mut rng)?;
            let drawn = u32::try_from(drawn).map_err(|_| Error::Internal { what: "noise" })?;
            elements.dummies = drawn;
        }
        let answerer = Answerer {
            link,
            elements,
            sorters,
        };
        Ok(Self(Run::new(answerer, State::AwaitHello)))
    }
}

impl Answerer {
    /// Places in a reply row of the tag: first for a count, behind the index for a list.
    const fn tag_offset(&self) -> usize {
        match self.link.params.context.computation {
            Computation::Cardinality | Computation::JoinSum => 0,
            Computation::List => 8,
        }
    }

    fn blind_some(&mut self, work: &mut Work) -> Result<(), Error> {
        let rows = self.elements.blind(&self.link, work.next)?;
        if !rows.is_empty() {
            work.own.push(&rows)?;
            work.next += rows.len() as u64;
            self.link
                .progress(Phase::Blind, work.next, self.link.own_count);
        }
        Ok(())
    }

    fn take_points(&mut self, work: &mut Work, points: &[Row]) -> Result<(), Error> {
        let done = self.link.received_points();
        let first = done - points.len() as u64;
        match &mut work.seen {
            Some(seen) => seen.push(points)?,
            None => verify_ascending(&mut work.last, points, first)?,
        }
        let mut replies = self.elements.raise_to_tags(&self.link, points, first)?;
        if self.tag_offset() != 0 {
            for (reply, index) in replies.iter_mut().zip(first..) {
                *reply = behind_index(reply, index);
            }
        }
        work.replies.push(&replies)?;
        self.link
            .progress(Phase::Receive, done, self.link.peer_count);
        // The own side's share, so that neither waits for the other at the end.
        self.blind_some(work)
    }
}

impl role::Role for Answerer {
    type State = State;
    type Link = Link;

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn need<'a>(&self, state: &'a State) -> Need<'a> {
        match state {
            State::AwaitHello => Need::Frame("hello"),
            State::Receive(_) => Need::Frame("points or end"),
            State::CheckEnd { seal, .. } => Need::Check(Stage::InitiatorEnd, None, seal),
            State::Gate(_) => Need::Release,
            State::Blind(_) | State::SendPoints { .. } | State::SendTags { .. } => Need::Work,
            State::Closing(end) => end.need(),
        }
    }

    fn work(&mut self, state: State) -> Result<State, Error> {
        Ok(match state {
            State::Blind(mut work) if work.next < self.link.own_count => {
                self.blind_some(&mut work)?;
                State::Blind(work)
            }
            State::Blind(work) => {
                if let Some(seen) = work.seen {
                    let mut rows = Cursor::new(seen.finish()?);
                    let (mut last, mut index) = (None, 0);
                    while let Some(row) = rows.peek()? {
                        verify_ascending(&mut last, &[row], index)?;
                        index += 1;
                        rows.advance();
                    }
                }
                State::Gate(Ready {
                    own: work.own.finish()?,
                    replies: work.replies.finish()?,
                })
            }
            State::SendPoints {
                mut ready,
                mut last,
                mut sent,
            } => {
                let mut page = Vec::new();
                ready.own.next_rows(ROWS_PER_FRAME, &mut page)?;
                verify_ascending(&mut last, &page, sent).map_err(|_| Error::Internal {
                    what: "own points repeat",
                })?;
                sent += page.len() as u64;
                if page.is_empty() {
                    State::SendTags {
                        replies: ready.replies,
                    }
                } else {
                    self.link.send(&Message::Points(page))?;
                    self.link.progress(Phase::Send, sent, self.link.own_count);
                    State::SendPoints { ready, last, sent }
                }
            }
            State::SendTags { mut replies } => {
                let mut page = Vec::new();
                replies.next_rows(ROWS_PER_FRAME, &mut page)?;
                if page.is_empty() {
                    self.link.close_own()?;
                    State::Closing(Answered::SealEnd)
                } else {
                    self.link
                        .send_tags(&page, self.tag_offset(), self.link.tag_len())?;
                    State::SendTags { replies }
                }
            }
            _ => return Err(PASSED),
        })
    }

    fn take(&mut self, state: State, message: Message) -> Result<State, Error> {
        Ok(match (state, message) {
            (State::AwaitHello, Message::Hello(hello)) => {
                self.link.accept_hello(&hello)?;
                self.link.send_hello()?;
                let (own, peer) = (self.link.own_count, self.link.peer_count);
                let sorters = &mut self.sorters;
                State::Receive(Work {
                    next: 0,
                    own: sorters.sorter(own)?,
                    replies: sorters.sorter(peer)?,
                    seen: match self.link.params.context.computation {
                        Computation::List => Some(sorters.sorter(peer)?),
                        Computation::Cardinality | Computation::JoinSum => None,
                    },
                    last: None,
                })
            }
            (State::Receive(mut work), Message::Points(points)) => {
                self.take_points(&mut work, &points)?;
                State::Receive(work)
            }
            (
                State::Receive(work),
                Message::End {
                    points,
                    tags,
                    digest,
                    seal,
                },
            ) => {
                self.link.close_peer(points, tags, &digest)?;
                State::CheckEnd { work, seal }
            }
            (State::Closing(end), message) => State::Closing(end.take(&self.link, message)?),
            _ => return Err(PASSED),
        })
    }

    fn sealed(&mut self, state: State, seal: Vec<u8>) -> Result<State, Error> {
        match state {
            State::Closing(end) => Ok(State::Closing(end.sealed(&mut self.link, seal)?)),
            _ => Err(PASSED),
        }
    }

    fn accepted(&mut self, state: State) -> Result<State, Error> {
        match state {
            State::CheckEnd { work, .. } => Ok(State::Blind(work)),
            State::Closing(end) => Ok(State::Closing(end.accepted()?)),
            _ => Err(PASSED),
        }
    }

    fn released(&mut self, state: State) -> Result<State, Error> {
        match state {
            State::Gate(ready) => Ok(State::SendPoints {
                ready,
                last: None,
                sent: 0,
            }),
            _ => Err(PASSED),
        }
    }
}

/// Index, then the tag's 16 bytes, then zeros.
fn behind_index(tag: &Row, index: u64) -> Row {
    let mut row = [0; 32];
    let bytes = index.to_be_bytes();
    for (r, b) in row.iter_mut().zip(bytes.iter().chain(tag.iter().take(16))) {
        *r = *b;
    }
    row
}
