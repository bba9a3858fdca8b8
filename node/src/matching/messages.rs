//! The desk's own messages, in the order they are sent. The first stream begins with Request, then Accept or Refuse; the second
//! with Receipt, that of a list that broke with Resume and Resumed, behind which the list goes on, that of one bucket of a list with Bucket and
//! Resumed; either goes on with a record that both sign: Lease, Leased, Sign, Signed. Several parties have streams of their own: Invite, Attend,
//! Convene, Joined; and for the protocol Link, Linked. A frame is a 32-bit length and a body (version 1, type, fields), then
//! the key ID and signature of its sender.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::domains::MATCH_MESSAGE;
use tally_contracts::envelope::Signer;
use tally_contracts::ids::{
    AgreementId, AudienceLabel, KeyId, MemberId, NetworkId, PublicKey, RecordId, Signature,
};
use tally_contracts::records::{AudienceRef, Computation, MAX_PARTIES};
use tally_contracts::refusal::RefusalNotice;
use tally_measure::SetOpening;
use tally_merkle::Hash;

/// The longest frame, without its length.
pub(super) const MAX_MESSAGE_BYTES: usize = 4_096;
const VERSION: u8 = 1;
/// Key ID and signature behind a body.
const SEAL_BYTES: usize = KeyId::LEN + Signature::LEN;

/// Asks for a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) agreement: AgreementId,
    pub(super) computation: Computation,
    /// What the initiator brings, as committed, and what opens it.
    pub(super) audience: AudienceRef,
    pub(super) opening: SetOpening,
    /// Which audience of the responder is meant, if it matters.
    pub(super) peer_audience: Option<AudienceLabel>,
    /// Fresh.
    pub(super) nonce: [u8; 32],
}

/// Agrees to a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accept {
    pub(super) audience: AudienceRef,
    pub(super) opening: SetOpening,
    /// Fresh.
    pub(super) nonce: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Request(Request),
    Accept(Accept),
    Refuse(RefusalNotice),
    /// The initiator wants a record signed; its nonce, if its key's turn comes first.
    Lease {
        signer: Option<Signer>,
    },
    /// The responder's nonce.
    Leased {
        signer: Signer,
    },
    /// The initiator's part of a record that both know.
    Sign {
        signer: Signer,
        valid_until_ms: u64,
        signature: Signature,
    },
    /// The responder's part.
    Signed {
        signature: Signature,
    },
    /// The initiator wants the receipt signed.
    Receipt(ReceiptOffer),
    /// The initiator wants to go on with a list that broke.
    Resume {
        /// The nonce of the match's request.
        nonce: [u8; 32],
    },
    /// The responder goes on too.
    Resumed,
    /// The initiator wants one bucket of a list that runs matched on this stream.
    Bucket {
        /// The nonce of the match's request.
        nonce: [u8; 32],
        /// Which.
        bucket: u32,
    },
    /// A party of several asks another, or the helper, to take part in an overlap.
    Invite(Invite),
    /// It takes part.
    Attend {
        /// Fresh.
        nonce: [u8; 32],
    },
    /// Who takes part, in the order of the agreement, then the helper.
    Convene {
        seats: Vec<Seat>,
    },
    /// The sender has joined on the ledger.
    Joined,
    /// Opens a stream of the protocol between two that take part.
    Link {
        /// The nonce of the invitation.
        nonce: [u8; 32],
    },
    /// The other one takes the stream.
    Linked,
}

/// Asks for an overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invite {
    pub(super) agreement: AgreementId,
    /// What the asker brings, as committed.
    pub(super) audience: AudienceRef,
    /// Which audience the invited party is to bring, if it matters.
    pub(super) peer_audience: Option<AudienceLabel>,
    /// Fresh.
    pub(super) nonce: [u8; 32],
}

/// One that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) nonce: [u8; 32],
    /// Transport key of its node.
    pub(super) node: PublicKey,
}

/// Asks for the receipt of a match that has its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReceiptOffer {
    /// The nonce of the match's request.
    pub(super) nonce: [u8; 32],
    /// The receipt's commitment to the result, and what opens it.
    pub(super) salt: [u8; 32],
    pub(super) result: Hash,
}

