//! The side that asks: it encodes its set, masks it with its half of the correlation, and finds its rows among the responder's tags.

use rand_core::RngCore as _;
use zeroize::Zeroizing;

use super::base_transfer::{BaseSender, BaseTransfer};
use super::checks::TreeShare;
use super::correlation::{InitiatorCorrelation, to_bytes};
use super::hashes::{Checked, Oracles};
use super::params::{StoreShape, VoleShape, parameter_set};
use super::store::Rows;
use super::tags::{OwnTags, Tagging};
use crate::Error;
use crate::context::Suite;
use crate::expand::HashToGroup;
use crate::item::ItemSet;
use crate::link::Link;
use crate::machine::{Machine, Outcome, Output, Phase, Report, Stage};
use crate::messages::{MASKED_BYTES, MAX_PAYLOAD_BYTES, Message, Role};
use crate::params::Params;
use crate::seeds::Seeds;
use crate::simd::Kernels;

/// Elements of the masked store in a frame.
const FRAME_ELEMENTS: usize = MAX_PAYLOAD_BYTES / MASKED_BYTES;

/// The initiator of a run under [`Suite::VoleRr22V1`] or [`Suite::VoleRr22MaliciousV1`].
pub struct VoleInitiator {
    link: Link,
    seeds: Seeds,
    kernels: Kernels,
    state: State,
}

/// What the whole run needs, once both counts are known.
struct Session {
    oracles: Oracles,
    rows: Rows,
    shape: VoleShape,
    /// The own part of the coin, where the suite tosses one.
    coin: Option<u128>,
    /// The responder's commitment to its part, once it has come.
    commitment: Option<[u8; 32]>,
}

/// The own items, and what the correlation gave for them.
struct Correlated {
    session: Box<Session>,
    items: Items,
    c: Zeroizing<Vec<u128>>,
}

/// The own items as hashes.
struct Items {
    /// Key and value of each.
    pairs: Zeroizing<Vec<(u128, u128)>>,
    /// Their places in the store's order.
    order: Vec<u32>,
    /// The row of each.
    rows: Vec<u32>,
}

enum State {
    Start(ItemSet),
    AwaitHello(ItemSet),
    AwaitChoices {
        set: ItemSet,
        session: Box<Session>,
        sender: BaseSender,
    },
    SendCorrections {
        set: ItemSet,
        session: Box<Session>,
        correlation: Box<InitiatorCorrelation>,
        bytes: Vec<u8>,
        sent: usize,
    },
    /// The set is encoded while the responder expands its half.
    Encode {
        set: ItemSet,
        session: Box<Session>,
        correlation: Box<InitiatorCorrelation>,
    },
    AwaitSums {
        session: Box<Session>,
        correlation: Box<InitiatorCorrelation>,
        items: Items,
        store: Zeroizing<Vec<u128>>,
        sums: Vec<u8>,
    },
    Correlate {
        session: Box<Session>,
        correlation: Box<InitiatorCorrelation>,
        items: Items,
        store: Zeroizing<Vec<u128>>,
        sums: Vec<u8>,
    },
    /// Nothing leaves that depends on the sums before the responder has shown that they are right.
    AwaitAnswer {
        done: Correlated,
        masked: Zeroizing<Vec<u128>>,
        shares: Vec<TreeShare>,
    },
    SendMasked {
        done: Correlated,
        masked: Zeroizing<Vec<u128>>,
        sent: usize,
    },
    SealEnd(Correlated),
    AwaitCoin(Correlated),
    /// The own tags are made while the responder makes its own.
    OwnTags {
        done: Correlated,
        coin: Option<u128>,
    },
    Tags(Join),
    CheckEnd {
        found: Vec<u64>,
        seal: Vec<u8>,
    },
    SealResult(Vec<u64>),
    AwaitAck(Vec<u64>),
    CheckAck {
        found: Vec<u64>,
        seal: Vec<u8>,
    },
    Done(Box<Report>),
    Spent,
}

/// The own tags against the responder's as they come.
struct Join {
    own: OwnTags,
    last: u128,
    rows: Vec<u32>,
    found: Vec<u64>,
}

impl VoleInitiator {
    /// An initiator that will match `set`.
    ///
    /// # Errors
    /// [`Error::Noise`], [`Error::Invalid`] and [`Error::TooLong`] for parameters that do not fit each other.
    pub fn new(params: Params, set: ItemSet, seeds: Seeds) -> Result<Self, Error> {
        let suite = match params.context.suite {
            suite if suite.is_vole() => suite,
            _ => Suite::VoleRr22V1,
        };
        Ok(Self {
            link: Link::new(params, suite, Role::Initiator, &set)?,
            seeds,
            kernels: Kernels::detect(),
            state: State::Start(set),
        })
    }

