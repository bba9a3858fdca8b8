//! The label side: it blinds its keys, adds up ciphertexts by group, and hands over one total a label.

use curve25519_dalek::ristretto::RistrettoPoint;
use zeroize::Zeroizing;

use super::cursor::GroupCursor;
use super::elgamal::{PublicKeys, add, add_weighted, decode_all, nothing};
use super::messages::SumMessage;
use super::session::{Session, count};
use super::set::LabelledSet;
use super::terms::SumParams;
use crate::Error;
use crate::expand::HashToGroup;
use crate::group::{Input, Key, tags};
use crate::machine::{Phase, Report, Stage};
use crate::messages::{Message, ROWS_PER_FRAME, Role, tag_rows};
use crate::role::{self, Need, PASSED, Run};
use crate::seeds::Seeds;
use crate::sorter::Row;

/// The label side of a private sum.
pub struct SumInitiator(Run<LabelSide>);

role::machine!(SumInitiator);

struct LabelSide {
    session: Session,
    hash: HashToGroup,
    key: Key,
    seeds: Seeds,
    set: LabelledSet,
}

enum State {
    Start,
    AwaitHello,
    Blind {
        group: usize,
        rows: Vec<Row>,
    },
    Send {
        group: usize,
        rows: Vec<Row>,
        sent: usize,
    },
    SealEnd,
    AwaitKeys,
    Tags {
        keys: PublicKeys,
        tags: Vec<u128>,
        cursor: GroupCursor,
    },
    Entries(Box<Sums>),
    CheckEnd {
        sums: Box<Sums>,
        seal: Vec<u8>,
    },
    SealTotals {
        points: Vec<Row>,
    },
    AwaitPublished,
    CheckPublished(Vec<u8>),
    SealAck(Vec<u8>),
    Done(Box<Report>),
}

/// What grows while the entries come in.
struct Sums {
    keys: PublicKeys,
    /// The tags of the own keys, ascending, each with its group in the lowest 16 bits.
    tags: Vec<u128>,
    /// The sum of each group, and one of all that matches nothing: every entry costs the same.
    groups: Vec<Vec<RistrettoPoint>>,
    last: Option<Row>,
    entries: u64,
}

/// A tag's leading bytes with a group below them. A tag has at most 14 bytes: 40 bits and those of two counts below 2^31.
pub(crate) fn tag_with_group(tag: &Row, group: usize) -> u128 {
    let head = tag
        .first_chunk::<16>()
        .map_or(0, |b| u128::from_be_bytes(*b));
    head & !0xffff | (group as u128 & 0xffff)
}

impl SumInitiator {
    /// The label side with its set.
    ///
    /// # Errors
    /// [`Error::Terms`], [`Error::Noise`], [`Error::SumRange`] and [`Error::Invalid`] for parameters that do not fit each other or
    /// the set.
    pub fn new(params: SumParams, set: LabelledSet, seeds: Seeds) -> Result<Self, Error> {
        let mut session = Session::new(params, Role::Initiator)?;
        session.groups = set.padded();
        count(
            "groups",
            session.terms.groups() as u64,
            session.groups.len() as u64,
        )?;
        let side = LabelSide {
            hash: HashToGroup::for_context(&session.context)?,
            key: seeds.key()?,
            session,
            seeds,
            set,
        };
        Ok(Self(Run::new(side, State::Start)))
    }
}

impl LabelSide {
    /// Row `at` of a group: its items, then all dummies of its pool, then fillers; `before` is how many rows are in the groups
    /// before it.
    fn element(&self, group: usize, at: usize, before: u64) -> Result<Input, Error> {
        let bug = Error::Internal { what: "a row" };
        let items = self.set.groups.get(group).ok_or_else(|| bug.clone())?;
        if let Some(item) = items.get(at) {
            let (head, rest) = self.set.items.message(*item as usize).ok_or(bug)?;
            return Ok(Input {
                head,
                head_len: 3,
                rest: Zeroizing::new(rest.to_vec()),
            });
        }
        let number = (at - items.len()) as u64;
        if number < self.session.terms.pool() {
            return dummy(group, number);
        }
        let index = u32::try_from(before + at as u64).map_err(|_| bug)?;
        Ok(filler(&self.seeds, index))
    }

    /// The rows of `group` from `from` on, at most a frame of them, blinded.
    fn blind(&self, group: usize, from: usize, size: u64, before: u64) -> Result<Vec<Row>, Error> {
        let left = usize::try_from(size).unwrap_or(usize::MAX) - from;
        self.key.blind(&self.hash, left.min(ROWS_PER_FRAME), |i| {
            self.element(group, from + i, before)
        })
    }

