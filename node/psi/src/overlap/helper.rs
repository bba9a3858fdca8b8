//! The helper: it sees pseudonyms without their key, counts those that are in every list, and makes the count known with its noise.

use std::collections::VecDeque;

use rand_core::RngCore;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::machine::{
    MadeKnown, OverlapMachine, OverlapOutput, OverlapReport, OverlapStage, OverlapStatement, Peer,
};
use super::messages::{OverlapMessage, PSEUDONYM_BYTES};
use super::party::{misuse, unexpected};
use super::terms::{OverlapNoise, OverlapTerms};
use crate::Error;
use crate::link::verify_ascending;
use crate::machine::{Phase, Progress};
use crate::noise::sample_truncated_laplace;
use crate::seeds::Seeds;
use crate::sorter::{Cursor, Row, Sorter, SorterFactory};

/// What a party has sent.
struct List {
    count: u64,
    received: u64,
    last: Option<Row>,
    hash: Sha256,
    sorter: Box<dyn Sorter>,
    /// Once it is complete.
    digest: Option<[u8; 32]>,
    /// Whether its seal was accepted.
    accepted: bool,
}

enum State {
    /// Lists of the parties that have said hello.
    Hellos(Vec<Option<List>>),
    Receive(Vec<List>),
    CheckEnd {
        lists: Vec<List>,
        place: usize,
        seal: Vec<u8>,
    },
    Gate(Vec<List>),
    SealResult(OverlapStatement),
    Acks(Acks),
    CheckAck {
        acks: Acks,
        place: usize,
    },
    Done(Box<OverlapReport>),
    Spent,
}

struct Acks {
    statement: OverlapStatement,
    seals: Vec<Option<Vec<u8>>>,
    accepted: usize,
}

/// The helper of a run.
pub struct OverlapHelper {
    terms: OverlapTerms,
    digest: [u8; 32],
    seeds: Seeds,
    sorters: Box<dyn SorterFactory>,
    state: State,
    out: VecDeque<OverlapOutput>,
}

impl OverlapHelper {
    /// A helper under these terms; its seeds give its noise.
    ///
    /// # Errors
    /// [`Error::Overlap`] and [`Error::Noise`] for terms that are refused.
    pub fn new(
        terms: OverlapTerms,
        seeds: Seeds,
        sorters: Box<dyn SorterFactory>,
    ) -> Result<Self, Error> {
        terms.verify()?;
        let waiting = terms.parties.iter().map(|_| None).collect();
        Ok(Self {
            digest: terms.digest(),
            terms,
            seeds,
            sorters,
            state: State::Hellos(waiting),
            out: VecDeque::new(),
        })
    }

