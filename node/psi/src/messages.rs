//! The frames of a run, in the order they are sent. A frame is a type byte, a 32-bit length and that many bytes; numbers are
//! big-endian, field elements little-endian. Both sides send `Hello` (the initiator first). Then, under `dh-ristretto-v1`, the
//! initiator `Points` and `End`; the responder, once released, `Points`, `Tags` and `End`. Under `vole-rr22-v1`, the initiator
//! `Opening`, the responder `Choices`, the initiator `Corrections`, the responder `Sums`, the initiator `Masked` and `End`, the
//! responder, once released, `Tags` and `End`; under `vole-rr22-malicious-v1` besides, `Check` of the responder before `Choices`, of
//! both between `Sums` and `Masked`, of the responder before `Tags`. At last the initiator `Result`, the responder `Ack`. A
//! list in buckets begins with a `Plan` of both, then such a run for every bucket of the stream, then `Result` and `Ack` of the whole
//! list unless the stream is one bucket's. `Abort` may come at any time, and `Working` between any
//! two frames: hosts send it while they compute, so that a short deadline serves runs of any length, and machines never see it.

use crate::buckets::BucketSet;
use crate::context::{Computation, Suite, VERSION};
use crate::frame::{self, Reader, finish, put_bytes, too_long};
use crate::group::MAX_TAG_BYTES;
use crate::noise::NoiseParams;
use crate::params::Noise;
use crate::sorter::Row;
use crate::{Error, MAX_COUNT};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 5;
/// Longest payload.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Longest seal: a signature or two with their key names.
pub const MAX_SEAL_BYTES: usize = 1024;
/// Longest reason of an abort.
pub const MAX_REASON_BYTES: usize = 256;
/// Elements or tags that this side puts into one frame; a peer may send any number that fits.
pub const ROWS_PER_FRAME: usize = 8192;

/// Bytes of an element of a masked store.
pub const MASKED_BYTES: usize = 16;
/// Points of the responder's choices: two for each of 256 base transfers.
pub const CHOICE_POINTS: usize = 512;

/// Longest check.
pub const MAX_CHECK_BYTES: usize = 1 << 13;

/// Longest plan: that of a list in the most buckets.
const MAX_PLAN_BYTES: usize = 82 + (1 << 13);

/// Which side sends a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asks, counts.
    Initiator,
    /// Answers.
    Responder,
}

impl Role {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Initiator => 1,
            Self::Responder => 2,
        }
    }

    fn from_number(n: u8) -> Result<Self, Error> {
        match n {
            1 => Ok(Self::Initiator),
            2 => Ok(Self::Responder),
            found => Err(Error::Invalid {
                what: "role",
                found: found.into(),
            }),
        }
    }
}

/// Opens a list in buckets, or goes on with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanMessage {
    /// The sender's role.
    pub role: Role,
    /// Digest of the context.
    pub context: [u8; 32],
    /// How many items the sender brings in all buckets together.
    pub count: u64,
    /// How many buckets there are.
    pub buckets: u32,
    /// Which of them run on this stream.
    pub scope: Scope,
    /// Those that the initiator has finished; the responder says the same.
    pub finished: BucketSet,
    /// One hash over what was done in them.
    pub digest: [u8; 32],
}

/// Which buckets of a list run on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All that the initiator has not finished, one after the other, and the closing handshake of the list.
    All,
    /// This one alone, while others run on streams of their own.
    One(u32),
}

impl Scope {
    const ALL: u32 = u32::MAX;

    const fn number(self) -> u32 {
        match self {
            Self::All => Self::ALL,
            Self::One(bucket) => bucket,
        }
    }

    const fn from_number(number: u32) -> Self {
        match number {
            Self::ALL => Self::All,
            bucket => Self::One(bucket),
        }
    }
}

