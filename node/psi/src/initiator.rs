//! The side that asks: it sends its blinded set, gets it back as tags with the responder's set, and counts.

use crate::Error;
use crate::context::{Computation, Suite};
use crate::elements::Elements;
use crate::link::{Link, verify_ascending};
use crate::machine::{Outcome, Phase, Stage};
use crate::messages::{Message, ROWS_PER_FRAME, Role, tag_rows};
use crate::noise::sample_truncated_laplace;
use crate::params::{Noise, Params};
use crate::role::{self, Asked, Held, Need, PASSED, Run};
use crate::seeds::Seeds;
use crate::sorter::{Cursor, Row, SortedRows, Sorter, SorterFactory};
use crate::stream::Items;

/// The initiator of a run.
pub struct Initiator(Run<Asker>);

role::machine!(Initiator);

struct Asker {
    link: Link,
    elements: Elements,
    sorters: Box<dyn SorterFactory>,
}

enum State {
    Start,
    AwaitHello,
    /// Cardinality: everything is blinded and sorted before a byte leaves.
    Blind {
        next: u64,
        sorter: Box<dyn Sorter>,
    },
    SendSorted {
        rows: Box<dyn SortedRows>,
        sent: u64,
        last: Option<Row>,
    },
    /// List: the order is kept, so what is blinded can go.
    SendList {
        next: u64,
    },
    SealEnd,
    Points {
        last: Option<Row>,
        sorter: Box<dyn Sorter>,
    },
    Tags(Join),
    CheckEnd {
        seal: Vec<u8>,
        join: Join,
    },
    Closing(Asked),
}

/// The responder's tags, sorted, against the own ones as they come.
enum Join {
    Count {
        theirs: Cursor,
        last: Row,
        found: u64,
    },
    Rows {
        theirs: Cursor,
        own: Box<dyn Sorter>,
    },
}

impl Initiator {
    /// An initiator that will match `items`.
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
        let link = Link::new(params, Suite::DhRistrettoV1, Role::Initiator, items.len())?;
        let items = match link.params.context.computation {
            // Its rows are named at the end.
            Computation::List => items.into_set()?.into(),
            Computation::Cardinality | Computation::JoinSum => items,
        };
        let asker = Asker {
            elements: Elements::new(&link, items, seeds)?,
            link,
            sorters,
        };
        Ok(Self(Run::new(asker, State::Start)))
    }
}

impl role::Role for Asker {
    type State = State;
    type Link = Link;

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn need<'a>(&self, state: &'a State) -> Need<'a> {
        match state {
            State::Start
            | State::Blind { .. }
            | State::SendSorted { .. }
            | State::SendList { .. } => Need::Work,
            State::AwaitHello => Need::Frame("hello"),
            State::SealEnd => Need::Seal(Stage::InitiatorEnd, None),
            State::Points { .. } => Need::Frame("points"),
            State::Tags(_) => Need::Frame("tags or end"),
            State::CheckEnd { seal, .. } => Need::Check(Stage::ResponderEnd, None, seal),
            State::Closing(end) => end.need(),
        }
    }

    fn work(&mut self, state: State) -> Result<State, Error> {
        let total = self.link.own_count;
        Ok(match state {
            State::Start => {
                self.link.send_hello()?;
                State::AwaitHello
            }
            State::Blind { next, sorter } if next >= total => State::SendSorted {
                rows: sorter.finish()?,
                sent: 0,
                last: None,
            },
            State::Blind { next, mut sorter } => {
                let rows = self.elements.blind(&self.link, next)?;
                sorter.push(&rows)?;
                let next = next + rows.len() as u64;
                self.link.progress(Phase::Blind, next, total);
                State::Blind { next, sorter }
            }
            State::SendSorted {
                mut rows,
                mut sent,
                mut last,
            } => {
                let mut page = Vec::new();
                rows.next_rows(ROWS_PER_FRAME, &mut page)?;
                verify_ascending(&mut last, &page, sent).map_err(|_| Error::Internal {
                    what: "own points repeat",
                })?;
                sent += page.len() as u64;
                if page.is_empty() {
                    self.link.close_own()?;
                    State::SealEnd
                } else {
                    self.link.send(&Message::Points(page))?;
                    self.link.progress(Phase::Send, sent, total);
                    State::SendSorted { rows, sent, last }
                }
            }
            State::SendList { next } if next >= total => {
                self.link.close_own()?;
                State::SealEnd
            }
            State::SendList { next } => {
                let rows = self.elements.blind(&self.link, next)?;
                let next = next + rows.len() as u64;
                self.link.send(&Message::Points(rows))?;
                self.link.progress(Phase::Send, next, total);
                State::SendList { next }
            }
            _ => return Err(PASSED),
        })
    }

    fn take(&mut self, state: State, message: Message) -> Result<State, Error> {
        Ok(match (state, message) {
            (State::AwaitHello, Message::Hello(hello)) => {
                self.link.accept_hello(&hello)?;
                match self.link.params.context.computation {
                    Computation::List => State::SendList { next: 0 },
                    Computation::Cardinality | Computation::JoinSum => State::Blind {
                        next: 0,
                        sorter: self.sorters.sorter(self.link.own_count)?,
                    },
                }
            }
            (
                State::Points {
                    mut last,
                    mut sorter,
                },
                Message::Points(points),
            ) => {
                let done = self.link.received_points();
                let first = done - points.len() as u64;
                verify_ascending(&mut last, &points, first)?;
                sorter.push(&self.elements.raise_to_tags(&self.link, &points, first)?)?;
                self.link
                    .progress(Phase::Receive, done, self.link.peer_count);
                self.after_points(State::Points { last, sorter })?
            }
            (State::Tags(join), Message::Tags(bytes)) => {
                let rows = tag_rows(&bytes, self.link.tag_len())?;
                let first = self.link.received_tags() - rows.len() as u64;
                State::Tags(join.take(&rows, first)?)
            }
            (
                State::Tags(join),
                Message::End {
                    points,
                    tags,
                    digest,
                    seal,
                },
            ) => {
                self.link.close_peer(points, tags, &digest)?;
                State::CheckEnd { seal, join }
            }
            (State::Closing(end), message) => State::Closing(end.take(message)?),
            _ => return Err(PASSED),
        })
    }

    fn sealed(&mut self, state: State, seal: Vec<u8>) -> Result<State, Error> {
        match state {
            State::SealEnd => {
                self.link.send_end(seal)?;
                let points = State::Points {
                    last: None,
                    sorter: self.sorters.sorter(self.link.peer_count)?,
                };
                self.after_points(points)
            }
            State::Closing(end) => Ok(State::Closing(end.sealed(&mut self.link, seal)?)),
            _ => Err(PASSED),
        }
    }

    fn accepted(&mut self, state: State) -> Result<State, Error> {
        Ok(State::Closing(match state {
            State::CheckEnd { join, .. } => Asked::SealResult(self.result(join)?),
            State::Closing(end) => end.accepted(&self.link)?,
            _ => return Err(PASSED),
        }))
    }
}

