//! The value side: it blinds its keys, encrypts their values, and decrypts one total a label. Nothing that depends on its secrets
//! leaves before the initiator's stream is complete, its seal accepted and the release committed.

use zeroize::{Zeroize, Zeroizing};

use super::cursor::GroupCursor;
use super::discrete_log::solve;
use super::elgamal::{SecretKeys, decode_all};
use super::initiator::{dummy, filler, tag_with_group};
use super::messages::{ENTRIES_PER_FRAME, SumMessage};
use super::session::{Session, count};
use super::set::ValuedSet;
use super::terms::{SumNoise, SumParams};
use crate::Error;
use crate::expand::HashToGroup;
use crate::group::{Input, Key, tags};
use crate::machine::{Phase, Report, Stage};
use crate::messages::{Message, ROWS_PER_FRAME, Role};
use crate::noise::sample_truncated_laplace;
use crate::role::{self, Need, PASSED, Run};
use crate::seeds::{SeedRng, Seeds};
use crate::sorter::Row;

/// The value side of a private sum.
pub struct SumResponder(Run<ValueSide>);

role::machine!(SumResponder);

struct ValueSide {
    session: Session,
    hash: HashToGroup,
    key: Key,
    seeds: Seeds,
    set: ValuedSet,
    /// For each group, how many dummies this side has in it and in those before it.
    dummies: Zeroizing<Vec<u64>>,
}

/// What grows while the label side's keys come in.
struct Work {
    cursor: GroupCursor,
    /// Leading halves of the label side's points: none may come twice, not even in two groups.
    seen: Vec<u128>,
    /// Their tags, the group in the highest 16 bits.
    tags: Vec<u128>,
    /// The own rows blinded so far, each with its number.
    own: Vec<(Row, u32)>,
}

/// What waits behind the gate.
struct Ready {
    tags: Vec<u128>,
    own: Vec<(Row, u32)>,
    keys: SecretKeys,
    randomness: SeedRng,
    sent: usize,
}

enum State {
    AwaitHello,
    Receive(Work),
    CheckEnd {
        work: Work,
        seal: Vec<u8>,
    },
    Blind(Work),
    Gate(Box<Ready>),
    SendTags(Box<Ready>),
    SendEntries(Box<Ready>),
    SealEnd(SecretKeys),
    AwaitTotals(SecretKeys),
    CheckTotals {
        keys: SecretKeys,
        points: Vec<Row>,
        seal: Vec<u8>,
    },
    SealResult(Vec<i64>),
    AwaitAck,
    CheckAck(Vec<u8>),
    Done(Box<Report>),
}

impl SumResponder {
    /// The value side with its set.
    ///
    /// # Errors
    /// [`Error::Terms`], [`Error::Noise`], [`Error::SumRange`], [`Error::Invalid`] and [`Error::TooLong`] for parameters that do not
    /// fit each other or the set.
    pub fn new(params: SumParams, set: ValuedSet, seeds: Seeds) -> Result<Self, Error> {
        let mut session = Session::new(params, Role::Responder)?;
        let terms = &session.terms;
        let room = set.entries.saturating_mul(terms.rows_per_entry.into());
        for (what, found, max) in [
            ("entries", set.entries, terms.max_entries),
            ("rows of all entries", set.items.len() as u64, room),
        ] {
            if found > max {
                return Err(Error::TooLong { what, found, max });
            }
        }
        count(
            "values",
            (set.items.len() * terms.quantities()) as u64,
            set.values.len() as u64,
        )?;
        terms.verify_range(set.entries)?;
        let mut dummies = Zeroizing::new(vec![0; terms.groups()]);
        if let SumNoise::Laplace { matches, .. } = &terms.noise {
            let mut rng = seeds.noise(b"sum/pool")?;
            let mut before = 0;
            for place in dummies.iter_mut() {
                let drawn = i64::from(matches.bound) + sample_truncated_laplace(matches, &mut rng)?;
                before += u64::try_from(drawn).map_err(|_| Error::Internal { what: "noise" })?;
                *place = before;
            }
        }
        session.entries = set.entries;
        let side = ValueSide {
            hash: HashToGroup::for_context(&session.context)?,
            key: seeds.key()?,
            session,
            seeds,
            set,
            dummies,
        };
        Ok(Self(Run::new(side, State::AwaitHello)))
    }
}

impl ValueSide {
    /// Row `index`: items, then this side's dummies, then fillers.
    fn element(&self, index: usize) -> Result<Input, Error> {
        let bug = Error::Internal { what: "a row" };
        if let Some((head, rest)) = self.set.items.message(index) {
            return Ok(Input {
                head,
                head_len: 3,
                rest: Zeroizing::new(rest.to_vec()),
            });
        }
        let number = (index - self.set.items.len()) as u64;
        let group = self.dummies.partition_point(|end| *end <= number);
        if group < self.dummies.len() {
            let before = group
                .checked_sub(1)
                .and_then(|g| self.dummies.get(g))
                .copied()
                .unwrap_or(0);
            return dummy(group, number - before);
        }
        Ok(filler(&self.seeds, u32::try_from(index).map_err(|_| bug)?))
    }

