//! How a match or an overlap ended, at one head. Which of the two a session is, which record closed it and which ones confirmed it
//! follow from the ledger alone, so that any member's node can prove it.

use tally_contracts::ids::{MemberId, RecordId, SessionId};
use tally_contracts::records::Body;
use tally_contracts::state::{self, MatchState, MatchStatus, OverlapState, keys};
use tally_contracts::{Canonical, Record};
use tally_evidence::{Extra, HeadInclusion, MatchExtra, OverlapExtra, PlacedRecord, StateValue};
use tally_ledger::{Error as LedgerError, Ledger, StateEvidence};
use tally_merkle::Note;

use super::take::{AtHead, same_size};
use super::{Kit, ProofError, block_of, kit, place, record_extra};

/// Entries that are read at once.
const AT_ONCE: u64 = 1024;

/// How a match or an overlap ended, at one head.
#[derive(Debug, Clone)]
pub struct EndTaken {
    records: EndRecords,
    of: Of,
    ended: StateEvidence,
    agreement: StateEvidence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Match,
    Overlap,
}

/// The indexes of the records that ended it.
#[derive(Debug, Clone)]
struct EndRecords {
    closed: u64,
    /// Of an overlap, one for each party that has confirmed the receipt, in the order of the agreement.
    confirmed: Vec<u64>,
}

impl EndTaken {
    /// Takes what the state says at the ledger's head of the match or overlap of a session, and finds the records that ended it. They
    /// are looked for from the record `from` on, or from the one that opened it; so one that ran for long is found faster with a later
    /// one.
    ///
    /// # Errors
    /// [`ProofError::NoSession`], [`ProofError::NotClosed`], [`ProofError::NoRecord`], and [`ProofError::Ledger`], also where entries
    /// that it needs were dropped.
    pub fn take(
        ledger: &Ledger,
        session: &SessionId,
        from: Option<&RecordId>,
    ) -> Result<Self, ProofError> {
        let known = ledger.state();
        let of_two = state::match_state(known, session).map_err(LedgerError::from)?;
        let of_several = state::overlap(known, session).map_err(LedgerError::from)?;
        // What does not change any more: of which kind it is, who opened it, and under which agreement.
        let (of, key, agreement, opened) = match (of_two, of_several) {
            (Some(m), _) => (
                Of::Match,
                keys::match_session(session),
                m.agreement,
                m.record,
            ),
            (None, Some(o)) => (
                Of::Overlap,
                keys::overlap_session(session),
                o.agreement,
                o.record,
            ),
            (None, None) => return Err(ProofError::NoSession { session: *session }),
        };
        let [ended, agreement] = ledger.state_evidences([&key, &keys::agreement(&agreement)])?;
        let value = ended
            .value
            .as_deref()
            .ok_or(ProofError::Internal("a session that left the state"))?;
        let (is_closed, parties) = match of {
            Of::Match => {
                let status = MatchState::from_bytes(value)?.status;
                let open = matches!(status, MatchStatus::Open | MatchStatus::Released);
                (!open, Vec::new())
            }
            Of::Overlap => {
                let state = OverlapState::from_bytes(value)?;
                let open = match state.status {
                    MatchStatus::Open => true,
                    MatchStatus::Released => !state.has_receipt(),
                    _ => false,
                };
                let confirmed = state.parties.iter().filter(|p| p.confirmed);
                (!open, confirmed.map(|p| p.member).collect())
            }
        };
        if !is_closed {
            return Err(ProofError::NotClosed { session: *session });
        }
        let from = place(ledger, from.unwrap_or(&opened))?.index;
        Ok(Self {
            records: EndRecords::find(ledger, session, &parties, from..ended.head.tree_size)?,
            of,
            ended,
            agreement,
        })
    }
}

