//! The frames of a private sum: those of [`crate::messages`] for points, tags, ends, acks and aborts, and these. Numbers are
//! big-endian, points 32 bytes each. See [`super`] for their order.

use crate::Error;
use crate::context::{Computation, Suite, VERSION};
use crate::frame::{self, Reader, finish, put_bytes, too_long};
use crate::messages::{HEADER_BYTES, MAX_PAYLOAD_BYTES, MAX_SEAL_BYTES, Message, Role};
use crate::sorter::Row;
use crate::sum::terms::{MAX_GROUPS, MAX_LABELS, MAX_QUANTITIES};

/// Frame types of this computation.
pub(crate) const FIRST_KIND: u8 = 32;
pub(crate) const LAST_KIND: u8 = 36;

/// Entries that this side puts into one frame; a peer may send any number that fits.
pub const ENTRIES_PER_FRAME: usize = 4096;
/// Most sums of a run.
pub const MAX_SUMS: usize = MAX_LABELS * MAX_QUANTITIES;
const MAX_POINTS: usize = MAX_LABELS * (MAX_QUANTITIES + 1);

/// The sender's sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sizes {
    /// Of the initiator: for each group its padded size, dummies not included. At most [`MAX_GROUPS`].
    Groups(Vec<u32>),
    /// Of the responder: its entries, padded.
    Entries(u64),
}

/// The parameters that both sides must hold alike, and the sender's sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumHello {
    /// Digest of context and terms.
    pub context: [u8; 32],
    /// Sizes; they tell the role.
    pub sizes: Sizes,
}

impl SumHello {
    /// The sender's role.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self.sizes {
            Sizes::Groups(_) => Role::Initiator,
            Sizes::Entries(_) => Role::Responder,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SumMessage {
    /// Opens the run.
    Hello(SumHello),
    /// The responder's public keys, one a quantity.
    Keys(Vec<Row>),
    /// Entries of the responder, end to end: its blinded key, and a ciphertext of one point more than there are quantities.
    Entries(Vec<Row>),
    /// For each label a ciphertext, and the host's signature over the statement.
    Totals {
        /// Their points, end to end.
        points: Vec<Row>,
        /// The signature.
        seal: Vec<u8>,
    },
    /// The sums with both noises, and the host's signature over the statement.
    Published {
        /// Label after label, each with all its quantities.
        sums: Vec<i64>,
        /// The signature.
        seal: Vec<u8>,
    },
    /// A frame that all computations share: points, tags, end, ack, working or abort.
    Shared(Message),
}

/// Longest payload of a frame of this computation.
pub(crate) const fn max_payload(kind: u8) -> usize {
    match kind {
        32 => 1 + 1 + 1 + 1 + 32 + 4 + 4 * MAX_GROUPS,
        33 => 32 * MAX_QUANTITIES,
        34 => MAX_PAYLOAD_BYTES,
        35 => 4 + 32 * MAX_POINTS + 2 + MAX_SEAL_BYTES,
        36 => 4 + 8 * MAX_SUMS + 2 + MAX_SEAL_BYTES,
        _ => 0,
    }
}

impl SumMessage {
    /// Its name, for errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Keys(_) => "keys",
            Self::Entries(_) => "entries",
            Self::Totals { .. } => "totals",
            Self::Published { .. } => "published",
            Self::Shared(m) => m.name(),
        }
    }

    /// The whole frame.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a field over its bound, [`Error::UnexpectedMessage`] for a shared frame of other computations.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; HEADER_BYTES];
        let kind = match self {
            Self::Hello(h) => {
                out.extend_from_slice(&[
                    VERSION,
                    Suite::DhRistrettoV1.number(),
                    Computation::JoinSum.number(),
                    match h.role() {
                        Role::Initiator => 1,
                        Role::Responder => 2,
                    },
                ]);
                out.extend_from_slice(&h.context);
                match &h.sizes {
                    Sizes::Groups(groups) => {
                        put_count(&mut out, "groups", groups.len(), MAX_GROUPS)?;
                        for n in groups {
                            out.extend_from_slice(&n.to_be_bytes());
                        }
                    }
                    Sizes::Entries(n) => out.extend_from_slice(&n.to_be_bytes()),
                }
                32
            }
            Self::Keys(rows) => {
                out.extend_from_slice(rows.as_flattened());
                33
            }
            Self::Entries(rows) => {
                out.extend_from_slice(rows.as_flattened());
                34
            }
            Self::Totals { points, seal } => {
                put_count(&mut out, "points of totals", points.len(), MAX_POINTS)?;
                out.extend_from_slice(points.as_flattened());
                put_bytes(&mut out, "seal", seal, MAX_SEAL_BYTES)?;
                35
            }
            Self::Published { sums, seal } => {
                put_count(&mut out, "sums", sums.len(), MAX_SUMS)?;
                for n in sums {
                    out.extend_from_slice(&n.to_be_bytes());
                }
                put_bytes(&mut out, "seal", seal, MAX_SEAL_BYTES)?;
                36
            }
            Self::Shared(m) => {
                shared(m)?;
                return m.encode();
            }
        };
        finish(out, kind, max_payload(kind))
    }

    /// A frame of exactly these bytes.
    ///
    /// # Errors
    /// Any of the codec's errors; never a panic, and no more memory than the frame's own length.
    pub fn decode(frame: &[u8]) -> Result<Self, Error> {
        let kind = frame::kind(frame)?;
        if !(FIRST_KIND..=LAST_KIND).contains(&kind) {
            let m = Message::decode(frame)?;
            shared(&m)?;
            return Ok(Self::Shared(m));
        }
        let payload = frame::payload(frame)?;
        let mut r = Reader(payload);
        let message = match kind {
            32 => Self::Hello(decode_hello(&mut r)?),
            33 => return points("keys", payload).map(Self::Keys),
            34 => return points("entries", payload).map(Self::Entries),
            35 => {
                let n = count(&mut r, "points of totals", MAX_POINTS)?;
                let points = points_of(r.raw("points", 32 * n)?);
                let seal = r.bytes("seal", MAX_SEAL_BYTES)?.to_vec();
                Self::Totals { points, seal }
            }
            _ => {
                let n = count(&mut r, "sums", MAX_SUMS)?;
                let (sums, _) = r.raw("sums", 8 * n)?.as_chunks::<8>();
                let sums = sums.iter().map(|b| i64::from_be_bytes(*b)).collect();
                let seal = r.bytes("seal", MAX_SEAL_BYTES)?.to_vec();
                Self::Published { sums, seal }
            }
        };
        r.end(message.name())?;
        Ok(message)
    }
}

