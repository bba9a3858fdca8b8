//! The side that answers. What it sends of the correlation does not depend on its set; its tags leave once the initiator's masked
//! store is complete, its seal accepted and the release committed.

use zeroize::Zeroizing;

use super::base_transfer::{BaseTransfer, choose, transcript};
use super::checks;
use super::correlation::{ResponderBase, ResponderCorrelation, from_bytes, to_bytes};
use super::hashes::{Checked, Oracles};
use super::initiator::collect;
use super::params::{StoreShape, VoleShape, parameter_set};
use super::store::Rows;
use super::tags::Tagging;
use crate::Error;
use crate::context::Suite;
use crate::expand::HashToGroup;
use crate::item::ItemSet;
use crate::link::Link;
use crate::machine::{Phase, Stage};
use crate::messages::{MAX_PAYLOAD_BYTES, Message, Role};
use crate::params::Params;
use crate::role::{self, Answered, Need, PASSED, Run};
use crate::seeds::Seeds;
use crate::simd::Kernels;
use crate::sort::sort_uniform;
use crate::sorter::Row;

/// Tags in a frame.
const FRAME_TAGS: usize = 1 << 16;

/// The responder of a run under [`Suite::VoleRr22V1`] or [`Suite::VoleRr22MaliciousV1`].
pub struct VoleResponder(Run<Answerer>);

role::machine!(VoleResponder);

struct Answerer {
    link: Link,
    seeds: Seeds,
    kernels: Kernels,
}

/// What the whole run needs, once both counts and the salt are known.
struct Session {
    oracles: Oracles,
    rows: Rows,
    shape: VoleShape,
    /// Elements of the initiator's store.
    columns: usize,
    /// The own part of the coin, where the suite tosses one.
    coin: Option<u128>,
}

/// The responder's part of the base transfers.
struct Base {
    extension: Zeroizing<u128>,
    delta: Zeroizing<u128>,
    keys: Zeroizing<Vec<u128>>,
    /// Their transcript.
    before: [u8; 32],
}

/// The own items as hashes, in the set's order and the store's, and the own half of the correlation: at first B, then K.
struct Ready {
    session: Box<Session>,
    correlation: ResponderCorrelation,
    pairs: Zeroizing<Vec<(u128, u128)>>,
    order: Vec<u32>,
    /// The initiator's part of the coin, which ends its store.
    their_coin: u128,
}

enum State {
    AwaitHello(ItemSet),
    AwaitOpening(ItemSet),
    AwaitCorrections {
        set: ItemSet,
        session: Box<Session>,
        base: Base,
        bytes: Vec<u8>,
    },
    Correlate {
        set: ItemSet,
        session: Box<Session>,
        base: Base,
        bytes: Vec<u8>,
    },
    SendSums {
        set: ItemSet,
        session: Box<Session>,
        correlation: ResponderCorrelation,
        bytes: Vec<u8>,
        sent: usize,
    },
    /// The own items are hashed while the initiator completes its half.
    Hash {
        set: ItemSet,
        session: Box<Session>,
        correlation: ResponderCorrelation,
    },
    AwaitShown(Ready),
    AwaitMasked {
        ready: Ready,
        taken: usize,
    },
    CheckEnd {
        ready: Ready,
        seal: Vec<u8>,
    },
    Gate(Ready),
    OwnTags(Ready),
    SendTags {
        tags: Vec<u128>,
        sent: usize,
    },
    Closing(Answered),
}

impl VoleResponder {
    /// A responder that will match `set`.
    ///
    /// # Errors
    /// [`Error::Noise`], [`Error::Invalid`] and [`Error::TooLong`] for parameters that do not fit each other.
    pub fn new(params: Params, set: ItemSet, seeds: Seeds) -> Result<Self, Error> {
        let suite = match params.context.suite {
            suite if suite.is_vole() => suite,
            _ => Suite::VoleRr22V1,
        };
        let answerer = Answerer {
            link: Link::new(params, suite, Role::Responder, set.len() as u64)?,
            seeds,
            kernels: Kernels::detect(),
        };
        Ok(Self(Run::new(answerer, State::AwaitHello(set))))
    }
}

impl Answerer {
    fn draw(&self, name: &[u8]) -> Result<Zeroizing<u128>, Error> {
        Ok(Zeroizing::new(self.seeds.draw_word(name)?))
    }

