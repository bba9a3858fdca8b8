//! A party: it brings a set, and learns the count.

use std::collections::VecDeque;

use hkdf::Hkdf;
use hkdf::hmac::{Hmac, Mac};
use rand_core::RngCore;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::machine::{
    MadeKnown, OverlapMachine, OverlapOutput, OverlapReport, OverlapStage, OverlapStatement, Peer,
};
use super::messages::{OverlapMessage, PSEUDONYM_BYTES};
use super::terms::{OverlapNoise, OverlapTerms};
use crate::Error;
use crate::link::verify_ascending;
use crate::machine::{Phase, Progress};
use crate::messages::ROWS_PER_FRAME;
use crate::noise::sample_truncated_laplace;
use crate::seeds::{SeedRng, Seeds};
use crate::sorter::{Row, SortedRows, Sorter, SorterFactory};
use crate::stream::Items;

/// Makes pseudonyms: HMAC-SHA-256 under the parties' key, cut. Cloned for each one; no Debug.
#[derive(Clone)]
struct Pseudonyms(Hmac<Sha256>);

impl Pseudonyms {
    /// Of the shares of all parties, in their order.
    fn new(shares: &[u8], terms: &[u8; 32]) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(terms), shares)
            .expand(b"tally/psi/overlap/v1/pseudonyms", key.as_mut())
            .map_err(|_| Error::Internal { what: "key length" })?;
        Hmac::new_from_slice(key.as_slice())
            .map(Self)
            .map_err(|_| Error::Internal { what: "key length" })
    }

    /// In the first bytes of a row, zeros behind.
    fn row(&self, parts: &[&[u8]]) -> Row {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        let mut row: Row = mac.finalize().into_bytes().into();
        if let Some(tail) = row.get_mut(PSEUDONYM_BYTES..) {
            tail.fill(0);
        }
        row
    }
}

/// The shares that this party knows so far, by place.
type Shares = Vec<Option<[Zeroizing<[u8; 32]>; 2]>>;

enum State {
    Start,
    Gather(Shares, bool),
    Blind {
        pseudonyms: Pseudonyms,
        next: u64,
        sorter: Box<dyn Sorter>,
        /// For each set of parties with a pool that this party is in: the set, and how many dummies the lists of those parties get.
        drawn: Vec<(u32, u32)>,
    },
    Fill {
        sorter: Box<dyn Sorter>,
        left: u64,
        rng: SeedRng,
    },
    Send {
        rows: Box<dyn SortedRows>,
        last: Option<Row>,
        sent: u64,
    },
    SealEnd,
    AwaitResult,
    CheckResult(Held),
    SealAck(Held),
    AwaitFinal(Held),
    Done(Box<OverlapReport>),
    Spent,
}

struct Held {
    statement: OverlapStatement,
    known: MadeKnown,
    seal: Vec<u8>,
}

/// A party of a run.
pub struct OverlapParty {
    terms: OverlapTerms,
    digest: [u8; 32],
    place: usize,
    items: Items,
    seeds: Seeds,
    sorters: Box<dyn SorterFactory>,
    count: u64,
    hash: Sha256,
    stream: [u8; 32],
    state: State,
    out: VecDeque<OverlapOutput>,
}

impl OverlapParty {
    /// The party at `place` of the terms, with its items, which may be a stream: their order does not matter.
    ///
    /// # Errors
    /// [`Error::Overlap`] and [`Error::Noise`] for terms that are refused, among them those without a helper; [`Error::TooLong`] for a
    /// set over the terms' bound.
    pub fn new(
        terms: OverlapTerms,
        place: usize,
        items: impl Into<Items>,
        seeds: Seeds,
        sorters: Box<dyn SorterFactory>,
    ) -> Result<Self, Error> {
        let items = items.into();
        terms.verify()?;
        if place >= terms.parties.len() {
            return Err(Error::Overlap {
                reason: "no such party",
            });
        }
        Ok(Self {
            digest: terms.digest(),
            count: terms.padded(items.len())?,
            terms,
            place,
            items,
            seeds,
            sorters,
            hash: Sha256::new(),
            stream: [0; 32],
            state: State::Start,
            out: VecDeque::new(),
        })
    }

    fn send(&mut self, to: Peer, message: &OverlapMessage) -> Result<(), Error> {
        let frame = Zeroizing::new(message.encode()?);
        if let OverlapMessage::Pseudonyms(_) = message {
            self.hash.update(frame.as_slice());
        }
        self.out.push_back(OverlapOutput::Send { to, frame });
        Ok(())
    }

