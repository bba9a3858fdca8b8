//! What a proof needs so that the network ID alone is enough, where members have changed the network since its genesis.

use std::collections::BTreeSet;

use tally_contracts::block::{Block, CommitCertificate};
use tally_contracts::state::keys;
use tally_contracts::{Canonical as _, Record, StateProof};
use tally_evidence::{Extra, Following, PastValue, Roster, StateValue};
use tally_ledger::Ledger;
use tally_merkle::TlogProof;

use super::{Kit, ProofError, kit_of};

/// How often a head is tried: blocks go on while values are proven, and all must be of one.
const TRIES: usize = 50;

/// The same proof, with all that leads from the genesis to the members by whom it is judged: it needs no members file. The members are those
/// of the ledger's head.
///
/// # Errors
/// [`ProofError::Merkle`], [`ProofError::Codec`] if `proof` is none of ours; [`ProofError::EmptyLedger`]; [`ProofError::Verify`] if it does
/// not verify by these members, as when they have changed since it was made.
pub fn from_genesis(ledger: &Ledger, proof: &str) -> Result<Kit, ProofError> {
    let mut proof: TlogProof = proof.parse()?;
    let extra = proof
        .extra
        .as_deref()
        .ok_or(ProofError::Verify(tally_evidence::Error::NoExtra))?;
    let of = match Extra::from_bytes(extra)? {
        Extra::Followed(_, of) => *of,
        plain => plain,
    };
    for _ in 0..TRIES {
        let Some(following) = following(ledger, &of)? else {
            continue;
        };
        let roster = following.roster(ledger.genesis())?;
        proof.extra = Some(Extra::Followed(Box::new(following), Box::new(of)).to_bytes());
        return kit_of(&roster, proof.to_string(), None);
    }
    Err(ProofError::Internal("the ledger's head never stood still"))
}

/// From the genesis to the head; `None` if a block came meanwhile.
fn following(ledger: &Ledger, of: &Extra) -> Result<Option<Following>, ProofError> {
    let head = ledger.head();
    if head.height == 0 {
        return Err(ProofError::EmptyLedger);
    }
    let stored = ledger.block(head.height)?;
    let header = Block::from_bytes(&stored.block)?.header;
    let certificate = CommitCertificate::from_bytes(&stored.certificate)?;
    let mut trail = ledger.trail()?;
    trail.retain(|handover| handover.header.height <= head.height);
    let roster =
        Roster::of_state(ledger.state(), head.height).map_err(tally_ledger::Error::from)?;
    let shown = |key: &[u8]| -> Result<Option<(Vec<u8>, StateProof)>, ProofError> {
        let (at, value, proof) = ledger.prove_value(key)?;
        Ok((at.height == head.height).then_some((value.unwrap_or_default(), proof)))
    };
    let mut members = Vec::with_capacity(roster.members.len());
    for member in &roster.members {
        let Some((value, proof)) = shown(&keys::member(&member.id))? else {
            return Ok(None);
        };
        members.push(StateValue { value, proof });
    }
    // Keys of the past are named by the signers of the proof's records alone; of a scan's receipt any may be its member's.
    let mut signers = BTreeSet::new();
    for record in of.records() {
        let record = Record::from_bytes(record)
            .map_err(|e| ProofError::Verify(tally_evidence::Error::Record(e)))?;
        signers.extend(record.signers().iter().map(|s| s.member));
    }
    let mut wanted: Vec<_> = roster
        .past
        .iter()
        .filter(|p| signers.contains(&p.member))
        .collect();
    wanted.sort_by_key(|p| p.key);
    let mut past = Vec::with_capacity(wanted.len());
    for key in wanted {
        let Some((value, proof)) = shown(&keys::retired_key(&key.key))? else {
            return Ok(None);
        };
        let name = if roster.member(&key.member).is_some() || key.name.is_empty() {
            None
        } else {
            let Some((_, proof)) = shown(&keys::member_name(&key.name))? else {
                return Ok(None);
            };
            Some((key.name.clone(), proof))
        };
        past.push(PastValue {
            key: key.key,
            retired: StateValue { value, proof },
            name,
        });
    }
    Ok(Some(Following {
        trail,
        header,
        certificate,
        members,
        past,
    }))
}