    /// Every entry is decoded and added somewhere, whether it matches or not: neither an error nor the time tells which do.
    fn take_entries(&mut self, sums: &mut Sums, rows: &[Row]) -> Result<(), Error> {
        let width = self.session.width();
        if !rows.len().is_multiple_of(width + 1) {
            return Err(Error::Invalid {
                what: "length of entries",
                found: rows.len() as u64,
            });
        }
        let first = sums.entries;
        let total = self.session.entry_rows();
        sums.entries += (rows.len() / (width + 1)) as u64;
        if sums.entries > total {
            return Err(Error::Count {
                what: "entries",
                expected: total,
                found: sums.entries,
            });
        }
        let mut points = Vec::with_capacity(rows.len() / (width + 1));
        let mut values = Vec::with_capacity(points.capacity() * width);
        for entry in rows.chunks_exact(width + 1) {
            if let Some((point, value)) = entry.split_first() {
                points.push(*point);
                values.extend_from_slice(value);
            }
        }
        crate::link::verify_ascending(&mut sums.last, &points, first)?;
        let values = decode_all(&values, first * width as u64)?;
        let raised = self.key.raise(&points, first)?;
        let raised = tags(&self.session.context, &raised, self.session.tag_len());
        let unmatched = self.session.terms.groups();
        for (tag, value) in raised.iter().zip(values.chunks_exact(width)) {
            let tag = tag_with_group(tag, 0);
            let place = sums.tags.partition_point(|t| *t < tag);
            let group = match sums.tags.get(place) {
                Some(found) if found >> 16 == tag >> 16 => {
                    usize::try_from(found & 0xffff).unwrap_or(unmatched)
                }
                _ => unmatched,
            };
            if let Some(sum) = sums.groups.get_mut(group) {
                add(sum, value);
            }
        }
        self.session.progress(Phase::Receive, sums.entries, total);
        Ok(())
    }

    /// One ciphertext a label: its groups by their weights, the own noise and the offset, under fresh randomness.
    fn totals(&self, sums: &Sums) -> Result<Vec<Row>, Error> {
        let terms = &self.session.terms;
        let mut noise = self.seeds.noise(b"sum/initiator")?;
        let mut randomness = self.seeds.draw(b"sum/totals")?;
        let mut points = Vec::new();
        let classes = terms.weights.len().max(1);
        for label in sums
            .groups
            .get(..terms.groups())
            .unwrap_or_default()
            .chunks(classes)
        {
            let mut added = Zeroizing::new(Vec::with_capacity(terms.quantities()));
            for q in 0..terms.quantities() {
                let drawn = terms.draw(q, &mut noise)?;
                added.push(
                    terms
                        .offset(q)
                        .checked_add_signed(drawn)
                        .ok_or(Error::Internal {
                            what: "noise below its bound",
                        })?,
                );
            }
            let mut total = sums.keys.encrypt(&added, &mut randomness);
            for (group, weight) in label.iter().zip(&terms.weights) {
                add_weighted(&mut total, group, *weight);
            }
            points.extend(total.iter().map(|p| p.compress().to_bytes()));
        }
        Ok(points)
    }

    /// Refuses sums that no run can give.
    fn verify_published(&self, sums: &[i64]) -> Result<(), Error> {
        let terms = &self.session.terms;
        count(
            "sums",
            (terms.minimum_people.len() * terms.quantities()) as u64,
            sums.len() as u64,
        )?;
        for (i, sum) in sums.iter().enumerate() {
            let q = i % terms.quantities().max(1);
            let bound = i128::from(terms.offset(q));
            let max = i128::from(terms.max_exponent(q, self.session.entries)?);
            if !(-2 * bound..=max).contains(&i128::from(*sum)) {
                return Err(Error::SumTotal { index: i as u64 });
            }
        }
        Ok(())
    }
}

/// Dummy `number` of a group's pool: 0x01, group, number.
pub(crate) fn dummy(group: usize, number: u64) -> Result<Input, Error> {
    let bug = |_| Error::Internal { what: "a dummy" };
    let mut rest = u16::try_from(group).map_err(bug)?.to_be_bytes().to_vec();
    rest.extend_from_slice(
        &u32::try_from(number)
            .map_err(|_| Error::Internal { what: "a dummy" })?
            .to_be_bytes(),
    );
    Ok(Input {
        head: [1, 0, 0],
        head_len: 1,
        rest: Zeroizing::new(rest),
    })
}

/// A private filler: 0x02, random bytes.
pub(crate) fn filler(seeds: &Seeds, index: u32) -> Input {
    Input {
        head: [2, 0, 0],
        head_len: 1,
        rest: seeds.filler(index),
    }
}

impl role::Role for LabelSide {
    type State = State;
    type Link = Session;

    fn link(&mut self) -> &mut Session {
        &mut self.session
    }

