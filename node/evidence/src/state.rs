//! What the ledger's state says at a checkpoint, as one statement: of a batch, a member, an agreement, or what is left of a budget.
//!
//! The question is part of the proof, and the state keys follow from it. The state root is in the last entry under the checkpoint,
//! so an older state cannot be shown under a newer checkpoint. The proof's own index and hashes are that entry's.

use tally_contracts::StateProof;
use tally_contracts::block::BlockInfo;
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::genesis::MemberEntry;
use tally_contracts::ids::{AgreementId, BatchId, MemberId, RecordId};
use tally_contracts::records::BudgetCap;
use tally_contracts::state::{AgreementState, BatchState, Budget, keys};
use tally_merkle::{Checkpoint, Hash, TlogProof};

use crate::Error;
use crate::extra::{read_info, state_root, write_info};
use crate::report::StateReport;
use crate::roster::Roster;

/// The longest value that a statement rests on: a member's entry or an agreement.
const MAX_VALUE_BYTES: usize = 16_384;
/// The most values that a statement rests on.
const MAX_VALUES: usize = 4;

/// What is asked of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Where a batch is in its life. Code 1.
    Batch(BatchId),
    /// Whether a member was admitted, and with what. Code 2.
    Member(MemberId),
    /// What an owner's epoch and an owner have left for an analyst under an agreement's caps. Code 3.
    Budget {
        /// The agreement, which has the caps.
        agreement: AgreementId,
        /// Whose budget it is.
        owner: MemberId,
        /// Who asks of the owner's sets.
        analyst: MemberId,
        /// The epoch of the owner's audience.
        epoch: u64,
    },
    /// Where an agreement is in its life. Code 4.
    Agreement(AgreementId),
}

impl Question {
    /// The state keys that answer it, in the order of the proof.
    #[must_use]
    pub fn keys(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Batch(id) => vec![keys::batch(id)],
            Self::Member(id) => vec![keys::member(id)],
            Self::Budget {
                agreement,
                owner,
                analyst,
                epoch,
            } => vec![
                keys::agreement(agreement),
                keys::budget_epoch(owner, *epoch),
                keys::budget_lifetime(owner, analyst),
            ],
            Self::Agreement(id) => vec![keys::agreement(id)],
        }
    }
}

impl Canonical for Question {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::Batch(id) => w.u8(1).raw(id.as_bytes()),
            Self::Member(id) => w.u8(2).raw(id.as_bytes()),
            Self::Budget {
                agreement,
                owner,
                analyst,
                epoch,
            } => w
                .u8(3)
                .raw(agreement.as_bytes())
                .raw(owner.as_bytes())
                .raw(analyst.as_bytes())
                .u64(*epoch),
            Self::Agreement(id) => w.u8(4).raw(id.as_bytes()),
        };
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match r.u8("question")? {
            1 => Ok(Self::Batch(BatchId(r.array("batch ID")?))),
            2 => Ok(Self::Member(MemberId(r.array("member ID")?))),
            3 => Ok(Self::Budget {
                agreement: RecordId(r.array("agreement ID")?),
                owner: MemberId(r.array("owner")?),
                analyst: MemberId(r.array("analyst")?),
                epoch: r.u64("epoch")?,
            }),
            4 => Ok(Self::Agreement(RecordId(r.array("agreement ID")?))),
            found => Err(CodecError::Invalid {
                what: "question",
                found: found.into(),
            }),
        }
    }
}

/// A value of the state, or that there is none, and its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateAnswer {
    /// The value's bytes; `None` if nothing stands under the key.
    pub value: Option<Vec<u8>>,
    /// Leads from key and value to the state root.
    pub proof: StateProof,
}

impl Canonical for StateAnswer {
    fn write(&self, w: &mut Writer) {
        w.bool(self.value.is_some());
        if let Some(value) = &self.value {
            w.bytes(value);
        }
        self.proof.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let value = if r.bool("value")? {
            Some(r.bytes("state value", MAX_VALUE_BYTES)?.to_vec())
        } else {
            None
        };
        Ok(Self {
            value,
            proof: StateProof::read(r)?,
        })
    }
}

/// A statement on the state: the question, and what answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateExtra {
    /// Signature lines of the checkpoint; see [`crate::RecordExtra`].
    pub signatures: u16,
    /// The genesis document, entry 0.
    pub genesis: Vec<u8>,
    /// The last entry under the checkpoint, which the proof's own index and hashes are of.
    pub head: BlockInfo,
    /// What is asked.
    pub question: Question,
    /// One for each of [`Question::keys`].
    pub answers: Vec<StateAnswer>,
}

impl Canonical for StateExtra {
    fn write(&self, w: &mut Writer) {
        w.u16(self.signatures).bytes(&self.genesis);
        write_info(w, &self.head);
        self.question.write(w);
        w.list(&self.answers, |w, answer| answer.write(w));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            signatures: r.u16("signatures")?,
            genesis: r
                .bytes("genesis document", crate::extra::MAX_GENESIS_BYTES)?
                .to_vec(),
            head: read_info(r)?,
            question: Question::read(r)?,
            answers: r.list("answers", MAX_VALUES, StateAnswer::read)?,
        })
    }
}

