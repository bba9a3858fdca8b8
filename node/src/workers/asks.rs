//! What a worker asks of the node while it matches a bucket, and the answers: one after the other on a connection of their own, so that
//! neither waits behind the frames. A message is a type byte and its fields; numbers are big-endian.

use tally_contracts::codec::{CodecError, Reader, Writer};
use tally_psi::buckets::{Past, Step};
use tally_psi::messages::MAX_SEAL_BYTES;
use tally_psi::{Phase, Progress, Stage, Statement};
use zeroize::Zeroizing;

use super::queue::Lease;

/// The first message of a connection: what it is for, and the hold that the worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// For what the worker asks.
    Asks(Lease),
    /// For the frames of the bucket, once that was granted.
    Frames(Lease),
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The bucket is finished.
    Finished,
    /// Something broke: another attempt may do better.
    Broke,
    /// No attempt will do better.
    Hopeless,
}

/// What a worker asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// What has been done in the list.
    Past,
    /// To take a step and note it.
    Note(Step),
    /// To sign.
    Seal(Statement),
    /// Whether the peer's signature is right.
    CheckSeal(Statement, Vec<u8>),
    /// To release.
    Release(Statement),
    /// To hear how far it is.
    Progress(Progress),
    /// To hear that it ended, and why.
    End(End, String),
}

/// What the node answers.
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// The attempt may begin, with these seeds: of the session, and of noise.
    Begin(Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>),
    /// The past.
    Past(Past),
    /// A signature.
    Seal(Vec<u8>),
    /// No, and whether nobody has to try again.
    Refused {
        /// Why.
        reason: String,
        /// Whether it is final.
        over: bool,
    },
}

/// Longest text of a reason.
const MAX_REASON_BYTES: usize = 512;

fn wrong(what: &'static str, found: u8) -> CodecError {
    CodecError::Invalid {
        what,
        found: found.into(),
    }
}

/// A reason, cut to its bound, on one line.
fn put_text(w: &mut Writer, text: &str) {
    let mut end = text.len().min(MAX_REASON_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    w.text(&text.replace(char::is_control, " "));
}

fn whole<T>(r: Reader<'_>, value: T) -> Result<T, CodecError> {
    r.finish().map(|()| value)
}

impl First {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let (kind, lease) = match self {
            Self::Asks(lease) => (1, lease),
            Self::Frames(lease) => (2, lease),
        };
        let mut w = Writer::new();
        w.u8(kind).raw(&lease.list);
        w.u32(lease.bucket).u32(lease.attempt);
        w.into_bytes()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        let kind = r.u8("kind of connection")?;
        let lease = Lease {
            list: r.array("list")?,
            bucket: r.u32("bucket")?,
            attempt: r.u32("attempt")?,
        };
        let first = match kind {
            1 => Self::Asks(lease),
            2 => Self::Frames(lease),
            found => return Err(wrong("kind of connection", found)),
        };
        whole(r, first)
    }
}

fn put_statement(w: &mut Writer, statement: &Statement) {
    let stage = match statement.stage {
        Stage::InitiatorEnd => 1,
        Stage::ResponderEnd => 2,
        Stage::Result => 3,
        Stage::Ack => 4,
        Stage::Totals => 5,
    };
    w.u8(stage).raw(&statement.context);
    statement.counts.iter().for_each(|count| {
        w.u64(*count);
    });
    w.raw(statement.streams.as_flattened());
}

/// Statements of a list name no published value.
fn statement(r: &mut Reader<'_>) -> Result<Statement, CodecError> {
    Ok(Statement {
        stage: match r.u8("stage")? {
            1 => Stage::InitiatorEnd,
            2 => Stage::ResponderEnd,
            3 => Stage::Result,
            4 => Stage::Ack,
            5 => Stage::Totals,
            found => return Err(wrong("stage", found)),
        },
        context: r.array("context")?,
        counts: [r.u64("count")?, r.u64("count")?],
        streams: [r.array("stream digest")?, r.array("stream digest")?],
        published: None,
        sums: None,
    })
}

