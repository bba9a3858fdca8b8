//! How an overlap of several parties ended: the record that closed it, with the helper's receipt; the record by which each party
//! confirmed it; and what the state says of the overlap and of its agreement at the checkpoint.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::ids::MemberId;
use tally_contracts::records::{Body, MAX_PARTIES, OverlapClose};
use tally_contracts::state::{AgreementState, KeyUse, MatchStatus, OverlapState, keys};
use tally_merkle::{Checkpoint, Hash};

use crate::Error;
use crate::extra::{
    BlockInclusion, HeadInclusion, MAX_RECORD_BYTES, RecordExtra, StateValue, read_path, write_path,
};
use crate::report::{OverlapReport, RecordReport};
use crate::roster::Roster;
use crate::verify::{committed, in_state};

/// An overlap: the CloseOverlap record, the confirmations, and the state as of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapExtra {
    /// The record that closed it.
    pub closed: RecordExtra,
    /// The last entry under the checkpoint, which carries the state root.
    pub head: HeadInclusion,
    /// The overlap in the state.
    pub overlap: StateValue,
    /// The agreement in the state.
    pub agreement: StateValue,
    /// One for each party that has confirmed the receipt as of the checkpoint, in the order of the agreement.
    pub confirmed: Vec<PlacedRecord>,
}

/// A further record of a proof, with a place of its own: the proof's index and hashes are those of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedRecord {
    /// The record's entry, as it was signed.
    pub record: Vec<u8>,
    /// The entry's index.
    pub index: u64,
    /// Its inclusion proof under the checkpoint, leaf side first.
    pub path: Vec<Hash>,
    /// The BlockInfo of its block.
    pub block: BlockInclusion,
}

impl Canonical for PlacedRecord {
    fn write(&self, w: &mut Writer) {
        w.bytes(&self.record).u64(self.index);
        write_path(w, &self.path);
        self.block.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            record: r.bytes("record", MAX_RECORD_BYTES)?.to_vec(),
            index: r.u64("record's index")?,
            path: read_path(r)?,
            block: BlockInclusion::read(r)?,
        })
    }
}

impl Canonical for OverlapExtra {
    fn write(&self, w: &mut Writer) {
        self.closed.write(w);
        self.head.write(w);
        self.overlap.write(w);
        self.agreement.write(w);
        w.list(&self.confirmed, |w, record| record.write(w));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            closed: RecordExtra::read(r)?,
            head: HeadInclusion::read(r)?,
            overlap: StateValue::read(r)?,
            agreement: StateValue::read(r)?,
            confirmed: r.list("confirmations", MAX_PARTIES, PlacedRecord::read)?,
        })
    }
}

pub(crate) fn judge(
    roster: &Roster,
    extra: &OverlapExtra,
    closed: RecordReport,
    checkpoint: &Checkpoint,
) -> Result<OverlapReport, Error> {
    let contradiction = |what| Error::Contradiction { what };
    let Body::CloseOverlap(body) = &closed.body else {
        return Err(contradiction("the record closes no overlap"));
    };
    let root = extra.head.state_root(checkpoint)?;
    let key = keys::overlap_session(&body.session);
    let overlap: OverlapState = in_state("overlap", root, &key, &extra.overlap)?;
    let key = keys::agreement(&overlap.agreement);
    let agreement: AgreementState = in_state("agreement", root, &key, &extra.agreement)?;

    let signer = only_signer(&closed);
    let takes_part =
        |member: MemberId| member == overlap.helper || overlap.place(&member).is_some();
    let (status, by_right) = match &body.close {
        OverlapClose::Done(receipt) => {
            if overlap.receipt != receipt.digest(&body.session) {
                return Err(contradiction(
                    "the receipt is not the one that the state has",
                ));
            }
            let all = overlap.parties.iter().all(|p| p.confirmed);
            let status = if all {
                MatchStatus::Done
            } else {
                MatchStatus::Released
            };
            (status, signer == Some(overlap.helper))
        }
        OverlapClose::Failed => (MatchStatus::Failed, signer.is_some_and(takes_part)),
        OverlapClose::Cancelled => (MatchStatus::Cancelled, signer.is_some_and(takes_part)),
    };
    if !by_right {
        return Err(contradiction(
            "the overlap is not closed by its helper or a party",
        ));
    }
    if overlap.status != status {
        return Err(contradiction(
            "the overlap ended in another way in the state",
        ));
    }
    let agreed = &agreement.terms;
    let parties = overlap.parties.iter().map(|p| &p.member);
    let helper = agreed.overlap.as_ref().and_then(|o| o.helper);
    if !parties.eq(&agreed.parties) || helper != Some(overlap.helper) {
        return Err(contradiction(
            "the agreement is not between the parties and the helper",
        ));
    }

    let by: Vec<MemberId> = overlap
        .parties
        .iter()
        .filter(|p| p.confirmed)
        .map(|p| p.member)
        .collect();
    if by.len() != extra.confirmed.len() {
        return Err(contradiction(
            "the confirmations are not those of the parties that have confirmed",
        ));
    }
    let mut confirmed = Vec::with_capacity(by.len());
    for (party, placed) in by.iter().zip(&extra.confirmed) {
        let PlacedRecord {
            record,
            index,
            path,
            block,
        } = placed;
        let record = committed(roster, checkpoint, record, block, *index, path)?;
        let of_it = matches!(&record.body, Body::ConfirmOverlap(c)
            if c.session == body.session && c.receipt == overlap.receipt);
        if !of_it || only_signer(&record) != Some(*party) {
            return Err(contradiction(
                "a record is not the party's confirmation of the receipt",
            ));
        }
        confirmed.push(record);
    }
    Ok(OverlapReport {
        session: body.session,
        party_names: overlap
            .parties
            .iter()
            .map(|p| roster.name_or_id(&p.member))
            .collect(),
        helper_name: roster.name_or_id(&overlap.helper),
        close: body.close.clone(),
        overlap,
        agreement,
        closed,
        confirmed,
        as_of_height: extra.head.info.height,
        as_of_ms: extra.head.info.time_ms,
    })
}

/// The member that signed alone, with a key for records.
fn only_signer(record: &RecordReport) -> Option<MemberId> {
    match record.signatories.as_slice() {
        [one] if one.key_use == KeyUse::Records => Some(one.member),
        _ => None,
    }
}
