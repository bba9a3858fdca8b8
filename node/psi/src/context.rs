//! What a session is bound to: its digest goes into the hash to the group, the tags and every signed statement.

use sha2::{Digest, Sha256};

use crate::Error;

/// Protocol version of this crate, first byte of every hello and context.
pub const VERSION: u8 = 1;

/// A protocol suite. The number stands in messages, the name in agreements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suite {
    /// Diffie-Hellman over ristretto255.
    DhRistrettoV1,
    /// Oblivious key-value store and vector correlation, for parties that follow the protocol; `list` alone.
    VoleRr22V1,
    /// The same with checks, for parties that may deviate; `list` alone.
    VoleRr22MaliciousV1,
}

impl Suite {
    /// The name in agreements and receipts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DhRistrettoV1 => "dh-ristretto-v1",
            Self::VoleRr22V1 => "vole-rr22-v1",
            Self::VoleRr22MaliciousV1 => "vole-rr22-malicious-v1",
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::DhRistrettoV1 => 1,
            Self::VoleRr22V1 => 2,
            Self::VoleRr22MaliciousV1 => 3,
        }
    }

    /// Whether it is one of those by a vector correlation, which compute a list alone and keep everything in memory.
    #[must_use]
    pub const fn is_vole(self) -> bool {
        matches!(self, Self::VoleRr22V1 | Self::VoleRr22MaliciousV1)
    }

    /// Whether its VOLE checks that the peer follows the protocol.
    pub(crate) const fn is_checked(self) -> bool {
        matches!(self, Self::VoleRr22MaliciousV1)
    }

    /// The suite of a number.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number without a suite.
    pub const fn from_number(n: u8) -> Result<Self, Error> {
        match n {
            1 => Ok(Self::DhRistrettoV1),
            2 => Ok(Self::VoleRr22V1),
            3 => Ok(Self::VoleRr22MaliciousV1),
            found => Err(Error::Invalid {
                what: "suite",
                found: found as u64,
            }),
        }
    }
}

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Computation {
    /// The initiator learns which of its rows the responder has too.
    List,
    /// Both learn a noisy count of common rows, and nothing else.
    Cardinality,
    /// Both learn noisy sums by label over common rows: see [`crate::sum`].
    JoinSum,
}

impl Computation {
    /// The name in agreements and receipts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Cardinality => "cardinality",
            Self::JoinSum => "join_sum",
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::List => 1,
            Self::Cardinality => 2,
            Self::JoinSum => 3,
        }
    }

    /// The computation of a number.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number without a computation.
    pub const fn from_number(n: u8) -> Result<Self, Error> {
        match n {
            1 => Ok(Self::List),
            2 => Ok(Self::Cardinality),
            3 => Ok(Self::JoinSum),
            found => Err(Error::Invalid {
                what: "computation",
                found: found as u64,
            }),
        }
    }
}

/// One side of a match: the member and the node that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// Member ID.
    pub member: [u8; 16],
    /// Public key of the node's transport identity.
    pub node: [u8; 32],
}

/// Everything both sides must agree on before a byte is blinded; equal on both sides, ordered by role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Network ID.
    pub network: [u8; 32],
    /// The suite that the agreement fixes.
    pub suite: Suite,
    /// The computation that the agreement allows.
    pub computation: Computation,
    /// [`session_id`] of both sides' nonces.
    pub session: [u8; 32],
    /// Who asked.
    pub initiator: Party,
    /// Who answers.
    pub responder: Party,
    /// Hash of the agreement.
    pub agreement: [u8; 32],
    /// The initiator's committed set.
    pub initiator_root: [u8; 32],
    /// The responder's committed set.
    pub responder_root: [u8; 32],
}

impl Context {
    /// SHA-256 over the fields in canonical form: a prefix, the version, then every field in the order of the struct; names as
    /// a length byte and text.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut h = Sha256::new();
        h.update(b"tally/psi-context/v1\n");
        h.update([VERSION]);
        h.update(self.network);
        for name in [self.suite.name(), self.computation.name()] {
            // Names are short constants of this file.
            h.update([u8::try_from(name.len()).unwrap_or(u8::MAX)]);
            h.update(name.as_bytes());
        }
        h.update(self.session);
        for party in [&self.initiator, &self.responder] {
            h.update(party.member);
            h.update(party.node);
        }
        h.update(self.agreement);
        h.update(self.initiator_root);
        h.update(self.responder_root);
        h.finalize().into()
    }
}

/// The session ID of two nonces, each drawn afresh by its side and used once.
#[must_use]
pub fn session_id(initiator_nonce: &[u8; 32], responder_nonce: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"tally/psi-session/v1\n")
        .chain_update(initiator_nonce)
        .chain_update(responder_nonce)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context {
            network: [1; 32],
            suite: Suite::DhRistrettoV1,
            computation: Computation::List,
            session: session_id(&[2; 32], &[3; 32]),
            initiator: Party {
                member: [4; 16],
                node: [5; 32],
            },
            responder: Party {
                member: [6; 16],
                node: [7; 32],
            },
            agreement: [8; 32],
            initiator_root: [9; 32],
            responder_root: [10; 32],
        }
    }

    #[test]
    fn the_digest_is_golden() {
        assert_eq!(
            hex::encode(context().digest()),
            GOLDEN,
            "a change here breaks every peer: it needs a new version"
        );
    }
    const GOLDEN: &str = "207da4c444c9e951afee624cf995fd94b3bf67b15952432dfae9656ef893b6e7";

    #[test]
    fn every_field_changes_the_digest() {
        let base = context();
        let mut swapped = base;
        std::mem::swap(&mut swapped.initiator, &mut swapped.responder);
        let others = [
            Context {
                network: [0; 32],
                ..base
            },
            Context {
                suite: Suite::VoleRr22V1,
                ..base
            },
            Context {
                suite: Suite::VoleRr22MaliciousV1,
                ..base
            },
            Context {
                computation: Computation::Cardinality,
                ..base
            },
            Context {
                session: session_id(&[3; 32], &[2; 32]),
                ..base
            },
            Context {
                agreement: [0; 32],
                ..base
            },
            Context {
                initiator_root: [0; 32],
                ..base
            },
            Context {
                responder_root: [0; 32],
                ..base
            },
            swapped,
        ];
        for other in others {
            assert_ne!(other.digest(), base.digest());
        }
    }
}