/// The parameters that both sides must hold alike, and the sender's count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The suite.
    pub suite: Suite,
    /// The computation.
    pub computation: Computation,
    /// The sender's role.
    pub role: Role,
    /// How many elements the sender will bring, dummies and fillers included, at most [`MAX_COUNT`].
    pub count: u64,
    /// The noise.
    pub noise: Noise,
    /// Digest of the context.
    pub context: [u8; 32],
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Opens the run.
    Hello(Hello),
    /// Blinded points, 32 bytes each, at least one.
    Points(Vec<Row>),
    /// Tags of twice-blinded points, end to end; their length follows from both counts.
    Tags(Vec<u8>),
    /// Opens the correlation (`vole-rr22-v1`).
    Opening {
        /// [`crate::PARAMETER_SET`].
        parameter_set: u16,
        /// Salt of the session's hashes, drawn by the initiator after its set was fixed.
        salt: [u8; 16],
        /// The initiator's point of all base transfers.
        point: Row,
    },
    /// The responder's [`CHOICE_POINTS`] points of the base transfers.
    Choices(Vec<Row>),
    /// Part of the initiator's corrections, whole elements of 16 bytes; their number follows from its count.
    Corrections(Vec<u8>),
    /// Part of the responder's sums, likewise.
    Sums(Vec<u8>),
    /// Part of the initiator's masked store, likewise.
    Masked(Vec<u8>),
    /// By what a side shows that it followed the protocol (`vole-rr22-malicious-v1`): whole elements of 16 bytes.
    Check(Vec<u8>),
    /// Ends a direction's stream.
    End {
        /// Points sent; elements of the masked store count as such.
        points: u64,
        /// Tags sent.
        tags: u64,
        /// SHA-256 over all its frames between hello and end, headers included.
        digest: [u8; 32],
        /// The host's signature over the statement.
        seal: Vec<u8>,
    },
    /// What the initiator makes known.
    Result {
        /// The published count, or `None` for a list, which stays with the initiator.
        published: Option<i64>,
        /// The host's signature over the statement.
        seal: Vec<u8>,
    },
    /// The responder holds the result.
    Ack {
        /// The host's signature over the statement.
        seal: Vec<u8>,
    },
    /// The sender is alive and computing; carries nothing.
    Working,
    /// Opens a list in buckets.
    Plan(PlanMessage),
    /// The run is over, without a result.
    Abort {
        /// See [`Error::code`].
        code: u16,
        /// Plain text, at most [`MAX_REASON_BYTES`].
        reason: String,
    },
}