    fn draw(&self, name: &[u8]) -> Result<u128, Error> {
        self.seeds.draw_word(name)
    }

    /// One unit of work of a state that needs nothing from outside; the state it leads to.
    fn work(&mut self, state: State) -> Result<State, Error> {
        Ok(match state {
            State::Start(set) => {
                self.link.send_hello()?;
                State::AwaitHello(set)
            }
            State::SendCorrections {
                set,
                session,
                correlation,
                bytes,
                sent,
            } => {
                let frame = bytes.get(sent..).unwrap_or_default();
                let frame = frame.get(..MAX_PAYLOAD_BYTES).unwrap_or(frame);
                if frame.is_empty() {
                    return Ok(State::Encode {
                        set,
                        session,
                        correlation,
                    });
                }
                self.link.send(&Message::Corrections(frame.to_vec()))?;
                let sent = sent + frame.len();
                State::SendCorrections {
                    set,
                    session,
                    correlation,
                    bytes,
                    sent,
                }
            }
            State::Encode {
                set,
                session,
                correlation,
            } => {
                let pairs = Zeroizing::new(session.oracles.items(&set)?);
                let order = session.rows.order(&pairs, |p| p.0);
                let free = Zeroizing::new(self.draw(b"free columns")?);
                let store = session.rows.encode(&pairs, &order, *free)?;
                let count = self.link.own_count;
                self.link.progress(Phase::Blind, count, count);
                State::AwaitSums {
                    session,
                    correlation,
                    items: Items {
                        pairs,
                        order,
                        rows: set.into_rows(),
                    },
                    store: Zeroizing::new(store),
                    sums: Vec::new(),
                }
            }
            State::Correlate {
                session,
                correlation,
                items,
                store,
                sums,
            } => {
                let mut masked = store;
                let (c, shares) = correlation.finish(&session.oracles, &sums, &mut masked)?;
                let done = Correlated { session, items, c };
                let Some(coin) = done.session.coin else {
                    return Ok(State::SendMasked {
                        done,
                        masked,
                        sent: 0,
                    });
                };
                masked.push(coin);
                let shown: Vec<u128> = shares.iter().map(|s| s.shown).collect();
                let mut bytes = Vec::new();
                to_bytes(&shown, &mut bytes);
                self.link.send(&Message::Check(bytes))?;
                State::AwaitAnswer {
                    done,
                    masked,
                    shares,
                }
            }
            State::SendMasked { done, masked, sent } => {
                let frame = masked.get(sent..).unwrap_or_default();
                let frame = frame.get(..FRAME_ELEMENTS).unwrap_or(frame);
                if frame.is_empty() {
                    self.link.close_own()?;
                    return Ok(State::SealEnd(done));
                }
                let mut bytes = Vec::new();
                to_bytes(frame, &mut bytes);
                self.link.send(&Message::Masked(bytes))?;
                let sent = sent + frame.len();
                self.link
                    .progress(Phase::Send, sent as u64, masked.len() as u64);
                State::SendMasked { done, masked, sent }
            }
            State::OwnTags { done, coin } => {
                let Correlated { session, items, c } = done;
                let tagging = Tagging {
                    kernels: self.kernels,
                    oracles: &session.oracles,
                    rows: &session.rows,
                    coin,
                };
                let tags = tagging.tags(&items.pairs, &items.order, &c, 0);
                State::Tags(Join {
                    own: OwnTags::new(tags, &items.order, self.link.tag_len())?,
                    last: 0,
                    rows: items.rows,
                    found: Vec::new(),
                })
            }
            other => other,
        })
    }

