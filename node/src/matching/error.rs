//! What ends a match, or a call of the desk.

use std::fmt;
use std::time::Duration;

use tally_contracts::codec::CodecError;
use tally_contracts::ids::MemberId;
use tally_contracts::refusal::{Refusal, RefusalNotice};
use tally_contracts::state::StateError;

use super::ports::{LedgerError, PeerError};
use super::state::MatchId;
use crate::audiences::AudienceError;
use crate::psi_wire;
use crate::sealed::SealedError;

/// Who refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This node, before anybody else heard of it or in answer to a peer.
    Us,
    /// The other member's node.
    Peer,
    /// The node of this member, of several others.
    Member(MemberId),
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Us => f.write_str("this node"),
            Self::Peer => f.write_str("the other member"),
            Self::Member(member) => write!(f, "member {member}"),
        }
    }
}

/// Why a match did not come to its end, or a call of the desk failed. No variant holds an ID of a person.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatchError {
    /// A side refused, with a stable code and a reason.
    #[error("refused by {by}: {notice}")]
    Refused {
        /// Which side.
        by: Side,
        /// Code and reason.
        notice: RefusalNotice,
    },
    /// The ledger refused a record, or did not take it.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The state of the ledger could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The other member's node cannot be reached.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A worker of this member cannot match a bucket, and no other could.
    #[error("a worker could not match bucket {bucket}: {reason}")]
    Worker {
        /// The bucket.
        bucket: u32,
        /// What it said.
        reason: String,
    },
    /// The protocol on the sets failed, or the peer ended it ([`tally_psi::Error::PeerAborted`]).
    #[error(transparent)]
    Psi(#[from] tally_psi::Error),
    /// The stream under the protocol on the sets failed, or was too slow.
    #[error(transparent)]
    Run(psi_wire::Error),
    /// A stored audience failed.
    #[error(transparent)]
    Audience(#[from] AudienceError),
    /// The audience is not on the ledger.
    #[error("audience {name} is not committed for this epoch; import it again, then commit it")]
    NotCommitted {
        /// The audience.
        name: String,
    },
    /// A stored match cannot be read or written.
    #[error(transparent)]
    Store(#[from] SealedError),
    /// The peer sent bytes that are no message.
    #[error("malformed message: {0}")]
    Malformed(#[from] CodecError),
    /// The peer claims a message longer than any.
    #[error("message of {found} bytes is over the limit of {max}")]
    TooLong {
        /// The claim.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The peer sent another message than the one that is due.
    #[error("message mismatch: expected {expected}, found {found}")]
    Unexpected {
        /// What is due.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// A message or statement is not signed by a record key of its sender.
    #[error("{what} is not signed by a record key of its sender")]
    Signature {
        /// What was signed.
        what: &'static str,
    },
    /// The peer says something else than was agreed or computed.
    #[error("the peer's {what} is not the expected one")]
    Mismatch {
        /// What differs.
        what: &'static str,
    },
    /// The stream ended or failed.
    #[error("the stream ended while {doing}")]
    Ended {
        /// What was under way.
        doing: &'static str,
        /// Why, if the system said.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The peer or the ledger did not answer in time.
    #[error("no answer within {} s while waiting for {waiting_for}", after.as_secs())]
    Timeout {
        /// What was due.
        waiting_for: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The operator called the match off.
    #[error("the match was cancelled")]
    Cancelled,
    /// Another of several that take part has ended it on the ledger.
    #[error("another party or the helper has ended the match")]
    CalledOff,
    /// No such match.
    #[error("there is no match {id}")]
    UnknownMatch {
        /// The ID asked for.
        id: MatchId,
    },
    /// The match cannot be cancelled any more.
    #[error("match {id} has ended")]
    HasEnded {
        /// The match.
        id: MatchId,
    },
    /// A fault in this program.
    #[error("internal error: {what}")]
    Internal {
        /// Which invariant broke.
        what: &'static str,
    },
}

impl MatchError {
    /// A refusal by this node with one of the contracts' reasons.
    pub(super) fn refuse(refusal: &Refusal) -> Self {
        Self::Refused {
            by: Side::Us,
            notice: refusal.notice(),
        }
    }

    /// A refusal by this node with a reason of the desk's own.
    pub(super) fn decline(code: &str, message: impl Into<String>) -> Self {
        Self::Refused {
            by: Side::Us,
            notice: RefusalNotice {
                code: code.to_owned(),
                message: message.into(),
            },
        }
    }

    /// Names the peer that refused, where there are several.
    pub(super) fn of(self, member: MemberId) -> Self {
        match self {
            Self::Refused {
                by: Side::Peer,
                notice,
            } => Self::Refused {
                by: Side::Member(member),
                notice,
            },
            other => other,
        }
    }

    /// What the peer is told before the protocol on the sets has begun: own trouble stays here.
    pub(super) fn notice(&self) -> RefusalNotice {
        let (code, message) = match self {
            Self::Refused { notice, .. } => return notice.clone(),
            Self::Ledger(LedgerError::Refused(notice)) => return notice.clone(),
            Self::Ledger(_) | Self::State(_) => {
                ("ledger", "the ledger did not take a record".into())
            }
            Self::Malformed(_) | Self::TooLong { .. } | Self::Unexpected { .. } => {
                ("malformed", self.to_string())
            }
            Self::Signature { .. } | Self::Mismatch { .. } => ("mismatch", self.to_string()),
            Self::Timeout { .. } => ("timeout", self.to_string()),
            Self::Cancelled => ("cancelled", self.to_string()),
            _ => ("internal", "internal trouble at the other member".into()),
        };
        RefusalNotice {
            code: code.into(),
            message,
        }
    }
}

impl From<psi_wire::Error> for MatchError {
    fn from(error: psi_wire::Error) -> Self {
        match error {
            psi_wire::Error::Protocol(error) => Self::Psi(error),
            psi_wire::Error::Cancelled => Self::Cancelled,
            other => Self::Run(other),
        }
    }
}

impl From<tally_measure::Error> for MatchError {
    fn from(error: tally_measure::Error) -> Self {
        Self::Audience(error.into())
    }
}

impl From<Refusal> for MatchError {
    fn from(refusal: Refusal) -> Self {
        Self::refuse(&refusal)
    }
}