impl Message {
    /// Its name, for errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Points(_) => "points",
            Self::Tags(_) => "tags",
            Self::Opening { .. } => "opening",
            Self::Choices(_) => "choices",
            Self::Corrections(_) => "corrections",
            Self::Sums(_) => "sums",
            Self::Masked(_) => "masked",
            Self::Check(_) => "check",
            Self::End { .. } => "end",
            Self::Result { .. } => "result",
            Self::Ack { .. } => "ack",
            Self::Working => "working",
            Self::Plan(_) => "plan",
            Self::Abort { .. } => "abort",
        }
    }

    /// The whole frame.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a field over its bound.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; HEADER_BYTES];
        let kind = match self {
            Self::Hello(h) => {
                out.extend_from_slice(&[
                    VERSION,
                    h.suite.number(),
                    h.computation.number(),
                    h.role.number(),
                ]);
                out.extend_from_slice(&h.count.to_be_bytes());
                let (kind, fields) = match h.noise {
                    Noise::NoneInTestNetwork => (0, [0; 3]),
                    Noise::Laplace(p) => (1, [p.epsilon_micro, p.sensitivity, p.bound]),
                };
                out.push(kind);
                for field in fields {
                    out.extend_from_slice(&field.to_be_bytes());
                }
                out.extend_from_slice(&h.context);
                1
            }
            Self::Points(rows) => {
                out.extend_from_slice(rows.as_flattened());
                2
            }
            Self::Tags(bytes) => {
                out.extend_from_slice(bytes);
                3
            }
            Self::End {
                points,
                tags,
                digest,
                seal,
            } => {
                out.extend_from_slice(&points.to_be_bytes());
                out.extend_from_slice(&tags.to_be_bytes());
                out.extend_from_slice(digest);
                put_bytes(&mut out, "seal", seal, MAX_SEAL_BYTES)?;
                4
            }
            Self::Result { published, seal } => {
                out.push(u8::from(published.is_some()));
                out.extend_from_slice(&published.unwrap_or(0).to_be_bytes());
                put_bytes(&mut out, "seal", seal, MAX_SEAL_BYTES)?;
                5
            }
            Self::Ack { seal } => {
                put_bytes(&mut out, "seal", seal, MAX_SEAL_BYTES)?;
                6
            }
            Self::Abort { code, reason } => {
                out.extend_from_slice(&code.to_be_bytes());
                put_bytes(&mut out, "reason", reason.as_bytes(), MAX_REASON_BYTES)?;
                7
            }
            Self::Working => 8,
            Self::Opening {
                parameter_set,
                salt,
                point,
            } => {
                out.extend_from_slice(&parameter_set.to_be_bytes());
                out.extend_from_slice(salt);
                out.extend_from_slice(point);
                9
            }
            Self::Choices(points) => {
                out.extend_from_slice(points.as_flattened());
                10
            }
            Self::Corrections(bytes) => {
                out.extend_from_slice(bytes);
                11
            }
            Self::Sums(bytes) => {
                out.extend_from_slice(bytes);
                12
            }
            Self::Masked(bytes) => {
                out.extend_from_slice(bytes);
                13
            }
            Self::Check(bytes) => {
                out.extend_from_slice(bytes);
                14
            }
            Self::Plan(plan) => {
                out.extend_from_slice(&[VERSION, plan.role.number()]);
                out.extend_from_slice(&plan.context);
                out.extend_from_slice(&plan.count.to_be_bytes());
                out.extend_from_slice(&plan.buckets.to_be_bytes());
                out.extend_from_slice(&plan.scope.number().to_be_bytes());
                out.extend_from_slice(&plan.digest);
                out.extend_from_slice(plan.finished.as_bytes());
                15
            }
        };
        finish(out, kind, MAX_PAYLOAD_BYTES)
    }

    /// A frame of exactly these bytes.
    ///
    /// # Errors
    /// Any of the codec's errors; never a panic, and no more memory than the frame's own length.
    pub fn decode(frame: &[u8]) -> Result<Self, Error> {
        let kind = frame::kind(frame)?;
        let payload = frame::payload(frame)?;
        let mut r = Reader(payload);
        let message = match kind {
            1 => Self::Hello(decode_hello(&mut r)?),
            2 => {
                let (rows, rest) = r.0.as_chunks::<32>();
                if rows.is_empty() || !rest.is_empty() {
                    return Err(Error::Invalid {
                        what: "length of points",
                        found: payload.len() as u64,
                    });
                }
                return Ok(Self::Points(rows.to_vec()));
            }
            3 => {
                if payload.is_empty() {
                    return Err(Error::Invalid {
                        what: "length of tags",
                        found: 0,
                    });
                }
                return Ok(Self::Tags(payload.to_vec()));
            }
            4 => Self::End {
                points: r.u64("points")?,
                tags: r.u64("tags")?,
                digest: r.array("digest")?,
                seal: r.bytes("seal", MAX_SEAL_BYTES)?.to_vec(),
            },
            5 => {
                let kind = r.u8("result kind")?;
                let value = i64::from_be_bytes(r.array("result")?);
                let published = match (kind, value) {
                    (0, 0) => None,
                    (1, v) => Some(v),
                    _ => {
                        return Err(Error::Invalid {
                            what: "result kind",
                            found: kind.into(),
                        });
                    }
                };
                Self::Result {
                    published,
                    seal: r.bytes("seal", MAX_SEAL_BYTES)?.to_vec(),
                }
            }
            6 => Self::Ack {
                seal: r.bytes("seal", MAX_SEAL_BYTES)?.to_vec(),
            },
            7 => Self::Abort {
                code: u16::from_be_bytes(r.array("code")?),
                reason: text("reason", r.bytes("reason", MAX_REASON_BYTES)?)?,
            },
            8 => Self::Working,
            9 => Self::Opening {
                parameter_set: u16::from_be_bytes(r.array("parameter set")?),
                salt: r.array("salt")?,
                point: r.array("point")?,
            },
            10 => {
                let (points, rest) = r.0.as_chunks::<32>();
                if points.len() != CHOICE_POINTS || !rest.is_empty() {
                    return Err(Error::Invalid {
                        what: "length of choices",
                        found: payload.len() as u64,
                    });
                }
                return Ok(Self::Choices(points.to_vec()));
            }
            kind @ 11..=14 => {
                if payload.is_empty() || !payload.len().is_multiple_of(MASKED_BYTES) {
                    return Err(Error::Invalid {
                        what: "length of elements",
                        found: payload.len() as u64,
                    });
                }
                let bytes = payload.to_vec();
                return Ok(match kind {
                    11 => Self::Corrections(bytes),
                    12 => Self::Sums(bytes),
                    13 => Self::Masked(bytes),
                    _ => Self::Check(bytes),
                });
            }
            15 => {
                version(&mut r)?;
                let (role, context) = (Role::from_number(r.u8("role")?)?, r.array("context")?);
                let (count, buckets) = (r.u64("count")?, r.u32("buckets")?);
                return Ok(Self::Plan(PlanMessage {
                    role,
                    context,
                    count,
                    buckets,
                    scope: Scope::from_number(r.u32("scope")?),
                    digest: r.array("digest")?,
                    finished: BucketSet::from_bytes(buckets, r.0)?,
                }));
            }
            found => {
                return Err(Error::Invalid {
                    what: "frame type",
                    found: found.into(),
                });
            }
        };
        r.end(message.name())?;
        Ok(message)
    }
}