    fn blind_some(&mut self, work: &mut Work) -> Result<(), Error> {
        let from = work.own.len();
        let total = self.session.entry_rows();
        let left = usize::try_from(total).unwrap_or(usize::MAX) - from;
        if left == 0 {
            return Ok(());
        }
        let rows = self.key.blind(&self.hash, left.min(ROWS_PER_FRAME), |i| {
            self.element(from + i)
        })?;
        let first = u32::try_from(from).map_err(|_| Error::Internal { what: "a row" })?;
        work.own.extend(rows.into_iter().zip(first..));
        self.session
            .progress(Phase::Blind, work.own.len() as u64, total);
        Ok(())
    }

    fn take_points(&mut self, work: &mut Work, points: &[Row]) -> Result<(), Error> {
        let first = work.cursor.rows();
        let groups = points
            .iter()
            .map(|row| work.cursor.take(row, "element", false))
            .collect::<Result<Vec<_>, Error>>()?;
        work.seen
            .extend(points.iter().map(|row| tag_with_group(row, 0)));
        let raised = self.key.raise(points, first)?;
        let raised = tags(&self.session.context, &raised, self.session.tag_len());
        work.tags.extend(
            raised
                .iter()
                .zip(groups)
                .map(|(tag, group)| tag_with_group(tag, 0) >> 16 | (group as u128) << 112),
        );
        self.session.progress(
            Phase::Receive,
            work.cursor.rows(),
            self.session.label_rows(),
        );
        // The own side's share, so that neither waits for the other at the end.
        self.blind_some(work)
    }

    fn gate(&self, work: Work) -> Result<Box<Ready>, Error> {
        let Work {
            mut seen,
            mut tags,
            mut own,
            ..
        } = work;
        seen.sort_unstable();
        if let Some(index) = seen.windows(2).position(|w| w[0] == w[1]) {
            return Err(Error::Duplicate {
                index: index as u64,
            });
        }
        // Within a group by their bytes: their order tells nothing of the order that they came in.
        tags.sort_unstable();
        own.sort_unstable();
        Ok(Box::new(Ready {
            tags,
            own,
            keys: SecretKeys::draw(
                self.session.terms.quantities(),
                &mut self.seeds.draw(b"sum/keys")?,
            )?,
            randomness: self.seeds.draw(b"sum/values")?,
            sent: 0,
        }))
    }

    /// The sums with both noises; what was decrypted, with the first noise alone, is dropped here.
    fn sums(&self, keys: &SecretKeys, points: &[Row]) -> Result<Vec<i64>, Error> {
        let terms = &self.session.terms;
        let points = decode_all(points, 0)?;
        let mut halves = Vec::new();
        let mut max = Vec::new();
        for total in points.chunks_exact(self.session.width()) {
            halves.extend(keys.decrypt_halves(total)?);
            for q in 0..terms.quantities() {
                max.push(terms.max_exponent(q, self.session.entries)?);
            }
        }
        let mut exponents = Zeroizing::new(solve(&halves, &max)?);
        let mut rng = self.seeds.noise(b"sum/responder")?;
        let mut sums = Vec::with_capacity(exponents.len());
        for (i, exponent) in exponents.iter().enumerate() {
            let q = i % terms.quantities().max(1);
            let exponent = exponent.ok_or(Error::SumTotal { index: i as u64 })?;
            let bug = |_| Error::Internal { what: "a sum" };
            let noised = i64::try_from(exponent).map_err(bug)?
                - i64::try_from(terms.offset(q)).map_err(bug)?;
            sums.push(noised + terms.draw(q, &mut rng)?);
        }
        exponents.zeroize();
        Ok(sums)
    }
}

impl role::Role for ValueSide {
    type State = State;
    type Link = Session;

    fn link(&mut self) -> &mut Session {
        &mut self.session
    }

