//! How a match ended: the record that closed it, with the receipt that both sides signed, and what the state says of the match and
//! of its agreement at the checkpoint.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::ids::MemberId;
use tally_contracts::records::{Body, Close};
use tally_contracts::state::{AgreementState, KeyUse, MatchState, MatchStatus, keys};
use tally_merkle::Checkpoint;

use crate::Error;
use crate::extra::{HeadInclusion, RecordExtra, StateValue};
use crate::report::{MatchReport, RecordReport};
use crate::roster::Roster;
use crate::verify::in_state;

/// A match: the CloseMatch record, and the state as of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchExtra {
    /// The record that closed it.
    pub closed: RecordExtra,
    /// The last entry under the checkpoint, which carries the state root.
    pub head: HeadInclusion,
    /// The match in the state.
    pub matched: StateValue,
    /// The agreement in the state.
    pub agreement: StateValue,
}

impl Canonical for MatchExtra {
    fn write(&self, w: &mut Writer) {
        self.closed.write(w);
        self.head.write(w);
        self.matched.write(w);
        self.agreement.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            closed: RecordExtra::read(r)?,
            head: HeadInclusion::read(r)?,
            matched: StateValue::read(r)?,
            agreement: StateValue::read(r)?,
        })
    }
}

pub(crate) fn judge(
    roster: &Roster,
    extra: &MatchExtra,
    closed: RecordReport,
    checkpoint: &Checkpoint,
) -> Result<MatchReport, Error> {
    let contradiction = |what| Error::Contradiction { what };
    let Body::CloseMatch(body) = &closed.body else {
        return Err(contradiction("the record closes no match"));
    };
    let root = extra.head.state_root(checkpoint)?;
    let key = keys::match_session(&body.session);
    let matched: MatchState = in_state("match", root, &key, &extra.matched)?;
    let key = keys::agreement(&matched.agreement);
    let agreement: AgreementState = in_state("agreement", root, &key, &extra.agreement)?;

    let signers: Vec<MemberId> = closed.signatories.iter().map(|s| s.member).collect();
    let both = [matched.initiator, matched.responder];
    let records = closed
        .signatories
        .iter()
        .all(|s| s.key_use == KeyUse::Records);
    let (status, by_right) = match &body.close {
        Close::Done(receipt) => {
            if matched.receipt != receipt.digest(&body.session) {
                return Err(contradiction(
                    "the receipt is not the one that the state has",
                ));
            }
            (MatchStatus::Done, signers == both)
        }
        Close::Failed => (MatchStatus::Failed, one_of(&signers, &both)),
        Close::Cancelled => (MatchStatus::Cancelled, one_of(&signers, &both)),
    };
    if !by_right || !records {
        return Err(contradiction("the match is not closed by its two members"));
    }
    if matched.status != status {
        return Err(contradiction("the match ended in another way in the state"));
    }
    if both.iter().any(|m| !agreement.terms.parties.contains(m)) {
        return Err(contradiction(
            "the agreement is not between the two members",
        ));
    }
    Ok(MatchReport {
        session: body.session,
        initiator_name: roster.name_or_id(&matched.initiator),
        responder_name: roster.name_or_id(&matched.responder),
        close: body.close.clone(),
        matched,
        agreement,
        closed,
        as_of_height: extra.head.info.height,
        as_of_ms: extra.head.info.time_ms,
    })
}

/// A match that gave nothing is closed by either one.
fn one_of(signers: &[MemberId], both: &[MemberId]) -> bool {
    matches!(signers, [one] if both.contains(one))
}
