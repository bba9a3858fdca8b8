//! `overlap_n`: three to eight parties count the people that all of them have, with a helper that is none of them.
//!
//! No record of it needs several signers, so no node's key waits for another node. Each party joins by itself and pays by that; the
//! helper releases once all have joined, and closes with a receipt; each party confirms the receipt.

use sha2::{Digest, Sha256};
use tally_merkle::Hash;

use super::audience::read_bucket;
use super::{AudienceRef, BODY_VERSION, BudgetCap, MAX_PARTIES, Noise};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::domains;
use crate::ids::{AgreementId, MemberId, RecordId, SessionId};
use crate::refusal::Refusal;

/// Fewest parties of an agreement on `overlap_n`.
pub const MIN_OVERLAP_PARTIES: usize = 3;
/// Most dummies and fillers that noise adds to one party's list.
const MAX_POOLS: u64 = 1 << 24;
/// Largest bound of one pool's noise.
const MAX_REGION_BOUND: u32 = 1 << 20;

/// The terms of `overlap_n` in an agreement. One byte for the helper's presence, its ID, the noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperTerms {
    /// The member whose node counts; it is no party, and accepts the agreement as every party does. An agreement without one is
    /// refused.
    pub helper: Option<MemberId>,
    /// The noise against the helper: one draw for each set of two or more parties. A person in one more list moves from one set to
    /// another, so its sensitivity is 2. None where the counts have none.
    pub regions: Noise,
}

impl HelperTerms {
    /// Dummies and fillers that noise adds to the list of each of so many parties: a pool of twice the bound for each set of two or
    /// more parties that it is in.
    #[must_use]
    pub fn pools(&self, parties: usize) -> u64 {
        let Noise::Laplace { bound, .. } = self.regions else {
            return 0;
        };
        let others = parties.saturating_sub(1).min(MAX_PARTIES);
        ((1 << others) - 1) * 2 * u64::from(bound)
    }

    /// Refuses terms that no run could have.
    pub(crate) fn verify(&self, parties: &[MemberId], noise: &Noise) -> Result<MemberId, Refusal> {
        let refuse = |reason| Err(Refusal::Overlap { reason });
        let Some(helper) = self.helper else {
            return refuse("no helper is agreed; name a member that is no party");
        };
        if parties.len() < MIN_OVERLAP_PARTIES {
            return refuse("at least three parties are needed; two have cardinality");
        }
        if parties.contains(&helper) {
            return refuse("the helper is one of the parties; name a member that is none");
        }
        if (self.regions == Noise::None) != (*noise == Noise::None) {
            return refuse("noise against the helper is needed where counts have some");
        }
        if let Noise::Laplace { bound, .. } = self.regions
            && (bound > MAX_REGION_BOUND || self.pools(parties.len()) > MAX_POOLS)
        {
            return refuse(
                "the noise against the helper takes more than 2^24 rows; a larger epsilon or delta takes fewer",
            );
        }
        Ok(helper)
    }
}

impl Canonical for HelperTerms {
    fn write(&self, w: &mut Writer) {
        w.bool(self.helper.is_some());
        if let Some(helper) = &self.helper {
            w.raw(&helper.0);
        }
        self.regions.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            helper: match r.bool("helper")? {
                true => Some(MemberId(r.array("helper")?)),
                false => None,
            },
            regions: Noise::read(r)?,
        })
    }
}

/// Kind 43: a party brings an audience to a session, and reserves its budget. The first one opens the session; when every party
/// has joined it may be released. Signed by a record key of the party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinOverlap {
    /// The agreement.
    pub agreement: AgreementId,
    /// The session, used once in the network.
    pub session: SessionId,
    /// What the party brings.
    pub audience: AudienceRef,
}

impl Canonical for JoinOverlap {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION)
            .raw(&self.agreement.0)
            .raw(&self.session.0);
        self.audience.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            agreement: RecordId(r.array("agreement ID")?),
            session: SessionId(r.array("session ID")?),
            audience: AudienceRef::read(r)?,
        })
    }
}

fn write_digests(w: &mut Writer, digests: &[Hash]) {
    w.list(digests, |w, d| {
        w.raw(d.as_bytes());
    });
}