impl EndRecords {
    /// Finds the record that closed a session, and the confirmations by these parties, among some entries.
    fn find(
        ledger: &Ledger,
        session: &SessionId,
        parties: &[MemberId],
        entries: std::ops::Range<u64>,
    ) -> Result<Self, ProofError> {
        let mut closed = None;
        let mut confirmed = vec![None; parties.len()];
        let mut dropped = None;
        let mut at = entries.start;
        while at < entries.end && (closed.is_none() || confirmed.contains(&None)) {
            let (some, missing) = read_some(ledger, at, entries.end)?;
            dropped = dropped.or(missing);
            for (index, entry) in (at..).zip(&some) {
                // The genesis and BlockInfos are none.
                let Ok(record) = Record::from_bytes(entry) else {
                    continue;
                };
                match record.body() {
                    Ok(Body::CloseMatch(b)) if b.session == *session => closed = Some(index),
                    Ok(Body::CloseOverlap(b)) if b.session == *session => closed = Some(index),
                    Ok(Body::ConfirmOverlap(b)) if b.session == *session => {
                        let signer = record.signers().first().map(|s| s.member);
                        let of = parties.iter().position(|p| signer == Some(*p));
                        if let Some(slot) = of.and_then(|i| confirmed.get_mut(i)) {
                            *slot = Some(index);
                        }
                    }
                    _ => {}
                }
            }
            at += (some.len() as u64).max(1);
        }
        let confirmed: Option<Vec<u64>> = confirmed.into_iter().collect();
        match (closed, confirmed, dropped) {
            (Some(closed), Some(confirmed), _) => Ok(Self { closed, confirmed }),
            (.., Some(dropped)) => Err(dropped.into()),
            _ => Err(ProofError::Internal(
                "a session that the state has as closed by no record",
            )),
        }
    }
}

/// Entries from `at` on, up to `end` at most; one or none where old blocks were dropped, with the error that says so.
fn read_some(
    ledger: &Ledger,
    at: u64,
    end: u64,
) -> Result<(Vec<Vec<u8>>, Option<LedgerError>), ProofError> {
    if at >= ledger.first_entry() {
        let to = at.saturating_add(AT_ONCE).min(end);
        return Ok((ledger.entries(at, to)?, None));
    }
    match ledger.entry(at) {
        Ok(entry) => Ok((vec![entry], None)),
        Err(dropped @ LedgerError::Dropped { .. }) => Ok((Vec::new(), Some(dropped))),
        Err(e) => Err(e.into()),
    }
}

impl AtHead for EndTaken {
    fn tree_size(&self) -> u64 {
        self.ended.head.tree_size
    }

    fn seal(&self, ledger: &Ledger, checkpoint: &Note) -> Result<Kit, ProofError> {
        let size = same_size(self.tree_size(), checkpoint)?;
        let (index, info) = self
            .ended
            .block_info
            .clone()
            .ok_or(ProofError::EmptyLedger)?;
        let head = HeadInclusion {
            info,
            path: ledger.inclusion_proof(index, size)?,
        };
        let closed = record_extra(ledger, self.records.closed, checkpoint)?;
        let ended = value(&self.ended)?;
        let agreement = value(&self.agreement)?;
        let extra = match self.of {
            Of::Match => Extra::Match(Box::new(MatchExtra {
                closed,
                head,
                matched: ended,
                agreement,
            })),
            Of::Overlap => {
                let confirmed = self.records.confirmed.iter();
                Extra::Overlap(Box::new(OverlapExtra {
                    closed,
                    head,
                    overlap: ended,
                    agreement,
                    confirmed: confirmed
                        .map(|index| placed(ledger, *index, size))
                        .collect::<Result<_, _>>()?,
                }))
            }
        };
        kit(ledger, self.records.closed, &extra, checkpoint)
    }
}

fn placed(ledger: &Ledger, index: u64, size: u64) -> Result<PlacedRecord, ProofError> {
    Ok(PlacedRecord {
        record: ledger.entry(index)?,
        index,
        path: ledger.inclusion_proof(index, size)?,
        block: block_of(ledger, index, size)?,
    })
}

fn value(evidence: &StateEvidence) -> Result<StateValue, ProofError> {
    let value = evidence.value.clone();
    Ok(StateValue {
        value: value.ok_or(ProofError::Internal("a match without its agreement"))?,
        proof: evidence.proof.clone(),
    })
}
