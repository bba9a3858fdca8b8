//! Matches: opened by both, released by the responder, closed with a receipt that both sign.

use sha2::{Digest, Sha256};
use tally_merkle::Hash;

use super::audience::read_bucket;
use super::{BODY_VERSION, BudgetCap, Computation, Noise};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::domains;
use crate::ids::{AgreementId, AudienceLabel, MemberId, RecordId, SessionId};

/// The audience that one side brings to a match, as it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceRef {
    /// The audience.
    pub label: AudienceLabel,
    /// The epoch of its commitment, this one or the one before.
    pub epoch: u64,
    /// The committed root.
    pub root: Hash,
    /// The committed size bucket.
    pub size_bucket: u8,
}

impl Canonical for AudienceRef {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.label.0)
            .u64(self.epoch)
            .raw(self.root.as_bytes())
            .u8(self.size_bucket);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            label: AudienceLabel(r.array("audience label")?),
            epoch: r.u64("epoch")?,
            root: Hash(r.array("audience root")?),
            size_bucket: read_bucket(r)?,
        })
    }
}

/// Kind 40: opens a match and reserves its budget for both owners. Signed by record keys of the initiator and the responder,
/// in that order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenMatch {
    /// The agreement.
    pub agreement: AgreementId,
    /// What is computed.
    pub computation: Computation,
    /// The session, used once in the network.
    pub session: SessionId,
    /// The side that asked.
    pub initiator: MemberId,
    /// The other side.
    pub responder: MemberId,
    /// What the initiator brings.
    pub initiator_audience: AudienceRef,
    /// What the responder brings.
    pub responder_audience: AudienceRef,
}

impl Canonical for OpenMatch {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION).raw(&self.agreement.0);
        self.computation.write(w);
        w.raw(&self.session.0)
            .raw(&self.initiator.0)
            .raw(&self.responder.0);
        self.initiator_audience.write(w);
        self.responder_audience.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            agreement: RecordId(r.array("agreement ID")?),
            computation: Computation::read(r)?,
            session: SessionId(r.array("session ID")?),
            initiator: MemberId(r.array("initiator")?),
            responder: MemberId(r.array("responder")?),
            initiator_audience: AudienceRef::read(r)?,
            responder_audience: AudienceRef::read(r)?,
        })
    }
}

/// Kind 41: the responder is about to answer; the reserved budget is spent, whatever happens next. Committed before the
/// responder's first reply byte. Signed by a record key of the responder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseMatch {
    /// The match.
    pub session: SessionId,
    /// SHA-256 of the initiator's whole stream.
    pub initiator_stream: Hash,
}

impl Canonical for ReleaseMatch {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION)
            .raw(&self.session.0)
            .raw(self.initiator_stream.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            session: SessionId(r.array("session ID")?),
            initiator_stream: Hash(r.array("stream digest")?),
        })
    }
}

/// What both sides sign after a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchReceipt {
    /// As opened.
    pub computation: Computation,
    /// The agreement's noise.
    pub noise: Noise,
    /// Size bucket of the initiator's set.
    pub initiator_bucket: u8,
    /// Size bucket of the responder's set.
    pub responder_bucket: u8,
    /// What the match cost each owner.
    pub spent: BudgetCap,
    /// What it cost the responder besides: in a `join_sum`, for the numbers of matches that the initiator saw. Zero, and not in the
    /// bytes, for every other computation.
    pub count_spent: BudgetCap,
    /// Salted commitment to the published result.
    pub result: Hash,
    /// SHA-256 of the initiator's stream, as released.
    pub initiator_stream: Hash,
    /// SHA-256 of the responder's stream.
    pub responder_stream: Hash,
}

impl MatchReceipt {
    /// SHA-256(`tally/match-receipt/v1` LF || session || receipt bytes): what the state keeps of a receipt.
    #[must_use]
    pub fn digest(&self, session: &SessionId) -> Hash {
        Hash(
            Sha256::new()
                .chain_update(domains::MATCH_RECEIPT)
                .chain_update(session.0)
                .chain_update(self.to_bytes())
                .finalize()
                .into(),
        )
    }
}

impl Canonical for MatchReceipt {
    fn write(&self, w: &mut Writer) {
        self.computation.write(w);
        self.noise.write(w);
        w.u8(self.initiator_bucket).u8(self.responder_bucket);
        self.spent.write(w);
        if self.computation == Computation::JoinSum {
            self.count_spent.write(w);
        }
        w.raw(self.result.as_bytes())
            .raw(self.initiator_stream.as_bytes())
            .raw(self.responder_stream.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let computation = Computation::read(r)?;
        Ok(Self {
            computation,
            noise: Noise::read(r)?,
            initiator_bucket: read_bucket(r)?,
            responder_bucket: read_bucket(r)?,
            spent: BudgetCap::read(r)?,
            count_spent: read_count_charge(r, computation)?,
            result: Hash(r.array("result commitment")?),
            initiator_stream: Hash(r.array("stream digest")?),
            responder_stream: Hash(r.array("stream digest")?),
        })
    }
}

/// The responder's further charge, which a `join_sum` alone has.
pub(crate) fn read_count_charge(
    r: &mut Reader<'_>,
    computation: Computation,
) -> Result<BudgetCap, CodecError> {
    if computation == Computation::JoinSum {
        BudgetCap::read(r)
    } else {
        Ok(BudgetCap::default())
    }
}

/// How a match ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Close {
    /// Both hold what they are due. Code 1, then the receipt.
    Done(MatchReceipt),
    /// It broke. Code 2.
    Failed,
    /// One side no longer wants it. Code 3.
    Cancelled,
}

/// Kind 42: ends a match. `Done` is signed by record keys of both, initiator first; else by one of them. A reservation that
/// was not released goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseMatch {
    /// The match.
    pub session: SessionId,
    /// How it ended.
    pub close: Close,
}

impl Canonical for CloseMatch {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION).raw(&self.session.0);
        match &self.close {
            Close::Done(receipt) => receipt.write(w.u8(1)),
            Close::Failed => {
                w.u8(2);
            }
            Close::Cancelled => {
                w.u8(3);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        let session = SessionId(r.array("session ID")?);
        let close = match r.u8("outcome")? {
            1 => Close::Done(MatchReceipt::read(r)?),
            2 => Close::Failed,
            3 => Close::Cancelled,
            found => {
                return Err(CodecError::Invalid {
                    what: "outcome",
                    found: found.into(),
                });
            }
        };
        Ok(Self { session, close })
    }
}
