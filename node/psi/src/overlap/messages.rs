//! The frames of `overlap_n`, in the order they are sent, and the abort that all computations share. Numbers are big-endian.

use zeroize::Zeroizing;

use super::machine::MadeKnown;
use super::terms::MAX_PARTIES;
use crate::Error;
use crate::context::VERSION;
use crate::frame::{self, Reader, finish, put_bytes, too_long};
use crate::messages::{HEADER_BYTES, MAX_PAYLOAD_BYTES, MAX_SEAL_BYTES, Message, version};

/// Frame types of this computation.
pub(crate) const FIRST_KIND: u8 = 48;
pub(crate) const LAST_KIND: u8 = 54;

/// Bytes of a pseudonym: two different items share one with odds of 2^-128.
pub const PSEUDONYM_BYTES: usize = 16;

/// One frame. No Debug: a share is secret.
#[derive(Clone, PartialEq, Eq)]
pub enum OverlapMessage {
    /// Opens the run between a party and the helper.
    Hello {
        /// Digest of the terms.
        terms: [u8; 32],
        /// How many pseudonyms the sender will send; 0 from the helper.
        count: u64,
    },
    /// A party's part of what all parties share; never for the helper.
    Share {
        /// Digest of the terms.
        terms: [u8; 32],
        /// Part of the key of the pseudonyms, drawn afresh.
        key: Zeroizing<[u8; 32]>,
        /// Part of the seed of the noise against the helper: the same for the same query.
        noise: Zeroizing<[u8; 32]>,
    },
    /// Pseudonyms end to end, ascending, at least one.
    Pseudonyms(Vec<u8>),
    /// Ends a party's list.
    End {
        /// Pseudonyms sent.
        count: u64,
        /// SHA-256 over the frames of all of them.
        digest: [u8; 32],
        /// The host's signature over the statement.
        seal: Vec<u8>,
    },
    /// The result.
    Published {
        /// The count with both noises, and the salt.
        known: MadeKnown,
        /// Every party's count and digest, in their order.
        streams: Vec<(u64, [u8; 32])>,
        /// The host's signature over the statement.
        seal: Vec<u8>,
    },
    /// The party holds the result.
    Ack {
        /// The host's signature over the statement.
        seal: Vec<u8>,
    },
    /// Every party holds the result.
    Final,
}

/// Longest payload of a frame of this computation.
pub(crate) const fn max_payload(kind: u8) -> usize {
    match kind {
        48 => 1 + 32 + 8,
        49 => 1 + 32 + 32 + 32,
        50 => MAX_PAYLOAD_BYTES,
        51 => 8 + 32 + 2 + MAX_SEAL_BYTES,
        52 => 8 + 32 + 1 + 40 * MAX_PARTIES + 2 + MAX_SEAL_BYTES,
        53 => 2 + MAX_SEAL_BYTES,
        _ => 0,
    }
}