    fn progress(&mut self, phase: Phase, done: u64) {
        self.out.push_back(OverlapOutput::Progress(Progress {
            phase,
            done,
            total: self.count,
        }));
    }

    fn expected(&self) -> &'static str {
        match &self.state {
            State::Gather(..) => "share or hello",
            State::AwaitResult => "published",
            State::AwaitFinal(_) => "final",
            _ => "nothing",
        }
    }

    fn own_statement(&self) -> OverlapStatement {
        OverlapStatement {
            stage: OverlapStage::End(self.place),
            terms: self.digest,
            streams: vec![(self.count, self.stream)],
            published: None,
        }
    }

    fn ack_statement(&self, held: &Held) -> OverlapStatement {
        OverlapStatement {
            stage: OverlapStage::Ack(self.place),
            ..held.statement.clone()
        }
    }

    fn open(&mut self) -> Result<State, Error> {
        let mut key = Zeroizing::new([0; 32]);
        self.seeds.draw(b"overlap share")?.fill_bytes(key.as_mut());
        let mut noise = Zeroizing::new([0; 32]);
        self.seeds.noise(b"overlap")?.fill_bytes(noise.as_mut());
        let share = OverlapMessage::Share {
            terms: self.digest,
            key: key.clone(),
            noise: noise.clone(),
        };
        let mut shares: Shares = vec![None; self.terms.parties.len()];
        for party in 0..shares.len() {
            if party != self.place {
                self.send(Peer::Party(party), &share)?;
            }
        }
        if let Some(own) = shares.get_mut(self.place) {
            *own = Some([key, noise]);
        }
        let (terms, count) = (self.digest, self.count);
        self.send(Peer::Helper, &OverlapMessage::Hello { terms, count })?;
        Ok(State::Gather(shares, false))
    }

    /// Goes on once all shares and the helper's hello are there.
    fn gathered(&mut self, shares: Shares, hello: bool) -> Result<State, Error> {
        if !hello || shares.iter().any(Option::is_none) {
            return Ok(State::Gather(shares, hello));
        }
        let mut parts = [
            Zeroizing::new(Vec::with_capacity(32 * shares.len())),
            Zeroizing::new(Vec::with_capacity(32 * shares.len())),
        ];
        for share in shares.iter().flatten() {
            for (part, share) in parts.iter_mut().zip(share) {
                part.extend_from_slice(share.as_slice());
            }
        }
        let [keys, noises] = &parts;
        Ok(State::Blind {
            pseudonyms: Pseudonyms::new(keys, &self.digest)?,
            next: 0,
            sorter: self.sorters.sorter(self.count)?,
            drawn: self.draw(noises)?,
        })
    }

    /// How many dummies each set of parties with this one gets: the same draw at every party, in the order of the sets.
    fn draw(&self, shares: &[u8]) -> Result<Vec<(u32, u32)>, Error> {
        let OverlapNoise::Laplace { regions, .. } = &self.terms.noise else {
            return Ok(Vec::new());
        };
        let mut seed = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, shares)
            .expand(b"tally/psi/overlap/v1/noise", seed.as_mut())
            .map_err(|_| Error::Internal { what: "key length" })?;
        let mut rng = SeedRng::new(&seed);
        let mut drawn = Vec::new();
        for set in self.terms.regions() {
            let dummies = i64::from(regions.bound) + sample_truncated_laplace(regions, &mut rng)?;
            let dummies = u32::try_from(dummies).map_err(|_| Error::Internal { what: "noise" })?;
            if set >> self.place & 1 == 1 {
                drawn.push((set, dummies));
            }
        }
        Ok(drawn)
    }

    fn work(&mut self, state: State) -> Result<State, Error> {
        Ok(match state {
            State::Start => self.open()?,
            State::Blind {
                pseudonyms,
                next,
                mut sorter,
                drawn,
            } if next < self.items.len() => {
                let rows = blind(&mut self.items, &pseudonyms, next)?;
                sorter.push(&rows)?;
                let next = next + rows.len() as u64;
                self.progress(Phase::Blind, next);
                State::Blind {
                    pseudonyms,
                    next,
                    sorter,
                    drawn,
                }
            }
            State::Blind {
                pseudonyms,
                next,
                mut sorter,
                drawn,
            } => {
                let mut left = self.count - next;
                for (set, dummies) in drawn {
                    let rows: Vec<Row> = (0..dummies)
                        .map(|i| pseudonyms.row(&[&[1], &set.to_be_bytes(), &i.to_be_bytes()]))
                        .collect();
                    sorter.push(&rows)?;
                    left = left.checked_sub(rows.len() as u64).ok_or(Error::Internal {
                        what: "more dummies than room",
                    })?;
                }
                State::Fill {
                    sorter,
                    left,
                    rng: self.seeds.draw(b"overlap filler")?,
                }
            }
            State::Fill {
                mut sorter,
                left,
                mut rng,
            } if left > 0 => {
                let n = left.min(ROWS_PER_FRAME as u64);
                let rows: Vec<Row> = (0..n)
                    .map(|_| {
                        let mut row = [0; 32];
                        if let Some(head) = row.get_mut(..PSEUDONYM_BYTES) {
                            rng.fill_bytes(head);
                        }
                        row
                    })
                    .collect();
                sorter.push(&rows)?;
                let left = left - n;
                self.progress(Phase::Blind, self.count - left);
                State::Fill { sorter, left, rng }
            }
            State::Fill { sorter, .. } => State::Send {
                rows: sorter.finish()?,
                last: None,
                sent: 0,
            },
            State::Send {
                mut rows,
                mut last,
                sent,
            } => {
                let mut page = Vec::new();
                rows.next_rows(ROWS_PER_FRAME, &mut page)?;
                if page.is_empty() {
                    if sent != self.count {
                        return Err(Error::Internal {
                            what: "own stream is short",
                        });
                    }
                    self.stream = std::mem::take(&mut self.hash).finalize().into();
                    return Ok(State::SealEnd);
                }
                verify_ascending(&mut last, &page, sent).map_err(|_| Error::Internal {
                    what: "own pseudonyms repeat",
                })?;
                let mut bytes = Vec::with_capacity(page.len() * PSEUDONYM_BYTES);
                for row in &page {
                    bytes.extend_from_slice(row.get(..PSEUDONYM_BYTES).unwrap_or_default());
                }
                self.send(Peer::Helper, &OverlapMessage::Pseudonyms(bytes))?;
                let sent = sent + page.len() as u64;
                self.progress(Phase::Send, sent);
                State::Send { rows, last, sent }
            }
            other => other,
        })
    }

    fn take(&mut self, state: State, from: Peer, message: OverlapMessage) -> Result<State, Error> {
        let expected = self.expected();
        let mine = |terms: &[u8; 32]| {
            if *terms == self.digest {
                Ok(())
            } else {
                Err(Error::Mismatch { what: "context" })
            }
        };
        Ok(match (state, from, message) {
            (
                State::Gather(mut shares, hello),
                Peer::Party(i),
                OverlapMessage::Share { terms, key, noise },
            ) => {
                mine(&terms)?;
                match shares.get_mut(i) {
                    Some(slot @ None) => *slot = Some([key, noise]),
                    _ => return Err(unexpected(expected, "share")),
                }
                self.gathered(shares, hello)?
            }
            (
                State::Gather(shares, false),
                Peer::Helper,
                OverlapMessage::Hello { terms, count: 0 },
            ) => {
                mine(&terms)?;
                self.gathered(shares, true)?
            }
            (
                State::AwaitResult,
                Peer::Helper,
                OverlapMessage::Published {
                    known,
                    streams,
                    seal,
                },
            ) => {
                if streams.len() != self.terms.parties.len()
                    || streams.get(self.place) != Some(&(self.count, self.stream))
                {
                    return Err(Error::Mismatch {
                        what: "statement of the lists",
                    });
                }
                if known.value < self.terms.floor() {
                    return Err(Error::Mismatch {
                        what: "count below the smallest result",
                    });
                }
                for (count, _) in &streams {
                    self.terms.verify_claim(*count)?;
                }
                State::CheckResult(Held {
                    statement: OverlapStatement {
                        stage: OverlapStage::Result,
                        terms: self.digest,
                        streams,
                        published: Some(known),
                    },
                    known,
                    seal,
                })
            }
            (State::AwaitFinal(held), Peer::Helper, OverlapMessage::Final) => {
                State::Done(Box::new(OverlapReport {
                    published: held.known,
                    statement: held.statement,
                    seals: vec![held.seal],
                }))
            }
            (_, _, message) => return Err(unexpected(expected, message.name())),
        })
    }
}

