//! The crate's error: why a proof proves nothing, or not what was hoped for.

use tally_contracts::CodecError;
use tally_contracts::ids::NetworkId;

use crate::{Proven, Report, Statement};

/// Why a proof is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes that are no UTF-8 text.
    #[error("the {what} is not UTF-8 text")]
    Text {
        /// `proof` or `policy`.
        what: &'static str,
    },
    /// The proof is not in the form of C2SP tlog-proof.
    #[error("the proof is not in its form: {0}")]
    ProofForm(tally_merkle::Error),
    /// The proof reads, but is not written in the one form that it has.
    #[error("the proof is not in the one form that it has")]
    ProofNotCanonical,
    /// A proof without the bytes that say of what it is.
    #[error("the proof has no extra line, so it does not say what it proves")]
    NoExtra,
    /// Those bytes are not in their form.
    #[error("the extra of the proof is not in its form: {0}")]
    Extra(CodecError),
    /// The genesis document in the proof is another network's, or none.
    #[error("the proof is of network {found}, expected {expected}")]
    OtherNetwork {
        /// The network asked for.
        expected: NetworkId,
        /// The hash of the document that came.
        found: NetworkId,
    },
    /// The genesis document has the right hash and is none.
    #[error("the genesis document is not valid: {0}")]
    Genesis(tally_contracts::Error),
    /// The policy is not in the form of C2SP tlog-policy, or cannot be made.
    #[error("the policy is not in its form: {0}")]
    PolicyForm(tally_merkle::Error),
    /// The policy would take a checkpoint that a minority cosigned.
    #[error("the policy is not of the form that asks for more than two thirds of all validators")]
    PolicyShort,
    /// The policy is not the one that follows from the genesis.
    #[error("the policy is not this network's: line {line} differs from what the genesis gives")]
    PolicyDiffers {
        /// The first line that differs, from 1.
        line: usize,
    },
    /// The checkpoint has too few cosignatures.
    #[error("{found} of {validators} validators cosigned the checkpoint, at least {needed} must")]
    Quorum {
        /// How many did.
        found: usize,
        /// How many must.
        needed: usize,
        /// How many there are.
        validators: usize,
    },
    /// The validators that cosigned have too little power together.
    #[error(
        "the validators that cosigned have power {found} of {total}, at least {needed} is needed"
    )]
    Power {
        /// Their power.
        found: u64,
        /// The least that is more than two thirds.
        needed: u64,
        /// The power of all.
        total: u64,
    },
    /// The checkpoint's signatures are not right.
    #[error("the checkpoint does not verify: {0}")]
    Checkpoint(tally_merkle::Error),
    /// The checkpoint has signatures that nobody can verify.
    #[error("the checkpoint has {found} signatures by keys that the network does not have")]
    UnknownSignatures {
        /// How many.
        found: usize,
    },
    /// The checkpoint has another number of signatures than the proof was made with.
    #[error("the checkpoint has {found} signatures, the proof was made with {expected}")]
    SignatureCount {
        /// How many it was made with.
        expected: u16,
        /// How many it has.
        found: usize,
    },
    /// An entry is not under the checkpoint.
    #[error("the {what} is not where the proof says: {source}")]
    Inclusion {
        /// The entry.
        what: &'static str,
        /// Why.
        source: tally_merkle::Error,
    },
    /// The record is not one.
    #[error("the record is not valid: {0}")]
    Record(tally_contracts::Error),
    /// A signer of the record that the genesis does not know, or a wrong signature.
    #[error("the record is not signed by who it says: {reason}")]
    Signer {
        /// Why.
        reason: String,
    },
    /// The code is not one of the batch.
    #[error("the code is not one of the {units} units of the batch")]
    NotInBatch {
        /// Units of the batch.
        units: u64,
    },
    /// The proof is of another code than the one asked for.
    #[error("the proof is of code {found}, not of the one that was asked for")]
    OtherCode {
        /// The code that it is of.
        found: crate::UnitCode,
    },
    /// A code was asked for, and the proof is of a record, a match, an overlap or the state.
    #[error("the proof is not of a code")]
    NotOfCode,
    /// The scan is of another code than the one asked for; of which one the proof does not say.
    #[error("the scan is not of the code that was asked for")]
    OtherScan,
    /// A value is not what the state holds at the checkpoint.
    #[error("the {what} is not what the state holds at the checkpoint: {source}")]
    State {
        /// The value.
        what: &'static str,
        /// Why.
        source: tally_contracts::Error,
    },
    /// The members in the proof do not follow from the genesis.
    #[error("the members do not follow from the genesis: {reason}")]
    Following {
        /// Why.
        reason: String,
    },
    /// Parts of the proof that do not belong together.
    #[error("the parts of the proof do not belong together: {what}")]
    Contradiction {
        /// Which, and how they differ.
        what: &'static str,
    },
    /// All is proven, and what is proven is that the batch was recalled.
    #[error("the batch was recalled: {}", recall_reason(.0))]
    Recalled(Box<Report>),
    /// All is proven, and what is proven is that this one code is void.
    #[error("the code was withdrawn by its issuer: a wasted label or a lost pack")]
    Revoked(Box<Report>),
    /// All is proven, and what is proven is that the batch was issued and not released for sale.
    #[error("the batch was issued, but it is not released")]
    NotReleased(Box<Report>),
    /// All is proven, and what is proven is that the last day of the batch was over at the time of the checkpoint.
    #[error("the batch has expired: its last day was {}", last_day(.0))]
    Expired(Box<Report>),
    /// All is proven, and what is proven is that the ledger has no such thing.
    #[error("the ledger has no such {}", asked_for(.0))]
    Absent(Box<Report>),
}

