//! Makes the proofs that an auditor takes home, from the ledger, the batch's keys and a checkpoint. Each is verified before it is
//! handed out, by the very function that the auditor will use.
//!
//! In scope: putting the parts together. Out of scope: their bytes and their verifier (`tally-evidence`), files, waiting for
//! checkpoints (the admin operations).

mod code_file;
mod ended;
#[cfg(test)]
mod ended_tests;
mod follow;
mod http;
pub mod json;
mod sealed;
mod take;
#[cfg(test)]
mod take_tests;
#[cfg(test)]
mod tests;

use tally_contracts::ids::{RecordId, SessionId};
use tally_contracts::records::{Gtin, RevokedPart};
use tally_contracts::state::keys;
use tally_contracts::{Canonical, CodecError};
use tally_evidence::{
    BlockInclusion, CodeExtra, Extra, HeadInclusion, RecordExtra, Report, Roster, StateValue,
    policy_of, verify_under,
};
use tally_ledger::{Ledger, RecordPlace, StateEvidence};
use tally_merkle::{Checkpoint, Note, TlogProof};

pub use ended::{EndSearch, EndTaken};
pub use follow::from_genesis;
pub use http::router;
pub(crate) use http::scan_proof;
pub(crate) use sealed::sealed;
pub use take::{AtHead, StateTaken, scan_kit};

use crate::issuer::UnitProof;

/// The page that verifies proofs in a browser, from disk and without a server: a second implementation of the verifier, in
/// JavaScript, that refuses what [`tally_evidence::verify`] refuses.
pub const VERIFIER_PAGE: &str = include_str!("../../assets/verifier.html");

