//! What all parties and the helper must hold alike.

use sha2::{Digest, Sha256};

use crate::Error;
use crate::context::{Party, VERSION};
use crate::noise::NoiseParams;
use crate::sizes::{public_size, verify_public};

/// Fewest parties: two have suites without a helper.
pub const MIN_PARTIES: usize = 3;
/// Most parties: every set of two or more has a pool of dummies of its own.
pub const MAX_PARTIES: usize = 8;
/// Most items of a party.
pub const MAX_OVERLAP_ITEMS: u64 = 1 << 30;
/// Most dummies and fillers that noise adds to a list.
const MAX_POOLS: u64 = 1 << 24;
/// Name of the suite.
pub const SUITE: &str = "helper-prf-v1";
/// Name of the computation.
pub const COMPUTATION: &str = "overlap_n";

/// The noises of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlapNoise {
    /// None: the exact count, which the helper sees too, as it does how many people any two parties share. The caller may allow
    /// this in networks whose genesis says `test`, and nowhere else.
    NoneInTestNetwork,
    /// Both.
    Laplace {
        /// On what the helper sees: one draw for each set of two or more parties. Its sensitivity is at least twice that of
        /// `published`, since a row that comes or goes moves a person from one set of parties to another.
        regions: NoiseParams,
        /// The helper's own, on what it makes known.
        published: NoiseParams,
    },
}

/// The terms of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapTerms {
    /// Network ID.
    pub network: [u8; 32],
    /// Hash of the nonces of all parties and the helper, each drawn afresh and used once.
    pub session: [u8; 32],
    /// The parties, [`MIN_PARTIES`] to [`MAX_PARTIES`], in the order of the agreement.
    pub parties: Vec<Party>,
    /// The helper that the agreement names; without one the computation is refused.
    pub helper: Option<Party>,
    /// Hash of the agreement.
    pub agreement: [u8; 32],
    /// The committed sets, in the order of the parties.
    pub roots: Vec<[u8; 32]>,
    /// The noises.
    pub noise: OverlapNoise,
    /// Most items of a party, at most [`MAX_OVERLAP_ITEMS`].
    pub max_items: u64,
    /// A smaller count, noise included, is not made known: one less than this is, the same for all of them.
    pub min_result: u64,
}

/// The session of a run: SHA-256(`tally/psi-overlap-session/v1` LF || every party's nonce in the order of the agreement || the
/// helper's). Each is drawn afresh and used once.
#[must_use]
pub fn overlap_session(nonces: &[[u8; 32]]) -> [u8; 32] {
    let mut h = Sha256::new();
    h.update(b"tally/psi-overlap-session/v1\n");
    for nonce in nonces {
        h.update(nonce);
    }
    h.finalize().into()
}

impl OverlapTerms {
    /// Accepts terms that fit each other; returns the helper.
    ///
    /// # Errors
    /// [`Error::Overlap`], [`Error::Noise`].
    pub fn verify(&self) -> Result<&Party, Error> {
        let refuse = |reason| Err(Error::Overlap { reason });
        let Some(helper) = &self.helper else {
            return refuse("no helper is agreed");
        };
        if !(MIN_PARTIES..=MAX_PARTIES).contains(&self.parties.len()) {
            return refuse("three to eight parties are possible");
        }
        if self.roots.len() != self.parties.len() {
            return refuse("every party needs a committed set");
        }
        let same = |a: &Party, b: &Party| a.member == b.member || a.node == b.node;
        for (i, party) in self.parties.iter().enumerate() {
            if same(party, helper) {
                return refuse("the helper is one of the parties");
            }
            if self.parties.iter().take(i).any(|p| same(p, party)) {
                return refuse("a party is named twice");
            }
        }
        if self.max_items == 0 || self.max_items > MAX_OVERLAP_ITEMS {
            return refuse("the bound on items is out of range");
        }
        if let OverlapNoise::Laplace { regions, published } = &self.noise {
            regions.verify()?;
            published.verify()?;
            if u64::from(regions.sensitivity) < 2 * u64::from(published.sensitivity) {
                return refuse("the helper's view needs twice the sensitivity of the count");
            }
            if self.pools() > MAX_POOLS {
                return refuse("the pools of dummies are too large");
            }
        }
        Ok(helper)
    }

    /// SHA-256 over all of it in canonical form; what every message is bound to.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut h = Sha256::new();
        h.update(b"tally/psi-overlap/v1\n");
        h.update([VERSION]);
        for name in [SUITE, COMPUTATION] {
            // Short constants.
            h.update([u8::try_from(name.len()).unwrap_or(u8::MAX)]);
            h.update(name.as_bytes());
        }
        h.update(self.network);
        h.update(self.session);
        h.update(self.agreement);
        h.update((self.parties.len() as u64).to_be_bytes());
        for party in self.parties.iter().chain(&self.helper) {
            h.update(party.member);
            h.update(party.node);
        }
        for root in &self.roots {
            h.update(root);
        }
        h.update(self.max_items.to_be_bytes());
        h.update(self.min_result.to_be_bytes());
        match &self.noise {
            OverlapNoise::NoneInTestNetwork => h.update([0]),
            OverlapNoise::Laplace { regions, published } => {
                h.update([1]);
                for p in [regions, published] {
                    for field in [p.epsilon_micro, p.sensitivity, p.bound] {
                        h.update(field.to_be_bytes());
                    }
                }
            }
        }
        h.finalize().into()
    }

    /// Sets of two or more parties, as bits, ascending, that have a pool.
    pub(crate) fn regions(&self) -> impl Iterator<Item = u32> + use<> {
        let end = match self.noise {
            OverlapNoise::NoneInTestNetwork => 0,
            OverlapNoise::Laplace { .. } => 1 << self.parties.len(),
        };
        (0_u32..end).filter(|set| set.count_ones() >= 2)
    }

    /// The least value that is made known: what stands for every smaller count.
    pub(crate) fn floor(&self) -> i64 {
        match self.min_result.checked_sub(1) {
            None => i64::MIN,
            Some(floor) => i64::try_from(floor).unwrap_or(i64::MAX),
        }
    }

    /// What noise adds to every party's list: a whole pool for each set of parties that it is in.
    #[must_use]
    pub fn pools(&self) -> u64 {
        match &self.noise {
            OverlapNoise::NoneInTestNetwork => 0,
            OverlapNoise::Laplace { regions, .. } => {
                let others = self.parties.len().saturating_sub(1).min(MAX_PARTIES);
                ((1 << others) - 1) * u64::from(regions.pool())
            }
        }
    }

    /// The length of the list of a party with so many items.
    pub(crate) fn padded(&self, items: u64) -> Result<u64, Error> {
        if items > self.max_items {
            return Err(Error::TooLong {
                what: "own count",
                found: items,
                max: self.max_items,
            });
        }
        Ok(public_size(items) + self.pools())
    }

    /// Accepts a list's claimed length.
    pub(crate) fn verify_claim(&self, claimed: u64) -> Result<(), Error> {
        let (pools, max) = (self.pools(), public_size(self.max_items) + self.pools());
        if claimed > max {
            return Err(Error::TooLong {
                what: "claimed elements",
                found: claimed,
                max,
            });
        }
        // Fewer than the pools is no public size either: 0 is none.
        verify_public(claimed.saturating_sub(pools))
    }
}
