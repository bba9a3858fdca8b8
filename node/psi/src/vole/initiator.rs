//! The side that asks: it encodes its set, masks it with its half of the correlation, and finds its rows among the responder's tags.

use rand_core::RngCore as _;
use zeroize::Zeroizing;

use super::base_transfer::{BaseSender, BaseTransfer, transcript};
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
use crate::machine::{Outcome, Phase, Stage};
use crate::messages::{MASKED_BYTES, MAX_PAYLOAD_BYTES, Message, Role};
use crate::params::Params;
use crate::role::{self, Asked, Held, Need, PASSED, Run};
use crate::seeds::Seeds;
use crate::simd::Kernels;

/// Elements of the masked store in a frame.
const FRAME_ELEMENTS: usize = MAX_PAYLOAD_BYTES / MASKED_BYTES;

/// The initiator of a run under [`Suite::VoleRr22V1`] or [`Suite::VoleRr22MaliciousV1`].
pub struct VoleInitiator(Run<Asker>);

role::machine!(VoleInitiator);

struct Asker {
    link: Link,
    seeds: Seeds,
    kernels: Kernels,
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
    Closing(Asked),
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
        let asker = Asker {
            link: Link::new(params, suite, Role::Initiator, set.len() as u64)?,
            seeds,
            kernels: Kernels::detect(),
        };
        Ok(Self(Run::new(asker, State::Start(set))))
    }
}

impl Asker {
    fn draw(&self, name: &[u8]) -> Result<u128, Error> {
        self.seeds.draw_word(name)
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
            State::Start(_)
            | State::SendCorrections { .. }
            | State::Encode { .. }
            | State::Correlate { .. }
            | State::SendMasked { .. }
            | State::OwnTags { .. } => Need::Work,
            State::AwaitHello(_) => Need::Frame("hello"),
            State::AwaitChoices { session, .. } if session.awaits_commitment() => {
                Need::Frame("check")
            }
            State::AwaitChoices { .. } => Need::Frame("choices"),
            State::AwaitSums { .. } => Need::Frame("sums"),
            State::AwaitAnswer { .. } | State::AwaitCoin(_) => Need::Frame("check"),
            State::SealEnd(_) => Need::Seal(Stage::InitiatorEnd, None),
            State::Tags(_) => Need::Frame("tags or end"),
            State::CheckEnd { seal, .. } => Need::Check(Stage::ResponderEnd, None, seal),
            State::Closing(end) => end.need(),
        }
    }

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
            _ => return Err(PASSED),
        })
    }

    fn take(&mut self, state: State, message: Message) -> Result<State, Error> {
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
                let before = transcript(&sender.point, &points);
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
                    &before,
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
            (State::Closing(end), message) => State::Closing(end.take(message)?),
            _ => return Err(PASSED),
        })
    }

    fn sealed(&mut self, state: State, seal: Vec<u8>) -> Result<State, Error> {
        Ok(match state {
            State::SealEnd(done) => {
                self.link.send_end(seal)?;
                if done.session.shape.checked {
                    State::AwaitCoin(done)
                } else {
                    State::OwnTags { done, coin: None }
                }
            }
            State::Closing(end) => State::Closing(end.sealed(&mut self.link, seal)?),
            _ => return Err(PASSED),
        })
    }

    fn accepted(&mut self, state: State) -> Result<State, Error> {
        Ok(State::Closing(match state {
            State::CheckEnd { found, .. } => Asked::SealResult(Held {
                published: None,
                outcome: Outcome::Matched { rows: found },
            }),
            State::Closing(end) => end.accepted(&self.link)?,
            _ => return Err(PASSED),
        }))
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