impl Message {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Accept(_) => "accept",
            Self::Refuse(_) => "refuse",
            Self::Lease { .. } => "lease",
            Self::Leased { .. } => "leased",
            Self::Sign { .. } => "sign",
            Self::Signed { .. } => "signed",
            Self::Receipt(_) => "receipt",
            Self::Resume { .. } => "resume",
            Self::Resumed => "resumed",
            Self::Bucket { .. } => "bucket",
            Self::Invite(_) => "invite",
            Self::Attend { .. } => "attend",
            Self::Convene { .. } => "convene",
            Self::Joined => "joined",
            Self::Link { .. } => "link",
            Self::Linked => "linked",
        }
    }
}

fn write_signer(w: &mut Writer, signer: &Signer) {
    w.raw(&signer.member.0).raw(&signer.key.0).u64(signer.nonce);
}

fn read_signer(r: &mut Reader<'_>) -> Result<Signer, CodecError> {
    Ok(Signer {
        member: MemberId(r.array("signer's member")?),
        key: KeyId(r.array("signer's key")?),
        nonce: r.u64("signer's nonce")?,
    })
}

fn write_label(w: &mut Writer, label: Option<&AudienceLabel>) {
    w.bool(label.is_some());
    if let Some(label) = label {
        w.raw(&label.0);
    }
}

fn read_label(r: &mut Reader<'_>) -> Result<Option<AudienceLabel>, CodecError> {
    Ok(match r.bool("peer's audience")? {
        true => Some(AudienceLabel(r.array("peer's audience")?)),
        false => None,
    })
}

fn read_opening(r: &mut Reader<'_>) -> Result<SetOpening, CodecError> {
    Ok(SetOpening {
        root: Hash(r.array("set root")?),
        size: r.u64("set size")?,
        salt: r.array("opening salt")?,
    })
}

impl Canonical for Message {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION);
        match self {
            Self::Request(m) => {
                w.u8(1).raw(&m.agreement.0);
                m.computation.write(w);
                m.audience.write(w);
                w.raw(&m.opening.to_bytes());
                write_label(w, m.peer_audience.as_ref());
                w.raw(&m.nonce);
            }
            Self::Accept(m) => {
                m.audience.write(w.u8(2));
                w.raw(&m.opening.to_bytes()).raw(&m.nonce);
            }
            Self::Refuse(notice) => notice.write(w.u8(3)),
            Self::Lease { signer } => {
                w.u8(4).bool(signer.is_some());
                if let Some(signer) = signer {
                    write_signer(w, signer);
                }
            }
            Self::Leased { signer } => write_signer(w.u8(5), signer),
            Self::Sign {
                signer,
                valid_until_ms,
                signature,
            } => {
                write_signer(w.u8(6), signer);
                w.u64(*valid_until_ms).raw(&signature.0);
            }
            Self::Signed { signature } => {
                w.u8(7).raw(&signature.0);
            }
            Self::Receipt(m) => {
                w.u8(8).raw(&m.nonce).raw(&m.salt).raw(m.result.as_bytes());
            }
            Self::Resume { nonce } => {
                w.u8(9).raw(nonce);
            }
            Self::Resumed => {
                w.u8(10);
            }
            Self::Bucket { nonce, bucket } => {
                w.u8(11).raw(nonce).u32(*bucket);
            }
            Self::Invite(m) => {
                m.audience.write(w.u8(20).raw(&m.agreement.0));
                write_label(w, m.peer_audience.as_ref());
                w.raw(&m.nonce);
            }
            Self::Attend { nonce } => {
                w.u8(21).raw(nonce);
            }
            Self::Convene { seats } => {
                w.u8(22).list(seats, |w, s| {
                    w.raw(&s.nonce).raw(&s.node.0);
                });
            }
            Self::Joined => {
                w.u8(23);
            }
            Self::Link { nonce } => {
                w.u8(24).raw(nonce);
            }
            Self::Linked => {
                w.u8(25);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("message version", VERSION)?;
        Ok(match r.u8("message type")? {
            1 => Self::Request(Request {
                agreement: RecordId(r.array("agreement ID")?),
                computation: Computation::read(r)?,
                audience: AudienceRef::read(r)?,
                opening: read_opening(r)?,
                peer_audience: read_label(r)?,
                nonce: r.array("nonce")?,
            }),
            2 => Self::Accept(Accept {
                audience: AudienceRef::read(r)?,
                opening: read_opening(r)?,
                nonce: r.array("nonce")?,
            }),
            3 => Self::Refuse(RefusalNotice::read(r)?),
            4 => Self::Lease {
                signer: match r.bool("signer")? {
                    true => Some(read_signer(r)?),
                    false => None,
                },
            },
            5 => Self::Leased {
                signer: read_signer(r)?,
            },
            6 => Self::Sign {
                signer: read_signer(r)?,
                valid_until_ms: r.u64("valid until")?,
                signature: Signature(r.array("signature")?),
            },
            7 => Self::Signed {
                signature: Signature(r.array("signature")?),
            },
            8 => Self::Receipt(ReceiptOffer {
                nonce: r.array("nonce")?,
                salt: r.array("result salt")?,
                result: Hash(r.array("result commitment")?),
            }),
            9 => Self::Resume {
                nonce: r.array("nonce")?,
            },
            10 => Self::Resumed,
            11 => Self::Bucket {
                nonce: r.array("nonce")?,
                bucket: r.u32("bucket")?,
            },
            20 => Self::Invite(Invite {
                agreement: RecordId(r.array("agreement ID")?),
                audience: AudienceRef::read(r)?,
                peer_audience: read_label(r)?,
                nonce: r.array("nonce")?,
            }),
            21 => Self::Attend {
                nonce: r.array("nonce")?,
            },
            22 => Self::Convene {
                seats: r.list("seats", MAX_PARTIES + 1, |r| {
                    Ok(Seat {
                        nonce: r.array("nonce")?,
                        node: PublicKey(r.array("node")?),
                    })
                })?,
            },
            23 => Self::Joined,
            24 => Self::Link {
                nonce: r.array("nonce")?,
            },
            25 => Self::Linked,
            found => {
                return Err(CodecError::Invalid {
                    what: "message type",
                    found: found.into(),
                });
            }
        })
    }
}