impl Error {
    /// A stable word for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Text { .. }
            | Self::ProofForm(_)
            | Self::ProofNotCanonical
            | Self::Extra(_)
            | Self::SignatureCount { .. } => "malformed",
            Self::NoExtra => "no_extra",
            Self::OtherNetwork { .. } => "other_network",
            Self::Genesis(_) => "genesis",
            Self::PolicyForm(_) => "policy_malformed",
            Self::PolicyShort => "policy_short",
            Self::PolicyDiffers { .. } => "policy_differs",
            Self::Quorum { .. } | Self::Power { .. } => "quorum",
            Self::Checkpoint(_) => "checkpoint",
            Self::UnknownSignatures { .. } => "unknown_signature",
            Self::Inclusion { .. } => "inclusion",
            Self::Record(_) => "record",
            Self::Signer { .. } => "signer",
            Self::NotInBatch { .. } => "not_in_batch",
            Self::OtherCode { .. } | Self::NotOfCode | Self::OtherScan => "other_code",
            Self::State { .. } => "state",
            Self::Following { .. } => "following",
            Self::Contradiction { .. } => "contradiction",
            Self::Recalled(_) => "recalled",
            Self::Revoked(_) => "revoked",
            Self::NotReleased(_) => "not_released",
            Self::Expired(_) => "expired",
            Self::Absent(_) => "absent",
        }
    }

    /// What is proven all the same: that the batch is recalled, not released or expired, the code void, or that there is no such thing.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Recalled(report)
            | Self::Revoked(report)
            | Self::NotReleased(report)
            | Self::Expired(report)
            | Self::Absent(report) => Some(report),
            _ => None,
        }
    }
}

/// The last day of the batch, as in a calendar.
fn last_day(report: &Report) -> String {
    let date = match &report.proven {
        Proven::Code(code) => code.expires,
        Proven::State(state) => match &state.statement {
            Statement::Batch {
                state: Some(batch), ..
            } => batch.expires,
            _ => None,
        },
        _ => None,
    };
    date.map_or_else(String::new, |date| date.to_calendar())
}

fn recall_reason(report: &Report) -> &str {
    match &report.proven {
        Proven::Code(code) => &code.recall_reason,
        Proven::State(state) => match &state.statement {
            Statement::Batch {
                state: Some(batch), ..
            } => &batch.recall_reason,
            _ => "",
        },
        _ => "",
    }
}

fn asked_for(report: &Report) -> &'static str {
    match &report.proven {
        Proven::State(state) => match &state.statement {
            Statement::Batch { .. } => "batch",
            Statement::Member { .. } => "member",
            Statement::Budget(_) | Statement::Agreement { .. } => "agreement",
        },
        _ => "thing",
    }
}