/// Why a proof cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The ledger has no such record.
    #[error("no record {id} in the ledger")]
    NoRecord {
        /// The record asked for.
        id: RecordId,
    },
    /// The ledger has neither a match nor an overlap of this session.
    #[error("no match of session {session} in the ledger")]
    NoSession {
        /// The session asked for.
        session: SessionId,
    },
    /// The match or overlap goes on.
    #[error("the match of session {session} has no record that closes it")]
    NotClosed {
        /// The session asked for.
        session: SessionId,
    },
    /// What was proven in the state belongs to another tree than the checkpoint.
    #[error("the state is of a tree of {state} entries, the checkpoint of one of {checkpoint}")]
    OtherSize {
        /// Entries that the state follows from.
        state: u64,
        /// Entries under the checkpoint.
        checkpoint: u64,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] tally_ledger::Error),
    /// The checkpoint is none.
    #[error(transparent)]
    Merkle(#[from] tally_merkle::Error),
    /// An entry of the ledger that does not read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The proof does not verify. With [`tally_evidence::Error::Quorum`] more cosignatures may yet come.
    #[error("the proof that was made does not verify: {0}")]
    Verify(#[from] tally_evidence::Error),
    /// There is no block, so there is no state to prove.
    #[error("the ledger has no block yet")]
    EmptyLedger,
    /// The node goes down before a checkpoint came.
    #[error("the node is stopping")]
    Stopping,
    /// A state that cannot arise; a defect of this program.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// A proof and the policy that goes with it, both as the text of their files, and what they prove.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The `.tlog-proof` file.
    pub proof: String,
    /// The policy file.
    pub policy: String,
    /// What the verifier says of them.
    pub report: Report,
}

/// What the state says of a code's batch and product, at one head.
#[derive(Debug, Clone)]
pub struct CodeEvidence {
    unit: UnitProof,
    batch: StateEvidence,
    product: StateEvidence,
    revoked: StateEvidence,
}

impl CodeEvidence {
    /// Takes the evidence at the ledger's head.
    ///
    /// # Errors
    /// [`ProofError::Ledger`].
    pub fn take(ledger: &Ledger, unit: UnitProof, gtin: &Gtin) -> Result<Self, ProofError> {
        let (batch, product) = (keys::batch(&unit.batch), keys::product(gtin));
        let part = RevokedPart::number_of(unit.opening.leaf_index);
        let revoked = keys::revoked(&unit.batch, part);
        let [batch, product, revoked] = ledger.state_evidences([&batch, &product, &revoked])?;
        Ok(Self {
            unit,
            batch,
            product,
            revoked,
        })
    }

    /// Entries in the tree that it belongs to: the checkpoint must be of just this size.
    #[must_use]
    pub const fn tree_size(&self) -> u64 {
        self.batch.head.tree_size
    }

    /// The proof of the code under a checkpoint. A batch that is recalled or not released and a code that is void have
    /// a proof too; it says so.
    ///
    /// # Errors
    /// [`ProofError::OtherSize`], [`ProofError::Verify`], [`ProofError::Ledger`].
    pub fn seal(&self, ledger: &Ledger, checkpoint: &Note) -> Result<Kit, ProofError> {
        let size = checkpoint.text().parse::<Checkpoint>()?.size;
        if size != self.tree_size() {
            return Err(ProofError::OtherSize {
                state: self.tree_size(),
                checkpoint: size,
            });
        }
        let value = |evidence: &StateEvidence| {
            Ok::<_, ProofError>(StateValue {
                value: evidence
                    .value
                    .clone()
                    .ok_or(ProofError::Internal("an anchored batch without a state"))?,
                proof: evidence.proof.clone(),
            })
        };
        let (index, info) = self
            .batch
            .block_info
            .clone()
            .ok_or(ProofError::Internal("a batch in an empty ledger"))?;
        let batch = value(&self.batch)?;
        let state = tally_contracts::state::BatchState::from_bytes(&batch.value)?;
        let place = place(ledger, &state.record)?;
        let extra = CodeExtra {
            issued: record_extra(ledger, place.index, checkpoint)?,
            opening: self.unit.opening.clone(),
            head: HeadInclusion {
                info,
                path: ledger.inclusion_proof(index, size)?,
            },
            batch,
            product: value(&self.product)?,
            revoked: StateValue {
                value: self.revoked.value.clone().unwrap_or_default(),
                proof: self.revoked.proof.clone(),
            },
        };
        let extra = Extra::Code(Box::new(extra));
        kit(ledger, place.index, &extra, checkpoint)
    }
}

/// Where a record stands.
///
/// # Errors
/// [`ProofError::NoRecord`], [`ProofError::Ledger`].
pub fn place(ledger: &Ledger, id: &RecordId) -> Result<RecordPlace, ProofError> {
    ledger.find(id)?.ok_or(ProofError::NoRecord { id: *id })
}

/// The size of the tree that ends with a record's block; a checkpoint of at least this size can prove the record and its time.
///
/// # Errors
/// [`ProofError::Ledger`].
pub fn size_with(ledger: &Ledger, place: RecordPlace) -> Result<u64, ProofError> {
    Ok(ledger.block_info_of(place.index)?.0 + 1)
}

/// The proof of a record under a checkpoint.
///
/// # Errors
/// [`ProofError`].
pub fn record_kit(
    ledger: &Ledger,
    place: RecordPlace,
    checkpoint: &Note,
) -> Result<Kit, ProofError> {
    let extra = Extra::Record(record_extra(ledger, place.index, checkpoint)?);
    kit(ledger, place.index, &extra, checkpoint)
}

/// How many signature lines a checkpoint has.
fn signatures(checkpoint: &Note) -> Result<u16, ProofError> {
    u16::try_from(checkpoint.signatures.len())
        .map_err(|_| ProofError::Internal("a checkpoint with too many signatures"))
}

fn record_extra(ledger: &Ledger, index: u64, checkpoint: &Note) -> Result<RecordExtra, ProofError> {
    let size = checkpoint.text().parse::<Checkpoint>()?.size;
    Ok(RecordExtra {
        signatures: signatures(checkpoint)?,
        genesis: ledger.genesis_bytes().to_vec(),
        record: ledger.entry(index)?,
        block: block_of(ledger, index, size)?,
    })
}

/// The BlockInfo of the block that the record at `index` is in, in the tree of `size`.
fn block_of(ledger: &Ledger, index: u64, size: u64) -> Result<BlockInclusion, ProofError> {
    let (index, info) = ledger.block_info_of(index)?;
    Ok(BlockInclusion {
        index,
        info,
        path: ledger.inclusion_proof(index, size)?,
    })
}

/// The files, with the inclusion proof of the entry at `index`, verified.
fn kit(ledger: &Ledger, index: u64, extra: &Extra, checkpoint: &Note) -> Result<Kit, ProofError> {
    let size = checkpoint.text().parse::<Checkpoint>()?.size;
    let proof = TlogProof {
        extra: Some(extra.to_bytes()),
        index,
        hashes: ledger.inclusion_proof(index, size)?,
        checkpoint: checkpoint.clone(),
    }
    .to_string();
    let roster = Roster::of_state(ledger.state(), ledger.head().height)
        .map_err(tally_ledger::Error::from)?;
    kit_of(&roster, proof, Some(&roster))
}

/// A proof with its policy, that of `roster`, verified by the members `brought`, or by those that the proof itself leads to.
fn kit_of(roster: &Roster, proof: String, brought: Option<&Roster>) -> Result<Kit, ProofError> {
    let policy = policy_of(&roster.network, &roster.members, &roster.validators())?.to_string();
    let judged = verify_under(
        &roster.network,
        policy.as_bytes(),
        proof.as_bytes(),
        None,
        brought,
    );
    let report = match judged {
        Ok(report) => report,
        Err(
            tally_evidence::Error::Recalled(report)
            | tally_evidence::Error::Revoked(report)
            | tally_evidence::Error::NotReleased(report)
            | tally_evidence::Error::Expired(report)
            | tally_evidence::Error::Absent(report),
        ) => *report,
        Err(e) => return Err(e.into()),
    };
    Ok(Kit {
        proof,
        policy,
        report,
    })
}