/// Refuses frames of other computations.
const fn shared(m: &Message) -> Result<(), Error> {
    match m {
        Message::Points(_)
        | Message::Tags(_)
        | Message::End { .. }
        | Message::Ack { .. }
        | Message::Working
        | Message::Abort { .. } => Ok(()),
        other => Err(Error::UnexpectedMessage {
            expected: "a frame of join_sum",
            found: other.name(),
        }),
    }
}

fn decode_hello(r: &mut Reader<'_>) -> Result<SumHello, Error> {
    let expected = [
        ("version", VERSION),
        ("suite", Suite::DhRistrettoV1.number()),
        ("computation", Computation::JoinSum.number()),
    ];
    for (what, expected) in expected {
        let found = r.u8(what)?;
        if found != expected {
            return Err(Error::Invalid {
                what,
                found: found.into(),
            });
        }
    }
    let role = r.u8("role")?;
    let context = r.array("context digest")?;
    let sizes = match role {
        1 => {
            let n = count(r, "groups", MAX_GROUPS)?;
            let (groups, _) = r.raw("groups", 4 * n)?.as_chunks::<4>();
            Sizes::Groups(groups.iter().map(|b| u32::from_be_bytes(*b)).collect())
        }
        2 => Sizes::Entries(r.u64("entries")?),
        found => {
            return Err(Error::Invalid {
                what: "role",
                found: found.into(),
            });
        }
    };
    Ok(SumHello { context, sizes })
}

fn put_count(out: &mut Vec<u8>, what: &'static str, n: usize, max: usize) -> Result<(), Error> {
    let n32 = u32::try_from(n)
        .ok()
        .filter(|_| n <= max)
        .ok_or_else(|| too_long(what, n, max))?;
    out.extend_from_slice(&n32.to_be_bytes());
    Ok(())
}