impl OverlapMessage {
    /// Its name, for errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Share { .. } => "share",
            Self::Pseudonyms(_) => "pseudonyms",
            Self::End { .. } => "end",
            Self::Published { .. } => "published",
            Self::Ack { .. } => "ack",
            Self::Final => "final",
        }
    }

    /// The whole frame.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a field over its bound.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; HEADER_BYTES];
        let kind = match self {
            Self::Hello { terms, count } => {
                out.push(VERSION);
                out.extend_from_slice(terms);
                out.extend_from_slice(&count.to_be_bytes());
                48
            }
            Self::Share { terms, key, noise } => {
                out.reserve_exact(max_payload(49));
                out.push(VERSION);
                out.extend_from_slice(terms);
                out.extend_from_slice(key.as_slice());
                out.extend_from_slice(noise.as_slice());
                49
            }
            Self::Pseudonyms(bytes) => {
                out.extend_from_slice(bytes);
                50
            }
            Self::End {
                count,
                digest,
                seal,
            } => {
                out.extend_from_slice(&count.to_be_bytes());
                out.extend_from_slice(digest);
                put_bytes(&mut out, "seal", seal, MAX_SEAL_BYTES)?;
                51
            }
            Self::Published {
                known,
                streams,
                seal,
            } => {
                out.extend_from_slice(&known.value.to_be_bytes());
                out.extend_from_slice(&known.salt);
                let n = u8::try_from(streams.len())
                    .ok()
                    .filter(|_| streams.len() <= MAX_PARTIES)
                    .ok_or_else(|| too_long("lists", streams.len(), MAX_PARTIES))?;
                out.push(n);
                for (count, digest) in streams {
                    out.extend_from_slice(&count.to_be_bytes());
                    out.extend_from_slice(digest);
                }
                put_bytes(&mut out, "seal", seal, MAX_SEAL_BYTES)?;
                52
            }
            Self::Ack { seal } => {
                put_bytes(&mut out, "seal", seal, MAX_SEAL_BYTES)?;
                53
            }
            Self::Final => 54,
        };
        finish(out, kind, max_payload(kind))
    }

    /// A frame of exactly these bytes.
    ///
    /// # Errors
    /// Any of the codec's errors, [`Error::PeerAborted`] for an abort; never a panic, and no more memory than the frame's length.
    pub fn decode(frame: &[u8]) -> Result<Self, Error> {
        let kind = frame::kind(frame)?;
        if !(FIRST_KIND..=LAST_KIND).contains(&kind) {
            return Err(match Message::decode(frame)? {
                Message::Abort { code, reason } => Error::PeerAborted { code, reason },
                other => Error::UnexpectedMessage {
                    expected: "a frame of overlap_n",
                    found: other.name(),
                },
            });
        }
        let payload = frame::payload(frame)?;
        let mut r = Reader(payload);
        let message = match kind {
            48 => {
                version(&mut r)?;
                Self::Hello {
                    terms: r.array("digest of the terms")?,
                    count: r.u64("count")?,
                }
            }
            49 => {
                version(&mut r)?;
                Self::Share {
                    terms: r.array("digest of the terms")?,
                    key: Zeroizing::new(r.array("key share")?),
                    noise: Zeroizing::new(r.array("noise share")?),
                }
            }
            50 => {
                if payload.is_empty() || !payload.len().is_multiple_of(PSEUDONYM_BYTES) {
                    return Err(Error::Invalid {
                        what: "length of pseudonyms",
                        found: payload.len() as u64,
                    });
                }
                return Ok(Self::Pseudonyms(payload.to_vec()));
            }
            51 => Self::End {
                count: r.u64("count")?,
                digest: r.array("digest")?,
                seal: r.bytes("seal", MAX_SEAL_BYTES)?.to_vec(),
            },
            52 => {
                let known = MadeKnown {
                    value: i64::from_be_bytes(r.array("value")?),
                    salt: r.array("salt")?,
                };
                let n = usize::from(r.u8("lists")?);
                if n > MAX_PARTIES {
                    return Err(too_long("lists", n, MAX_PARTIES));
                }
                let streams = (0..n)
                    .map(|_| Ok((r.u64("count")?, r.array("digest")?)))
                    .collect::<Result<_, Error>>()?;
                Self::Published {
                    known,
                    streams,
                    seal: r.bytes("seal", MAX_SEAL_BYTES)?.to_vec(),
                }
            }
            53 => Self::Ack {
                seal: r.bytes("seal", MAX_SEAL_BYTES)?.to_vec(),
            },
            _ => Self::Final,
        };
        r.end(message.name())?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> Vec<OverlapMessage> {
        vec![
            OverlapMessage::Hello {
                terms: [9; 32],
                count: 8,
            },
            OverlapMessage::Share {
                terms: [9; 32],
                key: Zeroizing::new([1; 32]),
                noise: Zeroizing::new([2; 32]),
            },
            OverlapMessage::Pseudonyms(vec![3; 48]),
            OverlapMessage::End {
                count: 3,
                digest: [4; 32],
                seal: vec![5; 9],
            },
            OverlapMessage::Published {
                known: MadeKnown {
                    value: -7,
                    salt: [9; 32],
                },
                streams: vec![(8, [6; 32]), (10, [7; 32])],
                seal: vec![],
            },
            OverlapMessage::Ack { seal: vec![8] },
            OverlapMessage::Final,
        ]
    }

    #[test]
    fn frames_are_golden() {
        let nines = "09".repeat(32);
        let found: Vec<String> = all()
            .iter()
            .map(|m| hex::encode(m.encode().unwrap()))
            .collect();
        assert_eq!(found[0], format!("300000002901{nines}0000000000000008"));
        assert_eq!(
            found[1],
            format!("310000006101{nines}{}{}", "01".repeat(32), "02".repeat(32))
        );
        assert_eq!(found[5], "3500000003000108");
        assert_eq!(found[6], "3600000000");
    }

    #[test]
    fn round_trips_and_every_cut_or_extension_is_refused() {
        for m in all() {
            let bytes = m.encode().unwrap();
            assert!(OverlapMessage::decode(&bytes).unwrap() == m);
            for cut in 0..bytes.len() {
                assert!(OverlapMessage::decode(&bytes[..cut]).is_err());
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(OverlapMessage::decode(&longer).is_err());
            longer[4] = longer[4].wrapping_add(1);
            assert!(OverlapMessage::decode(&longer).is_err(), "{}", m.name());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_that_encodes_to_them_or_an_error(
            kind in FIRST_KIND..=LAST_KIND,
            payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
            let frame = [&[kind][..], &len, &payload].concat();
            if let Ok(message) = OverlapMessage::decode(&frame) {
                prop_assert_eq!(message.encode().unwrap(), frame);
            }
        }
    }
}