    fn take(&mut self, message: Message, state: State) -> Result<State, Error> {
        Ok(match (state, message) {
            (State::AwaitHello(set), Message::Hello(hello)) => {
                self.link.accept_hello(&hello)?;
                let store = StoreShape::of(self.link.own_count)?;
                let mut salt = [0; 16];
                self.seeds.draw(b"salt")?.fill_bytes(&mut salt);
                let oracles = Oracles::new(&self.link.context, u128::from_le_bytes(salt));
                let sender = BaseSender::new(&mut self.seeds.draw(b"base transfers")?)?;
                let suite = self.link.params.context.suite;
                let coin = if suite.is_checked() {
                    Some(self.draw(b"coin")?)
                } else {
                    None
                };
                self.link.send(&Message::Opening {
                    parameter_set: parameter_set(suite),
                    salt,
                    point: sender.point,
                })?;
                State::AwaitChoices {
                    set,
                    session: Box::new(Session {
                        rows: Rows::new(store, oracles.row_key),
                        oracles,
                        shape: VoleShape::of(store.columns(), suite.is_checked()),
                        coin,
                        commitment: None,
                    }),
                    sender,
                }
            }
            (
                State::AwaitChoices {
                    set,
                    mut session,
                    sender,
                },
                Message::Check(bytes),
            ) => {
                session.commitment = Some(check_of("commitment", &bytes)?);
                State::AwaitChoices {
                    set,
                    session,
                    sender,
                }
            }
            (
                State::AwaitChoices {
                    set,
                    session,
                    sender,
                },
                Message::Choices(points),
            ) => {
                let base = sender.keys(
                    &BaseTransfer {
                        context: &self.link.context,
                        hash: &HashToGroup::for_context(&self.link.context)?,
                    },
                    &points,
                )?;
                let seed = Zeroizing::new(self.draw(b"noise points")?);
                let (correlation, bytes) = InitiatorCorrelation::new(
                    self.kernels,
                    session.shape,
                    &session.oracles,
                    *seed,
                    &base,
                )?;
                State::SendCorrections {
                    set,
                    session,
                    correlation: Box::new(correlation),
                    bytes,
                    sent: 0,
                }
            }
            (
                State::AwaitSums {
                    session,
                    correlation,
                    items,
                    store,
                    mut sums,
                },
                Message::Sums(bytes),
            ) => {
                let due = session.shape.sum_bytes();
                if collect(&mut sums, &bytes, due, "bytes of sums")? {
                    State::Correlate {
                        session,
                        correlation,
                        items,
                        store,
                        sums,
                    }
                } else {
                    State::AwaitSums {
                        session,
                        correlation,
                        items,
                        store,
                        sums,
                    }
                }
            }
            (
                State::AwaitAnswer {
                    done,
                    masked,
                    shares,
                },
                Message::Check(bytes),
            ) => {
                let mut expected = Zeroizing::new(Vec::new());
                to_bytes(
                    &shares.iter().map(|s| s.expected).collect::<Vec<_>>(),
                    &mut expected,
                );
                let oracles = &done.session.oracles;
                let expected = oracles.check(Checked::Answer, 0, &[0; 32], &expected);
                if check_of::<32>("answer", &bytes)? != expected {
                    return Err(Error::Check { what: "sums" });
                }
                State::SendMasked {
                    done,
                    masked,
                    sent: 0,
                }
            }
            (State::AwaitCoin(done), Message::Check(bytes)) => {
                let theirs = check_of("coin", &bytes)?;
                let session = &done.session;
                let commitment = session.oracles.check(Checked::Coin, 0, &[0; 32], &theirs);
                if session.commitment != Some(commitment) {
                    return Err(Error::Check { what: "coin" });
                }
                let coin = session.coin.map(|own| own ^ u128::from_le_bytes(theirs));
                State::OwnTags { done, coin }
            }
            (State::Tags(mut join), Message::Tags(bytes)) => {
                let len = self.link.tag_len();
                let done = self.link.received_tags();
                join.take(&bytes, len, done)?;
                self.link
                    .progress(Phase::Receive, done, self.link.peer_count);
                State::Tags(join)
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
                let mut found = join.found;
                found.sort_unstable();
                State::CheckEnd { found, seal }
            }
            (State::AwaitAck(found), Message::Ack { seal }) => State::CheckAck { found, seal },
            _ => {
                return Err(Error::Internal {
                    what: "message passed a state that does not take it",
                });
            }
        })
    }

    const fn expected(&self) -> &'static str {
        match &self.state {
            State::AwaitHello(_) => "hello",
            State::AwaitChoices { session, .. } if session.awaits_commitment() => "check",
            State::AwaitChoices { .. } => "choices",
            State::AwaitSums { .. } => "sums",
            State::AwaitAnswer { .. } | State::AwaitCoin(_) => "check",
            State::Tags(_) => "tags or end",
            State::AwaitAck(_) => "ack",
            _ => "nothing",
        }
    }

    const fn misuse<T>(&self, call: &'static str) -> Result<T, Error> {
        Err(Error::State {
            call,
            state: match &self.state {
                State::Start(_) | State::AwaitHello(_) => "opening",
                State::AwaitChoices { .. }
                | State::SendCorrections { .. }
                | State::AwaitSums { .. }
                | State::Correlate { .. }
                | State::AwaitAnswer { .. } => "correlating",
                State::Encode { .. } => "encoding",
                State::SendMasked { .. } => "sending",
                State::AwaitCoin(_) | State::OwnTags { .. } | State::Tags(_) => "receiving",
                State::SealEnd(_) | State::SealResult(_) => "a seal is due",
                State::CheckEnd { .. } | State::CheckAck { .. } => "a seal is to be checked",
                State::AwaitAck(_) => "waiting for the ack",
                State::Done(_) => "done",
                State::Spent => "spent",
            },
        })
    }
}