/// Pseudonyms of the items from `from` on, at most a frame of them.
fn blind(items: &mut Items, pseudonyms: &Pseudonyms, from: u64) -> Result<Vec<Row>, Error> {
    let left = usize::try_from(items.len().saturating_sub(from)).unwrap_or(usize::MAX);
    let count = left.min(ROWS_PER_FRAME);
    let page = items.page(from, count)?;
    (0..count)
        .into_par_iter()
        .with_min_len(256)
        .map(|i| {
            let (head, rest) = page.message(i).ok_or(Error::Internal {
                what: "element index",
            })?;
            Ok(pseudonyms.row(&[&head, rest]))
        })
        .collect()
}

pub(super) const fn unexpected(expected: &'static str, found: &'static str) -> Error {
    Error::UnexpectedMessage { expected, found }
}

impl OverlapMachine for OverlapParty {
    fn poll(&mut self) -> Result<OverlapOutput, Error> {
        // What a failed machine had still to send says nothing to anybody.
        if matches!(self.state, State::Spent) {
            self.out.clear();
        }
        loop {
            if let Some(out) = self.out.pop_front() {
                return Ok(out);
            }
            match &self.state {
                State::Start | State::Blind { .. } | State::Fill { .. } | State::Send { .. } => {
                    let state = std::mem::replace(&mut self.state, State::Spent);
                    self.state = self.work(state)?;
                }
                State::Gather(..) | State::AwaitResult | State::AwaitFinal(_) => {
                    return Ok(OverlapOutput::NeedFrame);
                }
                State::SealEnd => return Ok(OverlapOutput::NeedSeal(self.own_statement())),
                State::SealAck(held) => {
                    return Ok(OverlapOutput::NeedSeal(self.ack_statement(held)));
                }
                State::CheckResult(held) => {
                    return Ok(OverlapOutput::CheckSeal {
                        from: Peer::Helper,
                        statement: held.statement.clone(),
                        seal: held.seal.clone(),
                    });
                }
                State::Done(report) => return Ok(OverlapOutput::Done(report.clone())),
                State::Spent => {
                    return Err(Error::State {
                        call: "poll",
                        state: "spent",
                    });
                }
            }
        }
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
        if expected == "nothing" {
            self.state = State::Spent;
            return Err(unexpected(expected, message.name()));
        }
        // `take` names what was expected of the state as it was.
        let state = std::mem::replace(&mut self.state, State::Spent);
        self.state = self.take(state, from, message).map_err(|e| match e {
            Error::UnexpectedMessage { found, .. } => unexpected(expected, found),
            other => other,
        })?;
        Ok(())
    }