fn put_step(w: &mut Writer, step: &Step) {
    match step {
        Step::Rewound { bucket } => {
            w.u8(1).u32(*bucket);
        }
        Step::Begun { bucket, mark } => {
            w.u8(2).u32(*bucket).raw(mark);
        }
        Step::Answering { bucket, mark } => {
            w.u8(3).u32(*bucket).raw(mark);
        }
        Step::Finished {
            bucket,
            mark,
            digest,
            rows,
        } => {
            w.u8(4).u32(*bucket).raw(mark).raw(digest);
            w.u32(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            rows.iter().for_each(|row| {
                w.u64(*row);
            });
        }
    }
}

fn step(r: &mut Reader<'_>) -> Result<Step, CodecError> {
    let kind = r.u8("step")?;
    let bucket = r.u32("bucket")?;
    Ok(match kind {
        1 => Step::Rewound { bucket },
        2 => Step::Begun {
            bucket,
            mark: r.array("mark")?,
        },
        3 => Step::Answering {
            bucket,
            mark: r.array("mark")?,
        },
        4 => {
            let (mark, digest) = (r.array("mark")?, r.array("digest")?);
            let mut rows = Vec::new();
            for _ in 0..r.u32("number of rows")? {
                rows.push(r.u64("row")?);
            }
            Step::Finished {
                bucket,
                mark,
                digest,
                rows,
            }
        }
        found => return Err(wrong("step", found)),
    })
}

impl Ask {
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut w = Writer::new();
        match self {
            Self::Past => {
                w.u8(1);
            }
            Self::Note(step) => put_step(w.u8(2), step),
            Self::Seal(statement) => put_statement(w.u8(3), statement),
            Self::CheckSeal(statement, seal) => {
                put_statement(w.u8(4), statement);
                w.bytes(seal);
            }
            Self::Release(statement) => put_statement(w.u8(5), statement),
            Self::Progress(progress) => {
                let phase = match progress.phase {
                    Phase::Blind => 1,
                    Phase::Send => 2,
                    Phase::Receive => 3,
                };
                w.u8(6).u8(phase).u64(progress.done).u64(progress.total);
            }
            Self::End(end, why) => {
                let end = match end {
                    End::Finished => 1,
                    End::Broke => 2,
                    End::Hopeless => 3,
                };
                put_text(w.u8(7).u8(end), why);
            }
        }
        Zeroizing::new(w.into_bytes())
    }

    pub(crate) fn from_bytes(message: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(message);
        let ask = match r.u8("ask")? {
            1 => Self::Past,
            2 => Self::Note(step(&mut r)?),
            3 => Self::Seal(statement(&mut r)?),
            4 => Self::CheckSeal(
                statement(&mut r)?,
                r.bytes("seal", MAX_SEAL_BYTES)?.to_vec(),
            ),
            5 => Self::Release(statement(&mut r)?),
            6 => Self::Progress(Progress {
                phase: match r.u8("phase")? {
                    1 => Phase::Blind,
                    2 => Phase::Send,
                    3 => Phase::Receive,
                    found => return Err(wrong("phase", found)),
                },
                done: r.u64("done")?,
                total: r.u64("total")?,
            }),
            7 => {
                let end = match r.u8("end")? {
                    1 => End::Finished,
                    2 => End::Broke,
                    3 => End::Hopeless,
                    found => return Err(wrong("end", found)),
                };
                Self::End(end, r.text("reason", MAX_REASON_BYTES)?)
            }
            found => return Err(wrong("ask", found)),
        };
        whole(r, ask)
    }
}

impl Answer {
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut w = Writer::new();
        match self {
            Self::Done => {
                w.u8(1);
            }
            Self::Begin(session, noise) => {
                w.u8(2).raw(session.as_slice()).raw(noise.as_slice());
            }
            Self::Past(past) => {
                w.u8(3).raw(&past.to_bytes());
            }
            Self::Seal(seal) => {
                w.u8(4).raw(seal);
            }
            Self::Refused { reason, over } => put_text(w.u8(5).bool(*over), reason),
        }
        Zeroizing::new(w.into_bytes())
    }

    /// `None` for what is no answer.
    pub(crate) fn from_bytes(message: &[u8]) -> Option<Self> {
        let mut r = Reader::new(message);
        let (kind, rest) = message.split_first()?;
        Some(match kind {
            1 => Self::Done,
            2 => {
                let (session, noise) = rest.split_first_chunk::<32>()?;
                Self::Begin(
                    Zeroizing::new(*session),
                    Zeroizing::new(noise.try_into().ok()?),
                )
            }
            3 => Self::Past(Past::from_bytes(rest).ok()?),
            4 => Self::Seal(rest.to_vec()),
            5 => {
                r.u8("answer").ok()?;
                let over = r.bool("whether it is over").ok()?;
                let reason = r.text("reason", MAX_REASON_BYTES).ok()?;
                whole(r, Self::Refused { reason, over }).ok()?
            }
            _ => return None,
        })
    }
}