impl Session {
    /// Whether the responder's commitment is due before its choices.
    const fn awaits_commitment(&self) -> bool {
        self.shape.checked && self.commitment.is_none()
    }
}

/// The bytes of a check of one size.
pub(super) fn check_of<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], Error> {
    <[u8; N]>::try_from(bytes).map_err(|_| Error::Count {
        what,
        expected: N as u64,
        found: bytes.len() as u64,
    })
}

/// Adds a part to what has come, which may not become more than `due` bytes; whether it is all.
pub(super) fn collect(
    all: &mut Vec<u8>,
    part: &[u8],
    due: usize,
    what: &'static str,
) -> Result<bool, Error> {
    let found = all.len() + part.len();
    if found > due {
        return Err(Error::Count {
            what,
            expected: due as u64,
            found: found as u64,
        });
    }
    all.extend_from_slice(part);
    Ok(found == due)
}

impl Join {
    /// Takes tags of `len` bytes each, after which `done` have come.
    fn take(&mut self, bytes: &[u8], len: usize, done: u64) -> Result<(), Error> {
        if len == 0 || !bytes.len().is_multiple_of(len) {
            return Err(Error::Invalid {
                what: "length of tags",
                found: bytes.len() as u64,
            });
        }
        let first = done - (bytes.len() / len) as u64;
        for (tag, index) in bytes.chunks_exact(len).zip(first..) {
            let mut wide = [0; 16];
            wide.iter_mut().zip(tag).for_each(|(w, t)| *w = *t);
            let tag = u128::from_be_bytes(wide);
            // Equal tags are no error: with short tags and one long list they happen by chance.
            if tag < self.last {
                return Err(Error::Unsorted { what: "tag", index });
            }
            self.last = tag;
            let (rows, found) = (&self.rows, &mut self.found);
            self.own.find(tag, |place| {
                found.extend(rows.get(place as usize).map(|row| u64::from(*row)));
            });
        }
        Ok(())
    }
}

impl Machine for VoleInitiator {
    fn poll(&mut self) -> Result<Output, Error> {
        loop {
            if let Some(output) = self.link.next_output() {
                return Ok(output);
            }
            match &self.state {
                State::AwaitHello(_)
                | State::AwaitChoices { .. }
                | State::AwaitSums { .. }
                | State::AwaitAnswer { .. }
                | State::AwaitCoin(_)
                | State::Tags(_)
                | State::AwaitAck(_) => return Ok(Output::NeedFrame),
                State::SealEnd(_) => {
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
                State::SealResult(_) => {
                    return Ok(Output::NeedSeal(self.link.statement(Stage::Result, None)));
                }
                State::CheckAck { seal, .. } => {
                    return Ok(Output::CheckSeal {
                        statement: self.link.statement(Stage::Ack, None),
                        seal: seal.clone(),
                    });
                }
                State::Done(report) => return Ok(Output::Done(report.clone())),
                State::Spent => return self.misuse("poll"),
                State::Start(_)
                | State::SendCorrections { .. }
                | State::Encode { .. }
                | State::Correlate { .. }
                | State::SendMasked { .. }
                | State::OwnTags { .. } => {
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
            State::SealEnd(done) => {
                self.link.send_end(seal)?;
                self.state = if done.session.shape.checked {
                    State::AwaitCoin(done)
                } else {
                    State::OwnTags { done, coin: None }
                };
            }
            State::SealResult(found) => {
                self.link.send(&Message::Result {
                    published: None,
                    seal,
                })?;
                self.state = State::AwaitAck(found);
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
            State::CheckEnd { found, .. } => self.state = State::SealResult(found),
            State::CheckAck { found, seal } => {
                self.state = State::Done(Box::new(Report {
                    statement: self.link.statement(Stage::Ack, None),
                    outcome: Outcome::Matched { rows: found },
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