/// What the state says, as of the last block under the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// The batch, or that none of this ID was ever issued.
    Batch {
        /// The batch.
        id: BatchId,
        /// Its state.
        state: Option<Box<BatchState>>,
    },
    /// The member, or that none of this ID is admitted.
    Member {
        /// The member.
        id: MemberId,
        /// Its entry.
        entry: Option<Box<MemberEntry>>,
    },
    /// What is left of a budget.
    Budget(Box<BudgetStatement>),
    /// The agreement, or that none of this ID was ever proposed.
    Agreement {
        /// The agreement.
        id: AgreementId,
        /// Its state.
        state: Option<Box<AgreementState>>,
    },
}

/// What is left of a budget under an agreement; nothing if there is no such agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetStatement {
    /// The agreement.
    pub agreement: AgreementId,
    /// Its state, with the caps.
    pub terms: Option<AgreementState>,
    /// Whose budget it is.
    pub owner: MemberId,
    /// Who asks.
    pub analyst: MemberId,
    /// The epoch.
    pub epoch: u64,
    /// What the owner's epoch has cost, over all analysts.
    pub in_epoch: Budget,
    /// What the analyst had of the owner, over all epochs.
    pub in_all: Budget,
    /// The epoch cap less what is spent and reserved, zero at least.
    pub left_in_epoch: BudgetCap,
    /// The lifetime cap less what is spent and reserved, zero at least.
    pub left_in_all: BudgetCap,
}

impl Statement {
    /// Whether the thing that was asked for is there.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        match self {
            Self::Batch { state, .. } => state.is_some(),
            Self::Member { entry, .. } => entry.is_some(),
            Self::Budget(budget) => budget.terms.is_some(),
            Self::Agreement { state, .. } => state.is_some(),
        }
    }
}

pub(crate) fn judge(
    roster: &Roster,
    extra: &StateExtra,
    proof: &TlogProof,
    checkpoint: &Checkpoint,
) -> Result<StateReport, Error> {
    if proof.index.checked_add(1) != Some(checkpoint.size) {
        return Err(Error::Contradiction {
            what: "the state is not that of the checkpoint's last entry",
        });
    }
    let root = state_root(&extra.head, &proof.hashes, checkpoint)?;
    let keys = extra.question.keys();
    if keys.len() != extra.answers.len() {
        return Err(Error::Contradiction {
            what: "another number of values than the question needs",
        });
    }
    for (key, answer) in keys.iter().zip(&extra.answers) {
        proven(root, key, answer)?;
    }
    Ok(StateReport {
        statement: statement(roster, &extra.question, &extra.answers)?,
        as_of_height: extra.head.height,
        as_of_ms: extra.head.time_ms,
    })
}

fn proven(root: &Hash, key: &[u8], answer: &StateAnswer) -> Result<(), Error> {
    answer
        .proof
        .verify(root, key, answer.value.as_deref())
        .map_err(|source| Error::State {
            what: "value",
            source,
        })
}

fn decoded<T: Canonical>(answer: Option<&StateAnswer>) -> Result<Option<T>, Error> {
    answer
        .and_then(|a| a.value.as_deref())
        .map(T::from_bytes)
        .transpose()
        .map_err(|e| Error::State {
            what: "value",
            source: e.into(),
        })
}

fn statement(
    roster: &Roster,
    question: &Question,
    answers: &[StateAnswer],
) -> Result<Statement, Error> {
    let first = answers.first();
    Ok(match *question {
        Question::Batch(id) => Statement::Batch {
            id,
            state: decoded(first)?.map(Box::new),
        },
        Question::Member(id) => Statement::Member {
            id,
            entry: decoded(first)?.map(Box::new),
        },
        Question::Agreement(id) => Statement::Agreement {
            id,
            state: decoded(first)?.map(Box::new),
        },
        Question::Budget {
            agreement,
            owner,
            analyst,
            epoch,
        } => {
            let terms: Option<AgreementState> = decoded(first)?;
            if let Some(terms) = &terms {
                let party = |m: &MemberId| terms.terms.parties.contains(m);
                if !party(&owner) || !party(&analyst) || owner == analyst {
                    return Err(Error::Contradiction {
                        what: "the owner and the analyst are not two parties of the agreement",
                    });
                }
            } else if roster.member(&owner).is_none() {
                return Err(Error::Contradiction {
                    what: "neither the agreement nor the owner is known",
                });
            }
            let in_epoch: Budget = decoded(answers.get(1))?.unwrap_or_default();
            let in_all: Budget = decoded(answers.get(2))?.unwrap_or_default();
            let left = |cap: Option<BudgetCap>, budget: &Budget| match (cap, budget.held()) {
                (Some(cap), Some(held)) => cap.less(&held),
                _ => BudgetCap::default(),
            };
            let caps = terms
                .as_ref()
                .map(|t| (t.terms.epoch_cap, t.terms.lifetime_cap));
            Statement::Budget(Box::new(BudgetStatement {
                agreement,
                owner,
                analyst,
                epoch,
                left_in_epoch: left(caps.map(|c| c.0), &in_epoch),
                left_in_all: left(caps.map(|c| c.1), &in_all),
                terms,
                in_epoch,
                in_all,
            }))
        }
    })
}