    fn need<'a>(&self, state: &'a State) -> Need<'a> {
        match state {
            State::Start | State::Blind { .. } | State::Send { .. } => Need::Work,
            State::AwaitHello => Need::Frame("hello"),
            State::AwaitKeys => Need::Frame("keys"),
            State::Tags { .. } => Need::Frame("tags"),
            State::Entries(_) => Need::Frame("entries or end"),
            State::AwaitPublished => Need::Frame("published"),
            State::SealEnd => Need::Seal(Stage::InitiatorEnd, None),
            State::SealTotals { .. } => Need::Seal(Stage::Totals, None),
            State::SealAck(_) => Need::Seal(Stage::Ack, None),
            State::CheckEnd { seal, .. } => Need::Check(Stage::ResponderEnd, None, seal),
            State::CheckPublished(seal) => Need::Check(Stage::Result, None, seal),
            State::Done(report) => Need::Done(report),
        }
    }

    fn work(&mut self, state: State) -> Result<State, Error> {
        Ok(match state {
            State::Start => {
                self.session.send_hello()?;
                State::AwaitHello
            }
            State::Blind { group, mut rows } => {
                let sizes = self.session.group_rows();
                let Some(size) = sizes.get(group).copied() else {
                    self.session.close_own();
                    return Ok(State::SealEnd);
                };
                let before: u64 = sizes.iter().take(group).sum();
                if (rows.len() as u64) < size {
                    let more = self.blind(group, rows.len(), size, before)?;
                    rows.extend_from_slice(&more);
                    let done = before + rows.len() as u64;
                    self.session
                        .progress(Phase::Blind, done, self.session.label_rows());
                    State::Blind { group, rows }
                } else {
                    // Sorted over the whole group, so that no order tells which row is which.
                    rows.sort_unstable();
                    State::Send {
                        group,
                        rows,
                        sent: 0,
                    }
                }
            }
            State::Send { group, rows, sent } => {
                let page = rows.get(sent..).unwrap_or_default();
                let page = page.get(..ROWS_PER_FRAME).unwrap_or(page);
                if page.is_empty() {
                    return Ok(State::Blind {
                        group: group + 1,
                        rows: Vec::new(),
                    });
                }
                self.session.send_shared(Message::Points(page.to_vec()))?;
                State::Send {
                    sent: sent + page.len(),
                    group,
                    rows,
                }
            }
            _ => return Err(PASSED),
        })
    }

    fn take(&mut self, state: State, message: SumMessage) -> Result<State, Error> {
        Ok(match (state, message) {
            (State::AwaitHello, SumMessage::Hello(hello)) => {
                self.session.accept_hello(hello)?;
                State::Blind {
                    group: 0,
                    rows: Vec::new(),
                }
            }
            (State::AwaitKeys, SumMessage::Keys(rows)) => State::Tags {
                keys: PublicKeys::decode(&rows, self.session.width() - 1)?,
                tags: Vec::new(),
                cursor: GroupCursor::new(self.session.group_rows()),
            },
            (
                State::Tags {
                    keys,
                    mut tags,
                    mut cursor,
                },
                SumMessage::Shared(Message::Tags(bytes)),
            ) => {
                for row in tag_rows(&bytes, self.session.tag_len())? {
                    let group = cursor.take(&row, "tag", true)?;
                    tags.push(tag_with_group(&row, group));
                }
                let total = self.session.label_rows();
                self.session.progress(Phase::Receive, cursor.rows(), total);
                if cursor.rows() < total {
                    return Ok(State::Tags { keys, tags, cursor });
                }
                tags.sort_unstable();
                let quantities = self.session.width() - 1;
                State::Entries(Box::new(Sums {
                    keys,
                    tags,
                    groups: vec![nothing(quantities); self.session.terms.groups() + 1],
                    last: None,
                    entries: 0,
                }))
            }
            (State::Entries(mut sums), SumMessage::Entries(rows)) => {
                self.take_entries(&mut sums, &rows)?;
                State::Entries(sums)
            }
            (
                State::Entries(sums),
                SumMessage::Shared(Message::End {
                    points,
                    tags,
                    digest,
                    seal,
                }),
            ) => {
                let due = [self.session.entry_rows(), self.session.label_rows()];
                count("entries", due[0], sums.entries)?;
                self.session.close_peer(due, [points, tags], &digest)?;
                State::CheckEnd { sums, seal }
            }
            (State::AwaitPublished, SumMessage::Published { sums, seal }) => {
                self.verify_published(&sums)?;
                self.session.published = Some(sums);
                State::CheckPublished(seal)
            }
            _ => return Err(PASSED),
        })
    }

    fn sealed(&mut self, state: State, seal: Vec<u8>) -> Result<State, Error> {
        Ok(match state {
            State::SealEnd => {
                let rows = self.session.label_rows();
                self.session.send_end(rows, 0, seal)?;
                State::AwaitKeys
            }
            State::SealTotals { points } => {
                self.session.send(&SumMessage::Totals { points, seal })?;
                State::AwaitPublished
            }
            State::SealAck(peer_seal) => {
                self.session.send_shared(Message::Ack { seal })?;
                State::Done(Box::new(self.session.report(peer_seal)))
            }
            _ => return Err(PASSED),
        })
    }

    fn accepted(&mut self, state: State) -> Result<State, Error> {
        Ok(match state {
            State::CheckEnd { sums, .. } => {
                let points = self.totals(&sums)?;
                self.session.bind_totals(&points);
                State::SealTotals { points }
            }
            State::CheckPublished(seal) => State::SealAck(seal),
            _ => return Err(PASSED),
        })
    }
}
