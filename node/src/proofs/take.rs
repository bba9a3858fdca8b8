//! What is proven in the state is known at the ledger's head alone, and must be that of the checkpoint. So it is taken at a head,
//! kept, and sealed when a checkpoint of just that size has its quorum.

use tally_contracts::Canonical as _;
use tally_evidence::{Extra, Question, ScanExtra, StateAnswer, StateExtra};
use tally_ledger::{Ledger, RecordPlace, StateEvidence};
use tally_merkle::{Checkpoint, Note};

use super::{CodeEvidence, Kit, ProofError, kit, record_extra, signatures};
use crate::scans::{ScanProof, SignedReceipt};

/// What was taken at a head and waits for its checkpoint.
pub trait AtHead {
    /// Entries in the tree that it belongs to: the checkpoint must be of just this size.
    fn tree_size(&self) -> u64;

    /// The proof under a checkpoint.
    ///
    /// # Errors
    /// [`ProofError::OtherSize`], [`ProofError::Verify`], [`ProofError::Ledger`].
    fn seal(&self, ledger: &Ledger, checkpoint: &Note) -> Result<Kit, ProofError>;
}

impl AtHead for CodeEvidence {
    fn tree_size(&self) -> u64 {
        Self::tree_size(self)
    }

    fn seal(&self, ledger: &Ledger, checkpoint: &Note) -> Result<Kit, ProofError> {
        Self::seal(self, ledger, checkpoint)
    }
}

/// What the state says to a question, at one head.
#[derive(Debug, Clone)]
pub struct StateTaken {
    question: Question,
    answers: Vec<StateEvidence>,
    tree_size: u64,
}

impl StateTaken {
    /// Takes what the state says at the ledger's head.
    ///
    /// # Errors
    /// [`ProofError::Ledger`].
    pub fn take(ledger: &Ledger, question: Question) -> Result<Self, ProofError> {
        let keys = question.keys();
        let answers = match keys.as_slice() {
            [a] => ledger.state_evidences([a])?.to_vec(),
            [a, b, c] => ledger.state_evidences([a, b, c])?.to_vec(),
            _ => {
                return Err(ProofError::Internal("a question of another number of keys"));
            }
        };
        Ok(Self {
            question,
            tree_size: answers.first().map_or(0, |a| a.head.tree_size),
            answers,
        })
    }
}

impl AtHead for StateTaken {
    fn tree_size(&self) -> u64 {
        self.tree_size
    }

    fn seal(&self, ledger: &Ledger, checkpoint: &Note) -> Result<Kit, ProofError> {
        same_size(self.tree_size, checkpoint)?;
        let (index, head) = self
            .answers
            .first()
            .and_then(|a| a.block_info.clone())
            .ok_or(ProofError::EmptyLedger)?;
        let answer = |evidence: &StateEvidence| StateAnswer {
            value: evidence.value.clone(),
            proof: evidence.proof.clone(),
        };
        let extra = StateExtra {
            signatures: signatures(checkpoint)?,
            genesis: ledger.genesis_bytes().to_vec(),
            head,
            question: self.question,
            answers: self.answers.iter().map(answer).collect(),
        };
        kit(ledger, index, &Extra::State(Box::new(extra)), checkpoint)
    }
}

/// The proof of a scan whose log was anchored by the record at `place`, under a checkpoint that holds that record.
///
/// # Errors
/// [`ProofError`].
pub fn scan_kit(
    ledger: &Ledger,
    place: RecordPlace,
    scan: &ScanProof,
    receipt: &SignedReceipt,
    checkpoint: &Note,
) -> Result<Kit, ProofError> {
    let extra = ScanExtra {
        anchored: record_extra(ledger, place.index, checkpoint)?,
        receipt: receipt.to_bytes(),
        path: scan.path.clone(),
    };
    kit(
        ledger,
        place.index,
        &Extra::Scan(Box::new(extra)),
        checkpoint,
    )
}

pub(super) fn same_size(state: u64, checkpoint: &Note) -> Result<u64, ProofError> {
    let size = checkpoint.text().parse::<Checkpoint>()?.size;
    if size == state {
        Ok(size)
    } else {
        Err(ProofError::OtherSize {
            state,
            checkpoint: size,
        })
    }
}