fn count(r: &mut Reader<'_>, what: &'static str, max: usize) -> Result<usize, Error> {
    let n = r.u32(what)? as usize;
    if n > max {
        return Err(too_long(what, n, max));
    }
    Ok(n)
}

fn points_of(bytes: &[u8]) -> Vec<Row> {
    bytes.as_chunks::<32>().0.to_vec()
}

/// At least one point, and nothing else.
fn points(what: &'static str, payload: &[u8]) -> Result<Vec<Row>, Error> {
    if payload.is_empty() || !payload.len().is_multiple_of(32) {
        return Err(Error::Invalid {
            what,
            found: payload.len() as u64,
        });
    }
    Ok(points_of(payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::messages::payload_len;

    fn all() -> Vec<SumMessage> {
        vec![
            SumMessage::Hello(SumHello {
                context: [9; 32],
                sizes: Sizes::Groups(vec![8, 10, 4096]),
            }),
            SumMessage::Hello(SumHello {
                context: [9; 32],
                sizes: Sizes::Entries(7),
            }),
            SumMessage::Keys(vec![[1; 32]]),
            SumMessage::Entries(vec![[2; 32]; 3]),
            SumMessage::Totals {
                points: vec![[3; 32]; 4],
                seal: vec![7; 9],
            },
            SumMessage::Published {
                sums: vec![-1, 2, i64::MIN],
                seal: vec![],
            },
            SumMessage::Shared(Message::Ack { seal: vec![4] }),
            SumMessage::Shared(Message::Working),
        ]
    }

    #[test]
    fn hellos_are_golden() {
        let nines = "09".repeat(32);
        assert_eq!(
            hex::encode(all()[0].encode().unwrap()),
            format!("200000003401010301{nines}00000003000000080000000a00001000")
        );
        assert_eq!(
            hex::encode(all()[1].encode().unwrap()),
            format!("200000002c01010302{nines}0000000000000007")
        );
    }

    #[test]
    fn round_trips_and_every_cut_or_extension_is_refused() {
        for m in all() {
            let bytes = m.encode().unwrap();
            assert_eq!(SumMessage::decode(&bytes).unwrap(), m);
            for cut in 0..bytes.len() {
                assert!(SumMessage::decode(&bytes[..cut]).is_err());
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(SumMessage::decode(&longer).is_err());
            longer[4] = longer[4].wrapping_add(1);
            assert!(SumMessage::decode(&longer).is_err(), "{}", m.name());
        }
    }

    #[test]
    fn claims_over_a_bound_are_refused_by_the_header_or_the_count() {
        for kind in FIRST_KIND..=LAST_KIND {
            let max = u32::try_from(max_payload(kind)).unwrap();
            let header = |n: u32| {
                let n = n.to_be_bytes();
                [kind, n[0], n[1], n[2], n[3]]
            };
            assert_eq!(payload_len(&header(max)).unwrap(), max as usize);
            assert!(payload_len(&header(max + 1)).is_err());
        }
        let mut frame = all()[0].encode().unwrap();
        frame[41..45].fill(0xff);
        assert!(matches!(
            SumMessage::decode(&frame),
            Err(Error::TooLong { .. })
        ));
        assert!(
            SumMessage::Keys(vec![[1; 32]; MAX_QUANTITIES + 1])
                .encode()
                .is_err()
        );
        let groups = |n| {
            SumMessage::Hello(SumHello {
                context: [0; 32],
                sizes: Sizes::Groups(vec![8; n]),
            })
            .encode()
        };
        assert!(groups(MAX_GROUPS).is_ok() && groups(MAX_GROUPS + 1).is_err());
    }

    #[test]
    fn frames_of_other_computations_are_refused() {
        let m = Message::Result {
            published: Some(1),
            seal: vec![],
        };
        assert!(matches!(
            SumMessage::decode(&m.encode().unwrap()),
            Err(Error::UnexpectedMessage { .. })
        ));
        assert!(SumMessage::Shared(m).encode().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(kind in 30_u8..39, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = vec![kind, 0, 0, 0, u8::try_from(body.len()).unwrap()];
            frame.extend_from_slice(&body);
            if let Ok(m) = SumMessage::decode(&frame) {
                prop_assert_eq!(m.encode().unwrap(), frame);
            }
            let _ = SumMessage::decode(&body);
        }
    }
}