    fn expected(&self) -> &'static str {
        match &self.state {
            State::Hellos(_) => "hello",
            State::Receive(_) => "pseudonyms or end",
            State::Acks(_) => "ack",
            _ => "nothing",
        }
    }

    fn send_all(&mut self, message: &OverlapMessage) -> Result<(), Error> {
        let frame = Zeroizing::new(message.encode()?);
        for party in 0..self.terms.parties.len() {
            self.out.push_back(OverlapOutput::Send {
                to: Peer::Party(party),
                frame: frame.clone(),
            });
        }
        Ok(())
    }

    fn take(
        &mut self,
        state: State,
        place: usize,
        message: OverlapMessage,
        frame: &[u8],
    ) -> Result<State, Error> {
        let refuse = |found| Err(unexpected("another frame of this party", found));
        Ok(match (state, message) {
            (State::Hellos(mut lists), OverlapMessage::Hello { terms, count }) => {
                if terms != self.digest {
                    return Err(Error::Mismatch { what: "context" });
                }
                self.terms.verify_claim(count)?;
                match lists.get_mut(place) {
                    Some(slot @ None) => {
                        *slot = Some(List {
                            count,
                            received: 0,
                            last: None,
                            hash: Sha256::new(),
                            sorter: self.sorters.sorter(count)?,
                            digest: None,
                            accepted: false,
                        });
                    }
                    _ => return refuse("hello"),
                }
                if lists.iter().any(Option::is_none) {
                    return Ok(State::Hellos(lists));
                }
                let terms = self.digest;
                self.send_all(&OverlapMessage::Hello { terms, count: 0 })?;
                State::Receive(lists.into_iter().flatten().collect())
            }
            (State::Receive(mut lists), OverlapMessage::Pseudonyms(bytes)) => {
                let total = lists.iter().map(|l| l.count).sum();
                let list = lists
                    .get_mut(place)
                    .filter(|l| l.digest.is_none())
                    .ok_or(unexpected("end of the run", "pseudonyms"))?;
                let first = list.received;
                let (pseudonyms, _) = bytes.as_chunks::<PSEUDONYM_BYTES>();
                list.received += pseudonyms.len() as u64;
                if list.received > list.count {
                    return Err(counted("elements", list.count, list.received));
                }
                let rows: Vec<Row> = pseudonyms
                    .iter()
                    .map(|p| {
                        let mut row = [0; 32];
                        for (r, p) in row.iter_mut().zip(p) {
                            *r = *p;
                        }
                        row
                    })
                    .collect();
                verify_ascending(&mut list.last, &rows, first)?;
                list.hash.update(frame);
                list.sorter.push(&rows)?;
                let done = lists.iter().map(|l| l.received).sum();
                self.out.push_back(OverlapOutput::Progress(Progress {
                    phase: Phase::Receive,
                    done,
                    total,
                }));
                State::Receive(lists)
            }
            (
                State::Receive(mut lists),
                OverlapMessage::End {
                    count,
                    digest,
                    seal,
                },
            ) => {
                let list = lists
                    .get_mut(place)
                    .filter(|l| l.digest.is_none())
                    .ok_or(unexpected("end of the run", "end"))?;
                if list.received != list.count {
                    return Err(counted("elements", list.count, list.received));
                }
                if count != list.count {
                    return Err(counted("stated elements", list.count, count));
                }
                let found: [u8; 32] = std::mem::take(&mut list.hash).finalize().into();
                if found != digest {
                    return Err(Error::Digest { what: "party's" });
                }
                list.digest = Some(digest);
                State::CheckEnd { lists, place, seal }
            }
            (State::Acks(mut acks), OverlapMessage::Ack { seal }) => {
                match acks.seals.get_mut(place) {
                    Some(slot @ None) => *slot = Some(seal),
                    _ => return refuse("ack"),
                }
                State::CheckAck { acks, place }
            }
            (_, message) => return refuse(message.name()),
        })
    }

    /// The count with both noises; the one with the parties' alone is dropped here.
    fn count(&self, lists: Vec<List>) -> Result<State, Error> {
        let streams = ended(&lists)?;
        let mut cursors = Vec::new();
        for list in lists {
            cursors.push(Cursor::new(list.sorter.finish()?));
        }
        let found =
            i64::try_from(in_all(&mut cursors)?).map_err(|_| Error::Internal { what: "count" })?;
        let value = match &self.terms.noise {
            OverlapNoise::NoneInTestNetwork => found,
            OverlapNoise::Laplace { regions, published } => {
                let mut rng = self.seeds.noise(b"overlap helper")?;
                // `found` holds the dummies of the set of all parties, whose mean is B.
                found - i64::from(regions.bound) + sample_truncated_laplace(published, &mut rng)?
            }
        };
        let mut salt = [0; 32];
        self.seeds.draw(b"overlap salt")?.fill_bytes(&mut salt);
        Ok(State::SealResult(OverlapStatement {
            stage: OverlapStage::Result,
            terms: self.digest,
            streams,
            published: Some(MadeKnown {
                value: value.max(self.terms.floor()),
                salt,
            }),
        }))
    }
}

/// Counts and digests of lists that are all there.
fn ended(lists: &[List]) -> Result<Vec<(u64, [u8; 32])>, Error> {
    let each = lists.iter().map(|l| l.digest.map(|d| (l.count, d)));
    each.collect::<Option<_>>().ok_or(Error::Internal {
        what: "a list is open",
    })
}

/// How many rows are in every list; each ascends.
fn in_all(lists: &mut [Cursor]) -> Result<u64, Error> {
    let mut found = 0;
    'rows: loop {
        // No row below the highest head can be in all.
        let mut highest = [0; 32];
        for list in lists.iter_mut() {
            match list.peek()? {
                Some(row) => highest = highest.max(row),
                None => break 'rows,
            }
        }
        let mut all = true;
        for list in lists.iter_mut() {
            while list.peek()?.is_some_and(|row| row < highest) {
                list.advance();
            }
            all &= list.peek()? == Some(highest);
        }
        if all {
            found += 1;
            lists.iter_mut().for_each(Cursor::advance);
        }
    }
    Ok(found)
}

/// What a result's statement makes known.
fn known(statement: &OverlapStatement) -> Result<MadeKnown, Error> {
    statement.published.ok_or(Error::Internal {
        what: "a result without a count",
    })
}