/// The abort frame that tells the peer of `error`.
#[must_use]
pub fn abort_frame(error: &Error) -> Vec<u8> {
    let mut reason = error.peer_reason();
    reason.retain(|c| !c.is_control());
    while reason.len() > MAX_REASON_BYTES {
        reason.pop();
    }
    // Cannot fail: the reason has been cut to its bound.
    Message::Abort {
        code: error.code(),
        reason,
    }
    .encode()
    .unwrap_or_default()
}

/// How many bytes follow a frame's header: to be asked before any memory is set aside for them.
///
/// # Errors
/// [`Error::Invalid`] for an unknown type, [`Error::TooLong`] for more than the type allows.
pub fn payload_len(header: &[u8; HEADER_BYTES]) -> Result<usize, Error> {
    let [kind, len @ ..] = *header;
    let max = match kind {
        1 => 57,
        2 | 3 => MAX_PAYLOAD_BYTES,
        4 => 50 + MAX_SEAL_BYTES,
        5 => 11 + MAX_SEAL_BYTES,
        6 => 2 + MAX_SEAL_BYTES,
        7 => 4 + MAX_REASON_BYTES,
        8 => 0,
        9 => 50,
        10 => 32 * CHOICE_POINTS,
        11..=13 => MAX_PAYLOAD_BYTES,
        14 => MAX_CHECK_BYTES,
        15 => MAX_PLAN_BYTES,
        kind @ crate::sum::messages::FIRST_KIND..=crate::sum::messages::LAST_KIND => {
            crate::sum::messages::max_payload(kind)
        }
        kind @ crate::overlap::FIRST_KIND..=crate::overlap::LAST_KIND => {
            crate::overlap::max_payload(kind)
        }
        found => {
            return Err(Error::Invalid {
                what: "frame type",
                found: found.into(),
            });
        }
    };
    let len = u32::from_be_bytes(len) as usize;
    if len > max {
        Err(too_long("frame", len, max))
    } else {
        Ok(len)
    }
}

/// Tags of `len` bytes each, as rows with zeros behind.
pub(crate) fn tag_rows(bytes: &[u8], len: usize) -> Result<Vec<Row>, Error> {
    if len == 0 || len > MAX_TAG_BYTES || !bytes.len().is_multiple_of(len) {
        return Err(Error::Invalid {
            what: "length of tags",
            found: bytes.len() as u64,
        });
    }
    Ok(bytes
        .chunks_exact(len)
        .map(|tag| {
            let mut row = [0; 32];
            for (r, t) in row.iter_mut().zip(tag) {
                *r = *t;
            }
            row
        })
        .collect())
}

pub(crate) fn version(r: &mut Reader<'_>) -> Result<(), Error> {
    match r.u8("version")? {
        VERSION => Ok(()),
        found => Err(Error::Invalid {
            what: "version",
            found: found.into(),
        }),
    }
}

fn decode_hello(r: &mut Reader<'_>) -> Result<Hello, Error> {
    version(r)?;
    let suite = Suite::from_number(r.u8("suite")?)?;
    let computation = Computation::from_number(r.u8("computation")?)?;
    let role = Role::from_number(r.u8("role")?)?;
    let count = r.u64("count")?;
    if count > MAX_COUNT {
        return Err(Error::TooLong {
            what: "claimed elements",
            found: count,
            max: MAX_COUNT,
        });
    }
    let kind = r.u8("noise kind")?;
    let params = NoiseParams {
        epsilon_micro: r.u32("epsilon")?,
        sensitivity: r.u32("sensitivity")?,
        bound: r.u32("bound")?,
    };
    let noise = match (
        kind,
        params.epsilon_micro | params.sensitivity | params.bound,
    ) {
        (0, 0) => Noise::NoneInTestNetwork,
        (1, _) => {
            params.verify()?;
            Noise::Laplace(params)
        }
        _ => {
            return Err(Error::Invalid {
                what: "noise kind",
                found: kind.into(),
            });
        }
    };
    Ok(Hello {
        suite,
        computation,
        role,
        count,
        noise,
        context: r.array("context digest")?,
    })
}

