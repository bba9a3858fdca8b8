//! What a run is set up with, and what the peer's hello must agree with.

use crate::Error;
use crate::context::{Computation, Context};
use crate::noise::NoiseParams;
use crate::sizes::{public_size, verify_public};
use crate::vole::params::MAX_VOLE_COUNT;

/// Most elements of one side, dummies and fillers included.
pub const MAX_COUNT: u64 = 1 << 32;

/// The noise on a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// None: the exact count. The caller may allow this in networks whose genesis says `test`, and nowhere else; `list`, which
    /// has no count, runs with it too.
    NoneInTestNetwork,
    /// Two truncated discrete Laplace noises, one of each side.
    Laplace(NoiseParams),
}

impl Noise {
    /// K, the elements that noise adds to each side's list.
    pub(crate) const fn pool(&self) -> u32 {
        match self {
            Self::NoneInTestNetwork => 0,
            Self::Laplace(p) => p.pool(),
        }
    }
}

/// What is known of the peer's set before the run; without the dummies and fillers, which are added by rule. Of a count either
/// the size or its public size may be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerCount {
    /// The count of its signed message: exactly that is accepted.
    Exactly(u64),
    /// The agreement's cap: the hello's claim is accepted up to that, then enforced exactly.
    AtMost(u64),
}

/// The parameters of a run, equal on both sides but for `peer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// What the session is bound to.
    pub context: Context,
    /// The noise on a count; [`Noise::NoneInTestNetwork`] for `list`.
    pub noise: Noise,
    /// What the peer may bring.
    pub peer: PeerCount,
}

impl Params {
    /// The own padded count, once the parameters and the set fit each other.
    pub(crate) fn own_count(&self, items: u64) -> Result<u64, Error> {
        if self.context.suite.is_vole() && self.context.computation != Computation::List {
            return Err(Error::Invalid {
                what: "computation for this suite",
                found: self.context.computation.number().into(),
            });
        }
        if self.context.computation == Computation::JoinSum {
            return Err(Error::Invalid {
                what: "computation for this machine",
                found: self.context.computation.number().into(),
            });
        }
        match (self.context.computation, &self.noise) {
            (Computation::List, Noise::Laplace(_)) => {
                // Its receiver learns which rows matched, so it could take dummies out by name.
                return Err(Error::Noise {
                    reason: "a list carries no noise",
                });
            }
            (_, Noise::Laplace(p)) => p.verify()?,
            (_, Noise::NoneInTestNetwork) => {}
        }
        let count = self.shown(items).saturating_add(self.noise.pool().into());
        if count > self.max_count() {
            return Err(Error::TooLong {
                what: "own count",
                found: count,
                max: self.max_count(),
            });
        }
        Ok(count)
    }

    /// The size that a set of `n` shows itself with, without the pool: in a count the public size, filled up with private fillers.
    const fn shown(&self, n: u64) -> u64 {
        match self.context.computation {
            Computation::Cardinality => public_size(n),
            Computation::List | Computation::JoinSum => n,
        }
    }

    /// Most elements of one side: those that the suite can hold.
    const fn max_count(&self) -> u64 {
        if self.context.suite.is_vole() {
            MAX_VOLE_COUNT
        } else {
            MAX_COUNT
        }
    }

    /// Accepts the peer's claimed padded count.
    pub(crate) fn verify_claim(&self, claimed: u64) -> Result<(), Error> {
        let pool = u64::from(self.noise.pool());
        match self.peer {
            PeerCount::Exactly(n) => {
                let expected = self.shown(n).saturating_add(pool);
                if claimed == expected && claimed <= self.max_count() {
                    Ok(())
                } else {
                    Err(Error::Count {
                        what: "claimed elements",
                        expected,
                        found: claimed,
                    })
                }
            }
            PeerCount::AtMost(cap) => {
                let max = self.shown(cap).saturating_add(pool).min(self.max_count());
                if claimed > max {
                    Err(Error::TooLong {
                        what: "claimed elements",
                        found: claimed,
                        max,
                    })
                } else if claimed < pool {
                    Err(Error::Count {
                        what: "claimed elements",
                        expected: pool,
                        found: claimed,
                    })
                } else if self.context.computation == Computation::Cardinality {
                    verify_public(claimed - pool)
                } else {
                    Ok(())
                }
            }
        }
    }
}