const fn counted(what: &'static str, expected: u64, found: u64) -> Error {
    Error::Count {
        what,
        expected,
        found,
    }
}

impl OverlapMachine for OverlapHelper {
    fn poll(&mut self) -> Result<OverlapOutput, Error> {
        // What a failed machine had still to send says nothing to anybody.
        if matches!(self.state, State::Spent) {
            self.out.clear();
        }
        if let Some(out) = self.out.pop_front() {
            return Ok(out);
        }
        Ok(match &self.state {
            State::Hellos(_) | State::Receive(_) | State::Acks(_) => OverlapOutput::NeedFrame,
            State::CheckEnd { lists, place, seal } => {
                let list = lists.get(*place).and_then(|l| Some((l.count, l.digest?)));
                OverlapOutput::CheckSeal {
                    from: Peer::Party(*place),
                    statement: OverlapStatement {
                        stage: OverlapStage::End(*place),
                        terms: self.digest,
                        streams: list.into_iter().collect(),
                        published: None,
                    },
                    seal: seal.clone(),
                }
            }
            State::Gate(lists) => OverlapOutput::NeedRelease(ended(lists)?),
            State::SealResult(statement) => OverlapOutput::NeedSeal(statement.clone()),
            State::CheckAck { acks, place } => OverlapOutput::CheckSeal {
                from: Peer::Party(*place),
                statement: OverlapStatement {
                    stage: OverlapStage::Ack(*place),
                    ..acks.statement.clone()
                },
                seal: acks
                    .seals
                    .get(*place)
                    .cloned()
                    .flatten()
                    .unwrap_or_default(),
            },
            State::Done(report) => OverlapOutput::Done(report.clone()),
            State::Spent => {
                return Err(Error::State {
                    call: "poll",
                    state: "spent",
                });
            }
        })
    }

    fn input(&mut self, from: Peer, frame: &[u8]) -> Result<(), Error> {
        let message = match OverlapMessage::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                self.state = State::Spent;
                return Err(error);
            }
        };
        let expected = self.expected();
        let Peer::Party(place) = from else {
            self.state = State::Spent;
            return Err(unexpected(expected, message.name()));
        };
        if expected == "nothing" {
            self.state = State::Spent;
            return Err(unexpected(expected, message.name()));
        }
        let state = std::mem::replace(&mut self.state, State::Spent);
        self.state = self.take(state, place, message, frame)?;
        Ok(())
    }

    fn is_due(&self, from: Peer) -> bool {
        let Peer::Party(place) = from else {
            return false;
        };
        match &self.state {
            State::Acks(acks) | State::CheckAck { acks, .. } => {
                acks.seals.get(place).is_some_and(Option::is_none)
            }
            State::Done(_) => false,
            _ => true,
        }
    }

    fn input_end(&self) -> Error {
        Error::EarlyEnd {
            expected: self.expected(),
        }
    }

    fn seal(&mut self, seal: Vec<u8>) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Spent) {
            State::SealResult(statement) => {
                self.send_all(&OverlapMessage::Published {
                    known: known(&statement)?,
                    streams: statement.streams.clone(),
                    seal,
                })?;
                self.state = State::Acks(Acks {
                    seals: vec![None; statement.streams.len()],
                    accepted: 0,
                    statement,
                });
                Ok(())
            }
            other => {
                self.state = other;
                Err(misuse("seal"))
            }
        }
    }

    fn accept_seal(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Spent) {
            State::CheckEnd {
                mut lists, place, ..
            } => {
                if let Some(list) = lists.get_mut(place) {
                    list.accepted = true;
                }
                self.state = if lists.iter().all(|l| l.accepted) {
                    State::Gate(lists)
                } else {
                    State::Receive(lists)
                };
            }
            State::CheckAck { mut acks, .. } => {
                acks.accepted += 1;
                if acks.accepted < acks.seals.len() {
                    self.state = State::Acks(acks);
                } else {
                    self.send_all(&OverlapMessage::Final)?;
                    self.state = State::Done(Box::new(OverlapReport {
                        published: known(&acks.statement)?,
                        statement: acks.statement,
                        seals: acks.seals.into_iter().flatten().collect(),
                    }));
                }
            }
            other => {
                self.state = other;
                return Err(misuse("accept_seal"));
            }
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Spent) {
            State::Gate(lists) => {
                self.state = self.count(lists)?;
                Ok(())
            }
            other => {
                self.state = other;
                Err(misuse("release"))
            }
        }
    }
}