    fn need<'a>(&self, state: &'a State) -> Need<'a> {
        match state {
            State::Blind(_) | State::SendTags(_) | State::SendEntries(_) => Need::Work,
            State::AwaitHello => Need::Frame("hello"),
            State::Receive(_) => Need::Frame("points or end"),
            State::AwaitTotals(_) => Need::Frame("totals"),
            State::AwaitAck => Need::Frame("ack"),
            State::CheckEnd { seal, .. } => Need::Check(Stage::InitiatorEnd, None, seal),
            State::CheckTotals { seal, .. } => Need::Check(Stage::Totals, None, seal),
            State::CheckAck(seal) => Need::Check(Stage::Ack, None, seal),
            State::Gate(_) => Need::Release,
            State::SealEnd(_) => Need::Seal(Stage::ResponderEnd, None),
            State::SealResult(_) => Need::Seal(Stage::Result, None),
            State::Done(report) => Need::Done(report),
        }
    }

    fn work(&mut self, state: State) -> Result<State, Error> {
        Ok(match state {
            State::Blind(mut work) if (work.own.len() as u64) < self.session.entry_rows() => {
                self.blind_some(&mut work)?;
                State::Blind(work)
            }
            State::Blind(work) => State::Gate(self.gate(work)?),
            State::SendTags(mut ready) => {
                let page = ready.tags.get(ready.sent..).unwrap_or_default();
                let page = page.get(..ROWS_PER_FRAME).unwrap_or(page);
                if page.is_empty() {
                    ready.tags = Vec::new();
                    ready.sent = 0;
                    return Ok(State::SendEntries(ready));
                }
                let len = self.session.tag_len();
                let mut bytes = Vec::with_capacity(page.len() * len);
                for tag in page {
                    let tag = (tag << 16).to_be_bytes();
                    bytes.extend_from_slice(tag.get(..len).unwrap_or_default());
                }
                ready.sent += page.len();
                self.session.send_shared(Message::Tags(bytes))?;
                State::SendTags(ready)
            }
            State::SendEntries(mut ready) => {
                let page = ready.own.get(ready.sent..).unwrap_or_default();
                let page = page.get(..ENTRIES_PER_FRAME).unwrap_or(page);
                if page.is_empty() {
                    self.session.close_own();
                    return Ok(State::SealEnd(ready.keys));
                }
                let quantities = self.session.terms.quantities();
                let zeros = vec![0; quantities];
                let values: Vec<&[u64]> = page
                    .iter()
                    .map(
                        |(_, index)| match self.set.values(*index as usize, quantities) {
                            [] => zeros.as_slice(),
                            values => values,
                        },
                    )
                    .collect();
                let encrypted = ready.keys.encrypt(&values, &mut ready.randomness)?;
                let mut rows = Vec::with_capacity(page.len() * (quantities + 2));
                for ((row, _), value) in page.iter().zip(encrypted.chunks_exact(quantities + 1)) {
                    rows.push(*row);
                    rows.extend_from_slice(value);
                }
                ready.sent += page.len();
                let done = ready.sent as u64;
                self.session.send(&SumMessage::Entries(rows))?;
                self.session
                    .progress(Phase::Send, done, self.session.entry_rows());
                State::SendEntries(ready)
            }
            _ => return Err(PASSED),
        })
    }

    fn take(&mut self, state: State, message: SumMessage) -> Result<State, Error> {
        Ok(match (state, message) {
            (State::AwaitHello, SumMessage::Hello(hello)) => {
                self.session.accept_hello(hello)?;
                self.session.send_hello()?;
                State::Receive(Work {
                    cursor: GroupCursor::new(self.session.group_rows()),
                    seen: Vec::new(),
                    tags: Vec::new(),
                    own: Vec::new(),
                })
            }
            (State::Receive(mut work), SumMessage::Shared(Message::Points(points))) => {
                self.take_points(&mut work, &points)?;
                State::Receive(work)
            }
            (
                State::Receive(work),
                SumMessage::Shared(Message::End {
                    points,
                    tags,
                    digest,
                    seal,
                }),
            ) => {
                let due = self.session.label_rows();
                count("elements", due, work.cursor.rows())?;
                self.session.close_peer([due, 0], [points, tags], &digest)?;
                State::CheckEnd { work, seal }
            }
            (State::AwaitTotals(keys), SumMessage::Totals { points, seal }) => {
                let labels = self.session.terms.minimum_people.len();
                count(
                    "points of totals",
                    (labels * self.session.width()) as u64,
                    points.len() as u64,
                )?;
                self.session.bind_totals(&points);
                State::CheckTotals { keys, points, seal }
            }
            (State::AwaitAck, SumMessage::Shared(Message::Ack { seal })) => State::CheckAck(seal),
            _ => return Err(PASSED),
        })
    }

    fn sealed(&mut self, state: State, seal: Vec<u8>) -> Result<State, Error> {
        Ok(match state {
            State::SealEnd(keys) => {
                let (points, tags) = (self.session.entry_rows(), self.session.label_rows());
                self.session.send_end(points, tags, seal)?;
                State::AwaitTotals(keys)
            }
            State::SealResult(sums) => {
                self.session.send(&SumMessage::Published { sums, seal })?;
                State::AwaitAck
            }
            _ => return Err(PASSED),
        })
    }

    fn accepted(&mut self, state: State) -> Result<State, Error> {
        Ok(match state {
            State::CheckEnd { work, .. } => State::Blind(work),
            State::CheckTotals { keys, points, .. } => {
                let sums = self.sums(&keys, &points)?;
                self.session.published = Some(sums.clone());
                State::SealResult(sums)
            }
            State::CheckAck(seal) => State::Done(Box::new(self.session.report(seal))),
            _ => return Err(PASSED),
        })
    }

    fn released(&mut self, state: State) -> Result<State, Error> {
        let State::Gate(ready) = state else {
            return Err(PASSED);
        };
        self.session.send(&SumMessage::Keys(ready.keys.public()))?;
        Ok(State::SendTags(ready))
    }
}
