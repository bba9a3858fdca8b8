//! The side that asks: it sends its blinded set, gets it back as tags with the responder's set, and counts.

use crate::Error;
use crate::context::{Computation, Suite};
use crate::elements::Elements;
use crate::item::ItemSet;
use crate::link::{Link, verify_ascending};
use crate::machine::{Machine, Outcome, Output, Phase, Report, Stage, Statement};
use crate::messages::{Message, ROWS_PER_FRAME, Role, tag_rows};
use crate::noise::sample_truncated_laplace;
use crate::params::{Noise, Params};
use crate::seeds::Seeds;
use crate::sorter::{Cursor, Row, SortedRows, Sorter, SorterFactory};

/// The initiator of a run.
pub struct Initiator {
    link: Link,
    elements: Elements,
    sorters: Box<dyn SorterFactory>,
    state: State,
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
    SealResult(Held),
    AwaitAck(Held),
    CheckAck {
        held: Held,
        seal: Vec<u8>,
    },
    Done(Box<Report>),
    Spent,
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

/// What the initiator will report once the responder has its due.
struct Held {
    published: Option<i64>,
    outcome: Outcome,
}

impl Initiator {
    /// An initiator that will match `set`.
    ///
    /// # Errors
    /// [`Error::Noise`], [`Error::Invalid`] and [`Error::TooLong`] for parameters that do not fit each other.
    pub fn new(
        params: Params,
        set: ItemSet,
        seeds: Seeds,
        sorters: Box<dyn SorterFactory>,
    ) -> Result<Self, Error> {
        let link = Link::new(params, Suite::DhRistrettoV1, Role::Initiator, &set)?;
        Ok(Self {
            elements: Elements::new(&link, set, seeds)?,
            link,
            sorters,
            state: State::Start,
        })
    }

    /// One unit of work of a state that needs nothing from outside; the state it leads to.
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
            other => other,
        })
    }

    fn take(&mut self, message: Message, state: State) -> Result<State, Error> {
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
            (State::AwaitAck(held), Message::Ack { seal }) => State::CheckAck { held, seal },
            _ => {
                return Err(Error::Internal {
                    what: "message passed a state that does not take it",
                });
            }
        })
    }

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
                                .and_then(|i| self.elements.set.row(i))
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

    fn expected(&self) -> &'static str {
        match &self.state {
            State::AwaitHello => "hello",
            State::Points { .. } => "points",
            State::Tags(_) => "tags or end",
            State::AwaitAck(_) => "ack",
            _ => "nothing",
        }
    }

    fn misuse<T>(&self, call: &'static str) -> Result<T, Error> {
        Err(Error::State {
            call,
            state: match &self.state {
                State::Start | State::AwaitHello => "opening",
                State::Blind { .. } | State::SendSorted { .. } | State::SendList { .. } => {
                    "sending"
                }
                State::Points { .. } | State::Tags(_) => "receiving",
                State::SealEnd | State::SealResult(_) => "a seal is due",
                State::CheckEnd { .. } | State::CheckAck { .. } => "a seal is to be checked",
                State::AwaitAck(_) => "waiting for the ack",
                State::Done(_) => "done",
                State::Spent => "spent",
            },
        })
    }

    fn ack_statement(&self, held: &Held) -> Statement {
        self.link.statement(Stage::Ack, held.published)
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

impl Machine for Initiator {
    fn poll(&mut self) -> Result<Output, Error> {
        loop {
            if let Some(output) = self.link.next_output() {
                return Ok(output);
            }
            match &self.state {
                State::AwaitHello | State::Points { .. } | State::Tags(_) | State::AwaitAck(_) => {
                    return Ok(Output::NeedFrame);
                }
                State::SealEnd => {
                    return Ok(Output::NeedSeal(
                        self.link.statement(Stage::InitiatorEnd, None),
                    ));
                }
                State::CheckEnd { seal, .. } => {
                    return Ok(Output::CheckSeal {
                        statement: self.link.statement(Stage::ResponderEnd, None),
                        seal: seal.clone(),
                    });
                }
                State::SealResult(held) => {
                    return Ok(Output::NeedSeal(
                        self.link.statement(Stage::Result, held.published),
                    ));
                }
                State::CheckAck { held, seal } => {
                    return Ok(Output::CheckSeal {
                        statement: self.ack_statement(held),
                        seal: seal.clone(),
                    });
                }
                State::Done(report) => return Ok(Output::Done(report.clone())),
                State::Spent => return self.misuse("poll"),
                State::Start
                | State::Blind { .. }
                | State::SendSorted { .. }
                | State::SendList { .. } => {
                    let state = std::mem::replace(&mut self.state, State::Spent);
                    self.state = self.work(state)?;
                }
            }
        }
    }

    fn input(&mut self, frame: &[u8]) -> Result<(), Error> {
        let expected = self.expected();
        let state = std::mem::replace(&mut self.state, State::Spent);
        let message = self.link.receive(frame, expected)?;
        self.state = self.take(message, state)?;
        Ok(())
    }

    fn input_end(&self) -> Error {
        Error::EarlyEnd {
            expected: self.expected(),
        }
    }

    fn seal(&mut self, seal: Vec<u8>) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Spent) {
            State::SealEnd => {
                self.link.send_end(seal)?;
                let points = State::Points {
                    last: None,
                    sorter: self.sorters.sorter(self.link.peer_count)?,
                };
                self.state = self.after_points(points)?;
            }
            State::SealResult(held) => {
                self.link.send(&Message::Result {
                    published: held.published,
                    seal,
                })?;
                self.state = State::AwaitAck(held);
            }
            other => {
                self.state = other;
                return self.misuse("seal");
            }
        }
        Ok(())
    }

    fn accept_seal(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Spent) {
            State::CheckEnd { join, .. } => self.state = State::SealResult(self.result(join)?),
            State::CheckAck { held, seal } => {
                self.state = State::Done(Box::new(Report {
                    statement: self.ack_statement(&held),
                    outcome: held.outcome,
                    peer_seal: seal,
                }));
            }
            other => {
                self.state = other;
                return self.misuse("accept_seal");
            }
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), Error> {
        self.misuse("release")
    }
}