impl Asker {
    /// Goes on to the tags once all points are in.
    fn after_points(&mut self, state: State) -> Result<State, Error> {
        let State::Points { last, sorter } = state else {
            return Ok(state);
        };
        if self.link.received_points() < self.link.peer_count {
            return Ok(State::Points { last, sorter });
        }
        let theirs = Cursor::new(sorter.finish()?);
        Ok(State::Tags(match self.link.params.context.computation {
            Computation::Cardinality | Computation::JoinSum => Join::Count {
                theirs,
                last: [0; 32],
                found: 0,
            },
            Computation::List => Join::Rows {
                theirs,
                own: self.sorters.sorter(self.link.own_count)?,
            },
        }))
    }

    /// The result: for a count, with both noises; the exact one is dropped here.
    fn result(&self, join: Join) -> Result<Held, Error> {
        match join {
            Join::Count { found, .. } => {
                let found = i64::try_from(found).map_err(|_| Error::Internal { what: "count" })?;
                let value = match &self.link.params.noise {
                    Noise::NoneInTestNetwork => found,
                    Noise::Laplace(p) => {
                        let mut rng = self.elements.seeds.noise(b"counter")?;
                        // `found` holds L of the responder's dummies, whose mean is B.
                        found - i64::from(p.bound) + sample_truncated_laplace(p, &mut rng)?
                    }
                };
                Ok(Held {
                    published: Some(value),
                    outcome: Outcome::Published { value },
                })
            }
            Join::Rows { mut theirs, own } => {
                let mut own = Cursor::new(own.finish()?);
                let mut rows = Vec::new();
                while let Some(row) = own.peek()? {
                    let (tag, index) = split(&row);
                    while theirs.peek()?.is_some_and(|t| t < tag) {
                        theirs.advance();
                    }
                    if theirs.peek()? == Some(tag) {
                        rows.push(
                            usize::try_from(index)
                                .ok()
                                .and_then(|i| self.elements.items.row(i))
                                .ok_or(Error::Internal { what: "row index" })?,
                        );
                    }
                    own.advance();
                }
                rows.sort_unstable();
                Ok(Held {
                    published: None,
                    outcome: Outcome::Matched { rows },
                })
            }
        }
    }
}

impl Join {
    fn take(self, rows: &[Row], first: u64) -> Result<Self, Error> {
        match self {
            Self::Count {
                mut theirs,
                mut last,
                mut found,
            } => {
                for (row, index) in rows.iter().zip(first..) {
                    // Equal tags are no error: with short tags and one long list they happen by chance.
                    if *row < last {
                        return Err(Error::Unsorted { what: "tag", index });
                    }
                    last = *row;
                    while theirs.peek()?.is_some_and(|t| t < *row) {
                        theirs.advance();
                    }
                    if theirs.peek()? == Some(*row) {
                        found += 1;
                        theirs.advance();
                    }
                }
                Ok(Self::Count {
                    theirs,
                    last,
                    found,
                })
            }
            Self::Rows { theirs, mut own } => {
                let rows: Vec<Row> = rows
                    .iter()
                    .zip(first..)
                    .map(|(tag, index)| join_row(tag, index))
                    .collect();
                own.push(&rows)?;
                Ok(Self::Rows { theirs, own })
            }
        }
    }
}

/// Tag (16 bytes, zeros behind a shorter one), 8 zeros, index.
fn join_row(tag: &Row, index: u64) -> Row {
    let mut row = *tag;
    if let Some(tail) = row.last_chunk_mut::<8>() {
        *tail = index.to_be_bytes();
    }
    row
}

fn split(row: &Row) -> (Row, u64) {
    let mut tag = *row;
    let mut index = 0;
    if let Some(tail) = tag.last_chunk_mut::<8>() {
        index = u64::from_be_bytes(*tail);
        *tail = [0; 8];
    }
    (tag, index)
}