    /// Answers the opening: fresh bits for the base transfers, Delta among them.
    fn open(&mut self, salt: [u8; 16], point: &Row) -> Result<(Box<Session>, Base), Error> {
        let store = StoreShape::of(self.link.peer_count)?;
        let oracles = Oracles::new(&self.link.context, u128::from_le_bytes(salt));
        let (extension, delta) = (self.draw(b"extension bits")?, self.draw(b"delta")?);
        // One in 2^128.
        if *delta == 0 {
            return Err(Error::Internal { what: "zero key" });
        }
        let (points, keys) = choose(
            &BaseTransfer {
                context: &self.link.context,
                hash: &HashToGroup::for_context(&self.link.context)?,
            },
            &mut self.seeds.draw(b"base transfers")?,
            point,
            [*extension, *delta],
        )?;
        let checked = self.link.params.context.suite.is_checked();
        let mut coin = None;
        if checked {
            let own = *self.draw(b"coin")?;
            let commitment = oracles.check(Checked::Coin, 0, &[0; 32], &own.to_le_bytes());
            self.link.send(&Message::Check(commitment.to_vec()))?;
            coin = Some(own);
        }
        let before = transcript(point, &points);
        self.link.send(&Message::Choices(points))?;
        Ok((
            Box::new(Session {
                rows: Rows::new(store, oracles.row_key),
                oracles,
                shape: VoleShape::of(store.columns(), checked),
                columns: store.columns(),
                coin,
            }),
            Base {
                extension,
                delta,
                keys,
                before,
            },
        ))
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
            State::AwaitHello(_) => Need::Frame("hello"),
            State::AwaitOpening(_) => Need::Frame("opening"),
            State::AwaitCorrections { .. } => Need::Frame("corrections"),
            State::AwaitShown(_) => Need::Frame("check"),
            State::AwaitMasked { .. } => Need::Frame("masked or end"),
            State::CheckEnd { seal, .. } => Need::Check(Stage::InitiatorEnd, None, seal),
            State::Gate(_) => Need::Release,
            State::Correlate { .. }
            | State::SendSums { .. }
            | State::Hash { .. }
            | State::OwnTags(_)
            | State::SendTags { .. } => Need::Work,
            State::Closing(end) => end.need(),
        }
    }

    fn work(&mut self, state: State) -> Result<State, Error> {
        Ok(match state {
            State::Correlate {
                set,
                session,
                base,
                bytes,
            } => {
                let (correlation, sums) = ResponderCorrelation::new(
                    self.kernels,
                    session.shape,
                    &session.oracles,
                    *self.draw(b"roots")?,
                    &ResponderBase {
                        extension: *base.extension,
                        delta: *base.delta,
                        keys: &base.keys,
                        before: base.before,
                    },
                    &bytes,
                    session.columns,
                )?;
                State::SendSums {
                    set,
                    session,
                    correlation,
                    bytes: sums,
                    sent: 0,
                }
            }
            State::SendSums {
                set,
                session,
                correlation,
                bytes,
                sent,
            } => {
                let frame = bytes.get(sent..).unwrap_or_default();
                let frame = frame.get(..MAX_PAYLOAD_BYTES).unwrap_or(frame);
                if frame.is_empty() {
                    return Ok(State::Hash {
                        set,
                        session,
                        correlation,
                    });
                }
                self.link.send(&Message::Sums(frame.to_vec()))?;
                let sent = sent + frame.len();
                State::SendSums {
                    set,
                    session,
                    correlation,
                    bytes,
                    sent,
                }
            }
            State::Hash {
                set,
                session,
                correlation,
            } => {
                let pairs = Zeroizing::new(session.oracles.items(&set)?);
                drop(set);
                let order = session.rows.order(&pairs, |p| p.0);
                let count = self.link.own_count;
                self.link.progress(Phase::Blind, count, count);
                let ready = Ready {
                    session,
                    correlation,
                    pairs,
                    order,
                    their_coin: 0,
                };
                if ready.session.shape.checked {
                    State::AwaitShown(ready)
                } else {
                    State::AwaitMasked { ready, taken: 0 }
                }
            }
            State::OwnTags(ready) => {
                let session = &ready.session;
                let tagging = Tagging {
                    kernels: self.kernels,
                    oracles: &session.oracles,
                    rows: &session.rows,
                    coin: session.coin.map(|own| own ^ ready.their_coin),
                };
                let (k, delta) = (&ready.correlation.b, *ready.correlation.delta);
                State::SendTags {
                    tags: sort_uniform(tagging.tags(&ready.pairs, &ready.order, k, delta)),
                    sent: 0,
                }
            }
            State::SendTags { tags, sent } => {
                let frame = tags.get(sent..).unwrap_or_default();
                let frame = frame.get(..FRAME_TAGS).unwrap_or(frame);
                if frame.is_empty() {
                    self.link.close_own()?;
                    return Ok(State::Closing(Answered::SealEnd));
                }
                self.link.send_cut_tags(frame, self.link.tag_len())?;
                let sent = sent + frame.len();
                self.link
                    .progress(Phase::Send, sent as u64, tags.len() as u64);
                State::SendTags { tags, sent }
            }
            _ => return Err(PASSED),
        })
    }

    fn take(&mut self, state: State, message: Message) -> Result<State, Error> {
        Ok(match (state, message) {
            (State::AwaitHello(set), Message::Hello(hello)) => {
                self.link.accept_hello(&hello)?;
                self.link.send_hello()?;
                State::AwaitOpening(set)
            }
            (
                State::AwaitOpening(set),
                Message::Opening {
                    parameter_set: found,
                    salt,
                    point,
                },
            ) => {
                if found != parameter_set(self.link.params.context.suite) {
                    return Err(Error::Mismatch {
                        what: "parameter set",
                    });
                }
                let (session, base) = self.open(salt, &point)?;
                State::AwaitCorrections {
                    set,
                    session,
                    base,
                    bytes: Vec::new(),
                }
            }
            (
                State::AwaitCorrections {
                    set,
                    session,
                    base,
                    mut bytes,
                },
                Message::Corrections(part),
            ) => {
                let due = session.shape.correction_bytes();
                if collect(&mut bytes, &part, due, "bytes of corrections")? {
                    State::Correlate {
                        set,
                        session,
                        base,
                        bytes,
                    }
                } else {
                    State::AwaitCorrections {
                        set,
                        session,
                        base,
                        bytes,
                    }
                }
            }
            (State::AwaitShown(ready), Message::Check(bytes)) => {
                let ResponderCorrelation { delta, shares, .. } = &ready.correlation;
                if bytes.len() != 16 * shares.len() {
                    return Err(Error::Count {
                        what: "bytes of a check",
                        expected: 16 * shares.len() as u64,
                        found: bytes.len() as u64,
                    });
                }
                let values = checks::answers(self.kernels, shares, from_bytes(&bytes), **delta);
                let mut answer = Zeroizing::new(Vec::new());
                to_bytes(&values, &mut answer);
                let oracles = &ready.session.oracles;
                let answer = oracles.check(Checked::Answer, 0, &[0; 32], &answer);
                self.link.send(&Message::Check(answer.to_vec()))?;
                State::AwaitMasked { ready, taken: 0 }
            }
            (
                State::AwaitMasked {
                    mut ready,
                    mut taken,
                },
                Message::Masked(bytes),
            ) => {
                let words: Vec<u128> = from_bytes(&bytes).collect();
                let ResponderCorrelation { delta, b, .. } = &mut ready.correlation;
                // The link has counted them against what is due: the store, then at most the coin.
                let into = b.get_mut(taken..).unwrap_or_default();
                let (store, coin) = words.split_at(words.len().min(into.len()));
                self.kernels.add_products(into, **delta, store);
                if let [coin] = coin {
                    ready.their_coin = *coin;
                }
                taken += store.len();
                self.link
                    .progress(Phase::Receive, taken as u64, b.len() as u64);
                State::AwaitMasked { ready, taken }
            }
            (
                State::AwaitMasked { ready, .. },
                Message::End {
                    points,
                    tags,
                    digest,
                    seal,
                },
            ) => {
                self.link.close_peer(points, tags, &digest)?;
                State::CheckEnd { ready, seal }
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
            State::CheckEnd { ready, .. } => Ok(State::Gate(ready)),
            State::Closing(end) => Ok(State::Closing(end.accepted()?)),
            _ => Err(PASSED),
        }
    }

    fn released(&mut self, state: State) -> Result<State, Error> {
        let State::Gate(ready) = state else {
            return Err(PASSED);
        };
        // First: the initiator makes its tags while this side makes its own.
        if let Some(coin) = ready.session.coin {
            self.link
                .send(&Message::Check(coin.to_le_bytes().to_vec()))?;
        }
        Ok(State::OwnTags(ready))
    }
}