fn text(what: &'static str, bytes: &[u8]) -> Result<String, Error> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|t| !t.chars().any(char::is_control))
        .map(str::to_owned)
        .ok_or(Error::Text { what })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> Vec<Message> {
        let hello = Hello {
            suite: Suite::DhRistrettoV1,
            computation: Computation::Cardinality,
            role: Role::Initiator,
            count: 7,
            noise: Noise::Laplace(NoiseParams {
                epsilon_micro: 500_000,
                sensitivity: 1,
                bound: 25,
            }),
            context: [9; 32],
        };
        vec![
            Message::Hello(hello.clone()),
            Message::Hello(Hello {
                noise: Noise::NoneInTestNetwork,
                ..hello
            }),
            Message::Points(vec![[1; 32], [2; 32]]),
            Message::Tags(vec![1, 2, 3]),
            Message::End {
                points: 2,
                tags: 3,
                digest: [4; 32],
                seal: vec![5; MAX_SEAL_BYTES],
            },
            Message::Result {
                published: Some(-3),
                seal: vec![1],
            },
            Message::Result {
                published: None,
                seal: vec![],
            },
            Message::Ack { seal: vec![8] },
            Message::Opening {
                parameter_set: 1,
                salt: [3; 16],
                point: [4; 32],
            },
            Message::Choices(vec![[5; 32]; CHOICE_POINTS]),
            Message::Corrections(vec![6; 32]),
            Message::Sums(vec![7; 16]),
            Message::Masked(vec![8; 48]),
            Message::Check(vec![9; MAX_CHECK_BYTES]),
            Message::Working,
            Message::Plan(PlanMessage {
                role: Role::Initiator,
                context: [7; 32],
                count: 900,
                buckets: 16,
                scope: Scope::One(3),
                finished: BucketSet::from_bytes(16, &[0x80, 1]).unwrap(),
                digest: [8; 32],
            }),
            Message::Abort {
                code: 4,
                reason: "grün".into(),
            },
        ]
    }

    #[test]
    fn the_hello_is_golden() {
        assert_eq!(
            hex::encode(all()[0].encode().unwrap()),
            format!(
                "0100000039{}{}{}{}",
                "01010201",
                "0000000000000007",
                "010007a1200000000100000019",
                "09".repeat(32)
            )
        );
    }

    #[test]
    fn round_trips_and_every_cut_or_extension_is_refused() {
        for m in all() {
            let bytes = m.encode().unwrap();
            assert_eq!(Message::decode(&bytes).unwrap(), m);
            for cut in 0..bytes.len() {
                assert!(Message::decode(&bytes[..cut]).is_err());
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(matches!(
                Message::decode(&longer),
                Err(Error::Trailing { .. })
            ));
            // A longer payload with the length to match.
            longer[4] = longer[4].wrapping_add(1);
            if longer[4] != 0 && !matches!(m, Message::Tags(_)) {
                assert!(Message::decode(&longer).is_err(), "{}", m.name());
            }
        }
    }

    #[test]
    fn oversize_claims_are_refused_by_the_header_alone() {
        for kind in 0..=255 {
            assert!(payload_len(&[kind, 0xff, 0xff, 0xff, 0xff]).is_err());
        }
        assert_eq!(payload_len(&[2, 0, 0x10, 0, 0]).unwrap(), 1 << 20);
        assert!(payload_len(&[2, 0, 0x10, 0, 1]).is_err());
        assert!(Message::Points(vec![[0; 32]; 32769]).encode().is_err());
        assert!(Message::Points(vec![[0; 32]; 32768]).encode().is_ok());
    }

    #[test]
    fn an_abort_frame_always_fits() {
        let frame = abort_frame(&Error::PeerAborted {
            code: 1,
            reason: "é\n".repeat(300),
        });
        assert!(matches!(
            Message::decode(&frame).unwrap(),
            Message::Abort { code: 9, .. }
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(kind in 0_u8..16, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = vec![kind, 0, 0, 0, u8::try_from(body.len()).unwrap()];
            frame.extend_from_slice(&body);
            if let Ok(m) = Message::decode(&frame) {
                prop_assert_eq!(m.encode().unwrap(), frame);
            }
            let _ = Message::decode(&body);
        }
    }
}
