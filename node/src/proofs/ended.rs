//! How a match or an overlap ended, at one head. Which of the two a session is, which record closed it and which ones confirmed it
//! follow from the ledger alone, so that any member's node can prove it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tally_contracts::ids::{AgreementId, MemberId, RecordId, SessionId};
use tally_contracts::records::Body;
use tally_contracts::state::{self, MatchState, MatchStatus, OverlapState, keys};
use tally_contracts::{Canonical, Record, StateRead as _};
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

/// A match or an overlap of which proofs are taken, head after head, with what was found of it: records that ended it stay where they are, so
/// that each entry is read once.
#[derive(Debug)]
pub struct EndSearch {
    session: SessionId,
    from: Option<RecordId>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Up to which entry was looked; `None` before the first.
    until: Option<u64>,
    closed: Option<u64>,
    confirmed: BTreeMap<MemberId, u64>,
    dropped: Option<LedgerError>,
}

/// What the state says of a session.
struct Said {
    of: Of,
    key: Vec<u8>,
    agreement: AgreementId,
    opened: RecordId,
}

impl EndSearch {
    /// The records are looked for from the record `from` on, or from the one that opened the session; so one that ran for long is found
    /// faster with a later one.
    #[must_use]
    pub fn new(session: SessionId, from: Option<RecordId>) -> Self {
        Self {
            session,
            from,
            found: Mutex::default(),
        }
    }

    /// Takes what the state says at the ledger's head, and finds the records that ended it.
    ///
    /// # Errors
    /// [`ProofError::NoSession`], [`ProofError::NotClosed`], [`ProofError::NoRecord`], and [`ProofError::Ledger`], also where entries
    /// that it needs were dropped.
    pub fn take(&self, ledger: &Ledger) -> Result<EndTaken, ProofError> {
        let said = self.said(ledger)?;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.until.is_none() {
            let from = self.from.as_ref().unwrap_or(&said.opened);
            found.until = Some(place(ledger, from)?.index);
        }
        // Most is read before the head is taken: that of a ledger which is written meanwhile would be too old for the newest checkpoint.
        let head = ledger.head().tree_size;
        let value = ledger.state().get(&said.key).map_err(LedgerError::from)?;
        found.look(ledger, &self.session, &self.confirmed(&said, value)?, head)?;
        let [ended, agreement] =
            ledger.state_evidences([&said.key, &keys::agreement(&said.agreement)])?;
        let parties = self.confirmed(&said, ended.value.clone())?;
        found.look(ledger, &self.session, &parties, ended.head.tree_size)?;
        Ok(EndTaken {
            records: found.records(&parties)?,
            of: said.of,
            ended,
            agreement,
        })
    }

    /// What does not change any more: of which kind it is, who opened it, and under which agreement.
    fn said(&self, ledger: &Ledger) -> Result<Said, ProofError> {
        let (known, session) = (ledger.state(), &self.session);
        if let Some(m) = state::match_state(known, session).map_err(LedgerError::from)? {
            return Ok(Said {
                of: Of::Match,
                key: keys::match_session(session),
                agreement: m.agreement,
                opened: m.record,
            });
        }
        match state::overlap(known, session).map_err(LedgerError::from)? {
            Some(o) => Ok(Said {
                of: Of::Overlap,
                key: keys::overlap_session(session),
                agreement: o.agreement,
                opened: o.record,
            }),
            None => Err(ProofError::NoSession { session: *session }),
        }
    }

    /// Who has confirmed the receipt by what the state says, in the order of the agreement; nobody of a match.
    fn confirmed(&self, said: &Said, value: Option<Vec<u8>>) -> Result<Vec<MemberId>, ProofError> {
        let value = value.ok_or(ProofError::Internal("a session that left the state"))?;
        let (is_open, parties) = match said.of {
            Of::Match => {
                let status = MatchState::from_bytes(&value)?.status;
                let open = matches!(status, MatchStatus::Open | MatchStatus::Released);
                (open, Vec::new())
            }
            Of::Overlap => {
                let state = OverlapState::from_bytes(&value)?;
                let open = match state.status {
                    MatchStatus::Open => true,
                    MatchStatus::Released => !state.has_receipt(),
                    _ => false,
                };
                let confirmed = state.parties.iter().filter(|p| p.confirmed);
                (open, confirmed.map(|p| p.member).collect())
            }
        };
        if is_open {
            return Err(ProofError::NotClosed {
                session: self.session,
            });
        }
        Ok(parties)
    }
}

impl Found {
    /// Looks on, up to an index, for the record that closed a session and the confirmations by these parties.
    fn look(
        &mut self,
        ledger: &Ledger,
        session: &SessionId,
        parties: &[MemberId],
        end: u64,
    ) -> Result<(), ProofError> {
        let mut at = self.until.unwrap_or_default();
        while at < end && !self.has_all(parties) {
            let (some, missing) = read_some(ledger, at, end)?;
            self.dropped = self.dropped.take().or(missing);
            for (index, entry) in (at..).zip(&some) {
                // The genesis and BlockInfos are none.
                let Ok(record) = Record::from_bytes(entry) else {
                    continue;
                };
                match record.body() {
                    Ok(Body::CloseMatch(b)) if b.session == *session => self.closed = Some(index),
                    Ok(Body::CloseOverlap(b)) if b.session == *session => {
                        self.closed = Some(index);
                    }
                    Ok(Body::ConfirmOverlap(b)) if b.session == *session => {
                        let signer = record.signers().first().map(|s| s.member);
                        self.confirmed.extend(signer.map(|member| (member, index)));
                    }
                    _ => {}
                }
            }
            at += (some.len() as u64).max(1);
            self.until = Some(at);
        }
        Ok(())
    }

    fn has_all(&self, parties: &[MemberId]) -> bool {
        self.closed.is_some() && parties.iter().all(|p| self.confirmed.contains_key(p))
    }

    fn records(&mut self, parties: &[MemberId]) -> Result<EndRecords, ProofError> {
        let confirmed = parties.iter().map(|p| self.confirmed.get(p).copied());
        match (self.closed, confirmed.collect()) {
            (Some(closed), Some(confirmed)) => Ok(EndRecords { closed, confirmed }),
            _ => Err(match self.dropped.take() {
                Some(dropped) => dropped.into(),
                None => ProofError::Internal("a session that the state has as closed by no record"),
            }),
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