/// What is signed for a body: never the same for another network, direction or match.
pub(super) fn message_sign_bytes(
    network: &NetworkId,
    sender: &MemberId,
    recipient: &MemberId,
    initiator_nonce: &[u8; 32],
    body: &[u8],
) -> Vec<u8> {
    [
        MATCH_MESSAGE,
        &[1],
        &network.0,
        &sender.0,
        &recipient.0,
        initiator_nonce,
        body,
    ]
    .concat()
}

/// What is signed for a statement of the protocol on the sets; its context names network, session and both sides.
pub(super) fn statement_sign_bytes(sender: &MemberId, statement: &[u8]) -> Vec<u8> {
    [MATCH_MESSAGE, &[2], &sender.0, statement].concat()
}

/// A key ID and a signature, as they stand behind a body and in a statement's seal.
pub(super) fn seal_bytes(key: &KeyId, signature: &Signature) -> Vec<u8> {
    [&key.0[..], &signature.0[..]].concat()
}

/// Takes a seal's bytes apart, all of them.
pub(super) fn read_seal(bytes: &[u8]) -> Option<(KeyId, Signature)> {
    let (key, signature) = bytes.split_first_chunk::<{ KeyId::LEN }>()?;
    Some((KeyId(*key), Signature(signature.try_into().ok()?)))
}

/// Takes a frame apart into its body and seal.
pub(super) fn split_frame(frame: &[u8]) -> Result<(&[u8], KeyId, Signature), CodecError> {
    let truncated = || CodecError::Truncated {
        what: "signature",
        needed: SEAL_BYTES,
        left: frame.len(),
    };
    let at = frame.len().checked_sub(SEAL_BYTES).ok_or_else(truncated)?;
    let (body, seal) = frame.split_at_checked(at).ok_or_else(truncated)?;
    let (key, signature) = read_seal(seal).ok_or_else(truncated)?;
    Ok((body, key, signature))
}