pub(crate) fn read_digests(r: &mut Reader<'_>) -> Result<Vec<Hash>, CodecError> {
    r.list("stream digests", MAX_PARTIES, |r| {
        Ok(Hash(r.array("stream digest")?))
    })
}

/// Kind 44: the helper has every party's list and is about to count; the reserved budgets are spent, whatever happens next.
/// Committed before the count leaves the helper. Signed by a record key of the helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseOverlap {
    /// The session.
    pub session: SessionId,
    /// SHA-256 of every party's list, in the order of the agreement.
    pub streams: Vec<Hash>,
}

impl Canonical for ReleaseOverlap {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION).raw(&self.session.0);
        write_digests(w, &self.streams);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            session: SessionId(r.array("session ID")?),
            streams: read_digests(r)?,
        })
    }
}

/// What the helper signs after a count, and every party confirms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapReceipt {
    /// The agreement's noise on the count.
    pub noise: Noise,
    /// The agreement's noise against the helper.
    pub regions: Noise,
    /// Size bucket of every party's set, in the order of the agreement.
    pub buckets: Vec<u8>,
    /// What it cost every party for the count, that all parties learn.
    pub spent: BudgetCap,
    /// What it cost every party for what the helper saw.
    pub helper_spent: BudgetCap,
    /// Salted commitment to the published count.
    pub result: Hash,
    /// SHA-256 of every party's list, as released.
    pub streams: Vec<Hash>,
}

impl OverlapReceipt {
    /// SHA-256(`tally/overlap-receipt/v1` LF || session || receipt bytes): what the state keeps of it, and parties confirm.
    #[must_use]
    pub fn digest(&self, session: &SessionId) -> Hash {
        Hash(
            Sha256::new()
                .chain_update(domains::OVERLAP_RECEIPT)
                .chain_update(session.0)
                .chain_update(self.to_bytes())
                .finalize()
                .into(),
        )
    }
}

impl Canonical for OverlapReceipt {
    fn write(&self, w: &mut Writer) {
        self.noise.write(w);
        self.regions.write(w);
        w.list(&self.buckets, |w, b| {
            w.u8(*b);
        });
        self.spent.write(w);
        self.helper_spent.write(w);
        w.raw(self.result.as_bytes());
        write_digests(w, &self.streams);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            noise: Noise::read(r)?,
            regions: Noise::read(r)?,
            buckets: r.list("size buckets", MAX_PARTIES, read_bucket)?,
            spent: BudgetCap::read(r)?,
            helper_spent: BudgetCap::read(r)?,
            result: Hash(r.array("result commitment")?),
            streams: read_digests(r)?,
        })
    }
}

/// How an overlap ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlapClose {
    /// Every party has acknowledged the count. Code 1, then the receipt; by the helper.
    Done(OverlapReceipt),
    /// It broke. Code 2; by the helper or a party.
    Failed,
    /// One of them no longer wants it. Code 3; likewise.
    Cancelled,
}

/// Kind 45: ends an overlap. Signed by one record key. Reservations that were not released go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseOverlap {
    /// The session.
    pub session: SessionId,
    /// How it ended.
    pub close: OverlapClose,
}

impl Canonical for CloseOverlap {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION).raw(&self.session.0);
        match &self.close {
            OverlapClose::Done(receipt) => receipt.write(w.u8(1)),
            OverlapClose::Failed => {
                w.u8(2);
            }
            OverlapClose::Cancelled => {
                w.u8(3);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        let session = SessionId(r.array("session ID")?);
        let close = match r.u8("outcome")? {
            1 => OverlapClose::Done(OverlapReceipt::read(r)?),
            2 => OverlapClose::Failed,
            3 => OverlapClose::Cancelled,
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

/// Kind 46: a party confirms the helper's receipt: it holds a count that opens the commitment. Signed by a record key of the party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmOverlap {
    /// The session.
    pub session: SessionId,
    /// Digest of the receipt.
    pub receipt: Hash,
}

impl Canonical for ConfirmOverlap {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION)
            .raw(&self.session.0)
            .raw(self.receipt.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            session: SessionId(r.array("session ID")?),
            receipt: Hash(r.array("receipt digest")?),
        })
    }
}