    fn is_due(&self, from: Peer) -> bool {
        match (&self.state, from) {
            (State::Done(_), _) => false,
            (_, Peer::Helper) | (State::Start, Peer::Party(_)) => true,
            (State::Gather(shares, _), Peer::Party(i)) => {
                shares.get(i).is_some_and(Option::is_none)
            }
            (_, Peer::Party(_)) => false,
        }
    }

    fn input_end(&self) -> Error {
        Error::EarlyEnd {
            expected: self.expected(),
        }
    }

    fn seal(&mut self, seal: Vec<u8>) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Spent) {
            State::SealEnd => {
                let (count, digest) = (self.count, self.stream);
                self.send(
                    Peer::Helper,
                    &OverlapMessage::End {
                        count,
                        digest,
                        seal,
                    },
                )?;
                self.state = State::AwaitResult;
            }
            State::SealAck(held) => {
                self.send(Peer::Helper, &OverlapMessage::Ack { seal })?;
                self.state = State::AwaitFinal(held);
            }
            other => {
                self.state = other;
                return Err(misuse("seal"));
            }
        }
        Ok(())
    }

    fn accept_seal(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Spent) {
            State::CheckResult(held) => {
                self.state = State::SealAck(held);
                Ok(())
            }
            other => {
                self.state = other;
                Err(misuse("accept_seal"))
            }
        }
    }

    fn release(&mut self) -> Result<(), Error> {
        Err(misuse("release"))
    }
}

pub(super) const fn misuse(call: &'static str) -> Error {
    Error::State {
        call,
        state: "something else is due",
    }
}
